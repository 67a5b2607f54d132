"""The PostgreSQL server and PgBouncer that other tests are given: they do what their handles say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.waiting import until
from tests.postgres import PgBouncer, PostgresDatabase, PostgresServer


def _says(url: str, statement: str) -> str:
    """Run a statement by the exporter's role, in a connection of its own."""
    done = subprocess.run(
        ("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def test_the_role_owns_its_database_and_is_no_administrator(database: PostgresDatabase) -> None:
    assert _says(database.url, "CREATE TABLE kept (n integer); SELECT 1") == "1"
    assert database.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'octopus'") == "f"


@pytest.mark.parametrize("immediate", [False, True], ids=["fast", "immediate"])
def test_data_outlives_a_restart(database: PostgresDatabase, immediate: bool) -> None:
    _says(database.url, "CREATE TABLE kept AS SELECT 7 AS n")
    database.server.restart(immediate=immediate)
    assert _says(database.url, "SELECT n FROM kept") == "7"


def test_a_stopped_server_refuses_and_the_next_test_finds_it_running(postgres: PostgresServer) -> None:
    postgres.stop()
    assert "Connection refused" in _says(postgres.url("postgres"), "SELECT 1")
    postgres.settle()
    assert postgres.sql("SELECT 1") == "1"


def test_it_is_read_only_for_a_while(database: PostgresDatabase) -> None:
    database.server.set_read_only()
    assert "read-only" in _says(database.url, "CREATE TABLE refused (n integer)")
    database.server.settle()
    assert _says(database.url, "CREATE TABLE taken (n integer); SELECT 1") == "1"


def test_a_paused_server_answers_when_it_goes_on(database: PostgresDatabase) -> None:
    database.server.pause()
    with subprocess.Popen(("psql", "-XqAt", "-c", "SELECT 1", database.url), stdout=subprocess.PIPE) as asked:
        with pytest.raises(subprocess.TimeoutExpired):
            asked.wait(0.3)
        database.server.go_on()
        assert asked.communicate(timeout=60)[0] == b"1\n"


def test_connections_are_ended(database: PostgresDatabase) -> None:
    with subprocess.Popen(
        ("psql", "-XqAt", "-c", "SELECT 1", "-c", "SELECT pg_sleep(60)", database.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as asked:
        assert asked.stdout
        assert asked.stdout.readline() == b"1\n"
        assert database.terminate() == 1
        assert asked.wait(60) != 0


def test_a_standby_reads_and_takes_writes_once_it_is_promoted(database: PostgresDatabase) -> None:
    _says(database.url, "CREATE TABLE kept AS SELECT 7 AS n")
    with database.server.standby() as standby:
        there = standby.url(database.name)
        assert _says(there, "SELECT n FROM kept") == "7"
        assert "read-only" in _says(there, "UPDATE kept SET n = 8")
        database.server.stop(immediate=True)
        standby.promote()
        assert _says(there, "UPDATE kept SET n = 8 RETURNING n") == "8"


def test_pgbouncer_gives_a_connection_for_a_transaction(
    database: PostgresDatabase, bouncer: PgBouncer
) -> None:
    url = bouncer.url(database.name)
    _says(url, "SET SESSION work_mem = '77MB'")
    # The next client is given the connection of the one before, with what that one set.
    assert _says(url, "SHOW work_mem") == "77MB"
    bouncer.restart()
    assert _says(url, "SELECT 1") == "1"


def test_a_killed_test_process_leaves_no_server(postgres: PostgresServer) -> None:
    code = (
        "import os, signal\n"
        "from tests.postgres import pgbouncer, postgres_server\n"
        "with postgres_server() as server, pgbouncer(server) as bouncer:\n"
        "    print(server.pid, bouncer.pid, server.folder, bouncer.folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    *pids, server, bouncer = done.stdout.split()
    until(lambda: not any(_runs(int(pid)) for pid in pids), "its servers end")
    for folder in (server, bouncer):
        shutil.rmtree(folder)


def _runs(pid: int) -> bool:
    """Whether a process runs: one that has ended and was not waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
