"""Sketching beside SciPy, and in units of one Gram product: the rows for peers.py."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scipy", "scikit-learn")

Makers = Mapping[str, Callable[[], Run]]


def dense(kind: str, n: int, d: int, m: int) -> Makers:
    A = np.random.default_rng(0).standard_normal((n, d))

    def ours() -> Run:
        from numcore.algorithms.sketching import make_sketch

        S = make_sketch(kind, m, n, rng=0)
        return Run(lambda _: S @ A)

    def scipy() -> Run:
        from scipy.linalg import clarkson_woodruff_transform

        return Run(lambda _: clarkson_woodruff_transform(A, m, rng=0))

    def gram() -> Run:
        return Run(lambda _: A.T @ A)

    return {"ours": ours, "SciPy CW": scipy, "A.T @ A": gram}


def compressed(n: int, d: int, m: int, density: float) -> Makers:
    from scipy.sparse import random_array

    A = random_array((n, d), density=density, format="csr", rng=np.random.default_rng(0))

    def ours() -> Run:
        from numcore.algorithms.sketching import make_sketch

        S = make_sketch("countsketch", m, n, rng=0)
        return Run(lambda _: S @ A)

    def scipy(X: Any) -> Run:
        from scipy.linalg import clarkson_woodruff_transform

        return Run(lambda _: clarkson_woodruff_transform(X, m, rng=0))

    # SciPy recommends csc
    return {"ours": ours, "SciPy CW of csr": lambda: scipy(A), "SciPy CW of csc": lambda: scipy(A.tocsc())}


def projection(n: int, d: int, m: int) -> Makers:
    A = np.random.default_rng(0).standard_normal((n, d))

    def ours() -> Run:
        from numcore.algorithms.sketching import make_sketch

        S = make_sketch("sparse_sign", m, n, rng=0)
        return Run(lambda _: S @ A)

    def scikit_learn() -> Run:
        from sklearn.random_projection import SparseRandomProjection

        # rows are what it projects; eight nonzeros a column of S, as we have
        fitted = SparseRandomProjection(m, density=8 / m, dense_output=True, random_state=0).fit(A.T)
        return Run(lambda _: fitted.components_ @ A)

    return {"ours": ours, "scikit-learn": scikit_learn}


class Problem:
    """A of known singular vectors and values, and b with a known solution and a residual of `rest` times its length.

    What measures a solution: `backward`, the error of Karlson and Walden relative to the norm of A (some 1e-16 is
    as good as can be), and `forward`, the relative distance from the solution (the condition number times 1e-16).
    """

    def __init__(self, n: int, d: int, cond: float, rest: float) -> None:
        rng = np.random.default_rng(0)
        left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
        G = rng.standard_normal((n, d))
        M = left * np.logspace(0, -np.log10(cond), d) @ right
        self.A = G @ M
        self.x = rng.standard_normal(d)
        b = self.A @ self.x
        r = rng.standard_normal(n)
        gram = G.T @ G
        for _ in range(2):
            r -= G @ np.linalg.solve(gram, G.T @ r)
        self.b = b + r * (rest * np.linalg.norm(b) / np.linalg.norm(r))
        # G is well conditioned, so that its Cholesky factor is that of a QR
        _, self.s, self.Vt = np.linalg.svd(np.linalg.cholesky(gram).T @ M)

    def backward(self, x: Any) -> float:
        x = np.ravel(x)
        r = self.b - self.A @ x
        damp = (r @ r) / (x @ x)
        weighted = self.Vt @ (self.A.T @ r) / np.sqrt(self.s**2 + damp)
        return float(np.linalg.norm(weighted) / (np.linalg.norm(x) * np.linalg.norm(self.s)))

    def forward(self, x: Any) -> float:
        return float(np.linalg.norm(np.ravel(x) - self.x) / np.linalg.norm(self.x))


def least_squares(n: int, d: int, cond: float, rest: float = 0.1, forward: bool = False) -> Makers:
    problem = Problem(n, d, cond, rest)
    A, b = problem.A, problem.b
    error = problem.forward if forward else problem.backward

    def ours(method: str = "auto") -> Run:
        from numcore.algorithms.sketching import lstsq

        return Run(lambda _: lstsq(A, b, method=method, rng=0).x, error=error)

    def scipy(driver: str) -> Run:
        from scipy.linalg import lstsq

        return Run(lambda _: lstsq(A, b, check_finite=False, lapack_driver=driver)[0], error=error)

    def linear_regression() -> Run:
        from sklearn.linear_model import LinearRegression

        # by default it drops singular values below 1e-6
        model = LinearRegression(fit_intercept=False, tol=1e-15)
        return Run(lambda _: model.fit(A, b).coef_, error=error)

    def ridge() -> Run:
        from sklearn.linear_model import Ridge

        model = Ridge(0.0, fit_intercept=False, solver="cholesky", copy_X=False)
        return Run(lambda _: model.fit(A, b).coef_, error=error)

    return {
        "ours": ours,
        "SciPy gelsd": partial(scipy, "gelsd"),
        "SciPy gelsy": partial(scipy, "gelsy"),
        "scikit-learn LinearRegression": linear_regression,
        "scikit-learn Ridge": ridge,
        "(ours, direct)": partial(ours, "direct"),
        "(ours, fossils)": partial(ours, "fossils"),
    }


def one_read(n: int, d: int, m: int) -> Makers:
    problem = Problem(n, d, 10, 0.1)
    A, b = problem.A, problem.b

    def ours() -> Run:
        from numcore.algorithms.sketching import lstsq

        return Run(
            lambda _: lstsq(A, b, method="sketch_solve", sketch_size=m, certificate="t", rng=0).x, error=problem.forward
        )

    def scipy() -> Run:
        from scipy.linalg import clarkson_woodruff_transform, lstsq

        def call(_: Any) -> Any:
            # one seed sketches both alike
            SA, Sb = (clarkson_woodruff_transform(X, m, rng=0) for X in (A, b[:, None]))
            return lstsq(SA, Sb)[0]

        return Run(call, error=problem.forward)

    return {"ours": ours, "SciPy CW, then gelsd": scipy}


def streamed(n: int, d: int, parts: int) -> Makers:
    """Rows that come in so many parts, beside all of them at once."""
    problem = Problem(n, d, 10, 0.1)
    A, b = problem.A, problem.b
    blocks = [(A[s], b[s]) for s in np.array_split(np.arange(n), parts)]

    def ours() -> Run:
        from numcore.algorithms.sketching import SketchedRegression

        def call(_: Any) -> Any:
            model = SketchedRegression(fit_intercept=False)
            for X, y in blocks:
                model.partial_fit(X, y)
            return model.coef_

        return Run(call, error=problem.forward)

    def one_fit() -> Run:
        from numcore.algorithms.sketching import SketchedRegression

        return Run(lambda _: SketchedRegression(fit_intercept=False).fit(A, b).coef_, error=problem.forward)

    def by_callable() -> Run:
        from numcore.algorithms.sketching import lstsq

        return Run(lambda _: lstsq(lambda: iter(blocks), rng=0).x, error=problem.forward)

    return {"ours": ours, "one fit": one_fit, "lstsq of a callable": by_callable}


def small(n: int, d: int) -> Makers:
    problem = Problem(n, d, 10, 0.1)
    A, b = problem.A, problem.b

    def ours() -> Run:
        from numcore.algorithms.sketching import lstsq

        return Run(lambda _: [lstsq(A, b, rng=0).x for _ in range(100)][-1], error=problem.forward)

    def scipy() -> Run:
        from scipy.linalg import lstsq

        return Run(lambda _: [lstsq(A, b)[0] for _ in range(100)][-1], error=problem.forward)

    return {"ours": ours, "SciPy gelsd": scipy}


def on_disk(n: int, d: int) -> Makers:
    """A file of n d float64 entries, made here, and removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="numcore-")
    atexit.register(folder.cleanup)
    free, wanted = shutil.disk_usage(folder.name).free, 8 * n * d
    if free < 2 * wanted:
        raise OSError(f"a file of {wanted / 1e9:.0f} GB needs a disk with twice that free; got {free / 1e9:.0f} GB")
    path, rng = Path(folder.name) / "A.npy", np.random.default_rng(0)
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(n, d))
    x, b = rng.standard_normal(d), np.empty(n)
    columns = np.logspace(0, -4, d)
    for start in range(0, n, 50_000):
        block = rng.standard_normal((min(50_000, n - start), d)) * columns
        stored[start : start + len(block)] = block
        b[start : start + len(block)] = block @ x + 0.1 * rng.standard_normal(len(block))
    stored.flush()
    del stored
    A = np.load(path, mmap_mode="r")
    found: list[Any] = []

    def error(x: Any) -> float:
        """The relative distance from what `direct` finds: for all the same."""
        from numcore.algorithms.sketching import lstsq

        if not found:
            found.append(lstsq(A, b, method="direct", rng=1).x)
        return float(np.linalg.norm(columns * (x - found[0])) / np.linalg.norm(columns * found[0]))

    def ours() -> Run:
        from numcore.algorithms.sketching import lstsq

        return Run(lambda _: lstsq(A, b, rng=0).x, error=error)

    def by_blocks() -> Run:
        def call(_: Any) -> Any:
            G, h = np.zeros((d, d)), np.zeros(d)
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
                for start in range(0, n, 40_000):
                    block = np.fromfile(file, count=d * min(40_000, n - start)).reshape(-1, d)
                    G += block.T @ block
                    h += block.T @ b[start : start + len(block)]
            return np.linalg.solve(G, h)

        return Run(call, error=error)

    return {"ours": ours, "normal equations, block by block": by_blocks}


WANTED = {"SciPy CW": 1.3}
SOLVERS = {"SciPy gelsd": 6, "scikit-learn LinearRegression": 8, "scikit-learn Ridge": 1 / 1.2}
WIDE = {"SciPy gelsd": 4, "scikit-learn LinearRegression": 4}
GRAM = {"A.T @ A": 1 / 0.35}

ROWS = (
    Row(
        "count-200k", "CountSketch 400, 2e5 x 100", partial(dense, "countsketch", 200_000, 100, 400), WANTED, quick=True
    ),
    Row("count-40k", "CountSketch 2000, 4e4 x 500", partial(dense, "countsketch", 40_000, 500, 2000), WANTED),
    Row(
        "count-csr-1", "CountSketch 400, csr 2e5 x 100, 1 %", partial(compressed, 200_000, 100, 400, 0.01), {"SciPy": 1}
    ),
    Row(
        "count-csr-10",
        "CountSketch 400, csr 2e5 x 100, 10 %",
        partial(compressed, 200_000, 100, 400, 0.1),
        {"SciPy": 1},
    ),
    Row(
        "count-csr-500",
        "CountSketch 2000, csr 4e4 x 500, 1 %",
        partial(compressed, 40_000, 500, 2000, 0.01),
        {"SciPy": 1},
    ),
    Row("block-200k", "block-SRHT 400, 2e5 x 100", partial(dense, "block_srht", 200_000, 100, 400), GRAM, quick=True),
    Row("block-40k", "block-SRHT 2000, 4e4 x 500", partial(dense, "block_srht", 40_000, 500, 2000)),
    Row("sparse-200k", "sparse signs 400, 2e5 x 100", partial(dense, "sparse_sign", 200_000, 100, 400)),
    Row(
        "lstsq-200k-10",
        "least squares, 2e5 x 100, cond 10",
        partial(least_squares, 200_000, 100, 10),
        SOLVERS,
        memory=True,
        quick=True,
    ),
    *(
        Row(
            f"lstsq-1m-{name}",
            f"least squares, 1e6 x 100, cond {name}",
            partial(least_squares, 1_000_000, 100, cond),
            SOLVERS,
            memory=True,
        )
        for name, cond in (("10", 10), ("1e8", 1e8), ("1e14", 1e14))
    ),
    *(
        Row(
            f"lstsq-500-{name}",
            f"least squares, 2e5 x 500, cond {name}",
            partial(least_squares, 200_000, 500, cond),
            WIDE,
            memory=True,
        )
        for name, cond in (("10", 10), ("1e8", 1e8))
    ),
    *(
        Row(
            f"forward-{name}",
            f"forward error, 2e5 x 100, cond {name}",
            partial(least_squares, 200_000, 100, cond, rest, forward=True),
        )
        # the larger the residual, the less can be known of the solution of an ill-conditioned problem
        for name, cond, rest in (("10", 10, 0.1), ("1e8", 1e8, 1e-3), ("1e12", 1e12, 1e-12))
    ),
    Row("stream-200k", "100 batches, 2e5 x 100", partial(streamed, 200_000, 100, 100), {"one fit": 1 / 1.5}),
    Row("small-500", "a hundred problems of 500 x 10", partial(small, 500, 10)),
    Row("near-1m", "one read to 4000 rows, 1e6 x 100", partial(one_read, 1_000_000, 100, 4000)),
    Row("file-4g", "least squares, file of 5e6 x 100, 4 GB", partial(on_disk, 5_000_000, 100), memory=True, asked=True),
    Row("projection-200k", "8 signs a column, 2e5 x 100 to 400", partial(projection, 200_000, 100, 400)),
)
