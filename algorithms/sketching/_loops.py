"""The hot loops of sketching: each is a pass over rows of A, given as a block that begins at global row `start`.

Notation: A (n, d), S (m, n); ``roots`` (n,) are the square roots of sample weights, or None; random signs and
positions are those of :mod:`numcore.algorithms.sketching._generator`. Sums run in float64, in two levels: a private sum
of at most `GROUP` rows, which is then added. One running sum would lift the smallest singular value of a rank-deficient
sketch from 3 to 24 roundings at a million rows, and with it the rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse

from numcore.algorithms.sketching._generator import positions, signs, words
from numcore.arrays import Array, array_namespace, to_numpy
from numcore.dispatch import dispatchable
from numcore.linalg._hadamard import hadamard_columns

__all__ = [
    "cosine_sketch",
    "hadamard_sketch",
    "residual_rows",
    "row_blocks",
    "scatter_csr",
    "scatter_rows",
]

GROUP = 1 << 16
"""Rows that are summed before their sum is added to the rest."""

READ_TWICE = 1 << 19
"""Bytes of rows that are used twice while they are in the second-level cache."""


def row_blocks(n: int, step: int) -> Iterator[slice]:
    """Slices of `step` rows."""
    for begin in range(0, n, step):
        yield slice(begin, min(begin + step, n))


def _scaled(A: Array, roots: Array | None, factors: np.ndarray[Any, Any]) -> Array:
    """Rows of A times signs, and times the roots of their weights, in the dtype of A."""
    xp = array_namespace(A)
    if roots is not None:
        factors = factors * roots
    return A * xp.asarray(factors.astype(str(A.dtype).rpartition(".")[2]))[:, None]


def _blockwise(
    transform: Any, A: Array, roots: Array | None, start: int, seed: int, B: int, rows: Any, flips: Any, out: Array
) -> None:
    """Add ``sum_q flips_q * transform(D_q A_q)[rows]`` to out, over the blocks of B rows that A has a part in."""
    xp = array_namespace(A)
    n, d = A.shape
    first = start // B
    pick = xp.asarray(rows)
    part, held = xp.zeros_like(out), 0
    for q in range(first, -(-(start + n) // B)):
        low, high = max(q * B, start), min((q + 1) * B, start + n)
        s = slice(low - start, high - start)
        block = xp.zeros((B, d), dtype=A.dtype)
        sign = signs(words(seed, low, high - low)[:, 0])
        block[low - q * B : high - q * B, :] = _scaled(A[s, :], None if roots is None else roots[s], sign)
        block = transform(block)
        flip = xp.asarray(flips[q - first, :].astype(np.float64))
        part += flip[:, None] * xp.astype(xp.take(block, pick, axis=0), xp.float64, copy=False)
        held += B
        if held >= GROUP:
            out += part
            part, held = xp.zeros_like(out), 0
    out += part


@dispatchable
def hadamard_sketch(
    A: Array, roots: Array | None, start: int, seed: int, B: int, rows: Any, flips: Any, out: Array
) -> None:
    """Add ``sum_q flips_q * (H_B D_q A_q)[rows]`` to out: aligned blocks of B rows, signed, transformed and sampled.

    Parameters
    ----------
    A : (n, d) array
        Rows `start` to ``start + n - 1`` of the matrix, float32 or float64. Blocks that reach beyond them are padded
        with zeros. Transformed in its own dtype.
    roots : (n,) float64 array or None
        What rows are multiplied with.
    start : int
        The global number of the first row.
    seed : int
        Of the table of row signs.
    B : int
        Rows a block, a power of two.
    rows : (m,) int64 array
        The rows of a transformed block that are kept; on the host, as is `flips`.
    flips : (n_blocks, m) int8 array
        Their signs, for every block from ``start // B`` on.
    out : (m, d) float64 array
    """

    def transform(block: Array) -> Array:
        hadamard_columns(block)
        return block

    _blockwise(transform, A, roots, start, seed, B, rows, flips, out)


def cosine_sketch(
    A: Array, roots: Array | None, start: int, seed: int, B: int, rows: Any, flips: Any, out: Array
) -> None:
    """As :func:`hadamard_sketch`, with sqrt(B) times the orthonormal cosine transform in place of H_B; any B."""

    def transform(block: Array) -> Array:
        xp = array_namespace(block)
        return xp.asarray(scipy.fft.dct(to_numpy(block), norm="ortho", axis=0) * B**0.5)

    _blockwise(transform, A, roots, start, seed, B, rows, flips, out)


def _columns(start: int, n: int, seed: int, s: int, width: int, roots: Any) -> Any:
    """The columns of a sparse sign matrix, unscaled: row i has one position in each of s blocks of `width` rows."""
    w = words(seed, start, n, s)
    at = positions(w, width) + width * np.arange(s)
    values = signs(w).astype(np.float64)
    if roots is not None:
        values *= roots[:, None]
    pointers = np.arange(0, s * n + 1, s, dtype=at.dtype)
    return scipy.sparse.csc_array((values.ravel(), at.ravel(), pointers), shape=(s * width, n))


@dispatchable
def scatter_rows(A: Array, roots: Array | None, start: int, seed: int, s: int, width: int, out: Array) -> None:
    """Add each row of A, signed, to one random row in each of the s blocks of `width` rows of out.

    Parameters
    ----------
    A : (n, d) array
        Rows `start` to ``start + n - 1`` of the matrix, float32 or float64.
    roots : (n,) float64 array or None
        What rows are multiplied with.
    start : int
        The global number of the first row.
    seed : int
        Of the table of positions and signs, s words a row.
    s, width : int
        Number and size of the blocks of out.
    out : (s * width, d) float64 array
    """
    for b in row_blocks(A.shape[0], GROUP):
        S = _columns(start + b.start, b.stop - b.start, seed, s, width, None if roots is None else roots[b])
        out += S @ A[b, :]


@dispatchable
def scatter_csr(
    data: Array,
    indices: Array,
    pointers: Array,
    roots: Array | None,
    start: int,
    seed: int,
    s: int,
    width: int,
    out: Array,
) -> None:
    """As :func:`scatter_rows` for rows that are stored compressed; columns may come in any order and repeat.

    Parameters
    ----------
    data, indices, pointers : (nnz,), (nnz,), (n + 1,) array
        The rows: values, columns, and where each row begins.
    roots, start, seed, s, width, out
        As there.
    """
    A = scipy.sparse.csr_array((data, indices, pointers), shape=(len(pointers) - 1, out.shape[1]))
    for b in row_blocks(A.shape[0], GROUP):
        S = _columns(start + b.start, b.stop - b.start, seed, s, width, None if roots is None else roots[b])
        out += (S @ A[b]).toarray()


@dispatchable
def residual_rows(A: Array, roots: Array | None, y: Array | None, x: Array, g: Array, squares: Array) -> None:
    """Read the rows once: with ``r = y - A x``, rows weighted, add ``A^T r`` to g, and squared lengths to `squares`.

    Parameters
    ----------
    A : (n, d) array
        float32 or float64; all is computed in float64.
    roots : (n,) float64 array or None
        What rows of A and y are multiplied with.
    y : (n,) array or None
        None stands for zeros.
    x : (d,) float64 array
    g : (d,) float64 array
    squares : (2,) float64 array
        Of ``|r|^2`` and ``|y|^2``.
    """
    for b in row_blocks(A.shape[0], max(8, READ_TWICE // (8 * max(A.shape[1], 1)))):
        X = A[b].astype(np.float64, copy=False)
        z = np.zeros(len(X)) if y is None else y[b].astype(np.float64, copy=False)
        r = z - X @ x
        if roots is not None:
            r, z = roots[b] * r, roots[b] * z
        squares += r @ r, z @ z
        g += X.T @ (r if roots is None else roots[b] * r)
