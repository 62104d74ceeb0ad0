"""Receptive fields: planted Gabor functions and gratings are recovered, and noise is not taken for either."""

import numpy as np
import pytest

import numcore
from numcore.algorithms.sparse_coding import receptive_fields
from numcore.algorithms.sparse_coding.fields import _model


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def grid(height, width):
    y, x = np.mgrid[:height, :width].astype(float)
    return x, y


def gabor(x0, y0, angle, frequency, sigma_u, sigma_v, phase, shape=(12, 12)):
    """Written out from the definition."""
    x, y = grid(*shape)
    u = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    v = -(x - x0) * np.sin(angle) + (y - y0) * np.cos(angle)
    envelope = np.exp(-((u / sigma_u) ** 2) / 2 - (v / sigma_v) ** 2 / 2)
    return (np.cos(2 * np.pi * frequency * u + phase) * envelope).ravel()


def between(one, other):
    """The angle between two directions, of waves that run both ways."""
    return np.abs(np.angle(np.exp(2j * (np.asarray(one) - other)))) / 2


def planted(rng, count):
    angles, frequencies = rng.uniform(0, np.pi, count), rng.uniform(0.15, 0.35, count)
    atoms = [
        gabor(*rng.uniform(4.5, 6.5, 2), angle, f, *rng.uniform(1.7, 3.0, 2), rng.uniform(0, 2 * np.pi))
        for angle, f in zip(angles, frequencies, strict=True)
    ]
    return np.array(atoms), angles, frequencies


def test_gabor_functions_are_recovered_with_their_parameters(rng):
    D, angles, frequencies = planted(rng, 30)
    found = receptive_fields(5 * D, 12)
    assert found.gabor_r2.min() > 1 - 1e-9
    assert between(found.gabor[:, 2], angles).max() < 1e-5
    np.testing.assert_allclose(found.gabor[:, 3], frequencies, rtol=1e-5)
    amplitude = np.hypot(found.gabor[:, 6], found.gabor[:, 7])
    np.testing.assert_allclose(amplitude, 5, rtol=1e-4)


def test_the_spectrum_gives_their_frequency_and_orientation_nearly(rng):
    """A short envelope blurs the spectrum: within 0.03 cycles a pixel and 0.15 radians for these."""
    D, angles, frequencies = planted(rng, 30)
    found = receptive_fields(D, 12)
    assert np.abs(found.frequency - frequencies).max() < 0.03
    assert between(found.orientation, angles).max() < 0.15


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2, 2.5])
def test_a_grating_has_its_frequency_orientation_and_high_selectivity(angle):
    x, y = grid(32, 32)
    wave = np.sin(2 * np.pi * 0.21 * (x * np.cos(angle) + y * np.sin(angle)) + 0.3).reshape(1, -1)
    found = receptive_fields(wave, 32)
    assert found.frequency[0] == pytest.approx(0.21, abs=2e-3)
    assert between(found.orientation, angle)[0] < 0.01
    assert found.selectivity[0] > 0.9
    assert 0 <= found.orientation[0] < np.pi


def test_turning_a_patch_turns_its_orientation_and_leaves_all_else(rng):
    D, _, _ = planted(rng, 10)
    turned = np.rot90(D.reshape(-1, 12, 12), axes=(1, 2)).reshape(10, -1)
    plain, other = receptive_fields(D, 12), receptive_fields(turned, (12, 12))
    # counterclockwise in the picture, whose second axis points down
    assert between(other.orientation, plain.orientation - np.pi / 2).max() < 1e-9
    np.testing.assert_allclose(other.frequency, plain.frequency, rtol=1e-9)
    np.testing.assert_allclose(other.selectivity, plain.selectivity, atol=1e-9)


def test_a_round_spot_has_no_orientation_and_noise_is_no_gabor_function(rng):
    x, y = grid(13, 13)
    spot = np.exp(-((x - 6) ** 2 + (y - 6) ** 2) / 8)
    assert receptive_fields(spot.reshape(1, -1), 13).selectivity[0] < 1e-9
    noise = receptive_fields(rng.normal(size=(20, 144)), 12)
    # eight parameters fit a small part of 144 independent numbers
    assert noise.gabor_r2.max() < 0.35 and noise.gabor_r2.min() >= 0
    assert noise.selectivity.max() < 0.4


def test_what_a_gabor_function_explains_is_what_was_put_in(rng):
    D, _, _ = planted(rng, 10)
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    noise = rng.normal(size=D.shape)
    noise *= 0.5 / np.linalg.norm(noise, axis=1, keepdims=True)
    # a fifth of the energy is noise, of which eight of 144 dimensions can be fitted
    r2 = receptive_fields(D + noise, 12).gabor_r2
    assert (np.abs(r2 - 0.8) < 0.1).all()


def test_derivatives_of_the_fitted_function_are_those_of_finite_differences(rng):
    p = np.column_stack(
        [rng.uniform(2, 5, (6, 2)), rng.uniform(0, 3, 6), rng.uniform(0.1, 0.4, 6), rng.normal(size=(6, 4))]
    )
    x, y = (axis.ravel() for axis in grid(6, 8))
    J = _model(p, x, y)[1]
    for i in range(8):
        step = np.zeros(8)
        step[i] = 1e-6
        difference = (_model(p + step, x, y)[0] - _model(p - step, x, y)[0]) / 2e-6
        np.testing.assert_allclose(J[:, i], difference, atol=1e-7)


def test_the_scale_of_an_atom_and_its_company_do_not_matter(rng):
    D, _, _ = planted(rng, 5)
    plain = receptive_fields(D, 12)
    for scale in (1e150, 1e-150):
        scaled = receptive_fields(D * scale, 12)
        np.testing.assert_allclose(scaled.gabor_r2, plain.gabor_r2, rtol=1e-9)
        np.testing.assert_allclose(scaled.orientation, plain.orientation, rtol=1e-9)
    many = receptive_fields(np.tile(D, (20, 1)), 12)
    np.testing.assert_array_equal(many.frequency[:5], many.frequency[-5:])


def test_constant_and_zero_atoms_are_zero_everywhere():
    found = receptive_fields(np.vstack([np.zeros(12), np.full(12, 0.1)]), (3, 4))
    for name in ("frequency", "orientation", "selectivity", "gabor_r2", "gabor"):
        assert not getattr(found, name).any()


@pytest.mark.parametrize(
    ("dictionary", "shape", "error", "message"),
    [
        (np.ones((2, 12)), (3, 5), ValueError, "patch_shape must have 12 pixels, as atoms have; got 3 x 5"),
        (np.ones((2, 12)), (12,), TypeError, "patch_shape must be an integer or two of them"),
        (np.ones((2, 12)), (3.0, 4), TypeError, "patch_shape must be an integer"),
        (np.ones((2, 12)), (-3, -4), ValueError, "patch_shape must be at least 1"),
        (np.ones(12), (3, 4), ValueError, "dictionary must be 2-D"),
        (np.empty((0, 12)), (3, 4), ValueError, "dictionary must have atoms"),
        (np.full((1, 12), np.nan), (3, 4), ValueError, "dictionary must be finite"),
    ],
)
def test_bad_input_is_named(dictionary, shape, error, message):
    with pytest.raises(error, match=message):
        receptive_fields(dictionary, shape)


def test_results_come_back_from_a_file(tmp_path, rng):
    found = receptive_fields(rng.normal(size=(3, 16)), 4)
    numcore.save(found, tmp_path / "fields.numcore")
    np.testing.assert_array_equal(numcore.load(tmp_path / "fields.numcore").gabor, found.gabor)
