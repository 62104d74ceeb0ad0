"""Nearest points of convex sets (and of two that are not), for each vector along the last axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import device

from numcore.arrays import Array, array_namespace, as_count, as_floating, as_number, as_out
from numcore.prox._elementwise import _check_broadcast
from numcore.prox._loops import simplex_rows, top_k_rows

__all__ = [
    "project_box",
    "project_l1_ball",
    "project_l2_ball",
    "project_linf_ball",
    "project_metric_ball",
    "project_nonnegative",
    "project_psd",
    "project_simplex",
    "project_spectrahedron",
    "project_top_k",
    "project_unit_rows",
]


def project_simplex(v: Any, radius: Any = 1.0, *, out: Array | None = None) -> Array:
    r"""Project on the simplex ``{x >= 0, sum x = radius}``.

    .. math:: x_i = \max(v_i - \theta, 0), \qquad \theta = (\sum_{i \le k} u_i - radius) / k

    with u the entries of v in descending order and k the largest for which ``u_k > theta``.

    Parameters
    ----------
    v : (..., d) array_like, real
        Vectors along the last axis.
    radius : float or (...) array_like, positive
        The mass; an array holds one for each vector.
    out : array, optional
        Where to put the result: shape and dtype of the result. It may be `v` itself.

    Returns
    -------
    (..., d) array
        float32 for float32, else float64. It is `out` where that is given.

    Raises
    ------
    TypeError
        If an argument is complex or no number.
    ValueError
        If `v` is not finite, 0-d or empty along its last axis, `radius` is not positive and finite, or shapes do not
        match. `out` is untouched then.

    Notes
    -----
    Works on ``v - max(v)``, so entries of any size keep a support. Under Numba no sort is made but Condat's filter
    [2]_, of linear time in practice.

    References
    ----------
    .. [1] M. Held, P. Wolfe, H. Crowder, "Validation of subgradient optimization", Math. Programming 6, 1974.
    .. [2] L. Condat, "Fast projection onto the simplex and the l1 ball", Math. Programming 158, 2016.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_simplex([1.0, 0.8, 0.1, -0.5])
    array([0.6, 0.4, 0. , 0. ])
    """
    v = _vectors(v)
    return _by_rows(simplex_rows, v, _radius(radius, v), out)


def project_l1_ball(v: Any, radius: Any = 1.0, *, out: Array | None = None) -> Array:
    """Project on the ball ``{sum |x| <= radius}``.

    Parameters
    ----------
    v, radius, out
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`project_simplex`.

    References
    ----------
    .. [1] J. Duchi, S. Shalev-Shwartz, Y. Singer, T. Chandra, "Efficient projections onto the l1-ball for learning in
       high dimensions", ICML 2008.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_l1_ball([2.0, -1.0, 0.25])
    array([1., 0., 0.])
    """
    v = _vectors(v)
    return _delivered(l1_ball(v, _radius(radius, v)), v, out)


def project_l2_ball(v: Any, radius: Any = 1.0, *, out: Array | None = None) -> Array:
    """Project on the ball ``{|x|_2 <= radius}``.

    Parameters
    ----------
    v, radius, out
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`project_simplex`.

    References
    ----------
    .. [1] A. Beck, "First-Order Methods in Optimization", SIAM, 2017, Lemma 6.26.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_l2_ball([3.0, 4.0])
    array([0.6, 0.8])
    """
    v = _vectors(v)
    xp, x = array_namespace(v), _double(v)
    r = _radius(radius, v)[..., None]
    scale, unit, length = _polar(x)
    # r and the scale may lie 600 powers of ten apart: neither product is formed unless it is the smaller
    with np.errstate(over="ignore"):
        outside = length > r / scale
    return _delivered(xp.where(outside, r * (unit / length), x), v, out)


def project_linf_ball(v: Any, radius: Any = 1.0, *, out: Array | None = None) -> Array:
    """Project on the cube ``{max |x| <= radius}``.

    Parameters
    ----------
    v, radius, out
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`project_simplex`.

    References
    ----------
    .. [1] A. Beck, "First-Order Methods in Optimization", SIAM, 2017, Lemma 6.26.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_linf_ball([3.0, -0.5])
    array([ 1. , -0.5])
    """
    v = _vectors(v)
    r = _radius(radius, v)[..., None]
    return _delivered(_clip(_double(v), -r, r), v, out)


def project_box(v: Any, low: Any, high: Any, *, out: Array | None = None) -> Array:
    """Project on the box ``{low <= x <= high}``.

    Parameters
    ----------
    v : array_like, real
    low, high : float or array_like
        The bounds, broadcast against `v`; infinite ones are none.
    out : array, optional
        As for :func:`project_simplex`.

    Returns
    -------
    array
        The shape of `v`.

    Raises
    ------
    TypeError
        If an argument is complex or no number.
    ValueError
        If `v` is not finite, a bound is NaN, a lower bound is inf or above the upper one, or an upper one is -inf.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_box([-1.0, 0.5, 9.0], 0.0, [1.0, 1.0, float("inf")])
    array([0. , 0.5, 9. ])
    """
    v = as_floating(v, "v")
    xp = array_namespace(v)
    low, high = (
        as_floating(bound, name, like=v, dtype=xp.float64, infinite="allow")
        for bound, name in ((low, "low"), (high, "high"))
    )
    for bound, name in ((low, "low"), (high, "high")):
        _check_broadcast(bound, name, tuple(v.shape))
    _check_bounds(low, high)
    return _delivered(_clip(_double(v), low, high), v, out)


def project_nonnegative(v: Any, *, out: Array | None = None) -> Array:
    """Project on ``{x >= 0}``.

    Parameters
    ----------
    v : array_like, real
    out : array, optional
        As for :func:`project_simplex`.

    Returns
    -------
    array
        The shape of `v`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`project_simplex`, but `v` may be 0-d or empty.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_nonnegative([-1.0, 2.0])
    array([0., 2.])
    """
    v = as_floating(v, "v")
    xp = array_namespace(v)
    return _delivered(xp.where(v > 0, v, xp.zeros_like(v)), v, out)


def project_top_k(v: Any, k: int, *, out: Array | None = None) -> Array:
    """Project on the vectors with at most k entries other than 0: keep the k largest magnitudes.

    Parameters
    ----------
    v : (..., d) array_like, real
    k : int
        Entries to keep, at least 0; from d on, all stay. Of equal magnitudes those with the lowest index stay.
    out : array, optional
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`project_simplex`; also if `k` is no integer or negative.

    References
    ----------
    .. [1] T. Blumensath, M. E. Davies, "Iterative hard thresholding for compressed sensing", Appl. Comput. Harmon.
       Anal. 27(3), 2009.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_top_k([1.0, -3.0, 1.0, 2.0], 3)
    array([ 1., -3.,  0.,  2.])
    """
    v = _vectors(v)
    return _by_rows(top_k_rows, v, min(as_count(k, "k", minimum=0), v.shape[-1]), out)


def project_unit_rows(v: Any, *, out: Array | None = None) -> Array:
    """Project each vector on the unit sphere.

    Parameters
    ----------
    v : (..., d) array_like, real
        Of any magnitude. For 0, to which all unit vectors are equally near, the first of the axes is taken.
    out : array, optional
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError, ValueError
        As for :func:`project_simplex`.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_unit_rows([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [1. , 0. ]])
    """
    v = _vectors(v)
    xp, x = array_namespace(v), _double(v)
    _, unit, length = _polar(x)
    first = xp.astype(xp.arange(x.shape[-1], device=device(x)) == 0, xp.float64)
    return _delivered(xp.where(xp.any(x != 0, axis=-1, keepdims=True), unit / length, first), v, out)


def project_psd(M: Any, *, out: Array | None = None) -> Array:
    """Project symmetric matrices on the positive semidefinite cone, in the Frobenius norm.

    Parameters
    ----------
    M : (..., d, d) array_like, real
        The symmetric part is what counts: it is nearest to a matrix that is not symmetric.
    out : array, optional
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d, d) array

    Raises
    ------
    TypeError
        If `M` is complex or no number.
    ValueError
        If `M` is not finite or not square.

    References
    ----------
    .. [1] N. J. Higham, "Computing a nearest symmetric positive semidefinite matrix", Linear Algebra Appl. 103, 1988.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_psd([[1.0, 0.0], [0.0, -1.0]])
    array([[1., 0.],
           [0., 0.]])
    """
    M = _matrices(M)
    xp = array_namespace(M)
    values, vectors = xp.linalg.eigh(_symmetric(_double(M)))
    kept = xp.where(values > 0, values, xp.zeros_like(values))
    return _delivered(_composed(kept, vectors), M, out)


def project_spectrahedron(M: Any, trace: Any = 1.0, *, out: Array | None = None) -> Array:
    """Project symmetric matrices on ``{X positive semidefinite, tr X = trace}``, in the Frobenius norm.

    Parameters
    ----------
    M : (..., d, d) array_like, real
        The symmetric part is what counts.
    trace : float, positive
    out : array, optional
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d, d) array

    Raises
    ------
    TypeError
        If `M` is complex or no number.
    ValueError
        If `M` is not finite or not square, or `trace` is not positive.

    Notes
    -----
    The eigenvalues are projected on the simplex.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_spectrahedron([[1.0, 0.0], [0.0, 0.5]])
    array([[0.75, 0.  ],
           [0.  , 0.25]])
    """
    M = _matrices(M)
    if M.shape[-1] == 0:
        raise ValueError(f"M must not be empty; got shape {tuple(M.shape)}")
    trace = as_number(trace, "trace", above=0)
    values, vectors = array_namespace(M).linalg.eigh(_symmetric(_double(M)))
    return _delivered(_composed(project_simplex(values, trace), vectors), M, out)


def project_metric_ball(v: Any, H: Any, radius: float = 1.0, *, out: Array | None = None) -> Array:
    r"""Project on the Euclidean ball in the metric of H: ``argmin_{|x|_2 <= radius} (x - v)^T H (x - v)``.

    .. math:: (H + \mu I)\, x = H v, \qquad |x|_2 = radius

    Parameters
    ----------
    v : (..., d) array_like, real
    H : (d, d) array_like, symmetric positive definite
    radius : float, positive
    out : array, optional
        As for :func:`project_simplex`.

    Returns
    -------
    (..., d) array

    Raises
    ------
    TypeError
        If an argument is complex or no number.
    ValueError
        If `v` or `H` is not finite, `H` is not symmetric (to 1e-8) and positive definite of fitting shape, or `radius`
        is not positive.

    Notes
    -----
    After one eigendecomposition, Newton's method on ``1 / |x(mu)|``, which is concave and nearly linear in mu; it is
    skipped for vectors within the ball.

    References
    ----------
    .. [1] J. J. Moré, D. C. Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput. 4(3), 1983.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.project_metric_ball([2.0, 2.0], [[1.0, 0.0], [0.0, 4.0]]).round(4)
    array([0.359 , 0.9333])
    """
    v = _vectors(v)
    xp, d = array_namespace(v), v.shape[-1]
    H = as_floating(H, "H", shape=(d, d), like=v, dtype=xp.float64)
    _check_symmetric(H)
    radius = as_number(radius, "radius", above=0)
    values, vectors = xp.linalg.eigh(_symmetric(H))
    if float(xp.min(values)) <= 0:
        raise ValueError(f"H must be positive definite; its least eigenvalue is {float(xp.min(values)):g}")
    return _delivered(on_metric_ball(v, values, vectors, radius), v, out)


def on_metric_ball(v: Array, values: Array, vectors: Array, radius: float) -> Array:
    """The same, by the eigenvalues and eigenvectors of H, in double precision."""
    xp = array_namespace(v)
    rows = xp.reshape(_double(v), (-1, v.shape[-1]))
    scale = xp.max(xp.stack([xp.max(abs(rows), axis=1), xp.full((rows.shape[0],), radius, dtype=xp.float64)]), axis=0)
    moved, inside = _onto_sphere(xp, (rows / scale[:, None]) @ vectors, values / xp.max(values), radius / scale)
    result = xp.where(inside, rows, scale[:, None] * (moved @ vectors.T))
    return xp.astype(xp.reshape(result, v.shape), v.dtype, copy=False)


def _onto_sphere(xp: Any, c: Array, h: Array, radius: Array) -> tuple[Array, Array]:
    """``h c / (h + mu)`` for the mu that brings each row to its radius; and which rows are within it already."""
    inside = xp.sqrt(xp.sum(c * c, axis=1, keepdims=True)) <= radius[:, None]
    mu = xp.zeros_like(inside, dtype=xp.float64)
    x = c
    for _ in range(100):
        x = h * c / (h + mu)
        norm = xp.sqrt(xp.sum(x * x, axis=1, keepdims=True))
        norm = xp.where(inside, xp.ones_like(norm), norm)
        # Newton on 1/norm - 1/radius, from the left: norm' = -sum x^2 / (h + mu) / norm
        slope = xp.sum(x * x / (h + mu), axis=1, keepdims=True) / norm
        move = (norm / radius[:, None] - 1) * norm / xp.where(slope > 0, slope, xp.ones_like(slope))
        move = xp.where(inside, xp.zeros_like(move), move)
        mu = mu + move
        if not bool(xp.any(abs(move) > 1e-15 * mu)):
            break
    x = h * c / (h + mu)
    norm = xp.sqrt(xp.sum(x * x, axis=1, keepdims=True))
    return x * (radius[:, None] / xp.where(norm > 0, norm, xp.ones_like(norm))), inside


def l1_ball(v: Array, radius: Array) -> Array:
    """Projection on l1 balls of checked, non-negative radii, in float64."""
    xp, x = array_namespace(v), _double(v)
    a = abs(x)
    top = xp.max(a, axis=-1, keepdims=True)
    safe = xp.where(top > 0, top, xp.ones_like(top))
    with np.errstate(over="ignore"):
        within = xp.sum(a / safe, axis=-1, keepdims=True) <= radius[..., None] / safe
    shrunk = _by_rows(simplex_rows, a, radius, None)
    return xp.where(within, x, xp.where((x < 0) & (shrunk > 0), -shrunk, shrunk))


def _vectors(v: Any, name: str = "v") -> Array:
    v = as_floating(v, name)
    if v.ndim == 0 or v.shape[-1] == 0:
        raise ValueError(f"{name} must hold vectors along its last axis, not empty; got shape {tuple(v.shape)}")
    return v


def _matrices(M: Any, name: str = "M") -> Array:
    M = as_floating(M, name)
    if M.ndim < 2 or M.shape[-1] != M.shape[-2]:
        raise ValueError(f"{name} must be square; got shape {tuple(M.shape)}")
    return M


def _check_bounds(low: Array, high: Array) -> None:
    xp = array_namespace(low, high)
    crossed = int(xp.count_nonzero(low > high))
    if crossed:
        raise ValueError(f"low must not be above high; {crossed} of its entries are")
    if bool(xp.any(low == xp.inf)) or bool(xp.any(high == -xp.inf)):
        raise ValueError("low must be below inf, and high above -inf: the box is empty")


def _check_symmetric(H: Array) -> None:
    xp = array_namespace(H)
    worst, size = float(xp.max(abs(H - H.T))), float(xp.max(abs(H)))
    if worst > 1e-8 * size:
        raise ValueError(f"H must be symmetric; its largest asymmetry is {worst:g}")


def _radius(radius: Any, v: Array, name: str = "radius", *, zero: bool = False) -> Array:
    """Radii as a float64 array of the shape of `v` without its last axis."""
    xp = array_namespace(v)
    r: Any
    if getattr(radius, "ndim", 0) == 0 and not isinstance(radius, (list, tuple)):
        r = as_number(radius, name, above=0, closed=zero)
        return xp.full(v.shape[:-1], r, dtype=xp.float64, device=device(v))
    r = as_floating(radius, name, like=v, dtype=xp.float64)
    bad = int(xp.count_nonzero(r < 0 if zero else r <= 0))
    if bad:
        raise ValueError(
            f"{name} must be {'non-negative' if zero else 'positive'}; {bad} of its {r.size} entries are not"
        )
    _check_broadcast(r, name, tuple(v.shape[:-1]))
    return xp.broadcast_to(r, v.shape[:-1])


def _by_rows(loop: Any, v: Array, parameter: Any, out: Array | None) -> Array:
    """A row loop along the last axis of `v`, into `out`."""
    xp = array_namespace(v)
    shape = (math.prod(v.shape[:-1]), v.shape[-1])
    if hasattr(parameter, "shape"):
        parameter = xp.reshape(parameter, (shape[0],))
    rows = xp.reshape(v, shape)
    target = xp.empty_like(rows)
    result = xp.reshape(loop(rows, parameter, target), v.shape)
    return result if out is None else _delivered(result, v, out)


def _delivered(result: Array, v: Array, out: Array | None) -> Array:
    """`result` in the dtype of `v`, its zeros +0.0, in `out` where that is given."""
    result = array_namespace(v).astype(result, v.dtype, copy=False) + 0.0
    if out is None:
        return result
    out = as_out(out, v)
    out[...] = result
    return out


def _double(v: Array) -> Array:
    xp = array_namespace(v)
    return xp.astype(v, xp.float64, copy=False)


def _clip(x: Array, low: Array, high: Array) -> Array:
    return array_namespace(x).minimum(array_namespace(x).maximum(x, low), high)


def _polar(x: Array) -> tuple[Array, Array, Array]:
    """The largest magnitude s of each vector, ``x / s``, and the norm of that; for a vector of zeros 1, 0 and 1."""
    xp = array_namespace(x)
    top = xp.max(abs(x), axis=-1, keepdims=True)
    top = xp.where(top > 0, top, xp.ones_like(top))
    unit = x / top
    length = xp.sqrt(xp.sum(unit * unit, axis=-1, keepdims=True))
    return top, unit, xp.where(length > 0, length, xp.ones_like(length))


def _symmetric(M: Array) -> Array:
    xp = array_namespace(M)
    return (M + xp.matrix_transpose(M)) / 2


def _composed(values: Array, vectors: Array) -> Array:
    """``V diag(values) V^T``, exactly symmetric."""
    xp = array_namespace(values)
    return _symmetric((vectors * values[..., None, :]) @ xp.matrix_transpose(vectors))
