from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from exporter.model import is_failed
from exporter.simulator.world import World
from tests.simulated import DAY_MS, FOREVER_MS, START_MS, Row, Rows, five_days, rows_of, world_of

MIDDLE_MS = START_MS + 2 * DAY_MS
WINDOWS = [
    (0, FOREVER_MS),
    (START_MS, FOREVER_MS),
    (START_MS, MIDDLE_MS),
    (START_MS - DAY_MS, MIDDLE_MS),
    (5, 5),
]

PROFILES = ["calm", "bursty"]


def flat(nested: dict[str, Any], *above: str) -> dict[tuple[str, ...], int]:
    """Turn {a: {b: n}} into {(a, b): n}."""
    figures: dict[tuple[str, ...], int] = {}
    for name, value in nested.items():
        figures |= flat(value, *above, name) if isinstance(value, dict) else {(*above, name): value}
    return figures


def by_target(world: World, since_ms: int, until_ms: int, name: str) -> dict[tuple[str, ...], int]:
    """Return one of the account's figures by (project, workspace, type…)."""
    return {
        (target["project"], target["workspace"], *key): figure
        for target in world.account.targets(world.listings, since_ms, until_ms)
        for key, figure in flat(target[name]).items()
    }


def ended_runs(seen: list[Rows]) -> list[Row]:
    return list(
        {(n, row["end_at"]): row for rows in seen for n, row in rows.items() if "end_at" in row}.values()
    )


def started_runs(seen: list[Rows]) -> list[Row]:
    return list(
        {(n, row["start_at"]): row for rows in seen for n, row in rows.items() if "start_at" in row}.values()
    )


def key_of(row: Row, *names: str) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in ("project_id", "workspace_id", "job_type", *names))


# What was reopened before the start shows in no row any more: those windows begin where looking began.
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("since_ms", "until_ms"), [window for window in WINDOWS if window[0] == START_MS])
def test_the_account_of_ended_runs_is_what_the_rows_showed(
    profile: str, since_ms: int, until_ms: int
) -> None:
    world, seen = five_days(profile)
    runs = [row for row in ended_runs(seen) if since_ms <= row["end_at"] < until_ms]
    ran = [row for row in runs if "start_at" in row]
    running_ms: Counter[tuple[str, ...]] = Counter()
    for row in ran:
        running_ms[key_of(row, "status")] += row["running_duration"]
    failed = [row for row in runs if is_failed(row["status"])]
    assert len(failed) > 5
    assert by_target(world, since_ms, until_ms, "ended") == Counter(key_of(row, "status") for row in runs)
    assert by_target(world, since_ms, until_ms, "ran") == Counter(key_of(row, "status") for row in ran)
    assert by_target(world, since_ms, until_ms, "running_ms") == running_ms
    assert by_target(world, since_ms, until_ms, "failures") == Counter(
        key_of(row, "status", "msg_code") for row in failed
    )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("since_ms", "until_ms"), [window for window in WINDOWS if window[0] == START_MS])
def test_the_account_of_starts_is_what_the_rows_showed(profile: str, since_ms: int, until_ms: int) -> None:
    world, seen = five_days(profile)
    runs = [row for row in started_runs(seen) if since_ms <= row["start_at"] < until_ms]
    submitting_ms: Counter[tuple[str, ...]] = Counter()
    for row in runs:
        submitting_ms[key_of(row)] += row["submitting_duration"]
    assert by_target(world, since_ms, until_ms, "started") == Counter(map(key_of, runs))
    assert by_target(world, since_ms, until_ms, "submitting_ms") == submitting_ms


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("since_ms", "until_ms"), WINDOWS)
def test_the_account_of_creations_keeps_deleted_jobs(profile: str, since_ms: int, until_ms: int) -> None:
    world, seen = five_days(profile)
    rows = {n: row for rows in seen for n, row in rows.items()}
    assert rows.keys() > seen[-1].keys()
    created = [row for row in rows.values() if since_ms <= row["create_at"] < until_ms]
    assert by_target(world, since_ms, until_ms, "created") == Counter(map(key_of, created))


def test_the_account_of_the_listing_is_what_is_listed_now() -> None:
    world, seen = five_days()
    listed = Counter(key_of(row, "status") for row in seen[-1].values())
    assert by_target(world, 0, FOREVER_MS, "listed") == listed


@pytest.mark.parametrize(
    "name", ["ended", "failures", "started", "created", "ran", "running_ms", "submitting_ms"]
)
def test_adjoining_windows_add_up(name: str) -> None:
    world, _ = five_days()
    cuts = [0, START_MS - DAY_MS, START_MS, MIDDLE_MS, FOREVER_MS]
    parts: Counter[tuple[str, ...]] = Counter()
    for since_ms, until_ms in pairwise(cuts):
        parts.update(by_target(world, since_ms, until_ms, name))
    assert parts == by_target(world, 0, FOREVER_MS, name)


def test_the_history_is_in_the_account() -> None:
    world = world_of(jobs=150, seed=3)
    assert world.table.submitted_ms == world.table.created_ms, "no job of this history was reopened"
    ends = Counter(row["end_at"] for row in rows_of(world).values() if "end_at" in row)
    starts = Counter(row["start_at"] for row in rows_of(world).values() if "start_at" in row)
    assert {at: sum(by_target(world, at, at + 1, "ended").values()) for at in ends} == ends
    assert {at: sum(by_target(world, at, at + 1, "started").values()) for at in starts} == starts
