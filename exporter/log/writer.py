"""Writes lines in a thread of its own: whoever logs never waits for whoever reads."""

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

MAX_WAITING_BYTES = 4 * 1024 * 1024
CLOSING_SECONDS = 2.0
_WRITE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that waits; `told` is how many dropped ones it tells of, 0 for an ordinary line."""

    text: str
    told: int = 0

    @property
    def lost(self) -> int:
        """How many lines nobody hears of if this one is not written."""
        return self.told or 1


class LineWriter:
    """
    Takes lines and writes them when it can; a line for which there is no room is dropped.

    Once it drops, it goes on dropping until half of what waits is written; then one line, made by `notice`,
    says how many are missing. Lines that cannot be written (no reader any more, a full disk) are dropped too.
    Shape: `on_dropped` is called once for each, from any thread.
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
        self._lines: deque[_Line] = deque()
        self._waiting = 0
        self._is_full = False
        self._untold = 0
        self._closing = False
        self._changed = threading.Condition()
        # A daemon: where the reader has stopped for good, the process must be able to end.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Write this soon, or drop it; never waits."""
        with self._changed:
            if self._is_full or self._waiting + len(text) > self._max_waiting:
                self._is_full = True
                self._untold += 1
            else:
                self._append(_Line(text))
                return
        self._on_dropped()

    def close(self, timeout_seconds: float = CLOSING_SECONDS) -> None:
        """Write what waits, for so long at the most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _append(self, line: _Line) -> None:
        self._lines.append(line)
        self._waiting += len(line.text)
        self._changed.notify()

    def _run(self) -> None:
        while some := self._next():
            try:
                self._write("".join(line.text for line in some))
            # A stream that was closed says ValueError.
            except (OSError, ValueError):
                self._written(some, ok=False)
            else:
                self._written(some, ok=True)

    def _next(self) -> list[_Line]:
        """Wait for lines, and take some; none at the end."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            some, size = list[_Line](), 0
            while self._lines and size < _WRITE_BYTES:
                some.append(self._lines.popleft())
                size += len(some[-1].text)
            return some

    def _written(self, some: list[_Line], *, ok: bool) -> None:
        with self._changed:
            # Only now: what is being written takes room as well.
            self._waiting -= sum(len(line.text) for line in some)
            if 2 * self._waiting <= self._max_waiting:
                self._is_full = False
            if not ok:
                self._untold += sum(line.lost for line in some)
            elif self._untold and not self._is_full:
                self._append(_Line(self._notice(self._untold), self._untold))
                self._untold = 0
        for line in some:
            if not ok and not line.told:
                self._on_dropped()


def writing_to(stream: TextIO, turn: threading.Lock) -> Callable[[str], None]:
    """
    Give what writes to a stream, and waits until it is written. Meanwhile it holds the lock `turn`.

    A pipe or a file is written to by its descriptor: a thread that waits for a reader would otherwise hold
    the stream's lock, which Python takes when the process ends. A terminal is written to as `sys.stderr`: a
    progress bar may have put something else in its place.
    """
    write = _plain_writing_to(stream)

    def write_in_turn(text: str) -> None:
        with turn:
            write(text)

    return write_in_turn


def _plain_writing_to(stream: TextIO) -> Callable[[str], None]:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return lambda text: _write_text(stream, text)
    if stream.isatty():
        return lambda text: _write_text(sys.stderr if stream is sys.__stderr__ else stream, text)
    return lambda text: _write_bytes(descriptor, text.encode("utf-8", "backslashreplace"))


def _write_text(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _write_bytes(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        # Whoever shares the pipe may have made it non-blocking.
        with suppress(BlockingIOError):
            left = left[os.write(descriptor, left) :]
            continue
        select.select([], [descriptor], [])
