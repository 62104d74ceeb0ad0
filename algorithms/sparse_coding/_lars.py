"""The lasso path of one signal, exactly: coefficients are linear in the regularisation between knots.

It minimises ``a G a / 2 - c a + reg sum_j w_j |a_j|``. On a support S with signs s, ``G_SS a_S = c_S - reg w_S s``. As
`reg` falls by h, the coefficients move by ``h d`` with ``G_SS d = w_S s``, and the correlations ``g = c - a G`` by
``-h u`` with ``u = d G_S``. A knot is where the next column meets ``|g_j| = reg w_j`` and joins, or where a coefficient
meets 0 and its column leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from numcore.linalg import cholesky_delete

__all__ = ["Stretch", "stretches"]

Array = NDArray[np.float64]

PIVOT = 1e-10
"""A column of which the support leaves at most this part (squared) has to wait until some column leaves."""

ROUNDING = 1e-14
"""Knots below this part of the first one are none."""


@dataclass(frozen=True)
class Stretch:
    """The path between two knots.

    Attributes
    ----------
    high, low : float
        The regularisation at its ends; the path begins with ``high = inf``.
    support : (s,) int array
        In the order in which the columns joined.
    start : (s,) array
        The coefficients at `high`.
    direction : (s,) array
        What they gain as the regularisation falls by 1.
    blocked : bool
        Whether a column waits that depends on the support.
    """

    high: float
    low: float
    support: NDArray[np.int64]
    start: Array
    direction: Array
    blocked: bool

    def at(self, reg: float) -> Array:
        """The coefficients of the support, for `reg` within the stretch."""
        return self.start + (self.high - reg) * self.direction if np.isfinite(self.high) else self.start


def stretches(
    c: Array, column: Callable[[int], Array], diagonal: Array, weights: Array, positive: bool = False
) -> Iterator[Stretch]:
    """The stretches of the path, from ``reg = inf`` on; the last one ends at 0. To stop early, stop asking.

    Of columns that tie the first joins first, one a step.

    Parameters
    ----------
    c : (k,) array
        Correlations of the signal and the columns.
    column : callable
        ``column(j)`` is column j of the Gram matrix, (k,). Asked when j joins.
    diagonal : (k,) array
        The diagonal of the Gram matrix.
    weights : (k,) array
        Positive; inf forbids a coefficient.
    positive : bool
        Keep coefficients from being negative.

    Yields
    ------
    Stretch
    """
    path = _Path(c, column, diagonal, weights, positive)
    first = reg = path.first()
    yield Stretch(np.inf, reg, *path.line(reg), False)
    idle = 0
    while reg > 0:
        path.turn()
        line = path.line(reg)
        low = path.next(reg, *line)
        idle = idle + 1 if low == reg else 0
        if low <= ROUNDING * first or idle > 2 * c.size:
            low = 0.0
        if low < reg:
            yield Stretch(reg, low, *line, bool(path.blocked.any()))
        reg = low


class _Path:
    """The support at a knot, its Cholesky factor and the rows of the Gram matrix that belong to it."""

    def __init__(
        self, c: Array, column: Callable[[int], Array], diagonal: Array, weights: Array, positive: bool
    ) -> None:
        self.c, self.column, self.diagonal, self.positive = c, column, diagonal, positive
        k = c.size
        self.usable = np.isfinite(weights) & (diagonal > 0)
        self.w = np.where(self.usable, weights, 1.0)
        self.support: list[int] = []
        self.signs, self.inside = np.zeros(k), np.zeros(k, bool)
        self.blocked, self.joined = np.zeros(k, bool), -1
        # the sign of the column that has just left: it is at that bound, and moves away from it
        self.left = np.zeros(k)
        self.rows, self.L = np.empty((8, k)), np.empty((0, 0))
        self.event: tuple[str, int, float] = ("end", -1, 0.0)

    def first(self) -> float:
        """Where the first column joins."""
        size = np.where(self.usable, (self.c if self.positive else abs(self.c)) / self.w, -np.inf)
        j = int(np.argmax(size)) if size.size else -1
        if j < 0 or size[j] <= 0:
            return 0.0
        self.event = ("join", j, 1.0 if self.c[j] > 0 else -1.0)
        return float(size[j])

    def line(self, reg: float) -> tuple[NDArray[np.int64], Array, Array]:
        """The support, its coefficients at `reg` and their direction: solved for afresh at each knot."""
        S = np.array(self.support, np.int64)
        pull = self.w[S] * self.signs[S]
        if not S.size:
            return S, pull, pull
        solved, _ = lapack.dpotrs(self.L, np.stack([self.c[S] - reg * pull, pull], axis=1), lower=1)
        return S, solved[:, 0], solved[:, 1]

    def turn(self) -> None:
        """Let the column of the knot join or leave."""
        kind, j, sign = self.event
        if kind == "join":
            self._join(j, sign)
        else:
            self._leave(j)

    def _join(self, j: int, sign: float) -> None:
        self.left[:], self.joined = 0, j
        s, row = len(self.support), self.column(j)
        # straight from LAPACK: on systems this small, what surrounds it in SciPy takes most of the time
        below = lapack.dtrtrs(self.L, row[self.support], lower=1)[0] if s else row[:0]
        pivot = self.diagonal[j] - below @ below
        if pivot < PIVOT * self.diagonal[j]:
            self.blocked[j] = True
            return
        if s == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
        self.rows[s] = row
        L = np.zeros((s + 1, s + 1))
        L[:s, :s], L[s, :s], L[s, s] = self.L, below, np.sqrt(pivot)
        self.L = L
        self.support.append(j)
        self.inside[j], self.signs[j] = True, sign

    def _leave(self, p: int) -> None:
        s, j = len(self.support), self.support.pop(p)
        self.rows[p : s - 1] = self.rows[p + 1 : s].copy()
        self.L = np.tril(cholesky_delete(self.L, p)) if s > 1 else np.empty((0, 0))
        self.left[:] = 0
        self.inside[j], self.left[j], self.signs[j] = False, self.signs[j], 0.0
        self.blocked[:] = False
        self.blocked[j] = j == self.joined  # of several that tie it is not the one
        self.joined = -1

    def next(self, reg: float, S: NDArray[np.int64], a: Array, d: Array) -> float:
        """The next knot, at most `reg`, and what happens there."""
        rows = self.rows[: S.size]
        g, u = self.c - a @ rows, d @ rows
        steps, signs = self._joins(reg, g, u)
        j = int(np.argmin(steps)) if steps.size else -1
        step, self.event = reg, ("end", -1, 0.0)
        if j >= 0 and steps[j] < step:
            step, self.event = float(steps[j]), ("join", j, float(signs[j]))
        # a coefficient that is to have this sign and is 0, or less by rounding, leaves only if it moves the wrong way
        shrinking = d * self.signs[S] < 0
        size = np.maximum(a * self.signs[S], 0.0)
        drops = np.where(shrinking, size / np.where(shrinking, abs(d), 1.0), np.inf)
        p = int(np.argmin(drops)) if drops.size else -1
        if p >= 0 and drops[p] < step:
            step, self.event = float(drops[p]), ("leave", p, 0.0)
        return reg - step

    def _joins(self, reg: float, g: Array, u: Array) -> tuple[Array, Array]:
        """How far each column is from joining, and with which sign."""
        able = self.usable & ~self.inside & ~self.blocked
        up = self._meeting(reg * self.w - g, self.w - u, able & (self.left != 1))
        if self.positive:
            return up, np.ones_like(up)
        down = self._meeting(reg * self.w + g, self.w + u, able & (self.left != -1))
        return np.minimum(up, down), np.where(up <= down, 1.0, -1.0)

    @staticmethod
    def _meeting(room: Array, speed: Array, able: NDArray[np.bool_]) -> Array:
        coming = able & (speed > 0)
        return np.where(coming, np.maximum(room, 0.0) / np.where(coming, speed, 1.0), np.inf)
