"""Values, types and tables of a ledger that are wrong cost a line, or the polls of one target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from exporter.ledger.schema import VERSION
from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.exposed import Exposed, told
from tests.e2e.ledgers import (
    DAMAGE,
    HOUR,
    REFUSED_AT_THE_START_ONLY,
    damage,
    lived_through,
    somebody_at,
    two_targets,
    without_types,
)
from tests.e2e.processes import Program, run
from tests.e2e.simulation import simulations
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

names = [f"{column}={value[:20]}" for column, value in DAMAGE]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """A ledger with something in every column."""
    folder = tmp_path_factory.mktemp("lived")
    with simulations(folder / "simulators", {"workspaces": ["0", "7"], "jobs_per_day": 4000}) as (simulator,):
        exporter = two_targets(folder / "exporter", simulator)
        exporter.change(poll={"audit_interval": "1s"})
        yield lived_through(exporter, simulator)


@pytest.fixture
def exporter(tmp_path: Path, ledger: bytes) -> Exporter:
    """An exporter of that ledger whose API is not there: it is not asked before it has started."""
    exporter = two_targets(tmp_path, Nowhere())  # type: ignore[arg-type]  # all that it takes is the URL
    exporter.ledger.write_bytes(ledger)
    return exporter


class Nowhere:
    url = "http://127.0.0.1:9"


def refusal(exporter: Exporter, command: str = "run") -> str:
    """Run the exporter, which must end and leave the ledger alone; give the line it says beside its log."""
    before = exporter.ledger.read_bytes()
    done = run((command, "--config", exporter.write()), exporter.folder)
    assert done.returncode == 3, done.stderr
    (said,) = (line for line in done.stderr.splitlines() if not line.startswith("ts="))
    assert said.startswith(f"octopus-exporter: ledger {exporter.ledger}: damaged: ")
    assert exporter.ledger.read_bytes() == before
    return said


@pytest.mark.parametrize(("column", "value"), DAMAGE, ids=names)
def test_a_value_that_cannot_be_read_is_named_at_the_start(
    exporter: Exporter, column: str, value: str
) -> None:
    damage(exporter.ledger, column, value)
    said = refusal(exporter)
    assert f"{column} of project perception, workspace 7: " in said


@pytest.mark.parametrize("command", ["once", "audit"])
def test_commands_name_it_too(exporter: Exporter, command: str) -> None:
    damage(exporter.ledger, "targets.filters", "{")
    assert "targets.filters of project perception, workspace 7: " in refusal(exporter, command)


def test_a_value_of_a_wrong_type_is_named_at_the_start(exporter: Exporter) -> None:
    with somebody_at(exporter.ledger) as db:
        without_types(db, "targets", "UPDATE targets SET commits = 'soon'")
    assert "non-INTEGER value in targets.commits" in refusal(exporter)


def test_tables_that_are_not_ours_are_named_at_the_start(exporter: Exporter) -> None:
    with somebody_at(exporter.ledger) as db:
        db.execute("ALTER TABLE targets DROP COLUMN labels")
    assert f"its table targets is another, expected that of schema {VERSION}" in refusal(exporter)


def test_tables_beside_ours_do_no_harm(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(workspaces=["0", "7"])
    exporter = two_targets(tmp_path / "exporter", simulator)
    lived_through(exporter, simulator, hours=1)
    with somebody_at(exporter.ledger) as db:
        db.executescript("ANALYZE; CREATE TABLE notes (text); CREATE INDEX mine ON jobs (status)")
    with exporter.ready():
        simulator.advance(HOUR)
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)


def test_a_value_damaged_while_it_runs_fails_the_polls_of_its_target_alone(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate(workspaces=["0", "7"], jobs_per_day=4000)
    exporter = two_targets(tmp_path / "exporter", simulator)
    exporter.change(poll={"audit_interval": "1s"})
    lived_through(exporter, simulator)
    with exporter.ready() as program:
        for column, value in DAMAGE:
            if not REFUSED_AT_THE_START_ONLY & {column, value}:
                exporter.scrape_after_polls(1)
                assert_fails_alone(exporter, program, column, value)
        simulator.advance(HOUR)
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
    assert "Traceback" not in program.errors
    assert exposed.total("octopus_poll_failures_total", workspace="0") == 0


def assert_fails_alone(exporter: Exporter, program: Program, column: str, value: str) -> None:
    before = told(exporter.scrape(), workspace="7")
    undo = damage(exporter.ledger, column, value)

    def fails(exposed: Exposed) -> bool:
        # A poll that was under way may have written over it.
        damage(exporter.ledger, column, value)
        return exposed.value("octopus_up", workspace="7") == 0

    exporter.scrape_when(fails, f"polls that fail for {column} = {value}", "octopus_up")
    # One more, so that none that began before is taken for it.
    failed = exporter.scrape_until_failed("ledger", times=1)
    assert failed.value("octopus_up", workspace="0") == 1
    assert told(failed, workspace="7") == before
    (target,) = (target for target in exporter.targets() if target["workspace"] == "7")
    assert target["error"]["reason"] == "ledger"
    start = f"ledger {exporter.ledger}: damaged: {column} of project perception, workspace 7: "
    assert target["error"]["message"].startswith(start)
    program.must_run()
    with somebody_at(exporter.ledger) as db:
        db.execute(*undo)
    exporter.scrape_until("octopus_up", 1, workspace="7")


def test_a_job_that_cannot_be_read_fails_the_polls_of_its_target_alone(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate(workspaces=["0", "7"], jobs_per_day=4000)
    exporter = two_targets(tmp_path / "exporter", simulator)
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        with somebody_at(exporter.ledger) as db:
            db.execute(
                "UPDATE jobs SET status = CAST(X'41ff' AS TEXT) WHERE target = "
                "(SELECT id FROM targets WHERE workspace = '7')"
            )
        exposed = exporter.scrape_until_failed("ledger", times=2)
        assert exposed.value("octopus_up", workspace="7") == 0
        assert exporter.scrape_until("octopus_up", 1, workspace="0")
        program.must_run()
    assert "Traceback" not in program.errors


def test_bits_turned_over_end_no_process_with_a_traceback(
    tmp_path: Path, ledger: bytes, simulate: Simulate
) -> None:
    """A few of those of tests/test_bit_flips.py, with the real process."""
    simulator = simulate(workspaces=["0", "7"])
    exporter = two_targets(tmp_path / "exporter", simulator)
    chance = Random(10)
    for _ in range(12):
        exporter.lose_ledger()
        damaged = bytearray(ledger)
        bit = chance.randrange(8 * len(damaged))
        damaged[bit // 8] ^= 1 << bit % 8
        exporter.ledger.write_bytes(damaged)
        with exporter.running() as program:
            until(lambda: program.process.poll() is not None or polled(exporter), "polls or an end")
            if program.process.poll() is None:
                assert program.stop()[0] == 0
            else:
                assert program.wait() == 3
        assert "Traceback" not in program.errors


def polled(exporter: Exporter) -> bool:
    answer = exporter.try_page("api/v1/status")
    # There are no targets as long as the ledger is being checked.
    targets = [] if answer is None else answer.json["targets"]
    return bool(targets) and all(target["polls"] for target in targets)
