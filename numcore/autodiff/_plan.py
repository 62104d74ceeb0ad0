"""Training steps without a tape, for sequences of linear layers: every array that a step needs is made once.

Activations are computed in place of the affine map's result. Their derivatives are found from the value alone where
that is enough, and then the cotangent is multiplied in place; gradients are written by BLAS into the flat vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.autodiff import _loops
from numcore.autodiff.functional import activation as activation_named
from numcore.autodiff.losses import by_name, check_labels, check_weight, reduced
from numcore.autodiff.transforms import value_and_grad, vjp
from numcore.dispatch import get_backend

MOST = 4
"""Plans that a net keeps."""


class lent:
    """The net's plan for such a batch; None where it has layers that cannot be planned, or on other arrays.

    While a plan is lent out the net does not have it, so that another thread, or a loss that calls the net in turn,
    gets buffers of its own. One that fails is not given back.
    """

    __slots__ = ("plan", "shelf")

    def __init__(self, net: Any, theta: Any, X: Any) -> None:
        self.plan: Plan | None = None
        if type(theta) is not np.ndarray or type(X) is not np.ndarray or X.ndim != 2 or len(X) == 0:
            return
        self.shelf = _shelf(net._plans, (X.shape, theta.dtype, get_backend()))
        try:
            self.plan = self.shelf.pop()
        except IndexError:
            layers = net._linear_layers()
            self.plan = None if layers is None else Plan(layers, net.layout, X.shape, theta.dtype)

    def __enter__(self) -> Plan | None:
        return self.plan

    def __exit__(self, kind: Any, failure: Any, place: Any) -> None:
        if self.plan is not None and kind is None and not self.shelf:
            self.shelf.append(self.plan)


def _shelf(plans: dict[Any, list[Plan]], key: Any) -> list[Plan]:
    """Where the plan for `key` is kept: a list of it, or an empty one."""
    shelf = plans.get(key)
    if shelf is None:
        for old in list(plans)[: -(MOST - 1)]:
            plans.pop(old, None)  # another thread may have been quicker
        shelf = plans.setdefault(key, [])
    return shelf


class _Layer:
    """One affine map and activation: its parameters' places, and its buffers."""

    def __init__(self, layer: Any, activation: Any, parts: Any, m: int, dtype: Any) -> None:
        self.layer, self.activation = layer, activation
        self.weight, self.bias = next(parts), next(parts) if layer.bias else None
        self.z = np.empty((m, layer.n_out), dtype)  # the affine map's value, then the activation's
        self.g = np.empty_like(self.z)  # the cotangent of either
        self.pullback: Any = None

    def views(self, vector: Any) -> tuple[Any, Any]:
        """Weight and bias as views of a flat vector."""
        bias = None if self.bias is None else vector[self.bias.slice]
        return vector[self.weight.slice].reshape(self.weight.shape), bias


class Plan:
    """The step for one batch size, dtype and backend."""

    def __init__(self, layers: Any, layout: Any, shape: tuple[int, int], dtype: Any) -> None:
        m, parts = shape[0], iter(layout)
        self.layers = [_Layer(layer, name, parts, m, dtype) for layer, name in layers]
        width = shape[1]
        for k, (layer, _) in enumerate(layers):
            if layer.n_in != width:
                raise ValueError(f"layer {k} ({layer!r}): got {width} features")
            width = layer.n_out
        self.dtype, self.ones, self.even = dtype, np.ones(m, dtype), np.full(m, 1 / m, dtype)
        self.bias_relu, self.relu_pull = _loops.fast(_loops.bias_relu), _loops.fast(_loops.relu_pull)
        self.softmax_pull = _loops.fast(_loops.softmax_pull)
        self.seen: tuple[Any, Any] = (None, None)
        self.given: tuple[Any, Any] = (None, None)

    def run(self, theta: Any, X: Any, y: Any, loss: Any, sample_weight: Any, out: Any) -> tuple[float, Any]:
        """The value, and the gradient in `out` or a new array."""
        if X.dtype != self.dtype:
            X = X.astype(self.dtype)
        fresh = out is None
        out = np.empty_like(theta) if fresh else out
        if self.seen[0] is not theta:
            self.seen = (theta, [layer.views(theta) for layer in self.layers])
        if fresh:
            gradients = [layer.views(out) for layer in self.layers]
        else:
            if self.given[0] is not out:
                self.given = (out, [layer.views(out) for layer in self.layers])
            gradients = self.given[1]
        self._forward(X, self.seen[1])
        value = self._loss(y, loss, sample_weight)
        self._backward(X, self.seen[1], gradients)
        return value, out

    def _forward(self, h: Any, parameters: Any) -> None:
        for layer, (W, b) in zip(self.layers, parameters, strict=True):
            z = layer.z
            np.dot(h, W, out=z)
            if layer.activation == "relu" and b is not None:
                self.bias_relu(z, b)
            else:
                if b is not None:
                    z += b
                if layer.activation is not None:
                    a, layer.pullback = _activated(layer.activation, z)
                    z = layer.z = a
            h = z

    def _loss(self, y: Any, loss: Any, sample_weight: Any) -> float:
        """The value; the cotangent of the outputs goes to the last layer's `g`."""
        last = self.layers[-1]
        if loss == "softmax":
            y = y if type(y) is np.ndarray else np.asarray(y)
            if y.ndim == 1:
                if y.dtype.kind not in "iu" or len(y) != len(last.z):
                    check_labels(y, *last.z.shape)
                weight = self.even
                if sample_weight is not None:
                    weight = check_weight(sample_weight, self.even)
                    weight = weight / weight.sum()
                np.copyto(last.g, last.z)
                value, n_bad = self.softmax_pull(last.g, np.ascontiguousarray(y, np.intp), weight)
                if n_bad:
                    check_labels(y, *last.z.shape)
                return float(value)
        per_row = by_name(loss)
        value, last.g[...] = value_and_grad(lambda z: reduced(per_row(z, y), "mean", sample_weight))(last.z)
        return float(value)

    def _backward(self, X: Any, parameters: Any, gradients: Any) -> None:
        for k in range(len(self.layers) - 1, -1, -1):
            layer, (dW, db) = self.layers[k], gradients[k]
            g = layer.g
            if layer.activation == "relu" and layer.bias is not None:
                self.relu_pull(g, layer.z)
            elif layer.activation is not None:
                g = layer.pullback(g)[0]
            h = self.layers[k - 1].z if k else X
            if k:  # before the gradient is written, in case that its place is the parameters'
                np.dot(g, parameters[k][0].T, out=self.layers[k - 1].g)
            np.dot(h.T, g, out=dW)
            if db is not None:
                np.dot(self.ones, g, out=db)


def _activated(name: Any, z: Any) -> tuple[Any, Any]:
    """Any activation, with what pulls a cotangent back through it."""
    return vjp(activation_named(name), z)
