"""The part of an array namespace that formulas of ``numcore`` use, for scalars in compiled loops.

A formula written as ``f(xp, a, ...)`` for arrays is compiled for scalars with this module as `xp`.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable
from numpy import log1p, sqrt

__all__ = ["log1p", "sqrt", "where"]


@register_jitable
def where(condition: Any, x: Any, y: Any) -> Any:
    """`x` or `y`; both have been computed, so that the compiler may choose without a branch."""
    return x if condition else y
