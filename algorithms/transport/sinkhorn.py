"""Sinkhorn's algorithm in all its forms: one loop, one exponential an entry, never NaN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from numcore.algorithms.transport._descent import Stage, descend, precise, rounding_floor, schedule, tolerance
from numcore.algorithms.transport._problem import Problem
from numcore.algorithms.transport._result import SinkhornResult, finish
from numcore.algorithms.transport.costs import DenseCost, GridCost
from numcore.algorithms.transport.newton import solve_newton
from numcore.arrays import as_choice, as_count, as_number
from numcore.results import Callback, Loop

__all__ = ["sinkhorn"]


def sinkhorn(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    reg_scale: str = "absolute",
    method: str = "auto",
    marginal_reg: Any = None,
    init: Any = None,
    annealing: str | bool = "auto",
    relaxation: str | float = "auto",
    tol: float | None = None,
    max_iter: int = 10000,
    storage: str | None = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> SinkhornResult:
    r"""Entropic optimal transport by Sinkhorn's algorithm.

    Solves ``min_P <P, C> + eps KL(P | a (x) b)`` over plans P with marginals a and b, or, with `marginal_reg`, the same
    plus ``rho1 KL(P1 | a) + rho2 KL(P^T 1 | b)`` over all P >= 0. The half steps are soft minima,

    .. math:: f_i \leftarrow -\varepsilon \log \sum_j b_j \exp((g_j - C_{ij}) / \varepsilon),

    columns likewise; the plan is ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)``.

    Parameters
    ----------
    cost : (n, m) array_like, PointCloudCost or GridCost
        What it costs to move a unit from i to j. Any sign; +inf forbids a pair. Its dtype, float32 or float64, is that
        of the result.
    a, b : (n,), (m,) array_like, optional
        Weights, uniform by default. Zeros are fine. In a balanced problem their sums must agree; b is rescaled.
    reg : float
        Regularisation eps, in units of the cost times `reg_scale`.
    reg_scale : {"absolute", "mean", "max"}
        ``eps = reg`` times 1, the mean cost under ``a (x) b``, or the greatest finite cost.
    method : {"auto", "log", "kernel", "newton"}
        Log form: soft minima, nothing stored beside the cost. Kernel form: products with the Gibbs kernel,
        absorbing potentials when they grow. Newton: see :func:`sinkhorn_newton`. ``"auto"`` takes Newton where eps is
        below 0.5 % of the spread of a stored balanced cost, the kernel where it is above 0.2 %, else the log form.
    marginal_reg : float or (float, float), optional
        Penalties rho on the marginals, in units of the cost; inf is a hard marginal.
    init : SinkhornResult or (f, g), optional
        Start from these potentials; either may be None.
    annealing : {"auto", True, False}
        Come down from a larger eps by factors of 4. ``"auto"``:
        where eps is below 1 % of the spread and there is no `init`.
    relaxation : "auto" or float in [1, 2)
        Over-relaxation of both half steps. ``"auto"`` estimates the linear rate and picks the factor (balanced only).
    tol : float, optional
        Stop when the L1 error of both marginals is at most this; 1e-9, in float32 1e-5.
    max_iter : int
        Iterations at most, over all stages of annealing.
    storage : {None, "float32", "float64"}
        Work on a cost of this precision; ``"float32"`` on a float64 cost iterates in float32 to an error of 1e-4 and
        finishes in float64.
    callback : callable, optional
        ``callback(state)`` after each iteration, with ``n_iter, f, g, marginal_error, dual_value, reg, n_passes``; True
        stops.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    SinkhornResult

    Raises
    ------
    ValueError
        If an argument is out of its range, shapes do not match, a cost is nan or -inf, a weight is negative,
        or sums differ.
    TypeError
        If an array is complex or not numeric.

    Warns
    -----
    ConvergenceWarning
        If it stopped before `tol`; in float32 the message names the error that the precision can reach.

    Notes
    -----
    Each iteration is one pass over the cost: the exponentials of the row update, rescaled, give the column sums [1]_.
    Annealing is [2]_ (Section 3.2), absorption [2]_ (Algorithm 2), over-relaxation [3]_, the unbalanced half step [4]_
    (Algorithm 1), its translation step [5]_ (Proposition 3).

    References
    ----------
    .. [1] G. Peyré, M. Cuturi, "Computational Optimal Transport", 2019, Section 4.2 and Remark 4.23.
    .. [2] B. Schmitzer, "Stabilized Sparse Scaling Algorithms for Entropy Regularized Transport Problems", SISC 2019.
    .. [3] A. Thibault, L. Chizat, C. Dossal, N. Papadakis, "Overrelaxed Sinkhorn-Knopp Algorithm", Algorithms 2021.
    .. [4] L. Chizat, G. Peyré, B. Schmitzer, F.-X. Vialard, "Scaling algorithms for unbalanced optimal transport
       problems", Math. Comp. 2018.
    .. [5] T. Séjourné, F.-X. Vialard, G. Peyré, "Faster Unbalanced Optimal Transport: Translation invariant Sinkhorn",
       AISTATS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import sinkhorn
    >>> result = sinkhorn(np.array([[0.0, 1.0], [1.0, 0.0]]), reg=0.1)
    >>> result.converged
    True
    >>> result.plan.round(3)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    as_choice(method, "method", ("auto", "log", "kernel", "newton"))
    as_choice(annealing, "annealing", ("auto", True, False))
    if relaxation != "auto":
        relaxation = as_number(relaxation, "relaxation", above=1, below=2, closed=True)
        if relaxation == 2:
            raise ValueError("relaxation must be below 2")
    as_count(max_iter, "max_iter")
    problem = Problem.check(cost, a, b, reg, reg_scale, marginal_reg, storage)
    spread = problem.cost.spread()
    if method == "auto":
        method = _choose(problem, spread)
    # one source or target: the first iteration ends it
    anneal = annealing is True or (annealing == "auto" and init is None and min(problem.cost.shape) > 1)
    if method == "newton":
        return solve_newton(
            problem,
            init=init,
            annealing=anneal,
            tol=tolerance(problem, tol),
            max_iter=max_iter,
            callback=callback,
            verbose=verbose,
        )

    tol = tolerance(problem, tol)
    f, g = problem.start(init)
    loop = Loop(
        "sinkhorn",
        tol=tol,
        max_iter=max_iter,
        callback=callback,
        verbose=verbose,
        floor=rounding_floor(precise(problem, tol, spread), spread),
    )
    for stage in _stages(problem, tol, spread, anneal, storage):
        f, g, r, c = descend(stage, f, g, loop, method, relaxation)
        if not loop.running:
            break
    small = problem.balanced and problem.eps < 0.01 * spread and not isinstance(problem.cost, GridCost)
    loop.finish("At this regularisation sinkhorn_newton needs far fewer passes." if small else "")
    return finish(problem, f, g, r, c, method=method, n_passes=loop.n_iter, **loop.outcome)


def _choose(problem: Problem, spread: float) -> str:
    stored = isinstance(problem.cost, DenseCost)
    n, m = problem.cost.shape
    if stored and problem.balanced and problem.eps < 0.005 * spread and n * m <= 4e7:
        return "newton"
    return "kernel" if stored and spread < 500 * problem.eps else "log"


def _stages(problem: Problem, tol: float, spread: float, anneal: bool, storage: str | None) -> Iterator[Stage]:
    mass = float(problem.xp.sum(problem.a))
    for eps in schedule(problem.eps, spread, anneal)[:-1]:
        yield Stage(replace(problem, eps=eps), 1e-2 * mass, 50)
    if storage == "float32" and problem.cost.dtype == problem.xp.float64:
        yield Stage(replace(problem, cost=problem.cost.astype(problem.xp.float32)), 1e-4 * mass)
    last = precise(problem, tol, spread)
    if last is not problem:
        yield Stage(problem, rounding_floor(problem, spread))
    yield Stage(last)
