"""Conjugate gradients that show their steps, and say when they meet negative curvature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_number, eps_of, to_numpy
from numcore.linalg._inner import dot, norm
from numcore.linalg._operator import Operator
from numcore.results import Callback, Loop, Result

__all__ = ["CGResult", "CGState", "cg_iterations", "solve_cg"]


@dataclass(frozen=True, repr=False, eq=False)
class CGResult(Result):
    """Where conjugate gradients ended.

    Attributes
    ----------
    x : (n,) or (n, k) array
        The solution; where the method did not converge, the iterate of least residual.
    converged : bool
        Whether all columns converged.
    n_iter : int
        Iterations, each of one product with the operator.
    residual_norm : float or (k,) float64 array
        ``|b - (A + damp I) x|``, as the recurrence has it.
    negative_curvature : bool
        Whether a direction p with ``p^T (A + damp I) p <= 0`` was met.
    history : dict of array
        ``residual``: the largest relative residual of the columns, iterate by iterate. It need not fall steadily.
    """

    x: Array
    converged: bool
    n_iter: int
    residual_norm: Any
    negative_curvature: bool
    history: dict[str, np.ndarray[Any, Any]] = field(repr=False)


class CGState(NamedTuple):
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
    z, length = precondition(r), norm(r)
    p, rho = z, dot(r, z)
    stopped = length <= targets
    negative, n_iter = stopped & False, 0
    while not _all(stopped):
        q = product(p)
        n_iter += 1
        curvature = dot(p, q)
        least = 0.0 if isinstance(floor, float) and floor == 0 else dot(p, floor * p)
        negative = negative | (_not(stopped) & (rho > 0) & _not(curvature > least))
        stopped = stopped | negative | _not(rho > 0)
        alpha = _ratio(rho, curvature, stopped)
        x, r = _sum(alpha, p, x), _sum(-alpha, q, r)
        length = norm(r)
        z = precondition(r)
        previous, rho = rho, dot(r, z)
        beta = _ratio(rho, previous, stopped)
        stopped = stopped | (length <= targets)
        yield CGState(x, n_iter, length, alpha, beta, stopped, negative)
        p = _sum(beta, p, z)


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
        ``callback(state)`` after each iteration, with ``n_iter``, ``x``, ``residual_norm`` and ``residual``, which is
        relative to b; returning True stops.

    Returns
    -------
    CGResult
        ``x``, ``converged``, ``n_iter``, ``residual_norm``, ``negative_curvature`` and ``history``.

    Raises
    ------
    ValueError, TypeError
        If `A` is not square, shapes do not match, or an argument is out of range or not finite.

    Warns
    -----
    ConvergenceWarning
        If a column did not converge: the iterations were used up, a direction p with
        :math:`p^T (A + \mathrm{damp}\, I)\, p \le 0` was met, as ``negative_curvature`` then says, or the
        preconditioner proved not to be positive definite.

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
    n_max = max(1, 10 * operator.n) if max_iter is None else as_count(max_iter, "max_iter")
    tol = as_number(tol, "tol", above=0)
    loop = Loop("solve_cg", tol=tol, max_iter=n_max, callback=callback, residual="residual")
    preconditioner = _checked_preconditioner(preconditioner, b)

    def product(p: Array) -> Array:
        return operator @ p + damp * p if damp else operator @ p

    unit = _unit(b, x0)
    if unit is not None:
        b, x0 = b / unit, None if x0 is None else x0 / unit
    xp, size = array_namespace(b), norm(b)
    targets = tol * size
    best = _Best(b if x0 is None else b - product(x0), x0)
    steps = cg_iterations(product, b, x0=x0, preconditioner=preconditioner, targets=targets)
    negative, advice = False, ""
    for _ in loop.stage(error=0.0 if _all(best.norm <= targets) else _relative(best.norm, size)):
        at = next(steps)
        best.take(at)
        negative = not _all(_not(at.negative))
        done = _all(at.residual_norm <= targets)
        loop.report(
            _relative(at.residual_norm, size),
            done=done,
            state=partial(_shown, at, unit),
        )
        if not done and (negative or _all(at.stopped)):
            what = "A + damp I" if negative else "the preconditioner"
            advice = f"A direction of negative curvature was met: {what} is not positive definite."
            break
    loop.finish(advice)
    return CGResult(
        x=xp.asarray(_times(best.x, unit), copy=True),
        converged=loop.converged,
        n_iter=loop.n_iter,
        residual_norm=_times(best.norm, unit),
        negative_curvature=negative,
        history={"residual": np.empty(0)} | loop.history,
    )


def _shown(at: CGState, unit: Any) -> dict[str, Any]:
    return {"x": _times(at.x, unit), "residual_norm": _times(at.residual_norm, unit)}


class _Best:
    """The iterate of least residual, column by column."""

    def __init__(self, r: Array, x0: Array | None) -> None:
        self.xp = array_namespace(r)
        self.x = self.xp.zeros_like(r) if x0 is None else x0
        self.norm = norm(r)

    def take(self, at: CGState) -> None:
        """Look at one more iterate."""
        better = at.residual_norm < self.norm
        if _all(better):
            self.x, self.norm = at.x, at.residual_norm
        elif not isinstance(better, bool):
            self.x = self.xp.where(better, at.x, self.x)
            self.norm = self.xp.where(better, at.residual_norm, self.norm)


def _relative(length: Any, size: Any) -> float:
    """The largest of the lengths relative to those of b; 0 where both are 0."""
    if isinstance(length, float):
        return length / (size or 1.0)
    xp = array_namespace(length)
    return float(xp.max(length / xp.where(size > 0, size, xp.ones_like(size)))) if length.shape[0] else 0.0


def _unit(b: Array, x0: Array | None) -> Any:
    """A power of two, or one a column, in which b is of moderate size; None if it is so anyway."""
    if 0 in b.shape:
        return None
    xp, far = array_namespace(b), 1e12 if eps_of(b) > 1e-10 else 1e90
    top = _top(b)
    if bool(np.all((top == 0) | ((top < far) & (top > 1 / far)))):
        return None
    unit = np.where(top > 0, np.exp2(np.frexp(top)[1] - 1.0), 1.0)
    if x0 is not None and bool(np.any(_top(x0) > far**3 * np.minimum(unit, 1))):
        return None  # the start is of another size altogether, and the one that counts
    return float(unit) if b.ndim == 1 else xp.asarray(unit, dtype=b.dtype, device=b.device)


def _top(x: Array) -> np.ndarray[Any, Any]:
    xp = array_namespace(x)
    return to_numpy(xp.max(xp.abs(x), axis=0)).astype(np.float64)


def _times(x: Array, unit: Any) -> Array:
    return x if unit is None else x * unit


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


def _sum(factor: Any, p: Array, x: Array) -> Array:
    """``factor * p + x`` in the dtype of p, the factor a number or numbers a column."""
    if not isinstance(factor, float):
        factor = array_namespace(p).astype(factor, p.dtype, copy=False)
    total = factor * p
    total += x
    return total


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
