"""Continuous retrieval: the fused pass with the reference and with Numba, and what needs whole rows of scores."""

import numpy as np

import numcore
from numcore.algorithms.hebbian import hopfield_energy, retrieve, separation_margin


def problem(K, Q, d, dtype="float32"):
    """Patterns of length about 1, and queries near some of them."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((K, d)) / np.sqrt(d)).astype(dtype)
    xi = X[rng.integers(K, size=Q)] + (0.3 * rng.standard_normal((Q, d)) / np.sqrt(d)).astype(dtype)
    return xi, X


class Updates:
    """A softmax update of all queries: spread over all patterns, sharp, and on one pattern each."""

    params = (["numpy", "numba"], [64, 784], [1.0, 200.0, 1e4])
    param_names = ("backend", "d", "beta")

    def setup(self, backend, d, beta):
        numcore.set_backend(backend)
        self.xi, self.X = problem(20_000, 500, d)
        self.time_update(backend, d, beta)

    def teardown(self, backend, d, beta):
        numcore.set_backend("auto")

    def time_update(self, backend, d, beta):
        retrieve(self.xi, self.X, beta=beta)

    def peakmem_update(self, backend, d, beta):
        retrieve(self.xi, self.X, beta=beta)


class Separations:
    """A few queries under each separation."""

    params = (["softmax", "sparsemax", "entmax15", "topk"], ["float32", "float64"])
    param_names = ("separation", "dtype")

    def setup(self, separation, dtype):
        self.xi, self.X = problem(20_000, 100, 64, dtype)
        self.options = {"separation": separation, "top_k": 10 if separation == "topk" else None, "beta": 20.0}
        self.time_update(separation, dtype)

    def time_update(self, separation, dtype):
        retrieve(self.xi, self.X, **self.options)


class Single:
    """One query, the cost of which is that of reading the patterns."""

    params = ([100, 100_000],)
    param_names = ("K",)

    def setup(self, K):
        self.xi, self.X = problem(K, 1, 64)
        self.time_query(K)

    def time_query(self, K):
        retrieve(self.xi[0], self.X, beta=50.0)


class Figures:
    """What is asked of a memory beside retrieval."""

    def setup(self):
        self.xi, self.X = problem(5000, 200, 64)
        self.time_margin(), self.time_energy(), self.time_steps()

    def time_margin(self):
        separation_margin(self.X)

    def time_energy(self):
        hopfield_energy(self.xi, self.X, beta=20.0)

    def time_steps(self):
        retrieve(self.xi, self.X, beta=100.0, n_steps=20)
