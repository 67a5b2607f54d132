"""`jobs`: what it lists of a ledger, and how."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from exporter.cli import app
from exporter.clients import keep_configured_secrets
from exporter.commands.jobs import as_csv, as_json, as_table, run_filter, select_runs
from exporter.config import load
from exporter.errors import ConfigError, LedgerError, StartError
from exporter.ledger.ended import HOUR_MS
from exporter.ledger.schema import MIGRATIONS
from exporter.ledger.sqlite import SqliteLedger
from exporter.masking import Secrets
from exporter.model import TargetKey
from exporter.runs import KnownRun
from tests.fake_api import a_job, a_target
from tests.fake_runs import a_run
from tests.ledger_scene import Scene
from tests.ledgers import BackEnd, SqliteFile, only_sqlite

NOW_MS = 1_800_000_000_000
OTHER = a_target(project="mapping", project_id="p2", workspace="7", workspace_id="7")
WHEN = "a duration such as 1h, a time such as 2026-07-01T03:00:00Z or Unix seconds"
CONFIG = """
projects:
  - {{id: p1, name: perception, endpoint: "http://octopus.test"}}
  - {{id: p2, name: mapping, endpoint: "http://octopus.test", workspaces: ["7"]}}
credentials: {{default: {{type: token, token: t0ken-0123456789-abcdef}}}}
ledger: {{url: "{url}"}}
"""


@pytest.fixture
async def scene(back_end: BackEnd, tmp_path: Path) -> AsyncIterator[Scene]:
    """A ledger with jobs in flight, finished ones and failed ones, which an exporter has open."""
    configured(tmp_path, back_end.url)
    scene = Scene(back_end)
    await scene.open()
    past = NOW_MS - 3 * HOUR_MS
    history = {"created_ms": past - 9_000, "started_ms": past - 5_000, "ended_ms": past, "updated_ms": past}
    scene.api.now_ms = NOW_MS - 2 * HOUR_MS
    await scene.poll(OTHER)
    scene.api.put(a_job(1, "FINISHED", **history), a_job(2, "RUN_FAILED", **history))
    await scene.poll()
    scene.api.now_ms = NOW_MS - HOUR_MS
    texts = {"msg_code": "3001", "msg_error": "bad data", "data_id": "DPK1", "resource_spec": "1Core_4GiB"}
    scene.run_job(3, **texts)
    scene.run_job(4, "FINISHED", job_type="PACKAGE_IMPORT")
    scene.run_job(5, "UPLOAD_FAILED", msg_error="<b>[red]no\x1b[31m bucket\u202e")
    await scene.poll()
    # A job that failed, ran again, and failed again.
    now = scene.api.now_ms
    scene.api.put(a_job(3, "RUNNING", updated_ms=now, created_ms=now - 99_000, started_ms=now))
    await scene.poll()
    scene.run_job(3, **texts, created_ms=now - 99_000)
    now = scene.api.now_ms
    running = {"created_ms": now, "updated_ms": now + 4_000, "started_ms": now + 4_000}
    scene.api.put(a_job(6, "RUNNING", data_id="DPK6", resource_spec="2Core_8GiB", **running))
    await scene.poll()
    yield scene
    await scene.ledger.close()


def configured(tmp_path: Path, url: str | None = None) -> Path:
    """Write a configuration with the URL of a ledger; without one the last is kept."""
    file = tmp_path / "config.yaml"
    if url is not None or not file.exists():
        file.write_text(CONFIG.format(url=url or f"sqlite:///{tmp_path}/ledger.db"))
    return file


def listed(tmp_path: Path, *, failed_only: bool = False, most: int | None = None, **given: str) -> list[Any]:
    config = load(configured(tmp_path), {})
    which = run_filter(config, NOW_MS, **given)
    with select_runs(config, which, failed_only=failed_only, most=most) as found:
        runs: list[Any] = json.loads("".join(as_json(found.runs, str)))
    return runs


def names(runs: list[Any]) -> list[tuple[str, int]]:
    return [(run["job_id"], run["number"]) for run in runs]


async def test_all_that_is_known_the_newest_first(scene: Scene, tmp_path: Path) -> None:
    runs = listed(tmp_path)
    assert names(runs) == [("6", 1), ("3", 2), ("5", 1), ("4", 1), ("3", 1), ("2", 1), ("1", 1)]
    in_flight, again, _, finished, _, old, _ = runs
    assert (in_flight["status"], in_flight["data_id"], in_flight["at_ms"]) == ("RUNNING", "DPK6", None)
    assert (in_flight["submitting_ms"], in_flight["running_ms"]) == (4_000, None)
    assert (again["msg_code"], again["msg_error"], again["data_id"]) == ("3001", "bad data", "DPK1")
    assert (finished["msg_code"], finished["data_id"], finished["running_ms"]) == (None, None, 30_000)
    # Its end is history: only its row is known, not its message.
    assert (old["status"], old["msg_error"], old["submitting_ms"]) == ("RUN_FAILED", None, 4_000)
    assert list(runs[0]) == list(_row())


def _row() -> dict[str, Any]:
    return next(iter(csv.DictReader(io.StringIO("".join(as_csv(iter([known()]), str))))))


def known(job_id: int = 1, **fields: Any) -> tuple[TargetKey, KnownRun]:
    run = a_run(job_id, **fields)
    return a_target().key, KnownRun(**{name: getattr(run, name) for name in KnownRun.__dataclass_fields__})


FILTERS: list[tuple[dict[str, Any], list[tuple[str, int]]]] = [
    ({"project": "mapping"}, []),
    ({"workspace": "0", "id": "4"}, [("4", 1)]),
    ({"id": "3"}, [("3", 2), ("3", 1)]),
    ({"job_type": "PACKAGE_IMPORT"}, [("4", 1)]),
    ({"status": "RUN_FAILED"}, [("3", 2), ("3", 1), ("2", 1)]),
    ({"msg_code": "3001"}, [("3", 2), ("3", 1)]),
    ({"msg_code": ""}, [("5", 1)]),
    ({"failed_only": True}, [("3", 2), ("5", 1), ("3", 1), ("2", 1)]),
    ({"failed_only": True, "since": "90m"}, [("3", 2), ("5", 1), ("3", 1)]),
    ({"since": "2h", "status": "RUNNING"}, [("6", 1)]),
    ({"since": "2027-01-15T07:02:30Z"}, [("6", 1), ("3", 2), ("5", 1)]),
    ({"most": 2}, [("6", 1), ("3", 2)]),
]


async def test_filters(scene: Scene, tmp_path: Path) -> None:
    for given, expected in FILTERS:
        assert (given, names(listed(tmp_path, **given))) == (given, expected)


async def test_it_reads_beside_an_exporter_that_goes_on_writing(scene: Scene, tmp_path: Path) -> None:
    """Whoever reads slowly holds up no checkpoint: nothing of the ledger is read after the first row."""
    config = load(configured(tmp_path), {})
    with select_runs(config, run_filter(config, NOW_MS)) as found:
        first = next(found.runs)
        scene.run_job(9)
        await scene.poll()
        if isinstance(scene.back_end, SqliteFile):
            assert scene.back_end.rows("PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]
        assert len([first, *found.runs]) == 7
    assert names(listed(tmp_path))[0] == ("9", 1)


async def test_the_server_s_clock_does_not_matter(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    scene.api.skew_ms = skew = 5 * HOUR_MS
    scene.api.now_ms = NOW_MS - HOUR_MS
    await scene.poll()
    scene.api.now_ms = NOW_MS - 60_000
    ended = NOW_MS - 90_000 + skew
    times = {"created_ms": ended - 9_000, "updated_ms": ended, "ended_ms": ended}
    scene.api.put(a_job(1, "FINISHED", **times), a_job(2, "RUN_FAILED", **times))
    await scene.poll()
    await scene.ledger.close()
    assert names(listed(tmp_path, since="2m")) == [("2", 1), ("1", 1)]
    assert listed(tmp_path, since="1m") == []


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"project": "x"}, ["--project: 'x' is not configured, expected one of mapping, perception"]),
        ({"workspace": "9"}, ["--workspace: '9' is not configured, expected one of 0, 7"]),
        ({"project": "mapping", "workspace": "0"}, ["--workspace: '0' is not one of project mapping"]),
        ({"msg_code": "\udcff"}, ["--msg-code: found '\\udcff', expected text in UTF-8"]),
        ({"id": "-1"}, ["--id: found '-1', expected the id of a job, a whole number"]),
        (
            {"since": "soon", "project": "x"},
            [
                f"--since: found 'soon', expected {WHEN}",
                "--project: 'x' is not configured, expected one of mapping, perception",
            ],
        ),
    ],
)
def test_what_cannot_be_asked_is_told(tmp_path: Path, given: dict[str, str], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as told:
        run_filter(load(configured(tmp_path), {}), NOW_MS, **given)
    assert told.value.problems == problems


async def test_ledgers_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"

    def refusal(url: str = f"sqlite:///{file}") -> str:
        config = load(configured(tmp_path, url), {})
        with pytest.raises(StartError) as told, select_runs(config, run_filter(config, NOW_MS)):
            pass
        return str(told.value)

    assert refusal().startswith(f"ledger {file}: there is none yet, `octopus-exporter run` makes it")
    assert refusal("sqlite://") == "ledger sqlite://: not a file, so another process cannot read it"
    file.write_text("something else altogether, and longer than a header of SQLite would be" * 9)
    assert refusal() == f"ledger {file}: not an SQLite database"
    file.unlink()
    await (await SqliteLedger.open(file)).close()
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
    assert "`run` brings it up to date" in refusal()


@only_sqlite
async def test_damage_in_one_row_hides_no_other(scene: Scene, tmp_path: Path) -> None:
    with scene.sql() as db:
        db.execute("UPDATE failed_runs SET msg_error = CAST(X'41ff' AS TEXT) WHERE job_id = 5")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'failed_runs'")
    with scene.sql() as db:
        db.execute("UPDATE failed_runs SET created_ms = 'soon' WHERE job_id = 3 AND number = 1")
    runs = listed(tmp_path)
    assert names(runs) == [("6", 1), ("3", 2), ("5", 1), ("4", 1), ("2", 1), ("1", 1)]
    assert runs[2]["msg_error"] == "A\ufffd"


@only_sqlite
async def test_damage_that_sqlite_sees_is_a_line(scene: Scene, tmp_path: Path) -> None:
    await scene.ledger.close()
    with scene.sql() as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'").fetchone()
    content = bytearray(scene.file.read_bytes())
    content[4096 * (page - 1) : 4096 * page] = b"\xff" * 4096
    scene.file.write_bytes(content)
    with pytest.raises(LedgerError, match=f"ledger {scene.file}: damaged: database disk image is malformed"):
        listed(tmp_path)
    scene.ledger = await SqliteLedger.open(None)


def drawn(*runs: tuple[TargetKey, KnownRun], width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(as_table(runs, str))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_cuts_nothing_off(width: int) -> None:
    message = "the data package is damaged: " + "x" * 300 + " and [bold]so on"
    text = drawn(
        known(2**63 - 1, msg_error=message, msg_code="C" * 90, job_type="SCENARIO_AUTO_MINING"),
        known(2, data_id="D" * 200, number=3),
        width=width,
    )
    assert "\u2026" not in text
    assert all(len(line) <= width for line in text.splitlines())
    columns = [[line.split("│")[n].strip() for line in text.splitlines() if "│" in line] for n in (1, 2, 3)]
    job, course, details = ("".join(column).replace(" ", "") for column in columns)
    assert str(2**63 - 1) in job
    assert "SCENARIO_AUTO_MINING" in job
    assert "C" * 90 in course
    assert "run3ofthisjob" in course
    assert message.replace(" ", "") in details
    assert "D" * 200 in details


def test_a_row_of_the_table_is_readable_at_80_columns() -> None:
    assert drawn(known(3393, msg_error="A camera topic is missing in the data package.")).splitlines()[
        3:-1
    ] == [
        "│ 3393          │ RUN_FAILED 3101             │ A camera topic is missing in   │",
        "│ FRAME_EXTRACT │ created 2023-11-14 22:13:20 │ the data package.              │",
        "│               │ started 2023-11-14 22:13:30 │ data_id DPK0000001             │",
        "│               │ ended   2023-11-14 22:14:10 │ resource_spec 1Core_4GiB       │",
        "│               │ waited 10s, ran 40s         │                                │",
    ]


def test_nothing_in_a_message_moves_the_terminal() -> None:
    text = drawn(known(1, msg_error="red\x1b[31m\x07 \u202eturned\nnext [red]line"))
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert "[red]line" in text


async def test_secrets_of_the_configuration_are_masked(scene: Scene, tmp_path: Path) -> None:
    config, secrets = load(configured(tmp_path), {}), Secrets()
    keep_configured_secrets(config, secrets)
    shown = "".join(as_json(iter([known(1, msg_error="with t0ken-0123456789-abcdef")]), secrets.masked))
    assert json.loads(shown)[0]["msg_error"] == "with <secret>"


async def test_the_command_line(scene: Scene, tmp_path: Path) -> None:
    given = ["jobs", "--config", str(configured(tmp_path))]
    run = CliRunner().invoke
    table = run(app, [*given, "--limit", "2"])
    assert (table.exit_code, table.stderr) == (
        0,
        "octopus-exporter: there are more than these 2: --limit N shows more\n",
    )
    everything = run(app, [*given, "--format", "csv"])
    assert (everything.exit_code, everything.stderr) == (0, "")
    assert len(list(csv.DictReader(io.StringIO(everything.stdout)))) == 7
    nothing = run(app, [*given, "--id", "99"])
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (
        0,
        "",
        "octopus-exporter: the ledger knows no such run\n",
    )
    assert json.loads(run(app, [*given, "--id", "99", "--format", "json"]).stdout) == []
    assert run(app, [*given, "--format", "xml"]).exit_code == 2
