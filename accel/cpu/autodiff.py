"""Training steps in one pass: loops that NumPy needs several passes and a temporary for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from numcore.accel.cpu._math import exp
from numcore.accel.cpu._threads import run_blocks

__all__ = [
    "adam_update",
    "bias_relu",
    "gather_columns",
    "outer_rows",
    "relu_pull",
    "scatter_columns",
    "softmax_pull",
]

# the error model of NumPy: a check for division by zero would keep the loop from running as vectors
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@compiled
def adam_update(theta, g, m, v, factors):
    scale, decay, shrink, b1, b2 = factors[0], factors[1], factors[2], factors[3], factors[4]
    rest1, rest2, rate, root, eps = factors[5], factors[6], factors[7], factors[8], factors[9]
    for i in range(theta.size):
        a = g[i] * scale + theta[i] * decay
        mean = m[i] * b1 + a * rest1
        square = v[i] * b2 + a * a * rest2
        m[i], v[i] = mean, square
        theta[i] = theta[i] * shrink - rate * (mean / (np.sqrt(square) * root + eps))


@compiled
def bias_relu(z, b):
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        row = z[i]
        for j in range(row.size):
            x = row[j] + b[j]
            row[j] = zero if x < zero else x


@compiled
def relu_pull(g, out):
    zero = g.dtype.type(0)
    for i in range(g.shape[0]):
        row, value = g[i], out[i]
        for j in range(row.size):
            row[j] = row[j] if value[j] > zero else zero


@compiled
def softmax_pull(z, y, weight):
    m, n_classes = z.shape
    n_bad = 0
    for i in range(m):
        n_bad += y[i] < 0 or y[i] >= n_classes
    if n_bad:
        return 0.0, n_bad
    value = 0.0
    for i in range(m):
        row = z[i]
        top = row[0]
        for j in range(row.size):
            top = row[j] if row[j] > top else top
        picked = row[y[i]] - top
        total = z.dtype.type(0)
        for j in range(row.size):
            row[j] = exp(row[j] - top)
            total += row[j]
        value += weight[i] * (np.log(total) - picked)
        factor = weight[i] / total
        for j in range(row.size):
            row[j] *= factor
        row[y[i]] -= weight[i]
    return value, n_bad


def outer_rows(h: Any, delta: Any, out: Any) -> None:
    run_blocks(_outer_rows, len(h), h.shape[1] * delta.shape[1], h, delta, out)


@compiled
def _outer_rows(start, stop, block, h, delta, out):
    for i in range(start, stop):
        d = delta[i]
        for j in range(h.shape[1]):
            x, row = h[i, j], out[i, j]
            for k in range(d.size):
                row[k] = x * d[k]


def gather_columns(images: Any, columns: Any, stride: Any, dilation: Any, before: Any) -> None:
    n = columns.shape[3]
    run_blocks(_gather_columns, n, columns.size // max(1, n), images, columns, *stride, *dilation, *before)


def scatter_columns(columns: Any, images: Any, stride: Any, dilation: Any, before: Any) -> None:
    n = columns.shape[3]
    run_blocks(_scatter_columns, n, columns.size // max(1, n), columns, images, *stride, *dilation, *before)


@compiled
def _seen(offset, step, n, length):
    """The places, from one to before another, at which ``place * step + offset`` lies within an image's `length`."""
    first = max(0, -(offset // step))
    return first, max(first, min(n, (length - 1 - offset) // step + 1))


# Indices are unsigned below, since for signed ones Numba provides for -1 at each, and no loop would run as vectors.


@compiled
def _gather_columns(start, stop, block, images, columns, down, across, di, dj, top, left):
    n_channels, kh, kw, _, height, width = columns.shape
    h, w = images.shape[2:]
    source = images.reshape(-1)
    for c in range(n_channels):
        for i in range(kh):
            above, below = _seen(i * di - top, down, height, h)
            for j in range(kw):
                first, last = _seen(j * dj - left, across, width, w)
                whole = last - first == width and below - above == height
                for n in range(start, stop):
                    plane = columns[c, i, j, n]
                    target = plane.reshape(-1)
                    if not whole:
                        target[:] = 0
                    for p in range(above, below):
                        row = (n * n_channels + c) * h + p * down + i * di - top
                        a, b = np.uint64(p * width + first), np.uint64(row * w + first * across + j * dj - left)
                        if across == 1:
                            for q in range(np.uint64(last - first)):
                                target[a + q] = source[b + q]
                        else:
                            for q in range(np.uint64(last - first)):
                                target[a + q] = source[b + q * np.uint64(across)]


@compiled
def _scatter_columns(start, stop, block, columns, images, down, across, di, dj, top, left):
    n_channels, kh, kw, _, height, width = columns.shape
    h, w = images.shape[2:]
    target = images.reshape(-1)
    for n in range(start, stop):
        for c in range(n_channels):
            for i in range(kh):
                above, below = _seen(i * di - top, down, height, h)
                for j in range(kw):
                    first, last = _seen(j * dj - left, across, width, w)
                    source = columns[c, i, j, n].reshape(-1)
                    for p in range(above, below):
                        row = (n * n_channels + c) * h + p * down + i * di - top
                        a, b = np.uint64(p * width + first), np.uint64(row * w + first * across + j * dj - left)
                        if across == 1:
                            for q in range(np.uint64(last - first)):
                                target[b + q] += source[a + q]
                        else:
                            for q in range(np.uint64(last - first)):
                                target[b + q * np.uint64(across)] += source[a + q]
