"""Boxes around values under differentiation, and the traces that they belong to.

A box holds a value, which may be a box of an outer trace in turn. Of several boxed arguments the one whose trace began
last wins, and the others are constants of that trace; so derivatives nest without being confused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from numcore.arrays import array_namespace

__all__ = [
    "Box",
    "Dual",
    "Forward",
    "Tape",
    "Var",
    "innermost",
    "namespace",
    "opened",
    "record",
    "running",
    "trace_of",
    "unboxed",
]

NUMPY = frozenset({np.ndarray, np.float64, np.float32, float, int, bool, np.bool_, list, tuple})


def namespace(x: Any) -> Any:
    """NumPy for what NumPy takes, the array's own array-API namespace otherwise."""
    return np if type(x) in NUMPY or isinstance(x, (np.generic, np.ndarray)) else array_namespace(x)


class Box:
    """What :class:`Var` and :class:`Dual` share; ``protocols`` adds the operators and NumPy's hooks."""

    __slots__ = ()
    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.value.shape))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a traced value cannot be copied or pickled; ad.stop_gradient(x) gives the plain array")


class Var(Box):
    """A value on a tape, at position `index`."""

    __slots__ = ("index", "tape", "value")

    def __init__(self, value: Any, index: int, tape: Tape) -> None:
        self.value, self.index, self.tape = value, index, tape


class Dual(Box):
    """A value and its tangent, in one run of forward mode."""

    __slots__ = ("tangent", "trace", "value")

    def __init__(self, value: Any, tangent: Any, trace: Forward) -> None:
        self.value, self.tangent, self.trace = value, tangent, trace


class _Running(threading.local):
    level = 0
    checked: Any = None  # what tapes become under debug_nans


running = _Running()
"""The state of this thread: how deep differentiations are nested."""


class Tape(list[Sequence[tuple[Callable[..., Any], int, tuple[Any, ...]]]]):
    """The record of one reverse-mode run, open within its ``with`` block."""

    __slots__ = ("level",)
    box: Any = Var

    def __enter__(self) -> Tape:
        running.level += 1
        self.level = running.level
        if running.checked is not None:
            self.__class__ = running.checked
        return self

    def __exit__(self, kind: Any, failure: Any, place: Any) -> None:
        running.level -= 1
        self.__class__ = _ClosedTape
        _give_reason(failure)

    def leaf(self, value: Any) -> Var:
        """A value to differentiate by."""
        self.append(())
        return Var(value, len(self) - 1, self)


class _ClosedTape(Tape):
    __slots__ = ()

    def append(self, edges: Any) -> NoReturn:
        raise ValueError("value escaped its trace: it was recorded by a differentiation that has ended")


class Forward:
    """One run of forward mode, open within its ``with`` block."""

    __slots__ = ("level", "open")

    def __enter__(self) -> Forward:
        running.level += 1
        self.level, self.open = running.level, True
        return self

    def __exit__(self, kind: Any, failure: Any, place: Any) -> None:
        running.level -= 1
        self.open = False
        _give_reason(failure)


class LostDerivativeError(TypeError):
    """A value under differentiation was to become a plain one."""


def _give_reason(failure: Any) -> None:
    """Raise what is behind NumPy's "setting an array element with a sequence", which hides our own error."""
    if isinstance(failure, ValueError) and isinstance(failure.__cause__, LostDerivativeError):
        raise failure.__cause__ from None


def trace_of(box: Any) -> Any:
    """The tape or forward run that `box` belongs to; None for a plain value."""
    kind = type(box)
    return box.tape if kind is Var else box.trace if kind is Dual else None


def innermost(values: Sequence[Any]) -> Any:
    """The trace that began last among those of `values`; None if none is boxed."""
    found = None
    for value in values:
        trace = trace_of(value)
        if trace is None or trace is found:
            continue
        if found is not None and found.level == trace.level:
            raise ValueError("value escaped its trace: it is used together with values of another differentiation")
        if found is None or trace.level > found.level:
            found = trace
    return found


def opened(values: Sequence[Any], trace: Any) -> tuple[Any, ...]:
    """`values` with the boxes of `trace` opened."""
    found = []
    for x in values:
        kind = type(x)
        ours = x.tape is trace if kind is Var else x.trace is trace if kind is Dual else False
        found.append(x.value if ours else x)
    return tuple(found)


def unboxed(x: Any) -> Any:
    """The plain array in `x`, however many traces deep."""
    while type(x) is Var or type(x) is Dual:
        x = x.value
    return x


def record(trace: Tape, out: Any, edges: Any) -> Any:
    """Put `out` on the tape."""
    trace.append(edges)
    return trace.box(out, len(trace) - 1, trace)
