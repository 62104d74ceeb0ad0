"""Sinkhorn's iteration: what happens within one stage of the descent in eps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numcore.algorithms.transport._forms import GibbsKernel, ReducedCost
from numcore.algorithms.transport._problem import Problem
from numcore.algorithms.transport.costs import DenseCost
from numcore.arrays import Array, as_number
from numcore.results import Loop

__all__ = ["Stage", "absorbed", "descend", "precise", "rounding_floor", "schedule", "state_of", "tolerance"]


@dataclass(frozen=True)
class Stage:
    """A part of the descent: the problem at its own eps and precision, and where to stop (None: as the loop)."""

    problem: Problem
    tol: float | None = None
    max_iter: int | None = None


def descend(
    stage: Stage, f: Array, g: Array, loop: Loop, method: str, relaxation: str | float
) -> tuple[Array, Array, Array, Array]:
    """Iterate through one stage; return the last pair whose row update is done, with the marginals r, c of its plan."""
    problem, eps = stage.problem, stage.problem.eps
    pace = _Pace(relaxation if problem.balanced and stage.max_iter is None else 1.0)
    form: Any = None
    g_next = g
    for _ in loop.stage(stage.tol, stage.max_iter):
        g, omega = g_next, pace.omega
        form = absorbed(form, problem, method, f, g)
        f, r, c = form.sweep(
            f / problem.shrinks[0], (1 - omega) * f, problem.h(g), problem.a, eps, omega * problem.shrinks[0]
        )
        error, dual = float(problem.residual(f, g, r, c)), problem.dual_value(f, g, float(problem.xp.sum(r)))
        loop.report(
            error,
            hold=pace.update(error, dual, loop.tol),
            state=state_of(problem, f, g, error),
            dual_value=dual,
            reg=eps,
            n_passes=loop.n_iter + 1,
        )
        g_next = problem.translated(f, problem.columns(f, g, c, omega))
    return f, g, r, c


def absorbed(form: Any, problem: Problem, method: str, f: Array, g: Array) -> Any:
    """What to sweep over: the cost itself, or a stand-in for a stored one, made anew when potentials have left it."""
    cost, eps, xp = problem.cost, problem.eps, problem.xp
    if method == "log" and (cost.dtype == xp.float64 or not isinstance(cost, DenseCost)):
        return cost
    if form is not None and float(xp.max(abs(f - form.f))) <= form.limit * eps >= float(xp.max(abs(g - form.g))):
        return form
    stored = cost if isinstance(cost, DenseCost) else DenseCost(cost.rows(slice(None)))
    return ReducedCost(stored, f, g, eps) if method == "log" else GibbsKernel(stored, f, g, eps)


def state_of(problem: Problem, f: Array, g: Array, error: float) -> Callable[[], dict[str, Any]]:
    def state() -> dict[str, Any]:
        pair = problem.centred(f, g)
        return {"f": problem.cast(pair[0]), "g": problem.cast(pair[1]), "marginal_error": error}

    return state


class _Pace:
    """The over-relaxation factor: as given, or tuned to the linear rate r of the error, ``2 / (1 + sqrt(1 - r))``."""

    trial, window, cap = 20, 5, 1.9

    def __init__(self, relaxation: str | float) -> None:
        self.auto = relaxation == "auto"
        self.omega = 1.0 if self.auto else float(relaxation)
        self._errors: list[float] = []
        self._dual = -np.inf

    def update(self, error: float, dual: float, tol: float) -> bool:
        """Adapt to the latest figures; True if a plain iteration has to follow before the loop may end."""
        relaxed = self.omega > 1
        if error <= tol:
            self.auto, self.omega = False, 1.0
        elif self.auto:
            self._tune(error, dual)
        return relaxed

    def _tune(self, error: float, dual: float) -> None:
        self._errors.append(error)
        ratios = [new / old for old, new in zip(self._errors[-6:-1], self._errors[-5:], strict=False)]
        fell = dual < self._dual - 1e-12 * abs(self._dual)
        self._dual = dual
        # a step back costs a few iterations, and trying again soon pays: waiting longer or being meek was slower
        if self.omega > 1 and (fell or (len(ratios) == self.window and min(ratios) > 1)):
            self.omega, self._errors = 1.0, []
        elif self.omega == 1 and len(self._errors) >= self.trial:
            rate = float(np.median(ratios))
            if rate < 1:
                self.omega = min(self.cap, 2 / (1 + (1 - rate) ** 0.5))
            self._errors = []


def schedule(eps: float, spread: float, anneal: bool) -> list[float]:
    """The regularisations to pass through: from 5 % of the spread down by factors of 4, if eps is below 1 % of it."""
    if not anneal or eps >= 0.01 * spread:
        return [eps]
    stages = [0.05 * spread]
    while stages[-1] > eps:
        stages.append(max(eps, stages[-1] / 4))
    return stages


def tolerance(problem: Problem, tol: Any, default: float = 1e-9) -> float:
    """`tol`, checked, or the default of the precision."""
    if tol is None:
        return 1e-5 if problem.cost.dtype == problem.xp.float32 else default
    return as_number(tol, "tol", above=0, closed=True)


def rounding_floor(problem: Problem, spread: float) -> float:
    """The error that rounding leaves: 4 ulp of exponents that are reduced costs (stored float32) or costs over eps."""
    single = problem.cost.dtype == problem.xp.float32
    size = 30.0 if single and isinstance(problem.cost, DenseCost) else spread / problem.eps
    return 4 * (2.0**-24 if single else 2.0**-53) * max(1.0, size) * float(problem.xp.sum(problem.a))


def precise(problem: Problem, tol: float, spread: float) -> Problem:
    """The problem in float64, if its float32 costs are formed on the fly and would leave more than `tol`; else itself.

    Their exponents carry rounding errors of C / eps ulps, which the sweeps themselves do not see. A `tol` that even
    stored float32 costs cannot keep is left to fail.
    """
    cost, xp = problem.cost, problem.xp
    if cost.dtype == xp.float64 or isinstance(cost, DenseCost):
        return problem
    least = 4 * 2.0**-24 * 30.0 * float(xp.sum(problem.a))
    if tol < least or rounding_floor(problem, spread) <= tol:
        return problem
    return replace(problem, cost=cost.astype(xp.float64))
