"""Damage to any artefact of a run or of the cache gives an error that names it."""

import shutil

import pytest
from damage import WAYS, damaged
from driven_tools import FLAGS, call_of, made_calls, write_small_voc

from detection.inference.detector import SPPDetector

SETTINGS = (*FLAGS, "--network.pca_channels", "8")
# The files of each kind, and the tool and run that read them first.
KINDS = {
    "windows": ("cache/windows/**/*.safetensors", "train_det.py", "fresh"),
    "reduction": ("fresh/stages/reduction-*", "train_det.py", "fresh"),
    "bank": ("cache/bank/**/*.safetensors", "train_det.py", "tuned"),
    "head": ("run/stages/head-*", "train_det.py", "run"),
    "SVMs": ("run/stages/svms-pool5-*", "train_det.py", "run"),
    "box regression": ("run/stages/box-regression-*", "train_det.py", "run"),
    "detector": ("run/detector.safetensors", "test_det.py", "run"),
    "candidates": ("run/test_test_1scales/candidates-fc7-*/*", "test_det.py", "run"),
}
ANOTHERS = "another's"


def damages(folder, kind, number):
    """Yield each way of damage, the file of a kind, and the damaged file that replaces it.

    One function reads all kinds, so two ways for each kind are enough; together they are all ways.
    """
    files = sorted(path for path in folder.glob(KINDS[kind][0]) if path.is_file())
    file = files[-1]  # files of train come after files of test
    other = files[-2] if len(files) > 1 else next(folder.glob("run/stages/svms-fc6-*"))
    ways = [WAYS[(2 * number + more) % len(WAYS)] for more in range(2)]
    for way in (*ways, ANOTHERS):
        place = folder / f"damage/{kind}-{way}"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(
            other.read_bytes() if way == ANOTHERS else damaged(file.read_bytes(), way)
        )
        yield way, file, place


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return the calls with damaged files by kind, way and file, and two with whole files."""
    folder = tmp_path_factory.mktemp("damage")
    write_small_voc(folder / "drawn", train=6, test=2)
    places = ("--data.root", folder / "drawn", "--data.cache", folder / "cache")

    def call(tool, run, name):
        flags = (*SETTINGS, *places) if tool == "train_det.py" else ()
        return call_of(tool, folder, name, *flags, "--run", folder / run)

    for done in made_calls(
        folder, [call("train_det.py", "run", "train"), call("test_det.py", "run", "test")]
    ):
        assert done.status == 0, done.err
    for run, kept in (("fresh", ("reduction-",)), ("tuned", ("reduction-", "head-"))):
        (folder / run / "stages").mkdir(parents=True)
        for path in (folder / "run/stages").iterdir():
            if path.name.startswith(kept):
                shutil.copy(path, folder / run / "stages")
    calls, wanted = [], []
    for number, kind in enumerate(KINDS):
        for place, (way, file, source) in enumerate(damages(folder, kind, number)):
            tool, run = KINDS[kind][1:]
            wanted.append((kind, way, file))
            calls.append(call(tool, run, f"call{number}{place}"))
            calls[-1]["swap"] = [str(file), str(source)]
    # This detector is whole, but not the one that the run's training left.
    detector = folder / "run/detector.safetensors"
    made = SPPDetector.load(detector)
    made.trained["seed"] = 77
    made.save(folder / "damage/other.safetensors")
    wanted.append(("detector", "another run's", detector))
    calls.append(call("test_det.py", "run", "other"))
    calls[-1]["swap"] = [str(detector), str(folder / "damage/other.safetensors")]
    after = [call("train_det.py", "run", "again"), call("test_det.py", "run", "retest")]
    ended = made_calls(folder, calls + after)
    return dict(zip(((k, w, f) for k, w, f in wanted), ended, strict=False)), ended[-2:]


def test_damage_is_one_sentence_with_the_file(outcomes):
    for (kind, way, file), done in outcomes[0].items():
        said = f"{kind}, {way}: status {done.status}, {done.err[-600:]}"
        assert done.status == 1, said
        *_, line = done.err.splitlines()
        assert line.startswith("error: "), said
        assert str(file) in line, said
        assert "Traceback" not in done.err, said
        assert done.out == "", said


def test_whole_files_are_used_as_before(outcomes):
    for done in outcomes[1]:
        assert done.status == 0, done.err
