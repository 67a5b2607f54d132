"""
The measured processes: the page server, the exporter, the floor and the naive exporter.

Their modules are compiled beforehand, like those of an installed package, whatever PYTHON* variables are set.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.measure import Cost, cpu_seconds, writes

PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
CONCURRENCY = 4
_ROOT = Path(__file__).parents[1]
_COMPILED = _ROOT / "benchmarks" / "__pycache__"
_PROGRAMS = "exporter.cli, benchmarks.floor, benchmarks.naive, benchmarks.server, benchmarks.published"
_TIMEOUT_SECONDS = 3600.0

_opener = build_opener(ProxyHandler({}))
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """A running page server."""

    url: str
    pid: int

    def served(self) -> tuple[int, int]:
        """Return the number of pages it has served, and their bytes."""
        told = json.loads(get(f"{self.url}/served"))
        return told["requests"], told["bytes"]

    def delay(self, seconds: float) -> None:
        """Delay every response from now on."""
        get(f"{self.url}/latency?seconds={seconds}", "POST")

    def change(self, endings: int, arrivals: int) -> None:
        get(f"{self.url}/change?endings={endings}&arrivals={arrivals}", "POST")


@dataclass(frozen=True, slots=True)
class Client:
    """A running process that reads from a page server and serves /metrics."""

    process: subprocess.Popen[bytes]
    server: Server
    port: int
    began: float

    @property
    def pid(self) -> int:
        return self.process.pid

    def cost(self) -> Cost:
        """Return its cost since its start."""
        cpu, wall = cpu_seconds(self.pid), time.monotonic() - self.began
        requests, size = self.server.served()
        return Cost(wall, cpu, cpu_seconds(self.server.pid), requests, size, *writes(self.pid))

    def scrape(self, *names: str) -> list[Sample]:
        """Scrape as Prometheus does, and return the samples whose names begin with one of these."""
        shown = get(f"http://127.0.0.1:{self.port}/metrics", zipped=True).decode()
        # Parsing all of some megabytes would take CPU time from the exporter on the same machine.
        wanted = "".join(line for line in shown.splitlines(keepends=True) if line.startswith(names))
        return [sample for family in text_string_to_metric_families(wanted) for sample in family.samples]

    def exposed_bytes(self) -> int:
        """Return the size of a scrape, uncompressed."""
        return len(get(f"http://127.0.0.1:{self.port}/metrics", zipped=True))

    def total(self, name: str) -> float:
        return sum(sample.value for sample in self.scrape(name) if sample.name == name)

    def wait_until_healthy(self) -> None:
        """Wait until the server answers, which it does before the first poll."""
        _until(lambda: self._page("-/healthy") is not None, seconds=0.002)

    def wait_until_ready(self, look_seconds: float = 0.02) -> None:
        """Wait until every target is published. /-/ready is the cheapest page."""
        _until(lambda: self._page("-/ready") is not None, look_seconds)

    def wait_until_shown(self, name: str) -> None:
        """Wait until /metrics contains this text."""
        _until(lambda: name.encode() in (self._page("metrics") or b""))

    def polls(self) -> int:
        """Return the number of ended polls, from the status API, which is cheaper than /metrics."""
        page = self._page("api/v1/status")
        return 0 if page is None else sum(target["polls"] for target in json.loads(page)["targets"])

    def wait_for_polls(self, more: int) -> None:
        """Wait until so many more polls have ended. The first may have begun before."""
        wanted = self.polls() + more
        _until(lambda: self.polls() >= wanted, seconds=0.1)

    def wait_until_all_polled(self, targets: int) -> None:
        """Wait until so many targets have been polled."""

        def polled() -> int:
            return sum(sample.value > 0 for sample in self.scrape("octopus_polls_total"))

        _until(lambda: polled() == targets, seconds=0.2)

    def wait_until_scraped(self) -> None:
        """Wait until /metrics includes all polls that have ended by now: rendering follows a poll."""
        polls = self.polls()
        _until(lambda: self.total("octopus_polls_total") >= polls)

    def wait_until_released(self) -> None:
        """Scrape until no new series is held at 0 any more (metrics.new_series_hold)."""

        def released() -> bool:
            get(f"http://127.0.0.1:{self.port}/metrics", zipped=True)
            return not any(target["held_series"] for target in self.status()["targets"])

        _until(released)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def status(self) -> dict[str, Any]:
        """Return /api/v1/status."""
        told: dict[str, Any] = json.loads(get(f"http://127.0.0.1:{self.port}/api/v1/status"))
        return told

    def _page(self, path: str) -> bytes | None:
        assert self.process.poll() is None, f"ended with {self.process.returncode}"
        try:
            return get(f"http://127.0.0.1:{self.port}/{path}")
        except (URLError, OSError):
            return None


@dataclass(frozen=True, slots=True)
class Exporter:
    """
    An exporter's folder with its configuration and its ledger, which remain after its process.

    Shape: it has `projects` targets, all on the same server; `poll` replaces settings of the same name;
    `root` is the checkout whose exporter runs; `ledger` is a URL, "" for a file in the folder.
    """

    folder: Path
    server: Server
    port: int
    interval_seconds: float = 1.0
    projects: int = 1
    credentials: Mapping[str, str] = field(default_factory=lambda: {"type": "token", "token": "any"})
    poll: Mapping[str, object] = field(default_factory=dict)
    root: Path = _ROOT
    ledger: str = ""

    @contextmanager
    def running(self) -> Iterator[Client]:
        file = self.folder / "config.yaml"
        file.write_text(yaml.safe_dump(self._config()))
        run = ("run", "--config", str(file))
        with started("exporter", *run, log=self.folder / "log", root=self.root) as process:
            yield Client(process, self.server, self.port, time.monotonic())

    def lose_ledger(self) -> None:
        for file in self.folder.glob("ledger.db*"):
            file.unlink()

    def sync(self) -> None:
        """Fill the ledger: run until all targets are published and audited, then stop."""
        with self.running() as client:
            client.wait_until_shown("octopus_audit_last_timestamp_seconds{")
            client.stop()

    def _config(self) -> dict[str, Any]:
        return {
            "projects": [self._project(number) for number in range(self.projects)],
            "credentials": {"default": dict(self.credentials)},
            # No limit on requests and no audit during the measurement.
            "poll": {
                "interval": f"{self.interval_seconds:g}s",
                "concurrency": CONCURRENCY,
                "requests_per_second": 1_000_000,
                "audit_interval": "24h",
                # No job reaches the lookback limit while a benchmark runs.
                "lookback": "60d",
                **self.poll,
            },
            "ledger": {"url": self.ledger or f"sqlite:///{self.folder / 'ledger.db'}"},
            # Counters show new values at once.
            "metrics": {"new_series_hold": "0s"},
            "web": {"listen": [f"127.0.0.1:{self.port}"]},
        }

    def _project(self, number: int) -> dict[str, Any]:
        return {
            "id": project_id(number),
            "name": f"project-{number:03d}",
            "endpoint": self.server.url,
            "workspaces": ["0"],
        }


def project_id(number: int) -> str:
    return f"{number:04x}{PROJECT[4:]}"


@contextmanager
def page_server(jobs: int, *, in_flight: int = 200, spread: int = 3) -> Iterator[Server]:
    """Run a page server with so many jobs."""
    # On SIGTERM a benchmark ends as on Ctrl-C, so that its processes end too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _compile()
    options = ["--in-flight", str(in_flight), "--spread", str(spread)]
    with started("benchmarks.server", str(jobs), *options) as process:
        yield Server(first_line(process).removeprefix("server: "), process.pid)


@contextmanager
def exporter(server: Server, **settings: Any) -> Iterator[Exporter]:
    """Make an exporter with a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Exporter(Path(folder), server, _free_port(), **settings)


@contextmanager
def naive(server: Server) -> Iterator[Client]:
    """Run the naive exporter."""
    port = _free_port()
    with started("benchmarks.naive", server.url, str(port)) as process:
        yield Client(process, server, port, time.monotonic())


@contextmanager
def floor(server: Server) -> Iterator[tuple[Client, Callable[[], float]]]:
    """Run the floor. The function waits for its end and returns the seconds that reading took."""
    with started("benchmarks.floor", server.url, "--concurrency", str(CONCURRENCY), "--stay") as process:
        client = Client(process, server, 0, time.monotonic())
        yield client, lambda: float(json.loads(first_line(process))["seconds"])


@contextmanager
def published(series: int, *, peer: bool = False) -> Iterator[tuple[int, int]]:
    """Serve at least so many series with the exporter or its peer. Returns the port and their number."""
    _compile()
    port = _free_port()
    with started("benchmarks.published", str(series), str(port), *(["--peer"] if peer else [])) as process:
        yield port, int(first_line(process))


@contextmanager
def promhttp(folder: Path, text: bytes) -> Iterator[int]:
    """Serve an exposition in the text format with Go's own handler. Returns the port."""
    file, program, port = folder / "exposition.txt", folder / "promhttp", _free_port()
    file.write_bytes(text)
    subprocess.run(["go", "build", "-o", program, "."], cwd=_ROOT / "benchmarks" / "promhttp", check=True)
    with _listening([program, file, str(port)], port):
        yield port


@contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """Serve a folder's files with `Content-Encoding: gzip`. Returns the port."""
    port = _free_port()
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
        events {{ worker_connections 64; }}
        http {{
            access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
            {" ".join(f"{place}_temp_path {place};" for place in places)}
            server {{
                listen 127.0.0.1:{port}; root {folder};
                location / {{
                    default_type "application/openmetrics-text"; add_header Content-Encoding gzip;
                }}
            }}
        }}
        """
    )
    folder.chmod(0o755)  # started by root, nginx reads files as user nobody
    command: list[str | Path] = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with _listening(command, port):
        yield port


@contextmanager
def _listening(command: list[str | Path], port: int) -> Iterator[None]:
    """Run an external program, and wait until it listens on this port."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: _accepts(port))
        yield
    finally:
        process.terminate()
        process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(
    module: str, *arguments: str, log: Path | None = None, root: Path = _ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of a checkout, and kill it at the end of the block."""
    with (log or Path("/dev/null")).open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=root,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors if log else None,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@cache
def _compile() -> None:
    subprocess.run([sys.executable, "-c", f"import {_PROGRAMS}"], cwd=_ROOT, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    """Return our environment without proxies and without variables that change how the programs run."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COVERAGE", "OCTOPUS", "REQUESTS_"))
        and not name.lower().endswith("_proxy")
    }
    return kept | {"PYTHONPYCACHEPREFIX": str(_COMPILED)}


def cpu_of(*arguments: str, root: Path = _ROOT) -> float:
    """Run Python with these arguments to its end; return its CPU seconds."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=root, env=_environment(), stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return used.ru_utime + used.ru_stime


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    assert line, f"ended with {process.wait()} and said nothing"
    return line


def get(url: str, method: str = "GET", *, zipped: bool = False) -> bytes:
    headers = {"Accept-Encoding": "gzip"} if zipped else {}
    with _opener.open(Request(url, method=method, headers=headers), timeout=60) as answer:
        body: bytes = answer.read()
    return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body


def post(url: str, body: object) -> None:
    """Send a JSON body."""
    with _opener.open(Request(url, json.dumps(body).encode(), method="POST"), timeout=60):
        pass


def _until(look: Callable[[], bool], seconds: float = 0.02) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not look():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(seconds)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
