"""Optimal transport: time and memory of each hot loop's public path, with the reference and with Numba."""

import warnings

import numpy as np

import numcore
from numcore.algorithms.transport import (
    GridCost,
    PointCloudCost,
    sinkhorn,
    sinkhorn_batch,
    sinkhorn_divergence,
    sinkhorn_newton,
)

BACKENDS = ["numpy", "numba"]
ITERATIONS = 10


class _Backend:
    """Chooses the backend, solves once to compile, and silences what stops at a number of iterations."""

    param_names = ("backend", "n")

    def setup(self, backend, n):
        warnings.simplefilter("ignore", numcore.results.ConvergenceWarning)
        numcore.set_backend(backend)
        self.rng = np.random.default_rng(0)
        self.prepare(n)
        self.solve()

    def teardown(self, backend, n):
        numcore.set_backend("auto")

    def time_solve(self, backend, n):
        self.solve()

    def peakmem_solve(self, backend, n):
        self.solve()


class _Iterations(_Backend):
    """Plain iterations: no annealing, no over-relaxation, an error out of reach."""

    params = (BACKENDS, [300, 1000])
    method, dtype = "log", "float64"

    def prepare(self, n):
        self.cost, self.reg = self.rng.random((n, n)).astype(self.dtype), 1e-2

    def solve(self):
        return sinkhorn(
            self.cost, reg=self.reg, method=self.method, annealing=False, relaxation=1.0, tol=0, max_iter=ITERATIONS
        )


class LogDouble(_Iterations):
    pass


class LogSingle(_Iterations):
    dtype = "float32"


class KernelDouble(_Iterations):
    method = "kernel"


class KernelSingle(_Iterations):
    method, dtype = "kernel", "float32"


class Cloud(_Iterations):
    """The cost is never stored: peak memory shows it."""

    params = (BACKENDS, [1000, 4000])
    dtype = "float32"

    def prepare(self, n):
        X, Y = self.rng.random((2, n, 3)).astype(self.dtype)
        self.cost, self.reg = PointCloudCost(X, Y), 2e-2


class Grid(_Iterations):
    """A square grid of n^2 nodes."""

    params = (BACKENDS, [32, 100])

    def prepare(self, n):
        axis = np.linspace(0, 1, n)
        self.cost, self.reg = GridCost([axis, axis]), 1e-2


class Newton(_Backend):
    """To an error of 1e-9 on planar clouds, where eps is 0.1 % of the largest cost."""

    params = (BACKENDS, [300, 1000])

    def prepare(self, n):
        X, Y = self.rng.random((n, 2)), self.rng.normal(0.5, 0.2, (n, 2))
        self.cost = ((X[:, None, :] - Y[None, :, :]) ** 2).sum(axis=-1)

    def solve(self):
        return sinkhorn_newton(self.cost, reg=1e-3, reg_scale="max", tol=1e-9)


class Batch(_Backend):
    """n problems of 64 x 64 with one cost."""

    params = (BACKENDS, [20, 200])

    def prepare(self, n):
        self.cost = self.rng.random((64, 64))
        self.a, self.b = (w / w.sum(axis=1, keepdims=True) for w in self.rng.random((2, n, 64)))

    def solve(self):
        return sinkhorn_batch(self.cost, self.a, self.b, reg=0.05)


class Divergence(_Backend):
    """With gradients by the points, to the default error."""

    params = (BACKENDS, [300, 1000])

    def prepare(self, n):
        self.X, self.Y = self.rng.random((n, 3)), self.rng.normal(0.5, 0.2, (n, 3))

    def solve(self):
        return sinkhorn_divergence(self.X, self.Y, reg=5e-2, gradient=True)
