"""The files of the past: what a parser reads of them is what happened, at each time."""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections import defaultdict
from functools import cache
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.backfill.estimate import Estimator
from exporter.backfill.openmetrics import FAMILIES, write_days
from exporter.backfill.past import Past
from exporter.backfill.plan import BackfillPlan, WrittenDay
from exporter.backfill.spool import opened_spool
from exporter.errors import BackfillError
from exporter.model import Job, is_failed
from tests.fake_api import a_target
from tests.past_jobs import DAY_MS, START_MS, STEP_MS, a_past, a_plan, a_run, fill, unshown

HOUR_MS = 3_600_000
# Values by time, of each series: its name and labels.
Series = dict[tuple[str, frozenset[tuple[str, str]]], dict[float, float]]
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
OWN = {"project": "perception", "workspace": "0", "job": "octopus", "instance": "exporter:10877"}


def written(folder: Path, plan: BackfillPlan, jobs: list[Job]) -> list[WrittenDay]:
    with opened_spool() as spool:
        fill(spool, plan, jobs)
        return write_days(plan, spool, folder, unshown)


def read(folder: Path) -> Series:
    """Read all files line by line; test_a_parser_reads_the_files holds them to the standard."""
    series: Series = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        lines = path.read_text().splitlines()
        assert lines[-1] == "# EOF"
        families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
        assert len(families) == len(set(families))
        for line in lines:
            if not line.startswith("#"):
                key, value, at = line.rsplit(" ", 2)
                times = series[_key(key)]
                assert not times or float(at) > max(times)
                times[float(at)] = float(value)
    return series


@cache
def _key(text: str) -> tuple[str, frozenset[tuple[str, str]]]:
    name, _, labels = text.partition("{")
    return name, frozenset((found[1], found[2]) for found in _LABEL.finditer(labels))


def test_a_parser_reads_the_files(tmp_path: Path) -> None:
    jobs = [a_run(number, START_MS + number * 600_000) for number in range(3)]
    (day,) = written(tmp_path, a_plan(a_past(START_MS + HOUR_MS // 2)), jobs)
    text = (tmp_path / day.name).read_text()
    family = ""
    parsed = 0
    # The parser takes the second point of a histogram for a copy of the first: so it gets one at a time.
    points: dict[tuple[str, str], list[str]] = defaultdict(list)
    standing = []
    for line in text.splitlines():
        family = line if line.startswith("# TYPE") else family
        if not line.startswith("#"):
            at = line.rsplit(" ", 1)[1]
            points[family, at].append(line)
            metric = re.sub(r'^[^{]+|,le="[^"]+"| .*', "", line)
            standing.append((family, metric, float(at)))
    # All samples of a point stand together, and the points of a metric are in order of time.
    order = [point for point, _ in groupby(standing)]
    assert len(order) == len(set(order)) > 100
    assert [metric for metric, _ in groupby(order, itemgetter(0, 1))] == list(
        dict.fromkeys(map(itemgetter(0, 1), order))
    )
    assert all(earlier < later for earlier, later in pairwise(order) if earlier[:2] == later[:2])
    for (header, _), lines in points.items():
        for found in text_string_to_metric_families("\n".join([header, *lines, "# EOF\n"])):
            assert found.type in ("gauge", "counter", "histogram")
            parsed += len(found.samples)
    assert parsed == day.samples
    # And all of it, where a series has one line for each time.
    histograms = "submitting", "running"
    others = [line for line in text.splitlines() if not any(name in line for name in histograms)]
    assert list(text_string_to_metric_families("\n".join([*others, ""])))


def of(series: Series, name: str, **labels: str) -> dict[float, float]:
    wanted = {*OWN.items(), *labels.items()}
    (found,) = [times for (found, given), times in series.items() if found == name and given == wanted]
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(
        st.tuples(st.integers(1, 2 * 24 * 60), st.integers(0, 300), st.integers(0, 300)), max_size=6
    ),
    until=st.integers(25 * 60, 50 * 60),
)
def test_each_sample_has_what_happened_before(
    times: list[tuple[int, int, int]], until: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, minute = tmp_path_factory.mktemp("past"), 60_000
    until_ms = START_MS + until * minute + 7
    jobs = [
        a_run(number, START_MS + created * minute, waited * minute, ran * minute)
        for number, (created, waited, ran) in enumerate(times)
    ]
    written(folder, a_plan(a_past(until_ms), step_ms=60 * minute), jobs)
    series = read(folder)
    happened = {
        "octopus_jobs_created_total": [job.created_ms for job in jobs],
        "octopus_job_submitting_duration_seconds_count": [job.started_ms for job in jobs],
        "octopus_jobs_completed_total": [job.ended_ms for job in jobs],
        "octopus_job_running_duration_seconds_count": [job.ended_ms for job in jobs],
    }
    created = sorted(job.created_ms for job in jobs if job.created_ms < until_ms)
    for name, at in happened.items():
        past = sorted(at_ms for at_ms in at if at_ms is not None and at_ms < until_ms)
        found = [
            times
            for (other, labels), times in series.items()
            if other == name and dict(labels).get("status", "FINISHED") == "FINISHED"
        ]
        # Runs that ended are counted from the first event of the job type on, in each status.
        begins = created if name == "octopus_jobs_completed_total" else past
        assert len(found) == bool(begins)
        for samples in found:
            # From the last step before the first increase on, and each step from there.
            first, *_, last = samples
            assert samples[first] == 0
            assert begins[0] / 1000 - 60 * 60 <= first < begins[0] / 1000
            assert last == pytest.approx((until_ms - 1) / 1000, abs=0.001)
            assert max(later - at for at, later in zip(samples, list(samples)[1:], strict=False)) <= 60 * 60
            assert samples == {at: sum(at_ms <= round(at * 1000) for at_ms in past) for at in samples}
    for status in ("QUEUING", "RUNNING", "FINISHED"):
        name = frozenset({**OWN, "job_type": "FRAME_EXTRACT", "status": status}.items())
        for at, value in series.get(("octopus_jobs", name), {}).items():
            now = round(at * 1000)
            state = {
                "QUEUING": [job.created_ms <= now < (job.started_ms or 0) for job in jobs],
                "RUNNING": [(job.started_ms or 0) <= now < (job.ended_ms or 0) for job in jobs],
                "FINISHED": [(job.ended_ms or 0) <= now for job in jobs],
            }[status]
            assert value == sum(state)


def test_a_series_that_rises_at_midnight_is_0_the_day_before(tmp_path: Path) -> None:
    first = a_run(1, START_MS + HOUR_MS)
    at_midnight = a_run(2, START_MS + DAY_MS - 60_000, job_type="SCENARIO_TO_SIM", waited_ms=90_000)
    days = written(tmp_path, a_plan(a_past(START_MS + DAY_MS + HOUR_MS)), [first, at_midnight])
    assert [day.name for day in days] == ["2024-10-04.om", "2024-10-05.om"]
    created = of(read(tmp_path), "octopus_jobs_created_total", job_type="SCENARIO_TO_SIM")
    midnight = (START_MS + DAY_MS) / 1000
    assert list(created.items())[:2] == [(midnight - 240, 0), (midnight, 1)]


def test_all_families_are_written_with_the_labels_of_the_live_series(tmp_path: Path) -> None:
    given: dict[str, Any] = {"created_ms": START_MS + HOUR_MS, "waited_ms": 300_000, "ran_ms": 600_000}
    jobs = [a_run(1, **given), a_run(2, status="RUN_FAILED", msg_code="3001", **given)]
    jobs.append(a_run(3, resource_spec="P100_1Gpu_2Core_4GiB", **given))
    (day,) = written(tmp_path, a_plan(a_past(START_MS + 2 * HOUR_MS)), jobs)
    series = read(tmp_path)
    expected = {family.name for family in FAMILIES.values() if family.type != "histogram"}
    assert expected <= {name for name, _ in series}
    assert {"octopus_resource_submitting_duration_seconds_bucket"} <= {name for name, _ in series}
    assert day.samples == sum(map(len, series.values()))
    assert day.size_bytes == (tmp_path / day.name).stat().st_size

    def last(name: str, **labels: str) -> float:
        times = of(series, name, **labels)
        return times[max(times)]

    failed = {"job_type": "FRAME_EXTRACT", "status": "RUN_FAILED"}
    done = {"job_type": "FRAME_EXTRACT", "status": "FINISHED"}
    assert last("octopus_job_failures_total", **failed, msg_code="3001") == 1
    assert last("octopus_job_core_seconds_total", **done) == 2 * 2 * 600
    assert last("octopus_job_memory_gibibyte_seconds_total", **failed) == 4 * 600
    assert last("octopus_job_gpu_seconds_total", **done) == 600
    assert last("octopus_job_running_duration_seconds_sum", **done) == 1200
    assert last("octopus_job_running_duration_seconds_bucket", **done, le="60.0") == 0
    assert last("octopus_job_running_duration_seconds_bucket", **done, le="3600.0") == 2
    assert last("octopus_resource_jobs", resource_spec="2Core_4GiB", status="RUNNING") == 0
    assert last("octopus_resource_spec_cores", resource_spec="2Core_4GiB") == 2
    assert last("octopus_resource_spec_gpus", resource_spec="P100_1Gpu_2Core_4GiB") == 1
    of_spec = {"resource_spec": "2Core_4GiB"}
    in_flight = of(series, "octopus_resource_jobs", **of_spec, status="QUEUING")
    assert of(series, "octopus_resource_spec_memory_bytes", **of_spec).keys() == in_flight.keys()


def test_a_finished_job_leaves_the_gauge_with_the_lookback(tmp_path: Path) -> None:
    plan = a_plan(a_past(START_MS + 4 * HOUR_MS), lookback_ms=2 * HOUR_MS)
    written(tmp_path, plan, [a_run(1, START_MS + HOUR_MS)])
    finished = of(read(tmp_path), "octopus_jobs", job_type="FRAME_EXTRACT", status="FINISHED")
    hours = START_MS / 1000 + 3 * 3600
    assert [finished[hours - 240], finished[hours]] == [1, 0]


def test_codes_beyond_the_limit_are_other_and_known_ones_are_kept(tmp_path: Path) -> None:
    codes = [f"{number}" for number in range(50)]
    plan = a_plan(a_past(START_MS + 2 * HOUR_MS, msg_codes=frozenset(codes)))
    failed = {"status": "RUN_FAILED", "waited_ms": 1_000}
    jobs = [a_run(1, START_MS + HOUR_MS, msg_code="7", **failed)]
    written(tmp_path, plan, [*jobs, a_run(2, START_MS + HOUR_MS, msg_code="new", **failed)])
    given = [dict(labels) for name, labels in read(tmp_path) if name == "octopus_job_failures_total"]
    assert sorted(labels["msg_code"] for labels in given) == ["7", "other"]


def test_each_target_ends_before_its_own_first_live_sample(tmp_path: Path) -> None:
    other = a_past(START_MS + 3 * HOUR_MS + 5, labels={"job": "o", "instance": "other"})
    plan = a_plan(a_past(START_MS + 2 * HOUR_MS + 5), other)
    written(tmp_path, plan, [a_run(1, START_MS + HOUR_MS)])
    last = {
        dict(labels)["instance"]: max(times)
        for (name, labels), times in read(tmp_path).items()
        if name == "octopus_jobs_created_total"
    }
    hour = START_MS / 1000
    assert last == {"exporter:10877": hour + 7200.004, "other": hour + 10800.004}


def test_what_it_will_take_is_about_what_it_takes(tmp_path: Path) -> None:
    plan = a_plan(a_past(START_MS + 2 * DAY_MS))
    jobs = [a_run(number, START_MS + number * HOUR_MS, 600_000, 900_000) for number in range(1, 40)]
    with opened_spool() as spool:
        estimator, past = Estimator(plan), Past(plan.targets[0], None)
        for job in jobs:
            moments = tuple(past.moments(job))
            spool.add(0, job, moments, failed=is_failed(job.status))
            estimator.add(0, job, moments, failed=is_failed(job.status))
        days = write_days(plan, spool, tmp_path, unshown)
    (estimate,) = estimator.targets()
    assert list(estimate.counted.values()) == [39, 39, 39, 0]
    assert estimate.series == len(read(tmp_path))
    assert estimate.samples == pytest.approx(sum(day.samples for day in days), rel=0.02)
    assert estimate.size_bytes == pytest.approx(sum(day.size_bytes for day in days), rel=0.02)


def test_memory_does_not_grow_with_the_jobs(tmp_path: Path) -> None:
    plan = a_plan(a_past(START_MS + DAY_MS), step_ms=STEP_MS)

    def peak(count: int) -> int:
        # What other tests have left is not measured, and does not decide when garbage is collected.
        gc.collect()
        tracemalloc.start()
        jobs = (a_run(number, START_MS + 1 + DAY_MS * number // count) for number in range(count))
        with opened_spool() as spool:
            fill(spool, plan, jobs)
            write_days(plan, spool, tmp_path, unshown)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(1_500), peak(6_000)
    assert many < 1.3 * few


def test_a_full_disk_is_one_line_and_leaves_no_file_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "2024-10-04.om.partial").mkdir()
    with pytest.raises(BackfillError, match=r"2024-10-04\.om: Is a directory"):
        written(tmp_path, a_plan(a_past(START_MS + 2 * HOUR_MS)), [a_run(1, START_MS + HOUR_MS)])


def test_labels_are_escaped(tmp_path: Path) -> None:
    labels = {"job": 'a "b" \\ c', "instance": "x"}
    target = a_past(START_MS + 2 * HOUR_MS, labels=labels)
    assert target.target == a_target()
    written(tmp_path, a_plan(target), [a_run(1, START_MS + HOUR_MS)])
    assert {dict(given)["job"] for _, given in read(tmp_path)} == {'a \\"b\\" \\\\ c'}
