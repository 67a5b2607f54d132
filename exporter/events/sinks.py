"""
Where events are written to: standard output, standard error or a file, and the thread that writes.

Lines stay whole. Events and log take turns where they go to the same file. Where a line was cut short, as on
a full disk or when the process was killed, the next one begins on a new line.
"""

from __future__ import annotations

import asyncio
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
from functools import partial
from itertools import accumulate
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, TextIO

from exporter.events.outbox import Event

Stream = Literal["stdout", "stderr"]
# Returns the lock to hold while writing to a descriptor.
LockOf = Callable[[int], threading.Lock]

# A pipe that has room takes this much at once, without waiting and without a write in between (pipe(7)).
_PIPE_BYTES = select.PIPE_BUF
_FILE_BYTES = 256 * 1024
# A stopped writer notices within this time that it is stopped.
_LOOK_SECONDS = 0.1
_MODE = 0o640


@dataclass(frozen=True, slots=True)
class Written:
    """How many lines were written whole, and the error that kept the next one from it, if any."""

    lines: int
    error: OSError | None = None


class EventWriter:
    """
    Writes events to one sink in a thread, so that only the thread waits for the reader.

    Shape: an event that cannot be formatted, by a fault of this program, is left out; `on_fault` is called in
    the thread.
    """

    def __init__(
        self,
        sink: StreamSink | FileSink,
        line_of: Callable[[Event], bytes],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._sink = sink
        self._line_of = line_of
        self._on_fault = on_fault
        self._batches: SimpleQueue[tuple[Sequence[Event], asyncio.Future[Written]] | None] = SimpleQueue()
        self._stopped = threading.Event()
        # A daemon: if the reader never reads again, the process must still be able to end.
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def write(self, events: Sequence[Event]) -> asyncio.Future[Written]:
        """Queue events; the result is done when they are written, however long that takes."""
        written: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._batches.put((events, written))
        return written

    def stop(self) -> None:
        """Write no more; a `write` under way soon returns with what it has written."""
        self._stopped.set()
        self._batches.put(None)

    def _run(self) -> None:
        while batch := self._batches.get():
            events, future = batch
            done: Callable[[], None]
            try:
                written = self._sink.write([self._line(event) for event in events], self._stopped.is_set)
                done = partial(future.set_result, written)
            except Exception as exc:  # raised in the task that waits
                done = partial(future.set_exception, exc)
            # At the end of the process the loop may be closed already.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_unless_done, future, done)
        self._sink.close()

    def _line(self, event: Event) -> bytes:
        try:
            return self._line_of(event)
        except Exception as exc:
            self._on_fault(exc)
            return b""


def _unless_done(future: asyncio.Future[Written], done: Callable[[], None]) -> None:
    if not future.done():
        done()


class StreamSink:
    """Standard output or error, for one thread. While nothing reads it, a write waits, until `is_stopped`."""

    def __init__(self, name: Stream, lock_of: LockOf) -> None:
        self._name = name
        self._lock_of = lock_of
        self._is_torn = False

    def write(self, lines: Sequence[bytes], is_stopped: Callable[[], bool]) -> Written:
        try:
            stream = self._stream()
            descriptor, is_terminal = stream.fileno(), stream.isatty()
        except (OSError, ValueError):
            return Written(0, self._closed())
        lock = self._lock_of(descriptor)
        if is_terminal:
            return self._print(lines, lock)
        batch = _LineBatch(lines, self._is_torn)
        error = batch.write(descriptor, lock, is_stopped)
        self._is_torn = batch.is_torn
        return Written(batch.lines, error)

    def close(self) -> None:
        """The stream belongs to the process."""

    def _stream(self) -> TextIO:
        """Return the stream, which a progress bar may have replaced. Raises: OSError (started without it)."""
        stream: TextIO | None = sys.stdout if self._name == "stdout" else sys.stderr
        if stream is None:
            raise self._closed()
        return stream

    def _closed(self) -> OSError:
        return OSError(errno.EBADF, f"{self._name} is closed")

    # Through the stream, which a progress bar may have replaced: it prints such lines above itself.
    def _print(self, lines: Sequence[bytes], lock: threading.Lock) -> Written:
        try:
            with lock:
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
    A file that lines are appended to, for one thread. It is opened at the first write.

    It is opened again if its path leads to another file or to none: so logrotate may rename it. It may be
    truncated too (copytruncate), because every write goes to its end.
    """

    def __init__(self, path: Path, lock_of: LockOf) -> None:
        self._path = path
        self._lock_of = lock_of
        self._descriptor: int | None = None
        self._is_torn = False

    def write(self, lines: Sequence[bytes], is_stopped: Callable[[], bool]) -> Written:
        try:
            descriptor = self._open()
        except OSError as exc:
            return Written(0, exc)
        batch = _LineBatch(lines, self._is_torn)
        error = batch.write(descriptor, self._lock_of(descriptor), is_stopped)
        self._is_torn = batch.is_torn
        return Written(batch.lines, error)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        """Return a descriptor of the file that is at the path now. Raises: OSError."""
        if self._descriptor is not None and not self._was_moved(self._descriptor):
            return self._descriptor
        self.close()
        # Not blocking: a named pipe without a reader then gives an error, and is tried again.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, _MODE)
        if _is_regular(self._descriptor):
            self._is_torn = self._ends_within_a_line(self._descriptor)
            # A new file's name survives a power cut only if its folder is written, which not all can open.
            with suppress(OSError):
                folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
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
            # The file may be writable and not readable. An empty line does less harm than two lines in one.
            return True


class _LineBatch:
    """Lines to write, in pieces of whole lines. Shape: `begins_anew` if the output ended within a line."""

    def __init__(self, lines: Sequence[bytes], begins_anew: bool) -> None:
        start = b"\n" if begins_anew else b""
        self._data = memoryview(start + b"".join(lines))
        self._ends = list(accumulate(map(len, lines), initial=len(start)))
        self._done = 0
        self._began_torn = begins_anew
        self._is_lost = False

    @property
    def lines(self) -> int:
        """How many lines are written whole; 0 where the disk did not take them."""
        return 0 if self._is_lost else max(bisect_right(self._ends, self._done) - 1, 0)

    @property
    def is_torn(self) -> bool:
        """Whether what is written ends within a line."""
        if self._done == 0:
            return self._began_torn
        return self._data[self._done - 1] != ord("\n")

    def write(self, descriptor: int, lock: threading.Lock, is_stopped: Callable[[], bool]) -> OSError | None:
        """Write all, or as much as possible until it is stopped; return the error, if any."""
        is_regular, error = _is_regular(descriptor), None
        try:
            self._write(descriptor, _FILE_BYTES if is_regular else _PIPE_BYTES, lock, is_stopped)
        except OSError as exc:
            error = exc
        if is_regular and self._done:
            try:
                # Events leave the ledger after this: a power cut must not lose them.
                os.fsync(descriptor)
            except OSError as exc:
                self._is_lost, error = True, exc
        return error

    def _write(
        self, descriptor: int, most: int, lock: threading.Lock, is_stopped: Callable[[], bool]
    ) -> None:
        while self._done < len(self._data):
            # Before taking the lock: the log need not wait while this waits for a reader.
            if _must_stop(descriptor, is_stopped):
                return
            while not lock.acquire(timeout=_LOOK_SECONDS):
                if is_stopped():
                    return
            # As many lines as go out at once, or one that is longer: the log must not come between its parts.
            last = bisect_right(self._ends, self._done + most) - 1
            end = self._ends[last] if self._ends[last] > self._done else self._ends[last + 1]
            try:
                while self._done < end and not _must_stop(descriptor, is_stopped):
                    # Another writer to the same pipe may have filled it after the poll.
                    with suppress(BlockingIOError):
                        piece = self._data[self._done : min(end, self._done + most)]
                        self._done += os.write(descriptor, piece)
            finally:
                lock.release()


def _must_stop(descriptor: int, is_stopped: Callable[[], bool]) -> bool:
    """Wait until the descriptor takes data; return True if the writer is stopped meanwhile."""
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    while not ready.poll(_LOOK_SECONDS * 1000):
        if is_stopped():
            return True
    return False


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
