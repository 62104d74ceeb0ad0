"""The entropic map: the conditional mean of the plan, in and out of sample."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore.algorithms.transport import PointCloudCost, entropic_map, sinkhorn


@pytest.fixture
def result(clouds):
    return sinkhorn(PointCloudCost(clouds.X, clouds.Y), clouds.a, clouds.b, reg=0.05, tol=1e-12)


def test_the_parameters_and_defaults_are_those_of_the_specification():
    parameters = inspect.signature(entropic_map).parameters
    assert list(parameters) == ["result", "X", "direction", "debiased"]
    assert parameters["direction"].default == "forward" and parameters["debiased"].default is False


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan", ("power", 2.0)])
def test_at_the_points_of_the_problem_it_is_the_barycentric_projection(clouds, metric):
    result = sinkhorn(PointCloudCost(clouds.X, clouds.Y, metric), clouds.a, clouds.b, reg=0.05, tol=1e-12)
    P = result.plan
    assert_allclose(entropic_map(result, clouds.X), P @ clouds.Y / clouds.a[:, None], atol=1e-9)
    inverse = entropic_map(result, clouds.Y, direction="inverse")
    assert_allclose(inverse, P.T @ clouds.X / clouds.b[:, None], atol=1e-9)


def test_out_of_sample_it_is_the_softmax_mean_of_the_formula(rng, clouds, result):
    x = rng.normal(size=(7, 2))
    t = np.log(clouds.b) + (result.g - ((x[:, None] - clouds.Y) ** 2).sum(-1)) / 0.05
    w = np.exp(t - t.max(1, keepdims=True))
    assert_allclose(entropic_map(result, x), w @ clouds.Y / w.sum(1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("p", [1.5, 3.0])
def test_for_a_power_cost_the_map_balances_the_mean_gradient(rng, clouds, p):
    # T(x) = x - grad h*(v), so grad h(x - T(x)) = v = sum_j w_j grad h(x - y_j)
    result = sinkhorn(PointCloudCost(clouds.X, clouds.Y, ("power", p)), clouds.a, clouds.b, reg=0.05, tol=1e-11)
    x = rng.normal(size=(5, 2))
    z = x[:, None] - clouds.Y
    length = np.linalg.norm(z, axis=-1)
    t = np.log(clouds.b) + (result.g - length**p / p) / 0.05
    w = np.exp(t - t.max(1, keepdims=True))
    w /= w.sum(1, keepdims=True)
    v = np.einsum("ij,ijk->ik", w * length ** (p - 2), z)
    moved = x - entropic_map(result, x)
    assert_allclose(np.linalg.norm(moved, axis=1, keepdims=True) ** (p - 2) * moved, v, rtol=1e-9)


def test_the_map_is_the_gradient_of_the_potential(clouds, result):
    # T(x) = x - grad f(x) / 2 for the squared distance, f the soft minimum: differences with h = 1e-6 leave 1e-9
    def f(x):
        t = np.log(clouds.b) + (result.g - ((x - clouds.Y) ** 2).sum(-1)) / 0.05
        return -0.05 * np.logaddexp.reduce(t)

    x, h = np.array([0.3, 0.4]), 1e-6
    gradient = [(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(2)]
    assert_allclose(entropic_map(result, x[None])[0], x - np.array(gradient) / 2, atol=1e-8)


def test_far_from_the_data_it_is_the_nearest_target_in_the_sense_of_the_potentials(clouds, result):
    far = np.array([[1e3, 0.0], [1e6, 0.0], [-1e6, 1e5]])
    nearest = clouds.Y[np.argmin(((far[:, None] - clouds.Y) ** 2).sum(-1), axis=1)]
    assert_allclose(entropic_map(result, far), nearest, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distance", [1e4, 1e6, 1e8, 1e10, 1e12, 1e15])
def test_beyond_the_digits_of_the_distances_the_map_stays_within_the_targets(clouds, dtype, distance):
    # where c / eps has no digit after the point which target is nearest cannot be told, but a mean of them it is
    cost = PointCloudCost(clouds.X.astype(dtype), (clouds.Y + 5).astype(dtype))
    x = entropic_map(sinkhorn(cost, reg=0.5, tol=1e-3), [[distance, 0.0], [0.0, -distance]])
    slack = 1e-5
    assert (x >= cost.Y.min(axis=0) - slack).all() and (x <= cost.Y.max(axis=0) + slack).all()


def test_a_translation_is_found(rng):
    X, shift = rng.normal(size=(60, 2)), np.array([3.0, -2.0])
    result = sinkhorn(PointCloudCost(X, X + shift), reg=0.3)
    x = X[:5] + 0.001
    # the debiased map of a translation is exact: both entropic maps shrink alike
    assert_allclose(entropic_map(result, x, debiased=True), x + shift, atol=1e-6)


def test_debiasing_takes_away_the_shrinking_of_a_gaussian():
    # slopes: (D - s) / (2 A) biased, and the same with B = A taken off and 1 put back
    x, eps = np.linspace(-6, 6, 400)[:, None], 0.8
    A, B, s = 1.0, 0.49, 0.4
    a, b = (np.exp(-(x[:, 0] ** 2) / (2 * v)) for v in (A, B))
    result = sinkhorn(PointCloudCost(x, x), a / a.sum(), b / b.sum(), reg=eps, tol=1e-12)

    def slope(B):
        return (np.sqrt(4 * A * B + s**2) - s) / (2 * A)

    for debiased, expected in ((False, slope(B)), (True, slope(B) - slope(A) + 1)):
        low, high = entropic_map(result, [[-0.5], [0.5]], debiased=debiased)[:, 0]
        assert_allclose(high - low, expected, atol=1e-8)


def test_debiasing_the_inverse_uses_the_target_measure(clouds, result):
    own = sinkhorn(PointCloudCost(clouds.Y), clouds.b, clouds.b, reg=0.05, tol=1e-11)
    expected = entropic_map(result, clouds.Y, direction="inverse") - entropic_map(own, clouds.Y) + clouds.Y
    # the symmetric iteration stops at an error of 1e-9, a weight is 1e-2
    assert_allclose(entropic_map(result, clouds.Y, direction="inverse", debiased=True), expected, atol=1e-6)


def test_float32_stays_float32(clouds):
    cost = PointCloudCost(clouds.X.astype(np.float32), clouds.Y.astype(np.float32))
    result = sinkhorn(cost, reg=0.05)
    for options in ({}, {"direction": "inverse"}, {"debiased": True}):
        assert entropic_map(result, clouds.X, **options).dtype == np.float32


def test_targets_without_weight_attract_nothing(clouds):
    Y, b = np.concatenate([clouds.Y, [[100.0, 100.0]]]), np.append(clouds.b, 0.0)
    result = sinkhorn(PointCloudCost(clouds.X, Y), clouds.a, b, reg=0.05)
    assert entropic_map(result, [[99.0, 99.0]]).max() < 10


def test_no_points_map_to_no_points(result):
    assert entropic_map(result, np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (np.zeros((3, 5)), {}, "X must have 2 features"),
        (np.zeros(2), {}, "X must be 2-D"),
        (np.full((3, 2), np.nan), {}, "X must be finite"),
        (np.zeros((3, 2)), {"direction": "backward"}, "direction must be one of"),
    ],
)
def test_bad_input_is_refused_by_name(result, X, options, message):
    with pytest.raises(ValueError, match=message):
        entropic_map(result, X, **options)


def test_a_result_without_points_is_refused(clouds):
    with pytest.raises(ValueError, match="result must be .* PointCloudCost"):
        entropic_map(sinkhorn(clouds.C, reg=0.1), clouds.X)


def test_what_is_not_a_result_is_a_type_error():
    with pytest.raises(TypeError, match="result"):
        entropic_map(3, [[0.0]])


@pytest.mark.parametrize("p", [1.5, 3.0])
def test_the_map_of_a_power_cost_is_finite_however_far(rng, p):
    X, Y = rng.normal(size=(9, 2)), rng.normal(size=(11, 2))
    result = sinkhorn(PointCloudCost(X, Y, ("power", p)), reg=0.3)
    assert np.isfinite(entropic_map(result, [[-1e8, 3.0], [1e15, 0.0], [1e30, 0.0]])).all()
