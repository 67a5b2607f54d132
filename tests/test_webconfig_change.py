"""A web configuration that changes while it is in use."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.certificates import Authority
from tests.webconfig import Site, basic, hashed, site

PAIR = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENTS = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("server", "localhost")
    return authority


@pytest.fixture
def web_yml(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def users(**passwords: str) -> str:
    return "basic_auth_users:\n" + "".join(f"  {name}: {hashed(word)}\n" for name, word in passwords.items())


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await look():
            await asyncio.sleep(0.02)


async def lets_in(served: Site, user: str, password: str) -> bool:
    return (await served.get(**basic(user, password))).status == 200


async def serial(served: Site, client: ssl.SSLContext) -> object:
    certificate = (await served.handshake(client)).getpeercert()
    return certificate["serialNumber"] if certificate else None


async def test_users_come_and_go(web_yml: Path) -> None:
    async with site(web_yml, users(alice="one", bob="two")) as served:
        assert await lets_in(served, "bob", "two")
        web_yml.write_text(users(alice="three", carol="four"))
        await until(lambda: lets_in(served, "carol", "four"))
        assert await lets_in(served, "alice", "three")
        assert not await lets_in(served, "alice", "one")
        assert not await lets_in(served, "bob", "two")


async def test_a_new_certificate_is_shown_to_new_connections(web_yml: Path, authority: Authority) -> None:
    async with site(web_yml, PAIR) as served:
        client = authority.client()
        before = await serial(served, client)
        old = await asyncio.open_connection("127.0.0.1", served.port, ssl=client, server_hostname="localhost")
        authority.issue("server", "localhost")

        async def renewed() -> bool:
            return await serial(served, client) != before

        await until(renewed)
        reader, writer = old
        writer.write(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()


async def test_files_behind_a_link_that_is_moved(tmp_path: Path, web_yml: Path, authority: Authority) -> None:
    """As Kubernetes puts a new version of a secret in place."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        pair = authority.issue("server", "localhost")
        pair.certificate.rename(tmp_path / version / "tls.crt")
        pair.key.rename(tmp_path / version / "tls.key")
    (tmp_path / "data").symlink_to("v1")
    text = "tls_server_config: {cert_file: data/tls.crt, key_file: data/tls.key}\n"
    async with site(web_yml, text) as served:
        client = authority.client()
        before = await serial(served, client)
        (tmp_path / "new").symlink_to("v2")
        (tmp_path / "new").replace(tmp_path / "data")

        async def renewed() -> bool:
            return await serial(served, client) != before

        await until(renewed)


BROKEN = {
    "no YAML": "basic_auth_users: [\n",
    "an unknown key": "basic_auth_user: {}\n",
    "no hash": "basic_auth_users: {alice: word}\n",
    "nothing": "",
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_version_leaves_the_one_before_in_use_and_says_so(web_yml: Path, fault: str) -> None:
    with capture_logs() as logs:
        async with site(web_yml, users(alice="one")) as served:
            web_yml.write_text(BROKEN[fault])
            await until(lambda: told(logs, "error"))
            assert await lets_in(served, "alice", "one")
            assert not await lets_in(served, "alice", "two")
            web_yml.write_text(users(alice="two"))
            await until(lambda: lets_in(served, "alice", "two"))
    (line,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert line["event"] == "web configuration not taken up, the one before stays in use"
    assert str(web_yml) in line["error"]
    assert "word" not in line["error"]


async def told(logs: Sequence[Mapping[str, object]], level: str) -> bool:
    return any(entry["log_level"] == level for entry in logs)


async def test_a_file_that_is_gone_leaves_the_one_before_in_use(web_yml: Path, authority: Authority) -> None:
    with capture_logs() as logs:
        async with site(web_yml, PAIR) as served:
            client = authority.client()
            before = await serial(served, client)
            key = web_yml.with_name("server.key")
            key.unlink()
            await until(lambda: told(logs, "error"))
            assert await serial(served, client) == before
            authority.issue("server", "localhost")

            async def renewed() -> bool:
                return await serial(served, client) != before

            await until(renewed)
    (line,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert f"{key}: cannot be read (No such file or directory)" in line["error"]


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        (users(alice="one"), "# nobody\n", "basic_auth_users: cannot be switched off"),
        (PAIR, "", "tls_server_config: cannot be switched on or off"),
        ("", PAIR, "tls_server_config: cannot be switched on or off"),
        (PAIR + CLIENTS, PAIR, "tls_server_config.client_auth_type: cannot be switched off"),
    ],
    ids=["users", "TLS off", "TLS on", "client certificates"],
)
async def test_protection_is_not_dropped_while_running(
    web_yml: Path, authority: Authority, before: str, after: str, key: str
) -> None:
    with capture_logs() as logs:
        async with site(web_yml, before) as served:
            was = served.configuration.active
            web_yml.write_text(after)
            await until(lambda: told(logs, "error"))
            assert served.configuration.active is was
    (line,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert line["error"] == f"{web_yml}: {key} without a restart"


async def test_who_may_connect_changes(tmp_path: Path, web_yml: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path, "stranger")
    client = authority.client(stranger.issue("client", "prometheus.example"))
    async with site(web_yml, PAIR + CLIENTS) as served:
        assert not await served.admits(client)
        web_yml.write_text((PAIR + CLIENTS).replace("ca.pem", "stranger.pem"))
        await until(lambda: served.admits(client))
        assert not await served.admits(authority.client(authority.issue("known", "prometheus.example")))


async def test_what_is_still_being_written_is_not_taken_up(web_yml: Path) -> None:
    async with site(web_yml, users(alice="one"), look_seconds=0.5) as served:
        was = served.configuration.active
        # Written in small pieces for longer than two looks take, and valid YAML all the while.
        with web_yml.open("a") as stream:
            for number in range(15):
                stream.write(f"  user{number}: {hashed('word')}\n")
                stream.flush()
                await asyncio.sleep(0.1)
                assert served.configuration.active is was
        await until(lambda: lets_in(served, "user14", "word"))


async def test_what_does_not_change_keeps_what_it_remembers(web_yml: Path) -> None:
    limit = "rate_limit: {interval: 1h, burst: 3}\n"
    async with site(web_yml, limit) as served:
        assert [(await served.get()).status for _ in range(4)] == [200, 200, 200, 429]
        web_yml.write_text(limit + "http_server_config: {headers: {X-Frame-Options: deny}}\n")

        async def framed() -> bool:
            return (await served.get()).headers.get("X-Frame-Options") == "deny"

        await until(framed)
        assert (await served.get()).status == 429
        web_yml.write_text(limit.replace("3", "4"))

        async def answered() -> bool:
            return (await served.get()).status == 200

        await until(answered)
