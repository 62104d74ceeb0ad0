"""The result of entropic transport: potentials, values, and the plan on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from numcore.algorithms.transport._problem import Problem
from numcore.arrays import Array, as_floating, as_number, is_numpy
from numcore.results import Result

__all__ = ["SinkhornResult", "finish"]

HISTORY = ("error", "dual_value", "reg", "n_passes")


@dataclass(frozen=True, repr=False, eq=False)
class SinkhornResult(Result):
    """Entropic transport between n sources and m targets.

    Attributes
    ----------
    f, g : (n,), (m,) arrays
        Potentials; in a balanced problem ``<b, g> = 0``. Where a weight is 0 they are the extension out of sample.
    value : float
        ``<P, C> + eps KL(P | a (x) b)``, plus the marginal terms in an unbalanced problem. In a balanced one it is
        taken at (f, g) as the dual objective, whose error is of the second order in `marginal_error`.
    linear_cost : float
        ``<P, C>``.
    entropy_value : float
        ``<P, C> - eps H(P)``, ``H(P) = -sum P log P``: the value in the convention of POT and OTT.
    dual_value : float
        The dual objective at (f, g): a lower bound of the optimum, whatever the number of iterations.
    reg : float
        The regularisation eps, after `reg_scale`.
    marginal_error : float
        L1 error of both marginals, ``|P1 - a|_1 + |P^T 1 - b|_1`` (unbalanced: the optimality residual).
    converged : bool
        Whether `marginal_error` is at most `tol`.
    n_iter : int
        Sinkhorn iterations, or Newton steps.
    n_passes : int
        Sweeps over the cost.
    method : {"log", "kernel", "newton", "newton+sinkhorn"}
        The form that ran.
    history : dict of str to array
        ``error``, ``dual_value``, ``reg`` and ``n_passes`` after each iteration.
    """

    f: Array
    g: Array
    value: float
    linear_cost: float
    entropy_value: float
    dual_value: float
    reg: float
    marginal_error: float
    converged: bool
    n_iter: int
    n_passes: int
    method: str
    history: dict[str, np.ndarray[Any, Any]]
    _problem: Problem = field(repr=False)
    _potentials: tuple[Array, Array] = field(repr=False)

    @cached_property
    def plan(self) -> Array:
        """The (n, m) plan, computed when first asked for and kept."""
        return self._problem.cost.plan(*self._logs, self.reg)

    @property
    def _logs(self) -> tuple[Array, Array]:
        f, g = self._potentials
        return self._problem.u(f), self._problem.h(g)

    def sparse_plan(self, threshold: float = 1e-12) -> Any:
        """The entries of the plan of at least `threshold`, as a CSR array (NumPy problems only).

        Parameters
        ----------
        threshold : float
            The least entry kept, positive.
        """
        threshold = as_number(threshold, "threshold", above=0)
        if not is_numpy(self.f):
            raise TypeError("sparse_plan needs a problem on NumPy arrays; use plan or apply")
        n, m = self._problem.cost.shape
        return self._problem.cost.plan_entries(*self._logs, self.reg, np.full(n, threshold), np.full(m, threshold))

    def apply(self, V: Any, transpose: bool = False) -> Array:
        """``P @ V``, or ``P.T @ V``, a few rows of P at a time.

        Parameters
        ----------
        V : (m,) or (m, k) array_like
            Of n rows if `transpose`.
        transpose : bool
            Apply the transposed plan.

        Returns
        -------
        (n,) or (n, k) array
        """
        n, m = self._problem.cost.shape
        V = as_floating(V, "V", ndim=(1, 2), like=self.f)
        if V.shape[0] != (n if transpose else m):
            raise ValueError(f"V must have {n if transpose else m} rows for a plan of shape {(n, m)}; got {V.shape}")
        columns = V[:, None] if V.ndim == 1 else V
        u, h = self._logs
        if transpose:
            moved = self._problem.cost.T.apply(h, u, self.reg, columns)
        else:
            moved = self._problem.cost.apply(u, h, self.reg, columns)
        return moved[:, 0] if V.ndim == 1 else moved


def finish(
    problem: Problem, f: Array, g: Array, r: Array, c: Array, *, method: str, n_passes: int, **outcome: Any
) -> SinkhornResult:
    """The result at potentials (f, g) whose plan has row sums r and column sums c; `outcome` is that of the loop."""
    xp, eps = problem.xp, problem.eps
    f, g = problem.centred(f, problem.extended(f, g))
    dual = problem.dual_value(f, g, float(xp.sum(r)))
    linear = problem.cost.plan_cost(problem.u(f), problem.h(g), eps)
    # H(P) = -sum P log P with log P = u + h - C / eps, taken where there is mass
    logs = sum(float(p @ xp.where(p > 0, t, xp.zeros_like(t))) for p, t in ((r, problem.u(f)), (c, problem.h(g))))
    return SinkhornResult(
        f=problem.cast(f),
        g=problem.cast(g),
        value=dual if problem.balanced else problem.primal_value(f, g, r, c),
        linear_cost=linear,
        entropy_value=eps * logs,
        dual_value=dual,
        reg=eps,
        marginal_error=float(problem.residual(f, g, r, c)),
        n_passes=n_passes,
        method=method,
        **outcome | {"history": {key: outcome["history"].get(key, np.empty(0)) for key in HISTORY}},
        _problem=problem,
        _potentials=(f, g),
    )
