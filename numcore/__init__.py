"""numcore: recent optimization and probabilistic algorithms, as clear NumPy code with fast twins.

The families live in ``numcore.algorithms``; what is here chooses how their hot loops run.
"""

from typing import TYPE_CHECKING, Any

from numcore.dispatch import backend, get_backend, set_backend, show_config

if TYPE_CHECKING:
    from numcore import arrays, autodiff, dispatch, fixed_point, linalg, mirror, prox, results, special
    from numcore.persistence import load, save

__all__ = [
    "arrays",
    "autodiff",
    "backend",
    "dispatch",
    "fixed_point",
    "get_backend",
    "linalg",
    "load",
    "mirror",
    "prox",
    "results",
    "save",
    "set_backend",
    "show_config",
    "special",
]
__version__ = "0.1.0"

_submodules = {"algorithms", "arrays", "autodiff", "fixed_point", "linalg", "mirror", "prox", "results", "special"}
_functions = {"load": "persistence", "save": "persistence"}


def __getattr__(name: str) -> Any:
    if name in _submodules or name in _functions:
        import importlib

        module = importlib.import_module(f"numcore.{_functions.get(name, name)}")
        return getattr(module, name) if name in _functions else module
    raise AttributeError(f"module 'numcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_submodules, *_functions})
