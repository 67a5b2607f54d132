"""A target whose API never answers is nobody else's problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, password, project
from tests.e2e.simulation import OTHER_PROJECT
from tests.e2e.stand_in import silence
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def silent_api() -> Iterator[str]:
    with silence() as url:
        yield url


def beside_a_silent_one(folder: Path, api: str, silent_api: str) -> Exporter:
    """Give an exporter of a project that works and of one whose API never answers."""
    projects = [
        project(api, "speaking", credentials="good"),
        project(silent_api, "silent", OTHER_PROJECT, credentials="bad"),
    ]
    exporter = Exporter(folder, api, projects=projects)
    exporter.config["credentials"] = {"good": password(api), "bad": {"type": "token", "token": "any"}}
    return exporter


def test_a_silent_api_delays_neither_the_others_polls_nor_a_scrape(
    tmp_path: Path, simulate: Simulate, silent_api: str
) -> None:
    exporter = beside_a_silent_one(tmp_path, simulate().url, silent_api)
    exporter.change(poll={"timeout": "10m"})  # longer than any of this takes
    with exporter.running():
        until(lambda: exporter.try_page("metrics"), "metrics")
        speaking, silent = {"project": "speaking"}, {"project": "silent"}
        polled = exporter.scrape_until_risen("octopus_polls_total", 1, **speaking)
        later = exporter.scrape_until_risen("octopus_polls_total", 6, **speaking)
        assert polled.value("octopus_up", **speaking) == later.value("octopus_up", **speaking) == 1
        assert later.total("octopus_polls_total", **silent) == 0
        # Intervals of a second: not as fast as it can.
        polls, ended = (
            [exposed.value(name, **speaking) or 0 for exposed in (polled, later)]
            for name in ("octopus_polls_total", "octopus_poll_last_success_timestamp_seconds")
        )
        assert ended[1] - ended[0] > 0.8 * (polls[1] - polls[0] - 1)
        assert exporter.page("-/healthy").status == 200
        assert "project silent, workspace 0: not polled yet" in exporter.page("-/ready").text


def test_silence_is_a_timeout(tmp_path: Path, simulate: Simulate, silent_api: str) -> None:
    exporter = beside_a_silent_one(tmp_path, simulate().url, silent_api)
    exporter.change(poll={"timeout": "5s"})  # in which the other one answers, however busy the machine is
    with exporter.running():
        until(lambda: exporter.try_page("metrics"), "metrics")
        exposed = exporter.scrape_until("octopus_up", 0, project="silent")
        assert (exposed.value("octopus_poll_failures_total", project="silent", reason="timeout") or 0) >= 1
        assert exposed.total("octopus_poll_failures_total", project="speaking") == 0
