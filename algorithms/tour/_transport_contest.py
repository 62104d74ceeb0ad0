"""numcore, POT and a plain script on the same colour transfer, to the same measured error: scores and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from numcore.algorithms.tour._race import race
from numcore.algorithms.tour._stop import Progress
from numcore.algorithms.tour._transport_peers import Transfer, by_numcore, by_pot, by_script
from numcore.arrays import Array

__all__ = ["HEADS", "Problem", "Score", "colour_distance", "contest", "row", "verdict"]

POWERS = tuple(10.0**-k for k in range(3, 9))
HEADS = ("", "fit", "map", "fit + map", "times numcore's", "L1 error", "colours off by")


@dataclass(frozen=True)
class Problem:
    """Two sets of colours, samples X and Y of them, the regularisation in absolute units, the L1 error to reach."""

    first: Array
    second: Array
    X: Array
    Y: Array
    reg: float
    error: float


@dataclass(frozen=True)
class Score:
    """What a contestant needed (seconds) and reached (L1 error, colour distance); or why it did not run."""

    name: str
    fit: float = np.nan
    map: float = np.nan
    error: float = np.nan
    distance: float = np.nan
    absent: str = ""

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.fit + self.map


@dataclass(frozen=True)
class Entrant:
    """A contestant who is ready: its fit at the tolerance found, what that gave, and the error that it reached."""

    fit: Callable[[], Transfer]
    transfer: Transfer
    error: float


def contest(problem: Problem, progress: Progress) -> list[Score]:
    """Time the fit, then the map of all colours both ways, of every contestant that can run; ours comes first."""
    pot_log = partial(by_pot, method="sinkhorn_log", out_of_sample_map="continuous", batch_size=128)
    pot_kernel = partial(by_pot, method="sinkhorn", out_of_sample_map="ferradans", batch_size=8192)
    makers = {
        "numcore": partial(enter, problem, by_numcore, (problem.error,)),
        "POT, log form": partial(enter, problem, pot_log, POWERS),
        "POT, kernel form": partial(enter, problem, pot_kernel, POWERS),
        "NumPy and SciPy script": partial(enter, problem, by_script, (problem.error,)),
    }
    entrants: dict[str, Entrant] = {}
    absent: dict[str, str] = {}
    for name, make in makers.items():
        progress(f"finding the tolerance of {name}")
        try:
            entrants[name] = make()
        except ImportError as missing:
            absent[name] = f"not installed ({missing.name or missing})"
        except Exception as trouble:  # a peer's trouble is a line in the table; ours is the stop's
            if name == "numcore":
                raise
            absent[name] = f"failed: {type(trouble).__name__}: {trouble}"
    progress("timing the fits in turn")
    fits = race({name: entrant.fit for name, entrant in entrants.items()})
    progress("timing the maps in turn")
    maps = race({name: partial(both_ways, problem, entrant.transfer) for name, entrant in entrants.items()})
    scores = {name: Score(name, absent=why) for name, why in absent.items()}
    for name, entrant in entrants.items():
        forward, backward = maps[name].result
        distance = (colour_distance(forward, problem.second) + colour_distance(backward, problem.first)) / 2
        scores[name] = Score(name, fits[name].seconds, maps[name].seconds, entrant.error, distance)
    return [scores[name] for name in makers]


def enter(problem: Problem, solve: Callable[..., Transfer], tolerances: Sequence[float]) -> Entrant:
    """Try the tolerances, coarse to fine, until the error is small enough; this also warms up.

    A contestant that never gets there runs at the last, and the table shows the error that it has.
    """
    for tol in tolerances:
        fit = partial(solve, problem.X, problem.Y, problem.reg, tol)
        transfer = fit()
        error = l1_error(transfer.plan())
        if error <= problem.error:
            break
    return Entrant(fit, transfer, error)


def l1_error(plan: Array) -> float:
    """L1 error of both marginals, which are uniform."""
    P = np.asarray(plan, dtype=np.float64)
    return float(sum(np.abs(P.sum(axis=axis) - 1 / P.shape[1 - axis]).sum() for axis in (0, 1)))


def both_ways(problem: Problem, transfer: Transfer) -> tuple[Array, Array]:
    """All colours of each side in those of the other."""
    return transfer.forward(problem.first), transfer.backward(problem.second)


def colour_distance(X: Array, Y: Array, directions: int = 50) -> float:
    """How far apart two sets of colours are, in levels of 255: the Wasserstein-1 distance of their projections.

    The mean over random directions, from 1000 quantiles each; values outside [0, 1] are clipped, as in a picture.
    """
    rays = np.random.default_rng(0).normal(size=(3, directions))
    rays /= np.linalg.norm(rays, axis=0)
    levels = (np.arange(1000) + 0.5) / 1000
    x, y = (
        np.quantile(np.clip(colours, 0, 1)[:: 1 + len(colours) // 20000] @ rays, levels, axis=0) for colours in (X, Y)
    )
    return 255 * float(np.abs(x - y).mean())


def row(score: Score, ours: Score) -> list[str]:
    """A line of the table."""
    if score.absent:
        return [score.name, score.absent, *[""] * (len(HEADS) - 2)]
    ratio = "" if score is ours else f"{score.total / ours.total:.2g}×"
    return [
        score.name,
        _seconds(score.fit),
        _seconds(score.map),
        _seconds(score.total),
        ratio,
        f"{score.error:.1e}",
        f"{score.distance:.1f} levels",
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def verdict(score: Score, ours: Score) -> str:
    """Who won against one peer, stage by stage, in words."""
    if score.absent:
        return f"There is no comparison with {score.name}: {score.absent}."
    total = _judge(score.total / ours.total)
    stages = f"fit {_judge(score.fit / ours.fit)}, map {_judge(score.map / ours.map)}"
    return f"Against {score.name}: in all {total}; {stages}."


def _judge(ratio: float) -> str:
    """`ratio` is the peer's time over ours."""
    if 0.95 < ratio < 1.05:
        return "even"
    return f"numcore wins {ratio:.2g} to 1" if ratio >= 1 else f"NUMCORE LOSES 1 to {1 / ratio:.2g}"
