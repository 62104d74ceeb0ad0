"""A sketch of a matrix that arrives in blocks of rows."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np

from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import Block, as_matrix, as_roots, floating, is_dask, joined
from numcore.arrays import as_choice, as_count, is_numpy

__all__ = ["StreamingSketch"]

HELD = 1 << 18
"""Entries of rows that are held at most, about, unless an aligned block of the operator has more."""

MANY = 8
"""Aligned blocks that rows are sketched with at once: what a part of one costs then matters little."""


class StreamingSketch:
    """``S @ A`` for a matrix A that arrives in blocks of rows, in any order, at one place or at many.

    Parameters
    ----------
    op : SketchOperator
        S; with ``n=None`` where the number of rows is not known.
    n_columns : int
        Columns of A.
    check_overlap : bool
        Whether to refuse rows that were seen before. It takes a little memory for each gap between the rows seen.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import StreamingSketch, make_sketch
    >>> A = np.random.default_rng(0).standard_normal((1000, 3))
    >>> S = make_sketch("srht", 40, rng=0)
    >>> stream = StreamingSketch(S, 3)
    >>> for block in np.array_split(A, 7):
    ...     stream = stream.update(block)
    >>> stream.n_rows
    1000
    >>> bool(np.allclose(stream.value, S.apply(A)))
    True

    Two streams over parts of the rows are merged by a sum:

    >>> one = StreamingSketch(S, 3).update(A[:600])
    >>> two = StreamingSketch(S, 3).update(A[600:], row_offset=600)
    >>> bool(np.allclose(two.merge(one).value, stream.value))
    True
    """

    def __init__(self, op: SketchOperator, n_columns: int, *, check_overlap: bool = False) -> None:
        if not isinstance(op, SketchOperator):
            raise TypeError(f"op must be a sketch operator, as make_sketch gives it; got {type(op).__name__}")
        self.op = op
        self.n_columns = as_count(n_columns, "n_columns")
        self.check_overlap = as_choice(check_overlap, "check_overlap", (False, True))
        self._sum = np.zeros((op.m, self.n_columns))
        self._held: list[Block] = []
        self._held_to = 0
        self._dtype: np.dtype[Any] | None = None
        self._next, self._count = 0, 0
        self._seen: list[tuple[int, int]] = []

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """The sketch of all rows so far, (m, n_columns): in float32 if all were, else in float64."""
        self._flush()
        return self._sum.astype(self._dtype or np.float64)

    @property
    def n_rows(self) -> int:
        """How many rows have been seen."""
        return self._count

    def update(self, block: Any, *, row_offset: int | None = None, sample_weight: Any = None) -> StreamingSketch:
        """Add rows.

        Parameters
        ----------
        block : (rows, n_columns) array_like, sparse matrix or dask array
        row_offset : int, optional
            The global number of the first; by default they come after the last row so far. Each row must have a number
            of its own: two with one number would be given the same random signs.
        sample_weight : (rows,) array_like, optional

        Returns
        -------
        StreamingSketch
            Itself.

        Raises
        ------
        ValueError, TypeError
            As :meth:`SketchOperator.apply`; if the number of columns differs; if rows were seen before, with
            `check_overlap`. The sketch is then as it was.
        """
        block = as_matrix(block, "block")
        rows = int(block.shape[0])
        if block.shape[1] != self.n_columns:
            raise ValueError(f"block must have {self.n_columns} columns; got shape {tuple(block.shape)}")
        if not (is_numpy(block) or hasattr(block, "tocsr") or is_dask(block)):
            raise TypeError(f"block must be a NumPy, sparse or dask array; got {type(block).__name__}")
        start = self._next if row_offset is None else as_count(row_offset, "row_offset", minimum=0)
        seen = _with(self._seen, (start, start + rows)) if self.check_overlap else self._seen
        dtype = floating(block.dtype, "block")
        if not self._taken(block, start, sample_weight):
            self._flush()
            self.op.apply(block, row_offset=start, out=self._sum, sample_weight=sample_weight)
        self._dtype = dtype if self._dtype is None else np.result_type(self._dtype, dtype)
        self._seen, self._next, self._count = seen, max(self._next, start + rows), self._count + rows
        return self

    def _taken(self, block: Any, start: int, sample_weight: Any) -> bool:
        """Hold a few rows until they fill aligned blocks of the operator; whether they are such that this will work."""
        grain, rows = self.op._grain, int(block.shape[0])
        end = start + rows
        beyond = self.op.n is not None and end > self.op.n
        if grain == 1 or not 0 < rows < MANY * grain or beyond or not is_numpy(block):
            return False
        X, roots = np.array(block, floating(block.dtype, "block"), order="C"), as_roots(sample_weight, rows)
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(np.vdot(X, X)):  # not finite, or so large that sums might not be
                return False
        if self._held and (self._held_to != start or self._held[0].X.dtype != X.dtype):
            self._flush()
        self._held, self._held_to = [*self._held, Block(start, X, None, roots)], end
        if (end // grain - self._held[0].start // grain) * grain * self.n_columns >= HELD:
            self._flush(end // grain * grain)
        return True

    def _flush(self, stop: int | None = None) -> None:
        """Sketch the rows that are held, as far as row `stop`."""
        if self._held:
            block = joined(self._held)
            count = len(block.X) if stop is None else stop - block.start
            self._add(block.rows(0, count))
            self._held = [block.rows(count, len(block.X))] if count < len(block.X) else []

    def _add(self, block: Block) -> None:
        total = self.op._sketch(block.X, block.start, block.roots)
        self._sum += self.op._narrow(total, block.X)

    def merge(self, other: StreamingSketch) -> StreamingSketch:
        """The sketch of the rows of both, which stay as they are.

        Raises
        ------
        TypeError
            If `other` is no streaming sketch.
        ValueError
            If its operator or number of columns differs; if rows are in both, with `check_overlap`.
        """
        if not isinstance(other, StreamingSketch):
            raise TypeError(f"other must be a StreamingSketch; got {type(other).__name__}")
        if self.op != other.op:
            raise ValueError(f"other must have the same operator, {self.op!r}; got {other.op!r}")
        if self.n_columns != other.n_columns:
            raise ValueError(f"other must have {self.n_columns} columns; got {other.n_columns}")
        both = StreamingSketch(self.op, self.n_columns, check_overlap=self.check_overlap and other.check_overlap)
        if both.check_overlap:
            both._seen = self._seen
            for interval in other._seen:
                both._seen = _with(both._seen, interval)
        self._flush()
        other._flush()
        both._sum = self._sum + other._sum
        known = [stream._dtype for stream in (self, other) if stream._dtype is not None]
        both._dtype = np.result_type(*known) if known else None
        both._next, both._count = max(self._next, other._next), self._count + other._count
        return both

    def __repr__(self) -> str:
        return f"StreamingSketch({self.op!r}, n_columns={self.n_columns}, n_rows={self.n_rows})"


def _with(seen: list[tuple[int, int]], new: tuple[int, int]) -> list[tuple[int, int]]:
    """Sorted disjoint intervals with one more; those that touch are joined."""
    start, stop = new
    if start == stop:
        return seen
    k = bisect.bisect_left(seen, new)
    for a, b in seen[max(k - 1, 0) : k + 1]:
        if a < stop and start < b:
            raise ValueError(f"rows {max(a, start)} to {min(b, stop) - 1} were seen before")
    before, after = seen[:k], seen[k:]
    if before and before[-1][1] == start:
        start = before.pop()[0]
    if after and after[0][0] == stop:
        stop = after.pop(0)[1]
    return [*before, (start, stop), *after]
