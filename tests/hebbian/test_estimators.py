"""The scikit-learn estimators: their contract, the figures on digits, and that they are the functions underneath."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import numcore
from numcore.algorithms.hebbian import (
    DenseHebbianMemory,
    HopfieldNetwork,
    ModernHopfield,
    ModernHopfieldClassifier,
    ModernHopfieldRegressor,
    binarize,
    energy,
    estimators,
    hebbian_patterns,
    hopfield_weights,
    make_archetypes,
    make_examples,
    overlaps,
    recall,
    recall_pairwise,
    retrieval_bounds,
    retrieve,
    separation_margin,
)
from numcore.results import ConvergenceWarning

ONE_STATE = "different queries ended in one state"


@pytest.fixture(scope="module")
def digits():
    """1200 digits to learn from, and all of them."""
    X, y = load_digits(return_X_y=True)
    return X, y


@parametrize_with_checks(
    [
        DenseHebbianMemory(),
        DenseHebbianMemory(8, learning="unsupervised"),
        DenseHebbianMemory(beta=2.0, random_state=0),
        HopfieldNetwork(),
        HopfieldNetwork("storkey", dynamics="parallel", threshold="median"),
        ModernHopfield(),
        ModernHopfield(2.0, n_steps=5, separation="sparsemax", similarity="euclidean"),
        ModernHopfieldClassifier(),
        ModernHopfieldClassifier(30.0, separation="entmax15"),
        ModernHopfieldRegressor(),
        ModernHopfieldRegressor(10.0, similarity="euclidean"),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    with warnings.catch_warnings():
        # data of the checks have two or three features, of which most queries share the signs
        warnings.filterwarnings("ignore", f".*{ONE_STATE}")
        warnings.filterwarnings("ignore", "(recall|retrieve).* did not converge", ConvergenceWarning)
        check(estimator)


def test_the_parameters_and_defaults_are_those_of_the_specification():
    for cls, first, defaults in (
        (
            DenseHebbianMemory,
            "order",
            {"order": 3, "learning": "supervised", "interaction": "rectified", "beta": np.inf, "n_sweeps": 10}
            | {
                "dynamics": "sequential",
                "threshold": 0.0,
                "normalize": "empirical",
                "random_state": None,
                "verbose": 0,
            },
        ),
        (
            HopfieldNetwork,
            "rule",
            {"rule": "hebb", "n_sweeps": 20, "dynamics": "sequential", "threshold": 0.0, "self_coupling": False},
        ),
        (
            ModernHopfield,
            "beta",
            {"beta": "scale", "n_steps": 1, "tol": 1e-6, "separation": "softmax", "similarity": "dot", "top_k": None},
        ),
        (
            ModernHopfieldClassifier,
            "beta",
            cosines := {"beta": "scale", "separation": "softmax"} | {"similarity": "cosine", "top_k": None},
        ),
        (ModernHopfieldRegressor, "beta", cosines),
    ):
        parameters = inspect.signature(cls).parameters
        assert {name: p.default for name, p in parameters.items()} == defaults
        assert [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY] == [first]


# the dense memory on digits


@pytest.mark.parametrize(
    ("options", "accuracy", "ends"),
    [
        ({"n_sweeps": 0}, 0.87, 193),
        ({"order": 8}, 0.5, 9),
        ({"order": 16}, 0.805, 11),
        ({"order": 16, "learning": "unsupervised"}, 0.82, 31),
        ({"order": 30, "learning": "unsupervised"}, 0.905, 129),
    ],
)
def test_digits_are_told_apart_by_high_orders(digits, options, accuracy, ends):
    X, y = digits
    memory = DenseHebbianMemory(threshold=7.5, **options).fit(X[:1200], y[:1200])
    # whole counts of 200; one digit of leeway, for ties of overlaps that another BLAS may round apart
    assert memory.score(X[1200:1400], y[1200:1400]) == pytest.approx(accuracy, abs=0.0051)
    assert abs(len(np.unique(memory.recall(X[1200:1400]), axis=0)) - ends) <= 1


@pytest.mark.parametrize(
    ("order", "stored", "accuracy"),
    [
        (3, "clipped", 0.08),
        (8, "clipped", 0.75),
        (16, "clipped", 0.795),
        (16, "examples", 0.825),
        (30, "examples", 0.905),
    ],
)
def test_the_figures_of_the_specification_hold(digits, order, stored, accuracy):
    """Memories of unit weight: the signs of the class means as archetypes, or the examples."""
    X, y = digits
    S = binarize(X, threshold=7.5)
    means = hebbian_patterns(S[:1200], y[:1200])
    rows, labels = (np.where(means.patterns > 0, 1, -1), means.labels) if stored == "clipped" else (S[:1200], y[:1200])
    memory = DenseHebbianMemory(order).fit(rows)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{ONE_STATE}")
        found = memory.transform(S[1200:1400])
    assert np.mean(labels[found.argmax(axis=1)] == y[1200:1400]) == pytest.approx(accuracy, abs=1e-9)


def test_a_low_order_takes_most_digits_to_one_state_and_says_so(digits):
    X, y = digits
    memory = DenseHebbianMemory(threshold=7.5).fit(X[:1200], y[:1200])
    with pytest.warns(UserWarning, match=f"193 of 193 {ONE_STATE}.* order 3"):
        states = memory.recall(X[1200:1400])
    assert len(np.unique(states, axis=0)) == 1
    with pytest.warns(UserWarning, match=ONE_STATE):
        assert memory.score(X[1200:1400], y[1200:1400]) == pytest.approx(0.08)


def test_queries_that_belong_together_end_in_one_state_without_a_warning(rng):
    xi = make_archetypes(3, 60, rng=0)
    noisy = np.where(rng.random((20, 60)) < 0.1, -xi[0], xi[0])
    assert np.array_equal(DenseHebbianMemory().fit(xi).recall(noisy), np.tile(xi[0], (20, 1)))


def test_the_pseudo_inverse_tells_digits_apart_that_hebbs_rule_does_not(digits):
    X, y = digits
    S = binarize(X, threshold=7.5)
    means = hebbian_patterns(S[:1200], y[:1200])
    clipped = np.where(means.patterns > 0, 1, -1)
    for rule, accuracy in (("pinv", 0.72), ("hebb", 0.08)):
        ends = HopfieldNetwork(rule).fit(clipped).recall(S[1200:1400])
        labels = means.labels[overlaps(ends, clipped).argmax(axis=1)]
        # fields of the projector are sums of 64 rounded products; one digit may go the other way
        assert np.mean(labels == y[1200:1400]) == pytest.approx(accuracy, abs=0.0051)


# what the dense memory learns


@pytest.fixture
def examples(rng):
    xi = make_archetypes(4, 40, rng=1)
    X = make_examples(xi, 15, quality=0.6, rng=2).reshape(-1, 40)
    y = np.repeat(["delta", "alpha", "gamma", "beta"], 15)
    order = rng.permutation(60)
    return X[order], y[order]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("learning", ["supervised", "unsupervised"])
@pytest.mark.parametrize("normalize", ["empirical", None, 0.5])
def test_fitting_learns_what_the_function_gives(examples, learning, labelled, normalize):
    X, y = examples[0], examples[1] if labelled else None
    memory = DenseHebbianMemory(4, learning=learning, normalize=normalize).fit(X, y)
    if y is None and learning == "supervised":
        assert np.array_equal(memory.patterns_, X) and np.array_equal(memory.weights_, np.ones(60))
        assert memory.R_ == memory.quality_ == 1.0
    else:
        expected = hebbian_patterns(X, y, learning=learning, order=4, normalize=normalize)
        assert np.array_equal(memory.patterns_, expected.patterns)
        assert np.array_equal(memory.weights_, expected.weights)
        assert (memory.R_, memory.quality_) == (expected.R, expected.quality_hat)
        assert labelled is (memory.labels_ is not None)
        if labelled:
            assert np.array_equal(memory.labels_, expected.labels)
            assert list(memory.classes_) == ["alpha", "beta", "delta", "gamma"]
    found = recall(X, memory.patterns_, order=4, weights=memory.weights_, n_sweeps=10)
    assert np.array_equal(memory.recall(X), found.states)
    np.testing.assert_array_equal(memory.transform(X), found.overlaps)
    assert memory.threshold_ == 0.0 and memory.n_features_in_ == 40 and memory.n_iter_ == 1


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("learning", ["supervised", "unsupervised"])
def test_partial_fits_batch_by_batch_are_a_fit(examples, learning, labelled):
    X, y = examples[0], examples[1] if labelled else None
    whole = DenseHebbianMemory(5, learning=learning).fit(X, y)
    parts = DenseHebbianMemory(5, learning=learning)
    for first, last in ((0, 2), (2, 19), (19, 36), (36, 53), (53, 60)):
        rows = slice(first, last)
        parts.partial_fit(X[rows], None if y is None else y[rows])
    for name in ("patterns_", "weights_", "labels_", "classes_", "threshold_"):
        ours, theirs = getattr(parts, name), getattr(whole, name)
        assert np.array_equal(ours, theirs) and getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)
    assert (parts.R_, parts.quality_, parts.n_iter_) == (whole.R_, whole.quality_, 5)
    if labelled:
        assert np.array_equal(parts.predict(X), whole.predict(X))


def test_fit_forgets_and_partial_fit_goes_on(examples):
    X, y = examples
    memory = DenseHebbianMemory().fit(X[:30], y[:30]).partial_fit(X[30:], y[30:])
    assert np.array_equal(memory.patterns_, DenseHebbianMemory().fit(X, y).patterns_)
    again = memory.fit(X[:30], y[:30])
    assert np.array_equal(again.patterns_, DenseHebbianMemory().fit(X[:30], y[:30]).patterns_)


def test_medians_are_those_of_the_first_batch(rng):
    X = rng.normal(size=(30, 6))
    memory = DenseHebbianMemory(threshold="median").partial_fit(X[:10]).partial_fit(X[10:])
    np.testing.assert_array_equal(memory.threshold_, np.median(X[:10], axis=0))
    assert np.array_equal(memory.patterns_, binarize(X, threshold=memory.threshold_))


def test_real_data_are_compared_with_the_threshold(rng):
    X = rng.normal(size=(30, 6)) * np.arange(1, 7)
    for threshold in (0.3, np.linspace(-1, 1, 6), list(range(6)), "median"):
        memory = DenseHebbianMemory(threshold=threshold).fit(X)
        assert np.array_equal(memory.patterns_, binarize(X, threshold=threshold))
        assert np.array_equal(HopfieldNetwork(threshold=threshold).fit(X).patterns_, memory.patterns_)
    # the medians are those of the data fitted
    np.testing.assert_array_equal(memory.threshold_, np.median(X, axis=0))
    assert np.array_equal(DenseHebbianMemory(n_sweeps=0, threshold="median").fit(X).recall(X[:1]), memory.patterns_[:1])


def test_signs_pass_unchanged_whatever_their_dtype(rng):
    xi = make_archetypes(3, 30, rng=0)
    for dtype in (np.int8, np.int64, np.float32, np.float64):
        assert np.array_equal(DenseHebbianMemory().fit(xi.astype(dtype)).patterns_, xi)


# recall


def test_completion_keeps_known_features_and_fills_in_the_others(rng):
    xi = make_archetypes(6, 80, rng=3)
    known = rng.random((6, 80)) < 0.4
    for memory in (DenseHebbianMemory().fit(xi), HopfieldNetwork().fit(xi), DenseHebbianMemory(beta=8.0).fit(xi)):
        assert np.array_equal(memory.complete(np.where(known, xi, 0), known), xi)
        assert np.array_equal(memory.complete(np.where(known, xi, np.nan), known), xi)
        half = np.arange(80) < 40
        assert np.array_equal(memory.complete(np.where(half, xi, np.inf), half), xi)
    # known features stay, however wrong
    wrong = np.where(known, xi * np.where(rng.random(xi.shape) < 0.3, -1, 1), 0)
    found = DenseHebbianMemory().fit(xi).complete(wrong, known)
    assert np.array_equal(found[known], wrong[known])
    assert np.array_equal(DenseHebbianMemory().fit(xi).complete(wrong, np.ones(80, bool)), np.where(wrong > 0, 1, -1))


def test_completion_starts_at_the_pattern_nearest_to_what_is_known():
    patterns = np.array([[1, 1, 1, -1, 1, -1], [1, -1, -1, 1, 1, 1], [-1, -1, 1, 1, -1, -1]])
    known = np.array([True, True, True, False, False, False])
    X = np.array([[1, -1, -1, 0, 0, 0], [-1, -1, 1, 9, 9, 9], [1, -1, 1, 5, -5, 5]])
    memory = DenseHebbianMemory(n_sweeps=0).fit(patterns)
    # the last is as near to all three, and starts at the first
    assert np.array_equal(memory.complete(X, known)[:, 3:], patterns[[1, 2, 0], 3:])


def test_a_feature_of_which_the_class_says_nothing_starts_at_minus_one():
    memory = DenseHebbianMemory(n_sweeps=0).fit([[1, 1, 1], [1, 1, -1]], [0, 0])
    assert np.array_equal(memory.complete([[1, 1, 1]], np.array([True, True, False])), [[1, 1, -1]])


@pytest.mark.filterwarnings(f"ignore:.*{ONE_STATE}")
def test_the_decision_is_the_largest_overlap_of_a_class_and_prediction_its_greatest(examples):
    X, y = examples
    for learning in ("supervised", "unsupervised"):
        memory = DenseHebbianMemory(7, learning=learning).fit(X, y)
        found, decision = memory.transform(X), memory.decision_function(X)
        for c, label in enumerate(memory.classes_):
            np.testing.assert_array_equal(decision[:, c], found[:, memory.labels_ == label].max(axis=1))
        assert np.array_equal(memory.predict(X), memory.classes_[decision.argmax(axis=1)])
        assert memory.score(X, y) == np.mean(memory.predict(X) == y)
        two = np.isin(y, ["alpha", "beta"])
        memory.fit(X[two], y[two])
        margin = memory.decision_function(X)
        assert margin.shape == (60,)
        assert np.array_equal(memory.predict(X), np.where(margin > 0, "beta", "alpha"))


def test_a_finite_temperature_samples_and_the_seed_fixes_what(rng):
    xi = make_archetypes(3, 200, rng=4)
    noisy = np.where(rng.random(xi.shape) < 0.2, -xi, xi)
    memory = DenseHebbianMemory(2, interaction="distinct", beta=2.0, n_sweeps=30, random_state=0).fit(xi, [0, 1, 2])
    m = overlaps(memory.recall(noisy), xi).diagonal()
    # m = tanh(2 m) has 0.9575; a draw of 200 spins is off by sqrt((1 - m^2) / 200) = 0.02
    np.testing.assert_allclose(m, 0.9575, atol=0.1)
    assert np.array_equal(memory.recall(noisy), memory.recall(noisy))
    assert not np.array_equal(
        memory.set_params(random_state=1).recall(noisy), memory.set_params(random_state=0).recall(noisy)
    )
    known = rng.random(xi.shape) < 0.5
    assert np.array_equal(memory.complete(noisy, known)[known], noisy[known])
    assert np.array_equal(memory.set_params(n_sweeps=0).recall(noisy), noisy)
    plefka = clone(memory).set_params(dynamics="plefka", n_sweeps=30).fit(xi)
    np.testing.assert_allclose(overlaps(plefka.recall(noisy), xi).diagonal(), 0.9575, atol=0.1)


def test_parameters_reach_the_recall(rng):
    X = make_archetypes(30, 40, rng=5)
    states = rng.choice([-1, 1], size=(12, 40))
    for options in ({"interaction": "exp"}, {"interaction": "full", "order": 4}, {"dynamics": "parallel", "order": 9}):
        memory = DenseHebbianMemory(n_sweeps=100, **options).fit(X)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "recall did not converge", ConvergenceWarning
            )  # two alternate in parallel
            expected = recall(states, X, **{"order": 3, "n_sweeps": 100} | options)
            assert np.array_equal(memory.recall(states), expected.states)
    with pytest.warns(ConvergenceWarning, match="after 1 sweeps"):
        found = DenseHebbianMemory(2, interaction="distinct", n_sweeps=1).fit(X).recall(states)
    with pytest.warns(ConvergenceWarning):
        expected = recall(states, X, order=2, interaction="distinct", n_sweeps=1)
    assert np.array_equal(found, expected.states)


# the classical network


@pytest.mark.parametrize("rule", ["hebb", "pinv", "storkey"])
@pytest.mark.parametrize("self_coupling", [False, True])
def test_the_network_is_the_function_of_its_couplings(rng, rule, self_coupling):
    xi = make_archetypes(6, 50, rng=6)
    network = HopfieldNetwork(rule, self_coupling=self_coupling).fit(xi)
    J = hopfield_weights(xi, rule=rule, self_coupling=self_coupling)
    assert np.array_equal(network.couplings_, J) and np.array_equal(network.patterns_, xi)
    states = np.where(rng.random((9, 50)) < 0.1, -xi[0], xi[0])
    assert np.array_equal(network.recall(states), recall_pairwise(states, J).states)
    np.testing.assert_allclose(network.energy(states), -np.einsum("ni,ij,nj->n", states, J, states) / 2, rtol=1e-12)
    known = np.arange(50) < 20
    assert np.array_equal(network.complete(xi, known), xi)


def test_hebbs_network_is_the_dense_memory_of_order_two(rng):
    xi = make_archetypes(4, 60, rng=7)
    states = rng.choice([-1, 1], size=(10, 60))
    network = HopfieldNetwork(self_coupling=True).fit(xi)
    dense = DenseHebbianMemory(2, interaction="full", n_sweeps=20).fit(xi)
    assert np.array_equal(network.recall(states), dense.recall(states))
    np.testing.assert_allclose(network.energy(states), energy(states, xi, order=2, interaction="full"), rtol=1e-12)


# modern networks


@pytest.fixture(scope="module")
def grey(digits):
    """Digits between -1/2 and 1/2."""
    X, y = digits
    return X / 16 - 0.5, y


@pytest.mark.parametrize(("beta", "accuracy"), [(10, 0.90955), (50, 0.96147), (200, 0.96482), (np.inf, 0.96482)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_classifier_has_the_figures_of_the_specification(grey, beta, accuracy, dtype):
    X, y = grey[0].astype(dtype), grey[1]
    model = ModernHopfieldClassifier(beta).fit(X[:1200], y[:1200])
    # parts of 597 are 0.0017: none goes the other way
    assert model.score(X[1200:], y[1200:]) == pytest.approx(accuracy, abs=1e-5)


def test_probabilities_are_the_sums_of_the_weights_of_each_class(grey):
    X, y = grey[0][:300], np.array(list("abcdefghij"))[grey[1][:300]]
    for options in ({}, {"separation": "sparsemax"}, {"top_k": 5}, {"separation": "topk", "top_k": 3}):
        model = ModernHopfieldClassifier(30.0, **options).fit(X[:200], y[:200])
        weights = retrieve(X[200:], X[:200], beta=30.0, similarity="cosine", return_weights=True, **options).weights
        P = model.predict_proba(X[200:])
        for c, label in enumerate(model.classes_):
            np.testing.assert_allclose(P[:, c], weights[:, y[:200] == label].sum(axis=1), atol=1e-7)  # skip_tol is 1e-8
        np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-12)
        assert np.array_equal(model.predict(X[200:]), model.classes_[P.argmax(axis=1)])


def test_the_nearest_vector_decides_at_infinite_beta(grey):
    from sklearn.neighbors import KNeighborsClassifier

    X, y = grey[0][:500], grey[1][:500]
    ours = ModernHopfieldClassifier(np.inf).fit(X[:400], y[:400])
    theirs = KNeighborsClassifier(1, metric="cosine").fit(X[:400], y[:400])
    assert np.array_equal(ours.predict(X[400:]), theirs.predict(X[400:]))


def test_a_modern_network_gives_what_the_function_does(rng):
    X, queries = rng.normal(size=(40, 12)), rng.normal(size=(9, 12))
    for options in ({}, {"n_steps": 200}, {"separation": "entmax15", "similarity": "cosine"}, {"top_k": 4}):
        memory = ModernHopfield(1.5, **options).fit(X)
        expected = retrieve(queries, X, beta=1.5, **options)
        assert np.array_equal(memory.transform(queries), expected.states)
        found = memory.retrieve(queries)
        assert np.array_equal(found.top_index, expected.top_index) and np.array_equal(found.kind, expected.kind)
        assert np.array_equal(found.n_iter, expected.n_iter)
    with pytest.warns(ConvergenceWarning):
        assert not ModernHopfield(1.5, n_steps=2, tol=0.0).fit(X).retrieve(queries).converged.all()


def test_regression_is_that_of_nadaraya_and_watson(rng):
    X, x = rng.normal(size=(50, 3)), rng.normal(size=(8, 3))
    for y in (rng.normal(size=50), rng.normal(size=(50, 2)), rng.integers(0, 9, size=50)):
        K = np.exp(-4.0 * ((x[:, None] - X) ** 2).sum(axis=2) / 2)
        expected = K @ y / (K.sum(axis=1) if np.ndim(y) == 1 else K.sum(axis=1, keepdims=True))
        found = ModernHopfieldRegressor(4.0, similarity="euclidean").fit(X, y).predict(x)
        assert found.shape == (8, *np.shape(y)[1:])
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_margin_is_the_least_beta_that_separates_the_median_pattern(grey, similarity):
    X = grey[0][:301]  # an odd number: the median is one of the margins
    memory = ModernHopfield("margin", similarity=similarity).fit(X)
    seen = X if similarity == "dot" else X / np.linalg.norm(X, axis=1, keepdims=True)
    median = np.argsort(separation_margin(seen))[150]
    assert retrieval_bounds(seen, beta=1.000001 * memory.beta_).separated[median]
    assert not retrieval_bounds(seen, beta=0.999999 * memory.beta_).separated[median]
    # and from there on
    assert all(retrieval_bounds(seen, beta=c * memory.beta_).separated[median] for c in (1.1, 2.0, 10.0, 1e4))


def test_margin_follows_the_scale_of_the_data(rng):
    X = rng.normal(size=(30, 10))
    beta = ModernHopfield("margin").fit(X).beta_
    for scale in (1e-50, 1e-3, 1e40):
        assert ModernHopfield("margin").fit(X * scale).beta_ == pytest.approx(beta / scale**2, rel=1e-9)
    beta = ModernHopfield("margin", similarity="cosine").fit(X).beta_
    for scale in (1e-200, 1e-3, 1e200):
        assert ModernHopfield("margin", similarity="cosine").fit(X * scale).beta_ == pytest.approx(beta, rel=1e-9)


def test_scale_is_one_over_the_root_of_the_features_and_numbers_are_taken(rng):
    X = rng.normal(size=(8, 16))
    assert ModernHopfield().fit(X).beta_ == 0.25
    assert ModernHopfield("margin").fit(X[:1]).beta_ == 0.25  # one pattern is separated at any
    assert ModernHopfield(7).fit(X).beta_ == 7.0
    assert ModernHopfieldRegressor(np.inf).fit(X, X[:, 0]).beta_ == np.inf


def test_margins_that_are_not_positive_are_refused(rng):
    X = rng.normal(size=(5, 4))
    with pytest.raises(
        ValueError, match="beta='margin' needs patterns whose median separation margin is positive; got 0"
    ):
        ModernHopfield("margin").fit(np.concatenate([X, X]))
    with pytest.raises(ValueError, match="beta='margin' is for similarity 'dot' or 'cosine'; got 'euclidean'"):
        ModernHopfield("margin", similarity="euclidean").fit(X)


@pytest.mark.parametrize("cls", [ModernHopfield, ModernHopfieldClassifier, ModernHopfieldRegressor])
def test_vectors_of_float32_stay_so(grey, cls):
    X, y = grey[0][:100].astype(np.float32), grey[1][:100]
    model = cls(20.0).fit(X, y)
    ask = {ModernHopfield: "transform", ModernHopfieldClassifier: "predict_proba", ModernHopfieldRegressor: "predict"}[
        cls
    ]
    assert model.patterns_.dtype == getattr(model, ask)(X).dtype == np.float32
    assert getattr(model, ask)(X.astype(np.float64)).dtype == np.float64


# bad input


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (DenseHebbianMemory(1), "order"),
        (DenseHebbianMemory(2.5), "order"),
        (DenseHebbianMemory(learning="both"), "learning"),
        (DenseHebbianMemory(interaction="sigmoid"), "interaction"),
        (DenseHebbianMemory(beta=0.0), "beta"),
        (DenseHebbianMemory(beta=np.nan), "beta"),
        (DenseHebbianMemory(beta="cold"), "beta"),
        (DenseHebbianMemory(n_sweeps=-1), "n_sweeps"),
        (DenseHebbianMemory(dynamics="random"), "dynamics"),
        (DenseHebbianMemory(threshold="mean"), "threshold"),
        (DenseHebbianMemory(threshold=[1.0, 2.0]), r"threshold must be .* shape \(5,\)"),
        (DenseHebbianMemory(threshold=np.nan), "threshold"),
        (DenseHebbianMemory(normalize=-1.0), "normalize"),
        (DenseHebbianMemory(beta=1.0, interaction="exp"), "beta must be inf with interaction 'exp'; got 1.0"),
        (DenseHebbianMemory(dynamics="plefka"), "'plefka' needs a finite beta"),
        (DenseHebbianMemory(dynamics="plefka", beta=1.0), "'plefka' needs .* interaction 'distinct'"),
        (DenseHebbianMemory(6, interaction="distinct"), "order must be at most the number of features, 5"),
        (HopfieldNetwork("oja"), "rule"),
        (HopfieldNetwork(n_sweeps=-1), "n_sweeps"),
        (HopfieldNetwork(dynamics="plefka"), "dynamics"),
        (HopfieldNetwork(self_coupling="yes"), "self_coupling"),
        (HopfieldNetwork(threshold="mean"), "threshold"),
        (ModernHopfield(0.0), "beta"),
        (ModernHopfield("auto"), "beta"),
        (ModernHopfield(np.nan), "beta"),
        (ModernHopfield(n_steps=0), "n_steps"),
        (ModernHopfield(tol=-1.0), "tol"),
        (ModernHopfield(separation="softplus"), "separation"),
        (ModernHopfield(similarity="manhattan"), "similarity"),
        (ModernHopfield(top_k=0), "top_k"),
        (ModernHopfield(top_k=6), "top_k must be at most the number of patterns, 5; got 6"),
        (ModernHopfieldClassifier(separation="topk"), "top_k must be given"),
        (ModernHopfieldClassifier(-1.0), "beta"),
        (ModernHopfieldRegressor(similarity="sine"), "similarity"),
    ],
)
@pytest.mark.parametrize("fitted", [False, True])
def test_bad_parameters_are_refused_by_fit_which_then_leaves_no_trace(rng, estimator, message, fitted):
    X = rng.choice([-1, 1], size=(7, 5))
    bad = estimator.get_params()
    if fitted:
        estimator = type(estimator)().fit(X, np.arange(7) % 2).set_params(**bad)
    else:
        estimator = clone(estimator)
    before = dict(vars(estimator))
    with pytest.raises(ValueError, match=message):
        estimator.fit(X[:5], np.zeros(5, int))
    assert list(vars(estimator)) == list(before) and all(vars(estimator)[name] is before[name] for name in before)


def test_bad_data_are_refused_by_name(examples):
    X, y = examples
    memory = DenseHebbianMemory().fit(X, y)
    for call, message in (
        (lambda: memory.fit(X[0]), "Expected 2D array"),
        (lambda: memory.fit(X + np.nan), "contains NaN"),
        (lambda: memory.fit(X, y[:5]), "inconsistent numbers of samples"),
        (lambda: memory.fit(X, np.linspace(0, 1, 60)), "Unknown label type"),
        (lambda: memory.recall(X[:, :7]), "7 features"),
        (lambda: memory.recall(np.where(X > 0, X, np.inf)), "contains infinity"),
        (lambda: memory.complete(X, np.ones(40)), r"known must be a bool array .*float64 of shape \(40,\)"),
        (lambda: memory.complete(X, np.ones((40, 60), bool)), r"known must be .* \(40,\) or \(60, 40\); got bool of"),
        (lambda: memory.complete(X + np.nan, X > 0), "X must be finite at known features; .* are not"),
        (lambda: memory.partial_fit(X), "y must be given, as in the batches before"),
        (lambda: memory.partial_fit(X, y, classes=["alpha", "beta"]), r"not in classes: \['delta' 'gamma'\]"),
        (lambda: DenseHebbianMemory().fit(X).partial_fit(X, y), "y must not be given"),
        (lambda: DenseHebbianMemory().fit(X).predict(X), "y was not given"),
        (lambda: DenseHebbianMemory().fit(X).decision_function(X), "y was not given"),
        (lambda: clone(memory).fit(X, y).set_params(learning="unsupervised").partial_fit(X, y), "learning must stay"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="[Cc]omplex"):
        memory.recall(X * 1j)


def test_a_refused_batch_leaves_what_was_learned(examples):
    X, y = examples
    memory = DenseHebbianMemory(learning="unsupervised").fit(X, y)
    before = dict(vars(memory))
    for bad in (lambda: memory.partial_fit(X), lambda: memory.partial_fit(X[:, :3], y), lambda: memory.fit(X, y[:3])):
        with pytest.raises(ValueError):
            bad()
        assert all(vars(memory)[name] is before[name] for name in before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(("cls", "name"), [(DenseHebbianMemory, "stored"), (HopfieldNetwork, "hopfield_weights")])
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(monkeypatch, examples, error, cls, name):
    X, y = examples
    estimator = cls().fit(X, y)
    before = dict(vars(estimator))

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(estimators, name, fail)
    with pytest.raises(error):
        estimator.fit(X[:, :20], y)
    assert list(vars(estimator)) == list(before) and all(vars(estimator)[k] is before[k] for k in before)
    assert estimator.recall(X).shape == (60, 40)


@pytest.mark.parametrize(
    "cls", [DenseHebbianMemory, HopfieldNetwork, ModernHopfield, ModernHopfieldClassifier, ModernHopfieldRegressor]
)
def test_nothing_can_be_asked_before_fitting(cls):
    X = np.ones((2, 3))
    asks = ("recall", "transform", "predict", "decision_function", "energy", "complete", "retrieve", "predict_proba")
    for name in asks:
        if hasattr(cls, name):
            with pytest.raises(NotFittedError):
                getattr(cls(), name)(X, *([np.ones(3, bool)] if name == "complete" else []))


# tools


@pytest.mark.filterwarnings(f"ignore:.*{ONE_STATE}")
def test_fitted_estimators_survive_files_pickles_and_clones(examples, tmp_path):
    X, y = examples
    for estimator in (DenseHebbianMemory(5).fit(X, y), DenseHebbianMemory(5, learning="unsupervised").fit(X, y)):
        numcore.save(estimator, tmp_path / "memory")
        for again in (numcore.load(tmp_path / "memory"), pickle.loads(pickle.dumps(estimator))):
            assert np.array_equal(again.predict(X), estimator.predict(X))
            again.partial_fit(X[:9], y[:9])
            expected = clone(estimator).fit(np.concatenate([X, X[:9]]), np.concatenate([y, y[:9]]))
            assert np.array_equal(again.patterns_, expected.patterns_)
            assert np.array_equal(again.weights_, expected.weights_)
        assert clone(estimator).get_params() == estimator.get_params() and not hasattr(clone(estimator), "patterns_")
    for estimator, ask in (
        (HopfieldNetwork("pinv").fit(X), "recall"),
        (ModernHopfield().fit(X), "transform"),
        (ModernHopfieldClassifier().fit(X, y), "predict_proba"),
        (ModernHopfieldRegressor().fit(X, X[:, :2] / 3), "predict"),
    ):
        numcore.save(estimator, tmp_path / "file")
        assert np.array_equal(getattr(numcore.load(tmp_path / "file"), ask)(X), getattr(estimator, ask)(X))


@pytest.mark.filterwarnings(f"ignore:.*{ONE_STATE}")
def test_they_work_in_pipelines_and_searches(digits):
    X, y = digits[0][:400], digits[1][:400]
    pipeline = make_pipeline(StandardScaler(), DenseHebbianMemory(30, learning="unsupervised")).fit(X[:300], y[:300])
    assert pipeline.score(X[300:], y[300:]) > 0.6
    memory = DenseHebbianMemory(threshold=7.5).fit(X, y)
    assert list(memory.get_feature_names_out())[:2] == ["densehebbianmemory0", "densehebbianmemory1"]
    search = GridSearchCV(DenseHebbianMemory(threshold=7.5), {"order": [3, 16]}, cv=3).fit(X, y)
    assert search.best_params_ == {"order": 16}
    search = GridSearchCV(ModernHopfieldClassifier(), {"beta": ["scale", 50.0]}, cv=3).fit(X / 16 - 0.5, y)
    assert search.best_params_ == {"beta": 50.0}
    denoiser = make_pipeline(ModernHopfield(5.0).fit(X / 16), ModernHopfieldClassifier(50.0)).fit(X / 16, y)
    assert denoiser.score(X / 16, y) > 0.9


@pytest.mark.filterwarnings(f"ignore:.*{ONE_STATE}")
def test_overlaps_have_the_dtype_of_the_data(examples):
    X, y = examples
    memory = DenseHebbianMemory().fit(X.astype(np.float32), y)
    assert memory.transform(X.astype(np.float32)).dtype == np.float32
    assert memory.transform(X).dtype == memory.transform(X.tolist()).dtype == np.float64
    assert memory.recall(X.astype(np.float32)).dtype == np.int8
