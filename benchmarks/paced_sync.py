"""
A first sync at a request rate: its time against the time that the rate alone takes.

Usage: python -m benchmarks.paced_sync [--jobs N] [--pace N] [--latency SECONDS …] [--concurrency N|auto …]

`pace alone` is the time that the rate needs; `bound` is what 16 requests under way need at least, where
that is longer. The time is that of the first poll, without the start of the process.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product

from benchmarks import programs
from benchmarks.measure import ratio, say, show
from benchmarks.programs import Server

_COLUMNS = (
    *("latency s", "concurrency", "requests", "sync s", "requests/s"),
    *("pace alone s", "to pace", "bound s", "to bound", "CPU s"),
)
_MOST_AT_ONCE = 16


def _row(server: Server, pace: float, latency: float, concurrency: str) -> tuple[str, ...]:
    say(f"{latency:g} s of latency, {concurrency} requests under way")
    server.delay(latency)
    before, _ = server.served()
    at_once = concurrency if concurrency == "auto" else int(concurrency)
    poll = {"requests_per_second": pace, "concurrency": at_once}
    with (
        programs.exporter(server, interval_seconds=3600, poll=poll) as exporter,
        exporter.running() as client,
    ):
        client.wait_until_ready()
        requests, cpu = client.cost().requests - before, client.cost().cpu
        client.wait_until_shown("octopus_poll_duration_seconds{")
        took = client.total("octopus_poll_duration_seconds")
    alone, bound = requests / pace, requests * max(latency / _MOST_AT_ONCE, 1 / pace)
    return (
        *(f"{latency:g}", concurrency, f"{requests:,}", f"{took:.1f}", f"{requests / took:.0f}"),
        *(f"{alone:.1f}", ratio(took, alone), f"{bound:.1f}", ratio(took, bound), f"{cpu:.1f}"),
    )


def main(jobs: int, pace: float, latencies: Sequence[float], concurrencies: Sequence[str]) -> None:
    """Run the benchmark and print the table."""
    with programs.page_server(jobs) as server:
        rows = [_row(server, pace, *one) for one in product(latencies, concurrencies)]
    show(f"First sync of {jobs:,} jobs at {pace:g} requests a second", _COLUMNS, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--pace", type=float, default=200)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--concurrency", nargs="+", default=["4", "auto"])
    chosen = parser.parse_args()
    main(chosen.jobs, chosen.pace, chosen.latency, chosen.concurrency)
