"""Inputs for the twins of this family; tests/accel/test_parity.py says how they are used."""

import numpy as np

from numcore.algorithms.hebbian._loops import Couplings, Records, Schedule, Sums, Tables
from numcore.algorithms.hebbian._model import Model
from numcore.algorithms.hebbian._tiles import Memory

BETAS = (0.02, 0.7, 6.0, np.inf)


def signs(rng, *shape):
    return rng.choice(np.array([-1, 1], np.int8), size=shape)


def plans(rng, R, N, S=5):
    """Every visit and rule, at several temperatures; some sites clamped; records of some sweeps; begun anywhere."""
    for visit in ("ordered", "permuted", "random"):
        for metropolis in (False, True):
            for start in (0, 61):
                sites = np.flatnonzero(rng.random(N) < 0.9) if metropolis else np.arange(N)
                betas = rng.choice(BETAS, size=(S, R))
                seeds = rng.integers(2**64, size=R, dtype=np.uint64)
                rows = np.array([0, -1, 1, -1, 2])
                records = Records(
                    rows,
                    rng.normal(size=(2, N)),
                    np.zeros((3, R)),
                    np.zeros((3, R, 2)),
                    np.zeros(R, np.int64),
                    np.full(R, -1, np.int64),
                    np.full(R, np.inf),
                    np.zeros((R, N if metropolis else 0), np.int8),
                )
                yield Schedule(betas, seeds, start, sites, visit, metropolis), records


def tables(rng, dtype):
    """Polynomials and tables, few and many patterns, with fields and weights, and exponentials at beta inf."""
    cases = []
    for N, K, P, interaction in (
        (1, 2, 2, "full"),
        (7, 3, 3, "distinct"),
        (40, 30, 3, "distinct"),
        (33, 1100, 5, "distinct"),
        (24, 5, 9, "distinct"),
        (40, 30, 4, "full"),
        (41, 20, 3, "rectified"),
        (30, 9, 2, "exp"),
    ):
        model = Model(signs(rng, K, N), rng.random(K) + 0.5, 0.1 * rng.normal(size=N), P, interaction)
        table = Tables(
            np.ascontiguousarray(model.patterns.T),
            model.weights,
            model.level,
            model.rise.astype(dtype),
            model.polynomials,
            model.field,
            interaction == "exp",
        )
        for schedule, records in plans(rng, 3, N):
            if interaction == "exp":
                schedule.betas[:] = np.inf
            spins = signs(rng, 3, N)
            cases.append((spins, model.counts(spins), table, schedule, records))
    return cases


def sums(rng, dtype):
    """All interactions and orders, through and between two computations of the sums."""
    cases = []
    for N, K, P, interaction in (
        (5, 2, 2, "distinct"),
        (30, 20, 3, "distinct"),
        (25, 1030, 5, "distinct"),
        (30, 20, 4, "full"),
        (31, 20, 3, "rectified"),
        (20, 6, 2, "exp"),
    ):
        p = rng.normal(size=(K, N)).astype(dtype)
        model = Model(p.astype(float), rng.random(K) + 0.5, 0.1 * rng.normal(size=N), P, interaction)
        problem = Sums(np.ascontiguousarray(p.T), model.weights, model.field, P, interaction)
        for schedule, records in plans(rng, 3, N):
            if interaction == "exp":
                schedule.betas[:] = np.inf
            spins = signs(rng, 3, N)
            kept = np.zeros((3, P if interaction == "distinct" else 1, K))
            for r, s in enumerate(spins):
                chain_sums(kept[r], p * s.astype(float), interaction)
            cases.append((spins, kept, problem, schedule, records))
    return cases


def chain_sums(kept, v, interaction):
    """What is kept of one chain: by adding one site after another."""
    N = v.shape[1]
    for column in v.T / N:
        for k in range(len(kept) - 1, 0, -1):
            kept[k] += (k + 1) * column * kept[k - 1]
        kept[0] += column


def couplings(rng, dtype):
    cases = []
    for N in (1, 9, 60):
        J = rng.normal(size=(N, N))
        J = (J + J.T).astype(dtype)
        np.fill_diagonal(J, 0)
        field = rng.normal(size=N)
        for schedule, records in plans(rng, 3, N):
            spins = signs(rng, 3, N)
            fields = (spins @ J.astype(float) + field).astype(dtype)
            cases.append((spins, fields, Couplings(J, field, 1.5), schedule, records))
    return cases


def attentions(rng, dtype):
    """Tiles of all shapes; no, one or two V; masks; any sharpness, without and with skipping; begun anywhere.

    Scores of halves are exact, in whatever order they are summed, and many are equal; a sharp softmax of others would
    make of their rounding what it likes.
    """
    cases = []
    for n, K, d, similarity in (
        (1, 1, 1, "dot"),
        (300, 40, 7, "euclidean"),
        (3, 2500, 5, "cosine"),
        (70, 1300, 9, "dot"),
    ):
        X, xi = (rng.integers(-4, 5, size=(k, d)).astype(dtype) / 2 for k in (K, n))
        if similarity == "euclidean":  # their mean is as exact, and nothing that cancels
            X[K // 2 :] = -X[: K // 2]
            X, xi = X + 4, xi + 4
        memory, V = Memory(X, np.linalg.norm(X, axis=1), similarity, X.dtype), rng.normal(size=(K, 3)).astype(dtype)
        near = np.repeat(rng.integers(K, size=1), n)
        mask = rng.random((n, K)) < 0.7
        mask[:, 0] = True
        # what may be left out, by tiles or by entries, weighs less than rounding
        skip = np.log(np.finfo(dtype).eps / 100 / K)
        betas = (1e-3, 1.0, 7.0, 300.0, float(np.finfo(dtype).max)) if similarity == "dot" else (1e-3, 1.0)
        for beta, values in zip(betas, ((X,), (X, V), (), (V,), (X,)), strict=False):
            cases.append((memory.asked(xi), memory, values, None, beta, -np.inf, near))
            cases.append((memory.asked(xi), memory, values, mask, beta, skip, near))
            cases.append((memory.asked(xi), memory, values, mask[0], beta, skip, near))
    return cases


CASES = {"table_sweeps": tables, "real_sweeps": sums, "coupling_sweeps": couplings, "attend": attentions}

# the states, what is kept beside them, and the records
WRITES = dict.fromkeys(("table_sweeps", "real_sweeps", "coupling_sweeps"), (0, 1, 4))

# an energy is a sum over patterns that cancels to less than its terms, each of which has drifted by some flips
RTOL = {"real_sweeps": {"float32": 2e-5, "float64": 1e-11}}
