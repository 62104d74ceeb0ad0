"""How much one sweep at zero temperature keeps of an archetype, and how poor the examples may be for that."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import erf, erfc

from numcore.algorithms.hebbian._checks import as_order
from numcore.algorithms.hebbian._replica import Replica, as_load, make_replica
from numcore.arrays import as_count, as_number

__all__ = ["detection_threshold", "krotov_hopfield_error", "one_step_magnetization"]


def one_step_magnetization(
    *,
    order: int,
    load: float,
    quality: float = 1.0,
    n_examples: int = 1,
    learning: str = "supervised",
    interaction: str = "distinct",
    averaging: str = "auto",
) -> float:
    r"""Overlap with the archetype after all spins were updated once, at zero temperature, from the archetype itself.

    With the dataset entropies rho and rho_P (:func:`dataset_entropy`) and Gaussian averaging,

    .. math:: m = \operatorname{erf} \frac{1}{\sqrt{2 (\rho + \alpha (P - 1)! (1 + \rho)^P)}}

    for supervised learning; for unsupervised learning :math:`1 + \rho_P` takes the place of :math:`(1 + \rho)^P`. With
    repeated indices ``(2P - 3)!!`` takes that of ``(P - 1)!``.

    Parameters
    ----------
    order, load, quality, n_examples, learning, interaction, averaging
        As for :func:`self_consistency`.

    Returns
    -------
    float
        0 where `quality` is 0.

    Raises
    ------
    TypeError, ValueError
        As for :func:`self_consistency`.

    References
    ----------
    .. [1] E. Agliari et al., "Dense Hebbian neural networks: a replica symmetric picture of supervised learning",
       Physica A, 2023, and "... of unsupervised learning", 2023: the signal-to-noise analysis.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import one_step_magnetization
    >>> round(one_step_magnetization(order=3, load=0.05, quality=0.5, n_examples=10), 4)
    0.8263
    >>> round(one_step_magnetization(order=3, load=0.05, quality=0.5, n_examples=10, averaging="gaussian"), 4)
    0.8346
    """
    replica = make_replica(
        order=order,
        quality=quality,
        n_examples=n_examples,
        learning=learning,
        interaction=interaction,
        averaging=averaging,
    )
    return _one_step(replica, as_load(load, "alpha", replica.order))


def _one_step(replica: Replica, load: float) -> float:
    r, P, law = replica.quality, replica.order, replica.mixture
    if r == 0:
        return 0.0
    # the archetype has overlap r / sqrt(R) with the stored pattern: that is the signal, per unit of t
    signal = law.mean ** (P - 1) * law.t
    noise = law.mean ** (2 * P - 2) * law.spread + load * replica.kernel.slope(1.0) / (P / 2) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(signal == 0, 0.0, signal / np.sqrt(2 * noise))
    return float(law.w @ erf(ratio))


def detection_threshold(
    *,
    order: int,
    n_features: int,
    n_patterns: int,
    n_examples: int,
    learning: str = "unsupervised",
    target: float = 0.9,
) -> float:
    """The poorest quality of examples from which archetypes can still be learned.

    Parameters
    ----------
    order : int
        P; at least 3 for unsupervised learning.
    n_features, n_patterns, n_examples : int
        N, K and M.
    learning : {"unsupervised", "supervised"}
        As for :func:`self_consistency`.
    target : float in (0, 1)
        What :func:`one_step_magnetization` has to reach.

    Returns
    -------
    float
        The quality, 0 to 1; nan where even perfect examples do not reach the target.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Notes
    -----
    While K grows more slowly than ``N^(P - 1)``, the threshold falls. Supervised learning needs ``r ~ M^(-1/2)`` at
    least; unsupervised learning ``r ~ [K (P - 1)! / (M N^(P - 1))]^(1 / (2P))``, which goes to 0 with growing N.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import detection_threshold
    >>> [round(detection_threshold(order=3, n_features=N, n_patterns=N, n_examples=100), 3) for N in (100, 1000, 10000)]
    [0.305, 0.221, 0.178]
    """
    P, N = as_order(order), as_count(n_features, "n_features")
    K, M = as_count(n_patterns, "n_patterns"), as_count(n_examples, "n_examples")
    target = as_number(target, "target", above=0, below=1)

    def excess(r: float) -> float:
        replica = make_replica(order=P, quality=r, n_examples=M, learning=learning)
        return _one_step(replica, K / N ** (P - 1)) - target

    if excess(1.0) < 0:
        return float("nan")
    return float(brentq(excess, 0.0, 1.0, xtol=1e-12))


def krotov_hopfield_error(n_features: int, n_patterns: int, order: int) -> float:
    r"""The probability that the dense memory of Krotov and Hopfield flips a given spin of a stored pattern.

    .. math:: P_{err} = Q\left( \sqrt{\frac{N^{n - 1}}{K (2n - 3)!!}} \right)

    with Q the upper tail of the Gaussian, for ``F(x) = x^n`` on all of n's indices.

    Parameters
    ----------
    n_features, n_patterns : int
        N and K.
    order : int
        n, at least 2.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Notes
    -----
    Its limit for small errors is the paper's ``sqrt((2n - 3)!! K / (2 pi N^(n-1))) exp(-N^(n-1) / (2 K (2n - 3)!!))``.
    It holds for large N: at N = 60 it gives the order of magnitude.

    References
    ----------
    .. [1] D. Krotov and J. J. Hopfield, "Dense Associative Memory for Pattern Recognition", NeurIPS 2016, equation 4.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import krotov_hopfield_error
    >>> round(krotov_hopfield_error(60, 300, 3), 4)
    0.0228
    """
    N, K, n = as_count(n_features, "n_features"), as_count(n_patterns, "n_patterns"), as_order(order)
    odd = np.arange(1, 2 * n - 2, 2, dtype=np.float64)
    log_ratio = (n - 1) * np.log(N) - np.log(K) - np.log(odd).sum()
    return float(erfc(np.exp(log_ratio / 2) / np.sqrt(2)) / 2)
