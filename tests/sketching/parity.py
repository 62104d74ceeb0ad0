"""Inputs on which the Numba twins of the sketching loops are held against the reference."""

import numpy as np
import scipy.sparse

WRITES = {"hadamard_sketch": (7,), "scatter_rows": (6,), "scatter_csr": (8,), "residual_rows": (4, 5)}

# ten additions a stage of the transform, in float32 for float32
RTOL = {"hadamard_sketch": {"float32": 4e-5, "float64": 1e-13}}

SEED = 2**63 - 12345
FAR = 2**40 + 7


def weighted(rng, n):
    """No weights, and some of which a few are zero."""
    roots = rng.random(n)
    roots[:: max(n // 3, 1)] = 0
    return None, roots


def transforms(rng, dtype):
    """Every order of H with one block and several, begun anywhere; few and many sampled rows; columns in all sizes."""
    sizes = [
        (1, 3, 0, 1, 1),
        (5, 1, 2, 2, 2),
        (9, 4, 3, 4, 1),
        (30, 9, 0, 8, 3),
        (100, 17, 5, 16, 16),
        (64, 64, 64, 64, 5),
        (300, 33, 100, 128, 100),
        (1500, 100, 1024, 512, 7),
        (3000, 5, FAR, 1024, 400),
        (4096, 8, 0, 2048, 300),
        (5000, 3, 77, 4096, 1300),
        (5000, 3, 77, 4096, 400),
        (40000, 2, 0, 1024, 30),
        (600, 600, 0, 512, 10),
        (0, 4, 0, 8, 2),
    ]
    cases = []
    for n, d, start, B, m in sizes:
        blocks = -(-(start + n) // B) - start // B
        flips = rng.choice(np.array([-1, 1], np.int8), size=(blocks, m))
        rows = rng.permutation(B)[:m]
        for roots in weighted(rng, n):
            A = rng.normal(size=(n, d)).astype(dtype)
            cases.append((A, roots, start, SEED, B, rows, flips, rng.normal(size=(m, d))))
    return cases


SCATTERS = [
    (1, 1, 0, 1, 1),
    (7, 3, 5, 2, 3),
    (400, 100, 0, 8, 50),
    (300, 33, FAR, 3, 7),
    (90, 700, 1, 1, 400),
    (70_000, 3, 9, 2, 10),
    (70_000, 3, 9, 1, 10),
    (140_000, 2, 0, 1, 5000),
    (500, 37, 3, 1, 20),
    (3000, 21, 4, 2, 5),
    (3000, 21, 4, 1, 1),
    (0, 4, 0, 1, 5),
]


def scatters(rng, dtype):
    """One target a row and several, one tile and several, groups of rows."""
    return [
        (rng.normal(size=(n, d)).astype(dtype), roots, start, SEED, s, width, rng.normal(size=(s * width, d)))
        for n, d, start, s, width in SCATTERS
        for roots in weighted(rng, n)
    ]


def compressed(rng, dtype):
    """Empty rows, explicit zeros, columns out of order and repeated."""
    cases = []
    for n, d, start, s, width in SCATTERS:
        A = scipy.sparse.random_array((n, d), density=0.1, format="csr", rng=rng, dtype=dtype)
        A.data[::3] = 0
        cases += [
            (A.data, A.indices, A.indptr, roots, start, SEED, s, width, rng.normal(size=(s * width, d)))
            for roots in weighted(rng, n)
        ]
    data, indices, pointers = rng.normal(size=6).astype(dtype), np.array([3, 0, 3, 1, 1, 0]), np.array([0, 3, 3, 6])
    return [*cases, (data, indices, pointers, None, 0, SEED, 2, 4, np.zeros((8, 4)))]


def residuals(rng, dtype):
    """Rows in all numbers and widths: whole vectors and not, fewer than eight, several groups; no right-hand side."""
    cases = []
    sizes = [(0, 3), (1, 1), (7, 5), (8, 8), (23, 3), (40, 16), (1000, 33), (1031, 100), (70_000, 5), (3000, 401)]
    for n, d in sizes:
        for roots in weighted(rng, n):
            for y in (None, rng.normal(size=n).astype(dtype)):
                A, x = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=d)
                cases.append((A, roots, y, x, rng.normal(size=d), rng.random(2)))
    return cases


CASES = {
    "hadamard_sketch": transforms,
    "scatter_rows": scatters,
    "scatter_csr": compressed,
    "residual_rows": residuals,
}
