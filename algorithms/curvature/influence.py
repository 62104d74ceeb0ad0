"""Influence functions: what a training example's removal does to the test loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numcore.arrays import Array, as_count, as_floating, to_numpy

__all__ = ["influence"]


def influence(
    train_grads: Any,
    test_grads: Any,
    solve: Callable[[Any], Any],
    *,
    n_train: int | None = None,
    leverage: Any = False,
) -> np.ndarray[Any, Any]:
    r"""The predicted change of each test loss by the removal of each training example.

    The parameters minimise the mean loss of n examples, of Hessian H. Without example i they move by about
    :math:`\frac1n H^{-1} g_i`, and the loss of test example t changes by about

    .. math:: \frac1n\, g_t^T H^{-1} g_i .

    Parameters
    ----------
    train_grads : (k, d) array_like, or an operator such as a PerExampleJacobian
        Gradients g_i of the losses of the training examples asked about, at the minimum.
    test_grads : (n_test, d) array_like
        Gradients g_t of whatever is asked about: test losses, or predictions.
    solve : callable
        ``solve(X)`` gives :math:`H^{-1} X` for a (d, n_test) matrix, such as ``EmpiricalFisher(G).solve``. Called once
        with all test gradients.
    n_train : int, optional
        n; k by default.
    leverage : bool or (k,) array_like
        Divide by :math:`1 - h_{ii}`, which is exact in linear least squares: there removal takes
        :math:`\frac1n x_i x_i^T` out of H, and :math:`h_{ii} = \frac1n x_i^T H^{-1} x_i`. An array gives these
        leverages. True takes them from the rows of `train_grads`, which then have to be the :math:`x_i` themselves, the
        gradients of the residuals; multiply row i of the result by residual i.

    Returns
    -------
    (k, n_test) array

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, entries are not finite, `solve` does not return what it should, or a leverage is not in
        [0, 1).

    Notes
    -----
    The Hessian is that of the *mean* loss, with its regularisation. For losses :math:`\frac12 r_i^2` with residuals
    r = X theta - y, ``H = X.T @ X / n`` and :math:`g_i = r_i x_i`. Of :math:`g_i` alone the leverage cannot be told,
    since it does not depend on :math:`r_i`. The change is exact for what is linear in the parameters, such as
    predictions; a squared test loss changes by :math:`\frac12 (x_t^T \Delta\theta)^2` more.

    References
    ----------
    .. [1] P. W. Koh, P. Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017, equations (1)
       and (2).
    .. [2] R. D. Cook, S. Weisberg, "Residuals and Influence in Regression", 1982, for the leverage.

    Examples
    --------
    The mean of numbers: the loss is half the squared distance, the Hessian 1. Without the 5 the mean falls from 2 to 1.

    >>> import numpy as np
    >>> from numcore.algorithms.curvature import influence
    >>> y = np.array([0.0, 1.0, 2.0, 5.0])
    >>> g = (y.mean() - y)[:, None]
    >>> influence(g, [[1.0]], lambda X: X, leverage=np.full(4, 1 / 4)).ravel()
    array([ 0.66666667,  0.33333333,  0.        , -1.        ])
    """
    train = _as_rows(train_grads)
    k, d = train.shape
    n = as_count(k if n_train is None else n_train, "n_train")
    test = to_numpy(as_floating(test_grads, "test_grads", shape=(None, d)))
    if not callable(solve):
        raise TypeError(f"solve must be callable; got {type(solve).__name__}")
    if not isinstance(leverage, (bool, np.bool_)):
        h = _as_leverages(to_numpy(as_floating(leverage, "leverage", shape=(k,))), "leverage holds")
    elif leverage:
        rows = np.asarray(train.to_array() if hasattr(train, "to_array") else train)
        h = np.einsum("ij,ji->i", rows, _solved(solve, rows.T)) / n
        _as_leverages(h, "leverage=True needs train_grads to be the gradients of residuals; they give")
    else:
        h = np.zeros(k)
    change = np.asarray(train @ _solved(solve, test.T)) / n
    return change / (1 - h).astype(change.dtype)[:, None]


def _as_rows(grads: Any) -> Any:
    if hasattr(grads, "matvec") and hasattr(grads, "shape"):
        return grads
    return to_numpy(as_floating(grads, "train_grads", ndim=2))


def _solved(solve: Callable[[Any], Any], X: Array) -> Array:
    """``H^-1 X``, checked."""
    return to_numpy(as_floating(solve(X), "solve(X)", shape=X.shape))


def _as_leverages(h: Array, what: str) -> Array:
    outside = np.count_nonzero(~((h >= -1e-12) & (h < 1)))
    if outside:
        raise ValueError(f"{what} {outside} leverages outside [0, 1), from {h.min():.3g} to {h.max():.3g}")
    return h
