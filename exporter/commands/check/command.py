"""
The command `check`: from a configuration to what is printed, and to the report.

Problems of the configuration end the command. Warnings are printed and change no exit code: the value is
valid but unlikely, and may be meant.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from exporter import __version__
from exporter.clients import ledger_secrets
from exporter.commands.check.display import (
    CheckedTarget,
    as_json,
    as_paragraph,
    as_table,
    ledger_as_json,
    ledger_table,
)
from exporter.commands.check.prober import probe_targets
from exporter.commands.check.probes import DOCUMENTED_PATHS, distinct_rows
from exporter.commands.check.report import (
    DOCUMENTED_REGIONS,
    Anonymiser,
    Report,
    TargetReport,
    encoded,
    private_texts,
)
from exporter.commands.choices import CheckFormat
from exporter.commands.output import print_data, print_error, print_line, print_table
from exporter.config import Config, LedgerUrl, PasswordSettings, Secret, octopus_endpoint
from exporter.config.addresses import IAM_REGIONS
from exporter.errors import ConfigError, ExporterError, InternalFault
from exporter.ledger.opening import inspect_ledger
from exporter.log import Log
from exporter.masking import Secrets
from exporter.web.toolkit import WebConfiguration

# Where the output is no terminal nothing is folded: a program or a bug report takes it as it is.
_WIDEST = 1000
# The suffixes of the files that SQLite keeps beside a database.
_LEDGER_FILES = ("", "-wal", "-shm", "-journal")
_PROJECT_ID = re.compile(r"[0-9a-fA-F]{32}")
# The requests of a poll when nothing has changed: docs/operations.md, "Sizing".
_REQUESTS_PER_POLL = 3
_SMALL_PAGE = 25


def check(config: Config, file: Path, *, online: bool, output: CheckFormat, report_file: Path | None) -> bool:
    """
    Check a configuration, print what was found and write the report; return whether every target works.

    Shape: `file` is the configuration's; `report_file` is where the report goes, None for none.
    Raises: ConfigError (a file that it names cannot be used, or the report cannot be written).
    """
    problems = [f"{file}: {problem}" for problem in config.secret_problems()]
    problems += _web_problems(config)
    problems += _report_problems(config, file, online=online, report_file=report_file)
    if problems:
        raise ConfigError(problems)
    secrets, warnings = Secrets(time.time), config_warnings(config)
    # Before the first request: a server may send a secret back in its first response.
    secrets.keep(*_secrets(config))
    projects, targets = len(config.projects), len(config.targets())
    if output is CheckFormat.TABLE:
        print_line(f"{file}: valid, {targets} targets in {projects} projects")
        for warning in warnings:
            print_error(f"warning: {file}: {warning}")
    ledger = inspect_ledger(config.ledger) if online else []
    checked = _probe(config, secrets) if online else None
    if output is CheckFormat.JSON:
        found = {
            "config": str(file),
            "valid": True,
            "projects": projects,
            "targets": targets,
            "warnings": warnings,
            "online": None if checked is None else as_json(checked, secrets),
            # Of a PostgreSQL ledger; a file is opened by `run` only.
            "ledger": ledger_as_json(ledger, secrets) if ledger else None,
        }
        print_data(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    elif checked is not None:
        if ledger:
            print_table(ledger_table(ledger, secrets), width=_WIDEST)
        print_table(as_table(checked, secrets), width=_WIDEST)
        for one in checked:
            print_line(f"\n{as_paragraph(one, secrets)}")
    if report_file is not None and checked is not None:
        _write(report_file, report(config, checked, secrets))
    return all(one.works for one in [*ledger, *(checked or ())])


def _probe(config: Config, secrets: Secrets) -> list[CheckedTarget]:
    with Log(secrets) as log:
        # Some probes are meant to be refused, and each failure has a paragraph: no warnings beside it.
        log.configure("debug" if config.log.level == "debug" else "error", config.log.format)
        return [CheckedTarget.of(one) for one in asyncio.run(probe_targets(config, secrets))]


def _web_problems(config: Config) -> list[str]:
    """Name what is wrong with the web configuration file and the files it names."""
    try:
        if config.web.config_file is not None:
            WebConfiguration(config.web.config_file)
    except ConfigError as exc:
        return exc.problems
    return []


def _report_problems(config: Config, file: Path, *, online: bool, report_file: Path | None) -> list[str]:
    """Say why the report cannot or must not be written, before any request is sent for it."""
    if report_file is None:
        return []
    if not online:
        return ["--report: there is nothing to report without --online, expected both"]
    key = next((key for key, named in _named_files(config, file) if _are_same(report_file, named)), None)
    if key is not None:
        what = f"is a file of the configuration ({key})" if key else "is the configuration"
        return [f"--report: {report_file}: {what}, expected another file"]
    try:
        # For appending, which leaves an earlier report as it is until the new one is complete.
        with report_file.open("ab"):
            return []
    except OSError as exc:
        return [f"--report: {report_file}: {exc.strerror}, expected a file that can be written"]


def _named_files(config: Config, file: Path) -> Iterator[tuple[str, Path]]:
    """Give the files that a report must not overwrite, by their key; "" for the configuration itself."""
    yield "", file
    for name, credentials in config.credentials.items():
        for key, value in credentials:
            if isinstance(value, Path):
                yield f"credentials.{name}.{key}", value
    if config.web.config_file is not None:
        yield "web.config_file", config.web.config_file
        with suppress(ConfigError):  # reported as a problem of its own
            for web_file in WebConfiguration(config.web.config_file).files:
                yield "web.config_file", web_file
    if config.ledger.url.path is not None:
        ledger = config.ledger.url.path
        yield from (("ledger.url", ledger.with_name(ledger.name + end)) for end in _LEDGER_FILES)
    if config.ledger.password_file is not None:
        yield "ledger.password_file", config.ledger.password_file
    yield from (("ledger.url", named) for named in config.ledger.url.files.values())
    if config.events is not None and isinstance(config.events.to, Path):
        yield "events.to", config.events.to


def _are_same(one: Path, other: Path) -> bool:
    """Compare existing files by what they are, so that links are seen through, and others by their paths."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)  # Path.resolve raises at a loop of links


def config_warnings(config: Config) -> list[str]:
    """Return a line for each value that is valid but unlikely: where, what was found and its effect."""
    return [
        *_project_warnings(config),
        *_poll_warnings(config),
        *_ledger_warnings(config.ledger.url),
        *_file_warnings(config),
    ]


def _project_warnings(config: Config) -> Iterator[str]:
    for index, project in enumerate(config.projects):
        if project.region and project.region not in {*DOCUMENTED_REGIONS, *IAM_REGIONS}:
            yield f"projects[{index}].region: {project.region} is no known region: is it spelt right?"
        if not _PROJECT_ID.fullmatch(project.id):
            yield f"projects[{index}].id: {project.id} is not 32 hexadecimal digits, as project ids are"
    for (first, one), (second, other) in combinations(enumerate(config.projects), 2):
        if (one.id, one.endpoint, one.path) == (other.id, other.endpoint, other.path):
            # Two entries of one project are a way to give its workspaces other credentials.
            shared = {t.workspace for t in one.targets()} & {t.workspace for t in other.targets()}
            effect = (
                f"the jobs of workspace {', '.join(sorted(shared))} are polled and counted under both names"
                if shared
                else "sums over `project` are of its workspaces"
            )
            yield (
                f"projects[{second}].id: the same project as projects[{first}], named {one.name}: {effect}"
            )


def _poll_warnings(config: Config) -> Iterator[str]:
    poll = config.poll
    if poll.page_size < _SMALL_PAGE:
        yield f"poll.page_size: {poll.page_size} is small: every poll takes many requests"
    for longer, shorter, effect in (
        ("lookback", "interval", "jobs that live longer than it are not listed once they ended"),
        ("audit_interval", "interval", "every poll is an audit"),
        ("full_sync_interval", "audit_interval", "audits are of no use"),
        ("lookback", "overlap", "every poll lists all of the lookback"),
    ):
        long, short = getattr(poll, f"{longer}_seconds"), getattr(poll, f"{shorter}_seconds")
        # None is a lookback without a limit.
        if long is not None and long < short:
            yield f"poll.{longer}: {long:g}s is less than poll.{shorter}, {short:g}s: {effect}"
    for endpoint, targets in Counter(target.endpoint for target in config.targets()).items():
        seconds = targets * _REQUESTS_PER_POLL / poll.requests_per_second
        if seconds > poll.interval_seconds:
            yield (
                f"poll.requests_per_second: {targets} targets at {endpoint} take {seconds:.0f} s for a "
                f"poll, more than poll.interval, {poll.interval_seconds:g}s: polls are skipped"
            )


def _ledger_warnings(url: LedgerUrl) -> Iterator[str]:
    """Look at how a PostgreSQL server is reached, without reaching it."""
    if url.backend == "sqlite":
        return
    mode = url.parameters.get("sslmode", "prefer")
    if url.leaves_the_machine and mode not in ("verify-full", "verify-ca"):
        yield (
            f"ledger.url: sslmode is {mode}, which does not check that this server is the right one, "
            "expected sslmode=verify-full or verify-ca with sslrootcert"
        )
    for key, file in url.files.items():
        try:
            file.open("rb").close()
        except OSError as exc:
            yield f"ledger.url: {key}: {file}: cannot be read ({exc.strerror}): no connection is possible"


def _file_warnings(config: Config) -> Iterator[str]:
    """Look at the paths of files that `run` writes, without creating or opening any."""
    written: list[tuple[str, Path, str]] = []
    if config.ledger.url.path is not None:
        written.append(("ledger.url", config.ledger.url.path, "run cannot start"))
    if config.events is not None and isinstance(config.events.to, Path):
        written.append(("events.to", config.events.to, "no event can be written"))
    for key, file, effect in written:
        path = file.absolute()
        if path.is_dir():
            yield f"{key}: {path} is a folder, expected a file: {effect}"
            continue
        if not path.parent.is_dir():
            yield f"{key}: the folder {path.parent} does not exist: {effect}"
            continue
        # The folder too: SQLite makes files beside the ledger.
        if not os.access(path.parent, os.W_OK | os.X_OK):
            yield f"{key}: {path.parent} cannot be written by this user: {effect}"
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            yield f"{key}: {path} cannot be written by this user: {effect}"


def report(config: Config, checked: Sequence[CheckedTarget], secrets: Secrets) -> Report:
    """Make the report: what was found, without names, ids, texts and secrets."""
    rows = [row for one in checked for row in distinct_rows(one.probed.results)]
    anonymiser = Anonymiser(_private_names(config), private_texts(rows), secrets.masked)
    projects = [project.name for project in config.projects]
    targets = []
    for number, one in enumerate(checked, start=1):
        target, error = one.probed.target, one.probed.error
        # From here on words of fixed lists only: a name of the user's own would tell who they are.
        is_regional = bool(target.region) and target.endpoint == octopus_endpoint(target.region)
        workspace = "none sent" if target.workspace_id is None else target.workspace_id
        region = target.region if target.region in DOCUMENTED_REGIONS else "other"
        fields: dict[str, Any] = {
            "target": number,
            "project": projects.index(target.project) + 1,
            "region": region if target.region else "none",
            "endpoint": "of the region" if is_regional else "another",
            "path": target.path if target.path in DOCUMENTED_PATHS else "another",
            "workspace": workspace if workspace in ("none sent", "0") else "another",
            "job_types": len(target.job_types),
            "credentials": config.credentials_of(target).type,
            "refusal": None if error is None else anonymiser.error(error),
            "other_path": one.other_path,
            "findings": None if one.findings is None else anonymiser.findings(one.findings),
            "cost": one.probed.cost,
        }
        # `encoded` checks the values against the schema.
        targets.append(TargetReport(**fields))
    return Report(version=__version__, date=datetime.now(UTC).date().isoformat(), targets=tuple(targets))


def _private_names(config: Config) -> Iterator[str]:
    """Give the names, ids, hosts and secrets of a configuration."""
    for target in config.targets():
        yield from (target.project, target.project_id, target.workspace, target.credentials)
        yield urlsplit(target.endpoint).hostname or ""
    for credentials in config.credentials.values():
        if isinstance(credentials, PasswordSettings):
            yield from (credentials.domain, credentials.user)
            yield urlsplit(credentials.iam_endpoint or "").hostname or ""
    yield from _secrets(config)


def _secrets(config: Config) -> Iterator[str]:
    """Give the secrets as they are now; a file that has become unreadable since the check is left out."""
    yield from ledger_secrets(config.ledger)
    for credentials in config.credentials.values():
        for _, value in credentials:
            if isinstance(value, Secret):
                with suppress(ConfigError):
                    yield value.get()


def _write(file: Path, written: Report) -> None:
    """Raises: ExporterError."""
    try:
        file.write_bytes(encoded(written))
    except OSError as exc:
        raise ExporterError(f"--report: {file}: {exc.strerror or exc}") from exc
    # The schema refuses what the anonymiser let through. Then nothing is written.
    except ValueError as exc:
        raise InternalFault(exc) from exc
