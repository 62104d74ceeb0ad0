"""Timing contestants in turn, so that a busy moment of the machine does not fall on one of them alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

__all__ = ["Timed", "race"]

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """Median seconds of a call, over how many, and what the last of them returned."""

    seconds: float
    rounds: int
    result: T


def race(calls: Mapping[str, Callable[[], T]], rounds: int = 3, budget: float = 8.0) -> dict[str, Timed[T]]:
    """Time each call in each of `rounds` rounds, or fewer where another would pass `budget` seconds.

    Call each once beforehand if its first call compiles or imports.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, T] = {}
    start = time.perf_counter()
    for done in range(1, rounds + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            results[name] = call()
            times[name].append(time.perf_counter() - begun)
        if (time.perf_counter() - start) * (done + 1) / done > budget:
            break
    return {name: Timed(median(spent), len(spent), results[name]) for name, spent in times.items()}
