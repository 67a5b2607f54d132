"""
Rendering: the cost of one changed target against rendering all, the size of the compressed body, and the lag
that rendering causes in the event loop.

Usage: python -m benchmarks.rendering [--targets N …] [--series N] [--interval SECONDS …] [--seconds N];
--quick for small sizes.

Each target is in a project of its own, which has the exporter's metrics of its API requests. A poll counts
three requests. The bodies are requested with gzip after each rendering, in the format that Prometheus wants.

For the lag, targets with so many series in total are published one after the other, each once in an interval
and with every family changed, while another process scrapes once a second. A timer of ten milliseconds
measures the lag. The first row has no publications: it shows the lag that the machine itself causes.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import sys
import time
from collections.abc import Callable
from itertools import cycle
from statistics import median, quantiles
from typing import cast

from prometheus_client import CollectorRegistry

from benchmarks.measure import show
from benchmarks.published import snapshot, snapshots
from exporter import __version__
from exporter.config import ListenAddress
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.model import TargetSnapshot
from exporter.service import tune_process
from exporter.web.app import Exporter, create_app
from exporter.web.server import Server, bind_all

_PROBE_SECONDS = 0.01
_REQUESTS = 3
_COLUMNS = (
    *("targets", "MB", "all ms", "one changed ms", "of all", "one unchanged ms", "of all"),
    *("gzip kB", "to one piece"),
)
_SCRAPER = """
import sys, time, urllib.request
while True:
    request = urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": "gzip"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).read()
    time.sleep(1)
"""


def _cpu(work: Callable[[], object], times: int) -> float:
    """Return the median CPU time of some work, in milliseconds."""
    taken = []
    for _ in range(times):
        begun = time.process_time()
        work()
        taken.append((time.process_time() - begun) * 1e3)
    return median(taken)


class _Published:
    """A publisher with so many targets, all rendered."""

    def __init__(self, published: list[TargetSnapshot]) -> None:
        self._instruments = Instruments(CollectorRegistry(), __version__)
        self.publisher = Publisher(self._instruments)
        for one in published:
            self._instruments.add_project(one.target.project)
            self.poll(one)
        self.render()

    def poll(self, polled: TargetSnapshot) -> None:
        for _ in range(_REQUESTS):
            self._instruments.request(polled.target.project, "200", 0.1)
        self.publisher.publish(polled)

    def render(self) -> tuple[bytes, bytes]:
        """Render all that has changed; return the body that Prometheus gets, and the same body compressed."""
        body = self.publisher.render_now().openmetrics
        return body.plain, b"".join(body.gzip_with_tail(b""))

    def poll_and_render(self, polled: TargetSnapshot) -> None:
        self.poll(polled)
        self.publisher.render_now().openmetrics.gzip_with_tail(b"")


def one_of_many(targets: int, times: int) -> tuple[str, ...]:
    """Compare the rendering after one poll, up to the complete bodies, with that of all targets."""
    published = [snapshot(number) for number in range(targets)]
    made = _Published(published)
    changes = cycle(snapshot(0, polls=polls) for polls in (2, 3))
    everything = _cpu(lambda: _Published(published), times)
    changed = _cpu(lambda: made.poll_and_render(next(changes)), times)
    # Without a change, only the metrics of the project's requests are rendered.
    quiet = next(changes)
    made.poll_and_render(quiet)
    unchanged = _cpu(lambda: made.poll_and_render(quiet), times)
    plain, zipped = made.render()
    return (
        *(f"{targets}", f"{len(plain) / 1e6:.1f}", f"{everything:,.1f}"),
        *(
            f"{changed:.2f}",
            f"1/{everything / changed:.0f}",
            f"{unchanged:.2f}",
            f"1/{everything / unchanged:.0f}",
        ),
        *(f"{len(zipped) / 1000:,.1f}", f"{len(zipped) / len(gzip.compress(plain, 6)):.2f}"),
    )


async def _lags(series: int, interval: float | None, seconds: float) -> tuple[list[float], float, int]:
    """Publish and measure. Returns the lags in ms, the CPU share, and the number of publications."""
    published = snapshots(series)
    made = _Published(published)
    publisher = made.publisher
    app = create_app(cast("Exporter", None), publisher)  # its other pages are not requested
    server = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]))
    await server.start()
    url = f"http://127.0.0.1:{server.ports[0]}/metrics"
    scraper = await asyncio.create_subprocess_exec(sys.executable, "-c", _SCRAPER, url)
    tasks = [asyncio.create_task(publisher.run())]
    if interval is not None:
        tasks.append(asyncio.create_task(_publish(made, len(published), interval)))
    await asyncio.sleep(2)
    begun, at, polls = time.process_time(), time.monotonic(), _polls(publisher)
    lags = await _probe(seconds)
    share = (time.process_time() - begun) / (time.monotonic() - at)
    count = _polls(publisher) - polls
    for task in tasks:
        task.cancel()
    scraper.kill()
    await asyncio.gather(*tasks, scraper.wait(), return_exceptions=True)
    await server.close()
    return lags, share, count


def _polls(publisher: Publisher) -> int:
    return sum(one.poll.polls for one in publisher.snapshots)


async def _publish(made: _Published, targets: int, interval: float) -> None:
    """Publish every target once per interval, evenly distributed."""
    polls, due = 1, time.monotonic()
    while True:
        polls += 1
        for number in range(targets):
            due += interval / targets
            await asyncio.sleep(max(due - time.monotonic(), 0))
            made.poll(snapshot(number, polls))


async def _probe(seconds: float) -> list[float]:
    lags, ends = [], time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        await asyncio.sleep(_PROBE_SECONDS)
        lags.append((time.monotonic() - now - _PROBE_SECONDS) * 1e3)
    return lags


def loop_lag(series: int, intervals: list[float], seconds: float) -> None:
    """Measure the lag while targets are published."""
    tune_process()  # as the exporter does
    rows = []
    for interval in (None, *intervals):
        lags, share, count = asyncio.run(_lags(series, interval, seconds))
        cuts = quantiles(lags, n=100)
        rows.append(
            (
                *(
                    "none" if interval is None else f"{interval:g}",
                    f"{count:,}",
                    f"{cuts[49]:.1f}",
                    f"{cuts[94]:.1f}",
                    f"{cuts[98]:.1f}",
                ),
                *(f"{max(lags):.0f}", f"{share:.0%}"),
            )
        )
    columns = ("interval s", "published", "lag p50 ms", "p95 ms", "p99 ms", "max ms", "CPU share")
    show(f"The event loop while {series:,} series are rendered again after every poll", columns, rows)


def main(targets: list[int], series: int, intervals: list[float], seconds: float, times: int) -> None:
    """Run both benchmarks and print the tables."""
    rows = [one_of_many(number, times) for number in targets]
    show("Rendering after one poll, CPU time", _COLUMNS, rows)
    loop_lag(series, intervals, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 100, 1_000])
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--interval", type=float, nargs="+", default=[30.0, 10.0, 1.0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    if chosen.quick:
        main([1, 100], chosen.series, [10.0], seconds=5, times=3)
    else:
        main(chosen.targets, chosen.series, chosen.interval, chosen.seconds, times=9)
