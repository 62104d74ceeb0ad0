"""Many problems at once give what they give one by one."""

import inspect
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore.algorithms.transport import GridCost, PointCloudCost, SinkhornBatchResult, sinkhorn, sinkhorn_batch
from numcore.results import ConvergenceWarning

B, N, M = 5, 12, 15


@pytest.fixture
def batch(rng, weights):
    a, b = (np.stack([weights(rng, k) for _ in range(B)]) for k in (N, M))
    return rng.random((B, N, M)), a, b


def assert_one_by_one(result, problems, **options):
    assert len(result) == len(problems)
    for k, problem in enumerate(problems):
        own = sinkhorn(*problem, **options)
        assert_allclose(result.plan[k], own.plan, atol=1e-8)  # 10 tol
        assert_allclose(result[k].plan, own.plan, atol=1e-8)
        # second order in the marginal error for the values, first for the rest
        assert_allclose([result.value[k], result.dual_value[k]], [own.value, own.dual_value], rtol=1e-9)
        assert_allclose(result.linear_cost[k], own.linear_cost, rtol=1e-7)
        assert_allclose(result.entropy_value[k], own.entropy_value, rtol=1e-7)
        assert result.reg[k] == pytest.approx(own.reg, rel=1e-14)
        assert result.converged[k]


def test_the_parameters_and_defaults_are_those_of_the_specification():
    parameters = inspect.signature(sinkhorn_batch).parameters
    defaults = {"a": None, "b": None, "reg": inspect.Parameter.empty, "reg_scale": "absolute", "tol": None}
    defaults |= {"max_iter": 10000, "marginal_reg": None, "init": None}
    assert list(parameters) == ["cost", *defaults]
    assert {name: parameters[name].default for name in defaults} == defaults


def test_fields_have_a_leading_axis_of_problems(batch):
    result = sinkhorn_batch(*batch, reg=0.1)
    assert isinstance(result, SinkhornBatchResult)
    assert result.f.shape == (B, N) and result.g.shape == (B, M) and result.plan.shape == (B, N, M)
    figures = ("value", "linear_cost", "entropy_value", "dual_value", "reg", "marginal_error")
    for name in (*figures, "converged", "n_iter", "n_passes"):
        assert getattr(result, name).shape == (B,)
    assert result.converged.dtype == bool
    for k in range(B):
        assert result[k].value == result.value[k] and np.array_equal(result[k].f, result.f[k])


@pytest.mark.parametrize("eps", [1.0, 0.05, 1e-3])
@pytest.mark.parametrize("shared", ["nothing", "cost", "a", "b"])
def test_a_batch_is_its_problems_one_by_one(batch, eps, shared):
    C, a, b = batch
    tol = {"max_iter": 100_000, "tol": 1e-9 if eps > 1e-2 else 1e-6}
    if shared == "cost":
        C = C[0]
    elif shared == "a":
        a = a[0]
    elif shared == "b":
        b = None
    result = sinkhorn_batch(C, a, b, reg=eps, **tol)
    problems = [
        (
            C if C.ndim == 2 else C[k],
            a if a.ndim == 1 else a[k],
            None if b is None else b[k],
        )
        for k in range(B)
    ]
    for k, problem in enumerate(problems):
        own = sinkhorn(*problem, reg=eps, **tol)
        assert_allclose(result.plan[k], own.plan, atol=20 * tol["tol"])
        assert_allclose(result.value[k], own.value, rtol=1e-9 if eps > 1e-2 else 1e-6)


def test_a_shared_cost_at_large_eps_runs_as_matrix_products_and_at_small_in_logs(batch):
    C, a, b = batch
    assert sinkhorn_batch(C[0], a, b, reg=0.1).method == "kernel"
    assert sinkhorn_batch(C[0], a, b, reg=1e-3, tol=1e-2).method == "log"


@pytest.mark.parametrize("form", ["cloud", "grid"])
def test_costs_that_are_never_stored_can_be_shared(rng, weights, form):
    cost = (
        PointCloudCost(rng.random((8, 2)), rng.random((8, 2))) if form == "cloud" else GridCost([np.linspace(0, 1, 8)])
    )
    a = np.stack([weights(rng, 8) for _ in range(3)])
    assert_one_by_one(sinkhorn_batch(cost, a, reg=0.1), [(cost, a[k]) for k in range(3)], reg=0.1)


@pytest.mark.parametrize("rho", [0.5, (0.2, 3.0), (np.inf, 1.0)])
@pytest.mark.parametrize("shared", [False, True])
def test_unbalanced_batches_are_their_problems_one_by_one(batch, rho, shared):
    C, a, b = batch
    C, a = (C[0] if shared else C), 2 * a
    result = sinkhorn_batch(C, a, b, reg=0.1, marginal_reg=rho)
    problems = [(C if shared else C[k], a[k], b[k]) for k in range(B)]
    assert_one_by_one(result, problems, reg=0.1, marginal_reg=rho)


@pytest.mark.parametrize("scale", ["mean", "max"])
def test_the_scale_is_each_problems_own(batch, scale):
    C, a, b = batch
    C = C * np.arange(1, B + 1)[:, None, None]
    result = sinkhorn_batch(C, a, b, reg=0.1, reg_scale=scale)
    unit = [a[k] @ C[k] @ b[k] if scale == "mean" else C[k].max() for k in range(B)]
    assert_allclose(result.reg, 0.1 * np.array(unit), rtol=1e-14)
    assert_one_by_one(result, list(zip(C, a, b, strict=True)), reg=0.1, reg_scale=scale)


def test_each_problem_stops_on_its_own(batch):
    C, a, b = batch
    spread = 10.0 ** np.arange(-2, 1)
    result = sinkhorn_batch(C[0] * spread[:, None, None], a[0], b[0], reg=0.05)
    own = [sinkhorn(C[0] * t, a[0], b[0], reg=0.05, relaxation=1.0, annealing=False, method="log") for t in spread]
    assert list(result.n_iter) == [r.n_iter for r in own] and len(set(result.n_iter)) == 3
    assert (result.marginal_error <= 1e-9).all()


def test_a_batch_passed_back_converges_in_two_iterations(batch):
    for C in (batch[0], batch[0][0]):
        first = sinkhorn_batch(C, *batch[1:], reg=0.03)
        for init in (first, (first.f, first.g), (None, first.g), (first.f, None)):
            assert sinkhorn_batch(C, *batch[1:], reg=0.03, init=init).n_iter.max() <= 2


def test_problems_that_run_out_of_iterations_are_counted_in_the_warning(batch):
    C, a, b = batch
    C = C * np.array([0.0, 1, 1, 1, 0])[:, None, None]
    with pytest.warns(ConvergenceWarning, match="3 of 5") as caught:
        result = sinkhorn_batch(C, a, b, reg=0.01, max_iter=4)
    assert list(result.converged) == [True, False, False, False, True] and caught[0].filename == __file__
    assert np.isfinite(result.plan).all()


def test_an_infeasible_problem_does_not_spoil_the_others(batch):
    C, a, b = batch
    C[2, :2, 1:] = np.inf  # two sources with more mass than their one target takes
    with pytest.warns(ConvergenceWarning, match="1 of 5"):
        result = sinkhorn_batch(C, a, b, reg=0.1, max_iter=300)
    assert list(result.converged) == [True, True, False, True, True] and np.isfinite(result.plan).all()


def test_zero_weights_leave_empty_rows_and_finite_potentials(batch):
    C, a, b = batch
    a[0, 3] = b[1, 4] = b[1, 5] = 0
    a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
    for cost in (C, C[0]):
        result = sinkhorn_batch(cost, a, b, reg=0.1)
        assert not result.plan[0, 3].any() and not result.plan[1, :, 4:6].any()
        assert np.isfinite(result.f).all() and np.isfinite(result.g).all()
        problems = [(cost if cost.ndim == 2 else cost[k], a[k], b[k]) for k in range(B)]
        assert_one_by_one(result, problems, reg=0.1)


def test_float32_stays_float32(batch):
    C, a, b = batch
    double = sinkhorn_batch(C, a, b, reg=0.1)
    for cost in (C.astype(np.float32), C[0].astype(np.float32)):
        single = sinkhorn_batch(cost, a, b, reg=0.1)
        assert {x.dtype for x in (single.f, single.g, single.plan, single.apply(np.ones(M)))} == {np.dtype(np.float32)}
    assert_allclose(sinkhorn_batch(C.astype(np.float32), a, b, reg=0.1).value, double.value, rtol=1e-4)


def test_apply_and_sparse_plans_act_problem_by_problem(rng, batch):
    result = sinkhorn_batch(*batch, reg=0.05)
    P, V = result.plan, rng.normal(size=(B, M, 2))
    assert_allclose(result.apply(V), P @ V, atol=1e-15)
    assert_allclose(result.apply(V[0]), P @ V[0], atol=1e-15)
    assert_allclose(result.apply(V[:, :, 0]), np.einsum("kij,kj->ki", P, V[:, :, 0]), atol=1e-15)
    W = rng.normal(size=N)
    assert_allclose(result.apply(W, transpose=True), np.einsum("kij,i->kj", P, W), atol=1e-15)
    for sparse, plan in zip(result.sparse_plan(1e-4), P, strict=True):
        assert_allclose(sparse.toarray(), np.where(plan >= 1e-4, plan, 0), rtol=1e-12)


def test_a_batch_survives_pickling(batch):
    result = sinkhorn_batch(*batch, reg=0.1)
    back = pickle.loads(pickle.dumps(result))
    assert np.array_equal(back.plan, result.plan) and np.array_equal(back.value, result.value)


def test_a_batch_of_one_is_one_problem(batch):
    C, a, b = batch
    assert_one_by_one(sinkhorn_batch(C[:1], a[:1], b[:1], reg=0.1), [(C[0], a[0], b[0])], reg=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": lambda C: C[:3]}, "same positive number of problems"),
        ({"a": lambda a: a[:, :-1]}, r"a must have shape \(12,\)"),
        ({"b": lambda b: np.where(np.arange(B)[:, None] == 3, -b, b)}, "problem 3: b must not be negative"),
        ({"b": lambda b: b * np.where(np.arange(B) == 2, 2, 1)[:, None]}, "problem 2: a and b must have equal sums"),
        ({"cost": lambda C: np.where(C == C.max(), np.nan, C)}, "cost must be free of nan"),
    ],
)
def test_bad_batches_are_refused_with_the_number_of_the_problem(batch, change, message):
    arguments = dict(zip(("cost", "a", "b"), batch, strict=True))
    arguments |= {name: alter(arguments[name]) for name, alter in change.items()}
    with pytest.raises(ValueError, match=message):
        sinkhorn_batch(**arguments, reg=0.1)


def test_a_batch_needs_an_axis_of_problems(rng):
    with pytest.raises(ValueError, match="leading axis of problems"):
        sinkhorn_batch(rng.random((3, 3)), reg=0.1)


@pytest.mark.parametrize("init", [(np.zeros((B, N + 1)), None), (None, np.zeros(M)), 3, "xy"])
def test_a_bad_init_is_refused_by_name(batch, init):
    with pytest.raises((ValueError, TypeError), match="init"):
        sinkhorn_batch(*batch, reg=0.1, init=init)


def test_a_forbidden_row_or_column_without_weight_is_left_out_in_the_shared_kernel_too(rng):
    C = rng.random((5, 6))
    C[4], C[:, 2] = np.inf, np.inf
    a, b = np.array([0.25] * 4 + [0.0]), np.full(6, 0.2)
    b[2] = 0
    batch = sinkhorn_batch(C, np.stack([a, a]), b, reg=0.1)
    assert batch.method == "kernel" and batch.converged.all()
    assert np.isfinite(batch.f).all() and np.isfinite(batch.g).all()
    assert_allclose(batch.value, sinkhorn(C, a, b, reg=0.1).value, rtol=1e-9)
