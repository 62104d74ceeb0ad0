"""What every mirror map has, and how their points are read."""

from __future__ import annotations

from typing import Any

from numcore.arrays import Array, array_namespace, as_floating, as_number
from numcore.mirror._domains import Box, Domain, Unconstrained

__all__ = ["Euclidean", "MirrorMap"]


class MirrorMap:
    """A strictly convex function psi on vectors, by which steps are taken.

    Attributes
    ----------
    norm : str or None
        The norm in which psi is strongly convex (on the domains that it is for); None if in none.
    """

    norm: str | None = None

    def value(self, x: Any) -> Array:
        """``psi(x)`` of each point."""
        raise NotImplementedError

    def grad(self, x: Any) -> Array:
        """The gradient of psi: from points to the dual."""
        raise NotImplementedError

    def grad_conjugate(self, y: Any) -> Array:
        """The gradient of the conjugate: from the dual to points, the inverse of :meth:`grad`."""
        raise NotImplementedError

    def divergence(self, x: Any, y: Any) -> Array:
        """The Bregman divergence ``B(x, y)`` of each pair, never negative."""
        raise NotImplementedError

    def strong_convexity(self, dim: int = 1) -> float:
        """The modulus of strong convexity in `norm`, in `dim` dimensions (0 if there is none)."""
        return 1.0

    def step(self, x: Any, gradient: Any, step_size: float = 1.0, domain: Domain | None = None) -> Array:
        """``argmin_z step_size <gradient, z> + B(z, x)`` over the domain.

        Parameters
        ----------
        x : array_like
            A point of the domain, where psi is differentiable.
        gradient : array_like
            Of the shape of `x`.
        step_size : float, not negative
        domain : Domain, optional
            By default all of the space on which psi is defined.

        Returns
        -------
        array

        Raises
        ------
        ValueError
            If the map has no step on such a domain, or the minimum is not attained.
        """
        x, gradient = _pair(x, gradient, "x", "gradient")
        eta = as_number(step_size, "step_size", above=0, closed=True)
        return self._step(x, eta * gradient, Unconstrained() if domain is None else domain)

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        raise NotImplementedError

    def _no_step(self, domain: Domain, known: str) -> ValueError:
        return ValueError(f"{type(self).__name__} steps on {known}; got {type(domain).__name__}")


class Euclidean(MirrorMap):
    """``|x|^2 / 2``: steps are projected gradient steps, on every domain.

    Examples
    --------
    >>> from numcore.mirror import Ball, Euclidean
    >>> Euclidean().step([0.0, 0.0], [-3.0, -4.0], 1.0, Ball(1.0))
    array([0.6, 0.8])
    """

    norm = "l2"

    def value(self, x: Any) -> Array:
        return _sum(as_floating(x, "x") ** 2) / 2

    def grad(self, x: Any) -> Array:
        return as_floating(x, "x")

    def grad_conjugate(self, y: Any) -> Array:
        return as_floating(y, "y")

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(x, y, "x", "y")
        return _sum((x - y) ** 2) / 2

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        return domain.project(x - g)


def _pair(x: Any, y: Any, name: str, other: str) -> tuple[Array, Array]:
    """Two arrays of one shape, the second in the dtype of the first."""
    x = as_floating(x, name)
    y = as_floating(y, other, like=x, dtype=x.dtype)
    if x.shape != y.shape:
        raise ValueError(f"{other} must have the shape of {name}, {tuple(x.shape)}; got {tuple(y.shape)}")
    return x, y


def _sum(x: Array) -> Array:
    return array_namespace(x).sum(x, axis=-1)


def _log(x: Array, at_zero: float) -> Array:
    xp = array_namespace(x)
    return xp.where(x > 0, xp.log(xp.where(x > 0, x, xp.ones_like(x))), xp.full_like(x, at_zero))


def _clipped(x: Array, domain: Box) -> Array:
    """The Bregman projection of a separable map on a box: each entry is moved to the nearer bound."""
    xp = array_namespace(x)
    low, high = (as_floating(b, "bound", like=x, dtype=x.dtype, infinite="allow") for b in (domain.low, domain.high))
    return xp.minimum(xp.maximum(x, low), high)
