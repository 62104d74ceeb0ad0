"""Curvature: a net on the digits is trained by M-FAC, and nine tenths of another one's weights are taken away."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from numcore.algorithms.tour._pictures import GROUND, drawing, panel
from numcore.algorithms.tour._stop import Block, Code, Picture, Pictures, Progress, Stop, Table, Text
from numcore.algorithms.tour.autodiff import Digits
from numcore.arrays import Array

__all__ = ["METHODS", "STOP", "Pruned", "Trained", "prune", "run", "train"]

SPARSITY = 0.9
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97)
METHODS: dict[str, dict[str, Any]] = {
    "smallest weights": {"method": "magnitude"},
    "M-FAC, one pass": {"method": "mfac", "n_recompute": 1},
    "M-FAC, 16 passes": {"method": "mfac", "n_recompute": 16},
}
COLOURS = {
    "smallest weights": "#c8641b",
    "M-FAC, one pass": "#7a9cc0",
    "M-FAC, 16 passes": "#1668a8",
    "M-FAC": "#1668a8",
    "Adam": "#7a9cc0",
    "MLPClassifier": "#c8641b",
}


@dataclass(frozen=True)
class Trained:
    """A fitted net, the seconds that the fit took, and its accuracy on the images held out."""

    net: Any
    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Pruned:
    """A net after pruning: its accuracy then, after some more training, the seconds of the pruning, and what is left.

    `kept` is, for each pixel, the share of its weights into the first layer that are left.
    """

    accuracy: float
    tuned: float
    seconds: float
    kept: Array


def run(
    progress: Progress,
    *,
    hidden: tuple[int, ...] = (64, 64),
    epochs: int = 40,
    seeds: int = 3,
    levels: Sequence[float] = LEVELS,
) -> Sequence[Block]:
    """Train by three optimizers, `seeds` nets each; prune those of Adam to 90 %, and the first to each level."""
    digits = Digits.load()
    trained = {}
    for name in ("M-FAC", "Adam", "MLPClassifier"):
        progress(f"training by {name}")
        train(name, digits, hidden, 1, 0)  # what compiles and what is imported is no part of a fit
        trained[name] = [train(name, digits, hidden, epochs, seed) for seed in range(seeds)]
    pruned: dict[str, list[Pruned]] = {name: [] for name in METHODS}
    for seed, found in enumerate(trained["Adam"]):
        progress(f"pruning net {seed + 1} of {seeds}")
        for name in METHODS:
            pruned[name].append(prune(found.net, name, SPARSITY, digits))
    curves = {}
    for name in METHODS:
        progress(f"the way down: {name}")
        at = {level: prune(trained["Adam"][0].net, name, level, digits).accuracy for level in levels}
        curves[name] = at
    progress("drawing")
    dense = trained["Adam"]
    sizes = (64, *hidden, 10)
    n_weights = sum(a * b for a, b in pairwise(sizes))
    return [
        Text(
            INTRODUCTION.format(n=len(digits.y), held=len(digits.y_test), sizes="-".join(map(str, (64, *hidden, 10))))
        ),
        Code(TRAINING.format(hidden=hidden)),
        Text(_training_outcome(trained, len(digits.y_test))),
        Text(PRUNING.format(n=n_weights, left=round(n_weights * (1 - SPARSITY)))),
        Code(PRUNING_CODE),
        Pictures([_losses(trained), _curves(curves, dense[0].accuracy), _map(digits, pruned)]),
        Table(_conditions(len(digits.y_test), seeds), HEADS, [_dense_row(dense), *_rows(pruned)]),
        Text(_verdict(dense, pruned)),
    ]


STOP = Stop("Nine weights out of ten taken away, with the curvature's help", run)


# the work


def train(name: str, digits: Digits, hidden: tuple[int, ...], epochs: int, seed: int) -> Trained:
    """Fit a net of these hidden layers; none stops early."""
    from sklearn.exceptions import ConvergenceWarning as SklearnWarning
    from sklearn.neural_network import MLPClassifier

    from numcore.algorithms.curvature import MFACClassifier
    from numcore.results import ConvergenceWarning

    common: dict[str, Any] = {"max_iter": epochs, "n_iter_no_change": epochs, "random_state": seed, "alpha": 0.0}
    if name == "MLPClassifier":
        net = MLPClassifier(hidden, batch_size=64, learning_rate_init=1e-3, **common)
    elif name == "Adam":
        net = MFACClassifier(hidden, solver="adam", batch_size=64, lr=1e-3, **common)
    else:
        net = MFACClassifier(hidden, **common)
    begun = time.perf_counter()
    with warnings.catch_warnings():  # they would go on
        warnings.simplefilter("ignore", SklearnWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit(digits.X, digits.y)
    return Trained(net, time.perf_counter() - begun, float(net.score(digits.X_test, digits.y_test)))


def prune(net: Any, name: str, sparsity: float, digits: Digits, epochs: int = 5) -> Pruned:
    """Prune a copy of the net by one of `METHODS`, and then train it for some epochs more."""
    net = copy.deepcopy(net)
    begun = time.perf_counter()
    net.prune(digits.X, digits.y, sparsity, **METHODS[name])
    seconds = time.perf_counter() - begun
    accuracy = float(net.score(digits.X_test, digits.y_test))
    first = net.mask_[: digits.X.shape[1] * net.hidden_layer_sizes[0]].reshape(digits.X.shape[1], -1)
    kept = first.mean(axis=1)
    for _ in range(epochs):
        net.partial_fit(digits.X, digits.y)
    return Pruned(accuracy, float(net.score(digits.X_test, digits.y_test)), seconds, kept)


# words

INTRODUCTION = """\
The curvature of a loss says what a gradient cannot: how far to go, and what can be spared. Here it does both for small
nets ({sizes}) on {n:,} of scikit-learn's handwritten digits; {held} more are held out.

M-FAC steps along the gradient times the inverse of the Fisher matrix of the last 64 gradients. That matrix has as many
rows as the net has parameters; it is never formed."""

TRAINING = """\
net = MFACClassifier({hidden}).fit(X, y)                        # M-FAC, with its defaults
net = MFACClassifier({hidden}, solver="adam", lr=1e-3).fit(X, y)"""

PRUNING = """\
Now the nets that Adam trained lose nine in ten of their {n:,} weights: {left:,} are left. The usual way is to
take the smallest. M-FAC asks the inverse Fisher matrix of 256 examples' gradients what the loss would miss least, and
moves the weights that stay to make up for those that go. What it knows holds near the net that it measured, so
that it is best done in passes, each with new gradients."""

PRUNING_CODE = """\
net.prune(X, y, 0.9)                         # M-FAC, 16 passes
net.prune(X, y, 0.9, method="magnitude")     # the smallest
net.score(X_test, y_test)
net.partial_fit(X, y)                        # trains what is left; the rest stays zero"""

HEADS = ("90 % of the weights removed", "test accuracy", "least to most", "after 5 epochs more", "seconds")


def _conditions(held: int, seeds: int) -> str:
    return (
        f"Accuracy on the {held} images held out, means of {seeds} nets, right after pruning and after five more epochs"
        " of Adam. Seconds are those of one pruning; whatever is on the machine besides is in them."
    )


def _row(name: str, accuracies: Sequence[float], tuned: str, seconds: str) -> list[str]:
    spread = f"{min(accuracies):.1%} to {max(accuracies):.1%}"
    return [name, f"{np.mean(accuracies):.1%}", spread, tuned, seconds]


def _dense_row(dense: Sequence[Trained]) -> list[str]:
    return _row("none removed", [found.accuracy for found in dense], "", "")


def _rows(pruned: Mapping[str, Sequence[Pruned]]) -> list[list[str]]:
    return [
        _row(
            name,
            [found.accuracy for found in each],
            f"{np.mean([found.tuned for found in each]):.1%}",
            f"{np.median([found.seconds for found in each]):.2g}",
        )
        for name, each in pruned.items()
    ]


def _training_outcome(trained: Mapping[str, Sequence[Trained]], held: int) -> str:
    parts = []
    for name, each in trained.items():
        seconds, accuracy = np.median([t.seconds for t in each]), np.mean([t.accuracy for t in each])
        loss = np.mean([t.net.loss_curve_[-1] for t in each])
        parts.append(f"{name} {accuracy:.1%} in {seconds:.2g} s (last training loss {loss:.1e})")
    mean = {name: np.mean([t.accuracy for t in each]) for name, each in trained.items()}
    images = held * (mean["M-FAC"] - mean["Adam"])
    place = "ahead of Adam" if images > 0 else "BEHIND Adam"
    return (
        f"After {len(trained['M-FAC'][0].net.loss_curve_)} epochs the accuracies on the images held out, in the mean of"
        f" {len(trained['M-FAC'])} seeds, are: {'; '.join(parts)}. M-FAC is {place} by"
        f" {abs(images):.1f} of {held} images. MLPClassifier is scikit-learn's, with Adam at the same rate and batch"
        " size."
    )


def _verdict(dense: Sequence[Trained], pruned: Mapping[str, Sequence[Pruned]]) -> str:
    """What pruning cost, by the method."""
    whole = np.mean([found.accuracy for found in dense])
    mean = {name: np.mean([found.accuracy for found in each]) for name, each in pruned.items()}
    best, plain, once = mean["M-FAC, 16 passes"], mean["smallest weights"], mean["M-FAC, one pass"]
    if best < plain:
        lead = f"M-FAC IS BEHIND the smallest weights: {best:.1%} against {plain:.1%} of the images right"
    else:
        lead = f"M-FAC in 16 passes leaves {best:.1%} of the images right, taking the smallest weights {plain:.1%}"
    return (
        f"{lead}; it was {whole:.1%} before. A single pass reaches {once:.1%}: it is the passes that do it. The"
        " smallest weights are what pruning tools of other libraries take, torch's for one."
    )


# pictures


def _losses(trained: Mapping[str, Sequence[Trained]]) -> Picture:
    figure, axes = panel(xlabel="epoch", ylabel="mean training loss", yscale="log")
    for (name, each), style in zip(trained.items(), ("-", "-", "--"), strict=True):
        curve = each[0].net.loss_curve_
        axes.plot(np.arange(1, len(curve) + 1), curve, style, color=COLOURS[name], label=name)
    axes.legend(frameon=False, fontsize=9)
    caption = "Training loss of the first seed. M-FAC takes half as many steps an epoch, of 128 images each."
    return drawing(figure, caption, "Three falling curves of the loss; that of M-FAC falls lowest, with jumps")


def _curves(curves: Mapping[str, Mapping[float, float]], dense: float) -> Picture:
    figure, axes = panel(xlabel="share of the weights removed", ylabel="test accuracy", ylim=(0, 1.02))
    axes.axhline(dense, color="0.5", linestyle=":", linewidth=1)
    for (name, at), mark in zip(curves.items(), "sov", strict=True):
        axes.plot(list(at), list(at.values()), f"-{mark}", color=COLOURS[name], markersize=4, label=name)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    caption = "One net, pruned to each share from the start, without further training; dotted: the whole net."
    return drawing(figure, caption, "Three falling curves of accuracy; that of M-FAC in 16 passes stays high longest")


def _map(digits: Digits, pruned: Mapping[str, Sequence[Pruned]]) -> Picture:
    """Where in the image the weights of the first layer are that stay, in the mean of all nets."""
    from matplotlib.figure import Figure

    maps = {name: np.mean([found.kept for found in each], axis=0).reshape(8, 8) for name, each in pruned.items()}
    top = max(float(kept.max()) for kept in maps.values())
    figure = Figure(figsize=(4.0, 3.2), facecolor=GROUND, layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    panels[0].imshow(digits.X.std(axis=0).reshape(8, 8), cmap="gray_r")
    panels[0].set_title("how much a pixel varies", fontsize=8)
    for axes, (name, kept) in zip(panels[1:], maps.items(), strict=True):
        shown = axes.imshow(kept, cmap="Blues", vmin=0, vmax=top)
        axes.set_title("without the smallest" if name == "smallest weights" else name, fontsize=8)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    bar = figure.colorbar(shown, ax=panels, shrink=0.8)
    bar.set_label("share of a pixel's weights left", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    caption = "The 8 x 8 pixels: how much each varies, and what is left of its weights into the first layer at 90 %."
    return drawing(figure, caption, "Four maps of 8 by 8 pixels; M-FAC spares the middle, where pixels vary")
