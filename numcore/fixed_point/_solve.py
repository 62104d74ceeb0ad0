"""Picard, Anderson and Broyden: one map, iterated to a point that it leaves where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numcore.arrays import Array, as_choice, as_count, as_number, eps_of
from numcore.fixed_point._iterate import FixedPointResult, Rows, as_function, iterate
from numcore.fixed_point._secants import Anderson, Broyden, Secants
from numcore.results import Callback

__all__ = ["fixed_point", "make_secants"]

METHODS: dict[str, type[Secants] | None] = {"picard": None, "anderson": Anderson, "broyden": Broyden}


def fixed_point(
    func: Callable[[Array], Any],
    x0: Any,
    *,
    method: str = "anderson",
    tol: float = 1e-6,
    max_iter: int = 500,
    memory: int = 5,
    damping: float = 1.0,
    reg: float | None = None,
    merit: Callable[[Array], Any] | None = None,
    batched: bool = False,
    callback: Callback | None = None,
    verbose: int = 0,
) -> FixedPointResult:
    r"""Find x with ``func(x) = x``.

    With g(x) = func(x) - x and damping beta, all methods take steps of one form,

    .. math:: x_{k+1} = x_k + \beta g_k - (S + \beta Y) \gamma ,

    where the columns of S and Y are the last differences of iterates and of their g. Picard has gamma = 0; Anderson
    (type II) takes the gamma of least :math:`|g_k - Y \gamma|`; good Broyden the one of its rank-one updates.

    Parameters
    ----------
    func : callable
        ``func(x)`` returns an array of the shape of `x`, and must not write to `x`. With `batched` it is given all rows
        at every call: those that are done come at the place where they ended.
    x0 : array_like
        Where to start. Any shape; the arrays given to `func` are of the same library.
    method : {"anderson", "broyden", "picard"}
        The iteration. Picard takes damped steps only, and is never replaced by another.
    tol : float
        A row has converged when its residual ``max |func(x) - x|`` is at most this, or at most the rounding error
        ``4 eps sqrt(n) max|x|`` of a row of n entries if that is larger.
    max_iter : int
        Iterations at most, each of one call of `func`.
    memory : int
        Pairs of differences that Anderson and Broyden remember.
    damping : float in (0, 1]
        beta.
    reg : float, optional
        Added to the normal equations for gamma, as a share of their trace; 1e-10, in float32 1e-6.
    merit : callable, optional
        ``merit(x)``, a number or, if batched, one a row, which the damped step does not increase. Steps that would
        raise it are replaced by the damped one.
    batched : bool
        Whether axis 0 holds independent problems.
    callback : callable, optional
        ``callback(state)`` after each iteration, with ``n_iter``, ``x`` and ``residual``; returning True stops.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    FixedPointResult
        ``x``, ``converged``, ``n_iter``, ``n_fev``, ``residual``, ``history`` and ``converged_mask``.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range, and if `func` or `merit` returns the wrong shape.

    Warns
    -----
    ConvergenceWarning
        If a row did not converge: the iterations were used up, or `func` returned non-finite values at a damped step.
        The row then holds its last finite iterate.

    Notes
    -----
    The safeguard: an iterate of Anderson or Broyden whose residual is more than twice the least of the row's last five,
    or not finite, is dropped; the row goes back, takes the damped step and begins its history anew. With `merit`, that
    test is made only near a solution (a residual below ``1e-5 max|x|``, float32 ``1e-3``), where differences of the
    merit are rounding; farther away the merit must not rise by more than 1e-9 (1e-5) of its size.

    Pairs are scaled to one length before the normal equations are formed, so that `reg` does not silence the newest
    ones when convergence is fast. Broyden's step is the compact form of the limited-memory update [2]_.

    References
    ----------
    .. [1] H. F. Walker and P. Ni, "Anderson Acceleration for Fixed-Point Iterations", SIAM Journal on Numerical
       Analysis, 2011, Algorithm AA.
    .. [2] R. H. Byrd, J. Nocedal and R. B. Schnabel, "Representations of Quasi-Newton Matrices and their Use in Limited
       Memory Methods", Mathematical Programming, 1994, Theorem 6.2.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.fixed_point import fixed_point
    >>> result = fixed_point(np.cos, 1.0, tol=1e-12)
    >>> result.converged, float(np.round(result.x, 12))
    (True, 0.739085133215)
    >>> result.n_iter < fixed_point(np.cos, 1.0, tol=1e-12, method="picard").n_iter / 5
    True
    """
    rows = Rows(x0, batched)
    as_function(func, "func")
    as_choice(method, "method", METHODS)
    damping = as_number(damping, "damping", above=0, below=np.nextafter(1, 2))
    values = None
    if merit is not None:
        as_function(merit, "merit")
        values = lambda X: rows.values(merit(rows.points(X)), "merit")  # noqa: E731
    return iterate(
        lambda X: rows.rows(func(rows.points(X)), "func"),
        rows,
        name="fixed_point",
        tol=tol,
        max_iter=max_iter,
        secants=make_secants(rows, method, memory=memory, damping=damping, reg=reg),
        damping=damping,
        merit=values,
        advice='Try method="anderson" or a smaller damping.' if method == "picard" else "",
        callback=callback,
        verbose=verbose,
    )


def make_secants(
    rows: Rows, method: str, *, memory: int = 5, damping: float = 1.0, reg: float | None = None
) -> Secants | None:
    """What extrapolates for `method`; nothing for Picard."""
    kind = METHODS[method]
    memory = as_count(memory, "memory")
    if reg is None:
        reg = 1e-6 if eps_of(rows.start) > 1e-10 else 1e-10
    reg = as_number(reg, "reg", above=0, closed=True)
    if kind is None:
        return None
    return kind(memory=min(memory, max(1, rows.start.shape[1])), damping=damping, reg=reg)
