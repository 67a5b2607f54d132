from __future__ import annotations

import gc
import platform

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.errors import RETRY_REASONS
from exporter.exposition.families import INSTRUMENT_FAMILIES
from exporter.exposition.instruments import Instruments, ProcessMetrics, render_collector
from exporter.exposition.render import EOF, Format
from exporter.octopus.messages import ApiObserver


@pytest.fixture
def instruments() -> Instruments:
    return Instruments(CollectorRegistry(), "1.2.3")


def value(instruments: Instruments, name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for metric in instruments.collect()
        for sample in metric.samples
        if sample.name == name and sample.labels == labels
    ]
    return found[0] if found else None


def test_the_instruments_are_those_of_the_table(instruments: Instruments) -> None:
    made = {metric.name: (metric.type, metric.documentation, metric.unit) for metric in instruments.collect()}
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
    left = [sample.labels for metric in instruments.collect() for sample in metric.samples]
    assert not [labels for labels in left if "gone" in labels.values()]
    assert [labels for labels in left if "kept" in labels.values()]


def test_a_refused_configuration_leaves_the_time_of_the_last_good_one(instruments: Instruments) -> None:
    instruments.reload_result(ok=True, timestamp_seconds=1_700_000_000.0)
    instruments.reload_result(ok=False, timestamp_seconds=1_700_000_060.0)
    time = "octopus_exporter_config_last_reload_success_timestamp_seconds"
    assert value(instruments, "octopus_exporter_config_last_reload_successful") == 0
    assert value(instruments, time) == 1_700_000_000


def test_the_build_is_told(instruments: Instruments) -> None:
    labels = {"version": "1.2.3", "python_version": platform.python_version()}
    assert value(instruments, "octopus_exporter_build_info", **labels) == 1


def test_there_are_no_created_series(instruments: Instruments) -> None:
    instruments.request("perception", "200", 0.3)
    part = render_collector(instruments)
    assert b"_created" not in part.text.plain
    assert b"_created" not in part.openmetrics.plain
    assert not part.openmetrics.plain.endswith(EOF)


def test_the_process_is_read_anew_each_time() -> None:
    process = ProcessMetrics()
    before = process.tail(Format.OPENMETRICS)
    gc.collect()
    after = process.tail(Format.OPENMETRICS)
    assert before != after
    families = {metric.name for metric in parse_openmetrics(after.decode())}
    assert {"process_resident_memory_bytes", "python_gc_collections", "python_info"} <= families
