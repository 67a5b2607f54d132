"""The fleet overview: is anything wrong now, in any project?"""

from __future__ import annotations

from exporter.exposition import families as f
from grafana.levels import ANY, DATA_AGE, EXCESS, FAILURE_RATIO, WAITING
from grafana.panels import HOURLY_INTERVAL, Bars, Board, Lines, Panel, Query, Row, Stat, Table, Timeline
from grafana.promql import (
    ALERTS,
    FAILED,
    HOUR,
    IN_FLIGHT,
    NOT_STOPPED,
    age,
    increase,
    level,
    oldest,
    once,
    per_step,
    ratio,
    scraped,
    selector,
    total,
)

__all__ = ["FLEET"]


TYPED = ("project", "job_type")
TARGET_TYPE = ("project", "workspace", "job_type")


def _excess() -> str:
    """
    Hold the failures of the last hour against those of the same hour a week ago.

    Shape: (now - then) / sqrt(then), `then` at least 1; only for types that have failed in the shown time.
    """
    now = total(increase(f.JOBS_COMPLETED, HOUR, FAILED), *TYPED)
    then = total(increase(f.JOBS_COMPLETED, HOUR, FAILED, offset="1w"), *TYPED)
    failed = selector(f.JOBS_COMPLETED, FAILED)
    ever = total(once(f.JOBS_COMPLETED, f"increase({failed}[$__range] @ end())"), *TYPED)
    usual = f"({then} or 0 * {now})"
    return f"({now} - {usual}) / sqrt(clamp_min({usual}, 1)) and {ever} > 0.5"


def _failure_ratio(*labels: str) -> str:
    failed = total(increase(f.JOBS_COMPLETED, HOUR, FAILED), *labels)
    return ratio(failed, total(increase(f.JOBS_COMPLETED, HOUR, NOT_STOPPED), *labels))


def _now() -> tuple[Panel, ...]:
    return (
        Stat(key="alerts", queries=(Query(f"count({ALERTS}) or vector(0)"),), unit="short", steps=ANY),
        Stat(
            key="exporters_down",
            queries=(Query(f"sum({scraped('up')} == bool 0)"),),
            unit="short",
            steps=ANY,
            width=3,
        ),
        Stat(
            key="targets_failing",
            queries=(Query(f"sum({level(f.UP)} == bool 0)"),),
            unit="short",
            steps=ANY,
            width=3,
        ),
        Stat(
            key="data_age",
            queries=(Query(age(f.POLL_LAST_SUCCESS)),),
            unit="s",
            steps=DATA_AGE,
            width=3,
            decimals=0,
        ),
        Stat(
            key="failure_ratio",
            queries=(Query(_failure_ratio()),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            decimals=1,
        ),
        Stat(
            key="in_flight",
            queries=(Query(total(level(f.JOBS, IN_FLIGHT))),),
            unit="short",
            base="blue",
            width=3,
        ),
        Stat(
            key="oldest_queued",
            queries=(Query(age(f.JOBS_OLDEST_CREATED, matchers=('status="QUEUING"',))),),
            unit="s",
            steps=WAITING,
            decimals=0,
        ),
    )


def _failures() -> tuple[Panel, ...]:
    by_type = "{{project}} / {{job_type}}"
    worst = f"topk(10, {_failure_ratio(*TYPED)})"
    failures = total(per_step(f.JOBS_COMPLETED, FAILED), *TYPED)
    return (
        Timeline(
            key="excess",
            interval=HOURLY_INTERVAL,
            queries=(Query(_excess(), by_type),),
            unit="short",
            steps=EXCESS,
            decimals=1,
            width=12,
        ),
        Lines(
            key="failures",
            queries=(Query(f"{failures} > 0", by_type),),
            unit="short",
            style="bars",
            width=12,
        ),
        Lines(
            key="worst_ratio",
            interval=HOURLY_INTERVAL,
            queries=(Query(worst, by_type),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            limits=True,
            width=12,
        ),
        Bars(
            key="codes",
            queries=(Query(_codes(), "{{job_type}} {{status}} {{msg_code}}"),),
            unit="short",
            base="orange",
            decimals=0,
            width=12,
        ),
    )


def _codes() -> str:
    counted = total(increase(f.JOB_FAILURES, "$__range"), "job_type", "status", "msg_code")
    named = f'label_replace({counted}, "msg_code", "-", "msg_code", "")'
    return f"topk(10, {named} > 0.5)"


def _work() -> tuple[Panel, ...]:
    ended = total(increase(f.JOBS_COMPLETED, HOUR))
    week_ago = total(increase(f.JOBS_COMPLETED, HOUR, offset="1w"))
    return (
        Lines(
            key="by_status",
            queries=(Query(total(level(f.JOBS, IN_FLIGHT), "status"), "{{status}}"),),
            unit="short",
            style="areas",
        ),
        Lines(
            key="oldest",
            logarithmic=True,
            queries=(Query(f"topk(10, {oldest('project')})", "{{project}}"),),
            unit="s",
            steps=WAITING,
        ),
        Lines(
            key="throughput",
            interval=HOURLY_INTERVAL,
            queries=(Query(ended, word="now"), Query(week_ago, word="week_ago", dashed=True)),
            unit="short",
            decimals=0,
        ),
    )


# The cell's own row gives the project and workspace; the columns are named as the language has them.
_JOB_TYPE_URL = (
    "/d/octopus-project{suffix}?var-project=${__data.fields[0]}"
    "&var-workspace=${__data.fields[1]}&var-job_type=${__value.raw}"
)


def _everywhere() -> tuple[Panel, ...]:
    failed = total(increase(f.JOBS_COMPLETED, HOUR, FAILED), *TARGET_TYPE)
    queued = total(level(f.JOBS, 'status="QUEUING"'), *TARGET_TYPE)
    return (
        Table(
            key="table",
            by=TARGET_TYPE,
            queries=(
                Query(failed, word="failed", unit="short", steps=((1, "yellow"), (5, "red"))),
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
                Query(oldest(*TARGET_TYPE), word="oldest", unit="s", steps=WAITING),
            ),
            links=(
                ("project", "/d/octopus-project{suffix}?var-project=${__value.raw}"),
                (
                    "job_type",
                    _JOB_TYPE_URL,
                ),
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
        Row("everywhere", _everywhere()),
    ),
)
