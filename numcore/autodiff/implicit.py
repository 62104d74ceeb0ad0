"""Solutions of equations as functions of their parameters: fixed points and roots, differentiated implicitly.

Nothing of the iteration is recorded. The adjoint and tangent equations are fixed points or roots in turn, solved by the
same function, and so can be differentiated again.

References
----------
S. Bai, J. Z. Kolter and V. Koltun, "Deep Equilibrium Models", NeurIPS 2019, theorem 1.
M. Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse.linalg

from numcore.arrays import as_count, as_floating, as_number, eps_of
from numcore.autodiff.boxes import Box, Dual, Forward, innermost, opened, trace_of, unboxed
from numcore.autodiff.custom import attach, of_some, spread
from numcore.autodiff.transforms import jacobian, jvp, vjp
from numcore.autodiff.trees import flatten
from numcore.fixed_point import fixed_point as iterate
from numcore.results import ConvergenceWarning, Result

__all__ = ["RootResult", "fixed_point", "root"]

DENSE = 200
"""Unknowns up to which the Jacobian is formed."""

Map = Callable[[Any, Any], Any]


def fixed_point(
    phi: Map,
    theta: Any,
    z0: Any,
    *,
    solver: Callable[..., Any] | None = None,
    tol: float = 1e-8,
    max_iter: int = 1000,
    adjoint_tol: float | None = None,
) -> tuple[Any, Any]:
    r"""The point :math:`z^* = \phi(z^*, \theta)`, as a function of theta.

    Parameters
    ----------
    phi : callable
        ``phi(z, theta)`` has the shape of `z`. What it depends on and is differentiated by must be in `theta`.
    theta : array or tree of arrays
        The parameters.
    z0 : array
        Where to start; not differentiated.
    solver : callable, optional
        ``solver(func, z0, tol=, max_iter=)`` gives a result with ``x``, ``converged`` and ``n_iter``; by default
        Anderson's method, :func:`numcore.fixed_point.fixed_point`.
    tol : float, default=1e-8
        For the largest entry of ``phi(z, theta) - z``.
    max_iter : int, default=1000
    adjoint_tol : float, optional
        The same for the equations of the derivatives; by default `tol`.

    Returns
    -------
    z : array
        The fixed point.
    info : FixedPointResult
        With ``converged`` and ``n_iter``.

    Warns
    -----
    ConvergenceWarning
        If the point, or the solution of an equation for its derivative, was not reached.

    Notes
    -----
    The cotangent `g` of z is turned into that of theta by solving
    :math:`u = g + (\partial \phi / \partial z)^T u` and taking :math:`(\partial \phi / \partial \theta)^T u`. The
    memory is that of one evaluation of phi.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> z = lambda t: ad.fixed_point(lambda z, t: ad.cos(t * z), t, np.float64(0.5), tol=1e-12)[0]
    >>> float(ad.grad(z)(1.0)).__round__(6)
    -0.297474
    """
    solver = iterate if solver is None else solver
    adjoint_tol = tol if adjoint_tol is None else adjoint_tol
    linear: dict[str, Any] = {"solver": solver, "tol": adjoint_tol, "max_iter": max_iter}

    def solve_plainly(theta: Any) -> tuple[Any, Any]:
        info = solver(lambda z: _plain(phi(z, theta), "phi"), unboxed(z0), tol=tol, max_iter=max_iter)
        return info.x, info

    def again(theta: Any) -> tuple[Any, Any]:
        return fixed_point(phi, theta, z0, solver=solver, tol=tol, max_iter=max_iter, adjoint_tol=adjoint_tol)

    def adjoint(theta: Any, z: Any, g: Any) -> Any:
        return fixed_point(_adjoint_map(phi), (theta, z, g), 0.0 * unboxed(g), **linear)[0]

    def tangent(theta: Any, z: Any, slope: Any) -> Any:
        return fixed_point(_tangent_map(phi), (theta, z, slope), 0.0 * unboxed(slope), **linear)[0]

    return _implicitly(phi, theta, solve_plainly, again, adjoint, tangent)


def _adjoint_map(phi: Map) -> Map:
    def map(u: Any, parameters: Any) -> Any:  # noqa: A001
        theta, z, g = parameters
        return g + vjp(lambda z: phi(z, theta), z)[1](u)[0]

    return map


def _tangent_map(phi: Map) -> Map:
    def map(d: Any, parameters: Any) -> Any:  # noqa: A001
        theta, z, slope = parameters
        return slope + jvp(lambda z: phi(z, theta), (z,), (d,))[1]

    return map


def _implicitly(phi: Map, theta: Any, solve_plainly: Any, again: Any, adjoint: Any, tangent: Any) -> tuple[Any, Any]:
    """The solution with its derivative: that of phi in theta, then the linear equation (in reverse: the other way)."""
    leaves, rebuild = flatten(theta)
    trace = innermost(leaves)
    if trace is None:
        return solve_plainly(theta)
    values = opened(leaves, trace)
    inner = rebuild(values)
    z, info = again(inner)
    ours = [k for k, x in enumerate(leaves) if trace_of(x) is trace]

    of_ours = of_some(lambda filled: phi(z, rebuild(filled)), values, ours)
    if type(trace) is Forward:
        slope = jvp(of_ours, [values[k] for k in ours], [leaves[k].tangent for k in ours])[1]
        return Dual(z, tangent(inner, z, slope), trace), info

    def bwd(g: Any) -> list[Any]:
        return spread(vjp(of_ours, *(values[k] for k in ours))[1](adjoint(inner, z, g)), ours, len(leaves))

    return attach(trace, leaves, z, bwd, "an implicit function"), info


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Box):
        raise TypeError(f"{name} uses a value under differentiation that is not in theta; pass it there")
    return value


@dataclass(frozen=True, repr=False, eq=False)
class RootResult(Result):
    """Where a search for a root ended.

    Attributes
    ----------
    x : array
        The root.
    converged : bool
    n_iter : int
        Newton steps.
    residual : float
        The largest entry of F there.
    """

    x: Any
    converged: bool
    n_iter: int
    residual: float


def root(F: Map, theta: Any, z0: Any, *, tol: float = 1e-10, max_iter: int = 50) -> tuple[Any, Any]:
    r"""The point with :math:`F(z^*, \theta) = 0`, as a function of theta.

    Parameters
    ----------
    F : callable
        ``F(z, theta)`` has the shape of `z`. What it depends on and is differentiated by must be in `theta`.
    theta : array or tree of arrays
        The parameters.
    z0 : array
        Where to start; not differentiated.
    tol : float, default=1e-10
        For the largest entry of F, beside its largest entry at `z0` if that is above 1; never less than rounding.
    max_iter : int, default=50
        Newton steps at most.

    Returns
    -------
    z : array
        The root.
    info : RootResult
        With ``converged`` and ``n_iter``.

    Warns
    -----
    ConvergenceWarning
        If the root, or the solution of an equation for its derivative, was not reached.

    Notes
    -----
    Newton's method with halved steps where F would grow; steps come from a dense solve for up to 200 unknowns, from
    GMRES beyond. The cotangent `g` of z becomes :math:`-(\partial F / \partial \theta)^T u` with
    :math:`(\partial F / \partial z)^T u = g`.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> cube_root = lambda t: ad.root(lambda z, t: z**3 - t, t, np.float64(1.0))[0]
    >>> round(float(cube_root(8.0)), 6), round(float(ad.grad(cube_root)(8.0)), 6)
    (2.0, 0.083333)
    """
    tol, max_iter = as_number(tol, "tol", above=0.0), as_count(max_iter, "max_iter")

    def solve_plainly(theta: Any) -> tuple[Any, Any]:
        info = _newton(lambda z: F(z, theta), as_floating(unboxed(z0), "z0"), tol, max_iter)
        return info.x, info

    def again(theta: Any) -> tuple[Any, Any]:
        return root(F, theta, z0, tol=tol, max_iter=max_iter)

    def adjoint(theta: Any, z: Any, g: Any) -> Any:
        def equation(u: Any, parameters: Any) -> Any:
            theta, z, g = parameters
            return vjp(lambda z: F(z, theta), z)[1](u)[0] + g

        return root(equation, (theta, z, g), 0.0 * unboxed(g), tol=tol, max_iter=max_iter)[0]

    def tangent(theta: Any, z: Any, slope: Any) -> Any:
        def equation(d: Any, parameters: Any) -> Any:
            theta, z, slope = parameters
            return jvp(lambda z: F(z, theta), (z,), (d,))[1] + slope

        return root(equation, (theta, z, slope), 0.0 * unboxed(slope), tol=tol, max_iter=max_iter)[0]

    return _implicitly(F, theta, solve_plainly, again, adjoint, tangent)


def _newton(F: Callable[[Any], Any], z: Any, tol: float, max_iter: int) -> RootResult:
    value = _plain(F(z), "F")
    size = _largest(value)
    target = max(tol, 8 * eps_of(np.asarray(z)) * max(1, z.size) ** 0.5) * (max(1.0, size) if size < np.inf else 1.0)
    n_iter, why = 0, f"it used all {max_iter} iterations"
    while size > target and n_iter < max_iter:
        n_iter += 1
        step = _newton_step(F, z, value)
        for k in range(30):
            trial = z - step * 0.5**k
            at_trial = np.asarray(F(trial))
            if _largest(at_trial) < size:
                break
        else:
            why = "no step along Newton's direction made F smaller"
            break
        z, value, size = trial, at_trial, _largest(at_trial)
    converged = size <= target
    if not converged:
        warnings.warn(
            f"root did not converge: {why} (residual {size:.3g}, tol {target:.3g}).", ConvergenceWarning, stacklevel=4
        )
    return RootResult(z, converged, n_iter, size)


def _largest(value: Any) -> float:
    largest = float(np.max(np.abs(value), initial=0.0))
    return largest if np.isfinite(largest) else np.inf


def _newton_step(F: Callable[[Any], Any], z: Any, value: Any) -> Any:
    n = z.size
    if n <= DENSE:
        J = jacobian(F, mode="forward")(z).reshape(n, n)
        try:
            step = np.linalg.solve(J, np.ravel(value))
        except np.linalg.LinAlgError:
            step = np.linalg.lstsq(J, np.ravel(value), rcond=None)[0]
    else:
        J = scipy.sparse.linalg.LinearOperator(
            (n, n), lambda d: np.ravel(jvp(F, (z,), (d.reshape(z.shape).astype(z.dtype),))[1]), dtype=z.dtype
        )
        step = scipy.sparse.linalg.gmres(J, np.ravel(value), rtol=1e-8, restart=min(n, 100), maxiter=10)[0]
    return step.reshape(z.shape).astype(z.dtype)
