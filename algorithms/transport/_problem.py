"""A transport problem, checked: cost, weights, regularisation; and what can be said of a pair of potentials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import device

from numcore.algorithms.transport.costs import Cost, DenseCost, _log, as_cost
from numcore.arrays import Array, as_choice, as_floating, as_number

__all__ = ["Problem", "as_weights"]


@dataclass(frozen=True, eq=False)
class Problem:
    """``min_P <P, C> + eps KL(P | a (x) b) + rho1 KL(P 1 | a) + rho2 KL(P^T 1 | b)``; rho = inf is a hard marginal.

    Weights and all vectors are float64, whatever the precision of the cost.
    """

    cost: Cost
    a: Array
    b: Array
    log_a: Array
    log_b: Array
    eps: float
    rho: tuple[float, float]

    @classmethod
    def check(
        cls, cost: Any, a: Any, b: Any, reg: Any, reg_scale: Any, marginal_reg: Any = None, storage: Any = None
    ) -> Problem:
        """Check the arguments that every method shares; nothing is computed before they have passed."""
        scale = as_choice(reg_scale, "reg_scale", ("absolute", "mean", "max"))
        reg = as_number(reg, "reg", above=0)
        rho = _as_marginal_reg(marginal_reg)
        cost = as_cost(cost)
        if as_choice(storage, "storage", (None, "float32", "float64")) == "float64":
            cost = cost.astype(cost.xp.float64)
        a = as_weights(a, "a", cost.shape[0], cost)
        b = as_weights(b, "b", cost.shape[1], cost)
        _check_shapes(cost, a, b)
        if rho == (np.inf, np.inf):
            b = _balance(a, b, cost)
        _check_pairs(cost, a, b)
        eps = reg * _unit(cost, a, b, scale)
        return cls(cost, a, b, _log(cost.xp, a), _log(cost.xp, b), eps, rho)

    @property
    def xp(self) -> Any:
        """The array namespace of the cost."""
        return self.cost.xp

    @property
    def balanced(self) -> bool:
        """Whether both marginals are hard."""
        return self.rho == (np.inf, np.inf)

    @cached_property
    def product_mass(self) -> float:
        """The mass of the reference measure ``a (x) b``."""
        return float(self.xp.sum(self.a)) * float(self.xp.sum(self.b))

    @cached_property
    def positive(self) -> bool:
        """Whether no target has weight 0."""
        return bool(self.xp.all(self.b > 0))

    @property
    def shrinks(self) -> tuple[float, float]:
        """``rho / (rho + eps)`` of both sides."""
        first, second = (1.0 if rho == np.inf else rho / (rho + self.eps) for rho in self.rho)
        return first, second

    def h(self, g: Array) -> Array:
        """``log b + g / eps``."""
        return self.log_b + g / self.eps

    def u(self, f: Array) -> Array:
        """``log a + f / eps``."""
        return self.log_a + f / self.eps

    def dual_value(self, f: Array, g: Array, mass: float) -> float:
        """The dual objective at any pair whose plan has total mass `mass`: a lower bound of the optimum."""
        return self._side(0, self.a, f) + self._side(1, self.b, g) - self.eps * (mass - self.product_mass)

    def _side(self, k: int, weights: Array, potential: Array) -> float:
        rho = self.rho[k]
        if rho == np.inf:
            return float(weights @ potential)
        return -rho * float(weights @ self.xp.expm1(-potential / rho))

    def primal_value(self, f: Array, g: Array, r: Array, c: Array) -> float:
        """The primal objective at the plan of (f, g), whose marginals are r and c; hard marginals taken as met."""
        mass = float(self.xp.sum(r))
        value = float(r @ f) + float(c @ g) - self.eps * (mass - self.product_mass)
        for rho, p, q in zip(self.rho, (r, c), (self.a, self.b), strict=True):
            if rho != np.inf:
                ratio = self.xp.where(q > 0, p, self.xp.ones_like(p)) / self.xp.where(q > 0, q, self.xp.ones_like(q))
                value += rho * float(self.xp.sum(p * _finite_log(self.xp, ratio) - p + q))
        return value

    def residual(self, f: Array, g: Array, r: Array, c: Array) -> Array:
        """``|P1 - a exp(-f / rho1)|_1 + |P^T 1 - b exp(-g / rho2)|_1``: the L1 error of both marginals when hard."""
        xp = self.xp
        rows, columns = (
            xp.sum(abs(p - (q if rho == np.inf else q * xp.exp(-potential / rho))), axis=-1)
            for rho, p, q, potential in zip(self.rho, (r, c), (self.a, self.b), (f, g), strict=True)
        )
        return rows + columns

    def columns(self, f: Array, g: Array, c: Array, relax: float = 1.0) -> Array:
        """The column update from the column sums c of the plan of (f, g)."""
        xp, least = self.xp, 1e-30 if self.cost.dtype == self.xp.float32 else 1e-290
        if self.positive and float(xp.min(c)) > least:
            soft = g + self.eps * (self.log_b - xp.log(c))
            return self.shrinks[1] * soft if relax == 1 else (1 - relax) * g + relax * self.shrinks[1] * soft
        usable = (c > least) & (self.b > 0)
        log_b = xp.where(usable, self.log_b, xp.zeros_like(c))
        soft = g + self.eps * xp.where(usable, log_b - _finite_log(xp, c), xp.zeros_like(c))
        lost = (self.b > 0) & ~usable
        if bool(xp.any(lost)):  # sums that have left the range of floats are taken again, in logs
            soft = self._exact_columns(f, lost, soft, g)
        soft = xp.where(self.b > 0, soft, g)
        return (1 - relax) * g + relax * self.shrinks[1] * soft

    def centred(self, f: Array, g: Array) -> tuple[Array, Array]:
        """The pair in the gauge ``<b, g> = 0`` (balanced problems; in others the constants are determined)."""
        if not self.balanced:
            return f, g
        shift = float(self.b @ g) / float(self.xp.sum(self.b))
        return f + shift, g - shift

    def translated(self, f: Array, g: Array) -> Array:
        """The g of the pair after its best shift (f + t, g - t), where both marginals are soft and it matters."""
        rho1, rho2 = self.rho
        if np.inf in self.rho:
            return g
        lift = _log_sum_exp(self.xp, self.log_a - f / rho1) - _log_sum_exp(self.xp, self.log_b - g / rho2)
        return g - rho1 * rho2 / (rho1 + rho2) * lift

    def extended(self, f: Array, g: Array) -> Array:
        """The extension of g out of sample: exact soft minima where b is 0. (A row update gives f everywhere.)"""
        empty = self.b == 0
        if not bool(self.xp.any(empty)):
            return g
        exact = self._exact_columns(f, empty, g, g)
        return self.xp.where(empty, self.shrinks[1] * exact, exact)

    def _exact_columns(self, f: Array, where: Array, x: Array, default: Array) -> Array:
        """x, with exact column soft minima where the mask is set, or the default there if all pairs are forbidden."""
        xp = self.xp
        exact = self.cost.column_soft_min(xp.nonzero(where)[0], self.u(f), self.eps)
        order = xp.cumulative_sum(xp.astype(where, xp.int64)) - 1
        exact = xp.take(exact, xp.where(where, order, xp.zeros_like(order)))
        return xp.where(where, xp.where(xp.isfinite(exact), exact, default), x)

    def start(self, init: Any) -> tuple[Array, Array]:
        """The first potentials: those of `init`, completed by a half step, or the minima of a stored cost, or zeros."""
        f, g = self._given(init)
        xp = self.xp
        if f is None and g is None:
            if isinstance(self.cost, DenseCost):
                return self.cost.minima()
            return xp.zeros_like(self.a), xp.zeros_like(self.b)
        if g is None:
            g = self.shrinks[1] * self.cost.T.soft_min(self.u(f), self.eps)
        if f is None:
            f = xp.zeros_like(self.a)  # a row update needs only g
        return f, xp.where(xp.isfinite(g), g, xp.zeros_like(g))

    def _given(self, init: Any) -> tuple[Array | None, Array | None]:
        if init is None:
            return None, None
        pair = getattr(init, "_potentials", None) or init
        try:
            f, g = pair
        except (TypeError, ValueError):
            raise TypeError(
                f"init must be a SinkhornResult or a pair (f, g), either may be None; got {type(init).__name__}"
            ) from None
        like, n, m = self.a, *self.cost.shape
        return (
            None if f is None else as_floating(f, "init[0]", shape=(n,), dtype=self.xp.float64, like=like),
            None if g is None else as_floating(g, "init[1]", shape=(m,), dtype=self.xp.float64, like=like),
        )

    def cast(self, x: Array) -> Array:
        """`x` in the precision of the cost."""
        return self.xp.astype(x, self.cost.dtype, copy=False)


def as_weights(weights: Any, name: str, size: int, cost: Cost) -> Array:
    """Weights as a float64 array of the cost's library: uniform for None; non-negative, with a positive sum."""
    xp, like = cost.xp, cost.sample
    if weights is None:
        return xp.full((size,), 1 / size, dtype=xp.float64, device=device(like))
    w = as_floating(weights, name, ndim=1, like=like, dtype=xp.float64)
    check_masses(xp, w, name)
    return w


def _check_shapes(cost: Cost, a: Array, b: Array) -> None:
    for weights, name, size in ((a, "a", cost.shape[0]), (b, "b", cost.shape[1])):
        if weights.shape != (size,):
            raise ValueError(
                f"{name} must have shape ({size},) to match cost; got shapes cost {tuple(cost.shape)}, "
                f"a {tuple(a.shape)}, b {tuple(b.shape)}"
            )


def check_masses(xp: Any, w: Array, name: str) -> None:
    """Refuse negative weights, and weights that are all 0."""
    negative = int(xp.count_nonzero(w < 0))
    if negative:
        raise ValueError(f"{name} must not be negative; {negative} of its {w.size} entries are")
    total = xp.sum(w, axis=-1)
    if bool(xp.any(total == 0)) or not bool(xp.all(xp.isfinite(total))):
        raise ValueError(f"{name} must have a positive finite sum; got {float(xp.min(total)):g}")


def _balance(a: Array, b: Array, cost: Cost) -> Array:
    xp = cost.xp
    mass_a, mass_b = float(xp.sum(a)), float(xp.sum(b))
    slack = 1e-4 if cost.dtype == xp.float32 else 1e-6
    if abs(mass_a - mass_b) > slack * max(mass_a, mass_b):
        raise ValueError(
            f"a and b must have equal sums in a balanced problem; got {mass_a:.9g} and {mass_b:.9g} "
            "(set marginal_reg for an unbalanced one)"
        )
    return b * (mass_a / mass_b)


def _check_pairs(cost: Cost, a: Array, b: Array) -> None:
    """Refuse a source or target with weight whose every pair is forbidden."""
    if not isinstance(cost, DenseCost):
        return
    xp = cost.xp
    if cost.finite:
        return
    allowed = xp.isfinite(cost.C)
    for axis, weights, what in ((1, a, "row"), (0, b, "column")):
        count = int(xp.count_nonzero(~xp.any(allowed, axis=axis) & (weights > 0)))
        if count:
            raise ValueError(f"cost has {count} {what}(s) with positive weight whose entries are all +inf")


def _unit(cost: Cost, a: Array, b: Array, scale: str) -> float:
    if scale == "absolute":
        return 1.0
    unit = cost.mean(a, b) if scale == "mean" else cost.range()[1]
    if unit < 0:
        raise ValueError(f'reg_scale="{scale}" needs a cost whose {scale} is positive; got {unit:g}')
    return unit if unit > 0 else 1.0


def _as_marginal_reg(marginal_reg: Any) -> tuple[float, float]:
    if marginal_reg is None:
        return (np.inf, np.inf)
    pair = marginal_reg if isinstance(marginal_reg, (tuple, list)) else (marginal_reg, marginal_reg)
    if len(pair) != 2:
        raise ValueError(f"marginal_reg must be one number or a pair; got {marginal_reg!r}")
    first, second = (as_number(rho, "marginal_reg", above=0, infinite=True) for rho in pair)
    return first, second


def _finite_log(xp: Any, x: Array) -> Array:
    """The logarithm, with 0 where x is not positive."""
    positive = x > 0
    return xp.log(xp.where(positive, x, xp.ones_like(x)))


def _log_sum_exp(xp: Any, x: Array) -> Array:
    top = xp.max(x, axis=-1, keepdims=True)
    return top + xp.log(xp.sum(xp.exp(x - top), axis=-1, keepdims=True))
