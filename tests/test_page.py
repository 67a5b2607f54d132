"""The status page as HTML: what is said of every state, escaped, light, the worst first."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from exporter.config import JobUrl
from exporter.model import FAILED_STATUSES, IN_FLIGHT_STATUSES, Fault, LedgerFacts, Progress, TargetSnapshot
from exporter.runs import FailureGroups, RunFilter
from exporter.web.status.failures import PageFailures
from exporter.web.status.model import CredentialsStatus, ProcessInfo, ReloadStatus, Status
from exporter.web.status.page import StatusPage
from exporter.web.status.page_request import PageRequest
from exporter.web.status.wording import NOT_SHOWN, Language
from tests.failed_runs import SPIKE, SPIKE_IDS, failure_group, hour_of, page_failures
from tests.snapshots import named
from tests.status_states import (
    ABOUT,
    DRIFTING,
    EVERY,
    FAILED,
    FAILING,
    FOUND_OUT,
    FULL,
    GOOD,
    HOSTILE,
    JOBS,
    LATE,
    MINUTE_MS,
    NOW_MS,
    OK,
    REPLICAS,
    RESTORED,
    STALE,
    SYNCING,
    UNREADABLE,
    WAITING,
    status_of,
)

PAGE = StatusPage()
BOTH: tuple[Language, ...] = ("en", "zh")
JOB_URL = JobUrl.parse("https://console.example/{project_id}/{workspace}?id={job_id}")
VOID = {"meta", "link", "img", "br"}


NOTHING_FAILED = PageFailures()


def render(
    status: Status,
    language: Language = "en",
    failures: PageFailures = NOTHING_FAILED,
    since: str | None = None,
    **filters: str,
) -> str:
    asked = RunFilter(**filters)  # type: ignore[arg-type]  # the caller knows
    return PAGE.render(status, PageRequest(language, False, asked, since), failures, JOB_URL)


class Reader(HTMLParser):
    """Reads the words of a page, and checks that its tags are closed and its ids given once."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def text_of(*snapshots: TargetSnapshot, language: Language = "en", about: ProcessInfo = ABOUT) -> str:
    return Reader(render(status_of(*snapshots, about=about), language)).text


@pytest.mark.parametrize("language", BOTH)
def test_every_state_at_once_is_whole_html(language: Language) -> None:
    html = render(status_of(*EVERY, UNREADABLE, FOUND_OUT), language)
    assert html.startswith("<!doctype html>")
    assert f'<html lang="{"zh-CN" if language == "zh" else "en"}"' in html
    assert "h1" in Reader(html).tags


@pytest.mark.parametrize("language", BOTH)
@pytest.mark.parametrize(
    "snapshot",
    [*EVERY, UNREADABLE, FOUND_OUT],
    ids=lambda shown: f"{shown.target.project}-{shown.target.workspace}",
)
def test_a_target_alone_is_whole_html(snapshot: TargetSnapshot, language: Language) -> None:
    assert '<details class="target"' in render(status_of(snapshot), language)
    Reader(render(status_of(snapshot), language))


@pytest.mark.parametrize(
    ("snapshot", "english", "chinese"),
    [
        (OK, "The target is OK", "目标正常"),
        (FAILING, "The target cannot be polled", "目标轮询失败"),
        (STALE, "The target cannot be polled", "目标轮询失败"),
        (LATE, "The target is late", "目标数据延迟"),
        (WAITING, "Waiting for the first poll", "正在等待首次轮询"),
        (SYNCING, "Listing every job", "正在全量同步作业"),
        (DRIFTING, "The target differs from the API's totals", "目标与 API 总数不一致"),
    ],
)
def test_the_verdict_is_the_title_and_the_first_heading(
    snapshot: TargetSnapshot, english: str, chinese: str
) -> None:
    for language, said in (("en", english), ("zh", chinese)):
        html = render(status_of(snapshot), "zh" if language == "zh" else "en")
        assert f"<title>{said}".replace("'", "&#39;") in html
        assert Reader(html).text.count(said) >= 2


def test_of_several_targets_the_worst_makes_the_verdict_and_comes_first() -> None:
    html = render(status_of(*EVERY))
    assert "2 of 8 targets cannot be polled" in html
    order = re.findall(
        r'<summary class="row"[^>]*><span><span class="state \w+">([^<]+)<', html.replace("\n", "")
    )
    assert order == [
        "Stale",
        "Failing",
        "Late",
        "Waiting",
        "Waiting",
        "Catching up",
        "Drifting",
        "Up to date",
    ]


def test_a_failing_target_says_what_why_and_since_when() -> None:
    text = text_of(FAILING)
    for words in (
        "The API does not accept the credentials",
        "HTTP 401",
        "APIG.0307",
        "The token must be updated.",
        "since 2023-11-14 21:26:21 UTC , for 48 min",
        "request 5ac1",
        "What is shown and exported is from the last one that succeeded.",
        "The numbers below are from the last poll that succeeded: 2 min ago 2023-11-14 22:12:21 UTC",
    ):
        assert words in text


def test_a_stale_target_says_that_its_gauges_are_gone() -> None:
    assert "the gauges are not exported any more" in text_of(STALE)
    assert "the gauges are not exported any more" not in text_of(FAILING)


def test_targets_that_fail_alike_are_one_problem() -> None:
    other = replace(FAILED, error=Fault("timeout", "no answer", NOW_MS - MINUTE_MS))
    shown = [named(f"p{n}", poll=FAILED, totals=FULL) for n in range(12)]
    html = render(status_of(*shown, named("odd", poll=other, totals=FULL)))
    problems = html.partition('class="problems"')[2].partition("</ul>")[0]
    assert problems.count("<li") == 2
    assert "and 4 more" in problems
    assert "The API does not answer in time" in problems


def test_catching_up_shows_how_far_it_is() -> None:
    assert "62,400 of 180,000 jobs listed" in text_of(SYNCING)
    assert '<progress max="180000" value="62400">' in render(status_of(SYNCING))
    unknown = replace(status_of(SYNCING).targets[0], progress=Progress(400))
    html = render(replace(status_of(SYNCING), targets=[unknown]))
    assert "400 jobs listed" in html
    assert "<progress></progress>" in html


def test_what_was_never_polled_says_so_and_shows_no_zeros() -> None:
    text = text_of(WAITING)
    assert "Nothing has been polled yet." in text
    assert "Jobs listed \N{EN DASH}" in text
    assert "no: 1 not published yet" in text


def test_what_the_ledger_gave_back_is_shown_as_that() -> None:
    text = text_of(RESTORED)
    assert "what is shown is from the ledger" in text
    assert "Nothing has been polled yet." not in text


def test_late_and_drifting_say_by_how_much() -> None:
    assert "Last success: 10 min ago" in text_of(LATE)
    assert "RUNNING +3 FINISHED -1" in text_of(DRIFTING)


@pytest.mark.parametrize(
    ("language", "title", "chip", "more"),
    [
        ("en", "Rows cannot be read odd / 0 23", "unreadable rows: 23", "and 3 more"),
        ("zh", "部分行无法解析 odd / 0 23", "23 行", "另有 3 个"),
    ],
)
def test_rows_set_apart_are_a_problem_of_a_target_that_is_well(
    language: Language, title: str, chip: str, more: str
) -> None:
    html = render(status_of(UNREADABLE, OK), language)
    text = Reader(html).text
    assert title in text
    assert chip in text
    assert more in text
    assert "9007199254740993" in text
    assert text.count("id: null, expected a number") == 19
    assert 'class="summary good"' in html
    assert html.count("owned") == text.count("owned")
    assert title not in text_of(OK, language=language)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            [
                "Given up: the API does not honour statuses totals",
                "Rows per request 100 at most: the API refuses more",
                "the API's total counts 3 rows that it does not list",
            ],
        ),
        ("zh", ["API 不支持 statuses totals", "更多会被 API 拒绝", "API 总数比它列出的多 3 行"]),
    ],
)
def test_what_was_found_out_about_a_server_has_rows(language: Language, said: list[str]) -> None:
    text, other = text_of(FOUND_OUT, language=language), text_of(OK, language=language)
    assert [words for words in said if words not in text] == []
    assert [words for words in said if words in other] == []


def test_ended_credentials_and_a_failed_reload_are_problems() -> None:
    about = replace(
        ABOUT,
        credentials=(CredentialsStatus("default", "token", NOW_MS - 9000),),
        reload=ReloadStatus(False, NOW_MS - 5000, ("poll.interval: 0s, expected at least 1s",)),
    )
    text = Reader(render(status_of(OK, about=about))).text
    assert "Credentials have ended: default · 9 s ago" in text
    assert "The configuration was not reloaded · 5 s ago" in text
    assert "poll.interval: 0s, expected at least 1s" in text
    assert "Credentials have ended" not in text_of(OK)


def test_what_the_api_says_is_text_and_nothing_else() -> None:
    hostile = f'"><script>1</script>{HOSTILE}'
    fault = replace(
        FAILED, error=replace(FAILED.error or Fault("auth", "", 0), message=hostile, code=hostile)
    )
    shown = named(hostile, hostile, poll=fault, totals=FULL)
    for snapshots in ([shown], [shown, OK]):
        reader = Reader(render(status_of(*snapshots)))
        assert reader.tags.count("script") == 1
        assert reader.tags.count("img") == 1
        assert "owned" in reader.text


def test_what_no_encoding_can_carry_does_not_break_the_page() -> None:
    assert b"bad ? name" in render(status_of(named("bad \udcff name"))).encode("utf-8", "replace")


def test_jobs_of_all_targets_are_added_up() -> None:
    html = render(status_of(OK, DRIFTING))
    table = html.partition('id="jobs-all"')[2].partition("</table>")[0]
    assert f">{2 * sum(JOBS.values()):,}</td></tr></tfoot>" in table


def test_an_unknown_status_has_a_column_among_those_in_flight_if_one_of_its_jobs_is() -> None:
    jobs = {**JOBS, ("FRAME_EXTRACT", "PONDERING"): 5, ("FRAME_EXTRACT", "ARCHIVED"): 3}
    oldest = {**FULL.oldest_created_ms, ("FRAME_EXTRACT", "PONDERING"): 1}
    html = render(
        status_of(
            replace(OK, totals=replace(FULL, jobs=jobs, oldest_created_ms=oldest, undocumented_ended=3))
        )
    )
    assert columns_of(html) == [
        *FAILED_STATUSES,
        *IN_FLIGHT_STATUSES,
        "PONDERING",
        "FINISHED",
        "STOPPED",
        "ARCHIVED",
    ]
    table = html.partition('<table class="numbers"')[2]
    spans = re.findall(r'<th scope="colgroup" role="columnheader" colspan="(\d)"', table)
    assert spans == ["3", "5", "3"]


def columns_of(html: str) -> list[str]:
    table = html.partition('<table class="numbers"')[2].partition("</thead>")[0]
    return re.findall(r'<th scope="col"[^>]*><bdi class="word">(\w+)</bdi>', table)


def test_statuses_and_types_without_a_job_are_left_out() -> None:
    jobs = dict.fromkeys(JOBS, 0) | {("FRAME_EXTRACT", "RUN_FAILED"): 3, ("FRAME_EXTRACT", "FINISHED"): 4}
    html = render(status_of(replace(OK, totals=replace(FULL, jobs=jobs))))
    assert columns_of(html) == ["RUN_FAILED", "FINISHED"]
    table = html.partition('<table class="numbers"')[2].partition("</table>")[0]
    assert table.count('<th scope="row"') == 1
    none = dict.fromkeys(JOBS, 0)
    assert "No jobs are listed." in text_of(replace(OK, totals=replace(FULL, jobs=none)))


def test_ages_of_jobs_go_by_the_servers_clock() -> None:
    about = replace(ABOUT, clock_skews={"perception": 7200.0})
    text = Reader(render(status_of(OK, about=about))).text
    assert "2 h ahead of ours" in text
    assert "the oldest 5 h" in text


def test_two_hundred_targets_are_a_light_page() -> None:
    shown = [named(f"project-{n}", poll=GOOD, totals=FULL) for n in range(200)]
    html = render(status_of(*shown))
    assert len(html) < 500_000
    assert html.count("<h3>") == 202  # the credentials and the replicas too
    assert 'href="?project=project-7&amp;workspace=0"' in html
    assert 'data-refresh-seconds="15"' in html


def test_one_target_can_be_asked_for() -> None:
    html = render(status_of(OK, FAILING), project="mapping", workspace="0")
    assert "The target cannot be polled" in html
    assert ">perception<" not in html
    assert 'href="?project=mapping&amp;workspace=0&amp;lang=zh"' in html


def test_a_job_type_that_is_asked_for_is_the_only_one_of_the_tables() -> None:
    html = render(status_of(OK, DRIFTING), job_type="SCENARIO_TO_SIM")
    for table in re.findall(r'<table class="numbers".*?</table>', html, re.DOTALL):
        assert re.findall(r'<th scope="row"[^>]*><bdi class="word">(\w+)', table) == ["SCENARIO_TO_SIM"]
    assert html.count('<span class="chip"><bdi>SCENARIO_TO_SIM</bdi></span>') == 6
    in_flight = html.partition('id="in-flight-all"')[2].partition("</table>")[0]
    assert "PACKAGE_IMPORT" not in in_flight


@pytest.mark.parametrize(
    ("held", "language", "said"),
    [
        (4, "en", "Grafana may not show all of these runs yet: 4 new series are at 0 on /metrics"),
        (1, "en", "Grafana may not show all of these runs yet: 1 new series is at 0 on /metrics"),
        (4, "zh", "有 4 个新序列暂时为 0"),
    ],
)
def test_series_that_are_held_are_told_to_those_who_compare(held: int, language: Language, said: str) -> None:
    about = replace(ABOUT, held_series={OK.target.key: held})
    assert said in Reader(render(status_of(OK, about=about), language, SPIKE)).text
    # Where no run has failed, there is nothing to compare.
    assert said[:12] not in Reader(render(status_of(OK, about=about), language)).text
    assert said[:12] not in Reader(render(status_of(OK), language, SPIKE)).text


def test_no_target_at_all_is_said() -> None:
    assert "There is no target." in text_of(about=replace(ABOUT, shard=None))
    # To a shard no target may belong, which is as it should be.
    assert "No target belongs to this shard" in text_of()


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            (
                "replica exporter-1-5f3a9c",
                "Alive 3",
                "exporter-0-90bd12 5",
                "exporter-1-5f3a9c this one 3",
                "mapping / 7 exporter-2-0c11d8 exporter-1-5f3a9c",
                "slow / 0 given back exporter-0-90bd12",
                "Polled by exporter-0-90bd12 since",
                "Polled by no replica lease ended",
            ),
        ),
        (
            "zh",
            ("副本 exporter-1-5f3a9c", "在运行 3", "主动交还", "最近的接管", "由谁轮询 没有副本 租约已于"),
        ),
    ],
)
def test_the_page_says_who_polls_what(language: Language, said: tuple[str, ...]) -> None:
    text = " ".join(text_of(*EVERY, language=language).split())
    assert [part for part in said if part not in text] == []
    alone = text_of(*EVERY, language=language, about=replace(ABOUT, replicas=None, leases={}))
    assert not any(part in alone for part in said)


def test_the_page_says_that_the_shared_ledger_cannot_be_read() -> None:
    away = replace(REPLICAS, away_since_ms=NOW_MS - 30_000, holders=())
    text = " ".join(text_of(*EVERY, about=replace(ABOUT, replicas=away)).split())
    assert "The shared ledger cannot be read since" in text
    # A replica that polls nothing is listed all the same.
    assert "exporter-1-5f3a9c this one 0" in text


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", ("shard 2/3", "8 of 23 targets")), ("zh", ("分片 2/3", "23 个目标中的 8 个"))],
)
def test_the_page_says_which_shard_this_is(language: Language, said: tuple[str, str]) -> None:
    assert all(part in text_of(*EVERY, language=language) for part in said)
    alone = text_of(*EVERY, language=language, about=replace(ABOUT, shard=None))
    assert not any(part in alone for part in said)


@pytest.mark.parametrize(
    ("language", "field", "label"),
    [
        ("en", "log_lines_dropped", "Log lines dropped"),
        ("zh", "log_lines_dropped", "丢弃的日志行数"),
        ("en", "events_pending", "Events that wait"),
        ("zh", "events_pending", "等待写出的事件"),
        ("en", "events_dropped", "Events dropped"),
        ("zh", "events_dropped", "丢弃的事件"),
    ],
)
def test_what_waits_or_was_dropped_is_told(language: Language, field: str, label: str) -> None:
    about = replace(ABOUT, **{field: 1234})  # type: ignore[arg-type]  # spelled above
    text = Reader(render(status_of(OK, about=about), language)).text
    assert f"{label} 1,234" in text
    assert label not in Reader(render(status_of(OK), language)).text


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        (LedgerFacts("memory", "", 1, None), "in memory, lost with the process schema 1"),
        (
            LedgerFacts("postgresql", "postgresql://u:<secret>@h/db", None, None),
            "PostgreSQL postgresql://u:<secret>@h/db",
        ),
        (LedgerFacts("sqlite", "/l.db", 1, 12_900_000), "SQLite /l.db 12.3 MiB · schema 1"),
    ],
)
def test_the_ledger_is_told(ledger: LedgerFacts, said: str) -> None:
    assert said in Reader(render(status_of(OK, about=replace(ABOUT, ledger=ledger)))).text


def test_the_configuration_shows_no_secret() -> None:
    text = text_of(OK)
    assert "password: <secret>" in text


@pytest.mark.parametrize("language", BOTH)
def test_failures_stand_right_under_the_headline(language: Language) -> None:
    html = render(status_of(OK, DRIFTING), language, SPIKE)
    reader = Reader(html)
    assert "82" in html.partition("<title>")[2].partition("</title>")[0]
    sections = re.findall(r"<section[^>]* aria-labelledby=\"([a-z-]+)\"", html)
    assert sections[:2] == ["verdict", "failures"]
    assert [str(job) for job in SPIKE_IDS if f">{job}</a>" not in html] == []
    assert reader.tags.count("script") == 1
    assert HOSTILE in reader.text


def test_what_is_filtered_by_is_no_link_to_itself() -> None:
    html = render(status_of(OK), failures=SPIKE, msg_code="3001", since="24h")
    groups = html.partition('<ul class="groups">')[2]
    assert '<span class="chip"><code>3001</code></span>' in groups
    assert 'href="?job_type=FRAME_EXTRACT&amp;msg_code=3001&amp;since=24h"' in groups
    assert 'href="?since=24h"' in html.partition('<ul class="filters"')[2].partition("</ul>")[0]


def test_an_empty_period_and_an_empty_choice_say_so() -> None:
    assert "No run has failed in this period." in Reader(render(status_of(OK))).text
    assert "No failed run matches these filters." in Reader(render(status_of(OK), msg_code="9")).text


def test_without_an_address_ids_are_text() -> None:
    html = PAGE.render(status_of(OK), PageRequest("en"), SPIKE)
    assert html is not None
    assert f"<li>{SPIKE_IDS[0]}</li>" in html
    assert "console.example" not in html


def test_ten_thousand_failures_are_a_light_page() -> None:
    ids = tuple(range(2**62, 2**62 + 301))
    groups = tuple(failure_group(message="x" * 2000, msg_code=str(n), job_ids=ids) for n in range(20))
    html = render(status_of(OK), failures=page_failures((), FailureGroups(groups, 10_000, 500)))
    assert len(html) < 400_000
    assert "and 500 more groups with 3,980 failed runs" in html


def test_a_day_of_failures_by_target() -> None:
    hours = (hour_of(7, mean=None, _3001=7), replace(hour_of(0), target=FAILING.target.key))
    html = render(status_of(OK, FAILING), failures=page_failures(hours, FailureGroups()))
    assert re.findall(r'<span class="(failed|zero)">(\d+)</span>', html) == [("zero", "0"), ("failed", "7")]
    assert "the usual number needs a day" in html


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            ["polled every 30 s", "of the last 30 d", "first 1", "The API does not accept the credentials 2"],
        ),
        ("zh", ["每 30 秒轮询一次", "最近 30 天", "首次 1", "API 不接受当前凭证 2"]),
    ],
)
def test_durations_and_reasons_are_words_of_the_language(language: Language, said: list[str]) -> None:
    poll = replace(GOOD, full_syncs={"first": 1}, failures={"auth": 2})
    text = text_of(replace(OK, poll=poll), language=language)
    assert [words for words in said if words not in text] == []


def rows_of_resources(html: str, which: str) -> list[str]:
    table = html.partition(f'id="resources-{which}"')[2].partition("</table>")[0].partition("</thead>")[2]
    return [Reader(f"<tr{row}</tr>").text for row in re.findall(r"<tr(.*?)</tr>", table, re.DOTALL)]


def test_resources_are_told_for_each_spec_with_jobs_those_of_most_jobs_first() -> None:
    html = render(status_of(OK))
    assert rows_of_resources(html, "target-perception/0") == [
        "P100_1Gpu_2.1Core_4.1GiB 3 3 6.3 12.3 41 41 86.1 168.1",
        f"2Core_4GiB 11 0 22 44 {NOT_SHOWN}",
        f"no spec 6 {NOT_SHOWN} {NOT_SHOWN}",
        f"other all further specs {NOT_SHOWN} 5 {NOT_SHOWN}",
        f"2Core_4MiB cannot be read 4 {NOT_SHOWN} {NOT_SHOWN}",
        f"V100_8Gpu_96Core_720GiB {NOT_SHOWN} 2 16 192 1,440",
        "Total 24 3 28.3 56.3 48 57 278.1 1,608.1",
    ]
    text = Reader(html).text
    assert "15 jobs are not in the sums" in text
    assert "Resources in use 3 GPUs · 28.3 cores waiting: 57 GPUs · 278.1 cores" in text


def test_resources_of_all_targets_are_added_up_and_unreadable_specs_named_once() -> None:
    html = render(status_of(OK, DRIFTING))
    assert rows_of_resources(html, "all")[-1] == "Total 48 6 56.6 112.6 96 114 556.2 3,216.2"
    everywhere = html.partition('id="resources-all"')[2].partition("</section>")[0]
    assert everywhere.count("Specs that could not be read") == 1
    assert everywhere.count("2Core_4MiB") == 2  # its row, and the name


@pytest.mark.parametrize(
    ("jobs", "english", "chinese"),
    [
        ({("1Gpu_1Core", "RUNNING"): 1}, "1 GPU · 1 core", "1 GPU · 1 核"),
        ({("2Core_4GiB", "QUEUING"): 1}, "0 cores waiting: 2 cores", "0 核 等待中\uff1a2 核"),
        ({("2Core_4GiB", "RUNNING"): 0}, "0 cores", "0 核"),
        ({}, NOT_SHOWN, NOT_SHOWN),
    ],
)
def test_a_target_says_in_one_cell_what_its_jobs_ask_for(
    jobs: dict[tuple[str, str], int], english: str, chinese: str
) -> None:
    shown = replace(OK, totals=replace(FULL, resource_jobs=jobs, unreadable_specs=()))
    assert f"Resources in use {english} Failed, last hour" in text_of(shown)
    assert f"使用中的资源 {chinese} 最近 1 小时失败" in text_of(shown, language="zh")


def test_nothing_is_said_of_resources_where_no_job_has_one() -> None:
    nothing = replace(OK, totals=replace(FULL, resource_jobs={}, unreadable_specs=()))
    idle = replace(
        OK, totals=replace(FULL, resource_jobs={("2Core_4GiB", "RUNNING"): 0}, unreadable_specs=())
    )
    assert "Resources of the jobs in flight" not in text_of(nothing)
    assert "Resources of the jobs in flight No job is in flight." in text_of(idle)
    assert "not in the sums" not in text_of(idle)
