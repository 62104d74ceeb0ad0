"""Random words that are functions of a seed and a place, so that any part of a table or a chain can be drawn anywhere.

They are those of SplitMix64: ``mix(seed + 0x9e3779b97f4a7c15 * place)`` modulo 2^64 (G. L. Steele, D. Lea and C. H.
Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["mix", "uniforms", "word_at"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def word_at(seed: Any, places: Any) -> Any:
    """The words of a seed, or of seeds, at an array of places, all uint64."""
    return mix(seed + GOLDEN * places)


def mix(z: Any) -> Any:
    """Scramble 64-bit words: the finaliser of SplitMix64, a bijection."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * FIRST
        z = (z ^ (z >> np.uint64(27))) * SECOND
        return z ^ (z >> np.uint64(31))


def uniforms(words: Any) -> Any:
    """A number in [0, 1) from each word: its upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
