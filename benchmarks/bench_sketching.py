"""Sketching: time and memory of the operators, with the reference and with Numba, and of least squares."""

import numpy as np
import scipy.sparse

import numcore
from numcore.algorithms.sketching import StreamingSketch, lstsq, make_sketch

ROWS, COLUMNS, SIZE = 100_000, 100, 400


class Dense:
    """A tall array."""

    params = (["numpy", "numba"], ["float32", "float64"], ["block_srht", "srht", "countsketch", "sparse_sign"])
    param_names = ("backend", "dtype", "kind")

    def setup(self, backend, dtype, kind):
        numcore.set_backend(backend)
        self.A = np.random.default_rng(0).standard_normal((ROWS, COLUMNS), dtype=dtype)
        self.S = make_sketch(kind, SIZE, ROWS, rng=0)
        self.S @ self.A  # compiles

    def teardown(self, backend, dtype, kind):
        numcore.set_backend("auto")

    def time_apply(self, backend, dtype, kind):
        self.S @ self.A

    def peakmem_apply(self, backend, dtype, kind):
        self.S @ self.A


class Costly:
    """Kinds that are there for reference."""

    params = (["gaussian", "srtt"],)
    param_names = ("kind",)

    def setup(self, kind):
        self.A = np.random.default_rng(0).standard_normal((ROWS // 10, COLUMNS))
        self.S = make_sketch(kind, SIZE, ROWS // 10, rng=0)

    def time_apply(self, kind):
        self.S @ self.A


class Sparse:
    """Compressed rows, one in a hundred entries nonzero."""

    params = (["numpy", "numba"], ["countsketch", "sparse_sign"])
    param_names = ("backend", "kind")

    def setup(self, backend, kind):
        numcore.set_backend(backend)
        self.A = scipy.sparse.random_array((ROWS, COLUMNS), density=0.01, format="csr", rng=np.random.default_rng(0))
        self.S = make_sketch(kind, SIZE, ROWS, rng=0)
        self.S @ self.A

    def teardown(self, backend, kind):
        numcore.set_backend("auto")

    def time_apply(self, backend, kind):
        self.S @ self.A


class Stream:
    """A hundred blocks of a thousand rows."""

    params = (["block_srht", "sparse_sign"],)
    param_names = ("kind",)

    def setup(self, kind):
        A = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
        self.blocks = np.array_split(A, 100)
        self.S = make_sketch(kind, SIZE, rng=0)
        self.time_update(kind)

    def time_update(self, kind):
        stream = StreamingSketch(self.S, COLUMNS)
        for block in self.blocks:
            stream.update(block)


class LeastSquares:
    """A tall array with a condition number of 1e8."""

    params = (["direct", "fossils", "spir", "sketch_solve"],)
    param_names = ("method",)

    def setup(self, method):
        rng = np.random.default_rng(0)
        self.A = rng.standard_normal((ROWS, COLUMNS)) @ (np.eye(COLUMNS) + 1e8 / COLUMNS)
        self.b = rng.standard_normal(ROWS)
        self.time_lstsq(method)

    def time_lstsq(self, method):
        lstsq(self.A, self.b, method=method, rng=0)

    def peakmem_lstsq(self, method):
        lstsq(self.A, self.b, method=method, rng=0)
