"""
The ledger as the poller uses it, whatever its back end.

A poll first *stages* the rows it reads, page by page, then *records* them. Recording is one transaction: it
compares the staged rows with the known jobs, counts what has happened since, and updates what is listed.
Staged rows are provisional and lost with the process. Jobs of a target with commits = 0 are ignored by every
reader.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from exporter.counting.rules import CountingRules
from exporter.events.outbox import Outbox
from exporter.model import Job, SeriesKey, SetApart, Target, TargetKey, Totals
from exporter.runs import RunReader
from exporter.sync.server_traits import Filters, ServerTraits


@dataclass(frozen=True, slots=True)
class Staged:
    """
    How many rows a listing has brought.

    Shape: `in_pass` were seen in its newest pass, `in_all` in any of its passes, `repeated` in the newest and
    the one before.
    """

    in_pass: int
    in_all: int
    repeated: int


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job the ledger lists, and when it was created."""

    id: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class Unasked:
    """
    Jobs in flight that a poll takes to be as they were, because the API's totals are (in_flight_check).

    Shape: those in `statuses` created before `before_ms`, but for the jobs `gone`, which were asked for by id
    and are not listed any more. Units: `before_ms` by the clock of the rows.
    """

    statuses: tuple[str, ...] = ()
    before_ms: int = 0
    gone: tuple[int, ...] = ()


ALL_ASKED = Unasked()


@dataclass(frozen=True, slots=True)
class Missing:
    """Finished jobs listed in the ledger that no staged row shows: some of them, and how many they are."""

    some: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Audit:
    """
    The API's own totals less the ledger's, by status.

    Shape: `persists` if the audit before showed the same, `again` if another has to tell soon whether this
    does; `totals` are the API's own; `standing` is what differed right after a full sync, which another one
    would not change (None before the audit that follows a full sync); `lasts` if the audit before found a
    difference to the same side in some status. Units: `at_ms` by our clock.
    """

    at_ms: int
    drift: dict[str, int]
    persists: bool = False
    totals: dict[str, int] = field(default_factory=dict)
    again: bool = False
    standing: dict[str, int] | None = field(default_factory=dict)
    lasts: bool = False


@dataclass(frozen=True, slots=True)
class GoneJob:
    """A job that was in flight and then in no answer. Units: `left_ms` by the clock of the rows."""

    id: int
    created_ms: int
    left_ms: int


@dataclass(frozen=True, slots=True)
class TargetState:
    """
    What the ledger knows of a target before a poll.

    Shape: `endpoint` is the one that was polled last, "" where that is not known; `scope` holds the job types
    that have a baseline, or "*", or nothing before the first poll; `listed` is how many jobs are; `invented`
    the undocumented statuses to list what is in flight by; `newest_ms` is when the newest of its jobs was
    created, 0 where there is none; `gone` are the jobs that are gone since a day at most, the latest first.
    Units: `watermark_ms` (when the last poll began), `covered_from_ms` (since when all that was created was
    listed) and `horizon_ms` (before which finished jobs were pruned, None for none) by the clock of the rows,
    `full_sync_ms` by ours.
    """

    watermark_ms: int
    covered_from_ms: int
    full_sync_ms: int
    horizon_ms: int | None
    scope: frozenset[str]
    listed: int
    invented: tuple[str, ...]
    filters: Filters
    audit: Audit | None
    server: ServerTraits = field(default_factory=ServerTraits)
    newest_ms: int = 0
    endpoint: str = ""
    rows_unreadable: int = 0
    gone: tuple[GoneJob, ...] = ()


@dataclass(frozen=True, slots=True)
class PollResult:
    """
    One complete poll of a target.

    Shape: `full` if everything in the window was listed, else what was not staged is as it was, but for what
    was in flight; `full_sync` is the reason for that, None if only because it is little; `same_poll` if
    the same poll has recorded before, and nothing was published since; `set_apart` are the rows that this
    poll could not read; `deleted` are finished jobs that it found not to be listed any more.
    Units: `began_ms` and `clock_ms` (now) by the clock of the rows, which these are ahead of by `lead_ms`
    (server_clock.Clocks), `now_ms` by ours; `horizon_ms` is the start of the lookback by the clock of the
    rows, None for no limit; jobs in flight in an undocumented status that were created before
    `undocumented_from_ms` were not asked for, nor were those `unasked`.
    """

    target: Target
    began_ms: int
    clock_ms: int
    lead_ms: int
    now_ms: int
    horizon_ms: int | None
    full: bool
    filters: Filters
    full_sync: str | None = None
    same_poll: bool = False
    server: ServerTraits = field(default_factory=ServerTraits)
    set_apart: tuple[SetApart, ...] = ()
    deleted: tuple[int, ...] = ()
    undocumented_from_ms: int = 0
    unasked: Unasked = ALL_ASKED

    @property
    def rows_ahead_ms(self) -> int:
        """Give what the clock of the rows is ahead of ours."""
        return self.clock_ms + self.lead_ms - self.now_ms


class RowKind(enum.IntEnum):
    """
    What a staged row is to its target.

    FOREIGN: a row of another target, where the server ignored a filter. OWN: a row of the target. UNREADABLE:
    a row of the target that cannot be read, so its job stays as it was.
    """

    FOREIGN = 0
    OWN = 1
    UNREADABLE = 2


@dataclass(frozen=True, slots=True)
class RecordedTarget:
    """
    A target the ledger has, configured or not.

    Shape: `key.path` is "" where an older version did not record it. Units: when it was last recorded,
    `committed_ms` by our clock and `watermark_ms` by the server's; 0 where it never was.
    """

    key: TargetKey
    committed_ms: int
    watermark_ms: int


class FoundBy(enum.IntFlag):
    """Which kind of request has listed a row."""

    IN_FLIGHT = 1
    WINDOW = 2
    BY_ID = 4


@dataclass(frozen=True, slots=True)
class PageOrigin:
    """
    Which question a page answers, and in which pass over the listing.

    Units: `history_before_ms` by the clock of the rows. No baseline of this poll is earlier, so what ended
    before it is history if the target is new.
    """

    question: FoundBy
    pass_no: int = 0
    history_before_ms: int = 0


class Ledger(Outbox, Protocol):
    """Raises: LedgerError from every method where the record cannot be read or written, or is not open."""

    @property
    def is_open(self) -> bool:
        """Tell whether it can be used: one that was not closed well is checked first."""

    async def opened(self) -> None:
        """Wait until it can be used. Raises: StartError."""

    async def restore(self, target: Target, rules: CountingRules) -> Totals | None:
        """Give what was last committed of a target, None where nothing ever was."""

    async def summary(self, target: Target) -> TargetState:
        """Give what the next poll can build on."""

    async def begin(self, target: Target) -> None:
        """Forget what is staged of a target."""

    async def stage(
        self,
        target: Target,
        jobs: Sequence[Job],
        wanted: Sequence[RowKind],
        origin: PageOrigin,
        rules: CountingRules,
    ) -> None:
        """Stage the rows of a page; of two copies of a row the one updated later stays, else the newer."""

    async def staged(
        self,
        target: Target,
        first_pass: int,
        pass_no: int,
        *,
        before_ms: int | None = None,
    ) -> Staged:
        """
        Count what the passes from `first_pass` to `pass_no` brought.

        Shape: with `before_ms` only the jobs created before it.
        """

    async def gone(self, target: Target, statuses: Sequence[str], start_ms: int) -> int:
        """Count the listed jobs in some statuses (none: all), created since, that no staged row shows."""

    async def readable(self, target: Target, job_ids: Sequence[int]) -> tuple[int, ...]:
        """Name those of some jobs of which a staged row can be read."""

    async def set_apart_by_status(self, target: Target) -> dict[str, int]:
        """
        Give by how many the API's total of each status exceeds the ledger's number for the rows set apart.

        A row counts in the status that it shows; its job, where it is known, in the one that the ledger has.
        Under "" are the rows without a readable id or status: each may count anywhere, or not at all.
        """

    async def vanished(
        self, target: Target, undocumented_from_ms: int, unasked: Unasked = ALL_ASKED
    ) -> tuple[JobRef, ...]:
        """
        Name the jobs in flight that should have been listed and were not: of those in an undocumented status
        the ones created since.
        """

    async def in_flight_between(
        self,
        target: Target,
        statuses: Sequence[str],
        start_ms: int,
        end_ms: int,
        gone: Sequence[int] = (),
    ) -> dict[str, int]:
        """
        Count the jobs in some statuses in flight that were created from one time to before another.

        A staged row replaces what is known of its job; the jobs `gone` do not count.
        """

    async def oldest_in_flight(self, target: Target, status: str) -> int:
        """Give the creation time of the oldest job known in a status, 0 where there is none."""

    async def unstaged_between(
        self, target: Target, statuses: Sequence[str], start_ms: int, end_ms: int, most: int
    ) -> tuple[int, ...]:
        """
        Name listed jobs that no staged row shows, created from one time to before another; `most` of them.

        Shape: those in flight in some statuses, or all jobs where `statuses` is empty.
        """

    async def missing(self, target: Target, horizon_ms: int | None, most: int) -> Missing:
        """Name finished jobs that a full sync should have listed and did not; `most` of them at most."""

    async def listed_since(self, target: Target, horizon_ms: int | None) -> int:
        """Count the jobs listed that were created since, or ever."""

    async def listed_lately(self, target: Target, since_ms: int) -> int:
        """Count the jobs listed that were created since a time not long ago."""

    async def finished_between(
        self, target: Target, start_ms: int, end_ms: int, most: int
    ) -> tuple[int, ...]:
        """Name finished jobs listed that were created from one time to before another; `most` of them."""

    async def oldest_created(self, target: Target) -> int:
        """Give the creation time of the oldest finished job listed, 0 where there is none."""

    async def rows_since(self, target: Target, cuts: Sequence[int], most: int) -> list[tuple[int, int]]:
        """Count the jobs listed that were created from each of these times on, up to `most`."""

    async def staged_since(self, target: Target, start_ms: int) -> int:
        """Count the staged jobs that were created since."""

    async def unlisted_statuses(self, target: Target, before_ms: int) -> int:
        """
        Count the documented statuses in flight that only other questions than the one for them have shown,
        in jobs created before.
        """

    async def learnt(self, target: Target, server: ServerTraits, filters: Filters) -> None:
        """Keep what was found out about the server since the poll was recorded."""

    async def audited(self, target: Target, audit: Audit, rules: CountingRules) -> Totals:
        """Record an audit and give what is to be published."""

    async def release(
        self, target: Target, keys: Collection[SeriesKey], rules: CountingRules, now_ms: int
    ) -> Totals:
        """
        Record that held series (Totals.held) show their values from now on, and give what is to be published.

        Units: `now_ms` by our clock.
        """

    async def record(self, observation: PollResult, rules: CountingRules) -> Totals:
        """Fold what is staged into the record, in one transaction, and give what is to be published."""

    async def remembered(self) -> tuple[RecordedTarget, ...]:
        """Give every target that the ledger has."""

    async def forget(self, key: TargetKey, is_unused: Callable[[], bool]) -> bool:
        """
        Delete all there is of a target, piece by piece, for as long as `is_unused` says so before each; tell
        whether all of it went.
        """

    def reading(self) -> AbstractAsyncContextManager[RunReader]:
        """See runs.RunSource."""

    def drop_waiting(self) -> None:
        """
        Drop the work for targets that has not begun: its callers were cancelled, and the process ends.

        With many targets it could take longer than a process may take to end.
        """

    async def close(self) -> None:
        """Finish the work under way and close the ledger."""
