"""What the page says of the machine and the versions: nothing that names the user, the host or a folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator

from numcore import show_config

__all__ = ["facts"]

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "matplotlib", "POT")


def facts() -> Iterator[tuple[str, str]]:
    """Pairs of a name and what there is to say."""
    config = show_config(mode="dict")
    assert config is not None
    backend, twins = config["backend"], config["twins"].values()
    compiled = sum(twin["numpy_arrays"] == "numba" for twin in twins)
    yield "numcore", config["version"]
    yield "backend", f"{backend['setting']} ({backend['source']}), active: {backend['active']}"
    yield "hot loops compiled", f"{compiled} of {len(twins)}"
    yield "Python", platform.python_version()
    for package in PACKAGES:
        yield package, version(package)
    yield "machine", f"{platform.system()} on {platform.machine()}, {cores()} cores"


def version(package: str) -> str:
    """The version installed, in words."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
