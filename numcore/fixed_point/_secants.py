"""What the last iterates tell of the Jacobian: the steps of Anderson and Broyden, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, eps_of, to_numpy

__all__ = ["Anderson", "Broyden", "Secants", "largest"]

WINDOW = 5
"""How many residuals the safeguard looks back on."""


class Secants:
    r"""Pairs of differences ``S`` of iterates and ``Y`` of their residual vectors g(x) = f(x) - x, for every row.

    The step from x is ``x + beta g - (S + beta Y) gamma``, beta the damping; a method says how to weigh the pairs. A
    row without pairs takes the damped step ``x + beta g``. A pair may be scaled by any number, which does not change
    the step, and it is scaled to one length, so that late and tiny pairs count as much as early ones.
    """

    def __init__(self, *, memory: int, damping: float, reg: float) -> None:
        self.memory, self.damping, self.reg = memory, damping, reg
        self.count = 0

    def start(self, x: Array, g: Array) -> None:
        """Begin at `x` (B, n), whose residual vectors are `g`."""
        xp = array_namespace(x)
        n_rows, n = x.shape
        self.x, self.g = x, g
        self.S, self.Y = (xp.zeros((n_rows, self.memory, n), dtype=x.dtype, device=x.device) for _ in range(2))
        self.system = xp.zeros((n_rows, self.memory, self.memory), dtype=x.dtype, device=x.device)
        self.eye = xp.eye(self.memory, dtype=x.dtype, device=x.device)
        self.least = max(self.reg, eps_of(x))  # to add to the systems: at least rounding
        self.leaped = np.zeros(n_rows, bool)
        self.window = np.full((n_rows, WINDOW), np.inf)

    def keep(self, rows: Array) -> None:
        """Go on with these rows only."""
        xp, index = array_namespace(self.x), to_numpy(rows)
        for name in ("x", "g", "S", "Y", "system"):
            setattr(self, name, xp.take(getattr(self, name), rows, axis=0))
        self.leaped, self.window = self.leaped[index], self.window[index]

    def unsafe(self, residual: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The rows whose latest step has more than doubled the least of their last residuals; never a damped step."""
        return self.leaped & ~(residual <= 2 * self.window.min(axis=1))

    def forget(self, rows: np.ndarray[Any, Any]) -> None:
        """Empty the history of these rows (a mask)."""
        xp = array_namespace(self.x)
        keep = xp.asarray(~rows, device=self.x.device)[:, None, None]
        self.S, self.Y, self.system = (xp.where(keep, z, xp.zeros_like(z)) for z in (self.S, self.Y, self.system))
        self.window[rows], self.leaped[rows] = np.inf, False

    def push(self, x: Array, g: Array, residual: np.ndarray[Any, Any]) -> None:
        """Take the next accepted iterates; for rows that stay where they were the new pair is void."""
        slot = self.count % self.memory
        self.S[:, slot, :], self.Y[:, slot, :] = self.scaled(x - self.x, g - self.g)
        self.learn(slot)
        self.window[:, self.count % WINDOW] = residual
        self.count += 1
        self.x, self.g = x, g

    def step(self) -> Array:
        """The next iterates; the damped step where there are no pairs, or only useless ones."""
        xp, x, g = array_namespace(self.x), self.x, self.g
        damped = x + self._damped(g)
        gamma = self._solve(*self.normal(g))
        shift = _weighted(self.S, gamma) + self._damped(_weighted(self.Y, gamma))
        self.leaped = (largest(gamma) > 0) & (largest(shift) < np.inf)
        if self.leaped.all():
            return damped - shift
        return xp.where(xp.asarray(self.leaped, device=x.device)[:, None], damped - shift, damped)

    def _damped(self, x: Array) -> Array:
        return x if self.damping == 1 else self.damping * x

    def _solve(self, N: Array, c: Array) -> Array:
        """The solution of ``(N + reg tr(N) I) gamma = c``; 0 for void pairs."""
        xp = array_namespace(N)
        diagonal = xp.linalg.diagonal(N)
        # and where nothing was seen to change, anything that can be solved
        added = self.least * xp.sum(diagonal, axis=1, keepdims=True) + xp.astype(diagonal == 0, N.dtype)
        return xp.linalg.solve(N + added[:, :, None] * self.eye, c[:, :, None])[:, :, 0]

    def scaled(self, s: Array, y: Array) -> tuple[Array, Array]:
        """The pair as it is stored."""
        raise NotImplementedError

    def learn(self, slot: int) -> None:
        """Bring `system` up to date with the pair in `slot`."""
        raise NotImplementedError

    def normal(self, g: Array) -> tuple[Array, Array]:
        """The matrix and right-hand side of the normal equations for gamma."""
        raise NotImplementedError


class Anderson(Secants):
    """``gamma = argmin |g - Y gamma|``, Y scaled to unit columns: Walker and Ni (2011), Algorithm AA.

    ``system`` is ``Y^T Y``.
    """

    def scaled(self, s: Array, y: Array) -> tuple[Array, Array]:
        inverse = _inverse_norm(y)
        return s * inverse, y * inverse

    def learn(self, slot: int) -> None:
        products = _products(self.Y, self.Y[:, slot, :])
        self.system[:, slot, :] = products
        self.system[:, :, slot] = products

    def normal(self, g: Array) -> tuple[Array, Array]:
        return self.system, _products(self.Y, g)


class Broyden(Secants):
    """``(S^T Y + L / damping) gamma = S^T g``, L the part of ``S^T S`` whose row is newer than its column.

    Good Broyden's inverse Jacobian from ``-damping I`` in the compact form of Byrd, Nocedal and Schnabel (1994),
    Theorem 6.2. ``system`` is that matrix, S scaled to unit columns; it is solved in the least-squares sense.
    """

    def scaled(self, s: Array, y: Array) -> tuple[Array, Array]:
        inverse = _inverse_norm(s)
        return s * inverse, y * inverse

    def learn(self, slot: int) -> None:
        s, y = self.S[:, slot, :], self.Y[:, slot, :]
        row = _products(self.Y, s) + _products(self.S, s) / self.damping
        self.system[:, slot, :] = row
        self.system[:, :, slot] = _products(self.S, y)  # the diagonal too, where L has nothing

    def normal(self, g: Array) -> tuple[Array, Array]:
        transposed = array_namespace(g).permute_dims(self.system, (0, 2, 1))
        return transposed @ self.system, _products(transposed, _products(self.S, g))


def _inverse_norm(Z: Array) -> Array:
    """1 / |z| for every row, as a column; 0 for rows too small to divide by."""
    xp = array_namespace(Z)
    square = xp.vecdot(Z, Z)
    if bool(xp.all((square > 1e-31) & (square < xp.inf))):  # nothing of weight was lost in squares, float32 or not
        return (1 / xp.sqrt(square))[:, None]
    top = xp.max(xp.abs(Z), axis=1, keepdims=True)
    usable = top > xp.finfo(Z.dtype).smallest_normal / eps_of(Z)
    top = xp.where(usable, top, xp.ones_like(top))
    scaled = Z / top
    norm = top * xp.sqrt(xp.sum(scaled * scaled, axis=1, keepdims=True))
    return xp.where(usable, 1 / xp.where(usable, norm, xp.ones_like(norm)), xp.zeros_like(norm))


def largest(x: Array) -> np.ndarray[Any, Any]:
    """The largest size of an entry, row by row; inf where one is not finite."""
    if type(x) is np.ndarray:
        top = np.abs(x).max(axis=1)
    else:
        xp = array_namespace(x)
        top = to_numpy(xp.max(xp.abs(x), axis=1))
    top = top.astype(np.float64, copy=False)
    top[~np.isfinite(top)] = np.inf
    return top


def _products(Z: Array, v: Array) -> Array:
    return (Z @ v[:, :, None])[:, :, 0]


def _weighted(Z: Array, gamma: Array) -> Array:
    return (gamma[:, None, :] @ Z)[:, 0, :]
