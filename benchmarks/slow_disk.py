"""
Many targets on a slow disk: how long the ledger's only thread waits for it.

Usage: python -m benchmarks.slow_disk [--targets N …] [--interval SECONDS] [--sync-ms N] [--seconds N]
           [--tree FOLDER …]

A small C library takes the place of fdatasync and fsync in the exporter: it sleeps before each of them and
counts them. It needs `cc`. Each FOLDER is another checkout whose exporter is measured too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import programs
from benchmarks.many_targets import Scrape
from benchmarks.measure import say, show

_COLUMNS = (
    *("targets", "exporter", "ready s", "polls", "due", "skipped", "slowest poll s"),
    *("syncs", "per poll", "waited for the disk", "CPU share"),
)
_NAMES = ("octopus_poll", "octopus_exporter_event_loop_lag")
_HERE = Path(__file__).parents[1]
_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
static uint64_t *syncs;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("SLOW_SYNC_COUNT"), O_RDWR | O_CREAT, 0600);
    if (ftruncate(file, 8) == 0) syncs = mmap(0, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
}
static int slowly(const char *name, int file) {
    usleep(1000 * atoi(getenv("SLOW_SYNC_MS")));
    __atomic_fetch_add(syncs, 1, __ATOMIC_RELAXED);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}
int fdatasync(int file) { return slowly("fdatasync", file); }
int fsync(int file) { return slowly("fsync", file); }
"""


@contextmanager
def slow_disk(sync_ms: int) -> Iterator[Path]:
    """Slow the disk down for the programs that are started here. Gives the file with the number of syncs."""
    with tempfile.TemporaryDirectory() as folder:
        source, library, count = (Path(folder) / name for name in ("sync.c", "sync.so", "count"))
        source.write_text(_LIBRARY)
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        slow = {"LD_PRELOAD": str(library), "SLOW_SYNC_COUNT": str(count), "SLOW_SYNC_MS": str(sync_ms)}
        os.environ.update(slow)
        try:
            yield count
        finally:
            for name in slow:
                del os.environ[name]


def _measure(targets: int, root: Path, interval: float, sync_ms: int, seconds: float) -> tuple[str, ...]:
    with (
        programs.page_server(1_000, in_flight=20) as server,
        programs.exporter(server, interval_seconds=interval, projects=targets, root=root) as exporter,
        slow_disk(sync_ms) as count,
        exporter.running() as client,
    ):
        client.wait_until_ready(look_seconds=0.2)
        ready = client.cost()
        time.sleep(interval)
        before, begun, syncs = Scrape.of(client.scrape(*_NAMES)), client.cost(), _number(count)
        time.sleep(seconds)
        after, cost, syncs = (
            Scrape.of(client.scrape(*_NAMES)),
            client.cost().since(begun),
            _number(count) - syncs,
        )
    polls = after.polls - before.polls
    return (
        *(
            f"{targets:,}",
            root.name,
            f"{ready.wall:.1f}",
            f"{polls:.0f}",
            f"{targets * cost.wall / interval:.0f}",
        ),
        *(
            f"{after.skipped - before.skipped:.0f}",
            f"{after.slowest:.2f}",
            f"{syncs}",
            f"{syncs / polls:.2f}",
        ),
        *(f"{syncs * sync_ms / 1e3 / cost.wall:.0%}", f"{cost.cpu / cost.wall:.0%}"),
    )


def _number(count: Path) -> int:
    return int.from_bytes(count.read_bytes(), "little")


def main(
    targets: Sequence[int], interval: float, sync_ms: int, seconds: float, roots: Sequence[Path] = ()
) -> None:
    """Run the benchmark and print the table."""
    rows = []
    for number in targets:
        for root in (_HERE, *roots):
            say(f"{number:,} targets, {root.name}")
            rows.append(_measure(number, root, interval, sync_ms, seconds))
    show(f"Many targets every {interval:g} s, at {sync_ms} ms a sync", _COLUMNS, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, nargs="+", default=[200, 1_000, 2_000])
    parser.add_argument("--interval", type=float, default=30)
    parser.add_argument("--sync-ms", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tree", type=Path, nargs="*", default=[])
    chosen = parser.parse_args()
    main(chosen.targets, chosen.interval, chosen.sync_ms, chosen.seconds, chosen.tree)
