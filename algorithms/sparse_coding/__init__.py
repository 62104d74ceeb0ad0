"""Sparse codes of signals over a dictionary, and dictionaries learned from signals."""

from numcore.algorithms.sparse_coding._result import SparseCodeResult
from numcore.algorithms.sparse_coding.convolution import ConvCodeResult, conv_encode, conv_update
from numcore.algorithms.sparse_coding.dictionary import DictionaryResult, learn_dictionary
from numcore.algorithms.sparse_coding.displays import (
    DictionaryDisplay,
    LassoPathDisplay,
    OrientationDisplay,
    ProxDisplay,
)
from numcore.algorithms.sparse_coding.encode import reg_max, sparse_encode
from numcore.algorithms.sparse_coding.estimators import DictionaryLearner, SparseCoder
from numcore.algorithms.sparse_coding.fields import ReceptiveFields, receptive_fields
from numcore.algorithms.sparse_coding.iht import iht
from numcore.algorithms.sparse_coding.lasso import LassoResult, lasso
from numcore.algorithms.sparse_coding.omp import omp
from numcore.algorithms.sparse_coding.patches import extract_patches
from numcore.algorithms.sparse_coding.path import LassoPathResult, lasso_path

__all__ = [
    "ConvCodeResult",
    "DictionaryDisplay",
    "DictionaryLearner",
    "DictionaryResult",
    "LassoPathDisplay",
    "LassoPathResult",
    "LassoResult",
    "OrientationDisplay",
    "ProxDisplay",
    "ReceptiveFields",
    "SparseCodeResult",
    "SparseCoder",
    "conv_encode",
    "conv_update",
    "extract_patches",
    "iht",
    "lasso",
    "lasso_path",
    "learn_dictionary",
    "omp",
    "receptive_fields",
    "reg_max",
    "sparse_encode",
]
