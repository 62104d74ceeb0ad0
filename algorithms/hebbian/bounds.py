"""What theory promises of continuous retrieval: separated patterns, their fixed points, and how many fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import wrightomega

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.hebbian._inputs import as_reals, working_dtypes
from numcore.algorithms.hebbian._tiles import Memory
from numcore.algorithms.hebbian._weights import row_spans, scores_of
from numcore.arrays import Array, array_namespace, as_count, as_number
from numcore.results import Result

__all__ = ["Bounds", "capacity_bound", "retrieval_bounds", "separation_margin"]


@dataclass(frozen=True, repr=False, eq=False)
class Bounds(Result):
    r"""What :func:`retrieval_bounds` returns. For a single pattern (d,), numbers.

    Attributes
    ----------
    margin : (K,) array
        :math:`\Delta_i`, as from :func:`separation_margin`.
    required_margin : (K,) array
        What is enough for a fixed point near a pattern, the same for all.
    separated : (K,) bool array
        Whether the margin is positive and enough.
    fixed_point_distance : (K,) array
        No further from the pattern lies a fixed point; inf where it is not separated.
    """

    margin: Array
    required_margin: Array
    separated: Array
    fixed_point_distance: Array


def separation_margin(patterns: Any) -> Any:
    r"""How far each pattern's product with itself is above those with all others.

    .. math:: \Delta_i = x_i \cdot x_i - \max_{j \ne i} x_i \cdot x_j

    Parameters
    ----------
    patterns : (K, d) or (d,) array

    Returns
    -------
    (K,) array, or float for a single pattern
        inf where there is no other; not positive for duplicates. float32 for float32, else float64.

    Raises
    ------
    TypeError, ValueError
        If `patterns` is not as described.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021, Definition 2.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import separation_margin
    >>> separation_margin([[3.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    array([ 9.,  2., -1.])
    """
    X, lengths = as_reals(patterns, "patterns")
    xp = array_namespace(X)
    kept, work = working_dtypes(xp, "patterns", (X, lengths))
    margin = xp.astype(_margins(Memory(X, lengths, "dot", work)), kept)
    return float(margin[0]) if np.ndim(patterns) == 1 else margin


def _margins(memory: Memory) -> Array:
    xp, K = array_namespace(memory.patterns), len(memory)
    if K == 1:
        return xp.sum(memory.rows(slice(0, 1)), axis=1) * 0 + xp.inf
    parts = []
    with on_one_thread():
        for rows in row_spans(memory.rows(slice(0, K)), memory):
            x = memory.rows(rows)
            own = xp.arange(K)[None, :] == xp.arange(rows.start, rows.stop)[:, None]
            rival = xp.argmax(xp.where(own, -xp.inf, scores_of(x, memory, None, rows)), axis=1)
            # the difference first: it is 0 for equal patterns, whose products may round apart
            others = xp.astype(xp.take(memory.patterns, rival, axis=0), x.dtype, copy=False)
            parts.append(xp.sum(x * (x - others), axis=1))
    return xp.concat(parts)


def retrieval_bounds(patterns: Any, *, beta: Any) -> Bounds:
    r"""Which patterns the continuous network is sure to hold, and how near to them its fixed points are.

    With :math:`M = \max_i \left\| x_i \right\|`, a pattern is well separated if

    .. math:: \Delta_i \ge \frac{2}{\beta K} + \frac1\beta \log\left(2 (K - 1) K \beta M^2\right),

    and then there is a fixed point :math:`x^*` of :func:`retrieve` with
    :math:`\left\| x^* - x_i \right\| \le 2 e (K - 1) M e^{-\beta \Delta_i}`.

    Parameters
    ----------
    patterns : (K, d) or (d,) array
    beta : float
        Inverse temperature; may be inf.

    Returns
    -------
    Bounds

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    The theorem is sufficient, not necessary: many patterns are retrieved that it does not promise.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021, Definition 2, Theorems 4 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import retrieval_bounds
    >>> bounds = retrieval_bounds(3 * np.eye(4), beta=1.0)
    >>> bounds.margin, bounds.required_margin.round(3), bounds.separated
    (array([9., 9., 9., 9.]), array([5.875, 5.875, 5.875, 5.875]), array([ True,  True,  True,  True]))
    >>> float(bounds.fixed_point_distance[0].round(4))
    0.006
    """
    X, lengths = as_reals(patterns, "patterns")
    beta = as_number(beta, "beta", above=0, infinite=True)
    xp, K, M = array_namespace(X), X.shape[0], float(array_namespace(X).max(lengths))
    kept, work = working_dtypes(xp, "patterns", (X, lengths))
    margin = xp.astype(_margins(Memory(X, lengths, "dot", work)), xp.float64)
    required = xp.full_like(margin, _required(K, M, beta))
    separated = (margin >= required) & (margin > 0)
    distance = xp.zeros_like(margin)
    if K > 1 and M > 0:
        distance = xp.exp(math.log(2 * math.e * (K - 1)) + math.log(M) - beta * xp.where(separated, margin, 1.0))
    figures = margin, required, separated, xp.where(separated, distance, xp.inf)
    figures = tuple(x if x.dtype == xp.bool else xp.astype(x, kept) for x in figures)
    return Bounds(*(x[0] for x in figures)) if np.ndim(patterns) == 1 else Bounds(*figures)


def _required(K: int, M: float, beta: float) -> float:
    """The margin that is enough; where its logarithm is of 0, any."""
    if K == 1 or M == 0:
        return -math.inf
    if beta == math.inf:
        return 0.0
    return (2 / K + math.log(2 * (K - 1) * K) + math.log(beta) + 2 * math.log(M)) / beta


def capacity_bound(*, dim: int, beta: Any = 1.0, radius: Any = 3.0, failure: Any = 0.001) -> tuple[float, float]:
    r"""How many random patterns on a sphere the continuous network stores at least: exponentially many.

    For patterns drawn from the sphere of radius :math:`k \sqrt{d - 1}`,

    .. math:: N \ge \sqrt p \, c^{(d - 1) / 4}, \qquad c = \frac{b}{W_0(e^{a + \log b})}, \qquad
              a = \frac{2}{d - 1} \left(1 + \log(2 \beta k^2 p (d - 1))\right), \quad b = \frac25 k^2 \beta,

    of them are all fixed points, but for a probability p.

    Parameters
    ----------
    dim : int
        d, at least 2.
    beta : float
        Inverse temperature.
    radius : float
        k.
    failure : float
        p, between 0 and 1.

    Returns
    -------
    c, n_patterns : float
        The base, and the bound on N: inf where it exceeds floats.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    The theorem asks for :math:`c \ge (2 / \sqrt p)^{4 / (d - 1)}`, that is for a bound of at least 2.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021, Theorem 3.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import capacity_bound
    >>> c, n_patterns = capacity_bound(dim=20)
    >>> round(c, 5), round(n_patterns, 2)
    (3.15461, 7.41)
    """
    d = as_count(dim, "dim", minimum=2)
    beta, k = as_number(beta, "beta", above=0), as_number(radius, "radius", above=0)
    p = as_number(failure, "failure", above=0, below=1)
    log_b = math.log(2 / 5) + 2 * math.log(k) + math.log(beta)
    a = 2 / (d - 1) * (1 + math.log(2 * (d - 1)) + math.log(beta) + 2 * math.log(k) + math.log(p))
    log_c = float(wrightomega(a + log_b)) - a  # it is W = W_0(e^(a + log b)), and W + log W = a + log b
    with np.errstate(over="ignore"):
        return float(np.exp(log_c)), float(np.exp(math.log(p) / 2 + (d - 1) / 4 * log_c))
