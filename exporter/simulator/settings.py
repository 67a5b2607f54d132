"""
The settings of a simulator, and its quirks: how the simulated server differs from its documentation.

Constructors check all values, so a simulator that starts has valid settings. docs/simulator.md explains each
quirk in one line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from exporter.errors import ConfigError
from exporter.simulator.oddities import OddRow
from exporter.simulator.profiles import CALM, PROFILE_SETS

DEMO_PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
DEFAULT_WORKSPACE = "0"

Order = Literal["created-desc", "created-asc", "update-desc"]
FilterName = Literal["workspace_id", "job_types", "statuses", "start_time", "end_time", "id", "data_id"]
# How long the simulator keeps the changes of its jobs, for replicas that lag.
MAX_LAG_SECONDS = 60.0
# Three hundred years. A year with more than four digits is written by `clock_text` instead.
_MAX_AHEAD_SECONDS = 1e10


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ways in which the server differs from its documentation, at every request.

    Shape: None, false, 0 and the empty tuple turn a quirk off. With `repeat_rows`, each page but the first
    begins with so many rows of the page before. A `shift` happens after one in `shift_every` pages, the last
    page not counted. Units: `clock_*` are seconds of the simulated time; lags are real seconds.
    Raises: ConfigError, with all problems.
    """

    clamp_limit: int | None = None
    max_limit: int | None = None
    ignore_filters: tuple[FilterName, ...] = ()
    first_value_only: bool = False
    comma_arrays: bool = False
    latency_seconds: float = 0.0
    repeat_rows: int = 0
    shift: Literal["none", "insert", "delete", "both"] = "none"
    shift_every: int = 1

    omit_total: bool = False
    total_cap: int | None = None
    total_of_page: bool = False
    total_surplus: int = 0
    total_fixed: int | None = None
    total_form: Literal["number", "string", "float", "null"] = "number"
    total_lag_seconds: float = 0.0
    hidden_ids: tuple[int, ...] = ()
    empty_list: Literal["list", "null", "missing", "no-content"] = "list"
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
    charset: Literal["utf-8", "gbk", "gb18030", "utf-16", "iso-8859-1"] = "utf-8"
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
            *_ahead("quirks.clock_ahead_seconds", self.clock_ahead_seconds),
            *(p for jump in self.clock_jumps_seconds for p in _ahead("quirks.clock_jumps_seconds", jump)),
            *at_least("quirks.id_offset", self.id_offset, -1),
            *at_least("quirks.row_padding_bytes", self.row_padding_bytes, 0),
            *(p for row in self.odd_rows for p in at_least("quirks.odd_rows.every", row.every, 1)),
            *_lag("quirks.total_lag_seconds", self.total_lag_seconds),
            *_lag("quirks.index_lag_seconds", self.index_lag_seconds),
            *(p for lag in self.replica_lags_seconds for p in _lag("quirks.replica_lags_seconds", lag)),
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def longest_lag_seconds(self) -> float:
        """The age of the oldest state that a response may show."""
        own_seconds = max(self.total_lag_seconds, self.index_lag_seconds)
        return own_seconds + max(self.replica_lags_seconds, default=0.0)


def parse_quirks(text: str) -> Quirks:
    """Read quirks from a JSON object, as POST /simulator/quirks takes it. Raises: ConfigError."""
    try:
        return msgspec.json.decode(text, type=Quirks)
    except msgspec.MsgspecError as error:
        raise ConfigError([f"quirks: {error}"]) from error


@dataclass(frozen=True, slots=True)
class DemoCredentials:
    """The accepted credentials. With a `security_token`, the key pair is temporary and needs the token."""

    domain: str = "octopus-demo"
    user: str = "exporter"
    password: str = field(default="demo-password", repr=False)
    access_key: str = "DEMOACCESSKEY0000001"
    secret_key: str = field(default="demo-secret-key", repr=False)
    security_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """
    All settings of a simulator.

    Shape: `jobs` are listed at the start, over all projects and workspaces. After that, `jobs_per_day`
    arrive, or as many as in the history if that is more. `profile` names one of PROFILE_SETS. Without
    `reopening`, no job runs a second time. `start_ms` None means the present. A `pace` of 2 lets jobs arrive
    and run twice as fast, while the clock keeps its speed.
    Units: `speed` is simulated seconds per second; `token_ttl_seconds` and `slow_seconds` are real ones.
    Raises: ConfigError, with all problems.
    """

    jobs: int = 2000
    speed: float = 1.0
    pace: float = 1.0
    seed: int = 1
    profile: str = CALM
    faults: str = ""
    projects: tuple[str, ...] = (DEMO_PROJECT,)
    workspaces: tuple[str, ...] = (DEFAULT_WORKSPACE,)
    order: Order = "created-desc"
    quirks: Quirks = field(default_factory=Quirks)
    path: str = "system-jobs"
    jobs_per_day: float = 2880.0
    reopening: bool = True
    start_ms: int | None = None
    token_ttl_seconds: float = 86_400.0
    slow_seconds: float = 2.0
    credentials: DemoCredentials = DemoCredentials()

    def __post_init__(self) -> None:
        problems = [
            *at_least("jobs", self.jobs, 0),
            *at_least("speed", self.speed, 0),
            *at_least("pace", self.pace, 0),
            *at_least("jobs_per_day", self.jobs_per_day, 0),
            *at_least("token_ttl_seconds", self.token_ttl_seconds, 0),
            *at_least("slow_seconds", self.slow_seconds, 0),
            *_some_distinct("projects", self.projects),
            *_some_distinct("workspaces", self.workspaces),
        ]
        # A dataclass does not check its literals, as msgspec does those of the quirks.
        if self.order not in get_args(Order):
            problems.append(f"order: {self.order!r}: expected one of {', '.join(get_args(Order))}")
        if self.profile not in PROFILE_SETS:
            problems.append(f"profile: {self.profile!r}: expected one of {', '.join(PROFILE_SETS)}")
        if problems:
            raise ConfigError(problems)


def at_least(name: str, value: float | None, minimum: float) -> list[str]:
    if value is None or minimum <= value < float("inf"):
        return []
    return [f"{name}: {value}: expected a number of {minimum:g} or more"]


def _ahead(name: str, value: float) -> list[str]:
    if -_MAX_AHEAD_SECONDS <= value <= _MAX_AHEAD_SECONDS:
        return []
    return [f"{name}: {value}: expected a number from {-_MAX_AHEAD_SECONDS:g} to {_MAX_AHEAD_SECONDS:g}"]


def _lag(name: str, value: float) -> list[str]:
    if 0 <= value <= MAX_LAG_SECONDS / 2:
        return []
    return [f"{name}: {value}: expected a number of 0 to {MAX_LAG_SECONDS / 2:g}"]


def _some_distinct(name: str, values: tuple[str, ...]) -> list[str]:
    if values and all(values) and len(set(values)) == len(values):
        return []
    return [f"{name}: {list(values)}: expected at least one name, each once"]
