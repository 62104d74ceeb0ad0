"""Stand-ins for a stored cost around given potentials: what is left is small, to be stored small or exponentiated.

Each answers ``sweep`` as the cost itself does, while potentials stay within ``limit`` eps of where it was made.
"""

from __future__ import annotations

from numcore.algorithms.transport import _loops
from numcore.algorithms.transport.costs import DenseCost
from numcore.arrays import Array

__all__ = ["GibbsKernel", "ReducedCost"]


class ReducedCost:
    """``R_ij = (C_ij - f_i - g_j) / eps`` in float32, for the log form: small where it matters, so exact to 1e-6."""

    limit = 12.0

    def __init__(self, cost: DenseCost, f: Array, g: Array, eps: float) -> None:
        self.f, self.g, self.eps = f, g, eps
        self.R = _loops.reduced(cost.C, f, g, eps)

    def sweep(
        self, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
    ) -> tuple[Array, Array, Array]:
        """A row update in the shifted potentials, where the cost is R and eps is 1."""
        guess, base = (guess - self.f) / eps, (base + (power - 1) * self.f) / eps
        f, r, c = _loops.sweep(self.R, guess, base, h - self.g / eps, a, 1.0, power)
        return self.f + eps * f, r, c


class GibbsKernel:
    """``K_ij = exp((f_i + g_j - C_ij) / eps)`` at the potentials of the last absorption, for scalings around it."""

    def __init__(self, cost: DenseCost, f: Array, g: Array, eps: float) -> None:
        self.cost, self.f, self.g = cost, f, g
        self.limit = 12.0 if cost.dtype == cost.xp.float32 else 40.0
        self.K = _loops.kernel(cost.C, f, g, eps)
        self.xp = cost.xp

    def sweep(
        self, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
    ) -> tuple[Array, Array, Array]:
        """A row update as a scaling: ``softmin = f_0 - eps log(K x)`` with ``x = b exp((g - g_0) / eps)``."""
        xp = self.xp
        x = xp.exp(h - self.g / eps)
        w = a * xp.exp((base + (power - 1) * self.f) / eps)  # w q^-power = a exp((f - f_0) / eps)
        q, s = _loops.kernel_sweep(self.K, x, w, power)
        if not (bool(xp.all(q > 0)) and bool(xp.isfinite(xp.sum(s)))):  # out of range: this pass in logs
            return self.cost.sweep(guess, base, h, a, eps, power)
        return base + power * (self.f - eps * xp.log(q)), w * q ** (1 - power), x * s
