"""Coordinate descent with Anderson extrapolation.

Q. Bertrand, M. Massias, "Anderson acceleration of coordinate descent", AISTATS 2021, Algorithm 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.algorithms.sparse_coding._gradient import Array, drive
from numcore.algorithms.sparse_coding._loops import separable_codes
from numcore.algorithms.sparse_coding._problem import Block, Outcome

__all__ = ["anderson"]

MEMORY = 5
"""Differences of iterates that an extrapolation combines."""

REGULARISATION = 1e-10
"""Of their Gram matrix, relative to its size."""


def anderson(block: Block) -> Outcome:
    """Solve a block by sweeps of coordinate descent, every fifth followed by an extrapolation kept if it is better."""
    return drive(block, lambda part: _Sweeps(part, [part.start.copy()]), 1 / block.G.diagonal())


class _Sweeps:
    """One sweep a call; `past` holds the codes since the last extrapolation."""

    def __init__(self, block: Block, past: list[Array]) -> None:
        self.block, self.past = block, past

    def __call__(self) -> Array:
        own, A = self.block, self.past[-1].copy()
        penalty = own.penalty
        options = penalty.formula, penalty.regs, penalty.weights, penalty.shapes, own.positive
        separable_codes(own.C, own.G, *options, 0.0, 1, A)
        self.past.append(A)
        if len(self.past) > MEMORY:
            trial = extrapolated(np.stack(self.past))
            if own.positive:
                np.maximum(trial, 0.0, out=trial)
            better = own.objective(trial) < own.objective(A)
            A = np.where(better[:, None], trial, A)
            self.past = [A]
        return A

    def taken(self, rows: Any) -> _Sweeps:
        return _Sweeps(self.block.taken(rows), [A[rows] for A in self.past])


def extrapolated(iterates: Array) -> Array:
    """The affine combination of iterates (K + 1, n, k) whose differences, so combined, are least, for each signal."""
    U = np.diff(iterates, axis=0).transpose(1, 0, 2)
    gram = U @ U.transpose(0, 2, 1)
    size = np.trace(gram, axis1=1, axis2=2)
    size = np.where(size > 0, size, 1.0)
    z = np.linalg.solve(
        gram / size[:, None, None] + REGULARISATION * np.eye(len(U[0])), np.ones((len(U), len(U[0]), 1))
    )
    c = z[..., 0] / z.sum(axis=(1, 2))[:, None]
    return np.einsum("nk,knj->nj", c, iterates[1:])
