"""Inputs on which the Numba twins of ``numcore.special`` are held against the reference."""

import numpy as np

WRITES = {"softmax_rows": (1,), "entmax15_rows": (1,)}


def rows(rng, dtype):
    """Short and long rows, many and one; ascending by hundreds; far from zero; masked; and refused."""
    inputs = [rng.normal(scale=3, size=shape).astype(dtype) for shape in ((7, 1), (50, 10), (3, 1500), (1, 70_000))]
    inputs.append(np.sort(rng.uniform(-400, 400, (4, 5000)), axis=1).astype(dtype))
    inputs += [(rng.normal(size=(4, 33)) + offset).astype(dtype) for offset in (-1e4, 1e4, 1e7, 1e30)]
    masked = rng.normal(size=(5, 2100)).astype(dtype)
    masked[0], masked[1, :1500], masked[2, 1:] = -np.inf, -np.inf, -np.inf
    inputs.append(masked)
    for bad in (np.nan, np.inf):
        refused = masked.copy()
        refused[3, 1234] = bad
        inputs.append(refused)
    inputs.append(np.empty((0, 4), dtype))
    return inputs


def finite_tops(rng, dtype):
    """Those of `rows` that have a finite largest entry in each row; equal entries; an out of another layout."""
    tops = [(x, x.max(axis=1)) for x in rows(rng, dtype)]
    inputs = [(x, np.full_like(x, 0.5)) for x, top in tops if np.isfinite(top).all()]
    equal = np.zeros((3, 1000), dtype)
    return [*inputs, (equal, np.empty_like(equal)), (equal, np.empty_like(equal, order="F"))]


CASES = {
    "entmax15_rows": finite_tops,
    "logsumexp_rows": lambda rng, dtype: [(x,) for x in rows(rng, dtype)],
    "softmax_rows": lambda rng, dtype: [(x, np.full_like(x, 0.5)) for x in rows(rng, dtype)],
}
