"""
What one row of the job list is worth: a job, or a row that is set apart.

A row is set apart where a field that decides a count cannot be read: id, job_type, status, create_at,
start_at, end_at. Whatever another field is, the row is a job.
Source: Huawei Cloud Octopus API reference, "querying the list of internal jobs", table 6, read 2025-06-18.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import TypeVar

from exporter.model import JOB_TYPES, STATUSES, Job
from exporter.octopus.tolerant_json import Numeral

MAX_ID = 2**63 - 1
# A time below is one in seconds (or the year 2001 and before, when there was no Octopus); one above is in
# microseconds. An absurd time in between, such as one in the year 10000, is a time: its job still counts.
EARLIEST_MS = 1_000_000_000_000
LATEST_MS = 999_999_999_999_999
MAX_LABEL_CHARS = 200
MAX_MESSAGE_CHARS = 2000

DOCUMENTED_WORDS = frozenset({*JOB_TYPES, *STATUSES})
# Control characters, lone surrogates, line and paragraph separators.
_UNSEEMLY = frozenset({"Cc", "Cs", "Zl", "Zp"})
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")

_NUMBER = re.compile(r"[+-]?[0-9]{1,25}(?:\.[0-9]{0,60})?(?:[eE][+-]?[0-9]{1,2})?")
# The characters of numbers and dates: nothing else from the API is repeated in a problem.
_FIGURES = re.compile(r"[0-9+.,:/ eETZ-]{1,25}")
_DIGEST_CHARS = 16

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SetApartRow:
    """
    A row that cannot be counted.

    Shape: `index` is its place among the rows of the answer; `job_id` is None where the id cannot be read,
    `status` is "" and `created_ms` None likewise; `problem` is one short line: the field, what it was and
    what was expected; `digest` is equal for equal rows, so that a row without an id is known again.
    """

    index: int
    job_id: int | None
    status: str
    created_ms: int | None
    problem: str
    digest: str


def read_row(raw: object, index: int, terminal_statuses: frozenset[str]) -> Job | SetApartRow:
    """
    Decide what a row is worth.

    Shape: `raw` is a JSON value as `text.read_json` gives it; `index` its place among the answer's rows.
    Numbers may be written as text, with a fraction or an exponent; a time of 0 or less, "" or null is none.
    """
    if not isinstance(raw, dict):
        problem = f"row: found {_kind(raw)}, expected an object"
        return SetApartRow(index, None, "", None, problem, _digest(raw))
    problems: list[str] = []

    def kept(name: str, read: Callable[[object], _T]) -> _T | None:
        try:
            return read(raw.get(name))
        except ValueError as exc:
            problems.append(f"{name}: {exc}")
            return None

    job_id, job_type, status = kept("id", _id), kept("job_type", word), kept("status", word)
    created_ms = kept("create_at", _needed_time)
    started_ms, ended_ms = kept("start_at", _time), kept("end_at", _time)
    # The first three are None only where a problem says so; mypy does not know.
    if problems or job_id is None or job_type is None or status is None or created_ms is None:
        return SetApartRow(index, job_id, status or "", created_ms, problems[0], _digest(raw))
    updated_ms = _sound_time(raw.get("update_at"))
    return Job(
        job_id,
        job_type,
        status,
        created_ms,
        latest_ms(created_ms, started_ms, ended_ms) if updated_ms is None else updated_ms,
        started_ms,
        ended_ms,
        _duration(raw.get("submitting_duration")),
        _duration(raw.get("running_duration")),
        label(_plain(raw.get("msg_code"))),
        message(_plain(raw.get("msg_error"))),
        _plain(raw.get("workspace_id")) or None,
        status in terminal_statuses,
        label(_plain(raw.get("data_id"))),
        label(_plain(raw.get("resource_spec"))),
    )


def latest_ms(created_ms: int, started_ms: int | None, ended_ms: int | None) -> int:
    """Stand in for an update time that did not come."""
    return max(created_ms, started_ms or 0, ended_ms or 0)


def label(text: str) -> str:
    """Make a text fit to be a label or a detail: bounded, without control characters and lone surrogates."""
    if len(text) <= MAX_LABEL_CHARS and text.isascii() and text.isprintable():
        return text.strip()
    kept = "".join(c for c in text[: 2 * MAX_LABEL_CHARS] if unicodedata.category(c) not in _UNSEEMLY)
    return kept.strip()[:MAX_LABEL_CHARS].rstrip()


def word(value: object) -> str:
    """Read a job type or a status. Raises: ValueError (nothing to read)."""
    found = label(value) if isinstance(value, str) and not isinstance(value, Numeral) else ""
    if not found:
        raise ValueError(f"{_found(value)}, expected a word")
    return found


def message(text: str) -> str:
    """Bound an error message, and replace what no UTF-8 text and no database holds: surrogates, NUL."""
    text = text[:MAX_MESSAGE_CHARS]
    # The expression is slow, and hardly ever needed.
    return text if text.isascii() and "\0" not in text else _NOT_TEXT.sub("\ufffd", text)


def whole_number(value: object) -> int | None:
    """Read a whole number in whatever form; None where there is none."""
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _id(value: object) -> int:
    number = whole_number(value)
    if number is None or not 0 <= number <= MAX_ID:
        raise ValueError(f"{_found(value)}, expected a whole number from 0 to {MAX_ID}")
    return number


def _needed_time(value: object) -> int:
    time_ms = _time(value)
    if time_ms is None:
        raise ValueError(f"{_found(value)}, expected a time in milliseconds")
    return time_ms


def _time(value: object) -> int | None:
    """Read a time. Raises: ValueError (neither a time in milliseconds nor one of the ways to say none)."""
    if _is_blank(value):
        return None
    number = _number(value)
    if number is None:
        raise ValueError(f"{_found(value)}, expected a time in milliseconds")
    time_ms = int(number)
    if time_ms <= 0:
        return None
    if not EARLIEST_MS <= time_ms <= LATEST_MS:
        raise ValueError(f"{_found(value)}, not in milliseconds (expected {EARLIEST_MS} to {LATEST_MS})")
    return time_ms


def _sound_time(value: object) -> int | None:
    """Read a time that decides no count: an odd one is none."""
    try:
        return _time(value)
    except ValueError:
        return None


def _duration(value: object) -> int | None:
    """Read a duration. An impossible one is none: two clocks disagreed, or -1 says "does not apply"."""
    number = _number(value)
    return int(number) if number is not None and 0 <= number <= LATEST_MS else None


def _plain(value: object) -> str:
    """Give a text or a number as text, a whole number without its fraction; "" for everything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    number = whole_number(value) if isinstance(value, Numeral | float) else None
    return str(value if number is None else number)


def _number(value: object) -> int | Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = repr(value) if isinstance(value, float) else value.strip() if isinstance(value, str) else ""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _found(value: object) -> str:
    return "missing" if value is None else f"found {_kind(value)}"


def _kind(value: object) -> str:
    """Say what a value is. Only figures are shown: a text could be anything, a secret or a page of text."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str | int | float):
        text = str(value)
        if not text.strip():
            return "an empty text"
        return text if _FIGURES.fullmatch(text) else f"a text ({len(text)} characters)"
    return "a list" if isinstance(value, list) else "an object"


def _digest(raw: object) -> str:
    try:
        content = json.dumps(raw, sort_keys=True)
    except RecursionError:
        content = ""
    return sha256(content.encode()).hexdigest()[:_DIGEST_CHARS]
