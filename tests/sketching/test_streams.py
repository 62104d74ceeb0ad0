"""Streams of rows: sketches that grow and merge, and the one pass over every kind of source."""

import functools
import pickle

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import numcore
from numcore.algorithms.sketching import StreamingSketch, make_sketch
from numcore.algorithms.sketching._rows import Rows
from numcore.dispatch import is_alone

KINDS = ["gaussian", "srht", "block_srht", "srtt", "countsketch", "sparse_sign"]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def A(rng):
    return rng.normal(size=(2500, 4))


# the streaming sketch


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    cuts=st.lists(st.integers(0, 2500), max_size=5),
    owner=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    order=st.randoms(),
)
def test_merging_is_associative_and_the_same_for_any_split(kind, cuts, owner, order):
    A = np.random.default_rng(0).normal(size=(2500, 3))
    S = make_sketch(kind, 32, rng=1)
    streams = [StreamingSketch(S, 3, check_overlap=True) for _ in range(3)]
    borders = [0, *sorted(cuts), 2500]
    parts = list(zip(borders[:-1], borders[1:], owner, strict=False))
    order.shuffle(parts)
    for a, b, who in parts:
        streams[who].update(A[a:b], row_offset=a)
    one, two, three = streams
    left, right = one.merge(two).merge(three), one.merge(two.merge(three))
    assert left.n_rows == right.n_rows == 2500
    assert_allclose(left.value, S.apply(A), atol=1e-12)
    assert_allclose(left.value, right.value, atol=1e-12)
    assert sum(stream.n_rows for stream in streams) == 2500


def test_blocks_follow_one_another_by_default(A):
    S = make_sketch("block_srht", 32, len(A), rng=1)
    stream = StreamingSketch(S, 4)
    assert np.array_equal(stream.value, np.zeros((32, 4))) and stream.n_rows == 0
    for block in (A[:1000], scipy.sparse.csr_array(A[1000:1001]), A[1001:]):
        assert stream.update(block) is stream
    assert_allclose(stream.value, S @ A, atol=1e-12)
    with pytest.raises(ValueError, match="A must end by row 2500"):
        stream.update(A[:1])


def test_the_value_is_a_copy_in_the_dtype_of_the_blocks(A):
    S = make_sketch("sparse_sign", 32, rng=1)
    stream = StreamingSketch(S, 4).update(A[:100].astype(np.float32))
    assert stream.value.dtype == np.float32
    stream.value[:] = 0
    assert stream.value.any()
    assert stream.update(A[100:]).value.dtype == np.float64
    assert StreamingSketch(S, 4).merge(stream).value.dtype == np.float64


def test_weights_go_with_their_rows(A, rng):
    S, w = make_sketch("srht", 32, rng=1), rng.random(len(A))
    stream = StreamingSketch(S, 4)
    for s in (slice(1000, 2500), slice(0, 1000)):
        stream.update(A[s], row_offset=s.start, sample_weight=w[s])
    assert_allclose(stream.value, S.apply(A, sample_weight=w), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["gaussian", "srht", "block_srht", "srtt"]),
    blocks=st.lists(st.tuples(st.integers(1, 900), st.booleans(), st.booleans(), st.booleans()), max_size=12),
    start=st.integers(0, 3000),
)
def test_few_rows_wait_for_more_unseen(kind, blocks, start):
    A = np.random.default_rng(0).normal(size=(12 * 900, 3))
    S = make_sketch(kind, 32, rng=1)
    stream, expected, row = StreamingSketch(S, 3), np.zeros((32, 3)), start
    for size, weighted, narrow, look in blocks:
        X, w = A[row - start :][:size].copy(), np.arange(size) % 3.0 if weighted and size > 1 else None
        X = X.astype(np.float32) if narrow else X
        expected += S.apply(X.astype(np.float64), row_offset=row, sample_weight=w)
        stream.update(X, row_offset=row, sample_weight=w)
        X[:] = np.nan  # what was given may be used again
        row += size
        if look:
            assert_allclose(stream.value, expected, atol=1e-3)
    # transforms of float32 are taken in float32: at most some 3000 roundings of sums of a few entries
    some = any(narrow for _, _, narrow, _ in blocks)
    assert_allclose(stream.value, expected, rtol=0, atol=1e-3 if some else 1e-11)
    assert stream.n_rows == row - start


def test_streams_are_plain_data(A, tmp_path):
    stream = StreamingSketch(make_sketch("srht", 32, rng=1), 4, check_overlap=True).update(A[:1500])
    numcore.save(stream, tmp_path / "stream.numcore")
    for same in (pickle.loads(pickle.dumps(stream)), numcore.load(tmp_path / "stream.numcore")):
        assert same.n_rows == 1500
        assert np.array_equal(same.value, stream.value)
        same.update(A[1500:])
        assert_allclose(same.value, stream.op.apply(A), atol=1e-12)
        with pytest.raises(ValueError, match="seen before"):
            same.update(A[:1], row_offset=3)
    assert stream.n_rows == 1500


def test_rows_that_were_seen_are_refused_where_that_is_asked(A):
    S = make_sketch("countsketch", 16, rng=0)
    stream = StreamingSketch(S, 4, check_overlap=True)
    stream.update(A[:10], row_offset=10).update(A[:10], row_offset=30).update(A[:10], row_offset=20)
    assert stream._seen == [(10, 40)]
    before = stream.value
    for start, stop, rows in ((5, 11, "10 to 10"), (39, 50, "39 to 39"), (0, 100, "10 to 39"), (15, 16, "15 to 15")):
        with pytest.raises(ValueError, match=f"rows {rows} were seen before"):
            stream.update(A[start:stop], row_offset=start)
    stream.update(A[:10], row_offset=0).update(A[:0], row_offset=20)
    assert stream.n_rows == 40
    other = StreamingSketch(S, 4, check_overlap=True).update(A[:5], row_offset=38)
    with pytest.raises(ValueError, match="rows 38 to 39 were seen before"):
        stream.merge(other)
    careless = StreamingSketch(S, 4).update(A[:10]).update(A[:10], row_offset=0)
    assert careless.n_rows == 20
    assert before.any()


def test_a_refused_block_leaves_the_stream_as_it_was(A):
    stream = StreamingSketch(make_sketch("block_srht", 16, rng=0), 4, check_overlap=True).update(A[:100])
    before = stream.value
    spoilt = A[100:200].copy()
    spoilt[7, 2] = np.inf
    with pytest.raises(ValueError, match="A must be finite; 1 of its entries are not, the first in row 7"):
        stream.update(spoilt)
    assert stream.n_rows == 100 and np.array_equal(stream.value, before)
    stream.update(A[100:200])


def test_streams_that_do_not_fit_are_refused(A):
    S = make_sketch("gaussian", 8, rng=0)
    stream = StreamingSketch(S, 4)
    with pytest.raises(TypeError, match="op must be a sketch operator"):
        StreamingSketch(A, 4)
    with pytest.raises(ValueError, match="n_columns must be at least 1"):
        StreamingSketch(S, 0)
    with pytest.raises(ValueError, match=r"block must have 4 columns; got shape \(2500, 3\)"):
        stream.update(A[:, :3])
    with pytest.raises(ValueError, match=r"block must be 2-D; got shape \(4,\)"):
        stream.update(A[0])
    with pytest.raises(TypeError, match="other must be a StreamingSketch"):
        stream.merge(S)
    with pytest.raises(ValueError, match="other must have the same operator"):
        stream.merge(StreamingSketch(make_sketch("gaussian", 8, rng=1), 4))
    with pytest.raises(ValueError, match="other must have 4 columns; got 5"):
        stream.merge(StreamingSketch(S, 5))


# one pass over every source


def moments(block):
    X, y = block.weighted()
    dense = X.toarray() if scipy.sparse.issparse(X) else X
    place = np.arange(block.start, block.start + len(dense))
    return dense.T @ dense, dense.T @ y, place @ dense, float(len(dense))


def sources(A, b, w):
    def stream():
        for s in (slice(0, 700), slice(700, 700), slice(700, 2500)):
            yield A[s], b[s], w[s]

    yield "array", (A, b, w)
    yield "fortran", (np.asfortranarray(A), b, w)
    yield "csr", (scipy.sparse.csr_array(A), b, w)
    yield "csc", (scipy.sparse.csc_array(A), b, w)
    yield "stream", (stream,)


@pytest.mark.parametrize("rows", [None, 1000, 64])
@pytest.mark.parametrize("k", [1, 2])
def test_every_source_gives_the_same_sums(A, rng, rows, k):
    b = rng.normal(size=2500) if k == 1 else rng.normal(size=(2500, k))
    w = rng.random(2500)
    B = b.reshape(2500, k)
    expected = (A.T * w) @ A, (A.T * w) @ B, np.arange(2500) @ (np.sqrt(w)[:, None] * A), 2500.0
    given = dict(sources(A, b, w))
    da = pytest.importorskip("dask.array")
    given["dask"] = (da.from_array(A, chunks=(900, 4)), da.from_array(b, chunks=500), w)
    for name, source in given.items():
        found = Rows(*source)
        assert (found.d, found.k, found.single) == (4, k, k == 1)
        assert found.n == (None if name == "stream" else 2500)
        for ours, theirs in zip(found.fold(moments, rows), expected, strict=True):
            assert_allclose(ours, theirs, rtol=1e-11, atol=1e-9, err_msg=name)


def test_blocks_are_no_larger_than_asked(A):
    for source in (A, np.asfortranarray(A), scipy.sparse.csr_array(A), lambda: iter([A])):
        sizes = [block.X.shape[0] for block in Rows(source, chunk_rows=999).blocks()]
        assert max(sizes) <= 999 and sum(sizes) == 2500
        assert max(block.X.shape[0] for block in Rows(source, chunk_rows=999).blocks(64)) == 64


def test_short_blocks_of_a_stream_are_joined_and_long_ones_left_alone(A):
    long = np.arange(600_000.0).reshape(150_000, 4)
    short, w = [A[i : i + 50] for i in range(0, 2500, 50)], np.arange(1.0, 51.0)

    def stream():
        yield from ((X, X[:, 0]) for X in short[:20])
        yield short[20], short[20][:, 0], w
        yield from ((X, X[:, 0]) for X in short[21:])
        yield long, long[:, 0]
        yield short[0], short[0][:, 0]
        yield scipy.sparse.csr_array(short[1]), short[1][:, 0]

    blocks = list(Rows(stream).blocks())
    assert [(block.start, block.X.shape[0]) for block in blocks] == [
        (0, 2500),
        (2500, 150_000),
        (152_500, 50),
        (152_550, 50),
    ]
    assert np.array_equal(blocks[0].X, A) and np.array_equal(blocks[0].y, A[:, :1])
    assert np.array_equal(blocks[0].roots ** 2 == 1, np.r_[np.ones(1001), np.zeros(49), np.ones(1450)] == 1)
    assert np.shares_memory(blocks[1].X, long)


def test_an_array_that_can_be_read_as_it_is_comes_whole_and_uncopied(A):
    (block,) = Rows(A).blocks()
    assert np.shares_memory(block.X, A)


def test_a_dask_chunk_takes_one_thread(A):
    da = pytest.importorskip("dask.array")
    (alone,) = Rows(da.from_array(A, chunks=(500, 4))).fold(lambda block: (int(is_alone()),))
    assert alone == 5 and not is_alone()


def test_many_dask_chunks_are_added_as_a_tree(A):
    da = pytest.importorskip("dask.array")
    found = Rows(da.from_array(A, chunks=(13, 4)), np.ones(2500)).fold(functools.partial(moments))
    assert_allclose(found[0], A.T @ A, rtol=1e-11)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((np.ones(3),), ValueError, r"A must be 2-D; got shape \(3,\)"),
        ((np.ones((0, 3)),), ValueError, r"A must not be empty; got shape \(0, 3\)"),
        ((np.ones((3, 0)),), ValueError, r"A must not be empty"),
        ((np.ones((3, 2)), np.ones(4)), ValueError, r"b must have 3 rows.*got shape \(4,\)"),
        ((np.ones((3, 2)), np.ones((3, 1, 1))), ValueError, "b must be 1-D or 2-D"),
        ((np.ones((3, 2)), np.ones(3) * 1j), TypeError, "b must be real"),
        ((np.ones((3, 2)), [1, np.nan, 2]), ValueError, "b must be finite; 1 of its entries .* the first in row 1"),
        (
            (np.ones((3, 2)), [[1, 0], [2, 0], [0, np.inf]]),
            ValueError,
            "b must be finite; 1 of its entries .* the first in row 2",
        ),
        (
            (np.ones((3, 2)), None, [1, np.inf, np.nan]),
            ValueError,
            "sample_weight must be finite; 2 of its entries .* the first in row 1",
        ),
        ((np.ones((3, 2)), scipy.sparse.csr_array(np.ones((3, 1)))), TypeError, "b must be a dense array"),
        ((np.ones((3, 2)), None, np.zeros(3)), ValueError, "sample_weight must not be zero everywhere"),
        ((np.ones((3, 2)), None, [1, -1, 1]), ValueError, "sample_weight must not be negative; 1 of its 3"),
        ((lambda: iter([]),), ValueError, "A must give at least one block"),
        ((lambda: iter([np.ones((3, 2))]), np.ones(3)), ValueError, "b and sample_weight must be None"),
        ((lambda: iter([(1, 2, 3, 4)]),), ValueError, r"block 0 of A must be X, \(X, y\) or \(X, y, w\); got 4"),
        ((lambda: iter([np.ones(3)]),), ValueError, "block 0 of A must be 2-D"),
    ],
)
def test_problems_that_cannot_be_read_are_refused(args, error, message):
    with pytest.raises(error, match=message):
        Rows(*args)


def test_blocks_of_a_stream_must_have_the_same_columns():
    rows = Rows(lambda: iter([np.ones((3, 2)), np.ones((3, 3))]))
    with pytest.raises(ValueError, match="block 1 of A must have 2 columns, as those before; got 3"):
        list(rows.blocks())


@pytest.mark.parametrize("source", ["array", "csr", "stream", "dask"])
def test_entries_that_are_not_finite_are_placed(source, A):
    A[123, 1], A[1700, 3] = np.nan, np.inf
    given = {
        "array": lambda: A,
        "csr": lambda: scipy.sparse.csr_array(A),
        "stream": lambda: lambda: iter([A[:100], A[100:]]),
        "dask": lambda: pytest.importorskip("dask.array").from_array(A, chunks=(700, 4)),
    }[source]()
    with pytest.raises(ValueError, match=r"A must be finite; 2 of its \w+ are not, the first (in|is) row 123"):
        Rows(given).refuse_nonfinite()
    Rows(A[:100]).refuse_nonfinite()
