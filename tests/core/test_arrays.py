"""What comes in: dtype rules, and errors that name the argument, what was expected and what came."""

import array_api_strict
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from numcore import arrays
from numcore.arrays import as_choice, as_count, as_floating, as_number, as_rng

NAN, INF = np.nan, np.inf


class TestNamespaces:
    def test_the_namespace_of_numpy_arrays_has_the_standard_names(self):
        xp = arrays.array_namespace(np.ones(2), None, 3.0)
        assert xp.concat and xp.isdtype(np.dtype("float32"), "real floating")

    def test_the_namespace_of_strict_arrays_is_their_own(self):
        assert arrays.array_namespace(array_api_strict.ones(2), None) is array_api_strict

    def test_arrays_of_two_libraries_have_no_common_namespace(self):
        with pytest.raises(TypeError):
            arrays.array_namespace(np.ones(2), array_api_strict.ones(2))

    def test_is_numpy_tells_numpy_from_the_rest(self):
        assert arrays.is_numpy(np.ones(2)) and arrays.is_numpy(np.float32(1))
        assert not arrays.is_numpy(array_api_strict.ones(2)) and not arrays.is_numpy(1.0)

    def test_to_numpy_brings_any_array_to_the_host(self):
        x = np.arange(3.0)
        assert arrays.to_numpy(x) is x
        back = arrays.to_numpy(array_api_strict.asarray(x))
        assert isinstance(back, np.ndarray) and np.array_equal(back, x)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_eps_is_that_of_the_dtype(self, dtype):
        assert arrays.eps_of(np.ones(1, dtype)) == np.finfo(dtype).eps
        assert arrays.eps_of(array_api_strict.ones(1, dtype=getattr(array_api_strict, dtype))) == np.finfo(dtype).eps


class TestAsFloating:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_floats_keep_their_dtype_and_are_not_copied(self, dtype):
        x = np.arange(4, dtype=dtype)
        assert as_floating(x, "x") is x

    @pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint16", "uint64"])
    def test_integers_become_float64(self, dtype):
        x = as_floating(np.ones(3, dtype), "x")
        assert x.dtype == np.float64 and np.array_equal(x, [1, 1, 1])

    def test_lists_become_float64(self):
        assert as_floating([[1, 2], [3, 4]], "x").dtype == np.float64
        assert as_floating((1.5, 2), "x").dtype == np.float64

    @pytest.mark.parametrize("dtype", ["complex64", "complex128"])
    def test_complex_is_refused(self, dtype):
        with pytest.raises(TypeError, match=f"weights must be real; got dtype {dtype}"):
            as_floating(np.ones(2, dtype), "weights")

    @pytest.mark.parametrize("dtype", ["float16", "longdouble"])
    def test_other_floats_are_refused(self, dtype):
        dtype = np.dtype(dtype)
        if dtype == np.float64:
            pytest.skip("longdouble is float64 here")
        with pytest.raises(ValueError, match=f"weights must be float32, float64 or integers; got dtype {dtype}"):
            as_floating(np.ones(2, dtype), "weights")

    @pytest.mark.parametrize(
        ("x", "came"),
        [
            (["a", "b"], "<U1"),
            (np.array([object()]), "object"),
            (None, "object"),
            (np.array(["2020-01-01"], "datetime64[D]"), r"datetime64\[D\]"),
            ({"a": 1}, "object"),
        ],
    )
    def test_what_is_not_numbers_is_refused(self, x, came):
        with pytest.raises(TypeError, match=f"weights must be real numbers; got dtype {came}"):
            as_floating(x, "weights")

    def test_ragged_lists_are_refused(self):
        with pytest.raises(ValueError, match="weights is not an array: "):
            as_floating([[1, 2], [3]], "weights")

    @pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array])
    def test_sparse_is_refused(self, kind):
        with pytest.raises(TypeError, match=f"weights must be a dense array; got a sparse {kind.__name__}"):
            as_floating(kind(np.eye(2)), "weights")

    def test_the_number_of_dimensions_is_checked(self):
        assert as_floating(np.ones((2, 3)), "x", ndim=2).shape == (2, 3)
        assert as_floating(np.ones(3), "x", ndim=(1, 2)).shape == (3,)
        with pytest.raises(ValueError, match=r"cost must be 2-D; got shape \(3,\)"):
            as_floating(np.ones(3), "cost", ndim=2)
        with pytest.raises(ValueError, match=r"cost must be 1-D or 3-D; got shape \(2, 2\)"):
            as_floating(np.ones((2, 2)), "cost", ndim=(1, 3))

    @pytest.mark.parametrize("x", [np.ones(2), np.ones((2, 3, 1)), np.ones((2, 4)), np.float64(1)])
    def test_the_shape_is_checked_whatever_the_number_of_dimensions(self, x):
        with pytest.raises(ValueError, match=r"cost must have shape \(any, 3\); got \("):
            as_floating(x, "cost", shape=(None, 3))

    def test_none_in_a_shape_stands_for_any_length(self):
        for n in (0, 1, 5):
            assert as_floating(np.ones((n, 3)), "cost", shape=(None, 3)).shape == (n, 3)

    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_non_finite_entries_are_refused_and_counted(self, bad, dtype):
        x = np.ones((3, 4), dtype)
        x[0, 1] = x[2, 2] = bad
        with pytest.raises(ValueError, match="cost must be finite; 2 of its 12 entries are not"):
            as_floating(x, "cost")

    def test_infinities_that_cancel_are_still_seen(self):
        with pytest.raises(ValueError, match="2 of its 3 entries"):
            as_floating([INF, 1.0, -INF], "cost")

    def test_finite_entries_whose_sum_overflows_are_accepted(self):
        for dtype in (np.float32, np.float64):  # and warn of nothing: the suite turns a RuntimeWarning into an error
            x = np.full(4, np.finfo(dtype).max)
            assert as_floating(x, "cost") is x

    def test_positive_infinity_is_legal_where_asked_for(self):
        assert as_floating([1.0, INF], "cost", infinite="positive")[1] == INF
        for bad in (NAN, -INF):
            with pytest.raises(ValueError, match="cost must be free of nan and -inf; 1 of its 3 entries are not"):
                as_floating([1.0, INF, bad], "cost", infinite="positive")

    def test_nan_is_never_legal(self):
        assert as_floating([-INF, INF], "cost", infinite="allow")[0] == -INF
        with pytest.raises(ValueError, match="cost must be free of nan; 1 of its 3 entries are not"):
            as_floating([-INF, INF, NAN], "cost", infinite="allow")

    def test_empty_arrays_pass(self):
        assert as_floating(np.empty((0, 3)), "x").shape == (0, 3)

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_the_input_is_never_modified(self, order):
        x = np.asfortranarray(np.ones((2, 3), np.int32)) if order == "F" else np.ones((2, 3), np.int32)
        x.flags.writeable = False
        as_floating(x, "x", dtype=np.float32)
        assert x.dtype == np.int32 and np.all(x == 1)

    def test_dtype_converts_after_the_check(self):
        assert as_floating([1, 2], "x", dtype=np.float32).dtype == np.float32
        with pytest.raises(ValueError, match="x must be finite; 1 of its 2"):
            as_floating([1, NAN], "x", dtype=np.float32)

    def test_strict_arrays_stay_strict_arrays_under_the_same_rules(self):
        xp = array_api_strict
        x = xp.ones(3, dtype=xp.float32)
        assert as_floating(x, "x") is x
        assert as_floating(xp.ones(3, dtype=xp.int32), "x").dtype == xp.float64
        with pytest.raises(TypeError, match="x must be real; got dtype"):
            as_floating(xp.ones(3, dtype=xp.complex64), "x")
        with pytest.raises(ValueError, match="x must be finite; 1 of its 2 entries"):
            as_floating(xp.asarray([1.0, NAN]), "x")
        with pytest.raises(ValueError, match="x must be free of nan and -inf; 1 of its 2 entries"):
            as_floating(xp.asarray([1.0, -INF]), "x", infinite="positive")

    def test_like_brings_lists_and_numpy_arrays_to_the_namespace_of_the_other_argument(self):
        like = array_api_strict.ones(2)
        for x in ([1, 2], np.ones(2, np.float32)):
            assert arrays.array_namespace(as_floating(x, "x", like=like)) is array_api_strict
        assert isinstance(as_floating([1, 2], "x", like=np.ones(2)), np.ndarray)


class TestNumbers:
    @pytest.mark.parametrize("x", [1, 1.0, np.float32(1), np.int64(1), np.array(1.0), True])
    def test_numbers_become_floats(self, x):
        assert type(as_number(x, "reg")) is float and as_number(x, "reg") == 1.0

    @pytest.mark.parametrize("x", ["1", b"1", None, [1, 2], 1j, np.ones(1), np.ones(2), object()])
    def test_what_is_no_number_is_a_type_error(self, x):
        with pytest.raises(TypeError, match="reg must be a real number; got "):
            as_number(x, "reg")

    @pytest.mark.parametrize("x", [0, -1, 2, 3.0, NAN, INF, -INF])
    def test_an_open_range_excludes_its_ends_and_nan_and_infinity(self, x):
        with pytest.raises(ValueError, match=r"omega must satisfy 0 < omega < 2, finite; got "):
            as_number(x, "omega", above=0, below=2)

    def test_a_closed_range_includes_its_ends(self):
        assert [as_number(x, "t", above=0, below=2, closed=True) for x in (0, 1, 2)] == [0.0, 1.0, 2.0]
        with pytest.raises(ValueError, match=r"t must satisfy 0 <= t <= 2, finite; got 2.5"):
            as_number(2.5, "t", above=0, below=2, closed=True)

    def test_infinity_passes_only_where_asked_for(self):
        assert as_number(INF, "reach", above=0, infinite=True) == INF
        for bad in (-INF, NAN, 0.0):
            with pytest.raises(ValueError, match="reach must satisfy 0 < reach; got"):
                as_number(bad, "reach", above=0, infinite=True)
        with pytest.raises(ValueError, match="finite; got inf"):
            as_number(INF, "tol", above=0, closed=True)

    @given(st.floats(), st.floats(-5, 0), st.floats(1, 5), st.booleans())
    def test_a_number_passes_just_when_it_lies_in_the_range(self, x, above, below, closed):
        inside = above <= x <= below if closed else above < x < below
        try:
            assert as_number(x, "x", above=above, below=below, closed=closed) == x
            assert inside
        except ValueError:
            assert not inside

    @pytest.mark.parametrize("x", [1, np.int32(1), np.uint8(1)])
    def test_counts_become_ints(self, x):
        assert type(as_count(x, "n")) is int and as_count(x, "n") == 1

    @pytest.mark.parametrize("x", [1.0, True, np.True_, "1", None, np.float64(1), [1]])
    def test_a_count_that_is_no_integer_is_a_type_error(self, x):
        with pytest.raises(TypeError, match="max_iter must be an integer; got "):
            as_count(x, "max_iter")

    def test_a_count_below_its_minimum_is_a_value_error(self):
        assert as_count(0, "n", minimum=0) == 0
        with pytest.raises(ValueError, match="max_iter must be at least 1; got 0"):
            as_count(0, "max_iter")
        with pytest.raises(ValueError, match="n must be at least 3; got 2"):
            as_count(2, "n", minimum=3)

    def test_a_choice_must_be_one_of_the_options(self):
        assert as_choice("log", "method", ("log", None)) == "log"
        assert as_choice(None, "method", ("log", None)) is None
        with pytest.raises(ValueError, match="method must be one of 'log', 'kernel'; got 'fast'"):
            as_choice("fast", "method", iter(["log", "kernel"]))

    def test_a_choice_is_not_taken_by_equality_across_types(self):
        for x in (1, 1.0):
            with pytest.raises(ValueError, match="copy must be one of True, False; got "):
                as_choice(x, "copy", (True, False))

    def test_a_choice_that_is_an_array_is_refused_in_words(self):
        with pytest.raises(ValueError, match="method must be one of 'log'; got array"):
            as_choice(np.ones(2), "method", ("log",))


class TestRng:
    def test_a_seed_gives_the_stream_of_default_rng(self):
        assert as_rng(3).random() == np.random.default_rng(3).random()
        seed = np.random.SeedSequence(4)
        assert as_rng(seed).random() == np.random.default_rng(np.random.SeedSequence(4)).random()

    def test_a_generator_is_used_as_it_is(self):
        rng = np.random.default_rng(0)
        assert as_rng(rng) is rng

    def test_none_gives_fresh_randomness(self):
        assert as_rng(None).random() != as_rng(None).random()

    def test_a_legacy_random_state_is_drawn_from_not_copied(self):
        old = np.random.RandomState(0)
        before = old.get_state()[2]
        as_rng(old).random(10)
        assert old.get_state()[2] != before
        assert as_rng(np.random.RandomState(5)).random() == as_rng(np.random.RandomState(5)).random()

    @pytest.mark.parametrize("rng", ["seed", -1, 1.5])
    def test_what_is_no_seed_is_refused(self, rng):
        with pytest.raises((TypeError, ValueError)):
            as_rng(rng)


def test_as_floating_brings_foreign_byte_order_to_the_machine():
    x = as_floating(np.array([1.5, -2.0], dtype=">f8"), "x")
    assert x.dtype == np.float64 and x.dtype.isnative and x.tolist() == [1.5, -2.0]
