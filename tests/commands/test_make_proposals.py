import csv
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from commands import make_proposals
from proposals import SelectiveSearch, WindowStore

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write_tree(folder):
    """Write three images of 100x140; each has a square car, and a difficult dog on bare ground."""
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
def run(called, caplog):
    """Call the tool on the split 'train'; ``err`` has the log too."""
    caplog.set_level(logging.INFO)

    def call(tree, *flags):
        words = ["--data.root", tree, "--data.split", "train", *flags]
        done = called(make_proposals.run, *words)
        return SimpleNamespace(status=done.status, out=done.out, err=done.err + done.log)

    return call


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_windows_are_made_kept_and_reported(run, tree, tmp_path):
    flags = ("--cache", tmp_path / "cache", "--report")
    first = run(tree, *flags, "--limit", 2, "--workers", 1)
    assert first.status == 0, first.err
    assert "windows of 2 images made, 0 reused" in first.err
    assert "2/2" in first.err

    second = run(tree / "VOC2007", *flags)
    assert second.status == 0, second.err
    assert "windows of 1 images made, 2 reused" in second.err

    third = run(tree, *flags)
    assert "windows of 0 images made, 3 reused" in third.err
    # the difficult dog of 4x4 pixels, which no window covers, does not count
    lines = third.out.splitlines()
    assert lines[0].startswith("selective_search, train: 3 images, 3 objects, ")
    assert lines[1].split() == [
        *("windows", "recall_50", "recall_70", "recall_80", "recall_90", "abo", "mabo", "seconds")
    ]
    classes = dict(line.split() for line in lines if line.startswith(("car", "dog")))
    whole = next(line.split() for line in lines[::-1] if line[:1] == " ")
    assert whole[1] == "1.0000"
    assert classes["dog"] == "-"
    assert classes["car"] == whole[5] == whole[6]
    assert float(classes["car"]) > 0.8


def test_a_table_of_several_methods(run, tree, tmp_path):
    table, plot = tmp_path / "docs" / "table.csv", tmp_path / "docs" / "recall.png"
    flags = ("--cache", tmp_path / "cache", "--csv", table, "--plot", plot)
    for extra in ((), ("--proposals.method", "edge_boxes"), ("--proposals.method", "both"), ()):
        ended = run(tree, *flags, *extra)
        assert ended.status == 0, ended.err
        assert ended.out == ""
    rows = rows_of(table)
    assert list(rows[0]) == [
        *("method", "split", "windows", "recall_50", "recall_70", "recall_80", "recall_90"),
        *("abo", "mabo", "seconds"),
    ]
    edge = "edge_boxes_learned_regions"
    methods = [row["method"] for row in rows]
    assert list(dict.fromkeys(methods)) == [*("selective_search", edge, f"selective_search+{edge}")]
    # A method has one row for each number of windows.
    assert len({(row["method"], row["windows"]) for row in rows}) == len(rows)
    for method in set(methods):
        one = [row for row in rows if row["method"] == method]
        # The last row is the mean number of windows; few images may reach the number above it.
        counts = [int(row["windows"]) for row in one[:-1]]
        assert counts == sorted(counts)
        for name in ("recall_50", "abo"):
            figures = [float(row[name]) for row in one]
            assert figures == sorted(figures)
        assert all(float(row["seconds"]) > 0 for row in one)
    last = {row["method"]: row for row in rows}
    assert int(last[f"selective_search+{edge}"]["windows"]) > int(last[edge]["windows"])
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_windows_of_a_file_are_measured(run, tree, tmp_path):
    objects = {f"{i:06}": np.array([[20 + 20 * i, 30, 60 + 20 * i, 70]]) for i in range(3)}
    np.savez(tmp_path / "mine.npz", **objects)
    flags = ("--proposals.method", "file", "--proposals.file", tmp_path / "mine.npz")
    ended = run(tree, "--cache", tmp_path, "--csv", tmp_path / "table.csv", *flags)
    assert ended.status == 0, ended.err
    (row,) = rows_of(tmp_path / "table.csv")
    assert (row["method"], row["windows"], row["seconds"]) == ("file_mine", "1", "-")
    assert row["recall_90"] == row["abo"] == "1.0000"


def test_the_order_of_an_array_in_memory_does_not_matter(run, tree, tmp_path):
    objects = {
        f"{i:06}": np.array([[0, 0, 9, 9], [20 + 20 * i, 30, 60 + 20 * i, 70]]) for i in range(3)
    }
    np.savez(tmp_path / "c.npz", **objects)
    np.savez(tmp_path / "f.npz", **{name: np.asfortranarray(a) for name, a in objects.items()})
    cells = np.empty((2, 3), object)
    for number, (name, rows) in enumerate(objects.items()):
        cells[0, number] = f"{name}.jpg"
        cells[1, number] = np.asfortranarray((rows + np.array([1, 1, 0, 0]))[:, [1, 0, 3, 2]])
    savemat(tmp_path / "m.mat", {"images": cells[0], "boxes": cells[1]})
    for name in ("c.npz", "f.npz", "m.mat"):
        flags = ("--proposals.method", "file", "--proposals.file", tmp_path / name)
        ended = run(tree, "--cache", tmp_path, "--csv", tmp_path / "table.csv", *flags)
        assert ended.status == 0, ended.err
    assert [row["recall_90"] for row in rows_of(tmp_path / "table.csv")] == ["1.0000"] * 3


def test_a_file_that_lacks_images_is_noticed_first(run, tree, tmp_path):
    np.savez(tmp_path / "mine.npz", **{"000001": np.array([[0, 0, 9, 9]])})
    flags = ("--proposals.method", "file", "--proposals.file", tmp_path / "mine.npz")
    ended = run(tree, "--cache", tmp_path, "--report", *flags)
    assert ended.status == 1
    assert "mine.npz has no windows of 2 of 3 images: " in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("method", ["selective_search", "both"])
def test_unreadable_images_are_left_out_and_listed(run, tmp_path, method):
    write_tree(tmp_path / "VOC2007")
    bad = tmp_path / "VOC2007/JPEGImages/000001.png"
    bad.write_bytes(bad.read_bytes()[:60])
    flags = ("--proposals.method", method, "--report")
    for made in ("windows of 2 images made, 0 reused", "windows of 0 images made, 2 reused"):
        ended = run(tmp_path, "--cache", tmp_path / "cache", *flags)
        assert ended.status == 3
        assert "Traceback" not in ended.err
        assert made in ended.err
        assert "train: 2 images, 2 objects" in ended.out
        assert "000001.png is not a readable image" in ended.err.split("skipped 000001: ")[1]
        assert "images skipped: 1; exit status 3" in ended.err


def test_other_parameters_and_images_are_other_rows(run, tree, tmp_path):
    flags = ("--cache", tmp_path / "cache", "--csv", tmp_path / "table.csv")
    run(tree, *flags)
    run(tree, *flags, "--limit", 2)
    changed = run(tree, *flags, "--proposals.selective_search.min_side", 30)
    assert changed.status == 0, changed.err
    names = {(row["method"], row["split"]) for row in rows_of(tmp_path / "table.csv")}
    assert names == {
        ("selective_search", "train"),
        ("selective_search", "train:2"),
        ("selective_search min_side=30", "train"),
    }


def test_parameters_reach_the_method(run, tree, tmp_path):
    flags = tuple(
        f"--proposals.selective_search.{name}={value}"
        for name, value in (("base_k", 100), ("inc_k", 70), ("max_windows", 3))
    )
    ended = run(tree, "--cache", tmp_path, "--limit", 1, *flags)
    assert ended.status == 0, ended.err
    assert ended.out == ""
    store = WindowStore(tmp_path, SelectiveSearch(base_k=100, inc_k=70, max_windows=3))
    assert len(store.load(tree / "VOC2007/JPEGImages/000000.png")) <= 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--proposals.selective_search.inc_k", 0), "inc_k must be 1 or more, got 0"),
        (("--proposals.selective_search.mode", "slow"), "selective_search.mode"),
        (("--proposals.edge_boxes.decay", 1), "decay must be from 0 to 0.99, got 1"),
        (("--proposals.method", "bing"), "proposals.method"),
        (("--plot", "recall.png"), "name the table with --csv"),
        (("--csv", "."), "error: . is a folder; name a file"),
        (("--csv", "a.csv", "--plot", "."), "error: . is a folder; name a file"),
        (("--workers", -1), "workers must be 0 or more, got -1"),
        (("--data.split", "holiday"), "holiday"),
        (("--data.root", "nowhere"), "nowhere"),
    ],
)
def test_a_wrong_flag_gives_one_line(run, tree, tmp_path, flags, message):
    ended = run(tree, "--cache", tmp_path, *flags)
    assert ended.status != 0
    assert "Traceback" not in ended.err
    (line,) = [each for each in ended.err.splitlines() if each.startswith("error: ")]
    assert message in line
    assert ended.out == ""
    assert not (tmp_path / "windows").exists()  # no window was made


def test_a_table_of_other_columns_is_left_alone(run, tree, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    ended = run(tree, "--cache", tmp_path, "--limit", 1, "--csv", table)
    assert ended.status == 1
    assert f"error: {table} has the columns" in ended.err
    assert table.read_text() == "a,b\n1,2\n"
