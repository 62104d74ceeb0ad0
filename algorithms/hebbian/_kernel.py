"""The noise that the other memories make: its correlation between two states of overlap q."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial

__all__ = ["Kernel", "noise_kernel"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Kernel:
    """``xi(q) = sum_j a_j q^j``, and its derivatives.

    Attributes
    ----------
    value : Polynomial
        xi at load alpha = 1; that of another load is proportional.
    """

    value: Polynomial

    @cached_property
    def slope(self) -> Polynomial:
        """Xi'."""
        return self.value.deriv()

    @cached_property
    def curvature(self) -> Polynomial:
        """Xi''."""
        return self.value.deriv(2)

    @cached_property
    def excess(self) -> Polynomial:
        """``q xi'(q) - xi(q)``."""
        return Polynomial([0.0, 1.0]) * self.slope - self.value

    @property
    def has_random_field(self) -> bool:
        """Whether the noise acts on a state without any order: xi'(0) > 0."""
        return bool(self.slope.coef[0] > 0)


def noise_kernel(order: int, interaction: str, kappa: float = 1.0) -> Kernel:
    r"""The kernel of the interaction of order P at load 1.

    Distinct indices give :math:`\kappa P! q^P / 4`. With repeated indices the power of a Gaussian overlap is the sum of
    Hermite polynomials, :math:`z^P = \sum_j c_j He_j(z)`, and each makes a glass of its own order:
    :math:`a_j = \kappa c_j^2 j! / 4`. A constant (j = 0) shifts all energies alike and is left out.
    """
    P = order
    a = np.zeros(P + 1)
    for k in range(P // 2 + 1 if interaction == "full" else 1):
        j = P - 2 * k
        c = factorial(P) // (2**k * factorial(k) * factorial(j))
        if j:
            a[j] = kappa / 4 * c**2 * factorial(j)
    return Kernel(Polynomial(a))
