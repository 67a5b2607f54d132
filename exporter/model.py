"""
The data types of the project: jobs, targets, and the published state of a target.

Units: every `*_ms` is Unix milliseconds UTC (a time) or milliseconds (a duration), as the API has them.
Source: Huawei Cloud Octopus API reference, "querying the list of internal jobs", table 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from exporter.errors import REASONS, Reason

JOB_TYPES = (
    "PACKAGE_IMPORT",
    "PACKAGE_DELETE",
    "SCENARIO_AUTO_MINING",
    "SCENARIO_TO_SIM",
    "FRAME_EXTRACT",
    "SCENARIO_EXTRACT",
)
IN_FLIGHT_STATUSES = ("QUEUING", "LAUNCHING", "RUNNING", "UPLOADING")
# A job in one of these has not started, so its age counts from its creation. In the other in-flight statuses
# it counts from its start.
WAITING_STATUSES = ("QUEUING", "LAUNCHING")
FAILED_STATUSES = ("SUBMIT_FAILED", "RUN_FAILED", "UPLOAD_FAILED")
TERMINAL_STATUSES = ("FINISHED", "STOPPED", *FAILED_STATUSES)
STATUSES = (*IN_FLIGHT_STATUSES, *TERMINAL_STATUSES)

# Jobs in flight are counted by these ages, in ms. Each is at most twice the one before, so an alert whose
# limit is between two of them fires at twice its limit at the latest.
AGE_BOUNDS_MS: Mapping[str, int] = {
    "30m": 1_800_000,
    "1h": 3_600_000,
    "1h30m": 5_400_000,
    "2h": 7_200_000,
    "3h": 10_800_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "16h": 57_600_000,
    "1d": 86_400_000,
    "1d12h": 129_600_000,
    "2d": 172_800_000,
    "3d": 259_200_000,
    "4d": 345_600_000,
    "7d": 604_800_000,
    "14d": 1_209_600_000,
}

# The label value of undocumented job types and statuses beyond the configured maximum of such values.
OTHER = "other"

FULL_SYNC_REASONS = ("first", "gap", "scheduled", "drift", "filters")

_IN_FLIGHT = frozenset(IN_FLIGHT_STATUSES)
_TERMINAL = frozenset(TERMINAL_STATUSES)


def is_terminal(status: str) -> bool:
    """Tell whether this is a documented terminal status. For a job, use `Job.has_ended` instead."""
    return status in _TERMINAL


def is_failed(status: str) -> bool:
    """Tell whether a run that ended in this status has failed: the suffix decides, documented or not."""
    return status.endswith("_FAILED")


class Job(msgspec.Struct, frozen=True, gc=False):
    """
    One row of the job list.

    Shape: `msg_code`, `data_id` and `resource_spec` are "" if the row has none; `named_terminal` is true if
    the configuration says that its status ends a run (`poll.terminal_statuses`).
    """

    id: int
    job_type: str
    status: str
    created_ms: int
    updated_ms: int
    started_ms: int | None = None
    ended_ms: int | None = None
    submitting_ms: int | None = None
    running_ms: int | None = None
    msg_code: str = ""
    msg_error: str = ""
    workspace_id: str | None = None
    named_terminal: bool = False
    data_id: str = ""
    resource_spec: str = ""

    @property
    def has_ended(self) -> bool:
        """
        Tell whether this run has ended.

        A documented status alone decides. A run in an undocumented status has ended if it has an end time,
        because the API leaves `end_at` out while a job runs, or if the configuration says so.
        """
        if self.status in _TERMINAL:
            return True
        if self.status in _IN_FLIGHT:
            return False
        return self.ended_ms is not None or self.named_terminal


@dataclass(frozen=True, slots=True)
class TargetKey:
    """Identifies a target in the ledger. If any field changes, it is another target, counted from 0."""

    project: str
    project_id: str
    workspace: str
    path: str

    @property
    def text(self) -> str:
        """What lines for people call it."""
        return f"{self.project}, workspace {self.workspace}"


@dataclass(frozen=True, slots=True)
class Target:
    """
    One (project, workspace) to poll.

    Shape: `workspace` is the label ("0" if none is configured); `workspace_id` is the parameter to send, None
    to send none; `job_types` empty means all; `credentials` is the configured name.
    """

    project: str
    project_id: str
    workspace: str
    workspace_id: str | None
    region: str
    endpoint: str
    path: str
    job_types: tuple[str, ...]
    credentials: str

    @property
    def key(self) -> TargetKey:
        return TargetKey(self.project, self.project_id, self.workspace, self.path)


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """
    Identifies one series of a target, or all series of a family that appear together with a job type.

    Shape: `family` is one of the names in counting.increments; labels that do not apply are "".
    """

    family: str
    job_type: str
    status: str = ""
    msg_code: str = ""
    resource_spec: str = ""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """The last job counted in a series or bucket; `value` in the metric's unit (1 for a counter)."""

    job_id: int
    value: float
    at_ms: int


@dataclass(frozen=True, slots=True)
class CounterValue:
    """One counter series; `created_ms` is when it began to count, None if unknown."""

    value: int = 0
    exemplar: Exemplar | None = None
    created_ms: int | None = None


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """
    One histogram series.

    Shape: `counts` has one number per bound and a last one for +Inf, not cumulative; `exemplars` has the same
    length; `created_ms` as for a counter. Units: `bounds` in seconds, `sum_ms` in
    milliseconds, exact.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_ms: int = 0
    exemplars: tuple[Exemplar | None, ...] = ()
    created_ms: int | None = None

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> HistogramValue:
        return cls(bounds, (0,) * (len(bounds) + 1), 0, (None,) * (len(bounds) + 1))


@dataclass(frozen=True, slots=True)
class Run:
    """
    One run of a job that ended and was counted.

    Shape: `number` is the number of ended runs of this job that the ledger has seen, including this one and
    those of the baseline. `msg_code`, `msg_error`, `data_id` and `resource_spec` are "" if the row has none.
    Units: `at_ms` is when it ended by the exporter's clock, never later than the poll that saw it. The other
    times are the API's, by the server's clock. A duration is None if the run has none or it is unknown.
    """

    job_id: int
    number: int
    job_type: str
    status: str
    msg_code: str
    msg_error: str
    data_id: str
    resource_spec: str
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    at_ms: int
    submitting_ms: int | None
    running_ms: int | None
    failed: bool


@dataclass(frozen=True, slots=True)
class SetApart:
    """
    A listed row that cannot be counted; its job, if it is known, stays as it was.

    Shape: `key` identifies the row; `job_id` and `created_ms` are None and `status` is "" where they cannot
    be read; `problem` describes the defect in one line.
    """

    key: str
    job_id: int | None
    status: str
    created_ms: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class Totals:
    """
    All numbers that the ledger publishes for one target, at one commit.

    Shape: known types, statuses and codes are zero-filled; undocumented ones are added when they are first
    seen, and so are resource specs. The values are those to export: a new series that is held is 0 here,
    whatever it has counted. Units: the resource seconds are in thousandths of a core, of a GPU or of a GiB,
    times milliseconds.
    """

    # By (job_type, status), for in-flight and terminal statuses.
    jobs: Mapping[tuple[str, str], int]
    # By (job_type, in-flight status); absent if there is no such job.
    oldest_created_ms: Mapping[tuple[str, str], int]
    oldest_started_ms: Mapping[tuple[str, str], int]
    # Counters and histograms by job_type, (job_type, terminal status) or (job_type, status, msg_code).
    created: Mapping[str, CounterValue]
    completed: Mapping[tuple[str, str], CounterValue]
    failures: Mapping[tuple[str, str, str], CounterValue]
    submitting: Mapping[str, HistogramValue]
    running: Mapping[tuple[str, str], HistogramValue]
    # The API's totals minus the ledger's jobs, by status, at the last audit.
    drift: Mapping[str, int]
    last_audit_ms: int | None
    # By (job_type, in-flight status, age of AGE_BOUNDS_MS); absent if no job is that old.
    older_than: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    # Whether the server honours each filter as documented.
    filters: Mapping[str, bool] = field(default_factory=dict)
    # Runs that ended before this time are not counted; None if the whole history is counted.
    baseline_ms: int | None = None
    # The exporter's clock at the commit.
    committed_ms: int = 0
    # How many rows are set apart, and some of them.
    rows_unreadable: int = 0
    set_apart: tuple[SetApart, ...] = ()
    # Listed jobs that ended in an undocumented status.
    undocumented_ended: int = 0
    # True if two audits in a row found a difference.
    drift_lasts: bool = False
    # Jobs that the API counts in its totals but lists on no page.
    unlisted_jobs: int = 0
    # The largest page that the server returns; None if that is the configured size.
    page_size: int | None = None
    # The keys of new series that are held, and the number of these series.
    held: frozenset[SeriesKey] = frozenset()
    held_series: int = 0
    # Grows with every change of an exported value.
    revision: int = 0
    # By (resource_spec, in-flight status).
    resource_jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    resource_submitting: Mapping[str, HistogramValue] = field(default_factory=dict)
    # By (job_type, terminal status).
    core_seconds: Mapping[tuple[str, str], CounterValue] = field(default_factory=dict)
    gpu_seconds: Mapping[tuple[str, str], CounterValue] = field(default_factory=dict)
    memory_seconds: Mapping[tuple[str, str], CounterValue] = field(default_factory=dict)
    # By job_type.
    reruns: Mapping[str, CounterValue] = field(default_factory=dict)
    # The first specs that could not be read, in the order they were seen.
    unreadable_specs: tuple[str, ...] = ()

    def in_status(self, status: str) -> int:
        """Add up the jobs listed in one status, over all types."""
        return sum(jobs for (_, found), jobs in self.jobs.items() if found == status)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Why the last poll failed, for the status page.

    Shape: `since_ms` is when polls began to fail; `status` (0 without a response), `code`, `url` and
    `request_id` are those of errors.ApiError, "" if they do not apply.
    """

    reason: Reason
    message: str
    since_ms: int
    status: int = 0
    code: str = ""
    url: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class PollStatus:
    """
    The state of a target's polling; times are by the exporter's clock.

    Shape: `up` is None before the first poll has ended, at `last_poll_ms`; `failures` and `full_syncs` by
    reason, zero-filled. `began_ms` is when these counters began at 0. Within `swap_limit_seconds` a change is
    seen that leaves all totals as they were; None where every poll lists all jobs in flight.
    """

    up: bool | None = None
    duration_seconds: float | None = None
    requests: int | None = None
    last_poll_ms: int | None = None
    last_success_ms: int | None = None
    polls: int = 0
    skipped: int = 0
    failures: Mapping[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    full_syncs: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(FULL_SYNC_REASONS, 0))
    error: Fault | None = None
    began_ms: int | None = None
    swap_limit_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SecretRefusal:
    """How a server has refused a password or key. Shape: as errors.ApiError."""

    message: str
    status: int = 0
    url: str = ""
    code: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class SecretUse:
    """
    Whether a password or key that was not accepted yet may be tried, among replicas that share it.

    Shape: `refusal` if it was refused, None while another replica tries it. Units: `wait_seconds`, until it
    may be tried; 0: now, and other replicas wait.
    """

    wait_seconds: float = 0.0
    refusal: SecretRefusal | None = None


@dataclass(slots=True)
class Progress:
    """The progress of a full sync. The only mutable type here: the status page reads it while it changes."""

    rows: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """
    The properties of a ledger, for the status page.

    Shape: `location` is a file's absolute path, a URL without password, or "" in memory; `schema_version` and
    `size_bytes` are None if this process does not know them.
    """

    kind: Literal["sqlite", "memory", "postgresql"]
    location: str
    schema_version: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class TargetSnapshot:
    """
    The published state of one target.

    Shape: `totals` is None until the first complete poll, or until it is restored from the ledger; a `stale`
    target, whose polls have failed for longer than `metrics.max_age`, has no gauges, but keeps its counters
    and histograms; with `created_series`, each counter and histogram has its `_created` series. `held` is
    False where another replica polls the target, or none does.
    """

    target: Target
    totals: Totals | None
    poll: PollStatus
    stale: bool = False
    created_series: bool = False
    held: bool = True
