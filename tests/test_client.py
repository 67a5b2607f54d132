from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web
from structlog.testing import capture_logs

from exporter.errors import (
    AnswerTooLarge,
    ApiError,
    ApiUnavailable,
    AuthError,
    ContractError,
    CredentialsRefused,
    PermissionRefused,
    RateLimit,
    RateLimited,
)
from exporter.octopus.auth.credentials import (
    AccessKeyCredentials,
    Authoriser,
    ProjectScope,
    TokenCredentials,
    token_auth,
)
from exporter.octopus.client import RequestCounter
from exporter.octopus.concurrency import Concurrency
from exporter.octopus.messages import RequestAuth
from exporter.octopus.wire import ListQuery, Page
from tests.octopus_fakes import (
    LIST_PATH,
    Answer,
    Api,
    Clock,
    Handler,
    Secret,
    World,
    page,
    row,
    sample,
    target,
    world,
)

UNAVAILABLE: Answer = (503, b"")
GOOD: Answer = (200, page(row(7)))


async def listed(
    *answers: Answer | Handler, counter: RequestCounter | None = None, **options: Any
) -> tuple[World, Api, Page | ApiError]:
    """Ask a server that gives these answers for one page."""
    api = Api(list(answers))
    async with api.server() as server, ClientSession() as session:
        w = world(session, **options)
        asked = target(str(server.make_url("/")))
        try:
            return w, api, await w.client.list_page(asked, ListQuery(), counter)
        except ApiError as error:
            return w, api, error


def jobs(result: Page | ApiError) -> list[int]:
    assert isinstance(result, Page), result
    return [job.id for job in result.jobs]


async def test_the_wait_for_a_turn_counts_as_none_of_the_answers_time() -> None:
    told: list[tuple[float, float]] = []

    class Noting(Concurrency):
        def answered(self, seconds: float, requests_per_second: float, waited_seconds: float = 0.0) -> None:
            told.append((seconds, waited_seconds))

    api = Api([GOOD])
    async with api.server() as server, ClientSession() as session:
        w = world(session)
        w.limiter.on_throttled(7, None)
        asked, counter = target(str(server.make_url("/"))), RequestCounter(concurrency=Noting())
        await w.client.list_page(asked, ListQuery(), counter)
    assert told == [(0, 7)]


async def test_a_page_is_listed_and_told_about() -> None:
    w, api, result = await listed(
        (200, {**page(row(7)), "meta_info": {"current_time": "2023-11-14T22:13:10Z"}})
    )
    assert jobs(result) == [7]
    assert (api.asked[0].path, api.asked[0].headers["X-Auth-Token"]) == (LIST_PATH, "t0ken")
    assert w.observer.requests == [("perception", "200")]
    assert w.observer.retries == []
    # Our clock stands at 22:13:20, the server's in the middle of the second after 22:13:10.
    assert w.observer.skews == [-9.5]


async def test_what_may_pass_is_tried_again_with_longer_and_longer_waits() -> None:
    counter = RequestCounter()
    w, _, result = await listed(UNAVAILABLE, (502, b"<html>"), (500, b""), GOOD, counter=counter)
    # The third failure is a 500, which is given up after three attempts.
    assert isinstance(result, ApiUnavailable)
    assert w.clock.slept == [0.25, 0.5]
    counter = RequestCounter()
    w, _, result = await listed(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, GOOD, counter=counter)
    assert jobs(result) == [7]
    assert w.clock.slept == [0.25, 0.5, 1.0]
    assert w.observer.retries == [("perception", "unavailable")] * 3
    assert counter.sent == 4


async def test_one_counter_counts_all_the_requests_of_a_poll() -> None:
    api, counter = Api([UNAVAILABLE, GOOD]), RequestCounter()
    async with api.server() as server, ClientSession() as session:
        client, asked = world(session).client, target(str(server.make_url("/")))
        await asyncio.gather(*(client.list_page(asked, ListQuery(), counter) for _ in range(5)))
    assert counter.sent == 6


async def test_it_is_given_up_in_the_end() -> None:
    w, api, result = await listed(UNAVAILABLE)
    assert isinstance(result, ApiUnavailable)
    assert len(api.asked) == 5
    assert w.observer.requests == [("perception", "503")] * 5
    assert len(w.observer.retries) == 4


CUT = json.dumps(GOOD[1]).encode()[:-20]


@pytest.mark.parametrize(
    "broken",
    [
        (200, b""),
        (200, CUT),
        (200, b"<html>Sign in", {"Content-Type": "text/html"}),
        # aiohttp takes a gzip stream that ends too early for a whole one.
        (200, gzip.compress(CUT)[:-15], {"Content-Encoding": "gzip"}),
        (200, CUT, {"Content-Encoding": "gzip"}),
    ],
)
async def test_a_broken_answer_is_asked_for_again_like_a_502(broken: Answer) -> None:
    w, _, result = await listed(broken, broken, broken, broken, GOOD)
    assert jobs(result) == [7]
    assert w.clock.slept == [0.25, 0.5, 1.0, 2.0]
    assert w.observer.retries == [("perception", "unavailable")] * 4
    _, api, result = await listed(broken)
    assert type(result) is ApiUnavailable
    assert len(api.asked) == 5


async def test_an_answer_that_is_too_long_is_not_asked_for_again() -> None:
    _, api, result = await listed((200, b" " * 2_000), max_body_bytes=1_000)
    assert type(result) is AnswerTooLarge
    assert len(api.asked) == 1


async def test_the_configured_statuses_end_runs() -> None:
    api = Api([(200, page(row(1, status="ARCHIVED"), row(2, status="PAUSED")))])
    async with api.server() as server, ClientSession() as session:
        client = world(session, terminal_statuses=frozenset({"ARCHIVED"})).client
        result = await client.list_page(target(str(server.make_url("/"))), ListQuery())
    assert [job.has_ended for job in result.jobs] == [True, False]


async def test_a_timeout_is_tried_again() -> None:
    async def hang(request: object) -> Any:
        await asyncio.sleep(30)

    # In so much time the second answer comes, however busy the machine is.
    w, _, result = await listed(hang, GOOD, timeout_seconds=2)
    assert jobs(result) == [7]
    assert w.observer.retries == [("perception", "timeout")]
    assert w.observer.requests == [("perception", "error"), ("perception", "200")]


THROTTLED = sample("429-gateway-throttled.json")


async def test_retry_after_is_honoured_by_everyone_on_the_endpoint() -> None:
    w, _, result = await listed((429, THROTTLED, {"Retry-After": "7"}), GOOD)
    assert jobs(result) == [7]
    assert w.clock.slept == [7]
    assert w.observer.retries == [("perception", "throttled")]
    assert w.limiter.requests_per_second == 5


async def test_a_throttling_without_retry_after_rests_the_endpoint_a_second() -> None:
    w, _, result = await listed((429, THROTTLED), GOOD)
    assert jobs(result) == [7]
    assert sum(w.clock.slept) == 1


async def test_too_long_a_rest_fails_this_poll_and_the_next_at_once() -> None:
    api = Api([(429, THROTTLED, {"Retry-After": "600"}), GOOD])
    async with api.server() as server, ClientSession() as session:
        w, asked = world(session), target(str(server.make_url("/")))
        for expected in (600, 299):
            with pytest.raises(RateLimited) as caught:
                await w.client.list_page(asked, ListQuery())
            assert caught.value.retry_after_seconds == expected
            w.clock.now += 1
        assert len(api.asked) == 1
        w.clock.now += 299
        assert jobs(await w.client.list_page(asked, ListQuery())) == [7]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, sample("400-octopus-parameter.json"), ContractError),
        (403, {"error_code": "APIGW.0302", "error_msg": "no"}, PermissionRefused),
        (404, {"error_code": "APIGW.0101", "error_msg": "no"}, ContractError),
        (200, {"payload": None}, ContractError),
        (200, {"error_code": "octopus.400100"}, ContractError),
        (204, b"", ContractError),
        (302, b"", ContractError),
    ],
)
async def test_what_would_not_pass_is_not_tried_again(
    status: int, body: object, kind: type[ApiError]
) -> None:
    w, api, result = await listed((status, body))
    assert type(result) is kind
    assert len(api.asked) == 1
    assert w.observer.retries == []


class RenewedToken:
    """Credentials whose renewal can be told how to go."""

    def __init__(self, *, renewable: bool = True, failure: ApiError | None = None) -> None:
        self.renewals: list[RequestAuth] = []
        self._renewable = renewable
        self._failure = failure

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        yield lambda request: token_auth("default", f"token-{len(self.renewals)}")

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        self.renewals.append(rejected)
        if self._failure:
            raise self._failure
        return self._renewable


REJECTED: Answer = (401, sample("401-octopus-token-invalid.json"))


async def test_a_rejected_token_is_renewed_once_and_the_page_comes() -> None:
    credentials = RenewedToken()
    w, api, result = await listed(REJECTED, GOOD, credentials=credentials)
    assert jobs(result) == [7]
    assert [asked.headers["X-Auth-Token"] for asked in api.asked] == ["token-0", "token-1"]
    assert w.observer.retries == [("perception", "auth")]
    assert w.clock.slept == []


async def test_a_second_rejection_fails_the_poll() -> None:
    credentials = RenewedToken()
    _, api, result = await listed(REJECTED, credentials=credentials)
    assert type(result) is AuthError
    assert (len(api.asked), len(credentials.renewals)) == (2, 1)


async def test_what_cannot_be_renewed_fails_at_once() -> None:
    _, api, result = await listed(REJECTED, credentials=RenewedToken(renewable=False))
    assert type(result) is AuthError
    assert len(api.asked) == 1


async def test_the_failure_of_the_renewal_is_the_one_that_is_told() -> None:
    failure = CredentialsRefused("the password is wrong")
    _, _, result = await listed(REJECTED, credentials=RenewedToken(failure=failure))
    assert result is failure


async def test_a_token_that_cannot_be_got_sends_nothing() -> None:
    w, api, result = await listed(
        GOOD, credentials=AccessKeyCredentials(name="default", access_key=Secret(""), secret_key=Secret("SK"))
    )
    assert str(result) == "credentials default: access_key is empty"
    assert (api.asked, w.observer.requests) == ([], [])


async def test_a_wrong_key_is_tried_by_one_of_many_requests_and_then_cools_down() -> None:
    clock, key = Clock(), Secret("SK")
    api = Api([(401, sample("401-gateway-aksk-signature.json")), GOOD])
    credentials = AccessKeyCredentials(name="prod", access_key=Secret("AK"), secret_key=key, clock=clock)
    async with api.server() as server, ClientSession() as session:
        w, asked = world(session, credentials, clock=clock), target(str(server.make_url("/")))

        async def ask() -> Page:
            return await w.client.list_page(asked, ListQuery())

        results = await asyncio.gather(*(ask() for _ in range(20)), return_exceptions=True)
        assert {type(result) for result in results} == {CredentialsRefused}
        assert len(api.asked) == 1
        with pytest.raises(CredentialsRefused, match=r"not tried again before 22:18:20 UTC.*verify aksk"):
            await ask()
        clock.now += 299
        with pytest.raises(CredentialsRefused):
            await ask()
        assert len(api.asked) == 1
        clock.now += 1
        assert jobs(await ask()) == [7]


async def test_a_good_key_that_is_revoked_is_said_once_however_many_requests_it_hits() -> None:
    refused: Answer = (401, sample("401-gateway-aksk-signature.json"))
    api = Api([GOOD, refused])
    credentials = AccessKeyCredentials(name="prod", access_key=Secret("AK"), secret_key=Secret("SK"))
    async with api.server() as server, ClientSession() as session:
        client, asked = world(session, credentials).client, target(str(server.make_url("/")))
        await client.list_page(asked, ListQuery())
        with capture_logs() as logs:
            pages = [client.list_page(asked, ListQuery()) for _ in range(10)]
            results = await asyncio.gather(*pages, return_exceptions=True)
        assert {type(result) for result in results} == {CredentialsRefused}
        sent = len(api.asked)
        with pytest.raises(CredentialsRefused, match="not tried again before"):
            await client.list_page(asked, ListQuery())
    assert [entry["credentials"] for entry in logs if entry["event"] == "credentials refused"] == ["prod"]
    assert len(api.asked) == sent


async def test_another_key_is_tried_at_once() -> None:
    clock, key = Clock(), Secret("SK")
    api = Api([(401, sample("401-gateway-aksk-signature.json")), GOOD])
    credentials = AccessKeyCredentials(name="prod", access_key=Secret("AK"), secret_key=key, clock=clock)
    async with api.server() as server, ClientSession() as session:
        w, asked = world(session, credentials, clock=clock), target(str(server.make_url("/")))
        with pytest.raises(CredentialsRefused):
            await w.client.list_page(asked, ListQuery())
        key.value = "another"
        assert jobs(await w.client.list_page(asked, ListQuery())) == [7]


async def test_a_good_key_lets_many_requests_out_together() -> None:
    together = asyncio.Barrier(3)
    arrived = 0

    async def answer(request: object) -> Any:
        nonlocal arrived
        arrived += 1
        if arrived > 1:
            await asyncio.wait_for(together.wait(), 60)
        return web.json_response(page(row(7)))

    credentials = AccessKeyCredentials(name="prod", access_key=Secret("AK"), secret_key=Secret("SK"))
    async with Api([answer]).server() as server, ClientSession() as session:
        client, asked = world(session, credentials).client, target(str(server.make_url("/")))
        await client.list_page(asked, ListQuery())
        await asyncio.gather(*(client.list_page(asked, ListQuery()) for _ in range(3)))
    assert arrived == 4


async def test_a_limit_in_the_message_is_passed_on() -> None:
    _, _, result = await listed((429, THROTTLED, {"Retry-After": "99"}))
    assert isinstance(result, RateLimited)
    assert result.limit == RateLimit(5, 1.0)


async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    reached = asyncio.Event()

    async def hang(request: object) -> Any:
        reached.set()
        await asyncio.sleep(30)

    async with Api([hang, GOOD]).server() as server, ClientSession() as session:
        client, asked = world(session).client, target(str(server.make_url("/")))
        task = asyncio.create_task(client.list_page(asked, ListQuery()))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert jobs(await client.list_page(asked, ListQuery())) == [7]


async def test_a_page_is_masked_before_anything_of_it_is_kept() -> None:
    token = "MIIQtoken-0123456789-abcdefghijklmnop"
    failed = row(
        8,
        status="RUN_FAILED",
        job_type=f"TYPE_{token[3:20]}",
        msg_code=f"E.{token[:14]}",
        msg_error=f"cannot log in with {token[5:25].encode().hex()}",
    )
    answer = (200, page(row(7), failed))
    _, _, result = await listed(answer, credentials=TokenCredentials(name="default", token=Secret(token)))
    assert isinstance(result, Page)
    plain, masked = result.jobs
    assert (plain.id, plain.status) == (7, "RUNNING")
    assert (masked.job_type, masked.status) == ("TYPE_<secret>", "RUN_FAILED")
    assert (masked.msg_code, masked.msg_error) == ("E.<secret>", "cannot log in with <secret>")


async def test_a_token_that_equals_a_documented_word_renames_nothing() -> None:
    failed = row(8, status="RUN_FAILED", msg_code=4001, msg_error="it is RUN_FAILED")
    w, _, result = await listed(
        (200, page(failed)), credentials=TokenCredentials(name="default", token=Secret("RUN_FAILED"))
    )
    assert isinstance(result, Page)
    assert (result.jobs[0].status, result.jobs[0].msg_code) == ("RUN_FAILED", "4001")
    w.transport.secrets.never_mask(["RUN_FAILED"])
    assert w.transport.secrets.masked("it is RUN_FAILED") == "it is RUN_FAILED"


async def test_what_pages_take_and_how_they_fail_decides_how_many_are_under_way() -> None:
    clock, counter = Clock(), RequestCounter()

    async def slow(request: object) -> Any:
        clock.now += 0.2
        return web.json_response(GOOD[1])

    api = Api([slow])
    async with api.server() as server, ClientSession() as session:
        client, asked = world(session, clock=clock).client, target(str(server.make_url("/")))

        async def limit_after(requests: int, rows: int) -> int:
            for _ in range(requests):
                await client.list_page(asked, ListQuery(limit=rows), counter)
            return counter.concurrency.limit

        assert await limit_after(20, rows=1) == 4
        assert await limit_after(20, rows=200) == 16
        api.answers = [UNAVAILABLE, slow]
        assert await limit_after(1, rows=200) == 8
        api.answers = [(429, THROTTLED)]
        with pytest.raises(RateLimited):
            await client.list_page(asked, ListQuery(limit=200), counter)
        assert counter.concurrency.limit < 8
