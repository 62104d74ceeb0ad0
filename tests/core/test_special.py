"""Softmax and its kin, under both backends: against higher precision, optimality, the extremes, and on bad input."""

import array_api_strict
import numpy as np
import pytest
import scipy.special
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import numcore
from numcore.special import entmax15, logsumexp, softmax, sparsemax

DTYPES = [np.float32, np.float64]
needs_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="no type here is wider than float64, to compare it with"
)
EPS = {np.dtype(d): float(np.finfo(d).eps) for d in DTYPES}


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", exc_type=ImportError)
    with numcore.backend(request.param):
        yield request.param


@pytest.fixture
def numba_backend():
    pytest.importorskip("numba", exc_type=ImportError)
    with numcore.backend("numba"):
        yield


# the fixture that sets the backend has nothing to renew from example to example
properties = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def matrices(size=1e4, masked=False):
    """Matrices of either dtype, entries up to `size` and, if `masked`, -inf."""
    return st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=70),
            elements=st.floats(-size, size, width=32) | st.just(-np.inf)
            if masked
            else st.floats(-size, size, width=32),
            fill=st.floats(-10, 10, width=32),
        )
    )


def exactly(function, x, axis=-1):
    """SciPy's answer in the next wider type."""
    return function(x.astype(np.float64 if x.dtype == np.float32 else np.longdouble), axis=axis)


@properties
@given(x=matrices())
def test_weights_are_a_distribution(x, backend):
    weights = softmax(x)
    assert weights.dtype == x.dtype
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1, dtype=np.float64), 1, rtol=16 * EPS[x.dtype])


@properties
@given(x=matrices(), shift=st.integers(-1000, 1000))
def test_a_common_shift_leaves_the_weights_and_moves_the_logarithm(x, shift, backend):
    x = np.rint(x)  # so that the shift is exact
    moved = x + x.dtype.type(shift)
    np.testing.assert_allclose(softmax(moved), softmax(x), rtol=16 * EPS[x.dtype], atol=np.finfo(x.dtype).tiny)
    atol = 4 * EPS[x.dtype] * (np.abs(x).max() + abs(shift) + 1)
    np.testing.assert_allclose(logsumexp(moved), logsumexp(x) + shift, rtol=0, atol=atol)


@properties
@given(x=matrices(masked=True))
def test_both_agree_with_scipy_in_higher_precision(x, backend):
    some = (x > -np.inf).any(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights, logarithm = exactly(scipy.special.softmax, x), exactly(scipy.special.logsumexp, x)
    np.testing.assert_allclose(softmax(x), np.where(some[:, None], weights, 0), rtol=1e-5, atol=8 * EPS[x.dtype])
    # NumPy adds in eight lanes, and equal terms round the same way at each addition
    atol = (4 + x.shape[1] / 8) * EPS[x.dtype]
    np.testing.assert_allclose(logsumexp(x), logarithm, rtol=4 * EPS[x.dtype], atol=atol)


@pytest.mark.parametrize("shape", [(2000, 3), (2000, 10), (1000, 100), (20, 10_000), (1, 300_000)])
@pytest.mark.parametrize("scale", [0.1, 3, 20])
def test_float32_is_within_two_units_in_the_last_place(shape, scale, numba_backend):
    x = np.random.default_rng(0).normal(scale=scale, size=shape).astype(np.float32)
    exact = exactly(scipy.special.softmax, x)
    normal = exact > np.finfo(np.float32).tiny
    assert np.max(np.abs(softmax(x) / exact - 1)[normal]) < 2 * np.finfo(np.float32).eps
    # the sum's own error, and rounding the result
    error = np.abs(logsumexp(x) - exactly(scipy.special.logsumexp, x))
    assert np.all(error < 1.1e-7 + np.spacing(np.abs(logsumexp(x))))


@needs_longdouble
@pytest.mark.parametrize("shape", [(2000, 10), (1000, 100), (20, 10_000), (1, 300_000)])
def test_float64_is_within_a_few_units_in_the_last_place(shape, numba_backend):
    x = np.random.default_rng(0).normal(scale=10, size=shape)
    exact = exactly(scipy.special.softmax, x)
    # no wider sum is at hand: it adds about one unit for each doubling of the length beyond the vectors' width
    assert np.max(np.abs(softmax(x) / exact - 1)) < 6 * np.finfo(np.float64).eps


@pytest.mark.parametrize("center", [1e4, -1e4])
def test_float32_at_ten_thousand_is_as_accurate_as_at_zero(center, numba_backend):
    x = (center + np.random.default_rng(0).uniform(-40, 40, (50, 300))).astype(np.float32)
    exact = exactly(scipy.special.softmax, x)
    error = np.abs(softmax(x) / exact - 1)
    assert error.max() < 2 * np.finfo(np.float32).eps


def test_the_reference_at_ten_thousand_loses_nothing_that_counts():
    x = (1e4 + np.random.default_rng(0).uniform(-50, 50, (50, 300))).astype(np.float32)
    with numcore.backend("numpy"):
        np.testing.assert_allclose(softmax(x), exactly(scipy.special.softmax, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("magnitude", [0.0, 1e5, 2.0**18, 2.0**19, 1e10, 2.0**46, 1e30, "max"])
def test_entries_of_any_magnitude_are_compared_exactly(magnitude, dtype, backend):
    top = np.finfo(dtype).max if magnitude == "max" else dtype(magnitude)
    below = min(top - dtype(1), np.nextafter(top, dtype(0)))
    for x in ([top, below, -top], [below, top, -np.inf], [-top, top, top], [-top, -top, -np.inf]):
        x = np.array(x, dtype)
        differences = x.astype(np.longdouble) - x.max()
        weights = np.exp(differences) / np.exp(differences).sum()
        np.testing.assert_allclose(softmax(x), weights.astype(dtype), rtol=8 * EPS[x.dtype])
        np.testing.assert_allclose(
            logsumexp(x), float(x.max()) + float(np.log(np.exp(differences).sum())), rtol=4 * EPS[x.dtype]
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, -1])
def test_rows_that_climb_past_any_first_guess_are_summed_again(order, dtype, backend):
    x = np.linspace(-5000, 5000, 200_001, dtype=dtype)[::order]
    expected = exactly(scipy.special.softmax, x)
    np.testing.assert_allclose(softmax(x), expected, rtol=1e-5, atol=4 * EPS[x.dtype] * expected.max())
    np.testing.assert_allclose(logsumexp(x), exactly(scipy.special.logsumexp, x), rtol=EPS[x.dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_entries_get_exactly_nothing(dtype, backend):
    x = np.full((4, 3000), -np.inf, dtype)
    x[1, 2999], x[2, ::2], x[3, :1500] = 5, 0, -3e5
    weights, logarithm = softmax(x), logsumexp(x)
    assert not weights[np.isneginf(x)].any()
    assert not weights[0].any() and logarithm[0] == -np.inf
    assert weights[1, 2999] == 1 and logarithm[1] == 5
    np.testing.assert_allclose(weights[2, ::2], 1 / 1500, rtol=4 * EPS[x.dtype])
    np.testing.assert_allclose(weights[3, :1500], 1 / 1500, rtol=4 * EPS[x.dtype])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3, np.int64(1)])
def test_any_axis_of_any_layout(axis, backend):
    x = np.random.default_rng(0).normal(size=(6, 10, 8))
    read_only = x.copy()
    read_only.flags.writeable = False
    for same in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1], read_only, x.tolist()):
        np.testing.assert_allclose(softmax(same, axis=axis), scipy.special.softmax(x, axis=axis), rtol=1e-14)
        np.testing.assert_allclose(logsumexp(same, axis=axis), scipy.special.logsumexp(x, axis=axis), rtol=1e-14)


@pytest.mark.parametrize("x", [np.arange(5), [1, 2, 3], np.array([True, False])])
def test_integers_become_float64(x, backend):
    expected = scipy.special.softmax(np.asarray(x, np.float64))
    assert softmax(x).dtype == logsumexp(x).dtype == np.float64
    np.testing.assert_allclose(softmax(x), expected, rtol=1e-15)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_receives_the_result(order, axis, dtype, backend):
    x = np.random.default_rng(0).normal(size=(5, 700)).astype(dtype)
    out = np.empty_like(x, order=order)
    spaced = np.zeros((5, 1400), dtype)
    assert softmax(x, axis=axis, out=out) is out
    softmax(x, axis=axis, out=spaced[:, ::2])
    assert np.array_equal(out, softmax(x, axis=axis))
    assert np.array_equal(spaced[:, ::2], out) and not spaced[:, 1::2].any()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_may_be_the_input_itself(axis, dtype, backend):
    x = np.random.default_rng(0).normal(size=(50, 3000)).astype(dtype)
    for same in (x.copy(), np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        expected = softmax(same, axis=axis)
        softmax(same, axis=axis, out=same)
        np.testing.assert_allclose(same, expected, rtol=2 * EPS[x.dtype])


def test_the_input_is_left_alone(backend):
    x = np.random.default_rng(0).normal(size=(5, 7))
    before = x.copy()
    softmax(x), softmax(x, axis=0), logsumexp(x), logsumexp(x, axis=0)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 63, 64, 4999, -1])
@pytest.mark.parametrize("others", [0.0, 1e30, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_inf_are_refused_and_nothing_is_written(bad, place, others, dtype, backend):
    x = np.full((3, 5001), others, dtype)
    x[1, place] = bad
    before = x.copy()
    for call in (lambda: softmax(x), lambda: logsumexp(x), lambda: softmax(x, out=x), lambda: softmax(x, axis=0)):
        with pytest.raises(ValueError, match=r"x must be free of nan and \+inf; 1 of its 15003 entries are not"):
            call()
    assert np.array_equal(x, before, equal_nan=True)


@pytest.mark.parametrize("function", [softmax, logsumexp])
def test_what_is_not_a_real_array_is_refused_by_name(function, backend):
    for bad in ([1j], np.array(["a"]), np.array([None]), np.array([object()])):
        with pytest.raises(TypeError, match=r"^x must be real"):
            function(bad)
    for bad in (np.float16([1]), np.longdouble([1])):
        with pytest.raises(
            ValueError, match=r"^x must be float32, float64 or integers; got dtype (float16|longdouble|float128)"
        ):
            function(bad)
    with pytest.raises(ValueError, match=r"^x is not an array"):
        function([[1, 2], [3]])
    with pytest.raises(ValueError, match=r"^x must have at least one dimension"):
        function(3.0)


@pytest.mark.parametrize("function", [softmax, logsumexp])
def test_axes_that_do_not_exist_or_are_empty_are_refused_by_name(function, backend):
    x = np.zeros((2, 3))
    for axis in (2, -3):
        with pytest.raises(ValueError, match=r"^axis must be"):
            function(x, axis=axis)
    for axis in (None, 1.0, (0, 1), "0", True):
        with pytest.raises(TypeError, match=r"^axis must be an integer"):
            function(x, axis=axis)
    for shape, axis in (((0,), 0), ((3, 0), 1), ((0, 3), 0)):
        with pytest.raises(ValueError, match=f"^x must not be empty along axis {axis}"):
            function(np.zeros(shape), axis=axis)


def test_no_slices_give_no_results(backend):
    assert softmax(np.zeros((0, 3))).shape == (0, 3)
    assert logsumexp(np.zeros((0, 3))).shape == (0,)
    assert logsumexp(np.zeros((2, 0, 3)), axis=2).shape == (2, 0)


def test_an_out_that_does_not_match_is_refused_by_name(backend):
    x = np.zeros((2, 3))
    read_only = np.zeros((2, 3))
    read_only.flags.writeable = False
    for out in (np.zeros((3, 2)), np.zeros(6), np.zeros((2, 3), np.float32), read_only):
        with pytest.raises(ValueError, match=r"^out must"):
            softmax(x, out=out)
    for out in ([[0.0] * 3] * 2, "x", 1.0):
        with pytest.raises(TypeError, match=r"^out must be an array"):
            softmax(x, out=out)
    with pytest.raises(TypeError):
        softmax(x, out=array_api_strict.zeros((2, 3)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_arrays_of_other_libraries_stay_what_they_are(axis):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    x[1, 2, 3] = -np.inf
    strict = array_api_strict.asarray(x)
    weights, logarithm = softmax(strict, axis=axis), logsumexp(strict, axis=axis)
    out = array_api_strict.zeros_like(strict)
    assert softmax(strict, axis=axis, out=out) is out
    for ours in (weights, logarithm):
        assert type(ours) is type(strict)
    np.testing.assert_allclose(np.asarray(weights), scipy.special.softmax(x, axis=axis), rtol=1e-14)
    np.testing.assert_allclose(np.asarray(out), np.asarray(weights), rtol=0)
    np.testing.assert_allclose(np.asarray(logarithm), scipy.special.logsumexp(x, axis=axis), rtol=1e-14)
    with pytest.raises(ValueError, match=r"^x must be free of nan"):
        softmax(strict + array_api_strict.asarray(np.nan))


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch, numba_backend):
    from numcore.accel.cpu import _threads

    x = np.random.default_rng(0).normal(size=(3, 400_000)).astype(np.float32)
    results = []
    for count in (1, 2, 5):
        monkeypatch.setattr(_threads, "_num_threads", lambda count=count: count)
        results.append((softmax(x), logsumexp(x)))
    for weights, logarithm in results:
        assert np.array_equal(weights, results[0][0]) and np.array_equal(logarithm, results[0][1])


def test_the_numba_twin_stores_nothing_but_the_result(numba_backend):
    import tracemalloc

    x = np.zeros((10, 100_000), np.float32)
    softmax(x)
    tracemalloc.start()
    softmax(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.02 * x.nbytes


# sparse weights


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_weights_are_the_published_ones(dtype, backend):
    x = np.array([1.0, 0.8, 0.1, -0.5], dtype)
    tolerance = 4 * EPS[x.dtype] + 1e-8
    np.testing.assert_allclose(sparsemax(x), [0.6, 0.4, 0, 0], atol=tolerance)
    np.testing.assert_allclose(entmax15(x), [0.52924789, 0.39374904, 0.07700306, 0], atol=tolerance)
    assert sparsemax(x)[2] == 0 and entmax15(x)[3] == 0


def entmax_objective(p, x):
    return p @ x + 4 / 3 * np.sum(p - p**1.5)


OBJECTIVES = {sparsemax: lambda p, x: p @ x - p @ p / 2, entmax15: entmax_objective}


@pytest.mark.parametrize("function", OBJECTIVES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_no_distribution_nearby_or_far_has_a_better_objective(function, scale, backend):
    rng = np.random.default_rng(0)
    for d in (2, 3, 8):
        x = scale * rng.normal(size=d)
        p, objective = function(x), OBJECTIVES[function]
        for mix in (1.0, 1e-1, 1e-3, 1e-6):
            for q in rng.dirichlet(np.full(d, 0.5), size=50):
                assert objective((1 - mix) * p + mix * q, x) <= objective(p, x) + 1e-14 * (1 + scale)


@properties
@given(x=matrices(size=1e4, masked=True), function=st.sampled_from([sparsemax, entmax15]))
def test_sparse_weights_are_a_distribution_and_keep_the_order(x, function, backend):
    p = function(x)
    assert p.dtype == x.dtype and (p >= 0).all() and not np.signbit(p).any()
    masked = np.isneginf(x).all(axis=1)
    assert not p[masked].any() and not p[np.isneginf(x)].any()
    np.testing.assert_allclose(p[~masked].sum(axis=1, dtype=np.float64), 1, rtol=4 * x.shape[1] * EPS[x.dtype])
    order = np.argsort(x, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(p, order, axis=1), axis=1) >= 0).all()


@pytest.mark.parametrize("function", [sparsemax, entmax15])
def test_sparse_weights_of_entries_of_any_size(function, backend):
    np.testing.assert_allclose(function([1e300, 1e300, -1e300]), [0.5, 0.5, 0], rtol=4e-16)
    np.testing.assert_allclose(function(np.full(100_000, -7.0)), 1e-5, rtol=1e-9)
    x = np.array([0.3, -0.2, 1.1])
    np.testing.assert_allclose(function(x + 1e4), function(x), rtol=1e-11)
    # a difference that is small beside what mixes: the weights follow it
    x = np.array([1e-9, 0.0])
    assert function(x)[0] > 0.5 > function(x)[1]


@pytest.mark.parametrize("function", [sparsemax, entmax15])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sparse_weights_along_any_axis_into_any_array(function, axis, backend):
    x = np.random.default_rng(0).normal(size=(4, 5, 6))
    x.flags.writeable = False
    expected = np.apply_along_axis(function, axis, x)
    np.testing.assert_allclose(function(x, axis=axis), expected, atol=1e-15)
    for out in (np.empty_like(x), np.asfortranarray(x), x.copy()):
        assert function(x, axis=axis, out=out) is out
        np.testing.assert_allclose(out, expected, atol=1e-15)
    strict = function(array_api_strict.asarray(x), axis=axis)
    assert type(strict).__module__.startswith("array_api_strict")
    np.testing.assert_allclose(np.asarray(strict), expected, atol=1e-15)


@pytest.mark.parametrize("function", [sparsemax, entmax15])
def test_sparse_weights_refuse_what_softmax_refuses(function, backend):
    out = np.full(3, 7.0)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="^x must be free of nan"):
            function([1.0, bad, 2.0], out=out)
    for x, error in ((1.0, ValueError), ([], ValueError), ([1j], TypeError), (["a"], TypeError)):
        with pytest.raises(error, match="^x must"):
            function(x, out=out)
    with pytest.raises(ValueError, match="^out must have shape"):
        function([1.0, 2.0], out=out)
    assert (out == 7).all()
