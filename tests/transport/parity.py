"""Inputs on which the Numba twins of the transport loops are held against the reference.

Potentials are those of a problem after a few sweeps: exponents of order 1 where there is mass, as in use. At random
potentials all sums would be a single entry.
"""

import numpy as np

from numcore.algorithms.transport._metrics import as_metric

METRICS = ("sqeuclidean", "euclidean", "manhattan")

# exponents C / eps reach 50: half an ulp of that is 2e-6 in float32 (4e-15 in float64), and a sum of squares, a
# product and two sums go into each; entries of a plan have no sum that would average it
EXPONENT = {"float32": 4e-5, "float64": 1e-13}
PASSES = (
    "survey",
    "column_minima",
    "reduced",
    "sweep",
    "sweep_cloud",
    "sweep_batch",
    "soft_min",
    "soft_min_cloud",
    "average",
    "average_cloud",
    "kernel",
    "kernel_sweep",
)
PLANS = ("plan", "plan_cost", "plan_cost_cloud", "plan_entries", "plan_entries_cloud")
RTOL = dict.fromkeys(PASSES + PLANS, EXPONENT)


def logs(w):
    with np.errstate(divide="ignore"):
        return np.log(w)


def potentials(C, a, b, eps):
    """Guess, u and h of the plan after three iterations; finite where a weight is 0 and where all is forbidden."""
    g = np.zeros(C.shape[1])
    for _ in range(3):
        f = -eps * np.logaddexp.reduce(logs(b) + (g - C) / eps, axis=1)
        f = np.where(np.isfinite(f), f, 0.0)
        g = -eps * np.logaddexp.reduce(logs(a)[:, None] + (f[:, None] - C) / eps, axis=0)
        g = np.where(np.isfinite(g), g, 0.0)
    return f, logs(a) + f / eps, logs(b) + g / eps


def weights(rng, n, holes):
    w = rng.random(n) + 0.05
    w[: n // 3 if holes else 0] = 0
    rng.shuffle(w)
    return w / w.sum()


def problems(rng, dtype):
    """Costs, weights and eps: odd and even, thin, tall, over several blocks, with holes, forbidden pairs, scaled."""
    shapes = [(1, 1), (1, 40), (40, 1), (7, 5), (64, 130), (33, 65), (700, 900)]
    cases = [
        (rng.random(shape), weights(rng, shape[0], k % 2), weights(rng, shape[1], k % 3 == 2), 0.05)
        for k, shape in enumerate(shapes)
    ]
    C = rng.random((21, 34))
    C[rng.random(C.shape) < 0.3] = np.inf
    C[4], C[:, 6] = np.inf, np.inf
    cases.append((C, weights(rng, 21, True), weights(rng, 34, True), 0.1))
    cases += [
        (scale * rng.random((9, 11)), weights(rng, 9, False), weights(rng, 11, False), 0.1 * scale)
        for scale in (1e-30, 1e30)
    ]
    cases.append((rng.uniform(-3, 3, (20, 20)), weights(rng, 20, False), weights(rng, 20, False), 0.3))
    return [(C.astype(dtype), a, b, eps) for C, a, b, eps in cases]


def clouds(rng, dtype):
    """Points in 1 to 16 dimensions under the metrics that are compiled, some coincident in low dimensions."""
    for d in (1, 2, 3, 4, 16):
        for name in METRICS:
            X, Y = rng.random((30, d)), rng.random((45, d))
            if d <= 3:  # beyond, the reference takes products, and a root makes 1e-8 of what is left of 0
                Y[:3] = X[:3]
            X, Y, metric = X.astype(dtype), Y.astype(dtype), as_metric(name)
            C = metric.pairwise(X.astype(float), Y.astype(float))
            yield X, Y, metric, C, weights(rng, 30, True), weights(rng, 45, True), 0.1 * C.max()
    X, Y = rng.random((600, 2)).astype(dtype), rng.random((700, 2)).astype(dtype)  # over several blocks
    C = as_metric("sqeuclidean").pairwise(X.astype(float), Y.astype(float))
    yield X, Y, as_metric("sqeuclidean"), C, weights(rng, 600, False), weights(rng, 700, False), 0.1


def updates(rng, f, a, h, eps):
    """A plain update, an over-relaxed one, a soft one; and a plain one from guesses too far off to exponentiate."""
    zeros = np.zeros_like(f)
    yield f + eps * rng.normal(size=f.size), zeros, h, a, eps, 1.0
    yield f, -0.5 * f, h, a, eps, 1.5
    yield f, zeros, h, a, eps, 0.7
    yield f + 1e4 * eps, zeros, h, a, eps, 1.0
    yield f - 1e4 * eps, zeros, h, a, eps, 1.0


def surveys(rng, dtype):
    """All costs, one of them with entries that are refused."""
    spoilt = rng.random((70, 90)).astype(dtype)
    spoilt[3, 5], spoilt[3, 89], spoilt[60, 0] = np.nan, -np.inf, np.inf
    minima_known = [(C,) for C, *_ in problems(rng, dtype)]
    return [*minima_known, (np.where(np.isnan(spoilt), -np.inf, spoilt),)]


def column_minima(rng, dtype):
    return [(C, np.where(np.isfinite(C.min(axis=1)), C.min(axis=1), 0)) for C, *_ in problems(rng, dtype)]


def reductions(rng, dtype):
    """Around potentials below the costs, so that no difference cancels to rounding."""
    return [
        (C, -np.where(np.isfinite(C[:, 0]), C[:, 0], 0.0).astype(float), np.full(C.shape[1], -eps), eps)
        for C, _, _, eps in [(np.where(np.isfinite(C), abs(C), C), a, b, eps) for C, a, b, eps in problems(rng, dtype)]
    ]


def sweeps(rng, dtype):
    return [
        (C, *update)
        for C, a, b, eps in problems(rng, dtype)
        for f, _, h in [potentials(C, a, b, eps)]
        for update in updates(rng, f, a, h, eps)
    ]


def cloud_sweeps(rng, dtype):
    return [
        (X, Y, metric, *update)
        for X, Y, metric, C, a, b, eps in clouds(rng, dtype)
        for f, _, h in [potentials(C, a, b, eps)]
        for update in updates(rng, f, a, h, eps)
    ]


def batches(rng, dtype):
    """Three problems with one cost, with two, and with one each."""
    cases = []
    for which in ([0, 0, 0], [1, 0, 1], [0, 1, 2]):
        C = rng.random((max(which) + 1, 20, 31)).astype(dtype)
        eps = np.array([0.05, 0.1, 1.0])
        a, b = (np.stack([weights(rng, n, k == 1) for k in range(3)]) for n in (20, 31))
        f, _, h = (
            np.stack(x) for x in zip(*(potentials(C[w], a[k], b[k], eps[k]) for k, w in enumerate(which)), strict=True)
        )
        cases.append((C, np.array(which), f, -0.2 * f, h, a, eps, np.array([1.0, 1.2, 0.8])))
    return cases


def soft_mins(rng, dtype):
    """One set of log weights, and several."""
    cases = []
    for C, a, b, eps in problems(rng, dtype):
        h = potentials(C, a, b, eps)[2]
        cases += [(C, h, eps), (C, np.stack([h, h + rng.normal(size=h.size), logs(b)]), eps)]
    return cases


def averages(rng, dtype):
    """One column and several."""
    return [
        (C, potentials(C, a, b, eps)[2], eps, rng.normal(size=(C.shape[1], k)).astype(dtype))
        for C, a, b, eps in problems(rng, dtype)
        for k in (1, 3)
    ]


def cloud_averages(rng, dtype):
    return [(*args[:3], *args[4:], args[1]) for args in cloud_plans(rng, dtype)]


def plans(rng, dtype):
    return [(C, *potentials(C, a, b, eps)[1:], eps) for C, a, b, eps in problems(rng, dtype)]


def cloud_plans(rng, dtype):
    return [(X, Y, metric, *potentials(C, a, b, eps)[1:], eps) for X, Y, metric, C, a, b, eps in clouds(rng, dtype)]


def floors(rng, C, u, h, eps):
    """A floor a row and one a column, a part in 1e-3 away from every entry, so that rounding decides nothing."""
    with np.errstate(invalid="ignore"):
        t = np.asarray(u[:, None] + h - C.astype(float) / eps)
    present = np.sort(t[np.isfinite(t)])
    gaps = np.flatnonzero(np.diff(present) > 2e-3)
    for share in (0.2, 0.8):
        if gaps.size:
            k = gaps[int(share * gaps.size)]
            level = np.exp((present[k] + present[k + 1]) / 2)
        else:
            level = 1e-300
        rows, columns = np.full(len(u), level), np.full(len(h), level)
        columns[::2] = np.inf  # rows decide there
        rows[::3] = np.inf  # nothing is kept where both are inf
        yield rows, columns


def entries(rng, dtype):
    return [(*args, *pair) for args in plans(rng, dtype) for pair in floors(rng, *args)]


def cloud_entries(rng, dtype):
    cases = []
    for X, Y, metric, u, h, eps in cloud_plans(rng, dtype):
        C = metric.pairwise(X.astype(float), Y.astype(float))
        cases += [(X, Y, metric, u, h, eps, *pair) for pair in floors(rng, C, u, h, eps)]
    return cases


def kernels(rng, dtype):
    """Around potentials as absorbed; and far from them, where entries vanish or are cut."""
    cases = []
    for C, a, b, eps in problems(rng, dtype):
        f, _, h = potentials(C, a, b, eps)
        g = np.where(b > 0, eps * (h - logs(np.where(b > 0, b, 1.0))), 0.0)
        cases += [(C, f, g, eps), (C, f - 2000 * eps, g, eps), (C, f + 2000 * eps, g, eps)]
    return cases


def kernel_sweeps(rng, dtype):
    """Kernels of every number of rows modulo 4, with empty rows and columns, at plain, soft and relaxed powers."""
    cases = []
    for n, m in ((1, 1), (2, 9), (3, 64), (5, 7), (130, 65), (700, 900)):
        K = np.exp(-8 * rng.random((n, m)))
        if n > 4:
            K[3], K[:, 2] = 0, 0
        cases += [(K.astype(dtype), weights(rng, m, True), weights(rng, n, True), power) for power in (1.0, 0.7, 1.5)]
    return cases


CASES = {
    "survey": surveys,
    "column_minima": column_minima,
    "reduced": reductions,
    "sweep": sweeps,
    "sweep_cloud": cloud_sweeps,
    "sweep_batch": batches,
    "soft_min": soft_mins,
    "soft_min_cloud": lambda rng, dtype: [(*args[:3], *args[4:]) for args in cloud_plans(rng, dtype)],
    "average": averages,
    "average_cloud": cloud_averages,
    "plan": plans,
    "plan_cost": plans,
    "plan_cost_cloud": cloud_plans,
    "plan_entries": entries,
    "plan_entries_cloud": cloud_entries,
    "kernel": kernels,
    "kernel_sweep": kernel_sweeps,
}
