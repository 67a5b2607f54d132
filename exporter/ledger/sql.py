"""
The ledger in SQL, whatever the back end: what polls stage, ask and record.

The event loop hands work to threads (ledger.worker) and waits. A commit survives kill -9 and a power cut.
Staged rows need not survive: they do not wait for the disk, and go to a thread in batches, before the next
question on their target.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

from exporter.counting.rules import CountingRules
from exporter.errors import LedgerError
from exporter.events.outbox import OutboxNews, PendingEvent
from exporter.ledger import ended, questions, set_apart, staging, targets
from exporter.ledger.commit import keep_learnt, record, record_audit, record_release
from exporter.ledger.database import Database
from exporter.ledger.staging import Pages, StagingTable
from exporter.ledger.targets import find_target, target_id
from exporter.ledger.totals import (
    finished_between,
    listed_lately,
    listed_since,
    oldest_created,
    read_summary,
    restore,
)
from exporter.ledger.worker import Commit, Worker
from exporter.model import Job, SeriesKey, Target, TargetKey, Totals
from exporter.sync.ledger import (
    ALL_ASKED,
    Audit,
    JobRef,
    Missing,
    PageOrigin,
    PollResult,
    RecordedTarget,
    RowKind,
    Staged,
    TargetState,
    Unasked,
)
from exporter.sync.server_traits import Filters, ServerTraits

P = ParamSpec("P")
R = TypeVar("R")

# So many rows go to a thread at once: each hop costs a switch of the GIL, and a larger batch
# rewrites fewer B-tree pages.
_ROWS_PER_HOP = 5_000


class SqlLedger:
    """
    Implements sync.ledger.Ledger, but for `reading`.

    Shape: `run_text` is the SQL for the text of an event's run.
    """

    def __init__(self, worker: Worker, staging_table: StagingTable, *, run_text: str = "run") -> None:
        self._worker = worker
        self._staging_table = staging_table
        self._run_text = run_text
        self._pages: dict[TargetKey, Pages] = {}
        self._batches: dict[TargetKey, asyncio.Future[None]] = {}  # of pages, on their way to be staged
        self._staged_rows: Counter[TargetKey] = Counter()
        self._rows: dict[TargetKey, int] = {}  # of the table `targets`, for the threads alone
        self._events_taken = 0  # up to this id, for the threads alone
        self._event_news = OutboxNews()
        self._events_moved = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._worker.is_open

    async def opened(self) -> None:
        await self._worker.opened()

    async def opened_or_closed(self) -> Self:
        """Wait until it can be used, and give it; close it where it cannot be. Raises: StartError."""
        try:
            await self.opened()
        except BaseException:
            await self.close()
            raise
        return self

    async def restore(self, target: Target, rules: CountingRules) -> Totals | None:
        return await self._worker.run(lambda db: restore(db, target, rules), target.key)

    async def summary(self, target: Target) -> TargetState:
        # It needs nothing that is staged: so a batch that failed in one poll does not fail the next one.
        return await self._worker.run(lambda db: read_summary(db, self._row(db, target)), target.key)

    async def begin(self, target: Target) -> None:
        self._pages.pop(target.key, None)
        self._staged_rows.pop(target.key, None)
        if before := self._batches.pop(target.key, None):
            with suppress(Exception):  # of a poll that has failed
                await asyncio.shield(before)
        table = self._staging_table

        def begin(db: Database, row: int) -> bool:
            table.begin(db, row)
            return targets.forget_some_unrecorded(db, row)

        if table.is_transactional:
            has_none = await self._on(target, begin, writes=True)
        else:
            await self._on(target, table.begin)
            has_none = False
        # A first sync finds no jobs, unless the target was forgotten and that was cut short. Piece by piece:
        # others have work for this thread too.
        while not has_none:
            has_none = await self._on(target, targets.forget_some_unrecorded, writes=True)

    async def stage(
        self,
        target: Target,
        jobs: Sequence[Job],
        wanted: Sequence[RowKind],
        origin: PageOrigin,
        rules: CountingRules,
    ) -> None:
        pages = self._pages.setdefault(target.key, Pages(rules))
        pages.add(jobs, wanted, origin)
        self._staged_rows[target.key] += len(jobs)
        if pages.rows >= _ROWS_PER_HOP:
            # The next pages are read while this batch is written; only one batch is under way. It is replaced
            # once it has ended well: else its failure would be lost with a caller that is cancelled here.
            if before := self._batches.get(target.key):
                await asyncio.shield(before)
            if self._pages.get(target.key) is pages:  # no other page has taken them along meanwhile
                self._batches[target.key] = self._submit_on(target, _nothing, writes=True)

    async def staged(
        self, target: Target, first_pass: int, pass_no: int, *, before_ms: int | None = None
    ) -> Staged:
        return await self._ask(target, questions.count, first_pass, pass_no, before_ms)

    async def gone(self, target: Target, statuses: Sequence[str], start_ms: int) -> int:
        return await self._ask(target, questions.gone, statuses, start_ms)

    async def readable(self, target: Target, job_ids: Sequence[int]) -> tuple[int, ...]:
        return await self._ask(target, questions.readable, job_ids)

    async def set_apart_by_status(self, target: Target) -> dict[str, int]:
        return await self._ask(target, set_apart.by_status)

    async def vanished(
        self, target: Target, undocumented_from_ms: int, unasked: Unasked = ALL_ASKED
    ) -> tuple[JobRef, ...]:
        return await self._ask(target, questions.vanished, undocumented_from_ms, unasked)

    async def in_flight_between(
        self,
        target: Target,
        statuses: Sequence[str],
        start_ms: int,
        end_ms: int,
        gone: Sequence[int] = (),
    ) -> dict[str, int]:
        return await self._ask(target, questions.in_flight_between, statuses, start_ms, end_ms, gone)

    async def oldest_in_flight(self, target: Target, status: str) -> int:
        return await self._ask(target, questions.oldest_in_flight, status)

    async def unstaged_between(
        self, target: Target, statuses: Sequence[str], start_ms: int, end_ms: int, most: int
    ) -> tuple[int, ...]:
        return await self._ask(target, questions.unstaged_between, statuses, start_ms, end_ms, most)

    async def missing(self, target: Target, horizon_ms: int | None, most: int) -> Missing:
        return await self._ask(target, questions.missing, horizon_ms, most)

    async def listed_since(self, target: Target, horizon_ms: int | None) -> int:
        return await self._ask(target, listed_since, horizon_ms)

    async def listed_lately(self, target: Target, since_ms: int) -> int:
        return await self._ask(target, listed_lately, since_ms)

    async def finished_between(
        self, target: Target, start_ms: int, end_ms: int, most: int
    ) -> tuple[int, ...]:
        return await self._ask(target, finished_between, start_ms, end_ms, most)

    async def oldest_created(self, target: Target) -> int:
        return await self._ask(target, oldest_created)

    async def rows_since(self, target: Target, cuts: Sequence[int], most: int) -> list[tuple[int, int]]:
        return await self._ask(target, questions.rows_since, cuts, most)

    async def staged_since(self, target: Target, start_ms: int) -> int:
        return await self._ask(target, questions.staged_since, start_ms)

    async def unlisted_statuses(self, target: Target, before_ms: int) -> int:
        return await self._ask(target, questions.unlisted_statuses, before_ms)

    async def learnt(self, target: Target, server: ServerTraits, filters: Filters) -> None:
        await self._on(target, partial(keep_learnt, server=server, filters=filters), writes=True)

    async def audited(self, target: Target, audit: Audit, rules: CountingRules) -> Totals:
        totals: Totals = await self._worker.commit(
            Commit(target.key, lambda db: record_audit(db, target, audit, rules))
        )
        return totals

    async def release(
        self, target: Target, keys: Collection[SeriesKey], rules: CountingRules, now_ms: int
    ) -> Totals:
        totals: Totals = await self._worker.commit(
            Commit(target.key, lambda db: record_release(db, target, keys, rules, now_ms))
        )
        return totals

    async def record(self, observation: PollResult, rules: CountingRules) -> Totals:
        loop, target = asyncio.get_running_loop(), observation.target
        if before := self._batches.pop(target.key, None):
            await asyncio.shield(before)

        table, pages = self._staging_table, self._pages.pop(target.key, None)
        rows = self._staged_rows.pop(target.key, 0)

        def recording(db: Database) -> tuple[Totals, OutboxNews]:
            result = record(db, observation, rules, self._events_taken)
            table.recorded(db, self._row(db, target))
            return result

        def recorded(db: Database, result: tuple[Totals, OutboxNews]) -> None:
            if result[1] != OutboxNews():
                # From here, since the caller may have been cancelled meanwhile.
                loop.call_soon_threadsafe(self._note, result[1])
            table.tidy(db, self._row(db, target), rows)

        commit = Commit(
            target.key,
            recording,
            prepare=None if pages is None else lambda db: self._stage_pages(db, target, pages),
            after=recorded,
            rows=rows,
        )
        try:
            totals, _ = await self._worker.commit(commit)
        except LedgerError:
            # It may be recorded all the same, with its events, where only the database's answer was lost.
            self._note(OutboxNews())
            raise
        return cast("Totals", totals)

    def _note(self, news: OutboxNews) -> None:
        self._event_news += news
        self._events_moved.set()

    async def event_news(self) -> OutboxNews:
        await self._events_moved.wait()
        self._events_moved.clear()
        news, self._event_news = self._event_news, OutboxNews()
        return news

    async def waiting_events(self, most: int) -> tuple[PendingEvent, ...]:
        return await self._worker.run(lambda db: self._take_events(db, most))

    def _take_events(self, db: Database, most: int) -> tuple[PendingEvent, ...]:
        taken = ended.oldest_events(db, most, run=self._run_text, holder=self._events_of())
        self._events_taken = taken[-1].id if taken else self._events_taken
        return taken

    async def events_written(self, ids: Sequence[int]) -> None:
        await self._worker.run(lambda db: ended.delete_events(db, ids), writes=True)

    async def count_events(self) -> int:
        return await self._worker.run(lambda db: ended.count_events(db, self._events_of()))

    def _events_of(self) -> str | None:
        """Name the holder of the targets whose events are to be written; None: all of them."""
        return None

    async def remembered(self) -> tuple[RecordedTarget, ...]:
        return await self._worker.run(targets.remembered)

    async def forget(self, key: TargetKey, is_unused: Callable[[], bool]) -> bool:
        target = await self._worker.run(lambda db: find_target(db, key))
        if target is None:
            return True
        for piece in targets.PIECES:
            ended = False
            while not ended:
                # Nothing may come between this look and the piece: a poll that begins later runs after it.
                if not is_unused():
                    return False
                ended = await self._worker.run(partial(self._forget, piece, key, target), key, writes=True)
        return True

    def _forget(
        self,
        piece: Callable[[Database, int], bool],
        key: TargetKey,
        target: int,
        db: Database,
    ) -> bool:
        self._rows.pop(key, None)
        return piece(db, target)

    def drop_waiting(self) -> None:
        self._worker.drop_waiting()

    async def close(self) -> None:
        await self._worker.close()

    async def _on(self, target: Target, work: Callable[[Database, int], R], *, writes: bool = False) -> R:
        """Do some work on a target's row, on top of the pages that wait to be staged."""
        before = self._batches.pop(target.key, None)
        if before is not None:
            await asyncio.shield(before)
        # Shielded: a first sync that was interrupted resumes from its rows, so a cancelled caller must not
        # cancel their staging.
        return await asyncio.shield(self._submit_on(target, work, writes=writes))

    async def _ask(
        self,
        target: Target,
        question: Callable[Concatenate[Database, int, P], R],
        *given: P.args,
        **named: P.kwargs,
    ) -> R:
        """Ask what writes nothing, as `_on` does."""
        return await self._on(target, lambda db, row: question(db, row, *given, **named))

    def _submit_on(
        self, target: Target, work: Callable[[Database, int], R], *, writes: bool
    ) -> asyncio.Future[R]:
        pages = self._pages.pop(target.key, None)
        if pages is None:
            return self._worker.submit(lambda db: work(db, self._row(db, target)), target.key, writes=writes)

        def staged_first(db: Database) -> R:
            return work(db, self._stage_pages(db, target, pages))

        return self._worker.submit(staged_first, target.key, writes=True)

    def _stage_pages(self, db: Database, target: Target, pages: Pages) -> int:
        """Stage pages that have waited; give the target's row."""
        row = self._row(db, target)
        staging.stage_pages(db, self._staging_table, row, target.job_types, pages)
        return row

    def _row(self, db: Database, target: Target) -> int:
        """Give a target's row, making it where it is new."""
        if target.key not in self._rows:
            # It need not wait for the disk: the commit that first needs it takes it along.
            self._rows[target.key] = target_id(db, target)
        return self._rows[target.key]


def _nothing(_db: Database, _target: int) -> None:
    """Pages are staged before any work; here there is no other."""
