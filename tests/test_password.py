from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import ClientSession, web
from structlog.testing import capture_logs

from exporter.errors import (
    ApiTimeout,
    ApiUnavailable,
    AuthError,
    ContractError,
    CredentialsRefused,
    PermissionRefused,
)
from exporter.octopus.auth.credentials import ProjectScope, token_auth
from exporter.octopus.auth.password import PasswordCredentials
from exporter.octopus.auth.renewal import renewal_time
from exporter.octopus.client import OctopusClient
from exporter.octopus.retry import UNAVAILABLE_ATTEMPTS
from exporter.octopus.wire import ListQuery
from tests.octopus_fakes import (
    DAY,
    SCOPE,
    Answer,
    Api,
    Clock,
    Handler,
    Secret,
    World,
    iso,
    sample,
    target,
    token,
    world,
)


class Iam:
    """Hands out token-1, token-2, … that live a day by a clock of its own, an hour ahead of ours."""

    def __init__(self, clock: Clock, life_seconds: float = DAY, **user: Any) -> None:
        self.clock = clock
        self.issued = 0
        self._life_seconds = life_seconds
        self._user = user

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.issued += 1
        now = self.clock.now + 3600
        body = {
            "issued_at": iso(now),
            "expires_at": iso(now + self._life_seconds),
            "user": {"password_expires_at": "", **self._user},
        }
        return web.json_response(
            {"token": body}, status=201, headers={"X-Subject-Token": f"token-{self.issued}"}
        )


class Bench:
    """Password credentials at a real IAM that answers as told."""

    def __init__(self, world_: World, api: Api, endpoint: str) -> None:
        self.world, self.api, self.clock = world_, api, world_.clock
        self.password = Secret("p4ssw0rd")
        self.credentials = PasswordCredentials(
            name="default",
            domain="ACCOUNT",
            user="USER",
            password=self.password,
            iam_endpoint=endpoint,
            transport=world_.transport,
            retrier=world_.retrier,
            clock=world_.clock,
        )

    async def token(self, scope: ProjectScope = SCOPE) -> str:
        return await token(self.credentials, scope)

    async def reject(self, value: str, scope: ProjectScope = SCOPE) -> bool:
        return await self.credentials.renew(token_auth("default", value), scope)

    async def deny(self, value: str, *, may_renew: bool = True) -> bool:
        return await self.credentials.refresh(token_auth("default", value), SCOPE, may_renew=may_renew)


Opener = Callable[..., Any]


@pytest.fixture
async def bench() -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:

        async def open_(*answers: Answer | Handler, clock: Clock | None = None, **options: Any) -> Bench:
            api = Api(list(answers))
            server = await stack.enter_async_context(api.server())
            session = await stack.enter_async_context(ClientSession())
            return Bench(world(session, clock=clock, **options), api, str(server.make_url("/")))

        yield open_


async def test_a_token_is_asked_for_as_documented(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), clock=clock)
    assert await b.token() == "token-1"
    (asked,) = b.api.asked
    assert (asked.method, asked.raw_path) == ("POST", "/v3/auth/tokens?nocatalog=true")
    assert asked.headers["Content-Type"].startswith("application/json")
    assert json.loads(b.api.bodies[0]) == {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": "USER", "password": "p4ssw0rd", "domain": {"name": "ACCOUNT"}}},
            },
            "scope": {"project": {"id": "p1"}},
        }
    }
    assert b.world.observer.requests == [("perception", "201")]
    assert b.credentials.expires_at(SCOPE) == clock.now + 3600 + DAY


async def test_the_official_body_is_read(bench: Opener) -> None:
    official = (201, sample("201-iam-token-body.json"), {"X-Subject-Token": "T"})
    b = await bench(official, clock=Clock(1578128722.701 - DAY))
    assert await b.token() == "T"
    assert b.credentials.expires_at(SCOPE) == 1578128722.701


async def test_a_token_serves_its_project_until_it_is_renewed_in_time(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), clock=clock)
    assert [await b.token() for _ in range(3)] == ["token-1"] * 3
    assert await b.token(ProjectScope("same project, other label", "p1")) == "token-1"
    assert await b.token(ProjectScope("other", "p2")) == "token-2"
    clock.now += 0.8 * DAY - 1
    assert await b.token() == "token-1"
    clock.now += 1
    assert await b.token() == "token-3"


@pytest.mark.parametrize(
    ("life", "renewed_after"), [(DAY, 0.8 * DAY), (7200, 5400), (3600, 1800), (600, 300)]
)
def test_the_time_of_renewal(life: float, renewed_after: float) -> None:
    assert renewal_time(1000, life) == pytest.approx(1000 + renewed_after)


async def test_fifty_who_wait_cost_one_request(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), clock=clock)
    assert await asyncio.gather(*(b.token() for _ in range(50))) == ["token-1"] * 50
    assert len(b.api.asked) == 1


async def test_fifty_rejections_of_one_token_cost_one_request(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), clock=clock)
    await b.token()
    clock.now += 60
    assert all(await asyncio.gather(*(b.reject("token-1") for _ in range(50))))
    assert await b.reject("token-1")
    assert await b.token() == "token-2"
    assert len(b.api.asked) == 2


async def test_one_who_is_cancelled_leaves_the_renewal_to_the_others(bench: Opener) -> None:
    reached, released, clock = asyncio.Event(), asyncio.Event(), Clock()
    iam = Iam(clock)

    async def slow(request: web.Request) -> web.StreamResponse:
        reached.set()
        await released.wait()
        return await iam(request)

    b = await bench(slow, clock=clock)
    first, second = (asyncio.create_task(b.token()) for _ in range(2))
    await reached.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    released.set()
    assert await second == "token-1"
    assert len(b.api.asked) == 1


async def test_with_the_last_who_waited_the_renewal_is_gone(bench: Opener) -> None:
    reached, clock = asyncio.Event(), Clock()

    async def hang(request: web.Request) -> web.StreamResponse:
        reached.set()
        await asyncio.sleep(30)
        return web.Response()

    b = await bench(hang, Iam(clock), clock=clock)
    before = asyncio.all_tasks()
    tasks = [asyncio.create_task(b.token()) for _ in range(2)]
    await reached.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not [task for task in asyncio.all_tasks() - before if "_renew" in repr(task)]
    assert await b.token() == "token-1"


async def test_the_old_token_serves_on_while_iam_is_away(bench: Opener) -> None:
    clock = Clock()
    iam = Iam(clock)
    b = await bench(iam, (503, b""), clock=clock)
    await b.token()
    clock.now += 0.9 * DAY
    with capture_logs() as logs:
        assert await asyncio.gather(*(b.token() for _ in range(10))) == ["token-1"] * 10
    clock.now += 59
    assert await b.token() == "token-1"
    # One impatient attempt, and none for a minute.
    assert len(b.api.asked) == 2
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "renewal failed, the old one is used on"
    ]
    clock.now += 1
    await b.token()
    assert len(b.api.asked) == 3
    b.api.answers = [iam]
    clock.now += 60
    assert await b.token() == "token-2"


async def test_a_token_that_has_ended_serves_no_longer(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), (503, b""), clock=clock)
    await b.token()
    clock.now += DAY
    with pytest.raises(ApiUnavailable):
        await b.token()


async def test_a_rejected_token_does_not_serve_while_iam_is_away(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), (503, b""), clock=clock)
    await b.token()
    clock.now += 60
    with pytest.raises(ApiUnavailable):
        await b.reject("token-1")
    with pytest.raises(ApiUnavailable):
        await b.token()


async def test_a_first_token_is_tried_for_patiently(bench: Opener) -> None:
    clock = Clock()
    b = await bench((502, b""), (429, b"", {"Retry-After": "3"}), Iam(clock), clock=clock)
    assert await b.token() == "token-1"
    assert clock.slept == [0.25, 3]
    assert b.world.observer.retries == [("perception", "unavailable"), ("perception", "throttled")]


async def test_the_attempts_of_a_login_are_not_multiplied_by_those_of_a_request(bench: Opener) -> None:
    b = await bench((503, b""))
    client = OctopusClient(
        transport=b.world.transport,
        credentials=b.credentials,
        limiter=b.world.limiter,
        retrier=b.world.retrier,
        observer=b.world.observer,
    )
    with pytest.raises(ApiUnavailable):
        await client.list_page(target(), ListQuery())
    assert len(b.api.asked) == UNAVAILABLE_ATTEMPTS


async def test_iam_that_hangs_is_a_timeout(bench: Opener) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    # In so much time a request has reached the server, however busy the machine is.
    b = await bench(hang, timeout_seconds=1)
    with pytest.raises(ApiTimeout):
        await b.token()
    assert len(b.api.asked) == 3


WRONG: Answer = (401, sample("401-iam-wrong-password.json"), {"X-IAM-Trace-Id": "trace"})


async def test_a_wrong_password_is_tried_once_by_all_the_projects_together(bench: Opener) -> None:
    b = await bench(WRONG)
    scopes = [ProjectScope(f"n{i}", f"p{i}") for i in range(10)]
    with capture_logs() as logs:
        results = await asyncio.gather(*(b.token(scope) for scope in scopes), return_exceptions=True)
    assert {type(result) for result in results} == {CredentialsRefused}
    assert len(b.api.asked) == 1
    refused = [entry for entry in logs if entry["event"] == "credentials refused"]
    assert [(entry["retry_not_before"], entry["request_id"]) for entry in refused] == [
        ("22:18:20 UTC", "trace")
    ]


async def test_a_refused_password_is_not_tried_for_five_minutes(bench: Opener) -> None:
    clock = Clock()
    b = await bench(WRONG, Iam(clock), clock=clock)
    with pytest.raises(CredentialsRefused, match="the user name or password is wrong"):
        await b.token()
    for _ in range(3):
        clock.now += 99
        with pytest.raises(CredentialsRefused, match="not tried again before 22:18:20 UTC") as caught:
            await b.token()
        assert caught.value.request_id == "trace"
    assert len(b.api.asked) == 1
    clock.now += 3
    assert await b.token() == "token-1"


async def test_a_refused_password_is_said_once_until_it_is_accepted(bench: Opener) -> None:
    clock = Clock()
    b = await bench(*[WRONG] * 12, Iam(clock), clock=clock)
    with capture_logs() as logs:
        for _ in range(12):
            with pytest.raises(CredentialsRefused):
                await b.token()
            clock.now += 300
        await b.token()
    told = [entry["event"] for entry in logs if entry["log_level"] in ("info", "warning")]
    assert told.count("credentials refused") == 1
    assert told[-1] == "credentials accepted again"


async def test_a_changed_password_is_tried_at_once(bench: Opener) -> None:
    clock = Clock()
    b = await bench(WRONG, Iam(clock), clock=clock)
    with pytest.raises(CredentialsRefused):
        await b.token()
    b.password.value = "n3w"
    assert await b.token() == "token-1"
    assert b"n3w" in b.api.bodies[1]


async def test_going_back_to_a_refused_password_does_not_try_it_again(bench: Opener) -> None:
    b = await bench(WRONG)
    for value in ("one", "two", "one", "two"):
        b.password.value = value
        with pytest.raises(CredentialsRefused):
            await b.token()
    assert len(b.api.asked) == 2


async def test_a_refused_renewal_lets_the_old_token_serve(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), WRONG, clock=clock)
    await b.token()
    clock.now += 0.9 * DAY
    assert await b.token() == "token-1"
    clock.now += 61
    assert await b.token() == "token-1"
    assert len(b.api.asked) == 2


GOOD_HEADERS = {"X-Subject-Token": "T"}


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((403, {"error": {"code": 403, "message": "no"}}), PermissionRefused, "no permission: no"),
        (
            (404, {"error": {"code": 404, "message": "no"}}),
            ContractError,
            "wrong region, path or project: no",
        ),
        ((200, {"token": {}}, GOOD_HEADERS), ContractError, "undocumented status"),
        ((201, {"token": {"expires_at": iso(2e9)}}), ContractError, "no header X-Subject-Token"),
        ((201, b"", GOOD_HEADERS), ContractError, "not a token"),
    ],
)
async def test_what_iam_should_not_say_is_an_error(
    bench: Opener, answer: Answer, kind: type[Exception], message: str
) -> None:
    b = await bench(answer)
    with pytest.raises(kind, match=message) as caught:
        await b.token()
    assert len(b.api.asked) == 1
    assert "p4ssw0rd" not in str(caught.value)


async def test_a_password_iam_echoes_does_not_show(bench: Opener) -> None:
    b = await bench((400, {"error": {"code": 400, "message": "bad value p4ssw0rd"}}))
    with capture_logs() as logs, pytest.raises(CredentialsRefused, match="bad value <secret>"):
        await b.token()
    assert "p4ssw0rd" not in str(logs)


async def test_a_login_that_iam_does_not_understand_is_not_sent_again_at_once(bench: Opener) -> None:
    b = await bench((400, {"error": {"code": 400, "message": "bad request"}}))
    for _ in range(3):
        with pytest.raises(CredentialsRefused):
            await b.token()
    assert len(b.api.asked) == 1


async def test_an_empty_password_is_not_sent(bench: Opener) -> None:
    b = await bench(WRONG)
    b.password.value = ""
    with pytest.raises(AuthError, match="password is empty"):
        await b.token()
    assert b.api.asked == []


@pytest.mark.parametrize(("days", "warned"), [(6, True), (8, False)])
async def test_a_password_about_to_expire_is_warned_of(bench: Opener, days: int, warned: bool) -> None:
    clock = Clock()
    b = await bench(Iam(clock, password_expires_at=iso(clock.now + days * DAY)), clock=clock)
    with capture_logs() as logs:
        await b.token()
    assert ("the password expires soon" in [entry["event"] for entry in logs]) is warned


async def test_a_password_that_will_have_expired_is_warned_of_once(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock, password_expires_at=iso(clock.now + DAY)), clock=clock)
    with capture_logs() as logs:
        for project_id in ("p1", "p2"):
            await b.token(ProjectScope(project_id, project_id))
    assert [entry["event"] for entry in logs].count("the password expires soon") == 1


async def test_a_password_that_has_expired_and_is_accepted_is_not_warned_of(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock, password_expires_at="0001-01-01T00:00:00Z"), clock=clock)
    with capture_logs() as logs:
        await b.token()
    assert logs == []


Bodies = dict[str, Any]
# Of a moment that our clock calls now.
NOW = 1_700_000_000.0
UNBELIEVABLE: list[Bodies] = [
    {"issued_at": iso(NOW), "expires_at": iso(NOW - 8 * 3600)},
    {"issued_at": iso(NOW), "expires_at": iso(NOW + 299)},
    {"expires_at": iso(NOW - 8 * 3600)},
    {"expires_at": "0001-01-01T00:00:00Z"},
    {"expires_at": "soon", "issued_at": 7},
    {"expires_at": None, "user": "nobody"},
    {},
]


@pytest.mark.parametrize("told", UNBELIEVABLE, ids=str)
async def test_a_token_whose_end_cannot_be_believed_serves_until_it_is_refused(
    bench: Opener, told: Bodies
) -> None:
    clock = Clock(NOW)
    b = await bench(
        *((201, {"token": told}, {"X-Subject-Token": f"token-{n}"}) for n in (1, 2, 3)), clock=clock
    )
    for _ in range(48):
        assert await b.token() == "token-1"
        clock.now += 3600
    assert (len(b.api.asked), b.credentials.expires_at(SCOPE)) == (1, None)
    assert await b.reject("token-1")
    assert (await b.token(), len(b.api.asked)) == ("token-2", 2)


async def test_logins_for_a_project_stay_a_minute_apart(bench: Opener) -> None:
    clock = Clock()
    iam = Iam(clock)
    b = await bench(iam, clock=clock)
    logins = []
    for _ in range(300):  # every token is refused at once
        await b.reject(await b.token())
        if len(logins) < iam.issued:
            logins.append(clock.now)
        clock.now += 1
    assert [later - earlier for earlier, later in itertools.pairwise(logins)] == [60.0] * 4
    # Another project's first login does not wait.
    assert await b.token(ProjectScope("other", "p2")) == "token-6"


async def test_an_end_that_has_passed_by_our_clock_is_not_told(bench: Opener) -> None:
    clock = Clock()
    iam = Iam(clock)
    b = await bench(iam, clock=clock)
    clock.now -= 2 * DAY
    await b.token()
    assert b.credentials.expires_at(SCOPE) == clock.now + 3600 + DAY
    clock.now += 5 * DAY  # our clock is set; IAM's stays
    iam.clock = Clock(clock.now - 2 * DAY)
    assert await b.token() == "token-2"
    assert b.credentials.expires_at(SCOPE) is None
    clock.now += 0.8 * DAY
    assert await b.token() == "token-3"


async def test_a_denied_token_is_renewed_once_it_is_five_minutes_old(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), clock=clock)
    assert not await b.deny(await b.token())
    clock.now += 299
    assert not await b.deny("token-1")
    clock.now += 1
    assert not await b.deny("token-1", may_renew=False)
    assert all(await asyncio.gather(*(b.deny("token-1") for _ in range(20))))
    assert (await b.token(), len(b.api.asked)) == ("token-2", 2)
    # Another target's answer to the old token: there is a newer one already.
    assert await b.deny("token-1", may_renew=False)
    assert len(b.api.asked) == 2


async def test_a_denied_token_serves_the_others_until_the_new_one_is_there(bench: Opener) -> None:
    reached, released, clock = asyncio.Event(), asyncio.Event(), Clock()
    iam = Iam(clock)

    async def slow(request: web.Request) -> web.StreamResponse:
        reached.set()
        await released.wait()
        return await iam(request)

    b = await bench(iam, slow, clock=clock)
    await b.token()
    clock.now += 300
    renewal = asyncio.create_task(b.deny("token-1"))
    await reached.wait()
    assert await b.token() == "token-1"
    released.set()
    assert await renewal
    assert await b.token() == "token-2"


async def test_a_denied_token_serves_on_while_iam_is_away(bench: Opener) -> None:
    clock = Clock()
    b = await bench(Iam(clock), (503, b""), clock=clock)
    await b.token()
    clock.now += 300
    with capture_logs() as logs:
        for _ in range(119):
            assert not await b.deny("token-1")
            clock.now += 1
    # One attempt a minute, and one line for both of them.
    assert len(b.api.asked) == 3
    assert [entry["log_level"] for entry in logs if "renewal failed" in entry["event"]] == [
        "warning",
        "debug",
    ]
    b.api.answers = [Iam(clock)]
    clock.now += 60
    with capture_logs() as logs:
        await b.token()
    assert [entry["event"] for entry in logs] == ["renewal works again"]
