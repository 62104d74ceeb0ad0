"""Random numbers that are functions of a seed and a global row number, so that any rows can be drawn anywhere.

The words are those of :func:`numcore.arrays.word_at`. The k-th of the `per_row` words of row i has the place
``i * per_row + k + 1``. Tables that serve different ends have different seeds, derived from the operator's by a tag.

References
----------
J. K. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011 (Philox, which draws the Gaussian rows).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numcore.arrays import mix, uniforms, word_at

__all__ = ["derive", "gaussian_rows", "mix", "permuted", "positions", "signs", "uniforms", "words"]

CHUNK_ROWS = 4096
"""Rows that are drawn from one Philox stream."""

PIECE = 1 << 20
"""Normal numbers that are held at a time, about."""

Words = np.ndarray[Any, np.dtype[np.uint64]]


def derive(seed: int, tag: int) -> int:
    """The seed of the table with this tag."""
    with np.errstate(over="ignore"):
        return int(mix(np.uint64(seed) + np.uint64(tag)))


def words(seed: int, first: int, count: int, per_row: int = 1) -> Words:
    """The words of rows `first` to ``first + count - 1``, as a (count, per_row) array."""
    place = np.arange(count * per_row, dtype=np.uint64) + np.uint64((first * per_row + 1) % 2**64)
    found: Words = word_at(np.uint64(seed), place).reshape(count, per_row)
    return found


def positions(w: Words, width: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A position in [0, width) from each word; `width` is below 2^32."""
    return (((w >> np.uint64(32)) * np.uint64(width)) >> np.uint64(32)).astype(np.int64)


def signs(w: Words) -> np.ndarray[Any, np.dtype[np.int8]]:
    """1 or -1 from each word: its lowest bit, which no position looks at."""
    return (1 - 2 * (w & np.uint64(1)).astype(np.int8)).astype(np.int8)


def permuted(seed: int, size: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`count` different numbers of [0, size), `size` a power of two up to 2^63, every ordered choice alike likely."""
    if size <= max(4 * count, 1 << 12):
        return np.argsort(words(seed, 0, size)[:, 0], kind="stable")[:count].astype(np.int64)
    shift = np.uint64(64 - (size.bit_length() - 1))
    # at least three of four draws are new, so twice the count and a few are enough but for a chance beyond measure
    drawn = (words(seed, 0, 2 * count + 64)[:, 0] >> shift).astype(np.int64)
    first_seen = np.sort(np.unique(drawn, return_index=True)[1])
    return drawn[first_seen[:count]]


def gaussian_rows(seed: int, start: int, stop: int, width: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Standard normal rows `start` to ``stop - 1`` of `width` numbers, as (first row, rows) a few at a time.

    Each block of `CHUNK_ROWS` rows has a Philox stream of its own: the block's number is the second word of the
    counter. (The first word counts within a stream; streams that begin there at 0 and at 1 are the same but for four
    numbers.)
    """
    step = max(1, PIECE // max(width, 1))
    for block in range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS)):
        generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, block, 0, 0]))
        begin, end = block * CHUNK_ROWS, min((block + 1) * CHUNK_ROWS, stop)
        while begin < end:
            rows = generator.standard_normal((min(step, end - begin), width))
            skip = max(0, start - begin)
            if skip < len(rows):
                yield begin + skip, rows[skip:]
            begin += len(rows)
