"""The triangle of a tall matrix: as good as Householder's, in one piece or row by row, and what follows from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from numcore.algorithms.sketching import SketchedRegression, compress, lstsq
from numcore.algorithms.sketching._factor import triangle_by_products, triangle_of
from numcore.algorithms.sketching._setup import _thin_qr

UNIT = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def with_cond(rng, n, d, cond):
    left, right = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2))
    return rng.normal(size=(n, d)) @ (left * np.geomspace(1, 1 / cond, d) @ right)


def defect(R, M):
    """The largest entry of ``R^T R - M^T M``, each relative to the lengths of two columns of M: no less than twice the
    part by which columns are off if R is the triangle of another matrix. In extended precision."""
    R, M = R.astype(np.longdouble), M.astype(np.longdouble)
    norms = np.sqrt((M * M).sum(axis=0))
    return float(np.abs((R.T @ R - M.T @ M) / norms / norms[:, None]).max())


@pytest.mark.parametrize("cond", [1.0, 30.0, 1e6, 1e13])
@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
def test_rows_are_taken_in_by_products_as_well_as_by_qr(cond, scale, rng):
    d, k = 12, 2
    A = with_cond(rng, 4000, d, cond)
    M = np.hstack([A, A @ rng.normal(size=(d, k)) + 1e-3 * rng.normal(size=(4000, k))]) * np.geomspace(1, 1e-8, d + k)
    R = triangle_of(M[:100])
    for i in range(100, 4000, 300):
        R = triangle_by_products(R * scale, M[i : i + 300] * scale, d, False) / scale
        assert np.array_equal(R, np.triu(R))
    # rows that were taken in 14 times: some roundings a time, of sums over a few hundred rows
    assert defect(R[:, :d], M[:, :d]) < 50 * UNIT
    # of the right-hand sides only lengths are kept; they move with the solution, which is as long as cond allows
    exact = triangle_of(M)
    x = rng.normal(size=d)
    found, wanted = (np.linalg.norm(T[:d, :d] @ x - T[:d, d]) for T in (R, exact))
    assert found == pytest.approx(wanted, rel=1e-11)
    assert_allclose(np.linalg.norm(R[d:, d:], axis=0), np.linalg.norm(exact[d:, d:], axis=0), rtol=1e-12 + UNIT * cond)


def test_rows_unlike_those_before_are_left_to_qr(rng):
    M = rng.normal(size=(400, 5))
    R = triangle_of(M[:100])
    assert triangle_by_products(R, M[100:], 4, False) is not None
    assert triangle_by_products(R, 1e3 * M[100:], 4, False) is None
    assert triangle_by_products(R[:3], M[100:], 4, False) is None
    twice = M.copy()
    twice[:, 3] = twice[:, 0]
    assert triangle_by_products(triangle_of(twice[:100]), twice[100:], 4, False) is None
    empty = np.where(np.arange(5) == 2, 0.0, M)
    assert triangle_by_products(triangle_of(empty[:100]), M[100:], 4, False) is None


@pytest.mark.parametrize("kind", ["plain", "equal", "empty", "spike", "near"])
@pytest.mark.parametrize("cond", [1.0, 1e12])
def test_the_thin_qr_of_a_tall_matrix_is_as_good_as_by_reflections(cond, kind, rng):
    A = with_cond(rng, 5000, 20, cond)
    if kind == "equal":
        A[:, 7] = A[:, 3]
    elif kind == "empty":
        A[:, 7] = 0.0
    elif kind == "spike":  # in no sample of the rows
        A[17] *= 1e8
    elif kind == "near":
        A[:, 7] = A[:, 3] + 1e-13 * rng.normal(size=5000)
    Q, R = _thin_qr(A.copy())
    assert np.array_equal(R, np.triu(R))
    assert_allclose(Q.T @ Q, np.eye(20), atol=100 * UNIT)
    lengths = np.linalg.norm(A, axis=0)
    assert np.all(np.linalg.norm(Q @ R - A, axis=0) <= 100 * UNIT * lengths)


@settings(max_examples=15, deadline=None)
@given(
    jump=st.sampled_from([1.0, 1e4, 1e-4]),
    mean=st.sampled_from([0.0, 1e4]),
    start=st.integers(1, 200),
    step=st.integers(1, 400),
    seed=st.integers(0, 2**16),
)
def test_a_stream_that_changes_gives_the_fit_to_all_rows(jump, mean, start, step, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(1500, 4)) * [1.0, 1.0, jump, 1.0] + mean
    X[:start, 1] = 7.0  # constant at first
    X[700:] *= jump
    y = X @ np.ones(4) + rng.normal(size=1500)
    whole, stream = SketchedRegression().fit(X, y), SketchedRegression()
    for i in range(0, 1500, step):
        stream.partial_fit(X[i : i + step], y[i : i + step])
        stream._flushed()  # as if somebody looked
    # roundings of means that are 1e4 times what varies, or of columns that grow 1e4 times, at condition numbers of 1e4
    size = np.abs(whole.coef_).max()
    assert_allclose(stream.coef_, whole.coef_, rtol=0, atol=1e-7 * size)
    assert stream.rank_ == whole.rank_
    assert_allclose(stream.residual_norm_, whole.residual_norm_, rtol=1e-8)


def test_looking_at_a_stream_leaves_its_answer_as_it_is(rng):
    X = with_cond(rng, 3000, 8, 1e5)
    y = X @ np.ones(8) + 1e-3 * rng.normal(size=3000)
    shy, watched = SketchedRegression(), SketchedRegression()
    for i in range(0, 3000, 70):
        shy.partial_fit(X[i : i + 70], y[i : i + 70])
        assert watched.partial_fit(X[i : i + 70], y[i : i + 70]).coef_.shape == (8,)
    whole = SketchedRegression().fit(X, y)
    for stream in (shy, watched):
        assert_allclose(stream.coef_, whole.coef_, rtol=0, atol=1e-9 * np.abs(whole.coef_).max())


def test_dependent_columns_keep_their_rank_over_many_batches(rng):
    X = rng.normal(size=(30_000, 4))
    X = np.hstack([X, X[:, :1], np.eye(3)[np.arange(30_000) % 3]])  # one twice, and dummies that add up to the ones
    y = X.sum(axis=1) + rng.normal(size=30_000)
    whole, stream = SketchedRegression().fit(X, y), SketchedRegression()
    for i in range(0, 30_000, 500):
        stream.partial_fit(X[i : i + 500], y[i : i + 500])
        stream._flushed()
    assert stream.rank_ == whole.rank_ == 6
    assert_allclose(stream.coef_, whole.coef_, atol=1e-9)
    assert stream.coef_[0] == pytest.approx(stream.coef_[4], abs=1e-12)


@pytest.mark.parametrize("gap", [1e-4, 1e-8, 1e-11])
def test_nearly_equal_columns_cost_the_singular_values_no_digits(gap, rng):
    A = rng.normal(size=(3000, 20))
    A[:, 8] = A[:, 7] + gap * rng.normal(size=3000)
    b = A @ np.ones(20) + rng.normal(size=3000)
    exact = np.linalg.svd(A, compute_uv=False)
    direct, held = lstsq(A, b, method="direct", rng=0), compress(A, b, rng=0)
    for found in (direct.singular_values, np.linalg.svd(held.T, compute_uv=False)):
        # roundings of the largest one, as for any backward stable method
        assert_allclose(found, exact, rtol=0, atol=50 * UNIT * exact[0])
    assert direct.cond == pytest.approx(exact[0] / exact[-1], rel=50 * UNIT / gap)
    assert direct.backward_error < 5e-16 and defect(held.T, A) < 50 * UNIT


def test_a_negligible_direction_is_kept_where_that_is_asked(rng):
    A = with_cond(rng, 20_000, 30, 1e14)
    b = A @ rng.normal(size=30)
    model = SketchedRegression(fit_intercept=False, rcond=0.0, random_state=0).fit(A, b)
    assert model.rank_ == 30 and model.method_ == "direct"
    r = b - A @ model.coef_
    # a solution as good as by QR leaves a residual of roundings
    assert np.linalg.norm(r) < 1e-14 * np.linalg.norm(A) * np.linalg.norm(model.coef_)
    assert np.linalg.norm(model.coef_) < 2 * 30**0.5
