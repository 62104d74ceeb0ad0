"""The glass that the memories form together: one step of replica symmetry breaking, without retrieval.

The temperature enters as ``c = beta sqrt(alpha xi'(q))``, the width of the field in units of T. Given c and the
breaking parameter y, the overlap follows, ``q = <tanh^2>``, and from it the temperature: nothing has to be iterated.
Temperatures are in units of the square root of the load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from numcore.algorithms.hebbian._average import field_average, log_2cosh, mixture_of, stability_and_entropy
from numcore.algorithms.hebbian._kernel import Kernel
from numcore.algorithms.hebbian._roots import bracketed_roots

__all__ = ["GlassCurve", "glass_curve", "transitions"]

Array = np.ndarray[Any, Any]

NODES = 48
WIDTHS = np.geomspace(1e-2, 12.0, 200)
SMALLEST, LARGEST = 0.3, 2000.0
"""Widths between which the curve is made: narrower, the glass differs from no glass by rounding."""


class _Moments(NamedTuple):
    """Averages weighted by (2 cosh cZ)^y: tanh^2, log 2cosh, and the logarithm of the mean weight."""

    q: Array
    entropy: Array
    log_weight: Array


@dataclass(frozen=True)
class GlassCurve:
    """The glass below its static transition, from high to low temperature.

    Attributes
    ----------
    temperature, q, y, pressure : (n,) arrays
        At load 1.
    slope : (n,) array
        The derivative of the pressure by the inverse temperature.
    """

    temperature: Array
    q: Array
    y: Array
    pressure: Array
    slope: Array


def transitions(kernel: Kernel) -> tuple[float, float]:
    """The dynamic and the static transition temperature at load 1.

    Below the first, states with ``q > 0`` exist; below the second they dominate. Both are the temperature at which q
    grows from 0, ``sqrt(xi''(0))``, where that comes first. In a random field q is never 0, and both are taken to be
    where replica symmetry becomes unstable.
    """
    if kernel.has_random_field:
        T = _instability(kernel)
        return T, T
    continuous = float(np.sqrt(kernel.curvature(0.0)))
    c = _static_width(kernel)
    static = float(_temperature(kernel, c, _moments(c, np.ones(1)).q)[0]) if c.size else 0.0
    return max(_onset(kernel)[1], continuous), max(static, continuous)


def glass_curve(kernel: Kernel) -> GlassCurve:
    """The states whose pressure changes neither with q nor with y."""
    start = _static_width(kernel)
    first = start[0] if start.size else SMALLEST
    c = first + np.geomspace(1e-4, LARGEST, 160)
    one, none = np.ones_like(c), np.full_like(c, 1e-4)
    found = (_imbalance(kernel, c, none) > 0) != (_imbalance(kernel, c, one) > 0)
    c = c[found]
    y = bracketed_roots(lambda v, k: _imbalance(kernel, c[k], v), none[found], one[found], xtol=1e-14)
    at = _moments(c, y)
    q, T = at.q, _temperature(kernel, c, at.q)
    whole = kernel.value(1.0)
    pressure = (whole + (1 - y) * kernel.excess(q) - kernel.slope(q)) / (2 * T**2) + at.log_weight / y
    return GlassCurve(T, q, y, pressure, (whole - (1 - y) * kernel.value(q)) / T)


def _instability(kernel: Kernel) -> float:
    """The highest temperature at which the eigenvalue of de Almeida and Thouless is 0 in the random field."""
    blank = mixture_of(1.0, 1, "exact")

    def eigenvalue(c: Array, _: Any = None) -> Array:
        q = field_average(blank, 1.0, 0 * c, c, 2 * NODES).q
        sech4 = stability_and_entropy(blank, 1.0, 0 * c, c, 2 * NODES)[0]
        return 1 - c**2 * kernel.curvature(q) / kernel.slope(q) * sech4

    first = int(np.argmax(eigenvalue(WIDTHS) < 0))
    c = bracketed_roots(eigenvalue, WIDTHS[[first - 1]], WIDTHS[[first]])
    return float(_temperature(kernel, c, field_average(blank, 1.0, 0 * c, c, 2 * NODES).q)[0])


def _static_width(kernel: Kernel) -> Array:
    """The width at which y = 1 is stationary, in an array that is empty where there is none."""
    ends = np.array([_onset(kernel)[0], 12.0])
    below, above = _imbalance(kernel, ends, np.ones(2))
    if (below > 0) == (above > 0) or ends[0] == WIDTHS[0]:
        return np.zeros(0)
    return bracketed_roots(lambda v, _: _imbalance(kernel, v, np.ones_like(v)), ends[:1], ends[1:])


def _onset(kernel: Kernel) -> tuple[float, float]:
    """The highest temperature at which a state with q > 0 exists, after its width."""

    def temperature(c: Any) -> Array:
        c = np.atleast_1d(c)
        return _temperature(kernel, c, _moments(c, np.ones_like(c)).q)

    T = temperature(WIDTHS)
    best = int(np.argmax(T))
    if best == 0:
        return float(WIDTHS[0]), float(T[0])
    bounds = WIDTHS[best - 1], WIDTHS[min(best + 1, len(WIDTHS) - 1)]
    top = minimize_scalar(lambda c: -temperature(c)[0], bounds=bounds, method="bounded", options={"xatol": 1e-9})
    return float(top.x), -float(top.fun)


def _temperature(kernel: Kernel, c: Array, q: Array) -> Array:
    return np.sqrt(kernel.slope(q)) / c


def _imbalance(kernel: Kernel, c: Array, y: Array) -> Array:
    """``-dA/dy``: zero where y is stationary."""
    at = _moments(c, y)
    return c**2 / 2 * kernel.excess(at.q) / kernel.slope(at.q) - (y * at.entropy - at.log_weight) / y**2


def _moments(c: Array, y: Array) -> _Moments:
    """Gauss-Legendre on both sides of where tanh has become 1, as far as the tilted Gaussian reaches."""
    points, rule = np.polynomial.legendre.leggauss(NODES)
    reach = c * y + 9.0
    turn = np.minimum(12.0 / c, reach / 2)
    edges = np.stack([np.zeros_like(c), turn, (turn + reach) / 2, reach], axis=-1)
    half = (edges[:, 1:] - edges[:, :-1]) / 2
    z = ((edges[:, :-1] + half)[..., None] + half[..., None] * points).reshape(len(c), -1)
    h = c[:, None] * z
    entropy = log_2cosh(h)
    exponent = y[:, None] * entropy - z**2 / 2
    top = exponent.max(axis=1, keepdims=True)
    weights = np.exp(exponent - top) * (half[..., None] * rule).reshape(len(c), -1)
    total = weights.sum(axis=1)
    log_weight = np.log(total * np.sqrt(2 / np.pi)) + top[:, 0]
    q = np.einsum("kz,kz->k", weights, np.tanh(h) ** 2) / total
    return _Moments(q, np.einsum("kz,kz->k", weights, entropy) / total, log_weight)
