"""Softmax and logsumexp: time and memory, with the reference and with Numba."""

import numpy as np

import numcore
from numcore.special import logsumexp, softmax


class Rows:
    """One long row, rows that fit the cache, and short ones; 10^7 entries each."""

    params = (["numpy", "numba"], ["float32", "float64"], [(1, 10_000_000), (1000, 10_000), (1_000_000, 10)])
    param_names = ("backend", "dtype", "shape")

    def setup(self, backend, dtype, shape):
        numcore.set_backend(backend)
        self.x = 3 * np.random.default_rng(0).standard_normal(shape, dtype=dtype)
        self.out = np.empty_like(self.x)
        softmax(self.x[:1], out=self.out[:1]), softmax(self.x[:1]), logsumexp(self.x[:1])  # compiles

    def teardown(self, backend, dtype, shape):
        numcore.set_backend("auto")

    def time_softmax(self, backend, dtype, shape):
        softmax(self.x)

    def time_softmax_out(self, backend, dtype, shape):
        softmax(self.x, out=self.out)

    def time_logsumexp(self, backend, dtype, shape):
        logsumexp(self.x)

    def peakmem_softmax_out(self, backend, dtype, shape):
        softmax(self.x, out=self.out)

    def peakmem_logsumexp(self, backend, dtype, shape):
        logsumexp(self.x)
