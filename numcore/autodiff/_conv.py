"""Convolution of images, and its two adjoints, as matrix products over columns of patches.

All three compute with ``y[n, o, p, q] = sum_{c,i,j} W[o, c, i, j] x[n, c, s p + d i - pad, s q + d j - pad]``: each is
linear in either array, and the derivatives of each are the other two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numcore.autodiff._loops import gather_columns, scatter_columns

__all__ = ["Geometry", "conv2d", "conv2d_input", "conv2d_weight"]

CHUNK = 2**21
"""Entries of the columns at most: 8 MB of float32, which is about what caches hold."""


class Geometry(NamedTuple):
    """Strides, zeros added before and after, and distances between taps, by axis."""

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]

    def out_shape(self, shape: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the result."""
        sizes = []
        for axis in range(2):
            before, after = self.padding[axis]
            n, reach = shape[axis - 2] + before + after, self.dilation[axis] * (kernel[axis - 2] - 1) + 1
            if reach > n:
                raise ValueError(
                    f"the kernel reaches over {reach} entries, but the padded input has {n} along axis {axis - 2}"
                )
            sizes.append((n - reach) // self.stride[axis] + 1)
        return sizes[0], sizes[1]


def conv2d(x: Any, W: Any, geometry: Geometry) -> Any:
    """Images (n, c, h, w) and filters (o, c, kh, kw) to images (n, o, h', w')."""
    height, width = geometry.out_shape(x.shape, W.shape)
    out = np.empty((len(x), len(W), height, width), np.result_type(x, W))
    weights = W.reshape(len(W), -1)
    for rows, columns in _chunks(x, W.shape, geometry):
        np.matmul(weights, columns, out=out[rows].reshape(-1, len(W), height * width))
    return out


def conv2d_weight(
    x: Any, u: Any, shape: tuple[int, ...], geometry: Geometry, each: bool = False, out: Any = None
) -> Any:
    """The filters' cotangent, from the images and the cotangent `u` of the result; with `each`, for each image."""
    dtype, n_filters = np.result_type(x, u), shape[0]
    if each and out is None:
        out = np.empty((len(x), *shape), dtype)
    total = np.zeros((n_filters, math.prod(shape[1:])), dtype)
    for rows, columns in _chunks(x, shape, geometry):
        part = np.matmul(u[rows].reshape(len(columns), n_filters, -1), columns.transpose(0, 2, 1))
        if each:
            out[rows] = part.reshape(-1, *shape)
        else:
            total += part.sum(axis=0)
    return out if each else total.reshape(shape)


def conv2d_input(u: Any, W: Any, shape: tuple[int, ...], geometry: Geometry) -> Any:
    """The images' cotangent, from the cotangent `u` of the result and the filters."""
    (top, bottom), (left, right) = geometry.padding
    n, c, h, w = shape
    out = np.zeros((n, c, h + top + bottom, w + left + right), np.result_type(u, W))
    kh, kw = W.shape[2:]
    height, width = u.shape[2:]
    weights = W.reshape(len(W), -1).T
    step = max(1, CHUNK // max(1, weights.shape[0] * height * width))
    for start in range(0, n, step):
        part = u[start : start + step]
        columns = np.matmul(weights, part.reshape(len(part), len(W), -1)).reshape(-1, c, kh, kw, height, width)
        scatter_columns(columns, out[start : start + step], geometry.stride, geometry.dilation)
    return out[:, :, top : top + h, left : left + w]


def _chunks(x: Any, kernel: tuple[int, ...], geometry: Geometry) -> Iterator[tuple[slice, Any]]:
    """Columns (k, c kh kw, h' w') of the patches of a few images at a time, in one workspace."""
    height, width = geometry.out_shape(x.shape, kernel)
    kh, kw = kernel[2:]
    n, c = x.shape[:2]
    step = max(1, min(n, CHUNK // max(1, c * kh * kw * height * width)))
    work = np.empty((step, c, kh, kw, height, width), x.dtype)
    padding = ((0, 0), (0, 0), *geometry.padding)
    padded = np.pad(x, padding) if any(map(any, geometry.padding)) else x
    for start in range(0, n, step):
        part = padded[start : start + step]
        columns = work[: len(part)]
        gather_columns(part, columns, geometry.stride, geometry.dilation)
        yield slice(start, start + len(part)), columns.reshape(len(part), c * kh * kw, height * width)
