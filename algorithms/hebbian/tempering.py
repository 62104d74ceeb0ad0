"""Exchange Monte Carlo: chains at many temperatures that trade them, so that the cold ones forget where they began."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._chains import Chains, initial_states, read_only, warn_of
from numcore.algorithms.hebbian._checks import Array, as_patterns
from numcore.algorithms.hebbian._engines import Engine, make_engine
from numcore.algorithms.hebbian._model import make_model
from numcore.algorithms.hebbian.energy import Interaction
from numcore.algorithms.hebbian.sampling import PROBES
from numcore.arrays import as_count, as_floating, as_number, as_rng
from numcore.diagnostics import autocorrelation_time
from numcore.results import Callback, ConvergenceWarning, Progress, Result, State

__all__ = ["TemperingResult", "parallel_tempering"]

PILOTS, PILOT_SWEEPS = 10, 20
"""Pilot rounds, and the sweeps of each."""

LEAST, ENOUGH = 0.05, 20
"""The swap rate below which a warning is due, after so many attempts."""


@dataclass(frozen=True, repr=False, eq=False)
class TemperingResult(Result):
    """What :func:`parallel_tempering` returns: B temperatures, T records.

    Attributes
    ----------
    betas : (B,) float64 array
        Inverse temperatures, ascending.
    states : (B, N) int8 array
        The last state at each.
    energies : (T, B) float64 array
    overlaps : (T, B, Q) float64 array
        With the Q probes.
    swap_rates : (B - 1,) float64 array
        Swaps over attempted swaps of each pair of neighbours.
    round_trips : int
        Journeys of states from the hottest temperature to the coldest and back, in all.
    autocorrelation_times : (B,) float64 array
        Of the energies, in records; nan where there are none.
    converged : bool
        Whether all sweeps were made.
    """

    betas: Array
    states: Array
    energies: Array
    overlaps: Array
    swap_rates: Array
    round_trips: int
    autocorrelation_times: Array
    converged: bool


def parallel_tempering(
    patterns: ArrayLike,
    *,
    betas: ArrayLike | None = None,
    beta_min: float = 0.1,
    beta_max: float = 5.0,
    n_temperatures: int = 16,
    order: int = 3,
    interaction: Interaction = "distinct",
    weights: ArrayLike | None = None,
    field: ArrayLike | None = None,
    n_sweeps: int = 1000,
    n_burn: int = 100,
    swap_every: int = 1,
    probes: ArrayLike | None = None,
    init: Any = None,
    rng: Any = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> TemperingResult:
    r"""Sample a dense Hebbian memory at many temperatures at once, with exchanges between neighbours.

    Two neighbours swap with probability :math:`\min(1, e^{(\beta_k - \beta_{k+1})(E_k - E_{k+1})})`, even and odd pairs
    in turn; the law at every temperature stays :math:`\propto e^{-\beta E}`.

    Parameters
    ----------
    patterns, order, interaction, weights, field
        The energy, as for :func:`energy`; "exp" has no temperature and is refused.
    betas : (B,) array, optional
        Inverse temperatures, strictly increasing, at least two.
    beta_min, beta_max, n_temperatures : float, float, int
        Without `betas`: the ends, and how many. What lies between is found in ten pilot rounds, such that all swap
        rates are expected to be alike. They come out near 0.3 only where the number suits the model: a warning tells
        when a rate falls below 0.05.
    n_sweeps, n_burn : int
        Sweeps recorded, and made before.
    swap_every : int
        Sweeps between two rounds of swaps.
    probes : (Q, N) or (N,) array, optional
        As for :func:`sample`.
    init : None, "patterns" or (B, N) array
        As for :func:`sample`, in the order of `betas`.
    rng, callback, verbose
        As for :func:`sample`; the callback comes after every round of swaps.

    Returns
    -------
    TemperingResult
        A record after every sweep. After Ctrl-C with what was sampled so far, `converged` False, and a warning.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    ConvergenceWarning
        If a swap rate is below 0.05, or the run was interrupted.

    References
    ----------
    K. Hukushima, K. Nemoto, *Exchange Monte Carlo method and application to spin glass simulations*, J. Phys. Soc. Jpn.
    65, 1996.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import make_archetypes, parallel_tempering
    >>> xi = make_archetypes(3, 60, rng=0)
    >>> result = parallel_tempering(xi, betas=np.linspace(0.5, 2.0, 8), n_sweeps=200, rng=1)
    >>> result.energies.shape, result.swap_rates.shape
    ((200, 8), (7,))
    """
    model = make_model(patterns, order=order, interaction=interaction, weights=weights, field=field)
    if interaction == "exp":
        raise ValueError("interaction must be 'distinct', 'full' or 'rectified' for tempering; got 'exp'")
    ladder = _as_ladder(betas, beta_min, beta_max, n_temperatures)
    n_sweeps, n_burn = as_count(n_sweeps, "n_sweeps"), as_count(n_burn, "n_burn", minimum=0)
    swap_every = as_count(swap_every, "swap_every")
    vectors = model.patterns[:PROBES] if probes is None else as_patterns(probes, "probes", model.n_features)[0]
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None; got {callback!r}")
    rng = as_rng(rng)
    spins = initial_states(init, model.patterns, (len(ladder), model.n_features), rng)
    engine = make_engine(model, "sequential", cold=False)
    exchange = _Exchange(engine, spins, ladder, vectors, rng, swap_every)
    if betas is None:
        exchange = exchange.tuned()
    exchange.run(n_burn, n_sweeps, callback, verbose)
    return exchange.result()


def _as_ladder(betas: ArrayLike | None, low: Any, high: Any, count: Any) -> Array:
    if betas is None:
        low, high = as_number(low, "beta_min", above=0), as_number(high, "beta_max", above=0)
        if low >= high:
            raise ValueError(f"beta_min must be below beta_max; got {low} and {high}")
        return np.geomspace(low, high, as_count(count, "n_temperatures", minimum=2))
    ladder: Array = as_floating(betas, "betas", ndim=1, dtype=np.float64)
    if len(ladder) < 2 or ladder[0] <= 0 or np.any(np.diff(ladder) <= 0):
        raise ValueError(f"betas must be at least 2 positive numbers, strictly increasing; got {ladder}")
    return ladder


class _Exchange:
    """Chains, and which temperature each of them has: swaps move temperatures, not states."""

    def __init__(
        self, engine: Engine, spins: Array, ladder: Array, probes: Array, rng: np.random.Generator, every: int
    ) -> None:
        self.engine, self.ladder, self.rng, self.every = engine, ladder, rng, every
        self.chains = Chains(engine, spins, sites=np.arange(spins.shape[1]), probes=probes, rng=rng)
        B = len(ladder)
        self.chain_at = np.arange(B)  # the chain at each temperature
        self.tried, self.made = np.zeros(B - 1, np.int64), np.zeros(B - 1, np.int64)
        self.energies, self.overlaps = np.zeros((0, B)), np.zeros((0, B, len(probes)))
        self.recorded, self.rounds = 0, 0
        self.heading = np.zeros(B, np.int8)  # 1 since the hottest, -1 since the coldest after it
        self.round_trips = 0
        self.whole = self.interrupted = self.stopped = False

    def tuned(self) -> _Exchange:
        """A fresh exchange from the present states, its temperatures spaced for equal swap rates."""
        current = self
        for _ in range(PILOTS):
            current.run(0, PILOT_SWEEPS, None, 0)
            if current.interrupted:
                break
            spins = current.chains.spins[current.chain_at]
            ladder = respaced(current.ladder, current.energies)
            current = _Exchange(self.engine, spins, ladder, self.chains.probes, self.rng, self.every)
        return current

    def run(self, n_burn: int, n_sweeps: int, callback: Callback | None, verbose: int) -> None:
        """Sweeps and swaps in turn, swaps only between sweeps: the states returned are those of the last record."""
        self.energies = np.zeros((n_sweeps, *self.energies.shape[1:]))
        self.overlaps = np.zeros((n_sweeps, *self.overlaps.shape[1:]))
        self.recorded, self.whole, done = 0, False, 0
        if self.interrupted:  # in a pilot round
            return
        bar = Progress(n_burn + n_sweeps, "parallel_tempering") if verbose else None
        try:
            while done < n_burn + n_sweeps and not self.stopped:
                count = min(self.every, n_burn + n_sweeps - done)
                self._round(count, done, n_burn)
                done += count
                if bar is not None:
                    for _ in range(count):
                        bar.step({"swaps": float(np.mean(self.made / np.maximum(self.tried, 1)))})
                if callback is not None and self.recorded:
                    self.stopped = callback(self._state()) is True
            self.whole = done == n_burn + n_sweeps
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            if bar is not None:
                bar.close()

    def _round(self, count: int, done: int, n_burn: int) -> None:
        chains = self.chains
        if done:
            self._swap(chains.energies[chains.recorded - 1, self.chain_at], done >= n_burn)
        betas = np.empty(len(self.ladder))
        betas[self.chain_at] = self.ladder
        chains.recorded = 0
        chains.reserve(count)
        chains.advance(np.broadcast_to(betas, (count, len(betas))), np.ones(count, bool))
        fresh = slice(max(n_burn - done, 0), count)
        kept = chains.energies[fresh, self.chain_at]
        rows = slice(self.recorded, self.recorded + len(kept))
        self.energies[rows], self.overlaps[rows] = kept, chains.overlaps[fresh, self.chain_at]
        self.recorded += len(kept)

    def _swap(self, energies: Array, counted: bool) -> None:
        pairs = np.arange(self.rounds % 2, len(self.ladder) - 1, 2)
        gain = (self.ladder[pairs] - self.ladder[pairs + 1]) * (energies[pairs] - energies[pairs + 1])
        swapped = pairs[np.log1p(-self.rng.random(len(pairs))) <= gain]
        self.chain_at[swapped], self.chain_at[swapped + 1] = self.chain_at[swapped + 1], self.chain_at[swapped]
        self.rounds += 1
        if counted:
            self.tried[pairs] += 1
            self.made[swapped] += 1
            hot, cold = self.chain_at[0], self.chain_at[-1]
            self.round_trips += int(self.heading[hot] == -1)
            self.heading[hot] = 1
            if self.heading[cold] == 1:
                self.heading[cold] = -1

    def _state(self) -> State:
        return read_only(
            {
                "n_iter": self.chains.done,
                "betas": self.ladder,
                "states": self.chains.spins[self.chain_at],
                "energies": self.energies[self.recorded - 1],
                "overlaps": self.overlaps[self.recorded - 1],
                "swap_rates": self.made / np.maximum(self.tried, 1),
                "round_trips": self.round_trips,
            }
        )

    def result(self) -> TemperingResult:
        """What was sampled; warns where it should."""
        if self.interrupted:
            self.chains.interrupted = True
            warn_of(self.chains, "parallel_tempering", np.array([False]), stacklevel=4)
        rates = self.made / np.maximum(self.tried, 1)
        poor = int(np.count_nonzero(rates[self.tried >= ENOUGH] < LEAST))
        if poor and not self.interrupted:
            warnings.warn(
                f"parallel_tempering: {poor} of {len(rates)} swap rates are below {LEAST}; it needs more "
                "temperatures, or closer ones",
                ConvergenceWarning,
                stacklevel=3,
            )
        energies = self.energies[: self.recorded]
        return TemperingResult(
            self.ladder,
            self.chains.spins[self.chain_at],
            energies,
            self.overlaps[: self.recorded],
            rates,
            self.round_trips,
            _times(energies),
            self.whole and not self.interrupted,
        )


def _times(energies: Array) -> Array:
    with warnings.catch_warnings():  # short series are the caller's business
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.array([autocorrelation_time(e).tau if len(e) else np.nan for e in energies.T])


def respaced(ladder: Array, energies: Array) -> Array:
    r"""Temperatures between the same ends at equal distances in the metric :math:`\sqrt{\mathrm{Var} E}\, d\beta`.

    For normal energies the swap rate of two neighbours is ``erfc(d / 2)`` of that distance d, so equal distances are
    equal rates.
    """
    spread = energies.std(axis=0)
    spread = np.maximum(spread, 1e-3 * spread.max()) if spread.max() > 0 else np.ones_like(spread)
    steps = np.diff(ladder) * (spread[1:] + spread[:-1]) / 2
    # drawn a little towards what was, since the variances are themselves uncertain
    steps = steps / steps.sum() + 0.25 / len(steps)
    place = np.concatenate([[0.0], np.cumsum(steps)])
    found: Array = np.interp(np.linspace(0, place[-1], len(ladder)), place, ladder)
    found[0], found[-1] = ladder[0], ladder[-1]
    return found
