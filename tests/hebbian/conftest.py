"""Oracles for dense memories: energies by their definition, laws and transition matrices by enumeration."""

from itertools import combinations, product
from math import factorial
from types import SimpleNamespace

import numpy as np
import pytest

import numcore
from numcore.algorithms.hebbian import _loops


def energy(s, patterns, order, interaction, weights=None, field=None):
    """The definition, term by term."""
    N = len(s)
    w = np.ones(len(patterns)) if weights is None else weights
    total = 0.0
    for p, weight in zip(patterns, w, strict=True):
        v = np.asarray(p, float) * s
        if interaction == "distinct":
            G = factorial(order) * sum(np.prod(v[list(c)]) for c in combinations(range(N), order)) / N**order
        elif interaction == "full":
            G = (v.sum() / N) ** order
        elif interaction == "rectified":
            G = max(v.sum() / N, 0.0) ** order
        else:
            G = 2 / N * np.exp(v.sum() - N)
        total -= N / 2 * weight * G
    return total - (0.0 if field is None else float(np.dot(field, s)))


def states(N):
    """All 2^N of them."""
    return np.array(list(product((-1, 1), repeat=N)), dtype=np.int8)


def boltzmann(energies, beta):
    w = np.exp(-beta * (energies - energies.min()))
    return w / w.sum()


@pytest.fixture(scope="session")
def oracle():
    return SimpleNamespace(energy=energy, states=states, boltzmann=boltzmann)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture(scope="session")
def effort():
    """How long a simulation may be: a part where the reference runs, for tolerances that follow the statistics."""
    compiled = numcore.get_backend() != "numpy" and _loops.table_sweeps.twin("cpu") is not None
    return lambda count, part=10: count if compiled else count // part
