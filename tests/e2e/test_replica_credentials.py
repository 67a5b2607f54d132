"""Replicas with one wrong password: together they try it as often as one exporter would."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web

from tests.e2e.exporting import password, project
from tests.e2e.replicas import Replica
from tests.e2e.simulation import OTHER_PROJECT, PROJECT
from tests.e2e.stand_in import Serve
from tests.e2e.waiting import until
from tests.postgres import PostgresDatabase

pytestmark = pytest.mark.e2e

REFUSED = {"error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}}


async def test_a_wrong_password_is_tried_once_by_all_replicas_together(
    tmp_path: Path, aiohttp_server: Serve, database: PostgresDatabase
) -> None:
    logins = 0

    async def iam(_request: web.Request) -> web.Response:
        nonlocal logins
        logins += 1
        return web.json_response(REFUSED, status=401)

    app = web.Application()
    app.router.add_post("/v3/auth/tokens", iam)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    projects = [project(url, "a", PROJECT), project(url, "b", OTHER_PROJECT)]
    replicas = [Replica(tmp_path / name, database.url, projects, lease="3s") for name in ("one", "two")]

    def story() -> None:
        with ExitStack() as running:
            for replica in replicas:
                running.callback(replica.end)
                replica.config["credentials"] = {"default": password(url, password="not this one")}
                replica.start()
            until(lambda: [len(replica.held()) for replica in replicas] == [1, 1], "each polls one")
            # Each tries, and learns of the other's attempt at the latest now.
            until(lambda: min(map(_failures, replicas)) >= 2, "polls fail on both")

    await asyncio.to_thread(story)

    assert logins == 1


def _failures(replica: Replica) -> float:
    """Count the failed polls of the targets that this replica polls."""
    exposed = replica.scrape()
    return sum(
        exposed.total("octopus_poll_failures_total", project=project, workspace=workspace, reason="auth")
        for project, workspace in replica.held()
    )
