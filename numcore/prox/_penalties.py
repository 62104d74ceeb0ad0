"""The values of the penalties whose operators are in ``numcore.prox``."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from numcore.arrays import Array, array_namespace, as_choice, as_floating
from numcore.prox._elementwise import _amount, _as_mcp, _weighted
from numcore.prox._formulas import FORMULAS
from numcore.prox._projections import _double, _polar, _vectors
from numcore.prox._vectors import Groups, _check_weights

__all__ = ["penalty_value"]

# the parameter of each, its default, and its range
SHAPES: dict[str, tuple[tuple[str, Any, dict[str, Any]], ...]] = {
    "l1": (),
    "l0": (),
    "half": (),
    "two_thirds": (),
    "lq": (("q", None, {"most": 1.0, "open_ended": True}),),
    "elastic_net": (("l1_ratio", 0.5, {"most": 1.0}),),
    "mcp": (("gamma", 3.0, {"open_ended": True}),),
    "scad": (("gamma", 3.7, {"least": 2.0, "open_ended": True}),),
    "cel0": (("norm", 1.0, {"infinite": False}),),
    "log_sum": (("eps", 0.1, {"open_ended": True, "infinite": False}),),
    "huber": (("delta", 1.0, {"open_ended": True, "infinite": False}),),
}
WHOLE = ("group_l2", "tree", "linf", "sorted_l1", "nuclear", "tv1d")


def penalty_value(name: str, x: Any, *, reg: Any, weights: Any = None, **parameters: Any) -> Array:
    """The penalty ``reg sum phi(x)`` of each vector along the last axis.

    Parameters
    ----------
    name : str
        An operator of this module: ``"l1"``, ``"l0"``, ``"half"``, ``"two_thirds"``, ``"lq"``, ``"elastic_net"``,
        ``"mcp"``, ``"scad"``, ``"cel0"`` (scaled: at most reg an entry), ``"log_sum"``, ``"huber"``, ``"group_l2"``,
        ``"tree"``, ``"linf"``, ``"sorted_l1"``, ``"nuclear"`` (of the last two axes), ``"tv1d"``.
    x : (..., d) array_like, real
    reg : float or array_like, not negative
        The regularisation. For those of whole vectors a float.
    weights : array_like, optional
        As for the operator.
    **parameters
        Further ones of the operator, under their names: ``q``, ``l1_ratio``, ``gamma``, ``norm``, ``eps``, ``delta``,
        ``groups``, ``thresholds``.

    Returns
    -------
    (...) array
        float64.

    Raises
    ------
    TypeError
        If an argument is complex or no number, or a parameter is missing or not one of the operator's.
    ValueError
        If the name is none of those, `x` is not finite, or a parameter lies outside its range.

    Examples
    --------
    >>> from numcore import prox
    >>> float(prox.penalty_value("l1", [3.0, -1.0], reg=0.5))
    2.0
    >>> prox.penalty_value("mcp", [[0.0, 9.0], [1.0, 0.0]], reg=1.0, gamma=2.0)
    array([1.  , 0.75])
    """
    as_choice(name, "name", (*SHAPES, *WHOLE))
    x = as_floating(x, "x")
    if name in WHOLE:
        return _whole(name, x, reg, weights, parameters)
    xp, x = array_namespace(x), _double(x)
    given = [_amount(parameters.pop(key, default), key, x, **bounds) for key, default, bounds in SHAPES[name]]
    _refuse_left(name, parameters)
    reg = _weighted(_amount(reg, "reg", x), weights, x)
    if name == "cel0":
        name, (reg, *given) = "mcp", _as_mcp(reg, *given)
    arrays = [p if hasattr(p, "shape") else xp.asarray(p, dtype=xp.float64, device=device(x)) for p in (reg, *given)]
    a = abs(x)
    with np.errstate(all="ignore"):  # phi(0) = 0 whatever the formula gives
        terms = xp.where(a > 0, FORMULAS[name].penalty(xp, a, *arrays), xp.zeros_like(a))
    return xp.sum(terms, axis=-1)


def _whole(name: str, x: Array, reg: Any, weights: Any, parameters: dict[str, Any]) -> Array:
    x = _vectors(x, "x")
    reg = float(_amount(reg, "reg", x))
    xp, x = array_namespace(x), _double(x)
    if name in ("group_l2", "tree"):
        value = _group_norms(x, weights, parameters)
    elif name == "linf":
        value = xp.max(abs(x), axis=-1)
    elif name == "sorted_l1":
        w = _double(as_floating(weights, "weights", shape=(x.shape[-1],), like=x))
        _check_weights(xp, w)
        value = xp.sum(xp.sort(abs(x), axis=-1, descending=True) * w, axis=-1)
    elif name == "nuclear":
        value = xp.sum(xp.linalg.svdvals(x), axis=-1)
    else:
        value = xp.sum(abs(x[..., 1:] - x[..., :-1]), axis=-1)
    _refuse_left(name, parameters)
    return reg * value


def _group_norms(x: Array, weights: Any, parameters: dict[str, Any]) -> Array:
    xp = array_namespace(x)
    if "groups" not in parameters:
        raise TypeError("groups must be given")
    families = Groups.check(parameters.pop("groups"), x.shape[-1])
    w = families.weights(parameters.pop("thresholds", weights))
    value = xp.zeros(x.shape[:-1], dtype=xp.float64, device=device(x))
    for begin, end, weight in zip(families.offsets[:-1], families.offsets[1:], w.tolist(), strict=True):
        group = xp.asarray(families.indices[begin:end], device=device(x))
        scale, _, length = _polar(part := xp.take(x, group, axis=-1))
        norm = xp.where(xp.any(part != 0, axis=-1), (scale * length)[..., 0], xp.zeros_like(value))
        value = value + xp.where(norm > 0, weight * norm, norm)
    return value


def _refuse_left(name: str, parameters: dict[str, Any]) -> None:
    if parameters:
        raise TypeError(f"{name} has no parameter {', '.join(map(repr, parameters))}")
