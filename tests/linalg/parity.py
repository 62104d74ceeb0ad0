"""Inputs on which the Numba twins of ``numcore.linalg`` are held against the reference."""

import numpy as np

WRITES = {"hadamard_columns": (0,), "rotate_rows": (0, 1)}


def blocks(rng, dtype):
    """One stage and several, of every radix; one column, a few, and more than a tile; none."""
    shapes = [
        (1, 3),
        (2, 5),
        (4, 1),
        (8, 7),
        (16, 33),
        (64, 1),
        (1024, 3),
        (2048, 1),
        (4096, 9),
        (2**17, 1),
        (256, 700),
    ]
    inputs = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    return [(x,) for x in [*inputs, np.empty((4, 0), dtype)]]


def factors(rng, dtype):
    """Factors of every size, from the first row on or from a later one; with a row that was deleted."""
    cases = []
    for n, start in ((1, 0), (5, 0), (40, 0), (40, 17), (5, 5)):
        R = np.triu(rng.normal(size=(n, n)), 1) / n + np.diag(1 + rng.random(n))
        x = rng.normal(size=n)
        x[:start] = 0
        cases.append((R.astype(dtype), x.astype(dtype), start))
    R, x = cases[2][0].copy(), cases[2][1].copy()
    R[20, :], R[:, 20], x[20] = 0, 0, 0
    return [*cases, (R, x, 3)]


# forty rotations after one another, each with a handful of roundings
RTOL = {"rotate_rows": {"float32": 1e-4, "float64": 1e-12}}
CASES = {"hadamard_columns": blocks, "rotate_rows": factors}
