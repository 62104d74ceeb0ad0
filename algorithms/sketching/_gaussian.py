"""The dense Gaussian sketch: the reference by which others are judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.algorithms.sketching._generator import CHUNK_ROWS, gaussian_rows
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import is_sparse
from numcore.arrays import Array, array_namespace

__all__ = ["GaussianSketch"]


class GaussianSketch(SketchOperator):
    """Entries N(0, 1/m), each block of 4096 columns from a Philox stream of its own."""

    kind = "gaussian"

    @property
    def _grain(self) -> int:
        return CHUNK_ROWS

    def _add(self, X: Any, start: int, roots: np.ndarray[Any, Any] | None, out: Array) -> None:
        xp = array_namespace(out)
        for first, G in gaussian_rows(self.seed, start, start + X.shape[0], self.m):
            begin, stop = first - start, first - start + len(G)
            if roots is not None:
                G = G * roots[begin:stop, None]
            sparse = is_sparse(X)
            block = X[begin:stop] if sparse else xp.astype(X[begin:stop, :], xp.float64, copy=False)
            out += xp.asarray(G).T @ block

    def _rows_of_adjoint(self, Y: np.ndarray[Any, Any], start: int, stop: int) -> np.ndarray[Any, Any]:
        return np.concatenate([G @ Y for _, G in gaussian_rows(self.seed, start, stop, self.m)])

    def _columns(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        return np.concatenate([G for _, G in gaussian_rows(self.seed, start, stop, self.m)]).T
