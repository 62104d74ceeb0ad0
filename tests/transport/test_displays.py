"""Pictures show the plan that they are given."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore.algorithms.transport import PlanDisplay, PointCloudCost, sinkhorn

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_the_parameters_are_those_of_the_specification():
    parameters = inspect.signature(PlanDisplay.from_result).parameters
    assert list(parameters)[:3] == ["result", "X", "Y"] and parameters["X"].default is parameters["Y"].default is None


def test_a_plan_without_points_is_drawn_as_its_matrix(problem):
    result = sinkhorn(problem.C, reg=0.1)
    display = PlanDisplay.from_result(result)
    (image,) = display.ax_.get_images()
    assert_allclose(image.get_array(), result.plan)
    assert display.figure_ is display.ax_.figure


@pytest.mark.parametrize("given", [False, True])
def test_planar_clouds_are_joined_by_the_heaviest_entries(clouds, given):
    cost = clouds.C if given else PointCloudCost(clouds.X, clouds.Y)
    result = sinkhorn(cost, reg=0.02, tol=1e-6)
    points = {"X": clouds.X, "Y": clouds.Y} if given else {}
    display = PlanDisplay.from_result(result, **points, max_lines=10)
    lines = display.ax_.collections[0].get_segments()
    i, j = np.unravel_index(np.argsort(result.plan, axis=None)[::-1][:10], result.plan.shape)
    assert_allclose(lines, np.stack([clouds.X[i], clouds.Y[j]], axis=1))
    opacity = display.ax_.collections[0].get_colors()[:, 3]
    assert_allclose(opacity / opacity[0], result.plan[i, j] / result.plan[i[0], j[0]])
    for drawn, cloud in zip(display.ax_.collections[1:], (clouds.X, clouds.Y), strict=True):
        assert_allclose(drawn.get_offsets(), cloud)


def test_it_draws_on_the_axes_that_it_is_given(problem):
    _, ax = plt.subplots()
    display = PlanDisplay.from_result(sinkhorn(problem.C, reg=0.1), ax=ax)
    assert display.ax_ is ax and len(plt.get_fignums()) == 1


def test_clouds_that_are_not_planar_are_drawn_as_a_matrix(rng):
    display = PlanDisplay.from_result(sinkhorn(PointCloudCost(rng.random((5, 3))), reg=0.1))
    assert len(display.ax_.get_images()) == 1


def test_bad_points_are_refused_by_name(clouds):
    result = sinkhorn(clouds.C, reg=0.1)
    with pytest.raises(ValueError, match="X and Y must be given together"):
        PlanDisplay.from_result(result, X=clouds.X)
    with pytest.raises(ValueError, match=r"X must have shape \(20, 2\)"):
        PlanDisplay.from_result(result, X=clouds.Y, Y=clouds.X)
