"""Continuous retrieval: the definition on small cases, what theory says of updates, and no trouble at the edges."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.datasets import load_digits

import numcore
from numcore.algorithms.hebbian import RetrievalDisplay, hopfield_energy, make_archetypes, retrieve
from numcore.results import ConvergenceWarning
from numcore.special import entmax15, sparsemax

SEPARATIONS = {"softmax": lambda z: softmax(z, axis=1), "sparsemax": sparsemax, "entmax15": entmax15}


def scores(xi, X, similarity):
    if similarity == "cosine":
        xi, X = (x / np.where(np.linalg.norm(x, axis=1) > 0, np.linalg.norm(x, axis=1), 1)[:, None] for x in (xi, X))
    if similarity == "euclidean":
        return -((xi[:, None, :] - X[None, :, :]) ** 2).sum(axis=2) / 2
    return xi @ X.T


def entropy(P):
    return -np.sum(P * np.log(np.where(P > 0, P, 1)), axis=1)


def kind_of(effective, total):
    return "single" if effective < 1.5 else "global" if effective > total / 2 and total > 2 else "metastable"


@pytest.fixture
def clouds(rng):
    """More queries and patterns than a tile holds."""
    return rng.normal(size=(300, 6)), rng.normal(size=(2500, 6))


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("separation", ["softmax", "sparsemax", "entmax15"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_step_is_the_mean_of_patterns_under_weights_of_their_scores(clouds, similarity, separation, keep):
    xi, X = clouds
    P = SEPARATIONS[separation](1.5 * scores(xi, X, similarity))
    result = retrieve(xi, X, beta=1.5, similarity=similarity, separation=separation, skip_tol=0.0, return_weights=keep)
    # products of a dozen roundings, in exponents of some tens
    assert_allclose(result.states, P @ X, atol=1e-11)
    assert_allclose(result.entropy, entropy(P), atol=1e-11)
    assert_allclose(result.effective_patterns, np.exp(entropy(P)), rtol=1e-10)
    assert_array_equal(result.top_index, P.argmax(axis=1))
    assert_allclose(result.top_weight, P.max(axis=1), rtol=1e-10)
    assert_array_equal(result.kind, [kind_of(k, 2500) for k in np.exp(entropy(P))])
    if keep:
        assert_allclose(result.weights, P, atol=1e-12)
    else:
        assert result.weights is None


def test_sparse_separations_give_the_published_weights():
    for separation, expected in (
        ("sparsemax", [0.6, 0.4, 0, 0]),
        ("entmax15", [0.52924789, 0.39374904, 0.07700306, 0]),
    ):
        result = retrieve([1.0, 0.8, 0.1, -0.5], np.eye(4), separation=separation)
        assert_allclose(result.states, expected, atol=1e-8)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_what_is_skipped_weighs_no_more_than_asked(rng, similarity):
    X = rng.normal(size=(3000, 8))
    xi, size = X[:400] + 0.2 * rng.normal(size=(400, 8)), np.linalg.norm(X, axis=1).max()
    exact = retrieve(xi, X, beta=9.0, similarity=similarity, skip_tol=0.0)
    for skip_tol in (1e-2, 1e-5, 1e-8):
        rough = retrieve(xi, X, beta=9.0, similarity=similarity, skip_tol=skip_tol)
        # a mass w moved from some patterns to others moves the mean by 2 w max ||x|| at most
        assert np.linalg.norm(rough.states - exact.states, axis=1).max() <= 2 * skip_tol * size + 1e-12
        assert_array_equal(rough.top_index, exact.top_index)
        assert np.all(np.abs(rough.top_weight - exact.top_weight) <= skip_tol + 1e-12)


def test_memory_does_not_grow_with_queries_times_patterns(rng):
    xi, X = rng.normal(size=(1200, 4)).astype(np.float32), rng.normal(size=(20_000, 4)).astype(np.float32)
    retrieve(xi[:2], X[:5])
    tracemalloc.start()
    try:
        for options, megabytes in (({}, 12), ({"top_k": 9}, 48)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            retrieve(xi, X, **options)
            # all scores take 96 MB; of those at work, 1 or 8 MiB, there are a few copies
            assert tracemalloc.get_traced_memory()[1] - before < megabytes * 2**20
    finally:
        tracemalloc.stop()


# steps


@given(
    seed=st.integers(0, 2**32 - 1),
    K=st.integers(1, 30),
    d=st.integers(1, 10),
    beta=st.floats(1e-3, 1e3),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
@settings(max_examples=60, deadline=None)
def test_no_update_increases_the_energy(seed, K, d, beta, scale):
    rng = np.random.default_rng(seed)
    X, xi = scale * rng.normal(size=(K, d)), scale * rng.normal(size=(5, d))
    energies = [hopfield_energy(xi, X, beta=beta)]
    for _ in range(5):
        xi = retrieve(xi, X, beta=beta, skip_tol=0.0).states
        energies.append(hopfield_energy(xi, X, beta=beta))
    # sums of K d products
    assert np.all(np.diff(energies, axis=0) <= 1e-13 * K * d * (scale**2 * d + 1 / beta))
    assert np.all(np.array(energies) >= 0)


def test_the_energy_is_that_of_its_definition(rng):
    X, xi = rng.normal(size=(40, 7)), rng.normal(size=(6, 7))
    for beta in (1e-3, 1.0, 20.0):
        lse = np.log(np.exp(beta * xi @ X.T).sum(axis=1)) / beta
        squares = (X**2).sum(axis=1)
        expected = -lse + (xi**2).sum(axis=1) / 2 + np.log(40) / beta + squares.max() / 2
        assert_allclose(hopfield_energy(xi, X, beta=beta), expected, rtol=1e-10)
    assert_allclose(
        hopfield_energy(xi, X, beta=np.inf), ((xi**2).sum(axis=1) + squares.max()) / 2 - (xi @ X.T).max(axis=1)
    )
    # -lse + log(K) / beta -> -mean of scores
    limit = -(xi @ X.T).mean(axis=1) + ((xi**2).sum(axis=1) + squares.max()) / 2
    assert_allclose(hopfield_energy(xi, X, beta=1e-12), limit, rtol=1e-9)


def test_the_energy_is_the_potential_of_the_update(rng):
    X, xi, h = rng.normal(size=(30, 5)), rng.normal(size=5), 1e-6
    steps = h * np.eye(5)
    slope = (hopfield_energy(xi + steps, X, beta=2.0) - hopfield_energy(xi - steps, X, beta=2.0)) / (2 * h)
    assert_allclose(slope, xi - retrieve(xi, X, beta=2.0, skip_tol=0.0).states, atol=1e-8)


def test_each_query_stops_on_its_own_and_as_if_it_were_alone(rng):
    X = rng.normal(size=(200, 12))
    xi = np.concatenate([X[:20] + 0.3 * rng.normal(size=(20, 12)), 0.1 * rng.normal(size=(20, 12)), X[:1]])
    V = rng.normal(size=(200, 3))
    options = {"beta": 1.2, "n_steps": 300, "tol": 1e-7}
    together = retrieve(xi, X, values=V, return_weights=True, **options)
    assert len(set(together.n_iter)) > 3 and together.converged.all()
    for k in range(0, 41, 5):
        alone = retrieve(xi[k], X, values=V, return_weights=True, **options)
        assert alone.n_iter == together.n_iter[k]
        # where an update shrinks distances slowly, roundings of all steps add up
        assert_allclose(alone.states, together.states[k], atol=1e-10)
        assert_allclose(alone.weights, together.weights[k], atol=1e-10)


def test_steps_go_on_until_nothing_moves_and_no_longer(rng):
    X = rng.normal(size=(50, 10))
    xi = X[:8] + 0.4 * rng.normal(size=(8, 10))
    result, state = retrieve(xi, X, n_steps=100, tol=1e-8), xi
    for step in range(1, result.n_iter.max() + 1):
        before, state = state, retrieve(state, X, skip_tol=0.0).states
        moved = np.linalg.norm(state - before, axis=1)
        assert_array_equal(moved[result.n_iter > step] > 1e-8, True)
        done = result.n_iter == step
        assert np.all(moved[done] <= 1e-8)
        assert_allclose(result.states[done], state[done], atol=1e-7)


@pytest.mark.parametrize("separation", ["softmax", "sparsemax"])
@pytest.mark.parametrize("keep", [False, True])
def test_values_are_averaged_at_the_last_step_only(rng, separation, keep):
    X, V = rng.normal(size=(60, 9)), rng.normal(size=(60, 4))
    xi = X[:10] + 0.3 * rng.normal(size=(10, 9))
    options = {"beta": 1.5, "separation": separation, "return_weights": keep, "skip_tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        state = retrieve(xi, X, n_steps=2, tol=0.0, **options).states
        result = retrieve(xi, X, values=V, n_steps=3, tol=0.0, **options)
    P = SEPARATIONS[separation](1.5 * state @ X.T)
    slow = result.n_iter == 3
    assert slow.any()
    assert_allclose(result.states[slow], (P @ V)[slow], atol=1e-12)
    assert_allclose(
        retrieve(xi, X, values=V[:, 0], **options).states, retrieve(xi, X, values=V, **options).states[:, 0]
    )


def test_early_rest_leaves_values_and_weights_of_the_last_update(rng):
    X, V = 3 * np.eye(5), rng.normal(size=(5, 2))
    result = retrieve(X, X, values=V, beta=4.0, n_steps=50, return_weights=True)
    assert result.converged.all() and result.n_iter.max() < 50
    assert_allclose(result.weights @ V, result.states, atol=1e-14)


def test_unfinished_queries_are_counted_in_one_warning(rng):
    X = rng.normal(size=(50, 10))
    with pytest.warns(
        ConvergenceWarning, match=r"3 of 3 queries still moved by more than 0 at the last of 2"
    ) as caught:
        result = retrieve(rng.normal(size=(3, 10)), X, beta=0.5, n_steps=2, tol=0)
    assert len(caught) == 1 and not result.converged.any()
    assert not retrieve(rng.normal(size=(3, 10)), X).converged.any()  # a single step promises nothing


# symmetries and limits


def test_the_order_of_patterns_and_queries_does_not_matter(clouds, rng):
    xi, X = clouds
    order, turn = rng.permutation(len(X)), rng.permutation(len(xi))
    options = {"beta": 2.0, "n_steps": 200, "tol": 1e-7, "skip_tol": 0.0}
    there, here = retrieve(xi[turn], X[order], **options), retrieve(xi, X, **options)
    assert_allclose(there.states, here.states[turn], atol=1e-6)  # stopped within a few tol
    assert_array_equal(order[there.top_index], here.top_index[turn])


@pytest.mark.parametrize("separation", ["softmax", "sparsemax", "entmax15"])
def test_the_limits_of_beta_are_the_mean_and_the_nearest(clouds, separation):
    xi, X = clouds
    assert_allclose(
        retrieve(xi, X, beta=1e-12, separation=separation).states, np.tile(X.mean(axis=0), (300, 1)), atol=1e-8
    )
    for beta in (1e9, 1e300, np.inf):
        result = retrieve(xi, X, beta=beta, separation=separation)
        assert_allclose(result.states, X[(xi @ X.T).argmax(axis=1)], atol=1e-12)
        assert np.all(result.entropy == 0) and np.all(result.kind == "single")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_a_million_survive(rng, sign, dtype):
    X = np.eye(4, dtype=dtype)
    result = retrieve(sign * 1e6 * X, X, return_weights=True)
    assert result.states.dtype == dtype and np.isfinite(result.weights).all()
    expected = X if sign == 1 else (1 - X) / 3
    assert_allclose(result.weights, expected, atol=1e-7)
    assert_allclose(retrieve(sign * 1e6 * X, X).states, expected, atol=1e-7)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_duplicates_share_their_weight_and_the_first_is_named(rng, similarity):
    X = rng.normal(size=(700, 37))
    X[650], X[699], X[30] = X[5], X[5], X[5]
    for beta in (2.0, 1e4):
        result = retrieve(X[[5, 650]] + 0.01, X, beta=beta, similarity=similarity, return_weights=True)
        tiled = retrieve(X[[5, 650]] + 0.01, X, beta=beta, similarity=similarity)
        assert_array_equal(result.top_index, 5)
        assert_array_equal(tiled.top_index, 5)
        weights = result.weights[:, [5, 30, 650, 699]]
        assert_allclose(weights, weights[:, :1] * np.ones(4), rtol=1e-8)  # 1e4 times roundings of scores near 40
    assert_allclose(result.top_weight, 0.25, rtol=1e-8)
    assert_allclose(result.effective_patterns, 4, rtol=1e-8)


def test_the_first_of_equal_scores_is_named_in_any_tile():
    X = np.tile([[1.0, 0.0], [0.0, 1.0]], (2000, 1))
    result = retrieve([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], X, beta=3.0)
    assert_array_equal(result.top_index, [1, 0, 0])
    assert_array_equal(retrieve([[1.0, 1.0]], X, top_k=3, return_weights=True).weights[0, :4] > 0, [1, 1, 1, 0])


def test_one_pattern_is_always_retrieved(rng):
    x = rng.normal(size=6)
    for patterns in (x, x[None, :]):
        for separation in SEPARATIONS:
            result = retrieve(rng.normal(size=(3, 6)), patterns, separation=separation, n_steps=5)
            assert_allclose(result.states, [x, x, x], rtol=1e-15)
            assert_array_equal(result.entropy, 0)
            assert_array_equal(result.kind, "single")
            assert_array_equal(result.n_iter, 2)


def test_zero_vectors_are_like_nothing():
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1e-200]])
    result = retrieve([[0.0, 0.0], [1e-180, 0.0]], X, similarity="cosine", return_weights=True)
    assert_allclose(result.weights[0], 1 / 3)
    assert_allclose(result.weights[1], softmax([0.0, 1.0, 0.0]))
    assert_allclose(retrieve(np.zeros(2), np.zeros((3, 2))).top_weight, 1 / 3)


def test_distances_do_not_depend_on_the_origin(rng):
    X, xi = rng.normal(size=(50, 3)), rng.normal(size=(4, 3))
    here = retrieve(xi, X, similarity="euclidean", beta=3.0)
    there = retrieve(xi + 1e6, X + 1e6, similarity="euclidean", beta=3.0)
    assert_allclose(there.states - 1e6, here.states, atol=1e-8)  # 1e6 is stored to 1e-10


def test_kinds_follow_the_number_of_patterns_that_share_the_weight():
    X = np.eye(6)
    xi = np.array([[9.0, 0, 0, 0, 0, 0], [9, 9, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    result = retrieve(xi, X)
    assert list(result.kind) == ["single", "metastable", "global"]
    assert retrieve(np.zeros(2), np.eye(2)).kind == "metastable"  # of two, half is one
    # a mask leaves three patterns, and two are more than half of them
    assert retrieve([9.0, 9, 0], np.eye(3)).kind == "global"
    assert retrieve(xi[1], X, mask=np.arange(6) < 3).kind == "global"


# masks and the largest


@pytest.mark.parametrize("separation", ["softmax", "sparsemax", "entmax15", "topk"])
def test_masked_patterns_are_as_if_they_were_not_there(rng, separation):
    X, xi = rng.normal(size=(1500, 5)), rng.normal(size=(7, 5))
    mask = rng.random((7, 1500)) < 0.4
    options = {"beta": 1.3, "separation": separation, "top_k": 4 if separation == "topk" else None}
    result = retrieve(xi, X, mask=mask, **options)
    shared = retrieve(xi, X, mask=mask[0], **options)
    for k in range(7):
        alone = retrieve(xi[k], X[mask[k]], **options)
        assert_allclose(result.states[k], alone.states, atol=1e-13)
        assert result.top_index[k] == np.flatnonzero(mask[k])[alone.top_index]
        assert_allclose(shared.states[k], retrieve(xi[k], X[mask[0]], **options).states, atol=1e-13)


def test_a_mask_may_leave_fewer_patterns_than_top_k(rng):
    X, mask = rng.normal(size=(20, 3)), np.arange(20) < 2
    few = retrieve(X[:4], X, mask=mask, top_k=5, return_weights=True)
    assert_allclose(few.weights, retrieve(X[:4], X, mask=mask, return_weights=True).weights)
    assert np.all(few.weights[:, 2:] == 0)


def test_masks_follow_their_queries_through_all_steps(rng):
    X, xi = rng.normal(size=(300, 8)), rng.normal(size=(40, 8))
    mask = rng.random((40, 300)) < 0.5
    together = retrieve(xi, X, mask=mask, beta=1.5, n_steps=500, tol=1e-8)
    for k in range(0, 40, 7):
        alone = retrieve(xi[k], X[mask[k]], beta=1.5, n_steps=500, tol=1e-8)
        assert_allclose(together.states[k], alone.states, atol=1e-6)
        assert together.top_index[k] == np.flatnonzero(mask[k])[alone.top_index]


@pytest.mark.parametrize("separation", ["softmax", "topk", "sparsemax"])
def test_top_k_leaves_weight_to_the_largest_scores(clouds, separation):
    xi, X = clouds[0][:20], clouds[1]
    result = retrieve(xi, X, beta=0.3, separation=separation, top_k=5, return_weights=True)
    for row, s in zip(result.weights, 0.3 * xi @ X.T, strict=True):
        best = np.argsort(-s)[:5]
        rule = sparsemax if separation == "sparsemax" else softmax
        assert_allclose(row[best], rule(s[best]), atol=1e-13)
        assert np.count_nonzero(row) <= 5
    every = retrieve(xi, X, beta=0.3, top_k=len(X))
    assert_allclose(every.states, retrieve(xi, X, beta=0.3, skip_tol=0.0).states, atol=1e-13)


# figures


def test_digits_are_told_apart_by_softmax_over_examples():
    data, target = load_digits(return_X_y=True)
    X = data / 16 - 0.5
    found = []
    for beta in (10.0, 50.0, 200.0):
        P = retrieve(X[1200:], X[:1200], similarity="cosine", beta=beta, return_weights=True).weights
        votes = retrieve(X[1200:], X[:1200], similarity="cosine", beta=beta, values=np.eye(10)[target[:1200]]).states
        assert_allclose(votes, P @ np.eye(10)[target[:1200]], atol=1e-7)
        found.append(np.mean(votes.argmax(axis=1) == target[1200:]))
    # one image in 597 is 0.0017
    assert_allclose(found, [0.90955, 0.96147, 0.96482], atol=1e-5)


def test_signs_are_completed_from_half_of_them():
    xi = make_archetypes(500, 100, rng=0)
    half = xi[:50] * (np.arange(100) < 50)
    result = retrieve(half, xi, beta=0.5, n_steps=20)
    assert_array_equal(np.sign(result.states), xi[:50])
    assert result.states.dtype == np.float64


# what comes in and goes out


@pytest.mark.parametrize("separation", ["softmax", "entmax15", "topk"])
def test_float32_stays_float32_to_its_precision(clouds, separation):
    xi, X = (x.astype(np.float32) for x in clouds)
    options = {"separation": separation, "top_k": 9 if separation == "topk" else None, "return_weights": True}
    narrow, wide = retrieve(xi, X, **options), retrieve(*map(np.float64, (xi, X)), **options)
    for name in ("states", "entropy", "effective_patterns", "top_weight", "weights"):
        assert getattr(narrow, name).dtype == np.float32
        assert_allclose(getattr(narrow, name), getattr(wide, name), rtol=2e-4, atol=2e-5)
    assert retrieve(xi, X.astype(np.float64)).states.dtype == np.float64
    energies = hopfield_energy(xi, X)
    assert energies.dtype == np.float32
    assert_allclose(energies, hopfield_energy(*map(np.float64, (xi, X))), rtol=1e-5)


def test_float32_scores_beyond_float32_are_worked_out_in_float64():
    X = np.float32([[3e30, 0], [0, 2e30]])
    result = retrieve(X, X, n_steps=3)
    assert result.states.dtype == np.float32
    assert_array_equal(result.states, X)
    with pytest.raises(ValueError, match="small enough for their products"):
        retrieve(np.full(2, 1e200), np.full((3, 2), 1e200))


def test_inputs_may_be_read_only_lists_and_of_any_layout_and_stay_as_they_were(clouds):
    xi, X = clouds
    expected = retrieve(xi, X, n_steps=3, tol=np.inf, values=X)
    for given_xi, given_X in (
        (np.asfortranarray(xi), np.asfortranarray(X)),
        (np.repeat(xi, 2, axis=1)[:, ::2], np.repeat(X, 2, axis=0)[::2]),
        (xi.tolist(), X.tolist()),
    ):
        for array in (given_xi, given_X):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        assert_allclose(retrieve(given_xi, given_X, values=given_X).states, expected.states, atol=1e-12)


def test_a_single_query_comes_back_without_the_first_axis(rng):
    X = rng.normal(size=(9, 4))
    one, many = (retrieve(x, X, values=X[:, :2], return_weights=True) for x in (X[0], X[:1]))
    assert one.states.shape == (2,) and one.weights.shape == (9,)
    for name in vars(one):
        assert_array_equal(getattr(one, name), getattr(many, name)[0])
    assert isinstance(hopfield_energy(X[0], X), float)


def test_results_can_be_kept(tmp_path, rng):
    X = rng.normal(size=(9, 4))
    for query in (X[:3], X[0]):
        result = retrieve(query, X, n_steps=50, return_weights=True)
        numcore.save(result, tmp_path / "result")
        again = numcore.load(tmp_path / "result")
        for name in vars(result):
            assert_array_equal(getattr(again, name), getattr(result, name))


GOOD = {"queries": np.ones((2, 3)), "patterns": np.eye(3)}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"queries": np.ones((2, 4))}, ValueError, r"queries must have 3 features a row.*got shape \(2, 4\)"),
        ({"queries": np.ones((0, 3))}, ValueError, r"queries must not be empty; got shape \(0, 3\)"),
        ({"queries": [[1.0, np.nan, np.inf]]}, ValueError, "queries must be finite; 2 of its 3 entries are not"),
        ({"queries": np.ones((2, 3), complex)}, TypeError, "queries must be real; got dtype complex128"),
        ({"queries": np.ones((2, 2, 3))}, ValueError, "queries must be 1-D or 2-D"),
        ({"patterns": np.ones((0, 3))}, ValueError, r"patterns must not be empty; got shape \(0, 3\)"),
        ({"patterns": [["a"]]}, TypeError, "patterns must be real numbers"),
        ({"patterns": np.full((2, 3), np.inf)}, ValueError, "patterns must be finite; 6 of its 6"),
        (
            {"values": np.ones((2, 3))},
            ValueError,
            r"values must have a row for each of the 3 .* \(2, 3\)",
        ),
        ({"values": np.full(3, np.nan)}, ValueError, "values must be finite; 3 of its 3"),
        ({"beta": 0.0}, ValueError, r"beta must satisfy 0 < beta; got 0\.0"),
        ({"beta": np.nan}, ValueError, "beta must satisfy 0 < beta; got nan"),
        ({"beta": "scale"}, TypeError, "beta must be a real number; got 'scale'"),
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1; got 0"),
        ({"n_steps": 1.5}, TypeError, "n_steps must be an integer"),
        ({"tol": -1.0}, ValueError, "tol must satisfy 0 <= tol"),
        ({"separation": "max"}, ValueError, "separation must be one of 'softmax', 'sparsemax', 'entmax15', 'topk'"),
        ({"similarity": "l1"}, ValueError, "similarity must be one of 'dot', 'cosine', 'euclidean'; got 'l1'"),
        ({"separation": "topk"}, ValueError, 'top_k must be given with separation "topk"'),
        ({"top_k": 4}, ValueError, "top_k must be at most 3, the number of patterns; got 4"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1; got 0"),
        ({"mask": [True, True]}, ValueError, r"mask must be a bool array of shape \(3,\) or \(2, 3\).*shape \(2,\)"),
        ({"mask": [1, 0, 1]}, ValueError, "mask must be a bool array of shape .* got int64"),
        ({"mask": [False] * 3}, ValueError, "mask must leave a pattern to each query; 1 of its rows"),
        ({"mask": [[True] * 3, [False] * 3]}, ValueError, "1 of its rows are False throughout"),
        ({"skip_tol": -1e-3}, ValueError, "skip_tol must satisfy 0 <= skip_tol <= 1"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    with pytest.raises(error, match=message):
        retrieve(**{**GOOD, **change})


def test_bad_arguments_of_the_energy_are_named():
    for arguments, message in (
        ((np.ones(4), np.eye(3)), "states must have 3 features"),
        ((np.ones(3), np.empty((0, 3))), "patterns must not be empty"),
    ):
        with pytest.raises(ValueError, match=message):
            hopfield_energy(*arguments)
    with pytest.raises(ValueError, match="beta must satisfy"):
        hopfield_energy(np.ones(3), np.eye(3), beta=-1.0)


def test_queries_can_be_drawn_above_what_was_retrieved(rng):
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    X = rng.normal(size=(20, 12))
    result = retrieve(X[:3] * (np.arange(12) < 8), X, beta=4.0)
    display = RetrievalDisplay.from_result(X[:3], result, (3, 4))
    drawn = [ax.get_images()[0].get_array() for ax in display.axes_[1]]
    assert_array_equal(drawn, result.states.reshape(3, 3, 4))
    plt.close(display.figure_)


def test_the_number_of_threads_changes_nothing(rng):
    numba = pytest.importorskip("numba", exc_type=ImportError)
    most = numba.config.NUMBA_NUM_THREADS
    X = rng.normal(size=(5000, 20)).astype(np.float32)
    xi = X[:700] + 0.3 * rng.normal(size=(700, 20)).astype(np.float32)
    before, found = numba.get_num_threads(), []
    try:
        for count in (1, most):
            numba.set_num_threads(count)
            found.append(retrieve(xi, X, beta=0.7, n_steps=3, tol=1e3))
    finally:
        numba.set_num_threads(before)
    for name in ("states", "entropy", "top_weight"):
        assert_array_equal(getattr(found[0], name), getattr(found[1], name))
