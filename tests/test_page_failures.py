"""Failed runs on the status page: when they are a headline, and what of them is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.runs import FailureGroup, FailureGroups, HourlyFailures
from exporter.web.status.failures import SHOWN_IDS, find_spike, mean_number, shown_failures, warning_above
from exporter.web.status.model import State
from exporter.web.status.overview import Headline, headlines
from exporter.web.status.wording import Language, Wording
from tests.failed_runs import failure_group
from tests.status_states import OK

GOOD: tuple[State, ...] = ("ok", "ok", "ok")
FAILING: tuple[State, ...] = ("ok", "stale", "ok")
LATE: tuple[State, ...] = ("late", "ok", "late")


def hour(
    runs: int, usual: float | None, *, of_3001: int | None = None, name: str = "perception"
) -> HourlyFailures:
    most = runs if of_3001 is None else of_3001
    kinds = {("FRAME_EXTRACT", "3001"): most, ("SCENARIO_TO_SIM", ""): runs - most}
    return HourlyFailures(
        replace(OK.target.key, project=name), runs, usual, {kind: n for kind, n in kinds.items() if n}
    )


def said(
    *hours: HourlyFailures, states: tuple[State, ...] = GOOD, language: Language = "en"
) -> list[tuple[str, str]]:
    lines = headlines(states, find_spike(hours), Wording(language), jobs_known=True)
    return [(line.severity, (line.title + line.more).striptags()) for line in lines]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            (
                "82 runs failed in the last hour, 70 of them FRAME_EXTRACT with 3001"
                " (usually 2 failures an hour)"
            ),
        ),
        ("zh", "最近 1 小时有 82 次运行失败，其中 70 次是 FRAME_EXTRACT，错误码 3001（平时每小时 2 次）"),  # noqa: RUF001
    ],
)
def test_a_spike_is_the_headline(language: Language, words: str) -> None:
    assert said(hour(82, 2.0, of_3001=70), language=language) == [("bad", words)]


def test_without_a_day_of_history_nothing_is_said_of_what_is_usual() -> None:
    assert said(hour(82, None)) == [
        ("bad", "82 runs failed in the last hour, all of them FRAME_EXTRACT with 3001")
    ]


def test_runs_without_a_code_say_so() -> None:
    assert said(hour(30, 1.0, of_3001=10)) == [
        (
            "bad",
            (
                "30 runs failed in the last hour, 20 of them SCENARIO_TO_SIM without a code,"
                " 10 FRAME_EXTRACT with 3001"
                " (usually 1 failure an hour)"
            ),
        )
    ]


@pytest.mark.parametrize(
    ("failed", "ended", "severity"), [(40, 1_000, None), (82, 90, "bad"), (40, 200, "warn"), (5, 5, None)]
)
def test_before_there_is_a_day_of_history_a_tenth_of_the_runs_may_fail(
    failed: int, ended: int, severity: str | None
) -> None:
    found = find_spike([replace(hour(failed, None), ended=ended)])
    assert (found and found.severity) == severity


@pytest.mark.parametrize(("others", "is_named"), [(35, True), (34, False)])
def test_a_second_kind_of_half_as_many_is_named_too(others: int, is_named: bool) -> None:
    ((_, words),) = said(hour(70 + others, 1.0, of_3001=70))
    assert (f", {others} SCENARIO_TO_SIM without a code" in words) == is_named


@pytest.mark.parametrize(
    ("usual", "quiet", "warn", "bad"),
    [(None, 5, 6, 16), (0.0, 5, 6, 16), (2.0, 11, 12, 34), (30.0, 51, 52, 155), (100.0, 135, 136, 406)],
)
def test_the_colour_follows_how_far_above_the_usual_it_is(
    usual: float | None, quiet: int, warn: int, bad: int
) -> None:
    severities = [said(hour(runs, usual))[0][0] for runs in (quiet, warn, bad - 1, bad)]
    assert severities == ["good", "warn", "warn", "bad"]
    assert quiet <= warning_above(usual or 0.0) < warn


def test_where_nothing_is_wrong_one_line_says_so() -> None:
    assert said(hour(0, None), hour(3, 2.0)) == [("good", "All targets are OK")]
    assert said(hour(3, 2.0), language="zh") == [("good", "所有目标正常")]


def test_polls_and_jobs_are_both_said_the_worse_first() -> None:
    jobs = "12 runs failed in the last hour, all of them FRAME_EXTRACT with 3001 (usually 2 failures an hour)"
    assert said(hour(12, 2.0), states=FAILING) == [
        ("bad", "1 of 3 targets cannot be polled"),
        ("warn", jobs),
    ]
    many = jobs.replace("12 runs", "99 runs")
    assert said(hour(99, 2.0), states=LATE) == [("bad", many), ("warn", "2 of 3 targets are late")]


def test_one_target_among_many_is_named() -> None:
    others = [hour(50, 50.0, name=f"p{n}") for n in range(40)]
    assert said(*others, hour(40, 2.0)) == [
        (
            "bad",
            (
                "40 runs of perception / 0 failed in the last hour, all of them FRAME_EXTRACT with 3001"
                " (usually 2 failures an hour)"
            ),
        )
    ]
    assert said(*others, hour(12, 2.0), hour(20, None, name="new")) == [
        (
            "warn",
            "32 runs of 2 targets failed in the last hour, all of them FRAME_EXTRACT with 3001",
        )
    ]


def test_a_little_more_at_every_target_is_a_spike_of_all() -> None:
    assert said(*(hour(4, 1.0, name=f"p{n}") for n in range(50)))[0] == (
        "warn",
        "200 runs failed in the last hour, all of them FRAME_EXTRACT with 3001 (usually 50 failures an hour)",
    )


def test_where_runs_cannot_be_read_nothing_is_said_to_be_well() -> None:
    t = Wording("en")
    assert headlines(GOOD, None, t, jobs_known=False) == [Headline("warn", t("verdict.polled"))]


def test_a_type_that_is_markup_or_turns_the_text_is_only_itself() -> None:
    odd = HourlyFailures(OK.target.key, 9, None, {("<b>\u202eX", "C" * 90): 9})
    (line,) = headlines(GOOD, find_spike([odd]), Wording("en"), jobs_known=True)
    assert "<bdi>&lt;b&gt;\u202eX</bdi>" in line.more
    assert "C" * 60 + "…" in line.more
    assert "C" * 61 not in line.more


@pytest.mark.parametrize(
    ("usual", "written"),
    [(0.0, "0"), (0.01, "0.1"), (0.44, "0.4"), (1.0, "1"), (2.04, "2"), (9.96, "10"), (1234.4, "1,234")],
)
def test_the_usual_number_is_short_and_never_0_for_what_happens(usual: float, written: str) -> None:
    assert mean_number(usual) == written


def test_of_ten_thousand_kinds_the_page_has_twenty_and_counts_the_rest() -> None:
    groups = tuple(failure_group(msg_code=f"{n}", job_ids=(n,)) for n in range(100))
    shown = shown_failures(FailureGroups(groups, runs=10_000, left_out=9_900))
    assert (len(shown.groups), shown.groups_left, shown.runs_left) == (20, 9_980, 9_980)
    assert len({one.key for one in shown.groups}) == 20


def test_messages_that_differ_for_every_run_go_together() -> None:
    """As where each names the package it worked on; all ids are there."""
    groups = tuple(failure_group(message=f"package {n} is damaged", job_ids=(n,)) for n in range(82))
    (one,) = shown_failures(FailureGroups(groups, runs=82)).groups
    assert (one.group.runs, one.messages, sorted(one.job_ids)) == (82, 82, list(range(82)))
    later = shown_failures(FailureGroups((failure_group(message="new", job_ids=(99,)), *groups), runs=83))
    assert (later.groups[0].key, later.groups_left, later.runs_left) == (one.key, 0, 0)


def test_of_many_messages_the_frequent_ones_stand_alone() -> None:
    often = tuple(failure_group(message=f"often {n}", job_ids=(1, 2)) for n in range(7))
    once = tuple(failure_group(message=f"once {n}", job_ids=(n,)) for n in range(3))
    shown = shown_failures(FailureGroups((*often, *once), runs=17))
    assert sorted((one.group.runs, one.messages) for one in shown.groups) == [*[(2, 1)] * 5, (7, 5)]
    first, second = shown_failures(FailureGroups((often[0], *once, *once, *once), runs=11)).groups
    assert [(first.group.runs, first.messages), (second.group.runs, second.messages)] == [(9, 9), (2, 1)]


def test_a_few_messages_each_stand_alone() -> None:
    groups = tuple(failure_group(message=f"no {n}", job_ids=(n,)) for n in range(5))
    assert [one.messages for one in shown_failures(FailureGroups(groups, runs=5)).groups] == [1] * 5


def test_so_many_ids_are_shown_that_the_page_stays_light() -> None:
    groups = tuple(failure_group(message=f"no {n}", job_ids=tuple(range(301))) for n in range(5))
    shown = shown_failures(FailureGroups(groups, runs=1505)).groups
    assert [len(one.job_ids) for one in shown] == [300, 300, 300, 100, 0]
    assert sum(len(one.job_ids) for one in shown) == SHOWN_IDS
    assert all(len(one.job_ids) < len(one.group.job_ids) for one in shown)
    (whole,) = shown_failures(FailureGroups((failure_group(job_ids=tuple(range(82))),), runs=82)).groups
    assert len(whole.job_ids) == len(whole.group.job_ids) == 82


def test_a_groups_key_is_its_own_and_stays() -> None:
    def key(group: FailureGroup) -> str:
        return shown_failures(FailureGroups((group,), runs=1)).groups[0].key

    assert key(failure_group()) == key(failure_group(job_ids=(1, 2, 3)))
    others = [{"msg_code": "3002"}, {"message": "x\udcff"}, {"status": "UPLOAD_FAILED"}, {"job_type": "X"}]
    assert len({key(failure_group(**other)) for other in [{}, *others]}) == 5
