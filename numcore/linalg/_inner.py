"""Inner products and lengths, of a vector or of columns side by side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace

__all__ = ["dot", "norm"]

LEAST = 1e-31
"""In a smaller sum of squares, float32 may have lost some that count."""


def dot(x: Array, y: Array) -> Any:
    """The inner product of two vectors, a float; or those of columns, a float64 array."""
    if x.ndim == 1:
        return float(x @ y)
    xp = array_namespace(x, y)
    # a sum along axis 0 adds entry by entry, which float32 would show
    return xp.sum(x * y, axis=0, dtype=xp.float64)


def norm(x: Array) -> Any:
    """The Euclidean length of a vector or of columns, as from :func:`dot`; squares that would not fit are scaled."""
    xp = array_namespace(x)
    if x.shape[0] == 0:
        return 0.0 if x.ndim == 1 else xp.zeros(x.shape[1], dtype=xp.float64, device=x.device)
    with np.errstate(over="ignore"):
        square = dot(x, x)
    if isinstance(square, float):
        if LEAST < square < math.inf:
            return math.sqrt(square)
        top = float(xp.max(xp.abs(x)))
        if not 0 < top < math.inf:
            return top
        scaled = x / top
        return top * math.sqrt(dot(scaled, scaled))
    if bool(xp.all((square > LEAST) & xp.isfinite(square))):
        return xp.sqrt(square)
    top = xp.max(xp.abs(x), axis=0)
    scaled = x / xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
    return xp.astype(top, xp.float64) * xp.sqrt(dot(scaled, scaled))
