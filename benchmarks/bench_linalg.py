"""Linear algebra of the core: time and memory, with the reference and with Numba where there is a twin."""

import numpy as np

import numcore
from numcore.linalg import (
    cholesky_update,
    lanczos,
    nystrom,
    pivoted_cholesky,
    randomized_svd,
    solve_cg,
    trace_estimate,
    walsh_hadamard,
)


class Hadamard:
    """A block of a sketch, a wide one, and a long vector."""

    params = (["numpy", "numba"], ["float32", "float64"], [(1024, 100), (1024, 4000), (2**20, 1)])
    param_names = ("backend", "dtype", "shape")

    def setup(self, backend, dtype, shape):
        numcore.set_backend(backend)
        self.x = np.random.default_rng(0).standard_normal(shape, dtype=dtype)
        walsh_hadamard(self.x)  # compiles

    def teardown(self, backend, dtype, shape):
        numcore.set_backend("auto")

    def time_walsh_hadamard(self, backend, dtype, shape):
        walsh_hadamard(self.x)

    def peakmem_walsh_hadamard(self, backend, dtype, shape):
        walsh_hadamard(self.x)


class Update:
    """A rank-one update of a Cholesky factor."""

    params = (["numpy", "numba"], [64, 512, 2048])
    param_names = ("backend", "n")

    def setup(self, backend, n):
        numcore.set_backend(backend)
        self.L = np.asfortranarray(np.linalg.cholesky(n * np.eye(n) + np.ones((n, n))))
        self.x = np.random.default_rng(0).standard_normal(n)
        cholesky_update(self.L, self.x)

    def teardown(self, backend, n):
        numcore.set_backend("auto")

    def time_cholesky_update(self, backend, n):
        cholesky_update(self.L, self.x)


class MatrixFree:
    """A covariance of 2000 points, as a dense matrix; a fixed number of products each."""

    def setup(self):
        x = np.sort(np.random.default_rng(0).random(2000))
        self.K = np.exp(-100 * (x[:, None] - x) ** 2)
        self.A = self.K + np.eye(2000)
        self.b = np.sin(20 * x)

    def time_solve_cg(self):
        solve_cg(self.A, self.b)

    def time_lanczos_64(self):
        lanczos(self.A, 64, rng=0)

    def time_trace_estimate_30(self):
        trace_estimate(self.A, rng=0)

    def time_pivoted_cholesky_100(self):
        pivoted_cholesky(self.A, 100)

    def time_randomized_svd_20(self):
        randomized_svd(self.K, 20, rng=0)

    def time_nystrom_20(self):
        nystrom(self.K, 20, rng=0)
