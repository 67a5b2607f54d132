"""
The ledger's file on the disk: it is locked for one process, and it has to stay the file at its path.

SQLite keeps writing to a file that was deleted, moved or replaced. A restart would not find what was recorded
there, and another exporter could start on the new file. So the path is compared with the locked descriptor
before each task and after each commit. The files of the write-ahead log are compared in the same way.

A process that closes a sound ledger leaves a mark beside it, so that the next one need not check it. The mark
names the file and its last change: a copy, or a file that anything has written to since, does not fit it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from exporter.errors import LedgerError, StartError

_MARK = "-closed"
_BESIDE = {"-wal": "write-ahead log", "-shm": "index of the write-ahead log"}


@dataclass(slots=True)
class LedgerFile:
    """
    A ledger's file, locked for this process.

    Shape: `path` is absolute; `beside` has the device and inode of the files that SQLite keeps next to it.
    """

    path: Path
    descriptor: int
    beside: dict[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 0
    _paths: dict[str, Path] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made once: they are looked at before each piece of work.
        suffixes = ("", _MARK, *_BESIDE)
        self._paths = {suffix: self.path.with_name(self.path.name + suffix) for suffix in suffixes}

    @classmethod
    def lock(cls, path: Path) -> LedgerFile:
        """
        Hold the file for this process, making it where it is new. Raises: StartError.

        SQLite's own locks are of another kind and not in the way.
        """
        path = path.absolute()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as exc:
            raise StartError(f"ledger {path}: {_why_not(path, exc)}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(descriptor)
            raise StartError(f"ledger {path}: in use by another process") from exc
        return cls(path, descriptor)

    def was_closed(self) -> bool:
        """Tell whether the file is as the process before left it when it closed it, sound and whole."""
        try:
            return self._named(_MARK).read_text("ascii") == self._last_change() and not self._has_log()
        except (OSError, UnicodeDecodeError):
            return False

    def mark_closed(self) -> None:
        """Leave the mark, if the file is whole. Raises: OSError; a mark that was cut short fits nothing."""
        if self._has_log():
            return
        os.fsync(self.descriptor)
        with self._named(_MARK).open("w", encoding="ascii") as mark:
            mark.write(self._last_change())
            mark.flush()
            os.fsync(mark.fileno())

    def unmark(self) -> None:
        """Remove the mark, for good before anything is written to the file. Raises: OSError."""
        if not self._named(_MARK).exists():
            return
        self._named(_MARK).unlink()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _last_change(self) -> str:
        # No time of the inode's own change: at each start of a pod Kubernetes may set the file's group anew.
        stat = os.fstat(self.descriptor)
        return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}\n"

    def _has_log(self) -> bool:
        """Tell whether part of the ledger is in the write-ahead log."""
        with suppress(FileNotFoundError):
            return self._named("-wal").stat().st_size > 0
        return False

    def remember(self) -> None:
        """Take the files beside it as they are now for the right ones: SQLite has just opened them."""
        self.beside = {suffix: _identity(self._named(suffix).stat()) for suffix in _BESIDE}
        self.size = os.fstat(self.descriptor).st_size

    def is_new(self) -> bool:
        return os.fstat(self.descriptor).st_size == 0

    def check(self, *, alone: bool = False) -> None:
        """
        Make sure that the paths still lead to the files that are open, or only that of the ledger itself.

        Raises: FileLost; LedgerError.
        """
        if self._found("") != _identity(os.fstat(self.descriptor)):
            raise self._lost(
                "replaced by another file", "put the old file back, or restart to use the new one"
            )
        for suffix, known in ({} if alone else self.beside).items():
            if self._found(suffix) != known:
                raise self._lost(f"its {_BESIDE[suffix]} was replaced", "restart")

    def has_shrunk(self) -> bool:
        """Tell whether the file is shorter than it was: cut off by somebody, or compacted by SQLite."""
        return os.fstat(self.descriptor).st_size < self.size

    def note_size(self) -> None:
        self.size = os.fstat(self.descriptor).st_size

    def close(self) -> None:
        """Release the lock."""
        os.close(self.descriptor)

    def _found(self, suffix: str) -> tuple[int, int]:
        try:
            return _identity(self._named(suffix).stat())
        except FileNotFoundError:
            if suffix:
                raise self._lost(f"its {_BESIDE[suffix]} was deleted", "restart") from None
            raise self._lost("deleted or moved", "put the file back, or restart to begin anew") from None
        except OSError as exc:
            raise LedgerError(f"ledger {self._named(suffix)}: {exc.strerror or exc}") from exc

    def _lost(self, what: str, do: str) -> FileLost:
        return FileLost(f"ledger {self.path}: {what} while in use, so nothing is recorded any more: {do}")

    def _named(self, suffix: str) -> Path:
        return self._paths[suffix]


class FileLost(LedgerError):
    """What this process has open is not what its path leads to."""


def _why_not(path: Path, exc: OSError) -> str:
    """Say why a file cannot be opened or made, and what to do about it."""
    if isinstance(exc, FileNotFoundError) and not path.parent.is_dir():
        return f"the folder {path.parent} does not exist: make it, or change ledger.url"
    if isinstance(exc, PermissionError):
        return f"{exc.strerror}: the user (id {os.geteuid()}) must be able to write the file and its folder"
    return exc.strerror or str(exc)


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
