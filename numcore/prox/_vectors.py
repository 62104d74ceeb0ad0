"""Operators that act on a whole vector: groups, trees, sorted norms, total variation, singular values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from array_api_compat import device

from numcore.arrays import Array, array_namespace, as_floating, as_number
from numcore.prox._elementwise import l1
from numcore.prox._loops import isotonic_rows, shrink_groups, total_variation_rows
from numcore.prox._projections import _delivered, _double, _radius, _vectors, l1_ball

__all__ = ["Groups", "group_l2", "linf", "nuclear", "sorted_l1", "sparse_group", "tree", "tv1d"]


def group_l2(v: Any, t: Any, *, groups: Sequence[Any], weights: Any = None, out: Array | None = None) -> Array:
    r"""The operator of ``sum_g w_g |x_g|_2`` over disjoint groups of coordinates.

    .. math:: \operatorname{prox}(v)_g = v_g \max(0, 1 - t w_g / |v_g|_2)

    Parameters
    ----------
    v : (..., d) array_like, real
        Vectors along the last axis.
    t : float, not negative
        Step times regularisation.
    groups : sequence of integer array_like
        The coordinates of each group, no two groups sharing one. Coordinates in no group stay as they are.
    weights : (n_groups,) array_like, optional
        Non-negative; the square roots of the groups' sizes by default. inf gives 0.
    out : array, optional
        Where to put the result: shape and dtype of the result. It may be `v` itself.

    Returns
    -------
    (..., d) array
        float32 for float32, else float64. It is `out` where that is given.

    Raises
    ------
    TypeError
        If an argument is complex or no number, or a group does not hold integers.
    ValueError
        If `v` is not finite, `t` or a weight is negative, groups are empty, out of range, repeat a coordinate or
        overlap.

    References
    ----------
    .. [1] M. Yuan, Y. Lin, "Model selection and estimation in regression with grouped variables", JRSS B 68(1), 2006.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.group_l2([3.0, 4.0, 1.0], 1.0, groups=[[0, 1], [2]], weights=[2.5, 1.0])
    array([1.5, 2. , 0. ])
    """
    v = _vectors(v)
    families = Groups.check(groups, v.shape[-1])
    families.refuse_overlaps()
    return _shrunk(v, families, _times(t, "t", families.weights(weights)), out)


def sparse_group(
    v: Any, t1: Any, t2: Any, *, groups: Sequence[Any], weights: Any = None, out: Array | None = None
) -> Array:
    """The operator of ``t1 |x|_1 + t2 sum_g w_g |x_g|_2``: :func:`l1`, then :func:`group_l2`.

    Parameters
    ----------
    v, groups, weights, out
        As for :func:`group_l2`.
    t1, t2 : float, not negative
        Step times regularisation, for single coordinates and for groups.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`group_l2`.

    References
    ----------
    .. [1] N. Simon, J. Friedman, T. Hastie, R. Tibshirani, "A sparse-group lasso", J. Comput. Graph. Stat. 22(2), 2013.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.sparse_group([4.0, 5.0, 0.5], 1.0, 2.5, groups=[[0, 1], [2]], weights=[1, 1])
    array([1.5, 2. , 0. ])
    """
    v = _vectors(v)
    t1 = as_number(t1, "t1", above=0, closed=True, infinite=True)
    families = Groups.check(groups, v.shape[-1])
    families.refuse_overlaps()
    return _shrunk(v, families, _times(t2, "t2", families.weights(weights)), out, first=t1)


def tree(v: Any, *, groups: Sequence[Any], thresholds: Any, out: Array | None = None) -> Array:
    """The operator of ``sum_g t_g |x_g|_2`` over groups that form trees: any two are disjoint or nested.

    Parameters
    ----------
    v, out
        As for :func:`group_l2`.
    groups : sequence of integer array_like
        The coordinates of each group, in any order.
    thresholds : (n_groups,) array_like, not negative
        Step times regularisation times weight, one a group.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`group_l2`; also if two groups overlap and neither holds the other.

    Notes
    -----
    Each group is shrunk once, smaller ones before those that hold them [1]_.

    References
    ----------
    .. [1] R. Jenatton, J. Mairal, G. Obozinski, F. Bach, "Proximal methods for hierarchical sparse coding", JMLR 12,
       2011, Algorithm 1.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.tree([3.0, 4.0, 2.0], groups=[[0, 1, 2], [2]], thresholds=[2.5, 2.0])
    array([1.5, 2. , 0. ])
    """
    v = _vectors(v)
    families = Groups.check(groups, v.shape[-1])
    t = _thresholds(thresholds, "thresholds", len(groups))
    families, order = families.leaves_first()
    return _shrunk(v, families, t[order], out)


def linf(v: Any, t: Any, *, out: Array | None = None) -> Array:
    r"""The operator of ``max |x|``, by Moreau's identity: ``v - project_l1_ball(v, t)``.

    Parameters
    ----------
    v : (..., d) array_like, real
    t : float or (...) array_like, not negative
        Step times regularisation; an array holds one for each vector.
    out : array, optional
        As for :func:`group_l2`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`group_l2`.

    References
    ----------
    .. [1] N. Parikh, S. Boyd, "Proximal Algorithms", Found. Trends Optim. 1(3), 2014, Section 6.5.2.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.linf([3.0, -1.0, 2.5], 1.5)
    array([ 2., -1.,  2.])
    """
    v = _vectors(v)
    r = _radius(t, v, "t", zero=True)
    return _delivered(_double(v) - l1_ball(v, r), v, out)


def sorted_l1(v: Any, t: Any, *, weights: Any, out: Array | None = None) -> Array:
    r"""The operator of the sorted l1 norm (SLOPE), ``sum_i w_i |x|_(i)`` with ``|x|_(1) >= |x|_(2) >= ...``.

    Parameters
    ----------
    v : (..., d) array_like, real
    t : float, not negative
        Step times regularisation.
    weights : (d,) array_like
        Not negative and not increasing.
    out : array, optional
        As for :func:`group_l2`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`group_l2`; also if the weights increase.

    Notes
    -----
    The magnitudes in descending order, minus ``t w``, are replaced by the nearest sequence that does not increase, and
    clipped at 0 [1]_.

    References
    ----------
    .. [1] M. Bogdan, E. van den Berg, C. Sabatti, W. Su, E. J. Candès, "SLOPE: adaptive variable selection via convex
       optimization", Ann. Appl. Stat. 9(3), 2015, Algorithms 3 and 4.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.sorted_l1([3.0, -2.5, 1.0], 1.0, weights=[2.0, 1.0, 0.5])
    array([ 1.25, -1.25,  0.5 ])
    """
    v = _vectors(v)
    xp, d = array_namespace(v), v.shape[-1]
    t = as_number(t, "t", above=0, closed=True)
    w = _double(as_floating(weights, "weights", shape=(d,), like=v))
    _check_weights(xp, w)
    x = xp.reshape(_double(v), (-1, d))
    order = xp.argsort(-abs(x), axis=1, stable=False)  # equals end in one block, in whatever order
    fit = isotonic_rows(xp.take_along_axis(abs(x), order, axis=1) - t * w)
    fit = xp.take_along_axis(fit, xp.argsort(order, axis=1, stable=False), axis=1)
    fit = xp.where(fit > 0, fit, xp.zeros_like(fit))
    return _delivered(xp.reshape(xp.where((x < 0) & (fit > 0), -fit, fit), v.shape), v, out)


def nuclear(V: Any, t: Any, *, out: Array | None = None) -> Array:
    """The operator of the nuclear norm: soft thresholding of the singular values.

    Parameters
    ----------
    V : (..., m, n) array_like, real
        Matrices in the last two axes.
    t : float, not negative
        Step times regularisation.
    out : array, optional
        As for :func:`group_l2`.

    Returns
    -------
    (..., m, n) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`group_l2`.

    References
    ----------
    .. [1] J.-F. Cai, E. J. Candès, Z. Shen, "A singular value thresholding algorithm for matrix completion", SIAM J.
       Optim. 20(4), 2010, Theorem 2.1.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.nuclear([[3.0, 0.0], [0.0, 0.5]], 1.0)
    array([[2., 0.],
           [0., 0.]])
    """
    V = as_floating(V, "V")
    if V.ndim < 2:
        raise ValueError(f"V must be a matrix; got shape {tuple(V.shape)}")
    t = as_number(t, "t", above=0, closed=True)
    left, values, right = array_namespace(V).linalg.svd(_double(V), full_matrices=False)
    return _delivered((left * l1(values, t, positive=True)[..., None, :]) @ right, V, out)


def tv1d(v: Any, t: Any, *, out: Array | None = None) -> Array:
    """The operator of the total variation, ``sum_i |x_{i+1} - x_i|``.

    Parameters
    ----------
    v : (..., d) array_like, real
        Signals along the last axis.
    t : float or (...) array_like, not negative
        Step times regularisation; an array holds one for each signal.
    out : array, optional
        As for :func:`group_l2`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`group_l2`.

    References
    ----------
    .. [1] L. Condat, "A Direct Algorithm for 1D Total Variation Denoising", IEEE Signal Processing Letters 20(11),
       2013.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.tv1d([0.0, 0.0, 6.0, 6.0], 1.0)
    array([0.5, 0.5, 5.5, 5.5])
    """
    v = _vectors(v)
    xp = array_namespace(v)
    r = xp.reshape(_radius(t, v, "t", zero=True), (math.prod(v.shape[:-1]),))
    result = total_variation_rows(xp.reshape(_double(v), (-1, v.shape[-1])), r)
    return _delivered(xp.reshape(result, v.shape), v, out)


class Groups:
    """Groups of coordinates, one after another in `indices`, beginning at `offsets`."""

    def __init__(self, indices: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any], size: int) -> None:
        self.indices, self.offsets, self.size = indices, offsets, size

    @classmethod
    def check(cls, groups: Any, size: int) -> Groups:
        """Read a sequence of index arrays into `size` coordinates."""
        if not isinstance(groups, Iterable):
            raise TypeError(f"groups must be a sequence of index arrays; got {groups!r}")
        regular = isinstance(groups, np.ndarray) and groups.ndim == 2 and groups.size > 0  # its rows are all alike
        parts: Any = groups if regular else [np.asarray(group) for group in groups]
        for k, part in enumerate(parts[:1] if regular else parts):
            if part.dtype.kind not in "iu" and part.size:
                raise TypeError(f"groups[{k}] must hold integers; got dtype {part.dtype}")
            if part.ndim != 1 or part.size == 0:
                raise ValueError(f"groups[{k}] must be a 1-D array, not empty; got shape {part.shape}")
        flat = parts.reshape(-1) if regular else np.concatenate(parts) if parts else np.empty(0)
        indices = flat.astype(np.int64)
        sizes = np.full(len(parts), parts.shape[1]) if regular else [part.size for part in parts]
        offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        # of all groups at once: there may be many, and small
        owners = np.repeat(np.arange(len(parts)), sizes)
        outside = np.flatnonzero((indices < 0) | (indices >= size))
        if outside.size:
            k = owners[outside[0]]
            raise ValueError(f"groups[{k}] must lie in 0..{size - 1}; got {parts[k].min()}..{parts[k].max()}")
        if np.bincount(indices, minlength=1).max() > 1:  # shared by groups, or repeated in one
            places = np.sort(owners * size + indices)
            repeated = np.flatnonzero(places[1:] == places[:-1])
            if repeated.size:
                raise ValueError(f"groups[{places[repeated[0]] // size}] must not repeat a coordinate")
        return cls(indices, offsets, size)

    def refuse_overlaps(self) -> None:
        """Refuse groups that share a coordinate."""
        shared = np.flatnonzero(np.bincount(self.indices, minlength=1) > 1)
        if shared.size:
            raise ValueError(f"groups must not overlap; {shared.size} coordinates are shared, the first is {shared[0]}")

    def weights(self, given: Any) -> np.ndarray[Any, Any]:
        """One weight a group: by default the square root of its size."""
        sizes = np.diff(self.offsets)
        return np.sqrt(sizes) if given is None else _thresholds(given, "weights", len(sizes))

    def leaves_first(self) -> tuple[Groups, np.ndarray[Any, Any]]:
        """The groups by ascending size, which puts each before those that hold it; and their former places."""
        sizes = np.diff(self.offsets)
        order = np.argsort(sizes, kind="stable")
        parts = [self.indices[self.offsets[g] : self.offsets[g + 1]] for g in order]
        outermost = np.full(self.size, -1)  # of the groups so far, the one that holds each coordinate last
        for place, part in enumerate(parts):
            for inner, count in zip(*np.unique(outermost[part], return_counts=True), strict=True):
                if inner >= 0 and count < parts[inner].size:
                    raise ValueError(
                        f"groups must be nested or disjoint; groups {order[inner]} and {order[place]} overlap and "
                        "neither holds the other"
                    )
            outermost[part] = place
        offsets = np.cumsum([0, *(part.size for part in parts)])
        return Groups(np.concatenate([self.indices[:0], *parts]), offsets, self.size), order


def _thresholds(t: Any, name: str, count: int) -> np.ndarray[Any, Any]:
    t = np.asarray(as_floating(t, name, shape=(count,), infinite="positive"), dtype=np.float64)
    negative = int(np.count_nonzero(t < 0))
    if negative:
        raise ValueError(f"{name} must not be negative; {negative} of its {count} entries are")
    return t


def _times(t: Any, name: str, weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``t weights``, where inf wins over 0."""
    t = as_number(t, name, above=0, closed=True, infinite=True)
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(weights) | np.isinf(t), np.inf, t * weights)


def _shrunk(
    v: Array, groups: Groups, thresholds: np.ndarray[Any, Any], out: Array | None, first: float | None = None
) -> Array:
    """Each group of each vector shortened by its threshold, after soft thresholding by `first` where that is given."""
    xp = array_namespace(v)
    x = xp.reshape(xp.astype(v, xp.float64), (math.prod(v.shape[:-1]), v.shape[-1]))
    if first is not None:
        x = l1(x, first)
    arrays = (xp.asarray(array, device=device(v)) for array in (groups.indices, groups.offsets, thresholds))
    return _delivered(xp.reshape(shrink_groups(x, *arrays), v.shape), v, out)


def _check_weights(xp: Any, w: Array) -> None:
    if bool(xp.any(w < 0)):
        raise ValueError(f"weights must not be negative; {int(xp.count_nonzero(w < 0))} of its {w.size} entries are")
    rising = int(xp.count_nonzero(w[1:] > w[:-1]))
    if rising:
        raise ValueError(f"weights must not increase; they do at {rising} places")
