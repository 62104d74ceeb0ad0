"""Sparse codes over a given and over a learned dictionary, as scikit-learn transformers."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from numcore.algorithms._estimators import FLOATS, on_one_thread, restored_on_failure
from numcore.algorithms.sparse_coding._atoms import signed
from numcore.algorithms.sparse_coding._learning import METHODS, LearnerState, Plan
from numcore.algorithms.sparse_coding._penalty import PENALTIES, Penalty
from numcore.algorithms.sparse_coding.dictionary import Learner, as_first_atoms
from numcore.algorithms.sparse_coding.encode import SOLVERS, as_solver, sparse_encode
from numcore.arrays import Array, as_floating, as_rng

__all__ = ["DictionaryLearner", "SparseCoder"]


class _Coder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What transformers from signals to codes share."""

    def _checked_signals(self, X: Any) -> Array:
        return validate_data(self, X, dtype=FLOATS, reset=False)

    def _atoms(self) -> Array:
        raise NotImplementedError

    def _codes(self, X: Array) -> Any:
        raise NotImplementedError

    @property
    def _n_features_out(self) -> int:
        return len(self._atoms())

    def transform(self, X: Any) -> Array:
        """The codes of signals.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n, k) array
        """
        check_is_fitted(self)
        return self._codes(self._checked_signals(X)).code

    def inverse_transform(self, X: Any) -> Array:
        """The signals that codes stand for: ``X D``.

        Parameters
        ----------
        X : (n, k) array_like
            Codes.

        Returns
        -------
        (n, p) array
        """
        check_is_fitted(self)
        D = self._atoms()
        code = check_array(X, dtype=FLOATS)
        if code.shape[1] != len(D):
            raise ValueError(f"X must have a coefficient for each of the {len(D)} atoms; got shape {code.shape}")
        with on_one_thread():
            return np.asarray(code @ D.astype(code.dtype, copy=False))

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean objective of the codes of `X`: the greater the better.

        Parameters
        ----------
        X : (n, p) array_like
        y : None
            Ignored.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return -float(self._codes(self._checked_signals(X)).objective.mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class SparseCoder(_Coder):
    """Code signals over a given dictionary.

    There is nothing to learn: ``fit`` only checks, and may be left out.

    Parameters
    ----------
    dictionary : (k, p) array_like
        The atoms, one a row.
    penalty, reg, solver, weights, positive, penalty_params, restarts, tol, max_iter, n_jobs, verbose
        As for :func:`sparse_encode`.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : array
        Where X had names.
    n_iter_ : int
        1: the signals are looked at once.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import SparseCoder
    >>> coder = SparseCoder(np.eye(2), reg=0.5)
    >>> coder.transform([[2.0, 0.1]])
    array([[1.5, 0. ]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "dictionary": ["array-like"],
        "penalty": [StrOptions(set(PENALTIES))],
        "reg": [Interval(Real, 0, None, closed="left")],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "weights": ["array-like", None],
        "positive": ["boolean"],
        "penalty_params": [dict, None],
        "restarts": [StrOptions({"path", "none"})],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        dictionary: Any,
        *,
        penalty: str = "l1",
        reg: float = 0.1,
        solver: str = "auto",
        weights: Any = None,
        positive: bool = False,
        penalty_params: dict[str, Any] | None = None,
        restarts: str = "path",
        tol: float = 1e-6,
        max_iter: int = 1000,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.dictionary = dictionary
        self.penalty = penalty
        self.reg = reg
        self.solver = solver
        self.weights = weights
        self.positive = positive
        self.penalty_params = penalty_params
        self.restarts = restarts
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check that parameters, signals and dictionary go together.

        Parameters
        ----------
        X : (n, p) array_like
        y : None
            Ignored.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            X = self._match(validate_data(self, X, dtype=FLOATS))
            as_solver(self.solver, self.penalty)
            n = len(self.weights) if np.ndim(self.weights) == 2 else len(X)  # the signals to come may be others
            Penalty.check(self.penalty, self.reg, self.weights, self.penalty_params, n, len(self._atoms()))
            self.n_iter_ = 1
        return self

    def _match(self, X: Array) -> Array:
        features = self._atoms().shape[1]
        if X.shape[1] != features:
            raise ValueError(f"X must have as many features as dictionary, {features}; got shape {X.shape}")
        return X

    def _checked_signals(self, X: Any) -> Array:
        if hasattr(self, "n_features_in_"):
            return self._match(super()._checked_signals(X))
        self._validate_params()
        return self._match(check_array(X, dtype=FLOATS, estimator=self, input_name="X"))

    def _atoms(self) -> Array:
        return as_floating(self.dictionary, "dictionary", ndim=2)

    def _codes(self, X: Array) -> Any:
        return sparse_encode(
            X,
            self._atoms(),
            penalty=self.penalty,  # type: ignore[arg-type]
            reg=self.reg,
            solver=self.solver,  # type: ignore[arg-type]
            weights=self.weights,
            positive=self.positive,
            penalty_params=self.penalty_params,
            restarts=self.restarts,  # type: ignore[arg-type]
            tol=self.tol,
            max_iter=self.max_iter,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


class DictionaryLearner(_Coder):
    """Learn a dictionary over which signals have sparse codes.

    Parameters
    ----------
    n_atoms : int
    method, penalty, reg, n_nonzero, batch_size, max_iter, init, norm_constraint, forget, dead_tol, positive_code
        As for :func:`learn_dictionary`.
    positive_dict, sign, tol
        As for :func:`learn_dictionary`.
    penalty_params : dict, optional
        Further parameters of the penalty, as for :func:`sparse_encode`: ``q`` of "lq", the groups of "group" and
        "tree".
    n_jobs : int, optional
        As for :func:`sparse_encode`.
    random_state : int, RandomState or None
        Draws the first atoms, and the order of signals after the first epoch.
    verbose : int
        1 shows a progress bar with the objective.

    Attributes
    ----------
    components_ : (k, p) array
        The atoms.
    n_iter_ : int
        Epochs begun; after ``partial_fit``, batches.
    n_replaced_ : int
        How often an atom was replaced because it was hardly used or like another.
    usage_ : (k,) array
        The part of the latest signals that use an atom.
    history_ : dict of arrays
        For each batch: ``objective``, its mean before the atoms moved; ``surrogate``, a running mean of it; and from
        ``fit`` ``change``, how far the surrogate strayed in the last ten batches.
    n_features_in_ : int
    feature_names_in_ : array
        Where X had names.

    Warns
    -----
    ConvergenceWarning
        When `max_iter` epochs pass before the objective stands still.
    UserWarning
        When ``fit`` is interrupted from the keyboard; it then ends with what was learned.

    See Also
    --------
    learn_dictionary : the same as a function, with the codes of the training signals.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import DictionaryLearner
    >>> X = np.random.default_rng(0).laplace(size=(300, 6))
    >>> learner = DictionaryLearner(8, reg=0.5, max_iter=60, tol=1e-2, random_state=0).fit(X)
    >>> learner.transform(X).shape, learner.components_.shape
    ((300, 8), (8, 6))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_atoms": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions(set(METHODS))],
        "penalty": [StrOptions(set(PENALTIES))],
        "reg": [Interval(Real, 0, None, closed="left")],
        "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "init": ["array-like", None],
        "norm_constraint": [StrOptions({"ball", "sphere"})],
        "forget": [Interval(Real, 0, 1, closed="right")],
        "dead_tol": [Interval(Real, 0, 1, closed="both")],
        "positive_code": ["boolean"],
        "positive_dict": ["boolean"],
        "sign": [StrOptions({"positive_max"}), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "penalty_params": [dict, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_atoms: int = 100,
        *,
        method: str = "online",
        penalty: str = "l1",
        reg: float = 0.1,
        n_nonzero: int | None = None,
        batch_size: int = 512,
        max_iter: int = 10,
        init: Any = None,
        norm_constraint: str = "ball",
        forget: float = 1.0,
        dead_tol: float = 1e-4,
        positive_code: bool = False,
        positive_dict: bool = False,
        sign: str | None = None,
        tol: float = 1e-3,
        penalty_params: dict[str, Any] | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_atoms = n_atoms
        self.method = method
        self.penalty = penalty
        self.reg = reg
        self.n_nonzero = n_nonzero
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.init = init
        self.norm_constraint = norm_constraint
        self.forget = forget
        self.dead_tol = dead_tol
        self.positive_code = positive_code
        self.positive_dict = positive_dict
        self.sign = sign
        self.tol = tol
        self.penalty_params = penalty_params
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from all signals.

        Parameters
        ----------
        X : (n, p) array_like
        y : None
            Ignored.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            X = np.ascontiguousarray(validate_data(self, X, dtype=FLOATS))
            plan = self._plan()
            learner = Learner(
                plan,
                X,
                as_first_atoms(self.init, plan.n_atoms, X),
                self.batch_size,
                self.max_iter,
                self.tol,
                self._generator(),
                verbose=self.verbose,
            )
            try:
                learner.run(stacklevel=6)
            except KeyboardInterrupt:
                learner.loop.stopped = True
                learner.loop.finish()
                warnings.warn("DictionaryLearner: learning was interrupted", UserWarning, stacklevel=4)
            self.n_iter_, self._rng = learner.n_iter, learner.rng
            self._learned(learner.state, learner.loop.history)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from one batch.

        The online method learns the same from batches given one by one as ``fit`` does from them in its first epoch,
        with the same first atoms. "mod" and "ksvd" make one pass with the codes of this batch alone.

        Parameters
        ----------
        X : (n, p) array_like
            One batch. The first one is also what the first atoms are drawn from, and a batch of zeros changes nothing.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            first = not hasattr(self, "_state")
            X = np.ascontiguousarray(validate_data(self, X, dtype=FLOATS, reset=first))
            plan = self._plan()
            if first:
                self._rng = self._generator()
                self._state = plan.start(X, as_first_atoms(self.init, plan.n_atoms, X), self._rng)
                self.history_ = {"objective": np.empty(0), "surrogate": np.empty(0)}
            plan.check_state(self._state)
            state, objective = plan.step(self._state, X, self._rng)
            history = self.history_
            if state is not self._state:
                figures = {"objective": objective, "surrogate": state.surrogate}
                history = {name: np.append(history[name], value) for name, value in figures.items()}
            self.n_iter_ = max(1, state.n_batches)
            self._learned(state, history)
        return self

    def _learned(self, state: LearnerState, history: dict[str, Array]) -> None:
        self._state = state
        self.components_ = state.dictionary if self.sign is None else signed(state.dictionary)
        self.n_replaced_, self.usage_, self.history_ = state.n_replaced, state.usage, history

    def _generator(self) -> np.random.Generator:
        return as_rng(self.random_state)

    def _plan(self) -> Plan:
        return Plan.check(self.n_atoms, self.get_params(deep=False))

    def _atoms(self) -> Array:
        return self.components_

    def _codes(self, X: Array) -> Any:
        return self._plan().code(X, self.components_.astype(X.dtype, copy=False))
