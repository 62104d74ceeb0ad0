"""What makes boxes behave like arrays: operators, methods, and NumPy's two hooks for functions called on them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from numcore.autodiff import functions, rules
from numcore.autodiff.boxes import Box, LostDerivativeError, unboxed

__all__ = ["attach"]

ENTRYWISE = (
    "square sqrt exp expm1 log log1p logaddexp sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh maximum minimum "
    "sign"
)
REDUCING = "sum mean prod max min cumsum"
SHAPING = "reshape transpose concatenate roll flip diag tril triu broadcast_to"
COMPOSED = (
    "where clip var std sort swapaxes moveaxis squeeze expand_dims stack vstack hstack take pad trace dot outer "
    "tensordot kron einsum"
)
COMPARING = (
    "greater greater_equal less less_equal equal not_equal isfinite isnan isinf signbit floor ceil rint trunc "
    "logical_and logical_or logical_not"
)
ASKING = (
    "shape ndim size zeros_like ones_like full_like empty_like argmax argmin argsort any all allclose isclose "
    "array_equal count_nonzero result_type searchsorted isscalar iscomplexobj"
)


def _by_numpy(names: str, module: Any) -> dict[Any, Callable[..., Any]]:
    return {getattr(np, name): getattr(module, name) for name in names.split()}


UFUNCS: dict[Any, Callable[..., Any]] = {
    np.add: rules.add,
    np.subtract: rules.subtract,
    np.multiply: rules.multiply,
    np.divide: rules.divide,
    np.power: rules.power,
    np.float_power: rules.power,
    np.negative: rules.negative,
    np.positive: lambda x: x,
    np.absolute: rules.absolute,
    np.fabs: rules.absolute,
    np.reciprocal: lambda x: 1 / x,
    np.log2: lambda x: rules.log(x) * (1 / math.log(2)),
    np.log10: lambda x: rules.log(x) * (1 / math.log(10)),
    np.matmul: functions.matmul,
    **_by_numpy(ENTRYWISE, rules),
}
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **_by_numpy(COMPOSED, functions),
    **_by_numpy(f"{REDUCING} {SHAPING}", rules),
    **{getattr(np.linalg, name): getattr(functions, name) for name in ("solve", "slogdet", "eigh", "norm")},
    np.linalg.inv: rules.inv,
    np.linalg.cholesky: rules.cholesky,
    np.amax: rules.max,
    np.amin: rules.min,
    np.ravel: functions.ravel_array,
    np.inner: lambda x, y: functions.tensordot(x, y, (-1, -1)),
    np.vdot: lambda x, y: rules.sum(rules.reshape(x, (-1,)) * rules.reshape(y, (-1,))),
}
CONSTANT_UFUNCS = frozenset(getattr(np, name) for name in COMPARING.split())
CONSTANT_FUNCTIONS = frozenset(getattr(np, name) for name in ASKING.split())
HINT = "use ad.index_update(x, idx, v), ad.where or ad.stack to build arrays under differentiation"


def _array_ufunc(self: Box, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
    if out is not None:
        raise TypeError(f"numpy.{ufunc.__name__} cannot write a traced value into an array; {HINT}")
    if method == "__call__" and not kwargs:
        if ufunc in UFUNCS:
            return UFUNCS[ufunc](*inputs)
        if ufunc in CONSTANT_UFUNCS:
            return ufunc(*map(unboxed, inputs))
        if ufunc.__name__ in ("erf", "ndtr"):
            return getattr(rules, ufunc.__name__)(*inputs)
    if method == "reduce" and ufunc is np.add:
        return rules.sum(*inputs, **{k: v for k, v in kwargs.items() if k in ("axis", "keepdims")})
    suffix = "" if method == "__call__" else f".{method}"
    options = f" with {', '.join(kwargs)}" if kwargs else ""
    raise TypeError(f"numpy.{ufunc.__name__}{suffix}{options} has no derivative rule here")


def _array_function(self: Box, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    if func in FUNCTIONS:
        if kwargs.get("order") == "C":  # the order that everything here is in
            del kwargs["order"]
        return FUNCTIONS[func](*args, **kwargs)
    if func in CONSTANT_FUNCTIONS:
        return func(*(unboxed(x) for x in args), **{key: unboxed(x) for key, x in kwargs.items()})
    raise TypeError(f"{func.__module__}.{func.__name__} has no derivative rule here")


def _refuse_assignment(self: Box, key: Any, value: Any) -> NoReturn:
    raise TypeError(f"values under differentiation cannot be assigned to; {HINT}")


def _refuse_array(self: Box, *args: Any, **kwargs: Any) -> NoReturn:
    raise LostDerivativeError(f"a traced value cannot become a plain array, which would lose its derivative; {HINT}")


def _refuse_number(self: Box) -> NoReturn:
    raise LostDerivativeError(
        "a traced value cannot become a plain number, which would lose its derivative; to put it into an array, use "
        "ad.index_update(x, idx, v) or ad.stack; where that is meant, ad.stop_gradient(x) gives the plain array"
    )


def _bool(self: Box) -> bool:
    return bool(unboxed(self))


def _len(self: Box) -> int:
    if not self.shape:
        raise TypeError("len() of a 0-d value")
    return self.shape[0]


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Box, Any], Any]:
    return lambda self, other: compare(unboxed(self), unboxed(other))


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Box, Any], Any]:
    return lambda self, other: function(other, self)


def _reshape_method(self: Box, *shape: Any) -> Any:
    return rules.reshape(self, shape[0] if len(shape) == 1 else shape)


def _transpose_method(self: Box, *axes: Any) -> Any:
    return rules.transpose(self, None if not axes else axes[0] if isinstance(axes[0], tuple) else axes)


MEMBERS: dict[str, Any] = {
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
    "__array_priority__": 1000.0,
    "__array__": _refuse_array,
    "__setitem__": _refuse_assignment,
    "__float__": _refuse_number,
    "__int__": _refuse_number,
    "__complex__": _refuse_number,
    "__index__": _refuse_number,
    "__bool__": _bool,
    "__len__": _len,
    "__iter__": lambda self: (self[k] for k in range(_len(self))),
    "__hash__": object.__hash__,
    "__getitem__": rules.getitem,
    "__neg__": rules.negative,
    "__pos__": lambda self: self,
    "__abs__": rules.absolute,
    "T": property(rules.transpose),
    "mT": property(lambda self: functions.swapaxes(self, -1, -2)),
    "reshape": _reshape_method,
    "ravel": functions.ravel_array,
    "flatten": functions.ravel_array,
    "transpose": _transpose_method,
    "copy": lambda self: self,
    "item": _refuse_number,
}


def attach() -> None:
    """Give boxes the operators, methods and hooks."""
    binary = {
        "add": rules.add,
        "sub": rules.subtract,
        "mul": rules.multiply,
        "truediv": rules.divide,
        "pow": rules.power,
        "matmul": functions.matmul,
    }
    members = dict(MEMBERS)
    for name, function in binary.items():
        members[f"__{name}__"], members[f"__r{name}__"] = function, _reflected(function)
    for name in ("gt", "ge", "lt", "le", "eq", "ne"):
        members[f"__{name}__"] = _compared(getattr(operator, name))
    for name in (*REDUCING.split(), "astype"):
        members[name] = getattr(rules, name)
    for name in ("var", "std", "squeeze", "clip", "take", "dot", "swapaxes", "trace"):
        members[name] = getattr(functions, name)
    for name, member in members.items():
        setattr(Box, name, member)
