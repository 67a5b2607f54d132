"""
Render snapshots to the bytes of a scrape, when something is published and never at a scrape.

A round renders, in a thread, the targets that were published since the last round, assembles the exposition
from old and new lines, and replaces the last exposition in one step. There is a pause between rounds: without
it, rendering would never stop with many targets, and no server scrapes that often.

A target that cannot be rendered, because of a defect of this program, is shown as failing, with its last
numbers. The other targets are not affected.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from exporter.errors import InternalFault
from exporter.exposition.render import Exposition, FamilyLines, TargetLines, assemble, render_target
from exporter.model import Fault, TargetKey, TargetSnapshot
from exporter.state_log import FaultLog

Snapshots = tuple[TargetSnapshot, ...]

_REST_SECONDS = 0.5
# A pause is so many times as long as the round before it: rendering takes a thirtieth of the time, or a fifth
# of it while a target waits to be shown for the first time. However long a round takes, new numbers do not
# wait longer than the last of these.
_REST_ROUNDS = 30.0
_HURRIED_ROUNDS = 4.0
_REST_SECONDS_AT_MOST = 5.0


class SelfMetrics(Protocol):
    """The exporter's metrics of itself."""

    def render(self) -> Sequence[Sequence[FamilyLines]]:
        """Return each family's header and lines. The rendering thread calls this in every round."""


@dataclass(frozen=True, slots=True)
class _Round:
    """
    The result of a round: the lines, which the next round can use again, and the exposition.

    Shape: `faults` by the target that could not be rendered; the key None stands for the instruments.
    """

    targets: Mapping[TargetKey, TargetLines]
    instruments: Sequence[Sequence[FamilyLines]]
    exposition: Exposition
    faults: Mapping[TargetKey | None, Exception] = field(default_factory=dict)


class Publisher:
    """
    Keeps the last snapshot of every target and the exposition made of them.

    Use it from one event loop; `run` renders. `instruments` are rendered in every round. `on_shown` is called
    with the exposition of every round, as soon as scrapes get it. Units: `rest_seconds` is the least time
    between two rounds while nothing is urgent.
    """

    def __init__(
        self,
        instruments: SelfMetrics,
        *,
        rest_seconds: float = _REST_SECONDS,
        on_shown: Callable[[Exposition], None] = lambda _: None,
    ) -> None:
        self._instruments = instruments
        self._rest_seconds = rest_seconds
        self._on_shown = on_shown
        self._snapshots: dict[TargetKey, TargetSnapshot] = {}
        # Publications by number: the last one, the last one shown, and the last one that `flush` waits for.
        self._wanted = 0
        self._shown = 0
        self._flushed = 0
        self._round_ended = asyncio.Condition()
        # _changed: there is something to render. _hurry: end the long pause. _urgent: end every pause.
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._urgent = asyncio.Event()
        self._faults: dict[TargetKey | None, FaultLog] = {}
        self._has_ended = threading.Event()
        self._round = _render((), None, instruments)

    @property
    def snapshots(self) -> Snapshots:
        """The last snapshot of every target, by key; of a target that cannot be rendered, the one shown."""
        broken = {key: self._round.targets[key].snapshot for key in self._round.faults if key is not None}
        return tuple(broken.get(one.target.key) or one for one in self._published())

    @property
    def shown(self) -> Snapshots:
        """The snapshots in `exposition`."""
        return tuple(rendered.snapshot for rendered in self._round.targets.values())

    @property
    def exposition(self) -> Exposition:
        return self._round.exposition

    def publish(self, snapshot: TargetSnapshot) -> None:
        """Replace the snapshot of its target."""
        key = snapshot.target.key
        self._snapshots[key] = snapshot
        shown = self._round.targets.get(key)
        if snapshot.totals is not None and (shown is None or shown.snapshot.totals is None):
            # The target's jobs are not shown yet, and readiness waits for them.
            self._hurry.set()
        self._request_round()

    def last(self, key: TargetKey) -> TargetSnapshot | None:
        """Return what was published last of a target, shown or not."""
        return self._snapshots.get(key)

    def withdraw(self, key: TargetKey) -> None:
        """Drop a target that is no longer configured."""
        self._snapshots.pop(key, None)
        self._faults.pop(key, None)
        self.refresh()

    def refresh(self) -> None:
        """Request a round at once because the instruments have changed."""
        self._request_round()
        self._hurry.set()
        self._urgent.set()

    def _request_round(self) -> None:
        self._wanted += 1
        self._changed.set()

    async def run(self) -> None:
        """Render whenever something is published, until the task is cancelled."""
        # A thread for rendering alone: blocking work in the loop's shared threads cannot delay a publication.
        renderer = ThreadPoolExecutor(1, "render")
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._changed.wait()
                began = loop.time()
                await self._render_in(renderer)
                seconds = loop.time() - began
                if self._shown >= self._flushed:
                    hurried = min(_HURRIED_ROUNDS * seconds, _REST_SECONDS_AT_MOST)
                    rest = min(_REST_ROUNDS * seconds, _REST_SECONDS_AT_MOST)
                    await _unless(self._urgent, hurried)
                    await _unless(self._hurry, max(self._rest_seconds, rest) - hurried)
        finally:
            # The process does not end before its threads do.
            self._has_ended.set()
            renderer.shutdown(wait=False, cancel_futures=True)

    async def _render_in(self, renderer: ThreadPoolExecutor) -> None:
        for event in (self._changed, self._hurry, self._urgent):
            event.clear()
        wanted, snapshots = self._wanted, self._published()
        loop = asyncio.get_running_loop()
        try:
            round_ = await loop.run_in_executor(
                renderer, _render, self._unless_ended(snapshots), self._round, self._instruments
            )
        except Exception as exc:
            round_ = replace(self._round, faults={None: exc})
        self._end_round(round_)
        async with self._round_ended:
            self._shown = wanted
            self._round_ended.notify_all()

    def _unless_ended(self, snapshots: Snapshots) -> Iterator[TargetSnapshot]:
        for snapshot in snapshots:
            if self._has_ended.is_set():
                return
            yield snapshot

    def _end_round(self, round_: _Round) -> None:
        """Replace the exposition, and log the targets that could not be rendered."""
        self._round = round_
        for key in self._faults.keys() - round_.faults.keys():
            self._faults.pop(key)
        for key, exc in round_.faults.items():
            words = {} if key is None else {"project": key.project, "workspace": key.workspace}
            log = self._faults.setdefault(key, FaultLog(structlog.get_logger(), **words))
            log.log("rendering failed", exc)
        self._on_shown(round_.exposition)

    async def flush(self) -> None:
        """Wait until everything published so far is in `exposition`; `run` must be running."""
        self._flushed = wanted = self._wanted
        self._hurry.set()
        self._urgent.set()
        async with self._round_ended:
            await self._round_ended.wait_for(lambda: self._shown >= wanted)

    def render_now(self) -> Exposition:
        """Render at once and in this thread, for a program that does not `run`."""
        self._end_round(_render(self._published(), self._round, self._instruments))
        self._shown = self._wanted
        self._changed.clear()
        return self.exposition

    def _published(self) -> Snapshots:
        keys = sorted(self._snapshots, key=lambda key: (key.project, key.project_id, key.workspace, key.path))
        return tuple(self._snapshots[key] for key in keys)


async def _unless(event: asyncio.Event, seconds: float) -> None:
    """Wait this long, or until the event."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _render(snapshots: Iterable[TargetSnapshot], before: _Round | None, instruments: SelfMetrics) -> _Round:
    known, exposition = (before.targets, before.exposition) if before is not None else ({}, None)
    faults: dict[TargetKey | None, Exception] = {}
    targets: dict[TargetKey, TargetLines] = {}
    for snapshot in snapshots:
        key = snapshot.target.key
        last = known.get(key)
        try:
            # Most targets have not been published since the last round.
            unchanged = last if last is not None and last.snapshot is snapshot else None
            targets[key] = unchanged or render_target(snapshot, last)
        except Exception as exc:
            faults[key] = exc
            targets[key] = _as_failing(last, snapshot, exc)
    try:
        rendered = instruments.render()
    except Exception as exc:
        if before is None:
            raise
        faults[None], rendered = exc, before.instruments
    return _Round(targets, rendered, assemble(targets.values(), *rendered, before=exposition), faults)


def _as_failing(last: TargetLines | None, snapshot: TargetSnapshot, exc: Exception) -> TargetLines:
    """Show a target that cannot be rendered like one whose polls fail, with the numbers shown before."""
    error = snapshot.poll.error or Fault("internal", str(InternalFault(exc)), snapshot.poll.last_poll_ms or 0)
    poll = replace(snapshot.poll, up=False, error=error)
    shown = None if last is None else last.snapshot.totals
    # Perhaps it is the numbers that cannot be rendered; then the target is shown without any.
    for totals in (shown, None):
        with suppress(Exception):
            return render_target(replace(snapshot, totals=totals, poll=poll))
    return TargetLines(replace(snapshot, totals=None, poll=poll), {})
