"""Derivatives of functions: gradients, products with Jacobians and Hessians, and those matrices themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from numcore.arrays import is_numpy
from numcore.autodiff import losses, rules
from numcore.autodiff.boxes import Box, Dual, Forward, Tape, Var, namespace, unboxed
from numcore.autodiff.engine import astype, backward
from numcore.autodiff.trees import flatten, is_leaf

__all__ = ["gnvp", "grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]

Argnums = int | Sequence[int]


def grad(f: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar-valued function.

    Parameters
    ----------
    f : callable
        Written with ``ad.*`` functions, operators or NumPy calls; returns a 0-d value, or with `has_aux` a pair of it
        and anything.
    argnums : int or sequence of int, default=0
        Which positional arguments to differentiate by. Each is a float, an array, or a tree of arrays.
    has_aux : bool, default=False
        Whether `f` returns a pair.

    Returns
    -------
    callable
        Takes the arguments of `f` and returns the gradient, in the shape, dtype and structure of the argument (a tuple
        for a sequence `argnums`); with `has_aux`, the pair of gradient and auxiliary output.

    Raises
    ------
    TypeError
        When called: if `f` returns something else than a real scalar, or an argument is complex or of integers.

    Notes
    -----
    Where a function has no derivative, a fixed choice is made: 0 for ``relu`` and ``abs`` at 0 and for a norm at 0;
    ties in maxima and minima share equally. At 0 the derivative of ``sqrt`` is inf.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    both = value_and_grad(f, argnums, has_aux=has_aux)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, slope = both(*args, **kwargs)
        return (slope, value[1]) if has_aux else slope

    return gradient


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """The value and the gradient of a scalar-valued function, from one evaluation.

    Parameters
    ----------
    f, argnums, has_aux
        As for :func:`grad`, with the same errors.

    Returns
    -------
    callable
        Takes the arguments of `f` and returns ``(value, gradient)``; with `has_aux`, ``value`` is the pair of value and
        auxiliary output.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> value, slope = ad.value_and_grad(lambda x: x**3)(2.0)
    >>> float(value), float(slope)
    (8.0, 12.0)
    """

    @wraps(f)
    def both(*args: Any, **kwargs: Any) -> Any:
        places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        if any(not -len(args) <= k < len(args) for k in places):
            raise ValueError(f"argnums must name positional arguments; got {argnums!r} beside {len(args)} of them")
        pairs = [flatten(args[k]) for k in places]
        leaves = [checked(x, f"argument {k}") for k, (xs, _) in zip(places, pairs, strict=True) for x in xs]
        with Tape() as tape:
            boxed = iter([tape.leaf(x) for x in leaves])
            filled = list(args)
            for k, (xs, rebuild) in zip(places, pairs, strict=True):
                filled[k] = rebuild([next(boxed) for _ in xs])
            result = f(*filled, **kwargs)
            if has_aux and not (isinstance(result, (tuple, list)) and len(result) == 2):
                raise TypeError(f"with has_aux, f must return a pair (value, aux); got {type(result).__name__}")
            out, aux = result if has_aux else (result, None)
        _check_scalar(out)
        slopes = iter(_pull(tape, {_index(out, tape): _one_like(out)}, leaves))
        gradients = tuple(rebuild([next(slopes) for _ in xs]) for xs, rebuild in pairs)
        value = _inside(out, tape)
        gradient = gradients[0] if isinstance(argnums, int) else gradients
        return ((value, _aux_inside(aux, tape)) if has_aux else value), gradient

    return both


def checked(x: Any, name: str) -> Any:
    """`x` as what a tape can hold."""
    if isinstance(x, Box):
        return x
    if not hasattr(x, "dtype"):
        x = np.asarray(x)
    xp = namespace(x)
    if x.dtype not in (xp.float64, xp.float32):
        raise TypeError(f"{name} must be float32 or float64 to differentiate by it; got dtype {x.dtype}")
    return x


def as_direction(t: Any, x: Any, name: str) -> Any:
    """`t`, a tangent or cotangent, in the dtype of the value `x` and checked to have its shape."""
    if not hasattr(t, "dtype"):
        t = np.asarray(t)
    if tuple(t.shape) != tuple(x.shape):
        raise ValueError(f"{name} must have shape {tuple(x.shape)}; got {tuple(t.shape)}")
    if t.dtype == x.dtype:
        return t
    if getattr(t.dtype, "kind", "f") not in "fiub":
        raise TypeError(f"{name} must be real; got dtype {t.dtype}")
    return astype(t, x.dtype)


def _check_scalar(out: Any) -> None:
    shape, dtype = getattr(out, "shape", None), getattr(out, "dtype", None)
    if isinstance(out, float):
        return
    if shape is None or dtype is None:
        raise TypeError(f"expected scalar output, got {type(out).__name__}")
    if tuple(shape) != ():
        raise TypeError(f"expected scalar output, got shape {tuple(shape)}")
    xp = namespace(unboxed(out))
    if dtype not in (xp.float64, xp.float32):
        raise TypeError(f"expected real scalar output, got dtype {dtype}")


def _index(out: Any, tape: Tape) -> int:
    """The place of `out` on `tape`; -1 if it is a constant there."""
    return out.index if type(out) is Var and out.tape is tape else -1


def _inside(out: Any, tape: Tape) -> Any:
    return out.value if type(out) is Var and out.tape is tape else out


def _aux_inside(aux: Any, tape: Tape) -> Any:
    leaves, rebuild = flatten(aux)
    return rebuild([_inside(x, tape) for x in leaves])


def _one_like(out: Any) -> Any:
    plain = unboxed(out)
    if isinstance(plain, (float, np.generic)):
        return np.asarray(plain).dtype.type(1)
    return namespace(plain).ones((), dtype=plain.dtype)


def _pull(tape: Tape, seeds: dict[int, Any], leaves: Sequence[Any]) -> list[Any]:
    """The leaves' cotangents, as arrays of their own."""
    seeds = {k: g for k, g in seeds.items() if k >= 0}
    return _owned(backward(tape, seeds, len(leaves)), leaves, list(seeds.values()))


def _owned(cotangents: Sequence[Any], leaves: Sequence[Any], others: list[Any]) -> list[Any]:
    """`cotangents` with None replaced by zeros, and without views or arrays that are given out twice."""
    result: list[Any] = []
    for c, leaf in zip(cotangents, leaves, strict=True):
        if c is None:
            plain = unboxed(leaf)
            c = namespace(plain).zeros(plain.shape, dtype=plain.dtype)
        elif type(c) is np.ndarray and (c.base is not None or any(c is other for other in (*others, *result))):
            c = c.copy()
        result.append(c)
    return result


def vjp(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of a function, and what pulls a cotangent of it back to the arguments.

    Parameters
    ----------
    f : callable
        Returns an array, or a tree of arrays.
    *args : float, array or tree of arrays
        Where to differentiate; all are differentiated by.

    Returns
    -------
    out : array or tree
        ``f(*args)``.
    pullback : callable
        ``pullback(g)`` for a `g` like `out` returns a tuple, for each argument the transposed Jacobian times `g`.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> out, pullback = ad.vjp(lambda x, y: x * y, np.array([1.0, 2.0]), 3.0)
    >>> pullback(np.array([1.0, 1.0]))
    (array([3., 3.]), np.float64(3.0))
    """
    pairs = [flatten(x) for x in args]
    leaves = [checked(x, f"argument {k}") for k, (xs, _) in enumerate(pairs) for x in xs]
    with Tape() as tape:
        boxed = iter([tape.leaf(x) for x in leaves])
        out = f(*(rebuild([next(boxed) for _ in xs]) for xs, rebuild in pairs))
    outs, rebuild_out = flatten(out)
    values = [_inside(x, tape) for x in outs]

    def pullback(g: Any) -> tuple[Any, ...]:
        seeds: dict[int, Any] = {}
        cotangents = [g] if is_leaf(out) else flatten(g)[0]
        if len(cotangents) != len(outs):
            raise ValueError(f"g must have {len(outs)} leaves as the value has; got {len(cotangents)}")
        for x, value, c in zip(outs, values, cotangents, strict=True):
            k, c = _index(x, tape), as_direction(c, value if hasattr(value, "dtype") else np.asarray(value), "g")
            seeds[k] = seeds[k] + c if k in seeds else c
        parts = iter(_pull(tape, seeds, leaves))
        return tuple(rebuild([next(parts) for _ in xs]) for xs, rebuild in pairs)

    return rebuild_out(values), pullback


def jvp(f: Callable[..., Any], args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of a function and its derivative along a direction, by forward mode.

    Parameters
    ----------
    f : callable
        Returns an array, or a tree of arrays.
    args : sequence of float, array or tree of arrays
        Where to differentiate.
    tangents : sequence
        The direction: like `args`.

    Returns
    -------
    out : array or tree
        ``f(*args)``.
    tangent_out : array or tree
        The Jacobian times the direction.

    Raises
    ------
    ValueError
        If `tangents` do not match `args`.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> out, slope = ad.jvp(lambda x: x**2, (3.0,), (1.0,))
    >>> float(out), float(slope)
    (9.0, 6.0)
    """
    return _along(f, tuple(args), tuple(tangents), "tangents")


def _along(f: Callable[..., Any], args: tuple[Any, ...], direction: tuple[Any, ...], name: str) -> tuple[Any, Any]:
    leaves, rebuild = flatten(args)
    slopes = flatten(direction)[0]
    if len(leaves) != len(slopes):
        raise ValueError(f"{name} must have {len(leaves)} leaves; got {len(slopes)}")
    leaves = [checked(x, f"argument {k}") for k, x in enumerate(leaves)]
    slopes = [as_direction(t, x, name) for t, x in zip(slopes, leaves, strict=True)]
    with Forward() as trace:
        out = f(*rebuild([Dual(x, t, trace) for x, t in zip(leaves, slopes, strict=True)]))
    outs, rebuild_out = flatten(out)
    ours = [type(x) is Dual and x.trace is trace for x in outs]
    values = [x.value if is_ours else x for x, is_ours in zip(outs, ours, strict=True)]
    return rebuild_out(values), rebuild_out(
        [x.tangent if is_ours else x * 0.0 for x, is_ours in zip(outs, ours, strict=True)]
    )


def hvp(f: Callable[..., Any], x: Any, v: Any, *args: Any) -> Any:
    """The Hessian of a scalar-valued function times a vector: the gradient of the derivative along it.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` is a scalar.
    x : float, array or tree of arrays
        Where to differentiate.
    v : like `x`
        The vector.
    *args
        Passed on to `f`.

    Returns
    -------
    like `x`
        The product, at about four times the cost of `f` beyond that of one gradient.

    References
    ----------
    B. Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    # Forward mode over reverse mode gives the same, but would also compute the gradient itself.
    return grad(lambda y: _slope(f, y, v, args))(x)


def _slope(f: Callable[..., Any], x: Any, v: Any, args: Sequence[Any]) -> Any:
    out, slope = _along(lambda y: f(y, *args), (x,), (v,), "v")
    _check_scalar(out)
    return slope


def jacobian(f: Callable[..., Any], argnums: int = 0, *, mode: str = "auto") -> Callable[..., Any]:
    """The Jacobian of a function of an array.

    Parameters
    ----------
    f : callable
        Returns an array.
    argnums : int, default=0
        Which argument to differentiate by.
    mode : {"auto", "forward", "reverse"}
        A pass for each entry of the argument, or for each entry of the value; "auto" takes the fewer.

    Returns
    -------
    callable
        Takes the arguments of `f`; returns an array of shape ``out.shape + in.shape``.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.jacobian(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f"mode must be one of 'auto', 'forward', 'reverse'; got {mode!r}")

    @wraps(f)
    def matrix(*args: Any) -> Any:
        def of_one(x: Any) -> Any:
            return f(*args[:argnums], x, *args[argnums + 1 :])

        x = checked(args[argnums], f"argument {argnums}")
        if mode == "forward":
            return _by_columns(of_one, x)
        out, pullback = vjp(of_one, x)
        if mode == "auto" and math.prod(out.shape) > x.size:
            return _by_columns(of_one, x)
        rows = [pullback(e)[0] for e in _basis(out)]
        whole = _stacked(rows, 0) if rows else np.zeros((0, *x.shape), x.dtype)
        return rules.reshape(whole, (*out.shape, *x.shape))

    return matrix


def _by_columns(f: Callable[[Any], Any], x: Any) -> Any:
    columns = [jvp(f, (x,), (e,))[1] for e in _basis(x)]
    if not columns:
        return np.zeros((*f(x).shape, *x.shape), x.dtype)
    shape = tuple(columns[0].shape)
    return rules.reshape(_stacked(columns, len(shape)), (*shape, *x.shape))


def _stacked(parts: Sequence[Any], axis: int) -> Any:
    from numcore.autodiff.functions import stack

    return stack(parts, axis)


def _basis(x: Any) -> Any:
    """The arrays of the shape of `x` with a single 1."""
    for k in range(math.prod(x.shape)):
        e = np.zeros(math.prod(x.shape), x.dtype)
        e[k] = 1
        yield e.reshape(x.shape) if is_numpy(unboxed(x)) else namespace(unboxed(x)).asarray(e.reshape(x.shape))


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The Hessian of a scalar-valued function of an array: a Hessian-vector product for each entry.

    Parameters
    ----------
    f : callable
        Returns a scalar.
    argnums : int, default=0
        Which argument to differentiate by.

    Returns
    -------
    callable
        Takes the arguments of `f`; returns an array of shape ``x.shape + x.shape``.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.hessian(lambda x: x[0] ** 2 * x[1])(np.array([3.0, 5.0]))
    array([[10.,  6.],
           [ 6.,  0.]])
    """
    return jacobian(grad(f, argnums), argnums, mode="forward")


def gnvp(model: Callable[[Any, Any], Any], loss: Any, theta: Any, v: Any, X: Any, y: Any) -> Any:
    r"""The Gauss-Newton matrix of a mean loss times a vector.

    .. math:: G v = \frac1m \sum_i J_i^T \, \nabla^2 \ell(z_i, y_i) \, J_i v, \qquad z_i = \mathrm{model}(\theta, X)_i

    Parameters
    ----------
    model : callable
        ``model(theta, X)`` gives the outputs, one row an example.
    loss : {"softmax", "squared", "bce"} or callable
        A callable ``loss(outputs, y)`` returns (m,) losses.
    theta : array or tree of arrays
        The parameters.
    v : like `theta`
        The vector.
    X, y : array
        Passed on.

    Returns
    -------
    like `theta`

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> X, y = np.array([[1.0], [2.0]]), np.zeros((2, 1))
    >>> ad.gnvp(lambda t, X: X @ t[:, None], "squared", np.array([0.5]), np.array([1.0]), X, y)
    array([2.5])
    """
    per_example = losses.by_name(loss)

    def mean_loss(z: Any) -> Any:
        each = per_example(z, y)
        return rules.sum(each) / each.shape[0]

    z, pullback = vjp(lambda t: model(t, X), theta)
    _, z_tangent = _along(lambda t: model(t, X), (theta,), (v,), "v")
    return pullback(hvp(mean_loss, z, z_tangent))[0]
