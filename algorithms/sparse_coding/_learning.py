"""Steps of dictionary learning: from a state and a batch of signals to the next state.

A state is never modified. Whoever holds one can stop, go on, save it or feed it other batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from numcore.algorithms._estimators import on_one_thread
from numcore.algorithms.sparse_coding._atoms import (
    ALIKE,
    ALIKE_IN_PASSES,
    constrained,
    idle,
    initial,
    power_of_two,
    successors,
)
from numcore.algorithms.sparse_coding._loops_dictionary import accumulate, sweep_panel
from numcore.algorithms.sparse_coding._penalty import PENALTIES, Penalty
from numcore.algorithms.sparse_coding._result import SparseCodeResult
from numcore.algorithms.sparse_coding.encode import sparse_encode
from numcore.algorithms.sparse_coding.omp import omp
from numcore.arrays import as_choice, as_count, as_number
from numcore.results import Result

__all__ = ["METHODS", "LearnerState", "Plan"]

Floats = NDArray[Any]

METHODS = ("online", "mod", "ksvd")

PANEL = 32
"""Atoms that are updated between two matrix products with the whole dictionary."""

NEVER = 1e-12
"""An atom's squared coefficients, relative to those of the most used, below which nothing can be learned of it."""

RESCALING = 2.0
"""Sums over t batches weigh batch i by about ``(i / t)^2``: early codes are of atoms that are no more. Plain sums end
an epoch over 50,000 patches with an objective 1.8 % higher."""

RIDGE = 1e-8
POWER_STEPS, POWER_TOL = 10, 1e-6

ROUGH = 1e-5
"""Duality gap of codes while learning, relative to the signals: the atoms of the next batch are others anyway."""


@dataclass(frozen=True, repr=False, eq=False)
class LearnerState(Result):
    """All that learning has to remember between two batches.

    Attributes
    ----------
    dictionary : (k, p) array
        In the dtype of the signals.
    A, B : (k, k), (k, p) float64 arrays, or None
        The sums of ``codes^T codes`` and ``codes^T X`` of the online method, of signals divided by `scale`.
    scale : float
        A power of two; 0 before the first batch that is not zero.
    usage : (k,) array
        The part of the latest signals that use an atom.
    age : (k,) array
        The number of signals seen since an atom was made.
    surrogate : float
        A running mean of the batches' mean objectives.
    n_batches, n_replaced : int
    """

    dictionary: Floats
    A: Floats | None
    B: Floats | None
    scale: float
    usage: Floats
    age: Floats
    surrogate: float = 0.0
    n_batches: int = 0
    n_replaced: int = 0


@dataclass(frozen=True)
class Plan:
    """What is to be learned, and how: the checked options of :func:`learn_dictionary`."""

    n_atoms: int
    method: str
    penalty: str
    reg: float
    n_nonzero: int | None
    sphere: bool
    forget: float
    dead_tol: float
    positive_code: bool
    positive_dict: bool
    penalty_params: Any = None
    n_jobs: int | None = None
    _step: Callable[..., tuple[LearnerState, float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        steps = {"online": _online_step, "mod": _mod_step, "ksvd": _ksvd_step}
        object.__setattr__(self, "_step", steps[self.method])

    @classmethod
    def check(cls, n_atoms: Any, options: dict[str, Any]) -> Plan:
        """Read the options of the public function and of the estimator."""
        k = as_count(n_atoms, "n_atoms")
        as_choice(options["method"], "method", METHODS)
        as_choice(options["penalty"], "penalty", PENALTIES)
        as_choice(options["norm_constraint"], "norm_constraint", ("ball", "sphere"))
        for name in ("positive_code", "positive_dict"):
            as_choice(options[name], name, (True, False))
        n_nonzero = options["n_nonzero"]
        if n_nonzero is None:
            Penalty.check(options["penalty"], options["reg"], None, options["penalty_params"], 1, k)
        elif options["positive_code"]:
            raise ValueError("positive_code must be False with n_nonzero: the codes of matching pursuit have signs")
        as_choice(options["sign"], "sign", (None, "positive_max"))
        if options["sign"] is not None and options["positive_code"]:
            raise ValueError(f"sign must be None with positive_code=True; got {options['sign']!r}")
        return cls(
            n_atoms=k,
            method=options["method"],
            penalty=options["penalty"],
            reg=as_number(options["reg"], "reg", above=0, closed=True),
            n_nonzero=None if n_nonzero is None else as_count(n_nonzero, "n_nonzero"),
            sphere=options["norm_constraint"] == "sphere",
            forget=_in_unit_interval(options["forget"], "forget", zero=False),
            dead_tol=_in_unit_interval(options["dead_tol"], "dead_tol", zero=True),
            positive_code=bool(options["positive_code"]),
            positive_dict=bool(options["positive_dict"]),
            penalty_params=options["penalty_params"],
            n_jobs=options["n_jobs"],
        )

    @property
    def online(self) -> bool:
        return self.method == "online"

    def start(self, X: Floats, init: Floats | None, rng: np.random.Generator) -> LearnerState:
        """The state before the first batch, with atoms drawn from X where `init` leaves them open."""
        k, p = self.n_atoms, X.shape[1]
        D = constrained(initial(X, k, init, self.positive_dict, rng), self.sphere or not self.online)
        A, B = (np.zeros((k, k)), np.zeros((k, p))) if self.online else (None, None)
        return LearnerState(D.astype(X.dtype), A, B, scale=0.0, usage=np.zeros(k), age=np.zeros(k))

    def check_state(self, state: LearnerState) -> None:
        """Refuse to go on from a state that other options led to."""
        k = len(state.dictionary)
        if k != self.n_atoms:
            raise ValueError(f"n_atoms must stay {k}, as learning began; got {self.n_atoms}")
        if self.online and state.A is None:
            raise ValueError("method must not become 'online' in between: there are no sums of earlier batches")

    def step(
        self, state: LearnerState, X: Floats, rng: np.random.Generator | None = None
    ) -> tuple[LearnerState, float]:
        """Learn from a batch; also gives its mean objective before. Nothing is learned from zeros."""
        if not X.any():
            return state, 0.0
        with on_one_thread():
            return self._step(self, replace(state, scale=state.scale or power_of_two(X)), X, rng)

    def code(self, X: Floats, D: Floats, **options: Any) -> SparseCodeResult:
        """The codes that the options ask for."""
        if self.n_nonzero is not None:
            return omp(X, D, n_nonzero=self.n_nonzero, n_jobs=self.n_jobs)
        return sparse_encode(
            X,
            D,
            penalty=self.penalty,  # type: ignore[arg-type]
            reg=self.reg,
            positive=self.positive_code,
            penalty_params=self.penalty_params,
            n_jobs=self.n_jobs,
            **options,
        )

    def rough_code(self, X: Floats, D: Floats) -> SparseCodeResult:
        """Codes that are good enough to learn from; none of them is worth a warning."""
        return self.code(X, D, tol=ROUGH, callback=lambda state: state.n_done == len(X))


def _in_unit_interval(x: Any, name: str, zero: bool) -> float:
    value = as_number(x, name, above=0, below=1, closed=True)
    if value == 0 and not zero:
        raise ValueError(f"{name} must be above 0; got {x!r}")
    return value


# Steps. Signals and codes are divided by the state's scale, so that squares neither overflow nor vanish.


def _coded(plan: Plan, state: LearnerState, X: Floats) -> tuple[Floats, Floats, float]:
    """Signals and codes over the scale, and the mean objective."""
    result = plan.rough_code(X, state.dictionary)
    scale = X.dtype.type(state.scale)
    return X / scale, result.code / scale, float(result.objective.mean())


def _counted(plan: Plan, state: LearnerState, code: Floats, objective: float) -> LearnerState:
    """The state with this batch in its running means."""
    n, n_batches = len(code), state.n_batches + 1
    used = np.count_nonzero(code, axis=0) / n
    # usage below dead_tol cannot be told from fewer than its inverse many signals
    rate = np.minimum(1.0, np.maximum(n / (state.age + n), n * plan.dead_tol)) if plan.online else 1.0
    pace = max(0.1, 1 / n_batches) if plan.online else 1.0
    surrogate = objective if n_batches == 1 else (1 - pace) * state.surrogate + pace * objective
    return replace(
        state,
        usage=(1 - rate) * state.usage + rate * used,
        age=state.age + n,
        surrogate=surrogate,
        n_batches=n_batches,
    )


def _online_step(plan: Plan, state: LearnerState, X: Floats, rng: Any) -> tuple[LearnerState, float]:
    """Mairal et al. (2010), algorithm 1: code, add to the sums, one sweep over the atoms."""
    X, code, objective = _coded(plan, state, X)
    state = _counted(plan, state, code, objective)
    assert state.A is not None
    assert state.B is not None
    past = plan.forget * (1 - 1 / state.n_batches) ** RESCALING
    A, B = past * state.A, past * state.B
    accumulate(code, X, 1 / len(X), A, B)
    D = swept(state.dictionary.astype(np.float64), A, B, plan.sphere, plan.positive_dict)
    found = _idle(plan, state, D, ALIKE)
    if len(found):
        found = _replace_atoms(plan, D, found, X, code, state.dictionary)
        A[found], A[:, found], B[found] = 0.0, 0.0, 0.0
    return _moved(replace(state, A=A, B=B), D, found), objective


def swept(D: Floats, A: Floats, B: Floats, sphere: bool, positive: bool) -> Floats:
    """Minimise ``tr(D^T A D) / 2 - tr(D^T B)`` over one atom after the other, each in the unit ball.

    Parameters
    ----------
    D : (k, p) float64 array
    A, B : (k, k), (k, p) float64 arrays
    sphere : bool
        Divide by the norm in any case.
    positive : bool
        Only atoms without negative entries.

    Returns
    -------
    (k, p) array
    """
    D = D.copy()
    floor = NEVER * float(A.diagonal().max())
    for first in range(0, len(D), PANEL):
        panel = slice(first, first + PANEL)
        sweep_panel(D[panel], B[panel] - A[panel] @ D, np.ascontiguousarray(A[panel, panel]), floor, sphere, positive)
    return D


def _mod_step(plan: Plan, state: LearnerState, X: Floats, rng: Any) -> tuple[LearnerState, float]:
    """Engan et al. (1999): the least-squares dictionary of given codes."""
    X, code, objective = _coded(plan, state, X)
    state = _counted(plan, state, code, objective)
    A, B = np.zeros((plan.n_atoms,) * 2), np.zeros((plan.n_atoms, X.shape[1]))
    accumulate(code, X, 1.0, A, B)
    D = state.dictionary.astype(np.float64)
    used = A.diagonal() > NEVER * A.diagonal().max()
    if used.any():
        A = A[np.ix_(used, used)]
        A[np.diag_indices_from(A)] += RIDGE * np.trace(A) / len(A)
        best = cho_solve(cho_factor(A), B[used])
        best = np.maximum(best, 0.0) if plan.positive_dict else best
        D[used] = np.where(best.any(axis=1, keepdims=True), best, D[used])
        norms = np.linalg.norm(D, axis=1)
        D, code = D / norms[:, None], code * norms.astype(code.dtype)
    return _after_pass(plan, state, D, X, code), objective


def _ksvd_step(plan: Plan, state: LearnerState, X: Floats, rng: Any) -> tuple[LearnerState, float]:
    """Aharon et al. (2006): every atom with its coefficients by a rank-one fit of what the others leave."""
    X, code, objective = _coded(plan, state, X)
    state = _counted(plan, state, code, objective)
    D, code = state.dictionary.astype(np.float64), code.astype(np.float64)
    X = X.astype(np.float64, copy=False)
    R = X - code @ D
    for j in rng.permutation(plan.n_atoms):
        rows = np.flatnonzero(code[:, j])
        if len(rows):
            E = R[rows] + np.outer(code[rows, j], D[j])
            d, a = rank_one(E, D[j], code[rows, j], plan.positive_dict, plan.positive_code)
            R[rows] = E - np.outer(a, d)
            D[j], code[rows, j] = d, a
    return _after_pass(plan, state, D, X, code), objective


def rank_one(E: Floats, d: Floats, a: Floats, positive_d: bool, positive_a: bool) -> tuple[Floats, Floats]:
    """A unit vector d and coefficients a with a small ``|E - a d^T|``, by power steps from those given."""
    for _ in range(POWER_STEPS):
        new = E.T @ a
        new = np.maximum(new, 0.0) if positive_d else new
        norm = np.linalg.norm(new)
        if norm == 0:
            break
        before, d = d, new / norm
        a = E @ d
        a = np.maximum(a, 0.0) if positive_a else a
        if 1 - abs(before @ d) <= POWER_TOL:
            break
    return d, a


def _after_pass(plan: Plan, state: LearnerState, D: Floats, X: Floats, code: Floats) -> LearnerState:
    """The state after a step on all signals, idle atoms replaced."""
    found = _idle(plan, state, D, ALIKE_IN_PASSES)
    if len(found):
        found = _replace_atoms(plan, D, found, X, code, D)
    return _moved(state, D, found)


def _idle(plan: Plan, state: LearnerState, D: Floats, alike: float) -> NDArray[np.intp]:
    """The atoms of D to be replaced; in the first batch also those that were alike before they moved."""
    found = idle(D, state.usage, state.age, plan.dead_tol, alike)
    if state.n_batches == 1:
        before = idle(state.dictionary.astype(np.float64), state.usage, state.age, plan.dead_tol, alike)
        found = np.union1d(found, before)
    return found


def _replace_atoms(plan: Plan, D: Floats, found: Floats, X: Floats, code: Floats, coded_with: Floats) -> Floats:
    """Put residuals in the place of idle atoms of D; gives those that were replaced."""
    atoms = successors(X, X - code @ coded_with, len(found), plan.positive_dict)
    found = found[: len(atoms)]
    D[found] = atoms
    return found


def _moved(state: LearnerState, D: Floats, replaced: Floats) -> LearnerState:
    """The state with new atoms, some of them just made."""
    usage, age = state.usage.copy(), state.age.copy()
    # a new atom has an average one's usage until it is known better
    usage[replaced], age[replaced] = usage.mean(), 0.0
    D = D.astype(state.dictionary.dtype)
    return replace(state, dictionary=D, usage=usage, age=age, n_replaced=state.n_replaced + len(replaced))
