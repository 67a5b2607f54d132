"""What is asked of single runs, in the words of a query or of a command line: pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar, get_args

from exporter.config.durations import parse_duration
from exporter.runs import Position, RunFilter

Format = Literal["json", "csv"]
DEFAULT_LIMIT = 1_000
MAX_LIMIT = 10_000

_MAX_ID = 2**63 - 1
_SHOWN_CHARS = 60
_FILTERS = ("project", "workspace", "job_type", "status", "msg_code", "id", "since")
_OTHERS = ("limit", "next", "format")
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?")
# A plus sign that was not escaped arrives as a blank.
_RFC_3339 = re.compile(
    r"(?P<moment>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)"
    r"(?:[Zz]|(?P<sign>[ +-])(?P<offset>[0-9]{2}:[0-9]{2}))"
)

T = TypeVar("T")


class BadQuestion(Exception):
    """A question that cannot be answered. Shape: `problems` are a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class RunQuestion:
    """Which failed runs to list: at most `limit`, those older than `after`."""

    which: RunFilter
    limit: int = DEFAULT_LIMIT
    after: Position | None = None
    format: Format = "json"


def run_question(query: Mapping[str, Sequence[str]], now_ms: int) -> RunQuestion:
    """
    Read the parameters of a query.

    Shape: `query` has all values of each parameter. Raises: BadQuestion, with every problem.
    """
    problems = [
        f"{_shown(name)}: not a parameter of this page, expected one of {', '.join(_FILTERS + _OTHERS)}"
        for name in query
        if name not in _FILTERS + _OTHERS
    ]

    def read(name: str, reading: Callable[[str], T]) -> T | None:
        values = query.get(name, ())
        try:
            if len(values) > 1:
                raise ValueError(f"given {len(values)} times, expected one value")
            return reading(values[0]) if values else None
        except ValueError as exc:
            problems.append(f"{name}: {exc}")
            return None

    which = RunFilter(
        project=read("project", _name),
        workspace=read("workspace", _name),
        job_type=read("job_type", _name),
        status=read("status", _name),
        msg_code=read("msg_code", str),
        job_id=read("id", job_id),
        since_ms=read("since", lambda text: since_ms(text, now_ms)),
    )
    limit, after, form = read("limit", _limit), read("next", _position), read("format", _format)
    if problems:
        raise BadQuestion(problems)
    return RunQuestion(which, DEFAULT_LIMIT if limit is None else limit, after, form or "json")


def since_ms(text: str, now_ms: int) -> int:
    """
    Read since when: a duration before now, a time as RFC 3339 has it, or Unix seconds.

    Raises: ValueError.
    """
    if _UNIX_SECONDS.fullmatch(text):
        return round(float(text) * 1000)
    try:
        match = _RFC_3339.fullmatch(text)
        if match is None:
            return now_ms - round(parse_duration(text) * 1000)
        offset = "+00:00" if match["offset"] is None else match["sign"].replace(" ", "+") + match["offset"]
        return round(datetime.fromisoformat(match["moment"].upper() + offset).timestamp() * 1000)
    except (ValueError, OverflowError):
        expected = "a duration such as 1h, a time such as 2026-07-01T03:00:00Z or Unix seconds"
        raise ValueError(f"found {_shown(text)}, expected {expected}") from None


def job_id(text: str) -> int:
    """Read the id of a job. Raises: ValueError."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_ID)) and int(text) <= _MAX_ID:
        return int(text)
    raise ValueError(f"found {_shown(text)}, expected the id of a job, a whole number")


def _name(text: str) -> str:
    if not text:
        raise ValueError("found nothing, expected a value")
    return text


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise ValueError(f"found {_shown(text)}, expected a number from 1 to {MAX_LIMIT}")


def _position(text: str) -> Position:
    try:
        return Position.parse(text)
    except ValueError as exc:
        raise ValueError(f"found {_shown(text)}, {exc}") from None


def _format(text: str) -> Format:
    for form in get_args(Format):
        if text == form:
            return form  # type: ignore[no-any-return]  # get_args gives the words themselves
    raise ValueError(f"found {_shown(text)}, expected {' or '.join(get_args(Format))}")


def _shown(text: str) -> str:
    """Repeat what was given, in one line and not all of it."""
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
    return ascii(shown) if not shown.isprintable() else f"'{shown}'"
