"""A simulator in its own process, and the requests of tests to it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.http import ask
from tests.e2e.processes import Program, first_line, started

PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
OTHER_PROJECT = "ffeeddccbbaa99887766554433221100"

# A Monday morning, when all job types are busy; in the past, so that the server's clock is far from ours. The
# server tells its time to the second, and the exporter then takes the second's end for its baseline, so as
# not to count what ended before: with a clock that stands there the baseline is the very instant.
START_MS = 1_772_434_800_999


def start_ms(seconds: float) -> int:
    """Return a whole second this many seconds from now."""
    return int(time.time() + seconds) * 1000 + 999


@dataclass(frozen=True, slots=True)
class Simulation:
    """A running simulator; docs/simulator.md has its endpoints. Units: simulated milliseconds and seconds."""

    url: str
    program: Program

    def account(
        self, project: str, workspace: str, since_ms: int, until_ms: int | None = None
    ) -> dict[str, Any]:
        """Give the simulator's own account of one target: all that happened since then, or until a time."""
        until = "" if until_ms is None else f"&until_ms={until_ms}"
        account = ask(f"{self.url}/simulator/account?since_ms={since_ms}{until}").json
        return next(
            target
            for target in account["targets"]
            if (target["project"], target["workspace"]) == (project, workspace)
        )

    def is_settled(self) -> bool:
        """Tell whether all answers show the same state again."""
        return bool(ask(f"{self.url}/simulator/account").json["settled"])

    def now_ms(self) -> int:
        return int(ask(f"{self.url}/simulator/account").json["now_ms"])

    def newest_ms(self) -> int:
        """Return when a job was last created or changed."""
        return int(ask(f"{self.url}/simulator/account").json["newest_ms"])

    def requests(self, kind: str, status: int | None = None) -> int:
        """Count what was answered: "list" or "token", with one HTTP status or all."""
        counted = ask(f"{self.url}/simulator/requests").json
        return int(counted[kind] if status is None else counted["answers"][kind].get(str(status), 0))

    def set_speed(self, speed: float) -> None:
        """Set the speed of its clock; 0 stops it."""
        self._tell("clock", {"speed": speed})

    def advance(self, seconds: float) -> None:
        """Advance its clock at once."""
        self._tell("clock", {"advance_seconds": seconds})

    def set_faults(self, faults: str) -> None:
        self._tell("faults", {"faults": faults})

    def set_quirks(self, **quirks: Any) -> None:
        """Replace all quirks."""
        self._tell("quirks", quirks)

    def create_jobs(self, **order: Any) -> list[int]:
        """Create jobs now; give their ids."""
        ids: list[int] = self._tell("jobs", order)["ids"]
        return ids

    def begin_incident(self, **order: Any) -> None:
        """Let runs fail for a while."""
        self._tell("incident", order)

    def rows(self) -> list[dict[str, Any]]:
        """Read the whole job list of the first project and workspace; the clock must stand still."""
        listed: list[dict[str, Any]] = []
        token = self._token()
        while True:
            url = f"{self.url}/v1.0/{PROJECT}/data/system-jobs?limit=200&offset={len(listed)}"
            page = ask(url, headers={"X-Auth-Token": token}).json["payload"]["list"]
            if not page:
                return listed
            listed += page

    def _token(self) -> str:
        user = {"name": "exporter", "password": "demo-password", "domain": {"name": "octopus-demo"}}
        identity = {"methods": ["password"], "password": {"user": user}}
        order = {"auth": {"identity": identity, "scope": {"project": {"id": PROJECT}}}}
        return ask(f"{self.url}/v3/auth/tokens", method="POST", body=order).headers["x-subject-token"]

    def _tell(self, what: str, order: dict[str, Any]) -> Any:
        answer = ask(f"{self.url}/simulator/{what}", method="POST", body=order)
        assert answer.status == 200, answer.text
        return answer.json


def catch_up(simulators: Iterable[Simulation], began: float) -> None:
    """
    Let simulators whose time stands still be as far from our clock as when it was set (Unix seconds).

    They take long to start on a busy machine. Whole seconds pass, so that time stands at such an instant.
    """
    for simulator in simulators:
        simulator.advance(int(time.time() - began))


@contextmanager
def simulations(folder: Path, *settings: dict[str, Any], port: int = 0) -> Iterator[list[Simulation]]:
    """Run simulators with these settings in one process; their time stands still unless told to run."""
    defaults = {"jobs": 300, "speed": 0.0, "start_ms": START_MS, "slow_seconds": 0.3}
    chosen = json.dumps([defaults | one for one in settings])
    command = (sys.executable, "-m", "tests.e2e.serve_simulators", str(port), chosen)
    folder.mkdir(parents=True, exist_ok=True)
    with started(command, folder, name=f"simulators-{len(list(folder.iterdir()))}") as program:
        urls = first_line(program, "simulators:").split()
        yield [Simulation(url, program) for url in urls]
