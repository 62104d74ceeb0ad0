"""Least squares under simple constraints, solved on the compressed problem and corrected by the data."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize

from numcore import prox
from numcore.algorithms.sketching._factor import UNIT, Parts, as_rows, factor_of, gradient_beside, intercepts
from numcore.algorithms.sketching._rows import Rows
from numcore.algorithms.sketching._setup import Matrix, _cached, _powers
from numcore.arrays import as_choice, as_floating, as_number, as_rng
from numcore.results import Callback, Loop, Result

__all__ = ["ConstrainedResult", "constrained_lstsq"]

CONSTRAINTS = ("nonneg", "box", "l1", "simplex")

CORRECTIONS = 1
"""Refinements by the data, of what is as good as by QR already."""

SETTLED = 20
"""Iterations after which an unchanged support is tried for the final one."""

TRIED = 100
"""Iterations after which any support is."""


@dataclass(frozen=True, repr=False, eq=False)
class ConstrainedResult(Result):
    """What :func:`constrained_lstsq` returns.

    Attributes
    ----------
    x : (d,) array
        float32 if `A` and `b` are, else float64.
    residual_norm : float
        ``|A x - b|``.
    gap : float
        A bound on how far ``|A x - b|^2 / 2`` is above its minimum.
    active : (d,) array of bool
        Where x is at a bound; for "l1" and "simplex", where it is zero.
    converged : bool
    n_iter : int
        Iterations of the projected method, and corrections by the data.
    """

    x: np.ndarray[Any, Any]
    residual_norm: float
    gap: float
    active: np.ndarray[Any, Any]
    converged: bool
    n_iter: int


def constrained_lstsq(
    A: Any,
    b: Any,
    *,
    constraint: str = "nonneg",
    radius: float = 1.0,
    bounds: Any = None,
    tol: float = 1e-10,
    max_iter: int = 5000,
    sample_weight: Any = None,
    callback: Callback | None = None,
    verbose: int = 0,
    rng: Any = None,
) -> ConstrainedResult:
    r"""Minimise :math:`\|A x - b\|` over a box, an l1 ball or a simplex.

    The rows are compressed to a square problem with the same objective. "nonneg" and "box" are solved on it by SciPy's
    active-set methods, and the free coordinates are then refined by reads of A. "l1" and "simplex" are solved by an
    accelerated projected gradient method; once the support is settled, a solve on it ends the matter.

    Parameters
    ----------
    A : (n, d) array_like, sparse matrix, dask array, or callable
        As for :func:`lstsq`.
    b : (n,) array_like
        None where A is a callable.
    constraint : {"nonneg", "box", "l1", "simplex"}
        ``x >= 0``; ``low <= x <= high``; ``sum |x| <= radius``; ``x >= 0, sum x = radius``.
    radius : float
        Of the ball or simplex.
    bounds : (low, high)
        Of the box: numbers or (d,) arrays; infinite ones are open.
    tol : float
        Converged when the gap is at most ``tol |b|^2 / 2``.
    max_iter : int
        Iterations at most.
    sample_weight : (n,) array_like, optional
        Weights of the rows' squares.
    callback : callable, optional
        For "l1" and "simplex": ``callback(state)`` after each iteration, with ``x``, ``n_iter`` and ``gap``; returning
        True stops.
    verbose : int
        1 shows progress.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes. The result depends on it by rounding alone.

    Returns
    -------
    ConstrainedResult

    Raises
    ------
    ValueError, TypeError
        If shapes or options do not fit, bounds cross, or entries are not finite.

    Warns
    -----
    ConvergenceWarning
        If the gap is larger than asked for in the end.

    References
    ----------
    .. [1] C. Lawson and R. Hanson, "Solving Least Squares Problems", 1974, chapter 23.
    .. [2] A. Beck and M. Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", SIIMS 2009; with the restarts
       of B. O'Donoghue and E. Candes, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import constrained_lstsq
    >>> A = np.random.default_rng(0).standard_normal((1000, 4))
    >>> b = A @ np.array([1.0, -1.0, 2.0, 0.5])
    >>> constrained_lstsq(A, b, rng=0).active
    array([False,  True, False, False])
    >>> result = constrained_lstsq(A, b, constraint="simplex", rng=0)
    >>> result.converged, bool(np.isclose(result.x.sum(), 1))
    (True, True)
    """
    as_choice(constraint, "constraint", CONSTRAINTS)
    radius = as_number(radius, "radius", above=0)
    tol = as_number(tol, "tol", above=0, closed=True)
    if (bounds is not None) != (constraint == "box"):
        raise ValueError(f"bounds must be given for constraint 'box' alone; got {bounds!r} for {constraint!r}")
    rows = as_rows(A, b, sample_weight)
    if not rows.k or not rows.single:
        raise ValueError(f"b must be 1-D; got {'None' if not rows.k else f'shape {(rows.n, rows.k)}'}")
    low, high = _bounds(bounds if constraint == "box" else (0.0, np.inf), rows.d)
    loop = Loop(
        "constrained_lstsq", tol=tol, max_iter=max_iter, callback=callback, verbose=verbose, residual="relative_gap"
    )
    parts = factor_of(rows, rng=as_rng(rng)).parts()
    square = Square.of(parts)
    if constraint in ("nonneg", "box"):
        x, norms, _ = boxed(rows, parts, low, high)
        z = x[:, 0] / square.unit
        gap, active = box_gap(square, z, low / square.unit, high / square.unit), (x[:, 0] <= low) | (x[:, 0] >= high)
        residual = float(norms[0])
        for _ in loop.stage(max_iter=1):
            # what was found by active sets is exact but for rounding
            loop.report(gap / square.worth, done=gap <= 1e-12 * square.worth, state=functools.partial(_state, x[:, 0]))
        loop.n_iter = CORRECTIONS
    else:
        z, gap = projected(square, constraint, radius / square.unit, loop)
        x, active = (z * square.unit)[:, None], z == 0
        residual = float(np.linalg.norm(square.T @ z - square.c[:, 0]) ** 2 + square.rest[0]) ** 0.5 * square.scale_b
    loop.finish("Is A close to rank-deficient? Then take a larger max_iter or tol.")
    return ConstrainedResult(
        x=x[:, 0].astype(rows.dtype),
        residual_norm=residual,
        gap=square.unscaled(gap),
        active=active,
        converged=loop.converged,
        n_iter=loop.n_iter,
    )


def _bounds(bounds: Any, d: int) -> tuple[Matrix, Matrix]:
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise ValueError(f"bounds must be a pair (low, high); got {bounds!r}") from None
    checked = []
    for given, name in ((low, "low"), (high, "high")):
        value = as_floating(given, f"{name} of bounds", ndim=(0, 1), dtype=np.float64, infinite="allow")
        if value.ndim and value.shape != (d,):
            raise ValueError(f"{name} of bounds must be a number or have shape ({d},); got {tuple(value.shape)}")
        checked.append(np.broadcast_to(value, d))
    crossed = int(np.count_nonzero((checked[0] > checked[1]) | (checked[0] == np.inf) | (checked[1] == -np.inf)))
    if crossed:
        raise ValueError(f"bounds must satisfy low <= high; {crossed} of {d} do not")
    return checked[0], checked[1]


@dataclass(frozen=True)
class Square:
    """The square problem ``|T z - c|^2 + rest`` in units in which squares are safe; x is `unit` times z."""

    T: Matrix
    c: Matrix
    rest: Matrix
    scale: float
    scale_b: float

    @classmethod
    def of(cls, parts: Parts) -> Square:
        """That of a factor; a row of zeros stands for no row."""
        T, c = parts.T, parts.c
        if not len(T):
            T, c = np.zeros((1, T.shape[1])), np.zeros((1, c.shape[1]))
        scale = _powers(np.abs(T).max(axis=0), uniform=True)
        tops = np.abs(np.vstack([c, parts.norms])).max(axis=(0, 1), keepdims=True)[0]
        scale_b = _powers(tops, uniform=True)
        by, by_b = 1.0 if scale is None else float(scale[0]), 1.0 if scale_b is None else float(scale_b[0])
        return cls(T / by, c / by_b, (parts.norms / by_b) ** 2, by, by_b)

    @property
    def unit(self) -> float:
        return self.scale_b / self.scale

    def unscaled(self, gap: float) -> float:
        """A gap at the scale of b."""
        return gap * self.scale_b * self.scale_b

    @property
    def worth(self) -> float:
        """The objective at zero, which gaps are measured by; 1 where it is zero."""
        return float(np.sum(self.c**2) + np.sum(self.rest)) / 2 or 1.0


# A box


def boxed(rows: Rows, parts: Parts, low: Matrix, high: Matrix) -> tuple[Matrix, Matrix, float]:
    """The solution in a box for each right-hand side, the norms of its residuals, and its backward error where free.

    Where bounds do not bind, it is corrected by reads of A if that error is above rounding, as unconstrained solutions
    are: by ``(T_F^T T_F)^-1 A_F^T (b - A x)`` for the free columns F.
    """
    square = Square.of(parts)
    low, high = low / square.unit, high / square.unit
    z = np.stack([box_solution(square.T, c, low, high) for c in square.c.T], axis=1)
    units = replace(
        parts.setup(0.0), scale=None if square.scale == 1 else np.full(rows.d, square.scale), scale_b=square.scale_b
    )
    centre, size = parts.x_offset[:, None] / square.scale, parts.sizes(units)
    free = [np.flatnonzero((low < column) & (column < high)) for column in z.T]
    setups = [
        replace(parts, T=square.T[:, F], weight=0.0, x_offset=np.zeros(F.size)).setup(1e-15) if F.size else None
        for F in free
    ]
    spread = parts.spread()
    for step in range(CORRECTIONS + 1):
        t = intercepts(parts, units, z)
        squares, g, g_t = rows.fold(functools.partial(gradient_beside, units, z, t), _cached(rows))
        g, error, moved = g - centre * g_t, 0.0, z.copy()
        for j, (F, setup) in enumerate(zip(free, setups, strict=True)):
            if setup is None:
                continue
            one, scale = slice(j, j + 1), np.ones((F.size, 1)) if setup.scale is None else setup.scale[:, None]
            p = setup.factors.P.T @ (g[F, one] / scale)
            error = max(error, setup.backward_error(z[F, one] * scale, squares[one], p, size[one]))
            if step < CORRECTIONS:
                moved[F, j] = np.clip(z[F, j] + (setup.factors.P @ p / scale)[:, 0], low[F], high[F])
        if error <= UNIT * spread:
            break
        z = moved
    return z * square.unit, np.sqrt(squares) * square.scale_b, error / spread


def box_solution(T: Matrix, c: Matrix, low: Matrix, high: Matrix) -> Matrix:
    """The minimiser of ``|T z - c|`` in a box, by active sets; columns are scaled to one length."""
    norms = np.linalg.norm(T, axis=0)
    D = np.where(norms > 0, norms, 1.0)
    if not low.any() and np.isposinf(high).all():
        try:
            return np.asarray(scipy.optimize.nnls(T / D, c)[0] / D)
        except RuntimeError:  # too many changes of the active set
            pass
    z, free = np.array(low), low < high
    if free.any():
        M, target = T[:, free] / D[free], c - T[:, ~free] @ low[~free]
        found = scipy.optimize.lsq_linear(
            M, target, (low[free] * D[free], high[free] * D[free]), method="bvls", tol=1e-15, max_iter=10 * len(D)
        )
        inside = np.clip(found.x / D[free], low[free], high[free])
        z[free] = np.where(found.active_mask < 0, low[free], np.where(found.active_mask > 0, high[free], inside))
    return z


def box_gap(square: Square, z: Matrix, low: Matrix, high: Matrix) -> float:
    """A bound on ``f(z) - min f``: the slope towards the bounds, and what an open direction can bring at most.

    For v the slopes towards infinite bounds, the latter is ``max_s v s - |T s|^2 / 2 = |T^-T v|^2 / 2``.
    """
    g = square.T.T @ (square.T @ z - square.c[:, 0])
    room = np.where(g > 0, z - low, high - z)
    closed = np.isfinite(room)
    v = np.where(closed, 0.0, g)
    gap = float(np.sum(np.abs(g[closed]) * room[closed]))
    if v.any():
        D = np.maximum(np.linalg.norm(square.T, axis=0), 1e-300)
        gap += float(np.linalg.norm(np.linalg.lstsq((square.T / D).T, v / D, rcond=1e-14)[0])) ** 2 / 2
    return gap


# A ball or a simplex


def projected(square: Square, constraint: str, radius: float, loop: Loop) -> tuple[Matrix, float]:
    """The accelerated projected gradient method with restarts, until a solve on the support is optimal."""
    T, c = square.T, square.c[:, 0]
    project = functools.partial(prox.project_l1_ball if constraint == "l1" else prox.project_simplex, radius=radius)
    L = np.linalg.norm(T, 2) ** 2 or 1.0
    z: Matrix = np.asarray(np.linalg.lstsq(T, c, rcond=1e-15)[0], np.float64)
    z = z if constraint == "l1" and np.abs(z).sum() <= radius else project(z)
    gap = ball_gap(square, z, constraint, radius)
    y, theta, still = z, 1.0, 0
    for _ in loop.stage(error=gap / square.worth):
        new = project(y - T.T @ (T @ y - c) / L)
        if (y - new) @ (new - z) > 0:  # the momentum leads uphill
            theta = 1.0
        still = still + 1 if np.array_equal(np.sign(new), np.sign(z)) else 0
        grown = (1 + (1 + 4 * theta * theta) ** 0.5) / 2
        y, z, theta = new + (theta - 1) / grown * (new - z), new, grown
        gap = ball_gap(square, z, constraint, radius)
        if still >= SETTLED or loop.n_iter % TRIED == TRIED - 1:
            still = 0
            ended = on_support(square, z, radius)
            if np.linalg.norm(T @ ended - c) < np.linalg.norm(T @ z - c):
                y, z, theta, gap = ended, ended, 1.0, ball_gap(square, ended, constraint, radius)
        loop.report(gap / square.worth, gap=square.unscaled(gap), state=functools.partial(_state, z * square.unit))
    return z, gap


def _state(x: Matrix) -> dict[str, Any]:
    return {"x": x}


def ball_gap(square: Square, z: Matrix, constraint: str, radius: float) -> float:
    """A bound on ``f(z) - min f``: how far f can fall along its slope within the set."""
    g = square.T.T @ (square.T @ z - square.c[:, 0])
    lowest = -np.abs(g).max() if constraint == "l1" else g.min()
    return max(float(g @ z - radius * lowest), 0.0)


def on_support(square: Square, z: Matrix, radius: float) -> Matrix:
    """The minimiser among vectors with the signs of z and the l1 norm `radius`; entries that would change sign go."""
    out = np.array(z)
    while out.any():
        S = np.flatnonzero(out)
        signs = np.sign(out[S])
        here = out[S] * (radius / np.abs(out).sum())
        # a basis of the directions that leave the norm as it is
        N = scipy.linalg.qr(signs[:, None])[0][:, 1:]
        M = square.T[:, S]
        step = N @ np.linalg.lstsq(M @ N, square.c[:, 0] - M @ here, rcond=1e-15)[0] if S.size > 1 else 0.0 * here
        crossed = (here + step) * signs < 0
        if not crossed.any():
            out[S] = here + step
            break
        reach = np.where(crossed, -here / np.where(crossed, step, 1.0), np.inf)
        out[S] = here + step * reach.min()
        out[S[reach <= reach.min()]] = 0.0
    return out
