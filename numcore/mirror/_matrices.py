"""The mirror map of matrix exponentiated gradients."""

from __future__ import annotations

from typing import Any

from numcore.arrays import Array, array_namespace, as_floating, eps_of
from numcore.mirror._domains import Domain, PSDCone, Spectrahedron, Unconstrained
from numcore.mirror._maps import MirrorMap, _log, _pair, _sum
from numcore.prox._projections import _composed, _matrices, _symmetric
from numcore.special import softmax

__all__ = ["VonNeumannEntropy"]


class VonNeumannEntropy(MirrorMap):
    """``tr(X ln X - X)`` on the positive semidefinite matrices: matrix exponentiated gradients.

    Steps on a :class:`Spectrahedron` and the :class:`PSDCone` (or no domain). Eigenvalues that are 0 count as the least
    positive number.

    References
    ----------
    .. [1] K. Tsuda, G. Rätsch, M. K. Warmuth, "Matrix exponentiated gradient updates for on-line learning and Bregman
       projection", JMLR 6, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.mirror import Spectrahedron, VonNeumannEntropy
    >>> VonNeumannEntropy().step(np.eye(2) / 2, np.diag([0.0, np.log(3.0)]), 1.0, Spectrahedron()).round(12)
    array([[0.75, 0.  ],
           [0.  , 0.25]])
    """

    norm = "nuclear"

    def value(self, x: Any) -> Array:
        values, _ = self._eigen(x, "x")
        return _sum(values * _log(values, 0.0) - values)

    def grad(self, x: Any) -> Array:
        values, vectors = self._eigen(x, "x")
        return _composed(_log(values, 0.0), vectors)

    def grad_conjugate(self, y: Any) -> Array:
        values, vectors = _eigh(as_floating(y, "y"), "y")
        return _composed(array_namespace(values).exp(values), vectors)

    def divergence(self, x: Any, y: Any) -> Array:
        x, y = _pair(x, y, "x", "y")
        xp = array_namespace(x)
        a, U = self._eigen(x, "x")
        b, V = self._eigen(y, "y")
        # sum_ij <u_i, v_j>^2 (a_i ln(a_i / b_j) - a_i + b_j), whose terms are not negative
        overlap = (xp.matrix_transpose(U) @ V) ** 2
        a, b = a[..., :, None], b[..., None, :]
        terms = a * (_log(a, 0.0) - _log(b, 0.0)) - a + b
        terms = xp.where(terms > 0, terms, xp.zeros_like(terms))
        return xp.sum(overlap * terms, axis=(-2, -1))

    def _step(self, x: Array, g: Array, domain: Domain) -> Array:
        values, vectors = _eigh(self.grad(x) - g, "gradient")
        if isinstance(domain, Spectrahedron):
            return _composed(domain.trace * softmax(values), vectors)
        if isinstance(domain, (PSDCone, Unconstrained)):
            return _composed(array_namespace(values).exp(values), vectors)
        raise self._no_step(domain, "a Spectrahedron and the PSDCone")

    @staticmethod
    def _eigen(x: Any, name: str) -> tuple[Array, Array]:
        """Eigenvalues, raised to the least positive number, and eigenvectors."""
        x = as_floating(x, name)
        xp = array_namespace(x)
        values, vectors = _eigh(x, name)
        slack = 100 * eps_of(x) * xp.max(abs(values), axis=-1, keepdims=True)
        if bool(xp.any(values < -slack)):
            raise ValueError(f"{name} must be positive semidefinite; its least eigenvalue is {float(xp.min(values)):g}")
        least = float(xp.finfo(x.dtype).smallest_normal)
        return xp.where(values > least, values, xp.full_like(values, least)), vectors


def _eigh(x: Array, name: str) -> tuple[Array, Array]:
    values, vectors = array_namespace(x).linalg.eigh(_symmetric(_matrices(x, name)))
    return values, vectors
