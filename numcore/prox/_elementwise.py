"""Operators that act on each entry by itself: convex and non-convex penalties of a single number."""

from __future__ import annotations

from typing import Any

import numpy as np

from numcore.arrays import Array, array_namespace, as_floating, as_number, as_out
from numcore.prox._loops import elementwise

__all__ = [
    "cel0",
    "elastic_net",
    "half",
    "huber",
    "l0",
    "l1",
    "log_sum",
    "lq",
    "mcp",
    "scad",
    "two_thirds",
]


def l1(v: Any, t: Any, *, weights: Any = None, positive: bool = False, out: Array | None = None) -> Array:
    r"""Soft thresholding, the operator of ``|x|``.

    .. math:: \operatorname{prox}(v) = \operatorname{sign}(v) \max(|v| - t, 0)

    Parameters
    ----------
    v : array_like, real
        Where to evaluate.
    t : float or array_like, not negative
        Step times regularisation; an array broadcasts against `v`. 0 is the identity, inf gives 0.
    weights : array_like, optional
        Non-negative factors of `t`, broadcast against `v`: one a coordinate of the last axis, usually. inf gives 0.
    positive : bool
        Minimise over ``x >= 0``.
    out : array, optional
        Where to put the result: shape and dtype of the result. It may be `v` itself.

    Returns
    -------
    array
        The shape of `v`; float32 for float32, else float64. It is `out` where that is given. Zeros are +0.0.

    Raises
    ------
    TypeError
        If an argument is complex or no number.
    ValueError
        If `v` is not finite, `t` or a weight is negative or NaN, or shapes do not match. `out` is untouched then.

    Notes
    -----
    All operators here minimise ``(x - v)^2 / (2 step) + reg phi(x)`` entry by entry, with ``t = step reg``. Where two
    minimisers tie, the result is 0 (or the smaller). They compute in float64 and round once.

    References
    ----------
    .. [1] D. L. Donoho, "De-noising by soft-thresholding", IEEE Trans. Inf. Theory 41(3), 1995.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.l1([3.0, -1.0, -2.5], 1.0)
    array([ 2. ,  0. , -1.5])
    """
    v = as_floating(v, "v")
    return _mapped("l1", v, (_weighted(_amount(t, "t", v), weights, v),), positive, out)


def elastic_net(
    v: Any,
    t: Any,
    *,
    l1_ratio: Any = 0.5,
    weights: Any = None,
    positive: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The operator of ``r |x| + (1 - r) x^2 / 2``.

    .. math:: \operatorname{prox}(v) = \operatorname{sign}(v) \max(|v| - t r, 0) / (1 + t (1 - r))

    Parameters
    ----------
    v, t, weights, positive, out
        As for :func:`l1`.
    l1_ratio : float or array_like in [0, 1]
        The share r of the absolute value.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`; also if `l1_ratio` lies outside [0, 1].

    References
    ----------
    .. [1] H. Zou, T. Hastie, "Regularization and variable selection via the elastic net", JRSS B 67(2), 2005.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.elastic_net([3.0, -1.0], 2.0, l1_ratio=0.5)
    array([1., 0.])
    """
    v = as_floating(v, "v")
    ratio = _amount(l1_ratio, "l1_ratio", v, most=1.0)
    return _mapped("elastic_net", v, (_weighted(_amount(t, "t", v), weights, v), ratio), positive, out)


def l0(v: Any, t: Any, *, weights: Any = None, positive: bool = False, out: Array | None = None) -> Array:
    r"""Hard thresholding, the operator of ``1[x != 0]``: v where ``|v| > sqrt(2 t)``, else 0.

    Parameters
    ----------
    v, t, weights, positive, out
        As for :func:`l1`.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`.

    Notes
    -----
    The threshold belongs to ``(x - v)^2 / 2``; codes that minimise ``(x - v)^2`` have ``sqrt(t)``.

    References
    ----------
    .. [1] T. Blumensath, M. E. Davies, "Iterative Thresholding for Sparse Approximations", J. Fourier Anal. Appl. 14,
       2008, Equation (2.3).

    Examples
    --------
    >>> from numcore import prox
    >>> prox.l0([3.0, -2.0, 1.0], 2.0)
    array([3., 0., 0.])
    """
    v = as_floating(v, "v")
    return _mapped("l0", v, (_weighted(_amount(t, "t", v), weights, v),), positive, out)


def half(v: Any, t: Any, *, weights: Any = None, positive: bool = False, out: Array | None = None) -> Array:
    r"""The operator of ``|x|^(1/2)``: 0 up to ``(3/2) t^(2/3)``, where it jumps to ``t^(2/3)``.

    .. math:: \operatorname{prox}(v) = \tfrac23 v \left(1 + \cos\left(\tfrac{2\pi}3 - \tfrac23
        \arccos\left(\tfrac t4 (|v|/3)^{-3/2}\right)\right)\right)

    Parameters
    ----------
    v, t, weights, positive, out
        As for :func:`l1`.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`.

    Notes
    -----
    Computed as a root, by Newton's method, to full precision. Sources that minimise ``(x - v)^2 + l |x|^(1/2)`` have
    ``l = 2 t``.

    References
    ----------
    .. [1] Z. Xu, X. Chang, F. Xu, H. Zhang, "L1/2 regularization: a thresholding representation theory and a fast
       solver", IEEE TNNLS 23(7), 2012, Theorem 1.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.half([2.0, -1.6, 1.5], 1.0).round(4)
    array([ 1.6054, -1.1295,  0.    ])
    """
    v = as_floating(v, "v")
    return _mapped("half", v, (_weighted(_amount(t, "t", v), weights, v),), positive, out)


def two_thirds(v: Any, t: Any, *, weights: Any = None, positive: bool = False, out: Array | None = None) -> Array:
    """The operator of ``|x|^(2/3)``: 0 up to ``2 (2 t / 3)^(3/4)``, where it jumps to ``(2 t / 3)^(3/4)``.

    Parameters
    ----------
    v, t, weights, positive, out
        As for :func:`l1`.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`.

    Notes
    -----
    Computed as a root, by Newton's method, to full precision; the closed form is [1]_.

    References
    ----------
    .. [1] W. Cao, J. Sun, Z. Xu, "Fast image deconvolution using closed-form thresholding formulas of Lq (q = 1/2, 2/3)
       regularization", J. Vis. Commun. Image R. 24(1), 2013.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.two_thirds([2.0, -1.6, 1.4], 1.0).round(4)
    array([ 1.4047, -0.9127,  0.    ])
    """
    v = as_floating(v, "v")
    return _mapped("two_thirds", v, (_weighted(_amount(t, "t", v), weights, v),), positive, out)


def lq(v: Any, t: Any, *, q: Any, weights: Any = None, positive: bool = False, out: Array | None = None) -> Array:
    r"""The operator of ``|x|^q`` for 0 < q < 1.

    With ``b = (2 t (1 - q))^(1 / (2 - q))`` it is 0 up to ``b (2 - q) / (2 (1 - q))``, jumps to b there, and beyond is
    the largest root y of

    .. math:: y - |v| + t q y^{q - 1} = 0.

    Parameters
    ----------
    v, t, weights, positive, out
        As for :func:`l1`.
    q : float or array_like in (0, 1)
        The power.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`; also if `q` lies outside (0, 1).

    References
    ----------
    .. [1] G. Marjanovic, V. Solo, "On lq optimization and matrix completion", IEEE Trans. Signal Process. 60(11), 2012,
       Theorem 1.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.lq([2.0, -1.6, 1.5], 1.0, q=0.5).round(4)
    array([ 1.6054, -1.1295,  0.    ])
    """
    v = as_floating(v, "v")
    power = _amount(q, "q", v, most=1.0, open_ended=True)
    return _mapped("lq", v, (_weighted(_amount(t, "t", v), weights, v), power), positive, out)


def mcp(
    v: Any,
    step: Any,
    *,
    reg: Any,
    gamma: Any = 3.0,
    weights: Any = None,
    positive: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The operator of the minimax concave penalty.

    The penalty is ``reg |x| - x^2 / (2 gamma)`` up to ``gamma reg`` and constant beyond. With ``t = step reg``:

    .. math:: \operatorname{prox}(v) = \begin{cases} 0 & |v| \le t \\
        \operatorname{sign}(v) (|v| - t) / (1 - step / \gamma) & |v| \le \gamma\, reg \\ v & \text{else} \end{cases}

    for ``step < gamma``; else v where ``|v| > reg sqrt(step gamma)``, and 0 elsewhere.

    Parameters
    ----------
    v, positive, out
        As for :func:`l1`.
    step : float or array_like, not negative
        The step.
    reg : float or array_like, not negative
        The regularisation.
    gamma : float or array_like, positive
        The concavity; inf is :func:`l1`.
    weights : array_like, optional
        Non-negative factors of `reg`.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`; also if `gamma` is not positive.

    References
    ----------
    .. [1] C.-H. Zhang, "Nearly unbiased variable selection under minimax concave penalty", Ann. Stat. 38(2), 2010.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.mcp([0.5, 2.0, -4.0], 1.0, reg=1.0, gamma=3.0)
    array([ 0. ,  1.5, -4. ])
    """
    v = as_floating(v, "v")
    shape = _amount(gamma, "gamma", v, open_ended=True)
    return _mapped("mcp", v, (*_step_and_reg(v, step, reg, weights), shape), positive, out)


def scad(
    v: Any,
    step: Any,
    *,
    reg: Any,
    gamma: Any = 3.7,
    weights: Any = None,
    positive: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The operator of the smoothly clipped absolute deviation.

    The penalty is ``reg |x|`` up to reg, then ``(2 gamma reg |x| - x^2 - reg^2) / (2 (gamma - 1))`` up to ``gamma
    reg``, and constant beyond. With ``t = step reg`` and ``step < gamma - 1``:

    .. math:: \operatorname{prox}(v) = \begin{cases} \operatorname{sign}(v) \max(|v| - t, 0) & |v| \le reg (1 + step) \\
        ((\gamma - 1) v - \operatorname{sign}(v) \gamma t) / (\gamma - 1 - step) & |v| \le \gamma\, reg \\
        v & \text{else;} \end{cases}

    with a larger step, soft thresholding up to ``reg (gamma + 1 + step) / 2``, then v; and from ``step > gamma + 1``
    on, 0 up to ``reg sqrt(step (gamma + 1))``, then v.

    Parameters
    ----------
    v, positive, out
        As for :func:`l1`.
    step, reg, weights
        As for :func:`mcp`.
    gamma : float or array_like, above 2
        The concavity.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`; also if `gamma` is not above 2.

    References
    ----------
    .. [1] J. Fan, R. Li, "Variable selection via nonconcave penalized likelihood and its oracle properties", JASA
       96(456), 2001, Equation (2.8), which is the case ``step = 1``.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.scad([1.5, 3.0, -4.0], 1.0, reg=1.0, gamma=3.0)
    array([ 0.5,  3. , -4. ])
    """
    v = as_floating(v, "v")
    shape = _amount(gamma, "gamma", v, least=2.0, open_ended=True)
    return _mapped("scad", v, (*_step_and_reg(v, step, reg, weights), shape), positive, out)


def cel0(
    v: Any,
    step: Any,
    *,
    reg: Any,
    norm: Any = 1.0,
    weights: Any = None,
    positive: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The operator of CEL0, the continuous exact relaxation of l0 for an atom of the given norm.

    The penalty is ``reg - norm^2 / 2 (|x| - sqrt(2 reg) / norm)^2`` up to ``sqrt(2 reg) / norm``, and reg beyond: the
    minimax concave penalty with ``reg' = norm sqrt(2 reg)`` and ``gamma' = 1 / norm^2``. For ``step norm^2 < 1``

    .. math:: \operatorname{prox}(v) = \operatorname{sign}(v) \min\left(|v|,
        \frac{\max(|v| - \sqrt{2\, reg}\, norm\, step, 0)}{1 - norm^2 step}\right)

    and for larger steps hard thresholding, :func:`l0`.

    Parameters
    ----------
    v, positive, out
        As for :func:`l1`.
    step, reg, weights
        As for :func:`mcp`.
    norm : float or array_like, not negative
        Norms of the atoms, broadcast against `v`; 0 gives the identity.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`; also if `norm` is negative or not finite.

    References
    ----------
    .. [1] E. Soubies, L. Blanc-Féraud, G. Aubert, "A Continuous Exact l0 Penalty (CEL0) for Least Squares Regularized
       Problem", SIAM J. Imaging Sci. 8(3), 2015, Equation (4.6).

    Examples
    --------
    >>> from numcore import prox
    >>> prox.cel0([0.5, 1.5, -3.0], 0.5, reg=2.0)
    array([ 0.,  1., -3.])
    """
    v = as_floating(v, "v")
    size = _amount(norm, "norm", v, infinite=False)
    step, reg = _step_and_reg(v, step, reg, weights)
    return _mapped("mcp", v, (step, *_as_mcp(reg, size)), positive, out)


def log_sum(
    v: Any,
    step: Any,
    *,
    reg: Any,
    eps: Any = 0.1,
    weights: Any = None,
    positive: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The operator of ``log(1 + |x| / eps)``.

    With ``t = step reg``, the larger stationary point

    .. math:: r = \frac{|v| - \varepsilon + \sqrt{(|v| + \varepsilon)^2 - 4t}}2

    where it exists, is positive and beats 0; else 0.

    Parameters
    ----------
    v, positive, out
        As for :func:`l1`.
    step, reg, weights
        As for :func:`mcp`.
    eps : float or array_like, positive
        The scale below which the penalty is nearly linear.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`; also if `eps` is not positive.

    References
    ----------
    .. [1] A. Prater-Bennette, L. Shen, E. E. Tripp, "The Proximity Operator of the Log-Sum Penalty", J. Sci. Comput.
       93, 2022.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.log_sum([0.5, 2.0, -4.0], 1.0, reg=0.5, eps=0.1).round(4)
    array([ 0.    ,  1.7262, -3.8742])
    """
    v = as_floating(v, "v")
    scale = _amount(eps, "eps", v, open_ended=True, infinite=False)
    return _mapped("log_sum", v, (_product(*_step_and_reg(v, step, reg, weights)), scale), positive, out)


def huber(
    v: Any,
    t: Any,
    *,
    delta: Any = 1.0,
    weights: Any = None,
    positive: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The operator of Huber's function, ``x^2 / (2 delta)`` up to delta and ``|x| - delta / 2`` beyond.

    .. math:: \operatorname{prox}(v) = \begin{cases} v\, \delta / (\delta + t) & |v| \le \delta + t \\
        v - t \operatorname{sign}(v) & \text{else} \end{cases}

    Parameters
    ----------
    v, t, weights, positive, out
        As for :func:`l1`.
    delta : float or array_like, positive
        Where the parabola ends.

    Returns
    -------
    array
        As for :func:`l1`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`l1`; also if `delta` is not positive.

    References
    ----------
    .. [1] A. Beck, "First-Order Methods in Optimization", SIAM, 2017, Example 6.66.

    Examples
    --------
    >>> from numcore import prox
    >>> prox.huber([1.0, -4.0], 1.0, delta=1.0)
    array([ 0.5, -3. ])
    """
    v = as_floating(v, "v")
    width = _amount(delta, "delta", v, open_ended=True, infinite=False)
    return _mapped("huber", v, (_weighted(_amount(t, "t", v), weights, v), width), positive, out)


def _mapped(name: str, v: Array, parameters: tuple[Any, ...], positive: bool, out: Array | None) -> Array:
    target = array_namespace(v).empty_like(v) if out is None else as_out(out, v)
    return elementwise(v, name, parameters, bool(positive), target)


def _amount(
    x: Any,
    name: str,
    v: Array,
    *,
    least: float = 0.0,
    most: float = np.inf,
    open_ended: bool = False,
    infinite: bool = True,
) -> Any:
    """A parameter as a float, or as a float64 array that broadcasts against `v`."""
    if getattr(x, "ndim", 0) == 0 and not isinstance(x, (list, tuple)):
        return as_number(x, name, above=least, below=most, closed=not open_ended, infinite=infinite and most == np.inf)
    xp = array_namespace(v)
    x = as_floating(x, name, like=v, dtype=xp.float64, infinite="positive" if infinite else "refuse")
    inside = (x > least) & (x < most) if open_ended and most < np.inf else x > least if open_ended else x >= least
    outside = int(xp.count_nonzero(~(inside & (x <= most))))
    if outside:
        sign = "<" if open_ended else "<="
        high = f" {sign} {most:g}" if most < np.inf else ""
        raise ValueError(f"{name} must satisfy {least:g} {sign} {name}{high}; {outside} of its {x.size} entries do not")
    _check_broadcast(x, name, tuple(v.shape))
    return x


def _check_broadcast(x: Array, name: str, shape: tuple[int, ...]) -> None:
    missing = (1,) * (len(shape) - x.ndim) + tuple(x.shape)
    if len(missing) != len(shape) or any(k not in (1, n) for k, n in zip(missing, shape, strict=True)):
        raise ValueError(f"{name} must broadcast against shape {shape}; got shape {tuple(x.shape)}")


def _weighted(t: Any, weights: Any, v: Array) -> Any:
    """``t weights``, where a weight of inf wins over t = 0."""
    return t if weights is None else _product(t, _amount(weights, "weights", v))


def _product(x: Any, y: Any) -> Any:
    """The product of parameters in which inf wins over 0."""
    if isinstance(x, float) and isinstance(y, float):
        return np.inf if np.inf in (x, y) else x * y
    with np.errstate(invalid="ignore"):
        product = x * y
    xp = array_namespace(product)
    unbounded = xp.broadcast_to(xp.asarray((x == np.inf) | (y == np.inf)), product.shape)
    return xp.where(unbounded, xp.full_like(product, np.inf), product)


def _step_and_reg(v: Array, step: Any, reg: Any, weights: Any) -> tuple[Any, Any]:
    return _amount(step, "step", v, infinite=False), _weighted(_amount(reg, "reg", v), weights, v)


def _as_mcp(reg: Any, norm: Any) -> tuple[Any, Any]:
    """``reg'`` and ``gamma'`` of the minimax concave penalty that CEL0 is."""
    if isinstance(norm, float):
        gamma = 1 / norm**2 if norm**2 > 0 else np.inf
    else:
        with np.errstate(divide="ignore"):
            gamma = 1 / norm**2
    return _product(norm, (2 * reg) ** 0.5), gamma
