"""Magnetizations of one memory at finite temperature, without drawing states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._checks import Array
from numcore.algorithms.hebbian._engines import PlefkaEngine
from numcore.algorithms.hebbian._model import Model, make_model
from numcore.arrays import as_choice, as_floating, as_number
from numcore.results import Loop, Result

__all__ = ["MeanFieldResult", "mean_field"]


@dataclass(frozen=True, repr=False, eq=False)
class MeanFieldResult(Result):
    """Magnetizations that agree with the fields that they make. For a single start, without the first axis.

    Attributes
    ----------
    magnetizations : (n, N) float64 array
        Between -1 and 1.
    overlaps : (n, K) float64 array
        ``magnetizations @ patterns.T / N``.
    q : (n,) float64 array
        Mean squares of the magnetizations.
    converged : bool
        Whether all starts have converged.
    n_iter : int
    history : dict of str to array
        ``residual``, iteration by iteration.
    """

    magnetizations: Array
    overlaps: Array
    q: Any
    converged: bool
    n_iter: int
    history: dict[str, Array] = field(repr=False)


def mean_field(
    patterns: ArrayLike,
    *,
    beta: float,
    order: int = 3,
    weights: ArrayLike | None = None,
    init: ArrayLike | None = None,
    correction: Literal["tap"] | None = "tap",
    damping: float = 0.5,
    tol: float = 1e-8,
    max_iter: int = 1000,
) -> MeanFieldResult:
    r"""Solve the mean-field equations of the "distinct" energy by damped iteration.

    .. math:: \mu_i = \tanh \beta (h_i(\mu) - T_i), \quad T_i = \beta \, \xi''(q) (1 - q) \mu_i, \quad
        q = \tfrac 1N \sum_i \mu_i^2

    h is the field of :func:`local_fields`, continued to magnetizations. T is Onsager's reaction of the other spins to
    spin i, with the noise kernel ``xi(q) = alpha P! q^P / 4`` of the theory.

    Parameters
    ----------
    patterns : (K, N) or (N,) array_like
        Signs or any numbers.
    beta : float
        Inverse temperature, finite.
    order : int
        P.
    weights : (K,) array_like, optional
        Of the patterns; 1 each by default.
    init : (n, N) or (N,) array_like, optional
        Where to start, entries between -1 and 1; by default at the signs of the first pattern.
    correction : {"tap", None}
        With the reaction term (Thouless, Anderson and Palmer), or without: naive mean field.
    damping : float in [0, 1)
        The share of the last magnetizations that is kept in each iteration.
    tol : float
        For the largest difference between the magnetizations and what the equations make of them.
    max_iter : int
        Iterations at most.

    Returns
    -------
    MeanFieldResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    ConvergenceWarning
        If the iterations were used up.

    Notes
    -----
    Both are expansions in the couplings, Plefka's to first and to second order, and good where the other memories make
    little noise. The load is ``alpha = sum_mu w_mu^2 mean(p_mu^2)^P / N^(P - 1)``, which takes patterns as independent;
    unsupervised examples of one archetype are not.

    References
    ----------
    .. [1] T. Plefka, "Convergence condition of the TAP equation for the infinite-ranged Ising spin glass model",
       Journal of Physics A, 1982.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import make_archetypes, mean_field
    >>> xi = make_archetypes(200, 100, rng=0)
    >>> result = mean_field(xi, beta=2.0)
    >>> result.converged, round(float(result.overlaps[0]), 2)
    (True, 0.99)
    """
    model = make_model(patterns, order=order, weights=weights)
    beta = as_number(beta, "beta", above=0)
    as_choice(correction, "correction", ("tap", None))
    keep = as_number(damping, "damping", above=0, below=1, closed=True)
    if keep == 1:
        raise ValueError("damping must be below 1, or nothing would change; got 1")
    mu, flat = _start(model, init)
    curvature = _curvature(model) if correction == "tap" else 0.0
    loop = Loop("mean_field", tol=as_number(tol, "tol", above=0), max_iter=max_iter, residual="residual")
    for _ in loop.stage():
        q = np.mean(mu**2, axis=1, keepdims=True)
        reaction = beta * curvature * q ** (model.order - 2) * (1 - q) * mu
        change = np.tanh(beta * (model.multilinear(mu)[0] - reaction)) - mu
        mu = mu + (1 - keep) * change
        loop.report(float(np.abs(change).max()))
    loop.finish("Try a larger damping.")
    overlaps = np.concatenate([mu @ p.T for _, p in model.blocks(np.float64)], axis=1) / model.n_features
    q = np.mean(mu**2, axis=1)
    if flat:
        return MeanFieldResult(mu[0], overlaps[0], float(q[0]), **loop.outcome)
    return MeanFieldResult(mu, overlaps, q, **loop.outcome)


def _start(model: Model, init: ArrayLike | None) -> tuple[Array, bool]:
    if init is None:
        return np.where(model.patterns[:1] < 0, -1.0, 1.0), True
    mu = as_floating(init, "init", ndim=(1, 2), dtype=np.float64)
    if mu.shape[-1] != model.n_features or not mu.size:
        raise ValueError(f"init must have {model.n_features} features a row; got shape {mu.shape}")
    outside = int(np.count_nonzero(np.abs(mu) > 1))
    if outside:
        raise ValueError(f"init must lie between -1 and 1; {outside} of its {mu.size} entries do not")
    return np.array(np.atleast_2d(mu)), mu.ndim == 1


def _curvature(model: Model) -> float:
    """xi''(1)."""
    return PlefkaEngine(model).noise * model.order * (model.order - 1)
