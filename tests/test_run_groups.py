"""What the status page reads of failed runs: the groups, the last hour by kind, and what is usual."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from exporter.ledger.ended import HOUR_MS
from exporter.runs import HourlyFailures, RunFilter
from tests.fake_api import a_target
from tests.ledger_scene import Scene
from tests.ledgers import BackEnd, only_sqlite

OTHER = replace(a_target(), project="other")


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    scene.api.now_ms = 1_800_000_000_000
    await scene.open()
    yield scene
    await scene.ledger.close()


async def last_hour(scene: Scene, **which: str) -> tuple[HourlyFailures, ...]:
    async with scene.ledger.reading() as reader:
        targets = [a_target().key, OTHER.key, replace(OTHER, project="unknown").key]
        return await reader.last_hour(targets, RunFilter(**which), scene.api.now_ms)


async def test_runs_of_the_last_hour_are_counted_by_target_type_and_code(scene: Scene) -> None:
    await scene.poll()
    await scene.poll(OTHER)
    scene.run_job(1, msg_code="3001")
    await scene.poll()
    scene.api.now_ms += HOUR_MS
    for job_id, code in enumerate(("3001", "3001", "", "4002"), 10):
        scene.run_job(job_id, msg_code=code)
        scene.api.now_ms -= 50_000
    scene.run_job(20, "FINISHED")
    await scene.poll()
    mine, other = await last_hour(scene)
    kinds = {("FRAME_EXTRACT", "3001"): 2, ("FRAME_EXTRACT", ""): 1, ("FRAME_EXTRACT", "4002"): 1}
    assert (mine.target, mine.runs, mine.kinds, mine.mean_per_hour) == (a_target().key, 4, kinds, None)
    assert mine.ended == 6
    assert (other.target, other.runs, other.kinds) == (OTHER.key, 0, {})
    mine, _ = await last_hour(scene, job_type="FRAME_EXTRACT", status="RUN_FAILED", msg_code="4002")
    assert (mine.runs, mine.kinds) == (4, kinds)
    mine, _ = await last_hour(scene, job_type="PACKAGE_IMPORT")
    assert (mine.runs, mine.kinds) == (0, {})


async def test_what_is_usual_is_each_targets_own(scene: Scene) -> None:
    await scene.poll()
    scene.api.now_ms += 2 * HOUR_MS
    scene.run_job(1, msg_code="3001")
    scene.run_job(2, msg_code="3001")
    await scene.poll()
    scene.api.now_ms += 26 * HOUR_MS
    await scene.poll()
    await scene.poll(OTHER)
    mine, other = await last_hour(scene)
    assert (mine.runs, mine.mean_per_hour) == (0, pytest.approx(2 / 28, rel=0.1))
    assert other.mean_per_hour is None


@only_sqlite
async def test_of_ten_thousand_codes_a_thousand_kinds_are_told_apart(scene: Scene) -> None:
    await scene.poll()
    now = scene.api.now_ms
    for job_id in range(1_500):
        scene.run_job(job_id, msg_code=str(job_id))
        scene.api.now_ms = now
    scene.run_job(2_000, msg_code="7")
    await scene.poll()
    mine, _ = [*await last_hour(scene), None]
    assert mine is not None
    assert (mine.runs, len(mine.kinds), mine.kinds["FRAME_EXTRACT", "7"]) == (1_501, 1_000, 2)


async def test_groups_are_the_largest_and_name_each_job_once_the_newest_first(scene: Scene) -> None:
    await scene.poll()
    await scene.poll(OTHER)
    for job_id, error in ((1, "bad"), (2, "bad"), (3, "worse"), (4, "bad"), (1, "bad")):
        scene.run_job(job_id, msg_code="3001", msg_error=error)
        await scene.poll()
    await scene.poll(OTHER)
    async with scene.ledger.reading() as reader:
        targets = [a_target().key, OTHER.key]
        read = await reader.failure_groups(targets, RunFilter(project="perception"), 10, 2)
        assert [(group.message, group.runs, group.job_ids) for group in read.groups] == [
            ("bad", 4, (1, 4)),
            ("worse", 1, (3,)),
        ]
        largest = await reader.failure_groups(targets, RunFilter(project="perception"), 1)
        assert (len(largest.groups), largest.left_out, largest.runs) == (1, 1, 5)
        assert largest.groups[0].first_ms < read.groups[1].first_ms < largest.groups[0].last_ms
