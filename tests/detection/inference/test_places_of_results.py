"""Where results of a test lie: candidates by image, folders by all that a test depends on."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from made_detector import (
    ALL,
    CLASSES,
    Counting,
    assert_same,
    made_image,
    made_windows,
)
from PIL import Image

from detection.data.records import Dataset
from detection.inference import testing
from detection.run import Run
from detection.settings.data import Data
from detection.settings.testing import Detection
from files import writing
from files.artefacts import DamagedArtefact
from proposals.methods import Proposals


def test_damaged_candidates(detector, split):
    folder = testing.score_split(split.run, detector, split.data, split.windows)["fc7"]
    path, _ = testing.candidates_file(folder, split.data.records[1])
    other, _ = testing.candidates_file(folder, split.data.records[0])
    elsewhere, _ = testing.candidates_file(
        folder.with_name(folder.name.replace("fc7", "fc6")), split.data.records[1]
    )
    for content in (b"no candidates", b"", other.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DamagedArtefact, match=f"{path.name} (is damaged|has another key)"):
            testing.split_detections(detector, split.data, folder)
    assert elsewhere.parent.name != folder.name
    assert elsewhere.name != path.name


def folder_of(detector, split, data):
    return testing.score_split(split.run, detector, data, split.windows)["fc7"]


def test_other_images_of_the_same_names_are_scored_anew(detector, split):
    testing.score_split(split.run, detector, split.data, split.windows)
    folder = folder_of(detector, split, split.other_data)
    found = testing.split_detections(detector, split.other_data, folder)
    for record in split.other_data.records:
        assert_same(found[record.image_id], detector.detect(record.path, made_windows(), ALL))


def test_an_edited_image_is_scored_anew_and_no_other(detector, split):
    folder = folder_of(detector, split, split.data)
    first, second = split.data.records
    names = [testing.candidates_file(folder, record)[0].name for record in (first, second)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [name.split("-")[0] for name in names] == ["000000", "000001"]
    Image.fromarray(made_image(8)).save(second.path)
    counting = Counting(detector)
    assert folder_of(counting, split, split.data) == folder
    assert counting.scored == 1
    found = testing.split_detections(detector, split.data, folder)
    assert_same(found["000001"], detector.detect(second.path, made_windows(), ALL))
    # When the old image is back, its candidates are still there.
    Image.fromarray(made_image(1)).save(second.path)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1


def test_ids_of_any_kind_have_candidates_below_the_folder(detector, split):
    record = split.data.records[0]
    ids = ("a.rf.1", "a.rf.2", "day2/a.rf.1", "Bild 1", "图", "x" * 240)
    data = Dataset(tuple(replace(record, image_id=name) for name in ids), CLASSES)
    folder = folder_of(detector, split, data)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == len(ids)
    assert {path.parent for path in folder.iterdir()} == {folder}
    assert testing.split_detections(detector, data, folder).keys() == set(ids)


def test_an_image_is_hashed_once_until_it_changes(detector, split, monkeypatch):
    hashed = []
    monkeypatch.setattr(writing, "file_digest", lambda path: hashed.append(path) or f"{path}")
    record = split.data.records[0]
    first = testing.candidates_file(split.run.folder, record)
    assert testing.candidates_file(split.run.folder, record) == first
    assert len(hashed) == 1
    Image.fromarray(made_image(9, (80, 80))).save(record.path)
    testing.candidates_file(split.run.folder, record)
    assert len(hashed) == 2


def test_tests_have_folders_named_by_what_they_depend_on(detector, split):
    def named(settings=None, windows=None, **changes):
        run = Run(replace(split.run.config, **changes))
        cell = replace(detector, detection=settings or Detection())
        return testing.folder_of_test(run, cell, windows or split.windows)

    proposals = detector.proposals
    other = replace(proposals.selective_search, min_side=9)
    boxes = replace(proposals, method="edge_boxes")
    folders = [
        named(proposals=proposals),
        named(Detection(bbox=False), proposals=proposals),
        named(Detection(layer="fc6+fc7"), proposals=proposals),
        named(Detection(layer="softmax", vote_iou=0.5, fc_rank=8), proposals=proposals),
        named(Detection(score_threshold=-1.0, nms_iou=0.5), proposals=proposals),
        named(Detection(candidates=50, top_k=2), proposals=proposals, limit=7),
        named(windows=SimpleNamespace(method=boxes), proposals=boxes),
        named(
            windows=SimpleNamespace(method=other),
            proposals=replace(proposals, selective_search=other),
        ),
        named(proposals=proposals, scales=5),
    ]
    assert [f"{folder.parent.name}/{folder.name}" for folder in folders] == [
        "test_test_1scales/fc7+bb",
        "test_test_1scales/fc7",
        "test_test_1scales/fc6+fc7+bb",
        "test_test_1scales/softmax+bb_rank8_vote0.5",
        "test_test_1scales/fc7+bb_above-1_nms0.5",
        "test_test_1scales/fc7+bb_best50_top2_limit7",
        f"test_test_1scales/fc7+bb_{boxes.name}",
        f"test_test_1scales/fc7+bb_selective_search-{other.key[:6]}",
        "test_test_5scales/fc7+bb",
    ]
    trained = replace(detector, trained={"precision": "bfloat16"})
    assert (
        testing.folder_of_test(
            Run(replace(split.run.config, proposals=proposals)), trained, split.windows
        ).name
        == "fc7+bb_float32"
    )


def test_a_test_on_other_images_has_its_own_folder(detector, split, tmp_path):
    trained = replace(split.run.config, data=Data(root=str(tmp_path / "mine")))
    run = Run(replace(trained, proposals=detector.proposals))
    run.save_settings()
    usual = testing.folder_of_test(run, detector, split.windows).name
    folders = set()
    for data in (Data(root=str(tmp_path / "yours: 2")), Data(root=trained.data.root, lists="a")):
        other = Run(replace(run.config, data=data))
        folders.add(testing.folder_of_test(other, detector, split.windows).name)
    first, second = sorted(folders)
    assert first.startswith(f"{usual}_mine-")
    assert second.startswith(f"{usual}_yours%3A 2-")


def test_images_that_were_trained_on_are_known(detector, split):
    run = Run(replace(split.run.config, data=Data(root="mine")))
    assert testing.seen_in_training(run, split.data) == []
    run.save_settings()
    (run.folder / "trained_on.txt").write_text("000001\n7\n")
    assert testing.seen_in_training(run, split.data) == ["000001"]
    other = Run(replace(run.config, data=Data(root="yours")))
    assert testing.seen_in_training(other, split.data) == []


def test_a_file_of_windows_that_is_gone_is_not_needed(detector, split):
    """The detector was trained on windows of a file, and is tested on others."""
    moved = replace(detector, proposals=Proposals(method="file", file="gone/train.csv"))
    run = Run(replace(split.run.config, proposals=detector.proposals))
    assert testing.folder_of_test(run, moved, split.windows).name.endswith("_selective_search")


def test_a_split_cannot_lead_out_of_the_run(split):
    config = replace(split.run.config, data=replace(split.run.config.data, test_split="a/../../b"))
    with pytest.raises(
        ValueError, match=r"the split of the test 'a/\.\./\.\./b' leaves its folder"
    ):
        testing.results_folder(Run(config))
