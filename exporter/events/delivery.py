"""
Brings events from the ledger to their output: in order, and at least once.

Only this task and its thread wait for the output. Events that are not written stay in the ledger: they are
written when the reader goes on, when the disk has room again, or after a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from exporter.errors import LedgerError
from exporter.events.lines import EventFormat, Masks, line_of
from exporter.events.outbox import Outbox, PendingEvent
from exporter.events.sinks import EventWriter, FileSink, LockOf, Stream, StreamSink
from exporter.state_log import FaultLog, StateLog

# After a crash so many events may be written twice.
_BATCH_EVENTS = 500
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
# A batch that takes longer is logged: its output has stopped.
_PATIENCE_SECONDS = 10.0
STOPPED = "its reader or its disk has stopped"
# At the end a stopped writer may take so long to report what it has written.
_STOPPING_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class EventOutput:
    to: Stream | Path
    format: EventFormat


class Delivery:
    """
    Writes the events in the outbox, while an output is configured.

    Shape: `on_dropped` gets how many more events were dropped, from any thread; `on_pending` how many events
    wait for the output: 0 while there is no output.
    """

    def __init__(
        self,
        outbox: Outbox,
        masks: Masks,
        lock_of: LockOf,
        *,
        on_dropped: Callable[[int], None],
        on_pending: Callable[[int], None],
    ) -> None:
        self._outbox = outbox
        self._masks = masks
        self._lock_of = lock_of
        self._on_dropped = on_dropped
        self._on_pending = on_pending
        self._output: EventOutput | None = None
        self._writer: EventWriter | None = None
        self._batch: deque[PendingEvent] = deque()
        self._written: list[int] = []
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_ending = False
        self._is_cut_off = False
        self._ended = asyncio.Event()
        self._faults = FaultLog(structlog.get_logger())
        log = structlog.get_logger()
        self._not_written = StateLog(log, "events not written; they are kept", "events are written again")
        self._not_read = StateLog(log, "events not read from the ledger", "events are read again")
        self._dropping = StateLog(log, "events dropped", "no more events dropped", is_error=True)

    def configure(self, output: EventOutput | None) -> None:
        """Write to this output from now on. A reload may call it again, also during a write."""
        if output == self._output:
            return
        self._output = output
        if self._writer is not None:
            self._writer.stop()
            self._writer = None
        self._changed.set()
        self._arrived.set()

    def look_again(self) -> None:
        """Look for events that this process has not added: those of targets that another replica held."""
        self._arrived.set()

    async def run(self) -> None:
        """Write events as they come, until `end`."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(), name="event news")
            pause = _FIRST_PAUSE_SECONDS
            while not self._is_ending:
                self._arrived.clear()
                self._changed.clear()
                if await self._deliver():
                    pause = _FIRST_PAUSE_SECONDS
                    await self._arrived.wait()
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            # The last polls may have added events.
            await self._deliver()
            self._ended.set()
            watching.cancel()

    async def end(self, grace_seconds: float) -> None:
        """Write what waits, within the grace period; the rest stays in the ledger until the next start."""
        self._is_ending = True
        self._arrived.set()
        self._changed.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), grace_seconds)
            return
        # The reader does not read. The writer reports what it has written so far, and the rest is kept.
        self._is_cut_off = True
        if self._writer is not None:
            self._writer.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _STOPPING_SECONDS)
        structlog.get_logger().info("events wait in the ledger for the next start")

    async def _watch(self) -> None:
        """Watch for events that were added or dropped, also while a write waits for its reader."""
        while True:
            news = await self._outbox.event_news()
            if news.dropped:
                self._on_dropped(news.dropped)
                self._dropping.holds("full", time.time(), events=news.dropped, error="too many wait")
            self._arrived.set()

    async def _deliver(self) -> bool:
        """Write all that waits; return whether that succeeded."""
        try:
            error = await self._write_all()
            if error is None:
                self._not_read.is_over(time.time())
                self._faults.clear()
                return True
            await self._count_pending()
        except LedgerError as exc:
            self._not_read.holds(exc.reason, time.time(), error=str(exc))
        except Exception as exc:
            self._faults.log("events not written", exc)
        return False

    async def _write_all(self) -> OSError | None:
        """Write batch after batch; return the error, if any."""
        error: OSError | None = None
        measured_at = time.monotonic()
        while True:
            # Also after a failure: what was written before it must not be written again.
            await self._forget_written()
            if time.monotonic() - measured_at >= _PATIENCE_SECONDS:
                # A slow reader shows only in this figure: no write fails.
                await self._count_pending()
                measured_at = time.monotonic()
            if self._output is None or error is not None or self._is_cut_off:
                break
            if not self._batch:
                self._batch.extend(await self._outbox.waiting_events(_BATCH_EVENTS))
            if not self._batch:
                self._dropping.is_over(time.time())
                break
            # With the output of now: a reload may have changed it since the last batch.
            error = await self._write_batch(self._output)
        if error is None and not self._is_cut_off:
            self._on_pending(0)
        return error

    async def _write_batch(self, output: EventOutput) -> OSError | None:
        """Write the batch, and keep what was not written."""
        if self._writer is None:
            to, lock_of = output.to, self._lock_of
            sink = FileSink(to, lock_of) if isinstance(to, Path) else StreamSink(to, lock_of)
            self._writer = EventWriter(sink, line_of(output.format, self._masks), self._leave_out)
        events = [pending.event for pending in self._batch if pending.event is not None]
        writing = self._writer.write(events)
        while not (await asyncio.wait([writing], timeout=_PATIENCE_SECONDS))[0]:
            self._not_written.holds("waits", time.time(), **_details(output, STOPPED))
            await self._count_pending()
        written = writing.result()
        if written.lines == len(events):
            self._not_written.is_over(time.time(), to=str(output.to))
        if written.error is not None:
            self._not_written.holds(
                written.error.errno, time.time(), **_details(output, written.error.strerror)
            )
        self._take(written.lines)
        return written.error

    def _leave_out(self, exc: Exception) -> None:
        self._on_dropped(1)
        self._faults.log("event left out", exc)

    async def _count_pending(self) -> None:
        with suppress(LedgerError):
            self._on_pending(await self._outbox.count_events())

    def _take(self, lines: int) -> None:
        """Remove so many events from the batch, and the damaged ones before and between them."""
        damaged = 0
        while self._batch and (lines or self._batch[0].event is None):
            pending = self._batch.popleft()
            self._written.append(pending.id)
            if pending.event is None:
                damaged += 1
            else:
                lines -= 1
        if damaged:
            self._on_dropped(damaged)
            self._dropping.holds("damaged", time.time(), events=damaged, error="the ledger is damaged")

    async def _forget_written(self) -> None:
        if self._written:
            await self._outbox.events_written(self._written)
            self._written = []


def _details(output: EventOutput, error: str | None) -> dict[str, object]:
    return {"to": str(output.to), "error": error}
