"""
Lives whose jobs wait for nodes: ordinary ones, and scenes with something that an alert must or must not say.

    life = draw("ordinary", "bursty", 7)

An ordinary life is one of `benchmarks.alerts.life` without spikes, whose types ask for resources. Each spec
has so many nodes that between a third and nine tenths of them are in use on a usual day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.life import live
from benchmarks.alerts.project import (
    DAY,
    DAYS,
    FLAVOURS,
    MINUTES,
    WARM_UP,
    Flavour,
    Floats,
    Pauses,
    Span,
    log_uniform,
)
from benchmarks.alerts.waits.nodes import Demand, Queued, needed_nodes, queued, waiting

_SPECS = ("2Core_4GiB", "8Core_32GiB", "T4_1Gpu_8Core_32GiB", "P100_1Gpu_2.1Core_4.1GiB")
_RARE, _NIGHT, _NEW = "V100_8Gpu_64Core_512GiB", "P100_4Gpu_16Core_64GiB", "A100_1Gpu_16Core_64GiB"
_USE = (0.33, 0.9)
_WEEKEND = (2, 3)
BACKLOG, RESOURCE = "OctopusBacklogClearsLate", "OctopusResourceWaitLong"


@dataclass(frozen=True, slots=True)
class Fault:
    """What an alert must say: its labels, and the minutes in which it may begin."""

    alert: str
    labels: Mapping[str, str]
    begin: int
    end: int


@dataclass(frozen=True, eq=False, slots=True)
class WaitingLife:
    """A life: `faults` is what must be told."""

    scene: str
    flavour: Flavour
    seed: int
    queue: Queued
    faults: tuple[Fault, ...]

    @property
    def project(self) -> str:
        return f"{self.flavour}-{self.seed}"


@dataclass(eq=False, slots=True)
class _Plan:
    """A life while it is drawn. Scenes change it."""

    rng: np.random.Generator
    job_types: tuple[str, ...]
    specs: tuple[str, ...]
    demand: Demand
    nodes: Floats
    pauses: Pauses
    faults: list[Fault]

    def add_spec(self, name: str, nodes: int) -> int:
        self.specs = (*self.specs, name)
        self.nodes = np.vstack([self.nodes, np.full(WARM_UP + MINUTES, float(nodes))])
        return len(self.specs) - 1

    def busiest(self) -> tuple[int, int]:
        """Return the type with the most jobs, and its spec."""
        kind = int(np.bincount(self.demand.kind).argmax())
        return kind, int(np.bincount(self.demand.spec[self.demand.kind == kind]).argmax())

    def rate(self, rows: NDArray[np.bool_]) -> float:
        """Return how many of these jobs come in an hour of a usual day."""
        return float(rows.sum()) / ((WARM_UP + MINUTES) / 60)

    def limit(self, spec: int, begin: int, minutes: int, nodes: float) -> None:
        self.nodes[spec, WARM_UP + begin : WARM_UP + begin + minutes] = nodes

    def noon(self) -> int:
        """Draw a moment of working hours, on a weekday from the sixth day on."""
        days = [day for day in range(5, DAYS - 2) if day % 7 not in _WEEKEND]
        return int(self.rng.choice(days)) * DAY + int(self.rng.integers(8 * 60, 13 * 60))


def draw(scene: str, flavour: Flavour, seed: int) -> WaitingLife:
    """Draw a life. The same arguments give the same life."""
    rng = np.random.default_rng([FLAVOURS.index(flavour), seed, 9])
    plan = _ordinary(rng, flavour, seed)
    SCENES[scene](plan)
    queue = queued(rng, plan.demand, plan.nodes, plan.job_types, plan.specs, plan.pauses)
    faults = tuple(fault for fault in plan.faults if _shows(queue, fault))
    return WaitingLife(scene, flavour, seed, queue, faults)


def _shows(queue: Queued, fault: Fault) -> bool:
    """
    Tell whether enough jobs wait for an alert to tell it.

    For four hours there are 20 jobs whose backlog is not cleared within 12 hours. Or for an hour three jobs
    have waited for an hour, and twice as long as nine in ten of at least 20 runs of the week before.
    """
    if fault.alert == BACKLOG:
        jobs = waiting(queue, queue.kind == queue.job_types.index(fault.labels["job_type"]))
        is_short = np.append(np.flatnonzero(jobs < 5), MINUTES)
        clears_after = is_short[np.searchsorted(is_short, np.arange(MINUTES))] - np.arange(MINUTES)
        is_late = (jobs >= 20) & (clears_after > 12 * 60)
        return _longest(is_late[fault.begin : fault.end]) > 4 * 60
    rows = queue.spec == queue.specs.index(fault.labels["resource_spec"])
    created, started = queue.created[rows], queue.started[rows]
    week = (started > max(0, fault.begin - 7 * DAY)) & (started < fault.begin)
    if (week & (started < fault.begin - DAY)).sum() < 20:
        return False
    unusual = max(60.0, 2 * float(np.quantile((started - created)[week], 0.9)))
    waits = [
        ((created < minute - unusual) & (started > minute)).sum() >= 3
        for minute in range(fault.begin, fault.end)
    ]
    return sum(waits) > 60


def _longest(minutes: NDArray[np.bool_]) -> int:
    """Return the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], minutes, [False])).astype(int)))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _ordinary(rng: np.random.Generator, flavour: Flavour, seed: int) -> _Plan:
    life = live(flavour, seed, has_spikes=False)
    runs = life.runs.where(np.isfinite(life.runs.started))
    of_kind = rng.integers(len(_SPECS), size=len(life.kinds))
    other = rng.integers(len(_SPECS), size=len(life.kinds))
    kind = runs.kind.astype(np.int64)
    # A tenth of the jobs ask for something else than their type usually does.
    spec = np.where(rng.random(len(runs)) < 0.1, other[kind], of_kind[kind])
    demand = Demand(kind, spec, runs.created, runs.ended - runs.started)
    counts = [needed_nodes(demand, number, rng.uniform(*_USE)) for number in range(len(_SPECS))]
    nodes = np.repeat(np.array(counts, float)[:, None], WARM_UP + MINUTES, axis=1)
    names = tuple(one.job_type for one in life.kinds)
    return _Plan(rng, names, _SPECS, demand, nodes, life.pauses, [])


def _nothing(_: _Plan) -> None:
    pass


def _loses_nodes(plan: _Plan) -> None:
    """All types of the busiest spec lose most of their nodes for a day and a half."""
    kind, spec = plan.busiest()
    rows = plan.demand.spec == spec
    begin, minutes = plan.noon(), 36 * 60
    work = plan.rate(rows) / 60 * float(plan.demand.minutes[rows].mean() + 1)
    plan.limit(spec, begin, minutes, max(1, np.floor(work * plan.rng.uniform(0.2, 0.6))))
    plan.faults.append(Fault(BACKLOG, {"job_type": plan.job_types[kind]}, begin, begin + minutes))


def _many_more_come(plan: _Plan) -> None:
    """Of the busiest type, three times as many jobs come as its nodes can run, for a day."""
    kind, spec = plan.busiest()
    begin, minutes = plan.noon(), 24 * 60
    length = float(np.median(plan.demand.minutes[plan.demand.kind == kind]))
    able = float(plan.nodes[spec, WARM_UP + begin]) / (length + 1)
    count = round(3 * able * minutes)
    created = np.sort(begin + plan.rng.random(count) * minutes)
    plan.demand = plan.demand.with_more(kind, spec, created, np.full(count, length))
    plan.faults.append(Fault(BACKLOG, {"job_type": plan.job_types[kind]}, begin, begin + minutes))


def _gpus_run_out(plan: _Plan) -> None:
    """No node of the busiest spec is free for six hours; those of other specs are."""
    _, spec = plan.busiest()
    begin, minutes = plan.noon(), 6 * 60
    plan.limit(spec, begin, minutes, 0)
    plan.faults.append(Fault(RESOURCE, {"resource_spec": plan.specs[spec]}, begin, begin + minutes))


def _nightly(plan: _Plan) -> None:
    """Each night a batch comes that keeps the nodes of its spec busy for three to ten hours."""
    kind, spec = plan.busiest()
    if plan.rng.random() < 0.5:
        spec = plan.add_spec(_NIGHT, int(plan.rng.integers(2, 10)))
    hours, length = log_uniform(plan.rng, (3, 10)), log_uniform(plan.rng, (5, 60))
    count = max(20, round(float(plan.nodes[spec, 0]) * hours * 60 / (length + 1)))
    minute = int(plan.rng.integers(0, 3 * 60))
    begins = np.arange(-WARM_UP, MINUTES, DAY) + minute
    sizes = np.rint(count * np.exp(plan.rng.normal(0, 0.1, len(begins)))).astype(int)
    created = np.repeat(begins, sizes) + plan.rng.random(int(sizes.sum())) * 3
    minutes = length * np.exp(plan.rng.normal(0, 0.2, len(created)))
    plan.demand = plan.demand.with_more(kind, spec, created, minutes)


def _new_spec(plan: _Plan) -> None:
    """Jobs ask for a spec that no job has asked for before, and it has few nodes."""
    kind, _ = plan.busiest()
    spec = plan.add_spec(_NEW, 2)
    begin, count = plan.noon(), int(plan.rng.integers(30, 100))
    created = np.sort(begin + plan.rng.random(count) * 8 * 60)
    plan.demand = plan.demand.with_more(kind, spec, created, np.full(count, 20.0))


def _rare_spec(plan: _Plan) -> None:
    """Two jobs a day ask for a spec, whose only node is often busy for hours with jobs of others."""
    kind, _ = plan.busiest()
    spec = plan.add_spec(_RARE, 1)
    days = np.repeat(np.arange(-WARM_UP, MINUTES, DAY), 2)
    created = days + plan.rng.uniform(8 * 60, 18 * 60, len(days))
    minutes = np.exp(plan.rng.normal(np.log(180), 0.7, len(days)))
    plan.demand = plan.demand.with_more(kind, spec, created, minutes)


def _weekend(plan: _Plan) -> None:
    """Next to nothing comes at the weekend, and on Monday morning three times as much as at other times."""
    day = np.floor(plan.demand.created / DAY).astype(int) % 7
    is_off = np.isin(day, _WEEKEND)
    plan.demand = plan.demand.where(~is_off | (plan.rng.random(len(plan.demand)) < 0.03))
    minute = plan.demand.created % DAY
    rush = (np.floor(plan.demand.created / DAY).astype(int) % 7 == 4) & (minute > 8 * 60) & (minute < 11 * 60)
    more = plan.demand.where(rush)
    for _ in range(2):
        for kind, spec in {*zip(more.kind.tolist(), more.spec.tolist(), strict=True)}:
            one = more.where((more.kind == kind) & (more.spec == spec))
            plan.demand = plan.demand.with_more(
                kind, spec, one.created + plan.rng.random(len(one)) * 10, one.minutes
            )


def _gaps(plan: _Plan) -> None:
    """The exporter restarts often, and is away or refused for hours several times."""

    def spans(count: int, limits: tuple[float, float]) -> tuple[Span, ...]:
        begins = np.sort(plan.rng.integers(DAY // 4, MINUTES - 8 * 60, count)).tolist()
        return tuple(Span(begin, begin + round(log_uniform(plan.rng, limits))) for begin in begins)

    exporter = (*plan.pauses.exporter, *spans(20, (1, 5)), *spans(5, (20, 360)))
    plan.pauses = replace(plan.pauses, exporter=exporter, api=(*plan.pauses.api, *spans(5, (20, 360))))


SCENES: dict[str, Callable[[_Plan], None]] = {
    "ordinary": _nothing,
    "nodes are lost": _loses_nodes,
    "more come than start": _many_more_come,
    "nodes of one spec run out": _gpus_run_out,
    "a batch each night": _nightly,
    "a new spec": _new_spec,
    "a rare spec": _rare_spec,
    "weekends off": _weekend,
    "restarts and gaps": _gaps,
}
