"""
Twelve days of a project, minute by minute, drawn at random from a flavour and a seed.

    life = live("bursty", 7)            # with spikes: life.spikes
    quiet = live("bursty", 7, False)    # the same life without them
    series = scraped(life)              # benchmarks.alerts.scrapes: what Prometheus would have stored

In an `even` life, runs fail independently with their type's usual share. In a `bursty` one, runs come in
batches that fail together, users run failed ones again, and rates and shares drift. `project.py` has the
figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.alerts.project import (
    DAY,
    FLAVOURS,
    MINUTES,
    Flavour,
    Kind,
    Pauses,
    draw_kinds,
    draw_pauses,
    draw_size,
)
from benchmarks.alerts.runs import Runs, draw_runs
from benchmarks.alerts.spikes import Spike, inject
from exporter.model import FAILED_STATUSES

TUNING_SEEDS = range(20)
REPORTING_SEEDS = range(1000, 1020)


@dataclass(frozen=True, eq=False, slots=True)
class Life:
    """All events of a project. `spikes` is in the order of `Runs.spike`, not of time."""

    flavour: Flavour
    seed: int
    kinds: tuple[Kind, ...]
    pauses: Pauses
    runs: Runs
    spikes: tuple[Spike, ...]

    @property
    def project(self) -> str:
        return f"{self.flavour}-{self.seed}"

    @property
    def series_days(self) -> float:
        """The days of all its series: job types times failed statuses, each from the type's first day."""
        lived = sum(MINUTES - max(kind.born, 0) for kind in self.kinds)
        return lived / DAY * len(FAILED_STATUSES)


def live(flavour: Flavour, seed: int, has_spikes: bool = True) -> Life:
    """Draw a life. The same flavour and seed give the same life, with spikes or without."""
    streams = [np.random.default_rng([FLAVOURS.index(flavour), seed, part]) for part in range(4)]
    kinds = draw_kinds(streams[0], flavour, draw_size(streams[0], seed))
    pauses = draw_pauses(streams[1])
    runs = draw_runs(streams[2], flavour, kinds)
    spikes: tuple[Spike, ...] = ()
    if has_spikes:
        runs, spikes = inject(streams[3], kinds, pauses, runs)
    return Life(flavour, seed, kinds, pauses, runs, spikes)
