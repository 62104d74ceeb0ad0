"""What the estimators by nets share: their parameters, how they are trained and pruned, and when they stop."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from numcore import autodiff as ad
from numcore.algorithms._estimators import FLOATS, on_one_thread, restored_on_failure
from numcore.algorithms.curvature._training import Diverged, Objective, weights_of
from numcore.algorithms.curvature.gns import minimize_gns
from numcore.algorithms.curvature.mfac import MFACOptimizer
from numcore.algorithms.curvature.pruning import prune_magnitude, prune_mfac, prune_sap
from numcore.arrays import Array, as_choice, as_count
from numcore.results import ConvergenceWarning, Loop

__all__ = ["Net", "in_small_batches"]

ACTIVATIONS = {"elu", "gelu", "leaky_relu", "relu", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh"}
PRUNING_GRADIENTS = 256
"""Gradients of single examples, drawn afresh for each recomputation."""

UNDONE = "The last epoch led to numbers that are not finite, and is undone. Lower lr or raise damp."


class Net(BaseEstimator):
    """What the two nets share; a subclass says what its outputs and its targets are."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(ACTIVATIONS), None],
        "solver": [StrOptions({"mfac", "adam", "sgd", "gns"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "window": [Interval(Integral, 1, None, closed="left")],
        "damp": [Interval(Real, 0, None, closed="neither")],
        "normalize": [StrOptions({"capacity", "count"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        activation: str | None = "relu",
        solver: str = "mfac",
        loss: str = "auto",
        alpha: float = 1e-4,
        batch_size: int = 128,
        lr: float = 1e-2,
        window: int = 64,
        damp: float = 1e-3,
        normalize: str = "count",
        momentum: float = 0.9,
        max_iter: int = 100,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.loss = loss
        self.alpha = alpha
        self.batch_size = batch_size
        self.lr = lr
        self.window = window
        self.damp = damp
        self.normalize = normalize
        self.momentum = momentum
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    theta_: Array
    mask_: Array
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_iter_: int
    n_outputs_: int
    _made_of: dict[str, Any]
    _optimizer: Any
    _optimizer_for: tuple[Any, ...]

    # what a subclass says

    _default_loss: ClassVar[str]

    def _learn_targets(self, y: Array) -> None:
        """Find out of checked targets what is to be known of them later."""
        raise NotImplementedError

    def _encode(self, y: Array, dtype: Any) -> Array:
        """Targets as the loss takes them; a ValueError if they are not of the kind that is known."""
        raise NotImplementedError

    def _validation_score(self, z: Array, y: Array, weight: Array | None) -> float:
        """How well the outputs z do."""
        raise NotImplementedError

    def _split_by(self, y: Array) -> Any:
        """What the held-out examples should be spread over evenly."""

    # public methods

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the net.

        Parameters
        ----------
        X : (n, p) array_like
            Float32 stays float32, throughout; all else becomes float64.
        y : (n,) or, for regression, (n, k) array_like
            Targets.
        sample_weight : (n,) array_like, optional
            Not negative. An example of weight 0 is left out, one of weight 2 counts as two.

        Returns
        -------
        self

        Notes
        -----
        An interruption from the keyboard ends the training with a warning, and leaves the net as it is then.
        """
        with restored_on_failure(self):
            fresh = not (self.warm_start and hasattr(self, "theta_"))
            X, y, weight = self._checked(X, y, sample_weight, fresh, learn=fresh)
            if fresh:
                self._start(X)
            with on_one_thread():
                if self.solver == "gns":
                    self._newton(self._objective(X, y, weight))
                else:
                    self._descend(X, y, weight)
        return self

    def _pass_over(self, X: Any, y: Any, sample_weight: Any, learn: bool) -> Self:
        """One epoch more, or a first."""
        with restored_on_failure(self), on_one_thread():
            fresh = not hasattr(self, "theta_")
            X, y, weight = self._checked(X, y, sample_weight, fresh, learn)
            if fresh:
                self._start(X)
            with _until_interrupted(self):
                if not np.isfinite(self._epoch(self._objective(X, y, weight))["loss"]):
                    warnings.warn(f"{type(self).__name__}: {UNDONE}", ConvergenceWarning, stacklevel=4)
        return self

    def prune(self, X: Any, y: Any, sparsity: float, *, method: str = "mfac", n_recompute: int = 16) -> Self:
        """Set weights of the fitted net to zero, for good: later training leaves them there. Biases are not pruned.

        Parameters
        ----------
        X, y : array_like
            Examples: those of the training, or some.
        sparsity : float in [0, 1)
            The share of all weights that is to be zero.
        method : {"mfac", "magnitude", "sap"}
            "mfac" removes what the loss, by the inverse empirical Fisher matrix, misses least, and moves the others
            to make up for it (:func:`prune_mfac`). "magnitude" removes the smallest. "sap" removes the smallest
            too, in rounds that the PQ index sizes, each followed by an epoch of training on `X` and `y`; it may
            end with fewer removed.
        n_recompute : int
            For "mfac", in how many passes, with new gradients for each: above 80 % one is not enough. For "sap",
            rounds at most.

        Returns
        -------
        self
            With ``mask_``, ``theta_`` and ``prune_result_`` set.

        Raises
        ------
        NotFittedError
            If the net is not fitted.
        ValueError
            If `sparsity` is out of range, or below what has been reached already.
        """
        check_is_fitted(self)
        as_choice(method, "method", ("mfac", "magnitude", "sap"))
        n_recompute = as_count(n_recompute, "n_recompute")
        X, y = validate_data(self, X, y, reset=False, dtype=self.theta_.dtype, **self._target_rules)
        y = self._encode(y, self.theta_.dtype)
        with restored_on_failure(self), on_one_thread():
            self.theta_, self.mask_ = self.theta_.copy(), self.mask_.copy()
            places = np.concatenate([np.r_[part] for part in weights_of(self._net())])
            if method == "sap":
                result = self._prune_sap(X, y, sparsity, n_recompute, places)
            else:
                prune = prune_magnitude
                if method == "mfac":
                    prune = partial(self._prune_mfac, X, y, n_recompute, places)
                result = prune(self.theta_[places], sparsity, mask=self.mask_[places])
                self._keep(result, places)
            self.prune_result_ = result
        return self

    # the steps of a fit

    _target_rules: ClassVar[dict[str, Any]] = {}

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, fresh: bool, learn: bool
    ) -> tuple[Array, Array, Array | None]:
        """Data that may be trained on, examples of weight 0 left out."""
        dtype = FLOATS if fresh else self.theta_.dtype
        X, y = validate_data(self, X, y, reset=fresh, dtype=dtype, **self._target_rules)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("sample_weight must not be 0 throughout")
            X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]
        if learn:
            self._learn_targets(y)
        wanted = {
            "hidden_layer_sizes": self._hidden_sizes(),
            "activation": self.activation,
            "loss": self._default_loss if self.loss == "auto" else self.loss,
        }
        if fresh:
            self._made_of = wanted
        for name, value in wanted.items():
            if value != self._made_of[name]:
                raise ValueError(f"{name} must stay {self._made_of[name]!r} for training to go on; got {value!r}")
        return X, self._encode(y, X.dtype), weight

    def _hidden_sizes(self) -> tuple[int, ...]:
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if sizes.ndim != 1 or (sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 1)):
            raise ValueError(f"hidden_layer_sizes must be positive integers; got {self.hidden_layer_sizes!r}")
        return tuple(map(int, sizes))

    def _start(self, X: Array) -> None:
        """New parameters; nothing has been trained."""
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        self.n_iter_ = 0
        self.loss_curve_ = []
        self.theta_ = self._net().init(rng=self._rng("start"), dtype=X.dtype)
        self.mask_ = np.ones(len(self.theta_), bool)
        self._optimizer = None

    def _net(self) -> ad.nn.MLP:
        made_of = self._made_of
        sizes = (self.n_features_in_, *made_of["hidden_layer_sizes"], self.n_outputs_)
        return ad.nn.MLP(sizes, made_of["activation"])

    def _rng(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose and epoch, so that a fit that goes on draws what one fit would."""
        return np.random.default_rng([self._seed, *purpose.encode(), self.n_iter_])

    def _objective(self, X: Array, y: Array, weight: Array | None) -> Objective:
        mean = 1.0 if weight is None else float(weight.mean(dtype=np.float64))
        size = len(X) if self.solver == "gns" else min(self.batch_size, len(X))
        if weight is not None:
            weight = weight / weight.dtype.type(mean)
        return Objective(self._net(), self._made_of["loss"], X, y, weight, self.alpha / (size * mean), self.mask_)

    def _descend(self, X: Array, y: Array, weight: Array | None) -> None:
        """Epochs of small batches, until neither the loss nor the validation score improves."""
        held = None
        if self.early_stopping:
            X, y, weight, *held = self._split(X, y, weight)
            self.validation_scores_ = []
        objective = self._objective(X, y, weight)
        loop = Loop(
            type(self).__name__, tol=self.tol, max_iter=self.max_iter, verbose=self.verbose, residual="improvement"
        )
        recent: deque[float] = deque(maxlen=self.n_iter_no_change)
        best, before, advice = None, None, ""
        with _until_interrupted(self, loop):
            for _ in loop.stage():
                start = self.theta_
                figures = self._epoch(objective)
                if not np.isfinite(figures["loss"]):
                    if before is not None and not objective.is_finite(start):
                        self._take_back(before)  # the step that went too far was the last of the epoch before
                        if held is not None:
                            self.validation_scores_.pop()
                elif held is not None:
                    z = self._validation_outputs(held[0])
                    if np.isfinite(z).all():
                        figures["score"] = self._validation_score(z, *held[1:])
                        self.validation_scores_.append(figures["score"])
                    else:
                        self._take_back(start)
                        figures["loss"] = np.nan
                if not np.isfinite(figures["loss"]):
                    advice = UNDONE
                    loop.report(np.nan, **figures)
                    continue
                before = start
                reached = -figures.get("score", -figures["loss"])
                # how much less than ever before; the first epoch's own size begins
                recent.append(abs(reached) if best is None else max(best[0] - reached, 0.0))
                if best is None or reached < best[0]:
                    best = reached, self.theta_.copy() if held is not None else None
                loop.report(max(recent), hold=len(recent) < self.n_iter_no_change, **figures)
        if best is not None and best[1] is not None:
            self.theta_ = best[1]
        loop.finish(advice, stacklevel=5)

    def _epoch(self, objective: Objective) -> dict[str, Any]:
        """Train for one epoch; undone if it leads where numbers are not finite."""
        theta, optimizer = self.theta_.copy(), self._ready_optimizer()
        try:
            batch_size = min(self.batch_size, len(objective.X))
            with np.errstate(over="ignore", invalid="ignore"):  # found out, and said, below
                loss = objective.epoch(theta, optimizer.step, batch_size, self._rng("order"))
        except Diverged:
            self._optimizer = None
            return {"loss": np.nan}
        except KeyboardInterrupt:
            self.theta_ = theta
            raise
        self.theta_ = theta
        self.loss_curve_ = [*self.loss_curve_, loss]
        self.n_iter_ += 1
        return {"loss": loss}

    def _take_back(self, theta: Array) -> None:
        """Undo an epoch that began at `theta` and ended where the loss is not finite."""
        self.theta_, self._optimizer = theta, None
        self.loss_curve_, self.n_iter_ = self.loss_curve_[:-1], self.n_iter_ - 1

    def _validation_outputs(self, X: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return self._net()(self.theta_, X)

    def _ready_optimizer(self) -> Any:
        """The optimizer, with what it remembers; a new one where parameters have changed that its memory rests on."""
        rests_on = (self.solver, *((self.window, self.damp, self.normalize) if self.solver == "mfac" else ()))
        if self._optimizer is None or self._optimizer_for != rests_on:
            self._optimizer, self._optimizer_for = self._new_optimizer(), rests_on
        self._optimizer.lr = self.lr
        if self.solver != "adam":
            self._optimizer.momentum = self.momentum
        return self._optimizer

    def _new_optimizer(self) -> Any:
        if self.solver == "adam":
            return ad.optim.Adam(self.lr)
        if self.solver == "sgd":
            return ad.optim.SGD(self.lr, self.momentum)
        return MFACOptimizer(
            lr=self.lr,
            window=self.window,
            damp=self.damp,
            momentum=self.momentum,
            normalize=self.normalize,
            mask=None if self.mask_.all() else self.mask_,
        )

    def _newton(self, objective: Objective) -> None:
        """Gradient-regularised Newton steps on all examples, with the Gauss-Newton matrix."""
        seen: dict[str, Any] = {"at": None}

        def at(theta: Array) -> dict[str, Any]:
            if seen["at"] is None or not np.array_equal(seen["at"], theta):
                gradient = np.zeros_like(theta)
                value = objective.value_and_grad(theta, gradient)
                seen.update(at=theta.copy(), value=value, gradient=gradient)
            return seen

        def follow(state: Any) -> None:
            self.theta_ = np.array(state.x, self.theta_.dtype)
            self.loss_curve_ = [*self.loss_curve_, float(state.fun)]
            self.n_iter_ += 1

        with _until_interrupted(self):
            result = minimize_gns(
                lambda theta: at(theta)["value"],
                self.theta_,
                grad=lambda theta: at(theta)["gradient"],
                hess=objective.curvature,
                tol=self.tol,
                max_iter=self.max_iter,
                callback=follow,
                verbose=self.verbose,
            )
            self.theta_ = np.asarray(result.x, self.theta_.dtype)

    def _split(self, X: Array, y: Array, weight: Array | None) -> list[Any]:
        """Training and validation examples: X, y, weight of either."""
        rows = np.arange(len(X))
        seed = int(np.random.default_rng([self._seed, 0]).integers(2**31))
        try:
            train, test = train_test_split(
                rows, test_size=self.validation_fraction, random_state=seed, stratify=self._split_by(y)
            )
        except ValueError as failure:
            raise ValueError(
                f"early_stopping cannot hold out validation_fraction={self.validation_fraction} of {len(X)} examples: "
                f"{failure}"
            ) from failure
        return [part if part is None else part[k] for k in (train, test) for part in (X, y, weight)]

    # pruning

    def _prune_mfac(
        self, X: Array, y: Array, n_recompute: int, places: Array, weights: Array, sparsity: float, *, mask: Array
    ) -> Any:
        net, theta, rng = self._net(), self.theta_.copy(), self._rng("prune")

        def gradients(weights: Array) -> Array:
            theta[places] = weights
            rows = rng.choice(len(X), min(len(X), PRUNING_GRADIENTS), replace=False)
            return net.per_example_grads(theta, X[rows], y[rows], loss=self._made_of["loss"])[1][:, places]

        return prune_mfac(weights, gradients, sparsity, mask=mask, n_recompute=n_recompute)

    def _prune_sap(self, X: Array, y: Array, sparsity: float, n_rounds: int, places: Array) -> Any:
        """Rounds of pruning, each but the last followed by an epoch, until `sparsity` or until nothing is dropped."""
        result = prune_magnitude(self.theta_[places], sparsity, mask=self.mask_[places])  # refuses what cannot be
        for k in range(n_rounds):
            weights, mask = self.theta_[places], self.mask_[places]
            result = prune_sap(weights, mask=mask)
            if result.sparsity >= sparsity:
                result = prune_magnitude(weights, sparsity, mask=mask)
            self._keep(result, places)
            if result.n_dropped == 0 or result.sparsity >= sparsity:
                break
            if k + 1 < n_rounds and self.solver != "gns":
                self._epoch(self._objective(X, y, None))
        return result

    def _keep(self, result: Any, places: Array) -> None:
        """Take the result of a pruning over; what the optimizer remembers is of another net."""
        self.theta_[places], self.mask_[places] = result.weights, result.mask
        self._optimizer = None

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        return self._net()(self.theta_, validate_data(self, X, dtype=FLOATS, reset=False))


@contextmanager
def _until_interrupted(estimator: Net, loop: Loop | None = None) -> Iterator[None]:
    """Let an interruption from the keyboard end what is done within, but not what follows."""
    try:
        yield
    except KeyboardInterrupt:
        warnings.warn(f"{type(estimator).__name__}: training was interrupted", UserWarning, stacklevel=6)
        estimator._optimizer = None  # it may have been in the middle of a step
        if loop is not None:
            loop.stopped = True


def in_small_batches(estimator: Net) -> bool:
    if estimator.solver == "gns":
        raise AttributeError('partial_fit needs a solver of small batches; "gns" takes all examples at once')
    return True
