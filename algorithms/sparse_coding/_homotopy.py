"""The lasso of each signal by its path, from the regularisation that leaves nothing down to the one asked for."""

from __future__ import annotations

import numpy as np

from numcore.algorithms.sparse_coding._lars import stretches
from numcore.algorithms.sparse_coding._problem import Block, Outcome, duality_gap

__all__ = ["homotopy"]

ROUNDING = 1e-12
"""Knots so near above the regularisation stand for it: at the value of `reg_max` the code is 0, however that rounds."""


def homotopy(block: Block) -> Outcome:
    """Solve a block by following the path of each signal; a stretch between two knots is an iteration."""
    n = len(block.C)
    weights = np.broadcast_to(block.penalty.weights, block.C.shape)
    diagonal = block.G.diagonal()
    A, n_iter, degenerate = np.zeros_like(block.C), np.zeros(n, np.int64), np.zeros(n, bool)
    for i in range(n):
        reg = block.penalty.regs[i]
        path = stretches(block.C[i], block.G.__getitem__, diagonal, weights[i], block.positive)
        for count, stretch in enumerate(path):
            reached = max(stretch.low, reg)
            A[i] = 0.0
            A[i, stretch.support] = stretch.at(reached)
            n_iter[i], degenerate[i] = count, stretch.blocked
            if stretch.low <= reg * (1 + ROUNDING) or count == block.max_iter:
                break
    g = block.correlation(A)
    gaps = duality_gap(block, A, g)
    return Outcome(A, block.objective(A, g), n_iter, gaps <= block.goals, gaps, degenerate)
