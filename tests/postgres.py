"""
Real PostgreSQL servers and a real PgBouncer for tests: private, on the loopback, in folders of their own.

As root, they run as Debian's user `postgres`, because PostgreSQL refuses to run as root. They end with the
test process, also when it is killed: the kernel then sends them a signal (setpriv --pdeathsig).
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import Program, free_port, plain_environment
from tests.e2e.waiting import PATIENCE_SECONDS, until

# The exporter's role: it owns its database and may do nothing else. PgBouncer knows its password too.
ROLE = "octopus"
PASSWORD = "word-of-the-tests"
_ADMIN = "postgres"
_VERSIONS = Path("/usr/lib/postgresql")

# Durability costs time, and no test cuts the power: a stop of any kind leaves the system's cache whole.
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 32MB
max_connections = 200
max_wal_senders = 4
synchronous_commit = on
full_page_writes = off
jit = off
wal_retrieve_retry_interval = 100ms
log_line_prefix = '%m [%p] %u@%d '
"""
_ACCESS = f"""
host all,replication {_ADMIN} 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
_BOUNCER = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
max_client_conn = 500
default_pool_size = 20
server_login_retry = 1
"""


def needed(*programs: str | Path | None) -> None:
    """Skip the test where a program is not installed. Fail instead where CI=true."""
    if all(programs):
        return
    reason = "PostgreSQL or PgBouncer is not installed (apt-get install postgresql pgbouncer)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def server_programs() -> Path | None:
    """Find the folder of PostgreSQL's server programs. Debian keeps them out of PATH."""
    versions = sorted(_VERSIONS.glob("*/bin/postgres"), key=lambda found: int(found.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("postgres")
    return Path(found).parent if found else None


def pgbouncer_program() -> str | None:
    """Find PgBouncer. Debian keeps it where only root's PATH looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class _Daemon:
    """A server program in a folder of its own, run as a user that is not root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._program: Program | None = None

    @property
    def pid(self) -> int:
        return self._running().process.pid

    @property
    def log(self) -> str:
        """What the server has written."""
        file = self.folder / "server.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _running(self) -> Program:
        assert self._program, "not started"
        return self._program

    def _start(self, command: Sequence[str | Path], ending: signal.Signals) -> None:
        log = self.folder / "server.log"
        with log.open("ab") as written:
            process = subprocess.Popen(
                as_user(*command, ending=ending),
                cwd=self.folder,
                env=plain_environment(),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )
        self._program = Program(process, log, log)

    def _end(self, number: signal.Signals) -> None:
        program, self._program = self._program, None
        if program:
            program.tell(signal.SIGCONT)
            program.tell(number)
            program.wait()


class PostgresServer(_Daemon):
    """A PostgreSQL server. Its data outlives `stop`, so it can be started again on the same port."""

    def __init__(self, programs: Path, folder: Path, data: Path | None = None) -> None:
        super().__init__(folder)
        self.programs = programs
        self.data = data or folder / "data"
        # No test cuts the power.
        self.options: tuple[str, ...] = ("-c", "fsync=off")
        self._stopped: tuple[int, ...] = ()
        self._read_only = False

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        # A fast or an immediate stop ends the backends too; SIGQUIT is the immediate one.
        settings = ("-p", str(self.port), *self.options)
        self._start((self.programs / "postgres", "-D", self.data, *settings), signal.SIGQUIT)
        until(self._ready, "PostgreSQL takes connections")

    def _ready(self) -> bool:
        self._running().must_run()
        status = self.data / "postmaster.pid"
        lines = status.read_text().splitlines() if status.exists() else []
        return len(lines) >= 8 and int(lines[0]) == self.pid and lines[7].strip() == "ready"

    def stop(self, *, immediate: bool = False) -> None:
        """Stop it: fast (transactions are rolled back), or immediately (it recovers, as after a crash)."""
        self.go_on()
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)

    def restart(self, *, immediate: bool = False) -> None:
        """Stop it and start it again, on the same port with the same data."""
        self.stop(immediate=immediate)
        self.start()

    def pause(self) -> None:
        """Let all its processes stand still, as a machine that hangs: connections stay, nothing answers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        self._stopped = (self.pid, *map(int, children))
        for pid in self._stopped:
            _tell(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let its processes go on."""
        for pid in reversed(self._stopped):
            _tell(pid, signal.SIGCONT)
        self._stopped = ()

    def set_read_only(self, read_only: bool = True) -> None:
        """Refuse writes in all sessions, also in those that are open, from their next transaction on."""
        self._read_only = read_only
        self.sql(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if read_only else 'off'}")
        self.sql("SELECT pg_reload_conf()")
        wanted = "on" if read_only else "off"
        until(lambda: self.sql("SHOW default_transaction_read_only") == wanted, f"read-only is {wanted}")

    def settle(self) -> None:
        """Make it take and write what is asked again, whatever a test has done to it."""
        self.go_on()
        if self._program is None or self._program.process.poll() is not None:
            self.start()
        if self._read_only:
            self.set_read_only(False)

    def sql(self, statement: str, database: str = _ADMIN) -> str:
        """Run statements as the administrator. Returns a line for each row, with `|` between columns."""
        command = (
            self.programs / "psql",
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
            self.admin_url(database),
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert done.returncode == 0, f"{statement}: {done.stderr}"
        return done.stdout.strip()

    def admin_url(self, database: str = _ADMIN) -> str:
        return f"postgresql://{_ADMIN}@127.0.0.1:{self.port}/{database}"

    def url(self, database: str) -> str:
        """Give the address of a database for the exporter's role."""
        return f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def terminate(self, database: str, which: str = "true") -> int:
        """
        End connections to a database: those that meet a condition on pg_stat_activity. Returns how many.
        """
        return int(
            self.sql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                f" WHERE datname = '{database}' AND pid <> pg_backend_pid() AND ({which})"
            )
        )

    @contextmanager
    def standby(self) -> Iterator[PostgresServer]:
        """Run a hot standby of it: it follows at once, and refuses writes until it is promoted."""
        with _folder() as folder:
            copy = ("pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata")
            _run(self.programs / copy[0], *copy[1:], folder / "data", "--dbname", self.admin_url())
            server = PostgresServer(self.programs, folder)
            server.start()
            try:
                yield server
            finally:
                server.stop(immediate=True)

    def promote(self) -> None:
        """Make a standby the server that takes writes."""
        self.sql("SELECT pg_promote()")
        until(lambda: self.sql("SELECT pg_is_in_recovery()") == "f", "the standby is promoted")


class PgBouncer(_Daemon):
    """A PgBouncer in transaction mode before a server, for all its databases."""

    def __init__(self, program: str, folder: Path, server: PostgresServer) -> None:
        super().__init__(folder)
        self._name = program
        self._server = server
        settings = _BOUNCER.format(server=server.port, port=self.port, folder=folder)
        (folder / "pgbouncer.ini").write_text(settings)
        (folder / "users.txt").write_text(f'"{ROLE}" "{PASSWORD}"\n')

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        before = self.log.count("process up")
        self._start((self._name, self.folder / "pgbouncer.ini"), signal.SIGTERM)

        def is_up() -> bool:
            self._running().must_run()
            return self.log.count("process up") > before

        until(is_up, "PgBouncer takes connections")

    def stop(self) -> None:
        """Stop it at once: all its connections end."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def settle(self) -> None:
        """Make it serve again, whatever a test has done to it."""
        if self._program is None or self._program.process.poll() is not None:
            self.start()

    def url(self, database: str) -> str:
        """Give the address of a database for the exporter's role, through PgBouncer."""
        return f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{self.port}/{database}"


class PostgresDatabase:
    """An empty database of one test. The exporter's role owns it."""

    _numbers = itertools.count(1)

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.name = f"ledger_{next(self._numbers)}"
        server.sql(f"CREATE DATABASE {self.name} OWNER {ROLE}")

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def sql(self, statement: str) -> str:
        """Run statements in it as the administrator (PostgresServer.sql)."""
        return self.server.sql(statement, self.name)

    def terminate(self, which: str = "true") -> int:
        """End the connections to it (PostgresServer.terminate)."""
        return self.server.terminate(self.name, which)

    def drop(self) -> None:
        """Remove it, with whatever is connected."""
        self.server.sql(f"DROP DATABASE {self.name} WITH (FORCE)")


@contextmanager
def postgres_server(settings: str = "") -> Iterator[PostgresServer]:
    """Run a new server with the exporter's role in it. `settings` are added to its file."""
    programs = server_programs()
    needed(programs)
    assert programs
    with _folder() as folder:
        server = PostgresServer(programs, folder)
        plain = ("--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=trust")
        _run(programs / "initdb", *plain, f"--username={_ADMIN}", "--pgdata", server.data)
        with (server.data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS + settings)
        (server.data / "pg_hba.conf").write_text(_ACCESS)
        server.start()
        try:
            server.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
            yield server
        finally:
            server.stop(immediate=True)


@contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[PgBouncer]:
    """Run a PgBouncer before a server, until the block ends."""
    program = pgbouncer_program()
    needed(program)
    assert program
    with _folder() as folder:
        bouncer = PgBouncer(program, folder, server)
        bouncer.start()
        try:
            yield bouncer
        finally:
            bouncer.stop()


def as_user(*command: str | Path, ending: signal.Signals | None = None) -> list[str]:
    """Say how to run a command as a user that PostgreSQL accepts; it gets the signal when we end."""
    user = ("--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()
    end = (f"--pdeathsig={ending.name.removeprefix('SIG')}",) if ending else ()
    words = (*user, *end)
    return [*(("setpriv", *words, "--") if words else ()), *map(str, command)]


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that the servers' user owns. Those of pytest are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="octopus-postgres-", ignore_cleanup_errors=True) as name:
        if os.geteuid() == 0:
            shutil.chown(name, "postgres", "postgres")
        yield Path(name)


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        as_user(*command), cwd="/", capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


def _tell(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process of the server; it may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
