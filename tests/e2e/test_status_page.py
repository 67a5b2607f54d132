"""The status page in a real browser: what it shows and in which language, and that it stays fresh."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Browser, Tab, browser, needs_chromium
from tests.e2e.exporting import Exporter, password, project
from tests.e2e.processes import Program
from tests.e2e.simulation import OTHER_PROJECT, Simulation, simulations
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> {{ 7*7 }}"
FAILED_JOB = {"job_type": "FRAME_EXTRACT", "outcome": "RUN_FAILED", "msg_code": 6666, "msg_error": HOSTILE}
WIDE = {"width": 1280, "height": 900}


@dataclass(frozen=True, slots=True)
class Stage:
    """An exporter of two targets, one of which fails, and a browser to look at it."""

    exporter: Exporter
    program: Program
    good: Simulation
    browser: Browser

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.exporter.port}/"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    needs_chromium()
    folder = tmp_path_factory.mktemp("status-page")
    with ExitStack() as running:
        good, bad = running.enter_context(simulations(folder, {}, {"projects": [OTHER_PROJECT]}))
        exporter = Exporter(
            folder / "exporter",
            good.url,
            projects=[
                project(good.url, "perception", credentials="default"),
                project(bad.url, "mapping", OTHER_PROJECT, credentials="wrong"),
            ],
        )
        exporter.config["credentials"] = {
            "default": password(good.url),
            "wrong": password(bad.url, password="not-this-one"),
        }
        program = running.enter_context(exporter.running())
        until(lambda: exporter.try_page("metrics"), "metrics")
        until(lambda: {target["state"] for target in exporter.targets()} == {"ok", "failing"}, "both targets")
        fail_a_job(exporter, good)
        yield Stage(exporter, program, good, running.enter_context(browser(folder)))


def fail_a_job(exporter: Exporter, simulator: Simulation) -> int:
    """Let a job run and fail, and wait until the exporter has counted it."""
    (job,) = simulator.create_jobs(**FAILED_JOB)
    simulator.advance(60)

    def counted() -> bool:
        failures = (failure for target in exporter.targets() for failure in target["recent_failures"])
        return any(failure["job_id"] == str(job) for failure in failures)

    until(counted, f"job {job} among the failures")
    return job


def test_the_page_answers_what_an_operator_asks(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        text = tab.text("main")
        assert tab.ask("document.title") == "1 of 2 targets cannot be polled · octopus-exporter"
        assert "The API does not accept the credentials" in tab.text(".problems")
        assert "HTTP 401" in tab.text(".problems")
        assert "The username or password is wrong." in tab.text(".problems")
        assert [row.split("\n")[0] for row in tab.ask(states())] == ["Failing", "Up to date"]
        for words in ("In flight, all targets", "FRAME_EXTRACT", "6666", "SQLite", "ledger.db", "schema"):
            assert words in text
        assert "not-this-one" not in tab.ask("document.documentElement.outerHTML")
        assert tab.complaints() == []


def states() -> str:
    return "[...document.querySelectorAll('summary.row')].map((row) => row.innerText)"


def test_the_json_tells_of_polls_credentials_and_the_ledger(stage: Stage) -> None:
    status = stage.exporter.page("api/v1/status").json
    failing, good = status["targets"]
    assert (failing["error"]["status"], failing["error"]["reason"]) == (401, "auth")
    assert failing["last_success_ms"] is None
    assert good["last_success_ms"] <= good["last_poll_ms"] <= status["now_ms"]
    assert good["clock_skew_seconds"] < -3600
    ends = {one["name"]: one["expires_ms"] for one in status["credentials"]}
    assert ends["default"] > status["now_ms"]
    assert ends["wrong"] is None
    assert status["ledger"]["location"] == str(stage.exporter.ledger)
    assert status["started_ms"] <= status["reload"]["at_ms"] <= status["now_ms"]
    assert "not-this-one" not in str(status)


def test_a_configuration_that_was_not_taken_up_is_said(stage: Stage) -> None:
    stage.exporter.file.write_text("poll: {interval: 0s}\n")
    stage.program.tell(signal.SIGHUP)
    until(lambda: not reload_of(stage.exporter)["ok"], "a reload that fails")
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        assert "The configuration was not reloaded" in tab.text(".problems")
        assert "interval" in tab.text(".problems")
    stage.exporter.write()
    stage.program.tell(signal.SIGHUP)
    until(lambda: reload_of(stage.exporter)["ok"], "a reload that succeeds")


def reload_of(exporter: Exporter) -> dict[str, Any]:
    answer: dict[str, Any] = exporter.page("api/v1/status").json["reload"]
    return answer


def test_hostile_text_is_shown_and_not_run(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        assert HOSTILE in tab.text(".groups .message")
        assert tab.ask("document.querySelectorAll('main script, main img').length") == 0
        assert "owned" not in tab.ask("document.title")
        assert tab.complaints() == []


def test_the_policy_stops_what_escaping_might_let_through(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        tab.ask(
            "{const s = document.createElement('script'); s.append(\"document.title='owned'\");"
            " document.body.append(s)}"
        )
        assert tab.ask("document.title") != "owned"
        until(tab.complaints, "a complaint of the policy")


def test_the_language_is_the_browsers_until_it_is_switched(stage: Stage) -> None:
    with stage.browser.tab(languages="zh-CN,zh;q=0.9,en;q=0.8") as tab:
        tab.open(stage.url)
        assert tab.ask("document.documentElement.lang") == "zh-CN"
        assert tab.text("#verdict") == "2 个目标中有 1 个轮询失败"
        tab.click(".languages a[hreflang=en]")
        tab.wait_for("document.documentElement.lang === 'en'")
        tab.open(stage.url)
        assert tab.ask("document.documentElement.lang") == "en"
        assert tab.text(".languages [aria-current]") == "English"


def test_the_page_refreshes_itself_and_keeps_what_was_opened(stage: Stage) -> None:
    with stage.browser.tab(**WIDE) as tab:
        tab.open(stage.url)
        tab.click("summary.row")
        tab.click(".group summary")
        tab.click("#open-configuration")
        tab.ask("document.querySelector('#config').scrollTo(0, 40); scrollTo(0, 300)")
        before = tab.ask("document.querySelector('main').dataset.seen = '1', [scrollY, document.title]")
        job = fail_a_job(stage.exporter, stage.good)
        until(lambda: str(job) in tab.text(".ids").split(), "the new failure without a reload")
        assert tab.ask("document.querySelector('main').dataset.seen") is None
        assert tab.ask("[scrollY, document.title]") == before
        opened = "[...document.querySelectorAll('details')].filter((details) => details.open).length"
        assert tab.ask(f"document.querySelectorAll('details').length - {opened}") == 2
        for kind in (".group .jobs", ".target", ".config"):
            assert tab.ask(f"document.querySelector('{kind}').open") is True
        assert tab.ask("document.activeElement.id") == "open-configuration"
        assert tab.ask("document.querySelector('#config').scrollTop") == 40
        assert tab.complaints() == []


def test_a_hidden_page_asks_for_nothing_until_it_is_seen(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        # Hidden before its first script runs: else it may have asked for a fresh one by itself already.
        tab.command("Page.addScriptToEvaluateOnNewDocument", source=hidden(True))
        tab.open(stage.url)
        tab.ask("refresh()")
        until(lambda: len(requests_of(tab)) == 2, "what was asked for before it was hidden")
        tab.pass_time(seconds=60)
        assert len(requests_of(tab)) == 2
        tab.ask(f"{hidden(False)}; void document.dispatchEvent(new Event('visibilitychange'))")
        until(lambda: len(requests_of(tab)) >= 3, "a fresh page, at once")


def hidden(so: bool) -> str:
    """Give what lets the page believe that it is behind another one, or in front again."""
    return f"Object.defineProperty(document, 'hidden', {{value: {str(so).lower()}, configurable: true}})"


def test_a_page_of_another_version_is_loaded_anew(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        tab.ask("document.documentElement.dataset.edition = 'older'; refresh()")
        tab.wait_for("performance.getEntriesByType('navigation')[0].type === 'reload'")


def test_a_paused_page_stays_as_it_is(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        tab.click("#pause")
        assert (tab.text("#live"), tab.text("#pause")) == ("Paused", "Resume")
        tab.ask("document.querySelector('main').dataset.seen = '1'")
        before = len(requests_of(tab))
        tab.ask("refresh()")
        until(lambda: len(requests_of(tab)) > before, "a page that was asked for before the pause")
        assert tab.ask("document.querySelector('main').dataset.seen") == "1"
        tab.click("#pause")
        tab.wait_for("!document.querySelector('main').dataset.seen")
        assert tab.text("#live") == "Refreshes by itself"


def requests_of(tab: Tab) -> list[Any]:
    """Give what the page has loaded of itself, the first time included."""
    kinds = "['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
    loaded: list[Any] = tab.ask(
        f"{kinds}.map((entry) => entry.name).filter((name) => name === location.href)"
    )
    return loaded


def test_an_exporter_that_is_gone_is_said(stage: Stage, tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, stage.good.url)
    with stage.browser.tab() as tab:
        with exporter.ready() as program:
            tab.open(f"http://127.0.0.1:{exporter.port}/")
            program.stop()
        until(lambda: tab.text("#live").startswith("No answer from the exporter since"), "that it is gone")
        assert "The target is OK" in tab.text("main")
        with exporter.ready():
            until(lambda: tab.text("#live") == "Refreshes by itself", "that it is back")


def test_without_scripts_it_is_the_same_page(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        tab.open(stage.url)
        assert tab.text("#live") == "Reload the page to refresh it."
        assert tab.ask("document.querySelector('#pause').hidden") is True
        tab.click("summary.row")
        assert "Poll" in tab.text("details.target[open]")
        tab.click(".tabs a:last-child")
        tab.wait_for("location.search.includes('since=24h')")
        assert tab.text(".tabs [aria-current]") == "Last 24 hours"
        tab.click(".languages a[hreflang=zh-CN]")
        tab.wait_for("document.documentElement.lang === 'zh-CN'")


def test_headings_and_tables_can_be_walked(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        levels = tab.ask("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert tab.ask("document.querySelectorAll('th:not([scope])').length") == 0
        assert tab.ask("document.querySelectorAll('.scroll:not([tabindex])').length") == 0
        ids = "[...document.querySelectorAll('[id]')].map((element) => element.id)"
        assert tab.ask(f"new Set({ids}).size === {ids}.length") is True
        tab.command("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        assert tab.ask("document.activeElement.className") == "skip"


def test_a_target_has_a_page_of_its_own(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.url)
        tab.click(".problems a")
        tab.wait_for("document.title.startsWith('The target cannot be polled')")
        assert tab.ask("document.querySelectorAll('.target[open]').length") == 1
        tab.click(".summary a")
        tab.wait_for("document.title.startsWith('1 of 2')")
