"""Pairwise couplings: the classical Hopfield network and its learning rules, and sampling of any Ising model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from numcore.algorithms.hebbian._chains import initial_states
from numcore.algorithms.hebbian._checks import Array, as_betas, as_patterns, as_spins
from numcore.algorithms.hebbian._engines import Engine, ParallelEngine, pairwise_engine
from numcore.algorithms.hebbian._model import field_vector
from numcore.algorithms.hebbian.recall import RecallResult, descend, finished
from numcore.algorithms.hebbian.sampling import Plan, SampleResult
from numcore.arrays import as_choice, as_floating, as_rng
from numcore.results import Callback

__all__ = ["hopfield_weights", "recall_pairwise", "sample_pairwise"]

SYMMETRY = 1e-8
"""How far couplings may be from symmetric, of the largest."""


def sample_pairwise(
    couplings: ArrayLike,
    *,
    beta: Any,
    field: ArrayLike | None = None,
    init: ArrayLike | None = None,
    n_replicas: int = 1,
    n_sweeps: int = 100,
    n_burn: int = 0,
    dynamics: Literal["sequential", "parallel"] = "sequential",
    rule: Literal["glauber", "metropolis"] = "glauber",
    visit: Literal["ordered", "permuted", "random"] = "ordered",
    clamp: ArrayLike | None = None,
    record_every: int = 1,
    probes: ArrayLike | None = None,
    rng: Any = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> SampleResult:
    r"""Sample an Ising model, :math:`E(\sigma) = -\tfrac12 \sigma^T J \sigma - b^T \sigma`.

    An attempt costs a look at the local field, and only a flip costs N terms.

    Parameters
    ----------
    couplings : (N, N) array
        J, symmetric. A diagonal shifts the energy and does nothing else.
    beta, field, init, n_replicas, n_sweeps, n_burn, dynamics, rule, visit, clamp, record_every, rng, callback, verbose
        As for :func:`sample`; there are no patterns to begin from, and no mean fields.
    probes : (Q, N) or (N,) array, optional
        Vectors whose overlaps are recorded; default none.

    Returns
    -------
    SampleResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or J differs from its transpose by more than 1e-8 of its largest entry.

    Warns
    -----
    ConvergenceWarning
        If a chain at beta inf did not come to rest, or the run was interrupted.

    References
    ----------
    R. J. Glauber, *Time-dependent statistics of the Ising model*, J. Math. Phys. 4, 1963; for parallel dynamics P.
    Peretto, *Collective properties of neural networks: a statistical physics approach*, Biol. Cybern. 50, 1984.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import sample_pairwise
    >>> result = sample_pairwise([[0.0, 1.0], [1.0, 0.0]], beta=1.0, n_sweeps=20_000, rng=0)
    >>> bool(abs(result.energies.mean() + np.tanh(1.0)) < 0.02)  # <E> of two spins
    True
    """
    J = as_couplings(couplings)
    b = field_vector(field, len(J))
    betas = as_betas(beta)
    as_choice(dynamics, "dynamics", ("sequential", "parallel"))
    plan = Plan(betas, init, n_replicas, n_sweeps, n_burn, rule, visit, clamp, record_every, len(J))
    vectors = None if probes is None else as_patterns(probes, "probes", len(J))[0]
    rng = as_rng(rng)
    spins = initial_states(init, None, (plan.count, len(J)), rng)
    engine = _engine(J, b, dynamics, cold=bool(np.any(np.isinf(betas))))
    return plan.run(engine, spins, vectors, rng, "sample_pairwise", callback, verbose)


def recall_pairwise(
    states: ArrayLike,
    couplings: ArrayLike,
    *,
    field: ArrayLike | None = None,
    n_sweeps: int = 20,
    dynamics: Literal["sequential", "parallel"] = "sequential",
    clamp: ArrayLike | None = None,
) -> RecallResult:
    r"""Let states fall to where every sign is that of its field.

    .. math:: \sigma_i \leftarrow \mathrm{sign} \Bigl( \sum_{j \ne i} J_{ij} \sigma_j + b_i \Bigr)

    Parameters
    ----------
    states : (n, N) or (N,) array
        Entries -1 and +1.
    couplings, field
        As for :func:`sample_pairwise`.
    n_sweeps, dynamics, clamp
        As for :func:`recall`. A field of 0 keeps the sign.

    Returns
    -------
    RecallResult
        Its `overlaps` are None.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    ConvergenceWarning
        If states were still changing after `n_sweeps` (above 0), or alternate between two.

    References
    ----------
    J. J. Hopfield, *Neural networks and physical systems with emergent collective computational abilities*, PNAS
    79, 1982.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import hopfield_weights, make_archetypes, recall_pairwise
    >>> xi = make_archetypes(5, 100, rng=0)
    >>> damaged = xi.copy()
    >>> damaged[:, :10] *= -1
    >>> result = recall_pairwise(damaged, hopfield_weights(xi))
    >>> bool((result.states == xi).all())
    True
    """
    J = as_couplings(couplings)
    b = field_vector(field, len(J))
    s, flat = as_spins(states, "states", len(J))
    as_choice(dynamics, "dynamics", ("sequential", "parallel"))
    found = descend(_engine(J, b, dynamics, cold=True), s, n_sweeps, clamp, len(J), "recall_pairwise")
    return finished(found, PairwiseModel(J, b).energies(found.states), None, flat)


def hopfield_weights(
    patterns: ArrayLike, *, rule: Literal["hebb", "pinv", "storkey"] = "hebb", self_coupling: bool = False
) -> Array:
    r"""Couplings that store patterns.

    Parameters
    ----------
    patterns : (K, N) or (N,) array
        Signs or any numbers.
    rule : {"hebb", "pinv", "storkey"}
        :math:`J = \Xi^T \Xi / N`; the projector :math:`\Xi^+ \Xi`, under which all independent patterns are fixed; or
        one pass of Storkey's rule,
        :math:`J_{ij} \leftarrow J_{ij} + (\xi_i \xi_j - \xi_i h_{ji} - h_{ij} \xi_j) / N` with
        :math:`h_{ij} = \sum_{k \ne i, j} J_{ik} \xi_k`.
    self_coupling : bool
        Keep the diagonal; else it is cleared at the end.

    Returns
    -------
    (N, N) float64 array
        Symmetric.

    Raises
    ------
    TypeError, ValueError
        If `patterns` are empty, not finite or not real, or the rule is unknown.

    References
    ----------
    J. J. Hopfield, PNAS 79, 1982; L. Personnaz, I. Guyon, G. Dreyfus, *Information storage and retrieval in spin-glass
    like neural networks*, J. Physique Lett. 46, 1985; A. Storkey, *Increasing the capacity of a Hopfield network
    without sacrificing functionality*, ICANN 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.hebbian import hopfield_weights
    >>> xi = np.array([[1, 1, -1, 1], [1, -1, 1, 1]])
    >>> J = hopfield_weights(xi, rule="pinv", self_coupling=True)
    >>> bool(np.allclose(J @ xi.T, xi.T))
    True
    """
    as_choice(rule, "rule", ("hebb", "pinv", "storkey"))
    if not isinstance(self_coupling, (bool, np.bool_)):
        raise TypeError(f"self_coupling must be a bool; got {self_coupling!r}")
    xi = as_patterns(patterns)[0].astype(np.float64)
    J: Array = {"hebb": _hebb, "pinv": _projector, "storkey": _storkey}[rule](xi)
    J = (J + J.T) / 2  # symmetric but for rounding
    if not self_coupling:
        np.fill_diagonal(J, 0.0)
    return J


def _hebb(xi: Array) -> Array:
    return xi.T @ xi / xi.shape[1]


def _projector(xi: Array) -> Array:
    """The projector on the span of the patterns, found from singular vectors."""
    _, sizes, rows = scipy.linalg.svd(xi, full_matrices=False)
    rows = rows[sizes > xi.shape[1] * np.finfo(np.float64).eps * sizes[0]]
    return rows.T @ rows


def _storkey(xi: Array) -> Array:
    N = xi.shape[1]
    J = np.zeros((N, N))
    for x in xi:
        diagonal = np.diagonal(J) * x
        H = (J @ x - diagonal)[:, None] - J * x
        H[np.diag_indices(N)] += diagonal  # J_ii x_i was taken off twice
        cross = H * x
        J = J + (np.outer(x, x) - cross - cross.T) / N
    return J


def as_couplings(couplings: ArrayLike) -> Array:
    """A symmetric float64 matrix."""
    J: Array = as_floating(couplings, "couplings", ndim=2, dtype=np.float64)
    if J.shape[0] != J.shape[1] or not J.size:
        raise ValueError(f"couplings must be a square matrix; got shape {J.shape}")
    gap, largest = float(np.abs(J - J.T).max()), float(np.abs(J).max())
    if gap > SYMMETRY * largest:
        raise ValueError(f"couplings must be symmetric; entries differ from their transposes by up to {gap:.3g}")
    return J if gap == 0 else J / 2 + J.T / 2


def _engine(J: Array, b: Array, dynamics: str, cold: bool) -> Engine:
    return ParallelEngine(PairwiseModel(J, b)) if dynamics == "parallel" else pairwise_engine(J, b, cold)


@dataclass(frozen=True, eq=False)
class PairwiseModel:
    """Energies and fields of couplings."""

    J: Array
    field: Array

    @property
    def work(self) -> int:
        """Terms that an attempt costs."""
        return len(self.J)

    def energies(self, states: Array) -> Array:
        """E of each state, the diagonal of J included."""
        s = states.astype(np.float64)
        return -np.einsum("ni,ni->n", s @ self.J, s) / 2 - s @ self.field

    def fields(self, states: Array, dtype: Any = np.float64) -> tuple[Array, Array]:
        """Fields without the diagonal of J, and the size of the sums that they come from."""
        diagonal = np.diagonal(self.J)
        h = states.astype(np.float64) @ self.J - states * diagonal + self.field
        size = float((np.abs(self.J).sum(axis=1) + np.abs(self.field)).max())
        return h, np.full(len(states), size)
