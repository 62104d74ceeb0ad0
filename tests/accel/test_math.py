"""The scalar functions of ``accel/cpu/_math.py``: error bounds over the whole range, and what happens at its ends."""

import os
import subprocess
import sys

import numpy as np
import pytest

numba = pytest.importorskip("numba", exc_type=ImportError)

from numcore.accel.cpu import _math  # noqa: E402

DTYPES = [np.float32, np.float64]
needs_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="no type here is wider than float64, to compare it with"
)
MEASURED = [np.float32, pytest.param(np.float64, marks=needs_longdouble)]
BOUND = {np.float32: 1.1e-7, np.float64: 2.1e-16}
FASTMATH = [False, {"contract", "reassoc", "nsz"}]


def mapped(function, fastmath):
    """`function` along an array, as a loop would use it."""

    @numba.njit(fastmath=fastmath)
    def loop(x, out):
        for j in range(x.size):
            out[j] = function(x[j])

    def call(x):
        out = np.empty_like(x)
        loop(x, out)
        return out

    return call


MAPPED = {(f, bool(fast)): mapped(getattr(_math, f), fast) for f in ("exp2", "exp", "pow2") for fast in FASTMATH}


@numba.njit(fastmath=FASTMATH[1])
def extexp(x, m, n):
    for j in range(x.size):
        m[j], n[j] = _math.extexp(x[j])


def split(x):
    m, n = np.empty_like(x), np.empty_like(x)
    extexp(x, m, n)
    return m, n


def arguments(dtype, low, high):
    """Dense in [-2, 2], then the whole range with its ends and the half-integers, where the rounding changes."""
    rng = np.random.default_rng(0)
    halves = np.arange(np.ceil(low), np.floor(high), 0.5)
    parts = [rng.uniform(-2, 2, 100_000), rng.uniform(low, high, 100_000), halves, np.nextafter(halves, high)]
    return np.concatenate(parts).astype(dtype)


def relative_error(value, exact):
    return float(np.max(np.abs(value / exact - 1)))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", MEASURED)
def test_exp2_keeps_its_error_bound_over_the_whole_range(dtype, fast):
    t = arguments(dtype, np.finfo(dtype).minexp + 1, np.finfo(dtype).maxexp - 0.01)
    error = relative_error(MAPPED["exp2", fast](t), np.exp2(t.astype(np.longdouble)))
    assert error < BOUND[dtype]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", MEASURED)
def test_exp_keeps_its_error_bound_over_the_whole_range(dtype, fast):
    low, high = (np.finfo(dtype).minexp + 1) * np.log(2), (np.finfo(dtype).maxexp - 0.01) * np.log(2)
    x = arguments(dtype, low, high)
    error = relative_error(MAPPED["exp", fast](x), np.exp(x.astype(np.longdouble)))
    assert error < BOUND[dtype]


def exact_mantissa(x, n):
    """``exp(x - n ln 2)`` in longdouble; n times the leading 20 bits of ln 2 is exact there."""
    leading, rest = np.longdouble(0.6931467056274414), np.longdouble("4.749325039031671607321e-7")
    x, n = x.astype(np.longdouble), n.astype(np.longdouble)
    return np.exp((x - n * leading) - n * rest)


@pytest.mark.parametrize("dtype", MEASURED)
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4, 2.0**18])
def test_extexp_is_accurate_at_any_scale(dtype, scale):
    x = np.random.default_rng(1).uniform(-scale, scale, 50_000).astype(dtype)
    m, n = split(x)
    assert np.array_equal(n, np.rint(n))
    assert 0.69 <= m.min()
    assert m.max() <= 1.44
    # beyond the stated bound: the reduction in float32, and the reference in float64
    slack = {np.float32: 2e-15, np.float64: 1e-22}[dtype] * scale
    assert relative_error(m, exact_mantissa(x, n)) < BOUND[dtype] + slack


@pytest.mark.parametrize("dtype", DTYPES)
def test_extexp_clips_beyond_its_limit(dtype):
    limit = dtype(_math.EXTEXP_LIMIT[np.dtype(dtype)])
    inside = split(np.array([-limit, limit]))
    for far in (limit * 4, np.finfo(dtype).max, dtype(np.inf)):
        assert np.array_equal(split(np.array([-far, far])), inside)


def test_two_step_reduction_keeps_the_accuracy_where_one_step_loses_it():
    x = np.random.default_rng(2).uniform(-1e4, 1e4, 1000).astype(np.float32)
    m, n = split(x)
    one_step = np.exp2((x * np.float32(np.log2(np.e)) - n).astype(np.float64))
    exact = exact_mantissa(x, n)
    assert relative_error(one_step, exact) > 1e-4
    assert relative_error(m, exact) < BOUND[np.float32]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_integral_powers_are_exact(dtype, fast):
    info = np.finfo(dtype)
    n = np.arange(info.minexp + 1, info.maxexp, dtype=dtype)
    assert np.array_equal(MAPPED["exp2", fast](n), np.ldexp(dtype(1), n.astype(np.int32)))
    n = np.arange(info.minexp, info.maxexp, dtype=dtype)
    assert np.array_equal(MAPPED["pow2", fast](n), np.ldexp(dtype(1), n.astype(np.int32)))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_are_exact_zeros_infinities_and_nans(dtype, fast):
    info = np.finfo(dtype)
    small = dtype([-np.inf, -info.max, -1e6, info.minexp - 1, info.minexp + 0.5])
    large = dtype([info.maxexp, info.maxexp + 0.4, info.maxexp + 0.6, 1e6, info.max, np.inf])
    ln_2 = dtype(np.log(2))
    for name, x in (("exp2", small), ("exp", small[:-1] * ln_2), ("pow2", np.floor(small[:-1]))):
        assert np.array_equal(MAPPED[name, fast](x), np.zeros_like(x))
        assert not np.signbit(MAPPED[name, fast](x)).any()
    for name, x in (("exp2", large), ("exp", dtype(1.001) * large[:-2] * ln_2), ("pow2", np.ceil(large))):
        assert np.isposinf(MAPPED[name, fast](x)).all()
    for name in ("exp2", "exp"):
        assert np.isnan(MAPPED[name, fast](np.full(100, np.nan, dtype))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_keeps_its_mantissa_nan(dtype):
    assert np.isnan(split(np.full(70, np.nan, dtype))[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_widens(dtype):
    kind = numba.from_dtype(np.dtype(dtype))
    for name in ("exp2", "exp", "pow2"):
        function = numba.njit(getattr(_math, name))
        function(dtype(0.0))
        assert function.overloads[(kind,)].signature.return_type == kind


def test_integers_are_not_taken():
    with pytest.raises(numba.TypingError):
        numba.njit(_math.exp2)(1)


USES_IT = """
import numba, numpy as np
from numcore.accel.cpu._math import exp, exp2, extexp

@numba.njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def loop(x):
    total = x.dtype.type(0)
    for j in range(x.size):
        total += exp2(x[j]) + exp(x[j]) + extexp(x[j])[0]
    return total

for dtype in (np.float32, np.float64):
    assert loop(np.zeros(100, dtype)) == 300
print(sum(loop.stats.cache_hits.values()), sum(loop.stats.cache_misses.values()))
"""


def test_a_loop_that_uses_them_is_compiled_once_for_all_processes(tmp_path):
    script = tmp_path / "uses_it.py"
    script.write_text(USES_IT)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    run = [
        subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert run == [["0", "2"], ["2", "0"]]
