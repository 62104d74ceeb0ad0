"""Dictionaries learned from signals: online, by the method of optimal directions, and by K-SVD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.algorithms.sparse_coding._atoms import signed
from numcore.algorithms.sparse_coding._learning import LearnerState, Plan
from numcore.arrays import as_count, as_floating, as_number, as_rng
from numcore.results import Callback, Loop, Result

__all__ = ["DictionaryResult", "learn_dictionary"]

PATIENCE = 10
"""Batches over which the objective has to stand still."""

ADVICE = "An iteration is one batch; raise max_iter, which counts epochs, or tol."


@dataclass(frozen=True, repr=False, eq=False)
class DictionaryResult(Result):
    """A dictionary and the codes of the signals that it was learned from.

    Attributes
    ----------
    dictionary : (k, p) array
        The atoms, one a row, in the dtype of the signals.
    code : (n, k) array
        The codes over this dictionary.
    objective : float
        The mean over the signals of the objective that the codes minimise.
    history : dict of arrays
        For each batch: ``objective``, its mean before the atoms moved; ``surrogate``, a running mean of it; and
        ``change``, how far the surrogate strayed in the last ten batches, relative to its value.
    n_iter : int
        Epochs begun.
    n_replaced : int
        How often an atom was replaced because it was hardly used or like another.
    usage : (k,) array
        The part of the signals that use an atom; for the online method, of the latest.
    converged : bool
    """

    dictionary: NDArray[Any]
    code: NDArray[Any]
    objective: float
    history: dict[str, NDArray[np.float64]]
    n_iter: int
    n_replaced: int
    usage: NDArray[np.float64]
    converged: bool


def learn_dictionary(
    X: ArrayLike,
    n_atoms: int,
    *,
    method: Literal["online", "mod", "ksvd"] = "online",
    penalty: Literal[
        "l1", "elastic_net", "l0", "half", "two_thirds", "lq", "mcp", "scad", "cel0", "log_sum", "group", "tree"
    ] = "l1",
    reg: float = 0.1,
    n_nonzero: int | None = None,
    batch_size: int = 512,
    max_iter: int = 10,
    init: ArrayLike | None = None,
    norm_constraint: Literal["ball", "sphere"] = "ball",
    forget: float = 1.0,
    dead_tol: float = 1e-4,
    positive_code: bool = False,
    positive_dict: bool = False,
    sign: Literal["positive_max"] | None = None,
    tol: float = 1e-3,
    rng: Any = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> DictionaryResult:
    r"""Learn atoms D over which the rows of `X` have sparse codes.

    .. math:: \min_D \frac1n \sum_i \min_a \tfrac12 \|x_i - a D\|^2 + reg \sum_j \varphi(a_j),
        \qquad \|d_j\| \le 1

    Parameters
    ----------
    X : (n, p) array_like
        The signals, one a row.
    n_atoms : int
        May be above n or p.
    method : {"online", "mod", "ksvd"}
        ``"online"`` updates the atoms after each batch, by the sums over all batches so far. ``"mod"``, the method of
        optimal directions, and ``"ksvd"`` code all signals first; their atoms have norm 1.
    penalty, reg
        Of the codes, as for :func:`sparse_encode`.
    n_nonzero : int, optional
        Code by :func:`omp` with so many atoms instead; `penalty` and `reg` are then without effect.
    batch_size : int
        Signals in a batch of the online method.
    max_iter : int
        Epochs: how often all signals are seen, at most.
    init : (n_atoms, p) array_like, optional
        The first atoms, which are scaled to obey the constraint. By default, and where a row is zero, random signals
        that are not zero; if there are too few, Gaussian vectors.
    norm_constraint : {"ball", "sphere"}
        Atoms of the online method have norm 1 at most, or exactly.
    forget : float in (0, 1]
        A further factor on the sums of the online method before it adds a batch. 0.99 follows signals that drift.
    dead_tol : float
        Atoms used by a smaller part of the signals are replaced by residuals of those that are coded worst, and so are
        atoms like another, with a cosine beyond 0.999 (0.99 in MOD and K-SVD). 0 leaves all in place.
    positive_code, positive_dict : bool
        Whether codes, or atoms, have no negative entries.
    sign : {None, "positive_max"}
        With ``"positive_max"``, the entry of largest magnitude of each atom is made positive.
    tol : float
        Learning has converged when, over ten batches, the running mean of the objective stays within `tol` of its
        value.
    rng : int, Generator or None
        Draws the first atoms, the order of signals from the second epoch on (the first takes them as they come), and
        the order of atoms in K-SVD. The same seed gives the same dictionary.
    callback : callable, optional
        ``callback(state)`` after each batch, with ``n_iter`` (epochs begun), ``n_batches``, ``dictionary``,
        ``objective``, ``surrogate``, ``usage`` and ``n_replaced``; True stops.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    DictionaryResult

    Raises
    ------
    TypeError
        If an argument is complex, sparse or text.
    ValueError
        If X has no rows, shapes do not match, entries are not finite, or a parameter lies outside its range.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` epochs passed before `tol` was reached, or signals could not be coded to tolerance.

    Notes
    -----
    With A and B the sums of ``a^T a`` and ``a^T x``, the online method minimises over one atom after the other, once a
    batch (algorithm 2 of [1]_): ``d_j <- d_j + (b_j - a_j D) / A_jj``, projected on the ball. Before it adds batch t,
    it multiplies the sums by ``forget (1 - 1/t)^2``, since early codes are of atoms that are no more (section 3.4.2
    there). K-SVD replaces an atom and its coefficients by a rank-one fit of what the others leave, found by a few power
    steps.

    An atom is judged by its use when an average one has been used ten times since it was made.

    The objective can rise in the history, since every batch has its own.

    References
    ----------
    .. [1] J. Mairal, F. Bach, J. Ponce, G. Sapiro, "Online Learning for Matrix Factorization and Sparse Coding", JMLR
       11, 2010.
    .. [2] K. Engan, S. O. Aase, J. H. Husøy, "Method of optimal directions for frame design", ICASSP 1999.
    .. [3] M. Aharon, M. Elad, A. Bruckstein, "K-SVD: An Algorithm for Designing Overcomplete Dictionaries for Sparse
       Representation", IEEE Trans. Signal Process. 54(11), 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import learn_dictionary
    >>> X = np.repeat(np.eye(3), [40, 30, 20], axis=0) * np.linspace(1, 2, 90)[:, None]
    >>> result = learn_dictionary(X, 3, n_nonzero=1, method="ksvd", sign="positive_max", max_iter=40, rng=0)
    >>> order = np.argsort(result.usage)[::-1]
    >>> result.dictionary[order].round(3)
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    >>> result.n_replaced, bool(result.objective < 1e-12)
    (1, True)
    """
    X = as_training_signals(X)
    options = {
        "method": method,
        "penalty": penalty,
        "reg": reg,
        "n_nonzero": n_nonzero,
        "norm_constraint": norm_constraint,
        "forget": forget,
        "dead_tol": dead_tol,
        "positive_code": positive_code,
        "positive_dict": positive_dict,
        "sign": sign,
        "penalty_params": None,
        "n_jobs": None,
    }
    plan = Plan.check(n_atoms, options)
    start = as_first_atoms(init, plan.n_atoms, X)
    learner = Learner(plan, X, start, batch_size, max_iter, tol, rng, callback, verbose)
    learner.run()
    D = learner.state.dictionary if sign is None else signed(learner.state.dictionary)
    coded = plan.code(X, D)
    return DictionaryResult(
        dictionary=D,
        code=coded.code,
        objective=float(coded.objective.mean()),
        history=learner.loop.history,
        n_iter=learner.n_iter,
        n_replaced=learner.state.n_replaced,
        usage=learner.state.usage,
        converged=learner.loop.converged,
    )


def as_training_signals(X: Any) -> NDArray[Any]:
    """Checked signals, of which there is at least one."""
    X = as_floating(X, "X")
    if X.ndim != 2:
        hint = "; reshape it to (1, -1) for one signal or (-1, 1) for one feature" if X.ndim == 1 else ""
        raise ValueError(f"X must have shape (n_samples, n_features); got {X.shape}{hint}")
    if not X.size:
        raise ValueError(f"X must have at least one row and one feature to learn from; got shape {X.shape}")
    return np.ascontiguousarray(X)


def as_first_atoms(init: Any, n_atoms: int, X: NDArray[Any]) -> NDArray[Any] | None:
    """Checked first atoms."""
    if init is None:
        return None
    return np.ascontiguousarray(as_floating(init, "init", shape=(n_atoms, X.shape[1])))


class Learner:
    """Goes over the signals epoch by epoch. `state` is whole at any time: an interruption costs one batch at most."""

    def __init__(
        self,
        plan: Plan,
        X: NDArray[Any],
        init: NDArray[Any] | None,
        batch_size: Any,
        max_iter: Any,
        tol: Any,
        rng: Any,
        callback: Callback | None = None,
        verbose: int = 0,
    ) -> None:
        self.plan, self.X = plan, X
        size = as_count(batch_size, "batch_size")
        self.batch_size = min(size, len(X)) if plan.online else len(X)
        self.max_iter = as_count(max_iter, "max_iter")
        per_epoch = -(-len(X) // self.batch_size)
        self.loop = Loop(
            "learn_dictionary",
            tol=as_number(tol, "tol", above=0, closed=True),
            max_iter=self.max_iter * per_epoch,
            callback=callback,
            verbose=verbose,
            residual="change",
        )
        # what is left of signals that are coded exactly
        self.rounding = (100 * np.finfo(X.dtype).eps) ** 2 * float(np.mean(np.einsum("ij,ij->i", X, X, dtype=float)))
        self.rng = as_rng(rng)
        self.n_iter = 0
        self.state: LearnerState = plan.start(X, init, self.rng)

    def run(self, *, stacklevel: int = 4) -> None:
        """Learn until the objective stands still, or all epochs are over."""
        batches = self._batches()
        surrogates: list[float] = []
        for _ in self.loop.stage():
            self.state, objective = self.plan.step(self.state, next(batches), self.rng)
            surrogates = [*surrogates[-PATIENCE:], self.state.surrogate]
            self.loop.report(
                _spread(surrogates, self.rounding),
                hold=len(surrogates) <= PATIENCE,
                state=self._record,
                objective=objective,
                surrogate=self.state.surrogate,
            )
        self.loop.finish(ADVICE, stacklevel=stacklevel)

    def _batches(self) -> Iterator[NDArray[Any]]:
        while True:
            self.n_iter += 1
            order = None if self.n_iter == 1 else self.rng.permutation(len(self.X))
            for first in range(0, len(self.X), self.batch_size):
                rows = slice(first, first + self.batch_size)
                yield self.X[rows] if order is None else self.X[order[rows]]

    def _record(self) -> dict[str, Any]:
        state = self.state
        return {
            "n_iter": self.n_iter,
            "n_batches": self.loop.n_iter,
            "dictionary": state.dictionary,
            "usage": state.usage,
            "n_replaced": state.n_replaced,
        }


def _spread(values: list[float], nothing: float) -> float:
    """How far the values lie apart, relative to the largest; 1 where there are no two to compare."""
    top = max(values)
    if len(values) < 2:
        return 1.0
    return (top - min(values)) / top if top > nothing else 0.0
