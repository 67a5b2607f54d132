"""The dashboard "Exporter health": whether the values can be trusted, and the state of each exporter."""

from __future__ import annotations

from exporter.exposition import families as f
from exporter.exposition.families import Family
from grafana.panels import (
    ANY,
    AUDIT_AGE,
    CLOCK_SKEW,
    DATA_AGE,
    EXPIRY,
    FAILED_POLLS,
    LOOP_LAG,
    Board,
    Heatmap,
    Panel,
    Query,
    Row,
    Stat,
    StateTimeline,
    Table,
    TimeSeries,
)
from grafana.promql import age, buckets_per_step, level, once, ratio, scraped, selector

__all__ = ["EXPORTER"]

TARGET = ("instance", "project", "workspace")
BY_TARGET = "{{project}} / {{workspace}} ({{instance}})"
BY_INSTANCE = "{{instance}}"


def _by(labels: tuple[str, ...], expression: str, function: str = "sum") -> str:
    return f"{function} by ({', '.join(labels)}) ({expression})"


def _rate(family: Family, *matchers: str) -> str:
    return f"rate({selector(family, *matchers)}[$__rate_interval])"


def _per_step(family: Family, labels: tuple[str, ...], *matchers: str) -> str:
    """
    Count the events of each step of a graph. Steps without events have no value.

    Without `instance` among the labels, what every replica exports of a target counts once.
    """
    rate = _rate(family, *matchers)
    if "workspace" in family.labels and "instance" not in labels:
        rate = once(family, rate)
    return f"{_by(labels, rate)} * $__interval_ms / 1000 > 0"


def _past_hour(family: Family, *matchers: str) -> str:
    increased = f"increase({selector(family, *matchers)}[1h])"
    return f"sum({once(family, increased) if 'workspace' in family.labels else increased})"


def _quantile(share: float, family: Family, label: str) -> str:
    rate = f"rate({selector(family, suffix='_bucket')}[$__rate_interval])"
    return f"histogram_quantile({share:g}, sum by (le, {label}) ({rate}))"


def _now() -> tuple[Panel, ...]:
    failed = ratio(_past_hour(f.POLL_FAILURES), _past_hour(f.POLLS))
    drift = f"sum(abs({level(f.LEDGER_DRIFT)}))"
    expiry = f"min({selector(f.CREDENTIALS_EXPIRY)}) - time()"
    throttled = _past_hour(f.API_RETRIES, 'reason="throttled"')
    return (
        Stat(
            key="up",
            queries=(Query(f"sum({scraped('up')})"),),
            unit="short",
            base="red",
            steps=((1, "green"),),
        ),
        Stat(
            key="targets_failing",
            queries=(Query(f"sum({level(f.UP)} == bool 0)"),),
            unit="short",
            steps=ANY,
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
            key="failed_polls",
            queries=(Query(failed),),
            unit="percentunit",
            steps=FAILED_POLLS,
            decimals=1,
            trend=False,
        ),
        Stat(
            key="throttled",
            queries=(Query(throttled),),
            unit="short",
            steps=((1, "yellow"), (60, "red")),
            decimals=0,
        ),
        Stat(key="drift", queries=(Query(drift),), unit="short", steps=((1, "yellow"),)),
        Stat(
            key="expiry",
            queries=(Query(expiry),),
            unit="s",
            base="red",
            steps=EXPIRY,
            decimals=0,
            trend=False,
        ),
        Stat(
            key="reload",
            queries=(Query(f"sum({selector(f.CONFIG_RELOAD_OK)} == bool 0)"),),
            unit="short",
            steps=ANY,
        ),
    )


def _polls() -> tuple[Panel, ...]:
    since = f"time() - {_by(TARGET, selector(f.POLL_LAST_SUCCESS), 'max')}"
    return (
        TimeSeries(
            key="freshness",
            queries=(Query(since, BY_TARGET),),
            unit="s",
            steps=DATA_AGE,
            limits=True,
            width=8,
        ),
        StateTimeline(
            key="target_up",
            queries=(Query(_by(TARGET, f"1 - {selector(f.UP)}", "max"), BY_TARGET),),
            unit="short",
            steps=ANY,
            states=("well", "failing"),
        ),
        TimeSeries(
            key="poll_failures",
            queries=(Query(_per_step(f.POLL_FAILURES, ("reason",)), "{{reason}}"),),
            unit="short",
            style="bars",
            palette="failures",
        ),
        TimeSeries(
            key="poll_duration",
            queries=(Query(_by(TARGET, selector(f.POLL_DURATION), "max"), BY_TARGET),),
            unit="s",
        ),
        TimeSeries(
            key="poll_requests",
            queries=(Query(_by(TARGET, selector(f.POLL_REQUESTS), "max"), BY_TARGET),),
            unit="short",
        ),
        TimeSeries(
            key="skipped",
            queries=(Query(_per_step(f.POLLS_SKIPPED, TARGET), BY_TARGET),),
            unit="short",
            style="bars",
            palette="warnings",
        ),
    )


def _requests() -> tuple[Panel, ...]:
    return (
        TimeSeries(
            key="requests",
            queries=(Query(f"{_by(('code',), _rate(f.API_REQUESTS))} > 0", "{{code}}"),),
            unit="reqps",
            style="areas",
        ),
        Heatmap(key="request_duration", queries=(Query(buckets_per_step(f.API_REQUEST_DURATION)),), unit="s"),
        TimeSeries(
            key="request_quantiles",
            queries=tuple(
                Query(
                    _quantile(share, f.API_REQUEST_DURATION, "project"), f"{{{{project}}}} p{share * 100:g}"
                )
                for share in (0.5, 0.99)
            ),
            unit="s",
        ),
        TimeSeries(
            key="retries",
            queries=(Query(_per_step(f.API_RETRIES, ("reason",)), "{{reason}}"),),
            unit="short",
            style="bars",
            palette="warnings",
        ),
        TimeSeries(
            key="clock_skew",
            steps=CLOCK_SKEW,
            limits=True,
            queries=(
                Query(
                    _by(("instance", "project"), selector(f.API_CLOCK_SKEW), "max"),
                    "{{project}} ({{instance}})",
                ),
            ),
            unit="s",
        ),
        StateTimeline(
            key="filters",
            queries=(
                Query(
                    _by(("project", "workspace", "filter"), f"1 - {selector(f.API_FILTER_WORKS)}", "max"),
                    "{{project}} / {{workspace}} {{filter}}",
                ),
            ),
            unit="short",
            steps=((1, "yellow"),),
            states=("honoured", "given_up"),
        ),
    )


def _ledger() -> tuple[Panel, ...]:
    return (
        TimeSeries(
            key="drift_by_status",
            queries=(Query(f"{level(f.LEDGER_DRIFT)} != 0", "{{project}} / {{workspace}} {{status}}"),),
            unit="short",
        ),
        TimeSeries(
            key="rows_unreadable",
            queries=(Query(_by(TARGET, selector(f.ROWS_UNREADABLE), "max"), BY_TARGET),),
            unit="short",
            steps=((1, "yellow"),),
            limits=True,
        ),
        TimeSeries(
            key="audit_age",
            queries=(Query(f"time() - {_by(TARGET, selector(f.AUDIT_LAST), 'max')}", BY_TARGET),),
            unit="s",
            steps=AUDIT_AGE,
            limits=True,
        ),
        TimeSeries(
            key="full_syncs",
            queries=(Query(_per_step(f.LEDGER_FULL_SYNCS, ("project", "reason")), "{{project}} {{reason}}"),),
            unit="short",
            style="bars",
            width=12,
        ),
        TimeSeries(
            key="credentials",
            queries=(
                Query(
                    f"{_by(('instance', 'credentials'), selector(f.CREDENTIALS_EXPIRY), 'min')} - time()",
                    "{{credentials}} ({{instance}})",
                ),
            ),
            unit="s",
            width=12,
        ),
    )


def _replicas() -> tuple[Panel, ...]:
    held = selector(f.LEASE_HELD)
    return (
        TimeSeries(
            key="targets_held",
            queries=(Query(_by(("instance",), held), BY_INSTANCE),),
            unit="short",
            style="areas",
            decimals=0,
        ),
        TimeSeries(
            key="takeovers",
            # A lease that changes hands goes from 1 to 0 at one replica and from 0 to 1 at another one.
            queries=(
                Query(
                    f"{_by(('instance',), f'changes({held}[$__rate_interval]) * {held}')} > 0", BY_INSTANCE
                ),
            ),
            unit="short",
            style="bars",
            palette="warnings",
            decimals=0,
        ),
        TimeSeries(
            key="leases_lost",
            queries=(Query(_per_step(f.LEASES_LOST, ("instance",)), BY_INSTANCE),),
            unit="short",
            style="bars",
            palette="failures",
        ),
        StateTimeline(
            key="holders",
            queries=(Query(f"{_by(TARGET, held, 'max')} == 1", BY_TARGET),),
            unit="short",
            states=("followed", "held"),
            width=16,
        ),
        StateTimeline(
            key="unheld",
            queries=(Query(f"1 - {level(f.LEASE_HELD)}", "{{project}} / {{workspace}}"),),
            unit="short",
            steps=ANY,
            states=("polled", "nobody"),
        ),
    )


def _process() -> tuple[Panel, ...]:
    cpu = f"rate({scraped('process_cpu_seconds_total')}[$__rate_interval])"
    versions = f"max by (instance, version, python_version) ({selector(f.BUILD_INFO)})"
    return (
        TimeSeries(
            key="loop_lag",
            queries=tuple(
                Query(_quantile(share, f.EVENT_LOOP_LAG, "instance"), f"{{{{instance}}}} p{share * 100:g}")
                for share in (0.5, 0.99)
            ),
            unit="s",
            steps=LOOP_LAG,
            width=8,
        ),
        TimeSeries(
            key="memory",
            queries=(Query(scraped("process_resident_memory_bytes"), BY_INSTANCE),),
            unit="bytes",
            width=8,
        ),
        TimeSeries(key="cpu", queries=(Query(cpu, BY_INSTANCE),), unit="percentunit", width=8),
        TimeSeries(
            key="files", queries=(Query(scraped("process_open_fds"), BY_INSTANCE),), unit="short", width=12
        ),
        TimeSeries(
            key="log_lines",
            queries=(Query(_per_step(f.LOG_LINES_DROPPED, ("instance",)), BY_INSTANCE),),
            unit="short",
            style="bars",
            palette="warnings",
            width=12,
        ),
        TimeSeries(
            key="events_pending",
            queries=(Query(scraped(f.EVENTS_PENDING.name), BY_INSTANCE),),
            unit="short",
            decimals=0,
            width=12,
        ),
        TimeSeries(
            key="events_dropped",
            queries=(Query(_per_step(f.EVENTS_DROPPED, ("instance",)), BY_INSTANCE),),
            unit="short",
            style="bars",
            width=12,
        ),
        Table(
            key="instances",
            by=("instance", "version", "python_version"),
            queries=(
                Query(
                    f"(time() - {_by(('instance',), scraped('process_start_time_seconds'), 'max')})"
                    f" * on (instance) group_right () {versions}",
                    word="uptime",
                    unit="s",
                ),
                Query(
                    f"(time() - {_by(('instance',), selector(f.CONFIG_RELOAD_TIME), 'max')})"
                    f" * on (instance) group_right () {versions}",
                    word="configured",
                    unit="s",
                ),
            ),
            unit="s",
            sort="uptime",
            height=5,
            width=12,
        ),
        Table(
            key="projects",
            by=("project", "project_id", "region", "endpoint"),
            queries=(
                Query(
                    f"count by (project, project_id, region, endpoint) ({selector(f.PROJECT_INFO)})",
                    word="instances",
                    unit="short",
                ),
            ),
            links=(("project", "/d/octopus-project{suffix}?var-project=${__value.raw:percentencode}"),),
            unit="short",
            sort="instances",
            height=5,
            width=12,
        ),
    )


EXPORTER = Board(
    "exporter",
    "now-6h",
    (
        Row("now", _now()),
        Row("polls", _polls()),
        Row("requests", _requests()),
        Row("ledger", _ledger()),
        Row("replicas", _replicas()),
        Row("process", _process()),
    ),
)
