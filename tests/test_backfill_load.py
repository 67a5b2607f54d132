"""load.sh: whatever interrupts it, it is run again, and the history is loaded once."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.backfill import script
from exporter.backfill.openmetrics import write_days
from exporter.backfill.plan import BackfillPlan
from exporter.backfill.rule_history import RecordingRule
from exporter.backfill.script import loading_files
from exporter.backfill.spool import opened_spool
from tests.e2e.processes import free_port, plain_environment
from tests.e2e.prometheus import program
from tests.past_jobs import START_MS, STEP_MS, a_past, a_plan, a_run, fill, unshown

pytestmark = pytest.mark.prometheus

HOUR_MS = 3_600_000
UNTIL_MS = START_MS + HOUR_MS
# The second reads the first.
RULES = (
    RecordingRule("project:created", "sum by (project) (octopus_jobs_created_total)", (), 240.0),
    RecordingRule("project:twice", "project:created * 2", (), 240.0),
)
# At the KILL_AT-th call of any of these programs with the words KILL_ON, the script is killed. The program
# goes on.
WRAPPER = """#!/bin/sh
case "{name} $*" in *"$KILL_ON"*) echo >>"$COUNTED" ;; *) exec {program} "$@" ;; esac
if [ "$(wc -l <"$COUNTED")" -eq "$KILL_AT" ]; then kill -9 "$PPID"; fi
exec {program} "$@"
"""

Load = Callable[..., subprocess.CompletedProcess[str]]


def written(folder: Path, plan: BackfillPlan, created_ms: int = START_MS) -> Path:
    folder.mkdir()
    with opened_spool() as spool:
        fill(spool, plan, [a_run(number, created_ms + number * HOUR_MS // 4) for number in range(1, 4)])
        days = write_days(plan, spool, folder, unshown)
    body = Path(script.__file__).with_name("load.sh").read_text()
    for name, text in loading_files(plan, days, RULES, body).items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return written(tmp_path / "history", a_plan(a_past(UNTIL_MS)))


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Run the script on a data directory."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cp", "mv", "mkdir", "promtool"):
        tool = tools / name
        tool.write_text(WRAPPER.format(name=name, program=program(name)))
        tool.chmod(0o755)

    def run(history: Path, data: Path, kill_at: int = 0, **given: str) -> subprocess.CompletedProcess[str]:
        if not data.exists():
            (data / "wal").mkdir(parents=True)
        counted = tmp_path / "counted"
        counted.write_text("")
        environment = {"COUNTED": str(counted), "KILL_AT": str(kill_at), "KILL_ON": ""}
        environment |= {
            "PORT": str(free_port()),
            "PROMETHEUS": program("prometheus"),
            "PATH": f"{tools}:{os.environ['PATH']}",
        }
        return subprocess.run(
            ["sh", history / "load.sh", data],
            env=plain_environment() | environment | given,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def is_running(process: int) -> bool:
    """Tell whether it has a command line: one that has ended may still be there, for its parent to see."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def samples(data: Path) -> list[str]:
    done = subprocess.run(
        [program("promtool"), "tsdb", "dump", data], capture_output=True, text=True, check=True
    )
    return sorted(done.stdout.splitlines())


def blocks(data: Path) -> set[str]:
    return {path.parent.name for path in data.glob("*/meta.json")}


def stored(data: Path) -> int:
    """Count the samples in all blocks: one that is in two of them twice."""
    return sum(json.loads(meta.read_text())["stats"]["numSamples"] for meta in data.glob("*/meta.json"))


def test_wherever_it_is_killed_it_loads_once_when_it_is_run_again(
    tmp_path: Path, history: Path, load: Load
) -> None:
    whole = load(history, tmp_path / "whole", RULES="no")
    assert whole.returncode == 0, whole.stderr
    wanted = samples(tmp_path / "whole")
    assert len(wanted) > 100
    for kill_at in itertools.count(1):
        data = tmp_path / f"data-{kill_at}"
        if load(history, data, kill_at, RULES="no").returncode == 0:
            break
        again = load(history, data, RULES="no")
        assert (again.returncode, again.stderr) == (0, "")
        assert samples(data) == wanted
        loaded = blocks(data)
        assert "already loaded" in load(history, data, RULES="no").stdout
        assert blocks(data) == loaded
        left = {path.name for path in (data / "octopus-backfill").iterdir()}
        assert not left & {"blocks", "done", "history", "lock", "made", "moving"}
    assert kill_at > 10


def test_the_prometheus_of_a_killed_run_does_not_evaluate_rules(
    tmp_path: Path, history: Path, load: Load
) -> None:
    port = str(free_port())
    data, killed = tmp_path / "data", []
    wanted = loaded_at_once(history, data, load)
    for kill_on in ("create-blocks-from rules", "query instant"):
        done = load(history, data, 1, KILL_ON=kill_on, PORT=port)
        assert done.returncode == -signal.SIGKILL
        killed.append(int((data / "octopus-backfill/lock/server").read_text()))
    again = load(history, data, PORT=port)
    assert again.returncode == 0, again.stderr
    assert samples(data) == wanted
    assert not any(map(is_running, killed))


def test_rules_are_not_evaluated_on_what_is_left(tmp_path: Path, load: Load) -> None:
    begin_ms = START_MS - HOUR_MS // 2
    history = written(tmp_path / "history", a_plan(a_past(UNTIL_MS, from_ms=begin_ms)), begin_ms)
    data = tmp_path / "data"
    wanted = loaded_at_once(history, data, load)
    # The blocks of two days are made, and the first is in the data directory.
    killed = load(history, data, 3, KILL_ON="octopus-backfill/blocks/", RULES="no")
    assert killed.returncode == -signal.SIGKILL
    assert (len(blocks(data)), len(blocks(data / "octopus-backfill/blocks"))) == (1, 1)
    again = load(history, data)
    assert (again.returncode, again.stderr) == (0, "")
    assert samples(data) == wanted


def test_the_history_of_the_rules_can_be_loaded_later(tmp_path: Path, history: Path, load: Load) -> None:
    data = tmp_path / "data"
    wanted = loaded_at_once(history, data, load)
    for kill_on in ("cp -R", "octopus-backfill/records/", "octopus-backfill/loaded-rules.new"):
        assert load(history, data, RULES="no").returncode == 0
        assert not any("project:" in sample for sample in samples(data))
        assert load(history, data, 1, KILL_ON=kill_on).returncode == -signal.SIGKILL
        again = load(history, data)
        assert (again.returncode, again.stderr) == (0, "")
        assert samples(data) == wanted
        assert stored(data) == len(wanted)
        for rules in ("yes", "no"):
            assert "already loaded" in load(history, data, RULES=rules).stdout
        shutil.rmtree(data)


def loaded_at_once(history: Path, data: Path, load: Load) -> list[str]:
    """
    Give the samples of a history and of its rules, and leave no data directory.

    At which minutes rules are evaluated depends on the folder: so it is the one that is used later.
    """
    whole = load(history, data)
    assert whole.returncode == 0, whole.stderr
    found = samples(data)
    assert any("project:twice" in sample for sample in found)
    shutil.rmtree(data)
    return found


def test_another_history_of_the_same_series_is_refused(tmp_path: Path, history: Path, load: Load) -> None:
    data = tmp_path / "data"
    assert load(history, data, RULES="no").returncode == 0
    before = blocks(data)
    later = written(tmp_path / "later", a_plan(a_past(UNTIL_MS, from_ms=START_MS + HOUR_MS // 2)))
    refused = load(later, data, RULES="no")
    assert refused.returncode == 1
    assert "and this one overlaps with it" in refused.stderr
    assert blocks(data) == before
    labels = {"job": "octopus", "instance": "it's another:1"}
    other = written(tmp_path / "other", a_plan(a_past(UNTIL_MS, labels=labels)))
    assert load(other, data, RULES="no").returncode == 0
    assert len(blocks(data)) == 2 * len(before)
    # What was before the first sample of a history can be loaded later.
    until_ms = START_MS + 3 * STEP_MS
    longer = a_plan(a_past(until_ms, from_ms=START_MS - HOUR_MS))
    earlier = written(tmp_path / "earlier", longer, START_MS - HOUR_MS)
    assert load(earlier, data, RULES="no").returncode == 0
    for known in (history, other, earlier):
        assert "already loaded" in load(known, data, RULES="no").stdout


def test_a_folder_that_is_no_data_directory_is_refused(tmp_path: Path, history: Path, load: Load) -> None:
    parent = tmp_path / "parent"
    (parent / "pdata" / "wal").mkdir(parents=True)
    refused = load(history, parent, RULES="no")
    assert refused.returncode == 1
    assert f"did you mean {parent / 'pdata'}?" in refused.stderr
    home = tmp_path / "home"
    home.mkdir()
    (home / "notes").write_text("")
    refused = load(history, home, RULES="no")
    assert refused.returncode == 1
    assert "has notes and no folder wal" in refused.stderr
    assert {path.name for folder in (parent, home) for path in folder.iterdir()} == {"pdata", "notes"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_after_a_run_as_root_all_belongs_to_the_owner(tmp_path: Path, history: Path, load: Load) -> None:
    data = tmp_path / "data"
    (data / "wal").mkdir(parents=True)
    for path in (data, data / "wal"):
        os.chown(path, 65534, 65534)
    assert load(history, data, RULES="no").returncode == 0
    assert {path.stat().st_uid for path in data.rglob("*")} == {65534}


def test_an_empty_folder_gets_blocks_to_copy(tmp_path: Path, load: Load) -> None:
    """Mimir refuses a block with a midnight (UTC) inside, and mimirtool needs a second for each."""
    begin_ms, six_hours_ms = START_MS - HOUR_MS, 6 * HOUR_MS
    history = written(tmp_path / "history", a_plan(a_past(UNTIL_MS, from_ms=begin_ms)), begin_ms)
    data = tmp_path / "blocks"
    data.mkdir()
    loaded = load(history, data)
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.stdout.splitlines() == [
        "samples of 2024-10-03: file 1 of 2",
        "samples of 2024-10-04: file 2 of 2",
        "recording rules: stage 1 of 2",
        "recording rules: stage 2 of 2",
        "merging the blocks, which begins after a minute",
        f"the blocks are in {data}: copy them to where they are to be read",
    ]
    made = [json.loads(file.read_text()) for file in data.glob("*/meta.json")]
    times = [(block["minTime"] // six_hours_ms, (block["maxTime"] - 1) // six_hours_ms) for block in made]
    midnight = START_MS // six_hours_ms
    assert sorted(times) == [(midnight - 1, midnight - 1), (midnight, midnight)]
    assert "already loaded" in load(history, data).stdout
    # promtool reads only what looks like the data directory of a Prometheus.
    (data / "wal").mkdir()
    assert "project:twice" in "".join(samples(data))


def test_a_run_that_makes_blocks_to_copy_goes_on_after_it_was_killed(
    tmp_path: Path, history: Path, load: Load
) -> None:
    """Its Prometheus has a folder wal, which tells a data directory."""
    data = tmp_path / "blocks"
    data.mkdir()
    assert load(history, data, 2, KILL_ON="create-blocks-from rules").returncode == -signal.SIGKILL
    assert (data / "octopus-backfill/blocks/wal").is_dir()
    again = load(history, data)
    assert (again.returncode, again.stderr) == (0, "")
    (data / "wal").mkdir()
    assert any("project:twice" in sample for sample in samples(data))


def test_what_is_loaded_is_said_before_the_time_is_looked_at(
    tmp_path: Path, history: Path, load: Load
) -> None:
    data = tmp_path / "data"
    script = history / "load.sh"
    script.write_text(re.sub(r"safe_at='\d+'", "safe_at='9999999999'", script.read_text()))
    early = load(history, data, RULES="no")
    assert "still in the memory of Prometheus" in early.stderr
    assert load(history, data, RULES="no", LOAD_EARLY="yes").returncode == 0
    assert "already loaded" in load(history, data, RULES="no").stdout
