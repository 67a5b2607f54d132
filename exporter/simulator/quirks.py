"""
How the server that the simulator plays departs from the straightforward reading of its documentation.

Pure data, checked where it is built. docs/simulator.md explains each quirk in one line.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from exporter.errors import ConfigError

Shift = Literal["none", "insert", "delete", "both"]
FilterName = Literal["workspace_id", "job_types", "statuses", "start_time", "end_time", "id", "data_id"]
TotalForm = Literal["number", "string", "float", "null"]
EmptyList = Literal["list", "null", "missing", "no-content"]
Charset = Literal["utf-8", "gbk", "gb18030", "utf-16", "iso-8859-1"]
Oddity = Literal[
    # The text of msg_error, or another field that decides no count.
    "text-surrogate",
    "text-cut",
    "text-control",
    "text-chinese",
    "text-long",
    "text-object",
    "nan",
    "label-long",
    # The row itself, or a field that it cannot do without.
    "null-row",
    "text-row",
    "no-id",
    "id-text",
    "id-null",
    "id-huge",
    "no-type",
    "type-null",
    "no-status",
    "status-null",
    "status-number",
    "no-created",
    "created-text",
    "year-10000",
    # A field in another form.
    "negative-start",
    "negative-end",
    "zero-start",
    "zero-end",
    "none-zero",
    "none-empty",
    "none-minus-one",
    "numbers-text",
    "numbers-float",
    "times-fraction",
    "code-fraction",
    "seconds",
    # Times that do not fit together.
    "stamped-ahead",
    "end-before-start",
    "no-end",
    "no-durations",
    # The update time.
    "update-missing",
    "update-null",
    "update-constant",
    "update-jitter",
]

# The simulator remembers what its jobs were that long ago.
MAX_LAG_SECONDS = 60.0
# Three hundred years; farther away there are texts.
_MAX_AHEAD_SECONDS = 1e10


class OddRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which rows are served odd, and how.

    Shape: every row whose id (as served) is in `ids`, or, without `ids`, whose number can be divided by
    `every`; of these only those in one of `statuses`, where any are given. Units: `seconds` is what
    "stamped-ahead" adds to all times of the row, and how far "update-jitter" goes.
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

    def problems(self) -> list[str]:
        return at_least("quirks.odd_rows.every", self.every, 1)


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Everything the server may do differently, always.

    Shape: None, false, 0 and the empty tuple are no quirk. `repeat_rows` rows of the page before stand in
    front of every page but the first; a `shift` happens after one in `shift_every` pages that are not the
    last one. Units: `clock_*` are seconds of the simulated time; lags are real seconds.
    Raises: ConfigError, with all problems.
    """

    clamp_limit: int | None = None
    max_limit: int | None = None
    ignore_filters: tuple[FilterName, ...] = ()
    first_value_only: bool = False
    comma_arrays: bool = False
    latency_seconds: float = 0.0
    repeat_rows: int = 0
    shift: Shift = "none"
    shift_every: int = 1

    omit_total: bool = False
    total_cap: int | None = None
    total_of_page: bool = False
    total_surplus: int = 0
    total_fixed: int | None = None
    total_form: TotalForm = "number"
    total_lag_seconds: float = 0.0
    hidden_ids: tuple[int, ...] = ()
    empty_list: EmptyList = "list"
    empty_list_anywhere: bool = False

    replica_lags_seconds: tuple[float, ...] = ()
    index_lag_seconds: float = 0.0
    index_gives_new_rows: bool = False

    clock_ahead_seconds: float = 0.0
    clock_jumps_seconds: tuple[float, ...] = ()
    clock_text: str | None = None

    null_absent: bool = False
    growing_durations: bool = False
    omit_workspace_id: bool = False
    extra_fields: bool = False
    odd_rows: tuple[OddRow, ...] = ()
    id_offset: int = 0
    row_padding_bytes: int = 0
    charset: Charset = "utf-8"
    bom: bool = False

    token_expires_at: str | None = None

    def __post_init__(self) -> None:
        problems = [
            *at_least("quirks.clamp_limit", self.clamp_limit, 1),
            *at_least("quirks.max_limit", self.max_limit, 1),
            *at_least("quirks.latency_seconds", self.latency_seconds, 0),
            *at_least("quirks.repeat_rows", self.repeat_rows, 0),
            *at_least("quirks.shift_every", self.shift_every, 1),
            *at_least("quirks.total_cap", self.total_cap, 0),
            *_within("quirks.clock_ahead_seconds", self.clock_ahead_seconds, _MAX_AHEAD_SECONDS),
            *(
                problem
                for jump in self.clock_jumps_seconds
                for problem in _within("quirks.clock_jumps_seconds", jump, _MAX_AHEAD_SECONDS)
            ),
            *at_least("quirks.id_offset", self.id_offset, -1),
            *at_least("quirks.row_padding_bytes", self.row_padding_bytes, 0),
            *(problem for row in self.odd_rows for problem in row.problems()),
            *_lag("quirks.total_lag_seconds", self.total_lag_seconds),
            *_lag("quirks.index_lag_seconds", self.index_lag_seconds),
            *(p for lag in self.replica_lags_seconds for p in _lag("quirks.replica_lags_seconds", lag)),
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def longest_lag_seconds(self) -> float:
        """How old the oldest state is that an answer may show."""
        return max(self.total_lag_seconds, self.index_lag_seconds, 0.0) + max(
            self.replica_lags_seconds, default=0.0
        )


def parse_quirks(text: str) -> Quirks:
    """
    Read quirks from a JSON object, as POST /simulator/quirks takes it.

    Raises: ConfigError.
    """
    try:
        return msgspec.json.decode(text, type=Quirks)
    except msgspec.MsgspecError as error:
        raise ConfigError([f"quirks: {error}"]) from error


def at_least(name: str, value: float | None, minimum: float) -> list[str]:
    if value is None or minimum <= value < float("inf"):
        return []
    return [f"{name}: {value}: expected a number of {minimum:g} or more"]


def _within(name: str, value: float, distance: float) -> list[str]:
    if -distance <= value <= distance:
        return []
    return [f"{name}: {value}: expected a number from {-distance:g} to {distance:g}"]


def _lag(name: str, value: float) -> list[str]:
    if 0 <= value <= MAX_LAG_SECONDS / 2:
        return []
    return [f"{name}: {value}: expected a number of 0 to {MAX_LAG_SECONDS / 2:g}"]
