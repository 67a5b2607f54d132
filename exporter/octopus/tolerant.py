"""
Tolerant reading of a response that is not as documented: bytes to JSON values, and a row to a job.

Responses are normally read by the strict decoder of `wire`; this is slower, and used only when that fails.
A row is set apart if a field that decides a count cannot be read: id, job_type, status, create_at, start_at,
end_at. A defect in any other field does not matter: the row is a job.
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

MAX_ID = 2**63 - 1
# A lower number is a time in seconds (or before 2001, when there was no Octopus); a higher one is in
# microseconds. An absurd time between them, such as in the year 10000, is accepted: its job must be counted.
EARLIEST_MS = 1_000_000_000_000
LATEST_MS = 999_999_999_999_999
MAX_LABEL_CHARS = 200
MAX_MESSAGE_CHARS = 2000

DOCUMENTED_WORDS = frozenset({*JOB_TYPES, *STATUSES})
# Unicode categories: control characters, lone surrogates, line and paragraph separators.
_NOT_IN_LABELS = frozenset({"Cc", "Cs", "Zl", "Zp"})
# PostgreSQL stores no NUL, and UTF-8 has no lone surrogates.
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")

_NUMBER = re.compile(r"[+-]?[0-9]{1,25}(?:\.[0-9]{0,60})?(?:[eE][+-]?[0-9]{1,2})?")
# The characters of numbers and dates. No other text from the API is quoted in a problem.
_NUMBER_OR_DATE = re.compile(r"[0-9+.,:/ eETZ-]{1,25}")
_DIGEST_CHARS = 16

# The supported charsets of Content-Type, and how they are decoded: like browsers, as the largest related set.
# Source: WHATWG Encoding Standard, "names and labels".
_CHARSETS = {
    **dict.fromkeys(("gbk", "gb2312", "gb18030", "cp936", "x-gbk"), "gb18030"),
    **dict.fromkeys(("big5", "big5-hkscs"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-1", "latin1", "windows-1252", "us-ascii"), "latin-1"),
}
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.-]+)""", re.IGNORECASE)

_ESCAPE = re.compile(r"""\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|)""")
# No number of the API has more digits. Longer ones stay texts: Python converts a million digits in minutes.
_MAX_DIGITS = 25
# Bad escapes are replaced one by one, which takes seconds if the body consists of backslashes.
_MAX_BACKSLASHES = 100_000

_T = TypeVar("_T")


class Numeral(str):
    """A number as it was written, if an int does not hold it exactly: 1000.0, 1.7E12."""

    __slots__ = ()


def read_json(body: bytes, content_type: str) -> object:
    """
    Read a JSON body that strict readers refuse.

    Accepts the charset of Content-Type, a byte order mark, invalid characters (which become U+FFFD), raw
    control characters and bad escapes inside strings; NaN and Infinity become None. A number with a fraction
    or an exponent becomes a Numeral. Strings may contain lone surrogates.
    Raises: ValueError (not one complete JSON document); RecursionError (nested too deep).
    """
    # Detected by a byte order mark, or by the zero bytes that UTF-16 puts between ASCII characters.
    charset: str = json.detect_encoding(body)
    if charset.startswith("utf-8"):
        charset = "utf-8"
        try:
            body.decode()
        except UnicodeDecodeError:
            announced = _CHARSET.search(content_type)
            charset = _CHARSETS.get(announced[1].lower(), charset) if announced else charset
    text = body.decode(charset, "replace").removeprefix("\ufeff")
    try:
        return _parse(text)
    except json.JSONDecodeError:
        if not 0 < text.count("\\") <= _MAX_BACKSLASHES:
            raise
    # A backslash that begins no escape stands for itself, as in an unescaped path C:\data.
    return _parse(_ESCAPE.sub(lambda found: found[0] if found[1] else r"\\", text))


def _parse(text: str) -> object:
    return json.loads(
        text,
        strict=False,
        parse_int=lambda digits: int(digits) if len(digits) <= _MAX_DIGITS else Numeral(digits),
        parse_float=Numeral,
        parse_constant=lambda name: None,
    )


@dataclass(frozen=True, slots=True)
class SetApartRow:
    """
    A row that cannot be counted.

    Shape: `index` is its position in the response. `job_id` is None, `status` "" and `created_ms` None if
    they cannot be read. `problem` is one short line: the field, what was found and what was expected.
    `digest` is equal for equal rows, to recognise a row without an id at the next poll.
    """

    index: int
    job_id: int | None
    status: str
    created_ms: int | None
    problem: str
    digest: str


def read_row(raw: object, index: int, terminal_statuses: frozenset[str]) -> Job | SetApartRow:
    """
    Read a row.

    Shape: `raw` is a JSON value from `read_json`, `index` its position in the response. Numbers may be
    written as text, with a fraction or an exponent. A time of 0 or less, "" or null means no time.
    """
    if not isinstance(raw, dict):
        problem = f"row: found {_describe(raw)}, expected an object"
        return SetApartRow(index, None, "", None, problem, _digest(raw))
    problems: list[str] = []

    def read(name: str, convert: Callable[[object], _T]) -> _T | None:
        try:
            return convert(raw.get(name))
        except ValueError as exc:
            problems.append(f"{name}: {exc}")
            return None

    job_id, job_type, status = read("id", _id), read("job_type", read_word), read("status", read_word)
    created_ms = read("create_at", _required_time)
    started_ms, ended_ms = read("start_at", _time), read("end_at", _time)
    # Without problems none of these is None, but mypy cannot know that.
    if problems or job_id is None or job_type is None or status is None or created_ms is None:
        return SetApartRow(index, job_id, status or "", created_ms, problems[0], _digest(raw))
    try:
        updated_ms = _time(raw.get("update_at"))
    except ValueError:
        updated_ms = None
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
        clean_label(_to_text(raw.get("msg_code"))),
        clean_message(_to_text(raw.get("msg_error"))),
        _to_text(raw.get("workspace_id")) or None,
        status in terminal_statuses,
        clean_label(_to_text(raw.get("data_id"))),
        clean_label(_to_text(raw.get("resource_spec"))),
    )


def latest_ms(created_ms: int, started_ms: int | None, ended_ms: int | None) -> int:
    """Return the latest known time of a job, in place of a missing update time."""
    return max(created_ms, started_ms or 0, ended_ms or 0)


def clean_label(text: str) -> str:
    """Make a text usable as a label: bounded, without control characters and lone surrogates."""
    if len(text) <= MAX_LABEL_CHARS and text.isascii() and text.isprintable():
        return text.strip()
    kept = "".join(c for c in text[: 2 * MAX_LABEL_CHARS] if unicodedata.category(c) not in _NOT_IN_LABELS)
    return kept.strip()[:MAX_LABEL_CHARS].rstrip()


def read_word(value: object) -> str:
    """Read a job type or a status. Raises: ValueError (not a text, or an empty one)."""
    found = clean_label(value) if isinstance(value, str) and not isinstance(value, Numeral) else ""
    if not found:
        raise ValueError(f"{_found(value)}, expected a word")
    return found


def clean_message(text: str) -> str:
    """Bound an error message, and replace the characters that UTF-8 or a database cannot store."""
    text = text[:MAX_MESSAGE_CHARS]
    # The expression is slow, and rarely needed.
    return text if text.isascii() and "\0" not in text else _NOT_TEXT.sub("\ufffd", text)


def whole_number(value: object) -> int | None:
    """Read a whole number in any notation; None if it is not one."""
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _id(value: object) -> int:
    number = whole_number(value)
    if number is None or not 0 <= number <= MAX_ID:
        raise ValueError(f"{_found(value)}, expected a whole number from 0 to {MAX_ID}")
    return number


def _required_time(value: object) -> int:
    time_ms = _time(value)
    if time_ms is None:
        raise ValueError(f"{_found(value)}, expected a time in milliseconds")
    return time_ms


def _time(value: object) -> int | None:
    """Read an optional time. Raises: ValueError (not a time in milliseconds, and not one of "no time")."""
    if value is None or (isinstance(value, str) and not value.strip()):
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


def _duration(value: object) -> int | None:
    """Read a duration. Some servers write -1 for "none", and two clocks that differ give negative ones."""
    number = _number(value)
    return int(number) if number is not None and 0 <= number <= LATEST_MS else None


def _to_text(value: object) -> str:
    """Return a text or a number as text, a whole number without its fraction; "" for other values."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    number = whole_number(value) if isinstance(value, Numeral | float) else None
    return str(value if number is None else number)


def _number(value: object) -> int | Decimal | None:
    # For Python True is 1; for the API it is no number.
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = repr(value) if isinstance(value, float) else value.strip() if isinstance(value, str) else ""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _found(value: object) -> str:
    return "missing" if value is None else f"found {_describe(value)}"


def _describe(value: object) -> str:
    """Describe a value. Only numbers and dates are quoted: any other text may be long, or a secret."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str | int | float):
        text = str(value)
        if not text.strip():
            return "an empty text"
        return text if _NUMBER_OR_DATE.fullmatch(text) else f"a text ({len(text)} characters)"
    return "a list" if isinstance(value, list) else "an object"


def _digest(raw: object) -> str:
    try:
        content = json.dumps(raw, sort_keys=True)
    except RecursionError:
        content = ""
    return sha256(content.encode()).hexdigest()[:_DIGEST_CHARS]
