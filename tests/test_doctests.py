"""Every example in a docstring of the installed package runs and prints what it says.

The folders ``algorithms/`` and ``accel/`` are installed as ``numcore.algorithms`` and ``numcore.accel``, so modules are
found by import name, not by path.
"""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import numcore

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    """The import names of the package's modules, without twins (they bear the docstrings of their references)."""
    names = ["numcore", "numcore.algorithms"]
    for root in ("numcore", "numcore.algorithms"):
        names += [m.name for m in pkgutil.walk_packages(importlib.import_module(root).__path__, root + ".")]
    return sorted({name for name in names if not name.startswith("numcore.accel") and not name.endswith("__main__")})


class Finder(doctest.DocTestFinder):
    """Finds also the examples of decorated functions, which to doctest are instances and no functions."""

    def _find(self, tests, obj, name, module, source_lines, globs, seen):
        super()._find(tests, obj, name, module, source_lines, globs, seen)
        if not inspect.ismodule(obj):
            return
        for key, value in vars(obj).items():
            wrapped = inspect.unwrap(value) if callable(value) and hasattr(value, "__wrapped__") else value
            defined_here = getattr(wrapped, "__module__", None) == obj.__name__
            if wrapped is not value and defined_here and not inspect.isroutine(value) and not inspect.isclass(value):
                super()._find(tests, wrapped, f"{name}.{key}", module, source_lines, globs, seen)


def run(module):
    """Run the examples of `module`; return the number run and the report of those that failed."""
    runner, report = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False), []
    for test in Finder(exclude_empty=True).find(module, module.__name__):
        runner.run(test, out=report.append)
    return runner.tries, "".join(report)


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings_hold(name):
    module = importlib.import_module(name)
    with numcore.backend(numcore.get_backend()), np.printoptions():  # whatever an example sets is undone
        _, report = run(module)
    assert not report, report


def test_the_examples_of_decorated_functions_are_found(tmp_path, monkeypatch):
    (tmp_path / "planted_examples.py").write_text(
        "import functools\n"
        "class Wrapper:\n"
        "    def __init__(self, f):\n"
        "        functools.update_wrapper(self, f)\n"
        "@Wrapper\n"
        "def wrapped():\n"
        "    '''\n"
        "    >>> 1 + 1\n"
        "    3\n"
        "    '''\n"
        "@functools.cache\n"
        "def cached():\n"
        "    '''\n"
        "    >>> 1 + 1\n"
        "    4\n"
        "    '''\n"
        "def plain():\n"
        "    '''\n"
        "    >>> 1 + 1\n"
        "    5\n"
        "    '''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tries, report = run(importlib.import_module("planted_examples"))
    assert tries == 3
    for wrong in "345":
        assert f"Expected:\n    {wrong}\n" in report


def test_the_walk_reaches_the_core_and_the_families():
    assert {"numcore", "numcore.dispatch", "numcore.algorithms"} <= set(modules())
