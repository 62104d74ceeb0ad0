"""Pictures show the numbers that they are given."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from numcore.algorithms.hebbian import (
    CapacityDisplay,
    PhaseDiagramDisplay,
    RetrievalDisplay,
    TemperingDisplay,
    capacity_curve,
    make_archetypes,
    parallel_tempering,
    phase_diagram,
    recall,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def diagram():
    return phase_diagram(order=3, loads=np.linspace(0, 0.2, 5), temperatures=np.linspace(0.1, 1, 4))


@pytest.fixture(scope="module")
def curve():
    return capacity_curve(n_features=20, loads=[0.05, 0.2], n_trials=3, rng=0)


@pytest.fixture(scope="module")
def tempered():
    return parallel_tempering(make_archetypes(20, 30, rng=0), betas=[0.3, 0.7, 1.5], n_sweeps=300, n_burn=20, rng=0)


def test_cells_are_the_phases_and_the_legend_names_those_that_occur(diagram):
    display = PhaseDiagramDisplay.from_model(diagram)
    assert_array_equal(np.asarray(display.mesh_.get_array()).reshape(diagram.phase.shape), diagram.phase)
    names = {text.get_text() for text in display.ax_.get_legend().get_texts()}
    known = {0: "ergodic", 1: "glass", 2: "retrieval, metastable", 3: "retrieval"}
    assert names == {known[code] for code in np.unique(diagram.phase)}
    assert_allclose(display.ax_.get_xlim(), (0, 0.2))


def test_a_phase_has_the_same_colour_in_every_diagram(diagram):
    glass = phase_diagram(order=3, loads=[0.3, 0.4], temperatures=[0.1, 0.2])
    assert np.all(glass.phase == 1)
    colours = [PhaseDiagramDisplay.from_model(d).mesh_ for d in (diagram, glass)]
    assert_array_equal(*(mesh.to_rgba(np.array([1.0])) for mesh in colours))


def test_a_diagram_must_be_a_grid_that_grows(diagram):
    one = phase_diagram(order=3, loads=[0.1], temperatures=[0.1, 0.2])
    with pytest.raises(ValueError, match="two or more increasing loads"):
        PhaseDiagramDisplay.from_model(one)


def test_capacities_have_error_bars_and_a_line_of_theory(curve):
    display = CapacityDisplay.from_curves({"P = 3": curve})
    points = display.lines_["P = 3"]
    assert_allclose(points[0].get_ydata(), curve.mean)
    ends = np.array([segment[:, 1] for segment in points[2][0].get_segments()])
    assert_allclose(ends[:, 1] - ends[:, 0], 2 * curve.standard_error, atol=1e-12)
    assert_allclose(display.theory_["P = 3"].get_ydata(), curve.theory)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["P = 3"]


def test_curves_without_names_or_theory_are_drawn_too(curve):
    other = capacity_curve(n_features=20, loads=[0.05, 0.2], n_trials=3, interaction="rectified", rng=0)
    display = CapacityDisplay.from_curves([curve, other])
    assert len(display.lines_) == 2 and len(display.theory_) == 1
    assert display.ax_.get_legend() is None
    assert len(CapacityDisplay.from_curves(curve).lines_) == 1
    with pytest.raises(ValueError, match="curves must hold at least one"):
        CapacityDisplay.from_curves([])


def test_queries_stand_above_what_was_retrieved():
    xi = make_archetypes(5, 12, rng=0)
    result = recall(xi[:3], xi)
    display = RetrievalDisplay.from_result(xi[:3], result, (3, 4), max_images=2)
    assert display.axes_.shape == (2, 2)
    for row, pictures in zip(display.axes_, (xi, result.states), strict=True):
        for ax, picture in zip(row, pictures, strict=False):
            assert_array_equal(ax.get_images()[0].get_array(), picture.reshape(3, 4))


def test_a_single_query_is_a_picture():
    display = RetrievalDisplay.from_result(np.ones(6), SimpleNamespace(states=np.zeros(6)), (2, 3))
    assert display.axes_.shape == (2, 1)


def test_pictures_must_fit_their_shape():
    result = SimpleNamespace(states=np.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"queries must have shape \(2, 8\) for images of 2 x 4; got \(2, 6\)"):
        RetrievalDisplay.from_result(np.ones((2, 6)), result, (2, 4))
    with pytest.raises(ValueError, match=r"result.states must have shape \(3, 6\)"):
        RetrievalDisplay.from_result(np.ones((3, 6)), result, (2, 3))
    with pytest.raises(ValueError, match="axes must have shape"):
        RetrievalDisplay.from_result(np.ones((2, 6)), result, (2, 3), axes=plt.subplots(1, 2)[1])


def test_tempering_shows_overlaps_and_rates(tempered):
    display = TemperingDisplay.from_result(tempered, probe=1)
    assert_allclose(display.line_.get_ydata(), np.abs(tempered.overlaps[..., 1]).mean(axis=0))
    assert_allclose(display.rates_ax_.patches[0].get_data().values, tempered.swap_rates)
    with pytest.raises(ValueError, match="probe must be below"):
        TemperingDisplay.from_result(tempered, probe=99)


def test_axes_can_be_given(diagram, curve, tempered):
    figure, axes = plt.subplots(1, 3)
    displays = [
        PhaseDiagramDisplay.from_model(diagram, ax=axes[0], legend=False),
        CapacityDisplay.from_curves([curve], ax=axes[1]),
        TemperingDisplay.from_result(tempered, ax=axes[2]),
    ]
    for display, ax in zip(displays, axes, strict=True):
        assert display.ax_ is ax and display.figure_ is figure
