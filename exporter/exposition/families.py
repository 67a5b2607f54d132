"""
Every metric family, as data: the renderer, the instruments and the reference in docs/ all read this table.

Names are those of the text format; OpenMetrics leaves `_total` off a counter family's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FamilyType = Literal["counter", "gauge", "histogram"]
Stability = Literal["stable", "experimental"]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """
    One metric family.

    Shape: `labels` in the order they are rendered; `what` says what is counted, `when` says when; `queries`
    has examples in PromQL by the question they answer. The name, the type and the labels of a `stable` family
    stay as they are (docs/releasing.md); a new family is `experimental` at first.
    """

    name: str
    type: FamilyType
    labels: tuple[str, ...]
    what: str
    when: str
    queries: Mapping[str, str]
    stability: Stability = "experimental"

    @property
    def help(self) -> str:
        return f"{self.what} {self.when}"

    @property
    def openmetrics_name(self) -> str:
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    @property
    def unit(self) -> str:
        """The base unit in the name, or "" where the family counts things."""
        return "seconds" if self.openmetrics_name.endswith("_seconds") else ""


LABELS = {
    "project": "name of the project in the configuration",
    "workspace": 'workspace id; "0" where none is configured',
    "job_type": 'job type, in the API\'s words; "other" beyond `metrics.max_job_types` undocumented ones',
    "status": 'job status, in the API\'s words; "other" beyond `metrics.max_statuses` undocumented ones',
    "age": "an age from 30m to 14d; a job of 3h30m counts at 30m, 1h, 1h30m, 2h and 3h",
    "msg_code": 'error code of a failed run; "" where none came, "other" beyond `metrics.max_msg_codes`',
    "resource_spec": (
        'resources that a job asks for, in the API\'s words; "" where none came,'
        ' "other" beyond `metrics.max_resource_specs`'
    ),
    "reason": "one of a fixed list, all of it exported from the start",
    "project_id": "id of the project",
    "region": "region of the project",
    "endpoint": "base URL of the API",
    "code": 'HTTP status, or "error" where no answer came',
    "filter": "filter of the job list: statuses, job_types, start_time, id or workspace; or totals",
    "credentials": "name of the credentials in the configuration",
    "version": "version of the exporter",
    "python_version": "version of Python",
    "le": "upper bound of the bucket, inclusive, in seconds",
}

_TARGET = ("project", "workspace")
_POLLED = "Set by every complete poll, on the exporter's own timer and not at the scrape."
_EVERY_POLL = "Set at the end of every poll, on the exporter's own timer."
_RESOURCES_COUNTED = (
    "Added once per run, by the first poll that sees it ended, so a long run adds all of its time at once;"
    " a run whose resource_spec is missing or cannot be read adds nothing."
    " Numbers of a resource_spec are read to the thousandth."
)
_SPEC_READ = (
    "Read from the spec to the thousandth, 0 where the spec names none; no series where it cannot be read."
    " Set by every complete poll, with octopus_resource_jobs."
)

JOBS = Family(
    "octopus_jobs",
    "gauge",
    (*_TARGET, "job_type", "status"),
    "Jobs the API lists now: all that are in flight, and the terminal ones created within poll.lookback.",
    _POLLED,
    {
        "Jobs in flight, by status": 'sum by (status) (octopus_jobs{status!~"FINISHED|STOPPED|.*_FAILED"})',
        "The queue of each job type": 'sum by (job_type) (octopus_jobs{status="QUEUING"})',
    },
    stability="stable",
)
JOBS_OLDEST_CREATED = Family(
    "octopus_jobs_oldest_created_timestamp_seconds",
    "gauge",
    (*_TARGET, "job_type", "status"),
    "Creation time of the oldest job in this in-flight status; no series where there is none.",
    _POLLED,
    {
        "How long the oldest queued job has been waiting": (
            'time() - min by (job_type) (octopus_jobs_oldest_created_timestamp_seconds{status="QUEUING"})'
        )
    },
    stability="stable",
)
JOBS_OLDEST_STARTED = Family(
    "octopus_jobs_oldest_started_timestamp_seconds",
    "gauge",
    (*_TARGET, "job_type", "status"),
    "Start time of the oldest started job in this in-flight status; no series where there is none.",
    _POLLED,
    {
        "How long the longest-running job has been running": (
            'time() - min by (job_type) (octopus_jobs_oldest_started_timestamp_seconds{status="RUNNING"})'
        )
    },
    stability="stable",
)
JOBS_OLDER_THAN = Family(
    "octopus_jobs_older_than",
    "gauge",
    (*_TARGET, "job_type", "status", "age"),
    "Jobs in this in-flight status that are older than `age`: since their creation in QUEUING and LAUNCHING,"
    " since their start in any other status. No series where there is none.",
    _POLLED,
    {
        "Jobs that have been running for more than a day": (
            'sum by (job_type) (octopus_jobs_older_than{status="RUNNING", age="1d"})'
        )
    },
)
JOBS_CREATED = Family(
    "octopus_jobs_created_total",
    "counter",
    (*_TARGET, "job_type"),
    "Jobs seen for the first time.",
    "Counted by the first poll that lists the job; what was there before the first poll is not counted,"
    " unless metrics.count_history is on.",
    {"Arrivals per hour": "sum by (job_type) (rate(octopus_jobs_created_total[1h])) * 3600"},
    stability="stable",
)
JOBS_COMPLETED = Family(
    "octopus_jobs_completed_total",
    "counter",
    (*_TARGET, "job_type", "status"),
    "Runs that ended, by the status they ended in.",
    "Counted once per run, restarts included, by the first poll that sees it ended; a job that runs again"
    " counts again.",
    {
        "Runs that ended in the last hour": "sum by (status) (increase(octopus_jobs_completed_total[1h]))",
        "Share of runs that failed": (
            'sum by (job_type) (rate(octopus_jobs_completed_total{status=~".*_FAILED"}[1h]))'
            " / sum by (job_type) (rate(octopus_jobs_completed_total[1h]))"
        ),
    },
    stability="stable",
)
JOB_FAILURES = Family(
    "octopus_job_failures_total",
    "counter",
    (*_TARGET, "job_type", "status", "msg_code"),
    "Runs that failed, by the API's error code, which is empty where none came.",
    "Counted once per run, in the same poll as octopus_jobs_completed_total; the exemplar is the last job.",
    {
        "The five most frequent errors of the day": (
            "topk(5, sum by (job_type, msg_code) (increase(octopus_job_failures_total[1d])))"
        )
    },
    stability="stable",
)
JOB_SUBMITTING_DURATION = Family(
    "octopus_job_submitting_duration_seconds",
    "histogram",
    (*_TARGET, "job_type"),
    "Time from a job's creation to its start in Kubernetes.",
    "Observed once per run, by the first poll that sees it started; the exemplars are the last jobs.",
    {
        "Time to start that 95 % of the runs stay under": (
            "histogram_quantile(0.95, sum by (le, job_type)"
            " (rate(octopus_job_submitting_duration_seconds_bucket[1h])))"
        )
    },
    stability="stable",
)
JOB_RUNNING_DURATION = Family(
    "octopus_job_running_duration_seconds",
    "histogram",
    (*_TARGET, "job_type", "status"),
    "Time a run took in Kubernetes, by the status it ended in.",
    "Observed once per run, by the first poll that sees it ended; the exemplars are the last jobs.",
    {
        "Median run time of what finished": (
            "histogram_quantile(0.5, sum by (le, job_type)"
            ' (rate(octopus_job_running_duration_seconds_bucket{status="FINISHED"}[6h])))'
        ),
        "Mean run time": (
            "sum by (job_type) (rate(octopus_job_running_duration_seconds_sum[6h]))"
            " / sum by (job_type) (rate(octopus_job_running_duration_seconds_count[6h]))"
        ),
    },
    stability="stable",
)
RESOURCE_JOBS = Family(
    "octopus_resource_jobs",
    "gauge",
    (*_TARGET, "resource_spec", "status"),
    "Jobs in flight, by the resources they ask for.",
    _POLLED,
    {
        "Jobs that wait, by spec": (
            'sum by (resource_spec) (octopus_resource_jobs{status=~"QUEUING|LAUNCHING"})'
        ),
        "GPU jobs that have started, by project and spec": (
            'sum by (project, resource_spec) (octopus_resource_jobs{status!~"QUEUING|LAUNCHING"}'
            " and on (project, workspace, resource_spec) octopus_resource_spec_gpus > 0)"
        ),
    },
)
RESOURCE_SPEC_CORES = Family(
    "octopus_resource_spec_cores",
    "gauge",
    (*_TARGET, "resource_spec"),
    "CPU cores that one job with this spec asks for.",
    _SPEC_READ,
    {
        "Cores that the jobs in flight ask for, by project and status": (
            "sum by (project, status) (octopus_resource_jobs"
            " * on (project, workspace, resource_spec) group_left () octopus_resource_spec_cores)"
        )
    },
)
RESOURCE_SPEC_GPUS = Family(
    "octopus_resource_spec_gpus",
    "gauge",
    (*_TARGET, "resource_spec"),
    "GPUs that one job with this spec asks for.",
    _SPEC_READ,
    {
        "GPUs that jobs wait for, by project": (
            'sum by (project) (octopus_resource_jobs{status=~"QUEUING|LAUNCHING"}'
            " * on (project, workspace, resource_spec) group_left () octopus_resource_spec_gpus)"
        )
    },
)
RESOURCE_SPEC_MEMORY = Family(
    "octopus_resource_spec_memory_bytes",
    "gauge",
    (*_TARGET, "resource_spec"),
    "Memory that one job with this spec asks for.",
    _SPEC_READ,
    {
        "Memory that started jobs ask for, by project": (
            'sum by (project) (octopus_resource_jobs{status!~"QUEUING|LAUNCHING"}'
            " * on (project, workspace, resource_spec) group_left () octopus_resource_spec_memory_bytes)"
        )
    },
)
RESOURCE_SUBMITTING_DURATION = Family(
    "octopus_resource_submitting_duration_seconds",
    "histogram",
    (*_TARGET, "resource_spec"),
    "Time from a job's creation to its start in Kubernetes, by the resources it asks for.",
    "Observed once per run, by the first poll that sees it started.",
    {
        "Time to start that 95 % of the runs stay under, by spec": (
            "histogram_quantile(0.95, sum by (le, resource_spec)"
            " (rate(octopus_resource_submitting_duration_seconds_bucket[6h])))"
        ),
        "Mean time to start, by spec": (
            "sum by (resource_spec) (rate(octopus_resource_submitting_duration_seconds_sum[6h]))"
            " / sum by (resource_spec) (rate(octopus_resource_submitting_duration_seconds_count[6h]))"
        ),
    },
)
JOB_CORE_SECONDS = Family(
    "octopus_job_core_seconds_total",
    "counter",
    (*_TARGET, "job_type", "status"),
    "CPU cores that a run asked for, multiplied by its running time, by the status it ended in.",
    _RESOURCES_COUNTED,
    {
        "Core-hours of the last day, by job type": (
            "sum by (job_type) (increase(octopus_job_core_seconds_total[1d])) / 3600"
        )
    },
)
JOB_GPU_SECONDS = Family(
    "octopus_job_gpu_seconds_total",
    "counter",
    (*_TARGET, "job_type", "status"),
    "GPUs that a run asked for, multiplied by its running time, by the status it ended in.",
    _RESOURCES_COUNTED,
    {
        "GPU-hours of the last day, by project and job type": (
            "sum by (project, job_type) (increase(octopus_job_gpu_seconds_total[1d])) / 3600"
        ),
        "What failures cost: GPU-hours of the last day that went to runs that failed or were stopped": (
            "sum by (project, status)"
            ' (increase(octopus_job_gpu_seconds_total{status=~".*_FAILED|STOPPED"}[1d])) / 3600'
        ),
    },
)
JOB_MEMORY_SECONDS = Family(
    "octopus_job_memory_gibibyte_seconds_total",
    "counter",
    (*_TARGET, "job_type", "status"),
    "Memory in GiB that a run asked for, multiplied by its running time, by the status it ended in.",
    _RESOURCES_COUNTED,
    {
        "GiB-hours of the last day, by job type": (
            "sum by (job_type) (increase(octopus_job_memory_gibibyte_seconds_total[1d])) / 3600"
        )
    },
)
JOB_RERUNS = Family(
    "octopus_job_reruns_total",
    "counter",
    (*_TARGET, "job_type"),
    "Runs of a job that had ended before.",
    "Counted once per run, by the first poll that sees it started, or ended if no poll saw it start."
    " A run counts if a poll has seen its job ended before: of a job that no poll has seen ended, a second"
    " start is no rerun.",
    {
        "Share of runs that are reruns": (
            "sum by (job_type) (increase(octopus_job_reruns_total[1d]))"
            " / sum by (job_type) (increase(octopus_jobs_completed_total[1d]))"
        )
    },
)
ROWS_UNREADABLE = Family(
    "octopus_rows_unreadable",
    "gauge",
    _TARGET,
    "Rows of the job list that cannot be read and are set apart: those of the last poll, and those of earlier"
    " polls that no answer has shown again since.",
    "Set by every complete poll; 0 where all rows can be read.",
    {"Targets that list rows which cannot be read": "octopus_rows_unreadable > 0"},
    stability="stable",
)
UP = Family(
    "octopus_up",
    "gauge",
    _TARGET,
    "1 if the last poll succeeded, 0 if it failed.",
    _EVERY_POLL,
    {"Targets whose last poll failed": "octopus_up == 0"},
    stability="stable",
)
POLL_DURATION = Family(
    "octopus_poll_duration_seconds",
    "gauge",
    _TARGET,
    "Duration of the last poll, whether it succeeded or failed.",
    _EVERY_POLL,
    {"The slowest targets": "topk(5, octopus_poll_duration_seconds)"},
    stability="stable",
)
POLL_LAST_SUCCESS = Family(
    "octopus_poll_last_success_timestamp_seconds",
    "gauge",
    _TARGET,
    "When the last successful poll ended: the age of what is exported for the target.",
    "Set at the end of every successful poll, on the exporter's own timer.",
    {"Age of each target's data": "time() - octopus_poll_last_success_timestamp_seconds"},
    stability="stable",
)
POLL_REQUESTS = Family(
    "octopus_poll_requests",
    "gauge",
    _TARGET,
    "Requests the last poll cost.",
    _EVERY_POLL,
    {"Requests per poll, at their highest in the last day": "max_over_time(octopus_poll_requests[1d])"},
    stability="stable",
)
POLLS = Family(
    "octopus_polls_total",
    "counter",
    _TARGET,
    "Polls, successful or failed.",
    "Counted when a poll ends.",
    {"Polls per minute": "rate(octopus_polls_total[5m]) * 60"},
    stability="stable",
)
POLL_FAILURES = Family(
    "octopus_poll_failures_total",
    "counter",
    (*_TARGET, "reason"),
    "Polls that failed, by reason.",
    "Counted when a poll fails.",
    {
        "Share of polls that failed": (
            "sum by (project, workspace) (rate(octopus_poll_failures_total[15m]))"
            " / sum by (project, workspace) (rate(octopus_polls_total[15m]))"
        )
    },
    stability="stable",
)
POLLS_SKIPPED = Family(
    "octopus_polls_skipped_total",
    "counter",
    _TARGET,
    "Polls that were due while the one before was still under way.",
    "Counted when a poll ends after its interval; skipped polls are not made up for.",
    {"Polls that take too long": "increase(octopus_polls_skipped_total[1h]) > 0"},
    stability="stable",
)
API_FILTER_WORKS = Family(
    "octopus_api_filter_works",
    "gauge",
    (*_TARGET, "filter"),
    "1 if the server honours this filter of the job list as documented, else 0 and polls cost more.",
    "Set by every complete poll; a filter that was given up is tried again after a day.",
    {"Filters that were given up": "octopus_api_filter_works == 0"},
)
LEDGER_DRIFT = Family(
    "octopus_ledger_drift_jobs",
    "gauge",
    (*_TARGET, "status"),
    "Jobs by the API's own total minus jobs in the ledger.",
    "Set by every audit, each poll.audit_interval.",
    {"Where the ledger and the API differ": "octopus_ledger_drift_jobs != 0"},
    stability="stable",
)
AUDIT_LAST = Family(
    "octopus_audit_last_timestamp_seconds",
    "gauge",
    _TARGET,
    "When the ledger was last compared with the API's own totals.",
    "Set by every audit, each poll.audit_interval.",
    {"Time since the last audit": "time() - octopus_audit_last_timestamp_seconds"},
    stability="stable",
)
LEDGER_FULL_SYNCS = Family(
    "octopus_ledger_full_syncs_total",
    "counter",
    (*_TARGET, "reason"),
    "Complete listings of the window, by what asked for them.",
    "Counted when a full sync is complete.",
    {
        "Full syncs nobody had scheduled": (
            'increase(octopus_ledger_full_syncs_total{reason!~"first|scheduled"}[1d]) > 0'
        )
    },
    stability="stable",
)
PROJECT_INFO = Family(
    "octopus_project_info",
    "gauge",
    ("project", "project_id", "region", "endpoint"),
    "Always 1; the labels say which project of the cloud a project label stands for.",
    "Set when the configuration is read.",
    {
        "Jobs by region": (
            "sum by (region) (octopus_jobs * on (instance, project) group_left (region) octopus_project_info)"
        )
    },
    stability="stable",
)
LEASE_HELD = Family(
    "octopus_exporter_lease_held",
    "gauge",
    _TARGET,
    "1 where this replica polls the target, else 0; always 1 with an SQLite ledger.",
    "Set when the lease of the target is taken, given back or lost.",
    {
        "Targets that no replica polls": "max by (project, workspace) (octopus_exporter_lease_held) == 0",
        "Targets that each replica polls": "sum by (instance) (octopus_exporter_lease_held)",
    },
)
API_REQUESTS = Family(
    "octopus_api_requests_total",
    "counter",
    ("project", "code"),
    "Requests sent to the API, by HTTP status, or error where no answer came.",
    "Counted when an exchange ends, retries included.",
    {"Requests per second, by status": "sum by (code) (rate(octopus_api_requests_total[5m]))"},
    stability="stable",
)
API_REQUEST_DURATION = Family(
    "octopus_api_request_duration_seconds",
    "histogram",
    ("project",),
    "Time from sending a request to the end of its answer, or to giving up.",
    "Observed when an exchange ends, retries included.",
    {
        "Answer time that 99 % of the requests stay under": (
            "histogram_quantile(0.99, sum by (le, project)"
            " (rate(octopus_api_request_duration_seconds_bucket[5m])))"
        )
    },
    stability="stable",
)
API_RETRIES = Family(
    "octopus_api_retries_total",
    "counter",
    ("project", "reason"),
    "Requests sent again, by what went wrong the time before.",
    "Counted when a request is about to be sent again.",
    {"Throttling by the API": 'rate(octopus_api_retries_total{reason="throttled"}[5m]) > 0'},
    stability="stable",
)
API_CLOCK_SKEW = Family(
    "octopus_api_clock_skew_seconds",
    "gauge",
    ("project",),
    "The server's clock minus the exporter's.",
    "Set by answers that carry the server's time.",
    {"Clocks more than a minute apart": "abs(octopus_api_clock_skew_seconds) > 60"},
    stability="stable",
)
CREDENTIALS_EXPIRY = Family(
    "octopus_credentials_expiry_timestamp_seconds",
    "gauge",
    ("credentials",),
    "When the token or temporary key in use ends.",
    "Shown while the token or key is in use, where its end is known. An end less than 5 minutes after it was"
    " issued is not believed and not shown.",
    {
        "Credentials that end within the hour and should have been renewed": (
            "octopus_credentials_expiry_timestamp_seconds - time() < 3600"
        )
    },
    stability="stable",
)
EVENT_LOOP_LAG = Family(
    "octopus_exporter_event_loop_lag_seconds",
    "histogram",
    (),
    "How much later than it was due a timer of the event loop ran.",
    "Observed ten times a second.",
    {
        "The 99th percentile of the lag": (
            "histogram_quantile(0.99, sum by (le) (rate(octopus_exporter_event_loop_lag_seconds_bucket[5m])))"
        )
    },
)
LOG_LINES_DROPPED = Family(
    "octopus_exporter_log_lines_dropped_total",
    "counter",
    (),
    "Log lines that were not written, as their reader did not keep up or is gone.",
    "Counted when a line is dropped; the log says how many they were once it goes on.",
    {"Log lines lost in the last hour": "increase(octopus_exporter_log_lines_dropped_total[1h]) > 0"},
    stability="stable",
)
EVENTS_DROPPED = Family(
    "octopus_exporter_events_dropped_total",
    "counter",
    (),
    "Events that were never written: more than 100,000 of their target waited, or the ledger was damaged.",
    "Counted when an event is dropped, which is the oldest one; 0 after a restart.",
    {"Events lost in the last hour": "increase(octopus_exporter_events_dropped_total[1h]) > 0"},
    stability="stable",
)
EVENTS_PENDING = Family(
    "octopus_exporter_events_pending",
    "gauge",
    (),
    "Events in the ledger that could not be written yet, as their reader has stopped or the output fails.",
    "Set after each attempt to write; 0 where `events` is not configured.",
    {"Outputs that take no events": "min_over_time(octopus_exporter_events_pending[15m]) > 0"},
    stability="stable",
)
LEASES_LOST = Family(
    "octopus_exporter_leases_lost_total",
    "counter",
    (),
    "Leases that this replica lost: they ended before they were renewed, or another replica took them.",
    "Counted when the polls of the target are stopped; a lease that was given back is not lost.",
    {"Leases lost in the last hour": "increase(octopus_exporter_leases_lost_total[1h]) > 0"},
)
BUILD_INFO = Family(
    "octopus_exporter_build_info",
    "gauge",
    ("version", "python_version"),
    "Always 1; the labels say what is running.",
    "Set at the start.",
    {"Versions in use": "count by (version) (octopus_exporter_build_info)"},
    stability="stable",
)
CONFIG_RELOAD_OK = Family(
    "octopus_exporter_config_last_reload_successful",
    "gauge",
    (),
    "1 if the configuration was last read without an error, else 0.",
    "Set at the start and by every reload.",
    {"A configuration that was refused": "octopus_exporter_config_last_reload_successful == 0"},
    stability="stable",
)
CONFIG_RELOAD_TIME = Family(
    "octopus_exporter_config_last_reload_success_timestamp_seconds",
    "gauge",
    (),
    "When the configuration in use was read.",
    "Set at the start and by every successful reload.",
    {
        "Time since the configuration in use was read": (
            "time() - octopus_exporter_config_last_reload_success_timestamp_seconds"
        )
    },
    stability="stable",
)

# In the order of their definitions, so that a new family is stated once. One of a target stands before
# API_REQUESTS and needs a source in samples.py.
FAMILIES = tuple(value for value in globals().values() if isinstance(value, Family))
TARGET_FAMILIES = FAMILIES[: FAMILIES.index(API_REQUESTS)]
INSTRUMENT_FAMILIES = FAMILIES[len(TARGET_FAMILIES) :]
PROJECT_FAMILIES = tuple(family for family in INSTRUMENT_FAMILIES if "project" in family.labels)
