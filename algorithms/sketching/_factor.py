"""The triangular factor of ``[1 A b]``: all that least squares, with or without an intercept, has to know of its rows.

``R`` is what a QR of ``[1 A b]``, rows weighted, would leave. Factors of parts of the rows are merged by a QR of one on
top of the other. Without its first row it is that of the centred problem: no pass is made to centre, sparse matrices
stay sparse, and a mean far from zero costs no digits.

Tall blocks of rows are factored by the sketch-preconditioned Cholesky-QR of
:mod:`numcore.algorithms.sketching._direct`; rows that come later are preconditioned by the factor of those before.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import LinearOperator

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.sketching._direct import Compression, compressed
from numcore.algorithms.sketching._rows import BLOCK_BYTES, Block, Rows, Work, is_dask, is_sparse
from numcore.algorithms.sketching._setup import (
    Matrix,
    Setup,
    _cached,
    _gradient,
    _reduced,
    _whole,
    prepare,
    scaled_block,
)
from numcore.arrays import as_choice, as_count, is_numpy, to_numpy
from numcore.results import Loop

__all__ = [
    "Factor",
    "Parts",
    "Solution",
    "WithOnes",
    "as_rows",
    "column_norms",
    "factor_of",
    "factor_of_rows",
    "gradient_beside",
    "intercepts",
    "matrix_setup",
    "precise_pass",
    "refined_solution",
    "triangle_beside_ones",
    "triangle_by_products",
    "triangle_of",
]

KINDS = ("auto", "gaussian", "srht", "block_srht", "srtt", "countsketch", "sparse_sign", "uniform")

UNIT = float(np.finfo(np.float64).eps)

CONSTANT = 1e-13
"""A column is constant if no more than this part of it is left by centring."""

SAMPLE = 100
"""Rows whose medians are subtracted, about."""

BENIGN = 100.0
"""Up to this condition number, what the Gram matrix loses of a factor is rounding."""


MILD = 4.0
"""The root of the mean squared inverse singular value of columns of length 1 up to which a Gram matrix adds roundings.
"""


def as_rows(A: Any, b: Any = None, sample_weight: Any = None, *, chunk_rows: int | None = None) -> Rows:
    """The rows of a matrix whose entries can be read; arrays of other libraries are copied to the host.

    Raises
    ------
    TypeError, ValueError
        As :class:`Rows`, and for a LinearOperator.
    """
    if isinstance(A, LinearOperator):
        raise TypeError(f"A must have rows that can be read; got a {type(A).__name__}")
    if array_api_compat.is_array_api_obj(A) and not is_numpy(A) and not is_dask(A):
        A, b = to_numpy(A), b if b is None else to_numpy(b)
    return Rows(A, b, sample_weight, chunk_rows=chunk_rows)


class WithOnes(Rows):
    """Rows with a column of ones before the others, in float64.

    Medians of some rows of a dense array, and of b, are subtracted from all: then means far from zero cost no digits.
    With a column of ones that changes no more than the first row of a factor, which :meth:`unshifted` puts right.
    """

    def __init__(self, rows: Rows) -> None:
        self.__dict__.update(rows.__dict__)
        self._inner = rows
        self.d = rows.d + 1
        self.dtype_A = np.dtype(np.float64)
        self.shift, self.shift_b = np.zeros(rows.d), np.zeros(rows.k)
        if rows.n is not None and is_numpy(rows.A) and not rows.sparse:
            some = slice(None, None, -(-rows.n // SAMPLE))
            self.shift = _medians(rows.A[some])
            self.shift_b = self.shift_b if rows.b is None else _medians(rows.b[some])

    def blocks(self, rows: int | None = None) -> Iterator[Block]:
        for block in self._inner.blocks(rows or max(1, BLOCK_BYTES // (8 * self.d))):
            yield _with_ones(self.shift, self.shift_b, block)

    def fold(self, work: Work, rows: int | None = None) -> tuple[Any, ...]:
        if self.lazy:
            return self._inner.fold(functools.partial(_worked_with_ones, work, self.shift, self.shift_b), rows)
        return super().fold(work, rows)

    def unshifted(self, R: Matrix) -> Matrix:
        """The triangle of ``[1 A b]`` from that of what is read."""
        R = R.copy()
        R[0, 1:] += R[0, 0] * np.concatenate([self.shift, self.shift_b])
        return R

    def refuse_nonfinite(self) -> None:
        self._inner.refuse_nonfinite()


def _medians(M: Any) -> Matrix:
    found = np.asarray(np.median(np.asarray(M, np.float64), axis=0))
    return np.where(np.isfinite(found), found, 0.0)


def _with_ones(shift: Matrix, shift_b: Matrix, block: Block) -> Block:
    X = block.X
    if block.y is not None and shift_b.any():
        block = replace(block, y=block.y - shift_b)
    if is_sparse(X):
        ones = scipy.sparse.csr_array(np.ones((X.shape[0], 1)))
        return replace(block, X=scipy.sparse.hstack([ones, X], format="csr", dtype=np.float64))
    wide = np.empty((X.shape[0], X.shape[1] + 1))
    wide[:, 0] = 1.0
    np.subtract(X, shift, out=wide[:, 1:])
    return replace(block, X=wide)


def _worked_with_ones(work: Work, shift: Matrix, shift_b: Matrix, block: Block) -> tuple[Any, ...]:
    return work(_with_ones(shift, shift_b, block))


@dataclass(frozen=True)
class Parts:
    """What a factor says of the problem, after the intercept has been eliminated.

    ``|A x + 1 t - b|^2 = |T x - c|^2 + norms^2`` for the best t, which is ``y_offset - x_offset x``. Without an
    intercept the offsets are zero and `weight`, the sum of the weights, is 0.
    """

    T: Matrix
    c: Matrix
    norms: Matrix
    weight: float
    x_offset: Matrix
    y_offset: Matrix

    def setup(self, rcond: float, alpha: float = 0.0) -> Setup:
        """The rank, and the solution of least norm, as those of all solvers are decided.

        Centring leaves roundings of the columns as they were: columns of nothing else are zero, and `rcond` grows with
        what was taken away.
        """
        T, c = np.where(self._constant(), 0.0, self.T), self.c
        rcond = max(rcond, 64 * UNIT * self.spread()) if rcond else rcond
        if not len(T):  # no row is left
            T, c = np.zeros((1, T.shape[1])), np.zeros((1, c.shape[1]))
        if not c.shape[1]:
            c = np.zeros((len(T), 1))
        return _reduced(T, c, alpha, rcond, len(T), None)

    def revealed(self) -> Parts:
        """The same with as many rows as the rank, if that is below the number of columns: no rounding stands for a row.

        What no x can reach of c goes into the residual.
        """
        setup = self.setup(64 * UNIT)
        rank, f = setup.rank, setup.factors
        if rank == self.T.shape[1]:
            return self
        T = f.sigma[:, None] * f.V.T * (f.D if setup.scale is None else f.D * setup.scale)
        c = (f.U.T @ setup.Sb * setup.scale_b)[:, : self.c.shape[1]]
        away = self.c - f.U[: len(self.c)] @ c if len(self.c) else self.c
        R = triangle_of(np.hstack([T, c])) if rank else np.zeros((0, T.shape[1] + c.shape[1]))
        norms = column_norms(np.vstack([self.norms, away]))
        return replace(self, T=R[:, : T.shape[1]], c=R[:, T.shape[1] :], norms=norms)

    def sizes(self, setup: Setup) -> Matrix:
        """The norms of the right-hand sides, scaled."""
        centred = np.hypot(column_norms(self.c), self.norms)
        return np.asarray(np.hypot(centred, self.weight**0.5 * self.y_offset) / setup.scale_b)

    def spread(self) -> float:
        """By how much the columns of A are larger than their centred parts: so much of a rounding of A is left."""
        norms, offsets = self._lengths()
        some = (norms > 0) & ~self._constant()
        return float(np.sqrt(1 + np.mean((offsets[some] / norms[some]) ** 2))) if some.any() else 1.0

    def _constant(self) -> np.ndarray[Any, Any]:
        """Columns that do not vary, but for rounding."""
        norms, offsets = self._lengths()
        return np.asarray((norms <= CONSTANT * offsets) & (offsets > 0))

    def _lengths(self) -> tuple[Matrix, Matrix]:
        """Norms of the centred columns, and of what was taken away."""
        tops = np.maximum(np.abs(self.T).max(axis=0, initial=0.0), 1e-300)
        return tops * np.linalg.norm(self.T / tops, axis=0), self.weight**0.5 * np.abs(self.x_offset)


@dataclass(frozen=True)
class Factor:
    """R, upper trapezoidal, of ``[1 A b]`` (of ``[A b]`` where there is no intercept).

    `d` is the number of columns of A; `n_rows` that of rows with a weight above zero; `method` says how it was found.
    """

    R: Matrix
    d: int
    intercept: bool
    n_rows: int
    method: str = "qr"

    def merged(self, other: Factor) -> Factor:
        """That of the rows of both."""
        return self._with(triangle_beside_ones(np.vstack([self.R, other.R]), self.intercept), other.n_rows)

    def extended(self, rows: Matrix) -> Factor:
        """That of more rows ``[1 A b]``, weighted: by products where they are as good as a QR."""
        # the threads of NumPy's BLAS and of SciPy's, taking turns, would wait for each other
        with on_one_thread():
            R = triangle_by_products(self.R, rows, self.intercept + self.d, self.intercept)
            if R is None:
                R = triangle_beside_ones(np.vstack([self.R, rows]), self.intercept)
        return self._with(R, len(rows))

    def _with(self, R: Matrix, n_rows: int) -> Factor:
        return replace(self, R=R, n_rows=self.n_rows + n_rows, method="qr")

    def parts(self) -> Parts:
        """The centred problem."""
        o = int(self.intercept)
        left = o + self.d
        k = self.R.shape[1] - left
        weight, x_offset, y_offset = 0.0, np.zeros(self.d), np.zeros(k)
        if o:
            weight = float(self.R[0, 0] ** 2)
            x_offset, y_offset = self.R[0, 1:left] / self.R[0, 0], self.R[0, left:] / self.R[0, 0]
        norms = column_norms(self.R[left:, left:])
        return Parts(self.R[o:left, o:left], self.R[o:left, left:], norms, weight, x_offset, y_offset)


def triangle_of(M: Matrix) -> Matrix:
    """R of a QR of M, with min(M.shape) rows."""
    (R,) = scipy.linalg.qr(M, mode="r", check_finite=False, overwrite_a=True)
    return np.asarray(R[: min(M.shape)])


def triangle_beside_ones(M: Matrix, intercept: bool = True) -> Matrix:
    """The same where the first column is that of the ones: means are taken out before, and put back after."""
    if not intercept:
        return triangle_of(M)
    means = M[:, 0] @ M[:, 1:] / (M[:, 0] @ M[:, 0])
    centred = M.copy()
    centred[:, 1:] -= M[:, :1] * means
    R = triangle_of(centred)
    R[0, 1:] += R[0, 0] * means
    return R


def triangle_by_products(R: Matrix, M: Matrix, width: int, intercept: bool) -> Matrix | None:
    """The triangle of R on top of more rows M; None where it would not be as good as by QR.

    R is the preconditioner of the rows: with A the first `width` columns, b the others, ``W = M_A R_A^-1`` and
    ``r = M_b - W R_b``, the problem is ``[1; W] (R_A, R_b) + [0; r]``. With ``1 + W^T W = L L^T``, its triangle is
    ``L^T R_A``, its right-hand side ``L^T R_b + L^-1 W^T r``, and the squares of what is left of b grow by those of r,
    less those of ``L^-1 W^T r``.

    Substitution gives a W that is exact for rows that are off by roundings, however ill-conditioned R is, as long as W
    is of moderate size. So it is where rows are like those before. Where columns are far from dependent, their lengths
    do in place of R_A.
    """
    if len(R) < width:
        return None
    R = R.copy()
    means = R[0, 1:] / R[0, 0] if intercept else np.zeros(0)
    W = M
    if intercept:  # as in `triangle_beside_ones`
        W = np.empty_like(M)
        W[:, 0] = M[:, 0]
        np.multiply(M[:, :1], means, out=W[:, 1:])
        np.subtract(M[:, 1:], W[:, 1:], out=W[:, 1:])
        R[0, 1:] = 0.0
    A, b, left = R[:width, :width], R[:width, width:], R[width:, width:]
    lengths = column_norms(A)
    if not np.all(np.abs(A.diagonal()) > CONSTANT * lengths):
        return None
    units = np.hypot(column_norms(b), column_norms(left))
    units = np.where(units > 0, units, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        found = _by_lengths(A, b, lengths, units, W) or _by_substitution(A, b, units, W, overwrite=intercept)
    if found is None:
        return None
    L, lift, z, Wr, rr = found
    c = scipy.linalg.solve_triangular(L, Wr, lower=True, check_finite=False)
    rest = np.maximum(rr - np.sum(c * c, axis=0), 0)
    result = np.zeros((R.shape[1], R.shape[1]))
    result[:width, :width], result[:width, width:] = L.T @ lift, L.T @ z + c * units
    np.fill_diagonal(result[width:, width:], np.hypot(column_norms(left), units * np.sqrt(rest)))
    if intercept:
        result[0, 1:] += result[0, 0] * means
    return result


def _by_lengths(A: Matrix, b: Matrix, lengths: Matrix, units: Matrix, M: Matrix) -> tuple[Any, ...] | None:
    """The same with the lengths of columns for a preconditioner, where that loses roundings; half the work."""
    scaled = A / lengths
    inverse = scipy.linalg.solve_triangular(scaled, np.eye(len(A)), check_finite=False)
    # squares of lengths must not vanish, nor those of singular values of columns of length 1 beside their mean
    if lengths.min() < 1e-100 or lengths.max() > 1e100 or np.linalg.norm(inverse) > MILD * len(A) ** 0.5:
        return None
    X, x = M[:, : len(A)], inverse @ b / lengths[:, None]
    G = X.T @ X / lengths / lengths[:, None]
    if not np.abs(G).sum(axis=0).max() <= BENIGN:
        return None
    r = (M[:, len(A) :] - X @ x) / units
    L = np.linalg.cholesky(scaled.T @ scaled + G)
    return L, np.diag(lengths), lengths[:, None] * x, X.T @ r / lengths[:, None], np.einsum("ij,ij->j", r, r)


def _by_substitution(A: Matrix, b: Matrix, units: Matrix, M: Matrix, *, overwrite: bool) -> tuple[Any, ...] | None:
    """L, what it is multiplied with, the solution in these terms, ``W^T r`` and the squares of r, in `units`."""
    width, all_ = len(A), M.shape[1]
    # below b a diagonal: one substitution gives W, and r in units of b
    full = np.zeros((all_, all_), order="F")
    full[:width, :width], full[:width, width:] = A, b
    np.fill_diagonal(full[width:, width:], units)
    W = scipy.linalg.blas.dtrsm(1.0, full, M.T, trans_a=1, overwrite_b=overwrite).T
    G = W.T @ W
    grown = np.eye(width) + G[:width, :width]
    if not (np.isfinite(G).all() and np.abs(grown).sum(axis=0).max() <= BENIGN):
        return None
    return np.linalg.cholesky(grown), A, b, G[:width, width:], G.diagonal()[width:]


def factor_of_rows(rows: Matrix, d: int, intercept: bool) -> Factor:
    """The factor of rows ``[1 A b]``, weighted: a QR of the first, and the others beneath them."""
    first = 4 * rows.shape[1]
    start = Factor(triangle_beside_ones(rows[:first], intercept), d, intercept, min(first, len(rows)))
    return start.extended(rows[first:]) if len(rows) > first else start


def column_norms(M: Matrix) -> Matrix:
    """Euclidean norms, of which no square overflows."""
    top = float(np.abs(M).max(initial=0.0)) or 1.0
    return np.asarray(top * np.sqrt(np.sum((M / top) ** 2, axis=0)))


def matrix_setup(
    rows: Rows,
    sketch: str,
    size: int | None,
    rng: Any,
    *,
    factor: int = 4,
    alpha: float = 0.0,
    rcond: float | None = None,
) -> Setup:
    """The set-up of a preconditioner for A by a sketch of `factor` d rows, or of `size`."""
    as_choice(sketch, "sketch", KINDS)
    if size is not None and as_count(size, "sketch_size") < rows.d:
        raise ValueError(f"sketch_size must be at least {rows.d}, the number of columns of A; got {size}")
    m = max(factor * rows.d, rows.d + 16) if size is None else size
    kind = sketch
    if sketch == "auto":
        kind = "sparse_sign" if rows.sparse or rows.matrix_free else "block_srht"
    return prepare(rows, m=m + -m % 8, kind=kind, alpha=alpha, rcond=rcond, rng=rng)


def precise_pass(
    rows: Rows,
    sketch: str,
    size: int | None,
    rng: Any,
    *,
    setup: Setup | None = None,
    gram_up_to: float = BENIGN,
    rcond: float | None = None,
) -> Compression:
    """A read for a sketch and one of ``A P``.

    Up to a condition number of `gram_up_to` the Gram matrix of A itself will do. What is negligible by `rcond`, as for
    :func:`prepare`, is lost.

    Raises
    ------
    numpy.linalg.LinAlgError
        If two sketches failed to precondition A.
    """
    for factor in (4, 8):
        setup = setup or matrix_setup(rows, sketch, size and size * factor // 4, rng, factor=factor, rcond=rcond)
        plain = setup.rank == rows.d and setup.cond <= gram_up_to
        held = compressed(rows, setup, plain=plain)
        if held is not None:
            return held
        setup = None
    raise np.linalg.LinAlgError("two sketches do not precondition A; take a larger one, or another kind")


def factor_of(
    rows: Rows,
    *,
    sketch: str = "auto",
    sketch_size: int | None = None,
    rng: Any = None,
    gram_up_to: float = BENIGN,
    rcond: float | None = None,
    whole: bool = False,
) -> Factor:
    """The factor of all rows, as good as by Householder's QR: two reads, and one more for b.

    If there are no more rows than the sketch would have, or by `whole`, it is Householder's QR.

    Raises
    ------
    ValueError
        If entries of A are not finite, or options do not fit.
    """
    n_rows = _counted(rows)
    intercept, d, k = isinstance(rows, WithOnes), rows.d - isinstance(rows, WithOnes), rows.k
    as_choice(sketch, "sketch", KINDS)
    if sketch_size is not None and as_count(sketch_size, "sketch_size") < d:
        raise ValueError(f"sketch_size must be at least {d}, the number of columns of A; got {sketch_size}")
    if rows.n is not None and (whole or rows.n <= max(sketch_size or 0, 4 * rows.d, rows.d + 16)):
        A, b = _whole(rows, k)
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(A.sum()):
                rows.refuse_nonfinite()
        return Factor(_unshifted(rows, triangle_of(np.hstack([A, b]))), d, intercept, n_rows, "lapack")
    size = sketch_size and max(sketch_size, rows.d)
    held = precise_pass(rows, sketch, size, rng, gram_up_to=gram_up_to, rcond=rcond)
    R = _unshifted(rows, triangle_of(_stacked(rows, held)))
    return Factor(R, d, intercept, n_rows, "gram" if held.plain else "direct")


def _unshifted(rows: Rows, R: Matrix) -> Matrix:
    return rows.unshifted(R) if isinstance(rows, WithOnes) else R


def _stacked(rows: Rows, held: Compression) -> Matrix:
    """T and c, and below them the norms of the residuals on a diagonal."""
    T, k = held.triangle(), rows.k
    R = np.zeros((rows.d + k, rows.d + k))
    R[: len(T), : rows.d] = T
    if k:
        R[: len(T), rows.d :] = held.target() if len(T) else 0.0
        R[rows.d :, rows.d :] = np.diag(_residual_norms(rows, held))
    return R


def _residual_norms(rows: Rows, held: Compression) -> Matrix:
    """Of the least-squares solution, from a read at a point near it: ``|b - A x|^2 - |L^-1 P^T A^T (b - A x)|^2``.

    That keeps the digits of a small residual, but is off by a rounding of ``|A| |x| |r|``. Where a long x makes this
    more than a rounding of ``|b|^2``, it is ``|b|^2 - |c|^2``.
    """
    setup = held.setup
    assert held.h is not None
    x = held.solve(held.h) if len(held.L) else np.zeros((rows.d, rows.k))
    squares, g, squares_b = rows.fold(functools.partial(_gradient, setup, x), _cached(rows))
    if len(held.L):
        c, away = (
            scipy.linalg.solve_triangular(held.L, v, lower=True, check_finite=False) for v in (held.h, held.P.T @ g)
        )
        long = np.linalg.norm(held.L.T @ held.back) * np.linalg.norm(x, axis=0) * np.sqrt(squares) > squares_b
        squares = np.where(long, squares_b - np.sum(c * c, axis=0), squares - np.sum(away * away, axis=0))
    return np.sqrt(np.maximum(squares, 0)) * setup.scale_b


def _counted(rows: Rows) -> int:
    """The number of rows with a weight above zero."""
    if rows.roots is not None:
        return int(np.count_nonzero(rows.roots))
    if rows.n is not None:
        return rows.n
    return int(rows.fold(_count)[0])


def _count(block: Block) -> tuple[int]:
    return (block.X.shape[0] if block.roots is None else int(np.count_nonzero(block.roots)),)


@dataclass(frozen=True)
class Solution:
    """A solution, and what a read of A at it says.

    ``x`` (d, k), ``t`` (k,) the intercepts, ``norms`` (k,) of the residuals, without those of a ridge; `error` is the
    backward error, relative to A before it is centred; ``slopes`` (rank, k) are ``P^T`` times the gradients, in scaled
    units.
    """

    x: Matrix
    t: Matrix
    norms: Matrix
    error: float
    slopes: Matrix


def refined_solution(rows: Rows, parts: Parts, setup: Setup, loop: Loop) -> Solution:
    """The solution of a compressed problem, and its backward error from a read of A; refined while that is too large.

    It is as good as by QR to begin with, so that a refinement is seldom needed.

    Parameters
    ----------
    rows : Rows
        Without a column of ones.
    parts : Parts
        Of their factor.
    setup : Setup
        From ``parts.setup``.
    loop : Loop
    """
    f = setup.factors
    centre = parts.x_offset if setup.scale is None else parts.x_offset / setup.scale
    size, spread = parts.sizes(setup), parts.spread()

    def at(z: Matrix) -> tuple[Matrix, Matrix, Matrix, float]:
        t = intercepts(parts, setup, z)
        squares, g, g_t = rows.fold(functools.partial(gradient_beside, setup, z, t), _cached(rows))
        p = f.P.T @ (g - centre[:, None] * g_t - f.alpha * z)
        error = setup.backward_error(z, squares + f.alpha * np.sum(z * z, axis=0), p, size)
        return t, squares, p, error / spread

    z = setup.x0
    t, squares, p, error = at(z)
    for _ in loop.stage(error=error):
        before, z = error, z + f.P @ p
        t, squares, p, error = at(z)
        # rounding is reached where a second step does not help
        loop.report(error, done=error <= 10 * loop.tol and error > before / 2)
    return Solution(setup.solution(z), t * setup.scale_b, np.sqrt(squares) * setup.scale_b, error, p)


def intercepts(parts: Parts, setup: Setup, z: Matrix) -> Matrix:
    """The best intercepts for scaled coefficients, scaled."""
    x = z if setup.scale is None else z / setup.scale[:, None]
    return np.asarray(parts.y_offset / setup.scale_b - parts.x_offset @ x)


def gradient_beside(setup: Setup, x: Matrix, t: Matrix, block: Block) -> tuple[Matrix, Matrix, Matrix]:
    """Squared residuals, ``A^T r`` and ``1^T r``, where t is added to every row."""
    X, y = scaled_block(block, setup)
    roots = np.ones(X.shape[0]) if block.roots is None else block.roots
    r = y - X @ x - roots[:, None] * t
    return np.sum(r * r, axis=0), X.T @ r, roots @ r
