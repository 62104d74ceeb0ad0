"""Gradients as rows: an array, or an object that knows them by their factors. One set of questions for both."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from numcore.algorithms.curvature._loops import (
    add_squares,
    column_tiles,
    combinations,
    gram,
    products,
    whitened_squares,
)
from numcore.arrays import Array, array_namespace, as_floating, is_numpy, to_numpy

__all__ = ["ArrayRows", "OperatorRows", "Rows", "as_rows"]

Matrix = np.ndarray[Any, Any]
Where = slice | Matrix
"""Columns: a slice, or an array of their indices."""

ASKED = ("shape", "dtype", "matvec", "rmatvec", "gram", "sq_sum", "columns")


def as_rows(grads: Any) -> Rows:
    """`grads`, checked up to the finiteness of its entries."""
    if not hasattr(grads, "__array__") and not hasattr(grads, "__array_namespace__") and hasattr(grads, "gram"):
        missing = [name for name in ASKED if not hasattr(grads, name)]
        if missing:
            raise TypeError(f"grads must have {', '.join(ASKED)}, or be an array; it lacks {', '.join(missing)}")
        rows: Rows = OperatorRows(grads)
    else:
        rows = ArrayRows(as_floating(grads, "grads", ndim=2, infinite="unchecked"))
    if rows.d == 0:
        raise ValueError(f"grads must have at least one column; got shape {(rows.m, rows.d)}")
    return rows


class ArrayRows:
    """The (m, d) array G."""

    def __init__(self, G: Array) -> None:
        self.G = G
        self.m, self.d = G.shape
        self.dtype = np.dtype("float32" if G.dtype == array_namespace(G).float32 else "float64")
        self.device = array_api_compat.device(G)

    @property
    def source(self) -> Array:
        """What was given."""
        return self.G

    def gram(self, single: bool = False) -> Matrix:
        """``G G^T``."""
        return to_numpy(gram(self.G, single))

    def products(self, x: Array) -> Matrix:
        """``G x``."""
        return to_numpy(products(self.G, x))

    def combine(self, s: Matrix, x: Array | None = None, factor: float = 1.0) -> Array:
        """``factor * G^T s``, or ``factor * (x - G^T s)``."""
        return combinations(self.G, self.to_device(s), x, factor)

    def squares(self) -> Matrix:
        """The sum of the squares of each column."""
        total = array_namespace(self.G).zeros(self.d, dtype=array_namespace(self.G).float64, device=self.device)
        add_squares(self.G, total)
        return to_numpy(total)

    def whitened(self, R: Matrix, lower: bool) -> tuple[Matrix, Matrix]:
        """The sums of the squares of each column of ``R G``, R lower triangular or not, and of G."""
        xp = array_namespace(self.G)
        w, q = (xp.empty(self.d, dtype=xp.float64, device=self.device) for _ in range(2))
        whitened_squares(self.G, self.to_device(R), lower, w, q)
        return to_numpy(w), to_numpy(q)

    def columns(self, where: Where) -> Array:
        """Some columns, where possible as a view."""
        if isinstance(where, slice):
            return self.G[:, where]
        return array_namespace(self.G).take(self.G, self.to_device(where), axis=1)

    def part(self, where: Where) -> ArrayRows:
        """The gradients by some parameters only."""
        return ArrayRows(self.columns(where))

    def to_device(self, x: Matrix) -> Array:
        """`x`, from the host, to where G lives."""
        return x if is_numpy(self.G) else array_namespace(self.G).asarray(x, device=self.device)

    @property
    def like(self) -> Array:
        """An array such as vectors are to be."""
        return self.G

    def count_bad(self) -> int:
        """How many entries are not finite."""
        xp = array_namespace(self.G)
        return sum(int(xp.count_nonzero(~xp.isfinite(self.G[:, s]))) for s in column_tiles(self.m, self.d))


class OperatorRows:
    """An object with products, a Gram matrix and columns on demand; its products are taken in float64 if it can."""

    def __init__(self, J: Any) -> None:
        self.J = J
        self.m, self.d = (int(n) for n in J.shape)
        self.dtype = np.dtype(J.dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"grads must be float32 or float64; got dtype {self.dtype}")
        self.wide = J.astype(np.float64) if self.dtype == np.float32 and hasattr(J, "astype") else J

    @property
    def source(self) -> Any:
        """What was given."""
        return self.J

    def gram(self, single: bool = False) -> Matrix:
        """``G G^T``."""
        return np.asarray((self.J if single else self.wide).gram(), np.float64)

    def products(self, x: Matrix) -> Matrix:
        """``G x``."""
        return _by_column(self.wide.matvec, x)

    def combine(self, s: Matrix, x: Matrix | None = None, factor: float = 1.0) -> Matrix:
        """``factor * G^T s``, or ``factor * (x - G^T s)``."""
        y = _by_column(self.wide.rmatvec, s)
        if x is not None:
            np.subtract(x, y, out=y)
        y *= factor
        return y.astype(self.dtype, copy=False)

    def squares(self) -> Matrix:
        """The sum of the squares of each column."""
        return np.asarray(self.wide.sq_sum(), np.float64)

    def whitened(self, R: Matrix, lower: bool) -> tuple[Matrix, Matrix]:
        """The sums of the squares of each column of ``R G``, R lower triangular or not, and of G."""
        w, q = np.empty(self.d), np.empty(self.d)
        for s in column_tiles(self.m, self.d):
            whitened_squares(np.asarray(self.J.columns(s)), R, lower, w[s], q[s])
        return w, q

    def columns(self, where: Where) -> Matrix:
        """Some columns."""
        return np.asarray(self.J.columns(where))

    def part(self, where: Where) -> ArrayRows:
        """The gradients by some parameters only, as an array."""
        return ArrayRows(self.columns(where))

    def to_device(self, x: Matrix) -> Matrix:
        """`x` itself."""
        return x

    @property
    def like(self) -> Matrix:
        """An array such as vectors are to be."""
        return np.empty(0, self.dtype)

    def count_bad(self) -> int:
        """How many entries are not finite."""
        return sum(int(np.count_nonzero(~np.isfinite(self.J.columns(s)))) for s in column_tiles(self.m, self.d))


Rows = ArrayRows | OperatorRows


def _by_column(product: Any, x: Matrix) -> Matrix:
    if x.ndim == 1:
        return np.asarray(product(x), np.float64).reshape(-1)
    columns = [np.asarray(product(x[:, k]), np.float64).reshape(-1) for k in range(x.shape[1])]
    return np.stack(columns, axis=1) if columns else np.empty((len(product(np.zeros(len(x)))), 0))
