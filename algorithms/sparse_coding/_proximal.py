"""Proximal gradient: a gradient step of the error, then the operator of the penalty."""

from __future__ import annotations

from typing import Any

from numcore.algorithms.sparse_coding._gradient import Array, curvature, drive
from numcore.algorithms.sparse_coding._problem import Block, Outcome

__all__ = ["proximal_gradient"]

SHARE = 0.99
"""Of the longest step for which the objective is sure to fall."""


def proximal_gradient(block: Block) -> Outcome:
    """Solve a block by ``A <- prox(A + s (C - A G), s)``, s = 0.99 / L."""
    step = SHARE / curvature(block.G)
    return drive(block, lambda part: _Steps(part, part.start, step), step)


class _Steps:
    """One iteration a call."""

    def __init__(self, block: Block, A: Array, step: float) -> None:
        self.block, self.A, self.step = block, A.copy(), step

    def __call__(self) -> Array:
        V = self.A + self.step * self.block.correlation(self.A)
        self.A = self.block.penalty.prox(V, self.step, self.block.positive)
        return self.A

    def taken(self, rows: Any) -> _Steps:
        return _Steps(self.block.taken(rows), self.A[rows], self.step)
