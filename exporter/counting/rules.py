"""The rules of counting: what the configuration says about how runs become series and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Include = Literal["ended", "failed"]
MAX_WAITING = 100_000


@dataclass(frozen=True, slots=True)
class EventRules:
    """
    Which runs become events: all that ended, or those that failed.

    Shape: at most `max_waiting` events of a target wait; then the oldest are dropped.
    """

    include: Include = "ended"
    max_waiting: int = MAX_WAITING


@dataclass(frozen=True, slots=True)
class CountingRules:
    """
    How runs become series.

    Units: bounds in seconds, ascending, without +Inf. Shape: at most so many error codes, undocumented job
    types, undocumented statuses and resource specs per target get series of their own, the rest is counted as
    "other"; `events` says which runs become events, None for none.
    """

    submitting_bounds: tuple[float, ...]
    running_bounds: tuple[float, ...]
    max_msg_codes: int = 50
    max_job_types: int = 50
    max_statuses: int = 50
    max_resource_specs: int = 20
    count_history: bool = False
    events: EventRules | None = None
