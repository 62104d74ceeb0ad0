"""What the primitives compute on plain arrays, where that takes more than a name: stable forms, and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from numcore.arrays import to_numpy
from numcore.autodiff.boxes import NUMPY, namespace

STANDARD = {
    "absolute": "abs",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "power": "pow",
}
"""The array-API standard's names where NumPy has always had others."""


def by_name(name: str) -> Callable[..., Any]:
    """NumPy's function of this name, or on other arrays the standard's."""
    own, standard = getattr(np, name), STANDARD.get(name, name)

    def fun(*args: Any) -> Any:
        if type(args[0]) in NUMPY:
            return own(*args)
        return getattr(namespace(args[0]), standard)(*args)

    return fun


def from_scipy(name: str) -> Callable[[Any], Any]:
    """SciPy's special function of this name; arrays of other libraries travel there and back."""
    own = getattr(scipy.special, name)

    def fun(x: Any) -> Any:
        xp = namespace(x)
        return own(x) if xp is np else xp.asarray(own(to_numpy(x)))

    return fun


def logaddexp(x: Any, y: Any) -> Any:
    """``log(exp(x) + exp(y))``."""
    xp = namespace(x if type(x) not in NUMPY else y)
    return xp.logaddexp(x, y)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``; the exponential is always of a negative number."""
    xp = namespace(x)
    e = xp.exp(-abs(x))
    return xp.where(x >= 0, 1.0, e) / (1 + e)


def softplus(x: Any, beta: float = 1.0) -> Any:
    """``log(1 + exp(beta x)) / beta``."""
    xp = namespace(x)
    z = beta * x
    return (xp.maximum(z, 0.0) + xp.log1p(xp.exp(-abs(z)))) / beta


def signed_log1p(x: Any) -> Any:
    """``sign(x) log(1 + |x|)``."""
    xp = namespace(x)
    return xp.sign(x) * xp.log1p(abs(x))


def relu(x: Any) -> Any:
    """``max(x, 0)``."""
    return namespace(x).maximum(x, 0.0)


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """`x` where positive, ``slope * x`` elsewhere."""
    return namespace(x).where(x > 0, x, slope * x)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where positive, ``alpha (exp(x) - 1)`` elsewhere."""
    xp = namespace(x)
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0.0)))


def select(a: Any, b: Any, condition: Any) -> Any:
    """`a` where the condition holds, `b` elsewhere."""
    return namespace(condition).where(condition, a, b)


def kept_shape(shape: Any, axis: Any) -> tuple[int, ...]:
    """`shape` with length 1 along the axes that a reduction sums over."""
    if axis is None:
        return (1,) * len(shape)
    axes = {k % len(shape) for k in (axis if isinstance(axis, tuple) else (axis,))}
    return tuple(1 if k in axes else n for k, n in enumerate(shape))


def count(shape: Any, axis: Any) -> int:
    """How many entries go into one entry of the reduction."""
    return math.prod(n for n, kept in zip(shape, kept_shape(shape, axis), strict=True) if kept == 1)


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A001
    """Sum over one axis, several, or all."""
    if type(x) is np.ndarray and not keepdims and x.ndim == 2 and axis in (0, (0,)) and x.size > 256:
        return np.ones(len(x), x.dtype) @ x  # BLAS adds rows about twice as fast
    return namespace(x).sum(x, axis=axis, keepdims=keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean over one axis, several, or all."""
    return namespace(x).mean(x, axis=axis, keepdims=keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product over one axis, several, or all."""
    return namespace(x).prod(x, axis=axis, keepdims=keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A001
    """Maximum over one axis, several, or all; ties share the derivative equally."""
    return namespace(x).max(x, axis=axis, keepdims=keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A001
    """Minimum over one axis, several, or all; ties share the derivative equally."""
    return namespace(x).min(x, axis=axis, keepdims=keepdims)


def ties(x: Any, out: Any, axis: Any) -> Any:
    """The weights ``1 / k`` at the `k` entries that are the extremum."""
    xp = namespace(x)
    hit = (
        xp.astype(x == xp.reshape(out, kept_shape(x.shape, axis)), x.dtype)
        if xp is not np
        else (x == out.reshape(kept_shape(x.shape, axis))).astype(x.dtype)
    )
    return hit / xp.sum(hit, axis=axis, keepdims=True)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """``log(sum(exp(x)))`` over one axis, several, or all, for entries of any size."""
    xp = namespace(x)
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # log 0 = -inf is meant
        out = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else xp.squeeze(out, axis=_axes(x, axis))


def softmax(x: Any, axis: int = -1) -> Any:
    """Exponentials scaled to sum to one along `axis`."""
    xp = namespace(x)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def _axes(x: Any, axis: Any) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


def norm2(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The square root of the sum of squares; its derivative at 0 is taken to be 0."""
    xp = namespace(x)
    return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))


def cumsum(x: Any, axis: Any = None) -> Any:
    """Running sums along an axis, or of all entries in C order."""
    xp = namespace(x)
    if xp is np:
        return np.cumsum(x, axis=axis)
    return xp.cumulative_sum(xp.reshape(x, (-1,)) if axis is None else x, axis=0 if axis is None else axis)


def transpose(x: Any, axes: Any = None) -> Any:
    """Axes in another order; reversed by default."""
    xp = namespace(x)
    axes = tuple(range(x.ndim))[::-1] if axes is None else tuple(axes)
    return np.transpose(x, axes) if xp is np else xp.permute_dims(x, axes)


def put(x: Any, v: Any, key: Any) -> Any:
    """A copy of `x` with `v` at `key`."""
    xp = namespace(x)
    out = np.array(x) if xp is np else xp.asarray(x, copy=True)
    out[key] = v
    return out


def scatter(x: Any, key: Any, shape: Any) -> Any:
    """Zeros with `x` added at `key`, where indices may repeat."""
    xp = namespace(x)
    out = xp.zeros(shape, dtype=x.dtype)
    if is_basic(key):
        out[key] = x
    elif len(shape) == 1 and type(key) is np.ndarray and key.dtype.kind in "iu" and x.dtype == np.float64:
        return np.bincount((key % shape[0]).ravel(), np.ravel(x), minlength=shape[0])
    else:
        np.add.at(out, key, x)
    return out


def is_basic(key: Any) -> bool:
    """Whether indexing by `key` gives a view."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(
        part is None or part is Ellipsis or (isinstance(part, (int, np.integer, slice)) and not isinstance(part, bool))
        for part in parts
    )


def pad(x: Any, pad_width: Any) -> Any:
    """`x` within a border of zeros."""
    xp = namespace(x)
    if xp is np:
        return np.pad(x, pad_width)
    out = xp.zeros(tuple(n + a + b for n, (a, b) in zip(x.shape, pad_width, strict=True)), dtype=x.dtype)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pad_width, strict=True))] = x
    return out


def diag(x: Any, k: int = 0) -> Any:
    """The matrix with `x` on its `k`-th diagonal, or that diagonal of a matrix."""
    return np.diag(x, k)


def affine(x: Any, W: Any, b: Any) -> Any:
    """``x W + b``."""
    out = x @ W
    if type(out) is np.ndarray and getattr(b, "dtype", None) == out.dtype:
        out += b
        return out
    return out + b


def cross_entropy(z: Any, target: Any) -> Any:
    """``sum_k target_k (logsumexp(z) - z_k)`` along the last axis; ``-inf`` is legal where the target is 0."""
    xp = namespace(z)
    hit = xp.where(target != 0, z, 0.0)
    return logsumexp(z, axis=-1) * xp.sum(target, axis=-1) - xp.sum(target * hit, axis=-1)


def standardize(x: Any, axes: Any, eps: float) -> Any:
    """``(x - mean) / sqrt(variance + eps)`` over `axes`."""
    xp = namespace(x)
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + eps)


def logdet(A: Any) -> Any:
    """``log |det A|``."""
    return np.linalg.slogdet(A)[1]


def eigh_stack(A: Any) -> Any:
    """Eigenvalues in the first row, eigenvectors in the columns below."""
    w, V = np.linalg.eigh(A)
    return np.concatenate([w[..., None, :], V], axis=-2)
