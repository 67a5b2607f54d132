"""A real Alertmanager on the generated example, and a heartbeat service for it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from exporter.rules import ALERTMANAGER, Settings, generate_alertmanager
from tests.e2e.http import ask, try_to_ask
from tests.e2e.mail import Mailbox
from tests.e2e.processes import Program, free_port, started
from tests.e2e.prometheus import program
from tests.e2e.waiting import until

PROMETHEUS = Path(__file__).parents[2] / "prometheus"

# (alert, project or job, severity)
Key = tuple[str, str, str]
Alert = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """
    A running Alertmanager, all alerts that it has shown so far, and those of each query.

    Shape: all without the dead man's switch.
    """

    url: str
    program: Program
    seen: dict[Key, Alert] = field(default_factory=dict)
    looks: list[dict[Key, Alert]] = field(default_factory=list)

    def is_ready(self) -> bool:
        self.program.must_run()
        answer = try_to_ask(f"{self.url}/-/ready")
        return answer is not None and answer.status == 200

    def alerts(self) -> list[Alert]:
        """Return the alerts that are active now, including muted ones."""
        listed: list[Alert] = ask(f"{self.url}/api/v2/alerts?active=true").json
        return listed

    def look(self) -> dict[Key, Alert]:
        """Return the alerts that report a problem."""
        active = {_key(alert): alert for alert in self.alerts() if alert["labels"]["severity"] != "none"}
        self.seen.update(active)
        self.looks.append(active)
        return active

    def wait_for(self, wanted: set[Key]) -> None:
        """Wait until each of these has been seen."""

        def look() -> bool:
            self.look()
            return wanted <= self.seen.keys()

        try:
            until(look, "alerts")
        except AssertionError:
            pytest.fail(f"never came: {sorted(wanted - self.seen.keys())}")

    def tell(self, *alerts: Mapping[str, str], seconds: float = 600.0) -> None:
        """Post alerts as Prometheus does; they end after so many seconds, at once with 0."""
        now = datetime.now(UTC)
        body = [
            {
                "labels": dict(labels),
                "annotations": {"summary": labels["alertname"], "summary_zh": labels["alertname"]},
                "endsAt": (now + timedelta(seconds=seconds)).isoformat(),
            }
            for labels in alerts
        ]
        answer = ask(
            f"{self.url}/api/v2/alerts",
            method="POST",
            headers={"Content-Type": "application/json"},
            body=body,
        )
        assert answer.status == 200, answer.text


def _key(alert: Alert) -> Key:
    labels = alert["labels"]
    return labels["alertname"], labels.get("project", labels.get("job", "")), labels["severity"]


@dataclass
class Heartbeat:
    """A heartbeat service: the times of its requests, and the status in each."""

    url: str = ""
    times: list[float] = field(default_factory=list)
    statuses: set[str] = field(default_factory=set)


@contextmanager
def heartbeat() -> Iterator[Heartbeat]:
    """Serve while the block runs."""
    service = Heartbeat()

    class Request(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.statuses.add(body["status"])
            service.times.append(time.monotonic())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Write only errors to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}/ping/octopus"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(
    folder: Path, settings: Settings, box: Mailbox, service: Heartbeat
) -> Iterator[Alertmanager]:
    """Run the example's Alertmanager with a mailbox and a heartbeat service for its receivers."""
    place = folder / "alertmanager"
    place.mkdir()
    text = generate_alertmanager(settings)
    for there, here in (
        ("localhost:25", f"127.0.0.1:{box.port}"),
        ("https://heartbeat.example/ping/octopus", service.url),
    ):
        assert there in text
        text = text.replace(there, here)
    (place / ALERTMANAGER).write_text(text, encoding="utf-8")
    shutil.copy(PROMETHEUS / "octopus.tmpl", place)
    port = free_port()
    name = "alertmanager" if shutil.which("alertmanager") else "prometheus-alertmanager"
    command = [
        *(program(name), f"--config.file={ALERTMANAGER}", "--storage.path=data"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error"),
    ]
    with started(command, place, name="alertmanager") as running:
        manager = Alertmanager(f"http://127.0.0.1:{port}", running)
        until(manager.is_ready, f"Alertmanager\n{running.errors}")
        yield manager
