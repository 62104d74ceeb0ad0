"""FISTA with restarts: proximal gradient steps from an extrapolated point.

A. Beck, M. Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM J. Imaging
Sci. 2(1), 2009, Equations (4.1) to (4.3); B. O'Donoghue, E. Candès, "Adaptive Restart for Accelerated Gradient
Schemes", Found. Comput. Math. 15, 2015, the gradient scheme.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.algorithms.sparse_coding._gradient import Array, curvature, drive
from numcore.algorithms.sparse_coding._problem import Block, Outcome

__all__ = ["fista"]


def fista(block: Block) -> Outcome:
    """Solve a block by accelerated proximal gradient, with momentum that each signal loses when it points uphill."""
    step = 1 / curvature(block.G)
    return drive(block, lambda part: _Steps(part, part.start, part.start, np.ones(len(part.C)), step), step)


class _Steps:
    """One iteration a call: A is the code, Y the point from which the step is taken, t the momentum's sequence."""

    def __init__(self, block: Block, A: Array, Y: Array, t: Array, step: float) -> None:
        self.block, self.A, self.Y, self.t, self.step = block, A.copy(), Y.copy(), t, step

    def __call__(self) -> Array:
        new = self._step(self.Y)
        if self.block.convex:
            uphill = np.sum((self.Y - new) * (new - self.A), axis=1) > 0
        else:  # without convexity only the objective can tell
            uphill = self.block.objective(new) > self.block.objective(self.A)
            if uphill.any():
                part = self.block.taken(uphill)
                new[uphill] = _Steps(part, self.A[uphill], self.A[uphill], self.t[uphill], self.step)._step()
        t = np.where(uphill, 1.0, self.t)
        following = (1 + np.sqrt(1 + 4 * t * t)) / 2
        momentum = np.where(uphill, 0.0, (t - 1) / following)
        self.Y = new + momentum[:, None] * (new - self.A)
        self.A, self.t = new, following
        return new

    def _step(self, Y: Array | None = None) -> Array:
        Y = self.A if Y is None else Y
        return self.block.penalty.prox(Y + self.step * self.block.correlation(Y), self.step, self.block.positive)

    def taken(self, rows: Any) -> _Steps:
        return _Steps(self.block.taken(rows), self.A[rows], self.Y[rows], self.t[rows], self.step)
