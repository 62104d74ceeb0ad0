"""Zeros of a sum of two monotone operators, F + G: forward-backward, Peaceman-Rachford, Douglas-Rachford."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numcore.arrays import Array, as_choice, as_number
from numcore.fixed_point._iterate import FixedPointResult, Rows, as_function, iterate
from numcore.fixed_point._solve import make_secants
from numcore.results import Callback

__all__ = ["douglas_rachford", "forward_backward", "peaceman_rachford"]


def forward_backward(
    forward: Callable[[Array], Any],
    prox: Callable[[Array], Any],
    x0: Any,
    *,
    step: float,
    tol: float = 1e-6,
    max_iter: int = 1000,
    accelerate: bool = True,
    batched: bool = False,
    callback: Callback | None = None,
    verbose: int = 0,
) -> FixedPointResult:
    r"""Find x with ``0 in F(x) + G(x)``, G single-valued, by forward steps on G and backward steps on F.

    .. math:: x_{k+1} = (I + \alpha F)^{-1} (x_k - \alpha\, G(x_k))

    Parameters
    ----------
    forward : callable
        ``forward(x)`` is G(x).
    prox : callable
        ``prox(x)`` is ``(I + step F)^{-1} x``; the step is in it.
    x0 : array_like
        Where to start.
    step : float
        alpha. If G is m-strongly monotone and L-Lipschitz the plain iteration converges for ``step < 2 m / L^2``, and
        if it is a gradient, for ``step < 2 / L``.
    tol : float
        A row has converged when ``max |prox(x - step G(x)) - x| / step`` is at most this (or rounding error).
    max_iter : int
        Iterations at most.
    accelerate : bool
        Whether to extrapolate, as ``fixed_point(method="anderson")`` does and with its safeguard.
    batched, callback, verbose
        As for :func:`fixed_point`.

    Returns
    -------
    FixedPointResult
        With ``n_fev`` counting calls of `forward`, one an iteration, and as many of `prox`.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range, and if `forward` or `prox` returns the wrong shape.

    Warns
    -----
    ConvergenceWarning
        As for :func:`fixed_point`.

    References
    ----------
    .. [1] E. Winston and J. Z. Kolter, "Monotone Operator Equilibrium Networks", NeurIPS 2020, Algorithm 1.

    Examples
    --------
    The lasso with an orthonormal design, where the answer is soft thresholding:

    >>> import numpy as np
    >>> from numcore.fixed_point import forward_backward
    >>> b, reg, step = np.array([3.0, -0.2, -2.0]), 0.5, 0.5
    >>> prox = lambda x: np.sign(x) * np.maximum(abs(x) - step * reg, 0)
    >>> result = forward_backward(lambda x: x - b, prox, np.zeros(3), step=step)
    >>> np.round(result.x, 6) + 0.0
    array([ 2.5,  0. , -1.5])
    """
    rows = Rows(x0, batched)
    as_function(forward, "forward")
    as_function(prox, "prox")
    step = as_number(step, "step", above=0)
    as_choice(accelerate, "accelerate", (True, False))

    def func(X: Array) -> Array:
        Z = X - step * rows.rows(forward(rows.points(X)), "forward")
        return rows.rows(prox(rows.points(Z)), "prox")

    return iterate(
        func,
        rows,
        name="forward_backward",
        tol=tol,
        max_iter=max_iter,
        secants=make_secants(rows, "anderson" if accelerate else "picard"),
        scale=1 / step,
        advice="Try a smaller step.",
        callback=callback,
        verbose=verbose,
    )


def peaceman_rachford(
    resolvent: Callable[[Array], Any],
    prox: Callable[[Array], Any],
    x0: Any,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    relaxation: float = 1.0,
    batched: bool = False,
    callback: Callback | None = None,
    verbose: int = 0,
) -> FixedPointResult:
    r"""Find x with ``0 in F(x) + G(x)`` by reflecting in the resolvents of F and G.

    .. math:: x_k = (I + \alpha F)^{-1} u_k, \quad z_k = (I + \alpha G)^{-1} (2 x_k - u_k), \quad
        u_{k+1} = u_k + 2 \rho\, (z_k - x_k)

    with the relaxation rho.

    Parameters
    ----------
    resolvent : callable
        ``resolvent(x)`` is ``(I + step G)^{-1} x``, for a step that only the two functions need to know.
    prox : callable
        ``prox(x)`` is ``(I + step F)^{-1} x``, with the same step.
    x0 : array_like
        The first ``u``.
    tol : float
        A row has converged when ``max |z - x|`` is at most this (or rounding error); ``(x - z) / step`` then lies in
        ``F(x) + G(z)``.
    max_iter : int
        Iterations at most.
    relaxation : float in (0, 1]
        rho. With 1, Peaceman-Rachford, one of the operators must be strongly monotone; any smaller value converges
        whenever there is a solution.
    batched, callback, verbose
        As for :func:`fixed_point`.

    Returns
    -------
    FixedPointResult
        ``x`` is what `prox` returned last; ``n_fev`` counts pairs of calls.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range, and if `resolvent` or `prox` returns the wrong shape.

    Warns
    -----
    ConvergenceWarning
        As for :func:`fixed_point`.

    References
    ----------
    .. [1] E. Winston and J. Z. Kolter, "Monotone Operator Equilibrium Networks", NeurIPS 2020, Algorithm 2.
    .. [2] P.-L. Lions and B. Mercier, "Splitting Algorithms for the Sum of Two Nonlinear Operators", SIAM Journal on
       Numerical Analysis, 1979.

    Examples
    --------
    The least squares solution among the nonnegative vectors:

    >>> import numpy as np
    >>> from numcore.fixed_point import peaceman_rachford
    >>> A, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([1.0, -4.0])
    >>> V = np.linalg.inv(np.eye(2) + A)  # G(x) = A x - b
    >>> result = peaceman_rachford(lambda x: V @ (x + b), lambda x: np.maximum(x, 0), np.zeros(2), tol=1e-9)
    >>> np.round(result.x, 6)
    array([0.5, 0. ])
    """
    return _reflect("peaceman_rachford", resolvent, prox, x0, tol, max_iter, relaxation, batched, callback, verbose)


def douglas_rachford(
    resolvent: Callable[[Array], Any],
    prox: Callable[[Array], Any],
    x0: Any,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    relaxation: float = 0.5,
    batched: bool = False,
    callback: Callback | None = None,
    verbose: int = 0,
) -> FixedPointResult:
    """Find x with ``0 in F(x) + G(x)`` by averaged reflections: :func:`peaceman_rachford` with a relaxation of 1/2.

    It converges for any two monotone operators whose sum has a zero, and any step.

    Parameters
    ----------
    resolvent, prox, x0, tol, max_iter, relaxation, batched, callback, verbose
        As for :func:`peaceman_rachford`.

    Returns
    -------
    FixedPointResult
        As from :func:`peaceman_rachford`.

    Examples
    --------
    A point in two sets; their projections are the resolvents of their normal cones:

    >>> import numpy as np
    >>> from numcore.fixed_point import douglas_rachford
    >>> def on_line(x):  # x_0 + x_1 = 1
    ...     return x + (1 - x.sum()) / 2
    >>> result = douglas_rachford(on_line, lambda x: np.clip(x, [0.6, 0.0], [1.0, 0.3]), np.zeros(2))
    >>> result.converged, bool(abs(result.x.sum() - 1) < 1e-5), bool(result.x[0] >= 0.6)
    (True, True, True)
    """
    return _reflect("douglas_rachford", resolvent, prox, x0, tol, max_iter, relaxation, batched, callback, verbose)


def _reflect(
    name: str,
    resolvent: Callable[[Array], Any],
    prox: Callable[[Array], Any],
    x0: Any,
    tol: float,
    max_iter: int,
    relaxation: float,
    batched: bool,
    callback: Callback | None,
    verbose: int,
) -> FixedPointResult:
    rows = Rows(x0, batched)
    as_function(resolvent, "resolvent")
    as_function(prox, "prox")
    relaxation = as_number(relaxation, "relaxation", above=0, below=np.nextafter(1, 2))

    def backward(U: Array) -> Array:
        return rows.rows(prox(rows.points(U)), "prox")

    def func(U: Array) -> Array:
        X = backward(U)
        Z = rows.rows(resolvent(rows.points(2 * X - U)), "resolvent")
        return U + 2 * relaxation * (Z - X)

    return iterate(
        func,
        rows,
        name=name,
        tol=tol,
        max_iter=max_iter,
        scale=1 / (2 * relaxation),
        shown=backward,
        advice="Try a smaller relaxation." if relaxation > 0.5 else "",
        stacklevel=5,
        callback=callback,
        verbose=verbose,
    )
