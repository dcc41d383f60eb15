"""Names from users' data, and the file names made from them."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from files.names import (
    MAX_CLASS_NAME,
    MAX_COMPONENT_BYTES,
    MAX_PART_BYTES,
    READABLE_BYTES,
    check_class_name,
    check_file_name,
    check_image_id,
    content_key,
    file_part,
    folded,
    name_of_file_part,
    short_name,
)

DIGEST = "0123456789abcdef"
LETTERS = 'ab%2F/\\:*?"<>|. _-é路\x7f'
CHECKS = (check_image_id, check_class_name, check_file_name)


def random_names(rng: np.random.Generator, count: int) -> list[str]:
    return ["".join(rng.choice(list(LETTERS), rng.integers(1, 8))) for _ in range(count)]


@pytest.mark.parametrize(
    "image_id",
    [
        "000005",
        "93CZ_jpg.rf.376be08d",
        "p1.jpg",
        "day 2/street.1/x",
        "day\\x",
        "...",
        "a..b",
        ".hidden",
        "a#?*|<>:'\"&",
        "路口/信号灯",
        "x" * MAX_COMPONENT_BYTES,
    ],
)
def test_good_image_ids(image_id: str) -> None:
    assert check_image_id(image_id, "here") == image_id


@pytest.mark.parametrize(
    "name",
    [
        "dog",
        "car/van",
        "traffic light",
        "信号灯",
        "N/A",
        "a.b",
        "50%",
        "it's",
        "x" * MAX_CLASS_NAME,
    ],
)
def test_good_class_names(name: str) -> None:
    assert check_class_name(name, "here") == name


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("..", r"leaves its folder by '\.\.'"),
        ("../a", r"leaves its folder by '\.\.'"),
        ("a/../../b", r"leaves its folder by '\.\.'"),
        ("a\\..\\b", r"leaves its folder by '\.\.'"),
        ("/etc/passwd", "is an absolute path"),
        ("\\\\server\\a", "is an absolute path"),
        ("C:\\a", "is an absolute path"),
        ("c:a", "is an absolute path"),
        ("x" * 300, "is too long"),
        ("路" * 100, "is too long"),
        ("a\nb", "line break"),
        ("a\u2028b", "line break"),
        ("a\tb", "control character"),
        ("a\0b", "control character"),
        ("a\x7f", "control character"),
        ("a\udc80", "control character"),
        ("\ufeffa", "byte-order mark"),
        (" a", "white space"),
        ("a\u3000", "white space"),
    ],
)
def test_refused_names(check: Callable[[str, str], str], name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^a\.txt line 3 .*{reason}.*; expected ") as caught:
        check(name, "a.txt line 3")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("image_id", [".", "./a", "a/", "a//b", "a/./b"])
def test_ids_of_one_image_are_equal(image_id: str) -> None:
    """Other spellings of an id are refused, because a list could name an image twice."""
    with pytest.raises(ValueError, match="holds an empty name of a folder"):
        check_image_id(image_id, "here")


def test_ids_are_longer_by_folders() -> None:
    folders = "/".join(["x" * MAX_COMPONENT_BYTES] * 4)
    assert check_image_id(folders, "here") == folders
    with pytest.raises(ValueError, match="is too long"):
        check_image_id(folders + "/" + folders, "here")


@pytest.mark.parametrize(
    "name", ["x" * (MAX_CLASS_NAME + 1), "%" * 90, "路" * 50 + "/" + "路" * 49]
)
def test_class_names_whose_file_name_is_too_long(name: str) -> None:
    with pytest.raises(ValueError, match=f"too long, with {len(name)} characters"):
        check_class_name(name, "here")


@pytest.mark.parametrize("name", ["a/b", "a\\b"])
def test_a_split_is_one_file(name: str) -> None:
    assert check_file_name("train.v2 (1)", "the split") == "train.v2 (1)"
    with pytest.raises(ValueError, match=r"the split '.*' names a folder; expected the name of"):
        check_file_name(name, "the split")


def test_file_parts_go_back(rng: np.random.Generator) -> None:
    names = {*random_names(rng, 500), "a/b", "a%2Fb", "a%252Fb", "a_b", "a:b", "路/口", "100%"}
    parts = {name: file_part(name) for name in names}
    assert len(set(parts.values())) == len(names)
    for name, part in parts.items():
        assert name_of_file_part(part) == name
        assert not re.search(r'[/\\:*?"<>|\x00-\x1f\x7f]', part)
    assert file_part("car/van") == "car%2Fvan"
    for plain in ("dog", "traffic light", "信号灯", "a.b-c_d"):
        assert file_part(plain) == plain


def test_parts_of_good_class_names_fit_a_file(rng: np.random.Generator) -> None:
    for name in [*random_names(rng, 200), "x" * 100, "路" * 66]:
        try:
            check_class_name(name, "here")
        except ValueError:
            continue
        assert len(file_part(name).encode()) <= MAX_PART_BYTES
        assert name not in (".", "..") or file_part(name) != ".."


@pytest.mark.parametrize(
    ("image_id", "begin"),
    [
        ("000005", "000005-"),
        ("a.rf.12", "a.rf.12-"),
        ("day 2/street.1", "day_2_street.1-"),
        ("a\\b:c*", "a_b_c_-"),
        ("...", "-"),
        (".hidden", "hidden-"),
        ("路口", "路口-"),
        ("x" * 300, "x" * READABLE_BYTES + "-"),
        ("路" * 300, "路" * (READABLE_BYTES // 3) + "-"),
        ("x" + "路" * 300, "x" + "路" * ((READABLE_BYTES - 1) // 3) + "-"),
    ],
)
def test_short_names(image_id: str, begin: str) -> None:
    assert short_name(image_id, DIGEST) == begin + DIGEST


def test_short_names_are_names_of_files(rng: np.random.Generator) -> None:
    for name in random_names(rng, 200):
        short = short_name(name, DIGEST)
        assert re.fullmatch(r"[\w.-]+", short)
        assert not short.startswith(".")
        assert short.endswith(f"-{DIGEST}")
        assert len(short.encode()) <= READABLE_BYTES + 1 + len(DIGEST)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dog", "dog"),
        ("red  car", "red\u00a0car"),
        ("caf\u00e9", "CAFE\u0301"),
        ("STRASSE", "straße"),
    ],
)
def test_folded(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    assert folded(one) == folded(folded(one))
    assert folded(one + "s") != folded(other)


def test_keys_do_not_depend_on_order() -> None:
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    assert re.fullmatch("[0-9a-f]{16}", content_key({}))
