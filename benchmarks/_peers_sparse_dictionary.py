"""Dictionary learning beside SPAMS and scikit-learn: one epoch over patches, from the same first atoms.

The error is by how much the mean l1 objective of other patches, at a duality gap of 1e-9, exceeds that over our
dictionary, relative to it. A peer that is worse by more than the row's error may see the patches again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("scikit-learn", "spams-bin")

ATOMS, BATCH, REG = 256, 512, 0.1
HELD_OUT = 5000
EPOCHS = (1, 2, 4)

Makers = Mapping[str, Callable[[], Run]]


@cache
def patches(n: int) -> tuple[Any, Any, Any]:
    """Patches to learn from, others to judge by, and first atoms."""
    from sklearn.datasets import load_sample_image

    from numcore.algorithms.sparse_coding import extract_patches

    P = extract_patches(load_sample_image("china.jpg"), size=12, n=n + HELD_OUT, rng=0)
    X, T = P[:n], P[n:]
    atoms = X[np.linalg.norm(X, axis=1) > 0.99][:ATOMS]
    return X, T, atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def learned(n: int, epochs: int) -> Any:
    from numcore.algorithms.sparse_coding import DictionaryLearner

    X, _, start = patches(n)
    learner = DictionaryLearner(ATOMS, reg=REG, batch_size=BATCH, max_iter=epochs, init=start, tol=0.0, random_state=0)
    return learner.fit(X).components_


def objective(n: int, D: Any) -> float:
    from numcore.algorithms.sparse_coding import sparse_encode

    return float(sparse_encode(patches(n)[1], D, reg=REG, tol=1e-9).objective.mean())


@cache
def our_objective(n: int) -> float:
    return objective(n, learned(n, 1))


def learners(n: int) -> Makers:
    X, _, start = patches(n)

    def error(D: Any) -> float:
        return objective(n, np.ascontiguousarray(D)) / our_objective(n) - 1

    def ours() -> Run:
        return Run(lambda epochs: learned(n, epochs), (1,), error)

    def spams() -> Run:
        import spams

        columns, atoms = np.asfortranarray(X.T), np.asfortranarray(start.T)

        def call(epochs: int) -> Any:
            batches = epochs * -(-n // BATCH)
            options = {"lambda1": REG, "mode": 2, "batchsize": BATCH, "iter": batches, "numThreads": 1}
            return spams.trainDL(columns, D=atoms, verbose=False, **options).T

        return Run(call, EPOCHS, error)

    def scikit_learn() -> Run:
        from sklearn.decomposition import MiniBatchDictionaryLearning

        def call(epochs: int) -> Any:
            learner = MiniBatchDictionaryLearning(
                ATOMS,
                alpha=REG,
                fit_algorithm="cd",
                batch_size=BATCH,
                max_iter=epochs,
                dict_init=start,
                tol=0.0,
                max_no_improvement=None,
                random_state=0,
            )
            return learner.fit(X).components_

        return Run(call, EPOCHS, error)

    return {"numcore": ours, "SPAMS": spams, "scikit-learn": scikit_learn}


WANTED = {"SPAMS": 2.0, "scikit-learn": 6.0}

ROWS = (
    Row(
        "dictionary",
        "dictionary, 256 atoms, 5*10^4 patches, 1 epoch",
        partial(learners, 50_000),
        WANTED,
        error=2e-3,
        memory=True,
    ),
    Row("dictionary-5000", "the same, 5000 patches", partial(learners, 5000), WANTED, error=2e-3, quick=True),
)
