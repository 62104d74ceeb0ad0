"""Numba twins of the transport loops: rows of the cost, stored or formed on the fly, through one exponential an entry.

Everything works in base 2: ``s = log2(e) / eps``, ``t_ij = F_i + G_j - s C_ij``, so that scaling by ``2^n`` is exact;
exponentials are :func:`_math.exp2`. A row of the cost and a row of exponentials stay in the first-level cache; the
matrix of either is never formed. ``geometry`` is ``(C,)`` for a stored cost, ``(X, Y^T, code)`` for points.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload, register_jitable

from numcore.accel.cpu._math import exp2
from numcore.accel.cpu._threads import block_count, run_blocks

LOG2_E, LN_2 = math.log2(math.e), math.log(2)
LIMIT = {np.dtype(np.float32): np.float32(2.0**60), np.dtype(np.float64): np.float64(2.0**500)}
MATHS = {"contract", "reassoc", "nsz"}  # never nnan or ninf: -inf logs and +inf costs are legal
CODES = {"sqeuclidean": 0, "euclidean": 1, "manhattan": 2}


def survey(C):
    n, m = C.shape
    minima, rows = np.empty(n, C.dtype), np.empty((n, 3))
    run_blocks(_survey_rows, n, m, _rows(C), minima, rows)
    return minima, float(rows[:, 0].max()), int(rows[:, 1].sum()), int(rows[:, 2].sum())


def column_minima(C, f):
    n, m = C.shape
    minima = np.full((block_count(n, m), m), np.inf, C.dtype)
    run_blocks(_column_minima_rows, n, m, _rows(C), f.astype(C.dtype), minima)
    return minima.min(axis=0)


def reduced(C, f, g, eps):
    R = np.empty(C.shape, C.dtype)
    run_blocks(_reduced_rows, *C.shape, _rows(C), f, g, 1 / eps, R)
    return R


def sweep(C, guess, base, h, a, eps, power):
    return _sweep((_rows(C),), C.shape, C.dtype, guess, base, h, a, eps, power)


def sweep_cloud(X, Y, metric, guess, base, h, a, eps, power):
    return _sweep(_cloud(X, Y, metric), (len(X), len(Y)), X.dtype, guess, base, h, a, eps, power)


def sweep_batch(C, which, guess, base, h, a, eps, power):
    f, r, sums = np.empty(a.shape), np.empty(a.shape), np.zeros(h.shape, C.dtype)
    G = np.multiply(h, LOG2_E).astype(C.dtype)
    lines = (_rows(C), which, guess, base, G, a, (LOG2_E / eps).astype(C.dtype), LIMIT[C.dtype], eps, power)
    run_blocks(_sweep_problems, len(which), C[0].size, *lines, f, r, sums)
    return f, r, sums.astype(np.float64)


def soft_min(C, h, eps):
    if h.ndim == 1:
        return _soft_min((_rows(C),), C.shape, C.dtype, h, eps)
    G = np.multiply(h, LOG2_E).astype(C.dtype)
    out = np.empty((h.shape[0], C.shape[0]))
    run_blocks(_soft_min_lines, h.shape[0], C.size, _rows(C), G, C.dtype.type(LOG2_E / eps), eps, out)
    return out


def soft_min_cloud(X, Y, metric, h, eps):
    return _soft_min(_cloud(X, Y, metric), (len(X), len(Y)), X.dtype, h, eps)


def average(C, h, eps, V):
    return _average((_rows(C),), C.shape, C.dtype, h, eps, V)


def average_cloud(X, Y, metric, h, eps, V):
    return _average(_cloud(X, Y, metric), (len(X), len(Y)), X.dtype, h, eps, V)


def plan(C, u, h, eps):
    P = np.empty(C.shape, C.dtype)
    run_blocks(_plan_rows, *C.shape, _rows(C), u * LOG2_E, h * LOG2_E, LOG2_E / eps, P)
    return P


def plan_cost(C, u, h, eps):
    return _plan_cost((_rows(C),), C.shape, C.dtype, u, h, eps)


def plan_cost_cloud(X, Y, metric, u, h, eps):
    return _plan_cost(_cloud(X, Y, metric), (len(X), len(Y)), X.dtype, u, h, eps)


def plan_entries(C, u, h, eps, row_floor, column_floor):
    return _plan_entries((_rows(C),), C.shape, C.dtype, u, h, eps, row_floor, column_floor)


def plan_entries_cloud(X, Y, metric, u, h, eps, row_floor, column_floor):
    return _plan_entries(_cloud(X, Y, metric), (len(X), len(Y)), X.dtype, u, h, eps, row_floor, column_floor)


def kernel(C, f, g, eps):
    K = np.empty(C.shape, C.dtype)
    most = LOG2_E * (69.0 if C.dtype == np.float32 else 690.0)
    run_blocks(_kernel_rows, *C.shape, _rows(C), f * (LOG2_E / eps), g * (LOG2_E / eps), LOG2_E / eps, most, K)
    return K


def kernel_sweep(K, x, w, power):
    n, m = K.shape
    q = np.empty(n)
    sums = np.zeros((block_count(n, m), m), K.dtype)
    run_blocks(_kernel_sweep_rows, n, m, _rows(K), x.astype(K.dtype), w, power, q, sums)
    return q, sums.sum(axis=0, dtype=np.float64)


def _rows(C):
    return np.ascontiguousarray(C)


def _cloud(X, Y, metric):
    # at least three features, 0 where there are fewer: the loops need no other cases
    d = max(3, X.shape[1])
    rows, columns = np.zeros((X.shape[0], d), X.dtype), _aligned(d, Y.shape[0], Y.dtype)
    rows[:, : X.shape[1]] = X
    columns[:] = 0
    columns[: Y.shape[1], : Y.shape[0]] = Y.T
    return (rows, columns, CODES[metric.name])


@register_jitable
def _aligned(count, size, dtype):
    """Space for `count` rows of `size` entries, each from the start of a cache line: vectors across two cost double."""
    width = (size + 15) // 16 * 16
    space = np.empty(count * width + 16, dtype)
    first = -space.ctypes.data % 64 // space.itemsize
    return space[first : first + count * width].reshape(count, width)


def _sweep(geometry, shape, dtype, guess, base, h, a, eps, power):
    n, m = shape
    f, r = np.empty(n), np.empty(n)
    sums = np.zeros((block_count(n, m), m), dtype)
    G = np.multiply(h, LOG2_E).astype(dtype)
    run_blocks(
        _sweep_rows, n, m, geometry, guess, base, G, a, dtype.type(LOG2_E / eps), LIMIT[dtype], eps, power, f, r, sums
    )
    return f, r, sums.sum(axis=0, dtype=np.float64)


def _soft_min(geometry, shape, dtype, h, eps):
    out = np.empty(shape[0])
    G = np.multiply(h, LOG2_E).astype(dtype)
    run_blocks(_soft_min_rows, *shape, geometry, G, dtype.type(LOG2_E / eps), eps, out)
    return out


def _average(geometry, shape, dtype, h, eps, V):
    soft, means = np.empty(shape[0]), np.empty((shape[0], V.shape[1]), dtype)
    G, columns = np.multiply(h, LOG2_E).astype(dtype), np.ascontiguousarray(V.T)
    run_blocks(_average_rows, *shape, geometry, G, dtype.type(LOG2_E / eps), eps, columns, soft, means)
    return soft, means


def _plan_cost(geometry, shape, dtype, u, h, eps):
    sums = np.zeros(shape[0])
    buffers = np.empty((block_count(*shape), shape[1]), dtype)
    run_blocks(_plan_cost_rows, *shape, geometry, u * LOG2_E, h * LOG2_E, LOG2_E / eps, buffers, sums)
    return float(sums.sum())


def _plan_entries(geometry, shape, dtype, u, h, eps, row_floor, column_floor):
    n, m = shape
    buffers = np.empty((block_count(n, m), m), dtype)
    lines = (geometry, u * LOG2_E, h * LOG2_E, LOG2_E / eps, np.log2(row_floor), np.log2(column_floor), buffers)
    indptr = np.zeros(n + 1, np.int64)
    run_blocks(_count_rows, n, m, *lines, indptr)
    np.cumsum(indptr, out=indptr)
    indices, data = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], dtype)
    run_blocks(_fill_rows, n, m, *lines, indptr, indices, data)
    return indptr, indices, data


def _cost_row(geometry: Any, i: int, row: Any) -> Any:
    """Row i of the cost: of the stored matrix itself, or of the points' distances, written to `row`."""
    raise NotImplementedError("for jitted code")


@overload(_cost_row)
def _cost_row_overload(geometry, i, row):
    if len(geometry) == 1:
        return lambda geometry, i, row: geometry[0][i]
    return _distances


@register_jitable
def _distances(geometry, i, row):
    X, Y, code = geometry
    if code == 2:
        for j in range(row.size):
            row[j] = abs(X[i, 0] - Y[0, j]) + abs(X[i, 1] - Y[1, j]) + abs(X[i, 2] - Y[2, j])
        for k in range(3, X.shape[1]):
            for j in range(row.size):
                row[j] += abs(X[i, k] - Y[k, j])
        return row
    for j in range(row.size):
        row[j] = (X[i, 0] - Y[0, j]) ** 2 + (X[i, 1] - Y[1, j]) ** 2 + (X[i, 2] - Y[2, j]) ** 2
    for k in range(3, X.shape[1]):
        for j in range(row.size):
            row[j] += (X[i, k] - Y[k, j]) ** 2
    if code == 1:
        for j in range(row.size):
            row[j] = np.sqrt(row[j])
    return row


@njit(nogil=True, cache=True, fastmath=MATHS, forceinline=True)
def _greatest(c, G, s, e, lanes):
    """Set ``e_j = G_j - s c_j``; returns the greatest, by lanes: a single running maximum would not vectorise."""
    width = lanes.size
    lanes[:] = -np.inf
    whole = c.size - c.size % width
    for j in range(0, whole, width):
        g, d, x = G[j : j + width], c[j : j + width], e[j : j + width]
        for k in range(width):
            t = g[k] - s * d[k]
            x[k] = t
            lanes[k] = t if t > lanes[k] else lanes[k]
    top = lanes.max()
    for j in range(whole, c.size):
        e[j] = G[j] - s * c[j]
        top = max(top, e[j])
    return top


@njit(nogil=True, cache=True, fastmath=MATHS, forceinline=True)
def _exact(c, G, s, e, lanes):
    """The exponentials of a row with the maximum taken out, as (F, sum); the sum is 0 if all pairs are forbidden."""
    top, total = _greatest(c, G, s, e, lanes), e.dtype.type(0)
    if top == -np.inf:
        e[:] = 0
        return total, total
    # from the numbers compared, not formed again: far from all targets they are so large that another rounding of them
    # would miss the maximum by more than floats can hold
    for j in range(e.size):
        v = exp2(e[j] - top)
        e[j] = v
        total += v
    return -top, total


def _exponentials_of_two(geometry: Any, i: int, k: int, F: Any, H: Any, G: Any, s: Any, e: Any, q: Any) -> Any:
    """``e_j = 2^(F + G_j - s C_ij)``, and k, H, q alike, with their sums: two streams from memory, and G read once."""
    raise NotImplementedError("for jitted code")


@overload(_exponentials_of_two)
def _exponentials_of_two_overload(geometry, i, k, F, H, G, s, e, q):
    return _of_stored_costs if len(geometry) == 1 else _of_distances


def _of_stored_costs(geometry, i, k, F, H, G, s, e, q):
    c, d = geometry[0][i], geometry[0][k]
    first = second = e.dtype.type(0)
    for j in range(G.size):
        v, w = exp2(F + (G[j] - s * c[j])), exp2(H + (G[j] - s * d[j]))
        e[j], q[j] = v, w
        first += v
        second += w
    return first, second


def _of_distances(geometry, i, k, F, H, G, s, e, q):
    # nothing here waits for memory: loops whose constants fit the registers are faster than one for all
    X, Y, code = geometry
    if code == 0 and X.shape[1] == 3:
        for j in range(G.size):
            c = (X[i, 0] - Y[0, j]) ** 2 + (X[i, 1] - Y[1, j]) ** 2 + (X[i, 2] - Y[2, j]) ** 2
            d = (X[k, 0] - Y[0, j]) ** 2 + (X[k, 1] - Y[1, j]) ** 2 + (X[k, 2] - Y[2, j]) ** 2
            e[j], q[j] = F + (G[j] - s * c), H + (G[j] - s * d)
    else:
        _distances(geometry, i, e)
        _distances(geometry, k, q)
        for j in range(G.size):
            e[j], q[j] = F + (G[j] - s * e[j]), H + (G[j] - s * q[j])
    return _exponentiated(e), _exponentiated(q)


@register_jitable
def _exponentiated(e):
    """Put ``2^e_j`` in the place of e_j, and return the sum."""
    total = e.dtype.type(0)
    for j in range(e.size):
        v = exp2(e[j])
        e[j] = v
        total += v
    return total


@njit(nogil=True, cache=True, fastmath=MATHS)
def _survey_rows(start, stop, block, C, minima, rows):
    lanes, zero = np.empty((2, 64), C.dtype), C.dtype.type(0)
    for i in range(start, stop):
        c, low, high = C[i], lanes[0], lanes[1]
        low[:], high[:] = np.inf, -np.inf
        spoilt = zero
        whole = c.size - c.size % 64
        for j in range(0, whole, 64):
            d = c[j : j + 64]
            for k in range(64):
                low[k] = d[k] if d[k] < low[k] else low[k]
                high[k] = d[k] if d[k] > high[k] else high[k]
                spoilt += zero * d[k]  # nan for whatever is not finite
        for j in range(whole, c.size):
            low[0] = c[j] if c[j] < low[0] else low[0]
            high[0] = c[j] if c[j] > high[0] else high[0]
            spoilt += zero * c[j]
        minima[i], rows[i, 0], rows[i, 1], rows[i, 2] = low.min(), high.max(), 0, 0
        if spoilt != 0:
            rows[i, 0], rows[i, 1], rows[i, 2] = _count_spoilt(c)


@njit(nogil=True, cache=True, fastmath=MATHS)
def _count_spoilt(c):
    """The greatest finite entry, and how many are +inf, and nan or -inf."""
    high, forbidden, refused = -np.inf, 0, 0
    for v in c:
        if v == np.inf:
            forbidden += 1
        elif v > -np.inf:
            high = max(high, v)
        else:
            refused += 1
    return high, forbidden, refused


@njit(nogil=True, cache=True, fastmath=MATHS)
def _column_minima_rows(start, stop, block, C, f, minima):
    least = minima[block]
    for i in range(start, stop):
        c, own = C[i], f[i]
        for j in range(c.size):
            d = c[j] - own
            least[j] = d if d < least[j] else least[j]


@njit(nogil=True, cache=True, fastmath=MATHS)
def _reduced_rows(start, stop, block, C, f, g, scale, R):
    for i in range(start, stop):
        c, own, r = C[i], f[i], R[i]
        for j in range(c.size):
            r[j] = ((c[j] - own) - g[j]) * scale


@njit(nogil=True, cache=True, fastmath=MATHS)
def _sweep_rows(start, stop, block, geometry, guess, base, G, a, s, limit, eps, power, f, r, sums):
    work, lanes, column_sums = np.empty((3, G.size), G.dtype), np.empty(64, G.dtype), sums[block]
    size, kind = G.size, G.dtype.type
    e, q, row = work[0], work[1], work[2]
    low, high = 1 / limit, limit
    for i in range(start, stop, 2):
        k = min(i + 1, stop - 1)
        F, H = kind(guess[i] * s), kind(guess[k] * s)
        m, n = _exponentials_of_two(geometry, i, k, F, H, G, s, e, q)
        if not low <= m <= high:
            F, m = _exact(_cost_row(geometry, i, row), G, s, e, lanes)
        if not low <= n <= high:
            H, n = _exact(_cost_row(geometry, k, row), G, s, q, lanes)
        v = kind(_update(i, F, m, base, a, eps, power, f, r))
        w = kind(_update(k, H, n, base, a, eps, power, f, r) * (k - i))  # an odd last row counts once
        for j in range(size):
            column_sums[j] += v * e[j] + w * q[j]


@njit(nogil=True, cache=True, fastmath=MATHS, forceinline=True)
def _update(i, F, total, base, a, eps, power, f, r):
    """Set f_i and r_i from the row's sum, and return the weight of its exponentials in the plan."""
    if total == 0:
        f[i], r[i] = base[i], 0.0
        return 0.0
    soft = eps * LN_2 * (F - math.log2(total))
    f[i] = base[i] + power * soft
    r[i] = a[i] * math.exp((f[i] - soft) / eps)
    return r[i] / total


@njit(nogil=True, cache=True, fastmath=MATHS)
def _sweep_problems(start, stop, block, C, which, guess, base, G, a, s, limit, eps, power, f, r, sums):
    n = C.shape[1]
    for k in range(start, stop):
        geometry, own = (C[which[k]],), sums[k : k + 1]
        _sweep_rows(0, n, 0, geometry, guess[k], base[k], G[k], a[k], s[k], limit, eps[k], power[k], f[k], r[k], own)


@njit(nogil=True, cache=True, fastmath=MATHS)
def _soft_min_rows(start, stop, block, geometry, G, s, eps, out):
    row, e, lanes = np.empty_like(G), np.empty_like(G), np.empty(64, G.dtype)
    for i in range(start, stop):
        F, total = _exact(_cost_row(geometry, i, row), G, s, e, lanes)
        out[i] = eps * LN_2 * (F - math.log2(total)) if total > 0 else np.inf


@njit(nogil=True, cache=True, fastmath=MATHS)
def _average_rows(start, stop, block, geometry, G, s, eps, columns, soft, means):
    row, e, lanes = np.empty_like(G), np.empty_like(G), np.empty(64, G.dtype)
    for i in range(start, stop):
        F, total = _exact(_cost_row(geometry, i, row), G, s, e, lanes)
        soft[i] = eps * LN_2 * (F - math.log2(total)) if total > 0 else np.inf
        for k in range(columns.shape[0]):
            v, product = columns[k], e.dtype.type(0)
            for j in range(v.size):
                product += e[j] * v[j]
            means[i, k] = product / total if total > 0 else product


@njit(nogil=True, cache=True, fastmath=MATHS)
def _soft_min_lines(start, stop, block, C, G, s, eps, out):
    for k in range(start, stop):
        _soft_min_rows(0, C.shape[0], 0, (C,), G[k], s, eps, out[k])


@njit(nogil=True, cache=True, fastmath=MATHS)
def _plan_rows(start, stop, block, C, U, H, s, P):
    for i in range(start, stop):
        for j in range(H.size):
            P[i, j] = exp2(P.dtype.type(U[i] + H[j] - s * C[i, j]))


@njit(nogil=True, cache=True, fastmath=MATHS)
def _plan_cost_rows(start, stop, block, geometry, U, H, s, buffers, sums):
    row, zero = buffers[block], buffers.dtype.type(0)
    for i in range(start, stop):
        c = _cost_row(geometry, i, row)
        total = zero
        for j in range(H.size):
            p = exp2(buffers.dtype.type(U[i] + H[j] - s * c[j]))
            total += p * (c[j] if p > zero else zero)
        sums[i] = total


@njit(nogil=True, cache=True, fastmath=MATHS)
def _count_rows(start, stop, block, geometry, U, H, s, row_floor, column_floor, buffers, indptr):
    for i in range(start, stop):
        c = _cost_row(geometry, i, buffers[block])
        count = 0
        for j in range(H.size):
            t = U[i] + H[j] - s * c[j]
            count += t >= min(row_floor[i], column_floor[j])
        indptr[i + 1] = count


@njit(nogil=True, cache=True, fastmath=MATHS)
def _fill_rows(start, stop, block, geometry, U, H, s, row_floor, column_floor, buffers, indptr, indices, data):
    exponents, counts, found = np.empty(H.size), np.empty(H.size, np.uint8), np.empty(H.size + 1, np.int32)
    for i in range(start, stop):
        c = _cost_row(geometry, i, buffers[block])
        for j in range(H.size):
            t = U[i] + H[j] - s * c[j]
            exponents[j], counts[j] = t, t >= min(row_floor[i], column_floor[j])
        kept = 0
        for j in range(H.size):  # each is written, and the next overwrites it unless it counts: no branch to miss
            found[kept] = j
            kept += counts[j]
        first = indptr[i]
        for k in range(kept):
            indices[first + k] = found[k]
            data[first + k] = exp2(data.dtype.type(exponents[found[k]]))


@njit(nogil=True, cache=True, fastmath=MATHS)
def _kernel_rows(start, stop, block, C, F, G, s, most, K):
    zero = K.dtype.type(0)
    for i in range(start, stop):
        for j in range(G.size):
            t = F[i] + G[j] - s * C[i, j]
            v = exp2(K.dtype.type(min(t, most)))
            K[i, j] = v if t >= -most else zero


@njit(nogil=True, cache=True, fastmath=MATHS)
def _kernel_sweep_rows(start, stop, block, K, x, w, power, q, sums):
    # four rows at a time: each entry of K is read from memory once, and those of x and of the sums a quarter as often
    column_sums, last, zero = sums[block], stop - 1, x.dtype.type(0)
    for i in range(start, stop, 4):
        i1, i2, i3 = min(i + 1, last), min(i + 2, last), min(i + 3, last)
        k0, k1, k2, k3 = K[i], K[i1], K[i2], K[i3]
        q0 = q1 = q2 = q3 = zero
        for j in range(x.size):
            q0 += k0[j] * x[j]
            q1 += k1[j] * x[j]
            q2 += k2[j] * x[j]
            q3 += k3[j] * x[j]
        q[i], q[i1], q[i2], q[i3] = q0, q1, q2, q3
        u0 = _scaling(w[i], q0, power, i < stop)
        u1 = _scaling(w[i1], q1, power, i + 1 < stop)
        u2 = _scaling(w[i2], q2, power, i + 2 < stop)
        u3 = _scaling(w[i3], q3, power, i + 3 < stop)
        for j in range(x.size):
            column_sums[j] += (u0 * k0[j] + u1 * k1[j]) + (u2 * k2[j] + u3 * k3[j])


@njit(nogil=True, cache=True, fastmath=MATHS, forceinline=True)
def _scaling(w, q, power, counts):
    """``w q^-power`` in the precision of q, for a row that counts and is not empty."""
    kind = type(q)
    return kind(w * q**-power) if counts and q > 0 else kind(0)
