"""Fixed points: closed forms, rates, safeguards, rows of their own, adjoints against differences, bad input."""

import pickle
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numcore.fixed_point import (
    douglas_rachford,
    fixed_point,
    forward_backward,
    implicit_vjp,
    peaceman_rachford,
)
from numcore.results import ConvergenceWarning

METHODS = ["picard", "anderson", "broyden"]
DOTTIE = 0.7390851332151607
properties = settings(deadline=None, max_examples=40)


def contraction(n, factor=0.9, seed=0):
    """An affine map x -> A x + b with |A| = factor, and its fixed point."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A *= factor / np.linalg.norm(A, 2)
    b = rng.normal(size=n)
    return A, b, np.linalg.solve(np.eye(n) - A, b)


def monotone(n, margin=0.5, seed=0):
    """M with symmetric part at least `margin`, as in a monotone equilibrium network, and b."""
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(2, n, n)) / n**0.5
    return margin * np.eye(n) + A.T @ A + B - B.T, rng.normal(size=n)


def relu(x):
    return np.maximum(x, 0)


class TestFixedPoint:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_fixed_point_of_the_cosine_is_found(self, method):
        result = fixed_point(np.cos, 1.0, method=method, tol=1e-13)
        assert result.converged is True and result.converged_mask is True
        assert abs(result.x - DOTTIE) < 1e-12
        assert result.residual == abs(np.cos(result.x) - result.x) == result.history[-1]
        assert result.n_iter == result.n_fev == len(result.history)
        assert isinstance(result.history, list) and isinstance(result.residual, float)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("shape", [(), (12,), (3, 4), (2, 2, 3)])
    def test_any_shape_is_kept(self, method, shape):
        result = fixed_point(lambda x: 0.5 * x + 1, np.zeros(shape), method=method, tol=1e-12)
        assert result.x.shape == shape
        np.testing.assert_allclose(result.x, 2, rtol=1e-11)

    @pytest.mark.parametrize("damping", [1.0, 0.7])
    def test_picard_takes_damped_steps_and_contracts_by_the_factor_of_the_map(self, damping):
        seen = []
        fixed_point(
            lambda x: 0.5 * x + 1, 0.0, method="picard", damping=damping, callback=lambda s: seen.append(float(s.x))
        )
        errors = 2 - np.array(seen)
        np.testing.assert_allclose(errors[1:] / errors[:-1], 1 - damping / 2, rtol=1e-6)

    def test_picard_iterates_the_map_itself_bit_for_bit(self):
        x = np.full(3, 1e-20)
        seen = []
        fixed_point(np.cos, x, method="picard", max_iter=5, callback=lambda s: seen.append(s.x.copy()) or s.n_iter == 5)
        for k in range(4):
            assert np.array_equal(seen[k + 1], np.cos(seen[k]))

    @pytest.mark.parametrize("n", [3, 8])
    def test_anderson_with_full_memory_solves_n_linear_equations_in_about_n_steps(self, n):
        A, b, x = contraction(n, factor=0.99)
        result = fixed_point(lambda z: A @ z + b, np.zeros(n), memory=n + 1, tol=1e-9, reg=0.0)
        np.testing.assert_allclose(result.x, x, atol=1e-6)
        assert result.n_iter <= n + 4

    def test_the_first_anderson_iterates_are_those_of_the_least_squares_problem(self):
        A, b, _ = contraction(6)
        func = lambda z: np.tanh(A @ z) + b  # noqa: E731
        seen = []
        fixed_point(
            func, np.zeros(6), memory=2, reg=0.0, tol=1e-12, damping=0.8, callback=lambda s: seen.append(s.x.copy())
        )
        x, xs, gs = np.zeros(6), [], []
        for k in range(6):
            np.testing.assert_allclose(seen[k], x, atol=1e-7)
            xs.append(x)
            gs.append(func(x) - x)
            S = np.diff(xs[-3:], axis=0).T.reshape(6, -1)
            Y = np.diff(gs[-3:], axis=0).T.reshape(6, -1)
            gamma = np.linalg.lstsq(Y, gs[-1], rcond=None)[0]
            x = x + 0.8 * gs[-1] - (S + 0.8 * Y) @ gamma

    def test_broyden_is_the_rank_one_update_of_the_inverse_jacobian(self):
        A, b, _ = contraction(6, factor=0.5)
        func = lambda z: np.tanh(A @ z) + b  # noqa: E731
        seen = []
        fixed_point(
            func,
            np.zeros(6),
            method="broyden",
            memory=20,
            reg=0.0,
            tol=1e-12,
            damping=0.8,
            callback=lambda s: seen.append(s.x.copy()),
        )
        x, H = np.zeros(6), -0.8 * np.eye(6)
        g = func(x) - x
        for k in range(6):
            np.testing.assert_allclose(seen[k], x, atol=1e-7)
            s = -H @ g
            x = x + s
            y = func(x) - x - g
            g = g + y
            H = H + np.outer(s - H @ y, s @ H) / (s @ H @ y)

    @pytest.mark.parametrize("method", ["anderson", "broyden"])
    def test_acceleration_beats_picard_on_a_slow_contraction(self, method):
        A, b, x = contraction(40, factor=0.98, seed=1)
        A = (A + A.T) / 2
        A *= 0.98 / np.linalg.norm(A, 2)
        x = np.linalg.solve(np.eye(40) - A, b)
        slow = fixed_point(lambda z: A @ z + b, np.zeros(40), method="picard", tol=1e-8, max_iter=5000)
        fast = fixed_point(lambda z: A @ z + b, np.zeros(40), method=method, tol=1e-8, max_iter=5000)
        np.testing.assert_allclose(fast.x, x, atol=1e-6)
        assert fast.n_iter < slow.n_iter / 3

    def test_an_oscillating_map_that_defeats_picard_is_solved_by_anderson(self):
        with pytest.warns(ConvergenceWarning, match="anderson"):
            cycles = fixed_point(lambda x: 1 - x, 0.1, method="picard", max_iter=50)
        assert not cycles.converged
        assert fixed_point(lambda x: 1 - x, 0.1).x == pytest.approx(0.5)
        assert fixed_point(lambda x: 4 - 3 * x, 0.0).x == pytest.approx(1)

    @properties
    @given(seed=st.integers(0, 10**6), n=st.integers(1, 12), method=st.sampled_from(["anderson", "broyden"]))
    def test_every_smooth_contraction_is_solved(self, seed, n, method):
        A, b, _ = contraction(n, factor=0.95, seed=seed)
        result = fixed_point(lambda x: np.tanh(A @ x) + b, np.zeros(n), method=method, tol=1e-9, max_iter=2000)
        assert result.converged
        assert np.max(abs(np.tanh(A @ result.x) + b - result.x)) <= 1e-9

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_the_dtype_is_kept_and_a_tolerance_below_rounding_is_reached_at_rounding(self, method, dtype):
        A, b, x = (z.astype(dtype) for z in contraction(10, factor=0.5))
        result = fixed_point(lambda z: A @ z + b, np.zeros(10, dtype), method=method, tol=1e-30)
        assert result.x.dtype == dtype and result.converged
        eps = np.finfo(dtype).eps
        assert result.residual <= 4 * eps * 10**0.5 * abs(x).max() * 1.1

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        ("dtype", "scale"), [("float64", 1e-250), ("float64", 1e250), ("float32", 1e-30), ("float32", 1e30)]
    )
    def test_problems_of_any_size_take_the_same_steps(self, method, dtype, scale):
        A, b, _ = (z.astype(dtype) for z in contraction(10, factor=0.8))
        near, far = (
            fixed_point(lambda z, s=s: A @ z + (s * b).astype(dtype), np.zeros(10, dtype), method=method, tol=1e-3 * s)
            for s in (1.0, scale)
        )
        assert far.converged and abs(far.n_iter - near.n_iter) <= 1
        np.testing.assert_allclose(far.x / far.x.dtype.type(scale), near.x, atol=2e-2)

    def test_a_tiny_solution_is_not_taken_for_rounding(self):
        result = fixed_point(lambda x: 0.5 * x + 1e-9, np.float32(0), tol=1e-14, method="picard")
        assert result.x == pytest.approx(2e-9, rel=1e-5)


class TestSafeguards:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("func", [np.exp, lambda x: x * x + 10, lambda x: x + 1, lambda x: 3 * np.abs(x) + 1])
    def test_a_map_without_fixed_point_ends_with_a_warning_and_finite_values(self, method, func):
        with np.errstate(over="ignore"), pytest.warns(ConvergenceWarning, match="fixed_point did not converge"):
            result = fixed_point(func, np.array([1.0, 2.0]), method=method, max_iter=200)
        assert not result.converged and np.isfinite(result.x).all()

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_non_finite_value_stops_at_the_last_finite_iterate(self, method, bad):
        calls = []

        def func(x):
            calls.append(x.copy())
            return 0.5 * x if len(calls) < 4 else np.full(2, bad)

        with pytest.warns(ConvergenceWarning, match="non-finite"):
            result = fixed_point(func, np.ones(2), method=method, tol=1e-300)
        assert not result.converged and np.isfinite(result.x).all() and result.residual == np.inf

    def test_an_extrapolation_out_of_the_domain_is_taken_back(self):
        # x = exp(-c x): positive; an iterate below -1 gives nan
        def func(x):
            return np.where(x > 0, 2 / np.sqrt(np.abs(x)), np.nan)

        for start in (0.001, 0.1, 50.0, 1e4):
            result = fixed_point(func, start, tol=1e-10)
            assert result.x == pytest.approx(2 ** (2 / 3), rel=1e-9)

    def test_a_residual_that_more_than_doubles_sends_the_row_back(self):
        # piecewise linear: secants across the kink point far away
        def func(x):
            return np.where(x < 1, 0.9 * x + 0.3, 1.2 - 0.1 * (x - 1))

        result = fixed_point(func, np.linspace(-5, 5, 21), tol=1e-10, batched=True)
        assert result.converged
        np.testing.assert_allclose(func(result.x), result.x, atol=1e-10)

    @pytest.mark.parametrize("method", ["anderson", "broyden"])
    def test_the_merit_never_rises_while_it_can_be_told(self, method):
        # gradient descent on a convex function, sharply curved at one end
        rng = np.random.default_rng(3)
        A, b = rng.normal(size=(30, 8)), rng.normal(size=30) * 3
        L = np.linalg.norm(A, 2) ** 2

        def value(x):
            r = A @ x - b
            return np.sum(np.sqrt(1 + r * r) - 1)

        def step(x):
            r = A @ x - b
            return x - A.T @ (r / np.sqrt(1 + r * r)) / L

        seen = []
        result = fixed_point(
            step,
            np.full(8, 10.0),
            method=method,
            merit=value,
            tol=1e-10,
            max_iter=2000,
            callback=lambda s: seen.append((value(s.x), s.residual > 1e-5 * abs(s.x).max())),
        )
        assert result.converged
        values, far = (np.array(z) for z in zip(*seen, strict=True))
        assert far.sum() > 20
        assert (np.diff(values) <= 1e-9 * values[:-1])[far[:-1]].all()

    def test_without_a_descending_leap_the_merit_leaves_damped_steps(self):
        seen = []
        worse = iter(range(10**6))  # rises at every question
        fixed_point(
            lambda x: 0.5 * x, 1.0, merit=lambda x: float(next(worse)), tol=1e-2, callback=lambda s: seen.append(s.x)
        )
        np.testing.assert_allclose(np.ravel(seen), 0.5 ** np.arange(len(seen)))


class TestBatched:
    @pytest.mark.parametrize("method", METHODS)
    def test_rows_equal_the_runs_of_one_row(self, method):
        rng = np.random.default_rng(5)
        c = rng.uniform(0.1, 0.95, (9, 1))  # some rows are quick, some slow
        b = rng.normal(size=(9, 4))

        def func(x, c=c, b=b):
            return c * np.sin(x) + b

        options = {"method": method, "tol": 1e-9, "max_iter": 3000}
        together = fixed_point(func, np.zeros((9, 4)), batched=True, **options)
        assert together.converged and together.converged_mask.shape == together.residual.shape == (9,)
        lengths = []
        for i in range(9):
            alone = fixed_point(lambda x, i=i: func(x, c[i], b[i]), np.zeros(4), **options)
            np.testing.assert_allclose(together.x[i], alone.x, rtol=1e-12)
            assert together.residual[i] == pytest.approx(alone.residual, rel=1e-3, abs=1e-15)
            lengths.append(alone.n_iter)
        assert together.n_iter == max(lengths) > min(lengths)

    def test_rows_that_are_done_stay_where_they_are(self):
        seen = []
        rate = np.array([[0.1], [0.9]])

        def func(x):
            seen.append(x.copy())
            return rate * x

        fixed_point(func, np.ones((2, 1)), batched=True, method="picard", tol=1e-3)
        first = np.array([x[0, 0] for x in seen])
        assert len(set(first[6:])) == 1 and len(set(first[:4])) == 4

    def test_a_row_that_fails_does_not_end_the_others(self):
        def func(x):
            return np.where(np.arange(3)[:, None] == 1, x * np.inf, 0.5 * x + 1)

        with pytest.warns(ConvergenceWarning, match="1 of 3 rows"):
            result = fixed_point(func, np.ones((3, 2)), batched=True, method="picard")
        assert not result.converged
        assert result.converged_mask.tolist() == [True, False, True]
        np.testing.assert_allclose(result.x[[0, 2]], 2, atol=1e-5)
        assert np.isfinite(result.x).all() and result.residual[1] == np.inf

    def test_a_row_that_runs_out_of_iterations_is_marked(self):
        rate = np.array([0.5, 0.9999])
        with pytest.warns(ConvergenceWarning, match="100 iterations"):
            result = fixed_point(lambda x: rate * x, np.ones(2), batched=True, method="picard", max_iter=100)
        assert result.converged_mask.tolist() == [True, False] and not result.converged

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
    def test_nothing_to_do_takes_no_iteration(self, shape):
        result = fixed_point(lambda x: x, np.zeros(shape), batched=True)
        assert result.converged and result.n_iter == 0 and result.x.shape == shape and result.history == []


class TestSplitting:
    @pytest.mark.parametrize("accelerate", [True, False])
    def test_forward_backward_solves_the_monotone_network(self, accelerate):
        # 0 in N(x) + M x - b, N the normal cone of the orthant: x = relu(x - step (M x - b)) for every step
        M, b = monotone(20)
        m = np.linalg.eigvalsh((M + M.T) / 2)[0]
        step = m / np.linalg.norm(M, 2) ** 2
        result = forward_backward(
            lambda x: M @ x - b, relu, np.zeros(20), step=step, accelerate=accelerate, tol=1e-9, max_iter=20000
        )
        x, slack = result.x, M @ result.x - b
        assert result.converged
        assert (x >= 0).all() and slack.min() > -1e-8 and abs(x @ slack) < 1e-7
        assert result.residual == pytest.approx(np.max(abs(relu(x - step * slack) - x)) / step, rel=1e-12)

    def test_forward_backward_contracts_at_the_stated_rate(self):
        # symmetric: step 2 / (m + L) gives the factor (L - m) / (L + m)
        A = np.diag([1.0, 3.0, 9.0])
        result = forward_backward(lambda x: A @ x - 1, lambda x: x, np.zeros(3), step=0.2, accelerate=False, tol=1e-9)
        history = np.array(result.history[5:40])
        np.testing.assert_allclose(history[1:] / history[:-1], 0.8, rtol=1e-6)

    def test_acceleration_saves_iterations(self):
        M, b = monotone(30, seed=2)
        step = 0.02
        counts = [
            forward_backward(
                lambda x: M @ x - b, relu, np.zeros(30), step=step, accelerate=a, tol=1e-8, max_iter=20000
            ).n_iter
            for a in (True, False)
        ]
        assert counts[0] < counts[1] / 2

    @pytest.mark.parametrize("solver", [peaceman_rachford, douglas_rachford])
    @pytest.mark.parametrize("step", [0.1, 1.0, 10.0])
    def test_reflections_agree_with_forward_backward_for_every_step(self, solver, step):
        M, b = monotone(15, seed=1)
        V = np.linalg.inv(np.eye(15) + step * M)
        result = solver(lambda x: V @ (x + step * b), relu, np.zeros(15), tol=1e-10, max_iter=5000)
        x, slack = result.x, M @ result.x - b
        assert result.converged and (x >= 0).all()
        assert slack.min() > -1e-7 and abs(x @ slack) < 1e-6

    def test_douglas_rachford_is_peaceman_rachford_averaged(self):
        M, b = monotone(6)
        V = np.linalg.inv(np.eye(6) + M)
        seen = {}
        for name, solver, relaxation in (("d", douglas_rachford, None), ("p", peaceman_rachford, 0.5)):
            options = {} if relaxation is None else {"relaxation": relaxation}
            result = solver(lambda x: V @ (x + b), relu, np.zeros(6), **options)
            seen[name] = result.x
        assert np.array_equal(seen["d"], seen["p"])

    def test_peaceman_rachford_keeps_the_factor_of_a_quadratic(self):
        # F = 0, G = a I: the reflection is (1 - a) / (1 + a)
        result = peaceman_rachford(lambda x: x / 4, lambda x: x, np.ones(2), tol=1e-12)
        history = np.array(result.history)
        np.testing.assert_allclose(history[1:] / history[:-1], 0.5, rtol=1e-9)

    def test_peaceman_rachford_may_cycle_where_douglas_rachford_converges(self):
        # rotations by a quarter: monotone, and not strongly so
        J = np.array([[0.0, -1.0], [1.0, 0.0]])
        V = np.linalg.inv(np.eye(2) + J)
        with pytest.warns(ConvergenceWarning, match="smaller relaxation"):
            assert not peaceman_rachford(lambda x: V @ x, lambda x: x, np.ones(2), max_iter=300).converged
        assert abs(douglas_rachford(lambda x: V @ x, lambda x: x, np.ones(2)).x).max() < 1e-5

    @pytest.mark.parametrize("solver", [peaceman_rachford, douglas_rachford])
    def test_rows_of_reflections_end_on_their_own(self, solver):
        M, b = monotone(8)
        B = b * np.array([[0.0], [1.0], [100.0]])
        V = np.linalg.inv(np.eye(8) + M)
        together = solver(lambda X: (X + B) @ V.T, relu, np.zeros((3, 8)), batched=True, tol=1e-8)
        for i in range(3):
            alone = solver(lambda x, i=i: V @ (x + B[i]), relu, np.zeros(8), tol=1e-8)
            np.testing.assert_allclose(together.x[i], alone.x, atol=1e-10)
        assert together.n_fev == together.n_iter


class TestImplicitVjp:
    def system(self, n=12, symmetric=False, seed=0):
        A, _, _ = contraction(n, seed=seed)
        A = (A + A.T) / 2 if symmetric else A
        b = np.random.default_rng(seed + 1).normal(size=n)
        return A, b, np.linalg.solve(np.eye(n) - A.T, b)

    @pytest.mark.parametrize(
        ("method", "symmetric"),
        [("auto", True), ("auto", False), ("cg", True), ("gmres", True), ("gmres", False), ("anderson", False)],
    )
    def test_the_dense_solution_is_reached(self, method, symmetric):
        A, b, y = self.system(symmetric=symmetric)
        result = implicit_vjp(lambda v: A.T @ v, b, method=method, symmetric=symmetric)
        np.testing.assert_allclose(result.x, y, rtol=1e-7, atol=1e-8)
        assert result.converged and result.residual <= 1e-10
        assert np.linalg.norm(b + A.T @ result.x - result.x) <= 1.01e-10 * np.linalg.norm(b)
        assert 0 < result.n_iter <= 500

    @pytest.mark.parametrize("method", ["gmres", "anderson"])
    def test_gradients_through_a_fixed_point_match_central_differences(self, method):
        rng = np.random.default_rng(4)
        W, b, target = 0.4 * rng.normal(size=(6, 6)) / 6**0.5, rng.normal(size=6), rng.normal(size=6)

        def solve(W, b):
            return fixed_point(lambda z: np.tanh(W @ z + b), np.zeros(6), tol=1e-15).x

        def loss(W, b):
            return 0.5 * np.sum((solve(W, b) - target) ** 2)

        z = solve(W, b)
        slope = 1 - z * z
        y = implicit_vjp(lambda y: W.T @ (slope * y), z - target, method=method).x
        in_b, in_W = slope * y, np.outer(slope * y, z)
        for _ in range(5):
            db, dW = rng.normal(size=6), rng.normal(size=(6, 6))
            h = 1e-5
            numeric = (loss(W + h * dW, b + h * db) - loss(W - h * dW, b - h * db)) / (2 * h)
            assert np.sum(in_b * db) + np.sum(in_W * dW) == pytest.approx(numeric, rel=1e-6)

    @pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
    def test_the_tolerance_is_relative_at_every_scale(self, scale):
        A, b, y = self.system()
        result = implicit_vjp(lambda v: A.T @ v, scale * b)
        np.testing.assert_allclose(result.x / scale, y, rtol=1e-7, atol=1e-8)

    def test_shapes_and_float32_are_kept(self):
        A, b, y = self.system()
        grad = np.tile(b, (3, 1)).astype(np.float32)
        result = implicit_vjp(lambda v: (v @ A).astype(np.float32), grad)
        assert result.x.shape == (3, 12) and result.x.dtype == np.float32 and result.converged
        np.testing.assert_allclose(result.x, np.tile(y, (3, 1)), rtol=1e-3, atol=1e-3)

    def test_a_zero_gradient_needs_no_product(self):
        result = implicit_vjp(lambda v: 1 / 0, np.zeros(3))
        assert result.converged and result.n_iter == 0 and not result.x.any()

    @pytest.mark.parametrize("method", ["cg", "gmres", "anderson"])
    def test_an_adjoint_that_fails_says_so(self, method):
        A, b, _ = self.system(n=40, symmetric=True)
        with pytest.warns(ConvergenceWarning):
            result = implicit_vjp(lambda v: A @ v, b, method=method, max_iter=2)
        assert not result.converged and result.residual > 1e-10 and result.x.any()

    @pytest.mark.parametrize("max_iter", [1, 29, 31, 60, 75])
    def test_gmres_makes_no_more_products_than_it_may(self, max_iter):
        Q = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 200)))[0]  # hopeless for GMRES(30)
        with pytest.warns(ConvergenceWarning, match=f"after {max_iter} products"):
            result = implicit_vjp(lambda v: v - Q @ v, np.ones(200), max_iter=max_iter)
        assert result.n_iter == max_iter

    def test_a_singular_system_is_no_solution(self):
        with pytest.warns(ConvergenceWarning):
            assert not implicit_vjp(lambda v: v, np.ones(3)).converged
        with pytest.warns(ConvergenceWarning):
            assert not implicit_vjp(lambda v: 2 * v, np.ones(3), symmetric=True).converged

    @pytest.mark.parametrize("method", ["cg", "gmres", "anderson"])
    def test_a_vjp_that_is_not_finite_is_reported(self, method):
        with pytest.warns(ConvergenceWarning):
            result = implicit_vjp(lambda v: v * np.nan, np.ones(3), method=method)
        assert not result.converged


class TestArrayLibraries:
    xp = array_api_strict

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("batched", [True, False])
    def test_strict_arrays_go_through(self, method, batched):
        rate = np.array([[0.3, 0.3], [0.8, 0.8], [0.5, 0.5]])
        theirs = self.xp.asarray(rate)
        result = fixed_point(
            lambda x: theirs * self.xp.sin(x) + 1, self.xp.zeros((3, 2)), method=method, batched=batched, tol=1e-9
        )
        ours = fixed_point(lambda x: rate * np.sin(x) + 1, np.zeros((3, 2)), method=method, batched=batched, tol=1e-9)
        np.testing.assert_allclose(np.asarray(result.x), ours.x, atol=1e-8)
        assert result.n_iter == ours.n_iter and type(result.x) is type(theirs)

    def test_strict_arrays_go_through_merit_and_splitting(self):
        xp = self.xp
        merit = fixed_point(lambda x: 0.5 * x + 1, xp.zeros(3), merit=lambda x: xp.sum((x - 2) ** 2), tol=1e-9)
        np.testing.assert_allclose(np.asarray(merit.x), 2, atol=1e-8)
        result = peaceman_rachford(lambda x: (x + 1) / 2, lambda x: xp.clip(x, min=0.0), xp.zeros(3))
        np.testing.assert_allclose(np.asarray(result.x), 1, atol=1e-5)

    @pytest.mark.parametrize("method", ["cg", "gmres", "anderson"])
    def test_strict_arrays_go_through_the_adjoint(self, method):
        A = np.diag([0.1, 0.5, -0.3])
        theirs = self.xp.asarray(A)
        result = implicit_vjp(lambda v: theirs @ v, self.xp.ones(3), method=method)
        np.testing.assert_allclose(np.asarray(result.x), 1 / (1 - np.diag(A)), rtol=1e-9)


class TestReports:
    def test_the_callback_sees_the_iterate_and_may_stop(self):
        seen = []

        def callback(state):
            seen.append((state.n_iter, state.residual))
            assert state.x.shape == (2,) and not state.x.flags.writeable
            return state.n_iter == 3

        result = fixed_point(np.cos, np.ones(2), method="picard", callback=callback)
        assert not result.converged and result.n_iter == 3
        assert [r for _, r in seen] == result.history and [k for k, _ in seen] == [1, 2, 3]

    def test_an_exception_in_the_callback_passes_through(self):
        def callback(state):
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            fixed_point(np.cos, 1.0, callback=callback)

    def test_the_start_is_left_alone_and_not_handed_out(self):
        x0 = np.zeros(3)
        result = fixed_point(lambda x: x, x0)
        assert result.x is not x0 and not np.shares_memory(result.x, x0)
        result.x[:] = 1
        assert not x0.any()

    def test_a_map_that_writes_to_its_argument_is_refused(self):
        def func(x):
            x *= 0.5
            return x

        with pytest.raises(ValueError, match="read-only"):
            fixed_point(func, np.ones(3))

    def test_a_map_may_return_the_same_buffer_every_time(self):
        out = np.empty(3)
        result = fixed_point(lambda x: np.cos(x, out=out), np.ones(3), method="picard", tol=1e-10)
        np.testing.assert_allclose(result.x, DOTTIE, atol=1e-9)

    def test_results_pickle(self):
        result = pickle.loads(pickle.dumps(fixed_point(np.cos, np.ones(2))))
        np.testing.assert_allclose(result.x, DOTTIE, atol=1e-5)

    @pytest.mark.parametrize(
        "call",
        [
            lambda: fixed_point(lambda x: x + 1, 0.0, max_iter=2),
            lambda: forward_backward(lambda x: x - 1, lambda x: x, 0.0, step=0.1, max_iter=2),
            lambda: peaceman_rachford(lambda x: x + 1, lambda x: x, 0.0, max_iter=2),
            lambda: douglas_rachford(lambda x: x + 1, lambda x: x, 0.0, max_iter=2),
            lambda: implicit_vjp(lambda v: v, np.ones(2), method="anderson", max_iter=2),
        ],
    )
    def test_one_warning_points_at_the_caller(self, call):
        with pytest.warns(ConvergenceWarning) as caught:
            call()
        assert [Path(w.filename).name for w in caught] == [Path(__file__).name]

    def test_a_bar_is_shown(self, capsys):
        fixed_point(np.cos, 1.0, verbose=1)
        assert "fixed_point" in capsys.readouterr().err


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"method": "newton"}, ValueError, "method must be one of 'picard', 'anderson', 'broyden'"),
            ({"tol": 0.0}, ValueError, "tol"),
            ({"tol": float("nan")}, ValueError, "tol"),
            ({"max_iter": 0}, ValueError, "max_iter"),
            ({"max_iter": 2.5}, TypeError, "max_iter"),
            ({"memory": 0}, ValueError, "memory"),
            ({"damping": 0.0}, ValueError, "damping"),
            ({"damping": 1.5}, ValueError, "damping"),
            ({"reg": -1.0}, ValueError, "reg"),
            ({"batched": "yes"}, ValueError, "batched"),
            ({"callback": 3}, TypeError, "callback"),
            ({"merit": lambda x: x}, ValueError, "merit must return"),
        ],
    )
    def test_options_out_of_range_are_named(self, options, error, match):
        with pytest.raises(error, match=match):
            fixed_point(np.cos, np.ones(2), **options)

    @pytest.mark.parametrize(
        ("x0", "error", "match"),
        [
            ([1.0, np.nan], ValueError, "x0 must be finite; 1 of its 2"),
            ([1j], TypeError, "x0 must be real"),
            ("a", TypeError, "x0"),
            (np.ones(2, np.float16), ValueError, "x0 must be float32"),
        ],
    )
    def test_a_bad_start_is_named(self, x0, error, match):
        with pytest.raises(error, match=match):
            fixed_point(np.cos, x0)

    def test_what_is_no_function_is_named(self):
        for call, name in (
            (lambda: fixed_point(3, 1.0), "func"),
            (lambda: fixed_point(np.cos, 1.0, merit=3), "merit"),
            (lambda: forward_backward(3, np.cos, 1.0, step=1.0), "forward"),
            (lambda: forward_backward(np.cos, 3, 1.0, step=1.0), "prox"),
            (lambda: peaceman_rachford(3, np.cos, 1.0), "resolvent"),
            (lambda: douglas_rachford(np.cos, 3, 1.0), "prox"),
            (lambda: implicit_vjp(3, 1.0), "vjp"),
        ):
            with pytest.raises(TypeError, match=f"{name} must be callable; got 3"):
                call()

    def test_rows_need_an_axis(self):
        with pytest.raises(ValueError, match="x0 must have an axis of rows"):
            fixed_point(np.cos, 1.0, batched=True)

    def test_values_of_the_wrong_shape_are_named(self):
        with pytest.raises(ValueError, match=r"func must return an array of shape \(2,\).*got \(2, 2\)"):
            fixed_point(lambda x: np.ones((2, 2)), np.ones(2))
        with pytest.raises(ValueError, match="forward must return"):
            forward_backward(lambda x: x[:1], lambda x: x, np.ones(2), step=1.0)
        with pytest.raises(ValueError, match="prox must return"):
            peaceman_rachford(lambda x: x, lambda x: x[:1], np.ones(2))
        with pytest.raises(ValueError, match="resolvent must return"):
            douglas_rachford(lambda x: x[:1], lambda x: x, np.ones(2))
        with pytest.raises(ValueError, match="vjp must return"):
            implicit_vjp(lambda v: v[:1], np.ones(2))
        with pytest.raises(TypeError, match="the value of func"):
            fixed_point(lambda x: 1j * x, np.ones(2))

    def test_bad_steps_and_relaxations_are_named(self):
        for step in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="step"):
                forward_backward(np.cos, np.cos, 1.0, step=step)
        with pytest.raises(ValueError, match="accelerate"):
            forward_backward(np.cos, np.cos, 1.0, step=1.0, accelerate=2)
        for relaxation in (0.0, 1.1):
            with pytest.raises(ValueError, match="relaxation"):
                peaceman_rachford(np.cos, np.cos, 1.0, relaxation=relaxation)

    def test_bad_adjoint_arguments_are_named(self):
        for options, match in (
            ({"method": "lu"}, "method"),
            ({"tol": 0.0}, "tol"),
            ({"max_iter": 0}, "max_iter"),
            ({"symmetric": 1.5}, "symmetric"),
        ):
            with pytest.raises(ValueError, match=match):
                implicit_vjp(lambda v: v, np.ones(2), **options)
        with pytest.raises(ValueError, match="grad must be finite"):
            implicit_vjp(lambda v: v, [np.inf])
