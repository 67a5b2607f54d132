"""
From snapshots to the bytes a scrape is given: rendered when something is published, never at a scrape.

A publication renders the one target it is about; the bodies are then put together by copying, in a thread,
and replaced all at once. Publications that come meanwhile share the next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass

from prometheus_client.registry import Collector

from exporter.exposition.instruments import render_collector
from exporter.exposition.render import Bodies, TargetParts, join, render_target
from exporter.model import TargetKey, TargetSnapshot

Snapshots = tuple[TargetSnapshot, ...]


@dataclass(frozen=True, slots=True)
class _Rendered:
    snapshot: TargetSnapshot
    parts: TargetParts


@dataclass(frozen=True, slots=True)
class _Round:
    """One rendering of everything: what of it can be used again, and what is shown."""

    targets: Mapping[TargetKey, _Rendered]
    bodies: Bodies


class Publisher:
    """
    Keeps the last snapshot of every target and the bodies made of them.

    Use it from one event loop; `run` is what renders. `instruments` are rendered anew in every round.
    """

    def __init__(self, instruments: Collector) -> None:
        self._instruments = instruments
        self._snapshots: dict[TargetKey, TargetSnapshot] = {}
        self._wanted = 0
        self._shown = 0
        self._turn = asyncio.Condition()
        self._changed = asyncio.Event()
        self._round = _render((), {}, instruments)

    @property
    def snapshots(self) -> Snapshots:
        """The last snapshot of every target, sorted by key."""
        return tuple(self._snapshots[key] for key in sorted(self._snapshots, key=astuple))

    @property
    def shown(self) -> Snapshots:
        """The snapshots that `bodies` were made of."""
        return tuple(rendered.snapshot for rendered in self._round.targets.values())

    @property
    def bodies(self) -> Bodies:
        return self._round.bodies

    def publish(self, snapshot: TargetSnapshot) -> None:
        """Let this be what is known of its target."""
        self._snapshots[snapshot.target.key] = snapshot
        self.refresh()

    def withdraw(self, key: TargetKey) -> None:
        """Drop a target that is no longer configured."""
        self._snapshots.pop(key, None)
        self.refresh()

    def refresh(self) -> None:
        """Ask for a round though no target has changed: the instruments have."""
        self._wanted += 1
        self._changed.set()

    async def run(self) -> None:
        """Render what is published, for as long as the task lives."""
        # Of its own, so that blocking work on the loop's shared threads cannot hold a publication up.
        renderer = ThreadPoolExecutor(1, "render")
        try:
            while True:
                await self._changed.wait()
                await self._render_in(renderer)
        finally:
            renderer.shutdown(wait=False, cancel_futures=True)

    async def _render_in(self, renderer: ThreadPoolExecutor) -> None:
        self._changed.clear()
        wanted = self._wanted
        loop = asyncio.get_running_loop()
        known = self._round.targets
        self._round = await loop.run_in_executor(renderer, _render, self.snapshots, known, self._instruments)
        async with self._turn:
            self._shown = wanted
            self._turn.notify_all()

    async def flush(self) -> None:
        """Wait until all that is published so far is in `bodies`; `run` must be running."""
        wanted = self._wanted
        async with self._turn:
            await self._turn.wait_for(lambda: self._shown >= wanted)

    def render_now(self) -> Bodies:
        """Render at once and in this thread, for a program that does not `run`."""
        self._round = _render(self.snapshots, self._round.targets, self._instruments)
        self._shown = self._wanted
        self._changed.clear()
        return self.bodies


def _render(snapshots: Snapshots, known: Mapping[TargetKey, _Rendered], instruments: Collector) -> _Round:
    targets = {
        snapshot.target.key: _again(known.get(snapshot.target.key), snapshot) for snapshot in snapshots
    }
    bodies = join((rendered.parts for rendered in targets.values()), render_collector(instruments))
    return _Round(targets, bodies)


def _again(known: _Rendered | None, snapshot: TargetSnapshot) -> _Rendered:
    if known is not None and known.snapshot is snapshot:
        return known
    return _Rendered(snapshot, render_target(snapshot))
