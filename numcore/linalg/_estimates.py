"""Trace, diagonal, functions and spectrum of a symmetric operator, from products with random vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from numcore.arrays import Array, as_choice, as_count, as_floating, as_number, as_rng, to_numpy
from numcore.linalg._inner import dot, norm
from numcore.linalg._lanczos import tridiagonalise
from numcore.linalg._operator import Operator
from numcore.results import Result

__all__ = [
    "EstimateResult",
    "SpectralDensityResult",
    "diagonal_estimate",
    "function_trace",
    "spectral_density",
    "trace_estimate",
]


@dataclass(frozen=True, repr=False, eq=False)
class EstimateResult(Result):
    """An estimate from random probes.

    Attributes
    ----------
    value : float or (d,) array
        The estimate.
    stderr : float or (d,) array
        Its standard error, from the scatter of the probes; nan for one probe.
    n_matvec : int
        Products with a vector that were made.
    """

    value: Any
    stderr: Any
    n_matvec: int


@dataclass(frozen=True, repr=False, eq=False)
class SpectralDensityResult(Result):
    """The distribution of the eigenvalues.

    Attributes
    ----------
    grid, density : (g,) float64 array
        The density, of integral 1 over the real line, at the points of the grid.
    nodes, weights : (m,) float64 array
        What it was smoothed from: a discrete distribution, weights of sum 1.
    """

    grid: np.ndarray[Any, Any]
    density: np.ndarray[Any, Any]
    nodes: np.ndarray[Any, Any] = field(repr=False)
    weights: np.ndarray[Any, Any] = field(repr=False)


def trace_estimate(
    A: Any, *, n_probes: int = 30, method: str = "hutch++", dist: str = "rademacher", rng: Any = None
) -> EstimateResult:
    r"""Estimate the trace of a symmetric operator.

    Hutchinson's estimate is the mean of :math:`z^T A z` over random probes z. Hutch++ spends a third of the products
    on a basis Q of the operator's range, a third on the exact trace there, and the rest on what is left:

    .. math:: \operatorname{tr}(Q^T A Q) + \frac{1}{k} \operatorname{tr}\bigl(Z^T (I - QQ^T) A (I - QQ^T) Z\bigr).

    Parameters
    ----------
    A : (d, d) array_like, sparse matrix or LinearOperator
        Symmetric; symmetry is not checked.
    n_probes : int
        Products, about; Hutch++ makes ``3 (n_probes // 3)``, and with fewer than 3 it is Hutchinson's.
    method : {"hutch++", "hutchinson"}
        The estimate. Its variance falls as ``1 / n_probes^2`` (Hutch++, on a positive semi-definite A) or
        ``1 / n_probes``.
    dist : {"rademacher", "gaussian"}
        Probes of signs, or Gaussian ones ("normal" is the same). With n probes, the variance of Hutchinson's estimate
        is ``2 (|A|_F^2 - sum A_ii^2) / n`` with signs, ``2 |A|_F^2 / n`` with Gaussian probes.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    EstimateResult
        ``value``, ``stderr`` and ``n_matvec``. The standard error is 0 where Hutch++ found the whole space.

    Raises
    ------
    ValueError, TypeError
        If `A` is not square, or an argument is out of range.

    References
    ----------
    .. [1] R. A. Meyer, C. Musco, C. Musco and D. P. Woodruff, "Hutch++: Optimal Stochastic Trace Estimation", 2021,
       Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import trace_estimate
    >>> A = np.diag(0.5 ** np.arange(1, 101))
    >>> result = trace_estimate(A, rng=0)
    >>> abs(result.value - 1) < 1e-2, result.n_matvec
    (True, 30)
    """
    operator, draw, n_probes = _check(A, n_probes, dist, rng)
    as_choice(method, "method", ("hutch++", "hutchinson"))
    if method == "hutchinson" or n_probes < 3:
        Z = draw(n_probes)
        value, stderr = _mean(_quadratic_forms(operator, Z))
        return EstimateResult(value, stderr, n_probes)
    xp, k = operator.xp, min(n_probes // 3, operator.n)
    Q = xp.linalg.qr(operator @ draw(k)).Q
    found = float(np.sum(_quadratic_forms(operator, Q)))
    if k == operator.n:
        return EstimateResult(found, 0.0, 2 * k)
    Z = draw(k)
    Z = Z - Q @ (Q.T @ Z)
    value, stderr = _mean(_quadratic_forms(operator, Z))
    return EstimateResult(found + value, stderr, 3 * k)


def diagonal_estimate(A: Any, *, n_probes: int = 30, dist: str = "rademacher", rng: Any = None) -> EstimateResult:
    r"""Estimate the diagonal of an operator: :math:`\sum_z z \circ A z \,/\, \sum_z z \circ z`.

    Parameters
    ----------
    A : (d, d) array_like, sparse matrix or LinearOperator
        Any square operator.
    n_probes : int
        Probes, each of one product.
    dist : {"rademacher", "gaussian"}
        Probes of signs, which make it exact for diagonal A, or Gaussian ones ("normal" is the same).
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    EstimateResult
        ``value`` (d,), ``stderr`` (d,) and ``n_matvec``.

    Raises
    ------
    ValueError, TypeError
        If `A` is not square, or an argument is out of range.

    References
    ----------
    .. [1] C. Bekas, E. Kokiopoulou and Y. Saad, "An Estimator for the Diagonal of a Matrix", 2007, eq. (2).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import diagonal_estimate
    >>> diagonal_estimate(np.diag([1.0, 2.0, 3.0]), n_probes=2, rng=0).value
    array([1., 2., 3.])
    """
    operator, draw, n_probes = _check(A, n_probes, dist, rng)
    xp, Z = operator.xp, draw(n_probes)
    products = Z * (operator @ Z)
    squares = Z * Z
    total = xp.sum(squares, axis=1)
    value = xp.sum(products, axis=1) / total
    if n_probes == 1:
        return EstimateResult(value, xp.full_like(value, xp.nan), 1)
    rest = products - value[:, None] * squares
    spread = xp.astype(norm(rest.T), value.dtype, copy=False)
    stderr = spread * (n_probes / (n_probes - 1)) ** 0.5 / total
    return EstimateResult(value, stderr, n_probes)


def function_trace(
    A: Any, f: Callable[[Any], Any], *, k: int = 64, n_probes: int = 8, rng: Any = None
) -> EstimateResult:
    r"""Estimate ``tr f(A)``, the sum of f over the eigenvalues, by stochastic Lanczos quadrature.

    From each probe, k Lanczos steps give nodes :math:`\theta_j` and weights :math:`\tau_j` of sum 1; the estimate is d
    times the mean over probes of :math:`\sum_j \tau_j f(\theta_j)`.

    Parameters
    ----------
    A : (d, d) array_like, sparse matrix or LinearOperator
        Symmetric; symmetry is not checked.
    f : callable
        Takes and returns a float64 array; ``np.log`` gives the log-determinant.
    k : int
        Lanczos steps a probe; more than d are d.
    n_probes : int
        Probes, of signs.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    EstimateResult
        ``value``, ``stderr`` (of the probes; the quadrature's own error, which falls geometrically in k where f is
        analytic around the spectrum, is not in it) and ``n_matvec``.

    Raises
    ------
    ValueError, TypeError
        If `A` is not square, an argument is out of range, or f is not finite at a node.

    References
    ----------
    .. [1] S. Ubaru, J. Chen and Y. Saad, "Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature", 2017,
       Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import function_trace
    >>> X = np.random.default_rng(0).standard_normal((200, 50))
    >>> A = X.T @ X / 200
    >>> result = function_trace(A, np.log, k=20, rng=0)
    >>> abs(result.value - float(np.linalg.slogdet(A)[1])) < 3 * result.stderr
    True
    """
    operator, draw, n_probes = _check(A, n_probes, "rademacher", rng)
    k = as_count(k, "k")
    if not callable(f):
        raise TypeError(f"f must be callable; got {f!r}")
    sums, n_matvec = [], 0
    for nodes, weights in _quadratures(operator, draw, k, n_probes):
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.asarray(f(nodes), dtype=np.float64)
        if values.shape != nodes.shape:
            raise ValueError(f"f must return an array of shape {nodes.shape}; got {values.shape}")
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ValueError(f"f must be finite on the spectrum of A; it is {values[bad[0]]} at {nodes[bad[0]]:.6g}")
        sums.append(operator.n * float(weights @ values))
        n_matvec += len(nodes)
    value, stderr = _mean(np.asarray(sums))
    return EstimateResult(value, stderr, n_matvec)


def spectral_density(
    A: Any, *, k: int = 64, n_probes: int = 8, grid: Any = None, sigma: float | None = None, rng: Any = None
) -> SpectralDensityResult:
    """Estimate how the eigenvalues are distributed, by stochastic Lanczos quadrature.

    Parameters
    ----------
    A : (d, d) array_like, sparse matrix or LinearOperator
        Symmetric; symmetry is not checked.
    k : int
        Lanczos steps a probe; more than d are d.
    n_probes : int
        Probes, of signs.
    grid : (g,) array_like, optional
        Where to give the density; 1024 points by default, to 5 sigma beyond the extreme nodes.
    sigma : float, optional
        The width of the normal density that each node is smoothed to; 1 % of the range of the nodes by default.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    SpectralDensityResult
        ``grid``, ``density``, ``nodes`` and ``weights``.

    Raises
    ------
    ValueError, TypeError
        If `A` is not square, or an argument is out of range.

    References
    ----------
    .. [1] B. Ghorbani, S. Krishnan and Y. Xiao, "An Investigation into Neural Net Optimization via Hessian Eigenvalue
       Density", ICML 2019, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.integrate import trapezoid
    >>> from numcore.linalg import spectral_density
    >>> result = spectral_density(np.diag(np.repeat([0.0, 1.0], [30, 10])), rng=0)
    >>> low = result.grid < 0.5
    >>> round(float(trapezoid(result.density[low], result.grid[low])), 2)  # three quarters are 0
    0.75
    """
    operator, draw, n_probes = _check(A, n_probes, "rademacher", rng)
    k = as_count(k, "k")
    if grid is not None:
        grid = as_floating(grid, "grid", ndim=1, dtype=np.float64)
    if sigma is not None:
        sigma = as_number(sigma, "sigma", above=0)
    found = list(_quadratures(operator, draw, k, n_probes))
    nodes = np.concatenate([theta for theta, _ in found])
    weights = np.concatenate([tau for _, tau in found]) / n_probes
    low, high = float(nodes.min()), float(nodes.max())
    if sigma is None:
        # where all eigenvalues are equal, up to rounding, their size sets the scale
        size = max(abs(low), abs(high))
        sigma = 0.01 * (high - low if high - low > 1e-10 * size else size or 1.0)
    if grid is None:
        grid = np.linspace(low - 5 * sigma, high + 5 * sigma, 1024)
    density = np.zeros(grid.shape)
    for theta, tau in zip(nodes, weights, strict=True):
        density += tau * np.exp(-0.5 * ((grid - theta) / sigma) ** 2)
    return SpectralDensityResult(grid, density / (sigma * (2 * np.pi) ** 0.5), nodes, weights)


def _check(A: Any, n_probes: Any, dist: Any, rng: Any) -> tuple[Operator, Callable[[int], Array], int]:
    """The operator, a function that draws probes as columns, and their number."""
    operator = Operator(A, "A")
    if operator.n == 0:
        raise ValueError("A must not be empty; got shape (0, 0)")
    n_probes = as_count(n_probes, "n_probes")
    as_choice(dist, "dist", ("rademacher", "gaussian", "normal"))
    generator = as_rng(rng)

    def draw(count: int) -> Array:
        shape = (operator.n, count)
        signs = dist == "rademacher"
        return operator.array(
            2.0 * generator.integers(2, size=shape) - 1 if signs else generator.standard_normal(shape)
        )

    return operator, draw, n_probes


def _quadratic_forms(operator: Operator, Z: Array) -> np.ndarray[Any, Any]:
    return to_numpy(dot(Z, operator @ Z))


def _quadratures(operator: Operator, draw: Callable[[int], Array], k: int, n_probes: int) -> Any:
    """Nodes and weights of the Gauss quadrature that k Lanczos steps give, for each probe."""
    for _ in range(n_probes):
        T = tridiagonalise(operator, draw(1)[:, 0], k)
        theta, Y = eigh_tridiagonal(T.alpha, T.beta)
        yield theta, Y[0] ** 2


def _mean(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    n = len(values)
    mean = float(values.mean())
    return mean, norm(values - mean) / ((n - 1) * n) ** 0.5 if n > 1 else float("nan")
