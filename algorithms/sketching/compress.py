"""Lossless compression: least-squares problems of any height as square ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from numcore.algorithms.sketching._factor import Factor, WithOnes, as_rows, column_norms, factor_of, triangle_of
from numcore.algorithms.sketching._rows import Block, Rows
from numcore.algorithms.sketching._setup import Matrix, Setup, scaled_block
from numcore.arrays import as_choice, as_number, as_rng
from numcore.results import Result

__all__ = ["Compressed", "compress"]


@dataclass(frozen=True, repr=False, eq=False)
class Compressed(Result):
    """A least-squares problem as a square one: ``|A x - b|^2 = |T x - c|^2 + rho^2`` for every x.

    With an intercept, the left-hand side is that of the best intercept, which :meth:`intercept` gives; with a ridge it
    includes ``alpha |x|^2``.

    Attributes
    ----------
    T : (d, d) array
        Upper triangular, float64; rows of zeros are below those that the rank of A gives.
    c : (d,) or (d, k) array, or None
        None without `b`.
    rho : float or (k,) array
        The norm of the residual of the least-squares solution; 0.0 without `b`.
    n_rows : int
        Rows with a weight above zero.
    x_offset : (d,) array or None
        With an intercept, the weighted means of the columns of A.
    y_offset : float, (k,) array, or None
        Those of b.
    weight : float
        With an intercept, the sum of the weights; else 0.0.
    dtype : dtype
        That of solutions: float32 if A and b were.
    """

    T: np.ndarray[Any, Any]
    c: np.ndarray[Any, Any] | None
    rho: Any
    n_rows: int
    x_offset: np.ndarray[Any, Any] | None
    y_offset: Any
    weight: float
    dtype: np.dtype[Any]

    def merge(self, other: Compressed) -> Compressed:
        """The problem of the rows of both: exact, in any order. Ridges add up.

        Raises
        ------
        TypeError
            If `other` is not compressed.
        ValueError
            If it has other columns or right-hand sides, or only one of the two an intercept.
        """
        if not isinstance(other, Compressed):
            raise TypeError(f"other must be a Compressed problem; got {type(other).__name__}")
        mine, its = _shape(self), _shape(other)
        if mine != its:
            raise ValueError(f"other must have {mine}; got {its}")
        single = self.c is None or self.c.ndim == 1
        dtype = np.result_type(self.dtype, other.dtype)
        return _packed(self._factor().merged(other._factor()), single=single, dtype=dtype, known=self.c is not None)

    def solve(self, alpha: float = 0.0) -> np.ndarray[Any, Any]:
        """The minimiser of ``|T x - c|^2 + alpha |x|^2``, of least norm.

        Raises
        ------
        ValueError
            If there is no `c`, or `alpha` is negative.
        """
        if self.c is None:
            raise ValueError("c must be known to solve; compress was given no b")
        setup = self._setup(as_number(alpha, "alpha", above=0, closed=True))
        x = setup.solution(setup.x0).astype(self.dtype)
        return x[:, 0] if self.c.ndim == 1 else x

    def intercept(self, x: Any) -> Any:
        """The best intercept for the coefficients x, (d,) or (d, k).

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.x_offset is None or self.c is None:
            raise ValueError("fit_intercept must have been true, and b given, for an intercept")
        return self.y_offset - self.x_offset @ np.asarray(x)

    def leverage(self, A: Any) -> np.ndarray[Any, Any]:
        """``a_i^T (T^T T)^+ a_i`` for rows of A: for those that were compressed, their leverage scores.

        With an intercept, rows are centred and one over `weight` is added. Weights are left to the caller: the score of
        a row of weight w is w times this.

        Parameters
        ----------
        A : (n, d) array_like, sparse matrix or dask array

        Returns
        -------
        (n,) array
            float32 for float32, else float64.
        """
        rows = as_rows(A)
        if rows.d != len(self.T):
            raise ValueError(f"A must have {len(self.T)} columns; got {rows.d}")
        setup = self._setup(0.0)
        centre = self.x_offset if self.x_offset is None or setup.scale is None else self.x_offset / setup.scale
        base = 1 / self.weight if self.weight else 0.0
        return row_norms(rows, setup, setup.factors.P, centre) + rows.dtype.type(base)

    def _setup(self, alpha: float) -> Setup:
        return self._factor().parts().setup(64 * float(np.finfo(self.dtype).eps), alpha)

    def _factor(self) -> Factor:
        """[1 A b] as it would be after a QR."""
        d, o = len(self.T), int(self.x_offset is not None)
        c = np.zeros((d, 0)) if self.c is None else self.c.reshape(d, -1)
        k = c.shape[1]
        R = np.zeros((o + d + k, o + d + k))
        R[o : o + d, o : o + d], R[o : o + d, o + d :] = self.T, c
        R[o + d :, o + d :] = np.diag(np.broadcast_to(self.rho, k))
        if self.x_offset is not None:
            row = np.concatenate([[1.0], self.x_offset, np.atleast_1d(self.y_offset)[:k] if k else []])
            R[0] = self.weight**0.5 * row
        return Factor(R, d, bool(o), self.n_rows)


def compress(
    A: Any,
    b: Any = None,
    *,
    alpha: float = 0.0,
    sample_weight: Any = None,
    fit_intercept: bool = False,
    sketch: str = "auto",
    sketch_size: int | None = None,
    chunk_rows: int | None = None,
    rng: Any = None,
) -> Compressed:
    r"""A square problem that is a tall one for every x: :math:`\|A x - b\|^2 = \|T x - c\|^2 + \rho^2`.

    A sketch gives a preconditioner P, and a Cholesky factor of :math:`P^T A^T A P` the rest: two reads of A at the
    speed of matrix products, one more for b, and nothing is lost. The singular values of T are those of A, as near as
    by Householder's QR. Whatever is asked of the tall problem can then be asked of the square one: ridges of any
    strength, constraints, penalties, other right-hand sides' solutions; and parts of the rows that were compressed
    apart can be merged.

    Parameters
    ----------
    A : (n, d) array_like, sparse matrix, dask array, or callable
        As for :func:`lstsq`.
    b : (n,) or (n, k) array_like, optional
        Right-hand sides.
    alpha : float
        Of a ridge, ``alpha |x|^2``, that is compressed with the rows; an intercept is not penalised.
    sample_weight : (n,) array_like, optional
        Weights of the rows' squares.
    fit_intercept : bool
        Whether a column of ones goes with A, and is eliminated: columns are then as if centred.
    sketch, sketch_size, chunk_rows
        As for :func:`lstsq`. The result depends on the sketch by rounding alone.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    Compressed

    Raises
    ------
    ValueError, TypeError
        If shapes or options do not fit, or entries are not finite.

    References
    ----------
    .. [1] Y. Fan, Y. Guo and T. Lin, "A Novel Randomized XR-Based Preconditioned CholeskyQR Algorithm", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import compress
    >>> rng = np.random.default_rng(0)
    >>> A, b = rng.standard_normal((5000, 8)), rng.standard_normal(5000)
    >>> held = compress(A, b, rng=0)
    >>> x = rng.standard_normal(8)
    >>> bool(np.isclose(np.sum((A @ x - b) ** 2), np.sum((held.T @ x - held.c) ** 2) + held.rho**2))
    True

    Parts are merged exactly:

    >>> parts = [compress(A[s], b[s], rng=0) for s in np.array_split(np.arange(5000), 3)]
    >>> together = parts[0].merge(parts[1]).merge(parts[2])
    >>> bool(np.allclose(together.solve(alpha=2.0), held.solve(alpha=2.0)))
    True
    """
    alpha = as_number(alpha, "alpha", above=0, closed=True)
    as_choice(fit_intercept, "fit_intercept", (False, True))
    rows = as_rows(A, b, sample_weight, chunk_rows=chunk_rows)
    seen = WithOnes(rows) if fit_intercept else rows
    factor = factor_of(seen, sketch=sketch, sketch_size=sketch_size, rng=as_rng(rng))
    return _packed(factor, single=rows.single, dtype=rows.dtype, known=rows.k > 0, alpha=alpha)


def _packed(factor: Factor, *, single: bool, dtype: Any, known: bool, alpha: float = 0.0) -> Compressed:
    parts, d = factor.parts().revealed(), factor.d
    M, rho = np.hstack([parts.T, parts.c]), parts.norms
    if alpha:
        M = triangle_of(np.vstack([M, alpha**0.5 * np.eye(d, M.shape[1])]))
        rho = column_norms(np.vstack([rho, M[d:, d:]]))
    square = np.zeros((d, M.shape[1]))
    square[: min(len(M), d)] = M[:d]
    c = square[:, d:]
    return Compressed(
        T=square[:, :d].copy(),
        c=None if not known else c[:, 0].copy() if single else c.copy(),
        rho=0.0 if not known else float(rho[0]) if single else rho,
        n_rows=factor.n_rows,
        x_offset=parts.x_offset if factor.intercept else None,
        y_offset=None if not (known and factor.intercept) else float(parts.y_offset[0]) if single else parts.y_offset,
        weight=parts.weight,
        dtype=np.dtype(dtype),
    )


def _shape(held: Compressed) -> str:
    sides = "no b" if held.c is None else f"b of shape {('n', *held.c.shape[1:])}"
    return f"{len(held.T)} columns, {sides} and {'an' if held.x_offset is not None else 'no'} intercept"


def row_norms(rows: Rows, setup: Setup, P: Matrix, centre: Matrix | None = None) -> np.ndarray[Any, Any]:
    """Squared norms of the rows of ``(A - centre) P``, A in the scales of the set-up; in the dtype of the rows."""
    norms = functools.partial(_row_norms, setup, P, np.zeros(P.shape[1]) if centre is None else centre @ P)
    if rows.lazy:
        return np.asarray(rows.A.map_blocks(norms, drop_axis=1, dtype=np.float64).compute()).astype(rows.dtype)
    return np.concatenate([norms(block.X) for block in rows.blocks(max(1024, rows.d))]).astype(rows.dtype)


def _row_norms(setup: Setup, P: Matrix, offset: Matrix, X: Any) -> np.ndarray[Any, Any]:
    Z = scaled_block(Block(0, X), setup)[0] @ P - offset
    return np.einsum("ij,ij->i", Z, Z)
