"""
A week of simulated jobs up to now, as Prometheus' blocks: its first hours, and its last two days.

The simulator, its clock in the past, is polled by the exporter's own pollers. Both go by that clock, which
goes forward in steps until it has reached the present; each exposition is written down as of its time.
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

# Between two expositions: in the hours that are shown, and in those before, which the rules and the fleet
# overview compare them with. Prometheus finds a sample for five minutes.
STEP_SECONDS = 60
EARLIER_STEP_SECONDS = 240
SHOWN_SECONDS = 13 * 3600
# The rules want a day of history before what they judge; the fleet overview looks at these hours a week ago.
EARLIER_SECONDS = 40 * 3600
WEEK_AGO_SECONDS = 7 * 3600
WEEK_SECONDS = 7 * 86_400 + WEEK_AGO_SECONDS
# An exposition is scraped so long after the poll that it shows.
AFTER_POLL_SECONDS = 17
PROJECTS = {
    "perception": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "simulation": "ffeeddccbbaa99887766554433221100",
}
INSTANCE = "octopus-exporter:10877"

# A sample of the exposition: name, labels or none, value, and what follows it.
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)(.*)$")
_LATER = {f.CREDENTIALS_EXPIRY.name}
# What is about this process: as if it had run since the beginning.
_STARTED = {f.CONFIG_RELOAD_TIME.name, "process_start_time_seconds"}


@dataclass(frozen=True, slots=True)
class Event:
    """What happens so many minutes before the end: an order to the simulator."""

    minutes: int
    path: str
    order: dict[str, object]


def _spike(minutes: int, count: int, job_type: str, status: str, code: int) -> Event:
    order = {"job_type": job_type, "count": count, "outcome": status, "msg_code": code}
    return Event(minutes, "jobs", order)


SPIKE = ("FRAME_EXTRACT", "RUN_FAILED", 3001)
EVENTS = (
    Event(235, "faults", {"faults": "errors=1"}),
    Event(229, "faults", {"faults": ""}),
    *(_spike(minutes, 6, *SPIKE) for minutes in range(16, 0, -2)),
)
"""What makes the last hours worth a look. Throttling would make the exporter wait, in real time."""


class Past:
    """
    An exporter that polls a simulator at times that have gone by.

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
        # Every exposition is scraped.
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

    async def tell(self, path: str, order: dict[str, object]) -> None:
        """Give the simulator an order."""
        async with self._session.post(f"{self._simulator}/simulator/{path}", json=order) as answer:
            answer.raise_for_status()

    async def advance(self, until: float) -> None:
        """Let simulated time pass."""
        await self.tell("clock", {"advance_seconds": until - self.now})
        self.now = until

    async def samples(self, until: float) -> Iterator[str]:
        """Poll every target some seconds before that time, and give the exposition as of it."""
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
        """Let new series rise that were scraped long enough ago."""
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
    """Run a simulator whose clock stands still at a time in the past; give its URL."""
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


async def live_through(simulator: str, start: float, end: float, ledger_file: Path, out: TextIO) -> float:
    """
    Live from one time to another, or to the present if that is later, and write down what is exposed.

    Gives when that was, in Unix seconds. The simulator's clock stands there; the ledger goes on from there.
    """
    events = sorted(EVENTS, key=lambda event: -event.minutes)
    ledger = await SqliteLedger.open(ledger_file)
    try:
        async with open_session() as session:
            exporter = Past(session, simulator, ledger, start)
            while exporter.now < max(end, time.time() - STEP_SECONDS):
                if start + WEEK_AGO_SECONDS < exporter.now < end - EARLIER_SECONDS:
                    await exporter.advance(end - EARLIER_SECONDS)
                shown = exporter.now >= end - SHOWN_SECONDS
                step = STEP_SECONDS if shown else EARLIER_STEP_SECONDS
                while events and end - events[0].minutes * 60 <= exporter.now:
                    event = events.pop(0)
                    await exporter.tell(event.path, event.order)
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
    Give the samples as of a time.

    What is about the real clock, `shift` seconds ahead, is moved back; `began` is when the process started.
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
    """Turn the files into blocks. Raises: CalledProcessError."""
    for file in files:
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(file), str(output)]
        subprocess.run(command, check=True)  # noqa: S603 - the program and files are our own
