"""Targets that left the configuration are forgotten after a while; no others are, whatever the clocks say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter.config import Shard
from exporter.errors import LedgerError
from exporter.ledger import targets
from exporter.model import Target, TargetKey
from exporter.sync.ledger import RecordedTarget
from exporter.target_cleanup import DAY_SECONDS, LEAST_MS, TargetCleanup, expired_targets, retention_ms
from tests.fake_api import a_target
from tests.ledger_scene import FAILED, Scene

DAY_MS = DAY_SECONDS * 1000
NOW_MS = 1_772_434_800_000
KEPT, LEFT = a_target(), a_target(project="left", workspace="7")
TABLES = ("targets", "jobs", "listing", "counters", "histograms", "failed_runs", "hourly_runs", "set_apart")


class Life:
    """A ledger of two targets, of which one leaves the configuration, and days that go by."""

    def __init__(self, file: Path) -> None:
        self.scene = Scene(file)
        self.scene.api.now_ms = NOW_MS
        self.configured: list[Target] = [KEPT, LEFT]
        self.lookback_ms: int | None = 30 * DAY_MS
        self.clock_is_ahead_ms = 0
        self.shard: Shard | None = None
        self.held_elsewhere: set[TargetKey] = set()
        self.days = 0

    async def start(self) -> None:
        await self.scene.open()
        for target in self.configured:
            await self.scene.poll(target)
        for job_id in range(1, 41):
            self.scene.run_job(job_id, msg_code="5")
        for target in self.configured:
            await self.scene.poll(target)
        with self.scene.sql() as db:
            db.execute(
                """
                INSERT INTO set_apart (target, key, status, problem)
                SELECT id, 'k', '', 'no id' FROM targets WHERE project = 'left'
                """
            )

    async def pass_by(self, days: int) -> None:
        """Let days go by: at the start and on each of them the ledger is looked through, and polls follow."""
        left = days

        async def sleep(seconds: float) -> None:
            nonlocal left
            assert seconds == DAY_SECONDS
            if left == 0:
                raise asyncio.CancelledError
            left -= 1
            self.days += 1
            self.scene.api.now_ms += DAY_MS
            for target in self.configured:
                await self.scene.poll(target)

        forgetting = TargetCleanup(
            self.scene.ledger,
            lambda: {target.key for target in self.configured},
            lambda: self.lookback_ms,
            shard=self.shard,
            is_held_elsewhere=self.held_elsewhere.__contains__,
            clock=lambda: (self.scene.api.now_ms + self.clock_is_ahead_ms) / 1000,
            sleep=sleep,
        )
        with pytest.raises(asyncio.CancelledError):
            await forgetting.run()

    def projects(self, table: str = "targets") -> set[str]:
        owner = "id" if table == "targets" else "target"
        with self.scene.sql() as db:
            names = f"SELECT DISTINCT targets.project FROM targets JOIN {table} t ON t.{owner} = targets.id"
            return {name for (name,) in db.execute(names)}

    def orphans(self) -> int:
        with self.scene.sql() as db:
            return sum(
                db.execute(
                    f"SELECT count(*) FROM {t} WHERE target NOT IN (SELECT id FROM targets)"
                ).fetchone()[0]
                for t in TABLES[1:]
            )


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    life = Life(tmp_path / "ledger.db")
    await life.start()
    yield life
    await life.scene.ledger.close()


async def test_what_left_the_configuration_goes_from_every_table_after_thirty_days(life: Life) -> None:
    assert all("left" in life.projects(table) for table in TABLES)
    life.configured = [KEPT]
    with capture_logs() as logged:
        await life.pass_by(29)
        assert life.projects() == {"perception", "left"}
        await life.pass_by(10)
    kept = [table for table in TABLES if table not in ("set_apart", "hourly_runs")]
    assert [life.projects(table) for table in kept] == [{"perception"}] * 6
    assert life.orphans() == 0
    told = [line for line in logged if "forgotten" in line["event"]]
    assert [(line["targets"], line["days_without_record"]) for line in told] == [(["left/7"], 30)]


async def test_what_another_replica_polls_stays_though_it_is_not_configured_here(life: Life) -> None:
    life.configured, life.held_elsewhere = [KEPT], {LEFT.key}
    await life.pass_by(40)
    assert life.projects() == {"perception", "left"}
    life.held_elsewhere = set()
    await life.pass_by(1)
    assert life.projects() == {"perception"}


async def test_what_is_configured_stays_though_its_polls_fail(life: Life) -> None:
    """Only one of the two is polled: the other's API is away for two months."""
    configured, life.configured = life.configured, [KEPT]

    async def sleep(_seconds: float) -> None:
        if life.days == 60:
            raise asyncio.CancelledError
        life.days += 1
        life.scene.api.now_ms += DAY_MS
        await life.scene.poll(KEPT)

    with pytest.raises(asyncio.CancelledError):
        await TargetCleanup(
            life.scene.ledger,
            lambda: {target.key for target in configured},
            lambda: None,
            clock=lambda: life.scene.api.now_ms / 1000,
            sleep=sleep,
        ).run()
    assert life.projects() == {"perception", "left"}
    assert (await life.scene.poll(LEFT)).completed[FAILED].value == 40


async def test_what_comes_back_in_time_goes_on_counting(life: Life) -> None:
    life.configured = [KEPT]
    await life.pass_by(20)
    life.configured = [KEPT, LEFT]
    await life.pass_by(20)
    assert (await life.scene.poll(LEFT)).completed[FAILED].value == 40


async def test_what_comes_back_too_late_begins_anew(life: Life) -> None:
    life.configured = [KEPT]
    await life.pass_by(31)
    assert life.projects() == {"perception"}
    totals = await life.scene.poll(LEFT)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (40, 0)


async def test_a_longer_lookback_keeps_a_target_longer(life: Life) -> None:
    life.configured, life.lookback_ms = [KEPT], 60 * DAY_MS
    await life.pass_by(59)
    assert life.projects() == {"perception", "left"}
    await life.pass_by(2)
    assert life.projects() == {"perception"}


@pytest.mark.parametrize("ahead_days", [40, -40, 3650])
async def test_a_clock_that_is_wrong_forgets_nothing(life: Life, ahead_days: int) -> None:
    life.configured = [KEPT]
    life.clock_is_ahead_ms = ahead_days * DAY_MS
    await life.pass_by(25)
    assert life.projects() == {"perception", "left"}


async def test_nothing_is_forgotten_before_a_poll_tells_the_time(life: Life) -> None:
    """After two months of standing still our clock is the only one."""
    life.configured = []
    life.scene.api.now_ms += 60 * DAY_MS
    await life.pass_by(0)
    assert life.projects() == {"perception", "left"}
    life.configured = [KEPT]
    await life.pass_by(1)
    assert life.projects() == {"perception"}


async def test_a_target_that_is_configured_again_meanwhile_is_let_be(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a target without a past then: what was left of its jobs counts nothing."""
    monkeypatch.setattr(targets, "_ROWS_AT_ONCE", 10)
    life.configured, looks = [KEPT], 0

    def is_unused() -> bool:
        nonlocal looks
        looks += 1
        return looks <= 3

    assert not await life.scene.ledger.forget(LEFT.key, is_unused)
    assert 0 < life.scene.rows("jobs") - 40 < 40
    assert await life.scene.restored(LEFT) is None
    totals = await life.scene.poll(LEFT)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (40, 0)
    life.scene.run_job(100)
    assert (await life.scene.poll(LEFT)).completed[FAILED].value == 1
    assert (await life.scene.poll(KEPT)).completed[FAILED].value == 41


async def test_it_goes_in_pieces_between_which_others_are_served(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_ROWS_AT_ONCE", 1)
    order: list[str] = []

    def is_unused() -> bool:
        order.append("piece")
        return True

    async def ask() -> None:
        for _ in range(10):
            await life.scene.ledger.summary(KEPT)
            order.append("answer")

    assert (await asyncio.gather(life.scene.ledger.forget(LEFT.key, is_unused), ask()))[0]
    assert "piece" in order[order.index("answer") :]
    assert "answer" in order[: len(order) - order[::-1].index("piece")]
    assert life.orphans() == 0


async def test_a_ledger_that_cannot_be_written_is_tried_again(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    life.configured = [KEPT]
    remembered = life.scene.ledger.remembered
    failures = 0

    async def fail_at_first() -> tuple[RecordedTarget, ...]:
        nonlocal failures
        failures += 1
        if failures <= 35:
            raise LedgerError("disk full") if failures % 2 else ZeroDivisionError
        return await remembered()

    monkeypatch.setattr(life.scene.ledger, "remembered", fail_at_first)
    with capture_logs() as logged:
        await life.pass_by(36)
    assert life.projects() == {"perception"}
    assert len([line for line in logged if "exc_info" in line]) == 1


def shard_of(target: Target) -> Shard:
    """Give the shard of five that a target belongs to."""
    (shard,) = (one for n in range(1, 6) if (one := Shard(n, 5)).has(target.project_id, target.workspace))
    return shard


async def test_what_another_shard_polls_now_is_forgotten_at_once(life: Life) -> None:
    life.shard, life.configured = shard_of(KEPT), [KEPT]
    assert life.shard != shard_of(LEFT)
    with capture_logs() as logged:
        await life.pass_by(2)
    assert life.projects() == {"perception"}
    told = [line for line in logged if "other shards" in line["event"]]
    assert [(line["shard"], line["targets"], line["first"]) for line in told] == [
        (str(life.shard), 1, ["left/7"])
    ]
    assert (await life.scene.poll(KEPT)).completed[FAILED].value == 40


async def test_what_comes_back_from_another_shard_begins_with_a_baseline(life: Life) -> None:
    """What ended meanwhile was counted by the other shard's exporter, and must not be counted twice."""
    life.shard, life.configured = shard_of(KEPT), [KEPT]
    await life.pass_by(0)
    for job_id in range(100, 110):
        life.scene.run_job(job_id)
    totals = await life.scene.poll(LEFT)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (50, 0)


@pytest.mark.parametrize("written_after", [3, 1000])
async def test_what_another_shard_polls_now_has_an_hour_to_get_its_events_written(
    life: Life, monkeypatch: pytest.MonkeyPatch, written_after: int
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if seconds == DAY_SECONDS:
            raise asyncio.CancelledError
        assert life.projects() == {"perception", "left"}

    async def count_events() -> int:
        return int(len(pauses) < written_after)

    monkeypatch.setattr(life.scene.ledger, "count_events", count_events)
    cleanup = TargetCleanup(
        life.scene.ledger, lambda: {KEPT.key}, lambda: None, shard=shard_of(KEPT), sleep=sleep
    )
    with pytest.raises(asyncio.CancelledError):
        await cleanup.run()
    assert pauses == [60.0] * min(written_after, 60) + [DAY_SECONDS]
    assert life.projects() == {"perception"}


async def test_what_left_the_configuration_of_this_shard_is_kept_as_without_shards(life: Life) -> None:
    life.shard, life.configured = shard_of(LEFT), []
    await life.scene.poll(LEFT)
    await life.pass_by(20)
    assert life.projects() == {"left"}


ONE = TargetKey("p", "1", "0", "system-jobs")
CONFIGURED = TargetKey("c", "1", "0", "system-jobs")
LONG_AGO = NOW_MS - LEAST_MS


@pytest.mark.parametrize(
    ("one", "configured", "is_overdue"),
    [
        pytest.param(RecordedTarget(ONE, LONG_AGO, LONG_AGO), {CONFIGURED}, True, id="long ago"),
        pytest.param(RecordedTarget(ONE, LONG_AGO + 1, LONG_AGO + 1), {CONFIGURED}, False, id="not yet"),
        pytest.param(RecordedTarget(ONE, LONG_AGO, LONG_AGO), {CONFIGURED, ONE}, False, id="configured"),
        pytest.param(RecordedTarget(ONE, 0, 0), {CONFIGURED}, True, id="never recorded"),
        pytest.param(RecordedTarget(ONE, LONG_AGO, NOW_MS), {CONFIGURED}, False, id="our clock was behind"),
        pytest.param(
            RecordedTarget(ONE, NOW_MS, LONG_AGO), {CONFIGURED}, False, id="the API's clock was behind"
        ),
        pytest.param(RecordedTarget(ONE, LONG_AGO, LONG_AGO), set(), False, id="nobody is polled"),
        pytest.param(
            RecordedTarget(replace(ONE, path=""), LONG_AGO, LONG_AGO),
            {CONFIGURED, ONE},
            False,
            id="without a path",
        ),
        pytest.param(
            RecordedTarget(replace(ONE, path="jobs"), LONG_AGO, LONG_AGO),
            {CONFIGURED, ONE},
            True,
            id="another path",
        ),
    ],
)
def test_who_is_overdue(one: RecordedTarget, configured: set[TargetKey], is_overdue: bool) -> None:
    everyone = [one, RecordedTarget(CONFIGURED, NOW_MS, NOW_MS)]
    assert expired_targets(everyone, configured, NOW_MS, LEAST_MS) == ([one.key] if is_overdue else [])


@pytest.mark.parametrize(("lookback", "days"), [(None, 30), (DAY_MS, 30), (90 * DAY_MS, 90)])
def test_how_long_a_target_is_kept(lookback: int | None, days: int) -> None:
    assert retention_ms(lookback) == days * DAY_MS
