"""Training of the estimators' nets: the objective, its epochs of small batches, and its second-order model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from numcore import autodiff as ad
from numcore.algorithms.curvature.hessian import ggn_operator
from numcore.arrays import Array
from numcore.autodiff.losses import by_name

__all__ = ["Diverged", "Objective", "weights_of"]


class Diverged(ArithmeticError):
    """A loss or a gradient that is not finite."""


def weights_of(net: ad.nn.MLP) -> list[slice]:
    """Where the weights of a net lie in its vector of parameters, the biases left out."""
    return [part.slice for part in net.layout if len(part.shape) > 1]


@dataclass(frozen=True)
class Objective:
    r"""What a fit minimises: the loss of a net, weighted, with a penalty on its weights W but not on its biases.

    .. math:: \Bigl( \sum_i w_i \, \ell_i(\theta) + \frac{\alpha}{2} {\lVert W \rVert}^2 \Bigr) \Big/ \sum_i w_i

    B examples of a batch stand for all: their losses are divided by B times the mean of all weights w, and
    the penalty by as much for a batch of full size. That is the mean over batches, whatever weights each has, and it is
    scikit-learn's where all weights are 1.

    Attributes
    ----------
    net, loss, X, y
        As ``net.loss_and_grad`` takes them.
    weight : (n,) array or None
        Weights of the examples, positive and of mean 1.
    penalty : float
        What is left of the penalty for a batch: alpha over batch size and mean weight.
    kept : (d,) bool array
        False for parameters that have been pruned; these have gradient 0.
    """

    net: ad.nn.MLP
    loss: str
    X: Array
    y: Array
    weight: Array | None
    penalty: float
    kept: Array

    @cached_property
    def pruned(self) -> Array | None:
        """The places of pruned parameters, if there are any."""
        return None if self.kept.all() else np.flatnonzero(~self.kept)

    @cached_property
    def weights(self) -> list[slice]:
        """Where the weights are."""
        return weights_of(self.net)

    @cached_property
    def decay(self) -> Array:
        """The diagonal of the penalty's Hessian."""
        decay = np.zeros(self.net.n_params, self.X.dtype)
        for part in self.weights:
            decay[part] = self.penalty
        return decay

    def value_and_grad(self, theta: Array, out: Array, rows: Any = slice(None)) -> float:
        """The value for some examples, all by default; the gradient goes to `out`."""
        weight = None if self.weight is None else self.weight[rows]
        value, _ = self.net.loss_and_grad(
            theta, self.X[rows], self.y[rows], loss=self.loss, sample_weight=weight, out=out
        )
        if weight is not None:
            share = float(weight.mean())
            value *= share
            out *= share
        if self.penalty:
            for part in self.weights:
                W = theta[part]
                value += 0.5 * self.penalty * float(W @ W)
                out[part] += W * self.penalty
        if self.pruned is not None:
            out[self.pruned] = 0
        return value

    def is_finite(self, theta: Array) -> bool:
        """Whether the value is, and the gradient's square."""
        g = np.zeros_like(theta)
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(self.value_and_grad(theta, g)) and np.isfinite(g @ g))

    def epoch(self, theta: Array, step: Callable[[Array, Array], Any], batch_size: int, rng: Any) -> float:
        """A step for each batch of a random order of the examples; the mean of the values before each."""
        n, g, total = len(self.X), np.zeros_like(theta), 0.0
        order = rng.permutation(n)
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size] if batch_size < n else slice(None)
            value = self.value_and_grad(theta, g, rows)
            if not (np.isfinite(value) and np.isfinite(g @ g)):
                raise Diverged
            step(theta, g)
            total += value * (min(batch_size, n - start) / n)
        return total

    def curvature(self, theta: Array) -> LinearOperator:
        """The Gauss-Newton matrix of all examples, with the penalty; 0 where parameters have been pruned."""
        per_example = by_name(self.loss)
        weight = 1.0 if self.weight is None else self.weight
        G = ggn_operator(self.net, lambda z, y: per_example(z, y) * weight, theta, self.X, self.y)
        kept, decay = self.kept, self.decay

        def product(v: Array) -> Array:
            v = kept * np.reshape(v, -1)
            return kept * (G @ v + decay * v)

        return LinearOperator(G.shape, product, rmatvec=product, dtype=G.dtype)
