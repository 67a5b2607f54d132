"""What can be tuned in the rules: the models of prometheus/settings.yaml."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from exporter.config.durations import format_duration
from exporter.config.problems import expected
from exporter.config.scalars import ChoiceScalar, Flag, Positive, TextScalar, Whole
from exporter.config.scalars import Duration as DurationOf
from exporter.model import IN_FLIGHT_STATUSES

# increase() stretches what it counts to the whole window: of few scrapes, it makes five failures of four.
_SPIKE_SCRAPES = 10
# Those of the metrics that the rules read, those of Prometheus, and those that the rules make.
RESERVED_LABELS = frozenset(
    {
        *("project", "workspace", "job_type", "status", "msg_code"),
        *("code", "credentials", "filter", "reason"),
        *("job", "instance", "le", "quantile", "alertname", "alertstate"),
        *("severity", "leg", "day", "hour", "step", "after_pause"),
        *("age", "at_least", "past", "length", "of"),
    }
)
_LABEL = TextScalar("the name of a label", "[a-zA-Z_][a-zA-Z0-9_]*")


def _must(holds: Callable[[float], bool], what: str) -> AfterValidator:
    def check(value: float) -> float:
        if not holds(value):
            raise expected(what)
        return value

    return AfterValidator(check)


def _refuse(errors: list[InitErrorDetails]) -> None:
    """Raises: ValidationError, with all of them."""
    if errors:
        raise ValidationError.from_exception_data("Settings", errors)


def _labels_to_keep(labels: tuple[str, ...]) -> tuple[str, ...]:
    errors: list[InitErrorDetails] = []
    kept: list[str] = []
    for index, label in enumerate(labels):
        try:
            kept.append(_label_to_keep(label, kept))
        except PydanticCustomError as error:
            errors.append(InitErrorDetails(type=error, loc=(index,), input=label))
    _refuse(errors)
    return tuple(kept)


def _each_once(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) < len(labels):
        raise expected("each label once")
    return labels


def _label_to_keep(label: object, kept: list[str]) -> str:
    name = _LABEL.read(label)
    if name in RESERVED_LABELS or name.startswith("__"):
        raise expected("a label that the scrape adds, and none of the metrics, the rules or Prometheus")
    if name in kept:
        raise expected("each label once")
    return name


# Prometheus takes some 292 years, and the rules multiply durations.
Duration = Annotated[float, DurationOf("1ms", "1y")]
# Alertmanager refuses an interval of 0, and one route takes half of the heartbeat interval.
Wait = Annotated[float, DurationOf("1s", "1y")]
# A sample that is older is none for Prometheus.
Interval = Annotated[float, DurationOf("1ms", "5m")]
Share = Annotated[float, Positive(), _must(lambda value: value < 1, "a number between 0 and 1")]
Count = Annotated[int, Whole(1)]
AtLeastOne = Annotated[float, Positive(), _must(lambda value: value >= 1, "a number of 1 or more")]
LabelsToKeep = Annotated[tuple[Annotated[str, SkipValidation()], ...], AfterValidator(_labels_to_keep)]
JobType = Annotated[str, TextScalar("a job type such as FRAME_EXTRACT", "[A-Z][A-Z0-9_]*")]
InFlight = Annotated[str, ChoiceScalar(IN_FLIGHT_STATUSES)]
JobLabel = Annotated[str, ChoiceScalar(("project", "job_type", "status"))]
Root = Annotated[
    str, TextScalar('an address such as https://grafana.example, or ""', r"(https?://[^\s'\"<>]+)?")
]
Offset = Annotated[str, TextScalar("an offset such as +08:00, in quotes", r"[+-](0\d|1[0-4]):[0-5]\d")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Intervals(_Section):
    """Units: seconds, as all durations here."""

    poll: Duration
    audit: Duration
    scrape: Interval
    evaluation: Interval

    @property
    def least_window(self) -> float:
        """Give the shortest window that surely holds two polls, with a scrape before and after them."""
        return 2 * (self.poll + self.scrape)

    @property
    def least_spike_window(self) -> float:
        """Give the shortest window over which increase() counts well enough."""
        return _SPIKE_SCRAPES * self.scrape


class Links(_Section):
    """Roots of what alerts link to; "" where the external label of Prometheus says it, or nothing does."""

    repository: Root
    grafana: Root
    status_page: Root


class Level(_Section):
    """How sure an alert of one severity must be."""

    score: Annotated[float, Positive()]
    ratio: Share


class Spread(_Section):
    """Failures in several job types at once."""

    score: Annotated[float, Positive()]
    job_types: Annotated[int, Whole(2)]


class Seldom(_Section):
    """Job types that run seldom."""

    runs: Count
    failed_hours: Annotated[int, Whole(1, 24)]
    k: Annotated[float, Positive()]


class Spike(_Section):
    short: Duration
    long: Duration
    least: Annotated[float, Positive(), _must(lambda value: value >= 1, "a number of 1 or more")]
    page: Level
    warn: Level
    ratio_score: Annotated[float, Positive()]
    busy: Annotated[float, Positive()]
    spread: Spread
    seldom: Seldom
    pause: Duration
    keep_firing_for: Duration

    @field_validator("long")
    @classmethod
    def _is_longer(cls, long: float, info: ValidationInfo) -> float:
        short = info.data.get("short")
        if short is not None and long <= short:
            raise expected(f"more than spike.short, {format_duration(short)}")
        return long

    @field_validator("warn")
    @classmethod
    def _warns_first(cls, warn: Level, info: ValidationInfo) -> Level:
        page: Level | None = info.data.get("page")
        _refuse(
            []
            if page is None
            else [*_above("score", warn.score, page.score), *_above("ratio", warn.ratio, page.ratio)]
        )
        return warn


def _above(key: str, warn: float, page: float) -> Iterator[InitErrorDetails]:
    if warn > page:
        kind = expected(f"spike.page.{key}, {page:g}, or less")
        yield InitErrorDetails(type=kind, loc=(key,), input=f"{warn:g}")


class Invented(_Section):
    """Runs put into a past that is short, and how many of them failed."""

    runs: Annotated[float, Positive()]
    failed: Annotated[float, Positive()]

    @field_validator("failed")
    @classmethod
    def _is_a_part(cls, failed: float, info: ValidationInfo) -> float:
        runs = info.data.get("runs")
        if runs is not None and failed >= runs:
            raise expected(f"less than runs, {runs:g}")
        return failed


class Baseline(_Section):
    days: Annotated[int, Whole(1, 28)]
    day: Duration
    least: Duration
    known: Invented
    unknown: Invented

    @field_validator("least")
    @classmethod
    def _is_in_the_past(cls, least: float, info: ValidationInfo) -> float:
        if info.data.keys() >= {"days", "day"}:
            past = info.data["days"] * info.data["day"]
            if least > past:
                raise expected(f"at most baseline.days times baseline.day, {format_duration(past)}")
        return least


class ErrorCode(_Section):
    failures: Count
    share: Share
    k: Annotated[float, Positive()]
    for_: Duration = Field(alias="for")


class Stuck(_Section):
    """Shape: `default` by status; `job_types` by type, then status."""

    for_: Duration = Field(alias="for")
    # The longest age that is counted is 14 days: a limit and this must not be longer.
    known: Annotated[float, DurationOf("1ms", "7d")]
    runs: Count
    share: Share
    factor: AtLeastOne
    least: Duration
    default: dict[InFlight, Duration]
    job_types: dict[JobType, dict[InFlight, Duration]]

    @field_validator("known")
    @classmethod
    def _is_longer_than_for(cls, known: float, info: ValidationInfo) -> float:
        waits = info.data.get("for_")
        if waits is not None and known <= waits:
            raise expected(f"more than stuck.for, {format_duration(waits)}")
        return known


class Backlog(_Section):
    window: Duration
    step: Duration
    jobs: Count
    growth: Annotated[float, Positive(), _must(lambda value: value > 1, "a number above 1")]
    for_: Duration = Field(alias="for")


class Stalled(_Section):
    jobs: Count
    least: Duration
    expected: Annotated[float, Positive(), _must(lambda value: value <= 100, "a number of 100 or less")]
    factor: AtLeastOne
    for_: Duration = Field(alias="for")

    @property
    def chance(self) -> float:
        """Give how many such silences there are for each one that is chance: e^expected."""
        return math.exp(self.expected)


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


class Alertmanager(_Section):
    """How the example for Alertmanager groups, delays and repeats notifications."""

    group_by: Annotated[tuple[JobLabel, ...], AfterValidator(_each_once)]
    group_wait: Annotated[float, DurationOf("0s", "1y")]
    group_interval: Wait
    repeat_interval: Wait
    page_repeat_interval: Wait
    heartbeat_interval: Wait

    @field_validator("repeat_interval", "page_repeat_interval")
    @classmethod
    def _is_not_shorter(cls, repeats: float, info: ValidationInfo) -> float:
        # Alertmanager repeats at its group interval only.
        interval = info.data.get("group_interval")
        if interval is not None and repeats < interval:
            raise expected(f"alertmanager.group_interval, {format_duration(interval)}, or more")
        return repeats


class Settings(_Section):
    """The whole of settings.yaml."""

    intervals: Intervals
    job: Annotated[str, TextScalar("a job_name without quotes and backslashes", r'[^"\\]+')]
    keep_labels: LabelsToKeep
    watchdog: Annotated[bool, Flag()]
    utc_offset: Offset
    links: Links
    spike: Spike
    baseline: Baseline
    error_code: ErrorCode
    stuck: Stuck
    backlog: Backlog
    stalled: Stalled
    exporter: Exporter
    alertmanager: Alertmanager

    @field_validator("baseline")
    @classmethod
    def _has_days_longer_than_windows(cls, baseline: Baseline, info: ValidationInfo) -> Baseline:
        intervals: Intervals | None = info.data.get("intervals")
        spike: Spike | None = info.data.get("spike")
        if intervals is None or spike is None:
            return baseline
        long = max(spike.long, intervals.least_window, intervals.least_spike_window)
        if baseline.day < long:
            kind = expected(f"at least the long window of spikes, {format_duration(long)}")
            day = format_duration(baseline.day)
            _refuse([InitErrorDetails(type=kind, loc=("day",), input=day)])
        return baseline
