"""Optimal transport beside POT, OTT-JAX, GeomLoss and RegOT: the rows for peers.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scipy", "pot", "ott-jax", "jax", "geomloss", "torch", "regot")
TOLERANCES = (1e-8, 3e-9, 1e-9, 3e-10, 1e-10, 3e-11, 1e-11, 1e-12)
"""For stopping rules other than ours, which is the measured error itself: tried in turn until that is small enough."""

Makers = Mapping[str, Callable[[], Run]]


def l1_error(P: Any, a: np.ndarray, b: np.ndarray) -> float:
    """L1 error of both marginals of a plan, or the largest of a stack of plans."""
    P = np.asarray(P, dtype=np.float64)
    rows, columns = np.abs(P.sum(axis=-1) - a).sum(axis=-1), np.abs(P.sum(axis=-2) - b).sum(axis=-1)
    return float(np.max(rows + columns))


# problems: a cost and uniform weights


def random_cost(n: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((n, n)).astype(dtype), np.full(n, 1 / n)


def planar_clouds(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X, Y = rng.random((n, 2)), rng.normal(0.5, 0.2, (n, 2))
    C = ((X[:, None, :] - Y[None, :, :]) ** 2).sum(axis=-1)
    return C / C.max(), np.full(n, 1 / n)


def spatial_clouds(n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Points in space, and 1 % of the squared diagonal of the box around them."""
    rng = np.random.default_rng(0)
    X, Y = rng.random((n, 3)).astype(dtype), rng.normal(0.5, 0.2, (n, 3)).astype(dtype)
    return X, Y, 0.01 * float(np.sum(np.ptp(np.concatenate([X, Y]), axis=0) ** 2))


# we


def ours(cost: Any, reg: float, weights: np.ndarray, method: str = "auto") -> Run:
    from numcore.algorithms.transport import sinkhorn

    return Run(
        lambda tol: sinkhorn(cost, reg=reg, method=method, tol=tol),
        (1e-9, 5e-10),
        lambda result: l1_error(result.plan, weights, weights),
    )


def our_iterations(cost: Any, reg: float, method: str, counts: tuple[int, int]) -> Run:
    """Plain iterations: at one regularisation, without over-relaxation."""
    from numcore.algorithms.transport import sinkhorn

    options = {"reg": reg, "method": method, "annealing": False, "relaxation": 1.0, "tol": 0.0}
    return Run(lambda k: sinkhorn(cost, max_iter=k, **options), counts=counts)


def our_cloud_iterations(X: np.ndarray, Y: np.ndarray, reg: float, counts: tuple[int, int]) -> Run:
    from numcore.algorithms.transport import PointCloudCost

    return our_iterations(PointCloudCost(X, Y), reg, "log", counts)


# POT


def pot(C: np.ndarray, reg: float, weights: np.ndarray, method: str, max_iter: int) -> Run:
    import ot

    def solve(tol: float) -> np.ndarray:
        return ot.sinkhorn(weights, weights, C, reg, method=method, stopThr=tol, numItermax=max_iter)

    return Run(solve, TOLERANCES, lambda P: l1_error(P, weights, weights))


def pot_iterations(C: np.ndarray, reg: float, method: str, counts: tuple[int, int]) -> Run:
    import ot

    w = np.full(len(C), 1 / len(C), C.dtype)
    return Run(lambda k: ot.sinkhorn(w, w, C, reg, method=method, stopThr=0, numItermax=k), counts=counts)


def pot_lazy_iterations(X: np.ndarray, Y: np.ndarray, reg: float, counts: tuple[int, int]) -> Run:
    from ot.bregman import empirical_sinkhorn

    return Run(lambda k: empirical_sinkhorn(X, Y, reg, isLazy=True, stopThr=0, numIterMax=k), counts=counts)


def pot_stored_iterations(X: np.ndarray, Y: np.ndarray, reg: float, counts: tuple[int, int]) -> Run:
    from ot.bregman import empirical_sinkhorn

    options = {"method": "sinkhorn_log", "stopThr": 0}
    return Run(lambda k: empirical_sinkhorn(X, Y, reg, numIterMax=k, **options), counts=counts)


# OTT-JAX


def ott_solver(cost: Any, reg: float, **options: Any) -> Callable[[], Any]:
    """A compiled solve; `cost` is a matrix or a pair of clouds, whose precision is that of the work."""
    import jax
    from ott.geometry import geometry, pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    jax.config.update("jax_enable_x64", True)
    clouds = isinstance(cost, tuple)
    arrays = tuple(jax.numpy.asarray(array) for array in (cost if clouds else (cost,)))
    solver = sinkhorn.Sinkhorn(**options)

    @jax.jit
    def solve(*arrays: Any) -> Any:
        made = pointcloud.PointCloud(*arrays, epsilon=reg) if clouds else geometry.Geometry(*arrays, epsilon=reg)
        out = solver(linear_problem.LinearProblem(made))
        return out.f, out.g

    def run() -> Any:
        f, g = jax.block_until_ready(solve(*arrays))
        assert f.dtype == arrays[0].dtype
        return f, g

    return run


def ott(C: np.ndarray, reg: float, weights: np.ndarray, max_iter: int) -> Run:
    def error(potentials: Any) -> float:
        f, g = (np.asarray(potential) for potential in potentials)
        return l1_error(np.exp((f[:, None] + g[None, :] - C) / reg), weights, weights)

    solvers = {tol: ott_solver(C, reg, threshold=tol, max_iterations=max_iter) for tol in TOLERANCES}
    return Run(lambda tol: solvers[tol](), TOLERANCES, error)


def ott_iterations(cost: Any, reg: float, counts: tuple[int, int]) -> Run:
    solvers = {k: ott_solver(cost, reg, threshold=-1, min_iterations=k, max_iterations=k) for k in counts}
    return Run(lambda k: solvers[k](), counts=counts)


# RegOT


def regot(C: np.ndarray, reg: float, weights: np.ndarray, max_iter: int) -> Run:
    from regot import sinkhorn_ssns

    C = np.asfortranarray(C)
    return Run(
        lambda tol: sinkhorn_ssns(C, weights, weights, reg, tol=tol, max_iter=max_iter),
        TOLERANCES,
        lambda result: l1_error(result.plan, weights, weights),
    )


# rows: what is compared


def stored_log(n: int, pot_counts: tuple[int, int]) -> Makers:
    (C, _), reg = random_cost(n), 1e-2
    return {
        "ours": partial(our_iterations, C, reg, "log", (1, 21)),
        "POT sinkhorn_log": partial(pot_iterations, C, reg, "sinkhorn_log", pot_counts),
        "OTT log": partial(ott_iterations, C, reg, (10, 30)),
    }


def stored_log_single(n: int) -> Makers:
    (C, _), reg = random_cost(n), 1e-2
    return {
        "ours float32": partial(our_iterations, C.astype(np.float32), reg, "log", (1, 41)),
        "ours float64": partial(our_iterations, C, reg, "log", (1, 41)),
        "OTT log float32": partial(ott_iterations, C.astype(np.float32), reg, (10, 30)),
    }


def stored_kernel(n: int, dtype: Any) -> Makers:
    (C, _), reg = random_cost(n), 1e-2
    return {
        "ours": partial(our_iterations, C.astype(dtype), reg, "kernel", (1, 41)),
        "POT sinkhorn": partial(pot_iterations, C, reg, "sinkhorn", (1, 41)),
    }


def cloud(n: int) -> Makers:
    X, Y, reg = spatial_clouds(n, np.float32)
    return {
        "ours": partial(our_cloud_iterations, X, Y, reg, (1, 21)),
        "POT lazy": partial(pot_lazy_iterations, X, Y, reg, (0, 1)),
        "POT stored": partial(pot_stored_iterations, X, Y, reg, (1, 3)),
        "OTT PointCloud": partial(ott_iterations, (X, Y), reg, (10, 20)),
    }


def planar(reg: float, n: int = 1000) -> Makers:
    C, w = planar_clouds(n)
    return {
        "ours": partial(ours, C, reg, w),
        "POT sinkhorn": partial(pot, C, reg, w, "sinkhorn", 6000),
        "POT stabilized": partial(pot, C, reg, w, "sinkhorn_stabilized", 300),
        "OTT log": partial(ott, C, reg, w, 2000),
        "RegOT SSNS": partial(regot, C, reg, w, 200),
    }


def random(n: int, reg: float) -> Makers:
    C, w = random_cost(n)
    return {
        "ours": partial(ours, C, reg, w),
        "POT sinkhorn": partial(pot, C, reg, w, "sinkhorn", 1000),
        "POT stabilized": partial(pot, C, reg, w, "sinkhorn_stabilized", 1000),
        "OTT log": partial(ott, C, reg, w, 1000),
    }


def softmax(size: int) -> Makers:
    x = 3 * np.random.default_rng(0).standard_normal(size, dtype=np.float32)

    def we() -> Run:
        from numcore.special import softmax

        return Run(lambda _: softmax(x))

    def scipy() -> Run:
        from scipy.special import softmax

        return Run(lambda _: softmax(x))

    return {"ours": we, "SciPy": scipy}


def batch(count: int, n: int, reg: float) -> Makers:
    C, _ = random_cost(n)
    rng = np.random.default_rng(1)
    a, b = (w / w.sum(axis=1, keepdims=True) for w in rng.random((2, count, n)))

    def error(plans: Any) -> float:
        return l1_error(plans, a, b)

    def we() -> Run:
        from numcore.algorithms.transport import sinkhorn_batch

        return Run(
            lambda tol: sinkhorn_batch(C, a, b, reg=reg, tol=tol), (1e-9, 5e-10), lambda result: error(result.plan)
        )

    def pot_loop() -> Run:
        import ot

        def solve(tol: float) -> list[np.ndarray]:
            return [ot.sinkhorn(p, q, C, reg, stopThr=tol) for p, q in zip(a, b, strict=True)]

        return Run(solve, TOLERANCES, error)

    def pot_batch(method: str) -> Run:
        from ot.batch import solve_batch

        costs = np.tile(C, (count, 1, 1))
        return Run(
            lambda tol: solve_batch(costs, reg, a, b, tol=tol, max_iter=10000, method=method).plan, TOLERANCES, error
        )

    return {
        "ours": we,
        "POT loop": pot_loop,
        "POT batch": partial(pot_batch, "sinkhorn"),
        "POT batch, log": partial(pot_batch, "log_sinkhorn"),
    }


def divergence(n: int) -> Makers:
    """The error is that of the gradient by X, relative to the gradient of a solution to 1e-12."""
    from numcore.algorithms.transport import sinkhorn_divergence

    rng = np.random.default_rng(0)
    X, Y, reg = rng.random((n, 3)), rng.normal(0.5, 0.2, (n, 3)), 0.02
    exact = sinkhorn_divergence(X, Y, reg=reg, gradient=True, tol=1e-12).grad_X

    def error(gradient: Any) -> float:
        return float(np.linalg.norm(np.asarray(gradient) - exact) / np.linalg.norm(exact))

    coarse = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
    we = partial(sinkhorn_divergence, X, Y, reg=reg, gradient=True)
    return {
        "ours": lambda: Run(lambda tol: we(tol=tol).grad_X, coarse, error),
        "GeomLoss": lambda: Run(geomloss_gradient(X, Y, reg), (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98), error),
        "OTT": lambda: Run(ott_gradient(X, Y, reg), coarse, error),
    }


def geomloss_gradient(X: np.ndarray, Y: np.ndarray, reg: float) -> Callable[[float], np.ndarray]:
    """Its cost is half the squared distance, its reg the square of blur."""
    import torch
    from geomloss import SamplesLoss

    y = torch.from_numpy(Y)

    def gradient(scaling: float) -> np.ndarray:
        x = torch.from_numpy(X).requires_grad_()
        loss = SamplesLoss("sinkhorn", p=2, blur=(reg / 2) ** 0.5, scaling=scaling, backend="tensorized")
        (slope,) = torch.autograd.grad(loss(x, y), x)
        return 2 * slope.numpy()

    return gradient


def ott_gradient(X: np.ndarray, Y: np.ndarray, reg: float) -> Callable[[float], Any]:
    import jax
    from ott.tools.sinkhorn_divergence import sinkdiv

    jax.config.update("jax_enable_x64", True)
    y = jax.numpy.asarray(Y)

    def value(x: Any, threshold: float) -> Any:
        options = {"threshold": threshold, "max_iterations": 2000, "use_danskin": True}
        return sinkdiv(x, y, epsilon=reg, solve_kwargs=options)[0]

    slope = jax.jit(jax.grad(value), static_argnums=1)
    return lambda threshold: jax.block_until_ready(slope(X, threshold))


ROWS = (
    Row(
        "log-1000",
        "log form, stored float64, n=1000, an iteration",
        partial(stored_log, 1000, (1, 11)),
        {"POT": 30, "OTT": 2.5},
        quick=True,
    ),
    Row(
        "log-3000",
        "log form, stored float64, n=3000, an iteration",
        partial(stored_log, 3000, (1, 3)),
        {"POT": 30, "OTT": 2.5},
    ),
    Row(
        "log32-1000",
        "log form, stored float32, n=1000, an iteration",
        partial(stored_log_single, 1000),
        {"ours": 2},
        quick=True,
    ),
    Row("log32-3000", "log form, stored float32, n=3000, an iteration", partial(stored_log_single, 3000), {"ours": 2}),
    Row(
        "kernel-2000",
        "kernel form, float64, n=2000, an iteration",
        partial(stored_kernel, 2000, np.float64),
        {"POT": 1.5},
        quick=True,
    ),
    Row(
        "kernel32-2000",
        "kernel form, ours float32, n=2000, an iteration",
        partial(stored_kernel, 2000, np.float32),
        {"POT": 3},
    ),
    Row(
        "cloud-5000",
        "cloud float32, n=5000, d=3, an iteration",
        partial(cloud, 5000),
        {"POT lazy": 60, "OTT": 10},
        memory=True,
    ),
    Row("planar-1e-2", "planar clouds, n=1000, reg 1e-2", partial(planar, 1e-2), error=1e-9),
    Row(
        "planar-1e-3",
        "planar clouds, n=1000, reg 1e-3",
        partial(planar, 1e-3),
        {"POT": 8, "RegOT": 10},
        error=1e-9,
    ),
    Row("planar-2e-4", "planar clouds, n=1000, reg 2e-4", partial(planar, 2e-4), {"POT": 50}, error=1e-9),
    Row(
        "random-1e-2",
        "random costs, n=1000, reg 1e-2",
        partial(random, 1000, 1e-2),
        {"POT": 1},
        error=1e-9,
        quick=True,
    ),
    Row("random-1e-3", "random costs, n=1000, reg 1e-3", partial(random, 1000, 1e-3), error=1e-9),
    Row("random-2000", "random costs, n=2000, reg 1e-3", partial(random, 2000, 1e-3), error=1e-9),
    Row("softmax", "softmax float32, 10^7 entries", partial(softmax, 10**7), {"SciPy": 2}, memory=True, quick=True),
    Row("batch", "200 problems 64 x 64, one cost, reg 0.05", partial(batch, 200, 64, 0.05), error=1e-9),
    Row("divergence", "divergence and gradient, n=1000, d=3", partial(divergence, 1000), error=2e-2),
)
