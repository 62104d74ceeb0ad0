"""Mean-field magnetizations: closed forms, enumeration, and the theory of many features."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import numcore
from numcore.algorithms.hebbian import local_fields, make_archetypes, mean_field, self_consistency
from numcore.results import ConvergenceWarning


def test_one_pattern_is_a_ferromagnet_of_mean_field():
    # h_i = (P / 2) (N - 1)(N - 2) / N^2 m^2 for P = 3, and one pattern's own noise is of order 1 / N^2
    N, beta = 60, 1.5
    result = mean_field(np.ones((1, N)), beta=beta, correction=None)
    m = result.magnetizations[0]
    assert_allclose(result.magnetizations, m, rtol=1e-12)
    assert_allclose(m, np.tanh(beta * 1.5 * (N - 1) * (N - 2) / N**2 * m**2), atol=1e-7)
    assert m > 0.8


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("correction", ["tap", None])
def test_solutions_satisfy_the_equations_written_out(order, correction):
    N, K, beta = 40, 12, 1.4
    xi = make_archetypes(K, N, rng=1).astype(float)
    result = mean_field(xi, beta=beta, order=order, correction=correction, tol=1e-12)
    mu, q = result.magnetizations, result.q
    # the field is linear in each magnetization: half the energy's difference between the two signs
    rng = np.random.default_rng(0)
    states = np.where(rng.random((200_000 // N, N)) < (1 + mu) / 2, 1, -1).astype(np.int8)
    sampled = local_fields(states, xi, order=order)
    reaction = 0.0
    if correction:
        factorial = {2: 2, 3: 6, 4: 24}[order]
        curvature = K / N ** (order - 1) * factorial / 4 * order * (order - 1) * q ** (order - 2)
        reaction = beta * curvature * (1 - q) * mu
    field = np.arctanh(mu) / beta + reaction
    error = sampled.std(axis=0) / np.sqrt(len(states))
    assert np.all(np.abs(sampled.mean(axis=0) - field) < 5 * error + 1e-9)
    assert_allclose(result.q, np.mean(mu**2))
    assert_allclose(result.overlaps, xi @ mu / N, rtol=1e-12)


def test_overlaps_of_many_memories_are_those_of_the_theory():
    # P = 3, alpha = 0.02, beta = 2: 0.98897 in the theory; naive mean field lies above
    N, K = 150, 450
    found = {"tap": [], None: []}
    for seed in range(6):
        xi = make_archetypes(K, N, rng=seed)
        for correction, values in found.items():
            result = mean_field(xi, beta=2.0, init=xi[:4], correction=correction)
            values.append(np.diag(result.overlaps[:, :4]).mean())
    tap, naive = np.mean(found["tap"]), np.mean(found[None])
    error = np.std(found["tap"], ddof=1) / np.sqrt(6)
    theory = self_consistency(order=3, beta=2.0, load=0.02).m
    assert naive > tap
    # features are few: fields lack shares of order 3 / N, and m is 1 - 0.011 with exponential sensitivity
    assert abs(tap - theory) < 4 * error + 0.011 * 2 * 2 * 1.5 * 3 / N
    assert_allclose(naive - tap, 0.0003, atol=0.0003)


def test_starts_are_solved_side_by_side():
    xi = make_archetypes(30, 80, rng=3)
    together = mean_field(xi, beta=2.0, init=xi[:3])
    alone = [mean_field(xi, beta=2.0, init=row) for row in xi[:3]]
    for k, one in enumerate(alone):
        assert_allclose(together.magnetizations[k], one.magnetizations, atol=1e-6)
        assert one.magnetizations.shape == (80,) and isinstance(one.q, float)
    assert_allclose(mean_field(xi, beta=2.0).magnetizations, alone[0].magnetizations, rtol=1e-12)


def test_without_a_bias_nothing_is_magnetized():
    xi = make_archetypes(20, 50, rng=0)
    result = mean_field(xi, beta=2.0, init=np.zeros(50))
    assert_allclose(result.magnetizations, 0, atol=1e-12)
    assert result.q == 0


def test_weights_scale_the_memories():
    xi = make_archetypes(10, 40, rng=0)
    weighted = mean_field(xi, beta=1.0, weights=np.full(10, 2.0))
    hotter = mean_field(xi, beta=2.0)
    assert_allclose(weighted.magnetizations, hotter.magnetizations, atol=1e-7)


def test_the_input_is_left_alone():
    xi = make_archetypes(10, 40, rng=0)
    init = xi[0].astype(float)
    init.setflags(write=False)
    mean_field(np.asfortranarray(xi), beta=2.0, init=init)


def test_a_run_that_is_cut_short_says_so():
    with pytest.warns(ConvergenceWarning, match="mean_field did not converge"):
        result = mean_field(make_archetypes(10, 40, rng=0), beta=2.0, max_iter=2)
    assert not result.converged and result.n_iter == 2


def test_results_come_back_from_a_file(tmp_path):
    result = mean_field(make_archetypes(10, 40, rng=0), beta=2.0)
    numcore.save(result, tmp_path / "result")
    assert_allclose(numcore.load(tmp_path / "result").magnetizations, result.magnetizations)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"beta": np.inf}, "beta"),
        ({"beta": 0.0}, "beta"),
        ({"order": 1}, "order"),
        ({"order": 41}, "order must be at most the number of features"),
        ({"correction": "onsager"}, "correction must be one of"),
        ({"damping": 1.0}, "damping must be below 1"),
        ({"damping": -0.1}, "damping must satisfy 0 <= damping <= 1"),
        ({"init": np.ones(39)}, "init must have 40 features"),
        ({"init": np.full(40, 1.5)}, "init must lie between -1 and 1; 40"),
        ({"weights": np.ones(9)}, "weights"),
    ],
)
def test_bad_input_is_named(settings, match):
    with pytest.raises(ValueError, match=match):
        mean_field(make_archetypes(10, 40, rng=0), **{"beta": 2.0} | settings)
