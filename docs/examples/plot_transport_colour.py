"""
Colour transfer between two photographs
=======================================

Give one photograph the colours of another. A pixel is a point in the cube of red, green and blue, so a photograph is a
cloud of points, and optimal transport says where each colour should go when one cloud is to become the other with as
little change of colour as possible.

The transport is fitted on a sample of pixels. The entropic map then carries every other pixel, and the same potentials
give the way back.
"""

# %%
# Two photographs
# ---------------
# Both come with scikit-learn. Every second row and column is enough for this page; the map is evaluated pixel by pixel,
# so the full photographs only take longer.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from numcore.algorithms.transport import SinkhornTransport

plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

photographs = load_sample_images().images
temple, dahlia = (image[::2, ::2] / 255 for image in photographs)
rng = np.random.default_rng(0)


def sample_colours(image, count=2000):
    """Colours of pixels drawn at random."""
    pixels = image.reshape(-1, 3)
    return pixels[rng.choice(len(pixels), count, replace=False)]


temple_colours = sample_colours(temple)
dahlia_colours = sample_colours(dahlia)

# %%
# Fit, and map every pixel
# ------------------------
# Two numbers decide how the result looks.
#
# ``reg`` blurs the plan. Here it is 1 % of the mean squared distance between a colour of the one photograph and one of
# the other: below that, single sampled pixels begin to show as blotches in the sky; far above, all colours are drawn
# towards their mean.
#
# ``marginal_reg`` is the price of using a colour more or less often than its share of the sample, in units of the cost.
# The photographs do not hold alike amounts of dark and light, and nothing says that they should after the transfer.

model = SinkhornTransport(reg=0.01, marginal_reg=0.1, tol=1e-6)
model.fit(temple_colours, dahlia_colours)
print(f"{model.n_iter_} iterations, residual {model.result_.marginal_error:.0e}")


def recolour(image, transfer):
    """The image with `transfer` applied to its pixels."""
    moved = transfer(image.reshape(-1, 3))
    return np.clip(moved, 0, 1).reshape(image.shape)


temple_in_dahlia = recolour(temple, model.transform)
dahlia_in_temple = recolour(dahlia, model.inverse_transform)

# %%
# The sky takes the light orange of the petals, and the foliage the teal behind them; the red of the woodwork has a near
# neighbour and hardly moves. The other way, the petals bleach towards the white of the sky from the rim inwards, and
# teal becomes the grey-green of the trees. Edges and textures stay, since near colours go to near colours.


def show(axes, image, title):
    """Draw a photograph."""
    axes.imshow(image)
    axes.set_title(title)
    axes.axis("off")


figure, axes = plt.subplots(2, 2, figsize=(8, 5.8))
show(axes[0, 0], temple, "temple")
show(axes[0, 1], dahlia, "dahlia")
show(axes[1, 0], temple_in_dahlia, "temple, in the dahlia's colours")
show(axes[1, 1], dahlia_in_temple, "dahlia, in the temple's colours")

# %%
# The clouds of colours
# ---------------------
# Each dot is a sampled pixel in its own colour, placed by its brightness and by how warm it is: red minus blue. The
# mapped cloud in the middle has moved to where the cloud on the right lies, without repeating it dot for dot: the map
# averages over many targets, and colours far from all others were allowed to stay unused.


def scatter(axes, colours, title):
    """Draw colours by warmth and brightness."""
    colours = np.clip(colours, 0, 1)
    warmth = colours[:, 0] - colours[:, 2]
    brightness = colours.mean(axis=1)
    axes.scatter(warmth, brightness, c=colours, s=7, linewidths=0)
    axes.set(title=title, xticks=(-0.5, 0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_facecolor("0.88")


figure, axes = plt.subplots(2, 3, figsize=(8, 5), sharex=True, sharey=True)
scatter(axes[0, 0], temple_colours, "temple")
scatter(axes[0, 1], model.transform(temple_colours), "temple, mapped")
scatter(axes[0, 2], dahlia_colours, "meant for: dahlia")
scatter(axes[1, 0], dahlia_colours, "dahlia")
scatter(axes[1, 1], model.inverse_transform(dahlia_colours), "dahlia, mapped")
scatter(axes[1, 2], temple_colours, "meant for: temple")
figure.supxlabel("warmth: red − blue")
figure.supylabel("brightness")

# %%
# With hard marginals
# -------------------
# Without ``marginal_reg`` every colour has to be used exactly as often as it occurs. Most of the dahlia's photograph is
# dark, so much of the bright sky has no choice but to become dark too. It tears along an edge that was never there:
# a smooth gradient in the one photograph falls on both sides of a gap between the colours of the other.

balanced = SinkhornTransport(reg=0.01, tol=1e-6)
balanced.fit(temple_colours, dahlia_colours)

figure, axes = plt.subplots(1, 2, figsize=(8, 3))
show(axes[0], temple_in_dahlia, "soft marginals (above)")
show(axes[1], recolour(temple, balanced.transform), "hard marginals")
