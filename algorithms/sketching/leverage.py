"""Leverage scores: how much each row of a matrix decides its own fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg

from numcore.algorithms.sketching._factor import as_rows, matrix_setup, precise_pass
from numcore.algorithms.sketching.compress import row_norms
from numcore.arrays import as_choice, as_rng

__all__ = ["leverage_scores"]


def leverage_scores(A: Any, *, method: str = "exact", rng: Any = None) -> np.ndarray[Any, Any]:
    r"""The diagonal of the projector on the range of A: :math:`\ell_i = a_i^T (A^T A)^+ a_i`.

    Scores lie between 0 and 1, and sum to the rank.

    Parameters
    ----------
    A : (n, d) array_like, sparse matrix or dask array
    method : {"exact", "sketch"}
        "exact": by sketch-preconditioned Cholesky-QR, in three reads of A. "sketch": estimates, in two reads, one of
        them against ``8 log(n)`` random directions; good to a factor of two or so, which is enough to sample rows by.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes. Exact scores depend on it by rounding alone.

    Returns
    -------
    (n,) array
        float32 for float32, else float64.

    Raises
    ------
    ValueError, TypeError
        If `A` is not 2-D, is empty or not finite.

    References
    ----------
    .. [1] P. Drineas, M. Magdon-Ismail, M. Mahoney and D. Woodruff, "Fast Approximation of Matrix Coherence and
       Statistical Leverage", JMLR 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import leverage_scores
    >>> A = np.vstack([np.eye(2), 3 * np.eye(2)])
    >>> leverage_scores(A).round(6)
    array([0.1, 0.1, 0.9, 0.9])
    """
    as_choice(method, "method", ("exact", "sketch"))
    rows, rng = as_rows(A), as_rng(rng)
    # m = 12 d: what is wrong with estimates is mostly what the sketch does to lengths
    setup = matrix_setup(rows, "auto", None, rng, factor=4 if method == "exact" else 12)
    P = setup.factors.P
    if method == "exact" and setup.rank:
        held = precise_pass(rows, "auto", None, rng, setup=setup)
        setup = held.setup
        P = scipy.linalg.solve_triangular(held.L, held.P.T, lower=True, check_finite=False).T
    elif setup.rank and rows.n is not None:
        directions = math.ceil(8 * math.log(max(rows.n, 2)))
        if directions < setup.rank:
            P = P @ (rng.standard_normal((setup.rank, directions)) / directions**0.5)
    scores = row_norms(rows, setup, P).astype(np.float64)
    if method == "sketch" and setup.rank:
        scores *= setup.rank / scores.sum()
    return np.minimum(scores, 1.0).astype(rows.dtype)
