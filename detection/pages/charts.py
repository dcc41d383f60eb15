"""Charts on pages: matplotlib's SVG inside the HTML, in the page's colours.

Text and axes have the colour of the page's text, so they are visible on dark and light backgrounds.
Curves have Okabe and Ito's colours, which colour-blind people can distinguish, and different
dashes.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from detection.evaluation.average_precision import RECALLS, ClassResult

BLUE, ORANGE, GREEN, PINK = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
COLOURS = (BLUE, ORANGE, GREEN, PINK)
DASHES = ("-", "--", "-.", ":")
# Placeholder, later replaced by the page's colour of text.
INK = "#010203"
# Position of the axes in a precision-recall panel, in shares: left, bottom, width, height.
PANEL = (0.17, 0.15, 0.79, 0.81)

# Any: matplotlib's own types list every key.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def precision_recall_chart(one: ClassResult) -> Markup:
    """A class's precision-recall curve, and the 11 precisions whose mean is its AP."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(2.1, 1.9)
        axes.set_position(PANEL)
        seen = ~np.isnan(one.precision) & ~np.isnan(one.recall)
        recall, precision = one.recall[seen], one.precision[seen]
        axes.plot(*_thinned(recall, precision), color=BLUE, linewidth=1.3)
        if one.npos:
            best = [precision[recall >= point].max(initial=0.0) for point in RECALLS]
            axes.plot(RECALLS, best, ".", color=ORANGE, markersize=5, clip_on=False)
        ticks, words = (0, 0.5, 1), ("0", "0.5", "1")
        axes.set_xticks(ticks, words)
        axes.set_yticks(ticks, words)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.25)
        return _svg(figure)


def _thinned(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """A curve without points that equal the previous point to three digits."""
    points = np.round(np.stack([x, y]), 3)
    kept = np.ones(points.shape[1], bool)
    kept[1:] = (np.diff(points) != 0).any(axis=0)
    return points[0, kept], points[1, kept]


def curves_chart(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str) -> Markup:
    """Curves in common axes, given by name as x and y."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(5.4, 2.9)
        for place, (name, points) in enumerate(curves.items()):
            colour, dash = COLOURS[place % 4], DASHES[place % 4]
            axes.plot(*points, label=name, color=colour, linestyle=dash, marker=".")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.grid(alpha=0.25)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        figure.tight_layout()
        return _svg(figure)


def reliability_chart(bins: Sequence[Mapping[str, float]]) -> Markup:
    """The share of correct detections in each bin against their mean probability."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(3.6, 3.3)
        axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=":")
        axes.plot(
            [one["probability"] for one in bins],
            [one["right"] for one in bins],
            color=BLUE,
            marker="o",
            markersize=4,
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability", ylabel="share that is right")
        axes.grid(alpha=0.25)
        figure.tight_layout()
        return _svg(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _svg(figure: Figure) -> Markup:
    """The figure as an SVG element for a page."""
    file = io.StringIO()
    with warnings.catch_warnings():
        # The browser draws the text, with its own fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, of_page in {INK: "currentColor", BLUE: "var(--kind-5)"}.items():
        text = text.replace(colour, of_page)
    return Markup(text.replace("<svg ", '<svg aria-hidden="true" ', 1))
