"""What fired, against what was injected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.alerts.promtool import Firing
from benchmarks.alerts.troubles import Span, Spike

# An alert may come this much after a spike's end and still be about it.
_LATE_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Alert:
    """One stretch of firing, first and last minute."""

    name: str
    severity: str
    labels: dict[str, str]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Found:
    """Whether a spike was found, and after how many minutes from its begin."""

    spike: Spike
    delay: float | None


def stretches(firings: Iterable[Firing]) -> list[Alert]:
    """Put the minutes together in which the same alert fired without a pause."""
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


def match(alerts: Sequence[Alert], spikes: Sequence[Spike]) -> tuple[list[Found], list[Alert]]:
    """Give what became of each spike, and the alerts that are about none."""
    found = [Found(spike, _delay(alerts, spike)) for spike in spikes]
    false = [alert for alert in alerts if not any(_is_about(alert, spike) for spike in spikes)]
    return found, false


def _is_about(alert: Alert, spike: Spike) -> bool:
    same = alert.labels.get("job_type") == spike.job_type and alert.labels.get("status") == spike.status
    during = Span(spike.span.begin, spike.span.end + _LATE_MINUTES)
    return same and (alert.begin in during or alert.begin < spike.span.begin <= alert.end)


def _delay(alerts: Sequence[Alert], spike: Spike) -> float | None:
    begins = [max(alert.begin - spike.span.begin, 0) for alert in alerts if _is_about(alert, spike)]
    return min(begins, default=None)


def delays(found: Iterable[Found]) -> str:
    """Spell the median and the 95th percentile of the delays, in minutes."""
    known = sorted(one.delay for one in found if one.delay is not None)
    if len(known) < 2:
        return f"{known[0]:.0f} / -" if known else "-"
    return f"{median(known):.0f} / {quantiles(known, n=20, method='inclusive')[-1]:.0f}"
