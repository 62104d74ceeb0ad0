"""Low-rank factors: pivoted Cholesky, randomised SVD, Nystrom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_number, as_rng, eps_of, is_numpy, to_numpy
from numcore.linalg._inner import norm
from numcore.linalg._operator import Operator
from numcore.results import Result

__all__ = ["PivotedCholeskyResult", "nystrom", "pivoted_cholesky", "randomized_svd"]


@dataclass(frozen=True, repr=False, eq=False)
class PivotedCholeskyResult(Result):
    """A partial Cholesky factor.

    Attributes
    ----------
    factor : (n, r) array
        ``factor @ factor.T`` approximates K, and equals it in the rows of the pivots.
    pivots : (r,) int array
        The rows chosen, in order; on the host.
    trace_error : float
        The trace of ``K - factor @ factor.T``, which is positive semi-definite: a bound on its norm.
    """

    factor: Array
    pivots: np.ndarray[Any, Any]
    trace_error: float


def pivoted_cholesky(K: Any, rank: int, *, diagonal: Any = None, tol: float = 0.0) -> PivotedCholeskyResult:
    """A low-rank factor of a positive semi-definite matrix, from its diagonal and `rank` of its rows.

    Each step takes the row in which most of the diagonal is left.

    Parameters
    ----------
    K : (n, n) array_like, or callable
        The matrix, or ``K(i)``, its i-th row.
    rank : int
        Columns at most; more than n are n.
    diagonal : (n,) array_like, optional
        The diagonal of K; needed where that is a callable.
    tol : float
        Stop when the trace of what is left is at most this.

    Returns
    -------
    PivotedCholeskyResult
        ``factor``, ``pivots`` and ``trace_error``. The factor is narrower than `rank` where `tol` was met, or what is
        left is rounding: its largest diagonal entry at most eps times that of K.

    Raises
    ------
    ValueError, TypeError
        If `K` is not square, the diagonal has negative entries, or something is not finite.

    References
    ----------
    .. [1] H. Harbrecht, M. Peters and R. Schneider, "On the Low-Rank Approximation by the Pivoted Cholesky
       Decomposition", 2012, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import pivoted_cholesky
    >>> x = np.linspace(0, 1, 200)
    >>> result = pivoted_cholesky(lambda i: np.exp(-((x - x[i]) ** 2)), 10, diagonal=np.ones(200))
    >>> result.factor.shape, result.trace_error < 1e-6
    ((200, 10), True)
    """
    rank = as_count(rank, "rank")
    tol = as_number(tol, "tol", above=0, closed=True)
    row_of, rest = _rows_and_diagonal(K, diagonal)
    xp, n = array_namespace(rest), rest.shape[0]
    floor = eps_of(rest) * float(xp.max(rest)) if n else 0.0
    L = xp.zeros((min(rank, n), n), dtype=rest.dtype, device=rest.device)
    pivots: list[int] = []
    while len(pivots) < L.shape[0] and float(xp.sum(rest, dtype=xp.float64)) > tol:
        p, j = int(xp.argmax(rest)), len(pivots)
        if not float(rest[p]) > floor:
            break
        root = float(rest[p]) ** 0.5
        row = (row_of(p) - L[:j, p] @ L[:j, :]) / root
        row[p] = root
        L[j, :] = row
        rest = xp.where(rest > row * row, rest - row * row, xp.zeros_like(rest))
        # exactly: by rounding it might be chosen again
        rest[p] = 0.0
        pivots.append(p)
    trace_error = float(xp.sum(rest, dtype=xp.float64))
    return PivotedCholeskyResult(L[: len(pivots), :].T, np.asarray(pivots, dtype=np.intp), trace_error)


def _rows_and_diagonal(K: Any, diagonal: Any) -> tuple[Callable[[int], Array], Array]:
    """A function that gives rows, checked, and a copy of the diagonal."""
    if hasattr(K, "matvec"):
        raise TypeError(
            "K must be an array or a function that gives its rows; got an operator, which has only products"
        )
    if callable(K):
        if diagonal is None:
            raise ValueError("diagonal must be given where K is a callable; got None")
        rest = as_floating(diagonal, "diagonal", ndim=1)
    else:
        K = as_floating(K, "K", ndim=2)
        if K.shape[0] != K.shape[1]:
            raise ValueError(f"K must be square; got shape {tuple(K.shape)}")
        found = array_namespace(K).linalg.diagonal(K) if diagonal is None else diagonal
        rest = as_floating(found, "diagonal", shape=(K.shape[0],), dtype=K.dtype, like=K)
    xp = array_namespace(rest)
    negative = int(xp.count_nonzero(rest < 0))
    if negative:
        raise ValueError(f"diagonal must not be negative; {negative} of its {rest.shape[0]} entries are")

    def row_of(i: int) -> Array:
        if not callable(K):
            return K[i, :]
        return as_floating(K(i), "the value of K", shape=tuple(rest.shape), dtype=rest.dtype, like=rest)

    return row_of, xp.asarray(rest, copy=True)


def randomized_svd(
    A: Any, k: int, *, oversample: int = 10, n_power: int = 2, rng: Any = None
) -> tuple[Array, Array, Array]:
    r"""The leading k singular triplets, from products with a few random vectors.

    Parameters
    ----------
    A : (n, d) array_like, sparse matrix or LinearOperator
        The matrix. It is multiplied ``1 + n_power`` times from the right and as often from the left.
    k : int
        Triplets; at most min(n, d).
    oversample : int
        Random vectors beyond k.
    n_power : int
        Power iterations, each orthonormalised; they sharpen slowly decaying spectra.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    U, s, Vt : (n, k), (k,), (k, d) array
        ``U * s @ Vt`` approximates A; the singular values decrease.

    Raises
    ------
    ValueError, TypeError
        If `A` is not 2-D or not finite, or k is too large.

    References
    ----------
    .. [1] N. Halko, P.-G. Martinsson and J. A. Tropp, "Finding Structure with Randomness", SIAM Review, 2011,
       Algorithms 4.4 and 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import randomized_svd
    >>> A = np.outer(np.arange(50.0), np.ones(20)) + np.eye(50, 20)
    >>> U, s, Vt = randomized_svd(A, 3, rng=0)
    >>> bool(np.allclose(s, np.linalg.svd(A)[1][:3]))
    True
    """
    operator = Operator(A, "A", square=False)
    n, d = operator.shape
    k = _rank(k, min(n, d), f"min{(n, d)}")
    size = min(k + as_count(oversample, "oversample", minimum=0), n, d)
    n_power = as_count(n_power, "n_power", minimum=0)
    Q = _orthonormal(operator @ operator.array(as_rng(rng).standard_normal((d, size))))
    for _ in range(n_power):
        Q = _orthonormal(operator @ _orthonormal(operator.adjoint(Q)))
    W, s, Vt = _svd(operator.adjoint(Q).T)
    return (Q @ W)[:, :k], s[:k], Vt[:k, :]


def nystrom(K: Any, k: int, *, oversample: int = 10, rng: Any = None) -> tuple[Array, Array]:
    r"""The leading k eigenpairs of a positive semi-definite operator, from one product with a few random vectors.

    With orthonormal random vectors :math:`\Omega`, it is the eigendecomposition of
    :math:`(K \Omega)(\Omega^T K \Omega)^{+}(K \Omega)^T`, which lies below K; computed with a shift of rounding size.

    Parameters
    ----------
    K : (n, n) array_like, sparse matrix or LinearOperator
        Symmetric positive semi-definite.
    k : int
        Pairs; at most n.
    oversample : int
        Random vectors beyond k.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    U, eigenvalues : (n, k), (k,) array
        ``U * eigenvalues @ U.T`` approximates K; the eigenvalues decrease and are not negative.

    Raises
    ------
    numpy.linalg.LinAlgError
        If K is not positive semi-definite, beyond rounding.
    ValueError, TypeError
        If `K` is not square or not finite, or k is too large.

    References
    ----------
    .. [1] J. A. Tropp, A. Yurtsever, M. Udell and V. Cevher, "Fixed-Rank Approximation of a Positive-Semidefinite
       Matrix from Streaming Data", NeurIPS 2017, Algorithm 3.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import nystrom
    >>> U, eigenvalues = nystrom(np.diag([4.0, 2.0, 0.0, 0.0]), 2, oversample=1, rng=0)
    >>> eigenvalues.round(8)
    array([4., 2.])
    """
    operator = Operator(K, "K")
    n = operator.n
    k = _rank(k, n, "its size")
    size = min(k + as_count(oversample, "oversample", minimum=0), n)
    xp = operator.xp
    Omega = _orthonormal(operator.array(as_rng(rng).standard_normal((n, size))))
    Y = operator @ Omega
    shift = eps_of(Y) * norm(xp.reshape(Y, (-1,)))
    if shift == 0:
        return Omega[:, :k], xp.zeros(k, dtype=Y.dtype, device=Y.device)
    for growth in (1.0, 10.0, 100.0):
        nu = growth * shift
        B = _right_whitened(Y + nu * Omega, Omega)
        if B is not None:
            U, s, _ = _svd(B)
            values = s * s - nu
            return U[:, :k], xp.where(values > 0, values, xp.zeros_like(values))[:k]
    raise np.linalg.LinAlgError("K must be positive semi-definite; its compression to random vectors is not")


def _right_whitened(Y: Array, Omega: Array) -> Array | None:
    """``Y C^-1`` with ``C^T C = Omega^T Y``; None if that is not positive definite."""
    xp = array_namespace(Y)
    M = Omega.T @ Y
    try:
        L = scipy.linalg.cholesky(to_numpy((M + M.T) / 2), lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None
    B = scipy.linalg.solve_triangular(L, to_numpy(Y).T, lower=True, check_finite=False).T
    return xp.asarray(B, dtype=Y.dtype, device=None if is_numpy(Y) else Y.device)


def _rank(k: Any, most: int, what: str) -> int:
    k = as_count(k, "k")
    if k > most:
        raise ValueError(f"k must be at most {most}, {what}; got {k}")
    return k


def _orthonormal(Y: Array) -> Array:
    return array_namespace(Y).linalg.qr(Y).Q


def _svd(B: Array) -> tuple[Array, Array, Array]:
    U, s, Vt = array_namespace(B).linalg.svd(B, full_matrices=False)
    return U, s, Vt
