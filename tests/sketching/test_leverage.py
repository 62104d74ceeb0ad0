"""Leverage scores, preconditioners, and the low-rank factors that the family shares with the core."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import numcore
from numcore.algorithms import sketching
from numcore.algorithms.sketching import leverage_scores, make_sketch, nystrom, preconditioner, randomized_svd


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("cond", [1.0, 1e6, 1e12])
def test_exact_scores_are_squared_row_norms_of_an_orthonormal_basis(cond, rng):
    A = rng.standard_t(2, size=(3000, 15)) @ np.diag(np.geomspace(1, 1 / cond, 15))
    scores = leverage_scores(A, rng=0)
    # column scales do not matter: the basis is good to a few roundings
    assert_allclose(scores, np.sum(np.linalg.qr(A)[0] ** 2, axis=1), rtol=1e-9, atol=1e-14)
    assert_allclose(scores.sum(), 15, rtol=1e-12)


def test_sketched_scores_are_near_the_exact_ones_and_sum_to_the_rank(rng):
    A = rng.normal(size=(20_000, 60)) * rng.exponential(size=(20_000, 1))
    exact, found = leverage_scores(A, rng=0), leverage_scores(A, method="sketch", rng=0)
    ratio = found / exact
    # both sketches keep lengths within a factor of 1.4 or so; 60 columns are fewer than 8 log(n) directions
    assert_allclose(found.sum(), 60, rtol=1e-3)
    assert np.median(np.abs(ratio - 1)) < 0.3 and ratio.max() < 3 and ratio.min() > 0.3


def test_projected_scores_are_near_the_exact_ones(rng):
    A = rng.normal(size=(3000, 120))
    ratio = leverage_scores(A, method="sketch", rng=0) / leverage_scores(A, rng=0)
    assert np.median(np.abs(ratio - 1)) < 0.4 and ratio.max() < 4 and ratio.min() > 0.25


def test_a_row_that_stands_alone_has_a_score_of_one(rng):
    A = rng.normal(size=(2000, 6))
    A[11] = 1e12 * np.eye(6)[2]
    scores = leverage_scores(A, rng=0)
    assert scores[11] == pytest.approx(1, abs=1e-12) and scores.max() <= 1


@pytest.mark.parametrize("method", ["exact", "sketch"])
def test_scores_of_special_matrices(method, rng):
    A = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 6))
    assert_allclose(leverage_scores(A, method=method, rng=0).sum(), 3, rtol=1e-10)
    assert not leverage_scores(np.zeros((30, 2)), method=method).any()
    assert_allclose(leverage_scores(np.eye(5)[:3], method=method), 1)
    assert leverage_scores(A.astype(np.float32), method=method).dtype == np.float32
    assert_allclose(leverage_scores(scipy.sparse.csr_array(A), method=method, rng=0).sum(), 3, rtol=1e-10)
    for scale in (1e-200, 1e200):
        assert_allclose(
            leverage_scores(A * scale, method=method, rng=0), leverage_scores(A, method=method, rng=0), rtol=1e-6
        )


def test_scores_of_chunks_come_in_the_order_of_rows(rng):
    dask = pytest.importorskip("dask.array")
    A = rng.normal(size=(700, 4)) * np.arange(1, 701)[:, None]
    found = leverage_scores(dask.from_array(A, chunks=(300, 4)), rng=0)
    assert_allclose(found, leverage_scores(A, rng=0), rtol=1e-10)


def test_scores_feed_the_sampler(rng):
    A = rng.standard_t(1.5, size=(5000, 5))
    S = make_sketch("leverage", 600, scores=leverage_scores(A, method="sketch", rng=0), rng=1)
    U = np.linalg.qr(A)[0]
    singular = np.linalg.svd(S @ U)[1]
    # matrix Chernoff: 1 +- sqrt(8 d log(d) / 3 m)
    assert 0.6 < singular.min() and singular.max() < 1.4


@pytest.mark.parametrize("kind", ["auto", "gaussian", "sparse_sign", "srht"])
@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_preconditioned_matrices_are_well_conditioned(kind, alpha, rng):
    A = rng.normal(size=(4000, 20)) @ rng.normal(size=(20, 20)) * np.geomspace(1, 1e-9, 20)
    found = preconditioner(A, alpha=alpha, sketch=kind, sketch_size=320, rng=0)
    with_ridge = np.vstack([A, alpha**0.5 * np.eye(20)])
    s = np.linalg.svd(with_ridge @ found.P)[1]
    # m = 16 d: the sketch changes lengths by a quarter, and seldom by more than 0.4
    assert found.rank == 20 and 1 / 1.5 < s.min() and s.max() < 1 / 0.6
    assert found.cond == pytest.approx(np.linalg.cond(with_ridge), rel=1.0)
    y, g = rng.normal(size=20), rng.normal(size=(20, 3))
    assert_allclose(found.apply(y), found.P @ y)
    assert_allclose(found.apply_transpose(g), found.P.T @ g)


def test_operators_and_deficient_matrices_are_preconditioned(rng):
    A = rng.normal(size=(600, 5)) @ rng.normal(size=(5, 8))
    for X in (A, aslinearoperator(A), scipy.sparse.csr_array(A)):
        found = preconditioner(X, rng=0)
        assert found.rank == 5 and found.P.shape == (8, 5)
        assert np.linalg.cond(A @ found.P) < 10
    assert isinstance(aslinearoperator(A), LinearOperator)
    assert preconditioner(A.astype(np.float32), rng=0).P.dtype == np.float32


def test_low_rank_factors_are_those_of_the_core():
    assert randomized_svd is numcore.linalg.randomized_svd and nystrom is numcore.linalg.nystrom
    assert {"randomized_svd", "nystrom", "preconditioner", "leverage_scores"} <= set(sketching.__all__)


def test_bad_input_is_named(rng):
    A = rng.normal(size=(50, 3))
    with pytest.raises(ValueError, match="method must be one of"):
        leverage_scores(A, method="best")
    with pytest.raises(ValueError, match="2-D"):
        leverage_scores(A[0])
    with pytest.raises(TypeError, match="rows that can be read"):
        leverage_scores(aslinearoperator(A))
    with pytest.raises(ValueError, match="A must be finite"):
        leverage_scores(np.where(A > 1, np.nan, A))
    with pytest.raises(ValueError, match="alpha"):
        preconditioner(A, alpha=-1)
    with pytest.raises(ValueError, match="sketch_size must be at least 3"):
        preconditioner(A, sketch_size=2)
    with pytest.raises(ValueError, match="y must have 3 rows"):
        preconditioner(A).apply(np.ones(4))
    with pytest.raises(ValueError, match="g must have 3 rows"):
        preconditioner(A).apply_transpose(np.ones((4, 2)))
