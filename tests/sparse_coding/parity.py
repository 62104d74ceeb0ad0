"""Inputs on which the Numba twins of the sparse coding loops are held against the reference."""

import numpy as np

# coefficients of a few dependent atoms amplify the rounding of single correlations, which both sides get alike
RTOL = {"pursue": {"float32": 1e-6, "float64": 1e-9}, "lasso_codes": {"float32": 1e-9, "float64": 1e-11}}
WRITES = {
    "lasso_codes": (8,),
    "separable_codes": (9,),
    "sweep_columns": (4, 5),
    "accumulate": (3, 4),
    "sweep_panel": (0, 1),
}


def unit_rows(rng, k, p):
    D = rng.normal(size=(k, p))
    return D / np.linalg.norm(D, axis=1, keepdims=True)


def pursuits(rng, dtype):
    """Few and many atoms; up to the rank, and beyond what signals need; with and without a limit on the residual."""
    cases = []
    for n, p, k, most in ((7, 20, 45, 6), (5, 12, 9, 9), (6, 9, 40, 3), (3, 30, 33, 12), (2, 4, 1, 1), (0, 4, 5, 2)):
        D = unit_rows(rng, k, p)
        D[k // 2] = D[0]  # tied, and dependent once one of them is chosen
        X = rng.normal(size=(n, p))
        if n > 4:
            X[1], X[2] = 0, D[0] - 2 * D[k - 1]
        X = X.astype(dtype)
        C = X @ D.T.astype(dtype)
        for share in (-1.0, 0.1, 0.6):
            tol = share * np.sum(X.astype(float) ** 2, axis=1)
            cases += [(X, C, D @ D.T, D, most, tol, optimal) for optimal in (False, True)]
    return cases


def column_sweeps(rng, dtype):
    """Float64 whatever the dtype; thresholds that keep all, some and none."""
    cases = []
    for m, n in ((1, 1), (5, 3), (30, 47), (80, 200)):
        A, y, b = unit_rows(rng, m, n), rng.normal(size=n), rng.normal(size=m)
        for level in (0.0, 0.3, 50.0):
            for positive in (False, True):
                t = level * rng.random(m)
                cases.append((A, t, positive, 3, y - b @ A, b))
    return cases


def sums(rng, dtype):
    """Codes with no entry, few, and so many that a product of matrices takes over; over several blocks of atoms."""
    cases = []
    for n, k, p in ((1, 1, 1), (7, 5, 3), (40, 33, 20), (600, 300, 50)):
        for share in (0.0, 0.1, 0.9):
            code = rng.normal(size=(n, k)) * (rng.random((n, k)) < share)
            X = rng.normal(size=(n, p)).astype(dtype)
            cases.append((code.astype(dtype), X, 1 / n, rng.normal(size=(k, k)), rng.normal(size=(k, p))))
    return cases


def panels(rng, dtype):
    """Float64 whatever the dtype; atoms without use, and atoms of which the positive part is nothing."""
    cases = []
    for m, p in ((1, 1), (5, 3), (32, 47)):
        D, codes = unit_rows(rng, m, p), rng.normal(size=(3 * m, m)) / m
        codes[:, m // 2] = 0
        A = codes.T @ codes
        R = 0.1 * rng.normal(size=(m, p))
        R[m // 3] = -10 * abs(D[m // 3])
        for sphere in (False, True):
            for positive in (False, True):
                first = abs(D) if positive else D
                cases.append((first.copy(), R.copy(), A, 1e-12 * A.diagonal().max(), sphere, positive))
    return cases


def lassos(rng, dtype):
    """Float64 whatever the dtype. One atom, fewer than features and many more, with duplicates; large and small
    thresholds, shared or a signal's own, some infinite; from zero and from a code; with and without negative ones."""
    cases = []
    for n, p, k, reg in ((5, 3, 1, 0.1), (9, 40, 17, 0.01), (70, 20, 60, 0.1), (6, 20, 61, 0.02), (4, 30, 24, 3.0)):
        D = unit_rows(rng, k, p)
        D[k // 2] = -D[0]
        X = rng.normal(size=(n, p))
        X[n // 2] = 0
        squares, weights = np.sum(X * X, axis=1), rng.uniform(0.5, 2, (1, k))
        weights[0, k // 3] = np.inf if k > 1 else 1.0
        own = weights * rng.uniform(0.5, 2, (n, 1))
        for positive in (False, True):
            for w, share in ((weights, 0.0), (own, 0.2)):
                start = np.where(rng.random((n, k)) < share, abs(rng.normal(size=(n, k))), 0.0)
                start[:, k // 3] = 0.0
                given = X @ D.T, D @ D.T, squares, 1e-9 * squares, np.full(n, reg), w
                cases.append((*given, positive, 500, start))
    return cases


def separable(rng, dtype):
    """Float64 whatever the dtype: every formula, with the further parameter shared, an atom's or a signal's own."""
    cases = []
    for n, p, k in ((3, 3, 1), (20, 15, 26)):
        D = unit_rows(rng, k, p) * rng.uniform(0.7, 1.3, (k, 1))
        X = rng.normal(size=(n, p))
        X[0] = 0
        own = rng.uniform(0.9, 1.1, (n, 1)), rng.uniform(0.9, 1.1, (1, k)), np.ones((1, 1))
        for shape, (formula, value) in zip(
            own * 3,
            (
                ("l1", 0.0),
                ("l0", 0.0),
                ("half", 0.0),
                ("two_thirds", 0.0),
                ("lq", 0.3),
                ("mcp", 3.0),
                ("scad", 3.7),
                ("log_sum", 0.1),
            ),
            strict=False,
        ):
            for positive in (False, True):
                weights = rng.uniform(0.0, 2.0, (n if positive else 1, k))
                start = abs(rng.normal(size=(n, k))) * (rng.random((n, k)) < 0.1)
                given = X @ D.T, D @ D.T, formula, rng.uniform(0.05, 0.2, n), weights, value * shape
                cases.append((*given, positive, 1e-6, 60, start))
    return cases


CASES = {
    "lasso_codes": lassos,
    "separable_codes": separable,
    "pursue": pursuits,
    "sweep_columns": column_sweeps,
    "accumulate": sums,
    "sweep_panel": panels,
}
