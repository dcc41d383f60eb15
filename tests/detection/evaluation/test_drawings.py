"""Drawings: the files exist, have the right format, and boxes are at the right places."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from paths import ROOT
from PIL import Image

from detection.data.records import ImageRecord
from detection.detections import Detections
from detection.evaluation import fonts
from detection.evaluation.average_precision import ClassResult, VOCResult
from detection.evaluation.drawings import class_colour, draw_detections
from detection.evaluation.plots import plot_precision_recall

CLASSES = ("cat", "dog")
LETTER = "\u2315"  # not in DejaVu Sans
GREY = np.full((120, 160, 3), 128, np.uint8)


def make_detections(rows):
    """Return detections of rows (x1, y1, x2, y2, score, label)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), CLASSES)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_no_detections_leave_the_image_as_it_is(tmp_path):
    draw_detections(GREY, Detections.empty(CLASSES), tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), GREY)


def test_the_box_lies_on_its_own_pixels(tmp_path):
    image = GREY.copy()
    draw_detections(image, make_detections([(20, 40, 100, 90, 1, 1)]), tmp_path / "a.png")
    drawn = read(tmp_path / "a.png")
    colour = np.array(class_colour(1))
    for y, x in ((40, 20), (40, 99), (89, 20), (89, 99)):
        np.testing.assert_array_equal(drawn[y, x], colour)
    for y, x in ((60, 100), (90, 60), (60, 19), (65, 60)):
        np.testing.assert_array_equal(drawn[y, x], 128)
    np.testing.assert_array_equal(image, GREY)


def test_only_the_best_are_drawn(tmp_path):
    rows = [(10, 30, 50, 60, 0.5, 0), (60, 30, 100, 60, 0.9, 0), (110, 30, 150, 60, 0.7, 0)]
    colour = np.array(class_colour(0))

    def drawn(**options):
        draw_detections(GREY, make_detections(rows), tmp_path / "a.png", **options)
        return [bool((read(tmp_path / "a.png")[59, x] == colour).all()) for x in (10, 60, 110)]

    assert drawn() == [True, True, True]
    assert drawn(top=2) == [False, True, True]
    assert drawn(top=0) == [False, False, False]


def test_boxes_over_the_edge_and_ground_truth_are_drawn(tmp_path):
    record = ImageRecord(
        "a",
        Path("a.jpg"),
        (120, 160),
        np.array([[30, 30, 90, 100]], np.float32),
        np.array([0]),
        np.array([True]),
    )
    found = make_detections([(-50, -50, 400, 400, 1, 0), (150, 110, 150, 110, 1, 1)])
    draw_detections(GREY, found, tmp_path / "a.png", ground_truth=record)
    image = read(tmp_path / "a.png")
    np.testing.assert_array_equal(image[119, 100], class_colour(0))
    assert {tuple(p) for p in image[30, 30:90].tolist()} >= {(255, 255, 255), (0, 0, 0)}


@pytest.mark.parametrize(
    ("name", "form"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.png", "PNG")]
)
def test_the_format_is_the_ending(tmp_path, name, form):
    draw_detections(GREY, make_detections([(20, 40, 100, 90, 1, 1)]), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.format == form
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bad_input_is_refused(tmp_path):
    found = Detections.empty(CLASSES)
    with pytest.raises(ValueError, match=r"uint8 image, got float64 \(4, 4, 3\)"):
        draw_detections(np.zeros((4, 4, 3)), found, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"expected a name in \.png, \.jpg, \.jpeg, got .*a\.gif"):
        draw_detections(GREY, found, tmp_path / "a.gif")


def test_twenty_classes_have_twenty_colours():
    colours = {class_colour(label) for label in range(20)}
    assert len(colours) == 20
    assert all(0 <= value <= 255 for colour in colours for value in colour)


@pytest.fixture
def fresh_fonts():
    """Forget cached fonts, so that they are searched and warned about again."""
    caches = (fonts.fonts_of, fonts._font_with, fonts._system_fonts)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


def drawn_label(path, name):
    found = Detections(np.float32([[20, 60, 100, 90]]), np.float32([0.5]), np.array([0]), (name,))
    draw_detections(GREY, found, path)
    return read(path)[:60]


def test_labels_are_in_a_font_that_has_the_letters(tmp_path, fresh_fonts, caplog):
    labels = [drawn_label(tmp_path / "a.png", name) for name in ("кот", "γάτα", "größe", "kot")]
    for number, label in enumerate(labels):
        for other in labels[:number]:
            assert (label != other).any()
    # Letters that the font lacks would all be the same box.
    assert (drawn_label(tmp_path / "a.png", "к") != drawn_label(tmp_path / "a.png", "λ")).any()
    assert caplog.text == ""


def test_ascii_needs_no_look_at_fonts():
    """ASCII names need no import of matplotlib; DEJAVU is its font, with all their letters."""
    script = "import sys; from detection.evaluation import fonts; fonts.fonts_of(('cat', 'a b'));"
    script += "assert 'matplotlib' not in sys.modules; import matplotlib;"
    script += "assert str(fonts.DEJAVU).startswith(matplotlib.get_data_path());"
    script += "lacking = fonts._lacking(str(fonts.DEJAVU), map(chr, range(33, 127)));"
    script += "assert not lacking, lacking"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_where_dejavu_lacks_letters_a_font_of_the_system_is_taken(
    tmp_path, fresh_fonts, monkeypatch, caplog
):
    """A font of matplotlib for mathematics stands in for the fonts of the system."""
    stix, broken = fonts.DEJAVU.parent / "STIXGeneral.ttf", tmp_path / "broken.ttf"
    broken.write_text("no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(stix), str(broken)])
    name = f"a{LETTER}"
    assert fonts.fonts_of((name, "cat")) == {name: stix, "cat": fonts.DEJAVU}
    one = ClassResult(3, np.array([3.0, 2]), np.array([1, 1]), np.array([0, 1]), 0.5, 0.5)
    plot_precision_recall(VOCResult({name: one}), tmp_path / "curves.png")
    assert (drawn_label(tmp_path / "a.png", name) != 128).any()
    assert caplog.text == ""


def test_letters_that_no_font_has_give_one_warning(tmp_path, fresh_fonts, monkeypatch, caplog):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    classes = ("交通灯", "猫", "cat", "$1 & $2_{")
    one = ClassResult(3, np.array([3.0, 2]), np.array([1, 1]), np.array([0, 1]), 0.5, 0.5)
    none = ClassResult(0, np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), None, None)
    result = VOCResult(dict.fromkeys(classes, one) | {"cat": none})
    found = Detections(
        np.float32([[20, 60, 100, 90]] * 4), np.ones(4, np.float32), np.arange(4), classes
    )
    for _ in range(2):
        plot_precision_recall(result, tmp_path / "curves.png")
        draw_detections(GREY, found, tmp_path / "a.png")
    (warning,) = caplog.records
    assert warning.getMessage() == (
        "no font on this machine has the letters 交 灯 猫 通, so they are drawn as boxes; install "
        "a font that has them, such as Noto Sans CJK for Chinese, Japanese and Korean"
    )


def test_the_order_of_an_image_in_memory_does_not_matter(tmp_path, rng):
    image = rng.integers(0, 256, (120, 160, 3), np.uint8)
    found = make_detections([(20, 40, 100, 90, 1, 1)])
    turned = image[::-1, :, ::-1].copy()[::-1, :, ::-1]
    locked = np.asfortranarray(image)
    locked.flags.writeable = False
    drawn = []
    for each in (image, turned, locked):
        np.testing.assert_array_equal(each, image)
        draw_detections(each, found, tmp_path / "a.png")
        drawn.append(read(tmp_path / "a.png"))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])
