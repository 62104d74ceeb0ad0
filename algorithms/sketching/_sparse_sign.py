"""Sketches with a few random signs in each column: CountSketch, and its block form with s of them.

References
----------
K. Clarkson and D. Woodruff, "Low Rank Approximation and Regression in Input Sparsity Time", STOC 2013 (s = 1);
J. Nelson and H. Nguyen, "OSNAP: Faster Numerical Linear Algebra Algorithms via Sparser Subspace Embeddings", FOCS 2013
(the block form).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from numcore.algorithms.sketching._generator import positions, signs, words
from numcore.algorithms.sketching._loops import scatter_csr, scatter_rows
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import is_sparse
from numcore.arrays import Array, as_count, is_numpy

__all__ = ["CountSketch", "SparseSign"]


class SparseSign(SketchOperator):
    """The m rows are cut into s blocks; each column has one entry, of +-1/sqrt(s), at a random place of each block."""

    kind = "sparse_sign"
    is_dense = False

    def __init__(self, m: int, n: int | None, seed: int, s: int = 8) -> None:
        self.s = as_count(s, "s")
        m = as_count(m, "m")
        if m < self.s:
            raise ValueError(f"m must be at least s = {self.s}, the nonzeros of a column; got {m}")
        super().__init__(m // self.s * self.s, n, seed)
        self._width = self.m // self.s
        if self._width >= 1 << 32:
            raise ValueError(f"m must be below s * 2**32; got {m}")

    @property
    def params(self) -> dict[str, Any]:
        return {"s": self.s}

    @property
    def _scale(self) -> float:
        return float(self.s**-0.5)

    def _add(self, X: Any, start: int, roots: np.ndarray[Any, Any] | None, out: Array) -> None:
        if is_sparse(X):
            scatter_csr(X.data, X.indices, X.indptr, roots, start, self.seed, self.s, self._width, out)
        elif is_numpy(X):
            scatter_rows(X, roots, start, self.seed, self.s, self._width, out)
        else:
            super()._add(X, start, roots, out)

    def _entries(self, start: int, stop: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The rows of S in which columns `start` to ``stop - 1`` have entries, and their signs: (stop - start, s)."""
        w = words(self.seed, start, stop - start, self.s)
        return positions(w, self._width) + self._width * np.arange(self.s), signs(w)

    def _rows_of_adjoint(self, Y: np.ndarray[Any, Any], start: int, stop: int) -> np.ndarray[Any, Any]:
        at, sign = self._entries(start, stop)
        result = np.zeros((stop - start, Y.shape[1]))
        for k in range(self.s):
            result += sign[:, k, None] * Y[at[:, k]]
        return result

    def tosparse(self) -> scipy.sparse.csr_array:
        n = self._length("tosparse")
        at, sign = self._entries(0, n)
        pointers = np.arange(0, self.s * n + 1, self.s)
        S = scipy.sparse.csc_array((self._scale * sign.ravel(), at.ravel(), pointers), shape=(self.m, n))
        return S.tocsr()


class CountSketch(SparseSign):
    """One random sign in each column."""

    kind = "countsketch"

    def __init__(self, m: int, n: int | None, seed: int) -> None:
        super().__init__(m, n, seed, 1)

    @property
    def params(self) -> dict[str, Any]:
        return {}
