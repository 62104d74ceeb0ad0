"""Descent to what is remembered: fixed points by enumeration, ties, cycles, clamps, storage."""

import numpy as np
import pytest

import numcore
from numcore.algorithms.hebbian import energy, local_fields, make_archetypes, overlaps, recall
from numcore.results import ConvergenceWarning

MODELS = [(3, "rectified"), (2, "distinct"), (3, "distinct"), (4, "full"), (8, "rectified"), (2, "exp")]


def damaged(xi, share, rng):
    return np.where(rng.random(xi.shape) < share, -xi, xi)


def descend(s, patterns, **model):
    """One sweep after another in the order of the sites, from the fields alone."""
    s = s.copy()
    for sweep in range(1, 100):
        before = s.copy()
        for i in range(len(s)):
            h = local_fields(s, patterns, **model)
            if abs(h[i]) > 1e-9 * np.abs(h).max():
                s[i] = np.sign(h[i])
        if (s == before).all():
            return s, sweep
    raise AssertionError("no rest")


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(("order", "interaction"), MODELS)
def test_recall_is_the_descent_along_the_signs_of_the_fields(rng, order, interaction, real):
    patterns = rng.normal(size=(5, 14)) if real else rng.choice([-1, 1], size=(5, 14))
    states = rng.choice([-1, 1], size=(6, 14))
    model = {"order": order, "interaction": interaction}
    found = recall(states, patterns, **model)
    for k, s in enumerate(states):
        expected, sweeps = descend(s, patterns, **model)
        np.testing.assert_array_equal(found.states[k], expected)
        assert found.n_iter[k] == sweeps
    assert found.converged.all() and not found.cycle.any()
    np.testing.assert_allclose(found.energies, energy(found.states, patterns, **model), rtol=1e-12)
    np.testing.assert_allclose(found.overlaps, overlaps(found.states, patterns), atol=1e-15)


@pytest.mark.parametrize("dynamics", ["sequential", "parallel"])
@pytest.mark.parametrize(("order", "interaction"), MODELS)
def test_few_patterns_are_recalled_from_a_fifth_of_wrong_signs(rng, order, interaction, dynamics):
    xi = make_archetypes(4, 300, rng=0)
    found = recall(damaged(xi, 0.2, rng), xi, order=order, interaction=interaction, dynamics=dynamics)
    assert (overlaps(found.states, xi).diagonal() > 0.97).all()


def test_exponentials_remember_what_the_quadratic_model_forgets(rng):
    """512 patterns of 64 features: eight times the features. Indeed exp(c N), against 0.138 N."""
    xi = make_archetypes(512, 64, rng=1)
    states = damaged(xi, 0.05, rng)
    assert (recall(states, xi, interaction="exp").overlaps.diagonal() == 1).mean() > 0.97
    with pytest.warns(ConvergenceWarning):
        forgetful = recall(states, xi, order=2, interaction="distinct", n_sweeps=5)
    assert forgetful.overlaps.diagonal().mean() < 0.7


def test_exponentials_of_a_thousand_features_tell_by_sign(rng):
    xi = make_archetypes(5, 1000, rng=2)
    far = rng.choice([-1, 1], size=(3, 1000))  # overlaps of 30, and so terms of e^-970
    found = recall(far, xi, interaction="exp")
    assert (found.overlaps.max(axis=1) == 1).all()


@pytest.mark.filterwarnings("ignore:recall did not converge")
def test_energies_never_rise_from_sweep_to_sweep(rng):
    xi, states = make_archetypes(40, 50, rng=3), rng.choice([-1, 1], size=(20, 50))
    before = energy(states, xi)
    for _ in range(12):
        moved = recall(states, xi, interaction="distinct", n_sweeps=1).states
        after = energy(moved, xi)
        assert np.all((after < before) | (moved == states).all(axis=1))
        states, before = moved, after


def test_parallel_updates_can_alternate_and_say_so():
    with pytest.warns(ConvergenceWarning, match="1 of 2 states were not at rest after 2 sweeps, 1 of them in a cycle"):
        found = recall([[1, -1], [1, 1]], [[1, 1]], order=2, interaction="distinct", dynamics="parallel")
    np.testing.assert_array_equal(found.cycle, [True, False])
    np.testing.assert_array_equal(found.converged, [False, True])


def test_a_query_is_recalled_alike_alone_and_among_others(rng):
    xi, states = make_archetypes(30, 60, rng=4), rng.choice([-1, 1], size=(9, 60))
    for dynamics in ("sequential", "parallel"):
        options = {"dynamics": dynamics, "order": 3, "n_sweeps": 50}
        together = recall(states, xi, **options)
        for k, s in enumerate(states):
            alone = recall(s, xi, **options)
            np.testing.assert_array_equal(alone.states, together.states[k])
            assert alone.n_iter == together.n_iter[k]


def test_a_tie_keeps_the_sign():
    patterns = np.array([[1, 1, 1, 1], [-1, 1, 1, 1]])  # the others say nothing of the first feature
    for first in (-1, 1):
        found = recall([first, 1, 1, -1], patterns, order=2, interaction="distinct")
        np.testing.assert_array_equal(found.states, [first, 1, 1, 1])


def test_clamped_features_stay_for_all_or_each(rng):
    xi = make_archetypes(3, 80, rng=5)
    states = np.where(np.arange(80) < 40, xi, rng.choice([-1, 1], size=xi.shape))
    known = np.arange(80) < 40
    found = recall(states, xi, clamp=known)
    np.testing.assert_array_equal(found.states, xi)
    each = np.stack([known, ~known, np.ones(80, bool)])
    found = recall(states, xi, clamp=each)
    np.testing.assert_array_equal(found.states[0], xi[0])
    np.testing.assert_array_equal(found.states[1, ~known], states[1, ~known])
    np.testing.assert_array_equal(found.states[2], states[2])
    assert found.converged.all()


def test_no_sweeps_return_the_states_as_they_are(rng):
    xi = make_archetypes(3, 30, rng=6)
    found = recall(-xi, xi, n_sweeps=0)
    np.testing.assert_array_equal(found.states, -xi)
    np.testing.assert_array_equal(found.overlaps, overlaps(-xi, xi))
    assert not found.converged.any() and not found.n_iter.any()


def test_sweeps_that_do_not_suffice_are_flagged_once(rng):
    xi = make_archetypes(30, 40, rng=7)
    with pytest.warns(ConvergenceWarning, match="recall did not converge: .* after 1 sweeps") as caught:
        found = recall(rng.choice([-1, 1], size=(5, 40)), xi, n_sweeps=1)
    assert len(caught) == 1 and not found.converged.all()


def test_the_reference_and_its_twin_recall_alike(rng):
    pytest.importorskip("numba")
    for patterns in (rng.choice([-1, 1], size=(20, 40)), rng.normal(size=(20, 40))):
        states = rng.choice([-1, 1], size=(6, 40))
        for order, interaction in MODELS:
            found = []
            for backend in ("numpy", "numba"):
                with numcore.backend(backend):
                    found.append(recall(states, patterns, order=order, interaction=interaction, n_sweeps=40))
            np.testing.assert_array_equal(found[0].states, found[1].states)
            np.testing.assert_array_equal(found[0].n_iter, found[1].n_iter)


def test_a_single_state_gives_a_result_without_the_first_axis():
    xi = make_archetypes(2, 20, rng=0)
    found = recall(xi[0], xi)
    assert found.states.shape == (20,) and found.overlaps.shape == (2,) and np.ndim(found.energies) == 0


def test_the_states_given_are_left_alone(rng):
    xi = make_archetypes(2, 20, rng=0)
    states = damaged(xi, 0.2, rng).astype(np.int8)
    states.flags.writeable = False
    recall(states, xi)


def test_results_are_plain_data(tmp_path):
    xi = make_archetypes(2, 20, rng=0)
    numcore.save(recall(xi, xi), tmp_path / "found")
    np.testing.assert_array_equal(numcore.load(tmp_path / "found").states, xi)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dynamics": "plefka"}, "dynamics must be one of 'sequential', 'parallel'"),
        ({"n_sweeps": -1}, "n_sweeps must be at least 0"),
        ({"clamp": np.zeros((2, 3), bool)}, r"clamp must be a bool array of shape \(4,\) or \(1, 4\)"),
        ({"interaction": "cubic"}, "interaction must be one of"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        recall(np.ones((1, 4)), np.ones((2, 4)), **options)
