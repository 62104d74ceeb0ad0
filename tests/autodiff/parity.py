"""Inputs on which the Numba twins of ``numcore.autodiff`` are held against the reference."""

import numpy as np

WRITES = {
    "adam_update": (0, 2, 3),
    "bias_relu": (0,),
    "relu_pull": (0,),
    "softmax_pull": (0,),
    "outer_rows": (2,),
    "gather_columns": (1,),
    "scatter_columns": (1,),
}
SHAPES = [(1, 1), (3, 10), (17, 33), (128, 128)]


def adam(rng, dtype):
    cases = []
    for size in (1, 7, 1000):
        for options in [(1.0, 0.0, 1.0), (0.3, 0.1, 1.0), (1.0, 0.0, 0.99)]:
            theta, g, m = rng.normal(size=(3, size)).astype(dtype)
            factors = np.array((*options, 0.9, 0.999, 0.1, 0.001, 0.01, 3.0, 1e-8), dtype)
            cases.append((theta, g, m, rng.random(size).astype(dtype), factors))
    return cases


def with_bias(rng, dtype):
    return [(rng.normal(size=shape).astype(dtype), rng.normal(size=shape[1]).astype(dtype)) for shape in SHAPES]


def pulls(rng, dtype):
    return [
        (rng.normal(size=shape).astype(dtype), np.maximum(rng.normal(size=shape), 0).astype(dtype)) for shape in SHAPES
    ]


def logits(rng, dtype):
    cases = []
    for m, n in SHAPES:
        for scale in (1, 1e4):
            weight = rng.random(m).astype(dtype)
            cases.append(((scale * rng.normal(size=(m, n))).astype(dtype), rng.integers(0, n, m), weight))
    masked = rng.normal(size=(2, 3)).astype(dtype)
    masked[:, 0] = -np.inf
    cases.append((masked, np.array([1, 2]), np.ones(2, dtype)))
    cases.append((rng.normal(size=(3, 4)).astype(dtype), np.array([0, -1, 4]), np.ones(3, dtype)))
    return cases


def outers(rng, dtype):
    cases = []
    for m, a, b in [(1, 1, 1), (5, 3, 4), (64, 33, 17), (4, 300, 300)]:
        whole = np.zeros((m, 7 + a * b), dtype)
        out = whole[:, 7:].reshape(m, a, b)
        cases.append((rng.normal(size=(m, a)).astype(dtype), rng.normal(size=(m, b)).astype(dtype), out))
    return cases


def windows(rng, dtype):
    """Images and columns of their patches, over strides, dilations and paddings, some wider than the image."""
    cases = []
    for (down, across), (di, dj) in [((1, 1), (1, 1)), ((2, 1), (1, 2)), ((1, 3), (2, 1))]:
        for top, left, shrink in [(0, 0, 0), (1, 2, 2), (5, 9, 3)]:
            kh, kw, height, width = 2, 3, 4, 5
            h, w = (height - 1) * down + (kh - 1) * di + 1, (width - 1) * across + (kw - 1) * dj + 2
            images = rng.normal(size=(3, 2, max(1, h - shrink), max(1, w - shrink))).astype(dtype)
            columns = rng.normal(size=(2, kh, kw, 3, height, width)).astype(dtype)
            cases.append((images, columns, (down, across), (di, dj), (top, left)))
    for kernel, before in [((3, 3), (1, 1)), ((2, 5), (0, 2)), ((7, 9), (3, 4))]:
        images, columns = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(3, *kernel, 2, 4, 5))
        cases.append((images.astype(dtype), columns.astype(dtype), (1, 1), (1, 1), before))
    return cases


CASES = {
    "adam_update": adam,
    "bias_relu": with_bias,
    "relu_pull": pulls,
    "softmax_pull": logits,
    "outer_rows": outers,
    "gather_columns": windows,
    "scatter_columns": lambda rng, dtype: [(columns, images, *rest) for images, columns, *rest in windows(rng, dtype)],
}
