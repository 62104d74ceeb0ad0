"""Lanczos: a symmetric operator as a small tridiagonal matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_rng, eps_of
from numcore.linalg._inner import norm
from numcore.linalg._operator import Operator
from numcore.results import Result

__all__ = ["LanczosResult", "lanczos", "tridiagonalise"]

ROUNDINGS = 100
"""How many roundings of a product may add up, at most: with d of them, a float32 operator of a million rows would seem
to break down as soon as one eigenvalue is ten times the others."""


@dataclass(frozen=True, repr=False, eq=False)
class LanczosResult(Result):
    """``A Q = Q T`` up to the last column, T tridiagonal.

    Attributes
    ----------
    alpha, beta : (n_iter,), (n_iter - 1,) float64 array
        The diagonal of T, and the one beside it.
    basis : (d, n_iter) array
        Q, of orthonormal columns.
    n_iter : int
        Steps, each of one product.
    breakdown : bool
        Whether the columns span an invariant subspace, so that T's eigenvalues are eigenvalues of A.
    """

    alpha: np.ndarray[Any, Any]
    beta: np.ndarray[Any, Any]
    basis: Array = field(repr=False)
    n_iter: int
    breakdown: bool


def lanczos(A: Any, k: int, *, v0: Any = None, rng: Any = None) -> LanczosResult:
    """Up to k Lanczos steps, each reorthogonalised twice against all vectors before.

    Parameters
    ----------
    A : (d, d) array_like, sparse matrix or LinearOperator
        Symmetric; symmetry is not checked.
    k : int
        Steps; more than d are d. The basis takes ``d k`` numbers, and the work beside the products is ``8 d k^2``.
    v0 : (d,) array_like, optional
        The first vector, of any length but 0; drawn from the normal distribution by default.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    LanczosResult
        ``alpha``, ``beta``, ``basis``, ``n_iter`` and ``breakdown``. It breaks down, which is no error, when what is
        left of a new vector is below ``eps min(d, 100) |A|``, and at d steps.

    Raises
    ------
    ValueError, TypeError
        If `A` is not square or its products are not finite, or `v0` has the wrong length or is zero.

    References
    ----------
    .. [1] G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th edition, 2013, Algorithm 10.1.1.
    .. [2] L. Giraud, J. Langou, M. Rozložník and J. van den Eshof, "Rounding Error Analysis of the Classical
       Gram-Schmidt Orthogonalization Process", 2005: twice is enough.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.linalg import eigvalsh_tridiagonal
    >>> from numcore.linalg import lanczos
    >>> A = np.diag([1.0, 1.0, 2.0, 5.0, 5.0])  # three distinct eigenvalues
    >>> result = lanczos(A, 5, rng=0)
    >>> result.n_iter, result.breakdown, eigvalsh_tridiagonal(result.alpha, result.beta).round(10)
    (3, True, array([1., 2., 5.]))
    """
    k = as_count(k, "k")
    like = None if v0 is None else as_floating(v0, "v0", ndim=1)
    operator = Operator(A, "A", like=like)
    if operator.n == 0:
        raise ValueError("A must not be empty; got shape (0, 0)")
    if like is None:
        v0 = operator.array(as_rng(rng).standard_normal(operator.n))
    else:
        v0 = as_floating(v0, "v0", shape=(operator.n,))
        if not bool(operator.xp.any(v0 != 0)):
            raise ValueError("v0 must not be zero")
    return tridiagonalise(operator, v0, k)


def tridiagonalise(operator: Operator, v0: Array, k: int) -> LanczosResult:
    """:func:`lanczos` on checked arguments."""
    xp, d = array_namespace(v0), operator.n
    k = min(k, d)
    Q = xp.zeros((k, d), dtype=v0.dtype, device=v0.device)
    v = v0 / xp.max(xp.abs(v0))
    v = v / norm(v)
    alpha: list[float] = []
    beta: list[float] = []
    size, breakdown = 0.0, False
    for j in range(k):
        Q[j, :] = v
        w = operator @ v
        alpha.append(float(v @ w))
        for _ in range(2):
            w = w - (Q[: j + 1, :] @ w) @ Q[: j + 1, :]
        rest = norm(w)
        size = max(size, abs(alpha[-1]) + rest + (beta[-1] if beta else 0.0))
        breakdown = j + 1 == d or rest <= eps_of(v0) * min(d, ROUNDINGS) * size
        if breakdown or j + 1 == k:
            break
        beta.append(rest)
        v = w / rest
    n_iter = len(alpha)
    return LanczosResult(np.asarray(alpha), np.asarray(beta), Q[:n_iter, :].T, n_iter, breakdown)
