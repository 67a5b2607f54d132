"""One poll of one target: read, record, and make sure with the API's own totals; then audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from exporter.errors import PollError
from exporter.model import Progress, Target, Totals
from exporter.octopus.client import RequestCounter
from exporter.sync.change_reader import ChangeReader, JobSource, PollRules
from exporter.sync.count_check import CountCheck
from exporter.sync.filters import FILTERS, FilterFailed, FilterName, Filters
from exporter.sync.ledger import Ledger, PollResult, TargetState
from exporter.sync.planner import (
    StatusTotals,
    audit_is_due,
    audited_statuses,
    evaluate_audit,
    exclude_statusless,
    full_sync_cost,
    is_small,
    may_repeat_full_sync,
    status_filters,
)
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import ServerFindings

# The count is checked so often before its difference is taken for one that stays.
_PROOFS = 2
# And so often an audit looks at a status that differs.
_LOOKS = 3
_WORTH_GOING_ON_MS = 3_600_000


def _unseen(progress: Progress) -> None:
    """Show it to nobody."""


class Poll:
    """
    One poll. `counter` has what it cost; `full_sync` why it read everything, once that is recorded.

    Shape: `now_ms` is our own clock; `catching_up` if no poll of this process came before, or the last one
    failed; `before` is what the poll before found and left to this one; `on_progress` is told while a full
    sync lists.
    Raises from `run` and `audit`: PollError, and then nothing has been recorded.
    """

    def __init__(
        self,
        target: Target,
        source: JobSource,
        ledger: Ledger,
        rules: PollRules,
        now_ms: Callable[[], int],
        *,
        on_progress: Callable[[Progress], None] = _unseen,
        catching_up: bool = False,
        before: ServerFindings | None = None,
    ) -> None:
        self.target = target
        self.counter = RequestCounter()
        self.full_sync: str | None = None
        self._source = source
        self._ledger = ledger
        self._rules = rules
        self._now_ms = now_ms
        self._on_progress = on_progress
        self._catching_up = catching_up
        self._before = before or ServerFindings()
        self._reading: ChangeReader | None = None
        self._totals: Totals
        self._followed_up = False
        self._deleted: tuple[int, ...] = ()
        self._goes_on = False
        self._broke_ms = 0
        # Why the last proof could not be made.
        self.not_proved: PollError | None = None

    @property
    def totals(self) -> Totals:
        """What was recorded last, once `run` has ended well."""
        return self._totals

    @property
    def filters(self) -> Filters:
        """What of the API's filters works, as far as this poll has found out."""
        return self._current.filters

    @property
    def unlisted_jobs(self) -> int:
        """How many jobs the API's totals count, as far as is known, that it does not list."""
        return self._current.traits.unlisted_jobs

    @property
    def findings(self) -> ServerFindings:
        """What this poll leaves to the next one."""
        if self._reading is None:
            return self._before
        return replace(self._reading.findings, traits=self._reading.traits)

    @property
    def can_go_on(self) -> bool:
        """
        Tell whether this poll is a first sync that broke off, and is worth going on with.

        Its rows are still staged. After an hour they are too old to build on.
        """
        recent = self._now_ms() - self._broke_ms < _WORTH_GOING_ON_MS
        return self._reading is not None and self._reading.can_go_on and recent

    async def run(self) -> Totals:
        """
        Read what may have changed, or everything, then record it in one transaction.

        Called again after a failure, where it `can_go_on`, it goes on where it stood.
        """
        try:
            if self._reading is None:
                await self._begin()
            else:
                self._goes_on = True
                self.counter.sent = 0
            before = (await self._ledger.summary(self.target)) if self._goes_on else self._current.summary
            await self._read_and_record()
            if not self._current.everything:
                await self._prove_if_possible()
            elif self._current.full_sync is not None:
                await self._note_difference()
        except PollError:
            self._broke_ms = self._now_ms()
            raise
        self._say_what_changed(before)
        return self._totals

    async def _begin(self) -> None:
        summary = await self._ledger.summary(self.target)
        self._reading = ChangeReader(
            target=self.target,
            source=self._source,
            ledger=self._ledger,
            rules=self._rules,
            now_ms=self._now_ms,
            summary=summary,
            filters=summary.filters.tried_again(self._now_ms()),
            traits=self._before.traits or summary.server,
            before=self._before,
            on_progress=self._on_progress,
            catching_up=self._catching_up,
            counter=self.counter,
            checks_lengths=audit_is_due(summary, self._rules.schedule, self._now_ms()),
            clocks=Clocks(summary.newest_ms),
        )

    @property
    def _current(self) -> ChangeReader:
        if self._reading is None:
            raise RuntimeError("the poll has not begun")
        return self._reading

    async def _read_and_record(self, reason: str | None = None) -> None:
        while True:
            try:
                await (self._current.go_on() if self._goes_on else self._current.read(reason))
                self._decide_on_totals()
                break
            except FilterFailed as failed:
                self._give_up(failed.name)
            finally:
                self._goes_on = False
        self._totals = await self._ledger.record(self._observation(), self._rules.counting)
        self.full_sync = self._current.full_sync or self.full_sync

    def _decide_on_totals(self) -> None:
        """Give up totals that two polls running have found to be too low, or missing."""
        if self._current.findings.total_is_low and self._before.total_is_low and self.filters.totals:
            self._give_up("totals")

    def _give_up(self, name: FilterName) -> None:
        self._current.filters = self._current.filters.without(name, self._now_ms())

    def _observation(self) -> PollResult:
        reading, now_ms = self._current, self._now_ms()
        return PollResult(
            target=self.target,
            began_ms=reading.clocks.began_ms(now_ms),
            clock_ms=reading.clocks.now_ms(now_ms),
            lead_ms=reading.clocks.lead_ms,
            now_ms=now_ms,
            horizon_ms=reading.horizon_ms,
            full=reading.everything,
            full_sync=reading.full_sync is not None,
            filters=reading.filters,
            followed_up=self._followed_up,
            server=reading.traits,
            set_apart=reading.unreadable.all,
            deleted=self._deleted,
            undocumented_from_ms=reading.undocumented_from_ms,
        )

    # -- the proof ---------------------------------------------------------------------------------------

    async def _prove_if_possible(self) -> None:
        """Prove the poll. It is complete and recorded, so it stands where the API will not help with that."""
        self.not_proved = None
        try:
            try:
                await self._prove()
            except FilterFailed as failed:
                self._give_up(failed.name)
                await self._read_again()
        except PollError as exc:
            self.not_proved = exc

    async def _prove(self) -> None:
        """
        Make sure that the ledger now lists as many jobs as the API says there are.

        A job that went just now makes a difference that is gone, or another, when the changes are read once
        more. One that stays is a change that no question about changes shows, such as a finished job that was
        deleted: that is looked for, and where it is not found everything is read. A difference that the last
        full sync left is no reason for another.
        """
        proof = CountCheck(self._current, self._ledger)
        difference = await proof.difference()
        for _ in range(_PROOFS):
            if difference == self._current.traits.difference:
                return
            await self._read_again()
            if await proof.difference() != difference:
                return
        if await self._unlist_deleted(proof, self._current.traits.difference - difference):
            return
        schedule, page_size = self._rules.schedule, self._rules.page_size
        if may_repeat_full_sync(self._current.summary, schedule, page_size, self._now_ms()):
            await self._read_again("drift")
            await self._note_difference()

    async def _unlist_deleted(self, proof: CountCheck, missing: int) -> bool:
        """Look for finished jobs that were deleted, and tell whether that explains the difference."""
        page_size = self._rules.page_size
        deleted = await proof.find_deleted(missing, full_sync_cost(self._current.summary, page_size))
        if not deleted:
            return False
        self._deleted = deleted
        await self._read_again()
        self._deleted = ()
        return await proof.difference() == self._current.traits.difference

    async def _note_difference(self) -> None:
        """
        Keep by how much the API's total exceeds the ledger although everything was just read.

        Less than the ledger it is where a job was deleted meanwhile: that is for the next poll to find.
        """
        listed = sum(self._totals.jobs.values())
        if is_small(listed, self._rules.page_size) or not self.filters.can_tell_changes:
            return
        try:
            difference = max(await CountCheck(self._current, self._ledger).difference(), 0)
        except (PollError, FilterFailed):
            return  # the next poll's proof finds it, and reads everything once more
        if difference != self._current.traits.difference:
            self._current.traits = replace(self._current.traits, difference=difference)
            await self._ledger.learnt(self.target, self._current.traits, self._current.filters)

    async def _read_again(self, reason: str | None = None, *, published: bool = False) -> None:
        """Read once more; `published` if what was recorded last has been published since."""
        self._current.summary = await self._ledger.summary(self.target)
        self._current.catching_up = False
        self._followed_up = not published
        await self._read_and_record(reason)

    # -- the audit ---------------------------------------------------------------------------------------

    async def audit(self) -> Totals | None:
        """
        Compare the API's own totals with what was just recorded, and give what to publish; None where no
        audit is due.

        A filter that fails here is given up as elsewhere, for the polls to come.
        """
        summary, now_ms = await self._ledger.summary(self.target), self._now_ms()
        due = audit_is_due(summary, self._rules.schedule, now_ms)
        if not due or not self.filters.can_tell_changes:
            return None
        try:
            statuses = audited_statuses(
                self._totals, self._current.horizon_ms, self._rules.counting.max_statuses
            )
            compared = await self._compare(statuses)
        except FilterFailed as failed:
            self._give_up(failed.name)
            await self._ledger.learnt(self.target, self._current.traits, self.filters)
            compared = None
        self._say_what_changed(summary)
        if compared is not None:
            result = evaluate_audit(summary.audit, compared, now_ms)
            self._totals = await self._ledger.audited(self.target, result, self._rules.counting)
        return self._totals

    async def _compare(self, statuses: Sequence[str]) -> dict[str, StatusTotals] | None:
        """
        Compare the API's totals by status with the ledger; None where it turns out that this cannot be done.

        Jobs change between a reading and its audit. Where something differs, the changes are read once more
        and those totals asked for again, and the least difference counts.
        """
        compared: dict[str, StatusTotals] = {}
        for look in range(_LOOKS):
            if look:
                await self._read_again(published=look == 1)
                if not self.filters.can_tell_changes:
                    return None
            totals = await self._totals_by_status(statuses)
            if totals is None:
                return None
            for status, total in totals.items():
                now = StatusTotals(total, self._totals.in_status(status))
                compared[status] = now.nearer(compared.get(status, now))
            statuses = [status for status, one in compared.items() if one.difference]
            if not statuses:
                break
        set_apart = await self._ledger.set_apart_by_status(self.target)
        return exclude_statusless(compared, set_apart.get("", 0))

    async def _totals_by_status(self, statuses: Iterable[str]) -> dict[str, int] | None:
        """Ask for the API's totals, less the rows set apart; None where it does not give them all."""
        reading, totals = self._current, {}
        set_apart = await self._ledger.set_apart_by_status(self.target)
        for status in statuses:
            listings = status_filters(self.target, reading.filters, status, reading.horizon_ms)
            total = await reading.sum(listings)
            if total is None:
                return None
            totals[status] = total - set_apart.get(status, 0)
        return totals

    def _say_what_changed(self, before: TargetState) -> None:
        log = structlog.get_logger().bind(project=self.target.project, workspace=self.target.workspace)
        for name in FILTERS:
            was, now = getattr(before.filters, name), getattr(self.filters, name)
            if was != now:
                works = self.filters.works(name)
                event = "filter is honoured again" if works else "filter is not honoured"
                log.warning(event, filter=name, was=was, now=now)
        page_size = self._current.traits.page_size
        if page_size != before.server.page_size:
            log.warning("the server takes smaller pages only", page_size=page_size)
