"""What makes a target another one, and what does not: name, project id, workspace and path do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.ledger.sqlite import SqliteLedger
from tests.fake_api import a_target, poll_rules
from tests.ledger_scene import FAILED, Scene
from tests.ledgers import BackEnd, only_sqlite


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    yield scene
    await scene.ledger.close()


async def test_another_path_begins_anew_and_brings_no_spike(scene: Scene) -> None:
    """Another path is another list: its past was never counted, and is not news."""
    other = a_target(path="jobs")
    for job_id in range(2, 30):
        scene.run_job(job_id)
    first, second = await scene.poll(other), await scene.poll(other)
    assert first.jobs[FAILED] == 29
    assert (first.completed[FAILED].value, second.completed[FAILED].value) == (0, 0)
    scene.run_job(30)
    assert (await scene.poll(other)).completed[FAILED].value == 1
    # The list of the first path goes on where it stood.
    assert (await scene.poll()).completed[FAILED].value == 30


async def test_another_path_is_restored_as_a_target_that_was_never_polled(scene: Scene) -> None:
    assert await scene.restored(a_target(path="jobs")) is None
    restored = await scene.restored()
    assert restored is not None
    assert restored.completed[FAILED].value == 1


@pytest.mark.parametrize(
    "moved", [{"endpoint": "http://other.test"}, {"endpoint": "http://o", "region": "r"}]
)
async def test_another_endpoint_goes_on_counting_and_reads_everything_once(
    scene: Scene, moved: dict[str, str]
) -> None:
    for job_id in range(100, 130):  # more than is read whole at every poll
        scene.run_job(job_id)
    await scene.poll()
    await scene.poll()
    assert scene.full_sync is None
    scene.run_job(200)
    totals = await scene.poll(a_target(**moved))
    assert scene.full_sync == "gap"
    assert totals.completed[FAILED].value == 32
    await scene.poll(a_target(**moved))
    assert scene.full_sync is None


async def test_an_endpoint_that_could_not_be_read_whole_is_read_whole_at_the_next_poll(scene: Scene) -> None:
    moved = a_target(endpoint="http://other.test")
    scene.api.error = RuntimeError("in the midst of it")  # type: ignore[assignment]  # any will do
    with pytest.raises(RuntimeError):
        await scene.poll(moved)
    scene.api.error = None
    await scene.poll(moved)
    assert scene.full_sync == "gap"


@only_sqlite
async def test_a_target_without_a_path_takes_the_one_it_is_next_polled_with(scene: Scene) -> None:
    """An older version recorded no path."""
    await scene.ledger.close()
    with scene.sql() as db:
        db.execute("UPDATE targets SET path = '', endpoint = ''")
    await scene.open()
    restored = await scene.restored()
    assert restored is not None
    assert restored.completed[FAILED].value == 1
    scene.run_job(2)
    assert (await scene.poll()).completed[FAILED].value == 2
    await scene.ledger.close()
    with scene.sql() as db:
        assert db.execute("SELECT path, endpoint FROM targets").fetchall() == [
            ("system-jobs", "http://octopus.test")
        ]
    await scene.open()
    assert await scene.restored(a_target(path="jobs")) is None


@only_sqlite
async def test_a_path_is_adopted_for_good_though_the_poll_fails(scene: Scene) -> None:
    await scene.ledger.close()
    with scene.sql() as db:
        db.execute("UPDATE targets SET path = ''")
    await scene.open()
    scene.api.error = RuntimeError("in the midst of it")  # type: ignore[assignment]  # any will do
    with pytest.raises(RuntimeError):
        await scene.poll()
    with scene.sql() as db:
        assert db.execute("SELECT path FROM targets").fetchall() == [("system-jobs",)]


@only_sqlite
async def test_looking_at_a_ledger_adopts_nothing(scene: Scene) -> None:
    await scene.ledger.close()
    with scene.sql() as db:
        db.execute("UPDATE targets SET path = ''")
    reader = await SqliteLedger.open_to_read(scene.file)
    assert await reader.restore(a_target(), poll_rules().counting) is not None
    assert (await reader.summary(a_target())).listed == 1
    await reader.close()
    with scene.sql() as db:
        assert db.execute("SELECT path FROM targets").fetchall() == [("",)]
    await scene.open()
