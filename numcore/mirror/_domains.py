"""Closed convex sets: projections, centres, diameters and linear minimisers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from array_api_compat import device

from numcore import prox
from numcore.arrays import Array, array_namespace, as_choice, as_count, as_floating, as_number
from numcore.prox._projections import _check_bounds, _matrices, _symmetric, _vectors

__all__ = [
    "Ball",
    "Box",
    "CustomDomain",
    "Domain",
    "PSDCone",
    "Simplex",
    "Spectrahedron",
    "Unconstrained",
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
        g = _vectors(g, "g")
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
        if self.low.ndim == self.high.ndim == 1 and self.low.shape != self.high.shape:
            raise ValueError(f"low and high must be of one length; got {self.low.shape[0]} and {self.high.shape[0]}")
        _check_bounds(np.asarray(self.low), np.asarray(self.high))

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
        return np.full(shape, self.scale / _length(shape))

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        return 0.0 if dim == 1 else self.scale * 2 ** _INVERSE[_as_norm(norm)]

    def linear_minimizer(self, g: Any) -> Array:
        return self.scale * _first(_vectors(g, "g"), largest=False)


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
        d = _length(shape)
        return np.broadcast_to(self.trace / d * np.eye(d), (d, d) if isinstance(shape, int) else shape).copy()

    def diameter(self, norm: str = "l2", dim: int | None = None) -> float:
        return 0.0 if dim == 1 else self.trace * 2 ** _INVERSE[_as_norm(norm)]

    def linear_minimizer(self, g: Any) -> Array:
        g = _matrices(g, "g")
        vectors = array_namespace(g).linalg.eigh(_symmetric(g))[1][..., 0]
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
        g = _matrices(g, "g")
        if g.size and not self.contains(g, atol=1e-12 * float(array_namespace(g).max(abs(g)))):
            raise ValueError("g must be positive semidefinite: a linear function has no other minimum on the cone")
        return array_namespace(g).zeros_like(g)


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


def _length(shape: int | tuple[int, ...]) -> int:
    """That of the last axis."""
    return as_count(shape[-1] if isinstance(shape, tuple) else shape, "shape")


def _only_zero(g: Array, where: str) -> Array:
    if bool(array_namespace(g).any(g != 0)):
        raise ValueError(f"g must be 0: a linear function has no minimum on {where}")
    return g


def _first(x: Array, *, largest: bool) -> Array:
    """1 at the largest (or least) entry of each vector, the first of equals, and 0 elsewhere."""
    xp = array_namespace(x)
    place = (xp.argmax if largest else xp.argmin)(x, axis=-1, keepdims=True)
    return xp.astype(xp.arange(x.shape[-1], device=device(x)) == place, x.dtype)
