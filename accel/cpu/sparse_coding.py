"""Numba twins of the sparse coding loops: one signal after another, threads over chunks of signals.

A signal's working set and the Gram matrix of it stay in the first-level cache. Rows are padded with zeros to whole
vectors; see ``_sparse_vectors`` for the innermost loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from numcore.accel.cpu import prox
from numcore.accel.cpu._sparse_dictionary import accumulate, sweep_panel
from numcore.accel.cpu._sparse_lasso import sweep_columns
from numcore.accel.cpu._sparse_pursuit import pursue
from numcore.accel.cpu._sparse_vectors import (
    DIGEST,
    LANES,
    WORD,
    above,
    at,
    descend,
    largest,
    lowest_bit,
    put,
    subtract,
    subtract_four,
)
from numcore.accel.cpu._threads import run_blocks

__all__ = ["accumulate", "lasso_codes", "pursue", "separable_codes", "sweep_columns", "sweep_panel"]

SWEEPS, RETRIES = 4, 1
NEAR, SETTLED, SLOW, PATIENCE = 1.7, 1.25, 0.7, 50
TIE, ROUNDING = 1e-14, 16 * 2.0**-52
PIVOT, LEVEL = 1e-10, 1e-12

WORK = 2**12
"""What a signal costs, in entries: 64 signals make a task."""

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


def compiled(function: Any, **options: Any) -> Any:
    # what is inlined from other files is a part of the name, and so of the key to the cache
    function.__qualname__ += f"_{DIGEST}_{prox._digest()}"
    return njit(cache=True, **OPTIONS, **options)(function)


def inlined(function: Any) -> Any:
    return compiled(function, forceinline=True)


def _padded_rows(G: Any) -> Any:
    """G with rows of whole vectors, flat."""
    rows = np.zeros((len(G), -(-len(G) // LANES) * LANES))
    rows[:, : len(G)] = G
    return rows.reshape(-1)


def lasso_codes(C, G, squares, goals, regs, weights, positive, max_iter, A):
    n, k = C.shape
    values, n_iter, degenerate = np.zeros((2, n)), np.zeros(n, np.int64), np.zeros(n, bool)
    given = C, _padded_rows(G), squares, goals, regs, weights, positive, max_iter, A
    run_blocks(_lasso_block, n, max(WORK, 16 * k), *given, values, n_iter, degenerate)
    return values, n_iter, degenerate


@compiled
def _lasso_block(
    start, stop, block, C, G, squares, goals, regs, weights, positive, max_iter, A, values, n_iter, degenerate
):
    k = C.shape[1]
    ld, words = _whole(k, LANES), _whole(k, WORD)
    # the code, what correlates with its residual, thresholds, their reciprocals, correlations in units of them
    x, g, t, unit, ratio = np.zeros(ld), np.zeros(ld), np.zeros(ld), np.zeros(ld), np.zeros(words)
    W, S = np.empty(words, np.int64), np.empty(k, np.int64)
    # of the working set: the Gram matrix, its diagonal's reciprocal, and the same as above; then room to solve
    H, curve, h, b = np.zeros(ld * ld), np.zeros(ld), np.zeros(ld), np.zeros(ld)
    low, high, d, e = np.zeros(ld), np.zeros(ld), np.zeros(ld), np.zeros(ld)
    R, L = np.zeros(ld * (ld + LANES)), np.zeros(ld * (ld + LANES))
    norms = np.zeros(ld)
    for j in range(k):
        norms[j] = np.sqrt(G[j * ld + j])
    for i in range(start, stop):
        room = ROUNDING * np.sqrt(squares[i])
        row = i if weights.shape[0] > 1 else 0
        if i == start or row > 0 or regs[i] != regs[i - 1]:
            for j in range(k):
                t[j] = regs[i] * weights[row, j]
                unit[j] = 1 / t[j]
        size = 0.0
        for j in range(k):
            x[j] = A[i, j]
            size += abs(x[j])
        m = 0
        if size > 0:
            for j in range(k):
                if x[j] != 0:
                    W[m] = j
                    m += 1
        count, flag, before = 0, False, np.inf
        while True:
            for j in range(k):
                g[j] = C[i, j]
            _correlate(g, x, W, m, G, ld)
            if positive:
                for j in range(k):
                    ratio[j] = (g[j] - room * norms[j]) * unit[j]
            else:
                for j in range(k):
                    ratio[j] = (abs(g[j]) - room * norms[j]) * unit[j]
            inner, explained, penalty = 0.0, 0.0, 0.0
            for p in range(m):
                j = W[p]
                xj = at(x, j)
                if xj != 0:
                    inner += xj * at(g, j)
                    explained += xj * C[i, j]
                    penalty += abs(xj) * at(t, j)
            top = max(largest(ratio, ld), 1.0)
            s = 1 / top
            residual = max(squares[i] - explained - inner, 0.0)
            gap = max((1 - s) ** 2 * residual / 2 + penalty - s * inner, 0.0)
            if gap <= goals[i] or count >= max_iter:
                break
            careful = count >= PATIENCE
            m = _working_set(W, m, x, ratio, words, top, careful)
            lw = _whole(m, LANES)
            for p in range(m):
                j = W[p]
                _gather(H, p * lw, lw, p, G, j * ld, W)
                tj = at(t, j)
                put(curve, p, 1 / at(G, j * ld + j))
                put(h, p, at(g, j))
                put(b, p, at(x, j))
                put(high, p, tj)
                put(low, p, -np.inf if positive else -tj)
            for p in range(m, lw):
                h[p] = b[p] = low[p] = high[p] = curve[p] = 0.0
            if not careful:
                sweeps = min(SWEEPS, max_iter - count)
                _sweep(H, lw, h, b, low, high, curve, sweeps)
                count += sweeps
            if count < max_iter and (careful or top <= SETTLED or top > SLOW * before):
                most = min(m + 1, max_iter - count)
                solved, level = _solve_signs(H, lw, h, b, low, high, curve, m, careful, most, S, R, L, d, e)
                count += solved
                flag |= level
            before = top
            for p in range(m):
                put(x, W[p], at(b, p))
        values[0, i], values[1, i], n_iter[i], degenerate[i] = residual / 2 + penalty, gap, count, flag
        for j in range(k):
            A[i, j] = x[j]


@inlined
def _whole(n, unit):
    return (n + unit - 1) // unit * unit


@inlined
def _gather(H, begin, lw, p, G, row, W):
    """The Gram matrix of the working set, up to row and column p."""
    column = p
    for q in range(p):
        v = at(G, row + W[q])
        put(H, begin + q, v)
        put(H, column, v)
        column += lw
    put(H, begin + p, at(G, row + W[p]))


@inlined
def _correlate(g, x, W, m, G, ld):
    """Take x G off g; m coefficients of x, those in W, may differ from 0."""
    p = 0
    while p + 4 <= m:
        j0, j1, j2, j3 = W[p], W[p + 1], W[p + 2], W[p + 3]
        x0, x1, x2, x3 = at(x, j0), at(x, j1), at(x, j2), at(x, j3)
        j0, j1, j2, j3 = j0 * ld, j1 * ld, j2 * ld, j3 * ld
        for j in range(0, ld, LANES):
            subtract_four(g, j, G, j0 + j, j1 + j, j2 + j, j3 + j, x0, x1, x2, x3)
        p += 4
    while p < m:
        begin, factor = W[p] * ld, at(x, W[p])
        for j in range(0, ld, LANES):
            subtract(g, j, G, begin + j, factor)
        p += 1


@inlined
def _working_set(W, m, x, ratio, words, top, careful):
    """Coefficients that are not 0, and the worst violators; `ratio` is spent. Returns their number."""
    for p in range(m):
        if at(x, W[p]) != 0:
            put(ratio, W[p], np.inf)
    level = 1.0 if top <= NEAR else (1 + top) / 2
    if careful:
        level = max(1.0, top * (1 - TIE))
    m = 0
    for j in range(0, words, WORD):
        bits = above(ratio, j, level)
        while bits != 0:
            W[m] = j + lowest_bit(bits)
            m += 1
            bits &= bits - 1
    return m


@inlined
def _sweep(H, lw, h, b, low, high, curve, sweeps):
    p = 0
    for _ in range(sweeps * lw // LANES):
        descend(H, lw, h, b, low, high, curve, p)
        p += LANES
        if p == lw:
            p = 0


@inlined
def _solve_signs(H, lw, h, b, low, t, curve, m, careful, most, S, R, L, d, e):
    count, level, fresh = 0, False, -1
    if careful:
        for p in range(m - 1, -1, -1):
            if b[p] == 0:
                fresh = p
    while count < most:
        count += 1
        n = 0
        for p in range(m):
            if at(b, p) != 0 or p == fresh:
                S[n] = p
                n += 1
        if n == 0:
            break
        solved = _direction(H, lw, h, b, t, n, S, R, L, d, e)
        step, last = 1.0, -1
        if solved < n:
            n, step = solved + 1, np.inf
            level |= _downhill(h, b, t, S, d, n)
        for p in range(n):
            size, way = abs(at(b, S[p])), at(d, p) * _sign(at(b, S[p]), at(h, S[p]))
            if way < 0 and size <= -step * way:
                step, last = size / -way, p
        if step == np.inf:
            break
        for p in range(n):
            put(b, S[p], at(b, S[p]) + step * at(d, p))
        fresh = -1
        if last < 0:  # that was the minimum
            break
        for p in range(n):
            for q in range(0, lw, LANES):
                subtract(h, q, H, S[p] * lw + q, step * at(d, p))
        b[S[last]] = 0.0
        if not careful:
            _sweep(H, lw, h, b, low, t, curve, RETRIES)
    return count, level


@inlined
def _sign(b, h):
    """The sign of a coefficient, or the one that it is about to get."""
    return 1.0 if b > 0 or (b == 0 and h > 0) else -1.0


@inlined
def _direction(H, lw, h, b, t, n, S, R, L, d, e):
    """Where to go from b while its signs hold, in d; returns n, or how many atoms come before one that they span."""
    ls = _whole(n + 1, LANES)  # the right-hand side is one more column
    for p in range(n):
        row, to = S[p] * lw, p * ls
        for q in range(p, n):
            put(R, to + q, at(H, row + S[q]))
        bp, hp = at(b, S[p]), at(h, S[p])
        put(R, to + n, hp - _sign(bp, hp) * at(t, S[p]))
    solved = _factor(R, L, n, ls, e, H, lw, S)
    column = n if solved == n else solved
    for p in range(solved):
        d[p] = at(R, p * ls + column) * e[p]
    for p in range(solved - 1, -1, -1):
        dp = at(d, p)
        for q in range(0, p, LANES):
            subtract(d, q, L, p * ls + q, dp)
        put(e, p, dp)
    for p in range(solved):
        d[p] = e[p]
    return solved


@inlined
def _factor(R, L, n, ls, e, H, lw, S):
    """Eliminate: ``L E^-1 L^T`` is what R was, and R becomes ``E^-1 L^T``; the diagonal of L is not stored.

    Returns how many rows came before one that depends on them.
    """
    for p in range(0, n, 4):
        last = min(p + 4, n)
        for q in range(p, last):
            for i in range(p, q):
                factor = at(R, i * ls + q) * e[i]
                for u in range(q // LANES * LANES, ls, LANES):
                    subtract(R, q * ls + u, R, i * ls + u, factor)
                put(L, q * ls + i, factor)
            pivot = at(R, q * ls + q)
            if pivot <= PIVOT * at(H, S[q] * (lw + 1)):
                return q
            e[q] = 1 / pivot
        r0 = p * ls
        r1, r2, r3 = r0 + ls, r0 + 2 * ls, r0 + 3 * ls
        for q in range(last, n):
            row = q * ls
            f0, f1 = at(R, r0 + q) * e[p], at(R, r1 + q) * e[p + 1]
            f2, f3 = at(R, r2 + q) * e[p + 2], at(R, r3 + q) * e[p + 3]
            for u in range(q // LANES * LANES, ls, LANES):
                subtract_four(R, row + u, R, r0 + u, r1 + u, r2 + u, r3 + u, f0, f1, f2, f3)
            put(L, row + p, f0)
            put(L, row + p + 1, f1)
            put(L, row + p + 2, f2)
            put(L, row + p + 3, f3)
    return n


@inlined
def _downhill(h, b, t, S, d, n):
    """Turn d, a combination of atoms that leaves the signal as it is, and along which the penalty is linear.

    Where it is level, the last atom is to give way. Returns whether it is.
    """
    d[n - 1] = -1.0
    slope, size = 0.0, 0.0
    for p in range(n):
        slope += d[p] * (_sign(b[S[p]], h[S[p]]) * t[S[p]] - h[S[p]])
        size += abs(d[p]) * t[S[p]]
    level = abs(slope) <= LEVEL * size
    if (-_sign(b[S[n - 1]], h[S[n - 1]]) if level else slope) > 0:
        for p in range(n):
            d[p] = -d[p]
    return level


KINDS = {"l1": 0, "l0": 1, "half": 2, "two_thirds": 3, "lq": 4, "mcp": 5, "scad": 6, "log_sum": 7}


def separable_codes(C, G, formula, regs, weights, shapes, positive, tol, max_iter, A):
    n, k = C.shape
    n_iter, converged = np.zeros(n, np.int64), np.zeros(n, bool)
    given = C, _padded_rows(G), KINDS[formula], regs, weights, shapes, positive, tol, max_iter, A
    run_blocks(_separable_block, n, max(WORK, 16 * k), *given, n_iter, converged)
    return n_iter, converged


@inlined
def _operator(kind, v, step, reg, shape):
    if kind == 0:
        return prox.l1(v, step * reg)
    if kind == 1:
        return prox.l0(v, step * reg)
    if kind == 2:
        return prox.half(v, step * reg)
    if kind == 3:
        return prox.two_thirds(v, step * reg)
    if kind == 4:
        return prox.lq(v, step * reg, shape)
    if kind == 5:
        return prox.mcp(v, step, reg, shape)
    if kind == 6:
        return prox.scad(v, step, reg, shape)
    return prox.log_sum(v, step * reg, shape)


@compiled
def _separable_block(
    start, stop, block, C, G, kind, regs, weights, shapes, positive, tol, max_iter, A, n_iter, converged
):
    k = C.shape[1]
    ld = (k + 7) // 8 * 8
    x, g, steps, W = np.zeros(ld), np.zeros(ld), np.zeros(k), np.empty(k, np.int64)
    reg, shape = np.zeros(k), np.zeros(k)
    low = 0.0 if positive else -np.inf
    for j in range(k):
        steps[j] = 1 / G[j * ld + j]
    for i in range(start, stop):
        for j in range(k):
            x[j] = A[i, j]
            reg[j] = regs[i] * weights[i if weights.shape[0] > 1 else 0, j]
            shape[j] = shapes[i if shapes.shape[0] > 1 else 0, j if shapes.shape[1] > 1 else 0]
        quiet = False
        for sweep in range(max_iter + 1):
            m, top = 0, 0.0
            for j in range(k):
                g[j] = C[i, j]
                if x[j] != 0:
                    W[m] = j
                    m += 1
                    top = max(top, abs(x[j]))
            _correlate(g, x, W, m, G, ld)
            if quiet:
                away = 0.0
                for j in range(k):
                    new = _operator(kind, max(x[j] + steps[j] * g[j], low), steps[j], reg[j], shape[j])
                    away = max(away, abs(new - x[j]))
                if away <= tol * top:
                    converged[i] = True
                    break
            if sweep == max_iter:
                break
            largest, top = 0.0, 0.0
            for j in range(k):
                new = _operator(kind, max(x[j] + steps[j] * g[j], low), steps[j], reg[j], shape[j])
                change = new - x[j]
                if change != 0:
                    x[j] = new
                    for q in range(0, ld, LANES):
                        subtract(g, q, G, j * ld + q, change)
                largest, top = max(largest, abs(change)), max(top, abs(new))
            n_iter[i] += 1
            quiet = largest <= tol * top
        for j in range(k):
            A[i, j] = x[j]
