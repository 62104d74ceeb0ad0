"""How far a solution is from the least-squares solution: intervals, bounds and the bootstrap, from the sketch alone.

References
----------
Z. Song, M. Ye, J. Yin and L. Zhang, "A Nearly-Optimal Bound for Fast Regression with l_inf Guarantee", ICML 2023;
M. Lopes, S. Wang and M. Mahoney, "Error Estimation for Randomized Least-Squares Algorithms via the Bootstrap", ICML
2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.stats

from numcore.algorithms.sketching._setup import Matrix, Point, Setup
from numcore.results import Result

__all__ = ["Certificate", "a_posteriori", "bootstrap", "student"]

RESAMPLES = 200


@dataclass(frozen=True, repr=False, eq=False)
class Certificate(Result):
    """Bounds on the distance of a solution x from the least-squares solution x*, each at the level of confidence.

    Attributes
    ----------
    kind : str
        "t", "bootstrap" or "aposteriori".
    confidence : float
        The probability with which a bound holds.
    linf, l2 : float
        For the largest coordinate, and the length, of x - x*; the largest of several right-hand sides.
    energy : float
        For ``|A (x - x*)|``.
    intervals : (d, 2) or (d, k, 2) array, or None
        With "t", for each coordinate of x* by itself.
    stderr : (d,) or (d, k) array, or None
        With "t", the standard errors.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import lstsq
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(5000, 3))
    >>> b = A @ np.array([1.0, 2.0, 3.0]) + rng.normal(size=5000)
    >>> result = lstsq(A, b, method="sketch_solve", certificate="t", rng=0)
    >>> certificate = result.certificate
    >>> bool(np.abs(result.x - lstsq(A, b, rng=0).x).max() <= certificate.linf)
    True
    """

    kind: str
    confidence: float
    linf: float
    l2: float
    energy: float
    intervals: np.ndarray[Any, Any] | None = None
    stderr: np.ndarray[Any, Any] | None = None


def distortion(m: int, d: int, confidence: float) -> float:
    """What a Gaussian sketch of m rows changes lengths in d dimensions by, at most."""
    return float((d / m) ** 0.5 + (2 * np.log(2 / (1 - confidence)) / m) ** 0.5)


def student(setup: Setup, x: Matrix, confidence: float, *, single: bool) -> Certificate:
    """From the law of the sketched problem: exact for Gaussian sketches, near it for all that mix rows well.

    With ``C = ((SA)^T SA)^-1`` and ``s^2 = |Sb - SA x|^2 / (m - d)``, ``(x_i - x*_i) / (s sqrt(C_ii))`` is Student's t
    with m - d degrees of freedom, and ``|SA (x - x*)|^2 / (d s^2)`` is F with d and m - d.
    """
    f, d = setup.factors, len(x)
    freedom, miss = setup.m - d, 1 - confidence
    if setup.rank < d or freedom < 1:
        raise ValueError(
            f"certificate='t' needs a matrix of full rank and more rows of the sketch than columns; got rank "
            f"{setup.rank} of {d} and {setup.m} rows"
        )
    residual = setup.Sb - f.U @ (f.U.T @ setup.Sb)
    s = np.sqrt(np.sum(residual**2, axis=0) / freedom) * setup.scale_b
    P = f.P if setup.scale is None else f.P / setup.scale[:, None]
    stderr = np.sqrt(np.sum(P * P, axis=1))[:, None] * s
    half = scipy.stats.t.ppf(1 - miss / 2, freedom) * stderr
    radius = float(np.sqrt(d * scipy.stats.f.ppf(confidence, d, freedom)) * s.max())
    eta = distortion(setup.m, d, confidence)
    intervals = np.stack([x - half, x + half], axis=-1)
    return Certificate(
        "t",
        confidence,
        linf=float(scipy.stats.t.ppf(1 - miss / (2 * d), freedom) * stderr.max()),
        l2=radius * float(np.linalg.norm(P, 2)),
        energy=radius / (1 - eta) if eta < 1 else np.inf,
        intervals=intervals[:, 0] if single else intervals,
        stderr=stderr[:, 0] if single else stderr,
    )


def bootstrap(setup: Setup, confidence: float, rng: np.random.Generator) -> Certificate:
    """Quantiles of the distance of solutions with resampled rows of [SA Sb] from the sketched solution."""
    f, m = setup.factors, setup.m
    Q = f.U[:m]  # SA P
    P = f.P if setup.scale is None else f.P / setup.scale[:, None]
    y = Q.T @ setup.Sb
    distances = []
    for _ in range(RESAMPLES):
        weights = rng.multinomial(m, np.full(m, 1 / m)).astype(np.float64)
        G = (Q.T * weights) @ Q
        moved = np.linalg.lstsq(G, (Q.T * weights) @ setup.Sb, rcond=None)[0] - y
        away = P @ moved * setup.scale_b
        lengths = [np.abs(away).max(), np.linalg.norm(away, axis=0).max(), np.linalg.norm(moved, axis=0).max()]
        distances.append([*lengths[:2], lengths[2] * setup.scale_b])
    linf, l2, energy = (float(q) for q in np.quantile(distances, confidence, axis=0))
    return Certificate("bootstrap", confidence, linf, l2, energy)


def a_posteriori(setup: Setup, at: Point, L: Matrix | None, P: Matrix, confidence: float) -> Certificate:
    """A bound for any x from its gradient: exact but for rounding with the Cholesky factor of ``P^T A^T A P``."""
    eta = 0.0 if L is not None or setup.kind is None else distortion(setup.m, setup.rank, confidence)
    p = P.T @ at.g
    if L is not None and len(L):
        p = scipy.linalg.solve_triangular(L, p, lower=True, check_finite=False)
        P = scipy.linalg.solve_triangular(L, P.T, lower=True, check_finite=False).T
    P = P if setup.scale is None else P / setup.scale[:, None]
    energy = (1 + eta) * float(np.linalg.norm(p, axis=0).max(initial=0.0)) * setup.scale_b
    reach = (1 + eta) * float(np.sqrt(np.sum(P * P, axis=1)).max())
    length = (1 + eta) * float(np.linalg.norm(P, 2)) if P.size else 0.0
    return Certificate("aposteriori", confidence, linf=reach * energy, l2=length * energy, energy=energy)
