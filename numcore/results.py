"""What goes out: the common parts of results, and the one loop that every iterative method runs in."""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np

from numcore.arrays import as_count

__all__ = ["Callback", "ConvergenceWarning", "Loop", "Progress", "Result", "State"]


class ConvergenceWarning(UserWarning):
    """An iterative method stopped before it reached its tolerance."""


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Base of the frozen results: a short repr, and pickles that leave out what can be computed again."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self) if field.repr)
        return f"{type(self).__name__}({shown})"

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: self.__dict__[field.name] for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _short(value: Any) -> str:
    if getattr(value, "ndim", 0):
        return f"<{'x'.join(map(str, value.shape))} {value.dtype}>"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items()) + "}"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


class State(SimpleNamespace):
    """The read-only record that a callback gets: attributes named as the result's fields."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("the state given to a callback is read-only")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("the state given to a callback is read-only")


Callback = Callable[[State], Any]


class Loop:
    """Drives an iterative method: limits, tolerance, history, callback, progress and the warning at the end.

    The method writes its own ``for`` loop and reports once an iteration::

        loop = Loop("sinkhorn", tol=tol, max_iter=max_iter, callback=callback, verbose=verbose)
        for _ in loop.stage():
            ...                                            # the step
            loop.report(error, dual_value=value)           # the residual, and what goes into the history
        loop.finish()                                      # warns unless converged or stopped on purpose

    Parameters
    ----------
    name : str
        The method's name, for progress and warnings.
    tol : float
        Converged when the residual is at most this.
    max_iter : int
        Iterations at most, over all stages.
    callback : callable, optional
        ``callback(state)`` after each iteration; returning True stops without a warning.
    verbose : int
        1 shows a progress bar with the latest figures.
    floor : float
        The smallest residual that the arithmetic can reach. With ``tol`` below it, the loop also ends near it, when 50
        iterations have not brought 10 %.
    stall : bool
        Whether such a standstill ends the loop whatever the floor.
    residual : str
        What the residual is called in the history, the state and on the bar.
    """

    patience, gain = 50, 0.9

    def __init__(
        self,
        name: str,
        *,
        tol: float,
        max_iter: int,
        callback: Callback | None = None,
        verbose: int = 0,
        floor: float = 0.0,
        stall: bool = False,
        residual: str = "error",
    ) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable or None; got {callback!r}")
        self.name, self.tol, self.max_iter = name, float(tol), as_count(max_iter, "max_iter")
        self.floor, self.stall, self.residual = floor, stall, residual
        self.callback = callback
        self.n_iter, self.error, self.converged, self.stopped = 0, np.inf, False, False
        self._failure, self._held, self._done = "", False, False
        self._best, self._best_at = np.inf, 0
        self._columns: dict[str, list[float]] = {}
        self._bar = Progress(self.max_iter, name) if verbose else None

    @property
    def running(self) -> bool:
        """Whether another iteration may start."""
        return not (self.converged or self.stopped or self._failure or self.n_iter >= self.max_iter)

    def stage(self, tol: float | None = None, max_iter: int | None = None, error: float = np.inf) -> Iterator[int]:
        """Iterate to `tol` (default: the loop's own, which makes it converge) or for `max_iter` iterations at most.

        `error` is the residual to begin with: if it is small enough already, there is no iteration.
        """
        final = tol is None
        tol = self.tol if tol is None else max(tol, self.tol)
        last = self.n_iter + (max_iter if max_iter is not None else self.max_iter)
        self._best, self._best_at = np.inf, self.n_iter
        if error <= tol:
            self.error, self.converged = error, final
        try:
            while error > tol and self.running and self.n_iter < last:
                before = self.n_iter
                yield self.n_iter
                if self.n_iter == before:
                    raise RuntimeError(f"{self.name}: an iteration ended without a report")
                if not final and self.n_iter - self._best_at >= self.patience:
                    break  # as near as this stage gets
                if (self.error <= tol or self._done) and not self._held:
                    self.converged = final and not self.stopped
                    break
        finally:
            if self._bar and not self.running:
                self._bar.close()

    def report(
        self,
        error: float,
        *,
        hold: bool = False,
        done: bool = False,
        state: Callable[[], Mapping[str, Any]] | None = None,
        **history: float,
    ) -> None:
        """End an iteration: keep `error` and `history`, show progress, call back with `state()` and the same figures.

        With `hold`, the loop goes on even if `error` is small enough; with `done`, it has converged even if it is not.
        """
        self._held, self._done = hold, done
        self.n_iter += 1
        self.error = float(error)
        figures = {self.residual: self.error} | {key: float(value) for key, value in history.items()}
        for key, value in figures.items():
            self._columns.setdefault(key, []).append(value)
        if self._bar:
            self._bar.step(figures)
        if self.callback is not None:
            record = {"n_iter": self.n_iter, "residual": self.error, **figures, **(state() if state else {})}
            self.stopped = self._call_back(State(**{k: _read_only(v) for k, v in record.items()}))
        self._watch()

    def _call_back(self, state: State) -> bool:
        assert self.callback is not None
        try:
            answer = self.callback(state)
        except BaseException:
            if self._bar:
                self._bar.close()
            raise
        return isinstance(answer, (bool, np.bool_)) and bool(answer)

    def _watch(self) -> None:
        if not np.isfinite(self.error):
            self._failure = f"the {self.residual} became {self.error}"
        elif self.error < self.gain * self._best:
            self._best, self._best_at = self.error, self.n_iter
        elif self.n_iter - self._best_at >= self.patience and self.error > self.tol:
            rounding = self.tol < self.floor and self.error <= 5 * self.floor  # farther away it is merely slow
            if rounding or self.stall:
                self._failure = f"the {self.residual} stalls at {self.error:.2g}"
            if rounding:
                self._failure += (
                    f"; in this dtype at this scale it cannot be brought reliably below about {self.floor:.2g}"
                )

    @property
    def history(self) -> dict[str, np.ndarray[Any, Any]]:
        """All that was reported, a float64 array a figure."""
        return {key: np.asarray(column) for key, column in self._columns.items()}

    @property
    def outcome(self) -> dict[str, Any]:
        """What every iterative result reports: ``converged``, ``n_iter`` and ``history``."""
        return {"converged": self.converged, "n_iter": self.n_iter, "history": self.history}

    def finish(self, advice: str = "", *, stacklevel: int = 3) -> None:
        """Close the bar; warn if the method ended on its own before it converged."""
        if self._bar:
            self._bar.close()
        if self.converged or self.stopped:
            return
        ended = f"it stopped after {self.n_iter}" if self.running else f"it used all {self.max_iter}"
        why = self._failure or f"{ended} iterations"
        warnings.warn(
            f"{self.name} did not converge: {why} ({self.residual} {self.error:.3g}, tol {self.tol:.3g})."
            + (f" {advice}" if advice else ""),
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def _read_only(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


class Progress:
    """A progress bar on standard error: tqdm's where tqdm is installed, else one line rewritten twice a second."""

    def __init__(self, total: int, name: str) -> None:
        self.total, self.name, self.count = total, name, 0
        self._text, self._shown, self._open = "", 0.0, True
        self._tqdm = None
        if importlib.util.find_spec("tqdm") is not None:
            from tqdm import tqdm

            self._tqdm = tqdm(total=total, desc=name, leave=True)

    def step(self, figures: Mapping[str, float] | None = None) -> None:
        """Count one more, and show the latest figures."""
        self.count += 1
        self._text = ", ".join(f"{key}={value:.4g}" for key, value in (figures or {}).items())
        if self._tqdm is not None:
            self._tqdm.set_postfix_str(self._text, refresh=False)
            self._tqdm.update()
        elif time.monotonic() - self._shown > 0.5:
            self._shown = time.monotonic()
            self._write("")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._open and self._tqdm is not None:
            self._tqdm.close()
        elif self._open:
            self._write("\n")
        self._open = False

    def _write(self, end: str) -> None:
        sys.stderr.write(f"\r{self.name}: {self.count}/{self.total} {self._text}\x1b[K{end}")
        sys.stderr.flush()
