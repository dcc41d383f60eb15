from dataclasses import replace
from pathlib import Path

import pytest
from made_formats import draw, write_xml

from commands.inspect_data import main
from detection.config import Split
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
        cache=tmp_path / "cache",
        sample=2,
        sheet=tmp_path / "sheet.png",
    )
    said = capsys.readouterr().out
    objects = sum(len(each.objects) for each in drawn) + 4
    assert f"8 images, {objects} objects; 1 images without objects" in said
    assert "box and class of another: 3" in said
    assert "more than once: 1, such as b00.rf.1 = copy.1 = copy.2" in said
    assert "too small for any window of selective_search: " in said
    assert "windows by selective_search on 2 images" in said
    assert (tmp_path / "sheet.png").is_file()


def test_refused() -> None:
    with pytest.raises(ValueError, match="sample 0 or more; got 1, -1"):
        main(sample=-1)
