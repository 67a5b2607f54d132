"""The dashboard "Project and job type": jobs from their arrival to their end."""

from __future__ import annotations

from exporter.exposition import families as f
from grafana.panels import (
    CLEARING,
    FAILURE_RATIO,
    FAILURES,
    HOURLY_INTERVAL,
    IN_FLIGHT_AGE,
    WAITING,
    BarGauge,
    Board,
    Heatmap,
    Panel,
    Query,
    Row,
    Stat,
    Steps,
    TimeSeries,
)
from grafana.promql import (
    BEFORE_START,
    HOUR,
    IN_FLIGHT,
    NOT_STOPPED,
    SCOPE,
    buckets_per_step,
    by_variable,
    greatest,
    in_stage,
    increase,
    level,
    longest_run,
    longest_wait,
    oldest,
    once,
    per_step,
    quantile,
    ratio,
    selector,
    total,
    with_code,
)
from grafana.resources import project_row

__all__ = ["PROJECT"]

QUANTILES = (0.5, 0.95, 0.99)
# A selection of the ages in the metric: a graph of all of them would be hard to read.
AGES = 'age=~"1h|6h|1d|2d|7d"'
# Only failures with one of the chosen error codes are counted.
CODES = by_variable("msg_code")


def _now() -> tuple[Panel, ...]:
    ended = total(increase(f.JOBS_COMPLETED, HOUR))
    # A code that never occurred has no series: show 0 then.
    failed = f"({total(increase(f.JOB_FAILURES, HOUR, CODES))} or 0 * {ended})"
    whole = total(increase(f.JOBS_COMPLETED, HOUR, NOT_STOPPED))
    return (
        Stat(key="failed", queries=(Query(failed),), unit="short", steps=FAILURES, decimals=0, failures=()),
        Stat(
            key="failure_ratio",
            queries=(Query(ratio(failed, whole)),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            decimals=1,
            trend=False,
            failures=(),
        ),
        Stat(key="ended", queries=(Query(ended),), unit="short", base="blue", decimals=0),
        Stat(key="in_flight", queries=(Query(total(level(f.JOBS, IN_FLIGHT))),), unit="short", base="blue"),
        _age("longest_wait", longest_wait(), WAITING),
        _age("longest_run", longest_run(), IN_FLIGHT_AGE),
        _age("oldest_job", oldest(), IN_FLIGHT_AGE),
        Stat(
            key="running_p95",
            queries=(Query(quantile(0.95, f.JOB_RUNNING_DURATION, HOUR)),),
            unit="s",
            base="blue",
            decimals=0,
            trend=False,
        ),
    )


def _age(key: str, expression: str, steps: Steps, width: int = 3, height: int = 4) -> Panel:
    return Stat(
        key=key,
        queries=(Query(expression),),
        unit="s",
        steps=steps,
        decimals=0,
        trend=False,
        width=width,
        height=height,
    )


def _flow() -> tuple[Panel, ...]:
    arrived, ended = total(increase(f.JOBS_CREATED, HOUR)), total(increase(f.JOBS_COMPLETED, HOUR))
    return (
        TimeSeries(
            key="by_status",
            queries=(Query(total(level(f.JOBS, IN_FLIGHT), "status"), "{{status}}"),),
            unit="short",
            style="areas",
            width=12,
        ),
        TimeSeries(
            key="flow",
            interval=HOURLY_INTERVAL,
            queries=(Query(arrived, word="arrived"), Query(ended, word="ended")),
            unit="short",
            decimals=0,
            width=12,
        ),
        TimeSeries(
            key="ends",
            queries=(Query(f"{total(per_step(f.JOBS_COMPLETED), 'status')} > 0", "{{status}}"),),
            unit="short",
            style="bars",
            width=12,
        ),
        TimeSeries(
            key="balance",
            interval=HOURLY_INTERVAL,
            queries=(Query(_growth(), word="all", strong=True), Query(_growth_by_type(), "{{job_type}}")),
            unit="suffix: /h",
            decimals=0,
            width=12,
            centered=True,
            base="transparent",
            steps=((0, "gray"),),
        ),
        *_clearing(),
    )


def _clearing() -> tuple[Panel, ...]:
    by_type = greatest(5, _clear_alone("job_type"), "job_type")
    return (
        _age("clear_at_trend", _clear_at_trend(), CLEARING, width=4, height=8),
        _age("clear_alone", f"{_clear_alone()} or {_waiting()} == 0", CLEARING, width=4, height=8),
        TimeSeries(
            key="clears",
            interval=HOURLY_INTERVAL,
            queries=(Query(_clear_at_trend(), word="trend"), Query(_clear_alone(), word="alone")),
            unit="s",
        ),
        TimeSeries(
            key="clears_by_type",
            interval=HOURLY_INTERVAL,
            queries=(Query(by_type, "{{job_type}}"),),
            unit="s",
        ),
    )


def _waiting(*labels: str, offset: str = "") -> str:
    return total(once(f.JOBS, f"{selector(f.JOBS, BEFORE_START)}{offset}"), *labels)


def _clear_at_trend() -> str:
    """
    Return the time until no job waits if their number goes on to fall as in the past hour.

    It is 0 where none waits. There is no result where the number did not fall, or fell by less than two
    standard deviations of the arrivals (the square root of their number): a short queue rises and falls all
    the time.
    """
    waiting, before = _waiting(), _waiting(offset=f" offset {HOUR}")
    arrived = total(increase(f.JOBS_CREATED, HOUR))
    return f"3600 * {waiting} / ({before} - {waiting} > 2 * sqrt({arrived})) or {waiting} == 0"


def _clear_alone(*labels: str) -> str:
    """Return the time until no job waits if runs start as in the past hour and no more jobs arrive."""
    family = f.JOB_SUBMITTING_DURATION
    started = total(once(family, f"increase({selector(family, suffix='_count')}[{HOUR}])"), *labels)
    return f"3600 * {_waiting(*labels)} / ({started} > 0)"


def _growth(*labels: str) -> str:
    """Return by how many jobs the backlog has grown in the past hour."""
    arrived, ended = (total(increase(family, HOUR), *labels) for family in (f.JOBS_CREATED, f.JOBS_COMPLETED))
    return f"{arrived} - {ended}"


def _growth_by_type() -> str:
    """Return the growth of the three job types whose backlog changed most."""
    grown = _growth("job_type")
    most = f"topk(3, max_over_time(abs({grown})[$__range:$__interval] @ end()))"
    return f"({grown}) and on (job_type) {most}"


def _durations(kind: str, family: f.Family) -> tuple[Panel, ...]:
    return (
        Heatmap(key=f"{kind}_heatmap", queries=(Query(buckets_per_step(family)),), unit="s", width=12),
        TimeSeries(
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
        BarGauge(key="slowest_types", queries=(Query(f"{p95} > 0", "{{job_type}}"),), unit="s", base="blue"),
        BarGauge(
            key="time_in_status", queries=(Query(_time_in_status(), "{{status}}"),), unit="s", base="blue"
        ),
        BarGauge(
            key="longest_by_status",
            queries=(Query(in_stage("status"), "{{status}}"),),
            unit="s",
            steps=WAITING,
        ),
        TimeSeries(
            key="jobs_by_age",
            queries=(Query(total(level(f.JOBS_OLDER_THAN, AGES), "age"), "> {{age}}"),),
            unit="short",
            decimals=0,
            width=24,
        ),
    )


def _time_in_status() -> str:
    """
    Estimate how long a job stays in each status, by Little's law: mean number of jobs / rate of departures.

    The rate of departures from a status is not known. The rate of ended jobs stands for it: over hours, the
    two are the same.
    """
    there = f"avg_over_time({selector(f.JOBS, IN_FLIGHT)}[$__range])"
    jobs = f"sum by (status) (max by ({', '.join(f.JOBS.labels)}) ({there}))"
    rate = f"{total(increase(f.JOBS_COMPLETED, '$__range'))} / $__range_s"
    return f"{jobs} / scalar({rate} > 0)"


def _failures() -> tuple[Panel, ...]:
    by_code = total(per_step(f.JOB_FAILURES, CODES), "status", "msg_code")
    failed = total(increase(f.JOB_FAILURES, HOUR, CODES), "status")
    whole = total(increase(f.JOBS_COMPLETED, HOUR, NOT_STOPPED))
    return (
        TimeSeries(
            key="by_code",
            queries=(Query(with_code(f"{by_code} > 0"), "{{status}} {{code}}", exemplars=True),),
            unit="short",
            style="bars",
            width=15,
            height=9,
            figures=True,
            failures=("status", "msg_code"),
        ),
        TimeSeries(
            key="ratio_by_status",
            interval=HOURLY_INTERVAL,
            queries=(Query(f"{failed} / scalar({whole} > 0)", "{{status}}"),),
            unit="percentunit",
            steps=FAILURE_RATIO,
            limits=True,
            width=9,
            height=9,
            failures=("status",),
        ),
    )


PROJECT = Board(
    "project",
    "now-12h",
    (
        Row("now", _now()),
        Row("failures", _failures()),
        Row("life", _flow()),
        Row("queueing", _queueing()),
        Row("running", _running()),
        Row("resources", project_row()),
    ),
    filters=(*SCOPE, "msg_code", "resource_spec"),
    prices=True,
    logs=True,
)
