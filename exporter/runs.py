"""
Queries for the single runs that a ledger keeps, and their results.

A ledger keeps failed runs for 24 hours, at least the latest 500 and at most 10,000 of a target. It counts all
runs that ended by the hour, for 7 days.
Units: times of runs are `Run.at_ms`, by our own clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from exporter.model import Run, TargetKey

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """
    Selects the runs that match all fields.

    Shape: None matches everything; `project` and `workspace` are the labels; `msg_code` "" matches runs
    without a code.
    Units: `since_ms` matches runs that ended at that time or later.
    """

    project: str | None = None
    workspace: str | None = None
    job_type: str | None = None
    status: str | None = None
    msg_code: str | None = None
    job_id: int | None = None
    since_ms: int | None = None

    def fits_target(self, target: TargetKey) -> bool:
        return self.project in (None, target.project) and self.workspace in (None, target.workspace)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The place of a failed run among all of a ledger, the newest last. Shape: `target` is its id there."""

    at_ms: int
    target: int
    job_id: int
    number: int

    def __str__(self) -> str:
        return f"{self.at_ms}.{self.target}.{self.job_id}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse the text that `str` writes. Raises: ValueError."""
        parts = text.split(".")
        # The text comes from a client: int() would take other digits, signs and any length.
        if len(parts) == 4 and all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
            numbers = [int(part) for part in parts]
            # SQLite refuses larger numbers, with an error that would look like a fault of ours.
            if max(numbers) < 2**63:
                return cls(*numbers)
        raise ValueError("expected the `next` of an answer")


@dataclass(frozen=True, slots=True)
class FailedRun:
    target: TargetKey
    run: Run


@dataclass(frozen=True, slots=True)
class KnownRun:
    """
    What a ledger knows of a run that has ended or is in flight.

    Shape: as model.Run. What the ledger does not know is None: it keeps code and message of failed runs only,
    and for a limited time. `at_ms` is None for a run in flight.
    """

    job_id: int
    number: int
    job_type: str
    status: str
    msg_code: str | None
    msg_error: str | None
    data_id: str | None
    resource_spec: str | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    at_ms: int | None
    submitting_ms: int | None
    running_ms: int | None


@dataclass(frozen=True, slots=True)
class Selection:
    """
    The failed runs of one answer, the newest first. The runs themselves are read later, in pieces.

    Shape: `keys` are for RunReader.failed; `last` is the position of the last run if more follow, else None.
    """

    keys: Sequence[int]
    last: Position | None = None


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """
    Failed runs of one target with the same job type, status, code and message.

    Shape: `job_ids` are the jobs of the newest runs, each once, the newest first, up to the limit of the
    query; `runs` counts all. Units: `first_ms` and `last_ms` are the `at_ms` of the earliest and the latest.
    """

    target: TargetKey
    job_type: str
    status: str
    msg_code: str
    message: str
    runs: int
    first_ms: int
    last_ms: int
    job_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FailureGroups:
    """Failed runs by group, the largest first. Shape: `runs` counts all, `left_out` the other groups."""

    groups: tuple[FailureGroup, ...] = ()
    runs: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class HourlyFailures:
    """
    The failed runs of one target in the last hour.

    Shape: `kinds` counts them by job type and code, at least the most frequent kinds. `mean_per_hour` is the
    mean of the last 7 days without the last hour; the ledger counts by the hour of the clock, so the hour
    before the current one is left out too. It is None until there is one day of counts. `ended` counts all
    runs that ended in the current hour of the clock and in the one before.
    """

    target: TargetKey
    runs: int
    mean_per_hour: float | None
    kinds: Mapping[tuple[str, str], int]
    ended: int = 0


def rfc3339(at_ms: int | None) -> str | None:
    """Write a time as 2026-07-01T03:00:00.000Z; None for no time, or a year outside 1 to 9999."""
    # A wrong clock, or a damaged ledger, can give any number. It must not break a page.
    try:
        at = None if at_ms is None else _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return None
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RunReader(Protocol):
    """Reads runs; targets that the ledger does not have are ignored. Every method may raise LedgerError."""

    async def select_failed(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, after: Position | None = None
    ) -> Selection:
        """Select failed runs, the newest first; with `after` only those older than that position."""

    async def failed(self, targets: Sequence[TargetKey], keys: Sequence[int]) -> tuple[FailedRun, ...]:
        """Read some runs of a selection, in its order, without those that were deleted since."""

    async def failure_groups(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, most_ids: int = 500
    ) -> FailureGroups:
        """Group failed runs. Returns at most `most` groups, the largest."""

    async def last_hour(
        self, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
    ) -> tuple[HourlyFailures, ...]:
        """
        Count the failed runs of the last hour, by target.

        Of the filter only job type and status are applied: the hourly counts are kept by these two only.
        """

    async def recent_failures(
        self, targets: Sequence[TargetKey], most: int
    ) -> Mapping[TargetKey, tuple[Run, ...]]:
        """Return the latest failed runs of each target, the newest first, at most `most` of each."""


class RunSource(Protocol):
    """Opens readers of the ledger."""

    def reading(self) -> AbstractAsyncContextManager[RunReader]:
        """Open a reader. It does not block the ledger's writer. Raises: LedgerError."""
