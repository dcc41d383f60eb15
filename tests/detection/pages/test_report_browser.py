"""The pages of a test and of a comparison in a real browser."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from counted_page import confusion_at, kinds_at
from made_page import FACTS, HOSTILE, made_test, write_made

from detection.evaluation.comparison import compare
from detection.evaluation.error_kinds import ERRORS, Kind
from detection.pages.comparison_report import FIRST, SECOND, found_by, write_comparison


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    made = made_test(folder)
    write_made(folder / "report.html", *made)
    return folder / "report.html", *made


def move(page, threshold):
    page.fill("#exact", str(threshold))
    page.dispatch_event("#exact", "change")


def text(page, selector):
    return page.text_content(selector)


def test_opens_from_disk_and_asks_for_nothing(opened, made):
    path = made[0]
    page = opened(path)
    page.click(".shot")
    page.click("#large button")
    assert page.outside() == []
    assert page.title() == "run <b>1</b>"
    assert page.locator(".shot img").count() == 24
    page.click("#more")
    assert page.locator(".shot img").count() == 30
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    assert page.eval_on_selector_all(".shot img", loaded)


def test_names_do_no_harm(opened, made):
    page = opened(made[0])
    move(page, 0)
    assert page.title() == "run <b>1</b>"
    rows = page.locator("#classes tbody th").all_text_contents()
    assert rows == list(HOSTILE)
    assert page.locator("#of-class option").all_text_contents() == ["any", *HOSTILE]
    assert page.locator("i, main b b, img[src=x]").count() == 0
    assert any(HOSTILE[2] in each for each in page.locator("#gallery text").all_text_contents())


def test_counts_are_those_of_python(opened, made):
    page = opened(made[0])
    for threshold in (0, 0.06, 0.0625, 0.5, 0.75, 0.93, 1):
        move(page, threshold)
        assert_counts(page, *made[2:], threshold)


def assert_counts(page, shown, result, threshold):
    kinds = kinds_at(shown, threshold)
    table, fates = confusion_at(shown, threshold), shown.fates_at(threshold)
    counted = ~shown.explained.objects.difficult
    found, false = kinds[..., Kind.FOUND].sum(), kinds[..., list(ERRORS)].sum()
    objects = sum(one.npos for one in result.per_class.values())
    assert [
        text(page, f"#counts [data-count={name}]") for name in ("found", "false", "missed")
    ] == [
        str(found),
        str(false),
        str(objects - found),
    ]
    share = f"{found / (found + false):.3f}" if found + false else "-"
    assert text(page, "#counts [data-count=precision]") == share
    assert text(page, "#counts [data-count=recall]") == f"{found / objects:.3f}"
    for label in range(3):
        cells = page.locator(f"[data-class='{label}']").all_text_contents()
        right, wrong = kinds[label, :, Kind.FOUND].sum(), kinds[label][:, list(ERRORS)].sum()
        assert cells[:2] == [str(right), str(wrong)]
        assert cells[2] == str(result.per_class[HOSTILE[label]].npos - right)
    for kind in ERRORS:
        cells = page.locator(f"[data-kind='{int(kind)}']").all_text_contents()
        numbers = kinds[..., kind]
        expected = [numbers.sum(), *numbers.sum(axis=1), *numbers.sum(axis=0)]
        assert cells == [str(each) for each in expected]
    cells = page.locator("[data-kind=missed]").all_text_contents()
    missed = table[:3].sum(axis=1) - kinds[..., Kind.FOUND].sum(axis=1)
    assert cells == [str(each) for each in (objects - found, *missed)]
    for size in range(3):
        of_size = counted & (shown.object_sizes == size)
        cells = page.locator(f"[data-size='{size}'][data-fate]").all_text_contents()
        numbers = [of_size.sum(), *np.bincount(fates[of_size], minlength=4)]
        assert cells == [str(each) for each in numbers]
    cells = page.locator("[data-row]").all_text_contents()
    expected = [*table[:3].ravel(), *table[3, :3]]
    assert [int(cell or 0) for cell in cells] == [int(each) for each in expected]


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_boxes_are_those_above_the_threshold(opened, made, threshold):
    path, records, shown, _ = made
    page = opened(path)
    move(page, threshold)
    page.click("#more")
    explained, seen = shown.explained, shown.scores > np.float32(threshold)
    for shot in page.locator(".shot").all():
        name = shot.locator("b").text_content()
        (number,) = [n for n, record in enumerate(records) if record.image_id == name]
        kinds = explained.kind[seen & (explained.image == number)]
        drawn = shot.locator("rect[style]").evaluate_all("all => all.map(one => one.style.stroke)")
        assert Counter(drawn) == Counter(f"var(--kind-{kind})" for kind in kinds)
        found, false = (kinds == Kind.FOUND).sum(), np.isin(kinds, ERRORS).sum()
        missed = (~records[number].difficult).sum() - found
        words = f"{found} found, {false} false, {missed} missed"
        assert shot.text_content().endswith(words)
        assert shot.locator("rect.missed").count() == missed


def test_filters(opened, made):
    path, _, shown, _ = made
    page = opened(path)
    explained, seen = shown.explained, shown.scores > np.float32(0.5)
    for kind in (Kind.CLASS, Kind.PLACE, Kind.BACKGROUND, Kind.FOUND):
        page.select_option("#of-class", "")
        page.select_option("#of-kind", str(int(kind)))
        expected = len(set(explained.image[seen & (explained.kind == kind)]))
        assert text(page, "#shown-images") == f"{expected} of 30 images"
        page.select_option("#of-class", "1")
        about = (explained.labels == 1) | (
            (explained.kind == Kind.CLASS) & (explained.objects.labels[explained.on] == 1)
        )
        expected = len(set(explained.image[seen & (explained.kind == kind) & about]))
        words = f"{expected} of 30 images" if expected else "no image is like this"
        assert text(page, "#shown-images") == words
    page.select_option("#of-class", "2")
    page.select_option("#of-kind", "missed")
    objects = explained.objects
    missed = (shown.fates_at(0.5) != 0) & ~objects.difficult & (objects.labels == 2)
    assert text(page, "#shown-images") == f"{len(set(objects.image[missed]))} of 30 images"


def test_the_keyboard_moves_the_slider_and_opens_an_image(opened, made):
    page = opened(made[0])
    page.focus("#threshold")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#exact") == "0.51"
    page.locator(".shot").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#large").is_visible()
    assert page.locator("#large .found li").count() > 0
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_needs_no_scrolling_aside(opened, made, scheme):
    page = opened(made[0], viewport={"width": 360, "height": 640}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 23, 26)") == (scheme == "dark")


def test_raw_scores_and_nothing_found(opened, tmp_path):
    records, shown, result = made_test(tmp_path, ("one",), probable=False)
    write_made(tmp_path / "raw.html", records, shown, result, events=[])
    page = opened(tmp_path / "raw.html")
    move(page, 9)
    assert text(page, "#counts [data-count=found]") == "0"
    assert text(page, "#counts [data-count=precision]") == "-"
    assert page.outside() == []


def test_two_tests_compared(opened, tmp_path):
    records, first, _ = made_test(tmp_path)
    kind = first.explained.kind.copy()
    kind[::3] = Kind.BACKGROUND
    second = replace(first, explained=replace(first.explained, kind=kind))
    comparison = compare(first.explained, second.explained, len(records))
    path = tmp_path / "comparison.html"
    write_comparison(path, (HOSTILE[0], "two"), records, (first, second), comparison, FACTS)
    page = opened(path)
    assert page.title() == f"{HOSTILE[0]} and two"
    objects, who = first.explained.objects, found_by(first, second)
    for value, sides in (("", (FIRST, SECOND)), ("1", (FIRST,)), ("2", (SECOND,))):
        page.select_option("#of-side", value)
        there = set(objects.image[np.isin(who, sides) & ~objects.difficult])
        words = f"{len(there)} of " if there else "no image is like this"
        assert text(page, "#shown-images").startswith(words)
    assert page.locator("#classes tbody th").all_text_contents() == [*HOSTILE, "mAP"]
    page.select_option("#of-side", "")
    page.click(".shot")
    assert page.locator("#large .found li").count() > 0
    assert page.outside() == []
