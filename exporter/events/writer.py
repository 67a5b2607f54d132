"""The thread that writes events: nothing else waits for who reads them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

from exporter.events.outbox import Event
from exporter.events.sinks import Sink, Written

_Job = tuple[Sequence[Event], asyncio.AbstractEventLoop, "asyncio.Future[Written]"]


class Writer:
    """
    Writes events to one sink, one batch after the other.

    Shape: an event that no line can be made of, by a fault of this program, is left out; `on_fault` is told,
    in this thread.
    """

    def __init__(
        self, sink: Sink, line_of: Callable[[Event], bytes], on_fault: Callable[[Exception], None]
    ) -> None:
        self._sink = sink
        self._line_of = line_of
        self._on_fault = on_fault
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._is_off = threading.Event()
        # A daemon: where the reader has stopped for good, the process must be able to end.
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def write(self, events: Sequence[Event]) -> asyncio.Future[Written]:
        """Write lines; what is given is done when they are written, however long that takes."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[Written] = loop.create_future()
        self._jobs.put((events, loop, written))
        return written

    def stop(self) -> None:
        """Write no more; a `write` under way soon returns with what it has written."""
        self._is_off.set()
        self._jobs.put(None)

    def _run(self) -> None:
        while job := self._jobs.get():
            events, loop, future = job
            try:
                lines = [self._line(event) for event in events]
                done = partial(_give, future, self._sink.write(lines, self._is_off.is_set))
            except Exception as exc:  # told to the one who waits
                done = partial(_fail, future, exc)
            # The loop is closed where nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done)
        self._sink.close()

    def _line(self, event: Event) -> bytes:
        try:
            return self._line_of(event)
        except Exception as exc:
            self._on_fault(exc)
            return b""


def _give(future: asyncio.Future[Written], written: Written) -> None:
    if not future.done():
        future.set_result(written)


def _fail(future: asyncio.Future[Written], exc: Exception) -> None:
    if not future.done():
        future.set_exception(exc)
