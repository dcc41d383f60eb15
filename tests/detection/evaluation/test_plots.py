"""Curves as PNG files."""

import numpy as np
import pytest
from PIL import Image

from detection.evaluation.average_precision import ClassResult, VOCResult
from detection.evaluation.plots import plot_precision_recall, plot_recall


@pytest.mark.parametrize("count", [1, 4, 20])
def test_curves_of_any_number_of_classes(tmp_path, count):
    one = ClassResult(
        3, np.array([3.0, 2, 1]), np.array([0, 1, 2]), np.array([0, 0, 1]), 0.5, 0.5
    )  # the first detection is ignored: its precision is NaN
    none = ClassResult(0, np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), None, None)
    per_class = {f"class{i}": none if i == 1 else one for i in range(count)}
    plot_precision_recall(VOCResult(per_class), tmp_path / "new" / "curves.png")
    with Image.open(tmp_path / "new/curves.png") as drawn:
        image = np.asarray(drawn.convert("RGB"))
    assert image.shape[0] > 250
    assert image.std() > 5


def test_curves_are_png_only(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name in \.png, got .*curves\.jpg"):
        plot_precision_recall(VOCResult({}), tmp_path / "curves.jpg")


def test_recall_of_several_methods(tmp_path):
    curves = {
        name: {"windows": [10, 100, 1000], "IoU 0.5": [0.1, 0.5, 0.9], "IoU 0.7": [0, 0.2, 0.5]}
        for name in ("one", "another")
    }
    path = tmp_path / "recall.png"
    plot_recall(curves, path, "recall")
    with Image.open(path) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > drawn.height
        assert len(np.unique(np.asarray(drawn))) > 10
    with pytest.raises(ValueError, match=r"expected a name in \.png"):
        plot_recall(curves, tmp_path / "recall.jpg", "recall")
