"""Sparse coding beside SPAMS and scikit-learn: the rows for peers.py.

Patches of 12 x 12 pixels over 256 atoms that were learned from others. The error of a lasso row is the largest duality
gap in units of ``|x|^2``, computed in float64 by one function for all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks._peers_sparse_dictionary import ROWS as DICTIONARY_ROWS
from benchmarks._peers_sparse_pursuit import PACKAGES as PURSUIT_PACKAGES
from benchmarks._peers_sparse_pursuit import ROWS as PURSUIT_ROWS
from benchmarks.peers import Row, Run

PACKAGES = PURSUIT_PACKAGES

Makers = Mapping[str, Callable[[], Run]]

REG = 0.1


@cache
def patches(n: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Signals and a dictionary that was learned from other patches of the same picture."""
    from sklearn.datasets import load_sample_image

    from numcore.algorithms.sparse_coding import extract_patches, learn_dictionary

    P = extract_patches(load_sample_image("china.jpg"), size=12, n=n + 20_000, rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is enough for atoms of this kind
        D = learn_dictionary(P[n:], 256, reg=REG, max_iter=1, rng=0).dictionary
    return P[:n].astype(dtype), D.astype(dtype)


@cache
def million() -> tuple[np.ndarray, np.ndarray]:
    """As many patches of two pictures and their mirror images, 1.15 GB, and a dictionary as above."""
    from sklearn.datasets import load_sample_image

    from numcore.algorithms.sparse_coding import extract_patches

    X, begin = np.empty((10**6, 144)), 0
    for name in ("china.jpg", "flower.jpg"):
        image = load_sample_image(name)
        for view in (image, image[:, ::-1]):
            P = extract_patches(view, size=12)[: len(X) - begin]
            X[begin : begin + len(P)] = P
            begin += len(P)
    return X, patches(1)[1]


def largest_gap(X: np.ndarray, D: np.ndarray, A: np.ndarray) -> float:
    """The largest relative duality gap of l1 codes."""
    X, D, A = (np.asarray(part, dtype=np.float64) for part in (X, D, A))
    r = X - A @ D
    s = np.minimum(1, REG / np.maximum(abs(r @ D.T).max(axis=1), 1e-300))
    square, inner = np.sum(r * r, axis=1), np.sum(r * (X - r), axis=1)
    gap = (1 - s) ** 2 * square / 2 + REG * abs(A).sum(axis=1) - s * inner
    return float(np.max(gap / np.maximum(np.sum(X * X, axis=1), 1e-300)))


def encoders(X: np.ndarray, D: np.ndarray) -> Makers:
    """All but what takes too long for many signals. Errors are those of the first signals."""
    n, some = len(X), X[:20_000]

    def ours() -> Run:
        from numcore.algorithms.sparse_coding import sparse_encode

        def call(tol: float) -> np.ndarray:
            return sparse_encode(X, D, reg=REG, tol=tol, n_jobs=1).code

        return Run(call, (1e-6, 1e-7, 1e-9), lambda A: largest_gap(some, D, A[: len(some)]))

    def spams() -> Run:
        import spams

        columns, atoms = np.asfortranarray(X.T), np.asfortranarray(D.T)

        def call(_: Any) -> Any:
            return spams.lasso(columns, D=atoms, lambda1=REG, mode=2, numThreads=1)

        return Run(call, error=lambda A: largest_gap(some, D, A[:, : len(some)].T.toarray()))

    def scikit_learn(algorithm: str, settings: tuple[Any, ...]) -> Run:
        from sklearn.decomposition import sparse_encode

        def call(max_iter: int) -> np.ndarray:
            return sparse_encode(X, D, algorithm=algorithm, alpha=REG, max_iter=max_iter)

        return Run(call, settings, lambda A: largest_gap(some, D, A[: len(some)]))

    peers = {"ours": ours, "SPAMS": spams}
    if n <= 1000:
        peers["scikit-learn cd"] = lambda: scikit_learn("lasso_cd", (100, 1000, 10_000))
        peers["scikit-learn lars"] = lambda: scikit_learn("lasso_lars", (1000,))
    return peers


def lasso(n: int, dtype: Any) -> Makers:
    return encoders(*patches(n, dtype))


def of_a_million() -> Makers:
    return encoders(*million())


WANTED = {"SPAMS": 3.0, "scikit-learn": 15.0}

ROWS = (
    Row("lasso", "lasso, 10^4 patches, 256 atoms", partial(lasso, 10**4, np.float64), WANTED, error=1e-6),
    Row("lasso-32", "lasso, 10^4 patches, 256 atoms, float32", partial(lasso, 10**4, np.float32), WANTED, error=1e-5),
    Row(
        "lasso-1000", "lasso, 1000 patches, 256 atoms", partial(lasso, 1000, np.float64), WANTED, error=1e-6, quick=True
    ),
    Row(
        "million",
        "lasso, 10^6 patches, 256 atoms: codes of 2,048 MB",
        of_a_million,
        WANTED,
        error=1e-6,
        memory=True,
        asked=True,
    ),
    *PURSUIT_ROWS,
    *DICTIONARY_ROWS,
)
