"""`jobs`: what the ledger knows of single runs, as a table for people, or as JSON or CSV for programs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.table import Table
from rich.text import Text

from exporter.config import Config, LedgerUrl, format_duration
from exporter.errors import ConfigError, LedgerError, StartError
from exporter.ledger.connection import FAILURES, connect_to_look, existing, reason
from exporter.ledger.known_runs import KnownRuns, known_runs
from exporter.ledger.runs import tolerant_text
from exporter.model import TargetKey
from exporter.runs import KnownRun, RunFilter
from exporter.web.csv_text import csv_text
from exporter.web.run_question import job_id, since_ms
from exporter.web.run_record import FIELDS, run_fields

Masked = Callable[[str], str]
Known = tuple[TargetKey, KnownRun]
T = TypeVar("T")

# So many rows of the table are a few screens.
TABLE_ROWS = 50
_AT_ONCE = 200
_EXACT_BELOW_MS = 10_000


def run_filter(config: Config, now_ms: int, **given: str | None) -> RunFilter:
    """
    Read the options of the command line.

    Shape: `given` are project, workspace, job_type, status, msg_code, id and since. Raises: ConfigError, with
    every problem.
    """
    problems: list[str] = []

    def read(option: str, reading: Callable[[str], T]) -> T | None:
        text = given.get(option)
        try:
            return None if text is None else reading(text)
        except ValueError as exc:
            problems.append(f"--{option.replace('_', '-')}: {exc}")
            return None

    which = RunFilter(
        project=read("project", _encodable),
        workspace=read("workspace", _encodable),
        job_type=read("job_type", _encodable),
        status=read("status", _encodable),
        msg_code=read("msg_code", _encodable),
        job_id=read("id", job_id),
        since_ms=read("since", lambda text: since_ms(text, now_ms)),
    )
    problems += _unknown_target(config, which)
    if problems:
        raise ConfigError(problems)
    return which


def _encodable(text: str) -> str:
    """Give a text back. Raises: ValueError where the terminal sent bytes that are none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"found {text!r}, expected text in UTF-8") from None
    return text


def _unknown_target(config: Config, which: RunFilter) -> list[str]:
    keys = [target.key for target in config.targets()]
    if any(map(which.fits_target, keys)):
        return []
    for option, wanted, known in (
        ("project", which.project, {key.project for key in keys}),
        ("workspace", which.workspace, {key.workspace for key in keys}),
    ):
        if wanted is not None and wanted not in known:
            return [f"--{option}: {wanted!a} is not configured, expected one of {', '.join(sorted(known))}"]
    return [f"--workspace: {which.workspace!a} is not one of project {which.project}"]


@contextmanager
def found_runs(
    config: Config, which: RunFilter, *, failed_only: bool = False, most: int | None = None
) -> Iterator[KnownRuns]:
    """
    Look runs up in the ledger of a configuration, whether an exporter runs on it or not.

    Raises: StartError (no ledger that can be read); LedgerError, here and from the runs (damaged).
    """
    path = _file_of(config.ledger.url)
    try:
        db = connect_to_look(path)
    except FAILURES as exc:
        raise StartError(f"ledger {path}: {reason(exc)}") from exc
    with closing(db):
        db.text_factory = tolerant_text
        try:
            keys = [target.key for target in config.targets()]
            yield known_runs(db, keys, which, failed_only=failed_only, most=most)
        except sqlite3.Error as exc:
            raise LedgerError(f"ledger {path}: {reason(exc)}") from exc


def _file_of(url: LedgerUrl) -> Path:
    """Raises: StartError."""
    if url.path is None:
        raise StartError(f"ledger {url}: not a file, so another process cannot read it")
    return existing(url.path)


def as_json(runs: Iterator[Known], masked: Masked) -> Iterator[str]:
    """Give a JSON array, in pieces."""
    before = "["
    for target, run in runs:
        yield before + "\n" + msgspec.json.encode(run_fields(target, run, masked)).decode()
        before = ","
    yield "\n]\n" if before == "," else "[]\n"


def as_csv(runs: Iterator[Known], masked: Masked) -> Iterator[str]:
    """Give CSV in the columns of /api/v1/failures, in pieces."""
    yield csv_text([FIELDS])
    while some := list(islice(runs, _AT_ONCE)):
        yield csv_text([list(run_fields(target, run, masked).values()) for target, run in some])


def as_table(runs: Sequence[Known], masked: Masked) -> Table:
    """
    Lay runs out for people: three columns, which a terminal of 80 has room for.

    Nothing is cut off: what is too long for its column goes on in the next line.
    """
    shown = Table("job", "run, times in UTC", "what is known of it", show_lines=True)
    for column in shown.columns:
        column.overflow = "fold"
    several = len({target for target, _ in runs}) > 1
    for target, run in runs:
        known = run_fields(target, run, masked)
        where = [f"{target.project}/{target.workspace}"] if several else []
        shown.add_row(
            _lines(known["job_id"], known["job_type"], *where),
            _lines(*_course(known)),
            _lines(*_details(known)),
        )
    return shown


def _course(known: dict[str, Any]) -> Iterator[str]:
    yield " ".join(filter(None, (known["status"], known["msg_code"])))
    if known["number"] > 1:
        yield f"run {known['number']} of this job"
    for name in ("created", "started"):
        if known[name] is not None:
            yield f"{name} {_time(known[name])}"
    if (ended := known["ended"] or known["at"]) is not None:
        yield f"ended   {_time(ended)}"
    durations = (("waited", known["submitting_ms"]), ("ran", known["running_ms"]))
    told = [f"{what} {_duration(duration_ms)}" for what, duration_ms in durations if duration_ms is not None]
    if told:
        yield ", ".join(told)


def _details(known: dict[str, Any]) -> Iterator[str]:
    if known["msg_error"]:
        yield known["msg_error"]
    for name in ("data_id", "resource_spec"):
        if known[name]:
            yield f"{name} {known[name]}"


def _time(rfc3339: str) -> str:
    return rfc3339[:19].replace("T", " ")


def _duration(duration_ms: int) -> str:
    """Spell a duration, of ten seconds or more in whole seconds."""
    return format_duration(duration_ms / 1000 if duration_ms < _EXACT_BELOW_MS else duration_ms // 1000)


def _lines(*texts: str) -> Text:
    """Give a cell of these lines. What a terminal would obey, or what turns its text around, is left out."""
    lines = [line for text in texts for line in text.splitlines()]
    return Text(
        "\n".join("".join(char if char.isprintable() else "\ufffd" for char in line) for line in lines)
    )
