"""Newton steps with approximate Hessians, regularised by the norm of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import scipy.linalg

from numcore.algorithms.curvature.fisher import EmpiricalFisher
from numcore.arrays import Array, as_choice, as_count, as_floating, as_number, eps_of, to_numpy
from numcore.linalg import cg_iterations
from numcore.results import Callback, Loop, Result

__all__ = ["GNSResult", "minimize_gns"]

HISTORY = ("fun", "grad_norm", "gamma", "trials")
TINY = float(np.finfo(np.float64).tiny)
"""The least lambda: on the way to a minimum at infinity the quotient may underflow."""


@dataclass(frozen=True, repr=False, eq=False)
class GNSResult(Result):
    """Where the minimisation ended.

    Attributes
    ----------
    x : (n,) array
        The last accepted point.
    fun : float
        The objective there.
    grad : (n,) array
        Its gradient.
    grad_norm : float
        The dual norm of the gradient.
    gamma : float
        The smoothness estimate with which a further iteration would begin.
    converged : bool
        Whether `grad_norm` is at most `tol`.
    n_iter : int
        Accepted steps.
    n_fev, n_jev, n_hev : int
        Evaluations of the objective, its gradient and the Hessian.
    n_factor : int
        Matrix factorisations.
    history : dict of str to array
        After each iteration ``fun``, ``grad_norm`` and ``gamma``, and the ``trials`` that it took.
    """

    x: np.ndarray[Any, Any]
    fun: float
    grad: np.ndarray[Any, Any]
    grad_norm: float
    gamma: float
    converged: bool
    n_iter: int
    n_fev: int
    n_jev: int
    n_hev: int
    n_factor: int
    history: dict[str, np.ndarray[Any, Any]] = field(repr=False)


def minimize_gns(
    fun: Callable[[Any], Any],
    x0: Any,
    *,
    grad: Callable[[Any], Any],
    hess: Callable[[Any], Any] | None = None,
    metric: Any = None,
    gamma0: float = 1.0,
    gamma_min: float = 1e-9,
    max_trials: int = 40,
    fisher_of_mean: bool = False,
    tol: float = 1e-8,
    max_iter: int = 1000,
    callback: Callback | None = None,
    verbose: int = 0,
) -> GNSResult:
    r"""Minimise by Newton steps regularised by the norm of the gradient, with any approximation of the Hessian.

    In the norms :math:`\|h\|^2 = h^T B h` and :math:`\|g\|_*^2 = g^T B^{-1} g` a step is

    .. math:: h = -(H + \lambda B)^{-1} g, \qquad \lambda = \|g\|_* / \gamma,

    with the gradient-normalised smoothness gamma found by trials: halved when a step is refused or ``H + lambda B`` is
    not positive definite, doubled when one is accepted. A step to :math:`x_+` is accepted if

    .. math:: f(x) - f(x_+) \ge \frac{\|g_+\|_*^2}{8 \lambda},

    or, where f no longer changes beyond rounding, if
    :math:`\langle g_+, x - x_+ \rangle \ge \|g_+\|_*^2 / (4 \lambda)`.

    Parameters
    ----------
    fun : callable
        ``fun(x)``, the objective. A value that is not finite refuses a step.
    x0 : (n,) array_like
        Where to start.
    grad : callable
        ``grad(x)``, its gradient, (n,).
    hess : callable, optional
        ``hess(x)``, a symmetric approximation H of the Hessian:

        * an (n, n) array: a Cholesky factorisation in each trial;
        * an :class:`EmpiricalFisher`: one eigendecomposition of its Gram matrix serves all trials of an iteration
          (with blocks, each trial factors anew; with a metric, conjugate gradients);
        * a LinearOperator or sparse matrix: conjugate gradients to the relative residual
          :math:`\min(0.1, \sqrt{\|g\|_*})`.

        Without it H = 0, an adaptive gradient method.
    metric : (n,) array_like, optional
        The diagonal of B, positive; 1 by default.
    gamma0 : float
        The first gamma.
    gamma_min : float
        The least gamma after an accepted step.
    max_trials : int
        Trials at most in an iteration.
    fisher_of_mean : bool
        Declares that the gradient is the mean of the gradients in the EmpiricalFisher. Then steps are taken in
        coefficients of these, which keeps all digits.
    tol : float
        Converged when :math:`\|g\|_*` is at most this.
    max_iter : int
        Iterations at most.
    callback : callable, optional
        ``callback(state)`` after each iteration, with ``n_iter``, ``x``, ``fun``, ``grad``, ``grad_norm``, ``gamma``
        and ``trials``; returning True stops.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    GNSResult

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, the objective or its gradient is not finite at `x0`, the Hessian is of another
        shape, not finite or not symmetric to 1e-8 of its largest entry (1e-5 in float32), or the gradient is not the
        mean that `fisher_of_mean` declares.

    Warns
    -----
    ConvergenceWarning
        If it stopped before `tol`: after `max_iter` iterations, or when `max_trials` trials in a row failed.

    See Also
    --------
    power_norm_hessian, log_sum_exp_hessian : Approximations for composite objectives.
    hessian_operator, ggn_operator, fisher_operator : Products for losses of nets.

    Notes
    -----
    With H = 0 and an L-Lipschitz gradient lambda tends to L; with the exact Hessian and gamma growing, steps tend to
    Newton's. Factorisations are made in float64. The second condition of acceptance is not in the paper: it lets the
    method go on where differences of f drown in rounding.

    References
    ----------
    .. [1] A. Semenov, M. Jaggi, N. Doikov, "Gradient-Normalized Smoothness for Optimization with Approximate Hessians",
       2025, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.optimize import rosen, rosen_der, rosen_hess
    >>> from numcore.algorithms.curvature import minimize_gns
    >>> result = minimize_gns(rosen, [-1.2, 1.0], grad=rosen_der, hess=rosen_hess)
    >>> result.x.round(6), result.converged, result.n_iter < 60
    (array([1., 1.]), True, True)
    """
    given = np.atleast_1d(to_numpy(as_floating(x0, "x0", ndim=(0, 1))))
    if given.size == 0:
        raise ValueError("x0 must have at least one entry; got none")
    gamma, gamma_min = as_number(gamma0, "gamma0", above=0), as_number(gamma_min, "gamma_min", above=0)
    max_trials = as_count(max_trials, "max_trials")
    as_choice(fisher_of_mean, "fisher_of_mean", (True, False))
    tol = as_number(tol, "tol", above=0, closed=True)
    problem = _Problem(fun, grad, hess, _as_metric(metric, given), bool(fisher_of_mean))
    loop = Loop("minimize_gns", tol=tol, max_iter=max_iter, callback=callback, verbose=verbose, residual="grad_norm")
    at = problem.start(given)
    loop.error, advice = at.norm, ""
    for _ in loop.stage(error=at.norm):
        found = _iterate(problem, at, gamma, max_trials)
        if found is None:
            advice = (
                f"None of {max_trials} steps from here was accepted, with gamma from {gamma:.2g} down: fun is at the "
                "limit of its arithmetic, or grad is not its gradient."
            )
            break
        at, accepted, trials = found
        gamma = max(2 * accepted, gamma_min)
        loop.report(at.norm, fun=at.f, gamma=gamma, trials=trials, state=partial(_state, at))
    loop.finish(advice)
    outcome = loop.outcome
    outcome["history"] = {key: outcome["history"].get(key, np.empty(0)) for key in HISTORY}
    return GNSResult(x=at.x, fun=at.f, grad=at.g, grad_norm=at.norm, gamma=gamma, **outcome, **problem.counts)


@dataclass(frozen=True)
class _Point:
    """A point x with the objective f, its gradient g, and the dual norm of g."""

    x: Array
    f: float
    g: Array
    norm: float


def _state(at: _Point) -> dict[str, Any]:
    return {"x": at.x, "grad": at.g}


def _iterate(problem: _Problem, at: _Point, gamma: float, max_trials: int) -> tuple[_Point, float, int] | None:
    """The next point, the gamma that led there, and the number of trials; None if all were refused."""
    system = problem.system(at)
    for trial in range(1, max_trials + 1):
        lam = max(at.norm / gamma, TINY)
        h = system.step(lam)
        new = None if h is None else problem.attempt(at, h, lam)
        if new is not None:
            return new, gamma, trial
        gamma /= 2
    return None


class _Problem:
    """The functions, checked and counted; the norms; and the test of acceptance."""

    def __init__(self, fun: Any, grad: Any, hess: Any, B: Array, of_mean: bool) -> None:
        for f, name in ((fun, "fun"), (grad, "grad"), (hess, "hess")):
            if not callable(f) and not (f is None and name == "hess"):
                raise TypeError(f"{name} must be callable; got {type(f).__name__}")
        if of_mean and hess is None:
            raise ValueError("fisher_of_mean needs a hess that gives an EmpiricalFisher; got None")
        self.fun, self.grad, self.hess, self.B, self.of_mean = fun, grad, hess, B, of_mean
        self.root = np.sqrt(B)
        self.counts: dict[str, Any] = {"n_fev": 0, "n_jev": 0, "n_hev": 0, "n_factor": 0}

    def count(self, what: str) -> None:
        """One more."""
        self.counts[what] += 1

    def start(self, x: Array) -> _Point:
        """The first point, which has to be finite."""
        x = x.copy()
        f, g = self.value(x), self.gradient(x)
        if not np.isfinite(f):
            raise ValueError(f"fun(x0) must be finite; got {f}")
        bad = int(np.count_nonzero(~np.isfinite(g)))
        if bad:
            raise ValueError(f"grad(x0) must be finite; {bad} of its {g.size} entries are not")
        return _Point(x, f, g, self.dual_norm(g))

    def value(self, x: Array) -> float:
        """The objective."""
        self.count("n_fev")
        value = to_numpy(self.fun(x.copy()))
        if value.size != 1 or value.dtype.kind not in "biuf":
            raise TypeError(f"fun must return a real number; got shape {value.shape} and dtype {value.dtype}")
        return float(value.reshape(()))

    def gradient(self, x: Array) -> Array:
        """The gradient, finite or not, in the dtype of x."""
        self.count("n_jev")
        g = np.atleast_1d(to_numpy(self.grad(x.copy())))
        if g.shape != x.shape or g.dtype.kind not in "biuf":
            raise ValueError(f"grad must return real numbers of shape {x.shape}; got shape {g.shape}, dtype {g.dtype}")
        return g.astype(x.dtype)  # a copy: what a function returns may be its own buffer

    def dual_norm(self, g: Array) -> float:
        """``sqrt(g^T B^-1 g)``."""
        return float(scipy.linalg.norm(g / self.root, check_finite=False))

    def attempt(self, at: _Point, h: Array, lam: float) -> _Point | None:
        """The point at + h if it is accepted."""
        x = (at.x + h).astype(at.x.dtype)
        if not np.isfinite(x).all():
            return None
        f = self.value(x)
        rounding = abs(at.f - f) <= 10 * eps_of(x) * max(1.0, abs(at.f))
        if not np.isfinite(f) or (f > at.f and not rounding):
            return None
        g = self.gradient(x)
        if not np.isfinite(g).all():
            return None
        norm = self.dual_norm(g)
        least = norm * (norm / lam)
        decrease = at.f - f >= least / 8
        descent = rounding and float(np.dot(g, at.x - x)) >= least / 4
        return _Point(x, f, g, norm) if decrease or descent else None

    def system(self, at: _Point) -> _System:
        """The linear systems of an iteration, ``(H + lam B) h = -g`` for any lam."""
        if self.hess is None:
            return _Gradient(self, at.g)
        self.count("n_hev")
        H = self.hess(at.x.copy())
        fisher = isinstance(H, EmpiricalFisher)
        if self.of_mean and not (fisher and H.blocks is None and np.all(self.B == 1)):
            kind = "an EmpiricalFisher with blocks or a metric" if fisher else type(H).__name__
            raise ValueError(f"fisher_of_mean needs an EmpiricalFisher without blocks and no metric; got {kind}")
        n = at.x.size
        if hasattr(H, "matvec") or hasattr(H, "tocsr"):
            if tuple(H.shape) != (n, n):
                raise ValueError(f"hess(x) must have shape {(n, n)}; got {tuple(H.shape)}")
            if not fisher or not np.all(self.B == 1):
                return _Iterative(self, H, at.g, at.norm)
            return _Spectral(self, H, at.g, self.of_mean) if H.blocks is None else _Blocks(self, H, at.g)
        return _Dense(self, _as_symmetric(H, at.x), at.g)


def _as_metric(metric: Any, x: Array) -> Array:
    if metric is None:
        return np.ones(x.shape)
    B = to_numpy(as_floating(metric, "metric", shape=x.shape, dtype=np.float64))
    if not (B > 0).all():
        raise ValueError(f"metric must be positive; {np.count_nonzero(B <= 0)} of its {B.size} entries are not")
    return B


def _as_symmetric(H: Any, x: Array) -> Array:
    H, n = to_numpy(as_floating(H, "hess(x)")), x.size
    H = H.reshape(1, 1) if n == H.size == 1 else H
    if H.shape != (n, n):
        raise ValueError(f"hess(x) must have shape {(n, n)}; got {H.shape}")
    slack = max(1e-8, 100 * eps_of(H), 100 * eps_of(x))  # sums over examples in float32 are no better than that
    off, largest = float(np.abs(H - H.T).max()), float(np.abs(H).max())
    if off > slack * largest:
        raise ValueError(
            f"hess(x) must be symmetric; entries across its diagonal differ by {off:.2g}, the largest is {largest:.2g}"
        )
    return H.astype(np.float64)


# The linear systems, by the kind of H. Each knows g; `step(lam)` gives h, or None where H + lam B is not positive
# definite.


class _System(Protocol):
    def step(self, lam: float) -> Array | None: ...


class _Gradient:
    """H = 0."""

    def __init__(self, problem: _Problem, g: Array) -> None:
        self.B, self.g = problem.B, g

    def step(self, lam: float) -> Array:
        return -self.g / (lam * self.B)


class _Dense:
    """H is an array."""

    def __init__(self, problem: _Problem, H: Array, g: Array) -> None:
        self.problem, self.H, self.g = problem, H, g.astype(np.float64)

    def step(self, lam: float) -> Array | None:
        self.problem.count("n_factor")
        shifted = self.H.copy()
        shifted[np.diag_indices_from(shifted)] += lam * self.problem.B
        try:
            L = scipy.linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            return None
        return -np.asarray(scipy.linalg.cho_solve(L, self.g, check_finite=False))


class _Spectral:
    r"""H is a Fisher matrix ``damp I + G^T G / c``, and B = I: one eigendecomposition for all lam.

    Of the Gram matrix, ``G G^T = Q diag(k) Q^T``, or where that is larger than H, of H itself. With
    mu = lam + damp, p = G g and K = ``G G^T + c mu I``: h = -(g - G^T K^-1 p) / mu. If g = ``G^T a``, the same is
    h = -c ``G^T K^-1 a``.
    """

    def __init__(self, problem: _Problem, F: EmpiricalFisher, g: Array, of_mean: bool) -> None:
        self.F, self.g = F, g.astype(F.dtype)
        self.of_mean = of_mean
        problem.count("n_factor")
        self.primal = F.dim <= F.n_grads
        if of_mean:
            self._check_mean()
        if self.primal:
            H = np.asarray(F.todense(), np.float64)
            k, self.Q = np.linalg.eigh((H + H.T) / 2)
            self.k = np.maximum(k - F.damp, 0)
            self.p = self.Q.T @ g.astype(np.float64)
        else:
            k, self.Q = np.linalg.eigh(F.gram)
            self.k = np.maximum(k, 0)
            a = np.full(F.n_grads, 1 / max(F.n_grads, 1)) if of_mean else F.coefficients(self.g)
            self.p = self.Q.T @ a

    def _check_mean(self) -> None:
        m = self.F.n_grads
        mean = self.F.combination(np.full(m, 1 / max(m, 1)))
        gap, size = np.linalg.norm(mean - self.g), np.linalg.norm(self.g)
        if gap > 1e-3 * size:
            raise ValueError(
                "fisher_of_mean declares that grad(x) is the mean of the gradients in hess(x); they differ by "
                f"{gap / size:.2g} of its norm"
            )

    def step(self, lam: float) -> Array:
        mu, c = lam + self.F.damp, self.F.scale
        if self.primal:
            return -self.Q @ (self.p / (self.k + mu))
        s = self.Q @ (self.p / (self.k + c * mu))
        return -c * self.F.combination(s) if self.of_mean else self.F._rows.combine(s, self.g, -1 / mu)


class _Blocks:
    """H is a Fisher matrix in blocks: its Gram matrices are formed once, and factored for each lam."""

    def __init__(self, problem: _Problem, F: EmpiricalFisher, g: Array) -> None:
        self.problem, self.F, self.g = problem, F, g

    def step(self, lam: float) -> Array:
        self.problem.count("n_factor")
        return -np.asarray(self.F.with_damp(self.F.damp + lam).solve(self.g))


class _Iterative:
    """H is known by its products: conjugate gradients, the more exact the smaller the gradient."""

    def __init__(self, problem: _Problem, H: Any, g: Array, norm: float) -> None:
        self.H, self.B, self.g = H, problem.B, g.astype(np.float64)
        self.target = min(0.1, norm**0.5) * float(np.linalg.norm(self.g))

    def step(self, lam: float) -> Array | None:
        shift = lam * self.B
        h = None
        for at in cg_iterations(
            lambda p: np.asarray(self.H @ p, np.float64) + shift * p,
            -self.g,
            preconditioner=self.B,
            targets=self.target,
        ):
            if at.negative or not np.isfinite(at.residual_norm):
                return None
            h = at.x
            if at.n_iter >= 10 * len(self.g):
                break
        return h
