"""A fault of the exporter in one target's work costs that target's polls, and nobody else anything."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.ledgers import HOUR, two_targets
from tests.e2e.processes import Program, started
from tests.e2e.simulation import Simulation

pytestmark = pytest.mark.e2e

# The exporter itself with a fault that a file turns on: it comes up in the work for workspace 7 alone.
FAULTY = """
import sys
from pathlib import Path

where, switch = sys.argv.pop(1), Path(sys.argv.pop(1))

def broken(real, workspace_of):
    def run(*args, **kwargs):
        if switch.exists() and workspace_of(*args) == "7":
            raise ZeroDivisionError("a fault for a test")
        return real(*args, **kwargs)
    return run

import exporter.exposition.publication as publication
from exporter.ledger.sqlite import SqliteLedger
from exporter.sync.poll import Poll

if where == "poll":
    Poll.run = broken(Poll.run, lambda poll: poll.target.workspace)
elif where == "audit":
    Poll.audit = broken(Poll.audit, lambda poll: poll.target.workspace)
elif where == "restore":
    SqliteLedger.restore = broken(SqliteLedger.restore, lambda _, target, rules: target.workspace)
elif where == "rendering":
    publication.render_target = broken(
        publication.render_target, lambda shown, *_: shown.target.workspace if shown.poll.up else ""
    )

from exporter.cli import main
main()
"""


@pytest.fixture
def simulator(simulate: Simulate) -> Simulation:
    return simulate(workspaces=["0", "7"], jobs_per_day=4000)


@pytest.fixture
def exporter(tmp_path: Path, simulator: Simulation) -> Exporter:
    return two_targets(tmp_path / "exporter", simulator)


@contextmanager
def faulty(exporter: Exporter, where: str) -> Iterator[tuple[Program, Path]]:
    """Run an exporter with a fault somewhere; give the file that turns it on."""
    switch = exporter.folder / "switch"
    command = (sys.executable, "-c", FAULTY, where, switch, "run", "--config", exporter.write())
    with started(command, exporter.folder, name="exporter") as program:
        exporter.wait_until_ready(program)
        yield program, switch


@pytest.mark.parametrize("where", ["poll", "rendering"])
def test_a_fault_fails_one_target_and_is_told_once(
    exporter: Exporter, simulator: Simulation, where: str
) -> None:
    with faulty(exporter, where) as (program, switch):
        exporter.scrape_until_polled()
        switch.touch()
        simulator.advance(HOUR)
        exporter.scrape_until("octopus_up", 0, workspace="7")
        polls = exporter.scrape().value("octopus_polls_total", workspace="0") or 0
        broken = exporter.scrape_until_risen("octopus_polls_total", polls + 5, workspace="0")
        assert broken.by("octopus_up", "workspace") == {("0",): 1, ("7",): 0}
        (target,) = (target for target in exporter.targets() if target["workspace"] == "7")
        assert target["error"]["reason"] == "internal"
        assert "please report it: ZeroDivisionError: a fault for a test" in target["error"]["message"]
        assert exporter.page("-/healthy").status == 200
        program.wait_for_line("Traceback")
        assert program.errors.count("Traceback") == 1
        assert program.errors.count("please report") <= 2
        if where == "poll":
            assert (broken.value("octopus_poll_failures_total", workspace="7", reason="internal") or 0) > 0
            assert broken.value("octopus_poll_failures_total", workspace="0", reason="internal") == 0
        switch.unlink()
        exporter.scrape_until("octopus_up", 1, workspace="7")
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
        assert program.stop()[0] == 0


@pytest.mark.parametrize("where", ["audit", "restore"])
def test_a_fault_outside_the_polls_stops_no_poll(
    exporter: Exporter, simulator: Simulation, where: str
) -> None:
    exporter.change(poll={"audit_interval": "1s"})
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        assert program.stop()[0] == 0
    (exporter.folder / "switch").touch()
    with faulty(exporter, where) as (program, _):
        simulator.advance(HOUR)
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
        exposed = exporter.scrape_after_polls(3)
        assert exposed.total("octopus_poll_failures_total") == 0
        program.wait_for_line("Traceback")
        assert program.errors.count("Traceback") == 1
        program.tell(signal.SIGHUP)
        program.wait_for_line("configuration reloaded")
        assert exporter.scrape_after_polls(1).by("octopus_up", "workspace") == {("0",): 1, ("7",): 1}
