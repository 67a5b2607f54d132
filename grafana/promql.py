"""
PromQL from the family table: a metric or label that is not in the table cannot be asked for.

Two exporters of one target, as a pair for availability, export the same numbers twice. `once` takes one of
them: the greater one, series by series, before anything is added up.
"""

from __future__ import annotations

from exporter.exposition.families import (
    API_CLOCK_SKEW,
    JOBS_OLDEST_CREATED,
    JOBS_OLDEST_STARTED,
    Family,
)
from exporter.model import TERMINAL_STATUSES

# The dashboard's variables that choose series; each is a label of the same name.
SCRAPED = ("job", "instance")
SCOPE = ("project", "workspace", "job_type")

IN_FLIGHT = f'status!~"{"|".join(TERMINAL_STATUSES)}"'
WAITING = "QUEUING|LAUNCHING"
FAILED = 'status=~".*_FAILED"'
# What a failure ratio is of: a run that somebody stopped has neither failed nor gone well.
NOT_STOPPED = 'status!="STOPPED"'

# Alerts that fire: of what is chosen, and those that are about no project or no job type. Severity none is
# that of the dead man's switch, which always fires.
ALERTS = ", ".join(
    (
        *('alertname=~"Octopus.*"', 'alertstate="firing"', 'severity!="none"'),
        *('project=~"|$project"', 'job_type=~"|$job_type"'),
    )
)
# The critical and the warning form of an alert are one incident, and the critical one stands for it.
INCIDENTS = f'ALERTS{{{ALERTS}, severity="critical"}} or ignoring (severity) ALERTS{{{ALERTS}}}'

# What the last hour is asked for by; at 30 s that is 120 polls.
HOUR = "1h"


def selector(family: Family, *matchers: str, suffix: str = "") -> str:
    """Select what the variables choose of a family, and of that what the matchers say."""
    chosen = [label for label in (*SCRAPED, *SCOPE) if label in SCRAPED or label in family.labels]
    return f"{family.name}{suffix}{{{', '.join([*map(by_variable, chosen), *matchers])}}}"


def scraped(metric: str) -> str:
    """Select a metric of Prometheus or of the client library, which knows no project."""
    return f"{metric}{{{', '.join(map(by_variable, SCRAPED))}}}"


def once(family: Family, expression: str, *besides: str) -> str:
    """Take each series of the family once, whichever exporters it comes from; `besides` as "le"."""
    return f"max by ({', '.join([*family.labels, *besides])}) ({expression})"


def level(family: Family, *matchers: str) -> str:
    """Give a gauge as it is now, each series once."""
    return once(family, selector(family, *matchers))


def increase(family: Family, window: str, *matchers: str, offset: str = "") -> str:
    """Give by how much a counter has risen over a window, each series once."""
    since = f" offset {offset}" if offset else ""
    return once(family, f"increase({selector(family, *matchers)}[{window}]{since})")


def per_step(family: Family, *matchers: str) -> str:
    """
    Give by how much a counter has risen over each step of a graph, each series once.

    The window is one scrape longer than the step, so that nothing that is counted between two windows is
    lost, and the rate is taken back to the step.
    """
    rate = f"rate({selector(family, *matchers)}[$__rate_interval])"
    return f"{once(family, rate)} * $__interval_ms / 1000"


def buckets(family: Family, window: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Give by how much a histogram's buckets have risen, added up over all series, or by these labels."""
    risen = once(family, f"increase({selector(family, *matchers, suffix='_bucket')}[{window}])", "le")
    return f"sum by ({', '.join(['le', *by])}) ({risen})"


def buckets_per_step(family: Family, *matchers: str) -> str:
    """Give a heatmap's cells: observations in each bucket during each step."""
    rate = f"rate({selector(family, *matchers, suffix='_bucket')}[$__rate_interval])"
    return f"sum by (le) ({once(family, rate, 'le')}) * $__interval_ms / 1000"


def quantile(share: float, family: Family, window: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Estimate the value that this share of the observations stays under."""
    return f"histogram_quantile({share:g}, {buckets(family, window, *matchers, by=by)})"


def total(expression: str, *labels: str) -> str:
    """Add up, by these labels or all in all."""
    return f"sum by ({', '.join(labels)}) ({expression})" if labels else f"sum({expression})"


def age(family: Family, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Give how long ago the earliest of these times was, in seconds."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"time() - min{by} ({level(family, *matchers)})"


def age_of_jobs(times: str, *labels: str) -> str:
    """
    Give how long ago the earliest of these times of jobs was, in seconds, by the clock that stamped them.

    That clock is `octopus_api_clock_skew_seconds` ahead of ours. Where that is not known, ours counts.
    """
    by = f" by ({', '.join(labels)})" if labels else ""
    past = f"(time() - ({times}))"
    return f"max{by} ({past} + on (project) group_left () {level(API_CLOCK_SKEW)} or {past})"


def oldest(*labels: str) -> str:
    """Give how long ago the oldest job in flight was created, whatever its status."""
    return age_of_jobs(level(JOBS_OLDEST_CREATED), *labels)


def longest_wait(*labels: str) -> str:
    """Give for how long the oldest job that has not started has waited since its creation."""
    return age_of_jobs(level(JOBS_OLDEST_CREATED, f'status=~"{WAITING}"'), *labels)


def longest_run(*labels: str) -> str:
    """Give for how long the oldest job that has started and not ended has run since its start."""
    return age_of_jobs(level(JOBS_OLDEST_STARTED, f'status!~"{WAITING}"'), *labels)


def in_stage(*labels: str) -> str:
    """
    Give for how long the oldest job in flight has waited or run, in seconds.

    A job waits from its creation and runs from its start: one that was restarted after days is not days old.
    """
    waiting = level(JOBS_OLDEST_CREATED, f'status=~"{WAITING}"')
    running = level(JOBS_OLDEST_STARTED, f'status!~"{WAITING}"')
    return age_of_jobs(f"{waiting} or {running}", *labels)


def with_code(expression: str) -> str:
    """Add a label `code` to show: the error code, and a dash where the API gave none."""
    copied = f'label_join({expression}, "code", "", "msg_code")'
    return f'label_replace({copied}, "code", "-", "code", "")'


def greatest(count: int, expression: str, *labels: str) -> str:
    """
    Keep the series that reach the greatest values in the shown time.

    A plain topk() chooses anew at each step, and a graph of it has more lines than that.
    """
    reached = f"max_over_time(({expression})[$__range:$__interval] @ end())"
    return f"{expression} and on ({', '.join(labels)}) topk({count}, {reached})"


def the_only(label: str, family: Family) -> str:
    """Give one series with the label's value if the variables leave a single one, else none."""
    values = f"group by ({label}) ({selector(family)})"
    return f"{values} and on () count({values}) == 1"


def ratio(part: str, whole: str, least: float = 0) -> str:
    """Divide; where there is nothing to divide by, or less than `least`, there is nothing to say."""
    enough = f">= {least:g}" if least else "> 0"
    return f"{part} / ({whole} {enough})"


def by_variable(label: str) -> str:
    """Match a label by the dashboard's variable of the same name."""
    return f'{label}=~"${label}"'
