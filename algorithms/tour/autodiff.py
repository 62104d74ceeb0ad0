"""Automatic differentiation: a net trained on scikit-learn's digits, and the curvature of its loss."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from numcore.algorithms.tour._pictures import drawing, panel
from numcore.algorithms.tour._race import race
from numcore.algorithms.tour._stop import Block, Code, Picture, Pictures, Progress, Stop, Table, Text
from numcore.arrays import Array

__all__ = ["STOP", "Digits", "Recipe", "Score", "by_numcore", "by_sklearn", "hessian", "run"]

HEADS = ("", "fit", "times numcore's", "first fit", "test accuracy", "least to most", "training loss")
WIDTH = 0.02
"""Of the normal density that each eigenvalue is smoothed to."""


@dataclass(frozen=True)
class Digits:
    """Images of 64 pixels in [0, 1], float32, and their labels; a quarter is held out."""

    X: Array
    y: Array
    X_test: Array
    y_test: Array

    @classmethod
    def load(cls) -> Digits:
        """scikit-learn's embedded set."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, y = load_digits(return_X_y=True)
        X = (images / 16).astype(np.float32)
        X, X_test, y, y_test = train_test_split(X, y, random_state=0, stratify=y)
        return cls(X, y, X_test, y_test)


@dataclass(frozen=True)
class Recipe:
    """The net and how it is trained; the same for all."""

    hidden: int = 64
    batch: int = 64
    epochs: int = 60
    rate: float = 3e-3


@dataclass(frozen=True)
class Fit:
    """A trained net: the classes of images, the mean loss in each epoch, and the parameters, if they are one vector."""

    predict: Callable[[Array], Array]
    curve: Sequence[float]
    theta: Array | None = None


@dataclass(frozen=True)
class Score:
    """Seconds of a fit, and of the first; the accuracy on the images held out and the last loss, for each seed."""

    name: str
    seconds: float
    first: float
    accuracies: Sequence[float]
    losses: Sequence[float]

    @property
    def accuracy(self) -> float:
        """The mean of all seeds."""
        return float(np.mean(self.accuracies))


def run(
    progress: Progress, *, recipe: Recipe = Recipe(), seeds: int = 5, k: int = 80, bent: int = 500
) -> Sequence[Block]:
    """Train with numcore and with scikit-learn, `seeds` seeds each; k Lanczos steps on the loss of `bent` images."""
    digits = Digits.load()
    scores, fits = contest(digits, recipe, seeds, progress)
    ours, peer = scores
    trained = fits[ours.name][0].theta
    assert trained is not None
    net, spectra = _net(recipe), {}
    for name, theta in {"at the start": net.init(rng=0), "trained": trained}.items():
        progress(f"the Hessian's spectrum {name if name != 'trained' else 'after training'}")
        begun = time.perf_counter()
        H = hessian(net, theta, digits.X[:bent], digits.y[:bent])
        spectra[name] = Spectrum.of(H, k), time.perf_counter() - begun
    progress("drawing")
    return [
        Text(INTRODUCTION.format(n=len(digits.y), held=len(digits.y_test), net=recipe, size=net.n_params)),
        Code(TRAINING.format(net=recipe)),
        Pictures([*_curves(fits, scores), _drawn({name: spectrum for name, (spectrum, _) in spectra.items()})]),
        Text(COMPARISON),
        Table(_conditions(digits, seeds), HEADS, [row(score, ours) for score in scores]),
        Text(verdict(peer, ours, len(digits.y_test))),
        Text(CURVATURE.format(size=net.n_params, n=len(digits.y[:bent]), k=k)),
        Code(PRODUCTS.format(k=k)),
        Text(_outcome(spectra)),
    ]


STOP = Stop("A net on handwritten digits, and the curvature of its loss", run)


# the contest


def contest(
    digits: Digits, recipe: Recipe, seeds: int, progress: Progress
) -> tuple[list[Score], dict[str, Sequence[Fit]]]:
    """Time all seeds of either in turn; ours comes first."""
    import sklearn.neural_network  # noqa: F401  (an import is no part of a fit)

    from numcore import autodiff  # noqa: F401

    makers = {"numcore.autodiff": by_numcore, "MLPClassifier": by_sklearn}
    first = {}
    for name, make in makers.items():
        progress(f"a first fit by {name}")
        begun = time.perf_counter()
        make(digits, recipe, 0)
        first[name] = time.perf_counter() - begun
    progress(f"timing the fits in turn, {seeds} seeds each")
    timed = race({name: partial(_from_each, make, digits, recipe, seeds) for name, make in makers.items()})
    fits = {name: found.result for name, found in timed.items()}
    scores = [
        Score(
            name,
            timed[name].seconds / seeds,
            first[name],
            [float(np.mean(fit.predict(digits.X_test) == digits.y_test)) for fit in fits[name]],
            [fit.curve[-1] for fit in fits[name]],
        )
        for name in makers
    ]
    return scores, fits


def _from_each(make: Callable[..., Fit], digits: Digits, recipe: Recipe, seeds: int) -> Sequence[Fit]:
    return [make(digits, recipe, seed) for seed in range(seeds)]


def _net(recipe: Recipe) -> Any:
    from numcore import autodiff as ad

    return ad.nn.MLP([64, recipe.hidden, 10])


def by_numcore(digits: Digits, recipe: Recipe, seed: int) -> Fit:
    """The loop that a user would write."""
    from numcore import autodiff as ad

    net, opt, rng = _net(recipe), ad.optim.Adam(recipe.rate), np.random.default_rng(seed)
    theta, n = net.init(rng=seed), len(digits.y)
    gradient, curve = np.empty_like(theta), []
    for _ in range(recipe.epochs):
        order, total = rng.permutation(n), 0.0
        for start in range(0, n, recipe.batch):
            rows = order[start : start + recipe.batch]
            loss, _ = net.loss_and_grad(theta, digits.X[rows], digits.y[rows], out=gradient)
            opt.step(theta, gradient)
            total += loss * len(rows)
        curve.append(float(total / n))
    return Fit(lambda X: net(theta, X).argmax(axis=1), curve, theta)


def by_sklearn(digits: Digits, recipe: Recipe, seed: int) -> Fit:
    """The same net by MLPClassifier, told not to stop before the last epoch."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (recipe.hidden,),
        alpha=0.0,
        batch_size=recipe.batch,
        learning_rate_init=recipe.rate,
        max_iter=recipe.epochs,
        n_iter_no_change=recipe.epochs,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it would go on
        model.fit(digits.X, digits.y)
    return Fit(model.predict, model.loss_curve_)


def row(score: Score, ours: Score) -> list[str]:
    """A line of the table."""
    return [
        score.name,
        f"{score.seconds:.2g} s",
        "" if score is ours else f"{score.seconds / ours.seconds:.2g}×",
        f"{score.first:.2g} s",
        f"{score.accuracy:.1%}",
        f"{min(score.accuracies):.1%} to {max(score.accuracies):.1%}",
        f"{np.mean(score.losses):.1e}",
    ]


def verdict(peer: Score, ours: Score, held: int) -> str:
    """Who won, in time and in accuracy, in words; `held` images were held out."""
    ratio = peer.seconds / ours.seconds
    if 0.95 < ratio < 1.05:
        speed = "even"
    else:
        speed = f"numcore wins {ratio:.2g} to 1" if ratio > 1 else f"NUMCORE LOSES 1 to {1 / ratio:.2g}"
    images = held * (ours.accuracy - peer.accuracy)
    if abs(images) < 0.05:
        accuracy = "even"
    else:
        more = "numcore is ahead" if images > 0 else "NUMCORE IS BEHIND"
        accuracy = f"{more} by {abs(images):.1f} of {held} images in the mean"
    spread = held * max(max(score.accuracies) - min(score.accuracies) for score in (ours, peer))
    return (
        f"Against {peer.name}: in time {speed}; in accuracy {accuracy}. The seed alone makes a difference of up to"
        f" {spread:.0f} images."
    )


# the curvature


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues in descending order, the least, the density of all, and the part close to zero."""

    largest: Array
    least: float
    grid: Array
    density: Array
    flat: float

    @classmethod
    def of(cls, H: Any, k: int, n_largest: int = 9) -> Spectrum:
        """From products with H alone."""
        from scipy.sparse.linalg import eigsh
        from threadpoolctl import threadpool_limits  # comes with scikit-learn

        from numcore.linalg import spectral_density

        start = np.random.default_rng(0).standard_normal(H.shape[0])
        with threadpool_limits(1):  # matrices so small gain nothing by threads, and lose where the cores are busy
            largest = eigsh(H, k=n_largest, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)
            found = spectral_density(H, k=k, n_probes=2, rng=0, sigma=WIDTH)
        flat = float(found.weights[np.abs(found.nodes) < WIDTH].sum())
        return cls(np.sort(largest)[::-1], float(found.nodes.min()), found.grid, found.density, flat)


def hessian(net: Any, theta: Array, X: Array, y: Array) -> Any:
    """The Hessian of the mean loss, in float64, as the LinearOperator of its products."""
    from scipy.sparse.linalg import LinearOperator

    from numcore import autodiff as ad

    theta, size = theta.astype(np.float64), len(theta)

    def loss(theta: Any) -> Any:
        return ad.losses.softmax_cross_entropy(net(theta, X), y)

    return LinearOperator((size, size), lambda v: ad.hvp(loss, theta, v.reshape(size)), dtype=np.float64)


def _outcome(spectra: Mapping[str, tuple[Spectrum, float]]) -> str:
    (before, _), (after, _) = spectra["at the start"], spectra["trained"]
    seconds = sum(spent for _, spent in spectra.values())
    return (
        f"Both spectra took {seconds:.1f} s, on one core. Before training the eigenvalues reach from"
        f" {before.least:.2g} to {before.largest[0]:.2g}, after it from {after.least:.2g} to"
        f" {after.largest[0]:.2g}. About {after.flat:.0%} of those of the trained net lie within {WIDTH:g} of"
        f" zero ({before.flat:.0%} before): in those directions"
        " of parameter space the loss hardly bends."
    )


# words and pictures

INTRODUCTION = """\
numcore.autodiff differentiates NumPy code. Here it trains a net with one hidden layer of {net.hidden} units, {size:,}
parameters in one flat vector, on {n:,} of scikit-learn's handwritten digits; {held} more are held out. The loop is the
user's own: a gradient, written into a vector that is there already, and a step of Adam in place."""

TRAINING = """\
net = ad.nn.MLP([64, {net.hidden}, 10])
theta, opt = net.init(rng=0), ad.optim.Adam({net.rate:g})
gradient = np.empty_like(theta)
for _ in range({net.epochs}):
    order = rng.permutation(len(y))
    for start in range(0, len(y), {net.batch}):
        rows = order[start : start + {net.batch}]
        net.loss_and_grad(theta, X[rows], y[rows], out=gradient)
        opt.step(theta, gradient)"""

COMPARISON = """\
scikit-learn's MLPClassifier trains the same net on the same float32 images: the same loss without a penalty, Adam with
the same rates, batches and epochs, no early stop. Each draws its first parameters and its batches in its own way, so
the accuracies are of several seeds."""

CURVATURE = """\
MLPClassifier ends here; derivatives of second order are what it has not. The Hessian of the mean loss of {n:,}
images is a matrix of {size:,} rows, which is never formed: ad.hvp multiplies it with a vector at the cost of a few
gradients. SciPy's eigsh needs no more for the largest eigenvalues, nor does spectral_density for the distribution of
all, estimated from {k} Lanczos steps on each of two random vectors."""

PRODUCTS = """\
def loss(theta):
    return ad.losses.softmax_cross_entropy(net(theta, X), y)

n = len(theta)
H = LinearOperator((n, n), lambda v: ad.hvp(loss, theta, v.reshape(n)), dtype=float)
largest = eigsh(H, k=9, which="LA", tol=1e-3, return_eigenvectors=False)
density = spectral_density(H, k={k}, n_probes=2, sigma=0.02)"""

COLOURS = ("#1668a8", "#c8641b")


def _conditions(digits: Digits, seeds: int) -> str:
    return (
        f"Training on {len(digits.y):,} images; accuracy on the {len(digits.y_test)} held out, mean and range of"
        f" {seeds} seeds. Times are of one fit, medians of runs taken in turn, after a first that is not counted: that"
        " one may compile, or load what was compiled. Both may use all cores."
    )


def _curves(fits: Mapping[str, Sequence[Fit]], scores: Sequence[Score]) -> list[Picture]:
    """The loss of the first seed against epochs, and against time."""
    pictures = []
    for axis, caption in {
        "epoch": "Training loss, epoch by epoch: the same optimizer on the same net.",
        "seconds": "The same curves over time, the epochs spread evenly over the fit.",
    }.items():
        figure, axes = panel(xlabel=axis, ylabel="mean training loss", yscale="log")
        for score, colour, style in zip(scores, COLOURS, ("-", "--"), strict=True):
            curve = fits[score.name][0].curve
            epochs = np.arange(1, len(curve) + 1)
            x = epochs if axis == "epoch" else epochs * (score.seconds / len(curve))
            axes.plot(x, curve, style, color=colour, label=score.name)
        axes.legend(frameon=False, fontsize=9)
        pictures.append(drawing(figure, caption, f"Two falling curves of the loss against {axis}"))
    return pictures


def _drawn(spectra: Mapping[str, Spectrum]) -> Picture:
    figure, axes = panel(xlabel="eigenvalue", ylabel="density", yscale="log")
    floor = 1e-5
    for (name, spectrum), colour, height in zip(spectra.items(), COLOURS[::-1], (1.5, 3.0), strict=True):
        axes.plot(spectrum.grid, np.maximum(spectrum.density, floor / 10), color=colour, linewidth=1, label=name)
        axes.plot(spectrum.largest, np.full(len(spectrum.largest), height * floor), "|", color=colour, markersize=8)
    axes.set(ylim=(floor, None))
    axes.legend(frameon=False, fontsize=9)
    caption = "The Hessian's eigenvalues: their density, smoothed; the ticks are the nine largest."
    return drawing(figure, caption, "Two densities with a high peak at zero and single bumps to the right")
