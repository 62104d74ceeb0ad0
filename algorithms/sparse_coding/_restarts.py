"""Several descents for penalties that are not convex: the better code of each signal is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numcore.algorithms.sparse_coding._cd import coordinate_descent
from numcore.algorithms.sparse_coding._penalty import SeparablePenalty
from numcore.algorithms.sparse_coding._problem import Block, Outcome

__all__ = ["from_path"]

STAGES = 5
"""Regularisations on the path, from one that leaves nothing to the penalty's own."""

ROUGH = 1e-3
"""The tolerance on the way."""

SHARE = 0.1
"""The l1 code to descend from has this part of the regularisation that would leave nothing."""


def from_path(solve: Callable[[Block], Outcome]) -> Callable[[Block], Outcome]:
    """`solve` from the start that is given, down a path, and from an l1 code; the best of them for each signal."""

    def solve_all(block: Block) -> Outcome:
        starts = [block.start.copy(), _along_path(block, solve), _l1_code(block)]
        found = [solve(replace(block, start=start)) for start in starts]
        # of equals the first
        best = np.argmin([outcome.objective for outcome in found], axis=0)
        return Outcome(*(_chosen(parts, best) for parts in zip(*found, strict=True)))

    return solve_all


def _chosen(parts: Any, best: NDArray[np.intp]) -> Any:
    return np.stack(parts)[best, np.arange(best.size)]


def _along_path(block: Block, solve: Callable[[Block], Outcome]) -> NDArray[np.float64]:
    """The code at the last regularisation but one, each solved from the one before."""
    last = block.penalty.regs
    first = np.maximum(_vanishing(block), last)
    A = np.zeros_like(block.start)
    for stage in range(1, STAGES - 1):  # the first is 0
        regs = first * (last / np.where(first > 0, first, 1.0)) ** (stage / (STAGES - 1))
        part = replace(block, penalty=block.penalty.with_regs(regs), start=A, tol=max(block.tol, ROUGH))
        A = solve(part).code
    return A


def _vanishing(block: Block) -> NDArray[np.float64]:
    """A regularisation for each signal at which 0 is its own minimum in every coordinate, and little more."""
    penalty: SeparablePenalty = block.penalty
    step = 1 / block.G.diagonal()
    c = np.maximum(block.C, 0.0) if block.positive else abs(block.C)
    z = step * c
    with np.errstate(divide="ignore", invalid="ignore"):
        if penalty.formula in ("mcp", "scad"):
            least = c
        elif penalty.formula == "log_sum":
            least = (z + penalty.shapes) ** 2 / (4 * step)
        else:  # a power q: the threshold of its operator, solved for the regularisation
            q = {"l0": 0.0, "half": 1 / 2, "two_thirds": 2 / 3}.get(penalty.formula, penalty.shapes)
            least = (2 * (1 - q) * z / (2 - q)) ** (2 - q) / (2 * (1 - q) * step)
        least = np.where((c > 0) & (penalty.weights > 0), least / penalty.weights, 0.0)
    return np.max(least, axis=1)


def _l1_code(block: Block) -> NDArray[np.float64]:
    """The l1 code with a share of the least regularisation that leaves nothing, in units of the atoms' norms."""
    norms = np.sqrt(block.G.diagonal())
    weights = np.where(block.penalty.weights < np.inf, norms, np.inf)
    top = np.max(abs(block.C) / norms, axis=1)
    penalty = SeparablePenalty("l1", SHARE * np.where(top > 0, top, 1.0), weights, np.zeros((1, 1)))
    goals = ROUGH * block.squares
    part = replace(block, penalty=penalty, convex=True, goals=goals, start=np.zeros_like(block.start))
    return coordinate_descent(part).code
