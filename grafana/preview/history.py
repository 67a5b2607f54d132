"""
A week of simulated jobs up to now as Prometheus blocks: its first hours and its last two days.

The exporter's own pollers poll a simulator with a clock in the past. Both use that clock, which advances in
steps until it reaches the present. The exposition of each step is written with the time of the step.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import aiohttp
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from exporter import __version__
from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.exposition import families as f
from exporter.exposition.hold import Hold
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.ledger.sqlite import SqliteLedger
from exporter.masking import Secrets
from exporter.octopus.transport import open_session
from exporter.pollers import poll_rules
from exporter.simulator import SimulatorSettings, serve
from exporter.sync.ledger import Ledger
from exporter.sync.poller import PollTiming, TargetPoller

# The step in the shown hours, and the step in the earlier hours that rules and dashboards compare them with.
# It is less than five minutes: an older sample is stale for Prometheus.
STEP_SECONDS = 60
EARLIER_STEP_SECONDS = 240
SHOWN_SECONDS = 13 * 3600
# The rules need a day of history before the shown hours. The fleet overview reads also those a week ago.
EARLIER_SECONDS = 40 * 3600
WEEK_AGO_SECONDS = 7 * 3600
WEEK_SECONDS = 7 * 86_400 + WEEK_AGO_SECONDS
# The time from a poll to the scrape of its exposition.
AFTER_POLL_SECONDS = 17
PROJECTS = {
    "perception": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "simulation": "ffeeddccbbaa99887766554433221100",
}
INSTANCE = "octopus-exporter:10877"

# A sample of the exposition: name, labels if any, value, and the rest of the line.
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)(.*)$")
_LATER = {f.CREDENTIALS_EXPIRY.name}
# Times of this process: as if it had run since the beginning.
_STARTED = {f.CONFIG_RELOAD_TIME.name, "process_start_time_seconds"}


@dataclass(frozen=True, slots=True)
class Event:
    """A request to the simulator's controls, so many minutes before the end."""

    minutes: int
    path: str
    body: dict[str, object]


def _spike(minutes: int, count: int, job_type: str, status: str, code: int) -> Event:
    body = {"job_type": job_type, "count": count, "outcome": status, "msg_code": code}
    return Event(minutes, "jobs", body)


SPIKE = ("FRAME_EXTRACT", "RUN_FAILED", 3001)
EVENTS = (
    Event(235, "faults", {"faults": "errors=1"}),
    Event(229, "faults", {"faults": ""}),
    *(_spike(minutes, 6, *SPIKE) for minutes in range(16, 0, -2)),
)
"""Events for the pictures. Throttling is not one: the exporter would wait in real time."""


class PastExporter:
    """
    An exporter that polls a simulator at times in the past.

    Units: `now` and all times are Unix seconds.
    """

    def __init__(self, session: aiohttp.ClientSession, simulator: str, ledger: Ledger, now: float) -> None:
        self.now = now
        self._session = session
        self._simulator = simulator
        config = _config(simulator)
        self._instruments = Instruments(CollectorRegistry(auto_describe=True), __version__)
        self._instruments.reload_result(ok=True, timestamp_seconds=time.time())
        for project in PROJECTS:
            self._instruments.add_project(project)
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._shift, self._began = 0.0, now
        self._hold = Hold(config.metrics.new_series_hold_seconds)
        self._publisher = Publisher(self._instruments)
        access = ClientFactory(config, session, self._instruments, Secrets(time.time))
        self._pollers = {
            target.key: TargetPoller(
                target,
                access.client(target),
                ledger,
                self._publisher,
                poll_rules(config),
                PollTiming(30, 300),
                clock=lambda: self.now,
            )
            for target in config.targets()
        }

    async def tell(self, path: str, body: dict[str, object]) -> None:
        """Send a request to the simulator's controls."""
        async with self._session.post(f"{self._simulator}/simulator/{path}", json=body) as answer:
            answer.raise_for_status()

    async def advance(self, until: float) -> None:
        """Advance the simulated time."""
        await self.tell("clock", {"advance_seconds": until - self.now})
        self.now = until

    async def samples(self, until: float) -> Iterator[str]:
        """Poll every target some seconds before that time, and return the exposition at that time."""
        await self.advance(until - AFTER_POLL_SECONDS)
        if all([await poller.poll() for poller in self._pollers.values()]):
            self._shift = time.time() - self.now
        await self._release()
        await self._measure_loop_lag()
        await self.advance(until)
        bodies = self._publisher.render_now()
        self._hold.shown(bodies.held, self.now)
        self._hold.answered(bodies.held, self.now)
        exposition = bodies.text.plain + generate_latest(self._process)
        return stamped(exposition.decode(), self.now, self._shift, self._began)

    async def _release(self) -> None:
        """Release new series that have been at 0 for long enough."""
        for target, keys in self._hold.due(self.now).items():
            await self._pollers[target].release(keys)
            self._hold.released(target, keys)

    async def _measure_loop_lag(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(5):
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            self._instruments.loop_lag(max(loop.time() - due, 0.0))


def _config(simulator: str) -> Config:
    account = {"type": "password", "domain": "octopus-demo", "user": "exporter", "password": "demo-password"}
    return Config.model_validate(
        {
            "projects": [
                {"id": project_id, "name": name, "region": "cn-north-11", "endpoint": simulator}
                for name, project_id in PROJECTS.items()
            ],
            "credentials": {"default": {**account, "iam_endpoint": simulator}},
            "poll": {"requests_per_second": 1000},
            "ledger": {"url": "sqlite://"},
        }
    )


@asynccontextmanager
async def simulator_of_the_past(start: float) -> AsyncIterator[str]:
    """Run a simulator whose clock is stopped at a time in the past. Returns its URL."""
    settings = SimulatorSettings(
        jobs=12_000,
        speed=0,
        projects=tuple(PROJECTS.values()),
        jobs_per_day=3000,
        start_ms=round(start * 1000),
    )
    simulator = await serve(settings)
    try:
        yield simulator.url
    finally:
        await simulator.close()


async def simulate_past(simulator: str, start: float, end: float, ledger_file: Path, out: TextIO) -> float:
    """
    Simulate from one time to another, or to the present if that is later, and write all expositions.

    Returns the end in Unix seconds. The simulator's clock stops there, and the ledger continues from there.
    """
    events = sorted(EVENTS, key=lambda event: -event.minutes)
    ledger = await SqliteLedger.open(ledger_file)
    try:
        async with open_session() as session:
            exporter = PastExporter(session, simulator, ledger, start)
            while exporter.now < max(end, time.time() - STEP_SECONDS):
                if start + WEEK_AGO_SECONDS < exporter.now < end - EARLIER_SECONDS:
                    await exporter.advance(end - EARLIER_SECONDS)
                shown = exporter.now >= end - SHOWN_SECONDS
                step = STEP_SECONDS if shown else EARLIER_STEP_SECONDS
                while events and end - events[0].minutes * 60 <= exporter.now:
                    event = events.pop(0)
                    await exporter.tell(event.path, event.body)
                out.writelines(await exporter.samples(exporter.now + step))
            return exporter.now
    finally:
        await ledger.close()


@contextmanager
def open_metrics(file: Path) -> Iterator[TextIO]:
    with file.open("w", encoding="utf-8") as out:
        yield out
        out.write("# EOF\n")


def stamped(exposition: str, now: float, shift: float, began: float | None = None) -> Iterator[str]:
    """
    Return the samples with this time as their timestamp.

    Values that are times of the real clock, `shift` seconds ahead, are moved back. `began` is the start time
    of the process.
    """
    for line in exposition.splitlines():
        found = _SAMPLE.match(line)
        if found is None:
            continue
        name, labels, value = found[1], found[2], float(found[3])
        if name in _STARTED:
            value = value - shift if began is None else began
        elif name in _LATER:
            value -= shift
        elif name == f.API_CLOCK_SKEW.name:
            value += shift
        origin = f'job="octopus",instance="{INSTANCE}"'
        yield f"{name}{{{origin}{f',{labels}' if labels else ''}}} {value!r} {now:.3f}\n"
    yield f'up{{job="octopus",instance="{INSTANCE}"}} 1 {now:.3f}\n'


def make_blocks(files: list[Path], output: Path) -> None:
    """Make Prometheus blocks from the files. Raises: CalledProcessError."""
    for file in files:
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(file), str(output)]
        subprocess.run(command, check=True)  # noqa: S603 - the program and files are our own
