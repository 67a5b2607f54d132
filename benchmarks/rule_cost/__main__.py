"""
The cost of the rules for a Prometheus with many targets and a week of history.

Usage: python -m benchmarks.rule_cost [--targets N] [--days N] [--seconds N] [--rules FILE …] [--expressions]
[--prometheus PATH] [--promtool PATH]

Several Prometheus servers run at the same time: one without rules (the floor), one with the simple rules, and
one with each rule file. All scrape the same live target. Their CPU time is read from /proc.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import programs
from benchmarks.measure import ratio, say, show
from benchmarks.rule_cost.history import History, Plan, Programs
from benchmarks.rule_cost.prometheus import Prometheus, prometheus
from benchmarks.rule_cost.rule_file import LOOKBACK_SECONDS, Rule, rules_of
from prometheus.demo import free_port

_ROOT = Path(__file__).parents[2]
RULES = _ROOT / "prometheus" / "rules" / "octopus.yml"
NAIVE = _ROOT / "benchmarks" / "alerts" / "naive.yml"
_INTERVAL = 30.0
_SETTLE_SECONDS = 150.0
# Each expression is evaluated for this CPU time, with a minimum and a maximum of evaluations.
_ASKED_CPU_SECONDS = 0.3
_ASKED_TIMES = (5, 100)

_COLUMNS = (
    *("rules", "recorded series", "per target", "recorded samples/s", "CPU s in 150 s", "of the rules"),
    *("to no rules", "evaluation s", "failed", "RSS MiB"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What one Prometheus did during the measurement.

    Units: seconds; `cpu` per 150 seconds. `evaluation` is the sum of the groups' last evaluation times.
    """

    name: str
    recorded: float
    samples_a_second: float
    cpu: float
    evaluation: float
    failed: float
    resident_mib: float


def main(
    found: Programs, files: list[Path], targets: int, days: float, seconds: float, *, expressions: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="octopus-rule-cost-") as name, ExitStack() as stack:
        folder = Path(name)
        port = free_port(0)
        stack.enter_context(programs.started("benchmarks.rule_cost.target", str(targets), str(port)))
        names = ["no rules", "naive", *(file.stem if file == RULES else str(file) for file in files)]
        chosen: list[Path | None] = [None, NAIVE, *files]
        rules = [rules_of(file, _INTERVAL) if file else [] for file in chosen]
        folders = [
            _history(found, one, folder / str(place), targets, days, seconds)
            for place, one in enumerate(rules)
        ]
        outcomes = _run(found, names, chosen, folders, port, seconds)
        _show(outcomes, targets, days, seconds)
        for place, one in enumerate(rules[2:], 2):
            _show_recorded(found, folders[place], one, targets, expressions=expressions)


def _history(
    found: Programs, rules: list[Rule], folder: Path, targets: int, days: float, seconds: float
) -> Path:
    folder.mkdir()
    now = time.time() // 30 * 30
    history = History(
        found, Plan(rules, targets, days, now, seconds + _SETTLE_SECONDS + 3600, _INTERVAL), folder
    )
    history.make()
    say(f"history of {history.samples:,} samples")
    return folder


def _run(
    found: Programs,
    names: list[str],
    files: list[Path | None],
    folders: list[Path],
    port: int,
    seconds: float,
) -> list[Outcome]:
    """Run all servers at the same time."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(prometheus(found.prometheus, folder, rules=file, target=port))
            for folder, file in zip(folders, files, strict=True)
        ]
        time.sleep(_SETTLE_SECONDS)
        before = [(one.cpu_seconds, _evaluated(one)) for one in running]
        time.sleep(seconds)
        spent = [(one.cpu_seconds - cpu, one) for one, (cpu, _) in zip(running, before, strict=True)]
        return [
            _outcome(name, one, cpu / seconds * 150) for name, (cpu, one) in zip(names, spent, strict=True)
        ]


def _evaluated(server: Prometheus) -> float:
    return sum(server.metrics("prometheus_rule_evaluations_total").values())


def _outcome(name: str, server: Prometheus, cpu: float) -> Outcome:
    samples = server.metrics("prometheus_rule_group_last_evaluation_samples")
    intervals = server.metrics("prometheus_rule_group_interval_seconds")
    return Outcome(
        name,
        server.number('count({__name__=~".+:.+"})'),
        sum(value / intervals[group] for group, value in samples.items()),
        cpu,
        sum(server.metrics("prometheus_rule_group_last_duration_seconds").values()),
        sum(server.metrics("prometheus_rule_evaluation_failures_total").values()),
        server.resident_mib,
    )


def _show(outcomes: list[Outcome], targets: int, days: float, seconds: float) -> None:
    floor = outcomes[0].cpu
    rows = [
        (
            one.name,
            f"{one.recorded:,.0f}",
            f"{one.recorded / targets:.1f}",
            f"{one.samples_a_second:,.0f}",
            f"{one.cpu:.2f}",
            f"{one.cpu - floor:.2f}",
            ratio(one.cpu, floor),
            f"{one.evaluation:.2f}",
            f"{one.failed:.0f}",
            f"{one.resident_mib:.0f}",
        )
        for one in outcomes
    ]
    show(f"Rules over {targets} targets and {days:g} days, {seconds:g} s", _COLUMNS, rows)


def _show_recorded(
    found: Programs, folder: Path, rules: list[Rule], targets: int, *, expressions: bool
) -> None:
    """Show each recorded name, and with `expressions` the cost of each rule's expression alone."""
    with prometheus(found.prometheus, folder) as server:
        at = server.number(f"max(max_over_time(timestamp(up)[1h:{_INTERVAL:g}s]))")
        intervals = {rule.name: rule.interval for rule in rules if rule.is_record}
        read = {reach.name for rule in rules for reach in rule.reaches()}
        counts = {name: _series(server, name, interval, at) for name, interval in intervals.items()}
        rows = [
            (
                name,
                f"{count:,.0f}",
                f"{count / targets:.1f}",
                f"{intervals[name]:g}",
                "" if name in read else "no rule",
            )
            for name, count in sorted(counts.items(), key=lambda pair: -pair[1])
        ]
        note = f"Together {sum(counts.values()) / targets:.1f} for each target."
        show("Recorded series", ("series", "in all", "per target", "every s", "read by"), rows, note)
        if expressions:
            _show_expressions(server, rules, at)


def _series(server: Prometheus, name: str, interval: float, at: float) -> float:
    """Count the present series. A rarely recorded one needs a longer window than Prometheus' own."""
    if interval < LOOKBACK_SECONDS:
        return server.number(f"count({name})", at)
    return server.number(f"count(last_over_time({name}[{interval + LOOKBACK_SECONDS:.0f}s]))", at)


def _show_expressions(server: Prometheus, rules: list[Rule], at: float) -> None:
    costs = [(_cost(server, rule, at), rule) for rule in rules]
    each = sum(cost / rule.interval for cost, rule in costs)
    rows = [
        (
            f"{rule.name} {' '.join(f'{label}={value}' for label, value in rule.labels.items())}",
            f"{cost * 1e3:.1f}",
            f"{cost * 150 / rule.interval:.3f}",
            f"{cost / rule.interval / each:.1%}",
        )
        for cost, rule in sorted(costs, key=lambda pair: -pair[0] / pair[1].interval)
    ]
    columns = ("expression", "CPU ms", "CPU s in 150 s", "of all")
    show("Expressions, each evaluated alone", columns, rows, f"Together {each * 150:.2f} s in 150 s.")


def _cost(server: Prometheus, rule: Rule, at: float) -> float:
    """Return the median CPU seconds of one evaluation, without the storing of its result."""
    expression = f"count({rule.expression})"
    server.query(expression, at)
    spent: list[float] = []
    while len(spent) < _ASKED_TIMES[0] or (sum(spent) < _ASKED_CPU_SECONDS and len(spent) < _ASKED_TIMES[1]):
        begun = server.cpu_seconds
        server.query(expression, at)
        spent.append(server.cpu_seconds - begun)
    return median(spent)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--days", type=float, default=8)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--rules", type=Path, nargs="*", default=[RULES])
    parser.add_argument("--prometheus", default=shutil.which("prometheus") or "prometheus")
    parser.add_argument("--promtool", default=shutil.which("promtool") or "promtool")
    parser.add_argument("--expressions", action="store_true", help="also show the cost of each expression")
    chosen = parser.parse_args()
    tools = Programs(chosen.prometheus, chosen.promtool)
    main(tools, chosen.rules, chosen.targets, chosen.days, chosen.seconds, expressions=chosen.expressions)
