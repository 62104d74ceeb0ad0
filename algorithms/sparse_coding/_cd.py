"""Coordinate descent: working sets for l1, whole sweeps for all other separable penalties."""

from __future__ import annotations

import numpy as np

from numcore.algorithms.sparse_coding._loops import lasso_codes, separable_codes
from numcore.algorithms.sparse_coding._problem import Block, Outcome

__all__ = ["coordinate_descent"]


def coordinate_descent(block: Block) -> Outcome:
    """Solve a block by coordinate descent."""
    A, penalty = block.start, block.penalty
    if block.convex:
        (values, gaps), n_iter, degenerate = lasso_codes(
            block.C,
            block.G,
            block.squares,
            block.goals,
            penalty.regs,
            penalty.weights,
            block.positive,
            block.max_iter,
            A,
        )
        return Outcome(A, values, n_iter, gaps <= block.goals, gaps, degenerate)
    n_iter, converged = separable_codes(
        block.C,
        block.G,
        penalty.formula,
        penalty.regs,
        penalty.weights,
        penalty.shapes,
        block.positive,
        block.tol,
        block.max_iter,
        A,
    )
    return Outcome(A, block.objective(A), n_iter, converged, np.full(len(A), np.nan), np.zeros(len(A), bool))
