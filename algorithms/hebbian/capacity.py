"""How many patterns a memory holds: recall of damaged archetypes over a range of loads, beside the theory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from numcore.algorithms.hebbian._checks import INTERACTIONS, Array, as_order
from numcore.algorithms.hebbian._replica import as_quality
from numcore.algorithms.hebbian.examples import hebbian_patterns, make_archetypes, make_examples
from numcore.algorithms.hebbian.pairwise import hopfield_weights, recall_pairwise
from numcore.algorithms.hebbian.recall import RecallResult, recall
from numcore.algorithms.hebbian.theory import self_consistency
from numcore.arrays import as_choice, as_count, as_floating, as_number, as_rng
from numcore.results import ConvergenceWarning, Result

__all__ = ["CapacityCurve", "capacity_curve"]

RULES = ("hebb", "pinv", "storkey")


@dataclass(frozen=True, repr=False, eq=False)
class CapacityCurve(Result):
    """Recall against the load.

    Attributes
    ----------
    loads : (L,) array
        ``alpha = K / N^(P - 1)``.
    n_patterns : (L,) int array
        K, the nearest integer, at least 1.
    mean, standard_error : (L,) arrays
        The overlap with the archetype after recall, over independent realisations.
    success : (L,) array
        The share of realisations in which recall came at least as near to the archetype as it began.
    theory : (L,) array
        The overlap at zero temperature in the limit of many features, :func:`self_consistency`; nan where there is no
        theory.
    """

    loads: Array
    n_patterns: Array
    mean: Array
    standard_error: Array
    success: Array
    theory: Array


def capacity_curve(
    *,
    n_features: int,
    loads: Any,
    order: int = 3,
    interaction: Literal["distinct", "full", "rectified", "exp"] = "distinct",
    rule: Literal["hebb", "pinv", "storkey"] | None = None,
    flips: float = 0.1,
    n_trials: int = 10,
    n_sweeps: int = 20,
    quality: float = 1.0,
    n_examples: int = 1,
    learning: Literal["supervised", "unsupervised"] = "supervised",
    rng: Any = None,
) -> CapacityCurve:
    """Recall at zero temperature over a range of loads.

    In each trial archetypes are drawn, examples of them are learned, and recall starts from an archetype of which a
    share of the features is flipped.

    Parameters
    ----------
    n_features : int
        N.
    loads : (L,) array_like
        ``K / N^(P - 1)``; with a `rule`, K / N.
    order, interaction
        The energy, as for :func:`energy`.
    rule : {"hebb", "pinv", "storkey"}, optional
        Recall by couplings of pairs instead, as from :func:`hopfield_weights`; `order` and `interaction` do not
        matter then.
    flips : float in [0, 1]
        The share of features that is flipped.
    n_trials : int
        Realisations a load.
    n_sweeps : int
        Sweeps of recall at most.
    quality, n_examples, learning
        As for :func:`self_consistency`.
    rng : int, Generator or None
        Every load and every trial draws from a stream of its own.

    Returns
    -------
    CapacityCurve

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Notes
    -----
    Trials that are still changing after `n_sweeps` count as they are. The standard error is that over realisations:
    starts within one realisation share its disorder. Near the critical load it is large at any N, as realisations
    either hold or fail.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import capacity_curve
    >>> curve = capacity_curve(n_features=60, loads=[0.02, 0.3], n_trials=5, rng=0)
    >>> curve.n_patterns, curve.success
    (array([  72, 1080]), array([1., 0.]))
    """
    N = as_count(n_features, "n_features")
    loads = as_floating(loads, "loads", ndim=1, dtype=np.float64)
    if not loads.size or np.any(loads < 0):
        raise ValueError(f"loads must be at least 0, one or more; got {np.sum(loads < 0)} of {loads.size} that are not")
    as_choice(rule, "rule", (None, *RULES))
    as_choice(interaction, "interaction", INTERACTIONS)
    as_choice(learning, "learning", ("supervised", "unsupervised"))
    P = as_order(order) if rule is None else 2
    flipped = round(as_number(flips, "flips", above=0, below=1, closed=True) * N)
    trials, sweeps = as_count(n_trials, "n_trials"), as_count(n_sweeps, "n_sweeps", minimum=0)
    r, M = as_quality(quality), as_count(n_examples, "n_examples")
    if rule is None and interaction == "distinct" and P > N:
        raise ValueError(f"order must be at most n_features, {N}, with interaction 'distinct'; got {P}")
    counts = np.maximum(1, np.rint(loads * float(N) ** (P - 1))).astype(np.int64)

    def trial(K: int, stream: Any) -> float:
        rng = np.random.default_rng(stream)
        xi = make_archetypes(K, N, rng=rng)
        stored = hebbian_patterns(make_examples(xi, M, quality=r, rng=rng), learning=learning, order=P)
        start = xi[0].copy()
        start[rng.permutation(N)[:flipped]] *= -1
        fall = _recall_of(stored.patterns, stored.weights, P, interaction, rule)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            end = fall(start, n_sweeps=sweeps).states
        return float(end.astype(np.float64) @ xi[0] / N)

    streams = as_rng(rng).spawn(len(loads))
    found = np.array([[trial(K, s) for s in stream.spawn(trials)] for K, stream in zip(counts, streams, strict=True)])
    error = found.std(axis=1, ddof=1) / np.sqrt(trials) if trials > 1 else np.full(len(loads), np.nan)
    success = np.mean(found >= 1 - 2 * flipped / N, axis=1)
    expect = partial(_theory, P, interaction, rule, quality=r, n_examples=M, learning=learning)
    return CapacityCurve(loads, counts, found.mean(axis=1), error, success, np.array([expect(a) for a in loads]))


def _recall_of(patterns: Array, weights: Array, order: int, interaction: Any, rule: Any) -> Callable[..., RecallResult]:
    if rule is None:
        return partial(recall, patterns=patterns, weights=weights, order=order, interaction=interaction)
    return partial(recall_pairwise, couplings=hopfield_weights(patterns, rule=rule))


def _theory(order: int, interaction: str, rule: str | None, load: float, **examples: Any) -> float:
    """Overlap at zero temperature, where there is a theory."""
    unsupervised = examples["learning"] == "unsupervised"
    if rule in ("pinv", "storkey") or (rule is None and interaction not in ("distinct", "full")):
        return float("nan")
    if unsupervised and (order == 2 or interaction == "full"):
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at a load next to the critical one
        kind = interaction if rule is None else "distinct"
        return self_consistency(order=order, beta=np.inf, load=load, interaction=kind, **examples).m
