"""The stop that takes noise off a photograph."""

from io import BytesIO
from typing import get_args

import numpy as np
import pytest

from numcore.algorithms.tour import _stop, sparse_coding
from numcore.algorithms.tour._stop import Block, Pictures, Table
from numcore.algorithms.tour.sparse_coding import Noisy, Recipe, by_numcore, by_sklearn, denoise, psnr

TINY = Recipe(n_atoms=24, sample=400, epochs=2)
PART = (slice(150, 190), slice(260, 310))


def score(seconds, quality):
    return sparse_coding.Score("peer", seconds, seconds, quality, 3.0)


def test_the_tour_finds_the_stop():
    assert _stop.load("sparse_coding") is sparse_coding.STOP


@pytest.mark.parametrize("coding", [by_numcore, by_sklearn])
def test_either_takes_noise_off(coding):
    photo = Noisy.load(rows=PART[0], columns=PART[1])
    restored = denoise(photo, TINY, coding)
    before = psnr(photo.noisy, photo.clean)
    # 25 levels of 255 are 20.2 dB, a little more where values beyond white and black are clipped
    assert before == pytest.approx(20.5, abs=0.7)
    assert psnr(restored.image, photo.clean) > before + 2
    assert restored.image.shape == photo.clean.shape and restored.image.dtype == np.float32


def test_patches_that_are_not_changed_average_to_the_image():
    image = np.random.default_rng(0).random((21, 30, 3)).astype(np.float32)
    recipe = Recipe(size=8, step=3)
    patches = sparse_coding.every_patch(image, recipe)
    np.testing.assert_allclose(sparse_coding.average(patches, image, recipe), image, rtol=1e-6)


def test_the_stop_gives_four_pictures_and_a_line_for_either():
    from matplotlib.image import imread

    said = []
    blocks = sparse_coding.run(said.append, recipe=TINY, part=PART, whole=PART)
    assert all(isinstance(block, get_args(Block)) for block in blocks)
    pictures = [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    assert [p.media_type for p in pictures] == ["image/jpeg"] * 3 + ["image/png"]
    assert imread(BytesIO(pictures[0].data), format="jpg").shape == (40, 50, 3)
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [name for name, *_ in table.rows] == ["numcore", "scikit-learn"]
    assert all(len(row) == len(table.heads) for row in table.rows)
    assert said[-1] == "drawing"


def test_a_lost_race_is_called_lost():
    quick, slow = score(1.0, 27.0), score(2.0, 26.5)
    assert sparse_coding.verdict(slow, quick).endswith("numcore wins 2 to 1; in quality numcore is ahead by 0.50 dB.")
    lost = sparse_coding.verdict(quick, slow)
    assert "NUMCORE LOSES 1 to 2" in lost and "NUMCORE IS BEHIND by 0.50 dB" in lost
    assert "in time even; in quality even" in sparse_coding.verdict(quick, quick)
