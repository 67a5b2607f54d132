"""`migrate`: copies a ledger to another back end. The counts go on there."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from exporter.clients import ledger_secrets, missing_driver
from exporter.commands.output import print_error, print_line
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
_LINE_EVERY_SECONDS = 5.0


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
        with _ending_cleanly(), _source(source) as old:
            size = old.size_bytes()
            with _target(target) as new, _progress(old.sizes()) as on_rows:
                rows = copy_ledger(old, new, on_rows)
                size_there = new.size_bytes()
    except (StartError, LedgerError) as exc:
        # A server's message is its own text.
        raise type(exc)(secrets.masked(str(exc))) from None
    took = format_duration(max(1, round(time.monotonic() - began)))
    print_line(f"copied {source.url} to {target.url} in {took}, {_bytes(size)} to {_bytes(size_there)}:")
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


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that no unfinished file stays behind."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        print_error("asked to stop")
        raise SystemExit(1)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(sizes: Mapping[str, int]) -> Iterator[Callable[[str, int], None]]:
    """Show how far the copy is, on standard error: a bar on a terminal, else a line now and then."""
    total = sum(sizes.values())
    if not sys.stderr.isatty():
        yield _progress_lines(total)
        return
    from rich.console import Console  # noqa: PLC0415 - at its first use
    from rich.progress import (  # noqa: PLC0415 - at its first use
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("copying {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(next(iter(TABLES)), total=total)
        yield lambda table, rows: bars.update(bar, description=table, advance=rows)


def _progress_lines(total: int) -> Callable[[str, int], None]:
    done, told_at = 0, time.monotonic()

    def on_rows(table: str, rows: int) -> None:
        nonlocal done, told_at
        done += rows
        if time.monotonic() - told_at >= _LINE_EVERY_SECONDS:
            told_at = time.monotonic()
            print_error(f"copying {table}: {done:,} of {total:,} rows")

    return on_rows


def _bytes(number: int) -> str:
    return f"{number / 1_048_576:,.1f} MiB"
