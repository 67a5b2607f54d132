"""A real Prometheus over a folder of history, and queries to it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import programs
from benchmarks.measure import cpu_seconds, resident_mib
from prometheus.demo import HOST, free_port, wait_until_ready

# Prometheus refuses queries with more than 11,000 points per series.
_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Series:
    """Samples as (Unix seconds, value as Prometheus spells it)."""

    labels: dict[str, str]
    values: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    @property
    def resident_mib(self) -> float:
        return resident_mib(self.process.pid)

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("query", query=expression, time=at or time.time())["result"]
        return found

    def number(self, expression: str, at: float | None = None) -> float:
        """Return the only value of an expression, 0 if it has none."""
        found = self.query(expression, at)
        return float(found[0]["value"][1]) if found else 0.0

    def by(self, expression: str, label: str) -> dict[str, float]:
        return {one["metric"].get(label, ""): float(one["value"][1]) for one in self.query(expression)}

    def matrix(self, expression: str, start: float, end: float, step: float) -> Iterator[Series]:
        """Evaluate at every step; a series comes in several parts where there are many points."""
        while start <= end:
            until = min(end, start + (_POINTS - 1) * step)
            for one in self._ask("query_range", query=expression, start=start, end=until, step=step)[
                "result"
            ]:
                yield Series(one["metric"], one["values"])
            start = until + step

    def metrics(self, name: str) -> dict[tuple[str, ...], float]:
        """Give its own metric by the values of its labels."""
        lines = programs.get(f"{self.url}/metrics").decode().splitlines(keepends=True)
        text = "".join(line for line in lines if line.startswith(name))
        return {
            tuple(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    def _ask(self, path: str, **parameters: Any) -> dict[str, Any]:
        answer = json.loads(programs.get(f"{self.url}/api/v1/{path}?{urlencode(parameters)}"))
        data: dict[str, Any] = answer["data"]
        return data


@contextmanager
def prometheus(
    program: str, folder: Path, *, rules: Path | None = None, target: int | None = None, interval: float = 30
) -> Iterator[Prometheus]:
    """Run the program over folder/data, with rules and a port to scrape where these are given."""
    folder.mkdir(exist_ok=True)
    config = {
        "global": {"scrape_interval": f"{interval:g}s", "evaluation_interval": f"{interval:g}s"},
        "rule_files": [str(rules.resolve())] if rules else [],
        "scrape_configs": [_scrape(target)] if target else [],
    }
    file, port = folder / "prometheus.yml", free_port(0)
    file.write_text(json.dumps(config), encoding="utf-8")
    command = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=30d",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command)
    try:
        wait_until_ready(process, f"http://{HOST}:{port}")
        yield Prometheus(f"http://{HOST}:{port}", process)
    finally:
        process.terminate()
        process.wait()


def _scrape(target: int) -> dict[str, Any]:
    labels = {"instance": "octopus-exporter"}
    return {"job_name": "octopus", "static_configs": [{"targets": [f"{HOST}:{target}"], "labels": labels}]}


def load(promtool: str, file: Path, data: Path, longest_hours: int) -> None:
    """
    Make blocks of an OpenMetrics file, and remove the file.

    Blocks are as long as they may be: promtool reads the whole file for each.
    """
    longest = f"--max-block-duration={longest_hours}h"
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", longest]
    subprocess.run([*command, str(file), str(data)], check=True, stdout=subprocess.DEVNULL)
    file.unlink()
