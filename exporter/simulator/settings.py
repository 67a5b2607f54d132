"""
The settings a simulator starts with.

Everything is checked where it is built: a simulator that starts has usable settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from exporter.errors import ConfigError
from exporter.simulator.profiles import CALM, PROFILE_SETS
from exporter.simulator.quirks import Quirks, at_least

DEMO_PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
DEFAULT_WORKSPACE = "0"

Order = Literal["created-desc", "created-asc", "update-desc"]


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
    (more when the history is denser than that); `profile` names one of PROFILE_SETS; without `reopening`, no
    job runs again; `start_ms` None starts at the present. With a `pace` jobs arrive and live so many times as
    fast, on a clock that runs as it would without.
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
    credentials: Credentials = Credentials()

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
        if self.order not in get_args(Order):
            problems.append(f"order: {self.order!r}: expected one of {', '.join(get_args(Order))}")
        if self.profile not in PROFILE_SETS:
            problems.append(f"profile: {self.profile!r}: expected one of {', '.join(PROFILE_SETS)}")
        if problems:
            raise ConfigError(problems)


def _some_distinct(name: str, values: tuple[str, ...]) -> list[str]:
    if values and all(values) and len(set(values)) == len(values):
        return []
    return [f"{name}: {list(values)}: expected at least one name, each once"]
