"""What the command says and writes: all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.backfill.estimate import Estimator
from exporter.backfill.openmetrics import write_days
from exporter.backfill.past import LeftOut
from exporter.backfill.rule_history import RecordingRule
from exporter.backfill.script import loading_files
from exporter.backfill.spool import Spool, opened_spool
from exporter.commands import backfill
from exporter.commands.backfill import PastRead
from exporter.errors import BackfillError
from exporter.model import is_failed
from tests.past_jobs import DAY_MS, START_MS, a_past, a_plan, a_run, fill, unshown

HOUR_MS = 3_600_000


def read(spool: Spool, left_out: LeftOut | None = None, jobs: int = 3) -> PastRead:
    plan = a_plan(a_past(START_MS + DAY_MS + HOUR_MS))
    found = [a_run(number, START_MS + number * HOUR_MS) for number in range(1, jobs + 1)]
    (past,) = fill(spool, plan, found)
    estimator = Estimator(plan)
    for job in found:
        estimator.add(0, job, tuple(past.moments(job)), failed=is_failed(job.status))
    return PastRead(plan, (), estimator.targets(), [left_out or LeftOut()])


def test_a_dry_run_says_what_would_be_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    with opened_spool() as spool:
        left_out = LeftOut(ran_again=2, unreadable=3)
        backfill.write(read(spool, left_out), spool, folder, dry_run=True)
    assert not folder.exists()
    lines = capsys.readouterr().out.splitlines()
    name = "  perception, workspace 0"
    assert lines[0] == (f"From 2024-10-04 00:56 UTC to 2024-10-05 01:00 UTC, a sample every 4m, to {folder}:")
    assert lines[1].startswith(
        name + ", until 2024-10-05 01:00 UTC: 3 jobs created, 3 runs started, 3 ended; about "
    )
    assert lines[2].startswith("  in all: 2 files, one for each UTC day, about ")
    assert lines[3].endswith(" of blocks")
    # It is long ago.
    assert lines[4] == "The files can be loaded now or later"
    again = "jobs that have run again since the first poll, whose runs before are not known"
    assert f"{name}: {again}: 2" in lines
    assert f"{name}: rows that cannot be read: 3" in lines


def test_without_any_job_there_is_nothing_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    with opened_spool() as spool:
        backfill.write(read(spool, LeftOut(unreadable=1), jobs=0), spool, folder, dry_run=False)
    assert not folder.exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "There is nothing to write: the API lists no job from before the live series.",
        "  perception, workspace 0: rows that cannot be read: 1",
    ]


def test_the_time_from_which_it_can_be_loaded_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last sample is just before 01:00, and Prometheus has it in memory for 3 hours and 5 minutes."""
    monkeypatch.setattr("exporter.commands.backfill.time.time_ns", lambda: (START_MS + DAY_MS) * 1_000_000)
    with opened_spool() as spool:
        backfill.write(read(spool), spool, tmp_path, dry_run=True)
    assert "The files can be loaded not before 2024-10-05 04:05 UTC\n" in capsys.readouterr().out
    with opened_spool() as spool:
        backfill.write(read(spool), spool, tmp_path, dry_run=False)
    said = capsys.readouterr().out
    assert f"run {tmp_path / 'load.sh'} DATA_DIRECTORY, not before 2024-10-05 04:05 UTC\n" in said


def test_days_are_written_with_a_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "past"
    monkeypatch.setattr(backfill, "loading_files", lambda *_given: {"load.sh": "#!/bin/sh\n", "more.yml": ""})
    with opened_spool() as spool:
        backfill.write(read(spool), spool, folder, dry_run=False)
    names = sorted(path.name for path in folder.iterdir())
    assert names[:2] == ["2024-10-04.om", "2024-10-05.om"]
    assert names[2:] == ["load.sh", "more.yml"]
    assert os.access(folder / "load.sh", os.X_OK)
    assert "\nWritten in " in capsys.readouterr().out


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit(1), BackfillError("the disk is full")])
def test_what_is_interrupted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, made: bool
) -> None:
    folder = tmp_path / "new"
    if made:
        folder.mkdir()

    def interrupted(*_given: object) -> None:
        assert len(list(folder.iterdir())) == 2
        raise stop

    monkeypatch.setattr(backfill, "loading_files", interrupted)
    with opened_spool() as spool, pytest.raises(type(stop) if isinstance(stop, BaseException) else stop):
        backfill.write(read(spool), spool, folder, dry_run=False)
    assert folder.exists() == made
    assert not made or not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        opened_spool() as spool,
        pytest.raises(BackfillError, match=r"--output: .*file/new: Not a directory"),
    ):
        backfill.write(read(spool), spool, tmp_path / "file" / "new", dry_run=False)


def test_the_script_evaluates_rules_up_to_the_first_live_sample_of_any_target(tmp_path: Path) -> None:
    rules = [RecordingRule("a:x", "sum(octopus_jobs)", (), 60.0)]

    def files(*until_ms: int) -> Mapping[str, str]:
        plan = a_plan(*map(a_past, until_ms))
        with opened_spool() as spool:
            fill(spool, plan, [a_run(1, START_MS + HOUR_MS)])
            return loading_files(plan, write_days(plan, spool, tmp_path, unshown), rules, "")

    end_ms = START_MS + 4 * HOUR_MS
    script = files(end_ms + HOUR_MS, end_ms)["load.sh"]
    assert f"rules_last='{end_ms // 1000 - 1}'\n" in script
    assert f"last='{(end_ms + HOUR_MS) // 1000 - 1}'\n" in script
    # There is no sample before the live series of the first.
    assert files(START_MS + HOUR_MS // 2, end_ms).keys() == {"load.sh"}
