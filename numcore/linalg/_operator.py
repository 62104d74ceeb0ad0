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
        Real and finite, which its products show: to look at a whole array would cost as much as one of them.
    name : str
        The argument's name, for the errors.
    like : array, optional
        A vector that it will be applied to; it says the library and dtype, where `A` itself does not.
    square : bool
        Whether `A` has to be.
    """

    def __init__(self, A: Any, name: str, *, like: Array | None = None, square: bool = True) -> None:
        # whatever multiplies and cannot be read as an array is an operator
        if not (hasattr(A, "shape") and hasattr(A, "__matmul__")) or _is_array(A):
            A = as_floating(A, name, like=like, infinite="unchecked")
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
        with np.errstate(invalid="ignore", over="ignore"):
            return self._checked(self.A @ x, x, self.shape[0], " @ x")

    def adjoint(self, x: Array) -> Array:
        """The product with the transpose."""
        try:
            with np.errstate(invalid="ignore", over="ignore"):
                y = self.A.T @ x
        except (AttributeError, NotImplementedError, TypeError) as failure:
            raise TypeError(
                f"{self.name} must offer products with its transpose (rmatvec); it does not ({failure})"
            ) from failure
        return self._checked(y, x, self.shape[1], ".T @ x")

    def _checked(self, y: Any, x: Array, n: int, what: str) -> Array:
        if type(y) is np.ndarray and y.dtype == x.dtype and y.shape == (n, *x.shape[1:]) and np.isfinite(y.sum()):
            return y  # as nearly always; what follows is for the rest
        try:
            y = as_floating(y, f"{self.name}{what}", shape=(n, *x.shape[1:]), like=x)
        except ValueError:
            if _is_array(self.A):
                as_floating(self.A, self.name)  # whose fault it is
            raise
        return self.xp.astype(y, x.dtype, copy=False)

    def array(self, x: np.ndarray[Any, Any]) -> Array:
        """`x`, drawn on the host, where the products are made."""
        return self.xp.asarray(x, dtype=self.dtype, device=self.device)


def _is_array(A: Any) -> bool:
    return array_api_compat.is_array_api_obj(A) or hasattr(A, "__array__")
