from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import Phase, given, settings
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from exporter.counting.resources import parse_spec
from exporter.exposition import families as f
from exporter.exposition.families import TARGET_FAMILIES, Family
from exporter.exposition.instruments import Instruments, ProcessMetrics
from exporter.exposition.render import EOF, Exposition, Format, TargetLines, assemble, render_target
from exporter.model import STATUSES, CounterValue, Exemplar, HistogramValue, PollStatus, TargetSnapshot
from tests.snapshots import POLL, SNAPSHOT, TARGET, TOTALS, named, snapshots

# Without shrinking: it takes minutes here, and the first difference names its series anyway.
thoroughly = settings(deadline=None, max_examples=50, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def rendered(*published: TargetSnapshot) -> Exposition:
    return assemble(map(render_target, published))


def text_of(*published: TargetSnapshot) -> str:
    return rendered(*published).text.plain.decode()


def openmetrics_of(*published: TargetSnapshot) -> str:
    return (rendered(*published).openmetrics.plain + EOF).decode()


def lines(text: str, family: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith((f"{family}{{", f"{family}_bucket{{"))]


class Oracle:
    """The same families as the client library's own objects."""

    def __init__(self, published: Iterable[TargetSnapshot]) -> None:
        self._metrics = {family.name: _metric(family) for family in TARGET_FAMILIES}
        for snapshot in published:
            self._add(snapshot)
        self._tell_projects(published)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.values()

    def _add(self, snapshot: TargetSnapshot) -> None:
        at = (snapshot.target.project, snapshot.target.workspace)
        poll, totals = snapshot.poll, snapshot.totals
        self._created = snapshot.created_series
        for family, value in (
            (f.UP, None if poll.up is None else float(poll.up)),
            (f.POLL_DURATION, poll.duration_seconds),
            (f.POLL_LAST_SUCCESS, _seconds(poll.last_success_ms)),
            (f.POLL_REQUESTS, poll.requests),
            (f.AUDIT_LAST, _seconds(totals.last_audit_ms) if totals else None),
            (f.LEASE_HELD, float(snapshot.held)),
        ):
            if value is not None:
                self._metrics[family.name].add_metric(at, value)  # type: ignore[attr-defined]
        for family, counts in (
            (f.POLLS, {(): poll.polls}),
            (f.POLLS_SKIPPED, {(): poll.skipped}),
            (f.POLL_FAILURES, poll.failures),
            (f.LEDGER_FULL_SYNCS, poll.full_syncs),
        ):
            values = {key: CounterValue(count, None, poll.began_ms) for key, count in counts.items()}
            self._counters(family, at, values)
        if totals is None:
            return
        self._values(f.API_FILTER_WORKS, at, {name: int(works) for name, works in totals.filters.items()})
        self._counters(f.JOBS_CREATED, at, totals.created)
        self._counters(f.JOBS_COMPLETED, at, totals.completed)
        self._counters(f.JOB_FAILURES, at, totals.failures)
        self._histograms(f.JOB_SUBMITTING_DURATION, at, totals.submitting)
        self._histograms(f.JOB_RUNNING_DURATION, at, totals.running)
        without_exemplars = {
            spec: replace(value, exemplars=()) for spec, value in totals.resource_submitting.items()
        }
        self._histograms(f.RESOURCE_SUBMITTING_DURATION, at, without_exemplars)
        self._counters(f.JOB_CORE_SECONDS, at, _in_unit_seconds(totals.core_seconds))
        self._counters(f.JOB_GPU_SECONDS, at, _in_unit_seconds(totals.gpu_seconds))
        self._counters(f.JOB_MEMORY_SECONDS, at, _in_unit_seconds(totals.memory_seconds))
        self._counters(f.JOB_RERUNS, at, totals.reruns)
        if not snapshot.stale:
            self._values(f.JOBS, at, totals.jobs)
            self._values(f.LEDGER_DRIFT, at, totals.drift)
            self._values(f.ROWS_UNREADABLE, at, {(): totals.rows_unreadable})
            self._values(f.JOBS_OLDEST_CREATED, at, _in_seconds(totals.oldest_created_ms))
            self._values(f.JOBS_OLDEST_STARTED, at, _in_seconds(totals.oldest_started_ms))
            self._values(f.JOBS_OLDER_THAN, at, totals.older_than)
            self._values(f.RESOURCE_JOBS, at, totals.resource_jobs)
            for spec in {spec for spec, _ in totals.resource_jobs}:
                if (asked := parse_spec(spec)) is not None:
                    self._values(f.RESOURCE_SPEC_CORES, at, {spec: asked.cores / 1000})
                    self._values(f.RESOURCE_SPEC_GPUS, at, {spec: asked.gpus / 1000})
                    self._values(f.RESOURCE_SPEC_MEMORY, at, {spec: asked.memory * 2**30 / 1000})

    def _tell_projects(self, published: Iterable[TargetSnapshot]) -> None:
        targets = [snapshot.target for snapshot in published]
        for labels in {
            (target.project, target.project_id, target.region, target.endpoint) for target in targets
        }:
            self._metrics[f.PROJECT_INFO.name].add_metric(labels, 1)  # type: ignore[attr-defined]

    def _values(self, family, at, values) -> None:
        for key, value in values.items():
            self._metrics[family.name].add_metric((*at, *_key(key)), value)

    def _counters(self, family, at, values: dict[object, CounterValue]) -> None:
        for key, value in values.items():
            exemplar = _exemplar(value.exemplar) if family is f.JOB_FAILURES else None
            self._metrics[family.name].add_metric(
                (*at, *_key(key)), value.value, self._birth(value), exemplar=exemplar
            )

    def _histograms(self, family, at, values: dict[object, HistogramValue]) -> None:
        for key, value in values.items():
            bounds = [floatToGoString(bound) for bound in (*value.bounds, float("inf"))]
            exemplars = [_exemplar(exemplar) for exemplar in value.exemplars] or [None] * len(bounds)
            buckets = list(zip(bounds, accumulate(value.counts), exemplars, strict=True))
            metric, labels = self._metrics[family.name], (*at, *_key(key))
            metric.add_metric(labels, buckets, value.sum_ms / 1000)
            if (created := self._birth(value)) is not None:
                metric.add_sample(
                    f"{metric.name}_created", dict(zip(family.labels, labels, strict=True)), created
                )

    def _birth(self, value: CounterValue | HistogramValue) -> float | None:
        return _seconds(value.created_ms) if self._created else None


def _metric(family: Family) -> Metric:
    kind = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    return kind[family.type](family.name, family.help, labels=family.labels, unit=family.unit)


def _key(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _in_seconds(values):
    return {key: ms / 1000 for key, ms in values.items()}


def _in_unit_seconds(values):
    return {
        key: replace(value, value=float(Fraction(value.value, 1_000_000))) for key, value in values.items()
    }


def _exemplar(exemplar: Exemplar | None) -> ClientExemplar | None:
    if exemplar is None:
        return None
    return ClientExemplar({"job_id": str(exemplar.job_id)}, exemplar.value, exemplar.at_ms / 1000)


def parsed(parse: Callable[[str], Iterable[Metric]], text: str) -> dict[str, tuple[object, ...]]:
    return {
        metric.name: (metric.type, metric.documentation, metric.unit, sorted(metric.samples, key=_series))
        for metric in parse(text)
    }


def _series(sample: Sample) -> tuple[str, list[tuple[str, str]]]:
    return sample.name, sorted(sample.labels.items())


@given(snapshots)
@thoroughly
def test_text_says_what_the_client_library_would_say(published: list[TargetSnapshot]) -> None:
    theirs = generate_latest(Oracle(published)).decode()
    assert parsed(parse_text, text_of(*published)) == parsed(parse_text, theirs)


@given(snapshots)
@thoroughly
def test_openmetrics_says_what_the_client_library_would_say(published: list[TargetSnapshot]) -> None:
    theirs = generate_openmetrics(Oracle(published)).decode()
    assert parsed(parse_openmetrics, openmetrics_of(*published)) == parsed(parse_openmetrics, theirs)


@given(snapshots)
@thoroughly
def test_families_are_contiguous_and_have_one_header_each(published: list[TargetSnapshot]) -> None:
    names = [line.split()[2] for line in text_of(*published).split("\n") if line.startswith("# TYPE ")]
    assert len(set(names)) == len(names)
    assert [name for name in names if not _is_births(name)] == [family.name for family in TARGET_FAMILIES]


def _is_births(name: str) -> bool:
    return any(name == f"{family.openmetrics_name}_created" for family in TARGET_FAMILIES)


@given(snapshots, snapshots)
@settings(thoroughly, max_examples=20)
def test_what_is_used_again_is_what_would_be_rendered(
    before: list[TargetSnapshot], now: list[TargetSnapshot]
) -> None:
    """Parts of the target, some of which look the same, and runs of the bodies."""
    known = {snapshot.target: render_target(snapshot) for snapshot in before}
    halves = [replace(old, poll=new.poll) for old, new in zip(before, now, strict=False)]
    for published in (now, halves):
        parts = [render_target(snapshot, known.get(snapshot.target)) for snapshot in published]
        again = assemble(parts, before=assemble(known.values()))
        assert again.text.plain == rendered(*published).text.plain
        assert b"".join(again.openmetrics.gzip_with_tail(EOF)) == b"".join(
            rendered(*published).openmetrics.gzip_with_tail(EOF)
        )


def test_only_the_families_that_changed_are_rendered_again() -> None:
    before = render_target(SNAPSHOT)
    now = replace(TOTALS, created={"FRAME_EXTRACT": CounterValue(8)})
    after = render_target(replace(SNAPSHOT, totals=now), before)
    assert rendered_again(before, after) == [("octopus_jobs_created_total", "")]


def test_only_the_run_times_of_the_job_types_that_changed_are_rendered_again() -> None:
    value = TOTALS.submitting["FRAME_EXTRACT"]
    keys = [(kind, status) for kind in ("B", "A") for status in ("RUN_FAILED", "FINISHED")]
    totals = replace(TOTALS, running=dict.fromkeys(keys, value))
    before = render_target(replace(SNAPSHOT, totals=totals))
    totals = replace(totals, running={**totals.running, ("B", "FINISHED"): replace(value, sum_ms=62_001)})
    after = render_target(replace(SNAPSHOT, totals=totals), before)
    assert rendered_again(before, after) == [("octopus_job_running_duration_seconds", "B")]
    # A type that is gone takes its lines along.
    totals = replace(totals, running={("A", "FINISHED"): value})
    assert (
        assemble([render_target(replace(SNAPSHOT, totals=totals), after)]).text.plain
        == rendered(replace(SNAPSHOT, totals=totals)).text.plain
    )


def test_only_the_waits_of_the_resource_specs_that_changed_are_rendered_again() -> None:
    value = TOTALS.submitting["FRAME_EXTRACT"]
    waits = {"B": value, "A": value}
    before = render_target(replace(SNAPSHOT, totals=replace(TOTALS, resource_submitting=waits)))
    waits = {**waits, "B": replace(value, sum_ms=62_001)}
    after = render_target(replace(SNAPSHOT, totals=replace(TOTALS, resource_submitting=waits)), before)
    assert rendered_again(before, after) == [("octopus_resource_submitting_duration_seconds", "B")]


def rendered_again(before: TargetLines, after: TargetLines) -> list[tuple[str, str]]:
    """Name the families and parts whose lines are other objects."""
    return [
        (family.name, part)
        for family, parts in after.families.items()
        for part, found in parts.items()
        if found is not before.families[family][part]
    ]


def test_a_gauge_in_text() -> None:
    jobs = lines(text_of(SNAPSHOT), "octopus_jobs")
    running = 'octopus_jobs{project="perception",workspace="0",job_type="FRAME_EXTRACT",status="RUNNING"} 3'
    assert running in jobs
    assert len(jobs) == len(STATUSES)


def test_a_histogram_in_openmetrics_has_cumulative_buckets_exemplars_and_an_exact_sum() -> None:
    name, labels = (
        "octopus_job_submitting_duration_seconds",
        'project="perception",workspace="0",job_type="FRAME_EXTRACT"',
    )
    text = openmetrics_of(SNAPSHOT)
    start = text.index(f"# TYPE {name}")
    assert text[start : text.index("# HELP", start)].splitlines() == [
        f"# TYPE {name} histogram",
        f"# UNIT {name} seconds",
        f'{name}_bucket{{{labels},le="1.0"}} 1',
        f'{name}_bucket{{{labels},le="60.0"}} 3 # {{job_id="42"}} 12.5 1700000000.123',
        f'{name}_bucket{{{labels},le="+Inf"}} 3',
        f"{name}_count{{{labels}}} 3",
        f"{name}_sum{{{labels}}} 61.001",
    ]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, "0.0"),
        (1, "1e-06"),
        (2_100 * 61_001, "128.1021"),
        # Beyond 64 bits, and a value that is rounded twice if it becomes a float before the division.
        (2**70 + 1, "1180591620717411.2"),
        (2_121_167_162_699_269_654, "2121167162699.2698"),
    ],
)
def test_thousandths_times_milliseconds_become_seconds_exact_to_the_last_digit(
    value: int, seconds: str
) -> None:
    totals = replace(TOTALS, memory_seconds={("FRAME_EXTRACT", "FINISHED"): CounterValue(value)})
    published = replace(SNAPSHOT, totals=totals)
    name = "octopus_job_memory_gibibyte_seconds"
    line = (
        f'{name}_total{{project="perception",workspace="0",job_type="FRAME_EXTRACT",status="FINISHED"}} '
        f"{seconds}\n"
    )
    assert f"# TYPE {name}_total counter\n{line}" in text_of(published)
    assert f"# TYPE {name} counter\n# UNIT {name} seconds\n{line}" in openmetrics_of(published)


def test_a_counter_family_is_named_without_total_in_openmetrics_only() -> None:
    assert "# TYPE octopus_jobs_created_total counter\n" in text_of(SNAPSHOT)
    assert "# TYPE octopus_jobs_created counter\noctopus_jobs_created_total{" in openmetrics_of(SNAPSHOT)


def test_text_has_no_exemplars() -> None:
    assert 'job_id="' not in text_of(SNAPSHOT)
    assert openmetrics_of(SNAPSHOT).count('# {job_id="42"}') == 4


WITH_BIRTHS = replace(
    SNAPSHOT,
    totals=replace(
        TOTALS,
        created={"FRAME_EXTRACT": CounterValue(7, None, 1_690_000_000_500)},
        submitting={
            kind: replace(value, created_ms=1_690_000_000_500) for kind, value in TOTALS.submitting.items()
        },
    ),
    created_series=True,
)


def test_births_are_in_the_family_in_openmetrics_and_a_gauge_in_text() -> None:
    labels = 'project="perception",workspace="0",job_type="FRAME_EXTRACT"'
    born = f"octopus_jobs_created_created{{{labels}}} 1690000000.5"
    assert f"octopus_jobs_created_total{{{labels}}} 7\n{born}\n# HELP" in openmetrics_of(WITH_BIRTHS)
    assert f"# TYPE octopus_jobs_created_created gauge\n{born}\n# HELP" in text_of(WITH_BIRTHS)
    family = "octopus_job_submitting_duration_seconds"
    assert f"{family}_sum{{{labels}}} 61.001\n{family}_created{{{labels}}} " in openmetrics_of(WITH_BIRTHS)


def test_there_are_no_births_unless_they_are_asked_for() -> None:
    silent = replace(WITH_BIRTHS, created_series=False)
    assert "169000" not in text_of(silent) + openmetrics_of(silent)
    again = assemble([render_target(silent, render_target(WITH_BIRTHS))])
    assert b"169000" not in again.text.plain + again.openmetrics.plain


def test_bounds_are_written_as_the_client_library_writes_them() -> None:
    assert 'le="3.6e+06"' in text_of(SNAPSHOT)


def test_a_stale_target_keeps_its_counters_and_loses_the_gauges_of_its_jobs() -> None:
    fresh, stale = text_of(SNAPSHOT), text_of(replace(SNAPSHOT, stale=True))
    gone = set(fresh.splitlines()) - set(stale.splitlines())
    assert {line.split("{")[0] for line in gone} == {
        "octopus_jobs",
        "octopus_jobs_oldest_created_timestamp_seconds",
        "octopus_jobs_older_than",
        "octopus_resource_jobs",
        "octopus_resource_spec_cores",
        "octopus_resource_spec_gpus",
        "octopus_resource_spec_memory_bytes",
        "octopus_ledger_drift_jobs",
        "octopus_rows_unreadable",
    }


def test_a_target_that_was_never_polled_has_only_what_is_known() -> None:
    text = text_of(TargetSnapshot(TARGET, None, PollStatus()))
    families = {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert families == {
        "octopus_polls_total",
        "octopus_polls_skipped_total",
        "octopus_poll_failures_total",
        "octopus_ledger_full_syncs_total",
        "octopus_project_info",
        "octopus_exporter_lease_held",
    }


def test_a_project_with_two_workspaces_is_told_once() -> None:
    text = text_of(named("perception", "0"), named("perception", "1"))
    assert len(lines(text, "octopus_project_info")) == 1
    assert len(lines(text, "octopus_up")) == 2


def test_what_a_spec_names_is_exported_only_where_it_can_be_read() -> None:
    specs = ("P100_1Gpu_2.1Core_4.1GiB", "2Core_4GiB", "2,5Core_4GiB", "other", "")
    totals = replace(TOTALS, resource_jobs={(spec, "RUNNING"): 1 for spec in specs})
    text = text_of(replace(SNAPSHOT, totals=totals))
    at = 'project="perception",workspace="0",resource_spec'
    assert [line for line in text.splitlines() if line.startswith("octopus_resource_spec_")] == [
        f'octopus_resource_spec_cores{{{at}="2Core_4GiB"}} 2.0',
        f'octopus_resource_spec_cores{{{at}="P100_1Gpu_2.1Core_4.1GiB"}} 2.1',
        f'octopus_resource_spec_gpus{{{at}="2Core_4GiB"}} 0.0',
        f'octopus_resource_spec_gpus{{{at}="P100_1Gpu_2.1Core_4.1GiB"}} 1.0',
        f'octopus_resource_spec_memory_bytes{{{at}="2Core_4GiB"}} 4294967296.0',
        f'octopus_resource_spec_memory_bytes{{{at}="P100_1Gpu_2.1Core_4.1GiB"}} 4402341478.4',
    ]


def test_a_label_that_is_no_unicode_text_is_shown_as_far_as_it_can_be() -> None:
    odd = replace(TOTALS, jobs={("A\ud800B", "RUNNING"): 1})
    assert 'job_type="A?B"' in text_of(TargetSnapshot(TARGET, odd, POLL))


@pytest.mark.prometheus
@pytest.mark.skipif(
    not shutil.which("promtool") and "CI" not in os.environ, reason="promtool is not installed"
)
def test_promtool_has_nothing_to_say() -> None:
    instruments = Instruments(CollectorRegistry(), "1.2.3")
    instruments.add_project("perception")
    instruments.request("perception", "200", 0.2)
    targets = [render_target(snapshot) for snapshot in (WITH_BIRTHS, named("other"))]
    bodies = assemble(targets, *instruments.render())
    exposition = bodies.text.plain + ProcessMetrics().tail(Format.TEXT)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
