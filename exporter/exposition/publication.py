"""
From snapshots to the bytes a scrape is given: rendered when something is published, never at a scrape.

A round renders what has changed of the targets that were published since the last one, puts the bodies
together by copying, in a thread, and replaces them all at once. Rounds do not follow each other closely: with
many targets there would be no end to them, and nobody scrapes so often.

A target that cannot be rendered, by a fault of this program, is shown as failing with its last numbers; the
others are shown as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog
from prometheus_client.registry import Collector

from exporter.errors import InternalFault
from exporter.exposition.instruments import render_collector
from exporter.exposition.render import Exposition, FamilyLines, TargetParts, join, render_target
from exporter.model import Fault, TargetKey, TargetSnapshot
from exporter.state_log import FaultLog

Snapshots = tuple[TargetSnapshot, ...]

_REST_SECONDS = 0.5
# Rendering takes a fifth of the time at most, and half of it while there is something to be shown at last.
_REST_ROUNDS = 4.0


@dataclass(frozen=True, slots=True)
class _Round:
    """
    One rendering of everything: what of it can be used again, and what is shown.

    Shape: `faults` by the target that could not be rendered, None for the instruments.
    """

    targets: Mapping[TargetKey, TargetParts]
    live: FamilyLines
    bodies: Exposition
    faults: Mapping[TargetKey | None, Exception] = field(default_factory=dict)


def _nothing(_bodies: Exposition) -> None:
    """Tell nobody of a round."""


class Publisher:
    """
    Keeps the last snapshot of every target and the bodies made of them.

    Use it from one event loop; `run` is what renders. `instruments` are rendered anew in every round.
    `on_shown` is told of the bodies that every round has made, once they are what a scrape gets. Units:
    `rest_seconds` is the least time between two rounds that nobody waits for.
    """

    def __init__(
        self,
        instruments: Collector,
        *,
        rest_seconds: float = _REST_SECONDS,
        on_shown: Callable[[Exposition], None] = _nothing,
    ) -> None:
        self._instruments = instruments
        self._rest_seconds = rest_seconds
        self._on_shown = on_shown
        self._snapshots: dict[TargetKey, TargetSnapshot] = {}
        self._wanted = 0
        self._shown = 0
        self._flushed = 0
        self._turn = asyncio.Condition()
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._urgent = asyncio.Event()
        self._faults: dict[TargetKey | None, FaultLog] = {}
        self._round = _render((), None, instruments)

    @property
    def snapshots(self) -> Snapshots:
        """The last snapshot of every target, or the one shown of it where it cannot be rendered, by key."""
        broken = {key: self._round.targets[key].snapshot for key in self._round.faults if key is not None}
        return tuple(broken.get(key) or self._snapshots[key] for key in self._keys())

    @property
    def shown(self) -> Snapshots:
        """The snapshots that `bodies` were made of."""
        return tuple(rendered.snapshot for rendered in self._round.targets.values())

    @property
    def bodies(self) -> Exposition:
        return self._round.bodies

    def publish(self, snapshot: TargetSnapshot) -> None:
        """Let this be what is known of its target."""
        key = snapshot.target.key
        self._snapshots[key] = snapshot
        if snapshot.totals is not None and not self._shows_jobs(key):
            self._hurry.set()
        self._ask()

    def _shows_jobs(self, key: TargetKey) -> bool:
        """Tell whether the jobs of a target are shown already; readiness waits for that."""
        shown = self._round.targets.get(key)
        return shown is not None and shown.snapshot.totals is not None

    def withdraw(self, key: TargetKey) -> None:
        """Drop a target that is no longer configured."""
        self._snapshots.pop(key, None)
        self._faults.pop(key, None)
        self.refresh()

    def refresh(self) -> None:
        """Ask for a round at once though no target has changed: the instruments have."""
        self._ask()
        self._hurry.set()
        self._urgent.set()

    def _ask(self) -> None:
        self._wanted += 1
        self._changed.set()

    async def run(self) -> None:
        """Render what is published, for as long as the task lives."""
        # Of its own, so that blocking work on the loop's shared threads cannot hold a publication up.
        renderer = ThreadPoolExecutor(1, "render")
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._changed.wait()
                began = loop.time()
                await self._render_in(renderer)
                await self._rest(loop.time() - began)
        finally:
            renderer.shutdown(wait=False, cancel_futures=True)

    async def _render_in(self, renderer: ThreadPoolExecutor) -> None:
        for event in (self._changed, self._hurry, self._urgent):
            event.clear()
        wanted, snapshots = self._wanted, self._published()
        loop = asyncio.get_running_loop()
        try:
            round_ = await loop.run_in_executor(renderer, _render, snapshots, self._round, self._instruments)
        except Exception as exc:
            round_ = replace(self._round, faults={None: exc})
        self._end_round(round_)
        async with self._turn:
            self._shown = wanted
            self._turn.notify_all()

    def _end_round(self, round_: _Round) -> None:
        """Show what was rendered, and log what could not be."""
        self._round = round_
        for key in self._faults.keys() - round_.faults.keys():
            self._faults.pop(key)
        for key, exc in round_.faults.items():
            words = {} if key is None else {"project": key.project, "workspace": key.workspace}
            self._faults.setdefault(key, FaultLog(structlog.get_logger(), **words)).log(
                "rendering failed", exc
            )
        self._on_shown(round_.bodies)

    def _published(self) -> Snapshots:
        return tuple(self._snapshots[key] for key in self._keys())

    async def _rest(self, seconds: float) -> None:
        """Let a round that took so long be followed by a rest, shorter where somebody waits for the next."""
        if self._shown >= self._flushed:
            await _unless(self._urgent, seconds)
            await _unless(self._hurry, max(self._rest_seconds, _REST_ROUNDS * seconds) - seconds)

    async def flush(self) -> None:
        """Wait until all that is published so far is in `bodies`; `run` must be running."""
        self._flushed = wanted = self._wanted
        self._hurry.set()
        self._urgent.set()
        async with self._turn:
            await self._turn.wait_for(lambda: self._shown >= wanted)

    def render_now(self) -> Exposition:
        """Render at once and in this thread, for a program that does not `run`."""
        self._end_round(_render(self._published(), self._round, self._instruments))
        self._shown = self._wanted
        self._changed.clear()
        return self.bodies

    def _keys(self) -> list[TargetKey]:
        return sorted(self._snapshots, key=lambda key: (key.project, key.project_id, key.workspace, key.path))


async def _unless(event: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the event."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _render(snapshots: Snapshots, before: _Round | None, instruments: Collector) -> _Round:
    known, bodies = (before.targets, before.bodies) if before is not None else ({}, None)
    faults: dict[TargetKey | None, Exception] = {}
    targets: dict[TargetKey, TargetParts] = {}
    for snapshot in snapshots:
        key = snapshot.target.key
        try:
            targets[key] = _again(known.get(key), snapshot)
        except Exception as exc:
            faults[key] = exc
            targets[key] = _as_failing(known.get(key), snapshot, exc)
    try:
        live = render_collector(instruments)
    except Exception as exc:
        if before is None:
            raise
        faults[None], live = exc, before.live
    return _Round(targets, live, join(targets.values(), live, before=bodies), faults)


def _again(known: TargetParts | None, snapshot: TargetSnapshot) -> TargetParts:
    if known is not None and known.snapshot is snapshot:
        return known
    return render_target(snapshot, known)


def _as_failing(known: TargetParts | None, snapshot: TargetSnapshot, exc: Exception) -> TargetParts:
    """Show a target that cannot be rendered as one whose polls fail, with the numbers shown before."""
    error = snapshot.poll.error or Fault("internal", str(InternalFault(exc)), snapshot.poll.last_poll_ms or 0)
    poll = replace(snapshot.poll, up=False, error=error)
    shown = None if known is None else known.snapshot.totals
    for totals in (shown, None):
        with suppress(Exception):
            return render_target(replace(snapshot, totals=totals, poll=poll))
    return TargetParts(replace(snapshot, totals=None, poll=poll), {})
