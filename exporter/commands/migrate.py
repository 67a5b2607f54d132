"""`migrate`: copies a ledger to another back end. The counts go on there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ValidationError

from exporter.clients import ledger_secrets, missing_driver
from exporter.commands.long_work import ending_cleanly, mebibytes, work_progress
from exporter.commands.output import print_line
from exporter.config import LedgerSettings, format_duration
from exporter.config.loading import substitute
from exporter.config.problems import show
from exporter.errors import ConfigError, LedgerError, StartError
from exporter.ledger.migration import (
    TABLES,
    MigrationSource,
    MigrationTarget,
    copy_ledger,
    sqlite_source,
    sqlite_target,
)
from exporter.masking import Secrets

_FLAGS = {"url": "", "password_file": "-password-file"}


def ledger_at(flag: str, url: str, password_file: Path | None, environ: Mapping[str, str]) -> LedgerSettings:
    """
    Read the flags that name a ledger, `--from` or `--to`; variables are replaced as in the configuration.

    Raises: ConfigError, naming the flags.
    """
    try:
        given = {"url": substitute(url, environ), "password_file": password_file}
        settings = LedgerSettings.model_validate(given)
    except ValidationError as exc:
        raise ConfigError(
            [
                f"{flag}{_FLAGS[str(details['loc'][0])]}: "
                + ("" if details["type"] == "refused" else f"found {show((), details['input'])}, ")
                + details["msg"]
                for details in exc.errors(include_url=False)
            ]
        ) from None
    except ValueError as exc:
        raise ConfigError([f"{flag}: {exc}"]) from None
    if settings.url.backend == "sqlite" and settings.url.path is None:
        raise ConfigError(
            [f"{flag}: found {settings.url}, which is in memory, expected a file or a database"]
        )
    missing = missing_driver(settings, flag)
    if missing:
        raise ConfigError(missing)
    return settings


def migrate(source: LedgerSettings, target: LedgerSettings) -> None:
    """
    Copy a ledger, and say what was copied.

    Raises: StartError (one of the two cannot be used); LedgerError (nothing was copied).
    """
    secrets, began = Secrets(time.time), time.monotonic()
    secrets.keep(*ledger_secrets(source), *ledger_secrets(target))
    try:
        with ending_cleanly(), _source(source) as old:
            size = old.size_bytes()
            progress = work_progress("copying", next(iter(TABLES)), "rows", sum(old.sizes().values()))
            with _target(target) as new, progress as on_rows:
                rows = copy_ledger(old, new, on_rows)
                size_there = new.size_bytes()
    except (StartError, LedgerError) as exc:
        # A server's message is its own text.
        raise type(exc)(secrets.masked(str(exc))) from None
    took = format_duration(max(1, round(time.monotonic() - began)))
    print_line(
        f"copied {source.url} to {target.url} in {took}, {mebibytes(size)} to {mebibytes(size_there)}:"
    )
    for table, count in rows.items():
        print_line(f"  {table:<12}{count:>15,}")
    print_line(
        "The old ledger is as it was. Set ledger.url to the new one, and let no exporter go on with the old"
        " one: each would count what comes now."
    )


def _source(ledger: LedgerSettings) -> AbstractContextManager[MigrationSource]:
    if ledger.url.path is not None:
        return sqlite_source(ledger.url.path)
    from exporter.ledger.postgres.migration import postgres_source  # noqa: PLC0415 - at its first use

    return postgres_source(ledger)


def _target(ledger: LedgerSettings) -> AbstractContextManager[MigrationTarget]:
    if ledger.url.path is not None:
        return sqlite_target(ledger.url.path)
    from exporter.ledger.postgres.migration import postgres_target  # noqa: PLC0415 - at its first use

    return postgres_target(ledger)
