"""Which loop advances the chains of a model, and what it keeps beside their states."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np

from numcore.algorithms.hebbian._checks import Array
from numcore.algorithms.hebbian._draws import uniforms
from numcore.algorithms.hebbian._loops import (
    Couplings,
    Records,
    Schedule,
    Sums,
    Tables,
    coupling_sweeps,
    real_sweeps,
    table_sweeps,
)
from numcore.algorithms.hebbian._model import Model

__all__ = ["Engine", "make_engine", "pairwise_engine"]

LARGEST = 1 << 12
"""Sites up to which couplings of order 2 are written out."""


class Engine(Protocol):
    """Advances chains."""

    unit: float
    """Energies of the loops times this are energies of the model; inverse temperatures go the other way."""

    work: int
    """About what an attempt costs, in terms of a sum."""

    def kept(self, spins: Array) -> Array:
        """What the loop keeps beside the states."""
        ...

    def sweeps(self, spins: Array, kept: Array, schedule: Schedule, records: Records) -> None:
        """Make the sweeps of a schedule, changing all but the schedule."""
        ...


def make_engine(model: Model, dynamics: str, cold: bool) -> Engine:
    """The engine for a model; where a chain has no temperature (`cold`), flips are judged in float64."""
    if dynamics == "parallel":
        return ParallelEngine(model)
    if dynamics == "plefka":
        return PlefkaEngine(model)
    dtype = np.float64 if cold else np.float32
    quadratic = model.order == 2 and model.interaction in ("distinct", "full")
    if quadratic and len(model.patterns) > 1 and model.n_features <= LARGEST:
        return _quadratic_engine(model, dtype)
    return TableEngine(model, dtype) if model.binary else RealEngine(model, dtype)


def scale_of(values: Array) -> float:
    """The power of two below the largest magnitude; 1 if all are 0."""
    largest = float(np.abs(values).max(initial=0.0))
    return 2.0 ** int(np.floor(np.log2(largest))) if largest > 0 else 1.0


class TableEngine:
    """Patterns of signs."""

    def __init__(self, model: Model, dtype: Any) -> None:
        self.model, self.unit, self.work = model, scale_of(model.weights), len(model.patterns) + 16
        self.tables = Tables(
            np.ascontiguousarray(model.patterns.T),
            model.weights / self.unit,
            model.level,
            model.rise.astype(dtype),
            model.polynomials,
            model.field / self.unit,
            model.interaction == "exp",
        )

    def kept(self, spins: Array) -> Array:
        return self.model.counts(spins)

    def sweeps(self, spins: Array, kept: Array, schedule: Schedule, records: Records) -> None:
        table_sweeps(spins, kept, self.tables, schedule, records)


class RealEngine:
    """Patterns of any numbers."""

    def __init__(self, model: Model, dtype: Any) -> None:
        self.unit, self.work = scale_of(model.weights), 8 * (len(model.patterns) + 16)
        sites = np.ascontiguousarray(model.patterns.T, dtype=dtype)
        self.rows = model.order if model.interaction == "distinct" else 1
        self.sums = Sums(sites, model.weights / self.unit, model.field / self.unit, model.order, model.interaction)

    def kept(self, spins: Array) -> Array:
        return np.zeros((len(spins), self.rows, self.sums.sites.shape[1]))

    def sweeps(self, spins: Array, kept: Array, schedule: Schedule, records: Records) -> None:
        real_sweeps(spins, kept, self.sums, schedule, records)


class CouplingEngine:
    """Pairwise couplings."""

    def __init__(self, couplings: Couplings, unit: float) -> None:
        self.couplings, self.unit, self.work = couplings, unit, 64

    def kept(self, spins: Array) -> Array:
        return np.zeros(spins.shape, self.couplings.J.dtype)

    def sweeps(self, spins: Array, kept: Array, schedule: Schedule, records: Records) -> None:
        coupling_sweeps(spins, kept, self.couplings, schedule, records)


def _quadratic_engine(model: Model, dtype: Any) -> CouplingEngine:
    """``N J = sum_mu w p p^T``, which is a matrix of integers for patterns of signs: fields then do not drift."""
    N, scale = model.n_features, scale_of(model.weights)
    J, weights = np.zeros((N, N)), model.weights / scale
    squares = 0.0
    for rows, p in model.blocks(np.float64):
        J += (p.T * weights[rows]) @ p
        squares += float(weights[rows] @ (p * p).sum(axis=1))
    J = (J + J.T) / 2  # a product is symmetric but for rounding
    np.fill_diagonal(J, 0.0)
    unit = scale / N
    offset = squares / 2 if model.interaction == "full" else 0.0
    return CouplingEngine(Couplings(J.astype(dtype), model.field / unit, offset), unit)


def pairwise_engine(J: Array, field: Array, cold: bool) -> CouplingEngine:
    """Couplings as given; their diagonal only shifts the energy."""
    diagonal = np.diagonal(J)
    bare = J - np.diag(diagonal)
    unit = scale_of(bare)
    dtype = np.float64 if cold else np.float32
    return CouplingEngine(
        Couplings((bare / unit).astype(dtype), field / unit, float((diagonal / unit).sum()) / 2), unit
    )


class ParallelEngine:
    """All spins at once, from the fields of the state before. Kept beside it: that state."""

    unit = 1.0

    def __init__(self, model: Any) -> None:
        self.model = model
        self.work = model.work if hasattr(model, "work") else len(model.patterns) + 16
        self.cycle = np.zeros(0, bool)

    def kept(self, spins: Array) -> Array:
        self.cycle = np.zeros(len(spins), bool)
        return np.zeros_like(spins)  # no state: nothing repeats it

    def sweeps(self, spins: Array, kept: Array, schedule: Schedule, records: Records) -> None:
        for k, row in enumerate(records.rows):
            sweep = schedule.start + k
            moving = np.flatnonzero(records.still < 0)
            if moving.size:
                self._sweep(spins, kept, moving, sweep, schedule.betas[k], schedule, records)
            record_all(self.model, spins, row, records)

    def _sweep(
        self, spins: Array, kept: Array, moving: Array, sweep: int, betas: Array, schedule: Schedule, records: Records
    ) -> None:
        old, beta = spins[moving], betas[moving, None]
        cold = bool(np.all(beta == np.inf))
        h, size = self.model.fields(old, np.float64 if cold else np.float32)
        new = old.copy()
        with np.errstate(invalid="ignore"):
            warm = _heat_bath(h, beta, schedule, moving, sweep)
        tie = 32 * float(np.finfo(np.float64 if cold else np.float32).eps)
        frozen = np.where(np.abs(h) <= tie * size[:, None], old, np.sign(h)).astype(np.int8)
        target = np.where(beta == np.inf, frozen, warm)
        new[:, schedule.sites] = target[:, schedule.sites]
        records.flips[moving] += np.count_nonzero(new != old, axis=1)
        rest, back = np.all(new == old, axis=1), np.all(new == kept[moving], axis=1)
        at_zero = beta[:, 0] == np.inf
        records.still[moving[at_zero & (rest | back)]] = sweep + 1
        self.cycle[moving] = at_zero & back & ~rest
        kept[moving], spins[moving] = old, new


def _heat_bath(h: Array, beta: Array, schedule: Schedule, moving: Array, sweep: int) -> Array:
    u = _sweep_uniforms(h.shape[1], schedule, moving, sweep)
    x = np.clip(2 * beta * h, -700, 700)
    return np.where(u * (1 + np.exp(-x)) < 1, np.int8(1), np.int8(-1))


def _sweep_uniforms(N: int, schedule: Schedule, moving: Array, sweep: int) -> Array:
    places = 2 * (sweep * N + np.arange(N)) + 1
    return uniforms(schedule.seeds[moving, None], places)


def record_all(model: Any, spins: Array, row: int, records: Records) -> None:
    """Write one row of the records."""
    if row >= 0:
        records.energies[row] = model.energies(spins)
        records.overlaps[row] = spins @ records.probes.T / spins.shape[1]


class PlefkaEngine:
    """Magnetizations by the equations of Thouless, Anderson and Palmer, and states drawn from them.

    Kept: the magnetizations, at first the states themselves.
    """

    unit = 1.0

    def __init__(self, model: Model) -> None:
        self.model, self.work = model, 16 * model.order * (len(model.patterns) + 1)

    @cached_property
    def noise(self) -> float:
        """``alpha P! / 4`` of the noise kernel ``xi(q) = alpha P! q^P / 4``, alpha from the weights of the patterns."""
        model, P = self.model, self.model.order
        powers = [np.mean(p**2, axis=1) ** P @ model.weights[rows] ** 2 for rows, p in model.blocks(np.float64)]
        factors = np.arange(2.0, P + 1) / model.n_features  # P! / N^(P - 1)
        return float(np.sum(powers) * np.prod(factors)) / 4

    def kept(self, spins: Array) -> Array:
        return spins.astype(np.float64)

    def sweeps(self, spins: Array, kept: Array, schedule: Schedule, records: Records) -> None:
        P, free = self.model.order, schedule.sites
        for k, row in enumerate(records.rows):
            beta = schedule.betas[k][:, None]
            q = np.mean(kept**2, axis=1, keepdims=True)
            onsager = beta * self.noise * P * (P - 1) * q ** (P - 2) * (1 - q) * kept
            h = self.model.multilinear(kept)[0] + self.model.field
            kept[:, free] = np.tanh(beta * (h - onsager))[:, free]
            u = _sweep_uniforms(spins.shape[1], schedule, np.arange(len(spins)), schedule.start + k)
            drawn = np.where(kept > 2 * u - 1, np.int8(1), np.int8(-1))
            records.flips[:] += np.count_nonzero(drawn[:, free] != spins[:, free], axis=1)
            spins[:, free] = drawn[:, free]
            record_all(self.model, spins, row, records)
