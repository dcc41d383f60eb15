"""Draws curves as PNG files: precision against recall, and recall against number of windows."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from detection.evaluation.average_precision import RECALLS, ClassResult, VOCResult
from detection.evaluation.fonts import fonts_of
from detection.evaluation.report import NO_AP, classes_of_mean
from files.writing import write_atomic


def plot_precision_recall(result: VOCResult, path: str | Path) -> None:
    """Draw the precision-recall curve of every class into a PNG, one small panel per class.

    The dots are the 11 precisions whose mean is VOC 2007's AP. A panel's title is the class and its
    AP, or ``-`` for a class without objects.

    Args:
        result: from ``evaluate_voc``.
        path: ends in .png; replaced if it exists.

    Raises:
        ValueError: the path has another extension.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"the curves are written as PNG: expected a name in .png, got {path}")
    count = len(result.classes)
    columns = min(5, math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(2.4 * columns + 0.6, 2.3 * rows + 0.9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[count:]:
        panel.set_axis_off()
    fonts = fonts_of(result.classes)
    for panel, (name, one) in zip(panels, result.per_class.items(), strict=False):
        _draw_curve(panel, name, one, fonts[name])
    title = f"mAP {result.map:.3f} (11 points)   {result.map_area:.3f} (area)"
    if result.without_objects:
        title += f"\n{classes_of_mean(result).partition(':')[0]}"
    figure.suptitle(title, fontsize=11)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    save_png(canvas, path)


def plot_recall(
    methods: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path, title: str
) -> None:
    """Draw recall against the number of windows into a PNG, one panel per overlap.

    Args:
        methods: for each method, ``windows`` in increasing order, and the recalls at each overlap,
            by its name.
        path: ends in .png; replaced if it exists.
        title: above the panels.

    Raises:
        ValueError: the path has another extension.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"the curves are written as PNG: expected a name in .png, got {path}")
    overlaps = [name for name in next(iter(methods.values())) if name != "windows"]
    figure = Figure(figsize=(4.8 * len(overlaps), 4.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for panel, overlap in zip(figure.subplots(1, len(overlaps)), overlaps, strict=True):
        for method, points in methods.items():
            panel.plot(points["windows"], points[overlap], marker=".", label=method)
        panel.set(xscale="log", ylim=(0, 1), title=overlap, xlabel="windows an image")
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize=8, loc="upper left")
    figure.suptitle(title, fontsize=11, parse_math=False)
    save_png(canvas, path)


def save_png(canvas: FigureCanvasAgg, path: str | Path) -> None:
    """Write a figure atomically; letters that no font has are drawn as boxes."""
    with warnings.catch_warnings(), write_atomic(path) as file:
        # ``fonts_of`` has already warned about these letters.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        canvas.print_png(file)


def _draw_curve(panel: Axes, name: str, one: ClassResult, font: Path) -> None:
    seen = ~np.isnan(one.precision) & ~np.isnan(one.recall)
    recall, precision = one.recall[seen], one.precision[seen]
    panel.plot(recall, precision, color="tab:blue", linewidth=1.2)
    if one.npos:
        best = [precision[recall >= point].max(initial=0.0) for point in RECALLS]
        panel.plot(RECALLS, best, ".", color="tab:orange", markersize=5, clip_on=False)
    panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    average = NO_AP if one.ap is None else f"{one.ap:.3f}"
    # Not parsed as a formula, because a name may have a dollar sign.
    panel.set_title(f"{name} {average}", font=FontProperties(fname=font, size=9), parse_math=False)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
