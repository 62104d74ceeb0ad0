"""Threads for hot loops: blocks of rows, shared out among the threads of one pool.

Twins run their rows through :func:`run_blocks` where other code would write ``prange``. That costs one small pool of
Python threads (the kernels release the interpreter lock) and gives:

* the same result for any number of threads, bit for bit: the blocks, and with them the order of every sum, depend on
  the problem only;
* no threading layer: Numba's "workqueue" ends the process when two threads enter it at once, and OpenMP does when it
  is used after a fork; here both are ordinary;
* compile times a fraction of those of ``parallel=True``.

The number of threads is Numba's: ``NUMBA_NUM_THREADS``, and in the calling thread ``numba.set_num_threads``; it is one
within :func:`numcore.dispatch.one_thread`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from numba import config
from numba.np.ufunc import parallel

from numcore.dispatch import is_alone

__all__ = ["block_count", "run_blocks"]

GRAIN = 2**18
"""Entries a block at least: some 50 to 100 microseconds of work, against ten to hand it over."""

MOST = 64
"""Blocks at most, since callers may hold one accumulator a block."""


def run_blocks(kernel: Callable[..., Any], n_rows: int, work_per_row: int, *args: Any) -> None:
    """Call ``kernel(start, stop, block, *args)`` for every block of rows, on several threads where that pays.

    Safe when called from several threads at once, from within a kernel's own caller on the pool, and after a fork.

    Parameters
    ----------
    kernel : callable
        Compiled with ``nogil=True``; handles rows ``start`` to ``stop - 1`` and may write to what belongs to them, or
        to ``block``, only.
    n_rows : int
        The rows in all.
    work_per_row : int
        The entries that a row costs.
    *args
        Passed on.

    Raises
    ------
    Exception
        The first that a kernel raised; blocks not yet begun are then left out.
    """
    count = block_count(n_rows, work_per_row)
    borders = [n_rows * block // count for block in range(count + 1)]
    pending = iter(range(count))  # next() on it is atomic

    def work() -> None:
        for block in pending:
            try:
                kernel(borders[block], borders[block + 1], block, *args)
            except BaseException:
                _exhaust(pending)
                raise

    helpers = _start(work, min(count, _num_threads()) - 1)
    try:
        work()  # the caller takes its share, so that it depends on no free thread in the pool
    finally:
        started = [helper for helper in helpers if not helper.cancel()]
        if started:
            wait(started)
    for helper in started:
        helper.result()


def block_count(n_rows: int, work_per_row: int) -> int:
    """The number of blocks that :func:`run_blocks` makes: a matter of the problem, not of the machine."""
    return max(1, min(n_rows, MOST, n_rows * work_per_row // GRAIN))


def _exhaust(blocks: Iterator[int]) -> None:
    for _ in blocks:
        pass


def _num_threads() -> int:
    if is_alone():
        return 1
    # numba.get_num_threads would start the threading layer, which nothing here needs; before that
    # start nobody can have called numba.set_num_threads either
    return parallel.get_num_threads() if parallel._is_initialized else config.NUMBA_NUM_THREADS


_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _start(work: Callable[[], None], count: int) -> list[Future[None]]:
    """Up to `count` helpers; fewer when the interpreter is shutting down."""
    global _pool
    if count < 1:
        return []
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(config.NUMBA_NUM_THREADS, thread_name_prefix="numcore")
    try:
        return [_pool.submit(work) for _ in range(count)]
    except RuntimeError:
        return []


def _forget_pool() -> None:
    """In the child of a fork the pool's threads do not exist."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
