"""
Pruning a net on the digits without training it again
=====================================================

A net is trained once, then most of its weights are set to zero in one go and never trained again. Which weights should
go, and can those that stay make up for it? We compare dropping the smallest weights with M-FAC, which estimates from
gradients what each removal costs and corrects the rest.
"""

# %%
# Three nets
# ----------
# Scikit-learn's handwritten digits, 30 % held out; three nets 64-64-64-10 from three seeds, each trained for 40 epochs.
# Only their 8,832 weights are pruned, not the biases.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from numcore import autodiff as ad
from numcore.algorithms.curvature import PruningCurveDisplay, prune_magnitude, prune_mfac, prune_sap

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

images, labels = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(images / 16, labels, test_size=0.3, random_state=0, stratify=labels)

net = ad.nn.MLP([64, 64, 64, 10])
layers = [part for part in net.layout if part.name.endswith("weight")]
places = np.concatenate([np.arange(part.slice.start, part.slice.stop) for part in layers])


def train(rng):
    """He's normal weights, biases 0, then Adam."""
    theta, step, opt = np.zeros(net.n_params), np.empty(net.n_params), ad.optim.Adam(1e-3)
    for part in layers:
        theta[part.slice] = np.sqrt(2 / part.shape[0]) * rng.standard_normal(part.shape).ravel()
    for _ in range(40):
        order = rng.permutation(len(y))
        for start in range(0, len(y), 64):
            rows = order[start : start + 64]
            net.loss_and_grad(theta, X[rows], y[rows], out=step)
            opt.step(theta, step)
    return theta


def with_weights(theta, weights):
    """The net's parameters, with other weights and the same biases."""
    theta = theta.copy()
    theta[places] = weights
    return theta


def accuracy(theta, weights):
    """On the digits held out."""
    return np.mean(net(with_weights(theta, weights), X_test).argmax(axis=1) == y_test)


nets = [train(np.random.default_rng(seed)) for seed in range(3)]
dense = np.mean([accuracy(theta, theta[places]) for theta in nets])
print(f"dense: {dense:.3f}")

# %%
# Three ways to prune
# -------------------
# - **Global magnitude pruning** drops the smallest weights, wherever they are.
# - **M-FAC** draws 256 training examples, takes the gradient of each one's loss, and from these the inverse Fisher
#   matrix. It drops the weights of smallest ``w^2 / (2 [F^-1]_ww)`` and corrects the others by ``F^-1``. That can be
#   done in several passes, each with new examples at the weights that the pass before has left. As in the paper,
#   corrections ignore that many weights go at once; with ``update="joint"`` they do not.
# - **SAP** is not told a sparsity. The PQ index of each layer says how many of its weights can go; the smallest of them
#   do, round after round. It is made to be alternated with training; here it has to do without.


def gradients(theta, rng):
    """What M-FAC asks for: gradients of single examples at given weights, drawn afresh in each call."""

    def at(weights):
        rows = rng.choice(len(y), 256, replace=False)
        return net.per_example_grads(with_weights(theta, weights), X[rows], y[rows])[1][:, places]

    return at


def mfac(theta, sparsity, passes, update="independent"):
    at = gradients(theta, np.random.default_rng(100))
    return prune_mfac(theta[places], at, sparsity, n_recompute=passes, update=update)


def sap(theta, rounds):
    """All rounds, by layer."""
    ends = np.cumsum([np.prod(part.shape) for part in layers])
    parts = [slice(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
    results = [prune_sap(theta[places], groups=parts)]
    while len(results) < rounds:
        results.append(prune_sap(results[-1].weights, mask=results[-1].mask, groups=parts))
    return results


targets = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
methods = {
    "global magnitude": lambda theta: [prune_magnitude(theta[places], s) for s in targets],
    "M-FAC, 1 pass": lambda theta: [mfac(theta, s, 1) for s in targets],
    "M-FAC, 4 passes": lambda theta: [mfac(theta, s, 4) for s in targets],
    "M-FAC, 16 passes": lambda theta: [mfac(theta, s, 16) for s in targets],
    "16 passes, joint": lambda theta: [mfac(theta, s, 16, "joint") for s in targets],
}
results, scores = {}, {}
for name, method in methods.items():
    runs = [(theta, result) for theta in nets for result in method(theta)]
    results[name] = [result for _, result in runs]
    scores[name] = [accuracy(theta, result.weights) for theta, result in runs]

# %%
# What is left of the accuracy
# ----------------------------

print(f"{'sparsity':<18}" + "".join(f"{s:>7.2f}" for s in targets))
for name, values in scores.items():
    print(f"{name:<18}" + "".join(f"{v:>7.3f}" for v in np.reshape(values, (3, -1)).mean(axis=0)))

rounds = [sap(theta, 50) for theta in nets]
sap_sparsity = np.mean([[result.sparsity for result in one] for one in rounds], axis=0)
sap_scores = np.mean(
    [[accuracy(theta, r.weights) for r in one] for theta, one in zip(nets, rounds, strict=True)], axis=0
)
for k in (0, 9, 24, 49):
    print(f"SAP, round {k + 1:>2}: sparsity {sap_sparsity[k]:.3f}, accuracy {sap_scores[k]:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.5), width_ratios=(3, 2))
display = PruningCurveDisplay.from_results(results, scores, baseline=dense, ylabel="test accuracy", ax=left)
left.plot(sap_sparsity, sap_scores, color="0.35", linewidth=1, linestyle="--", label="SAP by layer, 50 rounds")
left.set(title="mean of three nets; bands: least and greatest", xlim=(0.48, 0.97), ylim=(0, 1))
left.legend(frameon=False, fontsize=8, loc="lower left")

right.set_title("weights of the first layer that stay, at 90 %")
for k, name in enumerate(("global magnitude", "M-FAC, 16 passes")):
    masks = [result.mask[: 64 * 64] for result in results[name] if round(result.sparsity, 3) == 0.9]
    kept = np.reshape(masks, (3, 8, 8, 64)).sum(axis=(0, 3))  # by pixel
    rim = kept[:, [0, 7]].sum() / kept.sum()
    print(f"{name}: {rim:.1%} of them are weights of the first and last column of pixels")
    right.imshow(kept, extent=(9 * k, 9 * k + 8, 0, 8), cmap="Greys", vmin=0, vmax=48)
    right.text(9 * k + 4, -0.3, name, ha="center", va="top")
right.set(xlim=(0, 17), ylim=(-1.5, 8))
right.axis("off")
plt.show()

# %%
# At half of the weights M-FAC has lost about a point with one pass and less with more, magnitude four. Beyond,
# magnitude fails fast. So does M-FAC with one pass: the quadratic model that it rests on does not reach so far.
# Recomputing it on the way is what makes the difference. With 16 passes nine tenths of the weights can go for less than
# six points of accuracy, and joint corrections give some of these back.
#
# SAP by layer fares much like magnitude: within a layer it drops the same weights. What it adds is an answer to how far
# to go, and the training in between.
#
# On the right, each square is a pixel, the darker the more of its weights stay. A quarter of all pixels are in the
# first and last column, which are blank in nearly all images: nothing ever moved their weights from where they started.
# Magnitude keeps them nearly as often as others. M-FAC sees that the loss does not depend on them.

# sphinx_gallery_thumbnail_number = 1
