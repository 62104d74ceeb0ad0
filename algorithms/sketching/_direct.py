"""Least squares by sketch-preconditioned Cholesky-QR with refinement: two passes as fast as products, then one a step.

``W = A P`` is well conditioned, so that its Gram matrix G has a Cholesky factor as good as a QR of A; one step of
``x <- x + P G^-1 P^T (A^T (b - A x))`` makes the solution as backward stable as that of Householder QR. The pass also
gives all there is to know of A for least squares: with ``T = L^T diag(sigma) V^T D`` and ``c = L^-1 h``,
``|A x - b|^2 = |T x - c|^2 + rho^2`` for every x.

References
----------
Y. Fan, Y. Guo and T. Lin, "A Novel Randomized XR-Based Preconditioned CholeskyQR Algorithm", 2021; E. N. Epperly,
M. Meier and Y. Nakatsukasa, "Fast Randomized Least-Squares Solvers Can Be Just as Accurate and Stable as Classical
Direct Solvers", 2024.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from numcore.algorithms._estimators import blas_threads
from numcore.algorithms.sketching._rows import Block, Rows, is_sparse
from numcore.algorithms.sketching._setup import Matrix, Point, Setup, beside, point, scaled_block
from numcore.arrays import is_numpy, to_numpy
from numcore.results import Loop

__all__ = ["Compression", "compressed", "refined"]

PRODUCT = 1 << 19
"""Entries of A P that are formed at a time: with those of A they fit the third-level cache."""

STEADY = 1e3
"""Entries of ``abs(R^-1) abs(R)`` up to which products with the inverse of a triangle R are as good as substitution."""

PRODUCT_AWAY = 1 << 23
"""The same for arrays of another library, which may be on a device that takes large products faster."""


@dataclass(frozen=True)
class Compression:
    """What one pass leaves: the Gram matrix of ``W = A P``, with its ridge, as ``L L^T``, and ``h = W^T b``.

    The preconditioner `P` (d, rank) is triangular where the rank is d, which halves the work; ``back`` is its inverse.
    With `plain` it holds no more than column scales.
    """

    setup: Setup
    P: Matrix
    back: Matrix
    L: Matrix
    h: Matrix | None
    plain: bool

    def solve(self, g: Matrix) -> Matrix:
        """``P (P^T A^T A P)^-1 g``."""
        return self.P @ scipy.linalg.cho_solve((self.L, True), g, check_finite=False)

    def triangle(self) -> Matrix:
        """T, (rank, d), such that ``T^T T = A^T A + alpha``, at the scale of A."""
        T = self.L.T @ self.back
        return T if self.setup.scale is None else T * self.setup.scale

    def target(self) -> Matrix:
        """c, (rank, k), such that ``T^T c = A^T b``, at the scale of b."""
        assert self.h is not None
        return scipy.linalg.solve_triangular(self.L, self.h, lower=True, check_finite=False) * self.setup.scale_b


def compressed(rows: Rows, setup: Setup, *, plain: bool = False, target: bool = True) -> Compression | None:
    """Pass over ``A P``; None if its Gram matrix has no Cholesky factor. With `plain`, over A with scaled columns.

    With `target`, b is multiplied too.

    W is as good as Householder's QR would have it where it times the inverse of P is A, but for roundings of each
    column. With the P of a singular value decomposition it always is. With that of a triangle, at half the work, it is
    unless columns in the middle are nearly the same. For sparse rows, and for arrays elsewhere, a triangle saves
    nothing.
    """
    f = setup.factors
    work: Callable[[Block], tuple[Matrix, ...]]
    if plain:
        P, back, work = np.diag(1 / f.D), np.diag(f.D), functools.partial(_plain_products, setup, target)
    elif f.R is not None and (inverse := _steady_inverse(rows, f.R)) is not None:
        P, back = inverse / f.D[:, None], f.R * f.D
        # the threads of NumPy's BLAS and of SciPy's, taking turns, would wait for each other
        alone = blas_threads() == 1
        work = functools.partial(_triangular_products, setup, target, np.asfortranarray(P), alone)
    else:
        P, back, work = f.P, f.sigma[:, None] * f.V.T * f.D, functools.partial(_products, setup, target)
    G, *found = rows.fold(work, max((PRODUCT_AWAY if rows.foreign else PRODUCT) // rows.d, rows.d))
    if plain:
        G, found = G / f.D / f.D[:, None], [h / f.D[:, None] for h in found]
    try:
        L = scipy.linalg.cholesky(G + f.alpha * (P.T @ P), lower=True, check_finite=False) if len(G) else G
    except np.linalg.LinAlgError:
        return None
    return Compression(setup, P, back, L, found[0] if target else None, plain)


def _products(setup: Setup, target: bool, block: Block) -> tuple[Matrix, ...]:
    """``W^T W`` and ``W^T y`` for W = X P."""
    X, y = scaled_block(block, setup)
    return _squared(X @ beside(X, setup.factors.P), y, target)


def _steady_inverse(rows: Rows, R: Matrix) -> Matrix | None:
    """``R^-1``, where products with it are as good as substitution, and cheaper than those with a full matrix."""
    if rows.sparse or rows.foreign or not R.diagonal().all():
        return None
    inverse = scipy.linalg.solve_triangular(R, np.eye(len(R)), check_finite=False)
    return inverse if np.max(np.abs(inverse) @ np.abs(R)) <= STEADY else None


def _triangular_products(setup: Setup, target: bool, P: Matrix, alone: bool, block: Block) -> tuple[Matrix, ...]:
    X, y = scaled_block(block, setup)
    if is_numpy(X) and alone:  # BLAS sees rows in C order as columns: W^T = P^T X^T
        return _squared(scipy.linalg.blas.dtrmm(1.0, P, X.T, trans_a=1).T, y, target)
    return _squared(X @ beside(X, P), y, target)


def _plain_products(setup: Setup, target: bool, block: Block) -> tuple[Matrix, ...]:
    return _squared(*scaled_block(block, setup), target)


def _squared(W: Any, y: Matrix | None, target: bool) -> tuple[Matrix, ...]:
    G = W.T @ W
    G = G.toarray() if is_sparse(G) else to_numpy(G)
    if not target:
        return (G,)
    return G, np.zeros((len(G), 0)) if y is None else to_numpy(W.T @ y)


def refined(rows: Rows, held: Compression, loop: Loop, state: Callable[[Matrix], dict[str, Any]]) -> Point:
    """Steps of refinement: at least one, and until none helps.

    They start from the solution of the compressed problem, or, without its right-hand side, of the sketched one.
    """
    setup = held.setup
    at = point(rows, setup, setup.x0 if held.h is None or not len(held.L) else held.solve(held.h))
    for _ in loop.stage():
        before = at.error
        at = point(rows, setup, at.x + (held.solve(held.P.T @ at.g) if len(held.L) else 0.0))
        # rounding is reached where a second step does not help
        done = at.error <= 10 * loop.tol and loop.n_iter > 0 and at.error > before / 2
        loop.report(at.error, done=done, state=functools.partial(state, at.x), residual_norm=setup.residual_norm(at))
    return at
