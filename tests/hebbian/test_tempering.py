"""Replica exchange against Boltzmann's law at every temperature, and its temperatures against their purpose."""

import numpy as np
import pytest

import numcore
from numcore.algorithms.hebbian import energy, make_archetypes, parallel_tempering, tempering
from numcore.algorithms.hebbian.tempering import respaced
from numcore.diagnostics import autocorrelation_time
from numcore.results import ConvergenceWarning

BETAS = np.array([0.2, 0.6, 1.2, 1.8])


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(("order", "interaction"), [(2, "distinct"), (3, "distinct"), (4, "rectified")])
def test_every_temperature_has_boltzmanns_law(oracle, rng, order, interaction, real, effort):
    patterns = rng.normal(size=(3, 8)) if real else rng.choice([-1, 1], size=(3, 8))
    model = {"order": order, "interaction": interaction}
    states = oracle.states(8)
    E = energy(states, patterns, **model)
    run = parallel_tempering(patterns, betas=BETAS, n_sweeps=effort(3000, 2), probes=np.eye(8), rng=1, **model)
    for k, beta in enumerate(BETAS):
        law = oracle.boltzmann(E, beta)
        series = [(run.energies[:, k], law @ E), (run.energies[:, k] ** 2, law @ E**2)]
        series += [(8 * run.overlaps[:, k, i], law @ states[:, i]) for i in range(8)]
        for found, exact in series:
            estimate = autocorrelation_time(found)
            assert abs(estimate.mean - exact) < 4 * estimate.standard_error + 1e-9
    np.testing.assert_allclose(run.energies[-1], energy(run.states, patterns, **model), rtol=1e-5, atol=1e-6)


def test_swaps_happen_as_often_as_the_laws_overlap(oracle, rng, effort):
    xi = rng.choice([-1, 1], size=(3, 8))
    E = energy(oracle.states(8), xi)
    run = parallel_tempering(xi, betas=BETAS, n_sweeps=effort(6000, 2), swap_every=2, rng=2)
    for k in range(3):
        cold, hot = oracle.boltzmann(E, BETAS[k + 1]), oracle.boltzmann(E, BETAS[k])
        gain = (BETAS[k] - BETAS[k + 1]) * (E[:, None] - E[None, :])
        rate = hot @ np.minimum(1, np.exp(gain)) @ cold
        # 1500 attempts at each pair, or 750, correlated over a few
        assert run.swap_rates[k] == pytest.approx(rate, abs=4 * np.sqrt(5 * rate * (1 - rate) / effort(1500, 2)))
    assert run.round_trips > 100


def test_cold_chains_cross_barriers_that_single_ones_do_not(effort):
    """Two patterns at low temperature: exchange visits both, and their opposites, alike."""
    xi = make_archetypes(2, 24, rng=3)
    run = parallel_tempering(
        xi,
        betas=np.geomspace(0.5, 3.0, 6),
        order=2,
        n_sweeps=effort(4000, 2),
        init=np.repeat(xi[:1], 6, axis=0),
        rng=3,
    )
    coldest = run.overlaps[:, -1]
    shares = [np.mean(coldest[:, k] * sign > 0.8) for k in range(2) for sign in (-1, 1)]
    assert min(shares) > 0.1
    assert run.round_trips > 5 and (run.autocorrelation_times >= 1 / 4000).all()


def test_pilots_space_the_temperatures_for_swap_rates_alike():
    xi = make_archetypes(4, 40, rng=4)
    run = parallel_tempering(xi, beta_min=0.3, beta_max=2.0, n_temperatures=6, order=2, n_sweeps=500, rng=5)
    assert run.betas[0] == 0.3 and run.betas[-1] == 2.0 and (np.diff(run.betas) > 0).all()
    plain = parallel_tempering(xi, betas=np.linspace(0.3, 2.0, 6), order=2, n_sweeps=500, rng=5)
    assert np.ptp(run.swap_rates) < np.ptp(plain.swap_rates)
    assert run.swap_rates.min() > 0.2


def test_equal_spreads_leave_equal_steps_and_wide_ones_draw_temperatures(rng):
    ladder = np.linspace(1.0, 2.0, 6)
    noise = rng.normal(size=(5000, 6))
    noise = (noise - noise.mean(axis=0)) / noise.std(axis=0)
    np.testing.assert_allclose(respaced(ladder, noise), ladder, atol=1e-12)
    wide = respaced(ladder, noise * [10, 10, 1, 1, 1, 1])
    assert (np.diff(wide) > 0).all() and np.diff(wide)[0] < 0.5 * np.diff(wide)[-1]
    np.testing.assert_allclose(respaced(ladder, np.zeros((9, 6))), ladder, atol=1e-12)


def test_too_few_temperatures_are_warned_of():
    xi = make_archetypes(4, 200, rng=5)
    with pytest.warns(ConvergenceWarning, match="1 of 1 swap rates are below 0.05"):
        run = parallel_tempering(xi, betas=[0.1, 5.0], order=2, init="patterns", n_sweeps=100, rng=6)
    assert run.converged  # all sweeps were made


def test_interrupted_runs_return_what_was_sampled():
    xi = make_archetypes(3, 30, rng=0)

    def interrupt(state):
        if state.n_iter == 12:
            raise KeyboardInterrupt

    options = {"betas": BETAS, "n_burn": 4, "rng": 1}
    with pytest.warns(ConvergenceWarning, match="parallel_tempering was interrupted after 12 sweeps"):
        run = parallel_tempering(xi, n_sweeps=100, callback=interrupt, **options)
    whole = parallel_tempering(xi, n_sweeps=100, **options)
    np.testing.assert_array_equal(run.energies, whole.energies[:8])
    assert not run.converged and run.overlaps.shape == (8, 4, 3)


def test_an_interrupt_of_the_pilots_returns_no_records(monkeypatch):
    def swap(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tempering._Exchange, "_swap", swap)
    with pytest.warns(ConvergenceWarning, match="was interrupted after 1 sweeps"):
        run = parallel_tempering(make_archetypes(3, 30, rng=0), n_sweeps=100, rng=1)
    assert run.energies.shape == (0, 16) and np.isnan(run.autocorrelation_times).all() and not run.converged


def test_a_callback_can_stop_and_progress_is_shown(capsys):
    xi = make_archetypes(3, 30, rng=0)
    run = parallel_tempering(
        xi, betas=BETAS, n_sweeps=50, n_burn=0, swap_every=4, callback=lambda state: state.n_iter >= 8, verbose=1, rng=1
    )
    assert len(run.energies) == 8 and not run.converged
    assert "parallel_tempering" in capsys.readouterr().err


def test_results_are_plain_data(tmp_path):
    run = parallel_tempering(make_archetypes(3, 20, rng=0), betas=BETAS, n_sweeps=30, rng=1)
    numcore.save(run, tmp_path / "run")
    np.testing.assert_array_equal(numcore.load(tmp_path / "run").energies, run.energies)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"betas": [1.0]}, "betas must be at least 2 positive numbers, strictly increasing"),
        ({"betas": [1.0, 1.0]}, "betas must be at least 2"),
        ({"betas": [-1.0, 1.0]}, "betas must be at least 2"),
        ({"betas": [1.0, np.nan]}, "betas must be finite; 1 of its 2"),
        ({"beta_min": 2.0, "beta_max": 1.0}, "beta_min must be below beta_max"),
        ({"n_temperatures": 1}, "n_temperatures must be at least 2"),
        ({"swap_every": 0}, "swap_every must be at least 1"),
        ({"interaction": "exp"}, "interaction must be"),
        ({"init": np.ones((3, 6)), "betas": [1.0, 2.0]}, "init must have 1 or 2 rows"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        parallel_tempering(np.ones((2, 6)), **options)
