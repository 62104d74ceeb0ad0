"""What several convex sets have in common, by Dykstra's projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_number, eps_of
from numcore.mirror._domains import Domain
from numcore.results import Loop

__all__ = ["Intersection"]


class Intersection(Domain):
    """What several domains have in common.

    Parameters
    ----------
    domains : sequence of Domain
        They must meet.
    tol : float
        Dykstra's algorithm [1]_ stops when a sweep moves no entry by more than this, relative to the largest
        of all sweeps.
    max_iter : int
        Sweeps at most.

    Warns
    -----
    ConvergenceWarning
        From :meth:`project`, after `max_iter` sweeps.

    References
    ----------
    .. [1] J. P. Boyle, R. L. Dykstra, "A method for finding projections onto the intersection of convex sets in Hilbert
       spaces", Lecture Notes in Statistics 37, 1986.

    Examples
    --------
    >>> from numcore.mirror import Ball, Box, Intersection
    >>> Intersection([Box(0.0, 1.0), Ball(1.0)]).project([3.0, -4.0])
    array([1., 0.])
    """

    def __init__(self, domains: Sequence[Domain], *, tol: float = 1e-10, max_iter: int = 1000) -> None:
        self.domains = tuple(domains)
        if not self.domains or not all(isinstance(domain, Domain) for domain in self.domains):
            raise TypeError(f"domains must be a sequence of domains, not empty; got {domains!r}")
        self.tol = as_number(tol, "tol", above=0)
        self.max_iter = as_count(max_iter, "max_iter")

    def project(self, v: Any) -> Array:
        x = as_floating(v, "v")
        xp = array_namespace(x)
        corrections = [xp.zeros_like(x) for _ in self.domains]
        loop = Loop("Dykstra's projection", tol=max(self.tol, 4 * eps_of(x)), max_iter=self.max_iter, residual="move")
        size = 0.0  # of the sets about the result: no smaller than what sweeps have ended at, and unlike v near them
        for _ in loop.stage():
            move = 0.0
            for k, domain in enumerate(self.domains):
                moved = domain.project(x + corrections[k])
                corrections[k] = x + corrections[k] - moved
                move = max(move, float(xp.max(abs(moved - x))) if x.size else 0.0)
                x = moved
            size = max(size, float(xp.max(abs(x))) if x.size else 0.0)
            loop.report(move / max(size, move) if move > 0 else 0.0)
        loop.finish()
        return x

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        x: np.ndarray[Any, Any] = self.project(self.domains[0].center(shape))
        return x

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        """The least of its domains' diameters: an upper bound."""
        return min(domain.diameter(norm, dim) for domain in self.domains)

    def linear_minimizer(self, g: Any) -> Array:
        """None is known in closed form."""
        raise NotImplementedError("an Intersection has no linear minimiser in closed form; use a CustomDomain")
