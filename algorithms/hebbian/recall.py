"""Descent at zero temperature from given states to what the memory makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._chains import Chains, failure
from numcore.algorithms.hebbian._checks import Array, as_clamp, as_spins
from numcore.algorithms.hebbian._engines import Engine, make_engine
from numcore.algorithms.hebbian._model import make_model
from numcore.algorithms.hebbian.energy import Interaction, overlap_matrix
from numcore.arrays import as_choice, as_count
from numcore.results import ConvergenceWarning, Result

__all__ = ["RecallResult", "recall"]

MEMORY = 1 << 24
"""Counts that are kept at a time, of some states with all patterns."""


@dataclass(frozen=True, repr=False, eq=False)
class RecallResult(Result):
    """What :func:`recall` and :func:`recall_pairwise` return. For a single state, without the first axis.

    Attributes
    ----------
    states : (n, N) int8 array
    energies : (n,) float64 array
    overlaps : (n, K) float64 array or None
        With the patterns; None where there are couplings only.
    n_iter : (n,) int64 array
        Sweeps made; the last of a state that converged changed nothing.
    converged : (n,) bool array
        Whether a whole sweep changed nothing.
    cycle : (n,) bool array
        Whether the state alternates between two states (parallel dynamics).
    """

    states: Array
    energies: Array
    overlaps: Array | None
    n_iter: Array
    converged: Array
    cycle: Array


def recall(
    states: ArrayLike,
    patterns: ArrayLike,
    *,
    order: int = 3,
    interaction: Interaction = "rectified",
    weights: ArrayLike | None = None,
    field: ArrayLike | None = None,
    n_sweeps: int = 20,
    dynamics: Literal["sequential", "parallel"] = "sequential",
    clamp: ArrayLike | None = None,
) -> RecallResult:
    r"""Let states fall to what is remembered: :math:`\sigma_i \leftarrow \mathrm{sign}(h_i)`, ties keep the sign.

    Sequential sweeps go through the sites in their order, and every flip lowers the energy; so they end.

    Parameters
    ----------
    states : (n, N) or (N,) array
        Entries -1 and +1.
    patterns : (K, N) or (N,) array
        Signs or any numbers.
    order, interaction, weights, field
        The energy, as for :func:`energy`.
    n_sweeps : int
        At most; 0 returns the states as they are.
    dynamics : {"sequential", "parallel"}
    clamp : (N,) or (n, N) bool array, optional
        Sites that never flip, for all states or for each.

    Returns
    -------
    RecallResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    ConvergenceWarning
        If states were still changing after `n_sweeps` (above 0), or alternate between two.

    References
    ----------
    D. Krotov, J. J. Hopfield, *Dense associative memory for pattern recognition*, NeurIPS 2016, eq. 4 ("rectified");
    M. Demircigil et al., *On a model of associative memory with huge storage capacity*, J. Stat. Phys. 168, 2017
    ("exp").

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import make_archetypes, recall
    >>> xi = make_archetypes(200, 100, rng=0)
    >>> damaged = np.where(np.arange(100) < 20, -xi[0], xi[0])
    >>> result = recall(damaged, xi)
    >>> bool(result.converged), float(result.overlaps[0])
    (True, 1.0)
    """
    model = make_model(patterns, order=order, interaction=interaction, weights=weights, field=field)
    s, flat = as_spins(states, "states", model.n_features)
    as_choice(dynamics, "dynamics", ("sequential", "parallel"))
    engine = make_engine(model, dynamics, cold=True)
    found = descend(engine, s, n_sweeps, clamp, len(model.patterns), "recall")
    return finished(found, model.energies(found.states), overlap_matrix(found.states, model.patterns), flat)


def descend(
    engine: Engine, states: Array, n_sweeps: int, clamp: ArrayLike | None, n_kept: int, name: str
) -> RecallResult:
    """Sweeps at beta inf until nothing changes, some states at a time; energies and overlaps are left to the caller."""
    n_sweeps = as_count(n_sweeps, "n_sweeps", minimum=0)
    n = len(states)
    spins, n_iter = states.copy(), np.zeros(n, np.int64)
    converged, cycle, interrupted = np.zeros(n, bool), np.zeros(n, bool), False
    betas, recorded = np.full((n_sweeps, 1), np.inf), np.zeros(n_sweeps, bool)
    for rows, sites in _groups(clamp, states.shape, max(1, MEMORY // n_kept)) if n_sweeps else ():
        chains = Chains(engine, spins[rows], sites=sites)
        chains.run(betas, recorded, name=name, until_rest=True)
        spins[rows], converged[rows], cycle[rows] = chains.spins, chains.at_rest, chains.cycle
        n_iter[rows] = np.where(chains.still >= 0, chains.still, chains.done)
        interrupted = chains.interrupted
        if interrupted:
            break
    if interrupted or (n_sweeps and not converged.all()):
        warnings.warn(failure(name, converged, cycle, int(n_iter.max()), interrupted), ConvergenceWarning, stacklevel=3)
    return RecallResult(spins, np.zeros(n), None, n_iter, converged, cycle)


def _groups(clamp: ArrayLike | None, shape: tuple[int, ...], most: int) -> Iterator[tuple[Array, Array]]:
    """Up to `most` rows at a time that have the same free sites, with these."""
    n, N = shape
    different: list[Any]
    masks = None if clamp is None else np.asarray(clamp)
    if masks is not None and masks.ndim == 2:
        if masks.dtype != bool or masks.shape != (n, N):
            raise ValueError(
                f"clamp must be a bool array of shape ({N},) or ({n}, {N}); got {masks.dtype} of shape {masks.shape}"
            )
        unique, which = np.unique(masks, axis=0, return_inverse=True)
        different, which = list(unique), which.reshape(-1)
    else:
        different, which = [clamp], np.zeros(n, np.int64)
    for group, mask in enumerate(different):
        members, sites = np.flatnonzero(which == group), as_clamp(mask, N)
        for start in range(0, len(members), most):
            yield members[start : start + most], sites


def finished(found: RecallResult, energies: Array, overlaps: Array | None, flat: bool) -> RecallResult:
    """The result with all its figures, and without the first axis if it is that of a single state."""
    figures = {**vars(found), "energies": energies, "overlaps": overlaps}
    if flat:
        figures = {key: None if value is None else value[0] for key, value in figures.items()}
    return RecallResult(**figures)
