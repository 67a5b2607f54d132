"""What a scrape shows, as numbers by labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from exporter.model import FAILED_STATUSES, JOB_TYPES, STATUSES, TERMINAL_STATUSES

Figures = dict[tuple[str, ...], int]
Target = tuple[str, ...]

TARGET = ("project", "workspace")
# The figures of what is listed now; all others only rise.
LISTED = ("listed", "spec_in_flight")
POLL_FAMILIES = ("octopus_poll", "octopus_up")


@dataclass(frozen=True, slots=True)
class Exposed:
    """One exposition. Labels are asked for as keywords; where no sample fits, the answer is None."""

    samples: tuple[Sample, ...]

    @classmethod
    def of_text(cls, text: str, names: tuple[str, ...] = ("",)) -> Exposed:
        """Parse the text format; `names` keeps it to samples whose names begin so, which is faster."""
        if names != ("",):
            text = "".join(line for line in text.splitlines(keepends=True) if line.startswith(names))
        return cls(tuple(sample for family in parse_text(text) for sample in family.samples))

    @classmethod
    def of_openmetrics(cls, text: str) -> Exposed:
        families = parse_openmetrics(text)  # type: ignore[no-untyped-call]  # no annotations there
        return cls(tuple(sample for family in families for sample in family.samples))

    def by_project(self) -> dict[str, Exposed]:
        """Give each project's samples by themselves: many targets are looked at one by one much faster."""
        parts: dict[str, list[Sample]] = {}
        for sample in self.samples:
            parts.setdefault(sample.labels.get("project", ""), []).append(sample)
        return {name: Exposed(tuple(samples)) for name, samples in parts.items()}

    def having(self, name: str, **labels: str) -> Iterator[Sample]:
        """Yield the samples of this name that carry these labels."""
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample

    def value(self, name: str, **labels: str) -> float | None:
        """Give the one such sample's value."""
        values = [sample.value for sample in self.having(name, **labels)]
        assert len(values) < 2, f"{name} {labels} is not one sample but {len(values)}"
        return values[0] if values else None

    def total(self, name: str, **labels: str) -> float:
        """Add such samples up."""
        return sum(sample.value for sample in self.having(name, **labels))

    def by(self, name: str, *names: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Give such samples' values by these labels."""
        return {
            tuple(sample.labels[label] for label in names): sample.value
            for sample in self.having(name, **labels)
        }

    def successes(self) -> dict[Target, int]:
        """Give the number of polls that succeeded, by project and workspace."""
        polls = self.by("octopus_polls_total", *TARGET)
        return {
            target: int(
                count - self.total("octopus_poll_failures_total", **dict(zip(TARGET, target, strict=True)))
            )
            for target, count in polls.items()
        }

    def polled_since(self, moment: float) -> list[Target]:
        """Name the targets whose last poll succeeded and began later than that (Unix seconds)."""
        ends = self.by("octopus_poll_last_success_timestamp_seconds", *TARGET)
        took, up = self.by("octopus_poll_duration_seconds", *TARGET), self.by("octopus_up", *TARGET)
        # The duration runs until the outcome is published, a little after the time of success.
        return [target for target, end in ends.items() if up.get(target) == 1 and end - took[target] > moment]


def told(exposed: Exposed, **target: str) -> dict[str, Figures]:
    """Give what the exporter says of a target, with the names and units of the simulator's account."""

    def whole(name: str, *labels: str, scale: int = 1) -> Figures:
        return without_zeros(
            {key: exact(value * scale) for key, value in exposed.by(name, *labels, **target).items()}
        )

    submitting, running = "octopus_job_submitting_duration_seconds", "octopus_job_running_duration_seconds"
    of_spec = "octopus_resource_submitting_duration_seconds"
    ends = ("job_type", "status")
    return {
        "created": whole("octopus_jobs_created_total", "job_type"),
        "started": whole(f"{submitting}_count", "job_type"),
        "submitting_ms": whole(f"{submitting}_sum", "job_type", scale=1000),
        "ended": whole("octopus_jobs_completed_total", *ends),
        "failures": whole("octopus_job_failures_total", *ends, "msg_code"),
        "ran": whole(f"{running}_count", *ends),
        "running_ms": whole(f"{running}_sum", *ends, scale=1000),
        "core_us": whole("octopus_job_core_seconds_total", *ends, scale=1_000_000),
        "gpu_us": whole("octopus_job_gpu_seconds_total", *ends, scale=1_000_000),
        "memory_gib_us": whole("octopus_job_memory_gibibyte_seconds_total", *ends, scale=1_000_000),
        "spec_started": whole(f"{of_spec}_count", "resource_spec"),
        "spec_submitting_ms": whole(f"{of_spec}_sum", "resource_spec", scale=1000),
        "reruns": whole("octopus_job_reruns_total", "job_type"),
        "spec_in_flight": whole("octopus_resource_jobs", "resource_spec", "status"),
        "listed": whole("octopus_jobs", *ends),
    }


def counted(exposed: Exposed, **target: str) -> dict[str, Figures]:
    """Give what `told` gives, without what is listed now: the numbers that only rise."""
    return {name: figures for name, figures in told(exposed, **target).items() if name not in LISTED}


def without_zeros(figures: Mapping[tuple[str, ...], int]) -> Figures:
    return {key: value for key, value in figures.items() if value}


def exact(value: float) -> int:
    """Give the whole number that a float stands for, a rounding of its last digits aside."""
    # A float has 53 bits; above 2^50, no fraction could be told from rounding.
    assert abs(value - round(value)) < max(1e-3, abs(value) / 2**51) < 0.5, f"{value!r} is no whole number"
    return round(value)


def zero_filled_keys() -> dict[str, set[tuple[str, ...]]]:
    """Give the series every target has from its first publication on, by the labels that tell them apart."""
    types: set[tuple[str, ...]] = {(kind,) for kind in JOB_TYPES}
    ends: set[tuple[str, ...]] = {(kind, status) for kind in JOB_TYPES for status in TERMINAL_STATUSES}
    return {
        "octopus_jobs": {(kind, status) for kind in JOB_TYPES for status in STATUSES},
        "octopus_jobs_created_total": types,
        "octopus_jobs_completed_total": ends,
        "octopus_job_failures_total": {
            (kind, status, "") for kind in JOB_TYPES for status in FAILED_STATUSES
        },
        "octopus_job_submitting_duration_seconds_count": types,
        "octopus_job_running_duration_seconds_count": ends,
        "octopus_job_core_seconds_total": ends,
        "octopus_job_gpu_seconds_total": ends,
        "octopus_job_memory_gibibyte_seconds_total": ends,
        "octopus_job_reruns_total": types,
    }
