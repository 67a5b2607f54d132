"""When a target is polled, and what is published of it when polls fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from exporter.counting.rules import CountingRules
from exporter.errors import (
    ApiError,
    ApiTimeout,
    ApiUnavailable,
    ContractError,
    CredentialsRefused,
    LedgerError,
)
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import PollStatus, Progress, Target, TargetSnapshot, Totals
from exporter.octopus.wire import ListQuery
from exporter.sync.ledger import PollResult
from exporter.sync.poll import Poll
from exporter.sync.poller import FirstPolls, next_due
from tests.fake_api import a_job, a_target
from tests.poller_stage import Stage, raise_fault
from tests.snapshots import POLL, TOTALS


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


@pytest.mark.parametrize(
    ("now", "expected"), [(100.0, 110.0), (109.0, 110.0), (110.0, 110.0), (111.0, 120.0), (139.0, 140.0)]
)
def test_a_poll_that_overruns_skips_and_never_piles_up(now: float, expected: float) -> None:
    assert next_due(100.0, now, 10.0) == expected


# -- what each poll leaves ---------------------------------------------------------------------------------


async def test_the_status_goes_on_from_the_poller_before(stage: Stage) -> None:
    poller = stage.poller()
    assert poller.status.began_ms == 1_000_000
    await poller.poll()
    stage.now += 60
    again = stage.poller(status=poller.status)
    await again.poll()
    assert (again.status.began_ms, again.status.polls, again.status.last_poll_ms) == (1_000_000, 2, 1_060_000)


async def test_a_poll_is_published_before_its_audit(stage: Stage) -> None:
    await stage.poller().poll()
    audits = [shown.totals.last_audit_ms for shown in stage.shown if shown.totals]
    assert audits == [None, 1_000_000]


async def test_a_poll_that_changed_nothing_is_published_all_the_same(stage: Stage) -> None:
    poller = stage.poller()
    await poller.poll()
    stage.now += 60
    await poller.poll()
    assert stage.last.totals is not None
    assert stage.last.totals.committed_ms == 1_060_000


async def test_a_poll_is_timed(stage: Stage) -> None:
    poller = stage.poller(timer=lambda: stage.now)

    def take_a_second(query: ListQuery) -> None:
        stage.now += 1

    stage.api.before_page = take_a_second
    await poller.poll()
    assert stage.shown[0].poll.duration_seconds == stage.shown[0].poll.requests > 0


async def test_full_syncs_are_counted_by_their_reason(stage: Stage) -> None:
    poller = stage.poller()
    await poller.poll()
    stage.api.error = ApiUnavailable("down")
    await poller.poll()
    stage.api.error = None
    for _ in range(3):
        await poller.poll()
    assert {reason: n for reason, n in stage.last.poll.full_syncs.items() if n} == {"first": 1, "gap": 1}


async def test_a_full_sync_during_an_audit_is_counted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def audit(poll: Poll) -> Totals:
        poll.full_sync = "filters"
        return poll.totals

    monkeypatch.setattr(Poll, "audit", audit)
    await stage.poller().poll()
    assert {reason: n for reason, n in stage.last.poll.full_syncs.items() if n} == {"first": 1, "filters": 1}


async def test_only_full_syncs_show_their_progress(stage: Stage) -> None:
    class Listener:
        rows = ended = 0

        def on_progress(self, target: Target, progress: Progress) -> None:
            self.rows = progress.rows

        def on_finished(self, target: Target) -> None:
            self.ended += 1

    listener = Listener()
    poller = stage.poller(listener=listener)
    stage.api.put(a_job(1))
    for _ in range(2):
        await poller.poll()
        assert (listener.rows, listener.ended) == (1, 1)


@pytest.mark.parametrize(
    ("error", "resumed"),
    [
        pytest.param(ApiTimeout("no answer"), True, id="no answer"),
        pytest.param(ContractError("gone", status=410), False, id="rows that may be wrong"),
    ],
)
async def test_a_first_sync_is_resumed_unless_its_rows_may_be_wrong(
    stage: Stage, error: ApiError, resumed: bool
) -> None:
    stage.api.put(*(a_job(number, "FINISHED", ended_ms=2_000) for number in range(1, 31)))
    poller = stage.poller()

    def fail(query: ListQuery) -> None:
        if query.offset > 10:
            raise error

    stage.api.before_page = fail
    assert not await poller.poll()
    stage.api.before_page = None
    stage.api.asked.clear()
    assert await poller.poll()
    in_flight_listed = any(len(query.statuses) > 1 for query in stage.api.asked)
    assert in_flight_listed == (not resumed)


async def test_a_poll_of_a_known_target_begins_anew_after_a_failure(stage: Stage) -> None:
    poller = stage.poller()
    await poller.poll()
    stage.api.error = ApiTimeout("no answer")
    await poller.poll()
    stage.api.error = None
    stage.api.asked.clear()
    await poller.poll()
    assert any(len(query.statuses) > 1 for query in stage.api.asked)


async def test_a_target_that_cannot_be_restored_is_polled_all_the_same(stage: Stage) -> None:
    class Broken(SqliteLedger):
        async def restore(self, *_: object) -> Totals:
            raise ZeroDivisionError("in the midst of it")

    stage.ledger = ledger = await Broken.open(None)
    poller = stage.poller()
    with capture_logs() as logged:
        assert await poller.restore() is None
    assert [line["event"].partition(":")[0] for line in logged] == ["target not restored"]
    assert stage.last.totals is None
    assert await poller.poll()
    await ledger.close()


async def test_nothing_is_published_where_nothing_is_held(stage: Stage) -> None:
    poller = stage.poller()
    await poller.release_all()
    assert stage.shown == []
    await poller.poll()
    await poller.release_all()
    stage.shown.clear()
    await poller.release_all()
    assert stage.shown == []


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


async def test_each_poll_is_told_to_the_other_replicas(stage: Stage) -> None:
    told: list[tuple[bool | None, int]] = []

    async def tell(target: Target, status: PollStatus) -> None:
        assert target == a_target()
        # It is published first: what others show is never ahead of its holder.
        assert stage.last.poll == status
        told.append((status.up, status.polls))

    poller = stage.poller(on_polled=tell)
    await poller.poll()
    stage.api.error = ApiTimeout("no answer")
    await poller.poll()
    # The first one again after its audit, which took requests.
    assert told == [(True, 1), (True, 1), (False, 2)]


async def test_a_poller_that_takes_over_goes_on_from_what_is_published(stage: Stage) -> None:
    """The ledger is away for a moment when the lease is taken: no series goes back or disappears."""
    published = replace(TOTALS, revision=7)
    poller = stage.poller(totals=published, status=replace(POLL, polls=41))
    assert await poller.restore() is published
    assert (stage.last.totals, stage.last.poll.polls) == (published, 41)
    # What the ledger has is older than what is published already.
    await stage.poller().poll()
    await poller.restore()
    assert stage.last.totals is published


async def test_a_poller_whose_lease_is_lost_publishes_nothing_any_more(stage: Stage) -> None:
    poller = stage.poller(max_age=0.01)
    await poller.poll()
    stage.now, stage.api.error = 1_000.001, ApiTimeout("no answer")
    await poller.poll()
    poller.retire()
    shown = len(stage.shown)
    await poller.poll()
    await poller.release_all()
    await asyncio.sleep(0.02)  # its gauges would have expired
    assert len(stage.shown) == shown
