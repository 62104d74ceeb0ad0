"""Layers as functions: activations, affine maps, normalisation, convolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from numcore.arrays import as_choice, as_number
from numcore.autodiff import rules
from numcore.autodiff._conv import Geometry
from numcore.autodiff.rules import elu, leaky_relu, logsumexp, matmul2, relu, reshape, sigmoid, silu, softmax, tanh

__all__ = [
    "ACTIVATIONS",
    "batch_norm",
    "conv1d",
    "conv2d",
    "elu",
    "gelu",
    "identity",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def identity(x: Any) -> Any:
    """`x` itself."""
    return x


def selu(x: Any) -> Any:
    r""":math:`\lambda x` where positive, :math:`\lambda \alpha (e^x - 1)` elsewhere.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, "Self-Normalizing Neural Networks", NeurIPS 2017, eq. 2.
    """
    return SELU_SCALE * elu(x, SELU_ALPHA)


def gelu(x: Any, approximate: str = "none") -> Any:
    r""":math:`x \Phi(x)` with the normal distribution function, or its approximation by a hyperbolic tangent.

    Parameters
    ----------
    x : array
    approximate : {"none", "tanh"}

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units", 2016.
    """
    if as_choice(approximate, "approximate", ("none", "tanh")) == "none":
        return rules.gelu_exact(x)
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * (x * x)))))


def softplus(x: Any, beta: float = 1.0) -> Any:
    r""":math:`\log(1 + e^{\beta x}) / \beta`, without overflow."""
    return rules.softplus(x, as_number(beta, "beta", above=0.0))


def softsign(x: Any) -> Any:
    """``x / (1 + |x|)``."""
    return x / (1 + rules.absolute(x))


def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of the softmax along an axis, exact also where that underflows."""
    return x - logsumexp(x, axis, True)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, "tanh"),
    "softplus": softplus,
    "silu": silu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softsign": softsign,
}


def activation(name: Any) -> Callable[[Any], Any]:
    """The function that an activation's name, or None, stands for; a callable stands for itself."""
    if name is None:
        return identity
    return name if callable(name) else ACTIVATIONS[as_choice(name, "activation", ACTIVATIONS)]


def linear(x: Any, W: Any, b: Any = None, activation: Any = None) -> Any:
    """``activation(x W + b)``.

    Parameters
    ----------
    x : (..., n_in) array
    W : (n_in, n_out) array
    b : (n_out,) array, optional
    activation : str or callable, optional

    Returns
    -------
    (..., n_out) array

    Raises
    ------
    ValueError
        If the shapes do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.functional.linear(np.array([[1.0, -2.0]]), np.eye(2), np.ones(2), "relu")
    array([[2., 0.]])
    """
    if len(W.shape) != 2 or len(x.shape) < 1 or x.shape[-1] != W.shape[0]:
        raise ValueError(f"x of shape {tuple(x.shape)} does not match W of shape {tuple(W.shape)}")
    if b is not None and tuple(b.shape) != (W.shape[1],):
        raise ValueError(f"b must have shape ({W.shape[1]},); got {tuple(b.shape)}")
    rows = x if len(x.shape) > 1 else reshape(x, (1, -1))
    z = matmul2(rows, W) if b is None else rules.affine(rows, W, b)
    z = ACTIVATIONS[activation](z) if activation in ACTIVATIONS else _activation(activation)(z)
    return z if len(x.shape) > 1 else reshape(z, (-1,))


_activation = activation


def layer_norm(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    """Standardise along the last axis (biased variance), then scale and shift.

    Parameters
    ----------
    x : (..., n) array
    gamma, beta : (n,) array
    eps : float, default=1e-5
        Added to the variance.

    Returns
    -------
    array
        The shape of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.functional.layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), eps=0.0)
    array([[-1.,  1.]])
    """
    return rules.standardize(x, -1, float(eps)) * gamma + beta


def batch_norm(x: Any, gamma: Any, beta: Any, *, mean: Any = None, var: Any = None, eps: float = 1e-5) -> Any:
    """Standardise each channel over the batch, or by given statistics, then scale and shift.

    Parameters
    ----------
    x : (m, c) or (m, c, ...) array
    gamma, beta : (c,) array
    mean, var : (c,) array, optional
        The statistics; without them, those of the batch (biased variance).
    eps : float, default=1e-5
        Added to the variance.

    Returns
    -------
    array
        The shape of `x`.

    Raises
    ------
    ValueError
        If the statistics are to come from a single entry a channel.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.functional.batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), eps=0.0)
    array([[-1.],
           [ 1.]])
    """
    shape = (1, -1) + (1,) * (len(x.shape) - 2)
    if (mean is None) != (var is None):
        raise ValueError(
            f"mean and var must be given both or not at all; {'mean' if mean is None else 'var'} is missing"
        )
    if mean is None:
        axes = channel_axes(x)
        if math.prod(x.shape[k] for k in axes) < 2:
            raise ValueError(f"batch statistics need more than one entry a channel; got shape {tuple(x.shape)}")
        standard = rules.standardize(x, axes, float(eps))
    else:
        standard = (x - reshape(mean, shape)) / reshape(rules.sqrt(var + float(eps)), shape)
    if len(x.shape) == 2:
        return standard * gamma + beta
    return standard * reshape(gamma, shape) + reshape(beta, shape)


def channel_axes(x: Any) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return tuple(k for k in range(len(x.shape)) if k != 1)


def conv2d(x: Any, W: Any, b: Any = None, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    """Cross-correlation of images with filters, as neural nets call convolution.

    Parameters
    ----------
    x : (n, c, h, w) array
    W : (o, c, kh, kw) array
    b : (o,) array, optional
    stride, dilation : int or pair of int
        Steps between places, and between the taps of a filter.
    padding : int, pair of int, "same" or "valid"
        Zeros around the image: this many on each side; "same" as many as keep the size at stride 1; "valid" none.

    Returns
    -------
    (n, o, h', w') array

    Raises
    ------
    ValueError
        If shapes do not match, or the kernel is larger than the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.functional.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))
    array([[[[4., 4.],
             [4., 4.]]]])
    """
    if len(x.shape) != 4 or len(W.shape) != 4 or x.shape[1] != W.shape[1]:
        raise ValueError(
            f"x must be (n, c, h, w) and W (o, c, kh, kw); got shapes {tuple(x.shape)} and {tuple(W.shape)}"
        )
    out = rules.conv2d(x, W, geometry(W.shape[2:], stride, padding, dilation))
    return out if b is None else out + reshape(b, (-1, 1, 1))


def conv1d(x: Any, W: Any, b: Any = None, *, stride: int = 1, padding: Any = 0, dilation: int = 1) -> Any:
    """:func:`conv2d` along one axis: x (n, c, l), W (o, c, k), result (n, o, l').

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.functional.conv1d(np.arange(4.0)[None, None], np.array([[[-1.0, 1.0]]]))
    array([[[1., 1., 1.]]])
    """
    if len(x.shape) != 3 or len(W.shape) != 3 or x.shape[1] != W.shape[1]:
        raise ValueError(f"x must be (n, c, l) and W (o, c, k); got shapes {tuple(x.shape)} and {tuple(W.shape)}")
    flat = geometry_of_line(W.shape[2:], stride, padding, dilation)
    image, filters = reshape(x, (*x.shape[:2], 1, x.shape[2])), reshape(W, (*W.shape[:2], 1, W.shape[2]))
    out = rules.conv2d(image, filters, flat)
    out = reshape(out, (*out.shape[:2], out.shape[3]))
    return out if b is None else out + reshape(b, (-1, 1))


def geometry(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Geometry:
    """The three options as pairs, checked."""
    stride, dilation = _pair(stride, "stride", 1), _pair(dilation, "dilation", 1)
    if isinstance(padding, str):
        if as_choice(padding, "padding", ("same", "valid")) == "valid":
            padding = 0
        else:
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            return Geometry(stride, ((total[0] // 2, -(-total[0] // 2)), (total[1] // 2, -(-total[1] // 2))), dilation)
    rows, columns = _pair(padding, "padding", 0)
    return Geometry(stride, ((rows, rows), (columns, columns)), dilation)


def geometry_of_line(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Geometry:
    """That of images of height 1."""
    padding = padding if isinstance(padding, str) else (0, padding)
    return geometry((1, *kernel), (1, stride), padding, (1, dilation))


def _pair(x: Any, name: str, least: int) -> tuple[int, int]:
    pair = tuple(x) if isinstance(x, (tuple, list)) else (x, x)
    if len(pair) != 2 or any(not isinstance(k, (int, np.integer)) or k < least for k in pair):
        raise ValueError(f"{name} must be an integer of at least {least}, or a pair of such; got {x!r}")
    return int(pair[0]), int(pair[1])
