"""The energy of a dense memory: what it is as a function of one overlap, and what a flip changes.

Notation: patterns ``p`` (K, N), weights ``w`` (K,), field ``b`` (N,), state ``s`` (N,), overlaps ``X_mu = p_mu . s``;
``E(s) = -sum_mu w_mu F_mu - b . s``. All sums over sites are divided by N before they are raised to a power, so that
high orders neither overflow nor vanish.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._checks import INTERACTIONS, Array, as_order, as_patterns
from numcore.arrays import as_choice, as_floating

__all__ = ["Model", "elementary", "make_model", "weight_vector"]

BLOCK = 1 << 21
"""Entries of patterns that are converted to floating point at a time."""


def make_model(
    patterns: ArrayLike,
    *,
    order: int = 3,
    interaction: str = "distinct",
    weights: ArrayLike | None = None,
    field: ArrayLike | None = None,
) -> Model:
    """Check what describes an energy."""
    as_choice(interaction, "interaction", INTERACTIONS)
    P = as_order(order)
    p, _ = as_patterns(patterns)
    if interaction == "distinct" and P > max(p.shape[1], 2):  # one spin without a pair has an energy, 0
        raise ValueError(
            f"order must be at most the number of features, {p.shape[1]}, with interaction 'distinct'; got {P}"
        )
    return Model(p, weight_vector(weights, len(p)), field_vector(field, p.shape[1]), P, interaction)


def weight_vector(weights: ArrayLike | None, count: int) -> Array:
    """Weights of the patterns, none negative; ones where none are given."""
    if weights is None:
        return np.ones(count)
    w: Array = as_floating(weights, "weights", shape=(count,), dtype=np.float64)
    if np.any(w < 0):
        raise ValueError(f"weights must not be negative; {np.count_nonzero(w < 0)} of {count} are")
    return w


def field_vector(field: ArrayLike | None, n_features: int) -> Array:
    """An external field; zeros where none is given."""
    if field is None:
        return np.zeros(n_features)
    return as_floating(field, "field", shape=(n_features,), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Model:
    """A checked energy.

    Attributes
    ----------
    patterns : (K, N) int8 or float64 array
        int8 where all entries are -1 and +1.
    weights : (K,) float64 array
    field : (N,) float64 array
    order : int
    interaction : {"distinct", "full", "rectified", "exp"}
    """

    patterns: Array
    weights: Array
    field: Array
    order: int
    interaction: str

    @property
    def n_features(self) -> int:
        """The number of sites, N."""
        return int(self.patterns.shape[1])

    @property
    def binary(self) -> bool:
        """Whether all patterns are signs, so that overlaps are integers."""
        return self.patterns.dtype == np.int8

    @cached_property
    def level(self) -> Array:
        """``F`` of the overlaps ``X = 2 k - N``, k = 0 .. N, for patterns of signs."""
        X = 2.0 * np.arange(self.n_features + 1) - self.n_features
        return self.values(X)

    @cached_property
    def rise(self) -> Array:
        """``D = F(X) - F(X - 2)`` at ``X = 2 k - N``, k = 0 .. N + 1, without the cancellation of that difference.

        An aligned site costs ``D(X)`` to flip, another one ``-D(X + 2)``. The first and the last entry belong to no
        flip; there D continues its formula.
        """
        X = 2.0 * np.arange(self.n_features + 2) - self.n_features
        return self.rise_at(X)

    def values(self, X: Array) -> Array:
        """``F(X)`` for a pattern of signs (any pattern, where F depends on the overlap alone)."""
        N, P = self.n_features, self.order
        if self.interaction == "exp":
            return np.exp(np.minimum(X - N, 700.0))
        if self.interaction == "distinct":
            return np.asarray(N / 2 * symmetric(X / N, N, P, 1 / N))
        x = X / N if self.interaction == "full" else np.maximum(X / N, 0.0)
        return N / 2 * x**P

    def rise_at(self, X: Array) -> Array:
        """``F(X) - F(X - 2)``."""
        N, P = self.n_features, self.order
        if self.interaction == "exp":
            return np.exp(X - N) * -np.expm1(-2.0)
        if self.interaction == "distinct":
            return P * symmetric((X - 1) / N, N - 1, P - 1, 1 / N)
        a, b = X / N, (X - 2) / N
        if self.interaction == "full":
            return power_slope(a, b, P)
        a, b = np.maximum(a, 0.0), np.maximum(b, 0.0)
        return N / 2 * (a - b) * power_slope(a, b, P)

    @cached_property
    def polynomials(self) -> Array:
        """Coefficients, lowest first, of ``(D(X) +- D(X + 2)) / 2`` in ``x = X / N``: (2, P); empty if none."""
        N, P = self.n_features, self.order
        if self.interaction not in ("distinct", "full") or P > 6:
            return np.zeros((2, 0))
        x = Polynomial([0.0, 1.0])
        if self.interaction == "distinct":
            slope = P * symmetric(x, N - 1, P - 1, 1 / N)
            low, high = slope(x - 1 / N), slope(x + 1 / N)
        else:
            low, high = power_slope(x, x - 2 / N, P), power_slope(x + 2 / N, x, P)
        rows = np.zeros((2, P))
        for row, combined in zip(rows, ((low + high) / 2, (low - high) / 2), strict=True):
            row[: len(combined.coef)] = combined.coef
        return rows

    def blocks(self, dtype: Any) -> Iterator[tuple[slice, Array]]:
        """A few rows of the patterns at a time, as floats."""
        step = max(1, BLOCK // self.n_features)
        for k in range(0, len(self.patterns), step):
            rows = slice(k, min(k + step, len(self.patterns)))
            yield rows, self.patterns[rows].astype(dtype, copy=False)

    def counts(self, states: Array) -> Array:
        """``(X + N) / 2`` of signs (n, N) with patterns of signs, (n, K) int32: how many sites agree."""
        # sums of up to 2^24 signs are exact in float32
        dtype: Any = np.float32 if self.n_features < 2**24 else np.float64
        s, found = states.astype(dtype), np.empty((len(states), len(self.patterns)), np.int32)
        for rows, p in self.blocks(dtype):
            found[:, rows] = (s @ p.T + self.n_features) / 2
        return found

    def energies(self, states: Array) -> Array:
        """E of each state, float64."""
        linear = states @ self.field
        if self.binary:
            return -(self.level[self.counts(states)] @ self.weights) - linear
        if self.interaction != "distinct":
            X = states.astype(np.float64) @ self.patterns.T
            return -(self.values(X) @ self.weights) - linear
        values = np.zeros(len(states))
        for part in self.parts(states):
            for rows, p in self.blocks(np.float64):
                values[part] += symmetric_sums(states[part], p, self.order)[self.order] @ self.weights[rows]
        return -self.n_features / 2 * values - linear

    def parts(self, states: Array) -> Iterator[slice]:
        """A few states at a time, so that what is kept of each with all patterns of a block fits a block."""
        step = max(1, BLOCK // (self.order * min(len(self.patterns), max(1, BLOCK // self.n_features))))
        for k in range(0, len(states), step):
            yield slice(k, k + step)

    def fields(self, states: Array, dtype: Any = np.float64) -> tuple[Array, Array]:
        """``h_i = s_i (E(s flipped at i) - E(s)) / 2`` (n, N), and the size (n,) of the sums that they come from.

        With "exp" both are divided by ``exp(max X - N)``, which no sign feels.
        """
        if self.binary:
            h, size = self._fields_of_signs(states, dtype)
        elif self.interaction == "distinct":
            h, size = self.multilinear(states)
        else:
            h, size = self._fields_of_overlaps(states)
        return h + self.field, size + np.abs(self.field).max()

    def shift(self, X: Array) -> Array:
        """The largest overlap of each state with "exp", else N: what exponents are counted from."""
        return X.max(axis=1, keepdims=True) if self.interaction == "exp" else np.full((len(X), 1), self.n_features)

    def _fields_of_signs(self, states: Array, dtype: Any) -> tuple[Array, Array]:
        counts = self.counts(states)
        counts = counts + (self.n_features - self.shift(counts)).astype(np.int32)
        up, down = self.rise[counts], self.rise[counts + 1]
        A, B = self.weights * (up - down) / 2, self.weights * (up + down) / 2
        D = np.zeros(states.shape)
        B = B.astype(dtype)
        for rows, p in self.blocks(dtype):
            D += B[:, rows] @ p
        S = A.sum(axis=1, keepdims=True)
        return (states * S + D) / 2, np.abs(A).sum(axis=1) + np.abs(B).sum(axis=1)

    def _fields_of_overlaps(self, states: Array) -> tuple[Array, Array]:
        h, size = np.zeros(states.shape), np.zeros(len(states))
        X = states.astype(np.float64) @ self.patterns.T
        shift = self.shift(X)[:, 0]
        for k, s in enumerate(states):
            for rows, p in self.blocks(np.float64):
                change = self.weights[rows, None] * self.change(X[k, rows, None], p * s, shift[k])
                h[k] += s * change.sum(axis=0) / 2
                size[k] += np.abs(change).max(axis=1).sum()
        return h, size

    def change(self, X: Any, v: Any, shift: float) -> Any:
        """``F(X) - F(X - 2 v)``, where F depends on the overlap alone; for "exp", counted from `shift`."""
        N, P = self.n_features, self.order
        if self.interaction == "exp":
            return np.exp(X - shift) - np.exp(np.minimum(X - 2 * v - shift, 700.0))
        a, b = X / N, (X - 2 * v) / N
        if self.interaction == "full":
            return v * power_slope(a, b, P)
        a, b = np.maximum(a, 0.0), np.maximum(b, 0.0)
        return N / 2 * (a - b) * power_slope(a, b, P)

    def multilinear(self, states: Array) -> tuple[Array, Array]:
        """Fields of the "distinct" energy without b, for states of any real entries: E is linear in each of them."""
        h, size = np.zeros(states.shape), np.zeros(len(states))
        for part in self.parts(states):
            for rows, p in self.blocks(np.float64):
                few = self.order**2 <= self.n_features
                found = (expanded_fields if few else peeled_fields)(states[part], p, self.weights[rows], self.order)
                h[part] += found[0]
                size[part] += found[1]
        return h, size


def expanded_fields(s: Array, p: Array, w: Array, P: int) -> tuple[Array, Array]:
    """Fields by matrix products alone: ``e_(P-1)`` of all sites but i, written out in powers of ``v_i = p_i s_i``.

    Its terms fall like ``(P / N)^j``; so it is for orders far below the number of sites.
    """
    N = s.shape[1]
    sums = symmetric_sums(s, p, P - 1)
    h, size = np.zeros(s.shape), np.zeros(len(s))
    factor, power, sign = P / 2, p, np.ones_like(s, dtype=np.float64)
    for j in range(P):
        weighted = w * sums[P - 1 - j]
        h += factor * sign * (weighted @ power)
        size += abs(factor) * np.abs(weighted) @ np.abs(power).max(axis=1)
        factor, power, sign = -factor * (P - 1 - j) / N, power * p, sign * s
    return h, size


def peeled_fields(s: Array, p: Array, w: Array, P: int) -> tuple[Array, Array]:
    """Fields by taking every site off the symmetric sums in turn: any order, at the cost of all pairs (mu, i)."""
    N = s.shape[1]
    h, size = np.zeros(s.shape), np.zeros(len(s))
    for k, state in enumerate(s):
        v = p * state
        whole, rest = elementary(v, P - 1), np.ones_like(v)
        for j in range(1, P):
            rest = whole[:, j, None] - (j / N) * v * rest
        terms = w[:, None] * p * rest
        h[k] = P / 2 * terms.sum(axis=0)
        size[k] = P / 2 * np.abs(terms).max(axis=1).sum()
    return h, size


def symmetric_sums(s: Array, p: Array, order: int) -> list[Array]:
    """``k! e_k(p o s) / N^k`` for k = 0 .. order, each (n, K): from power sums where the order is low."""
    n, N = s.shape
    if order**2 > N:
        found = np.stack([elementary(p * state, order) for state in s])
        return list(np.moveaxis(found, -1, 0))
    powers, a, b = [], s.astype(np.float64), p
    for _ in range(order):
        powers.append(a @ b.T)
        a, b = a * s / N, b * p
    # Newton's identities, k e_k = sum_i (-1)^(i - 1) e_(k - i) p_i, with factors of N spread over them
    sums = [np.ones((n, len(p)))]
    for k in range(1, order + 1):
        total, factor = np.zeros((n, len(p))), 1.0 / N
        for i in range(1, k + 1):
            total += factor * sums[k - i] * powers[i - 1]
            factor *= -(k - i)
        sums.append(total)
    return sums


def symmetric(x: Any, n: int, k: int, scale: float) -> Any:
    """``k! e_k scale^k`` of n signs whose sum is ``x / scale``: ``(j + 1) e_(j+1) = X e_j - (n - j + 1) e_(j-1)``."""
    before, now = 0.0 * x, 0.0 * x + 1.0
    for j in range(k):
        before, now = now, x * now - (j * (n - j + 1) * scale * scale) * before
    return now


def power_slope(a: Any, b: Any, P: int) -> Any:
    """``(a^P - b^P) / (a - b)``."""
    total = 0.0 * a + 1.0
    power = 0.0 * b + 1.0
    for _ in range(P - 1):
        power = power * b
        total = total * a + power
    return total


def elementary(v: Array, order: int) -> Array:
    """``k! e_k(v) / N^k`` for k = 0 .. order, of vectors (..., N): (..., order + 1).

    The polynomial ``prod_i (1 + v_i z / N)``, multiplied by halves and cut after `order`.
    """
    N = v.shape[-1]
    parts = np.stack([np.ones_like(v), v / N], axis=-1)
    while parts.shape[-2] > 1:
        if parts.shape[-2] % 2:
            one = np.zeros_like(parts[..., :1, :])
            one[..., 0] = 1
            parts = np.concatenate([parts, one], axis=-2)
        parts = product(parts[..., ::2, :], parts[..., 1::2, :], order)
    found = np.zeros((*v.shape[:-1], order + 1))
    kept = parts[..., 0, : order + 1]
    found[..., : kept.shape[-1]] = kept
    return found * np.cumprod([1.0, *range(1, order + 1)])


def product(f: Array, g: Array, order: int) -> Array:
    """Products of polynomials, coefficients along the last axis, up to the power `order`."""
    size = min(f.shape[-1] + g.shape[-1] - 1, order + 1)
    out = np.zeros((*f.shape[:-1], size))
    for j in range(min(f.shape[-1], size)):
        high = min(g.shape[-1], size - j)
        out[..., j : j + high] += f[..., j, None] * g[..., :high]
    return out
