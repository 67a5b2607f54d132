"""How snapshots are laid out, and the one word that says how a target is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.masking import Secrets
from exporter.model import CounterValue, Fault, SetApart, TargetSnapshot
from exporter.web.status.model import STATES, ReloadStatus, State, status
from exporter.web.status.resources import ResourceSum, ResourceUse
from tests.fake_runs import a_run
from tests.status_states import (
    ABOUT,
    DRIFTING,
    EVERY,
    FAILING,
    FOUND_OUT,
    FULL,
    GOOD,
    HOSTILE,
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


def test_what_the_jobs_in_flight_asked_for_is_added_up_exactly() -> None:
    (target,) = status_of(OK).targets
    assert target.resources == ResourceUse(
        in_use=ResourceSum(cores=28.3, gpus=3, memory_gibibytes=56.3, jobs=14, jobs_left_out=10),
        waiting=ResourceSum(cores=278.1, gpus=57, memory_gibibytes=1608.1, jobs=43, jobs_left_out=5),
    )
    assert target.resource_jobs["P100_1Gpu_2.1Core_4.1GiB"] == {"LAUNCHING": 1, "QUEUING": 40, "RUNNING": 3}
    assert target.resource_jobs[""] == {"RUNNING": 6}
    assert target.unreadable_specs == ("2Core_4MiB", HOSTILE)


def test_a_job_in_an_undocumented_status_is_in_use() -> None:
    totals = replace(FULL, resource_jobs={("8Gpu_96Core_1GiB", "PONDERING"): 2})
    (target,) = status_of(replace(OK, totals=totals)).targets
    assert target.resources == ResourceUse(ResourceSum(192, 16, 2, 2, 0), ResourceSum())


def test_what_is_named_of_unreadable_specs_is_bounded() -> None:
    totals = replace(FULL, unreadable_specs=tuple(f"{number}Tpu" for number in range(500)))
    (target,) = status_of(replace(OK, totals=totals)).targets
    assert target.unreadable_specs == tuple(f"{number}Tpu" for number in range(20))


def test_what_is_not_known_yet_is_none_or_empty() -> None:
    (target,) = status_of(WAITING).targets
    assert (target.resources, target.resource_jobs, target.unreadable_specs) == (None, {}, ())
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
    specs = (f"{token}_2Core", f"{token[5:]}_2Core")
    totals = replace(
        FULL,
        rows_unreadable=1,
        set_apart=(row,),
        resource_jobs={(spec, "RUNNING"): 1 for spec in specs},
        unreadable_specs=specs,
    )
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
    assert target.unreadable_specs == ("<secret>_2Core", "<secret>_2Core")
    # Specs that look the same are one, so that no job is lost.
    assert target.resource_jobs == {"<secret>_2Core": {"RUNNING": 2}}
    assert shown.reload.problems == ("found <secret>",)
