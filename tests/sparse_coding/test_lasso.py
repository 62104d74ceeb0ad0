"""The lasso of one signal: optimality conditions, bounds that hold, and agreement with scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

import numcore
from numcore.algorithms.sparse_coding import _columns, lasso, sparse_encode
from numcore.results import ConvergenceWarning


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def problem(rng):
    """More columns than a first working set holds, a few of them in the signal."""
    D = rng.normal(size=(60, 500)) * np.geomspace(0.3, 3, 500)
    a = np.zeros(500)
    a[rng.choice(500, 12, replace=False)] = rng.normal(size=12)
    y = D @ a
    return D, y + 0.2 * rng.normal(size=60) * np.linalg.norm(y) / np.sqrt(60)


def objective(D, y, a, t):
    with np.errstate(invalid="ignore"):
        return np.sum((y - D @ a) ** 2) / 2 + np.sum(np.where(a == 0, 0, t * np.abs(a)))


def top(D, y):
    return np.max(np.abs(D.T @ y))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("positive", [False, True])
def test_the_optimality_conditions_hold(problem, share, positive):
    D, y = problem
    reg = share * top(D, y)
    result = lasso(D, y, reg=reg, positive=positive, tol=1e-13)
    g, a = D.T @ (y - D @ result.coef), result.coef
    assert np.max(np.abs(g[a != 0] - reg * np.sign(a[a != 0]))) <= 1e-6 * reg
    assert np.max(g if positive else np.abs(g)) <= reg * (1 + 1e-6)
    assert not positive or a.min() >= 0


@pytest.mark.parametrize("share", [0.3, 0.02])
def test_scikit_learn_finds_the_same(problem, share):
    D, y = problem
    reg = share * top(D, y)
    theirs = Lasso(alpha=reg / len(y), fit_intercept=False, tol=1e-12, max_iter=100_000).fit(D, y).coef_
    result = lasso(D, y, reg=reg, tol=1e-12)
    np.testing.assert_allclose(result.coef, theirs, atol=1e-5)
    assert result.objective == pytest.approx(objective(D, y, theirs, reg), rel=1e-9)


def test_one_signal_of_sparse_encode_is_the_same_problem(problem):
    D, y = problem
    reg = 0.1 * top(D, y)
    code = sparse_encode(y[None], D.T, reg=reg, tol=1e-12)
    result = lasso(D, y, reg=reg, tol=1e-12)
    np.testing.assert_allclose(result.coef, code.code[0], atol=1e-6)
    assert result.objective == pytest.approx(code.objective[0], rel=1e-10)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_the_gap_bounds_the_distance_to_the_minimum_at_every_tolerance(problem, backend):
    D, y = problem
    reg = 0.05 * top(D, y)
    least = lasso(D, y, reg=reg, tol=1e-14).objective
    with numcore.backend(backend):
        for tol in (1e-1, 1e-2, 1e-3, 1e-5):
            result = lasso(D, y, reg=reg, tol=tol)
            assert result.objective == pytest.approx(objective(D, y, result.coef, reg), rel=1e-12)
            assert -1e-12 * least <= result.objective - least <= result.gap + 1e-12 * least
            assert result.gap <= tol * (y @ y) and result.converged


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 20), st.floats(1e-3, 1.0), st.booleans())
def test_small_problems_of_any_shape_are_solved(seed, n, k, share, positive):
    rng = np.random.default_rng(seed)
    D, y = rng.integers(-3, 4, size=(n, k)).astype(float), rng.normal(size=n)  # with duplicate and zero columns
    reg, w = share * max(top(D, y), 1e-3), rng.uniform(0.5, 2, k)
    result = lasso(D, y, reg=reg, weights=w, positive=positive, tol=1e-10)
    other = sparse_encode(y[None], D.T, reg=reg, weights=w, positive=positive, tol=1e-10).objective[0]
    assert abs(result.objective - other) <= 2e-10 * (y @ y) + 1e-14


def test_from_the_largest_correlation_on_all_coefficients_are_zero(problem):
    D, y = problem
    result = lasso(D, y, reg=top(D, y) * (1 + 1e-12))
    assert not result.coef.any() and result.n_iter == 0 and result.converged
    assert lasso(D, y, reg=0.99 * top(D, y)).coef.any()


def test_weights_are_those_of_a_rescaled_problem(problem, rng):
    D, y = problem
    w = rng.uniform(0.2, 5, D.shape[1])
    reg = 0.1 * np.max(np.abs(D.T @ y) / w)
    plain = lasso(D / w, y, reg=reg, tol=1e-13).coef / w
    np.testing.assert_allclose(lasso(D, y, reg=reg, weights=w, tol=1e-13).coef, plain, atol=1e-8)


@pytest.mark.parametrize("positive", [False, True])
def test_infinite_weights_forbid_coefficients(problem, positive):
    D, y = problem
    w = np.ones(D.shape[1])
    w[::2] = np.inf
    reg = 0.1 * top(D, y)
    result = lasso(D, y, reg=reg, weights=w, positive=positive, init=np.ones(w.size), tol=1e-12)
    assert not result.coef[::2].any()
    other = lasso(D[:, 1::2], y, reg=reg, positive=positive, tol=1e-12)
    np.testing.assert_allclose(result.coef[1::2], other.coef, atol=1e-6)
    assert not lasso(D, y, reg=0.0, weights=w, init=np.ones(w.size)).coef[::2].any()


def test_zero_weights_leave_an_exact_fit_of_their_columns(problem):
    """As an intercept does: the lasso on what its column leaves of all else."""
    D, y = problem
    D[:, 0] = 1.0
    w = np.ones(D.shape[1])
    w[0] = 0
    reg = 0.2 * top(D, y)
    result = lasso(D, y + 50, reg=reg, weights=w, tol=1e-13)
    with_intercept = Lasso(alpha=reg / len(y), tol=1e-12, max_iter=100_000).fit(D[:, 1:], y + 50)
    assert result.coef[0] == pytest.approx(with_intercept.intercept_, abs=1e-5)
    np.testing.assert_allclose(result.coef[1:], with_intercept.coef_, atol=1e-5)
    assert abs(D[:, 0] @ (y + 50 - D @ result.coef)) < 1e-8 * np.linalg.norm(y + 50) * np.sqrt(60)


def test_columns_in_the_span_of_free_ones_stay_zero(rng):
    D = rng.normal(size=(10, 5))
    D[:, 4] = D[:, 0] - 2 * D[:, 1]
    result = lasso(D, rng.normal(size=10), reg=1e-3, weights=[0, 0, 1, 1, 1], tol=1e-12)
    assert result.converged and result.coef[4] == 0


def test_without_regularisation_the_result_is_the_least_squares_solution_nearest_to_the_start(rng):
    D, y, start = rng.normal(size=(6, 15)), rng.normal(size=6), rng.normal(size=15)
    result = lasso(D, y, reg=0.0, init=start)
    np.testing.assert_allclose(result.coef, start + np.linalg.pinv(D) @ (y - D @ start), atol=1e-12)
    assert result.converged and result.objective < 1e-24


def test_without_regularisation_positive_coefficients_are_non_negative_least_squares(rng):
    for shape in ((40, 60), (40, 10)):
        D, y = rng.normal(size=shape), rng.normal(size=shape[0])
        expected, residual = nnls(D, y)
        result = lasso(D, y, reg=0.0, positive=True, tol=1e-10)
        np.testing.assert_allclose(result.coef, expected, atol=1e-6)
        assert result.objective == pytest.approx(residual**2 / 2, rel=1e-10) and result.converged


@pytest.mark.parametrize("positive", [False, True])
def test_any_start_leads_to_the_same_and_the_solution_takes_no_iteration(problem, rng, positive):
    D, y = problem
    reg = 0.1 * top(D, y)
    cold = lasso(D, y, reg=reg, positive=positive, tol=1e-12)
    warm = lasso(D, y, reg=reg, positive=positive, tol=1e-12, init=rng.normal(size=500))
    np.testing.assert_allclose(warm.coef, cold.coef, atol=1e-6)
    assert lasso(D, y, reg=reg, positive=positive, tol=1e-11, init=cold.coef).n_iter == 0


def test_nearly_equal_columns_converge_too(rng):
    """The support's Gram matrix is singular to rounding: no linear system helps, coordinate descent has to."""
    base = rng.normal(size=(30, 10))
    D = np.hstack([base + 1e-9 * rng.normal(size=base.shape) for _ in range(30)])
    y = base @ rng.normal(size=10)
    result = lasso(D, y, reg=0.05 * top(D, y), tol=1e-8)
    assert result.converged
    once = lasso(base, y, reg=0.05 * top(D, y), tol=1e-12)
    assert result.objective == pytest.approx(once.objective, rel=1e-6)


def test_extrapolated_residuals_tend_to_the_limit_of_a_linear_recursion(rng):
    """Six changes of a recursion in five dimensions determine its limit (Massias et al., 2018, proposition 1)."""
    M = rng.normal(size=(5, 5))
    M *= 0.9 / np.max(np.abs(np.linalg.eigvals(M)))
    limit, past = rng.normal(size=5), [rng.normal(size=5)]
    for _ in range(6):
        past.append(limit + M @ (past[-1] - limit))
    near = np.linalg.norm(_columns.extrapolated(list(past)) - limit)
    assert near < 1e-4 * np.linalg.norm(past[-1] - limit)


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_extreme_scales_survive(problem, scale):
    D, y = problem
    reg = 0.1 * top(D, y)
    plain = lasso(D, y, reg=reg, tol=1e-12)
    scaled = lasso(D, y * scale, reg=reg * scale, tol=1e-12)
    np.testing.assert_allclose(scaled.coef / scale, plain.coef, atol=1e-9)
    assert scaled.objective / scale / scale == pytest.approx(plain.objective, rel=1e-9) and scaled.converged
    steep = lasso(D * scale, y, reg=reg * scale, tol=1e-12)
    np.testing.assert_allclose(steep.coef * scale, plain.coef, atol=1e-9)


@pytest.mark.parametrize("order", ["C", "F"])
def test_float32_stays_and_is_solved_in_float64(problem, order, monkeypatch):
    monkeypatch.setattr(_columns, "CHUNK", 1000)  # several pieces
    D, y = (x.astype(np.float32) for x in problem)
    reg = 0.1 * top(D, y)
    result = lasso(np.asarray(D, order=order), y, reg=reg, tol=1e-12)
    double = lasso(D.astype(float), y.astype(float), reg=reg, tol=1e-12)
    assert result.coef.dtype == np.float32 and result.converged
    np.testing.assert_allclose(result.coef, double.coef.astype(np.float32), atol=1e-6)
    assert lasso(D.astype(float), y, reg=reg).coef.dtype == np.float64


def test_memory_layout_does_not_matter_and_nothing_is_written_to(problem):
    D, y = problem
    reg = 0.1 * top(D, y)
    plain = lasso(D, y, reg=reg, tol=1e-12).coef
    for other in (np.asfortranarray(D), np.repeat(D, 2, axis=1)[:, ::2], D[::-1][::-1]):
        other.flags.writeable = False
        np.testing.assert_allclose(lasso(other, y, reg=reg, tol=1e-12).coef, plain, atol=1e-8)


def test_a_zero_signal_and_zero_columns_are_survived():
    assert not lasso(np.eye(3), np.zeros(3), reg=0.1).coef.any()
    result = lasso(np.diag([1.0, 0.0]), [2.0, 1.0], reg=0.5)
    assert result.coef.tolist() == [1.5, 0.0] and result.converged
    assert not lasso(np.zeros((2, 3)), [1.0, 2.0], reg=0.0, positive=True).coef.any()


def test_too_few_working_sets_are_reported(problem):
    D, y = problem
    with pytest.warns(ConvergenceWarning, match="lasso did not converge: it used all 1 iterations"):
        result = lasso(D, y, reg=0.01 * top(D, y), tol=1e-12, max_iter=1)
    assert not result.converged and result.n_iter == 1 and len(result.history["gap"]) == 1
    assert result.history["objective"][0] == pytest.approx(result.objective)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reg": -1.0}, ValueError, "reg"),
        ({"reg": np.nan}, ValueError, "reg"),
        ({"weights": [1.0, -1.0]}, ValueError, "weights must not be negative; 1 of its 2"),
        ({"weights": [1.0, np.nan]}, ValueError, "weights"),
        ({"weights": [1.0]}, ValueError, r"weights must have shape \(2\)"),
        ({"init": [np.inf, 0.0]}, ValueError, "init must be finite"),
        ({"positive": 2}, ValueError, "positive"),
        ({"D": np.array([[np.nan, 1.0], [0.0, 1.0]])}, ValueError, "D must be finite; 1 of its 4"),
        ({"D": np.ones((3, 2))}, ValueError, "y must have shape"),
        ({"D": np.ones(2)}, ValueError, "D must be 2-D"),
        ({"D": np.empty((2, 0))}, ValueError, "D must have rows and columns"),
        ({"D": np.ones((2, 2), complex)}, TypeError, "D must be real"),
    ],
)
def test_bad_input_is_named(options, error, message):
    given = {"D": np.eye(2), "y": np.ones(2), "reg": 0.1} | options
    with pytest.raises(error, match=message), warnings.catch_warnings():
        lasso(given.pop("D"), given.pop("y"), **given)


def test_results_come_back_from_a_file(tmp_path, problem):
    D, y = problem
    result = lasso(D, y, reg=0.2 * top(D, y))
    numcore.save(result, tmp_path / "lasso.numcore")
    again = numcore.load(tmp_path / "lasso.numcore")
    np.testing.assert_array_equal(again.coef, result.coef)
    assert again.gap == result.gap and set(again.history) == set(result.history)
