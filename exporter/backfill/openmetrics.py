"""
Writes the past of all targets as OpenMetrics, a file a UTC day.

    # TYPE octopus_jobs_created counter
    octopus_jobs_created_total{project="p",workspace="0",job_type="FRAME_EXTRACT",job="octopus"} 12 1764201600
    # EOF

A family is one block in each file, as `promtool tsdb create-blocks-from openmetrics` and the standard want
it. In it the points of one metric stand together, in order of time, and so do the samples of one point (all
buckets, count and sum of a histogram). promtool takes memory by the size of a file: so there is one a day.

The parser of prometheus_client (0.26) cannot read that: of the second point of a histogram it drops all
samples but the first, as copies of those of the first point, and then says "+Inf bucket missing".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, starmap
from pathlib import Path

from exporter.backfill.history import JOBS, RESOURCE_JOBS, SeriesValue, TargetDay, TargetHistory
from exporter.backfill.plan import BackfillPlan, TargetPlan, WrittenDay, file_name
from exporter.backfill.spool import Spool
from exporter.counting import increments
from exporter.counting.resources import parse_spec
from exporter.errors import BackfillError
from exporter.exposition import families
from exporter.exposition.families import Family
from exporter.exposition.render import EOF, header, label_pair, number
from exporter.exposition.samples import CREATED, SOURCES, Sample, named_by_specs
from exporter.model import SeriesKey

FAMILIES: Mapping[str, Family] = {
    JOBS: families.JOBS,
    increments.CREATED: families.JOBS_CREATED,
    increments.COMPLETED: families.JOBS_COMPLETED,
    increments.FAILURES: families.JOB_FAILURES,
    increments.SUBMITTING: families.JOB_SUBMITTING_DURATION,
    increments.RUNNING: families.JOB_RUNNING_DURATION,
    RESOURCE_JOBS: families.RESOURCE_JOBS,
    increments.RESOURCE_SUBMITTING: families.RESOURCE_SUBMITTING_DURATION,
    increments.CORE_SECONDS: families.JOB_CORE_SECONDS,
    increments.GPU_SECONDS: families.JOB_GPU_SECONDS,
    increments.MEMORY_SECONDS: families.JOB_MEMORY_SECONDS,
}
# What a spec names: one value, at the times of its jobs in flight.
SPEC_FAMILIES = (families.RESOURCE_SPEC_CORES, families.RESOURCE_SPEC_GPUS, families.RESOURCE_SPEC_MEMORY)
_PARTIAL = ".partial"


def write_days(
    plan: BackfillPlan, spool: Spool, output: Path, on_day: Callable[[str, int], None]
) -> list[WrittenDay]:
    """
    Write the files. A file gets its name when it is complete; a day without samples has no file.

    Shape: `on_day` is called after each day, with its file's name and 1.
    Raises: BackfillError (the disk is full, …).
    """
    written = []
    for day_ms, targets in _days(plan, spool):
        file = _write_day(plan, targets, output / file_name(day_ms))
        if file is not None:
            written.append(file)
        on_day(file_name(day_ms), 1)
    return written


def _days(plan: BackfillPlan, spool: Spool) -> Iterator[tuple[int, list[TargetDay]]]:
    """Give each day once the next one is known: a day ends with a 0 of the series born in the next one."""
    histories = [TargetHistory(target, plan) for target in plan.targets]
    done_ms = [-1] * len(histories)
    before: tuple[int, list[TargetDay]] | None = None
    for day_ms in plan.days:
        days = []
        for target, history in enumerate(histories):
            times = history.times_ms(day_ms)
            moments = spool.moments(target, done_ms[target], times[-1]) if times else iter(())
            days.append(history.day(day_ms, moments))
            done_ms[target] = times[-1] if times else done_ms[target]
        if before is not None:
            for earlier, later in zip(before[1], days, strict=True):
                earlier.end_at_zero(later.born)
            yield before
        before = day_ms, days
    if before is not None:
        yield before


def _write_day(plan: BackfillPlan, days: Sequence[TargetDay], path: Path) -> WrittenDay | None:
    """Write one file, under another name until it is complete; None where there is no sample."""
    times = [day.times_ms[index] for day in days for index in _ends(day)]
    if not times:
        return None
    unfinished = path.with_name(path.name + _PARTIAL)
    samples = 0
    try:
        # As in the exposition: UTF-8 cannot have a lone surrogate.
        with unfinished.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            for family, texts in _blocks(plan, days):
                file.write(header(family).openmetrics.decode())
                for text in texts:
                    samples += text.count("\n")
                    file.write(text)
            file.write(EOF.decode())
        size = unfinished.stat().st_size
        unfinished.replace(path)
    except OSError as exc:
        raise BackfillError(f"{path}: {exc.strerror or exc}") from exc
    counted_ms = tuple(map(_first_counted_ms, days))
    return WrittenDay(path.name, min(times), max(times), counted_ms, samples, size)


def _ends(day: TargetDay) -> set[int]:
    """Give the first and the last time at which the day has a sample."""
    return (
        {min(points[0][0] for points in day.points.values()), len(day.times_ms) - 1} if day.points else set()
    )


def _first_counted_ms(day: TargetDay) -> int | None:
    """Give the first sample of any counter."""
    firsts = (points[0][0] for key, points in day.points.items() if key.family not in {JOBS, RESOURCE_JOBS})
    first = min(firsts, default=None)
    return None if first is None else day.times_ms[first]


def _blocks(plan: BackfillPlan, days: Sequence[TargetDay]) -> Iterator[tuple[Family, Iterator[str]]]:
    """Give the families that have samples, with their lines in pieces."""
    keys: dict[str, list[list[SeriesKey]]] = {name: [[] for _ in days] for name in FAMILIES}
    for number_, day in enumerate(days):
        for key in sorted(day.points, key=_in_order):
            keys[key.family][number_].append(key)
    tails = [[f" {_seconds(at_ms)}\n" for at_ms in day.times_ms] for day in days]
    for name, family in FAMILIES.items():
        if any(keys[name]):
            parts = zip(plan.targets, days, tails, keys[name], strict=True)
            yield family, chain.from_iterable(starmap(partial(_target_text, family), parts))
    begins = [_spec_begins(day) for day in days]
    for family in SPEC_FAMILIES if any(begins) else ():
        parts_of_specs = zip(plan.targets, tails, begins, strict=True)
        yield family, chain.from_iterable(starmap(partial(_spec_text, family), parts_of_specs))


def _spec_begins(day: TargetDay) -> dict[str, int]:
    """Give the first time of the jobs of each spec that can be read."""
    begins: dict[str, int] = {}
    for key, points in day.points.items():
        if key.family == RESOURCE_JOBS and parse_spec(key.resource_spec) is not None:
            begins[key.resource_spec] = min(points[0][0], begins.get(key.resource_spec, points[0][0]))
    return begins


def _spec_text(
    family: Family, target: TargetPlan, tails: Sequence[str], begins: Mapping[str, int]
) -> Iterator[str]:
    """Give the lines of what each spec names, as long as its jobs have samples."""
    for spec, begin in sorted(begins.items()):
        for head in spec_heads(family, target, spec):
            yield "".join([head + tail for tail in tails[begin:]])


def _in_order(key: SeriesKey) -> tuple[str, ...]:
    return key.job_type, key.resource_spec, key.status, key.msg_code


def _target_text(
    family: Family, target: TargetPlan, day: TargetDay, tails: Sequence[str], keys: Sequence[SeriesKey]
) -> Iterator[str]:
    """Give the lines of some series of a family, those of a histogram time by time; `tails` are the times."""
    for key in keys:
        points = day.points[key]
        ends = [index for index, _ in points[1:]] + [len(tails)]
        for (begin, value), end in zip(points, ends, strict=True):
            heads = line_heads(family, target, key, value)
            yield "".join([head + tail for tail in tails[begin:end] for head in heads])


def line_heads(family: Family, target: TargetPlan, key: SeriesKey, value: SeriesValue) -> list[str]:
    """Give the lines of a value without their times, as the live exposition writes them."""
    at = _at(target)
    labels = tuple(getattr(key, name) for name in family.labels[len(at) :])
    return _lines(family, target, SOURCES[family].to_samples(at, {labels: value}))


def spec_heads(family: Family, target: TargetPlan, spec: str) -> list[str]:
    """Give the line of what a spec names, without its time; none if it cannot be read."""
    return _lines(family, target, SOURCES[family].to_samples(_at(target), named_by_specs(family, (spec,))))


def _at(target: TargetPlan) -> tuple[str, str]:
    return target.target.project, target.target.workspace


def _lines(family: Family, target: TargetPlan, samples: Iterable[Sample]) -> list[str]:
    added = [label_pair(name, text) for name, text in target.labels.items()]
    lines = []
    for sample in samples:
        if sample.suffix == CREATED:
            continue
        pairs = [*map(label_pair, family.labels, sample.labels), *added]
        if sample.le is not None:
            pairs.append(f'le="{number(sample.le)}"')
        lines.append(f"{family.name}{sample.suffix}{{{','.join(pairs)}}} {sample.value!r}")
    return lines


def _seconds(at_ms: int) -> str:
    return str(at_ms // 1000) if at_ms % 1000 == 0 else f"{at_ms / 1000:.3f}"
