"""Chains against exact laws: enumeration of small systems, detailed balance, Peretto's law, published figures."""

import tracemalloc

import numpy as np
import pytest

import numcore
from numcore.algorithms.hebbian import _chains, energy, local_fields, make_archetypes, overlaps, sample
from numcore.algorithms.hebbian._draws import chain_seeds, uniforms
from numcore.algorithms.hebbian._loops import Tables, _TableBook, accepted
from numcore.algorithms.hebbian._model import make_model
from numcore.results import ConvergenceWarning

N = 8


def within(samples, exact, errors=4.0):
    """Means over records of (T, R, ...) against `exact`, by the spread between the R independent chains."""
    means = samples.mean(axis=0)
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    np.testing.assert_array_less(np.abs(means.mean(axis=0) - exact), errors * error + 1e-12)


def small(rng, real=False, field=True):
    patterns = rng.normal(size=(3, N)) if real else rng.choice([-1, 1], size=(3, N))
    return patterns, {"weights": rng.random(3) + 0.5, "field": 0.2 * rng.normal(size=N) if field else None}


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(
    ("order", "interaction"),
    [(2, "distinct"), (2, "full"), (3, "distinct"), (4, "distinct"), (3, "full"), (4, "rectified")],
)
@pytest.mark.parametrize(("visit", "rule"), [("ordered", "glauber"), ("permuted", "metropolis"), ("random", "glauber")])
def test_sequential_chains_follow_boltzmanns_law(oracle, rng, order, interaction, real, visit, rule, effort):
    patterns, model = small(rng, real)
    model |= {"order": order, "interaction": interaction}
    states = oracle.states(N)
    E = energy(states, patterns, **model)
    law = oracle.boltzmann(E, 0.8)
    run = sample(
        patterns,
        beta=0.8,
        n_replicas=60,
        n_sweeps=effort(1500),
        n_burn=50,
        visit=visit,
        rule=rule,
        probes=np.eye(N),
        rng=1,
        **model,
    )
    assert run.converged.all()
    within(run.energies, law @ E)
    within(run.energies**2, law @ E**2)
    within(N * run.overlaps, law @ states)


def site_kernels(costs, beta, rule):
    """The transition matrices of single-site attempts, (N, 2^N, 2^N), from the costs (2^N, N) of flips."""
    count = len(costs)
    x = beta * costs
    probability = 1 / (1 + np.exp(x)) if rule == "glauber" else np.minimum(1, np.exp(-x))
    kernels = np.zeros((N, count, count))
    index = np.arange(count)
    for i in range(N):
        other = index ^ (1 << (N - 1 - i))  # states are counted in binary, the first site first
        kernels[i, index, other] = probability[:, i]
        kernels[i, index, index] = 1 - probability[:, i]
    return kernels


@pytest.mark.parametrize("rule", ["glauber", "metropolis"])
@pytest.mark.parametrize("interaction", ["distinct", "full", "rectified"])
def test_single_attempts_are_in_detailed_balance_and_a_sweep_keeps_the_law(oracle, rng, interaction, rule):
    patterns, model = small(rng)
    checked = make_model(patterns, order=3, interaction=interaction, **model)
    table = Tables(
        checked.patterns.T, checked.weights, checked.level, checked.rise, checked.polynomials, checked.field, False
    )
    states = oracle.states(N)
    book, chains = _TableBook(states, checked.counts(states), table), np.arange(len(states))
    costs = np.stack([book.costs(chains, np.full(len(states), i))[0] for i in range(N)], axis=1)
    law = oracle.boltzmann(energy(states, patterns, order=3, interaction=interaction, **model), 0.7)
    sweep = np.eye(len(states))
    for kernel in site_kernels(costs, 0.7, rule):
        flow = law[:, None] * kernel
        np.testing.assert_allclose(flow, flow.T, rtol=0, atol=1e-14)
        sweep = sweep @ kernel
    np.testing.assert_allclose(law @ sweep, law, rtol=0, atol=1e-14)


@pytest.mark.parametrize("x", [-50.0, -3.0, -1e-9, 0.0, 1e-9, 0.5, 20.0, 43.0, 50.0])
def test_an_attempt_succeeds_with_the_probability_of_its_rule(x):
    for metropolis, probability in ((False, 1 / (1 + np.exp(x))), (True, min(1.0, np.exp(-x)))):
        for beta in (0.1, 7.0):
            for u in (0.999999 * probability, 1.000001 * probability):
                if u < 1 and not (u < 1e-19):  # no number of 53 bits lies below
                    assert accepted(x / beta, 1.0, beta, u, 1e-14, metropolis) == (u < probability)


def test_draws_are_uniform_and_those_of_different_chains_independent():
    a, b = (uniforms(seed, np.arange(200_000)) for seed in chain_seeds(np.random.default_rng(0), 2))
    for u in (a, b):
        assert 0 <= u.min() and u.max() < 1
        counts = np.bincount((u * 100).astype(int), minlength=100)
        assert abs(((counts - 2000) ** 2 / 2000).sum() - 99) < 4 * np.sqrt(2 * 99)  # chi squared
    for shift in (0, 1, 2, 7):
        assert abs(np.corrcoef(a[: 200_000 - shift], b[shift:])[0, 1]) < 4 / np.sqrt(200_000)
        if shift:
            assert abs(np.corrcoef(a[:-shift], a[shift:])[0, 1]) < 4 / np.sqrt(200_000)


def test_the_chains_of_a_run_do_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(
        chain_seeds(np.random.default_rng(3), 2), chain_seeds(np.random.default_rng(3), 9)[:2]
    )


def test_parallel_dynamics_of_order_two_has_perettos_law(oracle, rng):
    xi = rng.choice([-1, 1], size=(2, 6))
    states = oracle.states(6)
    h = local_fields(states, xi, order=2)
    law = np.prod(2 * np.cosh(1.3 * h), axis=1)
    law /= law.sum()
    # the matrix of parallel updates: every sign follows its field
    steps = np.prod(1 / (1 + np.exp(-2 * 1.3 * h[:, None, :] * states[None])), axis=2)
    np.testing.assert_allclose(law @ steps, law, rtol=0, atol=1e-14)
    boltzmann = oracle.boltzmann(energy(states, xi, order=2), 1.3)
    assert np.abs(law - boltzmann).max() > 1e-2  # a different one
    run = sample(
        xi, beta=1.3, order=2, dynamics="parallel", n_replicas=200, n_sweeps=600, n_burn=50, probes=np.eye(6), rng=4
    )
    m = 6 * run.overlaps
    within(m[..., :1] * m, law @ (states[:, :1] * states))
    within(run.energies, law @ energy(states, xi, order=2))


@pytest.mark.parametrize("interaction", ["distinct", "full", "rectified"])
@pytest.mark.parametrize("real", [False, True])
def test_parallel_chains_follow_the_matrix_of_their_fields(oracle, rng, interaction, real):
    patterns, model = small(rng, real)
    model |= {"order": 3, "interaction": interaction}
    states = oracle.states(N)
    h = local_fields(states, patterns, **model)
    steps = np.prod(1 / (1 + np.exp(-2 * 0.6 * h[:, None, :] * states[None])), axis=2)
    law = np.linalg.matrix_power(steps, 1000)[0]
    run = sample(
        patterns,
        beta=0.6,
        dynamics="parallel",
        n_replicas=50,
        n_sweeps=200,
        n_burn=50,
        probes=np.eye(N),
        rng=5,
        **model,
    )
    within(run.energies, law @ energy(states, patterns, **model))
    within(N * run.overlaps, law @ states)


def problems(rng):
    """A model for each loop."""
    signs = rng.choice([-1, 1], size=(12, 40))
    yield signs, {"order": 3}
    yield signs, {"order": 2}
    yield rng.normal(size=(12, 40)), {"order": 3}
    yield rng.normal(size=(12, 40)), {"order": 4, "interaction": "rectified"}


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("beta", [1.0, np.inf])
def test_the_reference_and_its_twin_make_the_same_chains(rng, which, beta):
    pytest.importorskip("numba")
    patterns, model = list(problems(rng))[which]
    runs = []
    for backend in ("numpy", "numba"):
        with numcore.backend(backend):
            runs.append(sample(patterns, beta=beta, n_replicas=3, n_sweeps=12, rng=0, **model))
    np.testing.assert_array_equal(runs[0].states, runs[1].states)
    np.testing.assert_array_equal(runs[0].acceptance_rate, runs[1].acceptance_rate)
    np.testing.assert_allclose(runs[0].energies, runs[1].energies, rtol=1e-5, atol=1e-5)  # float32 fields at order 2


@pytest.mark.parametrize("which", range(4))
def test_chains_do_not_depend_on_the_number_of_threads(rng, which, monkeypatch):
    pytest.importorskip("numba")
    from numcore.accel.cpu import _threads

    monkeypatch.setattr(_threads, "GRAIN", 1)  # a block a chain
    patterns, model = list(problems(rng))[which]
    found = []
    for count in (1, 4):
        monkeypatch.setattr(_threads, "_num_threads", lambda count=count: count)
        found.append(sample(patterns, beta=0.5, n_replicas=5, n_sweeps=30, rng=1, **model))
    np.testing.assert_array_equal(found[0].states, found[1].states)
    np.testing.assert_array_equal(found[0].energies, found[1].energies)


def look_after_every_sweep(monkeypatch):
    monkeypatch.setattr(_chains, "PATIENCE", 0.0)
    monkeypatch.setattr(_chains, "START", 1)


@pytest.mark.parametrize("which", range(4))
def test_chains_do_not_depend_on_how_often_the_loop_looks_up(rng, which, monkeypatch):
    patterns, model = list(problems(rng))[which]
    whole = sample(patterns, beta=0.5, n_replicas=2, n_sweeps=150, rng=1, **model)
    look_after_every_sweep(monkeypatch)
    cut = sample(patterns, beta=0.5, n_replicas=2, n_sweeps=150, rng=1, **model)
    np.testing.assert_array_equal(whole.states, cut.states)
    np.testing.assert_array_equal(whole.energies, cut.energies)


@pytest.mark.parametrize("duration", [1e-3, 0.03, 1.0])
def test_looks_are_some_tenths_of_a_second_apart_however_long_sweeps_are(duration, monkeypatch):
    clock, lengths, original = [0.0], [], _chains.Chains.advance

    def advance(self, betas, recorded):
        original(self, betas, recorded)
        lengths.append(len(betas))
        clock[0] += duration * len(betas)

    monkeypatch.setattr(_chains.Chains, "advance", advance)
    monkeypatch.setattr(_chains, "perf_counter", lambda: clock[0])
    sample(make_archetypes(60, 20, rng=0), beta=1.0, n_sweeps=1500, rng=0)
    assert sum(lengths) == 1500
    assert lengths[-2] == 1 or 0.05 <= duration * lengths[-2] <= 0.2
    assert duration * lengths[-2] <= max(0.2, duration)


@pytest.mark.parametrize(("every", "rows"), [(1, range(1, 11)), (3, (1, 4, 7, 10)), (5, (5, 10)), (20, (10,))])
def test_records_are_evenly_spaced_and_the_last_is_of_the_last_sweep(rng, every, rows):
    xi = make_archetypes(5, 30, rng=0)
    full = sample(xi, beta=0.5, n_sweeps=13, rng=2)
    some = sample(xi, beta=0.5, n_burn=3, n_sweeps=10, record_every=every, rng=2)
    np.testing.assert_array_equal(some.energies, full.energies[[3 + k - 1 for k in rows]])
    np.testing.assert_allclose(some.energies[-1], energy(some.states, xi), rtol=1e-12)
    np.testing.assert_allclose(some.overlaps[-1], overlaps(some.states, xi), rtol=1e-12, atol=1e-15)
    assert (some.n_sweeps, some.n_attempts) == (10, 13 * 30)


@pytest.mark.parametrize("which", range(4))
def test_energies_do_not_drift_over_a_million_attempts(rng, which, effort):
    patterns, model = list(problems(rng))[which]
    sweeps = effort(effort(25_000))  # sums are computed afresh every 64 sweeps
    run = sample(patterns, beta=0.3, n_sweeps=sweeps, record_every=25_000, rng=3, **model)
    assert run.n_attempts == 40 * sweeps and run.acceptance_rate[0] > 0.1
    exact = energy(run.states, patterns, **model)
    np.testing.assert_allclose(run.energies[-1], exact, rtol=1e-5, atol=1e-5 * 40)


@pytest.mark.parametrize("visit", ["ordered", "permuted", "random"])
@pytest.mark.parametrize("which", range(4))
def test_zero_temperature_only_descends_and_ends_where_no_flip_helps(rng, which, visit):
    patterns, model = list(problems(rng))[which]
    run = sample(patterns, beta=np.inf, n_replicas=20, n_sweeps=60, visit=visit, rng=4, **model)
    assert run.converged.all() and not run.cycle.any()
    assert np.all(np.diff(run.energies, axis=0) <= 1e-12)
    assert np.all(run.states * local_fields(run.states, patterns, **model) >= -1e-12)


def test_ties_keep_the_state_at_zero_temperature():
    p = np.array([[1, 1, 1, 1], [1, 1, -1, -1]])
    s = np.array([[1, 1, 1, -1], [-1, 1, -1, 1]])
    for order in (2, 3):
        h = local_fields(s, p, order=order)
        run = sample(p, beta=np.inf, init=s, order=order, n_sweeps=1, n_burn=3)
        first = h[:, 0] != 0
        assert (run.states[~first, 0] == s[~first, 0]).all()
    quiet = sample(np.zeros((2, 6)), beta=np.inf, init=np.ones((1, 6)), n_sweeps=2)
    np.testing.assert_array_equal(quiet.states, 1)
    assert quiet.converged.all()


def test_chains_at_different_temperatures_are_told_apart(rng):
    xi = make_archetypes(4, 60, rng=1)
    run = sample(xi, beta=[0.1, 2.0, np.inf], init="patterns", order=2, n_sweeps=60, rng=5)
    assert abs(run.overlaps[20:, 0, 0].mean()) < 0.3
    assert run.overlaps[20:, 1, 1].mean() > 0.8
    assert np.ptp(run.energies[5:, 2]) == 0


@pytest.mark.parametrize("dynamics", ["sequential", "parallel", "plefka"])
def test_clamped_sites_never_flip_and_are_no_attempts(rng, dynamics):
    xi = make_archetypes(4, 30, rng=2)
    clamp = np.arange(30) < 12
    init = rng.choice([-1, 1], size=(2, 30))
    run = sample(xi, beta=0.2, init=init, clamp=clamp, n_sweeps=20, dynamics=dynamics, rng=6)
    np.testing.assert_array_equal(run.states[:, clamp], init[:, clamp])
    assert (run.states[:, ~clamp] != init[:, ~clamp]).any()
    assert run.n_attempts == 20 * 18 * 2
    still = sample(xi, beta=0.2, init=init, clamp=np.ones(30, bool), n_sweeps=3, dynamics=dynamics, rng=6)
    np.testing.assert_array_equal(still.states, init)


def test_clamped_chains_follow_the_conditional_law(oracle, rng, effort):
    patterns, model = small(rng)
    clamp = np.arange(N) % 3 == 0
    init = rng.choice([-1, 1], size=(1, N))
    states = oracle.states(N)
    states = states[(states[:, clamp] == init[0, clamp]).all(axis=1)]
    E = energy(states, patterns, **model)
    run = sample(
        patterns, beta=1.0, init=init, n_replicas=60, n_sweeps=effort(1000), n_burn=20, clamp=clamp, rng=7, **model
    )
    within(run.energies, oracle.boltzmann(E, 1.0) @ E)


def test_parallel_descent_reports_a_cycle_of_two_states():
    # one pair of spins that want to be alike, and are not: both flip, for ever
    with pytest.warns(ConvergenceWarning, match="1 of 1 states were not at rest .* 1 of them in a cycle"):
        run = sample([[1, 1]], beta=np.inf, order=2, init=[[1, -1]], dynamics="parallel", n_sweeps=10)
    assert run.cycle.all() and not run.converged.any()
    assert sample([[1, 1]], beta=np.inf, order=2, init=[[1, 1]], dynamics="parallel", n_sweeps=10).converged.all()


def test_descent_without_enough_sweeps_is_flagged(rng):
    xi = make_archetypes(60, 60, rng=3)
    with pytest.warns(ConvergenceWarning, match="3 of 3 states were not at rest after 1 sweeps"):
        run = sample(xi, beta=np.inf, n_replicas=3, n_sweeps=1, rng=8)
    assert not run.converged.any()


def test_retrieval_at_low_temperature_is_that_of_the_theory(effort):
    """Spins of order 3 at load 0.02 and beta 2: m = 0.98897 (replica symmetric), 0.9885(8) at N = 300."""
    found = []
    for seed in range(8):
        xi = make_archetypes(800, 200, rng=seed)
        run = sample(
            xi, beta=2.0, init="patterns", n_replicas=2, n_sweeps=effort(40), n_burn=effort(20), probes=xi[:2], rng=seed
        )
        found.append(np.mean([run.overlaps[:, r, r].mean() for r in range(2)]))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert error < 2e-3
    assert abs(np.mean(found) - 0.98897) < 4 * error + 1e-3  # what N = 200 leaves out is of order 1 / N


def test_mean_field_dynamics_reaches_the_retrieval_state():
    """The same state: 0.98930 with the reaction term, 0.98962 without (N = 300)."""
    xi = make_archetypes(800, 200, rng=1)
    run = sample(
        xi, beta=2.0, init="patterns", dynamics="plefka", n_replicas=4, n_sweeps=12, n_burn=4, probes=xi[:4], rng=9
    )
    m = np.array([run.overlaps[:, r, r].mean() for r in range(4)])
    # 4 x 12 draws of 200 spins of variance 0.02, and 4 samples of disorder
    assert abs(m.mean() - 0.9890) < 4e-3


# what runs long


def test_interrupted_runs_return_what_was_sampled():
    xi = make_archetypes(3, 20, rng=0)

    def interrupt(state):
        if state.n_iter == 7:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="sample was interrupted after 7 sweeps"):
        run = sample(xi, beta=1.0, n_sweeps=100, n_burn=2, callback=interrupt, rng=1)
    whole = sample(xi, beta=1.0, n_sweeps=100, n_burn=2, rng=1)
    assert not run.converged.any() and run.n_sweeps == 5
    np.testing.assert_array_equal(run.energies, whole.energies[:5])


def test_an_interrupt_within_a_loop_leaves_whole_sweeps(monkeypatch):
    from numcore.algorithms.hebbian import _engines

    xi, calls = make_archetypes(3, 20, rng=0), []
    original = _engines.TableEngine.sweeps

    def sweeps(self, spins, *args):
        original(self, spins, *args)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(_engines.TableEngine, "sweeps", sweeps)
    look_after_every_sweep(monkeypatch)
    with pytest.warns(ConvergenceWarning, match="after 2 sweeps"):
        run = sample(xi, beta=1.0, n_sweeps=10, rng=1)
    np.testing.assert_allclose(run.energies[-1], energy(run.states, xi), rtol=1e-12)
    assert len(run.energies) == 2


def test_a_callback_sees_every_record_and_can_stop():
    xi, seen = make_archetypes(3, 20, rng=0), []

    def callback(state):
        seen.append((state.n_iter, state.energies[0]))
        with pytest.raises(ValueError, match="read-only"):
            state.states[0, 0] = 1
        with pytest.raises(AttributeError):
            state.n_iter = 0
        return len(seen) == 4

    run = sample(xi, beta=1.0, n_sweeps=30, record_every=3, callback=callback, rng=1)
    assert [n for n, _ in seen] == [3, 6, 9, 12] and run.n_sweeps == 12
    np.testing.assert_array_equal(run.energies[:, 0], [e for _, e in seen])
    assert not run.converged.any()
    with pytest.raises(RuntimeError, match="mine"):
        sample(xi, beta=1.0, n_sweeps=3, callback=lambda state: (_ for _ in ()).throw(RuntimeError("mine")))


def test_progress_is_shown(capsys):
    sample(make_archetypes(3, 20, rng=0), beta=1.0, n_sweeps=5, verbose=1, rng=1)
    assert "sample" in capsys.readouterr().err


# extremes


def test_patterns_of_signs_are_never_copied_as_floats():
    xi = make_archetypes(4000, 4000, rng=0)
    tracemalloc.start()
    energy(xi[:1], xi)
    sample(xi, beta=1.0, n_sweeps=1, init="patterns")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * xi.nbytes  # a transposed copy, and blocks of floats


@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_the_scale_of_energies_does_not_matter(rng, scale):
    xi = rng.choice([-1, 1], size=(4, 30))
    for model in ({"order": 3}, {"order": 2}, {"order": 3, "interaction": "rectified"}):
        field = rng.normal(size=30)
        plain = sample(xi, beta=1.0, n_sweeps=30, field=field, rng=1, **model)
        scaled = sample(xi, beta=1 / scale, n_sweeps=30, field=scale * field, weights=np.full(4, scale), rng=1, **model)
        np.testing.assert_array_equal(plain.states, scaled.states)
        np.testing.assert_allclose(scaled.energies, scale * plain.energies, rtol=1e-5)


def test_high_orders_remember_a_thousand_features(rng):
    xi = make_archetypes(20, 1000, rng=2)
    run = sample(xi, beta=5.0, order=20, init="patterns", n_sweeps=5, rng=1)
    assert run.overlaps[-1, 0, 0] > 0.99


def test_one_spin_in_a_field_is_exact(effort):
    run = sample([[1]], beta=1.0, order=2, interaction="full", field=[0.5], n_replicas=50, n_sweeps=effort(2000), rng=0)
    within(run.overlaps[..., 0], np.tanh(0.5))


def test_duplicate_patterns_are_one_of_twice_the_weight(rng):
    p = rng.choice([-1, 1], size=(1, 20))
    twice = sample(np.repeat(p, 2, axis=0), beta=0.5, n_sweeps=40, probes=p, rng=1)
    double = sample(p, beta=0.5, weights=[2.0], n_sweeps=40, probes=p, rng=1)
    np.testing.assert_array_equal(twice.states, double.states)


def test_results_are_plain_data(tmp_path):
    run = sample(make_archetypes(3, 20, rng=0), beta=1.0, n_sweeps=5, rng=1)
    numcore.save(run, tmp_path / "run")
    np.testing.assert_array_equal(numcore.load(tmp_path / "run").magnetizations, run.overlaps)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"beta": 0.0}, "beta must satisfy 0 < beta"),
        ({"beta": np.nan}, "beta must satisfy"),
        ({"beta": [1.0, -1.0]}, "beta must be positive; got 1 of 2"),
        ({"beta": 1.0, "interaction": "exp"}, "beta must be inf with interaction 'exp'; got 1.0"),
        ({"dynamics": "other"}, "dynamics must be one of"),
        ({"rule": "other"}, "rule must be one of"),
        ({"visit": "other"}, "visit must be one of"),
        ({"dynamics": "plefka", "interaction": "full"}, "interaction must be 'distinct' with dynamics 'plefka'"),
        ({"dynamics": "plefka", "beta": np.inf}, "beta must be finite"),
        ({"init": "other"}, "init must be None, 'patterns'"),
        ({"init": [[1, 1, 1]]}, r"init must have 6 features a row; got shape \(1, 3\)"),
        ({"init": [[0] * 6]}, "init must hold -1 and .1 only; found 6 entries equal to 0"),
        ({"init": np.ones((3, 6)), "n_replicas": 2}, "n_replicas must agree .* n_replicas 2, init 3"),
        ({"beta": [1.0, 2.0], "n_replicas": 3}, "n_replicas must agree .* n_replicas 3, beta 2"),
        ({"n_sweeps": 0}, "n_sweeps must be at least 1"),
        ({"n_burn": -1}, "n_burn must be at least 0"),
        ({"record_every": 0}, "record_every must be at least 1"),
        ({"clamp": [True]}, r"clamp must be a bool array of shape \(6,\)"),
        ({"clamp": np.zeros(6)}, "clamp must be a bool array .* got float64"),
        ({"probes": np.ones((1, 3))}, "probes must have 6 features"),
        ({"weights": [1.0]}, "weights must have shape"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        sample(np.ones((2, 6)), **{"beta": 1.0, **options})


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="callback must be callable or None; got 3"):
        sample(np.ones((2, 6)), beta=1.0, callback=3)
