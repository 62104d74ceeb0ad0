"""The hot loops of entropic transport, in the order of the paper: every one is a pass over the cost.

Notation: cost ``C`` (n, m), potentials ``f`` (n,), ``g`` (m,), weights ``a`` (n,), ``b`` (m,), regularisation ``eps``;
the plan is ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)``. Vectors are float64; the work runs in the cost's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from numcore.algorithms.transport._metrics import Metric
from numcore.arrays import Array, array_namespace
from numcore.dispatch import dispatchable

__all__ = ["kernel", "kernel_sweep", "plan", "plan_cost", "plan_entries", "soft_min", "sweep"]

BLOCK = 1 << 19
"""Entries of a cost that are formed at a time where the whole is never stored."""


def row_blocks(n: int, m: int) -> list[slice]:
    """Slices of rows with about `BLOCK` entries each."""
    step = max(8, BLOCK // max(m, 1))  # fewer rows would leave a matrix product nothing to reuse
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def cost_blocks(X: Array, Y: Array, metric: Metric) -> Iterator[tuple[slice, Array]]:
    """The cost of two point clouds a few rows at a time, as (slice, rows)."""
    rows = metric.rows(X, Y)
    for block in row_blocks(X.shape[0], Y.shape[0]):
        yield block, rows(block)


def _row_sums(C: Array, h: Array, eps: float) -> tuple[Array, Array, Array]:
    """``softmin_i`` (+inf if all pairs are forbidden); ``exp(h_j - C_ij / eps)`` up to a factor a row; its row sums."""
    xp = array_namespace(C)
    t = xp.astype(h, C.dtype, copy=False)[None, :] - C / eps
    top = xp.max(t, axis=1)
    empty = top == -xp.inf
    top = xp.where(empty, xp.zeros_like(top), top)
    E = xp.exp(t - top[:, None])
    sums = xp.where(empty, xp.ones_like(top), xp.sum(E, axis=1))
    soft = -eps * xp.astype(top + xp.log(sums), xp.float64)
    return xp.where(empty, xp.full_like(soft, xp.inf), soft), E, sums


@dispatchable
def survey(C: Array) -> tuple[Array, float, int, int]:
    """What a cost must be asked before it is used, in one read.

    Parameters
    ----------
    C : (n, m) array
        Unchecked.

    Returns
    -------
    minima : (n,) array
        Row minima, in the dtype of the cost.
    greatest : float
        The greatest finite entry; -inf if there is none.
    n_forbidden, n_refused : int
        How many entries are +inf, and how many nan or -inf.
    """
    xp = array_namespace(C)
    minima, greatest, forbidden, refused = [], [-xp.inf], 0, 0
    for s in row_blocks(*C.shape):
        finite = xp.isfinite(C[s, :])
        infinite = int(xp.count_nonzero(C[s, :] == xp.inf))
        forbidden += infinite
        refused += int(xp.count_nonzero(~finite)) - infinite
        minima.append(xp.min(C[s, :], axis=1))
        greatest.append(float(xp.max(xp.where(finite, C[s, :], xp.full_like(C[s, :], -xp.inf)))))
    return xp.concat(minima), max(greatest), forbidden, refused


@dispatchable
def column_minima(C: Array, f: Array) -> Array:
    """``min_i C_ij - f_i`` for every column j, in the dtype of the cost."""
    xp = array_namespace(C)
    g = xp.full_like(C[0, :], xp.inf)
    for s in row_blocks(*C.shape):
        g = xp.minimum(g, xp.min(C[s, :] - f[s][:, None], axis=0))
    return g


@dispatchable
def reduced(C: Array, f: Array, g: Array, eps: float) -> Array:
    """``(C_ij - f_i - g_j) / eps`` in the dtype of the cost, the differences taken in float64."""
    xp = array_namespace(C)
    blocks = (xp.astype(C[s, :], xp.float64) - f[s][:, None] - g[None, :] for s in row_blocks(*C.shape))
    return xp.concat([xp.astype(block / eps, C.dtype) for block in blocks])


@dispatchable
def sweep(
    C: Array, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
) -> tuple[Array, Array, Array]:
    """Update the row potentials and take both marginals of the plan they give, with one exponential an entry.

    ``f_i = base_i + power softmin_i``, ``softmin_i = -eps log sum_j exp(h_j - C_ij / eps)``: base 0 and power 1 for a
    plain update, ``(1 - omega) f`` and ``omega`` for an over-relaxed one, ``rho / (rho + eps)`` for a soft marginal.

    Parameters
    ----------
    C : (n, m) array
        The cost; +inf forbids a pair.
    guess : (n,) array
        Roughly the soft minima, to scale exponentials by; the result does not depend on it.
    base : (n,) array
        What the update keeps of the old potentials.
    h : (m,) array
        ``log b + g / eps``; -inf where b is 0.
    a : (n,) array
        Row weights.
    eps : float
        Regularisation.
    power : float
        The part of the soft minimum that the update takes.

    Returns
    -------
    f, r, c : (n,), (n,), (m,) float64 arrays
        The new potentials, and the row and column sums of the plan of (f, g).
    """
    blocks = ((s, C[s, :]) for s in row_blocks(*C.shape))
    return _accumulated(_sweep_block, blocks, guess, base, h, a, eps, power)


def _sweep_block(
    C: Array, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
) -> tuple[Array, Array, Array]:
    xp = array_namespace(C)
    soft, E, sums = _row_sums(C, h, eps)
    soft = xp.where(soft == xp.inf, xp.zeros_like(soft), soft)  # a row of forbidden pairs: r is 0 whatever f
    f = base + power * soft
    r = a * xp.exp((f - soft) / eps)  # the plan of soft has rows a
    c = xp.astype(r / sums, C.dtype) @ E
    return f, r * xp.astype(xp.any(E > 0, axis=1), xp.float64), xp.astype(c, xp.float64)


def _accumulated(
    step: Callable[..., tuple[Array, Array, Array]],
    blocks: Iterable[tuple[slice, Array]],
    guess: Array,
    base: Array,
    h: Array,
    a: Array,
    eps: float,
    power: float,
) -> tuple[Array, Array, Array]:
    """A sweep a few rows at a time: row results end to end, column sums added up."""
    xp = array_namespace(h)
    f, r, c = [], [], xp.zeros_like(h)
    for s, C in blocks:
        f_s, r_s, c_s = step(C, guess[s], base[s], h, a[s], eps, power)
        f.append(f_s)
        r.append(r_s)
        c = c + c_s
    return xp.concat(f), xp.concat(r), c


@dispatchable
def sweep_cloud(
    X: Array, Y: Array, metric: Metric, guess: Array, base: Array, h: Array, a: Array, eps: float, power: float
) -> tuple[Array, Array, Array]:
    """:func:`sweep` over the cost of two point clouds (n, d), (m, d), formed a few rows at a time and never stored."""
    return _accumulated(sweep, cost_blocks(X, Y, metric), guess, base, h, a, eps, power)


@dispatchable
def sweep_batch(
    C: Array, which: Array, guess: Array, base: Array, h: Array, a: Array, eps: Array, power: Array
) -> tuple[Array, Array, Array]:
    """:func:`sweep` of L problems: problem l has cost ``C[which[l]]`` and row l of all else.

    Parameters
    ----------
    C : (K, n, m) array
        Costs.
    which : (L,) int64 array
        The cost of each problem.
    guess, base, a : (L, n) arrays
    h : (L, m) array
    eps, power : (L,) arrays

    Returns
    -------
    f, r, c : (L, n), (L, n), (L, m) float64 arrays
    """
    xp = array_namespace(C)
    parts = [
        sweep(C[int(which[k]), ...], guess[k, :], base[k, :], h[k, :], a[k, :], float(eps[k]), float(power[k]))
        for k in range(which.shape[0])
    ]
    f, r, c = (xp.stack(part) for part in zip(*parts, strict=True))
    return f, r, c


@dispatchable
def soft_min(C: Array, h: Array, eps: float) -> Array:
    """``-eps log sum_j exp(h_j - C_ij / eps)`` for every row i, as float64; +inf for a row of forbidden pairs.

    Parameters
    ----------
    C : (n, m) array
        The cost.
    h : (m,) or (k, m) array
        The log weights of the columns, one set or several.
    eps : float
        Regularisation.

    Returns
    -------
    (n,) or (k, n) float64 array
        The soft minima, one row of them for each row of `h`.
    """
    if h.ndim == 2:
        return array_namespace(C).stack([soft_min(C, h[k, :], eps) for k in range(h.shape[0])])
    return array_namespace(C).concat([_row_sums(C[s, :], h, eps)[0] for s in row_blocks(*C.shape)])


@dispatchable
def soft_min_cloud(X: Array, Y: Array, metric: Metric, h: Array, eps: float) -> Array:
    """:func:`soft_min` over the cost of two point clouds, never stored."""
    return array_namespace(X).concat([soft_min(C, h, eps) for _, C in cost_blocks(X, Y, metric)])


@dispatchable
def average(C: Array, h: Array, eps: float, V: Array) -> tuple[Array, Array]:
    """Soft minima, and the means of the rows of V under the weights that attain them, ``softmax_j(h_j - C_ij / eps)``.

    Parameters
    ----------
    C : (n, m) array
        The cost.
    h : (m,) array
        The log weights of the columns.
    eps : float
        Regularisation.
    V : (m, k) array
        In the dtype of the cost.

    Returns
    -------
    soft, means : (n,) float64 array, (n, k) array
        The means are 0 for a row of forbidden pairs.
    """
    soft, E, sums = _row_sums(C, h, eps)
    return soft, (E @ V) / sums[:, None]


@dispatchable
def average_cloud(X: Array, Y: Array, metric: Metric, h: Array, eps: float, V: Array) -> tuple[Array, Array]:
    """:func:`average` over the cost of two point clouds, never stored."""
    soft, means = zip(*(average(C, h, eps, V) for _, C in cost_blocks(X, Y, metric)), strict=True)
    xp = array_namespace(X)
    return xp.concat(soft), xp.concat(means)


@dispatchable
def plan(C: Array, u: Array, h: Array, eps: float) -> Array:
    """The plan ``exp(u_i + h_j - C_ij / eps)``, with ``u = log a + f / eps`` and ``h = log b + g / eps``.

    Returns
    -------
    (n, m) array
        In the dtype of the cost; exactly 0 where a weight is 0 or the pair is forbidden.
    """
    xp = array_namespace(C)
    # summed in float64: for entries that matter u + h and C / eps are large and close
    return xp.exp(xp.astype(u[:, None] + h[None, :] - xp.astype(C, xp.float64) / eps, C.dtype))


@dispatchable
def plan_cost(C: Array, u: Array, h: Array, eps: float) -> float:
    """``<P, C>`` of the plan of :func:`plan`, forbidden pairs counting nothing."""
    return sum(_plan_cost_block(C[s, :], u[s], h, eps) for s in row_blocks(*C.shape))


def _plan_cost_block(C: Array, u: Array, h: Array, eps: float) -> float:
    xp = array_namespace(C)
    P = plan(C, u, h, eps)
    return float(xp.sum(xp.astype(P * xp.where(P > 0, C, xp.zeros_like(C)), xp.float64)))


@dispatchable
def plan_cost_cloud(X: Array, Y: Array, metric: Metric, u: Array, h: Array, eps: float) -> float:
    """:func:`plan_cost` over the cost of two point clouds, never stored."""
    return sum(plan_cost(C, u[s], h, eps) for s, C in cost_blocks(X, Y, metric))


@dispatchable
def plan_entries(
    C: Array, u: Array, h: Array, eps: float, row_floor: Array, column_floor: Array
) -> tuple[Array, Array, Array]:
    """The entries ``P_ij >= min(row_floor_i, column_floor_j) > 0`` of the plan of :func:`plan`, as CSR arrays.

    Returns
    -------
    indptr, indices, data
        Row pointers (n + 1,) int64, column indices int32 in ascending order within a row, values in the cost's dtype.
    """
    P = plan(C, u, h, eps)
    rows, columns = np.nonzero((P > 0) & (P >= np.minimum(row_floor[:, None], column_floor[None, :])))
    indptr = np.searchsorted(rows, np.arange(C.shape[0] + 1)).astype(np.int64)
    return indptr, columns.astype(np.int32), P[rows, columns]


@dispatchable
def plan_entries_cloud(
    X: Array, Y: Array, metric: Metric, u: Array, h: Array, eps: float, row_floor: Array, column_floor: Array
) -> tuple[Array, Array, Array]:
    """:func:`plan_entries` over the cost of two point clouds, never stored."""
    parts = [plan_entries(C, u[s], h, eps, row_floor[s], column_floor) for s, C in cost_blocks(X, Y, metric)]
    lengths = np.concatenate([np.diff(indptr) for indptr, _, _ in parts])
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return indptr, np.concatenate([j for _, j, _ in parts]), np.concatenate([v for _, _, v in parts])


@dispatchable
def kernel(C: Array, f: Array, g: Array, eps: float) -> Array:
    """``exp((f_i + g_j - C_ij) / eps)`` in the dtype of the cost, kept within 1e-300 .. 1e300 (float32: 1e-30 .. 1e30).

    Less becomes 0, since subnormal numbers are slow and none matters; more is cut, since 0 inf is not a number: among
    entries with weight there is none.
    """
    xp = array_namespace(C)
    most = 69.0 if C.dtype == xp.float32 else 690.0
    t = (f[:, None] + g[None, :] - xp.astype(C, xp.float64)) / eps
    K = xp.exp(xp.astype(xp.where(t < most, t, xp.full_like(t, most)), C.dtype))
    return xp.where(t < -most, xp.zeros_like(K), K)


@dispatchable
def kernel_sweep(K: Array, x: Array, w: Array, power: float) -> tuple[Array, Array]:
    """Scale the rows of a kernel and sum its columns, in one read: ``q = K x`` and ``K^T (w q^-power)``.

    Parameters
    ----------
    K : (n, m) array
        The Gibbs kernel.
    x : (m,) array
        Column weights times column scalings.
    w : (n,) array
        Row weights.
    power : float
        1 for a plain step, as in :func:`sweep`.

    Returns
    -------
    q, s : (n,), (m,) float64 arrays
        The row sums, and the column sums after the row scaling.
    """
    xp = array_namespace(K)
    q = xp.astype(K @ xp.astype(x, K.dtype), xp.float64)
    scaling = xp.where(q > 0, w * xp.where(q > 0, q, xp.ones_like(q)) ** -power, xp.zeros_like(q))
    return q, xp.astype(xp.astype(scaling, K.dtype) @ K, xp.float64)


def stored(C: Array) -> Array:
    """`C` with rows contiguous, as every loop reads it, where its library knows of layouts."""
    xp = array_namespace(C)
    return xp.ascontiguousarray(C) if hasattr(xp, "ascontiguousarray") else C


def as_csr(entries: tuple[Any, Any, Any], shape: tuple[int, int]) -> Any:
    """The CSR matrix of :func:`plan_entries`."""
    from scipy.sparse import csr_array

    indptr, indices, data = entries
    index = np.int32 if indptr[-1] < 2**31 else np.int64
    return csr_array((data, indices.astype(index, copy=False), indptr.astype(index, copy=False)), shape=shape)
