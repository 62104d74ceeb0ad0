"""Learned dictionaries and convolutional codes: time and memory, with the reference and with Numba."""

import warnings

import numpy as np

import numcore
from numcore.algorithms.sparse_coding import DictionaryLearner, conv_encode


class Learning:
    """Two batches of the online method, or one pass of the others, over sparse combinations of random atoms."""

    params = (["numpy", "numba"], ["online", "mod", "ksvd"])
    param_names = ("backend", "method")

    def setup(self, backend, method):
        numcore.set_backend(backend)
        rng = np.random.default_rng(0)
        D = rng.standard_normal((256, 144))
        D /= np.linalg.norm(D, axis=1, keepdims=True)
        code = rng.standard_normal((1024, 256)) * (rng.random((1024, 256)) < 0.05)
        self.X = code @ D
        self.time_learning(backend, method)  # compiles

    def teardown(self, backend, method):
        numcore.set_backend("auto")

    def time_learning(self, backend, method):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            DictionaryLearner(256, method=method, n_nonzero=8, max_iter=1, random_state=0).fit(self.X)

    def peakmem_learning(self, backend, method):
        self.time_learning(backend, method)


class Convolution:
    """Fifty iterations on a random image."""

    params = (["float32", "float64"],)
    param_names = ("dtype",)

    def setup(self, dtype):
        rng = np.random.default_rng(0)
        self.image = rng.standard_normal((128, 128)).astype(dtype)
        filters = rng.standard_normal((16, 8, 8)).astype(dtype)
        self.filters = filters / np.linalg.norm(filters, axis=(1, 2), keepdims=True)

    def time_encode(self, dtype):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            conv_encode(self.image, self.filters, tol=0.0, max_iter=50)

    def peakmem_encode(self, dtype):
        self.time_encode(dtype)
