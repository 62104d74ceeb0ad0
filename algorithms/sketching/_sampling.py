"""Sketches that are samples of rows, drawn with replacement and scaled so that products are right in the mean."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.sparse

from numcore.algorithms.sketching._generator import derive, positions, uniforms, words
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import is_sparse
from numcore.arrays import Array, as_floating, is_numpy, to_numpy

__all__ = ["LeverageSample", "UniformSample"]

DRAWS = 1
"""Tag of the table of draws."""


class _Sample(SketchOperator):
    """Row k of S has its only entry, `factors[k]`, in column `chosen[k]`."""

    is_dense = False
    _reads_all = False

    @property
    def _chosen(self) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    @property
    def _factors(self) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    @property
    def _scale(self) -> float:
        return 1.0

    @functools.cached_property
    def _draws(self) -> np.ndarray[Any, Any]:
        return words(derive(self.seed, DRAWS), 0, self.m)[:, 0]

    def _among(self, start: int, stop: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Which rows of S look at columns `start` to ``stop - 1``, and at which of them."""
        k = np.flatnonzero((self._chosen >= start) & (self._chosen < stop))
        return k, self._chosen[k] - start

    def _add(self, X: Any, start: int, roots: np.ndarray[Any, Any] | None, out: Array) -> None:
        if not (is_numpy(X) or is_sparse(X)):
            super()._add(X, start, roots, out)
            return
        k, at = self._among(start, start + X.shape[0])
        factors = self._factors[k] if roots is None else self._factors[k] * roots[at]
        rows = X[at].toarray() if is_sparse(X) else X[at]
        out[k] += factors[:, None] * rows

    def _columns(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        S = np.zeros((self.m, stop - start))
        k, at = self._among(start, stop)
        S[k, at] = self._factors[k]
        return S

    def _rows_of_adjoint(self, Y: np.ndarray[Any, Any], start: int, stop: int) -> np.ndarray[Any, Any]:
        result = np.zeros((stop - start, Y.shape[1]))
        k, at = self._among(start, stop)
        np.add.at(result, at, self._factors[k, None] * Y[k])
        return result

    def tosparse(self) -> scipy.sparse.csr_array:
        shape = (self.m, self._length("tosparse"))
        return scipy.sparse.csr_array((self._factors, self._chosen, np.arange(self.m + 1)), shape=shape)


class UniformSample(_Sample):
    """Rows drawn uniformly, times sqrt(n / m)."""

    kind = "uniform"

    def __init__(self, m: int, n: int | None, seed: int) -> None:
        super().__init__(m, n, seed)
        if self.n is None or self.n >= 1 << 32:
            raise ValueError(f"n must be the number of rows, below 2**32, for a uniform sample; got {n}")

    @functools.cached_property
    def _chosen(self) -> np.ndarray[Any, Any]:
        assert self.n is not None
        return positions(self._draws, self.n)

    @functools.cached_property
    def _factors(self) -> np.ndarray[Any, Any]:
        assert self.n is not None
        return np.full(self.m, (self.n / self.m) ** 0.5)


class LeverageSample(_Sample):
    """Rows drawn with probabilities p proportional to their scores, times 1 / sqrt(m p)."""

    kind = "leverage"

    def __init__(self, m: int, n: int | None, seed: int, scores: Any = None) -> None:
        if scores is None:
            raise ValueError("scores must be given for a leverage sample, one a row; got None")
        scores = as_floating(to_numpy(scores), "scores", ndim=1, dtype=np.float64)
        negative = int(np.count_nonzero(scores < 0))
        if negative:
            raise ValueError(f"scores must not be negative; {negative} of its {scores.size} entries are")
        if not scores.any():
            raise ValueError(f"scores must have a positive entry; got {scores.size} zeros")
        if n is not None and n != scores.size:
            raise ValueError(f"scores must have n = {n} entries; got {scores.size}")
        super().__init__(m, scores.size, seed)
        self.scores = scores.copy()
        self.scores.flags.writeable = False

    @property
    def params(self) -> dict[str, Any]:
        return {"scores": self.scores}

    @functools.cached_property
    def _chosen(self) -> np.ndarray[Any, Any]:
        # scaled first, that sums neither overflow nor vanish; a draw may not be rounded up to the last bound
        bounds = np.cumsum(self.scores / self.scores.max())
        drawn = np.minimum(uniforms(self._draws) * bounds[-1], np.nextafter(bounds[-1], 0))
        return np.searchsorted(bounds, drawn, side="right")

    @functools.cached_property
    def _factors(self) -> np.ndarray[Any, Any]:
        p = self.scores / self.scores.max()
        p /= p.sum()
        return 1 / np.sqrt(self.m * p[self._chosen])
