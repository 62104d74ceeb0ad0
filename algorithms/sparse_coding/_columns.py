"""One signal, many columns: the lasso by working sets, with coordinate descent on the residual and dual extrapolation.

The columns D (n, k) are read as a whole once an iteration, for their correlations with the residual. Columns of the
working set are copied to rows of norm 1, which turns thresholds ``t_j = reg w_j`` into ``t_j / |d_j|``. No Gram matrix
is formed but that of the support, when its signs hold and its values can be solved for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from numcore.algorithms.sparse_coding._loops_lasso import sweep_columns

__all__ = ["Columns", "Iterate"]

Array = NDArray[np.float64]

FIRST = 200
"""Columns in the first working set; later ones have twice the support at least."""

SWEEPS = 10
"""Sweeps between two looks at the gap."""

ROUNDS = 500
"""Looks at the gap of a working set, at most."""

MEMORY = 6
"""Residuals that are extrapolated from (Massias et al., 2018, section 3)."""

PIVOT = 1e-10
"""A squared pivot below this part of the diagonal means that columns are linearly dependent."""

SLIGHT = 1e-9
"""The threshold that stands for none, relative to column and signal, where coefficients may not be negative: a dual
point must leave room for rounding."""

RIDGE = 1e-12
"""What is added to the Gram matrix of changes, divided by its trace, before it is solved with."""

CHUNK = 2**20
"""Entries of a float32 matrix that are held in float64 at once."""


@dataclass
class Iterate:
    """Coefficients with what is known of them.

    Attributes
    ----------
    a : (k,) array
    r : (n,) array
        The residual.
    g : (k,) array
        Its correlations with the columns.
    theta : (n,) array or None
        The best dual point so far.
    extrapolated : (n,) array or None
        A further candidate, from the last working set.
    gap : float
        The duality gap with `theta`.
    """

    a: Array
    r: Array
    g: Array
    theta: Array | None = None
    extrapolated: Array | None = None
    gap: float = np.inf


class Columns:
    """The data of ``|y - D a|^2 / 2 + sum_j t_j |a_j|``, with all t_j positive; inf forbids a coefficient."""

    def __init__(self, D: NDArray[Any], y: Array, positive: bool, basis: Array | None = None) -> None:
        self.D, self.positive, self.basis = D, positive, basis
        self.y = y if basis is None else y - basis @ (basis.T @ y)
        self.members = np.empty(0, np.int64)
        self.rows, self.norms = np.empty((0, len(y))), np.empty(0)

    def correlations(self, r: Array) -> Array:
        """``D^T r`` in float64."""
        if self.D.dtype == np.float64:
            return r @ self.D
        n, k = self.D.shape
        if self.D.flags.f_contiguous:
            step = max(1, CHUNK // max(n, 1))
            parts = [r @ self.D[:, j : j + step].astype(np.float64) for j in range(0, k, step)]
            return np.concatenate(parts)
        step, total = max(1, CHUNK // k), np.zeros(k)
        for i in range(0, n, step):
            total += r[i : i + step] @ self.D[i : i + step].astype(np.float64)
        return total

    def squares(self) -> Array:
        """The squared norms of all columns."""
        found: Array = np.einsum("ij,ij->j", self.D, self.D, dtype=np.float64)
        return found

    def gram_column(self, j: int) -> Array:
        """``D^T d_j``."""
        return self.correlations(self.D[:, j].astype(np.float64))

    def gather(self, W: NDArray[np.int64]) -> tuple[Array, Array]:
        """The columns W as rows of norm 1, less what lies in the basis, and their norms; those in it stay 0."""
        place = np.full(self.D.shape[1], -1)
        place[self.members] = np.arange(self.members.size)
        new = W[place[W] < 0]
        fresh = np.ascontiguousarray(self.D[:, new].T, dtype=np.float64)
        top = np.abs(fresh).max(axis=1, initial=0.0)
        top[top == 0] = 1.0
        fresh /= top[:, None]
        whole = np.linalg.norm(fresh, axis=1)
        if self.basis is not None:
            fresh -= (fresh @ self.basis) @ self.basis.T
        lengths = np.linalg.norm(fresh, axis=1)
        lengths[lengths <= PIVOT * whole] = 0.0  # within rounding
        fresh /= np.where(lengths > 0, lengths, np.inf)[:, None]
        # what was gathered before is at hand
        place[new] = self.members.size + np.arange(new.size)
        self.rows, self.norms = (
            np.concatenate([self.rows, fresh])[place[W]],
            np.append(self.norms, lengths * top)[place[W]],
        )
        self.members = W
        return self.rows, self.norms

    def start(self, a: Array) -> Iterate:
        """What is known of the coefficients `a`."""
        S = np.flatnonzero(a)
        rows, norms = self.gather(S)
        r = self.y - (a[S] * norms) @ rows
        return Iterate(a, r, self.correlations(r))

    def gap(self, at: Iterate, t: Array) -> float:
        """The duality gap for thresholds `t`, with the best dual point among those at hand, which is kept."""
        candidates = [self._shrunk(at.r, at.g, t)]
        if at.theta is not None:
            candidates.append(at.theta)
        if at.extrapolated is not None:
            candidates.append(self._shrunk(at.extrapolated, self.correlations(at.extrapolated), t))
        S = np.flatnonzero(at.a)
        rows, norms = self._held(S) if np.isin(S, self.members).all() else self.gather(S)
        b, own = at.a[S] * norms, t[S] / np.where(norms > 0, norms, 1.0)
        gaps = [dual_gap(at.r, theta, b, own, rows @ theta) for theta in candidates]
        best = int(np.argmin(gaps))
        at.theta, at.gap = candidates[best], gaps[best]
        return at.gap

    def _held(self, S: NDArray[np.int64]) -> tuple[Array, Array]:
        """What :meth:`gather` would return for some of the columns that were gathered last."""
        where = np.searchsorted(self.members, S)
        return self.rows[where], self.norms[where]

    def _shrunk(self, v: Array, g: Array, t: Array) -> Array:
        """The dual point along v, whose correlations are g."""
        return v * shrinking(g, t, self.positive)

    def improve(self, at: Iterate, t: Array, goal: float, last: float) -> Iterate:
        """Solve over the next working set, until its own gap is at most `goal`; `last` if that leaves no column out."""
        W = self._working_set(at, t)
        goal = last if W.size == np.isfinite(t).sum() else max(goal, last)
        A, norms = self.gather(W)
        if not norms.all():
            A, W, norms = A[norms > 0], W[norms > 0], norms[norms > 0]
        b = at.a[W] * norms
        r, extrapolated = minimise(A, t[W] / norms, self.y, b, self.positive, goal)
        a = np.zeros_like(at.a)
        a[W] = b / norms
        return Iterate(a, r, self.correlations(r), at.theta, extrapolated)

    def _working_set(self, at: Iterate, t: Array) -> NDArray[np.int64]:
        """The support, and the columns that are nearest to violating the conditions of optimality, or do most."""
        support = at.a != 0
        ratio = (np.maximum(at.g, 0.0) if self.positive else abs(at.g)) / t
        ratio[support] = np.inf
        size = min(max(FIRST, 2 * int(support.sum())), int(np.isfinite(t).sum()))
        ratio[~np.isfinite(t)] = -1.0
        # of those that tie, the first
        return np.sort(np.argsort(-ratio, kind="stable")[:size])


def shrinking(g: Array, t: Array, positive: bool) -> float:
    """The largest s <= 1 for which ``s |g_j| <= t_j``."""
    size = np.maximum(g, 0.0) if positive else abs(g)
    over = size > t
    return float(np.min(t[over] / size[over], initial=1.0))


def dual_gap(r: Array, theta: Array, b: Array, t: Array, g: Array) -> float:
    """The gap of coefficients b, which leave r, and the dual point theta, whose correlations are g.

    ``|r - theta|^2 / 2 + sum_j (t_j |b_j| - b_j g_j)``: no term is negative, so that nothing large cancels.
    """
    away = r - theta
    return max(float(away @ away / 2 + t @ abs(b) - b @ g), 0.0)


def minimise(A: Array, t: Array, y: Array, b: Array, positive: bool, goal: float) -> tuple[Array, Array | None]:
    """Minimise ``|y - b A|^2 / 2 + sum t_j |b_j|`` over b, which is overwritten, until the gap is at most `goal`.

    Returns the residual, and the extrapolated one if that gave the better dual point.
    """
    r, past, signs, better = y - b @ A, [], np.zeros_like(b), None
    for _ in range(ROUNDS):
        before = b.copy()
        sweep_columns(A, t, positive, SWEEPS, r, b)
        r = y - b @ A  # afresh, so that it does not drift
        past.append(r)
        gap, better = point_gap(A, t, r, b, positive, r), None
        ahead = extrapolated(past)
        if ahead is not None and (other := point_gap(A, t, r, b, positive, ahead)) < gap:
            gap, better = other, ahead
        if gap <= goal or np.array_equal(b, before):
            break
        if np.array_equal(np.sign(b), signs) and solve_signs(A, t, y, b):
            r, past, better = y - b @ A, [], None
            if point_gap(A, t, r, b, positive, r) <= goal:
                break
        signs = np.sign(b)
    return r, better


def point_gap(A: Array, t: Array, r: Array, b: Array, positive: bool, v: Array) -> float:
    """The gap with the dual point along v."""
    g = A @ v
    s = shrinking(g, t, positive)
    return dual_gap(r, s * v, b, t, s * g)


def extrapolated(past: list[Array]) -> Array | None:
    """Where residuals tend to: their combination whose changes nearly cancel (Massias et al., 2018, definition 1)."""
    del past[: -MEMORY - 1]
    if len(past) <= MEMORY:
        return None
    U = np.diff(np.stack(past), axis=0)
    M = U @ U.T
    size = np.trace(M)
    if size == 0:
        return None
    z = np.linalg.solve(M / size + RIDGE * np.eye(MEMORY), np.ones(MEMORY))
    return (z / z.sum()) @ np.stack(past[1:])


def solve_signs(A: Array, t: Array, y: Array, b: Array) -> bool:
    """Go to the minimum for the signs that b has, as far as they hold; drop what reaches 0, and go on from there.

    Returns whether b was changed: not if its columns are linearly dependent.
    """
    S = np.flatnonzero(b)
    H = A[S] @ A[S].T
    h, inside = A[S] @ (y - b[S] @ A[S]), np.arange(S.size)
    changed = False
    while inside.size:
        own = H[np.ix_(inside, inside)]
        try:
            factor = scipy.linalg.cho_factor(own, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return changed
        if (factor[0].diagonal() ** 2 < PIVOT).any():
            return changed
        P = S[inside]
        d = scipy.linalg.cho_solve(factor, h[inside] - t[P] * np.sign(b[P]), check_finite=False)
        crossing = np.where(np.sign(b[P] + d) == np.sign(b[P]), np.inf, -b[P] / np.where(d == 0, 1.0, d))
        first = int(np.argmin(crossing))
        step = min(1.0, crossing[first])
        b[P] += step * d
        changed = True
        if step == 1.0:
            break
        h -= step * (H[:, inside] @ d)
        b[P[first]] = 0.0
        inside = np.delete(inside, first)
    return changed
