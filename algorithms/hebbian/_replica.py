"""The replica-symmetric equations: what they average over, and one step of their iteration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any

import numpy as np

from numcore.algorithms.hebbian._average import (
    Averages,
    Mixture,
    field_average,
    mixture_of,
    stability_and_entropy,
)
from numcore.algorithms.hebbian._checks import as_order
from numcore.algorithms.hebbian._kernel import Kernel, noise_kernel
from numcore.arrays import as_choice, as_count, as_number

__all__ = ["Replica", "as_beta", "as_load", "as_quality", "make_replica"]

Array = np.ndarray[Any, Any]

LARGEST_ORDER = 100
"""Beyond, factorials leave the range of float64."""
COLDEST = 1e100
MANY_EXAMPLES = 200


def make_replica(
    *,
    order: Any,
    quality: Any = 1.0,
    n_examples: Any = 1,
    learning: Any = "supervised",
    interaction: Any = "distinct",
    averaging: Any = "auto",
    n_nodes: Any = 101,
) -> Replica:
    """Check what describes a memory in the theory."""
    P = as_order(order)
    if P > LARGEST_ORDER:
        raise ValueError(f"order must be at most {LARGEST_ORDER} here; got {P}")
    r = as_quality(quality)
    M = as_count(n_examples, "n_examples")
    as_choice(learning, "learning", ("supervised", "unsupervised"))
    as_choice(interaction, "interaction", ("distinct", "full"))
    as_choice(averaging, "averaging", ("auto", "exact", "gaussian"))
    if learning == "unsupervised" and (P == 2 or interaction == "full"):
        given = "order=2" if P == 2 else "interaction='full'"
        raise ValueError(f"learning must be 'supervised' with {given}, as there is no other theory; got {learning!r}")
    if averaging == "auto":
        averaging = "exact" if M <= MANY_EXAMPLES else "gaussian"
    nodes = as_count(n_nodes, "n_nodes", minimum=8)
    return Replica(P, r, M, learning, interaction, mixture_of(r, M, averaging), nodes)


def as_beta(beta: Any) -> float:
    """An inverse temperature; one whose square leaves the range of float64 is infinite."""
    beta = as_number(beta, "beta", above=0, infinite=True)
    return beta if beta < COLDEST else np.inf


def as_quality(quality: Any) -> float:
    """The quality of examples, between 0 and 1."""
    return as_number(quality, "quality", above=0, below=1, closed=True)


def as_load(load: Any, unit: Any, order: int) -> float:
    """The load alpha from alpha or gamma."""
    as_choice(unit, "load_unit", ("alpha", "gamma"))
    load = as_number(load, "load", above=0, closed=True)
    return load if unit == "alpha" else 2 * load / factorial(order)


@dataclass(frozen=True, eq=False)
class Replica:
    """A memory of order P in the limit of many features.

    The state is a pair: the overlap ``x`` with the stored pattern; and the overlap ``q`` of two replicas or, with
    P = 2, the width ``s`` of the noise, which does not follow from q alone there.
    """

    order: int
    quality: float
    n_examples: int
    learning: str
    interaction: str
    mixture: Mixture
    n_nodes: int

    @property
    def pairwise(self) -> bool:
        """Whether the theory is that of Amit, Gutfreund and Sompolinsky."""
        return self.order == 2

    @cached_property
    def kernel(self) -> Kernel:
        """The noise of the other memories at load 1."""
        kappa = 1.0
        if self.learning == "unsupervised":
            r, M, P = self.quality, self.n_examples, self.order
            kappa = (r ** (2 * P) + (1 - r ** (2 * P)) / M) / (r**2 + (1 - r**2) / M) ** P
        return noise_kernel(self.order, self.interaction, kappa)

    def signal(self, x: Any) -> Any:
        """The field of the memory that is being retrieved, per unit of t: ``(P / 2) x^(P - 1)``."""
        return self.order / 2 * np.asarray(x, dtype=np.float64) ** (self.order - 1)

    def average(self, beta: float, a: Any, s: Any) -> Averages:
        """Averages over the field of signal `a` and noise `s`."""
        return field_average(self.mixture, beta, a, s, self.n_nodes)

    def noise(self, load: Any, state: Any) -> Any:
        """The width of the noise in a state."""
        second = state[..., 1]
        if self.pairwise:
            return np.maximum(second, 0.0)
        return np.sqrt(load * self.kernel.slope(np.clip(second, 0.0, 1.0)))

    def step(self, beta: float, load: Any, state: Any) -> tuple[Array, Averages]:
        """The right-hand side of the equations (SC): the next state, and the averages that it consists of."""
        s = self.noise(load, state)
        found = self.average(beta, self.signal(state[..., 0]), s)
        second = np.sqrt(load * found.q) + s * found.chi if self.pairwise else found.q
        return np.stack([found.x, second], axis=-1), found

    def contraction(self, beta: float, load: Any, state: Array) -> Array:
        """The spectral radius of the step's Jacobian, by differences."""
        here = self.step(beta, load, state)[0]
        J = np.empty((*state.shape, 2))
        for j in range(2):
            moved = state.copy()
            moved[..., j] *= 1 - 1e-6  # downwards: q = 1 is the end of its range
            change = moved[..., j] - state[..., j]
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = (self.step(beta, load, moved)[0] - here) / change[..., None]
            J[..., j] = np.where(change[..., None] != 0, slope, 0.0)
        return np.abs(np.linalg.eigvals(J)).max(axis=-1)

    def load_of(self, s: Any, found: Averages) -> Any:
        """The load at which `found`, the averages with noise `s`, are a solution; 0 where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.pairwise:  # s = sqrt(alpha q) / (1 - chi)
                load = np.where(found.chi < 1, (s * (1 - found.chi)) ** 2 / found.q, 0.0)
            else:
                load = s**2 / self.kernel.slope(found.q)
        return np.where(np.asarray(s) > 0, load, 0.0)

    def pressure_and_stability(self, beta: float, load: Any, x: Any, q: Any, s: Any) -> tuple[Array, Array]:
        """``A = -beta f`` and the de Almeida-Thouless eigenvalue at a solution; nan at T = 0."""
        x, q, s = (np.asarray(v, dtype=np.float64) for v in (x, q, s))
        if np.isinf(beta):
            return np.full(x.shape, np.nan), np.full(x.shape, np.nan)
        sech4, entropy = stability_and_entropy(self.mixture, beta, self.signal(x), s, self.n_nodes)
        A = entropy - beta / 2 * (self.order - 1) * x**self.order
        if not self.pairwise:
            xi = self.kernel
            A = A + beta**2 / 2 * load * (xi.value(1.0) - xi.value(q) - (1 - q) * xi.slope(q))
            return A, 1 - beta**2 * load * xi.curvature(q) * sech4
        chi = beta * (1 - q)
        with np.errstate(divide="ignore", invalid="ignore"):  # without order, there is no such state below T = 1
            rr = np.where(q > 0, q / (1 - chi) ** 2, 0.0)
            A = A - load / 2 * (np.log(1 - chi) - beta * q / (1 - chi)) - beta * load / 2 * (chi * rr + 1)
            return A, 1 - load * (beta / (1 - chi)) ** 2 * sech4
