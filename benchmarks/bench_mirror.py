"""Mirror steps and projections on domains: time, a point at a time and in batches."""

from typing import Any, ClassVar

import numpy as np

from numcore.mirror import (
    Ball,
    Box,
    Euclidean,
    Hypentropy,
    Intersection,
    LogBarrier,
    Mahalanobis,
    NegativeEntropy,
    PNorm,
    Simplex,
    Spectrahedron,
    VonNeumannEntropy,
)


class Steps:
    """A step from the middle of the domain; in batches 10^5 entries, of which matrices take their sides from `dim`."""

    maps: ClassVar[dict[str, Any]] = {
        "euclidean-ball": (Euclidean, Ball(1.0)),
        "euclidean-simplex": (Euclidean, Simplex()),
        "entropy-simplex": (NegativeEntropy, Simplex()),
        "pnorm": (PNorm, None),
        "hypentropy-l1": (Hypentropy, Ball(1.0, norm="l1")),
        "hypentropy-simplex": (Hypentropy, Simplex()),
        "barrier-simplex": (LogBarrier, Simplex()),
        "mahalanobis-ball": (Mahalanobis, Ball(1.0)),
        "von-neumann": (VonNeumannEntropy, Spectrahedron()),
    }
    params = (list(maps), [20, 1000], [False, True])
    param_names = ("map", "dim", "batch")

    def setup(self, name, dim, batch):
        make, self.domain = self.maps[name]
        rng = np.random.default_rng(0)
        if name == "von-neumann":
            dim //= 10
        if name == "mahalanobis-ball":
            root = rng.standard_normal((dim, dim))
            self.map = make(root @ root.T / dim + np.eye(dim))
        else:
            self.map = make()
        shape = (dim, dim) if name == "von-neumann" else (dim,)
        count = (100_000 // int(np.prod(shape)),) if batch else ()
        center = (self.domain or Ball()).center(shape)
        self.x = np.broadcast_to(center, (*count, *shape)).copy()
        self.gradient = rng.standard_normal(self.x.shape)
        self.step()  # compiles

    def step(self):
        return self.map.step(self.x, self.gradient, 0.3, self.domain)

    def time_step(self, name, dim, batch):
        self.step()

    def time_divergence(self, name, dim, batch):
        self.map.divergence(self.x, self.x)


class Domains:
    """Projection of a point that lies outside, by the closed forms and by Dykstra's sweeps."""

    domains: ClassVar[dict[str, Any]] = {
        "l2": Ball(1.0),
        "l1": Ball(1.0, norm="l1"),
        "box": Box(0.0, 1.0),
        "simplex": Simplex(),
        "spectrahedron": Spectrahedron(),
        "simplex-box": Intersection([Simplex(), Box(0.0, 0.1)]),
        "simplex-ball": Intersection([Simplex(), Ball(0.3)]),
    }
    params = (list(domains), [20, 1000])
    param_names = ("domain", "dim")

    def setup(self, name, dim):
        self.domain = self.domains[name]
        shape = (dim // 10, dim // 10) if self.domain.matrix else (dim,)
        self.v = np.random.default_rng(0).standard_normal(shape)
        self.domain.project(self.v)  # compiles

    def time_project(self, name, dim):
        self.domain.project(self.v)

    def time_contains(self, name, dim):
        self.domain.contains(self.v)
