"""The sliding window against the static matrix of the gradients that it holds."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import numcore
from numcore.algorithms.curvature import EmpiricalFisher, SlidingFisher


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def filled(G, window, **options):
    fisher = SlidingFisher(G.shape[1], window, dtype=G.dtype, **options)
    for g in G:
        fisher.push(g)
    return fisher


def assert_static(fisher, rows, rng):
    """Every figure is that of the static matrix of `rows`."""
    G = np.array(rows).reshape(-1, fisher.dim)
    assert_array_equal(fisher.gradients, G)
    static = EmpiricalFisher(G, damp=fisher.damp, scale=fisher.scale)
    x, a = rng.standard_normal(fisher.dim), rng.standard_normal((len(rows), 2))
    for ours, theirs in [
        (fisher.solve(x), static.solve(x)),
        (fisher.solve(np.stack([x, -x], axis=1)), static.solve(np.stack([x, -x], axis=1))),
        (fisher.solve_coefficients(a), static.solve_coefficients(a)),
        (fisher.inverse_diagonal(), static.inverse_diagonal()),
        (fisher.logdet(), static.logdet()),
    ]:
        assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    if rows:
        assert_allclose(fisher.solve_last(), static.solve_row(-1), rtol=1e-9, atol=1e-9)


@given(
    st.lists(st.one_of(st.just("pop"), st.just("zero"), st.just("again"), st.floats(-2, 2)), max_size=40),
    st.integers(1, 6),
    st.sampled_from(["capacity", "count"]),
    st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_pushes_and_pops_gives_the_static_matrix(moves, window, normalize, refactor_every):
    rng, rows = np.random.default_rng(0), []
    fisher = SlidingFisher(9, window, damp=0.1, normalize=normalize, dtype=np.float64, refactor_every=refactor_every)
    for move in moves:
        if move == "pop":
            if not rows:
                with pytest.raises(IndexError, match="no gradients"):
                    fisher.pop()
                continue
            fisher.pop()
            rows.pop(0)
        else:
            scale = 0.0 if move in ("zero", "again") else 10.0**move
            g = rows[-1] if move == "again" and rows else scale * rng.standard_normal(9)
            fisher.push(g)
            rows = [*rows, g][-window:]
        assert len(fisher) == len(rows)
    assert_static(fisher, rows, rng)


def test_three_thousand_pushes_of_all_scales_do_not_drift(rng):
    G = rng.standard_normal((3000, 30)) * 10.0 ** rng.uniform(-3, 3, (3000, 1))
    fisher = filled(G, 16, damp=1e-2, refactor_every=10**6)
    static = EmpiricalFisher(G[-16:], damp=1e-2)
    exact = static.solve_row(-1)
    assert_allclose(fisher.solve_last(), exact, rtol=1e-8, atol=1e-9 * np.abs(exact).max())
    assert fisher.logdet() == pytest.approx(static.logdet(), rel=1e-10)


@pytest.mark.parametrize("norm", [1e-3, 1.0, 70.0, 1e3])
@pytest.mark.parametrize("noise", [None, 0.01, 0.0])
def test_the_step_along_the_newest_gradient_is_exact_in_float32(rng, norm, noise):
    m, d = 16, 3000
    G = rng.standard_normal((2 * m, d))
    if noise is not None:
        G = G[0] + noise * G
    G = (norm * G / np.linalg.norm(G, axis=1, keepdims=True)).astype(np.float32)
    fisher = SlidingFisher(d, m)
    for g in G:
        step = fisher.push_solve(g)
    # in the space of the rows alone, F is m x m and well conditioned: Q from float64, the rest by hand
    _, s, Vt = np.linalg.svd(G[-m:].astype(np.float64), full_matrices=False)
    keep = s > 1e-13 * s[0]
    exact = Vt[keep].T @ ((Vt[keep] @ G[-1]) / (1e-5 + s[keep] ** 2 / m))
    assert step.dtype == np.float32
    bound = 1e-6 if noise is None else 1e-5
    assert np.linalg.norm(step - exact) <= bound * np.linalg.norm(exact)


def test_the_first_step_depends_on_the_normaliser_as_documented():
    g = np.array([3.0, 4.0])
    for normalize, c in [("capacity", 8), ("count", 1)]:
        step = SlidingFisher(2, 8, damp=0.1, normalize=normalize, dtype=np.float64).push_solve(g)
        assert_allclose(step, g / (0.1 + 25 / c))


def test_equal_gradients_beyond_the_reach_of_damp_warn_and_give_finite_steps(rng):
    g = 1e8 * rng.standard_normal(50)
    fisher = SlidingFisher(50, 4, damp=1e-5, dtype=np.float64)
    with pytest.warns(RuntimeWarning, match="not positive definite"):
        step = [fisher.push_solve(g) for _ in range(6)][-1]
    assert_allclose(step, g / (1e-5 + g @ g), rtol=1e-6)
    fisher.clear()
    fisher.push(g)
    assert_allclose(fisher.solve_last(), g / (1e-5 + g @ g / 4), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_gradients_of_extreme_scale_in_float32(rng, scale):
    G = (scale * rng.standard_normal((6, 40))).astype(np.float32)
    fisher = filled(G, 4)
    exact = EmpiricalFisher(G[-4:].astype(float), damp=1e-5).solve_row(-1)
    assert np.linalg.norm(fisher.solve_last() - exact) <= 1e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("g", "error", "message"),
    [
        (np.ones(4), ValueError, r"g must have shape \(3\); got \(4,\)"),
        (np.ones((3, 1)), ValueError, "g must be 1-D"),
        (np.array([1, np.nan, np.inf]), ValueError, "g must be finite; 2 of its 3 entries are not"),
        (np.array([1e300, 0, 0]), ValueError, "g must be finite; 1 of its 3 entries are not"),
        (np.ones(3) * 1j, TypeError, "g must be real"),
    ],
)
def test_a_bad_gradient_leaves_the_window_as_it_was(rng, g, error, message):
    fisher = filled(rng.standard_normal((5, 3)).astype(np.float32), 4)
    before = pickle.dumps(fisher)
    for push in (fisher.push, fisher.push_solve):
        with pytest.raises(error, match=message):
            push(g)
    assert pickle.dumps(fisher) == before


def test_a_gradient_whose_square_overflows_leaves_the_window_as_it_was(rng):
    fisher = filled(rng.standard_normal((5, 3)), 4)
    before = pickle.dumps(fisher)
    with pytest.raises(ValueError, match="g must have a square that float64 can hold"):
        fisher.push(np.array([1e200, 0.0, 0.0]))
    assert pickle.dumps(fisher) == before


def test_clear_forgets_and_what_is_empty_is_lam_times_the_identity(rng):
    fisher = filled(rng.standard_normal((5, 3)), 4, damp=0.5)
    fisher.clear()
    assert len(fisher) == 0 and fisher.gradients.shape == (0, 3)
    assert_static(fisher, [], rng)
    with pytest.raises(IndexError, match="solve_last needs a gradient"):
        fisher.solve_last()


def test_it_survives_pickle_and_a_file(rng, tmp_path):
    fisher = filled(rng.standard_normal((9, 5)), 4, damp=0.1)
    numcore.save(fisher, tmp_path / "window")
    g = rng.standard_normal(5)
    for again in (pickle.loads(pickle.dumps(fisher)), numcore.load(tmp_path / "window")):
        copy = pickle.loads(pickle.dumps(fisher))
        assert_array_equal(again.push_solve(g), copy.push_solve(g))
        assert again.nbytes == fisher.nbytes == 8 * (4 * 5 + 2 * 4 * 4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dim": 0}, ValueError, "dim must be at least 1"),
        ({"window": 0}, ValueError, "window must be at least 1; got 0"),
        ({"window": 2.0}, TypeError, "window must be an integer"),
        ({"damp": 0.0}, ValueError, "damp must satisfy 0 < damp"),
        ({"normalize": "mean"}, ValueError, "normalize must be one of 'capacity', 'count'"),
        ({"dtype": np.int64}, TypeError, "dtype must be float32 or float64; got int64"),
        ({"refactor_every": 0}, ValueError, "refactor_every must be at least 1"),
    ],
)
def test_bad_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        SlidingFisher(**({"dim": 3, "window": 2} | options))
