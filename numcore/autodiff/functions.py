"""Differentiable functions with NumPy's signatures, put together from the primitives of :mod:`rules`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from string import ascii_letters
from typing import Any, NamedTuple

import numpy as np

from numcore.autodiff import rules
from numcore.autodiff.boxes import Box, unboxed
from numcore.autodiff.rules import (
    _pad,
    _put,
    _select,
    absolute,
    concatenate,
    diag,
    eigh_stack,
    einsum1,
    einsum2,
    getitem,
    logdet,
    matmul2,
    maximum,
    mean,
    minimum,
    multiply,
    norm2,
    reshape,
    solve2,
    sqrt,
    transpose,
)


class Slogdet(NamedTuple):
    """Sign and logarithm of the absolute value of a determinant."""

    sign: Any
    logabsdet: Any


class Eigh(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors in columns."""

    eigenvalues: Any
    eigenvectors: Any


def stop_gradient(x: Any) -> Any:
    """The plain array in `x`: a constant to every differentiation that is under way.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> float(ad.grad(lambda x: x * ad.stop_gradient(x))(3.0))
    3.0
    """
    return unboxed(x)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, `b` elsewhere.

    Notes
    -----
    Both branches are computed, and a branch that is not chosen still contributes 0 times its derivative, which is NaN
    where that is infinite. Make the argument of the branch safe as well: ``where(x > 0, sqrt(where(x > 0, x, 1)), 0)``.
    """
    return _select(a, b, unboxed(condition))


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:  # noqa: A002
    """`x` limited to ``[a_min, a_max]``; the derivative is 1 within the closed interval, 0 outside.

    As in NumPy, the bounds may also be called `min` and `max`.
    """
    low, high = min if a_min is None else a_min, max if a_max is None else a_max
    if isinstance(low, Box) or isinstance(high, Box):
        x = x if low is None else maximum(x, low)
        return x if high is None else minimum(x, high)
    plain = unboxed(x)
    if low is not None:
        x = _select(low, x, plain < low)
    return x if high is None else _select(high, x, plain > high)


def var(x: Any, axis: Any = None, *, ddof: int = 0, keepdims: bool = False) -> Any:
    """Variance over one axis, several, or all."""
    centred = x - mean(x, axis, True)
    size = x.size if axis is None else math.prod(x.shape[k] for k in np.atleast_1d(axis))
    return rules.sum(centred * centred, axis, keepdims) / (size - ddof)


def std(x: Any, axis: Any = None, *, ddof: int = 0, keepdims: bool = False) -> Any:
    """Standard deviation over one axis, several, or all."""
    return sqrt(var(x, axis, ddof=ddof, keepdims=keepdims))


def sort(x: Any) -> Any:
    """The entries of a 1-D array in ascending order."""
    if len(x.shape) != 1:
        raise ValueError(f"x must be 1-D; got shape {x.shape}")
    return getitem(x, np.argsort(unboxed(x), kind="stable"))


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002
    """The norm of a vector, or the Frobenius norm, as :func:`numpy.linalg.norm`; its derivative at 0 is 0."""
    if ord in (None, "fro") or (ord == 2 and (len(x.shape) == 1 or isinstance(axis, int))):
        return norm2(x, axis, keepdims)
    if len(x.shape) > 1 and not isinstance(axis, int):
        raise ValueError(f'ord must be None or "fro" for matrices; got {ord!r}')
    if ord in (math.inf, -math.inf):
        return (rules.max if ord > 0 else rules.min)(absolute(x), axis, keepdims)
    total = rules.sum(absolute(x) ** ord, axis, keepdims)
    zero = unboxed(total) == 0
    return _select(0.0, _select(1.0, total, zero) ** (1 / ord), zero)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    axes = list(range(len(x.shape)))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(x, tuple(axes))


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """One axis moved to another place."""
    axes = list(range(len(x.shape)))
    axes.insert(destination % len(axes), axes.pop(source))
    return transpose(x, tuple(axes))


def ravel_array(x: Any) -> Any:
    """All entries in one vector."""
    return reshape(x, (-1,))


def squeeze(x: Any, axis: Any = None) -> Any:
    """Axes of length 1 left out."""
    n = len(x.shape)
    axes = {k for k in range(n) if x.shape[k] == 1} if axis is None else {int(k) % n for k in np.atleast_1d(axis)}
    if any(x.shape[k] != 1 for k in axes):
        raise ValueError(f"only axes of length 1 can be squeezed; got axis {axis} of shape {x.shape}")
    return reshape(x, tuple(x.shape[k] for k in range(n) if k not in axes))


def expand_dims(x: Any, axis: int) -> Any:
    """A new axis of length 1."""
    shape = list(x.shape)
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 1)
    return reshape(x, tuple(shape))


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Arrays joined along a new axis."""
    return concatenate([expand_dims(_array(x), axis) for x in arrays], axis)


def _array(x: Any) -> Any:
    return np.asarray(x) if type(x) in (int, float, list, tuple) else x


def vstack(arrays: Sequence[Any]) -> Any:
    """Arrays joined along the first axis; vectors count as rows."""
    return concatenate([reshape(x, (1, -1)) if len(np.shape(x)) < 2 else x for x in arrays], 0)


def hstack(arrays: Sequence[Any]) -> Any:
    """Arrays joined along the second axis, vectors along their only one."""
    arrays = [reshape(_array(x), (-1,)) if len(np.shape(x)) == 0 else _array(x) for x in arrays]
    return concatenate(arrays, 0 if len(arrays[0].shape) == 1 else 1)


def index_update(x: Any, idx: Any, v: Any) -> Any:
    """A copy of `x` with `v` at `idx`: what an assignment ``x[idx] = v`` is to values under differentiation.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.index_update(np.zeros(3), 1, 5.0)
    array([0., 5., 0.])
    """
    return _put(x, v, idx)


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Entries at integer indices, along an axis or of all entries in C order."""
    indices = np.asarray(unboxed(indices))
    if axis is None:
        return getitem(reshape(x, (-1,)), indices)
    return getitem(x, (*(slice(None),) * (axis % len(x.shape)), indices))


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    """`x` within a border of a constant."""
    if mode != "constant":
        raise ValueError(f'mode must be "constant"; got {mode!r}')
    widths = tuple((int(a), int(b)) for a, b in np.broadcast_to(pad_width, (len(x.shape), 2)))
    if constant_values == 0:
        return _pad(x, widths)
    border = np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=constant_values)
    return _pad(x, widths) + border


def trace(x: Any) -> Any:
    """The sum of the diagonal of a matrix."""
    return rules.sum(diag(x))


def matmul(x: Any, y: Any) -> Any:
    """The matrix product, as :func:`numpy.matmul`."""
    n, m = len(x.shape), len(y.shape)
    if n == 0 or m == 0:
        raise ValueError("matmul takes arrays of at least one dimension; multiply by a scalar with *")
    if n == 1 and m == 1:
        return rules.sum(x * y) if isinstance(x, Box) or isinstance(y, Box) else x @ y
    out = matmul2(reshape(x, (1, -1)) if n == 1 else x, reshape(y, (-1, 1)) if m == 1 else y)
    if n == 1:
        out = reshape(out, (*out.shape[:-2], out.shape[-1]))
    return reshape(out, out.shape[:-1]) if m == 1 else out


def dot(x: Any, y: Any) -> Any:
    """The dot product, as :func:`numpy.dot`."""
    n, m = len(np.shape(x)), len(np.shape(y))
    if n == 0 or m == 0:
        return multiply(x, y)
    return matmul(x, y) if n <= 2 and m <= 2 else tensordot(x, y, ([n - 1], [m - 2 if m > 1 else 0]))


def outer(x: Any, y: Any) -> Any:
    """All products of an entry of `x` and an entry of `y`."""
    return reshape(x, (-1, 1)) * reshape(y, (1, -1))


def tensordot(x: Any, y: Any, axes: Any = 2) -> Any:
    """Sum over products along pairs of axes, as :func:`numpy.tensordot`."""
    n, m = len(x.shape), len(y.shape)
    if isinstance(axes, int):
        axes = (range(n - axes, n), range(axes))
    over_x, over_y = ([int(k) % size for k in np.atleast_1d(a)] for a, size in zip(axes, (n, m), strict=True))
    left, right = list(ascii_letters[:n]), list(ascii_letters[n : n + m])
    for i, j in zip(over_x, over_y, strict=True):
        right[j] = left[i]
    out = [left[i] for i in range(n) if i not in over_x] + [right[j] for j in range(m) if j not in over_y]
    return einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", x, y)


def kron(x: Any, y: Any) -> Any:
    """The Kronecker product of two arrays with equally many axes."""
    if len(x.shape) != len(y.shape):
        raise ValueError(f"x and y must have equally many axes; got shapes {x.shape} and {y.shape}")
    spread_x = reshape(x, tuple(k for n in x.shape for k in (n, 1)))
    spread_y = reshape(y, tuple(k for n in y.shape for k in (1, n)))
    return reshape(spread_x * spread_y, tuple(n * m for n, m in zip(x.shape, y.shape, strict=True)))


def einsum(subscripts: str, *operands: Any, optimize: Any = True) -> Any:
    """Einstein's summation, as :func:`numpy.einsum` with subscripts in a string; pairs are taken from the left.

    `optimize` is there for calls that come from NumPy; it changes nothing.
    """
    terms, out = _explicit(subscripts, operands)
    arrays = list(operands)
    while len(arrays) > 2:
        later = set(out).union(*terms[2:])
        between = "".join(sorted(set(terms[0] + terms[1]) & later))
        arrays[:2] = [einsum2(arrays[0], arrays[1], f"{terms[0]},{terms[1]}->{between}")]
        terms[:2] = [between]
    if len(arrays) == 1:
        return einsum1(arrays[0], f"{terms[0]}->{out}")
    return einsum2(*arrays, f"{terms[0]},{terms[1]}->{out}")


def _explicit(subscripts: str, operands: Sequence[Any]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, without dots."""
    given, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"subscripts {subscripts!r} name {len(terms)} operands; got {len(operands)}")
    free = [letter for letter in ascii_letters if letter not in subscripts]
    hidden = [
        len(x.shape) - len(t.replace("...", "")) if "..." in t else 0 for t, x in zip(terms, operands, strict=True)
    ]
    most = max(hidden, default=0)
    dots = "".join(free[:most])
    terms = [t.replace("...", dots[most - k :]) for t, k in zip(terms, hidden, strict=True)]
    if arrow:
        return terms, out.replace("...", dots)
    letters = "".join(terms)
    return terms, dots + "".join(sorted(a for a in set(letters) - set(dots) if letters.count(a) == 1))


def solve(A: Any, b: Any) -> Any:
    """The solution x of ``A x = b``; `b` is a vector or a matrix of columns."""
    if len(b.shape) == 1:
        x = solve2(A, reshape(b, (-1, 1)))
        return reshape(x, x.shape[:-1])
    return solve2(A, b)


def slogdet(A: Any) -> Slogdet:
    """Sign and ``log |det A|``."""
    return Slogdet(np.linalg.slogdet(unboxed(A))[0], logdet(A))


def eigh(A: Any) -> Eigh:
    """Eigenvalues and eigenvectors of a symmetric matrix; derivatives need distinct eigenvalues.

    Raises
    ------
    numpy.linalg.LinAlgError
        When differentiated where two eigenvalues differ by less than 1e-12.
    """
    packed = eigh_stack(A)
    return Eigh(packed[..., 0, :], packed[..., 1:, :])


# On plain arrays those that NumPy has go to NumPy at once.


def _straight_to_numpy(own: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(ours)
    def fun(*args: Any, **kwargs: Any) -> Any:
        for x in args:
            if type(x) is not np.ndarray and not isinstance(x, (int, float, str)):
                return ours(*args, **kwargs)
        return own(*args, **kwargs)

    return fun


matmul = _straight_to_numpy(np.matmul, matmul)
outer = _straight_to_numpy(np.outer, outer)
kron = _straight_to_numpy(np.kron, kron)
