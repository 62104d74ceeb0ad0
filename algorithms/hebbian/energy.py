"""Energies, local fields and overlaps of states of a dense Hebbian memory."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._checks import Array, as_patterns, as_rows, as_spins
from numcore.algorithms.hebbian._model import make_model
from numcore.arrays import as_floating

__all__ = ["energy", "local_fields", "overlaps"]

Interaction = Literal["distinct", "full", "rectified", "exp"]


def energy(
    states: ArrayLike,
    patterns: ArrayLike,
    *,
    order: int = 3,
    interaction: Interaction = "distinct",
    weights: ArrayLike | None = None,
    field: ArrayLike | None = None,
) -> Any:
    r"""Energy of states of signs.

    .. math:: E(\sigma) = -\frac N2 \sum_\mu w_\mu G_P(p^\mu \circ \sigma) - \sum_i b_i \sigma_i

    ================  ==========================================================================
    `interaction`     :math:`G_P(v)`
    ================  ==========================================================================
    "distinct"        :math:`\frac{P!}{N^P} \sum_{i_1 < \ldots < i_P} v_{i_1} \cdots v_{i_P}`
    "full"            :math:`(\sum_i v_i / N)^P`, which keeps repeated indices
    "rectified"       :math:`\max(\sum_i v_i / N, 0)^P`
    "exp"             :math:`\frac 2N \exp(\sum_i v_i - N)`, whatever the order
    ================  ==========================================================================

    With patterns of signs and order 2 this is the classical network, which orders at temperature 1.

    Parameters
    ----------
    states : (n, N) or (N,) array
        Entries -1 and +1.
    patterns : (K, N) or (N,) array
        Signs or any numbers.
    order : int
        P, at least 2.
    interaction : {"distinct", "full", "rectified", "exp"}
        "distinct" and "full" are different models at high load: at order 3 and temperature 0 they hold 0.126 and 0.084
        :math:`N^2` patterns.
    weights : (K,) array, optional
        None negative; default ones.
    field : (N,) array, optional
        b; default zeros.

    Returns
    -------
    (n,) float64 array, or float for one state

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, is empty or not finite, states hold other entries, or `order` exceeds N with
        "distinct".

    References
    ----------
    E. Agliari et al., *Dense Hebbian neural networks: a replica symmetric picture of supervised learning*, Physica A
    626, 2023 ("distinct"); D. Krotov, J. J. Hopfield, *Dense associative memory for pattern recognition*, NeurIPS 2016
    ("rectified"); M. Demircigil et al., *On a model of associative memory with huge storage capacity*, J. Stat. Phys.
    168, 2017 ("exp").

    Examples
    --------
    >>> from numcore.algorithms.hebbian import energy
    >>> energy([1, 1, -1, 1], [1, 1, 1, 1], order=2)  # -(4 / 2) (2 / 16) e_2, and e_2 = (2^2 - 4) / 2
    0.0
    >>> energy([1, 1, 1, 1], [1, 1, 1, 1], order=2, interaction="full")
    -2.0
    """
    model = make_model(patterns, order=order, interaction=interaction, weights=weights, field=field)
    s, flat = as_spins(states, "states", model.n_features)
    found = model.energies(s) + 0.0  # no -0.0
    return float(found[0]) if flat else found


def local_fields(
    states: ArrayLike,
    patterns: ArrayLike,
    *,
    order: int = 3,
    interaction: Interaction = "distinct",
    weights: ArrayLike | None = None,
    field: ArrayLike | None = None,
) -> Array:
    r"""Half of what flipping a site costs, times its sign: :math:`h_i = \sigma_i (E(\sigma^{(i)}) - E(\sigma)) / 2`.

    For every interaction a flip costs exactly :math:`2 \sigma_i h_i`. With "distinct" the field does not depend on
    :math:`\sigma_i`, and is the derivative of the energy.

    Parameters
    ----------
    states, patterns, order, interaction, weights, field
        As for :func:`energy`, with the same errors.

    Returns
    -------
    (n, N) or (N,) float64 array

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import energy, local_fields
    >>> p, s = np.array([[1, 1, -1, 1, -1]]), np.array([1, -1, -1, 1, -1])
    >>> h = local_fields(s, p)
    >>> flipped = s * [1, -1, 1, 1, 1]
    >>> bool(np.isclose(energy(flipped, p) - energy(s, p), 2 * s[1] * h[1]))
    True
    """
    model = make_model(patterns, order=order, interaction=interaction, weights=weights, field=field)
    s, flat = as_spins(states, "states", model.n_features)
    h = model.fields(s)[0]
    if interaction == "exp":  # there fields without b come divided by this
        top = np.max([(s @ p.astype(np.float64).T).max(axis=1) for _, p in model.blocks(np.float64)], axis=0)
        h = (h - model.field) * np.exp(top - model.n_features)[:, None] + model.field
    return h[0] if flat else h


def overlaps(states: ArrayLike, patterns: ArrayLike) -> Any:
    """Overlaps ``states @ patterns.T / N``: with patterns of signs, Mattis magnetizations.

    Parameters
    ----------
    states : (n, N) or (N,) array
        Any real entries.
    patterns : (K, N) or (N,) array

    Returns
    -------
    (n, K) float64 array
        Without the axis of an argument that is a single row.

    Raises
    ------
    TypeError, ValueError
        If an argument is empty, not finite or not real, or the numbers of features differ.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import overlaps
    >>> overlaps([[1, 1, 1, -1]], [[1, 1, 1, 1], [1, -1, 1, -1]])
    array([[0.5, 0.5]])
    """
    p, one_pattern = as_patterns(patterns)
    s = as_floating(as_rows(states, "states", p.shape[1]), "states", dtype=np.float64)
    found = overlap_matrix(s, p)
    if one_pattern:
        found = found[:, 0]
    if np.ndim(states) == 1:
        return float(found[0]) if one_pattern else found[0]
    return found


def overlap_matrix(states: Array, patterns: Array) -> Array:
    """``states @ patterns.T / N``, a few patterns at a time."""
    n, N = states.shape
    step = max(1, 2**21 // N)
    found = np.empty((n, len(patterns)))
    s = states.astype(np.float64, copy=False)
    for k in range(0, len(patterns), step):
        found[:, k : k + step] = s @ patterns[k : k + step].astype(np.float64).T
    return found / N
