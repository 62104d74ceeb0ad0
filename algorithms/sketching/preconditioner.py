"""The preconditioner from a sketch, for use with any iterative method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator

from numcore.algorithms.sketching._factor import as_rows, matrix_setup
from numcore.algorithms.sketching._rows import Rows
from numcore.algorithms.sketching.lstsq import ratio
from numcore.arrays import as_floating, as_number, as_rng
from numcore.results import Result

__all__ = ["Preconditioner", "preconditioner"]


@dataclass(frozen=True, repr=False, eq=False)
class Preconditioner(Result):
    """A matrix P for which the singular values of A P are near 1.

    Attributes
    ----------
    P : (d, rank) array
    rank : int
        Of A.
    cond : float
        The condition number of A (with its ridge) on the space of its rank, as the sketch has it.
    """

    P: np.ndarray[Any, Any]
    rank: int
    cond: float

    def apply(self, y: Any) -> np.ndarray[Any, Any]:
        """``P y`` for y of shape (rank,) or (rank, k)."""
        return self.P @ self._checked(y, "y", self.rank)

    def apply_transpose(self, g: Any) -> np.ndarray[Any, Any]:
        """``P^T g`` for g of shape (d,) or (d, k)."""
        return self.P.T @ self._checked(g, "g", len(self.P))

    def _checked(self, v: Any, name: str, size: int) -> np.ndarray[Any, Any]:
        v = as_floating(v, name, ndim=(1, 2))
        if v.shape[0] != size:
            raise ValueError(f"{name} must have {size} rows; got shape {tuple(v.shape)}")
        return np.asarray(v)


def preconditioner(
    A: Any, *, alpha: float = 0.0, sketch: str = "auto", sketch_size: int | None = None, rng: Any = None
) -> Preconditioner:
    r"""A matrix P, from a sketch in one read of A, that makes A P well conditioned.

    With a sketch S of distortion :math:`\eta` (about :math:`\sqrt{d / m}`), the singular values of A P lie between
    :math:`1 / (1 + \eta)` and :math:`1 / (1 - \eta)`: methods for ``min |A P y - b|`` take few iterations, whatever the
    condition number of A. With a ridge, that holds for A with ``sqrt(alpha)`` times the identity below it.

    Parameters
    ----------
    A : (n, d) array_like, sparse matrix, dask array, LinearOperator, or callable
        As for :func:`lstsq`.
    alpha : float
        Of a ridge, ``alpha |x|^2``.
    sketch, sketch_size
        As for :func:`lstsq`.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    Preconditioner

    Raises
    ------
    ValueError, TypeError
        If shapes or options do not fit, or entries are not finite.

    References
    ----------
    .. [1] H. Avron, P. Maymounkov and S. Toledo, "Blendenpik: Supercharging LAPACK's Least-Squares Solver", SISC 2010.
    .. [2] X. Meng, M. Saunders and M. Mahoney, "LSRN: A Parallel Iterative Solver for Strongly Over- or
       Underdetermined Systems", SISC 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import preconditioner
    >>> A = np.random.default_rng(0).standard_normal((5000, 20)) * np.logspace(0, 10, 20)
    >>> P = preconditioner(A, rng=0)
    >>> P.rank, bool(P.cond > 1e9), bool(np.linalg.cond(P.apply_transpose(A.T)) < 4)
    (20, True, True)
    """
    alpha = as_number(alpha, "alpha", above=0, closed=True)
    free = isinstance(A, LinearOperator) or array_api_compat.is_numpy_array(A)
    rows = Rows(A) if free else as_rows(A)
    setup = matrix_setup(rows, sketch, sketch_size, as_rng(rng), alpha=alpha)
    f = setup.factors
    scale = np.ones(rows.d) if setup.scale is None else setup.scale
    values = scipy.linalg.svdvals(f.sigma[:, None] * f.V.T * (f.D * scale)) if setup.rank else np.ones(1)
    cond = ratio(values[0], values[-1])
    return Preconditioner((f.P / scale[:, None]).astype(rows.dtype), setup.rank, cond)
