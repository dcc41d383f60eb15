"""Draws the confusion matrix of a test."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from classification.testing import Predictions
from detection.evaluation.fonts import fonts_of
from detection.evaluation.plots import save_png

# Largest number of classes with names, and with shares in the cells.
NAMED = 110
NUMBERED = 25


def plot_confusion(found: Predictions, path: str | Path) -> None:
    """Draw, for each true class, the shares of its images by predicted class, into a PNG.

    A row is a true class and sums to 1; the row of a class without images is empty.

    Args:
        found: predictions of a test.
        path: ends in .png; replaced if it exists.

    Raises:
        ValueError: the path has another extension.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"the matrix is written as PNG: expected a name in .png, got {path}")
    confusion = found.confusion()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    count = len(found.classes)
    side = min(max(0.34 * min(count, NAMED), 3), 22)
    figure = Figure(figsize=(side + 2.4, side + 2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    size = float(np.clip(72 * side / count / 1.6, 4, 9))
    if count <= NAMED:
        fonts = fonts_of(found.classes)
        panel.set_xticks(range(count), found.classes, rotation=90)
        panel.set_yticks(range(count), found.classes)
        for labels in (panel.get_xticklabels(), panel.get_yticklabels()):
            for label, name in zip(labels, found.classes, strict=True):
                # Not parsed as a formula, because a name may have a dollar sign.
                label.set(font=FontProperties(fname=fonts[name], size=size), parse_math=False)
    if count <= NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if confusion[row, column]:
                colour = "white" if share > 0.5 else "black"
                text = f"{100 * share:.0f}"
                panel.text(column, row, text, ha="center", va="center", color=colour, size=size - 1)
    measures = "   ".join(f"{name} {value:.3f}" for name, value in found.measures().items())
    panel.set_title(f"{len(found.images)} images   {measures}", fontsize=10)
    panel.set_xlabel("predicted class, % of the true class's images", fontsize=10)
    panel.set_ylabel("true class", fontsize=10)
    save_png(canvas, path)
