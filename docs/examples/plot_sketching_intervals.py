r"""
Intervals around a sketched solution
====================================

One read of the data, a small problem solved, and for every coefficient an interval that holds the exact least-squares
coefficient with the probability that one asks for: ``lstsq(A, b, method="sketch_solve", certificate="t")``. For a
Gaussian sketch this is no approximation. With :math:`C = ((SA)^T SA)^{-1}` and the residual variance :math:`s^2` of the
sketched problem,

.. math:: \frac{x'_i - x^*_i}{s \sqrt{C_{ii}}} \sim t_{m - d}

exactly, whatever the data. Nothing of the data is assumed to be random: the sketch is what is random, and we drew it.
Here the claim is put to the test on real data, and for other kinds of sketch.
"""

# %%
# One sketch
# ----------
# The data are scikit-learn's 442 patients with diabetes: ten measurements, a constant, and the progress of the disease
# after a year. A sketch of 120 rows:

import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import binom
from sklearn.datasets import load_diabetes

from numcore.algorithms.sketching import lstsq

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

data = load_diabetes()
names = [*data.feature_names, "constant"]
A = np.column_stack([data.data * np.sqrt(len(data.data)), np.ones(len(data.data))])  # columns of unit variance
b = data.target
n, d = A.shape
m = 120

exact = lstsq(A, b).x
one = lstsq(A, b, method="sketch_solve", sketch_size=m, certificate="t", rng=0)

figure, ax = plt.subplots(figsize=(7, 3))
low, high = one.certificate.intervals.T
ax.vlines(range(d), low, high, color="#0072B2", linewidth=5, alpha=0.35, label="95 % interval")
ax.plot(range(d), one.x, "o", color="#0072B2", markersize=4, label="sketched")
ax.plot(range(d), exact, "_", color="black", markersize=12, label="exact")
ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
ax.set_xticks(range(d), names)
ax.set_ylabel("coefficient")
ax.legend(frameon=False)

# %%
# How often they hold
# -------------------
# A thousand sketches of each kind. Every point is a coefficient, its height the share of sketches whose interval held
# the exact value. The grey band is where 99 in 100 such points belong, if the intervals keep what they promise.

KINDS = {
    "gaussian": "#000000",
    "srht": "#0072B2",
    "block_srht": "#009E73",
    "sparse_sign": "#E69F00",
    "countsketch": "#D55E00",
}
DRAWS = 1000
# that a countsketch may lose a direction, or cover too little; that so small a sketch carries little information
warnings.filterwarnings("ignore", message="(.* countsketch |x may be wrong)")


def held(kind, seed):
    """Whether each interval holds the exact value, and whether the bound on the largest error holds."""
    found = lstsq(A, b, method="sketch_solve", sketch=kind, sketch_size=m, certificate="t", rng=seed)
    low, high = found.certificate.intervals.T
    return np.append((low <= exact) & (exact <= high), np.abs(found.x - exact).max() <= found.certificate.linf)


cover = {kind: np.mean([held(kind, seed) for seed in range(DRAWS)], axis=0) for kind in KINDS}

figure, ax = plt.subplots(figsize=(7, 3.2))
ax.axhspan(*(binom.ppf([0.005, 0.995], DRAWS, 0.95) / DRAWS), color="0.9")
ax.axhline(0.95, color="0.5", linewidth=0.8)
for place, (kind, shares) in enumerate(cover.items()):
    ax.plot(place + np.linspace(-0.3, 0.3, d), shares[:d], "o", color=KINDS[kind], markersize=4)
ax.set_xticks(range(len(KINDS)), list(KINDS))
ax.set(ylabel="share of intervals that hold", ylim=(None, 1))

# %%
# That ``block_srht`` covers a little more is no chance either: it draws its m rows out of 1024 without replacement, and
# errs less than a Gaussian sketch, by a factor of :math:`\sqrt{1 - m / 1024}`.
#
# ``certificate.linf`` bounds all coordinates at once: the widest half-width, at the level of Bonferroni's inequality.
# It should hold in at least 95 % of the draws, and holds in more, since only four coefficients here are so uncertain:

for kind, shares in cover.items():
    print(f"{kind:12} intervals {shares[:d].min():.3f} to {shares[:d].max():.3f}, all coordinates {shares[d]:.3f}")

# %%
# What they are not
# -----------------
# These intervals tell how far the sketched solution is from the solution of the *same data*. They say nothing of other
# patients. And they are wider than the statistician's: those have half-widths of about
# :math:`\|r\| / \sqrt n` for each :math:`\sqrt{(A^T A)^{-1}_{ii}}`, these :math:`\|r\| / \sqrt m`. So whoever wants all
# that the data know takes a precise method, which costs a few reads more, and no sketch error at all:

residual = b - A @ exact
statistical = np.sqrt(residual @ residual / (n - d) * np.diag(np.linalg.inv(A.T @ A)))
print(f"error of the sketch / statistical error: {np.median(one.certificate.stderr / statistical):.2f}")
print(f"sqrt(n / m):                             {np.sqrt(n / m):.2f}")
precise = lstsq(A, b, method="direct", certificate="aposteriori", rng=0)
print(f"direct: at most {precise.certificate.linf:.0e} from the exact coefficients")

# sphinx_gallery_thumbnail_number = 2
