"""
One poll of one target: read and record the changes, verify the count with the API's own totals, then audit.

A poll may record several times, because only what is recorded can be compared with the API's totals. It
records the changes; the changes again where the count differs, since jobs come and go between two requests;
finished jobs that it found deleted; and a full sync where nothing else explains the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from exporter.errors import PollError
from exporter.model import IN_FLIGHT_STATUSES, Progress, Target, Totals
from exporter.octopus.client import RequestCounter
from exporter.octopus.concurrency import Concurrency
from exporter.sync import planner
from exporter.sync.change_reader import ChangeReader, JobSource, PollRules
from exporter.sync.count_check import CountCheck
from exporter.sync.ledger import Ledger, PollResult, TargetState
from exporter.sync.planner import StatusTotals
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import FILTERS, FilterFailed, FilterName, Filters, ServerFindings

# A difference of the count is checked again so often before it is treated as permanent.
_COUNT_REPEATS = 2
# An audit compares a status that differs so often.
_AUDIT_LOOKS = 3
# An interrupted first sync is not resumed after this: its staged rows are too old then.
_RESUME_WITHIN_MS = 3_600_000


@dataclass(eq=False)
class Poll:
    """
    One poll.

    Shape: `now_ms` is our own clock; `catching_up` if no poll of this process came before, or the last one
    failed; `before` is what the last poll found out about the server; `on_progress` is called while a full
    sync lists. Of the result: `counter` has how many requests it took; `totals` what was recorded last;
    `filters` how the API's filters are sent from now on; `full_sync` why everything was read; `count_error`
    why the count could not be verified.
    Raises from `run` and `audit`: PollError.
    """

    target: Target
    source: JobSource
    ledger: Ledger
    rules: PollRules
    now_ms: Callable[[], int]
    on_progress: Callable[[Progress], None] = lambda _progress: None
    catching_up: bool = False
    before: ServerFindings | None = None
    counter: RequestCounter = field(init=False)
    totals: Totals = field(init=False)
    filters: Filters = field(init=False)
    full_sync: str | None = None
    count_error: PollError | None = None
    _reader: ChangeReader = field(init=False)
    _state: TargetState = field(init=False)
    _result: PollResult = field(init=False)
    _has_begun: bool = False
    _failed_ms: int = 0

    def __post_init__(self) -> None:
        self.counter = RequestCounter(concurrency=Concurrency(self.rules.concurrency))

    @property
    def unlisted_jobs(self) -> int:
        """How many jobs the API's totals count, as far as is known, that it does not list."""
        return self._reader.server.traits.unlisted_jobs

    @property
    def swap_limit_seconds(self) -> float | None:
        """Within which time a change is seen that leaves all totals as they were; None if at once."""
        in_flight = sum(
            jobs for (_, status), jobs in self.totals.jobs.items() if status in IN_FLIGHT_STATUSES
        )
        limit_ms = planner.swap_limit_ms(in_flight, self.rules.schedule, self.rules.page_size)
        return None if limit_ms is None else limit_ms / 1000

    @property
    def findings(self) -> ServerFindings | None:
        """What this poll hands on to the next one."""
        return self._reader.server if self._has_begun else self.before

    @property
    def can_resume(self) -> bool:
        """Tell whether this is an interrupted first sync whose staged rows are recent enough to continue."""
        recent = self.now_ms() - self._failed_ms < _RESUME_WITHIN_MS
        return recent and self._has_begun and self._reader.can_resume

    async def run(self) -> Totals:
        """
        Read what may have changed, or everything, and record it in one transaction; then verify the count.

        Called again after a failure, where it `can_resume`, it continues where it was interrupted.
        """
        try:
            state = await self.ledger.summary(self.target)
            if self._has_begun:
                self.counter.sent = 0
                await self._read_and_record(state, resume=True)
            else:
                self._begin(state)
                await self._read_and_record(state, catching_up=self.catching_up)
            if not self._result.full:
                await self._verify_count_if_possible()
            elif self._result.full_sync is not None:
                await self._note_difference()
        except PollError:
            self._failed_ms = self.now_ms()
            raise
        self._log_changes(state)
        return self.totals

    def _begin(self, state: TargetState) -> None:
        self.filters = state.filters.retried(self.now_ms())
        self._has_begun = True
        server = ServerFindings.after(self.before, state.server)
        self._reader = ChangeReader(
            target=self.target,
            source=self.source,
            ledger=self.ledger,
            rules=self.rules,
            now_ms=self.now_ms,
            server=server,
            clocks=Clocks(max(state.newest_ms, server.latest_row_ms)),
            counter=self.counter,
            on_progress=self.on_progress,
            checks_lengths=planner.audit_is_due(state, self.rules.schedule, self.now_ms()),
        )

    async def _read_and_record(
        self,
        state: TargetState,
        reason: str | None = None,
        *,
        catching_up: bool = False,
        resume: bool = False,
        same_poll: bool = False,
        deleted: tuple[int, ...] = (),
    ) -> None:
        """
        Read until no filter fails, and record that in one transaction.

        Shape: `same_poll` if this poll has recorded before, and nothing was published since; `deleted` are
        finished jobs that were found not to be listed any more.
        """
        self._state, reader = state, self._reader
        while True:
            try:
                if resume:
                    result = await reader.resume()
                else:
                    result = await reader.read(state, self.filters, reason, catching_up=catching_up)
                break
            except FilterFailed as failed:
                # What was staged may lack rows, so everything is asked for again, with the filter sent
                # otherwise.
                self._downgrade_filter(failed.name)
                resume = False
        server = reader.server
        if server.total_is_low and server.total_was_low and self.filters.totals:
            self._downgrade_filter("totals")
        self._result = replace(result, filters=self.filters, same_poll=same_poll, deleted=deleted)
        self.totals = await self.ledger.record(self._result, self.rules.counting)
        if reader.in_flight_ms is not None:
            server.in_flight_ms = reader.in_flight_ms
        self.full_sync = result.full_sync or self.full_sync

    async def _read_again(
        self, reason: str | None = None, *, same_poll: bool = True, deleted: tuple[int, ...] = ()
    ) -> None:
        state = await self.ledger.summary(self.target)
        await self._read_and_record(state, reason, same_poll=same_poll, deleted=deleted)

    def _downgrade_filter(self, name: FilterName) -> None:
        self.filters = self.filters.downgrade_filter(name, self.now_ms())

    # -- the count ---------------------------------------------------------------------------------------

    async def _verify_count_if_possible(self) -> None:
        """Verify the count. The poll is complete and recorded, so it stands where the API does not answer."""
        self.count_error = None
        try:
            try:
                await self._verify_count()
            except FilterFailed as failed:
                self._downgrade_filter(failed.name)
                await self._read_again()
        except PollError as exc:
            self.count_error = exc

    async def _verify_count(self) -> None:
        """
        Make sure that the ledger now lists as many jobs as the API says there are.

        The difference that the last full sync left is expected. Any other one has a cause: a job was created
        or deleted just now, and the difference changes when the changes are read again; a finished job was
        deleted, which is looked for; or else everything is read.
        """
        check, expected = CountCheck(self._reader), self._reader.server.traits.difference
        difference = await check.difference()
        if difference == expected:
            return
        for _ in range(_COUNT_REPEATS):
            await self._read_again()
            if await check.difference() != difference:
                return
        page_size = self.rules.page_size
        deleted = await check.find_deleted(
            expected - difference, planner.full_sync_cost(self._state, page_size)
        )
        if deleted:
            await self._read_again(deleted=deleted)
            if await check.difference() == expected:
                return
        if planner.may_repeat_full_sync(self._state, self.rules.schedule, page_size, self.now_ms()):
            await self._read_again("drift")
            await self._note_difference()

    async def _note_difference(self) -> None:
        """
        Keep by how much the API's total exceeds the ledger although everything was just read.

        It is less than the ledger where a job was deleted meanwhile: that is left to the next poll.
        """
        listed, server = sum(self.totals.jobs.values()), self._reader.server
        if planner.is_small(listed, self.rules.page_size) or not self.filters.can_tell_changes:
            return
        try:
            difference = max(await CountCheck(self._reader).difference(), 0)
        except (PollError, FilterFailed):
            return  # the next poll's count check finds the difference, and reads everything once more
        if difference != server.traits.difference:
            server.traits = replace(server.traits, difference=difference)
            await self.ledger.learnt(self.target, server.traits, self.filters)

    # -- the audit ---------------------------------------------------------------------------------------

    async def audit(self) -> Totals | None:
        """
        Compare the API's own totals with what was just recorded, and give what to publish; None where no
        audit is due.

        A filter that fails here is downgraded for the polls to come.
        """
        # Only a full sync changes whether one is due, so mostly the ledger need not be asked again.
        if not self.full_sync and not planner.audit_is_due(self._state, self.rules.schedule, self.now_ms()):
            return None
        state, now_ms = await self.ledger.summary(self.target), self.now_ms()
        due = planner.audit_is_due(state, self.rules.schedule, now_ms)
        if not due or not self.filters.can_tell_changes:
            return None
        try:
            compared = await self._compare_statuses()
        except FilterFailed as failed:
            self._downgrade_filter(failed.name)
            await self.ledger.learnt(self.target, self._reader.server.traits, self.filters)
            compared = None
        self._log_changes(state)
        if compared is not None:
            audit = planner.evaluate_audit(state.audit, compared, now_ms)
            self.totals = await self.ledger.audited(self.target, audit, self.rules.counting)
        return self.totals

    async def _compare_statuses(self) -> dict[str, StatusTotals] | None:
        """
        Compare the API's totals by status with the ledger; None where it turns out that this cannot be done.

        Jobs change between a reading and its audit. So where a status differs, the changes are read again and
        its total is asked for again, and the least difference counts.
        """
        reader, compared = self._reader, dict[str, StatusTotals]()
        most = self.rules.counting.max_statuses
        statuses: Sequence[str] = planner.audited_statuses(self.totals, reader.horizon_ms, most)
        for look in range(_AUDIT_LOOKS):
            if look:
                # The poll itself was published before its audit, but what the look before recorded was not.
                await self._read_again(same_poll=look > 1)
                if not self.filters.can_tell_changes:
                    return None
            set_apart = await self.ledger.set_apart_by_status(self.target)
            for status in statuses:
                filters = planner.status_filters(self.target, reader.filters, status, reader.horizon_ms)
                total = await reader.total(filters)
                if total is None:
                    return None
                now = StatusTotals(total - set_apart.get(status, 0), self.totals.in_status(status))
                compared[status] = now.nearer(compared.get(status, now))
            statuses = [status for status, one in compared.items() if one.difference]
            if not statuses:
                break
        return planner.exclude_statusless(compared, set_apart.get("", 0))

    def _log_changes(self, before: TargetState) -> None:
        log = structlog.get_logger().bind(project=self.target.project, workspace=self.target.workspace)
        for name in FILTERS:
            was, now = getattr(before.filters, name), getattr(self.filters, name)
            if was != now:
                works = self.filters.works(name)
                event = "filter is honoured again" if works else "filter is not honoured"
                log.warning(event, filter=name, was=was, now=now)
        page_size = self._reader.server.traits.page_size
        if page_size != before.server.page_size:
            log.warning("the server takes smaller pages only", page_size=page_size)
