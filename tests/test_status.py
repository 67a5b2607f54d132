"""How snapshots are laid out, and the one word that says how a target is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.masking import Secrets
from exporter.model import CounterValue, Fault, SetApart, TargetSnapshot
from exporter.web.status.model import STATES, ReloadStatus, State, status
from tests.fake_runs import a_run
from tests.status_states import (
    ABOUT,
    DRIFTING,
    EVERY,
    FAILING,
    FOUND_OUT,
    FULL,
    GOOD,
    JOBS,
    LATE,
    NOW_MS,
    OK,
    RESTORED,
    STALE,
    SYNCING,
    UNREADABLE,
    WAITING,
    status_of,
)


@pytest.mark.parametrize(
    ("snapshot", "state"),
    [
        (OK, "ok"),
        (FAILING, "failing"),
        (STALE, "stale"),
        (LATE, "late"),
        (WAITING, "waiting"),
        (RESTORED, "waiting"),
        (SYNCING, "syncing"),
        (DRIFTING, "drifting"),
    ],
)
def test_a_target_is_in_its_worst_state(snapshot: TargetSnapshot, state: State) -> None:
    (target,) = status_of(snapshot).targets
    assert target.state == state


def test_a_difference_that_one_audit_shows_is_told_and_is_no_drift_yet() -> None:
    (target,) = status_of(replace(OK, totals=replace(FULL, drift={"FINISHED": 2}))).targets
    assert (target.state, target.drift, target.drift_lasts) == ("ok", {"FINISHED": 2}, False)


def test_a_target_with_rows_set_apart_is_well_and_names_them() -> None:
    (target,) = status_of(UNREADABLE).targets
    assert (target.state, target.rows_unreadable, len(target.set_apart)) == ("ok", 23, 20)
    assert [row.job_id for row in target.set_apart[:2]] == ["9007199254740993", None]


def test_what_is_told_of_rows_set_apart_is_bounded() -> None:
    row = SetApart("1", 1, "S" * 9000, NOW_MS, "p" * 9000)
    totals = replace(FULL, rows_unreadable=500, set_apart=(row,) * 500)
    (target,) = status_of(replace(OK, totals=totals)).targets
    assert len(target.set_apart) == 20
    assert (len(target.set_apart[0].status), len(target.set_apart[0].problem)) == (200, 400)


def test_what_was_found_out_about_a_server_is_told() -> None:
    (target,) = status_of(FOUND_OUT).targets
    assert (target.unlisted_jobs, target.page_size) == (3, 100)
    assert target.filters == {"statuses": False, "totals": False}
    (other,) = status_of(OK).targets
    assert (other.rows_unreadable, other.set_apart, other.unlisted_jobs, other.page_size) == (
        0,
        (),
        0,
        None,
    )


def test_every_state_is_counted() -> None:
    assert status_of(*EVERY).states == dict.fromkeys(STATES, 1) | {"waiting": 2}
    assert status_of().states == dict.fromkeys(STATES, 0)


@pytest.mark.parametrize(
    ("ago_seconds", "took_seconds", "state"), [(90, 0, "ok"), (91, 0, "late"), (91, 2, "ok"), (93, 2, "late")]
)
def test_a_target_is_late_after_three_intervals_and_a_poll(
    ago_seconds: int, took_seconds: float, state: State
) -> None:
    poll = replace(GOOD, last_success_ms=NOW_MS - ago_seconds * 1000, duration_seconds=took_seconds)
    (target,) = status_of(replace(OK, poll=poll)).targets
    assert target.state == state


def test_jobs_are_added_up() -> None:
    totals = replace(FULL, jobs={**JOBS, ("FRAME_EXTRACT", "PONDERING"): 1000})
    (target,) = status_of(replace(OK, totals=totals)).targets
    assert target.listed == sum(JOBS.values()) + 1000
    in_flight = {"QUEUING", "LAUNCHING", "RUNNING", "UPLOADING"}
    assert target.in_flight == sum(n for (_, status), n in JOBS.items() if status in in_flight) + 1000
    assert target.jobs["FRAME_EXTRACT"]["PONDERING"] == 1000


def test_failures_are_added_up_by_code_the_most_frequent_first() -> None:
    failures = {
        ("FRAME_EXTRACT", "RUN_FAILED", "3101"): CounterValue(2),
        ("PACKAGE_IMPORT", "RUN_FAILED", "4002"): CounterValue(7),
        ("PACKAGE_IMPORT", "SUBMIT_FAILED", "3101"): CounterValue(3),
        ("PACKAGE_IMPORT", "SUBMIT_FAILED", ""): CounterValue(0),
    }
    (target,) = status_of(replace(OK, totals=replace(FULL, failures=failures))).targets
    assert list(target.job_failures.items()) == [("4002", 7), ("3101", 5)]


def test_what_is_not_known_yet_is_none_or_empty() -> None:
    (target,) = status_of(WAITING).targets
    assert (target.listed, target.in_flight, target.last_poll_ms, target.baseline_ms) == (None,) * 4
    assert (target.jobs, target.drift, target.recent_failures) == ({}, {}, ())


def test_the_rest_of_an_endpoint_is_that_of_all_its_targets() -> None:
    about = replace(ABOUT, rests_until_ms={OK.target.endpoint: NOW_MS + 7})
    elsewhere = replace(FAILING, target=replace(FAILING.target, endpoint="https://other.test"))
    ok, waiting, other = status_of(OK, WAITING, elsewhere, about=about).targets
    assert ok.endpoint_rests_until_ms == waiting.endpoint_rests_until_ms == NOW_MS + 7
    assert other.endpoint_rests_until_ms is None


def test_the_clocks_and_the_poll_under_way_are_found_by_target() -> None:
    about = replace(ABOUT, polling_since_ms={OK.target.key: NOW_MS - 1500}, clock_skews={"mapping": -61.0})
    ok, failing = status_of(OK, FAILING, about=about).targets
    assert (ok.polling_since_ms, ok.clock_skew_seconds) == (NOW_MS - 1500, None)
    assert (failing.polling_since_ms, failing.clock_skew_seconds) == (None, -61.0)


def test_texts_of_servers_are_masked_again_where_they_are_shown() -> None:
    """The ledger may have got them from a process that did not know the secret."""
    token = "MIIQtoken-0123456789-abcdefghijklmnop"
    masked = Secrets.of(token).masked
    fault = Fault("contract", f"found {token}", NOW_MS, 400, token[:20], "https://octopus.test", token[7:30])
    failed = a_run(1, msg_code=token, msg_error=f"no: {token.encode().hex()}", data_id=token[:20])
    row = SetApart("1", 1, token, NOW_MS, f"status: {token}, expected a text")
    totals = replace(FULL, rows_unreadable=1, set_apart=(row,))
    snapshot = replace(OK, poll=replace(GOOD, error=fault), totals=totals)
    about = replace(ABOUT, reload=ReloadStatus(False, NOW_MS, (f"found {token}",)))
    shown = status(
        [snapshot],
        about,
        version="1",
        now_ms=NOW_MS,
        missing=[],
        progress={},
        recent_failures={OK.target.key: [failed]},
        masked=masked,
    )
    (target,) = shown.targets
    assert target.error == replace(fault, message="found <secret>", code="<secret>", request_id="<secret>")
    (run,) = target.recent_failures
    assert (run.job_id, run.msg_code, run.msg_error, run.data_id) == (
        "1",
        "<secret>",
        "no: <secret>",
        "<secret>",
    )
    assert (target.set_apart[0].status, target.set_apart[0].problem) == (
        "<secret>",
        "status: <secret>, expected a text",
    )
    assert shown.reload.problems == ("found <secret>",)
