"""Pictures of dictionaries, of the orientations in them, of lasso paths and of proximal operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from numcore import prox
from numcore.algorithms.sparse_coding.fields import ReceptiveFields, receptive_fields
from numcore.algorithms.sparse_coding.path import LassoPathResult
from numcore.arrays import as_choice, as_count, as_floating, as_number, to_numpy

__all__ = ["DictionaryDisplay", "LassoPathDisplay", "OrientationDisplay", "ProxDisplay"]

Array = NDArray[Any]


class DictionaryDisplay:
    """A mosaic of atoms that are patches of images.

    Make one with :meth:`from_estimator` or :meth:`from_dictionary`.

    Parameters
    ----------
    dictionary : (k, p) array
        The atoms, in the order in which they are shown.
    patch_shape : int or tuple of int
        ``(h, w)``, or ``(h, w, 3)`` for atoms in colour; a single number is the side of a square.

    Attributes
    ----------
    mosaic_ : array
        The picture. Each atom is scaled to its own largest magnitude, with 0 in the middle of the range.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, dictionary: Any, patch_shape: Any) -> None:
        self.dictionary, self.patch_shape = dictionary, patch_shape

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        patch_shape: Any,
        order: str = "usage",
        n_columns: int | None = None,
        ax: Any = None,
    ) -> DictionaryDisplay:
        """Draw the atoms of a fitted estimator.

        Parameters
        ----------
        estimator : DictionaryLearner
            Or anything with ``components_`` and, where the order is that of usage, ``usage_``.
        patch_shape : int or tuple of int
            The shape of an atom.
        order : {"usage", "index"}
            The most used atom first, row by row; or as the estimator has them.
        n_columns : int, optional
            Atoms in a row; by default as many as make a square.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        DictionaryDisplay
        """
        check_is_fitted(estimator)
        as_choice(order, "order", ("usage", "index"))
        usage = estimator.usage_ if order == "usage" else None
        return cls.from_dictionary(
            estimator.components_, patch_shape=patch_shape, usage=usage, n_columns=n_columns, ax=ax
        )

    @classmethod
    def from_dictionary(
        cls,
        dictionary: Any,
        *,
        patch_shape: Any,
        usage: Any = None,
        n_columns: int | None = None,
        ax: Any = None,
    ) -> DictionaryDisplay:
        """Draw the rows of an array.

        Parameters
        ----------
        dictionary : (k, p) array_like
        patch_shape : int or tuple of int
        usage : (k,) array_like, optional
            The greatest is shown first.
        n_columns, ax
            As for :meth:`from_estimator`.

        Returns
        -------
        DictionaryDisplay
        """
        D, shape = _as_patches(dictionary, patch_shape)
        if usage is not None:
            D = D[np.argsort(-to_numpy(as_floating(usage, "usage", shape=(len(D),))), kind="stable")]
        return cls(D, shape).plot(n_columns=n_columns, ax=ax)

    def plot(self, *, n_columns: int | None = None, ax: Any = None) -> DictionaryDisplay:
        """Draw; see :meth:`from_estimator`."""
        import matplotlib.pyplot as plt

        count = len(self.dictionary)
        columns = math.ceil(count**0.5) if n_columns is None else as_count(n_columns, "n_columns")
        self.mosaic_ = self._mosaic(columns)
        if ax is None:
            _, ax = plt.subplots()
        ax.imshow(self.mosaic_, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_axis_off()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _mosaic(self, columns: int) -> Array:
        count, (h, w, *colours) = len(self.dictionary), self.patch_shape
        rows = -(-count // columns)
        top = np.max(abs(self.dictionary), axis=1, keepdims=True)
        scaled = self.dictionary / np.where(top > 0, top, 1.0)
        border = 1.0  # white between atoms, and where the last row has none
        if colours:
            scaled = (1 + scaled) / 2  # colours lie in [0, 1]
        tiles = np.full((rows * columns, h + 1, w + 1, *colours), border)
        tiles[:count, :h, :w] = scaled.reshape(count, h, w, *colours)
        grid = np.moveaxis(tiles.reshape(rows, columns, h + 1, w + 1, *colours), 2, 1)
        return grid.reshape(rows * (h + 1), columns * (w + 1), *colours)[:-1, :-1]


class OrientationDisplay:
    """A histogram of the orientations that atoms prefer.

    The preferred orientation of an atom is that of the largest entry of its power spectrum, its selectivity 1 minus
    the circular variance of the energy over orientations: 1 for a grating, 0 for a spot.

    Make one with :meth:`from_estimator` or :meth:`from_fields`.

    Parameters
    ----------
    fields : ReceptiveFields
        What :func:`receptive_fields` returns.

    Attributes
    ----------
    counts_ : array
        Atoms in each bin.
    edges_ : array
        Of the bins, in degrees. The first bin is centred on 0.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, fields: ReceptiveFields) -> None:
        self.fields = fields

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, patch_shape: Any, least: float = 0.0, n_bins: int = 18, ax: Any = None
    ) -> OrientationDisplay:
        """Draw the orientations of a fitted estimator's atoms.

        Parameters
        ----------
        estimator : DictionaryLearner
            Or anything with ``components_``.
        patch_shape : int or (int, int)
            The shape of an atom.
        least : float in [0, 1]
            Leave atoms out that are less selective.
        n_bins : int
            Bins over 180 degrees.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        OrientationDisplay
        """
        check_is_fitted(estimator)
        D, shape = _as_patches(estimator.components_, patch_shape, colours=False)
        return cls.from_fields(receptive_fields(D, (shape[0], shape[1])), least=least, n_bins=n_bins, ax=ax)

    @classmethod
    def from_fields(
        cls, fields: ReceptiveFields, *, least: float = 0.0, n_bins: int = 18, ax: Any = None
    ) -> OrientationDisplay:
        """Draw orientations that are known already; see :meth:`from_estimator`."""
        return cls(fields).plot(least=least, n_bins=n_bins, ax=ax)

    def plot(self, *, least: float = 0.0, n_bins: int = 18, ax: Any = None) -> OrientationDisplay:
        """Draw; see :meth:`from_estimator`."""
        import matplotlib.pyplot as plt

        least = as_number(least, "least", above=0, below=1, closed=True)
        bins = as_count(n_bins, "n_bins")
        shown = (self.fields.selectivity >= least) & (self.fields.frequency > 0)
        degrees, width = np.degrees(self.fields.orientation[shown]), 180 / bins
        # horizontal and vertical gratings, the most frequent, would be cut in two by an edge at 0
        degrees = np.where(degrees >= 180 - width / 2, degrees - 180, degrees)
        self.counts_, self.edges_ = np.histogram(degrees, bins, (-width / 2, 180 - width / 2))
        if ax is None:
            _, ax = plt.subplots()
        ax.bar(self.edges_[:-1] + width / 2, self.counts_, width=0.9 * width)
        ax.set(xlabel="preferred orientation (degrees)", ylabel="atoms", xticks=range(0, 180, 45))
        self.ax_, self.figure_ = ax, ax.figure
        return self


class LassoPathDisplay:
    """Coefficients against the regularisation.

    Make one with :meth:`from_result`.

    Parameters
    ----------
    result : LassoPathResult

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Of the coefficients that are not zero throughout.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, result: LassoPathResult) -> None:
        self.result = result

    @classmethod
    def from_result(cls, result: LassoPathResult, *, names: Any = None, ax: Any = None) -> LassoPathDisplay:
        """Draw a path; a line for each coefficient that is anywhere not zero.

        Parameters
        ----------
        result : LassoPathResult
        names : sequence of str, optional
            One a coefficient, for a legend.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        LassoPathDisplay
        """
        if names is not None and len(names) != len(result.coefs):
            raise ValueError(f"names must hold one for each of {len(result.coefs)} coefficients; got {len(names)}")
        return cls(result).plot(names=names, ax=ax)

    def plot(self, *, names: Any = None, ax: Any = None) -> LassoPathDisplay:
        """Draw; see :meth:`from_result`."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        self.lines_ = []
        for j in np.flatnonzero(self.result.coefs.any(axis=1)):
            self.lines_ += ax.plot(
                self.result.regs, self.result.coefs[j], linewidth=1, label=None if names is None else names[j]
            )
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        ax.set(xscale="log", xlabel="reg", ylabel="coefficient")
        if not ax.xaxis_inverted():
            ax.invert_xaxis()  # the path begins with the largest
        if names is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


class ProxDisplay:
    """Proximal operators of penalties of a single number, as curves.

    Make one with :meth:`from_penalties`.

    Parameters
    ----------
    v : (n,) array
        Where they are evaluated.
    curves : dict of str to (n,) array
        The values, by the penalty's name.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, v: Any, curves: Mapping[str, Any]) -> None:
        self.v, self.curves = v, curves

    @classmethod
    def from_penalties(
        cls,
        penalties: Sequence[str] = ("l1", "scad", "mcp", "log_sum", "half", "l0", "cel0"),
        *,
        reg: float = 0.5,
        step: float = 0.5,
        params: Mapping[str, Mapping[str, float]] | None = None,
        limit: float = 2.0,
        ax: Any = None,
    ) -> ProxDisplay:
        """Draw operators of :mod:`numcore.prox`.

        Parameters
        ----------
        penalties : sequence of str
            Names of operators: "l1", "elastic_net", "l0", "half", "two_thirds", "lq", "mcp", "scad", "cel0", "log_sum"
            or "huber".
        reg, step : float, positive
            Of all of them.
        params : mapping, optional
            Further arguments by the name of the penalty, such as ``{"lq": {"q": 0.3}}``.
        limit : float, positive
            Draw from ``-limit`` to `limit`.
        ax : matplotlib Axes, optional
            Draw here instead of on a new figure.

        Returns
        -------
        ProxDisplay
        """
        reg, step = as_number(reg, "reg", above=0), as_number(step, "step", above=0)
        v = np.linspace(-1, 1, 2001) * as_number(limit, "limit", above=0)
        params = params or {}
        for name in params:
            as_choice(name, "a key of params", tuple(penalties))
        curves = {}
        for name in penalties:
            as_choice(name, "penalties", (*BY_THRESHOLD, *BY_STEP))
            operator = getattr(prox, name)
            extra = dict(params.get(name, {}))
            curves[name] = operator(v, step, reg=reg, **extra) if name in BY_STEP else operator(v, step * reg, **extra)
        return cls(v, curves).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ProxDisplay:
        """Draw; see :meth:`from_penalties`."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        ax.axline((0, 0), slope=1, color="0.7", linewidth=0.8, linestyle="--", zorder=0)
        self.lines_ = []
        for name, curve in self.curves.items():
            self.lines_ += ax.plot(*_broken(self.v, np.asarray(curve)), label=name.replace("_", " "))
        ax.set(xlabel="v", ylabel="prox(v)")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


BY_THRESHOLD = ("l1", "elastic_net", "l0", "half", "two_thirds", "lq", "huber")
BY_STEP = ("mcp", "scad", "cel0", "log_sum")


def _broken(v: Array, values: Array) -> tuple[Array, Array]:
    """The curve with a gap where it jumps, so that no line is drawn where there is no value."""
    jumps = np.flatnonzero(np.diff(values) > 20 * np.diff(v)) + 1
    return np.insert(v, jumps, np.nan), np.insert(values, jumps, np.nan)


def _as_patches(dictionary: Any, patch_shape: Any, colours: bool = True) -> tuple[Array, tuple[int, ...]]:
    """Checked atoms and their shape."""
    D = to_numpy(as_floating(dictionary, "dictionary", ndim=2))
    lengths = (2, 3) if colours else (2,)
    if isinstance(patch_shape, (int, np.integer)):
        patch_shape = (patch_shape, patch_shape)
    shape = tuple(patch_shape) if isinstance(patch_shape, (tuple, list)) else ()
    if len(shape) not in lengths or (len(shape) == 3 and shape[2] != 3):
        raise ValueError(f"patch_shape must be (h, w){' or (h, w, 3)' if colours else ''}; got {patch_shape!r}")
    shape = tuple(as_count(n, "patch_shape") for n in shape)
    if math.prod(shape) != D.shape[1]:
        raise ValueError(f"patch_shape must hold the {D.shape[1]} features of the dictionary; got {shape}")
    return D, shape
