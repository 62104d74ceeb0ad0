"""Arrays and figures as encoded pictures."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from numcore.algorithms.tour._stop import Picture
from numcore.arrays import Array

__all__ = ["drawing", "panel", "photograph"]

GROUND = "#fcfbf8"


def photograph(pixels: Array, caption: str, alt: str) -> Picture:
    """A JPEG of an (h, w, 3) array of values in [0, 1]; what lies outside is clipped."""
    from matplotlib.image import imsave

    file = BytesIO()
    levels = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    imsave(file, levels, format="jpg", pil_kwargs={"quality": 90})
    return Picture(file.getvalue(), "image/jpeg", caption, alt)


def panel(**labels: Any) -> tuple[Any, Any]:
    """A matplotlib figure on a light ground, which a dark page bears too, and its axes, set to `labels`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0, 3.2), facecolor=GROUND, layout="constrained")
    axes = figure.add_subplot(facecolor=GROUND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.set(**labels)
    return figure, axes


def drawing(figure: Any, caption: str, alt: str) -> Picture:
    """A PNG of a matplotlib figure; its ground should go with light and with dark pages."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=160)
    return Picture(file.getvalue(), "image/png", caption, alt)
