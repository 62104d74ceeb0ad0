"""Arrays of another library go in and come out, with NumPy's numbers."""

import array_api_strict as xp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore.algorithms.transport import (
    GridCost,
    PlanDisplay,
    PointCloudCost,
    entropic_map,
    sinkhorn,
    sinkhorn_batch,
    sinkhorn_divergence,
    sinkhorn_newton,
)

FIGURES = ("value", "linear_cost", "entropy_value", "dual_value", "reg")


def strict(*arrays):
    return [None if x is None else xp.asarray(x) for x in arrays]


def assert_like(result, expected, atol=1e-10, names=("f", "g", "plan")):
    """The same sums in another order: 1e-10 is a hundred thousand roundings, and a tenth of tol."""
    for name in names:
        ours, theirs = getattr(result, name), getattr(expected, name)
        assert isinstance(ours, type(xp.ones(1))), f"{name} is a {type(ours)}"
        assert str(ours.dtype).rpartition(".")[2] == str(theirs.dtype)
        assert_allclose(np.asarray(ours), theirs, atol=atol)
    for name in FIGURES:
        assert_allclose(getattr(result, name), getattr(expected, name), atol=atol)
    assert np.all(result.converged) and np.array_equal(result.n_iter, expected.n_iter)


@pytest.mark.parametrize("method", ["auto", "log", "kernel", "newton"])
@pytest.mark.parametrize("eps", [0.1, 4e-3])
def test_stored_costs(problem, method, eps):
    C, a, b = problem.C, problem.a, problem.b
    options = {"reg": eps, "method": method, "max_iter": 50_000}
    expected = sinkhorn(C, a, b, **options)
    result = sinkhorn(*strict(C, a, b), **options)
    # small eps: slow modes, whose error at the stop differs in its tenth digit
    if method == "newton" or eps < 0.1:
        assert_allclose(np.asarray(result.plan), expected.plan, atol=1e-8)
        assert isinstance(result.f, type(xp.ones(1))) and result.converged
    else:
        assert_like(result, expected)
    V = np.ones((31, 2))
    assert_allclose(np.asarray(result.apply(xp.asarray(V))), expected.apply(V), atol=1e-8)
    assert_allclose(
        np.asarray(result.apply(xp.asarray(V[:23]), transpose=True)), expected.apply(V[:23], True), atol=1e-8
    )


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan", "cosine", ("power", 1.5)])
def test_point_clouds(clouds, metric):
    expected = sinkhorn(PointCloudCost(clouds.X, clouds.Y, metric), clouds.a, clouds.b, reg=0.1)
    X, Y, a, b = strict(clouds.X, clouds.Y, clouds.a, clouds.b)
    result = sinkhorn(PointCloudCost(X, Y, metric), a, b, reg=0.1)
    assert_like(result, expected, atol=1e-8)
    for options in ({}, {"direction": "inverse"}, {"debiased": True}):
        ours, theirs = entropic_map(result, X, **options), entropic_map(expected, clouds.X, **options)
        assert isinstance(ours, type(xp.ones(1)))
        assert_allclose(np.asarray(ours), theirs, atol=1e-6)


def test_newton_on_point_clouds(clouds):
    X, Y, a, b = strict(clouds.X, clouds.Y, clouds.a, clouds.b)
    expected = sinkhorn_newton(PointCloudCost(clouds.X, clouds.Y), clouds.a, clouds.b, reg=0.02)
    result = sinkhorn_newton(PointCloudCost(X, Y), a, b, reg=0.02)
    assert result.converged
    assert_allclose(np.asarray(result.plan), expected.plan, atol=1e-11)


def test_grids(rng, weights):
    axes, a = [np.linspace(0, 1, 4), np.linspace(0, 1, 5)], weights(rng, 20)
    expected = sinkhorn(GridCost(axes), a, reg=0.1)
    result = sinkhorn(GridCost(strict(*axes)), xp.asarray(a), reg=0.1)
    assert_like(result, expected)
    assert_allclose(np.asarray(result.apply(xp.asarray(a))), expected.apply(a), atol=1e-12)


@pytest.mark.parametrize("rho", [1.0, (0.5, np.inf)])
def test_unbalanced_problems(problem, rho):
    expected = sinkhorn(problem.C, problem.a, problem.b, reg=0.1, marginal_reg=rho)
    assert_like(sinkhorn(*strict(problem.C, problem.a, problem.b), reg=0.1, marginal_reg=rho), expected)


def test_zero_weights_forbidden_pairs_and_one_cell(problem):
    C, a = problem.C.copy(), problem.a.copy()
    C[::3, ::2], a[3] = np.inf, 0
    a /= a.sum()
    for method in ("log", "kernel"):
        expected = sinkhorn(C, a, reg=0.5, method=method)
        assert_like(sinkhorn(*strict(C, a), reg=0.5, method=method), expected, atol=1e-8)
    assert float(sinkhorn(xp.asarray([[2.0]]), reg=1.0).value) == pytest.approx(2.0)


@pytest.mark.parametrize("shared", [False, True])
def test_batches(rng, weights, shared):
    C, a = rng.random((3, 8, 9)), np.stack([weights(rng, 8) for _ in range(3)])
    C = C[0] if shared else C
    expected = sinkhorn_batch(C, a, reg=0.1)
    assert_like(sinkhorn_batch(*strict(C, a), reg=0.1), expected)
    init = sinkhorn_batch(*strict(C, a), reg=0.1)
    assert sinkhorn_batch(*strict(C, a), reg=0.1, init=init).n_iter.max() <= 2


@pytest.mark.parametrize("rho", [None, 1.0])
def test_divergences_and_their_gradients(clouds, rho):
    given = clouds.X, clouds.Y, clouds.a, clouds.b
    options = {"reg": 0.1, "marginal_reg": rho, "gradient": True}
    expected, result = sinkhorn_divergence(*given, **options), sinkhorn_divergence(*strict(*given), **options)
    assert_allclose(result.value, expected.value, atol=1e-10)
    for name in ("grad_X", "grad_Y", "grad_a", "grad_b"):
        ours = getattr(result, name)
        assert isinstance(ours, type(xp.ones(1)))
        assert_allclose(np.asarray(ours), getattr(expected, name), atol=1e-8)


def test_float32_stays_float32(clouds):
    C = xp.asarray(clouds.C.astype(np.float32))
    for method in ("log", "kernel", "newton"):
        result = sinkhorn(C, reg=0.1, method=method)
        assert {result.f.dtype, result.g.dtype, result.plan.dtype} == {xp.float32}
    X, Y = (xp.asarray(Z.astype(np.float32)) for Z in (clouds.X, clouds.Y))
    result = sinkhorn(PointCloudCost(X, Y), reg=0.1)
    assert {result.f.dtype, result.plan.dtype, entropic_map(result, X).dtype} == {xp.float32}


def test_float32_storage_of_a_float64_cost(problem):
    result = sinkhorn(xp.asarray(problem.C), reg=0.05, storage="float32")
    assert result.converged and result.marginal_error <= 1e-9 and result.plan.dtype == xp.float64


def test_weights_and_starts_may_be_numpy_arrays_beside_a_cost_that_is_not(problem):
    expected = sinkhorn(problem.C, problem.a, problem.b, reg=0.1)
    result = sinkhorn(xp.asarray(problem.C), problem.a, list(problem.b), reg=0.1)
    assert_like(result, expected)
    assert sinkhorn(xp.asarray(problem.C), problem.a, problem.b, reg=0.1, init=(expected.f, expected.g)).n_iter <= 2


def test_a_sparse_plan_is_refused_with_the_way_out(problem):
    with pytest.raises(TypeError, match="apply"):
        sinkhorn(xp.asarray(problem.C), reg=0.1).sparse_plan()


def test_a_plan_can_be_drawn(problem):
    pytest.importorskip("matplotlib").use("Agg")
    result = sinkhorn(xp.asarray(problem.C), reg=0.1)
    (image,) = PlanDisplay.from_result(result).ax_.get_images()
    assert_allclose(image.get_array(), np.asarray(result.plan))
    import matplotlib.pyplot as plt

    plt.close("all")
