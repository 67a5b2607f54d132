"""Wait until every target has been polled after the last change, also a target that cannot be up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.exporting import Exporter
from tests.e2e.exposed import TARGET, Exposed, Target

# Many targets, and a busy machine.
PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.2
POLL_SAMPLES = (
    "octopus_up",
    "octopus_polls_total",
    "octopus_poll_failures_total",
    "octopus_poll_duration_seconds",
    "octopus_poll_last_success_timestamp_seconds",
)


@dataclass(slots=True)
class Attempts:
    """
    Polls of every target from one moment on (Unix seconds).

    A target has rested after so many polls that succeeded, or so many that failed in a row: `patience` has
    the latter by project, where it is not the usual one.
    """

    since: float
    successes: int = 2
    failures: int = 4
    patience: Mapping[str, int] = field(default_factory=dict)
    _failed: dict[Target, float] = field(default_factory=dict)
    _succeeded: dict[Target, int] = field(default_factory=dict)

    def all_rested(self, exposed: Exposed) -> bool:
        """Tell whether every target has rested, by the scrapes so far and this one."""
        successes, polled = exposed.successes(), exposed.polled_since(self.since)
        for target, count in successes.items():
            self._failed.setdefault(target, _failures(exposed, target))
            if target in polled:
                self._succeeded.setdefault(target, count)
        return bool(successes) and all(
            self._has_succeeded(target, count) or self._has_failed(exposed, target)
            for target, count in successes.items()
        )

    def _has_succeeded(self, target: Target, count: int) -> bool:
        first = self._succeeded.get(target)
        return first is not None and count >= first + self.successes - 1

    def _has_failed(self, exposed: Exposed, target: Target) -> bool:
        up = exposed.value("octopus_up", **dict(zip(TARGET, target, strict=True)))
        failed = _failures(exposed, target) - self._failed[target]
        return up == 0 and failed >= self.patience.get(target[0], self.failures)


def wait_for_rest(exporter: Exporter, successes: int = 2, patience: Mapping[str, int] | None = None) -> None:
    """
    Wait until every target has rested, from now on.

    If a target does not rest, the others are still compared, and so is this one.
    """
    attempts = Attempts(time.time(), successes, patience=patience or {})
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not attempts.all_rested(exporter.scrape_names(*POLL_SAMPLES)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def scrape_at_rest(
    exporter: Exporter, successes: int = 2, patience: Mapping[str, int] | None = None
) -> Exposed:
    """Scrape once every target has rested, from now on, and no new series is held at 0 any more."""
    wait_for_rest(exporter, successes, patience)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (released := exporter.scrape_if_released()) is None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return exporter.scrape() if released is None else Exposed.of_text(released)


def _failures(exposed: Exposed, target: Target) -> float:
    return exposed.total("octopus_poll_failures_total", **dict(zip(TARGET, target, strict=True)))
