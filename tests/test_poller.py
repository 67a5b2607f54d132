"""When a target is polled, and what is published of it when polls fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from exporter.counting.rules import CountingRules
from exporter.errors import ApiTimeout, ApiUnavailable, CredentialsRefused, LedgerError
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import PollStatus, Progress, Target, TargetSnapshot, Totals
from exporter.octopus.wire import ListQuery
from exporter.state_log import LINES_AT_ONCE, LINES_PER_HOUR
from exporter.sync.ledger import PollResult
from exporter.sync.poller import FirstPolls, PollTiming, ProgressListener, TargetPoller, next_due
from tests.fake_api import FakeApi, a_job, a_target, poll_rules


class Stage:
    """A poller with a fake API and clock; implements poller.Publications."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi(gives_time=False)
        self.now = 1_000.0
        self.shown: list[TargetSnapshot] = []
        self.on_publish: Callable[[TargetSnapshot], None] = lambda snapshot: None

    def publish(self, snapshot: TargetSnapshot) -> None:
        self.shown.append(snapshot)
        self.on_publish(snapshot)

    def poller(
        self,
        interval: float = 0.01,
        max_age: float = 300.0,
        listener: ProgressListener | None = None,
        status: PollStatus | None = None,
    ) -> TargetPoller:
        return TargetPoller(
            a_target(),
            self.api,
            self.ledger,
            self,
            poll_rules(),
            PollTiming(interval, max_age),
            clock=lambda: self.now,
            listener=listener,
            status=status,
        )

    @property
    def last(self) -> TargetSnapshot:
        return self.shown[-1]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    ledger = await SqliteLedger.open(None)
    yield Stage(ledger)
    await ledger.close()


async def test_a_poll_that_succeeds_is_published(stage: Stage) -> None:
    stage.api.put(a_job(1))
    assert await stage.poller().poll()
    assert stage.last.totals is not None
    assert stage.last.totals.jobs["FRAME_EXTRACT", "QUEUING"] == 1
    poll = stage.last.poll
    assert (poll.up, poll.polls, poll.requests, poll.last_success_ms) == (True, 1, 13, 1_000_000)


async def test_a_poll_that_fails_changes_nothing_but_its_own_metrics(stage: Stage) -> None:
    poller = stage.poller()
    await poller.poll()
    before = stage.last
    stage.now, stage.api.error = 1_060.0, ApiTimeout("no answer")
    stage.api.put(a_job(1))
    assert not await poller.poll()
    assert stage.last.totals is before.totals
    poll = stage.last.poll
    assert (poll.up, poll.polls, poll.last_success_ms) == (False, 2, 1_000_000)
    assert {reason: n for reason, n in poll.failures.items() if n} == {"timeout": 1}
    assert poll.error is not None
    assert (poll.error.reason, poll.error.message, poll.error.since_ms) == ("timeout", "no answer", 1_060_000)


async def test_since_when_it_fails_outlasts_a_change_of_the_reason(stage: Stage) -> None:
    poller = stage.poller()
    stage.api.error = ApiUnavailable("down")
    await poller.poll()
    stage.now, stage.api.error = 1_500.0, CredentialsRefused("wrong password")
    await poller.poll()
    assert stage.last.poll.error is not None
    assert stage.last.poll.error.since_ms == 1_000_000
    stage.api.error = None
    await poller.poll()
    assert stage.last.poll.error is None
    assert stage.last.poll.up


async def test_gauges_of_a_failing_target_are_dropped_after_their_age(stage: Stage) -> None:
    poller = stage.poller(max_age=300)
    await poller.poll()
    stage.api.error = ApiUnavailable("down")
    stage.now += 299
    await poller.poll()
    assert not stage.last.stale
    stage.now += 1
    await poller.poll()
    assert stage.last.stale
    stage.api.error = None
    await poller.poll()
    assert not stage.last.stale


async def test_gauges_are_dropped_in_time_though_no_poll_ends(stage: Stage) -> None:
    poller = stage.poller(max_age=0.05)
    await poller.poll()
    stage.api.error = ApiUnavailable("down")
    await poller.poll()
    assert not stage.last.stale
    dropped = asyncio.Event()
    stage.on_publish = lambda snapshot: dropped.set() if snapshot.stale else None
    stage.now += 0.06
    async with asyncio.timeout(60):
        await dropped.wait()


async def test_what_the_ledger_has_is_published_before_the_first_poll(stage: Stage) -> None:
    stage.api.put(a_job(1))
    await stage.poller().poll()
    before = stage.last.totals
    await stage.poller().restore()
    assert stage.last.totals == before
    assert (stage.last.poll.up, stage.last.poll.last_success_ms) == (None, 1_000_000)


async def test_an_old_ledger_gives_back_counters_but_no_gauges(stage: Stage) -> None:
    await stage.poller().poll()
    stage.now += 301
    await stage.poller(max_age=300).restore()
    assert stage.last.stale


async def test_nothing_is_known_of_a_new_target(stage: Stage) -> None:
    await stage.poller().restore()
    assert (stage.last.totals, stage.last.poll.up) == (None, None)


async def test_polls_repeat_until_stopped(stage: Stage) -> None:
    stop = asyncio.Event()
    stage.on_publish = lambda snapshot: stop.set() if snapshot.poll.polls == 3 else None
    async with asyncio.timeout(60):
        await stage.poller().run(stop, FirstPolls())
    assert stage.last.poll.polls == 3


async def test_a_fault_of_ours_fails_the_poll_and_is_logged_once_with_its_traceback(stage: Stage) -> None:
    poller = stage.poller()
    await poller.poll()
    before = stage.last.totals
    stage.api.before_page = raise_fault
    with capture_logs() as logged:
        for _ in range(3):
            assert not await poller.poll()
    assert stage.last.totals is before
    poll = stage.last.poll
    assert (poll.up, poll.polls, poll.failures["internal"]) == (False, 4, 3)
    assert poll.error is not None
    assert poll.error.reason == "internal"
    assert poll.error.message == (
        "a fault of the exporter, please report it: ZeroDivisionError: in the midst of it"
    )
    told = [line for line in logged if "exc_info" in line]
    assert [(line["log_level"], line["project"], line["workspace"]) for line in told] == [
        ("error", "perception", "0")
    ]
    assert "please report" in told[0]["event"]
    stage.api.before_page = None
    assert await poller.poll()
    stage.api.before_page = raise_fault
    with capture_logs() as logged:
        await poller.poll()
    assert any("exc_info" in line for line in logged)


async def test_a_fault_of_another_kind_is_logged_too(stage: Stage) -> None:
    poller = stage.poller()
    stage.api.before_page = raise_fault
    await poller.poll()
    stage.api.before_page = lambda query: {}[query]
    with capture_logs() as logged:
        await poller.poll()
    assert [type(line["exc_info"]).__name__ for line in logged if "exc_info" in line] == ["KeyError"]


async def test_a_fault_in_an_audit_leaves_the_poll_as_it_is(stage: Stage) -> None:
    poller = stage.poller()
    stage.api.before_page = lambda query: raise_fault(query) if len(query.statuses) == 1 else None
    with capture_logs() as logged:
        assert await poller.poll()
        stage.now += 1
        assert await poller.poll()
    assert stage.last.poll.up
    assert [line["event"].partition(":")[0] for line in logged if "exc_info" in line] == ["audit failed"]


async def test_a_publication_that_fails_does_not_end_the_polling(stage: Stage) -> None:
    stop, polls = asyncio.Event(), 0

    def fail(snapshot: TargetSnapshot) -> None:
        nonlocal polls
        polls = snapshot.poll.polls
        if polls >= 3:
            stop.set()
        raise ZeroDivisionError("in the midst of it")

    stage.on_publish = fail
    with capture_logs() as logged:
        async with asyncio.timeout(60):
            await stage.poller().run(stop, FirstPolls())
    assert polls >= 3
    assert len([line for line in logged if "exc_info" in line]) == 1


async def test_a_display_that_fails_costs_the_poll_and_not_the_process(stage: Stage) -> None:
    class Broken:
        def on_progress(self, target: Target, progress: Progress) -> None:
            raise ZeroDivisionError("in the midst of it")

        def on_finished(self, target: Target) -> None:
            raise ZeroDivisionError("in the midst of it")

    poller = stage.poller(listener=Broken())
    assert not await poller.poll()
    assert stage.last.poll.failures["internal"] == 1
    assert (poller.progress, poller.polling_since_ms) == (None, None)


def raise_fault(_query: ListQuery) -> None:
    raise ZeroDivisionError("in the midst of it")


@pytest.mark.parametrize(
    ("now", "expected"), [(100.0, 110.0), (109.0, 110.0), (110.0, 110.0), (111.0, 120.0), (139.0, 140.0)]
)
def test_a_poll_that_overruns_skips_and_never_piles_up(now: float, expected: float) -> None:
    assert next_due(100.0, now, 10.0) == expected


async def test_a_target_that_is_down_for_a_day_is_logged_at_both_ends_and_every_hour(stage: Stage) -> None:
    poller = stage.poller()
    await poller.poll()
    stage.api.error = ApiUnavailable("down")
    with capture_logs() as lines:
        for _ in range(289):
            await poller.poll()
            stage.now += 300
        stage.api.error = None
        await poller.poll()
    told = [line for line in lines if line["log_level"] != "debug"]
    assert [line.get("state", "begins") for line in told] == ["begins", *["lasts"] * 24, "ends"]
    assert {line["event"] for line in told} == {"poll failed", "polling works again"}
    assert (told[-1]["times"], told[-1]["since"]) == (289, "1970-01-01T00:16:40Z")


async def test_the_first_listing_is_told_once_and_so_is_the_first_poll_on_a_ledger(stage: Stage) -> None:
    poller = stage.poller()
    stage.api.error = ApiUnavailable("down")
    with capture_logs() as lines:
        await poller.poll()
        stage.api.error = None
        for _ in range(3):
            await poller.poll()
        again = stage.poller()
        await again.restore()
        await again.poll()
        # A reload makes a poller that goes on from the status of the one before.
        await stage.poller(status=again.status).poll()
    told = [line["event"].rpartition(" in ")[0] for line in lines if line["event"].startswith("first")]
    jobs = sum(stage.last.totals.jobs.values()) if stage.last.totals else 0
    assert told == [f"first listing: {jobs} jobs", f"first poll, on from the ledger: {jobs} jobs"]


async def test_a_target_that_fails_in_turns_does_not_fill_the_log(stage: Stage) -> None:
    poller = stage.poller()
    errors = (ApiUnavailable("down"), CredentialsRefused("wrong password"), None)
    with capture_logs() as lines:
        for number in range(2_880):
            stage.api.error = errors[number % 3]
            await poller.poll()
            stage.now += 30
    told = [line for line in lines if line["log_level"] != "debug"]
    assert len(told) <= LINES_AT_ONCE + 24 * LINES_PER_HOUR


# -- new series --------------------------------------------------------------------------------------------


def shown_values(stage: Stage) -> list[int]:
    """Give the values that have been published of the runs of FRAME_EXTRACT that failed."""
    published = [snapshot.totals for snapshot in stage.shown if snapshot.totals is not None]
    return [totals.completed["FRAME_EXTRACT", "RUN_FAILED"].value for totals in published]


def fail_job(stage: Stage) -> None:
    at_ms = int(stage.now * 1000)
    times = {"created_ms": at_ms, "started_ms": at_ms, "ended_ms": at_ms, "updated_ms": at_ms}
    stage.api.put(a_job(1, "RUN_FAILED", **times))


async def test_a_release_is_published_though_the_polls_fail_and_the_gauges_are_gone(stage: Stage) -> None:
    poller = stage.poller(max_age=300)
    await poller.poll()
    stage.now += 60
    fail_job(stage)
    await poller.poll()
    stage.api.error = ApiUnavailable("down")
    stage.now += 301
    await poller.poll()
    assert (stage.last.stale, shown_values(stage)[-1]) == (True, 0)
    await poller.release_all()
    assert (stage.last.stale, stage.last.poll.up, shown_values(stage)[-1]) == (True, False, 1)


async def test_a_poll_that_was_recorded_before_a_release_does_not_take_it_back() -> None:
    """Between a poll's record and its publication is the proof, which may wait for the API."""

    class ReleasedMeanwhile(SqliteLedger):
        async def record(self, observation: PollResult, rules: CountingRules) -> Totals:
            totals = await super().record(observation, rules)
            await poller.release_all()
            return totals

    ledger = await ReleasedMeanwhile.open(None)
    stage = Stage(ledger)
    poller = stage.poller()
    await poller.poll()
    stage.now += 60
    fail_job(stage)
    await poller.poll()
    assert shown_values(stage)[-3:] == [0, 1, 1]
    assert stage.last.poll.polls == 2
    await ledger.close()


async def test_a_release_that_fails_changes_nothing(stage: Stage) -> None:
    class Refusing(SqliteLedger):
        async def release(self, *_: object) -> Totals:
            raise LedgerError("locked")

    stage.ledger = ledger = await Refusing.open(None)
    poller = stage.poller()
    await poller.poll()
    before = stage.last
    with pytest.raises(LedgerError):
        await poller.release_all()
    assert stage.last is before
    await ledger.close()
