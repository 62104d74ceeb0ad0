"""Products with float32 gradients in float64, at the speed of memory or of BLAS, and what follows in the same pass.

BLAS reads float32 as fast as memory gives it, but adds in float32 too. Here four rows at a time are widened as they are
loaded, so that the vector beside them is read once for the four. Gradients that are float64 already are BLAS's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from scipy.linalg import blas

from numcore.accel.cpu._threads import block_count, run_blocks

__all__ = ["add_gram", "add_products", "add_squares", "combine", "descend", "whitened_squares"]

WIDTH = 32768
"""Columns of a tile: long runs keep the prefetcher going, and the float64 vector beside them is in the L2 cache."""

ENTRIES = 1 << 19
"""Entries of a tile that is to be multiplied by a matrix."""

# the error model of NumPy: a check for division by zero would keep loops from running as vectors
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


def add_gram(G: Any, K: Any) -> None:
    # NumPy's T @ T.T takes the same routine, but fills in the other triangle and adds it all up for every tile: as fast
    # at a few rows, 15 % slower at 512
    m, d = G.shape
    width = min(max(256, ENTRIES // max(m, 1)), WIDTH, d)
    total, buffer = np.zeros((m, m), order="F"), np.empty((m, width))
    for start in range(0, d if m else 0, width):
        stop = min(start + width, d)
        T = buffer if stop - start == width else np.empty((m, stop - start))
        T[:] = G[:, start:stop]
        total = blas.dsyrk(1.0, T.T, beta=1.0, c=total, trans=1, lower=1, overwrite_c=1)
    K += total
    K += np.tril(total, -1).T


def add_products(G: Any, x: Any, p: Any) -> None:
    if G.dtype == np.float64:
        p += G @ x
        return
    for at, part in _contiguous(G):
        n_tiles, m = -(-part.shape[1] // WIDTH), len(part)
        partial = np.zeros((block_count(n_tiles, m * WIDTH), m))
        run_blocks(_add_products, n_tiles, m * WIDTH, part, x[at], partial)
        p += partial.sum(axis=0)


def combine(G: Any, s: Any, x: Any, factor: Any) -> Any:
    if G.dtype == np.float64:
        y = s @ G
        if x is not None:
            np.subtract(x, y, out=y)
        y *= factor
        return y
    y = np.empty(G.shape[1], G.dtype)
    for at, part in _contiguous(G):
        base = np.empty(0, G.dtype) if x is None else x[at]
        _by_tiles(_combine, part, s, base, x is not None, float(factor), y[at])
    return y


def descend(G: Any, s: Any, theta: Any, v: Any, rate: Any, momentum: Any) -> None:
    if v is None:
        _by_tiles(_descend, G, s, theta, theta, False, float(rate), 0.0)
    else:
        _by_tiles(_descend, G, s, theta, v, True, float(rate), float(momentum))


def add_squares(G: Any, total: Any) -> None:
    for at, part in _contiguous(G):
        _by_tiles(_add_squares, part, total[at])


def whitened_squares(G: Any, R: Any, lower: Any, whitened: Any, plain: Any) -> None:
    m, d = G.shape
    width = min(max(256, ENTRIES // max(m, 1)), WIDTH, d)
    buffer, R = np.empty((m, width), R.dtype), np.asfortranarray(R)
    triangular = blas.strmm if R.dtype == np.float32 else blas.dtrmm
    for start in range(0, d, width):
        stop = min(start + width, d)
        T = buffer if stop - start == width else np.empty((m, stop - start), R.dtype)
        T[:] = G[:, start:stop]
        _square_columns(T, plain[start:stop])
        if lower and m:
            triangular(1.0, R, T.T, side=1, lower=1, trans_a=1, overwrite_b=1)  # in place: T.T is in Fortran order
            _square_columns(T, whitened[start:stop])
        else:
            _square_columns(R @ T, whitened[start:stop])


def _contiguous(G: Any) -> Any:
    """G as it is, or where it is not C-contiguous, copies of tiles of it; each with its place."""
    if G.flags.c_contiguous:
        yield slice(None), G
        return
    for j in range(0, G.shape[1], WIDTH):
        yield slice(j, j + WIDTH), np.ascontiguousarray(G[:, j : j + WIDTH])


def _by_tiles(kernel: Callable[..., Any], G: Any, *args: Any) -> None:
    run_blocks(kernel, -(-G.shape[1] // WIDTH), len(G) * WIDTH, G, *args)


@compiled
def _add_products(start, stop, block, G, x, partial):
    m, d = G.shape
    wide, total = np.empty(WIDTH), partial[block]
    for tile in range(start, stop):
        a = tile * WIDTH
        b = min(a + WIDTH, d)
        for j in range(b - a):
            wide[j] = x[a + j]
        for i in range(0, m - 3, 4):
            g0, g1, g2, g3 = G[i, a:b], G[i + 1, a:b], G[i + 2, a:b], G[i + 3, a:b]
            p0 = p1 = p2 = p3 = 0.0
            for j in range(b - a):
                p0 += wide[j] * np.float64(g0[j])
                p1 += wide[j] * np.float64(g1[j])
                p2 += wide[j] * np.float64(g2[j])
                p3 += wide[j] * np.float64(g3[j])
            total[i] += p0
            total[i + 1] += p1
            total[i + 2] += p2
            total[i + 3] += p3
        for i in range(m // 4 * 4, m):
            g0 = G[i, a:b]
            p0 = 0.0
            for j in range(b - a):
                p0 += wide[j] * np.float64(g0[j])
            total[i] += p0


@njit(inline="always")
def _accumulate(G, s, a, b, acc):
    """Columns a to b of ``G^T s``, in `acc`."""
    m = len(s)
    for j in range(b - a):
        acc[j] = 0.0
    for i in range(0, m - 3, 4):
        g0, g1, g2, g3 = G[i, a:b], G[i + 1, a:b], G[i + 2, a:b], G[i + 3, a:b]
        s0, s1, s2, s3 = s[i], s[i + 1], s[i + 2], s[i + 3]
        for j in range(b - a):
            near = s0 * np.float64(g0[j]) + s1 * np.float64(g1[j])
            acc[j] += near + (s2 * np.float64(g2[j]) + s3 * np.float64(g3[j]))
    for i in range(m // 4 * 4, m):
        g0, s0 = G[i, a:b], s[i]
        for j in range(b - a):
            acc[j] += s0 * np.float64(g0[j])


@compiled
def _combine(start, stop, block, G, s, x, has_x, factor, y):
    acc = np.empty(WIDTH)
    for tile in range(start, stop):
        a = tile * WIDTH
        b = min(a + WIDTH, G.shape[1])
        _accumulate(G, s, a, b, acc)
        if has_x:
            base = x[a:b]
            for j in range(b - a):
                acc[j] = np.float64(base[j]) - acc[j]
        out = y[a:b]
        for j in range(b - a):
            out[j] = factor * acc[j]


@compiled
def _descend(start, stop, block, G, s, theta, v, has_v, rate, momentum):
    acc = np.empty(WIDTH)
    for tile in range(start, stop):
        a = tile * WIDTH
        b = min(a + WIDTH, G.shape[1])
        _accumulate(G, s, a, b, acc)
        if has_v:
            mean = v[a:b]
            for j in range(b - a):
                acc[j] = momentum * np.float64(mean[j]) + (1.0 - momentum) * acc[j]
                mean[j] = acc[j]
        at = theta[a:b]
        for j in range(b - a):
            at[j] = np.float64(at[j]) - rate * acc[j]


@compiled
def _add_squares(start, stop, block, G, total):
    for tile in range(start, stop):
        a = tile * WIDTH
        b = min(a + WIDTH, G.shape[1])
        _accumulate_squares(G, a, b, total[a:b])


@compiled
def _square_columns(T, out):
    for j in range(out.size):
        out[j] = 0.0
    _accumulate_squares(T, 0, out.size, out)


@njit(inline="always")
def _accumulate_squares(G, a, b, out):
    """Add the squares of columns a to b of G."""
    m = len(G)
    for i in range(0, m - 3, 4):
        g0, g1, g2, g3 = G[i, a:b], G[i + 1, a:b], G[i + 2, a:b], G[i + 3, a:b]
        for j in range(b - a):
            x0, x1, x2, x3 = np.float64(g0[j]), np.float64(g1[j]), np.float64(g2[j]), np.float64(g3[j])
            out[j] += (x0 * x0 + x1 * x1) + (x2 * x2 + x3 * x3)
    for i in range(m // 4 * 4, m):
        g0 = G[i, a:b]
        for j in range(b - a):
            out[j] += np.float64(g0[j]) * np.float64(g0[j])
