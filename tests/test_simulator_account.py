from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from exporter.model import IN_FLIGHT_STATUSES, is_failed
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
# Thousandths of a core, of a GPU and of a GiB.
RESOURCES = {
    "1Core_4GiB": (1000, 0, 4000),
    "2Core_4GiB": (2000, 0, 4000),
    "2Core_8GiB": (2000, 0, 8000),
    "4Core_16GiB": (4000, 0, 16_000),
    "8Core_32GiB": (8000, 0, 32_000),
    "P100_1Gpu_2.1Core_4.1GiB": (2100, 1000, 4100),
    "T4_1Gpu_8Core_32GiB": (8000, 1000, 32_000),
    "V100_4Gpu_32Core_256GiB": (32_000, 4000, 256_000),
    "V100_8Gpu_64Core_512GiB": (64_000, 8000, 512_000),
}


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


def spec_of(row: Row) -> tuple[str, ...]:
    return row["project_id"], row["workspace_id"], row["resource_spec"]


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
@pytest.mark.parametrize(("since_ms", "until_ms"), [window for window in WINDOWS if window[0] == START_MS])
def test_the_account_of_specs_is_what_the_rows_showed(profile: str, since_ms: int, until_ms: int) -> None:
    world, seen = five_days(profile)
    runs = [row for row in started_runs(seen) if since_ms <= row["start_at"] < until_ms]
    submitting_ms: Counter[tuple[str, ...]] = Counter()
    for row in runs:
        submitting_ms[spec_of(row)] += row["submitting_duration"]
    started = Counter(map(spec_of, runs))
    assert len({spec for *_, spec in started}) > 5
    assert by_target(world, since_ms, until_ms, "spec_started") == started
    assert by_target(world, since_ms, until_ms, "spec_submitting_ms") == submitting_ms
    in_flight = Counter(
        (*spec_of(row), row["status"]) for row in seen[-1].values() if row["status"] in IN_FLIGHT_STATUSES
    )
    assert len(in_flight) > 3
    assert by_target(world, since_ms, until_ms, "spec_in_flight") == in_flight


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("since_ms", "until_ms"), [window for window in WINDOWS if window[0] == START_MS])
@pytest.mark.parametrize("name", ["core_us", "gpu_us", "memory_gib_us"])
def test_what_runs_have_used_is_their_time_and_what_their_rows_asked_for(
    name: str, profile: str, since_ms: int, until_ms: int
) -> None:
    world, seen = five_days(profile)
    used: Counter[tuple[str, ...]] = Counter()
    for row in ended_runs(seen):
        if since_ms <= row["end_at"] < until_ms and "start_at" in row:
            asked = dict(
                zip(("core_us", "gpu_us", "memory_gib_us"), RESOURCES[row["resource_spec"]], strict=True)
            )
            used[key_of(row, "status")] += row["running_duration"] * asked[name]
    said = by_target(world, since_ms, until_ms, name)
    assert sum(said.values()) > 1_000_000_000
    assert said == used


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("since_ms", "until_ms"), [window for window in WINDOWS if window[0] == START_MS])
def test_reruns_are_the_runs_of_jobs_whose_end_was_seen(profile: str, since_ms: int, until_ms: int) -> None:
    world, seen = five_days(profile)
    first: dict[int, int] = {}
    reruns: dict[tuple[int, int], Row] = {}
    for rows in seen:
        for n, row in rows.items():
            at_ms = row.get("start_at") or row.get("end_at")
            if n in first and at_ms not in (None, first[n]) and since_ms <= at_ms < until_ms:
                reruns[n, at_ms] = row
            if "end_at" in row:
                first.setdefault(n, at_ms)
    assert len(reruns) > 1
    assert by_target(world, since_ms, until_ms, "reruns") == Counter(map(key_of, reruns.values()))


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
    "name",
    [
        *("ended", "failures", "started", "created", "ran", "running_ms", "submitting_ms"),
        *("core_us", "gpu_us", "memory_gib_us", "spec_started", "spec_submitting_ms"),
    ],
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
