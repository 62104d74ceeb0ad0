"""Annealing against ground states by enumeration, and its schedule against the fields."""

import numpy as np
import pytest

import numcore
from numcore.algorithms.hebbian import anneal, energy, make_archetypes
from numcore.algorithms.hebbian._model import make_model
from numcore.algorithms.hebbian.annealing import default_range
from numcore.results import ConvergenceWarning


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(("order", "interaction"), [(2, "distinct"), (3, "distinct"), (4, "full"), (3, "rectified")])
def test_the_ground_state_of_a_small_system_is_found(oracle, rng, order, interaction, real):
    patterns = rng.normal(size=(5, 12)) if real else rng.choice([-1, 1], size=(5, 12))
    model = {"order": order, "interaction": interaction, "field": 0.1 * rng.normal(size=12)}
    lowest = energy(oracle.states(12), patterns, **model).min()
    found = anneal(patterns, n_sweeps=200, n_replicas=10, rng=1, **model)
    assert found.best_energy == pytest.approx(lowest, rel=1e-12)
    assert found.best_energy == found.energies.min()
    assert energy(found.best_state, patterns, **model) == pytest.approx(found.best_energy, rel=1e-12)
    np.testing.assert_allclose(energy(found.states, patterns, **model), found.energies, rtol=1e-12)
    assert found.converged


def test_the_best_state_is_that_of_the_whole_run_not_the_last():
    """Heated, not cooled, in all but name: what was found on the way must not be lost."""
    xi, seen = make_archetypes(3, 60, rng=0), []
    found = anneal(
        xi,
        order=2,
        init="patterns",
        beta_range=(0.01, 0.01),
        n_sweeps=60,
        rng=1,
        callback=lambda s: seen.append(s.energies[0]),
    )
    assert found.best_energy == pytest.approx(min(seen), rel=1e-5)  # one of them is tracked in float32
    assert seen[-1] > found.best_energy


def test_temperatures_fall_geometrically_between_ends_set_by_the_fields():
    xi = make_archetypes(6, 80, rng=1)
    model = make_model(xi)
    first, last = default_range(model, np.random.default_rng(2))
    states = 2 * np.random.default_rng(2).integers(0, 2, size=(64, 80), dtype=np.int8) - 1
    h = np.abs(model.fields(states.astype(np.int8))[0])
    assert first == pytest.approx(0.1 / np.median(h[h > 1e-9]))
    assert last == pytest.approx(min(10 / h[h > 1e-9].min(), 1e4 * first))
    found = anneal(xi, n_sweeps=9, beta_range=(0.1, 10.0), rng=3)
    np.testing.assert_allclose(np.diff(np.log(found.betas)), np.log(100) / 8)


def test_a_flat_energy_is_annealed_too():
    found = anneal(np.zeros((2, 5)), n_sweeps=3, rng=0)
    assert found.best_energy == 0


def test_interrupted_runs_return_the_best_so_far():
    xi = make_archetypes(3, 40, rng=0)

    def interrupt(state):
        assert state.best_energy <= state.energies.min() + 1e-4
        if state.n_iter == 20:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="anneal was interrupted after 20 sweeps"):
        found = anneal(xi, order=2, n_sweeps=100, callback=interrupt, rng=1)
    assert not found.converged and len(found.betas) == 20
    assert energy(found.best_state, xi, order=2) == pytest.approx(found.best_energy)


def test_a_callback_can_stop_without_a_warning():
    found = anneal(make_archetypes(3, 40, rng=0), n_sweeps=100, callback=lambda state: state.n_iter == 5, rng=1)
    assert len(found.betas) == 5 and not found.converged


def test_results_are_plain_data(tmp_path):
    found = anneal(make_archetypes(3, 20, rng=0), n_sweeps=5, rng=1)
    numcore.save(found, tmp_path / "found")
    assert numcore.load(tmp_path / "found").best_energy == found.best_energy


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"interaction": "exp"}, "interaction must be 'distinct', 'full' or 'rectified'"),
        ({"beta_range": 3}, "beta_range must be a pair"),
        ({"beta_range": (0.0, 1.0)}, r"beta_range\[0\] must satisfy"),
        ({"beta_range": (2.0, 1.0)}, "beta_range must not decrease"),
        ({"n_sweeps": 0}, "n_sweeps must be at least 1"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        anneal(np.ones((2, 6)), **options)
