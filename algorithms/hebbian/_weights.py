"""Weights over all patterns, a few queries at a time: what needs a whole row of scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numcore.algorithms.hebbian._tiles import Attention, Memory, first_of_the_largest, masked, spans
from numcore.arrays import array_namespace
from numcore.special import entmax15, softmax, sparsemax

__all__ = ["row_spans", "scores_of", "weigh"]

Array = Any

BYTES = 1 << 23
"""Of scores that are held at a time; there are a few arrays of that size."""

SEPARATIONS = {"softmax": softmax, "topk": softmax, "sparsemax": sparsemax, "entmax15": entmax15}


def weigh(
    queries: Array,
    memory: Memory,
    values: tuple[Array, ...],
    mask: Array | None,
    beta: float,
    separation: str,
    top_k: int | None,
    keep: bool,
) -> tuple[Attention, Array | None]:
    """Means of the rows of some V under any separation, and the (n, K) weights where they are to be kept."""
    xp, weights = array_namespace(queries), []
    parts = []
    for rows in row_spans(queries, memory):
        S = scores_of(queries[rows, :], memory, mask, rows)
        if top_k is not None and top_k < S.shape[1]:
            S = xp.where(largest(S, top_k), S, -np.inf)
        top = xp.max(S, axis=1)
        with np.errstate(over="ignore"):  # of an infinite beta
            P = SEPARATIONS[separation](beta * (S - top[:, None]))
        parts.append((top, *summary(S, P, top), [mean(P, V) for V in values]))
        if keep:
            weights.append(P)
    top, index, weight, entropy, means = zip(*parts, strict=True)
    joined = tuple(xp.concat(part) for part in zip(*means, strict=True))
    attention = Attention(xp.concat(top), xp.concat(index), xp.concat(weight), xp.concat(entropy), joined)
    return attention, xp.concat(weights) if keep else None


def row_spans(queries: Array, memory: Memory) -> Iterator[slice]:
    """Slices of queries whose scores are held at a time."""
    size = 4 if queries.dtype == array_namespace(queries).float32 else 8
    return spans(queries.shape[0], max(1, BYTES // (size * len(memory))))


def scores_of(queries: Array, memory: Memory, mask: Array | None, rows: slice) -> Array:
    """Scores of some queries with all patterns."""
    xp = array_namespace(queries)
    S = xp.concat([queries @ memory.seen(columns).T for columns in spans(len(memory), 1 << 13)], axis=1)
    return masked(S, mask, rows, slice(0, len(memory)))


def largest(S: Array, k: int) -> Array:
    """Where the k largest entries of each row stand; of equal ones the first."""
    xp = array_namespace(S)
    # the standard has no partition
    if hasattr(xp, "partition"):
        bar = xp.partition(S, S.shape[1] - k, axis=1)[:, S.shape[1] - k, None]
    else:
        bar = xp.sort(S, axis=1, descending=True)[:, k - 1, None]
    chosen = S >= bar
    if int(xp.count_nonzero(chosen)) > k * S.shape[0]:
        above, level = S > bar, S == bar
        room = xp.astype(k - xp.count_nonzero(above, axis=1, keepdims=True), xp.int32)
        chosen = above | (level & (xp.cumulative_sum(xp.astype(level, xp.int32), axis=1, dtype=xp.int32) <= room))
    return chosen


def summary(S: Array, P: Array, top: Array) -> tuple[Array, Array, Array]:
    """The place of the largest weight, that weight, and the entropy of all."""
    xp = array_namespace(S)
    index = first_of_the_largest(S, top)[0]
    weight = xp.take_along_axis(P, index[:, None], axis=1)[:, 0]
    logs = xp.log(xp.where(P > 0, P, xp.ones_like(P)))
    entropy = -xp.sum(P * logs, axis=1)
    return index, weight, xp.where(entropy > 0, entropy, xp.zeros_like(entropy))


def mean(P: Array, V: Array) -> Array:
    """``P V``, from the rows of V that have weight if these are few."""
    xp = array_namespace(P)
    used = xp.nonzero(xp.any(P > 0, axis=0))[0]
    if 2 * used.shape[0] < V.shape[0]:
        P, V = xp.take(P, used, axis=1), xp.take(V, used, axis=0)
    return P @ xp.astype(V, P.dtype, copy=False)
