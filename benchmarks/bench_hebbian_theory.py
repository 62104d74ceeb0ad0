"""Hebbian theory: single states, critical loads and whole phase diagrams."""

import numpy as np

from numcore.algorithms.hebbian import (
    critical_load,
    glass_transition,
    make_archetypes,
    mean_field,
    phase_diagram,
    self_consistency,
)


class State:
    """One point, away from where retrieval ends and next to it."""

    params = ([1, 20, 200], [0.3, 0.999], [2.0, float("inf")])
    param_names = ("n_examples", "share_of_critical_load", "beta")

    def setup(self, n_examples, share, beta):
        self.memory = {"order": 3, "beta": beta, "quality": 0.7, "n_examples": n_examples}
        self.load = share * critical_load(**self.memory)

    def time_self_consistency(self, n_examples, share, beta):
        self_consistency(load=self.load, **self.memory)

    def time_critical_load(self, n_examples, share, beta):
        critical_load(**self.memory)


class Diagram:
    """A grid of 50 x 50 on one thread: 30 s is what it may take."""

    timeout = 300
    params = ([2, 3, 4], [1, 20, 200])
    param_names = ("order", "n_examples")

    def setup(self, order, n_examples):
        limit = critical_load(order=order)
        self.grid = {"loads": np.linspace(0, 2 * limit, 50), "temperatures": np.linspace(0.02, 1.5, 50)}

    def time_phase_diagram(self, order, n_examples):
        phase_diagram(order=order, quality=0.7, n_examples=n_examples, **self.grid)


class Glass:
    """The transitions of the one-step glass."""

    params = ([3, 4], ["distinct", "full"])
    param_names = ("order", "interaction")

    def time_glass_transition(self, order, interaction):
        glass_transition(order=order, load=0.1, interaction=interaction)


class MeanField:
    """Magnetizations at low load."""

    params = ([2, 3, 4],)
    param_names = ("order",)

    def setup(self, order):
        self.patterns = make_archetypes(10 if order == 2 else 500, 300, rng=0)

    def time_mean_field(self, order):
        mean_field(self.patterns, beta=3.0, order=order)
