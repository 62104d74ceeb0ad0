"""Checks of what comes into continuous retrieval, each reading the patterns once."""

from __future__ import annotations

from typing import Any

from numcore.algorithms.hebbian._tiles import row_norms
from numcore.arrays import Array, array_namespace, as_count, as_floating

__all__ = ["as_mask", "as_reals", "as_top_k", "as_values", "usable_beta", "working_dtypes"]


def as_reals(x: Any, name: str, patterns: Array | None = None) -> tuple[Array, Array]:
    """`x` as an (n, d) array of finite numbers, neither n nor d 0, and the norms of its rows."""
    given, x = x, as_floating(x, name, ndim=(1, 2), like=patterns, infinite="unchecked")
    shape = tuple(x.shape)
    x = x[None, :] if x.ndim == 1 else x
    if 0 in shape:
        raise ValueError(f"{name} must not be empty; got shape {shape}")
    if patterns is not None and x.shape[1] != patterns.shape[1]:
        raise ValueError(f"{name} must have {patterns.shape[1]} features a row, as patterns have; got shape {shape}")
    return x, _finite_norms(given, x, name)


def as_values(values: Any, patterns: Array) -> tuple[Array, Array, bool]:
    """`values` as a (K, dv) array, the norms of its rows, and whether it came as (K,)."""
    V = as_floating(values, "values", ndim=(1, 2), like=patterns, infinite="unchecked")
    if V.shape[0] != patterns.shape[0] or 0 in V.shape:
        raise ValueError(
            f"values must have a row for each of the {patterns.shape[0]} patterns; got shape {tuple(V.shape)}"
        )
    flat = V.ndim == 1
    V = V[:, None] if flat else V
    return V, _finite_norms(values, V, "values"), flat


def _finite_norms(given: Any, x: Array, name: str) -> Array:
    """The norms of rows; an error if an entry is not finite, which shows in them."""
    norms = row_norms(x)
    xp = array_namespace(norms)
    if not bool(xp.all(xp.isfinite(norms))):
        as_floating(given, name)
    return norms


def working_dtypes(xp: Any, kind: str, patterns: tuple[Array, Array], *others: tuple[Array, Array]) -> tuple[Any, Any]:
    """The dtype of what goes out, and that of the work: float64 where float32 might overflow.

    Each argument is an array and the norms of its rows: patterns, then queries if there are any, then values.
    """
    given = (patterns, *others)
    narrow = all(x.dtype == xp.float32 for x, _ in given)
    kept, K = xp.float32 if narrow else xp.float64, patterns[0].shape[0]
    greatest = [float(xp.max(norms)) for _, norms in given]
    # products of all pairs, and sums over all patterns
    size = max(4 * greatest[0] * max(greatest[:2]), *(K * x for x in greatest))
    for dtype in (xp.float32, xp.float64):
        if (narrow or dtype == xp.float64) and size <= float(xp.finfo(dtype).max) / 8:
            return kept, dtype
    raise ValueError(f"{kind} must be small enough for their products; these reach {size:.1e}")


def usable_beta(xp: Any, beta: float, dtype: Any) -> float:
    """The nearest number to `beta` that multiplies zeros and infinities to the same."""
    limits = xp.finfo(dtype)
    return min(max(beta, float(limits.smallest_normal)), float(limits.max))


def as_top_k(top_k: Any, separation: str, patterns: Array) -> int | None:
    if top_k is None:
        if separation == "topk":
            raise ValueError('top_k must be given with separation "topk"; got None')
        return None
    top_k = as_count(top_k, "top_k")
    if top_k > patterns.shape[0]:
        raise ValueError(f"top_k must be at most {patterns.shape[0]}, the number of patterns; got {top_k}")
    return top_k


def as_mask(mask: Any, xi: Array, patterns: Array, flat: bool) -> Array | None:
    """`mask` as a (K,) or (Q, K) bool array that leaves each query a pattern."""
    if mask is None:
        return None
    xp, (n, K) = array_namespace(patterns), (xi.shape[0], patterns.shape[0])
    mask = xp.asarray(mask)
    shapes = ((K,),) if flat else ((K,), (n, K))
    if mask.dtype != xp.bool or tuple(mask.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"mask must be a bool array of shape {wanted}; got {mask.dtype} of shape {tuple(mask.shape)}")
    empty = int(xp.count_nonzero(~xp.any(mask, axis=-1)))
    if empty:
        raise ValueError(f"mask must leave a pattern to each query; {empty} of its rows are False throughout")
    return mask
