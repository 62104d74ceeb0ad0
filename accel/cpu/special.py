"""Two-pass softmax and logsumexp: sums kept as pairs (mantissa, exponent), so that no maximum is needed first.

Dukhan and Ablavatski, "The Two-Pass Softmax Algorithm", IPDPSW 2020, Algorithm 3, with one change: entries are summed a
block at a time against one exponent `N`, guessed from what came before, and the block is summed again with its own
maximum in the rare case that the guess fails. Without the pairwise update the loops are a plain map and a plain sum,
which the compiler spreads over as many independent accumulators as the machine likes.

A row is cut into pieces, so that one long row occupies all threads; where, depends on its length only. Three stages:
sum each piece, merge the pieces of each row, scale each piece.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from numcore.accel.cpu._math import EXTEXP_LIMIT, extexp, pow2
from numcore.accel.cpu._threads import run_blocks

__all__ = ["entmax15_rows", "logsumexp_rows", "softmax_rows"]

PIECE = 2**16
BLOCK = 2**10
HUGE = 2.0**60
"""A block's sum beyond this means that the exponent it was summed against was far too small."""

# inlined by force: calls cost as much as a short row, and more when a slice has its references counted on the way
compiled = njit(cache=True, nogil=True, forceinline=True, fastmath={"contract", "reassoc", "nsz"})


def logsumexp_rows(x: Any) -> Any:
    return _sums(np.ascontiguousarray(x))[0]


def softmax_rows(x: Any, out: Any) -> Any:
    rows = np.ascontiguousarray(x)
    result, shift, exponent, inverse = _sums(rows)
    if not np.isnan(result).any():
        # told apart because a loop with two arrays runs as vectors only if they do not overlap
        kernel, arrays = (_scale_in_place, (out,)) if rows.ctypes.data == out.ctypes.data else (_scale, (rows, out))
        run_blocks(kernel, *_pieces(rows), *arrays, shift, exponent, inverse)
    return result


def _sums(x: Any) -> Any:
    """For each row its logsumexp, and what scales it: ``softmax = inverse * exp(x - shift) * 2**-exponent``."""
    n_pieces, work = _pieces(x)
    mantissas, exponents = np.empty(n_pieces), np.empty(n_pieces, x.dtype)
    run_blocks(_sum_pieces, n_pieces, work, x, mantissas, exponents)
    result, shift, exponent, inverse = np.empty((4, len(x)), x.dtype)
    _merge_pieces(x, mantissas, exponents, EXTEXP_LIMIT[x.dtype], result, shift, exponent, inverse)
    return result, shift, exponent, inverse


def _pieces(x: Any) -> tuple[int, int]:
    """The number of pieces in all rows, and the entries in one."""
    n_rows, n_columns = x.shape
    return n_rows * _per_row(n_columns), min(PIECE, n_columns)


@compiled
def _per_row(n_columns):
    return (n_columns + PIECE - 1) // PIECE


@compiled
def _bounds(k, n_columns):
    """The row, first and last column of piece `k`."""
    per_row = _per_row(n_columns)
    begin = k % per_row * PIECE
    return k // per_row, begin, min(begin + PIECE, n_columns)


@compiled
def _sum_pieces(start, stop, block, x, mantissas, exponents):
    terms = np.empty(BLOCK, x.dtype)
    for k in range(start, stop):
        row, begin, end = _bounds(k, x.shape[1])
        mantissas[k], exponents[k] = _sum(x, row, begin, end, x.dtype.type(0), terms)


@compiled
def _sum(x, row, begin, end, shift, terms):
    """The pair ``(M, N)`` with ``sum(exp(x - shift)) = M * 2**N``, `M` in float64; `N` is guessed from ``x[0]``."""
    total, exponent = 0.0, extexp(x[row, begin] - shift)[1]
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        part = _sum_against(x, row, first, last, shift, exponent, terms)
        if not part < HUGE:
            larger = max(exponent, extexp(_largest(x, row, first, last) - shift)[1])
            total *= pow2(np.float64(exponent - larger))
            exponent = larger
            part = _sum_against(x, row, first, last, shift, exponent, terms)
        total += part
    return total, exponent


@compiled
def _sum_against(x, row, begin, end, shift, exponent, terms):
    """``sum(exp(x - shift)) * 2**-exponent``, added up in float64; the terms' own loop is twice as wide."""
    entries = x[row, begin:end]  # a slice, whose indices are known not to be negative, runs as vectors
    for j in range(entries.size):
        m, n = extexp(entries[j] - shift)
        terms[j] = m * pow2(n - exponent)
    total = 0.0
    for j in range(entries.size):
        total += terms[j]
    return total


@compiled
def _largest(x, row, begin, end):
    """The maximum, NaN passed over."""
    top, entries = x.dtype.type(-np.inf), x[row, begin:end]
    for j in range(entries.size):
        top = entries[j] if entries[j] > top else top
    return top


@compiled
def _merge_pieces(x, mantissas, exponents, limit, result, shift, exponent, inverse):
    per_row = _per_row(x.shape[1])
    for row in range(x.shape[0]):
        first, last = row * per_row, (row + 1) * per_row
        top, total, power = x.dtype.type(0), 0.0, exponents[first]
        for k in range(first, last):
            power = max(power, exponents[k])
        for k in range(first, last):
            total += mantissas[k] * pow2(np.float64(exponents[k] - power))
        if not abs(power) < limit:
            top, total, power = _sum_shifted(x, row, total)
        total, carry = _normalised(total)
        power += carry
        result[row] = top + (power * np.log(2.0) + np.log(total))
        shift[row], exponent[row] = top, power
        inverse[row] = 1.0 / total if total > 0.0 else 0.0


@compiled
def _normalised(mantissa):
    """The pair ``(m, n)`` with `m` about 1, so that in ``n ln 2 + log m`` nothing cancels."""
    m, n = math.frexp(mantissa)
    return (2.0 * m, n - 1) if m < math.sqrt(0.5) else (m, n)


@compiled
def _sum_shifted(x, row, total):
    """The maximum, and the pair for the differences from it, of a row so far out that `extexp` had to clip.

    Out there the difference from the maximum is exact wherever its exponential is not 0. The row may also be all -inf
    (the sum is 0), or hold +inf or NaN (the sum is NaN).
    """
    top = _largest(x, row, 0, x.shape[1])
    if top == -np.inf and total == total:
        return x.dtype.type(0), 0.0, x.dtype.type(0)
    total, power = _sum(x, row, 0, x.shape[1], top, np.empty(BLOCK, x.dtype))
    return top, total, power


@compiled
def _scale(start, stop, block, x, out, shift, exponent, inverse):
    for k in range(start, stop):
        row, begin, end = _bounds(k, x.shape[1])
        top, power, factor = shift[row], exponent[row], inverse[row]
        source, target = x[row, begin:end], out[row, begin:end]
        for j in range(source.size):
            target[j] = _weight(source[j], top, power, factor)


@compiled
def _scale_in_place(start, stop, block, x, shift, exponent, inverse):
    for k in range(start, stop):
        row, begin, end = _bounds(k, x.shape[1])
        top, power, factor = shift[row], exponent[row], inverse[row]
        entries = x[row, begin:end]
        for j in range(entries.size):
            entries[j] = _weight(entries[j], top, power, factor)


@compiled
def _weight(x, shift, exponent, inverse):
    m, n = extexp(x - shift)
    return m * (inverse * pow2(n - exponent))


def entmax15_rows(x: Any, out: Any) -> Any:
    target = out if out.flags.c_contiguous else np.empty(x.shape, x.dtype)
    run_blocks(_entmax15, len(x), 4 * x.shape[1], np.ascontiguousarray(x), target)
    if target is not out:
        out[...] = target
    return out


@njit(cache=True, nogil=True)
def _entmax15(start, stop, block, x, out):
    kept = np.empty(x.shape[1])
    for i in range(start, stop):
        top = x[i, 0]
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        half = np.float64(top) / 2
        n = 0
        for j in range(x.shape[1]):
            z = np.float64(x[i, j]) / 2 - half
            if z > -1:
                kept[n] = z
                n += 1
        tau = _entmax15_threshold(kept, n)
        for j in range(x.shape[1]):
            z = np.float64(x[i, j]) / 2 - half - tau
            out[i, j] = z * z if z > 0 else 0.0


@njit(cache=True, nogil=True)
def _entmax15_threshold(kept, n):
    """The root of ``sum max(kept - tau, 0)^2 = 1``, which is convex and falls: Newton's method climbs to it from -1.

    Entries below tau will stay so and are dropped on the way.
    """
    tau, step = -1.0, 1.0
    while step > 1e-10:  # the step after would be below rounding
        first = second = 0.0
        count = 0
        for k in range(n):
            above = kept[k] - tau
            if above > 0:
                kept[count] = kept[k]
                count += 1
                first += above
                second += above * above
        n = count
        step = (second - 1) / (2 * first)
        tau += step
    return tau
