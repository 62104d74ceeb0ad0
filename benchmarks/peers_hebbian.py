"""Dense Hebbian memories beside plain NumPy and dwave-samplers, retrieval beside torch: the rows for peers.py.

A figure of a sampler is the time of a sweep, N attempts, from the difference of a longer and a shorter run. One of
retrieval is the time of an update of all queries. Errors are those of the retrieved states beside float64, as a share
of the largest entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scipy", "dwave-samplers", "torch")

Makers = Mapping[str, Callable[[], Run]]


def signs(K: int, N: int) -> np.ndarray:
    return 2 * np.random.default_rng(0).integers(0, 2, size=(K, N), dtype=np.int8) - 1


def couplings(N: int) -> np.ndarray:
    """A spin glass that orders near beta 1."""
    J = np.random.default_rng(0).standard_normal((N, N))
    J = (J + J.T) / np.sqrt(2 * N)
    np.fill_diagonal(J, 0)
    return J


# we


def ours(xi: np.ndarray, beta: float, start: np.ndarray, counts: tuple[int, int], **model: Any) -> Run:
    from numcore.algorithms.hebbian import sample

    options = {"beta": beta, "init": start, "record_every": 10**6, "probes": xi[:1], "rng": 0, **model}
    return Run(lambda k: sample(xi, n_sweeps=k, **options), counts=counts)


def our_pairs(J: np.ndarray, beta: float, counts: tuple[int, int]) -> Run:
    from numcore.algorithms.hebbian import sample_pairwise

    options = {"beta": beta, "rule": "metropolis", "record_every": 10**6, "rng": 0}
    return Run(lambda k: sample_pairwise(J, n_sweeps=k, **options), counts=counts)


# NumPy, with the overlaps kept from flip to flip; the energy of order 3 is that of e_3 = (X^3 - (3 N - 2) X) / 6


def plain(xi: np.ndarray, beta: float, start: np.ndarray, counts: tuple[int, int]) -> Run:
    """As one writes it down."""
    N = xi.shape[1]

    def energy(X: np.ndarray) -> float:
        return -N / 2 * np.sum((X**3 - (3 * N - 2) * X) / N**3)

    def run(sweeps: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        s = start[0].astype(np.float64)
        X = xi @ s
        for _ in range(sweeps):
            for i in range(N):
                Y = X - 2 * s[i] * xi[:, i]
                change = energy(Y) - energy(X)
                if rng.random() < 1 / (1 + np.exp(min(beta * change, 700.0))):
                    s[i], X = -s[i], Y
        return s

    return Run(run, counts=counts)


def tuned(xi: np.ndarray, beta: float, start: np.ndarray, counts: tuple[int, int]) -> Run:
    """As one writes it after a profile: columns contiguous, no power, half of the energy kept."""
    N = xi.shape[1]
    columns = np.ascontiguousarray(xi.T.astype(np.float64))

    def run(sweeps: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        s = start[0].astype(np.float64)
        X = s @ columns
        energy = (X * X - (3 * N - 2)) @ X
        for _ in range(sweeps):
            for i, u in enumerate(rng.random(N)):
                Y = X - 2 * s[i] * columns[i]
                new = (Y * Y - (3 * N - 2)) @ Y
                if u * (1 + np.exp(min(beta * (energy - new) / (2 * N * N), 700.0))) < 1:
                    s[i], X, energy = -s[i], Y, new
        return s

    return Run(run, counts=counts)


def dwave(J: np.ndarray, beta: float, counts: tuple[int, int]) -> Run:
    """Metropolis sweeps at one temperature."""
    import dimod
    from dwave.samplers import SimulatedAnnealingSampler

    model = dimod.BinaryQuadraticModel(
        {}, {(i, j): -J[i, j] for i, j in zip(*np.triu_indices(len(J), 1), strict=True)}, "SPIN"
    )
    sampler = SimulatedAnnealingSampler()

    def run(sweeps: int) -> Any:
        options = {"beta_schedule_type": "custom", "beta_schedule": [beta] * sweeps, "num_sweeps_per_beta": 1}
        return sampler.sample(model, num_reads=1, seed=0, **options)

    return Run(run, counts=counts)


# rows


def dense(K: int, beta: float, few: tuple[int, int], many: tuple[int, int]) -> Makers:
    """N = 1000, from a pattern: where it is kept, almost nothing flips; near beta 0 half of the attempts do."""
    xi = signs(K, 1000)
    return {
        "ours": lambda: ours(xi, beta, xi[:1], many),
        "NumPy, plain": lambda: plain(xi, beta, xi[:1], (0, 1)),
        "NumPy, tuned": lambda: tuned(xi, beta, xi[:1], few),
    }


def against_the_reference(order: int, beta: float) -> Makers:
    import numcore

    xi = signs(1000, 1000)

    def reference() -> Run:
        run = ours(xi, beta, xi[:1], (0, 1), order=order)

        def call(k: int) -> Any:
            with numcore.backend("numpy"):
                return run.call(k)

        return Run(call, counts=(1, 2))

    return {"ours": lambda: ours(xi, beta, xi[:1], (10, 110), order=order), "our reference": reference}


def learned(beta: float) -> Makers:
    """Class means of examples: patterns of any numbers, each flip judged from two cached vectors."""
    from numcore.algorithms.hebbian import hebbian_patterns, make_examples

    xi = signs(1000, 1000)
    p = hebbian_patterns(make_examples(xi, 10, quality=0.8, rng=0)).patterns
    columns, squares, cubes = np.ascontiguousarray(p.T), (p * p).sum(axis=1), (p**3).sum(axis=0)

    def tuned_real(sweeps: int) -> np.ndarray:
        rng, N = np.random.default_rng(0), 1000
        s = xi[0].astype(np.float64)
        first = s @ columns
        for _ in range(sweeps):
            for i, u in enumerate(rng.random(N)):
                v = columns[i]
                h = 3 / N**2 * (v @ (first**2 - squares) / 2 - s[i] * (v * v) @ first + cubes[i])
                if u * (1 + np.exp(min(2 * beta * s[i] * h, 700.0))) < 1:
                    first -= 2 * s[i] * v
                    s[i] = -s[i]
        return s

    return {
        "ours": lambda: ours(p, beta, xi[:1], (10, 60)),
        "NumPy, tuned": lambda: Run(tuned_real, counts=(1, 11)),
    }


def pairs(beta: float, counts: tuple[int, int]) -> Makers:
    """Both from random states, and so over the same part of their way down."""
    J = couplings(1000)
    return {"ours": lambda: our_pairs(J, beta, counts), "dwave-samplers": lambda: dwave(J, beta, counts)}


# retrieval: one update with the softmax of a continuous network, K patterns of d features, Q queries


def retrieval(K: int, Q: int, d: int, spread: float, beta: float) -> Makers:
    """Queries near patterns of entries `spread` N(0, 1), all float32."""
    rng = np.random.default_rng(0)
    X = (spread * rng.standard_normal((K, d))).astype(np.float32)
    xi = X[rng.integers(K, size=Q)] + (0.3 * spread * rng.standard_normal((Q, d))).astype(np.float32)
    exact, wide = np.zeros((Q, d)), X.astype(np.float64)
    for k in range(Q):
        s = beta * (wide @ xi[k].astype(np.float64))
        p = np.exp(s - s.max())
        exact[k] = (p / p.sum()) @ wide

    def error(states: Any) -> float:
        return float(np.abs(np.asarray(states) - exact).max() / np.abs(exact).max())

    return {
        "ours": lambda: our_retrieval(X, xi, beta, error),
        "torch, SDPA": lambda: attention(X, xi, beta, error),
        "torch, whole matrix": lambda: whole_matrix(X, xi, beta, error),
        "NumPy": lambda: numpy_retrieval(X, xi, beta, error),
    }


def our_retrieval(X: np.ndarray, xi: np.ndarray, beta: float, error: Callable[[Any], float]) -> Run:
    from numcore.algorithms.hebbian import retrieve

    return Run(lambda _: retrieve(xi, X, beta=beta).states, error=error)


def attention(X: np.ndarray, xi: np.ndarray, beta: float, error: Callable[[Any], float]) -> Run:
    """The fused kernel, which has no K x Q matrix either."""
    import torch

    keys, queries = torch.from_numpy(X)[None, None], torch.from_numpy(xi)[None, None]

    def run(_: Any) -> Any:
        with torch.inference_mode():
            found = torch.nn.functional.scaled_dot_product_attention(queries, keys, keys, scale=beta)
        return found[0, 0].numpy()

    return Run(run, error=error)


def whole_matrix(X: np.ndarray, xi: np.ndarray, beta: float, error: Callable[[Any], float]) -> Run:
    """As Hopfield layers do it: the weights of all queries with all patterns, then their product with the patterns."""
    import torch

    keys, queries = torch.from_numpy(X), torch.from_numpy(xi)

    def run(_: Any) -> Any:
        with torch.inference_mode():
            return (torch.softmax(beta * (queries @ keys.T), dim=1) @ keys).numpy()

    return Run(run, error=error)


def numpy_retrieval(X: np.ndarray, xi: np.ndarray, beta: float, error: Callable[[Any], float]) -> Run:
    def run(_: Any) -> np.ndarray:
        S = beta * (xi @ X.T)
        S -= S.max(axis=1, keepdims=True)
        np.exp(S, out=S)
        S /= S.sum(axis=1, keepdims=True)
        return S @ X

    return Run(run, error=error)


def retrieval_rows() -> tuple[Row, ...]:
    """Weights spread over all patterns; sharp, on patterns of length 1; and so sharp that each query has one."""
    rows = []
    for name, K, Q, d, dense, sharp in (
        ("narrow", 100_000, 1000, 64, {"torch, SDPA": 0.83}, {}),
        ("wide", 100_000, 200, 784, {"torch, SDPA": 0.83}, {"torch, SDPA": 1.67}),
    ):
        size = f"retrieval, K = 10^5, Q = {Q}, d = {d}"
        for kind, spread, beta, wanted in (
            ("dense", d**-0.5, 1.0, dense),
            ("sharp", d**-0.5, 200.0, {}),
            ("separated", 1.0, 64.0, sharp),
        ):
            row = partial(retrieval, K, Q, d, spread, beta)
            rows.append(
                Row(f"retrieve-{name}-{kind}", f"{size}, {kind}", row, wanted, memory=True, quick=kind == "separated")
            )
    return tuple(rows)


NUMPY = "NumPy, plain"
ROWS = (
    Row(
        "retrieval",
        "N = K = 1000, order 3, retrieval, a sweep",
        partial(dense, 1000, 5.0, (1, 3), (10, 210)),
        {NUMPY: 1000},
        quick=True,
    ),
    Row(
        "hot",
        "N = K = 1000, order 3, half accepted, a sweep",
        partial(dense, 1000, 0.001, (1, 3), (10, 60)),
        {NUMPY: 50},
        quick=True,
    ),
    Row(
        "retrieval-1e4",
        "N = 1000, K = 10^4, order 3, retrieval, a sweep",
        partial(dense, 10_000, 5.0, (1, 6), (5, 45)),
        {NUMPY: 1000},
    ),
    Row("learned", "N = K = 1000, order 3, class means, retrieval", partial(learned, 5.0), quick=True),
    Row("order-8", "N = K = 1000, order 8, hot, a sweep", partial(against_the_reference, 8, 0.001)),
    Row("pairs-1", "pairwise, N = 1000, beta 1, a sweep", partial(pairs, 1.0, (200, 2200)), {"dwave": 3}, quick=True),
    Row("pairs-2", "pairwise, N = 1000, beta 2, a sweep", partial(pairs, 2.0, (200, 5200)), {"dwave": 3}),
    Row("pairs-5", "pairwise, N = 1000, beta 5, a sweep", partial(pairs, 5.0, (400, 15400)), {"dwave": 2.5}),
    *retrieval_rows(),
)
