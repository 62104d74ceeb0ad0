"""
Sinkhorn and Newton as the regularisation goes down
===================================================

Sinkhorn's iteration is cheap, and slow where the regularisation eps is small: its error falls by a constant factor each
time, and the factor tends to 1 as eps goes to 0. Newton's method on the same dual problem does more work in a step and
needs few of them, whatever eps.

What both do with the cost matrix is the same: they pass over it, taking one exponential an entry. So we count passes.
"""

# %%
# Threes and eights
# -----------------
# The sources are all threes of scikit-learn's handwritten digits, the targets all eights: 183 and 174 images of 8 x 8
# pixels. The cost of turning one into another is the squared distance between them.

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from sklearn.datasets import load_digits

from numcore.algorithms.transport import PointCloudCost, sinkhorn, sinkhorn_newton

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

images, labels = load_digits(return_X_y=True)
cost = PointCloudCost(images[labels == 3], images[labels == 8]).to_array()
cost /= cost.mean()  # so that eps is a fraction of the mean cost
n, m = cost.shape

# %%
# Three methods, one tolerance
# ----------------------------
# All three stop when the L1 error of both marginals is below 1e-9, and none of them starts from another's result.
#
# - Sinkhorn as in the textbook: no over-relaxation, no annealing.
# - Sinkhorn over-relaxed: each half step is stretched by a factor between 1 and 2, found from the rate of the first
#   iterations.
# - Newton as it comes: it passes through larger values of eps first, by factors of 4.

TOL = 1e-9


def solve(eps):
    """The three results, by name."""
    plain = {"method": "log", "annealing": False, "max_iter": 100_000}
    return {
        "Sinkhorn": sinkhorn(cost, reg=eps, tol=TOL, relaxation=1, **plain),
        "Sinkhorn, over-relaxed": sinkhorn(cost, reg=eps, tol=TOL, **plain),
        "Newton": sinkhorn_newton(cost, reg=eps, tol=TOL),
    }


STYLES = {
    "Sinkhorn": {"color": "#D55E00", "linestyle": "-", "marker": "o"},
    "Sinkhorn, over-relaxed": {"color": "#E69F00", "linestyle": "--", "marker": "s"},
    "Newton": {"color": "#0072B2", "linestyle": "-", "marker": "D"},
}

epsilons = np.geomspace(1e-1, 1e-4, 7)
results = {eps: solve(eps) for eps in epsilons}

# %%
# The error, pass by pass
# -----------------------
# An iteration of Sinkhorn is one pass. A Newton step takes several: one to thin the plan to the entries that its linear
# system needs, one for each trial of the line search, and a few plain iterations at the head of each stage. Lines show
# the lowest error so far, since the over-relaxed one rises wherever a new factor is tried.


def panel(axes, eps):
    """Lowest error so far against passes, at one eps."""
    for name, result in results[eps].items():
        x, error = result.history["n_passes"], result.history["error"]
        final = result.history["reg"] == result.reg
        style = STYLES[name] | {"markersize": 3}
        if name != "Newton":
            style["marker"] = ""
        lowest = np.minimum.accumulate(error[final])
        axes.loglog(x[final], lowest, label=name, **style)
        style |= {"linestyle": "", "markerfacecolor": "white"}
        axes.loglog(x[~final], error[~final], **style)
    axes.axhline(TOL, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_title(f"eps = {eps:g} of the mean cost")


figure, axes = plt.subplots(2, 2, figsize=(8, 6), sharex=True, sharey=True)
for ax, eps in zip(axes.flat, epsilons[::2], strict=True):
    panel(ax, eps)
axes[0, 0].set(xlim=(0.9, 1e5), ylim=(1e-13, 3))
axes[0, 0].set_yticks([1e-12, 1e-9, 1e-6, 1e-3, 1])
figure.supxlabel("passes over the cost")
figure.supylabel("lowest L1 error of both marginals so far")
handles, names = axes[0, 0].get_legend_handles_labels()
figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)

# %%
# At a tenth of the mean cost there is little to choose. With each factor of ten below it, Sinkhorn needs ten times the
# passes; over-relaxation saves much of that, but not the trend. Newton goes down steeply at the end, the number of
# correct digits growing by about half with each step. Its open marks are steps at the larger values of eps that it
# passes through; they count against it here, and their error is that of the problem at that eps.
#
# Passes against eps, and what a small eps is good for
# ----------------------------------------------------
# On the left, passes until the error is below 1e-9. On the right, why one goes down at all: the plan's cost
# ``linear_cost`` exceeds that of the best unregularised plan, by less than ``eps log(min(n, m))`` here, where all
# weights are equal (the dotted line). The exact cost is found by linear programming.

rows = sparse.kron(sparse.eye_array(n), np.ones((1, m)))
columns = sparse.kron(np.ones((1, n)), sparse.eye_array(m))
exact = linprog(
    cost.ravel(),
    A_eq=sparse.vstack([rows, columns], format="csr"),
    b_eq=np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)]),
).fun

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.7))
for name, style in STYLES.items():
    counts = [results[eps][name].n_passes for eps in epsilons]
    left.loglog(epsilons, counts, label=name, markersize=4, **style)
left.set(ylabel="passes over the cost to 1e-9", ylim=(5, 1e5))
left.legend(frameon=False)

costs = np.array([results[eps]["Newton"].linear_cost for eps in epsilons])
right.loglog(epsilons, costs / exact - 1, color="#009E73", marker="o", markersize=4)
bound = epsilons * np.log(min(n, m)) / exact
right.loglog(epsilons, bound, color="0.4", linestyle=":")
right.set(ylabel="linear_cost above the exact cost, relative")
for ax in (left, right):
    ax.invert_xaxis()
    ax.set_xlabel("eps, as a fraction of the mean cost")

# %%
# The number of passes is not the whole price of Newton: between passes it solves a sparse linear system by conjugate
# gradients. ``sinkhorn`` with ``method="auto"`` makes the choice: for stored costs it takes Newton where eps is below
# half a percent of the spread of the cost.

automatic = sinkhorn(cost, reg=epsilons[-1])
print(f"{automatic.method}: {automatic.n_passes} passes, error {automatic.marginal_error:.0e}")

# sphinx_gallery_thumbnail_number = 2
