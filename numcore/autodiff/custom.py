"""Derivatives that the user knows better: custom rules, recomputation, and the envelope theorem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np

from numcore.autodiff import rules
from numcore.autodiff.boxes import Box, Dual, Forward, innermost, namespace, opened, record, trace_of, unboxed
from numcore.autodiff.engine import astype
from numcore.autodiff.transforms import grad, vjp
from numcore.autodiff.trees import flatten, tree_map

__all__ = ["checkpoint", "custom_jvp", "custom_vjp", "envelope"]

Rule = Callable[..., Any]


class custom_vjp:
    """A function whose reverse-mode derivative is given.

    Parameters
    ----------
    f : callable
        Returns an array. Arguments that are no arrays are constants.

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
            ``bwd(residuals, g)`` returns a tuple with a cotangent for each argument, None for zero. Written with
            differentiable functions, it can be differentiated in turn, and forward mode follows from it.
        """
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any) -> Any:
        """Compute, and record the rule where an argument is under differentiation."""
        trace = innermost(args)
        if trace is None:
            return self.f(*args)
        if self.fwd is None or self.bwd is None:
            raise TypeError(f"{self.f.__name__} has no rule yet; call its defvjp(fwd, bwd)")
        values = opened(args, trace)
        out, residuals = self.fwd(*values)
        pull = _Shared(self.bwd, residuals, values, self.f.__name__)
        return _attach(trace, args, out, pull)


def _attach(trace: Any, args: Sequence[Any], out: Any, pull: _Shared) -> Any:
    """`out` with the derivative that `pull` gives, in the mode of `trace`."""
    _refuse_closure(out, trace, pull.name)
    ours = [k for k, x in enumerate(args) if trace_of(x) is trace]
    if type(trace) is not Forward:
        return record(trace, out, tuple((pull, args[k].index, (k,)) for k in ours))

    def paired(g: Any) -> Any:
        """Linear in `g`; its gradient is the tangent."""
        return sum(rules.sum(pull(g, k) * args[k].tangent) for k in ours)

    return Dual(out, grad(paired)(out * 0.0), trace)


def _refuse_closure(out: Any, trace: Any, name: str) -> None:
    if innermost(flatten(out)[0]) is trace:
        raise TypeError(f"{name} uses a value under differentiation that is not among its arguments; pass it as one")


class _Shared:
    """Runs a rule for all arguments once, and hands each its cotangent."""

    def __init__(self, bwd: Rule, residuals: Any, values: Sequence[Any], name: str) -> None:
        self.bwd, self.residuals, self.values, self.name = bwd, residuals, values, name
        self.last: Any = None
        self.cotangents: Any = None

    def __call__(self, g: Any, k: int) -> Any:
        if self.cotangents is None or self.last is not g:
            self.cotangents, self.last = self.bwd(self.residuals, g), g
            self._check()
        part = self.cotangents[k]
        if part is None:
            plain = unboxed(self.values[k])
            return namespace(plain).zeros(plain.shape, dtype=plain.dtype)
        part = part if hasattr(part, "dtype") else np.asarray(part, self.values[k].dtype)
        if tuple(part.shape) != tuple(self.values[k].shape):
            raise TypeError(
                f"the rule of {self.name} must give argument {k} a cotangent of shape "
                f"{tuple(self.values[k].shape)}; it gave {tuple(part.shape)}"
            )
        return part if part.dtype == self.values[k].dtype else astype(part, self.values[k].dtype)

    def _check(self) -> None:
        got = self.cotangents
        if not isinstance(got, tuple) or len(got) != len(self.values):
            what = f"{len(got)}" if isinstance(got, tuple) else f"a {type(got).__name__}"
            self.cotangents = None
            raise TypeError(
                f"the rule of {self.name} must return a tuple of {len(self.values)} cotangents, one for each argument; "
                f"got {what}"
            )


class custom_jvp:
    """A function whose derivative along a direction is given; reverse mode follows from it.

    Parameters
    ----------
    f : callable
        Returns an array.

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

    def __call__(self, *args: Any) -> Any:
        """Compute, and record the rule where an argument is under differentiation."""
        trace = innermost(args)
        if trace is None:
            return self.f(*args)
        if self.rule is None:
            raise TypeError(f"{self.f.__name__} has no rule yet; call its defjvp(jvp)")
        values = opened(args, trace)
        zeros = [x * 0.0 if hasattr(x, "dtype") else None for x in values]
        if type(trace) is Forward:
            slopes = [x.tangent if trace_of(x) is trace else zero for x, zero in zip(args, zeros, strict=True)]
            out, slope = self.rule(values, tuple(slopes))
            return Dual(out, slope, trace)
        ours = [k for k, x in enumerate(args) if trace_of(x) is trace]
        rule = self.rule

        def along(*tangents: Any) -> Any:
            filled = list(zeros)
            for k, t in zip(ours, tangents, strict=True):
                filled[k] = t
            return rule(values, tuple(filled))[1]

        out = rule(values, tuple(zeros))[0]

        def bwd(residuals: Any, g: Any) -> tuple[Any, ...]:
            parts = iter(vjp(along, *(zeros[k] for k in ours))[1](g))
            return tuple(next(parts) if k in ours else None for k in range(len(values)))

        return _attach(trace, args, out, _Shared(bwd, None, values, self.f.__name__))


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, whose inner values are not kept but computed again when the backward pass needs them.

    Parameters
    ----------
    f : callable
        Arrays in, an array out. What it differentiates by must be among its arguments.

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
    again = custom_vjp(f)

    def bwd(args: Any, g: Any) -> tuple[Any, ...]:
        arrays = [k for k, x in enumerate(args) if hasattr(x, "dtype")]

        def of_arrays(*given: Any) -> Any:
            filled = list(args)
            for k, x in zip(arrays, given, strict=True):
                filled[k] = x
            return f(*filled)

        parts = iter(vjp(of_arrays, *(args[k] for k in arrays))[1](g))
        return tuple(next(parts) if k in arrays else None for k in range(len(args)))

    again.defvjp(lambda *args: (f(*args), args), bwd)
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
