"""Every CPU twin against its reference, on the random inputs that its family lays out in ``tests/<family>/parity.py``.

Such a file holds, by the loop's name:

``CASES``
    A function ``(rng, dtype) -> list of argument tuples``. Required for every loop that has a twin.
``RTOL``
    ``{dtype name: tolerance}`` where the default does not fit, with the reason beside it.
``WRITES``
    The positions of arguments that the loop is there to fill. All others must come back as they went in.
"""

import copy
import functools
import importlib.util
import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from numcore.dispatch import discover

TESTS = Path(__file__).parents[1]
# about a hundred roundings: the two sides add the same numbers in another order
DEFAULT_RTOL = {"float32": 2e-5, "float64": 4e-14}


@functools.cache
def cases_of(family):
    """The module ``tests/<family>/parity.py``, or None where there is none."""
    path = TESTS / family / "parity.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"parity_cases_{family}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(value, where="result"):
    """All arrays and scalars in a nest of tuples, lists, dicts, dataclasses and sparse matrices, with their places."""
    if scipy.sparse.issparse(value):
        value = {"format": np.frombuffer(value.format.encode(), np.uint8), "dense": value.toarray()}
    elif hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from leaves(entry, f"{where}[{key!r}]")
    elif isinstance(value, tuple | list):
        for k, entry in enumerate(value):
            yield from leaves(entry, f"{where}[{k}]")
    else:
        yield where, value


def assert_same(ours, theirs, rtol):
    ours, theirs = list(leaves(ours)), list(leaves(theirs))
    assert [where for where, _ in ours] == [where for where, _ in theirs], "the two results differ in structure"
    for (where, x), (_, y) in zip(ours, theirs, strict=True):
        if x is None or y is None:
            assert x is y, f"{where}: {x!r} against {y!r}"
            continue
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            assert x.dtype == y.dtype, f"{where}: the twin gives {x.dtype}, the reference {y.dtype}"
        assert np.shape(x) == np.shape(y), f"{where}: shape {np.shape(x)} against {np.shape(y)}"
        size = np.abs(np.asarray(y, dtype=np.float64))
        # entries that cancel to nearly nothing are only as exact as the largest beside them
        atol = rtol * size[np.isfinite(size)].max(initial=0.0)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=where)


def assert_kept(args, result):
    """No floating dtype comes out that did not go in."""
    given = {x.dtype.name for _, x in leaves(args) if isinstance(x, np.ndarray) and x.dtype.kind == "f"}
    for where, x in leaves(result):
        if isinstance(x, np.ndarray) and x.ndim and x.dtype.kind == "f":
            assert x.dtype.name in given, f"{where}: {' and '.join(sorted(given))} in, {x.dtype} out"


def assert_unchanged(before, after, message):
    for (_, x), (_, y) in zip(leaves(before), leaves(after), strict=True):
        if isinstance(x, np.ndarray):
            assert np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), message


def hold(loop, cases, dtype):
    """Run `loop`'s twin and its reference on all the inputs that `cases` lays out for it, and compare."""
    rtol = getattr(cases, "RTOL", {}).get(loop.name, {}).get(dtype, DEFAULT_RTOL[dtype])
    written = getattr(cases, "WRITES", {}).get(loop.name, ())
    inputs = cases.CASES[loop.name](np.random.default_rng(20_000), np.dtype(dtype))
    assert inputs, f"CASES[{loop.name!r}] lays out no inputs"
    for args in inputs:
        for_twin, for_reference = copy.deepcopy(args), copy.deepcopy(args)
        ours, theirs = loop.twin("cpu")(*for_twin), loop.reference(*for_reference)
        assert_kept(args, theirs)
        assert_same(ours, theirs, rtol)
        for k, before in enumerate(args):
            if k in written:
                assert_same(for_twin[k], for_reference[k], rtol)
            else:
                assert_unchanged(before, for_twin[k], f"the twin of {loop.name} modified argument {k}")
                assert_unchanged(before, for_reference[k], f"the reference {loop.name} modified argument {k}")


def twin_or_skip(name):
    pytest.importorskip("numba", reason="CPU twins need Numba", exc_type=ImportError)
    loop = discover()[name]
    if loop.twin("cpu") is None:
        pytest.skip(f"{name} has no CPU twin")
    return loop


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", discover())
def test_the_cpu_twin_agrees_with_the_reference(name, dtype):
    loop = twin_or_skip(name)
    cases = cases_of(loop.family)
    assert cases is not None, f"{name} has a twin; write tests/{loop.family}/parity.py with CASES[{loop.name!r}]"
    assert loop.name in cases.CASES, f"{name} has a twin and no inputs; add CASES[{loop.name!r}] to {cases.__file__}"
    hold(loop, cases, dtype)


@pytest.mark.parametrize("name", discover())
def test_the_cpu_twin_has_the_signature_of_the_reference(name):
    loop = twin_or_skip(name)
    twin = loop.twin("cpu")
    ours, theirs = (inspect.signature(getattr(f, "py_func", f)).parameters.values() for f in (twin, loop.reference))
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


# The harness itself: each of these twins is wrong in one way, and each way is caught.


def reference(x, out):
    return 2 * x, x.sum()


def wrong_value(x, out):
    return 2 * x + 1e-3, x.sum()


def wrong_structure(x, out):
    return 2 * x


def wrong_dtype(x, out):
    return 2 * x.astype(np.float64 if x.dtype == np.float32 else np.float32), x.sum()


def modifies_its_input(x, out):
    result = reference(x, out)
    x[0] += 1
    return result


def fills_what_it_was_given(x, out):
    out[:] = 1
    return reference(x, out)


def hold_planted(twin, dtype, reference=reference, **tables):
    loop = SimpleNamespace(name="planted", reference=reference, twin=lambda device: twin)
    inputs = {"planted": lambda rng, dtype: [(rng.random(5).astype(dtype), np.zeros(5, dtype))]}
    hold(loop, SimpleNamespace(CASES=inputs, **tables), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "twin", [wrong_value, wrong_structure, wrong_dtype, modifies_its_input, fills_what_it_was_given]
)
def test_a_wrong_twin_is_caught(twin, dtype):
    hold_planted(reference, dtype)
    with pytest.raises(AssertionError):
        hold_planted(twin, dtype)


def test_a_reference_that_does_not_keep_the_dtype_is_caught():
    def widens(x, out):
        return (2 * x).astype(np.float64), x.sum()

    with pytest.raises(AssertionError, match="float32 in, float64 out"):
        hold_planted(widens, "float32", reference=widens)


def test_buffers_listed_in_writes_may_be_filled_and_must_agree():
    writes = {"planted": (1,)}
    hold_planted(fills_what_it_was_given, "float64", reference=fills_what_it_was_given, WRITES=writes)
    with pytest.raises(AssertionError):
        hold_planted(reference, "float64", reference=fills_what_it_was_given, WRITES=writes)
