"""
Processes of the program under test. Each writes its output to files, and none outlives its test.

They are real: started as by a user, controlled by real signals, ended by their ids.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.waiting import PATIENCE_SECONDS, until

EXPORTER = (sys.executable, "-m", "exporter")
_ROOT = Path(__file__).parents[2]
_OWN_PORTS = 12_000
_FIRST_OWN_PORT = max(
    int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - _OWN_PORTS, 10_000
)
# Processes of tests that run side by side begin to look far from each other.
_STRIDE = 521
# How long a slowed program runs at a time.
_RUNNING_SECONDS = 0.01
_held: list[socket.socket] = []


@dataclass(frozen=True, slots=True)
class Program:
    """A process that runs or has ended."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def output(self) -> str:
        """Return its standard output so far. While it runs, only complete lines."""
        return self._written(self.out)

    @property
    def errors(self) -> str:
        """Return its standard error so far. While it runs, only complete lines."""
        return self._written(self.err)

    def _written(self, file: Path) -> str:
        has_ended = self.process.poll() is not None  # asked first: after its end nothing is added
        data = file.read_bytes()
        return (data if has_ended else data[: data.rfind(b"\n") + 1]).decode()

    def wait_for_line(self, words: str, times: int = 1) -> None:
        """
        Wait until so many lines of standard error have these words.

        The log is written by a thread of its own: a line may come after the effect that it tells of.
        """
        until(lambda: self.errors.count(words) >= times, f"{words!r} {times} times in the log")

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and wait for the end. Returns the exit code and the seconds until then."""
        began = time.monotonic()
        self.tell(number)
        return self.wait(), time.monotonic() - began

    def kill(self) -> None:
        """Kill it, as a power failure would, if it has not ended yet."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def must_run(self) -> None:
        """Fail with its output if it has ended."""
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
    """
    Give a port of the loopback that stays free until it is listened on, and between two such times.

    It is none of those that the system gives to connections and to servers that ask for any port. Tests that
    run beside this process take others: whoever takes a port holds a name that only one process can have.
    """
    for number in range(_OWN_PORTS):
        port = _FIRST_OWN_PORT + (os.getpid() * _STRIDE + len(_held) + number) % _OWN_PORTS
        if _hold(port):
            return port
    raise AssertionError(f"no port is free from {_FIRST_OWN_PORT} on")


def _hold(port: int) -> bool:
    """Keep a port for this process, if nobody else keeps it or listens on it."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0octopus-exporter-tests-{port}")  # no file: it goes with the process
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        name.close()
        return False
    _held.append(name)
    return True


@contextmanager
def slowed(program: Program, share: float = 0.25) -> Iterator[None]:
    """Leave a program so much of a core, however much there is: it stands still for the rest of the time."""
    ended = threading.Event()

    def slow() -> None:
        while not ended.wait(_RUNNING_SECONDS) and program.process.poll() is None:
            program.tell(signal.SIGSTOP)
            ended.wait(_RUNNING_SECONDS * (1 - share) / share)
            program.tell(signal.SIGCONT)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
