r"""Domains, mirror maps and their Bregman divergences.

A domain knows its projection, centre, diameter and linear minimiser. A mirror map psi knows its gradient, the inverse
of that (the gradient of the conjugate), its Bregman divergence ``B(x, y) = psi(x) - psi(y) - <grad psi(y), x - y>``,
and the step

.. math:: x^+ = \arg\min_{z \in X}\ \eta \langle g, z \rangle + B(z, x)

on the domains for which there is an exact or nearly exact one. Points are vectors along the last axis, or matrices in
the last two (spectrahedron, cone, von Neumann entropy); leading axes are a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from array_api_compat import device

from numcore import prox
from numcore.arrays import Array, array_namespace, as_choice, as_count, as_floating, as_number, eps_of
from numcore.results import Loop
from numcore.special import softmax

__all__ = [
    "Ball",
    "Box",
    "CustomDomain",
    "Domain",
    "Euclidean",
    "Hypentropy",
    "Intersection",
    "LogBarrier",
    "Mahalanobis",
    "MirrorMap",
    "NegativeEntropy",
    "PNorm",
    "PSDCone",
    "Simplex",
    "Spectrahedron",
    "Unconstrained",
    "VonNeumannEntropy",
]


class Domain:
    """A closed convex set."""

    matrix: ClassVar[bool] = False
    """Whether its points are matrices."""

    def project(self, v: Any) -> Array:
        """The nearest point, in the Euclidean (for matrices the Frobenius) norm."""
        raise NotImplementedError

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A central point of the given shape, to start from."""
        raise NotImplementedError

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        """The largest distance of two points, in the norm "l2", "l1" or "linf"; inf if there is none.

        In norms other than its own a set may need to be told its dimension, `dim`.
        """
        raise NotImplementedError

    def contains(self, x: Any, atol: float = 1e-9) -> bool:
        """Whether `x`, all of a batch, lies within `atol` of the set in each entry."""
        x = as_floating(x, "x")
        return bool(array_namespace(x).all(abs(self.project(x) - x) <= atol))

    def linear_minimizer(self, g: Any) -> Array:
        """A point with the least inner product with `g`."""
        raise NotImplementedError


class Unconstrained(Domain):
    """The whole space.

    Examples
    --------
    >>> from numcore.mirror import Unconstrained
    >>> Unconstrained().project([1.0, -2.0])
    array([ 1., -2.])
    """

    def project(self, v: Any) -> Array:
        return as_floating(v, "v")

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.zeros(shape)

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        _as_norm(norm)
        return math.inf

    def linear_minimizer(self, g: Any) -> Array:
        """The origin for g = 0; otherwise there is none."""
        return _only_zero(as_floating(g, "g"), "the whole space")


class Ball(Domain):
    """The points at most `radius` from `center` in a norm.

    Parameters
    ----------
    radius : float, positive
    center : (d,) array_like, optional
        The origin by default.
    norm : {"l2", "l1", "linf"}

    Attributes
    ----------
    radius : float
    middle : array or None
        The centre, as given.
    norm : str

    Examples
    --------
    >>> from numcore.mirror import Ball
    >>> Ball(1.0).project([3.0, 4.0])
    array([0.6, 0.8])
    >>> Ball(2.0, norm="l1").linear_minimizer([1.0, -3.0])
    array([0., 2.])
    """

    _saved_as: ClassVar[dict[str, str]] = {"center": "middle"}

    def __init__(self, radius: float = 1.0, *, center: Any = None, norm: str = "l2") -> None:
        self.radius = as_number(radius, "radius", above=0)
        self.middle = None if center is None else as_floating(center, "center", ndim=1)
        self.norm = _as_norm(norm)

    def project(self, v: Any) -> Array:
        v = as_floating(v, "v")
        onto = {"l2": prox.project_l2_ball, "l1": prox.project_l1_ball, "linf": prox.project_linf_ball}[self.norm]
        if self.middle is None:
            return onto(v, self.radius)
        c = self._middle(v)
        return c + onto(v - c, self.radius)

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.zeros(shape) if self.middle is None else np.broadcast_to(self.middle, shape).copy()

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        # |x|_norm <= d^e |x|_own, with equality for some x
        exponent = max(0.0, _INVERSE[_as_norm(norm)] - _INVERSE[self.norm])
        if exponent == 0:
            return 2 * self.radius
        return 2 * self.radius * self._dim(dim) ** exponent

    def linear_minimizer(self, g: Any) -> Array:
        g = as_floating(g, "g")
        xp = array_namespace(g)
        if self.norm == "l2":
            zero = ~xp.any(g != 0, axis=-1, keepdims=True)
            step = -xp.where(zero, g, prox.project_unit_rows(g))
        elif self.norm == "l1":
            step = -_first(abs(g), largest=True) * xp.sign(g)
        else:
            step = -xp.sign(g)
        return self._middle(g) + self.radius * step

    def _middle(self, like: Array) -> Array:
        xp = array_namespace(like)
        c = xp.zeros(like.shape[-1:], dtype=like.dtype, device=device(like)) if self.middle is None else self.middle
        return as_floating(c, "center", shape=(like.shape[-1],), like=like, dtype=like.dtype)

    def _dim(self, dim: int | None) -> int:
        if dim is not None:
            return dim
        if self.middle is None:
            raise ValueError(f"dim must be given: the diameter of an {self.norm} ball in another norm depends on it")
        return int(self.middle.shape[0])


class Box(Domain):
    """The points between two bounds.

    Parameters
    ----------
    low, high : float or (d,) array_like
        The bounds; infinite ones are none.

    Examples
    --------
    >>> from numcore.mirror import Box
    >>> Box(-1.0, [1.0, 2.0]).project([-3.0, 3.0])
    array([-1.,  2.])
    """

    def __init__(self, low: Any, high: Any) -> None:
        self.low = as_floating(low, "low", ndim=(0, 1), infinite="allow")
        self.high = as_floating(high, "high", ndim=(0, 1), infinite="allow")
        crossed = int(np.count_nonzero(np.asarray(self.low) > np.asarray(self.high)))
        if crossed:
            raise ValueError(f"low must not be above high; {crossed} of its entries are")

    def project(self, v: Any) -> Array:
        return prox.project_box(v, self.low, self.high)

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        low, high = (np.broadcast_to(np.asarray(bound), shape) for bound in (self.low, self.high))
        bounded = np.isfinite(low) & np.isfinite(high)
        middle = np.where(bounded, low, 0) / 2 + np.where(bounded, high, 0) / 2
        return np.where(bounded, middle, np.clip(0.0, low, high))

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        width = np.asarray(self.high, np.float64) - np.asarray(self.low, np.float64)
        if _as_norm(norm) == "linf":
            return float(width.max())
        if width.ndim == 0:
            if dim is None:
                raise ValueError("dim must be given: the diameter of a box with scalar bounds depends on it")
            width = np.full(dim, width)
        return float(np.sum(width) if norm == "l1" else np.linalg.norm(width))

    def linear_minimizer(self, g: Any) -> Array:
        g = as_floating(g, "g")
        xp = array_namespace(g)
        low, high = (as_floating(b, "bound", like=g, dtype=g.dtype, infinite="allow") for b in (self.low, self.high))
        inner = as_floating(self.center(tuple(g.shape)), "center", like=g, dtype=g.dtype)
        x = xp.where(g > 0, low, xp.where(g < 0, high, inner))
        if bool(xp.any(xp.isinf(x))):
            raise ValueError("g must be 0 where the box is unbounded: a linear function has no minimum there")
        return x


class Simplex(Domain):
    """The non-negative vectors of sum `scale`.

    Parameters
    ----------
    scale : float, positive

    Examples
    --------
    >>> from numcore.mirror import Simplex
    >>> Simplex().linear_minimizer([3.0, 1.0, 2.0])
    array([0., 1., 0.])
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = as_number(scale, "scale", above=0)

    def project(self, v: Any) -> Array:
        return prox.project_simplex(v, self.scale)

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        d = shape if isinstance(shape, int) else shape[-1]
        return np.full(shape, self.scale / d)

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        return 0.0 if dim == 1 else self.scale * 2 ** _INVERSE[_as_norm(norm)]

    def linear_minimizer(self, g: Any) -> Array:
        return self.scale * _first(as_floating(g, "g"), largest=False)


class Spectrahedron(Domain):
    """The symmetric positive semidefinite matrices of a given trace; norms are of the eigenvalues.

    Parameters
    ----------
    trace : float, positive

    Examples
    --------
    >>> from numcore.mirror import Spectrahedron
    >>> Spectrahedron().center(2)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    matrix = True

    def __init__(self, trace: float = 1.0) -> None:
        self.trace = as_number(trace, "trace", above=0)

    def project(self, v: Any) -> Array:
        return prox.project_spectrahedron(v, self.trace)

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        d = shape if isinstance(shape, int) else shape[-1]
        return np.broadcast_to(self.trace / d * np.eye(d), (d, d) if isinstance(shape, int) else shape).copy()

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        return 0.0 if dim == 1 else self.trace * 2 ** _INVERSE[_as_norm(norm)]

    def linear_minimizer(self, g: Any) -> Array:
        g = as_floating(g, "g")
        xp = array_namespace(g)
        vectors = xp.linalg.eigh((g + xp.matrix_transpose(g)) / 2)[1][..., 0]
        return self.trace * vectors[..., :, None] * vectors[..., None, :]


class PSDCone(Domain):
    """The symmetric positive semidefinite matrices.

    Examples
    --------
    >>> from numcore.mirror import PSDCone
    >>> PSDCone().contains([[1.0, 2.0], [2.0, 1.0]])
    False
    """

    matrix = True

    def project(self, v: Any) -> Array:
        return prox.project_psd(v)

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.zeros((shape, shape) if isinstance(shape, int) else shape)

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        _as_norm(norm)
        return math.inf

    def linear_minimizer(self, g: Any) -> Array:
        """The origin where g is positive semidefinite; otherwise there is none."""
        g = as_floating(g, "g")
        if not self.contains(g, atol=1e-12 * float(array_namespace(g).max(abs(g)))):
            raise ValueError("g must be positive semidefinite: a linear function has no other minimum on the cone")
        return array_namespace(g).zeros_like(g)


class Intersection(Domain):
    """What several domains have in common.

    Parameters
    ----------
    domains : sequence of Domain
        They must meet.
    tol : float
        Dykstra's algorithm [1]_ stops when a sweep moves no entry by more than this, relative to the largest.
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
        for _ in loop.stage():
            move = 0.0
            for k, domain in enumerate(self.domains):
                moved = domain.project(x + corrections[k])
                corrections[k] = x + corrections[k] - moved
                move = max(move, float(xp.max(abs(moved - x))) if x.size else 0.0)
                x = moved
            loop.report(move / (1 + (float(xp.max(abs(x))) if x.size else 0.0)))
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


class CustomDomain(Domain):
    """A domain given by its functions.

    Parameters
    ----------
    project : callable
        From a point to the nearest one of the set.
    diameter : float
        The largest distance of two points, in the norm that it will be asked for.
    center : array_like
        A point to start from.
    linear_minimizer : callable, optional
        From g to a point with the least inner product with g.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.mirror import CustomDomain
    >>> CustomDomain(lambda v: np.maximum(v, 1.0), diameter=np.inf, center=[1.0]).project([-1.0, 3.0])
    array([1., 3.])
    """

    _saved_as: ClassVar[dict[str, str]] = {
        "project": "_project",
        "diameter": "_diameter",
        "center": "middle",
        "linear_minimizer": "_linear_minimizer",
    }

    def __init__(
        self,
        project: Callable[[Array], Array],
        *,
        diameter: float,
        center: Any,
        linear_minimizer: Callable[[Array], Array] | None = None,
    ) -> None:
        for function, name in ((project, "project"), (linear_minimizer, "linear_minimizer")):
            if not callable(function) and (name == "project" or function is not None):
                raise TypeError(f"{name} must be callable; got {function!r}")
        self._project, self._linear_minimizer = project, linear_minimizer
        self._diameter = as_number(diameter, "diameter", above=0, infinite=True)
        self.middle = as_floating(center, "center")

    def project(self, v: Any) -> Array:
        return self._project(as_floating(v, "v"))

    def center(self, shape: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.broadcast_to(np.asarray(self.middle), shape).copy()

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        _as_norm(norm)
        return self._diameter

    def linear_minimizer(self, g: Any) -> Array:
        if self._linear_minimizer is None:
            raise NotImplementedError("this CustomDomain was given no linear_minimizer")
        return self._linear_minimizer(as_floating(g, "g"))


_INVERSE = {"l1": 1.0, "l2": 0.5, "linf": 0.0}


def _as_norm(norm: Any) -> str:
    return str(as_choice(norm, "norm", ("l2", "l1", "linf")))


def _only_zero(g: Array, where: str) -> Array:
    if bool(array_namespace(g).any(g != 0)):
        raise ValueError(f"g must be 0: a linear function has no minimum on {where}")
    return g


def _first(x: Array, *, largest: bool) -> Array:
    """1 at the largest (or least) entry of each vector, the first of equals, and 0 elsewhere."""
    xp = array_namespace(x)
    place = (xp.argmax if largest else xp.argmin)(x, axis=-1, keepdims=True)
    return xp.astype(xp.arange(x.shape[-1], device=device(x)) == place, x.dtype)


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
            return domain.scale * softmax(_log(x, -math.inf) - g)
        if isinstance(domain, (Box, Unconstrained)):
            with np.errstate(over="ignore"):
                moved = xp.where(x > 0, xp.exp(_log(x, 0.0) - g), x)
            return moved if isinstance(domain, Unconstrained) else _clipped(moved, domain)
        raise self._no_step(domain, "a Simplex, a Box and the orthant")


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
        q = max(2.0, 2 * math.log(dim))
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
    array([ 1., -0.])
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
            return xp.where(inside, free, xp.sign(theta) * self._on_simplex(bounded, domain.radius))
        raise self._no_step(domain, "the whole space, a centred l1 Ball, a Simplex and a Box")

    def _on_simplex(self, theta: Array, mass: float) -> Array:
        """``beta sinh(max(theta - mu, 0))`` of the given mass, mu by bisection."""
        xp, d = array_namespace(theta), theta.shape[-1]
        top = xp.max(theta, axis=-1, keepdims=True)
        # the largest entry has between all of the mass and a d-th of it
        low, high = math.asinh(mass / self.beta), math.asinh(mass / self.beta / d)
        near, far = xp.full_like(top, -low), xp.full_like(top, -high)
        shifted = theta - top
        for _ in range(2 * 52):
            mu = (near + far) / 2
            total = xp.sum(self._above(shifted, mu), axis=-1, keepdims=True)
            near, far = xp.where(total > mass, mu, near), xp.where(total > mass, far, mu)
        x = self._above(shifted, (near + far) / 2)
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
            return self._on_simplex(inverse, domain.scale)
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
    def _on_simplex(inverse: Array, mass: float) -> Array:
        """``1 / (inverse + mu)`` of the given mass: Newton climbs from the left end, since the sum is convex in mu."""
        xp = array_namespace(inverse)
        c = inverse - xp.min(inverse, axis=-1, keepdims=True)
        mu = xp.full_like(c[..., :1], 1 / mass)
        for _ in range(100):
            x = 1 / (c + mu)
            move = (xp.sum(x, axis=-1, keepdims=True) - mass) / xp.sum(x * x, axis=-1, keepdims=True)
            mu = mu + xp.where(move > 0, move, xp.zeros_like(move))
            if not bool(xp.any(move > eps_of(mu) * mu)):
                break
        x = 1 / (c + mu)
        return x * (mass / xp.sum(x, axis=-1, keepdims=True))


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
        if A.shape[0] != A.shape[1]:
            raise ValueError(f"A must be square; got shape {tuple(A.shape)}")
        if float(xp.max(abs(A - A.T))) > 1e-6 * float(xp.max(abs(A))):
            raise ValueError(f"A must be symmetric; its largest asymmetry is {float(xp.max(abs(A - A.T))):g}")
        self.A = A
        self._values = xp.linalg.eigvalsh(A)
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
        xp = array_namespace(y)
        flat = xp.reshape(y, (-1, y.shape[-1]))
        return xp.reshape(xp.linalg.solve(self._like(y), flat.T).T, y.shape)

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(x, y, "x", "y")
        gap = self.value(x - y)
        return array_namespace(x).where(gap > 0, gap, 0 * gap)

    def _like(self, x: Array) -> Array:
        return as_floating(self.A, "A", shape=(x.shape[-1], x.shape[-1]), like=x, dtype=x.dtype)

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        v = x - self.grad_conjugate(g)
        if isinstance(domain, Unconstrained):
            return v
        if isinstance(domain, Ball) and domain.norm == "l2":
            c = domain._middle(v)
            return c + prox.project_metric_ball(v - c, self.A, domain.radius)
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


class VonNeumannEntropy(MirrorMap):
    """``tr(X ln X - X)`` on the positive semidefinite matrices: matrix exponentiated gradients.

    Steps on a :class:`Spectrahedron` and the :class:`PSDCone` (or no domain). Eigenvalues that are 0 count as the least
    positive number.

    References
    ----------
    .. [1] K. Tsuda, G. Rätsch, M. K. Warmuth, "Matrix exponentiated gradient updates for on-line learning and Bregman
       projection", JMLR 6, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.mirror import Spectrahedron, VonNeumannEntropy
    >>> VonNeumannEntropy().step(np.eye(2) / 2, np.diag([0.0, np.log(3.0)]), 1.0, Spectrahedron()).round(12)
    array([[0.75, 0.  ],
           [0.  , 0.25]])
    """

    norm = "nuclear"

    def value(self, x: Any) -> Array:
        values, _ = self._eigen(x, "x")
        return _sum(values * _log(values, 0.0) - values)

    def grad(self, x: Any) -> Array:
        values, vectors = self._eigen(x, "x")
        return _compose(_log(values, 0.0), vectors)

    def grad_conjugate(self, y: Any) -> Array:
        values, vectors = _eigh(as_floating(y, "y"), "y")
        return _compose(array_namespace(values).exp(values), vectors)

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(x, y, "x", "y")
        xp = array_namespace(x)
        a, U = self._eigen(x, "x")
        b, V = self._eigen(y, "y")
        # sum_ij <u_i, v_j>^2 (a_i ln(a_i / b_j) - a_i + b_j), whose terms are not negative
        overlap = (xp.matrix_transpose(U) @ V) ** 2
        a, b = a[..., :, None], b[..., None, :]
        terms = a * (_log(a, 0.0) - _log(b, 0.0)) - a + b
        terms = xp.where(terms > 0, terms, xp.zeros_like(terms))
        return xp.sum(overlap * terms, axis=(-2, -1))

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        values, vectors = _eigh(self.grad(x) - g, "gradient")
        if isinstance(domain, Spectrahedron):
            return _compose(domain.trace * softmax(values), vectors)
        if isinstance(domain, (PSDCone, Unconstrained)):
            return _compose(array_namespace(values).exp(values), vectors)
        raise self._no_step(domain, "a Spectrahedron and the PSDCone")

    @staticmethod
    def _eigen(x: Any, name: str) -> tuple[Array, Array]:
        """Eigenvalues, raised to the least positive number, and eigenvectors."""
        x = as_floating(x, name)
        xp = array_namespace(x)
        values, vectors = _eigh(x, name)
        slack = 100 * eps_of(x) * xp.max(abs(values), axis=-1, keepdims=True)
        if bool(xp.any(values < -slack)):
            raise ValueError(f"{name} must be positive semidefinite; its least eigenvalue is {float(xp.min(values)):g}")
        least = float(xp.finfo(x.dtype).smallest_normal)
        return xp.where(values > least, values, xp.full_like(values, least)), vectors


def _pair(x: Any, y: Any, name: str, other: str) -> tuple[Array, Array]:
    """Two arrays of one shape, the second in the dtype of the first."""
    x = as_floating(x, name)
    y = as_floating(y, other, like=x, dtype=x.dtype)
    if x.shape != y.shape:
        raise ValueError(f"{other} must have the shape of {name}, {tuple(x.shape)}; got {tuple(y.shape)}")
    return x, y


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


def _eigh(x: Array, name: str) -> tuple[Array, Array]:
    xp = array_namespace(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} must be square matrices; got shape {tuple(x.shape)}")
    values, vectors = xp.linalg.eigh((x + xp.matrix_transpose(x)) / 2)
    return values, vectors


def _compose(values: Array, vectors: Array) -> Array:
    """``V diag(values) V^T``, exactly symmetric."""
    xp = array_namespace(values)
    x = (vectors * values[..., None, :]) @ xp.matrix_transpose(vectors)
    return (x + xp.matrix_transpose(x)) / 2
