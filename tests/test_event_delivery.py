"""From the outbox to the output: in order, at least once, and nothing else waits for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from exporter.events import delivery
from exporter.events.delivery import Delivery, EventOutput
from exporter.masking import Secrets
from tests.events import FakeOutbox, event, ids


class Scene:
    """An outbox, a delivery and its output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "events.log"
        self.outbox = FakeOutbox()
        self.dropped = 0
        self.waiting: int | None = None
        self.delivery = Delivery(
            self.outbox,
            Secrets(),
            lambda _: threading.Lock(),
            on_dropped=self._drop,
            on_pending=self._wait,
        )

    def _drop(self, events: int) -> None:
        self.dropped += events

    def _wait(self, events: int) -> None:
        self.waiting = events

    def write_to(self, to: Path | None) -> None:
        self.delivery.configure(None if to is None else EventOutput(to, "json"))

    @asynccontextmanager
    async def running(self, grace_seconds: float = 5.0) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.delivery.run())
            yield
            await self.delivery.end(grace_seconds)

    async def until(self, seen: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not seen():
                await asyncio.sleep(0.005)

    async def until_written(self, *wanted: int) -> None:
        await self.until(lambda: self.file.exists() and ids(_whole(self.file.read_bytes())) == list(wanted))


def _whole(lines: bytes) -> bytes:
    """Leave out the line that is being written at this moment."""
    return lines[: lines.rfind(b"\n") + 1]


def told(log: Sequence[MutableMapping[str, Any]]) -> list[tuple[str, str]]:
    """Give the lines that are logged by default: level and message."""
    return [(line["log_level"], line["event"]) for line in log if line["log_level"] != "debug"]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(delivery, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "_LONGEST_PAUSE_SECONDS", 0.01)
    return Scene(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take an output for stopped at once."""
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.01)


async def test_what_waits_is_written_in_order_and_leaves_the_outbox(scene: Scene) -> None:
    many = range(1, 1_200)
    for job_id in many:
        scene.outbox.add(event(job_id))
    scene.write_to(scene.file)
    async with scene.running():
        await scene.until_written(*many)
        scene.outbox.add(event(5000))
        await scene.until_written(*many, 5000)
        await scene.until(lambda: scene.waiting == 0)
    assert scene.outbox.rows == []


async def test_what_the_last_poll_counted_is_written_at_the_end(scene: Scene) -> None:
    scene.write_to(scene.file)
    async with scene.running():
        scene.outbox.add(event(1))
    assert ids(scene.file.read_bytes()) == [1]


async def test_without_an_output_nothing_is_written_and_all_is_kept(scene: Scene) -> None:
    scene.outbox.add(event(1))
    async with scene.running():
        await scene.until(lambda: scene.waiting == 0)
        scene.write_to(scene.file)
        await scene.until_written(1)
        scene.write_to(None)
        scene.outbox.add(event(2))
        await asyncio.sleep(0)
        scene.write_to(scene.file)
        await scene.until_written(1, 2)
        scene.write_to(None)
        scene.outbox.add(event(3))
    assert [row.event and row.event.run.job_id for row in scene.outbox.rows] == [3]


@pytest.mark.usefixtures("impatient")
async def test_another_output_takes_over_where_the_last_one_is_blocked(scene: Scene) -> None:
    """A pipe whose reader has stopped holds a reload up as little as anything else."""
    pipe = scene.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    lines = range(1, 1_001)
    for job_id in lines:
        scene.outbox.add(event(job_id))
    scene.write_to(pipe)
    with capture_logs() as log:
        async with scene.running():
            await scene.until(lambda: any(line.get("error") == delivery.STOPPED for line in log))
            assert scene.waiting == len(scene.outbox.rows) > 0
            scene.write_to(scene.file)
            await scene.until(lambda: not scene.outbox.rows)
    read = ids(os.read(reader, 2**20))
    os.close(reader)
    assert read + ids(scene.file.read_bytes()) == list(lines)
    assert told(log)[0] == ("warning", "events not written; they are kept")


@pytest.mark.usefixtures("impatient")
async def test_how_many_wait_is_told_while_a_slow_output_takes_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_BATCH_EVENTS", 1)
    for job_id in range(1, 301):
        scene.outbox.add(event(job_id))
    scene.write_to(scene.file)
    with capture_logs():
        async with scene.running(grace_seconds=20):
            await scene.until(lambda: scene.waiting and 0 < scene.waiting < 300)
    assert scene.waiting == 0


async def test_an_output_that_fails_is_tried_again_and_told_once(scene: Scene) -> None:
    missing = scene.folder / "missing"
    scene.file = missing / "events.log"
    scene.write_to(scene.file)
    with capture_logs() as log:
        async with scene.running():
            scene.outbox.add(event(1))
            await scene.until(lambda: scene.waiting == 1)
            scene.outbox.add(event(2))
            await scene.until(lambda: scene.waiting == 2)
            missing.mkdir()
            await scene.until_written(1, 2)
            await scene.until(lambda: len(told(log)) == 2)
    assert told(log) == [
        ("warning", "events not written; they are kept"),
        ("info", "events are written again"),
    ]
    assert log[0]["error"] == "No such file or directory"
    assert log[0]["to"] == str(scene.file)


async def test_a_ledger_that_fails_is_tried_again(scene: Scene) -> None:
    scene.outbox.broken = True
    scene.write_to(scene.file)
    with capture_logs() as log:
        async with scene.running():
            scene.outbox.add(event(1))
            await scene.until(lambda: log)
            scene.outbox.broken = False
            await scene.until_written(1)
    assert told(log) == [
        ("warning", "events not read from the ledger"),
        ("info", "events are read again"),
    ]


async def test_what_is_written_and_cannot_be_deleted_is_not_written_again_while_it_runs(scene: Scene) -> None:
    scene.outbox.add(event(1))
    scene.write_to(scene.file)
    written = scene.outbox.events_written
    refusals = 3

    async def refuse(ids: Sequence[int]) -> None:
        nonlocal refusals
        refusals -= 1
        scene.outbox.broken = refusals > 0
        await written(ids)

    scene.outbox.events_written = refuse  # type: ignore[method-assign]
    with capture_logs():
        async with scene.running():
            await scene.until(lambda: not scene.outbox.rows)
    assert ids(scene.file.read_bytes()) == [1]


async def test_an_event_that_meets_a_fault_is_left_out_and_counted(scene: Scene) -> None:
    class Faulty(Secrets):
        def masked(self, text: str) -> str:
            if text == "bad":
                raise RuntimeError("a fault")
            return text

    scene.delivery._masks = Faulty()
    for job_id, text in enumerate(("good", "bad", "bad", "good", "bad"), start=1):
        scene.outbox.add(event(job_id, msg_error=text))
    scene.write_to(scene.file)
    with capture_logs() as log:
        async with scene.running():
            await scene.until(lambda: not scene.outbox.rows)
    assert ids(scene.file.read_bytes()) == [1, 4]
    assert scene.dropped == 3
    assert told(log) == [("error", "event left out: a fault of the exporter, please report it")]


async def test_dropped_events_are_counted_and_told_while_the_output_is_blocked(scene: Scene) -> None:
    scene.write_to(scene.folder)  # a folder takes no lines
    with capture_logs() as log:
        async with scene.running():
            scene.outbox.add(event(1), dropped=3)
            await scene.until(lambda: scene.dropped == 3)
            scene.outbox.add(event(2), dropped=4)
            await scene.until(lambda: scene.dropped == 7)
            scene.write_to(scene.file)
            await scene.until_written(1, 2)
            await scene.until(lambda: any(line["event"] == "no more events dropped" for line in log))
    assert [line for line in told(log) if line[0] == "error"] == [("error", "events dropped")]


async def test_events_that_are_damaged_are_left_out_and_counted(scene: Scene) -> None:
    for one in (None, event(1), None, None, event(2), None):
        scene.outbox.add(one)
    scene.write_to(scene.file)
    with capture_logs() as log:
        async with scene.running():
            await scene.until(lambda: not scene.outbox.rows)
    assert ids(scene.file.read_bytes()) == [1, 2]
    assert scene.dropped == 4
    assert log[0]["error"] == "the ledger is damaged"


@pytest.mark.usefixtures("impatient")
async def test_a_reader_that_has_stopped_does_not_hold_up_the_end(scene: Scene) -> None:
    """What was written by then is not written again after a restart; what was not, is."""
    pipe = scene.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    lines = range(1, 1_001)
    for job_id in lines:
        scene.outbox.add(event(job_id))
    scene.write_to(pipe)
    with capture_logs() as log:
        async with asyncio.timeout(60), scene.running(grace_seconds=0.2):
            await scene.until(lambda: log)
    assert told(log)[-1] == ("info", "events wait in the ledger for the next start")
    read = ids(os.read(reader, 2**20))
    os.close(reader)
    assert read + [row.event.run.job_id for row in scene.outbox.rows if row.event] == list(lines)
