"""Sketches by fast transforms of aligned blocks of rows: SRHT, block-SRHT, and the cosine transform in their place.

The SRHT is ``S = R H D / sqrt(m)``: random signs D, the Hadamard matrix H of order N, a sample R of its rows. Cut the
rows of A into aligned blocks of B, a power of two. With i = q B + j, the number of bits that r and i share is what
(r mod B, j) and (r div B, q) share, so::

    S A = 1 / sqrt(m) sum_q diag((-1)^popcount((r_k div B) & q)) [H_B D_q A_q][r_k mod B]

This takes one read of A, n d log2(B) additions, and no padding but of the last block; N need not be known. The
block-SRHT replaces the sign by an independent one, and the sample by one of the rows of H_B.

References
----------
J. Tropp, "Improved Analysis of the Subsampled Randomized Hadamard Transform", 2011; O. Balabanov, M. Beaupere,
L. Grigori and V. Lederer, "Block Subsampled Randomized Hadamard Transform for Low-Rank Approximation on Distributed
Architectures", ICML 2023.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.fft

from numcore.algorithms.sketching._generator import derive, permuted, signs, words
from numcore.algorithms.sketching._loops import cosine_sketch, hadamard_sketch
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import is_sparse
from numcore.arrays import Array, as_count
from numcore.linalg._hadamard import hadamard_columns

__all__ = ["SRHT", "SRTT", "BlockSRHT", "parity"]

SIGNS, ROWS, FLIPS = 1, 2, 3
"""Tags of the tables: signs of rows, the sample, and signs of sampled rows in each block."""

ENDLESS = 1 << 62
"""The order of H for a stream of unknown length."""

PIECE = 1 << 22
"""Entries of the table of flips, and of rows made dense, that are held at a time, about."""


def power_above(k: int) -> int:
    """The least power of two that is at least k."""
    return 1 << max(k - 1, 0).bit_length()


def parity(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The parity of the number of bits that are set, for non-negative int64."""
    for shift in (32, 16, 8, 4, 2, 1):
        x = x ^ (x >> shift)
    return x & 1


class _BlockTransform(SketchOperator):
    """Signs, a transform of blocks of `block_rows` rows, a sample of its rows, and signs of those for each block."""

    block_rows: int

    @property
    def _grain(self) -> int:
        return self.block_rows

    @property
    def _sampled(self) -> np.ndarray[Any, Any]:
        """The rows of a transformed block that are kept."""
        raise NotImplementedError

    def _flips(self, first: int, count: int) -> np.ndarray[Any, Any]:
        """Signs of the sampled rows in blocks `first` to ``first + count - 1``: (count, m), int8."""
        raise NotImplementedError

    @functools.cached_property
    def _signs_seed(self) -> int:
        return derive(self.seed, SIGNS)

    def _add(self, X: Any, start: int, roots: np.ndarray[Any, Any] | None, out: Array) -> None:
        B, n = self.block_rows, X.shape[0]
        step = B * max(1, PIECE // max(self.m, B * X.shape[1] if is_sparse(X) else 1))
        begin = 0
        while begin < n:
            stop = min(n, (start + begin) // B * B + step - start)
            q = (start + begin) // B
            flips = self._flips(q, -(-(start + stop) // B) - q)
            rows = X[begin:stop].toarray() if is_sparse(X) else X[begin:stop, :]
            weights = None if roots is None else roots[begin:stop]
            self._loop(rows, weights, start + begin, self._signs_seed, B, self._sampled, flips, out)
            begin = stop

    _loop = staticmethod(hadamard_sketch)

    def _rows_of_adjoint(self, Y: np.ndarray[Any, Any], start: int, stop: int) -> np.ndarray[Any, Any]:
        B, first = self.block_rows, start // self.block_rows
        count = -(-stop // B) - first
        result = np.empty((count * B, Y.shape[1]))
        for k, flip in enumerate(self._flips(first, count)):
            block = np.zeros((B, Y.shape[1]))
            np.add.at(block, self._sampled, flip[:, None] * Y)
            result[k * B : (k + 1) * B] = self._transposed(block)
        result *= signs(words(self._signs_seed, first * B, count * B)[:, 0])[:, None]
        return result[start - first * B : stop - first * B]

    def _transposed(self, block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        hadamard_columns(block)
        return block


class SRHT(_BlockTransform):
    """The subsampled randomised Hadamard transform of order N, the least power of two from n on."""

    kind = "srht"

    def __init__(self, m: int, n: int | None, seed: int) -> None:
        super().__init__(m, n, seed)
        self._order = ENDLESS if self.n is None else power_above(self.n)
        if self.m > self._order:
            raise ValueError(f"m must be at most {self._order}, the order of the Hadamard matrix; got {m}")
        self.block_rows = min(self._order, max(1024, power_above(2 * self.m)))

    @functools.cached_property
    def _sample(self) -> np.ndarray[Any, Any]:
        return permuted(derive(self.seed, ROWS), self._order, self.m)

    @functools.cached_property
    def _sampled(self) -> np.ndarray[Any, Any]:
        return self._sample % self.block_rows

    def _flips(self, first: int, count: int) -> np.ndarray[Any, Any]:
        blocks = np.arange(first, first + count, dtype=np.int64)
        return (1 - 2 * parity(blocks[:, None] & (self._sample // self.block_rows))).astype(np.int8)


class BlockSRHT(_BlockTransform):
    """The block-SRHT: one sample of the rows of H_B, and independent signs of these for each block."""

    kind = "block_srht"

    def __init__(self, m: int, n: int | None, seed: int, block_rows: int | None = None) -> None:
        super().__init__(m, n, seed)
        default = max(1024, power_above(2 * self.m))
        self.block_rows = default if block_rows is None else as_count(block_rows, "block_rows", minimum=self.m)
        self._check_block_rows()

    def _check_block_rows(self) -> None:
        if self.block_rows & (self.block_rows - 1):
            raise ValueError(f"block_rows must be a power of two; got {self.block_rows}")

    @property
    def params(self) -> dict[str, Any]:
        return {"block_rows": self.block_rows}

    @functools.cached_property
    def _sampled(self) -> np.ndarray[Any, Any]:
        keys = words(derive(self.seed, ROWS), 0, self.block_rows)[:, 0]
        return np.argsort(keys, kind="stable")[: self.m].astype(np.int64)

    def _flips(self, first: int, count: int) -> np.ndarray[Any, Any]:
        return signs(words(derive(self.seed, FLIPS), first, count, self.m))


class SRTT(BlockSRHT):
    """The block-SRHT with an orthonormal cosine transform times sqrt(B) in place of H_B, for blocks of any size."""

    kind = "srtt"

    def _check_block_rows(self) -> None:
        pass

    _loop = staticmethod(cosine_sketch)

    def _transposed(self, block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return scipy.fft.idct(block, norm="ortho", axis=0) * self.block_rows**0.5
