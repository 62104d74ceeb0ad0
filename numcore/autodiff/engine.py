"""The engine: what is recorded, and how derivatives run along the record. It knows no derivative; :mod:`rules` does.

Reverse mode. A tape is a list. Entry ``k`` says where value ``k`` came from: one edge ``(pull, parent, kept)`` for each
recorded argument, such that ``pull(g, *kept)`` is the cotangent of value ``parent`` that the cotangent `g` of value
``k`` causes. The order of the list is topological, so :func:`backward` walks it from its end.

Forward mode. A ``Dual`` carries a tangent beside its value.

References
----------
A. Griewank and A. Walther, "Evaluating Derivatives", SIAM 2008, chapters 3 (forward and reverse) and 5 (nesting).
"""

# mypy: disable-error-code="has-type"
from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from operator import itemgetter
from typing import Any

import numpy as np

from numcore.autodiff.boxes import (
    Box,
    Dual,
    Forward,
    Tape,
    Var,
    innermost,
    namespace,
    opened,
    record,
    running,
    trace_of,
)

__all__ = [
    "RULES",
    "Primitive",
    "Scatter",
    "astype",
    "backward",
    "binary",
    "broadcast_to",
    "primitive",
    "unary",
    "unbroadcast",
]


class Primitive:
    """A function with its derivative rules, by argument.

    A rule is called with the cotangent (or the tangent), then with what its further parameters name: ``out`` for the
    function's value, any of the function's own parameters, or ``x_shape``, the shape of the first. Nothing else is kept
    alive for it.

    Parameters
    ----------
    fun : callable
        Computes on plain arrays. Its first arguments, as many as there are `vjps`, may be differentiated.
    vjps : sequence of callable
        The rule of each such argument, written with differentiable functions; linear in its first argument.
    jvps : "linear", "symmetric" or sequence of callable
        "linear": `fun` is linear in each argument. "symmetric": the Jacobian is, so that the vjp rule serves.
    elementwise : bool
        Whether `fun` acts entry by entry, with broadcasting.
    """

    def __init__(self, name: str, fun: Any, names: Sequence[str], vjps: Any, jvps: Any, elementwise: bool) -> None:
        self.name, self.fun, self.names, self.vjps, self.elementwise = name, fun, tuple(names), vjps, elementwise
        self.defaults: Mapping[str, Any] = {}
        self.jvps = vjps if jvps == "symmetric" else None if jvps == "linear" else jvps
        self.keeps = [self._keeper(rule) for rule in vjps]
        self.jvp_keeps = [self._keeper(rule) for rule in self.jvps or ()]
        self.op: Any = None
        RULES[name] = self

    def _keeper(self, rule: Any) -> Any:
        known = ("out", *self.names, "x_shape")
        places = [known.index(name) for name in list(inspect.signature(rule).parameters)[1:]]
        if len(places) > 1:
            return itemgetter(*places)
        return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))

    def complete(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments in order."""
        rest = self.names[len(args) :]
        if not rest and not kwargs:
            return args
        if not set(kwargs) <= set(rest):
            inspect.signature(self.fun).bind(*args, **kwargs)  # raises as Python does
        return (*args, *(kwargs[name] if name in kwargs else self.defaults[name] for name in rest))

    def apply(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] = {}) -> Any:
        """Compute on boxed arguments and record."""
        args = self.complete(args, kwargs)
        trace = trace_of(args[0]) if len(self.vjps) == 1 else innermost(args[: len(self.vjps)])
        values = opened(args, trace)
        out = self.op(*values)
        kept = (out, *values, getattr(values[0], "shape", ()))
        if type(trace) is Forward:
            return self._dual(trace, out, args, kept)
        edges = []
        for k, vjp in enumerate(self.vjps):
            x = args[k]
            if type(x) is Var and x.tape is trace:
                edges.append((self.fitted(vjp, x.value, out), x.index, self.keeps[k](kept)))
        return record(trace, out, edges)

    def fitted(self, vjp: Any, x: Any, out: Any) -> Any:
        """`vjp`, followed by what brings its result to the shape and dtype of `x` where broadcasting changed them."""
        if x.dtype is out.dtype and (not self.elementwise or x.shape == out.shape):
            return vjp
        return partial(_fitting, vjp, tuple(x.shape) if self.elementwise else None, x.dtype)

    def _dual(self, trace: Forward, out: Any, args: tuple[Any, ...], kept: tuple[Any, ...]) -> Dual:
        if not trace.open:
            raise ValueError("value escaped its trace: it belongs to a forward differentiation that has ended")
        total: Any = None
        for k in range(len(self.vjps)):
            if trace_of(args[k]) is trace:
                tangent = args[k].tangent
                if self.jvps is None:
                    part = self.op(*kept[1 : k + 1], tangent, *kept[k + 2 : -1])
                else:
                    part = self.jvps[k](tangent, *self.jvp_keeps[k](kept))
                total = part if total is None else total + part
        if self.elementwise and total.shape != out.shape:
            total = broadcast_to(total, out.shape)
        if running.checked is not None:
            running.checked.look(out, self.name)
        return Dual(out, total, trace)


RULES: dict[str, Primitive] = {}
"""Every primitive, by name."""


def primitive(
    fun: Callable[..., Any],
    *vjps: Callable[..., Any],
    jvp: Any = "linear",
    name: str | None = None,
    elementwise: bool = False,
) -> Callable[..., Any]:
    """A differentiable function from one on plain arrays and its rules; see :class:`Primitive`."""
    parameters = inspect.signature(fun).parameters
    rule = Primitive(name or fun.__name__.strip("_"), fun, tuple(parameters), vjps, jvp, elementwise)
    rule.defaults = {key: p.default for key, p in parameters.items() if p.default is not p.empty}

    def op(*args: Any, **kwargs: Any) -> Any:
        for x in args:
            if type(x) is Var or type(x) is Dual:
                return rule.apply(args, kwargs)
        if kwargs and any(isinstance(x, Box) for x in kwargs.values()):
            return rule.apply(args, kwargs)
        return fun(*args, **kwargs)

    update_wrapper(op, fun)
    rule.op = op
    return op


def unary(name: str, fun: Callable[[Any], Any], vjp: Callable[..., Any]) -> Callable[[Any], Any]:
    """A differentiable function of one array, entry by entry: `primitive` without its generality, for speed."""
    rule = Primitive(name, fun, ("x",), (vjp,), "symmetric", elementwise=True)
    (keep,) = rule.keeps

    def op(x: Any) -> Any:
        kind = type(x)
        if kind is Var:
            value, tape = x.value, x.tape
            out = op(value)
            tape.append(((vjp, x.index, keep((out, value))),))
            return tape.box(out, len(tape) - 1, tape)
        return rule.apply((x,)) if kind is Dual else fun(np.asarray(x) if kind is list else x)

    rule.op = _named(op, name)
    return op


def binary(
    name: str, fun: Callable[[Any, Any], Any], vjp_x: Callable[..., Any], vjp_y: Callable[..., Any]
) -> Callable[[Any, Any], Any]:
    """A differentiable function of two arrays, entry by entry with broadcasting; fast where one tape is at work."""
    rule = Primitive(name, fun, ("x", "y"), (vjp_x, vjp_y), "symmetric", elementwise=True)
    keep_x, keep_y = rule.keeps

    def edge_x(out: Any, x: Any, y: Any, index: int) -> Any:
        same = out.shape == x.shape and out.dtype is x.dtype
        return (vjp_x if same else rule.fitted(vjp_x, x, out)), index, keep_x((out, x, y))

    def edge_y(out: Any, x: Any, y: Any, index: int) -> Any:
        same = out.shape == y.shape and out.dtype is y.dtype
        return (vjp_y if same else rule.fitted(vjp_y, y, out)), index, keep_y((out, x, y))

    def op(x: Any, y: Any) -> Any:
        x_kind, y_kind = type(x), type(y)
        if x_kind is Var and y_kind is not Var and y_kind is not Dual:
            tape, value = x.tape, x.value
            out = op(value, y)
            tape.append((edge_x(out, value, y, x.index),))
        elif y_kind is Var and x_kind is not Var and x_kind is not Dual:
            tape, value = y.tape, y.value
            out = op(x, value)
            tape.append((edge_y(out, x, value, y.index),))
        elif x_kind is Var and y_kind is Var and x.tape is y.tape:
            tape, value, other = x.tape, x.value, y.value
            out = op(value, other)
            tape.append((edge_x(out, value, other, x.index), edge_y(out, value, other, y.index)))
        elif x_kind is Var or x_kind is Dual or y_kind is Var or y_kind is Dual:
            return rule.apply((x, y))
        else:
            return fun(x, y)
        return tape.box(out, len(tape) - 1, tape)

    rule.op = _named(op, name)
    return op


def _named(op: Any, name: str) -> Any:
    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"Differentiable :data:`numpy.{name}`, entry by entry." if hasattr(np, name) else None
    return op


# Broadcasting and its adjoint, which the rules of all functions that broadcast end in.


def _fitting(vjp: Any, shape: tuple[int, ...] | None, dtype: Any, g: Any, *kept: Any) -> Any:
    return unbroadcast(vjp(g, *kept), shape, dtype)


def _unbroadcast(x: Any, shape: Any, dtype: Any) -> Any:
    """`x` summed to `shape`, which broadcasts to that of `x` (None: any), and cast to `dtype`."""
    if shape is not None and x.shape != shape:
        xp, extra = namespace(x), len(x.shape) - len(shape)
        axes = (*range(extra), *(k + extra for k, n in enumerate(shape) if n == 1 != x.shape[k + extra]))
        x = xp.reshape(xp.sum(x, axis=axes), shape)
    return x if x.dtype == dtype else _astype(x, dtype)


def _broadcast_to(x: Any, shape: Any) -> Any:
    """`x` repeated to a larger shape, as :func:`numpy.broadcast_to`."""
    return namespace(x).broadcast_to(x, shape)


def _astype(x: Any, dtype: Any) -> Any:
    """`x` in another floating dtype."""
    return x.astype(dtype) if namespace(x) is np else namespace(x).astype(x, dtype)


unbroadcast = primitive(_unbroadcast, lambda g, x: astype(broadcast_to(g, x.shape), x.dtype))
broadcast_to = primitive(_broadcast_to, lambda g, x: unbroadcast(g, tuple(x.shape), x.dtype))
astype = primitive(_astype, lambda g, x: astype(g, x.dtype))


# The backward pass.


class Scatter:
    """A cotangent that is zero except for `part`, which belongs at the basic index `key`.

    So a vector that is read slice by slice gets its gradient written slice by slice, into one array.
    """

    __slots__ = ("dtype", "key", "part", "shape")

    def __init__(self, part: Any, key: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self.part, self.key, self.shape, self.dtype = part, key, shape, dtype

    def dense(self) -> Any:
        """The whole cotangent, in a new array."""
        xp = namespace(self.part)
        whole = xp.zeros(self.shape, dtype=self.dtype)
        whole[self.key] = self.part
        return whole


def backward(tape: Tape, seeds: Mapping[int, Any], n_leaves: int) -> list[Any]:
    """The cotangents of the first `n_leaves` entries (None for zero), from those of the entries in `seeds`."""
    cotangents: list[Any] = [None] * len(tape)
    for k, seed in seeds.items():
        cotangents[k] = seed
    owned: set[int] = set()
    for k in range(max(seeds, default=-1), n_leaves - 1, -1):
        g = cotangents[k]
        if g is None:
            continue
        cotangents[k] = None  # frees memory on the way
        if type(g) is Scatter:
            g = g.dense()
        for pull, parent, kept in tape[k]:
            part = pull(g, *kept)
            before = cotangents[parent]
            cotangents[parent] = part if before is None else _added(before, part, parent, owned)
    return [c.dense() if type(c) is Scatter else c for c in cotangents[:n_leaves]]


def _added(before: Any, part: Any, parent: int, owned: set[int]) -> Any:
    """The sum of two cotangents; in place from the third on, when `before` is surely nobody else's."""
    if type(before) is Scatter:
        before = before.dense()
        owned.add(parent)
    if type(part) is Scatter:
        if parent not in owned:
            before = before + part.dense()
        elif type(before) is np.ndarray or namespace(before) is not np:
            before[part.key] += part.part
        else:
            before = before + part.dense()
    elif parent in owned and type(before) is np.ndarray and type(part) is np.ndarray:
        before += part
    else:
        before = before + part
    owned.add(parent)
    return before
