"""Numba twins of the sparse coding loops: one signal after another, threads over chunks of signals.

A signal's working set and the Gram matrix of it stay in the first-level cache. Rows are padded with zeros to whole
vectors, and the innermost loops are written as vectors: on rows of twenty entries, what a compiler makes of a loop is
mostly its remainder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from numcore.accel.cpu import prox
from numcore.accel.cpu._sparse_dictionary import accumulate, sweep_panel
from numcore.accel.cpu._sparse_lasso import sweep_columns
from numcore.accel.cpu._sparse_pursuit import pursue
from numcore.accel.cpu._threads import run_blocks

__all__ = ["accumulate", "lasso_codes", "pursue", "separable_codes", "sweep_columns", "sweep_panel"]

LANES = 8
"""Entries that are handled at once."""

SWEEPS, RETRIES = 4, 1
NEAR, SETTLED, SLOW, PATIENCE = 1.7, 1.25, 0.7, 50
TIE = 1e-14
PIVOT, LEVEL = 1e-10, 1e-12

WORK = 2**12
"""What a signal costs, in entries: 64 signals make a task."""

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
compiled = njit(cache=True, **OPTIONS)
inlined = njit(cache=True, forceinline=True, **OPTIONS)


def _is_flat(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.layout == "C" and kind.dtype == types.float64


def _vector(builder: Any, data: Any, at: Any) -> Any:
    return builder.bitcast(builder.gep(data, [at]), ir.VectorType(ir.DoubleType(), LANES).as_pointer())


def _spread(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(ir.DoubleType(), LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
    )


@intrinsic
def _subtract(typingctx, y, i, x, j, a):
    """``y[i:i + 8] -= a x[j:j + 8]`` on flat float64 arrays."""
    if not (_is_flat(y) and _is_flat(x)):
        return None

    def codegen(context, builder, signature, args):
        places = []
        for k in (0, 2):
            at = context.cast(builder, args[k + 1], signature.args[k + 1], types.intp)
            data = context.make_array(signature.args[k])(context, builder, args[k]).data
            places.append(_vector(builder, data, at))
        left, right = (builder.load(place, align=8) for place in places)
        product = builder.fmul(right, _spread(builder, args[4]), flags=("contract",))
        builder.store(builder.fsub(left, product, flags=("contract",)), places[0], align=8)
        return context.get_dummy_value()

    return types.void(y, i, x, j, types.float64), codegen


@intrinsic
def _subtract_four(typingctx, y, i, x, j0, j1, j2, j3, a0, a1, a2, a3):
    """``y[i:i + 8] -= a0 x[j0:j0 + 8] + ...`` for four places of x."""
    if not (_is_flat(y) and _is_flat(x)):
        return None
    double = types.float64

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        to = _vector(builder, data, context.cast(builder, args[1], signature.args[1], types.intp))
        source = context.make_array(signature.args[2])(context, builder, args[2]).data
        total = builder.load(to, align=8)
        for k in range(4):
            at = context.cast(builder, args[3 + k], signature.args[3 + k], types.intp)
            part = builder.load(_vector(builder, source, at), align=8)
            product = builder.fmul(part, _spread(builder, args[7 + k]), flags=("contract",))
            total = builder.fsub(total, product, flags=("contract",))
        builder.store(total, to, align=8)
        return context.get_dummy_value()

    return types.void(y, i, x, j0, j1, j2, j3, double, double, double, double), codegen


@intrinsic
def _largest(typingctx, x, n):
    """The largest of the first n entries, n a multiple of 8, and 0."""
    if not _is_flat(x):
        return None

    def codegen(context, builder, signature, args):
        kind = ir.VectorType(ir.DoubleType(), LANES)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        top = cgutils.alloca_once_value(builder, ir.Constant(kind, None))
        eight = ir.Constant(ir.IntType(64), LANES)
        with cgutils.for_range(builder, builder.sdiv(args[1], eight)) as loop:
            found = builder.load(_vector(builder, data, builder.mul(loop.index, eight)), align=8)
            best = builder.load(top)
            builder.store(builder.select(builder.fcmp_ordered(">", found, best), found, best), top)
        lanes = builder.load(top)
        result = ir.Constant(ir.DoubleType(), 0.0)
        for k in range(LANES):
            lane = builder.extract_element(lanes, ir.Constant(ir.IntType(32), k))
            result = builder.select(builder.fcmp_ordered(">", lane, result), lane, result)
        return result

    return types.float64(x, types.int64), codegen


@intrinsic
def _above(typingctx, x, i, level):
    """Which of ``x[i:i + 8]`` are above the level, a bit each."""
    if not _is_flat(x):
        return None

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        found = builder.load(_vector(builder, data, args[1]), align=8)
        bits = builder.bitcast(builder.fcmp_ordered(">", found, _spread(builder, args[2])), ir.IntType(LANES))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(x, types.int64, types.float64), codegen


@intrinsic
def _lowest_bit(typingctx, bits):
    """The place of the lowest bit that is set."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


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
    ld = (k + 7) // 8 * 8
    # the code, what correlates with its residual, thresholds, their reciprocals, correlations in units of them
    x, g, t, unit, ratio = np.zeros(ld), np.zeros(ld), np.zeros(ld), np.zeros(ld), np.zeros(ld)
    W, S = np.empty(k, np.int64), np.empty(k, np.int64)
    # of the working set: the Gram matrix, its diagonal's reciprocal, and the same as above; then room to solve
    H, curve, h, b, tw = np.zeros(k * ld), np.zeros(ld), np.zeros(ld), np.zeros(ld), np.zeros(ld)
    R, d, e = np.zeros(k * (ld + LANES)), np.zeros(ld), np.zeros(ld)
    for i in range(start, stop):
        row = i if weights.shape[0] > 1 else 0
        if i == start or row > 0 or regs[i] != regs[i - 1]:
            for j in range(k):
                t[j] = regs[i] * weights[row, j]
                unit[j] = 1 / t[j]
        m = 0
        for j in range(k):
            x[j] = A[i, j]
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
                    ratio[j] = g[j] * unit[j]
            else:
                for j in range(k):
                    ratio[j] = abs(g[j]) * unit[j]
            inner, explained, penalty = 0.0, 0.0, 0.0
            for p in range(m):
                j = W[p]
                if x[j] != 0:
                    inner += x[j] * g[j]
                    explained += x[j] * C[i, j]
                    penalty += abs(x[j]) * t[j]
            top = max(_largest(ratio, ld), 1.0)
            s = 1 / top
            residual = max(squares[i] - explained - inner, 0.0)
            gap = max((1 - s) ** 2 * residual / 2 + penalty - s * inner, 0.0)
            if gap <= goals[i] or count >= max_iter:
                break
            careful = count >= PATIENCE
            m = _working_set(W, m, x, ratio, ld, top, careful)
            lw = (m + 7) // 8 * 8
            for p in range(m):
                j = W[p]
                for q in range(p):
                    v = G[j * ld + W[q]]
                    H[p * lw + q] = v
                    H[q * lw + p] = v
                H[p * lw + p] = G[j * ld + j]
                for q in range(m, lw):
                    H[p * lw + q] = 0.0
                curve[p], h[p], b[p], tw[p] = 1 / G[j * ld + j], g[j], x[j], t[j]
            for p in range(m, lw):
                h[p] = 0.0
            if not careful:
                for _ in range(SWEEPS):
                    _sweep(H, lw, curve, h, b, tw, m, positive)
                count += SWEEPS
            if careful or top <= SETTLED or top > SLOW * before:
                solved, level = _solve_signs(H, lw, curve, h, b, tw, m, positive, careful, S, R, d, e)
                count += solved
                flag |= level
            before = top
            for p in range(m):
                x[W[p]] = b[p]
        values[0, i], values[1, i], n_iter[i], degenerate[i] = residual / 2 + penalty, gap, count, flag
        for j in range(k):
            A[i, j] = x[j]


@inlined
def _correlate(g, x, W, m, G, ld):
    """Take x G off g; m coefficients of x, those in W, may differ from 0."""
    p = 0
    while p + 4 <= m:
        j0, j1, j2, j3 = W[p], W[p + 1], W[p + 2], W[p + 3]
        x0, x1, x2, x3 = x[j0], x[j1], x[j2], x[j3]
        j0, j1, j2, j3 = j0 * ld, j1 * ld, j2 * ld, j3 * ld
        for j in range(0, ld, LANES):
            _subtract_four(g, j, G, j0 + j, j1 + j, j2 + j, j3 + j, x0, x1, x2, x3)
        p += 4
    while p < m:
        begin, factor = W[p] * ld, x[W[p]]
        for j in range(0, ld, LANES):
            _subtract(g, j, G, begin + j, factor)
        p += 1


@inlined
def _working_set(W, m, x, ratio, ld, top, careful):
    """Coefficients that are not 0, and the worst violators; `ratio` is spent. Returns their number."""
    for p in range(m):
        if x[W[p]] != 0:
            ratio[W[p]] = np.inf
    level = 1.0 if top <= NEAR else (1 + top) / 2
    if careful:
        level = max(1.0, top * (1 - TIE))
    m = 0
    for j in range(0, ld, LANES):
        bits = _above(ratio, j, level)
        while bits != 0:
            W[m] = j + _lowest_bit(bits)
            m += 1
            bits &= bits - 1
    return m


@inlined
def _sweep(H, lw, curve, h, b, t, m, positive):
    for p in range(m):
        old = b[p]
        z = H[p * lw + p] * old + h[p]
        high, low = z - t[p], z + t[p]
        high = high if high > 0 else 0.0
        low = low if low < 0 and not positive else 0.0
        new = (high + low) * curve[p]
        b[p] = new
        step = new - old
        for q in range(0, lw, LANES):
            _subtract(h, q, H, p * lw + q, step)


@inlined
def _solve_signs(H, lw, curve, h, b, t, m, positive, careful, S, R, d, e):
    count, level, fresh = 0, False, -1
    if careful:
        for p in range(m - 1, -1, -1):
            if b[p] == 0:
                fresh = p
    while count <= m:
        count += 1
        n = 0
        for p in range(m):
            if b[p] != 0 or p == fresh:
                S[n] = p
                n += 1
        if n == 0:
            break
        solved = _direction(H, lw, h, b, t, n, S, R, d, e)
        step, last = 1.0, -1
        if solved < n:
            n, step = solved + 1, np.inf
            level |= _downhill(h, b, t, S, d, n)
        for p in range(n):
            size, way = abs(b[S[p]]), d[p] * _sign(b[S[p]], h[S[p]])
            if way < 0 and size <= -step * way:
                step, last = size / -way, p
        if step == np.inf:
            break
        for p in range(n):
            b[S[p]] += step * d[p]
            for q in range(0, lw, LANES):
                _subtract(h, q, H, S[p] * lw + q, step * d[p])
        fresh = -1
        if last < 0:
            break
        b[S[last]] = 0.0
        if not careful:
            for _ in range(RETRIES):
                _sweep(H, lw, curve, h, b, t, m, positive)
    return count, level


@inlined
def _sign(b, h):
    """The sign of a coefficient, or the one that it is about to get."""
    return 1.0 if b > 0 or (b == 0 and h > 0) else -1.0


@inlined
def _direction(H, lw, h, b, t, n, S, R, d, e):
    """Where to go from b while its signs hold, in d; returns n, or how many atoms come before one that they span."""
    ls = (n + LANES) // LANES * LANES  # the right-hand side is one more column
    for p in range(n):
        for q in range(p, n):
            R[p * ls + q] = H[S[p] * lw + S[q]]
        R[p * ls + n] = h[S[p]] - _sign(b[S[p]], h[S[p]]) * t[S[p]]
    # by elimination R becomes the upper factor, row by row; what is left of the diagonal is never read
    solved, column = n, n
    for p in range(n):
        pivot = R[p * ls + p]
        if pivot <= PIVOT * H[S[p] * lw + S[p]]:
            solved, column = p, p
            break
        inverse = 1 / pivot
        e[p] = inverse
        for q in range(p + 1, n):
            factor = R[p * ls + q] * inverse
            for u in range(q // LANES * LANES, ls, LANES):
                _subtract(R, q * ls + u, R, p * ls + u, factor)
    for p in range(solved):
        d[p] = R[p * ls + column]
    for p in range(solved - 1, -1, -1):
        d[p] *= e[p]
        for q in range(p):
            d[q] -= R[q * ls + p] * d[p]
    return solved


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
                        _subtract(g, q, G, j * ld + q, change)
                largest, top = max(largest, abs(change)), max(top, abs(new))
            n_iter[i] += 1
            quiet = largest <= tol * top
        for j in range(k):
            A[i, j] = x[j]


# the formulas are a part of what is compiled
_separable_block.__qualname__ += f"_{prox._digest()}"
_separable_block = compiled(_separable_block)
