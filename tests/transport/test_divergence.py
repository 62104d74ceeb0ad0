"""The Sinkhorn divergence: positivity, limits, and gradients against differences."""

import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from numcore.algorithms.transport import PointCloudCost, sinkhorn, sinkhorn_divergence
from numcore.results import ConvergenceWarning

H = 1e-5  # central differences: truncation H^2 and rounding 1e-15 / H leave 1e-10


def slope(value):
    return (value(H) - value(-H)) / (2 * H)


def by_brute_force(oracle, X, Y, a, b, eps, rho=np.inf, metric="sqeuclidean"):
    def ot(X, Y, a, b):
        C = cdist(X, Y, metric)
        return oracle.primal(oracle.solve(C, a, b, eps, (rho, rho))[2], C, a, b, eps, (rho, rho))

    extra = 0.0 if rho == np.inf else eps / 2 * (a.sum() - b.sum()) ** 2
    terms = ot(X, Y, a, b), ot(X, X, a, a), ot(Y, Y, b, b)
    return terms[0] - (terms[1] + terms[2]) / 2 + extra, terms


def test_the_parameters_and_defaults_are_those_of_the_specification():
    parameters = inspect.signature(sinkhorn_divergence).parameters
    defaults = {"a": None, "b": None, "reg": inspect.Parameter.empty, "reg_scale": "absolute", "metric": "sqeuclidean"}
    defaults |= {"marginal_reg": None, "gradient": False, "tol": None, "max_iter": 10000}
    assert list(parameters) == ["X", "Y", *defaults]
    assert {name: parameters[name].default for name in defaults} == defaults


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
@pytest.mark.parametrize("eps", [1.0, 0.2])
def test_value_and_terms_are_those_of_three_textbook_problems(oracle, clouds, metric, eps):
    value, terms = by_brute_force(oracle, clouds.X, clouds.Y, clouds.a, clouds.b, eps, metric=metric)
    name = {"cityblock": "manhattan"}.get(metric, metric)
    result = sinkhorn_divergence(clouds.X, clouds.Y, clouds.a, clouds.b, reg=eps, metric=name, tol=1e-12)
    assert_allclose(result.value, value, rtol=1e-9)
    assert_allclose([result.terms.ab, result.terms.aa, result.terms.bb], terms, rtol=1e-10, atol=1e-13)
    assert result.converged and result.grad_X is result.grad_Y is result.grad_a is result.grad_b is None


@pytest.mark.parametrize("rho", [0.5, 10.0])
def test_the_unbalanced_divergence_has_the_mass_term(oracle, clouds, rho):
    a, b = 2 * clouds.a, clouds.b
    value, terms = by_brute_force(oracle, clouds.X, clouds.Y, a, b, 0.1, rho)
    result = sinkhorn_divergence(clouds.X, clouds.Y, a, b, reg=0.1, marginal_reg=rho, tol=1e-12)
    assert_allclose(result.value, value, rtol=1e-9)
    assert_allclose(result.terms, terms, rtol=1e-9)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan", "cosine"])
@pytest.mark.parametrize("eps", [10.0, 0.1, 1e-2, 1e-3])
def test_a_measure_is_at_zero_from_itself(clouds, metric, eps):
    for a in (None, clouds.a):
        result = sinkhorn_divergence(clouds.X, clouds.X.copy(), a, a, reg=eps, metric=metric)
        assert result.converged and abs(result.value) <= 1e-10


def test_two_descriptions_of_one_measure_are_at_zero(rng, clouds):
    order = rng.permutation(20)
    X, a = np.concatenate([clouds.X, clouds.X[:3]]), np.concatenate([clouds.a, clouds.a[:3] / 2])
    a[:3] /= 2
    assert (
        abs(sinkhorn_divergence(clouds.X, X[np.r_[order, 20:23]], clouds.a, a[np.r_[order, 20:23]], reg=0.1).value)
        <= 1e-10
    )


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 4),
    st.floats(0.05, 10),
    st.sampled_from(["sqeuclidean", "euclidean"]),
)
def test_the_divergence_is_positive_and_symmetric(seed, n, m, d, eps, metric):
    rng = np.random.default_rng(seed)
    X, Y, a, b = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.random(n) + 0.01, rng.random(m) + 0.01
    a, b = a / a.sum(), b / b.sum()
    there = sinkhorn_divergence(X, Y, a, b, reg=eps, metric=metric).value
    back = sinkhorn_divergence(Y, X, b, a, reg=eps, metric=metric).value
    assert there >= -1e-10
    assert_allclose(back, there, atol=1e-9)


def test_as_eps_grows_it_is_the_squared_distance_of_the_means(clouds):
    X, Y, a, b = clouds.X, clouds.Y + 0.5, clouds.a, clouds.b
    result = sinkhorn_divergence(X, Y, a, b, reg=1e6, reg_scale="mean")
    assert_allclose(result.value, np.sum((a @ X - b @ Y) ** 2), rtol=1e-4)


def test_as_eps_falls_it_is_the_transport_cost(rng):
    X = rng.normal(size=(30, 2))
    Y = X[rng.permutation(30)] + [3.0, 4.0]
    # the plan misses its marginals by tol, each worth up to the largest cost, 100
    assert_allclose(sinkhorn_divergence(X, Y, reg=1e-3, tol=1e-5).value, 25.0, rtol=1e-4)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan", "cosine", ("power", 3.0)])
def test_gradients_by_the_points_are_those_of_differences(rng, clouds, metric):
    X, Y, a, b = clouds.X, clouds.Y, clouds.a, clouds.b
    dX, dY = rng.normal(size=X.shape), rng.normal(size=Y.shape)

    def value(X, Y):
        return sinkhorn_divergence(X, Y, a, b, reg=0.1, metric=metric, tol=1e-13).value

    result = sinkhorn_divergence(X, Y, a, b, reg=0.1, metric=metric, gradient=True, tol=1e-13)
    assert_allclose(slope(lambda t: value(X + t * dX, Y)), np.sum(result.grad_X * dX), rtol=1e-6)
    assert_allclose(slope(lambda t: value(X, Y + t * dY)), np.sum(result.grad_Y * dY), rtol=1e-6)


def test_gradients_by_the_weights_are_those_of_differences_along_sum_zero_and_centred(rng, clouds):
    X, Y, a, b = clouds.X, clouds.Y, clouds.a, clouds.b
    da, db = rng.normal(size=20), rng.normal(size=27)
    da, db = a * (da - a @ da), b * (db - b @ db)

    def value(a, b):
        return sinkhorn_divergence(X, Y, a, b, reg=0.1, tol=1e-13).value

    result = sinkhorn_divergence(X, Y, a, b, reg=0.1, gradient=True, tol=1e-13)
    assert_allclose(slope(lambda t: value(a + t * da, b)), result.grad_a @ da, rtol=1e-6)
    assert_allclose(slope(lambda t: value(a, b + t * db)), result.grad_b @ db, rtol=1e-6)
    assert abs(a @ result.grad_a) < 1e-14 and abs(b @ result.grad_b) < 1e-14


@pytest.mark.parametrize("rho", [0.3, 5.0])
def test_unbalanced_gradients_are_those_of_differences_in_every_direction(rng, clouds, rho):
    X, Y, a, b = clouds.X, clouds.Y, 2 * clouds.a, clouds.b
    options = {"reg": 0.1, "marginal_reg": rho, "tol": 1e-13}
    result = sinkhorn_divergence(X, Y, a, b, gradient=True, **options)
    measures, gradients = (X, Y, a, b), (result.grad_X, result.grad_Y, result.grad_a, result.grad_b)
    for k, (x, gradient) in enumerate(zip(measures, gradients, strict=True)):
        direction = rng.random(x.shape) * (0.1 if x.ndim == 1 else 1.0)

        def value(t, k=k, moved=direction):
            return sinkhorn_divergence(
                *(y + t * moved if i == k else y for i, y in enumerate(measures)), **options
            ).value

        assert_allclose(slope(value), np.sum(gradient * direction), rtol=1e-6)


def test_the_gradient_vanishes_between_equal_measures(clouds):
    result = sinkhorn_divergence(clouds.X, clouds.X, clouds.a, clouds.a, reg=0.1, gradient=True, tol=1e-12)
    for gradient in (result.grad_X, result.grad_Y, result.grad_a, result.grad_b):
        assert abs(gradient).max() < 1e-9


def test_a_gradient_step_brings_the_measures_closer(clouds):
    result = sinkhorn_divergence(clouds.X, clouds.Y, reg=0.1, gradient=True)
    X = clouds.X - 0.1 * len(clouds.X) * result.grad_X
    assert sinkhorn_divergence(X, clouds.Y, reg=0.1).value < result.value


def test_euclidean_gradients_are_finite_at_coincident_points():
    X = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    for metric in ("euclidean", ("power", 1.5)):
        result = sinkhorn_divergence(X, X[[0, 2]], reg=0.1, metric=metric, gradient=True)
        assert np.isfinite(result.grad_X).all() and np.isfinite(result.grad_Y).all()


def test_one_eps_serves_all_three_terms(clouds):
    options = {"reg": 0.5, "reg_scale": "mean"}
    result = sinkhorn_divergence(clouds.X, clouds.Y, **options)
    eps = sinkhorn(PointCloudCost(clouds.X, clouds.Y), **options).reg
    assert_allclose(result.terms.aa, sinkhorn(PointCloudCost(clouds.X), reg=eps).value, rtol=1e-8)
    assert_allclose(result.terms.bb, sinkhorn(PointCloudCost(clouds.Y), reg=eps).value, rtol=1e-8)


def test_float32_stays_float32_and_keeps_four_digits_of_the_transport_cost(clouds):
    X, Y = clouds.X.astype(np.float32), (clouds.Y + 1).astype(np.float32)
    single = sinkhorn_divergence(X, Y, reg=0.1, gradient=True)
    double = sinkhorn_divergence(clouds.X, clouds.Y + 1, reg=0.1, gradient=True)
    gradients = (single.grad_X, single.grad_Y, single.grad_a, single.grad_b)
    assert {x.dtype for x in gradients} == {np.dtype(np.float32)} and type(single.value) is float
    assert_allclose(single.value, double.value, rtol=1e-4)
    assert_allclose(single.grad_X, double.grad_X, atol=1e-4 * abs(double.grad_X).max())


def test_callable_metrics_have_values_and_no_gradients(clouds):
    def metric(X, Y):
        return cdist(X, Y, "sqeuclidean")

    named, called = (sinkhorn_divergence(clouds.X, clouds.Y, reg=0.1, metric=m) for m in ("sqeuclidean", metric))
    assert_allclose(called.value, named.value, atol=1e-9)
    with pytest.raises(ValueError, match="callable"):
        sinkhorn_divergence(clouds.X, clouds.Y, reg=0.1, metric=metric, gradient=True)


def test_an_unfinished_term_is_said_in_converged_and_in_a_warning(clouds):
    with pytest.warns(ConvergenceWarning):
        result = sinkhorn_divergence(clouds.X, clouds.Y, reg=0.01, max_iter=2)
    assert not result.converged and np.isfinite(result.value)


def test_zero_weights_change_nothing(clouds):
    Y, b = np.concatenate([clouds.Y, [[9.0, 9.0]]]), np.append(clouds.b, 0.0)
    plain, padded = (
        sinkhorn_divergence(clouds.X, *pair, reg=0.1, gradient=True, tol=1e-12)
        for pair in ((clouds.Y, clouds.a, clouds.b), (Y, clouds.a, b))
    )
    assert_allclose(padded.value, plain.value, rtol=1e-9)
    assert_allclose(padded.grad_Y[:-1], plain.grad_Y, atol=1e-11)
    assert not padded.grad_Y[-1].any() and np.isfinite(padded.grad_b).all()


def test_a_divergence_survives_pickling(clouds):
    result = sinkhorn_divergence(clouds.X, clouds.Y, reg=0.1, gradient=True)
    back = pickle.loads(pickle.dumps(result))
    assert back.value == result.value and back.terms == result.terms and np.array_equal(back.grad_X, result.grad_X)
