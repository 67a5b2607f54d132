"""No false spike: where counters begin, and how they go on over restarts and losses."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.exposed import Exposed, counted, told, zero_filled_keys
from tests.e2e.processes import Program
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

LABELS = ("job_type", "status", "msg_code")


def first_publication(exporter: Exporter, program: Program) -> Exposed:
    """Give the first exposition that has the target's numbers."""
    until(lambda: exporter.try_page("metrics"), f"metrics\n{program.errors}")
    return exporter.scrape_when(
        lambda exposed: bool(exposed.samples), "a first publication", "octopus_jobs_created_total"
    )


def assert_zero_filled(exposed: Exposed) -> None:
    for name, keys in zero_filled_keys().items():
        labels = LABELS[: len(next(iter(keys)))]
        shown = exposed.by(name, *labels)
        assert shown.keys() == keys, name
        assert name == "octopus_jobs" or set(shown.values()) == {0.0}, name


def test_a_first_start_shows_what_is_listed_and_counts_nothing(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.running() as program:
        first = first_publication(exporter, program)
        assert_zero_filled(first)
        assert sum(told(first)["listed"].values()) == 300
        later = exporter.scrape_after_polls(2)
        assert told(later) == told(first)
        assert_agreement(exporter, later, simulator)


def test_what_happens_during_the_first_sync_is_counted(tmp_path: Path, simulate: Simulate) -> None:
    """
    The server tells its time to the second, and the baseline is that second's end. A request takes longer
    than that here, so that whatever happens before is seen, and left out, by the first sync itself.
    """
    simulator = simulate(speed=120, jobs_per_day=12_000, quirks={"latency_seconds": 0.05})
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(poll={"page_size": 60})
    with exporter.ready():
        exporter.scrape_after_polls(1)
        simulator.set_speed(0)
        simulator.set_quirks()
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
    assert sum(counted(exposed)["started"].values()) > 20


def test_a_first_sync_that_is_killed_begins_anew(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(quirks={"latency_seconds": 0.5})  # so that the end of the sync is far away
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(poll={"page_size": 20, "concurrency": 1})
    with exporter.running() as program:
        until(lambda: rows_in(exporter.ledger) > 50, f"rows of a first sync\n{program.errors}")
        program.kill()
    simulator.set_quirks()
    simulator.advance(3600)
    with exporter.running() as program:
        first = first_publication(exporter, program)
        assert sum(sum(numbers.values()) for kind, numbers in counted(first).items()) == 0
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)


def rows_in(ledger: Path) -> int:
    """Look into a ledger that may not be there yet."""
    try:
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM jobs").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_counters_go_on_over_a_restart_and_begin_at_0_without_the_ledger(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready() as program:
        simulator.advance(3600)
        before = exporter.scrape_after_polls(2)
        assert counted(before)["ended"]
        assert program.stop()[0] == 0
    with exporter.running() as program:
        assert told(first_publication(exporter, program)) == told(before)
        simulator.advance(3600)
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
    exporter.lose_ledger()
    with exporter.running() as program:
        assert_zero_filled(first_publication(exporter, program))
        assert_agreement(exporter, exporter.scrape_after_polls(1), simulator)


def test_a_restart_shows_what_the_ledger_has_although_the_api_is_down(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready() as program:
        simulator.advance(3600)
        before = exporter.scrape_after_polls(2)
        assert program.stop()[0] == 0
    simulator.program.kill()
    with exporter.ready():
        assert told(exporter.scrape()) == told(before)


def test_runs_that_ended_while_it_was_down_are_counted_at_the_next_poll(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        assert program.stop()[0] == 0
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=30, outcome="FINISHED")
    simulator.advance(3600)
    with exporter.ready():
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
    assert counted(exposed)["ended"]["FRAME_EXTRACT", "FINISHED"] >= 30


def test_history_is_counted_where_that_is_asked_for(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(metrics={"count_history": True})
    with exporter.ready() as program:
        first = told(first_publication(exporter, program))
        figures = told(exporter.scrape_after_polls(2))
    assert figures == first  # with its value at once, and not as 0 first
    listed = figures["listed"]
    assert figures["ended"] == {key: jobs for key, jobs in listed.items() if key in figures["ended"]}
    assert sum(figures["created"].values()) == sum(listed.values()) == 300
    assert sum(figures["ended"].values()) > 250


def test_a_new_error_code_is_0_before_it_counts(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(poll={"interval": "2s"})
    labels = {"job_type": "FRAME_EXTRACT", "status": "RUN_FAILED", "msg_code": "9123"}
    with exporter.ready():
        exporter.scrape_until_polled()
        simulator.create_jobs(job_type="FRAME_EXTRACT", count=3, outcome="RUN_FAILED", msg_code=9123)
        simulator.advance(3600)
        assert appearances(exporter, labels, until_value=3) == [0, 3]
        assert_agreement(exporter, exporter.scrape_after_polls(1), simulator)


def appearances(exporter: Exporter, labels: dict[str, str], until_value: float) -> list[float]:
    """Give the values that a failure's counter is shown with, one after the other, up to this one."""
    name, shown = "octopus_job_failures_total", list[float]()

    def note(exposed: Exposed) -> bool:
        value = exposed.value(name, **labels)
        if value is not None and shown[-1:] != [value]:
            shown.append(value)
        return value == until_value

    exporter.scrape_when(note, f"{name} {labels} at {until_value}, after {shown}", name)
    return shown


def test_a_job_type_nobody_knows_is_counted_from_0_too(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready():
        exporter.scrape_until_polled()
        simulator.create_jobs(job_type="LANE_EXTRACT", count=4, outcome="RUN_FAILED", msg_code=77)
        simulator.create_jobs(job_type="FRAME_EXTRACT", count=2, outcome="PAUSED")
        simulator.advance(3600)
        exposed = exporter.scrape_after_polls(3)
        assert_agreement(exporter, exposed, simulator)
    assert exposed.value("octopus_jobs", job_type="FRAME_EXTRACT", status="PAUSED") == 2
    ended = exposed.by("octopus_jobs_completed_total", "status", job_type="LANE_EXTRACT")
    assert ended["RUN_FAILED",] == 4
