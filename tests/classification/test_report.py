"""The page of a classifier's test: its numbers, and the page in a real browser."""

import json

import numpy as np
import pytest
from PIL import Image

from classification.report import confused, views, worst_images, write_report
from classification.testing import Predictions

CLASSES = ("</script><script>document.title='harmed'</script>", "红绿灯 {{ 7 * 7 }}", "\"'")
FACTS = {"command": "tools/test_cls.py", "date": "2026-01-02", "environment": {"python": "3"}}
EVENTS = [{"event": "epoch", "epoch": n, "loss": 1 / n, "top1": n / 5} for n in (1, 2, 2, 3)]


@pytest.fixture
def found(tmp_path, rng):
    """Write thirty images, wide and high, of three classes; return predictions for them."""
    names = tuple(f"val/{number}.png" for number in range(30))
    (tmp_path / "val").mkdir()
    for number, name in enumerate(names):
        size = (40, 20) if number % 2 else (20, 40)
        Image.new("RGB", size, (8 * number, 0, 0)).save(tmp_path / name)
    probabilities = rng.dirichlet(np.ones(3), 30).astype(np.float32)
    return Predictions(CLASSES, names, rng.integers(0, 3, 30), probabilities)


def left_by(folder, found, **facts):
    """Write a test's folder, as test_cls.py leaves it."""
    found.save(folder / "predictions.csv")
    facts = found.measures() | {"seconds": 1.0} | facts
    (folder / "results.json").write_text(json.dumps(facts))
    return folder


def test_commonest_confusions(found):
    told = confused(found)
    confusion = found.confusion()
    assert sum(one["images"] for one in told) == confusion.sum() - np.trace(confusion)
    assert [one["images"] for one in told] == sorted((one["images"] for one in told), reverse=True)
    for one in told:
        row, column = CLASSES.index(one["true"]), CLASSES.index(one["named"])
        assert (one["images"], one["of"]) == (confusion[row, column], confusion[row].sum())


def test_worst_images_come_first(found, tmp_path):
    told = worst_images(found, tmp_path)
    wrong = [one for one in told if one["rank"] > 1]
    assert len(wrong) == (found.ranks > 1).sum()
    assert told[: len(wrong)] == wrong
    sure = [one["probabilities"][0] for one in wrong]
    assert sure == sorted(sure, reverse=True)
    assert {tuple(one["size"]) for one in told} == {(40, 20), (20, 40)}


def test_views_of_the_same_images_are_compared(found, tmp_path, rng):
    other = Predictions(
        CLASSES, found.images, found.labels, np.eye(3, dtype=np.float32)[found.labels]
    )
    fewer = Predictions(CLASSES, found.images[:9], found.labels[:9], found.probabilities[:9])
    folders = {
        name: left_by(tmp_path / name, test)
        for name, test in (("full", found), ("ten", other), ("limited", fewer))
    }
    rows = views(folders)
    assert [row["name"] for row in rows] == ["full", "ten"]
    assert rows[0]["difference"] is None
    assert rows[1]["difference"].difference == pytest.approx(1 - found.top(1))


def test_in_a_browser(found, tmp_path, opened):
    folder = left_by(tmp_path / "full", found)
    path = tmp_path / "report.html"
    write_report(
        path,
        title="run <b>1</b>",
        found=found,
        root=tmp_path,
        facts=FACTS,
        tests={"full": folder},
        settings="</pre>",
        events=EVENTS,
    )
    page = opened(path)
    assert page.title() == "run <b>1</b>"
    assert page.locator("#classes tbody th").all_text_contents() == list(CLASSES)
    cells = page.locator("#confusions tbody td").all_text_contents()
    assert [int(cell or 0) for cell in cells] == found.confusion().ravel().tolist()
    for label in range(3):
        for taken in range(3):
            page.select_option("#of-class", str(label))
            page.select_option("#taken-for", str(taken))
            images = found.confusion()[label, taken]
            words = f"{images} of 30 images" if images else "no image is like this"
            assert page.text_content("#shown-images") == words
    page.select_option("#of-class", "")
    page.select_option("#taken-for", "")
    page.click(".shot")
    assert page.locator("#large").is_visible()
    assert page.outside() == []
