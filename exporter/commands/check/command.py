"""The command `check`: from a configuration to what is printed, and to the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from exporter import __version__
from exporter.commands.check.anonymous import Anonymiser, private_texts
from exporter.commands.check.answers import distinct_rows
from exporter.commands.check.asking import contact
from exporter.commands.check.doubts import doubts
from exporter.commands.check.named_files import what_is_there
from exporter.commands.check.report import Report, TargetReport, encoded, target_report
from exporter.commands.check.showing import Told, as_json, paragraphs, table
from exporter.commands.output import complain, give, say, show
from exporter.config import Config, PasswordSettings, Secret, octopus_endpoint
from exporter.errors import ConfigError, ExporterError, InternalFault
from exporter.log import Log
from exporter.masking import Secrets
from exporter.web.toolkit import WebConfiguration

# Where the output is no terminal nothing is folded: a program or a bug report takes it as it is.
_WIDEST = 1000


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What the command line asks for.

    Shape: `file` is the configuration's; `report` is where the report goes, None for none.
    """

    file: Path
    online: bool
    format: Format
    report: Path | None


def check(config: Config, wanted: Wanted) -> bool:
    """
    Check a configuration, print what was found out and write the report; tell whether every target answers.

    Raises: ConfigError (what it names cannot be used, or the report not be written).
    """
    problems = [f"{wanted.file}: {problem}" for problem in config.secret_problems()]
    problems += [*_web_problems(config), *_report_problems(config, wanted)]
    if problems:
        raise ConfigError(problems)
    secrets, doubtful = Secrets(time.time), doubts(config)
    secrets.keep(*_secrets(config))
    if wanted.format is Format.TABLE:
        _print_validity(config, wanted, doubtful)
    told = _told(config, secrets) if wanted.online else None
    if wanted.format is Format.JSON:
        _print_json(config, wanted, doubtful, told, secrets)
    elif told is not None:
        _print_told(told, secrets)
    if wanted.report is not None and told is not None:
        _write(wanted.report, report(config, told, secrets))
    return told is None or all(one.works for one in told)


def _web_problems(config: Config) -> list[str]:
    """Tell what is wrong with the web configuration file and those it names; nothing where there is none."""
    try:
        if config.web.config_file is not None:
            WebConfiguration.load(config.web.config_file)
    except ConfigError as exc:
        return exc.problems
    return []


def _report_problems(config: Config, wanted: Wanted) -> list[str]:
    """Tell why the report could not or must not be written, before anything is asked for it."""
    if wanted.report is None:
        return []
    if not wanted.online:
        return ["--report: there is nothing to report without --online, expected both"]
    there = what_is_there(wanted.report, wanted.file, config)
    if there is not None:
        return [f"--report: {wanted.report}: {there}, expected another file"]
    try:
        with wanted.report.open("ab"):
            return []
    except OSError as exc:
        return [f"--report: {wanted.report}: {exc.strerror}, expected a file that can be written"]


def _write(file: Path, written: Report) -> None:
    """Raises: ExporterError."""
    try:
        file.write_bytes(encoded(written))
    except OSError as exc:
        raise ExporterError(f"--report: {file}: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise InternalFault(exc) from exc


def _told(config: Config, secrets: Secrets) -> list[Told]:
    # Some questions are meant to be refused, and what fails has a paragraph: no warnings beside it.
    with Log(secrets) as log:
        log.configure("debug" if config.log.level == "debug" else "error", config.log.format)
        return [Told.of(one) for one in asyncio.run(contact(config, secrets))]


def _print_validity(config: Config, wanted: Wanted, doubtful: Sequence[str]) -> None:
    say(f"{wanted.file}: valid, {len(config.targets())} targets in {len(config.projects)} projects")
    for doubt in doubtful:
        complain(f"warning: {wanted.file}: {doubt}")


def _print_told(told: Sequence[Told], secrets: Secrets) -> None:
    show(table(told, secrets), width=_WIDEST)
    for paragraph in paragraphs(told, secrets):
        say(f"\n{paragraph}")


def _print_json(
    config: Config,
    wanted: Wanted,
    doubtful: Sequence[str],
    told: Sequence[Told] | None,
    secrets: Secrets,
) -> None:
    said = {
        "config": str(wanted.file),
        "valid": True,
        "projects": len(config.projects),
        "targets": len(config.targets()),
        "warnings": doubtful,
        "online": None if told is None else as_json(told, secrets),
    }
    give(msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n")


def report(config: Config, told: Sequence[Told], secrets: Secrets) -> Report:
    """Make the report: what was found out, without names, ids, texts and secrets."""
    rows = [row for one in told for row in distinct_rows(one.contact.answers)]
    anonymiser = Anonymiser(_names(config), private_texts(rows), secrets.masked)
    projects = [project.name for project in config.projects]
    return Report(
        version=__version__,
        date=datetime.now(UTC).date().isoformat(),
        targets=tuple(
            _reported(config, one, number, projects.index(one.contact.target.project) + 1, anonymiser)
            for number, one in enumerate(told, start=1)
        ),
    )


def _reported(config: Config, one: Told, number: int, project: int, anonymiser: Anonymiser) -> TargetReport:
    met, findings = one.contact, one.findings
    region = met.target.region
    return target_report(
        met.target,
        number,
        project,
        region_endpoint=octopus_endpoint(region) if region else "",
        credentials=config.credentials_of(met.target).type,
        other_path=one.other_path,
        refusal=None if met.error is None else anonymiser.refusal(met.error),
        findings=None if findings is None else anonymiser.findings(findings),
        cost=met.cost,
    )


def _names(config: Config) -> Iterator[str]:
    """Give all that a configuration calls its things, and its secrets."""
    for target in config.targets():
        yield from (target.project, target.project_id, target.workspace, target.credentials)
        yield urlsplit(target.endpoint).hostname or ""
    for credentials in config.credentials.values():
        if isinstance(credentials, PasswordSettings):
            yield from (credentials.domain, credentials.user)
            yield urlsplit(credentials.iam_endpoint or "").hostname or ""
    yield from _secrets(config)


def _secrets(config: Config) -> Iterator[str]:
    """Give the secrets as they are now; all of them could be read a moment ago."""
    for credentials in config.credentials.values():
        for _, value in credentials:
            if isinstance(value, Secret):
                with suppress(ConfigError):
                    yield value.get()
