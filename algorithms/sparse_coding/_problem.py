"""The coding problem: checked signals and dictionary, the blocks that solvers see, and the way back from their codes.

Solvers work in float64 on blocks of signals divided by powers of two, so that no scale of the data can overflow. They
see a problem in which every coefficient is penalised: atoms that are zero, forbidden or like an earlier one are left
out, those without a penalty are eliminated, and the quadratic part of an elastic net stands in the Gram matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numcore.algorithms.sparse_coding._loops import ROUNDING
from numcore.algorithms.sparse_coding._penalty import Penalty, SeparablePenalty
from numcore.arrays import as_floating
from numcore.prox._vectors import Groups

__all__ = ["BLOCK", "Block", "Outcome", "Problem", "as_signals", "duality_gap", "is_dask", "row_blocks"]

Array = NDArray[np.float64]

BLOCK = 2048
"""Signals that are worked on at once."""

SINGULAR = 1e-12
"""Of what an atom was, the part (squared) below which the rest of it counts as nothing."""

SLIGHT = 1e-12
"""The threshold that stands for none, relative to atom and signal, where coefficients may not be negative. A hundred
times what `ROUNDING` forgives."""


def is_dask(X: Any) -> bool:
    """Whether `X` is a dask array, without importing dask."""
    return type(X).__module__.partition(".")[0] == "dask" and hasattr(X, "to_delayed")


def as_signals(X: Any, dictionary: Any) -> tuple[Any, NDArray[Any]]:
    """Checked signals (n, p), which may be a dask array, and dictionary (k, p).

    Raises
    ------
    TypeError
        If one is complex, sparse or text.
    ValueError
        If one is not 2-D or not finite, the dictionary is empty, or the numbers of features differ.
    """
    D = as_floating(dictionary, "dictionary")
    if D.ndim != 2:
        raise ValueError(f"dictionary must have shape (n_atoms, n_features); got {D.shape}")
    if not D.size:
        raise ValueError(f"dictionary must have atoms and features; got shape {D.shape}")
    if is_dask(X):
        if X.dtype.kind == "c":
            raise TypeError(f"X must be real; got dtype {X.dtype}")
        if X.ndim and any(np.isnan(size) for size in X.chunks[0]):
            raise ValueError("X has chunks of unknown sizes; call its compute_chunk_sizes() first")
    else:
        X = as_floating(X, "X")
    if X.ndim != 2:
        hint = "; use reshape(1, -1) for one signal" if X.ndim == 1 else ""
        raise ValueError(f"X must have shape (n_samples, n_features); got {X.shape}{hint}")
    if X.shape[1] != D.shape[1]:
        raise ValueError(f"X must have as many features as dictionary, {D.shape[1]}; got shape {X.shape}")
    return X, D


def row_blocks(X: Any) -> Iterator[tuple[slice, Any]]:
    """Rows of `X`, `BLOCK` at a time; chunks of a dask array are computed one after another, and checked then."""
    if not is_dask(X):
        for begin in range(0, X.shape[0], BLOCK):
            rows = slice(begin, min(begin + BLOCK, X.shape[0]))
            yield rows, X[rows]
        return
    first = 0
    for size in X.chunks[0]:
        chunk = as_floating(np.asarray(X[first : first + size]), "X")
        for begin in range(0, size, BLOCK):
            end = min(begin + BLOCK, size)
            yield slice(first + begin, first + end), chunk[begin:end]
        first += size


@dataclass(frozen=True)
class Block:
    """What a solver gets: n signals, k atoms, all float64.

    Attributes
    ----------
    C : (n, k) array
        Correlations of signals and atoms, ``X D^T``.
    G : (k, k) array
        The Gram matrix of the atoms, with the quadratic part of an elastic net.
    squares : (n,) array
        ``|x|^2``, less what eliminated atoms explain.
    goals : (n,) array
        The duality gap that is small enough.
    start : (n, k) array
        Codes to begin with; solvers may write to it.
    penalty : SeparablePenalty or GroupPenalty
    positive, convex : bool
    tol : float
    max_iter : int
    """

    C: Array
    G: Array
    squares: Array
    goals: Array
    start: Array
    penalty: Any
    positive: bool
    convex: bool
    tol: float
    max_iter: int

    def taken(self, rows: Any) -> Block:
        """The problem of some of the signals."""
        parts = {name: getattr(self, name)[rows] for name in ("C", "squares", "goals", "start")}
        return replace(self, penalty=self.penalty.taken(rows), **parts)

    def objective(self, A: Array, g: Array | None = None) -> Array:
        """The objective of each signal; `g` is :meth:`correlation` where it is at hand."""
        g = self.correlation(A) if g is None else g
        return (self.squares - np.sum(A * (self.C + g), axis=1)) / 2 + self.penalty.value(A)

    def correlation(self, A: Array) -> Array:
        """``C - A G``: the correlation of atoms with residuals, minus the gradient."""
        return self.C - A @ self.G


class Outcome(NamedTuple):
    """What a solver gives back, an entry a signal."""

    code: Array
    objective: Array
    n_iter: NDArray[np.int64]
    converged: NDArray[np.bool_]
    gap: Array
    degenerate: NDArray[np.bool_]


def duality_gap(block: Block, A: Array, g: Array) -> Array:
    """The gap of codes A, with ``g = C - A G``, and the dual point ``s r``, r the residual and s as large as it can be.

    Written as ``(1 - s)^2 |r|^2 / 2 + penalty - s <a, g>`` it has no large terms to cancel near the solution.
    """
    room = ROUNDING * np.sqrt(block.squares[:, None] * block.G.diagonal())
    s = block.penalty.dual_scale(np.sign(g) * np.maximum(abs(g) - room, 0.0), block.positive)
    inner = np.sum(A * g, axis=1)
    residual = np.maximum(block.squares - np.sum(A * block.C, axis=1) - inner, 0.0)
    return np.maximum((1 - s) ** 2 * residual / 2 + block.penalty.value(A) - s * inner, 0.0)


class Problem:
    """A dictionary with its penalty: makes the blocks, and restores what solvers return.

    Attributes
    ----------
    kept : (k',) int array
        Atoms that are penalised, neither zero nor of infinite weight nor a copy.
    copies, copied : (c,) int arrays
        Atoms that equal an earlier one, and that one, which gets what both could have.
    free : (f,) int array
        Atoms without penalty, which are eliminated: their coefficients follow from the others by least squares.
    G : (k', k') array
        The Gram matrix that is left.
    degenerate : bool
        Whether the free atoms are linearly dependent.
    """

    def __init__(self, D: NDArray[Any], penalty: Penalty, positive: bool, tol: float, max_iter: int) -> None:
        self.positive, self.tol, self.max_iter = positive, tol, max_iter
        self.n_atoms = len(D)
        self.D: Array = np.ascontiguousarray(D, dtype=np.float64)
        full = self.D @ self.D.T
        diagonal = full.diagonal().copy()
        ridge = penalty.ridge()
        if ridge is not None:
            full[np.diag_indices_from(full)] += ridge[0]
        usable, unpenalised = self._usable(penalty, diagonal)
        self.free = np.flatnonzero(usable & unpenalised & (not positive))
        self.kept = np.flatnonzero(usable & ~(unpenalised & (not positive)))
        self.penalty = penalty
        self.copies, self.copied = self._repeated()
        self.kept = np.setdiff1d(self.kept, self.copies, assume_unique=True)
        self._eliminate(full, diagonal)
        if self.penalty.groups is not None:
            self.penalty = self._regrouped(self.penalty)
        self.norms = np.sqrt(diagonal[self.kept])

    @staticmethod
    def _usable(penalty: Penalty, diagonal: Array) -> tuple[Any, Any]:
        """Which atoms can have a coefficient, and which have no penalty."""
        if penalty.groups is None:
            shared = penalty.weights[0] if len(penalty.weights) == 1 else np.ones(diagonal.size)
            return (diagonal > 0) & (shared < np.inf), (shared == 0) | (penalty.l1_reg == 0)
        covered = np.zeros(diagonal.size, bool)
        forbidden = covered.copy()
        offsets, indices = penalty.groups.offsets, penalty.groups.indices
        for g, weight in enumerate(penalty.weights):
            members = indices[offsets[g] : offsets[g + 1]]
            covered[members] |= weight > 0
            forbidden[members] |= weight == np.inf
        return (diagonal > 0) & ~forbidden, ~covered | (penalty.reg == 0)

    def _repeated(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Atoms that equal an earlier one and cost the same, and the first of each kind.

        Not where shares are cheaper than the whole, as in an elastic net, or where a coefficient is not priced alone.
        """
        pairs = []
        if self.penalty.groups is None and len(self.penalty.weights) == 1 and self.penalty.ridge() is None:
            first: dict[Any, int] = {}
            for j in self.kept.tolist():
                earlier = first.setdefault((self.D[j].tobytes(), self.penalty.weights[0, j]), j)
                if earlier != j:
                    pairs.append((j, earlier))
        copies, copied = np.array(pairs, np.intp).reshape(-1, 2).T
        return copies, copied

    def ambiguous(self, code: NDArray[Any]) -> NDArray[np.bool_]:
        """Which codes use an atom that another one could replace."""
        return np.any(code[:, self.copied] != 0, axis=1)

    def _floored(self, penalty: SeparablePenalty) -> SeparablePenalty:
        """The penalty with slight thresholds in place of none, where free atoms were not eliminated."""
        least, regs = SLIGHT * self.norms, penalty.regs
        smallest = np.min(penalty.weights, initial=np.inf)
        if not regs.size or not least.size or (np.min(regs) > 0 and np.min(regs) * smallest >= least.max()):
            return penalty
        regs = np.where(regs > 0, regs, 1.0)
        weights = np.where(penalty.regs[:, None] > 0, penalty.weights, np.where(penalty.weights < np.inf, 0.0, np.inf))
        return SeparablePenalty(penalty.formula, regs, np.maximum(weights, least / regs[:, None]), penalty.shapes)

    def _eliminate(self, full: Array, diagonal: Array) -> None:
        """The least-squares solution over the free atoms, and the Gram matrix of what it leaves of the others."""
        P, U = self.kept, self.free
        self.G = np.ascontiguousarray(full[np.ix_(P, P)])
        self.degenerate = False
        if not U.size:
            return
        values, vectors = np.linalg.eigh(full[np.ix_(U, U)])
        solid = values > U.size * np.finfo(np.float64).eps * values[-1]
        self.degenerate = not bool(solid.all())
        self.inverse = (vectors[:, solid] / values[solid]) @ vectors[:, solid].T
        self.cross, self.free_gram = full[np.ix_(P, U)], full[np.ix_(U, U)]
        self.projection = self.cross @ self.inverse
        self.G -= self.projection @ self.cross.T
        within = self.G.diagonal() <= SINGULAR * diagonal[P]
        if within.any():  # atoms that the free ones span have nothing to add
            self.kept, self.G = P[~within], np.ascontiguousarray(self.G[np.ix_(~within, ~within)])
            self.cross, self.projection = self.cross[~within], self.projection[~within]

    def _regrouped(self, penalty: Penalty) -> Penalty:
        """The groups in terms of the atoms that are kept, those without a weight left out."""
        assert penalty.groups is not None
        place = np.full(self.n_atoms, -1)
        place[self.kept] = np.arange(self.kept.size)
        offsets, indices = penalty.groups.offsets, place[penalty.groups.indices]
        parts = [indices[begin:end] for begin, end in itertools.pairwise(offsets)]
        weights = penalty.weights if penalty.reg > 0 else np.zeros(len(parts))
        chosen = [(p[p >= 0], w) for p, w in zip(parts, weights, strict=True) if w > 0 and (p >= 0).any()]
        members = [p for p, _ in chosen]
        groups = Groups(
            np.concatenate([np.empty(0, np.int64), *members]), np.cumsum([0, *map(len, members)]), self.kept.size
        )
        return replace(penalty, groups=groups, weights=np.array([w for _, w in chosen]))

    def block(self, X: NDArray[Any], init: NDArray[Any] | None, rows: slice) -> tuple[Block, Return]:
        """The problem of the signals X (these rows of all), and how to restore what comes of it."""
        scales = row_scales(X)
        X = X.astype(np.float64) / scales[:, None]
        C = X @ self.D.T
        squares = np.einsum("ij,ij->i", X, X)
        goals = self.tol * squares
        if init is None:
            start = np.zeros((len(X), self.kept.size))
            free_start = np.zeros((len(X), self.free.size))
        else:
            full = init.astype(np.float64) / scales[:, None]
            if self.positive:
                np.maximum(full, 0.0, out=full)
            for copy, copied in zip(self.copies, self.copied, strict=True):
                full[:, copied] += full[:, copy]
            start, free_start = np.ascontiguousarray(full[:, self.kept]), full[:, self.free]
        free_c = C[:, self.free]
        if self.kept.size < self.n_atoms:
            C = np.ascontiguousarray(C[:, self.kept])
        if self.free.size:
            explained = free_c @ self.inverse
            squares = np.maximum(squares - np.sum(explained * free_c, axis=1), 0.0)
            C -= explained @ self.cross.T
        penalty = self.penalty.scaled(scales, self.kept, self.norms, rows)
        if isinstance(penalty, SeparablePenalty):
            if self.penalty.convex:
                penalty = self._floored(penalty)
            if len(penalty.weights) > 1:
                start[np.broadcast_to(penalty.weights == np.inf, start.shape)] = 0.0
        options = {"positive": self.positive, "convex": self.penalty.convex, "tol": self.tol, "max_iter": self.max_iter}
        block = Block(C, self.G, squares, goals, start, penalty, **options)  # type: ignore[arg-type]
        return block, Return(self, scales, free_c, free_start)


def row_scales(X: NDArray[Any]) -> Array:
    """A power of two near the largest magnitude in each row; 1 for zeros."""
    top = np.abs(X).max(axis=1, initial=0.0)
    return np.where(top > 0, np.ldexp(1.0, np.frexp(np.where(top > 0, top, 1.0).astype(np.float64))[1] - 1), 1.0)


@dataclass(frozen=True)
class Return:
    """The way from a block's codes to those of the signals as they were given."""

    problem: Problem
    scales: Array
    free_c: Array
    free_start: Array

    def code(self, A: Array, out: NDArray[Any]) -> None:
        """Write the full codes to `out`."""
        own = self.problem
        s = self.scales[:, None]
        if own.kept.size == own.n_atoms:
            np.multiply(A, s, out=out, casting="same_kind")
            return
        out[...] = 0
        out[:, own.kept] = A * s
        if own.free.size:
            # the change from the start that least squares asks for, and no more
            left = self.free_c - self.free_start @ own.free_gram - A @ own.cross
            out[:, own.free] = (self.free_start + left @ own.inverse) * s

    def square(self, values: Array) -> Array:
        """Objectives or gaps in the units of the signals."""
        return values * self.scales * self.scales
