"""Losses of outputs (m, C) against labels; for each example, or their weighted sum or mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from numcore.arrays import as_choice, as_number
from numcore.autodiff import rules
from numcore.autodiff.boxes import Box, namespace, unboxed
from numcore.autodiff.functions import norm, where

__all__ = ["bce_with_logits", "huber", "softmax_cross_entropy", "squared_error", "stablemax_cross_entropy", "z_loss"]


def softmax_cross_entropy(
    outputs: Any, y: Any, *, reduction: str = "mean", sample_weight: Any = None, label_smoothing: float = 0.0
) -> Any:
    r"""Cross-entropy of the softmax of `outputs`.

    .. math:: \ell(z, y) = \log \sum_k e^{z_k} - z_y

    Parameters
    ----------
    outputs : (m, C) array
        Logits of any finite size; ``-inf`` is legal for a class that is not the label.
    y : (m,) array of int, or (m, C) array
        Labels from 0 to C - 1, or probabilities whose rows sum to 1.
    reduction : {"mean", "sum", "none"}
        "none" gives (m,) losses.
    sample_weight : (m,) array, optional
        Non-negative and not all 0; the mean divides by their sum.
    label_smoothing : float in [0, 1)
        This share of each target is spread evenly over all classes.

    Returns
    -------
    scalar or (m,) array

    Raises
    ------
    ValueError
        If the batch is empty, shapes do not match, or labels, probabilities or weights are not legal.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> float(ad.losses.softmax_cross_entropy(np.array([[0.0, 0.0], [1e4, -1e4]]), [0, 0]))
    0.34657359027997264
    """
    outputs = batch(outputs)
    target = targets(y, outputs, label_smoothing)
    return reduced(rules.cross_entropy(outputs, target), reduction, sample_weight)


def stablemax_cross_entropy(outputs: Any, y: Any, *, reduction: str = "mean", sample_weight: Any = None) -> Any:
    r"""Cross-entropy of the stablemax of `outputs`, which has no exponential to saturate.

    .. math:: \ell(x, y) = \log \sum_k s(x_k) - \log s(x_y), \qquad
        s(x) = x + 1 \text{ for } x \ge 0, \quad 1 / (1 - x) \text{ for } x < 0

    Parameters
    ----------
    outputs, y, reduction, sample_weight
        As for :func:`softmax_cross_entropy`.

    Returns
    -------
    scalar or (m,) array

    References
    ----------
    L. Prieto, M. Barsbey, P. Mediano and T. Birdal, "Grokking at the Edge of Numerical Stability", ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> round(float(ad.losses.stablemax_cross_entropy(np.array([[1.0, 0.0]]), [0])), 6)  # s = 2, 1
    0.405465
    """
    outputs = batch(outputs)
    target = targets(y, outputs)
    # log s(x) = sign(x) log(1 + |x|)
    return reduced(rules.cross_entropy(rules.signed_log1p(outputs), target), reduction, sample_weight)


def z_loss(
    outputs: Any, y: Any, *, reduction: str = "mean", sample_weight: Any = None, a: float = 1.0, b: float | None = None
) -> Any:
    r"""Softplus of how far the label's z-score lies below `b`: unchanged when outputs are shifted or scaled.

    .. math:: \ell(o, y) = \frac1a \log\bigl(1 + e^{a (b - z_y)}\bigr), \qquad z = (o - \mu) / \sigma

    Parameters
    ----------
    outputs : (m, C) array
        At least two classes. `\mu` and `\sigma` are each row's mean and (biased) standard deviation.
    y, reduction, sample_weight
        As for :func:`softmax_cross_entropy`.
    a : float, default=1.0
        How sharply the loss bends.
    b : float, optional
        The z-score to reach; by default the largest that there can be, ``sqrt(C - 1)``.

    Returns
    -------
    scalar or (m,) array
        A row whose standard deviation is below ``1e-12 max(1, |mu|)`` counts as z = 0 and has gradient 0.

    References
    ----------
    A. de Brebisson and P. Vincent, "The Z-loss: a shift and scale invariant classification loss belonging to the
    Spherical Family", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> o = np.array([[3.0, 1.0, 2.0]])
    >>> bool(np.isclose(ad.losses.z_loss(o, [0]), ad.losses.z_loss(10 * o + 5, [0])))
    True
    """
    outputs = batch(outputs)
    target = targets(y, outputs)
    n_classes = outputs.shape[-1]
    if n_classes < 2:
        raise ValueError(f"outputs must have at least 2 classes; got shape {tuple(outputs.shape)}")
    a = as_number(a, "a", above=0.0)
    b = math.sqrt(n_classes - 1) if b is None else as_number(b, "b")
    mu = rules.mean(outputs, -1, True)
    centred = outputs - mu
    xp = namespace(unboxed(outputs))
    top = xp.max(abs(unboxed(centred)), axis=-1, keepdims=True)
    centred = centred / xp.where(top > 0, top, 1.0)  # which z does not see, and squares do not overflow
    sigma = norm(centred, axis=-1, keepdims=True) / math.sqrt(n_classes)
    flat = unboxed(sigma) * top < 1e-12 * xp.maximum(abs(unboxed(mu)), 1.0)
    z = where(flat, 0.0, centred / where(flat, 1.0, sigma))
    return reduced(rules.softplus(b - rules.sum(z * target, -1), a), reduction, sample_weight)


def bce_with_logits(outputs: Any, y: Any, *, reduction: str = "mean", sample_weight: Any = None) -> Any:
    r"""Binary cross-entropy of the sigmoid of `outputs`, summed over the outputs of an example.

    .. math:: \ell(z, y) = \sum_k \max(z_k, 0) - z_k y_k + \log(1 + e^{-|z_k|})

    Parameters
    ----------
    outputs : (m,) or (m, k) array
        Logits.
    y : array
        In the shape of `outputs` (or (m,) for one output), between 0 and 1.
    reduction, sample_weight
        As for :func:`softmax_cross_entropy`.

    Returns
    -------
    scalar or (m,) array

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> float(ad.losses.bce_with_logits(np.array([0.0, 1000.0]), [0, 1]))
    0.34657359027997264
    """
    outputs = batch(outputs)
    y = responses(y, outputs)
    bad = int(np.count_nonzero(~((y >= 0) & (y <= 1)))) if isinstance(y, np.ndarray) else 0
    if bad:
        raise ValueError(f"y must lie in [0, 1]; {bad} of its {y.size} entries do not")
    return reduced(_per_example(rules.softplus(outputs) - outputs * y), reduction, sample_weight)


def squared_error(outputs: Any, y: Any, *, reduction: str = "mean", sample_weight: Any = None) -> Any:
    r"""Half the squared distance, :math:`\ell(z, y) = \tfrac12 \lVert z - y \rVert^2`.

    Parameters
    ----------
    outputs : (m,) or (m, k) array
    y : array
        In the shape of `outputs` (or (m,) for one output).
    reduction, sample_weight
        As for :func:`softmax_cross_entropy`.

    Returns
    -------
    scalar or (m,) array

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> float(ad.losses.squared_error(np.array([[1.0, 2.0]]), [[0.0, 0.0]]))
    2.5
    """
    outputs = batch(outputs)
    return reduced(_per_example(0.5 * rules.square(outputs - responses(y, outputs))), reduction, sample_weight)


def huber(outputs: Any, y: Any, *, reduction: str = "mean", sample_weight: Any = None, delta: float = 1.0) -> Any:
    r"""Half the square of a residual up to `delta`, linear beyond; summed over the outputs of an example.

    Parameters
    ----------
    outputs, y, reduction, sample_weight
        As for :func:`squared_error`.
    delta : float, default=1.0
        Where the two meet.

    Returns
    -------
    scalar or (m,) array

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.losses.huber(np.array([0.5, 3.0]), [0.0, 0.0], reduction="none")
    array([0.125, 2.5  ])
    """
    delta = as_number(delta, "delta", above=0.0)
    outputs = batch(outputs)
    residual = outputs - responses(y, outputs)
    size = rules.absolute(residual)
    each = where(unboxed(size) <= delta, 0.5 * rules.square(residual), delta * (size - 0.5 * delta))
    return reduced(_per_example(each), reduction, sample_weight)


BY_NAME: dict[str, Callable[..., Any]] = {
    "softmax": softmax_cross_entropy,
    "stablemax": stablemax_cross_entropy,
    "z": z_loss,
    "bce": bce_with_logits,
    "squared": squared_error,
    "huber": huber,
}


def by_name(loss: Any) -> Callable[[Any, Any], Any]:
    """The function ``(outputs, y) -> (m,)`` that `loss`, a name or such a function, stands for."""
    if callable(loss):
        return loss
    chosen = BY_NAME[as_choice(loss, "loss", BY_NAME)]
    return lambda outputs, y: chosen(outputs, y, reduction="none")


def targets(y: Any, outputs: Any, smoothing: float = 0.0) -> Any:
    """Labels or probabilities as checked probabilities (m, C) in the dtype of `outputs`."""
    smoothing = as_number(smoothing, "label_smoothing", above=0.0, below=1.0, closed=True)
    if len(outputs.shape) != 2:
        raise ValueError(f"outputs must be 2-D, one row an example; got shape {tuple(outputs.shape)}")
    m, n_classes = outputs.shape
    xp = namespace(unboxed(outputs))
    target: Any
    if isinstance(y, Box):
        target = y
    else:
        y = y if hasattr(y, "dtype") else np.asarray(y)
        if len(y.shape) == 2:
            target = _probabilities(xp, y, m, n_classes, outputs.dtype)
        else:
            labels = check_labels(y, m, n_classes)
            target = xp.asarray(labels[:, None] == xp.arange(n_classes)[None, :], dtype=outputs.dtype)
    return (1 - smoothing) * target + smoothing / n_classes if smoothing else target


def check_labels(y: Any, m: int, n_classes: int) -> Any:
    """`y`, checked to be `m` integers from 0 to `n_classes` - 1."""
    xp = namespace(y)
    integral = y.dtype.kind in "iu" if xp is np else xp.isdtype(y.dtype, "integral")
    if not integral:
        raise ValueError(f"y must be integer labels (or probabilities, one row an example); got dtype {y.dtype}")
    if tuple(y.shape) != (m,):
        raise ValueError(f"y must have length {m}, one label for each row of outputs; got shape {tuple(y.shape)}")
    if m and (xp.min(y) < 0 or xp.max(y) >= n_classes):
        bad = int(xp.sum(xp.asarray((y < 0) | (y >= n_classes), dtype=xp.int64)))
        raise ValueError(f"y must hold labels from 0 to {n_classes - 1}; {bad} of its {m} entries do not")
    return y


def _probabilities(xp: Any, y: Any, m: int, n_classes: int, dtype: Any) -> Any:
    if tuple(y.shape) != (m, n_classes):
        raise ValueError(f"y must have shape ({m}, {n_classes}) as outputs have; got {tuple(y.shape)}")
    y = xp.asarray(real(y, "y"), dtype=dtype)
    off = ~(abs(xp.sum(y, axis=1) - 1) <= 1e-3) | xp.any(y < 0, axis=1)
    count = int(xp.sum(xp.asarray(off, dtype=xp.int64)))
    if count:
        raise ValueError(f"rows of y must be probabilities that sum to 1 (to 1e-3); {count} of {m} are not")
    return y


def responses(y: Any, outputs: Any) -> Any:
    """Real responses in the shape and dtype of `outputs`."""
    if isinstance(y, Box):
        return y
    xp = namespace(unboxed(outputs))
    y = real(y, "y")
    shape = tuple(outputs.shape)
    if tuple(y.shape) != shape:
        if shape != (*y.shape, 1):
            raise ValueError(f"y must have shape {shape} as outputs have; got {tuple(y.shape)}")
        y = xp.reshape(y, shape)
    return xp.asarray(y, dtype=outputs.dtype)


def batch(outputs: Any) -> Any:
    """`outputs`, checked to hold examples, as an array of float."""
    if not isinstance(outputs, Box):
        outputs = real(outputs, "outputs")
        xp = namespace(outputs)
        if outputs.dtype not in (xp.float32, xp.float64):
            outputs = xp.asarray(outputs, dtype=xp.float64)
    if len(outputs.shape) == 0 or outputs.shape[0] == 0:
        raise ValueError(f"outputs must hold at least one example; got shape {tuple(outputs.shape)}")
    return outputs


def real(x: Any, name: str) -> Any:
    """`x`, checked to be an array of real numbers, which may be infinite or NaN."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    if getattr(x.dtype, "kind", "f") not in "fiub":
        raise TypeError(f"{name} must be real numbers; got dtype {x.dtype}")
    return x


def _per_example(each: Any) -> Any:
    return each if len(each.shape) == 1 else rules.sum(each, tuple(range(1, len(each.shape))))


def reduced(each: Any, reduction: str, sample_weight: Any) -> Any:
    """The losses (m,), weighted and summed up as asked."""
    as_choice(reduction, "reduction", ("mean", "sum", "none"))
    if sample_weight is None:
        return rules.mean(each) if reduction == "mean" else rules.sum(each) if reduction == "sum" else each
    weight = check_weight(sample_weight, each)
    total = each * weight
    if reduction == "none":
        return total
    total = rules.sum(total)
    return total / namespace(weight).sum(weight) if reduction == "mean" else total


def check_weight(sample_weight: Any, each: Any) -> Any:
    """The weights, checked, in the shape and dtype of the losses `each`."""
    xp = namespace(unboxed(each))
    weight = xp.asarray(real(sample_weight, "sample_weight"), dtype=each.dtype)
    if tuple(weight.shape) != tuple(each.shape):
        raise ValueError(f"sample_weight must have shape {tuple(each.shape)}; got {tuple(weight.shape)}")
    bad = int(xp.sum(xp.asarray(~((weight >= 0) & xp.isfinite(weight)), dtype=xp.int64)))
    if bad:
        raise ValueError(f"sample_weight must be non-negative and finite; {bad} of its {weight.size} entries are not")
    if not xp.any(weight > 0):
        raise ValueError("sample_weight must not be 0 throughout")
    return weight
