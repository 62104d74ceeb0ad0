"""The estimators: scikit-learn's contract, the objective they minimise, and what they reach."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import numcore
from numcore import autodiff as ad
from numcore.algorithms.curvature import GNSLogisticRegression, MFACClassifier, MFACRegressor, _nets
from numcore.algorithms.curvature._logistic import Logistic
from numcore.algorithms.curvature._training import Objective
from numcore.results import ConvergenceWarning

NETS = [MFACClassifier, MFACRegressor]


@pytest.fixture(autouse=True)
def without_convergence_warnings():
    """Most nets here are trained for a few epochs; where the warning matters it is asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=0.3, stratify=y, random_state=0)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


def small(kind, **options):
    return kind((8,), **{"max_iter": 5, "batch_size": 32, "random_state": 0} | options)


@parametrize_with_checks(
    [
        MFACClassifier(),
        MFACClassifier(solver="adam", loss="stablemax"),
        MFACClassifier(solver="sgd", loss="z"),
        MFACClassifier(solver="gns", max_iter=20),
        MFACRegressor(),
        MFACRegressor(loss="huber"),
        GNSLogisticRegression(),
        GNSLogisticRegression(hess="ggn"),
        GNSLogisticRegression(hess="fisher"),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_the_parameters_and_defaults_are_those_of_the_specification():
    defaults = {
        "hidden_layer_sizes": (100,),
        "activation": "relu",
        "solver": "mfac",
        "loss": "auto",
        "alpha": 1e-4,
        "batch_size": 128,
        "lr": 1e-2,
        "window": 64,
        "damp": 1e-3,
        "normalize": "count",
        "momentum": 0.9,
        "max_iter": 100,
        "tol": 1e-4,
        "n_iter_no_change": 10,
        "early_stopping": False,
        "validation_fraction": 0.1,
        "warm_start": False,
        "random_state": None,
        "verbose": 0,
    }
    for kind in NETS:
        parameters = inspect.signature(kind).parameters
        assert {name: p.default for name, p in parameters.items()} == defaults
        assert [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY] == ["hidden_layer_sizes"]
        pruning = inspect.signature(kind.prune).parameters
        assert list(pruning) == ["self", "X", "y", "sparsity", "method", "n_recompute"]
        assert pruning["method"].default == "mfac" and pruning["n_recompute"].default == 16
    logistic = inspect.signature(GNSLogisticRegression).parameters
    assert {name: p.default for name, p in logistic.items()} == {
        "C": 1.0,
        "hess": "exact",
        "fit_intercept": True,
        "tol": 1e-6,
        "max_iter": 200,
    }


# what nets reach


def test_defaults_learn_the_digits_as_well_as_adam_does(digits):
    # 540 images held out: the standard error of the mean of three seeds is about 0.005
    X, X_test, y, y_test = digits
    mfac = [MFACClassifier((64, 64), random_state=k).fit(X, y).score(X_test, y_test) for k in range(3)]
    adam = [
        MFACClassifier((64, 64), solver="adam", lr=1e-3, max_iter=40, random_state=k).fit(X, y).score(X_test, y_test)
        for k in range(3)
    ]
    assert np.mean(mfac) > 0.955
    assert np.mean(mfac) > np.mean(adam) - 0.015


def test_a_step_of_mfac_is_worth_several_of_adam_early_on(digits):
    X, _, y, _ = digits
    mfac = MFACClassifier((64, 64), max_iter=10, random_state=0).fit(X, y)
    adam = MFACClassifier((64, 64), solver="adam", lr=1e-3, max_iter=10, random_state=0).fit(X, y)
    assert mfac.loss_curve_[-1] < adam.loss_curve_[-1] / 2


@pytest.mark.parametrize("solver", ["mfac", "adam", "sgd", "gns"])
@pytest.mark.parametrize("loss", ["softmax", "stablemax", "z"])
def test_every_solver_learns_every_loss_of_classes(iris, solver, loss):
    lr = {"mfac": 1e-2, "adam": 1e-2, "sgd": 0.1, "gns": 1.0}[solver]
    net = MFACClassifier((16,), solver=solver, loss=loss, lr=lr, batch_size=32, random_state=0, max_iter=60)
    assert net.fit(*iris).score(*iris) > 0.93


@pytest.mark.parametrize("solver", ["mfac", "adam", "gns"])
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_every_solver_learns_every_loss_of_a_regression(solver, loss):
    X, y = load_diabetes(return_X_y=True)
    net = MFACRegressor((16,), solver=solver, loss=loss, batch_size=64, random_state=0, max_iter=60)
    assert net.fit(scale(X), scale(y)).score(scale(X), scale(y)) > 0.5  # least squares: 0.518


def test_a_linear_net_finds_the_least_squares_solution():
    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X), scale(y)
    net = MFACRegressor((), solver="gns", alpha=0.0, tol=1e-7, random_state=0).fit(X, y)
    # the smallest eigenvalue of X^T X / n is 0.0086, so that a gradient of 1e-7 leaves an error of 1e-5
    assert_allclose(net.predict(X), X @ np.linalg.lstsq(X, y)[0], atol=1e-4)


def test_several_targets_are_learned_at_once():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    Y = np.stack([X[:, 0], X[:, 1] * 2 - X[:, 2]], axis=1)
    net = MFACRegressor((16,), batch_size=64, random_state=0).fit(X, Y)
    assert net.predict(X).shape == (200, 2) and net.score(X, Y) > 0.95


# the objective


@pytest.mark.parametrize("weighted", [False, True])
def test_objective_and_gradient_and_curvature_agree_with_finite_differences(iris, weighted):
    X, y = iris[0][::10], iris[1][::10]
    weight = np.linspace(0.5, 1.5, len(X)) if weighted else None
    net = ad.nn.MLP([4, 3])  # linear, so that the Gauss-Newton matrix is the Hessian
    kept = np.arange(net.n_params) != 2
    objective = Objective(net, "softmax", X, y, weight, 0.3, kept)
    theta = net.init(rng=0, dtype=np.float64)
    g = np.empty_like(theta)

    def value(theta):
        return objective.value_and_grad(theta, np.empty_like(theta))

    def gradient(theta):
        out = np.empty_like(theta)
        objective.value_and_grad(theta, out)
        return out

    objective.value_and_grad(theta, g)
    assert g[2] == 0
    assert_allclose(g, approx_fprime(theta, value, 1e-7) * kept, atol=1e-6)
    dense = objective.curvature(theta) @ np.eye(len(theta))
    slopes = approx_fprime(theta, gradient, 1e-7) * kept
    assert_allclose(dense, slopes, atol=1e-6)


def test_the_penalty_shrinks_weights_and_leaves_biases_alone(iris):
    X, y = iris
    free, held = (MFACClassifier((), solver="gns", alpha=a, random_state=0, max_iter=50).fit(X, y) for a in (1.0, 1e4))
    assert abs(held.theta_[:12]).max() < 0.02 * abs(free.theta_[:12]).max()
    # balanced classes: without weights the best biases are equal, wherever they are
    assert np.ptp(held.theta_[12:]) < 1e-2


def test_a_weight_counts_as_so_many_examples(iris):
    X, y = iris
    times = np.random.default_rng(0).integers(0, 4, len(y))
    options = {"batch_size": 1000, "max_iter": 20, "alpha": 1.0}  # one batch: nothing depends on the order
    repeated = small(MFACClassifier, **options).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    weighted = small(MFACClassifier, **options).fit(X, y, sample_weight=times)
    assert_allclose(weighted.theta_, repeated.theta_, atol=1e-8)
    assert_allclose(weighted.loss_curve_, repeated.loss_curve_, atol=1e-9)


# going on, stopping, failing


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("solver", ["mfac", "adam"])
def test_training_in_parts_is_training_in_one_go(iris, kind, solver):
    X, y = iris
    whole = small(kind, solver=solver, max_iter=6).fit(X, y)
    warm = small(kind, solver=solver, max_iter=3, warm_start=True).fit(X, y).fit(X, y)
    parts = small(kind, solver=solver)
    for _ in range(6):
        parts.partial_fit(X, y, **({"classes": [0, 1, 2]} if kind is MFACClassifier else {}))
    for other in (warm, parts):
        assert np.array_equal(other.theta_, whole.theta_)
        assert other.loss_curve_ == whole.loss_curve_ and other.n_iter_ == 6
    again = small(kind, solver=solver, max_iter=3).fit(X, y).fit(X, y)  # a cold start begins anew
    assert again.n_iter_ == 3


def test_a_new_step_size_holds_at_once_and_a_new_solver_forgets_what_the_old_one_knew(iris):
    X, y = iris
    net = small(MFACClassifier, warm_start=True).fit(X, y)
    before, fisher = net.theta_, net._optimizer.state["fisher"]
    net.set_params(lr=1e-300).partial_fit(X, y)
    assert_allclose(net.theta_, before, rtol=1e-12)
    assert net._optimizer.state["fisher"] is fisher
    net.set_params(window=16, lr=1e-2).partial_fit(X, y)
    assert net._optimizer.window == 16
    for solver in ("adam", "sgd", "gns", "mfac"):
        before = net.theta_
        assert not np.array_equal(net.set_params(solver=solver).fit(X, y).theta_, before)


def test_the_net_is_the_same_on_any_number_of_threads(digits):
    numba = pytest.importorskip("numba")
    X, _, y, _ = digits
    nets, before = [], numba.get_num_threads()
    for n in (1, 2):
        numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
        with threadpool_limits(n):
            nets.append(MFACClassifier((64,), max_iter=2, random_state=3).fit(X, y).prune(X, y, 0.5, n_recompute=2))
    numba.set_num_threads(before)
    assert np.array_equal(nets[0].theta_, nets[1].theta_)


def test_float32_stays_float32_throughout(digits):
    X, X_test, y, _ = digits
    net = MFACClassifier((16,), max_iter=5, random_state=0).fit(X.astype(np.float32), y)
    assert net.theta_.dtype == np.float32 and net.predict_proba(X_test.astype(np.float32)).dtype == np.float32
    net.prune(X.astype(np.float32), y, 0.5, n_recompute=2).partial_fit(X.astype(np.float32), y)
    assert net.theta_.dtype == np.float32
    assert small(MFACRegressor).fit(X.astype(np.float32), y).predict(X_test.astype(np.float32)).dtype == np.float32
    logistic = GNSLogisticRegression().fit(X[:200].astype(np.float32), y[:200])
    assert logistic.coef_.dtype == np.float32 and logistic.intercept_.dtype == np.float32


def test_it_stops_when_no_epoch_improves_the_loss_by_tol(iris):
    net = MFACClassifier((8,), tol=0.01, n_iter_no_change=4, random_state=0, batch_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(*iris)
    curve = np.array(net.loss_curve_)
    best = np.minimum.accumulate(curve)
    gains = np.concatenate([[np.inf], np.maximum(best[:-1] - curve[1:], 0)])
    quiet = [np.all(gains[max(0, k - 3) : k + 1] <= 0.01) and k >= 3 for k in range(len(curve))]
    assert len(curve) < 100 and quiet[-1] and not any(quiet[:-1])


def test_early_stopping_takes_the_parameters_that_did_best_on_what_is_held_out(digits):
    X, _, y, _ = digits
    net = MFACClassifier((16,), early_stopping=True, validation_fraction=0.2, random_state=0, n_iter_no_change=3)
    net.fit(X, y)
    held = net._split(X, y, None)[3:]
    assert len(held[0]) == pytest.approx(0.2 * len(X), abs=1)
    assert len(net.validation_scores_) == net.n_iter_ < 100
    assert net.score(held[0], held[1]) == max(net.validation_scores_)


def test_too_few_epochs_are_warned_of(iris):
    with pytest.warns(ConvergenceWarning, match=r"MFACClassifier did not converge: it used all 2 iterations"):
        small(MFACClassifier, max_iter=2).fit(*iris)


class Interrupted:
    """An optimizer whose step is interrupted at the n-th call."""

    def __init__(self, n):
        self.left = n

    def step(self, theta, grad):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        theta -= 0.01 * grad


@pytest.mark.parametrize("n", [1, 3, 12])
def test_an_interrupted_fit_leaves_a_usable_net(iris, monkeypatch, n):
    X, y = iris
    net = small(MFACClassifier, max_iter=10)
    monkeypatch.setattr(type(net), "_new_optimizer", lambda self: Interrupted(n))
    with pytest.warns(UserWarning, match="MFACClassifier: training was interrupted"):
        net.fit(X, y)
    monkeypatch.undo()
    assert net.predict(X).shape == y.shape and np.isfinite(net.theta_).all()
    assert net.n_iter_ == len(net.loss_curve_) == (n - 1) // 5
    start = small(MFACClassifier, max_iter=1, solver="sgd", lr=1e-300).fit(X, y).theta_
    assert np.allclose(net.theta_, start, rtol=0, atol=1e-250) == (n == 1)  # the steps before the interruption are kept
    pickle.loads(pickle.dumps(net)).partial_fit(X, y)
    net.set_params(warm_start=True).fit(X, y)
    assert net.n_iter_ == (n - 1) // 5 + 10


def test_an_interrupted_newton_fit_keeps_the_steps_made(iris, monkeypatch):
    X, y = iris
    whole = small(MFACClassifier, solver="gns", max_iter=3).fit(X, y)
    made = []

    def interrupting(self, theta):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(theta)
        return curvature(self, theta)

    curvature = Objective.curvature
    monkeypatch.setattr(Objective, "curvature", interrupting)
    with pytest.warns(UserWarning, match="interrupted"):
        net = small(MFACClassifier, solver="gns", max_iter=30).fit(X, y)
    assert np.array_equal(net.theta_, whole.theta_) and net.n_iter_ == 3


def test_a_fit_that_fails_leaves_the_net_as_it_was(iris):
    X, y = iris
    net = small(MFACClassifier).fit(X, y)
    before = {key: np.copy(value) if isinstance(value, np.ndarray) else value for key, value in vars(net).items()}
    for call in (
        lambda: net.fit(X, y[1:]),
        lambda: net.fit(X, np.zeros(len(X))),
        lambda: net.fit(X[:, :2], y, sample_weight=np.zeros(len(X))),
        lambda: net.partial_fit(X, y + 5),
        lambda: net.partial_fit(X[:, :2], y),
        lambda: net.prune(X, y, 1.0),
        lambda: net.prune(X, y, 0.5, method="optimal"),
        lambda: net.prune(X, y, 0.5, n_recompute=0),
    ):
        with pytest.raises(ValueError):
            call()
        assert vars(net).keys() == before.keys()
        assert all(np.array_equal(vars(net)[key], value) for key, value in before.items())


def test_a_net_that_diverges_is_undone_and_says_so(iris):
    X, y = iris
    with pytest.warns(ConvergenceWarning, match="not finite, and is undone. Lower lr"):
        net = MFACRegressor((8,), solver="sgd", lr=1e6, random_state=0).fit(X, y)
    assert np.isfinite(net.theta_).all() and np.isfinite(net.predict(X)).all()
    assert np.isfinite(net.loss_curve_).all()
    with pytest.warns(ConvergenceWarning, match="not finite, and is undone. Lower lr"):
        net.set_params(early_stopping=True).fit(X, y)
    assert np.isfinite(net.theta_).all()
    net = MFACRegressor((8,), solver="sgd", lr=1e12, batch_size=10, random_state=0)
    with pytest.warns(ConvergenceWarning, match="not finite, and is undone"):
        net.partial_fit(X, y)
    assert net.n_iter_ == 0
    assert np.isfinite(net.theta_).all()


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.filterwarnings("ignore:K = G G:RuntimeWarning")  # far out gradients are large
@pytest.mark.parametrize(("solver", "batch_size"), [("mfac", 1000), ("adam", 1000), ("sgd", 1000), ("sgd", 40)])
@pytest.mark.parametrize("Estimator", NETS)
@pytest.mark.parametrize("lr", [1e10, 1e155, 1e300])
def test_an_epoch_whose_last_step_went_too_far_is_undone_as_well(
    iris, Estimator, solver, batch_size, lr, early_stopping
):
    X, y = iris
    net = Estimator((8,), solver=solver, batch_size=batch_size, lr=lr, early_stopping=early_stopping, max_iter=12)
    with np.errstate(over="ignore"):  # the penalty, where all is still finite but only just
        net.set_params(random_state=0).fit(X, y)
    assert np.isfinite(net._net()(net.theta_, X)).all()
    assert np.isfinite(net.loss_curve_).all()
    assert len(net.loss_curve_) == net.n_iter_
    if early_stopping:
        assert len(net.validation_scores_) == net.n_iter_


def test_bad_input_is_refused_with_its_name(iris):
    X, y = iris
    with pytest.raises(ValueError, match="y must hold at least 2 classes; got 1 class"):
        small(MFACClassifier).fit(X, np.zeros(len(X), int))
    with pytest.raises(ValueError, match="y must hold at least 2 classes"):
        GNSLogisticRegression().fit(X, ["a"] * len(X))
    with pytest.raises(ValueError, match="(?i)sample.weight"):
        small(MFACClassifier).fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match="hidden_layer_sizes must be positive integers"):
        MFACClassifier((8, 0)).fit(X, y)
    with pytest.raises(ValueError, match="'solver' parameter of MFACClassifier must be"):
        MFACClassifier(solver="newton").fit(X, y)
    with pytest.raises(ValueError, match="'loss' parameter of MFACRegressor must be"):
        MFACRegressor(loss="softmax").fit(X, y)
    with pytest.raises(ValueError, match="'damp' parameter"):
        MFACClassifier(damp=0.0).fit(X, y)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        small(MFACClassifier).partial_fit(X, y)
    with pytest.raises(ValueError, match="y must hold classes that are known, .*; got also"):
        small(MFACClassifier).fit(X[:100], y[:100]).partial_fit(X, y)
    with pytest.raises(AttributeError, match="'gns'|partial_fit"):
        small(MFACClassifier, solver="gns").partial_fit(X, y)
    with pytest.raises(NotFittedError):
        small(MFACClassifier).prune(X, y, 0.5)
    warm = small(MFACClassifier, warm_start=True).fit(X, y)
    for name, value in {"hidden_layer_sizes": (9,), "activation": "tanh", "loss": "z"}.items():
        with pytest.raises(ValueError, match=f"{name} must stay .* for training to go on; got "):
            clone(warm).fit(X, y).set_params(**{name: value}).fit(X, y)


def test_few_examples_and_a_constant_target_are_no_problem():
    X = np.arange(10.0).reshape(5, 2)
    net = MFACRegressor((4,), random_state=0, max_iter=300, n_iter_no_change=300, alpha=0.0).fit(X, np.full(5, 2.0))
    assert_allclose(net.predict(X), 2.0, atol=0.1)
    assert MFACClassifier((4,), random_state=0).fit(X[:2], [0, 1]).predict(X).shape == (5,)


def test_progress_is_shown_when_asked_for(iris, capsys):
    small(MFACClassifier, verbose=1).fit(*iris)
    shown = capsys.readouterr().err
    assert "MFACClassifier" in shown and "loss=" in shown
    small(MFACClassifier).fit(*iris)
    assert capsys.readouterr().err == ""


# what a fitted net tells


def test_probabilities_are_those_that_the_loss_is_the_entropy_of(iris):
    X, y = iris
    for loss in ("softmax", "stablemax"):
        net = small(MFACClassifier, loss=loss, alpha=0.0).fit(X, y)
        P = net.predict_proba(X)
        assert_allclose(P.sum(axis=1), 1)
        value, _ = net._net().loss_and_grad(net.theta_, X, y, loss=loss)
        assert -np.log(P[np.arange(len(y)), y]).mean() == pytest.approx(value, rel=1e-12)
        assert_allclose(net.predict_log_proba(X), np.log(P))
        assert np.array_equal(net.predict(X), net.decision_function(X).argmax(axis=1))
    net = small(MFACClassifier, loss="z").fit(X, y)
    assert not hasattr(net, "predict_proba") and net.decision_function(X).shape == (150, 3)


def test_labels_may_be_strings(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    net, named = small(MFACClassifier).fit(X, y), small(MFACClassifier).fit(X, names)
    assert np.array_equal(named.predict(X), np.array(["setosa", "versicolor", "virginica"])[net.predict(X)])


@pytest.mark.parametrize("kind", [*NETS, GNSLogisticRegression])
def test_saved_and_pickled_estimators_go_on_as_if_nothing_had_happened(iris, tmp_path, kind):
    X, y = iris
    fitted = (kind() if kind is GNSLogisticRegression else small(kind)).fit(X, y)
    if kind is not GNSLogisticRegression:
        fitted.prune(X, y, 0.3, n_recompute=2).partial_fit(X, y)
    numcore.save(fitted, tmp_path / "net")
    for again in (numcore.load(tmp_path / "net"), pickle.loads(pickle.dumps(fitted))):
        assert np.array_equal(again.predict(X), fitted.predict(X))
        if kind is not GNSLogisticRegression:
            continued = clone(fitted)
            vars(continued).update(vars(pickle.loads(pickle.dumps(fitted))))
            assert np.array_equal(again.partial_fit(X, y).theta_, continued.partial_fit(X, y).theta_)


def test_it_works_in_pipelines_and_searches(iris):
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), small(MFACClassifier, max_iter=20)), {"mfacclassifier__damp": [1e-3, 1e-2]}
    )
    assert search.fit(X, y).best_score_ > 0.9


# pruning


def test_pruned_weights_are_zero_in_the_share_asked_for_and_stay_zero(digits):
    X, _, y, _ = digits
    for solver in ("mfac", "adam", "sgd"):
        net = small(MFACClassifier, solver=solver).fit(X, y)
        assert net.mask_.all() and net.prune(X, y, 0.6, n_recompute=3) is net
        weights = np.r_[0 : 64 * 8, 64 * 8 + 8 : 64 * 8 + 8 + 80]
        dropped = weights[~net.mask_[weights]]
        assert len(dropped) == round(0.6 * len(weights)) and net.mask_.sum() + len(dropped) == len(net.mask_)
        assert net.prune_result_.sparsity == pytest.approx(0.6, abs=1 / len(weights))
        assert (net.theta_[dropped] == 0).all()
        before = net.theta_.copy()
        net.partial_fit(X, y).set_params(warm_start=True).fit(X, y)
        assert (net.theta_[dropped] == 0).all() and (net.theta_ != before).any()
        net.prune(X, y, 0.8, method="magnitude")
        assert (~net.mask_).sum() == round(0.8 * len(weights)) and not net.mask_[dropped].any()
        with pytest.raises(ValueError, match="sparsity"):
            net.prune(X, y, 0.5)
        net.set_params(warm_start=False).fit(X, y)
        assert net.mask_.all()


def test_newton_steps_leave_pruned_weights_alone(iris):
    X, y = iris
    net = small(MFACClassifier, solver="gns", warm_start=True).fit(X, y).prune(X, y, 0.5, method="magnitude")
    loss = net._objective(X, y, None).value_and_grad(net.theta_, np.empty_like(net.theta_))
    net.fit(X, y)
    assert (net.theta_[~net.mask_] == 0).all() and net.loss_curve_[-1] < loss


def test_mfac_pruning_without_fine_tuning_keeps_what_magnitude_pruning_loses(digits):
    X, X_test, y, y_test = digits
    scores = {}
    for method in ("mfac", "magnitude"):
        net = MFACClassifier((64, 64), solver="adam", lr=1e-3, batch_size=64, max_iter=40, alpha=0.0, random_state=0)
        scores[method] = net.fit(X, y).prune(X, y, 0.9, method=method).score(X_test, y_test)
    # the specification's protocol: 0.921 and 0.322 in the mean of three seeds
    assert scores["mfac"] >= 0.88 and scores["mfac"] - scores["magnitude"] >= 0.4


def test_sap_stops_by_itself_or_at_the_sparsity_asked_for(digits):
    X, X_test, y, y_test = digits
    net = MFACClassifier((64,), solver="adam", lr=1e-3, max_iter=20, random_state=0).fit(X, y)
    net.prune(X, y, 0.5, method="sap", n_recompute=30)
    assert 0.2 < net.prune_result_.sparsity <= 0.5 and net.score(X_test, y_test) > 0.9
    assert (net.theta_[~net.mask_] == 0).all()


# logistic regression


@pytest.mark.parametrize("hess", ["exact", "ggn", "fisher"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_logistic_regression_finds_what_scikit_learn_finds(iris, hess, fit_intercept, weighted):
    rng = np.random.default_rng(0)
    cancer = load_breast_cancer(return_X_y=True)
    for X, y in ((scale(cancer[0])[:, :8], cancer[1]), iris):
        weight = rng.uniform(0.5, 2, len(y)) if weighted else None
        ours = GNSLogisticRegression(0.5, hess=hess, fit_intercept=fit_intercept, tol=1e-8, max_iter=5000)
        theirs = LogisticRegression(C=0.5, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-10)
        ours.fit(X, y, weight), theirs.fit(X, y, weight)
        # the penalty alone bends by 1 / (C n) >= 1e-3, so that a gradient of 1e-8 is an error of at most 1e-5
        assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
        assert_allclose(
            ours.intercept_ - ours.intercept_.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=1e-4
        )
        assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
        assert ours.result_.converged


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_gradient_and_hessians_agree_with_finite_differences(iris, n_classes):
    X, y = iris[0][: 50 * n_classes : 5], iris[1][: 50 * n_classes : 5]
    problem = Logistic(X, y, np.linspace(0.5, 2, len(y)), 2.0, True)
    w = np.random.default_rng(0).standard_normal(problem.size)
    assert_allclose(problem.gradient(w), approx_fprime(w, problem.value, 1e-7), atol=1e-6)
    H = problem.hessian("exact")(w)
    assert_allclose(H, approx_fprime(w, problem.gradient, 1e-7), atol=1e-6)
    assert_allclose(problem.hessian("ggn")(w) @ np.eye(problem.size), H, atol=1e-14)
    R, rows = problem._probabilities(w) - problem.T, np.c_[X, np.ones(len(X))]
    G = (R[:, :, None] * rows[:, None, :]).reshape(len(X), -1)
    F = (G * problem.share[:, None]).T @ G + np.diag(problem.penalty)
    assert_allclose(problem.hessian("fisher")(w), F, atol=1e-14)


def test_logistic_regression_takes_few_newton_steps_on_the_breast_cancer_data():
    X, y = load_breast_cancer(return_X_y=True)
    X = scale(X)
    C = 1 / (1e-3 * len(y))  # the mean loss + 1e-3 / 2 |w|^2
    exact = GNSLogisticRegression(C, fit_intercept=False, tol=1e-8).fit(X, y)
    assert exact.result_.fun == pytest.approx(0.05983977454242, abs=1e-13)
    assert 8 <= exact.n_iter_ <= 12


def test_logistic_regression_survives_separable_and_extreme_data():
    X = np.array([[-1e3], [-1.0], [1.0], [1e3]])
    model = GNSLogisticRegression(C=1e6, tol=1e-10).fit(X, [0, 0, 1, 1])
    assert np.array_equal(model.predict(X), [0, 0, 1, 1]) and np.isfinite(model.coef_).all()
    assert np.isfinite(model.predict_log_proba(X[1:3])).all()


def test_activations_offered_are_those_that_the_nets_know():
    from numcore.autodiff.functional import activation

    for name in _nets.ACTIVATIONS:
        assert callable(activation(name))
