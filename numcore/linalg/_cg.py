"""Conjugate gradients that show their steps, and say when they meet negative curvature."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_number
from numcore.linalg._operator import Operator
from numcore.results import Callback, Loop, Result

__all__ = ["CGResult", "CGState", "cg_iterations", "solve_cg"]


@dataclass(frozen=True, repr=False, eq=False)
class CGResult(Result):
    """Where conjugate gradients ended.

    Attributes
    ----------
    x : (n,) or (n, k) array
        The solution.
    converged : bool
        Whether all columns converged.
    n_iter : int
        Iterations, each of one product with the operator.
    residual_norm : float or (k,) array
        ``|b - (A + damp I) x|``, as the recurrence has it.
    negative_curvature : bool
        Whether a direction p with ``p^T (A + damp I) p <= 0`` was met.
    history : dict of array
        ``residual``: the largest relative residual, iteration by iteration.
    """

    x: Array
    converged: bool
    n_iter: int
    residual_norm: Any
    negative_curvature: bool
    history: dict[str, np.ndarray[Any, Any]] = field(repr=False)


@dataclass(frozen=True)
class CGState:
    """One step of :func:`cg_iterations`; numbers for a vector b, (k,) arrays for k columns.

    ``alpha`` and ``beta`` are the step's coefficients; a column that has stopped has 0 there from then on. Those of a
    column make the Lanczos matrix of the preconditioned operator: ``T_jj = 1/alpha_j + beta_{j-1}/alpha_{j-1}``,
    ``T_{j,j+1} = sqrt(beta_j)/alpha_j`` (Saad, "Iterative Methods for Sparse Linear Systems", 2003, eq. (6.82)).
    ``stopped`` marks the columns that take no further step; ``negative`` those of them that met a direction without
    positive curvature.
    """

    x: Array
    n_iter: int
    residual_norm: Any
    alpha: Any
    beta: Any
    stopped: Any
    negative: Any


def cg_iterations(
    product: Callable[[Array], Array],
    b: Array,
    *,
    x0: Array | None = None,
    preconditioner: Any = None,
    curvature_floor: Any = 0.0,
    targets: Any = 0.0,
) -> Iterator[CGState]:
    """The iterations of preconditioned conjugate gradients for ``product(x) = b``, one by one.

    The bare loop: nothing is checked, nothing is warned of; whoever runs it decides when it is enough. It ends by
    itself when all columns have stopped.

    Parameters
    ----------
    product : callable
        The product with a symmetric operator.
    b : (n,) or (n, k) array
        The right-hand side; columns have coefficients of their own.
    x0 : array, optional
        Where to start; 0 by default, which saves a product.
    preconditioner : callable or (n,) array, optional
        ``preconditioner(r)`` approximates the solution for r; an array is a diagonal to divide by.
    curvature_floor : float or (n,) array
        A column stops, at the iterate before, on a direction p with ``p^T A p <= p^T (curvature_floor * p)``: there the
        operator is singular, or not positive definite.
    targets : float or (k,) array
        Columns whose residual norm is at most this stop.

    Yields
    ------
    CGState
        After each product.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import cg_iterations
    >>> A = np.diag([1.0, 2.0, 4.0])
    >>> [round(float(at.residual_norm), 3) for at in cg_iterations(lambda p: A @ p, np.ones(3), targets=1e-12)]
    [0.926, 0.321, 0.0]
    """
    precondition = _preconditioner(preconditioner, b)
    floor = curvature_floor
    if getattr(floor, "ndim", 0) == 1 and b.ndim == 2:
        floor = floor[:, None]
    x, r = (0 * b, b) if x0 is None else (x0, b - product(x0))
    z = precondition(r)
    p, rho = z, _dot(r, z)
    stopped = _norm(r) <= targets
    negative, n_iter = stopped & False, 0
    while not _all(stopped):
        q = product(p)
        n_iter += 1
        curvature = _dot(p, q)
        negative = negative | (_not(stopped) & (rho > 0) & _not(curvature > _dot(p, floor * p)))
        stopped = stopped | negative | _not(rho > 0)
        alpha = _ratio(rho, curvature, stopped)
        x, r = x + alpha * p, r - alpha * q
        norm = _norm(r)
        z = precondition(r)
        previous, rho = rho, _dot(r, z)
        beta = _ratio(rho, previous, stopped)
        stopped = stopped | (norm <= targets)
        yield CGState(x, n_iter, norm, alpha, beta, stopped, negative)
        p = z + beta * p


def solve_cg(
    A: Any,
    b: Any,
    *,
    damp: float = 0.0,
    tol: float = 1e-8,
    max_iter: int | None = None,
    preconditioner: Any = None,
    x0: Any = None,
    callback: Callback | None = None,
) -> CGResult:
    r"""Solve ``(A + damp I) x = b`` for a symmetric positive definite operator by conjugate gradients.

    Parameters
    ----------
    A : (n, n) array_like, sparse matrix or LinearOperator
        Symmetric; symmetry is not checked.
    b : (n,) or (n, k) array_like
        The right-hand side. Columns are solved side by side, one product with all of them an iteration, and each
        stops on its own.
    damp : float
        Added to the diagonal; not negative.
    tol : float
        Converged when ``|r| <= tol |b|``, in every column.
    max_iter : int, optional
        Iterations at most; ``10 n`` by default.
    preconditioner : array, operator or callable, optional
        An approximate inverse of ``A + damp I``: an (n,) array is the diagonal of what it inverts (Jacobi), an operator
        is applied, a callable is called with residuals of the shape of `b`.
    x0 : array_like, optional
        Where to start; zeros by default.
    callback : callable, optional
        ``callback(state)`` after each iteration, with ``n_iter``, ``x`` and ``residual``; returning True stops.

    Returns
    -------
    CGResult
        With the iterate of least residual, where the method did not converge.

    Raises
    ------
    ValueError, TypeError
        If `A` is not square, shapes do not match, or an argument is out of range or not finite.

    Warns
    -----
    ConvergenceWarning
        If a column did not converge: the iterations were used up, or a direction p with
        :math:`p^T (A + \mathrm{damp}\, I)\, p \le 0` was met, as ``negative_curvature`` then says.

    Notes
    -----
    The recurrence's residual drifts from the true one by rounding, about ``eps cond(A)``; in float32 a `tol` below some
    1e-6 is therefore reached in the recurrence only.

    References
    ----------
    .. [1] M. R. Hestenes and E. Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
    .. [2] Y. Saad, "Iterative Methods for Sparse Linear Systems", 2003, Algorithm 9.1.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.linalg import solve_cg
    >>> A = np.diag(np.arange(1.0, 6.0))
    >>> result = solve_cg(A, np.ones(5))
    >>> result.x * np.arange(1, 6), result.n_iter
    (array([1., 1., 1., 1., 1.]), 5)
    """
    like = as_floating(b, "b", ndim=(1, 2))
    operator = Operator(A, "A", like=like)
    b = as_floating(b, "b", shape=(operator.n, *like.shape[1:]))
    damp = as_number(damp, "damp", above=0, closed=True)
    x0 = None if x0 is None else as_floating(x0, "x0", shape=tuple(b.shape), dtype=b.dtype, like=b)
    size = _norm(b)
    n_max = max(1, 10 * operator.n) if max_iter is None else as_count(max_iter, "max_iter")
    tol = as_number(tol, "tol", above=0)
    loop = Loop("solve_cg", tol=tol, max_iter=n_max, callback=callback, residual="residual")
    best = _Best(b if x0 is None else b - operator @ x0 - damp * x0, x0, size)
    steps = cg_iterations(
        lambda p: operator @ p + damp * p,
        b,
        x0=x0,
        preconditioner=_checked_preconditioner(preconditioner, b),
        targets=tol * size,
    )
    negative = False
    for _ in loop.stage(error=best.worst):
        at = next(steps)
        best.take(at)
        negative = not _all(_not(at.negative))
        loop.report(best.worst, state=lambda: {"x": best.x})
        if best.worst > tol and (negative or _all(at.stopped)):
            break
    advice = "A direction of negative curvature was met: A + damp I is not positive definite." if negative else ""
    loop.finish(advice)
    return CGResult(
        x=best.xp.asarray(best.x, copy=True),
        converged=loop.converged,
        n_iter=loop.n_iter,
        residual_norm=best.norm,
        negative_curvature=negative,
        history=loop.history,
    )


class _Best:
    """The iterate of least residual, column by column."""

    def __init__(self, r: Array, x0: Array | None, size: Any) -> None:
        self.xp = array_namespace(r)
        self.x = self.xp.zeros_like(r) if x0 is None else x0
        self.norm, self.size = _norm(r), size

    def take(self, at: CGState) -> None:
        """Look at one more iterate."""
        better = at.residual_norm < self.norm
        if isinstance(better, bool):
            self.x, self.norm = (at.x, at.residual_norm) if better else (self.x, self.norm)
            return
        self.x = self.xp.where(better, at.x, self.x)
        self.norm = self.xp.where(better, at.residual_norm, self.norm)

    @property
    def worst(self) -> float:
        """The largest residual relative to b; 0 where both are 0."""
        if isinstance(self.norm, float):
            return self.norm / (self.size or 1.0)
        relative = self.norm / self.xp.where(self.size > 0, self.size, self.xp.ones_like(self.size))
        return float(self.xp.max(relative)) if self.x.size else 0.0


def _checked_preconditioner(given: Any, b: Array) -> Any:
    if given is None or (callable(given) and not hasattr(given, "shape")):
        return given
    if hasattr(given, "shape") and len(given.shape) == 1:
        diagonal = as_floating(given, "preconditioner", shape=(b.shape[0],), like=b, dtype=b.dtype)
        if bool(array_namespace(diagonal).any(diagonal <= 0)):
            raise ValueError("preconditioner must be positive; got a diagonal with entries that are not")
        return diagonal
    operator = Operator(given, "preconditioner", like=b)
    if operator.n != b.shape[0]:
        raise ValueError(f"preconditioner must have shape {(b.shape[0],) * 2}; got {operator.shape}")
    return lambda r: operator @ r


def _preconditioner(given: Any, b: Array) -> Callable[[Array], Array]:
    if given is None:
        return lambda r: r
    if callable(given) and not hasattr(given, "shape"):
        return given
    diagonal = given if b.ndim == 1 else given[:, None]
    return lambda r: r / diagonal


# The coefficients of a vector are Python numbers, those of columns are (k,) arrays; these make one code of both.


def _dot(x: Array, y: Array) -> Any:
    """The inner product of columns."""
    return float(x @ y) if x.ndim == 1 else array_namespace(x).sum(x * y, axis=0)


def _norm(r: Array) -> Any:
    square = _dot(r, r)
    return math.sqrt(square) if isinstance(square, float) else array_namespace(square).sqrt(square)


def _not(mask: Any) -> Any:
    return mask ^ True


def _all(mask: Any) -> bool:
    return mask if isinstance(mask, bool) else bool(array_namespace(mask).all(mask))


def _ratio(a: Any, b: Any, stopped: Any) -> Any:
    """The quotients; 0 for columns that have stopped."""
    if isinstance(a, float):
        return 0.0 if stopped else a / b
    xp = array_namespace(a)
    return xp.where(stopped, xp.zeros_like(a), a / xp.where(stopped, xp.ones_like(b), b))
