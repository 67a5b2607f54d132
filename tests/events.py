"""Sample events, an outbox in memory, and a reader of event lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from exporter.errors import LedgerError
from exporter.events.outbox import Event, OutboxNews, PendingEvent
from exporter.model import Run, TargetKey

TARGET = TargetKey("perception", "0a1b2c", "0", "system-jobs")
RUN = Run(
    job_id=2**60 + 1,
    number=2,
    job_type="FRAME_EXTRACT",
    status="RUN_FAILED",
    msg_code="3001",
    msg_error='data package "a b" is damaged',
    data_id="pkg-7",
    resource_spec="2Core_4GiB",
    created_ms=1_772_434_800_000,
    started_ms=1_772_434_860_500,
    ended_ms=1_772_434_900_001,
    at_ms=1_772_434_900_001,
    submitting_ms=60_500,
    running_ms=39_501,
    failed=True,
)


def event(number: int = 1, **fields: Any) -> Event:
    return Event(TARGET, 1_772_434_910_123, replace(RUN, job_id=number, **fields))


class FakeOutbox:
    """Implements events.outbox.Outbox in memory. If `broken`, it fails like a ledger on a full disk."""

    def __init__(self, events: Iterable[Event | None] = ()) -> None:
        self.rows: list[PendingEvent] = []
        self.broken = False
        self._news = OutboxNews()
        self._moved = asyncio.Event()
        for one in events:
            self.add(one)

    def add(self, one: Event | None, dropped: int = 0) -> None:
        last = self.rows[-1].id if self.rows else 0
        self.rows.append(PendingEvent(last + 1, one))
        self._news += OutboxNews(1, dropped)
        self._moved.set()

    async def event_news(self) -> OutboxNews:
        await self._moved.wait()
        self._moved.clear()
        news, self._news = self._news, OutboxNews()
        return news

    async def waiting_events(self, most: int) -> tuple[PendingEvent, ...]:
        self._check()
        return tuple(self.rows[:most])

    async def events_written(self, ids: Sequence[int]) -> None:
        self._check()
        self.rows = [row for row in self.rows if row.id not in ids]

    async def count_events(self) -> int:
        self._check()
        return len(self.rows)

    def _check(self) -> None:
        if self.broken:
            raise LedgerError("database or disk is full")


def ids(text: str | bytes) -> list[int]:
    """Return the job ids of JSON lines, in their order. Every line must be complete."""
    return [int(json.loads(line)["job_id"]) for line in text.splitlines()]
