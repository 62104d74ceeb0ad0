"""What this machine computes and reads in a second: it decides between products and passes."""

from __future__ import annotations

import functools
import time
from contextvars import ContextVar

import numpy as np

from numcore.arrays import as_number

__all__ = ["flops_per_byte", "saved_by_passes", "set_machine"]

RATIO = 6.0
"""Operations a byte, where a measurement is not wanted."""

SPEED = 5e10
"""Operations a second that go with it."""

PASSES = 20
"""Reads of A that a heavy ball with a sketch of 12 d rows takes beyond those of refinement, the larger sketch counted
as two: it took so many to solve tall problems to rounding."""

READS = 1.2
"""What a read of A that is used twice takes, in units of one that is used once."""

CALL = 5e-5
"""Seconds that a pass takes however few the rows."""

_given: ContextVar[tuple[float | None, float | None]] = ContextVar("numcore_machine", default=(None, None))


def set_machine(*, flops: float | None = None, bandwidth: float | None = None) -> None:
    """State the speed of this machine, so that it is not measured.

    Parameters
    ----------
    flops : float, optional
        Floating-point operations a second in matrix products; None to measure it.
    bandwidth : float, optional
        Bytes a second in reading a large array; None to measure it.

    Raises
    ------
    ValueError, TypeError
        If one is not a positive number.

    Examples
    --------
    >>> from numcore.algorithms import sketching
    >>> sketching.set_machine(flops=5e10, bandwidth=1e10)
    >>> sketching.set_machine()
    """
    checked = [
        None if value is None else as_number(value, name, above=0)
        for value, name in ((flops, "flops"), (bandwidth, "bandwidth"))
    ]
    _given.set((checked[0], checked[1]))


def saved_by_passes(
    n: int, d: int, k: int, *, itemsize: int, products: float, deterministic: bool
) -> tuple[float, float]:
    """Seconds that products with A take, and seconds that passes over A, with a larger sketch, take in their place.

    Parameters
    ----------
    n, d, k : int
        Rows, columns and right-hand sides.
    itemsize : int
        Bytes of an entry.
    products : float
        Operations of the products, in units of ``n d^2``.
    deterministic : bool
        Whether the ratio of speeds must not be measured.
    """
    flops, bandwidth = _speeds(deterministic=deterministic)
    # the triangle of twelve d rows, at half the speed of products, in place of that of four
    larger = 2 * 2 * (12 - 4) * d**3 / flops
    one = READS * n * d * itemsize / bandwidth + 4 * n * d * (k - 1) / flops + CALL
    return products * n * d**2 / flops, larger + PASSES * one


def flops_per_byte(*, deterministic: bool) -> float:
    """The ratio of the two speeds."""
    flops, bandwidth = _speeds(deterministic=deterministic)
    return flops / bandwidth


def _speeds(*, deterministic: bool) -> tuple[float, float]:
    """As stated, measured once a process, or fixed."""
    flops, bandwidth = _given.get()
    if flops is not None and bandwidth is not None:
        return flops, bandwidth
    if deterministic:
        flops = flops or (SPEED if bandwidth is None else RATIO * bandwidth)
        return flops, flops / RATIO
    measured = _measured()
    return flops or measured[0], bandwidth or measured[1]


@functools.cache
def _measured() -> tuple[float, float]:
    A, z = np.ones((512, 512)), np.ones(512)
    wide = np.ones((1 << 13, 512))
    A @ A, wide @ z
    product = min(_seconds(lambda: A @ A) for _ in range(5))
    read = min(_seconds(lambda: wide @ z) for _ in range(5))
    return 2 * 512.0**3 / product, wide.nbytes / read


def _seconds(call: object) -> float:
    assert callable(call)
    start = time.perf_counter()
    call()
    return max(time.perf_counter() - start, 1e-9)
