"""Vectors of eight for loops on short rows, written out: what a compiler makes of such a loop is mostly its remainder.

All arrays are flat, float64 and contiguous. Places are not checked, nor counted from the end when negative.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "DIGEST",
    "LANES",
    "WORD",
    "above",
    "at",
    "descend",
    "largest",
    "lowest_bit",
    "put",
    "subtract",
    "subtract_four",
]

DIGEST = f"{zlib.crc32(Path(__file__).read_bytes()):08x}"
"""For the names of compiled functions that use this file, so that the cache has none that was made with another."""

LANES = 8
"""Entries of a vector."""

WORD = 64
"""Entries that :func:`above` looks at."""

DOUBLE, INDEX, LANE = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(DOUBLE, LANES)
CONTRACT = ("contract",)

f64, i64 = types.float64, types.int64


def _are_flat(*kinds: Any) -> bool:
    return all(isinstance(k, types.Array) and k.layout == "C" and k.ndim == 1 and k.dtype == f64 for k in kinds)


class _Writer:
    """Writes instructions on the arguments of one intrinsic, which go by their position."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.kinds, self.args = context, builder, signature.args, args

    def data(self, n: int) -> Any:
        """Where the entries of an array are."""
        return self.context.make_array(self.kinds[n])(self.context, self.builder, self.args[n]).data

    def place(self, data: Any, i: Any) -> Any:
        """Entry i, as the first of a vector."""
        return self.builder.bitcast(self.builder.gep(data, [i]), VECTOR.as_pointer())

    def load(self, data: Any, i: Any) -> Any:
        return self.builder.load(self.place(data, i), align=8)

    def store(self, v: Any, data: Any, i: Any) -> None:
        self.builder.store(v, self.place(data, i), align=8)

    def spread(self, scalar: Any) -> Any:
        """A scalar in all lanes."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, ir.Constant(LANE, 0))
        return self.builder.shuffle_vector(one, undefined, lanes([0] * LANES))

    def lane(self, v: Any, n: int) -> Any:
        """Lane n of v in all lanes."""
        return self.builder.shuffle_vector(v, ir.Constant(VECTOR, ir.Undefined), lanes([n] * LANES))

    def minus(self, v: Any, x: Any, y: Any) -> Any:
        """``v - x y``"""
        return self.builder.fsub(v, self.builder.fmul(x, y, flags=CONTRACT), flags=CONTRACT)

    def chosen(self, comparison: str, x: Any, y: Any) -> Any:
        """The greater or the less of the two: x where ``x comparison y``, else y."""
        return self.builder.select(self.builder.fcmp_ordered(comparison, x, y), x, y)

    def nothing(self) -> Any:
        return self.context.get_dummy_value()


def lanes(numbers: Any) -> Any:
    return ir.Constant(ir.VectorType(LANE, LANES), list(numbers))


@intrinsic
def at(typingctx, x, i):
    """``x[i]``"""
    if not _are_flat(x):
        return None

    def codegen(context, builder, signature, args):
        w = _Writer(context, builder, signature, args)
        return builder.load(builder.gep(w.data(0), [args[1]]))

    return f64(x, i64), codegen


@intrinsic
def put(typingctx, x, i, value):
    """``x[i] = value``"""
    if not _are_flat(x):
        return None

    def codegen(context, builder, signature, args):
        w = _Writer(context, builder, signature, args)
        builder.store(args[2], builder.gep(w.data(0), [args[1]]))
        return w.nothing()

    return types.void(x, i64, f64), codegen


@intrinsic
def subtract(typingctx, y, i, x, j, a):
    """``y[i:i + 8] -= a x[j:j + 8]``"""
    if not _are_flat(y, x):
        return None

    def codegen(context, builder, signature, args):
        w = _Writer(context, builder, signature, args)
        _, i, _, j, a = args
        w.store(w.minus(w.load(w.data(0), i), w.load(w.data(2), j), w.spread(a)), w.data(0), i)
        return w.nothing()

    return types.void(y, i64, x, i64, f64), codegen


@intrinsic
def subtract_four(typingctx, y, i, x, j0, j1, j2, j3, a0, a1, a2, a3):
    """``y[i:i + 8] -= a0 x[j0:j0 + 8] + ...``, four terms."""
    if not _are_flat(y, x):
        return None

    def codegen(context, builder, signature, args):
        w = _Writer(context, builder, signature, args)
        total = w.load(w.data(0), args[1])
        for j, a in zip(args[3:7], args[7:], strict=True):
            total = w.minus(total, w.load(w.data(2), j), w.spread(a))
        w.store(total, w.data(0), args[1])
        return w.nothing()

    return types.void(y, i64, x, i64, i64, i64, i64, f64, f64, f64, f64), codegen


@intrinsic
def largest(typingctx, x, n):
    """The largest of the first n entries, n a multiple of 8, and 0."""
    if not _are_flat(x):
        return None

    def codegen(context, builder, signature, args):
        w = _Writer(context, builder, signature, args)
        top, zero = cgutils.alloca_once_value(builder, ir.Constant(VECTOR, None)), ir.Constant(DOUBLE, 0.0)
        with cgutils.for_range_slice(builder, ir.Constant(INDEX, 0), args[1], ir.Constant(INDEX, LANES), INDEX) as loop:
            builder.store(w.chosen(">", w.load(w.data(0), loop[0]), builder.load(top)), top)
        found, result = builder.load(top), zero
        for n in range(LANES):
            result = w.chosen(">", builder.extract_element(found, ir.Constant(LANE, n)), result)
        return result

    return f64(x, i64), codegen


@intrinsic
def above(typingctx, x, i, level):
    """Which of ``x[i:i + 64]`` are above the level, a bit each."""
    if not _are_flat(x):
        return None

    def codegen(context, builder, signature, args):
        w = _Writer(context, builder, signature, args)
        word, level = ir.Constant(INDEX, 0), w.spread(args[2])
        for n in range(0, WORD, LANES):
            found = w.load(w.data(0), builder.add(args[1], ir.Constant(INDEX, n)))
            bits = builder.bitcast(builder.fcmp_ordered(">", found, level), ir.IntType(LANES))
            word = builder.or_(word, builder.shl(builder.zext(bits, INDEX), ir.Constant(INDEX, n)))
        return word

    return i64(x, i64, f64), codegen


@intrinsic
def lowest_bit(typingctx, bits):
    """The place of the lowest bit that is set."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return i64(i64), codegen


@intrinsic
def descend(typingctx, H, lw, h, b, low, high, curve, p):
    """Coordinate descent on ``b[p:p + 8]``, one after the other; all of h, what correlates with the residual, follows.

    H has rows of lw entries, a multiple of 8. The minimum for one coefficient is ``(z - clip(z, low, high)) curve``
    with ``z = h + b / curve`` if it is the only one that moves.
    """
    if not _are_flat(H, h, b, low, high, curve):
        return None

    def codegen(context, builder, signature, args):
        w = _Writer(context, builder, signature, args)
        (H, h, b), lw, p = (w.data(n) for n in (0, 2, 3)), args[1], args[7]
        rows = [builder.gep(H, [builder.mul(p, lw)])]
        for _ in range(LANES - 1):
            rows.append(builder.gep(rows[-1], [lw]))
        # The coefficients wait for one another: what counts is the number of steps from one to the next. Hence the
        # scaled z, of which the minimum is z less its clipped value, and the change y less that, with y = z - b.
        curve = w.load(w.data(6), p)
        low, high = (builder.fmul(w.load(w.data(n), p), curve) for n in (4, 5))
        y, old = builder.fmul(w.load(h, p), curve), w.load(b, p)
        z, new, changes = builder.fadd(y, old), old, []
        for n in range(LANES):
            clipped = w.chosen("<", w.chosen(">", z, low), high)
            own = lanes(m + LANES * (m == n) for m in range(LANES))
            new = builder.shuffle_vector(new, builder.fsub(z, clipped), own)
            changes.append(w.lane(builder.fsub(y, clipped), n))
            row = builder.fmul(w.load(rows[n], p), curve)
            y, z = w.minus(y, row, changes[n]), w.minus(z, row, changes[n])
        w.store(new, b, p)
        # the next coefficients first: they are waited for
        eight, place = ir.Constant(INDEX, LANES), cgutils.alloca_once_value(builder, p)
        with cgutils.for_range(builder, builder.sdiv(lw, eight)):
            q = builder.add(builder.load(place), eight)
            q = builder.select(builder.icmp_signed("<", q, lw), q, ir.Constant(INDEX, 0))
            builder.store(q, place)
            total = w.load(h, q)
            for row, change in zip(rows, changes, strict=True):
                total = w.minus(total, w.load(row, q), change)
            w.store(total, h, q)
        return w.nothing()

    return types.void(H, i64, h, b, low, high, curve, i64), codegen
