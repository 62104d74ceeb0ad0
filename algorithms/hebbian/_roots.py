"""Roots of many functions of one variable at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["bracketed_roots"]

Array = np.ndarray[Any, Any]


def bracketed_roots(f: Callable[[Array, Array], Array], low: Array, high: Array, *, xtol: float = 4e-16) -> Array:
    """Where each ``f(x, k)`` changes its sign between ``low[k]`` and ``high[k]``, to about ``xtol * high``.

    Chandrupatla's method (Advances in Engineering Software, 1997): inverse quadratic interpolation where the last three
    points allow it, else bisection. `f` is given the points x and the indices k of the problems that are not yet done.
    """
    a, b = np.array(high, dtype=np.float64), np.array(low, dtype=np.float64)
    which = np.arange(len(a))
    fa, fb = f(a, which), f(b, which)
    c, fc = a.copy(), fa.copy()
    t = np.full(len(a), 0.5)
    root = np.where(np.abs(fa) < np.abs(fb), a, b)
    scale = xtol * np.maximum(np.abs(a), np.abs(b))
    for _ in range(200):
        if not which.size:
            break
        x = a + t * (b - a)
        fx = f(x, which)
        same = np.sign(fx) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        better = np.abs(fa) < np.abs(fb)
        root[which] = np.where(better, a, b)
        tolerance = 2 * np.finfo(float).eps * np.abs(root[which]) + scale[which]
        t = _place(a, b, c, fa, fb, fc)
        with np.errstate(divide="ignore", invalid="ignore"):
            margin = tolerance / np.abs(b - a)
        going = (margin < 0.5) & (fa != 0) & (fb != 0)
        t = np.clip(t, margin, 1 - margin)
        which, a, b, c, fa, fb, fc, t = (v[going] for v in (which, a, b, c, fa, fb, fc, t))
    return root


def _place(a: Array, b: Array, c: Array, fa: Array, fb: Array, fc: Array) -> Array:
    """Where between a and b to look next, as a share of the way."""
    with np.errstate(divide="ignore", invalid="ignore"):
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        quadratic = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    return np.where(quadratic & np.isfinite(t), t, 0.5)
