"""The page of a test without a browser: its charts, tables and size."""

import re

import numpy as np
from made_page import HOSTILE, made_test, write_made

from detection.pages import detection_report, page
from detection.pages.detection_report import learning_curves
from detection.pages.page import packed


def step(number, **changes):
    return {"event": "fine-tuning", "step": number, "train_loss": 1.0} | changes


def points_of(events, monkeypatch):
    """Return the curves that are drawn for each stage."""
    monkeypatch.setattr(detection_report, "curves_chart", lambda curves, _: curves)
    return {one["stage"]: one["chart"] for one in learning_curves(events)}


def test_a_training_taken_up_again_is_one_curve(monkeypatch):
    begin = {"event": "begin", "stage": "fine-tuning"}
    events = [begin, step(1), step(2), step(3), begin, step(2, train_loss=5.0), step(3), step(4)]
    drawn = points_of(events, monkeypatch)
    assert drawn == {"fine-tuning": {"training loss": ([1, 2, 3, 4], [1.0, 5.0, 1.0, 1.0])}}


def test_a_training_begun_anew_leaves_nothing_of_the_first(monkeypatch):
    first = [step(n, held_back_loss=2.0) for n in (10, 20, 30)]
    second = {"event": "begin", "stage": "convolutions"}
    events = [*first, *(step(n) for n in (10, 20)), second, step(10), step(20), step(30)]
    drawn = points_of(events, monkeypatch)
    assert drawn["fine-tuning"] == {"training loss": ([10, 20], [1.0, 1.0])}
    assert drawn["convolutions"]["training loss"][0] == [10, 20, 30]


def test_a_single_step_is_no_curve(monkeypatch):
    assert points_of([step(1)], monkeypatch) == {}


def test_names_are_escaped_and_nothing_is_fetched(tmp_path):
    write_made(tmp_path / "report.html", *made_test(tmp_path))
    text = (tmp_path / "report.html").read_text()
    assert not [name for name in HOSTILE[:2] if name in text]
    assert text.count("<script") == text.count("</script>") == 2
    addresses = set(re.findall(r"https?://[^\"' <]*", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "#010203" not in text


def test_of_very_many_classes_the_worst_have_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(detection_report, "MOST_CURVES", 2)
    monkeypatch.setattr(detection_report, "MOST_CONFUSED", 2)
    _, _, result = made = made_test(tmp_path, ("cat", "dog", "fox"), drawn=False)
    write_made(tmp_path / "report.html", *made)
    text = (tmp_path / "report.html").read_text()
    assert "The 2 classes with the lowest AP." in text
    drawn = re.findall(r'aria-label="Precision and recall of (\w+)', text)
    assert drawn == sorted(result.classes, key=lambda name: result.per_class[name].ap)[:2]
    assert "data-row" not in text.partition("<script")[0]


def test_a_page_has_room_for_so_many_images(tmp_path, monkeypatch):
    made = made_test(tmp_path)
    monkeypatch.setattr(page, "MOST_CHARACTERS", 10 * len(page.thumbnail(made[0][0].path)))
    write_made(tmp_path / "report.html", *made)
    text = (tmp_path / "report.html").read_text()
    count = text.count("data:image/jpeg;base64,")
    assert 8 <= count <= 12
    assert f"The {count} of 30 images with most mistakes." in text


def test_numbers_are_little_endian():
    assert packed(np.array([1, 2], ">u2")) == packed(np.array([1, 2], "<u2")) == "AQACAA=="
