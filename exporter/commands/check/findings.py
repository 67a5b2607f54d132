"""
What `check --online` finds out about an API, as data: pure.

The report has the same structures and is a closed schema: every text is one of a fixed list, or fits a
pattern that no name, id or secret fits. The anonymiser in `report` makes the words of an API fit.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from exporter.commands.check.probes import ListForm, NumberForm, TimeForm
from exporter.errors import Reason
from exporter.sync.server_traits import ArrayStyle

WORD = r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*"
SPEC = (
    r"(?:[A-Za-z]{1,12}[0-9]{0,4}[A-Za-z]{0,3}_[0-9]{1,3}Gpu_)?"
    r"[0-9]{1,4}(?:\.[0-9]{1,3})?Core_[0-9]{1,5}(?:\.[0-9]{1,3})?GiB"
)
FIELD = r"[a-z][a-z_]{0,39}"
# A word of the API, or the number in its place.
Word = Annotated[str, msgspec.Meta(pattern=rf"^(?:{WORD}|text-[0-9]{{1,4}})$")]
Code = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?:|-?[0-9]{1,8}|(?:[A-Za-z]{2,10}[._-])?[0-9]{1,8}|[A-Z][A-Z0-9_]*|text-[0-9]{1,4})$"
    ),
]
Spec = Annotated[str, msgspec.Meta(pattern=rf"^(?:{SPEC}|text-[0-9]{{1,4}})$")]
Field = Annotated[str, msgspec.Meta(pattern=rf"^(?:{FIELD}|text-[0-9]{{1,4}})$")]

Kind = Literal[
    "number",
    "fraction",
    "number as text",
    "fraction as text",
    "text",
    "empty text",
    "zero",
    "negative",
    "in seconds",
    "null",
    "missing",
    "boolean",
    "list",
    "object",
]
Works = Literal["works", "ignored", "refused", "finds nothing", "unknown"]
FormWorks = Literal[
    "works", "first value only", "last value only", "ignored", "refused", "finds nothing", "unknown"
]
Above = Literal["refused", "clamped", "accepted", "too long", "unknown"]
OrderedBy = Literal[
    "created, descending",
    "created, ascending",
    "updated, descending",
    "updated, ascending",
    "id, descending",
    "id, ascending",
]
TotalsVerdict = Literal[
    "agree",
    "missing",
    "unusable",
    "of the page",
    "capped",
    "constant",
    "too low",
    "too high",
    "differ both ways",
    "unknown",
]


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all findings: fields by name only, and no others."""


class ArrayFilter(Finding, frozen=True, kw_only=True):
    """
    A filter that takes several values.

    Shape: what the server does with one value, with a key repeated for each value, and with values joined by
    commas; `used` is the form that polls end up with ("none": they list everything and filter it here).
    """

    one_value: FormWorks
    repeated_keys: FormWorks
    comma: FormWorks
    used: ArrayStyle | Literal["unknown"]


class FilterFindings(Finding, frozen=True, kw_only=True):
    """Which filters the server honours. Shape: without `changes_only`, each poll lists everything."""

    statuses: ArrayFilter
    job_types: ArrayFilter
    start_time: Works
    id: Works
    workspace_id: Works
    offset: Works
    changes_only: bool


class PageFindings(Finding, frozen=True, kw_only=True):
    """
    How long a page can be.

    Shape: `longest` is the longest page that came, in rows; `is_largest` if the server gives no longer one;
    `above` is what it does with a larger limit; `repeated_rows` is how many of the page before came again.
    """

    longest: int
    is_largest: bool
    above: Above
    repeated_rows: int


class TotalFindings(Finding, frozen=True, kw_only=True):
    """
    Whether page_info.total agrees with the rows.

    Shape: `rows_off` is total minus rows, the largest difference that was seen; None where they agree or
    cannot be compared. `cap` is the number at which totals stop, or None.
    """

    verdict: TotalsVerdict
    rows_off: int | None
    cap: int | None
    forms: tuple[NumberForm, ...]


class ClockFindings(Finding, frozen=True, kw_only=True):
    """
    The server's clocks against ours.

    Units: seconds, positive where the server is ahead. Shape: `least` and `most` of meta_info.current_time;
    `newest_row` is the latest time in any row: an old row is negative; `polls_go_by` is the clock that polls
    would use, against ours.
    """

    current_time: TimeForm
    least: float | None
    most: float | None
    newest_row: float | None
    rows_ahead: float
    polls_go_by: float


class SeenType(Finding, frozen=True, kw_only=True):
    """A job type or a status, and how many of the rows that were read have it."""

    name: Word
    rows: int
    documented: bool


class SeenCode(Finding, frozen=True, kw_only=True):
    code: Code
    rows: int


class SeenSpec(Finding, frozen=True, kw_only=True):
    spec: Spec
    rows: int


class Unreadable(Finding, frozen=True, kw_only=True):
    """Rows that cannot be read: which field is wrong, and what kind of value it has."""

    field: Field
    found: Kind
    rows: int


class RowFindings(Finding, frozen=True, kw_only=True):
    """
    What the rows are like.

    Shape: `fields` counts the rows by the kind of value of each documented field; `other_fields` are not
    documented. `durations_in_flight` is how many jobs have a running time and have not ended;
    `too_many_unreadable` if a poll of these rows would fail because of those that cannot be read.
    """

    rows: int
    unreadable: tuple[Unreadable, ...]
    too_many_unreadable: bool
    fields: dict[Field, dict[Kind, int]]
    other_fields: tuple[Field, ...]
    durations_in_flight: int
    workspace_ids: Literal["as asked", "of others", "missing", "unknown"]


class BodyFindings(Finding, frozen=True, kw_only=True):
    """
    What the responses are like.

    Shape: `json` is "repaired" where one was no strict JSON in UTF-8; `empty_list` are the forms of
    payload.list in responses without rows ("no content": status 204).
    """

    json: Literal["clean", "repaired"]
    empty_list: tuple[ListForm | Literal["no content"], ...]


class Cost(Finding, frozen=True, kw_only=True):
    """Units: seconds; `median` and `longest` are of one request. `complete` if everything was asked."""

    requests: int
    seconds: float
    median: float
    longest: float
    complete: bool


class Findings(Finding, frozen=True, kw_only=True):
    filters: FilterFindings
    page: PageFindings
    order: tuple[OrderedBy, ...]
    totals: TotalFindings
    clock: ClockFindings
    job_types: tuple[SeenType, ...]
    statuses: tuple[SeenType, ...]
    codes: tuple[SeenCode, ...]
    resource_specs: tuple[SeenSpec, ...]
    rows: RowFindings
    body: BodyFindings


class TargetError(Finding, frozen=True, kw_only=True):
    """Why a target does not work, without the error's message."""

    reason: Reason
    status: int
    code: Code
