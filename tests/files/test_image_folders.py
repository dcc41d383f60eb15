"""The images in folders, and the image of an id."""

import pytest

from files.image_folders import ImageFinder, images_below


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_images_below_a_folder(tmp_path):
    touch(tmp_path, "b.png", "a.JPG", "day/c.webp", "day/two/d.rf.1.bmp")
    touch(tmp_path, "notes.txt", "._a.png", ".hidden/e.png", "day/Thumbs.db", "png")
    found, others = images_below(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["a.JPG", "b.png", "day/c.webp", "day/two/d.rf.1.bmp"]
    assert others == 5
    assert images_below(str(tmp_path / "day/two"))[0] == [tmp_path / "day/two/d.rf.1.bmp"]


def test_links_to_folders_are_followed_once(tmp_path):
    touch(tmp_path, "there/a.png", "here/b.png")
    (tmp_path / "here/linked").symlink_to(tmp_path / "there")
    (tmp_path / "here/round").symlink_to(tmp_path / "here")
    found, _ = images_below(tmp_path / "here")
    assert found == [tmp_path / "here/b.png", tmp_path / "here/linked/a.png"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        images_below(tmp_path / "none")


def test_the_image_of_an_id(tmp_path):
    touch(tmp_path, "a.jpg", "a.png", "b.rf.1.bmp", "day/c.WEBP", "d.txt", ".e.png", "g.png/h")
    finder = ImageFinder(tmp_path)
    found = {name: finder.find(name).relative_to(tmp_path) for name in ("a", "b.rf.1", "day/c")}
    assert [str(path) for path in found.values()] == ["a.jpg", "b.rf.1.bmp", "day/c.WEBP"]
    for name in ("b.rf", "b", "d", ".e", "c", "day/a", "none/a", "g"):
        with pytest.raises(FileNotFoundError, match="with another ending that Pillow opens"):
            finder.find(name)
    with pytest.raises(FileNotFoundError, match=r"an id has no ending: write 'b\.rf\.1'"):
        finder.find("b.rf.1.bmp")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ImageFinder(tmp_path / "none").find("a")
