"""Matching pursuit beside SPAMS and scikit-learn, and the lasso of one signal beside celer, skglm and scikit-learn.

SPAMS chooses atoms by the rule that is called "oomp" here, scikit-learn by "omp": each is set against the same rule,
and the error of a pursuit is how far its mean squared residual is from ours. In float32 SPAMS 2.6 returns codes without
any atom in one process of a few, so there is no such row. The error of a lasso is the duality gap,
relative to ``|y|^2``, computed from the coefficients by one function for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scikit-learn", "spams-bin", "celer", "skglm")
TOLERANCES = tuple(float(f"{m}e-{e}") for e in range(3, 13) for m in (3, 1))
"""For stopping rules other than ours, which is the measured gap itself: tried in turn until that is small enough."""

ATOMS, WANTED = 256, 10

Makers = Mapping[str, Callable[[], Run]]


@cache
def patches(n: int) -> tuple[Any, Any]:
    """Patches of an image, 12 x 12, and other patches of it as atoms."""
    from sklearn.datasets import load_sample_image

    from numcore.algorithms.sparse_coding import extract_patches

    P = extract_patches(load_sample_image("china.jpg"), size=12, n=n + 4 * ATOMS, rng=0)
    atoms = P[n:][np.linalg.norm(P[n:], axis=1) > 0.99][:ATOMS]
    return P[:n], atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


@cache
def squared_residual(n: int, rule: str) -> float:
    from numcore.algorithms.sparse_coding import omp

    return float(omp(*patches(n), n_nonzero=WANTED, selection=rule).objective.mean() * 2)


def pursuits(n: int, rule: str) -> Makers:
    X, D = patches(n)

    def error(code: Any) -> float:
        residual = np.mean(np.sum((X - code @ D) ** 2, axis=1))
        return abs(float(residual) / squared_residual(n, rule) - 1)

    def ours() -> Run:
        from numcore.algorithms.sparse_coding import omp

        return Run(lambda _: omp(X, D, n_nonzero=WANTED, selection=rule).code, error=error)

    def spams() -> Run:
        import spams

        x, d = np.asfortranarray(X.T), np.asfortranarray(D.T)
        return Run(lambda _: spams.omp(x, d, L=WANTED, numThreads=1), error=lambda code: error(code.T.toarray()))

    def scikit_learn() -> Run:
        from sklearn.decomposition import sparse_encode

        return Run(lambda _: sparse_encode(X, D, algorithm="omp", n_nonzero_coefs=WANTED, n_jobs=1), error=error)

    peer = {"SPAMS": spams} if rule == "oomp" else {"scikit-learn": scikit_learn}
    return {"numcore": ours, **peer}


@cache
def planted(n: int, k: int, count: int) -> tuple[Any, Any, float]:
    """A signal of `count` columns and noise, and the regularisation at which the first coefficient enters."""
    rng = np.random.default_rng(0)
    D, a = np.asfortranarray(rng.normal(size=(n, k))), np.zeros(k)
    a[rng.choice(k, count, replace=False)] = rng.normal(size=count)
    y = D @ a
    y += 0.2 * np.linalg.norm(y) / np.sqrt(n) * rng.normal(size=n)
    return D, y, float(np.max(np.abs(D.T @ y)))


def relative_gap(D: Any, y: Any, a: Any, reg: float) -> float:
    r = y - D @ a
    s = min(1.0, reg / float(np.max(np.abs(D.T @ r))))
    return float(((1 - s) ** 2 * (r @ r) / 2 + reg * np.abs(a).sum() - s * (r @ (D @ a))) / (y @ y))


def lassos(n: int, k: int, count: int, share: float) -> Makers:
    D, y, top = planted(n, k, count)
    reg = share * top

    def error(a: Any) -> float:
        return relative_gap(D, y, np.asarray(a), reg)

    def ours() -> Run:
        from numcore.algorithms.sparse_coding import lasso

        return Run(lambda tol: lasso(D, y, reg=reg, tol=tol).coef, (1e-6,), error)

    def of(make: Callable[[float], Any]) -> Run:
        return Run(lambda tol: make(tol).fit(D, y).coef_, TOLERANCES, error)

    def celer() -> Run:
        from celer import Lasso

        return of(lambda tol: Lasso(alpha=reg / n, fit_intercept=False, tol=tol, max_epochs=1_000_000))

    def skglm() -> Run:
        from skglm import Lasso

        return of(lambda tol: Lasso(alpha=reg / n, fit_intercept=False, tol=tol, max_epochs=1_000_000))

    def scikit_learn() -> Run:
        from sklearn.linear_model import Lasso

        return of(lambda tol: Lasso(alpha=reg / n, fit_intercept=False, tol=tol, max_iter=1_000_000))

    return {"numcore": ours, "celer": celer, "skglm": skglm, "scikit-learn": scikit_learn}


def paths(n: int, k: int, count: int, n_regs: int, share: float) -> Makers:
    D, y, top = planted(n, k, count)
    regs = top * np.geomspace(1, share, n_regs)

    def error(coefs: Any) -> float:
        return max(relative_gap(D, y, a, reg) for a, reg in zip(coefs.T, regs, strict=True))

    def ours() -> Run:
        from numcore.algorithms.sparse_coding import lasso_path

        return Run(lambda tol: lasso_path(D, y, regs=regs, tol=tol).coefs, (1e-6,), error)

    def celer() -> Run:
        from celer import celer_path

        return Run(lambda tol: celer_path(D, y, "lasso", alphas=regs / n, tol=tol)[1], TOLERANCES, error)

    def scikit_learn() -> Run:
        from sklearn.linear_model import lasso_path

        return Run(lambda tol: lasso_path(D, y, alphas=regs / n, tol=tol)[1], TOLERANCES, error)

    return {"numcore": ours, "celer": celer, "scikit-learn": scikit_learn}


LARGE = (1000, 10_000, 100)
PURSUIT = "10,000 patches 12 x 12, 256 atoms: 10 atoms each"
ROWS = (
    Row("oomp", f"{PURSUIT} (oomp)", partial(pursuits, 10_000, "oomp"), {"SPAMS": 1.2}, 1e-9, quick=True),
    Row("omp", f"{PURSUIT} (omp)", partial(pursuits, 10_000, "omp"), {"scikit": 40}, 1e-9),
    Row(
        "columns-10",
        "lasso 1,000 x 10,000, reg 0.1 max",
        partial(lassos, *LARGE, 0.1),
        {"celer": 1.2},
        1e-6,
        quick=True,
    ),
    Row("columns-02", "lasso 1,000 x 10,000, reg 0.02 max", partial(lassos, *LARGE, 0.02), {"celer": 1.2}, 1e-6),
    Row("columns-path", "lasso 1,000 x 10,000, 30 regs to 0.05 max", partial(paths, *LARGE, 30, 0.05), {}, 1e-6),
)
