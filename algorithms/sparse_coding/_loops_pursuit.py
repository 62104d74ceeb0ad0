"""The reference hot loop of orthogonal matching pursuit: unchecked, one signal a row."""

from __future__ import annotations

from typing import Any

import numpy as np
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

ENTRIES = 2**22
"""Entries of V for the signals that are worked on at once."""

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
    n, k = C.shape
    atoms, values = np.full((n, most), -1, np.int64), np.zeros((n, most))
    counts, squares, ends = np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.int64)
    step = max(1, ENTRIES // max(most * k, 1))
    for rows in (slice(begin, begin + step) for begin in range(0, n, step)):
        atoms[rows], ends[rows] = _choose(X[rows], C[rows], G, D, most, tol[rows], optimal)
        values[rows], squares[rows] = _least_squares(X[rows], C[rows], G, D, atoms[rows])
        counts[rows] = np.count_nonzero(atoms[rows] >= 0, axis=1)
    return atoms, values, counts, squares, ends


def _choose(
    X: Array, C: Array, G: Array, D: Array, most: int, tol: Array, optimal: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The atoms of each signal, and why they are no more."""
    n, k = C.shape
    rounding, every = ROUNDING * float(np.finfo(C.dtype).eps), np.arange(n)
    V, g, q = np.zeros((n, most, k)), C.astype(np.float64), np.ones((n, k))
    square = np.sum(X.astype(np.float64) ** 2, axis=1)
    noise, left = rounding * np.sqrt(square), square.copy()
    atoms, ends, live = np.full((n, most), -1), np.full(n, FULL), np.ones(n, bool)

    def end(which: NDArray[np.bool_], why: Any) -> None:
        ends[live & which] = np.broadcast_to(why, n)[live & which]
        live[which] = False

    for s in range(most + 1):
        doubtful = live & (left <= np.maximum(tol, 0.0) + DOUBTFUL * square)
        left[doubtful] = _least_squares(X[doubtful], C[doubtful], G, D, atoms[doubtful, :s])[1]
        end(left <= tol, REACHED)
        if s == most or not live.any():
            break
        heard = abs(g) > noise[:, None]
        score = np.where(heard & (q > PIVOT), g * g / np.maximum(q, PIVOT), 0.0) if optimal else abs(g) * heard
        top = score.max(axis=1)
        end(top == 0, np.where(heard.any(axis=1), DEPENDENT, EXPLAINED))
        j = np.argmax(score >= top[:, None] * (1 - max(TIE, rounding)), axis=1)  # of those that tie, the first
        end(q[every, j] <= PIVOT, DEPENDENT)
        # signals that have ended go along, with steps of 0
        pivot = np.sqrt(np.where(live, q[every, j], 1.0))
        v = (G[j] - (V[every, None, :s, j] @ V[:, :s])[:, 0]) * (live / pivot)[:, None]
        y = g[every, j] * live / pivot
        V[:, s] = v
        g -= y[:, None] * v
        q -= v * v
        left -= y * y
        atoms[live, s] = j[live]
        chosen = every[live, None], atoms[live, : s + 1]
        g[chosen], q[chosen] = 0.0, 1.0
    return atoms, ends


def _least_squares(X: Array, C: Array, G: Array, D: Array, atoms: NDArray[np.int64]) -> tuple[Array, Array]:
    """The coefficients of the atoms, 0 where the number is -1, and the squared residual."""
    n, most = atoms.shape
    used = atoms >= 0
    H = np.where(used[:, :, None] & used[:, None, :], G[atoms[:, :, None], atoms[:, None, :]], np.eye(most))
    c = np.where(used, np.take_along_axis(C, atoms, axis=1), 0.0)
    a: Array = np.linalg.solve(H, c[:, :, None])[:, :, 0] if most else np.zeros((n, 0))
    code = np.zeros(C.shape)
    code[np.nonzero(used)[0], atoms[used]] = a[used]
    return a, np.sum((X - code @ D) ** 2, axis=1)
