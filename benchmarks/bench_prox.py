"""Proximal operators and projections: time, with the reference and with Numba."""

import numpy as np

import numcore
from numcore import prox


class _Backends:
    params = (["numpy", "numba"], ["float32", "float64"])
    param_names = ("backend", "dtype")
    shape = (1000, 1000)

    def setup(self, backend, dtype):
        numcore.set_backend(backend)
        self.v = 2 * np.random.default_rng(0).standard_normal(self.shape, dtype=dtype)
        self.out = np.empty_like(self.v)
        self.prepare()
        for name in dir(self):
            if name.startswith("time_"):
                getattr(self, name)(backend, dtype)  # compiles

    def prepare(self):
        pass

    def teardown(self, backend, dtype):
        numcore.set_backend("auto")


class ProxElementwise(_Backends):
    """A million entries."""

    def prepare(self):
        self.weights = np.linspace(0.5, 1.5, self.shape[1])

    def time_l1(self, backend, dtype):
        prox.l1(self.v, 0.7, out=self.out)

    def time_l1_weighted(self, backend, dtype):
        prox.l1(self.v, 0.7, weights=self.weights, out=self.out)

    def time_half(self, backend, dtype):
        prox.half(self.v, 0.7, out=self.out)

    def time_mcp(self, backend, dtype):
        prox.mcp(self.v, 0.7, reg=0.5, out=self.out)

    def time_log_sum(self, backend, dtype):
        prox.log_sum(self.v, 0.7, reg=0.5, out=self.out)


class ProxProjections(_Backends):
    """A thousand vectors of a thousand entries."""

    def time_simplex(self, backend, dtype):
        prox.project_simplex(self.v, out=self.out)

    def time_l1_ball(self, backend, dtype):
        prox.project_l1_ball(self.v, out=self.out)

    def time_top_k(self, backend, dtype):
        prox.project_top_k(self.v, 50, out=self.out)


class ProxLongVector(ProxProjections):
    """One vector of a million entries."""

    shape = (1, 1_000_000)


class ProxVectors(_Backends):
    """A hundred vectors of a thousand entries."""

    shape = (100, 1000)

    def prepare(self):
        self.groups = np.arange(1000).reshape(100, 10)
        self.weights = np.linspace(1, 0, 1000)

    def time_group_l2(self, backend, dtype):
        prox.group_l2(self.v, 0.5, groups=self.groups)

    def time_sorted_l1(self, backend, dtype):
        prox.sorted_l1(self.v, 0.5, weights=self.weights)

    def time_tv1d(self, backend, dtype):
        prox.tv1d(self.v, 1.0)
