"""Pairwise models: laws by enumeration, learning rules from their formulas and their promises."""

import numpy as np
import pytest

from numcore.algorithms.hebbian import hopfield_weights, make_archetypes, recall_pairwise, sample, sample_pairwise
from numcore.results import ConvergenceWarning


def couplings(rng, N, diagonal=True):
    J = rng.normal(size=(N, N))
    J = (J + J.T) / 2
    return J if diagonal else J - np.diag(np.diagonal(J))


def energies(s, J, b):
    return -np.einsum("ni,ij,nj->n", s, J, s) / 2 - s @ b


@pytest.mark.parametrize("rule", ["glauber", "metropolis"])
def test_chains_follow_boltzmanns_law_whatever_the_diagonal(oracle, rng, rule, effort):
    J, b, states = couplings(rng, 7), 0.3 * rng.normal(size=7), oracle.states(7)
    E = energies(states, J, b)
    law = oracle.boltzmann(E, 0.7)
    run = sample_pairwise(
        J, beta=0.7, field=b, rule=rule, n_replicas=60, n_sweeps=effort(1500), n_burn=50, probes=np.eye(7), rng=1
    )
    means = np.concatenate([run.energies.mean(axis=0)[:, None], 7 * run.overlaps.mean(axis=0)], axis=1)
    exact = np.concatenate([[law @ E], law @ states])
    error = means.std(axis=0, ddof=1) / np.sqrt(60)
    np.testing.assert_array_less(np.abs(means.mean(axis=0) - exact), 4 * error)
    np.testing.assert_allclose(run.energies[-1], energies(run.states, J, b), rtol=1e-5)


def test_parallel_chains_have_perettos_law(oracle, rng):
    J, b, states = couplings(rng, 6), 0.3 * rng.normal(size=6), oracle.states(6)
    h = states @ (J - np.diag(np.diagonal(J))) + b
    law = np.exp(states @ (0.8 * b)) * np.prod(2 * np.cosh(0.8 * h), axis=1)
    law /= law.sum()
    run = sample_pairwise(
        J, beta=0.8, field=b, dynamics="parallel", n_replicas=100, n_sweeps=800, n_burn=50, probes=np.eye(6), rng=2
    )
    means = 6 * run.overlaps.mean(axis=0)
    error = means.std(axis=0, ddof=1) / 10
    np.testing.assert_array_less(np.abs(means.mean(axis=0) - law @ states), 4 * error)


def test_hebbs_couplings_sample_the_model_of_order_two():
    xi = make_archetypes(5, 60, rng=0)
    dense = sample(xi, beta=1.5, order=2, n_sweeps=30, rng=1)
    pairwise = sample_pairwise(hopfield_weights(xi), beta=1.5, n_sweeps=30, rng=1)
    np.testing.assert_array_equal(dense.states, pairwise.states)
    np.testing.assert_allclose(dense.energies, pairwise.energies, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_scale_of_the_couplings_does_not_matter(rng, scale):
    J, b = couplings(rng, 20), rng.normal(size=20)
    plain = sample_pairwise(J, beta=1.0, field=b, n_sweeps=20, rng=1)
    scaled = sample_pairwise(scale * J, beta=1 / scale, field=scale * b, n_sweeps=20, rng=1)
    np.testing.assert_array_equal(plain.states, scaled.states)


def test_independent_spins_in_a_field_are_exact(effort):
    b = np.array([0.3, -1.0, 2.0])
    run = sample_pairwise(
        np.zeros((3, 3)), beta=1.0, field=b, n_replicas=50, n_sweeps=effort(4000), probes=np.eye(3), rng=0
    )
    means = 3 * run.overlaps.mean(axis=0)
    np.testing.assert_array_less(np.abs(means.mean(axis=0) - np.tanh(b)), 4 * means.std(axis=0) / np.sqrt(50))


def test_hebbs_rule_is_the_mean_product():
    xi = make_archetypes(7, 30, rng=1).astype(float)
    J = hopfield_weights(xi, self_coupling=True)
    np.testing.assert_allclose(J, xi.T @ xi / 30, atol=1e-15)
    np.fill_diagonal(J, 0)
    np.testing.assert_array_equal(hopfield_weights(xi), J)


@pytest.mark.parametrize("K", [1, 12, 30, 45])
def test_the_pseudo_inverse_is_the_projector_on_the_patterns(K):
    xi = make_archetypes(K, 30, rng=2).astype(float)
    xi[K // 2] = xi[0]  # of lower rank
    J = hopfield_weights(xi, rule="pinv", self_coupling=True)
    np.testing.assert_allclose(J, np.linalg.pinv(xi) @ xi, atol=1e-12)
    np.testing.assert_allclose(J @ J, J, atol=1e-12)
    np.testing.assert_allclose(J @ xi.T, xi.T, atol=1e-11)


def test_storkeys_rule_is_its_sums():
    xi = make_archetypes(5, 9, rng=3)
    J = np.zeros((9, 9))
    for x in xi.astype(float):
        H = np.array([[sum(J[i, k] * x[k] for k in range(9) if k not in (i, j)) for j in range(9)] for i in range(9)])
        step = np.array([[x[i] * x[j] - x[i] * H[j, i] - H[i, j] * x[j] for j in range(9)] for i in range(9)]) / 9
        J = J + step
    np.testing.assert_allclose(hopfield_weights(xi, rule="storkey", self_coupling=True), J, atol=1e-14)


def test_better_rules_store_more_patterns():
    """At 0.3 N patterns Hebb's rule holds none, Storkey's more, the projector all."""
    xi = make_archetypes(60, 200, rng=4)
    held = {
        rule: np.mean((np.where(xi @ hopfield_weights(xi, rule=rule) >= 0, 1, -1) == xi).all(axis=1))
        for rule in ("hebb", "storkey", "pinv")
    }
    assert held["hebb"] < 0.05 and held["pinv"] == 1.0
    assert held["hebb"] <= held["storkey"] <= held["pinv"]


@pytest.mark.parametrize("dynamics", ["sequential", "parallel"])
def test_recall_ends_at_a_state_that_agrees_with_its_fields(rng, dynamics):
    xi = make_archetypes(4, 80, rng=5)
    J = hopfield_weights(xi)
    damaged = np.where(rng.random(xi.shape) < 0.1, -xi, xi)
    found = recall_pairwise(damaged, J, dynamics=dynamics)
    np.testing.assert_array_equal(found.states, xi)
    assert found.overlaps is None and found.converged.all()
    assert (found.states * (found.states @ J) >= 0).all()
    np.testing.assert_allclose(found.energies, energies(found.states, J, np.zeros(80)))


def test_a_field_of_zero_keeps_the_sign():
    J = np.array([[0.0, 1, -1], [1, 0, 0], [-1, 0, 0]])
    for first in (-1, 1):
        found = recall_pairwise([first, 1, 1], J, dynamics="parallel", clamp=[False, True, True])
        np.testing.assert_array_equal(found.states, [first, 1, 1])


def test_parallel_recall_can_alternate():
    with pytest.warns(ConvergenceWarning, match="in a cycle of two states"):
        found = recall_pairwise([1, -1], [[0, 1], [1, 0]], dynamics="parallel")
    assert found.cycle and not found.converged
    assert recall_pairwise([1, -1], [[0, 1], [1, 0]]).converged


@pytest.mark.parametrize(
    ("J", "match"),
    [
        (np.ones((2, 3)), r"couplings must be a square matrix; got shape \(2, 3\)"),
        (np.array([[0.0, 1.0], [1.1, 0.0]]), "couplings must be symmetric; .* by up to 0.1"),
        (np.array([[0.0, np.nan], [np.nan, 0.0]]), "couplings must be finite; 2 of its 4"),
    ],
)
def test_bad_couplings_are_named(J, match):
    with pytest.raises(ValueError, match=match):
        sample_pairwise(J, beta=1.0)
    with pytest.raises(ValueError, match=match):
        recall_pairwise(np.ones(2), J)


def test_couplings_symmetric_but_for_rounding_pass(rng):
    J = couplings(rng, 6)
    J[0, 1] *= 1 + 1e-12
    assert sample_pairwise(J, beta=1.0, n_sweeps=3, rng=0).converged.all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: hopfield_weights([[1, -1]], rule="other"), "rule must be one of 'hebb', 'pinv', 'storkey'"),
        (lambda: hopfield_weights(np.zeros((0, 3))), "patterns must not be empty"),
        (
            lambda: sample_pairwise(np.zeros((2, 2)), beta=1.0, init="patterns"),
            "init must be None or an array of states; got 'patterns'",
        ),
        (lambda: sample_pairwise(np.zeros((2, 2)), beta=1.0, dynamics="plefka"), "dynamics must be one of"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
