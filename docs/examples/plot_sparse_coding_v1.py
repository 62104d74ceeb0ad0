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
# Three hundred patches of 12 x 12 pixels, over 256 products of cosines. For each penalty, 200 steps of proximal
# gradient from zero, as in the study, at seven regularisations. The error is the part of the patches' energy that is
# not rebuilt.
#
# With as many coefficients, CEL0 rebuilds most, and l1 least. An l1 code that is allowed few coefficients has shrunk
# them all; what the other penalties gain is mostly that they do not.

china, flower = load_sample_images().images
patches = extract_patches(china, size=12, n=300, rng=0)
pixels, waves = np.arange(12) + 0.5, np.arange(16)
cosines = np.cos(np.pi / 16 * np.outer(waves, pixels))
cosines[1:] -= cosines[1:].mean(axis=1, keepdims=True)
dictionary = np.kron(cosines, cosines)
dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)


def error_and_sparsity(X, D, **options):
    """The part of the energy that is missing, and the mean number of coefficients."""
    result = sparse_encode(X, D, **options)
    return np.sum((X - result.code @ D) ** 2) / np.sum(X**2), result.n_nonzero.mean()


ranges = {
    "l1": (0.03, 0.3),
    "scad": (0.03, 0.3),
    "mcp": (0.03, 0.3),
    "l0": (0.001, 0.04),
    "half": (0.003, 0.08),
    "log_sum": (0.003, 0.06),
    "two_thirds": (0.006, 0.1),
    "cel0": (0.001, 0.04),
}
curves = {}
for penalty, (least, most) in ranges.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are what is asked for
        curves[penalty] = np.array(
            [
                error_and_sparsity(
                    patches,
                    dictionary,
                    penalty=penalty,
                    reg=reg,
                    solver="proximal_gradient",
                    restarts="none",
                    max_iter=200,
                )
                for reg in np.geomspace(least, most, 7)
            ]
        )

figure, axes = plt.subplots(figsize=(6, 4))
for penalty, curve in curves.items():
    axes.plot(curve[:, 1], curve[:, 0], "o-", markersize=3, label=penalty.replace("_", " "))
axes.set(xlabel="coefficients a patch", ylabel="relative squared error", xlim=(2, 22), ylim=(0.1, 0.8))
axes.legend(frameon=False)

print("error at 10 coefficients a patch:")
for penalty, curve in sorted(curves.items(), key=lambda item: np.interp(10, item[1][::-1, 1], item[1][::-1, 0])):
    print(f"  {penalty:10s} {np.interp(10, curve[::-1, 1], curve[::-1, 0]):.3f}")

# %%
# Dictionaries learned with l1 and with CEL0
# ------------------------------------------
# Now 20,000 patches of both photographs, and 256 atoms that are learned from them, online, in batches of 512. The
# regularisations are such that both codes have about seven coefficients. On patches that were not learned from, CEL0
# leaves little more than half of the error.

X = np.concatenate([extract_patches(image, size=12, n=10_000, rng=0) for image in (china, flower)])
X = np.random.default_rng(0).permutation(X)
X_test = np.concatenate([extract_patches(image, size=12, n=1_000, rng=1) for image in (china, flower)])

learned = {}
for penalty, reg in {"l1": 0.2, "cel0": 0.01}.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # three epochs are enough to see the atoms
        learner = DictionaryLearner(256, penalty=penalty, reg=reg, max_iter=3, random_state=0).fit(X)
    error, count = error_and_sparsity(X_test, learner.components_, penalty=penalty, reg=reg)
    print(f"{penalty:5s} {count:.1f} coefficients a patch, relative squared error {error:.3f}")
    learned[penalty] = learner

figure, axes = plt.subplots(1, 2, figsize=(8, 4.2))
for axis, (penalty, learner) in zip(axes, learned.items(), strict=True):
    DictionaryDisplay.from_estimator(learner, patch_shape=12, ax=axis)
    axis.set_title(f"learned with {penalty}, the most used first")

# %%
# Most atoms are edges and bars at a place, with an orientation and a frequency of their own: Gabor functions, as
# neurons of the primary visual cortex prefer them. Stripes are the lattices of the pavilion.
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
