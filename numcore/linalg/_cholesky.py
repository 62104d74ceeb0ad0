"""Cholesky factors of matrices that are only just positive definite, or that change by a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from numcore.arrays import Array, array_namespace, as_choice, as_floating, as_number, is_numpy, to_numpy
from numcore.dispatch import dispatchable

__all__ = ["cholesky_append", "cholesky_delete", "cholesky_update", "jittered_cholesky", "rotate_rows"]


def jittered_cholesky(A: Any, *, max_jitter: float = 1e-4) -> tuple[Array, float]:
    """The lower Cholesky factor of A, or of A with as little as need be added to its diagonal.

    Nothing is added at first; then 1e-12 (float32: 1e-7) times the mean of the diagonal, and ten times more each time
    that it does not suffice.

    Parameters
    ----------
    A : (n, n) array_like
        Symmetric; only its lower triangle is used.
    max_jitter : float
        The most to add, as a share of the mean of the diagonal.

    Returns
    -------
    L : (n, n) array
        Lower triangular, zeros above.
    jitter : float
        What was added to the diagonal: ``L L^T = A + jitter I``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the most does not suffice; the message names the pivot of A that is not positive.
    ValueError, TypeError
        If `A` is not square, not finite or not real.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import jittered_cholesky
    >>> L, jitter = jittered_cholesky(np.ones((3, 3)))  # of rank one
    >>> jitter, bool(np.allclose(L @ L.T, 1))
    (1e-12, True)
    """
    A = _square(A, "A")
    max_jitter = as_number(max_jitter, "max_jitter", above=0, closed=True)
    xp = array_namespace(A)
    L = _factor(A)
    if L is not None:
        return L, 0.0
    eye = xp.eye(A.shape[0], dtype=A.dtype, device=A.device)
    mean = float(xp.sum(xp.linalg.diagonal(A), dtype=xp.float64)) / A.shape[0]
    share = 1e-7 if A.dtype == xp.float32 else 1e-12
    while mean > 0 and share <= max_jitter * (1 + 1e-9):
        L = _factor(A + share * mean * eye)
        if L is not None:
            return L, share * mean
        share *= 10
    row, pivot = _failing_pivot(to_numpy(A))
    raise np.linalg.LinAlgError(
        f"A must be positive definite, up to {max_jitter:g} of its mean diagonal {mean:.3g}; "
        f"its pivot in row {row} is {pivot:.3g}"
    )


def cholesky_update(L: Any, x: Any, *, copy: bool = True) -> Array:
    """The factor of ``L L^T + x x^T``, in O(n^2) rotations that are stable whatever x is.

    Parameters
    ----------
    L : (n, n) array_like
        Lower triangular; what is above the diagonal is not read.
    x : (n,) or (n, k) array_like
        One vector, or several as columns.
    copy : bool
        Whether to leave `L` as it is. If not, it must be a NumPy array in Fortran order, and its lower triangle is
        overwritten.

    Returns
    -------
    (n, n) array
        The lower factor, in Fortran order; `L` itself unless `copy`.

    Raises
    ------
    ValueError, TypeError
        If `L` is not square, shapes do not match or entries are not finite.

    References
    ----------
    .. [1] P. E. Gill, G. H. Golub, W. Murray and M. A. Saunders, "Methods for Modifying Matrix Factorizations", 1974,
       method C3.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import cholesky_update
    >>> cholesky_update(np.eye(2), [0.0, np.sqrt(3)])
    array([[1., 0.],
           [0., 2.]])
    """
    L = _square(L, "L")
    as_choice(copy, "copy", (True, False))
    x = as_floating(x, "x", ndim=(1, 2), like=L)
    x = as_floating(x, "x", shape=(L.shape[0], *x.shape[1:]), dtype=L.dtype, like=L)
    if not copy and not (is_numpy(L) and L.flags.f_contiguous and L.flags.writeable):
        raise ValueError("L must be a writeable NumPy array in Fortran order to be overwritten (copy=False)")
    R = _upper(L) if copy else L.T
    xp = array_namespace(R)
    for column in (x,) if x.ndim == 1 else (x[:, k] for k in range(x.shape[1])):
        rotate_rows(R, xp.asarray(column, copy=True), 0)
    return R.T


def cholesky_append(L: Any, B: Any, C: Any) -> Array:
    r"""The factor of a matrix that has grown: of :math:`\begin{pmatrix} LL^T & B \\ B^T & C \end{pmatrix}`.

    Parameters
    ----------
    L : (n, n) array_like
        Lower triangular; what is above the diagonal is not read. n may be 0.
    B : (n, b) or (n,) array_like
        The new columns.
    C : (b, b) array_like or float
        Their own block.

    Returns
    -------
    (n + b, n + b) array
        The lower factor.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the larger matrix is not positive definite.
    ValueError, TypeError
        If shapes do not match or entries are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import cholesky_append
    >>> cholesky_append([[2.0]], [2.0], 5.0)  # of [[4, 2], [2, 5]]
    array([[2., 0.],
           [1., 2.]])
    """
    L = _square(L, "L")
    xp, n = array_namespace(L), L.shape[0]
    B = as_floating(B, "B", ndim=(1, 2), like=L)
    B = xp.reshape(B, (n, -1)) if n else xp.reshape(B, (0, B.shape[1] if B.ndim == 2 else 1))
    b = B.shape[1]
    C = as_floating(C, "C", ndim=(0, 2), dtype=L.dtype, like=L)
    C = as_floating(xp.reshape(C, (1, 1)) if C.ndim == 0 else C, "C", shape=(b, b))
    below = _forward_solve(L, xp.astype(B, L.dtype, copy=False))
    corner = _factor(C - below.T @ below)
    if corner is None:
        raise np.linalg.LinAlgError("the matrix must stay positive definite; C - B^T (L L^T)^-1 B is not")
    above = xp.zeros((n, b), dtype=L.dtype, device=L.device)
    return xp.concat([xp.concat([xp.tril(L), above], axis=1), xp.concat([below.T, corner], axis=1)], axis=0)


def cholesky_delete(L: Any, indices: Any) -> Array:
    """The factor of ``L L^T`` without some of its rows and columns, in O(n^2) a row.

    Removing a row leaves the rows below it with a rank-one *update*, so it is stable and cannot fail.

    Parameters
    ----------
    L : (n, n) array_like
        Lower triangular; what is above the diagonal is not read.
    indices : int or sequence of int
        The rows to remove, each once; negative ones count from the end.

    Returns
    -------
    array
        The lower factor.

    Raises
    ------
    IndexError
        If an index is out of range.
    ValueError, TypeError
        If `L` is not square or not finite, or `indices` are no integers or not distinct.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import cholesky_delete
    >>> A = np.array([[4.0, 2.0, 2.0], [2.0, 5.0, 3.0], [2.0, 3.0, 6.0]])
    >>> L = cholesky_delete(np.linalg.cholesky(A), 0)
    >>> L @ L.T
    array([[5., 3.],
           [3., 6.]])
    """
    L = _square(L, "L")
    gone = _distinct(indices, L.shape[0])
    R = _upper(L)
    xp = array_namespace(R)
    for i in gone[::-1]:
        x = xp.asarray(R[i, :], copy=True)
        x[i], R[i, :], R[:, i] = 0.0, 0.0, 0.0
        rotate_rows(R, x, i + 1)
    stay = xp.asarray(np.setdiff1d(np.arange(L.shape[0]), gone), device=L.device)
    return xp.take(xp.take(R, stay, axis=0), stay, axis=1).T


@dispatchable
def rotate_rows(R: Array, x: Array, start: int) -> None:
    """Rotate the row `x` into R, so that ``R^T R`` grows by ``x x^T``.

    Parameters
    ----------
    R : (n, n) array
        Upper triangular; updated in place. Unchecked.
    x : (n,) array
        Zero before `start`. Spent.
    start : int
        The first row to take part.
    """
    for k in range(start, R.shape[0]):
        r = float(np.hypot(float(R[k, k]), float(x[k])))
        if r == 0:
            continue  # a row that was deleted
        c, s = float(R[k, k]) / r, float(x[k]) / r
        row = c * R[k, k:] + s * x[k:]
        x[k:] = c * x[k:] - s * R[k, k:]
        R[k, k:] = row
        R[k, k], x[k] = r, 0.0


def _square(A: Any, name: str) -> Array:
    A = as_floating(A, name, ndim=2)
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"{name} must be square; got shape {tuple(A.shape)}")
    return A


def _upper(L: Array) -> Array:
    """``L^T`` in rows of its own, zeros below the diagonal."""
    xp = array_namespace(L)
    R = xp.triu(L.T)
    return np.ascontiguousarray(R) if is_numpy(R) else xp.asarray(R, copy=True)


def _factor(A: Array) -> Array | None:
    """The lower factor, or None."""
    if is_numpy(A):
        try:
            return scipy.linalg.cholesky(A, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return None
    xp = array_namespace(A)
    try:
        L = xp.linalg.cholesky(A)
    except Exception as failure:  # each library has an error of its own
        if "LinAlgError" not in type(failure).__name__:
            raise
        return None
    return L if bool(xp.all(xp.isfinite(L))) else None


def _failing_pivot(A: np.ndarray[Any, Any]) -> tuple[int, float]:
    """The first pivot that is not positive; LAPACK says in which row."""
    potrf: Any = scipy.linalg.get_lapack_funcs("potrf", (A,))
    L, failed = potrf(A, lower=True)
    row = failed - 1
    return row, float(A[row, row] - L[row, :row] @ L[row, :row])


def _forward_solve(L: Array, B: Array) -> Array:
    """``L^-1 B``."""
    if L.shape[0] == 0:
        return B
    if is_numpy(L):
        return scipy.linalg.solve_triangular(L, B, lower=True, check_finite=False)
    xp = array_namespace(L)
    return xp.linalg.solve(xp.tril(L), B)


def _distinct(indices: Any, n: int) -> list[int]:
    found = np.atleast_1d(np.asarray(indices))
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers; got dtype {found.dtype}")
    if found.ndim != 1:
        raise ValueError(f"indices must be an integer or 1-D; got shape {found.shape}")
    outside = [int(i) for i in found if not -n <= i < n]
    if outside:
        raise IndexError(f"indices must lie in [{-n}, {n}); got {outside[0]}")
    ordered = sorted(int(i) % n for i in found)
    if len(set(ordered)) < len(ordered):
        raise ValueError("indices must be distinct; some row is named twice")
    return ordered
