"""The settings of the rules: the models of prometheus/settings.yaml. All durations are in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import ge, gt, lt
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
from exporter.config.fields import ChoiceScalar, Duration, Flag, Positive, TextScalar, Whole
from exporter.config.problems import expected
from exporter.model import IN_FLIGHT_STATUSES

# increase() extrapolates to the whole window: over few scrapes, it makes five failures of four.
_SPIKE_SCRAPES = 10
# The labels of the metrics that the rules read, those of Prometheus, and those that the rules add.
RESERVED_LABELS = frozenset(
    {
        *("project", "workspace", "job_type", "status", "msg_code", "resource_spec"),
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


def _beside(
    other: str, holds: Callable[[float, float], bool], what: Callable[[float], str]
) -> AfterValidator:
    """Compare a value with the field `other`; `what` says, from the other value, what is expected."""

    def check(value: float, info: ValidationInfo) -> float:
        # pydantic validates fields in their order, and leaves out those with an error: declare `other` first.
        limit = info.data.get(other)
        if limit is not None and not holds(value, limit):
            raise expected(what(limit))
        return value

    return AfterValidator(check)


def _refuse(errors: list[InitErrorDetails]) -> None:
    """Raises: ValidationError, with all of the errors; pydantic adds them to those of the other fields."""
    if errors:
        raise ValidationError.from_exception_data("Settings", errors)


def _labels_to_keep(labels: tuple[str, ...]) -> tuple[str, ...]:
    errors: list[InitErrorDetails] = []
    for index, label in enumerate(labels):
        try:
            name = _LABEL.read(label)
            if name in RESERVED_LABELS or name.startswith("__"):
                raise expected(
                    "a label that the scrape adds, and none of the metrics, the rules or Prometheus"
                )
            if name in labels[:index]:
                raise expected("each label once")
        except PydanticCustomError as error:
            errors.append(InitErrorDetails(type=error, loc=(index,), input=label))
    _refuse(errors)
    return labels


def _each_once(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) < len(labels):
        raise expected("each label once")
    return labels


# Prometheus accepts about 292 years, and the rules multiply durations.
Seconds = Annotated[float, Duration("1ms", "1y")]
# Alertmanager refuses an interval of 0, and one route uses half of the heartbeat interval.
NotificationInterval = Annotated[float, Duration("1s", "1y")]
# Alertmanager repeats notifications only at the end of a group interval.
RepeatInterval = Annotated[
    NotificationInterval,
    _beside(
        "group_interval", ge, lambda group: f"alertmanager.group_interval, {format_duration(group)}, or more"
    ),
]
# Prometheus uses no sample that is older than 5 minutes.
SampleInterval = Annotated[float, Duration("1ms", "5m")]
Number = Annotated[float, Positive()]
Share = Annotated[float, Positive(), _must(lambda value: value < 1, "a number between 0 and 1")]
Count = Annotated[int, Whole(1)]
AtLeastOne = Annotated[float, Positive(), _must(lambda value: value >= 1, "a number of 1 or more")]
# Without pydantic's own check: `_labels_to_keep` reports each bad label at its place in the list.
LabelsToKeep = Annotated[tuple[Annotated[str, SkipValidation()], ...], AfterValidator(_labels_to_keep)]
JobType = Annotated[str, TextScalar("a job type such as FRAME_EXTRACT", "[A-Z][A-Z0-9_]*")]
InFlight = Annotated[str, ChoiceScalar(IN_FLIGHT_STATUSES)]
JobLabel = Annotated[str, ChoiceScalar(("project", "job_type", "status"))]
Root = Annotated[
    str, TextScalar('an address such as https://grafana.example, or ""', r"(https?://[^\s'\"<>]+)?")
]
Offset = Annotated[str, TextScalar("an offset such as +08:00, in quotes", r"[+-](0\d|1[0-4]):[0-5]\d")]


class RulesSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IntervalSettings(RulesSection):
    """How often the exporter polls, and how often Prometheus scrapes and evaluates."""

    poll: Seconds
    audit: Seconds
    scrape: SampleInterval
    evaluation: SampleInterval

    @property
    def least_window(self) -> float:
        """Give the shortest window that always contains two polls, with a scrape before and after them."""
        return 2 * (self.poll + self.scrape)

    @property
    def least_spike_window(self) -> float:
        """Give the shortest window over which increase() is exact enough."""
        return _SPIKE_SCRAPES * self.scrape


class LinkSettings(RulesSection):
    """Addresses that alerts link to; for "", Prometheus' external label is used, if it is set."""

    site: Root
    repository: Root
    grafana: Root
    status_page: Root


class SeveritySettings(RulesSection):
    """What the alerts of one severity require: a score, or a share of failed runs."""

    score: Number
    ratio: Share


class SpreadSettings(RulesSection):
    """Failures in several job types at once."""

    score: Number
    job_types: Annotated[int, Whole(2)]


class SeldomSettings(RulesSection):
    """Failures of job types with few runs."""

    runs: Count
    failed_hours: Annotated[int, Whole(1, 24)]
    k: Number


class SpikeSettings(RulesSection):
    short: Seconds
    long: Annotated[
        Seconds, _beside("short", gt, lambda short: f"more than spike.short, {format_duration(short)}")
    ]
    least: AtLeastOne
    page: SeveritySettings
    warn: SeveritySettings
    ratio_score: Number
    busy: Number
    spread: SpreadSettings
    seldom: SeldomSettings
    pause: Seconds
    keep_firing_for: Seconds

    @field_validator("warn")
    @classmethod
    def _warns_first(cls, warn: SeveritySettings, info: ValidationInfo) -> SeveritySettings:
        # A warning at a higher score than the page would never come before it.
        page: SeveritySettings | None = info.data.get("page")
        if page is not None:
            _refuse(
                [
                    InitErrorDetails(
                        type=expected(f"spike.page.{key}, {limit:g}, or less"), loc=(key,), input=f"{value:g}"
                    )
                    for (key, value), (_, limit) in zip(warn, page, strict=True)
                    if value > limit
                ]
            )
        return warn


class InventedRuns(RulesSection):
    """Runs that are added to a short history, and how many of them failed."""

    runs: Number
    failed: Annotated[Number, _beside("runs", lt, lambda runs: f"less than runs, {runs:g}")]


class BaselineSettings(RulesSection):
    days: Annotated[int, Whole(1, 28)]
    day: Seconds
    least: Seconds
    known: InventedRuns
    unknown: InventedRuns

    @field_validator("least")
    @classmethod
    def _is_in_the_past(cls, least: float, info: ValidationInfo) -> float:
        if info.data.keys() >= {"days", "day"}:
            past = info.data["days"] * info.data["day"]
            if least > past:
                raise expected(f"at most baseline.days times baseline.day, {format_duration(past)}")
        return least


class ErrorCodeSettings(RulesSection):
    failures: Count
    share: Share
    k: Number
    for_: Seconds = Field(alias="for")


class StuckSettings(RulesSection):
    """Shape: `default` by status; `job_types` by type, then status."""

    for_: Seconds = Field(alias="for")
    # The metrics count jobs by age up to 14 days. A limit and this are added, and must not be longer.
    known: Annotated[
        float,
        Duration("1ms", "7d"),
        _beside("for_", gt, lambda waits: f"more than stuck.for, {format_duration(waits)}"),
    ]
    runs: Count
    share: Share
    factor: AtLeastOne
    least: Seconds
    default: dict[InFlight, Seconds]
    job_types: dict[JobType, dict[InFlight, Seconds]]


class BacklogSettings(RulesSection):
    window: Seconds
    step: Seconds
    jobs: Count
    growth: Annotated[float, Positive(), _must(lambda value: value > 1, "a number above 1")]
    for_: Seconds = Field(alias="for")


class ClearSettings(RulesSection):
    """The time until a backlog is cleared."""

    step: Seconds
    window: Annotated[
        Seconds, _beside("step", gt, lambda step: f"more than clear.step, {format_duration(step)}")
    ]
    jobs: Count
    runs: Number
    horizon: Seconds
    limit: Annotated[
        Seconds,
        _beside("horizon", lt, lambda horizon: f"less than clear.horizon, {format_duration(horizon)}"),
    ]
    wait: Seconds
    for_: Seconds = Field(alias="for")
    keep_firing_for: Seconds


class ResourceSettings(RulesSection):
    """Jobs that ask for a resource and wait for longer than usual."""

    window: Seconds
    runs: Count
    jobs: Count
    known: Count
    share: Share
    factor: AtLeastOne
    least: Seconds
    for_: Seconds = Field(alias="for")
    keep_firing_for: Seconds


class StalledSettings(RulesSection):
    jobs: Count
    least: Seconds
    expected: Annotated[float, Positive(), _must(lambda value: value <= 100, "a number of 100 or less")]
    factor: AtLeastOne
    for_: Seconds = Field(alias="for")

    @property
    def chance(self) -> float:
        """Give in how many silences of this length one is chance: e^expected."""
        return math.exp(self.expected)


class ShareInWindow(RulesSection):
    """More than a share of something in a window."""

    window: Seconds
    share: Share
    for_: Seconds = Field(alias="for")


class ClockSkewSettings(RulesSection):
    limit: Seconds
    for_: Seconds = Field(alias="for")


class AnyInWindow(RulesSection):
    """At least one of something in a window."""

    window: Seconds
    for_: Seconds = Field(alias="for")


class ExporterSettings(RulesSection):
    down: Seconds
    target_down: Seconds
    stale: Seconds
    target_unheld: Seconds
    ledger: AnyInWindow
    refused: Seconds
    credentials: Seconds
    throttled: ShareInWindow
    polls_late: ShareInWindow
    clock_skew: ClockSkewSettings
    log_lines_dropped: AnyInWindow
    events_lost: AnyInWindow
    events_delayed: Seconds
    rows_unreadable: Seconds
    filter_given_up: Seconds


class AlertmanagerSettings(RulesSection):
    """How the example for alertmanager.yml groups, delays and repeats notifications."""

    group_by: Annotated[tuple[JobLabel, ...], AfterValidator(_each_once)]
    group_wait: Annotated[float, Duration("0s", "1y")]
    group_interval: NotificationInterval
    repeat_interval: RepeatInterval
    page_repeat_interval: RepeatInterval
    heartbeat_interval: NotificationInterval


class Settings(RulesSection):
    intervals: IntervalSettings
    job: Annotated[str, TextScalar("a job_name without quotes and backslashes", r'[^"\\]+')]
    keep_labels: LabelsToKeep
    watchdog: Annotated[bool, Flag()]
    utc_offset: Offset
    links: LinkSettings
    spike: SpikeSettings
    baseline: BaselineSettings
    error_code: ErrorCodeSettings
    stuck: StuckSettings
    backlog: BacklogSettings
    clear: ClearSettings
    resource: ResourceSettings
    stalled: StalledSettings
    exporter: ExporterSettings
    alertmanager: AlertmanagerSettings

    @field_validator("baseline")
    @classmethod
    def _has_days_longer_than_windows(
        cls, baseline: BaselineSettings, info: ValidationInfo
    ) -> BaselineSettings:
        intervals: IntervalSettings | None = info.data.get("intervals")
        spike: SpikeSettings | None = info.data.get("spike")
        if intervals is None or spike is None:
            return baseline
        long = max(spike.long, intervals.least_window, intervals.least_spike_window)
        if baseline.day < long:
            kind = expected(f"at least the long window of spikes, {format_duration(long)}")
            day = format_duration(baseline.day)
            _refuse([InitErrorDetails(type=kind, loc=("day",), input=day)])
        return baseline
