"""Snapshots and settings for every state that the status page shows differently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from exporter.model import (
    IN_FLIGHT_STATUSES,
    JOB_TYPES,
    STATUSES,
    Fault,
    LedgerFacts,
    PollStatus,
    Progress,
    Run,
    SetApart,
    TargetKey,
    TargetSnapshot,
)
from exporter.web.status.model import (
    CredentialsStatus,
    HolderStatus,
    LeaseStatus,
    ProcessInfo,
    ReloadStatus,
    ReplicasStatus,
    ShardStatus,
    Status,
    TakeoverStatus,
    status,
)
from tests.fake_runs import a_run
from tests.snapshots import POLL, SNAPSHOT, TARGET, TOTALS, named

NOW_MS = 1_700_000_061_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> ' \" & {{ 7*7 }}"
)

REPLICAS = ReplicasStatus(
    name="exporter-1-5f3a9c",
    alive=3,
    read_ms=NOW_MS - 700,
    away_since_ms=None,
    holders=(HolderStatus("exporter-0-90bd12", 5), HolderStatus("exporter-1-5f3a9c", 3)),
    takeovers=(
        TakeoverStatus("mapping", "7", "exporter-2-0c11d8", "exporter-1-5f3a9c", NOW_MS - 3 * MINUTE_MS),
        TakeoverStatus("slow", "0", "", "exporter-0-90bd12", NOW_MS - HOUR_MS),
    ),
)
LEASES = {
    TARGET.key: LeaseStatus("exporter-1-5f3a9c", True, NOW_MS - HOUR_MS, NOW_MS + 9_000),
    replace(TARGET, project="mapping").key: LeaseStatus(
        "exporter-0-90bd12", False, NOW_MS - 26 * HOUR_MS, NOW_MS + 12_000
    ),
    replace(TARGET, project="slow").key: LeaseStatus("", False, NOW_MS - HOUR_MS, NOW_MS - 20_000),
}
ABOUT = ProcessInfo(
    started_ms=NOW_MS - 26 * HOUR_MS,
    interval_seconds=30.0,
    polling_since_ms={},
    clock_skews={"perception": 0.4},
    rests_until_ms={},
    credentials=(CredentialsStatus("default", "password", NOW_MS + 23 * HOUR_MS),),
    log_lines_dropped=0,
    events_pending=0,
    events_dropped=0,
    ledger=LedgerFacts("sqlite", "/var/lib/octopus-exporter/ledger.db", 1, 12_900_000),
    reload=ReloadStatus(True, NOW_MS - 26 * HOUR_MS),
    config={
        "credentials": {"default": {"type": "password", "password": "<secret>"}},
        "poll": {"interval": "30s", "lookback": "30d"},
    },
    shard=ShardStatus(2, 3, 8, 23),
    replicas=REPLICAS,
    leases=LEASES,
)
JOBS = {
    (job_type, status): 7 * row + column
    for row, job_type in enumerate(JOB_TYPES)
    for column, status in enumerate(STATUSES)
}
RESOURCE_JOBS = {
    ("2Core_4GiB", "RUNNING"): 10,
    ("2Core_4GiB", "UPLOADING"): 1,
    ("2Core_4GiB", "QUEUING"): 0,
    ("P100_1Gpu_2.1Core_4.1GiB", "RUNNING"): 3,
    ("P100_1Gpu_2.1Core_4.1GiB", "QUEUING"): 40,
    ("P100_1Gpu_2.1Core_4.1GiB", "LAUNCHING"): 1,
    ("V100_8Gpu_96Core_720GiB", "QUEUING"): 2,
    ("8Core_16GiB", "RUNNING"): 0,
    ("2Core_4MiB", "RUNNING"): 4,
    ("other", "QUEUING"): 5,
    ("", "RUNNING"): 6,
}
FULL = replace(
    TOTALS,
    jobs=JOBS,
    resource_jobs=RESOURCE_JOBS,
    unreadable_specs=("2Core_4MiB", HOSTILE),
    oldest_created_ms={(JOB_TYPES[0], name): NOW_MS - 3 * HOUR_MS for name in IN_FLIGHT_STATUSES},
    oldest_started_ms={(JOB_TYPES[0], "RUNNING"): NOW_MS - 2 * HOUR_MS},
    last_audit_ms=NOW_MS - 4 * MINUTE_MS,
)
FAILED_RUNS = tuple(
    a_run(4000 - n, job_type=JOB_TYPES[n % 6], msg_error=HOSTILE, at_ms=NOW_MS - n * MINUTE_MS)
    for n in range(50)
)
GOOD = replace(POLL, last_poll_ms=NOW_MS - 4000, last_success_ms=NOW_MS - 4000)
FAULT = Fault(
    "auth",
    "the token is invalid, expired or of another region: The token must be updated.",
    NOW_MS - 48 * MINUTE_MS,
    401,
    "APIG.0307",
    "https://octopus.example/v1.0/0876/data/system-jobs",
    "5ac1",
)
FAILED = replace(GOOD, up=False, last_success_ms=NOW_MS - 49 * MINUTE_MS, error=FAULT)

OK = named("perception", poll=GOOD, totals=FULL)
FAILING = named("mapping", poll=replace(FAILED, last_success_ms=NOW_MS - 2 * MINUTE_MS), totals=FULL)
STALE = named("mapping", "7", poll=FAILED, totals=FULL, stale=True)
LATE = named("slow", poll=replace(GOOD, last_success_ms=NOW_MS - 10 * MINUTE_MS), totals=FULL)
WAITING = TargetSnapshot(replace(TARGET, project="newcomer"), None, PollStatus())
RESTORED = named("restored", poll=PollStatus(last_success_ms=NOW_MS - HOUR_MS), totals=FULL)
DRIFTING = named(
    "drifting", poll=GOOD, totals=replace(FULL, drift={"RUNNING": 3, "FINISHED": -1}, drift_lasts=True)
)
UNREADABLE = named(
    "odd",
    poll=GOOD,
    totals=replace(
        FULL,
        rows_unreadable=23,
        set_apart=(
            SetApart("9007199254740993", 2**53 + 1, "RUNNING", NOW_MS - HOUR_MS, f"job_type: {HOSTILE}"),
            *(SetApart(f"# {n}", None, "", None, "id: null, expected a number") for n in range(19)),
        ),
    ),
)
FOUND_OUT = named(
    "peculiar",
    poll=GOOD,
    totals=replace(FULL, filters={"statuses": False, "totals": False}, unlisted_jobs=3, page_size=100),
)
SYNCING = TargetSnapshot(replace(TARGET, project="large"), None, PollStatus())
READING: Mapping[TargetKey, Progress] = {SYNCING.target.key: Progress(62_400, 180_000)}

EVERY = (OK, FAILING, STALE, LATE, WAITING, RESTORED, DRIFTING, SYNCING)


def failed_runs(snapshots: Iterable[TargetSnapshot]) -> dict[TargetKey, tuple[Run, ...]]:
    """Return the failed runs: only targets whose jobs are `JOBS` have some."""
    return {
        shown.target.key: FAILED_RUNS for shown in snapshots if shown.totals and shown.totals.jobs == JOBS
    }


def status_of(*snapshots: TargetSnapshot, about: ProcessInfo = ABOUT) -> Status:
    """Return the status of these targets at NOW_MS."""
    missing = [f"{shown.target.project}: not polled yet" for shown in snapshots if shown.totals is None]
    return status(
        snapshots,
        about,
        version="1.2.3",
        now_ms=NOW_MS,
        missing=missing,
        progress=READING,
        recent_failures=failed_runs(snapshots),
    )


def single(snapshot: TargetSnapshot = SNAPSHOT) -> Status:
    return status_of(snapshot)
