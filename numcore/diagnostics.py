"""How far to trust the average of a simulation: autocorrelation times, the jackknife, cumulants."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from numcore.arrays import as_count, as_floating, as_number
from numcore.results import ConvergenceWarning, Result

__all__ = ["AutocorrelationResult", "autocorrelation_time", "binder_cumulant", "jackknife"]

Array = NDArray[Any]

ENOUGH = 50
"""Autocorrelation times that a series should be long, for its own autocorrelation time to be believed."""


@dataclass(frozen=True, repr=False, eq=False)
class AutocorrelationResult(Result):
    """What :func:`autocorrelation_time` returns.

    Attributes
    ----------
    tau : float
        Integrated autocorrelation time, in records; 1 for independent ones.
    window : int
        Lag at which the sum was cut.
    ess : float
        Number of independent records worth as much, ``size / tau``.
    mean : float
    standard_error : float
        Of the mean.
    """

    tau: float
    window: int
    ess: float
    mean: float
    standard_error: float


def autocorrelation_time(x: Any, *, c: float = 5.0) -> AutocorrelationResult:
    r"""Integrated autocorrelation time of a stationary series, and the standard error of its mean.

    .. math:: \tau = 1 + 2 \sum_{t=1}^{W} \rho(t)

    with the smallest window :math:`W \ge c\,\tau(W)`: a longer sum is noisier, a shorter one is biased.

    Parameters
    ----------
    x : (T,) or (T, R) array
        A series, or R independent series of one law, whose autocovariances are averaged.
    c : float
        Window in units of :math:`\tau`.

    Returns
    -------
    AutocorrelationResult
        A constant series has ``tau=1`` and ``standard_error=0``.

    Raises
    ------
    ValueError
        If `x` is empty, has another shape or holds non-finite entries; if `c` is not positive.

    Warns
    -----
    ConvergenceWarning
        If `x` is shorter than 50 autocorrelation times: `tau` and the error are then too small, as a rule.

    References
    ----------
    N. Madras, A. D. Sokal, *The pivot algorithm*, J. Stat. Phys. 50, 1988, appendix C; U. Wolff, *Monte Carlo errors
    with less errors*, Comput. Phys. Commun. 156, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.diagnostics import autocorrelation_time
    >>> rng = np.random.default_rng(0)
    >>> x = np.zeros(100_000)
    >>> for t in range(1, len(x)):  # tau = (1 + 0.8) / (1 - 0.8)
    ...     x[t] = 0.8 * x[t - 1] + rng.standard_normal()
    >>> round(autocorrelation_time(x).tau)
    9
    """
    x = as_floating(x, "x", ndim=(1, 2), dtype=np.float64)
    if not x.size:
        raise ValueError(f"x must not be empty; got shape {x.shape}")
    c = as_number(c, "c", above=0)
    chains = x[:, None] if x.ndim == 1 else x
    length, size = len(chains), chains.size
    mean = float(chains.mean())
    deviations = chains - mean
    scale = float(np.abs(deviations).max())
    # rounding of the mean alone makes no fluctuation
    if scale <= 4 * np.finfo(np.float64).eps * abs(mean):
        return AutocorrelationResult(tau=1.0, window=0, ess=float(size), mean=mean, standard_error=0.0)
    covariance = autocovariance(deviations / scale)
    sums = 2 * np.cumsum(covariance) / covariance[0] - 1  # tau as a function of the window
    # where neighbours are anticorrelated tau falls below 1, but the correlations last no shorter
    long_enough = np.arange(length) >= c * np.maximum(sums, 1)
    window = int(np.argmax(long_enough)) if long_enough.any() else length - 1
    # anticorrelated series are better than independent ones; no sum can show more than one record per `size`
    tau = max(float(sums[window]), 1 / size)
    if size < ENOUGH * tau or not long_enough.any():
        warnings.warn(
            f"autocorrelation_time: {size} records are fewer than {ENOUGH} autocorrelation times of {tau:.3g}; "
            "the standard error is unreliable",
            ConvergenceWarning,
            stacklevel=2,
        )
    error = scale * float(np.sqrt(covariance[0] * tau / size))
    return AutocorrelationResult(tau=tau, window=window, ess=size / tau, mean=mean, standard_error=error)


def autocovariance(deviations: Array) -> Array:
    """Mean over the chains of the autocovariance at each lag, (T,), from deviations (T, R) by one transform."""
    length = len(deviations)
    padded = scipy.fft.next_fast_len(2 * length, real=True)
    power = np.abs(scipy.fft.rfft(deviations, padded, axis=0)) ** 2
    products: Array = scipy.fft.irfft(power.mean(axis=1), padded)[:length]
    return products / np.arange(length, 0, -1)


def binder_cumulant(m: Any, *, axis: int | tuple[int, ...] | None = None) -> Any:
    r"""Binder's cumulant, 0 for a normal law and 2/3 for two values :math:`\pm m`.

    .. math:: U = 1 - \frac{\langle m^4 \rangle}{3 \langle m^2 \rangle^2}

    Parameters
    ----------
    m : array_like
        Samples of an order parameter.
    axis : int or tuple of int, optional
        Axes to average over; default all.

    Returns
    -------
    float or array
        nan, with a RuntimeWarning, where all samples are zero.

    Raises
    ------
    ValueError
        If `m` is empty or holds non-finite entries.

    References
    ----------
    K. Binder, *Finite size scaling analysis of Ising model block distribution functions*, Z. Phys. B 43, 1981.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.diagnostics import binder_cumulant
    >>> round(binder_cumulant(np.array([0.7, -0.7, 0.7])), 4)
    0.6667
    """
    m = as_floating(m, "m", dtype=np.float64)
    if not m.size:
        raise ValueError(f"m must not be empty; got shape {m.shape}")
    largest = np.abs(m).max(axis=axis, keepdims=True)
    zero = np.squeeze(largest == 0, axis=axis)
    if zero.any():
        warnings.warn("binder_cumulant: all samples are 0, and their cumulant is nan", RuntimeWarning, stacklevel=2)
    squares = (m / np.where(largest > 0, largest, 1)) ** 2
    second, fourth = squares.mean(axis=axis), (squares**2).mean(axis=axis)
    cumulant = np.where(zero, np.nan, 1 - fourth / (3 * np.where(zero, 1, second) ** 2))
    return float(cumulant) if cumulant.ndim == 0 else cumulant


def jackknife(x: Any, func: Callable[[Array], Any], *, n_blocks: int = 20) -> tuple[Any, Any]:
    r"""Value and standard error of a function of averages, by leaving out one block of records after another.

    .. math:: \mathrm{SE}^2 = \frac{B - 1}{B} \sum_b ( f_{-b} - \bar f )^2

    Parameters
    ----------
    x : (T, ...) array
        Records along the first axis. Blocks should be longer than two autocorrelation times.
    func : callable
        ``func(records)`` for any number of records; returns a number or an array.
    n_blocks : int
        Blocks, 2 to T; their lengths differ by one at most.

    Returns
    -------
    estimate, standard_error : float or array
        The estimate is corrected for the bias of order 1/T.

    Raises
    ------
    TypeError
        If `func` is not callable, or `x` not real.
    ValueError
        If there are fewer records than blocks, or fewer than two blocks; if `x` holds non-finite entries.

    References
    ----------
    M. Quenouille, *Notes on bias in estimation*, Biometrika 43, 1956; B. Efron, *The Jackknife, the Bootstrap and Other
    Resampling Plans*, 1982, chapter 3.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.diagnostics import jackknife
    >>> x = np.random.default_rng(0).standard_normal(2000)
    >>> value, error = jackknife(x, np.mean)
    >>> bool(np.isclose(error, x.std() / np.sqrt(x.size), rtol=0.4))
    True
    """
    if not callable(func):
        raise TypeError(f"func must be callable; got {func!r}")
    x = as_floating(x, "x")
    if x.ndim == 0:
        raise ValueError("x must have a first axis of records; got a number")
    n_blocks = as_count(n_blocks, "n_blocks", minimum=2)
    if len(x) < n_blocks:
        raise ValueError(f"n_blocks must be at most the number of records, {len(x)}; got {n_blocks}")
    whole = np.asarray(func(x), dtype=np.float64)
    edges = np.linspace(0, len(x), n_blocks + 1).astype(int)
    left_out = np.stack(
        [np.asarray(func(np.concatenate([x[:start], x[stop:]])), dtype=np.float64) for start, stop in pairwise(edges)]
    )
    centre = left_out.mean(axis=0)
    estimate = n_blocks * whole - (n_blocks - 1) * centre
    error = np.sqrt((n_blocks - 1) / n_blocks * ((left_out - centre) ** 2).sum(axis=0))
    return (estimate[()], error[()])
