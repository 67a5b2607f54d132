"""A wrong clock, ours or the server's, hides no job and makes no news of the past."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Totals
from exporter.octopus.wire import ListQuery
from exporter.sync.poll import Poll
from exporter.sync.server_traits import ServerFindings
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.held import release_held

TYPE = "FRAME_EXTRACT"
FAILED = (TYPE, "RUN_FAILED")
NOW_MS = 1_772_434_800_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
YEAR_9999_MS = 253_402_300_000_000
LOOKBACK_MS = 30 * DAY_MS


class Scene:
    """
    Sixty jobs, one of which ended in each of the last 60 hours.

    Shape: `ours_ms` is the error of our clock; `full_syncs` tells of each poll why it read everything.
    """

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi(now_ms=NOW_MS)
        self.ours_ms = 0
        self.next_id = 1
        self.full_syncs: list[str | None] = []
        self.findings: ServerFindings | None = None
        for hours in range(60, 0, -1):
            self.fail_now(NOW_MS - hours * HOUR_MS)

    def fail_now(self, end_ms: int | None = None, **fields: object) -> None:
        """Let a run of 30 s be over by now."""
        end = self.api.now_ms if end_ms is None else end_ms
        times = {"created_ms": end - 35_000, "started_ms": end - 30_000, "ended_ms": end, "updated_ms": end}
        self.api.put(a_job(self.next_id, "RUN_FAILED", **(times | fields)))
        self.next_id += 1

    async def poll(self, after_ms: int = 30_000) -> Totals:
        self.api.now_ms += after_ms
        rules = poll_rules(20, LOOKBACK_MS)
        await release_held(self.ledger, a_target())
        poll = Poll(a_target(), self.api, self.ledger, rules, self.our_now_ms, before=self.findings)
        totals = await poll.run()
        self.findings = poll.findings
        self.full_syncs.append(poll.full_sync)
        return totals

    def our_now_ms(self) -> int:
        return self.api.now_ms + self.ours_ms

    async def fail_hourly(self, hours: int) -> Totals:
        """Let a run fail in each of some hours, and poll every ten minutes."""
        for _ in range(hours):
            self.api.now_ms += 2_000  # a clock that is far off is known to the second
            self.fail_now()
            for _ in range(6):
                totals = await self.poll(10 * MINUTE_MS)
        return totals


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    ledger = await SqliteLedger.open(None)
    yield Scene(ledger)
    await ledger.close()


ERRORS = {
    "right": (0, 0),
    "the server 8 h ahead": (8 * HOUR_MS, 0),
    "the server 8 h behind": (-8 * HOUR_MS, 0),
    "the server in year 9999": (YEAR_9999_MS - NOW_MS, 0),
    "the server in 1970": (-NOW_MS, 0),
    "ours 8 h ahead": (0, 8 * HOUR_MS),
    "ours 8 h behind": (0, -8 * HOUR_MS),
    "ours in year 9999": (0, YEAR_9999_MS - NOW_MS),
    "ours in 2001": (0, 1_000_000_000_000 - NOW_MS),
    "both 20 s behind": (-20_000, -20_000),
    "ours 55 s behind": (0, -55_000),
    "the server 55 s behind": (-55_000, 0),
}


@pytest.mark.parametrize(("servers_ms", "ours_ms"), ERRORS.values(), ids=ERRORS)
async def test_all_is_listed_and_what_fails_from_now_on_counts(
    scene: Scene, servers_ms: int, ours_ms: int
) -> None:
    scene.api.skew_ms, scene.ours_ms = servers_ms, ours_ms
    scene.fail_now(NOW_MS - 20_000)  # so recent that a clock which is behind is seen to be
    first = await scene.poll()
    assert (first.jobs[FAILED], first.completed[FAILED].value) == (61, 0)
    totals = await scene.fail_hourly(6)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (67, 6)
    assert sum(value.value for (*_, code), value in totals.failures.items()) == 6


@pytest.mark.parametrize(("servers_ms", "ours_ms"), ERRORS.values(), ids=ERRORS)
async def test_a_clock_may_turn_wrong_later(scene: Scene, servers_ms: int, ours_ms: int) -> None:
    await scene.poll()
    await scene.fail_hourly(2)
    scene.api.skew_ms, scene.ours_ms = servers_ms, ours_ms
    await scene.fail_hourly(2)
    scene.api.skew_ms, scene.ours_ms = 0, 0
    totals = await scene.fail_hourly(2)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (66, 6)


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, 20 * HOUR_MS, 30 * DAY_MS, YEAR_9999_MS - NOW_MS])
@pytest.mark.parametrize("gives_time", [True, False])
async def test_one_row_from_the_future_makes_no_history_of_it(
    scene: Scene, ahead_ms: int, gives_time: bool
) -> None:
    scene.api.gives_time = gives_time
    scene.fail_now(NOW_MS - HOUR_MS, updated_ms=NOW_MS + ahead_ms)
    first = await scene.poll()
    assert (first.jobs[FAILED], first.completed[FAILED].value) == (61, 0)
    totals = await scene.fail_hourly(3)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (64, 3)


async def test_a_run_that_ends_in_the_future_is_history_at_first_and_when_it_is_put_right(
    scene: Scene,
) -> None:
    far_ms, odd_id = NOW_MS + 2 * DAY_MS, scene.next_id
    scene.fail_now(far_ms)
    first = await scene.poll()
    assert (first.jobs[FAILED], first.completed[FAILED].value, first.created[TYPE].value) == (61, 0, 0)
    totals = await scene.fail_hourly(2)
    assert (totals.completed[FAILED].value, totals.created[TYPE].value) == (2, 1)
    scene.next_id = odd_id
    scene.fail_now(NOW_MS - HOUR_MS)
    totals = await scene.poll()
    assert (totals.completed[FAILED].value, totals.created[TYPE].value) == (2, 1)
    assert sum(totals.submitting[TYPE].counts) == 1


async def test_one_row_from_the_future_hides_no_end_while_the_first_sync_runs(scene: Scene) -> None:
    scene.fail_now(NOW_MS - HOUR_MS, updated_ms=NOW_MS + 30 * DAY_MS)
    scene.api.before_page = lambda query: end_once(scene, query)
    await scene.poll()
    assert (await scene.poll()).completed[FAILED].value == 1


def end_once(scene: Scene, query: ListQuery) -> None:
    if query.offset:
        scene.api.before_page = None
        scene.api.now_ms += HOUR_MS
        scene.fail_now()


@pytest.mark.parametrize(
    ("servers_ms", "ours_ms"), [(0, 0), (8 * HOUR_MS, 0), (-8 * HOUR_MS, 0), (0, HOUR_MS)]
)
async def test_what_ends_while_the_first_sync_runs_counts(
    scene: Scene, servers_ms: int, ours_ms: int
) -> None:
    scene.api.skew_ms, scene.ours_ms = servers_ms, ours_ms
    scene.fail_now(NOW_MS - 20_000)
    scene.api.before_page = lambda query: end_once(scene, query)
    await scene.poll()
    totals = await scene.poll()
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (62, 1)


@pytest.mark.parametrize("servers_ms", [0, 8 * HOUR_MS, YEAR_9999_MS - NOW_MS])
async def test_a_first_list_that_is_empty_by_a_fault_makes_no_news_of_the_past(
    scene: Scene, servers_ms: int
) -> None:
    scene.api.skew_ms = servers_ms
    for hours in range(1_000):
        scene.fail_now(NOW_MS - MINUTE_MS - hours * 1_000)
    real, scene.api.jobs = scene.api.jobs, {}
    await scene.poll()
    scene.api.jobs = real
    await scene.poll()
    totals = await scene.poll()
    assert totals.jobs[FAILED] == 1_060
    assert totals.completed[FAILED].value == totals.created[TYPE].value == 0
    assert (await scene.fail_hourly(1)).completed[FAILED].value == 1


@pytest.mark.parametrize(("servers_ms", "ours_ms"), ERRORS.values(), ids=ERRORS)
async def test_no_clock_makes_every_poll_a_full_sync(scene: Scene, servers_ms: int, ours_ms: int) -> None:
    scene.api.skew_ms, scene.ours_ms = servers_ms, ours_ms
    for seconds in range(100):
        scene.fail_now(NOW_MS - 20_000 - seconds * 1_000)
    for _ in range(4):
        await scene.poll()
    assert scene.full_syncs == ["first", None, None, None]


async def test_a_clock_that_only_the_latest_end_contradicts_makes_no_poll_a_full_sync(scene: Scene) -> None:
    scene.api.skew_ms, scene.ours_ms = -5 * MINUTE_MS, -3 * HOUR_MS
    for seconds in range(100):
        scene.fail_now(NOW_MS - 20_000, created_ms=NOW_MS - 10 * MINUTE_MS - seconds * 1_000)
    for _ in range(4):
        await scene.poll()
    assert scene.full_syncs == ["first", None, None, None]


@pytest.mark.parametrize("behind_ms", [30_000, 5 * MINUTE_MS, HOUR_MS])
async def test_no_row_is_missed_where_rows_are_ahead_of_both_clocks_and_totals_are_of_the_page(
    scene: Scene, behind_ms: int
) -> None:
    scene.api.skew_ms = scene.ours_ms = -behind_ms
    scene.api.total_of = lambda _total, rows: rows
    for _ in range(3):
        for seconds in range(100):
            scene.fail_now(scene.api.now_ms - seconds * behind_ms // 200)
        for _ in range(2):
            totals = await scene.poll()
        assert totals.jobs[FAILED] == len(scene.api.jobs)


@pytest.mark.parametrize("gives_time", [True, False])
async def test_a_baseline_stays_where_our_clock_is_a_little_behind(scene: Scene, gives_time: bool) -> None:
    """What the first sync has taken for history is never news for a backfill, which goes by the baseline."""
    scene.api.gives_time, scene.ours_ms = gives_time, -37_000
    scene.api.now_ms += 900  # within a second, which the server does not tell
    scene.fail_now()
    first = await scene.poll(0)
    assert NOW_MS <= (first.baseline_ms or 0) <= scene.api.now_ms + 1
    for _ in range(10):
        scene.api.now_ms += 5_000
        scene.fail_now()
        assert (await scene.poll(0)).baseline_ms == first.baseline_ms
