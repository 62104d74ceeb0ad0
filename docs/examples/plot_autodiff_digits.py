"""
A small net on the digits, and the curvature of its loss
========================================================

``numcore.autodiff`` differentiates NumPy code. This page trains a net with one hidden layer on scikit-learn's
handwritten digits, beside :class:`sklearn.neural_network.MLPClassifier` with the same net, optimizer, batch size and
number of epochs, and then looks at what only derivatives of second order show: the spectrum of the loss's Hessian.
"""

# %%
# The same problem for both
# -------------------------
# 1,797 images of 8 x 8 pixels, ten classes, a quarter held out. The net has 64 hidden units and 4,810 parameters.

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from numcore import autodiff as ad
from numcore.linalg import spectral_density

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

images, labels = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split((images / 16).astype(np.float32), labels, random_state=0, stratify=labels)
hidden, batch, epochs, rate = 64, 64, 60, 3e-3

# %%
# Training is a loop that one writes oneself
# ------------------------------------------
# A net is a layout over one flat vector of parameters ``theta``. A step is a gradient, written into a vector of ours,
# and an update of ``theta`` in place.

net = ad.nn.MLP([64, hidden, 10])
step, rng = np.empty(net.n_params, np.float32), np.random.default_rng(0)


def train():
    """Parameters, and the mean loss of each epoch."""
    theta, opt, curve = net.init(rng=0), ad.optim.Adam(rate), []
    for _ in range(epochs):
        order, total = rng.permutation(len(y)), 0.0
        for start in range(0, len(y), batch):
            rows = order[start : start + batch]
            value, _ = net.loss_and_grad(theta, X[rows], y[rows], out=step)
            opt.step(theta, step)
            total += value * len(rows)
        curve.append(total / len(y))
    return theta, curve


train()  # once for nothing: with Numba, the first call compiles
start = time.perf_counter()
theta, curve = train()
ours = time.perf_counter() - start
accuracy = np.mean(net(theta, X_test).argmax(1) == y_test)

peer = MLPClassifier((hidden,), alpha=0.0, batch_size=batch, learning_rate_init=rate, max_iter=epochs, random_state=0)
peer.set_params(n_iter_no_change=epochs)  # all epochs, as above
start = time.perf_counter()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # it would go on
    peer.fit(X, y)
theirs = time.perf_counter() - start

print(f"numcore.autodiff: accuracy {accuracy:.3f}, {ours:.2f} s")
print(f"MLPClassifier:    accuracy {peer.score(X_test, y_test):.3f}, {theirs:.2f} s, {theirs / ours:.1f} times as long")

# %%
# The Hessian, by its products
# ----------------------------
# The Hessian of the mean loss has 4,810 rows; we never form it. ``ad.hvp`` multiplies it with a vector at the cost of a
# few gradients. As a ``LinearOperator`` these products are all that Lanczos' method needs, be it for the largest
# eigenvalues (SciPy's ``eigsh``) or for the density of all of them (:func:`numcore.linalg.spectral_density`). Five
# hundred images are enough to see its shape.


def loss(theta):
    return ad.losses.softmax_cross_entropy(net(theta, X[:500]), y[:500])


def hessian_at(theta):
    theta = theta.astype(float)
    size = len(theta)
    return LinearOperator((size, size), lambda v: ad.hvp(loss, theta, v.reshape(size)), dtype=float)


spectra = {}
for name, point in {"at the start": net.init(rng=0), "trained": theta}.items():
    H = hessian_at(point)
    largest = eigsh(H, k=12, which="LA", tol=1e-3, return_eigenvectors=False)[::-1]
    spectra[name] = largest, spectral_density(H, k=80, n_probes=2, rng=0, sigma=0.02)
    print(f"{name}: largest eigenvalues", largest[:4].round(2))

# %%
# What the pictures show
# ----------------------
# Nearly all eigenvalues are zero, to the width of the smoothing: most directions in parameter space do not change the
# loss. A few, about as many as there are classes, stand apart from the bulk. At the start there are negative ones:
# directions in which the loss bends down. Training removes them.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2))
left.semilogy(np.arange(1, epochs + 1), curve, label=f"numcore.autodiff ({ours:.2f} s)")
left.semilogy(np.arange(1, epochs + 1), peer.loss_curve_, "--", label=f"MLPClassifier ({theirs:.2f} s)")
left.set(xlabel="epoch", ylabel="mean training loss", title="the same optimizer on the same net")
left.legend(frameon=False)
for (name, (largest, density)), colour in zip(spectra.items(), ("C1", "C0"), strict=True):
    right.semilogy(density.grid, np.maximum(density.density, 1e-6), color=colour, label=name)
    right.plot(largest, np.full(len(largest), 2e-5), "|", color=colour, markersize=9)
right.set(xlabel="eigenvalue", ylabel="density", title="Hessian spectrum; ticks: the largest", ylim=(1e-5, None))
right.legend(frameon=False)
plt.show()
