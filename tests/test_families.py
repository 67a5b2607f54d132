from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.exposition.families import FAMILIES, JOBS_CREATED, LABELS, TARGET_FAMILIES, Family
from exporter.exposition.samples import SOURCES

CONTRACT = {
    "octopus_jobs": ("gauge", "project workspace job_type status"),
    "octopus_jobs_oldest_created_timestamp_seconds": ("gauge", "project workspace job_type status"),
    "octopus_jobs_oldest_started_timestamp_seconds": ("gauge", "project workspace job_type status"),
    "octopus_jobs_created_total": ("counter", "project workspace job_type"),
    "octopus_jobs_completed_total": ("counter", "project workspace job_type status"),
    "octopus_job_failures_total": ("counter", "project workspace job_type status msg_code"),
    "octopus_job_submitting_duration_seconds": ("histogram", "project workspace job_type"),
    "octopus_job_running_duration_seconds": ("histogram", "project workspace job_type status"),
    "octopus_resource_jobs": ("gauge", "project workspace resource_spec status"),
    "octopus_resource_submitting_duration_seconds": ("histogram", "project workspace resource_spec"),
    "octopus_job_core_seconds_total": ("counter", "project workspace job_type status"),
    "octopus_job_gpu_seconds_total": ("counter", "project workspace job_type status"),
    "octopus_job_memory_gibibyte_seconds_total": ("counter", "project workspace job_type status"),
    "octopus_job_reruns_total": ("counter", "project workspace job_type"),
    "octopus_rows_unreadable": ("gauge", "project workspace"),
    "octopus_up": ("gauge", "project workspace"),
    "octopus_poll_duration_seconds": ("gauge", "project workspace"),
    "octopus_poll_last_success_timestamp_seconds": ("gauge", "project workspace"),
    "octopus_poll_requests": ("gauge", "project workspace"),
    "octopus_polls_total": ("counter", "project workspace"),
    "octopus_poll_failures_total": ("counter", "project workspace reason"),
    "octopus_ledger_drift_jobs": ("gauge", "project workspace status"),
    "octopus_audit_last_timestamp_seconds": ("gauge", "project workspace"),
    "octopus_ledger_full_syncs_total": ("counter", "project workspace reason"),
    "octopus_project_info": ("gauge", "project project_id region endpoint"),
    "octopus_api_requests_total": ("counter", "project code"),
    "octopus_api_request_duration_seconds": ("histogram", "project"),
    "octopus_api_retries_total": ("counter", "project reason"),
    "octopus_api_clock_skew_seconds": ("gauge", "project"),
    "octopus_credentials_expiry_timestamp_seconds": ("gauge", "credentials"),
    "octopus_exporter_log_lines_dropped_total": ("counter", ""),
    "octopus_exporter_events_dropped_total": ("counter", ""),
    "octopus_exporter_events_pending": ("gauge", ""),
    "octopus_exporter_lease_held": ("gauge", "project workspace"),
    "octopus_exporter_leases_lost_total": ("counter", ""),
    "octopus_exporter_build_info": ("gauge", "version python_version"),
    "octopus_exporter_config_last_reload_successful": ("gauge", ""),
    "octopus_exporter_config_last_reload_success_timestamp_seconds": ("gauge", ""),
}
# What the contract does not name: the ages of jobs, what a spec names, and what the exporter tells of itself.
BESIDES = {
    "octopus_jobs_older_than": ("gauge", "project workspace job_type status age"),
    "octopus_resource_spec_cores": ("gauge", "project workspace resource_spec"),
    "octopus_resource_spec_gpus": ("gauge", "project workspace resource_spec"),
    "octopus_resource_spec_memory_bytes": ("gauge", "project workspace resource_spec"),
    "octopus_polls_skipped_total": ("counter", "project workspace"),
    "octopus_api_filter_works": ("gauge", "project workspace filter"),
    "octopus_exporter_event_loop_lag_seconds": ("histogram", ""),
}


# All others are stable: docs/releasing.md says what a change of those takes.
EXPERIMENTAL = {
    "octopus_jobs_older_than",
    "octopus_resource_jobs",
    "octopus_resource_spec_cores",
    "octopus_resource_spec_gpus",
    "octopus_resource_spec_memory_bytes",
    "octopus_resource_submitting_duration_seconds",
    "octopus_job_core_seconds_total",
    "octopus_job_gpu_seconds_total",
    "octopus_job_memory_gibibyte_seconds_total",
    "octopus_job_reruns_total",
    "octopus_api_filter_works",
    "octopus_exporter_event_loop_lag_seconds",
    "octopus_exporter_lease_held",
    "octopus_exporter_leases_lost_total",
}


def test_how_stable_each_metric_is() -> None:
    assert {family.name for family in FAMILIES if family.stability == "experimental"} == EXPERIMENTAL


def test_the_table_is_the_contract() -> None:
    assert {family.name: (family.type, " ".join(family.labels)) for family in FAMILIES} == CONTRACT | BESIDES


def test_every_family_of_a_target_has_a_source() -> None:
    assert tuple(SOURCES) == TARGET_FAMILIES


def test_no_family_is_there_twice() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_is_named_after_its_type_and_explained(family: Family) -> None:
    assert family.name.endswith("_total") == (family.type == "counter")
    assert family.what.endswith(".")
    assert family.when.endswith(".")
    assert all(family.name in promql for promql in family.queries.values())
    assert family.queries


def test_openmetrics_names_a_counter_without_total() -> None:
    assert JOBS_CREATED.openmetrics_name == "octopus_jobs_created"


def test_every_label_is_explained() -> None:
    assert {label for family in FAMILIES for label in family.labels} | {"le"} == set(LABELS)


@pytest.mark.prometheus
@pytest.mark.skipif(
    not shutil.which("promtool") and "CI" not in os.environ, reason="promtool is not installed"
)
def test_every_example_query_is_promql(tmp_path: Path) -> None:
    queries = [promql for family in FAMILIES for promql in family.queries.values()]
    rules = [{"record": f"example:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "examples", "rules": rules}]}), encoding="utf-8")
    checked = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
