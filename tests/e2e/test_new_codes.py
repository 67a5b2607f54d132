"""
Error codes that nobody has seen before, under two Prometheus servers that scrape at different moments.

What was once measured, with polls of 30 s and scrapes of a minute: 20 runs that failed became an increase()
of 6.6. NEW_CODES=full makes it a test of some six minutes: polls of 5 s, scrapes of 15 s and 60 s, and the
default of `metrics.new_series_hold`. NEW_CODES=without holds nothing, and has to fail.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.prometheus import Prometheus, prometheus
from tests.e2e.simulation import Simulation
from tests.e2e.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

CODES = 20
SERIES = "octopus_job_failures_total"
NEW = f'{SERIES}{{msg_code=~"9.+"}}'

Key = tuple[str, str]
"""A port of an exporter, and an error code."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Units: seconds; a new code comes every `between`, in each exporter."""

    poll: int
    scrapes: tuple[int, int]
    hold: int
    between: float


PACE = {
    # Of three scrapes in a hold two may take too long, on a busy machine.
    "small": Pace(poll=1, scrapes=(3, 5), hold=17, between=0.4),
    "without": Pace(poll=1, scrapes=(3, 5), hold=0, between=0.4),
    "full": Pace(poll=5, scrapes=(15, 60), hold=90, between=4.0),
}[os.environ.get("NEW_CODES", "small")]


def test_increase_misses_nothing_of_what_new_codes_begin_with(tmp_path: Path, simulate: Simulate) -> None:
    # A run that fails and is restarted between two polls shows in no poll.
    simulators = [simulate(jobs=0, reopening=False) for _ in range(2)]
    exporters = [an_exporter(tmp_path / f"exporter-{n}", one) for n, one in enumerate(simulators)]
    targets = [f"127.0.0.1:{exporter.port}" for exporter in exporters]
    with ExitStack() as stack:
        for exporter in exporters:
            stack.enter_context(exporter.ready())
        servers = [
            stack.enter_context(
                prometheus(
                    tmp_path / f"prometheus-{seconds}",
                    exporters[0].port,
                    scrape_interval=f"{seconds}s",
                    scrape_timeout="3s",
                    static_configs=[{"targets": targets}],
                )
            )
            for seconds in PACE.scrapes
        ]
        wanted = fail_runs(simulators, exporters)
        wait_for(lambda: all(last_values(one) == wanted for one in servers), "the last values")
        for server, seconds in zip(servers, PACE.scrapes, strict=True):
            assert_increases(server, seconds, wanted)


def an_exporter(folder: Path, simulator: Simulation) -> Exporter:
    exporter = Exporter(folder, simulator.url)
    exporter.change(poll={"interval": f"{PACE.poll}s"}, metrics={"new_series_hold": f"{PACE.hold}s"})
    return exporter


def fail_runs(simulators: list[Simulation], exporters: list[Exporter]) -> dict[Key, int]:
    """Let runs fail with codes that are new, each some times and then, for half of them, once more."""
    chance, wanted = random.Random(11), dict[Key, int]()
    for number in range(CODES):
        for simulator, exporter in zip(simulators, exporters, strict=True):
            code, runs = 9000 + number, chance.randint(1, 70)
            fail(simulator, code, runs)
            wanted[str(exporter.port), str(code)] = runs
            again = 9000 + chance.randint(0, number)
            if number % 2:
                fail(simulator, again, 1)
                wanted[str(exporter.port), str(again)] += 1
        time.sleep(PACE.between * chance.uniform(0.5, 1.5))
    return wanted


def fail(simulator: Simulation, code: int, runs: int) -> None:
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=runs, outcome="RUN_FAILED", msg_code=code)
    simulator.advance(3600)


def wait_for(seen: Callable[[], bool], what: str) -> None:
    until(seen, what, seconds=60 + 3 * max(PACE.hold, *PACE.scrapes))


def last_values(server: Prometheus) -> dict[Key, float]:
    return {
        (at[0].split(":")[1], at[1]): value for at, value in server.by(NEW, "instance", "msg_code").items()
    }


def assert_increases(server: Prometheus, seconds: int, wanted: dict[Key, int]) -> None:
    """
    Hold every increase() to the number of runs that failed, as closely as it can be.

    It takes the samples' own difference and stretches it to the window's end: by the time since the last
    sample, or by half a scrape interval if that is longer than 1.1 of them. It does not stretch it towards
    the window's beginning, as the first sample is 0.
    """
    samples = server.samples_by(f"{NEW}[30m]", "instance", "msg_code")
    increases = server.by(f"increase({NEW}[30m])", "instance", "msg_code")
    assert len(samples) == len(increases) == len(wanted)
    wrong: list[str] = []
    for (instance, code), found in samples.items():
        true, increase = wanted[instance.split(":")[1], code], increases[instance, code]
        span_seconds = found[-1][0] - found[0][0]
        most = true * (1 + 1.1 * span_seconds / (len(found) - 1) / span_seconds)
        if found[0][1] != 0 or not true - 1e-6 <= increase <= most:
            wrong.append(f"{instance}, {code}: {true} runs became {increase:.1f}, from {found[0][1]:g}")
    said = f"{sum(wanted.values())} runs that failed, increase() {sum(increases.values()):.1f}"
    said += f", {len(wrong)} of {len(wanted)} codes wrong"
    print(f"scrapes of {seconds} s: {said}")  # noqa: T201 - for those who run it by hand
    assert not wrong, "\n".join(wrong)
