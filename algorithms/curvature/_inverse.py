"""The inverse of ``lam I + G^T G / c`` through the smaller of its two Gram matrices.

Both classes answer the same questions for the columns that `rows` holds; all figures come out in float64, vectors of
length d in the dtype of the gradients.
"""

from __future__ import annotations

import array_api_compat
import numpy as np

from numcore.algorithms.curvature._factor import Factor
from numcore.algorithms.curvature._loops import column_tiles, products
from numcore.algorithms.curvature._rows import ArrayRows, Matrix, Rows
from numcore.arrays import Array, array_namespace, to_numpy

__all__ = ["Dual", "Inverse", "Primal"]


class Dual:
    r"""Through ``K = G G^T + c lam I = L L^T``: :math:`F^{-1} = (I - V^T V) / \lambda` with ``V = L^-1 G``."""

    def __init__(self, K: Factor, damp: float, scale: float) -> None:
        self.K, self.damp, self.scale = K, damp, scale
        self.V: Array | None = None
        self.plain: Matrix | None = None  # the squares of each column of G, kept beside V

    @classmethod
    def of(cls, rows: Rows, damp: float, scale: float, single: bool, keep: bool) -> Dual:
        """For these gradients; with `keep`, V is formed and kept."""
        return cls(Factor(checked(rows.gram(single), rows), scale * damp), damp, scale)._with_columns(rows, keep)

    def with_damp(self, rows: Rows, damp: float) -> Dual:
        """At another dampening."""
        return Dual(self.K.shifted(self.scale * damp), damp, self.scale)._with_columns(rows, self.V is not None)

    def _with_columns(self, rows: Rows, keep: bool) -> Dual:
        if keep:
            R, like = self.K.whitener_in(rows.dtype), rows.like
            xp = array_namespace(like)
            V = xp.empty((rows.m, rows.d), dtype=like.dtype, device=array_api_compat.device(like))
            R = rows.to_device(R)
            for s in column_tiles(rows.m, rows.d):
                V[:, s] = xp.astype(R @ xp.astype(rows.columns(s), R.dtype, copy=False), V.dtype, copy=False)
            self.V, self.plain = V, rows.squares()
        return self

    def solve(self, rows: Rows, x: Array) -> Array:
        """``F^-1 x``."""
        return rows.combine(self.K.solve(rows.products(x)), x, 1 / self.damp)

    def combination(self, rows: Rows, a: Matrix) -> Array:
        """``F^-1 G^T a = c G^T K^-1 a``."""
        return rows.combine(self.scale * self.K.solve_in_range(a))

    def diagonal(self, rows: Rows) -> Matrix:
        """That of the inverse, floored at 1 / F_jj."""
        if self.V is None or self.plain is None:
            return self._floored(*rows.whitened(self.K.whitener_in(rows.dtype), self.K.spectrum is None))
        return self._floored(ArrayRows(self.V).squares(), self.plain.copy())

    def _floored(self, whitened: Matrix, plain: Matrix) -> Matrix:
        """``(1 - whitened) / lam``, at least 1 / F_jj; spends both."""
        # in place: of length d each, they are what counts beside G
        np.subtract(1.0, whitened, out=whitened)
        whitened /= self.damp
        plain /= self.scale
        plain += self.damp
        return np.maximum(whitened, np.reciprocal(plain, out=plain), out=whitened)

    def elements(self, rows: Rows, i: Matrix, j: Matrix) -> Matrix:
        """Entries at the pairs (i, j)."""
        out = np.empty(len(i))
        for s in column_tiles(rows.m, len(i)):
            (Vi, Gi), (Vj, _) = self._columns(rows, i[s]), self._columns(rows, j[s])
            same, overlap = i[s] == j[s], np.sum(Vi * Vj, axis=0)
            out[s] = np.where(same, self._floored(overlap.copy(), np.sum(Gi**2, axis=0)), -overlap / self.damp)
        return out

    def block(self, rows: Rows, idx: Matrix) -> Matrix:
        """Rows and columns `idx` of the inverse."""
        V, G = self._columns(rows, idx)
        out = V.T @ V
        out *= -1 / self.damp
        out[idx[:, None] == idx] += 1 / self.damp
        np.fill_diagonal(out, self._floored(np.sum(V**2, axis=0), np.sum(G**2, axis=0)))
        return out

    def _columns(self, rows: Rows, idx: Matrix) -> tuple[Matrix, Matrix]:
        G = to_numpy(rows.columns(idx)).astype(np.float64)
        if self.V is None:
            return self.K.half(G), G
        return to_numpy(ArrayRows(self.V).columns(idx)).astype(np.float64), G

    def logdet(self, rows: Rows) -> float:
        """That of F."""
        return rows.d * np.log(self.damp) + self.K.logdet - rows.m * np.log(self.scale * self.damp)

    def trace(self, rows: Rows) -> float:
        """That of the inverse."""
        return float(rows.d - rows.m + np.sum(self.K.shift / self.K.eigenvalues)) / self.damp


class Primal:
    """Through F itself: ``c F = G^T G + c lam I``."""

    def __init__(self, K: Factor, damp: float, scale: float) -> None:
        self.K, self.damp, self.scale = K, damp, scale

    @classmethod
    def of(cls, rows: Rows, damp: float, scale: float, single: bool, keep: bool) -> Primal:
        """For these gradients."""
        turned = ArrayRows(rows.columns(slice(None)).T)
        return cls(Factor(checked(turned.gram(single), rows), scale * damp), damp, scale)

    def with_damp(self, rows: Rows, damp: float) -> Primal:
        """At another dampening."""
        return Primal(self.K.shifted(self.scale * damp), damp, self.scale)

    def solve(self, rows: Rows, x: Array) -> Array:
        """``F^-1 x``."""
        return self._divided(rows, to_numpy(x).astype(np.float64))

    def combination(self, rows: Rows, a: Matrix) -> Array:
        """``F^-1 G^T a``."""
        return self._divided(rows, to_numpy(products(rows.columns(slice(None)).T, rows.to_device(a))))

    def _divided(self, rows: Rows, x: Matrix) -> Array:
        y = self.scale * self.K.solve(x)
        return rows.to_device(y.astype(rows.dtype, copy=False))

    def diagonal(self, rows: Rows) -> Matrix:
        """That of the inverse."""
        return self.scale * np.sum(self.K.whitener() ** 2, axis=0)

    def elements(self, rows: Rows, i: Matrix, j: Matrix) -> Matrix:
        """Entries at the pairs (i, j)."""
        out = np.empty(len(i))
        for s in column_tiles(rows.d, len(i)):
            out[s] = self.scale * np.sum(self._columns(rows, i[s]) * self._columns(rows, j[s]), axis=0)
        return out

    def block(self, rows: Rows, idx: Matrix) -> Matrix:
        """Rows and columns `idx` of the inverse."""
        R = self._columns(rows, idx)
        return self.scale * (R.T @ R)

    def _columns(self, rows: Rows, idx: Matrix) -> Matrix:
        unit = np.zeros((rows.d, len(idx)))
        unit[idx, np.arange(len(idx))] = 1.0
        return self.K.half(unit)

    def logdet(self, rows: Rows) -> float:
        """That of F."""
        return self.K.logdet - rows.d * np.log(self.scale)

    def trace(self, rows: Rows) -> float:
        """That of the inverse."""
        return float(np.sum(self.scale / self.K.eigenvalues))


Inverse = Dual | Primal


def checked(K: Matrix, rows: Rows) -> Matrix:
    """A Gram matrix, whose diagonal shows at no cost whether all entries are finite."""
    if not np.all(np.isfinite(np.diagonal(K))):
        bad = rows.count_bad()
        if bad:
            raise ValueError(f"grads must be finite; {bad} of {rows.m * rows.d} entries are not")
        raise ValueError("grads must have squares that float64 can hold: entries below 1e150; scale them down")
    return K
