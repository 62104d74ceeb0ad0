"""The hot loops of dense memories: sweeps of single-site updates over independent chains.

Notation: states ``s`` (R, N) of signs, inverse temperatures ``betas`` (S, R) for S sweeps, cost of a flip ``dE``. Three
loops differ in what they keep beside the states so that a flip is cheap to judge:

* :func:`table_sweeps`, patterns of signs: how many sites agree with each pattern. One dot product judges a flip,
  whatever the order, ``dE = S_A + s_i sum_mu w_mu p_i^mu B_mu + 2 b_i s_i`` with ``A, B = (D(X) -+ D(X + 2)) / 2``;
* :func:`real_sweeps`, any patterns: elementary symmetric sums, or overlaps;
* :func:`coupling_sweeps`, order 2: the local fields.

An attempt flips with probability ``1 / (1 + exp(beta dE))`` (Glauber) or ``min(1, exp(-beta dE))`` (Metropolis). Where
beta is inf it flips if dE is negative by more than rounding, so that ties keep the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numcore.algorithms.hebbian._checks import Array
from numcore.algorithms.hebbian._draws import uniforms
from numcore.algorithms.hebbian._model import elementary, power_slope
from numcore.dispatch import dispatchable

__all__ = [
    "CERTAIN",
    "Couplings",
    "Records",
    "Schedule",
    "Sums",
    "Tables",
    "coupling_sweeps",
    "real_sweeps",
    "table_sweeps",
]

CERTAIN = 44.0
"""``|beta dE|`` from where no number of 53 bits decides otherwise."""

REFRESH = 64
"""Sweeps between two computations of what is kept, from the states."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which attempts the chains make.

    Attributes
    ----------
    betas : (S, R) float64 array
    seeds : (R,) uint64 array
    start : int
        Sweeps that the chains have made before.
    sites : (F,) int64 array
        The sites that may flip; a sweep is F attempts.
    visit : {"ordered", "permuted", "random"}
    metropolis : bool
    """

    betas: Array
    seeds: Array
    start: int
    sites: Array
    visit: str
    metropolis: bool


@dataclass(frozen=True, eq=False)
class Records:
    """What the loops fill.

    Attributes
    ----------
    rows : (S,) int64 array
        The row of the records that is filled after each sweep; -1 for none.
    probes : (Q, N) float64 array
        Vectors whose overlaps with the states are recorded.
    energies : (T, R) float64 array
    overlaps : (T, R, Q) float64 array
    flips : (R,) int64 array
        Accepted attempts, added up.
    still : (R,) int64 array
        The number of the sweep, from 1, in which a chain at beta inf was found to be at rest (or, all sites at once, to
        alternate); -1 before. From then on it does nothing.
    best_energies : (R,) float64 array
        The lowest energy after any sweep.
    best_states : (R, N) or (R, 0) int8 array
        The state that has it, where it is wanted.
    """

    rows: Array
    probes: Array
    energies: Array
    overlaps: Array
    flips: Array
    still: Array
    best_energies: Array
    best_states: Array


@dataclass(frozen=True, eq=False)
class Tables:
    """A model whose patterns are signs; `rise` is in the precision in which flips are judged.

    Attributes
    ----------
    sites : (N, K) int8 array
        The patterns, a row a site.
    weights : (K,) float64 array
    level : (N + 1,) float64 array
        ``F`` at the overlaps ``2 k - N``.
    rise : (N + 2,) array
        ``F(X) - F(X - 2)`` there.
    polynomials : (2, P) float64 array
        B and A as polynomials in ``X / N``; (2, 0) where there are none.
    field : (N,) float64 array
    relative : bool
        Whether counts are read from the table as if the largest were N: exponentials, of which only signs matter.
    """

    sites: Array
    weights: Array
    level: Array
    rise: Array
    polynomials: Array
    field: Array
    relative: bool


@dataclass(frozen=True, eq=False)
class Sums:
    """A model whose patterns are any numbers.

    Attributes
    ----------
    sites : (N, K) array
        The patterns, a row a site, in the precision in which flips are judged.
    weights : (K,) float64 array
    field : (N,) float64 array
    order : int
    interaction : str
    """

    sites: Array
    weights: Array
    field: Array
    order: int
    interaction: str


@dataclass(frozen=True, eq=False)
class Couplings:
    """``E = -s J s / 2 - b s - offset``.

    Attributes
    ----------
    J : (N, N) array
        Symmetric with a zero diagonal, in the precision in which flips are judged.
    field : (N,) float64 array
    offset : float
    """

    J: Array
    field: Array
    offset: float


@dispatchable
def table_sweeps(spins: Array, counts: Array, tables: Tables, schedule: Schedule, records: Records) -> None:
    """Advance chains of a model whose patterns are signs.

    Parameters
    ----------
    spins : (R, N) int8 array
        The states; changed.
    counts : (R, K) int32 array
        How many sites agree with each pattern, ``(X + N) / 2``; kept up to date.
    tables : Tables
    schedule : Schedule
    records : Records
        Filled.
    """
    for r, s in enumerate(spins):
        run_chain(_TableBook(s, counts[r], tables), s, r, schedule, records)


@dispatchable
def real_sweeps(spins: Array, kept: Array, sums: Sums, schedule: Schedule, records: Records) -> None:
    """Advance chains of a model whose patterns are any numbers.

    Parameters
    ----------
    spins : (R, N) int8 array
        The states; changed.
    kept : (R, Q, K) float64 array
        "distinct": ``k! e_k(p o s) / N^k`` for k = 1 .. P; else one row of overlaps ``X / N``. Computed from the
        states in every `REFRESH`-th sweep, beginning with the first; kept up to date.
    sums : Sums
    schedule : Schedule
    records : Records
        Filled.
    """
    for r, s in enumerate(spins):
        run_chain(_RealBook(s, kept[r], sums), s, r, schedule, records)


@dispatchable
def coupling_sweeps(spins: Array, fields: Array, couplings: Couplings, schedule: Schedule, records: Records) -> None:
    """Advance chains of a model with pairwise couplings.

    Parameters
    ----------
    spins : (R, N) int8 array
        The states; changed.
    fields : (R, N) array
        ``J s + b`` in the dtype of J. Computed from the states in every `REFRESH`-th sweep, beginning with the first;
        kept up to date.
    couplings : Couplings
    schedule : Schedule
    records : Records
        Filled.
    """
    for r, s in enumerate(spins):
        run_chain(_CouplingBook(s, fields[r], couplings), s, r, schedule, records)


def run_chain(book: _Book, s: Array, r: int, schedule: Schedule, records: Records) -> None:
    """All sweeps of one chain."""
    size = len(schedule.sites)
    for k, row in enumerate(records.rows):
        sweep, beta = schedule.start + k, schedule.betas[k, r]
        if records.still[r] < 0:
            if sweep % REFRESH == 0:
                book.refresh()
            places = 2 * (sweep * size + np.arange(size)) + 1
            flips = 0
            for i, u in zip(visits(schedule, r, places + 1), uniforms(schedule.seeds[r], places), strict=True):
                if accepted(*book.cost(i), beta, u, book.tie, schedule.metropolis):
                    book.flip(i)
                    flips += 1
            records.flips[r] += flips
            if beta == np.inf and flips == 0 and at_rest(book, schedule):
                records.still[r] = sweep + 1
        if row >= 0 or records.best_states.shape[1]:
            record(book.energy(), s, r, row, records)


def visits(schedule: Schedule, r: int, places: Array) -> Array:
    """The sites of one sweep, in turn."""
    if schedule.visit == "ordered":
        return schedule.sites
    u, size = uniforms(schedule.seeds[r], places), len(schedule.sites)
    if schedule.visit == "random":
        return schedule.sites[(u * size).astype(np.int64)]
    order = schedule.sites.copy()
    for k in range(size - 1, 0, -1):  # Fisher and Yates
        j = int(u[k] * (k + 1))
        order[k], order[j] = order[j], order[k]
    return order


def accepted(change: float, size: float, beta: float, u: float, tie: float, metropolis: bool) -> bool:
    """Whether a flip that costs `change` is made; `size` is that of the terms it was summed from."""
    if beta == np.inf:
        return bool(change < -tie * size)
    x = beta * change
    if x >= CERTAIN:
        return False
    if x <= (0.0 if metropolis else -CERTAIN):
        return True
    return bool(u < np.exp(-x)) if metropolis else bool(u * (1 + np.exp(x)) < 1)


def at_rest(book: _Book, schedule: Schedule) -> bool:
    """Whether no site flips at beta inf; a random sweep without a flip may have missed some."""
    if schedule.visit != "random":
        return True
    return not any(accepted(*book.cost(i), np.inf, 0.0, book.tie, False) for i in schedule.sites)


def record(energy: float, s: Array, r: int, row: int, records: Records) -> None:
    """Write one row of the records, and the best state."""
    if row >= 0:
        records.energies[row, r] = energy
        records.overlaps[row, r] = records.probes @ s / len(s)
    if energy < records.best_energies[r]:
        records.best_energies[r] = energy
        if records.best_states.shape[1]:
            records.best_states[r] = s


class _Book:
    """What is kept beside a state: the cost of a flip, and how a flip changes it."""

    tie: float
    """Costs up to this part of the terms that they are summed from are rounding."""

    refresh: Callable[[], None]
    cost: Callable[[int], tuple[float, float]]
    flip: Callable[[int], None]
    energy: Callable[[], float]


class _TableBook(_Book):
    def __init__(self, s: Array, counts: Array, tables: Tables) -> None:
        self.s, self.counts, self.tables = s, counts, tables
        self.weights = tables.weights.astype(tables.rise.dtype)
        self.tie = 32 * float(np.finfo(tables.rise.dtype).eps)
        self._look_up()

    def _look_up(self) -> None:
        k = self.counts + (len(self.tables.level) - 1 - self.counts.max() if self.tables.relative else 0)
        up, down = self.tables.rise[k], self.tables.rise[k + 1]
        self.wB = self.weights * (up + down) / 2
        A = self.weights * (up - down) / 2
        self.S_A, self.size = float(A.sum(dtype=np.float64)), float(np.abs(self.wB).sum() + np.abs(A).sum())

    def refresh(self) -> None:  # counts are integers and do not drift
        pass

    def cost(self, i: int) -> tuple[float, float]:
        b = 2 * self.tables.field[i]
        return self.S_A + self.s[i] * (float(self.tables.sites[i] @ self.wB) + b), self.size + abs(b)

    def flip(self, i: int) -> None:
        self.counts -= self.s[i] * self.tables.sites[i]
        self.s[i] = -self.s[i]
        self._look_up()

    def energy(self) -> float:
        return -float(self.tables.level[self.counts] @ self.tables.weights + self.s @ self.tables.field)


class _RealBook(_Book):
    def __init__(self, s: Array, kept: Array, sums: Sums) -> None:
        self.s, self.kept, self.sums = s, kept, sums
        self.tie = 32 * float(np.finfo(sums.sites.dtype).eps)
        self.distinct = sums.interaction == "distinct"

    def refresh(self) -> None:
        v = self.sums.sites.T.astype(np.float64) * self.s
        if self.distinct:
            self.kept[:] = elementary(v, self.sums.order).T[1:]
        else:
            self.kept[0] = v.sum(axis=1) / len(self.s)

    def rest(self, v: Array) -> list[Array]:
        """The symmetric sums of all sites but one, k = 0 .. P - 1."""
        N, P = len(self.s), self.sums.order
        rest = [np.ones_like(v)]
        for k in range(1, P):
            rest.append(self.kept[k - 1] - k / N * v * rest[-1])
        return rest

    def cost(self, i: int) -> tuple[float, float]:
        v, N, P = self.sums.sites[i] * float(self.s[i]), len(self.s), self.sums.order
        if self.distinct:
            terms = P * v * self.rest(v)[-1]
        elif self.sums.interaction == "exp":
            X = N * self.kept[0]
            terms = np.exp(X - X.max()) - np.exp(np.minimum(X - 2 * v - X.max(), 700.0))
        else:
            a, b = self.kept[0], self.kept[0] - 2 * v / N
            if self.sums.interaction == "full":
                terms = v * power_slope(a, b, P)
            else:
                a, b = np.maximum(a, 0), np.maximum(b, 0)
                terms = N / 2 * (a - b) * power_slope(a, b, P)
        terms = self.sums.weights * terms
        bias = 2 * self.sums.field[i] * float(self.s[i])
        return float(terms.sum() + bias), float(np.abs(terms).sum() + abs(bias))

    def flip(self, i: int) -> None:
        v, N = self.sums.sites[i] * float(self.s[i]), len(self.s)
        if self.distinct:
            for k, below in enumerate(self.rest(v), start=1):
                self.kept[k - 1] -= 2 * k / N * v * below
        else:
            self.kept[0] -= 2 * v / N
        self.s[i] = -self.s[i]

    def energy(self) -> float:
        N, P = len(self.s), self.sums.order
        x = self.kept[-1]
        if self.distinct:
            values = N / 2 * x
        elif self.sums.interaction == "exp":
            values = np.exp(np.minimum(N * x - N, 700.0))
        else:
            values = N / 2 * (x if self.sums.interaction == "full" else np.maximum(x, 0)) ** P
        return -float(self.sums.weights @ values + self.s @ self.sums.field)


class _CouplingBook(_Book):
    def __init__(self, s: Array, fields: Array, couplings: Couplings) -> None:
        self.s, self.h, self.couplings = s, fields, couplings
        self.tie = 32 * float(np.finfo(couplings.J.dtype).eps)

    def refresh(self) -> None:
        J = self.couplings.J
        self.h[:] = (J @ self.s.astype(np.float64) + self.couplings.field).astype(J.dtype)

    def cost(self, i: int) -> tuple[float, float]:
        size = float(np.abs(self.couplings.J[i]).sum() + abs(self.couplings.field[i]))
        return 2 * float(self.h[i]) * float(self.s[i]), 2 * size

    def flip(self, i: int) -> None:
        self.h -= (2 * self.s[i]) * self.couplings.J[i]
        self.s[i] = -self.s[i]

    def energy(self) -> float:
        return -float(self.s @ (self.h.astype(np.float64) + self.couplings.field)) / 2 - self.couplings.offset
