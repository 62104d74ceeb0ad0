"""Convolution of images, and its two adjoints, as matrix products over columns of patches.

All three compute with ``y[n, o, p, q] = sum_{c,i,j} W[o, c, i, j] x[n, c, s p + d i - pad, s q + d j - pad]``: each is
linear in either array, and the derivatives of each are the other two.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numcore.autodiff._loops import gather_columns, scatter_columns

__all__ = ["Geometry", "conv2d", "conv2d_input", "conv2d_weight"]

CHUNK = 2**18
"""Entries of the columns at a time: 1 MB of float32. What leaves the cache, or is fresh from the system, costs more."""


class Geometry(NamedTuple):
    """Strides, zeros added before and after, and distances between taps, by axis."""

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]

    def of_taps(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Strides, dilations, and the zeros before the image: where the taps lie."""
        return self.stride, self.dilation, (self.padding[0][0], self.padding[1][0])

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
        _by_image(out[rows])[...] = np.dot(weights, _matrix(columns)).reshape(len(W), -1, height, width)
    return out


def conv2d_weight(
    x: Any, u: Any, shape: tuple[int, ...], geometry: Geometry, each: bool = False, out: Any = None
) -> Any:
    """The filters' cotangent, from the images and the cotangent `u` of the result; with `each`, for each image."""
    dtype, n_filters = np.result_type(x, u), shape[0]
    if each and out is None:
        out = np.empty((len(x), *shape), dtype)
    total = np.zeros((math.prod(shape[1:]), n_filters), dtype)
    for rows, columns in _chunks(x, shape, geometry):
        part, n = u[rows], columns.shape[3]
        if each:
            taps = columns.reshape(len(total), n, -1).transpose(1, 2, 0)
            out[rows] = np.matmul(part.reshape(n, n_filters, -1), taps).reshape(n, *shape)
        else:
            total += np.dot(_matrix(columns), _by_image(part).reshape(n_filters, -1).T)
    return out if each else total.T.reshape(shape)


def conv2d_input(u: Any, W: Any, shape: tuple[int, ...], geometry: Geometry) -> Any:
    """The images' cotangent, from the cotangent `u` of the result and the filters."""
    out = np.zeros(shape, np.result_type(u, W))
    weights = W.reshape(len(W), -1).T
    for rows, columns in _workspace(len(u), (*W.shape[1:], *u.shape[2:]), out.dtype):
        np.dot(weights, _by_image(u[rows]).reshape(len(W), -1), out=_matrix(columns))
        scatter_columns(columns, out[rows], *geometry.of_taps())
    return out


def _by_image(x: Any) -> Any:
    """The first two axes exchanged: channels before images."""
    return x.transpose(1, 0, 2, 3)


def _matrix(columns: Any) -> Any:
    """Columns (c, kh, kw, k, h', w') as a matrix: a row for each tap."""
    return columns.reshape(math.prod(columns.shape[:3]), -1)


def _chunks(x: Any, kernel: tuple[int, ...], geometry: Geometry) -> Iterator[tuple[slice, Any]]:
    """The columns of a few images at a time."""
    shape = (*kernel[1:], *geometry.out_shape(x.shape, kernel))
    for rows, columns in _workspace(len(x), shape, x.dtype):
        gather_columns(x[rows], columns, *geometry.of_taps())
        yield rows, columns


def _workspace(n: int, shape: tuple[int, ...], dtype: Any) -> Iterator[tuple[slice, Any]]:
    """Columns (c, kh, kw, k, h', w') to fill, for `k` of the images at a time; in one place."""
    size = math.prod(shape)
    step = max(1, min(n, CHUNK // max(1, size)))
    work = room.of(step * size, dtype)
    for start in range(0, n, step):
        k = min(step, n - start)
        yield slice(start, start + k), work[: k * size].reshape(*shape[:3], k, *shape[3:])


class _Room(threading.local):
    """Memory of each thread that is used again and again, since the system is slow to hand out new pages."""

    memory: Any = np.empty(0, np.uint8)

    def of(self, size: int, dtype: Any) -> Any:
        """A vector to write to, good until the next call; a new one if it is very long."""
        n_bytes = size * np.dtype(dtype).itemsize
        if n_bytes > 8 * CHUNK:
            return np.empty(size, dtype)
        if len(self.memory) < n_bytes:
            self.memory = np.empty(n_bytes, np.uint8)
        return self.memory[:n_bytes].view(dtype)


room = _Room()
