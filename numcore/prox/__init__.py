"""Proximal operators and projections: ``prox(v, step) = argmin_x |x - v|^2 / (2 step) + reg phi(x)``, exactly.

Operators of single entries (``l1`` to ``huber``) broadcast; those of vectors, and projections, act along the last axis.
``t`` stands for ``step reg``. Where minimisers tie, the result is 0 (or the smaller), and zeros are +0.0, so results do
not depend on the backend. For compiled loops the same operators are scalar functions, in ``numcore.accel.cpu.prox``.
"""

from numcore.prox._elementwise import (
    cel0,
    elastic_net,
    half,
    huber,
    l0,
    l1,
    log_sum,
    lq,
    mcp,
    scad,
    two_thirds,
)
from numcore.prox._penalties import penalty_value
from numcore.prox._projections import (
    project_box,
    project_l1_ball,
    project_l2_ball,
    project_linf_ball,
    project_metric_ball,
    project_nonnegative,
    project_psd,
    project_simplex,
    project_spectrahedron,
    project_top_k,
    project_unit_rows,
)
from numcore.prox._vectors import group_l2, linf, nuclear, sorted_l1, sparse_group, tree, tv1d

__all__ = [
    "l1",
    "elastic_net",
    "l0",
    "half",
    "two_thirds",
    "lq",
    "mcp",
    "scad",
    "cel0",
    "log_sum",
    "huber",
    "group_l2",
    "sparse_group",
    "tree",
    "linf",
    "sorted_l1",
    "nuclear",
    "tv1d",
    "penalty_value",
    "project_simplex",
    "project_l1_ball",
    "project_l2_ball",
    "project_linf_ball",
    "project_box",
    "project_nonnegative",
    "project_top_k",
    "project_unit_rows",
    "project_psd",
    "project_spectrahedron",
    "project_metric_ball",
]
