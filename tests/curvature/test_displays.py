"""Pictures show the numbers that they are given."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import aslinearoperator

from numcore.algorithms.curvature import (
    GNSTraceDisplay,
    PruningCurveDisplay,
    SpectralDensityDisplay,
    minimize_gns,
    prune_magnitude,
    prune_mfac,
    spectral_density,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def trace():
    A = np.diag([1.0, 10.0, 100.0])
    return minimize_gns(lambda x: float(x @ A @ x), np.ones(3), grad=lambda x: 2 * A @ x)


def test_the_parameters_are_those_of_the_specification():
    for display, method, first in (
        (SpectralDensityDisplay, "from_operator", "A"),
        (PruningCurveDisplay, "from_results", "results"),
        (GNSTraceDisplay, "from_result", "result"),
    ):
        parameters = inspect.signature(getattr(display, method)).parameters
        assert next(iter(parameters)) == first and parameters["ax"].default is None


class TestSpectralDensity:
    def test_the_line_is_the_density_and_ticks_stand_at_the_nodes(self, rng):
        A = rng.standard_normal((40, 40))
        A = A + A.T
        display = SpectralDensityDisplay.from_operator(aslinearoperator(A), k=10, n_probes=3, rng=0)
        expected = spectral_density(A, k=10, n_probes=3, rng=0)
        x, y = display.line_.get_data()
        assert_allclose(x, expected.grid)
        assert_allclose(y, expected.density)
        assert_allclose([segment[0, 0] for segment in display.nodes_.get_segments()], expected.nodes)
        opacity = display.nodes_.get_colors()[:, 3]
        assert_array_equal(np.argsort(opacity), np.argsort(expected.weights))
        assert display.ax_.get_yscale() == "log" and display.figure_ is display.ax_.figure

    def test_two_operators_share_axes_and_both_are_seen_whole(self, rng):
        _, ax = plt.subplots()
        first = SpectralDensityDisplay.from_operator(np.diag(np.arange(1.0, 20)), rng=0, ax=ax, name="narrow")
        second = SpectralDensityDisplay.from_operator(np.diag(np.arange(1.0, 2000, 100)), rng=0, ax=ax, name="wide")
        assert first.ax_ is second.ax_ is ax and len(plt.get_fignums()) == 1
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["narrow", "wide"]
        low, high = ax.get_ylim()
        for display in (first, second):
            top = display.result.density.max()
            assert low <= 1e-6 * top and top < high


class TestPruningCurve:
    def results(self, rng):
        w, G = rng.standard_normal(60), rng.standard_normal((20, 60))
        shares = (0.8, 0.2, 0.5)
        return {
            "magnitude": [prune_magnitude(w, s) for s in shares],
            "M-FAC": [prune_mfac(w, G, s, damp=1e-2) for s in shares],
        }

    def test_each_method_is_a_curve_of_its_scores_by_sparsity(self, rng):
        results = self.results(rng)
        display = PruningCurveDisplay.from_results(results, lambda w: np.abs(w).sum(), baseline=7.0, ylabel="mass")
        for name, runs in results.items():
            x, y = display.lines_[name].get_data()
            assert_array_equal(x, [0.2, 0.5, 0.8])
            assert_allclose(y, [np.abs(runs[k].weights).sum() for k in (1, 2, 0)])
        labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert labels == ["magnitude", "M-FAC", "dense"]
        assert display.ax_.get_ylabel() == "mass" and display.ax_.get_xlabel() == "sparsity"

    def test_without_scores_it_shows_what_pruning_predicted(self, rng):
        runs = self.results(rng)["M-FAC"]
        display = PruningCurveDisplay.from_results(runs)
        (line,) = display.ax_.get_lines()
        assert_allclose(line.get_ydata(), sorted(run.predicted_increase for run in runs))
        assert display.ax_.get_legend() is None

    def test_runs_of_equal_sparsity_are_drawn_as_mean_and_range(self, rng):
        runs = [prune_magnitude(rng.standard_normal(10), s) for s in (0.2, 0.5, 0.2, 0.5)]
        display = PruningCurveDisplay.from_results({"a": runs}, {"a": [1.0, 5.0, 3.0, 9.0]})
        assert_allclose(display.lines_["a"].get_data(), [[0.2, 0.5], [2.0, 7.0]])
        corners = display.ax_.collections[0].get_paths()[0].vertices
        assert {tuple(corner) for corner in corners} == {(0.2, 1.0), (0.2, 3.0), (0.5, 5.0), (0.5, 9.0)}

    def test_it_draws_on_the_axes_that_it_is_given(self, rng):
        _, ax = plt.subplots()
        display = PruningCurveDisplay.from_results(self.results(rng)["magnitude"], [1.0, 2.0, 3.0], ax=ax)
        assert display.ax_ is ax and len(plt.get_fignums()) == 1

    def test_bad_results_are_refused_by_name(self, rng):
        with pytest.raises(ValueError, match="results must hold at least one"):
            PruningCurveDisplay.from_results({})
        with pytest.raises(ValueError, match="results must hold at least one"):
            PruningCurveDisplay.from_results({"a": []})
        with pytest.raises(ValueError, match=r"score must have shape \(3\); got \(1,\)"):
            PruningCurveDisplay.from_results(self.results(rng)["magnitude"], [1.0])


class TestGNSTrace:
    def test_the_lines_are_the_history(self, trace):
        display = GNSTraceDisplay.from_result(trace)
        norm, gamma = display.ax_.get_lines()
        assert_array_equal(norm.get_xdata(), np.arange(1, trace.n_iter + 1))
        assert_allclose(norm.get_ydata(), trace.history["grad_norm"])
        assert_allclose(gamma.get_ydata(), trace.history["gamma"])
        assert display.ax_.get_yscale() == "log" and display.lines_[""] is norm

    def test_runs_are_told_apart_by_name(self, trace):
        _, ax = plt.subplots()
        display = GNSTraceDisplay.from_result({"a": trace, "b": trace}, gamma=False, ax=ax)
        assert display.ax_ is ax and list(display.lines_) == ["a", "b"] and len(ax.get_lines()) == 2
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
