r"""
One wrong coordinate: which sketches keep all of them
=====================================================

Solve least squares from a sketch, :math:`x' = \arg\min \|S A x - S b\|`, and x' is close to the solution x* in length.
Whether each *coordinate* is close is another question. For dense sketches, with m rows for d columns,

.. math:: \|x' - x^*\|_\infty \lesssim \sqrt{\frac{\log d}{m}} \; \|A x^* - b\| \; \|A^\dagger\| ,

a factor of almost :math:`\sqrt d` less than the error's length: it is spread over all coordinates. A CountSketch, which
adds every row to one bucket with a random sign, makes errors no longer than theirs, but may put all of it into one
place.
"""

# %%
# A matrix that shows it
# ----------------------
# Of n = 128 d rows of A, d are those of the identity, all others zero; b is :math:`1 / \sqrt d` on d of the zero rows.
# So :math:`x^* = 0`, and the residual has length 1. When CountSketch drops a row of b into the bucket of a row of A,
# that coordinate of x' is wrong by :math:`1 / \sqrt d`. With d = 64 and m = 32 d buckets there are two such collisions
# in the mean.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from numcore.algorithms.sketching import lstsq

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
# it warns that a CountSketch of so few rows may lose a direction
warnings.filterwarnings("ignore", message="a countsketch of")

ratio = 32
COLOURS = {
    "gaussian": "#000000",
    "srht": "#0072B2",
    "block_srht": "#009E73",
    "sparse_sign": "#E69F00",
    "countsketch": "#D55E00",
}


def problem(d, rng):
    n = 128 * d
    places = rng.permutation(n)[: 2 * d]
    A = csr_array((np.ones(d), (places[:d], np.arange(d))), shape=(n, d))
    b = np.zeros(n)
    b[places[d:]] = d**-0.5
    return A, b


def sketched(kind, d, seed):
    A, b = problem(d, np.random.default_rng(seed))
    return lstsq(A, b, method="sketch_solve", sketch=kind, sketch_size=ratio * d, rng=seed).x


d = 64
errors = {kind: np.array([sketched(kind, d, seed) for seed in range(20)]) for kind in COLOURS}

# %%
# On the left, the coordinates of one x' each: CountSketch makes few errors, but large ones. In the middle and on the
# right, twenty draws of every sketch. The dotted line is where theory has the largest coordinate of a
# Gaussian sketch with a probability of 95 %.

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.2), width_ratios=[1.3, 1, 1])
draw = int(np.argmax(np.abs(errors["countsketch"]).max(axis=1)))
for shift, kind in ((-0.2, "gaussian"), (0.2, "countsketch")):
    left.vlines(np.arange(d) + shift, 0, errors[kind][draw], color=COLOURS[kind], linewidth=1.5, label=kind)
left.set(xlabel="coordinate", ylabel="x' - x*")
left.legend(frameon=False)

rng = np.random.default_rng(0)
for place, (kind, x) in enumerate(errors.items()):
    across = place + rng.uniform(-0.2, 0.2, len(x))
    for ax, values in (
        (middle, np.linalg.norm(x, axis=1)),
        (right, np.sqrt(d) * np.abs(x).max(axis=1)),
    ):
        ax.scatter(across, values, s=10, color=COLOURS[kind], alpha=0.7)
        ax.hlines(np.median(values), place - 0.3, place + 0.3, color=COLOURS[kind])


def predicted(d, m, delta=0.05):
    """sqrt(d) times what the largest of d independent N(0, 1 / (m - d - 1)) exceeds with probability delta."""
    return np.sqrt(d / (m - d - 1)) * ndtri((1 + (1 - delta) ** (1 / d)) / 2)


right.axhline(predicted(d, ratio * d), color="0.4", linestyle=":", linewidth=1)
middle.set(title="length of the error", ylim=(0, None))
right.set(title="largest coordinate, times sqrt(d)", ylim=(0, None))
for ax in (middle, right):
    ax.set_xticks(range(len(COLOURS)), list(COLOURS), rotation=35, ha="right")

# %%
# The same in numbers: medians over the draws, and the greatest.

print(f"{'':14}{'length':>8}{'sqrt(d) * largest coordinate':>32}")
for kind, x in errors.items():
    tops = np.sqrt(d) * np.abs(x).max(axis=1)
    print(f"{kind:14}{np.median(np.linalg.norm(x, axis=1)):8.3f}{np.median(tops):16.3f}, at most {tops.max():.3f}")

# %%
# More columns
# ------------
# With 32 rows of the sketch for each column, the length of the error is the same for every d. Collisions become more
# frequent: one for every 32 columns in the mean. From some d on, a CountSketch is almost sure to have a coordinate
# wrong by :math:`1/\sqrt d`. Eight signs a column instead of one (``sparse_sign``) divide what a collision does by
# eight. Points are medians of ten draws.

sizes = (16, 32, 64, 128)
figure, ax = plt.subplots(figsize=(6, 3.4))
for kind in ("srht", "block_srht", "sparse_sign", "countsketch"):
    tops = [np.median([np.sqrt(d) * np.abs(sketched(kind, d, seed)).max() for seed in range(10)]) for d in sizes]
    ax.semilogx(sizes, tops, marker="o", markersize=4, color=COLOURS[kind], label=kind)
gaussian = [predicted(d, ratio * d, delta=0.5) for d in sizes]
ax.semilogx(sizes, gaussian, color="0.4", linestyle=":", label="gaussian, predicted")
ax.set(xlabel="d", ylabel="sqrt(d) * largest coordinate", ylim=(0, None))
ax.set_xticks(sizes, [str(d) for d in sizes])
ax.minorticks_off()
ax.legend(frameon=False)

# %%
# ``embedding_size(n, d, eps=..., guarantee="linf")`` gives the rows that a dense sketch needs for a largest coordinate
# of :math:`\epsilon / \sqrt d`. Unless told otherwise, ``lstsq`` takes a dense sketch for dense data, and eight signs a
# column for sparse.

# sphinx_gallery_thumbnail_number = 1
