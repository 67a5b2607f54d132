"""
Rows that move while they are read, and servers that do not do as asked: the numbers stay exact.

All cases live at the same time: a simulator each, and one exporter with a project for each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.model import is_terminal
from tests.e2e.agreement import assert_agreement, lived
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, password, project, run_once
from tests.e2e.exposed import Exposed, counted, told
from tests.e2e.simulation import PROJECT, START_MS, Simulation, simulations

pytestmark = pytest.mark.e2e

Lives = tuple[Exporter, Exposed, dict[str, Simulation]]

DAY_MS = 86_400_000
CASES: dict[str, dict[str, Any]] = {
    f"{shift}-{order}": {"order": order, "quirks": {"shift": shift, "shift_every": 3}}
    for order in ("created-desc", "created-asc", "update-desc")
    for shift in ("insert", "delete", "both")
} | {
    name: {"quirks": quirks}
    for name, quirks in {
        "clamped-limit": {"clamp_limit": 7},
        "no-total": {"omit_total": True},
        "no-total-clamped-limit": {"omit_total": True, "clamp_limit": 7},
        "repeated-rows": {"repeat_rows": 3},
        "statuses-ignored": {"ignore_filters": ["statuses"]},
        "id-ignored": {"ignore_filters": ["id"]},
        "first-value-of-an-array-only": {"first_value_only": True},
        "odd-rows": {"null_absent": True, "growing_durations": True, "extra_fields": True},
    }.items()
}


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    folder = tmp_path_factory.mktemp("quirks")
    settings = [{"jobs": 60, "jobs_per_day": 1000, **case} for case in CASES.values()]
    with simulations(folder / "simulators", *settings) as served:
        simulators = dict(zip(CASES, served, strict=True))
        exporter = Exporter(folder, "", projects=[_project(*one) for one in simulators.items()])
        exporter.change(poll={"page_size": 20})
        exporter.config["credentials"] = {name: password(one.url) for name, one in simulators.items()}
        with exporter.ready():
            yield exporter, live(exporter, simulators), simulators


def _project(name: str, simulator: Simulation) -> dict[str, Any]:
    return project(simulator.url, name, credentials=name)


def live(exporter: Exporter, simulators: dict[str, Simulation]) -> Exposed:
    """
    Let some hours pass, an hour at a time, with polls in between; give what is exposed at the end.

    No job ends twice in an hour (it is reopened after two at the earliest), so that nothing is lost to a
    poller that looks every hour.
    """
    for _ in range(3):
        for simulator in simulators.values():
            simulator.advance(3600)
        exporter.scrape_after_polls(1)
    for name, simulator in simulators.items():
        if "shift" in CASES[name]["quirks"]:
            simulator.set_quirks()
    return exporter.scrape_after_polls(2)


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_exact(lives: Lives, case: str) -> None:
    exporter, exposed, simulators = lives
    assert_agreement(exporter, exposed, simulators[case], case)
    assert sum(told(exposed, project=case)["ended"].values()) > 50


def test_no_poll_failed(lives: Lives) -> None:
    _, exposed, _ = lives
    assert exposed.total("octopus_poll_failures_total") == 0


@pytest.mark.parametrize("order", ["created-desc", "created-asc", "update-desc"])
def test_a_first_sync_misses_no_row_while_others_are_deleted(
    tmp_path: Path, simulate: Simulate, order: str
) -> None:
    """Rows move up into pages already read; nothing is known yet that could be missed."""
    simulator = simulate(order=order, quirks={"shift": "delete", "shift_every": 1})
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(poll={"page_size": 25, "concurrency": 1})
    figures = told(run_once(exporter))
    left = lived(simulator.account(PROJECT, "0", 0))["listed"]
    assert sum(left.values()) < 300
    assert all(figures["listed"].get(key, 0) >= jobs for key, jobs in left.items())
    assert sum(figures["listed"].values()) <= 300


@pytest.mark.parametrize("ignored", [[], ["start_time"]])
def test_the_lookback_bounds_what_has_ended_and_nothing_else(
    tmp_path: Path, simulate: Simulate, ignored: list[str]
) -> None:
    simulator = simulate(quirks={"ignore_filters": ignored})
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(poll={"lookback": "10d"})
    with exporter.ready():
        exposed = exporter.scrape_until_polled()
    wanted = Counter(
        (row["job_type"], row["status"])
        for row in simulator.rows()
        if row["create_at"] >= START_MS - 10 * DAY_MS or not is_terminal(row["status"])
    )
    assert told(exposed)["listed"] == wanted
    assert wanted.total() < len(simulator.rows())


@pytest.mark.parametrize("ignored", [[], ["job_types"]])
def test_only_the_configured_job_types_are_listed(
    tmp_path: Path, simulate: Simulate, ignored: list[str]
) -> None:
    simulator = simulate(quirks={"ignore_filters": ignored})
    types = ["FRAME_EXTRACT", "PACKAGE_IMPORT"]
    exporter = Exporter(tmp_path, simulator.url, projects=[project(simulator.url, job_types=types)])
    with exporter.ready():
        exposed = exporter.scrape_until_polled()
    wanted = Counter((row["job_type"], row["status"]) for row in simulator.rows() if row["job_type"] in types)
    assert told(exposed)["listed"] == wanted
    assert {kind for (kind,) in exposed.by("octopus_jobs_created_total", "job_type")} == set(types)


def test_the_rows_of_another_workspace_are_not_a_target_s(tmp_path: Path, simulate: Simulate) -> None:
    """A server that ignores the workspace answers for the default one, whichever is asked for."""
    simulator = simulate(quirks={"ignore_filters": ["workspace_id"]}, workspaces=["0", "7"])
    projects = [project(simulator.url, workspaces=["0", "7"])]
    exporter = Exporter(tmp_path, simulator.url, projects=projects)
    with exporter.ready():
        exposed = exporter.scrape_until_polled()
    listed = simulator.account(PROJECT, "0", 0)["listed"]
    assert sum(told(exposed, workspace="0")["listed"].values()) == sum(
        jobs for by_status in listed.values() for jobs in by_status.values()
    )
    assert told(exposed, workspace="7")["listed"] == {}
    assert not any(counted(exposed, workspace="7").values())
