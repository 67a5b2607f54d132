"""The staged spike: 82 runs that fail, and the status page of a real exporter that tells of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.browser import Browser, browser, needs_chromium
from tests.e2e.exporting import Exporter, project
from tests.e2e.ledgers import somebody_at
from tests.e2e.simulation import Simulation, simulations
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

DAMAGED = "The data package is damaged: checksum mismatch."
HOURS, USUAL = 30, 2


@dataclass(frozen=True, slots=True)
class Stage:
    """An exporter of two targets that has seen the spike, and the ids of the jobs in it."""

    exporter: Exporter
    browser: Browser
    damaged: list[int]
    others: list[int]

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.exporter.port}/{path}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    needs_chromium()
    folder = tmp_path_factory.mktemp("spike")
    with ExitStack() as running:
        settings = {"jobs": 0, "jobs_per_day": 0, "workspaces": ["0", "7"]}
        (simulator,) = running.enter_context(simulations(folder, settings))
        targets = project(simulator.url, "perception", workspaces=["0", "7"])
        exporter = Exporter(folder / "exporter", simulator.url, projects=[targets])
        exporter.change(web={"job_url": "https://console.example/{project_id}/{workspace}/{job_id}"})
        with exporter.ready() as program:
            exporter.scrape_until_polled()
            assert program.stop()[0] == 0
        give_a_usual_day(exporter)
        running.enter_context(exporter.ready())
        exporter.scrape_until_polled()
        damaged, others = fail_jobs(exporter, simulator)
        yield Stage(exporter, running.enter_context(browser(folder)), damaged, others)


def give_a_usual_day(exporter: Exporter) -> None:
    """Let the ledger have counted two failed runs of the first target in every hour of a day and more."""
    this_hour = int(time.time()) // 3600
    with somebody_at(exporter.ledger) as db:
        db.execute("UPDATE targets SET hourly_from_ms = ?", ((this_hour - HOURS) * 3_600_000,))
        db.executemany(
            "INSERT INTO hourly_runs VALUES (1, ?, 'FRAME_EXTRACT', 'RUN_FAILED', 1, ?)",
            [(this_hour - 1 - n, USUAL) for n in range(HOURS)],
        )


def fail_jobs(exporter: Exporter, simulator: Simulation) -> tuple[list[int], list[int]]:
    """Let 70 runs fail alike and 12 otherwise, and wait until all are counted."""
    failed = {"outcome": "RUN_FAILED", "job_type": "FRAME_EXTRACT"}
    damaged = simulator.create_jobs(**failed, count=70, msg_code=3001, msg_error=DAMAGED)
    others = simulator.create_jobs(
        outcome="UPLOAD_FAILED", job_type="SCENARIO_TO_SIM", count=12, msg_code=0, workspace="7"
    )
    simulator.advance(60)

    def counted() -> bool:
        with somebody_at(exporter.ledger) as db:
            return bool(db.execute("SELECT count(*) FROM failed_runs").fetchone()[0] == 82)

    until(counted, "82 failed runs")
    return damaged, others


def test_the_headline_says_the_true_numbers(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        tab.open(stage.url())
        assert tab.text("#verdict") == (
            "82 runs failed in the last hour, 70 of them FRAME_EXTRACT with 3001 (usually 2 failures an hour)"
        )
        assert tab.text(".summary h2 .state").strip() == "Critical"
        assert tab.ask("document.title") == "82 runs failed in the last hour · octopus-exporter"
        tab.open(stage.url("?lang=zh"))
        assert tab.text("#verdict") == (
            "最近 1 小时有 82 次运行失败，其中 70 次是 FRAME_EXTRACT，错误码 3001（平时每小时 2 次）"  # noqa: RUF001
        )


def test_the_message_and_all_ids_are_on_the_page(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        tab.open(stage.url())
        assert tab.ask("[...document.querySelectorAll('.group .runs')].map((n) => n.textContent)") == [
            "70 failed runs",
            "12 failed runs",
        ]
        assert tab.text(".group .message") == DAMAGED
        ids = tab.ask("[...document.querySelectorAll('.ids li')].map((item) => Number(item.textContent))")
        assert sorted(ids[:70]) == sorted(stage.damaged)
        assert sorted(ids[70:]) == sorted(stage.others)
        links = tab.ask("[...document.querySelectorAll('.ids a')].map((link) => link.href)")
        assert links[0].endswith(f"/0/{ids[0]}")
        assert links[70].endswith(f"/7/{ids[70]}")


def test_an_alerts_link_leads_to_what_it_is_about(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        tab.open(
            stage.url("?project=perception&workspace=0&job_type=FRAME_EXTRACT&status=RUN_FAILED&since=1h")
        )
        assert tab.text(".group .runs") == "70 failed runs"
        assert tab.ask("document.querySelectorAll('.group').length") == 1
        assert tab.text("#verdict").startswith(
            "70 runs failed in the last hour, all of them FRAME_EXTRACT with 3001"
        )
        tab.open(stage.url("?job_type=SCENARIO_TO_SIM"))
        assert tab.text("#verdict").startswith(
            "12 runs failed in the last hour, all of them SCENARIO_TO_SIM without a code"
        )
        # What is wrong elsewhere stays on the page.
        tab.open(stage.url("?job_type=PACKAGE_IMPORT"))
        assert tab.text("#verdict").startswith("82 runs failed in the last hour")
        tab.open(stage.url(f"?id={stage.others[0]}"))
        assert tab.text(".group .runs") == "1 failed run"
        tab.open(stage.url("?msg_code="))
        assert tab.text(".group .runs") == "12 failed runs"
        tab.open(stage.url("?msg_code=9999"))
        assert "No failed run matches these filters." in tab.text("main")


def test_the_runs_behind_a_group_are_a_link_away(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        tab.open(stage.url("?msg_code=3001"))
        json = tab.ask("document.querySelector('.groups ~ p a:last-child').href")
        answer = stage.exporter.page(json.removeprefix(stage.url()))
        assert {run["job_id"] for run in answer.json["failures"]} == {str(job) for job in stage.damaged}
