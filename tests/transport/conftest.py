"""Oracles for entropic transport: a dozen dense lines each in float64, written from the formulas alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import logsumexp, xlogy


def log(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


def kl(p, q):
    """``sum p log(p / q) - p + q`` with 0 log 0 = 0."""
    p, q = np.broadcast_arrays(p, q)
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return float(np.sum(xlogy(p, ratio) - p + q))


def solve(C, a, b, eps, rho=(np.inf, np.inf), n_iter=20_000, tol=1e-14):
    """The textbook iteration in logs, plain and unscheduled, until potentials stand still; returns f, g, P."""
    k1, k2 = (1.0 if r == np.inf else r / (r + eps) for r in rho)
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(n_iter):
        f_old, g_old = f, g
        f = -k1 * eps * logsumexp(log(b) + (g - C) / eps, axis=1)
        g = -k2 * eps * logsumexp(log(a)[:, None] + (f[:, None] - C) / eps, axis=0)
        if max(abs(f - f_old).max(), abs(g - g_old).max()) <= tol * max(1.0, abs(f).max(), abs(g).max()):
            break
    P = a[:, None] * b * np.exp((f[:, None] + g - C) / eps)
    return f, g, P


def primal(P, C, a, b, eps, rho=(np.inf, np.inf)):
    """``<P, C> + eps KL(P | a (x) b)``, with the marginal terms where they are soft."""
    value = float(np.sum(P * np.where(P > 0, C, 0))) + eps * kl(P, np.multiply.outer(a, b))
    for r, sums, weights in ((rho[0], P.sum(1), a), (rho[1], P.sum(0), b)):
        value += 0.0 if r == np.inf else r * kl(sums, weights)
    return value


@pytest.fixture(scope="session")
def oracle():
    return SimpleNamespace(solve=solve, primal=primal, kl=kl)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def random_weights(rng, n):
    w = rng.random(n) + 0.1
    return w / w.sum()


@pytest.fixture(scope="session")
def weights():
    """``weights(rng, n)``: uneven positive weights that sum to 1."""
    return random_weights


@pytest.fixture
def problem(rng):
    """A cost of i.i.d. uniform entries, and uneven weights."""
    return SimpleNamespace(C=rng.random((23, 31)), a=random_weights(rng, 23), b=random_weights(rng, 31))


@pytest.fixture
def clouds(rng):
    """Two point clouds in the plane with uneven weights, and the squared distances between them."""
    X, Y = rng.random((20, 2)), rng.normal(0.5, 0.3, (27, 2))
    C = ((X[:, None, :] - Y[None, :, :]) ** 2).sum(-1)
    return SimpleNamespace(X=X, Y=Y, C=C, a=random_weights(rng, 20), b=random_weights(rng, 27))
