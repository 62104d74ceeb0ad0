"""Fixed points beside SciPy's: the rows for peers.py. All solve to the same measured ``max |f(x) - x|``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scipy",)
TOLERANCES = (1e-8, 3e-9, 1e-9, 1e-10, 1e-11)

Map = Callable[[Any], Any]


def slow_contraction(n: int, factor: float = 0.98) -> tuple[Map, Any]:
    """``tanh(A x) + b``, A symmetric of norm `factor`."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, n))
    A = A + A.T
    A *= factor / np.linalg.norm(A, 2)
    b = 0.1 * rng.normal(size=n)
    return lambda x: np.tanh(x @ A) + b, np.zeros(n)


def monotone_network(n: int, n_rows: int) -> tuple[Map, Any]:
    """A forward-backward step of ``x = relu(W x + b)``, ``I - W`` monotone; the rows are independent."""
    rng = np.random.default_rng(0)
    A, B = rng.uniform(-1, 1, (2, n, n)) / n**0.5
    M = np.eye(n) + A.T @ A + B - B.T
    b, step = rng.normal(size=(n_rows, n)), 1.5 / np.linalg.norm(M, 2)
    return lambda X: np.maximum(X - step * (X @ M.T - b), 0), np.zeros((n_rows, n))


def contestants(problem: Callable[[], tuple[Map, Any]], batched: bool) -> Mapping[str, Callable[[], Run]]:
    func, x0 = problem()

    def error(x: Any) -> float:
        return float(np.max(np.abs(func(x) - x)))

    def ours() -> Run:
        from numcore.fixed_point import fixed_point

        return Run(lambda tol: fixed_point(func, x0, tol=tol, max_iter=5000, batched=batched).x, TOLERANCES, error)

    def scipy_root(name: str) -> Run:
        import scipy.optimize

        solver = getattr(scipy.optimize, name)
        return Run(lambda tol: solver(lambda x: func(x) - x, x0, f_tol=tol, maxiter=5000), TOLERANCES, error)

    return {
        "ours": ours,
        "SciPy anderson": partial(scipy_root, "anderson"),
        "SciPy broyden1": partial(scipy_root, "broyden1"),
    }


ROWS = (
    Row("slow-100", "slow contraction, n=100", partial(contestants, partial(slow_contraction, 100), False), error=1e-8),
    Row(
        "slow-2000",
        "slow contraction, n=2000",
        partial(contestants, partial(slow_contraction, 2000), False),
        error=1e-8,
        quick=True,
    ),
    Row(
        "network-500",
        "monotone network, 500 units, 128 rows",
        partial(contestants, partial(monotone_network, 500, 128), True),
        error=1e-8,
    ),
)
