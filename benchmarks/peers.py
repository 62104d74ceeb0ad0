"""Side by side with other libraries: the same problems, to the same measured error, on one thread each.

``python benchmarks/peers.py transport`` prints how many times longer each peer takes. A family's problems and peers
are the rows of ``peers_<family>.py`` beside this file; all else is here. README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
XLA = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
"""For one thread; XLA cannot be held to another number."""
SAMPLE = 0.03
"""Seconds that one timing lasts at least; quicker calls are repeated within it."""

HOPELESS = 0.1
"""A peer left with an error above this has failed; its time says nothing."""


@dataclass(frozen=True)
class Run:
    """How one contestant solves a row's problem.

    ``call(setting)`` returns a result. Where `error` measures results, `settings` are tried in turn, before anything is
    timed, until the error is at most the row's. With `counts` the settings are iterations: the time is that of one,
    from the difference of two calls.
    """

    call: Callable[[Any], Any]
    settings: Sequence[Any] = (None,)
    error: Callable[[Any], float] | None = None
    counts: tuple[int, int] | None = None


@dataclass(frozen=True)
class Row:
    """One problem: `contestants` sets it up and gives, by name, what makes their runs; the first are we.

    A maker imports its library, so that a missing one is a line in the table. `wanted` are the ratios aimed at, by how
    the peer's name begins; `error` is what all have to reach. What needs much of the machine is `asked` for by name.
    """

    name: str
    title: str
    contestants: Callable[[], Mapping[str, Callable[[], Run]]]
    wanted: Mapping[str, float] = field(default_factory=dict)
    error: float | None = None
    memory: bool = False
    quick: bool = False
    asked: bool = False


@dataclass(frozen=True)
class Entrant:
    """A contestant who is ready: its run, at the setting to be timed, and what that setting reaches."""

    run: Run
    setting: Any
    error: float | None
    memory: float | None
    reached: bool

    def seconds(self) -> float:
        """The time of one call, or of one iteration."""
        if self.run.counts is None:
            return clock(lambda: self.run.call(self.setting))
        fewer, more = self.run.counts
        base = clock(lambda: self.run.call(fewer)) if fewer else 0.0
        return max(clock(lambda: self.run.call(more)) - base, 1e-9) / (more - fewer)


@dataclass(frozen=True)
class Line:
    """What the table says of one peer in one row; `ratio` is the median of the pairs' peer time over our time."""

    row: str
    title: str
    peer: str
    verdict: str
    ours_seconds: float | None = None
    peer_seconds: float | None = None
    ratio: float | None = None
    ratio_range: tuple[float, float] | None = None
    lower_bound: bool = False
    wanted: float | None = None
    ours_error: float | None = None
    peer_error: float | None = None
    ours_memory: float | None = None
    peer_memory: float | None = None


@dataclass(frozen=True)
class Limits:
    """How much of everything: pairs, seconds for the pairs of one peer, seconds for the search of a setting."""

    pairs: int
    budget: float
    patience: float


FULL, QUICK = Limits(pairs=7, budget=5.0, patience=15.0), Limits(pairs=3, budget=1.0, patience=1.0)


def race(row: Row, limits: Limits) -> Iterator[Line]:
    """Run one row: a line for each peer."""
    (_, ours), *peers = row.contestants().items()
    we = enter(row, ours, limits)
    if isinstance(we, str):
        yield Line(row.name, row.title, "all", f"WE FAILED: {we}")
        return
    for name, make in peers:
        they = enter(row, make, limits)
        if isinstance(they, str):
            yield Line(row.name, row.title, name, they)
        else:
            yield compare(row, name, we, they, limits)


def enter(row: Row, make: Callable[[], Run], limits: Limits) -> Entrant | str:
    """Import, warm up and find the setting to be timed; a string says why that cannot be."""
    try:
        with quiet():
            run = make()
            if run.counts is None:
                setting, error = settle(run, row.error, limits)
            else:
                setting, error = run.counts[1], None
                run.call(max(run.counts[0], 1)), run.call(setting)
            memory = extra_memory(lambda: run.call(setting)) if row.memory else None
    except ImportError as missing:
        return f"not installed ({missing.name or missing})"
    except Exception as problem:  # a peer's trouble is a line in the table
        return f"failed: {type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"
    return Entrant(run, setting, error, memory, reached=row.error is None or error is None or error <= row.error)


def settle(run: Run, target: float | None, limits: Limits) -> tuple[Any, float | None]:
    """The first setting that reaches the target, or the best before patience ends; with its error."""
    run.call(run.settings[0])
    tried: list[tuple[float, Any]] = []
    begin = time.perf_counter()
    for setting in run.settings:
        result = run.call(setting)
        if run.error is None:
            return setting, None
        error = run.error(result)
        if target is None or error <= target:
            return setting, error
        tried.append((error if math.isfinite(error) else math.inf, setting))
        if time.perf_counter() - begin > limits.patience:
            break
    best, setting = min(tried, key=lambda pair: pair[0])
    return setting, best


def compare(row: Row, name: str, we: Entrant, they: Entrant, limits: Limits) -> Line:
    """Time the two in turn, and judge."""
    pairs: list[tuple[float, float]] = []
    begin = time.perf_counter()
    with quiet():
        while not pairs or (len(pairs) < limits.pairs and time.perf_counter() - begin < limits.budget):
            pairs.append((we.seconds(), they.seconds()))
    ratios = [theirs / ours for ours, theirs in pairs]
    wanted = next((aim for start, aim in row.wanted.items() if name.startswith(start)), None)
    return Line(
        row.name,
        row.title,
        name,
        judge(median(ratios), wanted, we, they),
        median(ours for ours, _ in pairs),
        median(theirs for _, theirs in pairs),
        median(ratios),
        (min(ratios), max(ratios)),
        not they.reached,
        wanted,
        we.error,
        they.error,
        we.memory,
        they.memory,
    )


def judge(ratio: float, wanted: float | None, we: Entrant, they: Entrant) -> str:
    """Who won, in words."""
    if not we.reached:
        return "WE DID NOT REACH THE ERROR"
    if not they.reached:
        bound = they.error is not None and they.error < HOPELESS and wanted is not None and ratio >= wanted
        return "peer did not reach the error" + ("; target met" if bound else "")
    if ratio < 1:
        return "WE LOSE"
    if wanted is None:
        return "we win"
    return "target met" if ratio >= wanted else "we win, TARGET MISSED"


def clock(call: Callable[[], Any]) -> float:
    """Seconds a call, over as many calls as fill `SAMPLE`."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < SAMPLE:
        call()
        count += 1
    return (time.perf_counter() - start) / count


def extra_memory(call: Callable[[], Any]) -> float | None:
    """Megabytes that the process grew by at the worst moment of a call, after a first one; None where not Linux."""
    try:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back
        before = _status("VmRSS")
        result = call()
        peak = _status("VmHWM")
        del result
    except OSError:
        return None
    return max(peak - before, 0) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Peers warn and print as they please."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        yield


WIDTHS = (47, 16, 8, 8, 22, 4, 7, 8, 12)
HEADS = ("problem", "peer", "ours", "peer", "peer / ours (range)", "aim", "our err", "peer err", "memory (MB)")


def table_line(line: Line) -> str:
    """One line of the table."""
    ratio = ""
    if line.ratio is not None and line.ratio_range is not None:
        low, high = line.ratio_range
        ratio = f"{'> ' if line.lower_bound else ''}{line.ratio:.3g}x ({low:.3g}-{high:.3g})"
    memory = "" if line.ours_memory is None else f"{line.ours_memory:.1f} / {line.peer_memory or 0:.1f}"
    cells = (
        line.title,
        line.peer,
        _time(line.ours_seconds),
        _time(line.peer_seconds),
        ratio,
        "" if line.wanted is None else f"{line.wanted:g}x",
        _error(line.ours_error),
        _error(line.peer_error),
        memory,
    )
    return _columns(cells) + " | " + line.verdict


def _columns(cells: Sequence[str]) -> str:
    return " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _error(error: float | None) -> str:
    return "" if error is None else f"{error:.1e}"


def versions(packages: Sequence[str], threads: int) -> str:
    """Which versions run, and where."""
    found = []
    for name in ("numpy", "numba", *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    held = "one thread" if threads == 1 else f"{threads} threads"
    return f"Python {platform.python_version()}, {', '.join(found)}; {platform.machine()}, {held}"


def on_threads(count: int) -> None:
    """Start again with every library held to so many threads, which most of them read when they are imported."""
    wanted = dict.fromkeys(THREADS, str(count)) | (XLA if count == 1 else {})
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


def main() -> int:
    """Parse the command line, run the rows, print the table."""
    families = sorted(path.stem.removeprefix("peers_") for path in HERE.glob("peers_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=families)
    parser.add_argument("--quick", action="store_true", help="a few rows, a few pairs")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows; a name stands for all that begin with it")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for every contestant, on N cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    on_threads(options.threads)
    family = importlib.import_module(f"benchmarks.peers_{options.family}")
    rows = [row for row in family.ROWS if _chosen(row, options)]
    if not rows:
        parser.error(f"no such row; there are: {', '.join(row.name for row in family.ROWS)}")
    print(head := versions(family.PACKAGES, options.threads))
    print(_columns(HEADS) + " | verdict")
    lines = []
    for row in rows:
        for line in race(row, QUICK if options.quick else FULL):
            print(table_line(line), flush=True)
            lines.append(asdict(line))
    if options.json:
        options.json.write_text(json.dumps({"versions": head, "lines": lines}, indent=1))
    return 0


def _chosen(row: Row, options: argparse.Namespace) -> bool:
    if options.only:
        return any(row.name.startswith(name) for name in options.only)
    return not row.asked and (row.quick or not options.quick)


if __name__ == "__main__":
    # Runs as a module of the package, without the checkout on the path: its numcore/ would hide the one installed.
    spec = importlib.util.spec_from_file_location("benchmarks", HERE / "__init__.py")
    assert spec is not None
    sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
    sys.exit(importlib.import_module("benchmarks.peers").main())
