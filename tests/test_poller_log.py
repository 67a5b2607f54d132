"""What a poller logs: the beginning of a trouble, its end, and little in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from exporter.errors import ApiTimeout, ApiUnavailable, CredentialsRefused
from exporter.ledger.sqlite import SqliteLedger
from exporter.octopus.wire import ListQuery
from exporter.state_log import LINES_AT_ONCE, LINES_PER_HOUR
from exporter.sync.poll import Poll
from exporter.sync.poller import TargetPoller
from tests.fake_api import a_job
from tests.poller_stage import Stage, raise_fault


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    ledger = await SqliteLedger.open(None)
    yield Stage(ledger)
    await ledger.close()


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
        for number in range(288):
            stage.api.error = errors[number % 3]
            await poller.poll()
            stage.now += 300
    told = [line for line in lines if line["log_level"] != "debug"]
    assert len(told) <= LINES_AT_ONCE + 24 * LINES_PER_HOUR


# -- what is told of a poll that succeeds ------------------------------------------------------------------


class Trouble:
    """Polls with a trouble and without, and keeps what is logged at each of them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.poller = stage.poller(timer=lambda: stage.now)

    async def poll(self) -> list[dict[str, Any]]:
        """Poll, an audit's interval later, and give the lines but for the first poll's own."""
        self.stage.now += 600
        with capture_logs() as lines:
            assert await self.poller.poll()
        return [
            line for line in lines if line["log_level"] != "debug" and not line["event"].startswith("first")
        ]

    async def begins(self) -> dict[str, Any]:
        """Poll twice; the first poll tells it."""
        (line,) = await self.poll()
        assert await self.poll() == []
        return line

    async def ends(self) -> str:
        (line,) = await self.poll()
        assert await self.poll() == []
        return str(line["event"])


@pytest.fixture
def trouble(stage: Stage) -> Trouble:
    return Trouble(stage)


async def test_the_first_listing_is_told_with_its_jobs_and_seconds(stage: Stage) -> None:
    def take_a_second(query: ListQuery) -> None:
        stage.now += 1

    stage.api.put(a_job(1))
    stage.api.before_page = take_a_second
    poller = stage.poller(timer=lambda: stage.now)
    with capture_logs() as lines:
        await poller.poll()
    requests = stage.shown[0].poll.requests
    assert [line["event"] for line in lines] == [f"first listing: 1 jobs in {requests}.0 s"]


async def test_an_audit_that_fails_is_told_until_it_works(stage: Stage, trouble: Trouble) -> None:
    def fail(query: ListQuery) -> None:
        if query.limit == 1 and query.statuses:
            raise ApiTimeout("no answer")

    stage.api.before_page = fail
    line = await trouble.begins()
    assert (line["event"], line["error"]) == ("audit failed", "no answer")
    stage.api.before_page = None
    assert await trouble.ends() == "audits work again"


@pytest.mark.parametrize("at", ["audit", "publication"])
async def test_a_fault_that_comes_back_is_told_again(stage: Stage, trouble: Trouble, at: str) -> None:
    def in_audit(query: ListQuery) -> None:
        if query.limit == 1 and query.statuses:
            raise_fault(query)

    for _ in range(2):
        if at == "audit":
            stage.api.before_page = in_audit
        else:
            stage.on_publish = raise_fault
        assert "exc_info" in await trouble.begins()
        stage.api.before_page, stage.on_publish = None, lambda _snapshot: None
        assert await trouble.poll() == []


async def test_a_count_that_is_not_answered_is_told_until_it_is(stage: Stage, trouble: Trouble) -> None:
    def fail(query: ListQuery) -> None:
        if query.limit == 1 and not query.statuses:
            raise ApiTimeout("no answer")

    stage.api.put(*(a_job(number) for number in range(1, 31)))
    assert await trouble.poll() == []
    stage.api.before_page = fail
    line = await trouble.begins()
    assert (line["event"], line["reason"], line["error"]) == ("poll not proved", "timeout", "no answer")
    stage.api.before_page = None
    assert await trouble.ends() == "polls are proved again"


async def test_rows_that_cannot_be_read_are_told_until_they_can_be(stage: Stage, trouble: Trouble) -> None:
    stage.api.put(*(a_job(number) for number in range(1, 9)))
    stage.api.odd, stage.api.nameless = frozenset({3}), frozenset({4})
    line = await trouble.begins()
    assert line["event"] == "rows cannot be read and are set apart"
    assert (line["rows"], sorted(line["job_ids"]), line["problem"]) == (
        *(2, ["3", "none"]),
        "job_type: expected a text",
    )
    stage.api.odd = stage.api.nameless = frozenset()
    assert await trouble.ends() == "all rows can be read again"


async def test_one_row_that_cannot_be_read_is_told(stage: Stage, trouble: Trouble) -> None:
    stage.api.put(a_job(1), a_job(2))
    stage.api.odd = frozenset({2})
    assert (await trouble.begins())["job_ids"] == ["2"]


async def test_a_spec_that_cannot_be_read_is_named_once_also_after_a_restart(stage: Stage) -> None:
    async def named(poller: TargetPoller) -> list[str]:
        with capture_logs() as lines:
            for _ in range(2):
                assert await poller.poll()
        warned = [line for line in lines if line["event"].startswith("resource spec cannot be read")]
        assert {(line["log_level"], line["project"], line["workspace"]) for line in warned} <= {
            ("warning", poller.target.project, poller.target.workspace)
        }
        assert all("P100_1Gpu_2.1Core_4.1GiB" in line["expected"] for line in warned)
        return [line["resource_spec"] for line in warned]

    poller = stage.poller()
    stage.api.put(a_job(1, resource_spec="2Core_4GiB"), a_job(2, resource_spec=""), a_job(3))
    assert await named(poller) == []
    stage.api.put(a_job(4, resource_spec="2Core_4MiB"), a_job(5, resource_spec="2Core_4MiB"))
    assert await named(poller) == ["2Core_4MiB"]
    again = stage.poller()
    await again.restore()
    assert await named(again) == []
    # A replica that takes the target over, or a reload, goes on from what is published.
    taken_over = stage.poller(totals=stage.last.totals)
    stage.api.put(a_job(6, resource_spec="1Tpu"))
    assert await named(taken_over) == ["1Tpu"]


async def test_jobs_that_the_api_does_not_list_are_told_until_it_does(
    stage: Stage, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlisted = 3
    monkeypatch.setattr(Poll, "unlisted_jobs", property(lambda _poll: unlisted))
    line = await trouble.begins()
    assert (line["event"], line["jobs"]) == ("the API's total counts jobs that it does not list", 3)
    unlisted = 0
    assert await trouble.ends() == "the API's total is that of its rows again"
