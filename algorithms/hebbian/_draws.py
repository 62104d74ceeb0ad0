"""Random numbers that are functions of a seed and a place, so that chains can be cut and shared out anywhere.

Attempt k of a chain, counted from its first sweep, has the places ``2 k + 1`` (whether it is accepted) and ``2 k + 2``
(which site is next) of the words of :func:`numcore.arrays.word_at`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore import arrays
from numcore.algorithms.hebbian._checks import Array

__all__ = ["chain_seeds", "uniforms"]


def chain_seeds(rng: np.random.Generator, count: int) -> Array:
    """A seed for each chain, (count,) uint64: spawned, so that chain k is the same however many there are."""
    root = np.random.SeedSequence(int(rng.integers(2**63)))
    return np.array([child.generate_state(1, np.uint64)[0] for child in root.spawn(count)], np.uint64)


def uniforms(seed: Any, places: Array) -> Array:
    """A number in [0, 1) at each place, float64; seeds and places broadcast."""
    found: Array = arrays.uniforms(arrays.word_at(np.uint64(seed), places.astype(np.uint64)))
    return found
