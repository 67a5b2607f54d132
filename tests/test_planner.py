"""What a poll asks, and what that costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import IN_FLIGHT_STATUSES, OTHER, STATUSES, TERMINAL_STATUSES
from exporter.sync.ledger import Audit, FoundBy, GoneJob, JobRef, TargetState
from exporter.sync.planner import (
    MAX_ID_QUERIES,
    ListFilter,
    ListRequest,
    Schedule,
    StatusTotals,
    audit_is_due,
    audited_statuses,
    count_difference,
    evaluate_audit,
    exclude_statusless,
    full_sync_cost,
    full_sync_reason,
    gone_to_ask_for,
    is_small,
    list_filters,
    may_repeat_full_sync,
    status_filters,
    sum_totals,
    window_candidates,
    window_start,
    window_statuses,
)
from exporter.sync.server_traits import Filters, value_batches
from tests.fake_api import a_target
from tests.snapshots import TOTALS

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
    ("left_ms", "before_ms", "now_ms", "asked"),
    [
        pytest.param(50_000, 40_000, 50_999, False, id="the poll that it left at"),
        pytest.param(50_000, 40_000, 51_000, True, id="a second later"),
        pytest.param(50_000, 40_000, 80_000, True, id="the poll after that"),
        pytest.param(50_000, 80_000, 110_000, True, id="half a minute and a minute"),
        pytest.param(50_000, 200_000, 305_999, False, id="not yet four minutes"),
        pytest.param(50_000, 200_000, 306_000, True, id="four minutes"),
        pytest.param(50_000, 306_000, 561_999, False, id="not yet eight minutes"),
        pytest.param(90_000, 40_000, 80_000, False, id="a clock that went back"),
    ],
)
def test_a_job_that_is_gone_is_asked_for_at_times_that_double(
    left_ms: int, before_ms: int, now_ms: int, asked: bool
) -> None:
    state = summary(watermark_ms=before_ms, gone=(GoneJob(7, 1_000, left_ms),))
    assert gone_to_ask_for(state, now_ms, 1_001) == ((7,) if asked else ())
    assert gone_to_ask_for(state, now_ms, 1_000) == ()


def test_a_job_that_was_deleted_costs_few_requests() -> None:
    left_ms, polls = NOW_MS, range(NOW_MS, NOW_MS + 24 * HOUR_MS, 30_000)
    states = [summary(watermark_ms=at_ms, gone=(GoneJob(7, 1_000, left_ms),)) for at_ms in polls]
    assert sum(len(gone_to_ask_for(state, state.watermark_ms + 30_000, NOW_MS)) for state in states) == 13
    many = summary(gone=tuple(GoneJob(n, 1_000, NOW_MS - 30_000) for n in range(100)))
    assert gone_to_ask_for(many, NOW_MS, NOW_MS) == tuple(range(MAX_ID_QUERIES))


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
        pytest.param({"scope": frozenset({"A"})}, {"job_types": ("A",)}, Filters(), None, id="the same ones"),
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


@pytest.mark.parametrize(
    ("past", "lookback_ms", "reason"),
    [
        pytest.param({"watermark_ms": NOW_MS - 600_000}, 24 * HOUR_MS, None, id="no gap yet"),
        pytest.param({"watermark_ms": NOW_MS - 600_001}, 24 * HOUR_MS, "gap", id="a gap"),
        pytest.param(
            {"covered_from_ms": NOW_MS - 24 * HOUR_MS + 600_000}, 24 * HOUR_MS, None, id="within the overlap"
        ),
        pytest.param(
            {"covered_from_ms": NOW_MS - 24 * HOUR_MS + 600_001}, 24 * HOUR_MS, "first", id="beyond it"
        ),
        pytest.param({"covered_from_ms": 600_000}, None, None, id="all jobs ever, but for the overlap"),
        pytest.param({"covered_from_ms": 600_001}, None, "first", id="no limit any more"),
        pytest.param({"listed": 10_000, "full_sync_ms": 0}, 24 * HOUR_MS, "scheduled", id="its time"),
        pytest.param(
            {"rows_unreadable": 1, "listed": 10_000, "full_sync_ms": NOW_MS - 600_000},
            24 * HOUR_MS,
            "drift",
            id="an unreadable row may be readable by now",
        ),
        pytest.param(
            {"rows_unreadable": 1, "listed": 10_000, "full_sync_ms": NOW_MS - 599_999},
            24 * HOUR_MS,
            None,
            id="it was read a moment ago",
        ),
        pytest.param(
            {"rows_unreadable": 1, "listed": 10_001, "full_sync_ms": NOW_MS - 600_000},
            24 * HOUR_MS,
            None,
            id="not on a large target",
        ),
        pytest.param(
            {"rows_unreadable": 0, "listed": 10_000, "full_sync_ms": NOW_MS - 600_000},
            24 * HOUR_MS,
            None,
            id="no unreadable row",
        ),
    ],
)
def test_everything_is_read_from_the_very_limit_on(
    past: dict[str, object], lookback_ms: int | None, reason: str | None
) -> None:
    schedule = replace(SCHEDULE, lookback_ms=lookback_ms)
    told = full_sync_reason(
        summary(**past), a_target(), Filters(), schedule, NOW_MS, NOW_MS, catching_up=False, page_size=100
    )
    assert told == reason


def test_totals_that_were_too_low_are_compared_with_everything() -> None:
    told = full_sync_reason(
        summary(),
        a_target(),
        Filters(),
        SCHEDULE,
        NOW_MS,
        NOW_MS,
        catching_up=False,
        page_size=100,
        total_was_low=True,
    )
    assert told == "filters"


@pytest.mark.parametrize(
    ("listed", "ago_ms", "expected"), [(10_000, 0, True), (10_001, 599_999, False), (10_001, 600_000, True)]
)
def test_a_large_target_is_not_read_whole_at_each_difference(
    listed: int, ago_ms: int, expected: bool
) -> None:
    state = summary(listed=listed, full_sync_ms=NOW_MS - ago_ms)
    assert may_repeat_full_sync(state, SCHEDULE, 100, NOW_MS) is expected


def test_two_pages_of_jobs_are_read_at_every_poll() -> None:
    assert is_small(400, page_size=200)
    assert not is_small(401, page_size=200)


@pytest.mark.parametrize(
    ("listed", "page_size", "requests"), [(0, 200, 2), (1_899, 200, 11), (1_900, 200, 12), (5, 1, 7)]
)
def test_a_full_sync_costs_its_pages_which_overlap_by_a_twentieth(
    listed: int, page_size: int, requests: int
) -> None:
    assert full_sync_cost(summary(listed=listed), page_size) == requests


def test_jobs_in_flight_are_listed_however_old_and_finished_ones_within_the_lookback() -> None:
    target = a_target(job_types=("A", "B"))
    assert status_filters(target, Filters(), "RUNNING", 9_000) == (ListFilter(("A", "B"), ("RUNNING",)),)
    assert status_filters(target, Filters(job_types="single"), "FINISHED", 9_000) == (
        ListFilter(("A",), ("FINISHED",), 9_000),
        ListFilter(("B",), ("FINISHED",), 9_000),
    )


@pytest.mark.parametrize("found_by", list(FoundBy))
def test_a_request_says_whether_it_asks_for_jobs_in_flight(found_by: FoundBy) -> None:
    request = ListRequest(ListFilter(), found_by, is_whole=False)
    assert request.in_flight is (found_by is FoundBy.IN_FLIGHT)


@pytest.mark.parametrize(
    ("totals", "expected"), [((), 0), ((0, 1), 1), ((1, 2), 3), ((1, None), None), ((None, 1), None)]
)
def test_totals_add_up_unless_one_is_missing(totals: tuple[int | None, ...], expected: int | None) -> None:
    assert sum_totals(totals) == expected


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


@pytest.mark.parametrize(
    ("created_ms", "rows_since", "start_ms"),
    [
        pytest.param([100, 200, 300], [(300, 199), (200, 400), (100, 600)], 300, id="the cheapest"),
        pytest.param([100, 200, 300], [(300, 200), (200, 200)], 200, id="one page saves one id"),
        pytest.param([100, 200, 300], [(300, 0), (200, 200)], 300, id="of two equal ones the later"),
        pytest.param([100], [(100, 199)], 100, id="the window lists a job created at its start"),
        pytest.param([100, 9_000], [(100, 200)], 9_000, id="nor need one at the base be asked for by id"),
    ],
)
def test_a_window_starts_where_that_costs_the_fewest_requests(
    created_ms: list[int], rows_since: list[tuple[int, int]], start_ms: int
) -> None:
    assert window_start(9_000, vanished(*created_ms), rows_since, 200, ids_work=True) == start_ms


@pytest.mark.parametrize(
    ("created_ms", "expected"),
    [
        ([5, 7, 7, 6], (7, 6, 5)),
        (list(range(1, 17)), (15, 13, 11, 9, 7, 5, 3, 1)),
        (list(range(1, 18)), (16, 14, 12, 10, 8, 6, 4, 2, 1)),
    ],
)
def test_of_many_creation_times_every_eighth_part_is_weighed(
    created_ms: list[int], expected: tuple[int, ...]
) -> None:
    assert window_candidates(vanished(*created_ms)) == expected


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
        pytest.param((5, 4), (6, 5), False, id="the ledger came up to the API's number"),
        pytest.param((5, 6), (4, 5), False, id="the ledger came down to the API's number"),
    ],
)
def test_only_a_difference_that_stays_is_one(
    first: tuple[int, int], second: tuple[int, int], persists: bool
) -> None:
    """Of each audit: the API's total, the ledger's number."""
    one, two = (({"STOPPED": total}, {"STOPPED": ledger}) for total, ledger in (first, second))
    audit = audit_of(*two, before=audit_of(*one))
    assert (audit.persists, audit.drift["STOPPED"]) == (persists, second[0] - second[1])


def test_one_difference_that_stays_is_enough_whatever_other_statuses_show() -> None:
    ledger = {"STOPPED": 4, "FINISHED": 4}
    first = audit_of({"STOPPED": 5, "FINISHED": 4}, ledger)
    assert audit_of({"STOPPED": 5, "FINISHED": 5}, ledger, before=first).persists


def test_a_difference_right_after_a_full_sync_stands_and_calls_for_no_other() -> None:
    ledger = {"STOPPED": 4, "FINISHED": 4, "RUN_FAILED": 4}
    api = {"STOPPED": 5, "FINISHED": 3, "RUN_FAILED": 4}
    synced = audit_of(api, ledger, before=replace(audit_of(api, ledger), standing=None))
    assert (synced.standing, synced.persists, synced.again) == ({"STOPPED": 1}, False, False)
    later = audit_of({**api, "FINISHED": 4}, ledger, before=synced)
    assert (later.standing, later.persists, later.again) == ({"STOPPED": 1}, False, False)


def test_a_difference_is_looked_at_once_more_at_once_and_not_twice() -> None:
    agreed = audit_of({"STOPPED": 4}, {"STOPPED": 4})
    differs = audit_of({"STOPPED": 5}, {"STOPPED": 4}, before=agreed)
    assert (agreed.again, differs.again) == (False, True)
    assert not audit_of({"STOPPED": 6}, {"STOPPED": 4}, before=differs).again


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
        pytest.param({"STOPPED": 0}, {"STOPPED": 0, "RUNNING": 1}, False, id="a status not compared before"),
        pytest.param({"STOPPED": 1, "RUNNING": 0}, {"STOPPED": 1, "RUNNING": 0}, True, id="one of two"),
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
        (((5, 4), (6, 5)), 1),
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


def test_where_two_looks_contradict_each_other_the_later_number_of_the_ledger_holds() -> None:
    assert StatusTotals(7, 6).nearer(StatusTotals(5, 5)) == StatusTotals(6, 6)


def test_rows_without_a_status_are_taken_from_statuses_of_which_the_api_counts_too_many() -> None:
    compared = {
        "FINISHED": StatusTotals(1, 3),
        "STOPPED": StatusTotals(5, 4),
        "RUN_FAILED": StatusTotals(9, 5),
    }
    assert exclude_statusless(compared, 3) == {
        "FINISHED": StatusTotals(1, 3),
        "STOPPED": StatusTotals(4, 4),
        "RUN_FAILED": StatusTotals(7, 5),
    }
    assert exclude_statusless(compared, 0) == compared


@pytest.mark.parametrize(
    ("horizon_ms", "most", "others"),
    [
        (None, 9, ("ARCHIVED", "PAUSED")),
        (500, 9, ("ARCHIVED", "PAUSED")),
        (501, 9, ("PAUSED",)),
        (None, 1, ("ARCHIVED",)),
    ],
)
def test_an_undocumented_status_is_audited_unless_it_has_jobs_from_before_the_lookback(
    horizon_ms: int | None, most: int, others: tuple[str, ...]
) -> None:
    listed = {("A", "ARCHIVED"): 1, ("B", "PAUSED"): 1, ("A", "RUNNING"): 1, ("A", OTHER): 1}
    oldest = {("A", "ARCHIVED"): 500, ("B", "PAUSED"): 9_000, ("A", "RUNNING"): 0}
    totals = replace(TOTALS, jobs=listed, oldest_created_ms=oldest)
    assert audited_statuses(totals, horizon_ms, most) == (*STATUSES, *others)


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
