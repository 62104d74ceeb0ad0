"""
Sparse codes of photographs beyond l1
=====================================

Rentzeperis, Calatroni, Perrinet and Prandi (2023) asked how a model of the primary visual cortex changes when its l1
penalty gives way to others, which do not shrink large coefficients. This page repeats the part of their study that two
photographs allow. First, over one fixed dictionary: how well can patches be rebuilt from how many coefficients? Then,
with dictionaries learned under l1 and under CEL0: what do the atoms look like, and which orientations do they prefer?
"""

# %%
# The penalties, by their operators
# ---------------------------------
# A step of proximal gradient moves the code against the gradient and then applies the penalty's operator to every
# coefficient. All of them send small values to zero. They differ in what they do to large ones: l1 takes the same from
# all, scad and the minimax concave penalty (mcp) let the largest pass, and the others jump, so that no coefficient is
# small.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from numcore.algorithms.sparse_coding import (
    DictionaryDisplay,
    DictionaryLearner,
    OrientationDisplay,
    ProxDisplay,
    extract_patches,
    receptive_fields,
    sparse_encode,
)
from numcore.results import ConvergenceWarning

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
ProxDisplay.from_penalties(["l1", "scad", "mcp", "cel0"], ax=axes[0])
ProxDisplay.from_penalties(["l1", "log_sum", "two_thirds", "half", "l0"], ax=axes[1])
axes[0].set_title("continuous")
axes[1].set(title="with jumps", ylabel="")

# %%
# Error against sparsity
# ----------------------
# Two hundred patches of 12 x 12 pixels, over 256 products of cosines. For each penalty, 200 steps of proximal
# gradient from zero, as in the study, at four regularisations. The error is the part of the patches' energy that is
# not rebuilt.
#
# With as many coefficients, CEL0 rebuilds most, and l1 least. An l1 code that is allowed few coefficients has shrunk
# them all; what the other penalties gain is mostly that they do not.

china, flower = load_sample_images().images
patches = extract_patches(china, size=12, n=200, rng=0)
cosines = np.cos(np.pi / 16 * np.outer(np.arange(16), np.arange(12)))
cosines[1:] -= cosines[1:].mean(axis=1, keepdims=True)
dictionary = np.kron(cosines, cosines)
dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)


def error_and_sparsity(X, D, **options):
    """The part of the energy that is missing, and the mean number of coefficients."""
    result = sparse_encode(X, D, **options)
    return np.sum((X - result.code @ D) ** 2) / np.sum(X**2), result.n_nonzero.mean()


ranges = {  # regularisations that leave about 4 to 20 coefficients
    "l1": (0.11, 0.22),
    "scad": (0.11, 0.22),
    "mcp": (0.095, 0.21),
    "l0": (0.0016, 0.0053),
    "log_sum": (0.0095, 0.021),
    "half": (0.0095, 0.026),
    "two_thirds": (0.0195, 0.047),
    "cel0": (0.0046, 0.023),
}
curves = {}
for penalty, (least, most) in ranges.items():
    options = {"penalty": penalty, "solver": "proximal_gradient", "restarts": "none", "max_iter": 200}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are what is asked for
        points = [error_and_sparsity(patches, dictionary, reg=reg, **options) for reg in np.geomspace(most, least, 4)]
    curves[penalty] = np.array(points)

at_ten = {penalty: np.interp(np.log(10), np.log(curve[:, 1]), curve[:, 0]) for penalty, curve in curves.items()}
best_last = sorted(at_ten, key=at_ten.__getitem__, reverse=True)

figure, axes = plt.subplots(figsize=(6, 4))
axes.axvline(10, color="0.85", linewidth=1, zorder=0)
for penalty in best_last:
    error, count = curves[penalty].T
    axes.semilogx(count, error, "o-", markersize=3, label=f"{penalty.replace('_', ' ')}, {at_ten[penalty]:.3f} at 10")
axes.set(xlabel="coefficients a patch", ylabel="relative squared error")
axes.set_xticks([4, 5, 7, 10, 15, 20], ["4", "5", "7", "10", "15", "20"])
axes.minorticks_off()
axes.legend(frameon=False, fontsize=8)

# %%
# Dictionaries learned with l1 and with CEL0
# ------------------------------------------
# Now 20,000 patches of both photographs, and 144 atoms that are learned from them, online, in batches of 512. The
# regularisations are such that both codes have between six and seven coefficients. On patches that were not learned
# from, CEL0 leaves less than two thirds of the error.

X = np.concatenate([extract_patches(image, size=12, n=10_000, rng=0) for image in (china, flower)])
X = np.random.default_rng(0).permutation(X)
X_test = np.concatenate([extract_patches(image, size=12, n=1_000, rng=1) for image in (china, flower)])

learned = {}
for penalty, reg in {"l1": 0.18, "cel0": 0.01}.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # two epochs are enough to see the atoms
        learner = DictionaryLearner(144, penalty=penalty, reg=reg, max_iter=2, random_state=0).fit(X)
    error, count = error_and_sparsity(X_test, learner.components_, penalty=penalty, reg=reg)
    print(f"{penalty:5s} {count:.1f} coefficients a patch, relative squared error {error:.3f}")
    learned[penalty] = learner

figure, axes = plt.subplots(1, 2, figsize=(8, 4.4))
for axis, (penalty, learner) in zip(axes, learned.items(), strict=True):
    DictionaryDisplay.from_estimator(learner, patch_shape=12, ax=axis)
    axis.set_title(f"learned with {penalty}, the most used first")

# %%
# Most atoms are edges and bars at a place, with an orientation and a frequency of their own: Gabor functions, as
# neurons of the primary visual cortex prefer them. Stripes are the lattices of the pavilion. Under CEL0, those used
# least are textures.
#
# Orientations
# ------------
# The orientation of an atom is that of its strongest wave; shown are those atoms whose energy has one preferred
# direction (selectivity above 0.5). Photographs of buildings are made of horizontals and verticals, and so are their
# atoms: 90 degrees is a wave that runs down the columns, which is a horizontal edge. With l1 more atoms are selective,
# and Gabor functions explain more of them.

figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
for axis, (penalty, learner) in zip(axes, learned.items(), strict=True):
    fields = receptive_fields(learner.components_, 12)
    OrientationDisplay.from_fields(fields, least=0.5, ax=axis)
    axis.set_title(f"{penalty}: {np.mean(fields.selectivity >= 0.5):.0%} of the atoms are selective")
    print(f"{penalty:5s} a Gabor function explains {np.median(fields.gabor_r2):.0%} of the median atom")
axes[1].set_ylabel("")
plt.show()
