"""Proximal operators and projections beside NumPy formulas and the libraries that have them: the rows for peers.py.

skglm's operators are scalar: they run here as its users run them, in a jitted loop. Errors are measured against the
NumPy formula in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scikit-learn", "skglm", "jaxopt", "jax", "pyproximal", "pot", "entmax", "torch")

Makers = Mapping[str, Callable[[], Run]]


def normal(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return 2 * np.random.default_rng(0).standard_normal(shape).astype(dtype)


def held_against(exact: np.ndarray) -> Callable[[Callable[[], Any]], Run]:
    """Runs whose error is the largest difference from `exact`."""

    def run(call: Callable[[], Any]) -> Run:
        return Run(lambda _: call(), error=lambda x: float(np.max(np.abs(np.asarray(x, dtype=np.float64) - exact))))

    return run


def jitted(function: Callable[..., Any], v: np.ndarray) -> Callable[[], Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    compiled, x = jax.jit(function), jax.numpy.asarray(v)
    return lambda: compiled(x).block_until_ready()


def looped(scalar: Any, v: np.ndarray, *parameters: float) -> Callable[[], np.ndarray]:
    """A compiled loop of a compiled scalar function over entries."""
    from numba import njit

    @njit
    def loop(v: Any, out: Any, parameters: Any) -> Any:
        for j in range(v.size):
            out[j] = scalar(v[j], *parameters)
        return out

    return lambda: loop(v, np.empty_like(v), parameters)


# single entries


def soft(n: int, dtype: Any) -> Makers:
    v = normal(n, dtype=dtype)
    run = held_against(soft_formula(v.astype(np.float64)))

    def ours() -> Run:
        from numcore.prox import l1

        return run(lambda: l1(v, 0.7))

    def skglm() -> Run:
        from skglm.utils.prox_funcs import ST_vec

        return run(lambda: ST_vec(v, dtype(0.7)))

    def jaxopt() -> Run:
        from jaxopt.prox import prox_lasso

        return run(jitted(lambda x: prox_lasso(x, 0.7), v))

    def pyproximal() -> Run:
        from pyproximal import L1

        operator = L1(sigma=0.7)
        return run(lambda: operator.prox(v, 1.0))

    makers = {"ours": ours, "NumPy": lambda: run(lambda: soft_formula(v))}
    return {**makers, "skglm": skglm, "JAXopt": jaxopt, "PyProximal": pyproximal}


def soft_formula(v: np.ndarray) -> np.ndarray:
    return np.sign(v) * np.maximum(np.abs(v) - v.dtype.type(0.7), 0)


def minimax_concave(n: int) -> Makers:
    v, step, reg, gamma = normal(n), 0.7, 0.5, 3.0

    def formula() -> np.ndarray:
        a = np.abs(v)
        near = np.sign(v) * np.maximum(a - step * reg, 0) / (1 - step / gamma)
        return np.where(a <= gamma * reg, near, v)

    run = held_against(formula())

    def ours() -> Run:
        from numcore.prox import mcp

        return run(lambda: mcp(v, step, reg=reg, gamma=gamma))

    def skglm() -> Run:
        from skglm.utils.prox_funcs import prox_MCP

        return run(looped(prox_MCP, v, step, reg, gamma))

    return {"ours": ours, "NumPy": lambda: run(formula), "skglm": skglm}


def square_root(n: int) -> Makers:
    v, t = normal(n), 0.7

    def formula() -> np.ndarray:
        a = np.abs(v)
        kept = a > 1.5 * t ** (2 / 3)
        b = np.where(kept, a, 3 * t ** (2 / 3))
        x = 2 / 3 * b * (1 + np.cos(2 * np.pi / 3 - 2 / 3 * np.arccos(t / 4 * (b / 3) ** -1.5)))
        return np.where(kept, np.sign(v) * x, 0)

    run = held_against(formula())

    def ours() -> Run:
        from numcore.prox import half

        return run(lambda: half(v, t))

    def skglm() -> Run:
        from skglm.utils.prox_funcs import prox_05

        return run(looped(prox_05, v, t))

    return {"ours": ours, "NumPy": lambda: run(formula), "skglm": skglm}


def log_sum(n: int) -> Makers:
    v, t, eps = normal(n), 0.01, 0.1  # at this step the penalised distance is convex, and needs no comparison

    def formula() -> np.ndarray:
        a = np.abs(v)
        r = (a - eps + np.sqrt(np.maximum((a + eps) ** 2 - 4 * t, 0))) / 2
        return np.where(a > t / eps, np.sign(v) * r, 0)

    run = held_against(formula())

    def ours() -> Run:
        from numcore.prox import log_sum

        return run(lambda: log_sum(v, 1.0, reg=t, eps=eps))

    def skglm() -> Run:
        from skglm.utils.prox_funcs import prox_log_sum

        return run(looped(prox_log_sum, v, t, eps))

    return {"ours": ours, "NumPy": lambda: run(formula), "skglm": skglm}


# vectors


def simplex(n: int, d: int, dtype: Any = np.float64) -> Makers:
    v = normal(n, d, dtype=dtype)
    run = held_against(sorted_simplex(v.astype(np.float64)))

    def ours() -> Run:
        from numcore.prox import project_simplex

        return run(lambda: project_simplex(v))

    def pot() -> Run:
        from ot.utils import proj_simplex

        columns = np.ascontiguousarray(v.T)
        return run(lambda: proj_simplex(columns).T)

    def jaxopt() -> Run:
        import jax
        from jaxopt.projection import projection_simplex

        return run(jitted(jax.vmap(projection_simplex), v))

    def entmax() -> Run:
        import torch
        from entmax import sparsemax

        x = torch.from_numpy(v)
        return run(lambda: sparsemax(x, dim=-1))

    makers = {"ours": ours, "NumPy": lambda: run(lambda: sorted_simplex(v))}
    return {**makers, "POT": pot, "JAXopt": jaxopt, "entmax": entmax}


def sorted_simplex(v: np.ndarray) -> np.ndarray:
    u = -np.sort(-v, axis=1)
    theta = (np.cumsum(u, axis=1) - 1) / np.arange(1, v.shape[1] + 1, dtype=v.dtype)
    last = np.count_nonzero(u > theta, axis=1)[:, None] - 1
    return np.maximum(v - np.take_along_axis(theta, last, axis=1), 0)


def l1_ball(d: int) -> Makers:
    v = normal(d)
    run = held_against(np.sign(v) * sorted_simplex(np.abs(v)[None])[0])

    def ours() -> Run:
        from numcore.prox import project_l1_ball

        return run(lambda: project_l1_ball(v))

    def jaxopt() -> Run:
        from jaxopt.projection import projection_l1_ball

        return run(jitted(projection_l1_ball, v))

    def pyproximal() -> Run:
        from pyproximal import L1Ball

        operator = L1Ball(d, 1.0)
        return run(lambda: operator.prox(v, 1.0))

    numpy = run(lambda: np.sign(v) * sorted_simplex(np.abs(v)[None])[0])
    return {"ours": ours, "NumPy": lambda: numpy, "JAXopt": jaxopt, "PyProximal": pyproximal}


def entmax(n: int, d: int, dtype: Any) -> Makers:
    v = normal(n, d, dtype=dtype)

    def ours() -> Run:
        from numcore.special import entmax15

        return run(lambda: entmax15(v))

    def torch_entmax() -> Run:
        import torch
        from entmax import entmax15

        x = torch.from_numpy(v)
        return run(lambda: entmax15(x, dim=-1))

    def formula(x: np.ndarray) -> np.ndarray:
        z = x / 2 - np.max(x, axis=1, keepdims=True) / 2
        u = -np.sort(-z, axis=1)
        k = np.arange(1, d + 1, dtype=x.dtype)
        mean, square = np.cumsum(u, axis=1) / k, np.cumsum(u * u, axis=1) / k
        tau = mean - np.sqrt(np.maximum((1 - k * (square - mean**2)) / k, 0))
        last = np.count_nonzero(tau <= u, axis=1)[:, None] - 1
        return np.maximum(z - np.take_along_axis(tau, last, axis=1), 0) ** 2

    run = held_against(formula(v.astype(np.float64)))
    return {"ours": ours, "NumPy": lambda: run(lambda: formula(v)), "entmax": torch_entmax}


def top_k(n: int, d: int, k: int) -> Makers:
    v = normal(n, d)

    def formula() -> np.ndarray:
        kept = np.argpartition(np.abs(v), -k, axis=1)[:, -k:]
        x = np.zeros_like(v)
        np.put_along_axis(x, kept, np.take_along_axis(v, kept, axis=1), axis=1)
        return x

    run = held_against(formula())

    def ours() -> Run:
        from numcore.prox import project_top_k

        return run(lambda: project_top_k(v, k))

    return {"ours": ours, "NumPy": lambda: run(formula)}


def groups(n: int, size: int) -> Makers:
    v = normal(n * size)

    def formula() -> np.ndarray:
        x = v.reshape(n, size)
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        return (x * np.maximum(1 - np.sqrt(size) / norms, 0)).ravel()

    run = held_against(formula())

    def ours() -> Run:
        from numcore.prox import group_l2

        indices = np.arange(n * size).reshape(n, size)
        return run(lambda: group_l2(v, 1.0, groups=indices))

    def jaxopt() -> Run:
        import jax
        from jaxopt.prox import prox_group_lasso

        shrink = jax.vmap(lambda x: prox_group_lasso(x, np.sqrt(size)))
        return run(jitted(lambda x: shrink(x.reshape(n, size)).ravel(), v))

    def skglm() -> Run:
        from numba import njit
        from skglm.utils.prox_funcs import BST

        @njit
        def loop(v: Any, out: Any, size: int, t: float) -> Any:
            for begin in range(0, v.size, size):
                out[begin : begin + size] = BST(v[begin : begin + size], t)
            return out

        return run(lambda: loop(v, np.empty_like(v), size, float(np.sqrt(size))))

    return {"ours": ours, "NumPy": lambda: run(formula), "JAXopt": jaxopt, "skglm": skglm}


def slope(d: int) -> Makers:
    v, weights = normal(d), np.linspace(1, 0, d)

    def isotonic() -> np.ndarray:
        from sklearn.isotonic import isotonic_regression

        order = np.argsort(-np.abs(v), kind="stable")
        x = np.empty_like(v)
        x[order] = np.maximum(isotonic_regression(np.abs(v)[order] - weights, increasing=False), 0)
        return np.sign(v) * x

    run = held_against(isotonic())

    def ours() -> Run:
        from numcore.prox import sorted_l1

        return run(lambda: sorted_l1(v, 1.0, weights=weights))

    def skglm() -> Run:
        from skglm.utils.prox_funcs import prox_SLOPE

        def call() -> np.ndarray:
            order = np.argsort(-np.abs(v), kind="stable")
            x = np.empty_like(v)
            x[order] = prox_SLOPE(np.abs(v)[order], weights)
            return np.sign(v) * x

        return run(call)

    return {"ours": ours, "scikit-learn": lambda: run(isotonic), "skglm": skglm}


def total_variation(d: int) -> Makers:
    """Steps under noise; the error is the largest by which the dual variable leaves what is optimal."""
    rng = np.random.default_rng(0)
    v, t = np.repeat(rng.normal(size=d // 100), 100) + 0.3 * rng.standard_normal(d), 1.0

    def error(x: Any) -> float:
        x = np.asarray(x, dtype=np.float64)
        dual = np.cumsum(v - x)
        primal = np.sum((x - v) ** 2) / 2 + t * np.sum(np.abs(np.diff(x)))
        inside = np.clip(dual[:-1], -t, t)
        shift = np.diff(inside, prepend=0, append=0)
        return float((primal - np.sum(shift * v) + np.sum(shift**2) / 2) / primal)

    def ours() -> Run:
        from numcore.prox import tv1d

        return Run(lambda _: tv1d(v, t), error=error)

    def pyproximal() -> Run:
        from pyproximal import TV

        def call(n_iter: int) -> np.ndarray:
            return TV(dims=(d,), sigma=t, niter=n_iter, rtol=0.0).prox(v, 1.0)

        return Run(call, (10, 30, 100, 300, 1000), error)

    return {"ours": ours, "PyProximal": pyproximal}


ROWS = (
    Row("soft", "soft thresholding, 10^6 entries", partial(soft, 10**6, np.float64), error=1e-6, quick=True),
    Row("soft-32", "soft thresholding, 10^6 entries, float32", partial(soft, 10**6, np.float32), error=1e-5),
    Row("mcp", "minimax concave, 10^6 entries", partial(minimax_concave, 10**6), error=1e-9, quick=True),
    Row("half", "square root, 10^6 entries", partial(square_root, 10**6), error=1e-9),
    Row("log-sum", "log-sum, 10^6 entries", partial(log_sum, 10**6), error=1e-9),
    Row("simplex", "simplex, 1000 x 1000", partial(simplex, 1000, 1000), error=1e-9, quick=True),
    Row("simplex-short", "simplex, 10^5 x 10", partial(simplex, 10**5, 10), error=1e-9),
    Row("simplex-long", "simplex, 1 x 10^6", partial(simplex, 1, 10**6), error=1e-9),
    Row("l1-ball", "l1 ball, 10^6 entries", partial(l1_ball, 10**6), error=1e-6),
    Row("entmax", "1.5-entmax, 1000 x 1000, float32", partial(entmax, 1000, 1000, np.float32), error=1e-5),
    Row("top-k", "50 largest, 1000 x 1000", partial(top_k, 1000, 1000, 50), error=0.0),
    Row("groups", "10^5 groups of 10", partial(groups, 10**5, 10), error=1e-9),
    Row("slope", "sorted l1, 10^5 entries", partial(slope, 10**5), error=1e-9),
    Row("tv", "total variation, 10^5 entries", partial(total_variation, 10**5), error=1e-6),
)
