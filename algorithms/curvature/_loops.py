"""The hot loops of the curvature family: every one is a pass over the columns of G, a tile at a time.

Notation: gradients ``G`` (m, d), one a row; small (m, m) matrices and (m,) vectors are float64. Products are taken and
added in float64 whatever the dtype of G: in training the rows are nearly parallel, and float32 sums would lose what
tells them apart.
"""

from __future__ import annotations

import array_api_compat
import numpy as np

from numcore.arrays import Array, array_namespace
from numcore.dispatch import dispatchable

__all__ = [
    "add_gram",
    "add_products",
    "add_squares",
    "column_tiles",
    "combinations",
    "combine",
    "descend",
    "gram",
    "products",
    "whitened_squares",
]

TILE = 1 << 18
"""Entries of a tile: 2 MB once they are float64."""


def column_tiles(m: int, d: int) -> list[slice]:
    """Slices of columns with about `TILE` entries each."""
    step = min(max(256, TILE // max(m, 1)), 16384)
    return [slice(j, min(j + step, d)) for j in range(0, d, step)]


def gram(G: Array, single: bool) -> Array:
    """The (m, m) matrix ``G G^T``, in float64.

    Parameters
    ----------
    G : (m, d) array
    single : bool
        Take the products of a tile in float32, after scaling it by a power of two into the range where that is safe.
    """
    xp = array_namespace(G)
    m, d = G.shape
    K = xp.zeros((m, m), dtype=xp.float64, device=array_api_compat.device(G))
    if not single:
        add_gram(G, K)
        return K
    for s in column_tiles(m, d):
        T, unit = _in_range(xp.astype(G[:, s], xp.float32, copy=False))
        K += xp.astype(T @ T.T, xp.float64) * unit**2
    return K


@dispatchable
def add_gram(G: Array, K: Array) -> None:
    """Add ``G G^T`` to K, an (m, m) array of float64."""
    xp = array_namespace(G)
    for s in column_tiles(*G.shape):
        T = xp.astype(G[:, s], xp.float64, copy=False)
        K += T @ T.T


def _in_range(T: Array) -> tuple[Array, float]:
    """A tile and its unit: divided by a power of two where its squares would leave the range of float32."""
    xp = array_namespace(T)
    top = float(xp.max(xp.abs(T))) if T.shape[0] else 0.0
    if not 0.0 < top < np.inf or 1e-12 < top < 1e15:
        return T, 1.0
    unit = 2.0 ** np.floor(np.log2(top))
    half = float(2.0 ** (np.floor(np.log2(top)) // 2))  # in two factors, either of which float32 can hold
    return (T / half) / (unit / half), float(unit)


def products(G: Array, x: Array) -> Array:
    """``G x`` for a vector or for the columns of a matrix, in float64.

    Parameters
    ----------
    G : (m, d) array
    x : (d,) or (d, k) array

    Returns
    -------
    (m,) or (m, k) array of float64
    """
    xp = array_namespace(G, x)
    p = xp.zeros((G.shape[0], *x.shape[1:]), dtype=xp.float64, device=array_api_compat.device(G))
    if x.ndim == 1:
        add_products(G, x, p)
    else:
        add_products.reference(G, x, p)
    return p


@dispatchable
def add_products(G: Array, x: Array, p: Array) -> None:
    """Add ``G x`` to `p`.

    Parameters
    ----------
    G : (m, d) array
    x : (d,) array
    p : (m,) array of float64
        Added to in place.
    """
    xp = array_namespace(G, x)
    for s in column_tiles(*G.shape):
        p += xp.astype(G[:, s], xp.float64, copy=False) @ xp.astype(x[s, ...], xp.float64, copy=False)


def combinations(G: Array, s: Array, x: Array | None = None, factor: float = 1.0) -> Array:
    """``factor * G^T s`` or ``factor * (x - G^T s)``, for a vector or for the columns of matrices.

    Parameters
    ----------
    G : (m, d) array
    s : (m,) or (m, k) array of float64
    x : (d,) or (d, k) array, or None
    factor : float

    Returns
    -------
    (d,) or (d, k) array
        In the dtype of G.
    """
    return combine(G, s, x, factor) if s.ndim == 1 else combine.reference(G, s, x, factor)


@dispatchable
def combine(G: Array, s: Array, x: Array | None, factor: float) -> Array:
    """``factor * G^T s``, or ``factor * (x - G^T s)``: added up in float64, rounded once.

    Parameters
    ----------
    G : (m, d) array
    s : (m,) array of float64
    x : (d,) array, or None
    factor : float

    Returns
    -------
    (d,) array
        In the dtype of G.
    """
    xp = array_namespace(G, s)
    m, d = G.shape
    y = xp.empty((d, *s.shape[1:]), dtype=G.dtype, device=array_api_compat.device(G))
    for t in column_tiles(m, d):
        part = xp.astype(G[:, t], xp.float64, copy=False).T @ s
        if x is not None:
            part = xp.astype(x[t, ...], xp.float64, copy=False) - part
        y[t, ...] = xp.astype(part * factor, G.dtype, copy=False)
    return y


@dispatchable
def descend(G: Array, s: Array, theta: Array, v: Array | None, rate: float, momentum: float) -> None:
    """A step along ``u = G^T s``: ``v = momentum v + (1 - momentum) u``, ``theta = theta - rate v``, both in place.

    Parameters
    ----------
    G : (m, d) array
        C-contiguous.
    s : (m,) array of float64
    theta : (d,) array
    v : (d,) array, or None
        Without it the step is along u itself.
    rate, momentum : float
    """
    u = combine.reference(G, s, None, 1.0)
    if v is None:
        theta -= rate * u
    else:
        v *= momentum
        v += (1 - momentum) * u
        theta -= rate * v


@dispatchable
def add_squares(G: Array, total: Array) -> None:
    """Add the sum of the squares of each column of G to `total`, a (d,) array of float64."""
    xp = array_namespace(G)
    for s in column_tiles(*G.shape):
        T = xp.astype(G[:, s], xp.float64, copy=False)
        total[s] += xp.sum(T * T, axis=0)


@dispatchable
def whitened_squares(G: Array, R: Array, lower: bool, whitened: Array, plain: Array) -> None:
    """The sums of the squares of each column of ``R G`` and of G.

    Parameters
    ----------
    G : (m, d) array
    R : (m, m) array
        Its dtype is that of the products; a tile of G is brought to it.
    lower : bool
        Whether R is lower triangular.
    whitened, plain : (d,) array of float64
        Filled.
    """
    xp = array_namespace(G, R)
    for s in column_tiles(*G.shape):
        for T, out in ((G[:, s], plain), (R @ xp.astype(G[:, s], R.dtype, copy=False), whitened)):
            T = xp.astype(T, xp.float64, copy=False)
            out[s] = xp.sum(T * T, axis=0)
