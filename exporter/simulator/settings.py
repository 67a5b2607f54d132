"""
What a simulator can be told: the settings it starts with, and the quirks of the server it plays.

Everything is checked where it is built: a simulator that starts has usable settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from exporter.errors import ConfigError

DEMO_PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
DEFAULT_WORKSPACE = "0"

Order = Literal["created-desc", "created-asc", "update-desc"]
Shift = Literal["none", "insert", "delete", "both"]
FilterName = Literal["workspace_id", "job_types", "statuses", "start_time", "end_time", "id", "data_id"]


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How the server departs from the straightforward reading of its documentation.

    Shape: `clamp_limit` None for no clamp; `repeat_rows` rows of the page before stand in front of every page
    but the first; a `shift` happens after one in `shift_every` pages that are not the last one.
    """

    clamp_limit: int | None = None
    omit_total: bool = False
    ignore_filters: tuple[FilterName, ...] = ()
    first_value_only: bool = False
    comma_arrays: bool = False
    latency_seconds: float = 0.0
    repeat_rows: int = 0
    shift: Shift = "none"
    shift_every: int = 1
    null_absent: bool = False
    growing_durations: bool = False
    omit_workspace_id: bool = False
    extra_fields: bool = False

    def __post_init__(self) -> None:
        problems = [
            *_at_least("quirks.clamp_limit", self.clamp_limit, 1),
            *_at_least("quirks.latency_seconds", self.latency_seconds, 0),
            *_at_least("quirks.repeat_rows", self.repeat_rows, 0),
            *_at_least("quirks.shift_every", self.shift_every, 1),
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    The one account the simulator knows: a password user and a key pair.

    With `security_token` set, the key pair is a temporary one and needs that token beside it.
    """

    domain: str = "octopus-demo"
    user: str = "exporter"
    password: str = field(default="demo-password", repr=False)
    access_key: str = "DEMOACCESSKEY0000001"
    secret_key: str = field(default="demo-secret-key", repr=False)
    security_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """
    All a simulator starts with.

    Shape: `jobs` are listed at start, over all projects and workspaces; `jobs_per_day` arrive from then on
    (more when the history is denser than that); `start_ms` None starts at the present.
    Units: `speed` is simulated seconds per second; `token_ttl_seconds` and `slow_seconds` are real ones.
    Raises: ConfigError, with all problems.
    """

    jobs: int = 2000
    speed: float = 1.0
    seed: int = 1
    faults: str = ""
    projects: tuple[str, ...] = (DEMO_PROJECT,)
    workspaces: tuple[str, ...] = (DEFAULT_WORKSPACE,)
    order: Order = "created-desc"
    quirks: Quirks = field(default_factory=Quirks)
    path: str = "system-jobs"
    jobs_per_day: float = 2880.0
    start_ms: int | None = None
    token_ttl_seconds: float = 86_400.0
    slow_seconds: float = 2.0
    credentials: Credentials = Credentials()

    def __post_init__(self) -> None:
        problems = [
            *_at_least("jobs", self.jobs, 0),
            *_at_least("speed", self.speed, 0),
            *_at_least("jobs_per_day", self.jobs_per_day, 0),
            *_at_least("token_ttl_seconds", self.token_ttl_seconds, 0),
            *_at_least("slow_seconds", self.slow_seconds, 0),
            *_some_distinct("projects", self.projects),
            *_some_distinct("workspaces", self.workspaces),
        ]
        if self.order not in get_args(Order):
            problems.append(f"order: {self.order!r}: expected one of {', '.join(get_args(Order))}")
        if problems:
            raise ConfigError(problems)


def _at_least(name: str, value: float | None, minimum: float) -> list[str]:
    if value is None or minimum <= value < float("inf"):
        return []
    return [f"{name}: {value}: expected a number of {minimum:g} or more"]


def _some_distinct(name: str, values: tuple[str, ...]) -> list[str]:
    if values and all(values) and len(set(values)) == len(values):
        return []
    return [f"{name}: {list(values)}: expected at least one name, each once"]
