"""Randomised least squares as accurate as QR, and the sketches that it stands on."""

from numcore.algorithms.sketching._machine import set_machine
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching.certificates import Certificate
from numcore.algorithms.sketching.compress import Compressed, compress
from numcore.algorithms.sketching.constrained import ConstrainedResult, constrained_lstsq
from numcore.algorithms.sketching.coordinate_descent import BCDResult, block_coordinate_descent
from numcore.algorithms.sketching.displays import EmbeddingDisplay, ResidualHistoryDisplay, RidgePathDisplay
from numcore.algorithms.sketching.estimators import SketchedRegression, SketchedRidge
from numcore.algorithms.sketching.leverage import leverage_scores
from numcore.algorithms.sketching.lstsq import LstsqResult, lstsq
from numcore.algorithms.sketching.operators import embedding_size, make_sketch
from numcore.algorithms.sketching.preconditioner import Preconditioner, preconditioner
from numcore.algorithms.sketching.recovery import SubGMResult, robust_matrix_recovery
from numcore.algorithms.sketching.ridge import RidgePathResult, ridge_path
from numcore.algorithms.sketching.streaming import StreamingSketch
from numcore.linalg import nystrom, randomized_svd

__all__ = [
    "BCDResult",
    "Certificate",
    "Compressed",
    "ConstrainedResult",
    "EmbeddingDisplay",
    "LstsqResult",
    "Preconditioner",
    "ResidualHistoryDisplay",
    "RidgePathDisplay",
    "RidgePathResult",
    "SketchOperator",
    "SketchedRegression",
    "SketchedRidge",
    "StreamingSketch",
    "SubGMResult",
    "block_coordinate_descent",
    "compress",
    "constrained_lstsq",
    "embedding_size",
    "leverage_scores",
    "lstsq",
    "make_sketch",
    "nystrom",
    "preconditioner",
    "randomized_svd",
    "ridge_path",
    "robust_matrix_recovery",
    "set_machine",
]
