"""The fast Walsh-Hadamard transform."""

from __future__ import annotations

from typing import Any

from numcore.arrays import Array, array_namespace, as_choice, as_count, as_floating, is_numpy
from numcore.dispatch import dispatchable

__all__ = ["hadamard_columns", "walsh_hadamard"]


def walsh_hadamard(x: Any, *, axis: int = 0, copy: bool = True) -> Array:
    r"""Multiply by the Hadamard matrix of signs :math:`H_{ij} = (-1)^{\mathrm{popcount}(i\,\&\,j)}` along an axis.

    H is ``scipy.linalg.hadamard(N)`` (Sylvester's order), symmetric, and ``H H = N I``: divide by ``sqrt(N)`` for an
    orthonormal transform. It takes N log2 N additions.

    Parameters
    ----------
    x : array_like, real, at least 1-D
        Its length N along `axis` must be a power of two.
    axis : int
        The axis to transform.
    copy : bool
        Whether to leave `x` as it is. If not, it must be a writeable array of float32 or float64, and is overwritten;
        for NumPy arrays in C order and axis 0 no memory of its size is used then.

    Returns
    -------
    array
        The shape of `x`; float32 for float32, else float64. `x` itself unless `copy`.

    Raises
    ------
    TypeError
        If `x` is complex, an object array or text, or `axis` is no integer.
    ValueError
        If N is no power of two, entries are not finite, or `x` cannot be overwritten.

    References
    ----------
    .. [1] B. J. Fino and V. R. Algazi, "Unified Matrix Treatment of the Fast Walsh-Hadamard Transform", 1976.

    Examples
    --------
    >>> from numcore.linalg import walsh_hadamard
    >>> walsh_hadamard([1.0, 0.0, 1.0, 0.0])
    array([2., 2., 0., 0.])
    """
    given = x
    x = as_floating(x, "x")
    xp = array_namespace(x)
    as_choice(copy, "copy", (True, False))
    axis = as_count(axis, "axis", minimum=-x.ndim)
    if axis >= x.ndim:
        raise ValueError(f"axis must be below {x.ndim}, the number of dimensions of x; got {axis}")
    n = x.shape[axis]
    if n == 0 or n & (n - 1):
        raise ValueError(f"x must have a power of two entries along axis {axis}; got shape {tuple(x.shape)}")
    if not copy and (x is not given or (is_numpy(x) and not x.flags.writeable)):
        raise ValueError("x must be a writeable array of float32 or float64 to be overwritten (copy=False)")
    rows = xp.moveaxis(x, axis, 0)
    # owned, in C order, unless the caller's own memory already is
    own = copy or not is_numpy(x) or not rows.flags.c_contiguous
    work = xp.reshape(rows, (n, -1) if x.size else (n, 0))
    if own:
        work = work.copy(order="C") if is_numpy(work) else xp.asarray(work, copy=True)
    hadamard_columns(work)
    result = xp.moveaxis(xp.reshape(work, rows.shape), 0, axis)
    if copy:
        return result
    if own:
        x[...] = result
    return x


@dispatchable
def hadamard_columns(x: Array) -> None:
    """Transform the columns of x in place.

    Parameters
    ----------
    x : (n, d) array
        In C order; n a power of two. Unchecked.
    """
    xp = array_namespace(x)
    n, d = x.shape
    half = 1
    while half < n:
        # pairs of blocks of `half` rows; where the library has no views, the result is written back
        pairs = xp.reshape(x, (n // (2 * half), 2, half * d))
        low, high = pairs[:, 0, :], pairs[:, 1, :]
        x[...] = xp.reshape(xp.stack([low + high, low - high], axis=1), (n, d))
        half *= 2
