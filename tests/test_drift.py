"""A difference between the API's totals and the ledger: shown if it is there, told if it lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from exporter.errors import ApiTimeout
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import TargetSnapshot, Totals
from exporter.octopus.wire import ListQuery
from exporter.sync.poller import PollTiming, TargetPoller
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.held import release_held

AUDIT_SECONDS = 600


@dataclass
class Stage:
    """A poller of a fake API; implements poller.Publications."""

    ledger: SqliteLedger
    api: FakeApi = field(default_factory=lambda: FakeApi(gives_time=False))
    now: float = 1_000.0
    shown: list[TargetSnapshot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.poller = TargetPoller(
            a_target(),
            self.api,
            self.ledger,
            self,
            poll_rules(100),
            PollTiming(30, 300),
            clock=lambda: self.now,
        )

    def publish(self, snapshot: TargetSnapshot) -> None:
        self.shown.append(snapshot)

    async def audit(self) -> Totals:
        """Poll when the next audit is due."""
        self.now += AUDIT_SECONDS
        self.api.asked.clear()
        await release_held(self.ledger, self.poller.target)
        assert await self.poller.poll()
        totals = self.shown[-1].totals
        assert totals is not None
        return totals

    @property
    def drift(self) -> dict[str, int]:
        totals = self.shown[-1].totals
        assert totals is not None
        return {status: jobs for status, jobs in totals.drift.items() if jobs}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    ledger = await SqliteLedger.open(None)
    yield Stage(ledger)
    await ledger.close()


def is_audit(query: ListQuery, *statuses: str) -> bool:
    return query.limit == 1 and (query.statuses in [(status,) for status in statuses])


class Mover:
    """Moves a job on at the first audit's questions: it has started by the time that RUNNING is asked for."""

    def __init__(self, api: FakeApi, moves: int) -> None:
        self.api = api
        self.moves = moves

    def __call__(self, query: ListQuery) -> None:
        if self.moves and is_audit(query, "RUNNING"):
            job = next(job for job in self.api.jobs.values() if job.status == "QUEUING")
            updated_ms = job.updated_ms + 1
            self.api.put(replace(job, status="RUNNING", started_ms=updated_ms, updated_ms=updated_ms))
            self.moves -= 1


@pytest.mark.parametrize("moves", [1, 2])
async def test_jobs_that_change_between_a_poll_and_its_audit_are_no_drift(stage: Stage, moves: int) -> None:
    stage.api.put(*(a_job(number) for number in range(1, 6)))
    stage.api.before_page = Mover(stage.api, moves)
    totals = await stage.audit()
    assert stage.drift == {}
    assert not totals.drift_lasts
    assert totals.in_status("RUNNING") == moves


async def test_a_difference_that_two_audits_show_lasts_and_one_alone_does_not(stage: Stage) -> None:
    stage.api.put(*(a_job(number) for number in range(1, 6)))
    surplus = 0

    def one_more(query: ListQuery) -> None:
        counted = is_audit(query, "FINISHED")
        stage.api.total_of = lambda total, _rows: total + surplus * counted

    stage.api.before_page = one_more
    await stage.audit()
    surplus = 1
    first = await stage.audit()
    assert (stage.drift, first.drift_lasts) == ({"FINISHED": 1}, False)
    second = await stage.audit()
    assert (stage.drift, second.drift_lasts) == ({"FINISHED": 1}, True)
    surplus = 0
    third = await stage.audit()
    assert (stage.drift, third.drift_lasts) == ({}, False)


async def test_what_lasts_is_known_after_a_restart(stage: Stage) -> None:
    stage.api.put(a_job(1))
    stage.api.before_page = lambda query: setattr(
        stage.api, "total_of", lambda total, _rows: total + is_audit(query, "FINISHED")
    )
    await stage.audit()
    await stage.audit()
    again = Stage(stage.ledger, stage.api)
    await again.poller.restore()
    assert again.shown[-1].totals is not None
    assert again.shown[-1].totals.drift_lasts


async def test_what_an_audit_reads_once_more_is_published_although_the_audit_fails(stage: Stage) -> None:
    stage.api.put(*(a_job(number) for number in range(1, 6)))
    mover = Mover(stage.api, 1)

    def fails_at_the_second_look(query: ListQuery) -> None:
        if len([asked for asked in stage.api.asked if is_audit(asked, "RUNNING")]) > 1:
            raise ApiTimeout("no answer")
        mover(query)

    stage.api.before_page = fails_at_the_second_look
    totals = await stage.audit()
    assert totals.in_status("RUNNING") == 1
    assert totals.last_audit_ms is None


async def test_a_run_that_an_audit_finds_ended_is_shown_at_none_before_it_is_counted(stage: Stage) -> None:
    """Else increase() would not see it: a series begins at 0."""
    stage.api.put(*(a_job(number) for number in range(1, 6)))
    await stage.audit()
    failed = a_job(1, "RUN_FAILED", started_ms=2_000, ended_ms=3_000, updated_ms=3_000, msg_code="3101")

    def fails_before(query: ListQuery) -> None:
        if is_audit(query, "QUEUING"):
            stage.api.put(failed)

    stage.api.before_page = fails_before
    series = ("FRAME_EXTRACT", "RUN_FAILED", "3101")
    totals = await stage.audit()
    assert totals.in_status("RUN_FAILED") == 1
    values = [
        shown.totals.failures[series].value
        for shown in stage.shown
        if shown.totals and series in shown.totals.failures
    ]
    assert values == [0]
    await stage.poller.release_all()
    assert stage.shown[-1].totals is not None
    assert stage.shown[-1].totals.failures[series].value == 1
