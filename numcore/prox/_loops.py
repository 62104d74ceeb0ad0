"""The reference hot loops of ``numcore.prox``: unchecked, in float64 whatever is stored, last axis first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import device

from numcore.arrays import Array, array_namespace, to_numpy
from numcore.dispatch import dispatchable
from numcore.prox._formulas import FORMULAS

__all__ = [
    "elementwise",
    "isotonic_rows",
    "shrink_groups",
    "simplex_rows",
    "top_k_rows",
    "total_variation_rows",
]


@dispatchable
def elementwise(v: Array, name: str, parameters: tuple[Any, ...], positive: bool, out: Array) -> Array:
    """Write the operator `name` of :data:`FORMULAS` at each entry of `v` to `out`, and return it.

    Parameters
    ----------
    v : array
    name : str
    parameters : tuple of float or float64 array
        Those of the formula; arrays broadcast against `v`.
    positive : bool
        Negative entries count as 0.
    out : array
        Of the shape and dtype of `v`; may be `v` itself.
    """
    xp = array_namespace(v)
    formula = FORMULAS[name]
    x = xp.astype(v, xp.float64)
    # 0-d arrays: then parameters meet functions of the namespace as entries do
    given = [p if hasattr(p, "shape") else xp.asarray(p, dtype=xp.float64, device=device(x)) for p in parameters]
    zero = xp.zeros_like(x)
    a = xp.where(x > 0, x, zero) if positive else abs(x)
    with np.errstate(all="ignore"):  # what a formula gives where it does not apply is thrown away
        result = xp.where(formula.active(xp, a, *given), formula.shrunk(xp, a, *given), zero)
        # rounded first: an entry that shrinks to 0 is +0.0, whatever its sign was
        result = xp.astype(result, out.dtype)
    out[...] = xp.where((x < 0) & (result > 0), -result, result)
    return out


@dispatchable
def simplex_rows(v: Array, radius: Array, out: Array) -> Array:
    """Write the projection of each row of `v` on the simplex of mass ``radius[i]`` to `out`, and return it.

    Parameters
    ----------
    v, out : (n, d) arrays, d > 0
        `out` may be `v` itself.
    radius : (n,) float64 array, not negative

    References
    ----------
    M. Held, P. Wolfe, H. Crowder, "Validation of subgradient optimization", Math. Programming 6, 1974.
    """
    xp = array_namespace(v)
    with np.errstate(over="ignore"):
        x = xp.astype(v, xp.float64)
        x = x - xp.max(x, axis=1, keepdims=True)
    # theta is at least -radius: what lies well below it becomes 0, and could overflow the sums
    x = xp.maximum(x, -2 * radius[:, None])
    u = xp.sort(x, axis=1, descending=True)
    k = xp.arange(1, x.shape[1] + 1, dtype=xp.float64, device=device(x))
    theta = (xp.cumulative_sum(u, axis=1) - radius[:, None]) / k
    last = xp.sum(xp.astype(u > theta, xp.int64), axis=1, keepdims=True)
    last = xp.where(last > 0, last, xp.ones_like(last))  # a radius of 0 leaves no entry
    theta = xp.take_along_axis(theta, last - 1, axis=1)
    out[...] = xp.astype(xp.where(x > theta, x - theta, xp.zeros_like(x)), out.dtype)
    return out


@dispatchable
def top_k_rows(v: Array, k: int, out: Array) -> Array:
    """Write each row of `v` with all but its `k` largest magnitudes set to 0 to `out`, and return it.

    Of equal magnitudes those with the lowest index stay.

    Parameters
    ----------
    v, out : (n, d) arrays, ``0 <= k <= d``
        `out` may be `v` itself.
    k : int
    """
    xp = array_namespace(v)
    rank = xp.argsort(xp.argsort(-abs(v), axis=1, stable=True), axis=1, stable=True)
    out[...] = xp.where((rank < k) & (v != 0), v, xp.zeros_like(v))
    return out


@dispatchable
def shrink_groups(x: Array, indices: Array, offsets: Array, thresholds: Array) -> Array:
    """Shorten, in place and one group after another, each group of each row by its threshold; return `x`.

    Parameters
    ----------
    x : (n, d) float64 array
    indices : int64 array
        The groups' coordinates, one group after another.
    offsets : (n_groups + 1,) int64 array
        Where each group begins in `indices`.
    thresholds : (n_groups,) float64 array
    """
    xp = array_namespace(x)
    bounds = to_numpy(offsets).tolist()
    for begin, end, threshold in zip(bounds[:-1], bounds[1:], to_numpy(thresholds).tolist(), strict=True):
        group = indices[begin:end]
        part = xp.take(x, group, axis=1)
        top = xp.max(abs(part), axis=1, keepdims=True)
        safe = xp.where(top > 0, top, xp.ones_like(top))
        norm = safe * xp.sqrt(xp.sum((part / safe) ** 2, axis=1, keepdims=True))
        kept = norm > threshold
        factor = 1 - xp.where(kept, xp.full_like(norm, threshold), norm) / xp.where(norm > 0, norm, xp.ones_like(norm))
        _put(x, group, xp.where(kept & (part != 0), factor * part, xp.zeros_like(part)))
    return x


def _put(x: Array, columns: Array, part: Array) -> None:
    """``x[:, columns] = part``, also where the library assigns to no list of indices."""
    if hasattr(x, "flags"):  # NumPy's and CuPy's
        x[:, columns] = part
        return
    for k, column in enumerate(to_numpy(columns).tolist()):
        x[:, column] = part[:, k]


@dispatchable
def isotonic_rows(x: Array) -> Array:
    """The least-squares fit to each row of `x` among sequences that do not increase.

    Parameters
    ----------
    x : (n, d) float64 array
    """
    from scipy.optimize import isotonic_regression

    xp = array_namespace(x)
    rows = to_numpy(x)
    fits = [isotonic_regression(row, increasing=False).x for row in rows]
    return xp.asarray(np.stack(fits) if fits else np.empty(rows.shape), device=device(x))


@dispatchable
def total_variation_rows(x: Array, t: Array) -> Array:
    """``argmin_z |z - x|^2 / 2 + t sum |z_{i+1} - z_i|`` for each row of `x`.

    Parameters
    ----------
    x : (n, d) float64 array, d > 0
    t : (n,) float64 array, not negative

    References
    ----------
    L. Condat, "A Direct Algorithm for 1D Total Variation Denoising", IEEE Signal Processing Letters 20(11), 2013.
    """
    xp = array_namespace(x)
    rows = [_taut(row, limit) for row, limit in zip(to_numpy(x).tolist(), to_numpy(t).tolist(), strict=True)]
    return xp.asarray(np.asarray(rows, dtype=np.float64).reshape(x.shape), device=device(x))


def _taut(y: Sequence[float], t: float) -> list[float]:
    """Condat's direct algorithm: a segment grows from `start` while one value can serve it, between `low` and `high`.

    `up` and `down` are the dual variable at the front for these two values; `low_end` and `high_end` are where they
    last met their bounds, and where the signal jumps if it has to. A `t` that no dual variable reaches is told apart
    before, since ``low`` and ``high`` would lose the signal beside it.
    """
    last = len(y) - 1
    z = [0.0] * len(y)
    if t == 0:
        return list(y)
    mean = sum(y) / len(y)
    if t >= max(abs(total) for total in itertools.accumulate(entry - mean for entry in y)):
        return [mean] * len(y)
    start = low_end = high_end = k = 0
    low, high, up, down = y[0] - t, y[0] + t, t, -t
    while True:
        if k < last and y[k + 1] + up < low - t:  # a jump down
            z[start : low_end + 1] = [low] * (low_end + 1 - start)
            start = low_end = high_end = k = low_end + 1
            low, high, up, down = y[k], y[k] + 2 * t, t, -t
        elif k < last and y[k + 1] + down > high + t:  # a jump up
            z[start : high_end + 1] = [high] * (high_end + 1 - start)
            start = low_end = high_end = k = high_end + 1
            low, high, up, down = y[k] - 2 * t, y[k], t, -t
        elif k < last:
            k += 1
            up, down = up + (y[k] - low), down + (y[k] - high)
            if up >= t:
                low, up, low_end = low + (up - t) / (k - start + 1), t, k
            if down <= -t:
                high, down, high_end = high + (down + t) / (k - start + 1), -t, k
        elif up < 0:  # at the end the dual variable must be 0
            z[start : low_end + 1] = [low] * (low_end + 1 - start)
            start = low_end = k = low_end + 1
            low, up, down = y[k], t, y[k] + t - high
        elif down > 0:
            z[start : high_end + 1] = [high] * (high_end + 1 - start)
            start = high_end = k = high_end + 1
            high, up, down = y[k], y[k] - t - low, -t
        else:
            z[start:] = [low + up / (k - start + 1)] * (last + 1 - start)
            return z
