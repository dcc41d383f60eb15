"""Text and XML in any marked or declared encoding; errors for others name the file."""

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

from files.text import read_lines, read_text, read_xml
from files.writing import file_digest

TEXT = "a b.1\r\n\n  straße 路口\nlast"
MARKED = {
    "utf-8": TEXT.encode(),
    "utf-8 with a mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16 le": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16 be": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-32 le": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "utf-32 be": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.txt"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file gives an input error")
@pytest.mark.parametrize("read", [read_text, read_xml, file_digest])
def test_an_error_of_the_disk_names_the_file(path: Path, read: Callable[[Path], object]) -> None:
    """Python does not name the file when a read fails, here of unmapped memory."""
    path.symlink_to("/proc/self/mem")
    said = rf"{path} could not be read \(Input/output error\), .*: keep it, check its disk"
    with pytest.raises(OSError, match=said):
        read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(path)


def xml(encoding: str | None, text: str) -> str:
    declaration = "" if encoding is None else f'<?xml version="1.0" encoding="{encoding}"?>\n'
    return f"{declaration}<a>{text}</a>"


@pytest.mark.parametrize("content", MARKED.values(), ids=MARKED)
def test_marks_are_passed_over(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    assert read_text(path) == TEXT
    assert list(read_lines(path)) == [(1, "a b.1"), (3, "  straße 路口"), (4, "last")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(end: str, path: Path) -> None:
    path.write_bytes(end.join(["a", "", "b "]).encode())
    assert list(read_lines(path)) == [(1, "a"), (3, "b ")]
    path.write_bytes(b"")
    assert read_text(path) == ""
    assert not list(read_lines(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("straße".encode("latin-1"), r"UTF-8 text \(byte 0xdf at 4\)"),
        (codecs.BOM_UTF8 + b"ab\xe9", r"UTF-8 text \(byte 0xe9 at 5\)"),
        ("路口".encode("gbk"), r"UTF-8 text \(byte 0xbf at 2\)"),
        ("ab".encode("utf-16-le"), "holds zero bytes, as UTF-16 without a byte-order mark"),
        ("ab".encode("utf-16-be"), "holds zero bytes, as UTF-16 without a byte-order mark"),
        ("aé".encode("utf-16-le"), "UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"a\0b", "UTF-16 text"),
        (codecs.BOM_UTF16_BE + b"\xd8\0", "UTF-16 text"),
    ],
)
def test_other_text_is_refused(content: bytes, reason: str, path: Path) -> None:
    path.write_bytes(content)
    for read in (read_text, lambda path: list(read_lines(path))):
        with pytest.raises(ValueError, match=rf"list\.txt .*{reason}.*; save it as UTF-8"):
            read(path)


def test_missing_file(path: Path) -> None:
    for read in (read_text, read_xml):
        with pytest.raises(FileNotFoundError, match=r"list\.txt"):
            read(path)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        (None, "straße 路口"),
        ("utf-8", "straße 路口"),
        ("utf-16", "straße 路口"),
        ("latin-1", "straße"),
        ("ISO-8859-1", "straße"),
        ("windows-1252", "straße €"),
        ("koi8-r", "дом"),
        ("gbk", "路口"),
        ("GB2312", "路口"),
        ("big5", "路口"),
        ("shift_jis", "道路"),
        ("euc-kr", "도로"),
    ],
)
def test_xml_as_declared(encoding: str | None, text: str, path: Path) -> None:
    path.write_bytes(xml(encoding, text).encode(encoding or "utf-8"))
    assert read_xml(path).text == text


@pytest.mark.parametrize("declared", [None, "utf-8", "utf-16", "latin-1", "gbk"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_outweighs_the_declaration(encoding: str, declared: str | None, path: Path) -> None:
    path.write_bytes(xml(declared, "straße 路口").encode(encoding))
    assert read_xml(path).text == "straße 路口"


def test_xml_of_utf_16_without_a_mark(path: Path) -> None:
    """The declaration names UTF-16, and the first letter gives the order of bytes."""
    for encoding in ("utf-16-le", "utf-16-be"):
        path.write_bytes(xml("utf-16", "straße").encode(encoding))
        assert read_xml(path).text == "straße"


@pytest.mark.parametrize(
    "content",
    [
        xml("utf-8", "straße").encode("latin-1"),
        xml(None, "路口").encode("gbk"),
        xml("gbk", "车").encode(),
        xml("utf-16", "a").encode(),
        xml("windows-1252", "").encode() + b"\x81",
        xml("no-such", "a").encode(),
        xml("rot13", "a").encode(),
        codecs.BOM_UTF8 + xml(None, "straße").encode("latin-1"),
        b"",
        b"\xff\xfe\0",
        b"no xml",
        b"<a>",
        b"<a/><b/>",
    ],
)
def test_other_xml_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"list\.txt is not valid XML \(.+\)$") as caught:
        read_xml(path)
    assert "\n" not in str(caught.value)
