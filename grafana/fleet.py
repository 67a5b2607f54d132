"""The dashboard "Fleet overview": the state of all projects."""

from __future__ import annotations

from exporter.exposition import families as f
from grafana.panels import (
    ANY,
    DATA_AGE,
    EXCESS,
    FAILURE_RATIO,
    FAILURES,
    HOURLY_INTERVAL,
    IN_FLIGHT_AGE,
    WAITING,
    BarGauge,
    Board,
    Panel,
    Query,
    Row,
    Stat,
    StateTimeline,
    Table,
    TimeSeries,
)
from grafana.promql import (
    FAILED,
    HOUR,
    IN_FLIGHT,
    INCIDENTS,
    NOT_STOPPED,
    age,
    greatest,
    in_stage,
    increase,
    level,
    longest_wait,
    oldest,
    once,
    per_step,
    ratio,
    scraped,
    selector,
    total,
    with_code,
)
from grafana.resources import PRICES_KEPT, PROJECT_URL, fleet_row

__all__ = ["FLEET"]


TYPED = ("project", "job_type")
TARGET_TYPE = ("project", "workspace", "job_type")
# A ratio of fewer runs is no information: one failure of two runs would show as 50 %.
LEAST_RUNS = 5


def _excess() -> str:
    """
    Compare the failures of the last hour with those of the same hour a week ago.

    Result: (now - then) / sqrt(then), with `then` at least 1; only for types with failures in the time range.
    """
    now = total(increase(f.JOBS_COMPLETED, HOUR, FAILED), *TYPED)
    then = total(increase(f.JOBS_COMPLETED, HOUR, FAILED, offset="1w"), *TYPED)
    failed = selector(f.JOBS_COMPLETED, FAILED)
    in_range = total(once(f.JOBS_COMPLETED, f"increase({failed}[$__range] @ end())"), *TYPED)
    baseline = f"({then} or 0 * {now})"
    return f"({now} - {baseline}) / sqrt(clamp_min({baseline}, 1)) and {in_range} > 0.5"


def _failure_ratio(*labels: str, least: int = 0) -> str:
    failed = total(increase(f.JOBS_COMPLETED, HOUR, FAILED), *labels)
    return ratio(failed, total(increase(f.JOBS_COMPLETED, HOUR, NOT_STOPPED), *labels), least)


def _now() -> tuple[Panel, ...]:
    return (
        Stat(
            key="alerts",
            queries=(Query(f"count({INCIDENTS}) or vector(0)"),),
            unit="short",
            steps=ANY,
            trend=False,
        ),
        Stat(
            key="exporters_down",
            queries=(Query(f"sum({scraped('up')} == bool 0)"),),
            unit="short",
            steps=ANY,
            trend=False,
        ),
        Stat(
            key="targets_failing",
            queries=(Query(f"sum({level(f.UP)} == bool 0)"),),
            unit="short",
            steps=ANY,
            trend=False,
        ),
        Stat(
            key="data_age",
            queries=(Query(age(f.POLL_LAST_SUCCESS)),),
            unit="s",
            steps=DATA_AGE,
            decimals=0,
            trend=False,
        ),
        Stat(
            key="failure_ratio",
            queries=(Query(_failure_ratio()),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            decimals=1,
            trend=False,
            failures=(),
        ),
        Stat(
            key="in_flight",
            queries=(Query(total(level(f.JOBS, IN_FLIGHT))),),
            unit="short",
            base="blue",
        ),
        Stat(
            key="longest_wait",
            queries=(Query(longest_wait()),),
            unit="s",
            steps=WAITING,
            decimals=0,
            trend=False,
        ),
        Stat(
            key="oldest_job",
            queries=(Query(oldest()),),
            unit="s",
            steps=IN_FLIGHT_AGE,
            decimals=0,
            trend=False,
        ),
    )


def _failures() -> tuple[Panel, ...]:
    by_type = "{{project}} / {{job_type}}"
    worst = greatest(5, _failure_ratio(*TYPED, least=LEAST_RUNS), *TYPED)
    failures = total(per_step(f.JOBS_COMPLETED, FAILED), "status")
    return (
        StateTimeline(
            key="excess",
            interval=HOURLY_INTERVAL,
            queries=(Query(_excess(), by_type),),
            unit="short",
            steps=EXCESS,
            decimals=1,
            width=12,
            failures=TYPED,
        ),
        TimeSeries(
            key="failures",
            queries=(Query(f"{failures} > 0", "{{status}}"),),
            unit="short",
            style="bars",
            width=12,
            failures=("status",),
        ),
        TimeSeries(
            key="worst_ratio",
            interval=HOURLY_INTERVAL,
            queries=(Query(worst, by_type),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            limits=True,
            width=12,
            failures=TYPED,
        ),
        BarGauge(
            key="codes",
            queries=(Query(_codes(), "{{job_type}} {{status}} {{code}}"),),
            unit="short",
            base="orange",
            decimals=0,
            width=12,
            failures=("job_type", "status", "msg_code"),
        ),
    )


def _codes() -> str:
    counted = total(increase(f.JOB_FAILURES, "$__range"), "job_type", "status", "msg_code")
    return f"topk(10, {with_code(counted)} > 0.5)"


def _work() -> tuple[Panel, ...]:
    ended = total(increase(f.JOBS_COMPLETED, HOUR))
    week_ago = total(increase(f.JOBS_COMPLETED, HOUR, offset="1w"))
    return (
        TimeSeries(
            key="by_status",
            queries=(Query(total(level(f.JOBS, IN_FLIGHT), "status"), "{{status}}"),),
            unit="short",
            style="areas",
        ),
        TimeSeries(
            key="longest_stage",
            logarithmic=True,
            queries=(Query(greatest(5, in_stage("project"), "project"), "{{project}}"),),
            unit="s",
            steps=WAITING,
        ),
        TimeSeries(
            key="throughput",
            interval=HOURLY_INTERVAL,
            queries=(Query(ended, word="now"), Query(week_ago, word="week_ago", dashed=True)),
            unit="short",
            decimals=0,
        ),
    )


# By number: the names of the columns depend on the language. Columns 0 and 1 are project and workspace.
_JOB_TYPE_URL = (
    "/d/octopus-project{suffix}?var-project=${__data.fields[0]:percentencode}"
    f"&var-workspace=${{__data.fields[1]:percentencode}}&var-job_type=${{__value.raw:percentencode}}{PRICES_KEPT}"
)


def _targets() -> tuple[Panel, ...]:
    failed = total(increase(f.JOBS_COMPLETED, HOUR, FAILED), *TARGET_TYPE)
    queued = total(level(f.JOBS, 'status="QUEUING"'), *TARGET_TYPE)
    return (
        Table(
            key="table",
            by=TARGET_TYPE,
            queries=(
                Query(failed, word="failed", unit="short", steps=FAILURES, failures=True),
                Query(_failure_ratio(*TARGET_TYPE), word="ratio", unit="percentunit", steps=FAILURE_RATIO),
                Query(total(increase(f.JOBS_COMPLETED, HOUR), *TARGET_TYPE), word="ended", unit="short"),
                Query(
                    total(increase(f.JOBS_COMPLETED, HOUR, offset="1w"), *TARGET_TYPE),
                    word="week_ago",
                    unit="short",
                ),
                Query(total(increase(f.JOBS_CREATED, HOUR), *TARGET_TYPE), word="arrived", unit="short"),
                Query(total(level(f.JOBS, IN_FLIGHT), *TARGET_TYPE), word="in_flight", unit="short"),
                Query(queued, word="queued", unit="short"),
                Query(in_stage(*TARGET_TYPE), word="longest", unit="s", steps=WAITING),
            ),
            links=(
                ("project", PROJECT_URL),
                ("job_type", _JOB_TYPE_URL),
            ),
            unit="short",
            sort="failed",
            height=11,
        ),
    )


FLEET = Board(
    "fleet",
    "now-6h",
    (
        Row("now", _now()),
        Row("failures", _failures()),
        Row("work", _work()),
        Row("resources", fleet_row()),
        Row("everywhere", _targets()),
    ),
    prices=True,
)
