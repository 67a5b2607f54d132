"""Replicas, indexes and totals of the simulator that lag, by a clock that the test moves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exporter.simulator import DEMO_PROJECT, Quirks, SimulatorSettings
from exporter.simulator.auth import SignedRequest
from exporter.simulator.simulator import SimulatedClock, Simulator
from tests.simulated import DAY_MS, FOREVER_MS, START_MS, rows_of
from tests.simulator_api import TOKEN_REQUEST

Ids = dict[int, str]


class Served:
    """A simulator whose simulated and real clocks stand still unless the test moves them."""

    def __init__(self, **settings: Any) -> None:
        self.real = 1000.0
        clock = SimulatedClock(START_MS, 0.0, lambda: self.real)
        self.simulator = Simulator(
            SimulatorSettings(speed=0.0, **settings), clock, lambda: self.real, lambda: self.real
        )
        token = msgspec.json.encode(TOKEN_REQUEST)
        issued = self.simulator.issue_token(SignedRequest("POST", "/v3/auth/tokens", [], {}, token))
        self.token = issued.headers["X-Subject-Token"]

    def page(self, **query: object) -> dict[str, Any]:
        pairs = [(name, str(value)) for name, value in ({"limit": 200} | query).items()]
        request = SignedRequest("GET", "/", pairs, {"x-auth-token": self.token}, b"")
        answer = self.simulator.list_jobs(request, DEMO_PROJECT)
        assert answer.status == 200
        payload: dict[str, Any] = msgspec.json.decode(answer.body)["payload"]
        return payload

    def statuses(self, **query: object) -> Ids:
        return {row["id"]: row["status"] for row in self.page(**query)["list"]}

    def total(self, **query: object) -> int:
        total: int = self.page(**query)["page_info"]["total"]
        return total

    def live(self, hours: float) -> None:
        self.simulator.clock.jump(hours * 3600)
        self.simulator.present()

    def is_settled(self) -> bool:
        return bool(self.simulator.account(0, FOREVER_MS)["settled"])

    def set(self, **quirks: Any) -> None:
        self.simulator.quirks = Quirks(**quirks)


@pytest.fixture
def served() -> Served:
    return Served(jobs=80, jobs_per_day=200)


def test_a_replica_shows_what_was_and_then_what_is(served: Served) -> None:
    before = served.statuses()
    served.live(3)
    after = served.statuses()
    assert after != before
    served.set(replica_lags_seconds=(2.0,))
    assert served.statuses() == before
    assert served.total() == len(before)
    assert not served.is_settled()
    served.real += 2
    assert served.statuses() == after
    assert served.is_settled()


def test_each_answer_comes_from_one_replica(served: Served) -> None:
    before = served.statuses()
    served.live(3)
    after = served.statuses()
    served.set(replica_lags_seconds=(0.0, 2.0))
    seen = [served.statuses() for _ in range(30)]
    assert before in seen
    assert after in seen
    assert all(one in (before, after) for one in seen)


def test_looking_back_leaves_no_trace(served: Served) -> None:
    """Days of arrivals, ends, reopenings and deletions, each step looked back upon at many distances."""
    other = Served(jobs=80, jobs_per_day=200)
    for _ in range(40):
        for one in (served, other):
            one.real += 1
            one.live(4)
        for lag in (0.5, 1.5, 7.0, 30.0):
            served.set(replica_lags_seconds=(lag,))
            served.page()
    served.set()
    assert rows_of(served.simulator.world) == rows_of(other.simulator.world)
    assert served.simulator.account(0, FOREVER_MS) == other.simulator.account(0, FOREVER_MS)


def test_every_past_is_shown_as_it_was(served: Served) -> None:
    seen: list[Ids] = []
    for _ in range(20):
        seen.append(served.statuses())
        served.real += 1
        served.live(6)
    served.real += 1
    for age, one in enumerate(reversed(seen), 1):
        served.set(replica_lags_seconds=(age + 0.5,))
        assert served.statuses() == one


def test_an_index_finds_by_status_what_was_and_shows_it(served: Served) -> None:
    running = served.statuses(statuses="RUNNING")
    everything = served.statuses()
    served.live(3)
    served.set(index_lag_seconds=5.0)
    assert served.statuses(statuses="RUNNING") == running
    assert served.statuses() != everything
    assert served.total(statuses="RUNNING") == len(running)


def test_an_index_finds_what_was_and_shows_what_is(served: Served) -> None:
    running = served.statuses(statuses="RUNNING")
    served.live(3)
    now = served.statuses()
    served.set(index_lag_seconds=5.0, index_gives_new_rows=True)
    assert served.statuses(statuses="RUNNING") == {job_id: now[job_id] for job_id in running}
    assert {now[job_id] for job_id in running} != {"RUNNING"}


def test_a_total_lags_behind_the_rows(served: Served) -> None:
    served.simulator.world.inject(0, "FRAME_EXTRACT", 5, "QUEUING", None)
    served.set(total_lag_seconds=5.0)
    assert (len(served.statuses()), served.total()) == (85, 80)
    served.real += 5
    assert (len(served.statuses()), served.total()) == (85, 85)


def test_a_deleted_row_is_still_shown_where_the_replica_lags() -> None:
    served = Served(jobs=200, jobs_per_day=0)
    before = set(served.statuses())
    served.live(10 * DAY_MS / 3_600_000)
    gone = before - set(served.statuses())
    assert gone
    served.set(replica_lags_seconds=(1.0,))
    assert gone <= set(served.statuses())
