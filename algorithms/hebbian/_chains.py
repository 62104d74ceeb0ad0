"""Running chains: a few sweeps at a time, so that long runs show progress and can be interrupted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._checks import Array, as_spins
from numcore.algorithms.hebbian._draws import chain_seeds
from numcore.algorithms.hebbian._engines import Engine
from numcore.algorithms.hebbian._loops import Records, Schedule
from numcore.results import Callback, ConvergenceWarning, Progress, State

__all__ = ["Chains", "failure", "initial_states", "read_only", "replicas", "warn_of"]

PATIENCE = 0.2
"""Seconds between two looks at the keyboard, about; what is drawn does not depend on when they are taken."""

START = 1 << 18
"""Terms that are summed before the first of them."""


def initial_states(init: Any, patterns: Array | None, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """States (R, N) to begin from: random, the patterns in turn, or given."""
    R, N = shape
    if init is None:
        return 2 * rng.integers(0, 2, size=shape, dtype=np.int8) - np.int8(1)
    if isinstance(init, str):
        if init != "patterns" or patterns is None:
            wanted = "None" if patterns is None else "None, 'patterns'"
            raise ValueError(f"init must be {wanted} or an array of states; got {init!r}")
        return np.where(patterns[np.arange(R) % len(patterns)] > 0, np.int8(1), np.int8(-1))
    states, _ = as_spins(init, "init", N)
    if len(states) not in (1, R):
        raise ValueError(f"init must have 1 or {R} rows, one for each replica; got {len(states)}")
    return np.repeat(states, R // len(states), axis=0)


def replicas(n_replicas: int, *, beta: Array | None = None, init: Any = None) -> int:
    """The number of chains, which `beta` and `init` may tell too."""
    told = {"n_replicas": n_replicas}
    if beta is not None and beta.ndim:
        told["beta"] = len(beta)
    if init is not None and not isinstance(init, str) and np.ndim(init) == 2:
        told["init"] = len(init)
    numbers = {count for count in told.values() if count != 1}
    if len(numbers) > 1:
        found = ", ".join(f"{name} {count}" for name, count in told.items())
        raise ValueError(f"n_replicas must agree with the rows of init and the length of beta; got {found}")
    return numbers.pop() if numbers else 1


class Chains:
    """Independent chains and what is recorded of them.

    Parameters
    ----------
    engine : Engine
    spins : (R, N) int8 array
        The states to begin from; changed.
    sites : (F,) int64 array
        The sites that may flip.
    visit, rule : str
    probes : (Q, N) array or None
    rng : Generator
    best : bool
        Whether the best state of each chain is wanted.
    """

    def __init__(
        self,
        engine: Engine,
        spins: Array,
        *,
        sites: Array,
        visit: str = "ordered",
        rule: str = "glauber",
        probes: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        best: bool = False,
    ) -> None:
        self.engine, self.spins, self.sites, self.visit, self.rule = engine, spins, sites, visit, rule
        R, N = spins.shape
        self.kept = engine.kept(spins)
        self.probes = np.zeros((0, N)) if probes is None else np.ascontiguousarray(probes, dtype=np.float64)
        self.seeds = np.zeros(R, np.uint64) if rng is None else chain_seeds(rng, R)
        self.flips, self.still = np.zeros(R, np.int64), np.full(R, -1, np.int64)
        self.best_energies = np.full(R, np.inf)
        self.best_states = spins.copy() if best else np.zeros((R, 0), np.int8)
        self.energies, self.overlaps = np.zeros((0, R)), np.zeros((0, R, len(self.probes)))
        self.done, self.recorded = 0, 0
        self.stopped = self.interrupted = False

    @property
    def cycle(self) -> Array:
        """Which chains were found to alternate between two states."""
        found: Array = getattr(self.engine, "cycle", np.zeros(len(self.spins), bool))
        return found

    @property
    def at_rest(self) -> Array:
        """Which chains no longer change, at beta inf."""
        return (self.still >= 0) & ~self.cycle

    @property
    def acceptance_rate(self) -> Array:
        """Accepted attempts over attempts; 0 where there were none."""
        return self.flips / max(self.done * len(self.sites), 1)

    def reserve(self, count: int) -> None:
        """Make room for `count` more records."""
        R = len(self.spins)
        self.energies = np.concatenate([self.energies[: self.recorded], np.zeros((count, R))])
        self.overlaps = np.concatenate([self.overlaps[: self.recorded], np.zeros((count, R, len(self.probes)))])

    def advance(self, betas: Array, recorded: Array) -> None:
        """Make ``len(betas)`` sweeps at inverse temperatures (S, R), with a record after those that are `recorded`.

        Either all of it happens or, where it is interrupted, nothing.
        """
        rows = np.where(recorded, self.recorded + np.cumsum(recorded) - 1, -1)
        unit = self.engine.unit
        scaled = np.where(np.isinf(betas), np.inf, np.minimum(betas * unit, np.finfo(np.float64).max))
        schedule = Schedule(scaled, self.seeds, self.done, self.sites, self.visit, self.rule == "metropolis")
        spins, kept = self.spins.copy(), self.kept.copy()
        records = Records(
            rows,
            self.probes,
            self.energies,
            self.overlaps,
            self.flips.copy(),
            self.still.copy(),
            self.best_energies / unit,
            self.best_states.copy(),
        )
        self.engine.sweeps(spins, kept, schedule, records)
        self.energies[rows[rows >= 0]] *= unit
        self.spins, self.kept = spins, kept
        self.flips, self.still = records.flips, records.still
        self.best_energies, self.best_states = records.best_energies * unit, records.best_states
        self.done += len(betas)
        self.recorded += int(np.count_nonzero(recorded))

    def run(
        self,
        betas: Array,
        recorded: Array,
        *,
        name: str,
        callback: Callback | None = None,
        verbose: int = 0,
        until_rest: bool = False,
        state: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """Sweeps at inverse temperatures (S, R) or (S, 1), with callbacks after records and a bar.

        Ctrl-C ends the run; so does a callback that returns True, and, if `until_rest`, rest at beta inf.
        """
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable or None; got {callback!r}")
        self.reserve(int(np.count_nonzero(recorded)))
        R = len(self.spins)
        most = max(1, START // max(1, R * len(self.sites) * self.engine.work))
        bar = Progress(len(recorded), name) if verbose else None
        at = 0
        try:
            while at < len(recorded) and not self.stopped:
                if until_rest and np.all(self.still >= 0):
                    break
                count = min(most, len(recorded) - at)
                if callback is not None and recorded[at : at + count].any():
                    count = min(count, int(np.argmax(recorded[at:])) + 1)
                part, began = slice(at, at + count), perf_counter()
                self.advance(np.broadcast_to(betas[part], (count, R)), recorded[part])
                at, took = at + count, perf_counter() - began
                most = max(1, most // 2) if took > PATIENCE else 2 * most if took < PATIENCE / 4 else most
                self._show(bar, count)
                if callback is not None and recorded[at - 1]:
                    self.stopped = self._call_back(callback, state)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            if bar:
                bar.close()
        self.energies, self.overlaps = self.energies[: self.recorded], self.overlaps[: self.recorded]

    def _show(self, bar: Progress | None, count: int) -> None:
        if bar is None:
            return
        figures = {"acceptance": float(self.acceptance_rate.mean())}
        if self.recorded:
            figures["energy"] = float(self.energies[self.recorded - 1].mean())
        for _ in range(count):
            bar.step(figures)

    def _call_back(self, callback: Callback, state: Callable[[], dict[str, Any]] | None) -> bool:
        last = self.recorded - 1
        figures = {
            "n_iter": self.done,
            "n_sweeps": self.done,
            "states": self.spins,
            "energies": self.energies[last],
            "overlaps": self.overlaps[last],
            "acceptance_rate": self.acceptance_rate,
            **(state() if state else {}),
        }
        return callback(read_only(figures)) is True


def read_only(figures: dict[str, Any]) -> State:
    """The record that a callback gets."""
    shown = {key: value.view() if isinstance(value, np.ndarray) else value for key, value in figures.items()}
    for value in shown.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return State(**shown)


def warn_of(chains: Chains, name: str, converged: Array, *, stacklevel: int = 3) -> None:
    """Warn once if the chains were interrupted, or did not come to rest at beta inf."""
    if chains.interrupted or not (chains.stopped or np.all(converged)):
        message = failure(name, converged, chains.cycle, chains.done, chains.interrupted)
        warnings.warn(message, ConvergenceWarning, stacklevel=stacklevel)


def failure(name: str, converged: Array, cycle: Array, sweeps: int, interrupted: bool) -> str:
    """What a warning says."""
    if interrupted:
        return f"{name} was interrupted after {sweeps} sweeps; what was done so far is returned"
    moving, cycles = int(np.count_nonzero(~converged)), int(np.count_nonzero(cycle))
    return f"{name} did not converge: {moving} of {len(converged)} states were not at rest after {sweeps} sweeps" + (
        f", {cycles} of them in a cycle of two states" if cycles else ""
    )
