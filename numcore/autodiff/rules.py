"""The derivative rules: one row a function.

A row reads ``name = kind(what it computes, cotangent of its first argument, cotangent of its second, ...)``. In a rule
`g` is the cotangent of the function's value; the further parameters say what the rule needs: ``out``, the value itself,
or any argument of the function by its name, or ``x_shape``. Rules are written with differentiable functions, so that
they can be differentiated in turn. For entrywise functions the same rule gives the tangent.
"""

# mypy: disable-error-code="has-type"
from __future__ import annotations

import builtins
import math
import operator
from math import log as log_of
from math import pi
from math import sqrt as root_of
from string import ascii_letters
from typing import Any

import numpy as np

from numcore.autodiff import _conv, _forward
from numcore.autodiff._forward import by_name, from_scipy, is_basic, kept_shape, ties
from numcore.autodiff.boxes import Box, Dual, Forward, innermost, namespace, opened, record, trace_of, unboxed
from numcore.autodiff.engine import Scatter, astype, binary, broadcast_to, primitive, unary, unbroadcast

# Arithmetic

negative = unary("negative", operator.neg, lambda g: -g)
add = binary("add", operator.add, lambda g: g, lambda g: g)
subtract = binary("subtract", operator.sub, lambda g: g, lambda g: -g)
multiply = binary("multiply", operator.mul, lambda g, y: g * y, lambda g, x: g * x)
divide = binary("divide", operator.truediv, lambda g, y: g / y, lambda g, out, y: -g * (out / y))
power = binary("power", operator.pow, lambda g, x, y: g * _power_slope(x, y), lambda g, out, x: g * (out * _log0(x)))
absolute = unary("absolute", by_name("absolute"), lambda g, x: g * sign(x))
square = unary("square", by_name("square"), lambda g, x: g * (2 * x))
sqrt = unary("sqrt", by_name("sqrt"), lambda g, out: g * (0.5 / out))

# Exponentials and trigonometry

exp = unary("exp", by_name("exp"), lambda g, out: g * out)
expm1 = unary("expm1", by_name("expm1"), lambda g, out: g * (out + 1))
log = unary("log", by_name("log"), lambda g, x: g / x)
log1p = unary("log1p", by_name("log1p"), lambda g, x: g / (1 + x))
logaddexp = binary(
    "logaddexp", _forward.logaddexp, lambda g, x, out: g * exp(x - out), lambda g, y, out: g * exp(y - out)
)
sin = unary("sin", by_name("sin"), lambda g, x: g * cos(x))
cos = unary("cos", by_name("cos"), lambda g, x: -g * sin(x))
tan = unary("tan", by_name("tan"), lambda g, out: g * (1 + out * out))
arcsin = unary("arcsin", by_name("arcsin"), lambda g, x: g / sqrt(1 - x * x))
arccos = unary("arccos", by_name("arccos"), lambda g, x: -g / sqrt(1 - x * x))
arctan = unary("arctan", by_name("arctan"), lambda g, x: g / (1 + x * x))
arctan2 = binary(
    "arctan2", by_name("arctan2"), lambda g, x, y: g * (y / (x * x + y * y)), lambda g, x, y: -g * (x / (x * x + y * y))
)
sinh = unary("sinh", by_name("sinh"), lambda g, x: g * cosh(x))
cosh = unary("cosh", by_name("cosh"), lambda g, x: g * sinh(x))
tanh = unary("tanh", by_name("tanh"), lambda g, out: g * (1 - out * out))
erf = unary("erf", from_scipy("erf"), lambda g, x: g * (2 / root_of(pi) * exp(-x * x)))
ndtr = unary("ndtr", from_scipy("ndtr"), lambda g, x: g * _normal_density(x))

# Choices; at a tie both sides share the derivative equally

maximum = binary("maximum", by_name("maximum"), lambda g, x, y: _won(g, x, y), lambda g, x, y: _won(g, y, x))
minimum = binary("minimum", by_name("minimum"), lambda g, x, y: _won(g, y, x), lambda g, x, y: _won(g, x, y))
_select = primitive(
    _forward.select,
    lambda g, condition: _select(g, 0.0, condition),
    lambda g, condition: _select(0.0, g, condition),
    jvp="symmetric",
    elementwise=True,
)

# Activations

sigmoid = unary("sigmoid", _forward.sigmoid, lambda g, out: g * (out * (1 - out)))
relu = unary("relu", _forward.relu, lambda g, out: g * _indicator(out))
silu = unary("silu", lambda x: x * _forward.sigmoid(x), lambda g, x: g * _silu_slope(x, sigmoid(x)))
gelu_exact = unary("gelu", lambda x: x * ndtr(x), lambda g, x: g * (ndtr(x) + x * _normal_density(x)))
signed_log1p = unary("signed_log1p", _forward.signed_log1p, lambda g, x: g / (1 + absolute(x)))
softplus = primitive(_forward.softplus, lambda g, x, beta: g * sigmoid(beta * x), jvp="symmetric", elementwise=True)
leaky_relu = primitive(
    _forward.leaky_relu, lambda g, x, slope: _select(g, slope * g, x > 0), jvp="symmetric", elementwise=True
)
elu = primitive(
    _forward.elu,
    lambda g, x, alpha: _select(g, g * (alpha * exp(minimum(x, 0.0))), x > 0),
    jvp="symmetric",
    elementwise=True,
)

# Reductions

sum = primitive(  # noqa: A001
    _forward.sum, lambda g, x_shape, axis: broadcast_to(_over(g, x_shape, axis), x_shape)
)
mean = primitive(
    _forward.mean,
    lambda g, x_shape, axis: broadcast_to(_over(g, x_shape, axis) / _forward.count(x_shape, axis), x_shape),
)
prod = primitive(
    _forward.prod,
    lambda g, out, x, axis: _over(g, x.shape, axis) * _product_of_others(x, out, axis),
    jvp=(lambda t, out, x, axis, keepdims: sum(t * _product_of_others(x, out, axis), axis, keepdims),),
)
max = primitive(  # noqa: A001
    _forward.max,
    lambda g, out, x, axis: _over(g, x.shape, axis) * _ties(x, out, axis),
    jvp=(lambda t, out, x, axis, keepdims: sum(t * _ties(x, out, axis), axis, keepdims),),
)
min = primitive(  # noqa: A001
    _forward.min,
    lambda g, out, x, axis: _over(g, x.shape, axis) * _ties(x, out, axis),
    jvp=(lambda t, out, x, axis, keepdims: sum(t * _ties(x, out, axis), axis, keepdims),),
)
logsumexp = primitive(
    _forward.logsumexp,
    lambda g, out, x, axis: _over(g, x.shape, axis) * _weights(x, out, axis),
    jvp=(lambda t, out, x, axis, keepdims: sum(t * _weights(x, out, axis), axis, keepdims),),
)
softmax = primitive(_forward.softmax, lambda g, out, axis: out * (g - sum(g * out, axis, True)), jvp="symmetric")
norm2 = primitive(
    _forward.norm2,
    lambda g, out, x, axis: x * _over(_over_positive(g, out), x.shape, axis),
    jvp=(lambda t, out, x, axis, keepdims: _over_positive(sum(t * x, axis, keepdims), out),),
)
cumsum = primitive(_forward.cumsum, lambda g, x_shape, axis: _summed_from_the_end(g, x_shape, axis))

# Shapes and places: all linear


def _reshape(x: Any, shape: Any) -> Any:
    """The same entries in another shape."""
    return namespace(x).reshape(x, shape)


def _getitem(x: Any, key: Any) -> Any:
    return x[key]


def _roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Entries moved around along an axis."""
    return namespace(x).roll(x, shift, axis=axis)


def _flip(x: Any, axis: Any = None) -> Any:
    """Entries in reverse order along an axis, several, or all."""
    return namespace(x).flip(x, axis=axis)


def _tril(x: Any, k: int = 0) -> Any:
    """The lower triangle, zeros above."""
    return namespace(x).tril(x, k=k)


def _triu(x: Any, k: int = 0) -> Any:
    """The upper triangle, zeros below."""
    return namespace(x).triu(x, k=k)


reshape = primitive(_reshape, lambda g, x_shape: reshape(g, x_shape))
transpose = primitive(_forward.transpose, lambda g, axes: transpose(g, None if axes is None else _inverse_order(axes)))
getitem = primitive(_getitem, lambda g, key, x_shape: _scattered(g, key, x_shape))
scatter = primitive(_forward.scatter, lambda g, key: getitem(g, key))
_put = primitive(
    _forward.put,
    lambda g, key: _put(g, 0.0, key),
    lambda g, v, key: unbroadcast(getitem(g, key), tuple(v.shape), v.dtype),
    jvp=(lambda t, key: _put(t, 0.0, key), lambda t, key, x_shape: _put(_zeros_like(t, x_shape), t, key)),
    name="index_update",
)
roll = primitive(_roll, lambda g, shift, axis: roll(g, _minus(shift), axis))
flip = primitive(_flip, lambda g, axis: flip(g, axis))
_pad = primitive(_forward.pad, lambda g, x_shape, pad_width: getitem(g, _inside(x_shape, pad_width)))
diag = primitive(_forward.diag, lambda g, x_shape, k: _undiag(g, x_shape, k))
tril = primitive(_tril, lambda g, k: tril(g, k))
triu = primitive(_triu, lambda g, k: triu(g, k))

# Products


def _matmul(x: Any, y: Any) -> Any:
    return x @ y


matmul2 = primitive(
    _matmul,
    lambda g, x_shape, y: unbroadcast(matmul2(g, _T(y)), x_shape, g.dtype),
    lambda g, x, y: unbroadcast(matmul2(_T(x), g), tuple(y.shape), g.dtype),
)
affine = primitive(
    _forward.affine,
    lambda g, W: matmul2(g, _T(W)),
    lambda g, x: matmul2(_T(_flat(x)), _flat(g)),
    lambda g: sum(_flat(g), 0),
    jvp=(lambda t, W: matmul2(t, W), lambda t, x: matmul2(x, t), lambda t, out: broadcast_to(t, out.shape)),
)


def _einsum2(x: Any, y: Any, subscripts: str) -> Any:
    return np.einsum(subscripts, x, y, optimize=True)


def _einsum1(x: Any, subscripts: str) -> Any:
    return np.einsum(subscripts, x)


einsum2 = primitive(
    _einsum2,
    lambda g, x_shape, y, subscripts: _einsum_back(g, y, x_shape, *_terms(subscripts)),
    lambda g, x, y, subscripts: _einsum_back(g, x, tuple(y.shape), *_terms(subscripts, swap=True)),
)
einsum1 = primitive(_einsum1, lambda g, x_shape, subscripts: _einsum_back(g, None, x_shape, *_terms(subscripts)))

# Linear algebra, on the last two axes


def _solve(A: Any, b: Any) -> Any:
    return np.linalg.solve(A, b)


def _inv(A: Any) -> Any:
    """The inverse."""
    return np.linalg.inv(A)


def _cholesky(A: Any) -> Any:
    """The lower triangular L with ``L L^T = A``; derivatives are those of the symmetric part of A."""
    return np.linalg.cholesky(A)


solve2 = primitive(
    _solve,
    lambda g, out, A: unbroadcast(-matmul2(solve2(_T(A), g), _T(out)), tuple(A.shape), g.dtype),
    lambda g, A, b: unbroadcast(solve2(_T(A), g), tuple(b.shape), g.dtype),
    jvp=(lambda t, out, A: -solve2(A, matmul2(t, out)), lambda t, A: solve2(A, t)),
)
inv = primitive(
    _inv,
    lambda g, out: -matmul2(matmul2(_T(out), g), _T(out)),
    jvp=(lambda t, out: -matmul2(matmul2(out, t), out),),
)
logdet = primitive(
    _forward.logdet,
    lambda g, A: _over(g, A.shape, (-2, -1)) * _T(inv(A)),
    jvp=(lambda t, A: sum(_T(inv(A)) * t, (-2, -1)),),
)
cholesky = primitive(
    _cholesky,
    lambda g, out: _symmetric(_between(_T(out), _half_lower(matmul2(_T(out), g)))),
    jvp=(lambda t, out: matmul2(out, _half_lower(_between(out, _symmetric(t)))),),
)
eigh_stack = primitive(
    _forward.eigh_stack,
    lambda g, out: _eigh_back(g, out),
    jvp=(lambda t, out: _eigh_forward(t, out),),
)

# Whole layers

cross_entropy = primitive(
    _forward.cross_entropy,
    lambda g, z, target: _over(g, z.shape, -1) * _misfit(z, target),
    lambda g, out, z, target: _over(g, z.shape, -1) * (_over(logsumexp(z, -1), z.shape, -1) - z),
    jvp=(
        lambda t, z, target: sum(t * _misfit(z, target), -1),
        lambda t, z: sum(t * (_over(logsumexp(z, -1), z.shape, -1) - z), -1),
    ),
)
standardize = primitive(
    _forward.standardize,
    lambda g, out, x, axes, eps: (g - mean(g, axes, True) - out * mean(g * out, axes, True)) / _scale(x, axes, eps),
    jvp="symmetric",
)
conv2d = primitive(
    _conv.conv2d,
    lambda g, x_shape, W, geometry: conv2d_input(g, W, x_shape, geometry),
    lambda g, x, W, geometry: conv2d_weight(x, g, tuple(W.shape), geometry),
)
conv2d_input = primitive(
    _conv.conv2d_input,
    lambda g, W, geometry: conv2d(g, W, geometry),
    lambda g, u, W, geometry: conv2d_weight(g, u, tuple(W.shape), geometry),
)
conv2d_weight = primitive(
    _conv.conv2d_weight,
    lambda g, x_shape, u, geometry: conv2d_input(u, g, x_shape, geometry),
    lambda g, x, geometry: conv2d(x, g, geometry),
)

# What the rules are written with


def _power_slope(x: Any, y: Any) -> Any:
    if isinstance(y, (int, float)):
        return y * x ** (y - 1) if y not in (0, 1, 2) else 2 * x if y == 2 else float(y)
    zero = unboxed(y) == 0
    return y * x ** _select(1.0, y - 1, zero)


def _log0(x: Any) -> Any:
    """``log x``, with 0 at 0."""
    if isinstance(x, (int, float)):
        return log_of(x) if x > 0 else 0.0 if x == 0 else math.nan
    zero = unboxed(x) == 0
    return log(x) if not namespace(zero).any(zero) else _select(0.0, log(_select(1.0, x, zero)), zero)


def _normal_density(x: Any) -> Any:
    return exp(-0.5 * (x * x)) * (1 / root_of(2 * pi))


def _silu_slope(x: Any, s: Any) -> Any:
    return s * (1 + x * (1 - s))


def _indicator(out: Any) -> Any:
    """1 where positive, else 0: multiplying by it is quicker than to choose."""
    plain = unboxed(out)
    xp = namespace(plain)
    return plain > 0 if xp is np else xp.astype(plain > 0, plain.dtype)


def _won(g: Any, x: Any, y: Any) -> Any:
    x, y = unboxed(x), unboxed(y)
    return _select(g, _select(0.5 * g, 0.0, x == y), x > y)


def _over(g: Any, x_shape: Any, axis: Any) -> Any:
    """`g` of a reduced shape, with length 1 along the reduced axes."""
    return reshape(g, kept_shape(x_shape, axis))


def _product_of_others(x: Any, out: Any, axis: Any) -> Any:
    if bool(namespace(unboxed(x)).all(unboxed(x) != 0)):
        return _over(out, x.shape, axis) / x
    # rare: each entry's product with itself left out, formed entry by entry
    axes = set(range(len(x.shape)) if axis is None else (k % len(x.shape) for k in np.atleast_1d(axis).tolist()))
    order = [k for k in range(len(x.shape)) if k not in axes] + sorted(axes)
    front = tuple(x.shape[k] for k in order[: len(order) - len(axes)])
    rows = reshape(transpose(x, tuple(order)), (*front, -1))
    n = rows.shape[-1]
    others = prod(_select(1.0, reshape(rows, (*front, 1, n)), np.eye(n, dtype=bool)), -1)
    return transpose(reshape(others, tuple(x.shape[k] for k in order)), tuple(np.argsort(order).tolist()))


def _ties(x: Any, out: Any, axis: Any) -> Any:
    return ties(unboxed(x), unboxed(out), axis)


def _weights(x: Any, out: Any, axis: Any) -> Any:
    out = _over(out, x.shape, axis)
    finite = namespace(unboxed(out)).isfinite(unboxed(out))
    return exp(x - _select(out, 0.0, finite))


def _over_positive(g: Any, out: Any) -> Any:
    """``g / out``, with 0 where `out` is 0."""
    positive = unboxed(out) > 0
    return _select(g / _select(out, 1.0, positive), 0.0, positive)


def _summed_from_the_end(g: Any, x_shape: Any, axis: Any) -> Any:
    along = 0 if axis is None else axis
    return reshape(flip(cumsum(flip(g, along), along), along), x_shape)


def _inverse_order(axes: Any) -> tuple[int, ...]:
    return tuple(int(k) for k in np.argsort([axis % len(axes) for axis in axes]))


def _scattered(g: Any, key: Any, shape: Any) -> Any:
    return Scatter(g, key, shape, g.dtype) if not isinstance(g, Box) and is_basic(key) else scatter(g, key, shape)


def _zeros_like(x: Any, shape: Any) -> Any:
    return namespace(unboxed(x)).zeros(shape, dtype=x.dtype)


def _minus(shift: Any) -> Any:
    return tuple(-k for k in shift) if isinstance(shift, tuple) else -shift


def _inside(shape: Any, pad_width: Any) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for n, (a, _) in zip(shape, pad_width, strict=True))


def _undiag(g: Any, shape: Any, k: int) -> Any:
    if len(shape) == 1:
        return diag(g, k)
    places = np.arange(g.shape[0])
    return _put(_zeros_like(g, shape), g, (places + builtins.max(-k, 0), places + builtins.max(k, 0)))


def _T(x: Any) -> Any:
    """The last two axes exchanged."""
    n = len(x.shape)
    return transpose(x, (*range(n - 2), n - 1, n - 2))


def _flat(x: Any) -> Any:
    return x if len(x.shape) == 2 else reshape(x, (-1, x.shape[-1]))


def _symmetric(A: Any) -> Any:
    return 0.5 * (A + _T(A))


def _terms(subscripts: str, swap: bool = False) -> tuple[str, str, str]:
    """The letters of the operand to differentiate by, of the other, and of the result."""
    given, _, out = subscripts.partition("->")
    own, _, other = given.partition(",")
    return (other, own, out) if swap else (own, other, out)


def _einsum_back(g: Any, y: Any, shape: Any, own: str, other: str, out: str) -> Any:
    """The cotangent of the operand with letters `own`, beside `y` with letters `other`."""
    have = "".join(letter for letter in dict.fromkeys(own) if letter in out + other)
    part = einsum1(g, f"{out}->{have}") if y is None else einsum2(g, y, f"{out},{other}->{have}")
    letters = ""
    free = (letter for letter in ascii_letters if letter not in own + other + out)
    for letter, n in zip(own, shape, strict=True):
        if letter in letters:  # a diagonal was taken: only there the cotangent is not 0
            fresh = next(free)
            part = einsum2(part, np.eye(n, dtype=g.dtype), f"{have},{letter}{fresh}->{have}{fresh}")
            have, letter = have + fresh, fresh
        elif letter not in have:  # was summed over
            part = einsum2(part, np.ones(n, g.dtype), f"{have},{letter}->{have}{letter}")
            have += letter
        letters += letter
    part = einsum1(part, f"{have}->{letters}")
    wide = tuple(builtins.max(a, b) for a, b in zip(part.shape, shape, strict=True))
    part = part if wide == part.shape else broadcast_to(part, wide)
    return unbroadcast(part, shape, g.dtype)


def _half_lower(A: Any) -> Any:
    """The lower triangle with its diagonal halved."""
    n = A.shape[-1]
    return A * (np.tril(np.ones((n, n), A.dtype)) - 0.5 * np.eye(n, dtype=A.dtype))


def _between(L: Any, A: Any) -> Any:
    """``L^-1 A L^-T``."""
    return _T(solve2(L, _T(solve2(L, A))))


def _gaps(w: Any) -> Any:
    """``1 / (w_j - w_i)``, with 0 on the diagonal."""
    plain = unboxed(w)
    if plain.shape[-1] > 1 and np.min(np.diff(plain)) < 1e-12 * builtins.max(1.0, float(np.max(np.abs(plain)))):
        raise np.linalg.LinAlgError("eigh has no derivative here: two eigenvalues are closer than 1e-12")
    eye = np.eye(plain.shape[-1], dtype=plain.dtype)
    return 1 / (w[..., None, :] - w[..., :, None] + eye) - eye


def _eigh_back(g: Any, out: Any) -> Any:
    w, V, gw, gV = out[..., 0, :], out[..., 1:, :], g[..., 0, :], g[..., 1:, :]
    eye = np.eye(unboxed(w).shape[-1], dtype=w.dtype)
    return _symmetric(matmul2(V, matmul2(gw[..., None, :] * eye + _gaps(w) * matmul2(_T(V), gV), _T(V))))


def _eigh_forward(t: Any, out: Any) -> Any:
    w, V = out[..., 0, :], out[..., 1:, :]
    M = matmul2(_T(V), matmul2(_symmetric(t), V))
    eye = np.eye(unboxed(w).shape[-1], dtype=w.dtype)
    return concatenate([sum(M * eye, -2, True), matmul2(V, _gaps(w) * M)], -2)


def _misfit(z: Any, target: Any) -> Any:
    return softmax(z) * sum(target, -1, True) - target


def _scale(x: Any, axes: Any, eps: float) -> Any:
    centred = x - mean(x, axes, True)
    return sqrt(mean(centred * centred, axes, True) + eps)


# A function of any number of arrays, which a row of the table cannot hold


def concatenate(arrays: Any, axis: int | None = 0) -> Any:
    """Arrays joined along an existing axis, or with None all their entries, as :func:`numpy.concatenate`."""
    arrays = tuple(arrays)
    if axis is None:
        arrays, axis = tuple(reshape(x, (-1,)) for x in arrays), 0
    trace = innermost(arrays)
    if trace is None:
        xp = namespace(arrays[0])
        return np.concatenate(arrays, axis=axis) if xp is np else xp.concat(arrays, axis=axis)
    values = opened(arrays, trace)
    out = concatenate(values, axis)
    if type(trace) is Forward:
        tangents = [
            x.tangent if trace_of(x) is trace else _zeros_like(value, value.shape)
            for x, value in zip(arrays, values, strict=True)
        ]
        return Dual(out, concatenate(tangents, axis), trace)
    edges, start, before = [], 0, (slice(None),) * (axis % len(out.shape))
    for x, value in zip(arrays, values, strict=True):
        stop = start + value.shape[axis]
        if trace_of(x) is trace:
            edges.append((_piece, x.index, ((*before, slice(start, stop), ...), value.dtype)))
        start = stop
    return record(trace, out, tuple(edges))


def _piece(g: Any, key: Any, dtype: Any) -> Any:
    return astype(getitem(g, key), dtype)


def sign(x: Any) -> Any:
    """-1, 0 or 1; its derivative is 0 everywhere."""
    x = unboxed(x)
    return namespace(x).sign(x)
