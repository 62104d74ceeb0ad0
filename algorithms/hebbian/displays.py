"""Pictures of phases, capacities, retrieval and tempering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numcore.algorithms.hebbian.capacity import CapacityCurve
from numcore.algorithms.hebbian.phase_diagram import PhaseDiagram
from numcore.algorithms.hebbian.tempering import TemperingResult
from numcore.arrays import as_count, as_floating

__all__ = ["CapacityDisplay", "PhaseDiagramDisplay", "RetrievalDisplay", "TemperingDisplay"]

PHASES = {
    0: ("ergodic", "#f2f2f2"),
    1: ("glass", "#9ecae1"),
    2: ("retrieval, metastable", "#fdd0a2"),
    3: ("retrieval", "#f16913"),
}


class PhaseDiagramDisplay:
    """The phases of a memory in the plane of load and temperature.

    Make one with :meth:`from_model`.

    Parameters
    ----------
    diagram : PhaseDiagram

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    mesh_ : matplotlib QuadMesh
        A cell for each point of the grid.
    """

    def __init__(self, diagram: PhaseDiagram) -> None:
        self.diagram = diagram

    @classmethod
    def from_model(cls, diagram: PhaseDiagram, *, legend: bool = True, ax: Any = None) -> PhaseDiagramDisplay:
        """Draw a diagram.

        Parameters
        ----------
        diagram : PhaseDiagram
            With increasing loads and temperatures, at least two of each.
        legend : bool
            Whether to name the phases that occur.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        PhaseDiagramDisplay
        """
        for name in ("loads", "temperatures"):
            values = getattr(diagram, name)
            if len(values) < 2 or not np.all(np.diff(values) > 0):
                raise ValueError(f"diagram must have two or more increasing {name}; got {values!r}")
        return cls(diagram).plot(legend=legend, ax=ax)

    def plot(self, *, legend: bool = True, ax: Any = None) -> PhaseDiagramDisplay:
        """Draw; see :meth:`from_model`."""
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        ax = _axes(ax)
        diagram = self.diagram
        colours = ListedColormap([colour for _, colour in PHASES.values()])
        self.mesh_ = ax.pcolormesh(
            diagram.loads, diagram.temperatures, diagram.phase, cmap=colours, vmin=-0.5, vmax=3.5, shading="nearest"
        )
        ax.set(
            xlabel=r"load $\alpha = K / N^{P-1}$",
            ylabel="temperature",
            xlim=diagram.loads[[0, -1]],
            ylim=diagram.temperatures[[0, -1]],
        )
        if legend:
            found = [PHASES[code] for code in np.unique(diagram.phase)[::-1]]
            ax.legend(handles=[Patch(facecolor=colour, edgecolor="0.7", label=name) for name, colour in found])
        self.ax_, self.figure_ = ax, ax.figure
        return self


class CapacityDisplay:
    """Overlaps after recall against the load, with error bars, and the theory as dashed lines.

    Make one with :meth:`from_curves`.

    Parameters
    ----------
    curves : dict of str to CapacityCurve

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib ErrorbarContainer
        What was measured.
    theory_ : dict of str to matplotlib Line2D
        The theory, where there is any.
    """

    def __init__(self, curves: Mapping[str, CapacityCurve]) -> None:
        self.curves = curves

    @classmethod
    def from_curves(
        cls, curves: Mapping[str, CapacityCurve] | Sequence[CapacityCurve] | CapacityCurve, *, ax: Any = None
    ) -> CapacityDisplay:
        """Draw a curve, or several.

        Parameters
        ----------
        curves : dict of str to CapacityCurve, list of CapacityCurve, or CapacityCurve
            By name, for a legend; or without.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        CapacityDisplay
        """
        if isinstance(curves, CapacityCurve):
            curves = [curves]
        if not isinstance(curves, Mapping):
            curves = {f"_{k}": curve for k, curve in enumerate(curves)}  # matplotlib leaves such out of legends
        if not curves:
            raise ValueError("curves must hold at least one; got none")
        return cls(curves).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> CapacityDisplay:
        """Draw; see :meth:`from_curves`."""
        ax = _axes(ax)
        self.lines_, self.theory_ = {}, {}
        for name, curve in self.curves.items():
            error = np.nan_to_num(curve.standard_error)
            bars = ax.errorbar(curve.loads, curve.mean, error, fmt="o", markersize=4, capsize=2, label=name)
            self.lines_[name] = bars
            if np.isfinite(curve.theory).any():
                (line,) = ax.plot(curve.loads, curve.theory, "--", color=bars[0].get_color(), linewidth=1)
                self.theory_[name] = line
        ax.set(xlabel=r"load $\alpha = K / N^{P-1}$", ylabel="overlap with the archetype")
        if any(not name.startswith("_") for name in self.curves):
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


class RetrievalDisplay:
    """Queries as pictures, and below each what was retrieved for it.

    Make one with :meth:`from_result`.

    Parameters
    ----------
    queries, states : (Q, d) arrays
    image_shape : (int, int)

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : (2, Q) array of matplotlib Axes
    """

    def __init__(self, queries: Any, states: Any, image_shape: tuple[int, int]) -> None:
        self.queries, self.states, self.image_shape = queries, states, image_shape

    @classmethod
    def from_result(
        cls, queries: Any, result: Any, image_shape: tuple[int, int], *, max_images: int = 10, axes: Any = None
    ) -> RetrievalDisplay:
        """Draw what :func:`retrieve` or :func:`recall` made of queries.

        Parameters
        ----------
        queries : (Q, d) or (d,) array_like
        result : RetrievalResult or RecallResult
            Its states are drawn.
        image_shape : (int, int)
            Rows and columns of a picture; their product is d.
        max_images : int
            Draw the first queries only, at most so many.
        axes : (2, Q) array of matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        RetrievalDisplay
        """
        queries = np.atleast_2d(as_floating(queries, "queries", ndim=(1, 2)))
        states = np.atleast_2d(as_floating(result.states, "result.states", ndim=(1, 2)))
        height, width = (as_count(k, "image_shape") for k in image_shape)
        for name, rows in (("queries", queries), ("result.states", states)):
            if rows.shape != (len(queries), height * width):
                wanted = f"({len(queries)}, {height * width}) for images of {height} x {width}"
                raise ValueError(f"{name} must have shape {wanted}; got {rows.shape}")
        count = min(len(queries), as_count(max_images, "max_images"))
        return cls(queries[:count], states[:count], (height, width)).plot(axes=axes)

    def plot(self, *, axes: Any = None) -> RetrievalDisplay:
        """Draw; see :meth:`from_result`."""
        import matplotlib.pyplot as plt

        count = len(self.queries)
        if axes is None:
            axes = plt.subplots(2, count, figsize=(1.1 * count + 0.4, 2.4), squeeze=False)[1]
        axes = np.asarray(axes)
        if axes.shape != (2, count):
            raise ValueError(f"axes must have shape (2, {count}); got {axes.shape}")
        for row, pictures, title in zip(axes, (self.queries, self.states), ("query", "retrieved"), strict=True):
            for ax, picture in zip(row, pictures, strict=True):
                ax.imshow(picture.reshape(self.image_shape), cmap="gray_r", interpolation="nearest")
                ax.set(xticks=[], yticks=[])
            row[0].set_ylabel(title)
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        return self


class TemperingDisplay:
    """Overlaps with a probe against the inverse temperature, and how often neighbours were exchanged.

    Make one with :meth:`from_result`.

    Parameters
    ----------
    result : TemperingResult
    probe : int
        Which of the result's probes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        The mean of ``|m|`` at each temperature, in a band of nine tenths of its values.
    rates_ax_ : matplotlib Axes
        The rates of exchange, on the right.
    """

    def __init__(self, result: TemperingResult, *, probe: int = 0) -> None:
        self.result, self.probe = result, probe

    @classmethod
    def from_result(cls, result: TemperingResult, *, probe: int = 0, ax: Any = None) -> TemperingDisplay:
        """Draw a run of :func:`parallel_tempering`.

        Parameters
        ----------
        result : TemperingResult
        probe : int
            Which of the result's probes.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        TemperingDisplay
        """
        count = result.overlaps.shape[-1]
        if as_count(probe, "probe", minimum=0) >= count:
            raise ValueError(f"probe must be below the number of probes, {count}; got {probe}")
        return cls(result, probe=probe).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> TemperingDisplay:
        """Draw; see :meth:`from_result`."""
        ax = _axes(ax)
        betas, m = self.result.betas, np.abs(self.result.overlaps[..., self.probe])
        (self.line_,) = ax.plot(betas, m.mean(axis=0), "o-", markersize=4)
        low, high = np.quantile(m, [0.05, 0.95], axis=0)
        ax.fill_between(betas, low, high, color=self.line_.get_color(), alpha=0.2, linewidth=0)
        ax.set(xlabel=r"inverse temperature $\beta$", ylabel="overlap |m|", ylim=(0, 1.02))
        self.rates_ax_ = ax.twinx()
        self.rates_ax_.stairs(self.result.swap_rates, betas, color="0.5", linestyle=":")
        self.rates_ax_.set(ylabel="rate of exchange (dotted)", ylim=(0, 1.02))
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _axes(ax: Any) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax
