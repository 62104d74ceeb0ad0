"""
Learning from poor examples, with and without a teacher
=======================================================

A memory that is never shown its archetypes can still recall them from noisy examples. With a teacher, who says which
examples belong together, their mean is stored; without, every example. What do labels buy as the examples get worse?
"""

# %%
# Retrieval against the quality
# -----------------------------
# Examples of quality r agree with their archetype in a share ``(1 + r) / 2`` of the features. We give 20 examples of
# each of 800 archetypes with 200 features, learn them either way with an energy of order 3, start at an archetype and
# let the memory run at inverse temperature 5. The lines are the theory of many features.

import matplotlib.pyplot as plt
import numpy as np

from numcore.algorithms.hebbian import (
    detection_threshold,
    hebbian_patterns,
    make_archetypes,
    make_examples,
    sample,
    self_consistency,
)

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

N, K, M, beta = 200, 800, 20, 5.0
qualities = np.array([0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8])
colours = {"supervised": "#d94801", "unsupervised": "#2171b5"}


def overlap(quality, learning, seed):
    rng = np.random.default_rng([seed, round(1000 * quality)])
    xi = make_archetypes(K, N, rng=rng)
    stored = hebbian_patterns(make_examples(xi, M, quality=quality, rng=rng), learning=learning, order=3)
    run = sample(
        stored.patterns,
        weights=stored.weights,
        beta=beta,
        order=3,
        init=xi[:4],
        n_replicas=4,
        probes=xi[:4],
        n_sweeps=60,
        n_burn=30,
        rng=rng,
    )
    return np.diagonal(run.overlaps, axis1=1, axis2=2).mean()


simulated = {
    learning: np.array([[overlap(r, learning, seed) for seed in range(5)] for r in qualities]) for learning in colours
}
fine = np.linspace(0.02, 1, 80)
theory = {
    learning: [
        self_consistency(order=3, beta=beta, load=K / N**2, quality=r, n_examples=M, learning=learning).m for r in fine
    ]
    for learning in colours
}
for learning, values in simulated.items():
    print(
        f"{learning:<13}" + " ".join(f"{r:.2f}: {m:.3f}" for r, m in zip(qualities, values.mean(axis=1), strict=True))
    )

# %%
# The poorest examples that still do
# ----------------------------------
# For how poor examples does one sweep from the archetype keep an overlap of 0.9? With a teacher that depends on the
# number of examples alone, once N is large: their mean has to be worth something. Without, the limit falls with N, as
# long as there are far fewer archetypes than ``N^2``: here as many as features.

counts = np.unique(np.geomspace(5, 2000, 16).round().astype(int))
sizes = (100, 1000, 10000)
limits = {
    (learning, size): [
        detection_threshold(order=3, n_features=size, n_patterns=size, n_examples=m, learning=learning) for m in counts
    ]
    for learning in colours
    for size in sizes
}

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
for learning, colour in colours.items():
    values = simulated[learning]
    left.plot(fine, theory[learning], color=colour, label=f"{learning}, theory")
    error = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    left.errorbar(qualities, values.mean(axis=1), error, fmt="o", color=colour, markersize=4, capsize=2)
    for size, style in zip(sizes, (":", "--", "-"), strict=True):
        label = f"{learning}, N = K = {size:,}"
        right.loglog(counts, limits[learning, size], style, color=colour, label=label)
left.set(xlabel="quality r of the examples", ylabel="overlap with the archetype", ylim=(-0.02, 1.02))
left.set_title(f"{M} examples each of {K} archetypes, N = {N}")
left.legend(frameon=False, loc="lower right")
right.set(xlabel="examples of each archetype", ylabel="least quality", title="overlap 0.9 after one sweep")
right.legend(frameon=False, fontsize=7.5, loc="lower left")
plt.show()

# %%
# Down to quality 0.5 labels hardly matter. Below, the noise of all the examples of other archetypes grows as the
# sixth power of 1 / r without a teacher, and between 0.42 and 0.41 the theory loses the archetypes at once. With a
# teacher the overlap fades with what the mean of 20 examples is worth.
#
# Simulations with 200 features follow, but blur the leap. Where theory has no retrieval, an overlap of about 0.3
# stays: these memories are cold enough to freeze near where they start, and they started at the archetype.
#
# On the right, the price of having no labels is paid in archetypes and examples but falls with size. From 2,000
# examples of each a teacher's memory learns down to quality 0.04 at any size; without labels the limit is 0.18 with
# 100 features and 0.08 with 10,000.

# sphinx_gallery_thumbnail_number = 1
