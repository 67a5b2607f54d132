from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from exporter.exposition import publication
from exporter.exposition.publication import Publisher
from exporter.exposition.render import Exposition, FamilyLines, TargetLines, render_target
from exporter.model import CounterValue, SeriesKey, TargetSnapshot, Totals
from tests.snapshots import TOTALS, named


class Instrument:
    """Self metrics that remember their threads and, while `gate` is closed, keep a round from ending."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def render(self) -> list[list[FamilyLines]]:
        if self.broken:
            raise RuntimeError("broken instrument")
        self.threads.append(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(10)
        lines = f"# HELP instrument Help.\n# TYPE instrument gauge\ninstrument {len(self.threads)}\n".encode()
        return [[FamilyLines.of(lines, lines)]]


@pytest.fixture
def instrument() -> Instrument:
    return Instrument()


@pytest.fixture
def idle(instrument: Instrument) -> Publisher:
    """A publisher that does not run."""
    return Publisher(instrument, rest_seconds=0.05)


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[Publisher]:
    task = asyncio.create_task(publisher.run())
    yield publisher
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def publisher(idle: Publisher) -> AsyncIterator[Publisher]:
    async with running(idle):
        yield idle


@pytest.fixture
async def resting(instrument: Instrument) -> AsyncIterator[Publisher]:
    """A publisher that rests for an hour after each round, unless something hurries it."""
    async with running(Publisher(instrument, rest_seconds=3600)) as publisher:
        yield publisher


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The projects that are rendered, in order."""
    projects: list[str] = []

    def render(snapshot: TargetSnapshot, before: TargetLines | None = None) -> TargetLines:
        projects.append(snapshot.target.project)
        return render_target(snapshot, before)

    monkeypatch.setattr(publication, "render_target", render)
    return projects


def shown(publisher: Publisher) -> str:
    return publisher.exposition.text.plain.decode()


def test_there_is_something_to_scrape_before_anything_is_published(idle: Publisher) -> None:
    assert "# TYPE octopus_jobs gauge\n" in shown(idle)
    assert "\ninstrument " in shown(idle)


async def test_what_is_published_is_shown_after_a_flush(publisher: Publisher) -> None:
    publisher.publish(named("a"))
    await publisher.flush()
    assert 'octopus_up{project="a",workspace="0"} 1' in shown(publisher)
    assert b'octopus_up{project="a",workspace="0"} 1' in publisher.exposition.openmetrics.plain


async def test_only_the_target_that_changed_is_rendered_again(
    publisher: Publisher, rendered: list[str]
) -> None:
    publisher.publish(named("a"))
    publisher.publish(named("b"))
    await publisher.flush()
    publisher.publish(named("b", stale=True))
    await publisher.flush()
    assert rendered == ["a", "b", "b"]
    assert 'octopus_jobs{project="a"' in shown(publisher)
    assert 'octopus_jobs{project="b"' not in shown(publisher)


async def test_a_withdrawn_target_is_gone(publisher: Publisher) -> None:
    publisher.publish(named("a"))
    publisher.publish(named("b"))
    await publisher.flush()
    publisher.withdraw(named("a").target.key)
    await publisher.flush()
    assert 'project="a"' not in shown(publisher)
    assert 'project="b"' in shown(publisher)


async def test_instruments_are_rendered_when_asked(publisher: Publisher) -> None:
    before = shown(publisher)
    publisher.refresh()
    await publisher.flush()
    assert shown(publisher) != before


async def test_rendering_leaves_the_event_loop_alone(publisher: Publisher, instrument: Instrument) -> None:
    instrument.threads.clear()
    publisher.publish(named("a"))
    await publisher.flush()
    assert threading.get_ident() not in instrument.threads


async def test_a_round_under_way_shows_the_last_one_and_what_comes_meanwhile_shares_the_next(
    publisher: Publisher, instrument: Instrument, rendered: list[str]
) -> None:
    publisher.publish(named("a"))
    await publisher.flush()
    before = publisher.exposition
    instrument.entered.clear()
    instrument.gate.clear()
    publisher.publish(named("b"))
    await asyncio.to_thread(instrument.entered.wait, 60)
    for project in ("c", "a", "a"):
        publisher.publish(named(project))
        await asyncio.sleep(0)
    assert publisher.exposition is before
    instrument.gate.set()
    await publisher.flush()
    assert rendered == ["a", "b", "a", "c"]
    assert 'octopus_up{project="c",workspace="0"} 1' in shown(publisher)


async def test_instruments_that_cannot_be_rendered_stay_as_they_were(
    publisher: Publisher, instrument: Instrument
) -> None:
    before = [line for line in shown(publisher).splitlines() if line.startswith("instrument ")]
    instrument.broken = True
    with capture_logs() as logged:
        for workspace in ("0", "1"):
            publisher.publish(named("a", workspace))
            await publisher.flush()
    assert 'octopus_up{project="a",workspace="1"} 1' in shown(publisher)
    assert [line for line in shown(publisher).splitlines() if line.startswith("instrument ")] == before
    assert [str(line["exc_info"]) for line in logged if "exc_info" in line] == ["broken instrument"]
    instrument.broken = False
    publisher.refresh()
    await publisher.flush()
    assert [line for line in shown(publisher).splitlines() if line.startswith("instrument ")] != before


@pytest.fixture
def unrenderable(monkeypatch: pytest.MonkeyPatch) -> list[Totals]:
    """Totals that meet a fault when they are rendered."""
    broken: list[Totals] = []

    def render(snapshot: TargetSnapshot, before: TargetLines | None = None) -> TargetLines:
        if any(snapshot.totals is totals for totals in broken):
            raise ZeroDivisionError("in the midst of it")
        return render_target(snapshot, before)

    monkeypatch.setattr(publication, "render_target", render)
    return broken


async def test_a_target_that_cannot_be_rendered_is_shown_as_failing_and_the_others_as_ever(
    publisher: Publisher, unrenderable: list[Totals]
) -> None:
    publisher.publish(named("a"))
    await publisher.flush()
    counted = [line for line in shown(publisher).splitlines() if "completed_total" in line]
    unrenderable.append(replace(TOTALS, baseline_ms=1))
    with capture_logs() as logged:
        for _ in range(3):
            publisher.publish(named("a", totals=unrenderable[0]))
            publisher.publish(named("b"))
            await publisher.flush()
    assert 'octopus_up{project="a",workspace="0"} 0' in shown(publisher)
    assert 'octopus_up{project="b",workspace="0"} 1' in shown(publisher)
    assert set(counted) <= set(shown(publisher).splitlines())
    (error,) = [snapshot.poll.error for snapshot in publisher.snapshots if snapshot.target.project == "a"]
    assert error is not None
    assert error.reason == "internal"
    assert "ZeroDivisionError: in the midst of it" in error.message
    assert [line["log_level"] for line in logged] == ["error", "debug", "debug"]
    publisher.publish(named("a"))
    await publisher.flush()
    assert 'octopus_up{project="a",workspace="0"} 1' in shown(publisher)


async def test_a_target_that_was_never_rendered_is_shown_as_failing_without_numbers(
    publisher: Publisher, unrenderable: list[Totals]
) -> None:
    unrenderable.append(TOTALS)
    publisher.publish(named("a"))
    await publisher.flush()
    assert 'octopus_up{project="a",workspace="0"} 0' in shown(publisher)
    assert "octopus_jobs_completed_total{" not in shown(publisher)


def test_once_is_rendered_at_once(idle: Publisher) -> None:
    idle.publish(named("a"))
    assert 'octopus_up{project="a",workspace="0"} 1' not in shown(idle)
    bodies = idle.render_now()
    assert b'octopus_up{project="a",workspace="0"} 1' in bodies.text.plain
    assert bodies is idle.exposition


def test_snapshots_are_sorted_by_target(idle: Publisher) -> None:
    for snapshot in (named("b"), named("a", "1"), named("a", "0")):
        idle.publish(snapshot)
    keys = [(snapshot.target.project, snapshot.target.workspace) for snapshot in idle.snapshots]
    assert keys == [("a", "0"), ("a", "1"), ("b", "0")]


async def test_a_snapshot_is_shown_once_it_can_be_scraped(
    publisher: Publisher, instrument: Instrument
) -> None:
    """Readiness goes by this: what is published is not yet what a scrape gets."""
    instrument.gate.clear()
    publisher.publish(named("early"))
    assert publisher.shown == ()
    instrument.gate.set()
    await publisher.flush()
    assert [snapshot.target.project for snapshot in publisher.shown] == ["early"]


def failed(code: str, times: int, project: str = "a") -> TargetSnapshot:
    """A snapshot with a series of its own for an error code."""
    key = ("FRAME_EXTRACT", "RUN_FAILED", code)
    return named(project, totals=replace(TOTALS, failures={**TOTALS.failures, key: CounterValue(times)}))


def failures(publisher: Publisher, code: str) -> list[str]:
    """The values shown of that series."""
    lines = [line for line in shown(publisher).splitlines() if f'msg_code="{code}"' in line]
    return [line.split()[-1] for line in lines]


async def next_round(publisher: Publisher, before: Exposition) -> Exposition:
    """Wait until something else is shown."""
    async with asyncio.timeout(60):
        while publisher.exposition is before:
            await asyncio.sleep(0.002)
    return publisher.exposition


async def test_a_round_shows_the_last_of_what_was_published(
    publisher: Publisher, instrument: Instrument
) -> None:
    publisher.publish(failed("E1", 3))
    await publisher.flush()
    bodies, seen = publisher.exposition, []
    instrument.entered.clear()
    instrument.gate.clear()
    publisher.publish(failed("E1", 3, "b"))
    await asyncio.to_thread(instrument.entered.wait, 60)  # so that a round is under way
    for snapshot in (failed("E2", 0), failed("E2", 4), failed("E2", 5)):
        publisher.publish(snapshot)
    instrument.gate.set()
    for _ in range(2):
        bodies = await next_round(publisher, bodies)
        seen.append(failures(publisher, "E2"))
    assert seen == [[], ["5"]]


async def test_each_round_tells_which_new_series_it_shows_at_0(instrument: Instrument) -> None:
    told: list[Exposition] = []
    key = SeriesKey("failures", "FRAME_EXTRACT", "RUN_FAILED", "E1")
    new = failed("E1", 0)
    assert new.totals is not None
    new = replace(new, totals=replace(new.totals, held=frozenset({key})))
    async with running(Publisher(instrument, rest_seconds=0.05, on_shown=told.append)) as publisher:
        for snapshot in (new, named("b"), failed("E1", 2)):
            publisher.publish(snapshot)
            await publisher.flush()
            assert told[-1] is publisher.exposition
    assert [bodies.held for bodies in told] == [{new.target.key: {key}}] * 2 + [{}]
    assert [b'msg_code="E1"} 0\n' in bodies.text.plain for bodies in told] == [True, True, False]


async def test_rounds_rest_once_everything_has_been_shown(resting: Publisher) -> None:
    resting.publish(failed("E1", 1))
    await resting.flush()
    before = resting.exposition
    resting.publish(failed("E1", 2))
    await asyncio.sleep(0.2)
    assert resting.exposition is before
    await resting.flush()
    assert failures(resting, "E1") == ["2"]


@pytest.mark.parametrize("rounds", ["_REST_ROUNDS", "_HURRIED_ROUNDS"])
async def test_a_long_round_does_not_make_an_endless_rest(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, rounds: str
) -> None:
    monkeypatch.setattr(publication, rounds, 1e9)
    monkeypatch.setattr(publication, "_REST_SECONDS_AT_MOST", 0.01)
    bodies = publisher.exposition
    for number in range(3):
        publisher.publish(failed("E1", number))
        bodies = await next_round(publisher, bodies)


async def test_what_is_shown_for_the_first_time_does_not_wait_for_a_rest_to_end(
    resting: Publisher,
) -> None:
    """Readiness waits for it."""
    bodies = resting.exposition
    resting.publish(named("a"))
    resting.publish(named("b", totals=None))
    bodies = await next_round(resting, bodies)
    resting.publish(named("b"))
    await next_round(resting, bodies)
    assert {snapshot.target.project for snapshot in resting.shown if snapshot.totals} == {"a", "b"}


@pytest.mark.parametrize("what", ["withdraw", "refresh"])
async def test_what_a_reload_changes_does_not_wait_for_a_rest_to_end(resting: Publisher, what: str) -> None:
    resting.publish(named("a"))
    await resting.flush()
    bodies = resting.exposition
    if what == "withdraw":
        resting.withdraw(named("a").target.key)
    else:
        resting.refresh()
    await next_round(resting, bodies)
    assert ('project="a"' in shown(resting)) == (what == "refresh")


def test_once_shows_the_last_of_what_was_published(idle: Publisher) -> None:
    for snapshot in (named("a", totals=None), failed("E1", 0), failed("E1", 2)):
        idle.publish(snapshot)
    idle.render_now()
    assert failures(idle, "E1") == ["2"]


async def test_the_end_does_not_wait_for_targets_that_are_not_rendered_yet(
    idle: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate, projects = threading.Event(), threading.Event(), list[str]()

    def render(snapshot: TargetSnapshot, before: TargetLines | None = None) -> TargetLines:
        projects.append(snapshot.target.project)
        entered.set()
        assert gate.wait(10)
        return render_target(snapshot, before)

    monkeypatch.setattr(publication, "render_target", render)
    for number in range(9):
        idle.publish(named(f"p{number}"))
    async with running(idle):
        assert await asyncio.to_thread(entered.wait, 10)
    gate.set()
    async with asyncio.timeout(60):
        while any(thread.name.startswith("render") for thread in threading.enumerate()):
            await asyncio.sleep(0.01)
    assert projects == ["p0"]
