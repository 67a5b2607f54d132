"""The other commands, as a user runs them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, project, run_once
from tests.e2e.exposed import Exposed, counted, told
from tests.e2e.http import ask
from tests.e2e.processes import EXPORTER, first_line, free_port, run, started
from tests.e2e.simulation import OTHER_PROJECT
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def half_working(tmp_path: Path, simulate: Simulate) -> Exporter:
    """An exporter of two projects, one of which the API does not know."""
    api = simulate().url
    projects = [project(api), project(api, "planning", OTHER_PROJECT)]
    return Exporter(tmp_path / "exporter", api, projects=projects)


def test_once_prints_the_exposition_of_one_poll(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    exposed = run_once(exporter)
    figures = told(exposed)
    assert sum(figures["listed"].values()) == 300
    assert not any(counted(exposed).values())
    assert exposed.value("octopus_polls_total") == exposed.value("octopus_up") == 1


def test_once_goes_on_from_the_ledger(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    run_once(exporter)
    simulator.advance(3600)
    assert counted(run_once(exporter))["ended"]


def test_once_shows_a_new_error_code_with_its_value_and_nothing_takes_it_back(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(metrics={"new_series_hold": "5m"})
    run_once(exporter)
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=3, outcome="RUN_FAILED", msg_code=9123)
    simulator.advance(3600)
    labels = {"job_type": "FRAME_EXTRACT", "status": "RUN_FAILED", "msg_code": "9123"}
    assert run_once(exporter).value("octopus_job_failures_total", **labels) == 3
    with exporter.ready():
        assert exporter.scrape().value("octopus_job_failures_total", **labels) == 3
        assert [target["held_series"] for target in exporter.targets()] == [0]


def test_once_fails_where_a_target_does_and_prints_the_others(half_working: Exporter) -> None:
    exposed = run_once(half_working, exit_code=1)
    assert exposed.value("octopus_up", project="planning") == 0
    assert exposed.value("octopus_up", project="perception") == 1
    assert sum(told(exposed, project="perception")["listed"].values()) == 300
    assert list(exposed.having("octopus_jobs", project="planning")) == []


def test_check_says_that_a_configuration_is_valid(half_working: Exporter) -> None:
    done = run(("check", "--config", half_working.write()), half_working.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{half_working.file}: valid, 2 targets in 2 projects\n"


def test_check_online_prints_a_table_of_what_works(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    done = run(("check", "--online", "--config", exporter.write()), tmp_path, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    assert table_rows(done.stdout)["perception"][:5] == ["perception", "0", "default", "works", "300"]


def test_check_online_fails_where_a_target_does(half_working: Exporter) -> None:
    """Why, it says in a paragraph of its own; ids are whole, however narrow the terminal."""
    done = run(("check", "--online", "--config", half_working.write()), half_working.folder, COLUMNS="30")
    assert (done.returncode, done.stderr) == (1, "")
    rows = table_rows(done.stdout)
    assert rows["perception"][3] == "works"
    assert rows["planning"][3] == "fails: contract"
    said = paragraph(done.stdout, "planning, workspace 0 (credentials default) fails:")
    assert (
        said["message"]
        == "not found: wrong region, path or project: The project in the scope does not exist."
    )
    assert said["url"].endswith("/v3/auth/tokens")
    assert (said["status"], len(said["request id"])) == ("404", 32)


def test_check_online_gives_up_on_a_closed_port_at_once(tmp_path: Path) -> None:
    """The login is what fails; nothing is logged beside what is printed."""
    exporter = Exporter(tmp_path, f"http://127.0.0.1:{free_port()}")
    done = run(("check", "--online", "--config", exporter.write()), tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    said = paragraph(done.stdout, "perception, workspace 0 (credentials default) fails:")
    assert said["reason"] == "unavailable"
    assert said["message"].startswith("no connection to 127.0.0.1")
    assert said["cost"].startswith("0 requests")


def test_check_writes_no_ledger_and_its_report_names_nothing(half_working: Exporter) -> None:
    arguments = ("--online", "--format", "json", "--report", "report.json")
    done = run(("check", "--config", half_working.write(), *arguments), half_working.folder)
    assert (done.returncode, done.stderr) == (1, "")
    works = {target["project"]: target["works"] for target in json.loads(done.stdout)["online"]}
    assert works == {"perception": True, "planning": False}
    assert sorted(path.name for path in half_working.folder.iterdir()) == ["config.yaml", "report.json"]
    written = (half_working.folder / "report.json").read_text()
    named = ("perception", "planning", OTHER_PROJECT, "demo-password", "octopus-demo", "127.0.0.1")
    assert [name for name in named if name in written] == []


def test_check_warns_of_a_ledger_that_cannot_be_made(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:1")
    exporter.change(ledger={"url": f"sqlite:///{tmp_path}/none/ledger.db"})
    done = run(("check", "--config", exporter.write()), tmp_path)
    assert done.returncode == 0
    assert f"warning: {exporter.file}: ledger.url: the folder {tmp_path}/none does not exist" in done.stderr
    assert run(("once", "--config", exporter.file), tmp_path).returncode == 3


def test_check_reports_only_what_it_asked(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:1")
    done = run(("check", "--config", exporter.write(), "--report", "report.json"), tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("octopus-exporter: --report: there is nothing to report without --online")
    assert not (tmp_path / "report.json").exists()


def paragraph(text: str, head: str) -> dict[str, str]:
    """Read what is printed of one target: the texts by their names."""
    (block,) = [block for block in text.split("\n\n") if block.startswith(head)]
    lines = (line.strip() for line in block.splitlines()[1:])
    return {line[:12].strip(): line[12:] for line in lines}


def table_rows(text: str) -> dict[str, list[str]]:
    """Read a printed table: the cells of each row by the first one."""
    rows = ([cell.strip() for cell in line.strip("│┃ ").split("│")] for line in text.splitlines())
    return {cells[0]: cells for cells in rows if len(cells) > 1}


def test_demo_serves_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}  # where the SDK would leave a file, were it loaded
    command = (*EXPORTER, "demo", "--port", "0", "--jobs", "200")
    with started(command, tmp_path, name="demo", environment=home) as program:
        metrics = first_line(program, "metrics")
        page, simulator = first_line(program, "status page"), first_line(program, "simulator")

        def jobs() -> float:
            return Exposed.of_text(ask(metrics).text, ("octopus_jobs",)).total("octopus_jobs")

        until(lambda: jobs() >= 200, "200 jobs on show")
        assert ask(page).status == 200
        assert ask(simulator).status == 200
        descendants = children(program.process.pid)
        assert program.stop(SIGINT)[0] == 0
    assert "Traceback" not in program.errors
    assert descendants == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.err", "demo.out"]


def test_demo_says_that_all_is_well_once_it_has_audited(tmp_path: Path) -> None:
    """Its jobs live fast, and change while it is audited: neither is drift, nor a clock that is wrong."""
    command = (*EXPORTER, "demo", "--port", "0", "--speed", "120")
    with started(command, tmp_path, name="demo", environment={"HOME": str(tmp_path)}) as program:
        page = first_line(program, "status page")

        def audited() -> dict[str, Any] | None:
            # At first no target is listed, and on a busy machine it may be late for a moment.
            for target in ask(f"{page}api/v1/status").json["targets"]:
                if target["last_audit_ms"] is not None and target["state"] == "ok":
                    return dict(target)
            return None

        seen = until(audited, "an audit of a target that is well")
        assert seen is not None
        assert program.stop(SIGINT)[0] == 0
    assert seen["drift_lasts"] is False
    assert set(seen["drift"].values()) == {0}
    assert abs(seen["clock_skew_seconds"]) < 2


def children(process_id: int) -> list[str]:
    """Give the ids of a process's children; its threads come and go."""
    found: list[str] = []
    for task in Path(f"/proc/{process_id}/task").iterdir():
        with suppress(OSError):
            found += (task / "children").read_text().split()
    return found


def test_simulate_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = (*EXPORTER, "simulate", "--port", "0", "--jobs", "50", "--faults", "throttle=0.5")
    with started(command, tmp_path, name="simulate") as program:
        url = first_line(program, "simulator:")
        account = ask(f"{url}/simulator/account").json
        assert len(account["targets"]) == 1
        assert program.stop(SIGTERM)[0] == 0
    assert "Traceback" not in program.errors


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--faults", "gremlins", "faults: 'gremlins' is unknown"),
        ("--quirks", '{"gremlins": 1}', "quirks: Object contains unknown field `gremlins`"),
        ("--quirks", '{"clamp_limit": 0}', "quirks.clamp_limit: 0: expected a number of 1 or more"),
    ],
)
def test_simulate_refuses_what_it_cannot_play(tmp_path: Path, option: str, value: str, problem: str) -> None:
    done = run(("simulate", "--port", "0", option, value), tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"octopus-exporter: {problem}")
    assert done.stderr.count("\n") == 1


def test_the_text_and_openmetrics_say_the_same(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready():
        exporter.scrape_until_polled()
        simulator.advance(3600)
        text = exporter.scrape_after_polls(2)
        answer = exporter.page("metrics", Accept="application/openmetrics-text; version=1.0.0")
    openmetrics = Exposed.of_openmetrics(answer.text)
    assert told(openmetrics) == told(text)
    failures = list(openmetrics.having("octopus_job_failures_total"))
    assert {sample.exemplar is not None for sample in failures if sample.value} == {True}
