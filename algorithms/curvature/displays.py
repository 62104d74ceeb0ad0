"""Pictures of spectra, of pruning and of minimisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numcore.algorithms.curvature.gns import GNSResult
from numcore.algorithms.curvature.pruning import PruneResult
from numcore.arrays import as_floating, to_numpy
from numcore.linalg import SpectralDensityResult, spectral_density

__all__ = ["GNSTraceDisplay", "PruningCurveDisplay", "SpectralDensityDisplay"]


class SpectralDensityDisplay:
    """The density of the eigenvalues of an operator, on a logarithmic scale.

    Make one with :meth:`from_operator`.

    Parameters
    ----------
    result : SpectralDensityResult
        What :func:`numcore.linalg.spectral_density` found.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        The density.
    nodes_ : matplotlib LineCollection
        A tick for each node, the darker the greater its weight.
    """

    def __init__(self, result: SpectralDensityResult) -> None:
        self.result = result

    @classmethod
    def from_operator(
        cls,
        A: Any,
        *,
        k: int = 64,
        n_probes: int = 8,
        grid: Any = None,
        sigma: float | None = None,
        rng: Any = None,
        ax: Any = None,
        name: str | None = None,
    ) -> SpectralDensityDisplay:
        """Estimate the density by stochastic Lanczos quadrature, and draw it.

        Parameters
        ----------
        A : (d, d) array_like, sparse matrix or LinearOperator
            Symmetric, such as a Hessian.
        k, n_probes, grid, sigma, rng
            As for :func:`numcore.linalg.spectral_density`.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.
        name : str, optional
            For a legend.

        Returns
        -------
        SpectralDensityDisplay
        """
        result = spectral_density(A, k=k, n_probes=n_probes, grid=grid, sigma=sigma, rng=rng)
        return cls(result).plot(ax=ax, name=name)

    def plot(self, *, ax: Any = None, name: str | None = None) -> SpectralDensityDisplay:
        """Draw; see :meth:`from_operator`."""
        ax = _axes(ax)
        result = self.result
        # six decades below its peak a Gaussian bump is all tail, which says nothing
        low = 1e-6 * result.density.max()
        if ax.get_lines():
            low = min(low, ax.get_ylim()[0])
        (self.line_,) = ax.semilogy(result.grid, result.density, label=name)
        self.nodes_ = _ticks(ax, result.nodes, result.weights, self.line_.get_color())
        ax.set_ylim(bottom=low)
        ax.set(xlabel="eigenvalue", ylabel="density")
        if name is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _ticks(ax: Any, nodes: Any, weights: Any, colour: Any) -> Any:
    """Short lines at the lower edge."""
    from matplotlib.colors import to_rgb

    shades = np.empty((len(nodes), 4))
    shades[:, :3] = to_rgb(colour)
    shades[:, 3] = 0.15 + 0.85 * np.sqrt(weights / weights.max())
    return ax.vlines(nodes, 0, 0.04, colors=shades, linewidths=0.8, transform=ax.get_xaxis_transform())


class PruningCurveDisplay:
    """A score against the share of weights that is pruned, a curve for each method.

    Make one with :meth:`from_results`.

    Parameters
    ----------
    curves : dict of str to (sparsity, score) arrays
        Points with equal sparsity, such as runs from several seeds, are drawn as their mean, with a band from the least
        to the greatest.
    baseline : float, optional
        The score of the dense weights, drawn as a line across.
    ylabel : str
        What the score is.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        The curves.
    """

    def __init__(
        self, curves: Mapping[str, tuple[Any, Any]], *, baseline: float | None = None, ylabel: str = "score"
    ) -> None:
        self.curves, self.baseline, self.ylabel = curves, baseline, ylabel

    @classmethod
    def from_results(
        cls,
        results: Mapping[str, Sequence[PruneResult]] | Sequence[PruneResult],
        score: Callable[[Any], float] | Mapping[str, Sequence[float]] | Sequence[float] | None = None,
        *,
        baseline: float | None = None,
        ylabel: str | None = None,
        ax: Any = None,
    ) -> PruningCurveDisplay:
        """Draw results of pruning to several sparsities.

        Parameters
        ----------
        results : dict of str to list of PruneResult, or list of PruneResult
            By method, in any order of sparsity.
        score : callable, dict or list, optional
            ``score(weights)``; or the scores themselves, in the order of the results. By default the increase of the
            loss that pruning predicted.
        baseline : float, optional
            The score of the dense weights.
        ylabel : str, optional
            What the score is.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        PruningCurveDisplay
        """
        by_name = results if isinstance(results, Mapping) else {"": results}
        if not by_name or not all(len(runs) for runs in by_name.values()):
            raise ValueError("results must hold at least one result for each curve; got none")
        curves = {}
        for name, runs in by_name.items():
            values = as_floating(_scores(name, runs, score), "score", shape=(len(runs),), infinite="unchecked")
            curves[name] = (np.array([run.sparsity for run in runs]), to_numpy(values))
        if ylabel is None:
            ylabel = "predicted increase of the loss" if score is None else "score"
        return cls(curves, baseline=baseline, ylabel=ylabel).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> PruningCurveDisplay:
        """Draw; see :meth:`from_results`."""
        ax = _axes(ax)
        self.lines_ = {}
        for (name, (sparsity, values)), marker in zip(self.curves.items(), _cycle("osDv^P"), strict=False):
            at, which = np.unique(sparsity, return_inverse=True)
            runs = [values[which == k] for k in range(len(at))]
            means = [run.mean() for run in runs]
            (line,) = ax.plot(at, means, marker=marker, markersize=4, label=name or None)
            if len(values) > len(at):
                low, high = [run.min() for run in runs], [run.max() for run in runs]
                ax.fill_between(at, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            self.lines_[name] = line
        if self.baseline is not None:
            ax.axhline(self.baseline, color="0.5", linestyle=":", linewidth=1, label="dense")
        ax.set(xlabel="sparsity", ylabel=self.ylabel)
        if any(self.curves):
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _scores(name: str, runs: Sequence[PruneResult], score: Any) -> Any:
    if score is None:
        return [run.predicted_increase for run in runs]
    if callable(score):
        return [score(run.weights) for run in runs]
    return score[name] if isinstance(score, Mapping) else score


def _cycle(marks: str) -> Any:
    while True:
        yield from marks


class GNSTraceDisplay:
    """The norm of the gradient and the smoothness estimate gamma, iteration by iteration.

    Make one with :meth:`from_result`.

    Parameters
    ----------
    traces : dict of str to GNSResult
        By name.
    gamma : bool
        Whether to draw gamma too, as a dashed line.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        The norms of the gradient.
    """

    def __init__(self, traces: Mapping[str, GNSResult], *, gamma: bool = True) -> None:
        self.traces, self.gamma = traces, gamma

    @classmethod
    def from_result(
        cls, result: GNSResult | Mapping[str, GNSResult], *, gamma: bool = True, ax: Any = None
    ) -> GNSTraceDisplay:
        """Draw a run, or several by name.

        Parameters
        ----------
        result : GNSResult or dict of str to GNSResult
        gamma : bool
            Whether to draw gamma too.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        GNSTraceDisplay
        """
        traces = result if isinstance(result, Mapping) else {"": result}
        return cls(traces, gamma=gamma).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> GNSTraceDisplay:
        """Draw; see :meth:`from_result`."""
        ax = _axes(ax)
        self.lines_ = {}
        for name, result in self.traces.items():
            steps = np.arange(1, result.n_iter + 1)
            (line,) = ax.semilogy(steps, result.history["grad_norm"], label=name or "norm of the gradient")
            if self.gamma:
                label = f"{name}: gamma" if name else "gamma"
                ax.semilogy(steps, result.history["gamma"], "--", color=line.get_color(), linewidth=1, label=label)
            self.lines_[name] = line
        ax.set(xlabel="iteration", ylabel="norm of the gradient" + (", gamma (dashed)" if self.gamma else ""))
        if self.gamma or any(self.traces):
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _axes(ax: Any) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax
