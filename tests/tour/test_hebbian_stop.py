"""The stop that recalls, completes and tells apart digits."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from numcore.algorithms.tour import _stop, hebbian
from numcore.algorithms.tour._stop import Block, Pictures, Table
from numcore.algorithms.tour.autodiff import Digits
from numcore.algorithms.tour.hebbian import contest, damaged, models, recalled, right, signs, tasks


@pytest.fixture(scope="module")
def digits():
    """A part of them, so that the tests are quick."""
    whole = Digits.load()
    return replace(whole, X=whole.X[:400], y=whole.y[:400], X_test=whole.X_test[:60], y_test=whole.y_test[:60])


def score(seconds, quality):
    return hebbian.Score("peer", seconds, np.zeros(0), quality, "", "")


def test_the_tour_finds_the_stop():
    assert _stop.load("hebbian") is hebbian.STOP


def test_a_high_order_repairs_what_a_low_one_loses(digits):
    memory = signs(digits.X)
    queries = damaged(memory[:60], 0.1, 0)
    # 3840 pixels: the share turned over is known to half a per cent
    assert right(queries, memory[:60]) == pytest.approx(0.9, abs=0.025)
    found = {order: right(recalled(memory, queries, order), memory[:60]) for order in (2, 30)}
    assert found[2] < 0.85 < right(queries, memory[:60]) < 0.95 < found[30]


def test_both_contestants_answer_well(digits):
    labels, halves = tasks(digits, 2)
    for found in contest(labels):
        assert found.answer.shape == (120,) and found.quality > 70  # per cent; a guess has 10
    # the mean of the stored halves is the best guess that looks at nothing
    blind = np.sqrt(np.mean((digits.X[:, 32:].mean(axis=0) - digits.X_test[:, 32:]) ** 2))
    for found in contest(halves):
        assert found.answer.shape == (60, 32) and -found.quality < 0.8 * blind
    for task in (labels, halves):
        for model, parameter, values in models(task).values():
            assert parameter in model.get_params() and len(values) == 4


def test_the_stop_gives_three_pictures_and_two_tables(digits, monkeypatch):
    monkeypatch.setattr(Digits, "load", classmethod(lambda cls: digits))
    said = []
    blocks = hebbian.run(said.append, n_recalled=20, levels=(0.0, 0.1, 0.2), copies=2)
    assert all(isinstance(block, get_args(Block)) for block in blocks)
    pictures = [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    assert [p.media_type for p in pictures] == ["image/png"] * 3
    tables = [block for block in blocks if isinstance(block, Table)]
    assert [[row[0] for row in table.rows] for table in tables] == [["numcore", "scikit-learn"]] * 2
    assert all(len(row) == len(table.heads) for table in tables for row in table.rows)
    assert said[-1] == "drawing"


def test_a_lost_race_is_called_lost(digits):
    labels, halves = tasks(digits, 1)
    quick, slow = score(1.0, 95.0), score(2.0, 90.0)
    assert hebbian.verdict(labels, slow, quick).endswith(
        "in time numcore wins 2 to 1; in quality numcore is ahead by 5 percentage points."
    )
    lost = hebbian.verdict(labels, quick, slow)
    assert "NUMCORE LOSES 1 to 2" in lost and "NUMCORE IS BEHIND by -5" not in lost and "NUMCORE IS BEHIND by 5" in lost
    assert "in time even; in quality even" in hebbian.verdict(halves, score(1.0, -0.2), score(1.0, -0.2005))
    assert "ahead by 0.02 in the error" in hebbian.verdict(halves, score(1.0, -0.2), score(1.0, -0.18))
