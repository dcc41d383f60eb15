import csv
import json

import pytest

from commands.compare_cls import main

FACTS = {
    "root": "data/pets",
    "split": "val",
    "views": "full",
    "size": "128",
    "network": {"name": "alexnet", "levels": [1, 2], "pool": "max"},
    "trained": {"training": {"crop": 112, "small": 90, "sizes": "single", "epochs": 3}},
}


def left_by(folder, ranks, **changes):
    """A folder as test_cls.py leaves it, with the place of each image's class."""
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(FACTS | changes))
    rows = [f"val/{number}.jpg,cat,cat,0.5,0.5,{rank}" for number, rank in enumerate(ranks)]
    header = "image,class,predicted,probability,class_probability,rank"
    (folder / "predictions.csv").write_text("\n".join([header, *rows, ""]))
    return str(folder)


def test_two_seeds_beside_another_training(tmp_path, capsys):
    first = [left_by(tmp_path / "a", [1, 1, 1, 2]), left_by(tmp_path / "b", [1, 1, 2, 2])]
    second = [left_by(tmp_path / "c", [1, 2, 2, 2], views="ten")]
    table = tmp_path / "table.csv"
    main(first, second, csv=str(table))
    main(first, second, csv=str(table))
    assert "less pyramid 1 2 max, single 112, 3 epochs; ten 128 (1)" in capsys.readouterr().out
    (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    assert float(row["difference"]) == pytest.approx((1 + 0.5) / 4)
    assert (row["task"], row["test"], row["seeds"], row["images"]) == ("pets", "val", "2 1", "4")


def test_a_side_of_different_trainings_is_refused(tmp_path):
    first = [left_by(tmp_path / "a", [1]), left_by(tmp_path / "b", [1], views="ten")]
    with pytest.raises(ValueError, match="differ in more than their seed"):
        main(first, first[:1])
