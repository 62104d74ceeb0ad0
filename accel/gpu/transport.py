"""CuPy twins of the transport loops that would otherwise form n x m temporaries: tiles of the cost, in registers.

Everything works in base 2, as on the CPU: ``t_ij = G_j - s C_ij`` with ``s = log2(e) / eps``. A sweep runs two kernels:
the first takes the row sums of ``2^t`` beside running maxima, so that no guess is needed, and updates the rows; the
second takes the column sums of what they make of it. Both read the cost, stored or formed from the points, and write
vectors. All sums have a fixed order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cupy
import numpy as np

from numcore.accel.gpu._launch import launch
from numcore.accel.gpu._sources import CHUNK, COLUMNS, ROWS, THREADS

LOG2_E = math.log2(math.e)
CODES = {"sqeuclidean": 0, "euclidean": 1, "manhattan": 2}
WARP = 32
FULL = 1 << 20
"""Entries at work at a time that keep a large device busy."""


def sweep(C, guess, base, h, a, eps, power):
    return _sweep(_stored(C), base, h, a, eps, power)


def sweep_cloud(X, Y, metric, guess, base, h, a, eps, power):
    return _sweep(_cloud(X, Y, metric), base, h, a, eps, power)


def soft_min(C, h, eps):
    return _soft_min(_stored(C), h, eps)


def soft_min_cloud(X, Y, metric, h, eps):
    return _soft_min(_cloud(X, Y, metric), h, eps)


def plan_cost(C, u, h, eps):
    return _plan_cost(_stored(C), u, h, eps)


def plan_cost_cloud(X, Y, metric, u, h, eps):
    return _plan_cost(_cloud(X, Y, metric), u, h, eps)


class _Cost(NamedTuple):
    """The arguments that stand for a cost in every kernel."""

    X: Any
    Y: Any
    d: np.int32
    metric: np.int32
    n: np.int64
    m: np.int64


def _stored(C: Any) -> _Cost:
    C = cupy.ascontiguousarray(C)
    return _Cost(C, C, np.int32(0), np.int32(0), *map(np.int64, C.shape))


def _cloud(X: Any, Y: Any, metric: Any) -> _Cost:
    X, Y = cupy.ascontiguousarray(X), cupy.ascontiguousarray(Y.T)
    return _Cost(X, Y, np.int32(X.shape[1]), np.int32(CODES[metric.name]), np.int64(X.shape[0]), np.int64(Y.shape[1]))


def _sweep(cost: _Cost, base: Any, h: Any, a: Any, eps: float, power: float) -> tuple[Any, Any, Any]:
    dtype, n = cost.X.dtype, int(cost.n)
    f, r, top, weight = cupy.empty(n), cupy.empty(n), cupy.empty(n, dtype), cupy.empty(n, dtype)
    scaled = _exponents(h, dtype), dtype.type(LOG2_E / eps)
    base, a = cupy.ascontiguousarray(base), cupy.ascontiguousarray(a)
    rows = (*cost, *scaled, np.float64(eps), np.float64(power), base, a, f, r, top, weight)
    launch("transport", "sweep_rows", dtype, *_row_blocks(cost, 1), *rows)
    return f, r, _column_sums("sweep_columns", cost, *scaled, top, weight)


def _soft_min(cost: _Cost, h: Any, eps: float) -> Any:
    dtype, lines = cost.X.dtype, h.shape[:-1]
    out = cupy.empty((*lines, int(cost.n)))
    scaled = _exponents(h, dtype), dtype.type(LOG2_E / eps), np.float64(eps)
    if out.size:
        launch("transport", "soft_min", dtype, *_row_blocks(cost, math.prod(lines)), *cost, *scaled, out)
    return out


def _plan_cost(cost: _Cost, u: Any, h: Any, eps: float) -> float:
    exponents = (_exponents(x, cupy.dtype(float)) for x in (u, h))
    return float(_column_sums("plan_cost", cost, *exponents, np.float64(LOG2_E / eps)).sum())


def _column_sums(kernel: str, cost: _Cost, *args: Any) -> Any:
    """Column sums of slabs of rows, few enough to be small beside the vectors; then the sums of these."""
    n, m = int(cost.n), int(cost.m)
    slabs = min(-(-n // CHUNK), -(-FULL // max(m, WARP)))
    sums = cupy.empty((slabs, m))
    launch("transport", kernel, cost.X.dtype, (-(-m // (COLUMNS * THREADS)), slabs), (THREADS, 1), *cost, *args, sums)
    return sums.sum(axis=0)


def _row_blocks(cost: _Cost, lines: int) -> tuple[tuple[int], tuple[int, int]]:
    """The grid and the block of a pass over rows: more threads share a row where rows are few, or very long."""
    n, m = int(cost.n), int(cost.m)
    width = WARP
    while width < THREADS and width * COLUMNS < m and (width * lines * n < FULL or width * 512 < m):
        width *= 2
    groups = THREADS // width
    return (lines * -(-n // (groups * ROWS)),), (width, groups)


def _exponents(h: Any, dtype: Any) -> Any:
    return cupy.ascontiguousarray((h * LOG2_E).astype(dtype))
