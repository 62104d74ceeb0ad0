"""Pictures of plans."""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.algorithms.transport._result import SinkhornResult
from numcore.algorithms.transport.costs import PointCloudCost
from numcore.arrays import as_floating, to_numpy

__all__ = ["PlanDisplay"]


class PlanDisplay:
    """A transport plan, drawn as lines between planar point clouds or as a matrix.

    Make one with :meth:`from_result`.

    Parameters
    ----------
    plan : (n, m) array
        The plan.
    X, Y : (n, 2), (m, 2) arrays, optional
        Points in the plane; without them the plan is drawn as a matrix.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, plan: Any, X: Any = None, Y: Any = None) -> None:
        self.plan, self.X, self.Y = plan, X, Y

    @classmethod
    def from_result(
        cls, result: SinkhornResult, X: Any = None, Y: Any = None, *, ax: Any = None, max_lines: int = 3000
    ) -> PlanDisplay:
        """Draw the plan of a result.

        Parameters
        ----------
        result : SinkhornResult
        X, Y : (n, 2), (m, 2) array_like, optional
            Where to draw sources and targets; by default the points of a PointCloudCost in the plane.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.
        max_lines : int
            Draw the heaviest entries only, at most so many.

        Returns
        -------
        PlanDisplay
        """
        cost = result._problem.cost
        if X is None and Y is None and isinstance(cost, PointCloudCost) and cost.X.shape[1] == 2:
            X, Y = cost.X, cost.Y
        if (X is None) != (Y is None):
            raise ValueError("X and Y must be given together")
        if X is not None:
            X = to_numpy(as_floating(X, "X", shape=(cost.shape[0], 2)))
            Y = to_numpy(as_floating(Y, "Y", shape=(cost.shape[1], 2)))
        return cls(to_numpy(result.plan), X, Y).plot(ax=ax, max_lines=max_lines)

    def plot(self, *, ax: Any = None, max_lines: int = 3000) -> PlanDisplay:
        """Draw; see :meth:`from_result`."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        if self.X is None:
            image = ax.imshow(self.plan, aspect="auto", interpolation="nearest", cmap="magma_r")
            ax.figure.colorbar(image, ax=ax, label="mass")
            ax.set(xlabel="target", ylabel="source")
        else:
            self._lines(ax, max_lines)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _lines(self, ax: Any, max_lines: int) -> None:
        from matplotlib.collections import LineCollection

        i, j = np.nonzero(self.plan)
        heaviest = np.argsort(self.plan[i, j])[::-1][:max_lines]
        i, j = i[heaviest], j[heaviest]
        mass = self.plan[i, j]
        colours = np.zeros((len(i), 4))
        colours[:, 3] = 0.7 * mass / mass.max()
        ax.add_collection(
            LineCollection(np.stack([self.X[i], self.Y[j]], axis=1), colors=colours, linewidths=0.8, zorder=1)
        )
        for points, weights, label in (
            (self.X, self.plan.sum(axis=1), "source"),
            (self.Y, self.plan.sum(axis=0), "target"),
        ):
            ax.scatter(*points.T, s=12 * weights / weights.mean(), label=label, zorder=2)
        ax.legend()
        ax.set_aspect("equal")
