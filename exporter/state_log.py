"""
What lasts is logged when it begins, changes and ends, and not each time it is seen: pure.

`StateLog` logs a state such as a target that is down. `FaultLog` logs exceptions that this program did not
expect: they end one piece of work, not the process.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Protocol

REMINDER_SECONDS = 3600.0
LINES_AT_ONCE = 6
LINES_PER_HOUR = 2.0


class Logger(Protocol):
    """The methods that are used of a structlog logger."""

    def debug(self, event: str, **details: object) -> object: ...
    def info(self, event: str, **details: object) -> object: ...
    def warning(self, event: str, **details: object) -> object: ...
    def error(self, event: str, **details: object) -> object: ...


class LineLimiter:
    """A token bucket for log lines: some at once, then so many an hour. Units: `now` in seconds."""

    def __init__(self, at_once: int = LINES_AT_ONCE, per_hour: float = LINES_PER_HOUR) -> None:
        self._capacity = float(at_once)
        self._per_second = per_hour / 3600
        self._left = self._capacity
        self._as_of: float | None = None

    def take(self, now: float) -> bool:
        """Take a line; return whether one was left."""
        # If the clock was set back, no time has passed: nothing is added and nothing is lost.
        passed = 0.0 if self._as_of is None else max(now - self._as_of, 0.0)
        self._as_of = now
        self._left = min(self._left + passed * self._per_second, self._capacity)
        if self._left < 1:
            return False
        self._left -= 1
        return True


class StateLog:
    """
    Logs one state: when it begins, when its kind changes, once an hour while it lasts, and when it ends.

    A state that comes and goes all the time gets a few lines and then two an hour, so that neither a client
    nor a server can fill the log.

    Shape: `while_it_holds` is logged as a warning or an error, `when_it_ends` as information. Every line but
    the first says what happened to the state, how often it was seen and since when.
    """

    def __init__(
        self, log: Logger, while_it_holds: str, when_it_ends: str, *, is_error: bool = False
    ) -> None:
        self._log = log
        self._while_it_holds = while_it_holds
        self._when_it_ends = when_it_ends
        self._is_error = is_error
        self._lines = LineLimiter()
        self._logged: Hashable | None = None
        self._logged_at = 0.0
        self._since = 0.0
        self._times = 0

    def holds(self, kind: Hashable, now: float, **details: object) -> None:
        """Note that the state holds. Units: `now` in Unix seconds."""
        if self._times == 0:
            self._since = now
        self._times += 1
        phase, is_due = "begins" if self._logged is None else "changes", True
        if kind == self._logged:
            # abs(): a clock that was set back must not suppress the reminders.
            phase, is_due = "lasts", abs(now - self._logged_at) >= REMINDER_SECONDS
        if is_due and self._lines.take(now):
            self._logged, self._logged_at = kind, now
            log = self._log.error if self._is_error else self._log.warning
            log(self._while_it_holds, **details, **({} if phase == "begins" else self._fields(phase)))
        else:
            self._log.debug(self._while_it_holds, **details)

    def is_over(self, now: float, **details: object) -> None:
        """Note that the state does not hold, or no longer. Units: as above."""
        if self._logged is not None and self._lines.take(now):
            self._log.info(self._when_it_ends, **details, **self._fields("ends"))
            self._logged = None
        # An end that was not logged for want of lines is logged later: until then the state goes on.
        if self._logged is None:
            self._times = 0

    def _fields(self, phase: str) -> dict[str, object]:
        since = datetime.fromtimestamp(self._since, UTC).isoformat(timespec="seconds")
        return {"state": phase, "times": self._times, "since": since.replace("+00:00", "Z")}


class FaultLog:
    """
    Logs the unexpected exceptions of one recurring piece of work, each with its traceback only once.

    Shape: `details` go into each line.
    """

    def __init__(self, log: Logger, **details: object) -> None:
        self._log = log
        self._details = details
        self._seen: set[tuple[str, str, int]] = set()

    def log(self, what: str, exc: BaseException) -> None:
        """Log that `what` failed: with the traceback if this fault is new since the last success."""
        place = place_of(exc)
        if place in self._seen:
            self._log.debug(f"{what} again", **self._details, error=f"{type(exc).__name__}: {exc}")
        else:
            self._seen.add(place)
            self._log.error(
                f"{what}: a fault of the exporter, please report it", **self._details, exc_info=exc
            )

    def clear(self) -> None:
        """The work succeeded: the next fault is logged with its traceback, even if it was seen before."""
        self._seen.clear()


def place_of(exc: BaseException) -> tuple[str, str, int]:
    """Identify a fault by the exception's type and the line that raised it, not by its message."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(exc).__name__, "", 0
    return type(exc).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno
