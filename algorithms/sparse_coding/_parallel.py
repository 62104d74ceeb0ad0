"""Blocks of signals, worked on in turn or by threads."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from numcore.algorithms.sparse_coding._problem import BLOCK, is_dask, row_blocks
from numcore.arrays import as_count

__all__ = ["as_jobs", "over_blocks"]

R = TypeVar("R")


def as_jobs(n_jobs: Any) -> int | None:
    """`n_jobs`, checked: None or an integer other than 0."""
    if n_jobs is not None and as_count(n_jobs, "n_jobs", minimum=-(2**31)) == 0:
        raise ValueError("n_jobs must not be 0")
    return n_jobs


def over_blocks(work: Callable[[slice, Any], R], X: Any, n_jobs: int | None) -> Iterator[R]:
    """``work(rows, signals)`` of every block of rows, in order; on `n_jobs` threads where there are several blocks."""
    if n_jobs is None or n_jobs == 1 or is_dask(X) or X.shape[0] <= BLOCK:
        return (work(rows, part) for rows, part in row_blocks(X))
    from joblib import Parallel, delayed

    # a thread starts from the default backend: each takes a copy of the caller's context along
    parallel = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")
    found: Iterator[R] = parallel(
        delayed(contextvars.copy_context().run)(work, rows, part) for rows, part in row_blocks(X)
    )
    return found
