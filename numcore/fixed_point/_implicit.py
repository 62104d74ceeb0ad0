"""Derivatives through a fixed point: the linear system that the implicit function theorem leaves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

from numcore.arrays import Array, array_namespace, as_choice, as_count, as_floating, as_number, eps_of, to_numpy
from numcore.fixed_point._iterate import Rows, as_function, iterate
from numcore.fixed_point._solve import make_secants
from numcore.linalg import cg_iterations
from numcore.linalg._inner import norm
from numcore.results import ConvergenceWarning, Result

__all__ = ["LinearResult", "implicit_vjp"]

RESTART = 30


@dataclass(frozen=True, repr=False, eq=False)
class LinearResult(Result):
    """The solution of a linear system.

    Attributes
    ----------
    x : array
        The solution, in the shape of the right-hand side.
    converged : bool
        Whether `residual` is as small as was asked for.
    n_iter : int
        Products that the method made on its way.
    residual : float
        The norm of what is left of the right-hand side, relative to it, computed anew at the end.
    """

    x: Array
    converged: bool
    n_iter: int
    residual: float


def implicit_vjp(
    vjp: Callable[[Array], Any],
    grad: Any,
    *,
    method: str = "auto",
    symmetric: bool = False,
    tol: float = 1e-10,
    max_iter: int = 500,
) -> LinearResult:
    r"""Solve ``y = grad + vjp(y)``: the adjoint of a fixed point.

    If x solves ``x = f(x, theta)`` and grad is the gradient of a loss at x, the gradient in theta is
    :math:`(\partial f / \partial \theta)^T y` with

    .. math:: y = \nabla + (\partial f / \partial x)^T y .

    Parameters
    ----------
    vjp : callable
        ``vjp(y)`` is :math:`(\partial f / \partial x)^T y`, an array of the shape of `grad`.
    grad : array_like
        The right-hand side, of any shape.
    method : {"auto", "cg", "gmres", "anderson"}
        "auto" takes conjugate gradients if `symmetric`, else GMRES(30). "anderson" iterates the equation itself. GMRES
        is SciPy's: arrays of other libraries travel to the host and back for its own work.
    symmetric : bool
        Whether the Jacobian is symmetric, with eigenvalues below 1, which makes ``I - J`` positive definite.
    tol : float
        Relative to the norm of `grad`. Raised to ``4 eps sqrt(n)`` for n entries if it is below.
    max_iter : int
        Products at most.

    Returns
    -------
    LinearResult
        ``x`` (that is y), ``converged``, ``n_iter`` and ``residual``.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range, and if `vjp` returns the wrong shape.

    Warns
    -----
    ConvergenceWarning
        If the residual was not brought below `tol`: such a gradient is never passed on in silence.

    References
    ----------
    .. [1] E. Winston and J. Z. Kolter, "Monotone Operator Equilibrium Networks", NeurIPS 2020, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.fixed_point import fixed_point, implicit_vjp
    >>> W, b = np.array([[0.2, 0.5], [-0.3, 0.1]]), np.array([0.5, -1.0])
    >>> z = fixed_point(lambda z: np.tanh(W @ z + b), np.zeros(2), tol=1e-14).x
    >>> slope = 1 - z**2  # of tanh
    >>> y = implicit_vjp(lambda y: W.T @ (slope * y), np.ones(2)).x  # the loss is sum(z)
    >>> (slope * y).round(6)  # its gradient in b
    array([1.025626, 0.548168])
    """
    rows = Rows(as_floating(grad, "grad"), False)
    as_function(vjp, "vjp")
    as_choice(method, "method", ("auto", "cg", "gmres", "anderson"))
    as_choice(symmetric, "symmetric", (True, False))
    max_iter = as_count(max_iter, "max_iter")
    tol = max(as_number(tol, "tol", above=0), 4 * eps_of(rows.start) * rows.start.shape[1] ** 0.5)
    if method == "auto":
        method = "cg" if symmetric else "gmres"
    xp, b = rows.xp, rows.start[0, :]
    size = norm(b)

    def vjp_rows(y: Array) -> Array:
        return rows.rows(vjp(rows.points(y)), "vjp")[0, :]

    if size == 0:
        return LinearResult(xp.zeros(rows.shape, dtype=rows.dtype, device=rows.device), True, 0, 0.0)
    # of unit size, so that an absolute tolerance is a relative one and nothing overflows
    b = b / size
    y, n_iter = SOLVERS[method](vjp_rows, b, tol, max_iter)
    residual = norm(b + vjp_rows(y) - y)
    residual = residual if np.isfinite(residual) else np.inf
    converged = residual <= tol
    if not converged:
        warnings.warn(
            f"implicit_vjp did not converge: after {n_iter} products with method={method!r} the relative residual is "
            f"{residual:.3g}, tol {tol:.3g}." + ("" if method == "gmres" else ' Try method="gmres".'),
            ConvergenceWarning,
            stacklevel=2,
        )
    return LinearResult(xp.reshape(y * size, rows.shape), converged, n_iter, residual)


def _by_cg(vjp: Callable[[Array], Array], b: Array, tol: float, max_iter: int) -> tuple[Array, int]:
    y, n_iter = 0 * b, 0
    for at in cg_iterations(lambda v: v - vjp(v), b):
        y, n_iter = at.x, at.n_iter
        if at.stopped or not at.residual_norm > 0.5 * tol or n_iter >= max_iter:
            break
    return y, n_iter


def _by_gmres(vjp: Callable[[Array], Array], b: Array, tol: float, max_iter: int) -> tuple[Array, int]:
    xp, n, steps = array_namespace(b), b.shape[0], [0]

    def product(v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        y = xp.asarray(v, dtype=b.dtype, device=b.device)
        return to_numpy(y - vjp(y))

    def count(_: float) -> None:
        steps[0] += 1

    right, y, failed = to_numpy(b), None, 1
    operator = LinearOperator((n, n), matvec=product, dtype=right.dtype)
    restart = min(RESTART, n)
    # cycles of full length, then a shorter one for what is left of max_iter
    for length, cycles in ((restart, max_iter // restart), (max_iter % restart, 1)):
        if length and cycles and failed:
            y, failed = gmres(
                operator,
                right,
                x0=y,
                rtol=0.5 * tol,
                restart=length,
                maxiter=cycles,
                callback=count,
                callback_type="pr_norm",
            )
    return xp.asarray(y, dtype=b.dtype, device=b.device), steps[0]


def _by_anderson(vjp: Callable[[Array], Array], b: Array, tol: float, max_iter: int) -> tuple[Array, int]:
    n = b.shape[0]
    rows = Rows(b, False)
    search = iterate(
        lambda Y: b[None, :] + vjp(Y)[None, :],
        rows,
        name="implicit_vjp",
        tol=0.5 * tol / n**0.5,
        max_iter=max_iter,
        secants=make_secants(rows, "anderson"),
        stacklevel=None,
    )
    return search.x, search.n_iter


SOLVERS = {"cg": _by_cg, "gmres": _by_gmres, "anderson": _by_anderson}
