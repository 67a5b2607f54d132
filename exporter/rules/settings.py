"""What can be tuned in the rules: the models of prometheus/settings.yaml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from exporter.config.problems import expected
from exporter.config.scalars import Duration as DurationOf
from exporter.config.scalars import Positive, Text, Whole


def _must(holds: Callable[[float], bool], what: str) -> AfterValidator:
    def check(value: float) -> float:
        if not holds(value):
            raise expected(what)
        return value

    return AfterValidator(check)


Duration = Annotated[float, DurationOf("1ms")]
Share = Annotated[float, Positive(), _must(lambda value: value < 1, "a number between 0 and 1")]
Count = Annotated[int, Whole(1)]
LabelName = Annotated[str, Text("the name of a label", "[a-zA-Z_][a-zA-Z0-9_]*")]
Word = Annotated[str, Text("a job type or status, such as FRAME_EXTRACT", "[A-Z][A-Z0-9_]*")]
Root = Annotated[str, Text('an address such as https://grafana.example, or ""', r"(https?://[^\s'\"<>]+)?")]
Offset = Annotated[str, Text("an offset such as +08:00, in quotes", r"[+-](0\d|1[0-4]):[0-5]\d")]


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
    """Roots of what alerts link to; "" where the external label of Prometheus says it, or nothing does."""

    repository: Root
    grafana: Root
    status_page: Root


class Level(_Section):
    """How sure an alert of one severity must be."""

    k: Annotated[float, Positive()]
    ratio: Share


class Spike(_Section):
    short: Duration
    long: Duration
    least: Annotated[float, Positive(), _must(lambda value: value >= 1, "a number of 1 or more")]
    ratio_runs: Count
    page: Level
    warn: Level
    for_: Duration = Field(alias="for")
    keep_firing_for: Duration


class Baseline(_Section):
    days: Annotated[int, Whole(1, 28)]
    day: Duration
    least: Duration
    prior_runs: Count


class ErrorCode(_Section):
    failures: Count
    share: Share
    k: Annotated[float, Positive()]
    for_: Duration = Field(alias="for")


class Stuck(_Section):
    """Shape: `default` by status; `job_types` by type, then status."""

    for_: Duration = Field(alias="for")
    default: dict[Word, Duration]
    job_types: dict[Word, dict[Word, Duration]]


class Backlog(_Section):
    window: Duration
    step: Duration
    jobs: Count
    growth: Annotated[float, Positive(), _must(lambda value: value > 1, "a number above 1")]
    for_: Duration = Field(alias="for")


class Stalled(_Section):
    jobs: Count
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
    job: Annotated[str, Text("a job_name without quotes and backslashes", r'[^"\\]+')]
    keep_labels: tuple[LabelName, ...]
    utc_offset: Offset
    links: Links
    spike: Spike
    baseline: Baseline
    error_code: ErrorCode
    stuck: Stuck
    backlog: Backlog
    stalled: Stalled
    exporter: Exporter
