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
    run_chains(_TableBook(spins, counts, tables), spins, schedule, records)


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
    run_chains(_RealBook(spins, kept, sums), spins, schedule, records)


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
    run_chains(_CouplingBook(spins, fields, couplings), spins, schedule, records)


def run_chains(book: _Book, spins: Array, schedule: Schedule, records: Records) -> None:
    """All sweeps: the chains take their first attempts together, then their second ones, and so on."""
    size = len(schedule.sites)
    for k, row in enumerate(records.rows):
        sweep, beta = schedule.start + k, schedule.betas[k]
        moving = np.flatnonzero(records.still < 0)
        if moving.size:
            if sweep % REFRESH == 0:
                book.refresh(moving)
            places = 2 * (sweep * size + np.arange(size)) + 1
            u = uniforms(schedule.seeds[moving, None], places)
            flips = np.zeros(len(spins), np.int64)
            for sites, numbers in zip(visits(schedule, moving, places + 1).T, u.T, strict=True):
                costs = book.costs(moving, sites)
                yes = accepted(*costs, beta[moving], numbers, book.tie, schedule.metropolis)
                if yes.any():
                    book.flip(moving[yes], sites[yes])
                    flips[moving[yes]] += 1
            records.flips[:] += flips
            quiet = moving[(beta[moving] == np.inf) & (flips[moving] == 0)]
            records.still[quiet[at_rest(book, quiet, schedule)]] = sweep + 1
        if row >= 0 or records.best_states.shape[1]:
            record(book.energies(), spins, row, records)


def visits(schedule: Schedule, chains: Array, places: Array) -> Array:
    """The sites of one sweep of each chain, in turn: (chains, F)."""
    order = np.tile(schedule.sites, (len(chains), 1))
    if schedule.visit == "ordered":
        return order
    u, size = uniforms(schedule.seeds[chains, None], places), len(schedule.sites)
    if schedule.visit == "random":
        return schedule.sites[(u * size).astype(np.int64)]
    each = np.arange(len(chains))
    for k in range(size - 1, 0, -1):  # Fisher and Yates
        j = (u[:, k] * (k + 1)).astype(np.int64)
        order[each, k], order[each, j] = order[each, j], order[each, k]
    return order


def accepted(change: Array, size: Array, beta: Array, u: Array, tie: float, metropolis: bool) -> Array:
    """Whether flips that cost `change` are made; `size` is that of the terms it was summed from."""
    with np.errstate(invalid="ignore", over="ignore"):
        x = beta * change
    odds = np.exp(np.minimum(x, CERTAIN)) + (0 if metropolis else 1)  # one to so many
    return np.where(beta == np.inf, change < -tie * size, (u * odds < 1) & (x < CERTAIN))


def at_rest(book: _Book, chains: Array, schedule: Schedule) -> Array:
    """Whether no site flips at beta inf; a random sweep without a flip may have missed some."""
    rest = np.ones(len(chains), bool)
    if schedule.visit == "random":
        for i in schedule.sites:
            change, size = book.costs(chains, np.full(len(chains), i))
            rest &= ~(change < -book.tie * size)
    return rest


def record(energies: Array, spins: Array, row: int, records: Records) -> None:
    """Write one row of the records, and the best states."""
    if row >= 0:
        records.energies[row] = energies
        records.overlaps[row] = spins @ records.probes.T / spins.shape[1]
    better = energies < records.best_energies
    records.best_energies[better] = energies[better]
    if records.best_states.shape[1]:
        records.best_states[better] = spins[better]


class _Book:
    """What is kept beside the states: the costs of a flip in each of some chains, and how flips change it."""

    tie: float
    """Costs up to this part of the terms that they are summed from are rounding."""

    refresh: Callable[[Array], None]
    costs: Callable[[Array, Array], tuple[Array, Array]]
    flip: Callable[[Array, Array], None]
    energies: Callable[[], Array]


class _TableBook(_Book):
    def __init__(self, spins: Array, counts: Array, tables: Tables) -> None:
        self.s, self.counts, self.tables = spins, counts, tables
        self.weights = tables.weights.astype(tables.rise.dtype)
        self.tie = 32 * float(np.finfo(tables.rise.dtype).eps)
        self.wB = np.empty(counts.shape, tables.rise.dtype)
        self.S_A, self.size = np.empty(len(spins)), np.empty(len(spins))
        self._look_up(np.arange(len(spins)))

    def _look_up(self, chains: Array) -> None:
        k = self.counts[chains]
        if self.tables.relative:
            k += np.int32(len(self.tables.level) - 1) - k.max(axis=1, keepdims=True)
        up, down = self.tables.rise[k], self.tables.rise[k + 1]
        A, B = self.weights * (up - down) / 2, self.weights * (up + down) / 2
        self.wB[chains] = B
        self.S_A[chains] = A.sum(axis=1, dtype=np.float64)
        self.size[chains] = np.abs(A).sum(axis=1) + np.abs(B).sum(axis=1)

    def refresh(self, chains: Array) -> None:  # counts are integers and do not drift
        pass

    def costs(self, chains: Array, i: Array) -> tuple[Array, Array]:
        b = 2 * self.tables.field[i]
        products = (self.tables.sites[i] * self.wB[chains]).sum(axis=1)
        return self.S_A[chains] + self.s[chains, i] * (products + b), self.size[chains] + np.abs(b)

    def flip(self, chains: Array, i: Array) -> None:
        self.counts[chains] -= self.s[chains, i, None] * self.tables.sites[i]
        self.s[chains, i] *= -1
        self._look_up(chains)

    def energies(self) -> Array:
        return -(self.tables.level[self.counts] @ self.tables.weights + self.s @ self.tables.field)


class _RealBook(_Book):
    def __init__(self, spins: Array, kept: Array, sums: Sums) -> None:
        self.s, self.kept, self.sums = spins, kept, sums
        self.tie = 32 * float(np.finfo(sums.sites.dtype).eps)
        self.distinct = sums.interaction == "distinct"

    def refresh(self, chains: Array) -> None:
        for r in chains:
            v = self.sums.sites.T.astype(np.float64) * self.s[r]
            if self.distinct:
                self.kept[r] = elementary(v, self.sums.order).T[1:]
            else:
                self.kept[r, 0] = v.sum(axis=1) / self.s.shape[1]

    def rest(self, chains: Array, v: Array) -> list[Array]:
        """The symmetric sums of all sites but one, k = 0 .. P - 1."""
        N, P = self.s.shape[1], self.sums.order
        rest = [np.ones_like(v)]
        for k in range(1, P):
            rest.append(self.kept[chains, k - 1] - k / N * v * rest[-1])
        return rest

    def costs(self, chains: Array, i: Array) -> tuple[Array, Array]:
        s = self.s[chains, i].astype(np.float64)
        v, N, P = self.sums.sites[i] * s[:, None], self.s.shape[1], self.sums.order
        if self.distinct:
            terms = P * v * self.rest(chains, v)[-1]
        elif self.sums.interaction == "exp":
            X = N * self.kept[chains, 0]
            X -= X.max(axis=1, keepdims=True)
            terms = np.exp(X) - np.exp(np.minimum(X - 2 * v, 700.0))
        else:
            a = self.kept[chains, 0]
            b = a - 2 * v / N
            if self.sums.interaction == "full":
                terms = v * power_slope(a, b, P)
            else:
                a, b = np.maximum(a, 0), np.maximum(b, 0)
                terms = N / 2 * (a - b) * power_slope(a, b, P)
        terms = self.sums.weights * terms
        bias = 2 * self.sums.field[i] * s
        return terms.sum(axis=1) + bias, np.abs(terms).sum(axis=1) + np.abs(bias)

    def flip(self, chains: Array, i: Array) -> None:
        v, N = self.sums.sites[i] * self.s[chains, i, None].astype(np.float64), self.s.shape[1]
        if self.distinct:
            for k, below in enumerate(self.rest(chains, v), start=1):
                self.kept[chains, k - 1] -= 2 * k / N * v * below
        else:
            self.kept[chains, 0] -= 2 * v / N
        self.s[chains, i] *= -1

    def energies(self) -> Array:
        N, P = self.s.shape[1], self.sums.order
        x = self.kept[:, -1]
        if self.distinct:
            values = N / 2 * x
        elif self.sums.interaction == "exp":
            values = np.exp(np.minimum(N * x - N, 700.0))
        else:
            values = N / 2 * (x if self.sums.interaction == "full" else np.maximum(x, 0)) ** P
        return -(values @ self.sums.weights + self.s @ self.sums.field)


class _CouplingBook(_Book):
    def __init__(self, spins: Array, fields: Array, couplings: Couplings) -> None:
        self.s, self.h, self.couplings = spins, fields, couplings
        self.tie = 32 * float(np.finfo(couplings.J.dtype).eps)
        self.size = 2 * (np.abs(couplings.J).sum(axis=1, dtype=np.float64) + np.abs(couplings.field))

    def refresh(self, chains: Array) -> None:
        J = self.couplings.J
        self.h[chains] = (self.s[chains] @ J.astype(np.float64) + self.couplings.field).astype(J.dtype)

    def costs(self, chains: Array, i: Array) -> tuple[Array, Array]:
        return 2.0 * self.h[chains, i] * self.s[chains, i].astype(np.float64), self.size[i]

    def flip(self, chains: Array, i: Array) -> None:
        self.h[chains] -= (2 * self.s[chains, i, None]) * self.couplings.J[i]
        self.s[chains, i] *= -1

    def energies(self) -> Array:
        twice = (self.s * (self.h.astype(np.float64) + self.couplings.field)).sum(axis=1)
        return -twice / 2 - self.couplings.offset
