"""Finding the place where a NaN is born."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from numcore.autodiff.boxes import Tape, Var, namespace, running, unboxed
from numcore.autodiff.engine import RULES

__all__ = ["debug_nans"]


@contextmanager
def debug_nans() -> Iterator[None]:
    """Within the block, differentiation raises as soon as a function gives NaN, and says which and where.

    Raises
    ------
    FloatingPointError
        Naming the function, and the line outside this package that called it.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> with np.errstate(all="ignore"), ad.debug_nans():
    ...     ad.grad(lambda x: ad.log(x))(-1.0)
    Traceback (most recent call last):
    ...
    FloatingPointError: log gave 1 nan of 1 entries, at ...
    """
    before, running.checked = running.checked, CheckedTape
    try:
        yield
    finally:
        running.checked = before


class CheckedTape(Tape):
    """A tape that looks at all that is put on it."""

    __slots__ = ()

    @staticmethod
    def box(out: Any, index: int, tape: Tape) -> Var:
        """The variable, if its value is free of NaN."""
        pull = tape[index][0][0]
        pull = pull.args[0] if isinstance(pull, partial) else pull
        CheckedTape.look(out, next((rule.name for rule in RULES.values() if pull in rule.vjps), "a custom function"))
        return Var(out, index, tape)

    @staticmethod
    def look(out: Any, name: str) -> None:
        """Raise if `out` holds NaN."""
        plain = unboxed(out)
        count = int(namespace(plain).sum(namespace(plain).isnan(plain)))
        if count:
            frame = sys._getframe(1)
            while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("numcore.autodiff"):
                frame = frame.f_back
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            raise FloatingPointError(f"{name} gave {count} nan of {plain.size} entries, at {place}")
