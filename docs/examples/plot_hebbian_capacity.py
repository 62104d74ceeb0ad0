"""
How many patterns fit into a continuous Hopfield network
========================================================

A continuous Hopfield network pulls a query into one of the valleys of its energy. How cold it must be for each pattern
to have a valley of its own, and how many patterns it then holds, against what theory promises.
"""

# %%
# Valleys
# -------
# Seven patterns in the plane. At a low inverse temperature beta the energy has one valley, and every query ends at the
# mean of all patterns. As beta grows valleys split: first of groups, then of patterns. Colours of the tracks tell what
# :func:`retrieve` says of their ends: the mean of all patterns, of some, or one. Long patterns win: those within the
# hull of the others have no valley at any beta, which is why patterns are usually brought to one length.

import matplotlib.pyplot as plt
import numpy as np

from numcore.algorithms.hebbian import capacity_bound, hopfield_energy, retrieval_bounds, retrieve

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

X = np.array([[-0.9, 0.45], [-0.6, 0.8], [-0.35, 0.55], [0.85, 0.6], [0.95, 0.2], [0.1, -0.95], [-0.75, -0.7]])
side = np.linspace(-1.35, 1.35, 181)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
angles = np.linspace(0, 2 * np.pi, 29)[:-1]
starts = 1.3 * np.column_stack([np.cos(angles), np.sin(angles)])
colours = {"global": "#ffffff", "metastable": "#fdae6b", "single": "#7fff9f"}

figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), sharex=True, sharey=True)
for ax, beta in zip(axes, (0.8, 4.0, 25.0), strict=True):
    energies = hopfield_energy(grid, X, beta=beta).reshape(181, 181)
    ax.contourf(side, side, np.sqrt(energies - energies.min()), 24, cmap="viridis")
    tracks = [starts]
    for _ in range(60):
        tracks.append(retrieve(tracks[-1], X, beta=beta).states)
    ends = retrieve(tracks[-1], X, beta=beta)
    for track, kind in zip(np.stack(tracks, axis=1), ends.kind, strict=True):
        ax.plot(*track.T, color=colours[kind], linewidth=0.8)
    ax.plot(*X.T, "o", color="black", markersize=4)
    for kind in colours:
        found = ends.kind == kind
        if found.any():
            ax.plot(*ends.states[found].T, "*", color=colours[kind], markersize=10, markeredgecolor="black", label=kind)
    ax.set(title=f"beta = {beta:g}", xticks=[], yticks=[], aspect="equal")
    ax.legend(loc="lower right", fontsize=8, framealpha=0.85)
plt.show()

# %%
# Exponentially many
# ------------------
# Now patterns drawn at random from a sphere of radius ``sqrt(d - 1)``, at beta 1. Queries are patterns with noise of a
# fifth of their length; they count as found if in the end nine tenths of the weight are on their pattern. The dashed
# lines are the shares of patterns to which the separation theorem promises a fixed point
# (:func:`retrieval_bounds`), as far as it can be asked of that many.


def sphere(count, d, rng):
    points = rng.normal(size=(count, d))
    return (np.sqrt(d - 1) * points / np.linalg.norm(points, axis=1)[:, None]).astype(np.float32)


def success(patterns, rng, n_queries=200):
    which = rng.integers(len(patterns), size=n_queries)
    state = patterns[which] + 0.2 * sphere(n_queries, patterns.shape[1], rng)
    for _ in range(8):
        result = retrieve(state, patterns)
        state = result.states
    return np.mean((result.top_index == which) & (result.top_weight > 0.9))


rng = np.random.default_rng(0)
dims = (8, 11, 14, 17, 20)
counts = np.unique(np.geomspace(2, 30_000, 24).round().astype(int))
shares, promised = np.zeros((2, len(dims), len(counts)))
for row, d in enumerate(dims):
    for column, count in enumerate(counts):
        sets = [sphere(count, d, rng) for _ in range(min(15, 1 + 500 // count))]
        shares[row, column] = np.mean([success(patterns, rng) for patterns in sets])
        if count < 1000:
            bounds = [retrieval_bounds(patterns, beta=1.0) for patterns in sets]
            promised[row, column] = np.mean([bound.separated.mean() for bound in bounds])
half = np.array([np.exp(np.interp(-0.5, -share, np.log(counts))) for share in shares])

# %%
# Where half of the queries are found marks the capacity (dots on the right). It grows by the same factor with each
# feature; that of a classical network, whose memory is a matrix of weights, by 0.138 patterns a feature. The theorem of
# exponential storage (:func:`capacity_bound`) is a lower bound, for all patterns at once. On this sphere it asks for
# some forty features before it promises more than one; on one of three times the radius, which is like a beta of nine,
# it promises exponentially many from the start, where the true capacity is far beyond what can be simulated.

rate, start = np.polyfit(dims, np.log(half), 1)
axis = np.arange(5, 101)
theorem = {k: np.array([capacity_bound(dim=d, radius=k, failure=0.5)[1] for d in axis]) for k in (1.0, 3.0)}
print("half of the queries are found among", ", ".join(f"{k:,.0f} (d = {d})" for d, k in zip(dims, half, strict=True)))
print(f"a factor of {np.exp(rate):.2f} a feature; the theorem's is {theorem[1.0][-1] / theorem[1.0][-2]:.2f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.7), width_ratios=(1.3, 1))
shades = plt.get_cmap("plasma")(np.linspace(0.05, 0.85, len(dims)))
for d, shade, share, promise in zip(dims, shades, shares, promised, strict=True):
    left.semilogx(counts, share, "o-", color=shade, markersize=3.5, linewidth=1.3)
    left.semilogx(counts[counts < 1000], promise[counts < 1000], "--", color=shade, linewidth=1)
    left.annotate(f"d = {d}", (half[dims.index(d)], 0.5), (5, 8), textcoords="offset points", color=shade)
left.set(xlabel="number of patterns", ylabel="share of queries whose pattern is found", ylim=(-0.02, 1.13))
left.plot([], [], "o-", color="0.4", markersize=3.5, label="found")
left.plot([], [], "--", color="0.4", label="promised")
left.legend(frameon=False, loc="upper right", ncols=2)
right.semilogy(axis, np.exp(start + rate * axis), color="0.6", linewidth=1)
right.scatter(dims, half, color=shades, s=40, zorder=3)
for k, style in ((1.0, "-"), (3.0, "--")):
    seen = theorem[k] >= 2
    right.semilogy(axis[seen], theorem[k][seen], style, color="#2171b5", label=f"theorem, radius {k:g} sqrt(d - 1)")
right.semilogy(axis, 0.138 * axis, color="#238b45", linestyle=":", label="classical network")
right.set(xlabel="number of features d", ylabel="number of patterns", ylim=(0.5, 1e9))
right.legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1.02, 0.38))
plt.show()

# %%
# The separation theorem, asked of each pattern, sees a third of what 8 features hold, and one in some hundreds of what
# 20 do: it reckons with the worst place that all other patterns could take.
