"""Transport: the colours of one photograph given to the other, at full resolution."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numcore.algorithms.tour._pictures import drawing, photograph
from numcore.algorithms.tour._stop import Block, Code, Picture, Pictures, Progress, Stop, Table, Text
from numcore.algorithms.tour._transport_contest import HEADS, Problem, colour_distance, contest, row, verdict
from numcore.arrays import Array

__all__ = ["STOP", "Photographs", "run", "transfer"]

REG = 0.1
"""In units of the mean cost. Less of it shows the blocks of the JPEG in the sky, more of it blurs the colours."""
ERROR = 1e-4
"""The L1 error of both marginals that every contestant has to reach."""


@dataclass(frozen=True)
class Photographs:
    """Two photographs, (h, w, 3) float32 in [0, 1], and colours sampled from each."""

    first: Array
    second: Array
    X: Array
    Y: Array

    @classmethod
    def load(cls, sample: int, every: int = 1) -> Photographs:
        """scikit-learn's embedded pair; one in `every` pixels, each way."""
        from sklearn.datasets import load_sample_images

        first, second = (image[::every, ::every].astype(np.float32) / 255 for image in load_sample_images().images)
        rng = np.random.default_rng(0)
        X, Y = (rng.choice(colours(image), sample, replace=False) for image in (first, second))
        return cls(first, second, X, Y)


def colours(image: Array) -> Array:
    """The pixels as points of the colour cube."""
    return image.reshape(-1, 3)


def run(progress: Progress, *, sample: int = 2000, every: int = 1, timed: int = 4) -> Sequence[Block]:
    """Fit `sample` colours; move all pixels of the photographs, cut down by `every`; time on one pixel in `timed`."""
    progress("reading the photographs; loading the compiled loops, or compiling them the first time")
    transfer(Photographs.load(sample=50, every=10))
    photos = Photographs.load(sample, every)
    start = time.perf_counter()
    forward, backward, reg = transfer(photos, progress)
    seconds = time.perf_counter() - start
    first, second = (colours(image)[::timed] for image in (photos.first, photos.second))
    ours, *peers = contest(Problem(first, second, photos.X, photos.Y, reg, ERROR), progress)
    progress("drawing")
    return [
        Text(INTRODUCTION),
        Pictures(_first(photos, forward)),
        Pictures(_second(photos, backward)),
        Text(_outcome(photos, forward, backward, seconds)),
        Code(CODE.format(sample=len(photos.X), reg=REG, error=ERROR)),
        Pictures(_clouds(photos, forward)),
        Text(COMPARISON),
        Table(_conditions(photos, len(first)), HEADS, [row(score, ours) for score in (ours, *peers)]),
        Text("\n\n".join(verdict(peer, ours) for peer in peers)),
    ]


STOP = Stop("The colours of one photograph, moved to the other", run)


def transfer(photos: Photographs, progress: Progress = lambda _: None) -> tuple[Array, Array, float]:
    """Both photographs recoloured, not clipped yet; and the regularisation in absolute units."""
    from numcore.algorithms.transport import SinkhornTransport, entropic_map

    progress(f"fitting {len(photos.X):,} colours of each photograph")
    model = SinkhornTransport(reg=REG, tol=ERROR).fit(photos.X, photos.Y)
    progress(f"moving {photos.first.size // 3:,} pixels one way")
    forward = entropic_map(model.result_, colours(photos.first), debiased=True)
    progress("and the other")
    backward = entropic_map(model.result_, colours(photos.second), direction="inverse", debiased=True)
    return forward.reshape(photos.first.shape), backward.reshape(photos.second.shape), model.reg_


INTRODUCTION = """\
A photograph is a cloud of points in the colour cube, a point for each pixel. Optimal transport moves one cloud onto
another with the least total squared displacement: colours that were close stay close, and the palette becomes that of
the other photograph.

The two photographs are those that come with scikit-learn. The plan is fitted between colours sampled from each; the map
that it defines is then taken at every pixel."""

CODE = """\
# X, Y: {sample:,} colours from each photograph
model = SinkhornTransport(reg={reg:g}, tol={error:g}).fit(X, Y)
china_as_flower = entropic_map(model.result_, china, debiased=True)
flower_as_china = entropic_map(model.result_, flower, direction="inverse", debiased=True)"""

COMPARISON = """\
An entropic plan is quick to compute, and blurs: means of many colours are greyer than the colours. The pictures above
use the debiased map, which takes part of that back. The timings below are of the plain map, model.transform, because
that is what the others offer. All solve the same regularised problem on the same float32 samples until the L1 error of
both marginals, measured on the plan in the same way, is small enough. POT's own tolerance is of another norm: it was
lowered by powers of ten until that held.

numcore, the script and POT in its log form map a colour to the same weighted mean over the whole sample. POT in its
kernel form, the quicker one where the regularisation allows it, maps a colour as the nearest sampled one was. The last
column says how far the colours of the result are from the palette aimed at."""


def _first(photos: Photographs, forward: Array) -> list[Picture]:
    return [
        photograph(photos.first, "China, as photographed.", "A pagoda above a lake, under a pale sky"),
        photograph(forward, "China in the colours of the flower.", "The pagoda in teal and orange, as if at dusk"),
    ]


def _second(photos: Photographs, backward: Array) -> list[Picture]:
    return [
        photograph(photos.second, "Flower, as photographed.", "An orange dahlia before dark green leaves"),
        photograph(backward, "Flower in the colours of China.", "A pale dahlia before white and brown leaves"),
    ]


def _outcome(photos: Photographs, forward: Array, backward: Array, seconds: float) -> str:
    first, second = colours(photos.first), colours(photos.second)
    before = colour_distance(first, second)
    after = [colour_distance(colours(forward), second), colour_distance(colours(backward), first)]
    return (
        f"Both pictures took {seconds:.1f} s in all. The palettes were {before:.0f} levels (of 255) apart; those of the"
        f" recoloured pictures are {after[0]:.1f} and {after[1]:.1f} levels from the palette aimed at."
    )


def _conditions(photos: Photographs, pixels: int) -> str:
    return (
        f"Fit: {len(photos.X):,} colours to {len(photos.Y):,}, to an L1 error of {ERROR:g}. Map: {pixels:,} of the"
        " pixels each way. Medians of runs taken in turn, after a first that is not counted; all may use all cores."
    )


def _clouds(photos: Photographs, forward: Array) -> list[Picture]:
    """Three palettes in a plane of the colour cube, each colour drawn in itself."""
    rng = np.random.default_rng(1)
    centre = photos.Y.mean(axis=0)
    plane = np.linalg.svd(photos.Y - centre, full_matrices=False)[2][:2].T
    palettes = [
        np.clip(rng.choice(colours(image), len(photos.X)), 0, 1) for image in (photos.first, forward, photos.second)
    ]
    points = [(palette - centre) @ plane for palette in palettes]
    captions = (
        "Some pixels of China, in the plane in which the flower's palette varies most.",
        "The same of China in the colours of the flower.",
        "The flower's: what the second should look like.",
    )
    low, high = np.min(points, axis=(0, 1)), np.max(points, axis=(0, 1))
    return [_cloud(p, c, np.stack([low, high]), text) for p, c, text in zip(points, palettes, captions, strict=True)]


def _cloud(points: Array, palette: Array, corners: Array, caption: str) -> Picture:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6, 3.0), facecolor="#8c8c8c")  # black and white are both seen on grey
    panel = figure.add_axes((0.04, 0.04, 0.92, 0.92))
    panel.scatter(*points.T, c=palette, s=5, linewidths=0)
    panel.set(xlim=corners[:, 0], ylim=corners[:, 1], aspect="equal")
    panel.set_axis_off()
    return drawing(figure, caption, "A cloud of coloured points")
