"""
Which clock the rows of the list go by: pure.

The baseline, the watermark and the lookback are compared with times that the server wrote into its rows. Our
own clock may be wrong, and so may the server's `current_time`; the rows show which. A row cannot be stamped
after it was read. So a clock that shows an earlier time than a row's stamp is behind the clock of the rows,
by the *lead* of that row. A clock that is ahead contradicts no row, since all stamps lie in its past. So of
two clocks that no row contradicts the earlier one is used: at worst, a poll reads more and takes fewer jobs
for history. But a server may tell another time in each answer, such as behind a balancer with one node whose
clock is wrong. Where its clock jumps so within a poll, and has agreed with ours once, ours is used.

Source: API reference, table 8, `current_time`: to the second; within that second our own clock decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

from exporter.model import Job

_RESOLUTION_MS = 1000
# Rows are written some time before they are read, and clocks that are synchronised differ by less.
_TOLERANCE_MS = 60_000
# An answer that took longer, or waited longer for its turn, does not tell the server's clock well.
_PROMPT_MS = 10_000
_DAY_MS = 86_400_000
# A server's clock that is so far ahead of ours, and of all rows, is not believed.
_YEAR_MS = 366 * _DAY_MS
# Up to so many rows that are more than a day ahead of both clocks are themselves wrong. More of them, or no
# other rows at all, show that both clocks are wrong.
_MAX_WRONG_ROWS = 5

_updated = attrgetter("updated_ms")
_ended = attrgetter("ended_ms")


@dataclass(slots=True)
class _Clock:
    """
    One of the two clocks during a poll.

    Units: milliseconds. Shape: `skew_ms` is how far it is ahead of ours; `lead_ms` is how far rows were ahead
    of it at most, `far_lead_ms` the same for rows that were more than a day ahead of both clocks.
    """

    began_ms: int = 0
    skew_ms: int = 0
    lead_ms: int = 0
    far_lead_ms: int = 0


class Clocks:
    """
    Our clock and the server's, from the answers of one poll.

    Units: milliseconds. An API that does not give its time is taken to have ours. `known_ms` is the latest
    stamp that earlier polls have seen, 0 for none: a clock that has not reached it yet is behind, though no
    row of this poll shows it. `latest_ms` is the latest stamp that this poll or an earlier one has seen,
    without rows that are far ahead: what the next poll has to know to begin with the same clock.
    """

    def __init__(self, known_ms: int = 0) -> None:
        self.latest_ms = 0
        self._known_ms = known_ms
        self._ours = _Clock()
        self._servers = _Clock()
        self._both = (self._ours, self._servers)
        self._began = False
        self._skews_ms: tuple[int, int, int] | None = None
        self._has_near_rows = False
        self._far_rows: set[int] = set()

    def observe(
        self, server_time_ms: int | None, asked_ms: int, answered_ms: int, jobs: Sequence[Job]
    ) -> None:
        """Learn from an answer; a request may have waited long between being asked for and answered."""
        skew_ms = 0 if server_time_ms is None else _skew(server_time_ms, asked_ms, answered_ms)
        self._servers.skew_ms = skew_ms
        if server_time_ms is not None and answered_ms - asked_ms < _PROMPT_MS:
            self._note_skew(skew_ms)
        far_from_ms = answered_ms + max(skew_ms, 0) + _DAY_MS
        if not self._began:
            self._began = True
            self._ours.began_ms = asked_ms
            self._servers.began_ms = asked_ms + skew_ms
            if self._known_ms <= far_from_ms:
                self.latest_ms = self._known_ms
                for clock in self._both:
                    clock.lead_ms = _lead(self._known_ms, answered_ms + clock.skew_ms)
        if not jobs:
            return
        # Every row of every poll passes here, so rows are looked at one by one only where one is far ahead.
        latest_ms = max(chain(map(_updated, jobs), filter(None, map(_ended, jobs))))
        if latest_ms > far_from_ms:
            latest_ms = self._set_far_apart(jobs, answered_ms, far_from_ms)
        else:
            self._has_near_rows = True
        self.latest_ms = max(self.latest_ms, latest_ms)
        for clock in self._both:
            clock.lead_ms = max(clock.lead_ms, _lead(latest_ms, answered_ms + clock.skew_ms))

    def _note_skew(self, skew_ms: int) -> None:
        """Keep the least skew that was told, the one nearest to ours, and the most."""
        least_ms, nearest_ms, most_ms = self._skews_ms or (skew_ms, skew_ms, skew_ms)
        self._skews_ms = min(least_ms, skew_ms), min(nearest_ms, skew_ms, key=abs), max(most_ms, skew_ms)

    def _set_far_apart(self, jobs: Sequence[Job], read_ms: int, far_from_ms: int) -> int:
        """Note the rows that are far ahead, and give the latest stamp of the others."""
        latest_ms = 0
        for job in jobs:
            stamp_ms = max(job.updated_ms, job.ended_ms or 0)
            if stamp_ms <= far_from_ms:
                self._has_near_rows = True
                latest_ms = max(latest_ms, stamp_ms)
                continue
            if len(self._far_rows) <= _MAX_WRONG_ROWS:
                self._far_rows.add(job.id)
            for clock in self._both:
                clock.far_lead_ms = max(clock.far_lead_ms, _lead(stamp_ms, read_ms + clock.skew_ms))
        return latest_ms

    def began_ms(self, now_ms: int) -> int:
        """Give when the poll began, by the clock that is believed; before any answer, `now_ms`."""
        return min(clock.began_ms for clock in self._believed()) if self._began else now_ms

    def now_ms(self, now_ms: int) -> int:
        """Give what the clock that is believed shows, where ours shows `now_ms`."""
        return now_ms + min(clock.skew_ms for clock in self._believed())

    def row_time_ms(self, at_ms: int) -> int:
        """
        Give what the clock of the rows showed when ours showed `at_ms`.

        Where rows are ahead of both clocks, this is later than what the believed clock showed.
        """
        return self.now_ms(at_ms) + self.lead_ms

    @property
    def lead_ms(self) -> int:
        """Give how far the rows are ahead of the clock that is believed."""
        return self._lead(min(self._believed(), key=lambda clock: clock.began_ms))

    @property
    def history_before_ms(self) -> int:
        """
        Give the earliest time that the baseline of this poll (`began_ms` + `lead_ms`) can be.

        It is known while rows are still being read: both clocks know since the first answer when the poll
        began, and no lead is less than 0. So the baseline is not earlier, whichever clock is believed in the
        end.
        """
        return min(self._ours.began_ms, self._servers.began_ms)

    def _believed(self) -> tuple[_Clock, ...]:
        """Give the clocks that no row contradicts; ours if there is none, or the server's cannot be right."""
        is_absurd = self._servers.skew_ms - self._lead(self._ours) > _YEAR_MS
        is_unsteady = self._servers_jumps() and self._lead(self._ours) < _TOLERANCE_MS
        clocks = (self._ours,) if is_absurd or is_unsteady else self._both
        likely = tuple(clock for clock in clocks if self._lead(clock) < _TOLERANCE_MS)
        if abs(self._servers.skew_ms) < _TOLERANCE_MS:
            likely = tuple(clock for clock in likely if self._lead(clock) == 0) or likely
        return likely or (self._ours,)

    def _servers_jumps(self) -> bool:
        """Tell whether the server's clock agreed with ours in one answer, and did not in another one."""
        least_ms, nearest_ms, most_ms = self._skews_ms or (0, 0, 0)
        return most_ms - least_ms >= _TOLERANCE_MS and abs(nearest_ms) < _TOLERANCE_MS

    def _lead(self, clock: _Clock) -> int:
        wrong_rows = self._has_near_rows and len(self._far_rows) <= _MAX_WRONG_ROWS
        return clock.lead_ms if wrong_rows else max(clock.lead_ms, clock.far_lead_ms)


def _lead(stamp_ms: int, clock_ms: int) -> int:
    """Give how far a stamp is ahead of a clock, so that clock and lead together are after the stamp."""
    return stamp_ms + 1 - clock_ms if stamp_ms > clock_ms else 0


def _skew(server_time_ms: int, asked_ms: int, answered_ms: int) -> int:
    """
    Give how far the server's clock is ahead of ours, no more than the answer proves.

    The server wrote its time between the two moments, and cut it to the second.
    """
    least = server_time_ms - answered_ms
    most = server_time_ms + _RESOLUTION_MS - 1 - asked_ms
    return min(max(least, 0), most) if most >= least else least
