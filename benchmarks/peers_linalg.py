"""Linear algebra of the core beside SciPy and scikit-learn: the rows for peers.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scipy", "scikit-learn")

Makers = Mapping[str, Callable[[], Run]]


def hadamard(n: int, d: int, dtype: Any) -> Makers:
    x = np.random.default_rng(0).standard_normal((n, d), dtype=dtype)

    def ours() -> Run:
        from numcore.linalg import walsh_hadamard

        return Run(lambda _: walsh_hadamard(x))

    def product() -> Run:
        from scipy.linalg import hadamard

        H = hadamard(n, dtype=dtype)
        return Run(lambda _: H @ x)

    return {"ours": ours, "SciPy hadamard @": product}


def updated_factor(n: int) -> Makers:
    rng = np.random.default_rng(0)
    G, x = rng.standard_normal((n, n)), rng.standard_normal(n)
    A = G @ G.T + n * np.eye(n)
    L = np.asfortranarray(np.linalg.cholesky(A))

    def ours() -> Run:
        from numcore.linalg import cholesky_update

        return Run(lambda _: cholesky_update(L, x))

    def anew() -> Run:
        from scipy.linalg import cholesky

        return Run(lambda _: cholesky(A + np.outer(x, x), lower=True, check_finite=False))

    return {"ours": ours, "SciPy anew": anew}


def covariance_system(n: int) -> Makers:
    x = np.sort(np.random.default_rng(0).random(n))
    A, b = np.exp(-100 * (x[:, None] - x) ** 2) + 0.1 * np.eye(n), np.sin(20 * x)

    def error(solution: Any) -> float:
        return float(np.linalg.norm(A @ solution - b) / np.linalg.norm(b))

    def ours() -> Run:
        from numcore.linalg import solve_cg

        return Run(lambda tol: solve_cg(A, b, tol=tol).x, (1e-8, 5e-9), error)

    def scipy() -> Run:
        from scipy.sparse.linalg import cg

        return Run(lambda tol: cg(A, b, rtol=tol)[0], (1e-8, 5e-9), error)

    return {"ours": ours, "SciPy cg": scipy}


def leading_triplets(n: int, d: int, k: int) -> Makers:
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((m, 200)))[0] for m in (n, d))
    s = 1 / np.arange(1, 201) ** 1.5
    A = U * s @ V.T

    def error(triplets: Any) -> float:
        return float(np.max(np.abs(np.sort(triplets[1])[::-1] - s[:k]) / s[:k]))

    def ours() -> Run:
        from numcore.linalg import randomized_svd

        return Run(lambda power: randomized_svd(A, k, n_power=power, rng=0), (2, 3, 4), error)

    def scikit_learn() -> Run:
        from sklearn.utils.extmath import randomized_svd

        return Run(lambda power: randomized_svd(A, k, n_iter=power, random_state=0), (2, 3, 4, 5, 6, 7), error)

    def scipy() -> Run:
        from scipy.sparse.linalg import svds

        return Run(lambda tol: svds(A, k, tol=tol, rng=0), (1e-3, 0), error)

    return {"ours": ours, "scikit-learn": scikit_learn, "SciPy svds": scipy}


ROWS = (
    Row("hadamard-1024", "Hadamard, 1024 x 100, float64", partial(hadamard, 1024, 100, np.float64), quick=True),
    Row("hadamard-4096", "Hadamard, 4096 x 500, float32", partial(hadamard, 4096, 500, np.float32)),
    Row("update-500", "Cholesky factor after a rank-one update, n=500", partial(updated_factor, 500), quick=True),
    Row("update-2000", "Cholesky factor after a rank-one update, n=2000", partial(updated_factor, 2000)),
    Row("cg-2000", "conjugate gradients, n=2000", partial(covariance_system, 2000), error=1e-8),
    Row("svd-4000", "20 singular triplets of 4000 x 1000", partial(leading_triplets, 4000, 1000, 20), error=1e-3),
)
