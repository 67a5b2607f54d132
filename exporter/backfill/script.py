"""The script that loads the files and makes the history of the recording rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from exporter.backfill.plan import BackfillPlan, TargetPlan, WrittenDay, matchers, utc_text
from exporter.backfill.rule_history import RecordingRule, RuleHistory, in_stages
from exporter.exposition.families import TARGET_FAMILIES

SCRIPT = "load.sh"
# How long Prometheus keeps a sample in memory before it writes a block, and a few minutes more.
HEAD_SECONDS = 11_100
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def loading_files(
    plan: BackfillPlan, days: Sequence[WrittenDay], rules: Iterable[RecordingRule], body: str
) -> Mapping[str, str]:
    """
    Give what is written beside the days, by name: the script, and the rules in the order of evaluation.

    Shape: names that end in `.sh` become executable; those of rules are rules-01.yml, …. `body` is what
    the script does, see load.sh. Called after all days are written.
    """
    has_time = days[0].first_ms < _rules_until_ms(plan)
    stages = history_of(rules).stages if has_time else ()
    files = {f"rules-{number:02}.yml": text for number, text in enumerate(stages, 1)}
    return {SCRIPT: _head(plan, days) + body, **files}


def can_be_loaded_ms(last_ms: int) -> int:
    """Give the minute from which no Prometheus has the last sample in memory any more."""
    return -(-(last_ms + HEAD_SECONDS * 1000) // 60_000) * 60_000


def history_of(rules: Iterable[RecordingRule]) -> RuleHistory:
    """Put the rules that read samples of targets into stages."""
    # The order does not depend on which of these samples the days have.
    samples = (family.name + suffix for family in TARGET_FAMILIES for suffix in _SUFFIXES[family.type])
    return in_stages(rules, samples)


def _rules_until_ms(plan: BackfillPlan) -> int:
    """Give the end of the history of the rules: from its first live samples on, a target has live records."""
    return min(target.until_ms for target in plan.targets)


def _head(plan: BackfillPlan, days: Sequence[WrittenDay]) -> str:
    """Give the first lines: what differs from one history to another."""
    first_ms, last_ms = days[0].first_ms, days[-1].last_ms
    newest = max(plan.targets, key=lambda target: target.until_ms)
    values = {
        "first": str(first_ms // 1000),
        "last": str(last_ms // 1000),
        "rules_last": str((_rules_until_ms(plan) - 1) // 1000),
        "last_text": utc_text(last_ms),
        "safe_at": str(can_be_loaded_ms(last_ms) // 1000),
        "safe_text": utc_text(can_be_loaded_ms(last_ms)),
        "shown": f"count({_series(newest)})",
        "history": "\n".join(_history(plan, days)),
    }
    return "#!/bin/sh\n" + "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())


def _history(plan: BackfillPlan, days: Sequence[WrittenDay]) -> Iterator[str]:
    """Give a line for each target: from when to when its counters have samples."""
    for number, target in enumerate(plan.targets):
        firsts_ms = (day.counted_ms[number] for day in days)
        first_ms = next((at_ms for at_ms in firsts_ms if at_ms is not None), None)
        if first_ms is not None:
            yield f"{first_ms // 1000} {target.until_ms // 1000 - 1} {_series(target)}"


def _series(plan: TargetPlan) -> str:
    labels = {"project": plan.target.key.project, "workspace": plan.target.key.workspace, **plan.labels}
    return f"octopus_jobs{{{matchers(labels)}}}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
