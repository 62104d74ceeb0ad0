"""What all precise solvers begin with: a sketch of [A b], and from it the rank, a preconditioner, a first solution.

Notation: A (n, d) with the roots of weights multiplied into its rows; S a sketch; ``S A D^-1 = U diag(sigma) V^T`` with
column scales D; ``P = D^-1 V diag(sigma)^-1``, so that A P has singular values near 1. Everything from here on is
float64.

Powers of two that take extreme columns of A, and an extreme b, near 1 are divided out as blocks are read: squares
neither overflow nor vanish, and nothing is rounded.

References
----------
E. N. Epperly, "Fast and Forward Stable Randomized Algorithms for Linear Least-Squares Problems", SIMAX 2024;
E. N. Epperly, M. Meier and Y. Nakatsukasa, "Fast Randomized Least-Squares Solvers Can Be Just as Accurate and Stable as
Classical Direct Solvers", 2024, section 3.3 (the estimate of the backward error).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from numcore.algorithms.sketching._loops import READ_TWICE, residual_rows
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import Block, Rows, is_sparse
from numcore.algorithms.sketching.operators import make_sketch
from numcore.arrays import array_namespace, is_numpy, to_numpy

__all__ = ["Factors", "Point", "Setup", "beside", "normal_product", "point", "prepare", "scaled_block"]

Matrix = np.ndarray[Any, np.dtype[np.float64]]

UNIT = float(np.finfo(np.float64).eps)

EXTREME = 2.0**300
"""Columns, and right-hand sides, between its inverse and itself are left as they are."""

FEW = 1 << 15
"""Entries up to which NumPy is done before a compiled loop has been found."""

TALL = 32
"""Rows a column from which products are much faster than reflections."""

EVEN = 30.0
"""The condition number up to which one Cholesky factor makes a matrix orthonormal."""

PROBE_BYTES = 1 << 25
"""Bytes of the columns of S^T that an operator is multiplied with at a time."""


@dataclass(frozen=True)
class Factors:
    """``S A D^-1 = U diag(sigma) V^T``, cut off at the rank, and ``P = D^-1 V diag(sigma)^-1``.

    `D` is 1 where the rank is below d, so that solutions are of minimum norm. Below the rows of S A lie those of a
    ridge, ``sqrt(alpha)`` times the identity. At full rank, `R` is the triangle of a QR of ``S A D^-1``. `U` has no
    columns where nobody asked for it.
    """

    P: Matrix
    sigma: Matrix
    V: Matrix
    D: Matrix
    U: Matrix
    R: Matrix | None
    alpha: float


@dataclass(frozen=True)
class Setup:
    """The sketched problem, scaled.

    Attributes
    ----------
    factors : Factors
    x0 : (d, k) array
        The solution of the sketched problem.
    scale : (d,) array or None
        What columns of A are divided by as they are read.
    scale_b : float
        What b is divided by.
    m : int
        Rows of the sketch.
    kind : str or None
        Its kind; None where A was taken itself.
    Sb : (m, k) array
        The sketch of b, scaled.
    """

    factors: Factors
    x0: Matrix
    scale: Matrix | None
    scale_b: float
    m: int
    kind: str | None
    Sb: Matrix

    @property
    def rank(self) -> int:
        """How many singular values of the sketch are not negligible."""
        return len(self.factors.sigma)

    def solution(self, x: Matrix) -> Matrix:
        """x, scaled back."""
        x = x * self.scale_b
        return x if self.scale is None else x / self.scale[:, None]

    def residual_norm(self, at: Point) -> float:
        """The largest norm of a residual, scaled back."""
        return float(np.sqrt(at.squares.max(initial=0.0))) * self.scale_b

    @property
    def cond(self) -> float:
        """The condition number of the scaled sketch."""
        sigma = self.factors.sigma
        return float(sigma[0] / sigma[-1]) if self.rank else 1.0

    def backward_error(self, x: Matrix, squares: Matrix, p: Matrix, norm_b: Matrix) -> float:
        """The estimate of Karlson and Walden for the column-scaled problem; the largest of the right-hand sides.

        Parameters
        ----------
        x : (d, k) array
        squares : (k,) array
            Squared norms of the residuals (with those of the ridge).
        p : (rank, k) array
            ``P^T g`` of the gradients ``g = A^T r - alpha x``.
        norm_b : (k,) array
            Norms of the right-hand sides.
        """
        sigma, D = self.factors.sigma, self.factors.D
        F, error = _norm(sigma), 0.0
        for j in range(len(norm_b)) if self.rank else ():
            if norm_b[j] <= 0:
                continue
            theta = F / float(norm_b[j])
            reach = theta * _norm(D * x[:, j])
            reach = 1 + reach * reach
            # V^T D^-1 g = sigma p
            weighted = sigma * p[:, j] / np.sqrt(sigma * sigma + theta * theta * float(squares[j]) / reach)
            error = max(error, theta / math.sqrt(reach) * _norm(weighted) / F)
        return error


def _norm(v: Matrix) -> float:
    return math.sqrt(v @ v)


@dataclass(frozen=True)
class Point:
    """Where an iteration stands: x (d, k), and what one read of A says of it.

    ``squares`` (k,) are squared norms of the residuals, with those of a ridge; ``g`` (d, k) the gradients
    ``A^T r - alpha x``, ``p = P^T g``; ``error`` is the backward error. `norm_b` (k,) comes with them.
    """

    x: Matrix
    squares: Matrix
    g: Matrix
    p: Matrix
    norm_b: Matrix
    error: float


def prepare(
    rows: Rows,
    *,
    m: int,
    kind: str,
    alpha: float = 0.0,
    rcond: float | None = None,
    basis: bool = True,
    rng: Any = None,
) -> Setup:
    """Read A once, and prepare to solve.

    Parameters
    ----------
    rows : Rows
        A, b and weights.
    m : int
        Rows of the sketch. If they are at least those of A, it is A itself.
    kind : str
        Of the sketch.
    alpha : float
        Of a ridge, ``alpha |x|^2``.
    rcond : float, optional
        Singular values of the scaled sketch up to `rcond` times the largest are taken for zero; by default 64 eps of
        the dtype of A. (Were it to grow with n, true directions of float32 data would be dropped.)
    basis : bool
        Whether the left singular vectors of the sketch are wanted; they cost as much as all the rest.
    rng : optional
        Of the sketch.

    Raises
    ------
    ValueError
        If entries of A are not finite.
    """
    k = max(rows.k, 1)
    kind_used = None if rows.n is not None and rows.n <= m else kind
    with np.errstate(over="ignore", invalid="ignore"):
        if kind_used is None:
            SA, Sb = _whole(rows, k)
        else:
            S = make_sketch(kind, m, rows.n if kind == "uniform" else None, rng=rng)
            m = S.m
            SA, Sb = rows.fold(functools.partial(_sketch, S, k), rows.step(S._grain))
    if not (np.isfinite(SA).all() and np.isfinite(Sb).all()):
        rows.refuse_nonfinite()
        raise ValueError("A or b is too large: sums of its entries overflow; divide it by a power of two")
    rcond = 64 * float(np.finfo(rows.dtype_A).eps) if rcond is None else rcond
    return _reduced(SA, Sb, alpha, rcond, m if kind_used else len(SA), kind_used, basis=basis)


def _sketch(S: SketchOperator, k: int, block: Block) -> tuple[Matrix, Matrix]:
    """The sketch of a block, and of its right-hand sides."""
    y = np.zeros((S.m, k)) if block.y is None else to_numpy(S._sum(block.y, block.start, block.roots))
    if not isinstance(block.X, LinearOperator):
        return to_numpy(S._sum(block.X, block.start, block.roots)), y
    X, _ = block.weighted()
    step = max(1, PROBE_BYTES // (8 * X.shape[0]))
    parts = [X.T @ _rows_of_sketch(S, i, min(i + step, S.m), X.shape[0]) for i in range(0, S.m, step)]
    return np.concatenate(parts, axis=1).T, y


def _rows_of_sketch(S: SketchOperator, begin: int, stop: int, n: int) -> Matrix:
    """Rows `begin` to ``stop - 1`` of the first n columns of S, transposed."""
    chosen = np.zeros((S.m, stop - begin))
    chosen[np.arange(begin, stop), np.arange(stop - begin)] = 1.0
    return S._transposed_product(chosen, n)


def _whole(rows: Rows, k: int) -> tuple[Matrix, Matrix]:
    """A and b themselves, weighted."""
    assert rows.n is not None
    if rows.lazy:
        A, b = rows.fold(functools.partial(_place, rows.n, k))
        return A, b
    read = list(rows.blocks())
    if len(read) == 1 and is_numpy(read[0].X) and read[0].y is not None:
        return scaled_block(read[0])
    blocks = [_place(block.X.shape[0], k, replace(block, start=0)) for block in read]
    return np.concatenate([A for A, _ in blocks]), np.concatenate([b for _, b in blocks])


def _place(n: int, k: int, block: Block) -> tuple[Matrix, Matrix]:
    """A block at its place among n rows."""
    X, y = scaled_block(block)
    A, b = np.zeros((n, X.shape[1])), np.zeros((n, k))
    s = slice(block.start, block.start + X.shape[0])
    A[s] = X.toarray() if is_sparse(X) else X @ np.eye(X.shape[1]) if isinstance(X, LinearOperator) else to_numpy(X)
    if y is not None:
        b[s] = to_numpy(y)
    return A, b


def _reduced(
    SA: Matrix, Sb: Matrix, alpha: float, rcond: float, m: int, kind: str | None, *, basis: bool = True
) -> Setup:
    Sb = Sb.astype(np.float64, copy=False)
    wide = len(SA) < SA.shape[1]
    scale, scale_b = _scale(SA, uniform=alpha > 0 or wide), _scale(Sb.reshape(-1, 1), uniform=True)
    divisor_b = 1.0 if scale_b is None else float(scale_b[0])
    Sb = Sb / divisor_b if divisor_b != 1 else Sb
    if wide:
        return Setup(*_wide_factors(SA, Sb, scale, alpha, rcond), scale, divisor_b, m, kind, Sb)
    factors, x0 = _factors(SA, Sb, scale, alpha, rcond, columnwise=True, basis=basis)
    if len(factors.sigma) < SA.shape[1]:
        # scaled columns have other null vectors: range(P) has to be the row space of A itself
        scale = _scale(SA, uniform=True)
        factors, x0 = _factors(SA, Sb, scale, alpha, rcond, columnwise=False, basis=basis)
    return Setup(factors, x0, scale, divisor_b, m, kind, Sb)


def _scale(M: Matrix, *, uniform: bool) -> Matrix | None:
    """Powers of two near the largest entry of each column, or near the greatest of them, where these are extreme; None
    if none is.
    """
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->j", M, M)
    # the largest entry is at most the norm, and at least the norm over the root of the length
    if squares.max() <= EXTREME**2 and squares.min() >= len(M) / EXTREME**2:
        return None
    return _powers(np.abs(M).max(axis=0), uniform=uniform)


def _powers(tops: Matrix, *, uniform: bool) -> Matrix | None:
    """The same from the largest entries."""
    tops = np.asarray(tops, dtype=np.float64)
    if tops.max() <= EXTREME and tops.min() >= 1 / EXTREME:
        return None
    if uniform:
        tops = np.full_like(tops, tops.max(initial=0.0))
    extreme = (tops > 0) & ((tops > EXTREME) | (tops < 1 / EXTREME))
    if not extreme.any():
        return None
    return np.where(extreme, np.exp2(np.frexp(np.where(extreme, tops, 1.0))[1] - 1.0), 1.0)


def _factors(
    SA: Matrix, Sb: Matrix, scale: Matrix | None, alpha: float, rcond: float, *, columnwise: bool, basis: bool
) -> tuple[Factors, Matrix]:
    """The factors, and the solution of the sketched problem."""
    d = SA.shape[1]
    SA, alpha = _divided(SA, scale, alpha)
    tall, norms = len(SA) + (d if alpha else 0), np.sqrt(np.einsum("ij,ij->j", SA, SA) + alpha)
    D = np.where(norms > 0, norms, 1.0) if columnwise else np.ones(d)
    M = np.zeros((tall, d + Sb.shape[1]), order="C" if basis else "F")
    np.divide(SA, D, out=M[: len(SA), :d])
    M[: len(SA), d:] = Sb
    if alpha:
        M[len(SA) :, :d] = np.diag(alpha**0.5 / D)
    if basis:
        Q, R = _thin_qr(np.ascontiguousarray(M[:, :d]))
        c = Q.T @ M[:, d:]
    else:
        # LAPACK itself: NumPy's QR would copy M
        R = scipy.linalg.lapack.dgeqrf(M, overwrite_a=True)[0]
        R, c = np.triu(R[: min(tall, d), :d]), R[: min(tall, d), d:]
    U, sigma, Vt = np.linalg.svd(R, full_matrices=False)
    rank = int(np.count_nonzero(sigma > rcond * sigma[0]))
    V, sigma = Vt[:rank].T, sigma[:rank]
    V[norms == 0] = 0.0  # exactly, so that such columns get no coefficient
    P = V / D[:, None] / sigma
    triangle: Matrix | None = np.asarray(R, np.float64) if rank == d else None
    left = Q @ U[:, :rank] if basis else np.zeros((tall, 0))
    return Factors(P, sigma, V, D, left, triangle, alpha), P @ (U[:, :rank].T @ c)


def _wide_factors(SA: Matrix, Sb: Matrix, scale: Matrix | None, alpha: float, rcond: float) -> tuple[Factors, Matrix]:
    """The same for fewer rows than columns: on the row space of A, where the solution is, with a ridge too."""
    SA, alpha = _divided(SA, scale, alpha)
    U, s, Vt = np.linalg.svd(SA, full_matrices=False)
    sigma = np.sqrt(s * s + alpha)
    # roundings of zero, which a ridge would make look like more
    rank = int(np.count_nonzero((sigma > rcond * sigma[0]) & (s > len(s) * UNIT * s[0])))
    V, sigma, left = Vt[:rank].T, sigma[:rank], U[:, :rank] * (s[:rank] / sigma[:rank])
    V[~SA.any(axis=0)] = 0.0
    P = V / sigma
    return Factors(P, sigma, V, np.ones(SA.shape[1]), left, None, alpha), P @ (left.T @ Sb)


def _divided(SA: Matrix, scale: Matrix | None, alpha: float) -> tuple[Matrix, float]:
    """In the scales of the columns, which with a ridge are all alike."""
    if scale is None:
        return SA, alpha
    # an overflow means a solution of zero all the same
    return SA / scale, min(alpha / float(scale[0]) / float(scale[0]), 1e300)


def _thin_qr(A: Matrix) -> tuple[Matrix, Matrix]:
    """Q and R; of a tall matrix at the speed of products, as good as by Householder.

    The triangle of some of the rows makes the matrix well conditioned, and a Cholesky factor of its Gram matrix
    orthonormal.
    """
    n, d = A.shape
    if n >= TALL * d:
        some = A[:: n // (8 * d)]
        R = np.triu(scipy.linalg.lapack.dgeqrf(some)[0][:d]) * (n / len(some)) ** 0.5
        if R.diagonal().all():
            with np.errstate(over="ignore", invalid="ignore"):
                W = scipy.linalg.blas.dtrsm(1.0, R, A.T, trans_a=1).T
                L, failed = scipy.linalg.lapack.dpotrf(W.T @ W, lower=1)
            if not failed and np.linalg.cond(L) <= EVEN:
                U = np.asfortranarray(L.T)
                return scipy.linalg.blas.dtrsm(1.0, U, W.T, trans_a=1, overwrite_b=True).T, U @ R
    Q, R = np.linalg.qr(A)
    return Q, R


def scaled_block(block: Block, setup: Setup | None = None) -> tuple[Any, Any]:
    """The rows of a block and of its right-hand sides in float64, weighted and scaled."""
    X, y = block.weighted()
    free = isinstance(X, LinearOperator)
    if not (free or is_numpy(X) or is_sparse(X)) and array_api_compat.is_array_api_obj(X):
        xp = array_namespace(X)
        X = xp.astype(X, xp.float64, copy=False)
        if setup is not None and setup.scale is not None:
            X = X / beside(X, setup.scale)
        if y is None:
            return X, None
        y = xp.astype(y, xp.float64, copy=False)
        return X, y if setup is None or setup.scale_b == 1 else y / setup.scale_b
    X = X if free else X.astype(np.float64, copy=False)
    if setup is None:
        return X, y
    if setup.scale is not None and free:
        X = X @ aslinearoperator(scipy.sparse.diags_array(1 / setup.scale))
    elif setup.scale is not None:
        X = X.multiply(1 / setup.scale).tocsr() if is_sparse(X) else X / setup.scale
    return X, y if y is None or setup.scale_b == 1 else y / setup.scale_b


def beside(X: Any, small: Matrix) -> Any:
    """A small array where the products with X are taken."""
    if is_numpy(X) or not array_api_compat.is_array_api_obj(X):
        return small
    return array_namespace(X).asarray(small, device=array_api_compat.device(X))


def point(rows: Rows, setup: Setup, x: Matrix) -> Point:
    """Read A once to see where x is."""
    f = setup.factors
    squares, g, squares_b = rows.fold(functools.partial(_gradient, setup, x), _step(rows, setup, x))
    squares, g, norm_b = squares + f.alpha * np.sum(x * x, axis=0), g - f.alpha * x, np.sqrt(squares_b)
    p = f.P.T @ g
    return Point(x, squares, g, p, norm_b, setup.backward_error(x, squares, p, norm_b))


def _gradient(setup: Setup, x: Matrix, block: Block) -> tuple[Matrix, Matrix, Matrix]:
    if _fused(setup, x) and is_numpy(block.X) and block.X.size > FEW:
        g, squares = np.zeros(len(x)), np.zeros(2)
        residual_rows(block.X, block.roots, block.y[:, 0], x[:, 0], g, squares)
        return squares[:1], g[:, None], squares[1:]
    X, y = scaled_block(block, setup)
    r = y - X @ beside(X, x)
    if not is_numpy(r):
        xp = array_namespace(r)
        return to_numpy(xp.sum(r * r, axis=0)), to_numpy(X.T @ r), to_numpy(xp.sum(y * y, axis=0))
    return np.einsum("ij,ij->j", r, r), X.T @ r, np.einsum("ij,ij->j", y, y)


def normal_product(rows: Rows, setup: Setup, y: Matrix) -> Matrix:
    """``P^T (A^T A + alpha) P y`` in one read of A."""
    f = setup.factors
    z = f.P @ y
    (product,) = rows.fold(functools.partial(_normal, setup, z), _step(rows, setup, z))
    return f.P.T @ (product + f.alpha * z)


def _normal(setup: Setup, z: Matrix, block: Block) -> tuple[Matrix]:
    if _fused(setup, z) and is_numpy(block.X):
        g = np.zeros(len(z))
        residual_rows(block.X, block.roots, None, z[:, 0], g, np.zeros(2))
        return (-g[:, None],)
    X, _ = scaled_block(block, setup)
    return (to_numpy(X.T @ (X @ beside(X, z))),)


def _fused(setup: Setup, x: Matrix) -> bool:
    """Whether a compiled loop reads rows as they are: one vector, and nothing to divide by."""
    return x.shape[1] == 1 and setup.scale is None and setup.scale_b == 1


def _step(rows: Rows, setup: Setup, x: Matrix) -> int | None:
    """Rows to be read at a time where they are used twice."""
    if type(rows) is Rows and (rows.foreign or (_fused(setup, x) and not rows.sparse)):
        return None
    return _cached(rows)


def _cached(rows: Rows) -> int:
    return max(8, READ_TWICE // (8 * rows.d))
