from dataclasses import replace
from pathlib import Path

import pytest
from made_formats import draw, write_xml

from commands import inspect_data
from commands.inspect_data import main
from detection.config import Config
from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.settings.data import Data, Split
from proposals.methods import Proposals
from proposals.selective_search import SelectiveSearch


def test_a_look_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = draw(6)
    drawn[0].objects[:] = [("ball", [2, 2, 8, 8])] * 2
    write_xml(tmp_path / "data", drawn)
    for name in ("copy.1", "copy.2"):
        write_xml(tmp_path / "data", [replace(drawn[0], name=name)])
    main(
        Split(str(tmp_path / "data"), "all"),
        Proposals("selective_search", SelectiveSearch(base_k=400, inc_k=400, max_windows=50)),
        training=None,
        cache=tmp_path / "cache",
        sample=2,
        sheet=tmp_path / "sheet.png",
    )
    said = capsys.readouterr().out
    objects = sum(len(each.objects) for each in drawn) + 4
    assert f"8 images, {objects} objects; 1 images without objects" in said
    assert "same box and class as another: 3" in said
    assert "duplicate images: 1, such as b00.rf.1 = copy.1 = copy.2" in said
    assert "too small for any window of selective_search: " in said
    assert "windows by selective_search on 2 images" in said
    assert (tmp_path / "sheet.png").is_file()


def test_the_sheet_takes_the_place_of_no_image(tmp_path: Path) -> None:
    write_xml(tmp_path, draw(2))
    (image,) = (tmp_path / "images").glob("*.jpg")
    before = image.read_bytes()
    with pytest.raises(ValueError, match=r"\.jpg would be overwritten"):
        main(Split(str(tmp_path), "all"), training=None, sample=0, sheet=image)
    assert image.read_bytes() == before


def test_how_long_a_training_takes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    drawn = draw(6)
    for each in drawn[:5]:  # so that a box is clipped in every split
        each.objects.append(("ball", [-1, 2, 20, 30]))
    write_xml(tmp_path / "data", drawn)
    asked = []

    def estimated(config: Config, data: Dataset) -> dict[str, float]:
        asked.append((config.start, config.proposals, len(data.records)))
        if len(asked) > 1:
            raise ValueError("no weights are there")
        return {"SVMs": 60.0, "fine-tuning": 90.0, "box regression": 3.0, "calibration": 6.0}

    monkeypatch.setattr(inspect_data, "estimate_seconds", estimated)
    windows, sheet = Proposals("edge_boxes"), tmp_path / "sheet.png"
    for _ in range(2):
        main(Split(str(tmp_path / "data"), "all"), windows, sample=0, sheet=sheet)
    said = capsys.readouterr().out.splitlines()
    told, untold = (line for line in said if line.startswith(("a training", "the time")))
    assert "configs/own_images.yaml on 5 of the images takes about 3 minutes" in told
    assert told.endswith("(fine-tuning 1.5, SVMs 1.0, calibration 0.1)")
    assert untold == "the time of a training cannot be estimated: no weights are there"
    assert asked == [("voc07", windows, 5)] * 2
    assert "timing a short training" in caplog.text
    clipped = [each for each in (*caplog.messages, *said) if "clipped" in each]
    assert len(clipped) == 2  # one for each call
    assert all("clipped: 5 in all, first in" in each for each in clipped)


def test_the_reading_of_the_split_warns_of_the_split_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = draw(2)
    for each, name in zip(drawn, ("cat", "dog"), strict=True):
        each.objects[:] = [(name, [-1, 2, 20, 30])]
    write_xml(tmp_path / "data", drawn)
    monkeypatch.setattr(inspect_data, "estimate_seconds", lambda config, data: {"SVMs": 60.0})
    main(Split(str(tmp_path / "data"), "all"), sample=0, sheet=tmp_path / "sheet.png")

    def counted(what: str) -> int:
        return sum(what in each for each in caplog.messages)

    assert counted("clipped") == 1
    assert counted("too few images to keep one for the test and all classes") == 1
    read_dataset(Data(root=str(tmp_path / "data")), "all")
    assert counted("clipped") == 2  # later readings warn as before


def test_refused() -> None:
    with pytest.raises(ValueError, match="workers and sample must be 0 or more; got 0, -1"):
        main(sample=-1)
