"""Kernels by name: compiled on first use, once a process (and kept on disk by CuPy)."""

from __future__ import annotations

import functools
from typing import Any

import cupy

from numcore.accel.gpu._sources import REALS, SOURCES

__all__ = ["launch"]


def launch(family: str, name: str, dtype: Any, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
    """Run a kernel of a family for one dtype; arrays are contiguous, scalars are NumPy's of the parameter's type."""
    _kernel(family, name, dtype.name)(grid, block, args)


@functools.cache
def _kernel(family: str, name: str, dtype: str) -> Any:
    return _module(family, dtype).get_function(name)


@functools.cache
def _module(family: str, dtype: str) -> Any:
    return cupy.RawModule(code=SOURCES[family], options=("--std=c++17", f"-DREAL={REALS[dtype]}"))
