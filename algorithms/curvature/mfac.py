"""M-FAC as an optimizer: steps along the inverse Fisher matrix of the latest gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numcore.algorithms.curvature.sliding import SlidingFisher
from numcore.arrays import as_choice, as_count, as_number
from numcore.autodiff.optim import Optimizer, perp_grad

__all__ = ["MFACOptimizer"]


class MFACOptimizer(Optimizer):
    r"""Natural gradient steps by the Fisher matrix of a sliding window of gradients.

    .. math:: u = F^{-1} g, \qquad v \leftarrow \mu v + (1 - \mu) u, \qquad \theta \leftarrow \theta - \eta v

    where the window includes g. Since g is one of its rows, u is found by :math:`c\, G^T K^{-1} e`, in which nothing
    cancels; the difference that the recurrence of the paper ends with may lose all digits of float32 in it.

    Parameters
    ----------
    lr : float or callable, default=1e-3
        The step size, or a schedule ``lr(t)`` of the step's number, from 0.
    window : int, default=512
        The number of gradients, each as long as the parameters.
    damp : float, default=1e-5
        The dampening of F.
    momentum : float, default=0.0
        The factor above, in [0, 1).
    weight_decay : float, default=0.0
        Added to the gradient, times `theta`, before it enters the window.
    normalize : {"capacity", "count"}
        What F divides by: the window from the start, or the number of gradients so far. With "capacity" and a small
        `damp` the first steps are up to `window` times longer.
    mask : (d,) array of bool, optional
        True where `theta` may move. What is frozen is left out of the window altogether.
    perp : bool, default=False
        Take out of each gradient its component along `theta`, as :func:`numcore.autodiff.optim.perp_grad` does.

    Attributes
    ----------
    state : dict
        ``t``, the number of steps; ``fisher``, the :class:`SlidingFisher`; ``v``, with momentum.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of its range. :meth:`step` raises where `theta` and `grad` do not match or `grad` is not
        finite, and then changes nothing.

    Notes
    -----
    A step reads the window twice. Small nets want a greater `lr` and `damp` than the paper's, which are the defaults:
    ``lr=1e-2, damp=1e-3, window=64, momentum=0.9, normalize="count"`` is a good start.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic and D. Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order
       Information", NeurIPS 2021, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import MFACOptimizer
    >>> opt = MFACOptimizer(lr=0.5, window=4, damp=1.0, normalize="count")
    >>> opt.step(np.zeros(2), np.array([1.0, 0.0]))  # F = diag(2, 1)
    array([-0.25,  0.  ])
    """

    def __init__(
        self,
        *,
        lr: float | Callable[[int], float] = 1e-3,
        window: int = 512,
        damp: float = 1e-5,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        normalize: str = "capacity",
        mask: Any = None,
        perp: bool = False,
    ) -> None:
        self.window = as_count(window, "window")
        self.damp = as_number(damp, "damp", above=0.0)
        self.momentum = as_number(momentum, "momentum", above=0.0, closed=True)
        if self.momentum >= 1:
            raise ValueError(f"momentum must satisfy 0 <= momentum < 1; got {momentum!r}")
        self.weight_decay = as_number(weight_decay, "weight_decay", above=0.0, closed=True)
        self.normalize = as_choice(normalize, "normalize", ("capacity", "count"))
        self.mask = None if mask is None else _as_mask(mask)
        self.perp = as_choice(perp, "perp", (True, False))
        super().__init__(lr, clip_norm=None)

    def _update(self, theta: Any, grad: Any, rate: float, scale: float) -> None:
        if theta.ndim != 1:
            raise ValueError(f"theta must be 1-D; got shape {theta.shape}")
        if self.mask is not None and self.mask.shape != theta.shape:
            raise ValueError(f"theta must be like mask, of shape {self.mask.shape}; got shape {theta.shape}")
        at, g = (theta, grad) if self.mask is None else (theta[self.mask], grad[self.mask])
        if self.perp:
            g = perp_grad(at, g)
        if self.weight_decay:
            g = g + theta.dtype.type(self.weight_decay) * at
        fisher = self._window(at)
        fisher.push(g)
        self.state["fisher"] = fisher
        v = self._like("v", at) if self.momentum else None
        fisher.descend(at, v, rate, self.momentum)
        if self.mask is not None:
            theta[self.mask] = at

    def _window(self, at: Any) -> SlidingFisher:
        fisher = self.state.get("fisher")
        if fisher is None:
            return SlidingFisher(len(at), self.window, damp=self.damp, normalize=self.normalize, dtype=at.dtype)
        if fisher.dim != len(at) or fisher.dtype != at.dtype:
            raise ValueError(
                f"theta must be as in the steps before, with {fisher.dim} free entries of dtype {fisher.dtype}; got "
                f"{len(at)} of dtype {at.dtype}. reset() forgets those steps"
            )
        return fisher


def _as_mask(mask: Any) -> Any:
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 1:
        raise ValueError(f"mask must be a 1-D array of bool; got dtype {mask.dtype} and shape {mask.shape}")
    if not mask.any():
        raise ValueError("mask must leave an entry free to move; all are frozen")
    return mask.copy()
