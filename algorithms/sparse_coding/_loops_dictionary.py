"""The hot loops of dictionary learning.

Notation: signals ``X`` (n, p), codes (n, k), atoms ``D`` (k, p), and the sums over all batches ``A = codes^T codes``
(k, k) and ``B = codes^T X`` (k, p), which are float64.
"""

from __future__ import annotations

import numpy as np

from numcore.arrays import Array
from numcore.dispatch import dispatchable

__all__ = ["accumulate", "sweep_panel"]


@dispatchable
def accumulate(code: Array, X: Array, weight: float, A: Array, B: Array) -> None:
    """Add ``weight code^T code`` to A and ``weight code^T X`` to B.

    Parameters
    ----------
    code : (n, k) array
        Mostly zeros.
    X : (n, p) array
        In the dtype of the codes.
    weight : float
    A, B : (k, k), (k, p) float64 arrays
        Written to.
    """
    code = code.astype(np.float64, copy=False)
    weighted = weight * code.T
    A += weighted @ code
    B += weighted @ X


@dispatchable
def sweep_panel(D: Array, R: Array, A: Array, floor: float, sphere: bool, positive: bool) -> None:
    """Minimise over one atom of a panel after the other, the others fixed (Mairal et al., 2010, algorithm 2).

    ``u_j = d_j + (b_j - a_j D) / A_jj``, then divided by its norm where that is above 1. What an update changes in the
    residuals of the panel's other atoms is taken off at once; the rest of the dictionary waits for the next panel.

    Parameters
    ----------
    D : (m, p) float64 array
        The atoms of the panel; updated.
    R : (m, p) float64 array
        Their rows of ``B - A D``; updated.
    A : (m, m) float64 array
        The panel's block of A.
    floor : float
        Atoms with ``A_jj`` at most this are left as they are: no signal has used them.
    sphere : bool
        Divide by the norm in any case.
    positive : bool
        Project on atoms without negative entries first. An atom of which nothing is left stays as it was.
    """
    for j in range(len(D)):
        if A[j, j] <= floor:
            continue
        u = D[j] + R[j] / A[j, j]
        if positive:
            u = np.maximum(u, 0.0)
        norm = np.sqrt(u @ u)
        if norm == 0:
            continue
        if sphere or norm > 1:
            u = u / norm
        R -= A[:, j, None] * (u - D[j])
        D[j] = u
