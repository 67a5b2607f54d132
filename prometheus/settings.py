"""What can be tuned in the rules, read from settings.yaml and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from exporter.config.durations import parse_duration

FOLDER = Path(__file__).parent


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("expected a duration, such as 30s or 1h30m")
    return parse_duration(value)


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
LabelName = Annotated[str, Field(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")]
Word = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Intervals(_Section):
    """Units: seconds, as all durations here."""

    poll: Duration
    audit: Duration
    scrape: Duration
    evaluation: Duration

    @property
    def least_window(self) -> float:
        """Give the shortest window that surely holds two polls, with a scrape before and after them."""
        return 2 * (self.poll + self.scrape)


class Links(_Section):
    runbooks: str
    grafana: str


class Level(_Section):
    """How sure an alert of one severity must be."""

    k: Annotated[float, Field(gt=0)]
    ratio: Share


class Spike(_Section):
    short: Duration
    long: Duration
    least: Annotated[float, Field(ge=1)]
    ratio_runs: Annotated[int, Field(ge=1)]
    page: Level
    warn: Level
    for_: Duration = Field(alias="for")
    keep_firing_for: Duration


class Baseline(_Section):
    days: Annotated[int, Field(ge=1, le=28)]
    day: Duration
    least: Duration
    prior_runs: Annotated[int, Field(ge=1)]


class ErrorCode(_Section):
    failures: Annotated[int, Field(ge=1)]
    share: Share
    k: Annotated[float, Field(gt=0)]
    for_: Duration = Field(alias="for")


class Stuck(_Section):
    """Shape: `default` by status; `job_types` by type, then status."""

    for_: Duration = Field(alias="for")
    default: dict[Word, Duration]
    job_types: dict[Word, dict[Word, Duration]]


class Backlog(_Section):
    window: Duration
    step: Duration
    jobs: Annotated[int, Field(ge=1)]
    growth: Annotated[float, Field(gt=1)]
    for_: Duration = Field(alias="for")


class Stalled(_Section):
    jobs: Annotated[int, Field(ge=1)]
    window: Duration
    for_: Duration = Field(alias="for")


class ShareOver(_Section):
    """A part of the whole, over a window."""

    window: Duration
    share: Share
    for_: Duration = Field(alias="for")


class ClockSkew(_Section):
    limit: Duration
    for_: Duration = Field(alias="for")


class Ever(_Section):
    """Anything at all, over a window."""

    window: Duration
    for_: Duration = Field(alias="for")


class Exporter(_Section):
    down: Duration
    target_down: Duration
    stale: Duration
    ledger: Ever
    refused: Duration
    credentials: Duration
    throttled: ShareOver
    polls_late: ShareOver
    clock_skew: ClockSkew
    log_lines_dropped: Ever
    events_lost: Ever
    events_delayed: Duration
    rows_unreadable: Duration
    filter_given_up: Duration


class Settings(_Section):
    """The whole of settings.yaml."""

    intervals: Intervals
    job: Annotated[str, Field(pattern='^[^"\\\\]+$')]
    keep_labels: tuple[LabelName, ...]
    links: Links
    spike: Spike
    baseline: Baseline
    error_code: ErrorCode
    stuck: Stuck
    backlog: Backlog
    stalled: Stalled
    exporter: Exporter


def read_settings(file: Path = FOLDER / "settings.yaml") -> Settings:
    """Raises: OSError; yaml.YAMLError; pydantic.ValidationError, with the path of every problem."""
    return Settings.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
