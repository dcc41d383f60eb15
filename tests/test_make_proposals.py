import csv
import importlib
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from proposals import SelectiveSearch, WindowStore

ROOT = Path(__file__).resolve().parent.parent

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write_tree(folder):
    """Three pictures of 100x140, each a square car and a difficult dog where there is nothing."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for index in range(3):
        left = 20 + 20 * index
        image = np.full((100, 140, 3), 200, np.uint8)
        image[30:70, left : left + 40] = (180, 20, 20)
        Image.fromarray(image).save(folder / f"JPEGImages/{index:06}.png")
        car = OBJECT.format(left + 1, 31, left + 40, 70, name="car", difficult=0)
        dog = OBJECT.format(1, 1, 4, 4, name="dog", difficult=1)
        size = "<size><width>140</width><height>100</height><depth>3</depth></size>"
        text = f"<annotation>{size}{car}{dog}</annotation>"
        (folder / f"Annotations/{index:06}.xml").write_text(text)
    (folder / "ImageSets/Main/train.txt").write_text("000000\n000001\n000002\n")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("VOCdevkit")
    write_tree(root / "VOC2007")
    return root


@pytest.fixture
def run(monkeypatch, capsys, caplog):
    """Calls the tool in this process; gives its exit status, stdout and stderr with the log."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    tool = importlib.import_module("make_proposals")
    caplog.set_level(logging.INFO)

    def call(tree, *flags):
        words = ["make_proposals.py", "--data.root", tree, "--data.split", "train", *flags]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        caplog.clear()
        status = 0
        try:
            tool.run_tool(tool.main, parser_class=tool.Parser)
        except SystemExit as error:
            status = error.code
        printed = capsys.readouterr()
        return SimpleNamespace(status=status, out=printed.out, err=printed.err + caplog.text)

    return call


def figures(text):
    return dict(line.split() for line in text.splitlines() if len(line.split()) == 2)


def test_windows_are_made_kept_and_reported(run, tree, tmp_path):
    flags = ("--cache", tmp_path / "cache", "--csv", tmp_path / "table.csv", "--report")
    first = run(tree, *flags, "--limit", 2, "--workers", 1)
    assert first.status == 0, first.err
    assert "windows of 2 pictures made, 0 reused" in first.err
    assert "2/2" in first.err

    second = run(tree / "VOC2007", *flags)
    assert second.status == 0, second.err
    assert "windows of 1 pictures made, 2 reused" in second.err

    third = run(tree, *flags)
    assert "windows of 0 pictures made, 3 reused" in third.err
    report = figures(third.out)
    # the difficult dog of 4x4 pixels, which no window covers, does not count
    assert report["pictures"] == report["objects"] == "3"
    assert report["recall_50"] == "1.0000"
    assert report["seconds"] == "-"
    assert report["dog"] == "-"
    assert report["car"] == report["abo"] == report["mabo"]
    assert float(report["car"]) > 0.8

    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pictures"] for row in rows] == ["2", "3", "3"]
    assert float(rows[0]["seconds"]) > 0
    assert rows[2] == {name: report[name] for name in rows[2]}
    assert (rows[0]["mode"], rows[0]["base_k"], rows[0]["max_windows"]) == ("fast", "50", "-")


def test_parameters_reach_the_method(run, tree, tmp_path):
    flags = ("--proposals.base_k", 100, "--proposals.inc_k", 70, "--proposals.max_windows", 3)
    ended = run(tree, "--cache", tmp_path, "--limit", 1, *flags)
    assert ended.status == 0, ended.err
    assert ended.out == ""
    store = WindowStore(tmp_path, SelectiveSearch(base_k=100, inc_k=70, max_windows=3))
    assert len(store.load(tree / "VOC2007/JPEGImages/000000.png")) <= 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--proposals.inc_k", 0), "inc_k must be 1 or more, got 0"),
        (("--proposals.mode", "slow"), "proposals.mode"),
        (("--workers", 0), "workers must be 1 or more, got 0"),
        (("--data.split", "holiday"), "holiday"),
        (("--data.root", "nowhere"), "nowhere"),
    ],
)
def test_a_wrong_flag_is_said_in_a_line(run, tree, tmp_path, flags, message):
    ended = run(tree, "--cache", tmp_path, *flags)
    assert ended.status != 0
    assert "Traceback" not in ended.err
    (line,) = [each for each in ended.err.splitlines() if each.startswith("error: ")]
    assert message in line
    assert ended.out == ""


def test_a_table_of_other_columns_is_left_alone(run, tree, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    ended = run(tree, "--cache", tmp_path, "--limit", 1, "--csv", table)
    assert ended.status == 1
    assert f"error: {table} has the columns a,b; expected mode," in ended.err
    assert table.read_text() == "a,b\n1,2\n"
