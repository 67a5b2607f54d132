"""Replicas: exporters that share a ledger. Each has its own folder, port, clock and way to the database."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.cut_proxy import CutProxy
from tests.e2e.exporting import Exporter, Section
from tests.e2e.http import Answer
from tests.e2e.moved_clock import move_clock
from tests.e2e.processes import Program, started
from tests.e2e.waiting import until


class Replica(Exporter):
    """
    One of several exporters with the same projects and the same ledger.

    Shape: `proxy` is between it and the database, where there is one.
    """

    def __init__(
        self,
        folder: Path,
        ledger: str,
        projects: list[Section],
        lease: str = "",
        proxy: CutProxy | None = None,
    ) -> None:
        super().__init__(folder, "", projects=projects)
        self.proxy = proxy
        self.lives = 0
        self._running = ExitStack()
        self._program: Program | None = None
        self._stopped = False
        self.change(ledger={"url": ledger, **({"lease": lease} if lease else {})})
        self.change(events={"to": "events.log"})
        self.move_clock(0)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def program(self) -> Program:
        assert self._program, f"{self.name} was not started"
        return self._program

    @property
    def runs(self) -> bool:
        """Whether there is a process of it, which may be frozen."""
        return self._program is not None and self._program.process.poll() is None

    @property
    def is_frozen(self) -> bool:
        return self._stopped

    @contextmanager
    def running(self, errors_to: int | None = None, output_to: int | None = None) -> Iterator[Program]:
        """Run it with the clock that a test can move."""
        clock = self.folder / "clock"
        command = (sys.executable, "-m", "tests.e2e.moved_clock", clock, "run", "--config", self.write())
        streams = {"errors_to": errors_to, "output_to": output_to}
        with started(command, self.folder, name="exporter", **streams) as program:
            yield program

    def start(self) -> None:
        """Begin a new life. It need not be ready yet, nor even listen."""
        self.end()
        self.lives += 1
        self._program = self._running.enter_context(self.running())

    def end(self) -> None:
        """Kill it if it runs."""
        self._stopped = False
        self._running.close()

    def freeze(self) -> None:
        self.program.tell(signal.SIGSTOP)
        self._stopped = True

    def thaw(self) -> None:
        self.program.tell(signal.SIGCONT)
        self._stopped = False

    def terminate(self) -> None:
        """Ask it to stop, and do not wait."""
        self.program.tell(signal.SIGTERM)

    def move_clock(self, seconds: float) -> None:
        """Put its wall clock so many seconds ahead of ours."""
        move_clock(self.folder / "clock", seconds)

    def wait_until_it_is_ready(self) -> None:
        self.wait_until_ready(self.program)

    def status(self) -> dict[str, Any]:
        """Return /api/v1/status."""
        status: dict[str, Any] = self.page("api/v1/status").json
        return status

    def held(self) -> set[tuple[str, str]]:
        """Name the targets that it polls, by project and workspace; none while it does not answer."""
        answer = self.try_page("metrics?name[]=octopus_exporter_lease_held")
        return set() if answer is None else _held(answer)


def _held(answer: Answer) -> set[tuple[str, str]]:
    lines = (line for line in answer.text.splitlines() if line.startswith("octopus_exporter_lease_held{"))
    found = set()
    for line in lines:
        labels, _, value = line.partition("{")[2].rpartition("} ")
        if float(value) == 1:
            pairs = dict(pair.split("=", 1) for pair in labels.split(","))
            found.add((pairs["project"].strip('"'), pairs["workspace"].strip('"')))
    return found


def wait_until_all_are_held(replicas: list[Replica], targets: int) -> None:
    """Wait until each target is polled by one of these replicas, and none by two."""

    def look() -> bool:
        held = [target for replica in replicas for target in replica.held()]
        return len(held) == len(set(held)) == targets

    until(look, f"each of {targets} targets is held once")


def wait_until_ended(program: Program, seconds: float) -> float:
    """Wait for the end of a process that was told to end. Returns how long that took."""
    began = time.monotonic()
    program.wait(seconds)
    return time.monotonic() - began
