"""Reads text files: UTF-8 with or without a byte-order mark, UTF-16 or UTF-32 with one.

Encodings are not guessed: other files are refused, with an error that names them. XML declares its
encoding.
"""

import codecs
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from files.reading import path_in_read_errors

# UTF-32's little-endian mark begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_DECLARATION = re.compile(rb"""^<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def read_text(path: str | Path) -> str:
    """The text of a file, without its byte-order mark and with its own line ends.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is neither UTF-8 nor marked as UTF-16 or UTF-32.
    """
    path = Path(path)
    with path_in_read_errors(path):
        content = path.read_bytes()
    encoding = _by_mark(content) or "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        passed_over = len(content) - len(error.object)  # the mark, of UTF-8
        raise ValueError(
            f"{path} is not readable as {encoding.removesuffix('-sig').upper()} text (byte "
            f"0x{error.object[error.start]:02x} at {error.start + passed_over}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError(
            f"{path} holds zero bytes, as UTF-16 without a byte-order mark does; save it as UTF-8"
        )
    return text


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank, without its line end.

    Errors: see ``read_text``.
    """
    for number, line in enumerate(StringIO(read_text(path), newline=None), start=1):
        if line.strip():
            yield number, line.removesuffix("\n")


def read_xml(path: str | Path) -> ET.Element:
    """The root of an XML file, read with the encoding that it declares.

    A byte-order mark overrides the declaration, because Windows' tools do not change the
    declaration when they save a file as UTF-8 or UTF-16.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not valid XML, or Python does not know its encoding.
    """
    with path_in_read_errors(path):
        content = Path(path).read_bytes()
    try:
        return _parsed(content)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path} is not valid XML ({error})") from error


def _parsed(content: bytes) -> ET.Element:
    marked = _by_mark(content)
    if marked is not None:
        return ET.fromstring(content.decode(marked))
    try:
        return ET.fromstring(content)
    except ValueError:  # expat's only encodings with several bytes per letter are Unicode's
        declared = _DECLARATION.match(content)
        if declared is None:
            raise
        return ET.fromstring(content.decode(declared[1].decode()))


def _by_mark(content: bytes) -> str | None:
    """The encoding according to a byte-order mark, if there is one."""
    return next((name for mark, name in MARKS if content.startswith(mark)), None)
