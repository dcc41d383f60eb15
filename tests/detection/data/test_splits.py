"""A split by content: a fifth, deterministic, no image in both parts, every class in both."""

from pathlib import Path

import numpy as np
import pytest

from detection.data.annotations import Annotation
from detection.data.assembly import Labelled
from detection.data.split_names import split_word
from detection.data.splits import content_split, known_only, make_lists, resolve


def labelled(folder: Path, contents: dict[str, str], classes: dict[str, str]) -> list[Labelled]:
    """Write files of these contents; each letter of ``classes`` is an object of that class."""
    made = []
    for name, content in contents.items():
        path = folder / name
        path.write_text(content)
        names = tuple(classes.get(name, "a"))
        corners = np.tile([1.0, 1, 5, 5], (len(names), 1))
        annotation = Annotation(str(path), None, names, corners, np.zeros(len(names), np.bool_))
        made.append(Labelled(name, path, annotation))
    return made


def test_share_and_order(tmp_path: Path) -> None:
    images = labelled(tmp_path, {f"{n:03}": f"image {n}" for n in range(100)}, {})
    made = content_split(images)
    assert len(made["test"]) == 20
    assert sorted(made["train"] + made["test"]) == [each.image_id for each in images]
    assert made["train"] == sorted(made["train"])
    assert made == content_split(images)
    # The split depends neither on the names nor on their order.
    contents = {f"x{99 - n:03}": f"image {n}" for n in range(100)}
    other = content_split(labelled(tmp_path, contents, {})[::-1])
    assert {contents[name] for name in other["test"]} == {f"image {int(n)}" for n in made["test"]}


@pytest.mark.parametrize("seed", range(8))
def test_classes_and_copies(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 30))
    contents = {f"{n:02}": f"{seed} {rng.integers(count)}" for n in range(count)}
    of_content = {each: "".join(rng.permutation(list("abcdef"))[:2]) for each in contents.values()}
    classes = {name: of_content[content] for name, content in contents.items()}
    made = content_split(labelled(tmp_path, contents, classes))
    train, test = ({contents[name] for name in made[split]} for split in ("train", "test"))
    assert not train & test
    assert train | test == set(contents.values())
    for name in "abcdef":
        having = [content for content in of_content if name in of_content[content]]
        if having:
            assert any(name in of_content[content] for content in train)


def test_a_class_of_two_images_is_on_both_sides(tmp_path: Path) -> None:
    contents = {f"{n:02}": f"{n}" for n in range(20)}
    classes = {"03": "ab", "11": "b", "12": "c"}
    made = content_split(labelled(tmp_path, contents, classes))
    assert len({"03", "11"} & set(made["test"])) == 1
    assert "12" in made["train"]
    assert len(made["test"]) == 4


def test_few_images(tmp_path: Path) -> None:
    assert content_split([]) == {"train": [], "test": []}
    one = labelled(tmp_path, {"a": "1"}, {})
    assert content_split(one) == {"train": ["a"], "test": []}
    two = labelled(tmp_path, {"a": "1", "b": "2"}, {})
    assert len(content_split(two)["test"]) == 1


@pytest.mark.parametrize(
    ("classes", "test"),
    [
        (["ab", "ac", "ad"], 1),
        (["a", "b"], 1),
        (["", ""], 1),
        (["ab", "acd", "aef"], 1),  # the test has the image that takes one class away, not two
    ],
)
def test_of_two_images_one_is_in_test(
    classes: list[str], test: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contents = {str(place): f"content {place}" for place in range(len(classes))}
    given = {str(place): each for place, each in enumerate(classes)}
    made = content_split(labelled(tmp_path, contents, given))
    assert len(made["test"]) == test
    assert len(made["train"]) == len(classes) - test
    if len(classes[-1]) > 2:
        assert made["test"] == ["0"]
    assert ("which now lacks: " in caplog.text) == any(classes)


def test_copies_of_one_image_are_not_parted(tmp_path: Path) -> None:
    images = labelled(tmp_path, {"a": "1", "b": "1"}, {})
    assert content_split(images) == {"train": ["a", "b"], "test": []}


def test_objects_of_classes_that_only_the_test_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = labelled(tmp_path, {"b": "2", "c": "3"}, {"b": "aba", "c": "b"})
    found = known_only(test, ["a"])
    assert [each.annotation.names for each in found] == [("a", "a"), ()]
    assert [len(each.annotation.corners) for each in found] == [2, 0]
    assert "left out of the test: b 2" in caplog.text
    # A name in other capitals is kept here; it is refused later, with a suggestion.
    same = labelled(tmp_path, {"d": "4"}, {"d": "A"})
    assert known_only(same, ["a"]) == same


@pytest.mark.parametrize("there", [[], ["train"], ["test"]])
def test_lists_whose_writer_was_killed(there: list[str], tmp_path: Path) -> None:
    images = labelled(tmp_path, {f"{n}": f"image {n}" for n in range(10)}, {})
    lists = tmp_path / "lists"
    assert make_lists(lists, images)
    whole = {path.name: path.read_bytes() for path in lists.iterdir()}
    assert set(whole) == {"train.txt", "test.txt"}
    for path in lists.iterdir():
        if path.stem not in there:
            path.unlink()
    assert make_lists(lists, images)
    assert {path.name: path.read_bytes() for path in lists.iterdir()} == whole
    assert not make_lists(lists, images)
    # A list written by hand is not completed by a second one.
    (lists / "test.txt").unlink()
    (lists / "train.txt").write_text("1\n")
    assert not make_lists(lists, images)
    assert [path.name for path in lists.iterdir()] == ["train.txt"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(
            ("train", "train"),
            ("valid", "val"),
            ("Validation", "val"),
            ("instances_val2017", "val"),
        ),
        *(
            ("test_labels", "test"),
            ("obj_train_data", "train"),
            ("trainer", None),
            ("contest", None),
        ),
        ("my images", None),
    ],
)
def test_words_of_splits(name: str, split: str | None) -> None:
    assert split_word(name) == split


def test_names_of_splits() -> None:
    assert resolve("trainval", ["train", "val"], "x") == "train"
    assert resolve("trainval", ["train", "trainval"], "x") == "trainval"
    assert resolve("test", ["train", "val"], "x") == "val"
    assert resolve("test", ["train", "val", "test"], "x") == "test"
    assert resolve("valid", ["train", "val"], "x") == "val"
    assert resolve("valid", ["valid"], "x") == "valid"
    assert resolve("testset", ["train", "test"], "x") == "test"
    with pytest.raises(
        FileNotFoundError, match="no split 'test' in x; splits there: trainval, val"
    ):
        resolve("test", ["trainval", "val"], "x")  # trainval has the images of val
    with pytest.raises(FileNotFoundError, match="no split 'val' in x; splits there: test, train"):
        resolve("val", ["train", "test"], "x")
