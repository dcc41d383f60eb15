import csv
import json

import pytest

from commands.compare_cls import main

FACTS = {
    "root": "data/pets",
    "split": "val",
    "views": "full",
    "size": "128",
    "images_key": "a" * 16,
}
NETWORK = {"name": "alexnet", "levels": [1, 2], "pool": "max", "hidden": 8, "crop": None}
TRAINING = {"crop": 112, "small": 90, "sizes": "single", "epochs": 3, "learning_rate": 0.01}


def left_by(folder, ranks, seed=0, network=(), training=(), settings="b" * 16, **changes):
    """Write a test's folder, as test_cls.py leaves it, with the rank of each image's class."""
    folder.mkdir()
    trained = {"seed": seed, "settings": settings, "training": TRAINING | dict(training)}
    facts = {"network": NETWORK | dict(network), "trained": trained}
    (folder / "results.json").write_text(json.dumps(FACTS | facts | changes))
    rows = [f"val/{number}.jpg,cat,cat,0.5,0.5,{rank}" for number, rank in enumerate(ranks)]
    header = "image,class,predicted,probability,class_probability,rank"
    (folder / "predictions.csv").write_text("\n".join([header, *rows, ""]))
    return str(folder)


def rows_of(table):
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


def test_two_seeds_beside_another_training(tmp_path, capsys):
    first = [left_by(tmp_path / "a", [1, 1, 1, 2]), left_by(tmp_path / "b", [1, 1, 2, 2], seed=1)]
    second = [left_by(tmp_path / "c", [1, 2, 2, 2], views="ten")]
    table = tmp_path / "table.csv"
    main(first, second, csv=str(table))
    main(first, second, csv=str(table))
    assert "less pyramid 1 2 max, single 112, 3 epochs; ten 128 (1)" in capsys.readouterr().out
    (row,) = rows_of(table)
    assert float(row["difference"]) == pytest.approx((1 + 0.5) / 4)
    assert (row["task"], row["test"], row["seeds"], row["images"]) == ("pets", "val", "2 1", "4")


def test_sides_of_other_settings_are_named_and_have_rows_of_their_own(tmp_path, capsys):
    base = left_by(tmp_path / "base", [1, 1])
    others = [
        left_by(tmp_path / "zf5", [1, 2], network={"name": "zf5"}),
        left_by(tmp_path / "rate", [2, 2], training={"learning_rate": 0.1}),
        left_by(tmp_path / "data", [2, 1], settings="c" * 16),
    ]
    table = tmp_path / "table.csv"
    for other in others:
        main([base], [other], csv=str(table))
    said = capsys.readouterr().out
    assert "3 epochs, network.name alexnet; full 128 (1) less" in said
    assert "3 epochs, network.name zf5; full 128 (1):" in said
    assert "3 epochs, training.learning_rate 0.1; full 128 (1):" in said
    assert [row["difference"] for row in rows_of(table)] == ["0.5000", "1.0000", "0.5000"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"views": "ten"}, "views full and ten"),
        ({"network": {"name": "zf5"}}, "network.name alexnet and zf5"),
        ({"network": {"hidden": 16}}, "network.hidden 8 and 16"),
        ({"training": {"learning_rate": 0.1}}, "training.learning_rate 0.01 and 0.1"),
        ({"settings": "c" * 16}, "the images they were trained on"),
        (
            {"images_key": "c" * 16, "root": "B"},
            r"images of data/pets \(key a+\) and of B \(key c+\)",
        ),
    ],
)
def test_a_side_of_different_trainings_is_refused(tmp_path, changes, said):
    first = [left_by(tmp_path / "a", [1]), left_by(tmp_path / "b", [1], seed=1, **changes)]
    with pytest.raises(ValueError, match=f"differ in more than their seed: {said}; name tests"):
        main(first, first[:1])


def test_a_seed_counts_once(tmp_path):
    one, same = left_by(tmp_path / "a", [1]), left_by(tmp_path / "b", [1])
    for side in ([one, one], [one, same]):
        with pytest.raises(ValueError, match="are both of seed 0; name each seed once"):
            main(side, [one])
    with pytest.raises(ValueError, match="one test or more on each side"):
        main([], [one])


def test_other_images_of_the_same_names_are_refused(tmp_path):
    one, other = left_by(tmp_path / "a", [1]), left_by(tmp_path / "b", [1], images_key="c" * 16)
    with pytest.raises(ValueError, match="b is a test of the images in data/pets, and not of the"):
        main([one], [other])


def test_tests_from_before_images_had_keys_are_compared(tmp_path, capsys):
    folders = []
    for name in "ab":
        folder = left_by(tmp_path / name, [1], seed=ord(name))
        facts = json.loads((tmp_path / name / "results.json").read_text())
        del facts["images_key"], facts["trained"]["settings"]
        (tmp_path / name / "results.json").write_text(json.dumps(facts))
        folders.append(folder)
    main(folders, folders)
    assert "(2) less" in capsys.readouterr().out
