"""The scikit-learn transformer: its contract, and that it is the function underneath."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from numcore.algorithms.transport import (
    PointCloudCost,
    SinkhornTransport,
    estimators,
    sinkhorn,
    sinkhorn_divergence,
)
from numcore.results import ConvergenceWarning


@parametrize_with_checks([SinkhornTransport(), SinkhornTransport(out_of_sample="barycentric")])
def test_scikit_learns_own_checks(estimator, check):
    with warnings.catch_warnings():
        # the checks pass no target cloud; the estimator says so, and what they do with labels is not what it is for
        warnings.filterwarnings("ignore", "SinkhornTransport.fit got no target cloud")
        check(estimator)


def test_the_parameters_and_defaults_are_those_of_the_specification():
    parameters = inspect.signature(SinkhornTransport).parameters
    defaults = {"reg": 0.05, "reg_scale": "mean", "metric": "sqeuclidean", "method": "auto", "marginal_reg": None}
    defaults |= {"out_of_sample": "entropic", "tol": None, "max_iter": 10000, "verbose": 0}
    assert {name: p.default for name, p in parameters.items()} == defaults
    assert [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY] == ["reg"]
    fit = inspect.signature(SinkhornTransport.fit).parameters
    assert list(fit) == ["self", "X", "y", "sample_weight", "target_weight"]


def test_fitting_learns_what_sinkhorn_gives(clouds):
    T = SinkhornTransport(0.1).fit(clouds.X, clouds.Y)
    result = sinkhorn(PointCloudCost(clouds.X, clouds.Y), reg=0.1, reg_scale="mean")
    assert T.n_features_in_ == 2 and T.n_iter_ == result.n_iter and T.reg_ == result.reg == T.result_.reg
    assert_allclose(T.plan_, result.plan, rtol=1e-12)
    assert np.array_equal(T.source_, clouds.X) and np.array_equal(T.target_, clouds.Y)
    assert isinstance(T.cost_, PointCloudCost) and T.cost_.shape == (20, 27)


@pytest.mark.parametrize("out_of_sample", ["entropic", "barycentric"])
def test_training_points_go_to_their_barycentric_projection(clouds, out_of_sample):
    T = SinkhornTransport(0.1, out_of_sample=out_of_sample).fit(
        clouds.X, clouds.Y, sample_weight=clouds.a, target_weight=clouds.b
    )
    P = T.plan_
    # the map normalises a row by its own sum: 1e-9 off at weights of 1e-2
    assert_allclose(T.transform(clouds.X), P @ clouds.Y / clouds.a[:, None], atol=1e-6)
    assert_allclose(T.inverse_transform(clouds.Y), P.T @ clouds.X / clouds.b[:, None], atol=1e-6)
    assert_allclose(T.fit_transform(clouds.X, clouds.Y), T.fit(clouds.X, clouds.Y).transform(clouds.X), rtol=1e-12)


def test_the_example_of_the_documentation_holds(rng):
    X, Y = rng.normal(size=(50, 2)), rng.normal(size=(60, 2)) + 2
    result = sinkhorn(PointCloudCost(X, Y), reg=0.02, reg_scale="mean")
    T = SinkhornTransport(reg=0.02).fit(X, Y)
    assert_allclose(T.transform(X[:3]), (result.apply(Y) * len(X))[:3], atol=1e-7)


def test_barycentric_maps_move_a_new_point_as_its_nearest_training_point(clouds):
    T = SinkhornTransport(0.1, out_of_sample="barycentric").fit(clouds.X, clouds.Y)
    shift = np.array([1e-6, -1e-6])
    assert_allclose(T.transform(clouds.X + shift) - shift, T.transform(clouds.X), atol=1e-12)


def test_entropic_maps_are_smooth_between_training_points(clouds):
    T = SinkhornTransport(0.1).fit(clouds.X, clouds.Y)
    line = np.linspace(clouds.X[0], clouds.X[1], 200)
    steps = np.linalg.norm(np.diff(T.transform(line), axis=0), axis=1)
    assert steps.max() < 20 * steps.mean()


def test_weights_are_normalised(clouds):
    one, two = (
        SinkhornTransport(0.1).fit(clouds.X, clouds.Y, sample_weight=s * clouds.a, target_weight=clouds.b)
        for s in (1.0, 50.0)
    )
    assert_allclose(one.plan_, two.plan_, rtol=1e-10)
    assert_allclose(one.plan_.sum(), 1, rtol=1e-9)


def test_points_without_weight_are_as_if_absent(clouds):
    w = np.ones(20)
    w[:4] = 0
    weighted = SinkhornTransport(0.1, reg_scale="absolute").fit(clouds.X, clouds.Y, sample_weight=w)
    absent = SinkhornTransport(0.1, reg_scale="absolute").fit(clouds.X[4:], clouds.Y)
    assert_allclose(weighted.transform(clouds.X), absent.transform(clouds.X), atol=1e-6)


@pytest.mark.parametrize("y", [None, np.arange(20), ["a"] * 20])
def test_without_a_target_cloud_the_source_is_the_target_and_a_warning_says_so(clouds, y):
    with pytest.warns(UserWarning, match="no target cloud"):
        T = SinkhornTransport(0.1).fit(clouds.X, y, sample_weight=clouds.a)
    assert np.array_equal(T.target_, clouds.X)
    assert_allclose(T.plan_.sum(0), clouds.a, atol=1e-9)


def test_the_score_is_minus_the_divergence_of_the_mapped_points_at_the_fitted_reg(clouds):
    T = SinkhornTransport(0.1).fit(clouds.X, clouds.Y)
    expected = -sinkhorn_divergence(T.transform(clouds.X), clouds.Y, reg=T.reg_).value
    assert T.score(clouds.X, clouds.Y) == pytest.approx(expected, rel=1e-12)
    assert T.score(clouds.X) == T.score(clouds.X, clouds.Y) <= 0
    blurred = SinkhornTransport(10.0).fit(clouds.X, clouds.Y)
    blurred.reg_ = T.reg_
    assert blurred.score(clouds.X, clouds.Y) < T.score(clouds.X, clouds.Y)


@pytest.mark.parametrize("out_of_sample", ["entropic", "barycentric"])
def test_float32_stays_float32(clouds, out_of_sample):
    X, Y = clouds.X.astype(np.float32), clouds.Y.astype(np.float32)
    T = SinkhornTransport(0.1, out_of_sample=out_of_sample).fit(X, Y)
    assert {x.dtype for x in (T.plan_, T.transform(X), T.inverse_transform(Y))} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "options", [{"method": "newton"}, {"method": "kernel"}, {"marginal_reg": 1.0}, {"metric": "euclidean"}]
)
def test_parameters_reach_the_solver(clouds, options):
    T = SinkhornTransport(0.1, **options).fit(clouds.X, clouds.Y)
    metric = options.pop("metric", "sqeuclidean")
    result = sinkhorn(PointCloudCost(clouds.X, clouds.Y, metric), reg=0.1, reg_scale="mean", **options)
    assert T.result_.method == result.method
    assert_allclose(T.plan_, result.plan, atol=1e-12)


def test_tol_max_iter_and_verbose_reach_the_solver(clouds, capsys):
    with pytest.warns(ConvergenceWarning):
        T = SinkhornTransport(0.01, tol=1e-3, max_iter=2, verbose=1).fit(clouds.X, clouds.Y)
    assert T.n_iter_ == 2 and not T.result_.converged and "sinkhorn" in capsys.readouterr().err
    assert SinkhornTransport(0.1, tol=1e-3).fit(clouds.X, clouds.Y).result_.marginal_error > 1e-9


@pytest.mark.parametrize(
    "parameter",
    [
        {"reg": 0.0},
        {"reg": "small"},
        {"reg_scale": "median"},
        {"metric": "chebyshev"},
        {"method": "fast"},
        {"marginal_reg": -1.0},
        {"out_of_sample": "nearest"},
        {"tol": -1.0},
        {"max_iter": 0},
    ],
)
def test_bad_parameters_are_kept_by_init_and_refused_by_fit(clouds, parameter):
    T = SinkhornTransport(**parameter)
    (name,) = parameter
    assert getattr(T, name) == parameter[name]
    with pytest.raises(ValueError, match=name):
        T.fit(clouds.X, clouds.Y)
    assert not hasattr(T, "result_")


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ({"y": np.ones((5, 3))}, "y must have the 2 features of X"),
        ({"y": np.full((5, 2), np.nan)}, "y contains NaN"),
        ({"sample_weight": -np.ones(20)}, "(?i)negative"),
        ({"sample_weight": np.zeros(20)}, "sample_weight must have a positive sum|all-zero|zero"),
        ({"sample_weight": np.ones(3)}, r"sample_weight"),
        ({"target_weight": np.ones(3)}, r"weight"),
    ],
)
def test_bad_data_is_refused_by_name(clouds, fit, message):
    with pytest.raises(ValueError, match=message):
        SinkhornTransport().fit(clouds.X, **({"y": clouds.Y} | fit))


def test_nothing_can_be_asked_before_fitting(clouds):
    T = SinkhornTransport()
    for ask in (
        lambda: T.plan_,
        lambda: T.transform(clouds.X),
        lambda: T.inverse_transform(clouds.X),
        lambda: T.score(clouds.X),
    ):
        with pytest.raises(NotFittedError):
            ask()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("fitted", [False, True])
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(monkeypatch, clouds, error, fitted):
    T = SinkhornTransport(0.1)
    if fitted:
        T.fit(clouds.X, clouds.Y)
    before = dict(vars(T))

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(estimators, "sinkhorn", fail)
    with pytest.raises(error):
        T.fit(np.ones((9, 5)) * np.arange(9)[:, None], np.ones((4, 5)))
    assert list(vars(T)) == list(before) and all(vars(T)[name] is before[name] for name in before)
    if fitted:
        assert T.transform(clouds.X).shape == (20, 2)


def test_a_fitted_estimator_survives_pickling_and_cloning(clouds):
    T = SinkhornTransport(0.1, out_of_sample="barycentric").fit(clouds.X, clouds.Y)
    back = pickle.loads(pickle.dumps(T))
    assert np.array_equal(back.transform(clouds.X), T.transform(clouds.X))
    assert np.array_equal(back.plan_, T.plan_)
    assert clone(T).get_params() == T.get_params() and not hasattr(clone(T), "result_")


def test_it_works_in_pipelines(clouds):
    pipeline = make_pipeline(StandardScaler(), SinkhornTransport(0.1)).fit(clouds.X, clouds.Y)
    assert pipeline.transform(clouds.X).shape == (20, 2)
    assert list(pipeline[-1].get_feature_names_out()) == ["x0", "x1"]


def test_grid_search_prefers_the_sharper_plan(rng):
    # folds of source and target are cut alike, and the score is that of the map on the points held out
    X = rng.normal(size=(60, 2))
    Y = X * [2.0, 0.5] + 3
    search = GridSearchCV(
        SinkhornTransport(tol=1e-4),
        {"reg": [0.05, 5.0]},
        cv=3,
        scoring=lambda T, X, Y: -np.mean((T.transform(X) - Y) ** 2),
    )
    assert search.fit(X, Y).best_params_ == {"reg": 0.05}
