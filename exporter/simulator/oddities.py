"""
Rows as no server should write them: each oddity replaces some fields of a row.

Pure: the caller passes the random source. Units: those of the row, so Unix milliseconds and milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import msgspec

Fields = dict[str, Any]
Spoil = Callable[[Fields, "OddRow", Random], object]

TIMES = ("create_at", "update_at", "start_at", "end_at")
DURATIONS = ("submitting_duration", "running_duration")
# The fields in which 0 can mean "none". A msg_code of 0 is a code like any other.
_ABSENT = ("start_at", "end_at", *DURATIONS)
_NUMBERS = ("id", *TIMES, *DURATIONS, "msg_code")
# As if a job were moved to another queue, and then asked for something else again.
_SPECS_BY_STATUS = {
    "QUEUING": {"resource_spec": "2Core_4GiB"},
    "LAUNCHING": {"resource_spec": "P100_1Gpu_2.1Core_4.1GiB"},
}
YEAR_10000_MS = 253_402_300_800_000


def _set(**values: object) -> Spoil:
    return lambda fields, _, __: fields | values


def _without(*names: str) -> Spoil:
    return lambda fields, _, __: {name: value for name, value in fields.items() if name not in names}


def _each(names: tuple[str, ...], change: Callable[[Any], object]) -> Spoil:
    """Change these fields where the row has them."""
    return lambda fields, _, __: {
        name: change(value) if name in names and value is not None else value
        for name, value in fields.items()
    }


def _absent(value: object) -> Spoil:
    """Write this value in the fields that do not apply to the row, instead of leaving them out."""
    return lambda fields, _, __: (
        dict.fromkeys(_ABSENT, value) | {name: found for name, found in fields.items() if found is not None}
    )


def _stamped_ahead(fields: Fields, order: OddRow, _: Random) -> Fields:
    ahead_ms = int(order.seconds * 1000)
    return {name: value + ahead_ms if name in TIMES and value else value for name, value in fields.items()}


def _end_before_start(fields: Fields, _: OddRow, __: Random) -> Fields:
    if not fields.get("start_at") or not fields.get("end_at"):
        return fields
    kept = {name: value for name, value in fields.items() if name != "running_duration"}
    return kept | {"end_at": fields["start_at"] - 1000}


def _spec_many(fields: Fields, _: OddRow, __: Random) -> Fields:
    return fields | {"resource_spec": f"1Core_{fields.get('id', 0)}GiB"}


def _spec_changes(fields: Fields, _: OddRow, __: Random) -> Fields:
    return fields | _SPECS_BY_STATUS.get(str(fields.get("status")), {})


def _update_jitter(fields: Fields, order: OddRow, rng: Random) -> Fields:
    reach_ms = int(order.seconds * 1000)
    return fields | {"update_at": fields["update_at"] + rng.randint(-reach_ms, reach_ms)}


SPOILS: Mapping[str, Spoil] = {
    # The text of msg_error, or another field that no count depends on. Raw bytes need not be JSON.
    "text-surrogate": _set(msg_error=msgspec.Raw(b'"disk full \\ud83d"')),
    "text-cut": _set(msg_error=msgspec.Raw(b'"disk full \xe7\xa3"')),
    "text-control": _set(msg_error=msgspec.Raw(b'"disk\n\tfull\x00\x1b[31m"')),
    "text-chinese": _set(msg_error="磁盘已满，无法写入数据"),  # noqa: RUF001 - what such a server writes
    "text-long": _set(msg_error="disk full " * 10_000),
    "text-object": _set(msg_error={"reason": "disk full"}),
    "nan": _set(score=msgspec.Raw(b"NaN"), cost=msgspec.Raw(b"-Infinity")),
    "label-long": _set(resource_spec="1Core_" + "4" * 100_000 + "GiB"),
    "spec-missing": _without("resource_spec"),
    "spec-null": _set(resource_spec=None),
    "spec-unreadable": _set(resource_spec="2Corex_4GiB"),
    "spec-many": _spec_many,
    "spec-changes": _spec_changes,
    # The row itself, or a required field.
    "null-row": lambda _, __, ___: None,
    "text-row": lambda _, __, ___: "deleted",
    "no-id": _without("id"),
    "id-text": _set(id="job-one"),
    "id-null": _set(id=None),
    "id-huge": _set(id=msgspec.Raw(b"36893488147419103232")),
    "no-type": _without("job_type"),
    "type-null": _set(job_type=None),
    "no-status": _without("status"),
    "status-null": _set(status=None),
    "status-number": _set(status=3),
    "no-created": _without("create_at"),
    "created-text": _set(create_at="yesterday"),
    "year-10000": _set(create_at=YEAR_10000_MS),
    # A field in another form.
    "negative-start": _set(start_at=-1),
    "negative-end": _set(end_at=-1),
    "zero-start": lambda fields, _, __: {"start_at": 0} | fields,
    "zero-end": _set(end_at=0),
    "none-zero": _absent(0),
    "none-empty": _absent(""),
    "none-minus-one": _absent(-1),
    "numbers-text": _each(_NUMBERS, str),
    "numbers-float": _each(_NUMBERS, float),
    "times-fraction": _each((*TIMES, *DURATIONS), lambda value: value + 0.25),
    "code-fraction": _set(msg_code=1.5),
    "seconds": _each(TIMES, lambda value: value // 1000),
    # Times that do not fit together.
    "stamped-ahead": _stamped_ahead,
    "end-before-start": _end_before_start,
    "no-end": _without("end_at", "running_duration"),
    "no-durations": _without(*DURATIONS),
    # The update time.
    "update-missing": _without("update_at"),
    "update-null": _set(update_at=None),
    "update-constant": lambda fields, _, __: fields | {"update_at": fields["create_at"]},
    "update-jitter": _update_jitter,
}

# msgspec refuses any text that is not a key of SPOILS. A type checker cannot compute such a Literal.
if TYPE_CHECKING:
    Oddity = str
else:
    Oddity = Literal[tuple(SPOILS)]


class OddRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which rows are served odd, and how.

    Shape: the rows whose id (as served) is in `ids`, or, without `ids`, whose number is a multiple of
    `every`. If `statuses` are given, only the rows in one of them. Units: `seconds` is what "stamped-ahead"
    adds to all times of the row, and the greatest change by "update-jitter".
    """

    what: Oddity
    every: int = 1
    ids: tuple[int, ...] = ()
    statuses: tuple[str, ...] = ()
    seconds: float = 3600.0

    def selects(self, number: int, job_id: int, status: str) -> bool:
        """Tell whether the job of this number and id, listed in this status, is served odd."""
        if self.statuses and status not in self.statuses:
            return False
        return job_id in self.ids if self.ids else number % self.every == 0


def odd(row: object, odd_rows: tuple[OddRow, ...], rng: Random) -> object:
    """Apply the oddities that were selected for this row, in the order given."""
    # A dict, because an oddity may leave a field out or give it another type.
    fields: object = msgspec.to_builtins(row)
    for one in odd_rows:
        # An oddity before this one has replaced the whole row.
        if not isinstance(fields, dict):
            return fields
        fields = SPOILS[one.what](fields, one, rng)
    return fields
