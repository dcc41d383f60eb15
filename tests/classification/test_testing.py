"""Accuracies, their files and the plot; images that cannot be read."""

import csv

import numpy as np
import pytest
from made_classes import write_classes
from PIL import Image

from classification.folder import read_folder
from classification.network import build_network
from classification.plots import plot_confusion
from classification.scorer import ViewScorer
from classification.testing import COLUMNS, Predictions, format_measures, predict, read_ranks
from files.images import UnreadableImage


def made_predictions(classes=7, images=40, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), images).astype(np.float32)
    labels = rng.integers(0, classes - 1, images)  # the last class has no image
    names = tuple(f"val/{label}/{n:02}.png" for n, label in enumerate(labels))
    return Predictions(tuple("abcdefghij"[:classes]), names, labels, probabilities)


def test_measures_equal_a_count_image_by_image():
    found = made_predictions()
    right = {1: [], 5: []}
    by_class = {}
    for label, row in zip(found.labels, found.probabilities, strict=True):
        order = sorted(range(7), key=lambda k: -row[k])
        for top, seen in right.items():
            seen.append(label in order[:top])
        by_class.setdefault(label, []).append(order[0] == label)
    measures = found.measures()
    assert list(measures) == ["top1", "top5", "mean_class"]
    assert measures["top1"] == pytest.approx(np.mean(right[1]))
    assert measures["top5"] == pytest.approx(np.mean(right[5]))
    assert measures["mean_class"] == pytest.approx(
        np.mean([np.mean(each) for each in by_class.values()])
    )
    assert found.class_accuracies()["g"] is None
    assert found.confusion().sum() == 40
    assert np.trace(found.confusion()) == sum(right[1])


def test_five_classes_have_no_top5():
    assert "top5" not in made_predictions(classes=5).measures()


def test_of_equal_probabilities_the_first_class_is_ahead():
    rows = np.full((3, 3), 1 / 3, np.float32)
    found = Predictions(("a", "b", "c"), ("x", "y", "z"), np.arange(3), rows)
    assert found.ranks.tolist() == [1, 2, 3]
    assert found.predicted.tolist() == [0, 0, 0]


def test_predictions_are_saved_and_read(tmp_path):
    found = made_predictions()
    found.save(tmp_path / "a/predictions.csv")
    with (tmp_path / "a/predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == list(found.images)
    assert [line["class"] for line in lines] == [found.classes[k] for k in found.labels]
    assert all((line["class"] == line["predicted"]) == (line["rank"] == "1") for line in lines)
    assert read_ranks(tmp_path / "a/predictions.csv") == dict(
        zip(found.images, found.ranks.tolist(), strict=True)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,score\na,1\n", "has the columns"),
        (",".join(COLUMNS) + "\na,x,x,1,1,1\na,x,x,1,1,1\n", "line 3 names 'a' again"),
        (",".join(COLUMNS) + "\na,x,x,1,1,first\n", "has no rank"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, said):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_ranks(tmp_path / "p.csv")


def test_table_ends_in_top1_and_has_a_dash_for_a_class_without_images():
    lines = format_measures(made_predictions()).splitlines()
    assert lines[-1].startswith("top-1 0.")
    assert lines[-2].startswith("top-5 0.")
    assert next(line for line in lines if line.startswith("g")).split() == ["g", "0", "-"]


@pytest.mark.parametrize("classes", [2, 10])
def test_confusion_matrix_is_drawn(tmp_path, classes):
    found = made_predictions(classes)
    odd = Predictions(("$x_{", *found.classes[1:]), found.images, found.labels, found.probabilities)
    plot_confusion(odd, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as drawn:
        assert drawn.width > 200
    with pytest.raises(ValueError, match=r"\.png"):
        plot_confusion(odd, tmp_path / "confusion.pdf")


@pytest.fixture
def split(tmp_path):
    root = write_classes(tmp_path / "data", train=0, val=2)
    (root / "val/green/1.png").write_bytes(b"no image")
    return read_folder(root, "val")


@pytest.fixture(scope="module")
def scorer():
    return ViewScorer(build_network("alexnet", 3, levels=(1,), hidden=4), "full", 64, 64)


def test_images_that_cannot_be_read_are_left_out_and_named(scorer, split):
    found, skipped = predict(scorer, split)
    assert list(skipped) == ["val/green/1.png"]
    assert found.images == tuple(name for name in split.names if name != "val/green/1.png")
    assert found.labels.tolist() == [0, 0, 1, 2, 2]
    assert found.probabilities.shape == (5, 3)
    with pytest.raises(UnreadableImage, match=r"1\.png is not a readable image"):
        predict(scorer, split, strict=True)


def test_a_split_without_a_readable_image_is_refused(scorer, split):
    for name in split.names:
        (split.root / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"no image of .* can be read"):
        predict(scorer, split)
