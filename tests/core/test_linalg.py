"""Linear algebra: brute force, closed forms, the laws of random estimates, strict arrays, bad input."""

import pickle

import array_api_strict
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import numcore
from numcore.linalg import (
    cg_iterations,
    cholesky_append,
    cholesky_delete,
    cholesky_update,
    diagonal_estimate,
    function_trace,
    jittered_cholesky,
    lanczos,
    nystrom,
    pivoted_cholesky,
    randomized_svd,
    solve_cg,
    spectral_density,
    trace_estimate,
    walsh_hadamard,
)
from numcore.results import ConvergenceWarning

strict = array_api_strict.asarray
properties = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", exc_type=ImportError)
    with numcore.backend(request.param):
        yield request.param


def spd(n, cond=100.0, seed=0):
    """A random symmetric matrix with eigenvalues from 1 to `cond`."""
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    A = Q * np.geomspace(1, cond, n) @ Q.T
    return (A + A.T) / 2


def forms(A):
    """The same matrix as everything that may be called an operator."""
    return [A, A.tolist(), scipy.sparse.csr_matrix(A), scipy.sparse.csr_array(A), aslinearoperator(A), strict(A)]


class TestJitteredCholesky:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_nothing_is_added_to_what_is_positive_definite(self, dtype):
        A = spd(20).astype(dtype)
        L, jitter = jittered_cholesky(A)
        assert jitter == 0.0 and L.dtype == dtype and not np.triu(L, 1).any()
        np.testing.assert_allclose(L, np.linalg.cholesky(A), rtol=1e-3 if dtype == "float32" else 1e-10)

    @pytest.mark.parametrize(("dtype", "share"), [("float32", 1e-7), ("float64", 1e-12)])
    def test_the_least_rung_of_the_ladder_that_suffices_is_added(self, dtype, share):
        for missing in (0.5, 3.0, 300.0):
            A = 4 * np.eye(3, dtype=dtype)
            A[2, 2] = -missing * share * 8 / 3  # a pivot that the mean of the diagonal, 8 / 3, has to lift
            L, jitter = jittered_cholesky(A)
            rung = 1 if missing < 1 else 10 if missing < 10 else 1000
            assert jitter == pytest.approx(rung * share * 8 / 3, rel=1e-4)
            np.testing.assert_allclose(L @ L.T, A + jitter * np.eye(3), rtol=1e-5, atol=share)

    def test_an_indefinite_matrix_is_refused_with_its_pivot(self):
        A = spd(6)
        A[4, 4] = A[4, :4] @ np.linalg.solve(A[:4, :4], A[:4, 4]) - 3
        with pytest.raises(np.linalg.LinAlgError, match=r"pivot in row 4 is -3"):
            jittered_cholesky(A)
        with pytest.raises(np.linalg.LinAlgError, match="row 0"):
            jittered_cholesky(np.zeros((2, 2)))

    def test_the_pivot_is_right_where_the_rows_above_it_are_nearly_dependent(self):
        n = 12
        L = np.tril(np.random.default_rng(0).normal(size=(n, n)), -1) + np.diag(np.geomspace(1, 0.1, n))
        A = L @ L.T
        A[9, 9] -= L[9, 9] ** 2 + 0.25
        with pytest.raises(np.linalg.LinAlgError, match=r"pivot in row 9 is -0.25"):
            jittered_cholesky(A, max_jitter=0)

    def test_the_mean_of_a_large_float32_diagonal_does_not_overflow(self):
        L, jitter = jittered_cholesky(np.full((40, 40), 3e37, np.float32))
        assert np.isfinite(L).all() and jitter == pytest.approx(3e30, rel=1e-5)

    def test_only_the_lower_triangle_is_used_and_the_input_is_kept(self):
        A = np.tril(spd(5))
        before = A.copy()
        np.testing.assert_allclose(jittered_cholesky(A)[0], np.linalg.cholesky(spd(5)), rtol=1e-12)
        assert np.array_equal(A, before)

    def test_strict_arrays_go_through(self):
        L, jitter = jittered_cholesky(strict(spd(4)))
        np.testing.assert_allclose(np.asarray(L), np.linalg.cholesky(spd(4)))
        L, jitter = jittered_cholesky(strict(np.ones((3, 3))))
        assert jitter > 0


class TestChangedCholesky:
    @properties
    @given(n=st.integers(1, 30), k=st.integers(1, 4), seed=st.integers(0, 10**6), size=st.floats(1e-6, 1e6))
    def test_an_update_is_the_factor_of_the_sum(self, backend, n, k, seed, size):
        A, X = spd(n, seed=seed), size * np.random.default_rng(seed).normal(size=(n, k))
        L = np.linalg.cholesky(A)
        new = cholesky_update(L, X)
        total = A + X @ X.T
        assert not np.triu(new, 1).any() and (np.diag(new) > 0).all()
        np.testing.assert_allclose(new @ new.T, total, atol=1e-13 * n * np.abs(total).max())
        assert np.array_equal(L, np.linalg.cholesky(A))

    @properties
    @given(n=st.integers(1, 25), seed=st.integers(0, 10**6), data=st.data())
    def test_deleted_rows_are_gone(self, backend, n, seed, data):
        A = spd(n, seed=seed)
        gone = data.draw(st.lists(st.integers(-n, n - 1), unique_by=lambda i: i % n, max_size=n))
        L = cholesky_delete(np.linalg.cholesky(A), gone)
        stay = np.setdiff1d(np.arange(n), np.mod(gone, n) if gone else [])
        assert L.shape == (len(stay), len(stay)) and not np.triu(L, 1).any()
        np.testing.assert_allclose(L @ L.T, A[np.ix_(stay, stay)], atol=1e-12 * 100)

    @pytest.mark.parametrize("n", [0, 1, 7])
    @pytest.mark.parametrize("b", [1, 3])
    def test_appended_rows_give_the_factor_of_the_whole(self, n, b):
        A = spd(n + b)
        L = cholesky_append(np.linalg.cholesky(A[:n, :n]) if n else np.zeros((0, 0)), A[:n, n:], A[n:, n:])
        np.testing.assert_allclose(L, np.linalg.cholesky(A), atol=1e-12 * 100)

    def test_append_then_delete_is_nothing(self, backend):
        A = spd(9)
        L = np.linalg.cholesky(A[:8, :8])
        back = cholesky_delete(cholesky_append(L, A[:8, 8], A[8, 8]), 8)
        np.testing.assert_allclose(back, L, atol=1e-13)

    def test_a_thousand_updates_and_deletions_do_not_drift(self, backend):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(300, 10)) * 10.0 ** rng.integers(-3, 4, (300, 1))
        K = lambda G: G @ G.T + 1e-3 * np.eye(len(G))  # noqa: E731
        L = np.linalg.cholesky(K(rows[:8]))
        for t in range(8, 300):
            L = cholesky_delete(L, 0)
            window = rows[t - 7 : t]
            L = cholesky_append(L, window @ rows[t], rows[t] @ rows[t] + 1e-3)
        np.testing.assert_allclose(L @ L.T, K(rows[292:]), rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_dtypes_are_kept(self, backend, dtype):
        L = np.linalg.cholesky(spd(5)).astype(dtype)
        for changed in (cholesky_update(L, np.ones(5)), cholesky_append(L, np.zeros(5), 1.0), cholesky_delete(L, [1])):
            assert changed.dtype == dtype

    def test_an_update_in_place_uses_the_memory_given(self, backend):
        A = spd(6)
        L = np.asfortranarray(np.linalg.cholesky(A))
        result = cholesky_update(L, np.ones(6), copy=False)
        assert np.shares_memory(result, L)
        np.testing.assert_allclose(L @ L.T, A + 1, atol=1e-12 * 100)
        with pytest.raises(ValueError, match="Fortran"):
            cholesky_update(np.ascontiguousarray(L), np.ones(6), copy=False)

    def test_strict_arrays_go_through(self):
        A = spd(5)
        L = strict(np.linalg.cholesky(A))
        updated = np.asarray(cholesky_update(L, strict(np.ones(5))))
        np.testing.assert_allclose(updated @ updated.T, A + 1, atol=1e-11)
        shorter = np.asarray(cholesky_delete(L, [1, 3]))
        stay = np.ix_([0, 2, 4], [0, 2, 4])
        np.testing.assert_allclose(shorter @ shorter.T, A[stay], atol=1e-11)
        longer = np.asarray(cholesky_append(L, strict(np.zeros((5, 1))), strict(np.ones((1, 1)))))
        np.testing.assert_allclose(longer @ longer.T, scipy.linalg.block_diag(A, 1), atol=1e-11)

    def test_bad_input_is_named(self):
        L = np.eye(3)
        for call, error, match in (
            (lambda: cholesky_update(np.ones((2, 3)), np.ones(2)), ValueError, "L must be square"),
            (lambda: cholesky_update(L, np.ones(2)), ValueError, "x must have shape"),
            (lambda: cholesky_update(L, [1, np.nan, 0]), ValueError, "x must be finite; 1 of its 3"),
            (lambda: cholesky_update(L, np.ones(3), copy="no"), ValueError, "copy"),
            (lambda: cholesky_append(L, np.ones((3, 2)), np.eye(3)), ValueError, r"C must have shape \(2, 2\)"),
            (lambda: cholesky_append(L, np.ones(3), 1.0), np.linalg.LinAlgError, "positive definite"),
            (lambda: cholesky_delete(L, 3), IndexError, "indices must lie"),
            (lambda: cholesky_delete(L, [0, -3]), ValueError, "distinct"),
            (lambda: cholesky_delete(L, [0.5]), TypeError, "integers"),
            (lambda: jittered_cholesky(np.ones((2, 3))), ValueError, "A must be square"),
            (lambda: jittered_cholesky(np.eye(2) * 1j), TypeError, "A must be real"),
        ):
            with pytest.raises(error, match=match):
                call()


class TestCG:
    def test_every_form_of_operator_gives_the_solution(self):
        A, b = spd(12), np.arange(12.0)
        for form in forms(A):
            right = strict(b) if form is not A and hasattr(form, "__array_namespace__") else b
            result = solve_cg(form, right, tol=1e-12)
            np.testing.assert_allclose(np.asarray(result.x), np.linalg.solve(A, b), rtol=1e-8, atol=1e-8)
            assert result.converged and not result.negative_curvature
            assert result.residual_norm <= 1e-12 * np.linalg.norm(b)
            assert result.history["residual"].shape == (result.n_iter,)

    @pytest.mark.parametrize("distinct", [1, 3, 6])
    def test_as_many_iterations_as_distinct_eigenvalues_are_enough(self, distinct):
        A = np.diag(np.resize(np.arange(1.0, distinct + 1), 40))
        assert solve_cg(A, np.ones(40), tol=1e-10).n_iter == distinct

    def test_the_error_falls_as_the_condition_number_says(self):
        # |e_k|_A <= 2 ((sqrt(c) - 1) / (sqrt(c) + 1))^k |e_0|_A
        A, b = spd(80, cond=50.0), np.ones(80)
        x = np.linalg.solve(A, b)
        rate = (50**0.5 - 1) / (50**0.5 + 1)
        for at in cg_iterations(lambda p: A @ p, b, targets=1e-8):
            e = at.x - x
            assert e @ A @ e <= (2 * rate**at.n_iter) ** 2 * (x @ A @ x) * (1 + 1e-8)

    def test_columns_have_their_own_course_and_end(self):
        A, B = spd(30, cond=1e3), np.random.default_rng(1).normal(size=(30, 4)) * [1, 1e-5, 1e5, 0]
        together = solve_cg(A, B, tol=1e-9)
        alone = [solve_cg(A, b, tol=1e-9) for b in B.T]
        for k, one in enumerate(alone):
            np.testing.assert_allclose(together.x[:, k], one.x, rtol=1e-5, atol=1e-7 * abs(one.x).max())
        # the products of a matrix and of a column round apart, which may shift an end
        assert abs(together.n_iter - max(one.n_iter for one in alone)) <= 2
        assert together.residual_norm.shape == (4,) and not together.x[:, 3].any()

    def test_damping_is_added_to_the_diagonal(self):
        A, b = spd(10), np.ones(10)
        x = solve_cg(A, b, damp=3.0, tol=1e-12).x
        np.testing.assert_allclose(x, np.linalg.solve(A + 3 * np.eye(10), b), rtol=1e-8)

    def test_preconditioners_of_all_forms_do_the_same(self):
        rng = np.random.default_rng(2)
        scale = np.geomspace(1, 1e3, 40)
        A = spd(40, cond=10) * scale[:, None] * scale
        b = rng.normal(size=40)
        d = np.diag(A)
        plain = solve_cg(A, b, tol=1e-8, max_iter=10**5)
        inverse = np.diag(1 / d)
        for given_ in (d, inverse, aslinearoperator(inverse), lambda r: r / d):
            result = solve_cg(A, b, tol=1e-8, preconditioner=given_)
            np.testing.assert_allclose(A @ result.x, b, atol=1e-5)
            assert result.n_iter < plain.n_iter / 2
        exact = solve_cg(A, b, preconditioner=np.linalg.inv(A), tol=1e-8)
        assert exact.n_iter <= 2
        columns = solve_cg(A, np.stack([b, b], axis=1), preconditioner=d)
        np.testing.assert_allclose(columns.x[:, 0], columns.x[:, 1], rtol=1e-12)

    def test_negative_curvature_is_said_and_the_best_iterate_returned(self):
        A = np.diag([4.0, 1.0, -1.0])
        with pytest.warns(ConvergenceWarning, match="negative curvature"):
            result = solve_cg(A, np.array([4.0, 1.0, 0.5]))
        assert result.negative_curvature and not result.converged
        assert np.linalg.norm(A @ result.x - [4, 1, 0.5]) <= np.linalg.norm([4, 1, 0.5])
        with pytest.warns(ConvergenceWarning):
            assert solve_cg(-np.eye(2), np.ones(2)).negative_curvature
        with pytest.warns(ConvergenceWarning):
            assert solve_cg(np.zeros((2, 2)), np.ones(2)).negative_curvature

    def test_the_curvature_floor_stops_before_a_singular_direction(self):
        A = np.diag([1.0, 1.0, 1e-18])
        steps = list(cg_iterations(lambda p: A @ p, np.ones(3), curvature_floor=1e-16))
        assert steps[-1].stopped and abs(steps[-1].x).max() < 10
        floors = np.array([0.0, 0.0, 1e-16])
        steps = list(cg_iterations(lambda p: A @ p, np.ones((3, 1)), curvature_floor=floors))
        assert steps[-1].stopped.all() and abs(steps[-1].x).max() < 10

    def test_the_coefficients_make_the_lanczos_matrix(self):
        A, b = spd(12), np.ones(12)
        steps = list(cg_iterations(lambda p: A @ p, b, targets=1e-10))[:8]
        alpha, beta = (np.array([float(getattr(s, name)) for s in steps]) for name in ("alpha", "beta"))
        diagonal = 1 / alpha + np.append(0, beta[:-1] / alpha[:-1])
        T = lanczos(A, 8, v0=b)
        np.testing.assert_allclose(diagonal, T.alpha, rtol=1e-8)
        np.testing.assert_allclose((beta[:-1] ** 0.5 / alpha[:-1]), T.beta, rtol=1e-8)

    def test_iterations_run_out_with_a_warning_and_the_best_iterate(self):
        A, b = spd(60, cond=1e8), np.ones(60)
        with pytest.warns(ConvergenceWarning, match="all 7 iterations"):
            result = solve_cg(A, b, max_iter=7)
        assert not result.converged and result.n_iter == 7
        assert result.residual_norm == pytest.approx(np.linalg.norm(b - A @ result.x), rel=1e-6)
        lengths = []
        for at in cg_iterations(lambda p: A @ p, b):
            lengths.append(at.residual_norm)
            if at.n_iter == 7:
                break
        np.testing.assert_allclose(result.history["residual"], np.array(lengths) / 60**0.5)
        assert max(lengths) > lengths[0]  # the history is that of the iterates, which may get worse
        assert result.residual_norm == min([60**0.5, *lengths])

    def test_a_good_start_needs_no_iteration(self):
        A, b = spd(5), np.ones(5)
        x = np.linalg.solve(A, b)
        result = solve_cg(A, b, x0=x)
        assert result.converged and result.n_iter == 0 and np.array_equal(result.x, x) and result.x is not x
        assert solve_cg(A, np.zeros(5)).n_iter == 0

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_dtypes_are_kept(self, dtype):
        result = solve_cg(spd(8).astype(dtype), np.ones(8, dtype), tol=1e-4)
        assert result.x.dtype == dtype

    @pytest.mark.parametrize("columns", [False, True])
    @pytest.mark.parametrize(
        ("dtype", "scale"),
        [("float64", s) for s in (1e-250, 1e-160, 1e160, 1e290)] + [("float32", s) for s in (1e-30, 1e-20, 1e20, 1e30)],
    )
    def test_right_sides_whose_squares_do_not_fit_are_solved_as_well(self, dtype, scale, columns):
        A, b = spd(15).astype(dtype), np.linspace(1, 2, 15).astype(dtype)
        tol = 1e-5 if dtype == "float32" else 1e-10
        big = (np.stack([b, b], axis=1) * np.array([scale, 1]) if columns else scale * b).astype(dtype)
        plain, result = solve_cg(A, b, tol=tol), solve_cg(A, big, tol=tol)
        x = result.x[:, 0] if columns else result.x
        assert result.converged and abs(result.n_iter - plain.n_iter) <= 1 and x.dtype == dtype
        np.testing.assert_allclose(A @ (x / x.dtype.type(scale)), b, rtol=100 * 100 * tol)
        again = solve_cg(A, big, tol=tol, x0=result.x)
        assert again.n_iter <= 5 and again.converged

    def test_an_exact_start_of_another_size_is_kept(self):
        A = np.diag([1e-300, 2e-300])
        assert np.array_equal(solve_cg(A, A @ np.ones(2), x0=np.ones(2)).x, np.ones(2))

    def test_a_history_without_iterations_is_empty(self):
        assert solve_cg(np.eye(3), np.zeros(3)).history["residual"].shape == (0,)

    def test_a_preconditioner_that_is_not_positive_definite_is_blamed(self):
        for bad in (-np.eye(3), np.zeros((3, 3))):
            with pytest.warns(ConvergenceWarning, match="the preconditioner is not positive definite"):
                result = solve_cg(np.eye(3), np.ones(3), preconditioner=bad)
            assert not result.converged and not result.negative_curvature

    def test_the_callback_sees_the_iterates_and_an_exception_in_it_passes(self):
        A, b, seen = spd(9), 1e200 * np.ones(9), []
        solve_cg(A, b, callback=lambda s: seen.append(s))
        for state in seen:
            assert np.linalg.norm(A @ (state.x / 1e200) - 1) == pytest.approx(state.residual_norm / 1e200, abs=1e-12)
            assert state.residual == pytest.approx(state.residual_norm / 3e200) and not state.x.flags.writeable
        with pytest.raises(ZeroDivisionError):
            solve_cg(A, b, callback=lambda s: 1 / 0)

    def test_matrices_and_tables_are_read_as_arrays(self):
        class Table:
            """As a data frame: it has a shape and products, and its values can be read."""

            shape = (6, 6)

            def __array__(self, dtype=None, copy=None):
                return A

            def __matmul__(self, other):
                raise AssertionError

        A, b = spd(6), np.ones(6)
        with pytest.warns(PendingDeprecationWarning):
            matrix = np.matrix(A)
        for form in (matrix, Table()):
            np.testing.assert_allclose(solve_cg(form, b).x, solve_cg(A, b).x)

    def test_columns_in_float32_add_up_in_float64(self):
        n = 200_000
        b = np.full((n, 1), 0.1, np.float32)
        at = next(cg_iterations(lambda p: 2 * p, b, x0=np.zeros_like(b), targets=0.0))
        assert at.alpha[0] == pytest.approx(0.5, rel=1e-6) and at.x.dtype == np.float32
        with pytest.warns(ConvergenceWarning):
            result = solve_cg(aslinearoperator(scipy.sparse.diags_array(np.linspace(1, 2, n))), b, max_iter=1)
        r = b[:, 0].astype(float) - np.linspace(1, 2, n) * result.x[:, 0]
        assert result.residual_norm[0] == pytest.approx(np.linalg.norm(r), rel=1e-5)

    def test_the_callback_may_stop(self):
        seen = []
        result = solve_cg(spd(9), np.ones(9), callback=lambda s: seen.append((s.x.shape, s.residual)) or s.n_iter == 2)
        assert result.n_iter == 2 and not result.converged and seen[0][0] == (9,)

    def test_results_pickle(self):
        result = pickle.loads(pickle.dumps(solve_cg(np.eye(2), np.ones(2))))
        assert np.array_equal(result.x, [1, 1])

    def test_bad_input_is_named(self):
        I = np.eye(3)  # noqa: E741
        broken = LinearOperator((3, 3), matvec=lambda v: v * np.nan, dtype=float)
        for call, error, match in (
            (lambda: solve_cg(np.ones((2, 3)), np.ones(2)), ValueError, "A must be square"),
            (lambda: solve_cg(I, np.ones(2)), ValueError, "b must have shape"),
            (lambda: solve_cg(I, [1, np.inf, 0]), ValueError, "b must be finite; 1 of its 3"),
            (lambda: solve_cg(I * np.nan, np.ones(3)), ValueError, "A must be finite; 9 of its 9"),
            (lambda: solve_cg(I * 1j, np.ones(3)), TypeError, "A must be real"),
            (lambda: solve_cg(scipy.sparse.csr_array(I * 1j), np.ones(3)), TypeError, "A must be real"),
            (lambda: solve_cg(I, np.ones(3), damp=-1), ValueError, "damp"),
            (lambda: solve_cg(I, np.ones(3), tol=0), ValueError, "tol"),
            (lambda: solve_cg(I, np.ones(3), max_iter=0), ValueError, "max_iter"),
            (lambda: solve_cg(I, np.ones(3), x0=np.ones(2)), ValueError, "x0 must have shape"),
            (lambda: solve_cg(I, np.ones(3), preconditioner=np.ones(2)), ValueError, "preconditioner"),
            (
                lambda: solve_cg(I, np.ones(3), preconditioner=-np.ones(3)),
                ValueError,
                "preconditioner must be positive",
            ),
            (lambda: solve_cg(I, np.ones(3), preconditioner=np.eye(2)), ValueError, "preconditioner"),
            (lambda: solve_cg(broken, np.ones(3)), ValueError, "A @ x must be finite; 3 of its 3"),
            (lambda: solve_cg(np.diag([1, np.inf, 1]), np.ones(3)), ValueError, "A must be finite; 1 of its 9"),
            (lambda: solve_cg([[1, np.nan], [0, 1]], np.ones(2)), ValueError, "A must be finite; 1 of its 4"),
        ):
            with pytest.raises(error, match=match):
                call()


class TestLanczos:
    @properties
    @given(n=st.integers(1, 40), k=st.integers(1, 50), seed=st.integers(0, 10**6))
    def test_the_basis_is_orthonormal_and_tridiagonalises(self, n, k, seed):
        A = spd(n, cond=1e6, seed=seed)
        T = lanczos(A, k, rng=seed)
        Q = T.basis
        assert T.n_iter == Q.shape[1] == len(T.alpha) == len(T.beta) + 1 <= min(n, k)
        np.testing.assert_allclose(Q.T @ Q, np.eye(T.n_iter), atol=1e-13)
        dense = np.diag(T.alpha) + np.diag(T.beta, 1) + np.diag(T.beta, -1)
        np.testing.assert_allclose(Q.T @ A @ Q, dense, atol=1e-12 * 1e6)

    def test_with_as_many_steps_as_distinct_eigenvalues_the_quadrature_is_exact(self):
        values = np.resize(np.linspace(-2, 5, 9), 60)
        Q = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))[0]
        z = np.random.default_rng(1).choice([-1.0, 1.0], 60)
        for k in (9, 30):
            T = lanczos(Q * values @ Q.T, k, v0=z)
            theta, Y = scipy.linalg.eigh_tridiagonal(T.alpha, T.beta)
            for f in (np.exp, np.sin, np.abs):
                assert 60 * Y[0] ** 2 @ f(theta) == pytest.approx(np.sum((Q.T @ z) ** 2 * f(values)), rel=1e-11)

    @pytest.mark.parametrize("distinct", [1, 2, 4])
    def test_it_breaks_down_when_all_distinct_eigenvalues_are_found(self, distinct):
        values = np.resize(np.linspace(-2, 5, distinct), 60)
        Q = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))[0]
        T = lanczos(Q * values @ Q.T, 30, rng=1)
        assert T.breakdown and T.n_iter == distinct
        found = scipy.linalg.eigvalsh_tridiagonal(T.alpha, T.beta)
        np.testing.assert_allclose(found, np.linspace(-2, 5, distinct), atol=1e-12)

    def test_many_rows_in_float32_with_a_large_eigenvalue_are_no_breakdown(self):
        values = np.random.default_rng(0).random(50_000).astype(np.float32)
        values[0] = 1000
        A = scipy.sparse.diags_array(values)
        T = lanczos(A, 8, rng=0)
        assert T.n_iter == 8 and not T.breakdown
        result = function_trace(A, np.sqrt, k=20, n_probes=1, rng=0)
        assert result.value == pytest.approx(np.sqrt(values.astype(float)).sum(), rel=1e-3)

    def test_more_steps_than_dimensions_are_clipped(self):
        T = lanczos(spd(5), 100, rng=0)
        assert T.n_iter == 5 and T.breakdown
        assert lanczos(np.zeros((4, 4)), 3, rng=0).n_iter == 1
        assert lanczos([[2.0]], 3).alpha == pytest.approx([2.0])

    @pytest.mark.parametrize(("dtype", "scales"), [("float64", (1e-250, 1e200)), ("float32", (1e-30, 1e25))])
    def test_matrices_of_any_size_have_the_same_steps(self, dtype, scales):
        A = spd(12).astype(dtype)
        T = lanczos(A, 6, v0=np.ones(12, dtype))
        for scale in scales:
            far = lanczos((scale * A.astype(float)).astype(dtype), 6, v0=np.ones(12, dtype))
            assert far.n_iter == 6 and not far.breakdown
            rtol = 1e-3 if dtype == "float32" else 1e-10
            np.testing.assert_allclose(far.alpha / scale, T.alpha, rtol=rtol)
            np.testing.assert_allclose(far.beta / scale, T.beta, rtol=rtol)

    def test_a_start_of_any_length_is_normalised(self):
        for size in (1e-300, 1.0, 1e300):
            T = lanczos(spd(5), 2, v0=size * np.ones(5))
            np.testing.assert_allclose(T.basis[:, 0], 5**-0.5)

    def test_all_forms_agree(self):
        A = spd(8)
        for form in forms(A):
            v0 = (
                strict(np.ones(8))
                if not isinstance(form, (np.ndarray, list)) and hasattr(form, "__array_namespace__")
                else np.ones(8)
            )
            np.testing.assert_allclose(lanczos(form, 4, v0=v0).alpha, lanczos(A, 4, v0=np.ones(8)).alpha)

    def test_float32_stays_with_figures_in_float64(self):
        T = lanczos(spd(8).astype(np.float32), 4, rng=0)
        assert T.basis.dtype == np.float32 and T.alpha.dtype == T.beta.dtype == np.float64

    def test_bad_input_is_named(self):
        for call, match in (
            (lambda: lanczos(np.ones((2, 3)), 1), "A must be square"),
            (lambda: lanczos(np.eye(2), 0), "k must be at least 1"),
            (lambda: lanczos(np.eye(2), 1, v0=np.zeros(2)), "v0 must not be zero"),
            (lambda: lanczos(np.eye(2), 1, v0=np.ones(3)), "v0 must have shape"),
            (lambda: lanczos(np.zeros((0, 0)), 1), "A must not be empty"),
        ):
            with pytest.raises(ValueError, match=match):
                call()


class TestEstimates:
    def test_hutchinson_is_exact_on_diagonal_matrices(self):
        A = np.diag(np.arange(20.0))
        result = trace_estimate(A, method="hutchinson", n_probes=3, rng=0)
        assert result.value == pytest.approx(190) and result.stderr == pytest.approx(0, abs=1e-12)
        assert result.n_matvec == 3
        np.testing.assert_allclose(diagonal_estimate(A, n_probes=2, rng=0).value, np.arange(20.0))

    @pytest.mark.parametrize(("dist", "variance"), [("rademacher", "off"), ("normal", "all")])
    def test_hutchinson_has_the_variance_that_is_stated(self, dist, variance):
        A = spd(10, cond=5)
        squares = np.sum(A**2) - (np.sum(np.diag(A) ** 2) if variance == "off" else 0)
        runs = np.array(
            [trace_estimate(A, method="hutchinson", n_probes=1, dist=dist, rng=s).value for s in range(4000)]
        )
        assert abs(runs.mean() - np.trace(A)) < 4 * (2 * squares / 4000) ** 0.5
        assert runs.var() == pytest.approx(2 * squares, rel=0.15)  # its own spread is some 3 %

    @pytest.mark.parametrize("method", ["hutch++", "hutchinson"])
    @pytest.mark.parametrize("dist", ["rademacher", "normal"])
    def test_the_trace_is_within_its_standard_errors(self, method, dist):
        A = spd(60, cond=1e4, seed=3)
        off = []
        for seed in range(60):
            result = trace_estimate(A, n_probes=30, method=method, dist=dist, rng=seed)
            assert result.n_matvec == 30
            off.append((result.value - np.trace(A)) / result.stderr)
        # Student's t on 9 (29) degrees of freedom
        assert abs(np.mean(off)) < 0.7 and np.mean(np.abs(off) < 3) > 0.9

    def test_hutch_plus_plus_is_better_on_a_decaying_spectrum(self):
        A = spd(100, cond=1e-30)  # each eigenvalue half of the one before
        errors = {
            m: np.std([trace_estimate(A, method=m, rng=s).value for s in range(40)]) for m in ("hutch++", "hutchinson")
        }
        assert errors["hutch++"] < errors["hutchinson"] / 10

    def test_hutch_plus_plus_is_exact_when_it_spans_the_space(self):
        result = trace_estimate(spd(7), n_probes=30, rng=0)
        assert (
            result.value == pytest.approx(np.trace(spd(7)), rel=1e-12) and result.stderr == 0 and result.n_matvec == 14
        )

    def test_one_probe_has_no_standard_error(self):
        assert np.isnan(trace_estimate(spd(9), n_probes=1, rng=0).stderr)
        assert np.isnan(trace_estimate(spd(9), n_probes=3, rng=0).stderr)
        assert np.isnan(diagonal_estimate(spd(9), n_probes=1, rng=0).stderr).all()

    @pytest.mark.parametrize("dist", ["rademacher", "normal"])
    def test_the_diagonal_is_within_its_standard_errors(self, dist):
        A = spd(50, cond=100)
        result = diagonal_estimate(A, n_probes=400, dist=dist, rng=0)
        off = (result.value - np.diag(A)) / result.stderr
        assert np.abs(off).max() < 5 and 0.7 < np.std(off) < 1.4
        assert result.value.shape == result.stderr.shape == (50,) and result.n_matvec == 400

    @pytest.mark.parametrize("f", [np.log, np.log1p, np.sqrt, np.reciprocal, np.square])
    def test_traces_of_functions_are_within_their_standard_errors(self, f):
        A = spd(60, cond=30)
        truth = f(np.linalg.eigvalsh(A)).sum()
        off = []
        for seed in range(20):
            result = function_trace(A, f, k=30, rng=seed)
            off.append((result.value - truth) / result.stderr)
            assert result.n_matvec == 8 * 30
        # Student's t on 7 degrees of freedom: 95 % within 2.4
        assert np.mean(np.abs(off) < 3) >= 0.9

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_standard_errors_are_right_at_any_size(self, scale):
        A = spd(12)
        for estimate in (trace_estimate, diagonal_estimate, lambda A, **o: function_trace(A, lambda t: t, **o)):
            near, far = estimate(A, n_probes=9, rng=0), estimate(scale * A, n_probes=9, rng=0)
            np.testing.assert_allclose(np.divide(far.value, scale), near.value, rtol=1e-10)
            np.testing.assert_allclose(np.divide(far.stderr, scale), near.stderr, rtol=1e-8)
        result = spectral_density(scale * A, rng=0)
        assert scipy.integrate.trapezoid(result.density, result.grid) == pytest.approx(1, abs=1e-5)

    def test_a_float32_trace_of_many_rows_adds_up_in_float64(self):
        n = 300_000
        A = scipy.sparse.diags_array(np.full(n, 0.1, np.float32))
        result = trace_estimate(A, method="hutchinson", n_probes=2, rng=0)
        assert result.value == pytest.approx(n * float(np.float32(0.1)), rel=1e-7)

    def test_gaussian_probes_go_by_two_names(self):
        A = spd(50)
        for estimate in (trace_estimate, diagonal_estimate):
            values = [estimate(A, dist=dist, rng=0).value for dist in ("gaussian", "normal", "rademacher")]
            assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])

    def test_a_function_that_is_not_finite_on_the_spectrum_is_named(self):
        with pytest.raises(ValueError, match=r"f must be finite on the spectrum of A; it is nan at -1"):
            function_trace(-np.eye(3), np.log)
        with pytest.raises(ValueError, match="f must return an array of shape"):
            function_trace(np.eye(3), np.sum)

    def test_the_density_integrates_to_one_and_finds_known_masses(self):
        Q = np.linalg.qr(np.random.default_rng(0).normal(size=(90, 90)))[0]
        values = np.repeat([-1.0, 0.5, 4.0], [18, 54, 18])
        result = spectral_density(Q * values @ Q.T, n_probes=30, rng=1)
        assert scipy.integrate.trapezoid(result.density, result.grid) == pytest.approx(1, abs=1e-5)
        assert result.grid.shape == result.density.shape == (1024,) and result.weights.sum() == pytest.approx(1)
        assert set(result.nodes.round(8)) == {-1.0, 0.5, 4.0}
        for value, share in ((-1.0, 0.2), (0.5, 0.6), (4.0, 0.2)):
            assert result.weights[abs(result.nodes - value) < 1e-6].sum() == pytest.approx(share, abs=0.06)
        sigma = 0.05
        assert result.grid[0] == pytest.approx(-1 - 5 * sigma) and result.grid[-1] == pytest.approx(4 + 5 * sigma)

    @pytest.mark.parametrize("value", [0.0, 3.0, -1e-8])
    def test_a_single_eigenvalue_has_a_density_too(self, value):
        result = spectral_density(value * np.eye(5), rng=0)
        assert scipy.integrate.trapezoid(result.density, result.grid) == pytest.approx(1, abs=1e-5)

    def test_a_grid_and_a_width_may_be_given(self):
        result = spectral_density(np.eye(3), grid=[0.5, 1.0], sigma=0.5, rng=0)
        np.testing.assert_allclose(result.density, np.exp([-0.5, 0]) / (0.5 * (2 * np.pi) ** 0.5))

    def test_estimates_repeat_with_their_seed_and_work_on_all_forms(self):
        A = spd(10)
        for form in forms(A):
            assert trace_estimate(form, rng=3).value == pytest.approx(trace_estimate(A, rng=3).value)
            assert function_trace(form, np.log, rng=3).value == pytest.approx(function_trace(A, np.log, rng=3).value)
            value = np.asarray(diagonal_estimate(form, rng=3).value)
            np.testing.assert_allclose(value, diagonal_estimate(A, rng=3).value)

    def test_bad_input_is_named(self):
        I = np.eye(3)  # noqa: E741
        for call, match in (
            (lambda: trace_estimate(np.ones((2, 3))), "A must be square"),
            (lambda: trace_estimate(I, n_probes=0), "n_probes must be at least 1"),
            (lambda: trace_estimate(I, method="best"), "method"),
            (lambda: trace_estimate(I, dist="uniform"), "dist"),
            (lambda: diagonal_estimate(np.zeros((0, 0))), "A must not be empty"),
            (lambda: function_trace(I, np.log, k=0), "k must"),
            (lambda: spectral_density(I, sigma=0.0), "sigma"),
            (lambda: spectral_density(I, grid=[np.nan]), "grid must be finite"),
        ):
            with pytest.raises(ValueError, match=match):
                call()


class TestWalshHadamard:
    @pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 64, 128, 2048])
    @pytest.mark.parametrize("d", [1, 3, 17])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_it_is_the_product_with_the_hadamard_matrix(self, backend, n, d, dtype):
        x = np.random.default_rng(n).integers(-8, 9, (n, d)).astype(dtype)  # sums of small integers are exact
        before = x.copy()
        y = walsh_hadamard(x)
        assert y.dtype == dtype and np.array_equal(y, scipy.linalg.hadamard(n, dtype=dtype) @ x)
        assert np.array_equal(x, before)

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_any_axis_is_transformed(self, backend, axis):
        x = np.random.default_rng(0).integers(-8, 9, (4, 8, 16)).astype(float)
        H = scipy.linalg.hadamard(x.shape[axis])
        expected = np.moveaxis(np.tensordot(H, x, axes=(1, axis)), 0, axis)
        assert np.array_equal(walsh_hadamard(x, axis=axis), expected)
        mine = x.copy()
        assert walsh_hadamard(mine, axis=axis, copy=False) is mine
        assert np.array_equal(mine, expected)
        strided = np.asfortranarray(x)
        walsh_hadamard(strided, axis=axis, copy=False)
        assert np.array_equal(strided, expected)

    @properties
    @given(bits=st.integers(0, 13), d=st.integers(0, 5), seed=st.integers(0, 10**6))
    def test_it_is_its_own_inverse_and_keeps_norms(self, backend, bits, d, seed):
        x = np.random.default_rng(seed).normal(size=(2**bits, d))
        y = walsh_hadamard(x)
        np.testing.assert_allclose(np.sum(y**2, axis=0), 2**bits * np.sum(x**2, axis=0), rtol=1e-12)
        np.testing.assert_allclose(walsh_hadamard(y) / 2**bits, x, atol=1e-13)

    def test_a_long_vector_agrees_between_backends(self):
        pytest.importorskip("numba", exc_type=ImportError)
        x = np.random.default_rng(0).normal(size=2**18)
        with numcore.backend("numpy"):
            expected = walsh_hadamard(x)
        with numcore.backend("numba"):
            np.testing.assert_allclose(walsh_hadamard(x), expected, rtol=0, atol=1e-10)

    def test_integers_and_strict_arrays_go_through(self):
        assert walsh_hadamard([1, 2]).tolist() == [3.0, -1.0]
        y = walsh_hadamard(strict(np.eye(4)))
        assert np.array_equal(np.asarray(y), scipy.linalg.hadamard(4))
        x = strict(np.eye(4))
        assert walsh_hadamard(x, axis=1, copy=False) is x and np.array_equal(np.asarray(x), scipy.linalg.hadamard(4))

    def test_bad_input_is_named(self):
        read_only = np.ones(4)
        read_only.flags.writeable = False
        for call, error, match in (
            (lambda: walsh_hadamard(np.ones(6)), ValueError, "x must have a power of two entries along axis 0"),
            (lambda: walsh_hadamard(np.ones(0)), ValueError, "power of two"),
            (lambda: walsh_hadamard(np.float64(1)), ValueError, "axis"),
            (lambda: walsh_hadamard(np.ones(4), axis=1), ValueError, "axis must be below 1"),
            (lambda: walsh_hadamard([np.nan, 1]), ValueError, "x must be finite"),
            (lambda: walsh_hadamard([1j, 1]), TypeError, "x must be real"),
            (lambda: walsh_hadamard([1.0, 1.0], copy=False), ValueError, "x must be a writeable array"),
            (lambda: walsh_hadamard(read_only, copy=False), ValueError, "x must be a writeable array"),
        ):
            with pytest.raises(error, match=match):
                call()


class TestLowRank:
    def kernel(self, n=80, length=0.3, dtype=float):
        x = np.sort(np.random.default_rng(0).random(n))
        return np.exp(-0.5 * ((x[:, None] - x) / length) ** 2).astype(dtype)

    def test_pivoted_cholesky_is_a_lower_bound_that_is_exact_in_its_rows(self):
        K = self.kernel()
        result = pivoted_cholesky(K, 6)
        rest = K - result.factor @ result.factor.T
        assert result.factor.shape == (80, 6) and len(set(result.pivots)) == 6
        assert np.linalg.eigvalsh(rest)[0] > -1e-13
        assert abs(rest[result.pivots]).max() < 1e-12
        assert result.trace_error == pytest.approx(np.trace(rest), abs=1e-12)
        assert np.linalg.norm(rest, 2) <= result.trace_error + 1e-12

    def test_each_pivot_is_the_largest_diagonal_left(self):
        K = spd(30, cond=1e3)
        result = pivoted_cholesky(K, 10)
        rest = K.copy()
        for p in result.pivots:
            assert np.diag(rest)[p] >= np.diag(rest).max() - 1e-10
            rest = rest - np.outer(rest[p], rest[p]) / rest[p, p]

    def test_at_full_rank_it_is_a_factor(self):
        K = spd(12)
        result = pivoted_cholesky(K, 50)
        np.testing.assert_allclose(result.factor @ result.factor.T, K, atol=1e-11)
        assert result.trace_error == 0

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_no_pivot_is_chosen_twice_and_a_low_rank_ends_it(self, dtype):
        G = np.random.default_rng(0).normal(size=(60, 4)).astype(dtype)
        result = pivoted_cholesky(G @ G.T, 60)
        assert result.factor.shape[1] <= 8 and result.factor.dtype == dtype
        result = pivoted_cholesky(self.kernel(dtype=dtype), 80)
        assert len(set(result.pivots)) == len(result.pivots) < 80
        assert np.isfinite(result.factor).all()

    def test_it_stops_at_its_tolerance(self):
        result = pivoted_cholesky(self.kernel(), 80, tol=1e-3)
        assert result.trace_error <= 1e-3 < pivoted_cholesky(self.kernel(), result.factor.shape[1] - 1).trace_error

    def test_rows_and_diagonal_are_all_that_is_asked_for(self):
        K, asked = self.kernel(), []
        result = pivoted_cholesky(lambda i: asked.append(i) or K[i], 5, diagonal=np.diag(K))
        assert asked == result.pivots.tolist()
        assert np.array_equal(result.factor, pivoted_cholesky(K, 5).factor)
        theirs = pivoted_cholesky(strict(K), 5)
        np.testing.assert_allclose(np.asarray(theirs.factor), result.factor, atol=1e-12)

    @pytest.mark.parametrize("shape", [(60, 25), (25, 60), (30, 30)])
    def test_the_randomised_svd_is_near_the_best_approximation(self, shape):
        rng = np.random.default_rng(0)
        U, _, Vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
        s = 0.7 ** np.arange(min(shape))
        A = U * s @ Vt
        for form in forms(A):
            u, values, vt = (np.asarray(z) for z in randomized_svd(form, 5, rng=1))
            assert u.shape == (shape[0], 5) and vt.shape == (5, shape[1])
            np.testing.assert_allclose(values, s[:5], rtol=1e-6)
            np.testing.assert_allclose(u.T @ u, np.eye(5), atol=1e-12)
            np.testing.assert_allclose(vt @ vt.T, np.eye(5), atol=1e-12)
            assert np.linalg.norm(A - u * values @ vt, 2) <= 1.01 * s[5]

    def test_the_randomised_svd_is_exact_at_full_rank_and_keeps_float32(self):
        A = np.random.default_rng(0).normal(size=(9, 6))
        U, s, Vt = randomized_svd(A, 6, rng=0)
        np.testing.assert_allclose(U * s @ Vt, A, atol=1e-13)
        assert {z.dtype for z in randomized_svd(A.astype(np.float32), 3)} == {np.dtype(np.float32)}

    def test_nystrom_lies_below_and_is_exact_on_low_rank(self):
        G = np.random.default_rng(0).normal(size=(40, 5))
        K = G @ G.T
        for form in forms(K):
            U, values = (np.asarray(z) for z in nystrom(form, 5, rng=1))
            np.testing.assert_allclose(U * values @ U.T, K, atol=1e-10)
        K = spd(40, cond=1e6)
        U, values = nystrom(K, 10, rng=2)
        assert (np.diff(values) <= 0).all() and (values >= 0).all()
        np.testing.assert_allclose(U.T @ U, np.eye(10), atol=1e-12)
        assert np.linalg.eigvalsh(K - U * values @ U.T)[0] > -1e-7
        best = np.sort(np.linalg.eigvalsh(K))[::-1]
        assert np.linalg.norm(K - U * values @ U.T, 2) < 5 * best[10]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_nystrom_survives_rounding_and_zero(self, dtype):
        for scale in (1e-30, 1e25) if dtype == "float32" else (1e-250, 1e200):
            near, far = (nystrom((s * self.kernel()).astype(dtype), 3, rng=0)[1] for s in (1, scale))
            np.testing.assert_allclose(far.astype(float) / scale, near, rtol=1e-4 if dtype == "float32" else 1e-10)
        U, values = nystrom(self.kernel(dtype=dtype), 30, rng=0)
        assert U.dtype == dtype and np.isfinite(U).all() and (values >= 0).all()
        U, values = nystrom(np.zeros((5, 5), dtype), 2, rng=0)
        assert not values.any() and U.shape == (5, 2)

    def test_bad_input_is_named(self):
        I = np.eye(3)  # noqa: E741
        for call, error, match in (
            (lambda: pivoted_cholesky(np.ones((2, 3)), 1), ValueError, "K must be square"),
            (lambda: pivoted_cholesky(-I, 1), ValueError, "diagonal must not be negative; 3 of its 3"),
            (lambda: pivoted_cholesky(I, 0), ValueError, "rank"),
            (lambda: pivoted_cholesky(I, 1, tol=-1.0), ValueError, "tol"),
            (lambda: pivoted_cholesky(lambda i: I[i], 1), ValueError, "diagonal must be given"),
            (lambda: pivoted_cholesky(lambda i: I[:2, i], 1, diagonal=np.ones(3)), ValueError, "the value of K"),
            (lambda: randomized_svd(I, 4), ValueError, "k must be at most 3"),
            (lambda: randomized_svd(np.ones(3), 1), ValueError, "A must be 2-D"),
            (lambda: randomized_svd(I, 1, oversample=-1), ValueError, "oversample"),
            (lambda: randomized_svd(I, 1, n_power=-1), ValueError, "n_power"),
            (lambda: nystrom(np.ones((2, 3)), 1), ValueError, "K must be square"),
            (lambda: nystrom(-I, 2), np.linalg.LinAlgError, "positive semi-definite"),
            (lambda: nystrom(I * 1j, 2), TypeError, "K must be real"),
            (lambda: pivoted_cholesky(aslinearoperator(I), 1), TypeError, "K must be an array or a function"),
            (
                lambda: randomized_svd(LinearOperator((3, 3), matvec=lambda v: v, dtype=float), 1),
                TypeError,
                "A must offer products with its transpose",
            ),
        ):
            with pytest.raises(error, match=match):
                call()
