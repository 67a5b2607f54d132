from __future__ import annotations

import gc
import platform
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.errors import RETRY_REASONS
from exporter.exposition import families as f
from exporter.exposition.families import INSTRUMENT_FAMILIES
from exporter.exposition.instruments import Instruments, ProcessMetrics
from exporter.exposition.project_metrics import REQUEST_BUCKETS
from exporter.exposition.render import EOF, FamilyLines, Format
from exporter.octopus.messages import ApiObserver


@pytest.fixture
def instruments() -> Instruments:
    return Instruments(CollectorRegistry(), "1.2.3")


def lines(instruments: Instruments) -> list[FamilyLines]:
    return [lines for run in instruments.render() for lines in run]


def text(instruments: Instruments) -> str:
    return b"".join(found.text for found in lines(instruments)).decode()


def openmetrics(instruments: Instruments) -> str:
    return b"".join(found.openmetrics for found in lines(instruments)).decode()


def value(instruments: Instruments, name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for metric in parse_text(text(instruments))
        for sample in metric.samples
        if sample.name == name and sample.labels == labels
    ]
    return found[0] if found else None


def test_the_instruments_are_those_of_the_table(instruments: Instruments) -> None:
    exposition = openmetrics(instruments) + EOF.decode()
    made = {
        metric.name: (metric.type, metric.documentation, metric.unit)
        for metric in parse_openmetrics(exposition)
    }
    assert made == {
        family.openmetrics_name: (family.type, family.help, family.unit) for family in INSTRUMENT_FAMILIES
    }


def test_what_the_client_reports_is_counted(instruments: Instruments) -> None:
    observer: ApiObserver = instruments
    observer.request("perception", "200", 0.3)
    observer.request("perception", "error", 7.0)
    observer.retry("perception", "timeout")
    observer.clock_skew("perception", -1.5)
    assert value(instruments, "octopus_api_requests_total", project="perception", code="error") == 1
    assert value(instruments, "octopus_api_request_duration_seconds_sum", project="perception") == 7.3
    assert value(instruments, "octopus_api_retries_total", project="perception", reason="timeout") == 1
    assert value(instruments, "octopus_api_clock_skew_seconds", project="perception") == -1.5


def test_dropped_log_lines_are_counted(instruments: Instruments) -> None:
    assert instruments.log_lines_dropped() == 0
    instruments.log_line_dropped()
    instruments.log_line_dropped()
    assert instruments.log_lines_dropped() == 2
    assert value(instruments, "octopus_exporter_log_lines_dropped_total") == 2


def test_events_are_counted(instruments: Instruments) -> None:
    assert value(instruments, "octopus_exporter_events_dropped_total") == 0
    assert value(instruments, "octopus_exporter_events_pending") == 0
    instruments.events_dropped(3)
    instruments.events_dropped(4)
    instruments.events_pending(7)
    instruments.events_pending(2)
    assert value(instruments, "octopus_exporter_events_dropped_total") == 7
    assert value(instruments, "octopus_exporter_events_pending") == 2
    assert instruments.events_waiting_and_lost() == (2, 7)


def test_what_ends_is_asked_for_at_every_rendering(instruments: Instruments) -> None:
    expiries = {"default": 1_700_000_000.0}
    instruments.show_expiries(lambda: expiries)

    def expiry(credentials: str) -> float | None:
        name = "octopus_credentials_expiry_timestamp_seconds"
        return value(instruments, name, credentials=credentials)

    assert (expiry("default"), expiry("other")) == (1_700_000_000, None)
    expiries["other"] = expiries.pop("default")
    assert (expiry("default"), expiry("other")) == (None, 1_700_000_000)


def test_a_projects_series_begin_at_zero(instruments: Instruments) -> None:
    instruments.add_project("perception")
    for reason in RETRY_REASONS:
        assert value(instruments, "octopus_api_retries_total", project="perception", reason=reason) == 0
    assert value(instruments, "octopus_api_request_duration_seconds_count", project="perception") == 0


def test_what_is_no_longer_configured_is_forgotten(instruments: Instruments) -> None:
    for project in ("gone", "kept"):
        instruments.add_project(project)
        instruments.request(project, "200", 0.1)
        instruments.clock_skew(project, 0)
    instruments.forget_project("gone")
    assert 'project="gone"' not in text(instruments)
    assert 'project="kept"' in text(instruments)


def test_a_refused_configuration_leaves_the_time_of_the_last_good_one(instruments: Instruments) -> None:
    instruments.reload_result(ok=True, timestamp_seconds=1_700_000_000.0)
    instruments.reload_result(ok=False, timestamp_seconds=1_700_000_060.0)
    time = "octopus_exporter_config_last_reload_success_timestamp_seconds"
    assert value(instruments, "octopus_exporter_config_last_reload_successful") == 0
    assert value(instruments, time) == 1_700_000_000


def test_the_build_is_told(instruments: Instruments) -> None:
    labels = {"version": "1.2.3", "python_version": platform.python_version()}
    assert value(instruments, "octopus_exporter_build_info", **labels) == 1


class Oracle:
    """The metrics of projects as objects of the client library."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made = {
            family: kind(
                family.name, family.help, family.labels, unit=family.unit, registry=self.registry, **more
            )
            for family, kind, more in (
                (f.API_REQUESTS, Counter, {}),
                (f.API_REQUEST_DURATION, Histogram, {"buckets": REQUEST_BUCKETS}),
                (f.API_RETRIES, Counter, {}),
                (f.API_CLOCK_SKEW, Gauge, {}),
            )
        }
        self.requests, self.durations, self.retries, self.skew = made.values()

    def add_project(self, project: str) -> None:
        self.durations.labels(project)
        for reason in RETRY_REASONS:
            self.retries.labels(project, reason)

    def request(self, project: str, code: str, seconds: float) -> None:
        self.requests.labels(project, code).inc()
        self.durations.labels(project).observe(seconds)

    def retry(self, project: str, reason: str) -> None:
        self.retries.labels(project, reason).inc()

    def clock_skew(self, project: str, seconds: float) -> None:
        self.skew.labels(project).set(seconds)


PROJECT = st.sampled_from(["a", 'b"\\\n', "é"])
REQUEST = st.tuples(
    st.just("request"),
    PROJECT,
    st.sampled_from(["200", "404", "error"]),
    st.sampled_from([0.01, 0.3, 30.0, 31.0, 2e6]) | st.floats(0, 100),
)
RETRY = st.tuples(st.just("retry"), PROJECT, st.sampled_from(RETRY_REASONS))
SKEW = st.tuples(st.just("clock_skew"), PROJECT, st.floats(allow_nan=False))


@pytest.mark.parametrize("created", [False, True])
@given(calls=st.lists(REQUEST | RETRY | SKEW), rendered_after=st.integers(0, 10))
def test_a_project_has_the_lines_of_the_client_library(
    created: bool, calls: list[tuple[Any, ...]], rendered_after: int
) -> None:
    """Byte for byte, although a rendering in between makes most of them reused lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: 1_700_000_000.25)
        made, theirs = Instruments(CollectorRegistry(), "1.2.3", clock=time.time), Oracle()
        made.show_created(created)
        for project in sorted({call[1] for call in calls}):
            made.add_project(project)
            theirs.add_project(project)
        for number, (name, *values) in enumerate(calls):
            if number == rendered_after:
                made.render()
            getattr(made, name)(*values)
        # The library keeps the order of the first calls; here it is by project.
        for name, *values in sorted(calls, key=lambda call: str(call[1])):
            getattr(theirs, name)(*values)
        expected = generate_latest(theirs.registry), generate_openmetrics(theirs.registry).removesuffix(EOF)
    if not created:
        expected = tuple(
            b"".join(line for line in all_.splitlines(True) if b"_created" not in line) for all_ in expected
        )
    runs = made.render()[:-1]
    assert b"".join(found.text for run in runs for found in run) == expected[0]
    assert b"".join(found.openmetrics for run in runs for found in run) == expected[1]


def test_only_the_project_that_changed_is_rendered_again(instruments: Instruments) -> None:
    for project in ("a", "b"):
        instruments.request(project, "200", 0.1)
    before = lines(instruments)
    instruments.request("b", "200", 0.1)
    pairs = zip(lines(instruments), before, strict=True)
    changed = [now.text for now, then in pairs if now is not then]
    # Its three families, and what the client library renders.
    assert len(changed) == 4
    assert not [found for found in changed if b'project="a"' in found]


def test_there_are_no_created_series(instruments: Instruments) -> None:
    instruments.request("perception", "200", 0.3)
    assert "_created" not in text(instruments)
    assert "_created" not in openmetrics(instruments)
    assert EOF.decode() not in openmetrics(instruments)


def test_the_process_is_read_anew_each_time() -> None:
    process = ProcessMetrics()
    before = process.tail(Format.OPENMETRICS)
    gc.collect()
    after = process.tail(Format.OPENMETRICS)
    assert before != after
    families = {metric.name for metric in parse_openmetrics(after.decode())}
    assert {"process_resident_memory_bytes", "python_gc_collections", "python_info"} <= families
