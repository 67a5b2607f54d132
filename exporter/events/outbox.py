"""
The events that wait in the ledger until they are written.

A poll's transaction adds an event for every run that it counts. An event leaves the outbox only after it was
written: a crash may write it twice, but never loses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.model import Run, TargetKey


@dataclass(frozen=True, slots=True)
class Event:
    """A run that ended. Units: `counted_ms` is when the poll that counted it was recorded, by our clock."""

    target: TargetKey
    counted_ms: int
    run: Run


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event in the outbox. Shape: a later one has a larger `id`; `event` None: the ledger is damaged."""

    id: int
    event: Event | None


@dataclass(frozen=True, slots=True)
class OutboxNews:
    """How many events were added and dropped since the last time."""

    added: int = 0
    dropped: int = 0

    def __add__(self, other: OutboxNews) -> OutboxNews:
        return OutboxNews(self.added + other.added, self.dropped + other.dropped)


class Outbox(Protocol):
    """Raises: LedgerError, from every method but `event_news`, if the ledger cannot be read or written."""

    async def event_news(self) -> OutboxNews:
        """Wait until events were added or dropped since the last call."""

    async def waiting_events(self, most: int) -> tuple[PendingEvent, ...]:
        """
        Return the oldest events; from now on they are not dropped.

        Of a ledger that replicas share: of the targets that this one holds.
        """

    async def events_written(self, ids: Sequence[int]) -> None:
        """Delete these events."""

    async def count_events(self) -> int:
        """Count the events that wait, of the same targets."""
