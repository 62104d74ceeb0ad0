"""Greedy block coordinate descent for squared and logistic losses with l1 and l2 penalties.

J. Nutini, I. Laradji, M. Schmidt, *Let's Make Block Coordinate Descent Converge Faster: Faster Greedy Rules,
Message-Passing, Active-Set Complexity, and Superlinear Convergence*, JMLR 23, 2022 (NLS below).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import expit

from numcore import prox
from numcore.arrays import as_choice, as_count, as_floating, as_number, as_rng
from numcore.results import Callback, Loop, Result

__all__ = ["BCDResult", "block_coordinate_descent"]

Array = NDArray[Any]

RULES = ("gsq", "gsd", "gsl", "gs", "random", "cyclic")
UPDATES = ("matrix", "newton", "diagonal", "lipschitz")
INNER = 20
"""Sweeps over the coordinates of a block, at most, where the l1 norm leaves its model no closed form."""
REFRESH = 100
"""Iterations after which the gradient is computed afresh."""


@dataclass(frozen=True, repr=False, eq=False)
class BCDResult(Result):
    """What :func:`block_coordinate_descent` returns.

    Attributes
    ----------
    x : (d,) array
    objective : float
    kkt : float
        Largest entry, in size, of the sub-gradient of least norm.
    active_set : array of int
        Where `x` is not zero.
    active_set_iter : int
        The iteration after which the active set and its signs were the final ones.
    converged : bool
    n_iter : int
        Blocks updated.
    history : dict
        A float64 array an iteration: ``kkt``, ``objective``.
    """

    x: Array
    objective: float
    kkt: float
    active_set: NDArray[np.intp]
    active_set_iter: int
    converged: bool
    n_iter: int
    history: dict[str, Array]


def block_coordinate_descent(
    A: Any,
    b: Any,
    *,
    loss: Literal["squared", "logistic"] = "squared",
    l1: float = 0.0,
    l2: float = 0.0,
    block_size: int = 5,
    rule: Literal["gsq", "gsd", "gsl", "gs", "random", "cyclic"] = "gsq",
    update: Literal["matrix", "newton", "diagonal", "lipschitz"] = "matrix",
    blocks: Literal["variable", "fixed"] = "variable",
    x0: Any = None,
    tol: float = 1e-8,
    max_iter: int = 10000,
    callback: Callback | None = None,
    verbose: int = 0,
    rng: Any = None,
) -> BCDResult:
    r"""Minimise a loss plus :math:`\lambda_1 \|x\|_1 + \frac{\lambda_2}{2} \|x\|^2`, a few coordinates at a time.

    The squared loss is :math:`\frac12 \|Ax - b\|^2`, the logistic one :math:`\sum_i \log(1 + e^{-b_i a_i^\top x})` with
    :math:`b_i = \pm 1`. Each iteration picks a block by the gradient, minimises a model of the objective on it, and
    updates the gradient. When the signs of `x` have not changed over d coordinates, a Newton step is taken on the
    support as a whole, and kept if it leads downhill: the end of a sparse problem takes a few such steps.

    Parameters
    ----------
    A : (n, d) array or sparse matrix
    b : (n,) array
    loss : {"squared", "logistic"}
    l1, l2 : float
        The penalties :math:`\lambda_1, \lambda_2 \ge 0`.
    block_size : int
        Coordinates a block.
    rule : {"gsq", "gsd", "gsl", "gs", "random", "cyclic"}
        How a block is chosen, with :math:`g` the gradient, :math:`H` the bound on the Hessian (:math:`A^\top A`, for
        the logistic loss a quarter of it, plus :math:`\lambda_2 I`), :math:`L_b` its largest eigenvalue on the block
        and :math:`L_i = H_{ii}`:

        - ``"gs"``: the largest :math:`\|g_b\|`;
        - ``"gsl"``: the largest :math:`\|g_b\|^2 / L_b`, for variable blocks with :math:`\sum_b L_i` in place of
          :math:`L_b`, which it bounds;
        - ``"gsd"``: the largest :math:`\sum_b g_i^2 / L_i`;
        - ``"gsq"``: the largest :math:`g_b^\top H_{bb}^{-1} g_b`, for variable blocks grown by one coordinate after
          another;
        - ``"random"``: drawn; ``"cyclic"``: in turn.

        With :math:`\lambda_1 > 0`, :math:`g` is the sub-gradient of least norm, and for ``"gsd"`` and ``"gsq"`` the
        terms are the decreases of models that include the norm.
    update : {"matrix", "newton", "diagonal", "lipschitz"}
        The curvature of the block's model: :math:`H_{bb}`; the Hessian at `x`, with backtracking; the diagonal
        :math:`|b| L_i`; :math:`L_b`.
    blocks : {"variable", "fixed"}
        Whether any coordinates can form a block, or a partition is chosen from: coordinates sorted by :math:`L_i`
        (NLS, section 3.4), cut into blocks.
    x0 : (d,) array, optional
        Start; default zero.
    tol : float
        Converged when the sub-gradient of least norm has no entry above ``tol * max(1, its largest entry at zero)``.
    max_iter : int
        Blocks at most.
    callback : callable, optional
        Called once an iteration with a record of ``n_iter``, ``x``, ``objective``, ``kkt``; True stops.
    verbose : int
        1 shows a progress bar.
    rng
        For ``rule="random"``.

    Returns
    -------
    BCDResult

    Raises
    ------
    ValueError
        If an argument is of the wrong shape or range, or not finite; if labels are not -1 and 1.
    TypeError
        If an argument is of the wrong type.

    Warns
    -----
    ConvergenceWarning
        If `tol` was not reached.

    Notes
    -----
    For the squared loss and n > d, the products with `A` are those with its Gram matrix, formed once: an iteration then
    costs O(d) times the size of a block. Otherwise the columns of H that are met are kept.

    References
    ----------
    J. Nutini, I. Laradji, M. Schmidt, *Let's Make Block Coordinate Descent Converge Faster*, JMLR 23, 2022: sections 3
    (rules), 4 (updates) and 6 (active set).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import block_coordinate_descent
    >>> A = np.random.default_rng(0).standard_normal((50, 8))
    >>> found = block_coordinate_descent(A, A[:, 0] - 2 * A[:, 3], l1=5.0)
    >>> found.active_set, found.converged
    (array([0, 3]), True)
    """
    as_choice(loss, "loss", ("squared", "logistic"))
    as_choice(rule, "rule", RULES)
    as_choice(update, "update", UPDATES)
    as_choice(blocks, "blocks", ("variable", "fixed"))
    A, b = as_data(A, b, loss)
    d = A.shape[1]
    lam1, lam2 = as_number(l1, "l1", above=0, closed=True), as_number(l2, "l2", above=0, closed=True)
    size, tol = min(as_count(block_size, "block_size"), d), as_number(tol, "tol", above=0, closed=True)
    zero = np.zeros(d, A.dtype)
    start = zero if x0 is None else as_floating(x0, "x0", shape=(d,), dtype=A.dtype)

    smooth = Squared if loss == "squared" else Logistic
    f = smooth(A, b, lam2, start.copy())
    x, g = f.x, f.g
    choose = chooser(rule, f, partition(f.L, size) if blocks == "fixed" else None, size, lam1, as_rng(rng))

    def kkt() -> float:
        return float(np.abs(least_subgradient(g, x, lam1)).max())

    def objective() -> float:
        return f.value() + lam1 * float(np.abs(x).sum())

    at_zero = g if x0 is None else smooth(A, b, lam2, zero).g
    scale = max(1.0, float(np.abs(least_subgradient(at_zero, zero, lam1)).max()))
    loop = Loop(
        "block_coordinate_descent",
        tol=tol * scale,
        max_iter=max_iter,
        callback=callback,
        verbose=verbose,
        floor=16 * float(np.finfo(A.dtype).eps) * scale,
        residual="kkt",
    )
    signs, changed, still = np.sign(x), 0, 0
    for t in loop.stage(error=kkt()):
        block = choose()
        step = block_minimiser(f.model(block, update), g[block], x[block], lam1)
        if update == "newton":
            step = backtrack(f, block, step, lam1)
        f.move(block, step)

        still += block.size
        if not np.array_equal(np.sign(x), signs):
            signs, changed, still = np.sign(x), t + 1, 0
        elif lam1 and still >= 2 * d:  # the signs are probably the final ones
            still = 0
            support_step(f, lam1)
        if (t + 1) % REFRESH == 0 or kkt() <= loop.tol:  # no end is believed of a gradient that was carried along
            f.refresh()
        loop.report(kkt(), objective=objective(), state=lambda: {"x": x})
    if not np.array_equal(np.sign(x), signs):
        changed = loop.n_iter
    loop.finish()
    f.refresh()
    return BCDResult(
        x=x,
        objective=objective(),
        kkt=kkt(),
        active_set=np.flatnonzero(x),
        active_set_iter=changed,
        **loop.outcome,
    )


def as_data(A: Any, b: Any, loss: str) -> tuple[Any, Array]:
    """The checked matrix (sparse ones by columns) and targets, in one dtype."""
    if is_sparse(A):
        values = as_floating(A.data, "A")
        A = scipy.sparse.csc_array(A, dtype=values.dtype)
    else:
        A = as_floating(A, "A", ndim=2)
    if not A.shape[0] or not A.shape[1]:
        raise ValueError(f"A must have rows and columns; got shape {A.shape}")
    b = as_floating(b, "b", shape=(A.shape[0],), dtype=A.dtype)
    if loss == "logistic" and not np.isin(b, (-1, 1)).all():
        bad = int(np.count_nonzero(~np.isin(b, (-1, 1))))
        raise ValueError(f"b must be -1 or 1 for the logistic loss; {bad} of its {b.size} entries are not")
    return A, b


class Loss:
    """A smooth loss with its l2 penalty at x: what a step on a block needs to know of it.

    `bound` scales the Gram matrix to a bound on the Hessian, whose diagonal is `L`.
    """

    bound = 1.0

    def __init__(self, A: Any, b: Array, lam2: float, x: Array) -> None:
        self.A, self.b, self.lam2, self.x = A, b, lam2, x
        n, d = A.shape
        self._gram = dense(A.T @ A) if d <= n else None
        self._columns: dict[int, Array] = {}
        squares = A.multiply(A) if is_sparse(A) else A * A
        self.L: Array = self.bound * np.asarray(squares.sum(axis=0)).ravel() + lam2
        self.g: Array = np.empty_like(x)
        self.refresh()

    def columns(self, block: Array) -> Array:
        """Columns of the bound on the Hessian, (d, block)."""
        if self._gram is None:
            for j in block.tolist():
                if j not in self._columns:
                    self._columns[j] = dense(self.A.T @ self.A[:, [j]]).ravel()
            H = self.bound * np.stack([self._columns[j] for j in block.tolist()], axis=1)
        else:
            H = self.bound * self._gram[:, block]
        H[block, np.arange(block.size)] += self.lam2
        return H

    def model(self, block: Array, update: str) -> Array:
        """The curvature that `update` gives the block's model, (block, block)."""
        if update == "newton":
            return self.hessian(block)
        H: Array = self.columns(block)[block]
        if update == "diagonal":
            return np.diag(block.size * self.L[block])
        return H if update == "matrix" else np.linalg.eigvalsh(H)[-1] * np.eye(block.size)

    def hessian(self, block: Array) -> Array:
        raise NotImplementedError

    def value(self) -> float:
        raise NotImplementedError

    def change(self, block: Array, step: Array) -> float:
        """By how much the loss grows."""
        raise NotImplementedError

    def move(self, block: Array, step: Array) -> None:
        raise NotImplementedError

    def refresh(self) -> None:
        """Compute the gradient at x from the data."""
        raise NotImplementedError


class Squared(Loss):
    r""":math:`\frac12 \|Ax - b\|^2 + \frac{\lambda_2}{2} \|x\|^2`."""

    def hessian(self, block: Array) -> Array:
        return self.columns(block)[block]

    def value(self) -> float:
        return self._value

    def change(self, block: Array, step: Array) -> float:
        return float(self.g[block] @ step + step @ self.hessian(block) @ step / 2)

    def move(self, block: Array, step: Array) -> None:
        H = self.columns(block)
        self._value += float(self.g[block] @ step + step @ H[block] @ step / 2)
        self.x[block] += step
        self.g += H @ step

    def refresh(self) -> None:
        r = self.A @ self.x - self.b
        self._value = float(r @ r + self.lam2 * (self.x @ self.x)) / 2
        self.g[:] = self.A.T @ r + self.lam2 * self.x


class Logistic(Loss):
    r""":math:`\sum_i \log(1 + e^{-b_i a_i^\top x}) + \frac{\lambda_2}{2} \|x\|^2`."""

    bound = 0.25

    def hessian(self, block: Array) -> Array:
        p = expit(self.margin)
        columns = dense(self.A[:, block])
        H: Array = columns.T @ ((p * (1 - p))[:, None] * columns)
        return H + self.lam2 * np.eye(block.size, dtype=H.dtype)

    def value(self) -> float:
        return float(np.logaddexp(0, -self.margin).sum() + self.lam2 / 2 * (self.x @ self.x))

    def change(self, block: Array, step: Array) -> float:
        moved = self.margin + self.b * (self.A[:, block] @ step)
        growth = np.logaddexp(0, -moved) - np.logaddexp(0, -self.margin)
        return float(growth.sum() + self.lam2 * (self.x[block] + step / 2) @ step)

    def move(self, block: Array, step: Array) -> None:
        self.x[block] += step
        self.margin += self.b * (self.A[:, block] @ step)
        self._gradient()

    def refresh(self) -> None:
        self.margin: Array = self.b * (self.A @ self.x)
        self._gradient()

    def _gradient(self) -> None:
        self.g[:] = self.lam2 * self.x - self.A.T @ (self.b * expit(-self.margin))


def is_sparse(A: Any) -> bool:
    return bool(scipy.sparse.issparse(A))


def dense(A: Any) -> Array:
    return np.asarray(A.toarray() if is_sparse(A) else A)


# Which block


def partition(L: Array, size: int) -> Array:
    """Coordinates sorted by curvature, cut into blocks: (blocks, size), the last one filled up with -1."""
    order = np.argsort(-L, kind="stable")
    return np.pad(order, (0, -L.size % size), constant_values=-1).reshape(-1, size)


def chooser(
    rule: str, f: Loss, groups: Array | None, size: int, lam1: float, rng: np.random.Generator
) -> Callable[[], Array]:
    """A function that gives the block to be updated next."""
    d = f.x.size
    if rule in ("random", "cyclic"):
        if groups is None and rule == "random":
            return lambda: np.sort(rng.choice(d, size, replace=False))
        parts = partition(np.zeros(d), size) if groups is None else groups
        turns = itertools.cycle(range(len(parts)))
        return lambda: members(parts, next(turns) if rule == "cyclic" else int(rng.integers(len(parts))))
    if groups is None:
        if rule == "gsq":
            return lambda: greedy_quadratic(f, size, lam1)
        if rule == "gsl":
            return lambda: best_ratio(least_subgradient(f.g, f.x, lam1) ** 2, f.L, size)
        return lambda: largest(scores(rule, f, lam1), size)
    real = groups >= 0
    H = np.stack([padded(f.columns(members(groups, k))[members(groups, k)], size) for k in range(len(groups))])
    if rule == "gsq":
        return lambda: members(groups, int(np.argmax(quadratic_scores(H, f, groups, lam1))))
    weight = np.linalg.eigvalsh(H)[:, -1] if rule == "gsl" else np.ones(len(groups))
    weight = np.where(weight > 0, weight, 1)
    return lambda: members(
        groups, int(np.argmax(np.where(real, scores(rule, f, lam1)[groups], 0).sum(axis=1) / weight))
    )


def scores(rule: str, f: Loss, lam1: float) -> Array:
    """What each coordinate adds to the score of a block: for gs and gsl its squared gradient, for gsd its decrease."""
    if rule == "gsd":
        return decrease(f.g, f.L, f.x, lam1)
    return least_subgradient(f.g, f.x, lam1) ** 2


def members(groups: Array, k: int) -> Array:
    return groups[k][groups[k] >= 0]


def padded(H: Array, size: int) -> Array:
    """H, grown to `size` by an identity block."""
    grown = np.eye(size, dtype=H.dtype)
    grown[: len(H), : len(H)] = H
    return grown


def largest(score: Array, size: int) -> Array:
    """The places of the largest scores, in order."""
    return np.sort(np.argpartition(-score, size - 1)[:size])


def best_ratio(gain: Array, cost: Array, size: int) -> Array:
    """The `size` coordinates with the largest ratio of summed gain to summed cost (Dinkelbach's iteration)."""
    block = largest(gain, size)
    for _ in range(20):
        spent = float(cost[block].sum())
        ratio = float(gain[block].sum()) / spent if spent else 0.0
        better = largest(gain - ratio * cost, size)
        if np.array_equal(better, block):
            break
        block = better
    return block


def greedy_quadratic(f: Loss, size: int, lam1: float) -> Array:
    """A block with large g' H^-1 g, grown a coordinate at a time by a Cholesky factor (NLS, section 3.2).

    `g` and `h` are gradient and curvature of the model after the coordinates chosen so far were eliminated.
    """
    d = f.x.size
    g, h = f.g.copy(), f.L.copy()
    rows = np.empty((size, d), f.g.dtype)
    floor = 1e-12 * f.L
    chosen: list[int] = []
    for k in range(size):
        score = decrease(g, np.where(h > floor, h, 0), f.x, lam1)
        score[chosen] = -1.0
        j = int(np.argmax(score))
        if score[j] < 0:
            break
        chosen.append(j)
        if score[j] > 0:
            row = (f.columns(np.array([j]))[:, 0] - rows[:k].T @ rows[:k, j]) / np.sqrt(h[j])
            rows[k] = row
            g -= row * (g[j] / np.sqrt(h[j]))
            h -= row * row
        else:
            rows[k] = 0
    return np.sort(np.array(chosen))


def quadratic_scores(H: Array, f: Loss, groups: Array, lam1: float) -> Array:
    """The decrease of the whole model of each block of a partition."""
    real = groups >= 0
    g, x = np.where(real, f.g[groups], 0), np.where(real, f.x[groups], 0)
    step = np.zeros_like(x)
    if not lam1:
        step = -np.linalg.solve(
            H + 1e-12 * np.trace(H, axis1=1, axis2=2)[:, None, None] * np.eye(H.shape[1]), g[..., None]
        )[..., 0]
    else:
        for _ in range(INNER):
            sweep(H, g, x, step, lam1)
    Hs = np.einsum("kij,kj->ki", H, step)
    return -np.sum(step * (g + Hs / 2) + lam1 * (np.abs(x + step) - np.abs(x)), axis=1)


# What to do on it


def least_subgradient(g: Array, x: Array, lam1: float) -> Array:
    """The sub-gradient of least norm of the objective, where g is the gradient of its smooth part."""
    if not lam1:
        return g
    return np.where(x != 0, g + lam1 * np.sign(x), prox.l1(g, lam1))


def decrease(g: Array, h: Array, x: Array, lam1: float) -> Array:
    """By how much min over t of g t + h t^2 / 2 + lam1 (|x + t| - |x|) lies below 0; 0 where h is 0."""
    flat = h <= 0
    h = np.where(flat, 1, h)
    t = prox.l1(x - g / h, lam1 / h) - x if lam1 else -g / h
    gain = -(t * (g + h * t / 2) + lam1 * (np.abs(x + t) - np.abs(x)))
    return np.where(flat, 0, np.maximum(gain, 0))


def block_minimiser(H: Array, g: Array, x: Array, lam1: float) -> Array:
    """The step that minimises g's + s'Hs/2 + lam1 |x + s|_1."""
    if not lam1:
        return -semidefinite_solve(H, g)
    step = np.zeros_like(x)
    for _ in range(INNER):
        if sweep(H[None], g[None], x[None], step[None], lam1) <= 1e-15 * float(np.abs(x + step).max()):
            break
    return step


def sweep(H: Array, g: Array, x: Array, step: Array, lam1: float) -> float:
    """One round of coordinate descent on the models of several blocks at once; `step` is improved in place."""
    largest_move = 0.0
    for j in range(H.shape[1]):
        h = H[:, j, j]
        safe = np.where(h > 0, h, 1)
        slope = g[:, j] + np.einsum("kj,kj->k", H[:, j], step)
        target = x[:, j] + step[:, j] - slope / safe
        new = np.where(h > 0, np.sign(target) * np.maximum(np.abs(target) - lam1 / safe, 0) - x[:, j], step[:, j])
        largest_move = max(largest_move, float(np.abs(new - step[:, j]).max()))
        step[:, j] = new
    return largest_move


def semidefinite_solve(H: Array, g: Array) -> Array:
    """H^-1 g; where H is singular, the solution of least norm."""
    try:
        return scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, check_finite=False), g, check_finite=False)
    except scipy.linalg.LinAlgError:
        return np.linalg.lstsq(H, g, rcond=None)[0]


def backtrack(f: Loss, block: Array, step: Array, lam1: float) -> Array:
    """The step, halved until it brings a part of what its slope promises (Armijo, 1e-4)."""
    x = f.x[block]

    def penalty(s: Array) -> float:
        return lam1 * float(np.abs(x + s).sum() - np.abs(x).sum())

    slope = float(f.g[block] @ step) + penalty(step)
    for k in range(40):
        trial = step / 2**k
        if f.change(block, trial) + penalty(trial) <= 1e-4 * slope / 2**k:
            return trial
    return np.zeros_like(step)


def support_step(f: Loss, lam1: float) -> None:
    """Newton's step for the objective restricted to the support of x and its signs, if it leads downhill."""
    S = np.flatnonzero(f.x)
    if S.size:
        step = -semidefinite_solve(f.hessian(S), f.g[S] + lam1 * np.sign(f.x[S]))
        crossed = f.x[S] * (f.x[S] + step) < 0
        if crossed.any():  # no farther than the first coordinate that would change its sign
            step *= float(np.min(-f.x[S][crossed] / step[crossed]))
        f.move(S, backtrack(f, S, step, lam1))
