"""`jobs`: lists what the ledger knows of single runs, as a table for people, or as JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from itertools import islice

import msgspec
from rich.table import Table
from rich.text import Text

from exporter.commands.choices import TABLE_ROWS, RunFormat
from exporter.commands.output import print_data, print_error, print_table
from exporter.config import Config, format_duration
from exporter.errors import ConfigError
from exporter.ledger.known_runs import KnownRuns
from exporter.ledger.opening import opened_for_runs
from exporter.model import TargetKey
from exporter.runs import KnownRun, RunFilter
from exporter.web.run_filter import ParameterReader
from exporter.web.run_record import FIELDS, Masked, RunRecord, csv_text, run_record

TargetRun = tuple[TargetKey, KnownRun]

_CSV_ROWS_AT_ONCE = 200
_EXACT_BELOW_MS = 10_000


def run_filter(config: Config, now_ms: int, **options: str | None) -> RunFilter:
    """Read the options that are filters (FILTER_PARAMETERS). Raises: ConfigError, with all problems."""
    given = {name: [text] for name, text in options.items() if text is not None}
    reader = ParameterReader(given, lambda name: f"--{name.replace('_', '-')}")
    wanted = reader.run_filter(now_ms, text=_utf8, code=_utf8)
    problems = reader.problems + _unknown_target(config, wanted)
    if problems:
        raise ConfigError(problems)
    return wanted


def _utf8(text: str) -> str:
    """Return the text. Raises: ValueError if the terminal sent bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"found {text!r}, expected text in UTF-8") from None
    return text


def _unknown_target(config: Config, wanted: RunFilter) -> list[str]:
    """Return the problem if no configured target fits, else nothing."""
    keys = [target.key for target in config.targets()]
    if any(map(wanted.fits_target, keys)):
        return []
    # An unknown name would list nothing, which looks as if no run had failed.
    for option, name, known in (
        ("project", wanted.project, {key.project for key in keys}),
        ("workspace", wanted.workspace, {key.workspace for key in keys}),
    ):
        if name is not None and name not in known:
            return [f"--{option}: {name!a} is not configured, expected one of {', '.join(sorted(known))}"]
    return [f"--workspace: {wanted.workspace!a} is not one of project {wanted.project}"]


def print_runs(
    config: Config,
    wanted: RunFilter,
    masked: Masked,
    *,
    failed_only: bool,
    output: RunFormat,
    limit: int | None,
) -> None:
    """Print runs, and say so if there are more or none. Raises: as select_runs; OutputError."""
    most = TABLE_ROWS if limit is None and output is RunFormat.TABLE else limit
    with select_runs(config, wanted, failed_only=failed_only, most=most) as found:
        if output is RunFormat.TABLE:
            # rich needs all rows at once, for the widths of the columns; the other formats do not.
            if rows := list(found.runs):
                print_table(as_table(rows, masked))
            else:
                print_error("the ledger knows no such run")
        else:
            lay_out = as_json if output is RunFormat.JSON else as_csv
            for piece in lay_out(found.runs, masked):
                print_data(piece)
    # On standard error, so that a program that reads the output does not take it for a run.
    if found.more:
        print_error(f"there are more than these {most}: --limit N shows more")


@contextmanager
def select_runs(
    config: Config, wanted: RunFilter, *, failed_only: bool = False, most: int | None = None
) -> Iterator[KnownRuns]:
    """
    Select runs from the ledger of a configuration. An exporter may be writing to it at the same time.

    Raises: StartError (the ledger cannot be opened); LedgerError, also while reading the runs (damaged).
    """
    keys = [target.key for target in config.targets()]
    with opened_for_runs(config.ledger) as known_runs:
        yield known_runs(keys, wanted, failed_only=failed_only, most=most)


def as_json(runs: Iterator[TargetRun], masked: Masked) -> Iterator[str]:
    """Write a JSON array, in pieces."""
    before = "["
    for target, run in runs:
        yield before + "\n" + msgspec.json.encode(run_record(target, run, masked)).decode()
        before = ","
    yield "\n]\n" if before == "," else "[]\n"


def as_csv(runs: Iterator[TargetRun], masked: Masked) -> Iterator[str]:
    """Write CSV with the columns of /api/v1/failures, in pieces."""
    yield csv_text([FIELDS])
    while some := list(islice(runs, _CSV_ROWS_AT_ONCE)):
        yield csv_text(astuple(run_record(target, run, masked)) for target, run in some)


def as_table(runs: Sequence[TargetRun], masked: Masked) -> Table:
    """Make a table for a terminal of 80 characters or more. A text that is too long is wrapped, not cut."""
    table = Table("job", "run, times in UTC", "what is known of it", show_lines=True)
    for column in table.columns:
        column.overflow = "fold"
    several_targets = len({target for target, _ in runs}) > 1
    for target, run in runs:
        record = run_record(target, run, masked)
        table.add_row(
            _cell(
                record.job_id,
                record.job_type,
                f"{target.project}/{target.workspace}" if several_targets else "",
            ),
            _cell(*_history(record)),
            _cell(
                record.msg_error or "",
                f"data_id {record.data_id}" if record.data_id else "",
                f"resource_spec {record.resource_spec}" if record.resource_spec else "",
            ),
        )
    return table


def _history(record: RunRecord) -> Iterator[str]:
    """List what happened to the run, a line each."""
    yield " ".join(filter(None, (record.status, record.msg_code)))
    if record.number > 1:
        yield f"run {record.number} of this job"
    # Where the API gives no end time, the run ended when a poll saw it.
    times = (("created", record.created), ("started", record.started), ("ended  ", record.ended or record.at))
    for event, time in times:
        if time is not None:
            yield f"{event} {time[:19].replace('T', ' ')}"
    durations = (("waited", record.submitting_ms), ("ran", record.running_ms))
    yield ", ".join(
        # From ten seconds on without fractions.
        f"{name} {format_duration(ms / 1000 if ms < _EXACT_BELOW_MS else ms // 1000)}"
        for name, ms in durations
        if ms is not None
    )


def _cell(*texts: str) -> Text:
    """Make a cell of lines, without characters that a terminal obeys or that change the text's direction."""
    lines = [line for text in texts for line in text.splitlines()]
    return Text(
        "\n".join("".join(char if char.isprintable() else "\ufffd" for char in line) for line in lines)
    )
