"""
The quality of the alerts about waiting: OctopusBacklogClearsLate and OctopusResourceWaitLong.

Usage: python -m benchmarks.alerts.waits [--scene NAME …] [--seeds tune|report|N-M] [--rules FILE] [--list]
[--workers N]

Prints a table in Markdown: a line for each scene, which is a kind of life (lives.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.alerts.__main__ import seeds_of
from benchmarks.alerts.engine import Engine
from benchmarks.alerts.life import REPORTING_SEEDS
from benchmarks.alerts.outcome import RULES
from benchmarks.alerts.project import DAYS, FLAVOURS, Flavour
from benchmarks.alerts.report import markdown
from benchmarks.alerts.verdict import spelled
from benchmarks.alerts.waits.lives import BACKLOG, RESOURCE, SCENES, draw
from benchmarks.alerts.waits.series import scraped
from benchmarks.alerts.waits.verdict import Judged, delay, judge
from benchmarks.measure import say


@dataclass(frozen=True, slots=True)
class Work:
    scene: str
    flavour: Flavour
    seed: int
    rules: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What the alerts said of a life.

    Shape: `delays` has the minutes until each fault was told, None if it was not.
    """

    work: Work
    judged: tuple[Judged, ...]
    delays: tuple[int | None, ...]


def evaluate(work: Work) -> Outcome:
    life = draw(work.scene, work.flavour, work.seed)
    engine = Engine([work.rules], scraped(life), keeps_intervals=True)
    alerts = engine.stretches(BACKLOG, RESOURCE)
    return Outcome(work, tuple(judge(life, alerts)), tuple(delay(fault, alerts) for fault in life.faults))


def main(scenes: Sequence[str], seeds: Sequence[int], rules: Path, workers: int, is_listed: bool) -> None:
    begin = time.monotonic()
    works = [Work(scene, flavour, seed, rules) for scene in scenes for seed in seeds for flavour in FLAVOURS]
    with ProcessPoolExecutor(workers) as pool:
        outcomes = list(pool.map(evaluate, works))
    print(markdown("Alerts about waiting, by scene", _COLUMNS, [_row(scene, outcomes) for scene in scenes]))
    if is_listed:
        for one in outcomes:
            for told in one.judged:
                labels = told.alert.labels.get("job_type") or told.alert.labels.get("resource_spec")
                life = f"{one.work.scene}, {one.work.flavour} {one.work.seed}"
                when = f"minutes {told.alert.begin} to {told.alert.end}"
                print(f"{told.verdict}, {life}, {when}: {told.alert.name} {labels} ({told.truth})")
            if None in one.delays:
                print(f"missed, {one.work.scene}, {one.work.flavour} {one.work.seed}")
    say(f"seeds {seeds[0]} to {seeds[-1]} of each flavour, {time.monotonic() - begin:.0f} s")


_COLUMNS = (
    *("scene", "days", "false, clears late", "false, waits long"),
    *("true, clears late", "true, waits long", "found", "p50 / p95 minutes"),
)


def _row(scene: str, outcomes: Sequence[Outcome]) -> Sequence[str]:
    of_scene = [one for one in outcomes if one.work.scene == scene]
    counts = [
        sum(told.verdict == verdict and told.alert.name == name for one in of_scene for told in one.judged)
        for verdict in ("false", "true")
        for name in (BACKLOG, RESOURCE)
    ]
    delays = [delay for one in of_scene for delay in one.delays]
    found = sum(delay is not None for delay in delays)
    told = (f"{found} of {len(delays)}", spelled(delays)) if delays else ("-", "-")
    return scene, f"{len(of_scene) * DAYS:,}", *map(str, counts), *told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alerts.waits")
    parser.add_argument("--scene", nargs="+", choices=SCENES, default=list(SCENES), help="only these")
    parser.add_argument("--seeds", type=seeds_of, default=REPORTING_SEEDS, help="tune, report or N-M")
    parser.add_argument("--rules", type=Path, default=RULES, help="another rule file")
    parser.add_argument(
        "--list", action="store_true", help="name every alert and every fault that was not told"
    )
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    main(chosen.scene, chosen.seeds, chosen.rules, chosen.workers, chosen.list)
