"""
PromQL from the family table, so that no query names a metric or label that does not exist.

Two exporters of one target (a pair for availability) export every value twice. `once` takes the maximum of
the two, series by series; of the oldest times the minimum. It has to come before any sum.
"""

from __future__ import annotations

from exporter.exposition.families import (
    API_CLOCK_SKEW,
    JOBS_OLDEST_CREATED,
    JOBS_OLDEST_STARTED,
    RESOURCE_JOBS,
    Family,
)
from exporter.model import TERMINAL_STATUSES

# The dashboard's variables that choose series; each is a label of the same name.
SCRAPED = ("job", "instance")
SCOPE = ("project", "workspace", "job_type")

IN_FLIGHT = f'status!~"{"|".join(TERMINAL_STATUSES)}"'
WAITING = "QUEUING|LAUNCHING"
BEFORE_START = f'status=~"{WAITING}"'
STARTED = f'status!~"{WAITING}"'
FAILED = 'status=~".*_FAILED"'
# Runs that ended without a result.
LOST = 'status=~".*_FAILED|STOPPED"'
# The denominator of failure ratios: a stopped run has neither failed nor succeeded.
NOT_STOPPED = 'status!="STOPPED"'

# Firing alerts of the chosen projects and job types, and those without such a label. Only the dead man's
# switch has severity "none"; it always fires.
ALERTS = ", ".join(
    (
        *('alertname=~"Octopus.*"', 'alertstate="firing"', 'severity!="none"'),
        *('project=~"|$project"', 'job_type=~"|$job_type"'),
    )
)
# An alert that fires as critical and as warning is one incident. The critical form stands for both.
INCIDENTS = f'ALERTS{{{ALERTS}, severity="critical"}} or ignoring (severity) ALERTS{{{ALERTS}}}'

# The range of rates "of the last hour". With a poll interval of 30 s it holds 120 polls.
HOUR = "1h"


def selector(family: Family, *matchers: str, suffix: str = "") -> str:
    """Select the series of a family that match the dashboard's variables and these matchers."""
    chosen = [label for label in (*SCRAPED, *SCOPE) if label in SCRAPED or label in family.labels]
    return f"{family.name}{suffix}{{{', '.join([*map(by_variable, chosen), *matchers])}}}"


def scraped(metric: str) -> str:
    """Select a metric of Prometheus or the client library, which has no project label."""
    return f"{metric}{{{', '.join(map(by_variable, SCRAPED))}}}"


def once(family: Family, expression: str, *besides: str) -> str:
    """Take each series once, however many exporters export it. `besides` are labels such as "le"."""
    function = "min" if family in (JOBS_OLDEST_CREATED, JOBS_OLDEST_STARTED) else "max"
    return f"{function} by ({', '.join([*family.labels, *besides])}) ({expression})"


def level(family: Family, *matchers: str) -> str:
    """Return a gauge, each series once."""
    return once(family, selector(family, *matchers))


def increase(family: Family, window: str, *matchers: str, offset: str = "") -> str:
    """Return the increase of a counter over a window, each series once."""
    since = f" offset {offset}" if offset else ""
    return once(family, f"increase({selector(family, *matchers)}[{window}]{since})")


def per_step(family: Family, *matchers: str) -> str:
    """
    Return the increase of a counter over each step of a graph, each series once.

    $__rate_interval is one scrape longer than the step, so that no increase between two windows is lost. The
    rate is multiplied by the step to give a number per step.
    """
    rate = f"rate({selector(family, *matchers)}[$__rate_interval])"
    return f"{once(family, rate)} * $__interval_ms / 1000"


def buckets(family: Family, window: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the increase of a histogram's buckets, summed over all series or by these labels."""
    risen = once(family, f"increase({selector(family, *matchers, suffix='_bucket')}[{window}])", "le")
    return f"sum by ({', '.join(['le', *by])}) ({risen})"


def buckets_per_step(family: Family, *matchers: str) -> str:
    """Return the cells of a heatmap: the observations in each bucket during each step."""
    rate = f"rate({selector(family, *matchers, suffix='_bucket')}[$__rate_interval])"
    return f"sum by (le) ({once(family, rate, 'le')}) * $__interval_ms / 1000"


def quantile(share: float, family: Family, window: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return this quantile of a histogram over a window."""
    return f"histogram_quantile({share:g}, {buckets(family, window, *matchers, by=by)})"


def total(expression: str, *labels: str) -> str:
    """Return the sum by these labels, or the sum of all series."""
    return f"sum by ({', '.join(labels)}) ({expression})" if labels else f"sum({expression})"


def age(family: Family, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Return the age of the earliest of these times, in seconds."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"time() - min{by} ({level(family, *matchers)})"


def age_of_jobs(times: str, *labels: str) -> str:
    """
    Return the age of the earliest of these times of jobs, in seconds, by the API's clock, which set them.

    That clock is `octopus_api_clock_skew_seconds` ahead of Prometheus'. Without that metric, the age is by
    Prometheus' clock.
    """
    by = f" by ({', '.join(labels)})" if labels else ""
    past = f"(time() - ({times}))"
    return f"max{by} ({past} + on (project) group_left () {level(API_CLOCK_SKEW)} or {past})"


def oldest(*labels: str) -> str:
    """Return the age of the oldest job in flight, of any status."""
    return age_of_jobs(level(JOBS_OLDEST_CREATED), *labels)


def longest_wait(*labels: str) -> str:
    """Return the longest time since creation of the jobs that have not started."""
    return age_of_jobs(level(JOBS_OLDEST_CREATED, BEFORE_START), *labels)


def longest_run(*labels: str) -> str:
    """Return the longest time since the start of the jobs that run."""
    return age_of_jobs(level(JOBS_OLDEST_STARTED, STARTED), *labels)


def in_stage(*labels: str) -> str:
    """
    Return the longest time that a job in flight has waited or run, in seconds.

    Waiting counts from the creation, running from the start: a job that was restarted after days has not run
    for days.
    """
    waiting = level(JOBS_OLDEST_CREATED, BEFORE_START)
    running = level(JOBS_OLDEST_STARTED, STARTED)
    return age_of_jobs(f"{waiting} or {running}", *labels)


def with_code(expression: str) -> str:
    """Add a label `code` for the legend: the error code, or a dash if the API gave none."""
    copied = f'label_join({expression}, "code", "", "msg_code")'
    return f'label_replace({copied}, "code", "-", "code", "")'


def with_spec(expression: str) -> str:
    """Show a dash as the spec of jobs whose row has none."""
    return f'label_replace({expression}, "resource_spec", "-", "resource_spec", "")'


def asked_for(family: Family, *matchers: str) -> str:
    """
    Return how much of a resource the jobs in flight ask for: jobs times what their spec names.

    Jobs whose spec cannot be read have no series.
    """
    specs = (matcher for matcher in matchers if matcher.startswith("resource_spec"))
    named = level(family, *specs)
    return f"{level(RESOURCE_JOBS, *matchers)} * on ({', '.join(family.labels)}) group_left () {named}"


def greatest(count: int, expression: str, *labels: str) -> str:
    """
    Keep the series with the greatest maximum in the time range.

    A plain topk() chooses again at each step, so that a graph has more than `count` lines.
    """
    reached = f"max_over_time(({expression})[$__range:$__interval] @ end())"
    return f"{expression} and on ({', '.join(labels)}) topk({count}, {reached})"


def single_value(label: str, family: Family) -> str:
    """Return one series with the label's value if the variables leave a single value, else none."""
    values = f"group by ({label}) ({selector(family)})"
    return f"{values} and on () count({values}) == 1"


def ratio(part: str, whole: str, least: float = 0) -> str:
    """Divide. There is no result where `whole` is 0, or less than `least`."""
    enough = f">= {least:g}" if least else "> 0"
    return f"{part} / ({whole} {enough})"


def by_variable(label: str) -> str:
    """Match a label with the dashboard's variable of the same name."""
    return f'{label}=~"${label}"'
