"""Writes log lines in a thread, so that code that logs never waits for the reader of the log."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

# Some ten thousand lines: enough while a reader pauses, and little beside the process's memory.
MAX_WAITING_BYTES = 4 * 1024 * 1024
CLOSING_SECONDS = 2.0
_WRITE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _WaitingLine:
    """A line that waits; `reports` is how many dropped lines it reports, 0 for an ordinary line."""

    text: str
    reports: int = 0


class LineWriter:
    """
    Takes lines and writes them when it can; a line for which there is no room is dropped.

    Once it drops lines, it goes on until half of what waits is written; then one line, made by `notice`, says
    how many are missing. Lines that cannot be written (the reader has ended, a full disk) are dropped too.
    Shape: `on_dropped` is called once for each dropped line, from any thread.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        notice: Callable[[int], str],
        on_dropped: Callable[[], None],
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._write = write
        self._notice = notice
        self._on_dropped = on_dropped
        self._max_waiting = max_waiting_bytes
        self._lines: deque[_WaitingLine] = deque()
        self._waiting = 0
        self._is_full = False
        self._unreported = 0
        self._closing = False
        self._changed = threading.Condition()
        # A daemon: if the reader never reads again, the process must still be able to end.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Write this soon, or drop it; never waits."""
        with self._changed:
            # One long gap with one notice is easier to read than many short ones.
            if self._is_full or self._waiting + len(text) > self._max_waiting:
                self._is_full = True
                self._unreported += 1
            else:
                self._append(_WaitingLine(text))
                return
        self._on_dropped()

    def close(self, timeout_seconds: float = CLOSING_SECONDS) -> None:
        """Write what waits, within the timeout."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _append(self, line: _WaitingLine) -> None:
        self._lines.append(line)
        self._waiting += len(line.text)
        self._changed.notify()

    def _run(self) -> None:
        while some := self._next():
            try:
                self._write("".join(line.text for line in some))
            # A closed stream raises ValueError.
            except (OSError, ValueError):
                self._written(some, ok=False)
            else:
                self._written(some, ok=True)

    def _next(self) -> list[_WaitingLine]:
        """Wait for lines and take some; an empty list at the end."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            some, size = list[_WaitingLine](), 0
            while self._lines and size < _WRITE_BYTES:
                some.append(self._lines.popleft())
                size += len(some[-1].text)
            return some

    def _written(self, some: list[_WaitingLine], *, ok: bool) -> None:
        with self._changed:
            # Only now: lines that are being written take room as well.
            self._waiting -= sum(len(line.text) for line in some)
            if 2 * self._waiting <= self._max_waiting:
                self._is_full = False
            if not ok:
                self._unreported += sum(line.reports or 1 for line in some)
            elif self._unreported and not self._is_full:
                self._append(_WaitingLine(self._notice(self._unreported), self._unreported))
                self._unreported = 0
        for line in some:
            if not ok and not line.reports:
                self._on_dropped()


def writing_to(stream: TextIO, lock: threading.Lock) -> Callable[[str], None]:
    """
    Return a function that writes to a stream under `lock`, and waits until the text is written.

    A pipe or a file is written to by its descriptor: a thread that waits for a reader would otherwise hold
    the stream's lock, which Python takes when the process ends. A terminal is written to as `sys.stderr`,
    because a progress bar may have replaced that stream.
    """
    try:
        descriptor = None if stream.isatty() else stream.fileno()
    except (OSError, ValueError):
        descriptor = None

    def write(text: str) -> None:
        with lock:
            if descriptor is not None:
                _write_bytes(descriptor, text.encode("utf-8", "backslashreplace"))
                return
            out = sys.stderr if stream is sys.__stderr__ else stream
            out.write(text)
            out.flush()

    return write


def _write_bytes(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        # Another process that shares the pipe may have made it non-blocking.
        with suppress(BlockingIOError):
            left = left[os.write(descriptor, left) :]
            continue
        select.select([], [descriptor], [])
