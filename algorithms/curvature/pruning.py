"""Pruning: which weights to drop, and how those that stay make up for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from numcore.algorithms.curvature.fisher import EmpiricalFisher, partition
from numcore.arrays import Array, as_choice, as_count, as_floating, as_number, to_numpy
from numcore.results import Result

__all__ = [
    "PruneResult",
    "SparsityScheduler",
    "pq_index",
    "prune_magnitude",
    "prune_mfac",
    "prune_sap",
    "sparsity_schedule",
]

KINDS = ("geometric", "linear", "cubic")
JOINT_LIMIT = 4096


@dataclass(frozen=True, repr=False, eq=False)
class PruneResult(Result):
    """Pruned weights.

    Attributes
    ----------
    weights : array
        The weights, exactly 0 where `mask` is False.
    mask : bool array
        True where a weight is kept.
    sparsity : float
        The share of all weights that is pruned, those pruned before included.
    n_dropped : int
        Weights dropped by this call.
    saliency : array
        What weights were ranked by when they were last ranked, in the dtype of the weights; nan where they had been
        pruned already. :func:`prune_mfac`: the predicted increase of the loss by removing this weight alone; else the
        magnitude.
    predicted_increase : float
        The increase of the loss in the quadratic model, ``1/2 dw^T F dw`` for the change dw of all weights, summed over
        passes; nan for methods without a model.
    history : dict of str to array
        By pass (:func:`prune_mfac`): ``sparsity``, ``n_dropped``, ``threshold`` (the largest saliency dropped),
        ``predicted_increase``. By group: ``n_active`` before, ``n_dropped``, ``threshold``, and for :func:`prune_sap`
        ``pq_index`` and ``n_needed`` (the bound r).
    """

    weights: np.ndarray[Any, Any]
    mask: np.ndarray[Any, Any]
    sparsity: float
    n_dropped: int
    saliency: np.ndarray[Any, Any]
    predicted_increase: float
    history: dict[str, np.ndarray[Any, Any]]


def prune_mfac(
    weights: Any,
    grads: Any,
    sparsity: float,
    *,
    mask: Any = None,
    damp: float = 1e-5,
    blocks: Any = None,
    n_recompute: int = 1,
    update: str = "independent",
) -> PruneResult:
    r"""Optimal brain surgery with the inverse empirical Fisher: drop weights and correct those that stay.

    Removing weight q from a quadratic model at its minimum costs at least

    .. math:: \rho_q = \frac{w_q^2}{2 [F^{-1}]_{qq}}, \qquad
        \text{reached by}\quad \Delta w = -\frac{w_q}{[F^{-1}]_{qq}} F^{-1} e_q,
        \qquad F = \mathrm{damp}\, I + \frac1m G^T G .

    A pass takes gradients at the current weights, drops those of smallest :math:`\rho`, and corrects the others.

    Parameters
    ----------
    weights : array_like of d entries
        The weights that may be pruned, in any shape. Those that may not, such as biases, are left out.
    grads : (m, d) array_like, PerExampleJacobian or callable
        Gradients of single examples (or small batches), a row each; or ``grads(weights)`` that gives them at pruned
        weights. Draw examples afresh in each call.
    sparsity : float in [0, 1)
        The share of all d weights to be pruned in the end; ``round(sparsity * d)`` of them.
    mask : bool array_like, optional
        False where a weight has been pruned already; it stays so.
    damp : float
        The dampening.
    blocks : int or list of slices and index arrays, optional
        Take F as block diagonal: in blocks of so many active weights, or in those given, which must partition all d
        weights.
    n_recompute : int
        Passes, each with new gradients. The share of weights that stay falls by the same factor in each. At 90 % and
        more take 16: with one pass the result is hardly better than by magnitude.
    update : {"independent", "joint"}
        "independent" adds up the corrections of single removals, as the paper does. "joint" is the exact minimum of
        the model over the weights that stay, for at most 4096 weights dropped in a pass.

    Returns
    -------
    PruneResult

    Raises
    ------
    ValueError, TypeError
        If `sparsity` is out of range or below that of `mask`, shapes do not match, an entry is not finite, an array of
        gradients is to serve several passes, or a joint pass drops too many.

    Notes
    -----
    Of equal saliencies the lowest index goes first. With all gradients 0 the order is that of the magnitudes, and the
    weights that stay do not change. From the second pass on, the active columns of the gradients are copied.

    The joint step needs no system of the size of Q, for the dropped weights Q: with R those that stay, the minimum is

    .. math:: \Delta w_R = F_{RR}^{-1} F_{RQ}\, w_Q = F_{RR}^{-1} G_R^T \left(\tfrac1m G_Q w_Q\right),

    a solve with a combination of gradients, which keeps all digits.

    References
    ----------
    .. [1] B. Hassibi, D. G. Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992.
    .. [2] E. Frantar, E. Kurtic, D. Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order
       Information", NeurIPS 2021, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import prune_mfac
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((50, 8)) @ rng.standard_normal((8, 8))
    >>> w = rng.standard_normal(8)
    >>> result = prune_mfac(w, X, 0.5)
    >>> result.sparsity, result.n_dropped, int(result.mask.sum())
    (0.5, 4, 4)
    >>> dropped = np.where(result.mask, 0, w)  # the others would stay as they are
    >>> bool(result.predicted_increase < 0.5 * np.mean((X @ dropped) ** 2))
    True
    """
    as_choice(update, "update", ("independent", "joint"))
    n_recompute = as_count(n_recompute, "n_recompute")
    damp = as_number(damp, "damp", above=0)
    w, kept, shape = _checked(weights, mask)
    n_drop = _n_drop(sparsity, kept)
    gradients = _gradient_source(grads, n_recompute, w.size, shape)
    parts = _checked_blocks(blocks, w.size)
    counts = _passes(kept, n_drop, sparsity, n_recompute)
    if update == "joint" and max(counts) > JOINT_LIMIT:
        raise ValueError(
            f'update "joint" drops at most {JOINT_LIMIT} weights in a pass; got {max(counts)}. '
            'Raise n_recompute or take update="independent"'
        )
    correct = _independent if update == "independent" else _joint
    saliency = np.full(w.size, np.nan, w.dtype)
    history: list[tuple[float, int, float, float]] = []
    for count in counts if kept.any() else []:
        active = np.flatnonzero(kept)
        model = _Model(_columns(gradients(w), active), damp, _restricted(parts, kept))
        root = model.root_saliency(w[active])
        drop = _smallest(root, count)
        dw = np.where(drop, -w[active], correct(model, w[active], drop))
        with np.errstate(over="ignore", under="ignore"):
            saliency[active] = 0.5 * root**2
        w = w.copy()
        w[active] += dw
        kept[active[drop]] = False
        threshold = float(saliency[active[drop]].max(initial=0))
        history.append((_sparsity(kept), count, threshold, model.increase(dw)))
    columns = np.array(history, dtype=float).reshape(-1, 4).T
    names = ("sparsity", "n_dropped", "threshold", "predicted_increase")
    return PruneResult(
        weights=w.reshape(shape),
        mask=kept.reshape(shape),
        sparsity=_sparsity(kept),
        n_dropped=n_drop,
        saliency=saliency.reshape(shape),
        predicted_increase=float(columns[3].sum()),
        history=dict(zip(names, columns, strict=True)),
    )


class _Model:
    """The quadratic model of the loss on the active weights: G, F and the blocks of F."""

    def __init__(self, G: Any, damp: float, blocks: Any) -> None:
        self.G, self.damp, self.blocks = G, damp, blocks
        self.F = EmpiricalFisher(G, damp=damp, blocks=blocks)
        self.diagonal = self.F.inverse_diagonal()

    def root_saliency(self, w: Array) -> Array:
        """``sqrt(2 rho)``, which ranks as rho does and neither over- nor underflows."""
        return np.abs(w) / np.sqrt(self.diagonal)

    def increase(self, dw: Array) -> float:
        """``1/2 dw^T F dw``, in float64: with blocks, G has no products between them."""
        if self.blocks is None:
            products = [self.F.coefficients(dw)]
        else:
            products = [_columns(self.G, block) @ dw[block].astype(float) for block in self.index_sets()]
        curvature = sum(float(p @ p) for p in products) / self.F.scale
        return 0.5 * (self.damp * float(np.sum(dw.astype(float) ** 2)) + curvature)

    def index_sets(self) -> list[Array]:
        """The blocks as index arrays; one of all weights without blocks."""
        every = np.arange(self.F.dim)
        return [every] if self.blocks is None else [every[part] for part in partition(self.blocks, self.F.dim)]


def _independent(model: _Model, w: Array, drop: Array) -> Array:
    """The sum of the steps that remove single weights: ``F^{-1} u``, u = -w_q / [F^{-1}]_qq on the dropped."""
    u = np.where(drop, -w.astype(float) / model.diagonal, 0)
    unit = max(1.0, float(np.abs(u).max()) / 1e30)  # curvature of 1e38 and more takes u to the end of float32
    return unit * np.asarray(model.F.solve((u / unit).astype(model.F.dtype)))


def _joint(model: _Model, w: Array, drop: Array) -> Array:
    """The minimum of the model over the weights that stay, block by block."""
    dw = np.zeros_like(w)
    for block in model.index_sets():
        Q, R = block[drop[block]], block[~drop[block]]
        if not (len(Q) and len(R)):
            continue
        G_Q, G_R = _columns(model.G, Q), _columns(model.G, R)
        a = G_Q.astype(float) @ w[Q].astype(float) / model.F.scale
        F_RR = EmpiricalFisher(G_R, damp=model.damp, scale=model.F.scale)
        dw[R] = F_RR.solve_coefficients(a)
    return dw


def prune_magnitude(
    weights: Any, sparsity: float, *, mask: Any = None, groups: Any = None, min_keep: float = 0
) -> PruneResult:
    """Global magnitude pruning: drop the weights of smallest absolute value, wherever they are.

    Parameters
    ----------
    weights : array_like of d entries
        In any shape; for several layers, their weights in one vector.
    sparsity : float in [0, 1)
        The share of all d weights to be pruned in the end; ``round(sparsity * d)`` of them.
    mask : bool array_like, optional
        False where a weight has been pruned already; it stays so.
    groups : array_like or list of slices and index arrays, optional
        Which weights make a layer or a neuron, for `min_keep`: a label for each, or a partition of ``range(d)``.
    min_keep : int, or float in [0, 1)
        The largest weights of each group that are never dropped: so many, or this share of the group rounded up. A
        group with fewer active weights keeps them all.

    Returns
    -------
    PruneResult

    Raises
    ------
    ValueError, TypeError
        If `sparsity` is out of range or below that of `mask`, it cannot be reached without dropping protected weights,
        shapes do not match, or an entry is not finite.

    Notes
    -----
    Of equal magnitudes the lowest index goes first.

    References
    ----------
    .. [1] M. Gupta et al., "Is Complexity Required for Neural Network Pruning? A Case Study on Global Magnitude
       Pruning", 2023.

    Examples
    --------
    >>> from numcore.algorithms.curvature import prune_magnitude
    >>> w = [3.0, -0.1, 2.0, 0.2, -0.3, 0.1]
    >>> prune_magnitude(w, 4 / 6).weights
    array([3., 0., 2., 0., 0., 0.])
    >>> prune_magnitude(w, 4 / 6, groups=[slice(0, 3), slice(3, 6)], min_keep=1).weights
    array([ 3. ,  0. ,  0. ,  0. , -0.3,  0. ])
    """
    w, kept, shape = _checked(weights, mask)
    n_drop = _n_drop(sparsity, kept)
    labels, n_groups = _labels(groups, w.size, shape)
    magnitude = np.abs(w)
    free = kept & ~_protected(magnitude, kept, labels, n_groups, min_keep)
    n_free = np.count_nonzero(free)
    if n_drop > n_free:
        raise ValueError(
            f"sparsity {sparsity} would drop {n_drop} weights, but min_keep={min_keep} leaves only {n_free} of the "
            f"{np.count_nonzero(kept)} active ones free to go"
        )
    drop = np.zeros(w.size, dtype=bool)
    drop[free] = _smallest(magnitude[free], n_drop)
    return _without(w, kept, drop, labels, n_groups, shape)


def prune_sap(
    weights: Any,
    *,
    mask: Any = None,
    groups: Any = None,
    p: float = 0.5,
    q: float = 1.0,
    eta: float = 0.0,
    gamma: float = 1.0,
    beta: float = 0.9,
) -> PruneResult:
    r"""One round of sparsity-informed adaptive pruning: the PQ index of the weights says how many may go.

    With d active weights of index I (:func:`pq_index`), at least

    .. math:: r = \left\lceil d\, (1 + \eta)^{-q/(q-p)} (1 - I)^{pq/(q-p)} \right\rceil

    have to stay, and :math:`\lfloor d \operatorname{clip}(\gamma (1 - r/d), 0, \beta) \rfloor` of smallest magnitude
    are dropped. Rounds alternate with training, until one drops nothing.

    Parameters
    ----------
    weights : array_like of d entries
        In any shape.
    mask : bool array_like, optional
        False where a weight has been pruned already; pass the mask of the round before.
    groups : array_like or list of slices and index arrays, optional
        Layers or neurons, each pruned by its own index: a label for each weight, or a partition of ``range(d)``. By
        default all weights are one group.
    p, q : float
        Of the index, ``0 < p < q``.
    eta : float
        Slack of the bound, above -1: larger drops more.
    gamma : float
        The share of what the bound lets go that is dropped; positive.
    beta : float in [0, 1]
        The largest share of the active weights dropped in a round.

    Returns
    -------
    PruneResult

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, shapes do not match, or an entry is not finite.

    References
    ----------
    .. [1] E. Diao, G. Wang, J. Zhang, Y. Yang, J. Ding, V. Tarokh, "Pruning Deep Neural Networks from a Sparsity
       Perspective", ICLR 2023, Algorithm 1.

    Examples
    --------
    >>> from numcore.algorithms.curvature import prune_sap
    >>> w = [9.0, 0.1, -0.2, 8.0, 0.1, 0.3, -0.1, 0.2]
    >>> first = prune_sap(w)
    >>> first.weights
    array([9. , 0. , 0. , 8. , 0. , 0.3, 0. , 0.2])
    >>> second = prune_sap(first.weights, mask=first.mask)
    >>> second.n_dropped, prune_sap(second.weights, mask=second.mask).n_dropped
    (1, 0)
    """
    p, q = _exponents(p, q)
    eta, gamma = as_number(eta, "eta", above=-1), as_number(gamma, "gamma", above=0)
    beta = as_number(beta, "beta", above=0, below=1, closed=True)
    w, kept, shape = _checked(weights, mask)
    labels, n_groups = _labels(groups, w.size, shape)
    magnitude, drop = np.abs(w), np.zeros(w.size, dtype=bool)
    indices, needed = np.zeros(n_groups), np.zeros(n_groups)
    for k, members in enumerate(_members(labels, n_groups, kept)):
        d = len(members)
        if d == 0:
            continue
        index = pq_index(magnitude[members], p=p, q=q)
        r = math.ceil(d * (1 + eta) ** (-q / (q - p)) * (1 - index) ** (p * q / (q - p)))
        n_drop = math.floor(d * min(max(gamma * (1 - r / d), 0), beta))
        drop[members] = _smallest(magnitude[members], n_drop)
        indices[k], needed[k] = index, r
    return _without(w, kept, drop, labels, n_groups, shape, pq_index=indices, n_needed=needed)


def pq_index(w: Any, *, p: float = 0.5, q: float = 1.0, axis: Any = None, mask: Any = None) -> Any:
    r"""The PQ index of a vector: how unevenly its size is spread, from 0 (all entries equal) towards 1.

    .. math:: I = 1 - d^{1/q - 1/p}\, \frac{\|w\|_p}{\|w\|_q}, \qquad \|w\|_p = \Bigl(\sum_i |w_i|^p\Bigr)^{1/p},

    that is 1 minus the ratio of the power means of exponents p and q. It does not change when w is scaled, permuted or
    repeated. Its largest value, of a vector with one entry that is not 0, is :math:`1 - d^{1/q - 1/p}`.

    Parameters
    ----------
    w : array_like
    p, q : float
        ``0 < p < q``.
    axis : int or tuple of int, optional
        The axes of one vector; by default all.
    mask : bool array_like, optional
        Count only entries where it is True.

    Returns
    -------
    float or array
        An array in the dtype of `w` where `axis` leaves axes over. A vector that is 0, or of no entries, has index 0.

    Raises
    ------
    ValueError, TypeError
        If p and q are out of range, shapes do not match, or an entry is not finite.

    References
    ----------
    .. [1] E. Diao, G. Wang, J. Zhang, Y. Yang, J. Ding, V. Tarokh, "Pruning Deep Neural Networks from a Sparsity
       Perspective", ICLR 2023, the definition of the PQ index.

    Examples
    --------
    >>> from numcore.algorithms.curvature import pq_index
    >>> pq_index([1.0, -1.0, 1.0]), pq_index([0.0, 5.0, 0.0, 0.0])
    (0.0, 0.75)
    """
    p, q = _exponents(p, q)
    given = to_numpy(as_floating(w, "w"))
    active = np.ones(given.shape, dtype=bool) if mask is None else _as_mask(mask, given.shape)
    x = np.where(active, np.abs(given.astype(float)), 0)
    largest = x.max(axis=axis, keepdims=True, initial=0)
    x = x / np.where(largest > 0, largest, 1)  # powers of very large and very small entries leave the range of floats
    d = np.maximum(active.sum(axis=axis), 1)
    M_p, M_q = ((np.sum(x**s, axis=axis) / d) ** (1 / s) for s in (p, q))
    index = np.where(M_q > 0, np.maximum(1 - M_p / np.where(M_q > 0, M_q, 1), 0), 0)
    return float(index) if index.ndim == 0 else index.astype(given.dtype)


def sparsity_schedule(start: float, end: float, n_steps: int, *, kind: str = "geometric") -> np.ndarray[Any, Any]:
    r"""Sparsities on the way from one to another, the last of which is `end`.

    Step j of R, with :math:`t = j / R` for j = 1 ... R:

    ============ ==============================================================
    geometric    :math:`1 - (1 - s_0) \bigl(\frac{1 - s}{1 - s_0}\bigr)^t`
    linear       :math:`s_0 + (s - s_0)\, t`
    cubic        :math:`s + (s_0 - s) (1 - t)^3`
    ============ ==============================================================

    Parameters
    ----------
    start, end : float in [0, 1)
        ``start <= end``.
    n_steps : int
    kind : {"geometric", "linear", "cubic"}
        Geometric: each step drops the same share of what is left. Cubic: most is dropped early, while there is time to
        recover.

    Returns
    -------
    (n_steps,) array

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    References
    ----------
    .. [1] M. Zhu, S. Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression", 2017,
       equation (1), for the cubic one.

    Examples
    --------
    >>> from numcore.algorithms.curvature import sparsity_schedule
    >>> sparsity_schedule(0, 0.875, 3)
    array([0.5  , 0.75 , 0.875])
    """
    as_choice(kind, "kind", KINDS)
    start, end = _as_sparsity(start, "start"), _as_sparsity(end, "end")
    if start > end:
        raise ValueError(f"start must be at most end; got start={start} and end={end}")
    t = np.arange(1, as_count(n_steps, "n_steps") + 1) / n_steps
    if kind == "geometric":
        s = 1 - (1 - start) * ((1 - end) / (1 - start)) ** t
    elif kind == "linear":
        s = start + (end - start) * t
    else:
        s = end + (start - end) * (1 - t) ** 3
    s[-1] = end
    return s


@dataclass(frozen=True)
class SparsityScheduler:
    """Gradual pruning: at which epoch to prune to which sparsity.

    Parameters
    ----------
    start, end, n_steps, kind
        As for :func:`sparsity_schedule`.
    first_epoch : int
        The epoch of the first step.
    every : int
        Epochs from one step to the next.

    Examples
    --------
    >>> from numcore.algorithms.curvature import SparsityScheduler
    >>> schedule = SparsityScheduler(0.0, 0.9, 3, kind="linear", first_epoch=5, every=10)
    >>> [(epoch, round(s, 6)) for epoch, s in schedule]
    [(5, 0.3), (15, 0.6), (25, 0.9)]
    >>> round(schedule.at(17), 6)
    0.6
    """

    start: float
    end: float
    n_steps: int
    kind: str = "geometric"
    first_epoch: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        sparsity_schedule(self.start, self.end, self.n_steps, kind=self.kind)
        as_count(self.first_epoch, "first_epoch", minimum=0)
        as_count(self.every, "every")

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """The pairs (epoch, sparsity), in order."""
        targets = sparsity_schedule(self.start, self.end, self.n_steps, kind=self.kind)
        return ((self.first_epoch + j * self.every, float(s)) for j, s in enumerate(targets))

    def at(self, epoch: int) -> float:
        """The sparsity in force at an epoch: that of the last step up to it, and `start` before the first."""
        return max((s for when, s in self if when <= epoch), default=float(self.start))


# What comes in


def _checked(weights: Any, mask: Any) -> tuple[Array, Array, tuple[int, ...]]:
    """Flat weights (0 where pruned) and flat mask, both our own, and the shape of the weights."""
    given = to_numpy(as_floating(weights, "weights"))
    if given.ndim == 0 or given.size == 0:
        raise ValueError(f"weights must be an array of at least one entry; got shape {given.shape}")
    kept = np.ones(given.shape, dtype=bool) if mask is None else _as_mask(mask, given.shape)
    return np.where(kept, given, 0).ravel(), kept.flatten(), given.shape


def _as_mask(mask: Any, shape: tuple[int, ...]) -> Array:
    mask = to_numpy(mask if hasattr(mask, "dtype") else np.asarray(mask))
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(f"mask must be bool of shape {shape}; got {mask.dtype} of shape {mask.shape}")
    return mask


def _as_sparsity(x: Any, name: str) -> float:
    value = as_number(x, name)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must satisfy 0 <= {name} < 1; got {x!r}")
    return value


def _exponents(p: Any, q: Any) -> tuple[float, float]:
    p, q = as_number(p, "p", above=0), as_number(q, "q", above=0)
    if p >= q:
        raise ValueError(f"p must be less than q; got p={p} and q={q}")
    return p, q


def _sparsity(kept: Array) -> float:
    return int(np.count_nonzero(~kept)) / kept.size


def _n_drop(sparsity: Any, kept: Array) -> int:
    """How many active weights have to go to reach `sparsity`."""
    gone = int(np.count_nonzero(~kept))
    n_drop = round(_as_sparsity(sparsity, "sparsity") * kept.size) - gone
    if n_drop < 0:
        raise ValueError(f"sparsity {sparsity} is below that of the mask, {gone / kept.size:g}")
    return n_drop


def _passes(kept: Array, n_drop: int, sparsity: float, n_recompute: int) -> list[int]:
    """How many weights to drop in each pass; passes without any are left out, unless all are."""
    if n_drop == 0:
        return [0]
    before = _sparsity(kept)
    # a mask may be finer than the target by a fraction of a weight
    targets = sparsity_schedule(min(before, sparsity), sparsity, n_recompute)
    totals = np.rint(targets * kept.size).astype(int) - np.count_nonzero(~kept)
    return [int(count) for count in np.diff(totals, prepend=0) if count]


def _gradient_source(grads: Any, n_recompute: int, d: int, shape: tuple[int, ...]) -> Callable[[Array], Any]:
    """``w -> G``, checked to have d columns."""
    fixed = hasattr(grads, "shape") or not callable(grads)  # a LinearOperator is callable too
    if fixed and n_recompute > 1:
        raise ValueError(
            f"n_recompute={n_recompute} needs gradients at the weights of each pass; give grads as a callable"
        )
    if fixed:
        given = _as_gradients(grads, d)
        return lambda w: given
    return lambda w: _as_gradients(grads(w.reshape(shape).copy()), d)


def _as_gradients(G: Any, d: int) -> Any:
    if not hasattr(G, "columns"):
        G = to_numpy(as_floating(G, "grads", ndim=2, infinite="unchecked"))  # the Fisher matrix looks for them
    if len(G.shape) != 2 or G.shape[1] != d:
        raise ValueError(f"grads must have shape (m, {d}), a column for each weight; got {tuple(G.shape)}")
    return G


def _columns(G: Any, which: Array) -> Any:
    """Columns of G, an array or a structured one; G itself where that is all of them."""
    if len(which) == G.shape[1] and np.array_equal(which, np.arange(len(which))):
        return G
    return G.columns(which) if hasattr(G, "columns") else G[:, which]


def _checked_blocks(blocks: Any, d: int) -> Any:
    """None, a length, or index arrays."""
    if blocks is None:
        return None
    parts = partition(blocks, d)
    return int(blocks) if isinstance(blocks, (int, np.integer)) else [np.arange(d)[part] for part in parts]


def _restricted(parts: Any, kept: Array) -> Any:
    """The blocks on the active weights, numbered anew."""
    if not isinstance(parts, list):
        return parts
    position = np.cumsum(kept) - 1
    active = (part[kept[part]] for part in parts)
    return [position[part] for part in active if len(part)]


def _labels(groups: Any, d: int, shape: tuple[int, ...]) -> tuple[Array, int]:
    """The number of each weight's group, and how many groups there are."""
    if groups is None:
        return np.zeros(d, dtype=np.intp), 1
    if isinstance(groups, (list, tuple)) and all(isinstance(part, slice) or np.ndim(part) == 1 for part in groups):
        labels = np.empty(d, dtype=np.intp)
        for k, part in enumerate(partition(groups, d, "groups")):
            labels[part] = k
        return labels, len(groups)
    given = np.asarray(groups)
    if given.shape not in (shape, (d,)):
        raise ValueError(
            f"groups must label {d} weights (shape {shape}), or be a list of slices and index arrays; "
            f"got shape {given.shape}"
        )
    names, labels = np.unique(given.ravel(), return_inverse=True)
    return labels.reshape(-1), len(names)


def _members(labels: Array, n_groups: int, which: Array) -> list[Array]:
    """The indices of each group's weights among `which`, in order."""
    inside = np.flatnonzero(which)
    order = np.argsort(labels[inside], kind="stable") if n_groups > 1 else slice(None)
    return np.split(inside[order], np.cumsum(np.bincount(labels[inside], minlength=n_groups))[:-1])


# What is chosen


def _smallest(x: Array, n: int) -> Array:
    """Which are the n smallest entries; of equal ones those that come first."""
    if n == 0:
        return np.zeros(x.shape, dtype=bool)
    edge = np.partition(x, n - 1)[n - 1]
    chosen = x < edge
    ties = np.flatnonzero(x == edge)
    chosen[ties[: n - np.count_nonzero(chosen)]] = True
    return chosen


def _protected(magnitude: Array, kept: Array, labels: Array, n_groups: int, min_keep: Any) -> Array:
    """The `min_keep` largest active weights of each group."""
    share = isinstance(min_keep, (float, np.floating))
    if share and not 0 <= min_keep < 1:
        raise ValueError(f"min_keep must be an integer of at least 0, or a share in [0, 1); got {min_keep!r}")
    least = None if share else as_count(min_keep, "min_keep", minimum=0)
    protected = np.zeros(len(magnitude), dtype=bool)
    if min_keep == 0:
        return protected
    sizes = np.bincount(labels, minlength=n_groups)
    for members, size in zip(_members(labels, n_groups, kept), sizes, strict=True):
        keep = min(len(members), math.ceil(min_keep * size) if least is None else least)
        protected[members] = ~_smallest(magnitude[members], len(members) - keep)
    return protected


def _without(
    w: Array, kept: Array, drop: Array, labels: Array, n_groups: int, shape: tuple[int, ...], **figures: Array
) -> PruneResult:
    """The result of dropping by magnitude; `figures` are by group."""
    saliency = np.where(kept, np.abs(w), np.nan).astype(w.dtype)
    members = _members(labels, n_groups, drop)
    left = kept & ~drop
    return PruneResult(
        weights=np.where(left, w, 0).astype(w.dtype).reshape(shape),
        mask=left.reshape(shape),
        sparsity=_sparsity(left),
        n_dropped=int(np.count_nonzero(drop)),
        saliency=saliency.reshape(shape),
        predicted_increase=math.nan,
        history={
            "n_active": np.bincount(labels[kept], minlength=n_groups).astype(float),
            "n_dropped": np.array([len(group) for group in members], dtype=float),
            "threshold": np.array([np.abs(w[group]).max(initial=0) for group in members], dtype=float),
            **figures,
        },
    )
