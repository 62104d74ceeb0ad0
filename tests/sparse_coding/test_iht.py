"""Iterative hard thresholding: descends, recovers planted codes, ends with least squares."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numcore.algorithms.sparse_coding import iht
from numcore.results import ConvergenceWarning


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def planted(rng, n, k, p, s):
    D = rng.normal(size=(k, p)) / np.sqrt(p)
    A = np.zeros((n, k))
    for a in A:
        a[rng.choice(k, s, replace=False)] = rng.choice([-1, 1], s) * rng.uniform(1, 2, s)
    return A @ D, D, A


@pytest.mark.parametrize("normalized", [True, False])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), s=st.integers(1, 6))
def test_the_objective_never_increases(normalized, seed, s):
    rng = np.random.default_rng(seed)
    X, D = rng.normal(size=(4, 10)), rng.normal(size=(25, 10))
    before = np.sum(X**2, axis=1) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for steps in range(1, 25):
            now = iht(X, D, n_nonzero=s, normalized=normalized, debias=False, tol=0, max_iter=steps).objective
            assert (now <= before * (1 + 1e-12)).all()
            before = now


@pytest.mark.parametrize("normalized", [True, False])
def test_planted_codes_are_recovered(rng, normalized):
    X, D, A = planted(rng, 20, 100, 60, 4)
    if not normalized:
        D, A = D / np.linalg.norm(D, 2), A * np.linalg.norm(D, 2)
    result = iht(X, D, n_nonzero=4, normalized=normalized, max_iter=2000)
    hit = ((result.code != 0) == (A != 0)).all(axis=1)
    # a local method: it may miss some, and those that it finds it finds exactly
    assert hit.mean() >= 0.8
    np.testing.assert_allclose(result.code[hit], A[hit], rtol=1e-9)


def test_the_normalized_step_does_not_depend_on_the_scale_of_the_dictionary(rng):
    X, D, _ = planted(rng, 10, 40, 30, 3)
    plain = iht(X, D, n_nonzero=3)
    scaled = iht(X, 8 * D, n_nonzero=3)
    np.testing.assert_allclose(scaled.code * 8, plain.code, rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(scaled.n_iter, plain.n_iter)


def test_debiasing_is_least_squares_on_the_support(rng):
    X, D = rng.normal(size=(12, 15)), rng.normal(size=(40, 15))
    raw, result = (iht(X, D, n_nonzero=5, debias=debias, tol=1e-3) for debias in (False, True))
    np.testing.assert_array_equal(raw.code != 0, result.code != 0)
    for x, a in zip(X, result.code, strict=True):
        S = np.flatnonzero(a)
        np.testing.assert_allclose(a[S], np.linalg.lstsq(D[S].T, x, rcond=None)[0], rtol=1e-9, atol=1e-12)
    assert (result.objective <= raw.objective).all()


def test_a_converged_code_is_a_fixed_point_of_the_plain_step(rng):
    X, D = rng.normal(size=(8, 12)), rng.normal(size=(20, 12))
    A = iht(X, D, n_nonzero=4, normalized=False, debias=False, tol=1e-12, max_iter=100_000).code
    step = 1 / np.linalg.norm(D, 2) ** 2
    V = A + step * (X - A @ D) @ D.T
    kept = np.sort(np.argsort(-np.abs(V), axis=1)[:, :4], axis=1)
    moved = np.zeros_like(V)
    np.put_along_axis(moved, kept, np.take_along_axis(V, kept, axis=1), axis=1)
    np.testing.assert_allclose(moved, A, atol=1e-9)


def test_dependent_atoms_in_a_support_are_flagged_and_get_the_least_norm(rng):
    D = rng.normal(size=(4, 10))
    D[1] = D[0]
    result = iht(D[:1] * 2 + D[2:3], D, n_nonzero=3)
    assert result.degenerate[0] and result.objective[0] < 1e-20
    assert result.code[0, 0] == pytest.approx(1) and result.code[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_extreme_scales_survive(rng, scale):
    X, D, _ = planted(rng, 5, 30, 20, 3)
    plain = iht(X, D, n_nonzero=3)
    np.testing.assert_allclose(iht(X * scale, D, n_nonzero=3).code / scale, plain.code, rtol=1e-9)
    np.testing.assert_allclose(iht(X, D * scale, n_nonzero=3).code * scale, plain.code, rtol=1e-9)


def test_signals_that_used_all_steps_are_counted_in_one_warning(rng):
    X, D = rng.normal(size=(6, 12)), rng.normal(size=(20, 12))
    with pytest.warns(ConvergenceWarning, match="iht did not converge for 6 of 6") as found:
        result = iht(X, D, n_nonzero=4, max_iter=1)
    assert len(found) == 1 and not result.converged.any() and (result.n_iter == 1).all()


def test_zero_signals_zero_atoms_and_no_signals_are_survived():
    D = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert not iht(np.zeros((1, 2)), D, n_nonzero=1).code.any()
    assert iht([[2.0, 1.0]], D, n_nonzero=5).code.tolist() == [[2.0, 0.0]]
    assert not iht([[2.0, 1.0]], np.zeros((2, 2)), n_nonzero=1).code.any()
    assert iht(np.empty((0, 2)), D, n_nonzero=1).code.shape == (0, 2)


def test_float32_stays(rng):
    X, D, _ = planted(rng, 5, 30, 20, 3)
    single = iht(X.astype(np.float32), D.astype(np.float32), n_nonzero=3)
    assert single.code.dtype == np.float32
    np.testing.assert_allclose(single.code, iht(X, D, n_nonzero=3).code, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_nonzero": 0}, ValueError, "n_nonzero must be at least 1"),
        ({"n_nonzero": 1, "max_iter": 0}, ValueError, "max_iter must be at least 1"),
        ({"n_nonzero": 1, "tol": -1}, ValueError, "tol"),
        ({"n_nonzero": 1, "debias": "yes"}, ValueError, "debias"),
    ],
)
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        iht(np.ones((1, 2)), np.eye(2), **options)
