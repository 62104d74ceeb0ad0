"""Energies and fields against their definition, and what must leave them alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numcore.algorithms.hebbian import energy, local_fields, overlaps
from numcore.algorithms.hebbian._loops import Tables, _TableBook
from numcore.algorithms.hebbian._model import elementary, make_model

INTERACTIONS = ("distinct", "full", "rectified", "exp")


def problem(rng, N, K, real):
    patterns = rng.normal(size=(K, N)) if real else rng.choice([-1, 1], size=(K, N))
    return patterns, rng.random(K) + 0.1, rng.normal(size=N)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize(("N", "order"), [(1, 2), (4, 2), (5, 3), (7, 7), (12, 5), (12, 12)])
def test_energies_are_the_sums_of_the_definition(oracle, rng, N, order, interaction, real):
    patterns, weights, field = problem(rng, N, 3, real)
    states = oracle.states(N)[:: max(1, 2**N // 16)]
    options = {"order": order, "interaction": interaction, "weights": weights, "field": field}
    expected = [oracle.energy(s, patterns, order, interaction, weights, field) for s in states]
    # up to C(12, 6) terms of order 1 that cancel
    np.testing.assert_allclose(energy(states, patterns, **options), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("interaction", INTERACTIONS)
@given(seed=st.integers(0, 2**32 - 1), order=st.integers(2, 7), N=st.integers(7, 30))
@settings(max_examples=25, deadline=None)
def test_a_flip_costs_twice_the_field_times_the_sign(interaction, real, seed, order, N):
    rng = np.random.default_rng(seed)
    patterns, weights, field = problem(rng, N, 4, real)
    options = {"order": order, "interaction": interaction, "weights": weights, "field": field}
    s = rng.choice([-1, 1], size=N)
    flipped = np.where(np.eye(N, dtype=bool), -s, s)
    cost = energy(flipped, patterns, **options) - energy(s, patterns, **options)
    scale = np.abs(cost).max() + abs(energy(s, patterns, **options))
    np.testing.assert_allclose(2 * s * local_fields(s, patterns, **options), cost, rtol=1e-11, atol=1e-13 * scale)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_one_dot_product_judges_a_flip(oracle, rng, interaction):
    """Identity (D) of the loops, in float64, for every site of every state."""
    patterns, weights, field = problem(rng, 9, 3, False)
    model = make_model(patterns, order=4, interaction=interaction, weights=weights, field=field)
    table = Tables(model.patterns.T, weights, model.level, model.rise, model.polynomials, field, False)
    states = oracle.states(9)[::7].copy()
    book = _TableBook(states, model.counts(states), table)
    for r, s in enumerate(states):
        costs = book.costs(np.full(9, r), np.arange(9))[0]
        flipped = np.where(np.eye(9, dtype=bool), -s, s)
        np.testing.assert_allclose(costs, model.energies(flipped) - model.energies(s[None]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("interaction", ["distinct", "full"])
@pytest.mark.parametrize("order", [2, 3, 4, 5, 6])
def test_polynomials_are_the_tables(interaction, order):
    model = make_model(np.ones((1, 50)), order=order, interaction=interaction)
    x = (2 * np.arange(51) - 50) / 50
    powers = x[:, None] ** np.arange(order)
    up, down = model.rise[:-1], model.rise[1:]
    scale = np.abs(model.rise).max()
    np.testing.assert_allclose(powers @ model.polynomials[0], (up + down) / 2, atol=1e-14 * scale)
    np.testing.assert_allclose(powers @ model.polynomials[1], (up - down) / 2, atol=1e-14 * scale)


@given(seed=st.integers(0, 2**32 - 1), interaction=st.sampled_from(INTERACTIONS), real=st.booleans())
@settings(max_examples=40, deadline=None)
def test_flipping_a_feature_everywhere_changes_nothing(seed, interaction, real):
    rng = np.random.default_rng(seed)
    patterns, weights, field = problem(rng, 11, 3, real)
    gauge = rng.choice([-1, 1], size=11)
    s = rng.choice([-1, 1], size=(5, 11))
    options = {"order": 3, "interaction": interaction, "weights": weights}
    before = energy(s, patterns, field=field, **options)
    after = energy(s * gauge, patterns * gauge, field=field * gauge, **options)
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("interaction", ["distinct", "full"])
@pytest.mark.parametrize("real", [False, True])
def test_even_orders_do_not_tell_a_state_from_its_opposite(rng, interaction, real):
    patterns, weights, _ = problem(rng, 10, 3, real)
    s = rng.choice([-1, 1], size=(6, 10))
    found = [energy(t, patterns, order=4, interaction=interaction, weights=weights) for t in (s, -s)]
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-12)


def test_signs_and_the_same_numbers_as_reals_have_one_energy(rng):
    p, s = rng.choice([-1, 1], size=(4, 30)), rng.choice([-1, 1], size=(3, 30))
    nearly = p * (1 + 1e-15)  # no longer recognised
    for interaction in INTERACTIONS:
        for order in (2, 3, 6):
            options = {"order": order, "interaction": interaction}
            np.testing.assert_allclose(energy(s, p, **options), energy(s, nearly, **options), rtol=1e-11, atol=1e-13)


def test_the_quadratic_model_is_the_classical_network(rng):
    p, s = rng.choice([-1, 1], size=(5, 40)), rng.choice([-1, 1], size=(6, 40))
    J = p.T @ p / 40
    np.testing.assert_allclose(
        energy(s, p, order=2, interaction="full"), -np.einsum("ni,ij,nj->n", s, J, s) / 2, atol=1e-14
    )
    np.fill_diagonal(J, 0)
    np.testing.assert_allclose(energy(s, p, order=2), -np.einsum("ni,ij,nj->n", s, J, s) / 2, atol=1e-14)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=9), st.integers(1, 6))
@settings(deadline=None)
def test_symmetric_sums_are_the_coefficients_of_a_product(v, order):
    v = np.array(v)
    N = len(v)
    coefficients = np.poly(-v)  # prod (z + v_i), highest power first: e_0, e_1, ...
    expected = np.zeros(order + 1)
    kept = min(order, N) + 1
    expected[:kept] = coefficients[:kept] * np.cumprod([1.0, *range(1, order + 1)])[:kept] / N ** np.arange(kept)
    np.testing.assert_allclose(elementary(v, order), expected, rtol=1e-9, atol=1e-9)


def test_high_orders_of_many_features_neither_overflow_nor_vanish(rng):
    xi = rng.choice([-1, 1], size=(3, 1000))
    for interaction in ("distinct", "full", "rectified"):
        for patterns in (xi, xi * (1 + 1e-15)):
            found = energy(xi[0], patterns, order=20, interaction=interaction)
            exact = -500 * np.prod(1 - np.arange(20) / 1000) if interaction == "distinct" else -500
            assert found == pytest.approx(exact, rel=1e-11)  # of other patterns, (3 / sqrt(1000))^20 is nothing
    s = xi[0].copy()
    s[0] = -s[0]
    assert energy(s, xi, order=20, interaction="full") == pytest.approx(-500 * 0.998**20, rel=1e-12)


def test_exponentials_of_a_thousand_features_do_not_overflow(rng):
    xi = rng.choice([-1, 1], size=(3, 1000))
    assert energy(xi[1], xi, interaction="exp") == -1.0
    assert energy(-xi[1], xi, interaction="exp") == 0.0  # e^-1000 and less


def test_overlaps_of_rows_and_single_vectors():
    p = np.array([[1, 1, -1, 1], [1, -1, 1, 1]])
    np.testing.assert_array_equal(overlaps(p, p), [[1, 0], [0, 1]])
    np.testing.assert_array_equal(overlaps(p[0], p), [1, 0])
    np.testing.assert_array_equal(overlaps(p, p[0]), [1, 0])
    assert overlaps(p[0], p[1]) == 0.0
    np.testing.assert_array_equal(overlaps(np.array([0.5, 0, 0, 0]), p), [0.125, 0.125])


def test_one_feature_has_no_pair():
    assert energy([-1], [[1]], order=2) == 0
    assert local_fields([-1], [[1]], order=2, field=[0.5]) == [0.5]
    assert energy([1], [[1]], order=2, interaction="full") == -0.5
    with pytest.raises(ValueError, match="order must be at most the number of features, 1"):
        energy([1], [[1]], order=3)


def test_arguments_of_any_layout_are_read_and_left_alone(rng):
    p, s = np.asfortranarray(rng.choice([-1.0, 1.0], size=(4, 9))), rng.choice([-1, 1], size=(9, 3)).T
    expected = energy(np.ascontiguousarray(s), np.ascontiguousarray(p))
    for x in (p, s):
        x.flags.writeable = False
    np.testing.assert_array_equal(energy(s, p), expected)
    np.testing.assert_array_equal(energy(s.astype(np.float32), p.astype(np.int64)), expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"order": 1}, "order must be an integer of at least 2; got 1"),
        ({"order": 2.5}, "order must be an integer of at least 2; got 2.5"),
        ({"order": 5}, "order must be at most the number of features, 4"),
        ({"interaction": "other"}, "interaction must be one of 'distinct'.*got 'other'"),
        ({"weights": [1.0, 2.0]}, r"weights must have shape \(1\); got \(2,\)"),
        ({"weights": [-1.0]}, "weights must not be negative; 1 of 1"),
        ({"weights": [np.inf]}, "weights must be finite; 1 of its 1"),
        ({"field": [1.0]}, r"field must have shape \(4\)"),
        ({"field": [1.0, np.nan, 0, 0]}, "field must be finite; 1 of its 4"),
        ({"states": [1, 1, 0, 0.5]}, "states .* found 1 entries equal to 0 and 1 entries of other values"),
        ({"states": [1, 1]}, r"states must have 4 features a row; got shape \(2,\)"),
        ({"patterns": np.zeros((0, 4))}, r"patterns must not be empty; got shape \(0, 4\)"),
        ({"patterns": [[1.0, np.nan, 2.0, np.inf]]}, "patterns must be finite; 2 of its 4"),
    ],
)
def test_bad_input_is_named(options, match):
    given = {"states": np.ones(4), "patterns": np.ones((1, 4)), **options}
    with pytest.raises(ValueError, match=match):
        energy(given.pop("states"), given.pop("patterns"), **given)


@pytest.mark.parametrize("name", ["states", "patterns"])
def test_complex_numbers_are_refused(name):
    given = {"states": np.ones((1, 4)), "patterns": np.ones((1, 4))}
    given[name] = given[name].astype(complex)
    with pytest.raises(TypeError, match=f"{name} must be real; got dtype complex128"):
        energy(given["states"], given["patterns"])
