"""Sparse coding: time and memory of codes for every kind of penalty, with the reference and with Numba."""

import warnings

import numpy as np

import numcore
from numcore.algorithms.sparse_coding import lasso, omp, sparse_encode


class _Codes:
    """Sparse combinations of random unit atoms under a little noise."""

    param_names = ("backend", "n")
    penalty, reg, penalty_params, solver = "l1", 0.1, None, "auto"

    def setup(self, backend, n):
        numcore.set_backend(backend)
        rng = np.random.default_rng(0)
        self.D = rng.standard_normal((256, 144))
        self.D /= np.linalg.norm(self.D, axis=1, keepdims=True)
        code = rng.standard_normal((n, 256)) * (rng.random((n, 256)) < 0.05)
        self.X = code @ self.D + 0.02 * rng.standard_normal((n, 144))
        self.X /= np.linalg.norm(self.X, axis=1, keepdims=True)
        self.solve(10)  # compiles

    def teardown(self, backend, n):
        numcore.set_backend("auto")

    def solve(self, n=None):
        options = {
            "penalty": self.penalty,
            "reg": self.reg,
            "penalty_params": self.penalty_params,
            "solver": self.solver,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sparse_encode(self.X[:n], self.D, **options)

    def time_codes(self, backend, n):
        self.solve()

    def peakmem_codes(self, backend, n):
        self.solve()


class Lasso(_Codes):
    params = (["numpy", "numba"], [100, 10_000])


class LassoManySmall(_Codes):
    """Little regularisation: long supports."""

    params = (["numpy", "numba"], [100, 2000])
    reg = 0.01


class Mcp(_Codes):
    params = (["numpy", "numba"], [100, 2000])
    penalty = "mcp"


class Cel0(_Codes):
    params = (["numpy", "numba"], [100, 2000])
    penalty, reg = "cel0", 0.01


class Half(_Codes):
    params = (["numpy", "numba"], [100, 2000])
    penalty, reg = "half", 0.03


class Fista(_Codes):
    params = (["numba"], [2000])
    solver = "fista"


class Homotopy(_Codes):
    params = (["numba"], [200])
    solver = "homotopy"


class Group(_Codes):
    params = (["numba"], [2000])
    penalty = "group"

    def setup(self, backend, n):
        self.penalty_params = {"groups": np.arange(256).reshape(64, 4)}
        super().setup(backend, n)


class Pursuit(_Codes):
    """Ten atoms each."""

    params = (["numpy", "numba"], [100, 10_000])

    def solve(self, n=None):
        return omp(self.X[:n], self.D, n_nonzero=10)


class OptimizedPursuit(Pursuit):
    def solve(self, n=None):
        return omp(self.X[:n], self.D, n_nonzero=10, selection="oomp")


class Columns:
    """One signal of a hundred columns among many, and noise."""

    params = (["numpy", "numba"], [2000, 10_000], [0.1, 0.02])
    param_names = ("backend", "k", "share")

    def setup(self, backend, k, share):
        numcore.set_backend(backend)
        rng = np.random.default_rng(0)
        self.D = np.asfortranarray(rng.standard_normal((1000, k)))
        self.y = self.D[:, :100] @ rng.standard_normal(100) + 2 * rng.standard_normal(1000)
        self.reg = share * float(np.max(np.abs(self.D.T @ self.y)))
        lasso(self.D[:50, :60], self.y[:50], reg=self.reg)  # compiles

    def teardown(self, backend, k, share):
        numcore.set_backend("auto")

    def time_lasso(self, backend, k, share):
        lasso(self.D, self.y, reg=self.reg)

    def peakmem_lasso(self, backend, k, share):
        lasso(self.D, self.y, reg=self.reg)
