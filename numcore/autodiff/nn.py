"""Nets over one flat vector of parameters: ``net(theta, X)``. A net holds no parameters, only their layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from numcore.arrays import as_count, as_number, as_rng
from numcore.autodiff import _plan, functional, per_example
from numcore.autodiff.boxes import unboxed
from numcore.autodiff.losses import by_name, real, reduced
from numcore.autodiff.rules import getitem, reshape
from numcore.autodiff.transforms import value_and_grad

__all__ = [
    "MLP",
    "Activation",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Flatten",
    "LayerNorm",
    "Linear",
    "Module",
    "ParamSlice",
    "Residual",
    "Sequential",
]

RELU_FAMILY = frozenset({"relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu"})


@dataclass(frozen=True)
class ParamSlice:
    """Where one array of parameters lies in the flat vector, and how it is initialised."""

    name: str
    slice: slice
    shape: tuple[int, ...]
    init: str


class Module:
    """What every layer and net can do.

    A layer writes ``_specs``, the names, shapes and initialisations of its own parameters, and ``_forward``.
    """

    def _specs(self) -> list[tuple[str, tuple[int, ...], str]]:
        return []

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        """The layer's value; its parameters are the next of `take`. `place` names the layer in messages."""
        raise NotImplementedError

    def _buffers(self) -> dict[str, Any]:
        return {}

    def _linear_layers(self) -> list[tuple[Any, Any]] | None:
        """The linear layers that make up the net, with their activations; None if it has others."""
        return None

    @cached_property
    def layout(self) -> list[ParamSlice]:
        """The slices of the flat vector, in order."""
        slices, start = [], 0
        for name, shape, init in self._specs():
            stop = start + math.prod(shape)
            slices.append(ParamSlice(name, slice(start, stop), shape, init))
            start = stop
        return slices

    @property
    def n_params(self) -> int:
        """The length of the flat vector."""
        return self.layout[-1].slice.stop if self.layout else 0

    @property
    def state(self) -> dict[str, Any]:
        """The running statistics, by name: arrays that ``train=True`` updates in place."""
        return self._buffers()

    def init(self, rng: Any = None, dtype: Any = np.float32) -> Any:
        """Draw initial parameters.

        Parameters
        ----------
        rng : int, numpy.random.Generator or None
        dtype : float32 or float64

        Returns
        -------
        theta : (n_params,) array
            Weights normal with variance ``2 / n_in`` before the relu family, ``1 / n_in`` before selu; else uniform
            with variance ``2 / (n_in + n_out)``. Biases 0. Equal seeds give equal parameters.
        """
        rng, theta = as_rng(rng), np.empty(self.n_params, _float_dtype(dtype))
        for part in self.layout:
            theta[part.slice] = np.ravel(INIT[part.init](rng, part.shape))
        return theta

    def views(self, theta: Any) -> dict[str, Any]:
        """Each array of parameters by name, as a view of `theta`."""
        theta = self._checked(theta)
        return {part.name: reshape(getitem(theta, part.slice), part.shape) for part in self.layout}

    def __call__(self, theta: Any, X: Any, *, train: bool = False) -> Any:
        """The outputs for a batch.

        Parameters
        ----------
        theta : (n_params,) array
        X : (m, ...) array
            Computed with in the dtype of `theta`.
        train : bool, default=False
            Whether batch norms use the statistics of this batch, and update the running ones.

        Returns
        -------
        array
        """
        theta = self._checked(theta)
        X = real(X, "X")
        if type(X) is np.ndarray and X.dtype != theta.dtype:
            X = X.astype(theta.dtype)
        if len(X.shape) == 0 or X.shape[0] == 0:
            raise ValueError(f"X must hold at least one example; got shape {tuple(X.shape)}")
        take = (reshape(getitem(theta, part.slice), part.shape) for part in self.layout)
        if not train:
            return self._forward(take, X, False, "0")
        with self._statistics_kept_on_failure():
            return self._forward(take, X, True, "0")

    @contextmanager
    def _statistics_kept_on_failure(self) -> Iterator[None]:
        """What raises within the block leaves the running statistics as they were."""
        before = [(x, x.copy()) for x in self._buffers().values()]
        try:
            yield
        except BaseException:
            for x, old in before:
                x[...] = old
            raise

    def _checked(self, theta: Any) -> Any:
        theta = theta if hasattr(theta, "dtype") else np.asarray(theta)
        if theta.dtype not in (np.float32, np.float64):
            raise TypeError(f"theta must be float32 or float64; got dtype {theta.dtype}")
        if tuple(theta.shape) != (self.n_params,):
            raise ValueError(f"theta must have length {self.n_params}; got shape {tuple(theta.shape)}")
        return np.ascontiguousarray(theta) if type(theta) is np.ndarray else theta

    def loss_and_grad(
        self,
        theta: Any,
        X: Any,
        y: Any,
        *,
        loss: Any = "softmax",
        sample_weight: Any = None,
        out: Any = None,
        train: bool = True,
    ) -> tuple[float, Any]:
        """The mean loss of a batch and its gradient.

        Parameters
        ----------
        theta : (n_params,) array
        X : (m, ...) array
        y : array
            As `loss` takes it.
        loss : str or callable, default="softmax"
            "softmax", "stablemax", "z", "bce", "squared", "huber", or a callable ``loss(outputs, y)`` that gives (m,).
        sample_weight : (m,) array, optional
            Weights of the mean.
        out : (n_params,) array, optional
            Where to put the gradient.
        train : bool, default=True
            Whether batch norms use this batch's statistics.

        Returns
        -------
        value : float
        grad : (n_params,) array
            `out` where that is given.

        Notes
        -----
        A sequence of linear layers and activations runs by a plan without a tape, in buffers that are kept for up to
        four batch sizes.
        """
        theta, X = self._checked(theta), real(X, "X")
        _check_out(out, theta)
        with _plan.lent(self, theta, X) as plan:
            if plan is not None:
                return plan.run(theta, X, y, loss, sample_weight, out)
        per_row = by_name(loss)

        def total(theta: Any) -> Any:
            return reduced(per_row(self(theta, X, train=train), y), "mean", sample_weight)

        with self._statistics_kept_on_failure():
            value, grad = value_and_grad(total)(theta)
        if out is not None:
            out[...] = grad
            grad = out
        return float(value), grad

    def per_example_grads(
        self, theta: Any, X: Any, y: Any, *, loss: Any = "softmax", out: Any = None
    ) -> tuple[Any, Any]:
        """The loss of each example and its gradient, a row each.

        Parameters
        ----------
        theta, X, y, loss
            As for :meth:`loss_and_grad`.
        out : (m, n_params) array, optional
            Where to put the gradients.

        Returns
        -------
        losses : (m,) array
        G : (m, n_params) array
            `out` where that is given.
        """
        theta, per_row = self._checked(theta), by_name(loss)
        return per_example.per_example_grads(lambda t, X, y: per_row(self(t, X), y), theta, X, y, out=out)

    @cached_property
    def _plans(self) -> dict[Any, list[_plan.Plan]]:
        """The plan for each kind of batch, where it is not in use."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_plans"}


def _float_dtype(dtype: Any) -> Any:
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64; got {np.dtype(dtype)}")
    return dtype


def _check_out(out: Any, theta: Any) -> None:
    if out is None:
        return
    if type(out) is not np.ndarray or out.shape != theta.shape or out.dtype != theta.dtype:
        got = f"shape {out.shape} and dtype {out.dtype}" if hasattr(out, "dtype") else type(out).__name__
        raise ValueError(f"out must be like theta, shape {theta.shape} and dtype {theta.dtype}; got {got}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out must be contiguous and writeable")


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many entries an output sums, and an input reaches: (n_in, n_out) or (o, c, ...)."""
    if len(shape) == 2:
        return shape
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _glorot(rng: Any, shape: tuple[int, ...]) -> Any:
    return math.sqrt(6 / sum(_fans(shape))) * rng.uniform(-1.0, 1.0, shape)


INIT: dict[str, Callable[[Any, tuple[int, ...]], Any]] = {
    "he": lambda rng, shape: math.sqrt(2 / _fans(shape)[0]) * rng.standard_normal(shape),
    "lecun": lambda rng, shape: math.sqrt(1 / _fans(shape)[0]) * rng.standard_normal(shape),
    "glorot": _glorot,
    "zeros": lambda rng, shape: np.zeros(shape),
    "ones": lambda rng, shape: np.ones(shape),
}


def _init_before(activation: Any) -> str:
    return "he" if activation in RELU_FAMILY else "lecun" if activation == "selu" else "glorot"


class Linear(Module):
    """``activation(x W + b)``.

    Parameters
    ----------
    n_in, n_out : int
    activation : str, optional
        A name of ``ad.functional.ACTIVATIONS``.
    bias : bool, default=True

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> [part.shape for part in ad.nn.Linear(3, 2).layout]
    [(3, 2), (2,)]
    """

    def __init__(self, n_in: int, n_out: int, activation: Any = None, *, bias: bool = True) -> None:
        self.n_in, self.n_out, self.bias = as_count(n_in, "n_in"), as_count(n_out, "n_out"), bias
        functional.activation(activation)
        self.activation = activation

    def __repr__(self) -> str:
        return f"Linear {self.n_in}->{self.n_out}"

    def _specs(self) -> list[tuple[str, tuple[int, ...], str]]:
        weight = ("weight", (self.n_in, self.n_out), _init_before(self.activation))
        return [weight, ("bias", (self.n_out,), "zeros")] if self.bias else [weight]

    def _linear_layers(self) -> list[tuple[Any, Any]] | None:
        return [(self, self.activation)]

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        W, b = next(take), next(take) if self.bias else None
        if x.shape[-1] != self.n_in:
            raise ValueError(f"layer {place} ({self!r}): got {x.shape[-1]} features")
        return functional.linear(x, W, b, self.activation)


GEOMETRY = {1: functional.geometry_of_line, 2: functional.geometry}


class Conv2d(Module):
    """Convolution of images (m, c_in, h, w); see :func:`functional.conv2d`.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel : int or pair of int
        Height and width of a filter.
    stride, padding, dilation
        As for :func:`functional.conv2d`.
    bias : bool, default=True
    activation : str, optional

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> net = ad.nn.Conv2d(1, 4, 3, padding="same")
    >>> net(net.init(rng=0), np.zeros((2, 1, 8, 8))).shape
    (2, 4, 8, 8)
    """

    axes = 2

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        bias: bool = True,
        activation: Any = None,
    ) -> None:
        self.c_in, self.c_out, self.bias = as_count(c_in, "c_in"), as_count(c_out, "c_out"), bias
        self.kernel = (kernel,) * self.axes if isinstance(kernel, int) else tuple(kernel)
        if len(self.kernel) != self.axes:
            raise ValueError(f"kernel must be an integer or {self.axes} of them; got {kernel!r}")
        self.kernel = tuple(as_count(k, "kernel") for k in self.kernel)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        GEOMETRY[self.axes](self.kernel, stride, padding, dilation)  # raises what a call would
        functional.activation(activation)
        self.activation = activation

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.c_in}->{self.c_out}"

    def _specs(self) -> list[tuple[str, tuple[int, ...], str]]:
        weight = ("weight", (self.c_out, self.c_in, *self.kernel), _init_before(self.activation))
        return [weight, ("bias", (self.c_out,), "zeros")] if self.bias else [weight]

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        W, b = next(take), next(take) if self.bias else None
        if len(x.shape) != self.axes + 2 or x.shape[1] != self.c_in:
            raise ValueError(f"layer {place} ({self!r}): got shape {tuple(x.shape)}")
        convolve = functional.conv2d if self.axes == 2 else functional.conv1d
        z = convolve(x, W, b, stride=self.stride, padding=self.padding, dilation=self.dilation)
        return functional.activation(self.activation)(z)


class Conv1d(Conv2d):
    """Convolution of sequences (m, c_in, l); see :class:`Conv2d`.

    Parameters
    ----------
    c_in, c_out, kernel, stride, padding, dilation, bias, activation
        As for :class:`Conv2d`, with one integer each.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> ad.nn.Conv1d(2, 3, 5).n_params
    33
    """

    axes = 1


class LayerNorm(Module):
    """Standardisation of each example over its last axis; see :func:`functional.layer_norm`.

    Parameters
    ----------
    n : int
        The length of that axis.
    eps : float, default=1e-5

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> ad.nn.LayerNorm(8).n_params
    16
    """

    def __init__(self, n: int, *, eps: float = 1e-5) -> None:
        self.n, self.eps = as_count(n, "n"), as_number(eps, "eps", above=0.0)

    def __repr__(self) -> str:
        return f"LayerNorm {self.n}"

    def _specs(self) -> list[tuple[str, tuple[int, ...], str]]:
        return [("gamma", (self.n,), "ones"), ("beta", (self.n,), "zeros")]

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        gamma, beta = next(take), next(take)
        if x.shape[-1] != self.n:
            raise ValueError(f"layer {place} ({self!r}): got {x.shape[-1]} features")
        return functional.layer_norm(x, gamma, beta, eps=self.eps)


class BatchNorm(Module):
    """Standardisation of each channel over the batch when training, by running statistics otherwise.

    Parameters
    ----------
    c : int
        Channels, axis 1.
    eps : float, default=1e-5
    momentum : float, default=0.1
        The weight of a new batch in the running statistics, whose variance is unbiased.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> ad.nn.BatchNorm(2).state
    {'mean': array([0., 0.]), 'var': array([1., 1.])}
    """

    def __init__(self, c: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.c, self.eps = as_count(c, "c"), as_number(eps, "eps", above=0.0)
        self.momentum = as_number(momentum, "momentum", above=0.0, below=1.0, closed=True)
        self.mean, self.var = np.zeros(self.c), np.ones(self.c)

    def __repr__(self) -> str:
        return f"BatchNorm {self.c}"

    def _specs(self) -> list[tuple[str, tuple[int, ...], str]]:
        return [("gamma", (self.c,), "ones"), ("beta", (self.c,), "zeros")]

    def _buffers(self) -> dict[str, Any]:
        return {"mean": self.mean, "var": self.var}

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        gamma, beta = next(take), next(take)
        if len(x.shape) < 2 or x.shape[1] != self.c:
            raise ValueError(f"layer {place} ({self!r}): got shape {tuple(x.shape)}")
        if not train:
            mean, var = self.mean.astype(x.dtype), self.var.astype(x.dtype)
            return functional.batch_norm(x, gamma, beta, mean=mean, var=var, eps=self.eps)
        if x.shape[0] < 2:
            raise ValueError(f"layer {place} ({self!r}): a batch of one has no batch statistics")
        out = functional.batch_norm(x, gamma, beta, eps=self.eps)
        plain, axes = unboxed(x), functional.channel_axes(x)
        self.mean += self.momentum * (plain.mean(axis=axes) - self.mean)
        self.var += self.momentum * (plain.var(axis=axes, ddof=1) - self.var)
        return out


class Activation(Module):
    """An activation by its name.

    Parameters
    ----------
    name : str
        A name of ``ad.functional.ACTIVATIONS``.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> ad.nn.Activation("tanh")
    Activation tanh
    """

    def __init__(self, name: str) -> None:
        functional.activation(name)
        self.name = name

    def __repr__(self) -> str:
        return f"Activation {self.name}"

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        return functional.activation(self.name)(x)


class Flatten(Module):
    """All axes of an example in one.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.nn.Flatten()(np.empty(0), np.zeros((2, 3, 4))).shape
    (2, 12)
    """

    def __repr__(self) -> str:
        return "Flatten"

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        return reshape(x, (x.shape[0], -1))


class Sequential(Module):
    """Layers one after the other.

    Parameters
    ----------
    *layers : Module

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> net = ad.nn.Sequential(ad.nn.Conv2d(1, 2, 3), ad.nn.Flatten(), ad.nn.Linear(72, 10))
    >>> [part.name for part in net.layout]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *layers: Module) -> None:
        for k, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"layer {k} must be a Module; got {type(layer).__name__}")
        self.layers = layers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    def _specs(self) -> list[tuple[str, tuple[int, ...], str]]:
        return [
            (f"{k}.{name}", shape, init) for k, layer in enumerate(self.layers) for name, shape, init in layer._specs()
        ]

    def _buffers(self) -> dict[str, Any]:
        return {f"{k}.{name}": x for k, layer in enumerate(self.layers) for name, x in layer._buffers().items()}

    def _linear_layers(self) -> list[tuple[Any, Any]] | None:
        found: list[tuple[Any, Any]] = []
        for layer in self.layers:
            if type(layer) is Activation and found and found[-1][1] is None:
                found[-1] = (found[-1][0], layer.name)
                continue
            inner = layer._linear_layers()
            if inner is None:
                return None
            found += inner
        return found or None

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        outer = "" if place == "0" else f"{place}."
        for k, layer in enumerate(self.layers):
            x = layer._forward(take, x, train, f"{outer}{k}")
        return x


class Residual(Sequential):
    """``x + f(x)`` for a sequence `f` of layers that keeps the shape.

    Parameters
    ----------
    *layers : Module

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> ad.nn.Residual(ad.nn.Linear(4, 4, "relu")).n_params
    20
    """

    def _linear_layers(self) -> None:
        return None

    def _forward(self, take: Iterator[Any], x: Any, train: bool, place: str) -> Any:
        out = super()._forward(take, x, train, place)
        if tuple(out.shape) != tuple(x.shape):
            raise ValueError(f"layer {place} ({self!r}): got shape {tuple(x.shape)}, gives {tuple(out.shape)}")
        return x + out


class MLP(Sequential):
    """Linear layers with an activation in between.

    Parameters
    ----------
    sizes : sequence of int
        Features in, hidden units, outputs.
    activation : str, default="relu"
        Of the hidden layers.
    output : str, optional
        Activation of the last layer.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> ad.nn.MLP([64, 128, 128, 10]).n_params
    26122
    """

    def __init__(self, sizes: Sequence[int], activation: Any = "relu", output: Any = None) -> None:
        self.sizes, self.activation, self.output = sizes, activation, output
        if len(sizes) < 2:
            raise ValueError(f"sizes must name at least inputs and outputs; got {list(sizes)}")
        last = len(sizes) - 2
        super().__init__(
            *(Linear(a, b, output if k == last else activation) for k, (a, b) in enumerate(pairwise(sizes)))
        )
