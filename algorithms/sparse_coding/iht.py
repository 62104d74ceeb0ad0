"""Iterative hard thresholding: gradient steps, each followed by the choice of the largest coefficients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.sparse_coding._atoms import power_of_two
from numcore.algorithms.sparse_coding._problem import as_signals, row_blocks, row_scales
from numcore.algorithms.sparse_coding._result import SparseCodeResult, warn_unless_converged
from numcore.arrays import as_choice, as_count, as_number
from numcore.prox import project_top_k

__all__ = ["iht"]

Array = NDArray[np.float64]

SAFE, CUT = 0.99, 2 * 0.99
"""A step that changes the support is at most this part of the one that is known to descend, else it is divided by the
second number (Blumensath and Davies, 2010: ``1 - c`` and ``kappa (1 - c)`` with c = 0.01, kappa = 2)."""

PIVOT = 1e-10
"""Eigenvalues of a support's Gram matrix below this part of the largest are none."""

ENTRIES = 2**22
"""Entries of the Gram matrices that are held at once."""


def iht(
    X: ArrayLike,
    dictionary: ArrayLike,
    *,
    n_nonzero: int,
    normalized: bool = True,
    debias: bool = True,
    tol: float = 1e-6,
    max_iter: int = 500,
) -> SparseCodeResult:
    r"""Minimise :math:`\frac12 \|x - a D\|^2` over codes with at most `n_nonzero` coefficients, locally.

    .. math:: a \leftarrow H_s(a + \mu g), \qquad g = (x - a D) D^\top

    where :math:`H_s` keeps the s largest. The objective never increases.

    Parameters
    ----------
    X : (n, p) array_like or dask array
        Signals, a row each.
    dictionary : (k, p) array_like
        Atoms, a row each.
    n_nonzero : int
        Coefficients at most, a signal.
    normalized : bool
        Take the step :math:`\mu = \|g_S\|^2 / \|g_S D_S\|^2`, which is the best one along the gradient on the support,
        and shorten it where the support changes until the objective is sure to fall; else
        :math:`\mu = 1 / \lambda_{\max}(D D^\top)`.
    debias : bool
        End with least squares on the support.
    tol : float
        A signal has converged when a step changes its code by at most `tol` times its norm.
    max_iter : int
        Steps at most.

    Returns
    -------
    SparseCodeResult
        With ``objective = |x - code D|^2 / 2`` and ``gap`` NaN. Signals are ``degenerate`` whose atoms were found to be
        linearly dependent by the last least squares.

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If shapes do not match, entries are not finite, or a parameter lies outside its range.

    Warns
    -----
    ConvergenceWarning
        If any signal used all steps.

    Notes
    -----
    Of coefficients of equal size the first are kept. float32 signals give float32 codes, computed in float64.

    References
    ----------
    .. [1] T. Blumensath, M. E. Davies, "Iterative thresholding for sparse approximations", J. Fourier Anal. Appl. 14,
       2008, equation 11.
    .. [2] T. Blumensath, M. E. Davies, "Normalized iterative hard thresholding: guaranteed stability and performance",
       IEEE J. Sel. Top. Signal Process. 4(2), 2010, equations 13 to 15.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import iht
    >>> D = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    >>> iht([[2.0, -1.0, 0.0]], D, n_nonzero=2).code.round(6)
    array([[ 2., -1.,  0.]])
    """
    s = as_count(n_nonzero, "n_nonzero")
    as_choice(normalized, "normalized", (True, False))
    as_choice(debias, "debias", (True, False))
    tol = as_number(tol, "tol", above=0, closed=True)
    max_iter = as_count(max_iter, "max_iter")
    signals, D = as_signals(X, dictionary)
    n, k = signals.shape[0], len(D)
    unit = power_of_two(D)
    solver = _Thresholding(D / np.float64(unit), min(s, k), normalized, tol, max_iter)
    result = SparseCodeResult(
        code=np.empty((n, k), np.float32 if signals.dtype == np.float32 else np.float64),
        objective=np.empty(n),
        gap=np.full(n, np.nan),
        n_iter=np.empty(n, np.int64),
        n_nonzero=np.empty(n, np.int64),
        converged=np.empty(n, bool),
        degenerate=np.zeros(n, bool),
    )
    with on_one_thread():
        for rows, part in row_blocks(signals):
            scales = row_scales(part)
            x = part.astype(np.float64) / scales[:, None]
            A, result.n_iter[rows], result.converged[rows] = solver.code(x)
            if debias:
                A, result.degenerate[rows] = solver.fitted(x, A)
            result.code[rows] = A * scales[:, None] / unit
            result.objective[rows] = np.sum((x - A @ solver.D) ** 2, axis=1) / 2 * scales * scales
            result.n_nonzero[rows] = np.count_nonzero(A, axis=1)
    warn_unless_converged("iht", result.converged, "Raise max_iter or tol.")
    return result


class _Thresholding:
    """Codes blocks of signals over the float64 dictionary D, with s coefficients each."""

    def __init__(self, D: Array, s: int, normalized: bool, tol: float, max_iter: int) -> None:
        self.D, self.s, self.normalized, self.tol, self.max_iter = D, s, normalized, tol, max_iter
        top = float(np.linalg.norm(D, 2)) ** 2
        self.step = 1 / top if top > 0 else 1.0

    def code(self, X: Array) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
        """Iterate until every signal has converged: codes, steps taken, and which did."""
        A = np.zeros((len(X), len(self.D)))
        n_iter, converged = np.zeros(len(X), np.int64), np.zeros(len(X), bool)
        live = np.arange(len(X))
        for _ in range(self.max_iter):
            a = A[live]
            g = (X[live] - a @ self.D) @ self.D.T
            new = self._normalized_step(a, g) if self.normalized else project_top_k(a + self.step * g, self.s)
            A[live] = new
            n_iter[live] += 1
            done = np.linalg.norm(new - a, axis=1) <= self.tol * np.linalg.norm(new, axis=1)
            converged[live] = done
            live = live[~done]
            if not live.size:
                break
        return A, n_iter, converged

    def _normalized_step(self, a: Array, g: Array) -> Array:
        support = a != 0
        empty = ~support.any(axis=1)
        support[empty] = project_top_k(g[empty], self.s) != 0
        own = np.where(support, g, 0.0)
        mu = self._ratio(own)
        new = project_top_k(a + mu[:, None] * g, self.s)
        # on an unchanged support the step is the best; elsewhere it has to prove itself
        doubt = np.flatnonzero(((new != 0) & ~support).any(axis=1))
        while doubt.size:
            doubt = doubt[mu[doubt] > SAFE * self._ratio(new[doubt] - a[doubt])]
            mu[doubt] /= CUT
            new[doubt] = project_top_k(a[doubt] + mu[doubt, None] * g[doubt], self.s)
        return new

    def _ratio(self, V: Array) -> Array:
        """``|v|^2 / |v D|^2`` of each row, at least the step that always descends."""
        size, image = np.sum(V * V, axis=1), np.sum((V @ self.D) ** 2, axis=1)
        return np.maximum(np.where(image > 0, size / np.where(image > 0, image, 1.0), 0.0), self.step)

    def fitted(self, X: Array, A: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Least squares on the support of each code, and where that has dependent atoms."""
        A, degenerate, G = A.copy(), np.zeros(len(A), bool), self.D @ self.D.T
        step = max(1, ENTRIES // self.s**2)
        for begin in range(0, len(A), step):
            rows = slice(begin, begin + step)
            degenerate[rows] = self._fit(X[rows], A[rows], G)
        return A, degenerate

    def _fit(self, X: Array, A: Array, G: Array) -> NDArray[np.bool_]:
        used = A != 0
        S = np.argsort(~used, axis=1, kind="stable")[:, : self.s]
        inside = np.take_along_axis(used, S, axis=1)
        H = G[S[:, :, None], S[:, None, :]] * (inside[:, :, None] & inside[:, None, :])
        values, vectors = np.linalg.eigh(H)
        # coefficients that are not there add eigenvalues 0 of their own
        solid = values > PIVOT * values[:, -1:]
        inverse = np.where(solid, 1 / np.where(solid, values, 1.0), 0.0)
        for _ in range(2):  # the second solution corrects the rounding of the first
            c = np.take_along_axis((X - A @ self.D) @ self.D.T, S, axis=1) * inside
            d = np.einsum("nij,nj,nkj,nk->ni", vectors, inverse, vectors, c, optimize=True)
            np.put_along_axis(A, S, np.take_along_axis(A, S, axis=1) + d * inside, axis=1)
        return solid.sum(axis=1) < inside.sum(axis=1)
