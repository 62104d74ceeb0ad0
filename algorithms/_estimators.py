"""What the estimators of all families share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import numpy as np

__all__ = ["FLOATS", "blas_threads", "on_one_thread", "restored_on_failure"]

FLOATS = (np.float64, np.float32)
"""The dtypes that scikit-learn's checks leave as they are; others become the first."""


@contextmanager
def restored_on_failure(estimator: Any) -> Iterator[None]:
    """Leave the estimator as it was if what is done within fails or is interrupted."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def on_one_thread() -> AbstractContextManager[Any]:
    """Hold NumPy's and SciPy's matrix products to one thread, so that their rounding does not depend on how many."""
    return _controller().limit(limits=1, user_api="blas")


def blas_threads() -> int:
    """How many threads a matrix product may take."""
    return max((found.num_threads for found in _controller().select(user_api="blas").lib_controllers), default=1)


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController  # comes with scikit-learn

    return ThreadpoolController()
