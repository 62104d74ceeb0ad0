"""Derivatives that the user knows better: custom rules, recomputation, and the envelope theorem."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper, wraps
from typing import Any

import numpy as np

from numcore.autodiff import rules
from numcore.autodiff.boxes import Box, Dual, Forward, innermost, namespace, opened, record, trace_of, unboxed
from numcore.autodiff.engine import astype
from numcore.autodiff.transforms import grad, vjp
from numcore.autodiff.trees import flatten, is_leaf, ravel, tree_map

__all__ = ["checkpoint", "custom_jvp", "custom_vjp", "envelope"]

Rule = Callable[..., Any]


class custom_vjp:
    """A function whose reverse-mode derivative is given.

    Parameters
    ----------
    f : callable
        Arrays or trees of arrays in, one or the other out. Arguments that are neither are constants.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> @ad.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda residuals, g: (min(g, 1.0),))
    >>> float(ad.grad(lambda x: 5 * clipped(x))(2.0))
    1.0
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        update_wrapper(self, f)
        self.f = f
        self.fwd: Rule | None = None
        self.bwd: Rule | None = None

    def defvjp(self, fwd: Rule, bwd: Rule) -> None:
        """Set the rule.

        Parameters
        ----------
        fwd : callable
            ``fwd(*args)`` returns the value of ``f(*args)`` and whatever `bwd` needs of it.
        bwd : callable
            ``bwd(residuals, g)`` for a `g` like the value returns a tuple with a cotangent like each argument, or None
            for zero. Written with differentiable functions, it can be differentiated in turn, and forward mode follows.
        """
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute, and record the rule where an argument is under differentiation."""
        args = _positional(self.f, args, kwargs)
        leaves, rebuild = flatten(args)
        trace = innermost(leaves)
        if trace is None:
            return self.f(*args)
        fwd, bwd, name = self.fwd, self.bwd, _name_of(self.f)
        if fwd is None or bwd is None:
            raise TypeError(f"{name} has no rule yet; call its defvjp(fwd, bwd)")
        values = opened(leaves, trace)
        inner = rebuild(values)
        out, residuals = fwd(*inner)
        return attach(trace, leaves, out, lambda g: _by_leaf(bwd(residuals, g), inner, name), name)


def _positional(f: Any, args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    """All arguments in the order of f's parameters."""
    if not kwargs:
        return args
    bound = inspect.signature(f).bind(*args, **kwargs)
    if bound.kwargs:
        raise TypeError(f"{_name_of(f)} has its own rule and takes no keyword-only arguments; got {list(bound.kwargs)}")
    return bound.args


def _name_of(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)


def _by_leaf(cotangents: Any, args: tuple[Any, ...], name: str) -> list[Any]:
    """What a rule returned, checked: the cotangent of each leaf of `args`, in order."""
    if not isinstance(cotangents, tuple) or len(cotangents) != len(args):
        got = str(len(cotangents)) if isinstance(cotangents, tuple) else f"a {type(cotangents).__name__}"
        raise TypeError(
            f"the rule of {name} must return a tuple of {len(args)} cotangents, one for each argument; got {got}"
        )
    parts: list[Any] = []
    for k, (part, arg) in enumerate(zip(cotangents, args, strict=True)):
        leaves, values = flatten(part)[0], flatten(arg)[0]
        if part is None:
            leaves = [None] * len(values)
        if len(leaves) != len(values):
            raise TypeError(
                f"the rule of {name} must give argument {k} a cotangent of its structure, with {len(values)} leaves; "
                f"it gave {len(leaves)}"
            )
        for leaf, value in zip(leaves, values, strict=True):
            if leaf is not None and np.shape(leaf) != np.shape(value):
                raise TypeError(
                    f"the rule of {name} must give argument {k} a cotangent of shape {np.shape(value)}; "
                    f"it gave {np.shape(leaf)}"
                )
        parts += leaves
    return parts


def attach(trace: Any, leaves: Sequence[Any], out: Any, rule: Rule, name: str) -> Any:
    """`out`, an array or a tree of arrays, with the derivative that `rule` gives, in the mode of `trace`.

    ``rule(g)`` returns the cotangents of all `leaves`, None for zero.
    """
    if innermost(flatten(out)[0]) is trace:
        raise TypeError(f"{name} uses a value under differentiation that is not among its arguments; pass it as one")
    if not is_leaf(out):  # one vector stands for the tree
        flat, unravel = ravel(out)
        return unravel(attach(trace, leaves, flat, lambda g: rule(unravel(g)), name))
    out = out if hasattr(out, "dtype") else np.asarray(out, np.float64)
    ours = [k for k, x in enumerate(leaves) if trace_of(x) is trace]
    pull = _Shared(rule, [(k, leaves[k].value) for k in ours])
    if type(trace) is not Forward:
        return record(trace, out, tuple((pull, leaves[k].index, (k,)) for k in ours))

    def paired(g: Any) -> Any:
        """Linear in `g`; its gradient is the tangent."""
        return sum(rules.sum(pull(g, k) * leaves[k].tangent) for k in ours)

    return Dual(out, grad(paired)(out * 0.0), trace)


class _Shared:
    """Runs a rule once for all arguments, and hands each its cotangent."""

    def __init__(self, rule: Rule, values: Sequence[tuple[int, Any]]) -> None:
        self.rule, self.values = rule, values
        self.waiting: dict[int, Any] = {}
        self.last: Any = None

    def __call__(self, g: Any, k: int) -> Any:
        if self.last is not g or k not in self.waiting:
            parts = self.rule(g)
            self.waiting, self.last = {j: _like(parts[j], value) for j, value in self.values}, g
        part = self.waiting.pop(k)
        if not self.waiting:
            self.last = None
        return part


def _like(part: Any, value: Any) -> Any:
    """`part` in the dtype of `value`; zeros where it is None."""
    if part is None:
        plain = unboxed(value)
        return namespace(plain).zeros(plain.shape, dtype=plain.dtype)
    part = part if hasattr(part, "dtype") else np.asarray(part, value.dtype)
    return part if part.dtype == value.dtype else astype(part, value.dtype)


def of_some(f: Callable[..., Any], leaves: Sequence[Any], places: Sequence[int]) -> Callable[..., Any]:
    """``f(leaves)`` as a function of the leaves at `places`."""

    def of_these(*given: Any) -> Any:
        filled = list(leaves)
        for k, x in zip(places, given, strict=True):
            filled[k] = x
        return f(filled)

    return of_these


def spread(parts: Sequence[Any], places: Sequence[int], n: int) -> list[Any]:
    """A list of length `n` with `parts` at `places`, None elsewhere."""
    filled: list[Any] = [None] * n
    for k, part in zip(places, parts, strict=True):
        filled[k] = part
    return filled


class custom_jvp:
    """A function whose derivative along a direction is given; reverse mode follows from it.

    Parameters
    ----------
    f : callable
        Arrays or trees of arrays in, one or the other out.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> @ad.custom_jvp
    ... def twice(x):
    ...     return 2 * x
    >>> twice.defjvp(lambda args, tangents: (2 * args[0], 2 * tangents[0]))
    >>> float(ad.grad(twice)(1.0))
    2.0
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        update_wrapper(self, f)
        self.f = f
        self.rule: Rule | None = None

    def defjvp(self, jvp: Rule) -> None:
        """Set the rule: ``jvp(args, tangents)`` returns the value and its tangent, linear in `tangents`."""
        self.rule = jvp

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute, and record the rule where an argument is under differentiation."""
        args = _positional(self.f, args, kwargs)
        leaves, rebuild = flatten(args)
        trace = innermost(leaves)
        if trace is None:
            return self.f(*args)
        rule, name = self.rule, _name_of(self.f)
        if rule is None:
            raise TypeError(f"{name} has no rule yet; call its defjvp(jvp)")
        values = opened(leaves, trace)
        inner = rebuild(values)
        ours = [k for k, x in enumerate(leaves) if trace_of(x) is trace]
        zeros = [x * 0.0 if hasattr(x, "dtype") else None for x in values]
        if type(trace) is Forward:
            along = [x.tangent if k in ours else zero for k, (x, zero) in enumerate(zip(leaves, zeros, strict=True))]
            out, slope = rule(inner, rebuild(along))
            outs, rebuild_out = flatten(out)
            return rebuild_out([Dual(x, t, trace) for x, t in zip(outs, flatten(slope)[0], strict=True)])
        tangent = of_some(lambda filled: rule(inner, rebuild(filled))[1], zeros, ours)

        def bwd(g: Any) -> list[Any]:
            return spread(vjp(tangent, *(zeros[k] for k in ours))[1](g), ours, len(leaves))

        return attach(trace, leaves, rule(inner, rebuild(zeros))[0], bwd, name)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, whose inner values are not kept but computed again when the backward pass needs them.

    Parameters
    ----------
    f : callable
        Arrays or trees of arrays in, one or the other out. What is differentiated by must be among its positional
        arguments.

    Returns
    -------
    callable
        The same function; its gradient costs one more evaluation and the memory of its arguments only.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> float(ad.grad(ad.checkpoint(lambda x: ad.sin(ad.sin(x))))(0.0))
    1.0
    """

    @wraps(f)
    def again(*args: Any, **kwargs: Any) -> Any:
        leaves, rebuild = flatten(args)
        trace = innermost(leaves)
        if trace is None:
            return f(*args, **kwargs)
        values = opened(leaves, trace)
        ours = [k for k, x in enumerate(leaves) if trace_of(x) is trace]
        of_ours = of_some(lambda filled: f(*rebuild(filled), **kwargs), values, ours)

        def bwd(g: Any) -> list[Any]:
            return spread(vjp(of_ours, *(values[k] for k in ours))[1](g), ours, len(leaves))

        return attach(trace, leaves, f(*rebuild(values), **kwargs), bwd, _name_of(f))

    return again


def envelope(
    value: Callable[[Any, Any], Any], argmin: Callable[[Any], Any], *, hessian: bool = False
) -> Callable[[Any], Any]:
    r"""The function :math:`V(\theta) = \min_x f(x, \theta)`, with its gradient by the envelope theorem.

    .. math:: \nabla V(\theta) = \nabla_\theta f(x^*, \theta), \qquad x^* = \arg\min_x f(x, \theta)

    Parameters
    ----------
    value : callable
        ``value(x, theta)`` is a scalar.
    argmin : callable
        ``argmin(theta)`` gives the minimiser for a plain `theta`; it is not differentiated.
    hessian : bool
        Only False: with the minimiser held fixed, second derivatives would be wrong.

    Returns
    -------
    callable
        ``V(theta)``.

    Raises
    ------
    ValueError
        If `hessian` is true.
    TypeError
        When ``V`` is differentiated twice.

    References
    ----------
    J. M. Danskin, "The Theory of Max-Min", 1967.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> V = ad.envelope(lambda x, t: (x - t) ** 2 + t**2, argmin=lambda t: t)
    >>> float(ad.grad(V)(3.0))
    6.0
    """
    if hessian:
        raise ValueError("the envelope theorem gives first derivatives only; hessian must be False")

    def V(theta: Any) -> Any:
        for leaf in flatten(theta)[0]:
            if isinstance(leaf, Box) and isinstance(leaf.value, Box):
                raise TypeError("the envelope theorem gives first derivatives only; V was differentiated twice")
        return value(argmin(tree_map(unboxed, theta)), theta)

    return V
