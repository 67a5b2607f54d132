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

    def answered(self, server_time_ms: int | None, sent_ms: int) -> None:
        """Learn from an answer to a request that was sent at `sent_ms` by our clock."""
        at_ms = sent_ms
        if server_time_ms is not None:
            at_ms = min(max(sent_ms, server_time_ms), server_time_ms + _RESOLUTION_MS - 1)
        self._skew_ms = at_ms - sent_ms
        if self._began_ms is None:
            self._began_ms = at_ms

    def began_ms(self, now_ms: int) -> int:
        return now_ms if self._began_ms is None else self._began_ms

    def now_ms(self, now_ms: int) -> int:
        return now_ms + self._skew_ms
