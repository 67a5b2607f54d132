"""A state that lasts is logged when it begins, changes and ends, and every hour; and within bounds."""

from __future__ import annotations

import itertools

import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.state_log import LINES_AT_ONCE, LINES_PER_HOUR, FaultLog, LineLimiter, StateLog

NOON = 1_700_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR
SINCE = "2023-11-14T22:13:20Z"


class Recorder:
    """A logger that keeps what is more than a debug line, with the phase of the state."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def debug(self, event: str, **details: object) -> None:
        """Not kept: these lines are the ones that a normal log does not show."""

    def info(self, event: str, **details: object) -> None:
        self.lines.append({"event": event, "state": "begins", **details})

    warning = error = info


def state_log() -> tuple[StateLog, Recorder]:
    recorder = Recorder()
    return StateLog(recorder, "down", "up"), recorder


def show(state: StateLog, kinds: list[str | None], every: float = 30.0, *, start: float = NOON) -> None:
    """Show a state one kind after the other; None is not holding."""
    for now, kind in zip(itertools.count(start, every), kinds, strict=False):
        if kind is None:
            state.is_over(now)
        else:
            state.holds(kind, now)


def phases(kinds: list[str | None], every: float = 30.0) -> list[object]:
    state, recorder = state_log()
    show(state, kinds, every)
    return [line["state"] for line in recorder.lines]


def test_a_target_that_is_down_for_a_day_is_told_at_its_ends_and_every_hour() -> None:
    polls = int(DAY / 30) + 1
    assert phases(["timeout"] * polls + [None] * 10) == ["begins", *["lasts"] * 24, "ends"]


def test_the_reminder_counts_from_the_beginning() -> None:
    state, recorder = state_log()
    for n in range(241):
        state.holds("timeout", NOON + 30 * n)
    assert recorder.lines[-1] == {"event": "down", "state": "lasts", "times": 241, "since": SINCE}


def test_a_change_is_told() -> None:
    assert phases(["a", "a", "b", "b", None]) == ["begins", "changes", "ends"]


def test_a_state_that_never_held_is_no_news() -> None:
    assert phases([None] * 5) == []


def test_a_state_that_begins_again_counts_anew() -> None:
    state, recorder = state_log()
    state.holds("a", NOON - 120)
    state.is_over(NOON - 60)
    state.holds("a", NOON)
    state.holds("b", NOON + 30)
    assert recorder.lines[2:] == [
        {"event": "down", "state": "begins"},
        {"event": "down", "state": "changes", "times": 2, "since": SINCE},
    ]


def test_flapping_between_two_reasons_is_bounded() -> None:
    polls = int(DAY)
    lines = phases(["a", "b"] * (polls // 2), every=1.0)
    assert len(lines) <= LINES_AT_ONCE + 24 * LINES_PER_HOUR


def test_coming_and_going_is_bounded() -> None:
    lines = phases(["a", None] * int(DAY / 2), every=1.0)
    assert len(lines) <= LINES_AT_ONCE + 24 * LINES_PER_HOUR


def test_an_end_that_was_not_told_is_told_later() -> None:
    kinds = ["a", None] * 20 + [None] * 3600
    lines = phases(kinds, every=1.0)
    assert lines[-1] == "ends"


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=200), st.floats(0.1, 7200))
def test_what_was_told_last_is_what_is_once_there_is_room(kinds: list[str | None], every: float) -> None:
    state, recorder = state_log()
    show(state, kinds, every)
    # A day later there is room for a line again.
    show(state, kinds[-1:], start=NOON + every * len(kinds) + DAY)
    told = [line["state"] for line in recorder.lines[-1:]]
    assert (told not in ([], ["ends"])) == bool(kinds and kinds[-1])


def test_a_clock_that_is_set_back_neither_silences_nor_floods() -> None:
    state, recorder = state_log()
    for now, lines in ((NOON, 1), (NOON - 5 * DAY, 2), (NOON - 5 * DAY + 30, 2)):
        state.holds("a", now)
        assert len(recorder.lines) == lines


def test_lines_come_back_slowly() -> None:
    limiter = LineLimiter(2, per_hour=1)
    assert [limiter.take(NOON) for _ in range(3)] == [True, True, False]
    assert [limiter.take(NOON + HOUR) for _ in range(2)] == [True, False]


def test_a_state_s_lines_say_how_often_and_since_when() -> None:
    with capture_logs() as lines:
        log = StateLog(structlog.get_logger(), "poll failed", "polling works again")
        log.holds("timeout", NOON, error="no answer")
        log.holds("timeout", NOON + 30, error="no answer")
        log.holds("auth", NOON + 60, error="wrong password")
        log.is_over(NOON + 90)
        log.is_over(NOON + 120)
    assert lines == [
        {"log_level": "warning", "event": "poll failed", "error": "no answer"},
        {"log_level": "debug", "event": "poll failed", "error": "no answer"},
        {
            "log_level": "warning",
            "event": "poll failed",
            "error": "wrong password",
            "state": "changes",
            "times": 3,
            "since": SINCE,
        },
        {"log_level": "info", "event": "polling works again", "state": "ends", "times": 3, "since": SINCE},
    ]


def test_a_fault_is_logged_with_its_traceback_until_the_work_succeeds() -> None:
    def fail() -> Exception:
        try:
            raise ValueError("odd")
        except ValueError as exc:
            return exc

    with capture_logs() as lines:
        faults = FaultLog(structlog.get_logger(), project="p")
        faults.log("poll failed", fail())
        faults.log("poll failed", fail())
        faults.log("poll failed", KeyError("another"))
        faults.clear()
        faults.log("poll failed", fail())
    levels = [(line["log_level"], line["project"], "exc_info" in line) for line in lines]
    new = ("error", "p", True)
    assert levels == [new, ("debug", "p", False), new, new]
