"""save and load on what the library makes: every result and every estimator, found by a walk over its modules.

The examples in docstrings show each function at work, so what they leave behind is what users hold. A family that is
added later is covered as it stands; a class that no example makes is named, and has to be given one.
"""

import contextlib
import dataclasses
import doctest
import functools
import importlib
import inspect
import io
import pkgutil

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import BaseEstimator

import numcore
from numcore.results import Result

METHODS = ("predict", "predict_proba", "transform", "decision_function", "score_samples")


PLENTY = 3
"""Results of a class that are taken from one module's examples."""


def modules():
    """The import names of the reference library's modules."""
    names = []
    for root in ("numcore", "numcore.algorithms"):
        names += [m.name for m in pkgutil.walk_packages(importlib.import_module(root).__path__, root + ".")]
    return sorted({name for name in names if not name.startswith("numcore.accel") and not name.endswith("__main__")})


@functools.cache
def classes(base):
    """The library's public classes below `base`, but for those that are themselves bases of others."""
    for name in modules():
        with contextlib.suppress(Exception):  # a module that cannot be imported is another test's matter
            importlib.import_module(name)
    found, below = [], [base]
    while below:
        cls = below.pop()
        below += cls.__subclasses__()
        ours = cls.__module__.startswith("numcore.") and cls is not base and not cls.__name__.startswith("_")
        base_of_ours = any(sub.__module__.startswith("numcore.") for sub in cls.__subclasses__())
        if ours and not base_of_ours and not inspect.isabstract(cls):
            found.append(cls)
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


@functools.cache
def examples(name):
    """The results that a module's examples make, and the estimators that they leave behind."""
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    with numcore.backend(numcore.get_backend()), np.printoptions(), recorded(classes(Result)) as found:
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
            runner.run(test, out=io.StringIO().write, clear_globs=False)
            found += [x for x in test.globs.values() if isinstance(x, BaseEstimator)]
    return found


@contextlib.contextmanager
def recorded(kinds):
    """A list to which every new instance of these classes is added."""
    found, counts = [], dict.fromkeys(kinds, 0)

    def recording(cls, init):
        @functools.wraps(init)
        def wrapper(self, *args, **kwargs):
            init(self, *args, **kwargs)
            counts[cls] += 1
            if counts[cls] <= PLENTY:
                found.append(self)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        for cls in kinds:
            patch.setattr(cls, "__init__", recording(cls, cls.__init__))
        yield found


def assert_same(x, y, where):
    """Equal in type and value, down to the last part; what can be computed again does not count."""
    assert type(x) is type(y), where
    if isinstance(x, np.ndarray) and x.dtype != object:
        assert x.dtype == y.dtype, where
        np.testing.assert_array_equal(x, y, err_msg=where)
    elif isinstance(x, (list, tuple)):
        assert len(x) == len(y), where
        for k, (a, b) in enumerate(zip(x, y, strict=True)):
            assert_same(a, b, f"{where}[{k}]")
    elif isinstance(x, dict):
        assert list(x) == list(y), where
        for key in x:
            assert_same(x[key], y[key], f"{where}[{key!r}]")
    elif scipy.sparse.issparse(x):
        assert x.format == y.format and x.shape == y.shape, where
        np.testing.assert_array_equal(x.toarray(), y.toarray(), err_msg=where)
    elif isinstance(x, (np.random.Generator, np.random.RandomState)):
        assert_same(state_of(x), state_of(y), where)
    elif dataclasses.is_dataclass(x) and not isinstance(x, type):
        for field in dataclasses.fields(x):
            assert_same(getattr(x, field.name), getattr(y, field.name), f"{where}.{field.name}")
    elif not isinstance(x, type) and hasattr(x, "__dict__"):
        ours, theirs = ({k: v for k, v in vars(z).items() if not cached(type(z), k)} for z in (x, y))
        assert set(ours) == set(theirs), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    else:
        np.testing.assert_equal(x, y, err_msg=where)


def cached(cls, name):
    return isinstance(inspect.getattr_static(cls, name, None), functools.cached_property)


def state_of(x):
    return (x.bit_generator if isinstance(x, np.random.Generator) else x._bit_generator).state


def assert_kept(x, path):
    numcore.save(x, path)
    y = numcore.load(path)
    assert_same(x, y, type(x).__name__)
    numcore.save(y, path.with_name("again"))
    assert path.read_bytes() == path.with_name("again").read_bytes()
    return y


@pytest.mark.parametrize("name", modules())
def test_what_the_examples_make_comes_back(name, tmp_path):
    for x in examples(name):
        assert_kept(x, tmp_path / "file")


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int), X[:, 0] - 2 * X[:, 1]


REQUIRED = {"SparseCoder": {"dictionary": np.eye(4)[:3]}}
"""What has no default, by the estimator's name."""


def made(cls):
    return cls(**REQUIRED.get(cls.__name__, {}))


def fitted(cls):
    """A fitted instance: of the default parameters, on data of the kind that it takes."""
    X, labels, values = data()
    for inputs in ((X, labels), (X, values), (X, X + 1), (X,), (np.abs(X), labels), (np.abs(X),)):
        with contextlib.suppress(TypeError, ValueError):
            return made(cls).fit(*inputs), inputs[0]
    pytest.fail(f"{cls.__name__} can be fitted to none of the data here")


@pytest.mark.parametrize("cls", classes(BaseEstimator), ids=lambda cls: cls.__name__)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_fitted_estimator_goes_on_as_before(cls, tmp_path):
    estimator, X = fitted(cls)
    again = assert_kept(estimator, tmp_path / "file")
    for method in METHODS:
        if hasattr(estimator, method):
            np.testing.assert_array_equal(getattr(again, method)(X), getattr(estimator, method)(X))
    new = made(cls)
    fresh = assert_kept(new, tmp_path / "file")
    assert set(vars(fresh)) == set(vars(new))


def test_every_result_is_made_by_some_example():
    met = {type(x) for name in modules() for x in examples(name)}
    missing = [f"{cls.__module__}.{cls.__name__}" for cls in classes(Result) if cls not in met]
    assert not missing, f"no example in a docstring makes one of these: {', '.join(missing)}"


def test_the_walk_finds_what_there_is():
    assert {"SinkhornResult", "FixedPointResult", "CGResult"} <= {cls.__name__ for cls in classes(Result)}
    assert "SinkhornTransport" in {cls.__name__ for cls in classes(BaseEstimator)}
    assert {"FixedPointResult"} == {type(x).__name__ for x in examples("numcore.fixed_point._solve")}
