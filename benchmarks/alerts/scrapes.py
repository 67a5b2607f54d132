"""
What Prometheus would have scraped of a project, each minute, as the exporter's contract has it.

A poll that fails changes nothing but the poll's own metrics; the job gauges vanish after five minutes of
that; counters go on from the ledger, and a lost ledger begins at 0 with what ends from then on.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from benchmarks.alerts.life import DAY, Life, Stay
from benchmarks.alerts.troubles import Troubles
from exporter.model import FAILED_STATUSES, IN_FLIGHT_STATUSES, JOB_TYPES, TERMINAL_STATUSES

Values = list[float | None]
_MAX_AGE = 5
_POLLED_BEFORE_SCRAPE_SECONDS = 15


class Exporter:
    """
    One exporter in front of one project.

    Shape: `shown[m]` is the minute whose poll the scrape of minute m shows, None where nothing answers.
    """

    def __init__(self, project: str, life: Life, troubles: Troubles, days: int) -> None:
        self._project = project
        self._life = life
        self._troubles = troubles
        self._minutes = days * DAY + 1
        self._shown = self._polls()
        self._answers = [not _is_in(minute, troubles.exporter_away) for minute in range(self._minutes)]

    def series(self) -> Iterator[tuple[str, Values]]:
        """Yield each series: its name with labels, and a value (None: absent) for each minute."""
        yield 'up{job="octopus",instance="exporter"}', [float(answers) for answers in self._answers]
        yield from self._poll_series()
        yield from self._counters()
        yield from self._gauges()

    def _polls(self) -> list[int]:
        """Say for each minute which one's poll was the last to succeed."""
        troubles = (*self._troubles.api_away, *self._troubles.exporter_away)
        last, shown = 0, []
        for minute in range(self._minutes):
            last = last if _is_in(minute, troubles) else minute
            shown.append(last)
        return shown

    def _poll_series(self) -> Iterator[tuple[str, Values]]:
        up: Iterable[float] = (float(shown == minute) for minute, shown in enumerate(self._shown))
        success: Iterable[float] = (shown * 60.0 - _POLLED_BEFORE_SCRAPE_SECONDS for shown in self._shown)
        yield self._name("octopus_up"), self._answered(up)
        yield self._name("octopus_poll_last_success_timestamp_seconds"), self._answered(success)

    def _counters(self) -> Iterator[tuple[str, Values]]:
        codes: dict[tuple[str, str], set[str]] = defaultdict(lambda: {""})
        ended: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * (self._minutes + 1))
        for ending in self._life.endings:
            if ending.at < 0 or ending.at >= self._minutes - 1:
                continue
            minute = int(ending.at) + 1
            ended[ending.job_type, ending.status][minute] += 1
            if ending.status in FAILED_STATUSES:
                codes[ending.job_type, ending.status].add(ending.msg_code)
                ended[ending.job_type, ending.status, ending.msg_code][minute] += 1
        for job_type in JOB_TYPES:
            for status in TERMINAL_STATUSES:
                labels = {"job_type": job_type, "status": status}
                counted = self._counted(ended[job_type, status])
                yield self._name("octopus_jobs_completed_total", **labels), counted
                for code in sorted(codes[job_type, status]) if status in FAILED_STATUSES else ():
                    by_code = self._counted(ended[job_type, status, code])
                    labels_of_code = labels | ({"msg_code": code} if code else {})
                    yield self._name("octopus_job_failures_total", **labels_of_code), by_code

    def _counted(self, each_minute: Sequence[int]) -> Values:
        """Add up what each poll found; a lost ledger begins anew."""
        totals = list(accumulate(each_minute))
        floors = [0.0] * self._minutes
        for lost in self._troubles.ledger_lost:
            back = next(m for m in range(int(lost), self._minutes) if self._shown[m] >= lost)
            floors[int(lost) :] = [float(totals[back])] * (self._minutes - int(lost))
        values = (max(0.0, totals[shown] - floor) for shown, floor in zip(self._shown, floors, strict=True))
        return self._answered(values)

    def _gauges(self) -> Iterator[tuple[str, Values]]:
        by_status: dict[tuple[str, str], list[Stay]] = defaultdict(list)
        for stay in self._life.stays:
            by_status[stay.job_type, stay.status].append(stay)
        for job_type in JOB_TYPES:
            for status in IN_FLIGHT_STATUSES:
                labels = {"job_type": job_type, "status": status}
                stays = by_status[job_type, status]
                yield self._name("octopus_jobs", **labels), self._fresh(self._present(stays))
                oldest = self._fresh(self._oldest(stays))
                yield self._name("octopus_jobs_oldest_created_timestamp_seconds", **labels), oldest
                if status in IN_FLIGHT_STATUSES[2:]:
                    yield self._name("octopus_jobs_oldest_started_timestamp_seconds", **labels), oldest

    def _present(self, stays: Iterable[Stay]) -> Values:
        changes = [0] * (self._minutes + 1)
        for stay in stays:
            changes[self._minute(stay.begin)] += 1
            changes[self._minute(stay.end)] -= 1
        return [float(count) for count in accumulate(changes)]

    def _oldest(self, stays: Iterable[Stay]) -> Values:
        waiting = sorted((self._minute(stay.begin), stay.since, stay.end) for stay in stays)
        present: list[tuple[float, float]] = []
        values: Values = []
        taken = 0
        for minute in range(self._minutes):
            while taken < len(waiting) and waiting[taken][0] <= minute:
                heapq.heappush(present, waiting[taken][1:])
                taken += 1
            while present and present[0][1] <= minute:
                heapq.heappop(present)
            values.append(round(present[0][0] * 60) if present else None)
        return values

    def _minute(self, at: float) -> int:
        """Give the first minute whose scrape sees what happened then."""
        return min(max(0, int(at) + 1), self._minutes)

    def _fresh(self, values: Values) -> Values:
        """Show a gauge as the last poll found it, and not at all when that is too old."""
        return self._answered(
            None if minute - shown > _MAX_AGE else values[shown] for minute, shown in enumerate(self._shown)
        )

    def _answered(self, values: Iterable[float | None]) -> Values:
        return [value if answers else None for value, answers in zip(values, self._answers, strict=True)]

    def _name(self, family: str, **labels: str) -> str:
        every = {
            "project": self._project,
            "workspace": "0",
            **labels,
            "job": "octopus",
            "instance": "exporter",
        }
        return family + "{" + ",".join(f'{name}="{value}"' for name, value in every.items()) + "}"


def _is_in(minute: float, spans: Iterable[object]) -> bool:
    return any(minute in span for span in spans)  # type: ignore[operator]
