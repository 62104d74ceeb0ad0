"""Low-rank matrices from linear measurements with gross outliers: the sub-gradient method on the l1 loss.

J. Ma and S. Fattahi, *Global Convergence of Sub-gradient Method for Robust Matrix Recovery: Small Initialization, Noisy
Measurements, and Over-parameterization*, 2022 (SubGM).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from numcore.arrays import as_choice, as_count, as_floating, as_number
from numcore.results import Callback, Loop, Result

__all__ = ["SubGMResult", "robust_matrix_recovery"]

Array = NDArray[Any]


@dataclass(frozen=True, repr=False, eq=False)
class SubGMResult(Result):
    """What :func:`robust_matrix_recovery` returns.

    Attributes
    ----------
    X : (d, d) array
        The matrix, ``U @ U.T``.
    U : (d, rank) array
    residual_l1 : float
        Mean absolute residual of the measurements.
    rank_estimate : int
        Where the eigenvalues of `X` fall off most steeply, in ratio; those below 1e-6 of the largest count as 1e-6.
    converged : bool
    n_iter : int
    history : dict
        A float64 array an iteration: ``error`` (see `tol`), ``residual_l1``, ``step``.
    """

    X: Array
    U: Array
    residual_l1: float
    rank_estimate: int
    converged: bool
    n_iter: int
    history: dict[str, Array]


def robust_matrix_recovery(
    measurements: Any,
    y: Any,
    *,
    rank: int | None = None,
    init_scale: float = 1e-6,
    step: Literal["polyak", "geometric"] = "polyak",
    step_size: float = 0.25,
    decay: float = 0.99,
    max_iter: int = 1200,
    tol: float = 1e-9,
    callback: Callback | None = None,
    verbose: int = 0,
) -> SubGMResult:
    r"""Recover a positive semidefinite matrix from linear measurements, some of them grossly wrong.

    For :math:`y_i = \langle A_i, X\rangle + s_i` with sparse :math:`s`: sub-gradient descent on
    :math:`f(U) = \frac1m \sum_i |\langle A_i, UU^\top\rangle - y_i|` from a small start. Directions that the data do
    not call for stay as small as they began, so that `rank` may be far too large.

    Parameters
    ----------
    measurements : (m, d, d) array
        The matrices :math:`A_i`; only their symmetric parts are seen.
    y : (m,) array
    rank : int, optional
        Columns of `U`; default d.
    init_scale : float
        Size of the start. The directions beyond the true rank end about as small as this.
    step : {"polyak", "geometric"}
        ``"polyak"``: :math:`\eta_t = \eta_0 f(U_t)`, for measurements without noise. ``"geometric"``:
        :math:`\eta_t = \eta_0 \rho^t / \|Q_t\|_F`, for outliers and noise.
    step_size, decay : float
        :math:`\eta_0` and :math:`\rho`, for measurements scaled to a typical size of 1 (which is done inside).
    max_iter : int
    tol : float
        Converged when the mean absolute residual, in units of the typical measurement, is at most this; with geometric
        steps also when the relative change of U is, which takes about log(tol) / log(decay) iterations.
    callback : callable, optional
        Called once an iteration with a record of ``n_iter``, ``U``, ``residual_l1``, ``step``; True stops.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    SubGMResult

    Raises
    ------
    ValueError
        If an argument is of the wrong shape or range, or not finite.
    TypeError
        If an argument is of the wrong type.

    Warns
    -----
    ConvergenceWarning
        If `tol` was not reached.

    References
    ----------
    J. Ma, S. Fattahi, *Global Convergence of Sub-gradient Method for Robust Matrix Recovery: Small Initialization,
    Noisy Measurements, and Over-parameterization*, 2022, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import robust_matrix_recovery
    >>> rng = np.random.default_rng(0)
    >>> u = np.array([[1.0], [2.0], [0.0], [-1.0]])
    >>> A = rng.standard_normal((60, 4, 4))
    >>> y = np.einsum("mij,ij->m", A, u @ u.T)
    >>> found = robust_matrix_recovery(A, y)
    >>> np.round(found.X[1], 6), found.rank_estimate
    (array([ 2.,  4.,  0., -2.]), 1)
    """
    A = as_floating(measurements, "measurements", ndim=3)
    m, d, width = A.shape
    if d != width or not A.size:
        raise ValueError(f"measurements must have shape (m, d, d), m and d at least 1; got {A.shape}")
    y = as_floating(y, "y", shape=(m,), like=A)
    r = d if rank is None else as_count(rank, "rank")
    if r > d:
        raise ValueError(f"rank must be at most {d}, the size of the matrices; got {r}")
    alpha, tol = as_number(init_scale, "init_scale", above=0), as_number(tol, "tol", above=0, closed=True)
    as_choice(step, "step", ("polyak", "geometric"))
    eta0 = as_number(step_size, "step_size", above=0)
    rho = as_number(decay, "decay", above=0, below=1, closed=True)
    if not rho:
        raise ValueError("decay must be positive; got 0")

    # the median, because outliers inflate a mean; 0.6745 makes it the standard deviation of normal measurements
    scale = float(np.median(np.abs(y)) / 0.6745 or np.abs(y).mean())
    loop = Loop("robust_matrix_recovery", tol=tol, max_iter=max_iter, callback=callback, verbose=verbose)
    rows = ((A + A.transpose(0, 2, 1)) / 2).reshape(m, d * d)
    z = y / scale if scale else y
    root = float(np.sqrt(scale))

    def matrix(signs: Array) -> Array:
        return (signs @ rows).reshape(d, d) / m

    def residuals(U: Array) -> Array:
        return rows @ (U @ U.T).ravel() - z

    U = small_start(matrix(np.sign(z)), r, alpha)
    residual = residuals(U)
    f = float(np.abs(residual).mean())
    eta = 0.0
    for t in loop.stage(error=f):
        Q = matrix(np.sign(residual))
        size = float(np.linalg.norm(Q))
        eta = eta0 * (f if step == "polyak" else rho**t / size if size else 0.0)
        move = (2 * eta) * (Q @ U)
        U = U - move
        residual = residuals(U)
        f = float(np.abs(residual).mean())
        # geometric steps end at any residual, noise included; Polyak's are small whenever the residual is
        change = float(np.linalg.norm(move) / (np.linalg.norm(U) or 1.0)) if step == "geometric" else np.inf
        loop.report(min(f, change), residual_l1=f * scale, step=eta, state=partial(shown, U, root))
    loop.finish("Geometric steps shrink slowly: raise tol, lower decay, or raise max_iter.")
    U = U * root
    return SubGMResult(
        X=U @ U.T,
        U=U,
        residual_l1=f * scale,
        rank_estimate=steepest_fall(np.linalg.svd(U, compute_uv=False) ** 2),
        **loop.outcome,
    )


def shown(U: Array, root: float) -> dict[str, Array]:
    """What a callback sees."""
    return {"U": U * root}


def small_start(C: Array, r: int, alpha: float) -> Array:
    r"""U with the r leading eigenvectors of C, each alpha times its eigenvalue long.

    The source takes the root of the eigenvalue. Directions of noise, where eigenvalues are small, then start higher
    and end higher: over eight random problems the error is 1.1 to 4 times as large.
    """
    values, vectors = np.linalg.eigh(C)
    start: Array = alpha * vectors[:, ::-1][:, :r] * np.maximum(values[::-1][:r], 0)
    return start


def steepest_fall(values: Array, floor: float = 1e-6) -> int:
    """The k where ``values[k-1] / values[k]`` is largest, for descending `values` cut off at `floor` of the first."""
    if not values[0]:
        return 0
    logs = np.log(np.maximum(np.append(values / values[0], 0), floor))
    return int(np.argmax(logs[:-1] - logs[1:])) + 1
