"""Proximal operators against brute force, projections against their optimality conditions, under both backends."""

import inspect
from functools import partial

import array_api_strict
import numpy as np
import pytest
import scipy.optimize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import numcore
from numcore import prox
from numcore.prox._formulas import FORMULAS

DTYPES = [np.float32, np.float64]
EPS = {np.dtype(d): float(np.finfo(d).eps) for d in DTYPES}

# name -> call (v, step, reg, **options) and the options to try; t = step reg
ONE_NUMBER = ("l1", "l0", "half", "two_thirds")
OPTIONS = {
    **{name: [{}] for name in ONE_NUMBER},
    "elastic_net": [{"l1_ratio": r} for r in (0.0, 0.3, 1.0)],
    "lq": [{"q": q} for q in (0.05, 0.5, 2 / 3, 0.95)],
    "huber": [{"delta": d} for d in (0.2, 2.0)],
    # gamma below, at and above the steps tried
    "mcp": [{"gamma": g} for g in (0.3, 1.0, 3.0, np.inf)],
    "scad": [{"gamma": g} for g in (2.1, 3.7, 30.0)],
    "cel0": [{"norm": c} for c in (0.0, 0.4, 1.0, 2.0)],
    "log_sum": [{"eps": e} for e in (0.05, 1.0, 5.0)],
}
CASES = [(name, options) for name, each in OPTIONS.items() for options in each]
BY_STEP = ("mcp", "scad", "cel0", "log_sum")
CONVEX = [("l1", {}), ("elastic_net", {"l1_ratio": 0.3}), ("huber", {"delta": 0.7}), ("mcp", {"gamma": np.inf})]


def operator(name, v, step, reg, **options):
    call = getattr(prox, name)
    return call(v, step, reg=reg, **options) if name in BY_STEP else call(v, step * reg, **options)


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", exc_type=ImportError)
    with numcore.backend(request.param):
        yield request.param


# the fixture that sets the backend has nothing to renew from example to example
properties = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
entries = st.floats(-50, 50, width=32)
vectors = st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, st.integers(1, 30), elements=entries))


# operators of single numbers


@pytest.mark.parametrize("reg", [0.3, 2.0])
@pytest.mark.parametrize("step", [0.05, 0.9, 1.0, 4.0, 40.0])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_no_point_of_a_fine_grid_is_better(name, options, step, reg, backend):
    v = np.concatenate([np.linspace(-6, 6, 241), np.linspace(0, 30, 60)])
    x = operator(name, v, step, reg, **options)
    grid = np.linspace(0, 30, 60_001)
    penalty = np.append(prox.penalty_value(name, grid[:, None], reg=reg, **options), 0)
    ours = (x - v) ** 2 / (2 * step) + prox.penalty_value(name, x[:, None], reg=reg, **options)
    best = [np.min((np.append(grid, 0) - abs(a)) ** 2 / (2 * step) + penalty) for a in v]
    assert np.max(ours - best) <= 1e-9 * (1 + np.max(ours))


@pytest.mark.parametrize("reg", [0.3, 2.0])
@pytest.mark.parametrize("step", [0.05, 1.0, 5.0])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_operators_are_odd_and_do_not_decrease(name, options, step, reg, backend):
    v = np.linspace(0, 20, 5001)
    x = operator(name, v, step, reg, **options)
    np.testing.assert_array_equal(operator(name, -v, step, reg, **options), -x)
    assert (np.diff(x) >= -1e-13).all()
    assert ((x >= 0) & (x <= v * (1 + 1e-14))).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_zero_is_positive(name, options, backend):
    x = operator(name, np.array([-1e-3, -0.0, 0.0, 1e-3]), 1.0, 1.0, **options)
    assert not np.signbit(x[x == 0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_result_that_rounds_to_zero_is_positive(dtype, backend):
    v = np.array([-1e-30, 1e-30], dtype)
    for x in (prox.huber(v, 1e300), prox.elastic_net(v, 1e300, l1_ratio=0)):
        assert not x.any() and not np.signbit(x).any()


def test_zeros_of_vectors_are_positive(backend):
    v = np.array([-1.0, -0.0, 1.0, -0.0])
    results = [
        prox.group_l2(v, 0.1, groups=[[0, 1]]),
        prox.tree(v, groups=[[0, 1]], thresholds=[0.1]),
        prox.linf(v, 1.5),
        prox.sorted_l1(v, 0.1, weights=[1, 1, 0, 0]),
        prox.tv1d(v, 0.0),
        *(getattr(prox, name)(v, 9.0) for name in ("project_l1_ball", "project_l2_ball", "project_linf_ball")),
        prox.project_box(v, -9, 9),
    ]
    for x in results:
        assert (x == 0).any() and not np.signbit(x[x == 0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_nothing_moves_without_regularisation_and_all_goes_under_an_infinite_weight(name, options, dtype, backend):
    v = np.array([-3e4, -1.3, 1e-20 if dtype == np.float32 else 1e-300, 0.7, 5.1, 1e30]).astype(dtype)
    np.testing.assert_array_equal(operator(name, v, 1.0, 0.0, **options), v)
    np.testing.assert_array_equal(operator(name, v, 0.0, 1.0, **options), v)
    weights = np.array([np.inf, 0, np.inf, 0, np.inf, 0])
    x = operator(name, v, 1.0, 0.0, weights=weights, **options)
    if options.get("norm") != 0:  # an atom of norm 0 has no penalty that a weight could multiply
        np.testing.assert_array_equal(x, np.where(np.isinf(weights), 0, v))


TIES = [
    ("l1", {}, 1.0, 1.0),
    ("elastic_net", {"l1_ratio": 0.5}, 2.0, 1.0),
    ("l0", {}, 2.0, 2.0),
    ("half", {}, 1.0, 1.5),
    ("two_thirds", {}, 1.5, 2.0),
    ("lq", {"q": 0.5}, 1.0, 1.5),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "options", "t", "threshold"), TIES)
def test_at_a_tie_of_two_minimisers_the_result_is_zero(name, options, t, threshold, dtype, backend):
    v = np.array([threshold, -threshold], dtype)
    assert not operator(name, v, 1.0, t, **options).any()
    above = np.nextafter(v, 2 * v)
    assert np.all(operator(name, above, 1.0, t, **options) != 0)


def test_at_a_tie_of_two_minimisers_the_result_is_zero_for_large_steps(backend):
    assert prox.mcp(4.0, 4.0, reg=2.0, gamma=1.0) == 0 and prox.mcp(4.1, 4.0, reg=2.0, gamma=1.0) == 4.1
    assert prox.cel0(2.0, 1.0, reg=2.0, norm=3.0) == 0 and prox.cel0(2.1, 1.0, reg=2.0, norm=3.0) == 2.1
    assert prox.scad(12.0, 9.0, reg=2.0, gamma=3.0) == 0 and prox.scad(12.1, 9.0, reg=2.0, gamma=3.0) == 12.1


@pytest.mark.parametrize("reg", [1.0, 0.7123])
@pytest.mark.parametrize("bits", [6, 30, 45, 52])
def test_steps_just_below_the_concavity_neither_lift_an_entry_nor_break_the_order(bits, reg, backend):
    """There a difference of nearly equal numbers is divided by another."""
    for call, gamma, edge in ((prox.mcp, 3.0, 3.0), (prox.scad, 3.7, 2.7)):
        step = edge * (1 - 2.0**-bits)
        near = np.array([step * reg, gamma * reg, reg * (1 + step)])
        v = np.unique([np.nextafter(near, 0), near, np.nextafter(near, 9), near * (1 - 1e-14), near * (1 + 1e-14)])
        x = call(v, step, reg=reg, gamma=gamma)
        assert (x <= v).all() and (np.diff(x) >= -1e-15).all()


@pytest.mark.parametrize("t", [1e-6, 0.3, 20.0])
def test_jumps_leave_zero_where_the_theory_says(t, backend):
    just = 1 + 1e-9
    assert prox.half(1.5 * t ** (2 / 3) * just, t) == pytest.approx(t ** (2 / 3), rel=1e-7)
    jump = (2 * t / 3) ** 0.75
    assert prox.two_thirds(2 * jump * just, t) == pytest.approx(jump, rel=1e-7)
    b = (2 * t * 0.7) ** (1 / 1.7)
    assert prox.lq(b * 1.7 / 1.4 * just, t, q=0.3) == pytest.approx(b, rel=1e-7)


@pytest.mark.parametrize("t", [1e-8, 1e-3, 0.7, 300.0])
def test_powers_agree_with_their_closed_forms(t, backend):
    a = 1.5 * t ** (2 / 3) * np.linspace(1.0001, 40, 500)
    cosine = np.cos(2 * np.pi / 3 - 2 / 3 * np.arccos(t / 4 * (a / 3) ** -1.5))
    np.testing.assert_allclose(prox.half(a, t), 2 / 3 * a * (1 + cosine), rtol=1e-14)
    np.testing.assert_allclose(prox.lq(a, t, q=0.5), prox.half(a, t), rtol=2e-15)
    a, twice = 2 * (2 * t / 3) ** 0.75 * np.linspace(1.0001, 40, 500), 2 * t
    A = 2 / np.sqrt(3) * twice**0.25 * np.sqrt(np.cosh(np.arccosh(27 * a**2 * twice**-1.5 / 16) / 3))
    np.testing.assert_allclose(prox.two_thirds(a, t), ((A + np.sqrt(2 * a / A - A**2)) / 2) ** 3, rtol=1e-13)
    np.testing.assert_allclose(prox.lq(a, t, q=2 / 3), prox.two_thirds(a, t), rtol=2e-15)


def test_penalties_that_contain_each_other_have_the_same_operator(backend):
    v = np.linspace(-6, 6, 1001)
    np.testing.assert_allclose(prox.mcp(v, 0.5, reg=0.8, gamma=np.inf), prox.l1(v, 0.4), rtol=1e-15)
    for norm in (0.4, 1.0, 2.0):
        mcp = prox.mcp(v, 0.5, reg=norm * np.sqrt(0.6), gamma=norm**-2)
        np.testing.assert_allclose(prox.cel0(v, 0.5, reg=0.3, norm=norm), mcp, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(prox.cel0(v, 0.5, reg=0.3, norm=2.0), prox.l0(v, 0.15))
    np.testing.assert_array_equal(prox.elastic_net(v, 0.5, l1_ratio=1), prox.l1(v, 0.5))
    x = prox.scad(v, 0.5, reg=0.8)
    assert np.array_equal(x[abs(v) > 3.7 * 0.8], v[abs(v) > 3.7 * 0.8])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_positive_minimises_over_the_positive_numbers(name, options, backend):
    v = np.linspace(-5, 5, 101)
    expected = operator(name, np.maximum(v, 0), 0.7, 0.9, **options)
    np.testing.assert_array_equal(operator(name, v, 0.7, 0.9, positive=True, **options), expected)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_weights_multiply_the_regularisation_of_their_coordinate(name, options, backend):
    v, weights = np.random.default_rng(0).normal(scale=3, size=(2, 4, 5)), np.array([0, 0.5, 1, 2, 7.0])
    x = operator(name, v, 0.7, 0.9, weights=weights, **options)
    for j, w in enumerate(weights):
        np.testing.assert_array_equal(x[..., j], operator(name, v[..., j], 0.7, 0.9, weights=w, **options))
        if name != "cel0":
            np.testing.assert_allclose(
                x[..., j], operator(name, v[..., j], 0.7, 0.9 * w, **options), rtol=1e-14, atol=1e-15
            )


@pytest.mark.parametrize(("name", "options"), CASES)
def test_float32_is_the_rounded_result_of_float64(name, options, backend):
    v = np.linspace(-5, 5, 2001, dtype=np.float32)
    x = operator(name, v, 0.7, 0.9, **options)
    assert x.dtype == np.float32
    exact = operator(name, v.astype(np.float64), 0.7, 0.9, **options)
    np.testing.assert_allclose(x, exact, rtol=6e-8)
    np.testing.assert_array_equal(x == 0, exact == 0)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_extremes_of_scale_neither_overflow_nor_vanish(name, options, backend):
    v = np.array([1e-300, 1e-150, 1e150, 1e300])
    np.testing.assert_allclose(operator(name, v, 1.0, 5e-324, **options)[1:], v[1:], rtol=1e-12)
    assert np.isfinite(operator(name, v, 1.0, 1e100, **options)).all()


@properties
@given(v=vectors, w=vectors, t=st.floats(0, 20))
@pytest.mark.parametrize(("name", "options"), CONVEX)
def test_operators_of_convex_functions_do_not_expand(name, options, v, w, t, backend):
    size = min(v.size, w.size)
    v, w = v[:size].astype(np.float64), w[:size].astype(np.float64)
    moved = operator(name, v, 1.0, t, **options) - operator(name, w, 1.0, t, **options)
    assert (abs(moved) <= abs(v - w) + 1e-13 * 50).all()


@properties
@given(v=vectors, t=st.floats(0.01, 20))
def test_an_operator_and_that_of_the_conjugate_add_up_to_the_identity(v, t, backend):
    slack = 8 * EPS[v.dtype] * 50 * v.size
    conjugates = {
        "l1": prox.project_linf_ball(v, t),
        "linf": prox.project_l1_ball(v, t),
    }
    for name, conjugate in conjugates.items():
        np.testing.assert_allclose(getattr(prox, name)(v, t) + conjugate, v, atol=slack)
    whole = prox.group_l2(v, t, groups=[range(v.size)], weights=[1.0])
    np.testing.assert_allclose(whole + prox.project_l2_ball(v, t), v, atol=slack)
    # Huber's conjugate is t |y| delta / (2 t) on |y| <= t
    np.testing.assert_allclose(prox.huber(v, t) + np.clip(v / (1 + 1 / t), -t, t), v, atol=slack)
    ridge = prox.elastic_net(v, t, l1_ratio=0)
    np.testing.assert_allclose(ridge + v / (1 + 1 / t), v, atol=slack)


# operators of vectors


def perturbed_is_worse(objective, x, rng, scale=(1e-6, 1e-3, 1e-1, 1.0), count=300):
    value = objective(x)
    for size in scale:
        for _ in range(count):
            direction = rng.normal(size=x.shape) * (rng.random(x.shape) < 0.5)
            assert objective(x + size * direction) >= value - 1e-12 * (1 + abs(value))
        # towards and away from 0, where the kinks are
        for j in range(x.size):
            other = x.copy()
            other.flat[j] *= 1 - size
            assert objective(other) >= value - 1e-12 * (1 + abs(value))


NESTED = [[0], [1, 2], [0, 1, 2], [3, 4], [0, 1, 2, 3, 4, 5], [6, 7]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("t", [0.3, 1.0])
def test_no_perturbation_improves_an_operator_of_vectors(t, seed, backend):
    rng = np.random.default_rng(seed)
    v = 2 * rng.normal(size=8)
    w = np.sort(rng.random(8))[::-1] * 2
    groups = [[0, 3, 5], [1, 2], [4]]
    thresholds = rng.uniform(0, 1, len(NESTED)) * t
    flat = [
        ("group_l2", prox.group_l2(v, t, groups=groups), {"groups": groups}, t),
        ("tree", prox.tree(v, groups=NESTED, thresholds=thresholds), {"groups": NESTED, "thresholds": thresholds}, 1.0),
        ("linf", prox.linf(v, t), {}, t),
        ("sorted_l1", prox.sorted_l1(v, t, weights=w), {"weights": w}, t),
        ("tv1d", prox.tv1d(v, t), {}, t),
    ]
    for name, x, options, reg in flat:

        def objective(z, name=name, options=options, reg=reg):
            return float(((z - v) ** 2).sum() / 2 + prox.penalty_value(name, z, reg=reg, **options))

        perturbed_is_worse(objective, x, rng)
    V = rng.normal(size=(4, 3))
    X = prox.nuclear(V, t)
    perturbed_is_worse(lambda Z: float(((Z - V) ** 2).sum() / 2 + prox.penalty_value("nuclear", Z, reg=t)), X, rng)
    x = prox.sparse_group(v, 0.3, t, groups=groups)
    perturbed_is_worse(
        lambda z: float(
            ((z - v) ** 2).sum() / 2 + 0.3 * abs(z).sum() + prox.penalty_value("group_l2", z, reg=t, groups=groups)
        ),
        x,
        rng,
    )


def test_groups_vanish_at_the_tie_and_coordinates_of_no_group_stay(backend):
    v = np.array([3.0, -4.0, 7.0, 0.0, 0.0])
    x = prox.group_l2(v, 1.0, groups=[[0, 1], [3, 4]], weights=[5.0, 1.0])
    np.testing.assert_array_equal(x, [0, 0, 7, 0, 0])
    assert not np.signbit(x).any()
    default = prox.group_l2(v, 1.0, groups=[[0, 1]])
    np.testing.assert_allclose(default[:2], v[:2] * (1 - np.sqrt(2) / 5), rtol=1e-15)
    np.testing.assert_array_equal(prox.group_l2(v, 0.0, groups=[[0, 1]], weights=[np.inf])[:2], [0, 0])
    huge = prox.group_l2(v * 1e200, 2.5e200, groups=[[0, 1]], weights=[1.0])
    np.testing.assert_allclose(huge[:2], [1.5e200, -2e200], rtol=1e-15)


def test_groups_may_be_the_rows_of_a_matrix(backend):
    v, rows = np.random.default_rng(0).normal(size=(3, 12)), np.arange(12)[::-1].reshape(4, 3)
    np.testing.assert_array_equal(prox.group_l2(v, 0.6, groups=rows), prox.group_l2(v, 0.6, groups=rows.tolist()))
    with pytest.raises(ValueError, match=r"^groups\[1\] must not repeat a coordinate"):
        prox.group_l2(v, 0.6, groups=np.array([[0, 1], [3, 3]]))
    with pytest.raises(ValueError, match=r"^groups\[1\] must lie in 0..11; got 2..12"):
        prox.group_l2(v, 0.6, groups=np.array([[0, 1], [12, 2]]))


def test_the_order_in_which_groups_of_a_tree_are_listed_does_not_matter(backend):
    rng = np.random.default_rng(0)
    v, t = rng.normal(size=(10, 8)), rng.random(len(NESTED))
    expected = prox.tree(v, groups=NESTED, thresholds=t)
    for _ in range(5):
        order = rng.permutation(len(NESTED))
        again = prox.tree(v, groups=[NESTED[k] for k in order], thresholds=t[order])
        np.testing.assert_allclose(again, expected, rtol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_total_variation_meets_its_optimality_conditions(seed, backend):
    rng = np.random.default_rng(seed)
    y = np.cumsum(rng.normal(size=(20, 200)), axis=1)
    t = rng.uniform(0.01, 10, 20)
    x = prox.tv1d(y, t)
    dual = np.cumsum(y - x, axis=1)  # |dual| <= t, with equality and sign where x jumps, and 0 at the end
    np.testing.assert_allclose(dual[:, -1], 0, atol=1e-10)
    inner, jumps = dual[:, :-1], np.diff(x, axis=1)
    assert (abs(inner) <= t[:, None] + 1e-10).all()
    real = abs(jumps) > 1e-9
    np.testing.assert_allclose(inner[real], (-np.sign(jumps) * t[:, None])[real], atol=1e-10)
    np.testing.assert_array_equal(prox.tv1d(y, 0.0), y)
    np.testing.assert_allclose(prox.tv1d(y, 1e6), np.repeat(y.mean(axis=1, keepdims=True), 200, axis=1), rtol=1e-9)
    assert prox.tv1d([3.0], 1.0) == 3


@pytest.mark.parametrize("t", [1e3, 1e16, 1e300])
def test_total_variation_with_a_large_step_leaves_the_mean(t, backend):
    y = np.array([[1.0, 3.0, 8.0, -2.5], [1e-9, 0, 0, 0]])
    np.testing.assert_allclose(prox.tv1d(y, t), np.broadcast_to(y.mean(axis=1, keepdims=True), y.shape), rtol=1e-15)
    assert prox.tv1d([0.1], t) == 0.1


def test_slope_with_equal_weights_is_soft_thresholding(backend):
    v = np.random.default_rng(0).normal(size=(7, 20))
    np.testing.assert_allclose(prox.sorted_l1(v, 0.5, weights=np.ones(20)), prox.l1(v, 0.5), atol=1e-15)
    first = np.eye(1, 20)[0]
    np.testing.assert_allclose(prox.sorted_l1(v, 0.5, weights=first), prox.linf(v, 0.5), atol=1e-14)


# projections

LOW, HIGH = np.array([-1.0, 0.0, -np.inf]), np.array([1.0, 0.5, 2.0])
VECTOR_SETS = {
    # the projection, whether a point belongs, and a random point of the set
    "simplex": (
        lambda v: prox.project_simplex(v, 1.5),
        lambda x: (x >= 0).all() and abs(x.sum() - 1.5) <= 1e-12 * x.size,
        lambda rng, d: 1.5 * rng.dirichlet(np.ones(d)),
    ),
    "l1_ball": (
        lambda v: prox.project_l1_ball(v, 1.5),
        lambda x: abs(x).sum() <= 1.5 + 1e-12 * x.size,
        lambda rng, d: 1.5 * rng.dirichlet(np.ones(d)) * rng.choice([-1, 1], d),
    ),
    "l2_ball": (
        lambda v: prox.project_l2_ball(v, 1.5),
        lambda x: np.linalg.norm(x) <= 1.5 * (1 + 1e-14),
        lambda rng, d: prox.project_l2_ball(3 * rng.normal(size=d), 1.5),
    ),
    "linf_ball": (
        lambda v: prox.project_linf_ball(v, 1.5),
        lambda x: abs(x).max() <= 1.5,
        lambda rng, d: rng.uniform(-1.5, 1.5, d),
    ),
    "box": (
        lambda v: prox.project_box(v, -0.5, 1.0),
        lambda x: ((x >= -0.5) & (x <= 1)).all(),
        lambda rng, d: rng.uniform(-0.5, 1, d),
    ),
    "nonnegative": (
        prox.project_nonnegative,
        lambda x: (x >= 0).all(),
        lambda rng, d: abs(rng.normal(size=d)),
    ),
}


@pytest.mark.parametrize("d", [1, 2, 3, 17, 400])
@pytest.mark.parametrize("name", VECTOR_SETS)
def test_a_projection_is_feasible_idempotent_and_meets_the_variational_inequality(name, d, backend):
    project, belongs, draw = VECTOR_SETS[name]
    rng = np.random.default_rng(d)
    for scale in (0.1, 1.0, 100.0):
        v = scale * rng.normal(size=d)
        x = project(v)
        assert belongs(x)
        np.testing.assert_allclose(project(x), x, rtol=0, atol=1e-14)
        for _ in range(30):
            z = draw(rng, d)
            assert (v - x) @ (z - x) <= 1e-12 * (1 + scale) * d
            np.testing.assert_allclose(project(z), z, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["simplex", "l1_ball", "l2_ball"])
def test_projections_agree_with_a_solver_of_quadratic_programs(name, seed):
    v = 2 * np.random.default_rng(seed).normal(size=5)
    constraints = {
        "simplex": [
            {"type": "eq", "fun": lambda x: x.sum() - 1.5},
            {"type": "ineq", "fun": lambda x: x},
        ],
        "l2_ball": [{"type": "ineq", "fun": lambda x: 2.25 - x @ x}],
        # in the parts p, q >= 0 of x = p - q
        "l1_ball": [{"type": "ineq", "fun": lambda x: 1.5 - x.sum()}, {"type": "ineq", "fun": lambda x: x}],
    }[name]
    split = name == "l1_ball"

    def distance(x):
        return (((x[:5] - x[5:] if split else x) - v) ** 2).sum()

    start = np.full(10 if split else 5, 0.1)
    found = scipy.optimize.minimize(distance, start, constraints=constraints, method="SLSQP", options={"ftol": 1e-15})
    x = found.x[:5] - found.x[5:] if split else found.x
    np.testing.assert_allclose(VECTOR_SETS[name][0](v), x, atol=1e-6)


@properties
@given(v=vectors, w=vectors)
@pytest.mark.parametrize("name", VECTOR_SETS)
def test_projections_on_convex_sets_do_not_expand(name, v, w, backend):
    size = min(v.size, w.size)
    v, w = v[:size].astype(np.float64), w[:size].astype(np.float64)
    project = VECTOR_SETS[name][0]
    assert np.linalg.norm(project(v) - project(w)) <= np.linalg.norm(v - w) + 1e-12


@properties
@given(v=vectors, radius=st.floats(0.01, 100))
def test_the_simplex_keeps_order_and_mass_in_either_dtype(v, radius, backend):
    x = prox.project_simplex(v, radius)
    assert x.dtype == v.dtype
    assert abs(x.sum(dtype=np.float64) - radius) <= 4 * EPS[v.dtype] * v.size * radius
    order = np.argsort(v)
    assert (np.diff(x[order]) >= 0).all()


def test_every_small_simplex_projection_equals_the_best_over_all_supports(backend):
    rng = np.random.default_rng(0)
    for _ in range(50):
        v = rng.integers(-4, 5, size=4) / 2  # many ties
        best, where = np.inf, None
        for mask in range(1, 16):
            support = np.array([mask >> k & 1 for k in range(4)], bool)
            x = np.where(support, v - (v[support].sum() - 1) / support.sum(), 0)
            if (x >= -1e-15).all() and ((x - v) ** 2).sum() < best:
                best, where = ((x - v) ** 2).sum(), x
        np.testing.assert_allclose(prox.project_simplex(v), where, atol=1e-14)


def test_entries_of_any_size_leave_a_support(backend):
    for v in ([1e300, 1e300, -1e300], [1e16, 1e16 + 2, 0], [-1.7e308, 1.7e308], [5e-324, 0]):
        x = prox.project_simplex(v)
        assert x.sum() == pytest.approx(1, abs=1e-15) and (x >= 0).all()
    np.testing.assert_allclose(prox.project_l2_ball([3e300, 4e300]), [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(prox.project_l2_ball([3e-300, 4e-300], 1e-300), [6e-301, 8e-301], rtol=1e-15)
    np.testing.assert_allclose(prox.project_l1_ball([1.5e308, 1.5e308], 1e300), [5e299, 5e299], rtol=1e-15)
    np.testing.assert_allclose(prox.project_unit_rows([3e-320, 0]), [1, 0])


def test_many_entries_far_below_leave_the_mass_where_it_is(backend):
    v = np.full(1000, -1.7e308)  # their sum has no finite value
    v[:2] = 1e308, 1e308
    np.testing.assert_array_equal(prox.project_simplex(v), np.where(v > 0, 0.5, 0))
    for radius in (1e-30, 1.0, 1e30):
        x = prox.project_simplex(1e30 * np.random.default_rng(0).normal(size=(5, 1000)), radius)
        np.testing.assert_allclose(x.sum(axis=1), radius, rtol=1e-13)


def test_each_vector_may_have_a_radius_of_its_own(backend):
    v, radius = np.random.default_rng(0).normal(size=(4, 3, 6)), np.array([0.5, 1.0, 4.0])
    for project in (prox.project_simplex, prox.project_l1_ball, prox.project_l2_ball, prox.project_linf_ball):
        x = project(v, radius)
        for k, r in enumerate(radius):
            np.testing.assert_array_equal(x[:, k], project(v[:, k], r))


def test_top_k_keeps_the_largest_and_of_equals_the_first(backend):
    v = np.array([[1.0, -3, 3, 3, 0], [0, 0, -0.0, 0, 1], [2, 2, 2, 2, 2]])
    np.testing.assert_array_equal(prox.project_top_k(v, 2), [[0, -3, 3, 0, 0], [0, 0, 0, 0, 1], [2, 2, 0, 0, 0]])
    np.testing.assert_array_equal(prox.project_top_k(v, 0), np.zeros_like(v))
    np.testing.assert_array_equal(prox.project_top_k(v, 9), v)
    assert not np.signbit(prox.project_top_k(v, 9)[1]).any()
    rng = np.random.default_rng(0)
    for k in range(6):
        v = rng.normal(size=5)
        kept = np.sort(v**2)[::-1][k:].sum()
        assert ((prox.project_top_k(v, k) - v) ** 2).sum() == pytest.approx(kept)


def test_unit_rows_have_norm_one_and_the_direction_of_what_was_given():
    v = np.random.default_rng(0).normal(size=(5, 4))
    x = prox.project_unit_rows(v)
    np.testing.assert_allclose(x, v / np.linalg.norm(v, axis=1, keepdims=True), rtol=1e-15)
    np.testing.assert_array_equal(prox.project_unit_rows(np.zeros(3)), [1, 0, 0])


@pytest.mark.parametrize("seed", range(3))
def test_matrix_projections_meet_the_variational_inequality(seed):
    rng = np.random.default_rng(seed)
    M = rng.normal(size=(5, 5))
    for project, draw in (
        (prox.project_psd, lambda A: A @ A.T),
        (lambda M: prox.project_spectrahedron(M, 2.0), lambda A: 2 * A @ A.T / np.trace(A @ A.T)),
    ):
        X = project(M)
        np.testing.assert_array_equal(X, X.T)
        assert np.linalg.eigvalsh(X).min() >= -1e-13
        np.testing.assert_allclose(project(X), X, atol=1e-13)
        for _ in range(50):
            Z = draw(rng.normal(size=(5, 5)))
            assert np.vdot(M - X, Z - X) <= 1e-10
    assert np.trace(prox.project_spectrahedron(M, 2.0)) == pytest.approx(2)
    v = rng.normal(size=6)
    np.testing.assert_allclose(prox.project_spectrahedron(np.diag(v)), np.diag(prox.project_simplex(v)), atol=1e-14)


@pytest.mark.parametrize("spread", [1, 1e3, 1e8])
def test_the_metric_ball_meets_its_variational_inequality(spread):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    H = (Q * np.geomspace(1, spread, 6)) @ Q.T
    V = rng.normal(size=(4, 3, 6)) * np.array([0.1, 1, 1e6])[:, None]
    X = prox.project_metric_ball(V, H, 1.2)
    assert (np.linalg.norm(X, axis=-1) <= 1.2 * (1 + 1e-14)).all()
    np.testing.assert_array_equal(X[:, 0], V[:, 0])
    Z = prox.project_l2_ball(rng.normal(size=(200, 6)), 1.2)
    slack = np.einsum("...i,ij,n...j->n...", V - X, H, Z[:, None, None] - X)
    assert (slack <= 1e-11 * spread * np.linalg.norm(V, axis=-1)).all()
    np.testing.assert_allclose(prox.project_metric_ball(V, np.eye(6), 1.2), prox.project_l2_ball(V, 1.2), atol=1e-13)


# what goes in and what comes out


def prox_by_step(call, v, **options):
    return call(v, 0.5, reg=0.7, **options)


CALLS = {
    **{name: partial(lambda f, v, **k: f(v, 0.5, **k), getattr(prox, name)) for name in ONE_NUMBER},
    "elastic_net": lambda v, **k: prox.elastic_net(v, 0.5, **k),
    "lq": lambda v, **k: prox.lq(v, 0.5, q=0.4, **k),
    "huber": lambda v, **k: prox.huber(v, 0.5, **k),
    **{name: partial(prox_by_step, getattr(prox, name)) for name in BY_STEP},
    "group_l2": lambda v, **k: prox.group_l2(v, 0.5, groups=[[0, 2], [1]], **k),
    "sparse_group": lambda v, **k: prox.sparse_group(v, 0.2, 0.5, groups=[[0, 2], [1]], **k),
    "tree": lambda v, **k: prox.tree(v, groups=[[0, 2], [0]], thresholds=[0.3, 0.1], **k),
    "linf": lambda v, **k: prox.linf(v, 0.5, **k),
    "sorted_l1": lambda v, **k: prox.sorted_l1(v, 0.5, weights=np.linspace(1, 0.5, np.shape(v)[-1]), **k),
    "nuclear": lambda v, **k: prox.nuclear(v, 0.5, **k),
    "tv1d": lambda v, **k: prox.tv1d(v, 0.5, **k),
    "project_box": lambda v, **k: prox.project_box(v, -0.2, 0.5, **k),
    "project_top_k": lambda v, **k: prox.project_top_k(v, 2, **k),
    "project_metric_ball": lambda v, **k: prox.project_metric_ball(v, np.eye(4) + 1, **k),
    **{
        name: getattr(prox, name)
        for name in prox.__all__
        if name.startswith("project") and name not in ("project_box", "project_top_k", "project_metric_ball")
    },
}


def test_every_operator_is_tried_below():
    assert set(CALLS) == set(prox.__all__) - {"penalty_value"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_dtype_out_and_inputs_are_kept(name, dtype, backend):
    v = np.random.default_rng(0).normal(size=(4, 4)).astype(dtype)
    before = v.copy()
    v.flags.writeable = False
    x = CALLS[name](v)
    assert x.dtype == dtype and x.shape == v.shape and np.array_equal(v, before)
    for out in (np.empty_like(v), np.empty((4, 4), dtype, order="F"), np.zeros((4, 8), dtype)[:, ::2], before):
        given = before if out is before else v
        assert CALLS[name](given, out=out) is out
        np.testing.assert_array_equal(out, x)
    for layout in (np.asfortranarray(v), np.repeat(v, 2, axis=1)[:, ::2], v[::-1][::-1]):
        np.testing.assert_allclose(CALLS[name](layout), x, atol=4 * EPS[v.dtype])
    assert CALLS[name](np.arange(16).reshape(4, 4)).dtype == np.float64


@pytest.mark.parametrize("name", CALLS)
def test_arrays_of_other_libraries_stay_what_they_are(name):
    v = np.random.default_rng(0).normal(size=(4, 4))
    strict = array_api_strict.asarray(v)
    x = CALLS[name](strict)
    assert type(x) is type(strict)
    np.testing.assert_allclose(np.asarray(x), CALLS[name](v), atol=1e-13)
    out = array_api_strict.zeros_like(strict)
    assert CALLS[name](strict, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), np.asarray(x))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_a_finite_real_array_is_refused_by_name(name, backend):
    argument = next(iter(inspect.signature(getattr(prox, name)).parameters))
    out = np.full((4, 4), 7.0)
    for bad in (np.nan, np.inf):
        v = np.ones((4, 4))
        v[1, 2] = bad
        with pytest.raises(ValueError, match=rf"^{argument} must be finite; 1 of its 16"):
            CALLS[name](v, out=out)
    with pytest.raises(TypeError, match=rf"^{argument} must be real"):
        CALLS[name](np.ones((4, 4), complex))
    with pytest.raises(ValueError, match=r"^out must have shape"):
        CALLS[name](np.ones((4, 4)), out=np.ones((4, 5)))
    assert (out == 7).all()


v1 = np.ones(3)
REFUSED = [
    (lambda: prox.l1(v1, -1), "t must satisfy 0 <= t"),
    (lambda: prox.l1(v1, np.nan), "t must satisfy"),
    (lambda: prox.l1(v1, [1, -1, 1]), "t must satisfy 0 <= t; 1 of its 3"),
    (lambda: prox.project_simplex(np.ones((3, 2)), [1.0, 2.0]), r"radius must broadcast against shape \(3,\)"),
    (lambda: prox.project_box(v1, np.inf, np.inf), "low must be below inf"),
    (lambda: prox.project_box(v1, -np.inf, -np.inf), "low must be below inf"),
    (lambda: prox.l1(v1, np.ones(4)), r"t must broadcast against shape \(3,\)"),
    (lambda: prox.l1(v1, np.ones((2, 3))), "t must broadcast"),
    (lambda: prox.l1(v1, 1, weights=[1, -2, np.inf]), "weights must satisfy"),
    (lambda: prox.l1(v1, 1, weights=[1, np.nan, 1]), "weights must be free of nan"),
    (lambda: prox.lq(v1, 1, q=1), "q must satisfy 0 < q < 1"),
    (lambda: prox.lq(v1, 1, q=[0.5, 0.5, 0]), "q must satisfy 0 < q < 1; 1 of its 3"),
    (lambda: prox.elastic_net(v1, 1, l1_ratio=1.1), "l1_ratio must satisfy"),
    (lambda: prox.mcp(v1, 1, reg=1, gamma=0), "gamma must satisfy"),
    (lambda: prox.mcp(v1, -1, reg=1), "step must satisfy"),
    (lambda: prox.mcp(v1, 1, reg=-1), "reg must satisfy"),
    (lambda: prox.scad(v1, 1, reg=1, gamma=2), "gamma must satisfy 2 < gamma"),
    (lambda: prox.cel0(v1, 1, reg=1, norm=-1), "norm must satisfy"),
    (lambda: prox.log_sum(v1, 1, reg=1, eps=0), "eps must satisfy"),
    (lambda: prox.huber(v1, 1, delta=0), "delta must satisfy"),
    (lambda: prox.group_l2(v1, 1, groups=[[0, 1], [1]]), "groups must not overlap; 1 coordinates"),
    (lambda: prox.group_l2(v1, 1, groups=[[0, 3]]), r"groups\[0\] must lie in 0..2"),
    (lambda: prox.group_l2(v1, 1, groups=[[0, 0]]), r"groups\[0\] must not repeat"),
    (lambda: prox.group_l2(v1, 1, groups=[[]]), r"groups\[0\] must be a 1-D array, not empty"),
    (lambda: prox.group_l2(v1, 1, groups=[[0]], weights=[-1]), "weights must not be negative"),
    (lambda: prox.group_l2(v1, 1, groups=[[0]], weights=[1, 1]), r"weights must have shape \(1\)"),
    (lambda: prox.tree(v1, groups=[[0, 1], [1, 2]], thresholds=[1, 1]), "groups must be nested or disjoint"),
    (lambda: prox.tree(v1, groups=[[0, 1]], thresholds=[-1]), "thresholds must not be negative"),
    (lambda: prox.linf(v1, -1), "t must satisfy"),
    (lambda: prox.sorted_l1(v1, 1, weights=[1, 2, 1]), "weights must not increase"),
    (lambda: prox.sorted_l1(v1, 1, weights=[1, 0, -1]), "weights must not be negative"),
    (lambda: prox.nuclear(v1, 1), "V must be a matrix"),
    (lambda: prox.tv1d(v1, [[1]]), "t must broadcast"),
    (lambda: prox.tv1d(np.ones((2, 3)), [1, -1]), "t must be non-negative; 1 of its 2"),
    (lambda: prox.project_simplex(v1, 0), "radius must satisfy 0 < radius"),
    (lambda: prox.project_simplex(v1, np.inf), "radius must satisfy"),
    (lambda: prox.project_simplex(np.ones((2, 3)), [1, 0]), "radius must be positive; 1 of its 2"),
    (lambda: prox.project_simplex(np.ones((2, 0))), "v must hold vectors"),
    (lambda: prox.project_simplex(3.0), "v must hold vectors"),
    (lambda: prox.project_box(v1, 1, 0), "low must not be above high; 1"),
    (lambda: prox.project_box(v1, np.nan, 1), "low must be free of nan"),
    (lambda: prox.project_box(v1, np.ones((2, 3)), 1), "low must broadcast"),
    (lambda: prox.project_top_k(v1, -1), "k must be at least 0"),
    (lambda: prox.project_psd(np.ones((2, 3))), "M must be square"),
    (lambda: prox.project_spectrahedron(np.eye(2), 0), "trace must satisfy"),
    (lambda: prox.project_metric_ball(v1, np.diag([1, 1, -1])), "H must be positive definite"),
    (lambda: prox.project_metric_ball(v1, np.triu(np.ones((3, 3)))), "H must be symmetric"),
    (lambda: prox.project_metric_ball(v1, np.eye(2)), "H must have shape"),
    (lambda: prox.penalty_value("l2", v1, reg=1), "name must be one of"),
    (lambda: prox.penalty_value("lq", v1, reg=1, q=2), "q must satisfy"),
    (lambda: prox.penalty_value("mcp", v1, reg=-1), "reg must satisfy"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_values_out_of_range_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match="^" + message):
        call()


def test_values_that_are_no_numbers_are_refused_by_name():
    for call, message in (
        (lambda: prox.l1(v1, "1"), "t must be a real number"),
        (lambda: prox.project_top_k(v1, 1.0), "k must be an integer"),
        (lambda: prox.group_l2(v1, 1, groups=[[0.5]]), r"groups\[0\] must hold integers"),
        (lambda: prox.group_l2(v1, 1, groups=3), "groups must be a sequence of index arrays"),
        (lambda: prox.penalty_value("l1", v1, reg=1, q=1), "l1 has no parameter 'q'"),
        (lambda: prox.penalty_value("lq", v1, reg=1), "q must be a real number"),
        (lambda: prox.penalty_value("tree", v1, reg=1), "groups must be given"),
    ):
        with pytest.raises(TypeError, match="^" + message):
            call()


def test_no_vectors_give_no_results(backend):
    for name in set(CALLS) - {"project_metric_ball", "nuclear", "project_psd", "project_spectrahedron"}:
        assert CALLS[name](np.zeros((0, 4))).shape == (0, 4)
    assert prox.l1(np.zeros((2, 0)), 1.0).shape == (2, 0)


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    pytest.importorskip("numba", exc_type=ImportError)
    from numcore.accel.cpu import _threads

    v = np.random.default_rng(0).normal(size=(300, 2000))
    results = []
    for count in (1, 2, 5):
        monkeypatch.setattr(_threads, "_num_threads", lambda count=count: count)
        with numcore.backend("numba"):
            results.append([prox.half(v, 0.5), prox.project_simplex(v), prox.tv1d(v, 1.0)])
    for other in results[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(other, results[0], strict=True))


# scalar forms, in compiled loops


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_scalar_form_gives_what_the_array_form_gives(name, options, dtype):
    numba = pytest.importorskip("numba", exc_type=ImportError)
    from numcore.accel.cpu import prox as scalars

    form, penalty = getattr(scalars, name), getattr(scalars, f"penalty_{name}")
    step, reg, shape = 0.7, 0.9, tuple(options.values())
    by_step = name in BY_STEP and name != "log_sum"
    first = (step, reg) if by_step else (step * reg,)

    @numba.njit
    def loop(v, first, shape, reg, out, values):
        for j in range(v.size):
            out[j] = form(v[j], *first, *shape)
            values[j] = penalty(v[j], reg, *shape)
        return form(v[0], *first, *shape)

    v = np.linspace(-6, 6, 401).astype(dtype)
    out, values = np.empty_like(v), np.empty(v.size)
    single = loop(v, first, tuple(map(float, shape)), reg, out, values)
    with numcore.backend("numpy"):
        expected = operator(name, v, step, reg, **options)
    np.testing.assert_allclose(out, expected, rtol=4 * EPS[v.dtype], atol=1e-15)
    np.testing.assert_array_equal(out == 0, expected == 0)
    # a compiler may fuse a product into a sum in one place and not in another
    np.testing.assert_allclose(single, out[0], rtol=2 * EPS[v.dtype])
    assert not np.signbit(out[out == 0]).any()
    exact = prox.penalty_value(name, v[:, None].astype(np.float64), reg=reg, **options)
    np.testing.assert_allclose(values, exact, rtol=1e-13)


def test_what_compiled_loops_close_over_has_a_name_by_which_the_cache_finds_it_again():
    """Without one Numba hashes its contents, which differ from process to process, and compiles every time."""
    pytest.importorskip("numba", exc_type=ImportError)
    from numcore.accel.cpu import prox as scalars

    for kernel in scalars._KERNELS.values():
        for cell in kernel.py_func.__closure__:
            assert getattr(scalars, cell.cell_contents.__qualname__) is cell.cell_contents


def test_scalar_forms_may_be_called_from_python():
    pytest.importorskip("numba", exc_type=ImportError)
    from numcore.accel.cpu import prox as scalars

    assert scalars.soft1 is scalars.l1 and scalars.soft1(-2.0, 0.5) == -1.5
    assert scalars.cel0(1.5, 0.5, 2.0, 1.0) == prox.cel0(1.5, 0.5, reg=2.0)
    assert scalars.penalty_mcp(9.0, 1.0, 2.0) == 1


def test_every_formula_has_a_scalar_form():
    pytest.importorskip("numba", exc_type=ImportError)
    from numcore.accel.cpu import prox as scalars

    for name in (*FORMULAS, "cel0"):
        assert hasattr(scalars, name) and hasattr(scalars, f"penalty_{name}")
