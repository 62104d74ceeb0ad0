"""The CUDA kernels and what launches them, run on the CPU: the arithmetic is proved where there is no GPU.

``cuda_on_cpu.hpp`` stands in for the device, and a few functions of NumPy for CuPy; the twins do not see a difference.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import numcore
from numcore.algorithms.transport import PointCloudCost, _loops, sinkhorn
from numcore.algorithms.transport._metrics import NAMED

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux", reason="needs g++ and the contexts of Linux"
)
KERNEL = re.compile(r'extern "C" __global__ void __launch_bounds__\(THREADS\)\s+(\w+)\(([^)]*)\)')
RTOL = {"float32": 2e-5, "float64": 4e-14}


class Kernel:
    """A kernel as CuPy gives it: called with the grid, the block and the arguments, all of which are checked."""

    seed = 0

    def __init__(self, library, name, parameters, real):
        self.run, self.real = getattr(library, f"run_{name}"), real
        self.parameters = [p.strip().rpartition(" ")[0::2] for p in parameters.split(",")]

    def __call__(self, grid, block, args):
        shape = (ctypes.c_uint * 4)(*(*grid, 1)[:2], *block)
        assert block[0] * block[1] <= 256
        given = [self.converted(arg, *p) for arg, p in zip(args, self.parameters, strict=True)]
        assert self.run(shape, ctypes.c_uint(self.seed), *given) == 0, "some threads of a block missed a barrier"

    def converted(self, arg, kind, name):
        """One argument for ctypes; CuPy passes arrays and scalars as they are, so a wrong width would go unnoticed."""
        c_type, dtype = {
            "int": (ctypes.c_int32, np.int32),
            "Index": (ctypes.c_int64, np.int64),
            "double": (ctypes.c_double, np.float64),
            "real": (ctypes.c_float, np.float32) if self.real == "float" else (ctypes.c_double, np.float64),
        }[kind.removeprefix("const ")]
        if not name.startswith("*"):
            assert type(arg) is dtype, f"{name}: {type(arg)} for {kind}"
            return c_type(arg)
        assert arg.dtype == dtype and arg.flags.c_contiguous, f"{name}: {arg.dtype} for {kind}"
        return ctypes.c_void_p(arg.ctypes.data)


def raw_module(folder):
    def build(code, options):
        (real,) = (option.partition("=")[2] for option in options if option.startswith("-DREAL="))
        kernels = dict(KERNEL.findall(code))
        assert len(kernels) == code.count("__global__")
        parts = ['#include "cuda_on_cpu.hpp"', code]
        for name, parameters in kernels.items():
            names = ", ".join(re.findall(r"(\w+)(?:,|$)", parameters))
            parts.append(
                f'extern "C" int run_{name}(const unsigned *shape, unsigned seed, {parameters}) '
                f"{{ return emulate(shape, seed, [=] {{ {name}({names}); }}); }}"
            )
        source, library = folder / f"{real}.cpp", folder / f"{real}.so"
        source.write_text("\n".join(parts))
        flags = ["-std=c++17", "-O1", "-shared", "-fPIC", f"-I{Path(__file__).parent}", *options[1:]]
        subprocess.run(["g++", *flags, "-o", str(library), str(source)], check=True)
        loaded = ctypes.CDLL(str(library))
        return SimpleNamespace(get_function=lambda name: Kernel(loaded, name, kernels[name], real))

    return build


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """``numcore.accel.gpu.transport``, with the stand-in for CuPy."""
    cupy = ModuleType("cupy")
    cupy.ascontiguousarray, cupy.dtype = np.ascontiguousarray, np.dtype
    cupy.empty = lambda shape, dtype=float: np.full(shape, np.nan, dtype)  # what a kernel forgets to write, shows
    cupy.RawModule = raw_module(tmp_path_factory.mktemp("cuda"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", cupy)
        for name in ("numcore.accel.gpu._launch", "numcore.accel.gpu.transport"):
            spec = importlib.util.find_spec(name)
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, module)
            spec.loader.exec_module(module)
        yield module


def problem(n, m, dtype):
    """A cost with forbidden pairs and, where there is room, a row of them; weights with zeros; potentials; points."""
    rng = np.random.default_rng(1)
    p = SimpleNamespace(C=rng.normal(size=(n, m)).astype(dtype), a=rng.random(n), h=rng.normal(size=m))
    p.base, p.u, p.lines = rng.normal(size=n), rng.normal(size=n), rng.normal(size=(3, m))
    p.X, p.Y = rng.normal(size=(n, 5)).astype(dtype), rng.normal(size=(m, 5)).astype(dtype)
    if min(n, m) > 2:
        p.C[rng.random((n, m)) < 0.2] = np.inf
        p.C[1], p.a[0], p.u[0], p.h[1], p.lines[2, :2] = np.inf, 0.0, -np.inf, -np.inf, -np.inf
    return p


def assert_same(ours, theirs, dtype):
    for x, y in zip(ours, theirs, strict=True):
        assert np.shape(x) == np.shape(y) and np.asarray(x).dtype == np.asarray(y).dtype
        size = np.max(np.abs(y), initial=0, where=np.isfinite(y))
        np.testing.assert_allclose(x, y, rtol=RTOL[dtype], atol=RTOL[dtype] * size)


def hold(twins, dtype, suffix, cost, p, eps, power):
    """All twins of one kind of cost against their references."""

    def both(name, *args):
        reference = getattr(_loops, name + suffix).reference
        ours, theirs = (f(*cost, *args) for f in (getattr(twins, name + suffix), reference))
        assert_same(*((x,) if not isinstance(x, tuple) else x for x in (ours, theirs)), dtype)

    with numcore.backend("numpy"):
        both("sweep", p.base, p.base, p.h, p.a, eps, power)
        both("soft_min", p.h, eps)
        both("plan_cost", p.u, p.h, eps)
        if not suffix:
            both("soft_min", p.lines, eps)


# less than a tile; no multiple of anything; a row for all threads of a block; many short rows
SHAPES = [(1, 1), (3, 5), (70, 133), (6, 1200), (133, 9)]


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_over_a_stored_cost_agree_with_the_reference(twins, shape, dtype):
    p = problem(*shape, dtype)
    hold(twins, dtype, "", (p.C,), p, eps=0.5, power=1.0)
    hold(twins, dtype, "", (np.asfortranarray(p.C),), p, eps=0.05, power=0.8)


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan"])
def test_kernels_over_point_clouds_agree_with_the_reference(twins, metric, dtype):
    for shape in SHAPES:
        p = problem(*shape, dtype)
        for d in (1, 3, 5):
            hold(twins, dtype, "_cloud", (p.X[:, :d], p.Y[:, :d], NAMED[metric]), p, eps=0.5, power=1.3)


@pytest.mark.parametrize("dtype", RTOL)
def test_costs_of_any_size_neither_overflow_nor_vanish(twins, dtype):
    p = problem(20, 30, dtype)
    for scale in (1e-30, 1e6, 1e30):
        p.base, p.h = 0 * p.base, np.zeros(30)
        hold(twins, dtype, "", (abs(p.C) * np.asarray(scale, dtype),), p, eps=0.1 * scale, power=1.0)


@pytest.mark.parametrize("dtype", RTOL)
def test_results_do_not_depend_on_the_order_of_threads(twins, dtype, monkeypatch):
    p = problem(70, 133, dtype)
    runs = []
    for seed in range(3):
        monkeypatch.setattr(Kernel, "seed", seed)
        runs.append([*twins.sweep(p.C, p.base, p.base, p.h, p.a, 0.1, 1.0), twins.soft_min(p.C, p.lines, 0.1)])
    for first, *others in zip(*runs, strict=True):
        assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("method", ["log", "newton"])
@pytest.mark.parametrize("kind", ["stored", "cloud"])
def test_sinkhorn_on_the_kernels_gives_the_same_plan(twins, kind, method, monkeypatch):
    p = problem(20, 30, "float64")
    cost = abs(p.C) if kind == "stored" else PointCloudCost(p.X[:, :2], p.Y[:, :2])
    if kind == "stored":
        cost[1, :5] = 1.0  # a row of forbidden pairs is refused
    with numcore.backend("numpy"):
        theirs = sinkhorn(cost, p.a / p.a.sum(), reg=0.1, method=method)
    calls = []
    for name in ("sweep", "sweep_cloud", "soft_min", "soft_min_cloud", "plan_cost", "plan_cost_cloud"):
        twin = getattr(twins, name)
        monkeypatch.setattr(getattr(_loops, name), "reference", lambda *args, t=twin: calls.append(t) or t(*args))
    with numcore.backend("numpy"):
        ours = sinkhorn(cost, p.a / p.a.sum(), reg=0.1, method=method)
    assert len(set(calls)) >= 2
    assert ours.n_iter == theirs.n_iter
    np.testing.assert_allclose(ours.plan, theirs.plan, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)
