"""Inverse Fisher algebra: time and memory, with the reference and with Numba."""

import numpy as np

import numcore
from numcore.algorithms.curvature import EmpiricalFisher, MFACOptimizer


class Backend:
    """A class's first parameter is the backend."""

    def choose(self, backend):
        numcore.set_backend(backend)

    def teardown(self, *_):
        numcore.set_backend("auto")


class Static(Backend):
    """All gradients at hand, float32."""

    params = (["numpy", "numba"], [(64, 200_000), (128, 200_000), (512, 20_000)])
    param_names = ("backend", "shape")

    def setup(self, backend, shape):
        self.choose(backend)
        rng = np.random.default_rng(0)
        self.G = rng.standard_normal(shape, dtype=np.float32)
        self.x = rng.standard_normal(shape[1], dtype=np.float32)
        self.F = EmpiricalFisher(self.G)
        self.F.solve(self.x), self.F.solve_row(0), self.F.inverse_diagonal(), self.F.diagonal()  # compiles

    def time_precompute(self, backend, shape):
        EmpiricalFisher(self.G)

    def time_precompute_float32_products(self, backend, shape):
        EmpiricalFisher(self.G, gram_dtype="float32")

    def time_with_damp(self, backend, shape):
        self.F.with_damp(1e-3)

    def time_solve(self, backend, shape):
        self.F.solve(self.x)

    def time_solve_row(self, backend, shape):
        self.F.solve_row(0)

    def time_inverse_diagonal(self, backend, shape):
        self.F.inverse_diagonal()

    def time_diagonal(self, backend, shape):
        self.F.diagonal()

    def peakmem_precompute_and_diagonal(self, backend, shape):
        EmpiricalFisher(self.G).inverse_diagonal()


class Blocks(Backend):
    """Blocks of 128 as pruning takes them: by the m x m matrix and by the block's own."""

    params = (["numpy", "numba"], [64, 256])
    param_names = ("backend", "m")

    def setup(self, backend, m):
        self.choose(backend)
        self.G = np.random.default_rng(0).standard_normal((m, 100_000), dtype=np.float32)
        self.F = EmpiricalFisher(self.G, blocks=128)
        self.F.solve(self.G[0])

    def time_precompute(self, backend, m):
        EmpiricalFisher(self.G, blocks=128)

    def time_solve(self, backend, m):
        self.F.solve(self.G[0])

    def time_inverse_diagonal(self, backend, m):
        self.F.inverse_diagonal()


class Step(Backend):
    """A step of the optimizer with its window full: two passes over it, and O(m^2)."""

    params = (["numpy", "numba"], [(64, 200_000), (256, 20_000), (512, 20_000)])
    param_names = ("backend", "shape")

    def setup(self, backend, shape):
        self.choose(backend)
        m, d = shape
        rng = np.random.default_rng(0)
        self.theta, self.G = np.zeros(d, np.float32), rng.standard_normal((m + 1, d), dtype=np.float32)
        self.opt = MFACOptimizer(window=m, momentum=0.9)
        for g in self.G:
            self.opt.step(self.theta, g)

    def time_step(self, backend, shape):
        self.opt.step(self.theta, self.G[0])
