"""Ground costs between points. A metric knows its matrix, its gradient and a bound, and nothing about loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_number, is_numpy

__all__ = ["Cosine", "Custom", "Manhattan", "Metric", "Power", "as_metric"]


class Metric:
    """A ground cost ``c(x, y)``."""

    @property
    def name(self) -> str:
        """What it is called."""
        raise NotImplementedError

    def pairwise(self, X: Array, Y: Array) -> Array:
        """``c(x_i, y_j)`` as an (n, m) array."""
        raise NotImplementedError

    def rows(self, X: Array, Y: Array) -> Callable[[slice], Array]:
        """A function from a slice of sources to their rows of the matrix, with what they share prepared once."""
        return lambda block: self.pairwise(X[block, :], Y)

    def gradient(self, X: Array, Y: Array, P: Array) -> Array:
        """``sum_j P_ij grad_x c(x_i, y_j)`` as an (n, d) array."""
        raise NotImplementedError

    def bound(self, X: Array, Y: Array) -> float | None:
        """An upper bound of max c - min c in O((n + m) d), or None where only a pass over all pairs tells."""
        raise NotImplementedError

    def check(self, X: Array, name: str) -> None:
        """Refuse points for which the cost is not defined."""


@dataclass(frozen=True)
class Power(Metric):
    """``scale |x - y|^p``: squared Euclid (p = 2, scale 1), Euclid (p = 1), or ``|x - y|^p / p``.

    The gradient ``scale p |z|^(p - 2) z`` is taken as 0 at coincident points.
    """

    p: float
    scale: float
    label: str

    @property
    def name(self) -> str:
        """Its label."""
        return self.label

    def pairwise(self, X: Array, Y: Array) -> Array:
        return self.rows(X, Y)(slice(None))

    def rows(self, X: Array, Y: Array) -> Callable[[slice], Array]:
        xp, squares = array_namespace(X), _squared_distances(X, Y)

        def powers(block: slice) -> Array:
            C = squares(block)
            if self.p != 2:
                C = xp.sqrt(C) if self.p == 1 else C ** (self.p / 2)
            return C if self.scale == 1 else self.scale * C

        return powers

    def gradient(self, X: Array, Y: Array, P: Array) -> Array:
        xp = array_namespace(X)
        if self.p != 2:
            squares = _squared_distances(X, Y)(slice(None))
            apart = (squares > 0) & (P > 0)
            P = xp.where(apart, P * xp.where(apart, squares, xp.ones_like(squares)) ** (self.p / 2 - 1), 0 * P)
        return self.scale * self.p * (xp.sum(P, axis=1)[:, None] * X - P @ Y)

    def bound(self, X: Array, Y: Array) -> float:
        return self.scale * float(array_namespace(X).sum(_extent(X, Y) ** 2)) ** (self.p / 2)


class Manhattan(Metric):
    """``sum_k |x_k - y_k|``; the derivative of ``|.|`` at 0 is taken as 0."""

    name = "manhattan"

    def pairwise(self, X: Array, Y: Array) -> Array:
        C = abs(X[:, 0][:, None] - Y[:, 0][None, :])
        for k in range(1, X.shape[1]):
            C = C + abs(X[:, k][:, None] - Y[:, k][None, :])
        return C

    def gradient(self, X: Array, Y: Array, P: Array) -> Array:
        xp = array_namespace(X)
        signs = (xp.sign(X[:, k][:, None] - Y[:, k][None, :]) for k in range(X.shape[1]))
        return xp.stack([xp.sum(P * sign, axis=1) for sign in signs], axis=1)

    def bound(self, X: Array, Y: Array) -> float:
        return float(array_namespace(X).sum(_extent(X, Y)))


class Cosine(Metric):
    """``1 - <x, y> / (|x| |y|)``, which is half the squared distance of the directions."""

    name = "cosine"

    def pairwise(self, X: Array, Y: Array) -> Array:
        return self.rows(X, Y)(slice(None))

    def rows(self, X: Array, Y: Array) -> Callable[[slice], Array]:
        return Power(2, 0.5, "half of sqeuclidean").rows(_directions(X), _directions(Y))

    def gradient(self, X: Array, Y: Array, P: Array) -> Array:
        xp = array_namespace(X)
        along = P @ _directions(Y)
        unit = _directions(X)
        across = along - xp.sum(along * unit, axis=1)[:, None] * unit
        return -across / xp.sqrt(xp.sum(X * X, axis=1))[:, None]

    def bound(self, X: Array, Y: Array) -> float:
        return 2.0

    def check(self, X: Array, name: str) -> None:
        xp = array_namespace(X)
        zero = int(xp.count_nonzero(~xp.any(X != 0, axis=1)))
        if zero:
            raise ValueError(f"{name} has {zero} zero rows, for which the cosine is not defined")


@dataclass(frozen=True)
class Custom(Metric):
    """A callable ``(X_block, Y) -> (block, m)`` given by the user."""

    function: Callable[[Array, Array], Array]

    @property
    def name(self) -> str:
        """The callable's own name."""
        return getattr(self.function, "__name__", repr(self.function))

    def pairwise(self, X: Array, Y: Array) -> Array:
        xp = array_namespace(X)
        C = xp.asarray(self.function(X, Y))
        if not xp.isdtype(C.dtype, ("bool", "integral", "real floating")):
            raise TypeError(f"metric must return real costs; got dtype {C.dtype}")
        C = xp.astype(C, X.dtype, copy=False)
        if C.shape != (X.shape[0], Y.shape[0]):
            raise ValueError(f"metric must return shape {(X.shape[0], Y.shape[0])}; got {tuple(C.shape)}")
        if bool(xp.any(xp.isnan(C) | (C == -xp.inf))):
            raise ValueError("metric must return costs free of nan and -inf")
        return C

    def gradient(self, X: Array, Y: Array, P: Array) -> Array:
        raise ValueError("metric must be a named one for gradients with respect to points; got a callable")

    def bound(self, X: Array, Y: Array) -> None:
        return None


NAMED: dict[str, Metric] = {
    "sqeuclidean": Power(2, 1, "sqeuclidean"),
    "euclidean": Power(1, 1, "euclidean"),
    "manhattan": Manhattan(),
    "cosine": Cosine(),
}


def as_metric(metric: Any) -> Metric:
    """The metric meant by a name, by ``("power", p)`` for ``|x - y|^p / p``, or by a callable."""
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str) and metric in NAMED:
        return NAMED[metric]
    if isinstance(metric, tuple) and len(metric) == 2 and metric[0] == "power":
        p = as_number(metric[1], "the power of metric", above=1)
        return Power(p, 1 / p, f"power {p:g}")
    if callable(metric):
        return Custom(metric)
    names = ", ".join(map(repr, NAMED))
    raise ValueError(f'metric must be one of {names}, ("power", p) or a callable; got {metric!r}')


def _squared_distances(X: Array, Y: Array) -> Callable[[slice], Array]:
    """A function from a slice of X to the squared distances of its rows to those of Y."""
    xp = array_namespace(X)
    if X.shape[1] <= 3:  # differences are exact where points are close
        return lambda s: sum((X[s, k][:, None] - Y[:, k][None, :]) ** 2 for k in range(X.shape[1]))
    centre = xp.mean(Y, axis=0)
    X, Y = X - centre, Y - centre  # |x|^2 - 2 x.y + |y|^2 cancels; small numbers cancel less
    x, y, Z = xp.sum(X * X, axis=1)[:, None], xp.sum(Y * Y, axis=1)[None, :], -2 * Y.T

    def squares(block: slice) -> Array:
        D = X[block, :] @ Z  # the block's only temporary
        D += x[block, :]
        D += y
        return np.maximum(D, 0, out=D) if is_numpy(D) else xp.clip(D, 0.0, None)

    return squares


def _directions(X: Array) -> Array:
    xp = array_namespace(X)
    X = X / xp.max(abs(X), axis=1)[:, None]  # so that squares neither overflow nor vanish
    return X / xp.sqrt(xp.sum(X * X, axis=1))[:, None]


def _extent(X: Array, Y: Array) -> Array:
    xp = array_namespace(X)
    high = xp.maximum(xp.max(X, axis=0), xp.max(Y, axis=0))
    return xp.astype(high - xp.minimum(xp.min(X, axis=0), xp.min(Y, axis=0)), xp.float64)
