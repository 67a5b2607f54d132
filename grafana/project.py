"""One project and job type: the life of its jobs, from arrival to end."""

from __future__ import annotations

from exporter.exposition import families as f
from grafana.levels import FAILURE_RATIO, WAITING
from grafana.panels import HOURLY_INTERVAL, Bars, Board, Heatmap, Lines, Panel, Query, Row, Stat
from grafana.promql import (
    FAILED,
    HOUR,
    IN_FLIGHT,
    NOT_STOPPED,
    age,
    buckets_per_step,
    increase,
    level,
    oldest,
    per_step,
    quantile,
    ratio,
    selector,
    total,
)

__all__ = ["PROJECT"]

QUANTILES = (0.5, 0.95, 0.99)
FINISHED = 'status="FINISHED"'


def _now() -> tuple[Panel, ...]:
    ended = total(increase(f.JOBS_COMPLETED, HOUR))
    failed = total(increase(f.JOBS_COMPLETED, HOUR, FAILED))
    whole = total(increase(f.JOBS_COMPLETED, HOUR, NOT_STOPPED))
    return (
        Stat(key="in_flight", queries=(Query(total(level(f.JOBS, IN_FLIGHT))),), unit="short", base="blue"),
        Stat(
            key="oldest_queued",
            queries=(Query(age(f.JOBS_OLDEST_CREATED, matchers=('status="QUEUING"',))),),
            unit="s",
            steps=WAITING,
            decimals=0,
        ),
        Stat(
            key="oldest_running",
            queries=(Query(age(f.JOBS_OLDEST_STARTED, matchers=('status="RUNNING"',))),),
            unit="s",
            base="blue",
            decimals=0,
        ),
        Stat(key="ended", queries=(Query(ended),), unit="short", base="blue", decimals=0),
        Stat(
            key="failure_ratio",
            queries=(Query(ratio(failed, whole)),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            decimals=1,
        ),
        Stat(
            key="running_p95",
            queries=(Query(quantile(0.95, f.JOB_RUNNING_DURATION, HOUR)),),
            unit="s",
            base="blue",
            decimals=0,
        ),
    )


def _life() -> tuple[Panel, ...]:
    arrived, ended = total(increase(f.JOBS_CREATED, HOUR)), total(increase(f.JOBS_COMPLETED, HOUR))
    return (
        Lines(
            key="by_status",
            queries=(Query(total(level(f.JOBS, IN_FLIGHT), "status"), "{{status}}"),),
            unit="short",
            style="areas",
            width=12,
        ),
        Lines(
            key="flow",
            interval=HOURLY_INTERVAL,
            queries=(Query(arrived, word="arrived"), Query(ended, word="ended")),
            unit="short",
            decimals=0,
            width=12,
        ),
        Lines(
            key="ends",
            queries=(Query(f"{total(per_step(f.JOBS_COMPLETED), 'status')} > 0", "{{status}}"),),
            unit="short",
            style="bars",
            width=12,
        ),
        Lines(
            key="balance",
            interval=HOURLY_INTERVAL,
            queries=(
                Query(
                    f"{total(increase(f.JOBS_CREATED, HOUR), 'job_type')}"
                    f" - {total(increase(f.JOBS_COMPLETED, HOUR), 'job_type')}",
                    "{{job_type}}",
                ),
            ),
            unit="short",
            decimals=0,
            width=12,
        ),
    )


def _durations(kind: str, family: f.Family) -> tuple[Panel, ...]:
    return (
        Heatmap(key=f"{kind}_heatmap", queries=(Query(buckets_per_step(family)),), unit="s", width=12),
        Lines(
            key=f"{kind}_quantiles",
            interval=HOURLY_INTERVAL,
            queries=tuple(
                Query(quantile(share, family, HOUR), f"p{share * 100:g}", exemplars=share == QUANTILES[-1])
                for share in QUANTILES
            ),
            unit="s",
            width=12,
        ),
    )


def _queueing() -> tuple[Panel, ...]:
    return _durations("queueing", f.JOB_SUBMITTING_DURATION)


def _running() -> tuple[Panel, ...]:
    p95 = quantile(0.95, f.JOB_RUNNING_DURATION, "$__range", by=("job_type",))
    return (
        *_durations("running", f.JOB_RUNNING_DURATION),
        Bars(key="slowest_types", queries=(Query(f"{p95} > 0", "{{job_type}}"),), unit="s", base="blue"),
        Bars(key="time_in_status", queries=(Query(_time_in_status(), "{{status}}"),), unit="s", base="blue"),
        Bars(
            key="oldest_by_status",
            queries=(Query(oldest("status"), "{{status}}"),),
            unit="s",
            steps=WAITING,
        ),
    )


def _time_in_status() -> str:
    """
    Estimate how long a job stays in each status, by Little's law: jobs there on average by jobs that leave.

    What leaves is taken to be what ends: over hours the two are the same.
    """
    there = f"avg_over_time({selector(f.JOBS, IN_FLIGHT)}[$__range])"
    jobs = f"sum by (status) (max by ({', '.join(f.JOBS.labels)}) ({there}))"
    rate = f"{total(increase(f.JOBS_COMPLETED, '$__range'))} / $__range_s"
    return f"{jobs} / scalar({rate} > 0)"


def _failures() -> tuple[Panel, ...]:
    by_code = total(per_step(f.JOB_FAILURES), "status", "msg_code")
    failed = total(increase(f.JOBS_COMPLETED, HOUR, FAILED), "status")
    whole = total(increase(f.JOBS_COMPLETED, HOUR, NOT_STOPPED))
    return (
        Lines(
            key="by_code",
            queries=(Query(f"{by_code} > 0", "{{status}} {{msg_code}}", exemplars=True),),
            unit="short",
            style="bars",
            width=12,
        ),
        Lines(
            key="ratio_by_status",
            interval=HOURLY_INTERVAL,
            queries=(Query(f"{failed} / scalar({whole} > 0)", "{{status}}"),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            limits=True,
            width=12,
        ),
    )


PROJECT = Board(
    "project",
    "now-12h",
    (
        Row("now", _now()),
        Row("life", _life()),
        Row("failures", _failures()),
        Row("queueing", _queueing()),
        Row("running", _running()),
    ),
    logs=True,
)
