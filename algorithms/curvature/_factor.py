"""The factor of a small matrix K = K0 + shift I that is positive definite, if need be by decree."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg

__all__ = ["Factor", "is_singular"]

Matrix = np.ndarray[Any, Any]

EPS = float(np.finfo(np.float64).eps)
SINGLE = 100.0
"""The condition of L up to which its inverse may be rounded to float32: what that costs is measured at 1e-6."""


SINGULAR = 1e-9
"""The share of itself that a row adds to those before it, below which it is as good as a combination of them."""


def is_singular(pivots: Matrix, diagonal: Matrix) -> bool:
    """Whether a matrix with this diagonal, whose factor has these pivots, is singular but for its shift."""
    return bool(np.min(pivots**2 / diagonal, initial=1.0) < SINGULAR)


class Factor:
    """``K = K0 + shift I`` in float64 on the host, factored as ``L L^T``.

    One array holds both: L in its lower triangle, K0 above. Where K is not positive definite to rounding, because
    `shift` is below the rounding of K0, eigenvalues take the place of L; those of K0 that are noise count as 0.

    Parameters
    ----------
    K0 : (n, n) array
        Symmetric, positive semi-definite but for rounding.
    shift : float
        Positive.
    """

    def __init__(self, K0: Matrix, shift: float) -> None:
        self.n, self.shift = len(K0), shift
        self.diagonal = np.diagonal(K0).copy()
        self.packed = np.array(K0, np.float64, order="F")
        self.spectrum: tuple[Matrix, Matrix] | None = None
        if self.n and not self._factor():
            self._decompose()

    def _factor(self) -> bool:
        np.fill_diagonal(self.packed, self.diagonal + self.shift)
        self.packed, info = scipy.linalg.lapack.dpotrf(self.packed, lower=1, clean=0, overwrite_a=1)
        # in exact arithmetic the square of a pivot is at least the shift
        return bool(info == 0 and self.pivots.min() ** 2 >= 0.5 * self.shift)

    def _decompose(self) -> None:
        k, Q = np.linalg.eigh(self.gram)
        noise = self.n * EPS * max(k[-1], 0.0)
        warnings.warn(
            f"K = G G^T + c damp I is not positive definite in float64: its greatest eigenvalue is {k[-1]:.2g}, "
            f"{k[-1] / self.shift:.2g} times c damp = {self.shift:.2g}; eigenvalues below c damp are set to it. "
            "A larger damp would be felt.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.spectrum = np.where(k > noise, k, 0.0) + self.shift, Q

    @property
    def pivots(self) -> Matrix:
        """The diagonal of L."""
        return np.diagonal(self.packed)

    @property
    def gram(self) -> Matrix:
        """K0."""
        K0 = np.triu(self.packed, 1)
        K0 += K0.T
        np.fill_diagonal(K0, self.diagonal)
        return K0

    def shifted(self, shift: float) -> Factor:
        """The factor at another shift."""
        return Factor(self.gram, shift)

    def solve(self, B: Matrix) -> Matrix:
        """``K^-1 B``."""
        if not self.n:
            return np.zeros(B.shape)
        if self.spectrum is None:
            return scipy.linalg.cho_solve((self.packed, True), B, check_finite=False)
        k, Q = self.spectrum
        return Q @ ((Q.T @ B).T / k).T

    def solve_in_range(self, B: Matrix) -> Matrix:
        """``K^-1 B`` up to what ``G^T`` takes to 0.

        Rows of G that are combinations of others are left out of the solution. In the directions that they make K^-1
        is 1 / shift, and what ``G^T`` should cancel again would leave its rounding.
        """
        if self.spectrum is None and not is_singular(self.pivots, self.diagonal + self.shift):
            return self.solve(B)
        held, T = self._basis
        # G = T G_h: (K_h + shift W^-1) s_h = W^-1 T^T a, where W = T^T T
        W = scipy.linalg.cho_factor(T.T @ T)
        shift = scipy.linalg.cho_solve(W, self.shift * np.eye(len(held)))
        s = np.zeros(B.shape)
        s[held] = np.linalg.solve(self.gram[np.ix_(held, held)] + shift, scipy.linalg.cho_solve(W, T.T @ B))
        return s

    @cached_property
    def _basis(self) -> tuple[Matrix, Matrix]:
        """Rows of G that span the others, and T with ``G = T G_h``; found by pivots, with all rows scaled to 1."""
        root = np.sqrt(np.where(self.diagonal > 0, self.diagonal, 1.0))
        K = self.gram / root / root[:, None]
        L, order, rank, _ = scipy.linalg.lapack.dpstrf(K, tol=4 * self.n * EPS, lower=1)
        held = order[:rank] - 1
        T = scipy.linalg.cho_solve((L[:rank, :rank], True), K[held]).T
        return held, T * root[:, None] / root[held]

    def half(self, B: Matrix) -> Matrix:
        """``R B`` for a matrix R with ``R^T R = K^-1``: that of `whitener`."""
        if not self.n:
            return np.zeros(B.shape)
        if self.spectrum is None:
            return scipy.linalg.solve_triangular(self.packed, B, lower=True, check_finite=False)
        return self.whitener() @ B

    def whitener(self) -> Matrix:
        """R itself: L^-1."""
        if not self.n:
            return np.zeros((0, 0))
        if self.spectrum is None:
            return np.tril(scipy.linalg.lapack.dtrtri(self.packed, lower=1)[0])
        k, Q = self.spectrum
        return (Q / np.sqrt(k)).T

    def whitener_in(self, dtype: Any) -> Matrix:
        """R in the dtype in which products with it are exact enough for results in `dtype`."""
        R = self.whitener()
        if dtype == np.float64 or not self.n:
            return R.astype(dtype)
        # in the mean of its directions; 1 for the identity
        condition = np.sqrt(self.diagonal.sum() + self.n * self.shift) * np.linalg.norm(R) / self.n
        return R.astype(np.float32) if condition <= SINGLE else R

    @property
    def logdet(self) -> float:
        """``log det K``."""
        if not self.n:
            return 0.0
        return float(2 * np.log(self.pivots).sum() if self.spectrum is None else np.log(self.spectrum[0]).sum())

    @cached_property
    def eigenvalues(self) -> Matrix:
        """Those of K, at least `shift` each."""
        if self.spectrum is not None or not self.n:
            return self.spectrum[0] if self.spectrum is not None else np.zeros(0)
        return np.maximum(np.linalg.eigvalsh(self.gram), 0.0) + self.shift
