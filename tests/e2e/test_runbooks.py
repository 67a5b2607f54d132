"""The first steps of each runbook, as they stand there, on an exporter with failures and troubles."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.exporting import Exporter, password, project
from tests.e2e.processes import plain_environment
from tests.e2e.prometheus import program
from tests.e2e.simulation import OTHER_PROJECT, simulations
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

RUNBOOKS = sorted((Path(__file__).parents[2] / "docs" / "runbooks").glob("Octopus*.md"))
ADDRESS = "http://localhost:10877"
STATUSES = ("RUN_FAILED", "SUBMIT_FAILED", "UPLOAD_FAILED")
FAILURES = 7


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """
    Give an exporter of the project that the runbooks name, and of one that is refused.

    Of each failed status seven runs have ended, all with one code.
    """
    folder = tmp_path_factory.mktemp("runbooks")
    with simulations(folder / "simulators", {"jobs": 0, "jobs_per_day": 0}) as (simulator,):
        exporter = Exporter(folder / "exporter", simulator.url)
        exporter.config["projects"] = [
            project(simulator.url, credentials="default"),
            project(simulator.url, "refused", OTHER_PROJECT, credentials="wrong"),
        ]
        exporter.change(credentials={"wrong": password(simulator.url, password="wrong")})
        with exporter.running() as program:
            exporter.wait_until_listening(program)
            exporter.scrape_until("octopus_up", 1, project="perception")
            for status in STATUSES:
                simulator.create_jobs(job_type="FRAME_EXTRACT", count=FAILURES, outcome=status, msg_code=3001)
            simulator.create_jobs(job_type="FRAME_EXTRACT", outcome="RUNNING")
            simulator.advance(3000)
            until(lambda: counted(exporter) == FAILURES * len(STATUSES), "all failures")
            yield exporter


def counted(exporter: Exporter) -> float:
    return exporter.scrape().total("octopus_jobs_completed_total")


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_the_first_command_prints_what_the_runbook_says(page: Path, exporter: Exporter) -> None:
    program("jq")
    command = re.search(r"^  ```sh\n(.+?)^  ```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert command
    printed = output(command[1], exporter)
    assert printed
    assert "null\n" not in printed.replace('": null', "")
    if "failures?" in command[1]:
        groups = [line.split("\t") for line in printed.splitlines()]
        expected = FAILURES * (len(STATUSES) if "msg_code=3001" in command[1] else 1)
        assert sum(int(group[0]) for group in groups) == expected
        assert all(group[1] in {"3001", *STATUSES} and group[2] for group in groups)
        assert len({job_id for group in groups for job_id in group[3].split(" ")}) == expected


def test_the_oldest_job_of_a_stuck_status_is_told(exporter: Exporter) -> None:
    text = (RUNBOOKS[0].parent / "OctopusJobStuckRunning.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ +octopus-exporter jobs .+\n.+$", text, re.MULTILINE)
    jobs = f"{sys.executable} -m exporter jobs"
    printed = output(command.strip().replace("octopus-exporter jobs", jobs), exporter)
    (job,) = csv.DictReader(printed.splitlines())
    assert (job["job_type"], job["status"]) == ("FRAME_EXTRACT", "RUNNING")


def output(command: str, exporter: Exporter) -> str:
    """Run a command as a shell does, beside the exporter's configuration."""
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace(ADDRESS, f"http://127.0.0.1:{exporter.port}")],
        cwd=exporter.folder,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return str(done.stdout)


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_the_links_to_the_status_page_are_answered(page: Path, exporter: Exporter) -> None:
    links = re.findall(rf"<{ADDRESS}/(.*)>", page.read_text(encoding="utf-8"))
    assert len(links) == 2
    english, chinese = (exporter.page(link) for link in links)
    assert (english.status, chinese.status) == (200, 200)
    assert '<html lang="zh' in chinese.text
    if "since=1h" in links[0]:
        job_type = "FRAME_EXTRACT"
        assert job_type in english.text
        assert "3001" in english.text
