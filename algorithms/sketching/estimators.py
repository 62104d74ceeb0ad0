"""Linear and ridge regression by sketching, for scikit-learn: batch by batch, and merged from parts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.linalg
import scipy.stats
from scipy.sparse.linalg import LinearOperator
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context, clone
from sklearn.model_selection import check_cv
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from numcore.algorithms._estimators import FLOATS, restored_on_failure
from numcore.algorithms.sketching._factor import (
    BENIGN,
    KINDS,
    Factor,
    Parts,
    WithOnes,
    factor_of,
    factor_of_rows,
    refined_solution,
    triangle_of,
)
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._rows import Block, Rows, Work, is_dask, is_sparse
from numcore.algorithms.sketching._setup import Matrix, Setup, _sketch
from numcore.algorithms.sketching.constrained import boxed
from numcore.algorithms.sketching.lstsq import METHODS, WELL_CONDITIONED, _Options, _Solver, ratio
from numcore.algorithms.sketching.operators import embedding_size, make_sketch
from numcore.algorithms.sketching.ridge import checked_alphas, path_of, ridge_path
from numcore.arrays import as_rng
from numcore.results import Loop

__all__ = ["SketchedRegression", "SketchedRidge"]

STEPS = 5
"""Refinements at most, by default."""

GRAM_UP_TO = {"gram": WELL_CONDITIONED, "auto": BENIGN}
"""Condition numbers up to which a method takes the Gram matrix."""

SPARSE = 64
"""Columns up to which a sparse matrix is compressed; beyond, sparse products are cheaper."""

TOGETHER = 1 << 17
"""Entries of batches that are taken in together."""


@dataclass(frozen=True)
class _Solved:
    """What is learned, in the shapes that scikit-learn gives it."""

    coef: np.ndarray[Any, Any]
    intercept: Any
    rank: int
    cond: float
    backward_error: float
    residual_norm: Any
    n_iter: int
    n_passes: int
    method: str
    interval: np.ndarray[Any, Any] | None
    alpha: float


def _learned(name: str, doc: str) -> Any:
    def get(self: Any) -> Any:
        if not hasattr(self, "n_features_in_"):
            raise AttributeError(f"{type(self).__name__} has no {name}_ before it is fitted")
        return getattr(self._solved(), name)

    return property(get, doc=doc)


class _Sketched(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Least squares over rows that come at once or in batches.

    After :meth:`fit` and in a stream "qr" it holds the triangular factor of ``[1 X y]``, to which rows and the factors
    of others are added by QR; in a stream "sketch", a sketch of it.
    """

    alpha: float = 0.0
    positive: bool = False
    rcond: float | None = None
    alphas: Any = None
    cv: Any = None
    # of the other parameters, and of what is learned
    fit_intercept: bool
    method: str
    sketch: str
    sketch_size: int | None
    tol: float | None
    max_iter: int | None
    stream: str
    confidence: float | None
    random_state: Any
    verbose: int
    n_features_in_: int
    n_samples_seen_: int
    _dtype: np.dtype[Any]
    _single: bool
    _targets: int
    _factor: Factor | None
    _pending: list[Matrix] | None
    _sketch: _Sketch | None
    _cache: _Solved | None

    coef_ = _learned("coef", "Coefficients, (d,) or (k, d).")
    intercept_ = _learned("intercept", "The intercept, a number or (k,).")
    rank_ = _learned("rank", "The rank of X, of centred columns where there is an intercept.")
    cond_ = _learned("cond", "Its condition number.")
    backward_error_ = _learned("backward_error", "Relative to the norm of X.")
    residual_norm_ = _learned("residual_norm", "Norm of the (weighted) residual, for each target.")
    n_iter_ = _learned("n_iter", "Iterations or refinements; at least 1.")
    n_passes_ = _learned("n_passes", "Reads of the data.")
    method_ = _learned("method", "The method that ran.")

    @property
    def coef_interval_(self) -> np.ndarray[Any, Any]:
        """Where the exact coefficients for all the data lie, (d, 2) or (k, d, 2)."""
        interval = self._solved().interval if hasattr(self, "n_features_in_") else None
        if interval is None:
            raise AttributeError("coef_interval_ is there after a fit with confidence given")
        return interval

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # fit

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to all the data; what was learned before is forgotten.

        Parameters
        ----------
        X : (n, d) array_like, csr or csc matrix, or dask array
        y : (n,) or (n, k) array_like
        sample_weight : (n,) array_like, optional

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            X, y, weight = self._checked(X, y, sample_weight, reset=True, scan=False)
            try:
                self._fit_rows(Rows(X, y, weight))
            except ValueError:
                if not is_dask(X):  # in the words of scikit-learn
                    assert_all_finite(X, estimator_name=type(self).__name__, input_name="X")
                raise
            self.n_samples_seen_ = int(X.shape[0])
        return self

    def _fit_rows(self, rows: Rows) -> None:
        method = self._method(rows)
        if method in ("spir", "fossils", "iterative", "lsqr"):
            self._cache = self._by_iteration(rows, method)
            return
        seen = WithOnes(rows) if self.fit_intercept else rows
        if method == "sketch_solve":
            size = self.sketch_size or embedding_size(rows.n or 1, seen.d, eps=0.1, delta=0.05, guarantee="linf")
            if rows.n is None or rows.n > size:
                self._cache = self._solve_sketch(_sketched_factor(seen, self._kind(rows.sparse), size, self._rng()))
                return
        self._factor = factor_of(
            seen,
            sketch=self.sketch,
            sketch_size=self.sketch_size,
            rng=self._rng(),
            gram_up_to=GRAM_UP_TO.get(method, 0.0),
            rcond=self._negligible(),
            whole=method == "lapack",
        )
        self._cache = self._solve_factor(rows)

    def _method(self, rows: Rows) -> str:
        if self.positive or self.method != "auto":
            return "direct" if self.positive else self.method
        small = rows.n is not None and not rows.lazy and rows.n * rows.d < 200_000
        if rows.sparse and rows.d > SPARSE:
            return "spir" if self.alphas is None else "direct"
        return "lapack" if small else "auto"

    def _solve_factor(self, rows: Rows | None = None) -> _Solved:
        """The solution of the factor, refined by the rows where they are at hand."""
        factor = self._flushed()
        parts, alpha = factor.parts(), self.alpha
        if self.alphas is not None:
            alpha = self._chosen(parts, factor.n_rows, rows)
        setup = parts.setup(self._rcond(), alpha)
        loop = self._loop()
        data, centred = (rows, parts) if rows is not None else _square(parts)
        if self.positive:
            low, high = np.zeros(factor.d), np.full(factor.d, np.inf)
            x, norms, error = boxed(data, centred, low, high)
            slopes = np.zeros((setup.rank, x.shape[1]))
        else:
            at = refined_solution(data, centred, setup, loop)
            x, norms, error, slopes = at.x, at.norms, at.error, at.slopes
            loop.converged = loop.converged or error <= 10 * loop.tol
            loop.finish("Try a larger max_iter or tol.", stacklevel=7)
        half = None
        if self.confidence is not None:
            # |A (x - x*)| is the norm of the slopes, but for rounding
            half = setup.solution(np.linalg.norm(setup.factors.P, axis=1)[:, None] * np.linalg.norm(slopes, axis=0))
        passes = 1
        if rows is not None:
            passes = (1 if factor.method == "lapack" else 3) + (2 if self.positive else loop.n_iter + 1)
        return self._packed(
            x,
            parts.y_offset - parts.x_offset @ x,
            norms if rows is not None else np.hypot(norms, parts.norms),
            half,
            **_figures(parts, setup, alpha),
            backward_error=error,
            n_iter=max(loop.n_iter, 1),
            n_passes=passes,
            method="nnls" if self.positive else factor.method,
        )

    def _chosen(self, parts: Parts, n: int, rows: Rows | None) -> float:
        """The penalty that cross-validation chooses."""
        alphas = checked_alphas(self.alphas)
        if self.cv == "gcv" or (self.cv == "loo" and rows is not None):
            best = path_of(parts, n, alphas, self.cv, self._dtype, self._single, rows).best_alpha
            assert best is not None
            return best
        if rows is None or rows.n is None or rows.lazy:
            raise ValueError(f"cv={self.cv!r} needs all rows at once, in memory; use fit with them, or cv='gcv'")
        w = np.ones(rows.n) if rows.roots is None else rows.roots**2
        errors = np.zeros(len(alphas))
        A = rows.A.tocsr() if rows.sparse else rows.A
        for train, test in check_cv(self.cv).split(A, rows.b):
            path = ridge_path(
                A[train],
                rows.b[train],
                alphas,
                fit_intercept=self.fit_intercept,
                sample_weight=w[train],
                cv=None,
                rng=0,
            )
            for k, (coef, intercept) in enumerate(zip(path.coef, path.intercept, strict=True)):
                errors[k] += np.sum(w[test, None] * (rows.b[test] - A[test] @ coef.T - intercept) ** 2)
        return float(alphas[np.argmin(errors)])

    def _solve_sketch(self, factor: Factor) -> _Solved:
        """The solution of the factor of a sketch, with the intervals that its law gives."""
        parts, alpha, m = factor.parts(), self.alpha, factor.n_rows
        if self.alphas is not None:
            alpha = self._chosen(parts, m, None)
        setup = parts.setup(self._rcond(), alpha)
        x, d = setup.solution(setup.x0), factor.d
        spent = setup.rank + factor.intercept
        # the sketched residual is the shorter for having been minimised
        residuals = np.hypot(parts.norms, np.linalg.norm(parts.T @ x - parts.c, axis=0))
        residuals *= (m / max(m - spent, 1)) ** 0.5
        half = None
        if self.confidence is not None:
            if alpha or setup.rank < d or m <= spent:
                raise ValueError(
                    f"confidence needs a sketch of more rows than columns, full rank and alpha=0; got {m} rows for "
                    f"{spent} columns, rank {setup.rank} of {d} and alpha={alpha:g}"
                )
            # s^2 = |Sb - SA x|^2 / (m - d), C = ((SA)^T SA)^-1: Student's t with m - d degrees of freedom
            P = setup.factors.P if setup.scale is None else setup.factors.P / setup.scale[:, None]
            t = scipy.stats.t.ppf((1 + self.confidence) / 2, m - spent)
            half = t * np.linalg.norm(P, axis=1)[:, None] * parts.norms / (m - spent) ** 0.5
        return self._packed(
            x,
            parts.y_offset - parts.x_offset @ x,
            residuals,
            half,
            **_figures(parts, setup, alpha),
            backward_error=float("nan"),
            n_iter=1,
            n_passes=1,
            method="sketch_solve",
        )

    def _by_iteration(self, rows: Rows, method: str) -> _Solved:
        """By one of the methods for which rows need only be multiplied with; they leave no factor."""
        if self.alphas is not None:
            raise ValueError(f"alphas need a method that compresses the rows; got method={method!r}")
        options = _Options(
            method=method,
            sketch=self.sketch,
            size=self.sketch_size,
            alpha=float(self.alpha),
            rcond=self.rcond,
            momentum=True,
            confidence=self.confidence or 0.95,
            deterministic=True,
            rng=self._rng(),
        )
        tol, certificate = self._loop().tol, None if self.confidence is None else "aposteriori"
        seen = rows
        solver: _Solver
        x_offset, y_offset = np.zeros(rows.d), np.zeros(rows.k)
        if self.fit_intercept:
            seen = _Centred(rows)
            x_offset, y_offset = seen.x_offset, seen.y_offset
            solver = _CentredSolver(seen, options, tol, self.max_iter, None, self.verbose)
        else:
            solver = _Solver(rows, options, tol, self.max_iter, None, self.verbose)
        found = solver.solve(certificate)
        x = found.x.reshape(rows.d, rows.k).astype(np.float64)
        half = None if found.certificate is None else np.full(x.shape, found.certificate.linf)
        return self._packed(
            x,
            y_offset - x_offset @ x,
            np.atleast_1d(found.residual_norm),
            half,
            rank=found.rank,
            cond=found.cond,
            backward_error=found.backward_error / getattr(solver, "spread", 1.0),
            n_iter=max(found.n_iter, 1),
            n_passes=found.n_passes + self.fit_intercept,
            method=found.method,
            alpha=float(self.alpha),
        )

    def _packed(self, x: Matrix, t: Matrix, norms: Matrix, half: Matrix | None, **figures: Any) -> _Solved:
        def shaped(v: Matrix) -> np.ndarray[Any, Any]:
            v = np.ascontiguousarray(v.T).astype(self._dtype, copy=False)
            return v[0] if self._single else v

        interval = None
        if half is not None:
            both = np.stack([x - half, x + half], axis=-1).transpose(1, 0, 2)
            interval = both[0] if self._single else both
        intercept: Any = 0.0
        if self.fit_intercept:
            intercept = self._dtype.type(t[0]) if self._single else t.astype(self._dtype)
        norm = float(norms[0]) if self._single else norms
        return _Solved(shaped(x), intercept, residual_norm=norm, interval=interval, **figures)

    # batch by batch

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take in more rows. With ``stream="qr"`` the solution is that of one fit to all of them.

        Parameters
        ----------
        X : (n, d) array_like, csr or csc matrix
        y : (n,) or (n, k) array_like
        sample_weight : (n,) array_like, optional

        Returns
        -------
        self
        """
        first = not hasattr(self, "n_features_in_")
        with restored_on_failure(self):
            X, y, weight = self._checked(X, y, sample_weight, reset=first, scan=True)
            if first:
                self._begin(X.shape[1])
            self._require_stream()
            self._take(Rows(X, y, weight))
            self._dtype = np.dtype(np.result_type(self._dtype, X.dtype))
            self.n_samples_seen_ += int(X.shape[0])
            self._cache = None
        return self

    def merge(self, other: Self) -> Self:
        """A new estimator, fitted to the rows of both.

        Parameters
        ----------
        other : estimator
            Of the same class, fitted to other rows with the same features and targets.

        Returns
        -------
        estimator

        Raises
        ------
        TypeError, ValueError
            If the two do not fit together; if one was fitted by a method that leaves no factor; if two sketches were
            drawn from the same seed.
        """
        check_is_fitted(self)
        if type(other) is not type(self):
            raise TypeError(f"other must be a {type(self).__name__}; got {type(other).__name__}")
        check_is_fitted(other)
        for name in ("fit_intercept", "stream"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"other must have {name}={getattr(self, name)!r}; got {getattr(other, name)!r}")
        if self.n_features_in_ != other.n_features_in_:
            raise ValueError(f"other must have {self.n_features_in_} features; got {other.n_features_in_}")
        if (self._single, self._targets) != (other._single, other._targets):
            raise ValueError(f"other must have {self._targets} targets of the same shape; got {other._targets}")
        self._require_stream()
        other._require_stream()
        new = clone(self)
        vars(new).update({key: value for key, value in vars(self).items() if key not in self.get_params()})
        new._cache = None
        if self._sketch is None or other._sketch is None:
            if self._sketch is not other._sketch:
                raise ValueError("other must hold a sketch as this estimator does, or a factor as this one does")
            new._factor, new._pending = self._flushed().merged(other._flushed()), []
        else:
            new._sketch = self._sketch.merged(other._sketch)
        new._dtype = np.dtype(np.result_type(self._dtype, other._dtype))
        new.n_samples_seen_ = self.n_samples_seen_ + other.n_samples_seen_
        return new

    def _begin(self, d: int) -> None:
        """The empty factor, or sketch."""
        if self.stream == "qr":
            self._pending = []
            return
        columns = d + self.fit_intercept
        m = self.sketch_size or embedding_size(1, columns, eps=0.5, guarantee="linf")
        kind = self._kind(sparse=False)
        if kind in ("uniform",):
            raise ValueError(f"sketch must not be {kind!r} for a stream, whose length is not known")
        S = make_sketch(kind, m + -m % 8, rng=self._rng())
        self._sketch = _Sketch(S, np.zeros((S.m, columns + self._targets)), 0, (S.seed,))

    def _take(self, rows: Rows) -> None:
        """Add rows to the factor or the sketch."""
        if self._sketch is not None:
            self._sketch = self._sketch.extended(_beside(rows, self.fit_intercept))
            return
        if rows.lazy:  # where its chunks are
            seen = WithOnes(rows) if self.fit_intercept else rows
            more = replace(factor_of(seen, rng=self._rng(), rcond=self._negligible()), method="qr")
            self._factor = more if self._factor is None else self._factor.merged(more)
            return
        width = self.fit_intercept + rows.d + rows.k
        block, pending = max(256, 4 * width, TOGETHER // width), list(self._pending or ())
        waiting = sum(map(len, pending))
        for M in _beside(rows, self.fit_intercept, block):
            pending.append(M)
            waiting += len(M)
            if waiting >= block:
                self._factor, pending, waiting = self._grown(pending), [], 0
        self._pending = pending

    def _flushed(self) -> Factor:
        """The factor with the rows that wait to be taken in, which then wait no longer."""
        if self._pending:
            self._factor, self._pending = self._grown(self._pending), []
        assert self._factor is not None
        return self._factor

    def _grown(self, pending: list[Matrix]) -> Factor:
        rows = pending[0] if len(pending) == 1 else np.vstack(pending)
        if self._factor is None:
            return factor_of_rows(rows, self.n_features_in_, self.fit_intercept)
        return self._factor.extended(rows)

    # what all of these need

    def _checked(self, X: Any, y: Any, sample_weight: Any, *, reset: bool, scan: bool) -> tuple[Any, Any, Any]:
        """The data in shapes and dtypes that are known; entries of X are looked at if `scan` is true."""
        if is_dask(X):
            y = check_array(y, ensure_2d=False, input_name="y", dtype=FLOATS, estimator=self)
            if X.ndim != 2:
                raise ValueError(f"X must be 2-D; got shape {tuple(X.shape)}")
            self.n_features_in_ = int(X.shape[1])
        else:
            X, y = validate_data(
                self,
                X,
                y,
                reset=reset,
                accept_sparse=("csr", "csc"),
                dtype=FLOATS,
                multi_output=True,
                y_numeric=True,
                ensure_all_finite=scan,
            )
            y = y if y.dtype in FLOATS else y.astype(np.float64)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
            if not sample_weight.any():
                raise ValueError("sample_weight must not be zero everywhere")
        if reset:
            self._dtype = np.dtype(X.dtype if X.dtype in FLOATS else np.float64)
            self._single, self._targets = y.ndim == 1, 1 if y.ndim == 1 else int(y.shape[1])
            self._factor = None
            self._pending = None
            self._sketch = None
            self._cache = None
            self.n_samples_seen_ = 0
        elif (y.ndim == 1) != self._single or (y.ndim == 2 and y.shape[1] != self._targets):
            raise ValueError(f"y must have {self._targets} targets, as before; got shape {tuple(y.shape)}")
        return X, y, sample_weight

    def _require_stream(self) -> None:
        if self._factor is None and self._pending is None and self._sketch is None:
            raise ValueError(
                f"method {self.method_!r} left no factor to which rows can be added; fit with method='direct', or use "
                "partial_fit from the start"
            )

    def _solved(self) -> _Solved:
        if self._cache is None:
            if self._sketch is not None:
                factor = Factor(
                    triangle_of(self._sketch.value.copy()),
                    self.n_features_in_,
                    self.fit_intercept,
                    self._sketch.operator.m,
                )
                self._cache = self._solve_sketch(factor)
            else:
                self._cache = self._solve_factor()
        return self._cache

    def _rng(self) -> np.random.Generator:
        return as_rng(self.random_state)

    def _rcond(self) -> float:
        return 64 * float(np.finfo(self._dtype).eps) if self.rcond is None else float(self.rcond)

    def _negligible(self) -> float | None:
        """What the factor may lose: no more than by default, so that other rows may yet matter as much as they do."""
        default = 64 * float(np.finfo(np.float64).eps)
        return None if self.rcond is None else min(default, float(self.rcond))

    def _loop(self) -> Loop:
        tol = float(np.finfo(self._dtype).eps) if self.tol is None else float(self.tol)
        name, steps = type(self).__name__, self.max_iter or STEPS
        return Loop(name, tol=tol, max_iter=steps, verbose=self.verbose, residual="backward_error")

    def _kind(self, sparse: bool) -> str:
        return _kind(sparse) if self.sketch == "auto" else self.sketch

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The fitted linear function at rows of X.

        Parameters
        ----------
        X : (n, d) array_like, csr or csc matrix

        Returns
        -------
        (n,) or (n, k) array
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse=("csr", "csc"), dtype=FLOATS)
        return np.asarray(X @ self.coef_.T + self.intercept_)


def _kind(sparse: bool) -> str:
    return "sparse_sign" if sparse else "block_srht"


def _sketched_factor(rows: Rows, kind: str, size: int, rng: np.random.Generator) -> Factor:
    """The factor of a sketch of ``[1 X y]``."""
    S = make_sketch(kind, size + -size % 8, rows.n if kind == "uniform" else None, rng=rng)
    with np.errstate(over="ignore", invalid="ignore"):
        SA, Sb = rows.fold(functools.partial(_sketch, S, rows.k), rows.step(S._grain))
    if not (np.isfinite(SA).all() and np.isfinite(Sb).all()):
        rows.refuse_nonfinite()
    R = triangle_of(np.hstack([SA, Sb]))
    if isinstance(rows, WithOnes):
        return Factor(rows.unshifted(R), rows.d - 1, True, S.m)
    return Factor(R, rows.d, False, S.m)


def _figures(parts: Parts, setup: Setup, alpha: float) -> dict[str, Any]:
    """Rank, condition number and penalty."""
    scale = float(np.abs(parts.T).max(initial=0.0)) or 1.0
    values = scipy.linalg.svdvals(parts.T / scale) if parts.T.size else np.zeros(1)
    values = np.hypot(values, min(alpha**0.5 / scale, 1e150))  # of T with the ridge below it
    cond = ratio(values[0], values[setup.rank - 1]) if setup.rank else 1.0
    return {"rank": setup.rank, "cond": cond, "alpha": alpha}


def _square(parts: Parts) -> tuple[Rows, Parts]:
    """A centred problem as rows of its own."""
    T, c = (parts.T, parts.c) if len(parts.T) else (np.zeros((1, parts.T.shape[1])), np.zeros((1, parts.c.shape[1])))
    return Rows(T, c), replace(parts, weight=0.0, x_offset=0 * parts.x_offset, y_offset=0 * parts.y_offset)


def _beside(rows: Rows, intercept: bool, size: int | None = None) -> Iterator[Matrix]:
    """Dense blocks of ``[1 X y]``, weighted; rows without weight are left out."""
    o = int(intercept)
    for block in rows.blocks(size or max(1024, 4 * rows.d)):
        M = np.empty((block.X.shape[0], o + rows.d + rows.k))
        M[:, :o] = 1.0
        M[:, o : o + rows.d] = block.X.toarray() if is_sparse(block.X) else block.X
        M[:, o + rows.d :] = block.y
        yield M if block.roots is None else (M * block.roots[:, None])[block.roots > 0]


@dataclass(frozen=True)
class _Sketch:
    """A sketch of ``[1 X y]``: `operator` continues it at row `offset`; `seeds` are those of all that is in it."""

    operator: SketchOperator
    value: Matrix
    offset: int
    seeds: tuple[int, ...]

    def extended(self, blocks: Iterator[Matrix]) -> _Sketch:
        value, offset = self.value.copy(), self.offset
        for M in blocks:
            self.operator.apply(M, row_offset=offset, out=value)
            offset += len(M)
        return replace(self, value=value, offset=offset)

    def merged(self, other: _Sketch) -> _Sketch:
        """Sketches by independent operators add up: together they are one, [S1 S2], of all the rows."""
        if set(self.seeds) & set(other.seeds):
            raise ValueError(
                "other must have drawn another sketch; with the same random_state, its rows were given the same signs "
                "as those of this estimator"
            )
        if self.value.shape != other.value.shape:
            raise ValueError(f"other must have a sketch of shape {self.value.shape}; got {other.value.shape}")
        return replace(self, value=self.value + other.value, seeds=self.seeds + other.seeds)


class _CentredBlock(LinearOperator):
    """``X - 1 centre^T``, X dense or sparse."""

    def __init__(self, X: Any, centre: Matrix) -> None:
        self.dtype, self.X, self.centre = np.dtype(np.float64), X, centre
        self.__dict__["shape"] = X.shape

    def _matmat(self, Z: Matrix) -> Matrix:
        return np.asarray(self.X @ Z - self.centre @ Z)

    def _rmatmat(self, R: Matrix) -> Matrix:
        return np.asarray(self.X.T @ R - np.outer(self.centre, R.sum(axis=0)))


class _Centred(Rows):
    """Rows less their weighted means: X as an operator, so that sparse rows stay sparse."""

    def __init__(self, rows: Rows) -> None:
        self.__dict__.update(rows.__dict__)
        self._inner = rows
        with np.errstate(over="ignore", invalid="ignore"):
            weight, sums, sums_y = rows.fold(_sums)
        self.x_offset, self.y_offset = sums / weight, sums_y / weight

    def blocks(self, rows: int | None = None) -> Iterator[Block]:
        return map(self._centred, self._inner.blocks(rows))

    def fold(self, work: Work, rows: int | None = None) -> tuple[Any, ...]:
        if self.lazy:
            return self._inner.fold(functools.partial(_worked_centred, work, self.x_offset, self.y_offset), rows)
        return super().fold(work, rows)

    def refuse_nonfinite(self) -> None:
        self._inner.refuse_nonfinite()

    def _centred(self, block: Block) -> Block:
        return _less(block, self.x_offset, self.y_offset)


def _less(block: Block, x_offset: Matrix, y_offset: Matrix) -> Block:
    return replace(block, X=_CentredBlock(block.X, x_offset), y=block.y - y_offset)


def _worked_centred(work: Work, x_offset: Matrix, y_offset: Matrix, block: Block) -> tuple[Any, ...]:
    return work(_less(block, x_offset, y_offset))


def _sums(block: Block) -> tuple[float, Matrix, Matrix]:
    w = np.ones(block.X.shape[0]) if block.roots is None else block.roots**2
    return float(w.sum()), np.asarray(block.X.T @ w), w @ block.y


class _CentredSolver(_Solver):
    """The iterative methods on centred rows; the sketch is that of [1 X y], from which a QR eliminates the ones."""

    rows: _Centred
    spread = 1.0

    def prepare(self, method: str, *, factor: int = 1, kind: str | None = None) -> Setup:
        rows, options = self.rows, self.options
        d, n = rows.d, rows.n
        assert n is not None
        least = max((12 if method in ("fossils", "iterative") else 4) * d, d + 16)
        size = (options.size or least) * factor + 1
        seen = WithOnes(rows._inner)
        self.passes += 1
        kind_used: str | None = None
        if n <= size:
            found, m = factor_of(seen, whole=True), n
        else:
            kind_used = kind or (_kind(rows.sparse) if options.sketch == "auto" else options.sketch)
            found = _sketched_factor(seen, kind_used, size, options.rng)
            m = found.n_rows
        parts = found.parts()
        spread = parts.spread()
        self.tol, self.spread = self.tol * spread / self.spread, spread
        return replace(parts.setup(self._rcond(), options.alpha), m=m, kind=kind_used)

    def _rcond(self) -> float:
        given = self.options.rcond
        return 64 * float(np.finfo(self.rows.dtype_A).eps) if given is None else given


class SketchedRegression(_Sketched):
    """Linear least squares by sketching: as accurate as QR, from all data at once or batch by batch.

    Parameters
    ----------
    fit_intercept : bool
        Whether there is an intercept.
    method : str
        As for :func:`lstsq`. "auto" and "direct" compress the rows, so that more can be added later; "spir", "fossils",
        "iterative" and "lsqr" only multiply with them, which suits wide sparse data, and "auto" takes "spir" there;
        "sketch_solve" fits to a sketch.
    sketch, sketch_size
        As for :func:`lstsq`.
    rcond : float, optional
        Singular values below `rcond` times the largest are taken for zero.
    tol, max_iter
        The backward error to be reached, and iterations at most; with a factor, a few refinements do.
    positive : bool
        Whether coefficients must not be negative.
    stream : {"qr", "sketch"}
        What :meth:`partial_fit` keeps: the triangular factor of ``[1 X y]``, which gives the same solution as one fit;
        or a sketch of it, which gives a near one with intervals. Its size is that for an accuracy of 0.5 by
        :func:`embedding_size` with ``guarantee="linf"``.
    confidence : float, optional
        With it, ``coef_interval_`` says where the least-squares coefficients for all the data lie, each with this
        probability: Student's intervals for a sketch, bounds of rounding size for precise methods. It says nothing of
        the noise in the data.
    random_state : int, RandomState or None
        For the sketch. Estimators with ``stream="sketch"`` that are to be merged must not share it.
    verbose : int
        1 shows progress.

    Attributes
    ----------
    coef_ : (d,) or (k, d) array
    intercept_ : float or (k,) array
    rank_ : int
    cond_ : float
        Condition number of X, centred if there is an intercept.
    backward_error_ : float
    residual_norm_ : float or (k,) array
    n_iter_, n_passes_ : int
    method_ : str
        The one that ran; "qr" after batches.
    coef_interval_ : (d, 2) or (k, d, 2) array
    n_samples_seen_, n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import SketchedRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 3)) + 5
    >>> y = X @ np.array([1.0, 2.0, 3.0]) + 4
    >>> SketchedRegression().fit(X, y).coef_.round(6)
    array([1., 2., 3.])
    >>> stream = SketchedRegression()
    >>> for s in np.array_split(np.arange(1000), 9):
    ...     stream = stream.partial_fit(X[s], y[s])
    >>> float(stream.intercept_.round(6))
    4.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "fit_intercept": ["boolean"],
        "method": [StrOptions(set(METHODS))],
        "sketch": [StrOptions(set(KINDS))],
        "sketch_size": [Interval(Integral, 1, None, closed="left"), None],
        "rcond": [Interval(Real, 0, 1, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "positive": ["boolean"],
        "stream": [StrOptions({"qr", "sketch"})],
        "confidence": [Interval(Real, 0, 1, closed="neither"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        method: str = "auto",
        sketch: str = "auto",
        sketch_size: int | None = None,
        rcond: float | None = None,
        tol: float | None = None,
        max_iter: int | None = None,
        positive: bool = False,
        stream: str = "qr",
        confidence: float | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.method = method
        self.sketch = sketch
        self.sketch_size = sketch_size
        self.rcond = rcond
        self.tol = tol
        self.max_iter = max_iter
        self.positive = positive
        self.stream = stream
        self.confidence = confidence
        self.random_state = random_state
        self.verbose = verbose


class SketchedRidge(_Sketched):
    """Ridge regression by sketching: ``|y - X w - c|^2 + alpha |w|^2``, with alpha given or chosen from many.

    Parameters
    ----------
    alpha : float
        The penalty.
    alphas : (n_alphas,) array_like, optional
        Penalties from which cross-validation chooses; `alpha` is then ignored.
    cv : {"gcv", "loo"}, int, splitter or iterable
        The score by which it chooses, as for :func:`ridge_path`; or scikit-learn's folds, and the squared error there.
        Batches allow "gcv" only.
    fit_intercept, method, sketch, sketch_size, tol, max_iter, stream, confidence, random_state, verbose
        As for :class:`SketchedRegression`. There are intervals for precise methods only.

    Attributes
    ----------
    alpha_ : float
        The penalty.
    coef_, intercept_, rank_, cond_, backward_error_, residual_norm_, n_iter_, n_passes_, method_, coef_interval_
        As those of :class:`SketchedRegression`; `cond_` includes the penalty.
    n_samples_seen_, n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import SketchedRidge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 50))
    >>> y = X @ rng.standard_normal(50) + 5 * rng.standard_normal(200)
    >>> SketchedRidge(alphas=np.logspace(-2, 4, 7)).fit(X, y).alpha_
    10.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "alphas": ["array-like", None],
        "cv": [StrOptions({"gcv", "loo"}), "cv_object"],
        **{
            name: constraint
            for name, constraint in SketchedRegression._parameter_constraints.items()
            if name not in ("rcond", "positive")
        },
    }

    alpha_ = _learned("alpha", "The penalty, given or chosen.")

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        alphas: Any = None,
        cv: str = "gcv",
        fit_intercept: bool = True,
        method: str = "auto",
        sketch: str = "auto",
        sketch_size: int | None = None,
        tol: float | None = None,
        max_iter: int | None = None,
        stream: str = "qr",
        confidence: float | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.method = method
        self.sketch = sketch
        self.sketch_size = sketch_size
        self.tol = tol
        self.max_iter = max_iter
        self.stream = stream
        self.confidence = confidence
        self.random_state = random_state
        self.verbose = verbose
