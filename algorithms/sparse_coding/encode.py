"""Sparse codes of many signals over one dictionary, for convex and non-convex penalties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.sparse_coding._anderson import anderson
from numcore.algorithms.sparse_coding._cd import coordinate_descent
from numcore.algorithms.sparse_coding._fista import fista
from numcore.algorithms.sparse_coding._homotopy import homotopy
from numcore.algorithms.sparse_coding._parallel import as_jobs, over_blocks
from numcore.algorithms.sparse_coding._penalty import PENALTIES, Penalty
from numcore.algorithms.sparse_coding._problem import BLOCK, Block, Outcome, Problem, as_signals, row_blocks
from numcore.algorithms.sparse_coding._proximal import proximal_gradient
from numcore.algorithms.sparse_coding._restarts import from_path
from numcore.algorithms.sparse_coding._result import SparseCodeResult, warn_unless_converged
from numcore.arrays import as_choice, as_count, as_floating, as_number
from numcore.results import Callback, Progress, State

__all__ = ["SOLVERS", "as_solver", "reg_max", "sparse_encode"]

Solver = Callable[[Block], Outcome]

SOLVERS: dict[str, Solver] = {
    "cd": coordinate_descent,
    "fista": fista,
    "anderson": anderson,
    "homotopy": homotopy,
    "proximal_gradient": proximal_gradient,
}


def sparse_encode(
    X: ArrayLike,
    dictionary: ArrayLike,
    *,
    penalty: Literal[
        "l1", "elastic_net", "l0", "half", "two_thirds", "lq", "mcp", "scad", "cel0", "log_sum", "group", "tree"
    ] = "l1",
    reg: float = 0.1,
    solver: Literal["auto", "cd", "fista", "anderson", "homotopy", "proximal_gradient"] = "auto",
    weights: ArrayLike | None = None,
    positive: bool = False,
    init: ArrayLike | None = None,
    penalty_params: dict[str, Any] | None = None,
    restarts: Literal["path", "none"] = "path",
    tol: float = 1e-6,
    max_iter: int = 1000,
    n_jobs: int | None = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> SparseCodeResult:
    r"""Code each row x of `X` over the atoms, the rows of D: minimise a squared error plus a penalty.

    .. math:: P(a) = \tfrac12 \|x - a D\|^2 + reg \sum_j w_j \varphi(a_j)

    The error is not divided by the number of features.

    Parameters
    ----------
    X : (n, p) array_like or dask array
        The signals, one a row. Chunks of a dask array are computed one after another.
    dictionary : (k, p) array_like
        The atoms D, one a row, of any norms. Atoms that are zero get no coefficient.
    penalty : str
        ``"l1"``; ``"elastic_net"`` (`penalty_params`: ``l1_ratio``, 0.5); ``"l0"``; ``"half"``; ``"two_thirds"``;
        ``"lq"`` (``q``, to be given); ``"mcp"`` (``gamma``, 3); ``"scad"`` (``gamma``, 3.7); ``"cel0"``, with the norms
        of the atoms; ``"log_sum"`` (``eps``, 0.1); ``"group"`` and ``"tree"`` (``groups``, disjoint or nested, to be
        given). They are those of :mod:`numcore.prox`.
    reg : float, not negative
        The regularisation. 0 asks for least squares, with the least change from `init`.
    solver : str
        ``"auto"`` is coordinate descent, ``"cd"``, but FISTA for groups and trees, whose operators are not of single
        coefficients (``"cd"`` and ``"anderson"`` refuse them); ``"homotopy"`` is for l1 only.
    weights : (k,) or (n, k) array_like, optional
        Non-negative factors w of the penalty: one an atom, or one a coefficient. 0 leaves it unpenalised, inf forbids
        it. For groups and trees, one a group: the square root of its size by default.
    positive : bool
        Minimise over codes that are not negative.
    init : (n, k) array_like, optional
        Codes to begin with; zeros by default.
    penalty_params : dict, optional
        Further parameters of the penalty, as above.
    restarts : {"path", "none"}
        For penalties that are not convex: ``"path"`` also descends from a path of falling regularisations, and keeps
        the better code of each signal.
    tol : float
        A convex problem has converged when its duality gap is at most ``tol |x|^2``; any other when a step of the
        solver changes no coefficient by more than `tol` times the largest.
    max_iter : int
        Iterations at most, a signal.
    n_jobs : int, optional
        Threads that work on blocks of signals; -1 takes all processors. By default the blocks follow one another and
        the compiled loops share out each. The codes do not depend on it.
    callback : callable, optional
        ``callback(state)`` after each block of signals, with ``n_iter`` (blocks so far), ``n_done`` (signals so far),
        ``gap`` (the largest in the block) and ``converged`` (all in the block); True ends the work without a warning,
        and leaves all other signals at `init`, not converged.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    SparseCodeResult

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If shapes do not match, entries are not finite, or a parameter lies outside its range.

    Warns
    -----
    ConvergenceWarning
        If any signal stopped before `tol`.

    Notes
    -----
    float32 signals give float32 codes, computed in float64.

    For l1, coordinate descent works on few coefficients at a time, those that violate the conditions of optimality
    most, and solves for their values as soon as their signs hold. For other penalties it uses their operators at the
    step that is exact for one coefficient; its fixed points are among those of proximal gradient. The solutions of
    non-convex problems are local ones.

    References
    ----------
    .. [1] M. Massias, A. Gramfort, J. Salmon, "Celer: a Fast Solver for the Lasso with Dual Extrapolation", ICML 2018
       (working sets, duality gaps).
    .. [2] H. Lee, A. Battle, R. Raina, A. Y. Ng, "Efficient sparse coding algorithms", NIPS 2006, Algorithm 1 (the
       step that solves for given signs).
    .. [3] S. Rentzeperis, L. Calatroni, L. U. Perrinet, D. Prandi, "Beyond l1 sparse coding in V1", PLoS Comput. Biol.
       19(9), 2023 (non-convex penalties).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import sparse_encode
    >>> D = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> result = sparse_encode([[3.0, 0.2], [1.2, 1.6]], D, reg=0.5)
    >>> result.code.round(6)
    array([[2.5, 0. , 0. ],
           [0. , 0. , 1.5]])
    >>> result.n_nonzero, bool(result.converged.all())
    (array([1, 1]), True)
    """
    as_choice(penalty, "penalty", PENALTIES)
    solve = as_solver(solver, penalty)
    as_choice(restarts, "restarts", ("path", "none"))
    as_choice(positive, "positive", (True, False))
    signals, D = as_signals(X, dictionary)
    n, k = signals.shape[0], len(D)
    checked = Penalty.check(penalty, reg, weights, penalty_params, n, k)
    tol = as_number(tol, "tol", above=0, closed=True)
    max_iter = as_count(max_iter, "max_iter")
    start = None if init is None else as_floating(init, "init", shape=(n, k))
    n_jobs = as_jobs(n_jobs)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None; got {callback!r}")
    if not checked.convex and restarts == "path":
        solve = from_path(solve)
    result = _allocate(n, k, _dtype(signals))
    with on_one_thread():
        problem = Problem(D, checked, bool(positive), tol, max_iter)
        stopped = _run(problem, solve, signals, start, result, n_jobs, callback, verbose)
    if not stopped:
        warn_unless_converged("sparse_encode", result.converged, "Raise max_iter or tol.")
    return result


def as_solver(name: str, penalty: str) -> Solver:
    """The solver of a name, checked to be one for this penalty."""
    as_choice(name, "solver", ("auto", *SOLVERS))
    grouped = penalty in ("group", "tree")
    if name == "auto":
        name = "fista" if grouped else "cd"
    if name == "homotopy" and penalty != "l1":
        raise ValueError(f"solver='homotopy' must be used with penalty='l1'; got penalty={penalty!r}")
    if grouped and name in ("cd", "anderson"):
        raise ValueError(
            f"solver must be 'fista' or 'proximal_gradient' for penalty={penalty!r}, which does not separate; "
            f"got {name!r}"
        )
    return SOLVERS[name]


def _dtype(X: Any) -> np.dtype[Any]:
    return np.dtype(np.float32) if X.dtype == np.float32 else np.dtype(np.float64)


def _allocate(n: int, k: int, dtype: np.dtype[Any]) -> SparseCodeResult:
    return SparseCodeResult(
        code=np.empty((n, k), dtype),
        objective=np.empty(n),
        gap=np.empty(n),
        n_iter=np.zeros(n, np.int64),
        n_nonzero=np.zeros(n, np.int64),
        converged=np.zeros(n, bool),
        degenerate=np.zeros(n, bool),
    )


def _run(
    problem: Problem,
    solve: Solver,
    X: Any,
    init: NDArray[Any] | None,
    result: SparseCodeResult,
    n_jobs: int | None,
    callback: Callback | None,
    verbose: int,
) -> bool:
    """Fill the result block by block; whether the callback ended it."""
    bar = Progress(-(-X.shape[0] // BLOCK), "sparse_encode") if verbose else None
    stopped = False

    def work(rows: slice, part: NDArray[Any]) -> slice:
        own = None if init is None else init[rows]
        _fill(problem, _left if stopped else solve, part, own, result, rows)
        return rows

    try:
        for count, rows in enumerate(over_blocks(work, X, n_jobs), 1):
            worst, all_converged = float(np.max(result.gap[rows], initial=0.0)), bool(result.converged[rows].all())
            if bar:
                bar.step({"gap": worst})
            if callback is not None and not stopped:
                state = State(n_iter=count, n_done=rows.stop, gap=worst, converged=all_converged)
                stopped = callback(state) is True
    finally:
        if bar:
            bar.close()
    return stopped


def _fill(
    problem: Problem, solve: Solver, X: NDArray[Any], init: NDArray[Any] | None, result: SparseCodeResult, rows: slice
) -> None:
    block, back = problem.block(X, init, rows)
    outcome = solve(block) if block.C.size else _trivial(block)
    back.code(outcome.code, result.code[rows])
    result.objective[rows] = back.square(outcome.objective)
    result.gap[rows] = back.square(outcome.gap)
    result.n_iter[rows] = outcome.n_iter
    result.n_nonzero[rows] = np.count_nonzero(result.code[rows], axis=1)
    result.converged[rows] = outcome.converged
    result.degenerate[rows] = outcome.degenerate | problem.degenerate | problem.ambiguous(result.code[rows])


def _trivial(block: Block) -> Outcome:
    """No coefficient is penalised, or there is no signal."""
    return _as_it_is(block, converged=True, gap=0.0 if block.convex else np.nan)


def _left(block: Block) -> Outcome:
    """What becomes of signals after the callback has ended the work."""
    return _as_it_is(block, converged=False, gap=np.nan)


def _as_it_is(block: Block, converged: bool, gap: float) -> Outcome:
    n = len(block.C)
    flags = np.full(n, converged), np.full(n, gap), np.zeros(n, bool)
    return Outcome(block.start, block.objective(block.start), np.zeros(n, np.int64), *flags)


def reg_max(
    X: ArrayLike, dictionary: ArrayLike, *, weights: ArrayLike | None = None, positive: bool = False
) -> NDArray[np.float64]:
    r"""The least regularisation at which the l1 code is zero: :math:`\max_j |\langle x, d_j\rangle| / w_j`.

    Parameters
    ----------
    X : (n, p) array_like or dask array
    dictionary : (k, p) array_like
    weights : (k,) or (n, k) array_like, optional
    positive : bool
        For codes that are not negative: only positive correlations count.

    Returns
    -------
    (n,) float64 array
        inf where a signal has to do with an atom of weight 0.

    Raises
    ------
    TypeError, ValueError
        As for :func:`sparse_encode`.

    Examples
    --------
    >>> from numcore.algorithms.sparse_coding import reg_max
    >>> reg_max([[3.0, -4.0]], [[1.0, 0.0], [0.0, 1.0]])
    array([4.])
    """
    signals, D = as_signals(X, dictionary)
    as_choice(positive, "positive", (True, False))
    w = Penalty.check("l1", 1.0, weights, None, signals.shape[0], len(D)).weights
    result = np.empty(signals.shape[0])
    with on_one_thread():
        for rows, part in row_blocks(signals):
            C = part.astype(np.float64) @ D.T.astype(np.float64)
            size = np.maximum(C, 0.0) if positive else abs(C)
            own = w[rows] if len(w) > 1 else w
            with np.errstate(divide="ignore", invalid="ignore"):
                result[rows] = np.max(np.where(size > 0, size / own, 0.0), axis=1)
    return result
