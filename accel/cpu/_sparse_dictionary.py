"""Numba twins of the dictionary's loops: sums over sparse codes, and the sweep over a panel of atoms.

The sums go over the entries of a code that are not zero, so a batch costs some hundred vector updates a signal and not
two products with whole matrices. Threads share out the atoms; each goes over all signals, in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from numcore.accel.cpu._threads import run_blocks

DENSE = 0.25
"""The part of entries other than 0 from which on a matrix product is the quicker way."""

compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


def accumulate(code: Any, X: Any, weight: Any, A: Any, B: Any) -> None:
    n, k = code.shape
    starts, atoms, values = _supports(np.ascontiguousarray(code))
    if len(atoms) > DENSE * n * k:
        code = code.astype(np.float64, copy=False)
        weighted = weight * code.T
        A += weighted @ code
        B += weighted @ X
        return
    X = np.ascontiguousarray(X)
    run_blocks(_accumulate, k, len(atoms) * X.shape[1] // k, starts, atoms, values, X, float(weight), A, B)


@compiled
def _supports(code):
    """Where rows of the code start in the lists of the atoms in use and of their coefficients."""
    n, k = code.shape
    starts = np.zeros(n + 1, np.int64)
    for i in range(n):
        count = 0
        for j in range(k):
            count += code[i, j] != 0
        starts[i + 1] = starts[i] + count
    atoms, values = np.empty(starts[n], np.int64), np.empty(starts[n])
    for i in range(n):
        at = starts[i]
        for j in range(k):
            if code[i, j] != 0:
                atoms[at], values[at] = j, code[i, j]
                at += 1
    return starts, atoms, values


@compiled
def _accumulate(first, last, block, starts, atoms, values, X, weight, A, B):
    """The rows `first` to `last` of A and B."""
    p = X.shape[1]
    for i in range(len(X)):
        for s in range(starts[i], starts[i + 1]):
            j = atoms[s]
            if first <= j < last:
                c = weight * values[s]
                for t in range(starts[i], starts[i + 1]):
                    A[j, atoms[t]] += c * values[t]
                for q in range(p):
                    B[j, q] += c * X[i, q]


@compiled
def sweep_panel(D, R, A, floor, sphere, positive):
    m, p = D.shape
    u = np.empty(p)
    for j in range(m):
        if A[j, j] <= floor:
            continue
        scale = 1.0 / A[j, j]
        square = 0.0
        for q in range(p):
            u[q] = D[j, q] + R[j, q] * scale
            if positive:
                u[q] = max(u[q], 0.0)
            square += u[q] * u[q]
        norm = np.sqrt(square)
        if norm == 0:
            continue
        shrink = 1.0 / norm if sphere or norm > 1 else 1.0
        for q in range(p):
            u[q] = u[q] * shrink
            D[j, q], u[q] = u[q], u[q] - D[j, q]
        for i in range(m):
            a = A[i, j]
            for q in range(p):
                R[i, q] -= a * u[q]
