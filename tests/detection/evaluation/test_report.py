"""Tables, JSON and CSV of results."""

import errno
import json
import os
import time
from threading import Thread

import numpy as np
import pytest

from detection.evaluation import report
from detection.evaluation.average_precision import ClassResult, VOCResult
from detection.evaluation.report import (
    ap_columns,
    format_stages,
    format_table,
    put_row,
    put_rows,
    save_result,
)


@pytest.fixture
def result():
    scores = np.array([0.9, 0.8, 0.7])
    cat = ClassResult(4, scores, np.array([1, 1, 2]), np.array([0, 1, 1]), 0.4242424242, 0.45)
    nothing = np.zeros(0, np.int64)
    missed = ClassResult(1, np.zeros(0), nothing, nothing, 0.0, 0.0)
    none = ClassResult(0, np.array([0.5]), np.array([0]), np.array([1]), None, None)
    return VOCResult({"cat": cat, "diningtable": missed, "sheep": none})


def test_table(result):
    lines = format_table(result, ap50=0.25).splitlines()
    assert lines[-3:] == ["AP50 (pycocotools) 0.2500", "mAP (area) 0.2250", "mAP 0.2121"]
    assert lines[0].split() == ["class", "AP", "AP", "area", "objects", "detections", "tp", "fp"]
    assert lines[1].split() == ["cat", "0.4242", "0.4500", "4", "3", "2", "1"]
    assert lines[2].split() == ["diningtable", "0.0000", "0.0000", "1", "0", "0", "0"]
    assert lines[3].split() == ["sheep", "-", "-", "0", "1", "0", "1"]
    assert lines[4] == "mean over 2 of 3 classes: no objects of sheep"
    assert len({len(line) for line in lines[:4]}) == 1


def test_wide_letters_take_two_columns(result):
    names = ("cat", "红绿灯", "n")
    lines = format_table(VOCResult(dict.fromkeys(names, result.per_class["cat"]))).splitlines()
    assert lines[2].startswith("红绿灯  ")
    assert lines[1].startswith("cat     ")
    assert [line.index("0.4242") for line in lines[1:4]] == [12, 9, 12]


def test_a_mean_over_all_classes_needs_no_words(result):
    whole = VOCResult({name: result.per_class[name] for name in ("cat", "diningtable")})
    assert [line.split()[0] for line in format_table(whole).splitlines()] == [
        *("class", "cat", "diningtable", "mAP", "mAP"),
    ]


def test_of_many_classes_without_objects_some_are_named(result):
    many = {f"c{number}": result.per_class["sheep"] for number in range(30)}
    lines = format_table(VOCResult({"cat": result.per_class["cat"], **many})).splitlines()
    assert lines[-3].startswith("mean over 1 of 31 classes: no objects of c0, c1, ")
    assert lines[-3].endswith(" c7 and 22 more")


def test_table_without_a_second_opinion(result):
    assert "pycocotools" not in format_table(result)
    assert format_table(result).splitlines()[-1] == "mAP 0.2121"


def test_json_holds_everything_unrounded(result, tmp_path):
    facts = {"command": "python tools/test_det.py", "seconds": 1.5, "machine": "2 cores"}
    save_result(tmp_path / "new" / "results.json", result, facts)
    read = json.loads((tmp_path / "new" / "results.json").read_text())
    assert {key: read[key] for key in facts} == facts
    assert read["map"] == result.map
    assert read["map_area"] == result.map_area
    assert list(read["per_class"]) == ["cat", "diningtable", "sheep"]
    assert (read["per_class"]["sheep"]["ap"], read["per_class"]["sheep"]["ap_area"]) == (None, None)
    assert read["per_class"]["diningtable"]["ap"] == 0
    assert read["per_class"]["cat"] == {
        "ap": 0.4242424242,
        "ap_area": 0.45,
        "npos": 4,
        "detections": 3,
        "ntp": 2,
        "nfp": 1,
    }


def test_json_refuses_facts_that_hide_the_result(result, tmp_path):
    with pytest.raises(ValueError, match=r"must not be named \['map'\]"):
        save_result(tmp_path / "results.json", result, {"map": 0.9})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_result(tmp_path / "results.json", result, {"seconds": float("nan")})
    assert not list(tmp_path.iterdir())


def test_columns_of_classes(result):
    columns = ap_columns(result, ["cat", "map"])
    assert columns == {"class cat": 0.4242, "diningtable": 0, "sheep": "-"}


def test_csv_with_a_mark_of_byte_order_is_read(tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes("run,map\r\né,1\r\n".encode("utf-8-sig"))
    put_row(path, {"run": "b", "map": 2}, ["run"])
    assert path.read_text(encoding="utf-8") == "run,map\né,1\nb,2\n"


def test_csv_grows_by_rows(tmp_path):
    path = tmp_path / "new" / "results.csv"
    put_row(path, {"run": "a, b", "map": 0.5}, ["run"])
    put_row(path, {"run": "c", "map": 0.25}, ["run"])
    assert path.read_text() == 'run,map\n"a, b",0.5\nc,0.25\n'
    assert {each.name for each in path.parent.iterdir()} == {path.name, ".results.csv.lock"}


def test_csv_has_one_row_of_a_finding(tmp_path):
    path = tmp_path / "results.csv"
    for scales in (1, 5):
        for layer in ("fc6", "fc7"):
            put_row(path, {"scales": scales, "layer": layer, "map": 0.5}, ["scales", "layer"])
    # A row with the same keys is replaced in its place, although keys are read as text.
    # A row that differs in one key is a new row.
    put_row(path, {"scales": 1, "layer": "fc7", "map": 0.625}, ["scales", "layer"])
    put_row(path, {"scales": 5, "layer": "fc6", "map": 0.75}, ["scales", "layer"])
    put_row(path, {"scales": 5, "layer": "pool5", "map": 0.25}, ["scales", "layer"])
    assert path.read_text().splitlines() == [
        "scales,layer,map",
        "1,fc6,0.5",
        "1,fc7,0.625",
        "5,fc6,0.75",
        "5,fc7,0.5",
        "5,pool5,0.25",
    ]


def test_csv_keeps_the_other_rows_as_they_are(tmp_path):
    path = tmp_path / "results.csv"
    text = 'run,words,map\na,"one, ""two""\nthree",0.50\nb,,1\n'
    path.write_text(text)
    put_row(path, {"run": "c", "words": None, "map": True}, ["run"])
    assert path.read_text() == f"{text}c,None,True\n"


def test_csv_mends_a_missing_last_newline(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("run,map\na,1")
    put_row(path, {"run": "b", "map": 2}, ["run"])
    assert path.read_text() == "run,map\na,1\nb,2\n"


def test_csv_refuses_other_columns(tmp_path):
    path = tmp_path / "results.csv"
    put_row(path, {"run": "a", "map": 0.5}, ["run"])
    for row in ({"map": 0.5, "run": "a"}, {"run": "a"}, {"run": "a", "map": 0.5, "cat": 1}):
        with pytest.raises(
            ValueError, match=r"results\.csv has the columns \['run', 'map'\], expected \["
        ):
            put_row(path, row, ["run"])
    assert path.read_text() == "run,map\na,0.5\n"


def test_stages_with_their_speed():
    stages = {
        "windows": {"seconds": 50.0, "peak_memory_mb": 300},
        "fine-tuning": {"seconds": 4.0, "peak_memory_mb": 4000},
    }
    lines = [line.split() for line in format_stages(stages, 100).splitlines()]
    assert lines == [
        ["stage", "seconds", "images/s", "peak", "MB"],
        ["windows", "50.0", "2.00", "300"],
        ["fine-tuning", "4.0", "25.00", "4000"],
        ["in", "all", "54.0"],
    ]
    assert format_stages({}, 3).splitlines()[-1].split() == ["in", "all", "0.0"]


def test_writers_of_one_table_wait_for_each_other(tmp_path, monkeypatch):
    path = tmp_path / "new" / "table.csv"
    save = report.save_text

    def slow(*words):
        time.sleep(0.05)
        save(*words)

    monkeypatch.setattr(report, "save_text", slow)
    rows = [{"method": name, "recall": 0.5} for name in "abcd"]
    writers = [Thread(target=put_rows, args=(path, [row], ["method"])) for row in rows]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(path.read_text().split()) == ["a,0.5", "b,0.5", "c,0.5", "d,0.5", "method,recall"]


def test_a_table_where_there_are_no_locks(tmp_path, monkeypatch):
    def refused(_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(report.FileLock, "acquire", refused)
    put_rows(tmp_path / "table.csv", [{"method": "a"}], ["method"])
    assert (tmp_path / "table.csv").read_text() == "method\na\n"


def test_a_table_whose_rows_do_not_fit_it(tmp_path):
    path = tmp_path / "table.csv"
    for text, message in (
        ("method\na,b\n", "rows of more or fewer fields than its header"),
        ("method,map\na\n", "rows of more or fewer fields than its header"),
        ("map\na\n", "has the columns"),
    ):
        path.write_text(text, newline="")
        columns = text.split("\n")[0].split(",") if "more" in message else ["method"]
        with pytest.raises(ValueError, match=message):
            put_rows(path, [dict.fromkeys(columns, 1)], columns)
        assert path.read_bytes() == text.encode()
    path.write_text("")
    put_rows(path, [{"method": "a"}], ["method"])
    assert path.read_text() == "method\na\n"


def test_rows_take_the_place_of_all_that_a_finding_had(tmp_path):
    path = tmp_path / "table.csv"
    for method in ("a", "b"):
        rows = [{"method": method, "windows": count, "recall": 0.5} for count in (10, 1999)]
        put_rows(path, rows, ["method"])
    put_rows(path, [{"method": "a", "windows": n, "recall": 1} for n in (10, 20, 1996)], ["method"])
    assert path.read_text().splitlines() == [
        "method,windows,recall",
        *("a,10,1", "a,20,1", "a,1996,1"),
        *("b,10,0.5", "b,1999,0.5"),
    ]
