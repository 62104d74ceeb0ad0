"""Memories as scikit-learn estimators: dense and classical networks of signs, and modern networks of any vectors."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import brentq
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    OneToOneFeatureMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from numcore.algorithms._estimators import FLOATS, restored_on_failure
from numcore.algorithms.hebbian._checks import INTERACTIONS, Array
from numcore.algorithms.hebbian._model import make_model
from numcore.algorithms.hebbian.bounds import separation_margin
from numcore.algorithms.hebbian.energy import overlap_matrix
from numcore.algorithms.hebbian.examples import stored, thresholds
from numcore.algorithms.hebbian.pairwise import PairwiseModel, hopfield_weights, recall_pairwise
from numcore.algorithms.hebbian.recall import recall
from numcore.algorithms.hebbian.retrieval import RetrievalResult, retrieve
from numcore.algorithms.hebbian.sampling import sample
from numcore.arrays import as_rng

__all__ = [
    "DenseHebbianMemory",
    "HopfieldNetwork",
    "ModernHopfield",
    "ModernHopfieldClassifier",
    "ModernHopfieldRegressor",
]

TINY = np.finfo(np.float64).tiny
"""Divided by where all entries are 0."""


class _OfSigns(BaseEstimator):
    """What memories of signs share: data above a threshold are +1, and the rest -1."""

    threshold: Any
    # of what is learned
    patterns_: Array
    threshold_: Any

    def _settled(self, states: Array, clamp: Array | None) -> tuple[Array, Array | None]:
        """Where the dynamics takes states, and their overlaps if known; features under the mask `clamp` stay."""
        raise NotImplementedError

    def recall(self, X: Any) -> Array:
        """The states that the memory makes of data.

        Parameters
        ----------
        X : (n, N) array_like
            Above the threshold is +1, the rest -1.

        Returns
        -------
        (n, N) int8 array
        """
        check_is_fitted(self)
        return self._settled(self._signs(self._checked_queries(X)), None)[0]

    def complete(self, X: Any, known: Any) -> Array:
        """Fill in features that are not known; those that are known stay.

        The unknown ones start at the signs of the pattern that has the largest overlap with the known ones (0 counts as
        -1).

        Parameters
        ----------
        X : (n, N) array_like
            What stands at unknown features does not matter, and may be nan.
        known : (N,) or (n, N) bool array

        Returns
        -------
        (n, N) int8 array
        """
        check_is_fitted(self)
        X = self._checked_queries(X, finite=False)
        mask = np.asarray(known)
        if mask.dtype != bool or mask.shape not in (X.shape, X.shape[1:]):
            n, N = X.shape
            raise ValueError(
                f"known must be a bool array of shape ({N},) or ({n}, {N}); got {mask.dtype} of shape {mask.shape}"
            )
        given = np.broadcast_to(mask, X.shape)
        bad = given & ~np.isfinite(X)
        if bad.any():
            raise ValueError(f"X must be finite at known features; {np.count_nonzero(bad)} of these entries are not")
        states = np.where(given, self._signs(X), np.int8(0))
        nearest = self.patterns_[overlap_matrix(states, self.patterns_).argmax(axis=1)]
        start = np.where(given, states, np.where(nearest > 0, np.int8(1), np.int8(-1)))
        return self._settled(start, mask)[0]

    def _checked_queries(self, X: Any, finite: bool = True) -> Array:
        return validate_data(self, X, dtype="numeric", reset=False, ensure_all_finite=finite)

    def _signs(self, X: Array) -> Array:
        return np.where(X > self.threshold_, np.int8(1), np.int8(-1))


def packed(states: Array) -> Array:
    """Each row of signs as one item, to be compared and sorted."""
    bits = np.packbits(states > 0, axis=1)
    return bits.view(np.dtype((np.void, bits.shape[1])))[:, 0]


def _limit(X: Array, threshold: Any) -> Any:
    limit = thresholds(X, threshold)
    return limit if limit.ndim else float(limit)


class DenseHebbianMemory(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, _OfSigns):
    """A dense associative memory: learns patterns from examples, and recalls, completes and classifies.

    Parameters
    ----------
    order : int
        P of the energy; 2 is the classical network.
    learning : {"supervised", "unsupervised"}
        With labels: store the mean of each class, or every example. Without: each row is an archetype, or an example.
    interaction : {"distinct", "full", "rectified", "exp"}
        As for :func:`energy`.
    beta : float
        Inverse temperature; inf descends to rest, a finite one samples.
    n_sweeps : int
        Sweeps of recall at most, or of a chain; 0 leaves states as they are, so that the class is that of the pattern
        nearest to the data.
    dynamics : {"sequential", "parallel", "plefka"}
        As for :func:`sample`.
    threshold : float, (N,) array or "median"
        What :func:`binarize` compares data with. The medians are those of the first data fitted.
    normalize : "empirical", None or float
        As for :func:`hebbian_patterns`.
    random_state : int, RandomState or None
        Of the chains at finite `beta`.
    verbose : int
        1 shows a progress bar of the chains.

    Attributes
    ----------
    patterns_ : (K, N) array
        What is stored; int8 where all entries are signs.
    weights_ : (K,) array
        The factor of each in the energy.
    labels_ : (K,) array or None
        The class of each.
    classes_ : array or None
        The labels there are, sorted.
    threshold_ : float or (N,) array
    R_ : float
        Mean square of the entries of a class mean; 1 for archetypes.
    quality_ : float
        The quality of examples that `R_` stands for, as in :class:`HebbianPatterns`.
    n_features_in_ : int
    feature_names_in_ : array
        Where X had names.
    n_iter_ : int
        Batches learned: 1 after ``fit``.

    Warns
    -----
    ConvergenceWarning
        If states were still changing after `n_sweeps`.
    UserWarning
        If most of the different queries end in one state, though they are nearest to different patterns. Images share a
        mean, and a memory of low order sees little else: a higher `order` cures it.

    See Also
    --------
    ModernHopfieldClassifier : for vectors of real numbers.

    References
    ----------
    E. Agliari et al., *Dense Hebbian neural networks: a replica symmetric picture of supervised learning*, Physica A
    626, 2023; D. Krotov, J. J. Hopfield, *Dense associative memory for pattern recognition*, NeurIPS 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from numcore.algorithms.hebbian import DenseHebbianMemory
    >>> X, y = load_digits(return_X_y=True)
    >>> memory = DenseHebbianMemory(30, learning="unsupervised", threshold=7.5).fit(X[:1200], y[:1200])
    >>> memory.recall(X[1200:1202]).shape
    (2, 64)
    >>> memory.score(X[1200:1400], y[1200:1400]) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "order": [Interval(Integral, 2, None, closed="left")],
        "learning": [StrOptions({"supervised", "unsupervised"})],
        "interaction": [StrOptions(set(INTERACTIONS))],
        "beta": [Interval(Real, 0, None, closed="right")],
        "n_sweeps": [Interval(Integral, 0, None, closed="left")],
        "dynamics": [StrOptions({"sequential", "parallel", "plefka"})],
        "threshold": [Real, StrOptions({"median"}), "array-like"],
        "normalize": [StrOptions({"empirical"}), None, Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # of what is learned
    weights_: Array
    labels_: Array | None
    classes_: Array | None
    R_: float
    quality_: float
    n_iter_: int
    _learning: str
    _seen: Array
    _sums: Array
    _counts: Array

    def __init__(
        self,
        order: int = 3,
        *,
        learning: str = "supervised",
        interaction: str = "rectified",
        beta: float = np.inf,
        n_sweeps: int = 10,
        dynamics: str = "sequential",
        threshold: Any = 0.0,
        normalize: Any = "empirical",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.order = order
        self.learning = learning
        self.interaction = interaction
        self.beta = beta
        self.n_sweeps = n_sweeps
        self.dynamics = dynamics
        self.threshold = threshold
        self.normalize = normalize
        self.random_state = random_state
        self.verbose = verbose

    # learning

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Store archetypes, or what examples say of them; what was stored before is forgotten.

        Parameters
        ----------
        X : (n, N) array_like
            Above the threshold is +1, the rest -1.
        y : (n,) array_like, optional
            The class of each row. Without, nothing can be predicted.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            return self._learn(X, y, first=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, classes: Any = None) -> Self:
        """Store more; batch by batch the same is learned as by ``fit`` from all of them.

        Parameters
        ----------
        X : (n, N) array_like
            A batch.
        y : (n,) array_like, optional
            The classes of its rows, for all batches or for none.
        classes : array_like, optional
            Labels that are expected; others are refused. There is no need to name them: classes are stored as they
            come.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            return self._learn(X, y, first=not hasattr(self, "patterns_"), classes=classes)

    def _learn(self, X: Any, y: Any, first: bool, classes: Any = None) -> Self:
        if y is None:
            X = validate_data(self, X, dtype="numeric", reset=first)
        else:
            X, y = validate_data(self, X, y, dtype="numeric", reset=first)
            check_classification_targets(y)
        if first:
            self.threshold_ = _limit(X, self.threshold)
        else:
            self._check_like_before(y)
        if classes is not None and y is not None and not np.isin(y, classes).all():
            raise ValueError(f"y holds labels that are not in classes: {np.setdiff1d(y, classes)}")
        states = self._signs(X)
        if y is None and self.learning == "supervised":
            self._store_archetypes(states, first)
        else:
            self._store_examples(states, y, first)
        # what the patterns do not go with is refused here, and not by the first query
        make_model(self.patterns_[:1], order=self.order, interaction=self.interaction)
        self._check_temperature()
        self._learning, self.n_iter_ = self.learning, 1 if first else self.n_iter_ + 1
        return self

    def _check_like_before(self, y: Array | None) -> None:
        if (y is None) != (self.classes_ is None):
            raise ValueError(f"y must {'not ' if y is not None else ''}be given, as in the batches before")
        if self.learning != self._learning:
            raise ValueError(f"learning must stay {self._learning!r}, as in the batches before; got {self.learning!r}")

    def _check_temperature(self) -> None:
        if self.interaction == "exp" and np.isfinite(self.beta):
            raise ValueError(f"beta must be inf with interaction 'exp'; got {self.beta!r}")
        if self.dynamics == "plefka" and (np.isinf(self.beta) or self.interaction != "distinct"):
            raise ValueError(
                "dynamics 'plefka' needs a finite beta and interaction 'distinct';"
                f" got {self.beta!r} and {self.interaction!r}"
            )

    def _store_archetypes(self, states: Array, first: bool) -> None:
        self.patterns_ = states if first else np.concatenate([self.patterns_, states])
        self.weights_ = np.ones(len(self.patterns_))
        self.labels_, self.classes_, self.R_, self.quality_ = None, None, 1.0, 1.0

    def _store_examples(self, states: Array, y: Array | None, first: bool) -> None:
        """Sums of signs are whole numbers, so that it does not matter in which batches they came."""
        labels = np.zeros(len(states), np.int64) if y is None else y
        seen = np.unique(labels) if first else np.union1d(self._seen, labels)
        classes = np.searchsorted(seen, labels)
        counts = np.bincount(classes, minlength=len(seen))
        sums = np.zeros((len(seen), states.shape[1]))
        for c in np.unique(classes):
            sums[c] = states[classes == c].sum(axis=0, dtype=np.int64)
        if not first:
            places = np.searchsorted(seen, self._seen)
            counts[places] += self._counts
            sums[places] += self._sums
        members = None
        if self.learning == "unsupervised":
            if not first:
                before = np.zeros(len(self.patterns_), np.int64) if self.labels_ is None else self.labels_
                classes = np.concatenate([np.searchsorted(seen, before), classes])
                states = np.concatenate([self.patterns_, states])
            members = states, classes
        named = None if y is None else seen
        found = stored(sums / counts[:, None], counts, named, self.order, self.normalize, members)
        self.patterns_, self.weights_, self.labels_, self.classes_ = found.patterns, found.weights, found.labels, named
        self.R_, self.quality_ = found.R, found.quality_hat
        self._seen, self._sums, self._counts = seen, sums, counts

    # recall

    def transform(self, X: Any) -> Array:
        """Overlaps of recalled states with the patterns.

        Parameters
        ----------
        X : (n, N) array_like

        Returns
        -------
        (n, K) array
        """
        found, dtype = self._overlaps(X), getattr(X, "dtype", np.float64)
        return found.astype(np.float32) if dtype == np.float32 else found

    def decision_function(self, X: Any) -> Array:
        """The largest overlap of the recalled state with a pattern of each class.

        Parameters
        ----------
        X : (n, N) array_like

        Returns
        -------
        (n, n_classes) array
            With two classes the second column minus the first, (n,).
        """
        found, _ = self._of_classes(X)
        return found[:, 1] - found[:, 0] if found.shape[1] == 2 else found

    def predict(self, X: Any) -> Array:
        """The label of the pattern that has the largest overlap with the recalled state.

        Parameters
        ----------
        X : (n, N) array_like

        Returns
        -------
        (n,) array
        """
        found, classes = self._of_classes(X)
        return classes[found.argmax(axis=1)]

    def _of_classes(self, X: Any) -> tuple[Array, Array]:
        check_is_fitted(self)
        if self.labels_ is None or self.classes_ is None:
            raise ValueError("y was not given when this memory was fitted, so that its patterns bear no labels")
        by_class = np.argsort(self.labels_, kind="stable")
        starts = np.searchsorted(self.labels_[by_class], self.classes_)
        return np.maximum.reduceat(self._overlaps(X)[:, by_class], starts, axis=1), self.classes_

    def _overlaps(self, X: Any) -> Array:
        check_is_fitted(self)
        states, overlaps = self._settled(self._signs(self._checked_queries(X)), None)
        return overlap_matrix(states, self.patterns_) if overlaps is None else overlaps

    def _settled(self, states: Array, clamp: Array | None) -> tuple[Array, Array | None]:
        found: Array
        overlaps: Array | None = None
        if np.isfinite(self.beta):
            found = self._sampled(states, clamp)
        else:
            result = recall(
                states,
                self.patterns_,
                order=self.order,
                interaction=self.interaction,  # type: ignore[arg-type]
                weights=self.weights_,
                n_sweeps=self.n_sweeps,
                dynamics=self.dynamics,  # type: ignore[arg-type]
                clamp=clamp,
            )
            found, overlaps = result.states, result.overlaps
        self._warn_of_collapse(states, found)
        return found, overlaps

    def _sampled(self, states: Array, clamp: Array | None) -> Array:
        found, rng = states.copy(), as_rng(self.random_state)
        if not self.n_sweeps:
            return found
        masks = np.broadcast_to(np.zeros(1, bool) if clamp is None else clamp, states.shape)
        different, which = np.unique(masks, axis=0, return_inverse=True)
        for group, mask in enumerate(different):
            rows = which.reshape(-1) == group
            found[rows] = sample(
                self.patterns_,
                beta=self.beta,
                order=self.order,
                interaction=self.interaction,  # type: ignore[arg-type]
                weights=self.weights_,
                init=states[rows],
                n_sweeps=self.n_sweeps,
                dynamics=self.dynamics,  # type: ignore[arg-type]
                clamp=mask,
                record_every=self.n_sweeps,
                probes=self.patterns_[:1],
                rng=rng,
                verbose=self.verbose,
            ).states
        return found

    def _warn_of_collapse(self, states: Array, found: Array) -> None:
        _, first = np.unique(packed(states), return_index=True)
        _, which, counts = np.unique(packed(found[first]), return_inverse=True, return_counts=True)
        most = int(counts.max())
        if 2 * most <= len(first):
            return
        drawn = states[first[which == counts.argmax()]]
        nearest = overlap_matrix(drawn, self.patterns_).argmax(axis=1)
        if len(np.unique(nearest if self.labels_ is None else self.labels_[nearest])) > 1:
            warnings.warn(
                f"{most} of {len(first)} different queries ended in one state, though they are nearest to different"
                f" patterns: they, or the patterns, share a mean that order {self.order} does not look past. Try a"
                " higher order, or n_sweeps=0.",
                UserWarning,
                stacklevel=4,
            )

    @property
    def _n_features_out(self) -> int:
        return len(self.patterns_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = False
        tags.classifier_tags.poor_score = True  # of signs of two features, as in the checks
        return tags


class HopfieldNetwork(_OfSigns):
    """The classical network of pairwise couplings.

    Parameters
    ----------
    rule : {"hebb", "pinv", "storkey"}
        How couplings are made of patterns, as for :func:`hopfield_weights`.
    n_sweeps : int
        Sweeps of recall at most.
    dynamics : {"sequential", "parallel"}
        One feature after another, or all at once.
    threshold : float, (N,) array or "median"
        What :func:`binarize` compares data with. The medians are those of the data fitted.
    self_coupling : bool
        Keep the diagonal of the couplings. It shifts energies and does nothing else.

    Attributes
    ----------
    patterns_ : (K, N) int8 array
    couplings_ : (N, N) array
    threshold_ : float or (N,) array
    n_features_in_ : int
    feature_names_in_ : array
        Where X had names.

    Warns
    -----
    ConvergenceWarning
        If states were still changing after `n_sweeps`, or alternate between two.

    References
    ----------
    J. J. Hopfield, *Neural networks and physical systems with emergent collective computational abilities*, PNAS 79,
    1982. For the other rules see :func:`hopfield_weights`.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import HopfieldNetwork, make_archetypes
    >>> xi = make_archetypes(5, 100, rng=0)
    >>> network = HopfieldNetwork().fit(xi)
    >>> damaged = np.where(np.arange(100) < 20, -xi, xi)
    >>> bool(np.all(network.recall(damaged) == xi))
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "rule": [StrOptions({"hebb", "pinv", "storkey"})],
        "n_sweeps": [Interval(Integral, 0, None, closed="left")],
        "dynamics": [StrOptions({"sequential", "parallel"})],
        "threshold": [Real, StrOptions({"median"}), "array-like"],
        "self_coupling": ["boolean"],
    }

    def __init__(
        self,
        rule: str = "hebb",
        *,
        n_sweeps: int = 20,
        dynamics: str = "sequential",
        threshold: Any = 0.0,
        self_coupling: bool = False,
    ) -> None:
        self.rule = rule
        self.n_sweeps = n_sweeps
        self.dynamics = dynamics
        self.threshold = threshold
        self.self_coupling = self_coupling

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Make couplings of patterns.

        Parameters
        ----------
        X : (K, N) array_like
            Above the threshold is +1, the rest -1.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            X = validate_data(self, X, dtype="numeric")
            self.threshold_ = _limit(X, self.threshold)
            self.patterns_ = self._signs(X)
            self.couplings_ = hopfield_weights(
                self.patterns_,
                rule=self.rule,  # type: ignore[arg-type]
                self_coupling=bool(self.self_coupling),
            )
        return self

    def energy(self, X: Any) -> Array:
        r"""Energies :math:`-\tfrac12 \sigma^T J \sigma` of the signs of data.

        Parameters
        ----------
        X : (n, N) array_like

        Returns
        -------
        (n,) float64 array
        """
        check_is_fitted(self)
        states = self._signs(self._checked_queries(X))
        return PairwiseModel(self.couplings_, np.zeros(len(self.couplings_))).energies(states)

    def _settled(self, states: Array, clamp: Array | None) -> tuple[Array, Array | None]:
        found = recall_pairwise(
            states,
            self.couplings_,
            n_sweeps=self.n_sweeps,
            dynamics=self.dynamics,  # type: ignore[arg-type]
            clamp=clamp,
        )
        return found.states, None


class _OfVectors(BaseEstimator):
    """What modern networks share: the stored vectors, and the inverse temperature that goes with them."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "beta": [StrOptions({"scale", "margin"}), Interval(Real, 0, None, closed="right")],
        "separation": [StrOptions({"softmax", "sparsemax", "entmax15", "topk"})],
        "similarity": [StrOptions({"dot", "cosine", "euclidean"})],
        "top_k": [Interval(Integral, 1, None, closed="left"), None],
    }

    beta: Any
    separation: str
    similarity: str
    top_k: int | None
    # of what is learned
    patterns_: Array
    beta_: float

    def _store(self, X: Array) -> None:
        if self.separation == "topk" and self.top_k is None:
            raise ValueError("top_k must be given with separation 'topk'; got None")
        if self.top_k is not None and self.top_k > len(X):
            raise ValueError(f"top_k must be at most the number of patterns, {len(X)}; got {self.top_k}")
        self.patterns_ = np.ascontiguousarray(X)
        self.beta_ = self._inverse_temperature(X)

    def _inverse_temperature(self, X: Array) -> float:
        if not isinstance(self.beta, str):
            return float(self.beta)
        if self.beta == "scale" or len(X) == 1:
            return 1 / float(np.sqrt(X.shape[1]))
        if self.similarity == "euclidean":
            raise ValueError("beta='margin' is for similarity 'dot' or 'cosine'; got 'euclidean'")
        X = X.astype(np.float64)
        if self.similarity == "cosine":
            X = normalize(X / np.maximum(np.abs(X).max(axis=1, keepdims=True), TINY))
        largest = np.linalg.norm(X, axis=1).max()
        return separating_beta(float(np.median(separation_margin(X))), len(X), float(largest))

    def _retrieved(self, X: Any, values: Array | None = None, **options: Any) -> RetrievalResult:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        return retrieve(
            X,
            self.patterns_.astype(X.dtype, copy=False),
            values=None if values is None else values.astype(X.dtype, copy=False),
            beta=self.beta_,
            separation=self.separation,  # type: ignore[arg-type]
            similarity=self.similarity,  # type: ignore[arg-type]
            top_k=self.top_k,
            **options,
        )


def separating_beta(margin: float, count: int, largest: float) -> float:
    """The inverse temperature from which on a pattern of this margin is well separated from `count` - 1 others.

    With ``t = beta margin`` that is ``t - log t >= 2 / K + log(2 (K - 1) K M^2 / margin)``. Near t = 0 it holds too,
    and says nothing there; meant is the larger solution.
    """
    if not margin > 0:
        raise ValueError(f"beta='margin' needs patterns whose median separation margin is positive; got {margin:.3g}")
    needed = 2 / count + np.log(2.0 * (count - 1) * count) + 2 * np.log(largest) - np.log(margin)
    # log t <= t / 2, so that the solution is at most twice what is needed
    return float(brentq(lambda t: t - np.log(t) - needed, 1.0, 2 * needed)) / margin


class ModernHopfield(OneToOneFeatureMixin, TransformerMixin, _OfVectors):
    r"""A continuous Hopfield network: retrieves the stored vector that is nearest, or a mean of similar ones.

    .. math:: \xi \leftarrow X^\top \operatorname{softmax}(\beta X \xi)

    Parameters
    ----------
    beta : float, "scale" or "margin"
        Inverse temperature. "scale" is :math:`1 / \sqrt d`, as in attention; "margin" the least that separates the
        pattern of median margin from the others: see Notes.
    n_steps : int
        Updates at most.
    tol : float
        A query rests once an update moves it by at most this.
    separation, similarity, top_k
        As for :func:`retrieve`.

    Attributes
    ----------
    patterns_ : (K, d) array
    beta_ : float
    n_features_in_ : int
    feature_names_in_ : array
        Where X had names.

    Warns
    -----
    ConvergenceWarning
        If `n_steps` is above 1 and queries still moved at the last.

    Notes
    -----
    Pattern i is well separated if its margin :math:`\Delta_i` (:func:`separation_margin`) satisfies
    :math:`\beta \Delta_i \ge 2 / K + \log(2 (K - 1) K \beta M^2)`, with M the largest norm; with "cosine", of
    normalised patterns. "margin" is the :math:`\beta` from which on the median margin does.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021, eq. 3 and theorem 4.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import ModernHopfield
    >>> X = np.random.default_rng(0).normal(size=(100, 50))
    >>> memory = ModernHopfield(beta="margin").fit(X)
    >>> found = memory.retrieve(X * (np.arange(50) < 30))
    >>> float(np.mean(found.top_index == np.arange(100)))
    1.0
    >>> bool(np.median(np.linalg.norm(found.states - X, axis=1)) < 0.1)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_OfVectors._parameter_constraints,
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        beta: Any = "scale",
        *,
        n_steps: int = 1,
        tol: float = 1e-6,
        separation: str = "softmax",
        similarity: str = "dot",
        top_k: int | None = None,
    ) -> None:
        self.beta = beta
        self.n_steps = n_steps
        self.tol = tol
        self.separation = separation
        self.similarity = similarity
        self.top_k = top_k

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Store the rows of X.

        Parameters
        ----------
        X : (K, d) array_like
        y : None
            Ignored.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            self._store(validate_data(self, X, dtype=FLOATS))
        return self

    def retrieve(self, X: Any) -> RetrievalResult:
        """What is retrieved for queries, with the entropy of the weights, the top pattern and more.

        Parameters
        ----------
        X : (n, d) array_like

        Returns
        -------
        RetrievalResult
        """
        return self._retrieved(X, n_steps=self.n_steps, tol=self.tol)

    def transform(self, X: Any) -> Array:
        """The states that are retrieved for queries.

        Parameters
        ----------
        X : (n, d) array_like

        Returns
        -------
        (n, d) array
        """
        return self.retrieve(X).states

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class ModernHopfieldClassifier(ClassifierMixin, _OfVectors):
    """Classify by the weights that a modern Hopfield network gives to labelled vectors.

    The probability of a class is the sum of its vectors' weights.

    Parameters
    ----------
    beta : float, "scale" or "margin"
        Inverse temperature, as for :class:`ModernHopfield`. Cosines lie between -1 and 1, and "scale" hardly tells them
        apart: values from 10 to several hundred are usual. inf takes the nearest vector.
    separation, similarity, top_k
        As for :func:`retrieve`. With `top_k` a classifier by the nearest neighbours, which weigh the more the nearer.

    Attributes
    ----------
    patterns_ : (K, d) array
    classes_ : array
    beta_ : float
    n_features_in_ : int
    feature_names_in_ : array
        Where X had names.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from numcore.algorithms.hebbian import ModernHopfieldClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16 - 0.5
    >>> round(ModernHopfieldClassifier(200).fit(X[:1200], y[:1200]).score(X[1200:], y[1200:]), 3)
    0.965
    """

    def __init__(
        self, beta: Any = "scale", *, separation: str = "softmax", similarity: str = "cosine", top_k: int | None = None
    ) -> None:
        self.beta = beta
        self.separation = separation
        self.similarity = similarity
        self.top_k = top_k

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Store labelled vectors.

        Parameters
        ----------
        X : (K, d) array_like
        y : (K,) array_like

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            X, y = validate_data(self, X, y, dtype=FLOATS)
            check_classification_targets(y)
            self._store(X)
            self.classes_, self._classes = np.unique(y, return_inverse=True)
        return self

    def predict_proba(self, X: Any) -> Array:
        """The weight of each class.

        Parameters
        ----------
        X : (n, d) array_like

        Returns
        -------
        (n, n_classes) array
            Rows sum to 1.
        """
        check_is_fitted(self)
        return self._retrieved(X, self._classes[:, None] == np.arange(len(self.classes_))).states

    def predict(self, X: Any) -> Array:
        """The class with the largest weight.

        Parameters
        ----------
        X : (n, d) array_like

        Returns
        -------
        (n,) array
        """
        weights = self.predict_proba(X)
        return self.classes_[weights.argmax(axis=1)]


class ModernHopfieldRegressor(MultiOutputMixin, RegressorMixin, _OfVectors):
    """Predict the mean of the values that belong to stored vectors, under a modern Hopfield network's weights.

    With "euclidean" this is the estimator of Nadaraya and Watson with a Gaussian kernel of variance ``1 / beta``.

    Parameters
    ----------
    beta : float, "scale" or "margin"
        Inverse temperature, as for :class:`ModernHopfieldClassifier`.
    separation, similarity, top_k
        As for :func:`retrieve`.

    Attributes
    ----------
    patterns_ : (K, d) array
    values_ : (K,) or (K, k) array
    beta_ : float
    n_features_in_ : int
    feature_names_in_ : array
        Where X had names.

    References
    ----------
    H. Ramsauer et al., *Hopfield Networks is All You Need*, ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import ModernHopfieldRegressor
    >>> X = np.linspace(0, 1, 101)[:, None]
    >>> model = ModernHopfieldRegressor(1000.0, similarity="euclidean").fit(X, np.sin(6 * X[:, 0]))
    >>> bool(abs(model.predict([[0.505]])[0] - np.sin(6 * 0.505)) < 0.01)
    True
    """

    def __init__(
        self, beta: Any = "scale", *, separation: str = "softmax", similarity: str = "cosine", top_k: int | None = None
    ) -> None:
        self.beta = beta
        self.separation = separation
        self.similarity = similarity
        self.top_k = top_k

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Store vectors with their values.

        Parameters
        ----------
        X : (K, d) array_like
        y : (K,) or (K, k) array_like

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            X, y = validate_data(self, X, y, dtype=FLOATS, y_numeric=True, multi_output=True)
            self._store(X)
            self.values_ = y.astype(X.dtype)
        return self

    def predict(self, X: Any) -> Array:
        """The mean value under the weights.

        Parameters
        ----------
        X : (n, d) array_like

        Returns
        -------
        (n,) or (n, k) array
        """
        check_is_fitted(self)
        return self._retrieved(X, self.values_).states

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # as it comes: with "scale" all cosines weigh about the same
        return tags
