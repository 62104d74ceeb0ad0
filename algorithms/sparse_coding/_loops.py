"""The reference hot loops of sparse coding: unchecked, float64, one signal a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from numcore.dispatch import dispatchable
from numcore.prox._formulas import FORMULAS

__all__ = ["lasso_codes", "separable_codes"]

Array = NDArray[np.float64]

SWEEPS, RETRIES = 4, 1
"""Sweeps of coordinate descent over a working set before its values are solved for, and between two solutions."""

NEAR = 1.7
"""All violators join when no correlation with the residual is above this many thresholds; before, the worst do."""

SETTLED, SLOW = 1.25, 0.7
"""Values are solved for when no correlation with the residual is above this many thresholds; or when the largest is
above this part of what it was."""

PATIENCE = 50
"""Sweeps and solutions after which coefficients enter one by one, which may be slow but is sure to end."""

TIE = 1e-14
"""Correlations that differ by less are equal."""

PIVOT = 1e-10
"""A squared pivot below this part of the diagonal means that an atom is spanned by those before it."""

ROUNDING = 16 * 2.0**-52
"""Correlations are known to this part of the norms of signal and atom."""

LEVEL = 1e-12
"""A slope below this part of its terms is none."""


@dispatchable
def lasso_codes(
    C: Array,
    G: Array,
    squares: Array,
    goals: Array,
    regs: Array,
    weights: Array,
    positive: bool,
    max_iter: int,
    A: Array,
) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Solve the lasso of every signal by working sets, from the codes `A`, which are overwritten.

    Parameters
    ----------
    C : (n, k) array
        Correlations of signals and atoms.
    G : (k, k) array
        The Gram matrix, with a positive diagonal.
    squares, goals, regs : (n,) arrays
        ``|x|^2``, the duality gap that is small enough, and the regularisation.
    weights : (1, k) or (n, k) array
        Positive; inf forbids a coefficient.
    positive : bool
    max_iter : int
        Sweeps and solutions at most, a signal.
    A : (n, k) array

    Returns
    -------
    values : (2, n) float64 array
        The objective and the duality gap.
    n_iter, degenerate : (n,) arrays
        Of int64 and bool.
    """
    n = len(C)
    values, n_iter, degenerate = np.zeros((2, n)), np.zeros(n, np.int64), np.zeros(n, bool)
    room = ROUNDING * np.sqrt(G.diagonal())
    for i in range(n):
        t = regs[i] * weights[i if len(weights) > 1 else 0]
        found = _lasso(C[i], G, squares[i], goals[i], t, np.sqrt(squares[i]) * room, positive, max_iter, A[i])
        values[0, i], values[1, i], n_iter[i], degenerate[i] = found
    return values, n_iter, degenerate


def _lasso(
    c: Array, G: Array, square: float, goal: float, t: Array, room: Array, positive: bool, max_iter: int, a: Array
) -> tuple[float, float, int, bool]:
    count, degenerate, unit, before = 0, False, 1 / t, np.inf
    while True:
        S = a.nonzero()[0]
        g = c - a[S] @ G[S]
        ratio = ((g if positive else abs(g)) - room) * unit
        top = max(float(ratio.max()), 1.0)
        # the dual point is the residual times s; see duality_gap
        s, inner, penalty = 1 / top, float(a[S] @ g[S]), float(t[S] @ abs(a[S]))
        residual = max(square - float(a[S] @ c[S]) - inner, 0.0)
        gap = max((1 - s) ** 2 * residual / 2 + penalty - s * inner, 0.0)
        if gap <= goal or count >= max_iter:
            return residual / 2 + penalty, gap, count, degenerate
        # while some violate by far, only those: the rest may well not last
        careful = count >= PATIENCE
        floor = max(1.0, top * (1 - TIE)) if careful else 1.0 if top <= NEAR else (1 + top) / 2
        W = ((a != 0) | (ratio > floor)).nonzero()[0]
        H, h, b = G[W[:, None], W], g[W], a[W]
        if not careful:
            sweeps = min(SWEEPS, max_iter - count)
            for _ in range(sweeps):
                _sweep(H, h, b, t[W], positive)
            count += sweeps
        if count < max_iter and (careful or top <= SETTLED or top > SLOW * before):
            solved, level = _solve_signs(H, h, b, t[W], positive, careful, max_iter - count)
            count += solved
            degenerate |= level
        a[W], before = b, top


def _sweep(H: Array, h: Array, b: Array, t: Array, positive: bool) -> None:
    """One sweep of coordinate descent; `h` is the correlation with the residual."""
    # as Python's own numbers, which are quicker one by one
    for p, (curve, old, threshold) in enumerate(zip(H.diagonal().tolist(), b.tolist(), t.tolist(), strict=True)):
        z = curve * old + h.item(p)
        size = abs(z) - threshold
        new = 0.0 if size <= 0 or (positive and z < 0) else size / curve if z > 0 else -size / curve
        if new != old:
            h -= (new - old) * H[p]
            b[p] = new


def _solve_signs(H: Array, h: Array, b: Array, t: Array, positive: bool, careful: bool, most: int) -> tuple[int, bool]:
    """Go to the minimum for the signs that b has; where a coefficient reaches 0 first, drop it there and try again.

    `careful` lets one new coefficient in at most, the first, with the sign that its correlation asks for, and none
    come back. Returns the number of solutions, `most` at most, and whether two codes were found to be as good as each
    other.
    """
    count, level = 0, False
    fresh = int(np.argmax(b == 0)) if careful and not b.all() else -1
    while count < min(b.size + 1, most):
        count += 1
        S = ((b != 0) | (np.arange(b.size) == fresh)).nonzero()[0]
        if not S.size:
            break
        signs = np.where(b[S] != 0, np.sign(b[S]), np.where(h[S] > 0, 1.0, -1.0))
        d, spanned = _direction(H[S[:, None], S], h[S] - t[S] * signs)
        S, signs = S[: d.size], signs[: d.size]
        if spanned:
            d, flat = _downhill(h[S], signs, t[S], d)
            level |= flat
        falling = d * signs < 0
        if spanned and not falling.any():
            break
        reach = np.where(falling, abs(b[S]) / np.where(falling, abs(d), 1.0), np.inf)
        nearest = float(reach.min())
        step = nearest if spanned else min(1.0, nearest)
        b[S] += step * d
        h -= step * (d @ H[S])
        fresh = -1
        if nearest > step:
            break
        b[S[(reach == nearest).nonzero()[0][-1]]] = 0.0
        if not careful:
            for _ in range(RETRIES):
                _sweep(H, h, b, t, positive)
    return count, level


def _direction(H: Array, y: Array) -> tuple[Array, bool]:
    """``H^-1 y``; or, if an atom is spanned by those before it, their combination that is this atom."""
    n = len(H)
    # straight from LAPACK: on systems this small, what surrounds it in SciPy takes most of the time
    L, failed = lapack.dpotrf(H, lower=1)
    reached = failed - 1 if failed else n
    weak = (L.diagonal()[:reached] ** 2 <= PIVOT * H.diagonal()[:reached]).nonzero()[0]
    solved = int(weak[0]) if weak.size else reached
    if solved == n:
        return lapack.dpotrs(L, y, lower=1)[0], False
    d = lapack.dposv(H[:solved, :solved], H[:solved, solved], lower=1)[1] if solved else np.empty(0)
    return np.append(d, -1.0), True


def _downhill(h: Array, signs: Array, t: Array, d: Array) -> tuple[Array, bool]:
    """Turn d, a combination of atoms that leaves the signal as it is, so that the penalty, linear along it, falls.

    Where it is level the last atom is to give way. Returns whether it is.
    """
    slope = d @ (t * signs - h)
    level = bool(abs(slope) <= LEVEL * (abs(d) @ t))
    rising = -signs[-1] if level else slope
    return (-d if rising > 0 else d), level


@dispatchable
def separable_codes(
    C: Array,
    G: Array,
    formula: str,
    regs: Array,
    weights: Array,
    shapes: Array,
    positive: bool,
    tol: float,
    max_iter: int,
    A: Array,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Coordinate descent for every signal with a penalty of :data:`FORMULAS`, from codes `A`, which are overwritten.

    A signal is done when no coefficient is farther than `tol` times the largest from its own minimum.

    Parameters
    ----------
    C, G, regs, positive, A
        As for :func:`lasso_codes`.
    weights : (1, k) or (n, k) array
        Not negative.
    formula : str
    shapes : (1, 1), (n, 1) or (1, k) array
        The formula's further parameter.
    tol : float
    max_iter : int
        Sweeps at most.

    Returns
    -------
    n_iter, converged : (n,) arrays
    """
    n, k = C.shape
    steps = 1 / G.diagonal()
    n_iter, converged = np.zeros(n, np.int64), np.zeros(n, bool)
    reg = regs[:, None] * weights
    shapes = np.broadcast_to(shapes, (n, k))
    live, quiet = np.arange(n), np.zeros(n, bool)
    for sweep in range(max_iter + 1):
        B = A[live]
        g = C[live] - B @ G  # afresh, so that it does not drift
        near = tol * np.max(abs(B), axis=1, initial=0.0)
        # a sweep that changes little calls for the test itself, at one point
        away = abs(_prox(formula, B + steps * g, steps, reg[live], shapes[live], positive) - B).max(axis=1)
        converged[live] = quiet[live] & (away <= near)
        rest = ~converged[live]
        B, g, live = B[rest], g[rest], live[rest]
        if sweep == max_iter or not live.size:
            break
        r, q = reg[live], shapes[live]
        largest = np.zeros(live.size)
        for j in range(k):
            new = _prox(formula, B[:, j] + steps[j] * g[:, j], steps[j], r[:, j], q[:, j], positive)
            d = new - B[:, j]
            g -= d[:, None] * G[j]
            B[:, j] = new
            np.maximum(largest, abs(d), out=largest)
        A[live] = B
        n_iter[live] += 1
        quiet[live] = largest <= tol * abs(B).max(axis=1)
    return n_iter, converged


def _prox(formula: str, v: Array, step: Any, reg: Any, shape: Any, positive: bool) -> Array:
    """The operator of a formula; see ``numcore.prox._loops.elementwise``, which takes whole arrays."""
    if formula in ("mcp", "scad"):
        parameters: tuple[Any, ...] = (step, reg, shape)
    elif formula in ("lq", "log_sum"):
        parameters = (step * reg, shape)
    else:
        parameters = (step * reg,)
    a = np.maximum(v, 0.0) if positive else abs(v)
    operator = FORMULAS[formula]
    with np.errstate(all="ignore"):
        size = np.where(operator.active(np, a, *parameters), operator.shrunk(np, a, *parameters), 0.0)
    return np.where((v < 0) & (size > 0), -size, size)
