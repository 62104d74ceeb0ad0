from io import BytesIO
from typing import get_args

import numpy as np
import pytest

from numcore import autodiff as ad
from numcore.algorithms.tour import _stop, autodiff
from numcore.algorithms.tour._stop import Block, Pictures, Table

TINY = autodiff.Recipe(hidden=32, epochs=15)


@pytest.fixture(scope="module")
def digits():
    return autodiff.Digits.load()


def score(seconds, accuracies):
    return autodiff.Score("peer", seconds, seconds, accuracies, [0.1] * len(accuracies))


def test_the_tour_finds_the_stop():
    assert _stop.load("autodiff") is autodiff.STOP


@pytest.mark.parametrize("make", [autodiff.by_numcore, autodiff.by_sklearn])
def test_few_epochs_reach_95_percent_of_the_digits_held_out(digits, make):
    assert len(digits.y) + len(digits.y_test) == 1797
    fit = make(digits, TINY, 0)
    assert len(fit.curve) == TINY.epochs
    assert fit.curve[-1] < fit.curve[0] / 5
    assert np.mean(fit.predict(digits.X_test) == digits.y_test) > 0.95


def test_spectrum_from_products_is_that_of_the_dense_hessian():
    rng = np.random.default_rng(0)
    X, y, net = rng.standard_normal((40, 5)), rng.integers(3, size=40), ad.nn.MLP([5, 6, 3], "tanh")
    theta = net.init(rng=0, dtype=np.float64)
    dense = ad.hessian(lambda t: ad.losses.softmax_cross_entropy(net(t, X), y))(theta)
    values = np.linalg.eigvalsh(dense)[::-1]
    spectrum = autodiff.Spectrum.of(autodiff.hessian(net, theta, X, y), k=len(theta), n_largest=4)
    np.testing.assert_allclose(spectrum.largest, values[:4], rtol=1e-2)
    assert spectrum.least == pytest.approx(values[-1], abs=1e-6)


def test_stop_gives_blocks_with_three_drawings_and_a_line_for_either():
    from matplotlib.image import imread

    said = []
    blocks = autodiff.run(said.append, recipe=autodiff.Recipe(hidden=8, epochs=2), seeds=2, k=10, bent=60)
    assert all(isinstance(block, get_args(Block)) for block in blocks)
    pictures = [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    assert [imread(BytesIO(p.data), format="png").ndim for p in pictures] == [3] * 3
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [name for name, *_ in table.rows] == ["numcore.autodiff", "MLPClassifier"]
    assert all(len(row) == len(table.heads) for row in table.rows)
    assert said[-1] == "drawing"


def test_a_lost_race_is_called_lost():
    quick, slow = score(1.0, [0.98, 0.96]), score(2.0, [0.95, 0.95])
    won, lost = autodiff.verdict(slow, quick, 100), autodiff.verdict(quick, slow, 100)
    assert "numcore wins 2 to 1; in accuracy numcore is ahead by 2.0 of 100" in won
    assert "NUMCORE LOSES 1 to 2; in accuracy NUMCORE IS BEHIND by 2.0 of 100" in lost
    assert "in time even; in accuracy even" in autodiff.verdict(quick, quick, 100)
