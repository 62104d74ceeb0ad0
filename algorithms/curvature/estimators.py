"""Nets trained by M-FAC or gradient-regularised Newton, and logistic regression by the latter, for scikit-learn."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from numcore.algorithms._estimators import FLOATS, on_one_thread, restored_on_failure
from numcore.algorithms.curvature._logistic import Logistic
from numcore.algorithms.curvature._nets import Net, in_small_batches
from numcore.algorithms.curvature.gns import minimize_gns
from numcore.arrays import Array
from numcore.special import logsumexp, softmax

__all__ = ["GNSLogisticRegression", "MFACClassifier", "MFACRegressor"]


def _with_probabilities(estimator: MFACClassifier) -> bool:
    if (estimator._made_of["loss"] if hasattr(estimator, "_made_of") else estimator.loss) == "z":
        raise AttributeError('the loss "z" gives no probabilities; use decision_function or predict')
    return True


class MFACClassifier(ClassifierMixin, Net):
    """A classifier by a net of linear layers, trained by M-FAC.

    M-FAC steps along the gradient times the inverse of the empirical Fisher matrix of the latest gradients, with no
    parameters of its own that grow with the number of weights squared.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; ``()`` for none.
    activation : str or None
        Of the hidden layers: "relu", "tanh", "gelu", "silu", "elu", "selu", "leaky_relu", "sigmoid", "softplus",
        "softsign".
    solver : {"mfac", "adam", "sgd", "gns"}
        "mfac", "adam" and "sgd" go over small batches. "gns" takes gradient-regularised Newton steps on all examples,
        with the Gauss-Newton matrix (:func:`minimize_gns`), and converges when the gradient's norm is at most `tol`.
    loss : {"auto", "softmax", "stablemax", "z"}
        As in :mod:`numcore.autodiff.losses`; "auto" is "softmax".
    alpha : float
        Half the squared weights times `alpha` are added to the sum of a batch's losses; biases are free.
    batch_size : int
        Examples a step; at most all.
    lr : float
        The step size of "mfac", "adam" and "sgd". The default is for "mfac"; Adam wants about 1e-3.
    window, damp, normalize
        How many gradients "mfac" remembers, what is added to the diagonal of their Fisher matrix, and by what it is
        normalised, as for :class:`MFACOptimizer`, whose defaults are for larger nets.
    momentum : float in [0, 1)
        Of "mfac" and "sgd".
    max_iter : int
        Epochs, or steps of "gns", at most.
    tol : float
        Training has converged when in `n_iter_no_change` epochs running none improved the loss by more than this; with
        `early_stopping`, the accuracy on the examples held out.
    n_iter_no_change : int
        See `tol`.
    early_stopping : bool
        Whether to hold out `validation_fraction` of the examples, and to take the parameters that did best there. Not
        for "gns".
    validation_fraction : float in (0, 1)
        See `early_stopping`.
    warm_start : bool
        Whether ``fit`` goes on from where it was.
    random_state : int, RandomState or None
        For the first parameters, the order of examples, what is held out and the gradients for pruning. The same
        integer gives the same net, on any number of threads.
    verbose : int
        1 shows a progress bar with the loss.

    Attributes
    ----------
    classes_ : (k,) array
    theta_ : (d,) array
        The parameters: weights (in, out) and biases of each layer in turn.
    mask_ : (d,) bool array
        False for weights that :meth:`prune` removed.
    loss_curve_ : list of float
        The mean loss in each epoch, penalty included.
    validation_scores_ : list of float
        With `early_stopping`: the accuracy held out after each epoch.
    prune_result_ : PruneResult
        Of the last :meth:`prune`, for the weights without the biases.
    n_iter_ : int
        Epochs since the parameters were drawn.
    n_outputs_, n_features_in_ : int
    feature_names_in_ : array
        Where X had names.

    Warns
    -----
    ConvergenceWarning
        When `max_iter` is reached, or the loss is not finite any more.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic and D. Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order
       Information", NeurIPS 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from numcore.algorithms.curvature import MFACClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MFACClassifier((16,), batch_size=32, tol=1e-3, random_state=0).fit(scale(X), y)
    >>> bool(net.score(scale(X), y) > 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Net._parameter_constraints,
        "loss": [StrOptions({"auto", "softmax", "stablemax", "z"})],
    }
    _default_loss = "softmax"

    def _learn_targets(self, y: Array) -> None:
        check_classification_targets(y)
        self._take_classes(np.unique(y))

    def _take_classes(self, classes: Array) -> None:
        if len(classes) < 2:
            raise ValueError(f"y must hold at least 2 classes; got 1 class, {classes[0]!r}")
        self.classes_, self.n_outputs_ = classes, len(classes)

    def _encode(self, y: Array, dtype: Any) -> Array:
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y must hold classes that are known, {self.classes_}; got also {unknown}")
        return np.searchsorted(self.classes_, y)

    def _split_by(self, y: Array) -> Array:
        return y

    def _validation_score(self, z: Array, y: Array, weight: Array | None) -> float:
        return float(accuracy_score(y, z.argmax(axis=1), sample_weight=weight))

    @available_if(in_small_batches)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on some examples; nothing is held out.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array_like, optional
            All classes that will ever come; needed in the first call.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            if _check_partial_fit_first_call(self, classes):
                self._take_classes(self.classes_)
            return self._pass_over(X, y, sample_weight, learn=False)

    def predict(self, X: Any) -> Array:
        """The most likely class of each example.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n,) array
        """
        z = self._outputs(X)
        return self.classes_[z.argmax(axis=1)]

    def decision_function(self, X: Any) -> Array:
        """The score of each class, or for two classes how much that of the second is above that of the first.

        Scores are the outputs z of the net, for the loss "stablemax" ``sign(z) log(1 + |z|)``. Probabilities are their
        softmax.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n, k) or (n,) array
        """
        z = self._scores(X)
        return z[:, 1] - z[:, 0] if len(self.classes_) == 2 else z

    def _scores(self, X: Any) -> Array:
        z = self._outputs(X)
        return np.sign(z) * np.log1p(np.abs(z)) if self._made_of["loss"] == "stablemax" else z

    @available_if(_with_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """The probability of each class.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n, k) array
            In the order of ``classes_``.
        """
        return softmax(self._scores(X), axis=1)

    @available_if(_with_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n, k) array
        """
        z = self._scores(X)
        return z - logsumexp(z, axis=1)[:, None]


class MFACRegressor(MultiOutputMixin, RegressorMixin, Net):
    """A regression by a net of linear layers, trained by M-FAC.

    Features and targets should be of the order of 1: standardise them.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, lr, window, damp, normalize, momentum, max_iter, tol
        As for :class:`MFACClassifier`.
    loss : {"auto", "squared", "huber"}
        As in :mod:`numcore.autodiff.losses`, summed over the outputs; "auto" is "squared", half the squared error.
    n_iter_no_change, early_stopping, validation_fraction, warm_start, random_state, verbose
        As for :class:`MFACClassifier`; the score on the examples held out is R^2.

    Attributes
    ----------
    theta_, mask_, loss_curve_, validation_scores_, prune_result_, n_iter_, n_outputs_, n_features_in_
        As those of :class:`MFACClassifier`.

    Warns
    -----
    ConvergenceWarning
        When `max_iter` is reached, or the loss is not finite any more.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import MFACRegressor
    >>> X = np.random.default_rng(0).uniform(-2, 2, (400, 1))
    >>> net = MFACRegressor((32,), batch_size=64, tol=1e-3, random_state=0).fit(X, np.sin(2 * X[:, 0]))
    >>> bool(net.score(X, np.sin(2 * X[:, 0])) > 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Net._parameter_constraints,
        "loss": [StrOptions({"auto", "squared", "huber"})],
    }
    _default_loss = "squared"
    _target_rules: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    def _learn_targets(self, y: Array) -> None:
        self._flat = y.ndim == 1
        self.n_outputs_ = 1 if self._flat else y.shape[1]

    def _encode(self, y: Array, dtype: Any) -> Array:
        y = y.reshape(len(y), -1).astype(dtype)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have the {self.n_outputs_} targets of the first fit; got {y.shape[1]}")
        return y

    def _validation_score(self, z: Array, y: Array, weight: Array | None) -> float:
        return float(r2_score(y, z, sample_weight=weight))

    @available_if(in_small_batches)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on some examples; nothing is held out.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        self
        """
        return self._pass_over(X, y, sample_weight, learn=not hasattr(self, "theta_"))

    def predict(self, X: Any) -> Array:
        """The targets of each example.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n,) or (n, k) array
        """
        z = self._outputs(X)
        return z[:, 0] if self._flat else z


class GNSLogisticRegression(ClassifierMixin, BaseEstimator):
    r"""Logistic regression by gradient-regularised Newton steps, which need no line search and no step size.

    Minimises, with probabilities :math:`p_i` that are the softmax of :math:`W x_i + b` (the sigmoid, for two classes),

    .. math:: -C \sum_i s_i \log p_{i, y_i} + \tfrac12 {\lVert W \rVert}^2

    over W and b, for weights s of the examples: the objective of scikit-learn's ``LogisticRegression``.

    Parameters
    ----------
    C : float
        The weight of the data against the penalty.
    hess : {"exact", "ggn", "fisher"}
        "exact": the Hessian, formed and factored, up to 4096 coefficients; with more, as "ggn". "ggn": the Gauss-Newton
        matrix, which is the Hessian here, by products only, solved by conjugate gradients. "fisher": the empirical
        Fisher matrix, cheap and crude.
    fit_intercept : bool
        Whether there is a b.
    tol : float
        Converged when the gradient's norm, of the objective divided by C times the sum of s, is at most this.
    max_iter : int
        Steps at most.

    Attributes
    ----------
    classes_ : (k,) array
    coef_ : (k, p) array; (1, p) for two classes
    intercept_ : (k,) array; (1,) for two classes
        In the dtype of X; the fit itself is in float64.
    result_ : GNSResult
        How it went.
    n_iter_ : int
    n_features_in_ : int

    Warns
    -----
    ConvergenceWarning
        When `tol` is not reached.

    References
    ----------
    .. [1] A. Semenov, M. Jaggi and N. Doikov, "Gradient-Normalized Smoothness for Optimization with Approximate
       Hessians", 2025, Algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from numcore.algorithms.curvature import GNSLogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = GNSLogisticRegression().fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.98), model.n_iter_ < 20
    (True, True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "hess": [StrOptions({"exact", "ggn", "fisher"})],
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        C: float = 1.0,
        *,
        hess: str = "exact",
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 200,
    ) -> None:
        self.C = C
        self.hess = hess
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the coefficients.

        Parameters
        ----------
        X : (n, p) array_like
        y : (n,) array_like
            Classes, two or more.
        sample_weight : (n,) array_like, optional
            Not negative.

        Returns
        -------
        self
        """
        with restored_on_failure(self), on_one_thread():
            X, y = validate_data(self, X, y, dtype=FLOATS)
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("sample_weight must not be 0 throughout")
            check_classification_targets(y)
            self.classes_, labels = np.unique(y, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"y must hold at least 2 classes; got 1 class, {self.classes_[0]!r}")
            problem = Logistic(X, labels, weight, self.C, self.fit_intercept)
            self.result_ = minimize_gns(
                problem.value,
                np.zeros(problem.size),
                grad=problem.gradient,
                hess=problem.hessian(self.hess),
                tol=self.tol,
                max_iter=self.max_iter,
            )
            W = problem.shaped(self.result_.x).astype(X.dtype)
            p = X.shape[1]
            self.coef_, self.intercept_ = W[:, :p], W[:, p] if self.fit_intercept else np.zeros(len(W), X.dtype)
            self.n_iter_ = self.result_.n_iter
        return self

    def decision_function(self, X: Any) -> Array:
        """The logits: one a class, or for two classes that of the second.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n, k) or (n,) array
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        z = X @ self.coef_.T + self.intercept_
        return z[:, 0] if len(self.classes_) == 2 else z

    def predict(self, X: Any) -> Array:
        """The most likely class of each example.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n,) array
        """
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n, k) array
            In the order of ``classes_``.
        """
        return softmax(self._logits(X), axis=1)

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : (n, p) array_like

        Returns
        -------
        (n, k) array
        """
        z = self._logits(X)
        return z - logsumexp(z, axis=1)[:, None]

    def _logits(self, X: Any) -> Array:
        """One a class; 0 for the first of two."""
        z = self.decision_function(X)
        return np.stack([np.zeros_like(z), z], axis=1) if z.ndim == 1 else z
