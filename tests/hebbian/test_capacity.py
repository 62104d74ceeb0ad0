"""Recall over loads, against the theory of many features; and the theory at finite temperature by Monte Carlo."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numcore
from numcore.algorithms.hebbian import (
    capacity_curve,
    hebbian_patterns,
    make_archetypes,
    make_examples,
    one_step_magnetization,
    recall,
    sample,
    self_consistency,
)
from numcore.results import ConvergenceWarning


def overlap_by_sampling(N, load, beta, *, interaction="distinct", quality=1.0, n_examples=1, seeds=range(8)):
    """Mean overlap of chains with the archetypes that they start in, and its standard error over realisations."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([7, seed])
        xi = make_archetypes(round(load * N**2), N, rng=rng)
        stored = hebbian_patterns(make_examples(xi, n_examples, quality=quality, rng=rng), order=3)
        run = sample(
            stored.patterns,
            weights=stored.weights,
            beta=beta,
            interaction=interaction,
            init=xi[:12],
            probes=xi[:12],
            n_sweeps=10,
            n_burn=10,
            rng=rng,
        )
        found.append(np.einsum("trr->", run.overlaps) / (10 * 12))
    return np.mean(found), np.std(found, ddof=1) / np.sqrt(len(found))


@pytest.mark.parametrize(
    ("settings", "slack"),
    [
        # what is left of a size of 150: the noise lacks shares of order 3 / N, to which 1 - m is a few times as
        # sensitive; with examples overlaps also vary from archetype to archetype
        ({"load": 0.02, "beta": 2.0}, 0.002),
        ({"load": 0.05, "beta": 2.0}, 0.008),
        ({"load": 0.02, "beta": 5.0, "quality": 0.5, "n_examples": 20}, 0.008),
    ],
)
def test_sampled_overlaps_are_those_of_the_theory(settings, slack):
    mean, error = overlap_by_sampling(150, **settings)
    theory = self_consistency(order=3, **settings).m
    assert abs(mean - theory) < 4 * error + slack


@pytest.mark.parametrize("learning", ["supervised", "unsupervised"])
def test_one_sweep_keeps_what_the_signal_to_noise_analysis_says(learning):
    # all spins at once: the formula leaves out that earlier spins have moved
    N, load, r, M = 120, 0.05, 0.6, 5
    found = []
    for seed in range(6):
        xi = make_archetypes(round(load * N**2), N, rng=[11, seed])
        stored = hebbian_patterns(make_examples(xi, M, quality=r, rng=[12, seed]), learning=learning, order=3)
        with pytest.warns(ConvergenceWarning):
            end = recall(
                xi[:20],
                stored.patterns,
                weights=stored.weights,
                interaction="distinct",
                n_sweeps=1,
                dynamics="parallel",
            ).states
        found.append(np.mean(end * xi[:20].astype(float)))
    expected = one_step_magnetization(order=3, load=load, quality=r, n_examples=M, learning=learning)
    error = np.std(found, ddof=1) / np.sqrt(6)
    assert abs(np.mean(found) - expected) < 4 * error + 3 / N


def test_a_curve_falls_where_the_theory_does():
    curve = capacity_curve(n_features=100, loads=[0.02, 0.06, 0.3], n_trials=8, flips=0.05, rng=0)
    assert_array_equal(curve.n_patterns, [200, 600, 3000])
    assert_allclose(curve.mean[:2], curve.theory[:2], atol=0.02)
    assert curve.success[0] == 1 and curve.success[-1] == 0
    assert curve.theory[-1] < 1e-6 and curve.mean[-1] < 0.8


def test_theory_is_that_of_the_interaction():
    loads = [0.07, 0.1]
    distinct, full = (
        capacity_curve(n_features=20, loads=loads, interaction=kind, n_trials=1, rng=0) for kind in ("distinct", "full")
    )
    assert np.all(distinct.theory > 0.8)
    assert full.theory[0] > 0.8 and full.theory[1] < 1e-6


def test_a_projector_holds_half_a_pattern_for_each_feature_where_hebbs_rule_does_not():
    pinv = capacity_curve(n_features=100, loads=[0.3], rule="pinv", flips=0.02, n_trials=6, rng=0)
    hebb = capacity_curve(n_features=100, loads=[0.3], rule="hebb", flips=0.02, n_trials=6, rng=0)
    assert pinv.mean[0] > 0.99 > hebb.mean[0]
    assert np.isnan(pinv.theory[0]) and hebb.theory[0] < 1e-6
    assert pinv.n_patterns[0] == 30


def test_no_flips_at_load_zero_change_nothing():
    curve = capacity_curve(n_features=30, loads=[0.0], flips=0.0, n_trials=3, rng=0)
    assert curve.n_patterns[0] == 1
    assert curve.mean[0] == curve.success[0] == curve.theory[0] == 1
    assert curve.standard_error[0] == 0


def test_what_is_drawn_for_a_load_does_not_depend_on_the_loads_after_it():
    settings = {"n_features": 40, "n_trials": 4, "flips": 0.2}
    long = capacity_curve(loads=[0.1, 0.2], rng=5, **settings)
    short = capacity_curve(loads=[0.1], rng=5, **settings)
    assert long.mean[0] == short.mean[0]


def test_where_there_is_no_theory_there_is_nan():
    curve = capacity_curve(n_features=20, loads=[0.05], interaction="rectified", n_trials=2, rng=0)
    assert np.isnan(curve.theory).all() and np.isfinite(curve.mean).all()
    curve = capacity_curve(
        n_features=20, loads=[0.05], order=2, learning="unsupervised", quality=0.8, n_examples=4, n_trials=2, rng=0
    )
    assert np.isnan(curve.theory).all()


def test_curves_come_back_from_a_file(tmp_path):
    curve = capacity_curve(n_features=20, loads=[0.05], n_trials=2, rng=0)
    numcore.save(curve, tmp_path / "curve")
    assert_array_equal(numcore.load(tmp_path / "curve").mean, curve.mean)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_features": 0}, "n_features"),
        ({"loads": [-0.1]}, "loads must be at least 0"),
        ({"order": 31}, "order must be at most n_features"),
        ({"interaction": "none"}, "interaction must be one of"),
        ({"rule": "oja"}, "rule must be one of"),
        ({"flips": 1.1}, "flips"),
        ({"n_trials": 0}, "n_trials"),
        ({"quality": 2.0}, "quality"),
        ({"n_examples": 0}, "n_examples"),
        ({"learning": "none"}, "learning must be one of"),
    ],
)
def test_bad_input_is_named(settings, match):
    with pytest.raises(ValueError, match=match):
        capacity_curve(**{"n_features": 30, "loads": [0.1]} | settings)
