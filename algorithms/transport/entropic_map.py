"""Maps from entropic plans: where a point goes, in or out of sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numcore.algorithms.transport._metrics import Power
from numcore.algorithms.transport._problem import Problem
from numcore.algorithms.transport._result import SinkhornResult
from numcore.algorithms.transport.costs import PointCloudCost
from numcore.algorithms.transport.divergence import symmetric_potential
from numcore.arrays import Array, as_choice, as_floating
from numcore.special import softmax

__all__ = ["entropic_map"]


def entropic_map(result: SinkhornResult, X: Any, *, direction: str = "forward", debiased: bool = False) -> Array:
    r"""The entropic estimate of the transport map, at any points.

    .. math:: T(x) = \sum_j w_j(x)\, y_j, \qquad
        w(x) = \mathrm{softmax}_j \left( \log b_j + (g_j - c(x, y_j)) / \varepsilon \right)

    for the squared Euclidean cost, where it is the conditional mean of the plan; at a source point of a converged
    problem it is the barycentric projection ``(P Y)_i / a_i``. For ``c = h(x - y)`` with ``h(z) = |z|^p / p``,
    ``T(x) = x - grad h*(sum_j w_j grad h(x - y_j))``. Other metrics get the conditional mean.

    Parameters
    ----------
    result : SinkhornResult
        From a :class:`PointCloudCost`.
    X : (k, d) array_like
        Where to evaluate.
    direction : {"forward", "inverse"}
        From sources to targets, or from targets to sources.
    debiased : bool
        Return ``T(x) - T_aa(x) + x``, T_aa the map of the source onto itself, which takes away most of the shrinking
        that entropy brings.

    Returns
    -------
    (k, d) array

    Raises
    ------
    ValueError
        If the result is not from point clouds, or X has another number of features.

    Notes
    -----
    Far from all data the weights degrade to the nearest target: finite always.

    References
    ----------
    .. [1] A.-A. Pooladian, J. Niles-Weed, "Entropic estimation of optimal transport maps", 2021, Equation (2).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import PointCloudCost, entropic_map, sinkhorn
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> result = sinkhorn(PointCloudCost(X, X + 5), reg=0.01)
    >>> entropic_map(result, [[1.0]]).round(6)
    array([[6.]])
    """
    as_choice(direction, "direction", ("forward", "inverse"))
    problem = getattr(result, "_problem", None)
    if problem is None:
        raise TypeError(f"result must be a SinkhornResult; got {type(result).__name__}")
    if not isinstance(problem.cost, PointCloudCost):
        raise ValueError("result must be a SinkhornResult from a PointCloudCost, which knows the points")
    cost, (f, g) = problem.cost, result._potentials
    X = as_floating(X, "X", ndim=2, like=cost.X, dtype=cost.dtype)
    if X.shape[1] != cost.X.shape[1]:
        raise ValueError(f"X must have {cost.X.shape[1]} features; got shape {tuple(X.shape)}")
    forward = direction == "forward"
    source, target = (cost.X, cost.Y) if forward else (cost.Y, cost.X)
    log_weights = problem.h(g) if forward else problem.u(f)
    mapped = _conditional(X, target, log_weights, problem)
    if not debiased:
        return mapped
    weights = problem.a if forward else problem.b
    own = Problem.check(PointCloudCost(source, metric=cost.metric), weights, weights, problem.eps, "absolute")
    own = replace(own, rho=problem.rho if forward else problem.rho[::-1])
    potential, _, _ = symmetric_potential(own, None, 10000)
    return mapped - _conditional(X, source, own.h(potential), problem) + X


def _conditional(X: Array, Y: Array, log_weights: Array, problem: Problem) -> Array:
    """``T`` at the rows of X towards Y, with ``log_weights = log b + g / eps``."""
    if X.shape[0] == 0:
        return X
    cost, eps = PointCloudCost(X, Y, problem.cost.metric), problem.eps  # type: ignore[attr-defined]
    metric, xp = cost._metric, cost.xp
    if not isinstance(metric, Power) or metric.p in (1, 2):
        return problem.cast(cost.means(log_weights, eps, Y)[1])
    weights = ((s, softmax(problem.cast(log_weights)[None, :] - C / eps)) for s, C in cost.blocks())
    v = xp.concat([metric.gradient(X[s, :], Y, w) for s, w in weights])
    # grad h*(v) = |v|^(q - 2) v with 1/p + 1/q = 1, for h(z) = |z|^p / p
    length = xp.sqrt(xp.sum(v * v, axis=1))[:, None]
    moving = length > 0
    stretch = xp.where(moving, length, xp.ones_like(length)) ** ((2 - metric.p) / (metric.p - 1))  # q - 2
    return problem.cast(X - xp.where(moving, stretch, xp.zeros_like(stretch)) * v)
