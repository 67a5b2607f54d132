"""Jobs that are older than the lookback and end, are lost for a moment, or are shown late: each run once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.model import Target, Totals
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import FAILED, Scene
from tests.ledgers import BackEnd

HOUR_MS = 3_600_000
NOW_MS = 1_772_434_800_000
LOOKBACK_MS = HOUR_MS
CREATED = {"created_ms": NOW_MS - 2 * HOUR_MS, "updated_ms": NOW_MS - 2 * HOUR_MS}
STARTED = {**CREATED, "started_ms": NOW_MS - HOUR_MS, "updated_ms": NOW_MS - HOUR_MS}


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    scene.api.now_ms = NOW_MS
    await scene.open()
    yield scene
    await scene.ledger.close()


async def polled(scene: Scene, ours_ms: int = 0, target: Target | None = None) -> Totals:
    """Poll with our clock ahead of the server's by `ours_ms`."""
    return await scene.poll(target, poll_rules(lookback_ms=LOOKBACK_MS), ours_ms)


def end_now(scene: Scene, job_id: int) -> None:
    ended = {"ended_ms": scene.api.now_ms, "updated_ms": scene.api.now_ms}
    scene.api.put(a_job(job_id, "RUN_FAILED", **STARTED | ended))


def counted(totals: Totals) -> tuple[int, int, int]:
    """Give how many runs started, ended and ran again."""
    started = sum(sum(value.counts) for value in totals.submitting.values())
    return started, totals.completed[FAILED].value, totals.reruns[FAILED[0]].value


async def test_an_answer_that_is_late_shows_no_second_run(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    end_now(scene, 1)
    late, ended = a_job(1, "RUNNING", **STARTED), scene.api.jobs[1]
    assert counted(await polled(scene)) == (0, 1, 0)
    scene.api.put(late)
    assert counted(await polled(scene)) == (0, 1, 0)
    scene.api.put(ended)
    totals = await polled(scene)
    assert (counted(totals), totals.jobs[FAILED]) == ((0, 1, 0), 0)


async def test_a_wrong_clock_of_ours_forgets_no_job_too_early(scene: Scene) -> None:
    """Ours is two hours behind when the job ends, and right from then on."""
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    late = a_job(1, "RUNNING", **STARTED)
    end_now(scene, 1)
    ended = scene.api.jobs[1]
    assert counted(await polled(scene, ours_ms=-2 * HOUR_MS)) == (0, 1, 0)
    for row in (late, ended):
        scene.api.put(row)
        assert counted(await polled(scene)) == (0, 1, 0)


async def test_a_job_that_answers_lack_once_goes_on_with_its_run(scene: Scene) -> None:
    scene.api.put(a_job(1, **CREATED))
    await polled(scene)
    begun = {"started_ms": scene.api.now_ms, "updated_ms": scene.api.now_ms}
    running = a_job(1, "RUNNING", **CREATED | begun)
    scene.api.put(running)
    assert counted(await polled(scene)) == (1, 0, 0)
    scene.api.jobs.clear()
    assert counted(await polled(scene)) == (1, 0, 0)
    scene.api.put(running)
    assert counted(await polled(scene)) == (1, 0, 0)
    ended = {"ended_ms": scene.api.now_ms, "updated_ms": scene.api.now_ms}
    scene.api.put(a_job(1, "RUN_FAILED", **CREATED | begun | ended))
    assert counted(await polled(scene)) == (1, 1, 0)


@pytest.mark.parametrize("ignored", [(), ("start_time",)], ids=["as asked", "all are listed"])
async def test_an_hour_later_it_is_forgotten(scene: Scene, ignored: tuple[str, ...]) -> None:
    """So few jobs are all listed in each poll: also what is older, where the server does not leave it out."""
    scene.api.ignored = frozenset(ignored)
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    end_now(scene, 1)
    await polled(scene)
    kept = []
    for _ in range(4):
        scene.api.now_ms += 29 * 60_000
        totals = await polled(scene)
        assert totals.jobs[FAILED] == 0
        kept.append(scene.rows("jobs"))
    assert kept == [1, 1, 0, 0]


async def test_a_status_that_is_no_end_any_more_counts_no_forgotten_run_again(scene: Scene) -> None:
    """The server ignores `start_time`, so the rows come back: they show the runs that were counted."""
    scene.api.ignored, scene.api.terminal = frozenset({"start_time"}), frozenset({"SHELVED"})
    await polled(scene)
    for job_id in range(1, 8):
        scene.run_job(job_id, "SHELVED", ended_ms=None)
    shelved = (FAILED[0], "SHELVED")
    await polled(scene)
    assert (await polled(scene)).completed[shelved].value == 7
    for _ in range(5):
        scene.api.now_ms += 29 * 60_000
        await polled(scene)
    assert scene.rows("jobs") == 0
    for terminal in ((), ("SHELVED",), ()):
        scene.api.terminal = frozenset(terminal)
        totals = await polled(scene)
        assert (totals.completed[shelved].value, *counted(totals)) == (7, 7, 0, 0)


async def test_an_old_job_whose_type_comes_into_scope_does_not_run_again(scene: Scene) -> None:
    scene.api.put(a_job(1, **CREATED), a_job(2, job_type="SCENARIO_TO_SIM", **CREATED))
    await polled(scene, target=a_target(job_types=("SCENARIO_TO_SIM",)))
    await polled(scene)
    run = CREATED | dict.fromkeys(("started_ms", "updated_ms"), scene.api.now_ms)
    scene.api.put(a_job(1, "RUNNING", **run))
    assert counted(await polled(scene)) == (1, 0, 0)
    run |= dict.fromkeys(("ended_ms", "updated_ms"), scene.api.now_ms)
    scene.api.put(a_job(1, "RUN_FAILED", **run))
    assert counted(await polled(scene)) == (1, 1, 0)
