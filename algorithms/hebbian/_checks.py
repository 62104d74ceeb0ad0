"""Checks that the functions of this family share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.arrays import as_floating, as_number

__all__ = ["Array", "as_betas", "as_clamp", "as_order", "as_patterns", "as_spins"]

Array = NDArray[Any]

INTERACTIONS = ("distinct", "full", "rectified", "exp")


def as_spins(x: ArrayLike, name: str, n_features: int | None = None) -> tuple[Array, bool]:
    """`x` as a C-ordered (n, N) int8 array of signs, and whether it came as one row.

    Raises
    ------
    TypeError
        If `x` is complex or not numbers.
    ValueError
        If an entry differs from -1 and +1, or the shape is wrong.
    """
    spins = as_rows(x, name, n_features)
    bad = ~np.isfinite(spins) if spins.dtype.kind == "f" else np.zeros(0, bool)
    if bad.any():
        raise ValueError(f"{name} must be finite; {np.count_nonzero(bad)} of its {spins.size} entries are not")
    if not is_signs(spins):
        zeros = int(np.count_nonzero(spins == 0))
        others = int(np.count_nonzero((spins != 1) & (spins != -1))) - zeros
        found = [
            f"{count} entries {what}" for count, what in ((zeros, "equal to 0"), (others, "of other values")) if count
        ]
        raise ValueError(f"{name} must hold -1 and +1 only; found {' and '.join(found)}")
    return np.ascontiguousarray(spins, dtype=np.int8), np.ndim(x) == 1


def as_patterns(x: ArrayLike, name: str = "patterns", n_features: int | None = None) -> tuple[Array, bool]:
    """`x` as a C-ordered (K, N) array: int8 where all entries are -1 and +1, else float64; and whether it was one row.

    Raises
    ------
    TypeError
        If `x` is complex or not numbers.
    ValueError
        If it is not finite, or the shape is wrong.
    """
    rows = as_rows(x, name, n_features)
    if is_signs(rows):
        return np.ascontiguousarray(rows, dtype=np.int8), np.ndim(x) == 1
    return np.ascontiguousarray(as_floating(rows, name, dtype=np.float64)), np.ndim(x) == 1


def as_rows(x: ArrayLike, name: str, n_features: int | None) -> Array:
    """`x` as an (n, N) array of numbers, neither of them 0."""
    try:
        rows = np.asarray(x)
    except ValueError as failure:
        raise ValueError(f"{name} is not an array: {failure}") from None
    if rows.dtype.kind not in "biuf":
        kind = "real" if rows.dtype.kind == "c" else "real numbers"
        raise TypeError(f"{name} must be {kind}; got dtype {rows.dtype}")
    if rows.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape (n, N) or (N,); got {rows.shape}")
    rows = np.atleast_2d(rows)
    if not rows.size:
        raise ValueError(f"{name} must not be empty; got shape {np.shape(x)}")
    if n_features is not None and rows.shape[1] != n_features:
        raise ValueError(f"{name} must have {n_features} features a row; got shape {np.shape(x)}")
    return rows


def is_signs(x: Array) -> bool:
    """Whether all entries are -1 or +1, asked a block of rows at a time."""
    if x.dtype.kind not in "if":
        return bool(np.all(x == 1))
    step = max(1, 2**22 // x.shape[-1])
    return all(bool(np.all(np.abs(x[k : k + step]) == 1)) for k in range(0, len(x), step))


def as_order(order: Any) -> int:
    """The order P of an interaction, at least 2."""
    if isinstance(order, (bool, np.bool_)) or not isinstance(order, (int, np.integer)) or order < 2:
        raise ValueError(f"order must be an integer of at least 2; got {order!r}")
    return int(order)


def as_betas(beta: Any) -> Array:
    """Inverse temperatures as a 0-D or 1-D float64 array; inf is one of them."""
    if np.ndim(beta) == 0:
        return np.asarray(as_number(beta, "beta", above=0, infinite=True))
    betas: Array = as_floating(beta, "beta", ndim=1, dtype=np.float64, infinite="positive")
    if not betas.size or not np.all(betas > 0):
        raise ValueError(
            f"beta must be positive; got {np.count_nonzero(~(betas > 0))} of {betas.size} entries that are not"
        )
    return betas


def as_clamp(clamp: ArrayLike | None, n_features: int) -> Array:
    """The sites that may flip, as an int64 array, from the mask of those that may not."""
    if clamp is None:
        return np.arange(n_features)
    mask = np.asarray(clamp)
    if mask.dtype != bool or mask.shape != (n_features,):
        raise ValueError(f"clamp must be a bool array of shape ({n_features},); got {mask.dtype} of shape {mask.shape}")
    return np.flatnonzero(~mask)
