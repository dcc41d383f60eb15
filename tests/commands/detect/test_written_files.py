"""What detect writes: drawings and files of results, none in the place of an image."""

import json

from searched_images import below, searched

from detection.inference.many_images import (
    IMAGES_A_PROCESS,
)


def test_no_image_is_replaced(tool, detector, images, tmp_path):
    before = (images / "square.png").read_bytes()
    (tmp_path / "link").symlink_to(images)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/square.png").symlink_to(images / "square.png")
    for given, out in (
        (images, images),
        (images, tmp_path / "link"),
        (tmp_path / "link", images),
        (tmp_path / "linked", images),
        (images / "square.png", tmp_path / "linked"),
    ):
        refused = tool(given, "--detector", detector, "--out", out)
        assert (refused.status, refused.lines) == (1, [])
        assert f"error: {out / 'square.png'} would be overwritten" in refused.err
    assert (images / "square.png").read_bytes() == before


def test_drawings_in_the_folder_are_not_searched(tool, detector, images):
    """Drawings from the first call are not searched by the second call."""
    for _ in range(2):
        done = tool(images, "--detector", detector, "--out", images / "drawn")
        assert done.status == 0, done.err
        assert searched(done) == {str(images / "square.png")}
    assert below(images / "drawn") == {"square.png"}
    assert "1 images, 2 other files ignored" in done.err


def test_two_images_of_one_name_are_both_drawn(tool, detector, images, square, tmp_path):
    for name in ("two/square.png", "two/SQUARE.PNG", "square.webp", "square.webp.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        square.save(tmp_path / name)
    given = (images, tmp_path / "two", tmp_path / "square.webp", tmp_path / "square.webp.jpg")
    out = tmp_path / "out"
    done = tool(*given, images, "--detector", detector, "--out", out, "--windows", "edge_boxes")
    assert done.status == 0, done.err
    assert len(searched(done)) == 5
    expected = {"square.png", "SQUARE_2.PNG", "square_3.png", "square.webp.jpg"}
    assert below(out) == expected | {"square.webp_2.jpg"}


def test_all_detections_go_to_files(tool, detector, square, tmp_path):
    """One process and two write the same JSON, CSV and YOLO files, with all detections."""
    folder = tmp_path / "images"
    for number in range(2 * IMAGES_A_PROCESS):
        (folder / f"day{number % 2}").mkdir(parents=True, exist_ok=True)
        square.save(folder / f"day{number % 2}" / f"{number:02}.png")
    written = {}
    for workers in ("1", "2"):
        out = tmp_path / workers
        done = tool(
            *(folder, "--detector", detector, "--drawings=false", "--workers", workers),
            *("--json", out / "a.json", "--csv", out / "a.csv", "--yolo", out / "yolo"),
            *("--out", out / "drawn", "--windows", "edge_boxes", "--device", "cpu"),
        )
        assert done.status == 0, done.err
        assert not (out / "drawn").exists()
        written[workers] = {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }
    assert written["1"] == written["2"]
    coco = json.loads(written["1"]["a.json"])
    assert len(coco["images"]) == 2 * IMAGES_A_PROCESS
    assert len(coco["annotations"]) == len(done.lines) > 0
    assert written["1"]["a.csv"].count(b"\n") == len(done.lines) + 1
    lines = [written["1"][f"yolo/day{n % 2}/{n:02}.txt"].count(b"\n") for n in range(16)]
    assert sum(lines) == len(done.lines)
    assert written["1"]["yolo/classes.txt"] == b"nothing\nthing\n"


def test_files_of_results_are_checked_before_the_search(tool, detector, images, tmp_path):
    for flag, path, message in (
        ("--csv", tmp_path / "out", "out is a folder; name a file"),
        ("--json", tmp_path / "out", "out is a folder; name a file"),
        ("--yolo", images / "notes.txt", "notes.txt is a file; name a folder for the labels"),
    ):
        (tmp_path / "out").mkdir(exist_ok=True)
        done = tool(images, "--detector", detector, "--drawings=false", flag, path)
        assert (done.status, done.lines) == (1, [])
        assert message in done.err
