"""Lossless compression: the square problem is the tall one for every x, however its parts come together."""

import functools
import itertools

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse.linalg import aslinearoperator

import numcore
from numcore.algorithms.sketching import Compressed, compress


def matrix(n, d, cond, rng):
    U = np.linalg.qr(rng.normal(size=(n, d)))[0]
    V = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (U * np.logspace(0, -np.log10(cond), d)) @ V.T


def tall(A, b, x, w=None, intercept=False):
    """|A x + t - b|^2 for the best t."""
    w = np.ones(len(A)) if w is None else w
    r = A @ x - b
    if intercept:
        r = r - w @ r / w.sum()
    return w @ r**2


def square(held, x):
    return np.sum((held.T @ x - held.c) ** 2) + held.rho**2


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def A(rng):
    return rng.normal(size=(2000, 12)) + 3.0


@pytest.fixture
def b(rng):
    return rng.normal(size=2000) + 1.0


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 400),
    d=st.integers(1, 12),
    cond=st.sampled_from([1.0, 1e6, 1e12]),
    intercept=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 100),
)
def test_the_square_problem_is_the_tall_one_for_every_x(n, d, cond, intercept, weighted, seed):
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(n, d)) * np.geomspace(1, 1 / cond, d), rng.normal(size=n) + 2
    w = rng.uniform(0.1, 3, size=n) if weighted else None
    held = compress(A, b, sample_weight=w, fit_intercept=intercept, rng=seed)
    assert held.T.shape == (d, d) and held.c.shape == (d,) and held.n_rows == n
    x = rng.normal(size=d)
    # relative to what is subtracted: with n = 1 and an intercept nothing is left of it
    whole = tall(A, b, x, w)
    assert abs(square(held, x) - tall(A, b, x, w, intercept)) <= 1e-12 * whole


@pytest.mark.parametrize("cond", [1e6, 1e12])
@pytest.mark.parametrize("noise", [1e-8, 0.1, 10.0])
def test_it_is_so_where_the_solution_is_long(cond, noise, rng):
    # noise is amplified by cond: what is a rounding of A x is none of b
    A = 50 * matrix(3000, 8, cond, rng)
    b = A @ rng.normal(size=8) + noise * rng.normal(size=3000)
    held = compress(A, b, rng=0)
    for x in rng.normal(size=(5, 8)):
        assert_allclose(square(held, x), tall(A, b, x), rtol=1e-12)
    # a small residual keeps its digits: |b|^2 - |c|^2 would have none of them
    assert_allclose(held.rho, np.linalg.norm(b - A @ np.linalg.lstsq(A, b, rcond=None)[0]), rtol=1e-6)


@pytest.mark.parametrize("cond", [1e1, 1e8, 1e12])
def test_singular_values_are_those_of_the_matrix(cond, rng):
    A = matrix(3000, 30, cond, rng)
    s, found = np.linalg.svd(A)[1], np.linalg.svd(compress(A, rng=0).T)[1]
    # a few roundings of the largest: as of Householder's QR
    assert np.abs(found - s).max() <= 1e-14


def test_near_duplicates_among_the_first_columns_do_no_harm(rng):
    # the inverse of an unpivoted triangle would lose 1e-5 of other columns here
    A = rng.normal(size=(3000, 30))
    A[:, 1] = 2 * A[:, 0] + 1e-13 * rng.normal(size=3000)
    s, found = np.linalg.svd(A)[1], np.linalg.svd(compress(A, rng=0).T)[1]
    assert np.abs(found - s).max() <= 1e-13 * s[0]


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("k", [None, 1, 3])
def test_parts_merge_into_the_whole_in_any_order(k, intercept, A, rng):
    b = rng.normal(size=2000) if k is None else rng.normal(size=(2000, k))
    A[:1000] += 50  # the means of the parts differ
    w = rng.uniform(size=2000)
    whole = compress(A, b, sample_weight=w, fit_intercept=intercept, rng=0)
    cuts = [0, 1, 9, 700, 2000]
    parts = [
        compress(A[i:j], b[i:j], sample_weight=w[i:j], fit_intercept=intercept, rng=i)
        for i, j in itertools.pairwise(cuts)
    ]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merged = functools.reduce(Compressed.merge, [parts[i] for i in order])
        assert merged.n_rows == 2000
        assert_allclose(merged.T.T @ merged.T, whole.T.T @ whole.T, rtol=1e-11, atol=1e-9)
        assert_allclose(merged.rho, whole.rho, rtol=1e-12)
        for alpha in (0.0, 7.0):
            assert_allclose(merged.solve(alpha), whole.solve(alpha), rtol=1e-10, atol=1e-12)
        if intercept:
            assert_allclose(merged.x_offset, np.average(A, axis=0, weights=w), rtol=1e-13)
            assert_allclose(merged.intercept(merged.solve()), whole.intercept(whole.solve()), rtol=1e-9)
    ab = parts[0].merge(parts[1]).merge(parts[2])
    cd = parts[0].merge(parts[1].merge(parts[2]))
    assert_allclose(ab.T.T @ ab.T, cd.T.T @ cd.T, rtol=1e-11, atol=1e-9)


def test_zero_weights_remove_rows_and_whole_weights_repeat_them(A, b, rng):
    w = rng.integers(0, 4, size=2000)
    for intercept in (False, True):
        weighted = compress(A, b, sample_weight=w, fit_intercept=intercept, rng=0)
        repeated = compress(np.repeat(A, w, axis=0), np.repeat(b, w), fit_intercept=intercept, rng=0)
        assert weighted.n_rows == np.count_nonzero(w)
        assert_allclose(weighted.solve(), repeated.solve(), rtol=1e-11)
        assert_allclose(weighted.rho, repeated.rho, rtol=1e-12)
        A[w == 0] = 1e30
        removed = compress(A, b, sample_weight=w, fit_intercept=intercept, rng=0)
        assert_allclose(removed.solve(), weighted.solve(), rtol=1e-10)


@pytest.mark.parametrize("intercept", [False, True])
def test_a_ridge_can_be_compressed_or_asked_for_later(intercept, A, b):
    plain = compress(A, b, fit_intercept=intercept, rng=0)
    ridge = compress(A, b, alpha=4.0, fit_intercept=intercept, rng=0)
    assert_allclose(ridge.solve(), plain.solve(4.0), rtol=1e-12)
    x = np.linspace(-1, 1, 12)
    assert_allclose(square(ridge, x), tall(A, b, x, intercept=intercept) + 4 * x @ x, rtol=1e-13)
    X = A - A.mean(axis=0) if intercept else A
    y = b - b.mean() if intercept else b
    # the largest is 0.04
    assert_allclose(ridge.solve(), np.linalg.solve(X.T @ X + 4 * np.eye(12), X.T @ y), atol=1e-13)


def test_means_far_from_zero_cost_no_digits(rng):
    A = rng.normal(size=(20_000, 8)) + 1e5
    b = A @ np.ones(8) + rng.normal(size=20_000)
    exact = np.linalg.lstsq(A - A.mean(axis=0), b - b.mean(), rcond=None)[0]
    # what centring by hand gives is itself good to 1e5 roundings
    assert_allclose(compress(A, b, fit_intercept=True, rng=0).solve(), exact, rtol=1e-10)


def test_rank_deficiency_leaves_rows_of_zeros_and_the_least_solution(rng):
    A = rng.normal(size=(1000, 4)) @ rng.normal(size=(4, 7))
    A[:, 3] = 0
    b = rng.normal(size=1000)
    held = compress(A, b, rng=0)
    assert np.linalg.matrix_rank(held.T) == 4 and not held.T[4:].any()
    expected = np.linalg.lstsq(A, b, rcond=1e-12)[0]
    assert_allclose(held.solve(), expected, atol=1e-13)
    assert held.solve()[3] == 0
    assert_allclose(held.rho, np.linalg.norm(A @ expected - b), rtol=1e-13)
    # with an intercept, a constant column is dependent, and the norm is that of the coefficients alone
    A[:, 3] = 5.0
    centred = compress(A, b, fit_intercept=True, rng=0)
    expected = np.linalg.lstsq(A - A.mean(axis=0), b - b.mean(), rcond=1e-12)[0]
    assert_allclose(centred.solve(), expected, atol=1e-13)


def test_more_columns_than_rows_are_compressed_too(rng):
    A, b = rng.normal(size=(5, 9)), rng.normal(size=5)
    held = compress(A, b, rng=0)
    assert held.T.shape == (9, 9) and held.rho == pytest.approx(0, abs=1e-14)
    assert_allclose(held.solve(), np.linalg.pinv(A) @ b, rtol=1e-11)
    A[3:] = A[:2]
    held, x = compress(A, b, rng=0), np.linalg.pinv(A, rcond=1e-12) @ b
    assert_allclose(held.solve(), x, rtol=1e-11)
    assert held.rho == pytest.approx(np.linalg.norm(A @ x - b), rel=1e-12)


def test_leverages_are_those_of_a_qr(A, b):
    Q = np.linalg.qr(A)[0]
    assert_allclose(compress(A, b, rng=0).leverage(A), np.sum(Q**2, axis=1), rtol=1e-11)
    Q = np.linalg.qr(np.c_[np.ones(2000), A])[0]
    centred = compress(A, fit_intercept=True, rng=0)
    assert_allclose(centred.leverage(A), np.sum(Q**2, axis=1), rtol=1e-11)
    # in another number type, but centred alike
    assert_allclose(centred.leverage(A.astype(np.float32)), np.sum(Q**2, axis=1), rtol=1e-4)


@pytest.mark.parametrize("intercept", [False, True])
def test_every_kind_of_matrix_is_read(intercept, A, b, tmp_path):
    dask = pytest.importorskip("dask.array")
    mapped = np.memmap(tmp_path / "A", A.dtype, "w+", shape=A.shape)
    mapped[:] = A
    expected = compress(A, b, fit_intercept=intercept, rng=0)

    def stream():
        for s in np.array_split(np.arange(2000), 7):
            yield A[s], b[s]

    matrices = [
        np.asfortranarray(A),
        A[::-1][::-1],
        mapped,
        scipy.sparse.csr_array(A),
        scipy.sparse.csc_array(A),
        dask.from_array(A, chunks=(600, 12)),
    ]
    for X in matrices:
        found = compress(X, b, fit_intercept=intercept, rng=0)
        assert_allclose(found.solve(), expected.solve(), atol=1e-14)  # the largest is 0.04
        assert_allclose(found.rho, expected.rho, rtol=1e-13)
        assert_allclose(found.leverage(X), expected.leverage(A), rtol=1e-11)
    found = compress(stream, fit_intercept=intercept, rng=0)
    assert_allclose(found.solve(), expected.solve(), atol=1e-14)
    assert found.n_rows == 2000


def test_single_precision_comes_back_and_integers_become_double(A, b):
    assert compress(A.astype("f4"), b.astype("f4"), rng=0).solve().dtype == np.float32
    whole = np.rint(10 * A).astype(int)
    assert compress(whole, np.rint(b).astype(int), rng=0).solve().dtype == np.float64


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("scale", [1e-200, 1e-150, 1e150, 1e200])
def test_extreme_scales_survive(scale, intercept, A, b):
    plain = compress(A, b, fit_intercept=intercept, rng=0)
    found = compress(A * scale, b * scale, fit_intercept=intercept, rng=0)
    assert_allclose(found.solve(), plain.solve(), atol=1e-13)
    assert_allclose(found.rho / scale, plain.rho, rtol=1e-12)
    columns = np.geomspace(1e-150, 1e150, 12)
    assert_allclose(
        compress(A * columns, b, fit_intercept=intercept, rng=0).solve() * columns, plain.solve(), atol=1e-13
    )


def test_files_give_back_what_was_compressed(A, b, tmp_path):
    held = compress(A, b, fit_intercept=True, rng=0)
    numcore.save(held, tmp_path / "held")
    again = numcore.load(tmp_path / "held")
    assert np.array_equal(again.solve(1.0), held.solve(1.0)) and again.dtype == held.dtype
    assert_allclose(again.merge(held).solve(), held.solve(), rtol=1e-12)


def test_bad_input_is_named(A, b):
    spoiled = A.copy()
    spoiled[7, 3] = np.nan
    with pytest.raises(ValueError, match="A must be finite; 1 of its entries are not, the first in row 7"):
        compress(spoiled, b)
    with pytest.raises(ValueError, match="A must be finite; 1 of its entries are not, the first in row 7"):
        compress(spoiled[:20], fit_intercept=True)
    with pytest.raises(TypeError, match="A must be real"):
        compress(A * 1j, b)
    with pytest.raises(TypeError, match="rows that can be read"):
        compress(aslinearoperator(A), b)
    with pytest.raises(ValueError, match="b must have 2000 rows"):
        compress(A, b[:5])
    with pytest.raises(ValueError, match="alpha"):
        compress(A, b, alpha=-1.0)
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        compress(A, b, sample_weight=-np.ones(2000))
    with pytest.raises(ValueError, match="sample_weight must not be zero everywhere"):
        compress(A, b, sample_weight=np.zeros(2000))
    with pytest.raises(ValueError, match="sketch must be one of"):
        compress(A, b, sketch="magic")
    with pytest.raises(ValueError, match="sketch_size must be at least 12"):
        compress(A, b, sketch_size=5)
    with pytest.raises(ValueError, match="must not be empty"):
        compress(A[:0])
    held = compress(A, b)
    with pytest.raises(TypeError, match="Compressed"):
        held.merge(A)
    with pytest.raises(ValueError, match="other must have 12 columns, b of shape"):
        held.merge(compress(A[:, :5], b))
    with pytest.raises(ValueError, match="no b"):
        compress(A).solve()
    with pytest.raises(ValueError, match="A must have 12 columns"):
        held.leverage(A[:, :2])
