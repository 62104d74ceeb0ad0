"""Arrays that live on a device: the twins of ``accel/gpu`` where there is one, and every public function on them.

The public functions also run on arrays of array-api-strict which, as CuPy's do, refuse to turn into NumPy's unasked:
so that most of what could fail on a GPU fails where there is none.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest

import numcore
from numcore.algorithms import transport
from numcore.algorithms.transport import GridCost, PointCloudCost
from numcore.arrays import to_numpy
from numcore.dispatch import discover

TESTS = Path(__file__).parents[1]
NUMPY_ONLY = {"transport.plan_entries", "transport.plan_entries_cloud"}  # they end in SciPy's sparse matrices
# a few hundred roundings: sums run in another order, and exponentials differ in the last place
RTOL = {"float32": 5e-5, "float64": 2e-13}


@pytest.fixture(scope="module")
def cupy():
    library = pytest.importorskip("cupy", reason="needs CuPy", exc_type=ImportError)
    if not library.cuda.is_available():
        pytest.skip("needs a GPU")
    return library


def parity_cases(family):
    path = TESTS / family / "parity.py"
    if not path.exists():
        pytest.skip(f"{path} lays out no inputs")
    spec = importlib.util.spec_from_file_location(f"parity_cases_{family}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def moved(value, asarray):
    """Arguments with their arrays moved."""
    if isinstance(value, np.ndarray):
        return asarray(value)
    return type(value)(moved(x, asarray) for x in value) if type(value) in (tuple, list) else value


def leaves(value):
    return [x for part in value for x in leaves(part)] if isinstance(value, tuple | list) else [value]


def assert_close(ours, theirs, rtol):
    assert np.shape(ours) == np.shape(theirs)
    size = np.abs(np.asarray(theirs, dtype=float))
    atol = rtol * np.max(size, initial=0.0, where=np.isfinite(size))
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("name", sorted(set(discover()) - NUMPY_ONLY))
def test_a_loop_on_cupy_arrays_agrees_with_the_reference(cupy, name, dtype):
    loop = discover()[name]
    cases = parity_cases(loop.family)
    if loop.name not in cases.CASES:
        pytest.skip(f"{name} has no inputs in {cases.__file__}")
    for args in cases.CASES[loop.name](np.random.default_rng(20_000), np.dtype(dtype)):
        ours = leaves(loop(*moved(args, cupy.asarray)))
        with numcore.backend("numpy"):
            theirs = leaves(loop.reference(*args))
        for x, y in zip(ours, theirs, strict=True):
            if isinstance(y, np.ndarray):
                assert isinstance(x, cupy.ndarray) and x.dtype == y.dtype
            assert_close(to_numpy(x), y, RTOL[dtype])


def test_every_twin_is_reported_as_a_kernel(cupy):
    twins = numcore.show_config(mode="dict")["twins"]
    kernels = {"sweep", "sweep_cloud", "soft_min", "soft_min_cloud", "plan_cost", "plan_cost_cloud"}
    assert {f"transport.{name}" for name in kernels} <= {k for k, v in twins.items() if v["cupy_arrays"] == "kernel"}


def test_repeated_sweeps_on_the_gpu_are_identical(cupy):
    points = cupy.random.default_rng(0).random((5000, 3))
    cost, zero = PointCloudCost(points), cupy.zeros(5000)
    first, second = (cost.sweep(zero, zero, zero, zero + 1, 0.1, 1.0) for _ in range(2))
    assert all(bool((x == y).all()) for x, y in zip(first, second, strict=True))


def test_a_sweep_over_large_clouds_takes_little_memory(cupy):
    n = 20_000
    points = cupy.random.default_rng(0).random((n, 3), dtype=cupy.float32)
    cost, zero = PointCloudCost(points), cupy.zeros(n)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    cost.sweep(zero, zero, zero, zero + 1, 0.1, 1.0)
    assert pool.total_bytes() - before < 100e6


@pytest.fixture(params=["array_api_strict", "cupy"])
def asarray(request, monkeypatch):
    """Makes arrays of the library."""
    if request.param == "cupy":
        return request.getfixturevalue("cupy").asarray
    kind = type(array_api_strict.zeros(1))
    convert = kind.__array__

    def only_if_asked(self, *args, **kwargs):
        if sys._getframe(1).f_code.co_name != "to_numpy":
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")
        return convert(self, *args, **kwargs)

    monkeypatch.setattr(kind, "__array__", only_if_asked)
    return array_api_strict.asarray


def data(dtype):
    """Weights with zeros, a cost with a forbidden pair, points, a grid: all NumPy."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        w = rng.random(shape) + 0.1
        w[..., 2] = 0
        return w / w.sum(axis=-1, keepdims=True)

    d = SimpleNamespace(a=weights(13), b=weights(17), A=weights(3, 13), B=weights(3, 17), p=weights(20), q=weights(20))
    d.C, d.X, d.Y = rng.random((13, 17)), rng.normal(size=(13, 2)), rng.normal(size=(17, 2)) + 1
    d.C[3, 4], d.costs = np.inf, rng.random((3, 13, 17))
    d.V, d.W, d.axes = rng.normal(size=(17, 2)), rng.normal(size=(20, 2)), [np.arange(4.0), np.linspace(0, 1, 5)]
    for name in ("C", "X", "Y", "costs", "V", "W"):
        setattr(d, name, getattr(d, name).astype(dtype))
    d.axes = [axis.astype(dtype) for axis in d.axes]
    return d


def outcome(result, V):
    """Arrays and figures of a result; of a batch, whose figures are on the host, the arrays."""
    arrays = [result.f, result.g, result.plan, result.apply(V)]
    if isinstance(result, transport.SinkhornBatchResult):
        return [*arrays, *(float(x) for x in result.value)]
    return [*arrays, result.value, result.linear_cost, result.entropy_value, result.dual_value]


def solved(d, cost, **options):
    return outcome(transport.sinkhorn(cost(d), d.a, d.b, **options), d.V)


def divergence(d, **options):
    result = transport.sinkhorn_divergence(d.X, d.Y, d.a, d.b, gradient=True, **options)
    return [result.value, result.grad_X, result.grad_Y, result.grad_a, result.grad_b]


def mapped(d, metric, **options):
    result = transport.sinkhorn(PointCloudCost(d.X, d.Y, metric), d.a, d.b, reg=0.5)
    return [transport.entropic_map(result, d.X, **options)]


def stored(d):
    return d.C


def cloud(d):
    return PointCloudCost(d.X, d.Y)


def restarted(d):
    result = transport.sinkhorn(d.C, d.a, d.b, reg=0.1)
    return [transport.sinkhorn(d.C, d.a, d.b, reg=0.1, init=x).f for x in (result, (result.f, None), (None, result.g))]


CALLS = {
    **{f"sinkhorn {m}": lambda d, m=m: solved(d, stored, reg=0.05, method=m) for m in ("log", "kernel", "newton")},
    **{f"cloud {m}": lambda d, m=m: solved(d, cloud, reg=0.3, method=m) for m in ("auto", "kernel", "newton")},
    **{
        f"cloud, {name}": lambda d, metric=metric: solved(d, lambda d: PointCloudCost(d.X, d.Y, metric), reg=0.3)
        for name, metric in {
            "euclidean": "euclidean", "manhattan": "manhattan", "cosine": "cosine", "power": ("power", 1.5),
            "callable": lambda X, Y: abs(X[:, :1] - Y[:, 0][None, :]),
        }.items()
    },
    "annealed": lambda d: solved(d, stored, reg=0.005, reg_scale="max", method="log", tol=1e-4),
    "relaxed": lambda d: solved(d, stored, reg=0.05, method="log", relaxation=1.4),
    "float32 storage": lambda d: solved(d, stored, reg=0.05, method="log", storage="float32"),
    "unbalanced": lambda d: solved(d, cloud, reg=0.3, marginal_reg=(1.0, 2.0)),
    "restarted": restarted,
    "grid": lambda d: outcome(transport.sinkhorn(GridCost(d.axes), d.p, d.q, reg=0.5, reg_scale="mean"), d.W),
    "newton": lambda d: outcome(transport.sinkhorn_newton(d.C, d.a, d.b, reg=0.02), d.V),
    "batch, shared cost": lambda d: outcome(transport.sinkhorn_batch(d.C, d.A, d.B, reg=0.05), d.V),
    "batch, own costs": lambda d: outcome(transport.sinkhorn_batch(d.costs, d.A, d.B, reg=0.05), d.V),
    "batch, cloud": lambda d: outcome(transport.sinkhorn_batch(cloud(d), d.A, d.B, reg=0.5), d.V),
    **{f"divergence {m}": lambda d, m=m: divergence(d, reg=0.5, metric=m) for m in ("sqeuclidean", "manhattan")},
    "divergence, unbalanced": lambda d: divergence(d, reg=0.5, marginal_reg=1.0),
    **{
        f"map {m}, {side}, debiased={debiased}": lambda d, m=m, side=side, debiased=debiased: mapped(
            d, m, direction=side, debiased=debiased
        )
        for m in ("sqeuclidean", ("power", 1.5)) for side in ("forward", "inverse") for debiased in (False, True)
    },
    "softmax": lambda d: [transport.softmax(d.V), transport.softmax(d.V, axis=0)],
    "logsumexp": lambda d: [transport.logsumexp(d.V), transport.logsumexp(d.V, axis=0)],
}  # fmt: skip


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("call", CALLS)
def test_public_functions_return_arrays_of_the_library_they_are_given(asarray, call, dtype):
    d = data(dtype)
    on_device = SimpleNamespace(**{name: moved(value, asarray) for name, value in vars(d).items()})
    library = type(on_device.a)
    with numcore.backend("numpy"):
        theirs = CALLS[call](d)
    ours = CALLS[call](on_device)
    for x, y in zip(ours, theirs, strict=True):
        if isinstance(y, np.ndarray) and y.ndim:
            assert isinstance(x, library) and str(x.dtype).endswith(y.dtype.name)
        # both stop at the same tolerance, from the same steps rounded differently
        assert_close(to_numpy(x), y, {"float32": 2e-3, "float64": 1e-6}[dtype])
