"""
What time it is at the server: pure.

Jobs are stamped by the server's clock, so what is compared with their times (the baseline, the lookback) goes
by that clock too. It is known from the answers, to the second; within that second our own clock decides.
Source: API reference, table 8, `current_time`.
"""

from __future__ import annotations

_RESOLUTION_MS = 1000


class ServerClock:
    """
    The server's clock, from the answers of one poll.

    Units: milliseconds. `began_ms` is the time of the first request; an API that does not give its time is
    taken to have ours.
    """

    def __init__(self) -> None:
        self._began_ms: int | None = None
        self._skew_ms = 0

    def answered(self, server_time_ms: int | None, asked_ms: int, answered_ms: int) -> None:
        """Learn from an answer; a request may have waited long between being asked for and answered."""
        self._skew_ms = _nearest(answered_ms, server_time_ms) - answered_ms
        if self._began_ms is None:
            self._began_ms = _nearest(asked_ms, server_time_ms)

    def began_ms(self, now_ms: int) -> int:
        return now_ms if self._began_ms is None else self._began_ms

    def now_ms(self, now_ms: int) -> int:
        return now_ms + self._skew_ms


def _nearest(our_ms: int, server_time_ms: int | None) -> int:
    """Give the moment within the server's second that is nearest to ours."""
    if server_time_ms is None:
        return our_ms
    return min(max(our_ms, server_time_ms), server_time_ms + _RESOLUTION_MS - 1)
