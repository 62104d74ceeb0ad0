"""Convolutional sparse coding: an image as a sum of small filters, each convolved with a sparse map."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from numcore.algorithms.sparse_coding._atoms import power_of_two
from numcore.arrays import as_count, as_floating, as_number
from numcore.prox import l1
from numcore.results import ConvergenceWarning, Loop, Result

__all__ = ["ConvCodeResult", "conv_encode", "conv_update"]

Array = NDArray[Any]

RELAXATION = 1.8
LEAST = 1e-2
"""Maps smaller than this part of what would make the image are zero for the purpose of relative residuals."""

ORDINARY = 32.0
"""Filters with norms up to this, or down to its inverse, are taken as they are."""

TINY = float(np.finfo(np.float64).tiny)

BALANCE, FACTOR = 10.0, 2.0
"""Where one residual exceeds the other by the first, rho changes by the second."""


@dataclass(frozen=True, repr=False, eq=False)
class ConvCodeResult(Result):
    """Coefficient maps of images over convolutional filters.

    Attributes
    ----------
    code : (m, h, w) or (n, m, h, w) array
        A map for each filter, with zeros that are exact, in the dtype of the images.
    objective : float or (n,) array
        ``|sum_m d_m * a_m - x|^2 / 2 + reg sum |a|``.
    primal_residual, dual_residual : float or (n,) array
        How far the two copies of the maps differ, and how far the last iteration moved them, relative to their size.
    converged : bool
        Whether both were at most `tol` for all images.
    n_iter : int
    history : dict of arrays
        ``error``, the larger residual of the worst image, and ``objective``, the sum over the images, by iteration.
    """

    code: Array
    objective: Any
    primal_residual: Any
    dual_residual: Any
    converged: bool
    n_iter: int
    history: dict[str, NDArray[np.float64]]


def conv_encode(
    images: ArrayLike,
    filters: ArrayLike,
    *,
    reg: float = 0.05,
    rho: float | None = None,
    tol: float = 1e-3,
    max_iter: int = 200,
) -> ConvCodeResult:
    r"""Code images over filters that may stand anywhere: by ADMM, with the quadratic part solved in the Fourier domain.

    .. math:: \min_a \tfrac12 \left\| \sum_m d_m * a_m - x \right\|^2 + reg \sum_m \|a_m\|_1

    The convolution is circular: what leaves the image on one side comes in on the other. Pad the images where that
    matters. A coefficient at (i, j) places the filter with its first entry there.

    Parameters
    ----------
    images : (h, w) or (n, h, w) array_like
        Each is coded by itself.
    filters : (m, fh, fw) array_like
        Not larger than the images.
    reg : float, not negative
        The regularisation.
    rho : float, optional
        The penalty that ADMM begins with; by default ``50 reg / s + 0.5``, with s the largest magnitude in an image, up
        to a power of two. It is then doubled or halved where one residual is ten times the other. Filters whose norms
        are far from 1 are divided by the largest first, up to a power of two, and `reg` with them.
    tol : float
        Both residuals, relative, have to be at most this.
    max_iter : int

    Returns
    -------
    ConvCodeResult

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If shapes do not match, entries are not finite, or a parameter lies outside its range.

    Warns
    -----
    ConvergenceWarning
        If an image did not reach `tol`.

    Notes
    -----
    At each frequency the system ``(conj(d) d^T + rho I) a = b`` is one of rank one plus a diagonal, solved in closed
    form. float32 images are worked on in float32.

    References
    ----------
    .. [1] B. Wohlberg, "Efficient Algorithms for Convolutional Sparse Representations", IEEE Trans. Image Process.
       25(1), 2016, equations 12 to 22.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import conv_encode
    >>> image = np.zeros((16, 16))
    >>> image[3:5, 3:5] = 2.0
    >>> result = conv_encode(image, np.full((1, 2, 2), 0.5), reg=0.1, tol=1e-8, max_iter=1000)
    >>> np.argwhere(result.code > 1e-3), result.code.max().round(3)
    (array([[0, 3, 3]]), np.float64(3.9))
    """
    reg = as_number(reg, "reg", above=0, closed=True)
    x, d = _as_images(images, filters)
    single = x.ndim == 2
    x = x[None] if single else x
    scales = np.array([power_of_two(image) for image in x])
    rho = None if rho is None else as_number(rho, "rho", above=0)
    loop = Loop("conv_encode", tol=as_number(tol, "tol", above=0, closed=True), max_iter=max_iter)
    unit = _unit(d)
    scaled = (x / scales[:, None, None]).astype(x.dtype), (d / unit).astype(x.dtype)
    admm = _Admm(*scaled, reg / unit / scales, rho)
    for _ in loop.stage():
        admm.step()
        objectives = admm.objective() * scales**2
        residuals = np.maximum(admm.primal, admm.dual)
        loop.report(float(residuals.max()), objective=float(objectives.sum()))
    _warn_unless(loop, int(np.count_nonzero(residuals > loop.tol)), len(x))
    code = (admm.y * (scales[:, None, None, None] / unit)).astype(x.dtype)
    objective, primal, dual = (float(part[0]) if single else part for part in (objectives, admm.primal, admm.dual))
    return ConvCodeResult(code[0] if single else code, objective, primal, dual, **loop.outcome)


def _unit(d: Array) -> float:
    """What the filters are divided by: 1 where the largest has a norm near 1, else a power of two near that norm."""
    top = power_of_two(d)
    unit = top * power_of_two(np.linalg.norm(d.astype(np.float64) / top, axis=(1, 2)))
    return 1.0 if 1 / ORDINARY <= unit <= ORDINARY else unit


def _warn_unless(loop: Loop, missed: int, count: int) -> None:
    if not loop.converged:
        warnings.warn(
            f"conv_encode did not converge for {missed} of {count} images: {loop.n_iter} iterations left a residual of"
            f" {loop.error:.2g}, with tol {loop.tol:.2g}. Raise max_iter or tol.",
            ConvergenceWarning,
            stacklevel=3,
        )


class _Admm:
    """The iteration of Wohlberg (2016) for n images, each with its rho: maps a (dense), y (sparse), scaled dual u."""

    def __init__(self, x: Array, d: Array, regs: Array, rho: float | None) -> None:
        self.shape = x.shape[1:]
        self.dtype = x.dtype
        self.regs = regs
        self.rho = 50 * regs + 0.5 if rho is None else np.full(len(x), rho)
        self.x = x
        self.x_hat = self._to(x)[:, None]
        self.d_hat = self._to(d, self.shape)
        self.power = np.sum(abs(self.d_hat) ** 2, axis=0)
        energy = np.sum(x.astype(np.float64) ** 2, axis=(1, 2))
        self.least = LEAST * np.sqrt(energy) / np.sqrt(max(float(self.power.max()), TINY))
        self.y = np.zeros((len(x), len(d), *self.shape), x.dtype)
        self.u = np.zeros_like(self.y)
        self.y_hat = np.zeros((len(x), *self.d_hat.shape), self.d_hat.dtype)
        self.u_hat = np.zeros_like(self.y_hat)
        self.primal = self.dual = np.ones(len(x))

    def _to(self, x: Array, shape: tuple[int, ...] | None = None) -> Array:
        return scipy.fft.rfft2(x, s=shape)

    def _back(self, x: Array) -> Array:
        return scipy.fft.irfft2(x, s=self.shape)

    def _each(self, values: Array) -> Array:
        """One number an image, to be broadcast over its maps."""
        return values.astype(self.dtype)[:, None, None, None]

    def step(self) -> None:
        """One iteration, and the residuals after it."""
        rho, d_hat = self._each(self.rho), self.d_hat
        b = np.conj(d_hat) * self.x_hat + rho * (self.y_hat - self.u_hat)
        # (conj(d) d^T + rho I) a = b, by the formula of Sherman and Morrison
        inner = np.sum(d_hat * b, axis=1, keepdims=True) / (rho + self.power)
        a_hat = (b - np.conj(d_hat) * inner) / rho
        a, before, before_hat = self._back(a_hat), self.y, self.y_hat
        relaxed = RELAXATION * a + (1 - RELAXATION) * before
        self.y = l1(relaxed + self.u, self._each(self.regs / self.rho))
        self.y_hat = self._to(self.y)
        self.u = self.u + relaxed - self.y
        # the same in the Fourier domain, which saves a transform
        self.u_hat = self.u_hat + RELAXATION * a_hat + (1 - RELAXATION) * before_hat - self.y_hat
        size = np.maximum(np.maximum(_norms(a), _norms(self.y)), self.least)
        self.primal = _ratio(_norms(a - self.y), size)
        self.dual = _ratio(_norms(self.y - before), _norms(self.u))
        self._balance()

    def _balance(self) -> None:
        """Move rho towards equal residuals; the scaled dual goes the other way."""
        both = (self.primal > 0) & (self.dual > 0)  # maps that stay zero say nothing about rho
        change = np.where(both & (self.primal > BALANCE * self.dual), FACTOR, 1.0)
        change = np.where(both & (self.dual > BALANCE * self.primal), 1 / FACTOR, change)
        if np.any(change != 1):
            self.rho = self.rho * change
            self.u, self.u_hat = self.u / self._each(change), self.u_hat / self._each(change)

    def objective(self) -> Array:
        """Of the sparse maps, image by image."""
        fit = self._back(np.sum(self.d_hat * self.y_hat, axis=1)) - self.x
        square = np.sum(fit.astype(np.float64) ** 2, axis=(1, 2))
        return square / 2 + self.regs * np.sum(abs(self.y), axis=(1, 2, 3), dtype=np.float64)


def _norms(x: Array) -> Array:
    return np.sqrt(np.sum(x.astype(np.float64, copy=False) ** 2, axis=(1, 2, 3)))


def _ratio(part: Array, whole: Array) -> Array:
    """Relative sizes; nothing of nothing is 0."""
    return np.where(part > 0, part / np.where(whole > 0, whole, 1.0), 0.0)


def conv_update(images: ArrayLike, code: ArrayLike, filters: ArrayLike, *, max_iter: int = 20) -> Array:
    r"""Better filters for given maps: projected gradient steps on the error, with momentum.

    .. math:: \min_d \tfrac12 \sum_x \left\| \sum_m d_m * a_m - x \right\|^2,
        \qquad \|d_m\| \le 1, \; d_m \text{ of the size it has}

    With :func:`conv_encode` in turn it learns filters from images.

    Parameters
    ----------
    images : (h, w) or (n, h, w) array_like
    code : (m, h, w) or (n, m, h, w) array_like
        The maps of each.
    filters : (m, fh, fw) array_like
        Where to begin; the result has this shape.
    max_iter : int
        Steps. The error never rises.

    Returns
    -------
    (m, fh, fw) array
        Each of norm 1 at most, in the dtype of the images.

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If shapes do not match, or entries are not finite.

    References
    ----------
    .. [1] B. Wohlberg, "Efficient Algorithms for Convolutional Sparse Representations", IEEE Trans. Image Process.
       25(1), 2016, section V (the constraint set).
    .. [2] A. Beck, M. Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM
       J. Imaging Sci. 2(1), 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import conv_update
    >>> code = np.zeros((1, 8, 8))
    >>> code[0, 2, 2] = 2.0
    >>> image = np.zeros((8, 8))
    >>> image[2:4, 2:4] = [[0.6, 0.0], [0.0, 0.8]]
    >>> conv_update(image, code, np.full((1, 2, 2), 0.5)).round(3)
    array([[[0.3, 0. ],
            [0. , 0.4]]])
    """
    x, d = _as_images(images, filters)
    a = as_floating(code, "code", shape=(*x.shape[:-2], len(d), *x.shape[-2:]))
    max_iter = as_count(max_iter, "max_iter")
    x, a = (x[None], a[None]) if x.ndim == 2 else (x, a)
    scale = max(power_of_two(x), power_of_two(a))
    error = _FilterError(x.astype(np.float64) / scale, a.astype(np.float64) / scale, d.shape[1:])
    best = _in_ball(d.astype(np.float64))
    if error.lipschitz > 0:
        best = _descended(error, best, max_iter)
    return best.astype(x.dtype)


class _FilterError:
    """The squared error of filters for given maps, by the Fourier domain."""

    def __init__(self, x: Array, a: Array, support: tuple[int, ...]) -> None:
        self.x, self.support, self.shape = x, support, x.shape[1:]
        self.a_hat = scipy.fft.rfft2(a)
        self.lipschitz = float(np.max(np.sum(abs(self.a_hat) ** 2, axis=(0, 1))))

    def __call__(self, d: Array) -> tuple[float, Array]:
        """The error and its gradient."""
        d_hat = scipy.fft.rfft2(d, s=self.shape)
        residual = scipy.fft.irfft2(np.sum(d_hat * self.a_hat, axis=1), s=self.shape) - self.x
        r_hat = scipy.fft.rfft2(residual)[:, None]
        full = scipy.fft.irfft2(np.sum(np.conj(self.a_hat) * r_hat, axis=0), s=self.shape)
        return float(np.sum(residual**2)) / 2, full[:, : self.support[0], : self.support[1]]


def _descended(error: _FilterError, d: Array, max_iter: int) -> Array:
    """FISTA that starts again, without momentum, from the best filters where the error rose."""
    value, ahead, t = error(d)[0], d, 1.0
    for _ in range(max_iter):
        new = _in_ball(ahead - error(ahead)[1] / error.lipschitz)
        reached = error(new)[0]
        if reached > value:
            if t == 1.0:
                break
            ahead, t = d, 1.0
            continue
        following = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead = new + (t - 1) / following * (new - d)
        d, value, t = new, reached, following
    return d


def _in_ball(d: Array) -> Array:
    top = np.max(abs(d), axis=(1, 2), keepdims=True)
    top = np.where(top > 0, top, 1.0)
    return d / np.maximum(1.0, top * np.linalg.norm(d / top, axis=(1, 2), keepdims=True))


def _as_images(images: Any, filters: Any) -> tuple[Array, Array]:
    """Checked images and filters, in the dtype of the images."""
    x: Array = as_floating(images, "images", ndim=(2, 3))
    d: Array = as_floating(filters, "filters", ndim=3, dtype=x.dtype)
    if not x.size:
        raise ValueError(f"images must have pixels; got shape {x.shape}")
    if not d.size:
        raise ValueError(f"filters must have entries; got shape {d.shape}")
    if any(f > s for f, s in zip(d.shape[1:], x.shape[-2:], strict=True)):
        raise ValueError(f"filters must not be larger than images, {x.shape[-2:]}; got shape {d.shape}")
    return x, d
