"""The scikit-learn estimators: their contract, streams that equal one fit, merges, and intervals that cover."""

import inspect
import itertools
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import numcore
from numcore.algorithms.sketching import SketchedRegression, SketchedRidge, lstsq

FACTORED = ["auto", "direct", "gram", "lapack"]
ITERATED = ["spir", "fossils", "iterative", "lsqr"]


@parametrize_with_checks(
    [
        SketchedRegression(),
        SketchedRidge(),
        SketchedRegression(positive=True),
        SketchedRegression(stream="sketch", random_state=0),
        SketchedRidge(alphas=[0.1, 1.0, 10.0]),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    # what it skips asks for pandas, or for SCIPY_ARRAY_API to be set
    check(estimator)


def test_the_parameters_and_defaults_are_those_of_the_specification():
    common = {"fit_intercept": True, "method": "auto", "sketch": "auto", "sketch_size": None, "tol": None}
    common |= {"max_iter": None, "stream": "qr", "confidence": None, "random_state": None, "verbose": 0}
    found = {name: p.default for name, p in inspect.signature(SketchedRegression).parameters.items()}
    assert found == common | {"rcond": None, "positive": False}
    found = {name: p.default for name, p in inspect.signature(SketchedRidge).parameters.items()}
    assert found == common | {"alpha": 1.0, "alphas": None, "cv": "gcv"}
    for name in ("fit", "partial_fit"):
        parameters = inspect.signature(getattr(SketchedRidge, name)).parameters
        assert list(parameters) == ["self", "X", "y", "sample_weight"]


@pytest.fixture
def rng():
    return np.random.default_rng(6)


@pytest.fixture
def X(rng):
    return rng.normal(size=(3000, 12)) * np.geomspace(1, 1e-4, 12) + 2.0


@pytest.fixture
def Y(X, rng):
    return X @ rng.normal(size=(12, 3)) + rng.normal(size=(3000, 3)) + 1.0


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("method", [*FACTORED, *ITERATED])
def test_every_method_fits_the_least_squares_solution(method, intercept, X, Y):
    expected = LinearRegression(fit_intercept=intercept).fit(X, Y)
    model = SketchedRegression(method=method, fit_intercept=intercept, random_state=0).fit(X, Y)
    # the condition number, 1e4 and more, times roundings
    assert_allclose(model.coef_, expected.coef_, rtol=1e-8)
    assert_allclose(model.intercept_, expected.intercept_, rtol=1e-8)
    assert_allclose(model.predict(X), expected.predict(X), rtol=1e-10, atol=1e-10)  # sums of terms of size 1
    assert_allclose(model.residual_norm_, np.linalg.norm(Y - expected.predict(X), axis=0), rtol=1e-12)
    assert model.score(X, Y) == pytest.approx(expected.score(X, Y), rel=1e-10)
    assert model.rank_ == 12 and model.n_samples_seen_ == 3000 and model.n_features_in_ == 12
    assert model.backward_error_ < 1e-15 and model.n_iter_ >= 1 and model.n_passes_ >= 2
    centred = X - X.mean(axis=0) if intercept else X
    # the sketch's, for the iterative methods
    assert model.cond_ == pytest.approx(np.linalg.cond(centred), rel=1e-6 if method in FACTORED else 0.6)
    assert method in (model.method_, "auto") or (method, model.method_) == ("gram", "direct")
    assert SketchedRegression(method=method).fit(X, Y[:, 0]).coef_.shape == (12,)
    assert SketchedRegression(method=method).fit(X, Y[:, :1]).coef_.shape == (1, 12)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("method", ["auto", "direct", "lapack", "spir", "fossils"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 100.0])
def test_ridge_has_the_scaling_of_scikit_learn(alpha, method, intercept, X, Y):
    model = SketchedRidge(alpha, method=method, fit_intercept=intercept, random_state=0).fit(X, Y)
    if alpha:
        expected = Ridge(alpha, fit_intercept=intercept, solver="svd").fit(X, Y)
    else:
        expected = LinearRegression(fit_intercept=intercept).fit(X, Y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-8, atol=1e-9)
    assert_allclose(model.intercept_, expected.intercept_, rtol=1e-8, atol=1e-9)
    assert model.alpha_ == alpha


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 899), max_size=12),
    intercept=st.booleans(),
    weighted=st.booleans(),
    sparse=st.booleans(),
    targets=st.sampled_from([None, 2]),
)
def test_batches_of_any_sizes_give_the_fit_to_all_rows(cuts, intercept, weighted, sparse, targets):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(900, 5)) * np.geomspace(1, 1e-4, 5) + 1.0
    y = rng.normal(size=900) if targets is None else rng.normal(size=(900, targets))
    w = rng.integers(0, 3, size=900).astype(float) if weighted else None
    data = scipy.sparse.csr_array(X) if sparse else X
    whole = SketchedRegression(fit_intercept=intercept).fit(data, y, w)
    stream = SketchedRegression(fit_intercept=intercept)
    edges = [0, *sorted(set(cuts)), 900]
    for i, j in itertools.pairwise(edges):
        if w is None or w[i:j].any():
            stream.partial_fit(data[i:j], y[i:j], None if w is None else w[i:j])
            assert stream.coef_.shape == whole.coef_.shape
    assert_allclose(stream.coef_, whole.coef_, rtol=1e-9, atol=1e-9 * np.abs(whole.coef_).max())
    assert_allclose(stream.intercept_, whole.intercept_, rtol=1e-9, atol=1e-9 * np.abs(whole.coef_).max())
    assert_allclose(stream.residual_norm_, whole.residual_norm_, rtol=1e-10)
    assert stream.rank_ == whole.rank_ and stream.backward_error_ < 1e-15 and stream.method_ == "qr"


def test_large_batches_and_ridges_stream_too(rng):
    X = rng.normal(size=(6000, 10)) * np.geomspace(1, 1e-5, 10) + 3
    y = X @ np.ones(10) + rng.normal(size=6000)
    for model in (SketchedRidge(0.3), SketchedRidge(alphas=np.logspace(-4, 4, 9)), SketchedRegression(positive=True)):
        whole, stream = clone(model).fit(X, y), clone(model)
        for i in range(0, 6000, 2500):
            stream.partial_fit(X[i : i + 2500], y[i : i + 2500])
        assert_allclose(stream.coef_, whole.coef_, rtol=1e-9, atol=1e-9 * np.abs(whole.coef_).max())
        assert_allclose(stream.intercept_, whole.intercept_, rtol=0, atol=1e-9 * np.abs(whole.coef_).max())
        assert stream.n_samples_seen_ == 6000
    # a batch without information about a column that others have
    X[:2500, 4] = 0.0
    whole = SketchedRegression().fit(X, y)
    stream = SketchedRegression().partial_fit(X[:2500], y[:2500])
    assert stream.rank_ == 9
    assert_allclose(
        stream.partial_fit(X[2500:], y[2500:]).coef_, whole.coef_, rtol=1e-9, atol=1e-9 * np.abs(whole.coef_).max()
    )


def test_a_stream_goes_on_from_a_fit(X, Y):
    whole = SketchedRegression().fit(X, Y)
    model = SketchedRegression().fit(X[:1000], Y[:1000]).partial_fit(X[1000:], Y[1000:])
    assert_allclose(model.coef_, whole.coef_, rtol=1e-8)
    assert model.n_samples_seen_ == 3000
    again = model.fit(X[:50], Y[:50])
    assert again.n_samples_seen_ == 50
    assert_allclose(again.coef_, SketchedRegression().fit(X[:50], Y[:50]).coef_, rtol=1e-9)


def test_merging_is_associative_and_exact(X, Y):
    whole = SketchedRegression().fit(X, Y)
    a = SketchedRegression().fit(X[:1000], Y[:1000])
    b = SketchedRegression().partial_fit(X[1000:1010], Y[1000:1010])
    c = SketchedRegression(method="direct").fit(X[1010:], Y[1010:])
    before = a.coef_.copy()
    for merged in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a).merge(b)):
        assert_allclose(merged.coef_, whole.coef_, rtol=1e-8)
        assert_allclose(merged.residual_norm_, whole.residual_norm_, rtol=1e-12)
        assert merged.n_samples_seen_ == 3000
    assert np.array_equal(a.coef_, before) and a.n_samples_seen_ == 1000


def test_weights_remove_and_repeat_rows(X, Y, rng):
    w = rng.integers(0, 4, size=3000)
    for model in (
        SketchedRegression(),
        SketchedRegression(positive=True),
        SketchedRidge(2.0),
        SketchedRidge(method="spir"),
    ):
        weighted = clone(model).fit(X, Y, w)
        repeated = clone(model).fit(np.repeat(X, w, axis=0), np.repeat(Y, w, axis=0))
        assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-8, atol=1e-9)
        assert_allclose(weighted.intercept_, repeated.intercept_, rtol=1e-8, atol=1e-9)


def test_positive_coefficients_are_those_of_scikit_learn(X, Y):
    expected = LinearRegression(positive=True).fit(X, Y)
    model = SketchedRegression(positive=True).fit(X, Y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-8, atol=1e-10)
    assert_allclose(model.intercept_, expected.intercept_, rtol=1e-8)
    assert model.method_ == "nnls" and model.coef_.min() == 0 and model.backward_error_ < 1e-15


def test_means_far_from_zero_cost_no_digits_and_no_warning(rng):
    X = rng.normal(size=(20_000, 6)) + 1e5
    y = X @ np.ones(6) + rng.normal(size=20_000)
    exact = np.linalg.lstsq(X - X.mean(axis=0), y - y.mean(), rcond=None)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("auto", "direct", "spir"):
            assert_allclose(SketchedRegression(method=method, random_state=0).fit(X, y).coef_, exact, rtol=1e-10)


@pytest.mark.parametrize("method", [*FACTORED, "spir"])
def test_deficient_matrices_get_the_least_norm_of_scikit_learn(method, rng):
    X = rng.normal(size=(2500, 8)) + 4.0
    X[:, 1], X[:, 5], X[:, 6] = X[:, 0], 0.0, 7.0  # twice, zero and constant
    y = X @ rng.normal(size=8) + rng.normal(size=2500)
    expected = LinearRegression().fit(X, y)
    model = SketchedRegression(method=method, random_state=0).fit(X, y)
    assert model.rank_ == 5
    assert_allclose(model.coef_, expected.coef_, atol=1e-11)
    assert_allclose(model.intercept_, expected.intercept_, rtol=1e-10)


def test_more_features_than_rows(rng):
    X, y = rng.normal(size=(20, 50)), rng.normal(size=20)
    expected = LinearRegression().fit(X, y)
    for method in ("auto", "spir"):
        assert_allclose(SketchedRegression(method=method).fit(X, y).coef_, expected.coef_, rtol=1e-9, atol=1e-12)
    assert_allclose(SketchedRegression().fit(X[:1], y[:1]).predict(X[:1]), y[:1])


@pytest.mark.parametrize("intercept", [True, False])
def test_a_ridge_with_many_features_forms_nothing_of_features_by_features(intercept, rng):
    X, y = rng.normal(size=(30, 1500)) + 1, rng.normal(size=30)
    for model in (
        SketchedRidge(3.0, fit_intercept=intercept),
        SketchedRidge(3.0, fit_intercept=intercept, method="spir"),
        SketchedRidge(alphas=[3.0, 300.0], cv="loo", fit_intercept=intercept),
    ):
        clone(model).fit(X[:, :40], y)  # imports are no part of it
        tracemalloc.start()
        try:
            model.fit(X, y)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * 1500**2 / 2
        expected = Ridge(model.alpha_, fit_intercept=intercept).fit(X, y)
        assert_allclose(model.coef_, expected.coef_, atol=1e-12)
        assert_allclose(model.intercept_, expected.intercept_, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_extreme_scales_survive(scale, X, Y):
    plain = SketchedRegression(method="direct").fit(X, Y)
    assert_allclose(SketchedRegression(method="direct").fit(X * scale, Y * scale).coef_, plain.coef_, rtol=1e-8)
    stream = SketchedRegression().partial_fit(X * scale, Y * scale)
    assert_allclose(stream.coef_, plain.coef_, rtol=1e-8)


@pytest.mark.parametrize("method", ["auto", "direct", "spir"])
def test_sparse_and_chunked_rows_are_read(method, rng):
    dask = pytest.importorskip("dask.array")
    X = scipy.sparse.random_array((4000, 80), density=0.05, format="csr", rng=rng)
    y = rng.normal(size=4000)
    expected = LinearRegression().fit(X.toarray(), y)
    chunks = dask.from_array(X.toarray(), chunks=(1500, 80))
    for data in (X, X.tocsc(), chunks):
        model = SketchedRegression(method=method, random_state=0).fit(data, y)
        assert_allclose(model.coef_, expected.coef_, atol=1e-12)
        assert_allclose(model.intercept_, expected.intercept_, atol=1e-12)
    assert_allclose(model.predict(X), expected.predict(X.toarray()), atol=1e-12)


def test_penalties_are_chosen_by_the_score_that_is_asked_for(rng):
    X = rng.normal(size=(60, 20))
    y = X @ rng.normal(size=20) + 4 * rng.normal(size=60)
    alphas = np.logspace(-2, 4, 13)
    for cv in ("gcv", "loo", 5, KFold(60)):
        model = SketchedRidge(alphas=alphas, cv=cv).fit(X, y)
        if isinstance(cv, str):
            continue
        search = GridSearchCV(Ridge(solver="svd"), {"alpha": alphas}, cv=cv, scoring="neg_mean_squared_error").fit(X, y)
        assert model.alpha_ == search.best_params_["alpha"]
    # leaving out one is leaving out one
    assert SketchedRidge(alphas=alphas, cv="loo").fit(X, y).alpha_ == model.alpha_


def test_intervals_of_a_sketch_cover_the_least_squares_coefficients(rng):
    X = rng.standard_t(3, size=(2000, 6)) + 1.0
    y = X @ np.ones(6) + rng.standard_t(3, size=2000)
    exact = LinearRegression().fit(X, y).coef_
    inside = []
    for seed in range(150):
        fitted = SketchedRegression(method="sketch_solve", sketch_size=160, confidence=0.9, random_state=seed).fit(X, y)
        stream = SketchedRegression(stream="sketch", sketch_size=160, confidence=0.9, random_state=seed)
        other = clone(stream).set_params(random_state=1000 + seed)
        merged = stream.partial_fit(X[:700], y[:700]).merge(other.partial_fit(X[700:], y[700:]))
        for model in (fitted, merged):
            low, high = model.coef_interval_.T
            inside.append((low <= exact) & (exact <= high))
    # 0.9, and four standard deviations of 150 draws (coordinates of one are alike): 0.1; they average to less
    assert 0.86 < np.mean(inside) < 0.94


def test_the_sketch_of_a_stream_is_that_of_all_rows_at_once(X, Y):
    whole = SketchedRegression(stream="sketch", random_state=3).partial_fit(X, Y)
    stream = SketchedRegression(stream="sketch", random_state=3)
    for i in range(0, 3000, 421):
        stream.partial_fit(X[i : i + 421], Y[i : i + 421])
    assert_allclose(stream.coef_, whole.coef_, rtol=1e-8)
    exact = LinearRegression().fit(X, Y)
    # a sketch of 16 d rows or more: the residual grows by d / m, and what it is estimated at is off by sqrt(2 / m)
    assert_allclose(stream.residual_norm_, np.linalg.norm(Y - exact.predict(X), axis=0), rtol=0.3)
    assert stream.method_ == "sketch_solve"


def test_intervals_of_precise_methods_hold_rounding(X, Y):
    exact = LinearRegression().fit(X, Y[:, 0])
    for method in ("direct", "spir"):
        model = SketchedRegression(method=method, confidence=0.95, random_state=0).fit(X, Y[:, 0])
        low, high = model.coef_interval_.T
        assert model.coef_interval_.shape == (12, 2) and (low <= model.coef_).all() and (model.coef_ <= high).all()
        assert (high - low).max() < 1e-6 * np.abs(exact.coef_).max()
    assert not hasattr(SketchedRegression().fit(X, Y), "coef_interval_")
    assert SketchedRegression(confidence=0.5).fit(X, Y).coef_interval_.shape == (3, 12, 2)


def test_single_precision_stays(X, Y):
    model = SketchedRegression().fit(X.astype("f4"), Y[:, 0].astype("f4"))
    assert model.coef_.dtype == model.predict(X[:3].astype("f4")).dtype == np.float32
    assert SketchedRegression().fit(np.rint(X).astype(int), Y).coef_.dtype == np.float64
    stream = SketchedRegression().partial_fit(X.astype("f4"), Y[:, 0].astype("f4"))
    assert stream.coef_.dtype == np.float32


def test_estimators_work_in_pipelines_and_survive_pickles_and_files(X, Y, tmp_path):
    models = [
        SketchedRegression().fit(X, Y),
        SketchedRegression().partial_fit(X[:40], Y[:40]),
        SketchedRegression(stream="sketch", random_state=0).partial_fit(X, Y),
        SketchedRidge(alphas=[0.1, 1.0]).fit(X, Y),
        SketchedRidge(method="fossils").fit(X, Y),
    ]
    for model in models:
        numcore.save(model, tmp_path / "model")
        for again in (numcore.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
            assert np.array_equal(again.coef_, model.coef_)
            if model.method_ != "fossils":
                assert_allclose(again.partial_fit(X, Y).coef_, clone_fit(model, X, Y), rtol=1e-9)
    piped = make_pipeline(StandardScaler(), SketchedRidge(1.0)).fit(X, Y)
    assert piped.score(X, Y) == pytest.approx(LinearRegression().fit(X, Y).score(X, Y), rel=1e-3)


def clone_fit(model, X, Y):
    """What the model becomes with more rows."""
    return pickle.loads(pickle.dumps(model)).partial_fit(X, Y).coef_


def test_failures_leave_the_model_as_it_was(X, Y):
    model = SketchedRegression().partial_fit(X, Y)
    before = model.coef_.copy()
    bad = X.copy()
    bad[5, 5] = np.nan
    for attempt in (
        lambda: model.partial_fit(bad, Y),
        lambda: model.partial_fit(X[:, :4], Y),
        lambda: model.partial_fit(X, Y[:, 0]),
        lambda: model.partial_fit(X, Y, -np.ones(3000)),
        lambda: model.partial_fit(X, Y, np.zeros(3000)),
        lambda: model.fit(bad, Y),
        lambda: model.fit(X, Y, np.zeros(3000)),
    ):
        with pytest.raises(ValueError):
            attempt()
        assert np.array_equal(model.coef_, before) and model.n_samples_seen_ == 3000


def test_bad_input_is_named(X, Y):
    with pytest.raises(ValueError, match="Input X contains NaN"):
        SketchedRegression().fit(np.where(X > 4, np.nan, X), Y)
    with pytest.raises(ValueError, match="'method' parameter of SketchedRegression"):
        SketchedRegression(method="fast").fit(X, Y)
    with pytest.raises(ValueError, match="'alpha' parameter of SketchedRidge"):
        SketchedRidge(-1.0).fit(X, Y)
    with pytest.raises(ValueError, match="sketch_size must be at least 12"):
        SketchedRegression(sketch_size=3, method="direct").fit(X, Y)
    with pytest.raises(ValueError, match="left no factor"):
        SketchedRegression(method="spir").fit(X, Y).partial_fit(X, Y)
    with pytest.raises(ValueError, match="left no factor"):
        SketchedRegression().fit(X, Y).merge(SketchedRegression(method="spir").fit(X, Y))
    with pytest.raises(ValueError, match="cv='loo' needs all rows"):
        SketchedRidge(alphas=[1.0], cv="loo").partial_fit(X, Y).coef_
    with pytest.raises(ValueError, match="confidence needs"):
        SketchedRidge(1.0, method="sketch_solve", sketch_size=100, confidence=0.9).fit(X, Y)
    with pytest.raises(TypeError, match="other must be a SketchedRegression"):
        SketchedRegression().fit(X, Y).merge(SketchedRidge().fit(X, Y))
    with pytest.raises(ValueError, match="other must have 12 features"):
        SketchedRegression().fit(X, Y).merge(SketchedRegression().fit(X[:, :3], Y))
    with pytest.raises(ValueError, match="other must have 3 targets"):
        SketchedRegression().fit(X, Y).merge(SketchedRegression().fit(X, Y[:, 0]))
    with pytest.raises(ValueError, match="fit_intercept=True"):
        SketchedRegression().fit(X, Y).merge(SketchedRegression(fit_intercept=False).fit(X, Y))
    one = SketchedRegression(stream="sketch", random_state=0).partial_fit(X, Y)
    with pytest.raises(ValueError, match="same random_state"):
        one.merge(SketchedRegression(stream="sketch", random_state=0).partial_fit(X, Y))
    with pytest.raises(AttributeError, match="coef_"):
        _ = SketchedRegression().coef_


def test_the_estimator_is_the_function_beneath(X, Y):
    found = lstsq(X, Y, method="direct", rng=0)
    model = SketchedRegression(fit_intercept=False, method="direct").fit(X, Y)
    assert_allclose(model.coef_.T, found.x, rtol=1e-9)
    assert model.intercept_ is not None and not np.any(model.intercept_)
