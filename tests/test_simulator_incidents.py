"""Incidents on demand: which runs fail, for how long, and what becomes of the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from exporter.model import FAILED_STATUSES, JOB_TYPES
from tests.simulated import START_MS
from tests.simulator_api import Api, opened

HOUR = 3600


async def ends(api: Api, since_ms: int, until_ms: int, workspace: str = "0") -> dict[str, Counter[str]]:
    """Give the ended runs of a window by type and status, from the account."""
    account = await api.read(f"/simulator/account?since_ms={since_ms}&until_ms={until_ms}")
    target = next(one for one in account["targets"] if one["workspace"] == workspace)
    return {job_type: Counter(by_status) for job_type, by_status in target["ended"].items()}


async def lived(api: Api, seconds: float) -> dict[str, Counter[str]]:
    """Let time go on; give what ended meanwhile."""
    before = (await api.order("/simulator/clock", {}))["now_ms"]
    now = (await api.order("/simulator/clock", {"advance_seconds": seconds}))["now_ms"]
    return await ends(api, before + 1, now + 1)


def failed_share(counted: Counter[str]) -> float:
    return sum(counted[status] for status in FAILED_STATUSES) / counted.total()


# What was UPLOADING when an outage of the running began ends as it would have.
ENDS_OF_UPLOADING = ("FINISHED", "UPLOAD_FAILED")


async def test_an_outage_of_one_type_fails_all_its_runs_for_an_hour() -> None:
    async with opened(jobs_per_day=20_000) as api:
        order = {"job_type": "FRAME_EXTRACT", "msg_code": 4711, "msg_error": "The storage is away."}
        told = await api.order("/simulator/incident", order)
        assert told == {"until_ms": START_MS + HOUR * 1000}
        during = await lived(api, HOUR - 1)
        after = await lived(api, 2 * HOUR)
        assert set(during["FRAME_EXTRACT"]) <= {"RUN_FAILED", "SUBMIT_FAILED", "STOPPED", *ENDS_OF_UPLOADING}
        assert during["FRAME_EXTRACT"]["RUN_FAILED"] > 30
        assert failed_share(during["PACKAGE_IMPORT"]) < 0.15
        assert failed_share(after["FRAME_EXTRACT"]) < 0.15
        rows = await api.rows("job_types=FRAME_EXTRACT&statuses=RUN_FAILED&limit=200")
        assert {"The storage is away."} <= {row.get("msg_error") for row in rows}


@pytest.mark.parametrize("share", [0.2, 0.4])
async def test_an_incident_can_strike_a_part_of_the_runs(share: float) -> None:
    async with opened(jobs_per_day=20_000) as api:
        await lived(api, HOUR)
        await api.order(
            "/simulator/incident", {"job_type": "PACKAGE_DELETE", "share": share, "seconds": 5 * HOUR}
        )
        during = await lived(api, 5 * HOUR)
        assert failed_share(during["PACKAGE_DELETE"]) == pytest.approx(share, abs=0.1)


async def test_a_whole_project_can_fail_at_submit() -> None:
    async with opened(jobs_per_day=20_000, workspaces=("0", "7")) as api:
        await api.order("/simulator/incident", {"outcome": "SUBMIT_FAILED", "workspace": "0"})
        before = START_MS + 60_000
        await lived(api, HOUR - 1)
        struck, spared = [await ends(api, before, START_MS + HOUR * 1000, name) for name in ("0", "7")]
        assert all(struck[job_type]["SUBMIT_FAILED"] > 10 for job_type in JOB_TYPES)
        assert all(failed_share(spared[job_type]) < 0.3 for job_type in JOB_TYPES)
        account = await api.read(f"/simulator/account?since_ms={before}")
        started = next(one for one in account["targets"] if one["workspace"] == "0")["started"]
        assert started == {}


async def test_all_runs_of_a_slow_type_can_fail_for_days() -> None:
    async with opened(jobs_per_day=100, profile="even") as api:
        await lived(api, 24 * HOUR)
        await api.order("/simulator/incident", {"job_type": "MAP_UPDATE", "seconds": 72 * HOUR})
        during = await lived(api, 72 * HOUR - 1)
        assert during["MAP_UPDATE"].total() in (8, 9, 10)
        assert failed_share(during["MAP_UPDATE"]) == 1


async def test_an_order_replaces_the_one_before_and_can_end_it() -> None:
    async with opened(jobs_per_day=20_000) as api:
        where = {"job_type": "PACKAGE_DELETE", "seconds": 10 * HOUR}
        await api.order("/simulator/incident", where)
        await api.order("/simulator/incident", where | {"share": 0.4})
        assert 0.25 < failed_share((await lived(api, 2 * HOUR))["PACKAGE_DELETE"]) < 0.55
        await api.order("/simulator/incident", where | {"seconds": 0})
        assert failed_share((await lived(api, 2 * HOUR))["PACKAGE_DELETE"]) < 0.1


async def test_users_retry_what_an_incident_has_failed() -> None:
    async def created(retried: bool) -> int:
        async with opened(jobs=0, jobs_per_day=0, profile="bursty" if retried else "calm") as api:
            await api.order("/simulator/jobs", {"job_type": "PACKAGE_DELETE", "count": 100})
            await api.order("/simulator/incident", {"job_type": "PACKAGE_DELETE", "seconds": HOUR / 2})
            await lived(api, 5 * HOUR)
            account = await api.read("/simulator/account")
            return int(account["targets"][0]["created"]["PACKAGE_DELETE"])

    assert await created(retried=False) == 100
    assert 130 < await created(retried=True) < 200


@pytest.mark.parametrize(
    ("order", "named"),
    [
        ({"outcome": "FINISHED"}, "FINISHED"),
        ({"share": 1.5}, "share"),
        ({"seconds": -1}, "seconds"),
        ({"workspace": "elsewhere"}, "workspace"),
        ({"project": "elsewhere"}, "project"),
        ({"typo": 1}, "typo"),
    ],
)
async def test_an_incident_that_cannot_be_is_refused_in_one_line(order: dict[str, Any], named: str) -> None:
    async with opened() as api, api.session.post(api.url + "/simulator/incident", json=order) as answer:
        error = (await answer.json())["error"]
    assert answer.status == 400
    assert named in error
    assert "\n" not in error
