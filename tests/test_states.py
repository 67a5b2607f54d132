"""A state that lasts is logged when it begins, changes and ends, and every hour; and within bounds."""

from __future__ import annotations

import itertools

import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.states import LINES_AT_ONCE, LINES_PER_HOUR, Allowance, LastingState, StateLog

NOON = 1_700_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR


def phases(state: LastingState, kinds: list[str | None], every: float = 30.0) -> list[str]:
    """Show a state one kind after the other; None is not holding."""
    news = [
        state.is_over(now) if kind is None else state.holds(kind, now)
        for now, kind in zip(itertools.count(NOON, every), kinds, strict=False)
    ]
    return [each.phase for each in news if each is not None]


def test_a_target_that_is_down_for_a_day_is_told_at_its_ends_and_every_hour() -> None:
    polls = int(DAY / 30) + 1
    assert phases(LastingState(), ["timeout"] * polls + [None] * 10) == ["begins", *["lasts"] * 24, "ends"]


def test_the_reminder_counts_from_the_beginning() -> None:
    state = LastingState()
    news = [state.holds("timeout", NOON + 30 * n) for n in range(241)]
    reminder = [each for each in news if each is not None][-1]
    assert (reminder.phase, reminder.times, reminder.since) == ("lasts", 241, NOON)


def test_a_change_is_told() -> None:
    assert phases(LastingState(), ["a", "a", "b", "b", None]) == ["begins", "changes", "ends"]


def test_a_state_that_never_held_is_no_news() -> None:
    assert phases(LastingState(), [None] * 5) == []


def test_a_state_that_begins_again_counts_anew() -> None:
    state = LastingState()
    state.holds("a", NOON)
    state.is_over(NOON + 60)
    news = state.holds("a", NOON + 120)
    assert news is not None
    assert (news.phase, news.times, news.since) == ("begins", 1, NOON + 120)


def test_flapping_between_two_reasons_is_bounded() -> None:
    polls = int(DAY)
    lines = phases(LastingState(), ["a", "b"] * (polls // 2), every=1.0)
    assert len(lines) <= LINES_AT_ONCE + 24 * LINES_PER_HOUR


def test_coming_and_going_is_bounded() -> None:
    lines = phases(LastingState(), ["a", None] * int(DAY / 2), every=1.0)
    assert len(lines) <= LINES_AT_ONCE + 24 * LINES_PER_HOUR


def test_an_end_that_was_not_told_is_told_later() -> None:
    kinds = ["a", None] * 20 + [None] * 3600
    lines = phases(LastingState(), kinds, every=1.0)
    assert lines[-1] == "ends"


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=200), st.floats(0.1, 7200))
def test_what_was_told_last_is_what_is_once_there_is_room(kinds: list[str | None], every: float) -> None:
    state = LastingState()
    lines = phases(state, kinds, every)
    later = NOON + every * len(kinds) + DAY
    news = state.holds("a", later) if kinds and kinds[-1] == "a" else state.is_over(later)
    told = [*lines, *([] if news is None else [news.phase])]
    holds = bool(kinds) and kinds[-1] == "a"
    assert (told[-1:] not in ([], ["ends"])) == holds


def test_a_clock_that_is_set_back_neither_silences_nor_floods() -> None:
    state = LastingState()
    assert state.holds("a", NOON) is not None
    assert state.holds("a", NOON - 5 * DAY) is not None
    assert state.holds("a", NOON - 5 * DAY + 30) is None


def test_an_allowance_comes_back_slowly() -> None:
    allowance = Allowance(2, per_hour=1)
    assert [allowance.take(NOON) for _ in range(3)] == [True, True, False]
    assert [allowance.take(NOON + HOUR) for _ in range(2)] == [True, False]


def test_a_state_s_lines_say_how_often_and_since_when() -> None:
    with capture_logs() as lines:
        log = StateLog(structlog.get_logger(), "poll failed", "polling works again")
        log.holds("timeout", NOON, error="no answer")
        log.holds("timeout", NOON + 30, error="no answer")
        log.holds("auth", NOON + 60, error="wrong password")
        log.is_over(NOON + 90)
        log.is_over(NOON + 120)
    since = "2023-11-14T22:13:20Z"
    assert lines == [
        {"log_level": "warning", "event": "poll failed", "error": "no answer"},
        {"log_level": "debug", "event": "poll failed", "error": "no answer"},
        {
            "log_level": "warning",
            "event": "poll failed",
            "error": "wrong password",
            "state": "changes",
            "times": 3,
            "since": since,
        },
        {"log_level": "info", "event": "polling works again", "state": "ends", "times": 3, "since": since},
    ]
