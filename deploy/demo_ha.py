"""
Two exporters on one PostgreSQL ledger, on this machine and without containers: `make demo-ha`.

    python deploy/demo_ha.py [--port 10877] [--lease 15s]

It makes a private PostgreSQL server in a temporary folder, which is reached by a Unix socket in that folder
only, a simulator, and two exporters on the loopback. Kill one of them, and see what the other does: the
script says who holds how many targets, and starts the killed one again after a while. At the end everything
is stopped and removed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import aiohttp

from exporter.simulator import SimulatorSettings, serve

HOST = "127.0.0.1"
WORKSPACES = tuple(str(number) for number in range(8))
_VERSIONS = Path("/usr/lib/postgresql")  # Debian keeps the programs of a server out of PATH
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_SCRAPE_SECONDS = 1.0
_AWAY_SECONDS = 40.0
_HELD = re.compile(r"^octopus_exporter_lease_held\{[^}]*\} 1(?:\.0)?$", re.MULTILINE)
_SERVER_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
shared_buffers = 32MB
# What is lost when the power fails is lost with the demo.
fsync = off
log_min_messages = fatal
"""


@dataclass
class Replica:
    """One of the exporters, and what was seen of it last."""

    number: int
    port: int
    config: Path
    process: asyncio.subprocess.Process
    ended_at: float | None = None
    held: int | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


async def demo(port: int, lease: str) -> None:
    programs = server_programs()
    end_cleanly()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="octopus-ha-")))
        database = await stack.enter_async_context(postgresql(programs, folder))
        simulator = await serve(SimulatorSettings(jobs=2000, pace=60.0, workspaces=WORKSPACES), HOST)
        stack.push_async_callback(simulator.close)
        replicas = []
        for number in (1, 2):
            config = folder / f"exporter-{number}.yaml"
            # The simulator that `simulate` runs has the port beside the exporter's.
            listen = free_port(port + 2 * (number - 1))
            config.write_text(json.dumps(configuration(simulator.url, database, listen, lease)))
            replicas.append(Replica(number, listen, config, await start(config)))
            stack.push_async_callback(end_replica, replicas[-1])
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await wait_until_ready(session, replicas)
        greet(replicas, simulator.url, database, programs, lease)
        while True:
            for replica in replicas:
                await look_at(session, replica)
            await asyncio.sleep(_SCRAPE_SECONDS)


def configuration(simulator: str, database: str, port: int, lease: str) -> dict[str, Any]:
    account = SimulatorSettings().credentials
    return {
        "projects": [
            {
                "id": SimulatorSettings().projects[0],
                "name": "demo",
                "endpoint": simulator,
                "workspaces": list(WORKSPACES),
            }
        ],
        "credentials": {
            "default": {
                "type": "password",
                "domain": account.domain,
                "user": account.user,
                "password": account.password,
                "iam_endpoint": simulator,
            }
        },
        "poll": {"interval": "5s", "requests_per_second": 200, "overlap": "1m"},
        "ledger": {"url": database, "lease": lease},
        # Longer than the interval of the scrapes below, and of a Prometheus beside them.
        "metrics": {"new_series_hold": "10s"},
        "web": {"listen": [f"{HOST}:{port}"]},
        "log": {"level": "warning"},
    }


def end_cleanly() -> None:
    """Let the first Ctrl-C or SIGTERM end the demo in order; more of them change nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    ended: list[bool] = []

    def stop() -> None:
        if task is not None and not ended:
            ended.append(task.cancel())

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def start(config: Path) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "exporter", "run", "--config", config)
    return await spawn(*command, ending=signal.SIGTERM)


async def look_at(session: aiohttp.ClientSession, replica: Replica) -> None:
    """Say what has changed of an exporter; scrape it, as Prometheus would; start it again after a while."""
    code = replica.process.returncode
    if code is not None and replica.ended_at is None:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        say(f"exporter {replica.number} has ended ({how}); it comes back in {_AWAY_SECONDS:.0f} s")
        replica.ended_at, replica.held = time.monotonic(), None
    if replica.ended_at is not None:
        if time.monotonic() - replica.ended_at >= _AWAY_SECONDS:
            replica.process, replica.ended_at = await start(replica.config), None
            say(f"exporter {replica.number} is started again, as process {replica.process.pid}")
        return
    text = await fetch(session, f"{replica.url}/metrics")
    held = None if text is None else len(_HELD.findall(text))
    if held is not None and held != replica.held:
        replica.held = held
        say(f"exporter {replica.number} holds {held} of {len(WORKSPACES)} targets")


async def fetch(session: aiohttp.ClientSession, url: str) -> str | None:
    # One that is stopped (SIGSTOP) takes connections and does not answer.
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with session.get(url, timeout=aiohttp.ClientTimeout(2.0)) as answer:
            return await answer.text() if answer.status == 200 else None
    return None


async def wait_until_ready(session: aiohttp.ClientSession, replicas: Sequence[Replica]) -> None:
    until = time.monotonic() + _READY_SECONDS
    for replica in replicas:
        while await fetch(session, f"{replica.url}/-/ready") is None:
            if replica.process.returncode is not None or time.monotonic() > until:
                fail("an exporter has not started; what it says is above")
            await asyncio.sleep(0.1)


def greet(replicas: Sequence[Replica], simulator: str, database: str, programs: Path, lease: str) -> None:
    pages = "".join(f"  exporter {replica.number}   {replica.url}/\n" for replica in replicas)
    first = replicas[0].process
    sys.stdout.write(
        f"""
Two exporters on one PostgreSQL ledger, {len(WORKSPACES)} targets with simulated jobs, a lease of {lease}:

{pages}  simulator    {simulator}/
  ledger       {programs / "psql"} '{database}'

Try:  kill -9 {first.pid}
      The other exporter takes its targets over within the lease and some seconds more, and counts on exactly.
      kill -TERM {first.pid}
      It gives its targets back first: they are taken over at once.
      watch "curl -s {replicas[1].url}/metrics | grep lease_held"
Stop: Ctrl-C; nothing is left behind.

"""
    )
    sys.stdout.flush()


@asynccontextmanager
async def postgresql(programs: Path, folder: Path) -> AsyncIterator[str]:
    """Run a server whose data and socket are in `folder`; give the URL of its database."""
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    made = await spawn(
        programs / "initdb",
        *("--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=trust"),
        *("--username=octopus", "--pgdata", data),
        as_postgres=True,
        quiet=True,
    )
    if await made.wait():
        fail("initdb has failed; what it says is above")
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(_SERVER_SETTINGS.format(folder=folder))
    # An immediate stop ends the connections too, if this script is killed.
    server = await spawn(
        programs / "postgres", "-D", data, ending=signal.SIGQUIT, as_postgres=True, quiet=True
    )
    try:
        await wait_for_server(server, data)
        yield f"postgresql://octopus@{quote(str(folder), safe='')}/postgres"
    finally:
        await end(server, signal.SIGINT)


async def wait_for_server(server: asyncio.subprocess.Process, data: Path) -> None:
    status, until = data / "postmaster.pid", time.monotonic() + _READY_SECONDS
    while True:
        with suppress(OSError):
            if [line.strip() for line in status.read_text().splitlines()][7:8] == ["ready"]:
                return
        if server.returncode is not None or time.monotonic() > until:
            fail("PostgreSQL has not started; what it says is above")
        await asyncio.sleep(0.05)


async def spawn(
    *command: str | Path,
    ending: signal.Signals | None = None,
    as_postgres: bool = False,
    quiet: bool = False,
) -> asyncio.subprocess.Process:
    """
    Start a program in a session of its own: Ctrl-C is for this script, which ends the others in order.

    Shape: it gets the signal `ending` if this script is killed; `as_postgres` as root, since PostgreSQL does
    not run as root; `quiet` shows its errors only.
    """
    before: list[str] = []
    setpriv = shutil.which("setpriv")
    if setpriv and ending:
        before.append(f"--pdeathsig={ending.name.removeprefix('SIG')}")
    if as_postgres and os.geteuid() == 0:
        if not setpriv:
            fail("as root it needs setpriv, of util-linux: or start it as another user")
        before += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    words = [*([setpriv, *before, "--"] if setpriv and before else ()), *map(str, command)]
    return await asyncio.create_subprocess_exec(
        *words,
        cwd=None if not as_postgres else "/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL if quiet else None,
        start_new_session=True,
        env=os.environ | ({"LC_ALL": "C"} if as_postgres else {}),
    )


async def end_replica(replica: Replica) -> None:
    with suppress(ProcessLookupError):
        # It may be stopped: that is one of the things to try.
        replica.process.send_signal(signal.SIGCONT)
    await end(replica.process, signal.SIGTERM)


async def end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def server_programs() -> Path:
    """Find the folder of PostgreSQL's server programs, the newest version."""
    versions = sorted(_VERSIONS.glob("*/bin/postgres"), key=lambda found: int(found.parts[-3]))
    found = versions[-1] if versions else shutil.which("postgres")
    if found is None:
        fail("PostgreSQL is not installed: on Debian and Ubuntu, apt-get install postgresql")
    return Path(found).parent


def free_port(wanted: int) -> int:
    """Return the port if it is free, else another one."""
    try:
        probe = socket.create_server((HOST, wanted))
    except OSError:
        probe = socket.create_server((HOST, 0))
    with probe:
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def fail(message: str) -> NoReturn:
    sys.exit(f"demo-ha: {message}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python deploy/demo_ha.py", description="Watch two exporters.")
    parser.add_argument("--port", type=int, default=10877, metavar="N", help="of the first exporter")
    parser.add_argument("--lease", default="15s", metavar="DURATION", help="ledger.lease of both")
    arguments = parser.parse_args()
    with suppress(asyncio.CancelledError):
        asyncio.run(demo(arguments.port, arguments.lease))


if __name__ == "__main__":
    main()
