"""When new series are released, whoever scrapes, restarts or fails meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.exposition.hold import RETRY_SECONDS, UNSEEN_SECONDS, Held, Hold
from exporter.model import SeriesKey
from tests.fake_api import a_target

TARGET, OTHER = a_target().key, a_target(workspace="7").key
KEYS = tuple(SeriesKey("failures", "FRAME_EXTRACT", "RUN_FAILED", code) for code in ("1", "2", "3"))
ONE = {TARGET: frozenset(KEYS[:1])}
BOTH = {TARGET: frozenset(KEYS[:2])}


def test_the_time_counts_from_the_first_answer() -> None:
    hold = Hold(90)
    hold.shown(ONE, 0)
    for now in (10, 50, 99):
        hold.answered(ONE, now)
        assert hold.due(now) == {}
    assert hold.next_due() == 100
    assert hold.due(100) == ONE


def test_a_series_that_nobody_scrapes_waits_for_five_minutes() -> None:
    hold = Hold(90)
    hold.shown(ONE, 0)
    assert hold.next_due() == UNSEEN_SECONDS == 300
    hold.answered(ONE, 299)
    assert hold.next_due() == 389


def test_each_series_has_its_own_time() -> None:
    hold = Hold(90)
    hold.shown(ONE, 0)
    hold.answered(ONE, 10)
    hold.shown(BOTH, 20)
    hold.answered(BOTH, 40)
    assert hold.due(100) == ONE
    hold.released(TARGET, ONE[TARGET])
    hold.shown({TARGET: frozenset(KEYS[1:2])}, 101)
    assert hold.next_due() == 130


def test_an_answer_that_did_not_contain_a_series_does_not_count_for_it() -> None:
    hold = Hold(90)
    hold.shown(BOTH, 0)
    hold.answered(ONE, 10)
    hold.answered({OTHER: frozenset(KEYS)}, 10)
    assert hold.due(100) == ONE


def test_without_a_hold_the_first_answer_releases() -> None:
    hold = Hold(0)
    hold.shown(ONE, 0)
    assert hold.due(1) == {}
    hold.answered(ONE, 1)
    assert hold.due(1) == ONE


def test_another_time_holds_for_what_is_held_already() -> None:
    hold = Hold(90)
    hold.shown(ONE, 0)
    hold.answered(ONE, 10)
    hold.hold_for(20)
    assert hold.next_due() == 30


def test_a_release_that_fails_is_due_again_later_and_stops_no_other_target() -> None:
    hold = Hold(90)
    both = {**ONE, OTHER: frozenset(KEYS)}
    hold.shown(both, 0)
    hold.answered(both, 0)
    hold.failed(TARGET, 90)
    assert hold.due(90) == hold.due(94) == {OTHER: frozenset(KEYS)}
    assert hold.due(95) == both


def test_what_is_withdrawn_is_forgotten_and_begins_anew() -> None:
    hold = Hold(90)
    hold.shown(ONE, 0)
    hold.answered(ONE, 0)
    hold.shown({}, 50)
    assert (hold.due(1e9), hold.next_due(), list(hold.targets)) == ({}, None, [])
    hold.shown(ONE, 60)
    assert hold.next_due() == 360


def test_what_is_still_shown_at_0_after_a_release_is_held_anew() -> None:
    """A purge may have made the series another one."""
    hold = Hold(90)
    hold.shown(ONE, 0)
    hold.answered(ONE, 0)
    hold.released(TARGET, ONE[TARGET])
    assert hold.due(1e9) == {}
    hold.shown(ONE, 100)
    assert hold.next_due() == 400


# -- any schedule ----------------------------------------------------------------------------------------


@dataclass
class Scraper:
    """A Prometheus: it scrapes at its own moments, and keeps what it has seen of each series."""

    interval: int
    phase: int
    seen: dict[SeriesKey, list[int]] = field(default_factory=dict)


@dataclass
class World:
    """
    An exporter of one target, second by second: the ledger, what is rendered, and the scrapes under way.

    Shape: `values` and `released` are the ledger's; `failures` are how many releases it still refuses.
    """

    hold_seconds: int
    hold: Hold = field(init=False)
    values: dict[SeriesKey, int] = field(default_factory=dict)
    released: set[SeriesKey] = field(default_factory=set)
    failures: int = 0
    body: dict[SeriesKey, int] = field(default_factory=dict)
    held: Held = field(default_factory=dict)
    answers: list[tuple[int, Held]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hold = Hold(self.hold_seconds)

    def render(self, now: int) -> None:
        held = frozenset(self.values.keys() - self.released)
        self.body = {key: value * (key in self.released) for key, value in self.values.items()}
        self.held = {TARGET: held} if held else {}
        self.hold.shown(self.held, now)

    def scrape(self, scraper: Scraper, now: int, takes: int, *, breaks_off: bool = False) -> None:
        for key, value in self.body.items():
            scraper.seen.setdefault(key, []).append(value)
        if not breaks_off:
            self.answers.append((now + takes, self.held))

    def scrape_by(self, scrapers: list[Scraper], now: int, takes: int) -> None:
        for scraper in scrapers:
            if now % scraper.interval == scraper.phase % scraper.interval:
                self.scrape(scraper, now, takes)

    def happen(self, kind: str, now: int, takes: int) -> None:
        """Let one of the events of a schedule happen; "lazy" is no event of its own."""
        if kind == "commit":
            key = KEYS[(now + len(self.values)) % len(KEYS)]
            self.values[key] = self.values.get(key, 0) + 1
        elif kind == "restart":
            self.restart(now)
        elif kind == "refuse":
            self.failures += 1
        elif kind in ("stranger", "partial"):  # a scrape by somebody else, which may break off
            self.scrape(Scraper(1, 0), now, takes, breaks_off=kind == "partial")

    def end_answers(self, now: int) -> None:
        ended = [held for end, held in self.answers if end <= now]
        self.answers = [(end, held) for end, held in self.answers if end > now]
        for held in ended:
            self.hold.answered(held, now)

    def release_due(self, now: int) -> None:
        due = self.hold.due(now)
        next_due = self.hold.next_due()
        assert bool(due) == (next_due is not None and next_due <= now)
        for target, keys in due.items():
            if self.failures:
                self.failures -= 1
                self.hold.failed(target, now)
            else:
                self.released |= keys
                self.hold.released(target, keys)

    def restart(self, now: int) -> None:
        self.hold, self.answers = Hold(self.hold_seconds), []
        self.render(now)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, list[Scraper], dict[int, list[str]], int]:
    hold = draw(st.integers(1, 12) | st.integers(280, 300))
    scrapers = [Scraper(draw(st.integers(1, hold)), draw(st.integers(0, hold))) for _ in range(2)]
    end = 3 * hold + 20
    kinds = st.sampled_from(("commit", "commit", "restart", "refuse", "partial", "stranger", "lazy"))
    events = draw(st.lists(st.tuples(st.integers(0, end), kinds), max_size=30))
    by_time: dict[int, list[str]] = {}
    for at, kind in events:
        by_time.setdefault(at, []).append(kind)
    return hold, scrapers, by_time, draw(st.integers(0, 3))


@settings(deadline=None)
@given(schedules())
def test_whoever_scrapes_often_enough_sees_0_before_the_first_value(
    schedule: tuple[int, list[Scraper], dict[int, list[str]], int],
) -> None:
    hold_seconds, scrapers, events, takes = schedule
    world = World(hold_seconds)
    world.render(0)
    # All must be released in the end: after the last event, the time for one that nobody has seen and more.
    quiet_seconds = int(UNSEEN_SECONDS) + hold_seconds + 40 * int(RETRY_SECONDS)
    for now in range(max(events, default=0) + quiet_seconds):
        kinds = events.get(now, [])
        world.end_answers(now)
        world.scrape_by(scrapers, now, takes)
        for kind in kinds:
            world.happen(kind, now, takes)
        world.release_due(now)
        if "lazy" not in kinds:  # a round may end late: what is released is then shown later
            world.render(now)
    for scraper in scrapers:
        for key, value in world.values.items():
            seen = scraper.seen[key]
            assert seen[0] == 0
            assert seen == sorted(seen)
            assert seen[-1] == value


@pytest.mark.parametrize("hold_seconds", [0, 90])
def test_one_that_scrapes_less_often_may_miss_the_0(hold_seconds: int) -> None:
    """What the setting is for: the test above would fail without it."""
    world = World(hold_seconds)
    often, seldom = Scraper(5, 0), Scraper(hold_seconds + 20, 1)
    for now in range(1000):
        world.end_answers(now)
        world.scrape_by([often, seldom], now, 0)
        if now == hold_seconds + 22:
            world.values[KEYS[0]] = 20
        world.release_due(now)
        world.render(now)
    assert often.seen[KEYS[0]][0] == 0
    assert seldom.seen[KEYS[0]][0] == 20
