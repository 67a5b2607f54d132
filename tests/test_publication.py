from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from exporter.exposition import publication
from exporter.exposition.publication import Publisher
from exporter.exposition.render import TargetParts, render_target
from exporter.model import TargetSnapshot
from tests.snapshots import named


class Instrument:
    """A collector that remembers its threads and, while `gate` is closed, keeps a round from ending."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def collect(self) -> Iterator[Metric]:
        if self.broken:
            raise RuntimeError("broken instrument")
        self.threads.append(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(10)
        yield GaugeMetricFamily("instrument", "Help.", value=len(self.threads))


@pytest.fixture
def instrument() -> Instrument:
    return Instrument()


@pytest.fixture
def idle(instrument: Instrument) -> Publisher:
    """A publisher that does not run."""
    return Publisher(instrument)


@pytest.fixture
async def publisher(idle: Publisher) -> AsyncIterator[Publisher]:
    running = asyncio.create_task(idle.run())
    yield idle
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The projects that are rendered, in order."""
    projects: list[str] = []

    def render(snapshot: TargetSnapshot) -> TargetParts:
        projects.append(snapshot.target.project)
        return render_target(snapshot)

    monkeypatch.setattr(publication, "render_target", render)
    return projects


def shown(publisher: Publisher) -> str:
    return publisher.bodies.text.plain.decode()


def test_there_is_something_to_scrape_before_anything_is_published(idle: Publisher) -> None:
    assert "# TYPE octopus_jobs gauge\n" in shown(idle)
    assert "\ninstrument " in shown(idle)


async def test_what_is_published_is_shown_after_a_flush(publisher: Publisher) -> None:
    publisher.publish(named("a"))
    await publisher.flush()
    assert 'octopus_up{project="a",workspace="0"} 1' in shown(publisher)
    assert b'octopus_up{project="a",workspace="0"} 1' in publisher.bodies.openmetrics.plain


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
    before = publisher.bodies
    instrument.entered.clear()
    instrument.gate.clear()
    publisher.publish(named("b"))
    await asyncio.to_thread(instrument.entered.wait, 10)
    for project in ("c", "d", "d"):
        publisher.publish(named(project))
        await asyncio.sleep(0)
    assert publisher.bodies is before
    instrument.gate.set()
    await publisher.flush()
    assert rendered == ["a", "b", "c", "d"]
    assert 'octopus_up{project="d",workspace="0"} 1' in shown(publisher)


async def test_a_rendering_that_fails_ends_the_loop_and_keeps_what_is_shown(
    idle: Publisher, instrument: Instrument
) -> None:
    before = idle.bodies
    instrument.broken = True
    idle.publish(named("a"))
    with pytest.raises(RuntimeError, match="broken instrument"):
        await asyncio.wait_for(idle.run(), 10)
    assert idle.bodies is before


def test_once_is_rendered_at_once(idle: Publisher) -> None:
    idle.publish(named("a"))
    assert 'octopus_up{project="a",workspace="0"} 1' not in shown(idle)
    bodies = idle.render_now()
    assert b'octopus_up{project="a",workspace="0"} 1' in bodies.text.plain
    assert bodies is idle.bodies


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
