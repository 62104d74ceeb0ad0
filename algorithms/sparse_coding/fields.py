"""Atoms of image patches as receptive fields: their frequency, orientation and likeness to a Gabor function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numcore.arrays import as_count, as_floating
from numcore.results import Result

__all__ = ["ReceptiveFields", "receptive_fields"]

Array = NDArray[np.float64]

PADDING = 8
"""The spectrum is sampled so many times more finely than a patch gives it."""

APART = np.pi / 6
"""The second peak of a spectrum is so far from the first in angle at least."""

STEPS = 80
"""Steps of a fit at most."""

ATOMS = 64
"""Atoms that are fitted at once."""

SETTLED = 1e-10
"""A fit ends when a step that was taken lowers the squared error by less than this part of the atom."""


@dataclass(frozen=True, repr=False, eq=False)
class ReceptiveFields(Result):
    """What :func:`receptive_fields` returns, an entry an atom.

    Attributes
    ----------
    frequency : (k,) float64 array
        Of the strongest wave, in cycles a pixel; 0 for a constant atom.
    orientation : (k,) float64 array
        The direction in which that wave runs, in radians, at least 0 and below pi: from the axis along rows towards
        that down columns. Its crests are at right angles to it.
    selectivity : (k,) float64 array
        One minus the circular variance of orientation, from 0 (as much of all) to 1 (a single one).
    gabor_r2 : (k,) float64 array
        The part of the atom's variance that the best Gabor function explains.
    gabor : (k, 8) float64 array
        That function: ``x0, y0, orientation, frequency, sigma_u, sigma_v, cosine, sine``, in pixels (x along rows, y
        down columns, from the centre of the first pixel) and radians.
    """

    frequency: Array
    orientation: Array
    selectivity: Array
    gabor_r2: Array
    gabor: Array


def receptive_fields(dictionary: ArrayLike, patch_shape: int | tuple[int, int]) -> ReceptiveFields:
    r"""Describe atoms by their spectra, and by Gabor functions fitted to them.

    .. math:: \left(c \cos 2 \pi f u + s \sin 2 \pi f u\right)
        \exp\left(-\frac{u^2}{2 \sigma_u^2} - \frac{v^2}{2 \sigma_v^2}\right)

    with u and v the distances from (x0, y0) along the orientation and across it.

    Parameters
    ----------
    dictionary : (k, p) array_like
        Atoms, a row each: patches read row by row.
    patch_shape : int or (int, int)
        Height and width of a patch; a single number is its side.

    Returns
    -------
    ReceptiveFields

    Raises
    ------
    TypeError
        If `dictionary` is complex, sparse or text, or `patch_shape` is no integers.
    ValueError
        If shapes do not match, entries are not finite or `dictionary` is empty.

    Notes
    -----
    Frequency and orientation are those of the peak of the power spectrum, less the mean. Selectivity is ``|sum_w P_w
    exp(2 i angle(w))| / sum_w P_w`` over all waves w. The fit takes Levenberg-Marquardt steps from eight starts: two
    peaks of the spectrum, two widths, and the middle of the patch or of its energy.

    References
    ----------
    .. [1] D. L. Ringach, "Spatial structure and symmetry of simple-cell receptive fields in macaque primary visual
       cortex", J. Neurophysiol. 88, 2002, equation 1 (the fit).
    .. [2] D. L. Ringach, R. M. Shapley, M. J. Hawken, "Orientation selectivity in macaque V1", J. Neurosci. 22, 2002
       (circular variance).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sparse_coding import receptive_fields
    >>> y, x = np.mgrid[:12, :12]
    >>> wave = np.cos(2 * np.pi * 0.2 * (x - 5)) * np.exp(-((x - 5.5) ** 2 + (y - 5.5) ** 2) / 12)
    >>> found = receptive_fields(wave.reshape(1, -1), 12)
    >>> found.gabor_r2.round(6), found.gabor[:, 3].round(6)
    (array([1.]), array([0.2]))
    """
    D = as_floating(dictionary, "dictionary", ndim=2, dtype=np.float64)
    if not D.size:
        raise ValueError(f"dictionary must have atoms and features; got shape {D.shape}")
    height, width = _shape(patch_shape)
    if D.shape[1] != height * width:
        raise ValueError(f"patch_shape must have {D.shape[1]} pixels, as atoms have; got {height} x {width}")
    parts = []
    for patches, top in _patches(D, (height, width)):
        centred = _centred(patches)
        waves, selectivity = _spectrum(centred)
        r2, gabor = _fitted(patches, centred, waves)
        gabor[:, 6:] *= top[:, None]
        fx, fy = waves[:, 0].T
        parts.append((np.hypot(fx, fy), _angle(fx, fy), selectivity, r2, gabor))
    return ReceptiveFields(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _patches(D: Array, shape: tuple[int, int]) -> Iterator[tuple[Array, Array]]:
    """Atoms as patches, a few at a time, divided by their largest magnitudes, and these."""
    for begin in range(0, len(D), ATOMS):
        part = D[begin : begin + ATOMS].astype(np.float64)
        top = np.abs(part).max(axis=1)
        yield (part / np.where(top > 0, top, 1.0)[:, None]).reshape(-1, *shape), top


def _centred(patches: Array) -> Array:
    """Less their means; exactly 0 where constant, whatever the rounding of the mean."""
    centred = patches - patches.mean(axis=(1, 2), keepdims=True)
    centred[np.ptp(patches, axis=(1, 2)) == 0] = 0.0
    return centred


def _shape(patch_shape: Any) -> tuple[int, int]:
    if isinstance(patch_shape, (int, np.integer)):
        patch_shape = (patch_shape, patch_shape)
    if not isinstance(patch_shape, (tuple, list)) or len(patch_shape) != 2:
        raise TypeError(f"patch_shape must be an integer or two of them; got {patch_shape!r}")
    return as_count(patch_shape[0], "patch_shape"), as_count(patch_shape[1], "patch_shape")


def _angle(fx: Array, fy: Array) -> Array:
    """The direction of waves, in [0, pi)."""
    angle = np.arctan2(fy, fx) % np.pi
    return np.where(angle < np.pi, angle, 0.0)


def _spectrum(patches: Array) -> tuple[Array, Array]:
    """The two strongest waves of each patch, (k, 2, 2) as ``fx, fy``, and the selectivity."""
    height, width = patches.shape[1:]
    shape = PADDING * height + 1, PADDING * width + 1  # odd: waves that run either way are sampled alike
    power = np.abs(np.fft.fft2(patches, shape)) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")
    angle = _angle(fx, fy)
    turn = np.exp(2j * angle)
    total = power.sum(axis=(1, 2))
    selectivity = np.abs((power * turn).sum(axis=(1, 2))) / np.where(total > 0, total, 1.0)
    first = _peaks(power)
    apart = np.abs(np.angle(turn / turn.flat[first][:, None, None])) / 2  # of angles up to half turns
    second = _peaks(np.where(apart > APART, power, 0.0))
    waves = np.stack([_refined(power, peak, fx, fy) for peak in (first, second)], axis=1)
    waves[total == 0] = 0.0
    return waves, selectivity


def _peaks(power: Array) -> NDArray[np.intp]:
    return power.reshape(len(power), -1).argmax(axis=1)


def _refined(power: Array, peak: NDArray[np.intp], fx: Array, fy: Array) -> Array:
    """The wave at a peak, moved to the top of the parabola through it and its neighbours, along each axis."""
    k, m, n = power.shape
    i, j = np.divmod(peak, n)
    each = np.arange(k)
    middle = power[each, i, j]
    x = fx[i, j] + _top(power[each, i, j - 1], middle, power[each, i, (j + 1) % n]) / n
    y = fy[i, j] + _top(power[each, i - 1, j], middle, power[each, (i + 1) % m, j]) / m
    return np.stack([x, y], axis=1)


def _top(before: Array, middle: Array, after: Array) -> Array:
    bend = before - 2 * middle + after
    shift = np.where(bend < 0, (before - after) / (2 * np.where(bend < 0, bend, 1.0)), 0.0)
    return np.clip(shift, -0.5, 0.5)


def _fitted(patches: Array, centred: Array, waves: Array) -> tuple[Array, Array]:
    """The share of the variance that the best of eight fits explains, and its parameters."""
    k, height, width = patches.shape
    y, x = (axis.reshape(-1).astype(np.float64) for axis in np.mgrid[:height, :width])
    starts = _starts(centred, waves, x, y)
    targets = np.repeat(patches.reshape(k, -1), starts.shape[1], axis=0)
    p, error = _levenberg_marquardt(starts.reshape(-1, 8), targets, x, y, max(height, width))
    best = error.reshape(k, -1).argmin(axis=1)
    error = np.take_along_axis(error.reshape(k, -1), best[:, None], axis=1)[:, 0]
    gabor = p.reshape(k, -1, 8)[np.arange(k), best]
    gabor[:, 4:6] = np.exp(gabor[:, 4:6])
    gabor[:, 2] %= np.pi
    variance = np.sum(centred**2, axis=(1, 2))
    gabor[variance == 0] = 0.0
    r2 = np.where(variance > 0, 1 - error / np.where(variance > 0, variance, 1.0), 0.0)
    return r2, gabor


def _starts(centred: Array, waves: Array, x: Array, y: Array) -> Array:
    """Eight starts for each atom, with zero amplitudes: ``x0, y0, angle, f, log sigma_u, log sigma_v, c, s``."""
    k, height, width = centred.shape
    energy = centred.reshape(k, -1) ** 2
    total = energy.sum(axis=1)
    share = energy / np.where(total > 0, total, 1.0)[:, None]
    middle = np.broadcast_to([(width - 1) / 2, (height - 1) / 2], (k, 2))
    weighted = np.where(total[:, None] > 0, np.stack([share @ x, share @ y], axis=1), middle)
    starts = [
        np.column_stack([centre, np.arctan2(wave[:, 1], wave[:, 0]), np.hypot(*wave.T), np.full((k, 2), log_sigma)])
        for wave in (waves[:, 0], waves[:, 1])
        for log_sigma in np.log([min(height, width) / 8, min(height, width) / 4])
        for centre in (middle, weighted)
    ]
    return np.concatenate([np.stack(starts, axis=1), np.zeros((k, len(starts), 2))], axis=2)


def _levenberg_marquardt(p: Array, targets: Array, x: Array, y: Array, side: int) -> tuple[Array, Array]:
    """Least squares for every row of `p`, each with a damping of its own: the parameters, and the squared errors."""
    p, least, most = p.copy(), np.log(0.3), np.log(2.0 * side)
    damping, size = np.full(len(p), 1e-2), np.maximum(np.sum(targets**2, axis=1), np.finfo(np.float64).tiny)
    p[:, 6:] = _amplitudes(p, targets, x, y)
    model, J = _model(p, x, y)
    error = np.sum((targets - model) ** 2, axis=1)
    live = np.arange(len(p))
    for _ in range(STEPS):
        gradient = np.matmul(J, (targets[live] - model)[:, :, None])
        H = np.matmul(J, J.transpose(0, 2, 1))
        diagonal = np.einsum("nii->ni", H)
        diagonal += damping[live, None] * diagonal + 1e-12 * size[live, None]
        trial = p[live] + np.linalg.solve(H, gradient)[:, :, 0]
        trial[:, 4:6] = np.clip(trial[:, 4:6], least, most)
        trial[:, 3] = np.clip(trial[:, 3], 0.0, 1.0)
        new_model, new_J = _model(trial, x, y)
        new_error = np.sum((targets[live] - new_model) ** 2, axis=1)
        better = new_error < error[live]
        gain = error[live] - new_error
        p[live[better]], error[live[better]] = trial[better], new_error[better]
        model[better], J[better] = new_model[better], new_J[better]
        damping[live] = np.where(better, damping[live] / 10, damping[live] * 10)
        stay = np.where(better, gain > SETTLED * size[live], damping[live] < 1e8)
        live, model, J = live[stay], model[stay], J[stay]
        if not live.size:
            break
    return p, error


def _amplitudes(p: Array, targets: Array, x: Array, y: Array) -> Array:
    """The best cosine and sine for the other parameters."""
    J = _model(np.column_stack([p[:, :6], np.zeros((len(p), 2))]), x, y)[1][:, 6:]
    H = np.matmul(J, J.transpose(0, 2, 1)) + 1e-9 * np.eye(2)
    return np.asarray(np.linalg.solve(H, np.matmul(J, targets[:, :, None]))[:, :, 0])


def _model(p: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Gabor functions, (m, pixels), and their derivatives, (m, 8, pixels)."""
    x0, y0, angle, f, log_u, log_v, c, s = (column[:, None] for column in p.T)
    along, across = np.cos(angle), np.sin(angle)
    u, v = (x - x0) * along + (y - y0) * across, (y - y0) * along - (x - x0) * across
    a, b = u * np.exp(-log_u), v * np.exp(-log_v)
    envelope = np.exp(-(a * a + b * b) / 2)
    cosine, sine = np.cos(2 * np.pi * f * u) * envelope, np.sin(2 * np.pi * f * u) * envelope
    model, turned = c * cosine + s * sine, 2 * np.pi * (s * cosine - c * sine)
    du, dv = f * turned - a * np.exp(-log_u) * model, -b * np.exp(-log_v) * model
    J = np.stack(
        [
            dv * across - du * along,
            -du * across - dv * along,
            du * v - dv * u,
            turned * u,
            a * a * model,
            b * b * model,
            cosine,
            sine,
        ],
        axis=1,
    )
    return model, J
