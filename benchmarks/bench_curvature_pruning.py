"""Pruning and gradient-normalised Newton: time and memory, with the reference and with Numba."""

import warnings

import numpy as np

import numcore
from numcore.algorithms.curvature import EmpiricalFisher, minimize_gns, prune_magnitude, prune_mfac, prune_sap


class Pruning:
    """A pass of each method to 90 %; what ranks and selects is a small part of M-FAC's."""

    params = (["numpy", "numba"], [10_000, 1_000_000])
    param_names = ("backend", "d")

    def setup(self, backend, d):
        numcore.set_backend(backend)
        rng = np.random.default_rng(0)
        self.w = rng.standard_normal(d, dtype=np.float32)
        self.G = rng.standard_normal((64, d), dtype=np.float32)
        self.groups = np.arange(d) // 1000
        prune_mfac(self.w[:1000], self.G[:, :1000], 0.5)  # compiles
        prune_mfac(self.w[:1000], self.G[:, :1000], 0.5, update="joint")

    def teardown(self, backend, d):
        numcore.set_backend("auto")

    def time_mfac(self, backend, d):
        prune_mfac(self.w, self.G, 0.9, damp=1e-3)

    def peakmem_mfac(self, backend, d):
        prune_mfac(self.w, self.G, 0.9, damp=1e-3)

    def time_mfac_joint(self, backend, d):
        prune_mfac(self.w, self.G, 4000 / d, damp=1e-3, update="joint")

    def time_magnitude(self, backend, d):
        prune_magnitude(self.w, 0.9)

    def time_magnitude_protected(self, backend, d):
        prune_magnitude(self.w, 0.9, groups=self.groups, min_keep=5)

    def time_sap_by_group(self, backend, d):
        prune_sap(self.w, groups=self.groups)


class GNS:
    """Twenty steps on a logistic regression with 300 examples and d features."""

    params = (["numpy", "numba"], ["none", "dense", "fisher", "fisher_of_mean", "operator"], [200, 5000])
    param_names = ("backend", "hess", "d")

    def setup(self, backend, hess, d):
        if hess == "dense" and d > 1000:
            raise NotImplementedError
        warnings.simplefilter("ignore", numcore.results.ConvergenceWarning)
        numcore.set_backend(backend)
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((300, d)) / np.sqrt(d)
        self.y = np.sign(self.X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(300))
        self.x0 = np.zeros(d)
        self.hess = {
            "none": None,
            "dense": lambda w: self.rows(w).T @ self.rows(w) / 300,
            "fisher": lambda w: EmpiricalFisher(self.rows(w)),
            "fisher_of_mean": lambda w: EmpiricalFisher(self.rows(w)),
            "operator": lambda w: 1.0 * EmpiricalFisher(self.rows(w)),  # known by its products
        }[hess]
        self.time_solve(backend, hess, d)  # compiles

    def teardown(self, backend, hess, d):
        numcore.set_backend("auto")

    def rows(self, w):
        return self.X * (-self.y / (1 + np.exp(self.y * (self.X @ w))))[:, None] + 1e-3 * w

    def fun(self, w):
        return np.logaddexp(0, -self.y * (self.X @ w)).mean() + 5e-4 * w @ w

    def time_solve(self, backend, hess, d):
        minimize_gns(
            self.fun,
            self.x0,
            grad=lambda w: self.rows(w).mean(axis=0),
            hess=self.hess,
            fisher_of_mean=hess == "fisher_of_mean",
            max_iter=20,
            tol=0,
        )
