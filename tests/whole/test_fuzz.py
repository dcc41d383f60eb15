"""Hostile files, made by a fuzzer: they are read, or refused in a sentence that names the file.

Each test makes a few; ``FUZZ_EXAMPLES=1500`` asks for more, as ``make torture`` does.
"""

import copy
import os
import warnings

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_detector import made_detector
from made_formats import draw, write_coco, write_csv, write_voc, write_yolo
from PIL import Image

from commands.settings_files import read_settings
from detection.data.reading import read_dataset
from detection.features.extractor import SPPExtractor
from detection.inference.detector import SPPDetector
from detection.inference.detector_file import FORMAT
from detection.networks.build import build_backbone
from detection.settings.data import Data
from files.artefacts import read_artefact, write_artefact
from files.images import UnreadableImage, read_image
from proposals.imported import ImportedWindows

FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "10")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
)
WORDS = st.sampled_from([b"", b"\0", b"\xff\xfe", b"-1", b"1e999", b"nan", b"<", b'"', b"{", b"\n"])
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), WORDS | st.binary(max_size=8)),
    min_size=1,
    max_size=6,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def edited(content, edits):
    """Return bytes after edits; an edit is (place, number of bytes cut out, bytes put in).

    A place is a share of the length; exactly 1 replaces the second half.
    """
    for place, cut, put in edits:
        begin = int(place * len(content)) if place < 1 else len(content) // 2
        end = begin + cut if place < 1 else len(content)
        content = content[:begin] + put + content[end:]
    return content


def refused(call, name, errors=(ValueError, OSError, RuntimeError)):
    """Make the call and return whether it is refused; the refusal is one line with the name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PyTorch warns about a network whose file gives a size of 0.
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        try:
            call()
        except errors as error:
            said = str(error)
        else:
            return False
    assert name in said
    assert "\n" not in said.strip()
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def detector(folder):
    """Return the file of a detector."""
    backbone = build_backbone("alexnet", "random")
    path = folder / "whole.safetensors"
    made_detector(SPPExtractor(backbone, (64,))).save(path)
    return path


@FUZZ
@given(edits=EDITS)
def test_bytes_of_a_detector(detector, edits):
    path = detector.with_name("edited.safetensors")
    content = detector.read_bytes()
    # Only the header is edited.
    header = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(edited(content[:header], edits) + content[header:])
    if path.read_bytes() != content:
        assert refused(lambda: SPPDetector.load(path), path.name)


@FUZZ
@given(data=st.data())
def test_senseless_detectors_that_are_whole(detector, data):
    """An author who knows the format could write such files."""
    path = detector.with_name("senseless.safetensors")
    found = read_artefact(detector, FORMAT)
    facts, arrays = copy.deepcopy(found.facts), dict(found.arrays)
    if data.draw(st.booleans(), "of the facts"):
        place = facts
        key = data.draw(st.sampled_from(sorted(place)))
        while isinstance(place[key], dict) and place[key] and data.draw(st.booleans(), "deeper"):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place)))
        if data.draw(st.booleans(), "left out"):
            del place[key]
        else:
            place[key] = data.draw(VALUES)
    else:
        name = data.draw(st.sampled_from(sorted(arrays)))
        array = arrays.pop(name)
        shape = data.draw(st.none() | st.lists(st.integers(0, 3), max_size=3))
        if shape is not None:
            arrays[name] = np.resize(array, shape).astype(array.dtype)
    write_artefact(path, FORMAT, arrays, facts)
    # The file may also load, if the change leaves a valid detector.
    refused(lambda: SPPDetector.load(path), path.name)


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "gif", "tiff", "webp"])
def test_images(folder, kind):
    whole = folder / f"whole.{kind}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(whole, kind)
    content, path = whole.read_bytes(), folder / f"edited.{kind}"

    @FUZZ
    @given(edits=EDITS)
    def read(edits):
        path.write_bytes(edited(content, edits))
        if not refused(lambda: read_image(path), path.name, (UnreadableImage,)):
            image = read_image(path)
            assert image.dtype == np.uint8
            assert image.ndim == 3

    read()


@pytest.mark.parametrize(
    ("write", "pattern"),
    [
        (write_voc, "Annotations/*.xml"),
        (write_voc, "ImageSets/Main/*.txt"),
        (write_coco, "*.json"),
        (write_yolo, "**/*.txt"),
        (write_yolo, "**/*.yaml"),
        (write_csv, "*.csv"),
    ],
)
def test_annotations(folder, write, pattern):
    root = folder / f"{write.__name__}{pattern[-4:]}"
    write(root, draw(4))
    path = sorted(root.glob(pattern))[0]
    content = path.read_bytes()

    @FUZZ
    @given(edits=EDITS)
    def read(edits):
        path.write_bytes(edited(content, edits))
        # A sentence about all files names the folder.
        refused(lambda: read_dataset(Data(root=str(root)), "all"), folder.name)

    read()


@pytest.mark.parametrize("kind", ["csv", "npz", "mat"])
def test_windows_of_a_file(folder, kind):
    from scipy.io import savemat

    image = folder / "a.png"
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(image)
    rows = np.array([[1, 2, 20, 30], [3, 4, 9, 9]], np.float32)
    whole, path = folder / f"whole.{kind}", folder / f"edited.{kind}"
    if kind == "csv":
        lines = [f"a,{','.join(map(str, row))}" for row in rows.tolist()]
        whole.write_text("\n".join(["image,x1,y1,x2,y2", *lines]))
    elif kind == "npz":
        np.savez(whole, a=rows)
    else:
        boxes = np.empty((1, 1), object)
        boxes[0, 0] = rows
        names = np.empty((1, 1), object)
        names[0, 0] = "a"
        savemat(whole, {"boxes": boxes, "images": names})
    content = whole.read_bytes()

    @FUZZ
    @given(edits=EDITS)
    def read(edits):
        path.write_bytes(edited(content, edits))

        def load():
            windows = ImportedWindows(path)
            windows.require([image])
            windows.load(image)

        refused(load, path.name)

    read()


@FUZZ
@given(edits=EDITS)
def test_settings(folder, edits):
    path = folder / "settings.yaml"
    text = yaml.safe_dump({"run": "runs/x", "svm": {"C": 0.1}, "seed": 3})
    path.write_bytes(edited(text.encode(), edits))
    refused(lambda: read_settings(path), path.name)
