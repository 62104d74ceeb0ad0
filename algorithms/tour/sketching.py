"""Sketching: a regression on a million patients, from one read of the data, and exactly from four."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from numcore.algorithms.tour._pictures import drawing, panel
from numcore.algorithms.tour._race import race
from numcore.algorithms.tour._stop import Block, Code, Picture, Pictures, Progress, Stop, Table, Text
from numcore.arrays import Array

__all__ = ["STOP", "Patients", "Score", "makers", "row", "run", "verdict"]

JITTER = 0.1
"""What a measurement is moved by, in standard deviations."""
SKETCH = 40
"""Rows of the sketch for each column, where it is all there is."""
WARM = 20_000
"""Rows that loops are loaded with: enough for the methods that all of them take."""
HEADS = (
    "",
    "seconds",
    "times numcore's",
    "error of the coefficients",
    "error of the predictions",
    "columns told apart",
)
OURS, ONE_READ = "numcore", "numcore, one read"


@dataclass(frozen=True)
class Patients:
    """Measurements, their products and squares and a constant, (n, 65); the progress of the disease, (n,)."""

    A: Array
    b: Array

    @classmethod
    def load(cls, n: int) -> Patients:
        """scikit-learn's embedded 442 patients, drawn n times with replacement; what was measured is jittered."""
        from sklearn.datasets import load_diabetes

        found, rng = load_diabetes(scaled=False), np.random.default_rng(0)
        who = rng.integers(len(found.target), size=n)
        spread = JITTER * found.data.std(axis=0)
        sex = list(found.feature_names).index("sex")
        spread[sex] = 0
        X = found.data[who] + spread * rng.standard_normal((n, len(spread)))
        # of two values, sex squared tells no more than sex
        pairs = [pair for pair in combinations_with_replacement(range(X.shape[1]), 2) if pair != (sex, sex)]
        A = np.empty((n, 1 + X.shape[1] + len(pairs)))
        A[:, 0], A[:, 1 : 1 + X.shape[1]] = 1, X
        for k, (i, j) in enumerate(pairs, start=1 + X.shape[1]):
            np.multiply(X[:, i], X[:, j], out=A[:, k])
        return cls(A, found.target[who] + JITTER * found.target.std() * rng.standard_normal(n))

    def reference(self, x: Array, steps: int = 1) -> Array:
        """The least-squares solution near x, refined with residuals in extended precision.

        A step leaves so much of the error as the condition number of the scaled Gram matrix has roundings: here 1e-8.
        """
        import scipy.linalg

        A, b = self.A, self.b
        G = A.T @ A
        scale = np.sqrt(np.diag(G))
        factor = scipy.linalg.cho_factor(G / scale / scale[:, None])
        found = x.astype(np.longdouble)
        for _ in range(steps):
            g = np.zeros(A.shape[1], np.longdouble)
            for start in range(0, len(A), 5000):
                block = A[start : start + 5000].astype(np.longdouble)
                g += block.T @ (b[start : start + 5000] - block @ found)
            found += scipy.linalg.cho_solve(factor, (g / scale).astype(np.float64)) / scale
        return found.astype(np.float64)


@dataclass(frozen=True)
class Score:
    """Seconds of a fit, relative errors of the coefficients and the predictions, and the rank that was seen, if any.

    Coefficients are compared in units of their columns' lengths; predictions relative to the residual.
    """

    name: str
    seconds: float
    coefficients: float
    predictions: float
    rank: int | None = None


def run(progress: Progress, *, n: int = 1_000_000, sizes: Sequence[int] = (2, 5, 15, 40, 100)) -> Sequence[Block]:
    """Time all on n patients; sketches of `sizes` rows for each column are held against their bounds."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    progress(f"drawing {n:,} patients")
    patients = Patients.load(n)
    with threadpool_limits(1):  # where cores are busy, libraries that wait for one another's threads lose by them
        scores, found, exact = contest(patients, progress)
        progress("intervals, sketch by sketch")
        sketches = [_sketched(patients, rows) for rows in sizes]
    ours = scores[0]
    certificate = found[ONE_READ].certificate
    held = (certificate.intervals[:, 0] <= exact) & (exact <= certificate.intervals[:, 1])
    progress("drawing")
    return [
        Text(INTRODUCTION.format(n=n, d=patients.A.shape[1], size=patients.A.nbytes / 1e6)),
        Code(CODE.format(rows=SKETCH)),
        Text(_outcome(found, scores, held)),
        Pictures([_intervals(found[ONE_READ], exact, held), _bounds(sketches, sizes, exact), _scatter(scores)]),
        Text(COMPARISON),
        Table(_conditions(n), HEADS, [row(score, ours) for score in scores]),
        Text("\n\n".join(verdict(peer, ours) for peer in scores[2:])),
    ]


STOP = Stop("A regression on a million patients, with the error that one read of them leaves", run)


# the contest


def makers(patients: Patients) -> Mapping[str, Callable[[], Any]]:
    """By name, what solves the problem; ours come first."""
    A, b = patients.A, patients.b

    def linear_regression() -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression(fit_intercept=False).fit(A, b)

    def scipy_lstsq() -> Any:
        from scipy.linalg import lstsq

        return lstsq(A, b)

    def ridge() -> Any:
        from sklearn.linear_model import Ridge

        return Ridge(0.0, fit_intercept=False, solver="cholesky").fit(A, b)

    return {
        OURS: partial(_ours, A, b),
        ONE_READ: partial(_sketched, patients, SKETCH),
        "LinearRegression": linear_regression,
        "SciPy's lstsq": scipy_lstsq,
        "Ridge, normal equations": ridge,
    }


def _ours(A: Array, b: Array) -> Any:
    from numcore.algorithms.sketching import lstsq

    return lstsq(A, b, rng=0)


def _sketched(patients: Patients, rows: int) -> Any:
    """The sketched solution from `rows` rows for each column, with its certificate."""
    from numcore.algorithms.sketching import lstsq

    A, b = patients.A, patients.b
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="x may be wrong")  # by how much is what is shown
        return lstsq(A, b, method="sketch_solve", sketch_size=rows * A.shape[1], certificate="t", rng=1)


def contest(patients: Patients, progress: Progress) -> tuple[list[Score], dict[str, Any], Array]:
    """Time all in turn, and measure them against the exact solution, which comes last."""
    import scipy.linalg  # noqa: F401  (an import is no part of a fit)
    import sklearn.linear_model  # noqa: F401

    calls = makers(patients)
    progress("loading the compiled loops, or compiling them the first time")
    few = makers(Patients(patients.A[:WARM], patients.b[:WARM]))
    for name in (OURS, ONE_READ):
        few[name]()
    progress(f"timing {', '.join(calls)}, in turn")
    timed = race(calls)
    progress("the reference, in extended precision")
    found = {name: run.result for name, run in timed.items()}
    exact = patients.reference(found[OURS].x)
    residual = float(np.linalg.norm(patients.b - patients.A @ exact))
    lengths = np.linalg.norm(patients.A[:: max(1, len(patients.A) // 20_000)], axis=0)
    scores = []
    for name, result in found.items():
        away = _coefficients(result) - exact
        scores.append(
            Score(
                name,
                timed[name].seconds,
                float(np.linalg.norm(lengths * away) / np.linalg.norm(lengths * exact)),
                float(np.linalg.norm(patients.A @ away)) / residual,
                _rank(result),
            )
        )
    return scores, found, exact


def _coefficients(result: Any) -> Array:
    if isinstance(result, tuple):
        x: Array = result[0]
        return x
    return np.ravel(result.coef_) if hasattr(result, "coef_") else result.x


def _rank(result: Any) -> int | None:
    rank = result[2] if isinstance(result, tuple) else getattr(result, "rank", getattr(result, "rank_", None))
    return None if rank is None else int(rank)


def row(score: Score, ours: Score) -> list[str]:
    """A line of the table."""
    return [
        score.name,
        f"{score.seconds:.2g} s",
        "" if score is ours else f"{score.seconds / ours.seconds:.2g}×",
        f"{score.coefficients:.0e}",
        f"{score.predictions:.0e}",
        "" if score.rank is None else str(score.rank),
    ]


def verdict(peer: Score, ours: Score) -> str:
    """Who won, in time and in accuracy, in words."""
    ratio = peer.seconds / ours.seconds
    if 0.95 < ratio < 1.05:
        speed = "even"
    else:
        speed = f"numcore wins {ratio:.2g} to 1" if ratio > 1 else f"NUMCORE LOSES 1 to {1 / ratio:.2g}"
    factor = peer.coefficients / max(ours.coefficients, 1e-300)
    if 0.1 < factor < 10:
        accuracy = "even"
    elif factor > 1:
        accuracy = f"numcore is closer, with an error of {ours.coefficients:.0e} against {peer.coefficients:.0e}"
    else:
        accuracy = f"NUMCORE IS FARTHER OFF, with an error of {ours.coefficients:.0e} against {peer.coefficients:.0e}"
    return f"Against {peer.name}: in time {speed}; in the coefficients {accuracy}."


# words

INTRODUCTION = """\
Least squares with many rows and few columns: here {n:,} patients, drawn from scikit-learn's 442 with diabetes, each
measurement jittered by a tenth of its spread; {d} columns, which are ten measurements, their squares and products, and
a constant; as they come, not scaled. That is {size:,.0f} MB, and a condition number of some ten million.

A sketch adds rows with random signs until few are left. One read of the data gives a small problem whose solution
predicts nearly as well, and, since the randomness is our own, an interval for every coefficient. A few reads more, with
the small problem as preconditioner, give what QR would."""

CODE = """\
near = lstsq(A, b, method="sketch_solve", sketch_size={rows} * A.shape[1], certificate="t")
near.x, near.certificate.intervals      # 95 %, for what all the data would give
exact = lstsq(A, b)
exact.x, exact.cond, exact.backward_error"""

COMPARISON = """\
The others solve the same problem, the constant among its columns. LinearRegression and SciPy's lstsq take a singular
value decomposition; of scikit-learn 1.9 on, LinearRegression by default takes singular values below a millionth of the
largest for zero, and so tells fewer columns apart: its predictions hardly suffer, its coefficients are others. Ridge
with alpha = 0 solves the normal equations, which is quick, and loses twice the digits. Errors are distances from a
solution that was refined in extended precision."""


def _outcome(found: Mapping[str, Any], scores: Sequence[Score], held: Array) -> str:
    near, exact = found[ONE_READ], found[OURS]
    return (
        f"The sketch has {near.sketch_size:,} rows. It was read off the data and solved in {scores[1].seconds:.2g} s;"
        f" {np.count_nonzero(held)} of its {len(held)} intervals hold the exact coefficient. The exact solution took"
        f" {scores[0].seconds:.2g} s and {exact.n_passes} reads (method {exact.method!r}); its backward error is"
        f" {exact.backward_error:.0e}, the condition number of the matrix {exact.cond:.1e}."
    )


def _conditions(n: int) -> str:
    return (
        f"{n:,} rows. Times are medians of runs taken in turn, with the linear algebra of all held to one core;"
        " numcore's own loops may use more. Errors of coefficients are relative, in units of their columns' lengths,"
        " those of predictions relative to the residual."
    )


# pictures

COLOURS = {
    OURS: "#1668a8",
    ONE_READ: "#7a9cc0",
    "LinearRegression": "#c8641b",
    "SciPy's lstsq": "#8a8a2a",
    "Ridge, normal equations": "#7d4a8c",
}


def _intervals(near: Any, exact: Array, held: Array) -> Picture:
    """Centred on the exact coefficients, in standard errors."""
    certificate = near.certificate
    low, high = (certificate.intervals.T - exact) / certificate.stderr
    figure, axes = panel(xlabel="coefficient", ylabel="standard errors from the exact one")
    for which, colour in ((held, COLOURS[ONE_READ]), (~held, COLOURS["LinearRegression"])):
        axes.vlines(np.flatnonzero(which), low[which], high[which], color=colour, linewidth=1.5)
    axes.axhline(0, color="0.3", linewidth=0.8)
    caption = f"The intervals after one read; {np.count_nonzero(~held)} of {len(held)} miss the exact coefficient."
    return drawing(figure, caption, "Vertical bars of equal length about a horizontal line")


def _bounds(sketches: Sequence[Any], sizes: Sequence[int], exact: Array) -> Picture:
    """The largest error of a coefficient, in units of the bound's."""
    figure, axes = panel(xlabel="rows of the sketch for each column", ylabel="largest error of a coefficient")
    errors = [float(np.abs(near.x - exact).max()) for near in sketches]
    bounds = [near.certificate.linf for near in sketches]
    axes.loglog(sizes, bounds, "-v", color="0.5", markersize=4, label="bound of 95 %")
    axes.loglog(sizes, errors, "-o", color=COLOURS[ONE_READ], markersize=4, label="error")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    caption = "What is known of the error without knowing the solution, and the error, from one read each."
    return drawing(figure, caption, "Two falling lines; the bound lies above the error")


def _scatter(scores: Sequence[Score]) -> Picture:
    figure, axes = panel(xlabel="seconds", ylabel="error of the coefficients", xscale="log", yscale="log")
    for score in scores:
        axes.plot(score.seconds, max(score.coefficients, 1e-17), "o", color=COLOURS[score.name], label=score.name)
    axes.margins(0.15)
    axes.legend(frameon=False, fontsize=8)
    caption = "Time and error of all: the nearer to the lower left corner, the better."
    return drawing(figure, caption, "A point for each method; numcore's exact solution is low and to the left")
