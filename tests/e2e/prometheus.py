"""A real Prometheus that scrapes an exporter, and what tests ask it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.e2e.http import ask, try_to_ask
from tests.e2e.processes import Program, free_port, started
from tests.e2e.waiting import until

SCRAPE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str
    program: Program

    def query(self, expression: str) -> float | None:
        """Evaluate now; give the one value there is, None for none."""
        found = self._ask(expression)
        assert len(found) < 2, f"{expression}: {found}"
        return float(found[0]["value"][1]) if found else None

    def samples(self, series: str) -> list[tuple[float, float]]:
        """Give the samples of the one series that such a range selector finds, as (time, value)."""
        (found,) = self._ask(series)
        return [(float(at), float(value)) for at, value in found["values"]]

    def by(self, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Evaluate now; give the values by these labels."""
        return {_key(one, labels): float(one["value"][1]) for one in self._ask(expression)}

    def samples_by(self, series: str, *labels: str) -> dict[tuple[str, ...], list[tuple[float, float]]]:
        """Give the samples that such a range selector finds, as (time, value), by these labels."""
        return {
            _key(one, labels): [(float(at), float(value)) for at, value in one["values"]]
            for one in self._ask(series)
        }

    def wait_for(self, expression: str, wanted: float) -> None:
        """
        Wait until the expression has this value.

        Also what is known to hold is waited for: on a busy machine a scrape may have taken too long, and then
        there is nothing until the next one.
        """
        until(lambda: self.query(expression) == wanted, f"{expression} at {wanted}")

    def wait_for_value(self, expression: str) -> float:
        """Wait until the expression has a value, and give it."""
        found = until(lambda: [one for one in (self.query(expression),) if one is not None], expression)
        return found[0]

    def is_ready(self) -> bool:
        self.program.must_run()
        answer = try_to_ask(f"{self.url}/-/ready")
        return answer is not None and answer.status == 200

    def _ask(self, expression: str) -> list[dict[str, Any]]:
        answer = ask(f"{self.url}/api/v1/query?{urlencode({'query': expression})}")
        assert answer.status == 200, answer.text
        result: list[dict[str, Any]] = answer.json["data"]["result"]
        return result


def _key(found: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(found["metric"].get(label, "") for label in labels)


@contextmanager
def prometheus(
    folder: Path, *exporter_ports: int, rules: Mapping[str, str] | None = None, **scrape: Any
) -> Iterator[Prometheus]:
    """
    Run a Prometheus that scrapes exporters every second; in a folder where one has run, it goes on.

    Shape: `rules` are files of rules, evaluated every second; `scrape` is what its scrape_config adds.
    """
    folder.mkdir(exist_ok=True)
    for name, text in (rules or {}).items():
        (folder / name).write_text(text)
    config = _configuration(folder.name, exporter_ports, scrape) | {"rule_files": list(rules or ())}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        program("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with started(command, folder, name="prometheus") as running:
        server = Prometheus(f"http://127.0.0.1:{port}", running)
        until(server.is_ready, f"Prometheus\n{running.errors}")
        yield server


def _configuration(name: str, exporter_ports: Sequence[int], scrape: Mapping[str, Any]) -> dict[str, Any]:
    every = f"{SCRAPE_SECONDS:g}s"
    addresses = [f"127.0.0.1:{port}" for port in exporter_ports]
    target = {"job_name": "octopus", "static_configs": [{"targets": addresses}]}
    config: dict[str, Any] = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    # Prometheus spreads its scrapes over the interval by these labels: two servers scrape at two moments.
    config["external_labels"] = {"prometheus": name}
    return {"global": config, "scrape_configs": [{**target, **scrape}]}


def check_metrics(exposition: bytes) -> subprocess.CompletedProcess[bytes]:
    """Let promtool read an exposition."""
    return subprocess.run(
        [program("promtool"), "check", "metrics"], input=exposition, capture_output=True, check=False
    )


def program(name: str) -> str:
    """Give the path of a program of Prometheus; skip the test without it, but never in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed, and CI is to have it")
        pytest.skip(f"{name} is not installed")
    return found
