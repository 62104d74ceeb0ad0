"""Optimizers on one flat vector of parameters: ``opt.step(theta, grad)`` updates `theta` in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from numcore.arrays import as_number
from numcore.autodiff._loops import adam_update
from numcore.autodiff.trees import flatten, tree_map

__all__ = ["SGD", "Adam", "AdamW", "perp_grad"]

Rate = float | Callable[[int], float]


class Optimizer:
    """The protocol: ``step``, ``state`` and ``reset``; a subclass writes ``_update``.

    Parameters
    ----------
    lr : float or callable
        The step size, or a schedule ``lr(t)`` of the step's number, from 0.
    clip_norm : float, optional
        Gradients with a larger Euclidean norm are scaled down to it.
    """

    def __init__(self, lr: Rate, clip_norm: float | None) -> None:
        self.lr = lr if callable(lr) else as_number(lr, "lr", above=0.0)
        self.clip_norm = None if clip_norm is None else as_number(clip_norm, "clip_norm", above=0.0)
        self.reset()

    def reset(self) -> None:
        """Forget all steps."""
        self.state: dict[str, Any] = {"t": 0}

    def step(self, theta: Any, grad: Any) -> Any:
        """Update `theta` in place and return it.

        Parameters
        ----------
        theta : (d,) array of float
            Contiguous and writeable.
        grad : (d,) array
            Of the same dtype; left as it is.

        Returns
        -------
        array
            `theta` itself.
        """
        if type(theta) is not np.ndarray or theta.dtype not in (np.float32, np.float64):
            raise TypeError(f"theta must be float32 or float64, to be updated in place; got {_describe(theta)}")
        if not theta.flags.writeable:
            raise ValueError("theta must be writeable, to be updated in place; got a read-only array")
        if type(grad) is not np.ndarray:
            raise TypeError(f"grad must be like theta, {_describe(theta)}; got {_describe(grad)}")
        if theta.shape != grad.shape or theta.dtype != grad.dtype:
            raise ValueError(f"grad must be like theta, {_describe(theta)}; got {_describe(grad)}")
        t = self.state["t"]
        rate = float(self.lr(t)) if callable(self.lr) else self.lr
        scale = 1.0
        if self.clip_norm is not None:
            norm = _length(grad)
            self.state["norm"] = norm
            scale = min(1.0, self.clip_norm / norm) if norm > 0 else 1.0
        self._update(theta, grad, rate, scale)
        self.state["t"] = t + 1
        return theta

    def _update(self, theta: Any, grad: Any, rate: float, scale: float) -> None:
        raise NotImplementedError

    def _like(self, name: str, theta: Any) -> Any:
        """The array of the state called `name`; zeros at first."""
        array = self.state.get(name)
        if array is None or array.shape != theta.shape or array.dtype != theta.dtype:
            array = self.state[name] = np.zeros_like(theta)
        return array

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_work"}

    def _scratch(self, theta: Any) -> Any:
        """Two vectors to compute in."""
        key = (theta.shape, theta.dtype)
        if key not in self._work:
            self._work.clear()
            self._work[key] = np.empty((2, *theta.shape), theta.dtype)
        return self._work[key]

    @cached_property
    def _work(self) -> dict[Any, Any]:
        return {}


def _length(x: Any) -> float:
    """The Euclidean norm, also where squares overflow or vanish."""
    top = float(np.max(np.abs(x), initial=0.0))
    if not 0 < top < np.inf:
        return top
    scaled = x / x.dtype.type(top)
    return top * float(np.sqrt(np.vdot(scaled, scaled)))


def _describe(x: Any) -> str:
    return f"shape {x.shape} and dtype {x.dtype}" if hasattr(x, "dtype") else type(x).__name__


class SGD(Optimizer):
    r"""Gradient descent, with momentum on demand.

    .. math:: v \leftarrow \mu v + g, \qquad \theta \leftarrow \theta - \eta v

    Parameters
    ----------
    lr : float or callable, default=0.01
    momentum : float, default=0.0
    nesterov : bool, default=False
        Step along ``g + momentum * v`` instead.
    weight_decay : float, default=0.0
        Added to the gradient, times `theta`.
    clip_norm : float, optional
        Gradients with a larger Euclidean norm are scaled down to it; ``state["norm"]`` is the latest norm.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.optim.SGD(lr=0.5).step(np.array([1.0]), np.array([1.0]))
    array([0.5])
    """

    def __init__(
        self,
        lr: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
    ) -> None:
        self.momentum = as_number(momentum, "momentum", above=0.0, below=1.0, closed=True)
        if nesterov and not self.momentum:
            raise ValueError("nesterov needs a positive momentum")
        self.nesterov = nesterov
        self.weight_decay = as_number(weight_decay, "weight_decay", above=0.0, closed=True)
        super().__init__(lr, clip_norm)

    def _update(self, theta: Any, grad: Any, rate: float, scale: float) -> None:
        work, _ = self._scratch(theta)
        if not self.momentum and not self.weight_decay:
            np.multiply(grad, rate * scale, out=work)
            theta -= work
            return
        g, other = self._scratch(theta)
        np.multiply(grad, scale, out=g)
        if self.weight_decay:
            np.multiply(theta, self.weight_decay, out=other)
            g += other
        if self.momentum:
            v = self._like("v", theta)
            v *= self.momentum
            v += g
            if self.nesterov:
                np.multiply(v, self.momentum, out=other)
                g += other
            else:
                np.copyto(g, v)
        g *= rate
        theta -= g


class Adam(Optimizer):
    r"""Adam: steps scaled by running means of the gradient and of its square.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        \theta \leftarrow \theta - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    lr : float or callable, default=1e-3
    betas : pair of float, default=(0.9, 0.999)
    eps : float, default=1e-8
    weight_decay : float, default=0.0
        Added to the gradient, times `theta`.
    clip_norm : float, optional
        Gradients with a larger Euclidean norm are scaled down to it; ``state["norm"]`` is the latest norm.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.optim.Adam(lr=0.1).step(np.array([1.0]), np.array([5.0])).round(6)
    array([0.9])
    """

    decoupled = False

    def __init__(
        self,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
    ) -> None:
        b1, b2 = betas
        if not (0 <= b1 < 1 and 0 <= b2 < 1):
            raise ValueError(f"betas must lie in [0, 1); got {betas!r}")
        self.betas = (float(b1), float(b2))
        self.eps = as_number(eps, "eps", above=0.0)
        self.weight_decay = as_number(weight_decay, "weight_decay", above=0.0, closed=True)
        super().__init__(lr, clip_norm)

    def _update(self, theta: Any, grad: Any, rate: float, scale: float) -> None:
        (b1, b2), t = self.betas, self.state["t"] + 1
        m, v = self._like("m", theta), self._like("v", theta)
        decay, shrink = (0.0, 1 - rate * self.weight_decay) if self.decoupled else (self.weight_decay, 1.0)
        corrected = (rate / (1 - b1**t), (1 - b2**t) ** -0.5, self.eps)
        factors = np.array((scale, decay, shrink, b1, b2, 1 - b1, 1 - b2, *corrected), theta.dtype)
        adam_update(theta, grad, m, v, factors)


class AdamW(Adam):
    r"""Adam with decoupled weight decay: :math:`\theta \leftarrow (1 - \eta \lambda) \theta` before each step.

    Parameters
    ----------
    lr, betas, eps, clip_norm
        As for :class:`Adam`.
    weight_decay : float, default=0.01
        The decay `\lambda`.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.optim.AdamW(lr=0.1, weight_decay=1.0).step(np.array([1.0]), np.array([0.0]))
    array([0.9])
    """

    decoupled = True

    def __init__(
        self,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, clip_norm=clip_norm)


def perp_grad(theta: Any, g: Any, *, per: Any = "all") -> Any:
    r"""The gradient without its component along the parameters, :math:`g - \frac{\theta^T g}{\theta^T \theta} \theta`.

    Parameters
    ----------
    theta, g : array or tree of arrays
        The parameters and the gradient.
    per : "all", "layer" or list of ParamSlice
        One projection for all parameters; one for each leaf of a tree; or one for each slice of a flat vector, as
        ``net.layout`` lists them.

    Returns
    -------
    like `g`
        Where `theta` is 0 throughout, `g` itself.

    References
    ----------
    L. Prieto, M. Barsbey, P. Mediano and T. Birdal, "Grokking at the Edge of Numerical Stability", ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> ad.optim.perp_grad(np.array([2.0, 0.0]), np.array([3.0, 4.0]))
    array([0., 4.])
    """
    if isinstance(per, str) and per == "all":
        xs, ys = flatten(theta)[0], flatten(g)[0]
        if [np.shape(x) for x in xs] != [np.shape(y) for y in ys]:
            raise ValueError(f"g must have the shape of theta: {[*map(np.shape, xs)]}; got {[*map(np.shape, ys)]}")
        top = max((float(np.max(np.abs(x), initial=0.0)) for x in xs), default=0.0)
        if top == 0:
            return g
        unit = tree_map(lambda x: x / x.dtype.type(top), theta)  # squares of theta may overflow or vanish
        square = sum(float(np.vdot(x, x)) for x in flatten(unit)[0])
        along = sum(float(np.vdot(x, y)) for x, y in zip(flatten(unit)[0], ys, strict=True)) / square
        return tree_map(lambda x, y: y - (x * along).astype(y.dtype), unit, g)
    if isinstance(per, str) and per == "layer":
        return tree_map(perp_grad, theta, g)
    if isinstance(per, str):
        raise ValueError(f"per must be 'all', 'layer' or a list of slices; got {per!r}")
    out = np.array(g)
    for part in per:
        out[part.slice] = perp_grad(theta[part.slice], g[part.slice])
    return out
