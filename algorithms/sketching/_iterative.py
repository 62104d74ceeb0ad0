"""Sketch-preconditioned iterations: conjugate gradients and heavy ball in rounds, and iterative sketching.

``N = P^T A^T A P`` is well conditioned. SPIR and FOSSILS solve ``N y = P^T A^T r`` for a correction ``P y``, twice: the
first round brings x near, the second makes it backward stable. They differ in the inner iteration alone. Iterative
sketching corrects x itself, and is forward stable.

References
----------
E. N. Epperly, M. Meier and Y. Nakatsukasa, "Fast Randomized Least-Squares Solvers Can Be Just as Accurate and Stable as
Classical Direct Solvers", 2024 (SPIR, FOSSILS); E. N. Epperly, "Fast and Forward Stable Randomized Algorithms for
Linear Least-Squares Problems", SIMAX 2024 (iterative sketching).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from numcore.algorithms.sketching._rows import Rows
from numcore.algorithms.sketching._setup import Matrix, Point, Setup, normal_product, point
from numcore.results import Loop

__all__ = ["conjugate_gradients", "heavy_ball", "iterative_sketching", "rounds"]

Product = Callable[[Matrix], Matrix]
Inner = Callable[[Product, Matrix], Iterator[tuple[Matrix, Matrix]]]
"""From the product with N and the right-hand side c: iterates y, each with N y."""

UNIT = float(np.finfo(np.float64).eps)

ROUND = 100
"""Inner steps a round at most."""

PATIENCE = 10
"""Steps in which the error has to halve."""

BRIEF = 3
"""The same where the error is small enough already."""

BEYOND = 0.1
"""The part of a rounding that rounds aim at where a rounding is asked for: Householder QR leaves no more."""


def conjugate_gradients(N: Product, c: Matrix) -> Iterator[tuple[Matrix, Matrix]]:
    """Conjugate gradients for N y = c from y = c, each column by itself."""
    y, Ny = c, N(c)
    yield y, Ny
    r = c - Ny
    p, rr = r, np.sum(r * r, axis=0)
    while rr.any():
        q = N(p)
        curvature = np.sum(p * q, axis=0)
        step = np.divide(rr, curvature, out=np.zeros_like(rr), where=curvature > 0)
        y, Ny, r = y + step * p, Ny + step * q, r - step * q
        before, rr = rr, np.sum(r * r, axis=0)
        p = r + np.divide(rr, before, out=np.zeros_like(rr), where=before > 0) * p
        yield y, Ny


def heavy_ball(beta: float) -> Inner:
    """The heavy ball with the momentum beta = d / m that suits singular values in 1 +- sqrt(d / m), from y = c."""

    def inner(N: Product, c: Matrix) -> Iterator[tuple[Matrix, Matrix]]:
        before, y = c, c
        while True:
            Ny = N(y)
            yield y, Ny
            before, y = y, y + (1 - beta) ** 2 * (c - Ny) + beta * (y - before)

    return inner


class _Round:
    """One round: an inner iteration from a point, and what is known of ``x + P y`` without another read of A."""

    def __init__(self, rows: Rows, setup: Setup, inner: Inner, at: Point, *, first: bool) -> None:
        self.setup, self.at, self.first = setup, at, first
        self._steps = inner(lambda y: normal_product(rows, setup, y), at.p)
        self.y, self.error, self.n_steps = np.zeros_like(at.p), at.error, 0
        self._best, self.since = np.inf, 0

    def step(self) -> bool:
        """Take a step; say whether the round has ended."""
        found = next(self._steps, None)
        if found is None:  # solved exactly
            return True
        f, at, before = self.setup.factors, self.at, self.y
        self.y, Ny = found
        self.n_steps += 1
        squares = np.maximum(at.squares - 2 * np.sum(self.y * at.p, axis=0) + np.sum(self.y * Ny, axis=0), 0)
        self.error = self.setup.backward_error(self.x, squares, at.p - Ny, at.norm_b)
        self.since = 0 if self.error < self._best / 2 else self.since + 1
        self._best = min(self._best, self.error)
        if self.first:  # forward stability is enough
            size = f.sigma[:1].sum() * np.linalg.norm(f.D[:, None] * at.x, axis=0)
            rounding = UNIT * (size + 0.04 * self.setup.cond * np.sqrt(at.squares))
            if np.all(np.linalg.norm(self.y - before, axis=0) <= 10 * rounding):
                return True
        return self.stuck or self.n_steps >= ROUND

    @property
    def stuck(self) -> bool:
        """Whether the error no longer falls, or has grown."""
        return self.since >= PATIENCE or self.error > 10 * self._best

    @property
    def x(self) -> Matrix:
        """The solution as corrected so far."""
        return self.at.x + self.setup.factors.P @ self.y


def rounds(
    rows: Rows, setup: Setup, inner: Inner, loop: Loop, state: Callable[[Matrix], dict[str, Any]]
) -> tuple[Point, int]:
    """Rounds of corrections, until the backward error at the end of one is small enough, or two have not helped.

    Returns
    -------
    at : Point
    n_passes : int
        Reads of A.
    """
    at, passes = point(rows, setup, setup.x0), 1
    now, fruitless = _Round(rows, setup, inner, at, first=True), 0
    goal = loop.tol if loop.tol > UNIT else BEYOND * loop.tol
    for _ in loop.stage():
        ended = now.step() or now.error <= goal or (now.error <= loop.tol and now.since >= BRIEF)
        passes += 1
        error, hold = now.error, not ended
        if ended:
            before, at = at.error, point(rows, setup, now.x)
            passes, error = passes + 1, at.error
            fruitless = fruitless + 1 if at.error > before / 2 else 0
            hold = now.first and at.error > goal
            now = _Round(rows, setup, inner, at, first=False)
        done = ended and at.error <= 10 * loop.tol and fruitless > 0
        norm = setup.residual_norm(at)
        loop.report(error, hold=hold, done=done, state=functools.partial(state, now.x), residual_norm=norm)
        if fruitless > 1:
            break
    return at, passes


def iterative_sketching(
    rows: Rows, setup: Setup, loop: Loop, state: Callable[[Matrix], dict[str, Any]], *, momentum: bool
) -> tuple[Point, int]:
    """``x <- x + delta P P^T A^T (b - A x) + beta (x - x_before)``, until residuals move by no more than rounding.

    With momentum, ``beta = d / m`` and ``delta = (1 - beta)^2``; without, ``delta = (1 - rho)^2 / (1 + rho)`` where
    ``rho = d / m``.
    """
    f = setup.factors
    ratio = 0.0 if setup.kind is None else setup.rank / setup.m
    beta, damping = (ratio, (1 - ratio) ** 2) if momentum else (0.0, (1 - ratio) ** 2 / (1 + ratio))
    at, passes = point(rows, setup, setup.x0), 1
    x_before, best, since = at.x, np.inf, 0
    for _ in loop.stage():
        x = at.x + damping * (f.P @ at.p) + beta * (at.x - x_before)
        # the sketch sees how far the residual moves
        moved = np.linalg.norm(f.sigma[:, None] * (f.V.T @ (f.D[:, None] * (x - at.x))), axis=0)
        size = f.sigma[0] * np.linalg.norm(f.D[:, None] * x, axis=0) if setup.rank else 0.0
        x_before, at = at.x, point(rows, setup, x)
        passes += 1
        done = bool(np.all(moved <= UNIT * (size + 0.04 * setup.cond * np.sqrt(at.squares))))
        loop.report(at.error, done=done, state=functools.partial(state, at.x), residual_norm=setup.residual_norm(at))
        distance = float(moved.max(initial=0.0))
        since = 0 if distance < best / 2 else since + 1
        best = min(best, distance)
        if since >= 2 * PATIENCE:
            break
    return at, passes
