"""
Jobs that wait for nodes: each resource_spec has a number of them, and its jobs start as they were created.

Units: minutes since the first day's midnight. Nodes are arrays with one column for each minute, from WARM_UP
minutes before the first day on, as in project.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.project import MINUTES, WARM_UP, Floats, Pauses

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Demand:
    """Jobs before they wait: by row the number of the job type and of the spec, and how long the job runs."""

    kind: Ints
    spec: Ints
    created: Floats
    minutes: Floats

    def __len__(self) -> int:
        return len(self.kind)

    def with_more(self, kind: int, spec: int, created: Floats, minutes: Floats) -> Demand:
        count = len(created)
        more = Demand(np.full(count, kind), np.full(count, spec), created, minutes)
        return Demand(
            *(
                np.concatenate([getattr(self, field.name), getattr(more, field.name)])
                for field in fields(Demand)
            )
        )

    def where(self, keep: NDArray[np.bool_]) -> Demand:
        return Demand(*(getattr(self, field.name)[keep] for field in fields(Demand)))


@dataclass(frozen=True, eq=False, slots=True)
class Queued:
    """
    Jobs with their waits, in the order of their creation.

    Shape: `launched` is when the job got its node, `started` when it began to run; both are infinite for a
    job that does not start before the end.
    """

    job_types: tuple[str, ...]
    specs: tuple[str, ...]
    kind: Ints
    spec: Ints
    created: Floats
    launched: Floats
    started: Floats
    pauses: Pauses


def queued(
    rng: np.random.Generator,
    demand: Demand,
    nodes: Floats,
    job_types: tuple[str, ...],
    specs: tuple[str, ...],
    pauses: Pauses,
) -> Queued:
    """Let the jobs of each spec wait for its nodes. Shape: `nodes` by spec and minute."""
    order = np.argsort(demand.created, kind="stable")
    kind, spec, created = demand.kind[order], demand.spec[order], demand.created[order]
    launching = np.exp(rng.normal(np.log(0.5), 0.5, len(order)))
    launched = np.full(len(order), np.inf)
    for number in range(len(specs)):
        rows = np.flatnonzero(spec == number)
        holds = launching[rows] + demand.minutes[order][rows]
        launched[rows] = _launched(created[rows], holds, nodes[number])
    return Queued(job_types, specs, kind, spec, created, launched, launched + launching, pauses)


def _launched(created: Floats, holds: Floats, nodes: Floats) -> Floats:
    """Return the minute when each job gets a node. A node that is taken away finishes its job first."""
    found = np.full(len(created), np.inf)
    busy: list[float] = []
    row = 0
    for column, count in enumerate(nodes.tolist()):
        now = column - WARM_UP
        while busy and busy[0] <= now:
            heappop(busy)
        while row < len(created) and created[row] <= now and len(busy) < count:
            found[row] = now
            heappush(busy, now + float(holds[row]))
            row += 1
    return found


def needed_nodes(demand: Demand, spec: int, use: float) -> int:
    """Return how many nodes a spec has, if so large a part of them is in use on a usual day."""
    rows = demand.spec == spec
    days = np.floor(demand.created[rows] / (24 * 60)).astype(int)
    work = np.bincount(days - days.min(), demand.minutes[rows] + 1) if rows.any() else np.zeros(1)
    return max(1, int(np.ceil(np.quantile(work, 0.6) / (24 * 60) / use)))


def waiting(queue: Queued, rows: NDArray[np.bool_]) -> Ints:
    """Return how many of these jobs wait for their start at each minute."""
    steps = np.zeros(MINUTES + 1, np.int64)
    for times, sign in ((queue.created[rows], 1), (queue.started[rows], -1)):
        seen = np.clip(np.floor(np.minimum(times, MINUTES)) + 1, 0, MINUTES).astype(np.int64)
        np.add.at(steps, seen, sign)
    return np.cumsum(steps)[:MINUTES]
