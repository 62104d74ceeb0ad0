"""Means of patterns under weights that come from scores, a tile of queries with patterns at a time.

Notation: query ``xi`` (d,), patterns ``X`` (K, d), scores ``s_j`` of xi with x_j, weights ``p = softmax(beta s)``. Of a
row are kept the largest score ``m`` so far, the mass ``sum_j e_j`` with ``e_j = exp(z_j)``, ``z_j = beta (s_j - m)``,
the moment ``sum_j e_j z_j``, and for each V the sum ``sum_j e_j v_j``; a larger m scales them down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numcore.arrays import array_namespace, eps_of
from numcore.dispatch import dispatchable

__all__ = ["Attention", "Memory", "attend", "first_of_the_largest", "masked"]

Array = Any

ROWS, COLUMNS = 256, 1024
"""Queries and patterns of a tile: its scores fit the second-level cache."""

TIE = 32
"""Scores this many roundings apart are equal: a matrix product rounds equal rows apart, by where they stand."""


class Attention(NamedTuple):
    """What weights make of each query.

    ``top`` (n,) is the largest score, ``index`` (n,) int64 the first pattern that has it, ``weight`` (n,) its weight,
    ``entropy`` (n,) that of all weights, and ``means`` holds a (n, k) array for each V.
    """

    top: Array
    index: Array
    weight: Array
    entropy: Array
    means: tuple[Array, ...]


class Memory:
    """Patterns, and the form in which a product with a query is their similarity.

    ============  =========================================  =============================
    similarity    score                                      up to
    ============  =========================================  =============================
    "dot"         ``xi . x``
    "cosine"      ``xi . x / (||xi|| ||x||)``, 0 for zeros
    "euclidean"   ``-||xi - x||^2 / 2``                      a number for each query
    ============  =========================================  =============================
    """

    def __init__(self, patterns: Array, norms: Array, similarity: str, dtype: Any) -> None:
        self.patterns, self.similarity, self.dtype = patterns, similarity, dtype
        xp = array_namespace(patterns)
        self.norms = xp.astype(xp.where(norms > 0, norms, xp.ones_like(norms)), dtype, copy=False)
        if similarity == "euclidean":
            # distances do not change with the origin; products of what is far from it cancel
            self.centre = xp.astype(xp.sum(patterns, axis=0, dtype=xp.float64) / len(self), dtype)

    def __len__(self) -> int:
        return int(self.patterns.shape[0])

    def rows(self, s: slice) -> Array:
        """Some patterns, in the dtype of the work."""
        return array_namespace(self.patterns).astype(self.patterns[s, :], self.dtype, copy=False)

    def seen(self, s: slice) -> Array:
        """Some patterns, as queries are compared to them."""
        rows = self.rows(s)
        if self.similarity == "cosine":
            return rows / self.norms[s][:, None]
        if self.similarity == "euclidean":
            xp = array_namespace(rows)
            rows = rows - self.centre
            return xp.concat([rows, -xp.sum(rows * rows, axis=1, keepdims=True) / 2], axis=1)
        return rows

    def asked(self, queries: Array) -> Array:
        """Queries, as patterns are compared to them."""
        xp = array_namespace(queries)
        if self.similarity == "cosine":
            norms = row_norms(queries)
            return queries / xp.where(norms > 0, norms, xp.ones_like(norms))[:, None]
        if self.similarity == "euclidean":
            return xp.concat([queries - self.centre, xp.ones_like(queries[:, :1])], axis=1)
        return queries


@np.errstate(over="ignore", invalid="ignore")
def row_norms(x: Array) -> Array:
    """Euclidean norms of rows, whose squares may leave the range of floats; nan or inf for rows that are not finite."""
    xp = array_namespace(x)
    squares = xp.vecdot(x, x)
    limits = xp.finfo(x.dtype)
    if bool(xp.all((squares > limits.smallest_normal / limits.eps) & (squares < limits.max))):
        return xp.sqrt(squares)
    scale = xp.max(xp.abs(x), axis=1)
    scaled = x / xp.where(scale > 0, scale, xp.ones_like(scale))[:, None]
    return scale * xp.sqrt(xp.sum(scaled * scaled, axis=1))


def spans(n: int, step: int, first: int = 0) -> Iterator[slice]:
    """Slices of `step` that cover ``range(n)``, beginning with the one that holds `first`."""
    starts = range(0, n, step)
    at = first // step
    for start in (*starts[at:], *starts[:at]):
        yield slice(start, min(start + step, n))


def masked(S: Array, mask: Array | None, rows: slice, columns: slice) -> Array:
    """Scores, -inf where a (K,) or (n, K) mask is False."""
    if mask is None:
        return S
    part = mask[columns][None, :] if mask.ndim == 1 else mask[rows, columns]
    return array_namespace(S).where(part, S, -np.inf)


def first_of_the_largest(S: Array, top: Array) -> tuple[Array, Array]:
    """In each row the place of the first entry that equals `top` or exceeds it, up to rounding, and the entry."""
    xp = array_namespace(S)
    found = xp.argmax(xp.astype(S >= lowered(top)[:, None], xp.int8), axis=1)
    return found, xp.take_along_axis(S, found[:, None], axis=1)[:, 0]


def lowered(top: Array) -> Array:
    """What still counts as equal to `top`."""
    xp = array_namespace(top)
    return xp.where(top == -xp.inf, top, top - TIE * eps_of(top) * xp.abs(top))


@dispatchable
def attend(
    queries: Array, memory: Memory, values: tuple[Array, ...], mask: Array | None, beta: float, skip: float, near: Array
) -> tuple[Array, Array, Array, Array, tuple[Array, ...]]:
    """Softmax means of the rows of some V, with O(tile) memory: every tile of scores is formed once.

    Parameters
    ----------
    queries : (n, k) array
        From ``memory.asked``.
    memory : Memory
    values : tuple of (K, k) arrays
        The V; they are converted to the dtype of the queries.
    mask : (K,) or (n, K) bool array or None
        False for weight 0. No row is False throughout.
    beta : float
        Such that neither it nor its inverse overflows in the dtype of the queries.
    skip : float
        Patterns with ``beta (s_j - m) < skip`` may be left out.
    near : (n,) int64 array
        A guess of the patterns with the largest scores: where to begin.

    Returns
    -------
    top, index, weight, entropy, means
        The fields of :class:`Attention`.
    """
    xp = array_namespace(queries)
    parts = [
        _attend_rows(queries[rows, :], memory, values, mask, rows, beta, skip, int(near[rows][0]))
        for rows in spans(queries.shape[0], ROWS)
    ]
    top, index, weight, entropy, means = zip(*parts, strict=True)
    joined = tuple(xp.concat(part) for part in zip(*means, strict=True))
    return xp.concat(top), xp.concat(index), xp.concat(weight), xp.concat(entropy), joined


@np.errstate(over="ignore")  # of an infinite beta
def _attend_rows(
    queries: Array,
    memory: Memory,
    values: tuple[Array, ...],
    mask: Array | None,
    rows: slice,
    beta: float,
    skip: float,
    first: int,
) -> tuple[Array, Array, Array, Array, list[Array]]:
    xp, dtype = array_namespace(queries), queries.dtype
    zeros = xp.zeros_like(queries[:, 0])
    m, mark, index = zeros - xp.inf, zeros - xp.inf, xp.astype(zeros, xp.int64)
    mass, moment = xp.astype(zeros, xp.float64), xp.astype(zeros, xp.float64)
    sums = [xp.zeros_like(V[:1, :], dtype=dtype) * zeros[:, None] for V in values]
    for columns in spans(len(memory), COLUMNS, first):
        S = masked(queries @ memory.seen(columns).T, mask, rows, columns)
        best = xp.max(S, axis=1)
        if not bool(xp.any((best > -xp.inf) & ((m == -xp.inf) | (best >= m + skip / beta)))):
            continue
        top = xp.where(best > m, best, m)
        base = xp.where(top == -xp.inf, zeros, top)
        first_here, mark_here = first_of_the_largest(S, top)
        first_here = first_here + columns.start
        taken = (best >= lowered(top)) & ~((mark >= lowered(top)) & (index < first_here))
        index, mark = xp.where(taken, first_here, index), xp.where(taken, mark_here, mark)
        shift = beta * (m - base)
        factor = xp.exp(shift)
        kept, moved = xp.astype(factor, xp.float64), xp.astype(xp.where(factor > 0, shift, zeros), xp.float64)
        z = beta * (S - base[:, None])
        E = xp.exp(z)
        z = xp.where(E > 0, z, xp.zeros_like(E)) * E
        moment = (moment + moved * mass) * kept + xp.sum(z, axis=1, dtype=xp.float64)
        mass = mass * kept + xp.sum(E, axis=1, dtype=xp.float64)
        sums = [
            total * factor[:, None] + E @ xp.astype(V[columns, :], dtype, copy=False)
            for total, V in zip(sums, values, strict=True)
        ]
        m = top
    entropy, weight = xp.astype(xp.log(mass) - moment / mass, dtype), xp.astype(1 / mass, dtype)
    entropy = xp.where(entropy > 0, entropy, zeros)
    return m, index, weight, entropy, [total * weight[:, None] for total in sums]
