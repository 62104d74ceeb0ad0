"""The result of coding many signals over one dictionary."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numcore.results import ConvergenceWarning, Result

__all__ = ["SparseCodeResult", "warn_unless_converged"]


@dataclass(frozen=True, repr=False, eq=False)
class SparseCodeResult(Result):
    """Codes of n signals over k atoms: all but `code` have one entry a signal.

    Attributes
    ----------
    code : (n, k) array
        In the dtype of the signals.
    objective : (n,) float64 array
        ``|x - code D|^2 / 2`` plus the penalty.
    gap : (n,) float64 array
        The duality gap, which bounds how far `objective` is from its minimum; NaN where the problem is not convex.
    n_iter : (n,) int array
    n_nonzero : (n,) int array
        Coefficients that are not zero.
    converged : (n,) bool array
    degenerate : (n,) bool array
        Whether the atoms in use were found to be linearly dependent, so that other codes are as good.
    """

    code: NDArray[Any]
    objective: NDArray[np.float64]
    gap: NDArray[np.float64]
    n_iter: NDArray[np.int64]
    n_nonzero: NDArray[np.int64]
    converged: NDArray[np.bool_]
    degenerate: NDArray[np.bool_]


def warn_unless_converged(name: str, converged: NDArray[np.bool_], advice: str, *, stacklevel: int = 3) -> None:
    """One warning for all signals that did not converge, with their number."""
    missed = int(np.count_nonzero(~converged))
    if missed:
        warnings.warn(
            f"{name} did not converge for {missed} of {converged.size} signals. {advice}",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
