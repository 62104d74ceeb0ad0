"""Which implementation of a hot loop runs: the reference, its Numba twin or its CuPy twin."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Literal, ParamSpec, TypeVar

import numpy as np

__all__ = ["Dispatchable", "backend", "discover", "dispatchable", "get_backend", "set_backend", "show_config"]

P = ParamSpec("P")
R = TypeVar("R")

BACKENDS = ("auto", "numpy", "numba")
VARIABLE = "NUMCORE_BACKEND"
INSTALL = {
    "numba": 'pip install "numcore-algorithms[numba]"',
    "cupy": 'pip install "numcore-algorithms[cuda12]" (or [cuda13])',
}

_setting: ContextVar[str | None] = ContextVar("numcore_backend", default=None)
_alone: ContextVar[bool] = ContextVar("numcore_one_thread", default=False)
_registry: dict[str, Dispatchable[Any, Any]] = {}


def _check_backend(name: object, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(map(repr, BACKENDS))}; got {name!r}")
    return str(name)


def get_backend() -> str:
    """The backend in force here: what was set, else ``NUMCORE_BACKEND``, else ``"auto"``.

    Returns
    -------
    str
        ``"auto"``, ``"numpy"`` or ``"numba"``.

    Raises
    ------
    ValueError
        If ``NUMCORE_BACKEND`` holds anything else.

    Examples
    --------
    >>> import numcore
    >>> with numcore.backend("numpy"):
    ...     numcore.get_backend()
    'numpy'
    """
    name = _setting.get()
    return name if name is not None else _check_backend(os.environ.get(VARIABLE) or "auto", VARIABLE)


def set_backend(name: Literal["auto", "numpy", "numba"]) -> None:
    """Choose the implementation of hot loops on NumPy arrays, for this thread or task and what inherits its context.

    Parameters
    ----------
    name : {"auto", "numpy", "numba"}
        ``"auto"`` takes the Numba twin where Numba can be imported and the reference elsewhere; ``"numpy"`` always
        takes the reference; ``"numba"`` insists on Numba. CuPy arrays always run on the GPU, whatever is set here.

    Raises
    ------
    ValueError
        If `name` is none of the three.
    ImportError
        If ``"numba"`` is asked for and cannot be imported; the message says what to install.

    Notes
    -----
    The setting is a :class:`contextvars.ContextVar`: a new thread starts from ``NUMCORE_BACKEND`` (or ``"auto"``),
    and an asyncio task inherits what its creator had. Set the environment variable to choose for a whole process.

    Examples
    --------
    >>> import numcore
    >>> numcore.set_backend("numpy")
    >>> numcore.get_backend()
    'numpy'
    >>> numcore.set_backend("auto")
    """
    _setting.set(_usable(name))


@contextmanager
def backend(name: Literal["auto", "numpy", "numba"]) -> Iterator[None]:
    """Set the backend within a ``with`` block (or, as a decorator, within a function) and restore it after.

    Parameters
    ----------
    name : {"auto", "numpy", "numba"}
        As for :func:`set_backend`, with the same errors.

    Examples
    --------
    >>> import numcore
    >>> before = numcore.get_backend()
    >>> with numcore.backend("numpy"):
    ...     inside = numcore.get_backend()
    >>> inside, numcore.get_backend() == before
    ('numpy', True)
    """
    token = _setting.set(_usable(name))
    try:
        yield
    finally:
        _setting.reset(token)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run hot loops in the calling thread alone: for work that somebody else, such as dask, has spread over threads."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def is_alone() -> bool:
    """Whether the calling thread is within :func:`one_thread`."""
    return _alone.get()


def _usable(name: str) -> str:
    _check_backend(name, "backend")
    if name == "numba":
        _require("numba", f"backend {name!r}")
    return name


@functools.cache
def _import_failure(package: str) -> str | None:
    """Why `package` cannot be imported, or None if it can."""
    try:
        importlib.import_module(package)
    except Exception as failure:  # a broken install fails with anything, not only ImportError
        return f"{type(failure).__name__}: {failure}"
    return None


def _require(package: str, asked_by: str) -> None:
    failure = _import_failure(package)
    if failure is not None:
        raise ImportError(
            f"{asked_by} was asked for, but {package} cannot be imported ({failure}); "
            f"install it with {INSTALL[package]}"
        )


@functools.cache
def _where(cls: type) -> str:
    """Where arrays of type `cls` live: "numpy", "cupy", "other" (another array-API library), or "" (not an array)."""
    if issubclass(cls, np.ndarray):
        return "numpy"
    if cls.__module__.partition(".")[0] == "cupy":
        return "cupy"
    return "other" if hasattr(cls, "__array_namespace__") and not issubclass(cls, np.generic) else ""


class Dispatchable(Generic[P, R]):
    """A reference hot loop that runs as its Numba or CuPy twin where there is one; see :func:`dispatchable`."""

    def __init__(self, reference: Callable[P, R]) -> None:
        functools.update_wrapper(self, reference)
        self.reference = reference
        self.name: str = reference.__name__
        # numcore.algorithms.transport._loops -> transport; numcore.special -> special
        path = reference.__module__.split(".")
        self.family = path[2] if path[1:2] == ["algorithms"] else path[1]
        self._twins: dict[str, Callable[P, R] | None] = {}
        _registry[f"{self.family}.{self.name}"] = self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the implementation that the arguments and the backend call for."""
        places = {_where(type(x)) for x in args}  # type: ignore[arg-type]  # to mypy, types have no hash
        return self._choose(places)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<dispatchable {self.family}.{self.name}>"

    def _choose(self, places: set[str]) -> Callable[P, R]:
        if "cupy" in places:
            return self.twin("gpu") or self.reference
        chosen = get_backend()
        if chosen == "numba":
            _require("numba", f"backend {chosen!r}")
        if chosen == "numpy" or "other" in places:
            return self.reference
        return self.twin("cpu") or self.reference

    def twin(self, device: Literal["cpu", "gpu"]) -> Callable[P, R] | None:
        """The twin for `device`, or None where none was written or its accelerator cannot be imported."""
        if device not in self._twins:
            usable = _import_failure("numba" if device == "cpu" else "cupy") is None
            self._twins[device] = getattr(_twin_module(device, self.family), self.name, None) if usable else None
        return self._twins[device]


def _twin_module(device: str, family: str) -> Any:
    name = f"numcore.accel.{device}.{family}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as failure:
        if failure.name != name:
            raise
        return None  # no twins were written for this family


def dispatchable(reference: Callable[P, R]) -> Dispatchable[P, R]:
    """Mark a reference hot loop, so that each call picks its implementation.

    Any CuPy argument: ``numcore.accel.gpu.<family>.<name>``. Else by the backend:
    ``numcore.accel.cpu.<family>.<name>``. Where there is no such twin, and on arrays of any other array-API library:
    the reference itself. Arrays are recognised among positional arguments. The reference stays at hand as
    ``.reference``.

    Parameters
    ----------
    reference : callable
        The hot loop, defined in ``numcore.<module>`` or ``numcore.algorithms.<family>._loops``.

    Returns
    -------
    Dispatchable
        A callable with the same signature and docstring.
    """
    return Dispatchable(reference)


def discover() -> dict[str, Dispatchable[Any, Any]]:
    """Import every module of the reference library and return all dispatchables, by ``"family.name"``."""
    for root in ("numcore", "numcore.algorithms"):
        for module in pkgutil.walk_packages(importlib.import_module(root).__path__, root + "."):
            if not module.name.startswith("numcore.accel") and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return dict(sorted(_registry.items()))


def show_config(mode: Literal["stdout", "dict"] = "stdout") -> dict[str, Any] | None:
    """Say which backend is active, which twins exist, and why one is not used.

    Parameters
    ----------
    mode : {"stdout", "dict"}
        Print a table, or return the same facts as a dict.

    Returns
    -------
    dict or None
        With ``mode="dict"``: ``version``, ``backend`` (``setting``, ``source``, ``active``), ``accelerators`` (for
        each its ``version``, None if it cannot be imported, and ``why_not``), and ``twins`` (for each hot loop, which
        implementation NumPy and CuPy arrays get: ``numpy_arrays``, ``cupy_arrays``).

    Examples
    --------
    >>> import numcore
    >>> numcore.show_config(mode="dict")["backend"]["setting"] in ("auto", "numpy", "numba")
    True
    """
    if mode not in ("stdout", "dict"):
        raise ValueError(f'mode must be "stdout" or "dict"; got {mode!r}')
    facts = _facts()
    if mode == "dict":
        return facts
    print(_table(facts))
    return None


def _facts() -> dict[str, Any]:
    accelerators = {package: _accelerator(package) for package in INSTALL}
    setting = get_backend()
    has_numba = accelerators["numba"]["version"] is not None
    active = ("numba" if has_numba else "numpy") if setting == "auto" else setting
    broken = setting == "numba" and not has_numba
    if broken:
        active = "none: every hot loop raises ImportError"
    twins = {}
    for key, loop in discover().items():
        cpu, gpu = loop.twin("cpu"), loop.twin("gpu")
        twins[key] = {
            "numpy_arrays": "none" if broken else "numba" if cpu and setting != "numpy" else "reference",
            "cupy_arrays": "kernel" if gpu else "reference",
        }
    source = "set_backend" if _setting.get() is not None else VARIABLE if os.environ.get(VARIABLE) else "default"
    return {
        "version": importlib.metadata.version("numcore-algorithms"),
        "backend": {"setting": setting, "source": source, "active": active},
        "accelerators": accelerators,
        "twins": twins,
    }


def _accelerator(package: str) -> dict[str, str | None]:
    failure = _import_failure(package)
    if failure is not None:
        return {"version": None, "why_not": f"{failure}; install it with {INSTALL[package]}"}
    return {"version": importlib.import_module(package).__version__, "why_not": None}


def _table(facts: dict[str, Any]) -> str:
    chosen = facts["backend"]
    lines = [
        f"numcore {facts['version']}",
        f"backend       {chosen['setting']} ({chosen['source']}); active: {chosen['active']}",
    ]
    for package, state in facts["accelerators"].items():
        lines.append(f"{package:<13} " + (state["version"] or f"not used: {state['why_not']}"))
    width = max(map(len, facts["twins"]), default=8) + 2
    lines.append(f"{'hot loop':<{width}}NumPy arrays  CuPy arrays")
    lines += [f"{key:<{width}}{at['numpy_arrays']:<14}{at['cupy_arrays']}" for key, at in facts["twins"].items()]
    return "\n".join(lines)
