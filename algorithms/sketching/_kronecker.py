"""The SRHT of a Kronecker product, which is made from the transforms of the factors.

References
----------
T. Ahle et al., "Oblivious Sketching of High-Degree Polynomial Kernels", SODA 2020, Definition 15 (TensorSRHT);
Z. Song, M. Ye, J. Yin and L. Zhang, "A Nearly-Optimal Bound for Fast Regression with l_inf Guarantee", ICML 2023.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from numcore.algorithms.sketching._generator import derive, positions, signs, words
from numcore.algorithms.sketching._hadamard import parity, power_above
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.arrays import Array, array_namespace, as_count, as_floating
from numcore.linalg._hadamard import hadamard_columns

__all__ = ["TensorSRHT"]

SIGNS, ROWS = 1, 2
"""Tags of the tables of the first factor; those of the j-th are 2 j later."""


class TensorSRHT(SketchOperator):
    r"""For :math:`A_1 \otimes A_2 \otimes \dots`, with n_j rows each:

    .. math:: S_{k, (i_1, i_2, \dots)} = \frac{1}{\sqrt m} \prod_j (H D_j)_{r_{jk}, i_j}

    with random signs D_j and rows r_jk drawn uniformly, with replacement. ``S @ (A_1, A_2)`` takes the factors.
    """

    kind = "tensor_srht"

    def __init__(self, m: int, n: int | None, seed: int, shapes: Any = ()) -> None:
        if isinstance(shapes, (str, bytes)) or not np.iterable(shapes):
            raise TypeError(f"shapes must be the numbers of rows of the factors; got {shapes!r}")
        self.shapes = tuple(as_count(size, "an entry of shapes") for size in shapes)
        if not self.shapes:
            raise ValueError("shapes must be the numbers of rows of the factors; got none")
        total = math.prod(self.shapes)
        if n is not None and n != total:
            raise ValueError(f"n must be {total}, the product of shapes = {self.shapes}; got {n}")
        super().__init__(m, total, seed)

    @property
    def params(self) -> dict[str, Any]:
        return {"shapes": self.shapes}

    @functools.cached_property
    def _rows(self) -> list[np.ndarray[Any, Any]]:
        """For every factor, the rows of its transform that are kept."""
        return [
            positions(words(derive(self.seed, ROWS + 2 * j), 0, self.m)[:, 0], power_above(size))
            for j, size in enumerate(self.shapes)
        ]

    @functools.cached_property
    def _signs(self) -> list[np.ndarray[Any, Any]]:
        return [signs(words(derive(self.seed, SIGNS + 2 * j), 0, size)[:, 0]) for j, size in enumerate(self.shapes)]

    def apply(self, A: Any, *, row_offset: int = 0, out: Any = None, sample_weight: Any = None) -> Array:
        if not _are_factors(A):
            return super().apply(A, row_offset=row_offset, out=out, sample_weight=sample_weight)
        if row_offset or sample_weight is not None:
            raise ValueError("row_offset and sample_weight go with a matrix; A is a tuple of factors")
        if len(A) != len(self.shapes):
            raise ValueError(f"A must have {len(self.shapes)} factors, one for each of shapes; got {len(A)}")
        factors = [as_floating(F, f"A[{j}]", shape=(self.shapes[j], None)) for j, F in enumerate(A)]
        xp = array_namespace(*factors)
        total = xp.ones((self.m, 1), dtype=xp.float64)
        for F, sign, rows in zip(factors, self._signs, self._rows, strict=True):
            padded = xp.zeros((power_above(F.shape[0]), F.shape[1]), dtype=xp.float64)
            padded[: F.shape[0], :] = F * xp.asarray(sign.astype(np.float64))[:, None]
            hadamard_columns(padded)
            picked = xp.take(padded, xp.asarray(rows), axis=0)
            # the row-wise Kronecker product
            total = xp.reshape(total[:, :, None] * picked[:, None, :], (self.m, -1))
        total = self._scale * total
        if not bool(xp.all(xp.isfinite(total))):
            raise ValueError("A is too large: products of its factors overflow float64")
        if out is not None:
            out += total
            return out
        return total if any(F.dtype == xp.float64 for F in factors) else xp.astype(total, xp.float32)

    def dot(self, x: Any) -> Any:
        return self.apply(x) if _are_factors(x) else super().dot(x)

    def _columns(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        digits = np.unravel_index(np.arange(start, stop), self.shapes)
        odd = np.zeros((self.m, stop - start), np.int64)
        sign = np.ones(stop - start)
        for digit, rows, flips in zip(digits, self._rows, self._signs, strict=True):
            odd ^= parity(rows[:, None] & digit)
            sign *= flips[digit]
        return (1 - 2 * odd) * sign

    def _rows_of_adjoint(self, Y: np.ndarray[Any, Any], start: int, stop: int) -> np.ndarray[Any, Any]:
        return self._columns(start, stop).T @ Y


def _are_factors(A: Any) -> bool:
    return isinstance(A, (tuple, list)) and all(getattr(F, "ndim", 0) == 2 for F in A)
