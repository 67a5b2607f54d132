"""Archives and checksums that are the same bytes whenever they are made from the same files."""

from __future__ import annotations

import gzip
import hashlib
import os
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path

CHECKSUMS = "SHA256SUMS"


def epoch() -> int:
    """Return the time that files in archives get: SOURCE_DATE_EPOCH, by the Makefile that of the commit."""
    return int(os.environ["SOURCE_DATE_EPOCH"])


def pack(folder: Path, archive: Path, name: str) -> None:
    """
    Write a folder as .tar, .tar.gz or .tgz: sorted, owned by root, all from one time.

    Shape: `name` is what its files are below in the archive, "" for nothing.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.open("wb") as raw:
        if archive.suffix == ".tar":
            _write(folder, raw, name)
        else:
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=epoch()) as packed:
                _write(folder, packed, name)


def _write(folder: Path, stream: gzip.GzipFile | object, name: str) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for file in files_below(folder):
            member = tar.gettarinfo(file, posixpath.join(name, file.relative_to(folder).as_posix()))
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mtime = epoch()
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            with file.open("rb") as content:
                tar.addfile(member, content)


def files_below(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.rglob("*") if file.is_file())


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """Write what `sha256sum --check SHA256SUMS` reads, for all files of a folder."""
    (folder / CHECKSUMS).unlink(missing_ok=True)
    lines = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files_below(folder)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
