"""Softmax and its kin, dense and sparse, along any axis, for entries of any size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import device

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_out
from numcore.dispatch import dispatchable
from numcore.prox._loops import simplex_rows

__all__ = ["entmax15", "logsumexp", "softmax", "sparsemax"]


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


def sparsemax(x: Any, *, axis: int = -1, out: Array | None = None) -> Array:
    r"""The nearest point of the simplex along an axis: weights of sum one, many of them 0.

    .. math:: \operatorname{sparsemax}(x) = \arg\min_{p \ge 0,\ \sum p = 1} \lVert p - x \rVert_2

    Parameters
    ----------
    x, axis, out
        As for :func:`softmax`.

    Returns
    -------
    array
        As for :func:`softmax`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`softmax`.

    References
    ----------
    .. [1] A. Martins and R. Astudillo, "From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label
       Classification", ICML 2016, Algorithm 1.

    Examples
    --------
    >>> from numcore.special import sparsemax
    >>> sparsemax([1.0, 0.8, 0.1, -0.5])
    array([0.6, 0.4, 0. , 0. ])
    """
    return _sparse(_simplex_of_mass_one, x, axis, out)


def entmax15(x: Any, *, axis: int = -1, out: Array | None = None) -> Array:
    r"""The 1.5-entmax along an axis: between :func:`softmax` and :func:`sparsemax`.

    .. math:: \operatorname{entmax}_{1.5}(x)_j = \max(x_j / 2 - \tau, 0)^2

    with the tau for which they sum to one. It maximises ``<p, x> + 4/3 sum (p_j - p_j^{3/2})`` over the simplex.

    Parameters
    ----------
    x, axis, out
        As for :func:`softmax`.

    Returns
    -------
    array
        As for :func:`softmax`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`softmax`.

    References
    ----------
    .. [1] B. Peters, V. Niculae and A. Martins, "Sparse Sequence-to-Sequence Models", ACL 2019, Algorithm 2.

    Examples
    --------
    >>> from numcore.special import entmax15
    >>> entmax15([1.0, 0.8, 0.1, -0.5]).round(4)
    array([0.5292, 0.3937, 0.077 , 0.    ])
    """
    return _sparse(entmax15_rows, x, axis, out)


def _sparse(loop: Any, x: Any, axis: int, out: Array | None) -> Array:
    x = as_floating(x, "x", infinite="allow")
    axis = _axis_of(x, axis)
    xp = array_namespace(x)
    too_large = int(xp.count_nonzero(x == xp.inf))
    if too_large:
        raise ValueError(f"x must be free of nan and +inf; {too_large} of its {x.size} entries are not")
    rows = _rows(x, axis)
    masked = xp.max(rows, axis=1) == -xp.inf
    empty = bool(xp.any(masked))
    target = None if out is None else as_out(out, x)
    result = loop(xp.where(masked[:, None], xp.zeros_like(rows), rows) if empty else rows, xp.empty_like(rows))
    result = _unrows(xp.where(masked[:, None], xp.zeros_like(rows), result) if empty else result, x, axis)
    if target is None:
        return result
    target[...] = result
    return target


def _simplex_of_mass_one(x: Array, out: Array) -> Array:
    return simplex_rows(x, array_namespace(x).ones(x.shape[0], dtype=array_namespace(x).float64, device=device(x)), out)


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


@dispatchable
def entmax15_rows(x: Array, out: Array) -> Array:
    """Write the 1.5-entmax of each row of `x` to `out`, and return it.

    Parameters
    ----------
    x : (n, m) array
        Not empty along its rows, each of which has a finite largest entry. Unchecked otherwise.
    out : (n, m) array
        May be `x` itself.
    """
    xp = array_namespace(x)
    with np.errstate(over="ignore"):
        z = xp.astype(x, xp.float64)
        z = z / 2 - xp.max(z, axis=1, keepdims=True) / 2
    # tau is at least -1: what lies well below it becomes 0, and could overflow the sums
    z = xp.maximum(z, -2 * xp.ones_like(z))
    u = xp.sort(z, axis=1, descending=True)
    k = xp.arange(1, z.shape[1] + 1, dtype=xp.float64, device=device(z))
    mean = xp.cumulative_sum(u, axis=1) / k
    spread = (1 - (xp.cumulative_sum(u * u, axis=1) - k * mean * mean)) / k
    tau = mean - xp.sqrt(xp.where(spread > 0, spread, xp.zeros_like(spread)))
    last = xp.sum(xp.astype(tau <= u, xp.int64), axis=1, keepdims=True)
    kept = z - xp.take_along_axis(tau, last - 1, axis=1)
    out[...] = xp.astype(xp.where(kept > 0, kept * kept, xp.zeros_like(kept)), out.dtype)
    return out


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
