"""The objective of logistic regression, its gradient, and what stands for its Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator
from scipy.special import expit

from numcore.arrays import Array
from numcore.special import logsumexp, softmax

__all__ = ["Logistic"]

DENSE_LIMIT = 4096
"""Coefficients up to which the Hessian is formed."""


class Logistic:
    """The objective divided by C times the sum of weights, in float64, its gradient and its Hessians."""

    def __init__(self, X: Array, labels: Array, weight: Array, C: float, intercept: bool) -> None:
        n_classes = int(labels.max()) + 1
        self.X = np.hstack([X, np.ones((len(X), int(intercept)), X.dtype)]).astype(np.float64, copy=False)
        # for two classes a single logit z stands for (0, z)
        self.T = (labels[:, None] == np.arange(n_classes)[-n_classes if n_classes > 2 else 1 :]).astype(np.float64)
        self.share = weight / weight.sum()
        penalty = np.ones((self.T.shape[1], self.X.shape[1]))
        penalty[:, X.shape[1] :] = 0
        self.penalty = penalty.ravel() / (C * weight.sum())
        self.size = penalty.size

    def shaped(self, w: Array) -> Array:
        """A row of coefficients for each logit."""
        return w.reshape(self.T.shape[1], -1)

    def value(self, w: Array) -> float:
        Z = self.X @ self.shaped(w).T
        total = np.logaddexp(0, Z[:, 0]) if Z.shape[1] == 1 else logsumexp(Z, axis=1)
        losses = total - np.sum(self.T * Z, axis=1)
        return float(self.share @ losses + 0.5 * self.penalty @ w**2)

    def _probabilities(self, w: Array) -> Array:
        Z = self.X @ self.shaped(w).T
        return expit(Z) if Z.shape[1] == 1 else softmax(Z, axis=1)

    def gradient(self, w: Array) -> Array:
        residual = (self._probabilities(w) - self.T) * self.share[:, None]
        return (residual.T @ self.X).ravel() + self.penalty * w

    def hessian(self, kind: str) -> Callable[[Array], Any]:
        """The function that gives the matrix at a point, or its products."""
        bend = self._fisher if kind == "fisher" else self._curvature
        if kind == "ggn" or self.size > DENSE_LIMIT:
            return lambda w: self._operator(bend(w))
        return lambda w: self._dense(bend(w))

    # the Hessian of example i by its logits, and what stands for it

    def _curvature(self, w: Array) -> Array:
        """``diag(p) - p p^T``."""
        P = self._probabilities(w)
        return P[:, :, None] * (np.eye(P.shape[1]) - P[:, None, :])

    def _fisher(self, w: Array) -> Array:
        """``(p - t) (p - t)^T``."""
        R = self._probabilities(w) - self.T
        return R[:, :, None] * R[:, None, :]

    def _dense(self, bend: Array) -> Array:
        k, p = bend.shape[1], self.X.shape[1]
        H = np.empty((k, p, k, p))
        for i in range(k):
            for j in range(i + 1):
                H[i, :, j] = self.X.T @ (self.X * (self.share * bend[:, i, j])[:, None])
                H[j, :, i] = H[i, :, j].T
        H = H.reshape(k * p, k * p)
        H = (H + H.T) / 2
        H[np.diag_indices_from(H)] += self.penalty
        return H

    def _operator(self, bend: Array) -> LinearOperator:
        bend = bend * self.share[:, None, None]

        def product(v: Array) -> Array:
            v = np.reshape(v, -1)
            U = np.einsum("nij,nj->ni", bend, self.X @ self.shaped(v).T)
            return (U.T @ self.X).ravel() + self.penalty * v

        return LinearOperator((self.size,) * 2, product, rmatvec=product, dtype=np.float64)
