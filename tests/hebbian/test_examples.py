"""Archetypes, examples and Hebb's rule, against their laws and by hand."""

import numpy as np
import pytest

import numcore
from numcore.algorithms.hebbian import binarize, dataset_entropy, hebbian_patterns, make_archetypes, make_examples


def test_archetypes_are_independent_fair_signs():
    xi = make_archetypes(300, 500, rng=0)
    assert xi.dtype == np.int8 and set(np.unique(xi)) == {-1, 1}
    # four standard errors of a mean of 150,000 signs, and of their pair products
    assert abs(xi.mean()) < 4 / np.sqrt(xi.size)
    gram = xi.astype(float) @ xi.T / 500
    assert abs(np.mean(gram[np.triu_indices(300, 1)] ** 2) * 500 - 1) < 4 * np.sqrt(2 / 44_850)


@pytest.mark.parametrize("quality", [0.0, 0.4, 1.0])
def test_examples_agree_with_their_archetype_as_often_as_the_quality_says(quality):
    xi = make_archetypes(20, 400, rng=1)
    eta = make_examples(xi, 25, quality=quality, rng=2)
    agreement = np.mean(eta * xi[:, None])
    assert abs(agreement - quality) <= 4 * np.sqrt((1 - quality**2) / eta.size)


def test_a_single_archetype_gives_its_examples_without_a_class_axis():
    assert make_examples(np.ones(7), 3, quality=0.5, rng=0).shape == (3, 7)


def test_the_dataset_entropy_is_its_formula_and_infinite_without_quality():
    assert dataset_entropy(0.5, 20) == pytest.approx(0.75 / (20 * 0.25))
    assert dataset_entropy(0.5, 20, order=3) == pytest.approx((1 - 0.5**6) / (20 * 0.5**6))
    assert dataset_entropy(1.0, 3, order=4) == 0
    assert dataset_entropy(0.0, 3) == np.inf
    assert dataset_entropy(1e-200, 3, order=2) == np.inf


def test_supervised_patterns_are_class_means_of_unit_mean_square():
    eta = make_examples(make_archetypes(6, 90, rng=3), 8, quality=0.5, rng=4)
    stored = hebbian_patterns(eta)
    means = eta.mean(axis=1)
    assert stored.R == pytest.approx(np.mean(means**2))
    np.testing.assert_allclose(stored.patterns * np.sqrt(stored.R), means, rtol=1e-14)
    np.testing.assert_array_equal(stored.weights, 1)
    np.testing.assert_array_equal(stored.labels, np.arange(6))


def test_unsupervised_patterns_are_the_examples_with_weights_of_their_class():
    rng = np.random.default_rng(5)
    rows = rng.choice([-1, 1], size=(9, 40))
    y = np.array(["b", "a", "b", "b", "a", "c", "c", "b", "b"])
    stored = hebbian_patterns(rows, y, learning="unsupervised", order=4)
    np.testing.assert_array_equal(stored.patterns, rows)
    np.testing.assert_array_equal(stored.labels, y)
    counts = {"a": 2, "b": 5, "c": 2}
    np.testing.assert_allclose(stored.weights, [1 / (counts[c] * stored.R**2) for c in y])


def test_examples_without_labels_count_as_one_class():
    rows = make_examples(np.ones(60), 10, quality=0.3, rng=6)
    stored = hebbian_patterns(rows, learning="unsupervised", order=2)
    assert stored.labels is None
    np.testing.assert_allclose(stored.weights, 1 / (10 * stored.R))


def test_rows_with_labels_give_what_grouped_examples_give():
    eta = make_examples(make_archetypes(4, 50, rng=7), 5, quality=0.6, rng=8)
    order = np.random.default_rng(9).permutation(20)
    y = np.repeat([3, 1, 7, 5], 5)
    by_label = hebbian_patterns(eta.reshape(20, 50)[order], y[order])
    grouped = hebbian_patterns(eta[[1, 0, 3, 2]])
    np.testing.assert_array_equal(by_label.labels, [1, 3, 5, 7])
    np.testing.assert_allclose(by_label.patterns, grouped.patterns, rtol=1e-14)


def test_the_quality_is_recovered_from_the_class_means():
    # the spread of a mean of K N = 2e5 squares of class means, each of spread below 1, moves r by 1e-2 at most
    eta = make_examples(make_archetypes(200, 1000, rng=10), 10, quality=0.4, rng=11)
    assert hebbian_patterns(eta).quality_hat == pytest.approx(0.4, abs=0.01)
    assert np.isnan(hebbian_patterns(eta[:, :1]).quality_hat)


def test_the_normalisation_can_be_given():
    eta = make_examples(make_archetypes(2, 30, rng=0), 3, quality=0.5, rng=1)
    np.testing.assert_allclose(hebbian_patterns(eta, normalize=None).patterns, eta.mean(axis=1))
    np.testing.assert_allclose(hebbian_patterns(eta, normalize=4.0).patterns, eta.mean(axis=1) / 2)


def test_class_means_that_vanish_stay_finite():
    stored = hebbian_patterns(np.array([[[1, -1], [-1, 1]]]))
    np.testing.assert_array_equal(stored.patterns, 0)
    assert stored.R == 0 and stored.quality_hat == 0


def test_binarizing_compares_with_a_number_a_feature_or_the_median():
    X = np.array([[0.0, 5.0], [1.0, 6.0], [2.0, 4.0]])
    np.testing.assert_array_equal(binarize(X, threshold=1.0), [[-1, 1], [-1, 1], [1, 1]])
    np.testing.assert_array_equal(binarize(X, threshold=[0.0, 5.0]), [[-1, -1], [1, 1], [1, -1]])
    np.testing.assert_array_equal(binarize(X, threshold="median"), [[-1, -1], [-1, 1], [1, -1]])


def test_patterns_are_plain_data(tmp_path):
    stored = hebbian_patterns(make_examples(make_archetypes(3, 10, rng=0), 4, quality=0.5, rng=1))
    numcore.save(stored, tmp_path / "patterns")
    np.testing.assert_array_equal(numcore.load(tmp_path / "patterns").patterns, stored.patterns)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: make_archetypes(0, 5), "n_patterns must be at least 1; got 0"),
        (lambda: make_examples([[1, 0, 0, -1]], 2, quality=0.5), "archetypes .* found 2 entries equal to 0"),
        (lambda: make_examples([[1, -1]], 0, quality=0.5), "n_examples must be at least 1"),
        (lambda: make_examples([[1, -1]], 2, quality=1.5), "quality must satisfy .*1.5"),
        (lambda: make_examples([[1, np.nan]], 2, quality=0.5), "archetypes must be finite; 1 of its 2"),
        (lambda: dataset_entropy(-0.1, 2), "quality"),
        (lambda: dataset_entropy(0.5, 0), "n_examples"),
        (lambda: hebbian_patterns([[1, -1]]), "y must give the labels"),
        (lambda: hebbian_patterns([[1, -1]], [0, 1]), r"y must have shape \(1,\).*\(2,\)"),
        (lambda: hebbian_patterns([[[1, -1]]], [0]), "y must be None"),
        (lambda: hebbian_patterns([[[1, -1]]], learning="other"), "learning must be one of"),
        (lambda: hebbian_patterns([[[1, -1]]], normalize="other"), "normalize must be one of"),
        (lambda: hebbian_patterns([[[1, -1]]], normalize=0.0), "normalize must satisfy"),
        (lambda: hebbian_patterns([[[1, -1]]], order=1), "order must be an integer of at least 2; got 1"),
        (lambda: binarize([[1.0, np.inf]]), "X must be finite; 1 of its 2"),
        (lambda: binarize([[1.0, 2.0]], threshold=[1.0, 2.0, 3.0]), r"threshold .*\(2,\); got shape \(3,\)"),
        (lambda: binarize([[1.0, 2.0]], threshold="mean"), "threshold must be one of 'median'"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_complex_examples_are_refused():
    with pytest.raises(TypeError, match="archetypes must be real"):
        make_examples(np.ones(3, complex), 2, quality=0.5)
