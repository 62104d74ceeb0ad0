"""Simulated annealing: chains that are cooled from where nearly every flip is accepted to where none is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._chains import Chains, initial_states, replicas, warn_of
from numcore.algorithms.hebbian._checks import Array
from numcore.algorithms.hebbian._engines import make_engine
from numcore.algorithms.hebbian._model import Model, make_model
from numcore.algorithms.hebbian.energy import Interaction
from numcore.arrays import as_count, as_number, as_rng
from numcore.results import Callback, Result

__all__ = ["AnnealResult", "anneal"]

STATES = 64
"""Random states whose fields tell the temperatures."""


@dataclass(frozen=True, repr=False, eq=False)
class AnnealResult(Result):
    """What :func:`anneal` returns.

    Attributes
    ----------
    states : (R, N) int8 array
        The best that each chain met at the end of a sweep.
    energies : (R,) float64 array
        Theirs.
    best_state : (N,) int8 array
        The best of all.
    best_energy : float
    betas : (n_sweeps,) float64 array
        The inverse temperature of each sweep made.
    acceptance_rate : (R,) float64 array
    converged : bool
        Whether the schedule was run to its end.
    """

    states: Array
    energies: Array
    best_state: Array
    best_energy: float
    betas: Array
    acceptance_rate: Array
    converged: bool


def anneal(
    patterns: ArrayLike,
    *,
    order: int = 3,
    interaction: Interaction = "distinct",
    weights: ArrayLike | None = None,
    field: ArrayLike | None = None,
    beta_range: tuple[float, float] | None = None,
    n_sweeps: int = 1000,
    n_replicas: int = 1,
    init: Any = None,
    rng: Any = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> AnnealResult:
    r"""Search for states of low energy by cooling.

    Sequential Glauber sweeps at inverse temperatures that grow geometrically.

    Parameters
    ----------
    patterns, order, interaction, weights, field
        The energy, as for :func:`energy`; "exp" has no temperature and is refused.
    beta_range : (float, float), optional
        The first and the last inverse temperature. Default ``0.1 / median |h|`` and ``10 / min |h|`` (over the fields
        that are not 0 of 64 random states), the second at most 10^4 times the first.
    n_sweeps : int
        Sweeps of each chain.
    n_replicas : int
        R, where `init` does not tell it.
    init : None, "patterns" or (R, N) array
        As for :func:`sample`.
    rng, callback, verbose
        As for :func:`sample`. The callback's state has `best_energy` and `best_state` too.

    Returns
    -------
    AnnealResult
        After Ctrl-C with what was found so far, `converged` False, and a warning.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    ConvergenceWarning
        If the run was interrupted.

    References
    ----------
    S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, *Optimization by simulated annealing*, Science 220, 1983.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import anneal, energy, make_archetypes
    >>> xi = make_archetypes(3, 100, rng=0)
    >>> result = anneal(xi, order=2, n_sweeps=200, n_replicas=16, rng=1)
    >>> bool(result.best_energy <= energy(xi, xi, order=2).min())  # the deepest of the patterns
    True
    """
    model = make_model(patterns, order=order, interaction=interaction, weights=weights, field=field)
    if interaction == "exp":
        raise ValueError("interaction must be 'distinct', 'full' or 'rectified' for annealing; got 'exp'")
    n_sweeps = as_count(n_sweeps, "n_sweeps")
    ends = None if beta_range is None else _as_range(beta_range)
    count = replicas(as_count(n_replicas, "n_replicas"), init=init)
    rng = as_rng(rng)
    spins = initial_states(init, model.patterns, (count, model.n_features), rng)
    betas = np.geomspace(*(ends or default_range(model, rng)), n_sweeps)
    chains = Chains(
        make_engine(model, "sequential", cold=False), spins, sites=np.arange(model.n_features), rng=rng, best=True
    )

    def best() -> dict[str, Any]:
        k = int(np.argmin(chains.best_energies))
        return {"best_energy": float(chains.best_energies[k]), "best_state": chains.best_states[k]}

    chains.run(betas[:, None], np.ones(n_sweeps, bool), name="anneal", callback=callback, verbose=verbose, state=best)
    whole = chains.done == n_sweeps
    warn_of(chains, "anneal", np.array([True]))
    energies = model.energies(chains.best_states)
    k = int(np.argmin(energies))
    return AnnealResult(
        chains.best_states,
        energies,
        chains.best_states[k].copy(),
        float(energies[k]),
        betas[: chains.done],
        chains.acceptance_rate,
        whole,
    )


def _as_range(beta_range: Any) -> tuple[float, float]:
    try:
        first, last = beta_range
    except (TypeError, ValueError):
        raise ValueError(f"beta_range must be a pair (first, last); got {beta_range!r}") from None
    first, last = as_number(first, "beta_range[0]", above=0), as_number(last, "beta_range[1]", above=0)
    if first > last:
        raise ValueError(f"beta_range must not decrease; got {beta_range!r}")
    return first, last


def default_range(model: Model, rng: np.random.Generator) -> tuple[float, float]:
    """Inverse temperatures from the fields of random states; (1, 1) if these are all 0."""
    states = 2 * rng.integers(0, 2, size=(STATES, model.n_features), dtype=np.int8) - np.int8(1)
    h, size = model.fields(states)
    h = np.abs(h[np.abs(h) > 1e-12 * size[:, None]])  # the rest is rounding
    if not h.size:
        return 1.0, 1.0
    first = 0.1 / float(np.median(h))
    return first, min(10 / float(h.min()), 1e4 * first)
