"""The reference hot loop of orthogonal matching pursuit: unchecked, one signal a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from numcore.dispatch import dispatchable

__all__ = ["DEPENDENT", "EXPLAINED", "FULL", "REACHED", "pursue"]

Array = NDArray[Any]

FULL, EXPLAINED, DEPENDENT, REACHED = 0, 1, 2, 3
"""Why a pursuit ended: as many atoms as wanted; none correlates with the residual; those that do depend on the atoms
chosen; the residual is small enough."""

PIVOT = 1e-10
"""An atom of which the chosen ones leave at most this part (squared) depends on them."""

ROUNDING = 32
"""Correlations of so many roundings are none."""

TIE = 1e-9
"""Scores that differ by this part are equal, or by `ROUNDING` roundings if that is more."""

DOUBTFUL = 1e-8
"""A squared residual below this part of the signal's is formed afresh: as a difference it has no digits left."""


@dispatchable
def pursue(
    X: Array, C: Array, G: Array, D: Array, most: int, tol: Array, optimal: bool
) -> tuple[NDArray[np.int64], Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """Choose atoms of unit norm for every signal, one after the other, with coefficients of least squares.

    With e_1, e_2, ... the orthonormal basis that the chosen atoms give in turn, the loop keeps ``V_ij = <e_i, d_j>``,
    the correlations ``g = c - y V`` of atoms with the residual, and ``q_j = 1 - sum_i V_ij^2``, what is left of atom j
    (squared). The columns of V that belong to chosen atoms are the rows of the Cholesky factor of their Gram matrix.

    Parameters
    ----------
    X : (n, p) array
        Signals.
    C : (n, k) array
        ``X D^T``, in the same dtype.
    G : (k, k) float64 array
        ``D D^T``.
    D : (k, p) float64 array
        Atoms.
    most : int
        Atoms at most.
    tol : (n,) float64 array
        The squared residual that is small enough; negative for none.
    optimal : bool
        Score atoms by ``g_j^2 / q_j``, by which the squared residual falls, and not by ``|g_j|``.

    Returns
    -------
    atoms : (n, most) int array
        In the order in which they were chosen; -1 where there are fewer.
    values : (n, most) float64 array
        Their coefficients.
    counts : (n,) int array
    squares : (n,) float64 array
        The squared residuals.
    ends : (n,) int array
        `FULL`, `EXPLAINED`, `DEPENDENT` or `REACHED`.
    """
    n, rounding = len(X), ROUNDING * float(np.finfo(C.dtype).eps)
    atoms, values = np.full((n, most), -1, np.int64), np.zeros((n, most))
    counts, squares, ends = np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.int64)
    for i in range(n):
        x, c = X[i].astype(np.float64), C[i].astype(np.float64)
        chosen, ends[i] = _pursue_one(x, c, G, D, most, tol[i], optimal, rounding)
        a = _solve(G, c, chosen)
        r = x - a @ D[chosen]
        counts[i], squares[i] = len(chosen), r @ r
        atoms[i, : len(chosen)], values[i, : len(chosen)] = chosen, a
    return atoms, values, counts, squares, ends


def _pursue_one(
    x: Array, c: Array, G: Array, D: Array, most: int, tol: float, optimal: bool, rounding: float
) -> tuple[list[int], int]:
    k, square = c.size, float(x @ x)
    V, g, q = np.zeros((most, k)), c.copy(), np.ones(k)
    noise, left = rounding * np.sqrt(square), square
    chosen: list[int] = []
    while True:
        if left <= max(tol, 0.0) + DOUBTFUL * square:
            r = x - _solve(G, c, chosen) @ D[chosen]
            left = float(r @ r)
        if left <= tol:
            return chosen, REACHED
        if len(chosen) == most:
            return chosen, FULL
        heard = abs(g) > noise
        if optimal:
            score = np.where(heard & (q > PIVOT), g * g / np.maximum(q, PIVOT), 0.0)
        else:
            score = np.where(heard, abs(g), 0.0)
        top = score.max(initial=0.0)
        if top == 0:
            return chosen, DEPENDENT if heard.any() else EXPLAINED
        j = int(np.argmax(score >= top * (1 - max(TIE, rounding))))  # of those that tie, the first
        if q[j] <= PIVOT:
            return chosen, DEPENDENT
        pivot, s = np.sqrt(q[j]), len(chosen)
        y = g[j] / pivot
        V[s] = (G[j] - V[:s, j] @ V[:s]) / pivot
        g -= y * V[s]
        q -= V[s] ** 2
        left -= y * y
        chosen.append(j)
        g[chosen], q[chosen] = 0.0, 1.0


def _solve(G: Array, c: Array, chosen: list[int]) -> Array:
    """Least squares over the chosen atoms."""
    if not chosen:
        return np.zeros(0)
    factor = scipy.linalg.cho_factor(G[np.ix_(chosen, chosen)], lower=True, check_finite=False)
    return scipy.linalg.cho_solve(factor, c[chosen], check_finite=False)
