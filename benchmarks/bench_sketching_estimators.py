"""Sketching: compression, what is solved on it, and the estimators."""

import numpy as np

from numcore.algorithms.sketching import (
    SketchedRegression,
    SketchedRidge,
    compress,
    constrained_lstsq,
    leverage_scores,
    ridge_path,
)

ROWS, COLUMNS = 100_000, 100


class Compressing:
    """A tall array, once and for all."""

    params = (["float32", "float64"], [1.0, 1e8])
    param_names = ("dtype", "cond")

    def setup(self, dtype, cond):
        rng = np.random.default_rng(0)
        self.A = (rng.standard_normal((ROWS, COLUMNS)) @ (np.eye(COLUMNS) + (cond - 1) / COLUMNS)).astype(dtype)
        self.b = rng.standard_normal(ROWS).astype(dtype)
        self.time_compress(dtype, cond)

    def time_compress(self, dtype, cond):
        compress(self.A, self.b, rng=0)

    def peakmem_compress(self, dtype, cond):
        compress(self.A, self.b, rng=0)

    def time_leverage(self, dtype, cond):
        leverage_scores(self.A, rng=0)


class Paths:
    """Twenty-five penalties."""

    params = (["gcv", "loo"],)
    param_names = ("cv",)

    def setup(self, cv):
        rng = np.random.default_rng(0)
        self.A, self.b = rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal(ROWS)
        self.alphas = np.logspace(-3, 3, 25)
        self.time_path(cv)

    def time_path(self, cv):
        ridge_path(self.A, self.b, self.alphas, cv=cv, rng=0)


class Constraints:
    """A quarter of the coefficients is free."""

    params = (["nonneg", "l1", "simplex"],)
    param_names = ("constraint",)

    def setup(self, constraint):
        rng = np.random.default_rng(0)
        self.A = rng.standard_normal((ROWS, COLUMNS))
        self.b = self.A[:, :25] @ np.full(25, 0.04) + rng.standard_normal(ROWS)
        self.time_solve(constraint)

    def time_solve(self, constraint):
        constrained_lstsq(self.A, self.b, constraint=constraint, rng=0)


class Estimators:
    """One fit, and the same rows in batches."""

    params = ([1, 100, 1000],)
    param_names = ("batches",)

    def setup(self, batches):
        rng = np.random.default_rng(0)
        self.A, self.b = rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal(ROWS)
        self.parts = list(zip(np.array_split(self.A, batches), np.array_split(self.b, batches), strict=True))
        self.time_partial_fit(batches)
        self.time_fit(batches)

    def time_fit(self, batches):
        SketchedRegression(random_state=0).fit(self.A, self.b)

    def time_ridge(self, batches):
        SketchedRidge(random_state=0).fit(self.A, self.b)

    def time_partial_fit(self, batches):
        model = SketchedRegression(random_state=0)
        for X, y in self.parts:
            model.partial_fit(X, y)
        _ = model.coef_

    def peakmem_fit(self, batches):
        SketchedRegression(random_state=0).fit(self.A, self.b)
