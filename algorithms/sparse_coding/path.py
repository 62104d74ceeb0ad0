"""The lasso for a sequence of regularisations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.sparse_coding._columns import Columns
from numcore.algorithms.sparse_coding._lars import stretches
from numcore.algorithms.sparse_coding.lasso import Scaled, as_columns
from numcore.arrays import as_choice, as_count, as_floating, as_number
from numcore.results import ConvergenceWarning, Loop, Result

__all__ = ["LassoPathResult", "lasso_path"]

Array = NDArray[Any]

MAX_ITER = 100
"""Working sets at most, for each regularisation."""


@dataclass(frozen=True, repr=False, eq=False)
class LassoPathResult(Result):
    """What :func:`lasso_path` returns.

    Attributes
    ----------
    regs : (m,) float64 array
    coefs : (k, m) array
        The coefficients for each of `regs`.
    gaps : (m,) float64 array
        Their duality gaps.
    knots : float64 array
        Where the support changes, from above, down to the least of `regs`: between these, the coefficients are linear
        in the regularisation. Only found by ``solver="homotopy"``, else empty.
    """

    regs: NDArray[np.float64]
    coefs: Array
    gaps: NDArray[np.float64]
    knots: NDArray[np.float64]


def lasso_path(
    D: ArrayLike,
    y: ArrayLike,
    *,
    regs: ArrayLike | None = None,
    n_regs: int = 100,
    eps: float = 1e-3,
    solver: Literal["cd", "homotopy"] = "cd",
    tol: float = 1e-6,
) -> LassoPathResult:
    r"""Minimise :math:`\frac12 \|y - D a\|^2 + \mathrm{reg} \sum_j |a_j|` for many `reg`.

    Parameters
    ----------
    D : (n, k) array_like
        Columns are features.
    y : (n,) array_like
    regs : (m,) array_like, optional
        Positive, in any order. By default `n_regs` of them, evenly spaced on a log scale from the one at which the
        first column enters down to `eps` times it.
    n_regs : int
    eps : float
        Between 0 and 1.
    solver : {"cd", "homotopy"}
        Solve for one after the other, each from the solution before, as :func:`lasso` does; or follow the path from
        knot to knot, which is exact and shows them all, at the cost of a column of the Gram matrix for each.
    tol : float
        A solution is good when its duality gap is at most ``tol |y|^2``.

    Returns
    -------
    LassoPathResult

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If shapes do not match, entries are not finite, or a parameter lies outside its range.

    Warns
    -----
    ConvergenceWarning
        If `tol` was not reached for some of `regs`.

    References
    ----------
    .. [1] M. R. Osborne, B. Presnell, B. A. Turlach, "A new approach to variable selection in least squares problems",
       IMA J. Numer. Anal. 20(3), 2000 (homotopy).
    .. [2] B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least angle regression", Ann. Statist. 32(2), 2004,
       section 3.1 (the same, with its knots).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import lasso_path
    >>> path = lasso_path(np.diag([1.0, 2.0]), [3.0, 1.0], regs=[2.5, 1.0], solver="homotopy")
    >>> path.coefs, path.knots
    (array([[0.5 , 2.  ],
           [0.  , 0.25]]), array([3., 2.]))
    """
    D, y = as_columns(D, y)
    as_choice(solver, "solver", ("cd", "homotopy"))
    tol = as_number(tol, "tol", above=0, closed=True)
    n_regs, eps = as_count(n_regs, "n_regs"), as_number(eps, "eps", above=0, below=1)
    given = None if regs is None else _as_regs(regs)
    with on_one_thread():
        problem = Scaled(D, y, np.ones(D.shape[1]), positive=False)
        if given is None:
            top = float(np.max(abs(problem.columns.correlations(problem.y)))) * problem.scale or 1.0
            given = np.geomspace(top, eps * top, n_regs)
        follow = _by_working_sets if solver == "cd" else _by_homotopy
        coefs, gaps, knots = follow(problem, given, tol)
    # squares as in the problem's units, which cannot overflow
    missed = int(np.count_nonzero(gaps > tol * problem.square))
    if missed:
        warnings.warn(
            f"lasso_path did not converge for {missed} of {given.size} regularisations; raise tol ({tol:.3g}).",
            ConvergenceWarning,
            stacklevel=2,
        )
    unit = problem.scale
    return LassoPathResult(given, (coefs * unit).astype(np.result_type(D, y)), gaps * unit * unit, knots * unit)


def _as_regs(regs: Any) -> NDArray[np.float64]:
    r: Array = as_floating(regs, "regs", ndim=1, dtype=np.float64)
    if r.size == 0 or (r <= 0).any():
        raise ValueError(f"regs must be positive, one at least; {np.count_nonzero(r <= 0)} of its {r.size} are not")
    return r.copy()


Path = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _by_working_sets(problem: Scaled, regs: NDArray[np.float64], tol: float) -> Path:
    coefs, gaps = np.empty((problem.D.shape[1], regs.size)), np.empty(regs.size)
    at, before = problem.start(np.zeros(len(coefs))), np.inf
    for i in np.argsort(-regs, kind="stable"):
        if at.theta is not None:
            at.theta = at.theta * (regs[i] / before)
        before, at.extrapolated = regs[i], None
        at = problem.solve(at, regs[i] * problem.t, Loop("lasso_path", tol=tol, max_iter=MAX_ITER, floor=1e-14))
        coefs[:, i], gaps[i] = at.a, at.gap
    return coefs, gaps, np.empty(0)


def _by_homotopy(problem: Scaled, regs: NDArray[np.float64], tol: float) -> Path:
    columns, scaled = problem.columns, regs / problem.scale
    coefs, knots = np.zeros((problem.D.shape[1], regs.size)), []
    order = iter(np.argsort(-regs, kind="stable"))
    i = next(order, None)
    c = columns.correlations(problem.y)
    for stretch in stretches(c, columns.gram_column, columns.squares(), np.ones(c.size)):
        if np.isfinite(stretch.high):
            knots.append(stretch.high)
        while i is not None and scaled[i] >= stretch.low:
            coefs[stretch.support, i] = stretch.at(scaled[i])
            i = next(order, None)
        if i is None:
            break
    return coefs, _gaps(columns, coefs, scaled), np.array(knots)


def _gaps(columns: Columns, coefs: NDArray[np.float64], regs: NDArray[np.float64]) -> NDArray[np.float64]:
    gaps = np.empty(regs.size)
    for i, reg in enumerate(regs):
        at = columns.start(coefs[:, i].copy())
        gaps[i] = columns.gap(at, np.full(len(coefs), reg))
    return gaps
