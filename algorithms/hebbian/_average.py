"""Averages over the field of one spin: Gaussian noise, and the luck that the spin had with its examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import erf, expit, gammaln, xlogy

__all__ = ["Averages", "Mixture", "field_average", "log_2cosh", "mixture_of", "stability_and_entropy"]

Array = np.ndarray[Any, Any]

REACH = 8.0  # of the Gaussian: the mass beyond is 1e-15
TURN = 12.0  # tanh is 1 to 4e-11 from here on
COLD = 1e4
SHARP = 1e6  # a step that is so much narrower than the noise is a sign to 1e-12
SMALLEST_WEIGHT = 1e-17


@dataclass(frozen=True)
class Mixture:
    """The law of t, what a stored pattern holds at a spin times the archetype.

    It is ``t_k + sqrt(spread) g`` with weight w_k. Its second moment is 1, its mean ``r / sqrt(R)``.
    """

    t: Array
    w: Array
    spread: float
    mean: float


def mixture_of(quality: float, n_examples: int, averaging: str) -> Mixture:
    """The law of the mean of `n_examples` examples of the given quality, divided by sqrt(R)."""
    r, M = quality, n_examples
    R = r**2 + (1 - r**2) / M
    mean = r / np.sqrt(R)
    if averaging == "gaussian":
        return Mixture(np.array([mean]), np.ones(1), (1 - r**2) / (M * R), mean)
    k = np.arange(M + 1)
    log_w = gammaln(M + 1) - gammaln(k + 1) - gammaln(M - k + 1) + xlogy(k, (1 + r) / 2) + xlogy(M - k, (1 - r) / 2)
    w = np.exp(log_w)
    kept = w > SMALLEST_WEIGHT * w.max()
    return Mixture(((2 * k - M) / (M * np.sqrt(R)))[kept], w[kept] / w[kept].sum(), 0.0, mean)


class Averages(NamedTuple):
    """``m = E tanh h``, ``x = E t tanh h``, ``q = E tanh^2 h`` and ``chi = beta (1 - q)``, which is finite at T = 0."""

    m: Array
    x: Array
    q: Array
    chi: Array


def field_average(mixture: Mixture, beta: float, a: Any, s: Any, n_nodes: int) -> Averages:
    """Averages over the field ``h = beta (a t + s Z)`` for arrays `a`, `s` of one shape."""
    a, s = np.asarray(a, dtype=np.float64), np.asarray(s, dtype=np.float64)
    shift, width = _shift_and_width(mixture, a, s)
    if np.isinf(beta):
        m_k, chi_k = _frozen(shift, width)
        q_k = np.ones_like(m_k)
    else:
        m_k, q_k, chi_k = _warm(beta, shift, width, n_nodes)
        sharp = beta * width > SHARP
        if sharp.any():
            m, chi = _frozen(shift, width)
            m_k, chi_k = np.where(sharp, m, m_k), np.where(sharp, chi, chi_k)
            q_k = np.where(sharp, 1 - chi / beta, q_k)
    chi = chi_k @ mixture.w
    x = m_k @ (mixture.w * mixture.t)
    if mixture.spread > 0:  # Gaussian integration by parts over what spreads
        x = x + mixture.spread * a * chi
    return Averages(m_k @ mixture.w, x, q_k @ mixture.w, chi)


def stability_and_entropy(mixture: Mixture, beta: float, a: Any, s: Any, n_nodes: int) -> tuple[Array, Array]:
    """``E sech^4 h`` and ``E log 2 cosh h`` at finite beta."""
    shift, width = _shift_and_width(mixture, np.asarray(a, dtype=np.float64), np.asarray(s, dtype=np.float64))
    z, weights = _nodes(beta, shift, width, n_nodes)
    h = beta * (shift[..., None] + width[..., None] * z)
    sech4 = np.einsum("...z,...z->...", weights, (1 - np.tanh(h) ** 2) ** 2)
    log_cosh = np.einsum("...z,...z->...", weights, log_2cosh(h))
    return sech4 @ mixture.w, log_cosh @ mixture.w


def log_2cosh(h: Array) -> Array:
    """Of any size."""
    return np.abs(h) + np.log1p(np.exp(-2 * np.abs(h)))


def _warm(beta: float, shift: Array, width: Array, n_nodes: int) -> tuple[Array, Array, Array]:
    """``E tanh h``, ``E tanh^2 h`` and beta times its distance from 1."""
    z, weights = _nodes(beta, shift, width, n_nodes)
    z *= width[..., None]
    z += shift[..., None]
    z *= beta
    T = np.tanh(z)
    m = np.einsum("...z,...z->...", weights, T)
    q = np.einsum("...z,...z->...", weights, T * T)
    if beta < COLD:
        return m, q, beta * (1 - q)
    u = expit(-2 * np.abs(z))  # 1 - tanh^2 = 4 u (1 - u), without the cancellation that beta would enlarge
    return m, q, 4 * beta * np.einsum("...z,...z->...", weights, u * (1 - u))


def _frozen(shift: Array, width: Array) -> tuple[Array, Array]:
    """``m`` and ``chi`` at zero temperature, where tanh is a sign: right up to the square of the width of the step."""
    D = _ratio(shift, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.sqrt(2 / np.pi) * np.exp(-np.minimum(D**2, 1400) / 2) / width
    return erf(D / np.sqrt(2)), np.where(width > 0, density, 0.0)


def _shift_and_width(mixture: Mixture, a: Array, s: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of ``a t + s Z`` given k, which is the last axis."""
    shift = a[..., None] * mixture.t
    width = np.sqrt(s**2 + a**2 * mixture.spread)[..., None] + np.zeros_like(shift)
    return shift, width


def _ratio(shift: Array, width: Array) -> Array:
    """``shift / width``; infinite with the sign of the shift where the width is 0, but 0 / 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(shift == 0, 0.0, shift / width)


def _nodes(beta: float, shift: Array, width: Array, n_nodes: int) -> tuple[Array, Array]:
    """Gauss-Legendre in four panels that meet where the field changes sign: a tanh may be a step there.

    Gauss-Hermite nodes, which do not know where, are wrong by a per cent once the step is narrower than their spacing.
    """
    points, rule = _legendre(-(-n_nodes // 4))
    zero = np.clip(-_ratio(shift, width), 1.5 - REACH, REACH - 1.5)
    with np.errstate(divide="ignore", over="ignore"):
        step = np.minimum(TURN / (beta * width), REACH / 2)
    edges = np.stack([np.full_like(zero, -REACH), zero - step, zero, zero + step, np.full_like(zero, REACH)], axis=-1)
    np.clip(edges, -REACH, REACH, out=edges)
    half = (edges[..., 1:] - edges[..., :-1]) / 2
    z = (edges[..., :-1] + half)[..., None] + half[..., None] * points
    weights = np.exp(-(z**2) / 2)
    weights *= (half[..., None] / np.sqrt(2 * np.pi)) * rule
    shape = (*zero.shape, 4 * len(points))
    return z.reshape(shape), weights.reshape(shape)


@cache
def _legendre(n: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(n)
