"""403: a token that is old enough is renewed, since permissions given later are in newer tokens only."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from exporter.errors import PermissionRefused
from exporter.model import Target
from exporter.octopus.auth.credentials import AccessKeyCredentials, Credentials, TokenCredentials
from exporter.octopus.auth.password import PasswordCredentials
from exporter.octopus.wire import ListQuery
from tests.octopus_fakes import (
    DAY,
    Clock,
    Observer,
    Secret,
    World,
    iso,
    page,
    row,
    target,
    world,
)
from tests.test_credentials import FileSecret

HOUR = 3600.0
INTERVAL = 30.0


class Cloud:
    """IAM and the API on a real socket: a token holds the permissions there were when it was issued."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.logins: list[float] = []
        self.lists: list[str] = []
        self.granted: set[str] = set()
        self.held: dict[str, set[str]] = {}

    async def iam(self, request: web.Request) -> web.StreamResponse:
        self.logins.append(self.clock.now)
        token = f"token-{len(self.logins)}"
        self.held[token] = set(self.granted)
        now = self.clock.now
        body = {"token": {"issued_at": iso(now), "expires_at": iso(now + DAY)}}
        return web.json_response(body, status=201, headers={"X-Subject-Token": token})

    async def api(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("X-Auth-Token", "")
        self.lists.append(token)
        if request.query.get("workspace_id", "0") in self.held.get(token, set()):
            return web.json_response(page(row(7)))
        refused = {"error_code": "octopus.400003", "error_msg": "You do not have permission."}
        return web.json_response(refused, status=403)

    def server(self) -> TestServer:
        app = web.Application()
        app.router.add_post("/v3/auth/tokens", self.iam)
        app.router.add_get("/v1.0/{path:.*}", self.api)
        return TestServer(app)


class Bench:
    """A client that polls this cloud with a user's password, by a clock that is turned."""

    def __init__(self, cloud: Cloud, session: ClientSession, url: str) -> None:
        self.cloud, self.clock, self.url = cloud, cloud.clock, url
        self.session = session
        self.world = self.with_credentials(None)

    def with_credentials(self, credentials: Credentials | None) -> World:
        first = world(self.session, credentials, clock=self.clock)
        if credentials is not None:
            self.world = first
            return first
        password = PasswordCredentials(
            name="default",
            domain="ACCOUNT",
            user="USER",
            password=Secret("p4ssw0rd"),
            iam_endpoint=self.url,
            transport=first.transport,
            retrier=first.retrier,
            clock=self.clock,
        )
        return world(self.session, password, clock=self.clock, observer=Observer())

    def target(self, workspace: str = "0") -> Target:
        return target(self.url, workspace=workspace, workspace_id=workspace)

    async def poll(self, workspace: str = "0") -> bool:
        """Ask for a page; tell whether it came."""
        try:
            listed = await self.world.client.list_page(self.target(workspace), ListQuery())
        except PermissionRefused:
            return False
        assert [job.id for job in listed.jobs] == [7]
        return True

    async def poll_for(self, seconds: float, workspace: str = "0") -> list[bool]:
        """Poll at every interval for so long."""
        polls = []
        end = self.clock.now + seconds
        while self.clock.now < end:
            polls.append(await self.poll(workspace))
            self.clock.now += INTERVAL
        return polls

    @property
    def login_pauses(self) -> list[float]:
        """The minutes between the logins."""
        return [(b - a) / 60 for a, b in itertools.pairwise(self.cloud.logins)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        cloud = Cloud(Clock())
        server = await stack.enter_async_context(cloud.server())
        session = await stack.enter_async_context(ClientSession())
        yield Bench(cloud, session, str(server.make_url("/")).rstrip("/"))


async def test_a_permission_given_later_is_there_with_the_next_token(bench: Bench) -> None:
    assert not any(await bench.poll_for(120))
    bench.cloud.granted.add("0")
    polls = await bench.poll_for(600)
    # The token is five minutes old after three more; the poll that finds it so renews it and succeeds.
    assert polls == [False] * 6 + [True] * 14
    assert bench.login_pauses == [5]
    assert bench.world.observer.retries == [("perception", "auth")]


async def test_a_renewal_that_does_not_help_doubles_the_pause_up_to_six_hours(bench: Bench) -> None:
    assert not any(await bench.poll_for(3 * DAY))
    assert bench.login_pauses[:7] == [5, 10, 20, 40, 80, 160, 320]
    assert set(bench.login_pauses[7:]) == {360}
    # A poll that fails costs one request, and one more where the token was renewed.
    assert len(bench.cloud.lists) == 3 * DAY / INTERVAL + len(bench.cloud.logins) - 1


async def test_an_answered_request_of_the_target_resets_the_pause(bench: Bench) -> None:
    await bench.poll_for(HOUR)
    assert bench.login_pauses == [5, 10, 20]
    bench.cloud.granted.add("0")
    assert (await bench.poll_for(HOUR))[-1]
    bench.cloud.granted.clear()
    bench.cloud.held.clear()  # all tokens are revoked, and told so by 403
    await bench.poll_for(HOUR)
    assert bench.login_pauses == [5, 10, 20, 40, 45, 10, 20]


async def test_the_action_to_grant_is_named(bench: Bench) -> None:
    with pytest.raises(PermissionRefused, match=r"octopus:dataJob:list.*You do not have permission\."):
        await bench.world.client.list_page(bench.target(), ListQuery())


async def test_a_revoked_token_costs_one_request(bench: Bench) -> None:
    bench.cloud.granted.add("0")
    assert all(await bench.poll_for(HOUR))
    bench.cloud.held.clear()
    assert all(await bench.poll_for(HOUR))
    assert len(bench.cloud.logins) == 2


async def test_a_workspace_without_permission_leaves_the_others_alone(bench: Bench) -> None:
    bench.cloud.granted.add("1")
    for _ in range(int(DAY / INTERVAL)):
        assert not await bench.poll("0")
        assert await bench.poll("1")
        bench.clock.now += INTERVAL
    # The pauses of the one are not reset by the answers of the other.
    assert bench.login_pauses[:7] == [5, 10, 20, 40, 80, 160, 320]


async def test_a_token_file_that_has_changed_is_tried_once(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")

    async def rewritten(request: web.Request) -> web.StreamResponse:
        file.write_text("new")
        return await api(request)

    api = bench.cloud.api
    bench.cloud.api = rewritten  # type: ignore[method-assign]  # the file changes while the request is away
    async with bench.cloud.server() as server:
        bench.url = str(server.make_url("/")).rstrip("/")
        bench.with_credentials(TokenCredentials(name="default", token=FileSecret(file)))
        bench.cloud.held["new"] = {"0"}
        assert await bench.poll()
        assert bench.cloud.lists == ["old", "new"]
        bench.cloud.held.clear()
        assert not await bench.poll()
        assert bench.cloud.lists == ["old", "new", "new"]


@pytest.mark.parametrize(
    "credentials",
    [
        TokenCredentials(name="default", token=Secret("fixed")),
        AccessKeyCredentials(name="default", access_key=Secret("AK"), secret_key=Secret("SK")),
    ],
    ids=["token", "aksk"],
)
async def test_what_cannot_be_renewed_is_asked_with_once(bench: Bench, credentials: Credentials) -> None:
    bench.with_credentials(credentials)
    assert not any(await bench.poll_for(HOUR))
    assert len(bench.cloud.lists) == HOUR / INTERVAL
    assert bench.world.observer.retries == []
