"""Softmax and its kin, along any axis, for entries of any size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_out
from numcore.dispatch import dispatchable

__all__ = ["logsumexp", "softmax"]


def softmax(x: Any, *, axis: int = -1, out: Array | None = None) -> Array:
    r"""Exponentials scaled to sum to one along an axis.

    .. math:: \operatorname{softmax}(x)_j = \frac{e^{x_j}}{\sum_k e^{x_k}}

    Parameters
    ----------
    x : array_like, real, at least 1-D
        Entries of any finite size, or ``-inf``, which gets weight 0.
    axis : int, default=-1
        The axis to sum over.
    out : array, optional
        Where to put the result: shape and dtype of the result. It may be `x` itself; otherwise it must not overlap it.

    Returns
    -------
    array
        The shape of `x`; float32 for float32, else float64. It is `out` where that is given. A slice that is ``-inf``
        throughout gives zeros.

    Raises
    ------
    TypeError
        If `x` is complex, an object array or text, `axis` is no integer, or `out` is no array of the same library.
    ValueError
        If `x` holds NaN or ``+inf``, is 0-d or empty along `axis`, or has another floating dtype, or if `out` does not
        match. `out` is untouched then.

    Notes
    -----
    Under Numba `x` is read twice and nothing else is stored [1]_; an entry's relative error is about two units in the
    last place whatever its size. The NumPy code subtracts the maximum, which costs an entry ``d`` below it
    ``d / 2`` units more.

    References
    ----------
    .. [1] M. Dukhan and A. Ablavatski, "The Two-Pass Softmax Algorithm", IPDPSW 2020, Algorithm 3.

    Examples
    --------
    >>> from numcore.special import softmax
    >>> softmax([[1000.0, 1000.0], [0.0, -float("inf")]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    x = as_floating(x, "x", infinite="unchecked")  # NaN and +inf show in the sums; looking would cost a pass
    axis = _axis_of(x, axis)
    rows = _rows(x, axis)
    within = None if out is None else _rows_within(as_out(out, x), axis)
    target = array_namespace(x).empty_like(rows) if within is None else within
    _refuse_unless_summed(x, softmax_rows(rows, target))
    if out is None:
        return _unrows(target, x, axis)
    if within is None:
        out[...] = _unrows(target, x, axis)
    return out


def logsumexp(x: Any, *, axis: int = -1) -> Array:
    r"""Logarithm of the sum of exponentials along an axis.

    .. math:: \operatorname{logsumexp}(x) = \log \sum_k e^{x_k}

    Parameters
    ----------
    x : array_like, real, at least 1-D
        Entries of any finite size, or ``-inf``.
    axis : int, default=-1
        The axis to sum over.

    Returns
    -------
    array
        The shape of `x` without `axis` (0-d for a 1-D `x`); float32 for float32, else float64. A slice that is
        ``-inf`` throughout gives ``-inf``.

    Raises
    ------
    TypeError
        If `x` is complex, an object array or text, or `axis` is no integer.
    ValueError
        If `x` holds NaN or ``+inf``, is 0-d or empty along `axis`, or has another floating dtype.

    Notes
    -----
    Under Numba `x` is read once [1]_.

    References
    ----------
    .. [1] M. Dukhan and A. Ablavatski, "The Two-Pass Softmax Algorithm", IPDPSW 2020, Algorithm 3.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.special import logsumexp
    >>> logsumexp(np.full((2, 4), 1000.0)) - 1000
    array([1.38629436, 1.38629436])
    """
    x = as_floating(x, "x", infinite="unchecked")  # NaN and +inf show in the sums; looking would cost a pass
    axis = _axis_of(x, axis)
    result = logsumexp_rows(_rows(x, axis))
    _refuse_unless_summed(x, result)
    return array_namespace(x).reshape(result, x.shape[:axis] + x.shape[axis + 1 :])


def _axis_of(x: Array, axis: Any) -> int:
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension; got a 0-d array")
    axis = as_count(axis, "axis", minimum=-x.ndim)
    if axis >= x.ndim:
        raise ValueError(f"axis must be below {x.ndim}, the number of dimensions of x; got {axis}")
    if x.shape[axis] == 0:
        raise ValueError(f"x must not be empty along axis {axis}; got shape {tuple(x.shape)}")
    return axis % x.ndim


def _rows(x: Array, axis: int) -> Array:
    """`x` as a 2-D array whose rows run along `axis`; a view where the layout allows."""
    xp = array_namespace(x)
    return xp.reshape(xp.moveaxis(x, axis, -1), _rows_shape(x, axis))


def _rows_within(out: Array, axis: int) -> Array | None:
    """The same, surely a view; None where there is none."""
    xp = array_namespace(out)
    try:
        return xp.reshape(xp.moveaxis(out, axis, -1), _rows_shape(out, axis), copy=False)
    except (ValueError, AttributeError):  # the standard asks for the first, array-api-strict raises the second
        return None


def _rows_shape(x: Array, axis: int) -> tuple[int, int]:
    return math.prod(x.shape[:axis] + x.shape[axis + 1 :]), x.shape[axis]


def _unrows(rows: Array, x: Array, axis: int) -> Array:
    """`rows` in the shape of `x`."""
    xp = array_namespace(x)
    return xp.moveaxis(xp.reshape(rows, x.shape[:axis] + x.shape[axis + 1 :] + (x.shape[axis],)), -1, axis)


def _refuse_unless_summed(x: Array, sums: Array) -> None:
    xp = array_namespace(x)
    if bool(xp.any(xp.isnan(sums))):
        count = int(xp.count_nonzero(xp.isnan(x) | (x == xp.inf)))
        raise ValueError(f"x must be free of nan and +inf; {count} of its {x.size} entries are not")


@dispatchable
def softmax_rows(x: Array, out: Array) -> Array:
    """Write the softmax of each row of `x` to `out` and return the rows' logsumexp.

    Parameters
    ----------
    x : (n, m) array
        Not empty along its rows. Unchecked otherwise.
    out : (n, m) array
        Disjoint from `x`, or `x` itself. Left as it was if some row holds NaN or ``+inf``.

    Returns
    -------
    (n,) array
        As from ``logsumexp_rows``.
    """
    xp = array_namespace(x)
    terms, total, result = _summed(x)
    if not bool(xp.any(xp.isnan(result))):
        out[...] = terms / xp.where(total > 0, total, xp.ones_like(total))[:, None]
    return result


@dispatchable
def logsumexp_rows(x: Array) -> Array:
    """The logsumexp of each row of `x`.

    Parameters
    ----------
    x : (n, m) array
        Not empty along its rows. Unchecked otherwise.

    Returns
    -------
    (n,) array
        NaN for a row that holds NaN or ``+inf``, ``-inf`` for one that is ``-inf`` throughout.
    """
    return _summed(x)[2]


# infinities are told apart by what becomes of them, and need no warning
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _summed(x: Array) -> tuple[Array, Array, Array]:
    """``exp(x - top)`` for the row maxima `top`, the row sums of that, and the rows' logsumexp."""
    xp = array_namespace(x)
    top = xp.max(x, axis=1)
    top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
    terms = xp.exp(x - top[:, None])
    total = xp.sum(terms, axis=1)
    return terms, total, top + xp.log(total)
