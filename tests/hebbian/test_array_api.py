"""Arrays of another library go into continuous retrieval and come out, with NumPy's numbers."""

import array_api_strict as xp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from numcore.algorithms.hebbian import (
    hopfield_energy,
    hopfield_pooling,
    retrieval_bounds,
    retrieve,
    separation_margin,
)


@pytest.fixture
def clouds(rng):
    X = rng.normal(size=(1200, 6))
    return X[:260] + 0.2 * rng.normal(size=(260, 6)), X, rng.normal(size=(1200, 2)), rng.random((260, 1200)) < 0.8


def assert_like(ours, theirs):
    for name, expected in vars(theirs).items():
        found = getattr(ours, name)
        if name == "kind":
            assert_array_equal(found, expected)
        elif expected is not None:
            assert isinstance(found, type(xp.ones(1))), f"{name} is a {type(found)}"
            assert_allclose(np.asarray(found), expected, atol=1e-10)


@pytest.mark.filterwarnings("ignore::numcore.results.ConvergenceWarning")
@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("separation", ["softmax", "sparsemax", "entmax15", "topk"])
def test_retrieval(clouds, separation, similarity):
    xi, X, V, mask = clouds
    options = {"separation": separation, "similarity": similarity, "beta": 2.0, "tol": 1e-3, "skip_tol": 0.0}
    if separation == "topk":
        options["top_k"] = 7
    for more, masks in (({}, mask), ({"return_weights": True, "n_steps": 6}, mask[0]), ({"n_steps": 6}, None)):
        given = None if masks is None else xp.asarray(masks)
        ours = retrieve(xp.asarray(xi), xp.asarray(X), values=xp.asarray(V), mask=given, **options, **more)
        assert_like(ours, retrieve(xi, X, values=V, mask=masks, **options, **more))


def test_a_single_query_of_float32(clouds):
    xi, X, _, _ = clouds
    result = retrieve(xp.asarray(np.float32(xi[0])), xp.asarray(np.float32(X)), return_weights=True)
    assert result.states.dtype == result.weights.dtype == xp.float32
    assert result.states.shape == (6,) and result.top_weight.shape == ()


def test_energies_bounds_and_pooling(clouds):
    xi, X, _, mask = clouds
    energies = hopfield_energy(xp.asarray(xi), xp.asarray(X), beta=2.0)
    assert_allclose(np.asarray(energies), hopfield_energy(xi, X, beta=2.0), atol=1e-12)
    assert_allclose(np.asarray(separation_margin(xp.asarray(X))), separation_margin(X), atol=1e-12)
    assert_like(retrieval_bounds(xp.asarray(3 * X[:9]), beta=4.0), retrieval_bounds(3 * X[:9], beta=4.0))
    bags, query = X.reshape(10, 120, 6), xi[:3]
    pooled = hopfield_pooling(xp.asarray(bags), xp.asarray(query), mask=xp.asarray(mask[:10, :120]))
    assert_allclose(np.asarray(pooled), hopfield_pooling(bags, query, mask=mask[:10, :120]), atol=1e-12)
