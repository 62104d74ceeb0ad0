"""The lasso for one signal and many columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.sparse_coding._atoms import power_of_two
from numcore.algorithms.sparse_coding._columns import SLIGHT, Columns, Iterate
from numcore.arrays import as_choice, as_floating, as_number
from numcore.results import Loop, Result

__all__ = ["LassoResult", "lasso"]

Array = NDArray[Any]

SHARE = 0.3
"""Of the gap that there is, the part that is asked of the next working set."""

LEFT = 0.3
"""Of the gap that is small enough, the part that is asked of the last working set."""


@dataclass(frozen=True, repr=False, eq=False)
class LassoResult(Result):
    """What :func:`lasso` returns.

    Attributes
    ----------
    coef : (k,) array
        float32 if `D` and `y` are, else float64.
    objective : float
        ``|y - D a|^2 / 2 + reg sum_j w_j |a_j|``.
    gap : float
        The duality gap, which bounds how far `objective` is from its minimum.
    converged : bool
    n_iter : int
        Working sets.
    history : dict
        A float64 array each, with one entry a working set: ``relative_gap`` (to ``|y|^2``), ``gap``, ``objective``,
        ``n_nonzero``.
    """

    coef: Array
    objective: float
    gap: float
    converged: bool
    n_iter: int
    history: dict[str, NDArray[np.float64]]


def lasso(
    D: ArrayLike,
    y: ArrayLike,
    *,
    reg: float,
    weights: ArrayLike | None = None,
    positive: bool = False,
    init: ArrayLike | None = None,
    tol: float = 1e-6,
    max_iter: int = 100,
) -> LassoResult:
    r"""Minimise :math:`\frac12 \|y - D a\|^2 + \mathrm{reg} \sum_j w_j |a_j|` where D has many columns.

    Parameters
    ----------
    D : (n, k) array_like
        Columns are features.
    y : (n,) array_like
    reg : float
        Not negative. scikit-learn, celer and skglm call ``reg / n`` alpha. Where nothing is penalised, the result is
        the solution of least squares that is nearest to `init`.
    weights : (k,) array_like, optional
        Not negative: 0 leaves a coefficient without penalty, inf forbids it.
    positive : bool
        Keep coefficients from being negative.
    init : (k,) array_like, optional
        Coefficients to start from; default zero.
    tol : float
        Converged when the duality gap is at most ``tol |y|^2``.
    max_iter : int
        Working sets at most.

    Returns
    -------
    LassoResult

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If shapes do not match, entries are not finite, or a parameter lies outside its range.

    Warns
    -----
    ConvergenceWarning
        If `tol` was not reached.

    Notes
    -----
    An iteration reads `D` once, for the correlations of its columns with the residual, and solves for the columns that
    the conditions of optimality point to: by coordinate descent on the residual and, when its signs hold, by the linear
    system of its support. The gap is taken at the best of three dual points: the residual, one extrapolated from the
    last six, and the best so far. All is computed in float64.

    References
    ----------
    .. [1] M. Massias, A. Gramfort, J. Salmon, "Celer: a Fast Solver for the Lasso with Dual Extrapolation", ICML 2018,
       Algorithms 1 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import lasso
    >>> D = np.random.default_rng(0).standard_normal((20, 50))
    >>> found = lasso(D, D[:, 3] - D[:, 7], reg=2.0)
    >>> np.flatnonzero(found.coef), found.converged
    (array([3, 7]), True)
    """
    D, y = as_columns(D, y)
    k = D.shape[1]
    reg = as_number(reg, "reg", above=0, closed=True)
    w = as_weights(weights, k)
    as_choice(positive, "positive", (True, False))
    start = np.zeros(k) if init is None else as_floating(init, "init", shape=(k,), dtype=np.float64)
    tol = as_number(tol, "tol", above=0, closed=True)
    loop = Loop("lasso", tol=tol, max_iter=max_iter, floor=1e-14, residual="relative_gap")
    with on_one_thread():
        t = np.where(w < np.inf, reg * np.where(w < np.inf, w, 0.0), np.inf)  # inf forbids, whatever reg is
        problem = Scaled(D, y, t, bool(positive))
        at = problem.solve(problem.start(start), problem.t, loop)
    loop.finish()
    value, gap = problem.values(at, problem.t)
    coef = problem.coefficients(at).astype(np.result_type(D, y))
    return LassoResult(coef=coef, objective=value, gap=gap, **loop.outcome)


def as_columns(D: Any, y: Any) -> tuple[Array, Array]:
    """Checked D (n, k) and y (n,)."""
    D = as_floating(D, "D", ndim=2)
    if not D.size:
        raise ValueError(f"D must have rows and columns; got shape {D.shape}")
    return D, as_floating(y, "y", shape=(D.shape[0],))


def as_weights(weights: Any, k: int) -> NDArray[np.float64]:
    """Checked weights (k,); ones by default."""
    if weights is None:
        return np.ones(k)
    w: Array = as_floating(weights, "weights", shape=(k,), dtype=np.float64, infinite="positive")
    negative = int(np.count_nonzero(w < 0))
    if negative:
        raise ValueError(f"weights must not be negative; {negative} of its {k} entries are")
    return w


class Scaled:
    """The problem with y divided by a power of two, and without the coefficients that have no penalty.

    For such columns F the best coefficients follow from the others by least squares. What they leave is a lasso for the
    parts of y and of the other columns that are orthogonal to their span.

    Attributes
    ----------
    t : (k,) array
        The thresholds ``reg w_j`` in these units; inf for columns that the lasso has nothing to do with.
    """

    def __init__(self, D: Array, y: Array, t: Array, positive: bool) -> None:
        self.D, self.positive, self.scale = D, positive, power_of_two(y)
        self.t = t / self.scale
        self.y = y.astype(np.float64) / self.scale
        self.square = float(self.y @ self.y)
        self.unpenalised = t == 0
        self.free = np.flatnonzero(self.unpenalised & (not positive))
        basis = None
        if positive:
            self._leave_room()
        elif self.free.size:
            basis = self._eliminate()
        self.columns = Columns(D, self.y, positive, basis)

    def _leave_room(self) -> None:
        """Slight thresholds in place of none."""
        F = self.D[:, self.unpenalised].astype(np.float64)
        top = np.abs(F).max(axis=0, initial=0.0)
        norms = np.linalg.norm(F / np.where(top > 0, top, 1.0), axis=0) * top
        self.t[self.unpenalised] = np.where(norms > 0, SLIGHT * np.sqrt(self.square) * norms, np.inf)

    def _eliminate(self) -> Array:
        self.t[self.free] = np.inf
        F = self.D[:, self.free].astype(np.float64)
        self.unit = power_of_two(F)
        left, values, right = np.linalg.svd(F / self.unit, full_matrices=False)
        solid = values > max(F.shape) * np.finfo(np.float64).eps * values[0]
        self.inverse = right[solid].T / values[solid]
        return left[:, solid]

    def start(self, a: Array) -> Iterate:
        """What is known of the coefficients `a`, given in the units of the data."""
        a = (np.maximum(a, 0.0) if self.positive else a) / self.scale
        self.free_start = a[self.free]
        return self.columns.start(np.where(np.isfinite(self.t), a, 0.0))

    def solve(self, at: Iterate, t: Array, loop: Loop) -> Iterate:
        """Improve `at` until the loop's tolerance is reached."""
        unit = self.square or 1.0
        gap = self.columns.gap(at, t)
        for _ in loop.stage(error=gap / unit):
            at = self.columns.improve(at, t, SHARE * gap, LEFT * loop.tol * unit)
            gap = self.columns.gap(at, t)
            value, own = self.values(at, t)
            loop.report(gap / unit, gap=own, objective=value, n_nonzero=int(np.count_nonzero(at.a)))
        return at

    def values(self, at: Iterate, t: Array) -> tuple[float, float]:
        """The objective and the gap, in the units of the data."""
        S = np.flatnonzero((at.a != 0) & ~self.unpenalised)
        value = at.r @ at.r / 2 + t[S] @ abs(at.a[S])
        return float(value) * self.scale * self.scale, at.gap * self.scale * self.scale

    def coefficients(self, at: Iterate) -> Array:
        """All of them, in the units of the data."""
        a = at.a.copy()
        if self.free.size:
            S = np.flatnonzero(a)
            F = self.D[:, self.free].astype(np.float64) / self.unit
            left = self.y - self.D[:, S].astype(np.float64) @ a[S] - F @ (self.free_start * self.unit)
            assert self.columns.basis is not None
            a[self.free] = self.free_start + self.inverse @ (self.columns.basis.T @ left) / self.unit
        return a * self.scale
