"""Which phase a memory is in, over loads and temperatures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

from numcore.algorithms.hebbian._average import mixture_of
from numcore.algorithms.hebbian._glass import glass_curve, transitions
from numcore.algorithms.hebbian._replica import Replica, make_replica
from numcore.algorithms.hebbian._roots import bracketed_roots
from numcore.algorithms.hebbian._spinodal import retrieval_curve
from numcore.arrays import as_choice, as_count, as_floating
from numcore.results import Result

__all__ = ["PhaseDiagram", "phase_diagram"]

Array = np.ndarray[Any, Any]

ERGODIC, GLASS, METASTABLE, STABLE = range(4)


@dataclass(frozen=True, repr=False, eq=False)
class PhaseDiagram(Result):
    """The phases of a dense Hebbian memory.

    Attributes
    ----------
    loads : (L,) array
    temperatures : (T,) array
    phase : (T, L) int array
        0 ergodic, 1 glass, 2 retrieval but metastable, 3 retrieval of the greatest pressure.
    m : (T, L) array
        Overlap with the archetype; 0 where there is no retrieval.
    q : (T, L) array
        Overlap of two replicas: in retrieval where there is retrieval, else in the glass or in the ergodic phase.
    at_stability : (T, L) array
        The de Almeida-Thouless eigenvalue of that replica-symmetric state; nan where the glass breaks the symmetry.
    pressure : (T, L) array
        ``A = -beta f`` of that state.
    """

    loads: Array
    temperatures: Array
    phase: Array
    m: Array
    q: Array
    at_stability: Array
    pressure: Array


def phase_diagram(
    *,
    order: int,
    loads: Any,
    temperatures: Any,
    quality: float = 1.0,
    n_examples: int = 1,
    learning: str = "supervised",
    interaction: str = "distinct",
    glass: str = "1rsb",
    n_jobs: int | None = None,
) -> PhaseDiagram:
    """The phases over a grid of loads and temperatures.

    Parameters
    ----------
    order, quality, n_examples, learning, interaction
        As for :func:`self_consistency`.
    loads : (L,) array_like
        ``alpha = K / N^(P - 1)``, not negative.
    temperatures : (T,) array_like
        Positive.
    glass : {"1rsb", "rs"}
        What competes with retrieval: the glass with one step of replica breaking; or the unphysical replica-symmetric
        one, to redraw published diagrams. With ``order=2`` and, for odd orders, with repeated indices both mean the
        replica-symmetric one.
    n_jobs : int, optional
        Temperatures are divided among so many processes by joblib.

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    See Also
    --------
    self_consistency : One point, iterated.
    critical_load, glass_transition : The lines between the phases.

    Notes
    -----
    Each temperature's retrieval solutions are found as one curve, load against overlap, and read off at the loads;
    see :func:`critical_load`. The one-step glass depends on T / sqrt(alpha) only: one curve serves the whole grid.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import phase_diagram
    >>> phase_diagram(order=3, loads=[0.01, 0.1, 0.2], temperatures=[0.1, 0.4, 0.7]).phase
    array([[3, 3, 1],
           [3, 3, 1],
           [3, 2, 0]])
    """
    replica = make_replica(
        order=order, quality=quality, n_examples=n_examples, learning=learning, interaction=interaction
    )
    loads = as_floating(loads, "loads", ndim=1, dtype=np.float64)
    temperatures = as_floating(temperatures, "temperatures", ndim=1, dtype=np.float64)
    for name, values, bad in (("loads", loads, loads < 0), ("temperatures", temperatures, temperatures <= 0)):
        if bad.any() or not values.size:
            wanted = "positive" if name == "temperatures" else "at least 0"
            raise ValueError(f"{name} must be {wanted}, one or more; got {bad.sum()} of {values.size} that are not")
    as_choice(glass, "glass", ("1rsb", "rs"))
    rival = _rival(replica, glass)
    rows = _over(temperatures, lambda T: _row(replica, float(T), loads, rival), n_jobs)
    phase, m, q, stability, pressure = (np.stack(column) for column in zip(*rows, strict=True))
    return PhaseDiagram(loads, temperatures, phase, m, q, stability, pressure)


def _over(temperatures: Array, work: Any, n_jobs: int | None) -> list[Any]:
    if n_jobs is not None and as_count(n_jobs, "n_jobs", minimum=-(2**31)) == 0:
        raise ValueError("n_jobs must not be 0")
    if n_jobs is None or n_jobs == 1:
        return [work(T) for T in temperatures]
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=n_jobs)(delayed(work)(T) for T in temperatures))


def _row(replica: Replica, T: float, loads: Array, rival: Any) -> tuple[Array, ...]:
    """All loads at one temperature."""
    glassy, q, pressure, stability = rival.states(T, loads)
    phase, m = np.where(glassy, GLASS, ERGODIC), np.zeros(loads.shape)
    curve = retrieval_curve(replica, 1 / T)
    held = np.flatnonzero((loads <= curve.load_end) & (curve.x_end > 0))
    if held.size:
        x, s = curve.states(loads[held])
        found = replica.average(1 / T, replica.signal(x), s)
        A, lam = replica.pressure_and_stability(1 / T, loads[held], x, found.q, s)
        phase[held] = np.where(A >= pressure[held], STABLE, METASTABLE)
        m[held] = found.m if replica.quality > 0 else 0.0
        q[held], pressure[held], stability[held] = found.q, A, lam
    return phase, m, q, stability, pressure


class _States(NamedTuple):
    """States without retrieval."""

    glassy: Array
    q: Array
    pressure: Array
    stability: Array


def _rival(replica: Replica, glass: str) -> SymmetricRival | BrokenRival:
    # of the patterns only the noise is left, so one pattern without examples will do
    blank = replace(replica, mixture=mixture_of(1.0, 1, "exact"))
    if glass == "rs" or replica.pairwise or replica.kernel.has_random_field:
        return SymmetricRival(blank)
    return BrokenRival(blank)


class SymmetricRival:
    """The replica-symmetric states without retrieval."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def states(self, T: float, loads: Array) -> _States:
        """At one temperature."""
        replica = self.replica
        s = self._noise(1 / T, loads)
        q = np.where(s > 0, replica.average(1 / T, 0 * s, s).q, 0.0)
        pressure, stability = replica.pressure_and_stability(1 / T, loads, 0 * s, q, s)
        pressure = np.where(loads > 0, pressure, np.log(2))
        field = not replica.pairwise and replica.kernel.has_random_field
        return _States(stability < 0 if field else q > 0, q, pressure, np.where(loads > 0, stability, 1.0))

    def _noise(self, beta: float, loads: Array) -> Array:
        """The greatest noise that keeps itself up; 0 where there is none."""
        replica = self.replica
        s = np.zeros(loads.shape)
        most = float(loads.max()) if loads.size else 0.0
        if most == 0:
            return s
        reach = np.sqrt(most) + 1 if replica.pairwise else np.sqrt(most * replica.kernel.slope(1.0))
        grid = np.geomspace(1e-5 * reach, 1.01 * reach, 240)

        def load(v: Array) -> Array:
            return replica.load_of(v, replica.average(beta, 0 * v, v))

        enough = load(grid) <= loads[:, None]
        # below its transition the noise grows from nothing or from a leap: the last point that is not too much
        last = len(grid) - 1 - np.argmax(enough[:, ::-1], axis=1)
        at = np.flatnonzero(enough.any(axis=1) & (last < len(grid) - 1) & (loads > 0))
        if at.size:
            s[at] = bracketed_roots(lambda v, k: load(v) - loads[at[k]], grid[last[at]], grid[last[at] + 1])
        return s


class BrokenRival:
    """The paramagnet and, below its static transition, the glass with one step of replica breaking."""

    def __init__(self, replica: Replica) -> None:
        self.kernel = replica.kernel
        self.static = transitions(self.kernel)[1]
        curve = glass_curve(self.kernel)
        beta = 1 / curve.temperature
        self.least, self.most = beta[0], beta[-1]
        self.pressure = CubicHermiteSpline(beta, curve.pressure, curve.slope)
        self.energy = curve.slope[-1]
        self.q = PchipInterpolator(beta, curve.q)

    def states(self, T: float, loads: Array) -> _States:
        """At one temperature."""
        b = np.sqrt(loads) / T  # all that matters
        glassy = b * self.static > 1
        inside = np.clip(b, self.least, self.most)
        # at the ends of the curve: hardly colder than the transition, or so cold that the energy is that of T = 0
        cold = self.pressure(inside) + np.maximum(b - self.most, 0) * self.energy
        warm = np.log(2) + b**2 * self.kernel.value(1.0) / 2
        pressure = np.where(b > self.least, cold, warm)
        stability = np.where(glassy, np.nan, 1 - b**2 * self.kernel.curvature(0.0))
        return _States(glassy, np.where(glassy, self.q(inside), 0.0), pressure, stability)
