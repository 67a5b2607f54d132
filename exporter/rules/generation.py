"""The texts of the rule files and of Alertmanager's example, made from prometheus/templates and settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from exporter import __version__, shipped_path
from exporter.config.durations import format_duration
from exporter.model import AGE_BOUNDS_MS, FAILED_STATUSES
from exporter.rules.settings import LinkSettings, Settings, StuckSettings

RULES = "octopus.yml"
ALERTMANAGER = "alertmanager.yml"
_TAG = f"v{__version__}"
# Multiples of the shortest silence: with 30 minutes, up to two days.
_SILENCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96)
# How many of the last days may have been quiet at these hours: after a weekend, the third is a working day.
_DAYS_OF_SILENCE = 3
_RUNBOOKS = "docs/runbooks"
_UNITS_ZH = {"d": "天", "h": "小时", "m": "分钟", "s": "秒", "ms": "毫秒"}

# The object that the Prometheus Operator reads. Its Prometheus chooses rules by label, so users add theirs.
_OBJECT = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: octopus-exporter
  labels:
    app.kubernetes.io/name: octopus-exporter
spec:
"""


def generate(settings: Settings) -> dict[str, str]:
    """Give the rule files' texts by name."""
    least = settings.intervals.least_spike_window
    spike = settings.spike
    words = dict(settings) | {
        "spike": spike.model_copy(update={"short": max(spike.short, least), "long": max(spike.long, least)}),
        "baseline_interval": _baseline_interval(settings.intervals.evaluation),
        "durations_interval": _durations_interval(settings.intervals.evaluation),
        "durations_window": 3 * _durations_interval(settings.intervals.evaluation),
        "silences": _silences(settings),
        "silence_days": sorted(
            {*range(1, min(_DAYS_OF_SILENCE, settings.baseline.days) + 1), settings.baseline.days}
        ),
        "least_limit": _least_limit(settings.stuck),
        "stuck_steps": (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000),
        "age_bounds": [(age, bound_ms / 1000) for age, bound_ms in AGE_BOUNDS_MS.items()],
        "failed_statuses": FAILED_STATUSES,
        "roots": _roots(settings.links),
        "kept": _listed(settings.keep_labels),
        "utc_seconds": _utc_seconds(settings.utc_offset),
        "utc": "UTC" if settings.utc_offset[1:] == "00:00" else f"UTC{settings.utc_offset}",
    }
    return {RULES: _tidy(_environment(settings).get_template(RULES).render(words))}


def generate_alertmanager(settings: Settings) -> str:
    """Give the text of the example for Alertmanager: it groups and mutes by the labels to keep."""
    words = dict(settings) | {
        "failed_statuses": FAILED_STATUSES,
        "group_by": _listed(settings.alertmanager.group_by),
        "kept": _listed(settings.keep_labels),
    }
    return _tidy(_environment(settings).get_template(ALERTMANAGER).render(words))


def _environment(settings: Settings) -> Environment:
    # Delimiters that neither PromQL nor Prometheus' own templates have; YAML needs no HTML escaping.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(shipped_path("prometheus/templates")),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters |= _filters(settings)
    return environment


def _listed(labels: Iterable[str]) -> str:
    """Write labels with a comma before each, to append to a list."""
    return "".join(f", {label}" for label in labels)


def as_prometheus_rule(text: str) -> str:
    """Wrap the groups of a rule file into the PrometheusRule object of the Prometheus Operator."""
    return _OBJECT + re.sub(r"^(?=.)", "  ", text, flags=re.MULTILINE)


def _tidy(text: str) -> str:
    """Leave one blank line where loops leave more, and none at the end."""
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _baseline_interval(evaluation: float) -> float:
    """Evaluate baselines rarely, but within the five minutes that Prometheus looks back for a sample."""
    return max(evaluation, min(4 * evaluation, 120))


def _durations_interval(evaluation: float) -> float:
    """Evaluate rules over the histograms of a week still more rarely: these are a third of all series."""
    return max(evaluation, min(20 * evaluation, 600))


def _silences(settings: Settings) -> list[float]:
    """Give the lengths of silence that are told apart, in seconds: each at most twice the one before."""
    least = max(settings.stalled.least, settings.intervals.least_window)
    lengths = [least * multiple for multiple in _SILENCES]
    return [length for length in lengths if length <= 2 * settings.baseline.day] or [least]


def _least_limit(stuck: StuckSettings) -> float:
    """Give the age below which no job can be stuck, in seconds."""
    given = [limit for limits in (stuck.default, *stuck.job_types.values()) for limit in limits.values()]
    return min([stuck.least, *given])


def _roots(links: LinkSettings) -> dict[str, tuple[str, str]]:
    """
    Give, for each kind of link, the address that comes before it, or "", and what comes between the two.

    Without an address of the settings, that of the external label octopus_<kind> is taken.
    """
    repository, between = links.repository.rstrip("/"), f"/blob/{_TAG}/{_RUNBOOKS}"
    if "{tag}" in repository:
        repository, between = repository.replace("{tag}", _TAG), f"/{_RUNBOOKS}"
    return {
        "repository": (repository, between),
        "grafana": (links.grafana.rstrip("/"), "/d"),
        "status_page": (links.status_page.rstrip("/"), ""),
    }


def _utc_seconds(offset: str) -> int:
    sign, hours, minutes = offset[0], int(offset[1:3]), int(offset[4:])
    return (-1 if sign == "-" else 1) * (hours * 3600 + minutes * 60)


def _filters(settings: Settings) -> dict[str, Callable[..., object]]:
    least = settings.intervals.least_window

    def window(seconds: float) -> str:
        """Spell a window, widened to what the intervals ask for."""
        return format_duration(max(seconds, least))

    def pending(seconds: float) -> str:
        """Spell a `for`, two polls at least."""
        return format_duration(max(seconds, 2 * settings.intervals.poll))

    def zh(duration: str) -> str:
        """Spell a duration in Chinese: 1h30m is 1 小时 30 分钟."""
        return " ".join(
            f"{number} {_UNITS_ZH[unit]}" for number, unit in re.findall(r"(\d+)([a-z]+)", duration)
        )

    def matchers(labels: Iterable[str]) -> str:
        """Write the expression that makes matchers of an alert's labels: (printf `a=%q` $labels.a)."""
        names = [*labels, *settings.keep_labels]
        formats = ",".join(f"{name}=%q" for name in names)
        return f"(printf `{formats}` {' '.join(f'$labels.{name}' for name in names)})"

    return {
        "duration": format_duration,
        "window": window,
        "pending": pending,
        "zh": zh,
        "matchers": matchers,
        "seconds": lambda seconds: f"{max(seconds, least):g}",
        "number": lambda value: f"{value:g}",
        "percent": lambda share: f"{100 * share:.3g}%",
        "skew": lambda k: f"{(k * k - 1) / 6:g}",
        "camel": lambda status: "".join(word.capitalize() for word in status.split("_")),
    }
