"""Mirror maps that are half the square of a norm: of p-norms, and of the norm of a matrix."""

from __future__ import annotations

import math
from typing import Any

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_number, eps_of
from numcore.mirror._domains import Ball, Domain, Unconstrained
from numcore.mirror._maps import MirrorMap, _pair, _sum
from numcore.prox._projections import _double, on_metric_ball
from numcore.results import Loop

__all__ = ["Mahalanobis", "PNorm"]


class PNorm(MirrorMap):
    """``|x|_p^2 / 2`` for 1 < p <= 2, (p - 1)-strongly convex in l_p; unconstrained.

    Parameters
    ----------
    p : float, optional
        None stands for the conjugate exponent ``q = max(2, 2 ln d)``, which comes near to l1.

    References
    ----------
    .. [1] C. Gentile, "The robustness of the p-norm algorithms", Machine Learning 53, 2003.

    Examples
    --------
    >>> from numcore.mirror import PNorm
    >>> PNorm(2.0).step([1.0, 2.0], [1.0, 1.0], 0.5)
    array([0.5, 1.5])
    """

    norm = "lp"

    def __init__(self, p: float | None = None) -> None:
        self.p = p if p is None else as_number(p, "p", above=1)
        if self.p is not None and self.p > 2:
            raise ValueError(f"p must satisfy 1 < p <= 2; got {p!r}")

    def exponent(self, dim: int) -> float:
        """The p in `dim` dimensions."""
        if self.p is not None:
            return self.p
        q = max(2.0, 2 * math.log(as_count(dim, "dim")))
        return q / (q - 1)

    def strong_convexity(self, dim: int = 1) -> float:
        return self.exponent(dim) - 1

    def value(self, x: Any) -> Array:
        x = as_floating(x, "x")
        return _p_norm(x, self.exponent(x.shape[-1])) ** 2 / 2

    def grad(self, x: Any) -> Array:
        x = as_floating(x, "x")
        return _p_dual(x, self.exponent(x.shape[-1]))

    def grad_conjugate(self, y: Any) -> Array:
        y = as_floating(y, "y")
        p = self.exponent(y.shape[-1])
        return _p_dual(y, p / (p - 1))

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(x, y, "x", "y")
        xp = array_namespace(x)
        # psi(x) - psi(y) - <grad psi(y), x - y>, and <grad psi(y), y> = 2 psi(y)
        gap = self.value(x) + self.value(y) - _sum(self.grad(y) * x)
        return xp.where(gap > 0, gap, xp.zeros_like(gap))

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        if not isinstance(domain, Unconstrained):
            raise self._no_step(domain, "the whole space")
        return self.grad_conjugate(self.grad(x) - g)


class Mahalanobis(MirrorMap):
    """``x^T A x / 2``: steps in the metric of A, on every domain.

    On the whole space and l2 balls they are exact; elsewhere projected by an accelerated gradient method.

    Parameters
    ----------
    A : (d, d) array_like
        Symmetric positive definite.

    References
    ----------
    .. [1] E. Hazan, A. Agarwal, S. Kale, "Logarithmic regret algorithms for online convex optimization", Machine
       Learning 69, 2007.

    Examples
    --------
    >>> from numcore.mirror import Mahalanobis
    >>> Mahalanobis([[2.0, 0.0], [0.0, 4.0]]).step([0.0, 0.0], [1.0, 1.0])
    array([-0.5 , -0.25])
    """

    norm = "A"

    def __init__(self, A: Any) -> None:
        A = as_floating(A, "A", ndim=2)
        xp = array_namespace(A)
        if A.shape[0] != A.shape[1] or A.shape[0] == 0:
            raise ValueError(f"A must be square, not empty; got shape {tuple(A.shape)}")
        if float(xp.max(abs(A - A.T))) > 1e-6 * float(xp.max(abs(A))):
            raise ValueError(f"A must be symmetric; its largest asymmetry is {float(xp.max(abs(A - A.T))):g}")
        self.A = A
        self._values, self._vectors = xp.linalg.eigh(_double(A))
        if float(xp.min(self._values)) <= 0:
            raise ValueError(f"A must be positive definite; its least eigenvalue is {float(xp.min(self._values)):g}")

    def value(self, x: Any) -> Array:
        x = as_floating(x, "x")
        return _sum(x * self.grad(x)) / 2

    def grad(self, x: Any) -> Array:
        x = as_floating(x, "x")
        return x @ self._like(x)

    def grad_conjugate(self, y: Any) -> Array:
        y = as_floating(y, "y")
        values, vectors = self._eigen(y)
        return array_namespace(y).astype((_double(y) @ vectors / values) @ vectors.T, y.dtype, copy=False)

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(x, y, "x", "y")
        gap = self.value(x - y)
        return array_namespace(x).where(gap > 0, gap, 0 * gap)

    def _like(self, x: Array) -> Array:
        return as_floating(self.A, "A", shape=(x.shape[-1], x.shape[-1]), like=x, dtype=x.dtype)

    def _eigen(self, x: Array) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors, in double precision, where `x` is."""
        self._like(x)
        values, vectors = (as_floating(a, "A", like=x) for a in (self._values, self._vectors))
        return _double(values), _double(vectors)

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        v = x - self.grad_conjugate(g)
        if isinstance(domain, Unconstrained):
            return v
        if isinstance(domain, Ball) and domain.norm == "l2":
            c = domain._middle(v)
            return c + on_metric_ball(v - c, *self._eigen(v), domain.radius)
        return self._projected(v, domain)

    def _projected(self, v: Array, domain: Domain) -> Array:
        """The nearest point in this metric, by projected gradients with the momentum for strongly convex functions."""
        xp, smooth = array_namespace(v), float(self._values[-1])
        root = math.sqrt(float(self._values[0]) / smooth)
        momentum = (1 - root) / (1 + root)
        z = y = domain.project(v)
        tol = max(1e-12, 4 * eps_of(v))
        limit = int(100 + 60 / root)
        loop = Loop("the projection in the metric of A", tol=tol, max_iter=limit, residual="move")
        for _ in loop.stage():
            before, z = z, domain.project(y - self.grad(y - v) / smooth)
            move = float(xp.max(abs(z - y))) if z.size else 0.0
            y = z + momentum * (z - before)
            loop.report(move / (1e-300 + (float(xp.max(abs(z))) if z.size else 0.0)) if move else 0.0)
        loop.finish()
        return z


def _p_norm(x: Array, p: float) -> Array:
    xp = array_namespace(x)
    top = xp.max(abs(x), axis=-1)
    safe = xp.where(top > 0, top, xp.ones_like(top))
    return top * _sum((abs(x) / safe[..., None]) ** p) ** (1 / p)


def _p_dual(x: Array, p: float) -> Array:
    """``sign(x) |x|^(p - 1) |x|_p^(2 - p)``, through ``x / max|x|``."""
    xp = array_namespace(x)
    top = xp.max(abs(x), axis=-1, keepdims=True)
    unit = x / xp.where(top > 0, top, xp.ones_like(top))
    size = _p_norm(unit, p)[..., None]
    size = xp.where(size > 0, size, xp.ones_like(size))
    return top * xp.sign(unit) * abs(unit) ** (p - 1) * size ** (2 - p)
