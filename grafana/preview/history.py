"""
Something to show: simulated jobs of the last hours and of the same hours a week ago, as Prometheus' blocks.

    python -m grafana.preview.history --output DIR
    prometheus --storage.tsdb.path DIR …

The simulator, its clock in the past, is polled by the exporter's own pollers a minute of its time after the
other, and each exposition is written down as of that minute.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import aiohttp
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from exporter import __version__
from exporter.access import Access
from exporter.config import Config
from exporter.exposition import families as f
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.ledger.protocol import Ledger
from exporter.ledger.sqlite import SqliteLedger
from exporter.log import Log
from exporter.masking import Secrets
from exporter.octopus.transport import open_session
from exporter.runtime import poll_rules
from exporter.simulator import SimulatorSettings, serve
from exporter.sync.poller import Poller, Rhythm

STEP_SECONDS = 60
# A week ago it need not be as fine, nor as long: only the fleet overview looks back there.
WEEK_AGO_STEP_SECONDS = 120
WEEK_AGO_HOURS = 7
WEEK_SECONDS = 7 * 86_400
PROJECTS = {
    "perception": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "simulation": "ffeeddccbbaa99887766554433221100",
}
INSTANCE = "octopus-exporter:10877"

# A sample of the exposition: name, labels or none, value, and what follows it.
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)(.*)$")
_LATER = {f.CREDENTIALS_EXPIRY.name, f.CONFIG_RELOAD_TIME.name, "process_start_time_seconds"}


@dataclass(frozen=True, slots=True)
class Event:
    """What happens so many minutes before the end: an order to the simulator."""

    minutes: int
    path: str
    order: dict[str, object]


def _spike(minutes: int, count: int, job_type: str, status: str, code: int) -> Event:
    order = {"job_type": job_type, "count": count, "outcome": status, "msg_code": code}
    return Event(minutes, "jobs", order)


EVENTS = (
    Event(235, "faults", {"faults": "errors=1"}),
    Event(229, "faults", {"faults": ""}),
    *(_spike(minutes, 9, "FRAME_EXTRACT", "RUN_FAILED", 3001) for minutes in (95, 93, 91, 89, 87)),
    *(_spike(minutes, 4, "PACKAGE_IMPORT", "UPLOAD_FAILED", 4001) for minutes in (32, 29)),
    Event(6, "jobs", {"job_type": "SCENARIO_TO_SIM", "count": 25, "outcome": "QUEUING"}),
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
        self._shift = 0.0
        self._publisher = Publisher(self._instruments)
        access = Access(config, session, self._instruments, Secrets(time.time))
        self._pollers = [
            Poller(
                target,
                access.client(target),
                ledger,
                self._publisher,
                poll_rules(config),
                Rhythm(30, 300),
                clock=lambda: self.now,
            )
            for target in config.targets()
        ]

    async def tell(self, path: str, order: dict[str, object]) -> None:
        """Give the simulator an order."""
        async with self._session.post(f"{self._simulator}/simulator/{path}", json=order) as answer:
            answer.raise_for_status()

    async def advance(self, until: float) -> None:
        """Let simulated time pass."""
        await self.tell("clock", {"advance_seconds": until - self.now})
        self.now = until

    async def samples(self) -> Iterator[str]:
        """Poll every target and give the exposition as of now."""
        if all([await poller.poll() for poller in self._pollers]):
            self._shift = time.time() - self.now
        await self._measure_loop_lag()
        exposition = self._publisher.render_now().text.plain + generate_latest(self._process)
        return stamped(exposition.decode(), self.now, self._shift)

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
async def past(start: float) -> AsyncIterator[Past]:
    """Begin at a time in the past."""
    settings = SimulatorSettings(
        jobs=12_000,
        speed=0,
        projects=tuple(PROJECTS.values()),
        jobs_per_day=3000,
        start_ms=round(start * 1000),
    )
    simulator, ledger = await serve(settings), await SqliteLedger.open(None)
    try:
        async with open_session() as session:
            yield Past(session, simulator.url, ledger, start)
    finally:
        await ledger.close()
        await simulator.close()


async def record(end: float, hours: int, folder: Path) -> list[Path]:
    """Live through a week and write down its first and its last hours; one file each, as OpenMetrics."""
    week_ago = end - WEEK_SECONDS
    events = sorted(EVENTS, key=lambda event: -event.minutes)
    files = [folder / "week-ago.txt", folder / "now.txt"]
    async with past(week_ago - WEEK_AGO_HOURS * 3600) as exporter:
        with _written(files[0]) as out:
            while exporter.now < week_ago:
                await exporter.advance(exporter.now + WEEK_AGO_STEP_SECONDS)
                out.writelines(await exporter.samples())
        await exporter.advance(end - hours * 3600)
        with _written(files[1]) as out:
            while exporter.now < end:
                await exporter.advance(exporter.now + STEP_SECONDS)
                while events and end - events[0].minutes * 60 <= exporter.now:
                    event = events.pop(0)
                    await exporter.tell(event.path, event.order)
                out.writelines(await exporter.samples())
    return files


@contextmanager
def _written(file: Path) -> Iterator[TextIO]:
    with file.open("w", encoding="utf-8") as out:
        yield out
        out.write("# EOF\n")


def stamped(exposition: str, now: float, shift: float) -> Iterator[str]:
    """Give the samples as of a time; what is about the real clock, `shift` seconds ahead, is moved back."""
    for line in exposition.splitlines():
        found = _SAMPLE.match(line)
        if found is None:
            continue
        name, labels, value = found[1], found[2], float(found[3])
        if name in _LATER:
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana.preview.history", description="Make a history.")
    parser.add_argument("--output", type=Path, required=True, help="the storage of a Prometheus to be")
    parser.add_argument("--hours", type=int, default=13, help="how many hours up to now")
    arguments = parser.parse_args()
    end = time.time() // STEP_SECONDS * STEP_SECONDS
    with Log(Secrets()) as log, tempfile.TemporaryDirectory() as folder:
        log.configure("error", "logfmt")
        make_blocks(asyncio.run(record(end, arguments.hours, Path(folder))), arguments.output)
    sys.stdout.write(f"it ends at {end:.0f}: python -m grafana.preview --at {end:.0f} ...\n")


if __name__ == "__main__":
    main()
