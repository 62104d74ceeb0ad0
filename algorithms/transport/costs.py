"""Costs between n sources and m targets: stored, of point clouds, or on a grid.

Methods know a cost only by what :class:`Cost` lists. A family of costs that is never stored overrides the passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from numcore.algorithms.transport import _loops
from numcore.algorithms.transport._metrics import NAMED, as_metric
from numcore.arrays import Array, array_namespace, as_floating, as_number, is_numpy

__all__ = ["Cost", "DenseCost", "GridCost", "PointCloudCost", "as_cost"]

FUSED_FEATURES = 16
"""Up to this many features the loops form distances themselves; beyond, on a CPU, a matrix product does it better."""


FUSED_METRICS = (NAMED["sqeuclidean"], NAMED["euclidean"], NAMED["manhattan"])


class Cost:
    """What the methods ask of a cost. Passes take ``h = log b + g / eps`` and ``u = log a + f / eps``."""

    shape: tuple[int, int]
    dtype: Any

    @property
    def sample(self) -> Array:
        """An array that the cost holds: its library, dtype and device are the cost's."""
        raise NotImplementedError

    @property
    def xp(self) -> Any:
        """The array namespace."""
        return array_namespace(self.sample)

    @property
    def T(self) -> Cost:
        """The cost from targets to sources."""
        raise NotImplementedError

    def rows(self, index: Any) -> Array:
        """Rows of the matrix."""
        raise NotImplementedError

    def columns(self, index: Array) -> Cost:
        """The cost to some of the targets alone."""
        raise NotImplementedError

    def column_soft_min(self, index: Array, u: Array, eps: float) -> Array:
        """Soft minima over the sources, for some of the targets."""
        return self.columns(index).T.soft_min(u, eps)

    def sweep(
        self, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
    ) -> tuple[Array, Array, Array]:
        """A row update: see :func:`_loops.sweep`."""
        raise NotImplementedError

    def soft_min(self, h: Array, eps: float) -> Array:
        """Soft minima over the targets: see :func:`_loops.soft_min`."""
        raise NotImplementedError

    def plan_cost(self, u: Array, h: Array, eps: float) -> float:
        """``<P, C>`` of the plan ``P_ij = exp(u_i + h_j - C_ij / eps)``."""
        raise NotImplementedError

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """The matrix a few rows at a time, as (slice, rows)."""
        for block in _loops.row_blocks(*self.shape):
            yield block, self.rows(block)

    def plan_entries(self, u: Array, h: Array, eps: float, row_floor: Array, column_floor: Array) -> Any:
        """The plan's entries above a floor, as CSR."""
        from scipy.sparse import vstack

        parts = [
            _loops.as_csr(_loops.plan_entries(C, u[s], h, eps, row_floor[s], column_floor), C.shape)
            for s, C in self.blocks()
        ]
        return parts[0] if len(parts) == 1 else vstack(parts, format="csr")

    def plan(self, u: Array, h: Array, eps: float) -> Array:
        """The plan as an (n, m) array."""
        return self.xp.concat([_loops.plan(C, u[s], h, eps) for s, C in self.blocks()])

    def apply(self, u: Array, h: Array, eps: float, V: Array) -> Array:
        """``P V`` for V of shape (m, k), a few rows of P at a time."""
        xp, V = self.xp, self.xp.astype(V, self.dtype, copy=False)
        if V.shape[1] > FUSED_FEATURES:
            return xp.concat([_loops.plan(C, u[s], h, eps) @ V for s, C in self.blocks()])
        soft, means = self.means(h, eps, V)
        return xp.astype(xp.exp(u - soft / eps), self.dtype)[:, None] * means

    def means(self, h: Array, eps: float, V: Array) -> tuple[Array, Array]:
        """Soft minima, and softmax-weighted means of the rows of V: see :func:`_loops.average`."""
        raise NotImplementedError

    def range(self) -> tuple[float, float]:
        """Least and greatest finite entry."""
        low, high = np.inf, -np.inf
        for _, C in self.blocks():
            finite = self.xp.isfinite(C)
            low = min(low, float(self.xp.min(self.xp.where(finite, C, self.xp.full_like(C, np.inf)))))
            high = max(high, float(self.xp.max(self.xp.where(finite, C, self.xp.full_like(C, -np.inf)))))
        return (low, high) if low <= high else (0.0, 0.0)

    def spread(self) -> float:
        """Greatest minus least finite entry, or a cheap bound of it."""
        low, high = self.range()
        return high - low

    def mean(self, a: Array, b: Array) -> float:
        """``sum a_i b_j C_ij / (sum a sum b)``, over the pairs that are not forbidden."""
        total = mass = 0.0
        for s, C in self.blocks():
            C = self.xp.astype(C, self.xp.float64, copy=False)
            finite = self.xp.isfinite(C)
            total += float(a[s] @ (self.xp.where(finite, C, 0 * b) @ b))
            mass += float(a[s] @ (self.xp.astype(finite, self.xp.float64) @ b))
        return total / mass if mass > 0 else 0.0

    def astype(self, dtype: Any) -> Cost:
        """The same cost in another precision."""
        raise NotImplementedError


class DenseCost(Cost):
    """A cost given as its matrix, +inf where a pair is forbidden."""

    def __init__(self, C: Array) -> None:
        self.C = _loops.stored(C)
        self.shape, self.dtype = C.shape, C.dtype

    @property
    def sample(self) -> Array:
        return self.C

    @cached_property
    def _survey(self) -> tuple[Array, float, int, int]:
        return _loops.survey(self.C)

    @property
    def finite(self) -> bool:
        """Whether no pair is forbidden."""
        return self._survey[2] == 0

    def range(self) -> tuple[float, float]:
        lows, high, _, _ = self._survey
        low = float(self.xp.min(lows))
        return (low, high) if low <= high else (0.0, 0.0)

    def check(self) -> DenseCost:
        """The cost itself, if it is free of nan and -inf."""
        refused = self._survey[3]
        if refused:
            raise ValueError(f"cost must be free of nan and -inf; {refused} of its {self.C.size} entries are not")
        return self

    def mean(self, a: Array, b: Array) -> float:
        if not self.finite or self.dtype != self.xp.float64:
            return super().mean(a, b)
        return float(a @ (self.C @ b)) / (float(self.xp.sum(a)) * float(self.xp.sum(b)))

    @property
    def T(self) -> DenseCost:
        return DenseCost(self.C.T)

    def rows(self, index: Any) -> Array:
        return self.C[index, :]

    def columns(self, index: Array) -> DenseCost:
        return DenseCost(self.xp.take(self.C, index, axis=1))

    def sweep(
        self, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
    ) -> tuple[Array, Array, Array]:
        return _loops.sweep(self.C, guess, base, h, a, eps, power)

    def soft_min(self, h: Array, eps: float) -> Array:
        return _loops.soft_min(self.C, h, eps)

    def means(self, h: Array, eps: float, V: Array) -> tuple[Array, Array]:
        return _loops.average(self.C, h, eps, V)

    def plan(self, u: Array, h: Array, eps: float) -> Array:
        return _loops.plan(self.C, u, h, eps)

    def plan_cost(self, u: Array, h: Array, eps: float) -> float:
        return _loops.plan_cost(self.C, u, h, eps)

    def plan_entries(self, u: Array, h: Array, eps: float, row_floor: Array, column_floor: Array) -> Any:
        return _loops.as_csr(_loops.plan_entries(self.C, u, h, eps, row_floor, column_floor), self.shape)

    def astype(self, dtype: Any) -> DenseCost:
        return DenseCost(self.xp.astype(self.C, dtype, copy=False))

    def minima(self) -> tuple[Array, Array]:
        """Row minima f, and column minima g of what is left: ``f (+) g <= C``, with equality once a column."""
        f = self._survey[0]
        f = self.xp.where(self.xp.isfinite(f), f, self.xp.zeros_like(f))
        g = _loops.column_minima(self.C, f)
        g = self.xp.where(self.xp.isfinite(g), g, self.xp.zeros_like(g))
        return self.xp.astype(f, self.xp.float64), self.xp.astype(g, self.xp.float64)


class PointCloudCost(Cost):
    """The cost ``c(x_i, y_j)`` between two point clouds, formed a few rows at a time and never stored.

    Parameters
    ----------
    X : (n, d) array_like
        Source points.
    Y : (m, d) array_like, optional
        Target points; X itself by default.
    metric : {"sqeuclidean", "euclidean", "manhattan", "cosine"}, ("power", p) or callable
        The ground cost. ``("power", p)`` is ``|x - y|^p / p`` with p > 1; a callable takes (X_block, Y), of shapes
        (k, d) and (m, d), to a (k, m) array.

    Attributes
    ----------
    X, Y : arrays
        The points, float32 if X is, else float64.
    metric : str or callable or tuple
        As given.
    shape : (n, m)
    dtype : dtype

    Raises
    ------
    ValueError
        If X and Y differ in their number of features, hold non-finite numbers, or a row is 0 under "cosine".
    TypeError
        If they are complex or not numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import PointCloudCost
    >>> cost = PointCloudCost(np.zeros((2, 2)), np.array([[3.0, 4.0]]), metric="euclidean")
    >>> cost.to_array()
    array([[5.],
           [5.]])
    """

    def __init__(self, X: Any, Y: Any = None, metric: str | tuple[str, float] | Callable[..., Any] = "sqeuclidean"):
        self.metric = metric
        self._metric = as_metric(metric)
        self.X = _points(X, "X")
        self.Y = self.X if Y is None else _points(Y, "Y", like=self.X)
        if self.X.shape[1] != self.Y.shape[1]:
            raise ValueError(
                f"X and Y must have the same number of features; got shapes {tuple(self.X.shape)} and "
                f"{tuple(self.Y.shape)}"
            )
        for points, name in ((self.X, "X"), (self.Y, "Y")):
            self._metric.check(points, name)
        self.shape = (self.X.shape[0], self.Y.shape[0])
        self.dtype = self.X.dtype
        few = self.X.shape[1] <= FUSED_FEATURES or not is_numpy(self.X)
        self._fused = self._metric in FUSED_METRICS and few

    def __repr__(self) -> str:
        n, m = self.shape
        return f"<PointCloudCost {n} x {m}, {self.X.shape[1]} features, {self._metric.name}, {self.dtype}>"

    def to_array(self) -> Array:
        """The (n, m) matrix."""
        return self.xp.concat([C for _, C in self.blocks()])

    @property
    def sample(self) -> Array:
        return self.X

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        return _loops.cost_blocks(self.X, self.Y, self._metric)

    @property
    def T(self) -> PointCloudCost:
        return self._like(self.Y, self.X)

    def rows(self, index: Any) -> Array:
        return self._metric.pairwise(self.X[index, :], self.Y)

    def columns(self, index: Array) -> PointCloudCost:
        return self._like(self.X, self.xp.take(self.Y, index, axis=0))

    def sweep(
        self, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
    ) -> tuple[Array, Array, Array]:
        loop = _loops.sweep_cloud if self._fused else _loops.sweep_cloud.reference
        return loop(self.X, self.Y, self._metric, guess, base, h, a, eps, power)

    def soft_min(self, h: Array, eps: float) -> Array:
        loop = _loops.soft_min_cloud if self._fused else _loops.soft_min_cloud.reference
        return loop(self.X, self.Y, self._metric, h, eps)

    def means(self, h: Array, eps: float, V: Array) -> tuple[Array, Array]:
        loop = _loops.average_cloud if self._fused else _loops.average_cloud.reference
        return loop(self.X, self.Y, self._metric, h, eps, V)

    def plan_cost(self, u: Array, h: Array, eps: float) -> float:
        loop = _loops.plan_cost_cloud if self._fused else _loops.plan_cost_cloud.reference
        return loop(self.X, self.Y, self._metric, u, h, eps)

    def plan_entries(self, u: Array, h: Array, eps: float, row_floor: Array, column_floor: Array) -> Any:
        loop = _loops.plan_entries_cloud if self._fused else _loops.plan_entries_cloud.reference
        return _loops.as_csr(loop(self.X, self.Y, self._metric, u, h, eps, row_floor, column_floor), self.shape)

    def gradient(self, u: Array, h: Array, eps: float) -> Array:
        """``sum_j P_ij grad_x c(x_i, y_j)`` of the plan, as an (n, d) array."""
        parts = [self._metric.gradient(self.X[s, :], self.Y, _loops.plan(C, u[s], h, eps)) for s, C in self.blocks()]
        return self.xp.concat(parts)

    def spread(self) -> float:
        bound = self._metric.bound(self.X, self.Y)
        return super().spread() if bound is None else bound

    def mean(self, a: Array, b: Array) -> float:
        if self._metric is not NAMED["sqeuclidean"]:
            return super().mean(a, b)
        # E|x - y|^2 = |E x - E y|^2 + var x + var y
        xp = self.xp
        X, Y = (xp.astype(Z, xp.float64, copy=False) for Z in (self.X, self.Y))
        a, b = a / xp.sum(a), b / xp.sum(b)
        x, y = a @ X, b @ Y
        moments = xp.sum((x - y) ** 2) + a @ xp.sum((X - x) ** 2, axis=1) + b @ xp.sum((Y - y) ** 2, axis=1)
        return float(moments)

    def astype(self, dtype: Any) -> PointCloudCost:
        return self._like(*(self.xp.astype(Z, dtype, copy=False) for Z in (self.X, self.Y)))

    def _like(self, X: Array, Y: Array) -> PointCloudCost:
        return PointCloudCost(X, Y, self.metric)


class GridCost(Cost):
    """The cost ``sum_k |x_k - y_k|^p`` between the nodes of a grid, applied one axis at a time.

    A pass costs ``N sum_k n_k`` instead of ``N^2`` for ``N = prod_k n_k`` nodes. Sources and targets are the same grid;
    weights are flat arrays of length N in C order.

    Parameters
    ----------
    axes : sequence of 1-D array_like
        The coordinates along each axis, of lengths ``n_k``.
    p : float
        The power, at least 1.

    Attributes
    ----------
    axes : tuple of arrays
    p : float
    shape : (N, N)
    dtype : dtype

    Raises
    ------
    ValueError
        If there is no axis, or one is empty, not 1-D, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import GridCost
    >>> GridCost([np.arange(3.0), np.arange(2.0)]).to_array()[0]
    array([0., 1., 1., 2., 4., 5.])
    """

    def __init__(self, axes: Sequence[Any], p: float = 2):
        if len(axes) == 0:
            raise ValueError("axes must hold at least one axis")
        first = _axis(axes[0], 0)
        self.axes = (first, *(_axis(axis, k, like=first) for k, axis in enumerate(axes) if k))
        self.p = as_number(p, "p", above=1, closed=True)
        self.grid = tuple(axis.shape[0] for axis in self.axes)
        self.dtype = first.dtype
        self.shape = (int(np.prod(self.grid)),) * 2
        self._parts = [DenseCost(abs(axis[:, None] - axis[None, :]) ** self.p) for axis in self.axes]

    def __repr__(self) -> str:
        return f"<GridCost {' x '.join(map(str, self.grid))}, p = {self.p:g}, {self.dtype}>"

    def to_array(self) -> Array:
        """The (N, N) matrix."""
        return self.xp.concat([C for _, C in self.blocks()])

    @property
    def sample(self) -> Array:
        return self.axes[0]

    @property
    def T(self) -> GridCost:
        return self  # symmetric

    def rows(self, index: Any) -> Array:
        nodes = np.unravel_index(np.arange(self.shape[0])[index], self.grid)
        C = self.xp.zeros((len(nodes[0]), *self.grid), dtype=self.dtype)
        for k, part in enumerate(self._parts):
            along = self.xp.take(part.C, self.xp.asarray(nodes[k]), axis=0)
            C = C + self.xp.reshape(along, (-1, *(n if i == k else 1 for i, n in enumerate(self.grid))))
        return self.xp.reshape(C, (-1, self.shape[1]))

    def column_soft_min(self, index: Array, u: Array, eps: float) -> Array:
        return self.xp.take(self.soft_min(u, eps), index)

    def sweep(
        self, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
    ) -> tuple[Array, Array, Array]:
        xp = self.xp
        soft = self.soft_min(h, eps)
        f = base + power * soft
        r = a * xp.exp((f - soft) / eps)
        u = _log(xp, a) + f / eps
        return f, r, xp.exp(h - self.soft_min(u, eps) / eps)

    def soft_min(self, h: Array, eps: float) -> Array:
        return self._along(h, eps, self._parts)

    def _along(self, h: Array, eps: float, parts: Sequence[DenseCost]) -> Array:
        """Soft minima one axis at a time: each axis in turn is moved to the front, reduced, and becomes the last."""
        xp = self.xp
        t = xp.reshape(h, self.grid)
        for part in parts:
            n = part.shape[0]
            lines = xp.reshape(xp.moveaxis(t, 0, -1), (-1, n))
            t = xp.reshape(-_line_soft_min(part, lines, eps) / eps, (*t.shape[1:], n))
        return -eps * xp.reshape(t, (-1,))

    def plan_cost(self, u: Array, h: Array, eps: float) -> float:
        # <P, C> = sum_k <P, C_k>; C_k enters the kernel of axis k as exp(-C_k / eps + log C_k)
        total = 0.0
        for k, part in enumerate(self._parts):
            weighted = DenseCost(part.C - eps * _log(self.xp, part.C))
            parts = [weighted if i == k else other for i, other in enumerate(self._parts)]
            total += float(self.xp.sum(self.xp.exp(u - self._along(h, eps, parts) / eps)))
        return total

    def apply(self, u: Array, h: Array, eps: float, V: Array) -> Array:
        xp = self.xp
        V = xp.astype(V, xp.float64, copy=False)

        def column(v: Array) -> Array:
            signs = (_log(xp, xp.where(v > 0, v, 0 * v)), _log(xp, xp.where(v < 0, -v, 0 * v)))
            plus, minus = (xp.exp(u - self.soft_min(h + part, eps) / eps) for part in signs)
            return plus - minus

        return xp.astype(xp.stack([column(V[:, k]) for k in range(V.shape[1])], axis=1), self.dtype)

    def range(self) -> tuple[float, float]:
        bounds = [part.range() for part in self._parts]
        return sum(low for low, _ in bounds), sum(high for _, high in bounds)

    def mean(self, a: Array, b: Array) -> float:
        A, B = (self.xp.reshape(w / self.xp.sum(w), self.grid) for w in (a, b))
        total = 0.0
        for k, part in enumerate(self._parts):
            others = tuple(i for i in range(len(self.grid)) if i != k)
            total += part.mean(self.xp.sum(A, axis=others), self.xp.sum(B, axis=others))
        return total

    def astype(self, dtype: Any) -> GridCost:
        return GridCost([self.xp.astype(axis, dtype, copy=False) for axis in self.axes], self.p)


def _line_soft_min(cost: DenseCost, lines: Array, eps: float) -> Array:
    """Soft minima for each row of `lines`: one matrix product where the whole kernel is within the range of floats."""
    xp = cost.xp
    if cost.spread() > (60 if cost.dtype == xp.float32 else 600) * eps:
        return cost.soft_min(lines, eps)
    low = cost.range()[0]
    top = xp.max(lines, axis=1, keepdims=True)
    top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
    K = xp.exp((low - cost.C) / eps)
    sums = xp.astype(xp.astype(xp.exp(lines - top), cost.dtype) @ K.T, xp.float64)
    return low - eps * (top + _log(xp, sums))


def as_cost(cost: Any) -> Cost:
    """`cost` itself, or an (n, m) array checked and wrapped."""
    if isinstance(cost, Cost):
        return cost
    C = as_floating(cost, "cost", ndim=2, infinite="unchecked")  # the survey will see
    if 0 in C.shape:
        raise ValueError(f"cost must not be empty; got shape {tuple(C.shape)}")
    return DenseCost(C).check()


def _points(X: Any, name: str, like: Array | None = None) -> Array:
    X = as_floating(X, name, ndim=2, like=like, dtype=None if like is None else like.dtype)
    if 0 in X.shape:
        raise ValueError(f"{name} must hold points; got shape {tuple(X.shape)}")
    return _loops.stored(X)


def _axis(axis: Any, k: int, like: Array | None = None) -> Array:
    axis = as_floating(axis, f"axes[{k}]", ndim=1, like=like, dtype=None if like is None else like.dtype)
    if axis.shape[0] == 0:
        raise ValueError(f"axes[{k}] must not be empty")
    return axis


def _log(xp: Any, x: Array) -> Array:
    """The logarithm, -inf at 0 without a warning."""
    positive = x > 0
    return xp.where(positive, xp.log(xp.where(positive, x, xp.ones_like(x))), xp.full_like(x, -np.inf))
