"""The events in the ledger: one for every run that is counted, in order, until they are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from exporter.counting.rules import EventRules
from exporter.errors import LedgerError
from exporter.events.outbox import OutboxNews
from exporter.ledger.sql import SqlLedger
from exporter.ledger.worker import Commit
from exporter.model import Target, TargetKey
from exporter.sync.change_reader import PollRules
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import Scene
from tests.ledgers import BackEnd, SoleReplica, only_sqlite

ALL = poll_rules(events=EventRules())
FAILED = poll_rules(events=EventRules("failed"))
OTHER = a_target(workspace="7", workspace_id="7")


def bounded(most: int) -> PollRules:
    return poll_rules(events=EventRules(max_waiting=most))


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    yield scene
    await scene.ledger.close()


async def waiting(ledger: SqlLedger, most: int = 1000) -> list[int]:
    """Give the job ids of the events that wait."""
    events = [one.event for one in await ledger.waiting_events(most)]
    return [event.run.job_id for event in events if event is not None]


async def write_away(ledger: SqlLedger, lines: int) -> None:
    await ledger.events_written([one.id for one in await ledger.waiting_events(lines)])


async def test_a_run_that_ends_is_an_event(scene: Scene) -> None:
    await scene.poll(rules=ALL)
    scene.run_job(1, msg_code="4711", msg_error="out of memory", data_id="pkg", resource_spec="2Core_4GiB")
    await scene.poll(rules=ALL)
    ((event),) = [one.event for one in await scene.ledger.waiting_events(10)]
    assert event is not None
    assert event.target == TargetKey("perception", "p1", "0", "system-jobs")
    assert event.counted_ms == scene.api.now_ms
    job = scene.api.jobs[1]
    assert replace(event.run, at_ms=0) == replace(
        event.run,
        job_id=1,
        number=1,
        job_type="FRAME_EXTRACT",
        status="RUN_FAILED",
        msg_code="4711",
        msg_error="out of memory",
        data_id="pkg",
        resource_spec="2Core_4GiB",
        created_ms=job.created_ms,
        started_ms=job.started_ms,
        ended_ms=job.ended_ms,
        running_ms=30_000,
        at_ms=0,
    )


async def test_a_job_that_runs_again_is_another_event_with_the_next_number(scene: Scene) -> None:
    await scene.poll(rules=ALL)
    for _ in range(3):
        scene.run_job(1)
        await scene.poll(rules=ALL)
    events = [one.event for one in await scene.ledger.waiting_events(10)]
    assert [event and (event.run.job_id, event.run.number) for event in events] == [(1, 1), (1, 2), (1, 3)]


async def test_what_is_in_flight_or_history_is_none(scene: Scene) -> None:
    scene.run_job(1)
    await scene.poll(rules=ALL)
    scene.api.put(a_job(2, "RUNNING", created_ms=scene.api.now_ms, started_ms=scene.api.now_ms))
    await scene.poll(rules=ALL)
    await scene.poll(rules=ALL)
    assert await waiting(scene.ledger) == []


async def test_history_that_is_counted_has_events(scene: Scene) -> None:
    rules = poll_rules(count_history=True, events=EventRules())
    scene.run_job(1)
    scene.run_job(2)
    await scene.poll(rules=rules)
    assert await waiting(scene.ledger) == [1, 2]


async def test_nothing_is_added_where_no_events_are_wanted(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    await scene.poll(rules=ALL)
    assert await waiting(scene.ledger) == []


async def test_only_failed_runs_where_those_are_wanted(scene: Scene) -> None:
    await scene.poll(rules=FAILED)
    for job_id, status in enumerate(("FINISHED", "RUN_FAILED", "STOPPED", "SUBMIT_FAILED", "ODD_FAILED")):
        scene.run_job(job_id + 1, status)
    await scene.poll(rules=FAILED)
    assert await waiting(scene.ledger) == [2, 4, 5]


async def test_events_of_all_targets_are_in_the_order_in_which_they_were_counted(scene: Scene) -> None:
    await scene.poll(rules=ALL)
    await scene.poll(OTHER, ALL)
    for job_id in (5, 3, 9):
        scene.run_job(job_id)
        await scene.poll(rules=ALL)
        await scene.poll(OTHER, ALL)
    events = [one.event for one in await scene.ledger.waiting_events(10)]
    assert [event and (event.run.job_id, event.target.workspace) for event in events] == [
        (job_id, workspace) for job_id in (5, 3, 9) for workspace in ("0", "7")
    ]


async def test_events_wait_over_a_restart_until_they_are_written(scene: Scene) -> None:
    await scene.poll(rules=ALL)
    for job_id in range(1, 6):
        scene.run_job(job_id)
    await scene.poll(rules=ALL)
    assert await waiting(scene.ledger, 2) == [1, 2]
    await write_away(scene.ledger, 2)
    await scene.ledger.close()
    await scene.open()
    assert await waiting(scene.ledger) == [3, 4, 5]
    assert await scene.ledger.count_events() == 3
    await write_away(scene.ledger, 3)
    scene.run_job(6)
    await scene.poll(rules=ALL)
    assert await waiting(scene.ledger) == [6]


async def test_an_id_is_not_used_again(scene: Scene) -> None:
    """Else what is written late would delete events that are new."""
    await scene.poll(rules=ALL)
    scene.run_job(1)
    await scene.poll(rules=ALL)
    (first,) = await scene.ledger.waiting_events(1)
    await scene.ledger.events_written([first.id])
    scene.run_job(2)
    await scene.poll(rules=ALL)
    await scene.ledger.events_written([first.id])
    assert await waiting(scene.ledger) == [2]


async def test_events_are_looked_for_after_a_commit_whose_answer_was_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.poll(rules=ALL)
    worker = scene.ledger._worker
    commit = worker.commit

    async def lose_the_answer(one: Commit) -> object:
        if not one.rows:  # not that of a poll
            return await commit(one)
        await commit(replace(one, after=lambda _db, _result: None))
        raise LedgerError("no answer to COMMIT")

    monkeypatch.setattr(worker, "commit", lose_the_answer)
    scene.run_job(1)
    with pytest.raises(LedgerError):
        await scene.poll(rules=ALL)
    async with asyncio.timeout(60):
        await scene.ledger.event_news()
    assert await waiting(scene.ledger) == [1]


class TestBound:
    async def fill(self, scene: Scene, jobs: range, target: Target | None = None, most: int = 5) -> None:
        for job_id in jobs:
            scene.run_job(job_id)
        await scene.poll(target, bounded(most))

    async def test_drops_the_oldest_of_the_target_and_tells(self, scene: Scene) -> None:
        await self.fill(scene, range(0))
        await self.fill(scene, range(0), OTHER)
        await self.fill(scene, range(1, 4))
        assert await scene.ledger.event_news() == OutboxNews(3, 0)
        await self.fill(scene, range(4, 9))
        assert await scene.ledger.event_news() == OutboxNews(5, 3)
        await self.fill(scene, range(0), OTHER, most=100)
        events = [one.event for one in await scene.ledger.waiting_events(100)]
        by_target = [(event.target.workspace, event.run.job_id) for event in events if event]
        assert by_target == [("0", job_id) for job_id in range(4, 9)] + [("7", n) for n in range(1, 9)]

    async def test_keeps_what_is_being_written(self, scene: Scene) -> None:
        """So that nothing is both written and counted as dropped."""
        await self.fill(scene, range(0))
        await self.fill(scene, range(1, 6))
        assert await waiting(scene.ledger, 2) == [1, 2]
        await self.fill(scene, range(6, 9))
        assert await waiting(scene.ledger) == [1, 2, 6, 7, 8]
        assert await scene.ledger.event_news() == OutboxNews(8, 3)

    async def test_holds_for_a_first_sync_that_counts_history(self, scene: Scene) -> None:
        for job_id in range(1, 30):
            scene.run_job(job_id)
        await scene.poll(rules=poll_rules(count_history=True, events=EventRules(max_waiting=10)))
        assert await waiting(scene.ledger) == list(range(20, 30))
        assert await scene.ledger.event_news() == OutboxNews(29, 19)


@only_sqlite
async def test_a_value_that_is_damaged_is_told_and_is_nobody_elses_problem(scene: Scene) -> None:
    await scene.poll(rules=ALL)
    for job_id in (1, 2, 3):
        scene.run_job(job_id)
    await scene.poll(rules=ALL)
    await scene.ledger.close()
    with scene.sql() as db:
        db.execute("UPDATE events SET run = '{' WHERE id = 1")
        db.execute("UPDATE events SET run = CAST(x'ff' AS TEXT) WHERE id = 2")
    await scene.open()
    assert [one.event is None for one in await scene.ledger.waiting_events(10)] == [True, True, False]
    scene.run_job(4)
    await scene.poll(rules=ALL)
    assert await scene.ledger.count_events() == 4


async def test_a_target_that_is_forgotten_takes_its_events_along(scene: Scene) -> None:
    for target in (a_target(), OTHER):
        await scene.poll(target, ALL)
    scene.run_job(1)
    for target in (a_target(), OTHER):
        await scene.poll(target, ALL)
    assert await scene.ledger.forget(a_target().key, lambda: True)
    (left,) = await scene.ledger.waiting_events(10)
    assert left.event is not None
    assert left.event.target.workspace == "7"


@only_sqlite
async def test_reading_events_takes_no_look_at_the_others(scene: Scene) -> None:
    """With 100,000 events that wait, each batch costs what it holds."""
    with scene.sql() as db:
        plan = db.execute(
            "EXPLAIN QUERY PLAN SELECT events.id FROM events JOIN targets ON targets.id = events.target"
            " ORDER BY events.id LIMIT 500"
        ).fetchall()
        assert not any("TEMP B-TREE" in step[-1] for step in plan), plan


@pytest.mark.parametrize("back_end", ["postgresql"], indirect=True)
async def test_a_replica_writes_the_events_of_the_targets_that_it_holds(
    scene: Scene, back_end: BackEnd
) -> None:
    await scene.poll(rules=ALL)
    scene.run_job(1)
    await scene.poll(rules=ALL)
    other = await back_end.open()
    assert isinstance(other, SoleReplica)
    other.gives_only_held = True
    try:
        assert (await waiting(other), await other.count_events()) == ([], 0)
        other.take(a_target().key)
        assert (await waiting(other), await other.count_events()) == ([1], 1)
    finally:
        await other.close()


@pytest.mark.parametrize("back_end", ["postgresql"], indirect=True)
async def test_one_replica_writes_the_events_of_targets_that_left_the_configuration(
    scene: Scene, back_end: BackEnd
) -> None:
    await scene.poll(rules=ALL)
    scene.run_job(1)
    await scene.poll(rules=ALL)
    replicas = {name: await back_end.open() for name in ("a", "b")}
    try:
        for name, ledger in replicas.items():
            assert isinstance(ledger, SoleReplica)
            ledger.gives_only_held, ledger._replica = True, name
            back_end.rows(
                f"""
                INSERT INTO replicas (name, until, lease, patient_until, beat, fingerprint, targets)
                SELECT '{name}', now() + interval '1h', '15s', now(), 1, '', array_agg(id) FROM targets
                """
            )
        back_end.rows("UPDATE leases SET holder = 'gone'")
        # Both have the target in their configuration, and the one that takes it writes its events.
        assert [await waiting(ledger) for ledger in replicas.values()] == [[], []]
        back_end.rows("UPDATE replicas SET targets = '{}'")
        assert [await waiting(ledger) for ledger in replicas.values()] == [[1], []]
    finally:
        for ledger in replicas.values():
            await ledger.close()
