"""Patches: what they are, where they come from, and those without contrast."""

import numpy as np
import pytest
from sklearn.feature_extraction.image import extract_patches_2d

from numcore.algorithms.sparse_coding import extract_patches


@pytest.fixture
def image():
    return np.random.default_rng(2).random((9, 11))


def test_all_patches_come_row_by_row_as_scikit_learn_has_them(image):
    ours = extract_patches(image, size=4, center=False, normalize=False)
    np.testing.assert_array_equal(ours, extract_patches_2d(image, (4, 4)).reshape(-1, 16))


def test_a_seed_gives_the_same_patches_each_at_another_place(image):
    every = extract_patches(image, size=4)
    first, second, other = (extract_patches(image, size=4, n=30, rng=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    where = [int(np.flatnonzero((every == patch).all(axis=1))[0]) for patch in first]
    assert len(set(where)) == 30
    assert sorted(map(tuple, extract_patches(image, size=4, n=len(every), rng=0))) == sorted(map(tuple, every))


def test_patches_have_no_mean_and_unit_norm(image):
    patches = extract_patches(image, size=3)
    np.testing.assert_allclose(patches.mean(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(patches, axis=1), 1, rtol=1e-12)


def test_faint_patches_are_divided_by_a_thousandth_of_their_side_and_constant_ones_are_zero():
    image = np.full((5, 10), 0.1)  # whose mean over nine pixels is not 0.1 in floats
    image[:, 5:] += 1e-5 * np.arange(5)
    patches = extract_patches(image, size=3)
    faint = extract_patches(image, size=3, normalize=False)
    assert not patches[0].any() and np.isfinite(patches).all()
    np.testing.assert_allclose(patches[5], faint[5] / 3e-3, rtol=1e-12)
    flat = extract_patches(image, size=3, center=False)
    np.testing.assert_allclose(flat[0], 1 / 3, rtol=1e-12)


def test_colours_become_grey_and_bytes_become_fractions():
    image = np.random.default_rng(0).integers(0, 256, size=(6, 7, 3), dtype=np.uint8)
    grey = image / 255 @ [0.299, 0.587, 0.114]
    options = {"size": 6, "center": False, "normalize": False}
    np.testing.assert_allclose(extract_patches(image, **options)[0], grey[:, :6].ravel(), rtol=1e-14)
    # integers of other types are taken as they are
    np.testing.assert_allclose(extract_patches(image.astype(int), **options)[0], 255 * grey[:, :6].ravel(), rtol=1e-14)


def test_float32_stays_and_the_image_is_not_written_to(image):
    single = image.astype(np.float32)
    single.flags.writeable = False
    assert extract_patches(single, size=3).dtype == np.float32
    before = image.copy()
    extract_patches(image, size=9)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("scale", [1e150, 1e300])
def test_extreme_scales_survive(image, scale):
    np.testing.assert_allclose(extract_patches(image * scale, size=3), extract_patches(image, size=3), atol=1e-12)


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (np.ones(5), {}, ValueError, r"image must have shape \(height, width\) or \(height, width, 3\); got \(5,\)"),
        (np.ones((5, 5, 4)), {}, ValueError, "image must have shape"),
        (np.ones((5, 20)), {}, ValueError, "image must be at least 12 x 12 .* got 5 x 20"),
        (np.ones((5, 5)), {"size": 0}, ValueError, "size must be at least 1"),
        (np.ones((5, 5)), {"size": 5, "n": 2}, ValueError, "n must be at most 1"),
        (np.full((5, 5), np.nan), {"size": 2}, ValueError, "image must be finite; 25 of its 25"),
        (np.ones((5, 5), complex), {"size": 2}, TypeError, "image must be real"),
        (np.ones((5, 5)), {"size": 2, "center": "mean"}, ValueError, "center"),
    ],
)
def test_bad_input_is_named(image, options, error, message):
    with pytest.raises(error, match=message):
        extract_patches(image, **options)
