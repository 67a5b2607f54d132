"""
Where events are written to: standard output, standard error or a file.

Lines stay whole. What goes to the same file as the log takes turns with it. Where a line was cut short, as on
a full disk or when the process was killed, the next one begins on a line of its own.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, Protocol, TextIO

Stream = Literal["stdout", "stderr"]
# Gives the lock to hold while writing to a descriptor.
Turns = Callable[[int], threading.Lock]

# A pipe that has room takes so much at once, without waiting and without anything in between (pipe(7)).
_PIPE_BYTES = select.PIPE_BUF
_FILE_BYTES = 256 * 1024
# How soon it is noticed that writing is off.
_LOOK_SECONDS = 0.1
_MODE = 0o640


@dataclass(frozen=True, slots=True)
class Written:
    """How many lines were written whole, and what kept the next one from it, if anything did."""

    lines: int
    error: OSError | None = None


class Sink(Protocol):
    """An output; for one thread."""

    def write(self, lines: Sequence[bytes], is_off: Callable[[], bool]) -> Written:
        """Write lines, and wait for a reader that has stopped until `is_off` says so."""

    def close(self) -> None:
        """Close what was opened."""


def sink_to(to: Stream | Path, turns: Turns) -> Sink:
    """Give the sink of a configured output. It is opened at the first write."""
    return FileSink(to, turns) if isinstance(to, Path) else StreamSink(to, turns)


class StreamSink:
    """Standard output or standard error."""

    def __init__(self, name: Stream, turns: Turns) -> None:
        self._name = name
        self._turns = turns
        self._is_torn = False

    def write(self, lines: Sequence[bytes], is_off: Callable[[], bool]) -> Written:
        try:
            stream = self._stream()
            descriptor, is_terminal = stream.fileno(), stream.isatty()
        except (OSError, ValueError):
            return Written(0, self._closed())
        turn = self._turns(descriptor)
        if is_terminal:
            return self._print(lines, turn)
        pieces = _Pieces(lines, self._is_torn)
        error = pieces.write(descriptor, turn, is_off)
        self._is_torn = pieces.is_torn
        return Written(pieces.lines, error)

    def close(self) -> None:
        """The stream belongs to the process."""

    def _stream(self) -> TextIO:
        """
        Give the stream as it is now: a progress bar may have put something in its place.

        Raises: OSError where the process was started without it.
        """
        stream: TextIO | None = sys.stdout if self._name == "stdout" else sys.stderr
        if stream is None:
            raise self._closed()
        return stream

    def _closed(self) -> OSError:
        return OSError(errno.EBADF, f"{self._name} is closed")

    def _print(self, lines: Sequence[bytes], turn: threading.Lock) -> Written:
        try:
            with turn:
                stream = self._stream()
                stream.write(b"".join(lines).decode())
                stream.flush()
        except OSError as exc:
            return Written(0, exc)
        except ValueError:
            return Written(0, self._closed())
        return Written(len(lines))


class FileSink:
    """
    A file that lines are added to.

    It is opened again where its path leads to another file, or to none: so logrotate may rename it. It may
    also be cut to nothing (copytruncate), since every write goes to its end.
    """

    def __init__(self, path: Path, turns: Turns) -> None:
        self._path = path
        self._turns = turns
        self._descriptor: int | None = None
        self._is_torn = False

    def write(self, lines: Sequence[bytes], is_off: Callable[[], bool]) -> Written:
        try:
            descriptor = self._open()
        except OSError as exc:
            return Written(0, exc)
        pieces = _Pieces(lines, self._is_torn)
        error = pieces.write(descriptor, self._turns(descriptor), is_off)
        self._is_torn = pieces.is_torn
        return Written(pieces.lines, error)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        """Give a descriptor of the file that is at the path now. Raises: OSError."""
        if self._descriptor is not None and not self._was_moved(self._descriptor):
            return self._descriptor
        self.close()
        # Not blocking: a named pipe without a reader is an error then, and is tried again.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, _MODE)
        if _is_regular(self._descriptor):
            self._is_torn = self._ends_within_a_line(self._descriptor)
            _sync_folder(self._path.parent)
        return self._descriptor

    def _was_moved(self, descriptor: int) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return True

    def _ends_within_a_line(self, descriptor: int) -> bool:
        if os.fstat(descriptor).st_size == 0:
            return False
        try:
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:
            # It may be written and not read. An empty line does less harm than two lines in one.
            return True


class _Pieces:
    """
    Some lines on their way out, in pieces of whole lines.

    Shape: `begins_anew` if what was written before did not end with a line end.
    """

    def __init__(self, lines: Sequence[bytes], begins_anew: bool) -> None:
        start = b"\n" if begins_anew else b""
        self._data = memoryview(start + b"".join(lines))
        self._ends = list(accumulate(map(len, lines), initial=len(start)))
        self._done = 0
        self._began_torn = begins_anew
        self._is_lost = False

    @property
    def lines(self) -> int:
        """How many lines are written whole; none where the disk did not take them."""
        return 0 if self._is_lost else max(bisect_right(self._ends, self._done) - 1, 0)

    @property
    def is_torn(self) -> bool:
        """Whether what is written ends within a line."""
        if self._done == 0:
            return self._began_torn
        return self._data[self._done - 1] != ord("\n")

    def write(self, descriptor: int, turn: threading.Lock, is_off: Callable[[], bool]) -> OSError | None:
        """Write all, or as much as can be until it is off; give what went wrong."""
        is_regular, error = _is_regular(descriptor), None
        try:
            self._write(descriptor, _FILE_BYTES if is_regular else _PIPE_BYTES, turn, is_off)
        except OSError as exc:
            error = exc
        if is_regular and self._done:
            try:
                # Events leave the ledger after this: a power cut must not take them.
                os.fsync(descriptor)
            except OSError as exc:
                self._is_lost, error = True, exc
        return error

    def _write(self, descriptor: int, most: int, turn: threading.Lock, is_off: Callable[[], bool]) -> None:
        while self._done < len(self._data):
            # Outside of the turn: while a reader is waited for, the log need not wait.
            if _waited_in_vain(descriptor, is_off) or not _took(turn, is_off):
                return
            try:
                self._write_piece(descriptor, most, is_off)
            finally:
                turn.release()

    def _write_piece(self, descriptor: int, most: int, is_off: Callable[[], bool]) -> None:
        """Write as many lines as go out at once, or one that is longer than that."""
        last = bisect_right(self._ends, self._done + most) - 1
        end = self._ends[last] if self._ends[last] > self._done else self._ends[last + 1]
        while self._done < end and not _waited_in_vain(descriptor, is_off):
            try:
                self._done += os.write(descriptor, self._data[self._done : min(end, self._done + most)])
            except BlockingIOError:
                continue


def _waited_in_vain(descriptor: int, is_off: Callable[[], bool]) -> bool:
    """Wait until something can be written, or until writing is off; tell whether it is off."""
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    while not ready.poll(_LOOK_SECONDS * 1000):
        if is_off():
            return True
    return False


def _took(turn: threading.Lock, is_off: Callable[[], bool]) -> bool:
    while not turn.acquire(timeout=_LOOK_SECONDS):
        if is_off():
            return False
    return True


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _sync_folder(folder: Path) -> None:
    """Let a new file's name outlive a power cut, where the folder can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
