"""The scalar proximal operators, each formula once: on arrays of any library, and inside compiled loops on scalars.

An operator is odd, and what it does to ``a = |v|`` is a triple of functions in :data:`FORMULAS`:

``active(xp, a, ...)``
    Whether the result differs from 0. Ties of two minimisers are not active, so that 0 wins.
``shrunk(xp, a, ...)``
    The result where it does; anything elsewhere.
``penalty(xp, a, reg, ...)``
    ``reg phi(a)`` for a > 0.

All of them take the namespace `xp` first (``numpy`` itself in compiled loops), then ``a >= 0`` and the parameters, as
float64 throughout. ``t = step reg``. Formulas hold no branch and no data-dependent loop: only what arrays and scalars
do alike.

References
----------
Sources stand with the public functions in ``numcore.prox``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["FORMULAS", "HELPERS", "Formula"]


class Formula(NamedTuple):
    """One operator."""

    active: Callable[..., Any]
    shrunk: Callable[..., Any]
    penalty: Callable[..., Any]


def l1_active(xp: Any, a: Any, t: Any) -> Any:
    return a > t


def l1_shrunk(xp: Any, a: Any, t: Any) -> Any:
    return a - t


def l1_penalty(xp: Any, a: Any, reg: Any) -> Any:
    return reg * a


def elastic_net_active(xp: Any, a: Any, t: Any, l1_ratio: Any) -> Any:
    return a > t * l1_ratio


def elastic_net_shrunk(xp: Any, a: Any, t: Any, l1_ratio: Any) -> Any:
    return (a - t * l1_ratio) / (1 + t * (1 - l1_ratio))


def elastic_net_penalty(xp: Any, a: Any, reg: Any, l1_ratio: Any) -> Any:
    return reg * (l1_ratio * a + (1 - l1_ratio) / 2 * a * a)


def l0_active(xp: Any, a: Any, t: Any) -> Any:
    return a > xp.sqrt(2 * t)


def l0_shrunk(xp: Any, a: Any, t: Any) -> Any:
    return a


def l0_penalty(xp: Any, a: Any, reg: Any) -> Any:
    return reg + 0 * a


# Powers a**q, 0 < q < 1: the result is the largest root y of h(y) = y - a + t q y**(q - 1). Newton from y = a descends
# to it monotonically, since h is convex and h(a) >= 0; above the threshold h' >= 1 - q / 2, so the root is well
# separated. Written as a correction of y - a, a step is exact for t = 0. The closed forms of q = 1/2 (arccos) and q =
# 2/3 (arccosh) are neither faster nor as accurate; the tests hold the roots against them.


def power_step(xp: Any, y: Any, a: Any, q: Any, slope: Any) -> Any:
    """One Newton step, ``slope = t q y**(q - 1)``."""
    return y - ((y - a) + slope) / (1 - (1 - q) * slope / y)


def half_active(xp: Any, a: Any, t: Any) -> Any:
    return a > 1.5 * t ** (2 / 3)


def half_shrunk(xp: Any, a: Any, t: Any) -> Any:
    y = a
    for _ in range(5):
        y = power_step(xp, y, a, 0.5, 0.5 * t / xp.sqrt(y))
    return y


def half_penalty(xp: Any, a: Any, reg: Any) -> Any:
    return reg * xp.sqrt(a)


def two_thirds_active(xp: Any, a: Any, t: Any) -> Any:
    return a > 2 * (2 * t / 3) ** 0.75


def two_thirds_shrunk(xp: Any, a: Any, t: Any) -> Any:
    # in z = y**(1/3) the equation is a quartic, z**3 - a + 2 t / (3 z) = 0, whose steps need no power
    z = a ** (1 / 3)
    for _ in range(6):
        cube = z * z * z
        z = z - z * (((cube - a) + 2 * t / (3 * z)) / (4 * cube - a))
    return power_step(xp, z * z * z, a, 2 / 3, 2 * t / (3 * z))


def two_thirds_penalty(xp: Any, a: Any, reg: Any) -> Any:
    return reg * a ** (2 / 3)


def lq_active(xp: Any, a: Any, t: Any, q: Any) -> Any:
    jump = (2 * t * (1 - q)) ** (1 / (2 - q))
    return a > jump * (2 - q) / (2 * (1 - q))


def lq_shrunk(xp: Any, a: Any, t: Any, q: Any) -> Any:
    y = a
    for _ in range(8):
        y = power_step(xp, y, a, q, t * q * y ** (q - 1))
    return y


def lq_penalty(xp: Any, a: Any, reg: Any, q: Any) -> Any:
    return reg * a**q


def mcp_active(xp: Any, a: Any, step: Any, reg: Any, gamma: Any) -> Any:
    # reg sqrt(step gamma), but steps of 1e-200 have no product
    return a > step * reg * xp.sqrt(xp.where(step < gamma, 1 + 0 * step, gamma / step))


def mcp_shrunk(xp: Any, a: Any, step: Any, reg: Any, gamma: Any) -> Any:
    smooth = step < gamma
    slanted = (a - step * reg) / (1 - xp.where(smooth, step / gamma, 0 * step))
    # for step near gamma, rounding alone could lift it above a
    return xp.where(smooth & (a <= gamma * reg) & (slanted < a), slanted, a)


def mcp_penalty(xp: Any, a: Any, reg: Any, gamma: Any) -> Any:
    return xp.where(a > gamma * reg, gamma * reg * reg / 2, reg * a - a * a / (2 * gamma))


def scad_active(xp: Any, a: Any, step: Any, reg: Any, gamma: Any) -> Any:
    # for step > gamma + 1 the flat part is left for 0 at once, before soft thresholding sets in
    return a > xp.where(step <= gamma + 1, step * reg, reg * xp.sqrt(step * (gamma + 1)))


def scad_shrunk(xp: Any, a: Any, step: Any, reg: Any, gamma: Any) -> Any:
    k = 1 / (gamma - 1)
    smooth = step * k < 1
    soft = a <= xp.where(smooth, reg * (1 + step), reg * (gamma + 1 + step) / 2)
    shifted = a - step * reg
    slanted = (a - step * reg * (1 + k)) / (1 - xp.where(smooth, step * k, 0 * step))
    # for step near gamma - 1, rounding alone could bring it below the one or above the other
    slanted = xp.where(slanted > shifted, slanted, shifted)
    middle = smooth & (a <= gamma * reg) & (slanted < a)
    return xp.where(soft & (step <= gamma + 1), shifted, xp.where(middle, slanted, a))


def scad_penalty(xp: Any, a: Any, reg: Any, gamma: Any) -> Any:
    middle = reg * a - (a - reg) * (a - reg) / (2 * (gamma - 1))
    return xp.where(a > gamma * reg, reg * reg * (gamma + 1) / 2, xp.where(a > reg, middle, reg * a))


def log_sum_root(xp: Any, a: Any, t: Any, eps: Any) -> Any:
    """The larger stationary point, ``((a - eps) + sqrt((a + eps)**2 - 4 t)) / 2``, without its cancellations."""
    s = 2 * xp.sqrt(t)
    square = (a + eps - s) * (a + eps + s)
    return a - 2 * t / (a + eps + xp.sqrt(xp.where(square > 0, square, 0 * square)))


def log_sum_active(xp: Any, a: Any, t: Any, eps: Any) -> Any:
    r = log_sum_root(xp, a, t, eps)
    exists = (a + eps >= 2 * xp.sqrt(t)) & (r > 0)
    safe = xp.where(exists, r, 1 + 0 * eps)
    return exists & (t * (xp.log1p(safe / eps) / safe) < a - r / 2)  # both sides over r, whose square may vanish


def log_sum_shrunk(xp: Any, a: Any, t: Any, eps: Any) -> Any:
    return log_sum_root(xp, a, t, eps)


def log_sum_penalty(xp: Any, a: Any, reg: Any, eps: Any) -> Any:
    return reg * xp.log1p(a / eps)


def huber_active(xp: Any, a: Any, t: Any, delta: Any) -> Any:
    return a > 0 * t


def huber_shrunk(xp: Any, a: Any, t: Any, delta: Any) -> Any:
    return xp.where(a <= delta + t, a * (delta / (delta + t)), a - t)


def huber_penalty(xp: Any, a: Any, reg: Any, delta: Any) -> Any:
    return reg * xp.where(a <= delta, a * (a / (2 * delta)), a - delta / 2)


FORMULAS: dict[str, Formula] = {
    "l1": Formula(l1_active, l1_shrunk, l1_penalty),
    "elastic_net": Formula(elastic_net_active, elastic_net_shrunk, elastic_net_penalty),
    "l0": Formula(l0_active, l0_shrunk, l0_penalty),
    "half": Formula(half_active, half_shrunk, half_penalty),
    "two_thirds": Formula(two_thirds_active, two_thirds_shrunk, two_thirds_penalty),
    "lq": Formula(lq_active, lq_shrunk, lq_penalty),
    "mcp": Formula(mcp_active, mcp_shrunk, mcp_penalty),
    "scad": Formula(scad_active, scad_shrunk, scad_penalty),
    "log_sum": Formula(log_sum_active, log_sum_shrunk, log_sum_penalty),
    "huber": Formula(huber_active, huber_shrunk, huber_penalty),
}
"""The operators by name; ``cel0`` is ``mcp`` in other parameters."""

HELPERS = (power_step, log_sum_root)
"""What formulas call, for a compiler to know."""
