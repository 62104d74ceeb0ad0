"""Retrieval from a continuous modern Hopfield network: the update that is attention, and its energy."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from array_api_compat import device

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.hebbian._inputs import as_mask, as_reals, as_top_k, as_values, usable_beta, working_dtypes
from numcore.algorithms.hebbian._tiles import Attention, Memory, attend, row_norms
from numcore.algorithms.hebbian._weights import row_spans, scores_of, weigh
from numcore.arrays import Array, array_namespace, as_choice, as_count, as_number, eps_of, to_numpy
from numcore.results import ConvergenceWarning, Result

__all__ = ["RetrievalResult", "hopfield_energy", "retrieve"]

Separation = Literal["softmax", "sparsemax", "entmax15", "topk"]
Similarity = Literal["dot", "cosine", "euclidean"]


@dataclass(frozen=True, repr=False, eq=False)
class RetrievalResult(Result):
    """What :func:`retrieve` returns. For a single query, without the first axis.

    Attributes
    ----------
    states : (Q, d) or (Q, dv) array
        What was retrieved: a mean of the patterns, or of the values, under the last weights.
    n_iter : (Q,) int64 array
        Updates made.
    converged : (Q,) bool array
        Whether the last update moved the state by at most `tol`, or by no more than rounding does.
    entropy : (Q,) array
        Of the last weights, in nats.
    effective_patterns : (Q,) array
        ``exp(entropy)``: how many patterns share the weight.
    top_index : (Q,) int64 array
        The pattern with the largest weight; the first of equal ones.
    top_weight : (Q,) array
        Its weight.
    kind : (Q,) array of str
        "single" below 1.5 effective patterns; "global" where they are more than half of all that are not masked, and
        these are more than two; else "metastable".
    weights : (Q, K) array or None
        The last weights, if they were asked for.
    """

    states: Array
    n_iter: Array
    converged: Array
    entropy: Array
    effective_patterns: Array
    top_index: Array
    top_weight: Array
    kind: Any
    weights: Array | None


def retrieve(
    queries: Any,
    patterns: Any,
    *,
    values: Any = None,
    beta: Any = 1.0,
    n_steps: int = 1,
    tol: float = 1e-6,
    separation: Separation = "softmax",
    similarity: Similarity = "dot",
    top_k: int | None = None,
    mask: Any = None,
    skip_tol: float = 1e-8,
    return_weights: bool = False,
) -> RetrievalResult:
    r"""Retrieve what a continuous Hopfield network holds nearest to queries.

    .. math:: \xi \leftarrow X^\top p, \qquad p = \operatorname{softmax}(\beta X \xi)

    One step with values is attention; steps until nothing moves descend :func:`hopfield_energy` to a fixed point, which
    is a pattern where these are separated (:func:`retrieval_bounds`), else a mean of similar ones.

    Parameters
    ----------
    queries : (Q, d) or (d,) array
        The states :math:`\xi` to begin with.
    patterns : (K, d) or (d,) array
        The rows of X.
    values : (K, dv) or (K,) array, optional
        What is averaged in the place of the patterns, at each query's last step.
    beta : float
        Inverse temperature; inf takes the pattern with the largest score, or the mean of those.
    n_steps : int
        Updates at most.
    tol : float
        A query is done once an update moves it by at most this, in the Euclidean norm.
    separation : {"softmax", "sparsemax", "entmax15", "topk"}
        How scores become weights; "topk" is softmax over the `top_k` largest.
    similarity : {"dot", "cosine", "euclidean"}
        The scores: :math:`x \cdot \xi`; that divided by both norms, 0 for a zero vector; or
        :math:`-\left\| \xi - x \right\|^2 / 2`.
    top_k : int, optional
        Leave weight to so many of the largest scores only, with any separation; of equal ones to the first.
    mask : (K,) or (Q, K) bool array, optional
        False for patterns without weight.
    skip_tol : float
        The weight of each query that may be left out in all, to save work, in softmax over all patterns.
    return_weights : bool
        Whether to keep the weights, a (Q, K) array. Without them memory does not grow with Q K.

    Returns
    -------
    RetrievalResult
        float32 if queries, patterns and values are, else float64.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, `top_k` is missing with "topk", a query has no pattern left, or the entries
        are so large that scores overflow.

    Warns
    -----
    ConvergenceWarning
        If `n_steps` is above 1 and some queries still moved at the last.

    Notes
    -----
    Softmax over all patterns runs through tiles of queries and patterns, with a running maximum and sum for each query;
    tiles whose patterns cannot matter are skipped [1]_ to a weight of `skip_tol`. The others need a row of scores for a
    few queries at a time. Results do not depend on the number of threads.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021, eq. 3. J. Hu et al., *On Sparse Modern Hopfield
    Model*, NeurIPS 2023 (sparsemax); S. Santos et al., *Sparse and Structured Hopfield Networks*, ICML 2024 (entmax);
    B. Millidge et al., *Universal Hopfield Networks*, ICML 2022 (similarities).

    .. [1] M. Milakov and N. Gimelshein, *Online normalizer calculation for softmax*, 2018, Algorithm 3.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import retrieve
    >>> X = np.random.default_rng(0).normal(size=(1000, 50))
    >>> damaged = X[:3] * (np.arange(50) < 30)
    >>> result = retrieve(damaged, X, beta=1.0, n_steps=5)
    >>> result.top_index, result.kind, result.converged
    (array([0, 1, 2]), array(['single', 'single', 'single'], dtype='<U10'), array([ True,  True,  True]))
    >>> bool(np.allclose(result.states, X[:3], atol=1e-3))
    True
    """
    X, lengths = as_reals(patterns, "patterns")
    xi, others = as_reals(queries, "queries", X)
    flat, bare, V = np.ndim(queries) == 1, False, None
    given = [(X, lengths), (xi, others)]
    if values is not None:
        V, sizes, bare = as_values(values, X)
        given.append((V, sizes))
    xp = array_namespace(*(x for x, _ in given))
    kept, work = working_dtypes(xp, "queries, patterns and values", *given)
    beta = as_number(beta, "beta", above=0, infinite=True)
    n_steps, tol = as_count(n_steps, "n_steps"), as_number(tol, "tol", above=0, closed=True, infinite=True)
    as_choice(separation, "separation", ("softmax", "sparsemax", "entmax15", "topk"))
    as_choice(similarity, "similarity", ("dot", "cosine", "euclidean"))
    top_k, mask = as_top_k(top_k, separation, X), as_mask(mask, xi, X, flat)
    skip_tol = as_number(skip_tol, "skip_tol", above=0, below=1, closed=True)

    memory, beta = Memory(X, lengths, similarity, work), usable_beta(xp, beta, work)
    rule = _Rule(memory, mask, beta, separation, top_k, skip_tol, return_weights)
    with on_one_thread():
        found = _descended(rule, xp.astype(xi, work, copy=False), V, n_steps, tol)
    states, attention, weights, n_iter, converged = found
    if n_steps > 1 and not bool(xp.all(converged)):
        _warn_moving(converged, n_steps, tol)
    states = states[:, 0] if bare else states
    return _result(states, attention, weights, n_iter, converged, _alive(mask, xi, X), kept, flat)


class _Rule:
    """How weights come from scores."""

    def __init__(
        self,
        memory: Memory,
        mask: Array | None,
        beta: float,
        separation: str,
        top_k: int | None,
        skip_tol: float,
        keep: bool,
    ) -> None:
        self.memory, self.mask, self.beta, self.separation, self.top_k = memory, mask, beta, separation, top_k
        self.skip = math.log(skip_tol / len(memory)) if skip_tol else -math.inf
        self.keep = keep

    def __call__(
        self, xi: Array, which: Array, values: tuple[Array, ...], near: Array, keep: bool
    ) -> tuple[Attention, Array | None]:
        """The weights of some queries, the rows `which` of all, and means under them."""
        mask = self.mask
        if mask is not None and mask.ndim == 2:
            mask = array_namespace(xi).take(mask, which, axis=0)
        asked = self.memory.asked(xi)
        if self.separation != "softmax" or self.top_k is not None or keep:
            return weigh(asked, self.memory, values, mask, self.beta, self.separation, self.top_k, keep)
        return Attention(*attend(asked, self.memory, values, mask, self.beta, self.skip, near)), None


def _descended(
    rule: _Rule, xi: Array, V: Array | None, n_steps: int, tol: float
) -> tuple[Array, Attention, Array | None, Array, Array]:
    """Update each query until it rests; the last states and weights, the number of updates, and which rest."""
    xp, X = array_namespace(xi), rule.memory.patterns
    moving, parts = xp.arange(xi.shape[0], device=device(xi)), []
    near = xp.zeros_like(moving)
    for step in range(1, n_steps + 1):
        last = step == n_steps
        values = (X,) if V is None or not last else (X, V)
        attention, weights = rule(xi, moving, values, near, rule.keep and last)
        new = attention.means[0]
        moved = row_norms(new - xi)
        # of a mean, more than this is not known
        rests = moved <= tol + 4 * eps_of(new) * row_norms(new)
        done = xp.nonzero(rests | last)[0]
        left = xp.nonzero(~(rests | last))[0]
        if done.shape[0]:
            parts.append(_retired(rule, xi, moving, V, attention, weights, done, rests, step))
        if not left.shape[0]:
            break
        # queries that are about to find the same stand together
        left = xp.take(left, xp.argsort(xp.take(attention.index, left), stable=True))
        xi, moving, near = xp.take(new, left, axis=0), xp.take(moving, left), xp.take(attention.index, left)
    return _in_order(parts, xp, rule.keep)


def _retired(
    rule: _Rule,
    xi: Array,
    which: Array,
    V: Array | None,
    attention: Attention,
    weights: Array | None,
    done: Array,
    rests: Array,
    step: int,
) -> tuple[Array, ...]:
    """What is returned for the queries that are `done`, and which they are."""
    xp = array_namespace(xi)

    def of_done(x: Array) -> Array:
        return x if done.shape[0] == x.shape[0] else xp.take(x, done, axis=0)

    which, index = of_done(which), of_done(attention.index)
    states = of_done(attention.means[-1])
    if (V is not None and len(attention.means) == 1) or (rule.keep and weights is None):
        # they rest early: the same weights once more
        again, weights = rule(of_done(xi), which, () if V is None else (V,), index, rule.keep)
        states = states if V is None else again.means[0]
    elif weights is not None:
        weights = of_done(weights)
    figures = (of_done(x) for x in (attention.top, attention.index, attention.weight, attention.entropy))
    n_iter = xp.full(which.shape[0], step, dtype=xp.int64, device=device(xi))
    return which, states, *figures, n_iter, of_done(rests), *([weights] if rule.keep else [])


def _in_order(parts: list[tuple[Array, ...]], xp: Any, keep: bool) -> tuple[Any, ...]:
    which, *columns = (xp.concat(column) for column in zip(*parts, strict=True))
    order = xp.argsort(which)
    if not bool(xp.all(order[1:] > order[:-1])):
        columns = [xp.take(column, order, axis=0) for column in columns]
    states, top, index, weight, entropy, n_iter, converged, *weights = columns
    return states, Attention(top, index, weight, entropy, ()), weights[0] if keep else None, n_iter, converged


def _warn_moving(converged: Array, n_steps: int, tol: float) -> None:
    moving = int(array_namespace(converged).count_nonzero(~converged))
    warnings.warn(
        f"retrieve did not converge: {moving} of {converged.shape[0]} queries still moved by more than {tol:.3g} at "
        f"the last of {n_steps} steps",
        ConvergenceWarning,
        stacklevel=3,
    )


def _result(
    states: Array,
    attention: Attention,
    weights: Array | None,
    n_iter: Array,
    converged: Array,
    alive: Array,
    dtype: Any,
    flat: bool,
) -> RetrievalResult:
    xp = array_namespace(states)
    effective = xp.exp(attention.entropy)
    shared, total = to_numpy(effective), to_numpy(alive)
    kind = np.where((shared > total / 2) & (total > 2), "global", "metastable")
    kind = np.where(shared < 1.5, "single", kind)
    figures = {
        "states": xp.astype(states, dtype, copy=False),
        "n_iter": n_iter,
        "converged": converged,
        "entropy": xp.astype(attention.entropy, dtype, copy=False),
        "effective_patterns": xp.astype(effective, dtype, copy=False),
        "top_index": attention.index,
        "top_weight": xp.astype(attention.weight, dtype, copy=False),
        "kind": kind,
        "weights": None if weights is None else xp.astype(weights, dtype, copy=False),
    }
    if flat:
        figures = {name: None if x is None else x[0] if x.ndim == 1 else x[0, ...] for name, x in figures.items()}
    return RetrievalResult(**figures)


def _alive(mask: Array | None, xi: Array, patterns: Array) -> Array:
    """How many patterns each query may find."""
    xp, n = array_namespace(xi), xi.shape[0]
    if mask is None:
        return xp.full(n, patterns.shape[0], device=device(xi))
    count = xp.count_nonzero(mask, axis=-1)
    return count if mask.ndim == 2 else xp.full(n, int(count), device=device(xi))


def hopfield_energy(states: Any, patterns: Any, *, beta: Any = 1.0) -> Any:
    r"""Energy of the continuous network, which no softmax update with the dot product increases.

    .. math:: E(\xi) = -\frac1\beta \log \sum_j e^{\beta x_j \cdot \xi} + \frac12 \left\| \xi \right\|^2
              + \frac{\log K}\beta + \frac12 \max_j \left\| x_j \right\|^2

    Parameters
    ----------
    states : (n, d) or (d,) array
    patterns : (K, d) or (d,) array
    beta : float
        Inverse temperature; may be inf.

    Returns
    -------
    (n,) array, or float for one state
        None negative. float32 if both are, else float64.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the entries are so large that scores overflow.

    Notes
    -----
    Summed without cancellation as :math:`\frac12 \left\| \xi - x_t \right\|^2 + \frac12 (\max_j \left\| x_j \right\|^2
    - \left\| x_t \right\|^2) - \frac1\beta \log \frac1K \sum_j e^{\beta (x_j - x_t) \cdot \xi}`, where :math:`x_t` has
    the largest score.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021, eq. 2.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import hopfield_energy
    >>> hopfield_energy([1.0, 0.0], [[1.0, 0.0]])
    0.0
    >>> hopfield_energy([[0.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]], beta=2.0).round(4)
    array([0.5   , 0.3375])
    """
    X, lengths = as_reals(patterns, "patterns")
    xi, others = as_reals(states, "states", X)
    xp = array_namespace(xi, X)
    kept, work = working_dtypes(xp, "states and patterns", (X, lengths), (xi, others))
    beta = usable_beta(xp, as_number(beta, "beta", above=0, infinite=True), work)
    memory, squares = Memory(X, lengths, "dot", work), xp.astype(lengths, work, copy=False) ** 2
    with on_one_thread():
        xi = xp.astype(xi, work, copy=False)
        found = xp.concat([_energies(memory, xi[s, :], beta, squares) for s in row_spans(xi, memory)])
    found = xp.astype(found, kept)
    return float(found[0]) if np.ndim(states) == 1 else found


@np.errstate(over="ignore")  # of an infinite beta
def _energies(memory: Memory, xi: Array, beta: float, squares: Array) -> Array:
    xp = array_namespace(xi)
    S = scores_of(xi, memory, None, slice(0, xi.shape[0]))
    top = xp.argmax(S, axis=1)
    z = xp.astype(beta * (S - xp.max(S, axis=1, keepdims=True)), xp.float64)
    fallen = xp.mean(-xp.expm1(z), axis=1)
    nearest = xp.take(xp.astype(memory.patterns, xi.dtype, copy=False), top, axis=0)
    distance = row_norms(xi - nearest) ** 2 / 2
    return distance + (xp.max(squares) - xp.take(squares, top)) / 2 - xp.astype(xp.log1p(-fallen) / beta, xi.dtype)
