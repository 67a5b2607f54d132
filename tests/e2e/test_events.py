"""One line for every run that ended: at least once, in order, whatever the output does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.events import (
    assert_all_are_there,
    assert_in_order,
    events_in,
    figures,
    without_repetitions,
)
from tests.e2e.exporting import Exporter, project, run_once
from tests.e2e.simulation import Simulation
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

PENDING = "octopus_exporter_events_pending"
DROPPED = "octopus_exporter_events_dropped_total"
MANY = 1_000

Scene = tuple[Exporter, Simulation]


@pytest.fixture
def scene(tmp_path: Path, simulate: Simulate) -> Scene:
    """An exporter, and a simulator in which nothing ends but what the test says."""
    simulator = simulate(jobs=0, jobs_per_day=0)
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(web={"enable_lifecycle": True})
    return exporter, simulator


def events_go_to(exporter: Exporter, to: str, **keys: str) -> Path:
    """Configure events; give the path of the file they go to."""
    exporter.config["events"] = {"to": to, **keys}
    return exporter.folder / to


def reload(exporter: Exporter) -> None:
    exporter.write()
    answer = exporter.page("-/reload", "POST")
    assert answer.status == 200, answer.text


def end_many(simulator: Simulation, exporter: Exporter, jobs: int = MANY) -> None:
    """Let many jobs fail, and be counted."""
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=jobs, outcome="RUN_FAILED", msg_code=3001)
    simulator.advance(60)
    exporter.scrape_after_polls(2)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Give the two ends of a pipe."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)


def read_until_closed(reader: int) -> str:
    data = bytearray()
    while some := os.read(reader, 65_536):
        data += some
    return data.decode()


def until_written(file: Path, lines: int) -> None:
    def written() -> bool:
        return file.exists() and file.read_bytes().count(b"\n") >= lines

    until(written, f"{lines} lines in {file.name}")


def test_every_run_is_a_line_and_history_is_none(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(jobs=300, workspaces=["0", "7"])
    projects = [project(simulator.url, workspaces=["0", "7"])]
    exporter = Exporter(tmp_path, simulator.url, projects=projects)
    file = events_go_to(exporter, "events.log")
    with exporter.ready():
        exporter.scrape_until_polled()
        for _ in range(6):
            simulator.advance(3600)
            exposed = exporter.scrape_after_polls(2)
        ended = int(exposed.total("octopus_jobs_completed_total"))
        assert ended > 50
        until_written(file, ended)
        lines = events_in(file.read_text())
        assert_agreement(exporter, exposed, simulator)
        assert_all_are_there(lines, exporter, simulator)
    assert_in_order(lines)


def test_a_reader_that_stops_delays_events_and_nothing_else(scene: Scene) -> None:
    exporter, simulator = scene
    events_go_to(exporter, "stdout")
    with pipe() as (reader, writer), ThreadPoolExecutor(1) as thread:
        with exporter.ready(output_to=writer) as program:
            os.close(writer)
            exporter.scrape_until_polled()
            end_many(simulator, exporter)
            blocked = exporter.scrape_when(
                lambda exposed: (exposed.value(PENDING) or 0) > 0, "events that wait", PENDING
            )
            end_many(simulator, exporter)
            exposed = exporter.scrape_after_polls(3)
            assert_agreement(exporter, exposed, simulator)
            assert exposed.value("octopus_up") == 1
            assert exporter.page("-/ready").status == 200
            program.wait_for_line("events not written; they are kept")
            assert 0 < (blocked.value(PENDING) or 0) <= MANY

            reading = thread.submit(read_until_closed, reader)
            exporter.scrape_until(PENDING, 0)
            end_many(simulator, exporter, jobs=10)
            program.wait_for_line("events are written again")
            assert exporter.scrape().value(DROPPED) == 0
            assert program.stop()[0] == 0
        lines = events_in(reading.result())
    assert len(lines) == 2 * MANY + 10
    assert len(without_repetitions(lines)) == len(lines)
    assert_in_order(lines)


def test_a_reader_that_has_stopped_does_not_keep_it_from_stopping(scene: Scene) -> None:
    """And what was not written is written by the next process: once, and in order."""
    exporter, simulator = scene
    events_go_to(exporter, "stdout")
    with pipe() as (reader, writer):
        with exporter.ready(output_to=writer) as program:
            os.close(writer)
            exporter.scrape_until_polled()
            end_many(simulator, exporter)
            assert program.stop()[0] == 0
        assert "Traceback" not in program.errors
        read = read_until_closed(reader)
    first = events_in(read)
    assert 0 < len(first) < MANY
    with exporter.ready() as program:
        until_written(program.out, MANY - len(first))
        lines = first + events_in(program.output)
        assert_all_are_there(lines, exporter, simulator)
    assert_in_order(lines)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_lines_of_the_log_and_events_are_whole_on_one_pipe(scene: Scene, stream: str) -> None:
    """As under systemd, where standard output and standard error are one socket."""
    exporter, simulator = scene
    events_go_to(exporter, stream)
    exporter.change(log={"level": "debug"})
    with pipe() as (reader, writer), ThreadPoolExecutor(1) as thread:
        with exporter.running(errors_to=writer, output_to=writer) as program:
            os.close(writer)
            reading = thread.submit(read_until_closed, reader)
            exporter.wait_until_ready(program)
            exporter.scrape_until_polled()
            for _ in range(5):
                end_many(simulator, exporter, jobs=200)
            program.stop()
        text = reading.result()
    lines = events_in(text)
    assert len(lines) == 1_000
    assert len(text.splitlines()) > len(lines) + 5
    assert_in_order(lines)


def test_a_file_may_be_rotated_by_renaming_it(scene: Scene) -> None:
    exporter, simulator = scene
    file = events_go_to(exporter, "events.log")
    with exporter.ready():
        exporter.scrape_until_polled()
        for number in range(1, 4):
            end_many(simulator, exporter, jobs=50)
            until_written(file, 50)
            file.rename(file.with_name(f"events.log.{number}"))
        files = [file.with_name(f"events.log.{number}") for number in range(1, 4)]
        lines = events_in("".join(each.read_text() for each in files))
        assert [len(each.read_text().splitlines()) for each in files] == [50, 50, 50]
        assert_all_are_there(lines, exporter, simulator)


def test_a_full_disk_delays_events_and_a_reload_takes_them_elsewhere(scene: Scene) -> None:
    exporter, simulator = scene
    events_go_to(exporter, "/dev/full")
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        end_many(simulator, exporter, jobs=20)
        exporter.scrape_until(PENDING, 20)
        exporter.scrape_after_polls(3)
        program.wait_for_line("No space left on device")
        assert program.errors.count("events not written; they are kept") == 1

        file = events_go_to(exporter, "events.log")
        reload(exporter)
        until_written(file, 20)
        assert_all_are_there(events_in(file.read_text()), exporter, simulator)
        exporter.scrape_until(PENDING, 0)


def test_a_reader_that_is_gone_delays_events(scene: Scene) -> None:
    exporter, simulator = scene
    events_go_to(exporter, "stdout")
    reader, writer = os.pipe()
    os.close(reader)
    with exporter.ready(output_to=writer) as program:
        os.close(writer)
        exporter.scrape_until_polled()
        end_many(simulator, exporter, jobs=20)
        exporter.scrape_until(PENDING, 20)
        exporter.scrape_after_polls(3)
        program.wait_for_line("Broken pipe")
        assert "Traceback" not in program.errors
    with exporter.ready() as program:
        until_written(program.out, 20)
        assert_all_are_there(events_in(program.output), exporter, simulator)


def test_a_reload_changes_what_is_written_and_how(scene: Scene) -> None:
    exporter, simulator = scene
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        end_many(simulator, exporter, jobs=5)

        file = events_go_to(exporter, "events.log", include="failed")
        reload(exporter)
        simulator.create_jobs(job_type="FRAME_EXTRACT", count=7, outcome="FINISHED")
        end_many(simulator, exporter, jobs=3)
        until_written(file, 3)
        assert figures(events_in(file.read_text()))["ended"] == {("FRAME_EXTRACT", "RUN_FAILED"): 3}

        other = events_go_to(exporter, "events.logfmt", format="logfmt")
        exporter.write()
        program.tell(SIGHUP)
        program.wait_for_line("configuration reloaded", times=2)
        simulator.create_jobs(job_type="FRAME_EXTRACT", count=7, outcome="FINISHED")
        end_many(simulator, exporter, jobs=3)
        until_written(other, 10)
        assert other.read_text().count(" status=FINISHED ") == 7

        del exporter.config["events"]
        reload(exporter)
        end_many(simulator, exporter, jobs=3)
        assert_agreement(exporter, exporter.scrape(), simulator)
        assert (len(file.read_text().splitlines()), len(other.read_text().splitlines())) == (3, 10)


def test_what_waits_when_events_leave_the_configuration_waits_until_they_are_back(scene: Scene) -> None:
    exporter, simulator = scene
    events_go_to(exporter, "/dev/full")
    with exporter.ready():
        exporter.scrape_until_polled()
        end_many(simulator, exporter, jobs=20)
        exporter.scrape_until(PENDING, 20)
        del exporter.config["events"]
        reload(exporter)
        exporter.scrape_until(PENDING, 0)
    file = events_go_to(exporter, "events.log")
    with exporter.ready():
        until_written(file, 20)
        assert_all_are_there(events_in(file.read_text()), exporter, simulator)


def test_once_writes_none(scene: Scene) -> None:
    exporter, simulator = scene
    file = events_go_to(exporter, "events.log")
    run_once(exporter)
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=4, outcome="RUN_FAILED", msg_code=3001)
    simulator.advance(60)
    run_once(exporter)
    assert not file.exists()
    with exporter.ready():
        end_many(simulator, exporter, jobs=3)
        until_written(file, 3)
        assert len(events_in(file.read_text())) == 3
