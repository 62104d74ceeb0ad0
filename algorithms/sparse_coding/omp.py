"""Orthogonal matching pursuit: atoms chosen one after the other, coefficients of least squares."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.sparse_coding._loops_pursuit import DEPENDENT, EXPLAINED, FULL, REACHED, pursue
from numcore.algorithms.sparse_coding._parallel import as_jobs, over_blocks
from numcore.algorithms.sparse_coding._problem import as_signals, row_scales
from numcore.algorithms.sparse_coding._result import SparseCodeResult, warn_unless_converged
from numcore.arrays import as_choice, as_count, as_number

__all__ = ["omp"]

Array = NDArray[Any]


def omp(
    X: ArrayLike,
    dictionary: ArrayLike,
    *,
    n_nonzero: int | None = 10,
    tol: float | None = None,
    selection: Literal["omp", "oomp"] = "omp",
    n_jobs: int | None = None,
) -> SparseCodeResult:
    r"""Code every signal with a few atoms, chosen greedily.

    With the atoms S chosen so far, r the residual of the signal and :math:`P_S` the projection on their span, the next
    atom is

    .. math:: \arg\max_j \frac{|\langle r, d_j \rangle|}{\|d_j\|} \quad \text{(omp)}, \qquad
        \arg\max_j \frac{|\langle r, d_j \rangle|}{\|d_j - P_S d_j\|} \quad \text{(oomp)}.

    The second lowers the residual most, which costs no more here. Then all coefficients are those of least squares.

    Parameters
    ----------
    X : (n, p) array_like or dask array
        Signals, a row each.
    dictionary : (k, p) array_like
        Atoms, a row each, of any norms but zero.
    n_nonzero : int or None
        Atoms at most, a signal; None for no limit. Above the rank of the dictionary it is cut to that.
    tol : float, optional
        A signal is done, with fewer atoms maybe, when the square of its residual's norm is at most this.
    selection : {"omp", "oomp"}
        The rule. SPAMS has the second under the name of the first.
    n_jobs : int, optional
        Threads that work on blocks of signals; -1 takes all processors. By default the blocks follow one another and
        the compiled loops share out each. The codes do not depend on it.

    Returns
    -------
    SparseCodeResult
        With ``objective = |x - code D|^2 / 2``, ``gap`` NaN and ``n_iter`` the atoms chosen. Where `tol` is given,
        ``converged`` says whether it was reached; else it is True. Signals are ``degenerate`` that used up the rank of
        the dictionary before they had `n_nonzero` atoms, or whose next atom depended on those chosen.

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If shapes do not match, entries are not finite, an atom is zero, or a parameter lies outside its range.

    Warns
    -----
    ConvergenceWarning
        If `tol` is given and was not reached for some signal.

    Notes
    -----
    Among atoms that tie, the first is chosen. float32 signals are correlated with the atoms in float32; all else is
    float64.

    References
    ----------
    .. [1] Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, "Orthogonal matching pursuit", Asilomar, 1993.
    .. [2] L. Rebollo-Neira, D. Lowe, "Optimized orthogonal matching pursuit approach", IEEE Signal Process. Lett. 9(4),
       2002, equation 10.
    .. [3] R. Rubinstein, M. Zibulevsky, M. Elad, "Efficient implementation of the K-SVD algorithm using batch
       orthogonal matching pursuit", Technion CS-2008-08, 2008 (Gram matrix and Cholesky factor).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import omp
    >>> D = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    >>> omp([[3.0, 0.5, 0.25]], D, n_nonzero=2).code
    array([[3. , 0.5, 0. ]])
    """
    as_choice(selection, "selection", ("omp", "oomp"))
    n_jobs = as_jobs(n_jobs)
    most = None if n_nonzero is None else as_count(n_nonzero, "n_nonzero")
    target = None if tol is None else as_number(tol, "tol", above=0, closed=True)
    X, D = as_signals(X, dictionary)
    atoms, norms = _unit_atoms(D)
    pursuit = _Pursuit(X, atoms, norms, most, target, selection == "oomp")
    with on_one_thread():
        for _ in over_blocks(pursuit.fill, X, n_jobs):
            pass
        result = pursuit.finish()
    warn_unless_converged("omp", result.converged, "Raise n_nonzero or tol.")
    return result


def _unit_atoms(D: Array) -> tuple[Array, Array]:
    """The atoms divided by their norms, in float64, and the norms, which may not be 0."""
    empty = int(np.count_nonzero(~D.any(axis=1)))
    if empty:
        raise ValueError(f"dictionary must have no zero atom; {empty} of its {len(D)} atoms are zero")
    scales = row_scales(D)
    units = D / scales[:, None]
    lengths = np.linalg.norm(units, axis=1)
    return units / lengths[:, None], lengths * scales


class _Pursuit:
    """Codes the blocks of X, each into its rows of the result."""

    def __init__(self, X: Any, D: Array, norms: Array, most: int | None, tol: float | None, optimal: bool) -> None:
        n, k = X.shape[0], len(D)
        self.D, self.norms, self.tol, self.optimal = D, norms, tol, optimal
        self.wanted = k if most is None else most
        self.limited = most is not None
        self.most = min(self.wanted, *D.shape)
        self.G = D @ D.T
        self.single = X.dtype == np.float32
        self.D_own = D.astype(np.float32) if self.single else D
        self.code = np.zeros((n, k), self.D_own.dtype)
        self.counts, self.ends, self.objective = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)

    def fill(self, rows: slice, X: Array) -> None:
        scales = row_scales(X)
        if not np.all((scales > 2.0**-40) & (scales < 2.0**40)):  # powers of two: what comes out is the same
            X = (X / scales[:, None]).astype(self.D_own.dtype)
        else:
            X, scales = X.astype(self.D_own.dtype, copy=False), np.ones(len(X))
        limit = np.full(len(X), -1.0) if self.tol is None else (np.sqrt(self.tol) / scales) ** 2
        found = pursue(X, X @ self.D_own.T, self.G, self.D, self.most, limit, self.optimal)
        atoms, values, self.counts[rows], squares, self.ends[rows] = found
        used = atoms >= 0
        which = np.nonzero(used)[0]
        chosen = atoms[used]
        self.code[rows][which, chosen] = values[used] / self.norms[chosen] * scales[which]
        self.objective[rows] = squares / 2 * scales * scales

    def finish(self) -> SparseCodeResult:
        return SparseCodeResult(
            code=self.code,
            objective=self.objective,
            gap=np.full(len(self.code), np.nan),
            n_iter=self.counts,
            n_nonzero=np.count_nonzero(self.code, axis=1),
            converged=np.full(len(self.code), True) if self.tol is None else self.ends == REACHED,
            degenerate=self._degenerate(),
        )

    def _degenerate(self) -> NDArray[np.bool_]:
        """Where the atoms ran out: the next one depended on those chosen, or no independent one was left."""
        short = ((self.ends == FULL) | (self.ends == EXPLAINED)) & (self.counts < self.wanted)
        if self.limited and short.any():
            # matrix_rank takes the singular values of all atoms: asked only where it matters
            short &= self.counts >= np.linalg.matrix_rank(self.D)
        else:
            short[:] = False
        return short | (self.ends == DEPENDENT)
