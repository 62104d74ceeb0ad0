from io import BytesIO
from typing import get_args

import numpy as np
import pytest

from numcore.algorithms.tour import _stop, curvature
from numcore.algorithms.tour._stop import Block, Pictures, Table
from numcore.algorithms.tour.autodiff import Digits


@pytest.fixture(scope="module")
def digits():
    return Digits.load()


def test_the_tour_finds_the_stop():
    assert _stop.load("curvature") is curvature.STOP


@pytest.mark.parametrize("name", ["M-FAC", "Adam", "MLPClassifier"])
def test_few_epochs_learn_the_digits(digits, name):
    found = curvature.train(name, digits, (32,), 20, 0)
    assert len(found.net.loss_curve_) == 20 and found.accuracy > 0.9


def test_pruning_leaves_the_net_that_it_is_given_as_it_was(digits):
    net = curvature.train("Adam", digits, (16,), 10, 0).net
    before = net.theta_.copy()
    once = curvature.prune(net, "smallest weights", 0.75, digits, epochs=2)
    assert np.array_equal(net.theta_, before) and net.mask_.all()
    assert once.kept.shape == (64,) and once.tuned > once.accuracy
    assert 0.2 < once.kept.mean() < 0.3  # of all weights a quarter is left


def test_stop_gives_blocks_with_three_drawings_and_a_line_for_each_method():
    from matplotlib.image import imread

    said = []
    blocks = curvature.run(said.append, hidden=(8,), epochs=2, seeds=2, levels=(0.5, 0.9))
    assert all(isinstance(block, get_args(Block)) for block in blocks)
    pictures = [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    assert [imread(BytesIO(p.data), format="png").ndim for p in pictures] == [3] * 3
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [name for name, *_ in table.rows] == ["none removed", *curvature.METHODS]
    assert all(len(row) == len(table.heads) for row in table.rows)
    assert said[-1] == "drawing"


def test_a_lost_comparison_is_called_lost():
    def pruned(accuracy):
        return [curvature.Pruned(accuracy, accuracy, 1.0, np.ones(64))]

    dense = [curvature.Trained(None, 1.0, 0.97)]
    names = list(curvature.METHODS)
    won = curvature._verdict(dense, dict(zip(names, map(pruned, (0.3, 0.4, 0.9)), strict=True)))
    lost = curvature._verdict(dense, dict(zip(names, map(pruned, (0.9, 0.4, 0.3)), strict=True)))
    assert "M-FAC in 16 passes leaves 90.0% of the images right, taking the smallest weights 30.0%" in won
    assert "M-FAC IS BEHIND the smallest weights: 30.0% against 90.0%" in lost
