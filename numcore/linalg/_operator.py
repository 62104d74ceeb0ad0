"""Arrays, sparse matrices and operators, asked the same few questions."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from numcore.arrays import Array, array_namespace, as_floating, is_numpy

__all__ = ["Operator"]


class Operator:
    """A checked operator: its products, its size, and the array library and dtype in which to work with it.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator
        Real. Arrays must be finite.
    name : str
        The argument's name, for the errors.
    like : array, optional
        A vector that it will be applied to; it says the library and dtype, where `A` itself does not.
    square : bool
        Whether `A` has to be.
    """

    def __init__(self, A: Any, name: str, *, like: Array | None = None, square: bool = True) -> None:
        if not (hasattr(A, "shape") and hasattr(A, "__matmul__")) or array_api_compat.is_array_api_obj(A):
            A = as_floating(A, name, like=like)
        self.A, self.name = A, name
        self.shape = tuple(A.shape)
        if len(self.shape) != 2 or (square and self.shape[0] != self.shape[1]):
            raise ValueError(f"{name} must be {'square' if square else '2-D'}; got shape {self.shape}")
        if getattr(getattr(A, "dtype", None), "kind", "") == "c":
            raise TypeError(f"{name} must be real; got dtype {A.dtype}")
        self.n: int = self.shape[0]
        given = like if like is not None else A if array_api_compat.is_array_api_obj(A) else np.empty(0)
        self.xp = array_namespace(given)
        self.device = None if is_numpy(given) else array_api_compat.device(given)
        single = (like.dtype if like is not None else getattr(A, "dtype", None)) == self.xp.float32
        self.dtype = self.xp.float32 if single else self.xp.float64

    def __matmul__(self, x: Array) -> Array:
        """The product, in the dtype of `x`; a ValueError if it is not finite."""
        return self._checked(self.A @ x, x, self.shape[0], f"{self.name} @ x")

    def adjoint(self, x: Array) -> Array:
        """The product with the transpose."""
        return self._checked(self.A.T @ x, x, self.shape[1], f"{self.name}.T @ x")

    def _checked(self, y: Any, x: Array, n: int, what: str) -> Array:
        y = as_floating(y, what, shape=(n, *x.shape[1:]), like=x)
        return self.xp.astype(y, x.dtype, copy=False)

    def array(self, x: np.ndarray[Any, Any]) -> Array:
        """`x`, drawn on the host, where the products are made."""
        return self.xp.asarray(x, dtype=self.dtype, device=self.device)
