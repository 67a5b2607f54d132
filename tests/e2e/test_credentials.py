"""Tokens and permissions as a whole process sees them: logins, log lines, metrics and the status page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGHUP
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.exporting import Exporter, project
from tests.e2e.processes import Program
from tests.e2e.simulation import OTHER_PROJECT, PROJECT
from tests.e2e.stand_in import Serve

pytestmark = pytest.mark.e2e

EXPIRY = "octopus_credentials_expiry_timestamp_seconds"
EMPTY = {"payload": {"list": [], "page_info": {"total": 0}}}
DENIED = {"error_code": "octopus.400003", "error_msg": "You do not have permission."}


@dataclass
class Cloud:
    """IAM and the API of a test: `lives` are those of the tokens, by project; `answer` is the API's."""

    lives: dict[str, timedelta] = field(default_factory=dict)
    answer: Callable[[], web.Response] = lambda: web.json_response(EMPTY)
    logins: int = 0

    async def iam(self, request: web.Request) -> web.Response:
        self.logins += 1
        scope = (await request.json())["auth"]["scope"]["project"]["id"]
        end = datetime.now(UTC) + self.lives.get(scope, timedelta(days=1))
        headers = {"X-Subject-Token": f"token-{self.logins}"}
        return web.json_response({"token": {"expires_at": end.isoformat()}}, status=201, headers=headers)

    async def api(self, request: web.Request) -> web.Response:
        return self.answer()

    async def exporter(self, serve: Serve, folder: Path, *projects: dict[str, Any]) -> Exporter:
        app = web.Application()
        app.router.add_post("/v3/auth/tokens", self.iam)
        app.router.add_get("/v1.0/{path:.*}", self.api)
        url = str((await serve(app)).make_url("")).rstrip("/")
        return Exporter(folder, url, projects=[{**one, "endpoint": url} for one in projects] or None)


Look = Callable[[Exporter, Program], None]


def run_beside(exporter: Exporter, look: Look) -> Awaitable[None]:
    """Run the exporter, and look at it from a thread, since the cloud lives in the event loop."""

    def run() -> None:
        with exporter.running() as program:
            exporter.wait_until_ready(program)
            look(exporter, program)

    return asyncio.to_thread(run)


async def test_a_token_that_ended_in_the_past_costs_one_login(tmp_path: Path, aiohttp_server: Serve) -> None:
    def look(exporter: Exporter, program: Program) -> None:
        exposed = exporter.scrape_after_polls(8)
        assert exposed.total("octopus_poll_failures_total") == 0
        assert list(exposed.having(EXPIRY)) == []
        assert exporter.page("api/v1/status").json["credentials"][0]["expires_ms"] is None

    cloud = Cloud(lives={PROJECT: timedelta(hours=-8)})
    await run_beside(await cloud.exporter(aiohttp_server, tmp_path), look)
    assert cloud.logins == 1


async def test_only_what_is_in_use_is_said_to_end(tmp_path: Path, aiohttp_server: Serve) -> None:
    projects = project("", "perception", PROJECT), project("", "planning", OTHER_PROJECT)
    cloud = Cloud(lives={OTHER_PROJECT: timedelta(minutes=10)})
    exporter = await cloud.exporter(aiohttp_server, tmp_path, *projects)
    now = datetime.now(UTC).timestamp()

    def look(exporter: Exporter, program: Program) -> None:
        assert exporter.scrape().value(EXPIRY, credentials="default") == pytest.approx(now + 600, abs=300)
        # The project whose token ends first leaves.
        exporter.config["projects"] = exporter.config["projects"][:1]  # type: ignore[index]
        exporter.write()
        program.tell(SIGHUP)
        exporter.scrape_when(
            lambda exposed: (exposed.value(EXPIRY, credentials="default") or 0) > now + 80_000,
            "the other project's end",
            EXPIRY,
        )
        # The same credentials are of another type.
        exporter.config["credentials"] = {"default": {"type": "token", "token": "any"}}
        exporter.write()
        program.tell(SIGHUP)
        exporter.scrape_until(EXPIRY, None, credentials="default")

    await run_beside(exporter, look)


async def test_a_missing_permission_names_the_action_to_grant(tmp_path: Path, aiohttp_server: Serve) -> None:
    cloud = Cloud()
    exporter = await cloud.exporter(aiohttp_server, tmp_path)

    def look(exporter: Exporter, program: Program) -> None:
        cloud.answer = lambda: web.json_response(DENIED, status=403)
        exporter.scrape_until_failed("permission", times=3)
        (target,) = exporter.targets()
        assert "octopus:dataJob:list" in target["error"]["message"]
        assert "You do not have permission." in target["error"]["message"]
        program.wait_for_line("poll failed")
        assert re.search(r"reason=permission .*octopus:dataJob:list", program.errors)

    await run_beside(exporter, look)
    # The token is younger than five minutes.
    assert cloud.logins == 1


async def test_an_absurd_rest_is_said_and_shown(tmp_path: Path, aiohttp_server: Serve) -> None:
    cloud = Cloud()
    exporter = await cloud.exporter(aiohttp_server, tmp_path)
    year_9999 = {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}

    def look(exporter: Exporter, program: Program) -> None:
        cloud.answer = lambda: web.json_response({}, status=429, headers=year_9999)
        exporter.scrape_until_failed("throttled", times=3)
        status = exporter.page("api/v1/status").json
        (target,) = status["targets"]
        assert 200_000 < target["endpoint_rests_until_ms"] - status["now_ms"] <= 300_000
        assert "Requests rest (Retry-After)" in exporter.page("?lang=en").text
        assert "暂停请求" in exporter.page("?lang=zh").text
        program.wait_for_line("asked for a rest: ")
        (line,) = [line for line in program.errors.splitlines() if "asked for a rest: " in line]
        assert f"endpoint={target['endpoint']} rest_seconds=300 " in line

    await run_beside(exporter, look)
