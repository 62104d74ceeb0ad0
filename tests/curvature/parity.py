"""Inputs on which the Numba twins of the curvature loops are held against the reference."""

import numpy as np

# m, d: odd and even, below and above the four rows taken at once, a tile and a half, several blocks of tiles
SHAPES = ((1, 1), (3, 10), (4, 100), (7, 25_000), (33, 40_000))


def gradients(rng, dtype):
    """Rows of different norms, in C order; then in other layouts."""
    for m, d in SHAPES:
        yield (rng.standard_normal((m, d)) * 10.0 ** rng.uniform(-2, 2, (m, 1))).astype(dtype)
    G = rng.standard_normal((9, 20_000)).astype(dtype)
    yield from (np.asfortranarray(G), G[:, 3:], G[:, ::2])


def products(rng, dtype):
    return [
        (G, rng.standard_normal(G.shape[1]).astype(dtype), rng.standard_normal(len(G))) for G in gradients(rng, dtype)
    ]


def combinations(rng, dtype):
    cases = []
    for G in gradients(rng, dtype):
        s = rng.standard_normal(len(G))
        cases += [(G, s, None, 1.0), (G, s, rng.standard_normal(G.shape[1]).astype(dtype), 3.0)]
    return cases


def steps(rng, dtype):
    cases = []
    for m, d in SHAPES:
        G = rng.standard_normal((m, d)).astype(dtype)
        s, theta, v = rng.standard_normal(m), *rng.standard_normal((2, d)).astype(dtype)
        cases += [(G, s, theta, None, 0.1, 0.0), (G, s, theta, v, 0.1, 0.9)]
    return cases


def squares(rng, dtype):
    return [(G, rng.random(G.shape[1])) for G in gradients(rng, dtype)]


def whitened(rng, dtype):
    cases = []
    for G in gradients(rng, dtype):
        R = rng.standard_normal((len(G), len(G)))
        for given in dict.fromkeys((np.dtype(dtype), np.dtype(np.float64))):
            for lower in (True, False):
                out = np.zeros((2, G.shape[1]))
                cases.append((G, (np.tril(R) if lower else R).astype(given), lower, out[0], out[1]))
    return cases


def grams(rng, dtype):
    return [(G, (lambda A: A @ A.T)(rng.standard_normal((len(G), 3)))) for G in gradients(rng, dtype)]


CASES = {
    "add_gram": grams,
    "add_products": products,
    "combine": combinations,
    "descend": steps,
    "add_squares": squares,
    "whitened_squares": whitened,
}
WRITES = {
    "add_gram": (1,),
    "add_products": (2,),
    "descend": (2, 3),
    "add_squares": (1,),
    "whitened_squares": (3, 4),
}
