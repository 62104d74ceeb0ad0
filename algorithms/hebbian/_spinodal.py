"""All retrieval states of one temperature, as a curve: the load of each as a function of its overlap.

Equations that are iterated tell of a state that they do not reach only by not reaching it. Read the other way they are
explicit: an overlap x gives the signal; the noise s with which the map returns x is unique, as the overlap falls with
the noise; and the averages at that s tell the load. Retrieval ends at a maximum of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import erf

from numcore.algorithms.hebbian._replica import Replica
from numcore.algorithms.hebbian._roots import bracketed_roots

__all__ = ["RetrievalCurve", "retrieval_curve"]

Array = np.ndarray[Any, Any]

SPREAD = erf(np.geomspace(1e-3, 5.9, 96))
"""Points between 0 and 1, dense at 1: retrieval is nearly complete, and the more so the higher the order."""


@dataclass(frozen=True)
class RetrievalCurve:
    """The states of retrieval at one temperature.

    Attributes
    ----------
    replica : Replica
    beta : float
    x, load : (n,) arrays
        Overlaps in increasing order, and their loads.
    x_end, load_end : float
        The largest load at which retrieval holds, and its overlap; 0 where there is no state.
    """

    replica: Replica
    beta: float
    x: Array
    load: Array
    x_end: float
    load_end: float

    def states(self, loads: Array) -> tuple[Array, Array]:
        """Overlaps and noises at loads of at most `load_end`: where there are several, those of the largest overlap."""
        x, s = np.full(loads.shape, self.x[-1]), np.zeros(loads.shape)  # as they are without noise
        noisy = np.flatnonzero(loads > 0)
        loads = loads[noisy]
        # from the right, the first of the points whose load is large enough, and the one before it
        enough = (self.load >= loads[:, None]) & (self.x > self.x_end)
        last = len(self.x) - 1 - np.argmax(enough[:, ::-1], axis=1)
        seen = enough.any(axis=1)
        low = np.where(seen, self.x[last], self.x_end)
        high = np.where(seen, self.x[np.minimum(last + 1, len(self.x) - 1)], self.x[np.sum(self.x <= self.x_end)])
        x[noisy] = bracketed_roots(
            lambda v, k: _load_at(self.replica, self.beta, v)[1] - loads[k], low, high, xtol=1e-13
        )
        s[noisy] = _load_at(self.replica, self.beta, x[noisy])[0]
        return x, s


def retrieval_curve(replica: Replica, beta: float) -> RetrievalCurve:
    """The curve at one temperature."""
    bottom, top = _noiseless(replica, beta)
    if top == 0:
        nothing = np.zeros(0)
        return RetrievalCurve(replica, beta, nothing, nothing, 0.0, 0.0)
    x = bottom + (top - bottom) * SPREAD
    noise, load = _load_at(replica, beta, x)
    best = _end(replica, beta, x, noise, load)
    bounds = x[max(best - 1, 0)], x[min(best + 1, len(x) - 1)]
    lost = lambda v: -_load_at(replica, beta, np.array([v]))[1][0]  # noqa: E731
    end = minimize_scalar(lost, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    x_end, load_end = (end.x, -end.fun) if -end.fun > load[best] else (x[best], load[best])
    return RetrievalCurve(replica, beta, x, load, float(x_end), float(load_end))


def _end(replica: Replica, beta: float, x: Array, s: Array, load: Array) -> int:
    """The highest of the maxima where retrieval ends.

    The iteration must stay at the states beside it, of greater overlap. At low temperatures the curve has a second
    maximum, at small x and q, of states that it leaves in all directions.
    """
    padded = np.concatenate([[-1.0], load, [-1.0]])
    peaks = np.flatnonzero((load >= padded[:-2]) & (load > padded[2:]))
    beside = np.minimum(peaks + 1, len(x) - 1)
    second = s[beside] if replica.pairwise else replica.average(beta, replica.signal(x[beside]), s[beside]).q
    state = np.stack([x[beside], second], axis=-1)
    held = replica.contraction(beta, load[beside], state) < 1
    if not held.any():
        return int(np.argmax(load))
    return int(peaks[held][np.argmax(load[peaks[held]])])


def _noiseless(replica: Replica, beta: float) -> tuple[float, float]:
    """The least and the largest overlap without noise, between which retrieval lies; (0, 0) if there is none."""
    most = replica.average(np.inf, replica.signal(np.ones(1)), np.zeros(1)).x  # E|t|
    if np.isinf(beta):
        return 0.0, float(most[0])

    def gain(x: Array, _: Any = None) -> Array:
        return replica.average(beta, replica.signal(x), np.zeros_like(x)).x - x

    x = most * SPREAD
    held = gain(x)
    if held.max() <= 0:  # what is between the points?
        best = int(np.argmax(held))
        bounds = x[max(best - 1, 0)], x[min(best + 1, len(x) - 1)]
        peak = minimize_scalar(lambda v: -gain(np.array([v]))[0], bounds=bounds, method="bounded")
        if peak.fun >= 0:
            return 0.0, 0.0
        k = int(np.searchsorted(x, peak.x))
        x, held = np.insert(x, k, peak.x), np.insert(held, k, -peak.fun)
    first, last = np.flatnonzero(held > 0)[[0, -1]]
    top = bracketed_roots(gain, x[[last]], x[[last + 1]])[0]
    bottom = bracketed_roots(gain, x[[first - 1]], x[[first]])[0] if first else 0.0
    return float(bottom), float(top)


def _load_at(replica: Replica, beta: float, x: Array) -> tuple[Array, Array]:
    """The noise with which the map returns x, and the load that makes it; 0 where no noise is weak enough."""
    a = replica.signal(x)
    ceiling = a / x  # at T = 0 the overlap is at most sqrt(2 / pi) a / s, and heat only lowers it
    possible = replica.average(beta, a, np.zeros_like(a)).x > x
    s = np.zeros_like(x)
    at = np.flatnonzero(possible)
    lack = lambda v, k: replica.average(beta, a[at[k]], v).x - x[at[k]]  # noqa: E731
    s[at] = bracketed_roots(lack, np.zeros(len(at)), ceiling[at])
    return s, replica.load_of(s, replica.average(beta, a, s))
