"""Many entropic problems at once, each stopping on its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from numcore.algorithms.transport import _loops
from numcore.algorithms.transport._descent import precise, tolerance
from numcore.algorithms.transport._problem import Problem
from numcore.algorithms.transport._result import SinkhornResult, finish
from numcore.algorithms.transport.costs import Cost, DenseCost, as_cost
from numcore.arrays import Array, array_namespace, as_count, as_floating, to_numpy
from numcore.results import Loop, Result

__all__ = ["SinkhornBatchResult", "sinkhorn_batch"]


@dataclass(frozen=True, repr=False, eq=False)
class SinkhornBatchResult(Result):
    """B entropic problems: the fields of :class:`SinkhornResult` with a leading axis of length B.

    Attributes
    ----------
    f, g : (B, n), (B, m) arrays
    value, linear_cost, entropy_value, dual_value, reg, marginal_error : (B,) float64 arrays
    converged : (B,) bool array
    n_iter, n_passes : (B,) int arrays
    method : {"log", "kernel"}
    history : dict of str to array
        ``error``: the largest error among the problems still running, after each iteration.

    Indexing gives the :class:`SinkhornResult` of one problem.
    """

    f: Array
    g: Array
    value: np.ndarray[Any, Any]
    linear_cost: np.ndarray[Any, Any]
    entropy_value: np.ndarray[Any, Any]
    dual_value: np.ndarray[Any, Any]
    reg: np.ndarray[Any, Any]
    marginal_error: np.ndarray[Any, Any]
    converged: np.ndarray[Any, Any]
    n_iter: np.ndarray[Any, Any]
    n_passes: np.ndarray[Any, Any]
    method: str
    history: dict[str, np.ndarray[Any, Any]]
    _results: tuple[SinkhornResult, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, k: int) -> SinkhornResult:
        return self._results[k]

    @property
    def plan(self) -> Array:
        """The plans, (B, n, m)."""
        return array_namespace(self.f).stack([result.plan for result in self._results])

    def sparse_plan(self, threshold: float = 1e-12) -> list[Any]:
        """A CSR array for each problem, with the entries of at least `threshold`."""
        return [result.sparse_plan(threshold) for result in self._results]

    def apply(self, V: Any, transpose: bool = False) -> Array:
        """``P_k @ V_k`` for all k, or with the transposed plans; V has shape (m, ...), shared, or (B, m, ...)."""
        rows = (self.f if transpose else self.g).shape[1]
        V = as_floating(V, "V", ndim=(1, 2, 3), like=self.f)
        own = V.ndim == 3 or (V.ndim == 2 and V.shape == (len(self), rows) != (rows, rows))
        moved = [r.apply(V[k, ...] if own else V, transpose) for k, r in enumerate(self._results)]
        return array_namespace(self.f).stack(moved)


def sinkhorn_batch(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    reg_scale: str = "absolute",
    tol: float | None = None,
    max_iter: int = 10000,
    marginal_reg: Any = None,
    init: Any = None,
) -> SinkhornBatchResult:
    """Entropic transport for B problems of one shape, with one cost for all or one for each.

    Parameters
    ----------
    cost : (B, n, m) or (n, m) array_like, PointCloudCost or GridCost
        One cost for each problem, or one that all share. Where all share a stored cost and eps is not small, a half
        step of all is one matrix product.
    a, b : (B, n), (B, m) or (n,), (m,) array_like, optional
        Weights of each problem, or shared; uniform by default.
    reg, reg_scale, marginal_reg
        As for :func:`sinkhorn`; the scale is each problem's own.
    tol, max_iter
        Each problem stops when its own L1 marginal error is at most `tol` (1e-9, in float32 1e-5), or after `max_iter`.
    init : SinkhornBatchResult or (f, g), optional
        Potentials (B, n), (B, m) to start from; either may be None.

    Returns
    -------
    SinkhornBatchResult

    Raises
    ------
    ValueError, TypeError
        As for :func:`sinkhorn`; a message about the weights or cost of one problem begins with its number.

    Warns
    -----
    ConvergenceWarning
        If any problem stopped before `tol`.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import sinkhorn_batch
    >>> C = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> b = np.array([[0.5, 0.5], [0.25, 0.75]])
    >>> sinkhorn_batch(C, b=b, reg=0.05).linear_cost.round(4)
    array([0.  , 0.25])
    """
    as_count(max_iter, "max_iter")
    problems = _problems(cost, a, b, reg, reg_scale, marginal_reg)
    tol = tolerance(problems[0], tol)
    loop = Loop("sinkhorn_batch", tol=tol, max_iter=max_iter)
    stack = _stacked([precise(problem, tol, problem.cost.spread()) for problem in problems])
    index = list(range(len(problems)))
    method, done = stack.cost.method, {}
    f, g = _start(problems, init)
    for _ in loop.stage():
        f, r, c = stack.cost.sweep(f / stack.shrinks[0], 0 * f, stack.h(g), stack.a, stack.eps, stack.shrinks[0])
        error = to_numpy(stack.residual(f, g, r, c))
        ended = (error <= tol) | ~np.isfinite(error) | (loop.n_iter + 1 == max_iter)
        for k in np.flatnonzero(ended):
            own = problems[index[k]], f[k, :], g[k, :], r[k, :], c[k, :]
            outcome: dict[str, Any] = {"converged": bool(error[k] <= tol), "n_iter": loop.n_iter + 1, "history": {}}
            done[index[k]] = finish(*own, method=method, n_passes=loop.n_iter + 1, **outcome)
        loop.report(float(np.max(error, where=np.isfinite(error), initial=0.0)))
        rest = [int(k) for k in np.flatnonzero(~ended)]
        if not rest:
            break
        g = stack.translated(f, stack.columns(f, g, c))
        if len(rest) < len(index):
            stack, index = stack.taken(rest), [index[k] for k in rest]
            f, g = _rows(f, rest), _rows(g, rest)
    results = tuple(done[k] for k in range(len(problems)))
    loop.converged = all(result.converged for result in results)
    loop.finish(f"{sum(not r.converged for r in results)} of {len(results)} problems are affected.")
    return _collect(results, method, loop)


def _problems(cost: Any, a: Any, b: Any, reg: Any, reg_scale: Any, marginal_reg: Any) -> list[Problem]:
    """One checked problem for each member of the batch; a shared cost is shared."""
    if not isinstance(cost, Cost):
        cost = as_floating(cost, "cost", ndim=(2, 3), infinite="positive")
    many = not isinstance(cost, Cost) and cost.ndim == 3
    like = cost if not isinstance(cost, Cost) else cost.rows(slice(0, 1))
    weights = [None if w is None else as_floating(w, name, ndim=(1, 2), like=like) for w, name in ((a, "a"), (b, "b"))]
    sizes = {"cost": cost.shape[0]} if many else {}
    sizes |= {name: w.shape[0] for w, name in zip(weights, "ab", strict=True) if w is not None and w.ndim == 2}
    if not sizes:
        raise ValueError("one of cost (B, n, m), a (B, n), b (B, m) must have a leading axis of problems; none has")
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        raise ValueError(f"cost, a and b must hold the same positive number of problems; got {sizes}")
    shared = None if many else as_cost(cost)
    problems = []
    for k in range(next(iter(sizes.values()))):
        own_a, own_b = (w[k, :] if w is not None and w.ndim == 2 else w for w in weights)
        try:
            problems.append(Problem.check(shared or cost[k, ...], own_a, own_b, reg, reg_scale, marginal_reg))
        except ValueError as failure:
            raise ValueError(f"problem {k}: {failure}") from None
    return problems


class _Stack(Problem):
    """L problems as one: weights and potentials are (L, n) and (L, m) arrays, eps an (L, 1) array."""

    cost: Any  # a _SharedKernel or _Separate
    eps: Any

    def _exact_columns(self, f: Array, where: Array, x: Array, default: Array) -> Array:
        xp = self.xp
        exact = [
            _loops.soft_min(_loops.stored(self.cost.matrix(k).T), self.u(f)[k, :], float(self.eps[k, 0]))
            if bool(xp.any(where[k, :]))
            else x[k, :]
            for k in range(f.shape[0])
        ]
        exact = xp.stack(exact)
        return xp.where(where, xp.where(xp.isfinite(exact), exact, default), x)

    def taken(self, rows: list[int]) -> _Stack:
        """Some of the problems."""
        parts = {name: _rows(getattr(self, name), rows) for name in ("a", "b", "log_a", "log_b", "eps")}
        return replace(self, cost=self.cost.taken(rows), **parts)


def _stacked(problems: list[Problem]) -> _Stack:
    first, xp = problems[0], problems[0].xp
    parts = {name: xp.stack([getattr(p, name) for p in problems]) for name in ("a", "b", "log_a", "log_b")}
    eps = xp.stack([xp.sum(0 * p.a) + p.eps for p in problems])[:, None]
    return _Stack(cost=_form(problems), eps=eps, rho=first.rho, **parts)


def _rows(x: Array, rows: list[int]) -> Array:
    xp = array_namespace(x)
    return xp.stack([x[k, :] for k in rows])


def _form(problems: list[Problem]) -> Any:
    """How to sweep over all: by products with one kernel where it stays in range and all share it, else in logs."""
    cost = problems[0].cost
    shared = all(problem.cost is cost for problem in problems)
    if shared and isinstance(cost, DenseCost):
        # without absorption, scalings have to span the whole spread
        limit = 60 if cost.dtype == cost.xp.float32 else 500
        if len({problem.eps for problem in problems}) == 1 and cost.spread() < limit * problems[0].eps:
            return _SharedKernel(cost, problems[0].eps)
    return _Separate([problem.cost for problem in problems], shared)


class _SharedKernel:
    """One Gibbs kernel for all problems: a half step is a matrix product."""

    method = "kernel"

    def __init__(self, cost: DenseCost, eps: float) -> None:
        self.cost, self.xp, self.dtype = cost, cost.xp, cost.dtype
        self.f, self.g = cost.minima()
        self.K = _loops.kernel(cost.C, self.f, self.g, eps)

    def matrix(self, k: int) -> Array:
        """The cost of problem k."""
        return self.cost.C

    def taken(self, rows: list[int]) -> _SharedKernel:
        """The form of some of the problems."""
        return self

    def sweep(self, guess: Array, base: Array, h: Array, a: Array, eps: Array, power: Array) -> Any:
        """Row updates of all problems, as :meth:`GibbsKernel.sweep` does one."""
        xp, K = self.xp, self.K
        x = xp.exp(h - self.g / eps)
        q = xp.astype(xp.astype(x, K.dtype) @ K.T, xp.float64)
        some = q > 0  # a row of forbidden pairs has no sum, and no mass
        q = xp.where(some, q, xp.ones_like(q))
        w = xp.where(some, a * xp.exp((base + (power - 1) * self.f) / eps), xp.zeros_like(a))
        s = xp.astype(xp.astype(w * q**-power, K.dtype) @ K, xp.float64)
        return base + power * (self.f - eps * xp.log(q)), w * q ** (1 - power), x * s


class _Separate:
    """A cost for each problem, swept in logs."""

    method = "log"

    def __init__(self, costs: list[Cost], shared: bool) -> None:
        self.costs, self.xp, self.dtype = costs, costs[0].xp, costs[0].dtype
        self.which = list(range(len(costs)))
        self.C: Array | None = None
        if isinstance(costs[0], DenseCost):
            self.C = self.xp.stack([cost.C for cost in (costs[:1] if shared else costs)])  # type: ignore[attr-defined]
            self.which = [0] * len(costs) if shared else self.which

    def matrix(self, k: int) -> Array:
        """The cost of problem k."""
        return self.costs[k].rows(slice(None))

    def taken(self, rows: list[int]) -> _Separate:
        """The form of some of the problems."""
        part = object.__new__(_Separate)
        part.xp, part.dtype, part.C = self.xp, self.dtype, self.C
        part.costs, part.which = [self.costs[k] for k in rows], [self.which[k] for k in rows]
        return part

    def sweep(self, guess: Array, base: Array, h: Array, a: Array, eps: Array, power: Array) -> Any:
        """Row updates of all problems."""
        xp = self.xp
        eps, power = eps[:, 0], (eps * 0 + power)[:, 0]
        if self.C is not None:
            return _loops.sweep_batch(self.C, xp.asarray(self.which), guess, base, h, a, eps, power)
        parts = [
            cost.sweep(guess[k, :], base[k, :], h[k, :], a[k, :], float(eps[k]), float(power[k]))
            for k, cost in enumerate(self.costs)
        ]
        return tuple(xp.stack(part) for part in zip(*parts, strict=True))


def _start(problems: list[Problem], init: Any) -> tuple[Array, Array]:
    xp = problems[0].xp
    pair: tuple[Array | None, ...] = (None, None)
    if isinstance(init, SinkhornBatchResult):
        pair = tuple(xp.stack([r._potentials[side] for r in init._results]) for side in (0, 1))
    elif init is not None:
        if not isinstance(init, (tuple, list)) or len(init) != 2:
            raise TypeError(f"init must be a SinkhornBatchResult or a pair (f, g); got {type(init).__name__}")
        shapes = zip(init, problems[0].cost.shape, ("init[0]", "init[1]"), strict=True)
        like = problems[0].a
        pair = tuple(
            None if x is None else as_floating(x, name, shape=(len(problems), size), dtype=xp.float64, like=like)
            for x, size, name in shapes
        )
    if all(x is None for x in pair) and all(problem.cost is problems[0].cost for problem in problems):
        one = problems[0].start(None)
        pairs = [one] * len(problems)
    else:
        pairs = [p.start(tuple(None if x is None else x[k, :] for x in pair)) for k, p in enumerate(problems)]
    return xp.stack([f for f, _ in pairs]), xp.stack([g for _, g in pairs])


def _collect(results: tuple[SinkhornResult, ...], method: str, loop: Loop) -> SinkhornBatchResult:
    xp = results[0]._problem.xp
    figures = (
        "value",
        "linear_cost",
        "entropy_value",
        "dual_value",
        "reg",
        "marginal_error",
        "converged",
        "n_iter",
        "n_passes",
    )
    return SinkhornBatchResult(
        f=xp.stack([result.f for result in results]),
        g=xp.stack([result.g for result in results]),
        method=method,
        history=loop.history,
        _results=results,
        **{name: np.asarray([getattr(result, name) for result in results]) for name in figures},
    )
