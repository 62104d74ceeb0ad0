"""Tall matrices read by blocks of rows: arrays, files, sparse matrices, dask arrays, and streams of blocks.

A pass is :meth:`Rows.fold`: one function of a block, whose results are added. No pass copies more than a block, and
wherever a matrix lies, its blocks come with the global numbers of their rows.
"""

from __future__ import annotations

import functools
import math
import mmap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from numcore.arrays import array_namespace, as_count, as_floating, is_numpy, to_numpy
from numcore.dispatch import one_thread

__all__ = [
    "Block",
    "Rows",
    "as_matrix",
    "as_roots",
    "floating",
    "is_dask",
    "is_sparse",
    "joined",
    "refuse_nonfinite",
    "row_pieces",
]

BLOCK_BYTES = 1 << 25
"""Bytes of a block, where it has to be copied or read from a file."""

JOINED_BYTES = 1 << 22
"""Bytes to which the blocks of a stream are joined at most."""

FEW_BYTES = 1 << 20
"""The same where rows are only read."""

Work = Callable[["Block"], tuple[Any, ...]]


def floating(dtype: Any, name: str) -> np.dtype[Any]:
    """The dtype in which rows of `dtype` are handled: float32 for float16, float64 for integers and bool.

    Raises
    ------
    TypeError
        If it is complex, or of no numbers.
    ValueError
        If it is longer than float64.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        raise TypeError(f"{name} must be real; got dtype {dtype}")
    if dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers; got dtype {dtype}")
    if dtype.kind != "f" or dtype.itemsize == 8:
        return np.dtype(np.float64)
    if dtype.itemsize > 8:
        raise ValueError(f"{name} must be at most float64; got dtype {dtype}")
    return np.dtype(np.float32)


def is_dask(A: Any) -> bool:
    """Whether `A` is a dask array, without importing dask."""
    return type(A).__module__.partition(".")[0] == "dask" and hasattr(A, "to_delayed")


def is_sparse(A: Any) -> bool:
    """Whether `A` is one of SciPy's sparse arrays or matrices."""
    return bool(scipy.sparse.issparse(A))


def as_matrix(A: Any, name: str, *, vector: bool = False) -> Any:
    """`A`, checked but for its entries: a NumPy array of any dtype, csr or csc, dask's, or another library's array.

    Parameters
    ----------
    A : array_like, sparse matrix or dask array
    name : str
        The argument's name, for the errors.
    vector : bool
        Whether it may be 1-D.

    Raises
    ------
    TypeError, ValueError
        If it is not 2-D, complex, or nothing that has rows.
    """
    if is_sparse(A):
        floating(A.dtype, name)
        A = A if A.format in ("csr", "csc") else A.tocsr()
    elif is_dask(A):
        floating(A.dtype, name)
        if A.ndim and any(np.isnan(size) for size in A.chunks[0]):
            raise ValueError(f"{name} has chunks of unknown sizes; call its compute_chunk_sizes() first")
    elif array_api_compat.is_array_api_obj(A) and not is_numpy(A):
        A = as_floating(A, name, infinite="unchecked")
    elif isinstance(A, LinearOperator):
        raise TypeError(f"{name} must have rows that can be read; got a {type(A).__name__}")
    else:
        try:
            A = np.asarray(A)
        except ValueError as failure:
            raise ValueError(f"{name} is not an array: {failure}") from None
        floating(A.dtype, name)
    if A.ndim != 2 and not (vector and A.ndim == 1):
        raise ValueError(f"{name} must be {'1-D or ' if vector else ''}2-D; got shape {tuple(A.shape)}")
    return A


def as_roots(sample_weight: Any, n: int) -> np.ndarray[Any, Any] | None:
    """The square roots of checked sample weights, in float64.

    Raises
    ------
    ValueError
        If they are not n, negative, or not finite.
    """
    if sample_weight is None:
        return None
    w = as_floating(to_numpy(sample_weight), "sample_weight", shape=(n,), dtype=np.float64, infinite="unchecked")
    refuse_nonfinite(iter([(0, w)]), "sample_weight")
    negative = int(np.count_nonzero(w < 0))
    if negative:
        raise ValueError(f"sample_weight must not be negative; {negative} of its {n} entries are")
    return np.sqrt(w)


def row_pieces(A: Any, rows: int | None = None) -> Iterator[tuple[int, Any]]:
    """`A` as (first row, rows): arrays of float32 or float64 in C order, or csr.

    Without `rows`, what needs no copy comes as one piece, and all else in pieces of about `BLOCK_BYTES`.

    Parameters
    ----------
    A : array or sparse matrix
        From :func:`as_matrix`; no dask array.
    rows : int, optional
        Rows a piece.
    """
    n = A.shape[0]
    if not is_numpy(A) and not is_sparse(A):
        for start in range(0, n, rows or max(n, 1)):
            yield start, A[start : min(start + (rows or n), n), :]
        return
    dtype = floating(A.dtype, "A")
    if is_sparse(A):
        A = A.tocsr()
        for start in range(0, n, rows or max(n, 1)):
            piece = A if (rows or n) >= n else A[start : start + (rows or n)]
            yield start, piece.astype(dtype, copy=False)
        return
    if rows is None:
        rows = n if _ready(A) else BLOCK_BYTES // max(A.shape[1] * dtype.itemsize, 1)
    rows = max(rows, 1)
    pages, mapped = _pages(A), 0
    for start in range(0, n, rows):
        yield start, np.ascontiguousarray(A[start : start + rows], dtype)
        mapped += rows * A.shape[1] * A.itemsize
        if pages is not None and (mapped >= BLOCK_BYTES or start + rows >= n):
            # else a file that has been read counts as memory of this process until others need it
            pages.madvise(mmap.MADV_DONTNEED)
            mapped = 0


def _ready(A: np.ndarray[Any, Any]) -> bool:
    """Whether it can be worked on as it is, as a whole."""
    usual = A.dtype == floating(A.dtype, "A") and A.dtype.isnative
    return usual and A.flags.c_contiguous and not isinstance(A.base, np.memmap)


def _pages(A: np.ndarray[Any, Any]) -> mmap.mmap | None:
    """The map of the file that A is in, if its pages may be given back: private ones hold what was written to them."""
    stored = A.base
    if not isinstance(stored, np.memmap) or stored.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    return getattr(stored, "_mmap", None)


def refuse_nonfinite(pieces: Iterator[tuple[int, Any]], name: str) -> None:
    """Raise if an entry is not finite, and say how many and in which row the first is."""
    count, first = 0, None
    for start, X in pieces:
        values = X.data if is_sparse(X) else X
        bad = ~array_namespace(values).isfinite(values)
        here = int(array_namespace(bad).count_nonzero(bad))
        if here and first is None:
            at = int(np.flatnonzero(to_numpy(bad).reshape(-1))[0])
            row = int(np.sum(X.indptr <= at)) - 1 if is_sparse(X) else at // math.prod(X.shape[1:])
            first = start + row
        count += here
    if count:
        raise ValueError(f"{name} must be finite; {count} of its entries are not, the first in row {first}")


@dataclass(frozen=True)
class Block:
    """Some rows of the problem.

    Attributes
    ----------
    start : int
        The global number of the first.
    X : (rows, d) array or csr
    y : (rows, k) array or None
        Of the right-hand sides.
    roots : (rows,) float64 array or None
        The square roots of the sample weights.
    """

    start: int
    X: Any
    y: Any = None
    roots: np.ndarray[Any, Any] | None = None

    def rows(self, begin: int, stop: int) -> Block:
        """Some of them."""
        if (begin, stop) == (0, self.X.shape[0]):
            return self
        s = slice(begin, stop)
        y, roots = (None if v is None else v[s] for v in (self.y, self.roots))
        return Block(self.start + begin, self.X[s], y, roots)

    def pieces(self, most: int | None) -> Iterator[Block]:
        """All of them, `most` at a time."""
        n = self.X.shape[0]
        for begin in range(0, n, most or n):
            yield self.rows(begin, min(begin + (most or n), n))

    def weighted(self) -> tuple[Any, Any]:
        """X and y, their rows multiplied with the roots of the weights."""
        if self.roots is None:
            return self.X, self.y
        if isinstance(self.X, LinearOperator):
            weigh = aslinearoperator(scipy.sparse.diags_array(self.roots))
            return weigh @ self.X, None if self.y is None else self.y * self.roots[:, None]
        if not is_numpy(self.X) and not is_sparse(self.X):
            xp = array_namespace(self.X)
            roots = xp.asarray(self.roots, device=array_api_compat.device(self.X))[:, None]
            return self.X * xp.astype(roots, self.X.dtype), None if self.y is None else self.y * roots
        roots = self.roots.astype(self.X.dtype)[:, None]
        X = self.X.multiply(roots).tocsr() if is_sparse(self.X) else self.X * roots
        return X, None if self.y is None else self.y * roots


class Rows:
    """A tall matrix, perhaps with right-hand sides and weights, that is read by blocks of rows.

    Parameters
    ----------
    A : array_like, sparse matrix, dask array, LinearOperator, or callable
        Of shape (n, d). An operator is one block, whatever is asked. A callable returns an iterator of blocks ``X``,
        ``(X, y)`` or ``(X, y, w)``, the same at every call.
    b : (n,) or (n, k) array_like, optional
    sample_weight : (n,) array_like, optional
    chunk_rows : int, optional
        Rows a block at most; by default what fits into 32 MB.

    Attributes
    ----------
    n : int or None
        Rows; None where they are not known before they are read.
    d, k : int
        Columns, and right-hand sides (0 without b).
    dtype, dtype_A : dtype
        float32 if all is, or if A is, else float64.
    single : bool
        Whether b is 1-D.
    sparse : bool

    Raises
    ------
    TypeError, ValueError
        If something has the wrong shape or dtype, or b or the weights are not finite. A is checked as it is read.
    """

    def __init__(self, A: Any, b: Any = None, sample_weight: Any = None, *, chunk_rows: int | None = None) -> None:
        self.chunk_rows = None if chunk_rows is None else as_count(chunk_rows, "chunk_rows")
        self.A: Any
        self.b: Any = None
        self.roots: Any = None
        self.lazy = is_dask(A)
        self.stream = callable(A) and not hasattr(A, "shape")
        if self.stream:
            self._open_stream(A, b, sample_weight)
            return
        self.matrix_free = isinstance(A, LinearOperator)
        if self.matrix_free:
            self.A = A
            floating(np.float64 if A.dtype is None else A.dtype, "A")
        else:
            self.A = _one_column_chunk(as_matrix(A, "A")) if self.lazy else as_matrix(A, "A")
        self.n: int | None = int(self.A.shape[0])
        self.d = int(self.A.shape[1])
        self.sparse = is_sparse(self.A)
        if self.matrix_free:
            self.dtype = np.dtype(np.float64)
        else:
            self.dtype = _dtype_of(self.A)
        self.dtype_A = self.dtype
        if self.n == 0 or self.d == 0:
            raise ValueError(f"A must not be empty; got shape {(self.n, self.d)}")
        self.single, self.k = True, 0
        if b is not None:
            self._take_targets(b)
        if sample_weight is not None:
            given = sample_weight if array_api_compat.is_array_api_obj(sample_weight) else np.asarray(sample_weight)
            self.roots = as_roots(given, self.n)
            if not np.any(self.roots):
                raise ValueError("sample_weight must not be zero everywhere")

    def _take_targets(self, b: Any) -> None:
        b = b.compute() if is_dask(b) else b
        if hasattr(b, "tocsr"):
            raise TypeError(f"b must be a dense array; got a sparse {type(b).__name__}")
        if isinstance(getattr(b, "dtype", None), np.dtype) and b.dtype == np.float16:
            b = b.astype(np.float32)
        b = as_floating(b, "b", ndim=(1, 2), like=None if self._on_host else self.A, infinite="unchecked")
        if b.shape[0] != self.n:
            raise ValueError(f"b must have {self.n} rows, one for each of A; got shape {tuple(b.shape)}")
        refuse_nonfinite(iter([(0, b)]), "b")
        self.single = b.ndim == 1
        self.dtype = np.result_type(self.dtype, _dtype_of(b))
        self.b = b[:, None] if self.single else b
        self.k = int(self.b.shape[1])

    @property
    def distant(self) -> bool:
        """Whether rows come from farther than memory at each read: from a file, from workers, from a callable."""
        return self.lazy or self.stream or isinstance(getattr(self.A, "base", None), np.memmap)

    @property
    def foreign(self) -> bool:
        """Whether A is an array of another library, whose products are taken by it."""
        return not self.stream and not self._on_host

    @property
    def _on_host(self) -> bool:
        return self.lazy or self.sparse or self.matrix_free or is_numpy(self.A)

    def _open_stream(self, blocks: Callable[[], Any], b: Any, sample_weight: Any) -> None:
        if b is not None or sample_weight is not None:
            raise ValueError("b and sample_weight must be None where A is a callable: its blocks bring their own")
        self.A, self.n, self.matrix_free = blocks, None, False
        head = next(self._given(), None)
        if head is None:
            raise ValueError("A must give at least one block; it gave none")
        self.d, self.sparse = int(head.X.shape[1]), is_sparse(head.X)
        if self.d == 0:
            raise ValueError(f"A must not be empty; got blocks of shape {tuple(head.X.shape)}")
        self.single, self.k = self._single, 0 if head.y is None else int(head.y.shape[1])
        self.dtype = self.dtype_A = np.dtype(head.X.dtype)
        if head.y is not None and head.y.dtype != self.dtype:
            self.dtype = np.dtype(np.float64)

    def _given(self) -> Iterator[Block]:
        """The blocks of a stream as they come, checked."""
        start, d = 0, None
        for number, given in enumerate(self.A()):
            parts = given if isinstance(given, (tuple, list)) else (given,)
            if not 1 <= len(parts) <= 3:
                raise ValueError(f"block {number} of A must be X, (X, y) or (X, y, w); got {len(parts)} parts")
            X, b, w = (*parts, None, None)[:3]
            if as_matrix(X, f"block {number} of A").shape[0] == 0:
                continue
            block = Rows(X, b, w, chunk_rows=self.chunk_rows)
            if d is not None and block.d != d:
                raise ValueError(f"block {number} of A must have {d} columns, as those before; got {block.d}")
            self._single, d = block.single, block.d
            for piece in block.blocks():
                yield replace(piece, start=start + piece.start)
            assert block.n is not None
            start += block.n

    def _stream(self, rows: int | None) -> Iterator[Block]:
        """The same cut to `rows`, short ones joined: what is done to a block has its price however short it is."""
        most = self.chunk_rows if rows is None else min(rows, self.chunk_rows or rows)
        least = FEW_BYTES if rows is None else min(JOINED_BYTES, rows * 4 * self.d)
        held: list[Block] = []
        count = 0
        for block in self._given():
            long = block.X.shape[0] * 8 * self.d >= least
            if held and (long or not _alike(held[0], block)):
                yield from joined(held).pieces(most)
                held, count = [], 0
            if long or not (is_numpy(block.X) or is_sparse(block.X)):
                yield from block.pieces(most)
                continue
            held.append(block)
            count += block.X.shape[0]
            if count * 8 * self.d >= least:
                yield from joined(held).pieces(most)
                held, count = [], 0
        if held:
            yield from joined(held).pieces(most)

    def step(self, grain: int) -> int | None:
        """Rows to be read at a time where aligned blocks of `grain` rows are worked on; None where all may be at once.

        A part of a block costs as much as the whole.
        """
        if not self.stream:
            whole = self.lazy or self.foreign or self.matrix_free or self.sparse
            if whole or (type(self) is Rows and _ready(self.A)):
                return None
        return max(grain, BLOCK_BYTES // (8 * self.d) // grain * grain)

    def blocks(self, rows: int | None = None) -> Iterator[Block]:
        """The rows, about `rows` at a time; as large as is good for one read if that is None."""
        if self.stream:
            yield from self._stream(rows)
            return
        if self.lazy:
            raise TypeError("a dask array is read by fold, on its workers")
        if self.matrix_free:
            yield Block(0, self.A, self.b, self.roots)
            return
        limit = self.chunk_rows if rows is None else min(rows, self.chunk_rows or rows)
        for start, X in row_pieces(self.A, limit):
            stop = start + X.shape[0]
            yield Block(
                start,
                X,
                None if self.b is None else self.b[start:stop, ...],
                None if self.roots is None else self.roots[start:stop],
            )

    def fold(self, work: Work, rows: int | None = None) -> tuple[Any, ...]:
        """The sums of what `work` gives for each block: a tuple of arrays and numbers.

        Blocks of a dask array are worked on where they are, and their results added as a tree; `work` must then be a
        function that can be pickled.
        """
        if self.lazy:
            return self._fold_dask(work, rows)
        return functools.reduce(_added, map(work, self.blocks(rows)))

    def _fold_dask(self, work: Work, rows: int | None) -> tuple[Any, ...]:
        import dask
        from threadpoolctl import threadpool_limits

        chunks, start, parts = self.A.to_delayed()[:, 0], 0, []
        for chunk, size in zip(chunks, self.A.chunks[0], strict=True):
            stop = start + size
            if size:
                y = None if self.b is None else self.b[start:stop]
                roots = None if self.roots is None else self.roots[start:stop]
                parts.append(dask.delayed(_fold_chunk)(work, rows, start, chunk, y, roots))
            start = stop
        while len(parts) > 1:
            parts = [dask.delayed(_sum)(parts[k : k + 8]) for k in range(0, len(parts), 8)]
        with threadpool_limits(1):  # the workers are the threads
            return dask.compute(parts[0])[0]

    def refuse_nonfinite(self) -> None:
        """Raise a ValueError if entries of A are not finite, with their number and the first row."""
        if self.matrix_free:
            raise ValueError("A must be finite; its products are not")
        if self.lazy:
            bad = ~np.isfinite(self.A).all(axis=1).compute()
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                raise ValueError(f"A must be finite; {int(bad.sum())} of its rows are not, the first is row {at}")
        else:
            refuse_nonfinite(((block.start, block.X) for block in self.blocks()), "A")


def _dtype_of(A: Any) -> np.dtype[Any]:
    """The dtype in which an array of any library is handled."""
    foreign = not isinstance(A.dtype, np.dtype)
    return floating(str(A.dtype).rpartition(".")[2] if foreign else A.dtype, "A")


def _alike(a: Block, b: Block) -> bool:
    """Whether two blocks can be joined."""
    return is_sparse(a.X) == is_sparse(b.X) and is_numpy(a.X) == is_numpy(b.X) and (a.y is None) == (b.y is None)


def joined(blocks: list[Block]) -> Block:
    """One of consecutive blocks."""
    first = blocks[0]
    if len(blocks) == 1:
        return first
    X = [block.X for block in blocks]
    roots = None
    if any(block.roots is not None for block in blocks):
        roots = np.concatenate([np.ones(block.X.shape[0]) if block.roots is None else block.roots for block in blocks])
    return Block(
        first.start,
        scipy.sparse.vstack(X, format="csr") if is_sparse(first.X) else np.concatenate(X),
        None if first.y is None else np.concatenate([block.y for block in blocks]),
        roots,
    )


def _one_column_chunk(A: Any) -> Any:
    if len(A.chunks[1]) > 1:
        warnings.warn(
            f"A has {len(A.chunks[1])} chunks along its columns; it is rechunked to one", UserWarning, stacklevel=4
        )
        A = A.rechunk({1: -1})
    return A


def _fold_chunk(work: Work, rows: int | None, start: int, X: Any, y: Any, roots: Any) -> tuple[Any, ...]:
    """`work` on a chunk of a dask array, on the worker that has it; it is one of many, and takes one thread."""
    with one_thread():
        X = as_matrix(X, "A")
        results = []
        for begin, piece in row_pieces(X, rows):
            s = slice(begin, begin + piece.shape[0])
            block = Block(start + begin, piece, None if y is None else y[s], None if roots is None else roots[s])
            results.append(work(block))
        return _sum(results)


def _sum(results: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    return functools.reduce(_added, results)


def _added(total: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(t + x for t, x in zip(total, more, strict=True))
