"""
A scrape: the latency of the exporter against three other servers.

- nginx serves the same bytes as a file;
- the client library's own handler renders the same families at every scrape;
- promhttp, Go's handler, does so too (benchmarks/promhttp). It runs if `go` is installed.

Usage: python -m benchmarks.scrape [--series N …] [--seconds N] [--rounds N]; --quick for small sizes.
Needs wrk and nginx. The Go program needs the network once, for its modules.

One client, wrk, with one connection and gzip, requests from all of them in turn. The latencies are those that
wrk reports in the median round.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.request import ProxyHandler, Request, build_opener

from benchmarks import programs
from benchmarks.measure import ratio, say, show

_COLUMNS = ("series", "server", "kB", "scrapes/s", "p50 ms", "p99 ms", "p50 to nginx", "p99 to nginx")
# The headers that Prometheus sends.
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_PEER_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Latency:
    """The latencies that wrk measured. Units: milliseconds."""

    per_second: float
    p50: float
    p99: float


def _wrk(url: str, seconds: float) -> Latency:
    headers = [part for name, value in _HEADERS.items() for part in ("--header", f"{name}: {value}")]
    command = ["wrk", "--threads", "1", "--connections", "1", "--timeout", "120", "--latency", *headers]
    done = subprocess.run(
        [*command, "--duration", f"{seconds:g}s", url], capture_output=True, text=True, check=True
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    (per_second,) = re.findall(r"Requests/sec: +([0-9.]+)", done.stdout)
    return Latency(float(per_second), _quantile(done.stdout, 50), _quantile(done.stdout, 99))


def _quantile(told: str, percent: int) -> float:
    ((value, unit),) = re.findall(rf" {percent}% +([0-9.]+)([a-z]+)", told)
    return float(value) * _UNITS_MS[unit]


def _body(url: str, headers: Mapping[str, str] = _HEADERS) -> bytes:
    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(url, headers=dict(headers)), timeout=120) as found:
        body: bytes = found.read()
    return body


def _middle(rounds: list[Latency]) -> Latency:
    wanted = median(one.p50 for one in rounds)
    return min(rounds, key=lambda one: abs(one.p50 - wanted))


def _compare(wanted: int, seconds: float, rounds: int) -> list[tuple[str, ...]]:
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        port, series = running.enter_context(programs.published(wanted))
        peer_port, _ = running.enter_context(programs.published(wanted, peer=True))
        ports = {
            "nginx": running.enter_context(programs.nginx(folder)),
            "exporter": port,
            "prometheus_client": peer_port,
        }
        if shutil.which("go") is not None:
            text = _body(_url(port), {})
            ports["promhttp"] = running.enter_context(programs.promhttp(folder, text))
        (folder / "metrics").write_bytes(_body(_url(port)))
        sizes = {name: len(_body(_url(port))) for name, port in ports.items()}
        # prometheus_client takes a second for 100,000 series: one round is enough for its latency.
        slow_seconds = max(_PEER_SECONDS, wanted / 5000)
        found: dict[str, list[Latency]] = {name: [] for name in ports}
        for number in range(rounds):
            for name, port in ports.items():
                if name == "prometheus_client":
                    found[name] += [_wrk(_url(port), slow_seconds)] if number == 0 else []
                else:
                    found[name].append(_wrk(_url(port), seconds))
    middle = {name: _middle(latencies) for name, latencies in found.items()}
    for name in middle.keys() & {"prometheus_client", "promhttp"}:
        say(f"{series:,} series: {name}'s p50 is {middle[name].p50 / middle['exporter'].p50:,.1f} times ours")
    return [_row(series, name, sizes[name], one, middle["nginx"]) for name, one in middle.items()]


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


def _row(series: int, name: str, size: int, one: Latency, nginx: Latency) -> tuple[str, ...]:
    return (
        *(f"{series:,}", name, f"{size / 1000:,.1f}"),
        *(f"{one.per_second:,.1f}", f"{one.p50:,.3f}", f"{one.p99:,.3f}"),
        *(ratio(one.p50, nginx.p50), ratio(one.p99, nginx.p99)),
    )


def main(series: list[int], seconds: float, rounds: int) -> None:
    """Run the benchmark and print the table, or a message if wrk or nginx is not installed."""
    missing = [program for program in ("wrk", "nginx") if shutil.which(program) is None]
    if missing:
        say(f"A scrape is not measured: {' and '.join(missing)} not installed.")
        return
    rows = [row for wanted in series for row in _compare(wanted, seconds, rounds)]
    show("A scrape, one client with one connection, gzip", _COLUMNS, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    if chosen.quick:
        main([1_000, 10_000], seconds=2, rounds=1)
    else:
        main(chosen.series, chosen.seconds, chosen.rounds)
