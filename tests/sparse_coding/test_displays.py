"""Pictures show what they are given: atoms in their order, orientations, paths and operators."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

from numcore import prox
from numcore.algorithms.sparse_coding import (
    DictionaryDisplay,
    DictionaryLearner,
    LassoPathDisplay,
    OrientationDisplay,
    ProxDisplay,
    lasso_path,
    receptive_fields,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def learner():
    X = np.random.default_rng(0).laplace(size=(60, 12))
    return DictionaryLearner(5, reg=0.5, random_state=0).partial_fit(X)


def gratings(degrees, size=12, frequency=0.25):
    """Waves that run at these angles, from the axis along rows towards that down columns."""
    y, x = np.mgrid[:size, :size]
    phases = [frequency * (np.cos(a) * x + np.sin(a) * y) for a in np.radians(degrees)]
    return np.array([np.cos(2 * np.pi * phase).ravel() for phase in phases])


def test_a_mosaic_holds_the_atoms_row_by_row_the_most_used_first(learner):
    display = DictionaryDisplay.from_estimator(learner, patch_shape=(3, 4))
    order = np.argsort(-learner.usage_, kind="stable")
    assert display.mosaic_.shape == (2 * 4 - 1, 3 * 5 - 1)
    for place, j in enumerate(order):
        row, column = divmod(place, 3)
        tile = display.mosaic_[4 * row : 4 * row + 3, 5 * column : 5 * column + 4]
        atom = learner.components_[j]
        assert_allclose(tile.ravel(), atom / abs(atom).max())
    (image,) = display.ax_.get_images()
    assert_allclose(image.get_array(), display.mosaic_)
    assert image.get_clim() == (-1, 1)
    assert display.figure_ is display.ax_.figure


def test_atoms_can_stay_in_the_order_of_the_estimator(learner):
    display = DictionaryDisplay.from_estimator(learner, patch_shape=(3, 4), order="index", n_columns=5)
    assert_allclose(display.dictionary, learner.components_)
    assert display.mosaic_.shape == (3, 24)


def test_coloured_atoms_fill_the_range_of_colours():
    D = np.random.default_rng(0).standard_normal((4, 12))
    display = DictionaryDisplay.from_dictionary(D, patch_shape=(2, 2, 3))
    assert display.mosaic_.shape == (5, 5, 3)
    assert_allclose(display.mosaic_[:2, :2].ravel(), (1 + D[0] / abs(D[0]).max()) / 2)


def test_zero_atoms_are_grey():
    display = DictionaryDisplay.from_dictionary(np.zeros((1, 4)), patch_shape=2)
    assert np.array_equal(display.mosaic_, np.zeros((2, 2)))


@pytest.mark.parametrize("n_bins", [18, 4])
def test_orientations_are_counted_in_bins_centred_on_horizontal_and_vertical(n_bins):
    degrees = [0, 0, 40, 90, 90, 90, 130]
    display = OrientationDisplay.from_fields(receptive_fields(gratings(degrees), 12), n_bins=n_bins)
    width = 180 / n_bins
    expected = np.zeros(n_bins)
    for angle in degrees:
        expected[round(angle / width)] += 1
    assert np.array_equal(display.counts_, expected)
    assert [bar.get_height() for bar in display.ax_.patches] == list(expected)
    assert display.edges_[0] == -width / 2


def test_atoms_without_a_preferred_orientation_can_be_left_out():
    spot = np.zeros((12, 12))
    spot[5:7, 5:7] = 1
    D = np.concatenate([gratings([30, 30]), spot.reshape(1, -1), np.ones((1, 144))])
    fields = receptive_fields(D, 12)
    assert OrientationDisplay.from_fields(fields).counts_.sum() == 3  # a constant has no orientation at all
    assert OrientationDisplay.from_fields(fields, least=0.5).counts_.sum() == 2


def test_the_orientations_of_an_estimator_are_those_of_its_atoms(learner):
    learner.components_ = gratings([0, 60, 60])
    display = OrientationDisplay.from_estimator(learner, patch_shape=(12, 12), n_bins=3)
    assert list(display.counts_) == [1, 2, 0]


def test_a_path_is_drawn_for_each_coefficient_that_is_not_always_zero():
    rng = np.random.default_rng(0)
    D = rng.standard_normal((30, 8))
    result = lasso_path(D, D[:, 2] - D[:, 5], n_regs=20, eps=0.2)
    display = LassoPathDisplay.from_result(result, names=[f"x{j}" for j in range(8)])
    active = np.flatnonzero(result.coefs.any(axis=1))
    assert {2, 5} <= set(active) and [line.get_label() for line in display.lines_] == [f"x{j}" for j in active]
    for line, j in zip(display.lines_, active, strict=True):
        assert_allclose(line.get_xdata(), result.regs)
        assert_allclose(line.get_ydata(), result.coefs[j])
    assert display.ax_.get_xscale() == "log" and display.ax_.xaxis_inverted()
    with pytest.raises(ValueError, match="names must hold one for each of 8"):
        LassoPathDisplay.from_result(result, names=["a"])


def test_operators_are_drawn_as_they_are_with_gaps_at_jumps():
    display = ProxDisplay.from_penalties(
        ["l1", "l0", "mcp", "lq"], reg=0.5, step=0.4, params={"lq": {"q": 0.3}, "mcp": {"gamma": 2.0}}
    )
    expected = {
        "l1": lambda v: prox.l1(v, 0.2),
        "l0": lambda v: prox.l0(v, 0.2),
        "mcp": lambda v: prox.mcp(v, 0.4, reg=0.5, gamma=2.0),
        "lq": lambda v: prox.lq(v, 0.2, q=0.3),
    }
    for line, (name, operator) in zip(display.lines_, expected.items(), strict=True):
        v, values = line.get_xdata(), line.get_ydata()
        gaps = np.isnan(values)
        assert line.get_label() == name and gaps.sum() == (2 if name in ("l0", "lq") else 0)
        assert_allclose(values[~gaps], operator(v[~gaps]))


def test_displays_draw_on_the_axes_that_they_are_given(learner):
    figure, axes = plt.subplots(1, 3)
    displays = [
        DictionaryDisplay.from_estimator(learner, patch_shape=(3, 4), ax=axes[0]),
        OrientationDisplay.from_estimator(learner, patch_shape=(3, 4), ax=axes[1]),
        ProxDisplay.from_penalties(ax=axes[2]),
    ]
    assert [display.ax_ for display in displays] == list(axes)
    assert all(display.figure_ is figure for display in displays) and plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    ("patch_shape", "message"),
    [
        ((3, 3), r"patch_shape must hold the 12 features of the dictionary; got \(3, 3\)"),
        ((12,), r"patch_shape must be \(h, w\)"),
        ((2, 2, 4), r"patch_shape must be \(h, w\)"),
        ("ab", r"patch_shape must be \(h, w\)"),
        ((0, 12), "patch_shape must be at least 1"),
    ],
)
def test_patch_shapes_that_do_not_fit_are_refused(learner, patch_shape, message):
    with pytest.raises(ValueError, match=message):
        DictionaryDisplay.from_estimator(learner, patch_shape=patch_shape)


def test_bad_arguments_are_refused_by_name(learner):
    with pytest.raises(NotFittedError):
        DictionaryDisplay.from_estimator(DictionaryLearner(), patch_shape=(3, 4))
    with pytest.raises(ValueError, match="order must be one of"):
        DictionaryDisplay.from_estimator(learner, patch_shape=(3, 4), order="size")
    with pytest.raises(ValueError, match="usage must have shape"):
        DictionaryDisplay.from_dictionary(learner.components_, patch_shape=(3, 4), usage=[1.0])
    with pytest.raises(ValueError, match="least must satisfy"):
        OrientationDisplay.from_estimator(learner, patch_shape=(3, 4), least=2)
    with pytest.raises(ValueError, match="penalties must be one of"):
        ProxDisplay.from_penalties(["l2"])
    with pytest.raises(ValueError, match="a key of params must be one of"):
        ProxDisplay.from_penalties(["l1"], params={"lq": {"q": 0.5}})
    with pytest.raises(ValueError, match="reg must satisfy"):
        ProxDisplay.from_penalties(reg=0)
