"""The counter-based generator: its words, what is made of them, and the same bits in both backends."""

import numpy as np
import pytest

from numcore.algorithms.sketching._generator import (
    CHUNK_ROWS,
    derive,
    gaussian_rows,
    mix,
    permuted,
    positions,
    signs,
    uniforms,
    words,
)
from numcore.algorithms.sketching._hadamard import parity

MASK = 2**64 - 1


def splitmix(z):
    """The finaliser with Python's integers, from the formula."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_words_are_those_of_the_published_generator():
    # the first outputs of SplitMix64 from the state 1234567, as the reference code in C prints them
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert words(1234567, 0, 4)[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("seed", "first", "per_row"), [(0, 0, 1), (2**63 - 1, 5, 8), (17, 2**61, 8), (3, 2**63 + 9, 3)]
)
def test_words_are_functions_of_seed_row_and_place(seed, first, per_row):
    found = words(seed, first, 4, per_row)
    for i in range(4):
        for k in range(per_row):
            place = (first + i) * per_row + k + 1
            assert int(found[i, k]) == splitmix((seed + 0x9E3779B97F4A7C15 * place) & MASK)


def test_any_rows_can_be_drawn_alone():
    whole = words(99, 0, 1000, 3)
    assert np.array_equal(words(99, 700, 50, 3), whole[700:750])


def test_mix_is_a_bijection_and_flips_half_of_the_bits():
    z = np.arange(2**16, dtype=np.uint64) * np.uint64(2**47 + 1)
    assert np.unique(mix(z)).size == z.size
    changed = mix(z) ^ mix(z ^ np.uint64(1))
    bits = np.unpackbits(changed.view(np.uint8)).mean()
    # 2**22 bits: the mean of fair ones has the standard deviation 2.4e-4
    assert abs(bits - 0.5) < 1e-3


def test_tables_of_different_tags_are_different():
    seeds = [derive(5, tag) for tag in range(100)]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**64 for seed in seeds)


def test_positions_and_signs_are_fair_and_independent():
    w = words(11, 0, 300_000)[:, 0]
    at, sign = positions(w, 3), signs(w)
    assert set(at.tolist()) == {0, 1, 2} and set(sign.tolist()) == {-1, 1}
    counts = np.array([np.count_nonzero((at == k) & (sign == s)) for k in range(3) for s in (-1, 1)])
    # six cells of 50000, each with a standard deviation of 204
    assert abs(counts - 50_000).max() < 4 * 204


def test_positions_reach_both_ends_of_a_wide_range():
    ends = np.array([0, MASK], dtype=np.uint64)
    assert positions(ends, 2**32 - 1).tolist() == [0, 2**32 - 2]
    assert uniforms(ends).tolist() == [0.0, 1 - 2.0**-53]


@pytest.mark.parametrize(("size", "count"), [(1, 1), (8, 8), (4096, 17), (2**20, 500), (2**62, 100)])
def test_a_permuted_choice_has_no_repetition_and_stays_in_range(size, count):
    chosen = permuted(7, size, count)
    assert len(chosen) == count == len(set(chosen.tolist()))
    assert chosen.min() >= 0 and chosen.max() < size


@pytest.mark.parametrize("size", [8, 2**13])
def test_every_place_is_chosen_alike_often(size):
    counts = np.zeros(8)
    for seed in range(4000):
        counts += np.bincount(permuted(derive(seed, 0), size, 3) * 8 // size, minlength=8)
    # 12000 choices among eight, nearly independent: a standard deviation of 36
    assert abs(counts - 1500).max() < 4 * 36


def test_parity_counts_bits():
    x = np.array([0, 1, 2, 3, 7, 2**62, 2**62 + 1, 2**62 - 1])
    assert parity(x).tolist() == [int(k).bit_count() % 2 for k in x]


def test_gaussian_rows_can_be_drawn_from_anywhere():
    def rows(start, stop):
        return np.concatenate([G for _, G in gaussian_rows(3, start, stop, 5)])

    whole = rows(0, 3 * CHUNK_ROWS)
    assert whole.shape == (3 * CHUNK_ROWS, 5)
    for start, stop in ((1, 2), (CHUNK_ROWS - 1, CHUNK_ROWS + 1), (100, 2 * CHUNK_ROWS + 100)):
        assert np.array_equal(rows(start, stop), whole[start:stop])


def test_no_number_of_one_gaussian_block_comes_again_in_the_next():
    # streams whose counters begin at 0 and 1 would share all but four numbers
    blocks = [np.concatenate([G for _, G in gaussian_rows(3, k * CHUNK_ROWS, (k + 1) * CHUNK_ROWS, 2)]) for k in (0, 1)]
    assert not np.isin(blocks[0], blocks[1]).any()


def test_gaussian_rows_are_drawn_piece_by_piece_alike(monkeypatch):
    whole = np.concatenate([G for _, G in gaussian_rows(8, 10, 5000, 7)])
    monkeypatch.setattr("numcore.algorithms.sketching._generator.PIECE", 100)
    assert np.array_equal(np.concatenate([G for _, G in gaussian_rows(8, 10, 5000, 7)]), whole)
