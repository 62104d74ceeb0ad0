"""Numba twins of the sweeps of dense memories: chains in parallel, each from its own memory.

Flips of patterns of signs are judged by dot products of a row of bytes with a cached vector. Where flips are rare, the
rows of the next eight sites are taken in one pass over that vector; after a flip those behind it are judged again, so
that the chain is the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from numcore.accel.cpu._hebbian_retrieval import attend
from numcore.accel.cpu._math import exp, word_at
from numcore.accel.cpu._threads import run_blocks

__all__ = ["attend", "coupling_sweeps", "real_sweeps", "table_sweeps"]

CERTAIN = 44.0
REFRESH = 64

AHEAD = 8
"""Sites that are judged in one pass where flips are rare."""

DEGREES = 6
"""Coefficients of the polynomials that stand for tables of low order."""

CHUNK = 1024
"""Patterns of any numbers that are judged at a time, within the first-level cache."""

VISITS = {"ordered": 0, "permuted": 1, "random": 2}
RULES = {"full": 0, "rectified": 1, "exp": 2, "distinct": 3}

ELEVEN = np.uint64(11)

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
compiled = njit(cache=True, **OPTIONS)
inlined = njit(cache=True, forceinline=True, **OPTIONS)


@inlined
def _uniform(seed, place):
    return np.float64(word_at(seed, np.uint64(place)) >> ELEVEN) * 2.0**-53


@inlined
def _accepted(change, size, beta, seed, place, tie, metropolis):
    if beta == np.inf:
        return change < -tie * size
    x = beta * change
    if x >= CERTAIN:
        return False
    if x <= (0.0 if metropolis else -CERTAIN):
        return True
    u = _uniform(seed, place)
    if x > 0 and u * ((0.0 if metropolis else 1.0) + (1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0))))) >= 1.0:
        return False  # the first terms of the exponential suffice, most of the time
    return u < exp(-x) if metropolis else u * (1.0 + exp(x)) < 1.0


@compiled
def _visits(order, sites, visit, seed, place):
    """The sites of a sweep whose attempts have the places from `place` on, two each."""
    size = len(sites)
    if visit == 2:
        for k in range(size):
            order[k] = sites[int(_uniform(seed, place + 2 * k + 1) * size)]
        return
    order[:] = sites
    if visit == 1:
        for k in range(size - 1, 0, -1):
            j = int(_uniform(seed, place + 2 * k + 1) * (k + 1))
            order[k], order[j] = order[j], order[k]


@compiled
def _record(energy, s, r, row, probes, energies, overlaps, best_energies, best_states):
    if row >= 0:
        energies[row, r] = energy
        for q in range(len(probes)):
            total = 0.0
            for i in range(len(s)):
                total += probes[q, i] * s[i]
            overlaps[row, r, q] = total / len(s)
    if energy < best_energies[r]:
        best_energies[r] = energy
        if best_states.shape[1]:
            best_states[r] = s


@compiled
def _linear(s, field):
    total = 0.0
    for i in range(len(s)):
        total += s[i] * field[i]
    return total


def _shared(schedule: Any, records: Any) -> tuple[Any, ...]:
    """The arguments that all kernels end with."""
    return (
        schedule.betas,
        schedule.seeds,
        schedule.start,
        schedule.sites,
        VISITS[schedule.visit],
        schedule.metropolis,
        records.rows,
        records.probes,
        records.energies,
        records.overlaps,
        records.flips,
        records.still,
        records.best_energies,
        records.best_states,
    )


# patterns of signs


def table_sweeps(spins, counts, tables, schedule, records):
    dtype = tables.rise.dtype
    work = len(schedule.betas) * len(schedule.sites) * (counts.shape[1] + 16) // 8
    run_blocks(
        _table_chains,
        len(spins),
        work,
        spins,
        counts,
        tables.sites,
        tables.weights.astype(dtype),
        tables.weights,
        tables.level,
        tables.rise,
        _padded(tables.polynomials, dtype),
        tables.field,
        tables.relative,
        32 * float(np.finfo(dtype).eps),
        *_shared(schedule, records),
    )


def _padded(polynomials: Any, dtype: Any) -> Any:
    """Polynomials of degree 5; none where there are none."""
    degree = polynomials.shape[1]
    return np.pad(polynomials, ((0, 0), (0, DEGREES - degree if degree else 0))).astype(dtype)


@compiled
def _table_chains(
    first, last, block, spins, counts, rows, weights, exact, level, rise, polynomials, field, relative, tie,
    betas, seeds, start, sites, visit, metropolis,
    places, probes, energies, overlaps, flips, still, best_energies, best_states,
):  # fmt: skip
    size, K = len(sites), rows.shape[1]
    order, wB, costs = np.empty_like(sites), np.empty(K, rise.dtype), np.empty(AHEAD)
    for r in range(first, last):
        s, k = spins[r], counts[r]
        S_A = _flip(k, rows[0], 0, weights, rise, polynomials, relative, wB)  # of nothing yet
        for t in range(len(betas)):
            if still[r] < 0:
                beta, seed, place = betas[t, r], seeds[r], 2 * (start + t) * size + 1
                _visits(order, sites, visit, seed, place)
                total, flipped, run, at = 0.0, 0, AHEAD, 0
                if beta == np.inf:
                    total = _size(k, weights, rise, relative)
                while at < size:
                    ahead = AHEAD if run >= AHEAD and at + AHEAD <= size else 1
                    if ahead == AHEAD:
                        _dots(rows, order, at, wB, costs)
                    else:
                        costs[0] = _dot(rows, order[at], wB)
                    for n in range(ahead):
                        i = order[at]
                        change = S_A + s[i] * (costs[n] + 2 * field[i])
                        at += 1
                        run += 1
                        if _accepted(
                            change, total + 2 * abs(field[i]), beta, seed, place + 2 * (at - 1), tie, metropolis
                        ):
                            S_A = _flip(k, rows[i], s[i], weights, rise, polynomials, relative, wB)
                            s[i] = -s[i]
                            if beta == np.inf:
                                total = _size(k, weights, rise, relative)
                            flipped += 1
                            run = 0
                            break
                flips[r] += flipped
                if beta == np.inf and flipped == 0:
                    rest = True
                    if visit == 2:
                        for i in sites:
                            change = S_A + s[i] * (_dot(rows, i, wB) + 2 * field[i])
                            rest = rest and not change < -tie * (total + 2 * abs(field[i]))
                    if rest:
                        still[r] = start + t + 1
            if places[t] >= 0 or best_states.shape[1]:
                energy = -_linear(s, field)
                for m in range(K):
                    energy -= exact[m] * level[k[m]]
                _record(energy, s, r, places[t], probes, energies, overlaps, best_energies, best_states)


@compiled
def _flip(k, row, step, weights, rise, polynomials, relative, wB):
    """Take `step` times a row off the counts, fill wB, and return S_A."""
    if polynomials.shape[1]:
        return _evaluate(k, row, np.int32(step), weights, polynomials, np.int32(len(rise) - 2), wB)
    return _look_up(k, row, np.int32(step), weights, rise, relative, wB)


@compiled
def _look_up(k, row, step, weights, rise, relative, wB):
    half, total, shift = rise.dtype.type(0.5), rise.dtype.type(0), np.int32(0)
    for m in range(len(k)):
        k[m] -= step * np.int32(row[m])
    if relative:
        shift = np.int32(len(rise) - 2 - k.max())
    for m in range(len(k)):
        up, down = rise[k[m] + shift], rise[k[m] + shift + 1]
        w = half * weights[m]
        wB[m] = w * (up + down)
        total += w * (up - down)
    return np.float64(total)


@compiled
def _evaluate(k, row, step, weights, polynomials, N, wB):
    """:func:`_look_up` by Horner's rule, which unlike reads of a table works on whole vectors."""
    kind = wB.dtype.type
    b0, b1, b2 = polynomials[0, 0], polynomials[0, 1], polynomials[0, 2]
    b3, b4, b5 = polynomials[0, 3], polynomials[0, 4], polynomials[0, 5]
    a0, a1, a2 = polynomials[1, 0], polynomials[1, 1], polynomials[1, 2]
    a3, a4, a5 = polynomials[1, 3], polynomials[1, 4], polynomials[1, 5]
    scale, total = kind(1.0 / N), kind(0)
    for m in range(len(k)):
        agree = k[m] - step * np.int32(row[m])
        k[m] = agree
        x = kind(np.int32(2) * agree - N) * scale
        wB[m] = weights[m] * (b0 + x * (b1 + x * (b2 + x * (b3 + x * (b4 + x * b5)))))
        total += weights[m] * (a0 + x * (a1 + x * (a2 + x * (a3 + x * (a4 + x * a5)))))
    return np.float64(total)


@compiled
def _size(k, weights, rise, relative):
    """The size of the terms that a cost is summed from."""
    shift = len(rise) - 2 - k.max() if relative else 0
    total = 0.0
    for m in range(len(k)):
        up, down = rise[k[m] + shift], rise[k[m] + shift + 1]
        total += weights[m] * (abs(up + down) + abs(up - down)) / 2
    return total


@compiled
def _dot(rows, i, wB):
    kind = wB.dtype.type
    total = kind(0)
    for m in range(len(wB)):
        total += kind(rows[i, m]) * wB[m]
    return np.float64(total)


@compiled
def _dots(rows, order, at, wB, out):
    """Eight products in one pass over wB."""
    kind = wB.dtype.type
    i0, i1, i2, i3 = order[at], order[at + 1], order[at + 2], order[at + 3]
    i4, i5, i6, i7 = order[at + 4], order[at + 5], order[at + 6], order[at + 7]
    t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = kind(0)
    for m in range(len(wB)):
        w = wB[m]
        t0 += kind(rows[i0, m]) * w
        t1 += kind(rows[i1, m]) * w
        t2 += kind(rows[i2, m]) * w
        t3 += kind(rows[i3, m]) * w
        t4 += kind(rows[i4, m]) * w
        t5 += kind(rows[i5, m]) * w
        t6 += kind(rows[i6, m]) * w
        t7 += kind(rows[i7, m]) * w
    out[0], out[1], out[2], out[3] = t0, t1, t2, t3
    out[4], out[5], out[6], out[7] = t4, t5, t6, t7


# patterns of any numbers


def real_sweeps(spins, kept, sums, schedule, records):
    dtype = sums.sites.dtype
    work = len(schedule.betas) * len(schedule.sites) * (kept.shape[2] + 16) * sums.order
    run_blocks(
        _real_chains,
        len(spins),
        work,
        spins,
        kept,
        sums.sites,
        sums.weights,
        sums.field,
        sums.order,
        RULES[sums.interaction],
        32 * float(np.finfo(dtype).eps),
        *_shared(schedule, records),
    )


@compiled
def _real_chains(
    first, last, block, spins, kept, rows, weights, field, P, rule, tie,
    betas, seeds, start, sites, visit, metropolis,
    places, probes, energies, overlaps, flips, still, best_energies, best_states,
):  # fmt: skip
    size, N, K = len(sites), spins.shape[1], rows.shape[1]
    order, cubic = np.empty_like(sites), np.empty((3, K if P == 3 and rule == 3 else 0), rows.dtype)
    terms, buffer = np.empty(K), np.empty((3, CHUNK))
    for r in range(first, last):
        s, e = spins[r], kept[r]
        for t in range(len(betas)):
            if still[r] < 0:
                beta, seed, place = betas[t, r], seeds[r], 2 * (start + t) * size + 1
                if (start + t) % REFRESH == 0:
                    _real_refresh(e, s, rows, rule)
                if t == 0 or (start + t) % REFRESH == 0:
                    _cubic(e, weights, cubic)
                _visits(order, sites, visit, seed, place)
                flipped = 0
                for n in range(size):
                    i = order[n]
                    bias = 2 * field[i] * s[i]
                    if cubic.shape[1] and beta != np.inf:
                        change, total = _cubic_cost(rows, i, s[i], cubic, N), 0.0
                    else:
                        change, total = _real_cost(rows, i, s[i], e, weights, N, P, rule, terms, buffer)
                    if _accepted(change + bias, total + abs(bias), beta, seed, place + 2 * n, tie, metropolis):
                        _real_flip(e, rows, i, s[i], N, P, rule)
                        s[i] = -s[i]
                        _cubic(e, weights, cubic)
                        flipped += 1
                flips[r] += flipped
                if beta == np.inf and flipped == 0:
                    rest = True
                    if visit == 2:
                        for i in sites:
                            bias = 2 * field[i] * s[i]
                            change, total = _real_cost(rows, i, s[i], e, weights, N, P, rule, terms, buffer)
                            rest = rest and not change + bias < -tie * (total + abs(bias))
                    if rest:
                        still[r] = start + t + 1
            if places[t] >= 0 or best_states.shape[1]:
                energy = -_real_value(e, weights, N, P, rule) - _linear(s, field)
                _record(energy, s, r, places[t], probes, energies, overlaps, best_energies, best_states)


@compiled
def _real_refresh(e, s, rows, rule):
    """Symmetric sums by adding one site after another, or overlaps."""
    N, K = rows.shape
    e[:] = 0.0
    for i in range(N):
        scaled = np.float64(s[i]) / N
        if rule == 3:
            for k in range(len(e) - 1, 0, -1):
                factor = (k + 1) * scaled
                for m in range(K):
                    e[k, m] += factor * np.float64(rows[i, m]) * e[k - 1, m]
        for m in range(K):
            e[0, m] += scaled * np.float64(rows[i, m])


@compiled
def _cubic(e, weights, cubic):
    """What a cost at P = 3 is a sum of, in the precision of the patterns: ``w e_2, w e_1, w``."""
    kind = cubic.dtype.type
    for m in range(cubic.shape[1]):
        cubic[0, m] = kind(weights[m] * e[1, m])
        cubic[1, m] = kind(weights[m] * e[0, m])
        cubic[2, m] = kind(weights[m])


@compiled
def _cubic_cost(rows, i, sign, cubic, N):
    """``3 sum_mu w v (e_2 - (2 / N) v (e_1 - v / N))`` with ``v = s_i p_i``."""
    kind = cubic.dtype.type
    s, two, one, total = kind(sign), kind(2.0 / N), kind(1.0 / N), kind(0)
    for m in range(cubic.shape[1]):
        v = s * rows[i, m]
        total += v * (cubic[0, m] - two * v * (cubic[1, m] - one * v * cubic[2, m]))
    return 3 * np.float64(total)


@compiled
def _real_cost(rows, i, sign, e, weights, N, P, rule, terms, buffer):
    """The change of the energy but for the field, and the size of what it is summed from."""
    K, s = rows.shape[1], np.float64(sign)
    if rule == 2:
        _exponential_terms(rows, i, s, e, N, terms)
    else:
        for low in range(0, K, CHUNK):
            count = min(CHUNK, K - low)
            _polynomial_terms(rows, i, s, e, N, P, rule, low, count, terms, buffer)
    change, size = 0.0, 0.0
    for m in range(K):
        term = weights[m] * terms[m]
        change += term
        size += abs(term)
    return change, size


@compiled
def _exponential_terms(rows, i, s, e, N, terms):
    top = e[0].max()
    for m in range(len(terms)):
        x = N * (e[0, m] - top)
        terms[m] = exp(x) - exp(min(x - 2 * s * np.float64(rows[i, m]), 700.0))


@compiled
def _polynomial_terms(rows, i, s, e, N, P, rule, low, count, terms, buffer):
    v, a, b, out = buffer[0], buffer[1], buffer[2], terms[low : low + count]
    for m in range(count):
        v[m] = s * np.float64(rows[i, low + m])
        out[m] = 1.0
    if rule == 3:  # the symmetric sum of the other sites
        for k in range(1, P):
            factor = np.float64(k) / N
            for m in range(count):
                out[m] = e[k - 1, low + m] - factor * v[m] * out[m]
        for m in range(count):
            out[m] *= P * v[m]
        return
    scale = 2.0 / N
    for m in range(count):
        a[m] = e[0, low + m]
    if rule == 1:  # a flip from and to what counts
        for m in range(count):
            b[m] = max(a[m] - scale * v[m], 0.0)
            a[m] = max(a[m], 0.0)
            v[m] = (a[m] - b[m]) / scale
    power = b
    for m in range(count):
        power[m] = 1.0
    for _ in range(P - 1):  # (a^P - b^P) / (a - b)
        for m in range(count):
            power[m] *= a[m] - scale * v[m]
            out[m] = out[m] * a[m] + power[m]
    for m in range(count):
        out[m] *= v[m]


@compiled
def _real_flip(e, rows, i, sign, N, P, rule):
    s = np.float64(sign)
    if rule != 3:
        for m in range(rows.shape[1]):
            e[0, m] -= 2 * s * np.float64(rows[i, m]) / N
        return
    for m in range(rows.shape[1]):
        v, rest = s * np.float64(rows[i, m]) / N, 1.0
        for k in range(1, P + 1):
            part = k * v * rest
            rest = e[k - 1, m] - part
            e[k - 1, m] = rest - part


@compiled
def _real_value(e, weights, N, P, rule):
    """``sum_mu w_mu F_mu``."""
    total = 0.0
    for m in range(e.shape[1]):
        x = e[len(e) - 1, m]
        if rule == 2:
            value = exp(min(N * x - N, 700.0))
        elif rule == 3:
            value = 0.5 * N * x
        else:
            x = max(x, 0.0) if rule == 1 else x
            value = 0.5 * N
            for _ in range(P):
                value *= x
        total += weights[m] * value
    return total


# couplings


def coupling_sweeps(spins, fields, couplings, schedule, records):
    dtype = couplings.J.dtype
    run_blocks(
        _coupling_chains,
        len(spins),
        len(schedule.betas) * len(schedule.sites) * 16,
        spins,
        fields,
        couplings.J,
        couplings.field,
        couplings.offset,
        32 * float(np.finfo(dtype).eps),
        *_shared(schedule, records),
    )


@compiled
def _coupling_chains(
    first, last, block, spins, fields, J, field, offset, tie,
    betas, seeds, start, sites, visit, metropolis,
    places, probes, energies, overlaps, flips, still, best_energies, best_states,
):  # fmt: skip
    size = len(sites)
    order, total = np.empty_like(sites), np.zeros(len(J))
    cold = False
    for r in range(first, last):
        for t in range(len(betas)):
            cold = cold or betas[t, r] == np.inf
    if cold:
        for i in range(len(J)):
            total[i] = 2 * (np.abs(J[i]).sum() + abs(field[i]))
    for r in range(first, last):
        s, h = spins[r], fields[r]
        for t in range(len(betas)):
            if still[r] < 0:
                beta, seed, place = betas[t, r], seeds[r], 2 * (start + t) * size + 1
                if (start + t) % REFRESH == 0:
                    _coupling_refresh(h, J, s, field)
                if visit:
                    _visits(order, sites, visit, seed, place)
                visited, flipped = (order if visit else sites), 0
                for n in range(size):
                    i = visited[n]
                    change = 2.0 * np.float64(h[i]) * np.float64(s[i])
                    if _accepted(change, total[i], beta, seed, place + 2 * n, tie, metropolis):
                        step = J.dtype.type(2 * s[i])
                        for j in range(len(h)):
                            h[j] -= step * J[i, j]
                        s[i] = -s[i]
                        flipped += 1
                flips[r] += flipped
                if beta == np.inf and flipped == 0:
                    rest = True
                    if visit == 2:
                        for i in sites:
                            rest = rest and not 2.0 * np.float64(h[i]) * s[i] < -tie * total[i]
                    if rest:
                        still[r] = start + t + 1
            if places[t] >= 0 or best_states.shape[1]:
                energy = -offset
                for i in range(len(s)):
                    energy -= 0.5 * s[i] * (np.float64(h[i]) + field[i])
                _record(energy, s, r, places[t], probes, energies, overlaps, best_energies, best_states)


@compiled
def _coupling_refresh(h, J, s, field):
    for i in range(len(h)):
        total = field[i]
        for j in range(len(s)):
            total += np.float64(J[i, j]) * s[j]
        h[i] = J.dtype.type(total)
