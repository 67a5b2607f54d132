"""What a target shows while its API, its credentials or its answers fail, and that it recovers."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from aiohttp import web

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, access_key, password, run_once
from tests.e2e.exposed import Exposed, counted, told
from tests.e2e.processes import free_port
from tests.e2e.simulation import Simulation
from tests.e2e.stand_in import Serve, exporter_of
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

HOUR = 3600.0


def test_tokens_that_end_before_their_time_cost_no_run(tmp_path: Path, simulate: Simulate) -> None:
    simulator, began = simulate(), time.monotonic()
    exporter = Exporter(tmp_path, simulator.url)

    def most_logins() -> float:
        """Refused at once or not, a token is got no sooner than a minute after the one before."""
        return 1 + (time.monotonic() - began) // 60

    with exporter.ready():
        exposed = live(exporter, simulator, hours=1)
        expiry = exposed.value("octopus_credentials_expiry_timestamp_seconds", credentials="default")
        simulator.set_faults("expiry=1")
        exporter.scrape_until_failed("auth", times=3)
        assert simulator.requests("token") <= most_logins()
        simulator.set_faults("")
        simulator.advance(HOUR)
        until(lambda: exporter.scrape().value("octopus_up"), "the next login")
        exposed = live(exporter, simulator)
        assert_agreement(exporter, exposed, simulator)
    assert 2 <= simulator.requests("token") <= most_logins()
    assert exposed.total("octopus_api_retries_total", reason="auth") > 0
    failures = exposed.total("octopus_poll_failures_total")
    assert exposed.total("octopus_poll_failures_total", reason="auth") == failures
    assert expiry == pytest.approx(time.time() + 24 * HOUR, abs=300)


def test_throttling_slows_the_polls_down_and_costs_no_run(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(faults="throttle=0.3")
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready():
        exposed = live(exporter, simulator, hours=1)
        assert_agreement(exporter, exposed, simulator)
    assert simulator.requests("list", 429) > 0
    assert exposed.total("octopus_api_retries_total", reason="throttled") > 0


async def test_retry_after_is_waited_for(tmp_path: Path, aiohttp_server: Serve) -> None:
    asked: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(time.monotonic())
        if len(asked) == 1:
            throttled = {"error_code": "APIGW.0308", "error_msg": "The throttling threshold has been reached"}
            return web.json_response(throttled, status=429, headers={"Retry-After": "2"})
        return web.json_response({"payload": {"list": [], "page_info": {"total": 0}}})

    exporter = await exporter_of(tmp_path, aiohttp_server, answer)
    await asyncio.to_thread(run_once, exporter)
    assert asked[1] - asked[0] >= 2


def test_a_wrong_password_is_said_and_not_tried_again(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(credentials={"default": password(simulator.url, password="not-this-one")})
    with exporter.running() as program:
        until(lambda: exporter.try_page("metrics"), "metrics")
        exposed = exporter.scrape_until_failed("auth", times=3)
        program.wait_for_line("credentials refused")
        (target,) = exporter.targets()
        assert exporter.page("-/healthy").status == 200
        assert exporter.page("-/ready").status == 503
    assert exposed.value("octopus_up") == 0
    assert simulator.requests("token") == 1
    assert simulator.requests("list") == 0
    assert "not tried again before" in target["error"]["message"]
    assert "The username or password is wrong." in target["error"]["message"]
    assert "not-this-one" not in program.errors


async def test_a_refused_permission_is_said_and_not_retried(tmp_path: Path, aiohttp_server: Serve) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        refused = {"error_code": "octopus.400003", "error_msg": "You do not have permission."}
        return web.json_response(refused, status=403)

    exporter = await exporter_of(tmp_path, aiohttp_server, answer)
    exposed = await asyncio.to_thread(run_once, exporter, exit_code=1)
    assert exposed.value("octopus_up") == 0
    assert exposed.value("octopus_poll_failures_total", reason="permission") == 1
    assert len(asked) == 1


def test_broken_answers_change_nothing(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready():
        before = live(exporter, simulator, hours=1)
        simulator.set_faults("broken=1")
        simulator.advance(HOUR)
        broken = exporter.scrape_until_failed("contract", times=3)
        assert broken.value("octopus_up") == 0
        assert told(broken) == told(before)
        simulator.set_faults("")
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)


def test_an_api_that_is_down_takes_the_gauges_with_it_and_leaves_the_counters(
    tmp_path: Path, simulate: Simulate
) -> None:
    port = free_port()
    simulator = simulate(port=port)
    exporter = Exporter(tmp_path, simulator.url)
    # The one that takes its place knows no token, and another is got after a minute only.
    exporter.config["credentials"] = {"default": access_key()}
    # Longer than it takes to give up asking again, so that there is a failing target with its gauges.
    exporter.change(metrics={"max_age": "20s"})
    with exporter.ready() as program:
        before = live(exporter, simulator, hours=1)
        simulator.program.kill()
        down = exporter.scrape_until("octopus_up", 0)
        assert down.total("octopus_poll_failures_total", reason="unavailable") >= 1
        assert told(down) == told(before)
        assert exporter.page("-/healthy").status == 200
        assert exporter.page("-/ready").status == 200
        stale = exporter.scrape_until("octopus_jobs", None, job_type="FRAME_EXTRACT", status="FINISHED")
        assert list(stale.having("octopus_jobs")) == []
        assert counted(stale) == counted(before)
        assert exporter.page("-/ready").status == 200

        # The same world again: it goes by seed, start and the time that has passed. No poll may see it before
        # that, when its clock is an hour behind.
        program.tell(signal.SIGSTOP)
        simulator = simulate(port=port)
        simulator.advance(2 * HOUR)
        program.tell(signal.SIGCONT)
        exporter.scrape_until("octopus_up", 1)
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)


def live(exporter: Exporter, simulator: Simulation, hours: int = 4) -> Exposed:
    """Let some hours pass, with a poll after each; give what is exposed at the end."""
    for _ in range(hours):
        simulator.advance(HOUR)
        exporter.scrape_after_polls(1)
    return exporter.scrape_after_polls(1)
