"""How the exporter stops and reloads, told by real signals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, project
from tests.e2e.exposed import told
from tests.e2e.processes import EXPORTER, first_line, slowed, started
from tests.e2e.simulation import Simulation
from tests.e2e.stand_in import silence
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_it_stops_at_once_when_asked_to(tmp_path: Path, simulate: Simulate, number: Signals) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    exporter.change(poll={"interval": "1h"})
    with exporter.ready() as program:
        assert program.stop(number)[0] == 0
    assert "Traceback" not in program.errors
    # The write-ahead log is folded in. The second file says that nothing has to be checked at the next start.
    assert sorted(file.name for file in tmp_path.glob("ledger.db*")) == ["ledger.db", "ledger.db-closed"]


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Exporter]:
    """An exporter of an API that never answers."""
    with silence() as url:
        exporter = Exporter(tmp_path, url)
        exporter.config["credentials"] = {"default": {"type": "token", "token": "any"}}
        exporter.change(poll={"timeout": "1h"})
        yield exporter


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_it_stops_soon_even_while_the_api_hangs(hanging: Exporter, number: Signals) -> None:
    with hanging.running() as program:
        until(lambda: hanging.try_page("metrics"), "metrics")
        assert program.stop(number)[0] == 0
    assert "Traceback" not in program.errors


def test_a_second_signal_stops_it_without_waiting(hanging: Exporter) -> None:
    """On a busy machine the grace of the first one may be over before the second comes: then once more."""
    assert any(exit_code_after_two_signals(hanging) == 1 for _ in range(5))


def exit_code_after_two_signals(hanging: Exporter) -> int:
    with hanging.running() as program:
        until(lambda: hanging.try_page("metrics"), "metrics")
        program.tell(SIGINT)
        program.wait_for_line("stopping")
        code, _ = program.stop(SIGINT)
    assert "Traceback" not in program.errors
    return code


@pytest.mark.parametrize("pause_seconds", [0.0, 0.003, 0.004, 0.005])
def test_a_second_signal_to_the_demo_leaves_no_traceback(tmp_path: Path, pause_seconds: float) -> None:
    """At whatever moment of the ending it comes."""
    command = (*EXPORTER, "demo", "--port", "0", "--jobs", "20")
    with started(command, tmp_path, name="demo") as program:
        first_line(program, "status page ")
        program.tell(SIGINT)
        time.sleep(pause_seconds)
        code, _ = program.stop(SIGINT)
    assert code in (0, 1, 128 + SIGINT, -SIGINT)
    assert "Traceback" not in program.errors


def test_sigterm_while_it_starts(tmp_path: Path, simulate: Simulate) -> None:
    """Whenever it comes, it ends the process; before there is a handler it does so as it would any other."""
    exporter = Exporter(tmp_path, simulate().url)
    for _ in range(5):
        with exporter.running() as program:
            code, _ = program.stop(SIGTERM)
        assert code in (0, -SIGTERM)
        assert "Traceback" not in program.errors


def test_sigterm_amid_the_start_of_a_thousand_targets(tmp_path: Path, simulate: Simulate) -> None:
    """With a quarter of a core: within the time that the systemd unit grants."""
    workspaces = [str(number) for number in range(1_000)]
    url = simulate(workspaces=workspaces, jobs=2_000).url
    exporter = Exporter(tmp_path, url, projects=[project(url, workspaces=workspaces)])
    exporter.change(poll={"interval": "30s", "requests_per_second": 10_000})
    with exporter.running() as program:
        exporter.wait_until_listening(program)
        with slowed(program):
            program.wait_for_line("first listing", times=20)
            code, seconds = program.stop(SIGTERM)
    assert code == 0
    assert seconds < 15
    assert "Traceback" not in program.errors


Reloading = tuple[Simulation, Exporter]


@pytest.fixture
def two_workspaces(tmp_path: Path, simulate: Simulate) -> Reloading:
    simulator = simulate(workspaces=["0", "7", "8"])
    exporter = Exporter(tmp_path, simulator.url, projects=[project(simulator.url, workspaces=["0", "7"])])
    exporter.change(web={"enable_lifecycle": True})
    return simulator, exporter


def shown_workspaces(exporter: Exporter) -> set[tuple[str, ...]]:
    return set(exporter.scrape().by("octopus_polls_total", "project", "workspace"))


@pytest.mark.parametrize("by_signal", [True, False], ids=["SIGHUP", "POST"])
def test_a_reload_takes_targets_up_and_lets_others_go(two_workspaces: Reloading, by_signal: bool) -> None:
    simulator, exporter = two_workspaces
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        simulator.advance(3600)
        before = exporter.scrape_after_polls(2)
        assert told(before, workspace="0")["ended"]

        exporter.config["projects"] = [project(simulator.url, workspaces=["0", "8"])]
        exporter.write()
        if by_signal:
            program.tell(SIGHUP)
        else:
            answer = exporter.page("-/reload", "POST")
            assert (answer.status, answer.text) == (200, "the configuration was read again.\n")
        wanted = {("perception", "0"), ("perception", "8")}
        until(lambda: shown_workspaces(exporter) == wanted, f"the targets {wanted}")
        simulator.advance(3600)
        after = exporter.scrape_after_polls(2)
        assert_agreement(exporter, after, simulator)
        polls = [seen.total("octopus_polls_total", workspace="0") for seen in (before, after)]
        assert polls[1] > polls[0]
        assert after.value("octopus_exporter_config_last_reload_successful") == 1


def test_a_renamed_project_is_another_target(two_workspaces: Reloading) -> None:
    simulator, exporter = two_workspaces
    with exporter.ready():
        exporter.scrape_until_polled()
        simulator.advance(3600)
        exporter.scrape_after_polls(1)
        exporter.config["projects"] = [project(simulator.url, "vision")]
        exporter.write()
        assert exporter.page("-/reload", "POST").status == 200
        until(lambda: shown_workspaces(exporter) == {("vision", "0")}, "the new name")
        simulator.advance(3600)
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
        assert {sample.labels.get("project") for sample in exposed.samples} <= {None, "vision"}


def test_another_path_is_another_target(two_workspaces: Reloading) -> None:
    simulator, exporter = two_workspaces
    with exporter.ready():
        exporter.scrape_until_polled()
        simulator.advance(3600)
        before = exporter.scrape_after_polls(2)
        exporter.config["projects"] = [project(simulator.url, path="no-such-list")]
        exporter.write()
        assert exporter.page("-/reload", "POST").status == 200
        elsewhere = exporter.scrape_until("octopus_up", 0, workspace="0")
        assert list(elsewhere.having("octopus_jobs_completed_total")) == []
        assert shown_workspaces(exporter) == {("perception", "0")}
        exporter.config["projects"] = [project(simulator.url)]
        exporter.write()
        assert exporter.page("-/reload", "POST").status == 200
        simulator.advance(3600)
        after = exporter.scrape_after_polls(2)
        assert_agreement(exporter, after, simulator)
        ended = [seen.total("octopus_jobs_completed_total", workspace="0") for seen in (before, after)]
        assert ended[1] > ended[0] > 0


@pytest.mark.parametrize("by_signal", [True, False], ids=["SIGHUP", "POST"])
def test_a_bad_configuration_is_refused_and_the_old_one_stays(
    two_workspaces: Reloading, by_signal: bool
) -> None:
    simulator, exporter = two_workspaces
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        exporter.change(poll={"interval": "fast"})
        exporter.write()
        if by_signal:
            program.tell(SIGHUP)
        else:
            answer = exporter.page("-/reload", "POST")
            assert answer.status == 422
            assert "poll.interval" in answer.text
        exposed = exporter.scrape_until("octopus_exporter_config_last_reload_successful", 0)
        program.wait_for_line("configuration not reloaded")
        simulator.advance(3600)
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)

        exporter.change(poll={"interval": "1s"}, web={"listen": ["127.0.0.1:1"]})
        exporter.write()
        answer = exporter.page("-/reload", "POST")
        assert (answer.status, answer.text) == (422, "web.listen: cannot change without a restart\n")
        assert exposed.total("octopus_up") == exporter.scrape_after_polls(1).total("octopus_up") == 2


def test_reloading_over_http_is_off_by_default(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    with exporter.ready():
        assert exporter.page("-/reload", "POST").status == 403
