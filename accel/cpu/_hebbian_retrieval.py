"""Numba twin of softmax retrieval: one pass over a tile of scores between two matrix products.

A row whose patterns cannot matter costs one look for its maximum. Where few entries of a row matter, their values are
added at once; the second product is left to the other rows, moved together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from numcore.accel.cpu._math import exp
from numcore.accel.cpu._threads import run_blocks

__all__ = ["attend"]

ROWS, COLUMNS, MOST_COLUMNS = 128, 1024, 1 << 14
"""Queries and patterns of a tile, whose scores fit the second-level cache; and patterns at most, of fewer queries.

Tiles of twice the queries are 5 % faster on one thread, and occupy half as many.
"""

FEW = 8
"""Values of a row that are added one by one."""

LANES, FOLD = 128, 16
TIE = 32
LOWEST = {np.dtype(np.float32): np.float32(-88.0), np.dtype(np.float64): np.float64(-709.0)}
"""Exponentials of this are 0."""

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
compiled = njit(cache=True, **OPTIONS)
inlined = njit(cache=True, forceinline=True, **OPTIONS)


def attend(queries, memory, values, mask, beta, skip, near):
    n, dtype = len(queries), queries.dtype
    figures, index = np.empty((4, n)), np.zeros(n, np.int64)
    means = np.zeros((n, sum(V.shape[1] for V in values)), dtype)
    count = (n + ROWS - 1) // ROWS
    borders = [n * k // count for k in range(count + 1)]
    problem = np.ascontiguousarray(queries), memory, values, mask, beta, skip, near, borders
    work = len(memory) * (queries.shape[1] + means.shape[1] + 8) * n // (8 * count)
    run_blocks(_attend_groups, count, work, *problem, figures, index, means)
    top, mass, moment, _ = figures
    entropy, weight = np.maximum(np.log(mass) - moment / mass, 0).astype(dtype), (1 / mass).astype(dtype)
    means *= weight[:, None]
    ends = np.cumsum([V.shape[1] for V in values])[:-1]
    parts = tuple(np.split(means, ends, axis=1)) if values else ()
    return top.astype(dtype), index, weight, entropy, parts


def _attend_groups(start, stop, block, queries, memory, values, mask, beta, skip, near, borders, figures, index, means):
    K, dtype = len(memory), queries.dtype
    for group in range(start, stop):
        rows = slice(borders[group], borders[group + 1])
        xi, sums = queries[rows], means[rows]
        n = len(xi)
        width = min(K, max(COLUMNS, min(ROWS * COLUMNS // n, MOST_COLUMNS)))
        scores, products, kept = np.empty(n * width, dtype), np.empty_like(sums), np.empty(n, np.int64)
        top, mass, moment, mark = figures[:, rows]
        top[:], mass[:], moment[:], mark[:] = -np.inf, 0, 0, -np.inf
        at = near[rows.start] // width * width
        for begin in (*range(at, K, width), *range(0, at, width)):
            columns = slice(begin, min(begin + width, K))
            S = scores[: n * (columns.stop - begin)].reshape(n, -1)
            np.matmul(xi, memory.seen(columns).T, out=S)
            if mask is not None:
                np.copyto(S, -np.inf, where=~(mask[columns] if mask.ndim == 1 else mask[rows, columns]))
            V = _joined(values, columns, dtype)
            count = _pass(
                S, begin, dtype.type(beta), skip, LOWEST[dtype], top, mark, index[rows], mass, moment, sums, V, kept
            )
            if count == n:
                sums += np.matmul(S, V, out=products)
            elif count:
                sums[kept[:count]] += np.matmul(S[:count], V, out=products[:count])


def _joined(values, columns, dtype):
    """Some rows of all values side by side."""
    if not values:
        return np.empty((columns.stop - columns.start, 0), dtype)
    tiles = [np.ascontiguousarray(V[columns], dtype=dtype) for V in values]
    if len(tiles) > 1:
        return np.concatenate(tiles, axis=1)
    return tiles[0] if tiles[0].flags.writeable else tiles[0].copy()  # read-only arrays are a type of their own


@compiled
def _pass(S, begin, beta, skip, lowest, top, mark, index, mass, moment, sums, V, kept):
    """Put exponentials of the rows that the second product is for in the place of scores, and return their number."""
    lanes, few, count = np.empty(LANES, S.dtype), np.empty(FEW, np.int64), 0
    for i in range(len(S)):
        s = S[i]
        best = np.float64(_greatest(s, lanes))
        if best == -np.inf or beta * (best - top[i]) < skip:
            continue
        new = max(best, top[i])
        _mark(s, begin, S.dtype.type(new), i, mark, index)
        if best > top[i]:
            shift = beta * (top[i] - best)
            factor = exp(shift)
            moment[i] = (moment[i] + shift * mass[i]) * factor if factor > 0 else 0.0
            mass[i] *= factor
            for c in range(sums.shape[1]):
                sums[i, c] *= S.dtype.type(factor)
            top[i] = best
        base = S.dtype.type(top[i])
        found = _significant(s, base, beta, skip, few)
        if found <= FEW:
            for k in range(found):
                z = np.float64(beta * (s[few[k]] - base))
                e = exp(z)
                mass[i] += e
                moment[i] += z * e
                for c in range(sums.shape[1]):
                    sums[i, c] += S.dtype.type(e) * V[few[k], c]
        else:
            total, weighted = _exponentials(s, base, beta, lowest)
            mass[i] += total
            moment[i] += weighted
            if count < i:
                S[count] = s
            kept[count] = i
            count += 1
    return count


@inlined
def _greatest(s, lanes):
    """The greatest entry, by lanes: a single running maximum would not vectorise."""
    wide = s.size - s.size % LANES
    narrow = s.size - s.size % FOLD
    lanes[:] = -np.inf
    for j in range(0, wide, LANES):
        _raise(lanes, s[j : j + LANES], LANES)
    for k in range(FOLD, LANES, FOLD):
        _raise(lanes, lanes[k : k + FOLD], FOLD)
    for j in range(wide, narrow, FOLD):
        _raise(lanes, s[j : j + FOLD], FOLD)
    best = lanes[0]
    for k in range(FOLD):
        best = max(best, lanes[k])
    for j in range(narrow, s.size):
        best = max(best, s[j])
    return best


@inlined
def _raise(lanes, x, count):
    for k in range(count):
        lanes[k] = x[k] if x[k] > lanes[k] else lanes[k]


@inlined
def _mark(s, begin, top, i, mark, index):
    """Keep the first pattern whose score is the largest so far, up to rounding."""
    bar = top - s.dtype.type(TIE * np.finfo(s.dtype).eps) * abs(top)
    if mark[i] >= bar and index[i] < begin:
        return
    for j in range(s.size):
        if s[j] >= bar:
            if not (mark[i] >= bar and index[i] < begin + j):
                index[i], mark[i] = begin + j, s[j]
            return


@inlined
def _significant(s, base, beta, skip, few):
    """How many entries matter, and which if they are few."""
    found = 0
    for j in range(s.size):
        if beta * (s[j] - base) >= skip:
            if found == FEW:
                return FEW + 1
            few[found] = j
            found += 1
    return found


@inlined
def _exponentials(s, base, beta, lowest):
    """Put ``e = exp(beta (s - base))`` in the place of s; their sum, and that of ``e log e``."""
    total = weighted = s.dtype.type(0)
    for j in range(s.size):
        z = beta * (s[j] - base)
        z = z if z > lowest else lowest
        e = exp(z)
        s[j] = e
        total += e
        weighted += z * e
    return np.float64(total), np.float64(weighted)
