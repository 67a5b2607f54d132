"""What the rows and the answers around them are like: pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from exporter.commands.check.answers import Answer, ListForm, distinct_rows, pages_of
from exporter.commands.check.findings import (
    BodyFindings,
    Kind,
    RowFindings,
    SeenCode,
    SeenSpec,
    SeenType,
    Unreadable,
)
from exporter.errors import ContractError
from exporter.model import JOB_TYPES, STATUSES, Job
from exporter.octopus.tolerant import EARLIEST_MS, Numeral, SetApartRow, clean_label, read_row, whole_number
from exporter.sync.unreadable import UnreadableRows

# Source: API reference, "querying the list of internal jobs", table 6.
_TIMES = ("create_at", "update_at", "start_at", "end_at")
_DURATIONS = ("submitting_duration", "running_duration")
_TEXTS = ("job_type", "data_id", "status", "project_id", "resource_spec", "msg_error", "workspace_id")
FIELDS = ("id", *_TEXTS, *_TIMES, *_DURATIONS, "msg_code")

# Whatever a server calls things, the output and the report stay short.
_MOST_WORDS = 50
_FIGURES = re.compile(r"\s*[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?\s*")


def judge_rows(answers: Sequence[Answer], workspace_id: str | None) -> RowFindings:
    """Describe the rows; `workspace_id` is what was asked for, None where it was left out."""
    rows = distinct_rows(answers)
    objects = [row for row in rows if isinstance(row, dict)]
    kinds = {name: Counter(kind_of(name, row) for row in objects) for name in FIELDS}
    jobs = _jobs(rows)
    return RowFindings(
        rows=len(rows),
        unreadable=tuple(_unreadable(rows)),
        too_many_unreadable=_are_too_many(rows, len(jobs)),
        fields={name: dict(found) for name, found in kinds.items() if found},
        other_fields=tuple(name for name, _ in _counted(_other_fields(objects))),
        durations_in_flight=sum(job.running_ms is not None and not job.has_ended for job in jobs),
        workspace_ids=_workspaces(answers, workspace_id),
    )


def problems_of(answers: Iterable[Answer]) -> dict[str, int]:
    """Say what is wrong with rows that cannot be read, and of how many: with the figures that stand there."""
    return dict(Counter(apart.problem for _, apart in _set_apart(distinct_rows(answers))))


def _jobs(rows: Iterable[object]) -> list[Job]:
    return [job for row in rows if isinstance(job := read_row(row, 0, frozenset()), Job)]


def _set_apart(rows: Iterable[object]) -> list[tuple[object, SetApartRow]]:
    """Give the rows that cannot be read, each with what is wrong with it."""
    worth = ((row, read_row(row, index, frozenset())) for index, row in enumerate(rows))
    return [(row, apart) for row, apart in worth if isinstance(apart, SetApartRow)]


def _unreadable(rows: Iterable[object]) -> list[Unreadable]:
    found: Counter[tuple[str, Kind]] = Counter()
    for row, apart in _set_apart(rows):
        field = apart.problem.partition(":")[0]
        found[field, kind_of(field, row) if isinstance(row, dict) else _kind(row)] += 1
    return [Unreadable(field=field, found=kind, rows=n) for (field, kind), n in sorted(found.items())]


def _are_too_many(rows: Iterable[object], readable: int) -> bool:
    """Tell whether a poll that reads these rows fails for those that cannot be read."""
    unreadable = UnreadableRows()
    unreadable.add([apart for _, apart in _set_apart(rows)], 0, 0)
    try:
        unreadable.check(readable + len(unreadable.job_ids))
    except ContractError:
        return True
    return len(unreadable) > 1 and not readable


def kind_of(name: str, row: Mapping[str, object]) -> Kind:
    """Say what stands in a field of a row, without repeating it."""
    if name not in row:
        return "missing"
    value = row[name]
    number = whole_number(value) if name in (*_TIMES, *_DURATIONS) else None
    if number is not None and number <= 0:
        return "negative" if number < 0 else "zero"
    if name in _TIMES and number is not None and number < EARLIEST_MS:
        return "in seconds"
    found = _kind(value)
    # In a text figures are no number that was written as one.
    return "text" if name in _TEXTS and found in ("number as text", "fraction as text") else found


def _kind(value: object) -> Kind:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, Numeral | float):
        return "fraction"
    if isinstance(value, int):
        return "number"
    if isinstance(value, str):
        return _text_kind(value)
    return "list" if isinstance(value, list) else "object"


def _text_kind(text: str) -> Kind:
    if not text.strip():
        return "empty text"
    if _FIGURES.fullmatch(text):
        return "number as text" if text.strip().lstrip("+-").isdigit() else "fraction as text"
    return "text"


def _workspaces(
    answers: Sequence[Answer], workspace_id: str | None
) -> Literal["as asked", "of others", "missing", "unknown"]:
    """Compare the workspace that rows name with the one that was asked for."""
    jobs = [j for a in pages_of(answers) if a.question.topic != "workspace_id" for j in a.jobs]
    named = {job.workspace_id for job in jobs if job.workspace_id is not None}
    if not jobs or (named and workspace_id is None):
        return "unknown"
    if not named:
        return "missing"
    return "as asked" if named == {workspace_id} else "of others"


def seen_words(
    answers: Sequence[Answer],
) -> tuple[tuple[SeenType, ...], tuple[SeenType, ...], tuple[SeenCode, ...], tuple[SeenSpec, ...]]:
    """Give the job types, statuses, codes and resource specs of all rows, the most frequent first."""
    rows = distinct_rows(answers)
    jobs = _jobs(rows)
    return (
        _types((job.job_type for job in jobs), JOB_TYPES),
        _types((job.status for job in jobs), STATUSES),
        tuple(
            SeenCode(code=code, rows=n) for code, n in _counted(job.msg_code for job in jobs if job.msg_code)
        ),
        tuple(
            SeenSpec(spec=s, rows=n)
            for s, n in _counted(job.resource_spec for job in jobs if job.resource_spec)
        ),
    )


def _types(words: Iterable[str], documented: Sequence[str]) -> tuple[SeenType, ...]:
    return tuple(SeenType(name=w, rows=n, documented=w in documented) for w, n in _counted(words))


def _counted(words: Iterable[str]) -> list[tuple[str, int]]:
    """Count the words, the most frequent first, and drop the rare ones of very many."""
    return sorted(Counter(words).items(), key=lambda one: (-one[1], one[0]))[:_MOST_WORDS]


def _other_fields(rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    return (clean_label(name) for row in rows for name in row if name not in FIELDS)


def judge_body(answers: Sequence[Answer]) -> BodyFindings:
    """Describe the answers themselves."""
    raw = [answer.raw for answer in answers if answer.raw is not None]
    empty: list[ListForm | Literal["no content"]] = [one.list_form for one in raw if not one.rows]
    if any(answer.status == 204 for answer in answers):
        empty.append("no content")
    return BodyFindings(
        json="clean" if all(one.is_clean for one in raw) else "repaired",
        empty_list=tuple(dict.fromkeys(empty)),
    )
