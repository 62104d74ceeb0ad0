"""Lasso paths: two solvers that agree, knots that are those of LARS, and ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import lars_path

import numcore
from numcore.algorithms.sparse_coding import lasso, lasso_path, sparse_encode
from numcore.algorithms.sparse_coding._lars import stretches
from numcore.results import ConvergenceWarning

SOLVERS = ("cd", "homotopy")


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture(params=[(30, 12), (20, 50)], ids=["tall", "wide"])
def problem(request, rng):
    return rng.normal(size=request.param), rng.normal(size=request.param[0])


def test_the_two_solvers_agree_along_the_path(problem):
    D, y = problem
    iterated, exact = (lasso_path(D, y, solver=solver, tol=1e-12) for solver in SOLVERS)
    np.testing.assert_array_equal(exact.regs, iterated.regs)
    np.testing.assert_allclose(exact.coefs, iterated.coefs, atol=1e-8)
    assert exact.gaps.max() < 1e-12 * (y @ y) and iterated.gaps.max() < 1e-12 * (y @ y)
    assert iterated.knots.size == 0


def test_the_knots_and_the_coefficients_there_are_those_of_scikit_learns_lars(problem):
    D, y = problem
    alphas, _, coefs = lars_path(D, y, method="lasso")
    knots = alphas[alphas > 1e-6] * len(y)
    path = lasso_path(D, y, regs=[*knots, knots[-1] / 2], solver="homotopy")
    np.testing.assert_allclose(path.knots[: len(knots)], knots, rtol=1e-9)
    np.testing.assert_allclose(path.coefs[:, :-1], coefs[:, : len(knots)], atol=1e-9)


def test_each_point_is_the_lasso_of_that_regularisation(problem):
    D, y = problem
    path = lasso_path(D, y, n_regs=7, tol=1e-12)
    for reg, coef in zip(path.regs, path.coefs.T, strict=True):
        np.testing.assert_allclose(coef, lasso(D, y, reg=reg, tol=1e-12).coef, atol=1e-7)


def test_the_default_regularisations_fall_from_where_the_first_column_enters(problem):
    D, y = problem
    path = lasso_path(D, y, n_regs=5, eps=1e-2)
    np.testing.assert_allclose(path.regs, np.max(np.abs(D.T @ y)) * np.logspace(0, -2, 5), rtol=1e-12)
    assert not path.coefs[:, 0].any() and path.coefs[:, 1].any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_regularisations_may_come_in_any_order(problem, solver):
    D, y = problem
    regs = np.array([0.5, 4.0, 1.0, 4.0, 1e6])
    path = lasso_path(D, y, regs=regs, solver=solver, tol=1e-12)
    np.testing.assert_array_equal(path.regs, regs)
    ordered = lasso_path(D, y, regs=np.sort(regs), solver=solver, tol=1e-12)
    np.testing.assert_allclose(path.coefs[:, np.argsort(regs, kind="stable")], ordered.coefs, atol=1e-8)
    np.testing.assert_array_equal(path.coefs[:, 1], path.coefs[:, 3])
    assert not path.coefs[:, 4].any()


def test_a_coefficient_leaves_the_support_and_joins_it_again_with_the_other_sign():
    """The third column lies between the others, so it joins first; in the end it has a negative coefficient."""
    D = np.array([[1.0, 0.0, 0.72], [0.0, 1.0, 0.72], [0.0, 0.0, 0.3]])
    y = D @ [1.0, 1.0, -0.2]
    path = lasso_path(D, y, regs=np.linspace(1.4, 1e-6, 500), solver="homotopy")
    signs = np.sign(path.coefs[2])
    assert [1, 0, -1] == [s for s, before in zip(signs[1:], signs[:-1], strict=True) if s != before]
    assert path.gaps.max() < 1e-13
    np.testing.assert_allclose(path.coefs[:, -1], [1, 1, -0.2], atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 16), st.booleans())
def test_ties_duplicates_opposites_and_zeros_do_not_lead_astray(seed, n, k, positive):
    """Small integers make many exact ties; every point of the path has to satisfy the conditions of optimality."""
    rng = np.random.default_rng(seed)
    D, y = rng.integers(-2, 3, size=(n, k)).astype(float), rng.integers(-3, 4, size=n).astype(float)
    G, c, w = D.T @ D, D.T @ y, rng.integers(1, 3, size=k).astype(float)
    scale = np.abs(c).max(initial=1.0)
    low = np.inf
    for stretch in stretches(c, G.__getitem__, G.diagonal().copy(), w, positive):
        assert stretch.high == low and stretch.low < stretch.high
        low = stretch.low
        for reg in (low, (low + min(stretch.high, 2 * scale)) / 2):
            a = np.zeros(k)
            a[stretch.support] = stretch.at(reg)
            g = c - G @ a
            assert np.max((g if positive else np.abs(g)) - reg * w, initial=-np.inf) < 1e-9 * scale
            S = np.abs(a) > 1e-9
            np.testing.assert_allclose(g[S], reg * w[S] * np.sign(a[S]), atol=1e-9 * scale)
            assert not positive or a.min() > -1e-9
    assert low == 0


def test_codes_of_many_signals_by_homotopy_are_those_of_coordinate_descent(rng):
    X, D = rng.normal(size=(20, 15)), rng.normal(size=(40, 15))
    w = rng.uniform(0.5, 2, 40)
    w[3] = np.inf
    for options in ({}, {"positive": True}, {"weights": w}):
        exact, iterated = (sparse_encode(X, D, reg=0.8, tol=1e-12, solver=s, **options) for s in ("homotopy", "cd"))
        np.testing.assert_allclose(exact.code, iterated.code, atol=1e-8)
        assert exact.converged.all() and exact.gap.max() < 1e-10


def test_homotopy_that_runs_out_of_knots_says_so(rng):
    X, D = rng.normal(size=(3, 15)), rng.normal(size=(40, 15))
    with pytest.warns(ConvergenceWarning, match="3 of 3"):
        result = sparse_encode(X, D, reg=0.1, solver="homotopy", max_iter=2)
    assert (result.n_iter == 2).all() and not result.converged.any()
    assert (result.n_nonzero == 2).all()


def test_a_tolerance_that_rounding_forbids_gives_one_warning_with_the_count(problem):
    D, y = problem
    with pytest.warns(ConvergenceWarning, match=r"lasso_path did not converge for \d of 4") as found:
        lasso_path(D, y, n_regs=4, tol=0, solver="homotopy")
    assert len(found) == 1


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_extreme_scales_survive(problem, solver, scale):
    D, y = problem
    plain, scaled = (lasso_path(D, y * s, n_regs=10, solver=solver, tol=1e-10) for s in (1, scale))
    np.testing.assert_allclose(scaled.coefs / scale, plain.coefs, atol=1e-9)
    np.testing.assert_allclose(scaled.regs / scale, plain.regs, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_stays_and_a_zero_signal_is_survived(problem, solver):
    D, y = problem
    path = lasso_path(D.astype(np.float32), y.astype(np.float32), n_regs=5, solver=solver)
    assert path.coefs.dtype == np.float32 and path.regs.dtype == path.gaps.dtype == np.float64
    np.testing.assert_allclose(path.coefs, lasso_path(D, y, n_regs=5, solver=solver).coefs, atol=1e-2)
    empty = lasso_path(D, np.zeros_like(y), n_regs=3, solver=solver)
    assert not empty.coefs.any() and (empty.regs > 0).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": "lars"}, ValueError, "solver must be one of 'cd', 'homotopy'"),
        ({"regs": [1.0, 0.0]}, ValueError, "regs must be positive"),
        ({"regs": []}, ValueError, "regs must be positive, one at least"),
        ({"regs": 1.0}, ValueError, "regs must be 1-D"),
        ({"n_regs": 0}, ValueError, "n_regs must be at least 1"),
        ({"eps": 1.0}, ValueError, "eps"),
        ({"tol": np.nan}, ValueError, "tol"),
    ],
)
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        lasso_path(np.eye(2), np.ones(2), **options)


def test_results_come_back_from_a_file(tmp_path, problem):
    path = lasso_path(*problem, n_regs=3, solver="homotopy")
    numcore.save(path, tmp_path / "path.numcore")
    np.testing.assert_array_equal(numcore.load(tmp_path / "path.numcore").knots, path.knots)
