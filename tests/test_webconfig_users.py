"""Users, headers and the rate limit of the web configuration, over HTTP."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from pathlib import Path

import bcrypt
import pytest
from structlog.testing import capture_logs

from exporter.web.toolkit.auth_middleware import BasicAuth, RateLimiter
from tests.webconfig import PASSWORDS, basic, hashed, site

USERS = "basic_auth_users:\n" + "".join(f"  {name}: {hashed(word)}\n" for name, word in PASSWORDS.items())
ALICE = basic("alice", PASSWORDS["alice"])


@pytest.fixture
def web_yml(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


@pytest.mark.parametrize(("user", "password"), PASSWORDS.items())
async def test_the_right_password_is_let_in_again_and_again(web_yml: Path, user: str, password: str) -> None:
    async with site(web_yml, USERS) as served:
        for _ in range(3):
            assert (await served.get(**basic(user, password))).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("alice", "wrong"),
        basic("alice", PASSWORDS["bob"]),
        basic("nobody", PASSWORDS["alice"]),
        basic("ALICE", PASSWORDS["alice"]),
        basic("alice", ""),
        basic("", ""),
        basic("alice", "x" * 73),
        basic("alice", "correct\0horse"),
        {"Authorization": "Bearer " + ALICE["Authorization"].removeprefix("Basic ")},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + b64encode(b"alice").decode()},
        {"Authorization": "Basic " + b64encode(b"\xff\xfe:\xff").decode()},
    ],
)
async def test_everybody_else_is_asked_for_a_password(web_yml: Path, headers: dict[str, str]) -> None:
    async with site(web_yml, USERS) as served:
        for _ in range(2):
            reply = await served.get(**headers)
            assert (reply.status, reply.text) == (401, "unauthorized\n")
            assert reply.headers["WWW-Authenticate"] == 'Basic realm="octopus-exporter", charset="UTF-8"'


async def test_of_a_password_the_first_72_bytes_count_which_is_told_once(web_yml: Path) -> None:
    """As in Go: htpasswd has made the hash of them alone."""
    longest = "ö" * 36
    with capture_logs() as logs:
        async with site(web_yml, f"basic_auth_users: {{alice: {hashed(longest)}}}\n") as served:
            assert (await served.get(**basic("alice", longest))).status == 200
            assert (await served.get(**basic("alice", "x" * 100))).status == 401
            assert [line for line in logs if "72 bytes" in line["event"]] == []
            for end in ("x", "yz"):
                assert (await served.get(**basic("alice", longest + end))).status == 200
            assert (await served.get(**basic("alice", longest[:-1] + "x" * 9))).status == 401
    (line,) = [line for line in logs if "72 bytes" in line["event"]]
    assert (line["log_level"], line["user"]) == ("warning", "alice")
    assert longest not in str(logs)


async def test_the_name_of_the_scheme_is_in_any_case(web_yml: Path) -> None:
    async with site(web_yml, USERS) as served:
        word = ALICE["Authorization"].removeprefix("Basic ")
        assert (await served.get(Authorization=f"bAsIc  {word}")).status == 200


@pytest.mark.parametrize("version", ["$2a$", "$2b$", "$2y$"])
async def test_every_version_of_bcrypt_that_go_reads(web_yml: Path, version: str) -> None:
    text = f"basic_auth_users: {{alice: {version}{hashed('word')[4:]}}}\n"
    async with site(web_yml, text) as served:
        assert (await served.get(**basic("alice", "word"))).status == 200


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Give the hashes with which passwords have been compared: each costs what the hash says."""
    compare, seen = bcrypt.checkpw, list[bytes]()

    def noted(password: bytes, against: bytes) -> bool:
        seen.append(against)
        return compare(password, against)

    monkeypatch.setattr(bcrypt, "checkpw", noted)
    return seen


async def test_an_unknown_user_costs_as_much_as_a_known_one(comparisons: list[bytes]) -> None:
    auth = BasicAuth({"alice": hashed("word").encode()})
    for user in ("alice", "nobody"):
        assert not await auth.admits(basic(user, "wrong")["Authorization"])
    known, unknown = comparisons
    assert known == unknown


async def test_what_was_found_is_kept_for_the_admitted_and_the_refused(comparisons: list[bytes]) -> None:
    auth = BasicAuth({"alice": hashed("word").encode()})
    for password, wanted in (("word", True), ("wrong", False)):
        header = basic("alice", password)["Authorization"]
        for _ in range(100):
            assert await auth.admits(header) is wanted
    assert len(comparisons) == 2


async def test_many_at_once_with_one_password_are_compared_once(comparisons: list[bytes]) -> None:
    auth = BasicAuth({"alice": hashed("word").encode()})
    header = basic("alice", "word")["Authorization"]
    assert all(await asyncio.gather(*(auth.admits(header) for _ in range(20))))
    assert len(comparisons) == 1


async def test_a_flood_of_guesses_does_not_push_out_who_may_come_in() -> None:
    auth = BasicAuth({"alice": hashed("word").encode()})
    await auth.admits(basic("alice", "word")["Authorization"])
    for number in range(600):
        assert not await auth.admits(basic("alice", f"wrong {number}")["Authorization"])
    assert len(auth._refused) <= 256
    assert b"alice" in auth._admitted


async def test_who_is_known_does_not_wait_behind_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the event loop, which goes on while passwords are compared."""
    auth = BasicAuth({"alice": hashed("word").encode(), "bob": hashed("slow").encode()})
    assert await auth.admits(basic("alice", "word")["Authorization"])
    compare, comparing, go_on = bcrypt.checkpw, threading.Event(), threading.Event()

    def slowly(password: bytes, against: bytes) -> bool:
        comparing.set()
        assert go_on.wait(60), "the event loop stands still"
        return compare(password, against)

    monkeypatch.setattr(bcrypt, "checkpw", slowly)
    guessing = asyncio.ensure_future(auth.admits(basic("bob", "guess")["Authorization"]))
    while not comparing.is_set():
        await asyncio.sleep(0.001)
    assert await auth.admits(basic("alice", "word")["Authorization"])
    assert not guessing.done()
    go_on.set()
    assert not await guessing


async def test_nothing_of_a_login_is_kept_in_clear() -> None:
    auth = BasicAuth({"alice": hashed("word").encode()})
    await auth.admits(basic("alice", "word")["Authorization"])
    await auth.admits(basic("alice", "almost")["Authorization"])
    kept = repr(vars(auth))
    assert "'word'" not in kept
    assert "almost" not in kept


HEADERS = """
http_server_config:
  headers:
    X-Frame-Options: sameorigin
    Strict-Transport-Security: max-age=31536000
    Content-Security-Policy: "default-src 'self'"
"""


@pytest.mark.parametrize(("login", "status"), [(ALICE, 200), ({}, 401)])
async def test_headers_are_on_every_answer(web_yml: Path, login: dict[str, str], status: int) -> None:
    async with site(web_yml, USERS + HEADERS) as served:
        reply = await served.get(**login)
    assert reply.status == status
    assert reply.headers["X-Frame-Options"] == "sameorigin"
    assert reply.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert reply.headers["Content-Security-Policy"] == "default-src 'self'"


async def test_more_requests_than_the_burst_are_told_to_wait(web_yml: Path) -> None:
    async with site(web_yml, "rate_limit: {interval: 1h, burst: 2}\n" + HEADERS) as served:
        replies = [await served.get() for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert 3500 < int(replies[-1].headers["Retry-After"]) <= 3600
    assert replies[-1].headers["X-Frame-Options"] == "sameorigin"


async def test_guesses_are_limited_too(web_yml: Path) -> None:
    async with site(web_yml, USERS + "rate_limit: {interval: 1h, burst: 1}\n") as served:
        assert [(await served.get()).status for _ in range(2)] == [401, 429]


def test_a_bucket_fills_with_time_and_never_above_its_burst() -> None:
    now = [0.0]
    limiter = RateLimiter(2.0, 3, clock=lambda: now[0])
    assert [limiter.allows() for _ in range(4)] == [True, True, True, False]
    now[0] = 3.0
    assert limiter.allows()
    assert not limiter.allows()
    assert limiter.retry_after_seconds == pytest.approx(1.0)
    now[0] = 1000.0
    assert [limiter.allows() for _ in range(4)] == [True, True, True, False]


def test_a_burst_of_nothing_allows_nothing() -> None:
    now = [0.0]
    limiter = RateLimiter(1.0, 0, clock=lambda: now[0])
    now[0] = 100.0
    assert not limiter.allows()
