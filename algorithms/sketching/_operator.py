"""What all sketching operators have in common."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from scipy.sparse.linalg import LinearOperator

from numcore.algorithms.sketching._rows import (
    Block,
    Rows,
    as_matrix,
    as_roots,
    is_dask,
    is_sparse,
    refuse_nonfinite,
    row_pieces,
)
from numcore.arrays import Array, array_namespace, as_count, as_out, is_numpy

__all__ = ["SketchOperator"]

ADJOINT_ROWS = 1 << 14
"""Rows of ``S.T @ Y`` that are made at a time."""


class SketchOperator(LinearOperator):
    """A random matrix S of shape (m, n) with ``E[S.T @ S] = I``, whose columns can be drawn anywhere.

    Column i of S, with which row i of a matrix is multiplied, is a function of the seed and of i alone. So the rows of
    a matrix may come in blocks, in any order and on any machine, and sketches of its parts add up. Make one by
    :func:`make_sketch`.

    ``S @ A``, ``S @ v``, ``S.T @ Y`` and all else that a :class:`scipy.sparse.linalg.LinearOperator` does work. Two
    operators are equal if they are the same matrix: kind, m, n, seed and parameters agree.

    Attributes
    ----------
    kind : str
        As :func:`make_sketch` calls it.
    m, n : int
        Its shape; n is None for streams of unknown length.
    seed : int
        What all its entries are functions of.
    dtype : dtype
        float64, the dtype of its entries.
    is_dense : bool
        Whether most entries are not zero.
    params : dict
        The parameters of its kind.
    """

    kind: ClassVar[str]
    is_dense: ClassVar[bool] = True
    m: int
    n: int | None
    seed: int

    def __init__(self, m: int, n: int | None, seed: int) -> None:
        self.m = as_count(m, "m")
        self.n = None if n is None else as_count(n, "n")
        self.seed = as_count(seed, "seed", minimum=0)
        # LinearOperator's own constructor would refuse an open end
        self.dtype, shape = np.dtype(np.float64), (self.m, self.n)
        self.__dict__["shape"] = shape

    @property
    def params(self) -> dict[str, Any]:
        return {}

    def apply(self, A: Any, *, row_offset: int = 0, out: Any = None, sample_weight: Any = None) -> Array:
        """The sketch of some consecutive rows: ``S[:, row_offset : row_offset + len(A)] @ (sqrt(w)[:, None] * A)``.

        Sums run in float64 whatever the dtype of `A`. C-contiguous arrays of float32 and float64 are not copied; any
        other is read by blocks of 32 MB, and so are files. A dask array is sketched chunk by chunk on its workers.

        Parameters
        ----------
        A : (rows, d) or (rows,) array_like, sparse matrix or dask array
            The rows; real and finite.
        row_offset : int
            The global number of the first.
        out : (m, d) or (m,) array, optional
            Where to add the sketch, in float64 or the dtype of the result; returned.
        sample_weight : (rows,) array_like, optional
            Weights w of the rows, not negative.

        Returns
        -------
        (m, d) or (m,) array
            In float32 for float32 and float16, else in float64; dense, whatever `A` is.

        Raises
        ------
        TypeError
            If `A` is complex or has no rows that can be read.
        ValueError
            If there are more rows than the operator has columns; if entries are not finite; if shapes do not fit.
        """
        A = as_matrix(A, "A", vector=True)
        row_offset = as_count(row_offset, "row_offset", minimum=0)
        rows = int(A.shape[0])
        if self.n is not None and row_offset + rows > self.n:
            raise ValueError(
                f"A must end by row {self.n}, the number of columns of the operator; "
                f"got {rows} rows from {row_offset} on"
            )
        roots = as_roots(sample_weight, rows)
        line = A.ndim == 1
        if line:
            A = A[:, None]
        total = self._sketch(A, row_offset, roots)
        result = total[:, 0] if line else total
        if out is not None:
            like = result if getattr(out, "dtype", None) == result.dtype else self._narrow(result, A)
            out = as_out(out, like)
            out += array_namespace(out).astype(result, out.dtype, copy=False)
            return out
        return self._narrow(result, A)

    def _narrow(self, total: Array, A: Any) -> Array:
        xp = array_namespace(total)
        narrow = str(A.dtype).endswith(("float32", "float16"))
        if not narrow:
            return total
        if total.size and float(xp.max(xp.abs(total))) > float(xp.finfo(xp.float32).max):
            raise ValueError("A is too large: sums of its entries overflow float32; divide it by a power of two")
        return xp.astype(total, xp.float32)

    def _sketch(self, A: Any, start: int, roots: np.ndarray[Any, Any] | None) -> Array:
        """The sketch in float64 of a checked matrix; its entries are checked on the way."""
        rows = Rows(A) if is_dask(A) and A.size else None
        if rows is not None:
            rows.roots = roots
            with np.errstate(over="ignore", invalid="ignore"):
                total = rows.fold(functools.partial(_sum_of_block, self, start))[0]
        elif is_dask(A):  # it may have no chunk to fold
            return np.zeros((self.m, A.shape[1]))
        else:
            total = self._sum(A, start, roots)
        xp = array_namespace(total)
        with np.errstate(over="ignore", invalid="ignore"):
            # the sum of finite numbers is finite unless it overflows
            finite = bool(xp.isfinite(xp.sum(total)))
        if finite or bool(xp.all(xp.isfinite(total))):
            return total
        if rows is not None:
            rows.refuse_nonfinite()
        else:
            refuse_nonfinite(row_pieces(A), "A")
        if str(A.dtype).endswith(("float32", "float16")):
            # finite, but sums of its entries are not
            wide = A.astype(np.float64) if hasattr(A, "astype") else xp.astype(A, xp.float64)
            return self._sketch(wide, start, roots)
        raise ValueError("A is too large: sums of its entries overflow float64; divide it by a power of two")

    def _sum(self, A: Any, start: int, roots: np.ndarray[Any, Any] | None) -> Array:
        """The sketch in float64; what is not finite in A is not in the sketch either, or is refused."""
        foreign = not is_numpy(A) and not is_sparse(A)
        xp = array_namespace(A) if foreign else np
        place = {"device": array_api_compat.device(A)} if foreign else {}
        total = xp.zeros((self.m, A.shape[1]), dtype=xp.float64, **place)
        with np.errstate(over="ignore", invalid="ignore"):
            for begin, X in row_pieces(A):
                self._add(X, start + begin, None if roots is None else roots[begin : begin + X.shape[0]], total)
                if not self._reads_all:
                    self._check_block(X, start + begin)
            if self._scale != 1:
                total *= self._scale
        return total

    def _check_block(self, X: Any, start: int) -> None:
        values = X.data if is_sparse(X) else X
        xp = array_namespace(values)
        if not bool(xp.all(xp.isfinite(values))):
            refuse_nonfinite(iter([(start, X)]), "A")

    @property
    def _scale(self) -> float:
        """What the sums that :meth:`_add` makes are multiplied with."""
        return float(self.m**-0.5)

    @property
    def _grain(self) -> int:
        """Rows of the aligned blocks that are worked on at a time: a part of one costs as much as the whole."""
        return 1

    _reads_all: ClassVar[bool] = True
    """Whether an entry that is not finite shows in the sketch."""

    def _add(self, X: Any, start: int, roots: np.ndarray[Any, Any] | None, out: Array) -> None:
        """Add S / scale times rows X, from global row `start` on and multiplied with `roots`, to out.

        X is in C order, float32 or float64, or csr; out is float64. This general form has the columns of S drawn.
        """
        xp = array_namespace(out)
        for begin in range(0, X.shape[0], ADJOINT_ROWS):
            stop = min(begin + ADJOINT_ROWS, X.shape[0])
            columns = self._columns(start + begin, start + stop)
            if roots is not None:
                columns = columns * roots[begin:stop]
            block = X[begin:stop] if is_sparse(X) else xp.astype(X[begin:stop, :], xp.float64, copy=False)
            out += xp.asarray(columns) @ block

    def _columns(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """``S[:, start:stop] / scale``."""
        return self._rows_of_adjoint(np.eye(self.m), start, stop).T

    def _rows_of_adjoint(self, Y: np.ndarray[Any, Any], start: int, stop: int) -> np.ndarray[Any, Any]:
        """``(S.T @ Y)[start:stop] / scale`` for a float64 array Y of shape (m, k)."""
        raise NotImplementedError

    def _length(self, what: str) -> int:
        if self.n is None:
            raise ValueError(f"{what} needs the number n of columns, which is None here; use apply(A, row_offset=...)")
        return self.n

    def dot(self, x: Any) -> Any:
        if isinstance(x, LinearOperator) or np.isscalar(x):
            self._length("a product of operators")
            return super().dot(x)  # type: ignore[arg-type]  # it takes scalars too
        n = self._length("S @ A")
        x = as_matrix(x, "A", vector=True)
        if x.shape[0] != n:
            raise ValueError(f"A must have {n} rows, the number of columns of the operator; got shape {tuple(x.shape)}")
        return self.apply(x)

    def _matvec(self, x: Any) -> Any:
        return self.apply(x)

    def _matmat(self, X: Any) -> Any:
        return self.apply(X)

    def _rmatvec(self, x: Any) -> Any:
        return self._rmatmat(np.reshape(x, (-1, 1)))[:, 0]

    def _rmatmat(self, X: Any) -> Any:
        n = self._length("S.T @ Y")
        Y = next((Y for _, Y in row_pieces(as_matrix(X, "Y"), self.m)))
        Y = Y.toarray() if is_sparse(Y) else Y
        return self._transposed_product(Y.astype(np.float64, copy=False), n).astype(Y.dtype, copy=False)

    def _transposed_product(self, Y: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
        """``S[:, :n].T @ Y`` in float64."""
        result = np.empty((n, Y.shape[1]))
        for start in range(0, n, ADJOINT_ROWS):
            stop = min(start + ADJOINT_ROWS, n)
            result[start:stop] = self._scale * self._rows_of_adjoint(Y, start, stop)
        return result

    def _transpose(self) -> Any:
        self._length("S.T")
        return super()._transpose()  # type: ignore[misc]  # the stubs leave it out

    def _adjoint(self) -> Any:
        self._length("S.H")
        return super()._adjoint()

    def toarray(self) -> np.ndarray[Any, Any]:
        """S itself, as an (m, n) array: for small n."""
        n = self._length("toarray")
        return self._scale * np.ascontiguousarray(self._columns(0, n))

    def tosparse(self) -> Any:
        """S as a csr array of shape (m, n), for the kinds with few nonzeros a column.

        Raises
        ------
        TypeError
            If the operator is dense.
        """
        raise TypeError(f"tosparse needs a sparse kind of sketch; got {self.kind!r}, which is dense")

    def _arguments(self) -> dict[str, Any]:
        return {"m": self.m, "n": self.n, "seed": self.seed, **self.params}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        assert isinstance(other, SketchOperator)
        ours, theirs = self._arguments(), other._arguments()
        return all(np.array_equal(ours[key], theirs[key]) for key in ours)

    def __hash__(self) -> int:
        return hash((self.kind, self.m, self.n, self.seed))

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self._arguments()), ()

    def __repr__(self) -> str:
        extra = "".join(f", {k}={v!r}" for k, v in self.params.items() if np.ndim(v) == 0 or isinstance(v, tuple))
        return f"<{self.kind} sketch, m={self.m}, n={self.n}, seed={self.seed}{extra}>"


def _sum_of_block(S: SketchOperator, start: int, block: Block) -> tuple[Array]:
    return (S._sum(block.X, start + block.start, block.roots),)
