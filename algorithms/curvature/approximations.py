"""Approximate Hessians of composite objectives, from first derivatives alone: what :func:`minimize_gns` takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.arrays import Array, as_choice, as_floating, as_number, to_numpy
from numcore.special import softmax

__all__ = ["log_sum_exp_hessian", "power_norm_hessian"]


def power_norm_hessian(u: Any, J: Any, p: float = 2.0, *, kind: str = "ggn_p") -> np.ndarray[Any, Any]:
    r"""Positive semi-definite parts of the Hessian of :math:`f(x) = \frac1p \|u(x)\|^p`.

    With the Jacobian J of u, the Hessian is

    .. math:: (p - 2) \|u\|^{p-4} (J^T u)(J^T u)^T + \|u\|^{p-2} J^T J + \|u\|^{p-2} \sum_i u_i \nabla^2 u_i .

    Parameters
    ----------
    u : (m,) array_like
        The residuals at x.
    J : (m, n) array_like
        Their Jacobian there.
    p : float
        The power, at least 2.
    kind : {"ggn_p", "fisher_term"}
        "ggn_p": the first two terms, the Gauss-Newton matrix. "fisher_term": the first alone, a multiple of
        :math:`\nabla f \nabla f^T`.

    Returns
    -------
    (n, n) array

    Raises
    ------
    ValueError, TypeError
        If p is less than 2, shapes do not match, or an entry is not finite.

    References
    ----------
    .. [1] A. Semenov, M. Jaggi, N. Doikov, "Gradient-Normalized Smoothness for Optimization with Approximate Hessians",
       2025.

    Examples
    --------
    The chain of Rosenbrock: residuals whose Jacobian is all that is asked for.

    >>> import numpy as np
    >>> from numcore.algorithms.curvature import minimize_gns, power_norm_hessian
    >>> u = lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    >>> J = lambda x: np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])
    >>> result = minimize_gns(
    ...     lambda x: u(x) @ u(x) / 2, [-1.2, 1.0],
    ...     grad=lambda x: J(x).T @ u(x), hess=lambda x: power_norm_hessian(u(x), J(x)),
    ... )
    >>> result.converged, result.x.round(6)
    (True, array([1., 1.]))
    """
    as_choice(kind, "kind", ("ggn_p", "fisher_term"))
    u = to_numpy(as_floating(u, "u", ndim=1))
    J = to_numpy(as_floating(J, "J", shape=(len(u), None)))
    p = as_number(p, "p")
    if p < 2:
        raise ValueError(f"p must be at least 2, else the first term is negative; got {p:g}")
    size = float(np.linalg.norm(u))
    t = J.T @ (u / size if size else u)  # of unit length, u leaves no power below p - 2
    H = (p - 2) * np.multiply.outer(t, t) + (J.T @ J if kind == "ggn_p" else 0)
    return _symmetric(size ** (p - 2) * H)


def log_sum_exp_hessian(A: Any, z: Any, mu: float = 1.0) -> np.ndarray[Any, Any]:
    r"""The upper bound :math:`\frac1\mu A^T \mathrm{diag}(s) A` on the Hessian of a smoothed maximum.

    For :math:`f(x) = \mu \log \sum_i e^{z_i / \mu}` with z = A x - b and s = softmax(z / mu) the Hessian is
    :math:`\frac1\mu A^T (\mathrm{diag}(s) - s s^T) A`; what is left out is of rank one.

    Parameters
    ----------
    A : (m, n) array_like
    z : (m,) array_like
        ``A @ x - b`` at x.
    mu : float
        The smoothing, positive.

    Returns
    -------
    (n, n) array

    Raises
    ------
    ValueError, TypeError
        If mu is not positive, shapes do not match, or an entry is not finite.

    References
    ----------
    .. [1] A. Semenov, M. Jaggi, N. Doikov, "Gradient-Normalized Smoothness for Optimization with Approximate Hessians",
       2025.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.curvature import log_sum_exp_hessian
    >>> log_sum_exp_hessian(np.eye(2), np.zeros(2))
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    z = to_numpy(as_floating(z, "z", ndim=1))
    A = to_numpy(as_floating(A, "A", shape=(len(z), None)))
    mu = as_number(mu, "mu", above=0)
    return _symmetric(A.T @ (softmax(z / mu)[:, None] * A) / mu)


def _symmetric(H: Array) -> Array:
    return (H + H.T) / 2
