"""How many jobs in flight are older than each bound, as of the last poll."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.model import AGE_BOUNDS_MS, Totals
from tests.fake_api import a_job
from tests.ledger_scene import Scene
from tests.ledgers import BackEnd

TYPE = "FRAME_EXTRACT"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    scene.api.now_ms += 100 * DAY
    yield scene
    await scene.ledger.close()


def counts(totals: Totals, status: str) -> dict[str, int]:
    return {age: jobs for (_, found, age), jobs in totals.older_than.items() if found == status}


async def test_a_job_counts_at_each_age_it_has_reached(scene: Scene) -> None:
    now = scene.api.now_ms
    scene.api.put(
        a_job(1, "RUNNING", created_ms=now - 9 * DAY, started_ms=now - 3 * HOUR),
        a_job(2, "RUNNING", created_ms=now - 9 * DAY, started_ms=now - HOUR),
        a_job(3, "RUNNING", created_ms=now - 9 * DAY, started_ms=now - MINUTE),
    )
    assert counts(await scene.poll(), "RUNNING") == {"30m": 2, "1h": 2, "1h30m": 1, "2h": 1, "3h": 1}


@pytest.mark.parametrize(("status", "is_old"), [("QUEUING", True), ("LAUNCHING", True), ("UPLOADING", False)])
async def test_a_job_is_as_old_as_its_stage(scene: Scene, status: str, is_old: bool) -> None:
    """Since its creation while it waits, which a job that was started again may have long behind it."""
    now = scene.api.now_ms
    scene.api.put(a_job(1, status, created_ms=now - 3 * DAY, started_ms=now - MINUTE))
    found = counts(await scene.poll(), status)
    assert found == (dict.fromkeys(list(AGE_BOUNDS_MS)[:14], 1) if is_old else {})


async def test_jobs_without_a_start_and_those_that_ended_do_not_count(scene: Scene) -> None:
    old = scene.api.now_ms - DAY
    scene.api.put(
        a_job(1, "RUNNING", created_ms=old, started_ms=None),
        a_job(2, "FINISHED", created_ms=old, started_ms=old, ended_ms=old + 1),
    )
    assert (await scene.poll()).older_than == {}


async def test_a_row_from_the_future_makes_no_other_job_older(scene: Scene) -> None:
    now = scene.api.now_ms
    ahead = now + 20 * HOUR
    scene.api.put(
        a_job(1, "RUNNING", created_ms=now - HOUR, started_ms=now - MINUTE),
        a_job(2, "FINISHED", created_ms=now - HOUR, started_ms=now, ended_ms=ahead, updated_ms=ahead),
    )
    assert (await scene.poll()).older_than == {}


async def test_ages_grow_with_the_polls_and_go_with_the_job(scene: Scene) -> None:
    now = scene.api.now_ms
    scene.api.put(a_job(1, "RUNNING", created_ms=now, started_ms=now - 29 * MINUTE))
    assert (await scene.poll()).older_than == {}
    scene.api.now_ms += MINUTE
    assert counts(await scene.poll(), "RUNNING") == {"30m": 1}
    scene.api.put(a_job(1, "FINISHED", created_ms=now, started_ms=now, ended_ms=scene.api.now_ms))
    assert (await scene.poll()).older_than == {}


async def test_a_restart_shows_the_ages_of_the_last_poll(scene: Scene) -> None:
    now = scene.api.now_ms
    scene.api.put(a_job(1, "RUNNING", created_ms=now, started_ms=now - HOUR))
    polled = await scene.poll()
    scene.api.now_ms += DAY
    restored = await scene.restored()
    assert restored is not None
    assert restored.older_than == polled.older_than != {}
