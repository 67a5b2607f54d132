"""What a service of systemd tells it. The test is systemd's end of the socket, and acts as systemd would."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGABRT, SIGHUP, SIGTERM, SIGUSR1

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import EXPORTER, Program, started
from tests.e2e.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.e2e

# The exporter, whose event loop a signal lets hang while its threads go on.
_CAN_HANG = """
import signal, sys, time
def hang_here(*_): time.sleep(600)
signal.signal(signal.SIGUSR1, hang_here)
from exporter.cli import main
main()
"""


class ServiceManager:
    """The end of the socket that systemd has."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver
        receiver.settimeout(PATIENCE_SECONDS)
        self.received: list[dict[str, str]] = []

    def receive(self) -> dict[str, str]:
        lines = self._receiver.recv(4096).decode().split("\n")
        self.received.append(dict(line.split("=", 1) for line in lines))
        return self.received[-1]

    def wait_for(self, name: str, value: str | None = None) -> dict[str, str]:
        """Wait for a message that has this."""
        while True:
            message = self.receive()
            if name in message and value in (None, message[name]):
                return message

    def wait_for_status(self, words: str) -> None:
        while words not in self.wait_for("STATUS")["STATUS"]:
            pass

    def is_silent_for(self, seconds: float) -> bool:
        """Tell whether nothing comes for so long, aside from what has come already."""
        self._receiver.setblocking(False)
        try:
            while True:
                self._receiver.recv(4096)
        except BlockingIOError:
            pass
        self._receiver.settimeout(seconds)
        try:
            self._receiver.recv(4096)
        except TimeoutError:
            return True
        return False


@pytest.fixture(params=["a file", "an abstract address"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServiceManager, str]]:
    """Give it with the value of NOTIFY_SOCKET."""
    address = str(tmp_path / "notify")
    if request.param == "an abstract address":
        address = f"@octopus-exporter-tests-{address}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1))
        yield ServiceManager(receiver), address


@contextmanager
def service(exporter: Exporter, address: str, *command: str, **environment: str) -> Iterator[Program]:
    """Run the exporter as a service; WATCHDOG_PID is for this process alone."""
    environment |= {"NOTIFY_SOCKET": address}
    full = [*(command or EXPORTER), "run", "--config", exporter.write()]
    with started(full, exporter.folder, name="exporter", environment=environment) as program:
        yield program


def now_usec() -> int:
    return time.monotonic_ns() // 1000


def test_it_tells_of_its_start_its_reloads_and_its_end(
    manager: tuple[ServiceManager, str], tmp_path: Path, simulate: Simulate
) -> None:
    told, address = manager
    exporter = Exporter(tmp_path, simulate().url)
    with service(exporter, address) as program:
        told.wait_for("READY", "1")
        # Who comes after it finds the port open.
        assert exporter.page("-/healthy").status == 200
        assert not any("WATCHDOG" in message for message in told.received)
        told.wait_for_status("1 of 1 targets up")

        asked = now_usec()
        program.tell(SIGHUP)
        began = int(told.wait_for("RELOADING", "1")["MONOTONIC_USEC"])
        assert asked <= began <= now_usec()
        told.wait_for("READY", "1")
        assert program.errors.count("configuration reloaded") <= 1
        program.wait_for_line("configuration reloaded")

        exporter.change(poll={"interval": "fast"})
        exporter.write()
        program.tell(SIGHUP)
        told.wait_for("RELOADING", "1")
        refused = told.wait_for("READY", "1")["STATUS"]
        assert refused.startswith("1 of 1 targets up; configuration not reloaded: ")
        assert "poll.interval: found fast" in refused

        code, _ = program.stop(SIGTERM)
    assert code == 0
    assert told.wait_for("STOPPING", "1") == {"STOPPING": "1", "STATUS": "stopping"}
    assert told.is_silent_for(0.1)


@pytest.mark.parametrize("manager", ["a file"], indirect=True)
def test_it_names_the_targets_that_fail(manager: tuple[ServiceManager, str], tmp_path: Path) -> None:
    told, address = manager
    with service(Exporter(tmp_path, "http://127.0.0.1:9"), address):
        told.wait_for_status("0 of 1 targets up; failing: perception/0 (unavailable)")


@pytest.mark.parametrize("manager", ["a file"], indirect=True)
def test_an_event_loop_that_hangs_is_silent_and_its_end_shows_where_it_hung(
    manager: tuple[ServiceManager, str], tmp_path: Path, simulate: Simulate
) -> None:
    told, address = manager
    exporter = Exporter(tmp_path, simulate().url)
    can_hang = (sys.executable, "-c", _CAN_HANG)
    with service(exporter, address, *can_hang, WATCHDOG_USEC="300000") as program:
        told.wait_for("READY", "1")
        times = []
        for _ in range(4):
            told.wait_for("WATCHDOG", "1")
            times.append(time.monotonic())
        assert times[-1] - times[0] >= 2 * 0.1

        program.tell(SIGUSR1)
        until(lambda: told.is_silent_for(0.5), "silence")
        # WatchdogSignal= of systemd.
        code, _ = program.stop(SIGABRT)
    assert code == -signal.SIGABRT
    assert "in hang_here" in program.errors


@pytest.mark.parametrize("manager", ["a file"], indirect=True)
def test_the_watchdog_of_another_process_is_not_its_own(
    manager: tuple[ServiceManager, str], tmp_path: Path, simulate: Simulate
) -> None:
    told, address = manager
    exporter = Exporter(tmp_path, simulate().url)
    with service(exporter, address, WATCHDOG_USEC="1000", WATCHDOG_PID="1"):
        told.wait_for("READY", "1")
        told.wait_for_status("1 of 1 targets up")
    # Every millisecond, it would be.
    assert sum("WATCHDOG" in message for message in told.received) < 5


def test_a_socket_that_nobody_reads_stops_nothing(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    with service(exporter, str(tmp_path / "nowhere")) as program:
        exporter.wait_until_ready(program)
        program.wait_for_line("systemd cannot be notified")
        assert program.stop(SIGTERM)[0] == 0
    assert program.errors.count("systemd cannot be notified") == 1
