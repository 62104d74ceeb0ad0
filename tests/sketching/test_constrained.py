"""Constrained least squares: optimality conditions, other solvers, and bounds on the gap that hold."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression

import numcore
from numcore.algorithms.sketching import constrained_lstsq
from numcore.results import ConvergenceWarning


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def data(n, d, rng, cond=1.0):
    A = rng.normal(size=(n, d)) * np.geomspace(1, 1 / cond, d)
    return A, A @ rng.normal(size=d) + rng.normal(size=n)


@pytest.mark.parametrize("shape", [(3000, 20), (40, 30), (8, 15)])
@pytest.mark.parametrize("cond", [1.0, 1e5])
def test_nonnegative_solutions_are_those_of_scipy(shape, cond, rng):
    A, b = data(*shape, rng, cond)
    found = constrained_lstsq(A, b, rng=0)
    expected, norm = scipy.optimize.nnls(A, b)
    assert_allclose(found.residual_norm, norm, rtol=1e-12, atol=1e-13)
    assert np.array_equal(found.active, found.x == 0) and found.x.min() >= 0 and found.converged
    if shape[0] < shape[1]:  # there are many solutions
        return
    # forward error: a rounding times the condition number of the free columns, at most 1e5
    assert_allclose(found.x, expected, rtol=1e-8, atol=1e-12)
    assert np.array_equal(found.active, expected == 0)
    assert_allclose(
        found.x, LinearRegression(positive=True, fit_intercept=False).fit(A, b).coef_, rtol=1e-8, atol=1e-12
    )


def test_solutions_in_a_box_are_those_of_scipy(rng):
    A, b = data(500, 12, rng)
    low, high = np.linspace(-1, 0, 12), np.linspace(0.1, 0.7, 12)
    low[3], high[4] = -np.inf, np.inf
    found = constrained_lstsq(A, b, constraint="box", bounds=(low, high), rng=0)
    expected = scipy.optimize.lsq_linear(A, b, (low, high), method="bvls", tol=1e-15)
    assert_allclose(found.x, expected.x, atol=1e-13)
    assert np.array_equal(found.active, expected.active_mask != 0) and found.converged
    low[7] = high[7] = 0.25
    fixed = constrained_lstsq(A, b, constraint="box", bounds=(low, high), rng=0)
    assert fixed.x[7] == 0.25 and fixed.active[7] and fixed.residual_norm >= found.residual_norm


@settings(max_examples=30, deadline=None)
@given(
    constraint=st.sampled_from(["l1", "simplex"]),
    radius=st.sampled_from([0.01, 1.0, 4.0, 50.0]),
    n=st.integers(1, 80),
    d=st.integers(1, 20),
    cond=st.sampled_from([1.0, 1e3]),
    seed=st.integers(0, 50),
)
def test_no_feasible_direction_leads_downhill(constraint, radius, n, d, cond, seed):
    A, b = data(n, d, np.random.default_rng(seed), cond)
    found = constrained_lstsq(A, b, constraint=constraint, radius=radius, rng=0)
    x, g = found.x, A.T @ (A @ found.x - b)
    assert np.abs(x).sum() <= radius * (1 + 1e-12)
    if constraint == "simplex":
        assert x.min() >= 0 and x.sum() == pytest.approx(radius, rel=1e-12)
    lowest = g.min() if constraint == "simplex" else -np.abs(g).max()
    worth = max(b @ b / 2, np.linalg.norm(A, 2) ** 2 * radius**2)
    # the first-order condition, as far as the tolerance asks and rounding lets it be seen
    assert g @ x - radius * lowest <= 1e-10 * worth
    assert found.converged and np.array_equal(found.active, x == 0)


@pytest.mark.parametrize("constraint", ["l1", "simplex"])
def test_ball_and_simplex_agree_with_a_general_solver(constraint, rng):
    A, b = data(200, 5, rng)
    found = constrained_lstsq(A, b, constraint=constraint, radius=0.8, rng=0)
    # x = u - v with u, v >= 0 and sum u + v = 0.8 (l1: the bound binds here)
    parts = np.hstack([A, -A]) if constraint == "l1" else A
    other = scipy.optimize.minimize(
        lambda z: np.sum((parts @ z - b) ** 2) / 2,
        np.full(parts.shape[1], 0.8 / parts.shape[1]),
        jac=lambda z: parts.T @ (parts @ z - b),
        bounds=[(0, None)] * parts.shape[1],
        constraints={"type": "eq", "fun": lambda z: z.sum() - 0.8},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert_allclose(found.residual_norm**2 / 2, other.fun, rtol=1e-8)


def test_a_ball_that_holds_the_free_solution_changes_nothing(rng):
    A, b = data(100, 4, rng)
    free = np.linalg.lstsq(A, b, rcond=None)[0]
    found = constrained_lstsq(A, b, constraint="l1", radius=1.01 * np.abs(free).sum(), rng=0)
    assert_allclose(found.x, free, rtol=1e-12)
    assert found.n_iter == 0 and not found.active.any()


@pytest.mark.parametrize("constraint", ["nonneg", "box", "l1", "simplex"])
def test_the_gap_bounds_the_distance_from_the_minimum(constraint, rng):
    A, b = data(300, 30, rng, 100.0)
    options = {"constraint": constraint, "bounds": (-0.2, 0.3) if constraint == "box" else None, "radius": 9.0}
    best = constrained_lstsq(A, b, rng=0, **options)
    if constraint in ("l1", "simplex"):
        with pytest.warns(ConvergenceWarning, match="constrained_lstsq did not converge: it used all 2"):
            rough = constrained_lstsq(A, b, max_iter=2, tol=0.0, rng=0, **options)
        assert not rough.converged and rough.n_iter == 2
    else:
        rough = best
    above = (rough.residual_norm**2 - best.residual_norm**2) / 2
    rounding = 1e-14 * (b @ b)
    assert -rounding <= above <= rough.gap + rounding
    assert best.gap <= 1e-10 * (b @ b)


def test_weights_act_as_repetitions(rng):
    A, b = data(400, 6, rng)
    w = rng.integers(0, 3, size=400)
    for options in ({}, {"constraint": "simplex"}, {"constraint": "l1"}, {"constraint": "box", "bounds": (-0.3, 0.3)}):
        found = constrained_lstsq(A, b, sample_weight=w, rng=0, **options)
        repeated = constrained_lstsq(np.repeat(A, w, axis=0), np.repeat(b, w), rng=0, **options)
        assert_allclose(found.x, repeated.x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"constraint": "l1"}, {"constraint": "box", "bounds": (-0.1, 0.1)}])
def test_scales_matrices_and_ranks_of_every_kind(options, rng):
    A, b = data(600, 5, rng)
    plain = constrained_lstsq(A, b, rng=0, **options)
    for scale in (1e-200, 1e200):
        scaled = constrained_lstsq(A * scale, b * scale, rng=0, **options)
        assert_allclose(scaled.x, plain.x, atol=1e-9)  # l1 ends at a gap of 1e-10
        assert_allclose(scaled.residual_norm / scale, plain.residual_norm, rtol=1e-10)
    for X in (scipy.sparse.csr_array(A), np.asfortranarray(A)):
        assert_allclose(constrained_lstsq(X, b, rng=0, **options).x, plain.x, atol=1e-9)
    assert constrained_lstsq(A.astype("f4"), b.astype("f4"), rng=0, **options).x.dtype == np.float32
    deficient = A.copy()
    deficient[:, 1], deficient[:, 2] = deficient[:, 0], 0.0
    assert constrained_lstsq(deficient, b, rng=0, **options).converged
    assert not constrained_lstsq(A, 0 * b, rng=0, **options).x.any()


def test_callbacks_see_and_stop_the_iteration(rng):
    A, b = data(300, 20, rng, 100.0)
    seen = []

    def watch(state):
        seen.append((state.n_iter, state.gap, state.x.copy()))
        return state.n_iter == 3

    found = constrained_lstsq(A, b, constraint="l1", radius=2.0, tol=0.0, callback=watch, rng=0)
    assert [n for n, _, _ in seen] == [1, 2, 3] and not found.converged and found.n_iter == 3
    assert np.array_equal(seen[-1][2], found.x) and seen[-1][1] == pytest.approx(found.gap)


def test_files_keep_the_result(rng, tmp_path):
    found = constrained_lstsq(*data(50, 3, rng))
    numcore.save(found, tmp_path / "found")
    assert np.array_equal(numcore.load(tmp_path / "found").x, found.x)


def test_bad_input_is_named(rng):
    A, b = data(50, 3, rng)
    with pytest.raises(ValueError, match="constraint must be one of"):
        constrained_lstsq(A, b, constraint="ball")
    with pytest.raises(ValueError, match="radius"):
        constrained_lstsq(A, b, constraint="l1", radius=0.0)
    with pytest.raises(ValueError, match="bounds must be given for constraint 'box' alone"):
        constrained_lstsq(A, b, constraint="box")
    with pytest.raises(ValueError, match="bounds must be given for constraint 'box' alone"):
        constrained_lstsq(A, b, bounds=(0, 1))
    with pytest.raises(ValueError, match=r"bounds must satisfy low <= high; 1 of 3"):
        constrained_lstsq(A, b, constraint="box", bounds=([0, 0, 2], 1))
    with pytest.raises(ValueError, match=r"low of bounds must be a number or have shape \(3,\)"):
        constrained_lstsq(A, b, constraint="box", bounds=(np.zeros(4), 1))
    with pytest.raises(ValueError, match="bounds must be a pair"):
        constrained_lstsq(A, b, constraint="box", bounds=3)
    with pytest.raises(ValueError, match=r"b must be 1-D; got shape \(50, 1\)"):
        constrained_lstsq(A, b[:, None])
    with pytest.raises(ValueError, match="max_iter"):
        constrained_lstsq(A, b, max_iter=0)
