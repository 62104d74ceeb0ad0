"""Pooling of sequences by a query that is the same for all."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from numcore.arrays import Array, array_namespace, as_floating, as_number
from numcore.special import softmax

__all__ = ["hopfield_pooling"]


def hopfield_pooling(X: Any, query: Any, *, beta: Any = 1.0, mask: Any = None) -> Array:
    r"""One retrieval step in each sequence of a batch: a mean of its rows, weighted by their likeness to a query.

    .. math:: y_b = X_b^\top \operatorname{softmax}(\beta X_b q)

    Parameters
    ----------
    X : (B, L, d) array
        Sequences, or bags, of L rows.
    query : (d,) or (n, d) array
        Static, or learned elsewhere.
    beta : float
        Inverse temperature.
    mask : (B, L) bool array, optional
        False for rows without weight, such as padding.

    Returns
    -------
    (B, d) or (B, n, d) array
        float32 if both are, else float64.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or a sequence has no row left.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021, section 3 ("HopfieldPooling").

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import hopfield_pooling
    >>> bags = np.array([[[1.0, 0.0], [0.0, 4.0]], [[0.0, 2.0], [9.0, 9.0]]])
    >>> hopfield_pooling(bags, [0.0, 5.0], mask=[[True, True], [True, False]]).round(6)
    array([[0., 4.],
           [0., 2.]])
    """
    X = as_floating(X, "X", ndim=3)
    if not X.size:
        raise ValueError(f"X must not be empty; got shape {tuple(X.shape)}")
    q = as_floating(query, "query", ndim=(1, 2), like=X)
    if q.shape[-1] != X.shape[2] or not q.size:
        raise ValueError(f"query must have shape ({X.shape[2]},) or (n, {X.shape[2]}); got {tuple(q.shape)}")
    beta = as_number(beta, "beta", above=0)
    xp = array_namespace(X, q)
    mask = _as_mask(mask, X)
    rows = q[None, :] if q.ndim == 1 else q
    dtype = xp.result_type(X, rows)
    X = xp.astype(X, dtype, copy=False)
    S = xp.matmul(xp.astype(rows, dtype, copy=False), xp.matrix_transpose(X))
    if mask is not None:
        S = xp.where(mask[:, None, :], S, -xp.inf)
    means = xp.matmul(softmax(_scaled(S, beta)), X)
    return means[:, 0, :] if q.ndim == 1 else means


def _scaled(S: Array, beta: float) -> Array:
    """``beta S`` but for a number a row, which keeps it in range."""
    xp = array_namespace(S)
    with np.errstate(over="ignore"):  # far below the largest, where the weight is 0
        return (S - xp.max(S, axis=-1, keepdims=True)) * beta


def _as_mask(mask: Any, X: Array) -> Array | None:
    if mask is None:
        return None
    xp, shape = array_namespace(X), tuple(X.shape[:2])
    mask = xp.asarray(mask, device=device(X))
    if mask.dtype != xp.bool or tuple(mask.shape) != shape:
        raise ValueError(f"mask must be a bool array of shape {shape}; got {mask.dtype} of shape {tuple(mask.shape)}")
    empty = int(xp.count_nonzero(~xp.any(mask, axis=1)))
    if empty:
        raise ValueError(f"mask must leave a row to each sequence; {empty} of {shape[0]} are False throughout")
    return mask
