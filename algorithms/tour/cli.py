"""The command ``numcore``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import numcore
from numcore.algorithms.tour import _stop
from numcore.algorithms.tour._facts import facts
from numcore.algorithms.tour._page import Outcome, page, write

__all__ = ["main"]

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0 when all went well; 1 when a stop of the tour failed; 2 when nothing was done because of how it was asked;
        130 when interrupted.
    """
    options = _parser().parse_args(argv)
    if options.command == "info":
        numcore.show_config()
        return DONE
    refusal = _refusal(options.output, options.force)
    if refusal:
        _say(f"numcore tour: {refusal}")
        return REFUSED
    try:
        return _tour(options.output, options.only or _stop.names())
    except KeyboardInterrupt:
        _say("numcore tour: interrupted; no page was written")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="numcore", description="See what numcore does, and how it is set up.")
    parser.add_argument("--version", action="version", version=f"numcore {numcore.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    tour = commands.add_parser("tour", help="run every family on real data and write one HTML page")
    tour.add_argument(
        "--output", type=Path, default=Path("numcore-tour.html"), metavar="PATH", help="default: %(default)s"
    )
    tour.add_argument("--force", action="store_true", help="overwrite the output where it exists")
    tour.add_argument("--only", nargs="+", choices=_stop.names(), metavar="NAME", help=f"of {', '.join(_stop.names())}")
    commands.add_parser("info", help="say which backend is active and which hot loops run compiled")
    return parser


def _refusal(output: Path, force: bool) -> str:
    """Why there is no point in beginning, or nothing."""
    if output.is_dir():
        return f"{output} is a folder; give --output a file name"
    if output.exists() and not force:
        return f"{output} exists already; give --force to overwrite it, or --output for another name"
    if not os.access(output.parent, os.W_OK):
        return f"{output.parent} is not a folder that can be written to"
    if importlib.util.find_spec("matplotlib") is None:
        return 'the pictures need matplotlib; install it with pip install "numcore-algorithms[plot]"'
    return ""


def _tour(output: Path, names: Sequence[str]) -> int:
    outcomes = []
    for count, name in enumerate(names, start=1):
        _say(f"[{count}/{len(names)}] {name}")
        outcomes.append(_visit(name))
    write(output, page(outcomes, facts()))
    print(output.resolve())
    return FAILED if any(outcome.failure for outcome in outcomes) else DONE


def _visit(name: str) -> Outcome:
    start, title = time.perf_counter(), name

    def progress(text: str) -> None:
        _say(f"{time.perf_counter() - start:7.1f} s  {text}")

    try:
        stop = _stop.load(name)
        title = stop.title
        blocks = stop.run(progress)
    except Exception as failure:  # whatever a stop raises is told, and the others go on
        traceback.print_exc()
        progress("failed")
        return Outcome(name, title, time.perf_counter() - start, failure=failure)
    progress("done")
    return Outcome(name, title, time.perf_counter() - start, blocks)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
