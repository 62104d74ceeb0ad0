"""Fixed points and roots as functions of their parameters."""

import numpy as np
import pytest

from numcore import autodiff as ad
from numcore.fixed_point import fixed_point as iterate
from numcore.results import ConvergenceWarning

RNG = np.random.default_rng(0)
W = 0.4 * RNG.standard_normal((4, 4))
X = RNG.standard_normal(4)


def phi(z, theta):
    return ad.tanh(theta["W"] @ z + theta["x"])


def unrolled(theta):
    z = np.zeros(4)
    for _ in range(300):
        z = phi(z, theta)
    return z


def solved(theta):
    return ad.fixed_point(phi, theta, np.zeros(4), tol=1e-13)[0]


def by_root(theta):
    return ad.root(lambda z, theta: z - phi(z, theta), theta, np.zeros(4))[0]


@pytest.mark.parametrize("solve", [solved, by_root])
def test_derivatives_are_those_of_the_unrolled_iteration(solve):
    theta, v = {"W": W, "x": X}, {"W": RNG.standard_normal((4, 4)), "x": RNG.standard_normal(4)}
    u = RNG.standard_normal(4)
    ours, exact = (ad.grad(lambda t, f=f: ad.sum(u * f(t)))(theta) for f in (solve, unrolled))
    for key in theta:
        np.testing.assert_allclose(ours[key], exact[key], rtol=1e-9, atol=1e-10)
    z, slope = ad.jvp(solve, (theta,), (v,))
    np.testing.assert_allclose(z, unrolled(theta), atol=1e-11)
    np.testing.assert_allclose(slope, ad.jvp(unrolled, (theta,), (v,))[1], rtol=1e-9, atol=1e-10)
    ours, exact = (ad.hvp(lambda t, f=f: ad.sum(u * f(t) ** 2), theta, v) for f in (solve, unrolled))
    for key in theta:
        np.testing.assert_allclose(ours[key], exact[key], rtol=1e-8, atol=1e-9)


def test_the_solver_can_be_chosen_and_reports_what_it_did():
    calls = []

    def solver(func, z0, *, tol, max_iter):
        calls.append(tol)
        return iterate(func, z0, tol=tol, max_iter=max_iter, method="picard")

    theta = {"W": W, "x": X}
    _, info = ad.fixed_point(phi, theta, np.zeros(4), solver=solver, tol=1e-9, adjoint_tol=1e-7)
    assert info.converged and info.n_iter > 1 and calls == [1e-9]
    ad.grad(lambda t: ad.sum(ad.fixed_point(phi, t, np.zeros(4), solver=solver, tol=1e-9, adjoint_tol=1e-7)[0]))(theta)
    assert calls == [1e-9, 1e-9, 1e-7]


def test_failures_warn():
    with pytest.warns(ConvergenceWarning):
        _, info = ad.fixed_point(lambda z, t: z + t, np.float64(1.0), np.zeros(2), max_iter=20)
    assert not info.converged
    with pytest.warns(ConvergenceWarning, match="root did not converge"):
        _, info = ad.root(lambda z, t: z**2 + t, np.float64(1.0), np.array([0.3]), max_iter=8)
    assert not info.converged


def test_traced_values_must_come_in_through_theta():
    with pytest.raises(TypeError, match="not in theta"):
        ad.grad(lambda w: ad.sum(ad.fixed_point(lambda z, t: ad.tanh(w * z + t), 0.1, np.zeros(2))[0]))(0.5)


def test_large_roots_are_found_by_gmres():
    n = 300
    F = lambda z, t: 3 * z + ad.sin(ad.roll(z, 1)) - t  # noqa: E731
    t = np.linspace(-1, 1, n)
    z, info = ad.root(F, t, np.zeros(n))
    assert info.converged and np.abs(F(z, t)).max() < 1e-9
    g = ad.grad(lambda t: ad.sum(ad.root(F, t, np.zeros(n))[0] ** 2))(t)
    J = ad.jacobian(lambda z: F(z, t), mode="forward")(z)
    np.testing.assert_allclose(g, np.linalg.solve(J.T, 2 * z), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype):
    f = lambda t: ad.sum(ad.root(lambda z, t: z**3 - t, t, np.ones(2, dtype))[0])  # noqa: E731
    g = ad.grad(f)(np.array([8.0, 27.0], dtype))
    assert g.dtype == dtype
    np.testing.assert_allclose(g, [1 / 12, 1 / 27], rtol=1e-5)


def test_a_root_of_nan_is_not_called_found():
    with pytest.warns(ConvergenceWarning, match="root did not converge"), np.errstate(invalid="ignore"):
        _, info = ad.root(lambda z, t: z * np.nan, np.float64(1.0), np.ones(2))
    assert not info.converged
