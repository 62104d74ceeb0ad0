"""Inverse Fisher algebra beside the published recurrences in torch, and BLAS on the same work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks._peers_curvature_hessian import ROWS as HESSIAN_ROWS
from benchmarks.peers import Row, Run

PACKAGES = ("torch", "curvlinops-for-pytorch", "scikit-learn")
DAMP = 1e-5
NORM = 10.0
"""Of the gradients; they are independent."""

Makers = Mapping[str, Callable[[], Run]]
Array = np.ndarray[Any, Any]


def gradients(m: int, d: int) -> Array:
    G = np.random.default_rng(0).standard_normal((m, d), dtype=np.float32)
    G *= np.float32(NORM / d**0.5)
    return G


def vector(d: int) -> Array:
    return np.random.default_rng(1).standard_normal(d, dtype=np.float32)


def repeated(call: Callable[[], Any]) -> Run:
    call()
    return Run(lambda _: call())


# we


def our_precompute(m: int, d: int, diagonal: bool) -> Run:
    from numcore.algorithms.curvature import EmpiricalFisher

    G = gradients(m, d)

    def call() -> Any:
        fisher = EmpiricalFisher(G, damp=DAMP)
        return fisher.inverse_diagonal() if diagonal else fisher

    return repeated(call)


def our_product(m: int, d: int) -> Run:
    from numcore.algorithms.curvature import EmpiricalFisher

    fisher, x = EmpiricalFisher(gradients(m, d), damp=DAMP), vector(d)
    return repeated(lambda: fisher.solve(x))


def our_diagonal(m: int, d: int) -> Run:
    from numcore.algorithms.curvature import EmpiricalFisher

    fisher = EmpiricalFisher(gradients(m, d), damp=DAMP, factor=True)
    return repeated(fisher.inverse_diagonal)


def our_step(m: int, d: int) -> Run:
    from numcore.algorithms.curvature import MFACOptimizer

    G, theta = gradients(m + 1, d), vector(d)
    opt = MFACOptimizer(window=m, damp=DAMP)
    for g in G:
        opt.step(theta, g)
    fisher = opt.state["fisher"]
    return Run(lambda _: opt.step(theta, G[-1]), error=lambda _: step_error(fisher.gradients, fisher.solve_last()))


def step_error(G: Array, step: Array) -> float:
    """Of the step along the last of these gradients, against ``c G^T K^-1 e`` in float64 throughout."""
    wide = G.astype(np.float64)
    K = wide @ wide.T + len(G) * DAMP * np.eye(len(G))
    exact = len(G) * (np.linalg.solve(K, np.eye(len(G))[-1]) @ wide)
    return float(np.linalg.norm(step - exact) / np.linalg.norm(exact))


# the recurrences of the paper, in torch


def recurrence(G: Any) -> tuple[Any, Any]:
    """V and q of the static algorithm: ``v_i = F_(i-1)^-1 g_i`` and ``q_i = m + g_i^T v_i``."""
    import torch

    m = len(G)
    V, q = torch.empty_like(G), torch.empty(m)
    for i in range(m):
        V[i] = G[i] / DAMP
        if i:
            V[i] -= ((V[:i] @ G[i]) / q[:i]) @ V[:i]
        q[i] = m + torch.dot(G[i], V[i])
    return V, q


def torch_gradients(m: int, d: int) -> Any:
    import torch

    torch.set_num_threads(1)
    return torch.from_numpy(gradients(m, d))


def torch_precompute(m: int, d: int, diagonal: bool) -> Run:
    G = torch_gradients(m, d)

    def call() -> Any:
        V, q = recurrence(G)
        return recurrence_diagonal(V, q) if diagonal else V

    return repeated(call)


def recurrence_diagonal(V: Any, q: Any) -> Any:
    return 1 / DAMP - (1 / q) @ (V * V)


def torch_product(m: int, d: int) -> Run:
    import torch

    V, q = recurrence(torch_gradients(m, d))
    x = torch.from_numpy(vector(d))
    return repeated(lambda: x / DAMP - ((V @ x) / q) @ V)


def torch_diagonal(m: int, d: int) -> Run:
    V, q = recurrence(torch_gradients(m, d))
    return repeated(lambda: recurrence_diagonal(V, q))


def torch_step(m: int, d: int) -> Run:
    """The dynamic algorithm: D and B anew at each step, from ``G G^T`` kept up to date.

    D, the factor of ``G G^T / lam + m I`` without pivots, is taken from the Cholesky factor, which is D but for a
    scaling: torch offers no factorisation without pivots on a CPU. The rows of B follow by their recurrence,
    ``b_i = e_i / lam - sum_j D_ji / (m + D_jj) b_j`` over j < i, where ``m + D_jj`` is the pivot.
    """
    import torch

    G, theta = torch_gradients(m, d), torch.from_numpy(vector(d))
    inner, eye = G @ G.T, torch.eye(m)
    row = [0]

    def step() -> Any:
        g = G[row[0]].clone()
        G[row[0]] = g
        inner[row[0]] = inner[:, row[0]] = k = G @ g
        L = torch.linalg.cholesky(inner / DAMP + m * eye)
        pivots = L.diagonal() ** 2
        C = L / L.diagonal()  # C_ij = D_ji / (m + D_jj)
        B = torch.zeros(m, m)
        for i in range(m):
            B[i] = -(C[i, :i] @ B[:i])
            B[i, i] += 1 / DAMP
        u = g / DAMP - (B.T @ ((B @ k) / pivots)) @ G
        theta.sub_(u, alpha=1e-3)
        row[0] = (row[0] + 1) % m
        return G, (row[0] - 1) % m, u

    def error(result: Any) -> float:
        G, last, u = result
        return step_error(np.roll(G.numpy(), m - 1 - last, axis=0), u.numpy())

    return Run(lambda _: step(), error=error)


# NumPy: BLAS on the same work


def blas_precompute(m: int, d: int, diagonal: bool) -> Run:
    G = gradients(m, d)

    def call() -> Any:
        K = (G @ G.T).astype(np.float64) + m * DAMP * np.eye(m)
        L = np.linalg.cholesky(K)
        if not diagonal:
            return L
        V = np.linalg.inv(L).astype(np.float32) @ G
        return (1 - np.einsum("ij,ij->j", V, V)) / DAMP

    return repeated(call)


def blas_product(m: int, d: int) -> Run:
    G, x = gradients(m, d), vector(d)
    inverse = np.linalg.inv(G.astype(np.float64) @ G.T + m * DAMP * np.eye(m)).astype(np.float32)
    return repeated(lambda: (x - (inverse @ (G @ x)) @ G) / np.float32(DAMP))


def blas_diagonal(m: int, d: int) -> Run:
    V = gradients(m, d)
    return repeated(lambda: (1 - np.einsum("ij,ij->j", V, V)) / DAMP)


def blas_step(m: int, d: int) -> Run:
    """By the push-through identity, with float32 products and a factorisation each step."""
    import scipy.linalg

    G, theta = gradients(m, d), vector(d)
    K0, e, row = G @ G.T, np.eye(m), [0]

    def step() -> Any:
        at = row[0]
        g = G[at].copy()
        G[at] = g
        K0[at] = K0[:, at] = G @ g
        factor = scipy.linalg.cho_factor(K0.astype(np.float64) + m * DAMP * e)
        u = (m * scipy.linalg.cho_solve(factor, e[at])).astype(np.float32) @ G
        theta[:] -= np.float32(1e-3) * u
        row[0] = (at + 1) % m
        return at, u

    return Run(lambda _: step(), error=lambda result: step_error(np.roll(G, m - 1 - result[0], axis=0), result[1]))


# rows


def precompute(m: int, d: int, diagonal: bool) -> Makers:
    return {
        "ours": partial(our_precompute, m, d, diagonal),
        "torch, recurrence": partial(torch_precompute, m, d, diagonal),
        "NumPy, float32": partial(blas_precompute, m, d, diagonal),
    }


def products(m: int, d: int) -> Makers:
    return {
        "ours": partial(our_product, m, d),
        "torch, recurrence": partial(torch_product, m, d),
        "NumPy, two gemv": partial(blas_product, m, d),
    }


def diagonals(m: int, d: int) -> Makers:
    return {
        "ours": partial(our_diagonal, m, d),
        "torch, recurrence": partial(torch_diagonal, m, d),
        "NumPy, einsum": partial(blas_diagonal, m, d),
    }


def steps(m: int, d: int) -> Makers:
    return {
        "ours": partial(our_step, m, d),
        "torch, recurrence": partial(torch_step, m, d),
        "NumPy, float32": partial(blas_step, m, d),
    }


def precompute_rows(m: int, d: int, wanted: float, with_diagonal: float | None, memory: bool = False) -> list[Row]:
    title = f"{m} gradients of {d:,}"
    rows = [
        Row(
            f"static-{m}",
            f"{title}: precompute",
            partial(precompute, m, d, False),
            {"torch": 1 / wanted},
            memory=memory,
        )
    ]
    if with_diagonal is not None:
        wish = {"torch": 1 / with_diagonal}
        makers = partial(precompute, m, d, True)
        rows.append(Row(f"static-diagonal-{m}", f"{title}: with the diagonal", makers, wish, memory=memory))
    return rows


def step_row(m: int, d: int, wanted: float) -> Row:
    return Row(
        f"step-{m}", f"{m} gradients of {d:,}: optimizer step", partial(steps, m, d), {"torch": 1 / wanted}, 1e-5
    )


MILLION = 1_000_000
ROWS = (
    *precompute_rows(64, MILLION, 0.30, 0.35),
    *precompute_rows(128, MILLION, 0.30, 0.45, memory=True),
    *precompute_rows(256, 200_000, 0.12, 0.20),
    *precompute_rows(512, 20_000, 0.25, None),
    Row("ihvp-64", "64 gradients of 1,000,000: inverse product", partial(products, 64, MILLION), {"torch": 1 / 1.05}),
    Row(
        "ihvp-128", "128 gradients of 1,000,000: inverse product", partial(products, 128, MILLION), {"torch": 1 / 1.05}
    ),
    Row(
        "diagonal-64", "64 gradients of 1,000,000: diagonal from V", partial(diagonals, 64, MILLION), {"torch": 1 / 0.7}
    ),
    Row(
        "diagonal-128",
        "128 gradients of 1,000,000: diagonal from V",
        partial(diagonals, 128, MILLION),
        {"torch": 1 / 0.7},
    ),
    step_row(64, MILLION, 1.05),
    step_row(128, MILLION, 1.05),
    step_row(256, 20_000, 0.12),
    step_row(512, 20_000, 0.15),
    *HESSIAN_ROWS,
)
