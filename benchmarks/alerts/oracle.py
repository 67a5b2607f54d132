"""
The oracle: the best possible detector. It knows the true usual share of every type and status at every
minute.

It is a CUSUM over the runs as they are scraped. Each ended run adds the logarithm of a ratio: the probability
of its end in a spike, to its usual probability. The sum never falls below 0; above a threshold it gives an
alarm and starts again. Each series is tested for two kinds of spike: three times the usual odds of failure,
and failures of more than half of the runs. One more sum for each status adds all types, for spikes with few
failures in each of them. It counts by runs and not by time, so a type with three runs a day needs no window.

Its thresholds are set so that on the calm lives of the tuning seeds its false alarms match the aims for false
pages: 2 per 1,000 series-days in even lives, 15 in bursty ones. This prints them for more thresholds:
python -m benchmarks.alerts.oracle
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.life import TUNING_SEEDS, Life, live
from benchmarks.alerts.project import FLAVOURS, MINUTES, WARM_UP, Flavour, Floats
from benchmarks.alerts.runs import FAILED, STOPPED
from benchmarks.alerts.scrapes import Shown, seen_at
from benchmarks.alerts.verdict import Alert
from benchmarks.measure import say
from exporter.model import FAILED_STATUSES

THRESHOLDS: dict[Flavour, float] = {"even": 9.75, "bursty": 16.75}
_THREE = 3.0
_LEAST_SHARE = 0.002
# Alarms of one series within this time are one alarm.
_SAME_MINUTES = 20


def alarms(life: Life, threshold: float | None = None) -> list[Alert]:
    """Return the oracle's alarms as alerts. Those of a project's sum have a status and no job_type."""
    threshold = THRESHOLDS[life.flavour] if threshold is None else threshold
    by_labels: dict[tuple[tuple[str, str], ...], list[int]] = {}
    labels, gains = _gains(life)
    for minutes, names in zip(_crossings(gains, threshold), labels, strict=True):
        by_labels.setdefault(tuple(names.items()), []).extend(minutes)
    found = []
    for names, minutes in by_labels.items():
        before = -MINUTES
        for minute in sorted(minutes):
            if minute - before > _SAME_MINUTES:
                found.append(Alert("Oracle", "critical", dict(names), minute, minute))
            before = minute
    return found


def _gains(life: Life) -> tuple[list[dict[str, str]], Floats]:
    """Return the increments of each sum by minute."""
    shown = Shown(life.pauses)
    runs = life.runs.where((life.runs.outcome != STOPPED) & (life.runs.ended >= 0))
    column = _shown_at(shown, seen_at(runs.ended))
    at_end = runs.ended.astype(np.int64) + WARM_UP
    labels: list[dict[str, str]] = []
    gains: list[Floats] = []
    for number, status in enumerate(FAILED_STATUSES):
        project = np.zeros(MINUTES + 1)
        for kind_number, kind in enumerate(life.kinds):
            is_kind = runs.kind == kind_number
            usual = np.maximum(kind.shares[number, at_end[is_kind]], _LEAST_SHARE)
            failed = runs.outcome[is_kind] == FAILED + number
            tripled = _THREE * usual / (1 - usual + _THREE * usual)
            for share in (tripled, np.maximum(0.5 + usual / 2, tripled)):
                gain = np.where(failed, np.log(share / usual), np.log((1 - share) / (1 - usual)))
                each = np.bincount(column[is_kind], gain, MINUTES + 1)
                if share is tripled:
                    project += each
                labels.append({"job_type": kind.job_type, "status": status})
                gains.append(each)
        labels.append({"status": status})
        gains.append(project)
    return labels, np.array(gains)[:, :MINUTES]


def _shown_at(shown: Shown, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the minute of the first scrape that shows data of `first`; MINUTES if none does."""
    visible = np.where(shown.answers, shown.minute, 0)
    visible = np.maximum.accumulate(visible)
    return np.searchsorted(visible, first)


def _crossings(gains: Floats, threshold: float) -> list[list[int]]:
    sums = np.zeros(len(gains))
    found: list[list[int]] = [[] for _ in gains]
    for minute in np.flatnonzero(gains.any(axis=0)).tolist():
        sums = np.maximum(sums + gains[:, minute], 0)
        over = sums > threshold
        if over.any():
            for row in np.flatnonzero(over).tolist():
                found[row].append(minute)
            sums[over] = 0
    return found


def main(flavour: Flavour) -> None:
    """Print the false alarms of some thresholds on the calm lives of the tuning seeds."""
    lives = [live(flavour, seed, has_spikes=False) for seed in TUNING_SEEDS]
    days = sum(life.series_days for life in lives)
    for threshold in np.arange(7, 20, 0.5):
        count = sum(len(alarms(life, float(threshold))) for life in lives)
        rate = f"{1000 * count / days:.1f} in 1,000 series-days"
        say(f"{flavour}, threshold {threshold}: {count} false alarms, {rate}")


if __name__ == "__main__":
    for each in FLAVOURS:
        main(each)
