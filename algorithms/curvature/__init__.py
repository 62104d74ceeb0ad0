"""Curvature of a loss from its gradients: inverse Fisher algebra, Hessian tools, pruning."""

from numcore.algorithms.curvature.approximations import log_sum_exp_hessian, power_norm_hessian
from numcore.algorithms.curvature.displays import GNSTraceDisplay, PruningCurveDisplay, SpectralDensityDisplay
from numcore.algorithms.curvature.estimators import GNSLogisticRegression, MFACClassifier, MFACRegressor
from numcore.algorithms.curvature.fisher import EmpiricalFisher
from numcore.algorithms.curvature.gns import GNSResult, minimize_gns
from numcore.algorithms.curvature.hessian import CurvatureOperator, fisher_operator, ggn_operator, hessian_operator
from numcore.algorithms.curvature.influence import influence
from numcore.algorithms.curvature.mfac import MFACOptimizer
from numcore.algorithms.curvature.pruning import (
    PruneResult,
    SparsityScheduler,
    pq_index,
    prune_magnitude,
    prune_mfac,
    prune_sap,
    sparsity_schedule,
)
from numcore.algorithms.curvature.sliding import SlidingFisher
from numcore.linalg import (
    CGResult,
    EstimateResult,
    LanczosResult,
    SpectralDensityResult,
    diagonal_estimate,
    function_trace,
    lanczos,
    solve_cg,
    spectral_density,
    trace_estimate,
)

__all__ = [
    "CGResult",
    "CurvatureOperator",
    "EmpiricalFisher",
    "EstimateResult",
    "GNSLogisticRegression",
    "GNSResult",
    "GNSTraceDisplay",
    "LanczosResult",
    "MFACClassifier",
    "MFACOptimizer",
    "MFACRegressor",
    "PruneResult",
    "PruningCurveDisplay",
    "SlidingFisher",
    "SparsityScheduler",
    "SpectralDensityDisplay",
    "SpectralDensityResult",
    "diagonal_estimate",
    "fisher_operator",
    "function_trace",
    "ggn_operator",
    "hessian_operator",
    "influence",
    "lanczos",
    "log_sum_exp_hessian",
    "minimize_gns",
    "power_norm_hessian",
    "pq_index",
    "prune_magnitude",
    "prune_mfac",
    "prune_sap",
    "solve_cg",
    "sparsity_schedule",
    "spectral_density",
    "trace_estimate",
]
