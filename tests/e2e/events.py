"""The lines that an exporter writes for runs that ended, compared with the simulator's account."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.e2e.agreement import lived
from tests.e2e.exporting import Exporter
from tests.e2e.exposed import Figures
from tests.e2e.simulation import Simulation

Line = dict[str, Any]
Key = tuple[str, str, str, int]


def events_in(text: str) -> list[Line]:
    """Read the events, which are lines of JSON. Every other line must be a log line in logfmt."""
    lines: list[Line] = []
    for line in text.splitlines():
        if line.startswith("{"):
            lines.append(json.loads(line))
            assert lines[-1]["event"] == "run_ended"
        else:
            assert line.startswith("ts="), line
    return lines


def events_in_pieces(text: str, cuts: int) -> list[Line]:
    """Read the events of a process that was killed this often: each time a line may be incomplete."""
    lines: list[Line] = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            cuts -= 1
    assert cuts >= 0
    return lines


def key(line: Line) -> Key:
    """Return the key of an event: the target, the job's id and the number of its run."""
    return line["project_id"], line["workspace"], line["job_id"], line["run"]


def without_repetitions(lines: Iterable[Line]) -> list[Line]:
    """Keep the first line of each event. Repeated lines must be the same."""
    first: dict[Key, Line] = {}
    for line in lines:
        assert first.setdefault(key(line), line) == line
    return list(first.values())


def assert_all_are_there(
    lines: list[Line], exporter: Exporter, simulator: Simulation, project: str = ""
) -> None:
    """Compare the events of every target (of one project) with its account since its baseline, exactly."""
    for target in exporter.targets():
        if project not in ("", target["project"]):
            continue
        account = lived(simulator.account(target["project_id"], target["workspace"], target["baseline_ms"]))
        mine = [
            line
            for line in lines
            if (line["project"], line["workspace"]) == (target["project"], target["workspace"])
        ]
        told = figures(mine)
        assert told == {name: account[name] for name in told}, target["project"]
    assert len({key(line) for line in lines}) == len(lines)


def figures(lines: list[Line]) -> dict[str, Figures]:
    """Return the events in the account's names and units."""
    ended, failed, ran, running_ms = Counter[Any](), Counter[Any](), Counter[Any](), Counter[Any]()
    for line in lines:
        kind, status = line["job_type"], line["status"]
        ended[kind, status] += 1
        if status.endswith("_FAILED"):
            failed[kind, status, line["msg_code"] or ""] += 1
        if line["running_seconds"] is not None:
            ran[kind, status] += 1
            running_ms[kind, status] += round(line["running_seconds"] * 1000)
    counted = {"ended": ended, "failures": failed, "ran": ran, "running_ms": running_ms}
    return {name: {at: count for at, count in each.items() if count} for name, each in counted.items()}


def assert_in_order(lines: list[Line]) -> None:
    """Check the order of each target's events: by poll, and within a poll by job id."""
    by_target: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for line in lines:
        target = line["project"], line["workspace"]
        by_target.setdefault(target, []).append((line["time"], int(line["job_id"])))
    for target, mine in by_target.items():
        assert mine == sorted(mine), target
