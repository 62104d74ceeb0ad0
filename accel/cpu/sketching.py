"""Numba twins of the sketching loops: one read of A by tiles of columns, hashes computed where they are used.

A task is a tile of columns of a group of rows; it sums into memory of its own, which is added up in one order whatever
the number of threads. A tile of a transformed block, and of the sums, is to stay in the second-level cache.

Of a Hadamard transform, the first three stages are taken as the rows are loaded and signed, and the last ones only for
the rows that are sampled. The innermost loops are written as vectors; a row of a tile is padded to whole vectors, and
what is read into the padding (what follows in A) never leaves it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from numcore.accel.cpu._math import word_at
from numcore.accel.cpu._threads import GRAIN, run_blocks
from numcore.accel.cpu.linalg import VECTOR, _transform

__all__ = ["hadamard_sketch", "residual_rows", "scatter_csr", "scatter_rows"]

TILE = 2**21
"""Bytes of a tile of a block at most."""

GROUP = 2**16
"""Rows that are summed before their sum is added to the rest."""

SPREAD = 2**22
"""Bytes of a tile of sums that rows are thrown into: as soon as the third-level cache has them, long rows pay more."""

SUMS = 2**24
"""Bytes of sums that groups may hold together, about."""

RUN = 1024
"""Rows whose gradient is summed before it is added to the rest."""

FUSED = ("contract",)
ONE, HALF = np.uint64(1), np.uint64(32)

compiled = njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})


def _roots(roots: Any) -> Any:
    return np.empty(0) if roots is None else roots


def _widths(d: int, rows: int, itemsize: int, size: int) -> tuple[int, int]:
    """How many tiles of columns, and how wide: with `rows` rows of `itemsize` bytes, one fits `size`."""
    lanes = VECTOR // itemsize
    most = max(lanes, size // (rows * itemsize) // lanes * lanes)
    tiles = -(-d // most)
    return tiles, -(-d // (tiles * lanes)) * lanes


def _groups(n: int, m: int, d: int) -> int:
    """How many groups of rows are summed apart: there is work for a few threads, and little in adding them up."""
    return max(1, min(n // max(1 << 14, 32 * m), 8, SUMS // (8 * m * d)))


def _add_up(sums: Any, out: Any) -> None:
    if len(sums) > 1:  # a single group has been summed in place
        for part in sums:
            out += part


class _Vectors:
    """What builds vector instructions on the memory of arrays, within an intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args

    def place(self, array: int, *terms: Any) -> Any:
        """The address of an entry of an array argument, at the sum of `terms` in entries."""
        at = terms[0]
        for term in terms[1:]:
            at = self.builder.add(at, term)
        kind = self.signature.args[array]
        return self.builder.gep(self.context.make_array(kind)(self.context, self.builder, self.args[array]).data, [at])

    def integer(self, k: int) -> Any:
        return self.context.cast(self.builder, self.args[k], self.signature.args[k], types.intp)

    def load(self, place: Any, dtype: Any, lanes: int, wide: Any) -> Any:
        """`lanes` numbers, converted to `wide`."""
        kind = ir.VectorType(self.context.get_value_type(dtype), lanes)
        found = self.builder.load(self.builder.bitcast(place, kind.as_pointer()), align=dtype.bitwidth // 8)
        if dtype == wide:
            return found
        return self.builder.fpext(found, ir.VectorType(self.context.get_value_type(wide), lanes))

    def store(self, value: Any, place: Any, dtype: Any) -> None:
        self.builder.store(value, self.builder.bitcast(place, value.type.as_pointer()), align=dtype.bitwidth // 8)

    def spread(self, scalar: Any, lanes: int) -> Any:
        kind = ir.VectorType(scalar.type, lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
        return self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    def prefetch(self, place: Any) -> None:
        """Ask for a line of memory, to be read and kept."""
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        ask = self.builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        )
        self.builder.call(ask, [self.builder.bitcast(place, byte), flag(0), flag(3), flag(1)])

    def eight(self, first: Any, apart: Any) -> list[Any]:
        """The places ``first + k apart``."""
        return [self.builder.add(first, self.builder.mul(apart, ir.Constant(apart.type, k))) for k in range(8)]

    def steps(self, width: Any, lanes: int) -> Any:
        """A loop over the vectors of a line."""
        start, step = ir.Constant(width.type, 0), ir.Constant(width.type, lanes)
        return cgutils.for_range_slice(self.builder, start, width, step, width.type)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        # contracted by the compiler where the machine can
        return self.builder.fadd(self.builder.fmul(a, b, flags=FUSED), c, flags=FUSED)


def _is_flat(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.layout == "C" and isinstance(kind.dtype, types.Float)


@intrinsic
def _load_eight(typingctx, x, i, step, A, j, apart, factors, k):
    """Eight rows of A from the flat place j, `apart` entries apart, times factors[k:k+8], transformed, into x."""
    if not (_is_flat(x) and _is_flat(A) and _is_flat(factors) and x.dtype == A.dtype == factors.dtype):
        return None
    lanes = VECTOR // (x.dtype.bitwidth // 8)

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature, args)
        to, step, of, apart, first = (vectors.integer(a) for a in (1, 2, 4, 5, 7))
        v = []
        for row in range(8):
            n = ir.Constant(of.type, row)
            factor = builder.load(vectors.place(6, first, n))
            line = vectors.load(vectors.place(3, of, builder.mul(n, apart)), x.dtype, lanes, x.dtype)
            v.append(builder.fmul(line, vectors.spread(factor, lanes)))
        for half in (1, 2, 4):
            for a in (a for a in range(8) if not a & half):
                v[a], v[a + half] = builder.fadd(v[a], v[a + half]), builder.fsub(v[a], v[a + half])
        for row in range(8):
            vectors.store(v[row], vectors.place(0, to, builder.mul(ir.Constant(to.type, row), step)), x.dtype)
        return context.get_dummy_value()

    return types.void(x, i, step, A, j, apart, factors, k), codegen


@intrinsic
def _copy(typingctx, to, i, of, j, ahead):
    """A vector of `of`, converted to float64; what lies `ahead` of it is asked for meanwhile."""
    if not (_is_flat(to) and to.dtype == types.float64 and _is_flat(of)):
        return None

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature, args)
        j, ahead = vectors.integer(3), vectors.integer(4)
        found = vectors.load(vectors.place(2, j), of.dtype, VECTOR // 8, to.dtype)
        vectors.store(found, vectors.place(0, vectors.integer(1)), to.dtype)
        vectors.prefetch(vectors.place(2, j, ahead))
        return context.get_dummy_value()

    return types.void(to, i, of, j, ahead), codegen


def _gather(radix: int) -> Any:
    """A function that adds to a vector of `to` one row of the transform of `radix` vectors of x, ``j + step k``.

    The row's signs are ``(-1)^popcount(k & row)``; the sum is multiplied with `factor`.
    """

    @intrinsic
    def gather(typingctx: Any, to: Any, i: Any, factor: Any, x: Any, j: Any, step: Any, row: Any) -> Any:
        if not (_is_flat(to) and to.dtype == types.float64 and _is_flat(x) and factor == types.float64):
            return None
        lanes = VECTOR // 8

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors = _Vectors(context, builder, signature, args)
            at, of, step, row = (vectors.integer(a) for a in (1, 4, 5, 6))
            v = []
            for k in range(radix):
                place = vectors.place(3, of, builder.mul(ir.Constant(of.type, k), step))
                v.append(vectors.load(place, x.dtype, lanes, x.dtype))
            kind = context.get_value_type(x.dtype)
            half = 1
            while len(v) > 1:
                bit = builder.and_(row, ir.Constant(row.type, half))
                minus = builder.icmp_signed("!=", bit, ir.Constant(row.type, 0))
                sign = vectors.spread(builder.select(minus, ir.Constant(kind, -1.0), ir.Constant(kind, 1.0)), lanes)
                v = [vectors.fma(sign, v[a + 1], v[a]) for a in range(0, len(v), 2)]
                half *= 2
            total = v[0]
            if x.dtype != to.dtype:
                total = builder.fpext(total, ir.VectorType(ir.DoubleType(), lanes))
            place = vectors.place(0, at)
            old = vectors.load(place, to.dtype, lanes, to.dtype)
            vectors.store(vectors.fma(vectors.spread(args[2], lanes), total, old), place, to.dtype)
            return context.get_dummy_value()

        return types.void(to, i, factor, x, j, step, row), codegen

    return gather


_add_one, _add_two, _add_four, _add_eight = _gather(1), _gather(2), _gather(4), _gather(8)


def hadamard_sketch(A, roots, start, seed, B, rows, flips, out):
    if not A.size:
        return
    m, d = out.shape
    tiles, width = _widths(d, B, A.itemsize, TILE)
    groups = _groups(len(A), m, d)
    sums = out[None] if groups == 1 else np.zeros((groups, m, d))
    work = len(A) * d // (groups * tiles)
    table = (start, np.uint64(seed), B, rows, flips)
    run_blocks(_hadamard_tasks, groups * tiles, work, A, _roots(roots), *table, tiles, width, sums)
    _add_up(sums, out)


@compiled
def _hadamard_tasks(begin, end, block, A, roots, start, seed, B, rows, flips, tiles, width, sums):
    n, d = A.shape
    m, groups, n_blocks = len(rows), len(sums), len(flips)
    lanes = VECTOR // A.itemsize
    stride = width + lanes * (width & (width - 1) == 0)  # rows a power of two apart would contend for the cache
    buffer, part = _aligned(np.zeros(B * stride + lanes, A.dtype)), _aligned(np.zeros(m * stride + lanes))
    factors = np.zeros(B, A.dtype)
    # the stages from `kept` on are taken for the sampled rows only
    kept = B
    while kept > 8 and B // kept < 8 and (2 * B // kept - 1) * m < 2 * B and _stages(kept // 8) % 3:
        kept //= 2
    for task in range(begin, end):
        group, left = task // tiles, task % tiles * width
        columns = min(width, d - left)
        held = 0
        part[:] = 0
        for q in range(n_blocks * group // groups, n_blocks * (group + 1) // groups):
            first = (start // B + q) * B - start
            _signs(factors, first, start, seed, roots, n)
            if B >= 8 and first >= 0 and (first + B - 1) * d + left + width <= n * d:
                for i in range(0, B, 8):
                    for j in range(0, width, lanes):
                        _load_eight(buffer, i * stride + j, stride, A, (first + i) * d + left + j, d, factors, i)
                done = 8
            else:
                _load_rows(buffer, stride, A, first, left, columns, factors)
                done = 1
            _transform(buffer, B, stride, lanes, done, kept)
            _sample(part, buffer, stride, width, kept, B // kept, rows, flips[q])
            held += B
            if held >= GROUP:
                _flush(part, stride, sums[group], left, columns)
                held = 0
        _flush(part, stride, sums[group], left, columns)


@register_jitable
def _aligned(x):
    """X from its first whole vector on: elsewhere each vector would lie across two lines of the cache."""
    lanes = VECTOR // x.itemsize
    return x[(lanes - x.ctypes.data // x.itemsize % lanes) % lanes :]


@register_jitable
def _stages(rows):
    """log2"""
    count = 0
    while rows > 1:
        rows //= 2
        count += 1
    return count


@register_jitable
def _signs(factors, first, start, seed, roots, n):
    """The factors of the rows of a block, which begins at row `first` of A."""
    one = factors.dtype.type(1)
    for i in range(len(factors)):
        minus = word_at(seed, np.uint64(start + first + i + 1)) & ONE
        factors[i] = -one if minus else one
    if len(roots):
        for i in range(max(0, -first), min(len(factors), n - first)):
            factors[i] *= factors.dtype.type(roots[first + i])


@register_jitable
def _load_rows(buffer, stride, A, first, left, columns, factors):
    """As many rows of the block as A has, zeros for the others."""
    buffer[:] = 0
    for i in range(max(0, -first), min(len(factors), len(A) - first)):
        for j in range(columns):
            buffer[i * stride + j] = factors[i] * A[first + i, left + j]


@register_jitable
def _sample(part, buffer, stride, width, kept, radix, rows, flips):
    """Add the sampled rows, signed; what stages are left join `radix` rows that are `kept` apart."""
    step = kept * stride
    for k in range(len(rows)):
        to, of, row, flip = k * stride, rows[k] % kept * stride, rows[k] // kept, float(flips[k])
        for j in range(0, width, VECTOR // 8):
            if radix == 1:
                _add_one(part, to + j, flip, buffer, of + j, step, row)
            elif radix == 2:
                _add_two(part, to + j, flip, buffer, of + j, step, row)
            elif radix == 4:
                _add_four(part, to + j, flip, buffer, of + j, step, row)
            else:
                _add_eight(part, to + j, flip, buffer, of + j, step, row)


@register_jitable
def _flush(part, stride, sums, left, columns):
    for k in range(len(sums)):
        for j in range(columns):
            sums[k, left + j] += part[k * stride + j]
    part[:] = 0


def scatter_rows(A, roots, start, seed, s, width, out):
    if not A.size:
        return
    m, d = out.shape
    groups = _groups(len(A), m, d)
    if s == 1:
        _throw_rows(A, roots, start, np.uint64(seed), groups, out)
        return
    tiles, columns = _widths(d, m, 8, SPREAD)
    sums = out[None] if groups == 1 else np.zeros((groups, m, d))
    work = len(A) * d * s // (groups * tiles)
    run_blocks(
        _scatter_tasks, groups * tiles, work, A, _roots(roots), start, np.uint64(seed), s, width, tiles, columns, sums
    )
    _add_up(sums, out)


def _throw_rows(A, roots, start, seed, groups, out):
    """One target a row."""
    m, d = out.shape
    for low in range(0, len(A), groups * GROUP):
        rows = slice(low, min(low + groups * GROUP, len(A)))
        # a sum of so few rows may be made in place
        sums = out[None] if groups == 1 and len(A) <= GROUP else np.zeros((groups, m, d))
        held = None if roots is None else roots[rows]
        work = (rows.stop - low) * d // groups
        run_blocks(_throw_tasks, groups, work, A[rows], held, start + low, seed, sums)
        if groups > 1 or len(A) > GROUP:
            out += sums.sum(axis=0)


@compiled
def _scatter_tasks(begin, end, block, A, roots, start, seed, s, height, tiles, width, sums):
    n, d = A.shape
    groups, m = sums.shape[0], sums.shape[1]
    lanes = VECTOR // 8
    line = _aligned(np.zeros(width + lanes))
    part = line[:0]
    for task in range(begin, end):
        group, left = task // tiles, task % tiles * width
        columns = min(width, d - left)
        first, last = n * group // groups, n * (group + 1) // groups
        # memory of its own is worth its while only if rows are many
        direct = last - first <= GROUP and (last - first) * s < 64 * m
        if not direct and len(part) < m * width:
            part = _aligned(np.zeros(m * width + lanes))
        for row in range(first, last):
            root = roots[row] if len(roots) else 1.0
            place = np.uint64(start + row) * np.uint64(s)
            if row * d + left + width <= n * d:
                for j in range(0, width, lanes):
                    _copy(line, j, A, row * d + left + j, 4 * d)
            else:
                for j in range(columns):
                    line[j] = A[row, left + j]
            for k in range(s):
                word = word_at(seed, place + np.uint64(k + 1))
                at = k * height + np.int64(((word >> HALF) * np.uint64(height)) >> HALF)
                factor = -root if word & ONE else root
                if direct:
                    to = (group * m + at) * d + left
                    whole = columns // lanes * lanes
                    for j in range(0, whole, lanes):
                        _add_one(sums, to + j, factor, line, j, 0, 0)
                    for j in range(whole, columns):
                        sums[group, at, left + j] += factor * line[j]
                else:
                    for j in range(0, width, lanes):
                        _add_one(part, at * width + j, factor, line, j, 0, 0)
            if not direct and (row + 1) % GROUP == 0:
                _flush(part, width, sums[group], left, columns)
        if not direct:
            _flush(part, width, sums[group], left, columns)


@intrinsic
def _add_row(typingctx, to, i, width, factor, A, j, later):
    """Add `width` entries of A from j on, times factor, to those of `to` from i on; ask for those from `later` on."""
    if not (_is_flat(to) and to.dtype == factor == types.float64 and _is_flat(A)):
        return None
    lanes = VECTOR // 8

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature, args)
        i, width, j, later = (vectors.integer(a) for a in (1, 2, 5, 6))
        spread = vectors.spread(args[3], lanes)
        with vectors.steps(width, lanes) as (k, _):
            vectors.prefetch(vectors.place(0, later, k))
            row, place = vectors.load(vectors.place(4, j, k), A.dtype, lanes, types.float64), vectors.place(0, i, k)
            vectors.store(vectors.fma(row, spread, vectors.load(place, to.dtype, lanes, to.dtype)), place, to.dtype)
        return context.get_dummy_value()

    return types.void(to, i, width, factor, A, j, later), codegen


@compiled
def _throw_tasks(begin, end, block, A, roots, start, seed, sums):
    """One target a row: it is known a row ahead, and asked for meanwhile, so that long rows need no tiles."""
    n, d = A.shape
    groups, m = sums.shape[0], sums.shape[1]
    whole = d // (VECTOR // 8) * (VECTOR // 8)
    for group in range(begin, end):
        first, last = n * group // groups, n * (group + 1) // groups
        after = word_at(seed, np.uint64(start + first + 1))
        for row in range(first, last):
            word, after = after, word_at(seed, np.uint64(start + row + 2))
            at = group * m + np.int64(((word >> HALF) * np.uint64(m)) >> HALF)
            later = group * m + np.int64(((after >> HALF) * np.uint64(m)) >> HALF)
            # a branch on None is compiled away
            factor = 1.0 if roots is None else roots[row]
            if word & ONE:
                factor = -factor
            _add_row(sums, at * d, whole, factor, A, row * d, later * d)
            for j in range(whole, d):
                sums[group, at - group * m, j] += factor * A[row, j]


def scatter_csr(data, indices, pointers, roots, start, seed, s, width, out):
    m, d = out.shape
    n = len(pointers) - 1
    groups = _groups(n, m, d)
    sums = out[None] if groups == 1 else np.zeros((groups, m, d))
    table = (start, np.uint64(seed), s, width)
    run_blocks(_csr_tasks, groups, len(data) * s // groups, data, indices, pointers, _roots(roots), *table, sums)
    _add_up(sums, out)


@compiled
def _csr_tasks(begin, end, block, data, indices, pointers, roots, start, seed, s, height, sums):
    n, groups = len(pointers) - 1, sums.shape[0]
    for group in range(begin, end):
        first, last = n * group // groups, n * (group + 1) // groups
        if last - first <= GROUP:
            _scatter_csr(sums[group], data, indices, pointers, roots, start, seed, s, height, first, last)
            continue
        for low in range(first, last, GROUP):
            part = np.zeros(sums.shape[1:])
            high = min(low + GROUP, last)
            _scatter_csr(part, data, indices, pointers, roots, start, seed, s, height, low, high)
            sums[group] += part


@register_jitable
def _scatter_csr(part, data, indices, pointers, roots, start, seed, s, height, first, last):
    for row in range(first, last):
        root = roots[row] if len(roots) else 1.0
        place = np.uint64(start + row) * np.uint64(s)
        for k in range(s):
            word = word_at(seed, place + np.uint64(k + 1))
            at = k * height + np.int64(((word >> HALF) * np.uint64(height)) >> HALF)
            factor = -root if word & ONE else root
            for p in range(pointers[row], pointers[row + 1]):
                part[at, indices[p]] += factor * data[p]


@intrinsic
def _eight_dots(typingctx, to, x, width, A, j, apart):
    """Products of eight rows of A, from the flat place j on, with `width` entries of x; the next rows are asked for."""
    if not (_is_flat(to) and _is_flat(x) and to.dtype == x.dtype == types.float64 and _is_flat(A)):
        return None
    lanes = VECTOR // 8

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature, args)
        width, first, apart = (vectors.integer(a) for a in (2, 4, 5))
        kind = ir.VectorType(ir.DoubleType(), lanes)
        sums = [cgutils.alloca_once(builder, kind) for _ in range(8)]
        for total in sums:
            builder.store(ir.Constant(kind, None), total)
        lines, ahead = vectors.eight(first, apart), builder.mul(apart, ir.Constant(apart.type, 8))
        with vectors.steps(width, lanes) as (k, _):
            factor = vectors.load(vectors.place(1, k), x.dtype, lanes, types.float64)
            for line, total in zip(lines, sums, strict=True):
                vectors.prefetch(vectors.place(3, line, k, ahead))
                row = vectors.load(vectors.place(3, line, k), A.dtype, lanes, types.float64)
                builder.store(vectors.fma(row, factor, builder.load(total)), total)
        add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind.element, [kind.element, kind]), f"llvm.vector.reduce.fadd.v{lanes}f64"
        )
        for k, total in enumerate(sums):
            found = builder.call(add, [ir.Constant(kind.element, 0.0), builder.load(total)], fastmath=("reassoc",))
            vectors.store(found, vectors.place(0, ir.Constant(width.type, k)), types.float64)
        return context.get_dummy_value()

    return types.void(to, x, width, A, j, apart), codegen


@intrinsic
def _add_eight_rows(typingctx, to, factors, width, A, j, apart):
    """Add eight rows of A, from the flat place j on, times factors, to `width` entries of `to`."""
    if not (_is_flat(to) and _is_flat(factors) and to.dtype == factors.dtype == types.float64 and _is_flat(A)):
        return None
    lanes = VECTOR // 8

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature, args)
        width, first, apart = (vectors.integer(a) for a in (2, 4, 5))
        lines = vectors.eight(first, apart)
        spread = [vectors.spread(builder.load(vectors.place(1, ir.Constant(width.type, k))), lanes) for k in range(8)]
        with vectors.steps(width, lanes) as (k, _):
            rows = [vectors.load(vectors.place(3, line, k), A.dtype, lanes, types.float64) for line in lines]
            # two chains of sums
            parts = [vectors.load(vectors.place(0, k), to.dtype, lanes, types.float64), None]
            for row in range(8):
                part = parts[row % 2]
                product = builder.fmul(rows[row], spread[row], flags=FUSED)
                parts[row % 2] = product if part is None else builder.fadd(product, part, flags=FUSED)
            vectors.store(builder.fadd(*parts), vectors.place(0, k), types.float64)
        return context.get_dummy_value()

    return types.void(to, factors, width, A, j, apart), codegen


def residual_rows(A, roots, y, x, g, squares):
    n, d = A.shape
    if not A.size:
        return
    # a matter of the problem alone: sums must not depend on the number of threads
    groups = max(1, min(64, n * d // GRAIN))
    sums = np.zeros((groups, d + 2))
    y = np.empty(0) if y is None else np.ascontiguousarray(y, np.float64)
    run_blocks(_residual_tasks, groups, n * d // groups, A, _roots(roots), y, np.ascontiguousarray(x), sums)
    total = sums.sum(axis=0)
    g += total[:d]
    squares += total[d:]


@compiled
def _residual_tasks(begin, end, block, A, roots, y, x, sums):
    n, d = A.shape
    lanes = VECTOR // 8
    width = -(-d // lanes) * lanes
    # what of the next row is read beside a row meets zeros, or is never taken from the padding
    padded, part = _aligned(np.zeros(width + lanes)), _aligned(np.zeros(width + lanes))
    padded[:d] = x
    r = np.zeros(8)
    for group in range(begin, end):
        first, last = n * group // len(sums), n * (group + 1) // len(sums)
        for start in range(first, last, RUN):
            stop = min(start + RUN, last)
            part[:] = 0
            i = start
            while i < stop:
                whole = i + 8 <= stop and (i + 7) * d + width <= n * d
                count = 8 if whole else 1
                if whole:
                    _eight_dots(r, padded, width, A, i * d, d)
                else:
                    r[0] = 0.0
                    for j in range(d):
                        r[0] += A[i, j] * x[j]
                for k in range(count):
                    root = roots[i + k] if len(roots) else 1.0
                    target = root * y[i + k] if len(y) else 0.0
                    left = target - root * r[k]
                    sums[group, d] += left * left
                    sums[group, d + 1] += target * target
                    r[k] = root * left
                if whole:
                    _add_eight_rows(part, r, width, A, i * d, d)
                else:
                    for j in range(d):
                        part[j] += A[i, j] * r[0]
                i += count
            for j in range(d):
                sums[group, j] += part[j]
