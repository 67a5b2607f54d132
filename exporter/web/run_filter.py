"""Read filters of runs: the same seven in a query string, on the status page and on a command line. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from exporter.config.durations import parse_duration
from exporter.runs import RunFilter

FILTER_PARAMETERS = ("project", "workspace", "job_type", "status", "msg_code", "id", "since")

_MAX_ID = 2**63 - 1  # the largest integer of SQLite
_SHOWN_CHARS = 60
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?")
# Stricter than fromisoformat(), which also takes dates without a time and times without a zone.
# A plus sign that is not percent-encoded arrives as a space.
_RFC_3339 = re.compile(
    r"(?P<moment>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)"
    r"(?:[Zz]|(?P<sign>[ +-])(?P<offset>[0-9]{2}:[0-9]{2}))"
)

T = TypeVar("T")


class ParameterReader:
    """
    Reads parameters by name, and collects all problems instead of stopping at the first.

    Shape: `values` has all values of each parameter; `label` says how a problem writes a parameter's name.
    """

    def __init__(self, values: Mapping[str, Sequence[str]], label: Callable[[str], str] = str) -> None:
        self._values = values
        self._label = label
        self.problems: list[str] = []

    def read(self, name: str, parse: Callable[[str], T]) -> T | None:
        """Parse one parameter; None if it is absent, or `parse` raised ValueError."""
        values = self._values.get(name, ())
        try:
            # Not the first or the last of them: the other half of the question would be dropped in silence.
            if len(values) > 1:
                raise ValueError(f"given {len(values)} times, expected one value")
            return parse(values[0]) if values else None
        except ValueError as exc:
            self.problems.append(f"{self._label(name)}: {exc}")
            return None

    def run_filter(self, now_ms: int, text: Callable[[str], str], code: Callable[[str], str]) -> RunFilter:
        """Read FILTER_PARAMETERS. Shape: `code` checks `msg_code`, `text` the other filters by a text."""
        return RunFilter(
            project=self.read("project", text),
            workspace=self.read("workspace", text),
            job_type=self.read("job_type", text),
            status=self.read("status", text),
            msg_code=self.read("msg_code", code),
            job_id=self.read("id", _job_id),
            since_ms=self.read("since", lambda since: _since_ms(since, now_ms)),
        )


def _since_ms(text: str, now_ms: int) -> int:
    """Parse a duration before now, an RFC 3339 time or Unix seconds. Raises: ValueError."""
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
        raise ValueError(f"found {quoted(text)}, expected {expected}") from None


def _job_id(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_ID)) and int(text) <= _MAX_ID:
        return int(text)
    raise ValueError(f"found {quoted(text)}, expected the id of a job, a whole number")


def not_empty(text: str) -> str:
    """Return the text. Raises: ValueError if it is empty."""
    if not text:
        raise ValueError("found nothing, expected a value")
    return text


def quoted(text: str) -> str:
    """Quote a value for an error message: on one line, and only the beginning if it is long."""
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
    return ascii(shown) if not shown.isprintable() else f"'{shown}'"
