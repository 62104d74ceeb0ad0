"""Inputs on which the Numba twins of ``numcore.prox`` are held against the reference."""

import numpy as np

from numcore.prox._formulas import FORMULAS

WRITES = {"elementwise": (4,), "simplex_rows": (2,), "top_k_rows": (2,), "shrink_groups": (0,)}

PARAMETERS = {
    "elastic_net": (0.7, 0.3),
    "lq": (0.7, 0.3),
    "mcp": (0.7, 0.9, 3.0),
    "scad": (0.7, 0.9, 3.7),
    "log_sum": (0.7, 0.1),
    "huber": (0.7, 0.5),
}


def elementwise(rng, dtype):
    """Scalars, one parameter a column, one a row, one an entry; t = 0 and inf; both signs; many and no entries."""
    inputs = []
    for name in FORMULAS:
        given = PARAMETERS.get(name, (0.7,))
        first, rest = given[0], given[1:]
        for shape in ((0,), (), (3, 50), (70_001,)):
            v = np.asarray(rng.normal(scale=2, size=shape)).astype(dtype)
            inputs += [(v, name, given, positive, np.zeros_like(v)) for positive in (False, True)]
        v = rng.normal(scale=2, size=(4, 3, 50)).astype(dtype)
        column = rng.uniform(0, 2, 50)
        column[:2] = 0, np.inf if name not in ("mcp", "scad") else 7
        amounts = (column, rng.uniform(0, 2, (3, 1)), rng.uniform(0, 2, (4, 3, 50)), 0.0, 7.0)
        inputs += [(v, name, (t, *rest), False, np.full_like(v, 9)) for t in amounts]
        inputs.append((v[:, :, ::2], name, (first, *rest), False, np.zeros_like(v)[:, :, ::2]))
    return inputs


def rows(rng, dtype):
    """Short, long, wide apart, equal, and no rows."""
    inputs = [rng.normal(size=shape).astype(dtype) for shape in ((5, 1), (200, 7), (3, 3000), (1, 70_000), (0, 4))]
    inputs += [(1e6 * rng.normal(size=(4, 300))).astype(dtype), np.ones((3, 40), dtype)]
    inputs.append(np.sort(rng.normal(size=(3, 500)), axis=1).astype(dtype))
    return inputs


def groups(rng, dtype):
    x = rng.normal(size=(60, 9))
    x[0], x[1, 3:] = 0, 1e200
    indices = np.array([4, 0, 2, 3, 5, 2, 3, 5, 7, 8])
    thresholds = np.array([0.4, 0.7, 1.0, np.inf])
    return [(x, indices, np.array([0, 2, 5, 9, 10]), thresholds)]


CASES = {
    "elementwise": elementwise,
    "simplex_rows": lambda rng, dtype: [(v, rng.uniform(0, 3, len(v)), np.zeros_like(v)) for v in rows(rng, dtype)],
    "top_k_rows": lambda rng, dtype: [
        (v, k, np.ones_like(v)) for v in rows(rng, dtype) for k in {0, 1, v.shape[1] // 2, v.shape[1]}
    ],
    "shrink_groups": groups,
    "isotonic_rows": lambda rng, dtype: [(v.astype(np.float64),) for v in rows(rng, dtype)],
    "total_variation_rows": lambda rng, dtype: [
        (v.astype(np.float64), t) for v in rows(rng, dtype) if v.size < 10_000 for t in (rng.uniform(0, 3, len(v)),)
    ],
}
