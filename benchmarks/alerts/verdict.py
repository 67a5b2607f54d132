"""
Alerts compared with the injected spikes.

A page is about a spike if it begins between the spike's first failure and an hour after its last one (twelve
hours for a type with three runs a day), and has the labels of one of its series, or of its project without a
job type. It counts only for the latest such spike: a page that began in an earlier spike is no information
about a later one. A page about no spike is false.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.alerts.promtool import Firing
from benchmarks.alerts.spikes import Spike

_LATE_MINUTES = 60
_SLOW_LATE_MINUTES = 12 * 60


@dataclass(frozen=True, slots=True)
class Alert:
    """One period in which one label set fired, with its first and last minute."""

    name: str
    severity: str
    labels: dict[str, str]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    The evaluation of a set of alerts in a life.

    Shape: `about` gives the alerts about each spike, in the order of the spikes; `false` those about none.
    """

    about: tuple[tuple[Alert, ...], ...]
    false: tuple[Alert, ...]


def stretches(firings: Iterable[Firing]) -> list[Alert]:
    """Join consecutive minutes in which the same alert fired."""
    by_alert: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}
    for firing in firings:
        by_alert.setdefault((firing.alert, firing.labels), []).append(firing.minute)
    found: list[Alert] = []
    for (name, pairs), minutes in by_alert.items():
        labels = dict(pairs)
        for begin, end in _unbroken(sorted(minutes)):
            found.append(Alert(name, labels.get("severity", ""), labels, begin, end))
    return found


def _unbroken(minutes: Sequence[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for minute in minutes:
        if spans and minute - spans[-1][1] <= 1:
            spans[-1] = (spans[-1][0], minute)
        else:
            spans.append((minute, minute))
    return spans


def judge(alerts: Iterable[Alert], spikes: Sequence[Spike]) -> Verdict:
    about: list[list[Alert]] = [[] for _ in spikes]
    false = []
    for alert in sorted(alerts, key=lambda alert: alert.begin):
        matching = [number for number, spike in enumerate(spikes) if is_about(alert, spike)]
        if matching:
            about[max(matching, key=lambda number: spikes[number].begin)].append(alert)
        else:
            false.append(alert)
    return Verdict(tuple(map(tuple, about)), tuple(false))


def is_about(alert: Alert, spike: Spike) -> bool:
    """Tell whether an alert can be about a spike. A missing job_type or status matches all."""
    late = _SLOW_LATE_MINUTES if spike.is_slow else _LATE_MINUTES
    if not spike.begin <= alert.begin <= spike.end + late:
        return False
    job_type, status = alert.labels.get("job_type"), alert.labels.get("status")
    return any(job_type in (None, kind) and status in (None, name) for kind, name in spike.series)


def without_pages(warnings: Iterable[Alert], pages: Sequence[Alert]) -> list[Alert]:
    """Return the warnings without a page of the same labels at the same time."""
    return [warning for warning in warnings if not any(_is_beside(page, warning) for page in pages)]


def _is_beside(page: Alert, warning: Alert) -> bool:
    return (
        page.labels | {"severity": ""} == warning.labels | {"severity": ""}
        and page.begin <= warning.end
        and warning.begin <= page.end
    )


def delays(spikes: Sequence[Spike], verdict: Verdict) -> list[float | None]:
    """Return the minutes from each spike's first failure to the first alert about it, None without one."""
    pairs = zip(spikes, verdict.about, strict=True)
    return [min((alert.begin - spike.begin for alert in about), default=None) for spike, about in pairs]


def spelled(delays: Iterable[float | None]) -> str:
    """Write the median and the 95th percentile, in minutes."""
    known = sorted(delay for delay in delays if delay is not None)
    if len(known) < 2:
        return f"{known[0]:.0f} / -" if known else "-"
    return f"{median(known):.0f} / {quantiles(known, n=20, method='inclusive')[-1]:.0f}"
