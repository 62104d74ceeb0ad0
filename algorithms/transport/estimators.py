"""Transport of a point cloud onto another as a scikit-learn transformer."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from numcore.algorithms._estimators import FLOATS, restored_on_failure
from numcore.algorithms.transport._problem import Problem
from numcore.algorithms.transport.costs import PointCloudCost
from numcore.algorithms.transport.divergence import sinkhorn_divergence, symmetric_potential
from numcore.algorithms.transport.entropic_map import entropic_map
from numcore.algorithms.transport.sinkhorn import sinkhorn

__all__ = ["SinkhornTransport"]


class SinkhornTransport(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Map a source cloud onto a target cloud by entropic optimal transport.

    Used as ``fit(Xs, Xt)``: the second argument is the target cloud, with as many rows as it likes. It is named y
    because scikit-learn calls it so.

    Parameters
    ----------
    reg : float
        Regularisation, in units of the cost times `reg_scale`.
    reg_scale : {"absolute", "mean", "max"}
        As for :func:`sinkhorn`; the default measures `reg` by the mean cost.
    metric
        As for :class:`PointCloudCost`.
    method : {"auto", "log", "kernel", "newton"}
        As for :func:`sinkhorn`.
    marginal_reg : float or (float, float), optional
        Penalties on the marginals, for unbalanced transport; in units of the cost, whatever `reg_scale`.
    out_of_sample : {"entropic", "barycentric"}
        How points are mapped: by :func:`entropic_map`; or by the barycentric projection of the plan for points that
        were fitted, and for others by the displacement of the nearest of those.
    tol, max_iter
        As for :func:`sinkhorn`.
    verbose : int
        1 shows a progress bar.

    Attributes
    ----------
    cost_ : PointCloudCost
    result_ : SinkhornResult
    plan_ : (n, m) array
        Computed when first asked for.
    reg_ : float
        The regularisation after `reg_scale`.
    n_iter_ : int
    n_features_in_ : int
    source_, target_ : (n, d), (m, d) arrays

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.transport import SinkhornTransport
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> SinkhornTransport(reg=0.01).fit(X, X + 3).transform(X[:1]).round(1)
    array([[3., 3.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "reg": [Interval(Real, 0, None, closed="neither")],
        "reg_scale": [StrOptions({"absolute", "mean", "max"})],
        "metric": [StrOptions({"sqeuclidean", "euclidean", "manhattan", "cosine"}), tuple, callable],
        "method": [StrOptions({"auto", "log", "kernel", "newton"})],
        "marginal_reg": [Interval(Real, 0, None, closed="right"), tuple, list, None],
        "out_of_sample": [StrOptions({"entropic", "barycentric"})],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        reg: float = 0.05,
        *,
        reg_scale: str = "mean",
        metric: Any = "sqeuclidean",
        method: str = "auto",
        marginal_reg: Any = None,
        out_of_sample: str = "entropic",
        tol: float | None = None,
        max_iter: int = 10000,
        verbose: int = 0,
    ) -> None:
        self.reg = reg
        self.reg_scale = reg_scale
        self.metric = metric
        self.method = method
        self.marginal_reg = marginal_reg
        self.out_of_sample = out_of_sample
        self.tol = tol
        self.max_iter = max_iter
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, target_weight: Any = None) -> SinkhornTransport:
        """Find the plan from the source cloud X to the target cloud y.

        Parameters
        ----------
        X : (n, d) array_like
            Source points.
        y : (m, d) array_like
            Target points. With None or a 1-D array (labels, which scikit-learn's tools pass), the target is X itself,
            with a warning.
        sample_weight, target_weight : (n,), (m,) array_like, optional
            Weights of the points, normalised to sum to 1; uniform by default.

        Returns
        -------
        self
        """
        with restored_on_failure(self):
            return self._fit(X, y, sample_weight, target_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any, target_weight: Any) -> SinkhornTransport:
        X = validate_data(self, X, dtype=FLOATS)
        a = _normalised(sample_weight, X, "sample_weight")
        init = None
        if not _is_cloud(y):
            warnings.warn(
                "SinkhornTransport.fit got no target cloud (a 2-D second argument); the target is the source itself",
                UserWarning,
                stacklevel=4,  # past fit and scikit-learn's decorator
            )
            target, b = X, a
            init = self._symmetric_start(X, a)
        else:
            target = check_array(y, dtype=X.dtype, input_name="y", estimator=self)
            if target.shape[1] != X.shape[1]:
                raise ValueError(f"y must have the {X.shape[1]} features of X; got shape {target.shape}")
            b = _normalised(target_weight, target, "target_weight")
        cost = PointCloudCost(X, target, self.metric)
        result = sinkhorn(
            cost,
            a,
            b,
            reg=self.reg,
            reg_scale=self.reg_scale,
            method=self.method,
            marginal_reg=self.marginal_reg,
            init=init,
            tol=self.tol,
            max_iter=self.max_iter,
            verbose=self.verbose,
        )
        self.cost_, self.result_, self.source_, self.target_ = cost, result, X, target
        self.reg_, self.n_iter_ = result.reg, result.n_iter
        return self

    @property
    def plan_(self) -> np.ndarray[Any, Any]:
        """The (n, m) plan."""
        check_is_fitted(self)
        return self.result_.plan

    def transform(self, X: Any) -> np.ndarray[Any, Any]:
        """Map points of the source's space to the target's.

        Parameters
        ----------
        X : (k, d) array_like

        Returns
        -------
        (k, d) array
        """
        check_is_fitted(self)
        return self._map(validate_data(self, X, dtype=FLOATS, reset=False), "forward")

    def inverse_transform(self, Y: Any) -> np.ndarray[Any, Any]:
        """Map points of the target's space to the source's.

        Parameters
        ----------
        Y : (k, d) array_like

        Returns
        -------
        (k, d) array
        """
        check_is_fitted(self)
        return self._map(validate_data(self, Y, dtype=FLOATS, reset=False), "inverse")

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the Sinkhorn divergence, at `reg_`, between the mapped X and a target cloud.

        Parameters
        ----------
        X : (k, d) array_like
            Source points.
        y : (l, d) array_like, optional
            Target points; those of the fit by default.

        Returns
        -------
        float
            At most 0, and closest to 0 for the best map.
        """
        moved = self.transform(X)
        target = self.target_ if not _is_cloud(y) else check_array(y, dtype=FLOATS, input_name="y")
        return -sinkhorn_divergence(moved, target, reg=self.reg_, metric=self.metric).value

    def _symmetric_start(self, X: np.ndarray[Any, Any], a: np.ndarray[Any, Any] | None) -> Any:
        """Potentials of the cloud onto itself. Few pairs couple there: only a symmetric iteration finds them."""
        problem = Problem.check(
            PointCloudCost(X, metric=self.metric), a, a, self.reg, self.reg_scale, self.marginal_reg
        )
        if problem.rho[0] != problem.rho[1]:
            return None
        f, _, _ = symmetric_potential(problem, self.tol, self.max_iter)
        return f, f

    def _map(self, X: np.ndarray[Any, Any], direction: str) -> np.ndarray[Any, Any]:
        if self.out_of_sample == "entropic":
            return entropic_map(self.result_, X, direction=direction).astype(X.dtype, copy=False)
        problem, (f, g) = self.result_._problem, self.result_._potentials
        if direction == "forward":
            weights, known, moved = (
                problem.a,
                self.source_,
                self.cost_.means(problem.h(g), problem.eps, self.target_)[1],
            )
        else:
            weights, known, moved = (
                problem.b,
                self.target_,
                self.cost_.T.means(problem.u(f), problem.eps, self.source_)[1],
            )
        fitted = weights > 0  # a point without weight is as if it had been left out
        nearest = pairwise_distances_argmin(X, known[fitted])
        return (X + (moved - known)[fitted][nearest]).astype(X.dtype, copy=False)


def _is_cloud(y: Any) -> bool:
    return y is not None and np.asarray(y).ndim != 1


def _normalised(weights: Any, X: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any] | None:
    if weights is None:
        return None
    w = _check_sample_weight(weights, X, dtype=np.float64, ensure_non_negative=True)
    if not w.sum() > 0:
        raise ValueError(f"{name} must have a positive sum; got {w.sum():g}")
    return w / w.sum()
