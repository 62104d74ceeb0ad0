"""Pooling is a retrieval step in each sequence."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore.algorithms.hebbian import hopfield_pooling, retrieve


@pytest.fixture
def bags(rng):
    mask = rng.random((4, 9)) < 0.6
    mask[:, 3] = True
    return rng.normal(size=(4, 9, 5)), rng.normal(size=(3, 5)), mask


@pytest.mark.parametrize("beta", [0.2, 1.0, 30.0])
def test_each_bag_is_a_memory_that_the_query_is_put_to(bags, beta):
    X, query, mask = bags
    for given in (None, mask):
        pooled = hopfield_pooling(X, query, beta=beta, mask=given)
        for k in range(4):
            rows = X[k] if given is None else X[k][mask[k]]
            assert_allclose(pooled[k], retrieve(query, rows, beta=beta).states, atol=1e-12)
        for n in range(3):
            assert_allclose(hopfield_pooling(X, query[n], beta=beta, mask=given), pooled[:, n], atol=1e-14)


def test_padding_of_any_size_changes_nothing(bags):
    X, query, mask = bags
    spoilt = np.where(mask[..., None], X, 1e30)
    assert_allclose(hopfield_pooling(spoilt, query, mask=mask), hopfield_pooling(X, query, mask=mask), atol=1e-13)


def test_the_order_of_rows_does_not_matter(bags, rng):
    X, query, mask = bags
    order = rng.permutation(9)
    turned = hopfield_pooling(X[:, order], query, mask=mask[:, order])
    assert_allclose(turned, hopfield_pooling(X, query, mask=mask), atol=1e-14)


def test_limits_and_dtypes(bags):
    X, query, _ = bags
    assert_allclose(hopfield_pooling(X, query, beta=1e-12), np.repeat(X.mean(axis=1)[:, None], 3, axis=1), atol=1e-10)
    nearest = np.einsum("bld,nd->bnl", X, query).argmax(axis=2)
    assert_allclose(hopfield_pooling(X, query, beta=1e300), np.take_along_axis(X, nearest[..., None], axis=1))
    assert hopfield_pooling(X.astype(np.float32), query.astype(np.float32)).dtype == np.float32
    assert hopfield_pooling(X.astype(np.float32), query).dtype == np.float64
    assert hopfield_pooling(np.ones((2, 3, 4), int), np.ones(4, int)).dtype == np.float64


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": np.ones((2, 3))}, ValueError, "X must be 3-D"),
        ({"X": np.ones((2, 0, 3))}, ValueError, r"X must not be empty; got shape \(2, 0, 3\)"),
        ({"X": np.full((1, 2, 3), np.nan)}, ValueError, "X must be finite; 6 of its 6"),
        ({"query": np.ones(4)}, ValueError, r"query must have shape \(3,\) or \(n, 3\); got \(4,\)"),
        ({"query": np.ones(3, complex)}, TypeError, "query must be real"),
        ({"beta": 0}, ValueError, "beta must satisfy"),
        ({"mask": np.ones((2, 4))}, ValueError, r"mask must be a bool array of shape \(2, 4\); got float64"),
        ({"mask": [[True] * 4, [False] * 4]}, ValueError, "mask must leave a row to each sequence; 1 of 2 are False"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    with pytest.raises(error, match=message):
        hopfield_pooling(**{"X": np.ones((2, 4, 3)), "query": np.ones(3), **change})
