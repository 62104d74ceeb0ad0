"""Parts of Hessians against the whole of them by automatic differentiation, and what they are for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore import autodiff as ad
from numcore.algorithms.curvature import log_sum_exp_hessian, minimize_gns, power_norm_hessian


@pytest.fixture
def rng():
    return np.random.default_rng(2)


@pytest.mark.parametrize("p", [2.0, 2.5, 3.0, 4.0, 6.0])
def test_of_linear_residuals_the_gauss_newton_matrix_is_the_hessian(rng, p):
    A, b, x = rng.standard_normal((7, 4)), rng.standard_normal(7), rng.standard_normal(4)
    whole = ad.hessian(lambda x: ad.sum((A @ x - b) ** 2) ** (p / 2) / p)(x)
    u = A @ x - b
    assert_allclose(power_norm_hessian(u, A, p), whole, rtol=1e-9)
    least = np.linalg.norm(u) ** (p - 2) * A.T @ A
    assert_allclose(power_norm_hessian(u, A, p, kind="fisher_term"), whole - least, rtol=1e-9, atol=1e-9)


def test_the_fisher_term_is_a_multiple_of_the_gradients_outer_product(rng):
    A, u = rng.standard_normal((7, 4)), rng.standard_normal(7)
    gradient = np.linalg.norm(u) * A.T @ u  # of |u|^3 / 3
    term = power_norm_hessian(u, A, 3, kind="fisher_term")
    assert_allclose(term, np.outer(gradient, gradient) / np.linalg.norm(u) ** 3, rtol=1e-12)


def test_at_residuals_of_zero_nothing_overflows():
    J = np.eye(3)
    assert_allclose(power_norm_hessian(np.zeros(3), J), J)
    for p in (2.5, 3.0, 4.0):
        assert not power_norm_hessian(np.zeros(3), J, p).any()
    assert np.isfinite(power_norm_hessian(np.full(3, 1e-200), J, 3.0)).all()


@pytest.mark.parametrize("mu", [0.1, 1.0, 10.0])
def test_the_bound_on_the_smoothed_maximum_exceeds_the_hessian_by_rank_one(rng, mu):
    A, b, x = rng.standard_normal((9, 4)), rng.standard_normal(9), rng.standard_normal(4)
    z = A @ x - b
    whole = ad.hessian(lambda x: mu * ad.log(ad.sum(ad.exp((A @ x - b) / mu))))(x)
    s = np.exp(z / mu) / np.exp(z / mu).sum()
    t = A.T @ s
    assert_allclose(log_sum_exp_hessian(A, z, mu) - whole, np.outer(t, t) / mu, rtol=1e-7, atol=1e-9 / mu)


def test_with_these_hessians_gns_needs_far_fewer_steps_than_without(rng):
    A, b = rng.standard_normal((60, 20)) * np.geomspace(0.1, 1, 20), rng.standard_normal(60)
    mu = 1.0

    def fun(x):
        z = (A @ x - b) / mu
        return mu * (z.max() + np.log(np.exp(z - z.max()).sum())) + 1e-2 * x @ x / 2

    def grad(x):
        z = (A @ x - b) / mu
        s = np.exp(z - z.max())
        return A.T @ (s / s.sum()) + 1e-2 * x

    def hess(x):
        return log_sum_exp_hessian(A, A @ x - b, mu) + 1e-2 * np.eye(20)

    options = {"grad": grad, "tol": 1e-6}
    with_it, without = (minimize_gns(fun, np.zeros(20), hess=h, **options) for h in (hess, None))
    assert with_it.converged and without.converged and with_it.n_iter < without.n_iter / 10
    assert_allclose(with_it.fun, without.fun, rtol=1e-9)


def test_float32_stays(rng):
    A, z = rng.standard_normal((5, 3)).astype(np.float32), np.ones(5, np.float32)
    for H in (power_norm_hessian(z, A, 3.0), log_sum_exp_hessian(A, z, 0.5)):
        assert H.dtype == np.float32
        assert (H == H.T).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power_norm_hessian(np.ones(3), np.ones((3, 2)), 1.5), "p must be at least 2"),
        (lambda: power_norm_hessian(np.ones(3), np.ones((2, 2))), "J must have shape"),
        (lambda: power_norm_hessian(np.full(3, np.nan), np.ones((3, 2))), "u must be finite; 3"),
        (lambda: power_norm_hessian(np.ones(3), np.ones((3, 2)), kind="ggn"), "kind must be one of"),
        (lambda: log_sum_exp_hessian(np.ones((3, 2)), np.ones(2)), "A must have shape"),
        (lambda: log_sum_exp_hessian(np.ones((3, 2)), np.ones(3), 0.0), "mu"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
