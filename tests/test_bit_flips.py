"""
Single bits of a ledger's file turned over: the ledger is refused in a line, or works, or its polls fail in a
line. There is no traceback and no hang.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from exporter.counting.rules import EventRules
from exporter.errors import LedgerError, StartError
from exporter.events.lines import line_of
from exporter.exposition.render import render_target
from exporter.ledger.sqlite import SqliteLedger
from exporter.masking import Secrets
from exporter.model import PollStatus, TargetSnapshot, Totals
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import FAILED, Scene

FLIPS = 600
GROUPS = 6
RULES = poll_rules(events=EventRules())
TARGETS = (a_target(), a_target(workspace="7", workspace_id="7"))


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    """A small ledger that has something in every table, and an API with news for it."""
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    for target in TARGETS:
        await scene.poll(target, RULES)
    for job_id in range(1, 13):
        scene.run_job(job_id, msg_code=str(job_id % 3), msg_error="out of memory")
        scene.api.put(
            a_job(100 + job_id, "RUNNING", created_ms=scene.api.now_ms, started_ms=scene.api.now_ms)
        )
    for target in TARGETS:
        await scene.poll(target, RULES)
        await scene.poll(target, RULES)
    await scene.ledger.close()
    scene.run_job(50)
    return scene


@pytest.mark.parametrize("group", range(GROUPS))
async def test_a_bit_that_is_turned_over_ends_nothing(scene: Scene, group: int) -> None:
    sound, chance, outcomes = scene.file.read_bytes(), Random(group), Counter[str]()
    for _ in range(FLIPS // GROUPS):
        bit = chance.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        scene.file.write_bytes(damaged)
        async with asyncio.timeout(60):
            outcomes[await outcome(scene)] += 1
        for beside in scene.file.parent.glob("ledger.db-*"):
            beside.unlink()
    # Most bits of a small ledger are free space or harmless; some are not.
    assert outcomes["refused"] > 0
    assert outcomes["works"] > 0


async def outcome(scene: Scene) -> str:
    """Open the ledger, restore and poll; whatever fails has to say so in one line."""
    try:
        await scene.open()
    except StartError as exc:
        must_be_a_line(exc, scene.file)
        return "refused"
    try:
        for target in TARGETS:
            show(await scene.ledger.restore(target, poll_rules().counting))
            for _ in range(2):
                show(await scene.poll(target, RULES))
        await read_events(scene)
    except LedgerError as exc:
        must_be_a_line(exc, scene.file)
        return "fails"
    finally:
        await scene.ledger.close()
    return "works"


async def read_events(scene: Scene) -> None:
    """Write what waits, as far as it can be read."""
    write = line_of("json", Secrets())
    for waiting in await scene.ledger.waiting_events(100):
        assert waiting.event is None or write(waiting.event).endswith(b"}\n")


def must_be_a_line(exc: Exception, file: Path) -> None:
    assert str(exc).startswith(f"ledger {file}: ")
    assert str(exc).isprintable()
    assert len(str(exc)) < 500


def show(totals: Totals | None) -> None:
    render_target(TargetSnapshot(TARGETS[0], totals, PollStatus()))


async def test_the_ledger_is_sound_before_its_bits_are_turned_over(scene: Scene) -> None:
    assert await outcome(scene) == "works"
    scene.ledger = await SqliteLedger.open(scene.file)
    assert (await scene.poll(TARGETS[0])).completed[FAILED].value == 13
    assert await scene.ledger.count_events() == 26
    await scene.ledger.close()
