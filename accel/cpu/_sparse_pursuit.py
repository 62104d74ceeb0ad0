"""The Numba twin of orthogonal matching pursuit.

A step costs a row of the Gram matrix and the rows of V so far, four at a time, which stay in the first-level cache.
Rows are padded to whole lanes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from numcore.accel.cpu._threads import run_blocks

FULL, EXPLAINED, DEPENDENT, REACHED = 0, 1, 2, 3
PIVOT, ROUNDING, TIE, DOUBTFUL = 1e-10, 32, 1e-9, 1e-8
LANES = 16

compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


def pursue(X: Any, C: Any, G: Any, D: Any, most: Any, tol: Any, optimal: Any) -> Any:
    n, k = C.shape
    atoms, values = np.full((n, most), -1, np.int64), np.zeros((n, most))
    counts, squares, ends = np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.int64)
    if n:
        X, C, G, D = (np.ascontiguousarray(x) for x in (X, C, G, D))
        work = k * most * (most + 4) // 2
        kernel = _pursue_optimal if optimal else _pursue
        run_blocks(kernel, n, work, X, C, G, D, most, tol, atoms, values, counts, squares, ends)
    return atoms, values, counts, squares, ends


@compiled
def _pursue(start, stop, block, X, C, G, D, most, tol, atoms, values, counts, squares, ends):
    _rows(start, stop, X, C, G, D, most, tol, False, atoms, values, counts, squares, ends)


@compiled
def _pursue_optimal(start, stop, block, X, C, G, D, most, tol, atoms, values, counts, squares, ends):
    _rows(start, stop, X, C, G, D, most, tol, True, atoms, values, counts, squares, ends)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, forceinline=True)
def _rows(start, stop, X, C, G, D, most, tol, optimal, atoms, values, counts, squares, ends):
    k = C.shape[1]
    width = (k + LANES - 1) // LANES * LANES
    V = np.empty((most, width))
    g, q, score = np.zeros(width), np.ones(width), np.zeros(width)
    bits, top = score.view(np.int64), np.zeros(1)
    top_bits = top.view(np.int64)
    y, r = np.empty(most), np.empty(X.shape[1])
    rounding = ROUNDING * np.finfo(C.dtype).eps
    for i in range(start, stop):
        x, c, own, a = X[i], C[i], atoms[i], values[i]
        square = 0.0
        for t in range(x.size):
            square += np.float64(x[t]) * np.float64(x[t])
        for j in range(k):
            g[j] = c[j]
        q[:] = 1.0
        noise, left, s = rounding * np.sqrt(square), square, 0
        while True:
            if left <= max(tol[i], 0.0) + DOUBTFUL * square:
                left = _residual(x, D, V, y, own, s, a, r)
            if left <= tol[i]:
                ends[i] = REACHED
                break
            if s == most:
                ends[i] = FULL
                break
            _scores(g, q, noise, optimal, score, bits, top_bits)
            if top[0] == 0:
                ends[i] = EXPLAINED
                for j in range(k):
                    if abs(g[j]) > noise:
                        ends[i] = DEPENDENT
                break
            j = _first(score, top[0] * (1 - max(TIE, rounding)))
            rest = q[j]
            if not optimal:
                for t in range(s):
                    rest -= V[t, j] * V[t, j]
            if rest <= PIVOT:
                ends[i] = DEPENDENT
                break
            pivot = np.sqrt(rest)
            y[s] = g[j] / pivot
            own[s] = j
            left -= y[s] * y[s]
            s += 1
            _extend(G[j], V, s - 1, j, 1 / pivot, y[s - 1], g, q, optimal, s == most)
            for t in range(s):
                g[own[t]] = 0.0
                q[own[t]] = 1.0
        counts[i] = s
        squares[i] = _residual(x, D, V, y, own, s, a, r)


@compiled
def _scores(g, q, noise, optimal, score, bits, top):
    """The score of every atom, and the bits of the greatest.

    Numbers that are not negative are in the order of their bits, taken as integers; and a maximum of integers runs as
    vectors, which one of floats does not.
    """
    if optimal:
        for j in range(g.size):
            kept = (abs(g[j]) > noise) & (q[j] > PIVOT)
            score[j] = g[j] * g[j] / q[j] if kept else 0.0
    else:
        for j in range(g.size):
            score[j] = abs(g[j]) if abs(g[j]) > noise else 0.0
    greatest = np.int64(0)
    for j in range(bits.size):
        greatest = max(greatest, bits[j])
    top[0] = greatest


@compiled
def _first(score, least):
    """The first atom with a score of at least `least`, which one has; without a branch, to run as vectors."""
    first = score.size
    for j in range(score.size):
        first = min(first, j if score[j] >= least else score.size)
    return first


@compiled
def _extend(row, V, s, j, scale, y, g, q, optimal, last):
    """Row s of V, and g and q with it; of the last one only what belongs to the atom itself is needed."""
    k = row.size
    v = V[s]
    if last:
        v[j] = 1 / scale
        return
    whole = s - s % 4
    for t in range(k):
        v[t] = row[t]
    for i in range(0, whole, 4):
        a, b, c, d = V[i], V[i + 1], V[i + 2], V[i + 3]
        wa, wb, wc, wd = a[j], b[j], c[j], d[j]
        for t in range(k):
            v[t] -= wa * a[t] + wb * b[t] + wc * c[t] + wd * d[t]
    for i in range(whole, s):
        a = V[i]
        wa = a[j]
        for t in range(k):
            v[t] -= wa * a[t]
    if optimal:
        for t in range(k):
            z = v[t] * scale
            v[t] = z
            g[t] -= y * z
            q[t] -= z * z
    else:
        for t in range(k):
            z = v[t] * scale
            v[t] = z
            g[t] -= y * z
    v[j] = 1 / scale


@compiled
def _residual(x, D, V, y, own, s, a, r):
    """The coefficients of the s chosen atoms, by back substitution, and the squared residual."""
    for m in range(s - 1, -1, -1):
        total = y[m]
        for t in range(m + 1, s):
            total -= V[m, own[t]] * a[t]
        a[m] = total / V[m, own[m]]
    for t in range(x.size):
        r[t] = x[t]
    for m in range(s):
        atom, size = D[own[m]], a[m]
        for t in range(r.size):
            r[t] -= size * atom[t]
    total = 0.0
    for t in range(r.size):
        total += r[t] * r[t]
    return total
