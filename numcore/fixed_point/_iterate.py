"""The iteration under every method here: rows that end on their own, safeguards, and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_choice, as_floating, as_number, eps_of, is_numpy, to_numpy
from numcore.fixed_point._secants import Secants, largest
from numcore.results import Callback, Loop, Result

__all__ = ["FixedPointResult", "Rows", "as_function", "iterate"]


@dataclass(frozen=True, repr=False, eq=False)
class FixedPointResult(Result):
    """Where a fixed-point iteration ended.

    Attributes
    ----------
    x : array
        The solution, in the shape of ``x0``.
    converged : bool
        Whether all rows converged.
    n_iter, n_fev : int
        Iterations, and evaluations of the map.
    residual : float or (B,) array
        The residual at `x`; one a row if batched. ``inf`` where the map gave non-finite values.
    history : list of float
        The largest residual, iteration by iteration.
    converged_mask : bool or (B,) array
        Which rows converged.
    """

    x: Array
    converged: bool
    n_iter: int
    n_fev: int
    residual: Any
    history: list[float] = field(repr=False)
    converged_mask: Any = field(repr=False)


class Rows:
    """The points of a problem as the rows of a (B, n) array, and functions of points as functions of such arrays."""

    def __init__(self, x0: Any, batched: Any) -> None:
        as_choice(batched, "batched", (True, False))
        x0 = as_floating(x0, "x0")
        if batched and x0.ndim == 0:
            raise ValueError("x0 must have an axis of rows if batched; got a 0-d array")
        self.xp, self.batched, self.shape = array_namespace(x0), batched, tuple(x0.shape)
        self.dtype, self.device = x0.dtype, x0.device
        n_rows = self.shape[0] if batched else 1
        n = int(np.prod(self.shape[1:] if batched else self.shape))
        self.start = self.xp.reshape(self.xp.asarray(x0, copy=True), (n_rows, n))

    def points(self, X: Array) -> Array:
        """The rows in the shape of ``x0``, not to be written to."""
        x = self.xp.reshape(X, self.shape)
        if is_numpy(x):
            x = x.view()
            x.flags.writeable = False
        return x

    def rows(self, x: Any, name: str) -> Array:
        """What the function `name` returned, as rows; it may hold anything but the wrong shape."""
        if type(x) is np.ndarray and x.dtype == self.dtype and x.shape == self.shape:
            return x.reshape(self.start.shape)  # as nearly always
        x = as_floating(x, f"the value of {name}", infinite="unchecked", like=self.start)
        if tuple(x.shape) != self.shape:
            raise ValueError(f"{name} must return an array of shape {self.shape}, as x0; got {tuple(x.shape)}")
        return self.xp.reshape(self.xp.astype(x, self.dtype, copy=False), self.start.shape)

    def values(self, v: Any, name: str) -> np.ndarray[Any, Any]:
        """What the function `name` returned, as a float64 number a row."""
        v = np.asarray(to_numpy(v), dtype=np.float64)
        shape = (self.shape[0],) if self.batched else ()
        if v.shape != shape:
            raise ValueError(f"{name} must return an array of shape {shape}; got {v.shape}")
        return np.reshape(v, (-1,))

    def per_row(self, v: np.ndarray[Any, Any]) -> Any:
        """A number a row, or the only one."""
        return v if self.batched else v[0].item()


def as_function(f: Any, name: str) -> Callable[..., Any]:
    """`f`, checked to be callable."""
    if not callable(f):
        raise TypeError(f"{name} must be callable; got {f!r}")
    return f


def iterate(
    func: Callable[[Array], Array],
    rows: Rows,
    *,
    name: str,
    tol: float,
    max_iter: int,
    secants: Secants | None = None,
    damping: float = 1.0,
    merit: Callable[[Array], Any] | None = None,
    scale: float = 1.0,
    shown: Callable[[Array], Array] | None = None,
    advice: str = "",
    stacklevel: int | None = 4,
    callback: Callback | None = None,
    verbose: int = 0,
) -> FixedPointResult:
    """Iterate ``x -> func(x)`` from the start of `rows`; `func` takes and returns rows, all of them at each call.

    Parameters
    ----------
    secants : Secants, optional
        Extrapolates. Without them the steps are damped ones.
    merit : callable, optional
        Of rows; must not increase.
    scale : float
        The residual is ``scale * max |func(x) - x|``.
    shown : callable, optional
        The solution that belongs to the rows iterated, if it is not the rows themselves.
    stacklevel : int, optional
        Whose call the warning is about; None leaves warning to the caller.
    """
    loop = Loop(
        name,
        tol=as_number(tol, "tol", above=0),
        max_iter=max_iter,
        callback=callback,
        verbose=verbose,
        residual="residual",
    )
    shown = shown or (lambda X: X)
    search = _Search(rows, tol=loop.tol, secants=secants, damping=damping, merit=merit, scale=scale)
    n_fev = 0
    for _ in loop.stage(error=np.inf if search.X.size else 0.0):
        search.advance(func(search.X))
        n_fev += 1
        loop.report(
            search.worst,
            done=search.done,
            state=lambda: {"x": rows.points(shown(search.reached))},
        )
        if not len(search.live) and not search.done:
            break
    failed = int(search.failed.sum())
    if failed:
        which = f"{failed} of {len(search.failed)} rows" if rows.batched else "the map"
        advice = f"In {which} non-finite values came back; the last finite iterate is kept. {advice}".rstrip()
    if stacklevel is not None:
        loop.finish(advice, stacklevel=stacklevel)
    return FixedPointResult(
        x=rows.xp.asarray(rows.xp.reshape(shown(search.reached), rows.shape), copy=True),
        converged=loop.converged,
        n_iter=loop.n_iter,
        n_fev=n_fev,
        residual=rows.per_row(search.residual),
        history=loop.history["residual"].tolist() if loop.n_iter else [],
        converged_mask=rows.per_row(search.converged),
    )


class _Search:
    """The rows, which of them are live, and what is known of each.

    ``X`` is where the map is evaluated next; ``reached`` the accepted iterates, whose residuals are ``residual``.
    """

    def __init__(
        self, rows: Rows, *, tol: float, secants: Secants | None, damping: float, merit: Any, scale: float
    ) -> None:
        self.rows, self.tol, self.secants, self.damping, self.scale = rows, tol, secants, damping, scale
        self.merit = merit if secants else None
        self.X = self.reached = rows.start
        n_rows, n = self.X.shape
        self.floor = 4 * eps_of(self.X) * n**0.5
        self.residual = np.full(n_rows, np.inf)
        self.size = largest(self.X) if n else np.zeros(n_rows)  # of the live rows of X
        self.scores: Any = None
        self.live = np.arange(n_rows)
        self.failed = np.zeros(n_rows, bool)
        self.converged = np.full(n_rows, not n)

    @property
    def worst(self) -> float:
        """The largest residual; of rows that failed only when no other is live, so that they do not end the others."""
        if self.failed.any() and len(self.live):
            return float(self.residual[~self.failed].max())
        return float(self.residual.max())

    @property
    def done(self) -> bool:
        """Whether all rows have converged."""
        return not len(self.live) and bool(self.converged.all())

    def advance(self, F: Array) -> None:
        """Take the values of the map at ``X``: judge, accept, and step."""
        x, f = self._live(self.X), self._live(F)
        with np.errstate(invalid="ignore", over="ignore"):
            g = f - x
            residual = largest(g) * self.scale
            x, g, residual = self._accept(x, g, residual)
            rounding = self.floor * self.scale * self.size
            done = residual <= np.maximum(self.tol, rounding)
            self.residual[self.live] = residual
            self.reached = self._with(self.reached, x)
            ahead = self._step(x, f, g, residual)
        self.size = largest(ahead)
        failed = ~done & ~(np.isfinite(residual) & np.isfinite(self.size))
        self.X = self._with(self.reached, ahead, rest=done | failed)
        self._retire(done, failed)

    def _accept(self, x: Array, g: Array, residual: Any) -> tuple[Array, Array, Any]:
        """The iterates, with those that the safeguard rejects put back to where they came from."""
        secants = self.secants
        if secants is None:
            return x, g, residual
        if secants.count == 0:
            secants.start(x, g)
        unsafe = secants.unsafe(residual)
        if self.merit is not None:
            unsafe &= ~np.isfinite(residual) | self._near(x, residual)
        if unsafe.any():
            xp = self.rows.xp
            mask = xp.asarray(unsafe, device=x.device)[:, None]
            x, g = xp.where(mask, secants.x, x), xp.where(mask, secants.g, g)
            residual = np.where(unsafe, self.residual[self.live], residual)
            secants.forget(unsafe)
            self.size = largest(x)
        secants.push(x, g, residual)
        return x, g, residual

    def _step(self, x: Array, f: Array, g: Array, residual: Any) -> Array:
        if self.secants is None:
            # not x + (f - x), which is not f in floating point
            return self.rows.xp.asarray(f, copy=True) if self.damping == 1 else x + self.damping * g
        ahead = self.secants.step()
        if self.merit is None:
            return ahead
        return self._descending(x, x + self.damping * g, ahead, residual)

    def _descending(self, x: Array, damped: Array, ahead: Array, residual: Any) -> Array:
        """`ahead`, with damped steps for the rows in which the merit would rise."""
        assert self.merit is not None
        assert self.secants is not None
        xp = self.rows.xp
        if self.scores is None:
            self.scores = self.merit(self.reached)
        before, after = self.scores[self.live], self.merit(self._with(self.reached, ahead))
        slack = (1e-9 if self.floor < 1e-9 * x.shape[1] ** 0.5 else 1e-5) * np.abs(before)
        rises = self.secants.leaped & ~(after[self.live] <= before + slack) & ~self._near(x, residual)
        if rises.any():
            self.secants.forget(rises)
            ahead = xp.where(xp.asarray(rises, device=x.device)[:, None], damped, ahead)
            after = self.merit(self._with(self.reached, ahead))
        self.scores = after
        return ahead

    def _near(self, x: Array, residual: Any) -> Any:
        """The rows so close to a solution that differences of the merit are rounding."""
        share = 1e-3 if eps_of(x) > 1e-10 else 1e-5
        return residual < share * self.scale * self.size

    def _retire(self, done: Any, failed: Any) -> None:
        """Take the rows that are done, or failed, out of the live ones."""
        out = done | failed
        if out.any():
            self.converged[self.live[done]] = True
            self.failed[self.live[failed]] = True
            stay = np.flatnonzero(~out)
            self.live, self.size = self.live[stay], self.size[stay]
            if self.secants is not None:
                self.secants.keep(self._index(stay))

    def _live(self, X: Array) -> Array:
        whole = len(self.live) == X.shape[0]
        return X if whole else self.rows.xp.take(X, self._index(self.live), axis=0)

    def _with(self, X: Array, x: Array, rest: Any = None) -> Array:
        """`X` with `x` in its live rows, but for those in `rest`."""
        move = self.live if rest is None else self.live[~rest]
        if len(move) == X.shape[0]:
            return x
        source = np.arange(X.shape[0])
        source[move] = X.shape[0] + (np.arange(len(self.live)) if rest is None else np.flatnonzero(~rest))
        return self.rows.xp.take(self.rows.xp.concat([X, x]), self._index(source), axis=0)

    def _index(self, rows: Any) -> Array:
        return self.rows.xp.asarray(rows, device=self.rows.device)
