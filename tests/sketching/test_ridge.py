"""Ridge paths: solutions, degrees of freedom and both cross-validation scores, by their definitions."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression, Ridge

import numcore
from numcore.algorithms.sketching import ridge_path

ALPHAS = np.array([1e-3, 0.1, 3.0, 100.0])


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def data(n, d, rng, k=None):
    A = rng.normal(size=(n, d)) + 2.0
    return A, (A @ rng.normal(size=d) if k is None else A @ rng.normal(size=(d, k))) + rng.normal(
        size=n if k is None else (n, k)
    )


@pytest.mark.parametrize("shape", [(30, 6), (3000, 20), (15, 40)])
@pytest.mark.parametrize("intercept", [False, True])
def test_solutions_are_those_of_scikit_learn(shape, intercept, rng):
    A, b = data(*shape, rng)
    path = ridge_path(A, b, ALPHAS, fit_intercept=intercept, rng=0)
    for alpha, coef, t in zip(ALPHAS, path.coef, path.intercept, strict=True):
        expected = Ridge(alpha, fit_intercept=intercept, solver="svd").fit(A, b)
        assert_allclose(coef, expected.coef_, rtol=1e-9, atol=1e-11)
        assert_allclose(t, expected.intercept_, rtol=1e-9, atol=1e-10)
    assert (np.diff(np.linalg.norm(path.coef, axis=1)) < 0).all()


def test_no_penalty_is_the_least_squares_solution_of_least_norm(rng):
    A, b = data(500, 6, rng)
    A[:, 5] = A[:, 4]
    path = ridge_path(A, b, [0.0, 1e-9], rng=0)
    expected = LinearRegression().fit(A, b)
    assert_allclose(path.coef[0], expected.coef_, rtol=1e-11)
    assert_allclose(path.coef[1], path.coef[0], rtol=1e-8)
    assert path.df[0] == 6  # 5 directions and the intercept


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("d", [4, 40])
def test_left_out_residuals_are_those_of_models_fitted_without_the_row(intercept, d, rng):
    A, b = data(30, d, rng)
    w = rng.uniform(0.5, 2, size=30)
    for weight in (None, w):
        path = ridge_path(A, b, ALPHAS, fit_intercept=intercept, sample_weight=weight, cv="loo", rng=0)
        for alpha, score in zip(ALPHAS, path.loo, strict=True):
            total = 0.0
            for i in range(30):
                rest = np.arange(30) != i
                model = Ridge(alpha, fit_intercept=intercept, solver="svd")
                model.fit(A[rest], b[rest], None if weight is None else w[rest])
                total += (1.0 if weight is None else w[i]) * (b[i] - model.predict(A[[i]])[0]) ** 2
            # where d > n, 1 - h is as small as alpha
            assert_allclose(score, total / 30, rtol=1e-10 if alpha > 0.01 else 1e-6)
        assert path.best_index == np.argmin(path.loo) and path.best_alpha == ALPHAS[path.best_index]


@pytest.mark.parametrize("intercept", [False, True])
def test_degrees_of_freedom_and_the_gcv_score_follow_their_definitions(intercept, rng):
    A, b = data(60, 8, rng)
    path = ridge_path(A, b, ALPHAS, fit_intercept=intercept, rng=0)
    X = A - A.mean(axis=0) if intercept else A
    for i, alpha in enumerate(ALPHAS):
        hat = X @ np.linalg.solve(X.T @ X + alpha * np.eye(8), X.T)
        df = np.trace(hat) + intercept
        rss = np.sum((b - A @ path.coef[i] - path.intercept[i]) ** 2)
        assert_allclose(path.df[i], df, rtol=1e-12)
        assert_allclose(path.gcv[i], 60 * rss / (60 - df) ** 2, rtol=1e-12)
    assert path.loo is None and path.best_index == np.argmin(path.gcv)


def test_nothing_is_chosen_without_a_score(rng):
    path = ridge_path(*data(50, 3, rng), ALPHAS, cv=None)
    assert path.best_alpha is None and path.best_index is None and path.loo is None and path.gcv.shape == (4,)


def test_scores_are_infinite_where_nothing_is_left_to_learn_from(rng):
    A, b = data(10, 25, rng)
    path = ridge_path(A, b, [0.0, 1.0], cv="loo")
    assert np.isinf(path.gcv[0]) and np.isinf(path.loo[0]) and path.best_alpha == 1.0
    assert np.isfinite(path.gcv[1]) and np.isfinite(path.loo[1])


def test_scores_do_not_depend_on_the_order_or_the_company_of_penalties(rng):
    A, b = data(200, 5, rng)
    one = ridge_path(A, b, [2.0, 0.0, 5.0], cv="loo", rng=0)
    for i, alpha in enumerate([2.0, 0.0, 5.0]):
        alone = ridge_path(A, b, [alpha], cv="loo", rng=0)
        assert_allclose(one.loo[i], alone.loo[0], rtol=1e-12)
        assert_allclose(one.gcv[i], alone.gcv[0], rtol=1e-12)
        assert_allclose(one.coef[i], alone.coef[0], rtol=1e-12)


def test_several_targets_share_a_penalty(rng):
    A, B = data(300, 5, rng, k=3)
    path = ridge_path(A, B, ALPHAS, cv="loo", rng=0)
    singles = [ridge_path(A, b, ALPHAS, cv="loo", rng=0) for b in B.T]
    assert path.coef.shape == (4, 3, 5) and path.intercept.shape == (4, 3)
    for j, single in enumerate(singles):
        assert_allclose(path.coef[:, j], single.coef, rtol=1e-11)
        assert_allclose(path.intercept[:, j], single.intercept, rtol=1e-11)
    assert_allclose(path.loo, np.mean([s.loo for s in singles], axis=0), rtol=1e-12)
    assert_allclose(path.gcv, np.mean([s.gcv for s in singles], axis=0), rtol=1e-12)


def test_zero_weights_remove_rows(rng):
    A, b = data(100, 4, rng)
    w = rng.integers(0, 2, size=100)
    weighted = ridge_path(A, b, ALPHAS, sample_weight=w, cv="loo", rng=0)
    removed = ridge_path(A[w == 1], b[w == 1], ALPHAS, cv="loo", rng=0)
    for name in ("coef", "intercept", "df", "gcv", "loo"):
        assert_allclose(getattr(weighted, name), getattr(removed, name), rtol=1e-10)


def test_every_kind_of_matrix_is_read(rng):
    dask = pytest.importorskip("dask.array")
    A, b = data(2000, 6, rng)
    expected = ridge_path(A, b, [0.0, 5.0], cv="loo", rng=0)

    def stream():
        for s in np.array_split(np.arange(2000), 3):
            yield A[s], b[s]

    sources = [(scipy.sparse.csc_array(A), b), (dask.from_array(A, chunks=(900, 6)), b), (stream, None)]
    for X, y in [*sources, (np.asfortranarray(A), b)]:
        found = ridge_path(X, y, [0.0, 5.0], cv="loo", rng=0)
        for name in ("coef", "intercept", "df", "gcv", "loo"):
            assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e100, 1e140])
def test_extreme_scales_survive(scale, rng):
    A, b = data(100, 4, rng)
    plain = ridge_path(A, b, ALPHAS, cv="loo", rng=0)
    # coefficients are as those of b alone where both grow, and alpha grows as the square
    with np.errstate(over="ignore"):
        alphas = ALPHAS * scale * scale
    if np.all(np.isfinite(alphas) & (alphas > 0)):
        found = ridge_path(A * scale, b * scale, alphas, cv="loo", rng=0)
        assert_allclose(found.coef, plain.coef, rtol=1e-10)
        assert_allclose(found.df, plain.df, rtol=1e-10)
        assert found.best_index == plain.best_index
    free = ridge_path(A * scale, b, [0.0], cv="loo", rng=0)
    assert_allclose(free.coef * scale, ridge_path(A, b, [0.0], rng=0).coef, rtol=1e-10)
    assert_allclose(free.loo, ridge_path(A, b, [0.0], cv="loo", rng=0).loo, rtol=1e-10)


def test_single_precision_stays_and_files_keep_the_path(rng, tmp_path):
    A, b = data(100, 4, rng)
    path = ridge_path(A.astype("f4"), b.astype("f4"), ALPHAS, cv="loo")
    assert path.coef.dtype == np.float32 and path.intercept.dtype == np.float32
    numcore.save(path, tmp_path / "path")
    assert np.array_equal(numcore.load(tmp_path / "path").coef, path.coef)


def test_bad_input_is_named(rng):
    A, b = data(50, 3, rng)
    with pytest.raises(ValueError, match="alphas must not be negative; 1 of its 2"):
        ridge_path(A, b, [1.0, -1.0])
    with pytest.raises(ValueError, match="alphas must not be empty"):
        ridge_path(A, b, [])
    with pytest.raises(ValueError, match="alphas must be finite"):
        ridge_path(A, b, [np.nan])
    with pytest.raises(ValueError, match="cv must be one of"):
        ridge_path(A, b, [1.0], cv="5-fold")
    with pytest.raises(ValueError, match="fit_intercept must be one of"):
        ridge_path(A, b, [1.0], fit_intercept="yes")
    with pytest.raises(ValueError, match="b must be given"):
        ridge_path(A, None, [1.0])
    with pytest.raises(ValueError, match="A must be finite"):
        ridge_path(np.where(A > 3, np.inf, A), b, [1.0])
