"""Penalties of codes: their parameters, checked once; and what solvers ask of them for a block of signals.

A block's signals are divided by scales s, so that codes are too: ``a = s a'``. Dividing the objective by ``s^2`` leaves
a penalty of the same kind in `a'`, with other parameters; :meth:`Penalty.scaled` finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numcore.arrays import as_floating, as_number
from numcore.prox._formulas import FORMULAS
from numcore.prox._loops import elementwise, shrink_groups
from numcore.prox._vectors import Groups

__all__ = ["CONVEX", "PENALTIES", "GroupPenalty", "Penalty", "SeparablePenalty"]

Array = NDArray[np.float64]


class Kind(NamedTuple):
    """A separable penalty: its formula, the power with which it grows, its further parameter with default and range."""

    formula: str
    degree: float | None
    shape: str = ""
    default: float | None = None
    least: float = 0.0
    most: float = np.inf
    infinite: bool = False


KINDS = {
    "l1": Kind("l1", 1),
    "elastic_net": Kind("l1", 1, "l1_ratio", 0.5, 0.0, 1.0),
    "l0": Kind("l0", 0),
    "half": Kind("half", 1 / 2),
    "two_thirds": Kind("two_thirds", 2 / 3),
    "lq": Kind("lq", None, "q", None, 0.0, 1.0),
    "mcp": Kind("mcp", 1, "gamma", 3.0, 0.0, infinite=True),
    "scad": Kind("scad", 1, "gamma", 3.7, 2.0, infinite=True),
    "cel0": Kind("mcp", 1),
    "log_sum": Kind("log_sum", 0, "eps", 0.1),
}
PENALTIES = (*KINDS, "group", "tree")
CONVEX = ("l1", "elastic_net", "group", "tree")

LEEWAY = 1e-8
"""By so much, relative to atom and signal, residuals may correlate with atoms in no group, where codes may not be
negative: exactly 0 is out of reach."""

HALVINGS = 60
"""Steps of the search for a dual norm: as many as a float has bits, and a few."""


@dataclass(frozen=True)
class Penalty:
    """``reg sum_j w_j phi(a_j)``, or ``reg sum_g w_g |a_g|``, with checked parameters.

    `weights` belong to coefficients, (1, k) or (n, k), or to groups, (n_groups,); `shape` is the one further parameter
    that some have.
    """

    name: str
    reg: float
    weights: Array
    shape: float = 0.0
    groups: Groups | None = None

    @classmethod
    def check(cls, name: str, reg: Any, weights: Any, params: Any, n: int, k: int) -> Penalty:
        """Read the arguments of the public functions, for n signals and k atoms."""
        reg = as_number(reg, "reg", above=0, closed=True)
        if params is not None and not isinstance(params, Mapping):
            raise TypeError(f"penalty_params must be a mapping or None; got {params!r}")
        params = dict(params or {})
        if name in ("group", "tree"):
            return cls._check_groups(name, reg, weights, params, k)
        kind, shape = KINDS[name], 0.0
        if kind.shape:
            given = params.pop(kind.shape, kind.default)
            if given is None:
                wanted = f"penalty_params must hold {kind.shape!r} for penalty={name!r}"
                raise ValueError(f"{wanted}; got {params or None!r}")
            closed = name == "elastic_net"
            bounds: dict[str, Any] = {"above": kind.least, "below": kind.most, "closed": closed}
            shape = as_number(given, f"penalty_params[{kind.shape!r}]", infinite=kind.infinite, **bounds)
        _refuse_left(name, params)
        w = _weights(weights, n, k)
        if name == "elastic_net" and len(w) > 1:  # its quadratic part goes into the Gram matrix, which signals share
            raise ValueError(f"weights must have shape ({k},) for penalty='elastic_net'; got {w.shape}")
        return cls(name, reg, w, shape)

    @classmethod
    def _check_groups(cls, name: str, reg: float, weights: Any, params: dict[str, Any], k: int) -> Penalty:
        if "groups" not in params:
            raise ValueError(f"penalty_params must hold 'groups' for penalty={name!r}; got {params or None!r}")
        groups = Groups.check(params.pop("groups"), k)
        _refuse_left(name, params)
        w = groups.weights(weights)
        if name == "group":
            groups.refuse_overlaps()
        else:
            groups, order = groups.leaves_first()
            w = w[order]
        return cls(name, reg, w, groups=groups)

    @property
    def convex(self) -> bool:
        return self.name in CONVEX

    @property
    def l1_reg(self) -> float:
        """What multiplies the absolute value in an elastic net, and in all others just `reg`."""
        return self.reg * self.shape if self.name == "elastic_net" else self.reg

    def ridge(self) -> Array | None:
        """What an elastic net adds to the diagonal of the Gram matrix, which leaves it an l1 penalty."""
        if self.name != "elastic_net":
            return None
        return self.reg * (1 - self.shape) * np.where(np.isfinite(self.weights), self.weights, 0.0)

    def scaled(self, scales: Array, atoms: Any, norms: Array, rows: slice) -> SeparablePenalty | GroupPenalty:
        """The penalty of codes divided by `scales`, over the `atoms` (indices), whose norms are `norms`."""
        if self.groups is not None:
            room = LEEWAY * norms
            room[self.groups.indices] = np.inf
            return GroupPenalty(self.groups, self.weights, self.reg / scales, self.name == "tree", room)
        kind = KINDS[self.name]
        own = self.weights[rows] if len(self.weights) > 1 else self.weights
        weights, reg = own[:, atoms], self.l1_reg
        one = np.ones((1, 1))
        if self.name == "cel0":  # the minimax concave penalty of sqrt(2 reg w) norm and 1 / norm^2
            regs = np.sqrt(2 * reg) / scales
            return SeparablePenalty("mcp", regs, norms * np.sqrt(weights), 1 / norms[None] ** 2)
        if self.name == "log_sum":
            return SeparablePenalty("log_sum", reg / scales / scales, weights, self.shape / scales[:, None])
        degree = self.shape if kind.degree is None else kind.degree
        return SeparablePenalty(kind.formula, reg * scales ** (degree - 2), weights, self.shape * one)


class SeparablePenalty:
    """``sum_j phi(a_j; regs_i w_j)`` for the signals i of a block.

    Attributes
    ----------
    formula : str
        A key of :data:`numcore.prox._formulas.FORMULAS`.
    regs : (n,) array
    weights : (1, k) or (n, k) array
    shapes : (1, 1), (n, 1) or (1, k) array
        The power, concavity or eps of formulas that have one.
    """

    def __init__(self, formula: str, regs: Array, weights: Array, shapes: Array) -> None:
        self.formula, self.regs, self.weights, self.shapes = formula, regs, weights, shapes

    def taken(self, rows: Any) -> SeparablePenalty:
        """That of some of the signals."""
        weights = self.weights[rows] if len(self.weights) > 1 else self.weights
        shapes = self.shapes[rows] if len(self.shapes) > 1 else self.shapes
        return SeparablePenalty(self.formula, self.regs[rows], weights, shapes)

    def with_regs(self, regs: Array) -> SeparablePenalty:
        """The same with other regularisation."""
        return SeparablePenalty(self.formula, regs, self.weights, self.shapes)

    @property
    def thresholds(self) -> Array:
        """``regs_i w_j``, (n, k)."""
        return self.regs[:, None] * self.weights

    def prox(self, V: Array, step: Any, positive: bool) -> Array:
        """``argmin_A |A - V|^2 / (2 step) + penalty``; `step` is one number, or one an atom."""
        reg = self.thresholds
        shapes = np.broadcast_to(self.shapes, (1, 1)) if self.shapes.size == 1 else self.shapes
        if self.formula in ("mcp", "scad"):
            parameters: tuple[Any, ...] = (np.broadcast_to(step, (1, V.shape[1])), reg, shapes)
        elif self.formula in ("lq", "log_sum"):
            parameters = (step * reg, shapes)
        else:
            parameters = (step * reg,)
        return elementwise(V, self.formula, parameters, positive, np.empty_like(V))

    def value(self, A: Array) -> Array:
        """The penalty of each signal's code."""
        extra = () if self.formula in ("l1", "l0", "half", "two_thirds") else (self.shapes,)
        a = abs(A)
        with np.errstate(all="ignore"):  # phi(0) = 0 whatever the formula gives
            terms = FORMULAS[self.formula].penalty(np, a, self.thresholds, *extra)
        return np.sum(terms, axis=1, where=a > 0)

    def dual_scale(self, g: Array, positive: bool) -> Array:
        """The largest s <= 1 for which ``s g`` is feasible in the dual: ``s |g_j| <= regs w_j``."""
        size = np.maximum(g, 0.0) if positive else abs(g)
        t = self.thresholds
        return np.min(np.where(size > t, t, 1.0) / np.where(size > t, size, 1.0), axis=1, initial=1.0)


class GroupPenalty:
    """``regs_i sum_g w_g |a_g|`` over groups that are disjoint or nested, smaller ones first.

    `room` is, for atoms in no group, how far above 0 the dual may go there, and inf for all others.
    """

    formula = "group"

    def __init__(self, groups: Groups, weights: Array, regs: Array, nested: bool, room: Array) -> None:
        self.groups, self.weights, self.regs, self.nested, self.room = groups, weights, regs, nested, room

    def taken(self, rows: Any) -> GroupPenalty:
        return GroupPenalty(self.groups, self.weights, self.regs[rows], self.nested, self.room)

    def prox(self, V: Array, step: float, positive: bool) -> Array:
        # the norms are homogeneous, so that thresholds that differ between signals become units of the rows
        t = (step * self.regs)[:, None]
        V = np.maximum(V, 0.0) if positive else V
        unit = np.where(t > 0, t, 1.0)
        shrunk = shrink_groups(V / unit, self.groups.indices, self.groups.offsets, self.weights)
        return np.where(t > 0, unit * shrunk, V)

    def value(self, A: Array) -> Array:
        bounds = self.groups.offsets
        total = np.zeros(len(A))
        for begin, end, weight in zip(bounds[:-1], bounds[1:], self.weights, strict=True):
            norm = np.linalg.norm(A[:, self.groups.indices[begin:end]], axis=1)
            total += np.where(norm > 0, weight * norm, 0.0)
        return self.regs * total

    def dual_scale(self, g: Array, positive: bool) -> Array:
        """The largest s <= 1 for which ``s g`` is in the dual ball: where the operator of the penalty sends it to 0."""
        V = np.maximum(g, 0.0) if positive else g.copy()
        free = np.min(np.where(self.room < V, self.room, 1.0) / np.where(self.room < V, V, 1.0), axis=1, initial=1.0)
        if not self.nested:
            return np.minimum(free, 1 / np.maximum(1.0, self._largest_ratio(V)))
        low, high = np.zeros(len(V)), np.ones(len(V))  # low always fits
        inside = self._fits(V, high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            fits = self._fits(V, middle)
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return np.minimum(free, np.where(inside, 1.0, low))

    def _fits(self, V: Array, s: Array) -> NDArray[np.bool_]:
        regs = np.where(self.regs > 0, self.regs, 1.0)
        left = shrink_groups(V * (s / regs)[:, None], self.groups.indices, self.groups.offsets, self.weights)
        covered = np.unique(self.groups.indices)
        return ~np.any(left[:, covered] != 0, axis=1)

    def _largest_ratio(self, V: Array) -> Array:
        bounds, ratio = self.groups.offsets, np.zeros(len(V))
        for begin, end, weight in zip(bounds[:-1], bounds[1:], self.weights, strict=True):
            norm = np.linalg.norm(V[:, self.groups.indices[begin:end]], axis=1)
            allowed = self.regs * weight
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.maximum(ratio, np.where(norm > allowed, norm / allowed, 0.0))
        return ratio


def _weights(weights: Any, n: int, k: int) -> Array:
    """(1, k) or (n, k); uniform by default."""
    if weights is None:
        return np.ones((1, k))
    w: Array = as_floating(weights, "weights", ndim=(1, 2), dtype=np.float64, infinite="positive")
    w = as_floating(w, "weights", shape=(k,) if w.ndim == 1 else (n, k), infinite="positive")
    negative = int(np.count_nonzero(w < 0))
    if negative:
        raise ValueError(f"weights must not be negative; {negative} of its {w.size} entries are")
    return np.atleast_2d(w)


def _refuse_left(name: str, params: dict[str, Any]) -> None:
    if params:
        raise ValueError(f"penalty_params of penalty={name!r} must not hold {', '.join(map(repr, params))}")
