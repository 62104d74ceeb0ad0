"""Proximal operators for compiled loops: scalar forms to be inlined, and the twins of the loops of ``numcore.prox``.

The scalar forms are the formulas of ``numcore.prox`` themselves, compiled: ``l1(v, t)``, ``elastic_net(v, t,
l1_ratio)``, ``l0(v, t)``, ``half(v, t)``, ``two_thirds(v, t)``, ``lq(v, t, q)``, ``mcp(v, step, reg, gamma)``,
``scad(v, step, reg, gamma)``, ``log_sum(v, t, eps)``, ``huber(v, t, delta)`` and ``cel0(v, step, reg, norm)``. They
take floats only, return the type of `v`, compute in float64, and melt into the jitted functions that call them. A
sparse result costs one comparison. ``soft1`` is another name of ``l1``. ``penalty_<name>(x, reg, ...)`` is ``reg
phi(x)``.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, register_jitable

from numcore.accel.cpu import _scalars
from numcore.accel.cpu._threads import run_blocks
from numcore.prox import _formulas

__all__ = [
    "cel0",
    "elastic_net",
    "elementwise",
    "half",
    "huber",
    "isotonic_rows",
    "l0",
    "l1",
    "log_sum",
    "lq",
    "mcp",
    "scad",
    "shrink_groups",
    "simplex_rows",
    "soft1",
    "top_k_rows",
    "total_variation_rows",
    "two_thirds",
]

# what a formula gives where it does not apply is thrown away; to look for divisions by 0 would keep loops from vectors
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
compiled = njit(cache=True, **OPTIONS)

FORMULAS = (*_formulas.HELPERS, *(part for formula in _formulas.FORMULAS.values() for part in formula))
for formula in FORMULAS:
    register_jitable(error_model="numpy")(formula)


@intrinsic
def _as_type_of(typingctx: Any, x: Any, like: Any) -> Any:
    """`x` in the floating type of `like`."""
    target = like if isinstance(like, types.Float) else types.float64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[0], x, target)

    return target(x, like), codegen


@register_jitable(error_model="numpy")
def _signed(x, like):
    return -x if (like < 0) & (x > 0) else x


def _operator(name: str, branches: bool) -> Any:
    """The operator `name` on scalars: a branch, then the formula; or none, so that loops of it run as vectors."""
    active, shrunk, _ = _formulas.FORMULAS[name]

    @register_jitable(error_model="numpy")
    def operator(v, *parameters):
        a = np.float64(abs(v))
        kept = active(_scalars, a, *parameters)
        if branches:
            result = shrunk(_scalars, a, *parameters) if kept else 0.0
        else:
            result = _scalars.where(kept, shrunk(_scalars, a, *parameters), 0.0)
        # rounded before it gets a sign, so that no -0.0 is left
        return _signed(_as_type_of(result, v), v)

    return operator


def _scalar(name: str) -> Any:
    """The operator `name` for other compiled loops, and for calls from Python."""
    return njit(**OPTIONS)(_operator(name, branches=True))


def _penalty(name: str) -> Any:
    """``reg phi(x)`` on scalars."""
    penalty = _formulas.FORMULAS[name].penalty

    def value(x, reg, *parameters):
        a = np.float64(abs(x))
        return penalty(_scalars, a, reg, *parameters) if a > 0 else 0.0

    value.__name__ = value.__qualname__ = f"penalty_{name}"
    return njit(**OPTIONS)(value)


l1 = soft1 = _scalar("l1")
elastic_net = _scalar("elastic_net")
l0 = _scalar("l0")
half = _scalar("half")
two_thirds = _scalar("two_thirds")
lq = _scalar("lq")
mcp = _scalar("mcp")
scad = _scalar("scad")
log_sum = _scalar("log_sum")
huber = _scalar("huber")

penalty_l1 = _penalty("l1")
penalty_elastic_net = _penalty("elastic_net")
penalty_l0 = _penalty("l0")
penalty_half = _penalty("half")
penalty_two_thirds = _penalty("two_thirds")
penalty_lq = _penalty("lq")
penalty_mcp = _penalty("mcp")
penalty_scad = _penalty("scad")
penalty_log_sum = _penalty("log_sum")
penalty_huber = _penalty("huber")


@njit(**OPTIONS)
def cel0(v, step, reg, norm):
    square = np.float64(norm) * norm
    return mcp(v, step, norm * np.sqrt(2 * np.float64(reg)), 1 / square if square > 0 else np.inf)


@njit(**OPTIONS)
def penalty_cel0(x, reg, norm):
    square = np.float64(norm) * norm
    return penalty_mcp(x, norm * np.sqrt(2 * np.float64(reg)), 1 / square if square > 0 else np.inf)


def _digest() -> str:
    """What the formulas compute, in eight letters: code in the cache that was made of others is not found by it."""
    codes = [f.__code__ for f in FORMULAS]
    return f"{zlib.crc32(b''.join(code.co_code + repr(code.co_consts).encode() for code in codes)):08x}"


def _entry(name: str, count: int, branches: bool) -> Any:
    """The operator `name` of an entry and three parameters, of which it takes the first `count`."""
    operator = _operator(name, branches)

    @register_jitable(error_model="numpy")
    def entry(x, p, q, r):
        return operator(x, p) if count == 1 else operator(x, p, q) if count == 2 else operator(x, p, q, r)

    # as an attribute of this module it is the same in the next process, to the cache of compiled loops too
    entry.__name__ = entry.__qualname__ = f"_entry_{name}"
    globals()[entry.__name__] = entry
    return entry


def _kernel(entry: Any) -> Any:
    """A loop of `entry` over entries; its parameters are rows of `table`, of one column or recurring."""

    def kernel(start, stop, block, v, table, positive, out):
        period = table.shape[1]
        low = v.dtype.type(0 if positive else -np.inf)
        p, q, r = table[0, 0], table[1, 0], table[2, 0]
        j = start
        while j < stop:
            # slices, whose indices are known not to be negative, run as vectors
            first = j % period
            last = min(period, first + stop - j) if period > 1 else first + stop - j
            source, target = v[j : j + last - first], out[j : j + last - first]
            if period > 1:
                stretch = table[:, first:last]
                for k in range(source.size):
                    x = source[k] if source[k] > low else low
                    target[k] = entry(x, stretch[0, k], stretch[1, k], stretch[2, k])
            else:
                for k in range(source.size):
                    target[k] = entry(source[k] if source[k] > low else low, p, q, r)
            j += source.size

    kernel.__qualname__ = f"_kernel{entry.__name__}_{_digest()}"
    return compiled(kernel)


# how many parameters each takes; those that need a power or a logarithm an entry have a branch around it
_KERNELS = {
    name: _kernel(_entry(name, count, branches=name in ("two_thirds", "lq", "log_sum")))
    for name, count in (
        ("l1", 1),
        ("elastic_net", 2),
        ("l0", 1),
        ("half", 1),
        ("two_thirds", 1),
        ("lq", 2),
        ("mcp", 3),
        ("scad", 3),
        ("log_sum", 2),
        ("huber", 2),
    )
}
WORK = {"half": 4, "two_thirds": 16, "lq": 32, "log_sum": 8}
"""What an entry costs, in those of l1."""


def elementwise(v: Any, name: Any, parameters: Any, positive: Any, out: Any) -> Any:
    if v.size:
        source = np.ascontiguousarray(v).reshape(-1)
        target = out if out.flags.c_contiguous else np.empty(v.shape, v.dtype)
        table = _table(parameters, v.shape)
        run_blocks(_KERNELS[name], v.size, WORK.get(name, 1), source, table, positive, target.reshape(-1))
        if target is not out:
            out[...] = target
    return out


def _table(parameters: Any, shape: Any) -> Any:
    """The parameters as three rows: of one column, of those of the last axis, or of all entries."""
    sizes = [np.shape(p) for p in parameters]
    if all(np.prod(size) == 1 for size in sizes):
        columns: Any = ()
    elif all(np.prod(size[:-1]) == 1 for size in sizes):
        columns = shape[-1:]
    else:
        columns = shape
    table = np.zeros((3, int(np.prod(columns))))
    for row, p in zip(table, parameters, strict=False):
        row[:] = np.broadcast_to(np.reshape(p, np.shape(p)[-len(columns) :] if columns else ()), columns).reshape(-1)
    return table


def simplex_rows(v: Any, radius: Any, out: Any) -> Any:
    target = out if out.flags.c_contiguous else np.empty(v.shape, v.dtype)
    run_blocks(_simplex, len(v), 2 * v.shape[1], np.ascontiguousarray(v), radius, target)
    if target is not out:
        out[...] = target
    return out


@compiled
def _simplex(start, stop, block, v, radius, out):
    kept = np.empty(v.shape[1])
    for i in range(start, stop):
        top = v[i, 0]
        for j in range(v.shape[1]):
            top = max(top, v[i, j])
        theta = _simplex_threshold(v, i, np.float64(top), radius[i], kept)
        for j in range(v.shape[1]):
            x = np.float64(v[i, j]) - top
            out[i, j] = x - theta if x > theta else 0.0


@compiled
def _simplex_threshold(v, i, top, radius, kept):
    """Theta for row i less `top`.

    For any set of n entries, ``(sum - radius) / n`` is a lower bound of theta: entries below the best bound so far are
    passed over, and what is left is filtered until nothing goes. The last bound is the exact theta of its support.
    """
    bound, total, n = -radius, 0.0, 0
    for j in range(v.shape[1]):
        x = np.float64(v[i, j]) - top
        if x > bound:
            kept[n] = x
            n += 1
            total += x
            bound = max(bound, (total - radius) / n)
    while n > 0:
        total, count = 0.0, 0
        for k in range(n):
            x = kept[k]
            if x > bound:
                kept[count] = x
                count += 1
                total += x
        if count > 0:
            bound = (total - radius) / count
        if count == n or count == 0:
            break
        n = count
    return bound


def top_k_rows(v: Any, k: Any, out: Any) -> Any:
    target = out if out.flags.c_contiguous else np.empty(v.shape, v.dtype)
    # the k-th largest magnitudes; Numba's own partition takes ten seconds to compile
    least = np.partition(np.abs(v), -k, axis=1)[:, -k] if k else np.full(len(v), np.inf, v.dtype)
    run_blocks(_top_k, len(v), v.shape[1], np.ascontiguousarray(v), k, least, target)
    if target is not out:
        out[...] = target
    return out


@compiled
def _top_k(start, stop, block, v, k, thresholds, out):
    d = v.shape[1]
    for i in range(start, stop):
        least, above = thresholds[i], 0
        for j in range(d):
            above += abs(v[i, j]) > least
        ties = k - above
        for j in range(d):
            x, a = v[i, j], abs(v[i, j])
            tied = a == least and ties > 0
            ties -= tied
            out[i, j] = x if (a > least or tied) and a > 0 else v.dtype.type(0)


def shrink_groups(x: Any, indices: Any, offsets: Any, thresholds: Any) -> Any:
    run_blocks(_shrink, len(x), 4 * indices.size, x, indices, offsets, thresholds)
    return x


@compiled
def _shrink(start, stop, block, x, indices, offsets, thresholds):
    for i in range(start, stop):
        for g in range(thresholds.size):
            top = 0.0
            for k in range(offsets[g], offsets[g + 1]):
                top = max(top, abs(x[i, indices[k]]))
            scale, total = top if top > 0 else 1.0, 0.0
            for k in range(offsets[g], offsets[g + 1]):
                total += (x[i, indices[k]] / scale) ** 2
            norm = scale * np.sqrt(total)
            factor = 1 - thresholds[g] / norm if norm > thresholds[g] else 0.0
            for k in range(offsets[g], offsets[g + 1]):
                entry = x[i, indices[k]]
                x[i, indices[k]] = factor * entry if factor > 0 and entry != 0 else 0.0


def isotonic_rows(x: Any) -> Any:
    out = np.empty(x.shape)
    run_blocks(_isotonic, len(x), 4 * x.shape[1], np.ascontiguousarray(x), out)
    return out


@compiled
def _isotonic(start, stop, block, x, out):
    """Pool adjacent violators, with the pools on a stack."""
    d = x.shape[1]
    means, counts = np.empty(d), np.empty(d, np.int64)
    for i in range(start, stop):
        n = 0
        for j in range(d):
            mean, count = x[i, j], 1
            while n > 0 and means[n - 1] <= mean:
                n -= 1
                mean = (counts[n] * means[n] + count * mean) / (counts[n] + count)
                count += counts[n]
            means[n], counts[n] = mean, count
            n += 1
        j = 0
        for k in range(n):
            for _ in range(counts[k]):
                out[i, j] = means[k]
                j += 1


def total_variation_rows(x: Any, t: Any) -> Any:
    out = np.empty(x.shape)
    run_blocks(_total_variation, len(x), 8 * x.shape[1], np.ascontiguousarray(x), t, out)
    return out


@compiled
def _total_variation(start, stop, block, x, t, out):
    for i in range(start, stop):
        if t[i] > 0:
            _taut(x[i], t[i], out[i])
        else:
            out[i] = x[i]


@compiled
def _taut(y, t, z):
    last = y.size - 1
    total = 0.0
    for entry in y:
        total += entry
    mean = total / y.size
    reach = total = 0.0
    for entry in y:
        total += entry - mean
        reach = max(reach, abs(total))
    if t >= reach:
        z[:] = mean
        return
    start = low_end = high_end = k = 0
    low, high, up, down = y[0] - t, y[0] + t, t, -t
    while True:
        if k < last and y[k + 1] + up < low - t:
            z[start : low_end + 1] = low
            start = low_end = high_end = k = low_end + 1
            low, high, up, down = y[k], y[k] + 2 * t, t, -t
        elif k < last and y[k + 1] + down > high + t:
            z[start : high_end + 1] = high
            start = low_end = high_end = k = high_end + 1
            low, high, up, down = y[k] - 2 * t, y[k], t, -t
        elif k < last:
            k += 1
            up += y[k] - low
            down += y[k] - high
            if up >= t:
                low += (up - t) / (k - start + 1)
                up, low_end = t, k
            if down <= -t:
                high += (down + t) / (k - start + 1)
                down, high_end = -t, k
        elif up < 0:
            z[start : low_end + 1] = low
            start = low_end = k = low_end + 1
            low, up, down = y[k], t, y[k] + t - high
        elif down > 0:
            z[start : high_end + 1] = high
            start = high_end = k = high_end + 1
            high, up, down = y[k], y[k] - t - low, -t
        else:
            z[start:] = low + up / (k - start + 1)
            return
