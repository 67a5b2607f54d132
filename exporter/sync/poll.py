"""One poll of one target: read, record, and make sure with the API's own totals; then audit."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from exporter.errors import PollError
from exporter.ledger.protocol import Ledger, Observation, Summary
from exporter.model import Progress, Target, Totals
from exporter.octopus.client import RequestCounter
from exporter.sync.filters import FILTERS, FilterFailed, Filters
from exporter.sync.planner import (
    audit_is_due,
    audited_statuses,
    judge,
    may_sync_again,
    status_listings,
    surplus,
    window_listings,
)
from exporter.sync.reading import PageSource, PollRules, Reading

# How often a difference has to come out the same before it is one that stays.
_PROOFS = 2


def _unseen(progress: Progress) -> None:
    """Show it to nobody."""


class Poll:
    """
    One poll; what it cost is in `counter`, why it read everything, if it did, in `full_sync`.

    Shape: `now_ms` is our own clock; `catching_up` if no poll of this process came before, or the last one
    failed; `on_progress` is told while a full sync lists.
    Raises from `run` and `audit`: PollError, and then nothing has been recorded.
    """

    def __init__(
        self,
        target: Target,
        source: PageSource,
        ledger: Ledger,
        rules: PollRules,
        now_ms: Callable[[], int],
        *,
        on_progress: Callable[[Progress], None] = _unseen,
        catching_up: bool = False,
    ) -> None:
        self.target = target
        self.counter = RequestCounter()
        self._source = source
        self._ledger = ledger
        self._rules = rules
        self._now_ms = now_ms
        self._on_progress = on_progress
        self._catching_up = catching_up
        self._reading: Reading
        self._totals: Totals
        self._followed_up = False

    @property
    def full_sync(self) -> str | None:
        return self._reading.full_sync

    @property
    def filters(self) -> Filters:
        """What of the API's filters works, as far as this poll has found out."""
        return self._reading.filters

    async def run(self) -> Totals:
        """Read what may have changed, or everything, then record it in one transaction."""
        summary = await self._ledger.summary(self.target)
        before = summary.filters
        self._reading = self._begin(summary, before.tried_again(self._now_ms()))
        await self._read_and_record()
        if not self._reading.everything:
            await self._prove_if_possible()
        self._say_what_is_given_up(before)
        return self._totals

    def _begin(self, summary: Summary, filters: Filters) -> Reading:
        return Reading(
            target=self.target,
            source=self._source,
            ledger=self._ledger,
            rules=self._rules,
            now_ms=self._now_ms,
            summary=summary,
            filters=filters,
            on_progress=self._on_progress,
            catching_up=self._catching_up,
            counter=self.counter,
        )

    async def _read_and_record(self, reason: str | None = None) -> None:
        while True:
            try:
                await self._reading.read(reason)
                break
            except FilterFailed as failed:
                self._give_up(failed)
        self._totals = await self._ledger.record(self._observation(), self._rules.counting)

    def _give_up(self, failed: FilterFailed) -> None:
        self._reading.filters = self._reading.filters.without(failed.name, self._now_ms())

    def _observation(self) -> Observation:
        reading, now_ms = self._reading, self._now_ms()
        return Observation(
            target=self.target,
            began_ms=reading.server.began_ms(now_ms),
            server_now_ms=reading.server.now_ms(now_ms),
            now_ms=now_ms,
            horizon_ms=reading.horizon_ms,
            full=reading.everything,
            filters=reading.filters,
            followed_up=self._followed_up,
        )

    # -- the proof ---------------------------------------------------------------------------------------

    async def _prove_if_possible(self) -> None:
        """Prove the poll. It is complete and recorded, so it stands where the API will not help with that."""
        try:
            try:
                await self._prove()
            except FilterFailed as failed:
                self._give_up(failed)
                await self._read_again()
        except PollError as exc:
            structlog.get_logger().warning(
                "poll not proved",
                project=self.target.project,
                workspace=self.target.workspace,
                reason=exc.reason,
                error=str(exc),
            )

    async def _prove(self) -> None:
        """
        Make sure that the ledger now lists as many jobs as the API says there are.

        A job that went just now makes a difference that is gone, or another, when the changes are read once
        more. One that stays is a change that no question about changes shows, such as a finished job that was
        deleted: then everything is read.
        """
        difference = await self._difference()
        for _ in range(_PROOFS):
            if difference == 0:
                return
            await self._read_again()
            if await self._difference() != difference:
                return
        schedule, page_size = self._rules.schedule, self._rules.page_size
        if may_sync_again(self._reading.summary, schedule, page_size, self._now_ms()):
            await self._read_again("drift")

    async def _difference(self) -> int:
        """
        Give how many jobs the API lists more than the ledger, of those created before the poll began.

        Those created since are the next poll's; they are set apart only where there is a difference.
        """
        whole = await self._surplus_of_all()
        if whole == 0:
            return 0
        recent = await self._surplus_of_recent()
        return surplus(whole, recent, await self._surplus_of_all())

    async def _surplus_of_all(self) -> int:
        horizon_ms = self._reading.horizon_ms
        return await self._total_since(horizon_ms) - await self._ledger.listed_since(self.target, horizon_ms)

    async def _surplus_of_recent(self) -> int:
        began_ms = self._reading.server.began_ms(self._now_ms())
        return await self._total_since(began_ms) - await self._ledger.listed_lately(self.target, began_ms)

    async def _total_since(self, start_ms: int | None) -> int:
        reading = self._reading
        return await reading.sum(window_listings(self.target, reading.filters, start_ms)) or 0

    async def _read_again(self, reason: str | None = None) -> None:
        self._reading.summary = await self._ledger.summary(self.target)
        self._reading.catching_up = False
        self._followed_up = True
        await self._read_and_record(reason)

    # -- the audit ---------------------------------------------------------------------------------------

    async def audit(self) -> Totals | None:
        """Compare the API's own totals with what was just recorded, where that is due; else None."""
        summary, now_ms = await self._ledger.summary(self.target), self._now_ms()
        due = audit_is_due(summary, self._rules.schedule, now_ms)
        if not due or not self._reading.filters.can_tell_changes:
            return None
        totals = {}
        for status in audited_statuses(summary.invented):
            total = await self._listed(status)
            if total is None:
                return None
            totals[status] = total
        ledger = {status: self._totals.in_status(status) for status in totals}
        result = judge(summary.audit, totals, ledger, now_ms)
        return await self._ledger.audited(self.target, result, self._rules.counting)

    async def _listed(self, status: str) -> int | None:
        reading = self._reading
        return await reading.sum(status_listings(self.target, reading.filters, status, reading.horizon_ms))

    def _say_what_is_given_up(self, before: Filters) -> None:
        filters = self._reading.filters
        for name in FILTERS:
            was, now = getattr(before, name), getattr(filters, name)
            if was != now:
                structlog.get_logger().warning(
                    "filter is honoured again" if filters.works(name) else "filter is not honoured",
                    project=self.target.project,
                    workspace=self.target.workspace,
                    filter=name,
                    was=was,
                    now=now,
                )
