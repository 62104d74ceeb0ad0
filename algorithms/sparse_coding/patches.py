"""Patches of images as signals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.arrays import as_choice, as_count, as_floating, as_rng

__all__ = ["extract_patches"]

Array = NDArray[Any]

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""

FLOOR = 1e-3
"""The norm that a patch is divided by is at least this times its side."""


def extract_patches(
    image: ArrayLike,
    *,
    size: int = 12,
    n: int | None = None,
    rng: Any = None,
    center: bool = True,
    normalize: bool = True,
) -> Array:
    """Square patches of an image, a row each.

    Parameters
    ----------
    image : (height, width) or (height, width, 3) array_like
        Colours become grey, ``.299 R + .587 G + .114 B``. Entries of dtype uint8 are divided by 255, others are not.
    size : int
        The side of a patch.
    n : int, optional
        Patches at random positions, all different. By default all that there are, row by row.
    rng : seed, Generator or RandomState, optional
        For the positions.
    center : bool
        Subtract each patch's mean.
    normalize : bool
        Divide each patch by its norm, or by ``size / 1000`` if that is more: a patch without contrast stays near 0, and
        a constant one is exactly 0 once centred.

    Returns
    -------
    (n, size * size) array
        float32 for float32, else float64.

    Raises
    ------
    TypeError
        If `image` is complex or text, or a count is no integer.
    ValueError
        If `image` has another shape, is not finite or smaller than a patch, or has fewer than `n` patches.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import extract_patches
    >>> extract_patches(np.arange(12.0).reshape(3, 4), size=2, normalize=False)[0]
    array([-2.5, -1.5,  1.5,  2.5])
    >>> extract_patches(np.eye(30), size=8, n=5, rng=0).shape
    (5, 64)
    """
    as_choice(center, "center", (True, False))
    as_choice(normalize, "normalize", (True, False))
    size = as_count(size, "size")
    grey = _grey(image)
    height, width = grey.shape
    if min(height, width) < size:
        raise ValueError(f"image must be at least {size} x {size} for patches of that size; got {height} x {width}")
    windows = np.lib.stride_tricks.sliding_window_view(grey, (size, size))
    rows, columns = _positions(windows.shape[:2], n, rng)
    patches: Array = windows[rows, columns].reshape(-1, size * size)
    if center:
        flat = patches.max(axis=1) == patches.min(axis=1)
        patches -= patches.mean(axis=1, dtype=np.float64, keepdims=True).astype(patches.dtype)
        patches[flat] = 0.0  # whatever the rounding of the mean
    if normalize:
        top = np.abs(patches).max(axis=1, keepdims=True)
        top[top == 0] = 1.0
        norms = np.linalg.norm(patches / top, axis=1, keepdims=True) * top
        patches /= np.maximum(norms, FLOOR * size)
    return patches


def _grey(image: Any) -> Array:
    bytes_ = getattr(image, "dtype", None) == np.uint8
    found = as_floating(image, "image")
    if found.ndim != 2 and not (found.ndim == 3 and found.shape[2] == 3):
        raise ValueError(f"image must have shape (height, width) or (height, width, 3); got {found.shape}")
    if bytes_:
        found = found / 255
    return found if found.ndim == 2 else found @ np.asarray(GREY, found.dtype)


def _positions(shape: tuple[int, ...], n: int | None, rng: Any) -> tuple[Array, Array]:
    total = shape[0] * shape[1]
    if n is None:
        chosen = np.arange(total)
    else:
        n = as_count(n, "n", minimum=0)
        if n > total:
            raise ValueError(f"n must be at most {total}, the number of patches of the image; got {n}")
        chosen = as_rng(rng).choice(total, n, replace=False)
    rows, columns = np.divmod(chosen, shape[1])
    return rows, columns
