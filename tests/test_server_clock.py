"""Which clock the rows go by, from answers alone; test_clocks.py polls by it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sync.server_clock import Clocks
from tests.fake_api import a_job

NOW_MS = 1_772_434_800_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
YEAR_9999_MS = 253_402_300_000_000
ANSWERED_AFTER_MS = 100


@dataclass(frozen=True)
class Answer:
    """An answer to a request. Units: ms ahead of NOW_MS; None where no time is told."""

    server_ms: int | None
    stamps_ms: tuple[int, ...] = ()
    at_ms: int = 0

    def tell(self, clocks: Clocks, first_id: int = 1) -> None:
        jobs = [
            a_job(first_id + n, "FINISHED", updated_ms=NOW_MS + stamp)
            for n, stamp in enumerate(self.stamps_ms)
        ]
        server_ms = None if self.server_ms is None else (NOW_MS + self.server_ms) // 1000 * 1000
        asked_ms = NOW_MS + self.at_ms
        clocks.observe(server_ms, asked_ms, asked_ms + ANSWERED_AFTER_MS, jobs)


def heard(*answers: Answer) -> Clocks:
    clocks = Clocks()
    for n, answer in enumerate(answers):
        answer.tell(clocks, 1_000 * n)
    return clocks


def baseline(clocks: Clocks) -> int:
    """Give the baseline in ms after NOW_MS."""
    return clocks.began_ms(0) + clocks.lead_ms - NOW_MS


OLD = (-DAY_MS, -HOUR_MS)
FRESH = (*OLD, -1_000)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Answer(0, FRESH), 0, id="both clocks are right"),
        pytest.param(Answer(None, FRESH), 0, id="the server tells no time"),
        pytest.param(Answer(0), 0, id="no rows"),
        pytest.param(Answer(8 * HOUR_MS, FRESH), 0, id="the server is ahead"),
        pytest.param(Answer(YEAR_9999_MS, OLD), 0, id="the server is absurd"),
        pytest.param(Answer(-8 * HOUR_MS, FRESH), 0, id="the server is behind, as a row shows"),
        pytest.param(
            Answer(-8 * HOUR_MS, (-DAY_MS,)),
            -8 * HOUR_MS + 999,
            id="the server is behind, and no row shows it",
        ),
        pytest.param(
            Answer(-8 * HOUR_MS), -8 * HOUR_MS + 999, id="the earlier clock, where there are no rows"
        ),
        pytest.param(Answer(0, (*OLD, 5_000)), 4_901, id="rows are a little ahead of both"),
        pytest.param(Answer(50_000, (*OLD, 1_600)), 49_900, id="rows are a little ahead of ours"),
        pytest.param(Answer(-30_000, (*OLD, -10_000)), 0, id="rows are a little ahead of the server's"),
        pytest.param(
            Answer(8 * HOUR_MS, (*OLD, 1_600)), 1_501, id="the server is far ahead, ours a little behind"
        ),
        pytest.param(Answer(5 * MINUTE_MS, (*OLD, 5 * MINUTE_MS)), 5 * MINUTE_MS - 100, id="ours is behind"),
        pytest.param(Answer(0, (*OLD, HOUR_MS)), HOUR_MS - 99, id="both are behind"),
        pytest.param(Answer(0, (*OLD, 10 * DAY_MS)), 0, id="one row from the future"),
        pytest.param(Answer(0, (*OLD, *(10 * DAY_MS,) * 5)), 0, id="five rows from the future"),
        pytest.param(
            Answer(0, (*OLD, *(10 * DAY_MS,) * 6)), 10 * DAY_MS - 99, id="too many of them for all to be odd"
        ),
        pytest.param(Answer(None, (10 * DAY_MS,)), 10 * DAY_MS - 99, id="nothing but rows from the future"),
    ],
)
def test_where_counting_begins(answer: Answer, expected: int) -> None:
    assert baseline(heard(answer)) == expected


def test_it_begins_when_the_first_answer_was_asked_for_however_long_it_takes() -> None:
    clocks = heard(Answer(0, OLD), Answer(HOUR_MS, (HOUR_MS,), at_ms=HOUR_MS))
    assert (baseline(clocks), clocks.now_ms(NOW_MS + HOUR_MS)) == (0, NOW_MS + HOUR_MS)


@pytest.mark.parametrize("first_ms", [-HOUR_MS, HOUR_MS, -8 * HOUR_MS])
@pytest.mark.parametrize("then_ms", [(0,), (0, HOUR_MS), (HOUR_MS, 0), (0, -HOUR_MS)])
def test_a_servers_clock_that_jumps_makes_no_news_of_the_past(first_ms: int, then_ms: tuple[int]) -> None:
    """What was over nine minutes before is history, also where the answer with it tells another time."""
    rows = Answer(then_ms[0], (*OLD, -9 * MINUTE_MS))
    clocks = heard(Answer(first_ms, (-DAY_MS,)), rows, *map(Answer, then_ms[1:]))
    assert baseline(clocks) == 0


def test_a_server_whose_time_goes_on_while_it_is_read_is_still_believed() -> None:
    """Its clock is months behind ours, and jumps by twenty minutes; the rows jump with it."""
    months_ms = 100 * DAY_MS
    before = Answer(-months_ms, (-months_ms - 1_000,))
    after = Answer(-months_ms + 20 * MINUTE_MS, (-months_ms + 19 * MINUTE_MS,))
    assert baseline(heard(before, after)) < -months_ms + 1_000


def test_our_clock_may_be_set_back_while_the_first_sync_runs() -> None:
    """The server tells the right time; ours goes on from five hours before. The rows go by the server's."""
    answers = Answer(0, OLD), Answer(5 * HOUR_MS, (60_000,), at_ms=60_000 - 5 * HOUR_MS)
    assert baseline(heard(*answers)) == 0


def test_one_row_that_is_read_again_and_again_is_one_row() -> None:
    clocks = Clocks()
    for _ in range(10):
        Answer(0, (*OLD, 10 * DAY_MS)).tell(clocks)
    assert baseline(clocks) == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Answer(YEAR_9999_MS, OLD), 0, id="the server is absurd"),
        pytest.param(Answer(8 * HOUR_MS, FRESH), 0, id="the server is ahead"),
        pytest.param(Answer(-HOUR_MS, FRESH), 0, id="the server is behind, as a row shows"),
        pytest.param(Answer(HOUR_MS, (HOUR_MS - 5_000,)), HOUR_MS - 100, id="ours is behind"),
        pytest.param(Answer(-HOUR_MS, OLD), -HOUR_MS + 999, id="ours is ahead, as far as rows show"),
        pytest.param(Answer(0, (*OLD, HOUR_MS)), 0, id="one row ahead of both moves no clock"),
    ],
)
def test_what_time_it_is_for_the_lookback(answer: Answer, expected: int) -> None:
    assert heard(answer).now_ms(NOW_MS) - NOW_MS == expected


def test_a_clock_that_is_yet_to_reach_a_known_row_is_behind() -> None:
    behind = Answer(-8 * HOUR_MS)
    clocks = [Clocks(NOW_MS + known_ms) for known_ms in (-HOUR_MS, -9 * HOUR_MS, 10 * DAY_MS)]
    for some in clocks:
        behind.tell(some)
    assert [some.now_ms(NOW_MS) == NOW_MS for some in clocks] == [True, False, False]


def test_the_latest_stamp_keeps_the_choice_of_the_poll_before() -> None:
    """Before the row is read that decided for ours, the next poll must not go by the server's clock."""
    behind_by_hours, behind_by_minutes = 3 * HOUR_MS, 5 * MINUTE_MS
    stamps = (behind_by_hours - 10 * MINUTE_MS, behind_by_hours)
    before = heard(Answer(behind_by_hours - behind_by_minutes, stamps))
    after = Clocks(before.latest_ms)
    Answer(behind_by_hours - behind_by_minutes, at_ms=1_000).tell(after)
    assert (before.now_ms(NOW_MS), after.now_ms(NOW_MS)) == (NOW_MS, NOW_MS)


def test_before_any_answer_ours_holds() -> None:
    assert (Clocks().began_ms(7), Clocks().now_ms(7)) == (7, 7)


_offset = st.integers(-2 * DAY_MS, 2 * DAY_MS) | st.sampled_from((0, YEAR_9999_MS, -NOW_MS))
_answers = st.builds(
    Answer, st.none() | _offset, st.lists(_offset, max_size=8).map(tuple), st.integers(0, 3 * HOUR_MS)
)


@given(st.lists(_answers, min_size=1, max_size=6), st.just(0) | _offset.map(NOW_MS.__add__))
def test_what_is_kept_as_history_while_rows_come_in_is_history_in_the_end(
    answers: list[Answer], known_ms: int
) -> None:
    clocks = Clocks(known_ms)
    provisional = []
    for n, answer in enumerate(answers):
        answer.tell(clocks, 10 * n)
        provisional.append(clocks.history_before_ms)
    assert max(provisional) <= clocks.began_ms(0) + clocks.lead_ms


@given(st.lists(_answers, min_size=1, max_size=6), st.integers(0, 5))
def test_what_was_over_before_the_sync_began_is_never_news(answers: list[Answer], right: int) -> None:
    """With our clock right, whatever times the server tells, if one of them is right too."""
    clocks, stamps = Clocks(), [-YEAR_9999_MS]
    for n, answer in enumerate(answers):
        past = [min(stamp_ms, -MINUTE_MS) for stamp_ms in answer.stamps_ms]
        server_ms = 0 if n == min(right, len(answers) - 1) else answer.server_ms
        Answer(server_ms, tuple(past)).tell(clocks, 10 * n)
        stamps += past
    assert baseline(clocks) >= max(stamps)


@given(st.lists(_answers, min_size=1, max_size=6), st.data())
def test_a_row_read_while_it_was_written_is_never_history_by_more_than_the_tolerance(
    answers: list[Answer], data: st.DataObject
) -> None:
    """With our clock right, what ends after the sync began is news, whatever the server's clock says."""
    clocks = Clocks()
    for n, answer in enumerate(answers):
        stamps = tuple(stamp for stamp in answer.stamps_ms if stamp <= answer.at_ms)
        Answer(answer.server_ms, stamps, answer.at_ms).tell(clocks, 10 * n)
    assert clocks.began_ms(0) + clocks.lead_ms <= NOW_MS + answers[0].at_ms + MINUTE_MS
