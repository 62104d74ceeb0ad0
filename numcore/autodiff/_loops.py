"""Hot loops of training steps; each may run as its Numba twin."""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.dispatch import Dispatchable, dispatchable, get_backend

__all__ = [
    "adam_update",
    "bias_relu",
    "fast",
    "gather_columns",
    "outer_rows",
    "relu_pull",
    "scatter_columns",
    "softmax_pull",
]

BLOCK = 2**14
"""Entries that Adam updates at a time, so that all it computes in stays in the cache."""


def fast(loop: Dispatchable[..., Any]) -> Any:
    """The implementation of `loop` for NumPy arrays in the present backend, to be called many times."""
    return loop.reference if get_backend() == "numpy" else loop.twin("cpu") or loop.reference


@dispatchable
def adam_update(theta: Any, g: Any, m: Any, v: Any, factors: Any) -> None:
    """One step of Adam.

    Parameters
    ----------
    theta, m, v : (d,) array
        Updated in place.
    g : (d,) array
        The gradient.
    factors : (10,) array
        What to multiply `g` by, what to add to it times `theta`, what to multiply `theta` by, the two decay rates, one
        minus each, the step over the first bias correction, the inverse root of the second, and what to add to the
        denominator.
    """
    work = np.empty((2, min(BLOCK, theta.size)), theta.dtype)
    for start in range(0, theta.size, BLOCK):
        part = slice(start, start + BLOCK)
        length = min(BLOCK, theta.size - start)
        _adam_block(theta[part], g[part], m[part], v[part], work[:, :length], factors)


def _adam_block(theta: Any, g: Any, m: Any, v: Any, work: Any, factors: Any) -> None:
    scale, decay, shrink, b1, b2, rest1, rest2, rate, root, eps = factors
    a, b = work
    np.multiply(g, scale, out=a)
    if decay:
        np.multiply(theta, decay, out=b)
        a += b
    if shrink != 1:
        theta *= shrink
    m *= b1
    np.multiply(a, rest1, out=b)
    m += b
    v *= b2
    a *= a
    a *= rest2
    v += a
    np.sqrt(v, out=a)
    a *= root
    a += eps
    np.divide(m, a, out=a)
    a *= rate
    theta -= a


@dispatchable
def bias_relu(z: Any, b: Any) -> None:
    """``max(z + b, 0)``, in place of `z` (m, n), with `b` (n,)."""
    z += b
    np.maximum(z, 0, out=z)


@dispatchable
def relu_pull(g: Any, out: Any) -> None:
    """Zero where `out` is not positive, in place of `g`."""
    g *= out > 0


@dispatchable
def softmax_pull(z: Any, y: Any, weight: Any) -> tuple[float, int]:
    """The weighted cross-entropy of logits, and its gradient in their place.

    Parameters
    ----------
    z : (m, C) array
        The logits; overwritten by the gradient.
    y : (m,) array of int
        The labels.
    weight : (m,) array
        What each example counts.

    Returns
    -------
    value : float
        The sum of the weighted losses.
    n_bad : int
        How many labels are not from 0 to C - 1. If any, `z` is left as it was.
    """
    m, n_classes = z.shape
    n_bad = int(np.count_nonzero((y < 0) | (y >= n_classes)))
    if n_bad:
        return 0.0, n_bad
    rows = np.arange(m)
    z -= z.max(axis=1, keepdims=True)
    picked = z[rows, y]
    np.exp(z, out=z)
    total = z.sum(axis=1)
    value = float(weight @ (np.log(total) - picked))
    z *= (weight / total)[:, None]
    z[rows, y] -= weight
    return value, 0


@dispatchable
def outer_rows(h: Any, delta: Any, out: Any) -> None:
    """The outer product ``h[i] delta[i]^T`` of each row, written to ``out[i]``.

    Parameters
    ----------
    h : (m, a) array
    delta : (m, b) array
    out : (m, a, b) array
        May be strided between examples.
    """
    np.multiply(h[:, :, None], delta[:, None, :], out=out)


@dispatchable
def gather_columns(
    images: Any, columns: Any, stride: tuple[int, int], dilation: tuple[int, int], before: tuple[int, int]
) -> None:
    """Copy what each tap of a filter sees, at every place, to `columns`; outside of the images these are zeros.

    Parameters
    ----------
    images : (n, c, h, w) array
    columns : (c, kh, kw, n, h', w') array
        Overwritten.
    stride, dilation : pair of int
    before : pair of int
        How far above and left of the image the first place lies.
    """
    columns[...] = 0
    for i, j in np.ndindex(columns.shape[1:3]):
        places, seen = _window((i, j), columns.shape[4:], images.shape[2:], stride, dilation, before)
        columns[(slice(None), i, j, ..., *places)] = images[(..., *seen)].swapaxes(0, 1)


@dispatchable
def scatter_columns(
    columns: Any, images: Any, stride: tuple[int, int], dilation: tuple[int, int], before: tuple[int, int]
) -> None:
    """Add each entry of `columns` to where :func:`gather_columns` would take it from.

    Parameters
    ----------
    columns : (c, kh, kw, n, h', w') array
    images : (n, c, h, w) array
        Added to.
    stride, dilation, before : pair of int
    """
    for i, j in np.ndindex(columns.shape[1:3]):
        places, seen = _window((i, j), columns.shape[4:], images.shape[2:], stride, dilation, before)
        images[(..., *seen)] += columns[(slice(None), i, j, ..., *places)].swapaxes(0, 1)


def _window(
    tap: Any, size: Any, image: Any, stride: Any, dilation: Any, before: Any
) -> tuple[list[slice], list[slice]]:
    """The places, by axis, at which the tap falls into the image, and what it sees there."""
    places, seen = [], []
    for k, n, length, s, d, b in zip(tap, size, image, stride, dilation, before, strict=True):
        offset = k * d - b
        first = max(0, -(offset // s))
        stop = max(first, min(n, (length - 1 - offset) // s + 1))
        start = first * s + offset
        places.append(slice(first, stop))
        seen.append(slice(start, start + max(0, (stop - first - 1) * s + (stop > first)), s))
    return places, seen
