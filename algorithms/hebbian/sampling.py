"""Markov chains at given temperatures: spins one at a time, all at once, or from mean fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._chains import Chains, initial_states, replicas, warn_of
from numcore.algorithms.hebbian._checks import Array, as_betas, as_clamp, as_patterns
from numcore.algorithms.hebbian._engines import Engine, make_engine
from numcore.algorithms.hebbian._model import make_model
from numcore.algorithms.hebbian.energy import Interaction
from numcore.arrays import as_choice, as_count, as_rng
from numcore.results import Callback, Result

__all__ = ["Plan", "SampleResult", "sample"]

Dynamics = Literal["sequential", "parallel", "plefka"]
PROBES = 8
"""Patterns whose overlaps are recorded where none are named."""


@dataclass(frozen=True, repr=False, eq=False)
class SampleResult(Result):
    """What :func:`sample` and :func:`sample_pairwise` return: R chains, T records.

    Attributes
    ----------
    states : (R, N) int8 array
        The last ones.
    energies : (T, R) float64 array
    overlaps : (T, R, Q) float64 array
        With the Q probes.
    acceptance_rate : (R,) float64 array
        Flips over attempts, from the first sweep on.
    n_sweeps : int
        Sweeps made after the burn-in.
    n_attempts : int
        Attempts of all chains, from the first sweep on.
    converged : (R,) bool array
        At finite beta, whether all sweeps were made; at beta inf, whether the chain came to rest.
    cycle : (R,) bool array
        Whether the chain, at beta inf, alternates between two states. It is left in one of them.
    """

    states: Array
    energies: Array
    overlaps: Array
    acceptance_rate: Array
    n_sweeps: int
    n_attempts: int
    converged: Array
    cycle: Array

    @property
    def magnetizations(self) -> Array:
        """The overlaps, by their name in physics."""
        return self.overlaps


def sample(
    patterns: ArrayLike,
    *,
    beta: Any,
    order: int = 3,
    interaction: Interaction = "distinct",
    weights: ArrayLike | None = None,
    field: ArrayLike | None = None,
    init: Any = None,
    n_replicas: int = 1,
    n_sweeps: int = 100,
    n_burn: int = 0,
    dynamics: Dynamics = "sequential",
    rule: Literal["glauber", "metropolis"] = "glauber",
    visit: Literal["ordered", "permuted", "random"] = "ordered",
    clamp: ArrayLike | None = None,
    record_every: int = 1,
    probes: ArrayLike | None = None,
    rng: Any = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> SampleResult:
    r"""Sample states of a dense Hebbian memory.

    Sequential chains have the stationary law :math:`\propto \exp(-\beta E(\sigma))`.

    Parameters
    ----------
    patterns : (K, N) or (N,) array
        Signs or any numbers.
    beta : float or (R,) array
        Inverse temperature, one for all chains or one each; inf gives the descent of zero temperature.
    order, interaction, weights, field
        The energy, as for :func:`energy`. "exp" knows beta inf only.
    init : None, "patterns" or (R, N) array
        Random states, the signs of the patterns in turn, or states. One row serves all chains.
    n_replicas : int
        R, where neither `beta` nor `init` tells it.
    n_sweeps : int
        Sweeps that are recorded; one is N attempts (as many as there are sites that are not clamped).
    n_burn : int
        Sweeps made before.
    dynamics : {"sequential", "parallel", "plefka"}
        One site after another; all at once from the fields of the state before; or drawn from mean fields. See Notes.
    rule : {"glauber", "metropolis"}
        Flip with probability :math:`1 / (1 + e^{\beta \Delta E})` or :math:`\min(1, e^{-\beta \Delta E})` (sequential
        only).
    visit : {"ordered", "permuted", "random"}
        Sites in their order, in a new random order every sweep, or drawn one by one (sequential only). The first is
        the fastest; it keeps the law but is not reversible.
    clamp : (N,) bool array, optional
        Sites that never flip.
    record_every : int
        A record after every so many sweeps, the last one after the last sweep: ``ceil(n_sweeps / record_every)``.
    probes : (Q, N) or (N,) array, optional
        Vectors whose overlaps are recorded; default the first ``min(K, 8)`` patterns.
    rng : None, int, SeedSequence, Generator, ...
        Randomness. Chain r draws from a stream of its own, so that results do not depend on the number of threads.
    callback : callable, optional
        ``callback(state)`` after each record, with the names of the result; returning True stops.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    SampleResult
        After Ctrl-C with what was sampled so far, `converged` False, and a warning.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; if "exp" meets a finite beta; if "plefka" is asked of another interaction
        than "distinct", or of beta inf.

    Warns
    -----
    ConvergenceWarning
        If a chain at beta inf did not come to rest, or the run was interrupted.

    Notes
    -----
    *Parallel* dynamics does not sample :math:`\exp(-\beta E)`: at order 2 its law is Peretto's,
    :math:`\prod_i 2 \cosh(\beta h_i)`, for higher orders none is known in closed form. At beta inf it may alternate
    between two states, which `cycle` reports.

    *Plefka* dynamics iterates magnetizations of every site, with the reaction term of Thouless, Anderson and Palmer for
    a load :math:`\alpha = \sum_\mu w_\mu^2 / N^{P-1}` of unstructured patterns, and draws independent spins from them.
    It is an approximation, made to reach the retrieval state in a few passes.

    References
    ----------
    E. Agliari et al., *Dense Hebbian neural networks: a replica symmetric picture of supervised learning*, Physica A
    626, 2023; P. Peretto, *Collective properties of neural networks: a statistical physics approach*, Biol. Cybern. 50,
    1984; T. Plefka, *Convergence condition of the TAP equation for the infinite-ranged Ising spin glass model*, J.
    Phys. A 15, 1982.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import make_archetypes, sample
    >>> xi = make_archetypes(100, 200, rng=0)
    >>> result = sample(xi, beta=2.0, init="patterns", n_sweeps=50, rng=1)
    >>> result.energies.shape, result.magnetizations.shape
    ((50, 1), (50, 1, 8))
    >>> bool(result.magnetizations[:, 0, 0].mean() > 0.9)  # the first pattern is remembered
    True
    """
    model = make_model(patterns, order=order, interaction=interaction, weights=weights, field=field)
    betas = as_betas(beta)
    as_choice(dynamics, "dynamics", ("sequential", "parallel", "plefka"))
    if interaction == "exp" and not np.all(np.isinf(betas)):
        raise ValueError(f"beta must be inf with interaction 'exp'; got {beta!r}")
    if dynamics == "plefka":
        if interaction != "distinct":
            raise ValueError(f"interaction must be 'distinct' with dynamics 'plefka'; got {interaction!r}")
        if np.any(np.isinf(betas)):
            raise ValueError("beta must be finite with dynamics 'plefka'; got inf")
    plan = Plan(betas, init, n_replicas, n_sweeps, n_burn, rule, visit, clamp, record_every, model.n_features)
    vectors = model.patterns[:PROBES] if probes is None else as_patterns(probes, "probes", model.n_features)[0]
    rng = as_rng(rng)
    spins = initial_states(init, model.patterns, (plan.count, model.n_features), rng)
    engine = make_engine(model, dynamics, cold=bool(np.any(np.isinf(betas))))
    return plan.run(engine, spins, vectors, rng, "sample", callback, verbose)


class Plan:
    """The checked options of a run."""

    def __init__(
        self,
        betas: Array,
        init: Any,
        n_replicas: int,
        n_sweeps: int,
        n_burn: int,
        rule: str,
        visit: str,
        clamp: ArrayLike | None,
        record_every: int,
        n_features: int,
    ) -> None:
        self.count = replicas(as_count(n_replicas, "n_replicas"), beta=betas, init=init)
        self.betas = np.broadcast_to(betas, (self.count,))
        self.n_sweeps, self.n_burn = as_count(n_sweeps, "n_sweeps"), as_count(n_burn, "n_burn", minimum=0)
        self.every = as_count(record_every, "record_every")
        self.rule = as_choice(rule, "rule", ("glauber", "metropolis"))
        self.visit = as_choice(visit, "visit", ("ordered", "permuted", "random"))
        self.sites = as_clamp(clamp, n_features)

    def run(
        self,
        engine: Engine,
        spins: Array,
        probes: Array | None,
        rng: np.random.Generator,
        name: str,
        callback: Callback | None,
        verbose: int,
    ) -> SampleResult:
        chains = Chains(engine, spins, sites=self.sites, visit=self.visit, rule=self.rule, probes=probes, rng=rng)
        left = self.n_burn + self.n_sweeps - 1 - np.arange(self.n_burn + self.n_sweeps)
        recorded = (left % self.every == 0) & (left < self.n_sweeps)
        betas = np.broadcast_to(self.betas, (len(recorded), self.count))
        chains.run(betas, recorded, name=name, callback=callback, verbose=verbose)
        whole = chains.done == len(recorded)
        converged = np.where(np.isinf(self.betas), chains.at_rest, whole)
        warn_of(chains, name, converged, stacklevel=4)
        return SampleResult(
            chains.spins,
            chains.energies,
            chains.overlaps,
            chains.acceptance_rate,
            max(chains.done - self.n_burn, 0),
            chains.done * len(self.sites) * self.count,
            converged & (not chains.interrupted),
            chains.cycle,
        )
