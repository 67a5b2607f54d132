"""What a poll asks, and what that costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import IN_FLIGHT_STATUSES, TERMINAL_STATUSES
from exporter.sync.ledger import Audit, JobRef, TargetState
from exporter.sync.planner import (
    Schedule,
    StatusTotals,
    audit_is_due,
    count_difference,
    evaluate_audit,
    full_sync_reason,
    list_filters,
    window_candidates,
    window_start,
    window_statuses,
)
from exporter.sync.server_traits import Filters, value_batches
from tests.fake_api import a_target

HOUR_MS = 3_600_000
SCHEDULE = Schedule(
    lookback_ms=24 * HOUR_MS,
    overlap_ms=600_000,
    full_sync_interval_ms=24 * HOUR_MS,
    audit_interval_ms=600_000,
    gap_ms=600_000,
)
NOW_MS = 100 * HOUR_MS


def summary(**fields: object) -> TargetState:
    given_: dict[str, object] = {
        "watermark_ms": NOW_MS - 30_000,
        "covered_from_ms": NOW_MS - 25 * HOUR_MS,
        "full_sync_ms": NOW_MS - HOUR_MS,
        "horizon_ms": None,
        "scope": frozenset({"*"}),
        "listed": 1_000_000,
        "invented": (),
        "filters": Filters(),
        "audit": None,
        "endpoint": "http://octopus.test",
    }
    return TargetState(**(given_ | fields))  # type: ignore[arg-type]  # spelled by the tests


@pytest.mark.parametrize(
    ("past", "target", "filters", "reason"),
    [
        pytest.param({}, {}, Filters(), None, id="nothing calls for one"),
        pytest.param({"scope": frozenset()}, {}, Filters(), "first", id="nothing is known"),
        pytest.param({"scope": frozenset({"A"})}, {}, Filters(), "first", id="more job types"),
        pytest.param(
            {"scope": frozenset({"A", "B"})}, {"job_types": ("A",)}, Filters(), None, id="fewer job types"
        ),
        pytest.param({"scope": frozenset({"A"})}, {"job_types": ("B",)}, Filters(), "first", id="others"),
        pytest.param({}, {"job_types": ("A",)}, Filters(), None, id="one instead of all"),
        pytest.param({"covered_from_ms": NOW_MS - HOUR_MS}, {}, Filters(), "first", id="a longer lookback"),
        pytest.param({"full_sync_ms": NOW_MS - 24 * HOUR_MS}, {}, Filters(), "scheduled", id="its time"),
        pytest.param({"full_sync_ms": NOW_MS + 999 * HOUR_MS}, {}, Filters(), "scheduled", id="no past time"),
        pytest.param({"full_sync_ms": NOW_MS + HOUR_MS}, {}, Filters(), None, id="a clock put back a bit"),
        pytest.param({}, {}, Filters(statuses="none"), "filters", id="no filter by status"),
        pytest.param({}, {}, Filters(statuses="single"), None, id="a filter that takes one status"),
        pytest.param({}, {}, Filters(start_time=False), "filters", id="no filter by time"),
        pytest.param({"endpoint": "http://other.test"}, {}, Filters(), "gap", id="another endpoint"),
        pytest.param({"endpoint": ""}, {}, Filters(), None, id="an endpoint that was not recorded"),
        pytest.param({"audit": Audit(0, {"STOPPED": 1})}, {}, Filters(), None, id="one audit differs"),
        pytest.param({"audit": Audit(0, {"STOPPED": 1}, True)}, {}, Filters(), "drift", id="two audits do"),
    ],
)
def test_when_everything_is_read(
    past: dict[str, object], target: dict[str, object], filters: Filters, reason: str | None
) -> None:
    known = summary(**past)
    told = full_sync_reason(
        known, a_target(**target), filters, SCHEDULE, NOW_MS, NOW_MS, catching_up=False, page_size=100
    )
    assert told == reason


@pytest.mark.parametrize(
    ("away_ms", "catching_up", "listed", "reason"),
    [
        (30_000, False, 10_000, None),
        (30_000, True, 10_000, "gap"),
        (30_000, True, 10_001, None),
        (601_000, False, 10_001, "gap"),
    ],
)
def test_what_happened_while_nobody_looked_is_looked_for(
    away_ms: int, catching_up: bool, listed: int, reason: str | None
) -> None:
    known = summary(watermark_ms=NOW_MS - away_ms, listed=listed)
    told = full_sync_reason(
        known, a_target(), Filters(), SCHEDULE, NOW_MS, NOW_MS, catching_up=catching_up, page_size=100
    )
    assert told == reason


def vanished(*created_ms: int) -> list[JobRef]:
    return [JobRef(number, at) for number, at in enumerate(created_ms)]


def start(
    base_ms: int, jobs: list[JobRef], density: float, page_size: int = 200, ids_work: bool = True
) -> int:
    """Plan with `density` jobs a millisecond in the ledger, up to 10,000 ms."""
    rows = [(cut, int((10_000 - cut) * density)) for cut in window_candidates(jobs)]
    return window_start(base_ms, jobs, rows, 200, ids_work=ids_work)


def test_a_window_goes_back_to_its_base_where_nothing_vanished() -> None:
    assert start(9_000, [], density=1) == 9_000


def test_one_job_stuck_for_a_year_is_asked_for_by_id() -> None:
    assert start(9_000, vanished(1), density=1) == 9_000


def test_many_young_ones_that_end_at_once_are_listed_by_the_window() -> None:
    assert start(9_000, vanished(*range(8_000, 9_000)), density=1) == 8_000


def test_a_stuck_one_among_many_young_does_not_draw_the_window_back() -> None:
    assert start(9_000, vanished(1, *range(8_000, 9_000)), density=10) > 7_999


def test_where_no_id_can_be_asked_for_the_window_covers_all() -> None:
    assert start(9_000, vanished(1, 8_500), density=1, ids_work=False) == 1


@given(
    st.lists(st.integers(0, 10_000), max_size=300),
    st.integers(0, 10_000),
    st.sampled_from([0.01, 0.1, 1.0, 10.0]),
)
def test_a_plan_costs_no_more_than_asking_for_each_by_id(
    created_ms: list[int], base_ms: int, density: float
) -> None:
    jobs = vanished(*created_ms)
    start_ms = start(base_ms, jobs, density)
    assert start_ms <= base_ms
    window = int((10_000 - start_ms) * density) // 200 if start_ms < base_ms else 0
    by_id = sum(job.created_ms < start_ms for job in jobs)
    assert window + by_id <= sum(job.created_ms < base_ms for job in jobs)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=300))
def test_few_cuts_are_weighed_and_the_oldest_is_among_them(created_ms: list[int]) -> None:
    found = window_candidates(vanished(*created_ms))
    assert len(found) <= 17
    assert min(created_ms) in found
    assert set(found) <= set(created_ms)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("array", [("A", "B")]),
        ("comma", [("A,B",)]),
        ("single", [("A",), ("B",)]),
        ("none", [()]),
    ],
)
def test_an_array_is_sent_as_the_server_takes_it(style: str, expected: list[tuple[str, ...]]) -> None:
    assert value_batches(style, ("A", "B")) == expected  # type: ignore[arg-type]  # one of the styles


def test_no_request_has_more_values_than_the_api_takes() -> None:
    target = a_target(job_types=tuple(f"T{number}" for number in range(45)))
    listings = list_filters(target, Filters(), None, IN_FLIGHT_STATUSES)
    assert [len(listing.job_types) for listing in listings] == [20, 20, 5]


def test_an_audit_is_due_at_its_interval_and_at_once_after_a_difference() -> None:
    agreed, differed = (evaluate_audit(None, {"STOPPED": StatusTotals(2, n)}, NOW_MS - 1_000) for n in (2, 0))
    assert audit_is_due(summary(audit=None), SCHEDULE, NOW_MS)
    assert not audit_is_due(summary(audit=agreed), SCHEDULE, NOW_MS)
    assert audit_is_due(summary(audit=agreed), SCHEDULE, NOW_MS + 600_000)
    assert audit_is_due(summary(audit=agreed), SCHEDULE, NOW_MS - 999 * HOUR_MS)
    assert audit_is_due(summary(audit=differed), SCHEDULE, NOW_MS)
    followed = evaluate_audit(differed, {"STOPPED": StatusTotals(3, 2)}, NOW_MS)
    assert not audit_is_due(summary(audit=followed), SCHEDULE, NOW_MS)


def audit_of(totals: dict[str, int], ledger: dict[str, int], before: Audit | None = None) -> Audit:
    return evaluate_audit(
        before, {status: StatusTotals(total, ledger[status]) for status, total in totals.items()}, NOW_MS
    )


@pytest.mark.parametrize(
    ("first", "second", "persists"),
    [
        pytest.param((5, 4), (5, 4), True, id="it stays"),
        pytest.param((5, 4), (6, 4), False, id="another one"),
        pytest.param((5, 5), (5, 4), False, id="the first of its kind"),
        pytest.param((4, 4), (4, 4), False, id="none"),
        pytest.param((5, 4), (7, 6), False, id="more end at each poll, and one at each audit"),
        pytest.param((3, 4), (3, 4), True, id="too many here"),
        pytest.param((3, 4), (1, 2), False, id="fewer at each poll, and one less at each audit"),
    ],
)
def test_only_a_difference_that_stays_is_one(
    first: tuple[int, int], second: tuple[int, int], persists: bool
) -> None:
    """Of each audit: the API's total, the ledger's number."""
    one, two = (({"STOPPED": total}, {"STOPPED": ledger}) for total, ledger in (first, second))
    audit = audit_of(*two, before=audit_of(*one))
    assert (audit.persists, audit.drift["STOPPED"]) == (persists, second[0] - second[1])


def test_what_is_in_flight_is_listed_anew_by_every_poll() -> None:
    first = audit_of({"RUNNING": 5}, {"RUNNING": 4})
    assert not audit_of({"RUNNING": 5}, {"RUNNING": 4}, before=first).persists


@pytest.mark.parametrize(
    ("first", "second", "lasts"),
    [
        pytest.param({"STOPPED": 0}, {"STOPPED": 1}, False, id="one audit alone"),
        pytest.param({"STOPPED": 1}, {"STOPPED": 1}, True, id="two audits"),
        pytest.param({"STOPPED": 1}, {"STOPPED": 3}, True, id="it grows"),
        pytest.param({"STOPPED": 1}, {"STOPPED": -1}, False, id="to the other side"),
        pytest.param({"STOPPED": 1, "RUNNING": 0}, {"STOPPED": 0, "RUNNING": 1}, False, id="another status"),
        pytest.param({"RUNNING": 2}, {"RUNNING": 2}, True, id="in flight"),
    ],
)
@pytest.mark.parametrize("after_full_sync", [False, True])
def test_a_difference_lasts_that_two_audits_in_a_row_show(
    first: dict[str, int], second: dict[str, int], lasts: bool, after_full_sync: bool
) -> None:
    before = audit_of(first, dict.fromkeys(first, 0))
    if after_full_sync:
        before = replace(before, standing=None)
    assert not before.lasts
    assert audit_of(second, dict.fromkeys(second, 0), before=before).lasts == lasts


@pytest.mark.parametrize(
    ("looks", "difference"),
    [
        (((5, 4),), 1),
        (((5, 4), (5, 5)), 0),
        (((5, 4), (5, 6)), 0),
        (((5, 4), (8, 5), (7, 5)), 1),
        (((3, 5), (4, 5), (3, 5)), -1),
        (((5, 5), (6, 5)), 0),
    ],
)
def test_of_several_looks_the_least_difference_counts(
    looks: tuple[tuple[int, int], ...], difference: int
) -> None:
    """Of each look: the API's total, the ledger's number."""
    compared = StatusTotals(*looks[0])
    for look in looks[1:]:
        compared = StatusTotals(*look).nearer(compared)
    assert compared.difference == difference


def test_an_audit_without_totals_is_from_an_older_ledger() -> None:
    assert audit_of({"STOPPED": 5}, {"STOPPED": 4}, before=Audit(0, {"STOPPED": 1})).persists
    assert not audit_of({"STOPPED": 5}, {"STOPPED": 4}).persists


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ((2, 2, 2), 0),  # all of them came since the poll began
        ((2, 3, 3), 0),  # and one more while it was asked
        ((2, 2, 3), 0),
        ((1, 0, 1), 1),
        ((1, 1, 3), 0),
        ((3, 1, 4), 2),
        ((-1, 0, -1), -1),
        ((-1, 1, 0), -1),
    ],
)
def test_jobs_that_came_since_the_poll_began_are_no_surplus(asked: tuple[int, int, int], left: int) -> None:
    assert count_difference(*asked) == left


@pytest.mark.parametrize(
    ("filters", "in_flight", "statuses"),
    [
        (Filters(), 399, ()),
        (Filters(), 400, TERMINAL_STATUSES),
        (Filters(statuses="comma"), 400, TERMINAL_STATUSES),
        (Filters(statuses="single"), 4_000, ()),
        (Filters(statuses="none"), 4_000, ()),
    ],
)
def test_a_window_leaves_out_what_was_listed_where_that_spares_requests(
    filters: Filters, in_flight: int, statuses: tuple[str, ...]
) -> None:
    assert window_statuses(filters, in_flight, page_size=200) == statuses


def test_a_window_of_some_statuses_is_one_listing_where_arrays_work() -> None:
    (listing,) = list_filters(a_target(), Filters(), 9_000, TERMINAL_STATUSES)
    assert (listing.statuses, listing.start_time_ms) == (TERMINAL_STATUSES, 9_000)
    (joined,) = list_filters(a_target(), Filters(statuses="comma"), 9_000, TERMINAL_STATUSES)
    assert joined.statuses == (",".join(TERMINAL_STATUSES),)
