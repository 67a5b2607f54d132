"""
States that last, such as a target that is down: when they are worth a line in the log.

A line is due when a state begins, when it changes and when it ends, and a reminder for every hour that it
lasts. A state that comes and goes without end is given a few lines and then two an hour, so that neither a
client nor a server can fill the log.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

REMINDER_SECONDS = 3600.0
LINES_AT_ONCE = 6
LINES_PER_HOUR = 2.0

Phase = Literal["begins", "changes", "lasts", "ends"]


class Logger(Protocol):
    """What is needed of a logger of structlog."""

    def debug(self, event: str, **details: object) -> object: ...
    def info(self, event: str, **details: object) -> object: ...
    def warning(self, event: str, **details: object) -> object: ...
    def error(self, event: str, **details: object) -> object: ...


class Allowance:
    """How many lines may be written: some at once, then so many an hour. Units: `now` in seconds."""

    def __init__(self, at_once: int = LINES_AT_ONCE, per_hour: float = LINES_PER_HOUR) -> None:
        self._most = float(at_once)
        self._per_second = per_hour / 3600
        self._left = self._most
        self._as_of: float | None = None

    def take(self, now: float) -> bool:
        """Take a line, if there is one left."""
        # A clock that was set back gives nothing, and takes nothing away.
        passed = 0.0 if self._as_of is None else max(now - self._as_of, 0.0)
        self._as_of = now
        self._left = min(self._left + passed * self._per_second, self._most)
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True)
class StateNotice:
    """
    Something to tell of a state.

    Shape: `times` is how often the state was seen since it began, at `since` (Unix seconds).
    """

    phase: Phase
    times: int
    since: float


class LastingState:
    """
    One state and what was told of it last.

    Shape: `kind` is what makes the state another one where it changes. Units: `now` in Unix seconds.
    """

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._told: Hashable | None = None
        self._told_at = 0.0
        self._since: float | None = None
        self._times = 0

    def holds(self, kind: Hashable, now: float) -> StateNotice | None:
        """Note that the state holds; give what is to be told, if anything."""
        if self._since is None:
            self._since, self._times = now, 0
        self._times += 1
        if kind == self._told:
            # A clock that was set back must not keep the reminders off.
            is_due = abs(now - self._told_at) >= REMINDER_SECONDS
            return self._tell("lasts", kind, now) if is_due else None
        return self._tell("begins" if self._told is None else "changes", kind, now)

    def is_over(self, now: float) -> StateNotice | None:
        """Note that the state does not hold, or not any more; likewise."""
        news = None if self._told is None else self._tell("ends", None, now)
        if self._told is None:
            self._since = None
        return news

    def _tell(self, phase: Phase, kind: Hashable | None, now: float) -> StateNotice | None:
        if not self._allowance.take(now):
            return None
        self._told, self._told_at = kind, now
        return StateNotice(phase, self._times, now if self._since is None else self._since)


class StateLog:
    """Logs one state: `while_it_holds` as a warning or an error, `when_it_ends` once it is over."""

    def __init__(
        self, log: Logger, while_it_holds: str, when_it_ends: str, *, is_error: bool = False
    ) -> None:
        self._log = log
        self._tell = log.error if is_error else log.warning
        self._while_it_holds = while_it_holds
        self._when_it_ends = when_it_ends
        self._state = LastingState()

    def holds(self, kind: Hashable, now: float, **details: object) -> None:
        """The state holds, and is of this kind. Units: `now` in Unix seconds."""
        news = self._state.holds(kind, now)
        if news is None:
            self._log.debug(self._while_it_holds, **details)
        else:
            self._tell(self._while_it_holds, **details, **_fields(news))

    def is_over(self, now: float, **details: object) -> None:
        """The state does not hold. Units: as above."""
        news = self._state.is_over(now)
        if news is not None:
            self._log.info(self._when_it_ends, **details, **_fields(news))


def _fields(news: StateNotice) -> dict[str, object]:
    if news.phase == "begins":
        return {}
    since = datetime.fromtimestamp(news.since, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"state": news.phase, "times": news.times, "since": since}
