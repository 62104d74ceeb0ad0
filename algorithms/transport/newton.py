"""Sparse Newton steps on the semi-dual: small regularisations in tens of passes instead of thousands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numcore.algorithms.transport._descent import (
    Stage,
    absorbed,
    descend,
    precise,
    rounding_floor,
    schedule,
    state_of,
    tolerance,
)
from numcore.algorithms.transport._problem import Problem
from numcore.algorithms.transport._result import SinkhornResult, finish
from numcore.algorithms.transport.costs import Cost, DenseCost, GridCost
from numcore.arrays import Array, array_namespace, as_choice, as_count, as_number, is_numpy
from numcore.linalg import cg_iterations
from numcore.results import Callback, Loop

__all__ = ["sinkhorn_newton"]


def sinkhorn_newton(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    reg_scale: str = "absolute",
    init: Any = None,
    annealing: bool = True,
    warmup: int = 3,
    drop: float = 1e-2,
    cg_max_iter: int = 300,
    tol: float | None = None,
    max_iter: int = 200,
    callback: Callback | None = None,
    verbose: int = 0,
) -> SinkhornResult:
    r"""Balanced entropic transport by Newton's method with sparse Hessians; for small regularisation.

    Maximises the semi-dual ``D(g) = <a, f(g)> + <b, g>``, f(g) the row soft minima. With P = P(g) and ``c = P^T 1``,

    .. math:: \nabla D = b - c, \qquad
        \nabla^2 D = -\tfrac{1}{\varepsilon} H, \quad H = \mathrm{diag}(c) - P^T \mathrm{diag}(1/a)\, P .

    Each step solves with H by conjugate gradients, P thinned to the entries above ``delta min(a_i / m, c_j / n)``,
    ``delta = min(drop, |b - c|_1)``: what is left out vanishes with the error, so convergence stays superlinear.

    Parameters
    ----------
    cost : (n, m) array_like or PointCloudCost
        As for :func:`sinkhorn`. Costs of point clouds are formed anew in each pass; only the thinned plan is stored.
    a, b : (n,), (m,) array_like, optional
        Weights of equal sum, uniform by default.
    reg, reg_scale
        As for :func:`sinkhorn`.
    init : SinkhornResult or (f, g), optional
        Start from these potentials, at once at the final eps.
    annealing : bool
        Come down from 5 % of the spread of the cost by factors of 4.
    warmup : int
        Sinkhorn iterations at the head of each stage.
    drop : float in (0, 1)
        The largest delta.
    cg_max_iter : int
        Conjugate-gradient iterations at most in each step.
    tol : float, optional
        Stop when the L1 error of both marginals is at most this; 1e-12, in float32 1e-5.
    max_iter : int
        Newton steps at most, over all stages.
    callback, verbose
        As for :func:`sinkhorn`.

    Returns
    -------
    SinkhornResult
        ``n_iter`` counts Newton steps, ``n_passes`` passes over the cost: sweeps, and the thinning of each step's plan.

    Raises
    ------
    ValueError, TypeError
        As for :func:`sinkhorn`; also for a GridCost, which has no sparse plan.

    Warns
    -----
    ConvergenceWarning
        If it stopped before `tol`.

    Notes
    -----
    The idea is that of [1]_ (Algorithm 1), who work on both potentials, keep a fixed share 2/n of the entries, and do
    not anneal. Eliminating f halves the system, gives the same direction, and keeps row sums exact. The shift of the
    Hessian follows [2]_.

    References
    ----------
    .. [1] X. Tang, M. Shavlovsky, H. Rahmanian, E. Tardini, K. K. Thekumparampil, T. Xiao, L. Ying, "Accelerating
       Sinkhorn Algorithm with Sparse Newton Iterations", ICLR 2024.
    .. [2] Z. Tang, Y. Qiu, "Safe and Sparse Newton Method for Entropic-Regularized Optimal Transport", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import sinkhorn_newton
    >>> C = np.random.default_rng(0).random((100, 100))
    >>> result = sinkhorn_newton(C, reg=1e-3)
    >>> result.converged, result.marginal_error < 1e-12, result.n_passes < 60
    (True, True, True)
    """
    as_choice(annealing, "annealing", (True, False))
    problem = Problem.check(cost, a, b, reg, reg_scale)
    return solve_newton(
        problem,
        init=init,
        annealing=annealing and init is None,
        warmup=as_count(warmup, "warmup", minimum=0),
        drop=as_number(drop, "drop", above=0, below=1),
        cg_max_iter=as_count(cg_max_iter, "cg_max_iter"),
        tol=tolerance(problem, tol, default=1e-12),
        max_iter=max_iter,
        callback=callback,
        verbose=verbose,
    )


def solve_newton(
    problem: Problem,
    *,
    init: Any,
    annealing: bool,
    tol: float,
    max_iter: int,
    warmup: int = 3,
    drop: float = 1e-2,
    cg_max_iter: int = 300,
    callback: Callback | None = None,
    verbose: int = 0,
) -> SinkhornResult:
    """:func:`sinkhorn_newton` on a checked problem."""
    if isinstance(problem.cost, GridCost):
        raise ValueError('method "newton" needs a cost with a sparse plan; for a GridCost use method="log"')
    if not problem.balanced:
        raise ValueError('method "newton" solves balanced problems; with marginal_reg use method="log" or "kernel"')
    spread, given = problem.cost.spread(), problem.cost
    problem = precise(problem, tol, spread)
    search = _Search(problem, *problem.start(init), drop=drop, cg_max_iter=cg_max_iter)
    loop = Loop(
        "sinkhorn_newton",
        tol=tol,
        max_iter=max_iter,
        callback=callback,
        verbose=verbose,
        floor=rounding_floor(problem, spread),
        stall=True,
    )
    stages = schedule(problem.eps, spread, annealing)
    for eps in stages:
        last = eps == stages[-1]
        search.enter(eps)
        stage_tol = None if last else 1e-2 * float(problem.xp.sum(problem.a))
        search.sinkhorn(warmup, tol if stage_tol is None else stage_tol)
        for _ in loop.stage(stage_tol, error=search.at.error):
            search.step()
            at = search.at
            loop.report(
                at.error,
                state=state_of(replace(search.problem, cost=given), at.f, at.g, at.error),
                dual_value=at.dual,
                reg=eps,
                n_passes=search.passes,
            )
            if search.failures >= 3:
                break
        if search.failures >= 3 and last:
            return _finish_by_sinkhorn(search, loop, given)
        if loop.stopped:
            break
    loop.finish(stacklevel=4)
    at = search.at
    return finish(
        replace(search.problem, cost=given),
        at.f,
        at.g,
        at.r,
        at.c,
        method="newton",
        n_passes=search.passes,
        **loop.outcome,
    )


def _finish_by_sinkhorn(search: _Search, loop: Loop, given: Cost) -> SinkhornResult:
    problem, at, before = search.problem, search.at, loop.n_iter
    loop.max_iter, loop.stall = loop.max_iter + 10000, False
    f, g, r, c = descend(Stage(problem), at.f, at.g, loop, "log", "auto")
    loop.finish(stacklevel=5)
    passes = search.passes + loop.n_iter - before
    return finish(replace(problem, cost=given), f, g, r, c, method="newton+sinkhorn", n_passes=passes, **loop.outcome)


@dataclass(frozen=True)
class _Point:
    """A g with all that one sweep tells of it: f(g), the marginals of the plan, the error and the semi-dual D(g)."""

    f: Array
    g: Array
    r: Array
    c: Array
    error: float
    dual: float


class _Search:
    """The state of the method, and its step."""

    def __init__(self, problem: Problem, f: Array, g: Array, *, drop: float, cg_max_iter: int) -> None:
        self.target, self.problem = problem, problem
        self.drop, self.cg_max_iter = drop, cg_max_iter
        self.passes = self.failures = 0
        self.form: Any = None
        self.at = _Point(f, g, problem.a, problem.b, float("inf"), float("-inf"))

    def enter(self, eps: float) -> None:
        """Go on at another regularisation, with the potentials carried over."""
        self.problem, self.form, self.failures = replace(self.target, eps=eps), None, 0
        self.at = self.evaluate(self.at.g)

    def evaluate(self, g: Array) -> _Point:
        """One sweep at g."""
        problem = self.problem
        self.form = absorbed(self.form, problem, "log", self.at.f, g)
        f, r, c = self.form.sweep(self.at.f, 0 * self.at.f, problem.h(g), problem.a, problem.eps, 1.0)
        self.passes += 1
        dual = float(problem.a @ f) + float(problem.b @ g)
        return _Point(f, g, r, c, float(problem.residual(f, g, r, c)), dual)

    def sinkhorn(self, count: int, tol: float = 0.0) -> None:
        """`count` Sinkhorn iterations, fewer if `tol` is met."""
        for _ in range(count):
            if self.at.error <= tol:
                break
            self.at = self.evaluate(self.problem.columns(self.at.f, self.at.g, self.at.c))

    def step(self) -> None:
        """A Newton step with line search, or the Sinkhorn iterations that stand in for it."""
        problem, at = self.problem, self.at
        xp, eps = problem.xp, problem.eps
        r = problem.b - at.c
        x = self._solve(r)
        slope = eps * float(r @ x)
        t = min(1.0, 20 / max(float(xp.max(abs(x))), 1e-300))
        for _ in range(12):
            trial = self.evaluate(at.g + t * eps * x)
            gain = trial.dual - at.dual
            rounding = abs(gain) <= 1e-12 * max(abs(at.dual), eps * float(xp.sum(problem.a)))
            if gain >= 1e-4 * t * slope or (rounding and trial.error < 0.9 * at.error):
                self.at, self.failures = trial, 0
                self.sinkhorn(2 if t < 0.1 else 0)
                return
            t *= 0.4
        self.failures += 1
        self.sinkhorn(5)

    def _solve(self, r: Array) -> Array:
        """The direction x with ``(diag(c (1 + mu)) - P~^T diag(1/a) P~) x = r``, centred."""
        problem, at = self.problem, self.at
        xp, a, e = problem.xp, problem.a, self.at.error / float(problem.xp.sum(problem.a))
        used = at.c > 0
        one = xp.ones_like(at.c)
        inverse_a = xp.where(a > 0, 1 / xp.where(a > 0, a, xp.ones_like(a)), xp.zeros_like(a))
        product, squares = self._thinned_plan(min(self.drop, e), inverse_a)
        # the shift also gives modes that are null to working precision a curvature, else they end the iteration
        D = at.c * (1 + min(1e-4, max(e * e, 1e-12)))
        diagonal = xp.where(used, xp.maximum(D - squares, 1e-12 * at.c), one)
        rhs = xp.where(used, r - xp.mean(r), xp.zeros_like(r))
        x, target = 0 * rhs, min(0.1, e**0.5) * float(rhs @ rhs) ** 0.5
        for state in cg_iterations(
            lambda v: D * v - product(v),
            rhs,
            preconditioner=diagonal,
            curvature_floor=1e-16 * at.c,  # there H is singular to working precision
            targets=target,
        ):
            x = state.x
            if state.n_iter == self.cg_max_iter:
                break
        return xp.where(used, x - xp.sum(x) / xp.sum(xp.astype(used, xp.float64)), xp.zeros_like(x))

    def _thinned_plan(self, delta: float, inverse_a: Array) -> tuple[Callable[[Array], Array], Array]:
        """``x -> P~^T diag(1/a) P~ x``, and the diagonal of that matrix."""
        problem, at, xp = self.problem, self.at, self.problem.xp
        cost, (n, m) = problem.cost, problem.cost.shape
        u, h = problem.u(at.f), problem.h(at.g)
        self.passes += 1
        if not is_numpy(at.c):
            return _dense_product(cost.plan(u, h, problem.eps), inverse_a)
        floors = (xp.where(w > 0, delta * w / k, xp.inf) for w, k in ((problem.a, m), (at.c, n)))
        P = cost.plan_entries(u, h, problem.eps, *floors)
        if P.nnz > 0.3 * n * m and isinstance(cost, DenseCost):
            return _dense_product(P.astype(xp.float32).toarray(), inverse_a)
        P = P.astype(xp.float64, copy=False)
        T = P.T
        squares = type(T)((T.data**2, T.indices, T.indptr), shape=T.shape) @ inverse_a
        return lambda x: T @ (inverse_a * (P @ x)), squares


def _dense_product(P: Array, inverse_a: Array) -> tuple[Callable[[Array], Array], Array]:
    xp = array_namespace(P)

    def product(x: Array) -> Array:
        y = inverse_a * xp.astype(P @ xp.astype(x, P.dtype), xp.float64)
        return xp.astype(xp.astype(y, P.dtype) @ P, xp.float64)

    return product, xp.astype(xp.astype(inverse_a, P.dtype) @ (P * P), xp.float64)
