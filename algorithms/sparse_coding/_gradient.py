"""What the gradient methods share: the step, the test of a block, and signals that leave it when they are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numcore.algorithms.sparse_coding._problem import Block, Outcome, duality_gap

__all__ = ["Array", "curvature", "drive", "stationarity"]

Array = NDArray[np.float64]

EXACT = 512
"""Atoms up to which the largest eigenvalue is computed and not estimated."""

POWER_STEPS = 50
MARGIN = 1.05
"""Of an estimate from below, to be sure."""

EVERY = 10
"""Iterations between two tests."""


def curvature(G: Array) -> float:
    """An upper bound on the largest eigenvalue of G, tight or 5 % above."""
    top = abs(G).max()
    if len(G) <= EXACT:
        return float(top * np.linalg.eigvalsh(G / top)[-1])
    v, value = np.ones(len(G)), 0.0
    v[::2] += 0.5  # not orthogonal to much
    for _ in range(POWER_STEPS):
        v = (G / top) @ (v / np.linalg.norm(v))
        value = float(np.linalg.norm(v))
    bound = float(abs(G / top).sum(axis=1).max())
    return float(top * min(MARGIN * value, bound))


def stationarity(block: Block, A: Array, g: Array, step: float | Array) -> Array:
    """How far a proximal step would move any coefficient, in units of the largest there is; a step, or one an atom."""
    moved = abs(block.penalty.prox(A + step * g, step, block.positive) - A).max(axis=1)
    size = abs(A).max(axis=1)
    return np.where(moved > 0, moved / np.where(size > 0, size, 1.0), 0.0) + np.where((moved > 0) & (size == 0), 1.0, 0)


def drive(block: Block, begin: Callable[[Block], Callable[[], Array]], step: float | Array) -> Outcome:
    """Run a method until every signal is done, and test every `EVERY` iterations.

    ``begin(block)`` gives a function that does one iteration on all signals of its block and returns their codes; it
    has an attribute ``taken(rows)``, a like function for some of the signals.
    """
    n = len(block.C)
    code, values, gaps = block.start, np.empty(n), np.full(n, np.nan)
    n_iter, converged = np.zeros(n, np.int64), np.zeros(n, bool)
    method: Any = begin(block)
    rest, live = block, np.arange(n)
    for count in range(block.max_iter + 1):
        if count:
            code[live] = method()
            n_iter[live] = count
        if count % EVERY and count < block.max_iter:
            continue
        A = code[live]
        g = rest.correlation(A)
        values[live] = rest.objective(A, g)
        if block.convex:
            gaps[live] = duality_gap(rest, A, g)
            done = gaps[live] <= rest.goals
        else:
            done = stationarity(rest, A, g, step) <= block.tol
        converged[live] = done
        if done.all():
            break
        if done.any():
            rest, live = rest.taken(~done), live[~done]
            method = method.taken(~done)
    return Outcome(code, values, n_iter, converged, gaps, np.zeros(n, bool))
