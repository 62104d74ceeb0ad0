"""The Walsh-Hadamard transform in cached tiles, and the rotations that update a Cholesky factor.

The transform of n rows is that of n / R blocks of R rows, then that of the blocks: H_n = H_(n/R) x H_R. Each stage
gathers R rows of some columns into a buffer that stays in the cache, takes all its passes there, eight rows at a time
in registers, and writes it back; so memory is read and written once a stage, not once a pass.

The passes are written as vectors: eight rows of one array may overlap for all that the compiler knows, and it would
leave them as scalars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from numcore.accel.cpu._threads import run_blocks

__all__ = ["hadamard_columns", "rotate_rows"]

ROWS = 1024
"""Rows of a tile at most."""

TILE = 2**20
"""Bytes of a tile, about: it is to stay in the second-level cache."""

VECTOR = 64
"""Bytes that are handled at once: 8 entries in float64, 16 in float32."""

compiled = njit(cache=True, nogil=True, forceinline=True, fastmath={"contract", "reassoc", "nsz"})


def hadamard_columns(x: Any) -> None:
    flat = x.reshape(-1)
    n, d = x.shape
    done = 1  # rows a block that is transformed already
    while done < n and x.size:
        rows = _rows_of_stage(n // done)
        _stage(flat, n // (done * rows), rows, done * d)
        done *= rows


def _rows_of_stage(n: int) -> int:
    """Rows of the next stage: the stages that there must be, of much the same size."""
    bits = n.bit_length() - 1
    stages = -(-bits // (ROWS.bit_length() - 1))
    return 1 << -(-bits // stages)


def _stage(flat: Any, n_groups: int, rows: int, columns: int) -> None:
    """Transform `flat`, seen as (n_groups, rows, columns), along its middle axis."""
    lanes = VECTOR // flat.itemsize
    fit = max(lanes, TILE // (flat.itemsize * rows) // lanes * lanes)
    lines = columns == 1  # rows lie side by side then, and whole groups make the columns of a tile
    length = n_groups if lines else columns
    tiles = -(-length // min(fit, length))
    width = -(-length // tiles)
    # not a power of two: rows that far apart would contend for the same places in the cache
    stride = -(-width // lanes) * lanes
    stride += lanes * (stride & (stride - 1) == 0)
    if lines:
        run_blocks(_transform_lines, tiles, rows * width, flat, n_groups, rows, width, stride, lanes)
    else:
        run_blocks(_transform_tiles, n_groups * tiles, rows * width, flat, rows, columns, tiles, width, stride, lanes)


@compiled
def _transform_tiles(start, stop, block, flat, rows, columns, tiles, width, stride, lanes):
    buffer = np.zeros(rows * stride, flat.dtype)
    for k in range(start, stop):
        begin = k % tiles * width
        first = k // tiles * rows * columns + begin
        count = min(width, columns - begin)
        for i in range(rows):
            source, target = first + i * columns, i * stride
            _copy(buffer[target : target + count], flat[source : source + count])
        _transform(buffer, rows, stride, lanes, 1, rows)
        for i in range(rows):
            source, target = i * stride, first + i * columns
            _copy(flat[target : target + count], buffer[source : source + count])


@compiled
def _copy(to, of):
    # indices that are plainly not negative let this run as vectors
    for j in range(len(to)):
        to[j] = of[j]


@compiled
def _transform_lines(start, stop, block, flat, n_groups, rows, width, stride, lanes):
    buffer = np.zeros(rows * stride, flat.dtype)
    for k in range(start, stop):
        first = k * width
        count = min(width, n_groups - first)
        for j in range(count):
            source = (first + j) * rows
            for i in range(rows):
                buffer[i * stride + j] = flat[source + i]
        _transform(buffer, rows, stride, lanes, 1, rows)
        for j in range(count):
            target = (first + j) * rows
            for i in range(rows):
                flat[target + i] = buffer[i * stride + j]


@compiled
def _transform(x, rows, stride, lanes, half, stop):
    """The passes from `half` to `stop` of the transform of the columns of x, rows that lie `stride` apart.

    Radix 8 as long as three passes are left.
    """
    while half < stop:
        radix = min(stop // half, 8)
        for begin in range(0, rows, radix * half):
            for i in range(begin * stride, (begin + half) * stride, lanes):
                if radix == 8:
                    _eight(x, i, half * stride)
                elif radix == 4:
                    _four(x, i, half * stride)
                else:
                    _two(x, i, half * stride)
        half *= radix


def _butterfly(radix: int) -> Any:
    """A function that transforms the `radix` vectors at ``x[i], x[i + step], ...`` in place."""

    @intrinsic
    def butterfly(typingctx: Any, x: Any, i: Any, step: Any) -> Any:
        if not (isinstance(x, types.Array) and x.ndim == 1 and x.layout == "C"):
            return None
        if not (isinstance(i, types.Integer) and isinstance(step, types.Integer)):
            return None
        width = x.dtype.bitwidth // 8

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.VectorType(context.get_value_type(x.dtype), VECTOR // width)
            data = context.make_array(x)(context, builder, args[0]).data
            i, step = (
                context.cast(builder, v, t, types.intp) for v, t in zip(args[1:], signature.args[1:], strict=True)
            )
            places = []
            for _ in range(radix):
                places.append(builder.bitcast(builder.gep(data, [i]), kind.as_pointer()))
                i = builder.add(i, step)
            v = [builder.load(place, align=width) for place in places]
            half = 1
            while half < radix:
                pairs = [(k, k + half) for k in range(radix) if not k & half]
                for k, m in pairs:
                    v[k], v[m] = builder.fadd(v[k], v[m]), builder.fsub(v[k], v[m])
                half *= 2
            for place, value in zip(places, v, strict=True):
                builder.store(value, place, align=width)
            return context.get_dummy_value()

        return types.void(x, i, step), codegen

    return butterfly


_two, _four, _eight = _butterfly(2), _butterfly(4), _butterfly(8)


def rotate_rows(R: Any, x: Any, start: int) -> None:
    _rotate(R, x, start)


@compiled
def _rotate(R, x, start):
    n = R.shape[0]
    for k in range(start, n):
        # in float64, as the reference has it: coefficients rounded to float32 would drift from a rotation
        diagonal, entry = float(R[k, k]), float(x[k])
        r = np.hypot(diagonal, entry)
        if r == 0:
            continue
        c, s = R.dtype.type(diagonal / r), R.dtype.type(entry / r)
        R[k, k] = r
        for j in range(k + 1, n):
            a, b = R[k, j], x[j]
            R[k, j] = c * a + s * b
            x[j] = c * b - s * a
        x[k] = 0
