"""Blocks of rows on the shared pool: same result for any number of threads, and no way to hang it."""

import itertools
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

numba = pytest.importorskip("numba", exc_type=ImportError)

from numcore.accel.cpu import _threads  # noqa: E402
from numcore.accel.cpu._threads import GRAIN, MOST, block_count, run_blocks  # noqa: E402
from numcore.dispatch import one_thread  # noqa: E402

TIMEOUT = 60


@numba.njit(nogil=True)
def sum_rows(start, stop, block, x, sums):
    total = x.dtype.type(0)
    for i in range(start, stop):
        for j in range(x.shape[1]):
            total += x[i, j]
    sums[block] += total


def summed(x):
    sums = np.zeros(block_count(*x.shape), x.dtype)
    run_blocks(sum_rows, *x.shape, x, sums)
    return sums


@pytest.fixture
def threads(monkeypatch):
    """Sets the number of threads, beyond the number of cores too, on a pool of its own."""

    def use(count):
        monkeypatch.setattr(_threads, "_num_threads", lambda: count)
        monkeypatch.setattr(_threads.config, "NUMBA_NUM_THREADS", count)
        monkeypatch.setattr(_threads, "_pool", None)

    yield use
    if _threads._pool is not None:
        _threads._pool.shutdown()


@pytest.fixture(scope="module")
def matrix():
    return np.random.default_rng(0).normal(size=(1111, 1500)).astype(np.float32)


@pytest.mark.parametrize("n_rows", [0, 1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("work", [0, 1, GRAIN // 10, GRAIN, 10 * GRAIN])
def test_every_row_is_in_one_block(n_rows, work, threads):
    threads(3)
    calls = []
    run_blocks(lambda start, stop, block: calls.append((block, start, stop)), n_rows, work)
    calls.sort()
    assert [block for block, _, _ in calls] == list(range(block_count(n_rows, work)))
    assert calls[0][1] == 0 and calls[-1][2] == n_rows
    assert all(this[2] == following[1] for this, following in itertools.pairwise(calls))
    assert len(calls) <= MOST
    assert len(calls) == 1 or n_rows * work // len(calls) >= GRAIN


def test_the_result_does_not_depend_on_the_number_of_threads(matrix, threads):
    results = []
    for count in (1, 2, 3, 8):
        threads(count)
        results.append(summed(matrix))
    assert len(results[0]) > 4
    assert all(np.array_equal(results[0], other) for other in results)


def test_several_threads_work_at_once(threads):
    threads(3)
    together = threading.Barrier(3)
    seen = set()

    def kernel(start, stop, block):
        if block < 3:
            seen.add(threading.get_ident())
            together.wait(TIMEOUT)

    run_blocks(kernel, 3, GRAIN)
    assert len(seen) == 3


def test_small_work_stays_on_the_calling_thread(threads):
    threads(8)
    seen = []
    run_blocks(lambda start, stop, block: seen.append(threading.current_thread()), 1000, 2 * GRAIN // 1000 - 1)
    assert seen == [threading.current_thread()]
    assert _threads._pool is None


def test_calls_from_many_threads_at_once_are_safe(matrix, threads):
    threads(2)
    expected = summed(matrix)
    with ThreadPoolExecutor(8) as callers:
        results = [callers.submit(summed, matrix) for _ in range(40)]
        assert all(np.array_equal(result.result(TIMEOUT), expected) for result in results)


def test_nested_calls_end_even_when_every_thread_of_the_pool_is_taken(matrix, threads):
    threads(2)
    expected = summed(matrix)
    results = {}

    def outer(start, stop, block):
        results[block] = summed(matrix)

    run_blocks(outer, 6, GRAIN)
    assert len(results) == 6
    assert all(np.array_equal(result, expected) for result in results.values())


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_a_kernel_reaches_the_caller_and_stops_the_rest(count, threads):
    threads(count)
    begun = []

    def kernel(start, stop, block):
        begun.append(block)
        raise ArithmeticError(f"block {block}")

    with pytest.raises(ArithmeticError, match="block"):
        run_blocks(kernel, 50, GRAIN)
    assert len(begun) <= count
    assert len(summed(np.ones((50, GRAIN), np.int8))) == 50  # the pool is as good as before


def in_child(x, expected, queue):
    queue.put(np.array_equal(summed(x), expected))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.skipif(sys.platform == "darwin", reason="forked processes may not use system libraries on macOS")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_its_own_pool(matrix, threads):
    threads(2)
    expected = summed(matrix)
    assert _threads._pool is not None
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(matrix, expected, queue))
    child.start()
    assert queue.get(timeout=TIMEOUT)
    child.join(TIMEOUT)
    assert child.exitcode == 0


def test_the_threading_layer_is_not_started_and_its_setting_is_obeyed(monkeypatch):
    monkeypatch.setattr(_threads.parallel, "_is_initialized", False)
    monkeypatch.setattr(_threads.parallel, "get_num_threads", lambda: pytest.fail("starts the threading layer"))
    assert _threads._num_threads() == numba.config.NUMBA_NUM_THREADS
    monkeypatch.setattr(_threads.parallel, "_is_initialized", True)
    monkeypatch.setattr(_threads.parallel, "get_num_threads", lambda: 1)
    assert _threads._num_threads() == 1


def test_one_thread_is_a_matter_of_the_calling_thread(matrix, threads, monkeypatch):
    expected = summed(matrix)
    monkeypatch.setattr(_threads, "_start", lambda work, count: seen.append(count) or [])
    with one_thread():
        seen = []
        assert np.array_equal(summed(matrix), expected) and seen == [0]
        monkeypatch.setattr(_threads.parallel, "_is_initialized", False)
        monkeypatch.setattr(_threads.config, "NUMBA_NUM_THREADS", 3)
        with ThreadPoolExecutor(1) as other:
            other.submit(summed, matrix).result()
        assert seen == [0, min(3, block_count(*matrix.shape)) - 1]
    summed(matrix)
    assert seen[2] == seen[1]


def test_after_shutdown_the_caller_does_all_the_work(matrix, threads):
    threads(2)
    expected = summed(matrix)
    _threads._pool.shutdown()
    assert np.array_equal(summed(matrix), expected)
