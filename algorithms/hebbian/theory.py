"""What to expect of a memory of many features: the replica-symmetric equations, and where retrieval and glass end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numcore.algorithms.hebbian._checks import as_order
from numcore.algorithms.hebbian._glass import transitions
from numcore.algorithms.hebbian._replica import Replica, as_beta, as_load, make_replica
from numcore.algorithms.hebbian._spinodal import retrieval_curve
from numcore.arrays import as_choice, as_floating, as_number
from numcore.fixed_point import fixed_point
from numcore.results import Loop, Result

__all__ = ["PhaseState", "critical_load", "glass_transition", "self_consistency"]

Array = np.ndarray[Any, Any]

STRETCH = 50
"""Steps in which the residual has to halve, and those that Anderson's method gets if it does not."""


@dataclass(frozen=True, repr=False, eq=False)
class PhaseState(Result):
    """A solution of the replica-symmetric equations.

    Attributes
    ----------
    m : float
        Overlap with the archetype.
    x : float
        Overlap with the stored pattern.
    n : float
        The same in the units of Agliari et al., ``x / sqrt(1 + rho)``.
    q : float
        Overlap of two replicas.
    pressure : float
        ``A = -beta f`` a feature; nan at ``beta=inf``.
    at_stability : float
        The de Almeida-Thouless eigenvalue: replica symmetry is stable where it is positive. nan at ``beta=inf``.
    converged : bool
        Whether the residual reached `tol`.
    n_iter : int
        Evaluations of the equations.
    history : dict of str to array
        ``residual`` and ``x``, iteration by iteration.
    """

    m: float
    x: float
    n: float
    q: float
    pressure: float
    at_stability: float
    converged: bool
    n_iter: int
    history: dict[str, Array] = field(repr=False)


def self_consistency(
    *,
    order: int,
    beta: float,
    load: float = 0.0,
    quality: float = 1.0,
    n_examples: int = 1,
    learning: str = "supervised",
    interaction: str = "distinct",
    load_unit: str = "alpha",
    averaging: str = "auto",
    init: Any = "retrieval",
    tol: float = 1e-10,
    max_iter: int = 10000,
    n_nodes: int = 101,
) -> PhaseState:
    r"""Overlaps of a dense Hebbian memory in the limit of many features.

    With ``Z`` Gaussian and ``t`` what the stored pattern holds at a spin times the archetype,

    .. math:: h = \beta \left[ \tfrac P2 x^{P-1} t + \sqrt{\xi'(q)} \, Z \right], \quad
        m = E \tanh h, \quad x = E \, t \tanh h, \quad q = E \tanh^2 h .

    xi is the noise of the other memories: ``alpha P! q^P / 4`` with distinct indices. For P = 2 its width is that of
    Amit, Gutfreund and Sompolinsky, ``sqrt(alpha q) / (1 - beta (1 - q))``.

    Parameters
    ----------
    order : int
        P, at least 2 and at most 100.
    beta : float
        Inverse temperature; ``inf`` is zero temperature, and so is all from 1e100.
    load : float, default=0
        ``alpha = K / N^(P - 1)``, with K archetypes and N features.
    quality : float in [0, 1]
        r: examples agree with their archetype in a share ``(1 + r) / 2`` of the features.
    n_examples : int
        M, for each archetype.
    learning : {"supervised", "unsupervised"}
        Whether the mean of each archetype's examples is stored, or every example.
    interaction : {"distinct", "full"}
        Without or with repeated indices.
    load_unit : {"alpha", "gamma"}
        With "gamma", `load` is ``gamma = alpha P! / 2``.
    averaging : {"auto", "exact", "gaussian"}
        Whether the mean of a spin's examples is binomial or taken as Gaussian; "auto" is exact up to 200 examples.
    init : {"retrieval", "glass", "paramagnet"} or (m, x, q)
        Where to start: ``(1, 1, 1)``, ``(0, 0, 1)`` or ``(0, 0, 0)``.
    tol : float
        For the largest change of the state in one iteration.
    max_iter : int
        Evaluations at most.
    n_nodes : int
        Of the quadrature over Z.

    Returns
    -------
    PhaseState

    Raises
    ------
    TypeError, ValueError
        For arguments out of range; and for unsupervised learning with ``order=2`` or ``interaction="full"``, of which
        there is no theory.

    Warns
    -----
    ConvergenceWarning
        If the iterations were used up.

    See Also
    --------
    critical_load : The largest load with retrieval.
    phase_diagram : Which phase there is, over a grid.

    Notes
    -----
    The equations are iterated as they stand. Where the residual does not halve in 50 iterations, as near the end of
    retrieval, Anderson's method takes over; what it finds is kept only if plain iterations would stay there, so that
    it never is the unstable solution that bounds retrieval.

    Replica symmetry is an assumption, and `at_stability` says where it fails. At order 3 retrieval extends to larger
    loads at ``beta=2`` than at zero temperature, where symmetry is broken. From "glass" at P >= 3 comes the
    replica-symmetric glass of old diagrams, which is unphysical; see :func:`glass_transition`.

    References
    ----------
    .. [1] E. Agliari, L. Albanese, F. Alemanno, A. Alessandrelli, A. Barra, F. Giannotti, D. Lotito and D. Pedreschi,
       "Dense Hebbian neural networks: a replica symmetric picture of supervised learning", Physica A, 2023.
    .. [2] D. J. Amit, H. Gutfreund and H. Sompolinsky, "Statistical mechanics of neural networks near saturation",
       Annals of Physics, 1987.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import self_consistency
    >>> state = self_consistency(order=3, beta=5.0, load=0.02, quality=0.5, n_examples=20)
    >>> round(state.m, 5), round(state.x, 5)
    (0.95577, 0.92484)
    """
    replica = make_replica(
        order=order,
        quality=quality,
        n_examples=n_examples,
        learning=learning,
        interaction=interaction,
        averaging=averaging,
        n_nodes=n_nodes,
    )
    beta = as_beta(beta)
    alpha = as_load(load, load_unit, replica.order)
    start = _start(replica, beta, alpha, init)
    loop = Loop("self_consistency", tol=as_number(tol, "tol", above=0), max_iter=max_iter, residual="residual")
    state = _iterate(replica, beta, alpha, start, loop)
    loop.finish("It may be near the end of a phase; see critical_load.")
    return _phase_state(replica, beta, alpha, state, loop)


def _start(replica: Replica, beta: float, alpha: float, init: Any) -> Array:
    """The state to start from; with P = 2 its second entry is the noise that belongs to q."""
    if isinstance(init, str):
        x, q = {"retrieval": (1.0, 1.0), "glass": (0.0, 1.0), "paramagnet": (0.0, 0.0)}[
            as_choice(init, "init", ("retrieval", "glass", "paramagnet"))
        ]
    else:
        m, x, q = as_floating(init, "init", shape=(3,), dtype=np.float64)
        if not (abs(m) <= 1 and 0 <= q <= 1):
            raise ValueError(f"init must be (m, x, q) with |m| <= 1 and 0 <= q <= 1; got {init!r}")
    if not replica.pairwise:
        return np.array([x, q])
    chi = 0.0 if np.isinf(beta) else beta * (1 - q)
    return np.array([x, np.sqrt(alpha * q) / (1 - chi if chi < 1 else 1)])


def _iterate(replica: Replica, beta: float, alpha: float, state: Array, loop: Loop) -> Array:
    """Plain iterations, which stay on the branch that they start on; Anderson's where these are slow."""
    residuals: list[float] = []
    for _ in loop.stage():
        if len(residuals) > STRETCH and residuals[-1] > 0.5 * residuals[-1 - STRETCH]:
            state = _accelerated(replica, beta, alpha, state, loop)
            residuals.clear()
        following = replica.step(beta, alpha, state)[0]
        residuals.append(float(np.abs(following - state).max()))
        loop.report(residuals[-1], x=state[0])
        state = following
    return state


def _accelerated(replica: Replica, beta: float, alpha: float, state: Array, loop: Loop) -> Array:
    """A state nearer to a solution, or `state` itself."""
    left = min(STRETCH, loop.max_iter - loop.n_iter - 1)
    if left < 1:
        return state

    def count(at: Any) -> bool:
        loop.report(at.residual, hold=True, x=at.x[0])
        return bool(at.n_iter >= left)

    found = fixed_point(
        lambda v: replica.step(beta, alpha, v)[0], state, memory=3, tol=loop.tol, max_iter=left + 1, callback=count
    )
    stays = found.residual <= loop.tol and replica.contraction(beta, alpha, found.x) < 1 + 1e-6
    return np.asarray(found.x) if stays else state


def _phase_state(replica: Replica, beta: float, alpha: float, state: Array, loop: Loop) -> PhaseState:
    s = replica.noise(alpha, state)
    at = replica.average(beta, replica.signal(state[0]), s)
    q = float(at.q) if replica.pairwise else float(state[1])
    pressure, stability = replica.pressure_and_stability(beta, alpha, state[0], q, s)
    return PhaseState(
        # without quality t is symmetric, and what is left of m is rounding
        m=float(at.m) if replica.quality > 0 else 0.0,
        x=float(state[0]),
        n=float(state[0]) * replica.mixture.mean,
        q=q,
        pressure=float(pressure),
        at_stability=float(stability),
        **loop.outcome,
    )


def critical_load(
    *,
    order: int,
    beta: float = np.inf,
    quality: float = 1.0,
    n_examples: int = 1,
    learning: str = "supervised",
    interaction: str = "distinct",
    load_unit: str = "alpha",
) -> float:
    """The largest load at which the replica-symmetric equations have a retrieval solution.

    Parameters
    ----------
    order, beta, quality, n_examples, learning, interaction, load_unit
        As for :func:`self_consistency`.

    Returns
    -------
    float
        In the unit asked for; 0 where the temperature is too high for retrieval at any load.

    Raises
    ------
    TypeError, ValueError
        As for :func:`self_consistency`.

    Notes
    -----
    Nothing is iterated to the brink. For each overlap x, the noise at which the equations return x is bracketed and
    gives the load; the answer is the maximum over x. At zero temperature without examples that is
    ``max_y erf(y)^(2P - 2) / (2 y^2)`` divided by ``(P - 1)!`` or, with repeated indices, ``(2P - 3)!!``. Maxima whose
    neighbouring solutions an iteration does not stay at are passed over.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import critical_load
    >>> round(critical_load(order=2), 6), round(critical_load(order=3), 6), round(critical_load(order=3, beta=2.0), 5)
    (0.137906, 0.126095, 0.15434)
    """
    replica = make_replica(
        order=order, quality=quality, n_examples=n_examples, learning=learning, interaction=interaction
    )
    beta = as_beta(beta)
    unit = as_load(1.0, load_unit, replica.order)
    return retrieval_curve(replica, beta).load_end / unit


def glass_transition(
    *, order: int, load: float, interaction: str = "distinct", load_unit: str = "alpha"
) -> tuple[float, float]:
    """The temperatures below which the memories freeze each other into a glass, with one step of replica breaking.

    Parameters
    ----------
    order : int
        At least 3. For unsupervised learning multiply the load by ``(1 + rho_P) / (1 + rho)^P``.
    load, interaction, load_unit
        As for :func:`self_consistency`.

    Returns
    -------
    t_dynamic, t_static : float
        Below the first, exponentially many metastable states trap the dynamics; below the second (Kauzmann's), a few
        dominate. They agree where the overlap grows continuously, as it does with ``interaction="full"``.

    Raises
    ------
    TypeError, ValueError
        As for :func:`self_consistency`, and for ``order=2``.

    Notes
    -----
    For odd orders with repeated indices the noise holds a random field, in which spins are ordered at any temperature.
    Both temperatures are then where replica symmetry becomes unstable in it (de Almeida and Thouless). From order 5 on
    the overlap leaps at a somewhat higher temperature, which is not looked for.

    References
    ----------
    .. [1] E. Gardner, "Spin glasses with p-spin interactions", Nuclear Physics B, 1985.

    Examples
    --------
    >>> from numcore.algorithms.hebbian import glass_transition
    >>> t_dynamic, t_static = glass_transition(order=3, load=1.0, load_unit="gamma")
    >>> round(t_dynamic, 4), round(t_static, 5)
    (0.6816, 0.65139)
    """
    if as_order(order) < 3:
        raise ValueError(f"order must be at least 3: with 2 the glass is not of one step of breaking; got {order}")
    replica = make_replica(order=order, interaction=interaction)
    scale = float(np.sqrt(as_load(load, load_unit, replica.order)))
    dynamic, static = transitions(replica.kernel)
    return scale * dynamic, scale * static
