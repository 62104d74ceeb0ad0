"""Least squares by sketching, as accurate as QR."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import lsqr as scipy_lsqr

from numcore.algorithms.sketching._direct import Compression, compressed, refined
from numcore.algorithms.sketching._iterative import conjugate_gradients, heavy_ball, iterative_sketching, rounds
from numcore.algorithms.sketching._machine import flops_per_byte, saved_by_passes
from numcore.algorithms.sketching._rows import Rows, is_dask
from numcore.algorithms.sketching._setup import Matrix, Point, Setup, point, prepare, scaled_block
from numcore.algorithms.sketching.certificates import Certificate, a_posteriori, bootstrap, student
from numcore.algorithms.sketching.operators import embedding_size
from numcore.arrays import array_namespace, as_choice, as_count, as_number, as_rng, is_numpy, to_numpy
from numcore.results import Callback, Loop, Result

__all__ = ["LstsqResult", "lstsq"]

METHODS = ("auto", "gram", "direct", "spir", "fossils", "iterative", "lsqr", "sketch_solve", "lapack")
KINDS = ("gaussian", "srht", "block_srht", "srtt", "countsketch", "sparse_sign", "uniform")
CERTIFICATES = (None, "t", "bootstrap", "aposteriori")
STEPS = {"gram": 5, "direct": 5}
"""Steps of refinement at most; other methods take `MANY`."""

MANY = 200

MANY_ROWS = 320
"""Rows a column, above which a larger sketch, and fewer passes, are cheaper than more passes."""

NOTICED = 0.02
"""Seconds that a method has to save if it is to be taken for its speed."""

WELL_CONDITIONED = 1e5
"""Up to here the Gram matrix of A itself will do."""

BENIGN = 100.0
"""Up to here a step with it leaves rounding errors."""

SMALL = 200_000
"""Entries up to which LAPACK is as fast."""


@dataclass(frozen=True, repr=False, eq=False)
class LstsqResult(Result):
    """A least-squares solution.

    Attributes
    ----------
    x : (d,) or (d, k) array
        float32 if `A` and `b` are, else float64.
    residual_norm : float or (k,) array
        ``|b - A x|``, rows weighted; for "sketch_solve" an estimate.
    rank : int
    cond : float
        Of A on the space of its rank (and the ridge): exact but for rounding with "direct", "gram" and "lapack", else
        that of the sketch.
    singular_values : (min(n, d),) array
        Of A, and of the sketch, likewise; those that were taken for zero are zero.
    backward_error : float
        Relative to the norm of A; the largest of the right-hand sides. NaN for "sketch_solve".
    converged : bool
    n_iter : int
    n_passes : int
        Reads of A.
    method : str
        The one that ran.
    sketch_kind : str or None
        None where A was small enough to be taken itself.
    sketch_size : int
        Rows of the sketch.
    history : tuple of dict
        For each iteration ``n_iter``, ``backward_error`` and ``residual_norm``.
    certificate : Certificate or None
    """

    x: np.ndarray[Any, Any]
    residual_norm: Any
    rank: int
    cond: float
    singular_values: np.ndarray[Any, Any]
    backward_error: float
    converged: bool
    n_iter: int
    n_passes: int
    method: str
    sketch_kind: str | None
    sketch_size: int
    history: tuple[dict[str, float], ...]
    certificate: Certificate | None


def lstsq(
    A: Any,
    b: Any = None,
    *,
    method: str = "auto",
    sketch: str = "auto",
    sketch_size: int | None = None,
    alpha: float = 0.0,
    sample_weight: Any = None,
    rcond: float | None = None,
    tol: float | None = None,
    max_iter: int | None = None,
    momentum: bool = True,
    certificate: str | None = None,
    confidence: float = 0.95,
    chunk_rows: int | None = None,
    deterministic: bool = False,
    callback: Callback | None = None,
    verbose: int = 0,
    rng: Any = None,
) -> LstsqResult:
    r"""Minimise :math:`\|A x - b\|^2 + \alpha \|x\|^2`, by sketching as accurately as by QR.

    A random sketch of A, made in one read, gives a preconditioner, and a first solution; what follows makes it backward
    stable. Of several solutions it is the one of least norm.

    Parameters
    ----------
    A : (n, d) array_like, sparse matrix, dask array, LinearOperator, or callable
        A callable returns an iterator of blocks ``(X, y)`` or ``(X, y, w)`` of rows, the same at every call. Arrays on
        disk are read by blocks; a dask array is worked on where its chunks are.
    b : (n,) or (n, k) array_like
        One right-hand side or several; None where A is a callable.
    method : str
        "direct": Cholesky-QR of the preconditioned matrix, and refinement, fast and stable for every matrix; "gram":
        the same with the Gram matrix of A, for well-conditioned ones; "spir" (conjugate gradients) and "fossils" (heavy
        ball), as stable, for sparse matrices and operators, or a large d; "iterative": iterative sketching, forward
        stable; "lsqr": SciPy's LSQR, preconditioned; "sketch_solve": the solution of the sketched problem alone, in one
        read; "lapack": a singular value decomposition of A. "auto" takes "lapack" for small matrices, "spir" for sparse
        ones and operators, and for others "gram" where the condition number allows it, else "direct", unless "fossils"
        or "spir" would save a fifth of the time by the measured speeds of products and of memory.
    sketch : str
        Its kind, as for :func:`make_sketch`; "auto" is "block_srht" for dense and "sparse_sign" for sparse matrices.
    sketch_size : int, optional
        Its rows; by default 4 d, or 12 d for "fossils" and "iterative". If A has no more rows, it is taken itself. For
        "sketch_solve" what :func:`embedding_size` says for ``eps=0.1`` and ``guarantee="linf"``, which are many (121
        thousand for d = 100): twenty or fifty d are much faster, with wider intervals, and a precise method mostly is.
    alpha : float
        Of the ridge.
    sample_weight : (n,) array_like, optional
        Weights of the rows' squares, not negative.
    rcond : float, optional
        Singular values below `rcond` times the largest are taken for zero; by default 64 eps of the dtype of `A`. They
        are those of A with columns scaled to one length, or, if some of these are zero, of A as it is.
    tol : float, optional
        The backward error to be reached; by default eps of the dtype, of which "spir" and "fossils" then aim at a
        tenth in float64, which is where QR ends.
    max_iter : int, optional
        Iterations at most; by default 5 for "direct" and "gram", else 200.
    momentum : bool
        For "iterative".
    certificate : {None, "t", "bootstrap", "aposteriori"}
        Bounds on the error: "t" (intervals, exact for Gaussian sketches) and "bootstrap" for "sketch_solve";
        "aposteriori" for any method, at the price of a pass.
    confidence : float
        Of the certificate.
    chunk_rows : int, optional
        Rows read at a time, at most.
    deterministic : bool
        Whether the choice of "auto" must not depend on measured speeds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with ``x``, ``n_iter``, ``backward_error`` and ``residual_norm``;
        returning True stops.
    verbose : int
        1 shows progress.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes.

    Returns
    -------
    LstsqResult

    Raises
    ------
    ValueError, TypeError
        If shapes or options do not fit, or entries are not finite; if the method cannot work with such a matrix.
    numpy.linalg.LinAlgError
        If the sketch failed twice to precondition A.

    Warns
    -----
    ConvergenceWarning
        If the backward error is above ten times `tol` in the end.
    UserWarning
        If "countsketch" has too few rows to be relied upon; if the certificate of "sketch_solve" says that x has no
        correct digit.

    References
    ----------
    .. [1] E. N. Epperly, M. Meier and Y. Nakatsukasa, "Fast Randomized Least-Squares Solvers Can Be Just as Accurate
       and Stable as Classical Direct Solvers", 2024.
    .. [2] H. Avron, P. Maymounkov and S. Toledo, "Blendenpik: Supercharging LAPACK's Least-Squares Solver", SISC 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import lstsq
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((5000, 50)) * np.logspace(0, -10, 50)
    >>> b = A @ np.ones(50)
    >>> result = lstsq(A, b, rng=0)
    >>> result.method, result.rank, result.converged, result.backward_error < 1e-15
    ('gram', 50, True, True)
    >>> bool(np.allclose(result.x, 1))
    True
    """
    as_choice(method, "method", METHODS)
    as_choice(sketch, "sketch", ("auto", *KINDS))
    as_choice(certificate, "certificate", CERTIFICATES)
    options = _Options(
        method=method,
        sketch=sketch,
        size=None if sketch_size is None else as_count(sketch_size, "sketch_size"),
        alpha=as_number(alpha, "alpha", above=0, closed=True),
        rcond=None if rcond is None else as_number(rcond, "rcond", above=0, below=1, closed=True),
        momentum=as_choice(momentum, "momentum", (True, False)),
        confidence=as_number(confidence, "confidence", above=0, below=1),
        deterministic=as_choice(deterministic, "deterministic", (True, False)),
        rng=as_rng(rng),
    )
    home = array_namespace(A) if array_api_compat.is_array_api_obj(A) and not is_numpy(A) and not is_dask(A) else None
    if home is not None:
        place = array_api_compat.device(A)
        if method == "lsqr":  # SciPy's
            A, b = to_numpy(A), to_numpy(b)
    rows = Rows(A, b, sample_weight, chunk_rows=chunk_rows)
    if not rows.k:
        raise ValueError("b must be given; got None")
    _check(rows, options, certificate)
    tol = float(np.finfo(rows.dtype).eps) if tol is None else as_number(tol, "tol", above=0, closed=True)
    solver = _Solver(rows, options, tol, max_iter, callback, verbose)
    result = solver.solve(certificate)
    return result if home is None else replace(result, x=home.asarray(result.x, device=place))


@dataclass(frozen=True)
class _Options:
    method: str
    sketch: str
    size: int | None
    alpha: float
    rcond: float | None
    momentum: bool
    confidence: float
    deterministic: bool
    rng: np.random.Generator


def _check(rows: Rows, options: _Options, certificate: str | None) -> None:
    method, d = options.method, rows.d
    if rows.matrix_free and method in ("gram", "direct", "lapack"):
        raise TypeError(f"method {method!r} needs the entries of A; for a LinearOperator take spir, fossils or lsqr")
    if method == "lsqr" and (rows.lazy or rows.stream):
        raise TypeError("method 'lsqr' needs vectors as long as A on this machine; take spir or fossils")
    if method == "lapack" and rows.n is None:
        raise TypeError("method 'lapack' needs all of A at once; take direct for a stream of blocks")
    if options.size is not None and options.size < d and method != "lapack":
        raise ValueError(f"sketch_size must be at least {d}, the number of columns of A; got {options.size}")
    if certificate in ("t", "bootstrap") and method != "sketch_solve":
        raise ValueError(f"certificate {certificate!r} is for method 'sketch_solve'; got method {method!r}")
    if certificate == "t" and options.sketch == "uniform":
        raise ValueError("certificate 't' does not hold for sketch 'uniform', which may miss rows; take 'bootstrap'")
    if certificate in ("t", "bootstrap") and options.alpha > 0:
        raise ValueError(f"certificate {certificate!r} is for alpha = 0; got {options.alpha:g}")


class _Solver:
    """One problem, and the methods for it."""

    def __init__(
        self, rows: Rows, options: _Options, tol: float, max_iter: int | None, callback: Any, verbose: int
    ) -> None:
        self.rows, self.options, self.tol, self.passes = rows, options, tol, 0
        self.limit = None if max_iter is None else as_count(max_iter, "max_iter")
        self.callback, self.verbose = callback, verbose
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable or None; got {callback!r}")
        self.loop: Loop | None = None
        self.held: Compression | None = None

    def solve(self, certificate: str | None) -> LstsqResult:
        """Choose, prepare, solve and report."""
        method, setup = self.choose()
        at: Point | None
        if method == "sketch_solve":
            at, x = None, setup.x0
        else:
            method, setup, at = getattr(self, f"_{method}", self._in_rounds)(method, setup)
            if self.options.method == "auto" and method in ("fossils", "spir") and self._failed(at):
                method, setup, at = self._direct("direct", setup)
            x = at.x
        found = self._certificate(certificate, setup, at, x)
        return self._result(method, setup, at, x, found)

    # what to do

    def choose(self) -> tuple[str, Setup]:
        """The method, and the set-up for it."""
        rows, method = self.rows, self.options.method
        d = rows.d
        if method == "auto":
            if rows.matrix_free or rows.sparse:
                method = "spir"
            elif rows.n is not None and not rows.lazy and (rows.n < 4 * d or rows.n * d < SMALL):
                method = "lapack"
        if method != "auto":
            return method, self.prepare(method)
        # where rows are many, a larger sketch costs little even if the matrix turns out to be benign
        many = self._passes_pay(2.0)
        larger = many and rows.n is not None and rows.n > MANY_ROWS * d
        setup = self.prepare("fossils" if larger else "direct")
        if setup.rank == d and setup.cond <= WELL_CONDITIONED:
            return ("fossils" if larger and self._passes_pay(1.0) else "gram"), setup
        if larger:
            return "fossils", setup
        # more passes with the sketch at hand take less than another sketch and its triangle
        if d > 512 and not rows.distant and 3 * d / flops_per_byte(deterministic=self.options.deterministic) > 240:
            return "fossils", setup
        if many and setup.cond <= 1e12:
            return "spir", setup
        return "direct", setup

    def _passes_pay(self, products: float) -> bool:
        """Whether passes save enough against products of so many ``n d^2`` operations.

        They are to save a fifth, and more than anyone would notice: products leave the exact singular values of A.
        """
        rows = self.rows
        if rows.n is None or rows.distant or rows.n < 24 * rows.d or self.options.size is not None:
            return False
        slow, fast = saved_by_passes(
            rows.n,
            rows.d,
            rows.k,
            itemsize=rows.dtype_A.itemsize,
            products=products,
            deterministic=self.options.deterministic,
        )
        return slow > max(1.25 * fast, fast + NOTICED)

    def prepare(self, method: str, *, factor: int = 1, kind: str | None = None) -> Setup:
        """The set-up for a method, perhaps with a larger sketch."""
        rows, options = self.rows, self.options
        d = rows.d
        if method == "lapack":
            assert rows.n is not None
            size = rows.n
        elif options.size is not None:
            size = options.size * factor
        elif method == "sketch_solve":
            size = embedding_size(rows.n or 1, d, eps=0.1, delta=0.05, guarantee="linf")
        else:
            size = max((12 if method in ("fossils", "iterative") else 4) * d, d + 16) * factor
        if kind is None:
            kind = options.sketch
            if kind == "auto":
                kind = "sparse_sign" if rows.sparse or rows.matrix_free else "block_srht"
        size += -size % 8  # sparse signs round down to whole blocks
        if kind == "countsketch" and size < 2 * d * d and not (rows.n is not None and rows.n <= size):
            warnings.warn(
                f"a countsketch of {size} rows may lose a direction of {d} columns; it needs {2 * d * d}, "
                "or another kind of sketch",
                UserWarning,
                stacklevel=5,
            )
        self.passes += 1
        return prepare(
            rows,
            m=size,
            kind=kind,
            alpha=options.alpha,
            rcond=options.rcond,
            basis=method == "sketch_solve",
            rng=options.rng,
        )

    def _failed(self, at: Point) -> bool:
        """Whether an iteration has got stuck where products would not."""
        readable = not self.rows.sparse and not self.rows.matrix_free
        stopped = self.limit is not None or self.loop is None or self.loop.stopped
        return readable and not stopped and at.error > 10 * self.tol

    # how

    def _start(self, method: str) -> Loop:
        self.loop = Loop(
            method,
            tol=self.tol,
            max_iter=self.limit or STEPS.get(method, MANY),
            callback=self.callback,
            verbose=self.verbose,
            residual="backward_error",
        )
        return self.loop

    def _state(self, setup: Setup) -> Callable[[Matrix], dict[str, Any]]:
        return lambda x: {"x": self._shaped(setup.solution(x))}

    def _lapack(self, method: str, setup: Setup) -> tuple[str, Setup, Point]:
        self.passes += 1
        return method, setup, point(self.rows, setup, setup.x0)

    def _direct(self, method: str, setup: Setup) -> tuple[str, Setup, Point]:
        plain = method == "gram" and setup.rank == self.rows.d
        for factor in (1, 2):
            # products with b are worth a step of refinement, and that of a benign Gram matrix reaches rounding at once
            self.held = compressed(self.rows, setup, plain=plain, target=not plain or setup.cond > BENIGN)
            self.passes += 1
            if self.held is not None:
                break
            plain = False
            setup = self.prepare("direct", factor=factor)
        else:
            raise np.linalg.LinAlgError(
                f"a sketch of {setup.m} rows ({setup.kind}) does not precondition A; take a larger one, or another kind"
            )
        method = "gram" if self.held.plain else "direct"
        loop = self._start(method)
        at = refined(self.rows, self.held, loop, self._state(setup))
        self.passes += 1 + loop.n_iter
        return method, setup, at

    _gram = _direct

    def _in_rounds(self, method: str, setup: Setup) -> tuple[str, Setup, Point]:
        loop = self._start(method)
        at, passes = self._run(method, setup, loop)
        self.passes += passes
        if not loop.converged and loop.running and at.error > 10 * self.tol and setup.kind is not None:
            # the sketch may have been an unlucky one
            other = self.prepare(
                method, factor=2, kind=None if self.rows.sparse or self.rows.matrix_free else "block_srht"
            )
            again, passes = self._run(method, other, loop)
            self.passes += passes
            if again.error < at.error:
                at, setup = again, other
        return method, setup, at

    _spir = _fossils = _iterative = _in_rounds

    def _run(self, method: str, setup: Setup, loop: Loop) -> tuple[Point, int]:
        if method == "iterative":
            return iterative_sketching(self.rows, setup, loop, self._state(setup), momentum=self.options.momentum)
        ratio = 0.0 if setup.kind is None else setup.rank / setup.m
        inner = conjugate_gradients if method == "spir" else heavy_ball(ratio)
        return rounds(self.rows, setup, inner, loop, self._state(setup))

    def _lsqr(self, method: str, setup: Setup) -> tuple[str, Setup, Point]:
        rows, f = self.rows, setup.factors
        loop = self._start(method)
        blocks = [scaled_block(block, setup) for block in rows.blocks()]
        tall = sum(X.shape[0] for X, _ in blocks)
        root = f.alpha**0.5 * f.P

        def forward(y: Matrix) -> Matrix:
            z = f.P @ y.reshape(-1)
            return np.concatenate([*(X @ z for X, _ in blocks), root @ y.reshape(-1)])

        def backward(u: Matrix) -> Matrix:
            u, g, start = u.reshape(-1), np.zeros(rows.d), 0
            for X, _ in blocks:
                g += X.T @ u[start : start + X.shape[0]]
                start += X.shape[0]
            return f.P.T @ g + root.T @ u[tall:]

        product = LinearOperator((tall + rows.d, setup.rank), matvec=forward, rmatvec=backward, dtype=np.float64)
        x, count = setup.x0.copy(), 0
        for j in range(rows.k) if setup.rank else ():
            r = np.concatenate([*(y[:, j] - X @ x[:, j] for X, y in blocks), -(f.alpha**0.5) * x[:, j]])
            y, _, steps = scipy_lsqr(product, r, atol=self.tol, btol=self.tol, conlim=0, iter_lim=loop.max_iter)[:3]
            x[:, j] += f.P @ y
            count = max(count, int(steps))
        at = point(rows, setup, x)
        self.passes += 2 * count + 2
        for _ in loop.stage():
            # LSQR is forward stable: what rounding lets it reach
            loop.report(at.error, done=count < loop.max_iter, residual_norm=setup.residual_norm(at))
            break
        loop.n_iter, loop.converged = count, count < loop.max_iter
        return method, setup, at

    # what came of it

    def _certificate(self, kind: str | None, setup: Setup, at: Point | None, x: Matrix) -> Certificate | None:
        confidence = self.options.confidence
        if kind is None:
            return None
        if kind == "aposteriori":
            if at is None:
                self.passes += 1
                at = point(self.rows, setup, x)
            held = self.held
            P = setup.factors.P if held is None else held.P
            found = a_posteriori(setup, at, None if held is None else held.L, P, confidence)
        elif kind == "t":
            if setup.kind == "countsketch":
                warnings.warn("the intervals of a countsketch cover less than they say", UserWarning, stacklevel=4)
            found = student(setup, setup.solution(x), confidence, single=self.rows.single)
        else:
            found = bootstrap(setup, confidence, self.options.rng)
        if self.options.method == "sketch_solve" and found.linf > np.abs(setup.solution(x)).max():
            warnings.warn(
                f"x may be wrong by {found.linf:.3g} in a coordinate, and none of it is larger: it carries no "
                "information; take a larger sketch or a precise method",
                UserWarning,
                stacklevel=4,
            )
        return found

    def _result(
        self, method: str, setup: Setup, at: Point | None, x: Matrix, certificate: Certificate | None
    ) -> LstsqResult:
        rows, loop = self.rows, self.loop
        values = self._singular_values(setup)
        if at is None:
            # the sketched residual is the shorter for having been minimised
            freedom = 1.0 if setup.kind is None else max(setup.m - setup.rank, 1) / setup.m
            residual = setup.Sb - setup.factors.U[: setup.m] @ (setup.factors.U[: setup.m].T @ setup.Sb)
            norms = np.sqrt(np.sum(residual**2, axis=0) / freedom) * setup.scale_b
        else:
            norms = np.sqrt(np.maximum(at.squares - setup.factors.alpha * np.sum(at.x**2, axis=0), 0)) * setup.scale_b
        error = float("nan") if at is None else at.error
        converged = True if loop is None else loop.converged or (not loop.stopped and error <= 10 * self.tol)
        if loop is not None:
            loop.converged = converged
            loop.error = error
            loop.finish("Try method='direct', or a larger sketch_size.", stacklevel=5)
        return LstsqResult(
            x=self._shaped(setup.solution(x)),
            residual_norm=float(norms[0]) if rows.single else norms,
            rank=setup.rank,
            cond=ratio(values[0], values[setup.rank - 1]) if setup.rank else 1.0,
            singular_values=values,
            backward_error=error,
            converged=converged,
            n_iter=0 if loop is None else loop.n_iter,
            n_passes=self.passes,
            method=method,
            sketch_kind=setup.kind,
            sketch_size=setup.m,
            history=() if loop is None else tuple(_records(loop)),
            certificate=certificate,
        )

    def _singular_values(self, setup: Setup) -> np.ndarray[Any, Any]:
        f = setup.factors
        if self.held is not None:
            T = self.held.triangle()
        else:
            T = f.sigma[:, None] * f.V.T * f.D * (1.0 if setup.scale is None else setup.scale)
        found = np.linalg.svd(T, compute_uv=False) if setup.rank else np.zeros(0)
        length = min(self.rows.d, self.rows.n or self.rows.d)
        return np.concatenate([found, np.zeros(max(length - len(found), 0))])

    def _shaped(self, x: Matrix) -> np.ndarray[Any, Any]:
        x = x.astype(self.rows.dtype, copy=False)
        return x[:, 0] if self.rows.single else x


def ratio(most: Any, least: Any) -> float:
    """A condition number; infinite where the least singular value is lost beside the greatest."""
    return float(most / least) if least else float("inf")


def _records(loop: Loop) -> Iterator[dict[str, float]]:
    columns = {key: column.tolist() for key, column in loop.history.items()}
    for k in range(len(columns.get("backward_error", ()))):
        yield {"n_iter": k + 1, **{key: column[k] for key, column in columns.items()}}
