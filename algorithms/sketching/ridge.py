"""Ridge regression for a whole path of penalties, with exact cross-validation, from two or three reads of the data."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from numcore.algorithms.sketching._factor import Parts, WithOnes, as_rows, factor_of
from numcore.algorithms.sketching._rows import Block, Rows
from numcore.algorithms.sketching._setup import Matrix, scaled_block
from numcore.arrays import as_choice, as_floating, as_rng
from numcore.results import Result

__all__ = ["RidgePathResult", "ridge_path"]

ALONE = 1e-14
"""Up to this, 1 - h is rounding: the row decides its own fit."""


@dataclass(frozen=True, repr=False, eq=False)
class RidgePathResult(Result):
    """Ridge solutions for many penalties.

    Attributes
    ----------
    alphas : (n_alphas,) array
        As they were given.
    coef : (n_alphas, d) or (n_alphas, k, d) array
        float32 if `A` and `b` are, else float64.
    intercept : (n_alphas,) or (n_alphas, k) array
    df : (n_alphas,) array
        Degrees of freedom: the trace of the matrix that makes fitted values of b.
    gcv : (n_alphas,) array
        The generalised cross-validation score, ``n RSS / (n - df)^2``, the mean of several right-hand sides.
    loo : (n_alphas,) array or None
        With ``cv="loo"``, the mean of the squared (and weighted) residuals of rows that were left out, one at a time.
    best_alpha : float or None
        Where the score that was asked for is smallest.
    best_index : int or None
    """

    alphas: np.ndarray[Any, Any]
    coef: np.ndarray[Any, Any]
    intercept: np.ndarray[Any, Any]
    df: np.ndarray[Any, Any]
    gcv: np.ndarray[Any, Any]
    loo: np.ndarray[Any, Any] | None
    best_alpha: float | None
    best_index: int | None


def ridge_path(
    A: Any,
    b: Any,
    alphas: Any,
    *,
    fit_intercept: bool = True,
    sample_weight: Any = None,
    cv: str | None = "gcv",
    rng: Any = None,
) -> RidgePathResult:
    r"""Minimise :math:`\|A x + t - b\|^2 + \alpha \|x\|^2` for each of many :math:`\alpha`.

    The rows are compressed to a square problem, ``|T x - c|^2``, of which one singular value decomposition gives all
    solutions and their generalised cross-validation scores. One more read of A gives, for all of them, the exact
    residual of each row under the model fitted without it, ``r_i / (1 - h_i)`` with the leverage ``h_i``.

    Parameters
    ----------
    A : (n, d) array_like, sparse matrix, dask array, or callable
        As for :func:`lstsq`.
    b : (n,) or (n, k) array_like
        None where A is a callable.
    alphas : (n_alphas,) array_like
        The penalties, not negative, in any order. At 0 the solution is that of least norm.
    fit_intercept : bool
        Whether there is an intercept t, which is not penalised.
    sample_weight : (n,) array_like, optional
        Weights of the rows' squares. In the scores, n is the number of weights above zero.
    cv : {"gcv", "loo", None}
        The score that chooses `best_alpha`. "loo" costs one more read of A.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes. The result depends on it by rounding alone.

    Returns
    -------
    RidgePathResult

    Raises
    ------
    ValueError, TypeError
        If shapes or options do not fit, a penalty is negative, or entries are not finite.

    Notes
    -----
    A score is infinite where as many degrees of freedom are spent as there are rows, or a row decides its own fit
    alone: nothing is then known of rows to come.

    References
    ----------
    .. [1] G. Golub, M. Heath and G. Wahba, "Generalized Cross-Validation as a Method for Choosing a Good Ridge
       Parameter", Technometrics 21, 1979.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import ridge_path
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((200, 50))
    >>> b = A @ rng.standard_normal(50) + 5 * rng.standard_normal(200)
    >>> path = ridge_path(A, b, np.logspace(-2, 4, 7), cv="loo", rng=0)
    >>> path.best_alpha, path.df.round(1)
    (10.0, array([51. , 51. , 50.7, 47.9, 32.3,  9. ,  2. ]))
    """
    as_choice(cv, "cv", ("gcv", "loo", None))
    as_choice(fit_intercept, "fit_intercept", (True, False))
    alphas = checked_alphas(alphas)
    rows = as_rows(A, b, sample_weight)
    if not rows.k:
        raise ValueError("b must be given; got None")
    factor = factor_of(WithOnes(rows) if fit_intercept else rows, rng=as_rng(rng))
    return path_of(factor.parts(), factor.n_rows, alphas, cv, rows.dtype, rows.single, rows)


def checked_alphas(alphas: Any) -> np.ndarray[Any, Any]:
    """Penalties as a float64 vector.

    Raises
    ------
    ValueError, TypeError
        If there are none, or one is negative or not finite.
    """
    alphas = as_floating(alphas, "alphas", ndim=1, dtype=np.float64)
    if not alphas.size:
        raise ValueError("alphas must not be empty")
    negative = int(np.count_nonzero(alphas < 0))
    if negative:
        raise ValueError(f"alphas must not be negative; {negative} of its {alphas.size} entries are")
    return np.asarray(alphas)


def path_of(
    parts: Parts, n: int, alphas: Matrix, cv: str | None, dtype: Any, single: bool, rows: Rows | None = None
) -> RidgePathResult:
    """The path of a compressed problem of n rows; `rows`, without a column of ones, are read for ``cv="loo"``."""
    rcond = 64 * float(np.finfo(dtype).eps)
    path = _Path(parts, alphas, rcond)
    coef, df = path.coefficients(), path.df + (parts.weight > 0)
    scale_b = path.scale_b
    with np.errstate(over="ignore"):
        free, gcv = n - df, np.full(len(alphas), np.inf)
        some = free > 1e-9 * n
        gcv[some] = n * path.rss.mean(axis=1)[some] / free[some] ** 2
        loo = None
        if cv == "loo":
            assert rows is not None
            loo = path.left_out(rows) / n
        score = {"gcv": gcv, "loo": loo, None: None}[cv]
        best = None if score is None else int(np.argmin(score))
        intercept = parts.y_offset - coef @ parts.x_offset  # (n_alphas, k)
        return RidgePathResult(
            alphas=alphas,
            coef=(coef[:, 0] if single else coef).astype(dtype),
            intercept=(intercept[:, 0] if single else intercept).astype(dtype),
            df=df,
            gcv=gcv * scale_b**2,
            loo=None if loo is None else loo * scale_b**2,
            best_alpha=None if best is None else float(alphas[best]),
            best_index=best,
        )


class _Path:
    """``T = U diag(s) V^T``, scaled by a power of two, and what each penalty makes of it.

    ``x(alpha) = V diag(f / s) U^T c`` with ``f = s^2 / (s^2 + alpha)``, which is nowhere squared. At alpha = 0 it is
    the solution of least norm, with the rank and the column scales of all solvers.
    """

    def __init__(self, parts: Parts, alphas: Matrix, rcond: float) -> None:
        self.parts, self.plain = parts, parts.setup(rcond)
        self.zero = alphas == 0
        self.scale_b = self.plain.scale_b
        top = float(np.abs(parts.T).max(initial=0.0))
        self.scale = float(np.exp2(np.frexp(top)[1])) if top else 1.0
        U, s, Vt = scipy.linalg.svd(parts.T / self.scale, full_matrices=False, check_finite=False)
        with np.errstate(over="ignore"):
            self.alphas = np.minimum(alphas / self.scale / self.scale, 1e300)[:, None]
        tiny = s <= np.finfo(float).eps * max(parts.T.shape) * s.max(initial=0.0)
        self.s, self.V = np.where(tiny, 0.0, s), Vt.T
        c = parts.c / self.scale_b
        self.target = U.T @ c
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            # 1 / (s + alpha / s), and f
            self.gain = np.where(tiny, 0.0, 1 / (s + self.alphas / s))
            self.shrink = np.where(tiny, 0.0, self.gain * s)
        Q = self.plain.factors.U.T @ self.plain.Sb
        self.df = np.where(self.zero, self.plain.rank, self.shrink.sum(axis=1))
        rest = (parts.norms / self.scale_b) ** 2
        left = ((1 - self.shrink)[:, :, None] * self.target) ** 2
        lost = np.maximum(np.sum(self.plain.Sb**2, axis=0) - np.sum(Q**2, axis=0), 0)
        self.rss = rest + np.where(self.zero[:, None], lost, left.sum(axis=1))

    def coefficients(self) -> Matrix:
        """(n_alphas, k, d)."""
        x = np.einsum("ij,aj,jk->aki", self.V, self.gain, self.target, optimize=True) * self.scale_b / self.scale
        x[self.zero] = self.plain.solution(self.plain.x0).T
        return x

    def left_out(self, rows: Rows) -> Matrix:
        """For each penalty, the sum of weighted squares of the rows' residuals where they are left out."""
        (total,) = rows.fold(functools.partial(_left_out, self), 1024)
        return np.asarray(np.where(np.isnan(total), np.inf, total))


def _left_out(path: _Path, block: Block) -> tuple[Matrix]:
    plain, zero = path.plain, path.zero
    total = np.empty(len(zero))
    if not zero.all():
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            weights = np.where(path.s > 0, path.gain[~zero] / path.s, 0.0)  # 1 / (s^2 + alpha)
        fits = path.gain[~zero][:, :, None] * path.target
        total[~zero] = _deleted(path, block, path.V, np.full(len(path.V), path.scale), weights, fits)
    if zero.any():
        scale = np.ones(len(path.V)) if plain.scale is None else plain.scale
        fits = (plain.factors.U.T @ plain.Sb)[None]
        total[zero] = _deleted(path, block, plain.factors.P, scale, np.ones((1, plain.rank)), fits)
    return (total,)


def _deleted(path: _Path, block: Block, P: Matrix, scale: Matrix, weights: Matrix, fits: Matrix) -> Matrix:
    """Sums of squares of ``r / (1 - h)`` for penalties: with Z = A P centred, ``h = Z^2 weights``, ``r = b - Z fits``.

    Shapes: A / scale is meant by A; P (d, r), weights (n_alphas, r), fits (n_alphas, r, k).
    """
    parts = path.parts
    X, y = scaled_block(block)
    roots = np.ones(X.shape[0]) if block.roots is None else block.roots
    Z = X @ (P / scale[:, None]) - roots[:, None] * ((parts.x_offset / scale) @ P)
    y = (y - roots[:, None] * parts.y_offset) / path.scale_b
    h = (Z * Z) @ weights.T
    if parts.weight:
        h += (roots**2 / parts.weight)[:, None]
    r = y[:, None, :] - np.einsum("nr,ark->nak", Z, fits, optimize=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = r / np.where(1 - h > ALONE, 1 - h, 0.0)[:, :, None]
    out[roots == 0] = 0.0
    return np.asarray(np.sum(out * out, axis=0).mean(axis=1))
