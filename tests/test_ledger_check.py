"""When a ledger is checked before it is used, and that nothing is written to it until then."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter.config import Config
from exporter.errors import LedgerError, StartError
from exporter.ledger import thread
from exporter.ledger.sqlite import SqliteLedger
from exporter.runtime import open_runtime
from tests.fake_api import COUNTING, a_target
from tests.ledger_scene import Scene


class Checks:
    """
    The checks that were made; they wait until `may_go_on`, and find what `problem` says.

    Shape: `paths` are the files that were checked.
    """

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.problem: str | None = None

    def check(self, path: Path) -> None:
        self.paths.append(path)
        self.may_go_on.wait()
        if self.problem is not None:
            raise StartError(self.problem)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checks]:
    checks = Checks()
    monkeypatch.setattr(thread, "check", checks.check)
    yield checks
    checks.may_go_on.set()


@pytest.fixture
async def scene(tmp_path: Path, checks: Checks) -> Scene:
    """A ledger that was used and closed."""
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    scene.run_job(1)
    await scene.poll()
    await scene.ledger.close()
    assert mark(scene).exists()
    assert checks.paths == []  # it was new
    return scene


def mark(scene: Scene) -> Path:
    return scene.file.with_name("ledger.db-closed")


async def reopened(file: Path) -> None:
    await (await SqliteLedger.open(file)).close()


async def test_a_ledger_that_was_closed_is_not_checked(scene: Scene, checks: Checks) -> None:
    for _ in range(2):
        await reopened(scene.file)
    assert checks.paths == []


async def test_while_it_is_used_nothing_says_that_it_was_closed(scene: Scene) -> None:
    """Neither before its first write nor later: a power cut may come at any time."""
    await scene.open()
    assert not mark(scene).exists()
    await scene.ledger.close()
    assert mark(scene).exists()


async def test_readers_of_a_closed_ledger_leave_it_as_closed(scene: Scene, checks: Checks) -> None:
    await (await SqliteLedger.open_to_read(scene.file)).close()
    await reopened(scene.file)
    assert checks.paths == []


KILLED = """
import asyncio, os, pathlib, sys
from exporter.ledger.sqlite import SqliteLedger
async def main():
    await SqliteLedger.open(pathlib.Path(sys.argv[1]))
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def test_what_a_killed_process_leaves_is_checked(scene: Scene, checks: Checks) -> None:
    """Also where it had not written anything yet."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(scene.file))
    assert await process.wait() == -9
    await reopened(scene.file)
    assert checks.paths == [scene.file]


async def test_a_copy_is_checked(scene: Scene, checks: Checks) -> None:
    copied = scene.file.with_name("copied")
    shutil.copytree(scene.file.parent, copied, copy_function=shutil.copy2)
    await reopened(copied / scene.file.name)
    assert checks.paths == [copied / scene.file.name]


async def test_a_copy_over_the_closed_file_is_checked(scene: Scene, checks: Checks) -> None:
    """It keeps the inode and the size."""
    scene.file.write_bytes(scene.file.read_bytes())
    os.utime(scene.file, (1, 1))
    await reopened(scene.file)
    assert checks.paths == [scene.file]


async def test_what_another_program_has_written_to_is_checked(scene: Scene, checks: Checks) -> None:
    with scene.sql() as db:
        db.execute("UPDATE jobs SET updated_ms = updated_ms + 1")
    await reopened(scene.file)
    assert checks.paths == [scene.file]


async def test_what_is_left_in_the_log_of_another_program_is_checked(scene: Scene, checks: Checks) -> None:
    other = sqlite3.connect(scene.file, isolation_level=None)
    other.execute("UPDATE jobs SET updated_ms = updated_ms + 1")  # is in the log alone
    await reopened(scene.file)
    other.close()
    assert checks.paths == [scene.file]


async def test_a_ledger_that_showed_damage_is_checked_though_it_was_closed(
    scene: Scene, checks: Checks
) -> None:
    await scene.open()
    with scene.sql() as db:
        db.execute("UPDATE targets SET filters = '{'")
    with pytest.raises(LedgerError, match="damaged"):
        await scene.poll()
    with scene.sql() as db:
        db.execute("UPDATE targets SET filters = '{}'")
    await scene.ledger.close()
    await reopened(scene.file)
    assert checks.paths == [scene.file]


async def test_a_ledger_that_is_refused_is_checked_again(scene: Scene, checks: Checks) -> None:
    with scene.sql() as db:
        db.execute("UPDATE targets SET filters = '{'")
    before = scene.file.read_bytes()
    for _ in range(2):
        checks.problem = "damaged: no"
        with pytest.raises(StartError, match="damaged: no"):
            await SqliteLedger.open(scene.file)
        assert scene.file.read_bytes() == before
    assert len(checks.paths) == 2


async def unchecked(scene: Scene, checks: Checks) -> SqliteLedger:
    """Begin to open the ledger, and give it while it is being checked."""
    checks.may_go_on.clear()
    os.utime(scene.file, (1, 1))
    return await SqliteLedger.begin_to_open(scene.file)


async def test_nothing_is_written_before_the_check_has_passed(scene: Scene, checks: Checks) -> None:
    ledger = await unchecked(scene, checks)
    before = scene.file.stat()
    assert not ledger.is_open
    with pytest.raises(LedgerError, match="is being checked"):
        await ledger.restore(a_target(), COUNTING)
    with pytest.raises(LedgerError, match="is being checked"):
        await ledger.begin(a_target())
    assert scene.file.stat() == before
    assert scene.file.with_name("ledger.db-wal").stat().st_size == 0  # readers make it too
    checks.may_go_on.set()
    await ledger.opened()
    assert ledger.is_open
    assert await ledger.restore(a_target(), COUNTING) is not None
    await ledger.close()


async def test_a_stop_does_not_wait_for_the_check(scene: Scene, checks: Checks) -> None:
    ledger = await unchecked(scene, checks)
    await asyncio.to_thread(_until, lambda: checks.paths)
    began = time.monotonic()
    await ledger.close()
    assert time.monotonic() - began < 5  # and not for ever
    assert not checks.may_go_on.is_set()
    checks.may_go_on.set()
    await reopened(scene.file)
    assert checks.paths == [scene.file] * 2


def configured(file: Path) -> Config:
    project = {"id": "p1", "name": "perception", "endpoint": "http://127.0.0.1:9", "workspaces": ["0", "7"]}
    return Config.model_validate(
        {
            "projects": [project],
            "credentials": {"default": {"type": "token", "token": "any"}},
            "ledger": {"url": f"sqlite:///{file}"},
        }
    )


@pytest.mark.parametrize("problem", [None, "damaged: no"])
async def test_the_exporter_says_why_it_is_not_ready_and_ends_if_the_check_fails(
    scene: Scene, checks: Checks, problem: str | None
) -> None:
    checks.problem = problem
    checks.may_go_on.clear()
    os.utime(scene.file, (1, 1))
    config, stop = configured(scene.file), asyncio.Event()
    async with open_runtime(config, lambda: config) as runtime:
        running = asyncio.create_task(runtime.run(stop))
        await asyncio.to_thread(_until, lambda: checks.paths)
        assert runtime.ready() == [
            f"project perception, workspace {workspace}: the ledger is being checked"
            for workspace in ("0", "7")
        ]
        checks.may_go_on.set()
        if problem is not None:
            with pytest.raises(ExceptionGroup) as failed:
                await running
            assert failed.group_contains(StartError, match="damaged: no")
        else:
            while not runtime.publisher.shown:
                await asyncio.sleep(0.01)
            assert all("not polled yet" in line for line in runtime.ready())
            stop.set()
            await running


def _until(look: object) -> None:
    deadline = time.monotonic() + 30
    while not look():  # type: ignore[operator]  # a lambda
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_the_log_shrinks_after_a_long_reader(scene: Scene) -> None:
    """As long as somebody reads, nothing of the log can be written over."""
    await scene.open()
    log = scene.file.with_name("ledger.db-wal")
    with closing(sqlite3.connect(scene.file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchall()
        with scene.sql() as other:
            other.execute("CREATE TABLE notes (text)")
            other.execute("INSERT INTO notes VALUES (zeroblob(30000000))")
        grown = log.stat().st_size
    for job_id in (2, 3, 4):
        scene.run_job(job_id)
        await scene.poll()
    assert (grown > 20_000_000, log.stat().st_size < 17_000_000) == (True, True)
    await scene.ledger.close()
