"""The inverse Fisher matrix of the latest gradients: O(d m) to move on by one, and O(d m) to apply."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.linalg

from numcore.algorithms.curvature._factor import Factor, is_singular
from numcore.algorithms.curvature._inverse import Dual
from numcore.algorithms.curvature._loops import combinations, descend, products
from numcore.algorithms.curvature._rows import ArrayRows
from numcore.arrays import as_choice, as_count, as_floating, as_number
from numcore.linalg._cholesky import rotate_rows

__all__ = ["SlidingFisher"]

Matrix = np.ndarray[Any, Any]

SLACK = 1e-6
"""How far below its bound a pivot may come out by rounding alone."""


class SlidingFisher:
    r"""The dampened empirical Fisher matrix of a window of gradients that moves, and its inverse.

    .. math:: F = \lambda I + \frac1c \sum_{i \in \mathrm{window}} g_i g_i^T

    The window is a ring: a new gradient takes the place of the oldest. The Cholesky factor of
    :math:`K = G G^T + c \lambda I` follows in O(m^2), by a rank-one update (stable rotations, never a downdate)
    and a new last row; G is read once.

    Parameters
    ----------
    dim : int
        The number of parameters d.
    window : int
        The number of gradients held at most.
    damp : float, default=1e-5
        The dampening, lambda above.
    normalize : {"capacity", "count"}
        The normaliser c: the window, as if the gradients still to come were zero; or the number of gradients held.
        With "capacity" and a small `damp` the first steps are up to `window` times longer.
    dtype : {numpy.float32, numpy.float64}
        In which gradients are held and results returned. Sums are taken in float64.
    refactor_every : int, default=64
        After that many gradients K is factored afresh from its entries.

    Attributes
    ----------
    dim, window : int
    damp : float
    normalize : str
    dtype : dtype
    scale : float
        The normaliser c as it is now; 1 at least.
    gradients : (len, d) array
        A copy, oldest first.
    nbytes : int
        What the arrays take.

    Raises
    ------
    ValueError, TypeError
        If `dim` or `window` is not a positive integer, `damp` is not positive, or an option is unknown.

    See Also
    --------
    EmpiricalFisher : The same for gradients that are all at hand.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic and D. Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order
       Information", NeurIPS 2021, section 3 (the dynamic algorithm; here by a factor that is updated).
    .. [2] P. E. Gill, G. H. Golub, W. Murray and M. A. Saunders, "Methods for Modifying Matrix Factorizations", 1974,
       method C3.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import SlidingFisher
    >>> F = SlidingFisher(3, window=2, damp=0.5, dtype=np.float64)
    >>> for g in np.eye(3):
    ...     F.push(g)
    >>> len(F), F.solve(np.ones(3))
    (2, array([2., 1., 1.]))
    >>> F.solve_last()
    array([0., 0., 1.])
    """

    def __init__(
        self,
        dim: int,
        window: int,
        *,
        damp: float = 1e-5,
        normalize: str = "capacity",
        dtype: Any = np.float32,
        refactor_every: int = 64,
    ) -> None:
        self.dim, self.window = as_count(dim, "dim"), as_count(window, "window")
        self.damp = as_number(damp, "damp", above=0.0)
        self.normalize = as_choice(normalize, "normalize", ("capacity", "count"))
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64; got {self.dtype}")
        self.refactor_every = as_count(refactor_every, "refactor_every")
        self._G = np.zeros((self.window, self.dim), self.dtype)
        self._K0 = np.zeros((self.window, self.window))  # physical rows
        self._R = np.eye(self.window)  # L^T, chronological; that of the identity where there is no row
        self._head = self._count = self._since = 0

    def __len__(self) -> int:
        """The number of gradients held."""
        return self._count

    @property
    def scale(self) -> float:
        """The normaliser c."""
        return float(self.window if self.normalize == "capacity" else max(self._count, 1))

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays."""
        return self._G.nbytes + self._K0.nbytes + self._R.nbytes

    @property
    def gradients(self) -> Matrix:
        """A copy of the gradients, oldest first."""
        return self._G[self._order()]

    def clear(self) -> None:
        """Forget all gradients."""
        self._R[:] = np.eye(self.window)
        self._head = self._count = self._since = 0

    # what changes the window

    def push(self, g: Any) -> None:
        """Take in a gradient; a full window lets the oldest go.

        Parameters
        ----------
        g : (d,) array

        Raises
        ------
        ValueError
            If `g` has another length, or it or its square is not finite. The window is then as it was.

        Warns
        -----
        RuntimeWarning
            If K is not positive definite in float64, since c lambda is below the rounding of G G^T.
        """
        g = self._vector(g, "g")
        with np.errstate(over="ignore"):
            if self.dtype == np.float64 and not np.isfinite(g @ g):
                raise ValueError("g must have a square that float64 can hold: entries below 1e150; scale it down")
        grows = self._count < self.window
        if not grows:
            self._forget()
        row = (self._head + self._count) % self.window
        self._G[row] = g
        self._count, self._since = self._count + 1, self._since + 1
        k = products(self._held, self._G[row])
        self._K0[row, : len(k)] = self._K0[: len(k), row] = k
        rescaled = grows and self.normalize == "count"
        if rescaled or self._since >= self.refactor_every or not self._border(self._count - 1):
            self._refactor()

    def pop(self) -> None:
        """Let the oldest gradient go.

        Raises
        ------
        IndexError
            If there is none.
        """
        if not self._count:
            raise IndexError("pop from a window that holds no gradients")
        row = self._head
        self._forget()
        self._G[row] = 0.0
        self._K0[row] = self._K0[:, row] = 0.0
        if self.normalize == "count":
            self._refactor()

    @property
    def _held(self) -> Matrix:
        """The physical rows up to the last that is held; any others among them are 0."""
        return self._G[: min(self._head + self._count, self.window)]

    def _order(self) -> Matrix:
        """Physical rows, oldest first."""
        return (self._head + np.arange(self._count)) % self.window

    def _forget(self) -> None:
        """Delete the first row of K: the others get a rank-one update, ``L22 L22^T + l21 l21^T``."""
        R, n = self._R, self._count
        x = R[0].copy()
        x[0], R[0] = 0.0, 0.0
        rotate_rows(R, x, 1)
        R[: n - 1, : n - 1] = R[1:n, 1:n].copy()
        R[:n, n - 1], R[n - 1, n - 1] = 0.0, 1.0
        self._head, self._count = (self._head + 1) % self.window, n - 1

    def _border(self, n: int) -> bool:
        """Append row n of K to the factor of those before; False if rounding leaves its pivot below c lambda."""
        order, least = self._order(), self.scale * self.damp
        k = np.zeros(self.window)
        k[:n] = self._K0[order[n], order[:n]]
        self._R[n:, n:] = np.eye(self.window - n)
        ell = scipy.linalg.solve_triangular(self._R.T, k, lower=True, check_finite=False)[:n]
        square = self._K0[order[n], order[n]] + least - ell @ ell
        self._R[:n, n], self._R[n, n] = ell, np.sqrt(max(square, least))
        return bool(square >= least * (1 - SLACK))

    def _refactor(self) -> None:
        """Factor K afresh; where it is not positive definite, row by row, with the least pivots that there can be."""
        n, order, least = self._count, self._order(), self.scale * self.damp
        self._since = 0
        K = self._K0[np.ix_(order, order)]
        K[np.diag_indices(n)] += least
        R, info = scipy.linalg.lapack.dpotrf(K.T, lower=0, clean=1) if n else (K, 0)
        if info == 0 and np.all(np.diagonal(R) ** 2 >= least * (1 - SLACK)):
            self._R[:n, :n] = R
            return
        self._R[:] = np.eye(self.window)
        for row in range(n):
            self._border(row)
        top = np.diagonal(K).max()
        warnings.warn(
            f"K = G G^T + c damp I is not positive definite in float64: its greatest diagonal entry is {top:.2g}, "
            f"{top / least:.2g} times c damp = {least:.2g}; squared pivots below c damp are set to it",
            RuntimeWarning,
            stacklevel=3,
        )

    # the inverse

    def _weights(self, a: Matrix) -> Matrix:
        """``K^-1 a`` for a chronological `a`, by physical rows."""
        padded = np.zeros((self.window, *a.shape[1:]))
        padded[: self._count] = a
        s = scipy.linalg.cho_solve((self._R.T, True), padded, check_finite=False)
        return self._physical(s[: self._count])

    def _physical(self, s: Matrix) -> Matrix:
        """A chronological vector by physical rows."""
        out = np.zeros((len(self._held), *s.shape[1:]))
        out[self._order()] = s
        return out

    def solve(self, x: Any) -> Matrix:
        """``F^-1 x``; for a combination of the gradients held, :meth:`solve_coefficients` is more exact.

        Parameters
        ----------
        x : (d,) or (d, k) array

        Returns
        -------
        array of the shape of `x`
        """
        x = self._vector(x, "x", ndim=(1, 2))
        s = self._weights(products(self._held, x)[self._order()])
        return combinations(self._held, s, x, 1 / self.damp)

    def solve_coefficients(self, a: Any) -> Matrix:
        """``F^-1 G^T a = c G^T K^-1 a``: the inverse applied to a combination of the gradients, exact to rounding.

        Parameters
        ----------
        a : (len,) or (len, k) array
            Oldest gradient first.

        Returns
        -------
        (d,) or (d, k) array
        """
        a = as_floating(a, "a", ndim=(1, 2), dtype=np.float64)
        a = as_floating(a, "a", shape=(self._count, *a.shape[1:]))
        if self._singular:
            return combinations(self._held, self.scale * self._factor().solve_in_range(self._physical(a)))
        return combinations(self._held, self.scale * self._weights(a))

    def solve_last(self) -> Matrix:
        """``F^-1 g`` for the latest gradient, exact to rounding.

        Returns
        -------
        (d,) array

        Raises
        ------
        IndexError
            If the window holds no gradient.
        """
        return combinations(self._held, self._latest())

    def descend(self, theta: Matrix, v: Matrix | None, rate: float, momentum: float = 0.0) -> None:
        """Step along ``u = F^-1 g`` of the latest gradient, in the same pass over G as forms u.

        Parameters
        ----------
        theta : (d,) array
            Becomes ``theta - rate * v``.
        v : (d,) array, or None
            Becomes ``momentum * v + (1 - momentum) * u``; None stands for u itself.
        rate, momentum : float
        """
        descend(self._held, self._latest(), theta, v, rate, momentum)

    def _latest(self) -> Matrix:
        """The weights of ``F^-1 g`` for the latest gradient: of the two triangular solves, the first is a division."""
        if not self._count:
            raise IndexError("solve_last needs a gradient; the window holds none")
        e = np.zeros(self.window)
        if self._singular:
            e[self._count - 1] = self.scale
            return self._factor().solve_in_range(self._physical(e[: self._count]))
        e[self._count - 1] = self.scale / self._pivots[-1]
        s = scipy.linalg.solve_triangular(self._R, e, check_finite=False)
        return self._physical(s[: self._count])

    def push_solve(self, g: Any) -> Matrix:
        """Take in a gradient and return ``F^-1 g`` for the window with it.

        Parameters
        ----------
        g : (d,) array

        Returns
        -------
        (d,) array
        """
        self.push(g)
        return self.solve_last()

    def inverse_diagonal(self) -> Matrix:
        """The diagonal of ``F^-1``, no less than 1 over that of F.

        Returns
        -------
        (d,) array
        """
        rows = ArrayRows(self._held)
        figures = Dual(self._factor(), self.damp, self.scale).diagonal(rows)
        return np.maximum(figures, np.finfo(self.dtype).tiny).astype(self.dtype)

    def logdet(self) -> float:
        """The logarithm of the determinant of F."""
        determinant = 2 * np.sum(np.log(self._pivots)) - self._count * np.log(self.scale * self.damp)
        return float(self.dim * np.log(self.damp) + determinant)

    @property
    def _pivots(self) -> Matrix:
        """The diagonal of the factor."""
        return np.diagonal(self._R)[: self._count]

    @property
    def _singular(self) -> bool:
        """Whether a gradient that is held is, to rounding, a combination of others."""
        order = self._order()
        return is_singular(self._pivots, self._K0[order, order] + self.scale * self.damp)

    def _factor(self) -> Factor:
        """K factored afresh, by physical rows."""
        n = len(self._held)
        return Factor(self._K0[:n, :n], self.scale * self.damp)

    def _vector(self, x: Any, name: str, ndim: Any = 1) -> Matrix:
        x = as_floating(x, name, ndim=ndim)
        as_floating(x, name, shape=(self.dim, *x.shape[1:]), infinite="unchecked")
        with np.errstate(over="ignore"):
            return as_floating(
                x.astype(self.dtype, copy=False), name
            )  # once more: float64 may be too large for float32
