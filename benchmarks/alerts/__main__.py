"""
The quality of the spike alerts on untuned lives, compared with three simple rules and an oracle.

Usage: python -m benchmarks.alerts [--quick] [--seeds tune|report|N-M] [--rules FILE] [--list] [--workers N]

Each life is evaluated twice: calm, where every spike alert is false, and with spikes. The tables are
Markdown, on standard output. Tune the rules with `--seeds tune` (a first round: `--quick --seeds tune
--list`), and report with the seeds that are the default.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.alerts.life import REPORTING_SEEDS, TUNING_SEEDS
from benchmarks.alerts.outcome import RULES, Work, evaluate
from benchmarks.alerts.project import FLAVOURS
from benchmarks.alerts.report import listing, tables
from benchmarks.measure import say

_QUICK_LIVES = 2


def main(seeds: Sequence[int], rules: Path, workers: int, is_listed: bool) -> None:
    begin = time.monotonic()
    works = [
        Work(flavour, seed, spikes, rules)
        for seed in seeds
        for flavour in FLAVOURS
        for spikes in (False, True)
    ]
    with ProcessPoolExecutor(workers) as pool:
        outcomes = list(pool.map(evaluate, works))
    for table in tables(outcomes):
        print(table)
    if is_listed:
        print("\n".join(listing(outcomes)))
    say(f"seeds {seeds[0]} to {seeds[-1]} of each flavour, {time.monotonic() - begin:.0f} s")


def seeds_of(text: str) -> Sequence[int]:
    named = {"tune": TUNING_SEEDS, "report": REPORTING_SEEDS}
    if text in named:
        return named[text]
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} is neither tune nor report nor a range such as 0-9")
    return seeds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alerts")
    parser.add_argument("--quick", action="store_true", help=f"only {_QUICK_LIVES} lives of each flavour")
    parser.add_argument("--seeds", type=seeds_of, default=REPORTING_SEEDS, help="tune, report or N-M")
    parser.add_argument("--rules", type=Path, default=RULES, help="another rule file")
    parser.add_argument("--list", action="store_true", help="name every false page and every missed spike")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    chosen_seeds = chosen.seeds[:_QUICK_LIVES] if chosen.quick else chosen.seeds
    sys.exit(main(chosen_seeds, chosen.rules, chosen.workers, chosen.list))
