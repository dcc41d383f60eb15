"""Downloads, checks and unpacks the official VOC 2007 archives; broken downloads are resumed."""

import hashlib
import http.client
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.voc import DATASET_YEAR_DICT

from files.writing import save_text

CHUNK = 1 << 20  # bytes
SILENCE = 60  # seconds without data after which the connection counts as lost
BROKEN = (OSError, http.client.HTTPException)  # includes URLError and timeouts


@dataclass(frozen=True)
class Archive:
    """A tar file on a server.

    Attributes:
        name: of the file, on the server and on disk.
        url: of the official copy.
        md5: hex digest of the whole file.
    """

    name: str
    url: str
    md5: str


@dataclass(frozen=True)
class Progress:
    """Progress of a download (bytes) or an unpacking (files).

    Attributes:
        done: of ``total``, including what an earlier call downloaded.
        total: None if the server does not give it.
    """

    done: int
    total: int | None


VOC07 = tuple(
    Archive(entry["filename"], entry["url"], entry["md5"])
    for entry in (DATASET_YEAR_DICT["2007"], DATASET_YEAR_DICT["2007-test"])
)


def is_unpacked(archive: Archive, folder: Path) -> bool:
    """Whether an ``unpack`` of this archive into ``folder`` has finished."""
    return _mark(archive, folder).exists()


def fetch(archive: Archive, folder: Path, base: str | None = None) -> Iterator[Progress]:
    """Download the archive to ``folder / archive.name``, yielding after each megabyte.

    An archive that is already there, for example put there by hand, is only checked. A download
    that broke off left ``<name>.part``; it is resumed from there, or from the start if the server
    does not support resuming.

    Args:
        archive: to download.
        folder: of the archive; created if missing.
        base: URL of a mirror's folder; None: the official server.

    Raises:
        RuntimeError: the server does not answer, or the download broke off; the same call resumes.
        ValueError: the file is not the official one. A downloaded file is deleted, a file put there
            by hand is not.
    """
    path = folder / archive.name
    if path.exists():
        _check(archive, path, f"{path} (delete it to fetch it again)")
        return
    url = archive.url if base is None else f"{base.rstrip('/')}/{archive.name}"
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    yield from _transfer(url, part)
    try:
        _check(archive, part, f"what {url} sent (deleted)")
    except ValueError:
        part.unlink()
        raise
    part.replace(path)


def unpack(archive: Archive, folder: Path) -> Iterator[Progress]:
    """Unpack an archive into ``folder``, yielding after each file; finally mark it as unpacked.

    Names that lead outside ``folder``, links that point out of it, and devices are refused. An
    unpacking that was interrupted starts again.

    Raises:
        ValueError: the archive is not a tar file, or has such a member.
    """
    path = folder / archive.name
    try:
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for done, member in enumerate(members, start=1):
                tar.extract(member, folder, filter="data")
                yield Progress(done, len(members))
    except tarfile.TarError as error:
        raise ValueError(f"{path} cannot be unpacked ({error})") from error
    save_text(_mark(archive, folder), archive.md5 + "\n")


def _mark(archive: Archive, folder: Path) -> Path:
    return folder / "VOCdevkit" / f".{archive.name}.unpacked"


def _transfer(url: str, part: Path) -> Iterator[Progress]:
    """Download the missing rest of the file at ``url`` to ``part``."""
    done = part.stat().st_size if part.exists() else 0
    try:
        answer = _open(url, done)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to send; the checksum decides
        raise RuntimeError(_no_answer(url, part, f"{error.code} {error.reason}")) from error
    except BROKEN as error:
        raise RuntimeError(_no_answer(url, part, getattr(error, "reason", error))) from error

    with answer, part.open("ab") as file:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            file.truncate(0)
            done = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        yield Progress(done, total)
        broken: Exception | None = None
        while True:
            try:
                chunk = answer.read(CHUNK)
            except BROKEN as error:
                broken = error
                break
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            yield Progress(done, total)
    if broken or (total is not None and done != total):
        raise RuntimeError(
            f"{url} broke off after {done} of {total or 'unknown'} bytes "
            f"({broken or 'connection closed'}); the same command resumes the download"
        )


def _open(url: str, start: int) -> http.client.HTTPResponse:
    """The server's response for the bytes from ``start`` to the end."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    answer: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=SILENCE
    )
    return answer


def _no_answer(url: str, part: Path, reason: object) -> str:
    name = part.name.removesuffix(".part")
    return (
        f"cannot fetch {url} ({reason}); try again, name a mirror's folder with --url, or put "
        f"{name} into {part.parent} by hand and run the same command again"
    )


def _check(archive: Archive, path: Path, what: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        raise ValueError(f"MD5 of {what} is {found}, expected {archive.md5} for {archive.name}")
