"""
Reads all jobs of a target that the API lists, as the first poll of a new target does.

The rows wait in a ledger in memory, whose staged rows are on the disk, until their listing is complete. So
rows that move between pages, wrong totals and filters that do not work are handled as in any poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from exporter.backfill.estimate import Estimator
from exporter.backfill.past import LeftOut, Past
from exporter.backfill.plan import DAY_MS, BackfillPlan, TargetPlan
from exporter.backfill.spool import Spool
from exporter.errors import ApiError, AuthError, BackfillError, ContractError, PermissionRefused, PollError
from exporter.ledger.database import Database
from exporter.ledger.labels import KeptLabels, write_labels
from exporter.ledger.sqlite import SqliteLedger
from exporter.ledger.staging import JOB_COLUMNS
from exporter.model import Job, Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.concurrency import Concurrency
from exporter.sync.change_reader import ChangeReader, JobSource, PollRules
from exporter.sync.ledger import PollResult, TargetState
from exporter.sync.poller import ProgressListener
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import FilterFailed, ServerFindings

# The job of a run that ends in the history may be older than the history. The longest bucket has two days.
_CREATED_BEFORE_MS = 2 * DAY_MS
_ATTEMPTS = 5
_TARGETS_AT_ONCE = 8
_AT_ONCE = 2_000
_AS_JOB = {"workspace_id": "NULL", "named_terminal": "in_flight = 0"}
_JOB = ", ".join(name if name in JOB_COLUMNS else _AS_JOB[name] for name in Job.__struct_fields__)
_ROWS = f"""
    SELECT {_JOB}, failed FROM staged WHERE target = :target AND wanted = 1 AND id > :after
    ORDER BY id LIMIT :most
"""  # noqa: S608 - constants only
_LAG = """
    WITH lags AS (
        SELECT updated_ms - ended_ms AS lag FROM (
            SELECT updated_ms, ended_ms FROM staged
            WHERE target = :target AND wanted = 1 AND in_flight = 0
                AND ended_ms > 0 AND updated_ms >= ended_ms
            ORDER BY id DESC LIMIT 20000
        )
    )
    SELECT lag FROM lags ORDER BY lag LIMIT 1 OFFSET (SELECT count(*) * 9 / 10 FROM lags)
"""


class PastRows(SqliteLedger):
    """The rows of all targets as they are read."""

    async def take_labels(self, plan: TargetPlan) -> None:
        """Use the labels that undocumented job types and statuses have in the live series."""
        kept = KeptLabels(plan.live.job_types, plan.live.statuses)
        await self._on(plan.target, lambda db, row: write_labels(db, row, kept), writes=True)

    async def usual_lag_ms(self, target: Target) -> int:
        """Give the time after the end of a run within which nine of ten rows are written."""
        found = await self._on(target, lambda db, row: db.execute(_LAG, {"target": row}).fetchone())
        return 0 if found is None else int(found[0])

    async def of(self, target: Target) -> AsyncIterator[tuple[Job, bool]]:
        """Give the jobs in the order of their ids, and whether each has failed."""
        after = -1
        while some := await self._on(target, partial(_some_rows, after=after)):
            for *fields, failed in some:
                yield Job(*fields), bool(failed)
            after = some[-1][0]


def _some_rows(db: Database, target: int, *, after: int) -> list[tuple[Any, ...]]:
    return db.execute(_ROWS, {"target": target, "after": after, "most": _AT_ONCE}).fetchall()


@dataclass(slots=True)
class PastReader:
    """
    Reads all targets, some at a time.

    Shape: `now_ms` is our own clock; a target that fails is asked again after `pause_seconds`, a few times.
    """

    rows: PastRows
    rules: PollRules
    now_ms: Callable[[], int]
    pause_seconds: float
    listener: ProgressListener

    async def fill(
        self,
        plan: BackfillPlan,
        source_of: Callable[[Target], JobSource],
        spool: Spool,
        estimator: Estimator,
    ) -> list[LeftOut]:
        """
        Read what happened to all jobs of a plan into the spool; give what is left out, by target.

        Raises: BackfillError.
        """
        places = asyncio.Semaphore(_TARGETS_AT_ONCE)

        async def read(number: int, target_plan: TargetPlan) -> LeftOut:
            target = target_plan.target
            async with places:
                try:
                    result = await self._read(target_plan, source_of(target))
                finally:
                    self.listener.on_finished(target)
                past = Past(target_plan, plan.lookback_ms, await self.rows.usual_lag_ms(target))
                past.left_out.unreadable = len(result.set_apart)
                async for job, failed in self.rows.of(target):
                    moments = tuple(past.moments(job))
                    spool.add(number, job, moments, failed=failed)
                    estimator.add(number, job, moments, failed=failed)
                await self.rows.begin(target)  # they are not needed any more
            return past.left_out

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(number, one)) for number, one in enumerate(plan.targets)]
        return [task.result() for task in tasks]

    async def _read(self, plan: TargetPlan, source: JobSource) -> PollResult:
        """
        Stage all jobs created since two days before the history begins, and all that are in flight.

        Raises: BackfillError, naming the target (the API does not answer, or its listing is never complete).
        """
        lookback_ms = self.now_ms() - plan.from_ms + _CREATED_BEFORE_MS
        # With count_history: else the details of ended jobs would not be staged.
        rules = replace(
            self.rules,
            schedule=replace(self.rules.schedule, lookback_ms=lookback_ms),
            counting=replace(self.rules.counting, count_history=True),
        )
        await self.rows.take_labels(plan)
        findings, reader = ServerFindings(plan.live.server), None
        filters, failed = plan.live.filters, 0
        while True:
            if reader is None:
                reader = self._reader(plan.target, source, rules, findings)
                resumes = False
            try:
                state = TargetState(0, 0, 0, None, frozenset(), 0, (), filters, None)
                return await (reader.resume() if resumes else reader.read(state, filters))
            except FilterFailed as exc:
                filters, resumes = filters.downgrade_filter(exc.name, self.now_ms()), False
            except PollError as exc:
                failed += 1
                where = plan.target.key.text
                if failed == _ATTEMPTS or not isinstance(exc, ApiError) or _is_final(exc):
                    raise BackfillError(f"{where}: {exc}") from exc
                structlog.get_logger().warning("the API is asked again", target=where, error=str(exc))
                resumes = reader.can_resume and not isinstance(exc, ContractError)
                if not resumes:
                    # What two readings in a row have found about the server is believed.
                    findings, reader = ServerFindings.after(reader.server, plan.live.server), None
                await asyncio.sleep(self.pause_seconds)

    def _reader(
        self, target: Target, source: JobSource, rules: PollRules, findings: ServerFindings
    ) -> ChangeReader:
        return ChangeReader(
            target=target,
            source=source,
            ledger=self.rows,
            rules=rules,
            now_ms=self.now_ms,
            server=findings,
            clocks=Clocks(),
            counter=RequestCounter(concurrency=Concurrency(rules.concurrency)),
            on_progress=partial(self.listener.on_progress, target),
            checks_lengths=True,
        )


def _is_final(error: ApiError) -> bool:
    """Tell whether asking again soon would bring the same answer, or lock an account."""
    return isinstance(error, (AuthError, PermissionRefused)) or error.status in (400, 404, 405)
