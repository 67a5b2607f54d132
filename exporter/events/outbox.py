"""
The events that wait in the ledger until they are written.

A poll's transaction adds an event for every run that it counts. An event leaves the outbox only after it was
written: so a crash may write it twice, and never loses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from exporter.model import Run, TargetKey

Include = Literal["ended", "failed"]
MAX_WAITING = 100_000


@dataclass(frozen=True, slots=True)
class EventRules:
    """
    Which runs become events: all that ended, or those that failed.

    Shape: at most `max_waiting` events of a target wait; then the oldest are dropped.
    """

    include: Include = "ended"
    max_waiting: int = MAX_WAITING


@dataclass(frozen=True, slots=True)
class Event:
    """
    A run that ended, and its target.

    Units: `counted_ms` is when the poll that counted it was recorded, by our own clock.
    """

    target: TargetKey
    counted_ms: int
    run: Run


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    An event in the outbox.

    Shape: what was counted later has a larger `id`; `event` is None where the ledger's value is damaged.
    """

    id: int
    event: Event | None


@dataclass(frozen=True, slots=True)
class News:
    """How many events were added and dropped since the last time."""

    added: int = 0
    dropped: int = 0

    def __add__(self, other: News) -> News:
        return News(self.added + other.added, self.dropped + other.dropped)


class Outbox(Protocol):
    """Raises: LedgerError from every method but the first where the ledger cannot be read or written."""

    async def event_news(self) -> News:
        """Wait until events were added or dropped since the last call."""

    async def waiting_events(self, most: int) -> tuple[Waiting, ...]:
        """Give the oldest events; these are not dropped any more."""

    async def events_written(self, last: int) -> None:
        """Delete the events up to this id."""

    async def count_events(self) -> int:
        """Count the events that wait, of all targets."""
