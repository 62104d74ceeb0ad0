"""Separable mirror maps whose steps are multiplicative: entropy, hypentropy and the log barrier."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_floating, as_number, eps_of
from numcore.mirror._domains import Ball, Box, Domain, Simplex, Unconstrained
from numcore.mirror._maps import MirrorMap, _clipped, _log, _pair, _sum
from numcore.special import softmax

__all__ = ["Hypentropy", "LogBarrier", "NegativeEntropy"]


class NegativeEntropy(MirrorMap):
    """``sum x ln x - x`` on the non-negative vectors: exponentiated gradients.

    Steps on a :class:`Simplex` (1-strongly convex in l1 for mass 1), on a :class:`Box` and on the orthant. An entry
    that is 0 stays 0.

    References
    ----------
    .. [1] J. Kivinen, M. K. Warmuth, "Exponentiated gradient versus gradient descent for linear predictors", Inf.
       Comput. 132(1), 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.mirror import NegativeEntropy, Simplex
    >>> NegativeEntropy().step([0.5, 0.5], [0.0, np.log(3.0)], 1.0, Simplex())
    array([0.75, 0.25])
    """

    norm = "l1"

    def value(self, x: Any) -> Array:
        x = _not_negative(x, "x")
        return _sum(x * _log(x, 0.0) - x)

    def grad(self, x: Any) -> Array:
        return _log(_not_negative(x, "x"), -math.inf)

    def grad_conjugate(self, y: Any) -> Array:
        y = as_floating(y, "y", infinite="allow")
        return array_namespace(y).exp(y)

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(_not_negative(x, "x"), _not_negative(y, "y"), "x", "y")
        xp = array_namespace(x)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            logs = xp.where(x > 0, xp.log(x / y), xp.zeros_like(x))
            terms = xp.where(x > 0, x * logs, xp.zeros_like(x)) - (x - y)
        terms = xp.where((y == 0) & (x > 0), xp.full_like(x, math.inf), terms)
        return _sum(xp.where(terms > 0, terms, xp.zeros_like(terms)))

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        x = _not_negative(x, "x")
        xp = array_namespace(x)
        if isinstance(domain, Simplex):
            if not bool(xp.all(xp.any(x > 0, axis=-1))):
                raise ValueError("x must have a positive entry in each vector: entries that are 0 stay 0")
            return domain.scale * softmax(_log(x, -math.inf) - g)
        if isinstance(domain, (Box, Unconstrained)):
            _check_meets_orthant(domain, -math.ulp(0))
            with np.errstate(over="ignore"):
                moved = xp.where(x > 0, xp.exp(_log(x, 0.0) - g), x)
            return moved if isinstance(domain, Unconstrained) else _clipped(moved, domain)
        raise self._no_step(domain, "a Simplex, a Box and the orthant")


class Hypentropy(MirrorMap):
    """``sum x asinh(x / beta) - sqrt(x^2 + beta^2)``: between gradient steps and exponentiated ones of either sign.

    Steps on the whole space, an l1 :class:`Ball` around 0, a :class:`Simplex` and a :class:`Box`. On the l1 ball of
    radius r it is ``1 / (r + d beta)``-strongly convex in l1. Steps of ``eta / beta`` tend to gradient steps of eta as
    beta grows.

    Parameters
    ----------
    beta : float, positive

    References
    ----------
    .. [1] U. Ghai, E. Hazan, Y. Singer, "Exponentiated gradient meets gradient descent", ALT 2020.

    Examples
    --------
    >>> from numcore.mirror import Ball, Hypentropy
    >>> Hypentropy().step([0.0, 0.0], [-9.0, 1.0], 1.0, Ball(1.0, norm="l1"))
    array([1., 0.])
    """

    norm = "l1"

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = as_number(beta, "beta", above=0)

    def strong_convexity(self, dim: int = 1) -> float:
        """On the l1 ball of radius 1."""
        return 1 / (1 + dim * self.beta)

    def value(self, x: Any) -> Array:
        x = as_floating(x, "x")
        return _sum(x * self.grad(x) - self._root(x))

    def grad(self, x: Any) -> Array:
        x = as_floating(x, "x")
        return array_namespace(x).asinh(x / self.beta)

    def grad_conjugate(self, y: Any) -> Array:
        y = as_floating(y, "y")
        return self.beta * array_namespace(y).sinh(y)

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(x, y, "x", "y")
        xp = array_namespace(x)
        # the difference of the roots without cancellation: (y^2 - x^2) / (their sum)
        roots = (y - x) * ((y + x) / (self._root(x) + self._root(y)))
        terms = x * (self.grad(x) - self.grad(y)) + roots
        return _sum(xp.where(terms > 0, terms, xp.zeros_like(terms)))

    def _root(self, x: Array) -> Array:
        xp = array_namespace(x)
        return xp.hypot(x, xp.full_like(x, self.beta))

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        theta = self.grad(x) - g
        if isinstance(domain, Unconstrained):
            return self.grad_conjugate(theta)
        if isinstance(domain, Box):
            with np.errstate(over="ignore"):
                return _clipped(self.grad_conjugate(theta), domain)
        if isinstance(domain, Simplex):
            return self._on_simplex(theta, domain.scale)
        if isinstance(domain, Ball) and domain.norm == "l1" and domain.middle is None:
            xp = array_namespace(theta)
            with np.errstate(over="ignore"):
                free = self.grad_conjugate(theta)
                inside = xp.sum(abs(free), axis=-1, keepdims=True) <= domain.radius
            bounded = xp.where(inside, xp.zeros_like(theta), abs(theta))
            # 0.0 is added for a zero to be +0.0
            return xp.where(inside, free, 0.0 + xp.sign(theta) * self._on_simplex(bounded, domain.radius))
        raise self._no_step(domain, "the whole space, a centred l1 Ball, a Simplex and a Box")

    def _on_simplex(self, theta: Array, mass: float) -> Array:
        """``beta sinh(max(theta - mu, 0))`` of the given mass: Newton climbs to mu, since the sum is convex in it."""
        xp = array_namespace(theta)
        shifted = theta - xp.max(theta, axis=-1, keepdims=True)
        mu = xp.full_like(shifted[..., :1], -math.asinh(mass / self.beta))  # here the largest entry alone has the mass
        for _ in range(100):
            x = self._above(shifted, mu)
            slope = xp.sum(xp.where(x > 0, self._root(x), xp.zeros_like(x)), axis=-1, keepdims=True)
            move = (xp.sum(x, axis=-1, keepdims=True) - mass) / slope
            mu = mu + xp.where(move > 0, move, xp.zeros_like(move))
            if not bool(xp.any(move > eps_of(mu) * abs(mu))):
                break
        x = self._above(shifted, mu)
        return x * (mass / xp.sum(x, axis=-1, keepdims=True))

    def _above(self, theta: Array, mu: Array) -> Array:
        xp = array_namespace(theta)
        lifted = theta - mu
        return self.beta * xp.sinh(xp.where(lifted > 0, lifted, xp.zeros_like(lifted)))


class LogBarrier(MirrorMap):
    """``-sum ln x`` on the positive vectors; steps on a :class:`Simplex`, a :class:`Box` and the orthant.

    References
    ----------
    .. [1] J. Abernethy, E. Hazan, A. Rakhlin, "Competing in the dark: an efficient algorithm for bandit linear
       optimization", COLT 2008.

    Examples
    --------
    >>> from numcore.mirror import LogBarrier, Simplex
    >>> LogBarrier().step([0.5, 0.5], [0.0, 3.0], 1.0, Simplex()).round(4)
    array([0.7676, 0.2324])
    """

    def strong_convexity(self, dim: int = 1) -> float:
        return 0.0

    def value(self, x: Any) -> Array:
        return -_sum(_log(_positive(x, "x"), 0.0))

    def grad(self, x: Any) -> Array:
        return -1 / _positive(x, "x")

    def grad_conjugate(self, y: Any) -> Array:
        y = as_floating(y, "y")
        if bool(array_namespace(y).any(y >= 0)):
            raise ValueError("y must be negative: the log barrier has no other gradients")
        return -1 / y

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(_positive(x, "x"), _positive(y, "y"), "x", "y")
        xp = array_namespace(x)
        u = (x - y) / y
        terms = xp.where(u > -0.5, u - xp.log1p(xp.where(u > -0.5, u, 0 * u)), u - xp.log(x) + xp.log(y))
        return _sum(xp.where(terms > 0, terms, xp.zeros_like(terms)))

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        inverse = 1 / _positive(x, "x") + g
        xp = array_namespace(inverse)
        if isinstance(domain, Simplex):
            return domain.scale * self._on_simplex(domain.scale * inverse)
        _check_meets_orthant(domain, 0.0)
        rises = inverse > 0
        moved = xp.where(rises, 1 / xp.where(rises, inverse, xp.ones_like(inverse)), xp.full_like(inverse, math.inf))
        if isinstance(domain, Box):
            moved = _clipped(moved, domain)
        elif not isinstance(domain, Unconstrained):
            raise self._no_step(domain, "a Simplex, a Box and the orthant")
        if bool(xp.any(xp.isinf(moved))):
            raise ValueError("gradient must be above -1 / (step_size x) where the domain is unbounded: no minimum")
        return moved

    @staticmethod
    def _on_simplex(inverse: Array) -> Array:
        """``1 / (inverse + mu)`` of mass 1: Newton climbs from the left end, since the sum is convex in mu."""
        xp = array_namespace(inverse)
        c = inverse - xp.min(inverse, axis=-1, keepdims=True)
        mu = xp.ones_like(c[..., :1])
        for _ in range(100):
            x = 1 / (c + mu)
            move = (xp.sum(x, axis=-1, keepdims=True) - 1) / xp.sum(x * x, axis=-1, keepdims=True)
            mu = mu + xp.where(move > 0, move, xp.zeros_like(move))
            if not bool(xp.any(move > eps_of(mu) * mu)):
                break
        x = 1 / (c + mu)
        return x / xp.sum(x, axis=-1, keepdims=True)


def _check_meets_orthant(domain: Domain, above: float) -> None:
    if isinstance(domain, Box) and bool(np.any(np.asarray(domain.high) <= above)):
        raise ValueError(f"domain must hold vectors of the orthant; its least upper bound is {np.min(domain.high):g}")


def _not_negative(x: Any, name: str) -> Array:
    x = as_floating(x, name)
    count = int(array_namespace(x).count_nonzero(x < 0))
    if count:
        raise ValueError(f"{name} must not be negative; {count} of its {x.size} entries are")
    return x


def _positive(x: Any, name: str) -> Array:
    x = as_floating(x, name)
    count = int(array_namespace(x).count_nonzero(x <= 0))
    if count:
        raise ValueError(f"{name} must be positive; {count} of its {x.size} entries are not")
    return x
