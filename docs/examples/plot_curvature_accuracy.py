r"""
Inverse Fisher products that keep their digits
==============================================

An optimizer that steps along the inverse Fisher matrix wants :math:`u = F^{-1} g` where

.. math:: F = \lambda I + \frac1c G^T G

and the newest gradient g is itself a row of G. With :math:`K = G G^T + c \lambda I` there are two ways to write u:

.. math:: u = \frac1\lambda \left( g - G^T K^{-1} G g \right) \qquad\text{and}\qquad u = c\, G^T K^{-1} e,

where e picks the row. They are equal, and cost the same. But the curvature along g is large, so F shrinks g by far: in
the first way almost all of g has to cancel, and what is left over is divided by the small damping. Here is what that
means in float32.
"""

# %%
# Five ways to the same step
# --------------------------
# Gradients of a training run have something in common, so beside independent ones we take rows that differ from a
# common one by 1 %, and rows that are all the same. The contestants:
#
# - the recurrence of the M-FAC paper, row by row;
# - the difference above;
# - the second form, with all products in float32;
# - the same with the products that make K in float64, but the weights :math:`K^{-1} e` rounded to float32;
# - ``EmpiricalFisher``: float64 products throughout, one rounding at the end.
#
# All start from the same float32 gradients, and all results are float32.

import matplotlib.pyplot as plt
import numpy as np

from numcore.algorithms.curvature import EmpiricalFisher, SlidingFisher

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

m, d, damp = 64, 10_000, np.float32(1e-5)
NORMS = (0.1, 1, 10, 70)
single, double = np.float32, np.float64


def recurrence(G):
    """The rows v_i and the numbers q_i of the paper, then ``g / damp - sum_i v_i (v_i . g) / q_i``."""
    V, q = np.empty_like(G), np.empty(m, single)
    for i, g in enumerate(G):
        V[i] = g / damp - V[:i].T @ ((V[:i] @ g) / q[:i])
        q[i] = m + g @ V[i]
    return G[-1] / damp - V.T @ ((V @ G[-1]) / q)


def weights(G, dtype, right):
    """``K^-1 right``, all in one dtype."""
    G = G.astype(dtype)
    return np.linalg.solve(G @ G.T + dtype(m * damp) * np.eye(m, dtype=dtype), right.astype(dtype))


def difference(G):
    return (G[-1] - G.T @ weights(G, single, G @ G[-1])) / damp


def push_through(G, dtype):
    return G.T @ (m * weights(G, dtype, np.eye(m)[-1])).astype(single)


WAYS = {
    "recurrence of the paper": recurrence,
    "difference": difference,
    "second form, float32": lambda G: push_through(G, single),
    "K in float64, weights rounded": lambda G: push_through(G, double),
    "EmpiricalFisher": lambda G: EmpiricalFisher(G, damp=damp).solve_row(-1),
}

# %%
# The oracle is the step in the space that the rows span, from their singular values in float64: no small number is the
# difference of large ones there.


def oracle(G):
    _, s, Vt = np.linalg.svd(G.astype(double), full_matrices=False)
    real = s > 1e-12 * s[0]  # equal rows have one singular value that is not rounding
    return Vt[real].T @ ((Vt[real] @ G[-1]) / (damp + s[real] ** 2 / m))


def gradients(kind, norm):
    G = np.random.default_rng(0).standard_normal((m, d))
    if kind != "independent":
        G = G[0] + {"alike to 1 %": 0.01, "all equal": 0.0}[kind] * G
    return (norm * G / np.linalg.norm(G, axis=1, keepdims=True)).astype(single)


KINDS = ("independent", "alike to 1 %", "all equal")
errors = {kind: {way: [] for way in WAYS} for kind in KINDS}
for kind in KINDS:
    for norm in NORMS:
        G = gradients(kind, norm)
        exact = oracle(G)
        for way, step in WAYS.items():
            errors[kind][way].append(np.linalg.norm(step(G) - exact) / np.linalg.norm(exact))

# %%
# The table
# ---------
# Relative errors of the step; a float32 result can be right to 3e-8. An error of 1 is a step that has nothing to do
# with the right one.

print(f"{'':36}" + "".join(f"|g| = {norm:<8g}" for norm in NORMS))
for kind in KINDS:
    print(kind)
    for way, row in errors[kind].items():
        print(f"    {way:32}" + "".join(f"{error:<14.0e}" for error in row))

# %%
# As a picture: the darker, the more digits are lost.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
for ax, kind in zip(axes, KINDS, strict=True):
    table = np.array(list(errors[kind].values()))
    image = ax.imshow(np.log10(table), cmap="YlOrRd", vmin=-8, vmax=0, aspect="auto")
    for (row, column), error in np.ndenumerate(table):
        ax.text(column, row, f"{error:.0e}", ha="center", va="center", color="white" if error > 3e-3 else "black")
    ax.set(title=f"gradients: {kind}", xlabel="norm of a gradient")
    ax.set_xticks(range(len(NORMS)), [f"{norm:g}" for norm in NORMS])
    ax.set_yticks(range(len(WAYS)), list(WAYS))
    ax.tick_params(length=0)
bar = figure.colorbar(image, ax=axes, ticks=[-8, -6, -4, -2, 0], shrink=0.9)
bar.ax.set_yticklabels(["1e-8", "1e-6", "1e-4", "1e-2", "1"])
bar.set_label("relative error of the step")

# %%
# Independent gradients need only the second form. Where they are alike, K is nearly singular, and float32 products do
# not hold what tells its rows apart. Where they are equal, the weights are huge and cancel, so even rounding them to
# float32 is felt. Adding up in float64 what is read in float32 costs next to nothing: the time goes into reading G.
#
# Along a run
# -----------
# ``SlidingFisher`` keeps this up as the window moves: here over 200 gradients of norm 10 that drift slowly, the step's
# error at each of them, against the difference formula on the same window.

rng = np.random.default_rng(1)
window, base = SlidingFisher(d, m, damp=damp), rng.standard_normal(d)
times, ours, theirs = [], [], []
for t in range(200):
    base += 0.02 * rng.standard_normal(d)
    g = base + 0.05 * rng.standard_normal(d)
    step = window.push_solve((10 * g / np.linalg.norm(g)).astype(single))
    if len(window) == m and t % 8 == 0:
        G = window.gradients
        times.append(t)
        exact = oracle(G)
        ours.append(np.linalg.norm(step - exact) / np.linalg.norm(exact))
        theirs.append(np.linalg.norm(difference(G) - exact) / np.linalg.norm(exact))

figure, ax = plt.subplots(figsize=(6, 3))
ax.semilogy(times, theirs, color="#D55E00", marker="o", markersize=3, label="difference, float32")
ax.semilogy(times, ours, color="#0072B2", marker="D", markersize=3, label="SlidingFisher")
ax.set(xlabel="step", ylabel="relative error", ylim=(1e-9, 3))
ax.legend(frameon=False)

# sphinx_gallery_thumbnail_number = 1
