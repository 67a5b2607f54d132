"""
The command line: reads options, runs the commands, turns errors into lines and exit codes.

Each command imports what it runs in its own body, so that none waits for what another one needs: see
docs/architecture.md, "What is imported when".
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from exporter import __version__
from exporter.commands.choices import HOST, TABLE_ROWS, CheckFormat, Kind, RuleFormat, RunFormat
from exporter.commands.options import (
    ConfigFile,
    JobProfile,
    Jobs,
    Pace,
    Port,
    Seed,
    ShardOption,
    Speed,
    log_formats,
    log_levels,
    option,
    path_option,
)
from exporter.commands.output import guarded_streams, print_data, print_error, print_line, print_table
from exporter.errors import CannotListen, ConfigError, ExporterError, ForcedStop, ReaderGone, StartError

if TYPE_CHECKING:
    from exporter.config import Config

T = TypeVar("T")

DEFAULT_PORT = 10877
DEFAULT_SIMULATOR_PORT = 10878
# exporter.simulator.CALM, which is not imported before a command uses it.
_PROFILE = "calm"

# \b keeps the lines of a paragraph as they are.
_EPILOG = """
\b
Exit codes:
  0  done, or asked to stop
  1  failed while running; once, check --online, audit: a target failed
  2  wrong usage or configuration
  3  could not start: the port is taken, or the ledger cannot be used

\b
Begin with:
  octopus-exporter demo               simulated jobs, no account needed
  octopus-exporter files config       the example configuration
  octopus-exporter COMMAND --help     the options of a command
  octopus-exporter --show-completion  what completes commands in your shell

\b
Documentation, in the source repository:
  README.md, README.zh-CN.md  what it is, how to run it, every metric
  config.example.yaml         every key of the configuration
  docs/operations.md          services, containers, the ledger, failed polls
  docs/backfill.md            the history before the first poll
  docs/runbooks/README.md     what to do about each alert
"""


class _Commands(TyperGroup):
    """Lists each command with the whole first sentence of its help, which typer would cut off."""

    def format_commands(self, *arguments: Any) -> None:
        for command in self.commands.values():
            first, stop, _ = " ".join((command.help or "").split()).partition(". ")
            command.short_help = command.short_help or first + stop.rstrip()
        super().format_commands(*arguments)


app = typer.Typer(
    name="octopus-exporter",
    cls=_Commands,
    help="Prometheus exporter for the system jobs of Huawei Cloud Octopus.",
    epilog=_EPILOG,
    no_args_is_help=True,
    # Plain text: rich would take brackets in a help text for markup.
    rich_markup_mode=None,
    # A bug report needs Python's own traceback; typer's is drawn for a terminal.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_OTHER_PORT = "take another port with --port N, or any free one with --port 0"


def _show_version(wanted: bool) -> None:
    if wanted:
        print_line(f"octopus-exporter {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    # Eager, so that it is answered before typer imports pydantic to read the other options.
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: ConfigFile,
    shard: ShardOption = None,
    listen: Annotated[
        list[str] | None,
        option(
            "ADDRESS",
            "Listen here instead of web.listen; may be given several times.",
            "--web.listen-address",
        ),
    ] = None,
    web_config_file: Annotated[
        Path | None,
        option("FILE", "TLS and users, instead of web.config_file.", "--web.config.file", readable=False),
    ] = None,
    systemd_socket: Annotated[
        bool,
        typer.Option("--web.systemd-socket", help="Serve the sockets that systemd passes, not web.listen."),
    ] = False,
    # Texts, not choices of typer's: `with_overrides` checks them as it checks the file, with its messages.
    log_level: Annotated[
        str | None,
        option("LEVEL", "debug, info, warning or error.", "--log.level", autocompletion=log_levels),
    ] = None,
    log_format: Annotated[
        str | None, option("FORMAT", "logfmt or json.", "--log.format", autocompletion=log_formats)
    ] = None,
) -> None:
    """Poll every target and serve its metrics until SIGTERM or SIGINT; SIGHUP reads FILE again."""
    from exporter.commands.lean_imports import lean_imports

    with lean_imports():
        from exporter.service import log_listening, run_exporter

    # Called again at each reload, so the flags also win over a file that was changed, and the shard stays.
    read = partial(
        _load,
        config,
        shard=shard,
        listen=listen or None,
        web_config_file=web_config_file,
        log_level=log_level,
        log_format=log_format,
    )
    _finish(
        run_exporter(read(), read, log_listening, systemd_socket=systemd_socket),
        "choose another address with web.listen or --web.listen-address",
    )


@app.command(name="demo")
def demo_command(
    port: Annotated[int, Port("The exporter's port; 0 takes a free one.")] = DEFAULT_PORT,
    jobs: Jobs = 2000,
    speed: Pace = 60.0,
    seed: Seed = 1,
    profile: JobProfile = _PROFILE,
) -> None:
    """Run the exporter against the built-in simulator; nothing is needed and nothing is left behind."""
    from exporter.commands import demo
    from exporter.simulator import SimulatorSettings

    # `pace` makes jobs faster and not the clock, which would look like a wrong one to the exporter.
    settings = SimulatorSettings(jobs=jobs, pace=speed, seed=seed, profile=profile)
    _finish(demo.demo(settings, port), _OTHER_PORT)


@app.command()
def simulate(
    port: Annotated[int, Port("The port; 0 takes a free one.")] = DEFAULT_SIMULATOR_PORT,
    jobs: Jobs = 2000,
    pace: Pace = 1.0,
    speed: Speed = 1.0,
    seed: Seed = 1,
    profile: JobProfile = _PROFILE,
    faults: Annotated[str, option("NAMES", "What goes wrong by chance, as throttle,errors=0.1.")] = "",
    quirks: Annotated[
        str, option("JSON", "What the server does differently, as in docs/simulator.md.")
    ] = "{}",
    host: Annotated[str, option("HOST", "The address to listen on.")] = HOST,
    workspaces: Annotated[str, option("IDS", "The workspaces that have jobs, as 0,1,2.")] = "0",
) -> None:
    """Run the simulator alone: IAM and the job list over HTTP."""
    from exporter.commands import demo
    from exporter.simulator import SimulatorSettings, parse_quirks

    settings = SimulatorSettings(
        jobs=jobs,
        pace=pace,
        speed=speed,
        seed=seed,
        profile=profile,
        faults=faults,
        quirks=parse_quirks(quirks),
        workspaces=tuple(workspaces.split(",")),
    )
    _finish(demo.simulate(settings, host, port), _OTHER_PORT)


@app.command(name="check")
def check_command(
    config: ConfigFile,
    online: Annotated[
        bool, typer.Option("--online", help="Also find out what the API of every target does.")
    ] = False,
    output: Annotated[
        CheckFormat, typer.Option("--format", help="How to print what was found out.")
    ] = CheckFormat.TABLE,
    report: Annotated[
        Path | None,
        path_option(
            "FILE",
            "Write what was found out as JSON for a bug report, without secrets, ids and names.",
            "--report",
            "a file",
        ),
    ] = None,
) -> None:
    """
    Validate FILE; with --online, also find out what the API of every target and the ledger's database do.

    --online takes less than 60 requests and a minute for a target: which filters work, how long pages are,
    what the rows are like. It changes nothing, neither there nor in the ledger. Of a PostgreSQL ledger it
    tells whether it can be reached, its schema and the missing grants. See docs/first-contact.md.
    """
    from exporter.commands.check import check

    if not check(_load(config), config, online=online, output=output, report_file=report):
        raise typer.Exit(1)


@app.command()
def once(config: ConfigFile) -> None:
    """Poll every target once and print the exposition; exit 1 if any of them failed."""
    from exporter.service import poll_once

    exposition, succeeded = _finish(poll_once(_load(config)))
    # Also if a target failed: the others have their numbers.
    print_data(exposition)
    if not succeeded:
        raise typer.Exit(1)


@app.command(name="audit")
def audit_command(config: ConfigFile) -> None:
    """Compare the ledger with the API's own totals; exit 1 if they differ. The exporter may be running."""
    from exporter.commands import audit
    from exporter.log import Log
    from exporter.masking import Secrets

    read, secrets = _load(config), Secrets(time.time)
    with Log(secrets) as log:
        log.configure(read.log.level, read.log.format)
        lines = _finish(audit.audit(read, secrets))
    print_table(audit.table(lines, secrets))
    for named in audit.unreadable_rows(lines, secrets):
        print_line(named)
    if any(line.differs for line in lines):
        raise typer.Exit(1)


@app.command(name="jobs")
def jobs_command(
    config: ConfigFile,
    project: Annotated[str | None, option("NAME", "Of this project only.")] = None,
    workspace: Annotated[str | None, option("ID", "Of this workspace only.")] = None,
    job_type: Annotated[str | None, option("TYPE", "Of this job type only.")] = None,
    status: Annotated[str | None, option("STATUS", "In this status only.")] = None,
    msg_code: Annotated[
        str | None, option("CODE", 'Failed with this error code only; "": with none.')
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Failed runs only.")] = False,
    since: Annotated[
        str | None, option("WHEN", "Without runs that ended before: 1h, a time, or Unix seconds.")
    ] = None,
    job_id: Annotated[str | None, option("ID", "Of the job with this id.", "--id")] = None,
    format_: Annotated[RunFormat, typer.Option("--format", help="How to print it.")] = RunFormat.TABLE,
    limit: Annotated[
        int | None,
        option("N", f"At most so many; {TABLE_ROWS} in a table, else all.", min=1, max=1_000_000_000),
    ] = None,
) -> None:
    """List what the ledger knows of single runs, the newest first. The exporter may be running."""
    from exporter.clients import keep_configured_secrets
    from exporter.commands import jobs
    from exporter.masking import Secrets

    read, secrets = _load(config), Secrets(time.time)
    keep_configured_secrets(read, secrets)
    which = jobs.run_filter(
        read,
        time.time_ns() // 1_000_000,
        project=project,
        workspace=workspace,
        job_type=job_type,
        status=status,
        msg_code=msg_code,
        id=job_id,
        since=since,
    )
    jobs.print_runs(read, which, secrets.masked, failed_only=failed, output=format_, limit=limit)


@app.command(name="files")
def files_command(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="config, rules, dashboards or units.")],
    output: Annotated[
        Path | None,
        path_option(
            "DIR",
            "The folder to write to; without it config and rules go to standard output.",
            "--output",
            "a folder",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        path_option(
            "FILE",
            "Settings of the rules; missing keys are as shipped. Dashboards use links.status_page.",
            "--settings",
            "a file",
        ),
    ] = None,
    rule_format: Annotated[
        RuleFormat | None,
        option(
            "FORMAT",
            "Of rules: prometheus, or prometheusrule for the Prometheus Operator.",
            "--format",
            show_default="prometheus",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Give what ships beside the code: the example configuration, rules, dashboards, systemd units."""
    from exporter.commands import files

    shipped = files.collect(kind, settings, rule_format)
    if output:
        for line in files.write(shipped, output, force=force):
            print_line(line)
    # Only the main file of a kind: several in one stream could not be told apart.
    elif kind in {Kind.CONFIG, Kind.RULES}:
        print_data(next(iter(shipped.values())))
    else:
        raise ConfigError([f"--output: missing, expected a folder for {len(shipped)} files"])


@app.command(name="migrate")
def migrate_command(
    source: Annotated[str, option("URL", "The ledger to copy, as ledger.url has it.", "--from")],
    target: Annotated[str, option("URL", "Where to; a new file, or an empty database.", "--to")],
    source_password: Annotated[
        Path | None,
        path_option("FILE", "The password of --from, if its URL has none.", "--from-password-file", "a file"),
    ] = None,
    target_password: Annotated[
        Path | None,
        path_option("FILE", "The password of --to, if its URL has none.", "--to-password-file", "a file"),
    ] = None,
) -> None:
    """
    Copy a ledger to another file or database; counts go on there. No exporter may be running on either.

    URLs are sqlite:///file.db, sqlite:////folder/file.db or postgresql://user@host/database. ${VAR} in a URL
    is replaced, if the shell leaves it: in single quotes. PGPASSWORD works as with psql.
    """
    from exporter.commands import migrate

    ends = (
        migrate.ledger_at("--from", source, source_password, os.environ),
        migrate.ledger_at("--to", target, target_password, os.environ),
    )
    migrate.migrate(*ends)


@app.command(name="backfill")
def backfill_command(
    config: ConfigFile,
    output: Annotated[
        Path,
        path_option("DIR", "The folder to write to; it is made, or must be empty.", "--output", "a folder"),
    ],
    prometheus: Annotated[
        str | None,
        option("URL", "The Prometheus that scrapes the exporter: it is asked for labels and first samples."),
    ] = None,
    label: Annotated[
        list[str] | None,
        option("NAME=VALUE", "A label of the live series, such as job=octopus; may be given several times."),
    ] = None,
    since: Annotated[str, option("DURATION", "How far back the history goes.", "--from")] = "30d",
    step: Annotated[str, option("DURATION", "The time between two samples, at most 4m.")] = "4m",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")
    ] = False,
    shard: ShardOption = None,
) -> None:
    """
    Write the history before the first poll as OpenMetrics files, with a script that loads them.

    The files are for Prometheus. They hold what the live counters leave out: the time before the first poll
    of each target, as its ledger tells. The exporter may be running. Without --prometheus, give the labels
    job and instance. See docs/backfill.md.
    """
    from exporter.backfill.spool import opened_spool
    from exporter.commands import backfill, backfill_options
    from exporter.commands.long_work import ending_cleanly
    from exporter.log import Log
    from exporter.masking import Secrets

    read, secrets = _load(config, shard=shard), Secrets(time.time)
    options = backfill_options.read_options(
        time.time_ns() // 1_000_000, prometheus=prometheus, labels=label or [], since=since, step=step
    )
    backfill_options.check_output(output)
    with ending_cleanly(), Log(secrets) as log, opened_spool() as spool:
        log.configure(read.log.level, read.log.format)
        past = _finish(backfill.read_past(read, secrets, options, spool))
        if past is not None:
            backfill.write(past, spool, output, dry_run=dry_run)


def main() -> None:
    """Run the command line; an error is printed on standard error and decides the exit code."""
    try:
        with guarded_streams():
            app()
    # No message: `| head` has read enough, which is no error to report.
    except ReaderGone:
        sys.exit(1)
    except ExporterError as error:
        print_error(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 3 if isinstance(error, StartError) else 1)


def _load(path: Path, shard: str | None = None, **overrides: Any) -> Config:
    from exporter.clients import require_extras
    from exporter.config import Shard, load

    config = load(path, os.environ).with_overrides(**overrides)
    if shard is not None:
        if config.ledger.url.backend == "postgresql":
            problem = (
                "--shard: replicas on a PostgreSQL ledger divide the targets themselves, start them without"
            )
            raise ConfigError([problem])
        config = config.for_shard(Shard.parse(shard))
    # Not a part of `load`: such a configuration is valid, and this machine lacks a package.
    require_extras(config)
    return config


def _finish(work: Coroutine[Any, Any, T], elsewhere: str = "") -> T:
    """
    Run a command's coroutine; `elsewhere` says how to listen on another address.

    Raises: ExporterError, taken out of the groups of errors that task groups put around it.
    """
    import asyncio

    try:
        return asyncio.run(work)
    except BaseExceptionGroup as group:
        # The first error of a group is the one that brought the others about.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ExporterError):
            raise error from group
        raise
    except CannotListen as exc:
        raise CannotListen(f"{exc}: {elsewhere}") from exc
    # A second signal may also come after the work, while connections are closed.
    except (ForcedStop, asyncio.CancelledError):
        raise typer.Exit(1) from None
