"""Entropic transport against closed forms, brute force and its own invariances."""

import inspect
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.sparse import issparse

from numcore.algorithms.transport import GridCost, PointCloudCost, entropic_map, sinkhorn, sinkhorn_newton
from numcore.results import ConvergenceWarning

METHODS = ("log", "kernel", "newton")
DEFAULTS = {
    "a": None,
    "b": None,
    "reg": inspect.Parameter.empty,
    "reg_scale": "absolute",
    "method": "auto",
    "marginal_reg": None,
    "init": None,
    "annealing": "auto",
    "relaxation": "auto",
    "tol": None,
    "max_iter": 10000,
    "storage": None,
    "callback": None,
    "verbose": 0,
}


def marginal_error(P, a, b):
    return abs(P.sum(1) - a).sum() + abs(P.sum(0) - b).sum()


def gaussian_value(m_a, m_b, A, B, eps):
    """Janati, Muzellec, Peyre, Cuturi 2020, Theorem 1, for C = |x - y|^2: sigma = eps / 2."""
    d, sigma = len(A), eps / 2
    root = sqrtm(A)
    D = np.real(sqrtm(4 * root @ B @ root + sigma**2 * np.eye(d)))
    return (
        np.sum((m_a - m_b) ** 2)
        + np.trace(A + B - D)
        + d * sigma * (1 - np.log(2 * sigma))
        + sigma * np.linalg.slogdet(D + sigma * np.eye(d))[1]
    )


def density(points, mean, covariance):
    z = points - mean
    w = np.exp(-0.5 * np.einsum("ni,ij,nj->n", z, np.linalg.inv(covariance), z))
    return w / w.sum()


class TestSignature:
    def test_the_parameters_and_defaults_are_those_of_the_specification(self):
        parameters = inspect.signature(sinkhorn).parameters
        assert list(parameters) == ["cost", *DEFAULTS]
        assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS
        assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name not in ("cost", "a", "b"))

    def test_the_result_has_the_fields_of_the_specification(self, problem):
        result = sinkhorn(problem.C, reg=0.1)
        public = {name for name in result.__dataclass_fields__ if not name.startswith("_")}
        figures = "value linear_cost entropy_value dual_value reg marginal_error"
        assert public == {*figures.split(), *["f", "g", "converged", "n_iter", "n_passes", "method", "history"]}
        assert all(type(getattr(result, name)) is float for name in figures.split())
        assert type(result.n_iter) is int and type(result.n_passes) is int and result.converged is True
        assert {"error", "dual_value", "reg"} <= set(result.history)

    def test_the_result_is_frozen(self, problem):
        with pytest.raises(FrozenInstanceError):
            sinkhorn(problem.C, reg=0.1).value = 0


class TestAgainstBruteForce:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("eps", [1.0, 0.1, 0.02])
    def test_plan_potentials_and_value_are_those_of_the_textbook_iteration(self, oracle, problem, method, eps):
        C, a, b = problem.C, problem.a, problem.b
        f, g, P = oracle.solve(C, a, b, eps)
        result = sinkhorn(C, a, b, reg=eps, method=method, tol=1e-12)
        assert result.method == method and result.converged
        assert_allclose(result.plan, P, atol=1e-11)  # 10 tol
        shift = b @ g
        # a potential moves by about eps times the relative change of a marginal: tol / min(a) eps is 1e-10
        assert_allclose(result.f, f + shift, atol=1e-9)
        assert_allclose(result.g, g - shift, atol=1e-9)
        assert_allclose(result.value, oracle.primal(P, C, a, b, eps), rtol=1e-11)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_figures_are_those_of_the_plan(self, oracle, problem, method):
        C, a, b, eps = problem.C, problem.a, problem.b, 0.05
        result = sinkhorn(C, a, b, reg=eps, method=method)
        P = result.plan
        assert_allclose(result.linear_cost, np.sum(P * C), rtol=1e-12)
        assert_allclose(result.entropy_value, np.sum(P * C) + eps * np.sum(P * np.log(P)), rtol=1e-12)
        assert_allclose(result.value, np.sum(P * C) + eps * oracle.kl(P, np.outer(a, b)), rtol=1e-9)
        assert_allclose(result.marginal_error, marginal_error(P, a, b), atol=1e-14)
        assert result.marginal_error <= 1e-9

    def test_the_entropy_convention_shifts_the_value_by_the_entropies_of_the_weights(self, problem):
        a, b, eps = problem.a, problem.b, 0.05
        result = sinkhorn(problem.C, a, b, reg=eps, tol=1e-13)
        entropies = -np.sum(a * np.log(a)) - np.sum(b * np.log(b))
        assert_allclose(result.entropy_value, result.value - eps * entropies, rtol=1e-11)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_gauge_is_b_g_equal_to_zero(self, problem, method):
        result = sinkhorn(problem.C + 5, problem.a, problem.b, reg=0.05, method=method)
        assert abs(problem.b @ result.g) < 1e-14 * 5

    @pytest.mark.parametrize("method", METHODS)
    def test_a_total_mass_of_three_changes_the_value_as_the_dual_says(self, oracle, problem, method):
        C, a, b, eps, M = problem.C, 3 * problem.a, 3 * problem.b, 0.1, 3.0
        result = sinkhorn(C, a, b, reg=eps, method=method, tol=1e-12)
        _, _, P = oracle.solve(C, a, b, eps)
        assert_allclose(result.plan, P, atol=1e-11)
        assert_allclose(result.value, oracle.primal(P, C, a, b, eps), rtol=1e-11)
        assert_allclose(result.value, a @ result.f + b @ result.g - eps * (M - M**2), rtol=1e-12)

    def test_weights_default_to_uniform(self, problem):
        n, m = problem.C.shape
        given_, default = (
            sinkhorn(problem.C, *w, reg=0.1) for w in ((np.full(n, 1 / n), np.full(m, 1 / m)), (None, None))
        )
        assert_allclose(given_.plan, default.plan, rtol=1e-12)

    @pytest.mark.parametrize("scale", ["absolute", "mean", "max"])
    def test_reg_is_in_units_of_reg_scale(self, problem, scale):
        C, a, b = problem.C + 1, problem.a, problem.b
        unit = {"absolute": 1.0, "mean": a @ C @ b, "max": C.max()}[scale]
        assert_allclose(sinkhorn(C, a, b, reg=0.2, reg_scale=scale).reg, 0.2 * unit, rtol=1e-14)

    def test_the_mean_cost_is_per_unit_of_mass(self, problem):
        C, a, b = problem.C, problem.a, problem.b
        assert_allclose(sinkhorn(C, 5 * a, 5 * b, reg=0.2, reg_scale="mean").reg, 0.2 * (a @ C @ b), rtol=1e-14)


class TestFormsAgree:
    """log, kernel, newton; stored, from points, on a grid."""

    @pytest.mark.parametrize("method", ["auto", *METHODS])
    @pytest.mark.parametrize("eps", [0.2, 0.02])
    def test_a_point_cloud_gives_the_plan_of_its_stored_cost(self, oracle, clouds, method, eps):
        _, _, P = oracle.solve(clouds.C, clouds.a, clouds.b, eps)
        value = oracle.primal(P, clouds.C, clouds.a, clouds.b, eps)
        for cost in (clouds.C, PointCloudCost(clouds.X, clouds.Y)):
            result = sinkhorn(cost, clouds.a, clouds.b, reg=eps, method=method)
            assert_allclose(result.plan, P, atol=1e-8)  # 10 tol
            assert_allclose(result.value, value, rtol=1e-9)

    @pytest.mark.parametrize("p", [1, 1.5, 2])
    @pytest.mark.parametrize("method", ["auto", "log"])
    def test_a_grid_gives_the_plan_of_its_stored_cost(self, oracle, rng, weights, p, method):
        axes = [np.linspace(0, 1, 4), np.array([0.0, 0.2, 0.9]), np.linspace(-1, 0, 2)]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        C = (abs(nodes[:, None] - nodes[None]) ** p).sum(-1)
        a, b = weights(rng, 24), weights(rng, 24)
        _, _, P = oracle.solve(C, a, b, 0.1)
        result = sinkhorn(GridCost(axes, p), a, b, reg=0.1, method=method)
        assert_allclose(result.plan, P, atol=1e-8)
        assert_allclose(result.value, oracle.primal(P, C, a, b, 0.1), rtol=1e-9)
        assert_allclose(result.linear_cost, np.sum(P * C), rtol=1e-8)

    def test_auto_takes_newton_for_small_eps_and_the_kernel_for_large(self, rng):
        C = rng.random((30, 30))
        C = (C - C.min()) / (C.max() - C.min())
        assert sinkhorn(C, reg=0.004).method.startswith("newton")
        assert sinkhorn(C, reg=0.006, tol=1e-2).method == "kernel"
        assert sinkhorn(C, reg=10.0).method == "kernel"

    def test_auto_never_stores_the_cost_of_point_clouds_and_never_uses_newton_when_unbalanced(self, clouds):
        assert sinkhorn(PointCloudCost(clouds.X, clouds.Y), reg=0.1).method == "log"
        assert sinkhorn(PointCloudCost(clouds.X, clouds.Y), reg=1e-3).method == "log"
        assert not sinkhorn(clouds.C, reg=1e-3, marginal_reg=1.0).method.startswith("newton")

    @pytest.mark.parametrize("method", METHODS)
    def test_offsets_and_negative_costs_do_no_harm(self, problem, method):
        plain, moved = (sinkhorn(problem.C + t, problem.a, problem.b, reg=0.02, method=method) for t in (0.0, -1000.0))
        assert_allclose(moved.plan, plain.plan, atol=1e-8)
        assert_allclose(moved.value, plain.value - 1000, rtol=1e-12)


class TestResultMethods:
    @pytest.mark.parametrize("cost", ["stored", "cloud", "grid"])
    @pytest.mark.parametrize("transpose", [False, True])
    def test_apply_is_the_product_with_the_plan(self, rng, clouds, cost, transpose):
        if cost == "grid":
            result = sinkhorn(GridCost([np.linspace(0, 1, 5), np.linspace(0, 1, 3)]), reg=0.1)
        else:
            result = sinkhorn(clouds.C if cost == "stored" else PointCloudCost(clouds.X, clouds.Y), reg=0.1)
        P = result.plan.T if transpose else result.plan
        V = rng.normal(size=(P.shape[1], 3))
        assert_allclose(result.apply(V, transpose=transpose), P @ V, atol=1e-15)
        assert_allclose(result.apply(V[:, 0], transpose=transpose), P @ V[:, 0], atol=1e-15)

    @pytest.mark.parametrize("cost", ["stored", "cloud", "grid"])
    def test_the_sparse_plan_holds_the_entries_above_the_threshold(self, clouds, cost):
        costs = {"stored": clouds.C, "cloud": PointCloudCost(clouds.X, clouds.Y), "grid": GridCost([np.arange(9.0)])}
        result = sinkhorn(costs[cost], reg=0.02, tol=1e-6)
        S, P = result.sparse_plan(1e-5), result.plan
        assert issparse(S) and S.format == "csr" and 0 < S.nnz < P.size
        assert_allclose(S.toarray(), np.where(P >= 1e-5, P, 0), rtol=1e-12)
        assert inspect.signature(result.sparse_plan).parameters["threshold"].default == 1e-12

    def test_the_plan_is_computed_once(self, problem):
        result = sinkhorn(problem.C, reg=0.1)
        assert result.plan is result.plan

    @pytest.mark.parametrize("cost", ["stored", "cloud", "grid"])
    def test_a_result_survives_pickling_and_still_gives_its_plan(self, clouds, cost):
        costs = {"stored": clouds.C, "cloud": PointCloudCost(clouds.X, clouds.Y), "grid": GridCost([np.arange(4.0)])}
        result = sinkhorn(costs[cost], reg=0.5)
        back = pickle.loads(pickle.dumps(result))
        assert np.array_equal(back.plan, result.plan) and back.value == result.value
        assert np.array_equal(back.history["error"], result.history["error"])
        assert sinkhorn(costs[cost], reg=0.5, init=back).n_iter <= 2


class TestGaussians:
    def test_the_value_on_a_fine_1d_grid_is_the_closed_form_and_the_map_has_its_slope(self):
        # standard deviations 1 and 0.7, eps 0.8
        x, eps = np.linspace(-8, 8, 700)[:, None], 0.8
        A, B = np.eye(1), 0.49 * np.eye(1)
        a, b = density(x, 0.0, A), density(x, 0.5, B)
        result = sinkhorn(PointCloudCost(x, x), a, b, reg=eps, tol=1e-13)
        # the trapezoidal rule is exact to rounding for Gaussians
        assert_allclose(result.value, gaussian_value(np.zeros(1), np.full(1, 0.5), A, B, eps), rtol=1e-13)
        left, right = entropic_map(result, [[-0.5], [0.5]])[:, 0]
        assert_allclose(right - left, 0.5280109889, atol=1e-10)
        assert_allclose((right + left) / 2, 0.5, atol=1e-12)

    def test_the_value_of_correlated_gaussians_on_a_2d_grid_is_the_closed_form(self):
        axis = np.linspace(-5, 5, 41)
        nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        A, B = np.array([[0.5, 0.2], [0.2, 0.3]]), np.array([[0.3, -0.1], [-0.1, 0.6]])
        means = np.array([0.2, -0.1]), np.array([-0.3, 0.4])
        a, b = density(nodes, means[0], A), density(nodes, means[1], B)
        result = sinkhorn(GridCost([axis, axis]), a, b, reg=0.6, tol=1e-11)
        # at a spacing of 0.25 of standard deviations of 0.5 the rule errs by less than exp(-2 pi^2 4) = 1e-34; the
        # cut at 5 leaves exp(-4.6^2 / 1.2) = 2e-8 at the widest Gaussian's 6 deviations
        assert_allclose(result.value, gaussian_value(*means, A, B, 0.6), rtol=1e-7)


class TestBounds:
    @pytest.mark.parametrize("method", ["log", "kernel"])
    def test_every_dual_value_of_a_plain_run_is_a_lower_bound_and_none_is_below_the_one_before(
        self, oracle, problem, method
    ):
        C, a, b, eps = problem.C, problem.a, problem.b, 0.02
        best = oracle.primal(oracle.solve(C, a, b, eps)[2], C, a, b, eps)
        result = sinkhorn(C, a, b, reg=eps, method=method, relaxation=1.0, annealing=False)
        duals = result.history["dual_value"]
        assert duals.max() <= best + 1e-12 and np.diff(duals).min() >= -1e-14
        assert_allclose(result.dual_value, best, rtol=1e-10)

    @pytest.mark.parametrize("max_iter", [1, 2, 5])
    @pytest.mark.parametrize("method", METHODS)
    def test_a_run_cut_short_still_bounds_the_value_of_any_feasible_plan(self, oracle, problem, method, max_iter):
        C, a, b, eps = problem.C, problem.a, problem.b, 0.01
        with pytest.warns(ConvergenceWarning):
            result = sinkhorn(C, a, b, reg=eps, method=method, max_iter=max_iter, annealing=False, tol=1e-15)
        assert not result.converged and result.n_iter == max_iter
        assert result.dual_value < oracle.primal(np.outer(a, b), C, a, b, eps)
        assert result.dual_value <= oracle.primal(oracle.solve(C, a, b, eps)[2], C, a, b, eps) + 1e-12

    def test_dual_value_and_value_agree_at_convergence(self, problem):
        result = sinkhorn(problem.C, problem.a, problem.b, reg=0.05, tol=1e-12)
        assert_allclose(result.dual_value, result.value, rtol=1e-10)
        assert result.dual_value <= result.value + 1e-15


seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 8)
regs = st.floats(0.1, 10)  # below, a few points can couple so weakly that 10 000 iterations are too few


def drawn(seed, n, m):
    """Costs in (-1, 1), some weights 0."""
    rng = np.random.default_rng(seed)
    a, b = (rng.random(k) * (rng.random(k) < 0.8) + 1e-3 * (np.arange(k) == 0) for k in (n, m))
    return rng, rng.uniform(-1, 1, (n, m)), a / a.sum(), b / b.sum()


class TestInvariances:
    """Plans agree to 1e-8, ten times tol, and potentials to that divided by the least weight, times eps."""

    @settings(deadline=None, max_examples=25)
    @given(seeds, sizes, sizes, regs)
    def test_adding_u_and_v_to_the_cost_leaves_the_plan_and_moves_the_potentials(self, seed, n, m, eps):
        rng, C, a, b = drawn(seed, n, m)
        u, v = rng.normal(size=n), rng.normal(size=m)
        plain = sinkhorn(C, a, b, reg=eps, tol=1e-12)
        moved = sinkhorn(C + u[:, None] + v, a, b, reg=eps, tol=1e-12)
        assert_allclose(moved.plan, plain.plan, atol=1e-10)
        assert_allclose(moved.value, plain.value + a @ u + b @ v, atol=1e-10)
        assert_allclose(moved.f, plain.f + u + b @ v, atol=1e-7)
        assert_allclose(moved.g, plain.g + v - b @ v, atol=1e-7)

    @settings(deadline=None, max_examples=25)
    @given(seeds, sizes, sizes, regs, st.floats(-20, 20))
    def test_scaling_the_cost_and_eps_scales_the_value(self, seed, n, m, eps, exponent):
        _, C, a, b = drawn(seed, n, m)
        t = 2.0 ** round(exponent)
        plain, scaled = sinkhorn(C, a, b, reg=eps), sinkhorn(t * C, a, b, reg=t * eps)
        assert_allclose(scaled.plan, plain.plan, atol=1e-8)
        assert_allclose(scaled.value, t * plain.value, rtol=1e-9, atol=1e-10 * t)

    @settings(deadline=None, max_examples=25)
    @given(seeds, sizes, sizes, regs)
    def test_permutations_commute_with_the_solution(self, seed, n, m, eps):
        rng, C, a, b = drawn(seed, n, m)
        i, j = rng.permutation(n), rng.permutation(m)
        plain, mixed = sinkhorn(C, a, b, reg=eps), sinkhorn(C[np.ix_(i, j)], a[i], b[j], reg=eps)
        assert_allclose(mixed.plan, plain.plan[np.ix_(i, j)], atol=1e-8)

    @settings(deadline=None, max_examples=25)
    @given(seeds, sizes, sizes, regs)
    def test_transposing_the_problem_transposes_the_plan(self, seed, n, m, eps):
        _, C, a, b = drawn(seed, n, m)
        there, back = sinkhorn(C, a, b, reg=eps), sinkhorn(C.T, b, a, reg=eps)
        assert_allclose(back.plan.T, there.plan, atol=1e-8)
        assert_allclose(back.value, there.value, atol=1e-9)

    @settings(deadline=None, max_examples=25)
    @given(seeds, sizes, sizes, regs, st.sampled_from(METHODS))
    def test_marginals_of_the_plan_are_the_weights_whatever_the_method(self, seed, n, m, eps, method):
        _, C, a, b = drawn(seed, n, m)
        result = sinkhorn(C, a, b, reg=eps, method=method)
        assert result.converged and marginal_error(result.plan, a, b) <= 1.001e-9
        assert not result.plan[a == 0].any() and not result.plan[:, b == 0].any()
        assert np.isfinite(result.f).all() and np.isfinite(result.g).all()


class TestLimits:
    @pytest.mark.parametrize("eps", [1e-2, 1e-3, 2e-4])
    def test_the_linear_cost_is_within_eps_log_n_of_the_assignment(self, rng, eps):
        n = 40
        C = rng.random((n, n))
        exact = C[linear_sum_assignment(C)].mean()
        result = sinkhorn(C, reg=eps)
        # a plan that misses its marginals by 1e-9 can undercut the exact cost by that
        assert -2e-9 <= result.linear_cost - exact <= eps * np.log(n)

    @pytest.mark.parametrize("method", ["auto", *METHODS])
    def test_the_plan_becomes_the_assignment_at_one_millionth_of_the_greatest_cost(self, rng, method):
        # optimal gaps of 12 random points are far above eps
        C = rng.random((12, 12))
        rows, columns = linear_sum_assignment(C)
        result = sinkhorn(C, reg=1e-6, reg_scale="max", method=method, tol=1e-7)
        expected = np.zeros_like(C)
        expected[rows, columns] = 1 / 12
        assert_allclose(result.plan, expected, atol=1e-6)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_plan_becomes_the_product_at_a_million_times_the_greatest_cost(self, problem, method):
        result = sinkhorn(problem.C, problem.a, problem.b, reg=1e6, reg_scale="max", method=method)
        product = np.outer(problem.a, problem.b)
        assert_allclose(result.plan, product, rtol=3e-6)  # exp(2 max C / eps)
        assert_allclose(result.value, np.sum(product * problem.C), rtol=2e-6)

    @pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
    @pytest.mark.parametrize("method", ["auto", *METHODS])
    @pytest.mark.parametrize("eps", [10.0, 0.1, 1e-3])
    def test_a_single_source_or_target_leaves_no_choice_and_takes_one_iteration(self, rng, weights, shape, method, eps):
        C, a, b = rng.random(shape), weights(rng, shape[0]), weights(rng, shape[1])
        result = sinkhorn(C, a, b, reg=eps, method=method)
        assert_allclose(result.plan, np.outer(a, b), rtol=1e-9)
        assert result.n_iter <= 1 and result.converged

    @pytest.mark.parametrize("method", METHODS)
    def test_a_constant_cost_gives_the_product(self, problem, method):
        C = np.full((23, 31), 4.0)
        result = sinkhorn(C, problem.a, problem.b, reg=0.01, method=method)
        assert_allclose(result.plan, np.outer(problem.a, problem.b), rtol=1e-9)
        assert_allclose(result.value, 4.0, rtol=1e-12)

    @pytest.mark.parametrize("scale", ["mean", "max"])
    def test_a_zero_cost_has_reg_itself_as_its_scale(self, scale):
        result = sinkhorn(np.zeros((3, 4)), reg=0.25, reg_scale=scale)
        assert result.reg == 0.25 and result.value == pytest.approx(0, abs=1e-15)


class TestGradients:
    """Central differences with h = 1e-5 against the envelope theorem: truncation h^2, rounding 1e-15 / h."""

    H = 1e-5

    def slope(self, value):
        return (value(self.H) - value(-self.H)) / (2 * self.H)

    def test_the_plan_is_the_derivative_by_the_cost(self, rng, problem):
        C, a, b = problem.C, problem.a, problem.b
        D = rng.normal(size=C.shape)
        slope = self.slope(lambda t: sinkhorn(C + t * D, a, b, reg=0.1, tol=1e-13).value)
        assert_allclose(slope, np.sum(sinkhorn(C, a, b, reg=0.1, tol=1e-13).plan * D), rtol=1e-6)

    def test_the_divergence_from_the_product_is_the_derivative_by_eps(self, oracle, problem):
        C, a, b = problem.C, problem.a, problem.b
        slope = self.slope(lambda t: sinkhorn(C, a, b, reg=0.1 + t, tol=1e-13).value)
        P = sinkhorn(C, a, b, reg=0.1, tol=1e-13).plan
        assert_allclose(slope, oracle.kl(P, np.outer(a, b)), rtol=1e-6)

    def test_the_potentials_are_the_derivatives_by_the_weights_along_sum_zero_even_where_a_weight_is_zero(
        self, rng, problem
    ):
        C, a, b = problem.C, problem.a, problem.b
        da, db = rng.normal(size=23), rng.normal(size=31)
        da, db = a * (da - a @ da), b * (db - b @ db)
        result = sinkhorn(C, a, b, reg=0.1, tol=1e-13)
        by_a = self.slope(lambda t: sinkhorn(C, a + t * da, b, reg=0.1, tol=1e-13).value)
        by_b = self.slope(lambda t: sinkhorn(C, a, b + t * db, reg=0.1, tol=1e-13).value)
        assert_allclose([by_a, by_b], [result.f @ da, result.g @ db], rtol=1e-6)

    def test_potentials_of_empty_points_are_one_sided_derivatives(self, problem):
        C, a, b, h = problem.C, problem.a.copy(), problem.b.copy(), 1e-6
        a[3] = b[5] = 0
        a, b = a / a.sum(), b / b.sum()
        result = sinkhorn(C, a, b, reg=0.1, tol=1e-13)
        da, db = np.eye(23)[3] - a, np.eye(31)[5] - b
        by_a = (sinkhorn(C, a + h * da, b, reg=0.1, tol=1e-13).value - result.value) / h
        by_b = (sinkhorn(C, a, b + h * db, reg=0.1, tol=1e-13).value - result.value) / h
        # one-sided: the error is h times the second derivative, of order eps / a = 1
        assert_allclose([by_a, by_b], [result.f @ da, result.g @ db], rtol=1e-4)


class TestUnbalanced:
    @pytest.mark.parametrize("rho", [1.0, 0.05, (0.3, 2.0), (0.5, np.inf), (np.inf, 0.5)])
    @pytest.mark.parametrize("method", ["log", "kernel"])
    def test_plan_and_value_are_those_of_the_textbook_iteration_and_primal_equals_dual(
        self, oracle, problem, rho, method
    ):
        C, a, b, eps = problem.C, 2 * problem.a, problem.b, 0.1
        pair = rho if isinstance(rho, tuple) else (rho, rho)
        if np.inf in pair:
            a = a / 2
        _, _, P = oracle.solve(C, a, b, eps, pair)
        result = sinkhorn(C, a, b, reg=eps, marginal_reg=rho, method=method, tol=1e-12)
        assert result.converged
        assert_allclose(result.plan, P, atol=1e-11)
        assert_allclose(result.value, oracle.primal(P, C, a, b, eps, pair), rtol=1e-10)
        assert_allclose(result.dual_value, result.value, rtol=1e-10)

    def test_the_marginal_error_is_the_optimality_residual(self, problem):
        C, a, b = problem.C, 2 * problem.a, problem.b
        with pytest.warns(ConvergenceWarning):
            result = sinkhorn(C, a, b, reg=0.1, marginal_reg=(0.5, 2.0), max_iter=3)
        P = result.plan
        rows, columns = P.sum(1) - a * np.exp(-result.f / 0.5), P.sum(0) - b * np.exp(-result.g / 2.0)
        assert_allclose(result.marginal_error, abs(rows).sum() + abs(columns).sum(), rtol=1e-10)

    def test_semi_relaxed_transport_keeps_the_hard_marginal(self, problem):
        result = sinkhorn(problem.C, problem.a, problem.b, reg=0.1, marginal_reg=(np.inf, 0.1))
        assert_allclose(result.plan.sum(1), problem.a, atol=1e-9)
        assert abs(result.plan.sum(0) - problem.b).max() > 1e-3

    @pytest.mark.parametrize("method", ["log", "kernel"])
    def test_a_large_rho_recovers_balanced_transport(self, problem, method):
        C, a, b = problem.C, problem.a, problem.b
        balanced = sinkhorn(C, a, b, reg=0.1)
        soft = sinkhorn(C, a, b, reg=0.1, marginal_reg=1e6, method=method)
        hard = sinkhorn(C, a, b, reg=0.1, marginal_reg=np.inf, method=method)
        assert_allclose(soft.plan, balanced.plan, atol=1e-6)  # first order in C / rho
        assert_allclose(soft.value, balanced.value, rtol=1e-5)
        assert_allclose(hard.plan, balanced.plan, atol=1e-8)

    @pytest.mark.parametrize("rho", [(1.0, 1.0), (0.3, 4.0), (np.inf, 2.0)])
    def test_one_point_each_has_a_closed_form(self, rho):
        a, b, C, eps = 3.0, 0.5, 1.7, 0.4
        result = sinkhorn([[C]], [a], [b], reg=eps, marginal_reg=rho, tol=1e-13)
        if rho[0] == np.inf:
            expected = np.log(a)
        else:
            expected = (eps * np.log(a * b) + rho[0] * np.log(a) + rho[1] * np.log(b) - C) / (eps + sum(rho))
        assert_allclose(np.log(result.plan), [[expected]], atol=1e-11)

    @pytest.mark.parametrize(("rho", "share"), [(10.0, 0.5), (100.0, 0.15)])
    def test_translation_saves_most_iterations(self, rng, rho, share):
        # verified for eps = 0.5: 198 -> 65 at rho = 10, 1881 -> 121 at rho = 100; plainly (rho / (rho + eps))^2 a step
        X, Y, eps = rng.normal(size=(40, 2)), rng.normal(size=(50, 2)) + 1, 0.5
        C = ((X[:, None] - Y[None]) ** 2).sum(-1)
        a, b = rng.random(40) / 20, rng.random(50) / 20
        k, f, g, plain = rho / (rho + eps), np.zeros(40), np.zeros(50), 0
        error = np.inf
        while error > 1e-9:
            f_old, g_old, plain = f, g, plain + 1
            f = -k * eps * np.log(np.exp((g - C) / eps) @ b)
            g = -k * eps * np.log(np.exp((f[:, None] - C) / eps).T @ a)
            error = max(abs(f - f_old).max(), abs(g - g_old).max())
        result = sinkhorn(C, a, b, reg=eps, marginal_reg=rho, method="log")
        assert result.converged and result.n_iter < share * plain


class TestPrecision:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("eps", [0.3, 0.03])
    def test_float32_gives_the_value_of_float64_to_1e_4(self, problem, method, eps):
        C, a, b = problem.C, problem.a, problem.b
        double = sinkhorn(C, a, b, reg=eps)
        single = sinkhorn(C.astype(np.float32), a, b, reg=eps, method=method)
        assert_allclose(single.value, double.value, rtol=1e-4)
        assert_allclose(single.linear_cost, double.linear_cost, rtol=1e-4)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("form", ["stored", "cloud"])
    def test_float32_stays_float32(self, clouds, method, form):
        X, Y = clouds.X.astype(np.float32), clouds.Y.astype(np.float32)
        cost = PointCloudCost(X, Y) if form == "cloud" else clouds.C.astype(np.float32)
        result = sinkhorn(cost, reg=0.1, method=method)
        arrays = [result.f, result.g, result.plan, result.apply(Y), result.apply(X, transpose=True)]
        arrays.append(result.sparse_plan())
        assert {x.dtype for x in arrays} == {np.dtype(np.float32)}

    def test_float32_stays_float32_on_a_grid(self):
        result = sinkhorn(GridCost([np.linspace(0, 1, 5, dtype=np.float32)]), reg=0.1)
        arrays = [result.f, result.g, result.plan, result.apply(np.ones(5, np.float32)), result.sparse_plan()]
        assert {x.dtype for x in arrays} == {np.dtype(np.float32)}

    def test_integers_become_float64(self):
        result = sinkhorn(np.arange(6).reshape(2, 3), reg=1)
        assert result.f.dtype == result.plan.dtype == np.float64

    def test_float32_weights_leave_a_float64_cost_float64(self, problem):
        a = problem.a.astype(np.float32)
        assert sinkhorn(problem.C, a / a.sum(dtype=np.float64), reg=0.1).plan.dtype == np.float64

    def test_the_tolerance_is_1e_9_in_float64_and_1e_5_in_float32(self, problem):
        for dtype, tol in ((np.float64, 1e-9), (np.float32, 1e-5)):
            errors = sinkhorn(problem.C.astype(dtype), reg=0.05, relaxation=1.0).history["error"]
            assert errors[-1] <= tol < errors[-2]

    def test_a_tolerance_that_float32_cannot_reach_ends_with_a_warning_that_names_the_floor(self, problem):
        with pytest.warns(ConvergenceWarning, match=r"below about \d") as caught:
            result = sinkhorn(problem.C.astype(np.float32), reg=0.01, method="log", tol=1e-12)
        assert not result.converged and result.n_iter < 10_000 and len(caught) == 1
        assert result.marginal_error < 1e-4 and np.isfinite(result.plan).all()

    def test_float32_at_a_small_eps_reaches_1e_5_on_a_stored_cost(self, rng):
        # unreduced, exponents of 1000 carry errors of 1e-4; reduced costs carry 1e-6
        C = rng.random((60, 60))
        exact = sinkhorn(C, reg=1e-3)
        single = sinkhorn(C.astype(np.float32), reg=1e-3, method="log", max_iter=50_000)
        assert single.converged
        assert_allclose(single.value, exact.value, rtol=1e-4)

    def test_float32_storage_of_a_float64_cost_ends_at_the_float64_solution(self, problem):
        plain, stored = (sinkhorn(problem.C, problem.a, reg=0.05, storage=s) for s in (None, "float32"))
        assert stored.converged and stored.marginal_error <= 1e-9
        assert stored.plan.dtype == np.float64
        assert_allclose(stored.plan, plain.plan, atol=1e-8)
        assert_allclose(stored.value, plain.value, rtol=1e-9)

    def test_float64_storage_of_a_float32_cost_reaches_1e_9(self, problem):
        result = sinkhorn(problem.C.astype(np.float32), reg=0.05, storage="float64")
        assert result.converged and result.marginal_error <= 1e-9


class TestStarts:
    @pytest.mark.parametrize("method", ["auto", *METHODS])
    @pytest.mark.parametrize("eps", [0.1, 2e-3])
    def test_a_converged_result_passed_back_converges_in_two_iterations(self, problem, method, eps):
        C, a, b = problem.C, problem.a, problem.b
        first = sinkhorn(C, a, b, reg=eps, method=method)
        again = sinkhorn(C, a, b, reg=eps, method=method, init=first)
        assert again.converged and again.n_iter <= 2
        assert_allclose(again.plan, first.plan, atol=1e-8)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("given_", ["f", "g", "both"])
    def test_either_potential_is_enough_to_start_from(self, problem, method, given_):
        C, a, b = problem.C, problem.a, problem.b
        first = sinkhorn(C, a, b, reg=0.05)
        init = {"f": (first.f, None), "g": (None, first.g), "both": (first.f, first.g)}[given_]
        again = sinkhorn(C, a, b, reg=0.05, method=method, init=init)
        assert again.converged and again.n_iter <= 2

    def test_a_pair_of_nothing_is_a_cold_start(self, problem):
        cold, none = (sinkhorn(problem.C, reg=0.05, annealing=False, init=i) for i in (None, (None, None)))
        assert none.n_iter == cold.n_iter

    def test_an_unbalanced_result_passed_back_converges_in_two_iterations(self, problem):
        options = {"reg": 0.1, "marginal_reg": (0.5, 3.0)}
        first = sinkhorn(problem.C, problem.a, 2 * problem.b, **options)
        assert sinkhorn(problem.C, problem.a, 2 * problem.b, init=first, **options).n_iter <= 2

    @pytest.mark.parametrize("form", ["cloud", "grid", "float32"])
    def test_every_form_starts_warm(self, clouds, form):
        costs = {
            "cloud": PointCloudCost(clouds.X, clouds.Y),
            "grid": GridCost([np.linspace(0, 1, 9)]),
            "float32": clouds.C.astype(np.float32),
        }
        first = sinkhorn(costs[form], reg=0.05)
        assert sinkhorn(costs[form], reg=0.05, init=first).n_iter <= 2


class TestSchedule:
    def test_annealing_comes_down_by_factors_of_four_from_a_twentieth_of_the_spread(self, problem):
        spread = np.ptp(problem.C)
        eps = 0.004 * spread
        result = sinkhorn(problem.C, reg=eps, method="log")
        stages = list(dict.fromkeys(result.history["reg"]))
        assert_allclose(stages, [0.05 * spread, 0.0125 * spread, eps], rtol=1e-12)

    @pytest.mark.parametrize(("share", "annealing", "stages"), [(0.02, "auto", 1), (0.004, False, 1), (0.004, True, 3)])
    def test_annealing_is_on_below_one_percent_of_the_spread(self, problem, share, annealing, stages):
        eps = share * np.ptp(problem.C)
        with np.errstate(all="raise"):
            result = sinkhorn(problem.C, reg=eps, method="kernel", annealing=annealing, max_iter=50_000)
        assert len(set(result.history["reg"])) == stages

    def test_over_relaxation_saves_iterations_on_a_planar_cloud(self, rng):
        # verified: 73 at w = 1 and 22 at 1.5 for eps = 1e-2; 242 and 62 at 1.8 for eps = 3e-3; n = 400, tol 1e-6
        X, Y = rng.random((400, 2)), rng.random((400, 2))
        C = ((X[:, None] - Y[None]) ** 2).sum(-1)
        C /= C.max()

        def count(eps, relaxation):
            result = sinkhorn(
                C, reg=eps, relaxation=relaxation, tol=1e-6, method="kernel", annealing=False, max_iter=20_000
            )
            assert result.converged
            return result.n_iter

        plain, best, auto = (count(1e-2, w) for w in (1.0, 1.5, "auto"))
        assert best < 0.5 * plain and auto < 0.75 * plain
        plain, best, auto = (count(3e-3, w) for w in (1.0, 1.8, "auto"))
        assert best < 0.5 * plain and auto < 0.5 * plain

    @pytest.mark.parametrize("relaxation", [1.0, 1.3, 1.7, "auto"])
    @pytest.mark.parametrize("method", ["log", "kernel"])
    def test_relaxation_does_not_change_the_solution(self, oracle, problem, relaxation, method):
        C, a, b = problem.C, problem.a, problem.b
        result = sinkhorn(C, a, b, reg=0.05, relaxation=relaxation, method=method)
        assert result.converged
        assert_allclose(result.plan, oracle.solve(C, a, b, 0.05)[2], atol=1e-8)

    @pytest.mark.parametrize("method", ["log", "kernel"])
    def test_a_factor_too_large_to_converge_is_reported_and_brings_no_nan(self, problem, method):
        # over-relaxation converges locally for every factor below 2, and from afar for small ones only
        with pytest.warns(ConvergenceWarning):
            result = sinkhorn(problem.C, problem.a, reg=0.05, relaxation=1.99, method=method, max_iter=300)
        assert not result.converged and result.marginal_error > 1e-9
        assert np.isfinite(result.plan).all() and np.isfinite(result.value)

    def test_the_history_has_an_entry_an_iteration_and_ends_at_the_reported_error(self, problem):
        for method in METHODS:
            result = sinkhorn(problem.C, problem.a, reg=5e-3, method=method)
            assert {len(result.history[key]) for key in ("error", "dual_value", "reg")} == {result.n_iter}
            assert result.history["reg"][-1] == result.reg == 5e-3
            # the error of the last sweep against that of the returned pair: a gauge shift apart, a few roundings of C
            assert_allclose(result.history["error"][-1], result.marginal_error, atol=1e-13)
            assert_allclose(result.history["dual_value"][-1], result.dual_value, rtol=1e-12)


class TestCallback:
    @pytest.mark.parametrize("method", METHODS)
    def test_it_is_called_once_an_iteration_with_the_fields_of_the_result(self, problem, method):
        states = []
        result = sinkhorn(problem.C, problem.a, reg=5e-3, method=method, callback=states.append)
        assert [state.n_iter for state in states] == list(range(1, result.n_iter + 1))
        assert_allclose([state.marginal_error for state in states], result.history["error"])
        assert_allclose([state.dual_value for state in states], result.history["dual_value"])
        assert [state.reg for state in states] == list(result.history["reg"])
        assert_allclose(states[-1].f, result.f, atol=1e-12)
        assert_allclose(states[-1].g, result.g, atol=1e-12)

    @pytest.mark.parametrize("method", METHODS)
    def test_returning_true_stops_without_a_warning_and_unconverged(self, problem, method):
        result = sinkhorn(problem.C, reg=5e-3, method=method, tol=1e-12, callback=lambda state: state.n_iter == 2)
        assert result.n_iter == 2 and not result.converged and np.isfinite(result.plan).all()

    def test_true_in_the_very_iteration_that_converges_still_means_stopped(self, problem):
        result = sinkhorn(problem.C, reg=0.5, callback=lambda state: state.marginal_error <= 1e-9)
        assert not result.converged

    def test_other_answers_do_not_stop_it(self, problem):
        plain = sinkhorn(problem.C, reg=0.1)
        assert sinkhorn(problem.C, reg=0.1, callback=lambda state: "yes").n_iter == plain.n_iter

    def test_the_record_is_read_only(self, problem):
        def meddle(state):
            with pytest.raises(AttributeError):
                state.n_iter = 0
            with pytest.raises(ValueError):
                state.f[0] = 0
            with pytest.raises(ValueError):
                state.g += 1

        assert sinkhorn(problem.C, reg=0.1, callback=meddle).converged

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
    def test_an_exception_passes_through_and_leaves_the_inputs_as_they_were(self, problem, method, error):
        C, a, b = problem.C, problem.a, problem.b
        before = C.copy(), a.copy(), b.copy()

        def fail(state):
            raise error

        with pytest.raises(error):
            sinkhorn(C, a, b, reg=5e-3, method=method, callback=fail)
        assert all(np.array_equal(x, y) for x, y in zip((C, a, b), before, strict=True))

    @pytest.mark.parametrize("method", METHODS)
    def test_verbose_shows_a_bar_with_the_error(self, problem, method, capsys):
        sinkhorn(problem.C, reg=5e-3, method=method, verbose=1)
        captured = capsys.readouterr()
        assert "sinkhorn" in captured.err and "error=" in captured.err and captured.out == ""

    def test_it_is_silent_by_default(self, problem, capsys):
        sinkhorn(problem.C, reg=0.1)
        assert capsys.readouterr() == ("", "")


class TestHonesty:
    @pytest.mark.parametrize("method", METHODS)
    def test_running_out_of_iterations_is_said_once_in_a_warning_and_in_converged(self, problem, method):
        with pytest.warns(ConvergenceWarning, match="did not converge.*2 iterations") as caught:
            result = sinkhorn(problem.C, reg=2e-3, method=method, max_iter=2)
        assert not result.converged and result.n_iter == 2 and len(caught) == 1
        assert caught[0].filename == __file__

    def test_passes_count_the_sweeps(self, problem):
        result = sinkhorn(problem.C, reg=0.1, method="log")
        assert result.n_passes == result.n_iter
        newton = sinkhorn(problem.C, reg=1e-3, method="newton")
        assert newton.n_passes > newton.n_iter


def test_the_error_of_a_float32_cloud_at_small_eps_is_that_of_its_plan_in_exact_arithmetic(rng):
    X, Y = (rng.random((20, 2)).astype(np.float32) for _ in range(2))
    for solve, reg in ((sinkhorn, 0.01), (sinkhorn_newton, 1e-4)):
        result = solve(PointCloudCost(X, Y), reg=reg)
        f, g = result._potentials
        C = ((X.astype(float)[:, None] - Y.astype(float)[None]) ** 2).sum(-1)
        P = np.exp((f[:, None] + g[None] - C) / reg) / 400
        error = abs(P.sum(0) - 0.05).sum() + abs(P.sum(1) - 0.05).sum()
        assert result.converged and result.f.dtype == np.float32
        assert abs(error - result.marginal_error) < 1e-10 and error < 1e-5
