"""What theory promises of continuous retrieval, held against retrieval."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numcore
from numcore.algorithms.hebbian import capacity_bound, retrieval_bounds, retrieve, separation_margin


def on_sphere(rng, K, d, radius=1.0):
    X = rng.normal(size=(K, d))
    return radius * X / np.linalg.norm(X, axis=1)[:, None]


def fixed_point(x, X, beta):
    return retrieve(x, X, beta=beta, n_steps=500, tol=1e-14, skip_tol=0.0)


def test_the_margin_is_the_gap_to_the_most_similar_pattern(rng):
    X = rng.normal(size=(60, 4))
    S = X @ X.T
    expected = [S[i, i] - max(S[i, j] for j in range(60) if j != i) for i in range(60)]
    assert_allclose(separation_margin(X), expected, atol=1e-13)
    narrow = separation_margin(X.astype(np.float32))
    assert narrow.dtype == np.float32
    assert_allclose(narrow, expected, atol=1e-5)


def test_duplicates_have_no_margin_and_are_not_separated(rng):
    X = on_sphere(rng, 500, 37, 3.0)
    X[[481, 499, 2]] = X[7]
    margin = separation_margin(X)
    assert_array_equal(margin[[2, 7, 481, 499]], 0)  # of vectors of one length, the most similar is the same
    bounds = retrieval_bounds(X, beta=1e6)
    assert not bounds.separated[[2, 7, 481, 499]].any() and bounds.separated.sum() == 496
    assert np.all(bounds.fixed_point_distance[[2, 7, 481, 499]] == np.inf)


def test_a_pattern_alone_is_separated_by_any_margin(rng):
    x = rng.normal(size=5)
    assert separation_margin(x) == np.inf and separation_margin(x[None]) == [np.inf]
    bounds = retrieval_bounds(x, beta=1.0)
    assert bounds.margin == np.inf and bounds.required_margin == -np.inf
    assert bounds.separated and bounds.fixed_point_distance == 0


@pytest.mark.parametrize("beta", [0.6, 1.0, 1.5])
def test_separated_patterns_have_a_fixed_point_no_further_than_the_bound(rng, beta):
    X = on_sphere(rng, 40, 20, 6.0) * rng.uniform(0.9, 1.0, size=(40, 1))
    bounds = retrieval_bounds(X, beta=beta)
    M = np.linalg.norm(X, axis=1).max()
    assert_allclose(bounds.required_margin, 2 / (beta * 40) + np.log(2 * 39 * 40 * beta * M**2) / beta, rtol=1e-13)
    assert bounds.separated.any()
    assert_array_equal(bounds.separated, bounds.margin >= bounds.required_margin)
    good = bounds.separated
    assert_allclose(
        bounds.fixed_point_distance[good], 2 * np.e * 39 * M * np.exp(-beta * bounds.margin[good]), rtol=1e-10
    )
    found = fixed_point(X[good], X, beta)
    distance = np.linalg.norm(found.states - X[good], axis=1)
    assert np.all(distance <= bounds.fixed_point_distance[good] + 1e-12)
    assert np.any(distance > 1e-3 * bounds.fixed_point_distance[good])  # no bound that anything would keep
    assert_array_equal(found.top_index, np.flatnonzero(good))


def test_one_step_comes_as_near_to_the_fixed_point_as_theory_says(rng):
    K, beta = 40, 1.5
    X = on_sphere(rng, K, 20, 6.0)
    bounds, M = retrieval_bounds(X, beta=beta), 6.0
    for i in np.flatnonzero(bounds.separated):
        rest = fixed_point(X[i], X, beta).states
        for size in (0.0, 0.05, 0.5):
            xi = X[i] + size * on_sphere(rng, 1, 20)[0]
            far = max(np.linalg.norm(xi - X[i]), np.linalg.norm(rest - X[i]))
            bound = 2 * (K - 1) * M * np.exp(-beta * (bounds.margin[i] - 2 * far * M))
            step = retrieve(xi, X, beta=beta, skip_tol=0.0).states
            assert np.linalg.norm(step - rest) <= bound + 1e-12


def test_capacity_has_the_published_constants():
    for options, c in (
        ({"dim": 20, "beta": 1.0, "radius": 3.0, "failure": 0.001}, 3.15461),
        ({"dim": 75, "beta": 1.0, "radius": 1.0, "failure": 0.001}, 1.37188),
    ):
        found, n_patterns = capacity_bound(**options)
        assert_allclose(found, c, atol=5e-6)
        assert_allclose(n_patterns, np.sqrt(0.001) * found ** ((options["dim"] - 1) / 4), rtol=1e-12)
    assert capacity_bound(dim=20) == capacity_bound(dim=20, beta=1.0, radius=3.0, failure=0.001)


@pytest.mark.parametrize(("d", "beta", "k", "p"), [(2, 1e-3, 0.1, 0.5), (40, 2.0, 2.0, 0.01), (600, 9.0, 5.0, 1e-9)])
def test_capacity_solves_its_equation(d, beta, k, p):
    c, n_patterns = capacity_bound(dim=d, beta=beta, radius=k, failure=p)
    a = 2 / (d - 1) * (1 + np.log(2 * beta * k**2 * p * (d - 1)))
    b = 2 * k**2 * beta / 5
    # W = W_0(z) is the solution of W e^W = z
    W = b / c
    assert_allclose(W + np.log(W), a + np.log(b), rtol=1e-12, atol=1e-12)
    assert_allclose(np.log(n_patterns), np.log(p) / 2 + (d - 1) / 4 * np.log(c), rtol=1e-12)


def test_capacity_grows_exponentially_and_beyond_floats():
    counts = np.array([capacity_bound(dim=d)[1] for d in range(50, 400, 50)])
    assert np.all(np.diff(np.log(counts)) > 13)  # 50 log(3.1) / 4
    assert capacity_bound(dim=100_000)[1] == np.inf


def test_bounds_can_be_kept_and_keep_float32(tmp_path, rng):
    bounds = retrieval_bounds(on_sphere(rng, 9, 5, 4.0).astype(np.float32), beta=2.0)
    numcore.save(bounds, tmp_path / "bounds")
    again = numcore.load(tmp_path / "bounds")
    for name in vars(bounds):
        assert_array_equal(getattr(again, name), getattr(bounds, name))
        assert getattr(bounds, name).dtype in (np.float32, bool)


def test_extremes_survive(rng):
    X = on_sphere(rng, 6, 4)
    for scale, beta in ((1e-150, 1.0), (1e150, 1e-300), (1.0, 1e-12), (1.0, 1e300), (1.0, np.inf), (0.0, 1.0)):
        bounds = retrieval_bounds(scale * X, beta=beta)
        for name in vars(bounds):
            assert not np.isnan(getattr(bounds, name)).any(), (scale, beta, name)
    assert retrieval_bounds(X, beta=np.inf).separated.all()
    assert not retrieval_bounds(0 * X, beta=1.0).separated.any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: separation_margin(np.empty((0, 2))), ValueError, "patterns must not be empty"),
        (lambda: separation_margin([[np.nan, 1.0]]), ValueError, "patterns must be finite; 1 of its 2"),
        (lambda: retrieval_bounds(np.eye(2), beta=0), ValueError, "beta must satisfy 0 < beta"),
        (lambda: retrieval_bounds(1j * np.eye(2), beta=1), TypeError, "patterns must be real"),
        (lambda: capacity_bound(dim=1), ValueError, "dim must be at least 2; got 1"),
        (lambda: capacity_bound(dim=2.5), TypeError, "dim must be an integer"),
        (lambda: capacity_bound(dim=9, beta=-1), ValueError, "beta must satisfy"),
        (lambda: capacity_bound(dim=9, radius=0), ValueError, "radius must satisfy"),
        (lambda: capacity_bound(dim=9, failure=1.0), ValueError, "failure must satisfy 0 < failure < 1"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
