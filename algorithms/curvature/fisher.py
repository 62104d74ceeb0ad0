"""The empirical Fisher matrix of m gradients, and its inverse, without a d x d matrix."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse.linalg

from numcore.algorithms.curvature._inverse import Dual, Inverse, Primal
from numcore.algorithms.curvature._rows import Matrix, Rows, Where, as_rows
from numcore.arrays import Array, array_namespace, as_choice, as_count, as_floating, as_number, to_numpy

__all__ = ["EmpiricalFisher"]

LIMIT = 20_000
"""The largest d of which a dense matrix is formed unasked."""


class EmpiricalFisher(scipy.sparse.linalg.LinearOperator):
    r"""The dampened empirical Fisher matrix of m gradients, with products, inverse, diagonals, traces, determinant.

    .. math:: F = \lambda I + \frac1c \sum_i g_i g_i^T = \lambda I + \frac1c G^T G

    It is a :class:`scipy.sparse.linalg.LinearOperator`, and so is its inverse :attr:`inv`. Nothing of size d x d or
    m x d is formed: all rests on the Cholesky factor of :math:`K = G G^T + c \lambda I`, which is m x m.

    Parameters
    ----------
    grads : (m, d) array, or an operator such as a PerExampleJacobian
        The gradients g_i as rows, float32 or float64. Never modified, and not copied: leave it as it is while F is in
        use. An operator has ``shape``, ``dtype``, ``matvec``, ``rmatvec``, ``gram()``, ``sq_sum()`` and
        ``columns(which)``; where it has ``astype`` too, its products are taken in float64.
    damp : float, default=1e-5
        The dampening, lambda above. Positive.
    scale : float, optional
        The normaliser c; m by default, so that F is the mean of the outer products.
    blocks : int or list of slices and index arrays, optional
        Replace F by its block diagonal: the length of the blocks, of which the last may be shorter; or what each
        holds, a partition of ``range(d)``. A block of at most m entries is formed and factored itself; it keeps
        the square of its length in float64.
    factor : bool, default=False
        Keep :math:`V = L^{-1} G` where :math:`K = L L^T`: as large as G, it makes diagonals a pass over V, and an
        element O(m) instead of O(m^2).
    gram_dtype : {"float64", "float32"}
        In which products are taken for K. "float32" takes half the time, and loses the curvature of gradients that
        are nearly parallel.

    Attributes
    ----------
    dim, n_grads : int
        d and m.
    damp, scale : float
        As given; c by its value.
    blocks
        As given.
    dtype : dtype
        That of the gradients, and of all results. Sums are taken in float64.

    Raises
    ------
    ValueError
        If `grads` is not 2-D or not finite, `damp` or `scale` is not positive, or `blocks` are no partition.
    TypeError
        If `grads` is complex, or an operator that lacks a method.

    Warns
    -----
    RuntimeWarning
        If K is not positive definite in float64, since c lambda is below the rounding of G G^T.

    See Also
    --------
    SlidingFisher : The same for a window of gradients that moves.

    Notes
    -----
    With m = 0 gradients F is :math:`\lambda I`. The matrix of the recurrence in [1]_ is the same:
    :math:`v_i = (L_{ii} / \lambda) V_i` and :math:`L_{ii}^2 = \lambda q_i`.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic and D. Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order
       Information", NeurIPS 2021, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import EmpiricalFisher
    >>> G = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    >>> F = EmpiricalFisher(G, damp=0.5)
    >>> F.todense()
    array([[1. , 0. , 1. ],
           [0. , 1. , 0. ],
           [1. , 0. , 2.5]])
    >>> F.solve(np.array([4.0, 2.0, 8.5])).round(6)
    array([1., 2., 3.])
    >>> F.inverse_diagonal().round(6), round(F.logdet(), 6)
    (array([1.666667, 1.      , 0.666667]), 0.405465)
    """

    def __init__(
        self,
        grads: Any,
        *,
        damp: float = 1e-5,
        scale: float | None = None,
        blocks: int | Iterable[Any] | None = None,
        factor: bool = False,
        gram_dtype: str = "float64",
    ) -> None:
        damp = as_number(damp, "damp", above=0.0)
        scale = None if scale is None else as_number(scale, "scale", above=0.0)
        as_choice(factor, "factor", (True, False))
        as_choice(gram_dtype, "gram_dtype", ("float64", "float32"))
        rows = as_rows(grads)
        self._parts = None if blocks is None else partition(blocks, rows.d)
        super().__init__(rows.dtype, (rows.d, rows.d))  # type: ignore[call-arg]
        self._rows, self.grads = rows, rows.source
        self.dim, self.n_grads = rows.d, rows.m
        self.damp, self.scale = damp, float(max(rows.m, 1)) if scale is None else scale
        self.blocks, self.factor, self.gram_dtype = blocks, factor, gram_dtype
        self._inverses: list[Inverse] = [
            (Primal if part.d <= part.m else Dual).of(part, damp, self.scale, gram_dtype == "float32", factor)
            for part in self._all_parts()
        ]

    def _all_parts(self) -> Iterator[Rows]:
        return iter([self._rows]) if self._parts is None else map(self._rows.part, self._parts)

    def with_damp(self, damp: float) -> EmpiricalFisher:
        """The same matrix at another dampening; its Gram matrices are not formed again.

        Parameters
        ----------
        damp : float

        Returns
        -------
        EmpiricalFisher
            Shares the gradients.
        """
        damp = as_number(damp, "damp", above=0.0)
        other = copy.copy(self)
        other.damp = damp
        other._inverses = [
            inverse.with_damp(part, damp) for inverse, part in zip(self._inverses, self._all_parts(), strict=True)
        ]
        return other

    # products

    def matvec(self, x: Any) -> Array:
        """``F x``.

        Parameters
        ----------
        x : (d,) or (d, 1) array

        Returns
        -------
        array of the shape of `x`
        """
        return self._times(self._checked(x, "x"))

    def matmat(self, X: Any) -> Array:
        """``F X`` for the columns of X.

        Parameters
        ----------
        X : (d, k) array

        Returns
        -------
        (d, k) array
        """
        return self._times(self._checked(X, "X", ndim=2))

    def _matvec(self, x: Any) -> Array:
        return self.matvec(x)

    def _matmat(self, X: Any) -> Array:
        return self.matmat(X)

    def _adjoint(self) -> EmpiricalFisher:
        return self

    _transpose = _adjoint

    def _times(self, x: Array) -> Array:
        def times(_: Inverse, rows: Rows, x: Array) -> Array:
            return rows.combine(rows.products(x) / -(self.scale * self.damp), x, self.damp)

        return self._each(times, x)

    @property
    def inv(self) -> scipy.sparse.linalg.LinearOperator:
        """``F^-1`` as a :class:`scipy.sparse.linalg.LinearOperator`."""
        return _InverseOperator(self)

    @property
    def gram(self) -> Matrix:
        """The (m, m) matrix ``G G^T``, in float64 on the host."""
        if self._parts is None and isinstance(self._inverses[0], Dual):
            return self._inverses[0].K.gram
        return self._rows.gram(self.gram_dtype == "float32")

    def coefficients(self, x: Any) -> Matrix:
        """``G x``, in float64 on the host.

        Parameters
        ----------
        x : (d,) or (d, k) array

        Returns
        -------
        (m,) or (m, k) array
        """
        return self._rows.products(self._checked(x, "x"))

    def combination(self, a: Any) -> Array:
        """``G^T a``, added up in float64.

        Parameters
        ----------
        a : (m,) or (m, k) array

        Returns
        -------
        (d,) or (d, k) array
        """
        return self._rows.combine(self._weights(a))

    # the inverse

    def solve(self, x: Any, *, refine: int = 0) -> Array:
        r"""``F^-1 x``.

        .. math:: F^{-1} x = \frac1\lambda \left( x - G^T K^{-1} G x \right)

        Parameters
        ----------
        x : (d,) or (d, k) array
        refine : int, default=0
            Steps of iterative refinement.

        Returns
        -------
        array of the shape of `x`

        Notes
        -----
        Where x lies nearly in the span of the gradients and their curvature is far above `damp`, the difference
        cancels: the error is about ``eps |x| / damp`` with the eps of float64, besides the rounding of x itself. For a
        combination of the gradients :meth:`solve_coefficients` has no such difference.
        """
        refine = as_count(refine, "refine", minimum=0)
        x = self._checked(x, "x")
        y = self._each(_solved, x)
        for _ in range(refine):
            y = y + self._each(_solved, self._residual(x, y))
        return y

    def _residual(self, x: Array, y: Array) -> Array:
        """``x - F y``, added up in float64."""

        def residual(_: Inverse, rows: Rows, xy: Array) -> Array:
            xp = array_namespace(xy)
            x, y = xy[:, 0, ...], xy[:, 1, ...]
            wide = xp.astype(x, xp.float64) - self.damp * xp.astype(y, xp.float64)
            return rows.combine(rows.products(y) / self.scale, wide, 1.0)

        return self._each(residual, array_namespace(x).stack([x, y], axis=1))

    def solve_coefficients(self, a: Any) -> Array:
        r"""``F^-1 G^T a``: the inverse applied to a combination of the gradients.

        .. math:: F^{-1} G^T a = c\, G^T K^{-1} a

        Nothing cancels in it, so it is exact to rounding at any norm of the gradients. With ``a = 1/m`` it is the
        natural gradient; with the powers of a momentum, that of the running mean.

        Parameters
        ----------
        a : (m,) or (m, k) array

        Returns
        -------
        (d,) or (d, k) array

        Raises
        ------
        ValueError
            If F was made with `blocks`: the identity does not hold for its block diagonal.
        """
        if self._parts is not None:
            raise ValueError("solve_coefficients needs blocks=None: F^-1 G^T a = c G^T K^-1 a is not true of blocks")
        return self._inverses[0].combination(self._rows, self._weights(a))

    def solve_row(self, i: int) -> Array:
        """``F^-1 g_i``; exact to rounding without blocks, by the identity of :meth:`solve_coefficients`.

        Parameters
        ----------
        i : int
            Negative ones count from the end.

        Returns
        -------
        (d,) array
        """
        e = np.zeros(self.n_grads)
        e[_indices(i, "i", self.n_grads)] = 1.0
        if self._parts is None:
            return self._inverses[0].combination(self._rows, e)
        return self._each(lambda inverse, rows, _: inverse.combination(rows, e), self._rows.combine(e))

    # entries and figures

    def diagonal(self) -> Array:
        """The diagonal of F.

        Returns
        -------
        (d,) array
        """
        return self._result(self.damp + self._rows.squares() / self.scale)

    def inverse_diagonal(self) -> Array:
        r"""The diagonal of ``F^-1``.

        Where the curvature is far above `damp`, :math:`(1 - \sum_i V_{ij}^2) / \lambda` cancels. Then the bound
        :math:`[F^{-1}]_{jj} \ge 1 / F_{jj}` takes its place, so that all entries are positive.

        Returns
        -------
        (d,) array
        """
        if self._parts is None:
            return self._result(self._inverses[0].diagonal(self._rows))
        out = np.empty(self.dim)
        for where, inverse, rows in zip(self._parts, self._inverses, self._all_parts(), strict=True):
            out[where] = inverse.diagonal(rows)
        return self._result(out)

    def inverse_element(self, i: Any, j: Any) -> Any:
        """Entries of ``F^-1``.

        Parameters
        ----------
        i, j : int or (k,) array of int
            Of equal length. Negative ones count from the end.

        Returns
        -------
        float or (k,) array
        """
        single = np.ndim(i) == np.ndim(j) == 0
        i, j = (np.atleast_1d(_indices(x, name, self.dim)) for x, name in ((i, "i"), (j, "j")))
        if i.shape != j.shape or i.ndim != 1:
            raise ValueError(f"i and j must be integers or of equal length; got shapes {i.shape} and {j.shape}")
        out = np.zeros(len(i))
        for inverse, rows, at, places in self._grouped(i):
            inside = self._block_of(j[at]) == self._block_of(i[at])
            at = at[inside]
            out[at] = inverse.elements(rows, places[inside], self._place_of(j[at]))
        return float(out[0]) if single else self._result(out)

    def inverse_block(self, idx: Any) -> Array:
        """The rows and columns `idx` of ``F^-1``.

        Parameters
        ----------
        idx : slice or (k,) array of int

        Returns
        -------
        (k, k) array
        """
        idx = _indices(np.arange(self.dim)[idx] if isinstance(idx, slice) else idx, "idx", self.dim)
        if idx.ndim != 1:
            raise ValueError(f"idx must be a slice or 1-D; got shape {idx.shape}")
        out = np.zeros((len(idx), len(idx)))
        for inverse, rows, at, places in self._grouped(idx):
            out[np.ix_(at, at)] = inverse.block(rows, places)
        return self._result(out)

    def trace(self) -> float:
        """The trace of F."""
        return self.dim * self.damp + float(np.sum(self._rows.squares())) / self.scale

    def inverse_trace(self) -> float:
        """The trace of ``F^-1``."""
        return sum(i.trace(part) for i, part in zip(self._inverses, self._all_parts(), strict=True))

    def logdet(self) -> float:
        """The logarithm of the determinant of F."""
        return float(sum(i.logdet(part) for i, part in zip(self._inverses, self._all_parts(), strict=True)))

    def todense(self, *, force: bool = False) -> Array:
        """F as a (d, d) array.

        Parameters
        ----------
        force : bool, default=False
            Form it even if d > 20000.

        Returns
        -------
        (d, d) array
        """
        self._refuse_large("todense", force)
        return self._times(self._rows.to_device(np.eye(self.dim, dtype=self.dtype)))

    def inverse_todense(self, *, force: bool = False) -> Array:
        """``F^-1`` as a (d, d) array.

        Parameters
        ----------
        force : bool, default=False
            Form it even if d > 20000.

        Returns
        -------
        (d, d) array
        """
        self._refuse_large("inverse_todense", force)
        return self.inverse_block(slice(None))

    def _refuse_large(self, name: str, force: bool) -> None:
        if self.dim > LIMIT and not force:
            size = self.dim**2 * self.dtype.itemsize / 1e9
            raise ValueError(f"{name} would form {size:.3g} GB at d = {self.dim} > {LIMIT}; pass force=True to have it")

    # blocks

    def _each(self, what: Callable[[Inverse, Rows, Array], Array], x: Array) -> Array:
        """``what(inverse, rows, x)`` of every block, put together."""
        if self._parts is None:
            return what(self._inverses[0], self._rows, x)
        xp = array_namespace(x)
        pieces = []
        for where, inverse, rows in zip(self._parts, self._inverses, self._all_parts(), strict=True):
            part = x[where, ...] if isinstance(where, slice) else xp.take(x, self._rows.to_device(where), axis=0)
            pieces.append(what(inverse, rows, part))
        y = xp.concat(pieces, axis=0)
        return y if self._order is None else xp.take(y, self._rows.to_device(self._order), axis=0)

    @cached_property
    def _order(self) -> Matrix | None:
        """What brings the blocks, one behind the other, into the order of the parameters; None if they are in it."""
        assert self._parts is not None
        held = np.concatenate([np.arange(self.dim)[where] for where in self._parts])
        return np.argsort(held) if np.any(np.diff(held) < 0) else None

    @cached_property
    def _places(self) -> tuple[Matrix, Matrix]:
        """Of each parameter, its block and its place in there."""
        block, place = np.zeros(self.dim, np.intp), np.arange(self.dim)
        for k, where in enumerate(self._parts or ()):
            block[where], place[where] = k, np.arange(len(place[where]))
        return block, place

    def _block_of(self, i: Matrix) -> Matrix:
        return self._places[0][i]

    def _place_of(self, i: Matrix) -> Matrix:
        return self._places[1][i]

    def _grouped(self, i: Matrix) -> Iterator[tuple[Inverse, Rows, Matrix, Matrix]]:
        """For each block that `i` enters: it, its gradients, which of `i` enter it, and their places in there."""
        blocks = self._block_of(i)
        for k in np.unique(blocks):
            at = np.flatnonzero(blocks == k)
            rows = self._rows if self._parts is None else self._rows.part(self._parts[k])
            yield self._inverses[k], rows, at, self._place_of(i[at])

    # what comes in and goes out

    def _checked(self, x: Any, name: str, ndim: Any = (1, 2)) -> Array:
        like = self._rows.like
        x = as_floating(x, name, ndim=ndim, dtype=like.dtype, like=like)
        return as_floating(x, name, shape=(self.dim, *x.shape[1:]), infinite="unchecked")

    def _weights(self, a: Any) -> Matrix:
        a = as_floating(a, "a", ndim=(1, 2))
        return to_numpy(as_floating(a, "a", shape=(self.n_grads, *a.shape[1:]))).astype(np.float64)

    def _result(self, x: Matrix) -> Array:
        """Figures of float64 in the dtype of the gradients: positive ones stay positive."""
        with np.errstate(over="ignore", under="ignore"):
            out = x.astype(self.dtype)
        out[(x > 0) & (out == 0)] = np.finfo(self.dtype).tiny
        return self._rows.to_device(out)


def _solved(inverse: Inverse, rows: Rows, x: Array) -> Array:
    return inverse.solve(rows, x)


class _InverseOperator(scipy.sparse.linalg.LinearOperator):
    """``F^-1``."""

    def __init__(self, fisher: EmpiricalFisher) -> None:
        super().__init__(fisher.dtype, fisher.shape)  # type: ignore[call-arg]
        self.fisher = fisher

    def matvec(self, x: Any) -> Array:
        return self.fisher.solve(x)

    def matmat(self, X: Any) -> Array:
        return self.fisher.solve(X)

    def _matvec(self, x: Any) -> Array:
        return self.fisher.solve(x)

    def _matmat(self, X: Any) -> Array:
        return self.fisher.solve(X)

    def _adjoint(self) -> _InverseOperator:
        return self

    _transpose = _adjoint


def partition(blocks: Any, d: int, name: str = "blocks") -> list[Where]:
    """`blocks` as slices and index arrays, checked to hold each of `d` columns once."""
    if isinstance(blocks, (int, np.integer)) and not isinstance(blocks, bool):
        size = as_count(blocks, name)
        return [slice(j, min(j + size, d)) for j in range(0, d, size)]
    if isinstance(blocks, (str, bytes, bool, float)) or not isinstance(blocks, Iterable):
        raise TypeError(f"{name} must be an integer or a list of slices and index arrays; got {blocks!r}")
    held = np.zeros(d, np.intp)
    parts: list[Where] = []
    for k, block in enumerate(blocks):
        places = np.arange(d)[block] if isinstance(block, slice) else _indices(block, f"{name}[{k}]", d)
        if places.ndim != 1 or not len(places):
            raise ValueError(f"{name}[{k}] must be 1-D and hold at least one column; got shape {places.shape}")
        np.add.at(held, places, 1)
        run = places[-1] - places[0] + 1 == len(places) and bool(np.all(np.diff(places) == 1))
        parts.append(slice(int(places[0]), int(places[-1]) + 1) if run else places)
    if np.any(held != 1):
        raise ValueError(
            f"{name} must hold each of the {d} columns once; {np.count_nonzero(held == 0)} are missing and "
            f"{np.count_nonzero(held > 1)} are held more than once"
        )
    return parts


def _indices(x: Any, name: str, n: int) -> Matrix:
    """`x` as indices from 0 to n - 1."""
    found = np.asarray(x)
    if found.size == 0 and found.ndim == 1:
        return found.astype(np.intp)
    if found.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {found.dtype}")
    if np.any((found < -n) | (found >= n)):
        raise IndexError(f"{name} must lie in [{-n}, {n}); got {found[(found < -n) | (found >= n)].flat[0]}")
    return np.where(found < 0, found + n, found).astype(np.intp)
