"""Random numbers that are functions of a seed and a place, so that chains can be cut and shared out anywhere.

The words are those of SplitMix64: ``mix(seed + 0x9e3779b97f4a7c15 * place)`` modulo 2^64. Attempt k of a chain, counted
from its first sweep, has the places ``2 k + 1`` (whether it is accepted) and ``2 k + 2`` (which site is next).

References
----------
G. L. Steele, D. Lea and C. H. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.algorithms.hebbian._checks import Array

__all__ = ["chain_seeds", "uniforms"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def chain_seeds(rng: np.random.Generator, count: int) -> Array:
    """A seed for each chain, (count,) uint64: spawned, so that chain k is the same however many there are."""
    root = np.random.SeedSequence(int(rng.integers(2**63)))
    return np.array([child.generate_state(1, np.uint64)[0] for child in root.spawn(count)], np.uint64)


def uniforms(seed: Any, places: Array) -> Array:
    """A number in [0, 1) at each place, float64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + GOLDEN * places.astype(np.uint64)
        z = (z ^ (z >> np.uint64(30))) * FIRST
        z = (z ^ (z >> np.uint64(27))) * SECOND
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
