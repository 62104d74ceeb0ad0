"""Dense Hebbian memories: energies, and sweeps of each loop, with the reference and with Numba; what stands on them."""

import numpy as np

import numcore
from numcore.algorithms.hebbian import (
    anneal,
    capacity_curve,
    energy,
    hopfield_weights,
    local_fields,
    parallel_tempering,
    recall,
    sample,
    sample_pairwise,
)

N = 500


def signs(K):
    return 2 * np.random.default_rng(0).integers(0, 2, size=(K, N), dtype=np.int8) - 1


class Sweeps:
    """Ten sweeps from a pattern: cold, where hardly anything flips, and hot."""

    params = (["numpy", "numba"], ["signs", "reals", "pairs"], [5.0, 0.01])
    param_names = ("backend", "patterns", "beta")

    def setup(self, backend, patterns, beta):
        numcore.set_backend(backend)
        self.xi = signs(N)
        self.p = self.xi * 1.25 if patterns == "reals" else self.xi
        self.options = {"beta": beta, "order": 2 if patterns == "pairs" else 3, "init": self.xi[:1], "rng": 0}
        self.sweeps = 1 if backend == "numpy" else 100
        self.time_sweep(backend, patterns, beta)

    def teardown(self, backend, patterns, beta):
        numcore.set_backend("auto")

    def time_sweep(self, backend, patterns, beta):
        sample(self.p, n_sweeps=self.sweeps, record_every=100, **self.options)


class Orders:
    """A hundred hot sweeps of tables, where flips cost most."""

    params = ([3, 6, 8, 20], ["distinct", "rectified"])
    param_names = ("order", "interaction")

    def setup(self, order, interaction):
        self.xi = signs(N)
        self.time_sweeps(order, interaction)

    def time_sweeps(self, order, interaction):
        sample(self.xi, beta=1e-3, order=order, interaction=interaction, n_sweeps=100, record_every=100, rng=0)


class Fields:
    """Energies of a hundred states, fields of ten."""

    params = (["signs", "reals"], ["distinct", "rectified", "exp"])
    param_names = ("patterns", "interaction")

    def setup(self, patterns, interaction):
        self.xi = signs(N)
        self.p = self.xi * 1.25 if patterns == "reals" else self.xi
        self.time_energy(patterns, interaction), self.time_local_fields(patterns, interaction)

    def time_energy(self, patterns, interaction):
        energy(self.xi[:100], self.p, interaction=interaction)

    def time_local_fields(self, patterns, interaction):
        local_fields(self.xi[:10], self.p, interaction=interaction)


class Replicas:
    """Chains side by side: of single spins, of all at once, and of mean fields."""

    params = (["sequential", "parallel", "plefka"], [1, 16])
    param_names = ("dynamics", "replicas")

    def setup(self, dynamics, replicas):
        self.xi = signs(N)
        self.time_sweeps(dynamics, replicas)

    def time_sweeps(self, dynamics, replicas):
        sample(self.xi, beta=2.0, init="patterns", dynamics=dynamics, n_replicas=replicas, n_sweeps=50, rng=0)


class Rules:
    """Couplings, and the curve of what they hold."""

    params = (["hebb", "pinv", "storkey"],)
    param_names = ("rule",)

    def setup(self, rule):
        self.xi = signs(60)
        self.time_weights(rule), self.time_capacity_curve(rule)

    def time_weights(self, rule):
        hopfield_weights(self.xi, rule=rule)

    def time_capacity_curve(self, rule):
        capacity_curve(n_features=200, loads=[0.1], rule=rule, n_trials=3, rng=0)


class Searches:
    """What stands on the sweeps."""

    def setup(self):
        self.xi = signs(N)
        self.J = (self.xi.T.astype(float) @ self.xi) / N
        rng = np.random.default_rng(1)
        self.states = np.where(rng.random(self.xi.shape) < 0.1, -self.xi, self.xi)
        self.time_recall(), self.time_anneal(), self.time_tempering(), self.time_pairwise()

    def time_recall(self):
        recall(self.states, self.xi)

    def peakmem_recall(self):
        recall(self.states, self.xi)

    def time_anneal(self):
        anneal(self.xi, order=2, n_sweeps=200, rng=0)

    def time_tempering(self):
        parallel_tempering(self.xi[:5], betas=np.linspace(0.9, 1.2, 8), order=2, n_sweeps=200, n_burn=0, rng=0)

    def time_pairwise(self):
        sample_pairwise(self.J, beta=1.0, n_sweeps=200, rng=0)
