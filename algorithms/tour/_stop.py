"""What a stop of the tour is, and how the stops are found.

A stop is a module of this package, named after its family, with one constant::

    STOP = Stop(title="What it shows", run=run)

where ``run(progress)`` does the work, says ``progress("what it does now")`` as it goes, and returns the blocks of its
section. Whatever it raises is reported on the page.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["Block", "Code", "Pictures", "Picture", "Progress", "Stop", "Table", "Text", "load", "names"]

Progress: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Text:
    """Plain text; blank lines part its paragraphs."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines that a user would write."""

    source: str


@dataclass(frozen=True)
class Picture:
    """An encoded picture; `alt` is for those who cannot see it."""

    data: bytes
    media_type: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Pictures:
    """Pictures in a row, or below one another where the page is narrow."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Table:
    """Cells under heads; the first column names the row."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


Block: TypeAlias = Text | Code | Pictures | Table


@dataclass(frozen=True)
class Stop:
    """One family's part of the tour."""

    title: str
    run: Callable[[Progress], Sequence[Block]]


def names() -> list[str]:
    """The stops there are, found by listing the package; nothing is imported."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(module.name for module in modules if not module.name.startswith("_") and module.name != "cli")


def load(name: str) -> Stop:
    """Import a stop."""
    stop: Stop = importlib.import_module(f"numcore.algorithms.tour.{name}").STOP
    return stop
