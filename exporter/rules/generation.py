"""Generate the rule file and the example for Alertmanager from prometheus/templates and settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from exporter import __version__, shipped_path
from exporter.config.durations import format_duration
from exporter.model import AGE_BOUNDS_MS, FAILED_STATUSES
from exporter.rules.settings import LinkSettings, Settings

RULES = "octopus.yml"
RULE_OBJECT = "octopus-prometheusrule.yaml"
ALERTMANAGER = "alertmanager.yml"
_TAG = f"v{__version__}"
# Multiples of the shortest silence: with 30 minutes, up to two days.
_SILENCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96)
# This many of the last days may have had no runs at these hours: after a weekend, the third is a working day.
_DAYS_OF_SILENCE = 3
_RUNBOOKS = "docs/runbooks"
_UNITS_ZH = {"d": "天", "h": "小时", "m": "分钟", "s": "秒", "ms": "毫秒"}

# The object that the Prometheus Operator reads. Its Prometheus selects rules by label, so users add theirs.
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
    """Give the texts of the rule files by name."""
    intervals, spike, stuck, past = settings.intervals, settings.spike, settings.stuck, settings.baseline
    least_spike = intervals.least_spike_window
    # Baselines change slowly, so they are evaluated rarely, but within the five minutes for which Prometheus
    # uses a sample. The rules over the histograms of a week read a third of all series. They are evaluated
    # more rarely still, and other rules look for their samples in `durations_window`.
    baseline_interval = max(intervals.evaluation, min(4 * intervals.evaluation, 120))
    durations_interval = max(intervals.evaluation, min(20 * intervals.evaluation, 600))
    # Each length of silence is at most twice the one before.
    least_silence = max(settings.stalled.least, intervals.least_window)
    silences = [least_silence * multiple for multiple in _SILENCES]
    limits = [limit for one in (stuck.default, *stuck.job_types.values()) for limit in one.values()]
    # Rules count days and hours from Unix seconds, so an offset is a number of seconds to add.
    sign, hours, minutes = settings.utc_offset[0], settings.utc_offset[1:3], settings.utc_offset[4:]
    utc_seconds = int(hours) * 3600 + int(minutes) * 60
    words = dict(settings) | {
        "spike": spike.model_copy(
            update={"short": max(spike.short, least_spike), "long": max(spike.long, least_spike)}
        ),
        "baseline_interval": baseline_interval,
        "durations_interval": durations_interval,
        "durations_window": 3 * durations_interval,
        "silences": [one for one in silences if one <= 2 * past.day] or [least_silence],
        "silence_days": sorted({*range(1, min(_DAYS_OF_SILENCE, past.days) + 1), past.days}),
        # No job that is younger can be stuck.
        "least_limit": min([stuck.least, *limits]),
        "stuck_steps": (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000),
        "age_bounds": [(age, bound_ms / 1000) for age, bound_ms in AGE_BOUNDS_MS.items()],
        "failed_statuses": FAILED_STATUSES,
        "roots": _roots(settings.links),
        "runbook_ending": "/" if settings.links.site else ".md",
        "kept": _listed(settings.keep_labels),
        "utc_seconds": -utc_seconds if sign == "-" else utc_seconds,
        "utc": f"UTC{settings.utc_offset}" if utc_seconds else "UTC",
    }
    return {RULES: _render(RULES, settings, words)}


def generate_alertmanager(settings: Settings) -> str:
    words = dict(settings) | {
        "failed_statuses": FAILED_STATUSES,
        "group_by": _listed(settings.alertmanager.group_by),
        "kept": _listed(settings.keep_labels),
    }
    return _render(ALERTMANAGER, settings, words)


def as_prometheus_rule(text: str) -> str:
    """Wrap the groups of a rule file into the PrometheusRule object of the Prometheus Operator."""
    # Indented as text, not written by a YAML library, which would drop the comments and fold the expressions.
    return _OBJECT + re.sub(r"^(?=.)", "  ", text, flags=re.MULTILINE)


def _listed(labels: Iterable[str]) -> str:
    """Write labels with a comma before each, to append to a list."""
    return "".join(f", {label}" for label in labels)


def _roots(links: LinkSettings) -> dict[str, tuple[str, str]]:
    """
    Give for each kind of link the address before it, or "", and the part of the path between the two.

    If the settings have no address, the templates use that of the external label octopus_<kind>.
    """
    repository, between = links.repository.rstrip("/"), f"/blob/{_TAG}/{_RUNBOOKS}"
    if links.site:
        repository, between = links.site.rstrip("/"), "/runbooks"
    elif "{tag}" in repository:
        repository, between = repository.replace("{tag}", _TAG), f"/{_RUNBOOKS}"
    return {
        "repository": (repository, between),
        "grafana": (links.grafana.rstrip("/"), "/d"),
        "status_page": (links.status_page.rstrip("/"), ""),
    }


def _render(template: str, settings: Settings, words: dict[str, object]) -> str:
    # These delimiters occur neither in PromQL nor in Prometheus' own templates. YAML needs no HTML escaping.
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
    text = environment.get_template(template).render(words)
    # Loops leave several blank lines, and some at the end.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _filters(settings: Settings) -> dict[str, Callable[..., object]]:
    least = settings.intervals.least_window

    def window(seconds: float) -> str:
        """Write the length of a window, at least what the intervals require."""
        return format_duration(max(seconds, least))

    def pending(seconds: float) -> str:
        """Write the length of a `for`, at least two polls: one poll alone must not fire an alert."""
        return format_duration(max(seconds, 2 * settings.intervals.poll))

    def zh(duration: str) -> str:
        """Write a duration in Chinese: 1h30m is 1 小时 30 分钟."""
        return " ".join(
            f"{number} {_UNITS_ZH[unit]}" for number, unit in re.findall(r"(\d+)([a-z]+)", duration)
        )

    def matchers(labels: Iterable[str]) -> str:
        """Write an expression that turns an alert's labels into matchers: (printf `a=%q` $labels.a)."""
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
