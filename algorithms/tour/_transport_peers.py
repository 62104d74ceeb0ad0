"""Colour transfer with numcore, with POT, and by a plain script: the same plan between two samples of colours."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numcore.arrays import Array

__all__ = ["Transfer", "by_numcore", "by_pot", "by_script"]


@dataclass(frozen=True)
class Transfer:
    """A fitted transfer: its plan, when asked for, and where it sends any colours of either side."""

    plan: Callable[[], Array]
    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array]


def by_numcore(X: Array, Y: Array, reg: float, tol: float) -> Transfer:
    """The estimator; it stops when the L1 error of both marginals is at most `tol`."""
    from numcore.algorithms.transport import SinkhornTransport

    model = SinkhornTransport(reg=reg, reg_scale="absolute", tol=tol).fit(X, Y)
    return Transfer(lambda: model.plan_, model.transform, model.inverse_transform)


def by_pot(
    X: Array, Y: Array, reg: float, tol: float, method: str, out_of_sample_map: str, batch_size: int
) -> Transfer:
    """POT's estimator, which stops by another norm."""
    ot = importlib.import_module("ot")
    options = {"method": method, "out_of_sample_map": out_of_sample_map, "max_iter": 10000}
    model = ot.da.SinkhornTransport(reg_e=reg, tol=tol, **options).fit(Xs=X, Xt=Y)
    return Transfer(
        lambda: model.coupling_,
        lambda colours: model.transform(Xs=colours, batch_size=batch_size),
        lambda colours: model.inverse_transform(Xt=colours, batch_size=batch_size),
    )


def by_script(X: Array, Y: Array, reg: float, tol: float) -> Transfer:
    """The textbook's iteration with SciPy's logsumexp, looking at the error of numcore's kind every ten rounds."""
    from scipy.special import logsumexp

    K = -_distances(X, Y) / reg
    K -= np.log(K.size, dtype=K.dtype)  # uniform weights
    log_a, log_b = (-np.log(n, dtype=K.dtype) for n in K.shape)
    v = np.zeros(len(Y), K.dtype)
    for count in range(1, 10001):
        u = log_a - logsumexp(K + v, axis=1)
        v = log_b - logsumexp(K + u[:, None], axis=0)
        if count % 10 == 0:
            P = np.exp(u[:, None] + v + K)
            if np.abs(P.sum(axis=1) - 1 / len(X)).sum() <= tol:  # the columns are exact after v
                break
    return Transfer(lambda: P, lambda C: _softmax_map(C, Y, v, reg), lambda C: _softmax_map(C, X, u, reg))


def _softmax_map(colours: Array, targets: Array, log_weights: Array, reg: float, rows: int = 2000) -> Array:
    """Means of the targets under weights ``exp(log_weights - |x - y|^2 / reg)``, some rows at a time."""
    mapped = np.empty_like(colours)
    for start in range(0, len(colours), rows):
        block = slice(start, start + rows)
        S = log_weights - _distances(colours[block], targets) / reg
        W = np.exp(S - S.max(axis=1, keepdims=True))
        mapped[block] = W @ targets / W.sum(axis=1, keepdims=True)
    return mapped


def _distances(X: Array, Y: Array) -> Array:
    from scipy.spatial.distance import cdist

    return cdist(X, Y, "sqeuclidean").astype(X.dtype, copy=False)
