"""Pictures of what a sketch does to lengths, of convergence, and of a path of ridges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.linalg

from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import as_matrix, is_dask, is_sparse
from numcore.algorithms.sketching.ridge import RidgePathResult
from numcore.arrays import as_choice, to_numpy

__all__ = ["EmbeddingDisplay", "ResidualHistoryDisplay", "RidgePathDisplay"]


class EmbeddingDisplay:
    r"""What a sketch S does to the lengths of vectors in the column space of A.

    Drawn are the singular values of S U in descending order, for an orthonormal basis U of that space: all ratios
    :math:`\|S A y\| / \|A y\|` lie between the last and the first. An embedding without error would have them all at 1;
    a last one of 0 says that a direction is lost. Make one with :meth:`from_operator`.

    Parameters
    ----------
    singular_values : (rank,) array
        Of S U.
    m : int
        Rows of S.

    Attributes
    ----------
    distortion : float
        The largest distance of a singular value from 1.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        The singular values.
    edges_ : tuple of matplotlib Line2D
        At ``1 - sqrt(rank / m)`` and ``1 + sqrt(rank / m)``: between them lie those of a Gaussian sketch.
    """

    def __init__(self, singular_values: Any, m: int) -> None:
        self.singular_values, self.m = singular_values, m

    @property
    def distortion(self) -> float:
        return float(np.max(np.abs(self.singular_values - 1)))

    @classmethod
    def from_operator(cls, op: SketchOperator, A: Any, *, ax: Any = None, name: str | None = None) -> EmbeddingDisplay:
        """Sketch an orthonormal basis of A's columns, and draw the singular values.

        Parameters
        ----------
        op : SketchOperator
            From :func:`make_sketch`, for as many rows as A has.
        A : (n, d) array_like, sparse matrix, or tuple of factors
            A is made dense; a tuple, for "tensor_srht", stands for the Kronecker product of its matrices.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure; several operators may share it.
        name : str, optional
            For the legend; by default the kind of `op`.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        TypeError
            If `op` is no SketchOperator.
        ValueError
            If A does not fit it, is not finite, or is zero.
        """
        if not isinstance(op, SketchOperator):
            raise TypeError(f"op must be a SketchOperator, from make_sketch; got a {type(op).__name__}")
        if isinstance(A, tuple):
            # a Kronecker product of orthonormal bases is one
            basis: Any = tuple(_basis(factor, f"A[{j}]") for j, factor in enumerate(A))
        else:
            basis = _basis(A, "A")
        SU = to_numpy(op.apply(basis) if op.n is None else op @ basis)
        values = np.zeros(SU.shape[1])  # fewer rows than columns lose directions
        values[: min(SU.shape)] = scipy.linalg.svdvals(SU)
        return cls(values, op.m).plot(ax=ax, name=op.kind if name is None else name)

    def plot(self, *, ax: Any = None, name: str | None = None) -> EmbeddingDisplay:
        """Draw; see :meth:`from_operator`."""
        ax = _axes(ax)
        rank = len(self.singular_values)
        (self.line_,) = ax.plot(
            np.arange(1, rank + 1), self.singular_values, marker="o", markersize=2.5, linewidth=1, label=name
        )
        eta = (rank / self.m) ** 0.5
        self.edges_ = tuple(ax.axhline(edge, color="0.5", linestyle=":", linewidth=1) for edge in (1 - eta, 1 + eta))
        top = max(np.max(line.get_ydata()) for line in ax.get_lines())
        ax.set(xlabel="index", ylabel="singular values of the sketched basis", ylim=(0, 1.05 * top))
        if name is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _basis(A: Any, name: str) -> np.ndarray[Any, Any]:
    """An orthonormal basis of the columns' span, in float64."""
    A = as_matrix(A, name)
    A = A.compute() if is_dask(A) else A.toarray() if is_sparse(A) else to_numpy(A)
    A = A.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(A)))
    if bad:
        raise ValueError(f"{name} must be finite; {bad} of its entries are not")
    # columns brought to one length: what they span is the same, and small ones count
    tops = np.abs(A).max(axis=0, initial=0.0)
    A = A[:, tops > 0] / tops[tops > 0]
    if A.shape[1] == 0:
        raise ValueError(f"{name} must not be zero: it spans nothing")
    Q, R, _ = scipy.linalg.qr(A, mode="economic", pivoting=True, check_finite=False)
    pivots = np.abs(np.diag(R))
    return np.ascontiguousarray(Q[:, pivots > 1e-13 * pivots[0]])


class ResidualHistoryDisplay:
    """How the error of a result fell, iteration by iteration, on a logarithmic scale.

    Make one with :meth:`from_result`.

    Parameters
    ----------
    curves : dict of str to (n_iter, values) arrays
        By name.
    ylabel : str
        What the values are.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
    """

    def __init__(self, curves: Mapping[str, tuple[Any, Any]], *, ylabel: str = "backward error") -> None:
        self.curves, self.ylabel = curves, ylabel

    @classmethod
    def from_result(
        cls, result: Any | Mapping[str, Any], *, quantity: str | None = None, ax: Any = None
    ) -> ResidualHistoryDisplay:
        """Draw the history of a result, or of several by name.

        Parameters
        ----------
        result : LstsqResult, BCDResult, SubGMResult, or dict of str to them
        quantity : str, optional
            Which part of the history; by default what the method stops on: the first of "backward_error", "kkt",
            "residual_l1" that all of them have.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        ResidualHistoryDisplay

        Raises
        ------
        TypeError
            If a result has no history.
        ValueError
            If a history lacks the quantity, or is empty, as that of "sketch_solve". "lapack", where it is empty too,
            is drawn as a point.
        """
        results = result if isinstance(result, Mapping) else {"": result}
        if not results:
            raise ValueError("result must hold at least one result; got none")
        histories = {name: _columns(each, name) for name, each in results.items()}
        shared = [
            key for key in next(iter(histories.values())) if all(key in columns for columns in histories.values())
        ]
        if quantity is None:
            quantity = next((key for key in STOPS_ON if key in shared), next(iter(shared), None))
            if quantity is None:
                raise ValueError("the results have no quantity in common in their histories")
        as_choice(quantity, "quantity", shared)
        curves = {
            name: (columns.get("n_iter", np.arange(1, len(columns[quantity]) + 1)), columns[quantity])
            for name, columns in histories.items()
        }
        return cls(curves, ylabel=quantity.replace("_", " ")).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ResidualHistoryDisplay:
        """Draw; see :meth:`from_result`."""
        from matplotlib.ticker import MaxNLocator

        ax = _axes(ax)
        self.lines_ = {}
        for name, (steps, values) in self.curves.items():
            mark = "o" if len(values) < 40 else None
            (self.lines_[name],) = ax.semilogy(steps, values, marker=mark, markersize=4, label=name or None)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="iteration", ylabel=self.ylabel)
        if any(self.curves):
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


STOPS_ON = ("backward_error", "kkt", "residual_l1")


def _columns(result: Any, name: str) -> dict[str, np.ndarray[Any, Any]]:
    """A history as arrays by name, whether it is kept by rows or by columns."""
    what = f"result {name!r}" if name else "result"
    history = getattr(result, "history", None)
    if history is None:
        raise TypeError(f"{what} must have a history; got a {type(result).__name__}")
    if not history and np.isfinite(getattr(result, "backward_error", np.nan)):
        # solved in one go: where it stands
        figures = {"backward_error": result.backward_error, "residual_norm": np.max(result.residual_norm)}
        history = ({"n_iter": 0, **figures},)
    if not isinstance(history, Mapping):
        history = {key: [record[key] for record in history] for key in (history[0] if history else ())}
    columns = {key: np.asarray(values) for key, values in history.items()}
    if not columns or not all(len(values) for values in columns.values()):
        raise ValueError(f"{what} has no iterations to draw: its history is empty")
    return columns


class RidgePathDisplay:
    """The coefficients against alpha, the best alpha, and the criterion that chose it.

    Make one with :meth:`from_result`.

    Parameters
    ----------
    result : RidgePathResult
        From :func:`ridge_path`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The coefficients.
    criterion_ax_ : matplotlib Axes
        Shares its alphas; the criteria.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        A line for each coefficient.
    criteria_ : dict of str to matplotlib Line2D
        "GCV", and "leave-one-out" if the result has it.
    best_ : matplotlib Line2D or None
        Stands at the best alpha.
    """

    def __init__(self, result: RidgePathResult) -> None:
        self.result = result

    @classmethod
    def from_result(cls, result: RidgePathResult, *, ax: Any = None) -> RidgePathDisplay:
        """Draw a path.

        Parameters
        ----------
        result : RidgePathResult
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        RidgePathDisplay
        """
        return cls(result).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> RidgePathDisplay:
        """Draw; see :meth:`from_result`."""
        ax = _axes(ax)
        result = self.result
        order = np.argsort(result.alphas)
        alphas = np.asarray(result.alphas)[order]
        self.lines_ = ax.plot(alphas, np.reshape(result.coef, (len(alphas), -1))[order], linewidth=1)
        if alphas[0] > 0:
            ax.set_xscale("log")
        elif alphas[-1] > 0:  # a zero is drawn beside the smallest that is not
            ax.set_xscale("symlog", linthresh=float(alphas[alphas > 0][0]))
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set(xlabel="alpha", ylabel="coefficients")
        self.criterion_ax_ = ax.twinx()
        self.criterion_ax_.set_ylabel("mean squared error, estimated")
        self.criteria_, self.best_ = {}, None
        found = {"GCV": result.gcv, "leave-one-out": result.loo}
        for (label, values), style in zip(found.items(), ("--", ":"), strict=True):
            if values is not None:
                (self.criteria_[label],) = self.criterion_ax_.plot(
                    alphas, values[order], style, color="black", label=label
                )
        self.criterion_ax_.legend()
        if result.best_alpha is not None:
            self.best_ = ax.axvline(float(result.best_alpha), color="0.4", linewidth=0.8)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _axes(ax: Any) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax
