"""Curvature operators, pruning of a net and fits of the estimators, with the reference and with Numba."""

import warnings

import numpy as np

import numcore
from numcore import autodiff as ad
from numcore.algorithms.curvature import (
    GNSLogisticRegression,
    MFACClassifier,
    fisher_operator,
    ggn_operator,
    hessian_operator,
)

NETS = {"64-128-128-10": 128, "784-512-512-10": 128}


class Operators:
    """They run on the tape, which has no twins."""

    params = (["hessian", "ggn", "fisher"], list(NETS))
    param_names = ("matrix", "net")

    def setup(self, matrix, net):
        sizes = tuple(map(int, net.split("-")))
        self.X = np.random.default_rng(1).standard_normal((NETS[net], sizes[0]), dtype=np.float32)
        self.y = np.arange(len(self.X)) % sizes[-1]
        self.net = ad.nn.MLP(sizes)
        self.theta, self.v = self.net.init(rng=0), self.net.init(rng=1)
        self.A = self.make(matrix)

    def losses(self, theta, X, y):
        return ad.losses.softmax_cross_entropy(self.net(theta, X), y, reduction="none")

    def make(self, matrix):
        if matrix == "hessian":
            return hessian_operator(lambda theta: ad.mean(self.losses(theta, self.X, self.y)), self.theta)
        if matrix == "ggn":
            return ggn_operator(self.net, "softmax", self.theta, self.X, self.y)
        return fisher_operator(self.losses, self.theta, self.X, self.y)

    def time_make(self, matrix, net):
        self.make(matrix)

    def time_product(self, matrix, net):
        self.A @ self.v

    def peakmem_product(self, matrix, net):
        self.A @ self.v


class Fits:
    """Five epochs of ten batches."""

    params = (["numpy", "numba"], ["mfac", "adam", "gns"], list(NETS))
    param_names = ("backend", "solver", "net")
    timeout = 120

    def setup(self, backend, solver, net):
        if solver == "gns" and net != "64-128-128-10":
            raise NotImplementedError
        numcore.set_backend(backend)
        sizes = tuple(map(int, net.split("-")))
        self.X = np.random.default_rng(1).standard_normal((1280, sizes[0]), dtype=np.float32)
        self.y = np.arange(len(self.X)) % sizes[-1]
        self.model = MFACClassifier(sizes[1:-1], solver=solver, lr=1e-3, max_iter=5, random_state=0)
        self.time_fit(backend, solver, net)  # compiles

    def teardown(self, backend, solver, net):
        numcore.set_backend("auto")

    def time_fit(self, backend, solver, net):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", numcore.results.ConvergenceWarning)
            self.model.fit(self.X, self.y)


class Prune:
    """A trained net on the digits to 90 %."""

    params = (["mfac", "magnitude", "sap"],)
    param_names = ("method",)

    def setup(self, method):
        from sklearn.datasets import load_digits

        self.X, self.y = load_digits(return_X_y=True)
        self.X = (self.X / 16).astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", numcore.results.ConvergenceWarning)
            self.net = MFACClassifier((64, 64), max_iter=10, random_state=0).fit(self.X, self.y)
        self.time_prune(method)

    def time_prune(self, method):
        net = MFACClassifier((64, 64))
        vars(net).update(vars(self.net))
        net.prune(self.X, self.y, 0.9, method=method)


class Logistic:
    params = (["exact", "ggn", "fisher"], [2, 10])
    param_names = ("hess", "classes")

    def setup(self, hess, classes):
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((5000, 50))
        self.y = np.argmax(self.X[:, :classes] + rng.gumbel(size=(5000, classes)), axis=1)
        self.model = GNSLogisticRegression(hess=hess, tol=1e-5, max_iter=1000)

    def time_fit(self, hess, classes):
        self.model.fit(self.X, self.y)
