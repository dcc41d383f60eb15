"""The command that tests a classifier."""

import csv
import json
import re
from dataclasses import asdict

import pytest
import yaml
from made_classes import COLOURS, write_classes

from classification.config import Training
from classification.network import build_network, load_classifier, save_classifier
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


def values(table):
    rows = csv.DictReader(table.read_text().splitlines())
    return [row["value"] for row in rows if row["metric"] == "top1"]


def test_images_of_another_root_have_a_folder_and_rows_of_their_own(run, tmp_path):
    own = tmp_path / "data"
    other, same_name = tmp_path / "b", tmp_path / "c" / "data"
    for root in (other, same_name):
        write_classes(root, train=0, val=1)
    table = tmp_path / "table.csv"
    for root in (None, other, str(own), same_name):
        main(str(run), data=Images(root and str(root)), device="cpu", csv=str(table))
    folders = sorted(path.parent.relative_to(run) for path in run.rglob("results.json"))
    assert [re.sub(r"-\w{8}/", "-KEY/", str(folder)) for folder in folders] == [
        "test_val/full_64",
        "test_val_b-KEY/full_64",
        "test_val_data-KEY/full_64",
    ]
    facts = [json.loads((run / folder / "results.json").read_text()) for folder in folders]
    assert [each["images"] for each in facts] == [6, 3, 3]
    assert len(values(table)) == 3
    with pytest.raises(ValueError, match=r"is a test of the images in .*b, and not of the same"):
        main(str(run), device="cpu", compare=(str(run / folders[1]),))


def test_classifiers_of_other_settings_have_rows_of_their_own(run, tmp_path):
    table = tmp_path / "table.csv"
    main(str(run), device="cpu", csv=str(table))
    path = run / "classifier.safetensors"
    network, classes, facts = load_classifier(path)
    save_classifier(path, build_network("alexnet", 3, levels=(1,), hidden=6), classes, facts)
    main(str(run), device="cpu", csv=str(table))
    facts["training"]["learning_rate"] = 0.5
    save_classifier(path, network, classes, facts)
    main(str(run), device="cpu", csv=str(table))
    save_classifier(path, network, classes, facts | {"settings": "of other images"})
    main(str(run), device="cpu", csv=str(table))
    assert len(values(table)) == 4
    main(str(run), device="cpu", csv=str(table))
    assert len(values(table)) == 4
    page = (run / "test_val/full_64/report.html").read_text()
    assert page.count('<th scope="row">full_64</th>') == 1


def test_the_page_shows_tests_of_this_classifier_only(run):
    main(str(run), "ten", device="cpu")
    path = run / "classifier.safetensors"
    network, classes, facts = load_classifier(path)
    save_classifier(path, network, classes, facts | {"seed": 6})
    main(str(run), device="cpu")
    page = (run / "test_val/full_64/report.html").read_text()
    assert '<th scope="row">ten_64</th>' not in page
