"""The Hessian, the Gauss-Newton matrix and the empirical Fisher of a loss, by their products with vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from numcore import autodiff as ad
from numcore.arrays import Array, as_count, as_floating, as_number
from numcore.autodiff.losses import by_name
from numcore.autodiff.per_example import factored_jacobian

__all__ = ["CurvatureOperator", "fisher_operator", "ggn_operator", "hessian_operator"]

Product = Callable[[Array], Array]
"""From a vector to the matrix's product with it."""


def hessian_operator(
    f: Callable[..., Any], theta: Any, *args: Any, damp: float = 0.0, chunk: int | None = None
) -> CurvatureOperator:
    r"""The Hessian of a function at `theta`, :math:`H = \nabla^2 f(\theta) + \mathrm{damp}\, I`, never formed.

    Parameters
    ----------
    f : callable
        ``f(theta, *args)`` is a scalar, written with ``ad.*`` functions, operators or NumPy calls. With `chunk`, a mean
        over the examples that `args` hold.
    theta : (d,) array_like or tree of arrays
        Where; a tree is taken as the flat vector that :func:`numcore.autodiff.ravel` gives.
    *args
        Passed on. With `chunk`, arrays of as many examples along axis 0.
    damp : float, default=0.0
        Added to the diagonal; not negative.
    chunk : int, optional
        Examples at a time. By default all, and what the gradient computed on the way is kept for all products;
        with fewer it is computed again in every product, and only that of one chunk is held in memory.

    Returns
    -------
    CurvatureOperator
        A symmetric (d, d) ``LinearOperator`` in the dtype of `theta`.

    Raises
    ------
    TypeError, ValueError
        If f is not scalar, `theta` is complex or not finite, or an option is out of range.

    Notes
    -----
    The gradient is recorded as it is computed, once. The Hessian is the Jacobian of that record, and being symmetric,
    also its transpose, so that a product is one pass backward through the record: for a linear layer six matrix
    products, where Pearlmutter's forward pass over a backward one [1]_ takes nine. The two agree to rounding.

    References
    ----------
    .. [1] B. Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import eigsh
    >>> from numcore.algorithms.curvature import hessian_operator
    >>> H = hessian_operator(lambda x: np.sum(x**4) / 12, np.arange(1.0, 6.0))
    >>> H @ np.ones(5)
    array([ 1.,  4.,  9., 16., 25.])
    >>> eigsh(H, k=2, return_eigenvectors=False).round(6)
    array([16., 25.])
    """
    flat, unravel = _flat(theta)
    if chunk is not None:
        args = _examples(args, "args")

    def record(*batch: Any) -> Product:
        _, pullback = ad.vjp(ad.grad(lambda t: f(unravel(t), *batch)), flat)
        return lambda v: pullback(v)[0]

    return CurvatureOperator(record, flat, args, damp, chunk)


def ggn_operator(
    model: Callable[[Any, Any], Any],
    loss: Any,
    theta: Any,
    X: Any,
    y: Any,
    *,
    damp: float = 0.0,
    chunk: int | None = None,
) -> CurvatureOperator:
    r"""The generalised Gauss-Newton matrix of a mean loss at `theta`, never formed.

    .. math:: G = \frac1n \sum_i J_i^T \, \nabla_z^2 \ell(z_i, y_i) \, J_i + \mathrm{damp}\, I, \qquad
        z_i = \mathrm{model}(\theta, X)_i, \quad J_i = \partial z_i / \partial \theta

    It is the Hessian without the curvature of the model, positive semi-definite where the loss is convex in the
    outputs, and the Fisher information of the model's own distribution for softmax and squared losses.

    Parameters
    ----------
    model : callable
        ``model(theta, X)`` gives the outputs, one row an example; any net of :mod:`numcore.autodiff.nn` does.
    loss : str or callable
        "softmax", "stablemax", "z", "bce", "squared" or "huber", or ``loss(outputs, y)`` that gives (n,) losses or
        their mean.
    theta : (d,) array_like or tree of arrays
        Where.
    X, y : array_like
        Examples along axis 0.
    damp : float, default=0.0
        Added to the diagonal; not negative.
    chunk : int, optional
        As for :func:`hessian_operator`.

    Returns
    -------
    CurvatureOperator
        A symmetric (d, d) ``LinearOperator`` in the dtype of `theta`.

    Raises
    ------
    TypeError, ValueError
        If `theta` is complex or not finite, X and y differ in length, or an option is out of range.

    References
    ----------
    .. [1] N. Schraudolph, "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent", Neural
       Computation 14, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import ggn_operator
    >>> X, y = np.array([[1.0], [2.0]]), np.zeros((2, 1))
    >>> ggn_operator(lambda t, X: X @ t[:, None], "squared", np.array([0.5]), X, y) @ np.ones(1)
    array([2.5])
    """
    flat, unravel = _flat(theta)
    per_example = by_name(loss)

    def record(X: Any, y: Any) -> Product:
        z, pullback = ad.vjp(lambda t: model(unravel(t), X), flat)
        # u -> J^T u is linear; the transpose of its record is v -> J v
        _, push = ad.vjp(lambda u: pullback(u)[0], np.zeros_like(z))
        _, bend = ad.vjp(ad.grad(lambda z: _mean(per_example(z, y))), z)
        return lambda v: pullback(bend(push(v)[0])[0])[0]

    return CurvatureOperator(record, flat, _examples((X, y), "X and y"), damp, chunk)


def fisher_operator(
    loss: Callable[..., Any], theta: Any, X: Any, y: Any, *, damp: float = 0.0, chunk: int | None = None
) -> CurvatureOperator:
    r"""The empirical Fisher matrix at `theta`, never formed.

    .. math:: F = \frac1n \sum_i g_i g_i^T + \mathrm{damp}\, I, \qquad g_i = \nabla_\theta \ell(\theta, X_i, y_i)

    To solve with it, take :class:`EmpiricalFisher`; this is for all other uses of an operator.

    Parameters
    ----------
    loss : callable
        ``loss(theta, X, y)`` gives (n,) losses, where loss i depends on example i only; or their mean, and then each
        example is differentiated by itself, which is slow.
    theta : (d,) array_like or tree of arrays
        Where.
    X, y : array_like
        Examples along axis 0.
    damp : float, default=0.0
        Added to the diagonal; not negative.
    chunk : int, optional
        As for :func:`hessian_operator`.

    Returns
    -------
    CurvatureOperator
        A symmetric (d, d) ``LinearOperator`` in the dtype of `theta`. Gradients by the weights of a linear layer are
        kept as two factors, n (n_in + n_out) numbers; where other layers enter, as rows of d.

    Raises
    ------
    TypeError, ValueError
        If `theta` is complex or not finite, X and y differ in length, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import fisher_operator
    >>> X, y = np.array([[1.0, 0.0], [1.0, 2.0]]), np.array([1.0, 0.0])
    >>> F = fisher_operator(lambda t, X, y: 0.5 * (X @ t - y) ** 2, np.array([0.5, 0.5]), X, y)
    >>> F @ np.eye(2)
    array([[1.25, 2.25],
           [2.25, 4.5 ]])
    """
    flat, unravel = _flat(theta)

    def record(X: Any, y: Any) -> Product:
        G = _gradients(lambda t, X, y: loss(unravel(t), X, y), flat, X, y)
        back = G.rmatvec if isinstance(G, LinearOperator) else G.T.__matmul__
        return lambda v: back(G @ v) / len(X)

    return CurvatureOperator(record, flat, _examples((X, y), "X and y"), damp, chunk)


class CurvatureOperator(LinearOperator):
    """A symmetric operator: the mean over a batch of the products that its chunks give, and a damping.

    Made by :func:`hessian_operator`, :func:`ggn_operator` and :func:`fisher_operator`. All of
    :mod:`scipy.sparse.linalg` takes it; sums and multiples of it are operators again.

    Attributes
    ----------
    damp : float
        What is added to the diagonal.
    shape, dtype
        As ``LinearOperator`` has them.
    """

    def __init__(
        self,
        record: Callable[..., Product],
        theta: Array,
        batch: tuple[Any, ...],
        damp: float,
        chunk: int | None,
    ) -> None:
        super().__init__(theta.dtype, (len(theta),) * 2)  # type: ignore[call-arg]
        self.damp = as_number(damp, "damp", above=0, closed=True)
        self._record, self._chunks = record, _chunks(batch, chunk)
        self._kept = record(*self._chunks[0][1]) if len(self._chunks) == 1 else None

    def _matmat(self, V: Any) -> Any:
        V = np.asarray(V)
        if V.dtype.kind == "c":
            raise TypeError(f"a product needs a real vector; got dtype {V.dtype}")
        V = V.astype(self.dtype, copy=False)
        columns = [np.ascontiguousarray(v) for v in V.T]
        total = self.damp * V
        for share, batch in self._chunks:
            product = self._kept or self._record(*batch)
            for k, v in enumerate(columns):
                total[:, k] += share * product(v)
        return total

    def _matvec(self, v: Any) -> Any:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _adjoint(self) -> CurvatureOperator:
        return self

    _transpose = _adjoint


def _flat(theta: Any) -> tuple[Array, Callable[[Any], Any]]:
    """`theta` as a checked vector, and the way back to what it was."""
    if isinstance(theta, np.ndarray) and theta.ndim == 1:
        return as_floating(theta, "theta"), lambda t: t
    flat, unravel = ad.ravel(theta)
    return as_floating(flat, "theta", ndim=1), unravel


def _examples(batch: Sequence[Any], name: str) -> tuple[Any, ...]:
    """The arrays of a batch, checked to hold equally many examples, one at least."""
    arrays = tuple(x if hasattr(x, "dtype") else np.asarray(x) for x in batch)
    shapes = [tuple(x.shape) for x in arrays]
    counts = {shape[0] if shape else 0 for shape in shapes}
    if len(counts) != 1 or 0 in counts:
        got = ", ".join(map(str, shapes)) or "nothing"
        raise ValueError(f"{name} must hold the same number of examples along axis 0, at least 1; got shapes {got}")
    return arrays


def _chunks(batch: tuple[Any, ...], chunk: int | None) -> list[tuple[float, tuple[Any, ...]]]:
    """The batch in pieces, each with its share of the examples."""
    if chunk is None:
        return [(1.0, batch)]
    chunk, n = as_count(chunk, "chunk"), len(batch[0])
    return [(min(chunk, n - k) / n, tuple(x[k : k + chunk] for x in batch)) for k in range(0, n, chunk)]


def _mean(each: Any) -> Any:
    return ad.mean(each) if len(each.shape) else each


def _gradients(loss: Callable[..., Any], theta: Array, X: Any, y: Any) -> Any:
    """Every example's gradient as a row, in factors where that is possible."""
    if np.shape(loss(theta, X[:1], y[:1])) == ():
        gradient = ad.grad(loss)
        return np.stack([gradient(theta, X[i : i + 1], y[i : i + 1]) for i in range(len(X))])
    try:
        return factored_jacobian(loss, theta, (X, y))
    except ValueError:
        return ad.per_example_grads(loss, theta, X, y)[1]
