"""
The past of many targets as Prometheus blocks, limited to the parts that the rules read.

One target of each kind gets its complete past, and Prometheus evaluates the recording rules over it, one name
after the other. Then every target gets a copy of the series of its kind: only the parts that the rules read,
with 120 samples (one chunk) around them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import say
from benchmarks.rule_cost import target
from benchmarks.rule_cost.prometheus import Prometheus, Series, load, prometheus
from benchmarks.rule_cost.rule_file import Rule, depths, in_order, spans

_DAY = 86_400.0
# The step of the complete past, from which the copied parts are computed.
_COARSE_SECONDS = 120
_CHUNK = 120
# Prometheus uses block lengths of 2 hours times a power of three.
_BLOCK_HOURS = 18
_LONG_BLOCK_HOURS = 162


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The purpose of a history.

    Shape: `now` is its end (Unix seconds). Units: `lasts`, for how long it is used after that, in seconds.
    """

    rules: list[Rule]
    targets: int
    days: float
    now: float
    lasts: float
    scrape: float


@dataclass(frozen=True, slots=True)
class Programs:
    prometheus: str
    promtool: str


class History:
    """Makes blocks in a folder; data/ in it is for a Prometheus."""

    def __init__(self, programs: Programs, plan: Plan, folder: Path) -> None:
        self._programs = programs
        self._plan = plan
        self._folder = folder
        self._one_of_each = folder / "kinds"
        self._past = plan.days * _DAY
        self._depths = depths(plan.rules, self._past)
        self._ingredients = {
            reach.name for rule in plan.rules if rule.name in self._depths for reach in rule.reaches()
        }
        self._read = {reach.name for rule in plan.rules for reach in rule.reaches() if reach.is_history}
        self.samples = 0

    def make(self) -> Path:
        """Make all blocks. Returns the folder with data/."""
        parts: dict[str, list[Series]] = {}
        self._scrape_each_kind()
        for rules in in_order(self._plan.rules, self._depths):
            parts |= self._record(rules[0].name, rules)
            say(f"recorded {rules[0].name}")
        for name in self._read - parts.keys():
            parts[name] = list(
                _scraped({name}, self._moments(self._spans(name, self._plan.scrape), self._plan.scrape))
            )
        self._copy(parts)
        return self._folder

    def _record(self, name: str, rules: list[Rule]) -> dict[str, list[Series]]:
        """Make the series that rules have recorded under a name. Returns the parts to copy."""
        with prometheus(self._programs.prometheus, self._one_of_each) as server:
            whole = [(0.0, self._depths[name])] if name in self._ingredients else []
            coarse = [one for rule in rules for one in self._made(server, rule, whole, rough=True)]
            fine = [
                one for rule in rules for one in self._made(server, rule, self._spans(name, rule.interval))
            ]
        if coarse:
            self._load(self._one_of_each, [(name, one) for one in coarse])
        return {name: fine} if name in self._read else {}

    def _spans(self, name: str, interval: float) -> list[tuple[float, float]]:
        found = spans(self._plan.rules, name, _CHUNK * interval, self._plan.lasts)
        return [(near, min(far, self._past)) for near, far in found if near < self._past]

    def _moments(self, found: list[tuple[float, float]], step: float) -> list[float]:
        now = self._plan.now
        return [at for near, far in reversed(found) for at in _steps(now - far, now - near, step)]

    def _scrape_each_kind(self) -> None:
        """Make the scraped series of one target of each kind, as far back as the recording rules need."""
        raw = {name: depth for name, depth in self._depths.items() if name in self._ingredients}
        for depth in {*raw.values()}:
            names = {name for name, other in raw.items() if other == depth}
            series = _scraped(names, self._moments([(0, depth)], _COARSE_SECONDS))
            self._load(self._one_of_each, ((one.labels["__name__"], one) for one in series))

    def _made(
        self, server: Prometheus, rule: Rule, found: list[tuple[float, float]], *, rough: bool = False
    ) -> Iterator[Series]:
        """Evaluate a rule over these parts of the past."""
        step = max(rule.interval, _COARSE_SECONDS) if rough else rule.interval
        now = self._plan.now // step * step
        # Without their names, several series of a result may become one. Rare samples have the same times in
        # all series: otherwise a series that is computed from others would not find them.
        values: dict[tuple[tuple[str, str], ...], dict[float, str]] = defaultdict(dict)
        for near, far in reversed(found):
            start, end = (-(-age // step) * step for age in (far, near))
            for one in server.matrix(rule.expression, now - start, now - end, step):
                labels = {**one.labels, **rule.labels, "__name__": rule.name}
                values[tuple(sorted(labels.items()))].update(one.values)
        return (Series(dict(labels), sorted(samples.items())) for labels, samples in values.items())

    def _load(self, folder: Path, series: Iterable[tuple[str, Series]]) -> None:
        """Add these series to a folder's data."""
        folder.mkdir(exist_ok=True)
        file = folder / "history.om"
        with file.open("w", encoding="utf-8") as lines:
            for name, one in series:
                head = _head(name, one.labels)
                lines.writelines(f"{head} {value} {at}\n" for at, value in one.values)
            lines.write("# EOF\n")
        load(self._programs.promtool, file, folder / "data", longest_hours=_LONG_BLOCK_HOURS)

    def _copy(self, parts: dict[str, list[Series]]) -> None:
        """Write for each block's time a file with all targets' lines, and make a block of it."""
        windows: dict[int, list[tuple[str, list[str]]]] = defaultdict(list)
        for name, series in parts.items():
            for one in series:
                for window, tails in _by_window(one.values).items():
                    windows[window].append((_head(name, one.labels), tails))
        for window in sorted(windows):
            file = self._folder / "history.om"
            with file.open("w", encoding="utf-8") as lines:
                for head, tails in windows[window]:
                    self.samples += self._write(lines.write, head, tails)
                lines.write("# EOF\n")
            load(self._programs.promtool, file, self._folder / "data", longest_hours=_BLOCK_HOURS)
            say(f"{self.samples:,} samples of history")

    def _write(self, write: Callable[[str], object], head: str, tails: list[str]) -> int:
        """Write a series of one kind for all targets of that kind. Returns the number of samples."""
        written = 0
        for kind in range(len(target.RUNS_A_DAY)):
            own = f'project="{target.project(kind)}"'
            if own not in head:
                continue
            for number in range(kind, self._plan.targets, len(target.RUNS_A_DAY)):
                start = head.replace(own, f'project="{target.project(number)}"') + " "
                write(start + start.join(tails))
                written += len(tails)
            return written
        write(head + " " + (head + " ").join(tails))
        return len(tails)


def _scraped(names: set[str], moments: list[float]) -> Iterator[Series]:
    """Return the scraped series of one target of each kind."""
    found: dict[tuple[str, target.Labels], list[tuple[float, str]]] = defaultdict(list)
    for kind in range(len(target.RUNS_A_DAY)):
        for at in moments:
            for name, labels, value in target.samples(names, kind, at):
                found[name, labels].append((at, f"{value}"))
    for (name, labels), values in found.items():
        yield Series({"__name__": name, **dict(labels), **target.SCRAPE_LABELS}, values)


def _by_window(values: list[tuple[float, str]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for at, value in values:
        found[int(at // (_BLOCK_HOURS * 3600))].append(f"{value} {at}\n")
    return found


def _head(name: str, labels: dict[str, str]) -> str:
    pairs = ",".join(f'{label}="{value}"' for label, value in labels.items() if label != "__name__" and value)
    return f"{name}{{{pairs}}}"


def _steps(start: float, end: float, step: float) -> Iterator[float]:
    return (start + number * step for number in range(int((end - start) / step) + 1))
