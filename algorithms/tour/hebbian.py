"""Hebbian memories: digits recalled from damaged pixels, completed from their upper halves, and told apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from numcore.algorithms.tour._pictures import GROUND, drawing, panel
from numcore.algorithms.tour._race import race
from numcore.algorithms.tour._stop import Block, Code, Picture, Pictures, Progress, Stop, Table, Text
from numcore.algorithms.tour.autodiff import Digits
from numcore.arrays import Array

__all__ = ["STOP", "Task", "damaged", "models", "recalled", "run", "tasks"]

ORDERS = {2: "#c8641b", 8: "#7a9cc0", 30: "#1668a8"}
"""Orders of the energy, with their colours."""

BETAS = [5.0, 10.0, 20.0, 50.0]
NEIGHBOURS = [1, 3, 5, 9]
HEADS = ("", "seconds", "times numcore's", "result", "chosen")


def run(
    progress: Progress,
    *,
    n_recalled: int = 200,
    levels: Sequence[float] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    shown: float = 0.1,
    copies: int = 20,
) -> Sequence[Block]:
    """Recall `n_recalled` digits at each level of damage; race on `copies` noisy versions of the digits held out."""
    digits = Digits.load()
    progress("loading the compiled loops, or compiling them the first time")
    memory = signs(digits.X)
    recalled(memory, memory[:2], 2)
    ten = np.array([np.flatnonzero(digits.y == c)[0] for c in range(10)])
    rows = {"damaged": damaged(memory[ten], shown, 1)}
    for order in ORDERS:
        rows[f"order {order}"] = recalled(memory, rows["damaged"], order)
    rows["stored"] = memory[ten]
    curves: dict[str, list[float]] = {"damaged": [], **{f"order {order}": [] for order in ORDERS}}
    for level in levels:
        progress(f"recalling digits with {level:.0%} of the pixels turned over")
        queries = damaged(memory[:n_recalled], level, 0)
        curves["damaged"].append(right(queries, memory[:n_recalled]))
        for order in ORDERS:
            curves[f"order {order}"].append(right(recalled(memory, queries, order), memory[:n_recalled]))
    tables: list[Block] = []
    completed: dict[str, Array] = {}
    for task in tasks(digits, copies):
        progress(f"{task.name}, in turn with scikit-learn")
        scores = contest(task)
        tables += [Table(task.conditions, HEADS, [row(score, scores[0]) for score in scores])]
        tables += [Text(verdict(task, scores[1], scores[0]))]
        completed = {score.name: score.answer for score in scores}
    progress("drawing")
    return [
        Text(INTRODUCTION.format(n=len(memory))),
        Code(SOURCE),
        Pictures([_recall_picture(rows, shown), _curve_picture(levels, curves)]),
        Text(_outcome(levels, curves, rows)),
        Text(MODERN),
        Code(MODERN_SOURCE),
        Pictures([_completion_picture(digits, completed)]),
        *tables,
    ]


STOP = Stop("A memory that knows its digits again", run)


# recall of signs


def signs(X: Array) -> Array:
    """Black and white as +1 and -1."""
    return np.where(X > 7.5 / 16, np.int8(1), np.int8(-1))


def damaged(states: Array, share: float, seed: int) -> Array:
    """Signs of which a share is turned over."""
    return np.where(np.random.default_rng(seed).random(states.shape) < share, -states, states)


def recalled(memory: Array, queries: Array, order: int) -> Array:
    """Where a memory of this order takes the queries."""
    from numcore.algorithms.hebbian import DenseHebbianMemory

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that most end in one state is what is to be shown
        return DenseHebbianMemory(order, n_sweeps=20).fit(memory).recall(queries)


def right(states: Array, truth: Array) -> float:
    """The share of pixels that are right."""
    return float(np.mean(states == truth))


# the contest


@dataclass(frozen=True)
class Task:
    """What both are asked, and how an answer is judged: more is better if `sign` is 1, less if it is -1."""

    name: str
    conditions: str
    X: Array
    y: Array
    queries: Array
    judge: Callable[[Array], float]
    format: str
    unit: str
    sign: int


@dataclass(frozen=True)
class Score:
    """Seconds of a run, what it answered and how good that is, and the parameter that was chosen."""

    name: str
    seconds: float
    answer: Array
    quality: float
    text: str
    chosen: str


def tasks(digits: Digits, copies: int) -> list[Task]:
    """Telling noisy digits apart, and drawing the lower halves of upper ones."""
    noise = np.random.default_rng(2).standard_normal((copies, *digits.X_test.shape), dtype=np.float32)
    noisy = (digits.X_test + np.float32(0.4) * noise).reshape(-1, 64)
    labels, halves = np.tile(digits.y_test, copies), digits.X_test[:, 32:]
    return [
        Task(
            "telling noisy digits apart",
            f"{len(digits.y_test)} digits that are not stored, each in {copies} versions with Gaussian noise of"
            " deviation 0.4 on every pixel: labels that are right. " + TERMS,
            digits.X,
            digits.y,
            noisy,
            lambda answer: 100 * float(np.mean(answer == labels)),
            "{:.1f} %",
            "percentage points",
            1,
        ),
        Task(
            "completing digits",
            f"The lower halves of {len(digits.y_test)} digits that are not stored, from their upper halves: root of the"
            " mean squared error, of pixels between 0 and 1. " + TERMS,
            digits.X[:, :32],
            digits.X[:, 32:],
            digits.X_test[:, :32],
            lambda answer: float(np.sqrt(np.mean((answer - halves) ** 2))),
            "{:.4f}",
            "in the error",
            -1,
        ),
    ]


def models(task: Task) -> Mapping[str, tuple[Any, str, list[Any]]]:
    """For both contestants an estimator, its parameter and the values to choose from; ours comes first."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    from numcore.algorithms.hebbian import ModernHopfieldClassifier, ModernHopfieldRegressor

    ours = ModernHopfieldClassifier if task.sign > 0 else ModernHopfieldRegressor
    theirs = KNeighborsClassifier if task.sign > 0 else KNeighborsRegressor
    return {
        "numcore": (ours(similarity="euclidean"), "beta", BETAS),
        "scikit-learn": (theirs(), "n_neighbors", NEIGHBOURS),
    }


def contest(task: Task) -> list[Score]:
    """Choose by cross-validation, fit, and time the predictions in turn."""
    from sklearn.model_selection import GridSearchCV

    fitted, chosen = {}, {}
    for name, (model, parameter, values) in models(task).items():
        search = GridSearchCV(model, {parameter: values}, cv=5).fit(task.X, task.y)
        fitted[name], chosen[name] = search.best_estimator_, f"{parameter} = {search.best_params_[parameter]:g}"
        fitted[name].predict(task.queries[:2])
    timed = race({name: partial(model.predict, task.queries) for name, model in fitted.items()}, rounds=5)
    return [
        Score(
            name,
            found.seconds,
            found.result,
            task.sign * task.judge(found.result),
            task.format.format(task.judge(found.result)),
            chosen[name],
        )
        for name, found in timed.items()
    ]


def row(score: Score, ours: Score) -> list[str]:
    """A line of the table."""
    ratio = "" if score is ours else f"{score.seconds / ours.seconds:.2g}×"
    return [score.name, f"{score.seconds:.2g} s", ratio, score.text, score.chosen]


def verdict(task: Task, peer: Score, ours: Score) -> str:
    """Who won, in time and in quality, in words."""
    ratio, gain = peer.seconds / ours.seconds, ours.quality - peer.quality
    if 0.95 < ratio < 1.05:
        speed = "even"
    else:
        speed = f"numcore wins {ratio:.2g} to 1" if ratio > 1 else f"NUMCORE LOSES 1 to {1 / ratio:.2g}"
    if abs(gain) < 0.005 * abs(peer.quality):
        quality = "even"
    else:
        quality = f"{'numcore is ahead' if gain > 0 else 'NUMCORE IS BEHIND'} by {abs(gain):.2g} {task.unit}"
    return f"Against {peer.name} in {task.name}: in time {speed}; in quality {quality}."


# words and pictures

INTRODUCTION = """\
An associative memory is asked with a damaged copy of what it holds. Hopfield's network of 1982 holds few patterns, and
only if they have nothing in common; images of one kind do. Raise the order of its energy from pairs of pixels to many
(Krotov and Hopfield, 2016), and the same rule - a pixel takes the sign that lowers the energy - tells hundreds of
similar patterns apart. Here it holds {n:,} handwritten digits of 64 pixels, in black and white."""

SOURCE = """\
memory = DenseHebbianMemory(order=30).fit(digits)
memory.recall(damaged_digits)"""

MODERN = """\
Its modern form (Ramsauer and others, 2021) takes shades of grey. One step is a mean of the stored vectors under weights
that grow with the likeness to the query - the attention of transformers. With values in the place of the vectors it
predicts: labels from noisy digits, or lower halves from upper ones."""

MODERN_SOURCE = """\
ModernHopfieldClassifier(beta, similarity="euclidean").fit(digits, labels).predict(noisy_digits)
ModernHopfieldRegressor(beta, similarity="euclidean").fit(upper_halves, lower_halves).predict(upper_halves_of_others)"""

TERMS = """\
scikit-learn's is the estimator by nearest neighbours. Both choose their parameter by cross-validation on the stored \
digits, and both may use all cores. Times are medians of runs taken in turn."""


def _outcome(levels: Sequence[float], curves: Mapping[str, list[float]], rows: Mapping[str, Array]) -> str:
    worst = len(levels) // 2
    found = {name: values[worst] for name, values in curves.items()}
    after = ", ".join(f"{found[f'order {order}']:.0%} at order {order}" for order in ORDERS)
    ends = len(np.unique(rows["order 2"], axis=0))
    where = "one state" if ends == 1 else f"{ends} states"
    return (
        f"With {levels[worst]:.0%} of the pixels turned over, {found['damaged']:.0%} are right before recall. After it"
        f" {after} are. At order 2 the ten digits of the picture end in {where}: what all digits have in common"
        " outweighs what tells them apart."
    )


def _recall_picture(rows: Mapping[str, Array], shown: float) -> Picture:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), facecolor=GROUND, layout="constrained")
    axes = figure.subplots(len(rows), 10)
    for line, (name, states) in zip(axes, rows.items(), strict=True):
        for ax, state in zip(line, states, strict=True):
            ax.imshow(state.reshape(8, 8), cmap="gray_r", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return drawing(
        figure,
        f"Digits with {shown:.0%} of the pixels turned over, what memories of three orders make of them, and what was"
        " stored.",
        "Five rows of ten small pictures: damaged digits; blots; and digits again",
    )


def _curve_picture(levels: Sequence[float], curves: Mapping[str, list[float]]) -> Picture:
    figure, axes = panel(xlabel="pixels turned over", ylabel="pixels right after recall")
    share = 100 * np.asarray(levels)
    for order, colour in ORDERS.items():
        axes.plot(share, 100 * np.asarray(curves[f"order {order}"]), "o-", color=colour, label=f"order {order}")
    axes.plot(share, 100 * np.asarray(curves["damaged"]), ":", color="0.4", label="before")
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.legend(frameon=False, fontsize=9)
    return drawing(
        figure,
        "How much is right, against the damage.",
        "Curves that fall from left to right, the one of order 30 above all others",
    )


def _completion_picture(digits: Digits, completed: Mapping[str, Array]) -> Picture:
    from matplotlib.figure import Figure

    chosen = np.array([np.flatnonzero(digits.y_test == c)[0] for c in range(10)])
    truth = digits.X_test[chosen]
    rows = {"shown": np.where(np.arange(64) < 32, truth, np.nan)}
    for name, lower in completed.items():
        rows[name] = np.concatenate([truth[:, :32], lower[chosen]], axis=1)
    rows["truth"] = truth
    figure = Figure(figsize=(8.0, 3.4), facecolor=GROUND, layout="constrained")
    axes = figure.subplots(len(rows), 10)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.set_facecolor("#d8d2c4")
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return drawing(
        figure,
        "Lower halves of digits that the memory does not hold, from their upper halves.",
        "Rows of ten digits: upper halves, two completions, and the truth",
    )
