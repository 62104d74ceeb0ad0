"""Derivatives against differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from numcore.arrays import as_choice, as_count, as_number, as_rng
from numcore.autodiff import rules
from numcore.autodiff.transforms import grad, hvp, jvp
from numcore.autodiff.trees import ravel
from numcore.results import Result

__all__ = ["GradCheckResult", "check_grad"]

TOLERANCE = {1: 1e-6, 2: 1e-5}


@dataclass(frozen=True, repr=False, eq=False)
class GradCheckResult(Result):
    """What a comparison of derivatives with differences found.

    Attributes
    ----------
    max_rel_error : float
        The largest error of a directional derivative, relative to the largest of them and their differences.
    ok : bool
        Whether it is at most 1e-6 (second order: 1e-5).
    worst : dict
        Of the worst direction: ``direction``, ``derivative``, ``difference`` and ``mode``.
    """

    max_rel_error: float
    ok: bool
    worst: dict[str, Any]


def check_grad(
    f: Callable[[Any], Any], x: Any, *, order: int = 1, eps: float | None = None, rng: Any = None, n_dirs: int = 5
) -> GradCheckResult:
    """Compare the derivatives of a function with central differences in float64.

    Parameters
    ----------
    f : callable
        Returns a scalar or an array, which is then contracted with random weights.
    x : float, array or tree of arrays
        Where.
    order : {1, 2}
        1: directional derivatives in both modes. 2: Hessian-vector products against differences of gradients.
    eps : float, optional
        The step: by default the cube root of the rounding unit times ``max(1, |x|)``.
    rng : int, numpy.random.Generator or None
        For the directions and weights.
    n_dirs : int, default=5
        How many directions.

    Returns
    -------
    GradCheckResult

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.check_grad(lambda x: np.sum(np.exp(x) * x), np.ones(3), rng=0).ok
    True
    """
    as_choice(order, "order", (1, 2))
    n_dirs, rng = as_count(n_dirs, "n_dirs"), as_rng(rng)
    flat, unravel = ravel(x)
    flat = np.asarray(flat, np.float64)
    weights: list[Any] = []

    def scalar(t: Any) -> Any:
        out = f(unravel(t))
        if not weights:
            weights.append(rng.standard_normal(np.shape(out)) if np.shape(out) else 1.0)
        return rules.sum(out * weights[0]) if np.shape(out) else out

    scalar(flat)
    if eps is None:
        eps = np.cbrt(np.finfo(np.float64).eps) * max(1.0, float(np.max(np.abs(flat), initial=0.0)))
    eps = as_number(eps, "eps", above=0.0)
    worst, largest = {}, -1.0
    for _ in range(n_dirs):
        v = rng.standard_normal(flat.size)
        v /= max(np.linalg.norm(v), np.finfo(float).tiny)
        for mode, derivative, difference in _compared(scalar, flat, v, eps, order):
            size = max(float(np.max(np.abs(derivative), initial=0.0)), float(np.max(np.abs(difference), initial=0.0)))
            error = float(np.max(np.abs(derivative - difference), initial=0.0)) / max(size, 1e-8)
            if not error <= largest:
                largest = error
                worst = {"direction": v, "derivative": derivative, "difference": difference, "mode": mode}
    return GradCheckResult(largest, bool(largest <= TOLERANCE[order]), worst)


def _compared(f: Callable[[Any], Any], x: Any, v: Any, eps: float, order: int) -> Any:
    """For each mode its name, the derivative along `v` and the central difference."""
    if order == 2:
        slope = grad(f)
        yield "forward over reverse", hvp(f, x, v), (slope(x + eps * v) - slope(x - eps * v)) / (2 * eps)
        return
    difference = (f(x + eps * v) - f(x - eps * v)) / (2 * eps)
    yield "reverse", np.vdot(grad(f)(x), v), difference
    yield "forward", jvp(f, (x,), (v,))[1], difference
