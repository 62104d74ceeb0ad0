"""The sketching operators by name, and how large to make one."""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal

from scipy.special import ndtri

from numcore.algorithms.sketching._gaussian import GaussianSketch
from numcore.algorithms.sketching._hadamard import SRHT, SRTT, BlockSRHT
from numcore.algorithms.sketching._kronecker import TensorSRHT
from numcore.algorithms.sketching._operator import SketchOperator
from numcore.algorithms.sketching._sampling import LeverageSample, UniformSample
from numcore.algorithms.sketching._sparse_sign import CountSketch, SparseSign
from numcore.arrays import as_choice, as_count, as_number, as_rng

__all__ = ["KINDS", "embedding_size", "make_sketch"]

KINDS: dict[str, type[SketchOperator]] = {
    cls.kind: cls
    for cls in (
        GaussianSketch,
        SRHT,
        BlockSRHT,
        SRTT,
        CountSketch,
        SparseSign,
        UniformSample,
        LeverageSample,
        TensorSRHT,
    )
}


def make_sketch(kind: str, m: int, n: int | None = None, *, rng: Any = None, **params: Any) -> SketchOperator:
    r"""A random matrix S of shape (m, n), with :math:`E[S^T S] = I`, that compresses n rows to m.

    =============== ============================================================================ ==================
    kind            S                                                                            parameters
    =============== ============================================================================ ==================
    "gaussian"      independent N(0, 1/m); costly to draw, the reference
    "srht"          m rows of a Hadamard matrix with random signs of its columns, over sqrt(m)
    "block_srht"    the same of blocks of rows, added with random signs; best for dense data     ``block_rows``
    "srtt"          as "block_srht" with a cosine transform, for blocks of any size              ``block_rows``
    "countsketch"   one random sign in each column
    "sparse_sign"   s random signs over sqrt(s) in each column, one in each of s blocks of rows  ``s=8``
                    (m is rounded down to a multiple of s); best for sparse data
    "uniform"       m rows of the identity, drawn with replacement, times sqrt(n / m)
    "leverage"      the same with probabilities p proportional to scores, times 1/sqrt(m p)      ``scores``
    "tensor_srht"   for Kronecker products, applied to their factors                             ``shapes``
    =============== ============================================================================ ==================

    Of a matrix with d columns, "countsketch" may lose a direction unless m is about d**2, and "uniform" loses rows that
    stand out; all others keep all norms within a factor :math:`1 \pm \sqrt{d / m}` or so.

    Parameters
    ----------
    kind : str
        From the table.
    m : int
        Rows of S.
    n : int, optional
        Columns of S: the rows that will be sketched. None, for a stream of unknown length, suits all kinds but the
        last three, which need `n`, `scores` or `shapes`.
    rng : optional
        Anything that :func:`numpy.random.default_rng` takes. One seed is drawn from it.
    **params
        Of the kind: `block_rows`, rows of a block, at least m (and a power of two for "block_srht"; the default is
        ``max(1024, 2 m)``, rounded up to one); `s`, nonzeros of a column; `scores`, (n,), not negative; `shapes`, the
        numbers of rows of the factors.

    Returns
    -------
    SketchOperator

    Raises
    ------
    ValueError
        If the kind is unknown, or m, n or a parameter does not fit it.
    TypeError
        If a parameter is not one of the kind.

    References
    ----------
    .. [1] J. Tropp, "Improved Analysis of the Subsampled Randomized Hadamard Transform", 2011.
    .. [2] O. Balabanov, M. Beaupere, L. Grigori and V. Lederer, "Block Subsampled Randomized Hadamard Transform for
       Low-Rank Approximation on Distributed Architectures", ICML 2023.
    .. [3] J. Nelson and H. Nguyen, "OSNAP: Faster Numerical Linear Algebra Algorithms via Sparser Subspace
       Embeddings", FOCS 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore.algorithms.sketching import make_sketch
    >>> A = np.random.default_rng(0).standard_normal((10_000, 5))
    >>> S = make_sketch("block_srht", 400, len(A), rng=0)
    >>> SA = S @ A
    >>> SA.shape
    (400, 5)
    >>> bool(np.all(abs(np.linalg.svd(SA)[1] / np.linalg.svd(A)[1] - 1) < 0.25))
    True

    Parts of the matrix can be sketched apart, and added:

    >>> parts = [S.apply(A[i : i + 1000], row_offset=i) for i in range(0, 10_000, 1000)]
    >>> bool(np.allclose(sum(parts), SA))
    True
    """
    cls = KINDS[as_choice(kind, "kind", KINDS)]
    known = [name for name in inspect.signature(cls).parameters if name not in ("m", "n", "seed")]
    for name in params:
        if name not in known:
            raise TypeError(f"{name} is no parameter of {kind!r}, which takes {', '.join(known) or 'none'}")
    return cls(m, n, seed=int(as_rng(rng).integers(2**63)), **params)


def embedding_size(
    n: int,
    d: int,
    *,
    eps: float = 0.5,
    delta: float = 0.05,
    guarantee: Literal["subspace", "linf"] = "subspace",
    rule: Literal["calibrated", "theory"] = "calibrated",
) -> int:
    r"""The number m of rows that a sketch of an (n, d) matrix needs for a guarantee.

    Parameters
    ----------
    n, d : int
        The shape of the matrix.
    eps : float
        The accuracy; below 1 for "subspace".
    delta : float
        The probability of failure.
    guarantee : {"subspace", "linf"}
        "subspace": :math:`(1-\epsilon)\|Ay\| \le \|SAy\| \le (1+\epsilon)\|Ay\|` for all y. "linf": the least-squares
        solution x' of the sketch has
        :math:`\|x'-x^*\|_\infty \le \frac{\epsilon}{\sqrt d}\,\|Ax^*-b\|_2\,\|A^\dagger\|_2`, which is a factor
        :math:`\sqrt d` better than what the subspace guarantee gives.
    rule : {"calibrated", "theory"}
        "calibrated": from the law of a Gaussian sketch, which dense kinds follow closely. "theory": for "linf" the
        bound of [1]_, :math:`\epsilon^{-2} d \ln^3(n/\delta)`, which is proven and far larger; for "subspace" the same.

    Returns
    -------
    int
        It may exceed n; then there is nothing to gain by a sketch.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    References
    ----------
    .. [1] Z. Song, M. Ye, J. Yin and L. Zhang, "A Nearly-Optimal Bound for Fast Regression with l_inf Guarantee",
       ICML 2023, Theorem 1.1.

    Examples
    --------
    >>> from numcore.algorithms.sketching import embedding_size
    >>> embedding_size(1_000_000, 100)
    647
    >>> embedding_size(1_000_000, 100, guarantee="linf")
    4948
    """
    n, d = as_count(n, "n"), as_count(d, "d")
    as_choice(guarantee, "guarantee", ("subspace", "linf"))
    as_choice(rule, "rule", ("calibrated", "theory"))
    eps = as_number(eps, "eps", above=0, below=1 if guarantee == "subspace" else math.inf)
    delta = as_number(delta, "delta", above=0, below=1)
    if guarantee == "subspace":
        return math.ceil((math.sqrt(d) + math.sqrt(2 * math.log(2 / delta))) ** 2 / eps**2)
    if rule == "theory":
        return math.ceil(d * math.log(n / delta) ** 3 / eps**2)
    # (x'_i - x*_i) is N(0, |r|^2 C_ii) with C = ((SA)^T SA)^-1, about |A^+|^2 / (m - d - 1); all d at once
    z = -float(ndtri(delta / (2 * d)))
    return d + 1 + math.ceil(d * z**2 / eps**2)
