"""
A scrape: the exporter beside nginx, which serves the same bytes as a file, and beside the client library's
own handler, which renders the same families at every scrape.

Usage: python -m benchmarks.scrape [--series N …] [--seconds N] [--rounds N]; --quick for little of each.
Needs wrk and nginx.

One client, wrk, with one connection and gzip, asks all three in turn; the latencies are wrk's, those of the
median round.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.request import ProxyHandler, Request, build_opener

from benchmarks import programs
from benchmarks.report import ratio, say, show

_COLUMNS = ("series", "server", "kB", "scrapes/s", "p50 ms", "p99 ms", "p50 to nginx", "p99 to nginx")
# As Prometheus asks.
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_PEER_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Latency:
    """What wrk measured. Units: milliseconds."""

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


def _body(url: str) -> bytes:
    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(url, headers=_HEADERS), timeout=120) as found:
        body: bytes = found.read()
    return body


def _middle(rounds: list[Latency]) -> Latency:
    wanted = median(one.p50 for one in rounds)
    return min(rounds, key=lambda one: abs(one.p50 - wanted))


def _compare(wanted: int, seconds: float, rounds: int) -> list[tuple[str, ...]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        programs.published(wanted) as (port, series),
        programs.published(wanted, peer=True) as (peer_port, _),
        programs.nginx(Path(folder)) as nginx_port,
    ):
        urls = {
            "nginx": f"http://127.0.0.1:{nginx_port}/metrics",
            "exporter": f"http://127.0.0.1:{port}/metrics",
        }
        (Path(folder) / "metrics").write_bytes(_body(urls["exporter"]))
        size = len(_body(urls["nginx"]))
        assert size == len((Path(folder) / "metrics").read_bytes())
        found: dict[str, list[Latency]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                found[name].append(_wrk(url, seconds))
        peer = _wrk(f"http://127.0.0.1:{peer_port}/metrics", max(_PEER_SECONDS, wanted / 5000))
    middle = {name: _middle(latencies) for name, latencies in found.items()}
    middle["prometheus_client"] = peer
    say(f"{series:,} series: prometheus_client's p50 is {peer.p50 / middle['exporter'].p50:,.0f} times ours")
    return [_row(series, name, size, one, middle["nginx"]) for name, one in middle.items()]


def _row(series: int, name: str, size: int, one: Latency, nginx: Latency) -> tuple[str, ...]:
    return (
        *(f"{series:,}", name, "" if name == "prometheus_client" else f"{size / 1000:,.1f}"),
        *(f"{one.per_second:,.1f}", f"{one.p50:,.3f}", f"{one.p99:,.3f}"),
        *(ratio(one.p50, nginx.p50), ratio(one.p99, nginx.p99)),
    )


def main(series: list[int], seconds: float, rounds: int) -> None:
    """Run it and print the table; without its programs, only say so."""
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
