"""The Sinkhorn divergence between two weighted point clouds, and its gradients in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numcore.algorithms.transport._descent import rounding_floor, tolerance
from numcore.algorithms.transport._problem import Problem
from numcore.algorithms.transport._result import SinkhornResult
from numcore.algorithms.transport.costs import PointCloudCost
from numcore.algorithms.transport.sinkhorn import sinkhorn
from numcore.arrays import Array
from numcore.results import Loop, Result

__all__ = ["DivergenceResult", "DivergenceTerms", "sinkhorn_divergence", "symmetric_potential"]


class DivergenceTerms(NamedTuple):
    """The three values of entropic transport that make up the divergence."""

    ab: float
    aa: float
    bb: float


@dataclass(frozen=True, repr=False, eq=False)
class DivergenceResult(Result):
    """A Sinkhorn divergence.

    Attributes
    ----------
    value : float
        ``OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2``, plus ``eps (sum a - sum b)^2 / 2`` in the unbalanced case.
    terms : DivergenceTerms
        ``ab``, ``aa`` and ``bb``.
    grad_X, grad_Y : (n, d), (m, d) arrays or None
        Gradients with respect to the points.
    grad_a, grad_b : (n,), (m,) arrays or None
        Gradients with respect to the weights. In the balanced case only differences along ``sum da = 0`` mean anything;
        they are centred, ``<a, grad_a> = 0``.
    converged : bool
        Whether all three problems met the tolerance.
    """

    value: float
    terms: DivergenceTerms
    grad_X: Array | None
    grad_Y: Array | None
    grad_a: Array | None
    grad_b: Array | None
    converged: bool


def sinkhorn_divergence(
    X: Any,
    Y: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    reg_scale: str = "absolute",
    metric: str | tuple[str, float] | Callable[..., Any] = "sqeuclidean",
    marginal_reg: float | None = None,
    gradient: bool = False,
    tol: float | None = None,
    max_iter: int = 10000,
) -> DivergenceResult:
    r"""Sinkhorn divergence, ``S = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2`` with entropic OT.

    It is 0 between equal measures, positive between others (squared Euclidean and Euclidean costs), tends to the
    transport cost as eps falls, and for squared Euclid to the squared distance of the means as eps grows.

    Parameters
    ----------
    X, Y : (n, d), (m, d) array_like
        The points.
    a, b : (n,), (m,) array_like, optional
        Weights, uniform by default.
    reg, reg_scale
        As for :func:`sinkhorn`; the scale is that of the cost between X and Y, and one eps serves all three terms.
    metric
        As for :class:`PointCloudCost`.
    marginal_reg : float, optional
        The penalty on both marginals, for measures of different mass.
    gradient : bool
        Also compute the gradients with respect to points and weights, exact at the optimum (no unrolling).
    tol, max_iter
        As for :func:`sinkhorn`.

    Returns
    -------
    DivergenceResult

    Raises
    ------
    ValueError, TypeError
        As for :func:`sinkhorn`; also if gradients are asked for under a callable metric.

    Warns
    -----
    ConvergenceWarning
        If a term stopped before `tol`.

    Notes
    -----
    Definition and positivity are [1]_ (Theorem 1); the averaged iteration for the symmetric terms is its Section 3.1;
    by the envelope theorem ``dS/da = f_ab - f_aa`` and
    ``dS/dx_i = sum_j P^ab_ij grad_x c(x_i, y_j) - sum_j P^aa_ij grad_x c(x_i, x_j)``.

    References
    ----------
    .. [1] J. Feydy, T. Séjourné, F.-X. Vialard, S. Amari, A. Trouvé, G. Peyré, "Interpolating between Optimal Transport
       and MMD using Sinkhorn Divergences", AISTATS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import sinkhorn_divergence
    >>> X = np.array([[0.0], [1.0]])
    >>> round(sinkhorn_divergence(X, X + 2, reg=1.0).value, 6)
    4.0
    """
    if isinstance(marginal_reg, (tuple, list)):
        raise ValueError(f"marginal_reg must be one number, the same for both measures; got {marginal_reg!r}")
    cost = PointCloudCost(X, Y, metric)
    if gradient and callable(metric):
        raise ValueError("gradient=True needs a named metric; got a callable")
    problem = Problem.check(cost, a, b, reg, reg_scale, marginal_reg)
    sides = [
        _self_term(problem, points, weights, tol, max_iter)
        for points, weights in ((cost.X, problem.a), (cost.Y, problem.b))
    ]
    init = (sides[0].f, sides[1].f) if _equal_measures(problem) else None
    options: dict[str, Any] = {
        "reg_scale": reg_scale,
        "marginal_reg": marginal_reg,
        "init": init,
        "tol": tol,
        "max_iter": max_iter,
    }
    ab = sinkhorn(cost, a, b, reg=reg, **options)
    mass = [float(problem.xp.sum(weights)) for weights in (problem.a, problem.b)]
    value = ab.value - (sides[0].value + sides[1].value) / 2
    if not problem.balanced:
        value += ab.reg / 2 * (mass[0] - mass[1]) ** 2
    grad_X, grad_Y, grad_a, grad_b = _gradients(ab, *sides) if gradient else (None, None, None, None)
    return DivergenceResult(
        value=value,
        terms=DivergenceTerms(ab.value, sides[0].value, sides[1].value),
        grad_X=grad_X,
        grad_Y=grad_Y,
        grad_a=grad_a,
        grad_b=grad_b,
        converged=ab.converged and sides[0].converged and sides[1].converged,
    )


def _equal_measures(problem: Problem) -> bool:
    """Whether both measures are the same list. Few pairs couple then: only the symmetric iteration finds potentials."""
    X, Y, xp = problem.cost.X, problem.cost.Y, problem.xp  # type: ignore[attr-defined]
    return X.shape == Y.shape and bool(xp.all(X == Y)) and bool(xp.all(problem.a == problem.b))


class _SelfTerm(NamedTuple):
    problem: Problem
    f: Array
    value: float
    converged: bool


def _self_term(problem: Problem, points: Array, weights: Array, tol: float | None, max_iter: int) -> _SelfTerm:
    cost = PointCloudCost(points, metric=problem.cost.metric)  # type: ignore[attr-defined]
    own = Problem.check(cost, weights, weights, problem.eps, "absolute", None if problem.balanced else problem.rho)
    f, r, converged = symmetric_potential(own, tol, max_iter)
    return _SelfTerm(own, f, own.dual_value(f, f, float(own.xp.sum(r))), converged)


def symmetric_potential(problem: Problem, tol: float | None, max_iter: int) -> tuple[Array, Array, bool]:
    """The potential f of a symmetric problem, whose plan is that of (f, f), by ``f <- (f + softmin f) / 2``.

    Returns f, the row sums of its plan, and whether they meet the tolerance.
    """
    xp, eps, shrink = problem.xp, problem.eps, problem.shrinks[0]
    loop = Loop(
        "sinkhorn (symmetric)",
        tol=tolerance(problem, tol),
        max_iter=max_iter,
        floor=rounding_floor(problem, problem.cost.spread()),
    )
    f_next, r = xp.zeros_like(problem.a), problem.a
    f = f_next
    for _ in loop.stage():
        f = f_next
        soft = problem.cost.soft_min(problem.h(f), eps)
        r = problem.a * xp.exp((f - soft) / eps)
        loop.report(float(problem.residual(f, f, r, r)))
        f_next = (f + shrink * soft) / 2
    loop.finish(stacklevel=5)
    return f, r, loop.converged


def _gradients(ab: SinkhornResult, aa: _SelfTerm, bb: _SelfTerm) -> tuple[Array, Array, Array, Array]:
    """Gradients with respect to X, Y, a and b."""
    problem, eps, xp = ab._problem, ab.reg, ab._problem.xp
    (f, g), cost = ab._potentials, ab._problem.cost
    u, h = problem.u(f), problem.h(g)
    by_points, by_weights = [], []
    # each side in turn is the source: its cost, its log weights and the other's, its potential
    sides = ((cost, u, h, f, g, aa, problem.b), (cost.T, h, u, g, f, bb, problem.a))
    for c, source, target, own, _, term, other in sides:
        log = term.problem.u(term.f)
        moved = c.gradient(source, target, eps) - term.problem.cost.gradient(log, log, eps)  # type: ignore[attr-defined]
        by_points.append(problem.cast(moved))
        weights = term.problem.a
        if problem.balanced:
            slope = own - term.f
            slope = slope - float(weights @ slope) / float(xp.sum(weights))
        else:
            sign = float(xp.sum(weights)) - float(xp.sum(other))
            slope = _slope(term.problem, own, c.soft_min(target, eps), other) - _slope(
                term.problem, term.f, term.problem.cost.soft_min(log, eps), weights
            )
            slope = slope + eps * sign
        by_weights.append(problem.cast(slope))
    return by_points[0], by_points[1], by_weights[0], by_weights[1]


def _slope(problem: Problem, f: Array, soft: Array, other: Array) -> Array:
    """Derivative of unbalanced OT by the weights of one side, whose potential is f; `other` are the other's weights."""
    xp, eps, rho = problem.xp, problem.eps, problem.rho[0]
    rows = xp.exp((f - soft) / eps)  # sum_j b_j exp((f_i + g_j - C_ij) / eps)
    return -rho * xp.expm1(-f / rho) + eps * float(xp.sum(other)) - eps * rows
