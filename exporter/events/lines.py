"""Formats an event as a line of JSON or logfmt: pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from exporter.events.outbox import Event
from exporter.runs import rfc3339

EventFormat = Literal["json", "logfmt"]
Value = str | int | float | None

RUN_ENDED = "run_ended"

# JSON does not escape these, but terminals execute some of them, and some readers end a line at others.
_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r'[^\s"=\\]+')


class Masks(Protocol):
    """The methods that are used of masking.Secrets."""

    def masked(self, text: str) -> str: ...
    def masked_label(self, label: str) -> str: ...


def line_of(format: EventFormat, masks: Masks) -> Callable[[Event], bytes]:  # noqa: A002 - the key's name
    """Return the function that formats an event: UTF-8, with its line end."""
    write = _json if format == "json" else _logfmt
    return lambda event: (write(dict(_fields(event, masks))) + "\n").encode("utf-8", "backslashreplace")


def _fields(event: Event, masks: Masks) -> Iterator[tuple[str, Value]]:
    """
    Give the fields in their order: first those that have few values, last the text that may be long.

    Every line has all fields; None where there is no value. Times are RFC 3339, UTC, with milliseconds. A
    job's id is a text, because numbers in JavaScript are exact only up to 2^53.
    """
    target, run = event.target, event.run
    yield "time", rfc3339(event.counted_ms)
    yield "event", RUN_ENDED
    yield "project", target.project
    yield "project_id", target.project_id
    yield "workspace", target.workspace
    yield "job_type", masks.masked_label(run.job_type)
    yield "status", masks.masked_label(run.status)
    yield "job_id", str(run.job_id)
    yield "run", run.number
    yield "msg_code", masks.masked_label(run.msg_code) or None
    yield "resource_spec", masks.masked_label(run.resource_spec) or None
    yield "data_id", masks.masked(run.data_id) or None
    yield "created", rfc3339(run.created_ms)
    yield "started", rfc3339(run.started_ms)
    yield "ended", rfc3339(run.ended_ms)
    yield "submitting_seconds", _seconds(run.submitting_ms)
    yield "running_seconds", _seconds(run.running_ms)
    yield "msg_error", masks.masked(run.msg_error) or None


def _seconds(duration_ms: int | None) -> float | None:
    return None if duration_ms is None else duration_ms / 1000


def _json(fields: dict[str, Value]) -> str:
    return _escaped(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))


def _logfmt(fields: dict[str, Value]) -> str:
    return " ".join(f"{key}={_bare(value)}" for key, value in fields.items())


def _bare(value: Value) -> str:
    """Write a value as it is, or in quotes with JSON's escapes, which readers of logfmt understand."""
    text = "" if value is None else str(value)
    if text == "" or (_PLAIN.fullmatch(text) and text.isprintable()):
        return text
    return _escaped(json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    """Escape the remaining control characters, which are always inside quotes."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
