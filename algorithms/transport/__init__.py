"""Optimal transport between weighted point sets: entropic plans, divergences and maps."""

from numcore.algorithms.transport._result import SinkhornResult
from numcore.algorithms.transport.batch import SinkhornBatchResult, sinkhorn_batch
from numcore.algorithms.transport.costs import GridCost, PointCloudCost
from numcore.algorithms.transport.displays import PlanDisplay
from numcore.algorithms.transport.divergence import DivergenceResult, sinkhorn_divergence
from numcore.algorithms.transport.entropic_map import entropic_map
from numcore.algorithms.transport.estimators import SinkhornTransport
from numcore.algorithms.transport.newton import sinkhorn_newton
from numcore.algorithms.transport.sinkhorn import sinkhorn
from numcore.special import logsumexp, softmax

__all__ = [
    "DivergenceResult",
    "GridCost",
    "PlanDisplay",
    "PointCloudCost",
    "SinkhornBatchResult",
    "SinkhornResult",
    "SinkhornTransport",
    "entropic_map",
    "logsumexp",
    "sinkhorn",
    "sinkhorn_batch",
    "sinkhorn_divergence",
    "sinkhorn_newton",
    "softmax",
]
