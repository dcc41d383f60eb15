import hashlib
import http.server
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import get_data
from detection.data.synthetic.dataset import write_synthetic_voc
from detection.data.voc import read_voc
from detection.data.voc_archives import VOC07, Archive, fetch, is_unpacked, unpack

NAME = "VOCtrainval_06-Nov-2007.tar"


class Server:
    """A server of files in memory; it can break off after some bytes, or ignore ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.drop_after: int | None = None
        self.asked: list[str | None] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/voc2007/"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        name = handler.path.removeprefix("/voc2007/")
        asked = handler.headers["Range"]
        self.asked.append(asked)
        if name not in self.files:
            handler.send_error(404)
            return
        content, start = self.files[name], 0
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                handler.send_error(416)
                return
            handler.send_response(206)
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : self.drop_after])

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def archive_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("drawn")
    write_synthetic_voc(folder, train=2, test=0, seed=0)
    (folder / "ImageSets/Main/test.txt").unlink()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, "VOCdevkit/VOC2007")
    return buffer.getvalue()


def archive_of(content: bytes, server: Server) -> Archive:
    server.files[NAME] = content
    return Archive(NAME, server.base + NAME, hashlib.md5(content).hexdigest())


def run(steps: Iterator) -> list[tuple[int, int | None]]:
    return [(step.done, step.total) for step in steps]


def test_fetches_and_unpacks(server: Server, archive_bytes: bytes, tmp_path: Path) -> None:
    archive = archive_of(archive_bytes, server)
    assert not is_unpacked(archive, tmp_path)
    steps = run(fetch(archive, tmp_path / "new"))
    assert steps[0] == (0, len(archive_bytes))
    assert steps[-1] == (len(archive_bytes), len(archive_bytes))
    files = run(unpack(archive, tmp_path / "new"))
    assert files[-1][0] == files[-1][1] == len(files)
    assert is_unpacked(archive, tmp_path / "new")
    assert len(read_voc(tmp_path / "new/VOCdevkit", "train").records) == 2
    assert not list((tmp_path / "new").glob("*.part"))


def test_goes_on_after_a_break(server: Server, archive_bytes: bytes, tmp_path: Path) -> None:
    archive = archive_of(archive_bytes, server)
    server.drop_after = 5000
    with pytest.raises(RuntimeError, match=f"broke off after 5000 of {len(archive_bytes)} bytes"):
        run(fetch(archive, tmp_path))
    assert not (tmp_path / NAME).exists()
    server.drop_after = None
    assert run(fetch(archive, tmp_path))[0] == (5000, len(archive_bytes))
    assert server.asked == [None, "bytes=5000-"]
    assert (tmp_path / NAME).read_bytes() == archive_bytes


def test_starts_over_where_the_server_cannot_resume(
    server: Server, archive_bytes: bytes, tmp_path: Path
) -> None:
    archive = archive_of(archive_bytes, server)
    (tmp_path / f"{NAME}.part").write_bytes(archive_bytes[:7000])
    server.ranges = False
    assert run(fetch(archive, tmp_path))[0] == (0, len(archive_bytes))
    assert (tmp_path / NAME).read_bytes() == archive_bytes


def test_a_complete_part_is_only_checked(
    server: Server, archive_bytes: bytes, tmp_path: Path
) -> None:
    archive = archive_of(archive_bytes, server)
    (tmp_path / f"{NAME}.part").write_bytes(archive_bytes)
    assert run(fetch(archive, tmp_path)) == []
    assert (tmp_path / NAME).read_bytes() == archive_bytes


def test_wrong_checksum(server: Server, archive_bytes: bytes, tmp_path: Path) -> None:
    archive = archive_of(archive_bytes, server)
    server.files[NAME] = b"another file"
    with pytest.raises(ValueError, match=r"MD5 of what http.*\(deleted\) is .* expected .*tar"):
        run(fetch(archive, tmp_path))
    assert list(tmp_path.iterdir()) == []

    (tmp_path / NAME).write_bytes(b"put there by hand")
    with pytest.raises(ValueError, match="delete it to fetch it again"):
        run(fetch(archive, tmp_path))
    assert (tmp_path / NAME).exists()


def test_archive_put_there_by_hand_needs_no_server(archive_bytes: bytes, tmp_path: Path) -> None:
    archive = Archive(NAME, "http://127.0.0.1:9/" + NAME, hashlib.md5(archive_bytes).hexdigest())
    (tmp_path / NAME).write_bytes(archive_bytes)
    assert run(fetch(archive, tmp_path)) == []


@pytest.mark.parametrize("gone", [True, False])
def test_no_answer_says_what_to_do(gone: bool, server: Server, tmp_path: Path) -> None:
    base = "http://127.0.0.1:9/" if gone else server.base
    archive = Archive(NAME, base + NAME, "0" * 32)
    message = f"cannot fetch {base}{NAME}.*{'refused' if gone else '404'}.*--url.*by hand"
    with pytest.raises(RuntimeError, match=message):
        run(fetch(archive, tmp_path))


@pytest.mark.parametrize("name", ["../outside.txt", "VOCdevkit/link"])
def test_members_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    member = tarfile.TarInfo(name)
    if name.endswith("link"):
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    folder = tmp_path / "data"
    folder.mkdir()
    with tarfile.open(folder / NAME, "w") as tar:
        tar.addfile(member)
    archive = Archive(NAME, "", "")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        run(unpack(archive, folder))
    assert not is_unpacked(archive, folder)
    assert not (tmp_path / "outside.txt").exists()


def test_not_a_tar_file(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no tar")
    with pytest.raises(ValueError, match=f"{NAME} cannot be unpacked"):
        run(unpack(Archive(NAME, "", ""), tmp_path))


def test_official_archives() -> None:
    assert [archive.name for archive in VOC07] == [NAME, "VOCtest_06-Nov-2007.tar"]
    assert all(archive.url.endswith("/voc2007/" + archive.name) for archive in VOC07)


def test_tool(
    server: Server,
    archive_bytes: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = archive_of(archive_bytes, server)
    monkeypatch.setattr(get_data, "VOC07", (archive,))
    get_data.voc07(tmp_path, server.base)
    assert f"VOC 2007 is in {tmp_path}/VOCdevkit/VOC2007" in capsys.readouterr().out
    get_data.voc07(tmp_path, server.base)
    assert f"{NAME}: already unpacked" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_tool_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_synthetic_voc(tmp_path / "twin", train=2, test=1, seed=3)
    for name in ("one", "two"):
        folder = tmp_path / name
        words = f"get_data.py synthetic --folder {folder} --train 2 --test 1 --seed 3"
        monkeypatch.setattr(sys, "argv", words.split())
        get_data.run()
        out = capsys.readouterr().out
        assert out == f"2 train and 1 test images are in {folder}\n"
        assert len(read_voc(folder, "train").records) == 2
        assert len(read_voc(folder, "test").records) == 1
        assert contents(folder) == contents(tmp_path / "twin")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_tool_cuts_objects_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_synthetic_voc(tmp_path / "drawn", train=4, test=3, seed=0)
    words = f"get_data.py voc_crops --data.root {tmp_path}/drawn --data.test_split test"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--folder", str(tmp_path / "crops")])
    get_data.run()
    train, val = capsys.readouterr().out.splitlines()
    assert train.endswith(f" objects of train are in {tmp_path}/crops/train")
    assert val.endswith(f" objects of test are in {tmp_path}/crops/val")
    written = list((tmp_path / "crops").rglob("*.jpg"))
    assert len(written) == int(train.split()[0]) + int(val.split()[0])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--min_side", "40"])
    with pytest.raises(SystemExit):
        get_data.run()
    assert "delete this one" in capsys.readouterr().err
