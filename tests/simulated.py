"""For the simulator's tests: worlds, their rows, and five simulated days observed from outside."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from exporter.simulator.pages import job_row
from exporter.simulator.settings import Quirks, SimulatorSettings
from exporter.simulator.world import World

START_MS = 1_750_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
FOREVER_MS = 2**62

Row = dict[str, Any]
Rows = dict[int, Row]


def world_of(**settings: Any) -> World:
    return World(SimulatorSettings(**settings), START_MS)


def rows_of(world: World) -> Rows:
    """Return every listed job as its row shows it, by id."""
    return {
        job_id: msgspec.to_builtins(
            job_row(world.table, world.specs, world.messages, job_id, listing, Quirks(), world.now_ms)
        )
        for listing in world.listings
        for job_id in listing.all_ids
    }


@cache
def five_days(profile: str = "calm") -> tuple[World, list[Rows]]:
    """
    Simulate five busy days, and read all rows every hour.

    This finds every run that ends: its job is not reopened within two hours, nor deleted within a day.
    """
    places = {"projects": ("p1", "p2"), "workspaces": ("0", "7")}
    world = world_of(jobs=300, jobs_per_day=250, profile=profile, **places)
    seen = [rows_of(world)]
    for hour in range(1, 5 * 24 + 1):
        world.advance(START_MS + hour * HOUR_MS)
        seen.append(rows_of(world))
    return world, seen
