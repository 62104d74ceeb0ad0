"""Atoms: where they come from, what they must satisfy, and what takes the place of those that are of no use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALIKE", "ALIKE_IN_PASSES", "constrained", "idle", "initial", "power_of_two", "signed", "successors"]

Floats = NDArray[Any]

ALIKE = 0.999
"""Two atoms are one if the cosine of their angle is above this, or below its negative."""

ALIKE_IN_PASSES = 0.99
"""The same for methods that see all signals between two updates, as Aharon et al. have it: two atoms that share one
pattern stay close to it, and part no more."""

EVIDENCE = 10
"""An atom is judged by its use once an average one would have been used so often since it was made."""


def power_of_two(x: Floats) -> float:
    """A power of two near the largest magnitude in `x`; 1 for zeros."""
    top = float(np.max(abs(x), initial=0.0))
    return float(np.ldexp(1.0, min(np.frexp(top)[1], 1023))) if top > 0 else 1.0


def initial(X: Floats, n_atoms: int, init: Floats | None, positive: bool, rng: np.random.Generator) -> Floats:
    """The first atoms: `init`; random rows of X where that is zero or None; Gaussian ones where X has too few."""
    D = np.zeros((n_atoms, X.shape[1])) if init is None else init.astype(np.float64)
    if positive:
        D = np.maximum(D, 0.0)
    empty = np.flatnonzero(~D.any(axis=1))
    if len(empty):
        candidates = np.flatnonzero(np.any(X > 0 if positive else X != 0, axis=1))
        rows = rng.choice(candidates, min(len(empty), len(candidates)), replace=False)
        drawn = np.concatenate([X[rows].astype(np.float64), rng.standard_normal((len(empty) - len(rows), X.shape[1]))])
        if positive:
            drawn = np.maximum(drawn, 0.0)
            drawn[~drawn.any(axis=1), rng.integers(X.shape[1])] = 1.0
        D[empty] = constrained(drawn, sphere=True)
    return D


def constrained(D: Floats, sphere: bool) -> Floats:
    """The rows of D, none of them zero, divided by their norms: all, or those with a norm above 1."""
    top = abs(D).max(axis=1, keepdims=True)
    norms = top * np.linalg.norm(D / top, axis=1, keepdims=True)  # rows as small as 1e-300 keep their direction
    return D / (norms if sphere else np.maximum(norms, 1.0))


def signed(D: Floats) -> Floats:
    """The atoms with the sign for which the entry of largest magnitude is positive."""
    largest = np.take_along_axis(D, abs(D).argmax(axis=1)[:, None], axis=1)
    return np.where(largest < 0, -D, D)


def idle(D: Floats, usage: Floats, age: Floats, dead_tol: float, alike: float) -> NDArray[np.intp]:
    """Atoms that hardly any signal uses, and of those that are alike all but the one most used.

    Parameters
    ----------
    D : (k, p) array
    usage : (k,) array
        The part of the signals that use an atom.
    age : (k,) array
        The number of signals that could have used it.
    dead_tol : float
        Usage below this is too little; with 0, all atoms stay.
    alike : float
        The cosine from which on two atoms are one.

    Returns
    -------
    int array
        Ascending.
    """
    if dead_tol == 0:
        return np.empty(0, np.intp)
    dead = (usage < dead_tol) & (age * usage.mean() >= EVIDENCE)
    U = D / np.linalg.norm(D, axis=1, keepdims=True)
    cosines = abs(U @ U.T)
    np.fill_diagonal(cosines, 0.0)
    if cosines.max() > alike:
        for i, j in np.argwhere(np.triu(cosines > alike)):
            if not (dead[i] or dead[j]):
                dead[j if usage[i] >= usage[j] else i] = True
    return np.flatnonzero(dead)


def successors(X: Floats, R: Floats, count: int, positive: bool) -> Floats:
    """Unit atoms to replace idle ones: the residuals of the signals that are coded worst, no two of them alike.

    Parameters
    ----------
    X, R : (n, p) arrays
        Signals and residuals.
    count : int
        As many, or fewer if there are not so many.
    positive : bool
        Whether atoms have no negative entries.
    """
    R = np.maximum(R, 0.0) if positive else R
    squares = np.einsum("ij,ij->i", R, R)
    rounding = 1e-24 * np.max(np.einsum("ij,ij->i", X, X), initial=0.0)
    chosen = np.empty((0, R.shape[1]))
    for i in np.argsort(-squares, kind="stable"):
        if len(chosen) == count or squares[i] <= rounding:
            break
        atom = R[i] / np.sqrt(squares[i])
        if not np.any(abs(chosen @ atom) > ALIKE):
            chosen = np.concatenate([chosen, atom[None]])
    return chosen
