"""
How good the spike alerts are, beside the rule most people would write.

Usage: python -m benchmarks.alerts [--quick] [--days N] [--workers N]

Days of quiet, middling and busy projects are lived twice, as they are and with spikes, and the rules of
prometheus/rules are run over what would have been scraped, by `promtool test rules`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.alerts import chance, promtool
from benchmarks.alerts.life import DAY, live
from benchmarks.alerts.scrapes import Exporter
from benchmarks.alerts.troubles import SHAPES, SIZES, Spike, befall, inject, spoil
from benchmarks.alerts.verdict import Alert, Found, delays, match, stretches
from benchmarks.report import say, show
from exporter.model import FAILED_STATUSES, JOB_TYPES

_ROOT = Path(__file__).parents[2]
_RULES = (_ROOT / "prometheus/rules/octopus.yml", Path(__file__).parent / "naive.yml")
_PROJECTS = {"quiet": 60.0, "middling": 600.0, "busy": 6000.0}
_RULE_NAMES = {"critical": "spike alerts", "naive": "increase[5m] > 5"}


@dataclass(frozen=True, slots=True)
class World:
    """Some days of one project."""

    name: str
    jobs_per_day: float
    days: int
    seed: int
    has_spikes: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rules made of a world."""

    world: World
    alerts: list[Alert]
    spikes: list[Spike]


def run(world: World) -> Outcome:
    life, troubles = live(world.seed, world.jobs_per_day, world.days), befall(world.seed, world.days)
    spikes = inject(world.seed, life, 1, world.days, troubles) if world.has_spikes else []
    exporter = Exporter(world.name, spoil(life, spikes), troubles, world.days)
    with tempfile.TemporaryDirectory(prefix="alerts-") as folder:
        firings = promtool.run(Path(folder), _RULES, exporter.series(), world.days * DAY)
    say(f"{world.name}, {world.days} days, {len(spikes)} spikes: done")
    return Outcome(world, stretches(firings), spikes)


def _spike_alerts(alerts: Iterable[Alert], rule: str) -> list[Alert]:
    """Keep those of one rule: "naive", or the pages of the spike alerts."""
    if rule == "naive":
        return [alert for alert in alerts if alert.name == "NaiveFailures"]
    spikes = (alert for alert in alerts if alert.name.endswith("FailedSpike"))
    return [alert for alert in spikes if alert.severity == rule]


def _report(outcomes: Sequence[Outcome]) -> None:
    _show_precision(outcomes)
    found = {rule: _found(outcomes, rule) for rule in ("critical", "warning", "naive")}
    _show_recall(
        "Spikes found, by size", found, [(size, lambda s, size=size: s.size == size) for size in SIZES]
    )
    _show_recall("by shape", found, [(shape, lambda s, shape=shape: s.shape == shape) for shape in SHAPES])
    history = [("a day or more", True), ("less", False)]
    _show_recall("by history", found, [(n, lambda s, h=h: s.has_history == h) for n, h in history])
    _show_others(outcomes)


def _found(outcomes: Iterable[Outcome], rule: str) -> list[Found]:
    return [f for o in outcomes for f in match(_spike_alerts(o.alerts, rule), o.spikes)[0]]


def _show_precision(outcomes: Sequence[Outcome]) -> None:
    rows = []
    for rule in ("critical", "warning", "naive"):
        false = {o.world: match(_spike_alerts(o.alerts, rule), o.spikes)[1] for o in outcomes}
        calm = sum(len(alerts) for world, alerts in false.items() if not world.has_spikes)
        found = _found(outcomes, rule)
        hits = sum(one.delay is not None for one in found)
        wrong = sum(map(len, false.values()))
        days = sum(o.world.days for o in outcomes if not o.world.has_spikes)
        rows.append(
            (
                _RULE_NAMES.get(rule, rule),
                f"{days * len(JOB_TYPES) * len(FAILED_STATUSES):,}",
                f"{calm}",
                f"{wrong}",
                f"{hits / (hits + wrong):.3f}" if hits + wrong else "-",
                f"{hits} of {len(found)}",
                delays(found),
            )
        )
    columns = (
        "rule",
        "series-days of calm",
        "false there",
        "false in all",
        "precision",
        "found",
        "min, p50 / p95",
    )
    show("Failure spikes", columns, rows)


def _show_recall(title: str, found: dict[str, list[Found]], kinds: Sequence[tuple[str, object]]) -> None:
    rows = []
    for name, is_kind in kinds:
        row = [name]
        for by_rule in found.values():
            these = [one for one in by_rule if is_kind(one.spike)]  # type: ignore[operator]
            row += [f"{sum(one.delay is not None for one in these)} of {len(these)}", delays(these)]
        rows.append(row)
    columns = ("", "pages", "p50 / p95", "warnings", "p50 / p95", "increase[5m] > 5", "p50 / p95")
    show(title, columns, rows, "Minutes from the first failure on.")


def _show_others(outcomes: Sequence[Outcome]) -> None:
    """Show what else fired where no spike was injected, and every false page by name."""
    for outcome in outcomes:
        if not outcome.world.has_spikes:
            counts: dict[str, int] = {}
            for alert in outcome.alerts:
                key = f"{alert.name} ({alert.severity})"
                counts[key] = counts.get(key, 0) + 1
            say(f"{outcome.world.name} without spikes: {counts}")
        for alert in match(_spike_alerts(outcome.alerts, "critical"), outcome.spikes)[1]:
            say(f"false page, {outcome.world.name}: {alert}")


def main(days: int, workers: int, names: Sequence[str]) -> None:
    worlds = [
        World(name, _PROJECTS[name], days, seed, spikes)
        for spikes in (False, True)
        for seed, name in enumerate(names)
    ]
    with ThreadPoolExecutor(workers) as pool:
        _report(list(pool.map(run, worlds)))
    chance.main()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="two days of one project")
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    main(
        2 if chosen.quick else chosen.days, chosen.workers, ["middling"] if chosen.quick else list(_PROJECTS)
    )
