"""The reference hot loop of a lasso with long columns: unchecked, float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numcore.dispatch import dispatchable

__all__ = ["sweep_columns"]

Array = NDArray[np.float64]


@dispatchable
def sweep_columns(A: Array, t: Array, positive: bool, sweeps: int, r: Array, b: Array) -> None:
    """Sweeps of coordinate descent on ``|r|^2 / 2 + sum_j t_j |b_j|``, with ``r = y - b A`` kept up to date.

    Parameters
    ----------
    A : (m, n) array
        Columns of unit norm, a row each.
    t : (m,) array
        Thresholds.
    positive : bool
        Keep `b` from being negative.
    sweeps : int
    r : (n,) array
        The residual; updated.
    b : (m,) array
        The coefficients; updated.
    """
    for _ in range(sweeps):
        for j in range(b.size):
            z = b[j] + A[j] @ r
            size = abs(z) - t[j]
            new = (size if z > 0 else 0.0 if positive else -size) if size > 0 else 0.0
            change = new - b[j]
            if change != 0:
                r -= change * A[j]
                b[j] = new
