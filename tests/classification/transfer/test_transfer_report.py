"""The page of fixed features: its numbers, and the page in a real browser."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from classification.transfer.judged import JudgedImages, named_by_rank
from classification.transfer.report import Measured, confused, worst_images, write_transfer_report
from classification.transfer.task import Outcome
from classification.transfer.view import View

CLASSES = ("</script><script>document.title='harmed'</script>", "红绿灯 {{ 7 * 7 }}", "\"'")
FACTS = {"command": "tools/transfer_cls.py", "environment": {"python": "3"}}


@pytest.fixture
def paths(tmp_path):
    made = [tmp_path / f"{number}.png" for number in range(30)]
    for number, path in enumerate(made):
        Image.new("RGB", (40, 20) if number % 2 else (20, 40), (8 * number, 0, 0)).save(path)
    return made


@pytest.fixture
def judged(rng):
    scores, labels = rng.normal(size=(20, 3)), rng.choice([-1, 1], size=(20, 3))
    return JudgedImages(np.arange(5, 25), scores, labels, named_by_rank(scores, labels))


def test_commonest_confusions(judged):
    told, confusion = confused(judged, CLASSES), judged.confusion()
    shares = [one["images"] / one["of"] for one in told]
    assert shares == sorted(shares, reverse=True)
    assert sum(one["images"] for one in told) == confusion.sum()
    for one in told:
        assert one["images"] == confusion[CLASSES.index(one["true"]), CLASSES.index(one["named"])]


def test_images_are_those_tested(judged, paths):
    told = worst_images(judged, paths)
    names = [one["id"].rpartition("/")[2] for one in told]
    assert sorted(names) == sorted(f"{number}.png" for number in range(5, 25))
    for one, name in zip(told, names, strict=True):
        row = int(name.removesuffix(".png")) - 5
        assert one["labels"] == np.flatnonzero(judged.labels[row] > 0).tolist()
        assert one["scores"] == pytest.approx(judged.scores[row], abs=0.006)


def test_in_a_browser(judged, paths, tmp_path, opened):
    measured = [
        Measured("conv5", View("crop", 224), outcome(0.5, judged)),
        Measured(
            *("conv5", View("full", 224), outcome(0.6, judged)),
            before=View("crop", 224),
            gains={"": 0.1, " low": -0.05, " high": 0.2},
        ),
    ]
    page_path = tmp_path / "report.html"
    write_transfer_report(
        page_path,
        title="voc07 by <b>alexnet</b>'s features",
        task=SimpleNamespace(classes=CLASSES, paths=paths, unreadable={"x": "no image"}),
        measured=measured,
        facts=FACTS,
        settings="</pre>",
    )
    page = opened(page_path)
    assert page.title() == "voc07 by <b>alexnet</b>'s features"
    assert "conv5 full-224" in page.text_content(".key")
    last = page.text_content("#views tbody tr:last-child")
    assert "full-2241 to 30.6000" in last.replace("\n", "")
    assert "0.6000+0.100 over crop-224 (-0.050 to +0.200)" in last.replace("\n", "")
    assert measured[1].named_gains()["mAP - crop-224 low"] == -0.05
    assert page.locator("#classes tbody th").all_text_contents() == list(CLASSES)
    for label in range(3):
        for id, list_ in (("named", judged.wrong), ("missed", judged.missed)):
            page.select_option(f"#{id}", str(label))
            images = list_[:, label].sum()
            words = f"{images} of 20 images" if images else "no image is like this"
            assert page.text_content("#shown-images") == words
            page.select_option(f"#{id}", "")
    page.click(".shot")
    assert page.locator("#large").is_visible()
    assert page.outside() == []


def outcome(value, judged):
    return Outcome({"mAP": value}, {}, np.array([value, np.nan, 1.0]), judged, (1.0, 3.0))
