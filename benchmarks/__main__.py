"""
Run all benchmarks.

Usage: python -m benchmarks [--quick]. In full they take most of an hour, with --quick some minutes.
"""

from __future__ import annotations

import argparse

from benchmarks import (
    busy_poll,
    cold_sync,
    in_flight,
    many_targets,
    paced_sync,
    quiet_poll,
    rendering,
    restart,
    scrape,
    slow_disk,
    startup,
)


def _quick() -> None:
    startup.main(rounds=3, polls=5)
    cold_sync.main([20_000], [0.0, 0.05], rounds=1)
    paced_sync.main(20_000, 200, [0.05], ["4", "auto"])
    in_flight.main([1_000, 20_000], polls=3, rounds=1)
    quiet_poll.main([2_000, 20_000], seconds=20, naive_polls=2)
    busy_poll.main(20_000, changes=1_000, spreads=[1, 2, 3])
    restart.main([2_000, 20_000], rounds=3)
    many_targets.main([1, 50], jobs=1_000, interval=5, seconds=20)
    slow_disk.main([50], interval=2, sync_ms=20, seconds=10)
    scrape.main([1_000, 10_000], seconds=2, rounds=1)
    rendering.main(targets=[1, 100], series=100_000, intervals=[10.0], seconds=5, times=3)


def _full() -> None:
    startup.main(rounds=5, polls=30)
    cold_sync.main([200_000, 1_000_000], [0.0, 0.05], rounds=3)
    paced_sync.main(1_000_000, 200, [0.05, 0.2], ["4", "auto"])
    in_flight.main([100, 1_000, 10_000, 100_000], polls=5, rounds=3)
    quiet_poll.main([2_000, 200_000, 1_000_000], seconds=60, naive_polls=2)
    busy_poll.main(1_000_000, changes=1_000, spreads=[1, 2, 3])
    restart.main([2_000, 1_000_000], rounds=5)
    many_targets.main([1, 50, 200, 1_000, 2_000], jobs=1_000, interval=30, seconds=60)
    slow_disk.main([200, 1_000, 2_000], interval=30, sync_ms=20, seconds=60)
    scrape.main([1_000, 10_000, 100_000], seconds=10, rounds=3)
    rendering.main(targets=[1, 100, 1_000], series=100_000, intervals=[30.0, 10.0, 1.0], seconds=30, times=9)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    (_quick if parser.parse_args().quick else _full)()
