"""Archetypes, noisy examples of them, and the patterns that Hebb's rule makes of examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._checks import Array, as_order, as_spins
from numcore.arrays import as_choice, as_count, as_floating, as_number, as_rng
from numcore.results import Result

__all__ = ["HebbianPatterns", "binarize", "dataset_entropy", "hebbian_patterns", "make_archetypes", "make_examples"]


def make_archetypes(n_patterns: int, n_features: int, *, rng: Any = None) -> Array:
    """Independent fair signs: the archetypes of the theory.

    Parameters
    ----------
    n_patterns, n_features : int
        K and N.
    rng : None, int, SeedSequence, Generator, ...
        Randomness, as :func:`numpy.random.default_rng` takes it.

    Returns
    -------
    (K, N) int8 array
        Entries -1 and +1.

    Raises
    ------
    TypeError, ValueError
        If a number is no positive integer.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import make_archetypes
    >>> make_archetypes(2, 5, rng=0).shape
    (2, 5)
    """
    shape = as_count(n_patterns, "n_patterns"), as_count(n_features, "n_features")
    return 2 * as_rng(rng).integers(0, 2, size=shape, dtype=np.int8) - np.int8(1)


def make_examples(archetypes: ArrayLike, n_examples: int, *, quality: float, rng: Any = None) -> Array:
    """Noisy copies: every entry keeps the sign of its archetype with probability ``(1 + quality) / 2``.

    Parameters
    ----------
    archetypes : (K, N) or (N,) array
        Entries -1 and +1.
    n_examples : int
        M, examples of each archetype.
    quality : float
        r in [0, 1]: the mean overlap of an example with its archetype.
    rng : None, int, SeedSequence, Generator, ...
        Randomness.

    Returns
    -------
    (K, M, N) or (M, N) int8 array

    Raises
    ------
    ValueError
        If an archetype has other entries, `n_examples` is below 1, or `quality` lies outside [0, 1].

    References
    ----------
    E. Agliari et al., *Dense Hebbian neural networks: a replica symmetric picture of supervised learning*, Physica A
    626, 2023, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import make_archetypes, make_examples
    >>> xi = make_archetypes(3, 1000, rng=0)
    >>> examples = make_examples(xi, 10, quality=0.4, rng=1)
    >>> examples.shape
    (3, 10, 1000)
    >>> round(float(np.mean(examples * xi[:, None])), 1)
    0.4
    """
    xi, flat = as_spins(archetypes, "archetypes")
    M = as_count(n_examples, "n_examples")
    quality = as_number(quality, "quality", above=0, below=1, closed=True)
    rng = as_rng(rng)
    examples = np.empty((len(xi), M, xi.shape[1]), np.int8)
    for mu, archetype in enumerate(xi):
        flipped = rng.random((M, xi.shape[1])) < (1 - quality) / 2
        examples[mu] = np.where(flipped, -archetype, archetype)
    return examples[0] if flat else examples


def binarize(X: ArrayLike, *, threshold: Any = 0.0) -> Array:
    """Signs of data: +1 above the threshold, -1 at it and below.

    Parameters
    ----------
    X : (..., N) array
        Real data.
    threshold : float, (N,) array or "median"
        One for all, one a feature, or each feature's median over the rows of X.

    Returns
    -------
    (..., N) int8 array

    Raises
    ------
    ValueError
        If `X` is empty or not finite, or `threshold` has another shape.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import binarize
    >>> binarize([[0.0, 3.0], [2.0, 1.0]], threshold=1.0)
    array([[-1,  1],
           [ 1, -1]], dtype=int8)
    """
    data: Array = as_floating(X, "X")
    if data.ndim == 0 or not data.size:
        raise ValueError(f"X must hold at least one row of features; got shape {data.shape}")
    return np.where(data > thresholds(data, threshold), np.int8(1), np.int8(-1))


def thresholds(X: Array, threshold: Any) -> Array:
    """The number, or the number a feature, that :func:`binarize` compares `X` with."""
    if isinstance(threshold, str):
        as_choice(threshold, "threshold", ("median",))
        limit: Array = np.median(X.reshape(-1, X.shape[-1]), axis=0) if X.ndim > 1 else np.median(X)
        return np.asarray(limit)
    limit = as_floating(threshold, "threshold", ndim=(0, 1))
    if limit.ndim and limit.shape != X.shape[-1:]:
        raise ValueError(f"threshold must be a number, 'median' or of shape {X.shape[-1:]}; got shape {limit.shape}")
    return limit


def dataset_entropy(quality: float, n_examples: int, *, order: int = 1) -> float:
    r"""How far the examples leave the archetypes unknown.

    .. math:: \rho = \frac{1 - r^2}{M r^2}, \qquad \rho_P = \frac{1 - r^{2P}}{M r^{2P}}

    Parameters
    ----------
    quality : float
        r in [0, 1].
    n_examples : int
        M.
    order : int
        P; 1 gives the plain entropy.

    Returns
    -------
    float
        inf where the quality is 0.

    Raises
    ------
    ValueError
        If `quality` lies outside [0, 1], or a number is below 1.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import dataset_entropy
    >>> round(dataset_entropy(0.5, 20), 4)
    0.15
    """
    r = as_number(quality, "quality", above=0, below=1, closed=True)
    M, P = as_count(n_examples, "n_examples"), as_count(order, "order")
    kept = r ** (2 * P)
    return (1 - kept) / (M * kept) if kept > 0 else float("inf")


@dataclass(frozen=True, repr=False, eq=False)
class HebbianPatterns(Result):
    """What :func:`hebbian_patterns` returns.

    Attributes
    ----------
    patterns : (K', N) array
        The stored vectors: float64 class means divided by the root of R (supervised), or the examples as int8
        (unsupervised).
    weights : (K',) float64 array
        The factor of each in the energy.
    labels : (K',) array or None
        The class of each; None where none were given.
    R : float
        Mean square of the entries of a class mean, ``r^2 + (1 - r^2) / M``.
    quality_hat : float
        The quality that R stands for; nan if every class has one example. Entries of real images are not exchangeable,
        which shifts it either way.
    """

    patterns: Array
    weights: Array
    labels: Array | None
    R: float
    quality_hat: float


def hebbian_patterns(
    examples: ArrayLike,
    y: ArrayLike | None = None,
    *,
    learning: Literal["supervised", "unsupervised"] = "supervised",
    order: int = 3,
    normalize: Any = "empirical",
) -> HebbianPatterns:
    r"""The vectors and weights that Hebb's rule stores, given examples with a teacher or without.

    .. math::
        p^\mu = \frac{1}{M_\mu \sqrt R} \sum_a \eta^{\mu a}, \quad w = 1
        \qquad\text{or}\qquad p^{\mu a} = \eta^{\mu a}, \quad w = \frac{1}{M_\mu R^{P/2}}

    Parameters
    ----------
    examples : (K, M, N) or (n, N) array
        Entries -1 and +1; the classes along the first axis, or rows whose classes `y` tells.
    y : (n,) array, optional
        Labels of the rows. Needed for supervised learning from rows.
    learning : {"supervised", "unsupervised"}
        Whether a class is stored as its mean, or as its examples one by one.
    order : int
        P, the order of the interaction that the weights are for.
    normalize : "empirical", None or float
        R: the mean square of the class means' entries, 1, or a number.

    Returns
    -------
    HebbianPatterns
        Patterns in the order of the sorted labels (supervised) or of the examples.

    Raises
    ------
    ValueError
        If entries differ from -1 and +1, labels are missing or of another length, or an option is unknown.

    References
    ----------
    E. Agliari et al., *Dense Hebbian neural networks: a replica symmetric picture of supervised learning*, Physica A
    626, 2023, and *... of unsupervised learning*, Physica A 627, 2023.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import hebbian_patterns, make_archetypes, make_examples
    >>> xi = make_archetypes(5, 400, rng=0)
    >>> stored = hebbian_patterns(make_examples(xi, 10, quality=0.4, rng=1))
    >>> stored.patterns.shape, round(stored.quality_hat, 1)
    ((5, 400), 0.4)
    """
    as_choice(learning, "learning", ("supervised", "unsupervised"))
    P = as_order(order)
    rows, classes, labels = _labelled(examples, y)
    if learning == "supervised" and labels is None:
        raise ValueError("y must give the labels of the rows for supervised learning; got None")
    counts = np.bincount(classes)
    means = np.stack([rows[classes == c].mean(axis=0, dtype=np.float64) for c in range(len(counts))])
    members = (rows, classes) if learning == "unsupervised" else None
    return stored(means, counts, labels, P, normalize, members)


def stored(
    means: Array, counts: Array, labels: Array | None, order: int, normalize: Any, members: tuple[Array, Array] | None
) -> HebbianPatterns:
    """What is stored of classes with these means and sizes: the means, or the members, which are rows and classes."""
    R = _normalisation(means, normalize)
    alone = float(np.mean(1 / counts))  # what r = 0 would leave of R
    quality = float(np.sqrt(max(0.0, (R - alone) / (1 - alone)))) if alone < 1 else float("nan")
    if members is None:
        patterns: Array = means / np.sqrt(R) if R > 0 else means  # means that are all 0 stay so
        return HebbianPatterns(patterns, np.ones(len(means)), labels, R, quality)
    rows, classes = members
    weights = 1.0 / counts[classes]
    if R > 0:
        weights = weights / R ** (order / 2)
    return HebbianPatterns(rows, weights, None if labels is None else labels[classes], R, quality)


def _labelled(examples: ArrayLike, y: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    """Rows (n, N), the number of each row's class, and the sorted labels (None where unknown: one class)."""
    shape = np.shape(examples)
    if len(shape) not in (2, 3):
        raise ValueError(f"examples must have shape (K, M, N) or (n, N); got {shape}")
    if len(shape) == 3:
        if y is not None:
            raise ValueError("y must be None where examples are grouped as (K, M, N)")
        rows, _ = as_spins(np.reshape(examples, (-1, shape[-1])), "examples")
        return rows, np.repeat(np.arange(shape[0]), shape[1]), np.arange(shape[0])
    rows, _ = as_spins(examples, "examples")
    if y is None:
        return rows, np.zeros(len(rows), np.int64), None
    given = np.asarray(y)
    if given.shape != (len(rows),):
        raise ValueError(f"y must have shape ({len(rows)},), a label for each row of examples; got {given.shape}")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise ValueError(
            f"y must be finite; {np.count_nonzero(~np.isfinite(given))} of its {given.size} labels are not"
        )
    labels, classes = np.unique(given, return_inverse=True)
    return rows, classes.reshape(-1), labels


def _normalisation(means: Array, normalize: Any) -> float:
    if normalize is None:
        return 1.0
    if isinstance(normalize, str):
        as_choice(normalize, "normalize", ("empirical",))
        return float(np.mean(means**2))
    return as_number(normalize, "normalize", above=0)
