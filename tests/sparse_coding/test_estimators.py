"""The scikit-learn transformers: their contract, and that they are the functions underneath."""

import inspect
import pickle
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import numcore
from numcore.algorithms.sparse_coding import (
    DictionaryLearner,
    SparseCoder,
    _learning,
    learn_dictionary,
    omp,
    sparse_encode,
)
from numcore.results import ConvergenceWarning

few_epochs = pytest.mark.filterwarnings("ignore:learn_dictionary did not converge")


@pytest.fixture
def X():
    return np.random.default_rng(0).laplace(size=(300, 8))


def check_quietly(estimator, check):
    with warnings.catch_warnings():
        # the checks learn from a few dozen signals for ten epochs
        warnings.filterwarnings("ignore", "learn_dictionary did not converge", ConvergenceWarning)
        check(estimator)


@parametrize_with_checks(
    [
        # a hundred atoms, as by default, take the reference loops half a minute
        DictionaryLearner(100 if find_spec("numba") else 5),
        DictionaryLearner(5, method="ksvd", n_nonzero=2),
        DictionaryLearner(5, method="mod", positive_code=True, positive_dict=True),
    ]
)
def test_scikit_learns_own_checks_of_the_learner(estimator, check):
    check_quietly(estimator, check)


def coders():
    """A coder has as many features as its dictionary; scikit-learn's checks bring signals of these."""
    return [SparseCoder(np.random.default_rng(0).normal(size=(5, p))) for p in (1, 2, 3, 4, 5, 8, 10, 20)]


CHECKS = [check.func.__name__ for _, check in estimator_checks_generator(coders()[0])]


@pytest.mark.parametrize("name", dict.fromkeys(CHECKS))
def test_scikit_learns_own_checks_of_the_coder(name):
    failures = []
    for coder in coders():
        try:
            for estimator, check in estimator_checks_generator(coder):
                if check.func.__name__ == name:
                    check(estimator)
        except (ValueError, AssertionError) as failure:  # signals of another number of features, or a check of errors
            failures.append(failure)
        else:
            return
    raise failures[-1]


def test_the_parameters_and_defaults_are_those_of_the_specification():
    learner, function = (inspect.signature(f).parameters for f in (DictionaryLearner, learn_dictionary))
    assert learner["n_atoms"].default == 100
    own = ("n_atoms", "penalty_params", "n_jobs", "random_state", "verbose")
    assert {n: p.default for n, p in learner.items() if n not in own} == {
        n: p.default for n, p in function.items() if n not in ("X", "n_atoms", "rng", "callback", "verbose")
    }
    coder, encode = (inspect.signature(f).parameters for f in (SparseCoder, sparse_encode))
    assert {n: p.default for n, p in coder.items() if n != "dictionary"} == {
        n: p.default for n, p in encode.items() if n not in ("X", "dictionary", "init", "callback")
    }
    assert [n for n, p in learner.items() if p.kind is not p.KEYWORD_ONLY] == ["n_atoms"]
    assert [n for n, p in coder.items() if p.kind is not p.KEYWORD_ONLY] == ["dictionary"]


# the learner


@few_epochs
@pytest.mark.parametrize(
    "options", [{}, {"method": "mod"}, {"method": "ksvd", "n_nonzero": 2}, {"sign": "positive_max", "batch_size": 70}]
)
def test_fitting_learns_what_the_function_gives(X, options):
    learner = DictionaryLearner(12, reg=0.5, max_iter=3, random_state=3, **options).fit(X)
    result = learn_dictionary(X, 12, reg=0.5, max_iter=3, rng=3, **options)
    assert np.array_equal(learner.components_, result.dictionary)
    assert (learner.n_iter_, learner.n_replaced_) == (result.n_iter, result.n_replaced)
    assert np.array_equal(learner.usage_, result.usage)
    assert all(np.array_equal(learner.history_[name], result.history[name]) for name in result.history)
    assert_allclose(learner.transform(X), result.code, atol=1e-12)
    assert learner.score(X) == pytest.approx(-result.objective, rel=1e-12)


@few_epochs
@pytest.mark.parametrize("options", [{}, {"forget": 0.95}, {"sign": "positive_max", "norm_constraint": "sphere"}])
def test_partial_fit_over_the_same_batches_is_fit(X, options):
    options |= {"reg": 0.5, "random_state": 0, "init": X[:12]}
    whole = DictionaryLearner(12, batch_size=70, max_iter=1, **options).fit(X)
    parts = DictionaryLearner(12, **options)
    for first in range(0, 300, 70):
        parts.partial_fit(X[first : first + 70])
    assert np.array_equal(parts.components_, whole.components_)
    assert np.array_equal(parts.usage_, whole.usage_) and parts.n_replaced_ == whole.n_replaced_
    assert np.array_equal(parts.history_["objective"], whole.history_["objective"])


@few_epochs
def test_repeated_partial_fits_of_one_batch_are_the_epochs_of_fit(X):
    whole = DictionaryLearner(12, max_iter=4, random_state=0).fit(X)
    parts = DictionaryLearner(12, random_state=0)
    for _ in range(4):
        parts.partial_fit(X)
    # fit sees the signals of one batch in another order from the second epoch on
    assert_allclose(parts.components_, whole.components_, atol=1e-10)


@few_epochs
def test_partial_fit_goes_on_from_fit_and_lowers_the_objective(X):
    learner = DictionaryLearner(12, reg=0.5, max_iter=1, random_state=0).fit(X)
    before = learner.score(X)
    for _ in range(10):
        learner.partial_fit(X)
    assert learner.score(X) > before and learner.n_iter_ == 11
    assert len(learner.history_["surrogate"]) == 11


def test_a_batch_of_zeros_changes_nothing(X):
    learner = DictionaryLearner(6, forget=0.5, random_state=0).partial_fit(X)
    before = clone(learner).partial_fit(X)
    learner.partial_fit(np.zeros((9, 8)))
    assert np.array_equal(learner.components_, before.components_)
    assert all(np.array_equal(getattr(learner._state, n), getattr(before._state, n)) for n in ("A", "B", "usage"))
    first = DictionaryLearner(6, random_state=0).partial_fit(np.zeros((9, 8)))
    assert np.isfinite(first.components_).all()
    assert first.partial_fit(X).score(X) > -np.inf


def test_options_that_do_not_fit_what_was_learned_are_refused_before_anything_changes(X):
    learner = DictionaryLearner(6, method="mod", random_state=0).partial_fit(X)
    before = learner.components_
    with pytest.raises(ValueError, match="n_atoms must stay 6"):
        learner.set_params(n_atoms=7).partial_fit(X)
    with pytest.raises(ValueError, match="method must not become 'online'"):
        learner.set_params(n_atoms=6, method="online").partial_fit(X)
    with pytest.raises(ValueError, match="X has 5 features"):
        learner.partial_fit(X[:, :5])
    assert learner.components_ is before


def test_an_interruption_keeps_what_was_learned(X, monkeypatch, capsys):
    count, step = [0], _learning.accumulate

    def interrupted(*args):
        count[0] += 1
        if count[0] == 5:
            raise KeyboardInterrupt
        step(*args)

    options = {"reg": 0.5, "batch_size": 100, "random_state": 0}
    expected = DictionaryLearner(9, **options)
    with pytest.warns(ConvergenceWarning):
        expected.set_params(max_iter=1).fit(X)
    monkeypatch.setattr(_learning, "accumulate", interrupted)
    learner = DictionaryLearner(9, max_iter=7, verbose=1, **options)
    with pytest.warns(UserWarning, match="DictionaryLearner: learning was interrupted"):
        assert learner.fit(X) is learner
    assert learner.n_iter_ == 2 and len(learner.history_["objective"]) == 4
    assert learner.score(X) > expected.score(X)  # one batch further
    assert "learn_dictionary" in capsys.readouterr().err
    count[0] = 4
    before = dict(vars(learner))
    with pytest.raises(KeyboardInterrupt):
        learner.partial_fit(X)
    assert vars(learner) == before


def test_a_fit_that_fails_leaves_the_estimator_as_it_was(X):
    learner = DictionaryLearner(6, random_state=0).partial_fit(X)
    before = dict(vars(learner))
    with pytest.raises(ValueError, match="init must have shape"):
        learner.set_params(init=np.ones((2, 2))).fit(X)
    learner.set_params(init=None)
    assert vars(learner) == before


@few_epochs
def test_transform_and_inverse_transform_code_and_rebuild(X):
    learner = DictionaryLearner(6, n_nonzero=2, method="ksvd", max_iter=2, random_state=0).fit(X)
    code = learner.transform(X)
    assert_allclose(code, omp(X, learner.components_, n_nonzero=2).code, atol=1e-12)
    assert_allclose(learner.inverse_transform(code), code @ learner.components_)
    with pytest.raises(ValueError, match="each of the 6 atoms"):
        learner.inverse_transform(X)
    assert list(learner.get_feature_names_out()) == [f"dictionarylearner{k}" for k in range(6)]


@few_epochs
def test_float32_stays_float32(X):
    learner = DictionaryLearner(6, max_iter=2, random_state=0).fit(X.astype(np.float32))
    code = learner.transform(X.astype(np.float32))
    assert learner.components_.dtype == code.dtype == learner.inverse_transform(code).dtype == np.float32
    assert SparseCoder(np.eye(8)).transform(X.astype(np.float32)).dtype == np.float32


@few_epochs
def test_parameters_of_a_penalty_reach_the_codes(X):
    groups = [np.arange(0, 3), np.arange(3, 6)]
    learner = DictionaryLearner(6, penalty="group", penalty_params={"groups": groups}, reg=1.5, max_iter=2)
    code = learner.fit(X).transform(X)
    whole = (code.reshape(-1, 2, 3) != 0).sum(axis=2)
    assert set(np.unique(whole)) <= {0, 3} and 0 in whole  # groups are in or out together


@few_epochs
def test_estimators_survive_pickle_and_a_file_and_go_on_the_same(X, tmp_path):
    learner = DictionaryLearner(6, max_iter=2, random_state=0).fit(X)
    numcore.save(learner, tmp_path / "learner.npz")
    for copy in (pickle.loads(pickle.dumps(learner)), numcore.load(tmp_path / "learner.npz")):
        assert np.array_equal(copy.transform(X), learner.transform(X))
        original = pickle.loads(pickle.dumps(learner))
        assert np.array_equal(copy.partial_fit(X).components_, original.partial_fit(X).components_)


def test_an_unfitted_learner_says_so(X):
    for method in ("transform", "inverse_transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(DictionaryLearner(), method)(X)


@few_epochs
@pytest.mark.parametrize(
    "parameter",
    [{"n_atoms": 0}, {"method": "svd"}, {"reg": -1.0}, {"forget": 0.0}, {"batch_size": 0}, {"sign": "up"}, {"tol": -1}],
)
def test_bad_parameters_are_refused_by_name(X, parameter):
    (name,) = parameter
    with pytest.raises(ValueError, match=f"The '{name}' parameter of DictionaryLearner"):
        DictionaryLearner(**parameter).fit(X)


# the coder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"penalty": "mcp", "penalty_params": {"gamma": 2.0}},
        {"positive": True, "solver": "fista"},
        {"weights": np.arange(1.0, 6.0)},
    ],
)
def test_the_coder_codes_with_or_without_fit(X, options):
    D = np.random.default_rng(1).normal(size=(5, 8))
    coder, expected = SparseCoder(D, reg=0.7, **options), sparse_encode(X, D, reg=0.7, **options)
    for ready in (coder, clone(coder).fit(X)):
        assert np.array_equal(ready.transform(X), expected.code)
        assert ready.score(X) == pytest.approx(-expected.objective.mean(), rel=1e-12)
        assert_allclose(ready.inverse_transform(expected.code), expected.code @ D)
    assert np.array_equal(coder.dictionary, D)


def test_the_coder_works_in_a_pipeline(X):
    D = np.eye(8)
    pipeline = make_pipeline(StandardScaler(), SparseCoder(D, reg=0.2)).fit(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    # over unit vectors the lasso is soft thresholding
    assert_allclose(pipeline.transform(X), np.sign(Z) * np.maximum(abs(Z) - 0.2, 0), atol=1e-6)
    assert list(pipeline.get_feature_names_out())[:2] == ["sparsecoder0", "sparsecoder1"]


@pytest.mark.parametrize(
    ("dictionary", "message"),
    [
        (np.eye(3), "X must have as many features as dictionary, 3"),
        (np.ones(8), "dictionary must be 2-D"),
        (np.full((2, 8), np.inf), "dictionary must be finite"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused(X, dictionary, message):
    for call in (SparseCoder(dictionary).fit, SparseCoder(dictionary).transform):
        with pytest.raises(ValueError, match=message):
            call(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "homotopy", "penalty": "l0"}, "solver='homotopy' must be used with penalty='l1'"),
        ({"solver": "cd", "penalty": "group", "penalty_params": {"groups": [[0, 1]]}}, "solver must be 'fista' or"),
        ({"weights": [1.0, -1.0]}, "weights must not be negative"),
        ({"weights": np.ones(3)}, "weights must have shape"),
        ({"penalty": "lq"}, "penalty_params must hold 'q'"),
    ],
)
def test_parameters_of_the_coder_that_do_not_go_together_are_refused_by_fit(X, options, message):
    for call in (SparseCoder(np.eye(8)[:2], **options).fit, SparseCoder(np.eye(8)[:2], **options).transform):
        with pytest.raises(ValueError, match=message):
            call(X)
