"""Exporters that share the targets by shards: together they are one exporter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGHUP

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, project, run_once
from tests.e2e.ledgers import HOUR, somebody_at
from tests.e2e.processes import EXPORTER, Program, run, started
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

# Of three shards, these are in the first, the last, the last and the first.
WORKSPACES = ["0", "2", "4", "3"]
BY_SHARD = {1: {"0", "3"}, 2: set[str](), 3: {"2", "4"}}


@contextmanager
def ready_shard(exporter: Exporter, number: int) -> Iterator[Program]:
    """Run one of three shards until it is ready."""
    shard = {"OCTOPUS_EXPORTER_SHARD": f"{number}/3"}
    command = (*EXPORTER, "run", "--config", exporter.write())
    with started(command, exporter.folder, name="exporter", environment=shard) as program:
        exporter.wait_until_ready(program)
        yield program


def recorded(exporter: Exporter) -> set[str]:
    """Name the workspaces that a ledger has."""
    with somebody_at(exporter.ledger) as db:
        return {name for (name,) in db.execute("SELECT workspace FROM targets")}


def test_all_shards_export_every_target_once_and_go_on_from_a_copied_ledger(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate(workspaces=(*WORKSPACES, "6"))
    projects = [project(simulator.url, workspaces=WORKSPACES)]
    whole = Exporter(tmp_path / "whole", simulator.url, projects=projects)
    run_once(whole)
    simulator.advance(HOUR)
    with ExitStack() as running:
        shards = {n: Exporter(tmp_path / f"shard-{n}", simulator.url, projects=projects) for n in BY_SHARD}
        programs = {}
        for number, exporter in shards.items():
            shutil.copy(whole.ledger, exporter.ledger)
            programs[number] = running.enter_context(ready_shard(exporter, number))
        for number, exporter in shards.items():
            workspaces = BY_SHARD[number]
            line = f"shard={number}/3 targets={len(workspaces)} configured_targets=4"
            programs[number].wait_for_line(line)
            programs[number].wait_for_line(f"shard={number}/3 targets={4 - len(workspaces)} first=")
            status = exporter.page("api/v1/status").json
            assert {target["workspace"] for target in status["targets"]} == workspaces
            assert f"{number}/3" in exporter.page("").text
            if workspaces:
                exposed = exporter.scrape_after_polls(2)
                assert {labels[1] for labels in exposed.successes()} == workspaces
                # What ended since the ledger was copied is counted once, by the shard that has the target.
                assert_agreement(exporter, exposed, simulator)
                assert exposed.total("octopus_jobs_completed_total") > 0
            else:
                assert "No target belongs to this shard" in exporter.page("").text
                assert list(exporter.scrape().having("octopus_up")) == []
            until(lambda e=exporter, w=workspaces: recorded(e) == w, "its own targets alone in the ledger")

        # A reload keeps the shard: workspace 6 is of the first one.
        projects[0]["workspaces"].append("6")
        for number, exporter in shards.items():
            exporter.write()
            programs[number].tell(SIGHUP)
        for number, exporter in shards.items():
            programs[number].wait_for_line("configuration reloaded")
            wanted = BY_SHARD[number] | ({"6"} if number == 1 else set())
            assert {target["workspace"] for target in exporter.targets()} == wanted
            assert exporter.page("api/v1/status").json["shard"]["configured_targets"] == 5


def test_a_bad_shard_is_one_line_and_the_exit_code_of_a_bad_option(tmp_path: Path) -> None:
    done = run(("run", "--config", "none.yaml"), tmp_path, OCTOPUS_EXPORTER_SHARD="4/3")
    told = "OCTOPUS_EXPORTER_SHARD: found 4/3, expected K/N such as 2/3, with K from 1 to N"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"octopus-exporter: {told}\n")
