"""Linear algebra that SciPy leaves open: factors that change, products without a matrix, estimates from few of them.

Whatever is called an operator here may be an array, a sparse matrix or a :class:`scipy.sparse.linalg.LinearOperator`.
"""

from numcore.linalg._cg import CGResult, CGState, cg_iterations, solve_cg
from numcore.linalg._cholesky import cholesky_append, cholesky_delete, cholesky_update, jittered_cholesky
from numcore.linalg._estimates import (
    EstimateResult,
    SpectralDensityResult,
    diagonal_estimate,
    function_trace,
    spectral_density,
    trace_estimate,
)
from numcore.linalg._hadamard import walsh_hadamard
from numcore.linalg._lanczos import LanczosResult, lanczos
from numcore.linalg._lowrank import PivotedCholeskyResult, nystrom, pivoted_cholesky, randomized_svd

__all__ = [
    "CGResult",
    "CGState",
    "EstimateResult",
    "LanczosResult",
    "PivotedCholeskyResult",
    "SpectralDensityResult",
    "cg_iterations",
    "cholesky_append",
    "cholesky_delete",
    "cholesky_update",
    "diagonal_estimate",
    "function_trace",
    "jittered_cholesky",
    "lanczos",
    "nystrom",
    "pivoted_cholesky",
    "randomized_svd",
    "solve_cg",
    "spectral_density",
    "trace_estimate",
    "walsh_hadamard",
]
