"""The test of a classifier as a user calls it."""

import csv
import json
from dataclasses import asdict

import pytest
import yaml
from made_classes import COLOURS, write_classes

from classification.config import Training
from classification.network import build_network, save_classifier
from commands.test_cls import Images, main


@pytest.fixture
def run(tmp_path):
    root = write_classes(tmp_path / "data", train=0, val=2)
    folder = tmp_path / "run"
    network = build_network("alexnet", 3, levels=(1,), hidden=4)
    facts = {"seed": 5, "shorter_side": 64, "training": asdict(Training(crop=64, small=64))}
    save_classifier(folder / "classifier.safetensors", network, sorted(COLOURS), facts)
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"root": str(root)}}))
    return folder


def test_leaves_predictions_results_plot_and_rows(run, tmp_path, capsys):
    table = tmp_path / "classification.csv"
    main(str(run), device="cpu", csv=str(table))
    main(str(run), "ten", device="cpu", csv=str(table), compare=(f"{run}/test_val/full_64",))
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("top-1 ")
    assert f"top-1 less that of {run}/test_val/full_64: " in out
    for name in ("full_64", "ten_64"):
        folder = run / "test_val" / name
        assert {path.name for path in folder.iterdir()} == {
            "predictions.csv",
            "results.json",
            "confusion.png",
            "report.html",
        }
    page = (run / "test_val/ten_64/report.html").read_text()
    assert '<th scope="row">ten_64</th>' in page
    assert '<th scope="row">full_64</th>' in page
    found = json.loads((run / "test_val/ten_64/results.json").read_text())
    assert found["images"] == 6
    assert 0 <= found["top1"] <= 1
    assert found["compared"][f"{run}/test_val/full_64"]["images"] == 6
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["view"], row["metric"]) for row in rows] == [
        (view, metric) for view in ("full", "ten") for metric in ("top1", "mean_class")
    ]
    assert {(row["task"], row["size"], row["test"], row["seed"]) for row in rows} == {
        ("data", "64", "val", "5")
    }


def test_unreadable_images_end_it_with_their_own_status(run, tmp_path):
    (tmp_path / "data/val/red/1.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as ended:
        main(str(run), device="cpu")
    assert ended.value.code == 3
    with pytest.raises(ValueError, match=r"1\.png is not a readable image"):
        main(str(run), device="cpu", strict=True)


def test_says_what_is_missing(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*test"):
        main(str(run), data=Images(split="test"), device="cpu")
    (run / "config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"name --data\.root"):
        main(str(run), device="cpu")
    with pytest.raises(FileNotFoundError, match="no classifier at"):
        main(str(tmp_path / "none"), device="cpu")
