"""Sparse coding: noise taken off a photograph by a dictionary that was learned from the noisy photograph itself."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from numcore.algorithms.tour._pictures import drawing, panel, photograph
from numcore.algorithms.tour._race import race
from numcore.algorithms.tour._stop import Block, Code, Picture, Pictures, Progress, Stop, Table, Text
from numcore.arrays import Array

__all__ = ["STOP", "Noisy", "Recipe", "by_numcore", "by_sklearn", "denoise", "psnr", "run"]

HEADS = ("", "seconds", "times numcore's", "first run", "PSNR (dB)", "atoms a patch")


@dataclass(frozen=True)
class Noisy:
    """A photograph, (h, w, 3) float32 in [0, 1], and the same with Gaussian noise of deviation sigma."""

    clean: Array
    noisy: Array
    sigma: float

    @classmethod
    def load(cls, sigma: float = 25 / 255, rows: slice = slice(None), columns: slice = slice(None)) -> Noisy:
        """scikit-learn's pavilion, or a part of it."""
        from sklearn.datasets import load_sample_image

        clean = load_sample_image("china.jpg").astype(np.float32) / 255
        noise = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
        noisy = clean + np.float32(sigma) * noise
        return cls(clean[rows, columns], noisy[rows, columns], sigma)


@dataclass(frozen=True)
class Recipe:
    """How the dictionary is learned, and how patches are coded; lengths are in units of the noise."""

    n_atoms: int = 256
    size: int = 8
    step: int = 2
    reg: float = 3.5
    sample: int = 20_000
    epochs: int = 2
    most: int = 20
    margin: float = 1.05


Coding = Callable[[Array, Array, float, Recipe], tuple[Array, Array]]
"""Learns from the first signals, codes the second to a squared error: gives dictionary and codes."""


@dataclass(frozen=True)
class Restored:
    """A photograph, the dictionary behind it, and how many atoms a patch took."""

    image: Array
    dictionary: Array
    count: float


def run(
    progress: Progress,
    *,
    recipe: Recipe = Recipe(),
    part: tuple[slice, slice] = (slice(146, 242), slice(256, 384)),
    whole: tuple[slice, slice] = (slice(None), slice(None)),
) -> Sequence[Block]:
    """Restore the `whole` photograph, and race on a `part` of it."""
    progress("reading the photograph; loading the compiled loops, or compiling them the first time")
    start = time.perf_counter()
    small = Noisy.load(rows=part[0], columns=part[1])
    denoise(small, recipe, by_numcore)
    first = time.perf_counter() - start
    photo = Noisy.load(rows=whole[0], columns=whole[1])
    progress("learning a dictionary from the noisy photograph, and coding its patches")
    start = time.perf_counter()
    restored = denoise(photo, recipe, by_numcore)
    seconds = time.perf_counter() - start
    scores = contest(small, recipe, first, progress)
    progress("drawing")
    return [
        Text(INTRODUCTION.format(sigma=round(255 * photo.sigma), recipe=recipe)),
        Code(SOURCE.format(recipe=recipe)),
        Pictures(_pictures(photo, restored)),
        Text(_outcome(photo, restored, seconds, recipe)),
        Pictures([_atoms(restored.dictionary, recipe)]),
        Text(COMPARISON),
        Table(_conditions(small, recipe), HEADS, [row(score, scores[0]) for score in scores]),
        Text(verdict(scores[1], scores[0])),
    ]


STOP = Stop("Noise taken off a photograph by what it repeats", run)


# the method


def denoise(photo: Noisy, recipe: Recipe, coding: Coding) -> Restored:
    """Learn from some patches, code all, and average what the overlapping patches say of a pixel."""
    patches = every_patch(photo.noisy, recipe)
    signals = patches.reshape(-1, 3, recipe.size**2)
    means = signals.mean(axis=2, keepdims=True)
    signals = (signals - means).reshape(len(signals), -1)
    chosen = np.random.default_rng(0).permutation(len(signals))[: recipe.sample]
    allowed = signals.shape[1] * (recipe.margin * photo.sigma) ** 2
    D, code = coding(signals[chosen], signals, allowed, recipe)
    rebuilt = (code @ D).reshape(-1, 3, recipe.size**2) + means
    image = average(rebuilt.reshape(patches.shape), photo.noisy, recipe)
    return Restored(image, D, float(np.count_nonzero(code, axis=1).mean()))


def every_patch(image: Array, recipe: Recipe) -> Array:
    """Patches at every `step`-th pixel, each way: (rows, columns, 3, size, size)."""
    views = np.lib.stride_tricks.sliding_window_view(image, (recipe.size, recipe.size), axis=(0, 1))
    return views[:: recipe.step, :: recipe.step]


def average(patches: Array, image: Array, recipe: Recipe) -> Array:
    """The mean of all patches over a pixel; pixels that none covers are taken from the image."""
    total, count = np.zeros_like(image), np.zeros(image.shape[:2], image.dtype)
    (rows, columns), step = patches.shape[:2], recipe.step
    for i in range(recipe.size):
        for j in range(recipe.size):
            where = slice(i, i + step * rows, step), slice(j, j + step * columns, step)
            total[where] += patches[:, :, :, i, j]
            count[where] += 1
    return np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], image)


def by_numcore(X: Array, signals: Array, allowed: float, recipe: Recipe) -> tuple[Array, Array]:
    """The dictionary and the codes, by this library."""
    from numcore.algorithms.sparse_coding import DictionaryLearner, omp
    from numcore.results import ConvergenceWarning

    reg = recipe.reg * float(np.sqrt(allowed / signals.shape[1])) / recipe.margin
    learner = DictionaryLearner(recipe.n_atoms, reg=reg, max_iter=recipe.epochs, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few epochs are meant; some patches need more atoms
        D = learner.fit(X).components_
        return D, omp(signals, D, n_nonzero=recipe.most, tol=allowed).code


def by_sklearn(X: Array, signals: Array, allowed: float, recipe: Recipe) -> tuple[Array, Array]:
    """The same by scikit-learn: its online learning by coordinate descent, its pursuit with the Gram matrix."""
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.linear_model import orthogonal_mp_gram

    reg = recipe.reg * float(np.sqrt(allowed / signals.shape[1])) / recipe.margin
    learner = MiniBatchDictionaryLearning(
        recipe.n_atoms,
        alpha=reg,
        fit_algorithm="cd",
        batch_size=512,
        max_iter=recipe.epochs,
        tol=0.0,
        max_no_improvement=None,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says when coordinate descent or a pursuit ends early
        D = learner.fit(X).components_
        norms = np.linalg.norm(D, axis=1, keepdims=True)
        D = D[norms[:, 0] > 0] / norms[norms[:, 0] > 0]  # its pursuit takes the norms to be 1
        squares = np.sum(signals**2, axis=1)
        code = orthogonal_mp_gram(D @ D.T, D @ signals.T, tol=allowed, norms_squared=squares)
    return D, code.T.astype(signals.dtype)


def psnr(image: Array, clean: Array) -> float:
    """The peak signal-to-noise ratio in decibels, of values in [0, 1]."""
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2)))


# the contest


@dataclass(frozen=True)
class Score:
    """Seconds of a run, and of the first; the quality that it reached."""

    name: str
    seconds: float
    first: float
    quality: float
    count: float


def contest(photo: Noisy, recipe: Recipe, first: float, progress: Progress) -> list[Score]:
    """Time both in turn; ours comes first. `first` is what our first run took."""
    import sklearn.decomposition  # noqa: F401  (an import is no part of a run)

    makers: Mapping[str, Coding] = {"numcore": by_numcore, "scikit-learn": by_sklearn}
    progress("restoring a part of it in turn, with scikit-learn")
    timed = race({name: partial(denoise, photo, recipe, make) for name, make in makers.items()})
    firsts = {"numcore": first, "scikit-learn": timed["scikit-learn"].seconds}
    return [
        Score(name, found.seconds, firsts[name], psnr(found.result.image, photo.clean), found.result.count)
        for name, found in timed.items()
    ]


def row(score: Score, ours: Score) -> list[str]:
    """A line of the table."""
    return [
        score.name,
        f"{score.seconds:.2g} s",
        "" if score is ours else f"{score.seconds / ours.seconds:.2g}×",
        f"{score.first:.2g} s",
        f"{score.quality:.2f}",
        f"{score.count:.1f}",
    ]


def verdict(peer: Score, ours: Score) -> str:
    """Who won, in time and in quality, in words."""
    ratio, gain = peer.seconds / ours.seconds, ours.quality - peer.quality
    if 0.95 < ratio < 1.05:
        speed = "even"
    else:
        speed = f"numcore wins {ratio:.2g} to 1" if ratio > 1 else f"NUMCORE LOSES 1 to {1 / ratio:.2g}"
    if abs(gain) < 0.05:
        quality = "even"
    else:
        quality = f"{'numcore is ahead' if gain > 0 else 'NUMCORE IS BEHIND'} by {abs(gain):.2f} dB"
    return f"Against {peer.name}: in time {speed}; in quality {quality}."


# words and pictures

INTRODUCTION = """\
A patch of a photograph is a sum of few patterns; noise is not. So learn a dictionary of patterns from the patches of
the noisy photograph, code each patch with as few of them as leave an error of the size of the noise, and average what
the overlapping patches say of a pixel (Elad and Aharon, 2006). Nothing but the photograph is needed; the noise here is
Gaussian, with a deviation of {sigma} levels of 255."""

SOURCE = """\
learner = DictionaryLearner({recipe.n_atoms}, reg={recipe.reg:g} * sigma, max_iter={recipe.epochs}, random_state=0)
learner.fit(patches_of_the_noisy_image)
code = omp(all_patches, learner.components_, n_nonzero={recipe.most}, tol=192 * ({recipe.margin:g} * sigma) ** 2).code
denoised_patches = code @ learner.components_"""

COMPARISON = """\
scikit-learn has the same parts: MiniBatchDictionaryLearning learns with the same penalty, batches and epochs, and
orthogonal_mp_gram codes to the same error."""


def _outcome(photo: Noisy, restored: Restored, seconds: float, recipe: Recipe) -> str:
    before, after = psnr(photo.noisy, photo.clean), psnr(restored.image, photo.clean)
    count = np.prod(every_patch(photo.noisy, recipe).shape[:2])
    return (
        f"{count:,} patches of {recipe.size} x {recipe.size} pixels in colour, {seconds:.1f} s in all. The noisy"
        f" photograph is at {before:.1f} dB, the restored one at {after:.1f} dB. A patch took {restored.count:.1f}"
        " atoms in the mean: the sky almost none, the roof many. Among the atoms, below, are edges and lattices of this"
        " building, and some that are mostly noise still."
    )


def _conditions(photo: Noisy, recipe: Recipe) -> str:
    h, w = photo.clean.shape[:2]
    return (
        f"A part of {h} x {w} pixels: learn {recipe.n_atoms} atoms from its patches, code them all. Times are medians"
        " of runs taken in turn, after a first of ours that may compile, or load what was compiled. Both may use all"
        " cores."
    )


def _pictures(photo: Noisy, restored: Restored) -> list[Picture]:
    before, after = psnr(photo.noisy, photo.clean), psnr(restored.image, photo.clean)
    return [
        photograph(photo.noisy, f"With noise: {before:.1f} dB.", "A photograph of a Chinese pavilion, full of noise"),
        photograph(restored.image, f"Restored: {after:.1f} dB.", "The same without noise, and a little softer"),
        photograph(photo.clean, "The original, which the method does not see.", "The original photograph"),
    ]


def _atoms(D: Array, recipe: Recipe) -> Picture:
    from numcore.algorithms.sparse_coding import DictionaryDisplay

    shape = (3, recipe.size, recipe.size)
    colours = np.moveaxis(D.reshape(-1, *shape), 1, 3).reshape(len(D), -1)
    figure, axes = panel()
    DictionaryDisplay.from_dictionary(colours, patch_shape=(recipe.size, recipe.size, 3), n_columns=32, ax=axes)
    figure.set_size_inches(8.0, 2.2)
    return drawing(figure, "The dictionary that was learned from the noisy photograph.", "Rows of small patterns")
