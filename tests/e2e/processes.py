"""
Processes of the program under test, each with its output in files and a certain end.

They are real ones: started as a user starts them, told by real signals, ended by their own id.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.waiting import PATIENCE_SECONDS, until

EXPORTER = (sys.executable, "-m", "exporter")
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Program:
    """A process that runs, or has run."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def output(self) -> str:
        return self.out.read_text()

    @property
    def errors(self) -> str:
        return self.err.read_text()

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end; give the exit code."""
        return self.process.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and wait for the end; give the exit code and the seconds it took."""
        began = time.monotonic()
        self.tell(number)
        return self.wait(), time.monotonic() - began

    def kill(self) -> None:
        """End it at once, as a power cut would, if it has not ended yet."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def must_run(self) -> None:
        """Fail, with what it said, if it has ended."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.errors}"


@contextmanager
def started(
    command: Sequence[str | Path],
    folder: Path,
    *,
    name: str = "program",
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    errors_to: int | None = None,
    output_to: int | None = None,
) -> Iterator[Program]:
    """
    Run a program in a folder; its output goes to files there, and it does not outlive the block.

    Shape: standard error goes to the descriptor `errors_to` instead, where one is given, and standard output
    to `output_to`.
    """
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    with out.open("ab") as stdout, err.open("ab") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=plain_environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=stdout if output_to is None else output_to,
            stderr=stderr if errors_to is None else errors_to,
            pass_fds=pass_fds,
        )
    program = Program(process, out, err)
    try:
        yield program
    finally:
        program.kill()


def run(
    arguments: Sequence[str | Path], folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the exporter to its end."""
    return subprocess.run(
        [*EXPORTER, *arguments],
        cwd=folder,
        env=plain_environment() | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def plain_environment() -> dict[str, str]:
    """Give our environment without what would send loopback requests elsewhere or configure the exporter."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("OCTOPUS_")
    }
    return kept | {"PYTHONPATH": str(_ROOT)}


def first_line(program: Program, start: str) -> str:
    """Wait for the line of output that starts so; give the rest of it."""

    def look() -> str | None:
        program.must_run()
        lines = program.output.splitlines(keepends=True)
        found = (line for line in lines if line.strip().startswith(start) and line.endswith("\n"))
        return next(found, None)

    line = until(look, f"a line of output that starts with {start!r}")
    return line.strip().removeprefix(start).strip() if line else ""


def free_port() -> int:
    """Give a port of the loopback that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
